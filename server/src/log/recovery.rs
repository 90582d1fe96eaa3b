//! Opening a topic's directory: what a clean shutdown, a crash, a power cut or another hand has left is made whole.
//!
//! An index file is written only when its partition has been synced up to the end that the index names. So everything
//! up to there is taken as it is, and only what follows is read and checked: nothing after a clean shutdown, the head
//! partition after a crash, and any partition without an index.
//!
//! At the end of the head partition, what is no batch was never acknowledged under a guarantee that has held: it is cut
//! off, and kept in a `.torn` file. Anywhere else it is a hole: it stays where it is, and readers are led past it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::OpenError;
use super::index::Index;
use super::layout::{self, PartitionFile};
use super::partition::{Partition, modified_millis};
use super::scan::{Scan, scan};
use super::writer::Writer;
use crate::disk::{Disk, Entry, File, OpenMode};

/// How many tails cut off at the same offset are kept apart.
const TORN_FILES_MAX: u32 = 1000;

/// How much is copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// What was found out of order when a topic was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The end of the head partition was no batch. It was cut off and is kept in a file.
    TornTail {
        /// The offset at which the topic goes on.
        offset: u64,
        /// How many bytes were cut off.
        bytes: u64,
        /// Where they are.
        kept_in: PathBuf,
    },
    /// Bytes between valid batches are no batches. They stay where they are; readers are led past them.
    Damage {
        /// The offset of the first damaged byte.
        from: u64,
        /// The offset behind the last.
        to: u64,
    },
    /// A partition had no index that could be used; it was read from end to end, and its index made anew.
    IndexRebuilt {
        /// The offset of the partition.
        partition: u64,
    },
    /// A partition file without a byte was removed.
    EmptyFileRemoved {
        /// The file.
        path: PathBuf,
    },
}

/// A topic's directory, ready.
pub(super) struct Opened {
    pub(super) partitions: Vec<Arc<Partition>>,
    pub(super) writer: Writer,
    /// Partitions whose index files have to be written.
    pub(super) unsealed: Vec<(Arc<Partition>, Arc<dyn File>)>,
    pub(super) findings: Vec<Finding>,
}

/// Opens the directory, which must be there.
///
/// `is_synced` says whether what is recovered has to survive a power cut.
pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Arc<Path>, is_synced: bool) -> Result<Opened, OpenError> {
    let mut recovery = Recovery { disk, dir, is_synced, findings: Vec::new(), unsealed: Vec::new() };
    let mut files = recovery.partition_files()?;
    let head = files.pop();
    let mut partitions = Vec::with_capacity(files.len() + 1);
    let ends = files.iter().skip(1).chain(&head).map(|next| next.name.start).collect::<Vec<_>>();
    for (file, end) in files.into_iter().zip(ends) {
        partitions.push(recovery.complete_partition(file, end)?);
    }
    let (head, file) = match head {
        Some(head) => recovery.head_partition(head)?,
        None => recovery.first_partition()?,
    };
    let place = head.end().place;
    let writer = Writer::new(Arc::clone(&head), file, place);
    partitions.push(head);
    let Recovery { findings, unsealed, .. } = recovery;
    Ok(Opened { partitions, writer, unsealed, findings })
}

/// Checks the head partition behind what its index knows. An index that what follows does not fit is not believed.
fn scan_head(file: &dyn File, known: Index, bytes: u64) -> io::Result<Scan> {
    let time = modified_millis(file)?;
    let (place, holes) = (known.end().place, known.holes().len());
    let scanned = scan(file, known, bytes, time)?;
    if place > 0 && (scanned.tail.is_some() || scanned.index.holes().len() > holes) {
        return scan(file, Index::default(), bytes, time);
    }
    Ok(scanned)
}

struct Found {
    name: PartitionFile,
    file: Arc<dyn File>,
    bytes: u64,
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Arc<Path>,
    is_synced: bool,
    findings: Vec<Finding>,
    unsealed: Vec<(Arc<Partition>, Arc<dyn File>)>,
}

