//! The store itself: blocking calls, each of which can run to its end after nobody waits for it.
//!
//! Whoever changes a record holds the lock for writing from reading the record until the new one is on the disk. So what
//! lands late compares with what is there then, in this process or another, and a record never goes back.
//!
//! A record is replaced by a temporary file that is written, synced and renamed; then the folder is synced. A failure
//! before the rename leaves the old record, and the request undone. From the rename on, it is not known what the disk
//! has: the error is ambiguous, and repeating the request writes everything again, also where the record has it already,
//! as it may be in memory only. A record is first written when the folders above it are on the disk.
//!
//! The lease is held by whoever has the lock on its file, and is written in the record: the lock says that the holder
//! lives, the record that it is not replaced. The file of a lock whose holder was replaced is removed, and a new one made.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::disk::{Disk, LockFile};
use super::frame::{self, Stored};
use super::marker::Marker;
use super::names::{self, Paths};
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, StateEntry};
use crate::key::ConsumerKey;
use crate::record::{Record, what};

/// How long a request waits for others that write the same record. They take milliseconds, unless one was stopped.
pub(super) const WRITE_WAIT: Duration = Duration::from_secs(10);
/// How long a list waits for others that write a record, to find out whether the lease's holder lives.
const LIST_WAIT: Duration = Duration::from_millis(100);
/// The longest pause between two attempts to get a lock.
const PAUSE_MAX: Duration = Duration::from_millis(16);
/// When it makes sense to ask for a lease again that somebody has: it ends with its holder, at any time, and asking is
/// cheap.
const RETRY_IN: Duration = Duration::from_millis(100);

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
    marker: Marker,
    disk: Disk,
    write_wait: Duration,
    leases: Mutex<Leases>,
}

/// What the handler holds.
#[derive(Debug, Default)]
struct Leases {
    closed: bool,
    held: HashMap<ConsumerKey, Held>,
    /// How many leases were locked so far.
    count: u64,
}

/// A lease that was granted, and its locked file.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) fence: Fence,
    _file: LockFile,
    /// The place in the order of all locks: of two for the same key, the later is the one that counts.
    number: u64,
}

/// Whether folders are made for what is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Folders {
    Make,
    Expect,
}

impl Folders {
    /// Only what comes without a fence can make a record.
    pub(super) const fn for_fence(fence: Fence) -> Self {
        if fence.is_none() { Self::Make } else { Self::Expect }
    }
}

/// A record that only we write, for as long as this is there.
struct Writing<'a> {
    store: &'a Store,
    key: &'a ConsumerKey,
    paths: Paths,
    _lock: LockFile,
}

impl Store {
    pub(super) fn new(root: PathBuf, marker: Marker, disk: Disk, write_wait: Duration) -> Self {
        Self { root, marker, disk, write_wait, leases: Mutex::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let what = format!("the checkpoint of `{key}` cannot be read");
        Ok(self.read(&Paths::new(&self.root, key), what)?.and_then(|stored| stored.record.checkpoint))
    }

    /// Changes a record. The change is kept also where a part of it failed, but no record is made by a failure.
    pub(super) fn change<T>(
        &self,
        key: &ConsumerKey,
        folders: Folders,
        change: impl FnOnce(&mut Record, bool) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let Some(writing) = self.write(key, folders)? else { return change(&mut Record::default(), false) };
        let stored = writing.read()?;
        let existed = stored.is_some();
        let mut stored = stored.unwrap_or_default();
        let before = stored.record.clone();
        let result = change(&mut stored.record, existed);
        if result.is_ok() || (existed && stored.record != before) {
            writing.replace(&stored, existed)?;
        }
        result
    }

    /// Asks for a lease. What is held with it is given to the caller: it ends if that goes nowhere. Where it would, nothing
    /// is done: it would end the lease that the claimant was granted since.
    pub(super) fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        is_awaited: impl Fn() -> bool,
    ) -> Result<(Claim, Option<Held>), StateError> {
        let Some(writing) = self.write(key, Folders::Make)? else { return Err(StateError::lost(what(key))) };
        if !is_awaited() {
            let text = format!("{}: nobody waits for the lease any more", what(key));
            return Err(StateError::new(StateErrorKind::Unavailable, text));
        }
        let stored = writing.read()?;
        let existed = stored.is_some();
        let mut stored = stored.unwrap_or_default();
        let other = stored.record.lease.as_ref().filter(|lease| lease.owner.id != claimant.id);
        let Some(file) = writing.lock_lease(other.is_some())? else {
            let owner = other.map_or_else(String::new, |lease| lease.owner.name.clone());
            return Ok((Claim::Processing { owner, retry_in: RETRY_IN }, None));
        };
        let claim = stored.record.start(key, claimant, None, 0)?;
        writing.replace(&stored, existed)?;
        Ok((claim, Some(self.held(stored.record.fence, file))))
    }

