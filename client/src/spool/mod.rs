//! A directory for batches that could not be delivered, so that they outlive the process.
//!
//! Format. Each batch is a file of its own, `<run>-<number>.batch`, both numbers decimal with 20 digits, so that names
//! sort by age. The file's bytes are the batch's bytes as they are sent, and nothing else: a server takes them from
//! `nc` as they are. A run is the time from one [`Spool::open`] to the end of its handle; the number is the caller's.
//! `.lock` is locked for as long as a handle is there. `….batch.new` is a batch being written, `….batch.damaged` what
//! is left of one that is no longer whole, `….batch.refused` one that the server will not take, `….batch.unknown` one that
//! may be in the topic already, `….aside` what [`Spool::repair`] has taken out of use; these are never touched again.
//! Files of other names are left alone.
//!
//! What survives, step by step of [`Spool::put_all`]:
//!
//! 1. every `.new` file is written and synced. Killed or without power here: they are removed at the next open, and
//!    none of the batches is there.
//! 2. each is renamed to its final name, in the order given. Killed here: the batches renamed so far are there, whole. Without
//!    power: any of them may be, whole.
//! 3. the directory is synced. From here on all of them are there, whatever happens to the process or to the power.
//!
//! [`Spool::remove`] deletes the file, which a kill does not undo, and syncs the directory, which makes it survive a
//! power cut. A batch is therefore never lost once it is put, but one can be there again that was delivered: what is
//! sent from a spool is sent at least once.
//!
//! Failure. A put that fails takes its files away again. A failed sync does not end the handle: each batch is a file
//! that is written once, and what was put before has been synced by a call that succeeded. What cannot be read as a
//! whole batch is set aside under another name, never deleted.

mod check;
mod error;
mod file;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use logd_protocol::limits::BATCH_BYTES_MAX;
use logd_protocol::{Batch, TopicName};

pub use self::check::{SpoolCheck, SpoolFault, SpoolFinding};
pub use self::error::{Damage, SpoolError};
use self::file::Name;
pub use self::file::{Aside, SpoolKey};

/// Batches kept in a directory, oldest first, by the one process that holds it.
///
/// In memory there are only their keys and sizes: about 50 bytes a batch.
///
/// Every function does its reading and syncing before it returns, which can take as long as the disk does: call it from
/// an async task only through a thread of its own, as `tokio::task::spawn_blocking`.
///
/// ```
/// use logd_client::{BatchBuilder, Spool, TopicName};
///
/// # fn example(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
/// let (mut spool, findings) = Spool::open(dir, 64 * 1024 * 1024)?;
/// assert!(findings.damaged.is_empty());
/// let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
/// builder.push(b"hello")?;
/// if let Some(batch) = builder.finish() {
///     spool.put(1, &batch)?;
/// }
/// while let Some(spooled) = spool.first()? {
///     // Deliver `spooled.batch`, then:
///     spool.remove(spooled.key)?;
/// }
/// # Ok(())
/// # }
/// # let dir = tempfile::tempdir()?;
/// # example(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    run: u64,
    bytes_max: u64,
    kept: BTreeMap<SpoolKey, Kept>,
    bytes: u64,
    messages: u64,
    /// Held for as long as the handle is there.
    lock: File,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Closing alone does not do while a child of the process has the descriptor, as it has for a moment when it is made.
        let _ = self.lock.unlock();
    }
}

/// What is known of a batch in the directory.
#[derive(Debug, Clone, Copy)]
struct Kept {
    bytes: u64,
    messages: u64,
}

impl Kept {
    fn of(batch: &Batch) -> Self {
        Self { bytes: batch.bytes().len() as u64, messages: batch.messages() }
    }
}

/// A batch that was read from the directory, and is still there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The batch, whole and checked.
    pub batch: Batch,
    /// What [`Spool::remove`] takes.
    pub key: SpoolKey,
}

/// What [`Spool::open`] found that was not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolFindings {
    /// The files that were no whole batches, oldest first. Those that were set aside earlier are not among them.
    pub damaged: Vec<DamagedFile>,
    /// How many unfinished batches were removed: of puts that never returned.
    pub unfinished: u64,
}

