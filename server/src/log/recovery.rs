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

use super::aside::{self, Stretch};
use super::error::OpenError;
use super::index::{Hole, Index, Mark};
use super::layout::{self, CompanionName, PartitionFile};
use super::partition::Partition;
use super::scan::{Scan, scan};
use super::times::Times;
use super::writer::Writer;
use super::writers::Writers;
use crate::disk::{Disk, Entry, File, OpenMode};

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
    pub(super) findings: Vec<Finding>,
}

/// Opens the directory, which must be there.
///
/// `is_synced` says whether what is recovered has to survive a power cut from now on.
pub(super) fn open(disk: &Arc<dyn Disk>, dir: &Arc<Path>, is_synced: bool) -> Result<Opened, OpenError> {
    let mut recovery = Recovery {
        disk,
        dir,
        is_synced,
        findings: Vec::new(),
        writers: Source::Known(Writers::default()),
        latest: 0,
    };
    let mut files = recovery.partition_files()?;
    let head = files.pop();
    let mut partitions = Vec::with_capacity(files.len() + 1);
    let ends = files.iter().skip(1).chain(&head).map(|next| next.name.start).collect::<Vec<_>>();
    for (file, end) in files.into_iter().zip(ends) {
        partitions.push(recovery.complete_partition(&file, end)?);
    }
    let writer = match head {
        Some(head) => recovery.head_partition(head)?,
        None => recovery.first_partition()?,
    };
    recovery.sync_names()?;
    partitions.push(Arc::clone(writer.head()));
    Ok(Opened { partitions, writer, findings: recovery.findings })
}

/// Whether nothing of a topic is there yet, not even its directory.
pub(super) fn is_new(disk: &dyn Disk, dir: &Path) -> bool {
    disk.list(dir).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Takes away what was made of a topic that could not be created. Otherwise the next start would find a topic, without
/// batches, that nobody was told of. What the disk does not let be taken away stays.
pub(super) fn take_away(disk: &dyn Disk, dir: &Path) {
    // The partition may not be there yet.
    let _ = disk.remove(&PartitionFile::new(0).log(dir));
    if disk.remove_dir(dir).is_ok()
        && let Some(parent) = dir.parent()
    {
        let _ = sync_dir(disk, parent);
    }
}

/// Secures the names in a directory, whose path may be that of the current one.
fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    disk.sync_dir(dir).map_err(OpenError::io("sync", dir))
}

/// What the head partition holds.
struct Head {
    scan: Scan,
    writers: Writers,
    /// Whether it was found by reading all of the file, because there is no index that fits it.
    is_read_anew: bool,
}

/// Where it is said what is known of the writers.
enum Source {
    Known(Writers),
    /// The index file of a partition.
    Index(Arc<Partition>),
}

/// A partition's file. It is not kept open: there may be more of them than a process can have files.
struct Found {
    name: PartitionFile,
    bytes: u64,
}