    /// Looks whether the lease is the caller's, in whichever handler.
    pub(super) fn renew(&self, key: &ConsumerKey, fence: Fence) -> Result<(), StateError> {
        let check = |stored: Option<Stored>| {
            let existed = stored.is_some();
            stored.unwrap_or_default().record.renew(key, fence, None, existed)
        };
        check(self.read(&Paths::new(&self.root, key), what(key))?)?;
        if self.leases().held.get(key).is_some_and(|held| held.fence == fence) {
            return Ok(());
        }
        let Some(writing) = self.write(key, Folders::Expect)? else {
            return Err(StateError::lost(what(key)));
        };
        check(writing.read()?)?;
        // Who has it locked has this fence: there is no later one.
        match writing.lock_lease(true)? {
            None => Ok(()),
            Some(_) => {
                let text = format!("{}: the lease has ended with its holder", what(key));
                Err(StateError::new(StateErrorKind::Fenced, text))
            }
        }
    }

    pub(super) fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        let result =
            self.change(key, Folders::Expect, |record, existed| record.release(key, fence, last, existed));
        let is_free = match &result {
            Ok(()) => true,
            Err(error) if error.kind() == StateErrorKind::Fenced => false,
            // Who has nothing more to store is done with the lease, whether the record can say so or not: whoever comes next
            // finds the lock free.
            Err(error) => last.is_none() || matches!(error.kind(), StateErrorKind::Stale { .. }),
        };
        let mut leases = self.leases();
        if is_free && leases.held.get(key).is_some_and(|held| held.fence == fence) {
            leases.held.remove(key);
        }
        result
    }

    pub(super) fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        let Some(writing) = self.write(key, Folders::Make)? else { return Err(StateError::lost(what(key))) };
        let (mut stored, existed) = match writing.read() {
            Ok(stored) => (stored.clone().unwrap_or_default(), stored.is_some()),
            Err(error) if error.is_retryable() => return Err(error),
            Err(_) => {
                self.check_root(what(key))?;
                (unreadable(), true)
            }
        };
        stored.record.reset(key, checkpoint)?;
        writing.replace(&stored, existed)
    }

    pub(super) fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        let Some(writing) = self.write(key, Folders::Expect)? else { return Ok(false) };
        let Paths { record, lease, topic, .. } = &writing.paths;
        let existed = self.disk.remove(record).map_err(|error| refused(what(key), record, error))?;
        if !existed {
            self.check_root(what(key))?;
        }
        self.disk.sync_folder(topic).map_err(|error| unknown(key, topic, error))?;
        // Only for order's sake: without a record, whoever still has this lock keeps nobody out.
        let _ = self.disk.remove(lease);
        Ok(existed)
    }

    pub(super) fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        let names = |path: &Path| {
            self.disk.names(path).map_err(|error| refused("the checkpoints cannot be listed", path, error))
        };
        self.check_root("the checkpoints cannot be listed")?;
        let mut entries = Vec::new();
        for namespace in names(&self.root)? {
            for topic in names(&self.root.join(&namespace))? {
                for file in names(&self.root.join(&namespace).join(&topic))? {
                    let key = key_of(&namespace, &topic, &file);
                    entries.extend(key.and_then(|key| self.entry(key)));
                }
            }
        }
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(entries)
    }

    pub(super) fn check_open(&self) -> Result<(), StateError> {
        if self.leases().closed { Err(closed()) } else { Ok(()) }
    }

    /// Keeps a lease for as long as the handler is there.
    pub(super) fn hold(&self, key: &ConsumerKey, held: Held) -> Result<(), StateError> {
        let mut leases = self.leases();
        if leases.closed {
            return Err(closed());
        }
        let is_later = leases.held.get(key).is_none_or(|other| other.number < held.number);
        if is_later {
            leases.held.insert(key.clone(), held);
        }
        Ok(())
    }

    pub(super) fn close(&self) {
        let mut leases = self.leases();
        leases.closed = true;
        leases.held.clear();
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        // Nothing that is done under the lock can panic half-way.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, fence: Fence, file: LockFile) -> Held {
        let mut leases = self.leases();
        leases.count = leases.count.saturating_add(1);
        Held { fence, _file: file, number: leases.count }
    }

    /// `None` when there is no entry any more.
    fn entry(&self, key: ConsumerKey) -> Option<StateEntry> {
        let paths = Paths::new(&self.root, &key);
        let text = format!("the checkpoint of `{key}` cannot be read");
        let record = match self.read(&paths, text).transpose()? {
            Ok(stored) => stored.record,
            Err(error) => return Some(StateEntry { key, checkpoint: Err(error), epoch: 0, owner: None }),
        };
        let owner = record.lease.filter(|_| self.is_held(&paths)).map(|lease| lease.owner.name);
        Some(StateEntry { key, checkpoint: Ok(record.checkpoint), epoch: record.fence.epoch, owner })
    }

    /// Whether the holder of a lease lives; if that cannot be found out, it is taken to.
    fn is_held(&self, paths: &Paths) -> bool {
        let probe = || -> io::Result<bool> {
            let write = self.disk.open_lock(&paths.write)?;
            if !self.lock(&write, &paths.write, LIST_WAIT)? {
                return Ok(true);
            }
            let lease = self.disk.open_lock(&paths.lease)?;
            Ok(!self.disk.try_lock(&lease, &paths.lease)?)
        };
        probe().unwrap_or(true)
    }

    /// What is stored; `None` only if nothing is, in a root that is the one that was opened.
    fn read(&self, paths: &Paths, what: impl fmt::Display) -> Result<Option<Stored>, StateError> {
        let path = &paths.record;
        match self.disk.read(path, frame::BYTES_MAX) {
            Ok(Some(file)) => frame::decode(&file)
                .map(Some)
                .map_err(|error| StateError::body(format!("{what}: `{}`", path.display()), error)),
            Ok(None) => self.check_root(what).map(|()| None),
            Err(error) => Err(refused(what, path, error)),
        }
    }

    fn check_root(&self, what: impl fmt::Display) -> Result<(), StateError> {
        let what = format_args!("{what}: it may not be the folder that was opened");
        self.marker.check(&self.disk, &self.root).map_err(|error| refused(what, &self.root, error))
    }

    /// Waits until nobody else writes the record. `None` when there is no folder for it, nor was one to be made.
    fn write<'a>(
        &'a self,
        key: &'a ConsumerKey,
        folders: Folders,
    ) -> Result<Option<Writing<'a>>, StateError> {
        let paths = Paths::new(&self.root, key);
        let refuse = |path: &Path| {
            let path = path.to_owned();
            move |error| refused(what(key), &path, error)
        };
        let lock = match self.disk.open_lock(&paths.write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_root(what(key))?;
                if folders == Folders::Expect {
                    return Ok(None);
                }
                self.disk.make_folder(&paths.namespace).map_err(refuse(&paths.namespace))?;
                self.disk.make_folder(&paths.topic).map_err(refuse(&paths.topic))?;
                self.disk.open_lock(&paths.write)
            }
            result => result,
        };
        let lock = lock.map_err(refuse(&paths.write))?;
        if !self.lock(&lock, &paths.write, self.write_wait).map_err(refuse(&paths.write))? {
            let text =
                format!("{}: another request has been writing it for `{:?}`", what(key), self.write_wait);
            return Err(StateError::new(StateErrorKind::Unavailable, text));
        }
        Ok(Some(Writing { store: self, key, paths, _lock: lock }))
    }

    /// Asked again and again, as the system's way of waiting for a lock has no end.
    fn lock(&self, file: &LockFile, path: &Path, wait: Duration) -> io::Result<bool> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(1);
        while !self.disk.try_lock(file, path)? {
            if start.elapsed() >= wait {
                return Ok(false);
            }
            thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        Ok(true)
    }
}

