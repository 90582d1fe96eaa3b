//! READ and TAIL: which batches come, and when there are none.

use logd_tests::{Found, TestServer, batch};

use crate::{HELLO_WORLD, answered, expect_untouched, joined};

const NOT_FOUND: &[u8] = b"ERR not found\r\n";
const INVALID: &[u8] = b"ERR invalid request\r\n";

#[test]
fn read_returns_as_few_batches_as_hold_the_messages() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    for offset in [0, 60, 120] {
        assert_eq!(peer.append(HELLO_WORLD), offset);
    }
    let one = joined(&[b"OK 0 1\r\n", HELLO_WORLD]);
    let two = joined(&[b"OK 0 2\r\n", HELLO_WORLD, HELLO_WORLD]);
    let three = joined(&[b"OK 0 3\r\n", HELLO_WORLD, HELLO_WORLD, HELLO_WORLD]);
    peer.ask(b"READ default 0 1\r\n", &one);
    peer.ask(b"READ default 0 2\r\n", &one);
    peer.ask(b"READ default 0 3\r\n", &two);
    peer.ask(b"READ default 0 4\r\n", &two);
    peer.ask(b"READ default 0 5\r\n", &three);
    peer.ask(b"READ default 0 6\r\n", &three);
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn read_ends_where_the_topic_ends() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.append(HELLO_WORLD);
    let both = joined(&[b"OK 0 2\r\n", HELLO_WORLD, HELLO_WORLD]);
    peer.ask(b"READ default 0 5\r\n", &both);
    peer.ask(b"READ default 0 50000\r\n", &both);
    peer.ask(b"READ default 60 50000\r\n", &joined(&[b"OK 60 1\r\n", HELLO_WORLD]));
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn next_offset_is_the_offset_and_the_bytes_received() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent: Vec<Vec<u8>> =
        (0..100).map(|number: usize| batch("default", &[&vec![b'x'; number * 7]])).collect();
    for batch in &sent {
        peer.append(batch);
    }
    let (mut next, mut received) = (0, Vec::new());
    loop {
        match peer.find(&format!("READ default {next} 3")) {
            Found::Batches { offset, batches } => {
                assert_eq!(offset, next);
                next += batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
                received.extend(batches);
            }
            Found::Nothing(reason) => {
                assert_eq!(reason, "not found");
                break;
            }
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn tail_begins_at_the_oldest_batch() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let second = batch("default", &[b"second"]);
    peer.append(HELLO_WORLD);
    peer.append(&second);
    peer.ask(b"TAIL default 1\r\n", &joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
    peer.ask(b"TAIL default 3\r\n", &joined(&[b"OK 0 2\r\n", HELLO_WORLD, &second]));
    peer.ask(b"TAIL default 50000\r\n", &joined(&[b"OK 0 2\r\n", HELLO_WORLD, &second]));
}

#[test]
fn tail_of_no_messages_acts_as_one() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.append(HELLO_WORLD);
    peer.ask(b"TAIL default 0\r\n", &joined(&[b"OK 0 1\r\n", HELLO_WORLD]));
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn tail_of_an_empty_topic_finds_nothing() {
    answered(b"TAIL default 1\r\n", NOT_FOUND);
}

#[test]
fn offset_inside_a_batch_finds_nothing() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.append(HELLO_WORLD);
    for offset in (1..120).filter(|offset| *offset != 60) {
        peer.ask(format!("READ default {offset} 1\r\n").as_bytes(), NOT_FOUND);
    }
}

#[test]
fn offset_of_a_message_that_looks_like_a_batch_finds_nothing() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = batch("default", &[HELLO_WORLD]);
    peer.append(&sent);
    peer.append(HELLO_WORLD);
    let inner = sent.windows(HELLO_WORLD.len()).position(|window| window == HELLO_WORLD);
    let inner = inner.expect("the batch holds the other as a message");
    peer.ask(format!("READ default {inner} 1\r\n").as_bytes(), NOT_FOUND);
}

