//! Every bound of the protocol at the last value that is within it and the first that is not.

use logd_tests::{TestServer, batch, envelope};

use crate::{HELLO_WORLD, answered, broken, expect_untouched, joined};

const LINE_BYTES_MAX: usize = 4096;
const TOPIC_BYTES_MAX: usize = 255;
const BATCH_BYTES: usize = 65536;

#[test]
fn line_of_4096_bytes_is_read() {
    answered(&line_of(LINE_BYTES_MAX), b"ERR invalid request\r\n");
}

#[test]
fn line_of_4097_bytes_ends_the_connection() {
    broken(&line_of(LINE_BYTES_MAX + 1));
}

#[test]
fn line_that_does_not_end_is_broken_at_4096_bytes() {
    broken(&[b'x'; LINE_BYTES_MAX]);
    broken(line_of(LINE_BYTES_MAX + 1).get(..LINE_BYTES_MAX).unwrap_or_default());
}

#[test]
fn line_that_does_not_end_yet_is_waited_for() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let line = line_of(LINE_BYTES_MAX);
    let (most, last) = line.split_at(LINE_BYTES_MAX - 1);
    peer.send(most);
    peer.wait_until_taken();
    peer.ask(last, b"ERR invalid request\r\n");
    expect_untouched(&mut peer);
}

#[test]
fn topic_of_255_bytes_is_allowed() {
    let name = "t".repeat(TOPIC_BYTES_MAX);
    let sent = batch(&name, &[b"hello"]);
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(&sent, b"OK 0 1\r\n");
    peer.ask(format!("READ {name} 0 1\r\n").as_bytes(), &joined(&[b"OK 0 1\r\n", &sent]));
}

#[test]
fn topic_of_256_bytes_is_not_allowed() {
    let name = "t".repeat(TOPIC_BYTES_MAX + 1);
    answered(&batch(&name, &[b"hello"]), b"ERR topic not allowed\r\n");
}

#[test]
fn batch_of_65536_bytes_is_stored() {
    let sent = batch_of(BATCH_BYTES);
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(&sent, b"OK 0 1\r\n");
    peer.ask(b"READ default 0 1\r\n", &joined(&[b"OK 0 1\r\n", &sent]));
}

#[test]
fn batch_of_65537_bytes_is_too_large() {
    answered(&batch_of(BATCH_BYTES + 1), b"ERR too large\r\n");
}

#[test]
fn batch_size_is_what_the_option_says() {
    for bytes in [512, 1000, 1024 * 1024] {
        let server = TestServer::start(&["--batch-size", &bytes.to_string()]);
        let mut peer = server.peer();
        peer.ask(&batch_of(bytes + 1), b"ERR too large\r\n");
        peer.ask(&batch_of(bytes), b"OK 0 1\r\n");
        peer.ask(b"TAIL default 1\r\n", &joined(&[b"OK 0 1\r\n", &batch_of(bytes)]));
    }
}

#[test]
fn read_of_50000_messages_is_allowed() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    let found = joined(&[b"OK 0 1\r\n", HELLO_WORLD]);
    peer.ask(b"READ default 0 50000\r\n", &found);
    peer.ask(b"TAIL default 50000\r\n", &found);
}

#[test]
fn read_of_50001_messages_is_refused() {
    answered(b"READ default 0 50001\r\n", b"ERR invalid request\r\n");
    answered(b"TAIL default 50001\r\n", b"ERR invalid request\r\n");
}

#[test]
fn most_messages_of_a_read_are_what_the_option_says() {
    let server = TestServer::start(&["--max-messages", "7"]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    let found = joined(&[b"OK 0 1\r\n", HELLO_WORLD]);
    peer.ask(b"READ default 0 7\r\n", &found);
    peer.ask(b"TAIL default 7\r\n", &found);
    peer.ask(b"READ default 0 8\r\n", b"ERR invalid request\r\n");
    peer.ask(b"TAIL default 8\r\n", b"ERR invalid request\r\n");
}

#[test]
fn wait_of_60000_milliseconds_is_allowed() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(b"READ default 0 1 wait=60000\r\n");
    peer.wait_until_taken();
    server.peer().append(HELLO_WORLD);
    peer.expect(&joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
}

#[test]
fn wait_of_60001_milliseconds_is_refused() {
    answered(b"READ default 0 1 wait=60001\r\n", b"ERR invalid request\r\n");
}

/// A request of exactly `bytes` bytes, `\r\n` included.
fn line_of(bytes: usize) -> Vec<u8> {
    let start = b"READ default 0 1 ";
    joined(&[start, &vec![b'x'; bytes - start.len() - 2], b"\r\n"])
}

/// A batch of exactly `bytes` bytes, envelope and body.
fn batch_of(bytes: usize) -> Vec<u8> {
    let longest_envelope = |body: usize| envelope(body, "default", u32::MAX, 1).len();
    (0..bytes)
        .rev()
        .filter(|message_bytes| {
            let body = "MSG \r\n\r\n".len() + message_bytes.to_string().len() + message_bytes;
            (bytes..bytes + 3).contains(&(longest_envelope(body) + body))
        })
        // The checksum can be shorter than the longest: another message of the same length has another one.
        .flat_map(|message_bytes| {
            (b'a'..=b'z').map(move |filler| batch("default", &[&vec![filler; message_bytes]]))
        })
        .find(|batch| batch.len() == bytes)
        .expect("there is a batch of every size")
}
