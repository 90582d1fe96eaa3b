//! BATCH: what is stored, and what is refused.

use logd_tests::{RawPeer, TestServer, batch, body, checksum, envelope};

use crate::{HELLO_WORLD, answered, broken, expect_untouched, joined, refused};

/// The largest body of a refused batch that the server passes over; behind a larger one it closes.
const SKIPPED_BYTES_MAX: usize = 16 * 1024 * 1024;

#[test]
fn batch_is_answered_with_the_offset_where_it_starts() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    peer.ask(HELLO_WORLD, b"OK 60 1\r\n");
    peer.ask(b"BATCH 14 default 1680380747 1\r\nMSG 5\r\nhello\r\n", b"OK 120 1\r\n");
    peer.ask(HELLO_WORLD, b"OK 165 1\r\n");
}

#[test]
fn batches_lie_on_disk_as_they_were_sent() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let other = batch("default", &[b"", b"\0\r\n\xff"]);
    peer.append(HELLO_WORLD);
    peer.append(&other);
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(server.workdir().join("default")).expect("a topic is a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            stored.extend(std::fs::read(path).expect("a partition can be read"));
        }
    }
    assert_eq!(stored, joined(&[HELLO_WORLD, &other]));
}

#[test]
fn every_topic_has_offsets_of_its_own() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    peer.ask(&batch("another", &[b"1"]), b"OK 0 1\r\n");
    peer.ask(HELLO_WORLD, b"OK 60 1\r\n");
}

#[test]
fn messages_can_hold_any_bytes() {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let messages: [&[u8]; 7] = [b"", b"\r\n", b"MSG 5\r\nhello\r\n", HELLO_WORLD, b"\n", &every_byte, b"\0"];
    let sent = batch("default", &messages);
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(&sent, b"OK 0 1\r\n");
    peer.ask(b"READ default 0 1\r\n", &joined(&[b"OK 0 1\r\n", &sent]));
}

#[test]
fn empty_message_is_a_message() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = b"BATCH 9 default 2681878724 1\r\nMSG 0\r\n\r\n";
    assert_eq!(batch("default", &[b""]), sent, "the literal has the right checksum");
    peer.ask(sent, b"OK 0 1\r\n");
    peer.ask(b"TAIL default 1\r\n", &joined(&[b"OK 0 1\r\n", sent]));
}

#[test]
fn wrong_checksum_is_refused() {
    let sent = b"BATCH 29 default 2499380545 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
    answered(sent, b"ERR checksum mismatch\r\n");
}

#[test]
fn changed_body_is_refused() {
    let sent = b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhellO\r\nMSG 6\r\nworld!\r\n";
    answered(sent, b"ERR checksum mismatch\r\n");
}

#[test]
fn checksum_that_is_no_number_is_refused() {
    let sent = b"BATCH 29 default crc 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
    answered(sent, b"ERR invalid protocol\r\n");
}

#[test]
fn checksum_of_33_bits_is_refused() {
    let sent = b"BATCH 29 default 6794347840 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
    assert_eq!(6_794_347_840_u64, 2_499_380_544 + (1 << 32), "it would be right if it wrapped round");
    answered(sent, b"ERR invalid protocol\r\n");
}

#[test]
fn count_that_is_no_number_is_refused() {
    for count in ["two", "-2", "+2", "0x2", "2.0", "18446744073709551618"] {
        let sent = joined(&[&envelope(29, "default", 2_499_380_544_u32, count), body_of_hello_world()]);
        answered(&sent, b"ERR invalid protocol\r\n");
    }
}

#[test]
fn count_below_the_messages_of_the_body_is_refused() {
    let sent = b"BATCH 29 default 2499380544 1\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
    answered(sent, b"ERR invalid protocol\r\n");
}

#[test]
fn count_above_the_messages_of_the_body_is_refused() {
    for count in [3, u64::MAX] {
        let sent = joined(&[&envelope(29, "default", 2_499_380_544_u32, count), body_of_hello_world()]);
        answered(&sent, b"ERR invalid protocol\r\n");
    }
}

#[test]
fn body_without_messages_in_it_is_refused() {
    answered(&with_body(b"hello", 1), b"ERR invalid protocol\r\n");
    answered(&with_body(b"\r\n", 1), b"ERR invalid protocol\r\n");
}

#[test]
fn body_with_a_broken_frame_is_refused() {
    let bodies: [&[u8]; 14] = [
        b"MSG 5\r\nhello",
        b"MSG 5\r\nhello\r",
        b"MSG 5\r\nhello\n\r",
        b"MSG 5\r\nhello\r\n\r\n",
        b"MSG 4\r\nhello\r\n",
        b"MSG 6\r\nhello\r\n",
        b"MSG 5\nhello\r\n",
        b"MSG  5\r\nhello\r\n",
        b"MSG -5\r\nhello\r\n",
        b"MSG +5\r\nhello\r\n",
        b"MSG \r\nhello\r\n",
        b"msg 5\r\nhello\r\n",
        b"MSG 18446744073709551615\r\nhello\r\n",
        b"MSG 18446744073709551621\r\nhello\r\n",
    ];
    for body in bodies {
        answered(&with_body(body, 1), b"ERR invalid protocol\r\n");
    }
}

#[test]
fn body_with_something_behind_its_last_message_is_refused() {
    answered(&with_body(b"MSG 5\r\nhello\r\nMSG", 1), b"ERR invalid protocol\r\n");
}

