//! Appending to a topic: one writer, behind a lock.
//!
//! A batch goes to the end of the head partition with one write; when the partition is full, a new one begins. What a
//! failed write may have left behind is cut off before anything else is written. Readers see a batch when it is in the
//! file, or, where each answer is preceded by a sync, when it is synced.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use logd_protocol::BatchId;

use super::arrival::Arrival;
use super::error::{AppendError, FileError, SyncError};
use super::index::Index;
use super::layout::PartitionFile;
use super::partition::Partition;
use super::times::Recorder;
use super::writers::{Known, Writers};
use super::{LogConfig, Visibility};
use crate::disk::{Disk, File, OpenMode, is_disk_full};

/// The state of a topic's writer.
#[derive(Debug)]
pub(super) struct Writer {
    head: Arc<Partition>,
    file: Arc<dyn File>,
    /// The end of the head partition in the file, relative to its start.
    place: u64,
    /// Whether the file may have more bytes than `place`.
    has_remains: bool,
    /// Batches that are in a file but not yet seen by readers, in order.
    hidden: VecDeque<Hidden>,
    /// Files with bytes that are not synced, in the order in which they were written.
    unsynced: Vec<(Arc<Partition>, Arc<dyn File>)>,
    /// Whether the directory has names that are not synced.
    is_dir_unsynced: bool,
    /// How many batches were appended, and how many of them a sync has come past.
    batches: u64,
    batches_synced: u64,
    failed: Option<SyncError>,
    writers: Writers,
    /// By when everything that is stored has arrived, in milliseconds since 1970.
    latest: u64,
    times: Recorder,
}

#[derive(Debug)]
struct Hidden {
    partition: Arc<Partition>,
    end: u64,
    bytes: u64,
    messages: u64,
    time: Arrival,
}

/// What a sync has to do.
#[derive(Debug)]
pub(super) struct SyncWork {
    /// The offset up to which everything is synced afterwards.
    pub(super) end: u64,
    batches: u64,
    files: Vec<(Arc<Partition>, Arc<dyn File>)>,
    is_dir_unsynced: bool,
}

impl SyncWork {
    /// Syncs, without holding any lock.
    pub(super) fn run(&self, disk: &dyn Disk, dir: &Path) -> Result<(), FileError> {
        for (partition, file) in &self.files {
            file.sync().map_err(|error| FileError::new("sync", partition.path(), error))?;
        }
        if !self.is_dir_unsynced {
            return Ok(());
        }
        disk.sync_dir(dir).map_err(|error| FileError::new("sync", dir, error))
    }
}

/// A partition that was completed by a rotation.
#[derive(Debug, Clone)]
pub(super) struct Completed {
    pub(super) partition: Arc<Partition>,
    /// Kept open until the partition is sealed.
    pub(super) file: Arc<dyn File>,
    /// What was known of the writers at its end.
    pub(super) writers: Arc<[u8]>,
}

/// What an append did.
pub(super) struct Written {
    pub(super) offset: u64,
    pub(super) end: u64,
    pub(super) is_sync_due: bool,
}

impl Writer {
    /// A writer that goes on at `place` of the head partition, behind batches that arrived by `latest`.
    pub(super) fn new(
        head: Arc<Partition>,
        file: Arc<dyn File>,
        place: u64,
        writers: Writers,
        latest: u64,
        times: Recorder,
    ) -> Self {
        head.share(&file);
        Self {
            head,
            file,
            place,
            has_remains: false,
            hidden: VecDeque::new(),
            unsynced: Vec::new(),
            is_dir_unsynced: true,
            batches: 0,
            batches_synced: 0,
            failed: None,
            writers,
            latest,
            times,
        }
    }

    pub(super) const fn head(&self) -> &Arc<Partition> {
        &self.head
    }

    /// The file of the head partition.
    pub(super) fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Takes what the head partition holds for not synced.
    pub(super) fn expect_sync(&mut self) {
        self.unsynced.push((Arc::clone(&self.head), Arc::clone(&self.file)));
    }

    /// Takes a partition for synced: because it is, or because it was dropped. Its file is closed, then.
    pub(super) fn forget(&mut self, partition: &Arc<Partition>) {
        self.unsynced.retain(|(unsynced, _)| !Arc::ptr_eq(unsynced, partition));
    }

    /// The offset that the next batch will get.
    pub(super) fn end(&self) -> u64 {
        self.head.start + self.place
    }

    pub(super) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    pub(super) fn failure(&self) -> Option<SyncError> {
        self.failed.clone()
    }

    /// Whether a batch of `bytes` bytes needs a new partition.
    pub(super) fn is_full_for(&self, bytes: u64, config: &LogConfig) -> bool {
        self.place > 0 && self.place.saturating_add(bytes) > config.partition_bytes
    }