/// A file that was no whole batch and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedFile {
    /// Where it is now.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
}

impl Spool {
    /// Takes the directory, which is created if it is not there, and checks every batch in it.
    ///
    /// Leftovers of puts that did not return are removed, and what is no whole batch is set aside, which the findings
    /// tell. `bytes_max` bounds the bytes of the batches kept; damaged files do not count. More than that can be there
    /// already: nothing is removed for it, but nothing can be put either.
    ///
    /// # Errors
    /// - [`SpoolError::Locked`] when another handle has the directory
    /// - [`SpoolError::NoRunLeft`] when the highest run is in use
    /// - [`SpoolError::Io`] when the directory or a file cannot be read, renamed, or synced
    pub fn open(dir: impl Into<PathBuf>, bytes_max: u64) -> Result<(Self, SpoolFindings), SpoolError> {
        let dir = dir.into();
        file::create_dir(&dir)?;
        let lock = file::lock(&dir)?;
        let names = file::names(&dir)?;
        let run_max = names.iter().map(|name| name.key().run).max().unwrap_or(0);
        let run = run_max.checked_add(1).ok_or_else(|| SpoolError::NoRunLeft { dir: dir.clone() })?;
        let mut spool = Self { dir, run, bytes_max, kept: BTreeMap::new(), bytes: 0, messages: 0, lock };
        let findings = spool.load(&names)?;
        Ok((spool, findings))
    }

    /// Reads what is in the directory, and sets aside what is damaged.
    fn load(&mut self, names: &[Name]) -> Result<SpoolFindings, SpoolError> {
        let mut findings = SpoolFindings::default();
        for name in names {
            match *name {
                Name::Aside(..) => {}
                Name::New(key) => {
                    file::remove(&key.path_new(&self.dir))?;
                    findings.unfinished += 1;
                }
                Name::Batch(key) => match file::read(&key.path(&self.dir))? {
                    Ok(batch) => self.note(key, Kept::of(&batch)),
                    Err(damage) => {
                        let path = key.path_aside(&self.dir, Aside::Damaged);
                        file::rename(&key.path(&self.dir), &path)?;
                        findings.damaged.push(DamagedFile { path, damage });
                    }
                },
            }
        }
        findings.damaged.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        // Also for what a killed process had renamed but not synced: it counts as kept from here on.
        file::sync_dir(&self.dir)?;
        Ok(findings)
    }

    /// Keeps a batch. It is safe only when this has returned `Ok`: see [`Spool::put_all`].
    ///
    /// # Errors
    /// As [`Spool::put_all`].
    pub fn put(&mut self, number: u64, batch: &Batch) -> Result<(), SpoolError> {
        self.put_all(&[(number, batch.clone())])
    }

    /// Keeps all of these batches or none, each under a number that no other batch of this run has.
    ///
    /// When it returns `Ok` they survive a kill and, on a disk that does what it says, a power cut. Until then any of
    /// them may or may not. One call for many batches is cheaper than a call for each: the directory is synced once.
    ///
    /// # Errors
    /// - [`SpoolError::Full`] when they would make the spool larger than it may be
    /// - [`SpoolError::TooLarge`] when one has more than 64 MiB
    /// - [`SpoolError::Duplicate`] when a number is taken
    /// - [`SpoolError::Io`] when the disk refuses; what was written is taken away again. Only where the disk refuses that
    ///   too, or the power fails before it is on disk, can a batch be there when the directory is next opened, and then
    ///   it is whole.
    pub fn put_all(&mut self, batches: &[(u64, Batch)]) -> Result<(), SpoolError> {
        self.accept(batches)?;
        let mut files = Vec::with_capacity(batches.len());
        let result = self.write(batches, &mut files);
        if result.is_err() {
            self.take_back(&files);
            return result;
        }
        for (number, batch) in batches {
            self.note(self.key(*number), Kept::of(batch));
        }
        Ok(())
    }