impl Writing<'_> {
    fn read(&self) -> Result<Option<Stored>, StateError> {
        self.store.read(&self.paths, what(self.key))
    }

    fn replace(&self, stored: &Stored, existed: bool) -> Result<(), StateError> {
        let Self { store: Store { disk, root, .. }, key, paths, .. } = self;
        let Paths { namespace, topic, record, temporary, .. } = paths;
        let file = frame::encode(stored).map_err(|error| StateError::body(what(key), error))?;
        if file.len() > frame::BYTES_MAX {
            let text = format!(
                "{}: it has `{}` bytes, at most `{}` can be stored",
                what(key),
                file.len(),
                frame::BYTES_MAX
            );
            return Err(StateError::new(StateErrorKind::Invalid, text));
        }
        if !existed {
            for folder in [root, namespace] {
                disk.sync_folder(folder).map_err(|error| refused(what(key), folder, error))?;
            }
        }
        let undone = |path: &Path, error| {
            // It would be removed by the next write, too, and takes room until then.
            let _ = disk.remove(temporary);
            refused(what(key), path, error)
        };
        disk.write_new(temporary, &file).map_err(|error| undone(temporary, error))?;
        match disk.rename(temporary, record) {
            Err(error) if is_refusal(&error) => return Err(undone(record, error)),
            result => result.map_err(|error| unknown(key, record, error))?,
        }
        disk.sync_folder(topic).map_err(|error| unknown(key, topic, error))
    }

    /// Locks the lease. `None` when it is locked and `respected`; otherwise the lock is worth nothing, and is replaced.
    fn lock_lease(&self, respected: bool) -> Result<Option<LockFile>, StateError> {
        let Self { store: Store { disk, .. }, key, paths: Paths { lease, .. }, .. } = self;
        let refuse = |error| refused(what(key), lease, error);
        let file = disk.open_lock(lease).map_err(refuse)?;
        if disk.try_lock(&file, lease).map_err(refuse)? {
            return Ok(Some(file));
        }
        if respected {
            return Ok(None);
        }
        disk.remove(lease).map_err(refuse)?;
        let file = disk.open_lock(lease).map_err(refuse)?;
        if disk.try_lock(&file, lease).map_err(refuse)? {
            return Ok(Some(file));
        }
        let text = format!("{}: somebody else has locked `{}`", what(key), lease.display());
        Err(StateError::new(StateErrorKind::Unavailable, text))
    }
}

