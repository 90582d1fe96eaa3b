//! A full disk, by a file system of a few megabytes.

use std::fs;

use logd_tests::{BOUND, TestServer, Tmpfs, batch, not_run, wait_until};

use crate::stored::{Stored, append, expect_all, expect_nothing_half_written, fill};

#[test]
fn full_disk_refuses_batches_and_keeps_what_is_there() {
    let Some(mount) = small_disk("a full disk") else { return };
    let mut server = TestServer::start_in(&mount.join("logs"), &[]);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    expect_all(&server, &stored);
    expect_nothing_half_written(&server, &stored);

    mount.remount("size=8m");
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    expect_nothing_half_written(&server, &stored);

    fill(&server, &mut stored);
    server.kill9();
    mount.remount("size=12m");
    server.restart();
    expect_all(&server, &stored);
    append(&server, &mut stored, 20);
    expect_all(&server, &stored);
    expect_nothing_half_written(&server, &stored);
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
    expect_nothing_half_written(&server, &stored);
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
    expect_nothing_half_written(&server, &stored);
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
    expect_nothing_half_written(&server, &stored);
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

#[test]
fn disk_without_room_for_another_name_is_full() {
    let Some(mount) = mounted("size=32m,nr_inodes=12", "a disk without room for names") else { return };
    let options = ["--partition-size", "200000", "--partitions", "1000"];
    let mut server = TestServer::start_in(&mount.join("logs"), &options);
    let mut stored = Stored::new();
    fill(&server, &mut stored);
    let sent = batch("new", &[b"hello"]);
    server.peer().ask(&sent, b"ERR disk full\r\n");
    expect_all(&server, &stored);
    mount.remount("nr_inodes=1000");
    append(&server, &mut stored, 20);
    server.peer().ask(&sent, b"OK 0 1\r\n");
    server.kill9();
    server.restart();
    expect_all(&server, &stored);
    expect_nothing_half_written(&server, &stored);
}

fn small_disk(what: &str) -> Option<Tmpfs> {
    mounted("size=4m", what)
}

fn mounted(options: &str, what: &str) -> Option<Tmpfs> {
    match Tmpfs::mount(options) {
        Ok(mount) => Some(mount),
        Err(reason) => {
            not_run(&format!("{what}: no tmpfs can be mounted: {reason}"));
            None
        }
    }
}

fn fill_to_the_last_byte(mount: &Tmpfs) {
    // Ends when nothing more can be written, which is what it is for.
    let _ = fs::write(mount.join("filler"), vec![0; 16 * 1024 * 1024]);
}
