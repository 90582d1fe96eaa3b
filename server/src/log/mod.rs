//! The storage engine: a topic is a directory of partitions, a partition a file of batches as they were received.
//!
//! Plain synchronous code over the [`disk`](crate::disk) seam. One [`Log`] owns a topic's directory; any number of
//! threads append to it and read from it at the same time. Appending takes a lock; reading takes a [`View`], looks an
//! offset up in it and is told where the bytes are, and never waits for a write or a sync.
//!
//! What can be relied on, and after which kind of failure, is in `docs/storage.md`.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod arrival;
mod aside;
pub mod check;
mod damage;
mod error;
mod index;
mod layout;
mod partition;
mod recovery;
mod retention;
mod scan;
#[cfg(test)]
mod tests;
mod times;
mod view;
mod walk;
mod writer;
mod writers;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use logd_protocol::{CheckedBatch, Offset};

pub use self::error::{AppendError, FileError, IndexError, OpenError, ReadError, SyncError};
use self::partition::Partition;
pub use self::recovery::Finding;
use self::retention::Retired;
pub use self::view::{Extent, Moment, Piece, Selection, View};
use self::writer::{Writer, Written};
use crate::disk::Disk;
use crate::throttle::Throttle;

/// How a topic is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The most bytes of a partition; a batch that is larger has a partition to itself.
    pub partition_bytes: u64,
    /// The most partitions of a topic, at least 1; the oldest are dropped.
    pub partitions: usize,
    /// A sync is due after so many batches; 0 never asks for one, 1 hides every batch from readers until it is synced.
    pub flush_batches: u64,
}

/// When readers see a batch.
enum Visibility {
    Written,
    Synced,
}

impl LogConfig {
    const fn visibility(&self) -> Visibility {
        if self.flush_batches == 1 { Visibility::Synced } else { Visibility::Written }
    }
}

/// What an append has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch.
    pub offset: Offset,
    /// The offset of the batch that will follow.
    pub end: Offset,
    /// Whether [`Log::sync`] must have returned an offset of at least `end` before the batch is acknowledged.
    pub is_sync_due: bool,
    /// Whether a partition was completed, so that [`Log::maintain`] has something to do.
    pub is_maintenance_due: bool,
}

impl Appended {
    const fn new(written: &Written, is_maintenance_due: bool) -> Self {
        Self {
            offset: Offset::new(written.offset),
            end: Offset::new(written.end),
            is_sync_due: written.is_sync_due,
            is_maintenance_due,
        }
    }
}

