//! Calls that fail, each of them once.

use std::io;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const NEVER: usize = usize::MAX;

/// A file system that fails at the call of a number, and tells what was called.
#[derive(Clone, Default)]
struct Faults {
    steps: Arc<Mutex<Vec<(Step, String)>>>,
    fail_at: Arc<AtomicUsize>,
}

impl Faults {
    fn disk(&self, kind: io::ErrorKind) -> Disk {
        let Self { steps, fail_at } = self.clone();
        fail_at.store(NEVER, Ordering::SeqCst);
        let before = move |step: Step, path: &Path| {
            let mut steps = steps.lock().unwrap();
            steps.push((step, path.file_name().unwrap_or_default().to_str().unwrap().to_owned()));
            if steps.len() == fail_at.load(Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
        };
        Disk { before: Some(Arc::new(before)) }
    }

    /// Fails at the call `number` from now on; the first is 1.
    fn fail_at(&self, number: usize) {
        self.steps.lock().unwrap().clear();
        self.fail_at.store(number, Ordering::SeqCst);
    }

    fn steps(&self) -> Vec<(Step, String)> {
        self.steps.lock().unwrap().clone()
    }
}

async fn open(faults: &Faults, root: &Path, kind: io::ErrorKind) -> FileState {
    FileState::open_with(root.into(), Missing::Make, faults.disk(kind), WRITE_WAIT).await.unwrap()
}

#[tokio::test]
async fn the_folders_are_on_the_disk_before_the_record_and_the_file_before_its_name() {
    use Step::{Create, Lock, MakeFolder, OpenLock, Read, Remove, Rename, Sync, SyncFolder, Write};
    let folder = folder();
    let faults = Faults::default();
    let state = open(&faults, folder.path(), io::ErrorKind::Other).await;
    let root = folder.path().file_name().unwrap().to_str().unwrap();
    let steps = |steps: &[(Step, &str)]| -> Vec<(Step, String)> {
        steps.iter().map(|(step, name)| (*step, (*name).to_owned())).collect()
    };
    let replace = [
        (Remove, "a.tmp"),
        (Create, "a.tmp"),
        (Write, "a.tmp"),
        (Sync, "a.tmp"),
        (Rename, "a.ckpt"),
        (SyncFolder, "orders"),
    ];
    let first = [
        (OpenLock, "a.write"),
        (Read, ".logd-state"),
        (MakeFolder, "default"),
        (MakeFolder, "orders"),
        (OpenLock, "a.write"),
        (Lock, "a.write"),
        (Read, "a.ckpt"),
        (Read, ".logd-state"),
        (SyncFolder, root),
        (SyncFolder, "default"),
    ];
    faults.fail_at(NEVER);
    state.complete(&key("a"), &at(1), Fence::NONE).await.unwrap();
    assert_eq!(faults.steps(), steps(&[&first[..], &replace].concat()));
    let later = [(OpenLock, "a.write"), (Lock, "a.write"), (Read, "a.ckpt")];
    for _ in 0..2 {
        faults.fail_at(NEVER);
        state.complete(&key("a"), &at(2), Fence::NONE).await.unwrap();
        assert_eq!(faults.steps(), steps(&[&later[..], &replace].concat()), "also where it is unchanged");
    }
}

/// The requests that change something, on a record at 5 with the lease `fence`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Request {
    Complete,
    Start,
    Release,
    Reset,
    Delete,
}

impl Request {
    async fn run(
        self,
        state: &FileState,
        key: &ConsumerKey,
        claimant: &Claimant,
        fence: Fence,
    ) -> Result<(), StateError> {
        match self {
            Self::Complete => state.complete(key, &at(9), fence).await.map(|_| ()),
            Self::Start => state.start(key, claimant, TTL).await.map(|_| ()),
            Self::Release => state.release(key, fence, Some(&at(9))).await,
            Self::Reset => state.reset(key, &at(1)).await,
            Self::Delete => state.delete(key).await.map(|_| ()),
        }
    }

    fn new_checkpoint(self) -> Option<Checkpoint> {
        match self {
            Self::Complete | Self::Release => Some(at(9)),
            Self::Start => Some(at(5)),
            Self::Reset => Some(at(1)),
            Self::Delete => None,
        }
    }
}

async fn fail_everywhere(request: Request, error: io::ErrorKind) {
    let mut failures = Vec::new();
    for number in 1.. {
        let folder = folder();
        let faults = Faults::default();
        let state = open(&faults, folder.path(), error).await;
        let (key, claimant) = (key("a"), Claimant::new("one"));
        let fence = granted(&state, &key, &claimant).await;
        state.complete(&key, &at(5), fence).await.unwrap();
        faults.fail_at(number);
        let result = request.run(&state, &key, &claimant, fence).await;
        let steps = faults.steps();
        if steps.len() < number {
            assert!(result.is_ok());
            assert!(failures.contains(&Step::SyncFolder), "{failures:?}");
            return;
        }
        faults.fail_at(NEVER);
        let failed = steps[number - 1].clone();
        let stored = state.get(&key).await.unwrap();
        match (&result, failed.0) {
            // Only tidies up.
            (Ok(()), Step::Remove) => assert_eq!((request, failed.1.as_str()), (Request::Delete, "a.lock")),
            // A reset does without what cannot be read.
            (Ok(()), Step::Read) => assert_eq!((request, failed.1.as_str()), (Request::Reset, "a.ckpt")),
            (Ok(()), _) => panic!("{request:?} was a success when {failed:?} failed"),
            (Err(error), Step::SyncFolder) => {
                assert_eq!(error.kind(), StateErrorKind::Ambiguous, "{request:?} at {failed:?}");
                assert_eq!(stored, request.new_checkpoint());
            }
            (Err(failure), step) => {
                let is_unknown = step == Step::Rename && error != io::ErrorKind::StorageFull;
                let expected = if is_unknown { StateErrorKind::Ambiguous } else { StateErrorKind::Failed };
                assert_eq!(failure.kind(), expected, "{request:?} at {failed:?}");
                assert_eq!(stored, Some(at(5)), "{request:?} at {failed:?}");
            }
        }
        request.run(&state, &key, &claimant, fence).await.unwrap();
        assert_eq!(state.get(&key).await.unwrap(), request.new_checkpoint());
        let others = FileState::open(folder.path()).await.unwrap();
        let is_held = matches!(request, Request::Complete | Request::Start);
        assert_eq!(
            is_held,
            matches!(others.start(&key, &Claimant::new("two"), TTL).await.unwrap(), Claim::Processing { .. })
        );
        failures.push(failed.0);
    }
}

