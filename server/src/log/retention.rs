//! What becomes of partitions that are complete: they are sealed (synced, and their indexes written), and one day
//! dropped. Both are done apart from appending, because removing a large file and syncing it take long.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::error::{FileError, SyncError};
use super::partition::Partition;
use super::writer::Completed;
use super::{Log, lock};

/// The most partitions that may wait to be sealed or removed before the writer is made to help.
const WAITING_MAX: usize = 64;

/// Partitions that wait for maintenance.
#[derive(Debug, Default)]
pub(super) struct Retired {
    unsealed: VecDeque<Completed>,
    dropped: VecDeque<Arc<Partition>>,
}

impl Retired {
    pub(super) fn is_overdue(&self) -> bool {
        self.unsealed.len() > WAITING_MAX || self.dropped.len() > WAITING_MAX
    }
}

impl Log {
    /// Puts a new head behind the partition that was completed, and drops what is too old, which it returns. The
    /// writer is locked.
    pub(super) fn add_partition(&self, head: Arc<Partition>, completed: Completed) -> Vec<Arc<Partition>> {
        {
            let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
            *partitions = partitions.iter().cloned().chain(std::iter::once(head)).collect();
        }
        lock(&self.retired).unsealed.push_back(completed);
        self.drop_oldest()
    }

    /// Takes the partitions out of view that are more than there may be. Who is reading them reads on.
    pub(super) fn drop_oldest(&self) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let surplus = partitions.len().saturating_sub(self.config.partitions.max(1));
        let Some((dropped, kept)) =
            partitions.split_at_checked(surplus).filter(|(dropped, _)| !dropped.is_empty())
        else {
            return Vec::new();
        };
        let dropped = dropped.to_vec();
        let mut retired = lock(&self.retired);
        retired
            .unsealed
            .retain(|completed| !dropped.iter().any(|gone| Arc::ptr_eq(gone, &completed.partition)));
        retired.dropped.extend(dropped.iter().cloned());
        *partitions = kept.into();
        dropped
    }

    /// Removes the files of partitions that were dropped, and seals those that are complete. Says whether all was done.
    ///
    /// What fails is said in the log and tried again the next time. A failed sync ends the topic's writer.
    pub fn maintain(&self) -> bool {
        let _one_at_a_time = lock(&self.maintaining);
        // First what makes room, which what follows may need; and again whenever a seal has taken its time.
        let mut is_done = self.remove_dropped();
        while let Some(completed) = self.next_unsealed() {
            if !self.seal(&completed) {
                return false;
            }
            is_done = is_done && self.remove_dropped();
        }
        is_done
    }

    /// Whether anything waits for [`Log::maintain`].
    pub fn is_maintenance_due(&self) -> bool {
        let retired = lock(&self.retired);
        !(retired.unsealed.is_empty() && retired.dropped.is_empty())
    }

    fn remove_dropped(&self) -> bool {
        loop {
            let Some(partition) = lock(&self.retired).dropped.front().cloned() else { return true };
            if let Err(error) = partition.remove() {
                if let Some(held_back) = self.undone.pass() {
                    tracing::warn!(dir = %self.dir.display(), partition = partition.start, %error, held_back, "a dropped partition was not removed");
                }
                return false;
            }
            lock(&self.retired).dropped.pop_front();
        }
    }

    fn next_unsealed(&self) -> Option<Completed> {
        lock(&self.retired).unsealed.front().cloned()
    }

    fn seal(&self, Completed { partition, file, writers }: &Completed) -> bool {
        if self.failure().is_some() {
            return false;
        }
        // Batches that readers cannot see yet are not in the index: a sync of the topic makes them seen.
        if self.config.flush_batches == 1 && self.sync().is_err() {
            return false;
        }
        if let Err(error) = self.sync_alone(partition.path(), || file.sync()) {
            tracing::error!(dir = %self.dir.display(), partition = partition.start, %error, "a partition is not sealed: the topic takes no more batches until a restart");
            return false;
        }
        lock(&self.writer).forget(partition);
        if !self.save_index(partition, u64::MAX, writers) {
            return false;
        }
        lock(&self.retired).unsealed.retain(|sealed| !Arc::ptr_eq(&sealed.partition, partition));
        true
    }

    /// Writes the index of a partition that is synced up to `end`, and its name; says whether it has.
    pub(super) fn save_index(&self, partition: &Partition, end: u64, writers: &[u8]) -> bool {
        if let Err(error) = partition.write_index(end, writers) {
            if let Some(held_back) = self.undone.pass() {
                tracing::warn!(dir = %self.dir.display(), partition = partition.start, %error, held_back, "an index was not written");
            }
            return false;
        }
        // This secures the names of new partitions, too: what is to be thought of them after a failure is unknown.
        self.sync_alone(self.dir.to_path_buf(), || self.disk.sync_dir(&self.dir)).is_ok()
    }

    /// Syncs what is at `path`, not beside another sync, and not after one that has failed: what could not be synced once can
    /// be synced without an error the next time, though its data are lost.
    fn sync_alone(&self, path: PathBuf, sync: impl FnOnce() -> io::Result<()>) -> Result<(), SyncError> {
        let _one_at_a_time = lock(&self.syncing);
        if let Some(failed) = self.failure() {
            return Err(failed);
        }
        sync().map_err(|error| lock(&self.writer).fail(FileError::new("sync", path, error)))
    }
}
