//! A partition: a file of batches, and its index.
//!
//! Readers share a partition and never wait for its writer: the writer takes the index's lock only to add what is
//! already in the file, and a reader only to look things up, never while it reads. The file of the head partition stays
//! open; the others are opened for a read and closed with the last one, so a dropped partition is read to its end by
//! those who have begun, and no descriptor is left behind.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::UNIX_EPOCH;

use logd_protocol::BatchId;

use super::arrival::Arrival;
use super::error::IndexError;
use super::index::{Header, Index, Mark};
use super::layout::PartitionFile;
use super::scan::scan;
use super::times::{Recorder, Times};
use super::writers::Writers;
use crate::disk::{Disk, File, OpenMode};
use crate::throttle::Throttle;

/// The largest index file that is read; a larger one is taken for damaged. It covers 256 GiB of log.
const INDEX_BYTES_MAX: u64 = 128 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Partition {
    /// The offset of the first batch.
    pub(super) start: u64,
    name: PartitionFile,
    dir: Arc<Path>,
    disk: Arc<dyn Disk>,
    index: RwLock<State>,
    file: Mutex<Option<Weak<dyn File>>>,
    /// For an index that is made anew, which a file that cannot be read makes be tried with every READ.
    rebuilds: Throttle,
}

/// An index that may not have been read yet.
#[derive(Debug)]
enum State {
    Loaded(Index),
    OnDisk(Mark),
}