#[test]
fn offset_at_the_head_finds_nothing() {
    answered(b"READ default 0 1\r\n", NOT_FOUND);
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.ask(b"READ default 60 1\r\n", NOT_FOUND);
}

#[test]
fn offset_past_the_head_finds_nothing() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    for offset in ["61", "120", "9223372036854775807", "9223372036854775808", "18446744073709551615"] {
        peer.ask(format!("READ default {offset} 1\r\n").as_bytes(), NOT_FOUND);
    }
}

#[test]
fn unknown_topic_is_not_found_and_not_created() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(b"READ unknown 0 1\r\n", NOT_FOUND);
    peer.ask(b"TAIL unknown 1\r\n", NOT_FOUND);
    peer.ask(b"HEAD unknown\r\n", NOT_FOUND);
    expect_untouched(&mut peer);
    assert!(!server.workdir().join("unknown").exists(), "there is a directory `unknown`");
}

#[test]
fn read_of_no_messages_is_refused() {
    answered(b"READ default 0 0\r\n", INVALID);
}

#[test]
fn numbers_that_are_none_are_refused() {
    for number in ["x", "-1", "+1", "1x", "0x1", "1.0", "18446744073709551616", "99999999999999999999999999"]
    {
        answered(format!("READ default {number} 1\r\n").as_bytes(), INVALID);
        answered(format!("READ default 0 {number}\r\n").as_bytes(), INVALID);
        answered(format!("TAIL default {number}\r\n").as_bytes(), INVALID);
    }
}

#[test]
fn offset_2_to_the_64th_does_not_wrap_round() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.append(HELLO_WORLD);
    peer.ask(b"READ default 18446744073709551616 1\r\n", INVALID);
    peer.ask(b"READ default 0 18446744073709551617\r\n", INVALID);
    peer.ask(b"TAIL default 18446744073709551617\r\n", INVALID);
}

#[test]
fn large_answers_come_whole() {
    let server = TestServer::start(&["--batch-size", "1048576"]);
    let mut peer = server.peer();
    let sent: Vec<Vec<u8>> =
        (0..24).map(|number: u8| batch("default", &[&vec![number; 1_000_000]])).collect();
    for batch in &sent {
        peer.append(batch);
    }
    let (offset, batches) = peer.find("READ default 0 50000").batches();
    assert_eq!(offset, 0);
    assert!(batches == sent, "the batches are not those that were sent");
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn readers_see_a_batch_as_soon_as_it_is_answered() {
    let server = TestServer::start(&[]);
    let (mut writer, mut reader) = (server.peer(), server.peer());
    for round in 0..500_u64 {
        assert_eq!(writer.append(HELLO_WORLD), round * 60);
        let expected = joined(&[format!("OK {} 1\r\n", round * 60).as_bytes(), HELLO_WORLD]);
        reader.ask(format!("READ default {} 1\r\n", round * 60).as_bytes(), &expected);
    }
}

#[test]
fn reader_that_goes_away_in_mid_answer_leaves_no_files_open() {
    let server = TestServer::start(&["--batch-size", "1048576", "--partition-size", "2097152"]);
    let mut peer = server.peer();
    let sent = batch("default", &[&vec![b'x'; 1_000_000]]);
    for _ in 0..12 {
        peer.append(&sent);
    }
    let mut request = server.peer();
    request.find("TAIL default 50000").batches();
    drop(request);
    logd_tests::wait_until("the reader is gone", logd_tests::BOUND, || {
        peer.stats().count("conns.active") == 1
    });
    let before = server.open_files();
    for _ in 0..50 {
        let mut reader = server.peer();
        reader.send(b"TAIL default 50000\r\n");
        reader.read_exact(100);
    }
    logd_tests::wait_until("the readers are gone", logd_tests::BOUND, || {
        peer.stats().count("conns.active") == 1
    });
    let after = server.open_files();
    assert!(after <= before + 2, "{before} files were open, then {after}");
}
