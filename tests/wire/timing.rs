//! The server's time-outs: who is cut off, when, and with which words.

use std::thread;
use std::time::{Duration, Instant};

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};

use crate::{HELLO_WORLD, expect_untouched, joined};

const TIMED_OUT: &[u8] = b"ERR timed out\r\n";

/// How much later than its time something can come on a busy machine.
const LATE_MAX: Duration = Duration::from_secs(4);

#[test]
fn request_that_is_not_completed_is_timed_out() {
    let halves: [&[u8]; 4] =
        [b"P", b"READ default 0 1\r", b"BATCH 29 default 2499380544 2\r\n", &HELLO_WORLD[..59]];
    let server = TestServer::start(&["--timeout", "400ms"]);
    for half in halves {
        let mut peer = server.peer();
        let start = Instant::now();
        peer.ask(half, TIMED_OUT);
        assert_took(start, Duration::from_millis(400));
        peer.expect_closed();
    }
    expect_untouched(&mut server.peer());
}

#[test]
fn request_of_a_byte_now_and_then_is_timed_out() {
    let server = TestServer::start(&["--timeout", "500ms"]);
    let mut peer = server.peer();
    let start = Instant::now();
    let mut answer = Vec::new();
    for byte in HELLO_WORLD {
        peer.send(&[*byte]);
        peer.set_read_timeout(Duration::from_millis(100));
        if let Ok(bytes) = peer.read_some(TIMED_OUT.len()) {
            answer = bytes;
            break;
        }
    }
    assert_eq!(answer.escape_ascii().to_string(), TIMED_OUT.escape_ascii().to_string());
    assert_took(start, Duration::from_millis(500));
    peer.set_read_timeout(BOUND);
    peer.expect_closed();
    expect_untouched(&mut server.peer());
}

#[test]
fn body_that_is_passed_over_a_byte_now_and_then_is_timed_out() {
    let server = TestServer::start(&["--timeout", "500ms"]);
    let mut peer = server.peer();
    peer.ask(b"BATCH 1000000 default 1 1\r\n", b"ERR too large\r\n");
    let start = Instant::now();
    peer.set_read_timeout(Duration::from_millis(100));
    let answer = loop {
        assert!(start.elapsed() < BOUND, "the peer is not cut off");
        peer.send(b"x");
        if let Ok(bytes) = peer.read_some(TIMED_OUT.len()) {
            break bytes;
        }
    };
    assert_eq!(answer.escape_ascii().to_string(), TIMED_OUT.escape_ascii().to_string());
    assert_took(start, Duration::from_millis(400));
}

#[test]
fn body_that_is_passed_over_is_timed_out() {
    let server = TestServer::start(&["--timeout", "400ms"]);
    let mut peer = server.peer();
    peer.ask(b"BATCH 1000000 default 1 1\r\n", b"ERR too large\r\n");
    peer.send(&[b'x'; 1000]);
    let rest = peer.read_to_end();
    assert!(rest.is_empty() || rest == TIMED_OUT, "received `{}`", rest.escape_ascii());
}

#[test]
fn connection_without_requests_is_closed_without_a_word() {
    let server = TestServer::start(&["--idle-timeout", "400ms"]);
    let mut peer = server.peer();
    let start = Instant::now();
    peer.expect_closed();
    assert_took(start, Duration::from_millis(400));
}

#[test]
fn connection_that_had_requests_is_closed_when_it_has_none_any_more() {
    let server = TestServer::start(&["--idle-timeout", "400ms"]);
    let mut peer = server.peer();
    peer.ask(b"PING\r\n", b"OK\r\n");
    let start = Instant::now();
    peer.expect_closed();
    assert_took(start, Duration::from_millis(350));
}

#[test]
fn connection_with_requests_now_and_then_stays_open() {
    let server = TestServer::start(&["--idle-timeout", "1s"]);
    let mut peer = server.peer();
    for _ in 0..15 {
        peer.ask(b"PING\r\n", b"OK\r\n");
        // The pace of a living client, not a wait for something.
        thread::sleep(Duration::from_millis(200));
    }
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn reader_that_never_reads_is_closed() {
    let (server, answer_bytes) = server_with_a_large_answer("500ms");
    let mut reader = RawPeer::connect_narrow(server.addr());
    let start = Instant::now();
    reader.send(b"READ default 0 50000\r\n");
    reader.wait_until_taken();
    let mut peer = server.peer();
    wait_until("the reader's connection is closed", BOUND, || peer.stats().count("conns.active") == 1);
    assert_took(start, Duration::from_millis(500));
    let received = reader.read_to_end().len();
    assert!(received < answer_bytes, "all {received} bytes came");
}

#[test]
fn reader_that_reads_slowly_gets_everything() {
    let (server, answer_bytes) = server_with_a_large_answer("1s");
    let mut reader = RawPeer::connect_narrow(server.addr());
    reader.send(b"READ default 0 50000\r\n");
    let start = Instant::now();
    let mut received = 0;
    while received < answer_bytes {
        received += reader.read_exact(300_000.min(answer_bytes - received)).len();
        // The pace of a slow reader, not a wait for something.
        thread::sleep(Duration::from_millis(100));
    }
    assert!(start.elapsed() > Duration::from_secs(3), "the reader was not slow");
    reader.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn reader_that_reads_very_slowly_lives() {
    let (server, answer_bytes) = server_with_a_large_answer("1s");
    let mut reader = RawPeer::connect_narrow(server.addr());
    reader.send(b"READ default 0 50000\r\n");
    let mut received = 0;
    for _ in 0..40 {
        received += reader.read_exact(20_000).len();
        // The pace of a slow reader, not a wait for something.
        thread::sleep(Duration::from_millis(100));
    }
    reader.read_exact(answer_bytes - received);
    reader.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn slow_reader_does_not_hold_up_others() {
    let (server, _) = server_with_a_large_answer("10s");
    let mut readers: Vec<RawPeer> = (0..8).map(|_| RawPeer::connect_narrow(server.addr())).collect();
    for reader in &mut readers {
        reader.send(b"READ default 0 50000\r\n");
        reader.read_exact(1000);
    }
    let mut peer = server.peer();
    let start = Instant::now();
    for _ in 0..100 {
        peer.append(&batch("another", &[b"hello"]));
        peer.find("TAIL another 1").batches();
    }
    assert!(start.elapsed() < LATE_MAX, "a hundred small requests took {:?}", start.elapsed());
}

/// A server whose topic `default` has some 24 MB, more than the kernel buffers for a connection, and the bytes of the
/// answer that has all of it.
fn server_with_a_large_answer(timeout: &str) -> (TestServer, usize) {
    const BATCHES: usize = 24;
    let server = TestServer::start(&["--batch-size", "1048576", "--timeout", timeout]);
    let sent = batch("default", &[&vec![b'x'; 1_000_000]]);
    let mut peer = server.peer();
    for _ in 0..BATCHES {
        peer.append(&sent);
    }
    (server, joined(&[b"OK 0 24\r\n"]).len() + BATCHES * sent.len())
}

/// Checks that `time` has passed since `start`, and not much more.
fn assert_took(start: Instant, time: Duration) {
    let took = start.elapsed();
    assert!(took >= time, "came after {took:?} instead of {time:?}");
    assert!(took < time + LATE_MAX, "came after {took:?} instead of {time:?}");
}
