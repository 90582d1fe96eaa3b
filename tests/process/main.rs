//! The operator's side of the binary: how it starts, stops, refuses, and what it does when the machine runs out of
//! something.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test that uses them")]

mod check;
mod cli;
mod clock;
mod crowd;
mod descriptors;
mod disk_full;
mod faults;
mod floods;
mod inject;
mod options;
mod start;
mod stop;
mod stopped;
mod stored;
mod synced;
mod trace;

use std::fs;

use logd_tests::{BOUND, Finished, RawPeer, TestServer, run, wait_until};

/// Runs `logd` with arguments that it must refuse, and checks that it says so as a program should: on standard error,
/// without a trace of where in its source it was.
fn refusal(arguments: &[&str], code: i32) -> Finished {
    let finished = run("logd", arguments, BOUND);
    assert_eq!(finished.code(), Some(code), "with {arguments:?} it said:\n{}", finished.stderr);
    assert!(finished.stdout.is_empty(), "an error belongs on standard error");
    for trace in ["panicked", "backtrace", "src/", ".rs:", "Error {", "Os {"] {
        assert!(!finished.stderr.contains(trace), "with {arguments:?} it said:\n{}", finished.stderr);
    }
    finished
}

/// How many threads of the server serve a connection each.
fn connection_threads(server: &TestServer) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "connection").count()
}

/// A connection that is served by a thread, the only one that is.
fn busy_peer(server: &TestServer) -> RawPeer {
    let mut busy = server.peer();
    wait_until("the connection has a thread", BOUND, || {
        for _ in 0..200 {
            busy.ask(b"PING\r\n", b"OK\r\n");
        }
        connection_threads(server) == 1
    });
    busy
}
