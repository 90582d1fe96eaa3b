//! The times of a partition that has no index file yet: a file beside it, to be read after a kill.
//!
//! `docs/storage.md`, "Times". The writer adds a record about every [`SPACING_BYTES`], for the same batches that get an
//! entry in the index. The file is never synced, and nothing depends on it: a write that fails ends it, what is not
//! right in it is not read, and what it does not tell is bounded by the time at which the partition was last written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arrival::Arrival;
use super::index::{Index, SPACING_BYTES};
use crate::disk::{Disk, File, OpenMode};

/// A place, a time, and the CRC-32 of the partition's start and both.
const RECORD_BYTES: usize = 20;

/// The most of a file that is read: the records of 12 GiB of log.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How much earlier than a write the time can be that a file system keeps of it: some count in steps of two seconds.
const MODIFIED_STEP_MILLIS: u64 = 2000;

/// What is known of the times of a partition that is scanned.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Places and times, both rising.
    records: Vec<(u64, u64)>,
    /// By when everything has arrived.
    latest: u64,
}

impl Times {
    /// Nothing but that everything was written when the file was `modified`, in milliseconds since 1970.
    pub(super) fn unknown(modified: u64) -> Self {
        Self { records: Vec::new(), latest: modified.saturating_add(MODIFIED_STEP_MILLIS) }
    }

    /// As [`Times::unknown`], and the records in the file at `path`, as far as there are any that are right.
    pub(super) fn read(disk: &dyn Disk, path: &Path, start: u64, modified: u64) -> Self {
        let records = disk.open(path, OpenMode::Read).and_then(|file| read_records(&*file, start));
        Self { records: records.unwrap_or_default(), ..Self::unknown(modified) }
    }

    /// The same for a partition behind batches that arrived by `latest`: a clock that went back would make what is in it
    /// seem earlier.
    pub(super) fn behind(self, latest: u64) -> Self {
        Self { latest: self.latest.max(latest), ..self }
    }

    /// The same with the times that are known exactly by an index, which may have been made anew since.
    pub(super) fn and_of(mut self, index: &Index) -> Self {
        let known = index.entries().iter().filter_map(|entry| Some((entry.place, entry.time.exact()?)));
        let mut records: Vec<(u64, u64)> = known.collect();
        let end = index.end().place;
        let latest = records.last().map_or(0, |(_, time)| *time);
        records.extend(self.records.iter().filter(|(place, time)| *place >= end && *time >= latest));
        self.records = records;
        self
    }

    /// When the batch at `place` arrived, if there is a record of it.
    pub(super) fn recorded(&self, place: u64) -> Option<u64> {
        let found = self.records.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.records.get(found).map(|(_, time)| *time)
    }

    /// By when everything has arrived.
    pub(super) const fn latest(&self) -> u64 {
        self.latest
    }

    /// How many records are of places before `end`.
    fn count_before(&self, end: u64) -> usize {
        self.records.partition_point(|(place, _)| *place < end)
    }
}

fn read_records(file: &dyn File, start: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut bytes = vec![0; usize::try_from(file.len()?.min(FILE_BYTES_MAX)).unwrap_or_default()];
    let read = file.read_full_at(&mut bytes, 0)?;
    let mut records: Vec<(u64, u64)> = Vec::new();
    for bytes in bytes.get(..read).unwrap_or_default().chunks_exact(RECORD_BYTES) {
        let Some((place, time)) = decode(bytes, start) else { break };
        if records.last().is_some_and(|last| place <= last.0 || time < last.1) {
            break;
        }
        records.push((place, time));
    }
    Ok(records)
}

fn encode(start: u64, place: u64, time: u64) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    if let Some((numbers, sum)) = bytes.split_last_chunk_mut::<4>() {
        let (first, second) = numbers.split_at_mut(8);
        first.copy_from_slice(&place.to_le_bytes());
        second.copy_from_slice(&time.to_le_bytes());
        *sum = crc(start, numbers).to_le_bytes();
    }
    bytes
}

fn decode(record: &[u8], start: u64) -> Option<(u64, u64)> {
    let (numbers, sum) = record.split_last_chunk::<4>()?;
    let (place, time) = numbers.split_first_chunk::<8>()?;
    let time = u64::from_le_bytes(time.try_into().ok()?);
    (crc(start, numbers).to_le_bytes() == *sum).then_some((u64::from_le_bytes(*place), time))
}

/// With the partition's start, so that the records of one partition are none of another.
fn crc(start: u64, numbers: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&start.to_le_bytes());
    crc.update(numbers);
    crc.finalize()
}

/// Adds records to the file of the head partition.
#[derive(Debug)]
pub(super) struct Recorder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    start: u64,
    /// The first batch from here on gets a record.
    next: u64,
    /// The bytes of the records that are in the file.
    bytes: u64,
    state: State,
}

/// Whether records are written.
#[derive(Debug)]
enum State {
    /// The file is opened, or made, for the first one.
    Unopened,
    Open(Arc<dyn File>),
    /// A write has failed: no more records.
    Ended,
}

impl Recorder {
    /// A recorder for a new partition. The file is made with the first record.
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, start: u64) -> Self {
        Self { disk, path, start, next: 0, bytes: 0, state: State::Unopened }
    }

    /// A recorder that goes on behind the records in `times` of batches before `end`, where the partition ends. The
    /// last entry of its index is at `entry`.
    ///
    /// Records of what is not in the partition any more are cut off for good: other batches may come to their places.
    pub(super) fn resume(mut self, times: &Times, entry: Option<u64>, end: u64) -> Self {
        self.next = entry.map_or(0, |entry| entry.saturating_add(SPACING_BYTES));
        self.bytes = (times.count_before(end) * RECORD_BYTES) as u64;
        let cut = match self.disk.open(&self.path, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.bytes = 0;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(file) => self.cut(file),
        };
        if let Err(error) = cut {
            self.end(&error);
        }
        self
    }

    fn cut(&mut self, file: Arc<dyn File>) -> io::Result<()> {
        if file.len()? > self.bytes {
            file.set_len(self.bytes)?;
            file.sync()?;
        }
        self.state = State::Open(file);
        Ok(())
    }

    /// Told of a batch that was written at `place`; `arrival` is what the index will say of it.
    pub(super) fn written(&mut self, place: u64, arrival: Arrival) {
        if place < self.next {
            return;
        }
        self.next = place.saturating_add(SPACING_BYTES);
        if let Some(time) = arrival.exact()
            && let Err(error) = self.record(place, time)
        {
            self.end(&error);
        }
    }

    fn record(&mut self, place: u64, time: u64) -> io::Result<()> {
        let file = match &self.state {
            State::Ended => return Ok(()),
            State::Open(file) => Arc::clone(file),
            State::Unopened => self.disk.open(&self.path, OpenMode::Truncate)?,
        };
        file.write_all_at(&encode(self.start, place, time), self.bytes)?;
        self.bytes += RECORD_BYTES as u64;
        self.state = State::Open(file);
        Ok(())
    }

    fn end(&mut self, error: &io::Error) {
        tracing::debug!(path = %self.path.display(), %error, "the times of a partition are not recorded any more");
        self.state = State::Ended;
    }
}
