//! What Go logd does not have: `wait=`, HEAD, TOPICS, PING.

use std::time::{Duration, Instant};

use logd_tests::{BOUND, TestServer, batch, wait_until};

use crate::{HELLO_WORLD, answered, joined};

const NOT_FOUND: &[u8] = b"ERR not found\r\n";
const INVALID: &[u8] = b"ERR invalid request\r\n";

#[test]
fn waiting_peer_that_sends_no_more_is_answered_and_so_is_what_it_sent() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(b"READ default 0 1 wait=60000\r\nPING\r\n");
    peer.send(HELLO_WORLD);
    peer.finish_sending();
    assert_eq!(
        peer.read_to_end().escape_ascii().to_string(),
        joined(&[NOT_FOUND, b"OK\r\nOK 0 1\r\n"]).escape_ascii().to_string()
    );
}

#[test]
fn ping_is_answered() {
    answered(b"PING\r\n", b"OK\r\n");
}

#[test]
fn head_of_an_empty_topic_is_zero() {
    answered(b"HEAD default\r\n", b"OK 0 0\r\n");
}

#[test]
fn head_of_an_unknown_topic_is_not_found() {
    answered(b"HEAD unknown\r\n", NOT_FOUND);
}

#[test]
fn head_names_the_next_offset_and_the_batches() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.ask(b"HEAD default\r\n", b"OK 60 1\r\n");
    peer.append(HELLO_WORLD);
    peer.append(HELLO_WORLD);
    peer.ask(b"HEAD default\r\n", b"OK 180 3\r\n");
}

#[test]
fn topics_lists_name_oldest_next_bytes_and_partitions() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.append(HELLO_WORLD);
    peer.append(&batch("another", &[b"hello"]));
    let lines = peer.lines("TOPICS");
    let mut lines: Vec<&str> = lines.split_terminator("\r\n").collect();
    lines.sort_unstable();
    assert_eq!(lines, ["another 0 45 45 1", "default 0 120 120 1"]);
}

#[test]
fn topics_lists_an_empty_topic() {
    let server = TestServer::start(&[]);
    let lines = server.peer().lines("TOPICS");
    assert!(lines.starts_with("default 0 0 0 "), "`TOPICS` says `{lines}`");
    assert_eq!(lines.split(' ').count(), 5, "`TOPICS` says `{lines}`");
}

