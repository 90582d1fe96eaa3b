//! A spool with batches that were never delivered.

use std::fs;
use std::path::{Path, PathBuf};

use logd_client::{Batch, BatchBuilder, Spool, TopicName};
use logd_tests::{Finished, TestServer, log_cli};
use tempfile::TempDir;

use super::{SOUND, Snapshot, UNCHECKED, USAGE, assert_mends, cut, flip, matters, said};

fn batch(text: &str) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
    builder.push(text.as_bytes()).expect("the batch has room");
    builder.finish().expect("the batch has a message")
}

/// Five batches.
fn five() -> TempDir {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let (mut spool, _) = Spool::open(folder.path(), u64::MAX).expect("the spool opens");
    for number in 1..=5 {
        spool.put(number, &batch(&format!("message {number}"))).expect("the batch is kept");
    }
    folder
}

fn file(folder: &TempDir, number: u64) -> PathBuf {
    folder.path().join(format!("{:020}-{number:020}.batch", 1))
}

fn check(dir: &Path, arguments: &[&str]) -> Finished {
    let dir = dir.to_str().expect("the paths of tests are text");
    log_cli(&[&["spool", "check", dir], arguments].concat(), b"")
}

#[test]
fn nothing_is_found_in_a_sound_spool() {
    let folder = five();
    let before = Snapshot::of(folder.path());
    let text = said(&check(folder.path(), &[]), SOUND);
    assert!(text.starts_with("checked 5 batches, 5 messages, ") && text.lines().count() == 1, "{text}");
    said(&check(folder.path(), &["--repair"]), SOUND);
    assert_eq!(Snapshot::of(folder.path()), before);
}

#[test]
fn what_is_damaged_is_set_aside_and_the_rest_is_sent() {
    let folder = five();
    let damaged = fs::read(file(&folder, 2)).expect("the batch can be read");
    flip(&file(&folder, 2), 5);
    cut(&file(&folder, 3), 20);
    cut(&file(&folder, 4), 0);
    fs::write(folder.path().join(format!("{:020}-{:020}.batch.new", 1, 6)), &damaged).expect("a file");
    fs::write(folder.path().join("README"), "mine").expect("a file can be made");
    // Its name is taken by one that was set aside before.
    fs::write(file(&folder, 4).with_extension("batch.damaged"), "earlier").expect("a file can be made");
    let (checked, repaired) = assert_mends(folder.path(), |arguments| check(folder.path(), arguments));
    assert!(checked.contains("3 of damage; 1 to repair; 2 noted"), "{checked}");
    assert_eq!(matters(&repaired).len(), 4);
    let name = |number: u64, end: &str| format!("{:020}-{number:020}.batch{end}", 1);
    for kept in [name(2, ".damaged"), name(3, ".damaged"), name(4, ".aside"), name(6, ".new.aside")] {
        assert!(repaired.contains(&format!("set aside as `{kept}`")), "{repaired}");
        assert!(folder.path().join(kept).is_file());
    }
    let server = TestServer::start(&[]);
    let dir = folder.path().to_str().expect("the paths of tests are text");
    said(&log_cli(&["--host", &server.host(), "spool", "send", dir], b""), 0);
    let read = log_cli(&["--host", &server.host(), "read"], b"");
    assert_eq!(said(&read, 0), "message 1\nmessage 5\n");
}

#[test]
fn a_spool_in_use_is_left_alone() {
    let folder = five();
    let spool = Spool::open(folder.path(), u64::MAX).expect("the spool opens");
    flip(&file(&folder, 2), 5);
    let before = Snapshot::of(folder.path());
    for arguments in [&[][..], &["--repair"]] {
        let refused = check(folder.path(), arguments);
        assert!(said(&refused, UNCHECKED).is_empty());
        assert!(refused.stderr.contains("in use"), "it said:\n{}", refused.stderr);
    }
    assert_eq!(Snapshot::of(folder.path()), before);
    drop(spool);
}

#[test]
fn a_directory_of_something_else_is_no_spool() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    fs::write(folder.path().join("mine"), "mine").expect("a file can be made");
    let before = Snapshot::of(folder.path());
    for arguments in [&[][..], &["--repair"]] {
        assert!(check(folder.path(), arguments).stderr.contains("is no spool"));
        said(&check(folder.path(), arguments), UNCHECKED);
        said(&check(&folder.path().join("nowhere"), arguments), UNCHECKED);
    }
    assert_eq!(Snapshot::of(folder.path()), before);
    said(&log_cli(&["spool", "check"], b""), USAGE);
}
