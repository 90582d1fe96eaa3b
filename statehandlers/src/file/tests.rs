//! The store as its users see it. `damage`: files that are not as they were written. `faults`: calls that fail.
//! `processes`: several processes, that are killed and stopped.

mod check;
mod damage;
mod faults;
mod processes;

use std::fs;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use logd_protocol::Offset;
use serde_json::Map;
use tempfile::TempDir;

use super::disk::Step;
use super::*;
use crate::checkpoint::{Anchor, Done};
use crate::position::Position;

const TTL: Duration = Duration::from_secs(1);
/// For everything that is waited for: far longer than it takes.
const BOUND: Duration = Duration::from_secs(30);

fn key(consumer: &str) -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), consumer).unwrap()
}

fn at(offset: u64) -> Checkpoint {
    Checkpoint::at(Position::at(Offset::new(offset)))
}

fn full() -> Checkpoint {
    let at = |offset, delta| Position { offset: Offset::new(offset), delta };
    Checkpoint {
        next: at(9_007_199_254_740_993, 12),
        anchor: Some(Anchor { offset: Offset::new(u64::MAX), crc: u32::MAX }),
        done: vec![Done { from: at(u64::MAX - 1, 0), to: at(u64::MAX - 1, 7) }],
        head_attempts: 3,
        user: (0..=255).collect(),
        written_at: 1_764_000_000_000,
        extra: Map::new(),
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn granted(state: &FileState, key: &ConsumerKey, claimant: &Claimant) -> Fence {
    match state.start(key, claimant, TTL).await.unwrap() {
        Claim::Granted(grant) => grant.fence,
        processing @ Claim::Processing { .. } => panic!("{processing:?}"),
    }
}

async fn is_processing(state: &FileState, key: &ConsumerKey) -> bool {
    matches!(
        state.start(key, &Claimant::new("other"), TTL).await.unwrap(),
        Claim::Processing { owner, .. } if owner == "one"
    )
}

fn kind<T: std::fmt::Debug>(result: Result<T, StateError>) -> StateErrorKind {
    result.unwrap_err().kind()
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_stored_is_read_again() {
    let folder = folder();
    let names = ["a", "a/b", "..", "ü", &"/".repeat(80), "a.ckpt"];
    let state = FileState::open(folder.path()).await.unwrap();
    for (offset, name) in (1..).zip(names) {
        let key = key(name).in_namespace(name).unwrap();
        assert_eq!(state.get(&key).await.unwrap(), None);
        let checkpoint = Checkpoint { head_attempts: offset, ..full() };
        assert_eq!(state.complete(&key, &checkpoint, Fence::NONE).await.unwrap(), Committed::Stored);
        assert_eq!(state.complete(&key, &checkpoint, Fence::NONE).await.unwrap(), Committed::Unchanged);
        let older = state.complete(&key, &at(5), Fence::NONE).await;
        assert_eq!(kind(older), StateErrorKind::Stale { stored: full().next });
    }
    drop(state);
    let state = FileState::open_existing(folder.path()).await.unwrap();
    for (offset, name) in (1..).zip(names) {
        let stored = state.get(&key(name).in_namespace(name).unwrap()).await.unwrap();
        assert_eq!(stored, Some(Checkpoint { head_attempts: offset, ..full() }));
    }
    let topic = "t".repeat(255).parse().unwrap();
    let longest = ConsumerKey::new(topic, "/".repeat(80)).unwrap().in_namespace("ü".repeat(40)).unwrap();
    granted(&state, &longest, &Claimant::new("one")).await;
    assert!(files(folder.path()).iter().all(|name| Path::new(name).extension().unwrap_or_default() != "tmp"));
}

/// Files of the first version, as they were written then.
#[tokio::test]
async fn files_of_the_first_version_are_read_and_written_alike() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/file");
    let folder = folder();
    let topic = folder.path().join("default/orders");
    fs::create_dir_all(&topic).unwrap();
    for name in [".logd-state", "default/orders/billing.ckpt", "default/orders/audit.ckpt"] {
        fs::copy(testdata.join(name), folder.path().join(name)).unwrap();
    }
    let state = FileState::open_existing(folder.path()).await.unwrap();
    assert_eq!(state.get(&key("billing")).await.unwrap(), Some(full()));
    let golden = fs::read(topic.join("billing.ckpt")).unwrap();
    assert_eq!(golden, fs::read(testdata.join("default/orders/billing.ckpt")).unwrap());
    assert_eq!(state.complete(&key("billing"), &full(), Fence::NONE).await.unwrap(), Committed::Unchanged);
    assert_eq!(fs::read(topic.join("billing.ckpt")).unwrap(), golden);

    let fence = Fence { epoch: 7, nonce: 0x0123_4567_89ab_cdef };
    let golden = fs::read(topic.join("audit.ckpt")).unwrap();
    assert_eq!(state.get(&key("audit")).await.unwrap(), Some(at(60)));
    assert_eq!(state.complete(&key("audit"), &at(60), fence).await.unwrap(), Committed::Unchanged);
    assert_eq!(fs::read(topic.join("audit.ckpt")).unwrap(), golden);
    assert_eq!(granted(&state, &key("audit"), &Claimant::new("one")).await.epoch, 8);
}

#[tokio::test]
async fn a_lease_excludes_and_ends_with_its_handler() {
    let folder = folder();
    let key = key("billing");
    let one = FileState::open(folder.path()).await.unwrap();
    let two = FileState::open(folder.path()).await.unwrap();
    let claimant = Claimant::new("one");
    let first = granted(&one, &key, &claimant).await;
    assert!(is_processing(&two, &key).await && is_processing(&one, &key).await);
    one.renew(&key, first, TTL).await.unwrap();
    two.renew(&key, first, TTL).await.unwrap();
    assert_eq!(kind(one.complete(&key, &at(1), Fence::NONE).await), StateErrorKind::Fenced);

    let again = granted(&two, &key, &claimant).await;
    assert_eq!(again.epoch, first.epoch + 1);
    assert_eq!(kind(one.complete(&key, &at(9), first).await), StateErrorKind::Fenced);
    assert_eq!(kind(one.renew(&key, first, TTL).await), StateErrorKind::Fenced);
    assert_eq!(kind(one.release(&key, first, Some(&at(9))).await), StateErrorKind::Fenced);
    two.complete(&key, &at(1), again).await.unwrap();
    assert!(is_processing(&one, &key).await);

    two.close().await.unwrap();
    assert_eq!(kind(two.get(&key).await), StateErrorKind::Invalid);
    let third = granted(&one, &key, &Claimant::new("three")).await;
    assert_eq!(third.epoch, again.epoch + 1);
    drop(one);
    let four = FileState::open(folder.path()).await.unwrap();
    let owner = four.list().await.unwrap().remove(0).owner;
    assert_eq!(owner, None, "nobody holds it");
    assert_eq!(kind(four.renew(&key, third, TTL).await), StateErrorKind::Fenced);
    four.complete(&key, &at(2), third).await.unwrap();
}

#[tokio::test]
async fn a_release_stores_and_frees_in_one_step() {
    let folder = folder();
    let key = key("billing");
    let state = FileState::open(folder.path()).await.unwrap();
    let two = FileState::open(folder.path()).await.unwrap();
    let fence = granted(&state, &key, &Claimant::new("one")).await;
    for _ in 0..2 {
        state.release(&key, fence, Some(&at(7))).await.unwrap();
    }
    let lock = fs::File::open(folder.path().join("default/orders/billing.lock")).unwrap();
    lock.try_lock().expect("nobody holds it any more");
    drop(lock);
    assert_eq!(kind(state.renew(&key, fence, TTL).await), StateErrorKind::Fenced);
    let Claim::Granted(grant) = two.start(&key, &Claimant::new("two"), TTL).await.unwrap() else { panic!() };
    assert_eq!(grant.checkpoint, Some(at(7)));
    let stale = two.release(&key, grant.fence, Some(&at(6))).await;
    assert_eq!(kind(stale), StateErrorKind::Stale { stored: at(7).next });
    let fence = granted(&state, &key, &Claimant::new("three")).await;
    two.release(&key, fence, None).await.unwrap();
    granted(&two, &key, &Claimant::new("four")).await;
}

#[tokio::test]
async fn administrators_free_leases_of_others() {
    let folder = folder();
    let key = key("billing");
    let one = FileState::open(folder.path()).await.unwrap();
    let admin = FileState::open(folder.path()).await.unwrap();
    let first = granted(&one, &key, &Claimant::new("one")).await;
    one.complete(&key, &at(9), first).await.unwrap();
    admin.reset(&key, &at(3)).await.unwrap();
    assert_eq!(kind(one.complete(&key, &at(10), first).await), StateErrorKind::Fenced);
    assert_eq!(admin.get(&key).await.unwrap(), Some(at(3)));
    let second = granted(&admin, &key, &Claimant::new("one")).await;
    assert_eq!(second.epoch, first.epoch + 2);
    assert!(is_processing(&one, &key).await);

    assert!(one.delete(&key).await.unwrap());
    assert!(!one.delete(&key).await.unwrap());
    assert_eq!(one.get(&key).await.unwrap(), None);
    assert_eq!(kind(admin.complete(&key, &at(10), second).await), StateErrorKind::Lost);
    assert_eq!(kind(admin.renew(&key, second, TTL).await), StateErrorKind::Lost);
    assert_eq!(kind(admin.release(&key, second, Some(&at(10))).await), StateErrorKind::Lost);
    assert_eq!(one.get(&key).await.unwrap(), None, "nothing was made in its place");
    granted(&one, &key, &Claimant::new("two")).await;
    assert_eq!(kind(admin.complete(&key, &at(10), second).await), StateErrorKind::Fenced);
}

#[tokio::test]
async fn a_list_has_every_key_in_order() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    let keys = [
        key("b").in_namespace("a/b").unwrap(),
        key("a"),
        key("ü"),
        ConsumerKey::new("zoo".parse().unwrap(), "a").unwrap(),
    ];
    for key in keys.iter().rev() {
        state.complete(key, &at(1), Fence::NONE).await.unwrap();
    }
    granted(&state, &keys[1], &Claimant::new("one")).await;
    for (stray, content) in [
        ("README", ""),
        ("default/README", ""),
        ("default/orders/README", ""),
        ("default/orders/%zz.ckpt", ""),
        ("default/orders/a.tmp", "half a record"),
        ("default/orders/damaged.ckpt", "logd-state 1"),
    ] {
        fs::write(folder.path().join(stray), content).unwrap();
    }
    let entries = state.list().await.unwrap();
    let listed: Vec<&ConsumerKey> = entries.iter().map(|entry| &entry.key).collect();
    let damaged = key("damaged");
    assert_eq!(listed, [&keys[0], &keys[1], &damaged, &keys[2], &keys[3]]);
    assert_eq!((entries[1].epoch, entries[1].owner.as_deref()), (1, Some("one")));
    assert_eq!(entries[2].checkpoint.as_ref().unwrap_err().kind(), StateErrorKind::Corrupt);
    for index in [0, 3, 4] {
        assert_eq!(entries[index].checkpoint.as_ref().unwrap(), &Some(at(1)));
        assert_eq!((entries[index].epoch, entries[index].owner.as_deref()), (0, None));
    }
}

#[tokio::test]
async fn a_root_that_vanishes_is_an_error_and_is_not_made_again() {
    let folder = folder();
    let root = folder.path().join("deep/er/root");
    assert_eq!(kind(FileState::open_existing(&root).await), StateErrorKind::Failed);
    assert!(!folder.path().join("deep").exists());
    let state = FileState::open(&root).await.unwrap();
    let key = key("billing");
    let fence = granted(&state, &key, &Claimant::new("one")).await;
    let other = key.clone().in_namespace("other").unwrap();

    // Gone, then empty as an unmounted file system is, then another store.
    fs::rename(&root, folder.path().join("kept")).unwrap();
    for round in 0..3 {
        for key in [&key, &other] {
            assert_eq!(kind(state.get(key).await), StateErrorKind::Failed);
            assert_eq!(kind(state.complete(key, &at(1), Fence::NONE).await), StateErrorKind::Failed);
            assert_eq!(kind(state.complete(key, &at(1), fence).await), StateErrorKind::Failed);
            assert_eq!(kind(state.start(key, &Claimant::new("two"), TTL).await), StateErrorKind::Failed);
            assert_eq!(kind(state.renew(key, fence, TTL).await), StateErrorKind::Failed);
            assert_eq!(kind(state.reset(key, &at(1)).await), StateErrorKind::Failed);
            assert_eq!(kind(state.delete(key).await), StateErrorKind::Failed);
        }
        assert_eq!(kind(state.list().await), StateErrorKind::Failed);
        match round {
            0 => {
                assert!(!root.exists());
                fs::create_dir(&root).unwrap();
            }
            1 => {
                assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
                drop(FileState::open(&root).await.unwrap());
                fs::create_dir_all(root.join("default/orders")).unwrap();
            }
            _ => {
                assert_eq!(files(&root), [".logd-state", ".write", "billing.write"]);
                fs::remove_dir_all(&root).unwrap();
            }
        }
    }
    fs::rename(folder.path().join("kept"), &root).unwrap();
    state.complete(&key, &at(1), fence).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_stored_is_invalid() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    let key = key("billing");
    let range = Done { from: at(3).next, to: at(4).next };
    let behind = Checkpoint { done: vec![range], ..at(5) };
    let long = Checkpoint { user: vec![0; Checkpoint::USER_BYTES_MAX + 1], ..at(5) };
    for checkpoint in [behind, long] {
        assert_eq!(kind(state.complete(&key, &checkpoint, Fence::NONE).await), StateErrorKind::Invalid);
        assert_eq!(kind(state.reset(&key, &checkpoint).await), StateErrorKind::Invalid);
    }
    let endless = Claimant { name: "x".repeat(frame::BYTES_MAX), id: 1 };
    assert_eq!(kind(state.start(&key, &endless, TTL).await), StateErrorKind::Invalid);
    assert_eq!(kind(state.start(&key, &Claimant::new("one"), Duration::ZERO).await), StateErrorKind::Invalid);
    assert_eq!(state.get(&key).await.unwrap(), None);
}

/// A store whose first call of a kind waits until the sender is dropped.
async fn halting_at(root: &Path, at: Step) -> (FileState, std::sync::mpsc::Sender<()>) {
    let (gate, closed) = std::sync::mpsc::channel::<()>();
    let closed = std::sync::Mutex::new(Some(closed));
    let before = move |step: Step, _: &Path| {
        let first = if step == at { closed.lock().unwrap().take() } else { None };
        if let Some(closed) = first {
            let _ = closed.recv_timeout(BOUND);
        }
        Ok(())
    };
    let disk = Disk { before: Some(Arc::new(before)) };
    (FileState::open_with(root.into(), Missing::Refuse, disk, WRITE_WAIT).await.unwrap(), gate)
}

/// Waits until no request runs.
async fn idle(state: &FileState) {
    let start = std::time::Instant::now();
    while Arc::strong_count(&state.store) > 1 {
        assert!(start.elapsed() < BOUND, "a request has no end");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_nobody_waits_for_lands_late_and_never_behind() {
    let folder = folder();
    FileState::open(folder.path()).await.unwrap();
    let key = key("billing");
    for (dropped, later) in [(1, 2), (9, 8)] {
        let (state, gate) = halting_at(folder.path(), Step::OpenLock).await;
        let checkpoint = at(dropped);
        let mut complete = state.complete(&key, &checkpoint, Fence::NONE);
        assert!(complete.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(complete);
        let other = FileState::open(folder.path()).await.unwrap();
        other.complete(&key, &at(later), Fence::NONE).await.unwrap();
        drop(gate);
        idle(&state).await;
        assert_eq!(state.get(&key).await.unwrap(), Some(at(dropped.max(later))));
    }
}

#[tokio::test]
async fn a_lease_that_nobody_waited_for_is_free() {
    let folder = folder();
    FileState::open(folder.path()).await.unwrap();
    let (state, gate) = halting_at(folder.path(), Step::Rename).await;
    let (key, claimant) = (key("billing"), Claimant::new("one"));
    let mut start = state.start(&key, &claimant, TTL);
    assert!(start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let begin = std::time::Instant::now();
    while !folder.path().join("default/orders/billing.tmp").exists() {
        assert!(begin.elapsed() < BOUND, "the lease is not granted");
        tokio::task::yield_now().await;
    }
    drop(start);
    drop(gate);
    idle(&state).await;
    assert_eq!(state.list().await.unwrap()[0].epoch, 1, "it was granted");
    assert_eq!(granted(&state, &key, &Claimant::new("two")).await.epoch, 2);
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_does_not_end_a_later_one() {
    let folder = folder();
    FileState::open(folder.path()).await.unwrap();
    let (state, gate) = halting_at(folder.path(), Step::OpenLock).await;
    let (key, claimant) = (key("billing"), Claimant::new("one"));
    let mut start = state.start(&key, &claimant, TTL);
    assert!(start.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(start);
    let fence = granted(&state, &key, &claimant).await;
    drop(gate);
    idle(&state).await;
    assert!(is_processing(&state, &key).await);
    state.complete(&key, &at(1), fence).await.unwrap();
}

#[test]
fn no_runtime_is_needed() {
    let folder = folder();
    let mut open = pin!(FileState::open(folder.path()));
    let Poll::Ready(state) = open.as_mut().poll(&mut Context::from_waker(Waker::noop())) else { panic!() };
    let state = state.unwrap();
    let key = key("billing");
    let mut get = state.get(&key);
    let poll = get.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(poll, Poll::Ready(Ok(None))));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_thirty_claimants_one_wins() {
    let folder = folder();
    let key = key("billing");
    let mut tasks = Vec::new();
    for number in 0..30 {
        let (state, key) = (FileState::open(folder.path()).await.unwrap(), key.clone());
        tasks.push(tokio::spawn(async move {
            let claim = state.start(&key, &Claimant::new(number.to_string()), TTL).await.unwrap();
            (matches!(claim, Claim::Granted(_)), state)
        }));
    }
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|(is_granted, _)| *is_granted).count(), 1);
}