struct Recovery<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Arc<Path>,
    is_synced: bool,
    findings: Vec<Finding>,
    /// What is known of the writers at the end of the partitions that were dealt with.
    writers: Source,
    /// By when the batches of these partitions arrived, in milliseconds since 1970.
    latest: u64,
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
            let file = self.disk.open(&path, OpenMode::Read).map_err(OpenError::io("open", &*path))?;
            let bytes = file.len().map_err(OpenError::io("read the length of", &*path))?;
            let continues = |before: &Found| {
                self.partition(before.name.clone(), Index::default()).leads_to(before.bytes, name.start)
            };
            if bytes > 0 || (number == last && found.last().is_none_or(continues)) {
                found.push(Found { name, bytes });
                continue;
            }
            self.disk.remove(&path).map_err(OpenError::io("remove", &*path))?;
            self.findings.push(Finding::EmptyFileRemoved { path });
        }
        Ok(found)
    }

    /// Removes indexes that were not finished, and indexes and times whose partitions are gone.
    fn remove_orphans(&self, entries: &[Entry], partitions: &[PartitionFile]) -> Result<(), OpenError> {
        let is_orphan = |entry: &&Entry| match layout::companion_name(&entry.name) {
            Some(CompanionName::Finished(stem)) => !partitions.iter().any(|partition| partition.stem == stem),
            Some(CompanionName::New) => true,
            None => false,
        };
        for entry in entries.iter().filter(|entry| !entry.is_dir).filter(is_orphan) {
            let path = self.dir.join(&entry.name);
            self.disk.remove(&path).map_err(OpenError::io("remove", path))?;
        }
        Ok(())
    }

    /// A partition that another one follows, which begins at `end`.
    fn complete_partition(&mut self, found: &Found, end: u64) -> Result<Arc<Partition>, OpenError> {
        let path = found.name.log(self.dir);
        let start = found.name.start;
        let bytes = end - start;
        let partition = self.partition(found.name.clone(), Index::default());
        if let Ok(header) = partition.read_header()
            && header.end.place == bytes
            && (found.bytes >= bytes || is_known_short(&partition, found.bytes, bytes))
        {
            let (disk, dir) = (Arc::clone(self.disk), Arc::clone(self.dir));
            let partition = Arc::new(Partition::sealed(disk, dir, found.name.clone(), header.end));
            self.writers = Source::Index(Arc::clone(&partition));
            self.passed(header.end);
            return Ok(partition);
        }
        let mut writers = self.take_writers();
        let index = partition
            .scanned(bytes, self.latest, |id, offset| writers.add(id, offset))
            .map_err(OpenError::io("read", &*path))?;
        self.findings.push(Finding::IndexRebuilt { partition: start });
        self.report_holes(start, &index);
        let partition = self.partition(found.name.clone(), index);
        let file = self.disk.open(&path, OpenMode::Write).map_err(OpenError::io("open", &*path))?;
        file.sync().map_err(OpenError::io("sync", &*path))?;
        if let Err(error) = partition.write_index(end, &writers.encode()) {
            tracing::warn!(partition = %path.display(), %error, "an index was not written: the next start reads the partition again");
        }
        self.writers = Source::Known(writers);
        self.passed(partition.end());
        Ok(partition)
    }

    /// Notes by when the batches of a partition arrived that ends so.
    fn passed(&mut self, end: Mark) {
        if end.batches > 0 {
            self.latest = end.time.latest();
        }
    }

    /// What is known of the writers at the end of the partitions that were dealt with.
    fn take_writers(&mut self) -> Writers {
        match std::mem::replace(&mut self.writers, Source::Known(Writers::default())) {
            Source::Known(writers) => writers,
            Source::Index(partition) => partition.read_index().map_or_else(
                |error| {
                    tracing::warn!(dir = %self.dir.display(), partition = partition.start, %error, "which batches the writers had sent before is not known: one that is sent again would be stored again");
                    Writers::default()
                },
                |(_, writers)| writers,
            ),
        }
    }

    /// Checks the head partition behind what its index knows. An index that what follows does not fit is not believed.
    fn scan_head(
        &mut self,
        file: &dyn File,
        known: Option<(Index, Writers)>,
        start: u64,
        bytes: u64,
        times: &Times,
    ) -> io::Result<Head> {
        if let Some((known, mut writers)) = known {
            let holes = known.holes().len();
            let scan = scan(file, known, bytes, times, |id, place| writers.add(id, start + place))?;
            if scan.tail.is_none() && scan.index.holes().len() == holes {
                return Ok(Head { scan, writers, is_read_anew: false });
            }
        }
        let mut writers = self.take_writers();
        let scan = scan(file, Index::default(), bytes, times, |id, place| writers.add(id, start + place))?;
        Ok(Head { scan, writers, is_read_anew: true })
    }

    /// The partition that is written to.
    fn head_partition(&mut self, found: Found) -> Result<Writer, OpenError> {
        let Found { name, bytes } = found;
        let path = name.log(self.dir);
        let start = name.start;
        if start.checked_add(bytes).is_none() {
            let error =
                io::Error::new(io::ErrorKind::InvalidData, "it reaches beyond the last offset there is");
            return Err(OpenError::io("use", path)(error));
        }
        let file = self.disk.open(&path, OpenMode::Write).map_err(OpenError::io("open", &*path))?;
        let unread = self.partition(name.clone(), Index::default());
        let known = unread.read_index().ok().filter(|(index, _)| index.end().place <= bytes);
        let is_all_known = known.as_ref().is_some_and(|(known, _)| known.end().place == bytes);
        let times = unread.times(&*file).map_err(OpenError::io("read", &*path))?.behind(self.latest);
        let head = self.scan_head(&*file, known, start, bytes, &times);
        let head = head.map_err(OpenError::io("read", &*path))?;
        if head.is_read_anew {
            unread.remove_index().map_err(OpenError::io("remove the index of", &*path))?;
            self.report_holes(start, &head.scan.index);
        }
        if let Some(place) = head.scan.tail {
            self.cut_tail(&*file, &path, start, place, bytes)?;
        }
        let (end, entry) = (head.scan.index.end(), head.scan.index.last_entry());
        self.passed(end);
        let partition = self.partition(name, head.scan.index);
        let recorder = partition.recorder().resume(&times, entry.map(|entry| entry.place), end.place);
        let mut writer = Writer::new(partition, file, end.place, head.writers, self.latest, recorder);
        if !is_all_known {
            self.secure(&mut writer).map_err(OpenError::io("sync", &*path))?;
        }
        Ok(writer)
    }

    /// What a killed process has left unsynced is read from now on: it has to become as safe as what follows.
    fn secure(&self, writer: &mut Writer) -> io::Result<()> {
        if self.is_synced {
            return writer.file().sync();
        }
        writer.expect_sync();
        Ok(())
    }

    /// The first partition of a topic that has none.
    fn first_partition(&self) -> Result<Writer, OpenError> {
        let name = PartitionFile::new(0);
        let path = name.log(self.dir);
        let file = self.disk.open(&path, OpenMode::CreateNew).map_err(OpenError::io("create", path))?;
        let partition = self.partition(name, Index::default());
        let recorder = partition.recorder();
        Ok(Writer::new(partition, file, 0, Writers::default(), 0, recorder))
    }

    /// Secures the topic's own name, and the names in it if they have to survive a power cut.
    fn sync_names(&self) -> Result<(), OpenError> {
        if let Some(parent) = self.dir.parent() {
            sync_dir(&**self.disk, parent)?;
        }
        if self.is_synced {
            sync_dir(&**self.disk, self.dir)?;
        }
        Ok(())
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
        let stretch = Stretch { offset: start + place, place, end: length };
        let kept_in = aside::cut(&**self.disk, self.dir, file, path, stretch)?;
        self.findings.push(Finding::TornTail { offset: start + place, bytes: length - place, kept_in });
        Ok(())
    }
}

/// Whether the index says of the partition, which should have `bytes` bytes, that those behind the first `found` are
/// missing: that is known, then, and no reason to read it again.
fn is_known_short(partition: &Partition, found: u64, bytes: u64) -> bool {
    let is_hole = |hole: &Hole| hole.to == bytes && hole.from <= found;
    partition.read_index().is_ok_and(|(index, _)| index.holes().last().is_some_and(is_hole))
}
