//! Checkpoints in files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use logd_client::{Checkpoint, Claim, Claimant, ConsumerKey, Fence, FileState, LeaseHandler, StateHandler};
use logd_tests::{Finished, log_cli};
use tempfile::TempDir;

use super::{FOUND, SOUND, Snapshot, UNCHECKED, USAGE, assert_mends, cut, flip, matters, said};

const CONSUMERS: [&str; 4] = ["a", "b.c", "d/e", "f"];

fn key(consumer: &str) -> ConsumerKey {
    ConsumerKey::new("orders".parse().expect("a topic"), consumer).expect("a key")
}

fn file(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join("default/orders").join(name)
}

/// A store with the checkpoints of four consumers.
async fn four() -> TempDir {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let state = FileState::open(folder.path()).await.expect("the store opens");
    for consumer in CONSUMERS {
        let checkpoint = Checkpoint::at("60.12".parse().expect("a position"));
        state.complete(&key(consumer), &checkpoint, Fence::NONE).await.expect("the checkpoint is stored");
    }
    folder
}

async fn stored(folder: &TempDir, consumer: &str) -> Option<String> {
    let state = FileState::open_existing(folder.path()).await.expect("the store opens");
    let found = state.get(&key(consumer)).await.expect("the checkpoint can be read");
    found.map(|checkpoint| checkpoint.next.to_string())
}

fn check(dir: &Path, arguments: &[&str]) -> Finished {
    let dir = dir.to_str().expect("the paths of tests are text");
    log_cli(&[&["state", "check", dir], arguments].concat(), b"")
}

#[tokio::test]
async fn nothing_is_found_in_a_sound_store() {
    let folder = four().await;
    let before = Snapshot::of(folder.path());
    let text = said(&check(folder.path(), &[]), SOUND);
    assert!(text.starts_with("checked 4 checkpoints, ") && text.lines().count() == 1, "{text}");
    said(&check(folder.path(), &["--repair"]), SOUND);
    assert_eq!(Snapshot::of(folder.path()), before);
}

#[tokio::test]
async fn what_is_damaged_is_set_aside_and_the_rest_stays() {
    let folder = four().await;
    flip(&file(&folder, "a.ckpt"), 40);
    cut(&file(&folder, "b.c.ckpt"), 30);
    cut(&file(&folder, "d%2Fe.ckpt"), 0);
    fs::write(file(&folder, "b.c.tmp"), "unfinished").expect("a file can be made");
    fs::write(file(&folder, "README"), "mine").expect("a file can be made");
    fs::write(folder.path().join("README"), "mine").expect("a file can be made");
    let (checked, repaired) = assert_mends(folder.path(), |arguments| check(folder.path(), arguments));
    assert!(checked.contains("3 of damage; 1 to repair; 2 noted"), "{checked}");
    assert_eq!(matters(&repaired).len(), 4);
    for name in ["a.ckpt", "b.c.ckpt", "b.c.tmp", "d%2Fe.ckpt"] {
        assert!(repaired.contains(&format!("set aside as `default/orders/{name}.aside`")), "{repaired}");
        assert!(file(&folder, &format!("{name}.aside")).is_file() && !file(&folder, name).exists());
    }
    assert!(repaired.contains("its reader begins anew"), "{repaired}");
    for consumer in CONSUMERS {
        let expected = (consumer == "f").then(|| "60.12".to_owned());
        assert_eq!(stored(&folder, consumer).await, expected, "{consumer}");
    }
    // Its reader stores again, and the name of the next damage is free.
    let state = FileState::open(folder.path()).await.expect("the store opens");
    let checkpoint = Checkpoint::at("7.0".parse().expect("a position"));
    state.complete(&key("a"), &checkpoint, Fence::NONE).await.expect("the checkpoint is stored");
    flip(&file(&folder, "a.ckpt"), 40);
    let (_, repaired) = assert_mends(folder.path(), |arguments| check(folder.path(), arguments));
    assert!(repaired.contains("set aside as `default/orders/a.ckpt.1.aside`"), "{repaired}");
}

#[tokio::test]
async fn a_checkpoint_whose_lease_is_held_stays() {
    let folder = four().await;
    let state = FileState::open(folder.path()).await.expect("the store opens");
    let claim = state.start(&key("a"), &Claimant::new("reader"), Duration::from_secs(9)).await;
    assert!(matches!(claim, Ok(Claim::Granted(_))), "{claim:?}");
    // A reader that runs is none of a check's business.
    said(&check(folder.path(), &[]), SOUND);
    flip(&file(&folder, "a.ckpt"), 40);
    let before = Snapshot::of(folder.path());
    said(&check(folder.path(), &[]), FOUND);
    let text = said(&check(folder.path(), &["--repair"]), UNCHECKED);
    assert!(text.contains("a reader holds its lease"), "{text}");
    assert_eq!(Snapshot::of(folder.path()), before);
    drop(state);
    assert_mends(folder.path(), |arguments| check(folder.path(), arguments));
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_can_be_again() {
    let folder = four().await;
    flip(&folder.path().join(".logd-state"), 3);
    assert!(FileState::open(folder.path()).await.is_err());
    let (_, repaired) = assert_mends(folder.path(), |arguments| check(folder.path(), arguments));
    assert!(repaired.contains("set aside as `.logd-state.aside`"), "{repaired}");
    for consumer in CONSUMERS {
        assert_eq!(stored(&folder, consumer).await.as_deref(), Some("60.12"));
    }
}

#[tokio::test]
async fn what_a_later_version_has_stored_cannot_be_checked() {
    let folder = four().await;
    fs::write(folder.path().join(".logd-state"), format!("logd-state-store 2 {:032}\n", 7)).expect("a file");
    let before = Snapshot::of(folder.path());
    for arguments in [&[][..], &["--repair"]] {
        let refused = check(folder.path(), arguments);
        assert!(said(&refused, UNCHECKED).is_empty());
        assert!(refused.stderr.contains("later version"), "it said:\n{}", refused.stderr);
    }
    assert_eq!(Snapshot::of(folder.path()), before);
}

#[test]
fn a_directory_of_something_else_is_no_store() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let before = Snapshot::of(folder.path());
    for arguments in [&[][..], &["--repair"]] {
        assert!(check(folder.path(), arguments).stderr.contains("no store"));
        said(&check(folder.path(), arguments), UNCHECKED);
    }
    assert_eq!(Snapshot::of(folder.path()), before);
    said(&log_cli(&["state", "check"], b""), USAGE);
}
