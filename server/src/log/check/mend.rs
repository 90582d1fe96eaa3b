//! The steps of a repair, each of which leaves what can be opened and read as before.
//!
//! For a partition: what is behind its end is copied, the copy and its name are synced, and then it is cut off; the
//! partition is synced; an index that is replaced is copied; the new one is written under another name, synced, and
//! renamed; the directory is synced. A step that fails ends the repair of the topic.

use std::io;
use std::path::PathBuf;

use super::super::aside::{self, Stretch};
use super::super::error::OpenError;
use super::super::index::Index;
use super::super::layout::PartitionFile;
use super::super::scan::scan;
use super::super::writers::Writers;
use super::look::{Fit, Seen};
use super::{Check, Done, What};
use crate::disk::{File, OpenMode};

impl Check<'_> {
    /// Takes a file out of use if this is a repair. The error says what failed.
    pub(super) fn set_aside(&mut self, name: &str) -> Result<Option<Done>, String> {
        let Some(before) = &mut self.before else { return Ok(None) };
        before();
        let path = aside::rename(&**self.disk, &self.dir, name)
            .and_then(|path| self.disk.sync_dir(&self.dir).map(|()| path))
            .map_err(|error| format!("cannot be set aside: {error}"))?;
        Ok(Some(Done::SetAside(path)))
    }

    /// Repairs a partition and tells what was found. `known` is what its index knows, if that can be believed but for
    /// what is damaged.
    pub(super) fn mend(
        &mut self,
        file: &PartitionFile,
        seen: &Seen,
        known: Option<(Index, Writers)>,
        findings: Vec<(String, What)>,
    ) {
        if let Some(before) = &mut self.before {
            before();
        }
        let cut = seen.tail.map(|place| self.cut(file, place)).transpose();
        let indexed = match &cut {
            Ok(_) => Some(self.index_anew(file, seen, known)),
            Err(_) => None,
        };
        let mut failed = Vec::new();
        let cut = cut.unwrap_or_else(|error| {
            failed.push(error.to_string());
            None
        });
        let indexed = match indexed {
            Some(Ok(old)) => Some(Done::Indexed(old)),
            Some(Err(error)) => {
                failed.push(error.to_string());
                None
            }
            None => None,
        };
        for (name, what) in findings {
            let done = match &what {
                What::TornTail { .. } | What::Excess { .. } => cut.clone().map(Done::Cut),
                What::Kept { .. } | What::KnownDamage { .. } => None,
                _ => indexed.clone(),
            };
            self.found(name, what, done);
        }
        for error in failed {
            self.unrepaired(file.log_name(), error);
        }
    }

    fn cut(&self, name: &PartitionFile, place: u64) -> Result<PathBuf, OpenError> {
        let path = name.log(&self.dir);
        let file = self.disk.open(&path, OpenMode::Write).map_err(OpenError::io("open", &*path))?;
        let end = file.len().map_err(OpenError::io("read the length of", &*path))?;
        let stretch = Stretch { offset: name.start.saturating_add(place), place, end };
        aside::cut(&**self.disk, &self.dir, &*file, &path, stretch)
    }

    /// Makes the partition's index anew. Returns where the old one is kept, if there was one.
    fn index_anew(
        &mut self,
        name: &PartitionFile,
        seen: &Seen,
        known: Option<(Index, Writers)>,
    ) -> Result<Option<PathBuf>, OpenError> {
        let path = name.log(&self.dir);
        let file = self.disk.open(&path, OpenMode::Write).map_err(OpenError::io("open", &*path))?;
        let (index, writers) =
            self.index_of(name, &*file, seen, known).map_err(OpenError::io("read", &*path))?;
        // An index is only written for what is synced.
        file.sync().map_err(OpenError::io("sync", &*path))?;
        let index_path = name.index(&self.dir);
        // What fits is a part of the new one.
        let old = match seen.index {
            Fit::Fits => None,
            Fit::Outdated | Fit::Wrong => {
                self.keep_index(name).map_err(OpenError::io("keep a copy of", &*index_path))?
            }
        };
        let end = index.end();
        self.partition_of(name, index)
            .write_index(u64::MAX, &writers.encode())
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(OpenError::io("write", &*index_path))?;
        self.latest = self.latest.max(end.time.latest());
        Ok(old)
    }

    /// The index of all that was seen, and what is known of the writers at its end.
    fn index_of(
        &self,
        name: &PartitionFile,
        file: &dyn File,
        seen: &Seen,
        known: Option<(Index, Writers)>,
    ) -> io::Result<(Index, Writers)> {
        let end = seen.end.place;
        let mut times = self.partition_of(name, Index::default()).times(file)?.behind(self.latest);
        let (from, mut writers) = match known {
            Some((index, writers)) => {
                times = times.and_of(&index);
                (index.end().place, writers)
            }
            None => (0, self.writers_before()),
        };
        let mut index = scan(file, Index::default(), end, &times, |id, place| {
            if place >= from {
                writers.add(id, name.start.saturating_add(place));
            }
        })?
        .index;
        if index.end().place < end {
            index.push_hole(end);
        }
        Ok((index, writers))
    }

    /// Copies the index file, or gives it another name if it cannot be read.
    fn keep_index(&self, name: &PartitionFile) -> io::Result<Option<PathBuf>> {
        let index = name.index_name();
        match self.disk.open(&self.dir.join(&index), OpenMode::Read).and_then(|file| file.len()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return aside::rename(&**self.disk, &self.dir, &index).map(Some),
        }
        match aside::copy_whole(&**self.disk, &self.dir, &index) {
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                aside::rename(&**self.disk, &self.dir, &index).map(Some)
            }
            kept => kept.map(Some),
        }
    }
}