#[test]
fn empty_body_is_refused() {
    answered(b"BATCH 0 default 0 0\r\n", b"ERR invalid request\r\n");
    answered(b"BATCH 0 default 0 1\r\n", b"ERR invalid request\r\n");
}

#[test]
fn no_messages_are_refused() {
    let sent = b"BATCH 29 default 2499380544 0\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
    answered(sent, b"ERR invalid request\r\n");
}

#[test]
fn size_that_is_no_number_ends_the_connection() {
    for size in ["x", "-1", "+29", "0x1d", "29x", "2.9"] {
        broken(&envelope(size, "default", 2_499_380_544_u32, 2));
    }
}

#[test]
fn too_large_batch_is_answered_before_its_body_comes_and_passed_over() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(b"BATCH 100000 default 1 1\r\n", b"ERR too large\r\n");
    peer.send(&vec![b'x'; 100_000]);
    expect_untouched(&mut peer);
}

#[test]
fn body_of_a_too_large_batch_is_not_taken_for_requests() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let requests = b"PING\r\n".repeat(20_000);
    let sent = joined(&[&envelope(requests.len(), "default", 1, 1), &requests, b"HEAD default\r\n"]);
    peer.ask(&sent, b"ERR too large\r\nOK 0 0\r\n");
}

#[test]
fn largest_body_that_is_passed_over_leaves_the_connection_usable() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(&envelope(SKIPPED_BYTES_MAX, "default", 1, 1), b"ERR too large\r\n");
    peer.send(&vec![b'x'; SKIPPED_BYTES_MAX]);
    expect_untouched(&mut peer);
}

#[test]
fn larger_bodies_end_the_connection() {
    let sizes = [
        "16777217",
        "2147483648",
        "4294967296",
        "9223372036854775806",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551614",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999999999999999",
    ];
    for size in sizes {
        refused(&envelope(size, "default", 1, 1), b"ERR too large\r\n");
    }
}

#[test]
fn answer_to_a_body_that_is_too_large_is_not_lost_in_a_reset() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(&envelope(1_u64 << 40, "default", 1, 1));
    peer.send(&[b'x'; 4096]);
    peer.expect(b"ERR too large\r\n");
    peer.send(&[b'x'; 4096]);
    peer.finish_sending();
    peer.expect_orderly_end();
}

#[test]
fn too_large_batches_cost_no_memory() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..4 {
        peer.ask(&envelope(SKIPPED_BYTES_MAX, "default", 1, 1), b"ERR too large\r\n");
        for _ in 0..16 {
            peer.send(&piece);
            let resident = server.resident_bytes();
            assert!(resident < 15 * 1024 * 1024, "the server has {resident} bytes of memory");
        }
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
}

#[test]
fn half_a_batch_stores_nothing() {
    let server = TestServer::start(&[]);
    for cut in 1..HELLO_WORLD.len() {
        let mut peer = server.peer();
        peer.send(HELLO_WORLD.get(..cut).unwrap_or_default());
        peer.wait_until_taken();
        drop(peer);
    }
    expect_untouched(&mut server.peer());
}

#[test]
fn half_a_batch_and_the_end_of_sending_store_nothing() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(HELLO_WORLD.get(..50).unwrap_or_default());
    peer.finish_sending();
    peer.expect_closed();
    expect_untouched(&mut server.peer());
}

#[test]
fn batch_before_the_end_of_sending_is_answered() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.send(HELLO_WORLD);
    peer.finish_sending();
    peer.expect(b"OK 0 1\r\n");
    peer.expect_closed();
}

#[test]
fn refused_batches_leave_the_offsets_alone() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    peer.ask(&with_body(b"hello", 1), b"ERR invalid protocol\r\n");
    peer.ask(b"BATCH 0 default 0 0\r\n", b"ERR invalid request\r\n");
    peer.ask(HELLO_WORLD, b"OK 60 1\r\n");
    peer.ask(b"READ default 0 4\r\n", &joined(&[b"OK 0 2\r\n", HELLO_WORLD, HELLO_WORLD]));
}

#[test]
fn several_connections_append_to_one_topic_in_whole_batches() {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 200;
    let server = TestServer::start(&[]);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let peer = server.peer();
            scope.spawn(move || append_rounds(peer, writer, ROUNDS));
        }
    });
    let mut peer = server.peer();
    let (_, batches) = peer.find(&format!("READ default 0 {}", WRITERS * ROUNDS)).batches();
    assert_eq!(batches.len(), WRITERS * ROUNDS);
}

/// Appends batches and checks that each is read back at the offset that was answered.
fn append_rounds(mut peer: RawPeer, writer: usize, rounds: usize) {
    for round in 0..rounds {
        let sent = batch("default", &[format!("writer {writer}, round {round}").as_bytes()]);
        let offset = peer.append(&sent);
        let (found, batches) = peer.find(&format!("READ default {offset} 1")).batches();
        assert_eq!((found, batches), (offset, vec![sent]));
    }
}

fn body_of_hello_world() -> &'static [u8] {
    b"MSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n"
}

/// A batch with a right checksum over any body.
fn with_body(body: &[u8], messages: usize) -> Vec<u8> {
    joined(&[&envelope(body.len(), "default", checksum(body), messages), body])
}

#[test]
fn body_of_the_description_is_made_of_its_messages() {
    assert_eq!(body(&[b"hello", b"world!"]), body_of_hello_world());
}
