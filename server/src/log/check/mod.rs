//! Checking a topic's directory that no server has open, and repairing it.
//!
//! Every batch of every partition is read, and every index is held against what was read; nothing is believed. A check
//! alone changes nothing, not even a time. A repair does what opening the topic would do, and what opening leaves alone
//! because it trusts an index: it cuts off what is no batch behind the end, has damage noted in an index made anew, and
//! takes out of use what belongs to nothing. It removes nothing: what was cut off or replaced is kept beside.
//!
//! Damaged bytes stay where they are, so that all that follows keeps its offset. Each step leaves a directory that can be
//! opened, and in which everything can be read that could be before.
//!
//! - `look`: a partition, read and compared
//! - `mend`: the steps of a repair
//! - `what`: what can be found and done

mod look;
mod mend;
mod what;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::look::{End, Fit, Seen};
pub use self::what::{Done, Found, Grade, What};
pub use super::damage::Lost;
use super::error::IndexError;
use super::index::{Header, Index};
use super::layout::{self, Kind, PartitionFile};
use super::partition::Partition;
use super::writers::Writers;
use crate::disk::{Disk, Entry, OpenMode};

/// What was counted in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// The partitions.
    pub partitions: u64,
    /// The batches that are whole.
    pub batches: u64,
    /// The messages of these, by their envelopes.
    pub messages: u64,
    /// The bytes of partitions that were read.
    pub bytes: u64,
    /// The bytes that are damaged or missing and that no index had noted as such.
    pub bytes_damaged: u64,
    /// What has been lost with these.
    pub lost: Lost,
}

/// Is told of everything that is found.
pub type Tell<'a> = &'a mut dyn FnMut(Found);

/// Checks the topic in `dir`; what is found is given to `tell`.
///
/// Memory is bounded by the largest batch and index there can be, whatever the size of the partitions.
///
/// # Errors
/// That of listing the directory. A file that cannot be read is told as [`What::Unreadable`], and the rest is checked.
pub fn check(disk: &Arc<dyn Disk>, dir: &Path, tell: Tell<'_>) -> io::Result<Totals> {
    Check::new(disk, dir, None, tell).run()
}

/// As [`check`], and repairs what can be; `before` is called before each change. Nobody else may use the directory.
///
/// An index that is made anew takes memory as the server's does, 32 bytes for 64 KiB of the partition. What was
/// repaired has [`Found::done`]. Repairing again finds nothing to do.
///
/// # Errors
/// As [`check`]. A step that fails is told as [`What::Unrepaired`] and ends the repair of the topic, the rest of which is
/// only checked; everything that could be read before still can be.
pub fn repair(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    before: &mut dyn FnMut(),
    tell: Tell<'_>,
) -> io::Result<Totals> {
    Check::new(disk, dir, Some(before), tell).run()
}

struct Check<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: Arc<Path>,
    /// Called before something is changed; nothing may be changed without it.
    before: Option<&'a mut dyn FnMut()>,
    tell: Tell<'a>,
    totals: Totals,
    /// By when everything before has arrived, in milliseconds since 1970.
    latest: u64,
    /// The partition before.
    previous: Option<PartitionFile>,
}

impl<'a> Check<'a> {
    fn new(disk: &'a Arc<dyn Disk>, dir: &Path, before: Option<&'a mut dyn FnMut()>, tell: Tell<'a>) -> Self {
        let lost = Lost { is_exact: true, ..Lost::default() };
        let totals = Totals { lost, ..Totals::default() };
        Self { disk, dir: dir.into(), before, tell, totals, latest: 0, previous: None }
    }

    fn run(mut self) -> io::Result<Totals> {
        let entries = self.disk.list(&self.dir)?;
        let names = PartitionFile::among(&entries);
        // Before anything is written under such a name.
        self.unfinished(&entries);
        let (files, useless) = self.partition_files(names.clone());
        let mut files = files.into_iter().peekable();
        while let Some((file, length)) = files.next() {
            let end = files.peek().map_or(End::Open, |(next, _)| End::At(next.start - file.start));
            self.partition(&file, length, end);
            self.previous = Some(file);
        }
        // Now, because the index of a partition that is gone says what has been lost.
        let used: Vec<PartitionFile> = names.into_iter().filter(|name| !useless.contains(name)).collect();
        self.other_files(&entries, &used);
        Ok(self.totals)
    }

    fn found(&mut self, file: impl Into<String>, what: What, done: Option<Done>) {
        (self.tell)(Found { file: file.into(), what, done });
    }

