//! A check reads, and a repair that fails at any call leaves every record that could be read.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;

use super::super::check::{Action, run};
use super::*;

/// Two sound records, a damaged one, what is left of a write, and a marker that is none.
async fn wreck() -> TempDir {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    for consumer in ["a", "b", "c"] {
        state.complete(&key(consumer), &at(60), Fence::NONE).await.unwrap();
    }
    let topic = folder.path().join("default/orders");
    fs::write(topic.join("b.ckpt"), "damaged").unwrap();
    fs::write(topic.join("c.tmp"), "unfinished").unwrap();
    fs::write(folder.path().join(".logd-state"), "damaged").unwrap();
    folder
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                all.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    all
}

/// A file system that notes its calls and fails at one of them; with `forever`, at all that follow, too.
fn failing(at: usize, forever: bool) -> (Disk, Arc<Mutex<Vec<Step>>>) {
    let steps: Arc<Mutex<Vec<Step>>> = Arc::default();
    let noted = Arc::clone(&steps);
    let before = move |step: Step, _: &Path| {
        let mut noted = noted.lock().unwrap();
        noted.push(step);
        let is_at = if forever { noted.len() > at } else { noted.len() == at + 1 };
        if is_at { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    };
    (Disk { before: Some(Arc::new(before)) }, steps)
}

fn is_sound(root: &Path) -> bool {
    let told = run(&Disk::default(), root, Action::Look).unwrap();
    told.findings.iter().all(|one| matches!(one.fault, FileFault::Kept))
}

#[tokio::test]
async fn a_check_makes_no_call_that_changes_something() {
    let folder = wreck().await;
    let before = files(folder.path());
    let (disk, steps) = failing(usize::MAX - 1, false);
    let told = run(&disk, folder.path(), Action::Look).unwrap();
    assert_eq!((told.records, told.findings.len()), (2, 3));
    let steps = steps.lock().unwrap();
    assert!(steps.iter().all(|step| matches!(step, Step::Read | Step::Lock)), "{steps:?}");
    assert_eq!(files(folder.path()), before);
}

#[tokio::test]
async fn a_repair_that_ends_at_any_call_loses_nothing() {
    let calls = {
        let folder = wreck().await;
        let (disk, steps) = failing(usize::MAX - 1, false);
        run(&disk, folder.path(), Action::Repair).unwrap();
        assert!(is_sound(folder.path()));
        steps.lock().unwrap().len()
    };
    assert!(calls > 20, "{calls} calls");
    for (call, forever) in (0..calls).flat_map(|call| [(call, false), (call, true)]) {
        let folder = wreck().await;
        let before = files(folder.path());
        let (disk, _) = failing(call, forever);
        let told = run(&disk, folder.path(), Action::Repair);
        let is_told = told.as_ref().map_or(true, |told| {
            let is_one = |one: &FileFinding| {
                one.failure.is_some() || matches!(one.fault, FileFault::Unreadable(_) | FileFault::Foreign)
            };
            told.findings.iter().any(is_one)
        });
        let context = format!("call {call} of {calls}, forever: {forever}");
        assert!(is_told || is_sound(folder.path()), "{context}: {told:?}");
        for round in 0..2 {
            let after = files(folder.path());
            for (path, bytes) in before.iter().filter(|(_, bytes)| !bytes.is_empty()) {
                let name = path.to_str().unwrap();
                let is_kept = after
                    .iter()
                    .any(|(other, same)| other.to_str().unwrap().starts_with(name) && same == bytes);
                assert!(is_kept, "{context}, round {round}: {name} is gone");
            }
            run(&Disk::default(), folder.path(), Action::Repair).unwrap();
        }
        assert!(is_sound(folder.path()), "{context}");
        let state = FileState::open_existing(folder.path()).await.unwrap();
        for (consumer, expected) in [("a", Some(at(60))), ("b", None), ("c", Some(at(60)))] {
            assert_eq!(state.get(&key(consumer)).await.unwrap(), expected, "{context}");
        }
    }
}
