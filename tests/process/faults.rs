//! What the machine does to a running server: limits, stops, file systems that change.

use logd_tests::TestServer;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

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

/// Sets a soft limit of the server's process and returns the one before.
fn limit(server: &TestServer, resource: Resource, current: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(server.pid().cast_signed());
    let before = rustix::process::getrlimit(resource);
    let limit = Rlimit { current, maximum: before.maximum };
    prlimit(pid, resource, limit).expect("a soft limit can be set").current
}