#[tokio::test]
async fn every_call_fails_once_and_nothing_is_lost_or_told_too_early() {
    for request in [Request::Complete, Request::Start, Request::Release, Request::Reset, Request::Delete] {
        for error in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            fail_everywhere(request, error).await;
        }
    }
}

#[tokio::test]
async fn first_writes_reads_and_opening_fail_at_every_call() {
    for number in 1.. {
        let folder = folder();
        let root = folder.path().join("a/b");
        let faults = Faults::default();
        let disk = faults.disk(io::ErrorKind::Other);
        faults.fail_at(number);
        let open = FileState::open_with(root.clone(), Missing::Make, disk, WRITE_WAIT).await;
        if faults.steps().len() < number {
            open.unwrap();
            break;
        }
        assert_eq!(kind(open), StateErrorKind::Failed);
        FileState::open(&root).await.unwrap();
    }
    for number in 1.. {
        let folder = folder();
        let faults = Faults::default();
        let state = open(&faults, folder.path(), io::ErrorKind::Other).await;
        faults.fail_at(number);
        let complete = state.complete(&key("a"), &at(1), Fence::NONE).await;
        let is_over = faults.steps().len() < number;
        assert_eq!(is_over, complete.is_ok());
        faults.fail_at(NEVER);
        state.complete(&key("a"), &at(1), Fence::NONE).await.unwrap();
        if is_over {
            break;
        }
    }
    let folder = folder();
    let faults = Faults::default();
    let state = open(&faults, folder.path(), io::ErrorKind::TimedOut).await;
    let fence = granted(&state, &key("a"), &Claimant::new("one")).await;
    faults.fail_at(1);
    assert_eq!(kind(state.get(&key("a")).await), StateErrorKind::Unavailable);
    faults.fail_at(2);
    assert_eq!(kind(state.get(&key("b")).await), StateErrorKind::Unavailable, "not none");
    faults.fail_at(1);
    assert_eq!(kind(state.renew(&key("a"), fence, TTL).await), StateErrorKind::Unavailable);
    for number in 1.. {
        faults.fail_at(number);
        let entries = state.list().await;
        if faults.steps().len() < number {
            assert_eq!(entries.unwrap()[0].owner.as_deref(), Some("one"));
            break;
        }
        match entries {
            Err(error) => assert_eq!(error.kind(), StateErrorKind::Unavailable),
            Ok(entries) => assert!(entries[0].checkpoint.is_err() || entries[0].owner.is_some()),
        }
    }
}

#[tokio::test]
async fn what_a_crash_has_left_is_not_read_and_goes_with_the_next_write() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    state.complete(&key("a"), &at(1), Fence::NONE).await.unwrap();
    let record = folder.path().join("default/orders/a.ckpt");
    let orphan = folder.path().join("default/orders/a.tmp");
    fs::copy(&record, &orphan).unwrap();
    fs::remove_file(&record).unwrap();
    assert_eq!(state.get(&key("a")).await.unwrap(), None);
    fs::write(&orphan, "half a record").unwrap();
    state.complete(&key("a"), &at(2), Fence::NONE).await.unwrap();
    assert!(!orphan.exists());
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(at(2)));
}

/// A mounted tmpfs that is unmounted with the value.
struct Tmpfs(TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Result<Self, String> {
        let folder = folder();
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(Self(folder))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into())
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_keeps_what_was_there() {
    let tmpfs = match Tmpfs::mount("size=64k") {
        Ok(tmpfs) => tmpfs,
        Err(error) => {
            return eprintln!("NOT TESTED: no file system to run full can be mounted here: {error}");
        }
    };
    let root = tmpfs.0.path();
    let state = FileState::open(root).await.unwrap();
    let user = |offset| Checkpoint { user: vec![7; Checkpoint::USER_BYTES_MAX], ..at(offset) };
    state.complete(&key("a"), &user(1), Fence::NONE).await.unwrap();
    let ballast = root.join("ballast");
    let mut size = 64 * 1024;
    while size > 0 {
        // As much as there is room for.
        let mut all = fs::read(&ballast).unwrap_or_default();
        all.resize(all.len() + size, 0);
        if fs::write(&ballast, &all).is_err() {
            all.truncate(all.len() - size);
            fs::write(&ballast, &all).unwrap();
            size /= 2;
        }
    }
    assert_eq!(kind(state.complete(&key("a"), &user(2), Fence::NONE).await), StateErrorKind::Failed);
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(user(1)));
    assert_eq!(kind(state.complete(&key("b"), &user(2), Fence::NONE).await), StateErrorKind::Failed);
    assert_eq!(state.get(&key("b")).await.unwrap(), None);
    fs::remove_file(&ballast).unwrap();
    state.complete(&key("a"), &user(2), Fence::NONE).await.unwrap();
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(user(2)));
}
