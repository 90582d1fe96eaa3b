//! AT: from a time of arrival to an offset.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};

use crate::{HELLO_WORLD, answered, broken};

const INVALID: &[u8] = b"ERR invalid request\r\n";

/// Later than any test.
const LATE: &str = "99999999999999";

#[test]
fn at_of_an_empty_topic_is_its_end() {
    answered(b"AT default 0\r\n", b"OK 0 0\r\n");
    answered(b"AT default 0 bound=upper\r\n", b"OK 0 0\r\n");
    answered(b"AT default 18446744073709551615\r\n", b"OK 0 0\r\n");
}

#[test]
fn at_of_an_unknown_topic_is_not_found() {
    answered(b"AT unknown 0\r\n", b"ERR not found\r\n");
    answered(b"AT unknown 0 bound=upper\r\n", b"ERR not found\r\n");
}

#[test]
fn at_of_what_is_no_topic_is_not_allowed() {
    answered(b"AT .. 0\r\n", b"ERR topic not allowed\r\n");
}

#[test]
fn at_of_a_time_that_is_no_number_is_refused() {
    for time in ["x", "-1", "+1", "1.5", "1s", "18446744073709551616"] {
        answered(format!("AT default {time}\r\n").as_bytes(), INVALID);
    }
}

#[test]
fn at_with_a_word_that_is_not_known_is_refused() {
    for word in ["bound=", "bound=lower", "bound=UPPER", "bound", "wait=1", "bound=upper bound=upper", "1"] {
        answered(format!("AT default 1 {word}\r\n").as_bytes(), INVALID);
    }
}

#[test]
fn at_without_a_time_is_not_understood() {
    broken(b"AT default\r\n");
    broken(b"AT\r\n");
    broken(b"at default 1\r\n");
}

#[test]
fn at_is_named_in_the_features() {
    let lines = TestServer::start(&[]).peer().lines("CONFIG");
    let features = lines.split("\r\n").find_map(|line| line.strip_prefix("Features: ")).unwrap_or_default();
    assert!(features.split(' ').any(|feature| feature == "time"), "`{features}`");
}

#[test]
fn at_is_counted() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let before = peer.stats();
    peer.ask(b"AT default 0\r\n", b"OK 0 0\r\n");
    peer.ask(b"AT default x\r\n", INVALID);
    peer.ask(b"AT unknown 0\r\n", b"ERR not found\r\n");
    let after = peer.stats();
    assert_eq!(after.since(&before, "requests.at"), 3);
    assert_eq!(after.since(&before, "errors.at"), 2);
    assert_eq!(after.since(&before, "errors.total"), 2);
}

#[test]
fn at_before_and_behind_everything_is_the_oldest_batch_and_the_end() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for _ in 0..3 {
        peer.append(HELLO_WORLD);
    }
    peer.ask(b"AT default 0\r\n", b"OK 0 1\r\n");
    peer.ask(b"AT default 0 bound=upper\r\n", b"OK 0 1\r\n");
    peer.ask(format!("AT default {LATE}\r\n").as_bytes(), b"OK 180 0\r\n");
    peer.ask(format!("AT default {LATE} bound=upper\r\n").as_bytes(), b"OK 180 0\r\n");
}

#[test]
fn at_is_answered_among_other_requests_in_order() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(HELLO_WORLD);
    peer.send(b"AT default 0\r\nPING\r\nAT default 0 bound=upper\r\nHEAD default\r\n");
    peer.expect(b"OK 0 1\r\nOK 0 1\r\nOK\r\nOK 0 1\r\nOK 60 1\r\n");
}

/// Batches with the time before each was sent and after it was answered, in several partitions and entries.
#[test]
fn at_finds_what_arrived_in_time() {
    let server = TestServer::start(&["--partition-size", "400000"]);
    let sent = send_at_intervals(&server, 30);
    expect_found(&server, &sent, Near::Yes);
}

#[test]
fn at_is_right_after_a_kill_and_a_restart() {
    for options in [&[][..], &["--flush-batches", "1"]] {
        let options = [&["--partition-size", "700000"], options].concat();
        let mut server = TestServer::start(&options);
        let mut sent = send_at_intervals(&server, 30);
        for _ in 0..2 {
            server.kill9();
            server.restart();
            expect_found(&server, &sent, Near::ButForTheLast);
            sent.extend(send_at_intervals(&server, 7));
        }
        expect_found(&server, &sent, Near::Unknown);
        server.terminate();
        server.restart();
        expect_found(&server, &sent, Near::Unknown);
    }
}

/// A batch that was sent and answered at some time between these two, in milliseconds since 1970.
struct Sent {
    offset: u64,
    before: u64,
    after: u64,
}

/// The length of the batches: every third gets an entry in the index.
const SENT_BYTES: u64 = 30_000;

/// How far the answers have to be from the exact ones, at most.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Near {
    Yes,
    /// Of the last few batches only the latest time is known.
    ButForTheLast,
    Unknown,
}

/// Sends batches, each at another millisecond.
fn send_at_intervals(server: &TestServer, count: usize) -> Vec<Sent> {
    let mut peer = server.peer();
    let message = vec![b'x'; usize::try_from(SENT_BYTES).expect("it fits") - 50];
    let batch = batch("default", &[&message]);
    let mut sent: Vec<Sent> = Vec::new();
    for _ in 0..count {
        let last = sent.last().map_or(0, |last| last.after);
        wait_until("the clock goes on", BOUND, || now() > last + 1);
        let before = now();
        let offset = peer.append(&batch);
        sent.push(Sent { offset, before, after: now() });
    }
    sent
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).expect("the time of this century")
}

fn expect_found(server: &TestServer, sent: &[Sent], near: Near) {
    const NEAR_BYTES: u64 = 64 * 1024 + 2 * SENT_BYTES;
    let mut peer = server.peer();
    for (number, batch) in sent.iter().enumerate() {
        let (lower, has_lower) = at(&mut peer, batch.before, "");
        let (upper, has_upper) = at(&mut peer, batch.after, " bound=upper");
        assert!(
            lower <= batch.offset && has_lower,
            "the batch at {} is missed from {lower} on",
            batch.offset
        );
        assert!(upper > batch.offset, "the batch at {} is cut at {upper}", batch.offset);
        for (offset, has_batch) in [(lower, has_lower), (upper, has_upper)] {
            if has_batch {
                assert_eq!(peer.find(&format!("READ default {offset} 1")).batches().0, offset);
            }
        }
        if near == Near::Yes || (near == Near::ButForTheLast && number + 7 < sent.len().min(30)) {
            assert!(lower + NEAR_BYTES >= batch.offset, "{lower} is too early for {}", batch.offset);
            assert!(upper <= batch.offset + NEAR_BYTES, "{upper} is too late for {}", batch.offset);
        }
    }
}

/// The offset, and whether a batch starts there.
fn at(peer: &mut RawPeer, time: u64, word: &str) -> (u64, bool) {
    peer.send(format!("AT default {time}{word}\r\n").as_bytes());
    let line = peer.read_line();
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["OK", offset, count @ ("0" | "1")] => (offset.parse().expect("an offset"), *count == "1"),
        _ => panic!("`AT` was answered `{line}`"),
    }
}