#[test]
fn wait_behind_which_a_batch_is_answers_at_once() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.ask(b"READ default 0 1 wait=60000\r\n", &joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
    peer.ask(b"READ default 0 50000 wait=60000\r\n", &joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
}

#[test]
fn wait_at_the_head_is_answered_by_the_next_batch() {
    let server = TestServer::start(&[]);
    let (mut reader, mut writer) = (server.peer(), server.peer());
    for round in 0..20 {
        let offset = round * 60;
        reader.send(format!("READ default {offset} 1 wait=60000\r\n").as_bytes());
        reader.wait_until_taken();
        writer.append(HELLO_WORLD);
        reader.expect(&joined(&[format!("OK {offset} 1\r\n").as_bytes(), HELLO_WORLD]));
    }
}

#[test]
fn wait_is_for_its_own_topic() {
    let server = TestServer::start(&[]);
    let (mut reader, mut writer) = (server.peer(), server.peer());
    reader.send(b"READ default 0 1 wait=60000\r\n");
    reader.wait_until_taken();
    writer.append(&batch("another", &[b"hello"]));
    reader.expect_silence(Duration::from_millis(200));
    writer.append(HELLO_WORLD);
    reader.expect(&joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
}

#[test]
fn one_batch_answers_all_who_wait() {
    let server = TestServer::start(&[]);
    let mut readers: Vec<_> = (0..20).map(|_| server.peer()).collect();
    for reader in &mut readers {
        reader.send(b"READ default 0 1 wait=60000\r\n");
        reader.wait_until_taken();
    }
    server.peer().append(HELLO_WORLD);
    for reader in &mut readers {
        reader.expect(&joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
    }
}

#[test]
fn wait_in_vain_ends_after_its_time() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    assert_waits(&mut peer, "READ default 0 1 wait=300", 300);
    peer.append(HELLO_WORLD);
    assert_waits(&mut peer, "READ default 60 1 wait=300", 300);
}

#[test]
fn wait_for_an_unknown_topic_ends_after_its_time() {
    let server = TestServer::start(&[]);
    assert_waits(&mut server.peer(), "READ unknown 0 1 wait=300", 300);
}

#[test]
fn wait_for_an_unknown_topic_is_answered_when_it_comes_into_being() {
    let server = TestServer::start(&[]);
    let mut reader = server.peer();
    reader.send(b"READ new 0 1 wait=60000\r\n");
    reader.wait_until_taken();
    let sent = batch("new", &[b"hello"]);
    server.peer().append(&sent);
    reader.expect(&joined(&[b"OK 0 1\r\n", &sent]));
}

#[test]
fn wait_of_zero_does_not_wait() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(b"READ default 0 1 wait=0\r\n", NOT_FOUND);
    peer.append(HELLO_WORLD);
    peer.ask(b"READ default 0 1 wait=0\r\n", &joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
}

#[test]
fn wait_inside_a_batch_finds_nothing_at_once() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.ask(b"READ default 30 1 wait=60000\r\n", NOT_FOUND);
}

#[test]
fn wait_that_is_no_number_is_refused() {
    for value in ["", "x", "-1", "+1", "1s", "1.5", "18446744073709551616"] {
        answered(format!("READ default 0 1 wait={value}\r\n").as_bytes(), INVALID);
    }
    answered(b"READ default 0 1 wait\r\n", INVALID);
    answered(b"READ default 0 1 WAIT=1\r\n", INVALID);
}

#[test]
fn wait_twice_is_refused() {
    answered(b"READ default 0 1 wait=1 wait=1\r\n", INVALID);
}

#[test]
fn wait_is_only_for_read() {
    answered(b"TAIL default 1 wait=100\r\n", INVALID);
    answered(b"HEAD default wait=100\r\n", INVALID);
}

#[test]
fn requests_behind_a_wait_are_answered_after_it() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(b"READ default 0 1 wait=60000\r\nPING\r\nHEAD default\r\n");
    peer.wait_until_taken();
    server.peer().append(HELLO_WORLD);
    peer.expect(&joined(&[b"OK 0 1\r\n", HELLO_WORLD, b"OK\r\nOK 60 1\r\n"]));
}

#[test]
fn wait_is_not_cut_short_by_the_time_outs() {
    let server = TestServer::start(&["--timeout", "200ms", "--idle-timeout", "200ms"]);
    assert_waits(&mut server.peer(), "READ default 0 1 wait=1000", 1000);
}

#[test]
fn waiting_reader_that_goes_away_is_forgotten() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for _ in 0..10 {
        let mut reader = server.peer();
        reader.send(b"READ default 0 1 wait=60000\r\n");
        reader.wait_until_taken();
    }
    wait_until("only this connection is left", BOUND, || peer.stats().count("conns.active") == 1);
}

/// Expects that `request` is answered with `ERR not found`, not before `milliseconds`, and not much later.
fn assert_waits(peer: &mut logd_tests::RawPeer, request: &str, milliseconds: u64) {
    let time = Duration::from_millis(milliseconds);
    let start = Instant::now();
    peer.ask(format!("{request}\r\n").as_bytes(), NOT_FOUND);
    let waited = start.elapsed();
    assert!(waited >= time, "answered after {waited:?} instead of {time:?}");
    assert!(waited < time + Duration::from_secs(3), "answered after {waited:?} instead of {time:?}");
    peer.ask(b"PING\r\n", b"OK\r\n");
}