    fn unfinished(&mut self, entries: &[Entry]) {
        for Entry { name, is_dir } in entries {
            if !is_dir && layout::kind(name) == Kind::Unfinished {
                self.found_useless(name, What::Unfinished, true);
            }
        }
    }

    /// What is no partition: indexes and times that belong to none, what was kept, and what is not ours.
    fn other_files(&mut self, entries: &[Entry], partitions: &[PartitionFile]) {
        for Entry { name, is_dir } in entries {
            let what = match layout::kind(name) {
                _ if *is_dir => What::Foreign,
                Kind::Partition | Kind::Unfinished => continue,
                Kind::Companion(stem) if partitions.iter().any(|partition| partition.stem == stem) => {
                    continue;
                }
                Kind::Companion(_) => What::Orphan,
                Kind::Kept => What::Kept { bytes: self.length(name).unwrap_or_default() },
                Kind::Foreign => What::Foreign,
            };
            let is_useless = matches!(what, What::Orphan);
            self.found_useless(name, what, is_useless);
        }
    }

    /// Tells of a file, and takes it out of use if that is to be repaired.
    fn found_useless(&mut self, name: &str, what: What, is_useless: bool) {
        match is_useless.then(|| self.set_aside(name)).transpose() {
            Ok(done) => self.found(name, what, done.flatten()),
            Err(error) => {
                self.found(name, what, None);
                self.unrepaired(name, error);
            }
        }
    }

    fn length(&self, name: &str) -> io::Result<u64> {
        self.disk.open(&self.dir.join(name), OpenMode::Read)?.len()
    }

    /// A step has failed: nothing more is changed, and the rest is only checked.
    fn unrepaired(&mut self, file: impl Into<String>, error: String) {
        self.before = None;
        self.found(file, What::Unrepaired(error), None);
    }

    /// The partitions that are served, by their offsets, with the lengths of their files; and those that are of no use.
    fn partition_files(
        &mut self,
        names: Vec<PartitionFile>,
    ) -> (Vec<(PartitionFile, u64)>, Vec<PartitionFile>) {
        let mut useless = Vec::new();
        let last = names.len().saturating_sub(1);
        let mut files: Vec<(PartitionFile, u64)> = Vec::with_capacity(names.len());
        for (number, file) in names.into_iter().enumerate() {
            let name = file.log_name();
            let length = match self.length(&name) {
                Ok(length) => length,
                Err(error) => {
                    self.found(name, What::Unreadable(error), None);
                    continue;
                }
            };
            let before = files.last();
            let continues = |(before, bytes): &(PartitionFile, u64)| {
                self.partition_of(before, Index::default()).leads_to(*bytes, file.start)
            };
            let is_head = number == last && before.is_none_or(continues);
            let twin =
                before.filter(|(before, _)| before.start == file.start).map(|(before, _)| before.log_name());
            match twin {
                _ if length == 0 && !is_head => {
                    self.found_useless(&name, What::EmptyPartition, true);
                    useless.push(file);
                }
                Some(of) => self.found(name, What::Duplicate { of }, None),
                None if file.start.checked_add(length).is_none() => {
                    self.found(name, What::BeyondLastOffset, None);
                }
                None => files.push((file, length)),
            }
        }
        (files, useless)
    }

    fn partition_of(&self, name: &PartitionFile, index: Index) -> Partition {
        Partition::new(Arc::clone(self.disk), Arc::clone(&self.dir), name.clone(), index)
    }

    fn partition(&mut self, file: &PartitionFile, length: u64, end: End) {
        self.totals.partitions += 1;
        let partition = self.partition_of(file, Index::default());
        let read = partition.read_index();
        let (index, writers) = match read {
            Ok((index, writers)) => (Ok(index), Some(writers)),
            Err(error) => (Err(error), None),
        };
        let looked = partition.file().and_then(|file| look::look(&*file, end, &index));
        let mut seen = match looked {
            Ok(seen) => seen,
            Err(error) => return self.found(file.log_name(), What::Unreadable(error), None),
        };
        self.look_for_index_of_missing(file, length, &mut seen);
        self.count(&seen);
        let findings = findings(file, length, end, &seen, &index);
        let is_mending = self.before.is_some() && findings.iter().any(|(_, what)| is_to_be_mended(what));
        if !is_mending {
            for (name, what) in findings {
                self.found(name, what, None);
            }
            self.latest = index.map_or(self.latest, |index| index.end().time.latest().max(self.latest));
            return;
        }
        let known = index.ok().zip(writers).filter(|_| !matches!(seen.index, Fit::Wrong));
        self.mend(file, &seen, known, findings);
    }