    /// Whether there is room for the batches, and every one has a key of its own.
    fn accept(&self, batches: &[(u64, Batch)]) -> Result<(), SpoolError> {
        let mut numbers: Vec<u64> = batches.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        let twice = numbers.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        });
        let taken = || numbers.iter().copied().find(|number| self.kept.contains_key(&self.key(*number)));
        if let Some(number) = twice.or_else(taken) {
            return Err(SpoolError::Duplicate { key: self.key(number) });
        }
        let mut bytes = 0_u64;
        for (_, batch) in batches {
            if batch.bytes().len() > BATCH_BYTES_MAX {
                return Err(SpoolError::TooLarge { bytes: batch.bytes().len() as u64 });
            }
            bytes = bytes.saturating_add(batch.bytes().len() as u64);
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            let (dir, bytes_kept, bytes_max) = (self.dir.clone(), self.bytes, self.bytes_max);
            return Err(SpoolError::Full { dir, bytes, bytes_kept, bytes_max });
        }
        Ok(())
    }

    /// Writes the batches, and notes in `files` the name that each has got so far.
    fn write(&self, batches: &[(u64, Batch)], files: &mut Vec<PathBuf>) -> Result<(), SpoolError> {
        for (number, batch) in batches {
            let path = self.key(*number).path_new(&self.dir);
            let mut file = File::create_new(&path).map_err(SpoolError::io("create", &path))?;
            files.push(path.clone());
            file::fill(&mut file, &path, batch.bytes())?;
        }
        for ((number, _), file) in batches.iter().zip(files) {
            let path = self.key(*number).path(&self.dir);
            file::rename(file, &path)?;
            *file = path;
        }
        file::sync_dir(&self.dir)
    }

    /// Removes the files of a put that failed. What fails here is told by the failure that is being returned: the disk.
    fn take_back(&self, files: &[PathBuf]) {
        for file in files {
            let _ = file::remove(file);
        }
        let _ = file::sync_dir(&self.dir);
    }

    /// Reads the oldest batch and checks it again; `None` when there is none. It stays until it is removed.
    ///
    /// # Errors
    /// - [`SpoolError::Damaged`] when the batch is no longer whole; it is first until it is
    ///   [set aside](Spool::set_aside)
    /// - [`SpoolError::Io`] when it cannot be read
    pub fn first(&self) -> Result<Option<Spooled>, SpoolError> {
        Ok(self.oldest(1, 0)?.pop())
    }

    /// Removes a batch, for good when this has returned `Ok`. One that is not there is no failure.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the file cannot be removed, and stays the spool's, or when the directory cannot be synced:
    /// the batch is gone then, but a power cut can bring it back.
    pub fn remove(&mut self, key: SpoolKey) -> Result<(), SpoolError> {
        if !self.kept.contains_key(&key) {
            return Ok(());
        }
        file::remove(&key.path(&self.dir))?;
        self.forget(key);
        file::sync_dir(&self.dir)
    }

    /// Reads the oldest batches, at most `count` of them, and no more than have `bytes_max` bytes together unless the first
    /// alone has. They stay until they are removed.
    ///
    /// # Errors
    /// As [`Spool::first`], about the oldest. Before another one that is damaged it stops.
    pub fn oldest(&self, count: usize, bytes_max: u64) -> Result<Vec<Spooled>, SpoolError> {
        let mut oldest = Vec::new();
        let mut bytes = 0_u64;
        for (&key, kept) in self.kept.iter().take(count) {
            bytes = bytes.saturating_add(kept.bytes);
            if !oldest.is_empty() && bytes > bytes_max {
                break;
            }
            match file::read(&key.path(&self.dir))? {
                Ok(batch) => oldest.push(Spooled { batch, key }),
                Err(damage) if oldest.is_empty() => return Err(SpoolError::Damaged { key, damage }),
                Err(_) => break,
            }
        }
        Ok(oldest)
    }

    /// Removes these batches, as [`Spool::remove`] does each, with one sync for all.
    ///
    /// # Errors
    /// As [`Spool::remove`]; the batches before the one that it names are gone then.
    pub fn remove_all(&mut self, keys: &[SpoolKey]) -> Result<(), SpoolError> {
        for key in keys.iter().copied() {
            if self.kept.contains_key(&key) {
                file::remove(&key.path(&self.dir))?;
                self.forget(key);
            }
        }
        file::sync_dir(&self.dir)
    }

    /// Removes every batch, for good when this has returned `Ok`. Damaged files stay.
    ///
    /// # Errors
    /// [`SpoolError::Io`] as [`Spool::remove`]; the batches before the one that it names are gone then.
    pub fn clear(&mut self) -> Result<(), SpoolError> {
        while let Some(key) = self.first_key() {
            file::remove(&key.path(&self.dir))?;
            self.forget(key);
        }
        file::sync_dir(&self.dir)
    }

    /// Renames a batch, so that the next one is first, and it is not sent any more. It is never deleted: giving the file
    /// its old name back, while no process has the directory, has it sent again.
    ///
    /// Returns where it is now; `None` where there is nothing to be renamed.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when it cannot be renamed, or the directory cannot be synced.
    pub fn set_aside(&mut self, key: SpoolKey, why: Aside) -> Result<Option<PathBuf>, SpoolError> {
        if !self.kept.contains_key(&key) {
            return Ok(None);
        }
        let (path, aside) = (key.path(&self.dir), key.path_aside(&self.dir, why));
        let is_there = path.symlink_metadata().is_ok();
        if is_there && file::is_same(&path, &aside) {
            // Somebody has copied it back, and its bytes are there.
            file::remove(&path)?;
        } else if is_there {
            file::rename(&path, &aside)?;
        }
        self.forget(key);
        file::sync_dir(&self.dir)?;
        Ok(is_there.then_some(aside))
    }

    /// The key that a batch put under `number` by this handle has.
    pub const fn key(&self, number: u64) -> SpoolKey {
        SpoolKey { run: self.run, number }
    }

    /// How many bytes more there is room for.
    pub const fn bytes_left(&self) -> u64 {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// The key of the oldest batch; `None` when there is none.
    pub fn first_key(&self) -> Option<SpoolKey> {
        self.kept.first_key_value().map(|(key, _)| *key)
    }

    /// How many batches are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no batch is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The bytes of the batches kept, which are those of their files.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The messages in the batches kept.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn note(&mut self, key: SpoolKey, kept: Kept) {
        self.bytes = self.bytes.saturating_add(kept.bytes);
        self.messages = self.messages.saturating_add(kept.messages);
        self.kept.insert(key, kept);
    }

    fn forget(&mut self, key: SpoolKey) {
        if let Some(kept) = self.kept.remove(&key) {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
            self.messages = self.messages.saturating_sub(kept.messages);
        }
    }
}