    /// What was done for a batch that is stored already; `None` for one that is not.
    pub(super) fn find(&self, id: BatchId, config: &LogConfig) -> Result<Option<Written>, AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::SyncFailed);
        }
        match self.writers.find(id) {
            Known::New => Ok(None),
            Known::Forgotten => Err(AppendError::Forgotten),
            // Where it ends is not known any more: a sync of everything comes past it.
            Known::Stored(offset) => {
                Ok(Some(Written { offset, end: self.end(), is_sync_due: self.is_sync_due(config) }))
            }
        }
    }

    /// Remembers whose batch was written.
    pub(super) fn remember(&mut self, id: BatchId, offset: u64) {
        self.writers.add(id, offset);
    }

    /// What is known of the writers, as index files have it.
    pub(super) fn encoded_writers(&self) -> Arc<[u8]> {
        self.writers.encode().into()
    }

    /// Checks that anything can be appended, and clears away what a failed write has left.
    pub(super) fn prepare(&mut self, bytes: u64) -> Result<(), AppendError> {
        if self.failed.is_some() {
            return Err(AppendError::SyncFailed);
        }
        self.end().checked_add(bytes).ok_or(AppendError::Exhausted)?;
        if self.has_remains {
            let cut = self.file.set_len(self.place);
            cut.map_err(|error| append_error("cut", self.head.path(), error))?;
            self.has_remains = false;
        }
        Ok(())
    }

    /// Begins a new partition; returns it, and the one that was completed.
    pub(super) fn rotate(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
    ) -> Result<(Arc<Partition>, Completed), AppendError> {
        let name = PartitionFile::new(self.end());
        let path = name.log(dir);
        let file = disk.open(&path, OpenMode::CreateNew);
        let file = file.map_err(|error| append_error("create", path, error))?;
        let partition = Arc::new(Partition::new(Arc::clone(disk), Arc::clone(dir), name, Index::default()));
        partition.share(&file);
        let completed = Completed {
            partition: std::mem::replace(&mut self.head, Arc::clone(&partition)),
            file: std::mem::replace(&mut self.file, file),
            writers: self.encoded_writers(),
        };
        self.times = partition.recorder();
        self.place = 0;
        self.is_dir_unsynced = true;
        Ok((partition, completed))
    }

    /// Writes a batch to the end of the head partition.
    pub(super) fn write(
        &mut self,
        batch: &[u8],
        messages: u64,
        time: u64,
        config: &LogConfig,
    ) -> Result<Written, AppendError> {
        if let Err(error) = self.file.write_all_at(batch, self.place) {
            // If the remains cannot be cut off now, they are before the next batch is written.
            self.has_remains = self.file.set_len(self.place).is_err();
            return Err(append_error("write to", self.head.path(), error));
        }
        let time = Arrival::behind(time, self.latest);
        self.latest = time.latest();
        self.times.written(self.place, time);
        let bytes = batch.len() as u64;
        let offset = self.end();
        self.place += bytes;
        let end = self.end();
        if !self.unsynced.last().is_some_and(|(last, _)| Arc::ptr_eq(last, &self.head)) {
            self.expect_sync();
        }
        match config.visibility() {
            Visibility::Written => self.head.publish(bytes, messages, time),
            Visibility::Synced => {
                let partition = Arc::clone(&self.head);
                self.hidden.push_back(Hidden { partition, end, bytes, messages, time });
            }
        }
        self.batches += 1;
        Ok(Written { offset, end, is_sync_due: self.is_sync_due(config) })
    }

    /// Until a sync has come past them, all that follow a batch that is due have to wait for one too: otherwise more
    /// than the promised number would be acknowledged and not synced.
    fn is_sync_due(&self, config: &LogConfig) -> bool {
        let unsynced = self.batches - self.batches_synced;
        config.flush_batches > 0 && unsynced >= config.flush_batches
    }

    /// Everything that is not synced, to be synced by the caller, who then says how it went.
    pub(super) fn sync_work(&mut self) -> Result<SyncWork, SyncError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        Ok(SyncWork {
            end: self.end(),
            batches: self.batches,
            files: std::mem::take(&mut self.unsynced),
            is_dir_unsynced: std::mem::take(&mut self.is_dir_unsynced),
        })
    }

    /// Lets readers see what has been synced.
    pub(super) fn synced(&mut self, work: &SyncWork) {
        self.batches_synced = self.batches_synced.max(work.batches);
        while self.hidden.front().is_some_and(|batch| batch.end <= work.end) {
            if let Some(batch) = self.hidden.pop_front() {
                batch.partition.publish(batch.bytes, batch.messages, batch.time);
            }
        }
    }

    /// Ends the writer: what the disk holds is unknown.
    pub(super) fn fail(&mut self, error: FileError) -> SyncError {
        let failed = self.failed.get_or_insert_with(|| SyncError(Arc::new(error))).clone();
        self.hidden.clear();
        failed
    }
}

fn append_error(action: &'static str, path: PathBuf, source: io::Error) -> AppendError {
    let is_full = is_disk_full(&source);
    let error = FileError::new(action, path, source);
    if is_full { AppendError::DiskFull(error) } else { AppendError::Io(error) }
}
