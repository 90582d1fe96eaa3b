//! Starting, and reasons not to.

use std::fs;
use std::path::Path;

use logd_tests::{TestServer, Tmpfs, batch, not_run};

use crate::refusal;

/// Exit code for what the machine does not allow.
const FAILED: i32 = 1;

#[test]
fn port_taken_is_one_clear_line() {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().expect("a directory can be made");
    let workdir = folder.path().join("logs");
    let host = server.host();
    let refused = refusal(&["--host", &host, "--workdir", text(&workdir)], FAILED);
    assert_eq!(refused.stderr.lines().count(), 1, "it said:\n{}", refused.stderr);
    assert!(refused.stderr.contains(&host), "it said:\n{}", refused.stderr);
    assert!(refused.stderr.to_lowercase().contains("in use"), "it said:\n{}", refused.stderr);
    server.peer().ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn workdir_below_a_file_is_refused() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    fs::write(folder.path().join("file"), "").expect("a file can be made");
    expect_workdir_refused(&folder.path().join("file/logs"));
}

#[test]
fn workdir_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    fs::write(folder.path().join("file"), "").expect("a file can be made");
    expect_workdir_refused(&folder.path().join("file"));
}

#[test]
fn workdir_on_a_read_only_file_system_is_refused() {
    let mount = match Tmpfs::mount("size=1m") {
        Ok(mount) => mount,
        Err(reason) => return not_run(&format!("workdir on a read-only file system: {reason}")),
    };
    mount.remount("ro");
    expect_workdir_refused(&mount.join("logs"));
    mount.remount("rw");
    fs::create_dir(mount.join("logs")).expect("a directory can be made");
    mount.remount("ro");
    expect_workdir_refused(&mount.join("logs"));
}

#[test]
fn workdir_is_made_with_the_directories_above_it() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let workdir = folder.path().join("a/b/c");
    let server = TestServer::start_in(&workdir, &[]);
    server.peer().append(&batch("default", &[b"hello"]));
    assert!(workdir.join("default").is_dir());
}

#[test]
fn second_server_in_a_workdir_is_refused() {
    let server = TestServer::start(&[]);
    server.peer().append(&batch("default", &[b"hello"]));
    let refused = refusal(&["--host", "127.0.0.1:0", "--workdir", text(server.workdir())], FAILED);
    assert_eq!(refused.stderr.lines().count(), 1, "it said:\n{}", refused.stderr);
    assert!(refused.stderr.contains(text(server.workdir())), "it said:\n{}", refused.stderr);
    server.peer().ask(b"HEAD default\r\n", b"OK 45 1\r\n");
}

#[test]
fn workdir_of_a_killed_server_is_free_again() {
    let mut server = TestServer::start(&[]);
    server.peer().append(&batch("default", &[b"hello"]));
    server.kill9();
    server.restart();
    server.peer().ask(b"HEAD default\r\n", b"OK 45 1\r\n");
}

#[test]
fn directory_of_go_logd_is_opened() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let (first, second, third) = (
        batch("default", &[b"hello"]),
        batch("default", &[b"world", b"!"]),
        batch("default", &[b"in another partition"]),
    );
    let topic = folder.path().join("default");
    fs::create_dir(&topic).expect("a directory can be made");
    let start = [first.clone(), second.clone()].concat();
    fs::write(topic.join("0.log"), &start).expect("a file can be made");
    fs::write(topic.join(format!("{}.log", start.len())), &third).expect("a file can be made");
    let server = TestServer::start_in(folder.path(), &[]);
    let mut peer = server.peer();
    assert_eq!(peer.find("TAIL default 100").batches(), (0, vec![first, second, third.clone()]));
    assert_eq!(peer.append(&third), (start.len() + third.len()) as u64);
}

#[test]
fn partition_that_ends_in_a_strange_line_does_not_keep_it_from_starting() {
    let right = batch("default", &[b"hello"]);
    let strange: [&[u8]; 8] = [
        b"\n",
        b"\r\n",
        b"BATCH",
        b"BATCH 9223372036854775807 default 1 1\r\n",
        b"BATCH 18446744073709551616 default 1 1\r\n",
        b"BATCH -1 default 1 1\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"garbage\r\ngarbage\r\n",
    ];
    for end in strange {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let topic = folder.path().join("default");
        fs::create_dir(&topic).expect("a directory can be made");
        fs::write(topic.join("0.log"), [&right, end].concat()).expect("a file can be made");
        let server = TestServer::start_in(folder.path(), &[]);
        let mut peer = server.peer();
        assert_eq!(peer.find("TAIL default 1").batches(), (0, vec![right.clone()]));
        assert_eq!(peer.append(&right), 45, "after the end `{}`", end.escape_ascii());
        assert_eq!(peer.find("TAIL default 9").batches(), (0, vec![right.clone(), right.clone()]));
    }
}

#[test]
fn smaller_batch_size_than_before_loses_nothing() {
    let mut server = TestServer::start(&["--batch-size", "100000"]);
    let (large, small) = (batch("default", &[&vec![b'x'; 90_000]]), batch("default", &[b"hello"]));
    let mut peer = server.peer();
    peer.append(&large);
    peer.append(&small);
    assert!(server.terminate().status.success());
    let server = TestServer::start_in(server.workdir(), &["--batch-size", "1000"]);
    let mut peer = server.peer();
    assert_eq!(peer.find("TAIL default 9").batches(), (0, vec![large.clone(), small.clone()]));
    assert_eq!(peer.append(&small), (large.len() + small.len()) as u64);
}

fn expect_workdir_refused(workdir: &Path) {
    let refused = refusal(&["--host", "127.0.0.1:0", "--workdir", text(workdir)], FAILED);
    assert_eq!(refused.stderr.lines().count(), 1, "it said:\n{}", refused.stderr);
    assert!(refused.stderr.contains(text(workdir)), "it said:\n{}", refused.stderr);
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the paths of tests are text")
}