impl Recovery<'_> {
    /// The partitions' files by their offsets. Empty ones are removed, but for a head that continues the one before.
    fn partition_files(&mut self) -> Result<Vec<Found>, OpenError> {
        let entries = self.disk.list(self.dir).map_err(OpenError::io("list", &**self.dir))?;
        let names = PartitionFile::among(&entries);
        self.remove_orphans(&entries, &names)?;
        if let Some((one, _)) =
            names.iter().zip(names.iter().skip(1)).find(|(one, next)| one.start == next.start)
        {
            return Err(OpenError::DuplicatePartition { dir: self.dir.to_path_buf(), start: one.start });
        }
        let last = names.len().saturating_sub(1);
        let mut found: Vec<Found> = Vec::with_capacity(names.len());
        for (number, name) in names.into_iter().enumerate() {
            let path = name.log(self.dir);
            let file = self.disk.open(&path, OpenMode::Write).map_err(OpenError::io("open", &*path))?;
            let bytes = file.len().map_err(OpenError::io("read the length of", &*path))?;
            let continues = found.last().is_none_or(|before| before.name.start + before.bytes == name.start);
            if bytes > 0 || (number == last && continues) {
                found.push(Found { name, file, bytes });
                continue;
            }
            self.disk.remove(&path).map_err(OpenError::io("remove", &*path))?;
            self.findings.push(Finding::EmptyFileRemoved { path });
        }
        Ok(found)
    }

    /// Removes indexes that were not finished, and those whose partitions are gone.
    fn remove_orphans(&self, entries: &[Entry], partitions: &[PartitionFile]) -> Result<(), OpenError> {
        let is_orphan = |entry: &&Entry| match entry.name.strip_suffix(layout::INDEX) {
            Some(stem) => !partitions.iter().any(|partition| partition.stem == stem),
            None => entry.name.ends_with(layout::NEW_INDEX),
        };
        for entry in entries.iter().filter(is_orphan) {
            let path = self.dir.join(&entry.name);
            self.disk.remove(&path).map_err(OpenError::io("remove", path))?;
        }
        Ok(())
    }

    /// A partition that another one follows, which begins at `end`.
    fn complete_partition(&mut self, found: Found, end: u64) -> Result<Arc<Partition>, OpenError> {
        let path = found.name.log(self.dir);
        let start = found.name.start;
        let bytes = end - start;
        let unread = self.partition(found.name.clone(), Index::default());
        let header = unread.read_header().map_err(OpenError::io("read the index of", &*path))?;
        if let Ok(header) = header
            && header.end.place == bytes
            && found.bytes >= bytes
        {
            let (disk, dir) = (Arc::clone(self.disk), Arc::clone(self.dir));
            return Ok(Arc::new(Partition::sealed(disk, dir, found.name, header.end)));
        }
        let index = unread.scanned(bytes).map_err(OpenError::io("read", &*path))?;
        self.findings.push(Finding::IndexRebuilt { partition: start });
        self.report_holes(start, &index);
        let partition = self.partition(found.name, index);
        self.unsealed.push((Arc::clone(&partition), found.file));
        Ok(partition)
    }

    /// The partition that is written to.
    fn head_partition(&mut self, found: Found) -> Result<(Arc<Partition>, Arc<dyn File>), OpenError> {
        let Found { name, file, bytes } = found;
        let path = name.log(self.dir);
        let start = name.start;
        let unread = self.partition(name.clone(), Index::default());
        let known = unread.read_index().map_err(OpenError::io("read the index of", &*path))?;
        let known = known.ok().filter(|index| index.end().place <= bytes).unwrap_or_default();
        let is_unchecked = known.end().place < bytes;
        let scanned = scan_head(&*file, known, bytes).map_err(OpenError::io("read", &*path))?;
        self.report_holes(start, &scanned.index);
        if let Some(place) = scanned.tail {
            self.cut_tail(&*file, &path, start, place, bytes)?;
        } else if is_unchecked && self.is_synced {
            // What a killed process has left unsynced is read from now on, so it has to be as safe as what follows.
            file.sync().map_err(OpenError::io("sync", &*path))?;
        }
        Ok((self.partition(name, scanned.index), file))
    }

    /// The first partition of a topic that has none.
    fn first_partition(&self) -> Result<(Arc<Partition>, Arc<dyn File>), OpenError> {
        let name = PartitionFile::new(0);
        let path = name.log(self.dir);
        let file = self.disk.open(&path, OpenMode::CreateNew).map_err(OpenError::io("create", path))?;
        if let Some(parent) = self.dir.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            self.disk.sync_dir(parent).map_err(OpenError::io("sync", parent))?;
        }
        Ok((self.partition(name, Index::default()), file))
    }

    fn partition(&self, name: PartitionFile, index: Index) -> Arc<Partition> {
        Arc::new(Partition::new(Arc::clone(self.disk), Arc::clone(self.dir), name, index))
    }

    fn report_holes(&mut self, start: u64, index: &Index) {
        let damage = index.holes().iter().map(|hole| Finding::Damage {
            from: start.saturating_add(hole.from),
            to: start.saturating_add(hole.to),
        });
        self.findings.extend(damage);
    }

    /// Cuts the file off at `place`, after what follows has been written to a file of its own.
    fn cut_tail(
        &mut self,
        file: &dyn File,
        path: &Path,
        start: u64,
        place: u64,
        length: u64,
    ) -> Result<(), OpenError> {
        let bytes = length - place;
        let kept_in = self
            .set_aside(file, start + place, place, length)
            .map_err(|source| OpenError::SetAside { path: path.to_path_buf(), bytes, source })?;
        file.set_len(place).and_then(|()| file.sync()).map_err(OpenError::io("cut", path))?;
        self.findings.push(Finding::TornTail { offset: start + place, bytes, kept_in });
        Ok(())
    }

    fn set_aside(&self, file: &dyn File, offset: u64, mut place: u64, end: u64) -> io::Result<PathBuf> {
        let (path, copy) = self.new_torn_file(offset)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut written = 0;
        while place < end {
            let read = file.read_full_at(&mut buffer, place)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            copy.write_all_at(bytes, written)?;
            place += read as u64;
            written += read as u64;
        }
        copy.sync()?;
        self.disk.sync_dir(self.dir)?;
        Ok(path)
    }

    fn new_torn_file(&self, offset: u64) -> io::Result<(PathBuf, Arc<dyn File>)> {
        for number in 0..TORN_FILES_MAX {
            let path = layout::torn(self.dir, offset, number);
            match self.disk.open(&path, OpenMode::CreateNew) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(file) => return Ok((path, file)),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many `.torn` files for the same offset"))
    }
}
