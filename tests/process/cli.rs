//! `log-cli` against the server: the two binaries understand each other, and say so when they cannot.

use logd_tests::{TestServer, log_cli};

#[test]
fn messages_go_in_and_come_out() {
    let server = TestServer::start(&[]);
    let host = server.host();
    let written = log_cli(&["--host", &host, "write", "hello", "world!"], b"");
    assert_eq!(
        (written.code(), written.stdout.as_slice()),
        (Some(0), b"0\n".as_slice()),
        "{}",
        written.stderr
    );
    let (offset, batches) = server.peer().find("TAIL default 9").batches();
    let stored = String::from_utf8(batches.concat()).expect("the batch is text");
    let (envelope, body) = stored.split_once("\r\n").expect("an envelope is a line");
    assert_eq!((offset, body), (0, "MSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n"));
    // The writer's identity is drawn at random.
    let identity = envelope.strip_prefix("BATCH 29 default 2499380544 2 writer=").map(str::len);
    assert!(identity == Some("0123456789abcdef seq=1".len()) && envelope.ends_with(" seq=1"), "{envelope}");
    let read = log_cli(&["--host", &host, "read"], b"");
    assert_eq!(
        (read.code(), read.stdout.as_slice()),
        (Some(0), b"hello\nworld!\n".as_slice()),
        "{}",
        read.stderr
    );
}

#[test]
fn lines_are_kept_byte_for_byte() {
    let lines = b"one\n\n  two\r\nMSG 5\n\xff\0\nlast without an end";
    let server = TestServer::start(&[]);
    let host = server.host();
    let written = log_cli(&["--host", &host, "write"], lines);
    assert_eq!(written.code(), Some(0), "{}", written.stderr);
    let read = log_cli(&["--host", &host, "read"], b"");
    assert_eq!(
        read.stdout.escape_ascii().to_string(),
        [lines, b"\n".as_slice()].concat().escape_ascii().to_string()
    );
}

#[test]
fn server_that_is_not_there_is_one_clear_line() {
    let mut server = TestServer::start(&[]);
    let host = server.host();
    server.terminate();
    let read = log_cli(&["--host", &host, "read", "--retries", "0"], b"");
    assert_eq!(read.code(), Some(3), "{}", read.stderr);
    assert_eq!(read.stderr.lines().count(), 1, "it said:\n{}", read.stderr);
    assert!(read.stderr.contains(&host), "it said:\n{}", read.stderr);
}