/// What is in a directory, by [`Spool::list`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolListing {
    /// The whole batches, oldest first.
    pub batches: Vec<ListedBatch>,
    /// The files that should be whole batches and are not, oldest first.
    pub damaged: Vec<(PathBuf, Damage)>,
    /// The files that were set aside earlier, oldest first.
    pub aside: Vec<(PathBuf, Aside)>,
}

/// A batch in a [`SpoolListing`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBatch {
    /// Which batch.
    pub key: SpoolKey,
    /// The topic that it is for.
    pub topic: TopicName,
    /// How many messages it has.
    pub messages: u64,
    /// How many bytes it has: those of its file.
    pub bytes: u64,
}

impl Spool {
    /// Looks at a directory and changes nothing in it. It does not take the lock, so that it can be called while a
    /// process uses the directory; what comes or goes meanwhile may be missing.
    ///
    /// One batch at a time is in memory.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the directory or a file in it cannot be read.
    pub fn list(dir: &Path) -> Result<SpoolListing, SpoolError> {
        let mut listing = SpoolListing::default();
        for name in file::names(dir)? {
            match name {
                Name::New(_) => {}
                Name::Aside(key, why) => listing.aside.push((key.path_aside(dir, why), why)),
                Name::Batch(key) => match file::read(&key.path(dir))? {
                    Ok(batch) => {
                        let Kept { bytes, messages } = Kept::of(&batch);
                        listing.batches.push(ListedBatch { key, topic: batch.topic(), messages, bytes });
                    }
                    // Its owner has removed it meanwhile.
                    Err(Damage::Gone) => {}
                    Err(damage) => listing.damaged.push((key.path(dir), damage)),
                },
            }
        }
        listing.batches.sort_unstable_by_key(|batch| batch.key);
        listing.damaged.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        listing.aside.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(listing)
    }
}

#[cfg(test)]
mod tests;
