//! A server that can have 64 files open, sockets among them, and no more.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use logd_tests::{BOUND, RawPeer, TestServer, Usage, batch, wait_until};
use rustix::process::Resource;

use crate::faults::limit;
use crate::floods::expect_few_lines;

/// The rest of the descriptors are for the topics.
const SERVED: usize = 10;
const OTHERS: usize = 60;
const TOPICS: usize = 7;

const TIME: Duration = Duration::from_secs(2);
/// A tenth of a processor.
const CPU_MAX: Duration = Duration::from_millis(200);

fn server(options: &[&str]) -> TestServer {
    TestServer::start_under(&["prlimit", "--nofile=64:64"], options)
}

/// A connection, and whether it is served; otherwise it was told that there are too many.
fn try_peer(server: &TestServer) -> (RawPeer, bool) {
    let mut peer = server.peer();
    peer.send(b"PING\r\n");
    let answer = peer.read_line();
    assert!(["OK", "ERR too many connections"].contains(&&*answer), "`{answer}`");
    (peer, answer == "OK")
}

/// How many files of the directory end so.
fn files_of(folder: &Path, extension: &str) -> usize {
    let entries = fs::read_dir(folder).expect("the topic is there");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).count()
}

#[test]
fn connections_are_served_or_refused_and_topics_go_on() {
    let server = server(&["--partition-size", "65536", "--partitions", "4"]);
    let served = (0..SERVED).map(|_| try_peer(&server));
    let mut served: Vec<RawPeer> = served
        .map(|(peer, is_served)| {
            assert!(is_served, "there are not too many");
            peer
        })
        .collect();
    let refused: Vec<RawPeer> = (0..OTHERS)
        .map(|_| {
            let (peer, is_served) = try_peer(&server);
            assert!(!is_served, "there are as many as there can be");
            // They stay, as far as it is for them to say.
            peer
        })
        .collect();
    // Topics with partitions that are completed, dropped, and opened to be read.
    let topics: Vec<String> = (0..TOPICS).map(|number| format!("topic-{number}")).collect();
    for (peer, topic) in served.iter_mut().zip(topics.iter().cycle()) {
        let sent = batch(topic, &[&vec![b'x'; 30_000]]);
        for _ in 0..12 {
            peer.append(&sent);
            // A partition that is completed stays open until it is sealed; that takes its time on a busy machine.
            let folder = server.workdir().join(topic);
            wait_until("partitions are sealed", BOUND, || {
                files_of(&folder, "log") <= files_of(&folder, "index") + 1
            });
        }
        let (_, batches) = peer.find(&format!("TAIL {topic} 4")).batches();
        assert!(batches.iter().all(|batch| *batch == sent));
    }
    drop((served, refused));
    wait_until("there is a place again", BOUND, || {
        let mut peer = server.peer();
        peer.try_send(b"PING\r\n").is_ok() && peer.try_read_line().is_ok_and(|line| line == "OK")
    });
    assert!(!server.stderr().contains("panicked"), "it said:\n{}", server.stderr());
}

#[test]
fn no_descriptor_left_is_no_busy_loop_and_a_few_lines() {
    let server = TestServer::start(&[]);
    let mut known = server.peer();
    known.ask(b"PING\r\n", b"OK\r\n");
    let all = Usage::of(server.pid()).descriptors;
    let unlimited = limit(&server, Resource::Nofile, Some(all));
    // They are connected by the kernel, and the server cannot take them.
    let mut waiting: Vec<RawPeer> = (0..20).map(|_| server.peer()).collect();
    let before = Usage::of(server.pid());
    thread::sleep(TIME);
    let cpu = Usage::of(server.pid()).cpu.saturating_sub(before.cpu);
    assert!(cpu <= CPU_MAX, "{cpu:?} of a processor in {TIME:?}");
    let sent = batch("default", &[b"hello"]);
    for _ in 0..200 {
        known.append(&sent);
    }
    known.find("TAIL default 200").batches();
    expect_few_lines(&server, "a connection could not be accepted");
    limit(&server, Resource::Nofile, unlimited);
    for peer in &mut waiting {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
}
