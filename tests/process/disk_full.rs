//! A full disk, by a file system of a few megabytes.

use std::fs;
use std::path::Path;

use logd_tests::{BOUND, TestServer, Tmpfs, batch, not_run, wait_until};

/// Offsets and batches that were answered with `OK`.
type Stored = Vec<(u64, Vec<u8>)>;

#[test]
fn full_disk_refuses_batches_and_keeps_what_is_there() {
    let Some(mount) = small_disk("a full disk") else { return };
    let mut server = TestServer::start_in(&mount.join("logs"), &[]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);

    mount.remount("size=8m");
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);

    fill(&server, &mut stored);
    server.kill9();
    mount.remount("size=12m");
    server.restart();
    expect_all(&server, &stored);
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);
}

#[test]
fn room_made_by_others_lets_batches_in_again() {
    let Some(mount) = small_disk("room made on a full disk") else { return };
    let filler = mount.join("filler");
    fs::write(&filler, vec![0; 1024 * 1024]).expect("there is room for a megabyte");
    let server = TestServer::start_in(&mount.join("logs"), &[]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    fs::remove_file(&filler).expect("the filler is there");
    append(&server, &mut stored, 10);
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);
}

#[test]
fn full_disk_is_endured_with_a_sync_for_every_batch() {
    let Some(mount) = small_disk("a full disk with `--flush-batches 1`") else { return };
    let server = TestServer::start_in(&mount.join("logs"), &["--flush-batches", "1"]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    expect_all(&server, &stored);
    mount.remount("size=8m");
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);
}

#[test]
fn full_disk_at_a_rotation_is_endured() {
    let Some(mount) = small_disk("a full disk at a rotation") else { return };
    let options = ["--partition-size", "200000", "--partitions", "1000"];
    let mut server = TestServer::start_in(&mount.join("logs"), &options);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    expect_all(&server, &stored);
    mount.remount("size=8m");
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    assert_eq!(server.terminate().status.code(), Some(0), "it said:\n{}", server.stderr());
    server.restart();
    expect_all(&server, &stored);
    expect_nothing_half_written(&mount, &stored);
}

#[test]
fn full_disk_at_a_rotation_gets_the_room_of_the_partition_that_goes() {
    let Some(mount) = small_disk("the room of a dropped partition") else { return };
    let options = ["--partition-size", "1000000", "--partitions", "2"];
    let server = TestServer::start_in(&mount.join("logs"), &options);
    let sent = batch("default", &[&vec![b'x'; 50_000]]);
    let mut peer = server.peer();
    // Both partitions are full to the point where the next batch begins a third.
    for _ in 0..2 * (1_000_000 / sent.len()) {
        peer.append(&sent);
    }
    wait_until("the first partition is sealed", BOUND, || mount.join("logs/default/0.index").exists());
    fill_to_the_last_byte(&mount);
    peer.ask(&sent, b"ERR disk full\r\n");
    wait_until("the partition that was dropped makes room", BOUND, || {
        peer.send(&sent);
        peer.read_line().starts_with("OK ")
    });
    assert!(!mount.join("logs/default/0.log").exists(), "the partition that was dropped is still there");
}

#[test]
fn server_starts_and_is_read_on_a_full_disk() {
    let Some(mount) = small_disk("a start on a full disk") else { return };
    let mut server = TestServer::start_in(&mount.join("logs"), &[]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    for killed in [true, false] {
        if killed {
            server.kill9();
        } else {
            server.terminate();
        }
        server.restart();
        expect_all(&server, &stored);
    }
}

#[test]
fn new_topic_on_a_full_disk_is_refused_and_comes_when_there_is_room() {
    let Some(mount) = small_disk("a new topic on a full disk") else { return };
    let server = TestServer::start_in(&mount.join("logs"), &[]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    fill_to_the_last_byte(&mount);
    let sent = batch("new", &[&vec![b'x'; 50_000]]);
    let mut peer = server.peer();
    peer.ask(&sent, b"ERR disk full\r\n");
    mount.remount("size=8m");
    peer.ask(&sent, b"OK 0 1\r\n");
    assert_eq!(peer.find("TAIL new 1").batches(), (0, vec![sent]));
}

fn small_disk(what: &str) -> Option<Tmpfs> {
    match Tmpfs::mount("size=4m") {
        Ok(mount) => Some(mount),
        Err(reason) => {
            not_run(&format!("{what}: no tmpfs can be mounted: {reason}"));
            None
        }
    }
}

/// Appends batches of several sizes until the disk is full for each of them, and then some.
fn fill(server: &TestServer, stored: &mut Stored) {
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

fn fill_to_the_last_byte(mount: &Tmpfs) {
    // Ends when nothing more can be written, which is what it is for.
    let _ = fs::write(mount.join("filler"), vec![0; 16 * 1024 * 1024]);
}

fn append(server: &TestServer, stored: &mut Stored, count: usize) {
    let mut peer = server.peer();
    for _ in 0..count {
        let sent = batch("default", &[&vec![b'y'; 50_000], stored.len().to_string().as_bytes()]);
        let offset = peer.append(&sent);
        assert_eq!(offset, end_of(stored), "the offset is where the last batch ended");
        stored.push((offset, sent));
    }
}

/// Expects that every batch is at its offset, and no other is in the topic.
fn expect_all(server: &TestServer, stored: &Stored) {
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

fn end_of(stored: &Stored) -> u64 {
    stored.last().map_or(0, |(offset, sent)| offset + sent.len() as u64)
}

/// Expects that the partitions hold the batches and not a byte more.
fn expect_nothing_half_written(mount: &Tmpfs, stored: &Stored) {
    assert_eq!(partition_bytes(&mount.join("logs/default")), end_of(stored), "bytes of all partitions");
}

fn partition_bytes(topic: &Path) -> u64 {
    fs::read_dir(topic)
        .expect("a topic is a directory")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .map(|entry| entry.metadata().expect("a file has a length").len())
        .sum()
}
