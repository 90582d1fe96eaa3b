//! What goes wrong again and again is a few lines of the server's log, and not one each time.

use std::fs;

use logd_tests::{BOUND, Found, TestServer, Tmpfs, batch, not_run, wait_until};

const TIMES: usize = 500;
/// The server says the same thing at most every five seconds: more than enough for a test that takes twenty.
const LINES_MAX: usize = 5;

/// How many lines of the log say `what`.
pub(crate) fn lines_of(server: &TestServer, what: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains(what)).count()
}

/// Expects that the log says `what`, a few times, and of anything else hardly more.
pub(crate) fn expect_few_lines(server: &TestServer, what: &str) {
    wait_until(&format!("the log says `{what}`"), BOUND, || lines_of(server, what) > 0);
    assert!(lines_of(server, what) <= LINES_MAX, "it said:\n{}", server.stderr());
    let problems = lines_of(server, " WARN ") + lines_of(server, "ERROR ");
    assert!(problems <= 2 * LINES_MAX, "it said:\n{}", server.stderr());
}

#[test]
fn topic_that_cannot_be_created() {
    let server = TestServer::start(&[]);
    fs::write(server.workdir().join("blocked"), b"in the way").expect("a file can be written");
    let mut peer = server.peer();
    let sent = batch("blocked", &[b"hello"]);
    for _ in 0..TIMES {
        peer.ask(&sent, b"ERR storage failed\r\n");
    }
    expect_few_lines(&server, "a topic was not created");
}

#[test]
fn partition_that_cannot_be_read() {
    let server = TestServer::start(&["--partition-size", "65536"]);
    let mut peer = server.peer();
    let sent = batch("default", &[&vec![b'x'; 60_000]]);
    for _ in 0..2 {
        peer.append(&sent);
    }
    let first = server.workdir().join("default/0.log");
    wait_until("the first partition is sealed", BOUND, || first.with_extension("index").exists());
    fs::remove_file(&first).expect("it is there");
    // It can be opened, and not read.
    fs::create_dir(&first).expect("a directory can be made");
    wait_until("nobody has the partition open", BOUND, || {
        matches!(peer.find("READ default 0 1"), Found::Nothing(_))
    });
    for _ in 0..TIMES {
        peer.ask(b"READ default 0 1\r\n", b"ERR storage failed\r\n");
    }
    expect_few_lines(&server, "a read failed");
    peer.find(&format!("READ default {} 1", sent.len())).batches();
}

#[test]
fn full_disk() {
    let Some(mount) = small_disk() else { return };
    let server = TestServer::start_in(&mount.join("logs"), &["--partition-size", "1000000"]);
    let mut peer = server.peer();
    let (large, small) = (batch("default", &[&vec![b'x'; 60_000]]), batch("default", &[b"small"]));
    loop {
        peer.send(&large);
        if peer.read_line().starts_with("ERR") {
            break;
        }
    }
    // There is room for one and not for the other, and then for none, and none for the index of the last partition.
    for _ in 0..TIMES {
        for sent in [&large, &small] {
            peer.send(sent);
            peer.read_line();
        }
    }
    // So that a partition waits to be sealed: its index finds no room.
    expect_few_lines(&server, "batches are refused");
    assert!(lines_of(&server, "works again") <= LINES_MAX, "it said:\n{}", server.stderr());
    mount.remount("size=16m");
    peer.append(&large);
    wait_until("the log says that it works again", BOUND, || lines_of(&server, "works again") > 0);
}

#[test]
fn index_that_cannot_be_written() {
    let server = TestServer::start(&["--partition-size", "65536", "--partitions", "1000"]);
    // In the way of the first partition's index.
    fs::create_dir_all(server.workdir().join("default/0.index/x")).expect("a directory can be made");
    let mut peer = server.peer();
    let sent = batch("default", &[&vec![b'x'; 60_000]]);
    for _ in 0..100 {
        peer.append(&sent);
    }
    expect_few_lines(&server, "an index was not written");
}

fn small_disk() -> Option<Tmpfs> {
    match Tmpfs::mount("size=4m") {
        Ok(mount) => Some(mount),
        Err(reason) => {
            not_run(&format!("the log of a full disk: no tmpfs can be mounted: {reason}"));
            None
        }
    }
}
