//! `log-cli spool`: what a writer could not deliver.

use std::fs;
use std::path::{Path, PathBuf};

use logd_cli::Exit;
use logd_client::{Batch, BatchBuilder, Spool, TopicName};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Finished, Running, Script, TestServer, run, scripted, wait_for};

/// An address at which nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

fn batch(topic: &str, messages: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::new(topic).unwrap(), 65536);
    for message in messages {
        builder.push(message.as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

/// A directory with three batches of two topics.
fn three() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
    let batches = [batch("default", &["a", "b"]), batch("requests.slow", &["c"]), batch("default", &["d"])];
    spool.put_all(&[1, 2, 3].into_iter().zip(batches).collect::<Vec<_>>()).unwrap();
    folder
}

fn file(folder: &TempDir, number: u64) -> PathBuf {
    folder.path().join(format!("{:020}-{number:020}.batch", 1))
}

fn spool(host: &str, command: &str, dir: &Path) -> Finished {
    run(host, &["spool", command, dir.to_str().unwrap()], b"")
}

/// The numbers of the batches that are still there.
fn left(folder: &TempDir) -> Vec<u64> {
    Spool::list(folder.path()).unwrap().batches.iter().map(|batch| batch.key.number).collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn ls_is_a_line_for_each_batch() {
    let folder = three();
    let listed = spool(NOWHERE, "ls", folder.path());
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
    let expected = "\
KEY                                        TOPIC          MESSAGES     BYTES
00000000000000000001-00000000000000000001  default               2        51
00000000000000000001-00000000000000000002  requests.slow         1        47
00000000000000000001-00000000000000000003  default               1        41
";
    assert_eq!(text(&listed.stdout), expected);
    assert_eq!(left(&folder), [1, 2, 3]);
}

#[test]
fn ls_tells_what_is_damaged_and_leaves_it() {
    let folder = three();
    fs::write(file(&folder, 2), "").unwrap();
    let listed = spool(NOWHERE, "ls", folder.path());
    assert_eq!(listed.code, i32::from(Exit::Damaged.code()));
    let line = "00000000000000000001-00000000000000000002.batch  damaged: the file ends after 0 bytes, in the middle of the batch";
    assert_eq!(text(&listed.stdout).lines().last(), Some(line));
    assert!(file(&folder, 2).exists());
}

#[test]
fn ls_needs_no_lock() {
    let folder = three();
    let _held = Spool::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(spool(NOWHERE, "ls", folder.path()).code, 0);
}

#[test]
fn send_appends_in_order_and_removes() {
    let server = TestServer::start();
    let folder = three();
    let sent = spool(&server.host(), "send", folder.path());
    assert_eq!((sent.code, sent.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = text(&sent.stdout).lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], "00000000000000000001-00000000000000000001 0");
    assert_eq!(server.done(&["read"], b""), b"a\nb\nd\n");
    assert_eq!(server.done(&["read", "--topic", "requests.slow"], b""), b"c\n");
    assert_eq!(left(&folder), [0; 0]);
    let nothing = spool(NOWHERE, "send", folder.path());
    assert_eq!((nothing.code, nothing.stdout.as_slice()), (0, b"".as_slice()));
}

#[test]
fn send_to_no_server_keeps_everything() {
    let folder = three();
    spool(NOWHERE, "send", folder.path()).failed_with(Exit::Unreachable);
    assert_eq!(left(&folder), [1, 2, 3]);
}

#[test]
fn send_stops_at_the_first_failure() {
    for (step, exit, doubt) in [
        (Script::Answer("ERR maximum topics allowed\r\n"), Exit::Refused, "is not in the topic"),
        (Script::Close, Exit::Unreachable, "may be in the topic all the same"),
    ] {
        let folder = three();
        let (host, bodies) = scripted(&[Script::Answer("OK 0 1\r\n"), step]);
        let sent = spool(&host, "send", folder.path());
        let line = sent.failed_with(exit);
        let key = "00000000000000000001-00000000000000000002";
        let end = format!(
            "; the batch `{key}` {doubt}; `1` were sent before, `2` are still in `{}`",
            folder.path().display()
        );
        assert!(line.ends_with(&end), "{line}");
        assert_eq!(text(&sent.stdout), "00000000000000000001-00000000000000000001 0\n");
        assert_eq!(bodies.lock().unwrap().len(), 2);
        assert_eq!(left(&folder), [2, 3]);
    }
}

#[test]
fn interrupted_send_keeps_the_batch_that_was_not_acknowledged() {
    let folder = three();
    let (host, bodies) = scripted(&[Script::Answer("OK 0 1\r\n"), Script::Silence]);
    let running = Running::start(&host, &["spool", "send", folder.path().to_str().unwrap()]);
    wait_for("the second batch is sent", || (bodies.lock().unwrap().len() == 2).then_some(()));
    running.signal(Signal::INT);
    let sent = running.finish();
    let line = sent.failed_with(Exit::Interrupted);
    let key = "00000000000000000001-00000000000000000002";
    let start =
        format!("log-cli: interrupted; the batch `{key}` may be in the topic all the same; `1` were sent");
    assert!(line.starts_with(&start), "{line}");
    assert_eq!(left(&folder), [2, 3]);
}

#[test]
fn send_sets_aside_what_is_damaged_and_sends_the_others() {
    let server = TestServer::start();
    let folder = three();
    fs::write(file(&folder, 1), "BATCH").unwrap();
    let sent = spool(&server.host(), "send", folder.path());
    let aside = file(&folder, 1).with_extension("batch.damaged");
    let line = sent.failed_with(Exit::Damaged);
    assert!(line.starts_with(&format!("log-cli: set aside as `{}`: ", aside.display())), "{line}");
    assert_eq!(fs::read(aside).unwrap(), b"BATCH");
    assert_eq!(server.done(&["read"], b""), b"d\n");
    assert_eq!(left(&folder), [0; 0]);
}

#[test]
fn send_and_drop_take_no_directory_that_is_in_use_or_not_there() {
    let folder = three();
    let held = Spool::open(folder.path(), u64::MAX).unwrap();
    let nowhere = folder.path().join("nowhere");
    for arguments in [&["spool", "send"][..], &["spool", "drop", "--yes"]] {
        let with = |dir: &Path| run(NOWHERE, &[arguments, &[dir.to_str().unwrap()]].concat(), b"");
        let used = with(folder.path());
        let expected = format!(
            "log-cli: the spool `{}` is in use by another writer or program",
            folder.path().display()
        );
        assert_eq!(used.failed_with(Exit::Failed), expected);
        let missing = with(&nowhere);
        let expected = format!("log-cli: `{}` is no directory", nowhere.display());
        assert_eq!(missing.failed_with(Exit::Failed), expected);
        assert!(!nowhere.exists());
    }
    drop(held);
    assert_eq!(left(&folder), [1, 2, 3]);
}

#[test]
fn drop_asks_for_a_yes() {
    let folder = three();
    let refused = spool(NOWHERE, "drop", folder.path());
    assert_eq!(refused.code, i32::from(Exit::Usage.code()));
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert_eq!(left(&folder), [1, 2, 3]);
    let dropped = run(NOWHERE, &["spool", "drop", folder.path().to_str().unwrap(), "--yes"], b"");
    assert_eq!((dropped.code, text(&dropped.stdout)), (0, "dropped: 3 batches, 4 messages\n"));
    assert_eq!(left(&folder), [0; 0]);
}