impl Partition {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: Arc<Path>, name: PartitionFile, index: Index) -> Self {
        Self::with(disk, dir, name, State::Loaded(index))
    }

    /// A partition that is complete, synced and has an index file whose header says `end`.
    pub(super) fn sealed(disk: Arc<dyn Disk>, dir: Arc<Path>, name: PartitionFile, end: Mark) -> Self {
        Self::with(disk, dir, name, State::OnDisk(end))
    }

    fn with(disk: Arc<dyn Disk>, dir: Arc<Path>, name: PartitionFile, state: State) -> Self {
        let (index, file) = (RwLock::new(state), Mutex::new(None));
        Self { start: name.start, name, dir, disk, index, file, rebuilds: Throttle::default() }
    }

    /// The file.
    pub(super) fn path(&self) -> PathBuf {
        self.name.log(&self.dir)
    }

    /// What readers can see: the end, relative to the partition's start, and what it holds.
    pub(super) fn end(&self) -> Mark {
        match &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            State::Loaded(index) => index.end(),
            State::OnDisk(end) => *end,
        }
    }

    /// Lets readers see a batch that is in the file.
    pub(super) fn publish(&self, bytes: u64, messages: u64, time: Arrival) {
        if let State::Loaded(index) = &mut *self.index.write().unwrap_or_else(PoisonError::into_inner) {
            index.push(bytes, messages, time);
        }
    }

    /// The open file: shared by all who read at the same time.
    pub(super) fn file(&self) -> io::Result<Arc<dyn File>> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = slot.as_ref().and_then(Weak::upgrade) {
            return Ok(file);
        }
        let file = self.disk.open(&self.path(), OpenMode::Read)?;
        *slot = Some(Arc::downgrade(&file));
        Ok(file)
    }

    /// Readers use `file` as long as the caller keeps it.
    pub(super) fn share(&self, file: &Arc<dyn File>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(file));
    }

    /// Looks something up in the index, which is read from its file if it has not been yet.
    pub(super) fn look_up<T>(&self, look: impl Fn(&Index) -> T) -> io::Result<T> {
        if let State::Loaded(index) = &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(look(index));
        }
        let mut state = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let end = match &*state {
            State::Loaded(index) => return Ok(look(index)),
            State::OnDisk(end) => *end,
        };
        let index = match self.read_index() {
            Ok((index, _)) if index.end() == end => index,
            Ok(_) | Err(_) => self.rebuilt(end)?,
        };
        let found = look(&index);
        *state = State::Loaded(index);
        Ok(found)
    }

    /// Makes the index anew from the batches that readers can see. Readers of this partition wait, and its writer.
    pub(super) fn rebuild(&self) -> io::Result<()> {
        let mut state = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let end = match &*state {
            State::Loaded(index) => index.end(),
            State::OnDisk(end) => *end,
        };
        *state = State::Loaded(self.rebuilt(end)?);
        Ok(())
    }

    fn rebuilt(&self, end: Mark) -> io::Result<Index> {
        if let Some(held_back) = self.rebuilds.pass() {
            tracing::warn!(partition = %self.path().display(), held_back, "the index does not fit the partition: it is made anew");
        }
        // The next open makes it anew, too, and reports what is damaged.
        self.remove_index()?;
        self.scanned(end.place, end.time.latest(), |_, _| {})
    }

    /// The index of the first `bytes` bytes, which are all there will be: what is no batch at their end is a hole.
    /// Batches whose times are not known count as no earlier than `latest`. Those with an identity are told to `found`,
    /// with their offsets.
    pub(super) fn scanned(
        &self,
        bytes: u64,
        latest: u64,
        mut found: impl FnMut(BatchId, u64),
    ) -> io::Result<Index> {
        let file = self.file()?;
        let found = |id, place| found(id, self.start + place);
        let mut index =
            scan(&*file, Index::default(), bytes, &self.times(&*file)?.behind(latest), found)?.index;
        if index.end().place < bytes {
            index.push_hole(bytes);
        }
        Ok(index)
    }

    /// What is known of the times of the partition, whose file is `file`, without its index.
    pub(super) fn times(&self, file: &dyn File) -> io::Result<Times> {
        let path = self.name.times(&self.dir);
        Ok(Times::read(&*self.disk, &path, self.start, modified_millis(file)?))
    }

    /// A recorder of the partition's times, which has none yet.
    pub(super) fn recorder(&self) -> Recorder {
        Recorder::new(Arc::clone(&self.disk), self.name.times(&self.dir), self.start)
    }

    /// Whether the partition, whose file has `bytes` bytes, ends where the next one begins: by its length, or by its
    /// index, which knows what is missing.
    pub(super) fn leads_to(&self, bytes: u64, next: u64) -> bool {
        let ends_at = |place| self.start.checked_add(place) == Some(next);
        ends_at(bytes) || self.read_header().is_ok_and(|header| ends_at(header.end.place))
    }

    /// The index file's header, if there is a valid index file.
    pub(super) fn read_header(&self) -> Result<Header, IndexError> {
        let mut bytes = [0; Header::BYTES];
        let read = self.open_index()?.read_full_at(&mut bytes, 0)?;
        Header::decode(bytes.get(..read).unwrap_or_default(), self.start)
    }

    /// The index file, if there is a valid one.
    pub(super) fn read_index(&self) -> Result<(Index, Writers), IndexError> {
        let file = self.open_index()?;
        let length = file.len()?;
        if length > INDEX_BYTES_MAX {
            return Err(IndexError::Damaged);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = file.read_full_at(&mut bytes, 0)?;
        Index::decode(bytes.get(..read).unwrap_or_default(), self.start)
    }

    fn open_index(&self) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.name.index(&self.dir), OpenMode::Read)
    }

    /// Removes the index file, because it is not believed and may be one day, when the partition has grown.
    pub(super) fn remove_index(&self) -> io::Result<()> {
        remove_if_there(&*self.disk, &self.name.index(&self.dir))
    }

    /// Writes the index file, unless the partition has grown beyond `end`, up to which it must be synced. `writers` is
    /// what is known of the writers at the partition's end. The file's name survives a power cut when the directory is
    /// synced.
    pub(super) fn write_index(&self, end: u64, writers: &[u8]) -> io::Result<()> {
        let bytes = match &*self.index.read().unwrap_or_else(PoisonError::into_inner) {
            State::Loaded(index) if self.start + index.end().place <= end => {
                index.encode(self.start, writers)
            }
            State::Loaded(_) | State::OnDisk(_) => return Ok(()),
        };
        let new = self.name.new_index(&self.dir);
        let written = self.write_synced(&new, &bytes);
        written.and_then(|()| self.disk.rename(&new, &self.name.index(&self.dir))).inspect_err(|_| {
            // What there is of it would take room on a disk that may be full. The next open removes it, too.
            let _ = remove_if_there(&*self.disk, &new);
        })?;
        // The index has the times now. What is left behind goes with the partition.
        if let Err(error) = remove_if_there(&*self.disk, &self.name.times(&self.dir)) {
            tracing::debug!(partition = %self.path().display(), %error, "a file of times was not removed");
        }
        Ok(())
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.open(path, OpenMode::Truncate)?;
        file.write_all_at(bytes, 0)?;
        file.sync()
    }

    /// Removes the partition's files, the batches first: an index without them is removed by the next open.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.name.all(&self.dir).iter().try_for_each(|path| remove_if_there(&*self.disk, path))
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// When a file was last written, in milliseconds since 1970.
fn modified_millis(file: &dyn File) -> io::Result<u64> {
    let since = file.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
