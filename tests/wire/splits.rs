//! Requests that arrive in pieces: whatever the split, the answer is the same.

use logd_tests::{BOUND, RawPeer, TestServer, wait_until};

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
    server.peer().append(HELLO_WORLD);
    let mut sender = Sender::new(&server);
    for (request, answer, after) in exchanges() {
        for at in 0..=request.len() {
            let (start, end) = request.split_at(at);
            sender.ask([start, end], &answer, after);
        }
    }
    server.peer().ask(b"HEAD default\r\n", b"OK 60 1\r\n");
}

#[test]
fn every_request_byte_by_byte_is_answered_the_same() {
    let server = TestServer::start(&[]);
    server.peer().append(HELLO_WORLD);
    let mut sender = Sender::new(&server);
    for (request, answer, after) in exchanges() {
        sender.ask(request.chunks(1), &answer, after);
    }
    server.peer().ask(b"HEAD default\r\n", b"OK 60 1\r\n");
}

#[test]
fn batch_split_at_every_point_is_stored_whole() {
    let server = TestServer::start(&[]);
    let mut sender = Sender::new(&server);
    for at in 0..=HELLO_WORLD.len() {
        let (start, end) = HELLO_WORLD.split_at(at);
        sender.ask([start, end], format!("OK {} 1\r\n", at * 60).as_bytes(), After::Usable);
    }
    sender.ask(HELLO_WORLD.chunks(1), b"OK 3660 1\r\n", After::Usable);
    server.peer().ask(b"READ default 3660 1\r\n", &joined(&[b"OK 3660 1\r\n", HELLO_WORLD]));
}

#[test]
fn passed_over_body_in_pieces_ends_where_it_should() {
    let server = TestServer::start(&["--batch-size", "512"]);
    let mut sender = Sender::new(&server);
    let sent = joined(&[b"BATCH 600 default 1 1\r\n", &[b'\n'; 600], b"PING\r\n"]);
    for at in 0..=sent.len() {
        let (start, end) = sent.split_at(at);
        sender.ask([start, end], b"ERR too large\r\nOK\r\n", After::Usable);
    }
}

/// Sends requests in pieces, each after the server has read the one before, by its counter `bytes.in`.
struct Sender<'a> {
    server: &'a TestServer,
    peer: RawPeer,
    /// Asks for the counters.
    observer: RawPeer,
    /// What `bytes.in` is when everything has been read.
    sent: u64,
}

impl<'a> Sender<'a> {
    fn new(server: &'a TestServer) -> Self {
        let mut observer = server.peer();
        let sent = observer.stats().count("bytes.in");
        Self { server, peer: server.peer(), observer, sent }
    }

    fn ask<'p>(&mut self, pieces: impl IntoIterator<Item = &'p [u8]>, answer: &[u8], after: After) {
        for piece in pieces {
            self.wait_until_read();
            self.peer.send(piece);
            self.sent += piece.len() as u64;
        }
        self.peer.expect(answer);
        if after == After::Closed {
            self.peer.expect_closed();
            self.peer = self.server.peer();
        }
    }

    fn wait_until_read(&mut self) {
        wait_until("the server has read what was sent", BOUND, || {
            self.sent += "STATS\r\n".len() as u64;
            self.observer.stats().count("bytes.in") >= self.sent
        });
    }
}
