//! Lines that are no requests, and words that do not belong there.

use logd_tests::TestServer;

use crate::{HELLO_WORLD, answered, broken, expect_untouched};

const INVALID: &[u8] = b"ERR invalid request\r\n";

#[test]
fn unknown_command_ends_the_connection() {
    broken(b"NOPE\r\n");
    broken(b"READER default 0 1\r\n");
    broken(b"MSG 5\r\n");
    broken(b"OK\r\n");
}

#[test]
fn lower_case_command_ends_the_connection() {
    broken(b"ping\r\n");
    broken(b"Read default 0 1\r\n");
    broken(b"batch 29 default 2499380544 2\r\n");
}

#[test]
fn missing_argument_ends_the_connection() {
    for request in ["BATCH", "BATCH 29", "BATCH 29 default", "BATCH 29 default 2499380544"] {
        broken(format!("{request}\r\n").as_bytes());
    }
    for request in ["READ", "READ default", "READ default 0", "TAIL", "TAIL default", "HEAD"] {
        broken(format!("{request}\r\n").as_bytes());
    }
}

#[test]
fn missing_carriage_return_ends_the_connection() {
    broken(b"PING\n");
    broken(b"READ default 0 1\n");
    broken(b"BATCH 29 default 2499380544 2\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n");
}

#[test]
fn lone_newline_ends_the_connection() {
    broken(b"\n");
    broken(b"\n\n\n");
}

#[test]
fn empty_line_ends_the_connection() {
    broken(b"\r\n");
}

#[test]
fn carriage_return_in_a_line_ends_the_connection() {
    broken(b"PING\r\r\n");
    broken(b"PI\rNG\r\n");
}

#[test]
fn carriage_return_without_newline_is_no_end_of_a_line() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(b"PING\rPING\r");
    peer.wait_until_taken();
    peer.ask(b"\n", b"ERR invalid protocol\r\n");
    peer.expect_closed();
}

#[test]
fn two_spaces_end_the_connection() {
    broken(b"READ  default 0 1\r\n");
    broken(b"READ default  0 1\r\n");
    broken(b"READ default 0  1\r\n");
    broken(b"READ default 0 1  wait=10\r\n");
    broken(b"BATCH 29  default 2499380544 2\r\n");
    broken(b"HEAD  default\r\n");
    broken(b"PING  \r\n");
}

#[test]
fn space_at_the_start_or_end_of_a_line_ends_the_connection() {
    broken(b" PING\r\n");
    broken(b"PING \r\n");
    broken(b"STATS \r\n");
    broken(b"READ default 0 1 \r\n");
    broken(b"READ default 0 \r\n");
    broken(b"HEAD \r\n");
}

#[test]
fn tab_is_no_space() {
    broken(b"READ\tdefault\t0\t1\r\n");
    answered(b"READ default\t0 0 1\r\n", b"ERR topic not allowed\r\n");
}

#[test]
fn bytes_that_are_no_text_end_the_connection() {
    broken(b"\xff\xfe\xfd\r\n");
    broken(b"\0\r\n");
    broken(b"PING\0\r\n");
    broken(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n");
}

#[test]
fn request_of_another_protocol_ends_the_connection() {
    broken(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
}

#[test]
fn word_too_many_is_refused() {
    for request in ["PING", "STATS", "CONFIG", "TOPICS", "CLOSE", "HEAD default", "TAIL default 1"] {
        answered(format!("{request} word\r\n").as_bytes(), INVALID);
        answered(format!("{request} key=value\r\n").as_bytes(), INVALID);
        answered(format!("{request} a=1 b=2\r\n").as_bytes(), INVALID);
    }
    answered(b"READ default 0 1 word\r\n", INVALID);
    answered(b"READ default 0 1 key=value\r\n", INVALID);
    answered(b"READ default 0 1 2 3\r\n", INVALID);
}

#[test]
fn word_too_many_in_an_envelope_is_refused_with_its_body() {
    for word in ["word", "key=value", "wait=10", "a=1 b=2", "29"] {
        let mut sent = format!("BATCH 29 default 2499380544 2 {word}\r\n").into_bytes();
        sent.extend_from_slice(HELLO_WORLD.get(31..).unwrap_or_default());
        answered(&sent, INVALID);
    }
}

#[test]
fn close_is_answered_and_ends_the_connection() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(b"CLOSE\r\n", b"OK\r\n");
    peer.expect_closed();
}

#[test]
fn nothing_behind_close_is_served() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(b"PING\r\nCLOSE\r\nPING\r\n");
    peer.send(HELLO_WORLD);
    peer.expect(b"OK\r\nOK\r\n");
    peer.expect_closed();
    expect_untouched(&mut server.peer());
}

#[test]
fn nothing_behind_a_broken_line_is_served() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = [b"PING\r\n", b"NOPE\r\n", HELLO_WORLD].concat();
    peer.ask(&sent, b"OK\r\nERR invalid protocol\r\n");
    peer.expect_closed();
    expect_untouched(&mut server.peer());
}

#[test]
fn answer_to_a_broken_line_is_not_lost_in_a_reset() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(&[b"NOPE\r\n".as_slice(), &b"PING\r\n".repeat(5000)].concat());
    peer.expect(b"ERR invalid protocol\r\n");
    peer.finish_sending();
    peer.expect_orderly_end();
}

#[test]
fn connection_that_sends_nothing_and_ends_is_no_error() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let before = peer.stats();
    let mut other = server.peer();
    other.finish_sending();
    other.expect_closed();
    assert_eq!(peer.stats().since(&before, "errors.total"), 0);
}
