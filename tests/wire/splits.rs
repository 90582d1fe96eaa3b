//! Requests that arrive in pieces: whatever the split, the answer is the same.

use logd_tests::{RawPeer, TestServer};

use crate::{HELLO_WORLD, joined};

/// What is left of the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Usable,
    Closed,
}

/// Requests that change nothing, with what a server says whose topic `default` has one [`HELLO_WORLD`].
fn exchanges() -> Vec<(Vec<u8>, Vec<u8>, After)> {
    let found = joined(&[b"OK 0 1\r\n", HELLO_WORLD]);
    let usable: [(&[u8], &[u8]); 15] = [
        (b"PING\r\n", b"OK\r\n"),
        (b"HEAD default\r\n", b"OK 60 1\r\n"),
        (b"HEAD unknown\r\n", b"ERR not found\r\n"),
        (b"READ default 0 1\r\n", &found),
        (b"READ default 0 1 wait=60000\r\n", &found),
        (b"TAIL default 1\r\n", &found),
        (b"READ default 60 1\r\n", b"ERR not found\r\n"),
        (b"READ default x 1\r\n", b"ERR invalid request\r\n"),
        (b"READ ../x 0 1\r\n", b"ERR topic not allowed\r\n"),
        (b"TAIL default 1 word\r\n", b"ERR invalid request\r\n"),
        (b"BATCH 14 default 1 1\r\nMSG 5\r\nhello\r\n", b"ERR checksum mismatch\r\n"),
        (b"BATCH 14 default x 1\r\nMSG 5\r\nhello\r\n", b"ERR invalid protocol\r\n"),
        (b"BATCH 14 default 1680380747 2\r\nMSG 5\r\nhello\r\n", b"ERR invalid protocol\r\n"),
        (b"BATCH 14 ../x 1680380747 1\r\nMSG 5\r\nhello\r\n", b"ERR topic not allowed\r\n"),
        (b"PING\r\nREAD default 0 1\r\nPING\r\n", &joined(&[b"OK\r\n", &found, b"OK\r\n"])),
    ];
    let closed: [(&[u8], &[u8]); 6] = [
        (b"CLOSE\r\n", b"OK\r\n"),
        (b"NOPE\r\n", b"ERR invalid protocol\r\n"),
        (b"PING\n", b"ERR invalid protocol\r\n"),
        (b"READ default  0 1\r\n", b"ERR invalid protocol\r\n"),
        (b"BATCH x default 1 1\r\n", b"ERR invalid protocol\r\n"),
        (b"BATCH 9223372036854775807 default 1 1\r\n", b"ERR too large\r\n"),
    ];
    let usable = usable.iter().map(|(sent, answer)| (sent.to_vec(), answer.to_vec(), After::Usable));
    let closed = closed.iter().map(|(sent, answer)| (sent.to_vec(), answer.to_vec(), After::Closed));
    usable.chain(closed).collect()
}

#[test]
fn every_request_split_at_every_point_is_answered_the_same() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    for (request, answer, after) in exchanges() {
        for at in 0..=request.len() {
            let (start, end) = request.split_at(at);
            send_in_pieces(&mut peer, [start, end]);
            peer.expect(&answer);
            if after == After::Closed {
                peer.expect_closed();
                peer = server.peer();
            }
        }
    }
    peer.ask(b"HEAD default\r\n", b"OK 60 1\r\n");
}

#[test]
fn every_request_byte_by_byte_is_answered_the_same() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    for (request, answer, after) in exchanges() {
        send_in_pieces(&mut peer, request.chunks(1));
        peer.expect(&answer);
        if after == After::Closed {
            peer.expect_closed();
            peer = server.peer();
        }
    }
    peer.ask(b"HEAD default\r\n", b"OK 60 1\r\n");
}

#[test]
fn batch_split_at_every_point_is_stored_whole() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for at in 0..=HELLO_WORLD.len() {
        let (start, end) = HELLO_WORLD.split_at(at);
        send_in_pieces(&mut peer, [start, end]);
        peer.expect(format!("OK {} 1\r\n", at * 60).as_bytes());
    }
    send_in_pieces(&mut peer, HELLO_WORLD.chunks(1));
    peer.expect(b"OK 3660 1\r\n");
    peer.ask(b"READ default 3660 1\r\n", &joined(&[b"OK 3660 1\r\n", HELLO_WORLD]));
}

#[test]
fn passed_over_body_in_pieces_ends_where_it_should() {
    let server = TestServer::start(&["--batch-size", "512"]);
    let mut peer = server.peer();
    let sent = joined(&[b"BATCH 600 default 1 1\r\n", &[b'\n'; 600], b"PING\r\n"]);
    for at in 0..=sent.len() {
        let (start, end) = sent.split_at(at);
        send_in_pieces(&mut peer, [start, end]);
        peer.expect(b"ERR too large\r\nOK\r\n");
    }
}

/// Sends each piece after the server has read the one before.
fn send_in_pieces<'a>(peer: &mut RawPeer, pieces: impl IntoIterator<Item = &'a [u8]>) {
    for piece in pieces {
        peer.wait_until_taken();
        peer.send(piece);
    }
}
