//! `writer=` and `seq=` on the line of a batch: stored once, in order.

use logd_tests::{TestServer, batch};

use crate::joined;

const INVALID: &[u8] = b"ERR invalid request\r\n";

/// A batch of one message with these words behind its arguments.
fn with(words: &str, message: &[u8]) -> Vec<u8> {
    let plain = batch("default", &[message]);
    let line = plain.iter().position(|byte| *byte == b'\r').expect("a batch has a line");
    let (line, rest) = plain.split_at(line);
    joined(&[line, b" ", words.as_bytes(), rest])
}

const ONE: &str = "writer=0123456789abcdef seq=1";

#[test]
fn same_batch_is_stored_once_and_its_line_as_it_was_sent() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let one = with(ONE, b"hello");
    assert_eq!(one.len(), 75, "`{}`", one.escape_ascii());
    peer.ask(&one, b"OK 0 1\r\n");
    peer.ask(&one, b"OK 0 1\r\n");
    server.peer().ask(&with("seq=1 writer=0123456789ABCDEF", b"other"), b"OK 0 1\r\n");
    peer.ask(b"HEAD default\r\n", b"OK 75 1\r\n");
    peer.ask(b"READ default 0 9\r\n", &joined(&[b"OK 0 1\r\n", &one]));
    // Another number, another writer, another topic, and none at all are other batches.
    peer.ask(&with("writer=0123456789abcdef seq=2", b"hello"), b"OK 75 1\r\n");
    peer.ask(&with("writer=0000000000000000 seq=1", b"hello"), b"OK 150 1\r\n");
    peer.ask(&batch("default", &[b"hello"]), b"OK 225 1\r\n");
    let elsewhere = String::from_utf8(one.clone()).unwrap().replace("default", "another");
    peer.ask(elsewhere.as_bytes(), b"OK 0 1\r\n");
}

#[test]
fn batch_is_known_after_a_kill_and_after_an_orderly_end() {
    let mut server = TestServer::start(&[]);
    server.peer().ask(&with(ONE, b"hello"), b"OK 0 1\r\n");
    server.kill9();
    server.restart();
    server.peer().ask(&with(ONE, b"hello"), b"OK 0 1\r\n");
    server.terminate();
    server.restart();
    let mut peer = server.peer();
    peer.ask(&with(ONE, b"hello"), b"OK 0 1\r\n");
    peer.ask(b"HEAD default\r\n", b"OK 75 1\r\n");
}

#[test]
fn words_that_are_no_identity_are_refused_and_nothing_is_stored() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for words in [
        "writer=0123456789abcdef",
        "seq=1",
        "writer=0123456789abcde seq=1",
        "writer=0123456789abcdeg seq=1",
        "writer=0123456789abcdef seq=x",
        "writer=0123456789abcdef seq=18446744073709551616",
        "writer=0123456789abcdef seq=1 seq=1",
        "writer=0123456789abcdef seq=1 wait=1",
        "codec=zstd",
    ] {
        peer.ask(&with(words, b"hello"), INVALID);
    }
    peer.ask(b"HEAD default\r\n", b"OK 0 0\r\n");
}

#[test]
fn what_follows_a_refused_batch_is_refused_until_that_is_stored() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let right = with("writer=0123456789abcdef seq=5", b"hello");
    let damaged = String::from_utf8(right.clone()).unwrap().replace("hello", "hallo");
    let next = with("writer=0123456789abcdef seq=6", b"next");
    let stranger = with("writer=1111111111111111 seq=9", b"stranger");
    let mismatch = b"ERR checksum mismatch\r\n";
    let sent = joined(&[damaged.as_bytes(), &next, &stranger, &next]);
    peer.ask(&sent, &joined(&[mismatch, mismatch, b"OK 0 1\r\n", mismatch]));
    let sent = joined(&[&right, &next, b"HEAD default\r\n"]);
    let (first, second) = (stranger.len(), stranger.len() + right.len());
    let end = second + next.len();
    let answers = format!("OK {first} 1\r\nOK {second} 1\r\nOK {end} 3\r\n");
    peer.ask(&sent, answers.as_bytes());
    // A new connection begins anew.
    peer.ask(damaged.replace("seq=5", "seq=7").as_bytes(), mismatch);
    let beyond = with("writer=0123456789abcdef seq=8", b"beyond");
    peer.ask(&beyond, mismatch);
    server.peer().ask(&beyond, format!("OK {end} 1\r\n").as_bytes());
}
