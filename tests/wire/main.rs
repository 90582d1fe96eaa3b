//! The wire protocol, row by row, in literal bytes against the running binary.
//!
//! A test a row of the protocol's description, good and bad. Each starts a server of its own, so that no row depends on
//! another.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test that uses them")]

mod appending;
mod bounds;
mod busy;
mod connections;
mod dedup;
mod dropped;
mod extensions;
mod fuzz;
mod lines;
mod pipelining;
mod reading;
mod retention;
mod settings;
mod splits;
mod stats;
mod time;
mod timing;
mod topics;

use logd_tests::{RawPeer, TestServer};

/// The batch of the protocol's description: 60 bytes, two messages.
const HELLO_WORLD: &[u8] = b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";

/// Checks that a server answers `request` with `answer`, stores nothing, and that the connection stays usable.
fn answered(request: &[u8], answer: &[u8]) {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(request, answer);
    expect_untouched(&mut peer);
}

/// Checks that a server answers `request` with `ERR invalid protocol`, closes the connection, stores nothing, and goes
/// on serving others.
fn broken(request: &[u8]) {
    refused(request, b"ERR invalid protocol\r\n");
}

/// Checks that a server answers `request` with `answer`, closes the connection, stores nothing, and goes on serving
/// others.
fn refused(request: &[u8], answer: &[u8]) {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(request, answer);
    peer.expect_closed();
    expect_untouched(&mut server.peer());
}

/// Expects that the connection is usable and the server as it was when it was new.
fn expect_untouched(peer: &mut RawPeer) {
    peer.ask(b"PING\r\n", b"OK\r\n");
    peer.ask(b"HEAD default\r\n", b"OK 0 0\r\n");
    assert_eq!(topic_names(peer), ["default"]);
}

/// The names that `TOPICS` lists, in order.
fn topic_names(peer: &mut RawPeer) -> Vec<String> {
    let mut names: Vec<String> = peer
        .lines("TOPICS")
        .split_terminator("\r\n")
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

/// Several byte strings as one.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