    fn count(&mut self, seen: &Seen) {
        let totals = &mut self.totals;
        totals.batches += seen.end.batches;
        totals.messages = totals.messages.saturating_add(seen.end.messages);
        totals.bytes += seen.bytes;
        let damaged = seen.damage.iter().map(|(hole, _)| hole.to - hole.from);
        totals.bytes_damaged = damaged.fold(totals.bytes_damaged, u64::saturating_add);
        totals.lost.batches = totals.lost.batches.saturating_add(seen.lost.batches);
        totals.lost.messages = totals.lost.messages.saturating_add(seen.lost.messages);
        totals.lost.is_exact &= seen.lost.is_exact;
    }

    /// Where a whole partition is missing its index can still be there, and tell what has been lost.
    fn look_for_index_of_missing(&self, file: &PartitionFile, length: u64, seen: &mut Seen) {
        let [(hole, lost)] = &mut seen.damage[..] else { return };
        if seen.missing == 0 || hole.to - hole.from != seen.missing {
            return;
        }
        let gone = PartitionFile::new(file.start.saturating_add(length));
        let read = || -> Result<Header, IndexError> {
            let mut bytes = [0; Header::BYTES];
            let read = self.disk.open(&gone.index(&self.dir), OpenMode::Read)?.read_full_at(&mut bytes, 0)?;
            Header::decode(bytes.get(..read).unwrap_or_default(), gone.start)
        };
        if let Ok(header) = read()
            && header.end.place == seen.missing
        {
            *lost = Lost { batches: header.end.batches, messages: header.end.messages, is_exact: true };
            seen.lost = *lost;
        }
    }

    /// What is known of the writers where a partition begins.
    fn writers_before(&self) -> Writers {
        match self.previous.as_ref().map(|file| self.partition_of(file, Index::default()).read_index()) {
            Some(Ok((_, writers))) => writers,
            Some(Err(_)) | None => Writers::default(),
        }
    }
}

/// What there is to tell of a partition, and of which file.
fn findings(
    file: &PartitionFile,
    length: u64,
    end: End,
    seen: &Seen,
    index: &Result<Index, IndexError>,
) -> Vec<(String, What)> {
    let offset = |place: u64| file.start.saturating_add(place);
    let (log, index_name) = (file.log_name(), file.index_name());
    let mut all = Vec::with_capacity(seen.damage.len() + seen.known.len() + 2);
    for hole in &seen.known {
        all.push((log.clone(), What::KnownDamage { from: offset(hole.from), to: offset(hole.to) }));
    }
    for (hole, lost) in &seen.damage {
        // What is missing is at the end.
        let missing = hole.to.saturating_sub(length.max(hole.from)).min(seen.missing);
        all.push((
            log.clone(),
            What::Damage { from: offset(hole.from), to: offset(hole.to), missing, lost: *lost },
        ));
    }
    if let Some(place) = seen.tail {
        let (offset, bytes) = (offset(place), length - place);
        let what =
            if end == End::Open { What::TornTail { offset, bytes } } else { What::Excess { offset, bytes } };
        all.push((log.clone(), what));
    }
    let is_head = end == End::Open;
    let what = match (&seen.index, index) {
        (_, Err(IndexError::Unreadable(io::ErrorKind::NotFound))) if is_head => not_closed(seen.end.place),
        (_, Err(IndexError::Unreadable(io::ErrorKind::NotFound))) => Some(What::IndexMissing),
        (_, Err(error)) => Some(What::IndexUnusable(*error)),
        (Fit::Fits, Ok(index)) if is_head => not_closed(seen.end.place - index.end().place),
        (Fit::Fits, Ok(_)) => None,
        // Damage says it already.
        (Fit::Outdated, Ok(_)) if !seen.damage.is_empty() => None,
        (Fit::Outdated | Fit::Wrong, Ok(_)) => Some(What::IndexUnfit),
    };
    all.extend(what.map(|what| (index_name, what)));
    all
}

fn not_closed(bytes: u64) -> Option<What> {
    (bytes > 0).then_some(What::NotClosed { bytes })
}

/// Whether a repair has to do something to a partition because of this.
const fn is_to_be_mended(what: &What) -> bool {
    matches!(
        what,
        What::Damage { .. }
            | What::TornTail { .. }
            | What::Excess { .. }
            | What::IndexMissing
            | What::IndexUnusable(_)
            | What::IndexUnfit
    )
}