pub(super) fn key_of(namespace: &str, topic: &str, file: &str) -> Option<ConsumerKey> {
    let topic = names::decode(topic)?.parse().ok()?;
    let key = ConsumerKey::new(topic, names::consumer(file)?).ok()?;
    key.in_namespace(names::decode(namespace)?).ok()
}

/// In place of a record whose epoch nobody knows: leases are granted less than once a second, so the time is behind it.
fn unreadable() -> Stored {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fence = Fence { epoch: since.as_secs(), nonce: 0 };
    Stored { record: Record { fence, ..Record::default() }, ..Stored::default() }
}

fn closed() -> StateError {
    StateError::new(StateErrorKind::Invalid, "the handler is closed")
}

/// A call failed that has left the record as it was.
pub(super) fn refused(what: impl fmt::Display, path: &Path, error: io::Error) -> StateError {
    let kind = match error.kind() {
        io::ErrorKind::Interrupted
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::TimedOut
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::OutOfMemory => StateErrorKind::Unavailable,
        // The process, or the system, has too many open files for now.
        _ if cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24)) => StateErrorKind::Unavailable,
        _ => StateErrorKind::Failed,
    };
    StateError::caused(kind, format!("{what}: `{}`", path.display()), error)
}

/// A call failed that may have replaced the record.
fn unknown(key: &ConsumerKey, path: &Path, error: io::Error) -> StateError {
    let text = format!("it is not known whether the checkpoint of `{key}` was changed: `{}`", path.display());
    StateError::caused(StateErrorKind::Ambiguous, text, error)
}

/// Whether a rename failed before anything was done.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{
        IsADirectory, NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    matches!(
        error.kind(),
        IsADirectory
            | NotADirectory
            | NotFound
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
    )
}
