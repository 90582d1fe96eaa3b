//! What the machine does to a running server: limits, stops, file systems that change.

use std::fs::OpenOptions;

use logd_tests::{TestServer, batch};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::busy_peer;
use crate::floods::{expect_few_lines, lines_of};
use crate::stored::{Stored, append, expect_all, expect_nothing_half_written, fill};

#[test]
fn longest_file_allowed_is_endured_as_a_full_disk() {
    for options in [&[][..], &["--flush-batches", "1"]] {
        let mut server = TestServer::start(options);
        let unlimited = limit(&server, Resource::Fsize, Some(1_000_000));
        let mut stored = Stored::new();
        fill(&server, &mut stored);
        expect_all(&server, &stored);
        expect_nothing_half_written(&server, &stored);
        limit(&server, Resource::Fsize, unlimited);
        append(&server, &mut stored, 20);
        expect_all(&server, &stored);
        server.kill9();
        server.restart();
        expect_all(&server, &stored);
        expect_nothing_half_written(&server, &stored);
    }
}

#[test]
fn answer_that_breaks_off_is_told_in_the_log() {
    let server = TestServer::start(&["--batch-size", "2MiB"]);
    let sent = batch("default", &[&vec![b'x'; 1_000_000]]);
    let (first, second) = (server.peer().append(&sent), server.peer().append(&sent));
    let partition = server.workdir().join("default/0.log");
    let file = OpenOptions::new().write(true).open(&partition).expect("the partition is there");
    file.set_len(second + 500_000).expect("a file can be cut");
    for mut peer in [server.peer(), busy_peer(&server)] {
        peer.ask(format!("READ default {first} 2\r\n").as_bytes(), b"OK 0 2\r\n");
        assert_eq!(peer.read_to_end().len(), sent.len() + 500_000);
    }
    // Behind the first time, the server says it every five seconds at most.
    expect_few_lines(&server, "an answer broke off");
    let place = format!("cannot read `{}` at offset {}", partition.display(), second + 500_000);
    assert_eq!(lines_of(&server, &place), 1, "it said:\n{}", server.stderr());
    server.peer().ask(b"PING\r\n", b"OK\r\n");
}

/// Sets a soft limit of the server's process and returns the one before.
pub(crate) fn limit(server: &TestServer, resource: Resource, current: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(server.pid().cast_signed());
    let before = rustix::process::getrlimit(resource);
    let limit = Rlimit { current, maximum: before.maximum };
    prlimit(pid, resource, limit).expect("a soft limit can be set").current
}
