//! Rotation and retention: what stays, and that all of it stays readable.

use std::path::Path;

use logd_tests::{BOUND, Found, Random, RawPeer, TestServer, batch, seed, wait_until};

const OPTIONS: &[&str] = &["--partition-size", "65536", "--partitions", "3"];

/// A batch and the offset that it was answered.
type Stored = (u64, Vec<u8>);

#[test]
fn every_batch_inside_the_window_is_found_and_none_outside() {
    let mut server = TestServer::start(OPTIONS);
    let mut random = Random::new(seed());
    let stored = append_many(&mut server.peer(), &mut random, 700);
    expect_window(&server, &stored);
    server.restart();
    expect_window(&server, &stored);
    assert!(server.terminate().status.success());
    server.restart();
    expect_window(&server, &stored);
}

#[test]
fn window_moves_on_after_a_restart() {
    let mut server = TestServer::start(OPTIONS);
    let mut random = Random::new(seed());
    let mut stored = Vec::new();
    for _ in 0..4 {
        stored.extend(append_many(&mut server.peer(), &mut random, 350));
        assert!(server.terminate().status.success());
        server.restart();
        expect_window(&server, &stored);
    }
}

#[test]
fn topic_has_at_most_as_many_partitions_as_the_option_says() {
    let server = TestServer::start(OPTIONS);
    let mut random = Random::new(seed());
    let mut peer = server.peer();
    for _ in 0..20 {
        append_many(&mut peer, &mut random, 30);
        // Dropped files can go a little later than the offsets in them.
        wait_until("only three partitions are left", BOUND, || {
            partition_offsets(&server.workdir().join("default")).len() <= 3
        });
    }
}

#[test]
fn answers_go_on_over_the_end_of_a_partition() {
    let server = TestServer::start(OPTIONS);
    let mut random = Random::new(seed());
    let mut peer = server.peer();
    let stored = append_many(&mut peer, &mut random, 300);
    let oldest = peer.find("TAIL default 50000").batches();
    let kept: Vec<Vec<u8>> =
        stored.into_iter().filter(|(offset, _)| *offset >= oldest.0).map(|(_, batch)| batch).collect();
    assert!(oldest.1 == kept, "the answer is not the {} batches that are kept", kept.len());
}

#[test]
fn offset_zero_of_a_topic_that_has_moved_on_finds_nothing() {
    let server = TestServer::start(OPTIONS);
    let mut random = Random::new(seed());
    let mut peer = server.peer();
    append_many(&mut peer, &mut random, 700);
    peer.ask(b"READ default 0 1\r\n", b"ERR not found\r\n");
    peer.ask(b"READ default 0 1 wait=60000\r\n", b"ERR not found\r\n");
}

fn append_many(peer: &mut RawPeer, random: &mut Random, count: usize) -> Vec<Stored> {
    (0..count)
        .map(|_| {
            let length = random.below(1500);
            let sent = batch("default", &[&random.bytes(length), b"second"]);
            (peer.append(&sent), sent)
        })
        .collect()
}

/// Expects that the server has all of `stored` from the oldest partition on, and nothing before it.
fn expect_window(server: &TestServer, stored: &[Stored]) {
    let mut peer = server.peer();
    let (oldest, _) = peer.find("TAIL default 1").batches();
    wait_until("the oldest partition is where TAIL begins", BOUND, || {
        partition_offsets(&server.workdir().join("default")).first() == Some(&oldest)
    });
    let mut found = 0;
    for (offset, sent) in stored {
        match peer.find(&format!("READ default {offset} 1")) {
            Found::Batches { offset: answered, batches } => {
                assert!(*offset >= oldest, "{offset} is before the oldest partition, {oldest}");
                assert_eq!(answered, *offset);
                assert!(batches == [sent.clone()], "another batch came at {offset}");
                found += 1;
            }
            Found::Nothing(reason) => {
                assert_eq!(reason, "not found");
                assert!(*offset < oldest, "{offset} is behind the oldest partition's start, {oldest}");
            }
        }
    }
    assert!(found > 0 && found < stored.len(), "{found} of {} were found", stored.len());
    let end = stored.last().map_or(0, |(offset, sent)| offset + sent.len() as u64);
    peer.send(b"HEAD default\r\n");
    assert_eq!(peer.read_line(), format!("OK {end} {found}"));
}

/// The offsets that the partitions' names say, in order.
fn partition_offsets(topic: &Path) -> Vec<u64> {
    let mut offsets: Vec<u64> = std::fs::read_dir(topic)
        .expect("a topic is a directory")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".log").and_then(|offset| offset.parse().ok()))
        .collect();
    offsets.sort_unstable();
    offsets
}
