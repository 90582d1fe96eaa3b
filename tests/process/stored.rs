//! What was acknowledged by a server whose disk gives trouble, and whether it is all there.

use std::fs;
use std::path::Path;

use logd_tests::{TestServer, batch};

/// Offsets and batches that were answered with `OK`, in the order of the topic `default`.
pub(crate) type Stored = Vec<(u64, Vec<u8>)>;

/// Appends batches of several sizes until the disk is full for each of them, and then some.
pub(crate) fn fill(server: &TestServer, stored: &mut Stored) {
    let mut peer = server.peer();
    for bytes in [60_000, 3000, 10] {
        let mut refused = 0;
        while refused < 3 {
            assert!(stored.len() < 200_000, "the disk does not run full");
            let sent = batch("default", &[&vec![b'x'; bytes], stored.len().to_string().as_bytes()]);
            peer.send(&sent);
            match peer.read_line().split(' ').collect::<Vec<_>>().as_slice() {
                ["OK", offset, "1"] => stored.push((offset.parse().expect("an offset"), sent)),
                ["ERR", "disk", "full"] => refused += 1,
                answer => panic!("a batch on a full disk was answered {answer:?}"),
            }
        }
    }
    peer.ask(b"PING\r\n", b"OK\r\n");
}

pub(crate) fn append(server: &TestServer, stored: &mut Stored, count: usize) {
    let mut peer = server.peer();
    for _ in 0..count {
        let sent = batch("default", &[&vec![b'y'; 50_000], stored.len().to_string().as_bytes()]);
        let offset = peer.append(&sent);
        assert_eq!(offset, end_of(stored), "the offset is where the last batch ended");
        stored.push((offset, sent));
    }
}

/// Expects that every batch is at its offset, and no other is in the topic.
pub(crate) fn expect_all(server: &TestServer, stored: &Stored) {
    let mut peer = server.peer();
    for (offset, sent) in stored.iter().step_by(1 + stored.len() / 500) {
        let found = peer.find(&format!("READ default {offset} 1")).batches();
        assert!(found == (*offset, vec![sent.clone()]), "another batch came at {offset}");
    }
    let (start, batches) = peer.find("READ default 0 50000").batches();
    assert_eq!(start, 0);
    assert!(batches.iter().eq(stored.iter().map(|(_, sent)| sent).take(batches.len())), "the batches differ");
    peer.ask(b"HEAD default\r\n", format!("OK {} {}\r\n", end_of(stored), stored.len()).as_bytes());
}

pub(crate) fn end_of(stored: &Stored) -> u64 {
    stored.last().map_or(0, |(offset, sent)| offset + sent.len() as u64)
}

/// Expects that the partitions hold the batches and not a byte more.
pub(crate) fn expect_nothing_half_written(server: &TestServer, stored: &Stored) {
    assert_eq!(partition_bytes(&server.workdir().join("default")), end_of(stored), "bytes of all partitions");
}

fn partition_bytes(topic: &Path) -> u64 {
    fs::read_dir(topic)
        .expect("a topic is a directory")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .map(|entry| entry.metadata().expect("a file has a length").len())
        .sum()
}