/// A topic's storage.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    config: LogConfig,
    partitions: RwLock<Arc<[Arc<Partition>]>>,
    writer: Mutex<Writer>,
    /// Held by the one sync that is under way.
    syncing: Mutex<()>,
    /// What was completed or dropped and is yet to be sealed or removed.
    retired: Mutex<Retired>,
    /// Held by the one maintenance that is under way.
    maintaining: Mutex<()>,
    /// For what maintenance could not do, which is tried again with every batch that is refused.
    undone: Throttle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Opens the topic in `dir`, which is created if it is not there, and says what was found out of order in it.
    ///
    /// Nobody else may use the directory meanwhile. Partitions that are too many are out of view at once; their files
    /// are removed by the next [`Log::maintain`].
    ///
    /// # Errors
    /// [`OpenError`] names the file that cannot be used. Nothing has been lost then; and where there was no topic, what
    /// was made of one is taken away again, as far as the disk lets it be.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<Arc<Path>>,
        config: LogConfig,
    ) -> Result<(Self, Vec<Finding>), OpenError> {
        let dir = dir.into();
        let is_new = recovery::is_new(&*disk, &dir);
        let created = disk.create_dir(&dir).map_err(OpenError::io("create", &*dir));
        let opened = created.and_then(|()| recovery::open(&disk, &dir, config.flush_batches > 0));
        let opened = opened.inspect_err(|_| {
            if is_new {
                recovery::take_away(&*disk, &dir);
            }
        })?;
        let log = Self {
            disk,
            dir,
            config,
            partitions: RwLock::new(opened.partitions.into()),
            writer: Mutex::new(opened.writer),
            syncing: Mutex::new(()),
            retired: Mutex::new(Retired::default()),
            maintaining: Mutex::new(()),
            undone: Throttle::default(),
        };
        log.drop_oldest();
        Ok((log, opened.findings))
    }

    /// Appends the batch's bytes as they are. `time` is the time of arrival in milliseconds since 1970; where it is
    /// before that of an earlier batch, the batch counts as one of which only a bound is known.
    ///
    /// A batch whose identity is known to be stored is not stored again; the answer is that of the first time.
    ///
    /// # Errors
    /// [`AppendError`]; nothing of the batch is stored, and readers see what they saw before.
    pub fn append(&self, batch: &CheckedBatch<'_>, time: u64) -> Result<Appended, AppendError> {
        let bytes = batch.bytes().len() as u64;
        let id = batch.id();
        let mut writer = lock(&self.writer);
        if let Some(id) = id
            && let Some(stored) = writer.find(id, &self.config)?
        {
            return Ok(Appended::new(&stored, false));
        }
        writer.prepare(bytes)?;
        let is_maintenance_due = writer.is_full_for(bytes, &self.config);
        if is_maintenance_due {
            let (head, completed) = writer.rotate(&self.disk, &self.dir)?;
            for dropped in self.add_partition(head, completed) {
                writer.forget(&dropped);
            }
        }
        let written = writer.write(batch.bytes(), batch.messages(), time, &self.config)?;
        if let Some(id) = id {
            writer.remember(id, written.offset);
        }
        drop(writer);
        if is_maintenance_due && lock(&self.retired).is_overdue() {
            // Partitions are completed faster than they are sealed and removed: the writer helps, and so is slowed.
            self.maintain();
        }
        Ok(Appended::new(&written, is_maintenance_due))
    }

    /// Makes everything appended so far survive a power cut, and lets readers see it. Returns up to where.
    ///
    /// # Errors
    /// [`SyncError`]: what the disk holds of the batches that were not yet synced is unknown, and the topic takes no
    /// more until it is opened anew. Readers go on with what they see.
    pub fn sync(&self) -> Result<Offset, SyncError> {
        let _one_at_a_time = lock(&self.syncing);
        let work = lock(&self.writer).sync_work()?;
        let done = work.run(&*self.disk, &self.dir);
        let mut writer = lock(&self.writer);
        match done {
            Ok(()) => {
                writer.synced(&work);
                Ok(Offset::new(work.end))
            }
            Err(error) => Err(writer.fail(error)),
        }
    }

    /// Whether anything was appended since the last sync.
    pub fn is_unsynced(&self) -> bool {
        !lock(&self.writer).is_synced()
    }

    /// Whether a sync has failed, so that nothing more is appended.
    pub fn failure(&self) -> Option<SyncError> {
        lock(&self.writer).failure()
    }

    /// What readers see now.
    pub fn view(&self) -> View {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        View { partitions: Arc::clone(&partitions) }
    }

    /// Syncs everything and writes the head's index, so that the next open has nothing to check.
    ///
    /// # Errors
    /// [`SyncError`] if the sync fails. An index that cannot be written is only a slower start.
    pub fn close(&self) -> Result<(), SyncError> {
        let end = self.sync()?.as_u64();
        self.maintain();
        let writer = lock(&self.writer);
        // Nobody appends any more to a log that is closed; if somebody does, the next open reads what there is.
        let (head, writers) = (Arc::clone(writer.head()), writer.encoded_writers());
        let is_all = writer.end() == end;
        drop(writer);
        if is_all {
            self.save_index(&head, end, &writers);
        }
        Ok(())
    }
}
