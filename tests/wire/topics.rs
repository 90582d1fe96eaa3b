//! Which topics there can be, and which names.

use logd_tests::{TestServer, batch};

use crate::{HELLO_WORLD, answered, expect_untouched, joined, topic_names};

const NOT_ALLOWED: &[u8] = b"ERR topic not allowed\r\n";

/// Names that would be somewhere else on the disk, or nowhere.
const BAD_NAMES: &[&[u8]] = &[
    b"../x",
    b"..",
    b".",
    b".hidden",
    b"/abs",
    b"a/b",
    b"a/../../b",
    b"a\\b",
    b"a\0b",
    b"\0",
    b"a:b",
    b"a*",
    b"\xc3\xa4",
    b"\xff",
    b"a\tb",
    b"~",
];

#[test]
fn default_always_exists() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    assert_eq!(topic_names(&mut peer), ["default"]);
    peer.ask(b"HEAD default\r\n", b"OK 0 0\r\n");
}

#[test]
fn topic_comes_into_being_with_its_first_batch() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = batch("new.topic_1-A", &[b"hello"]);
    peer.ask(b"HEAD new.topic_1-A\r\n", b"ERR not found\r\n");
    peer.ask(&sent, b"OK 0 1\r\n");
    peer.ask(b"TAIL new.topic_1-A 1\r\n", &joined(&[b"OK 0 1\r\n", &sent]));
    assert_eq!(topic_names(&mut peer), ["default", "new.topic_1-A"]);
    assert!(server.workdir().join("new.topic_1-A").is_dir());
}

#[test]
fn refused_batch_brings_no_topic_into_being() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(b"BATCH 14 new 1 1\r\nMSG 5\r\nhello\r\n", b"ERR checksum mismatch\r\n");
    peer.ask(b"BATCH 0 new 0 0\r\n", b"ERR invalid request\r\n");
    peer.ask(b"HEAD new\r\n", b"ERR not found\r\n");
    expect_untouched(&mut peer);
    assert!(!server.workdir().join("new").exists());
}

#[test]
fn names_that_are_none_are_not_allowed_in_a_batch() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for name in BAD_NAMES {
        let sent = joined(&[b"BATCH 14 ", name, b" 1680380747 1\r\nMSG 5\r\nhello\r\n"]);
        peer.ask(&sent, NOT_ALLOWED);
    }
    expect_untouched(&mut peer);
    let outside = server.workdir().parent().expect("a directory of the test's own");
    let names: Vec<_> = std::fs::read_dir(outside)
        .expect("it can be read")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(names, ["logs"], "only the working directory is in the test's directory");
}

#[test]
fn names_that_are_none_are_not_allowed_in_other_requests() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for name in BAD_NAMES {
        peer.ask(&joined(&[b"READ ", name, b" 0 1\r\n"]), NOT_ALLOWED);
        peer.ask(&joined(&[b"TAIL ", name, b" 1\r\n"]), NOT_ALLOWED);
        peer.ask(&joined(&[b"HEAD ", name, b"\r\n"]), NOT_ALLOWED);
    }
    expect_untouched(&mut peer);
}

#[test]
fn long_names_are_not_allowed_in_other_requests() {
    let name = "t".repeat(256);
    answered(format!("READ {name} 0 1\r\n").as_bytes(), NOT_ALLOWED);
    answered(format!("TAIL {name} 1\r\n").as_bytes(), NOT_ALLOWED);
    answered(format!("HEAD {name}\r\n").as_bytes(), NOT_ALLOWED);
}

#[test]
fn upper_and_lower_case_are_different_topics() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(&batch("Case", &[b"1"]), b"OK 0 1\r\n");
    peer.ask(&batch("case", &[b"2"]), b"OK 0 1\r\n");
    assert_eq!(topic_names(&mut peer), ["Case", "case", "default"]);
}

#[test]
fn there_are_at_most_eight_topics_with_default() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for number in 1..8 {
        peer.ask(&batch(&format!("t{number}"), &[b"hello"]), b"OK 0 1\r\n");
    }
    let sent = batch("t8", &[b"hello"]);
    peer.ask(&sent, b"ERR maximum topics allowed\r\n");
    peer.ask(b"HEAD t8\r\n", b"ERR not found\r\n");
    peer.ask(&batch("t7", &[b"hello"]), b"OK 40 1\r\n");
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    assert_eq!(topic_names(&mut peer).len(), 8);
}

#[test]
fn most_topics_are_what_the_option_says() {
    let server = TestServer::start(&["--topics", "2"]);
    let mut peer = server.peer();
    peer.ask(&batch("one", &[b"hello"]), b"OK 0 1\r\n");
    peer.ask(&batch("two", &[b"hello"]), b"ERR maximum topics allowed\r\n");
}

#[test]
fn zero_topics_is_no_limit() {
    let server = TestServer::start(&["--topics", "0"]);
    let mut peer = server.peer();
    for number in 0..40 {
        peer.ask(&batch(&format!("t{number}"), &[b"hello"]), b"OK 0 1\r\n");
    }
    assert_eq!(topic_names(&mut peer).len(), 41);
}

#[test]
fn topics_beside_the_whitelist_are_not_allowed() {
    let server = TestServer::start(&["--topics-whitelist", "one,two"]);
    let mut peer = server.peer();
    peer.ask(&batch("one", &[b"hello"]), b"OK 0 1\r\n");
    peer.ask(&batch("two", &[b"hello"]), b"OK 0 1\r\n");
    peer.ask(&batch("three", &[b"hello"]), NOT_ALLOWED);
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    assert_eq!(topic_names(&mut peer), ["default", "one", "two"]);
}

#[test]
fn topics_that_are_there_can_be_read_beside_the_whitelist() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let sent = batch("old", &[b"hello"]);
    let mut server = TestServer::start_in(folder.path(), &[]);
    server.peer().ask(&sent, b"OK 0 1\r\n");
    assert!(server.terminate().status.success());
    let server = TestServer::start_in(folder.path(), &["--topics-whitelist", "new"]);
    let mut peer = server.peer();
    peer.ask(&sent, NOT_ALLOWED);
    peer.ask(b"READ old 0 1\r\n", &joined(&[b"OK 0 1\r\n", &sent]));
    peer.ask(b"TAIL old 1\r\n", &joined(&[b"OK 0 1\r\n", &sent]));
    peer.ask(b"HEAD old\r\n", format!("OK {} 1\r\n", sent.len()).as_bytes());
    peer.ask(b"READ unknown 0 1\r\n", b"ERR not found\r\n");
}
