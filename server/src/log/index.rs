//! The index of a partition: where batches start, sparsely. No I/O.
//!
//! An entry stands for a batch that is at least [`SPACING_BYTES`] behind the batch of the entry before, so an index
//! takes at most 32 bytes for 64 KiB of log (512 KiB for 1 GiB), whatever the size of batches. What lies between two
//! entries is found by walking from envelope to envelope, which also proves that a batch starts where one is sought.
//!
//! A hole is a stretch whose bytes are no valid batches. Every hole is followed by an entry, and no batch spans one.

use std::sync::Arc;

use super::arrival::Arrival;
use super::error::IndexError;
use super::writers::Writers;

/// The least distance of two entries, except behind a hole.
pub(super) const SPACING_BYTES: u64 = 64 * 1024;

/// The most holes that are told apart in one partition; an index with more of them is not made.
pub(super) const HOLES_MAX: usize = 4096;

const MAGIC: &[u8; 8] = b"logdidx3";
const HEADER_BYTES: usize = 80;
const ENTRY_BYTES: usize = 32;
const HOLE_BYTES: usize = 16;

/// A place in a partition, and what lies before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Bytes from the beginning of the partition.
    pub(super) place: u64,
    /// The batches before the place.
    pub(super) batches: u64,
    /// The messages of these batches.
    pub(super) messages: u64,
    /// When the batch at the place arrived; at the end, when the last one did.
    pub(super) time: Arrival,
}

/// A stretch of a partition that holds no valid batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    /// The first byte of it.
    pub(super) from: u64,
    /// The first byte behind it.
    pub(super) to: u64,
}

/// The index of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    entries: Vec<Mark>,
    holes: Arc<[Hole]>,
    end: Mark,
}

impl Index {
    /// The end of the partition, and what it holds.
    pub(super) const fn end(&self) -> Mark {
        self.end
    }

    /// The holes, in order.
    pub(super) const fn holes(&self) -> &Arc<[Hole]> {
        &self.holes
    }

    /// The memory that the index takes beside itself, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Mark>() + self.holes.len() * size_of::<Hole>()
    }

    /// Adds a batch at the end. The bounds of times rise from batch to batch, whatever `time` says.
    pub(super) fn push(&mut self, bytes: u64, messages: u64, time: Arrival) {
        let latest = self.end.time.latest();
        let time = if time.latest() < latest { Arrival::by(latest) } else { time };
        if is_entry(self.entries.last(), self.holes.last(), self.end.place) {
            self.entries.push(Mark { time, ..self.end });
        }
        self.end.place += bytes;
        self.end.batches += 1;
        self.end.messages = self.end.messages.saturating_add(messages);
        self.end.time = time;
    }

    /// Lowers the bounds of the batches at the end whose times are not known: all of them arrived by `time`. Bounds stay
    /// above the last time that is known.
    pub(super) fn arrived_by(&mut self, time: u64) {
        let known = self.entries.iter().rev().find_map(|entry| entry.time.exact());
        let time = time.max(known.unwrap_or_default());
        let later = self.entries.iter_mut().rev().map(|entry| &mut entry.time);
        for arrival in std::iter::once(&mut self.end.time).chain(later) {
            if arrival.exact().is_some() || arrival.latest() <= time {
                return;
            }
            *arrival = Arrival::by(time);
        }
    }

    /// Adds a hole at the end, up to `to`.
    pub(super) fn push_hole(&mut self, to: u64) {
        let from = self.end.place;
        let mut holes = self.holes.to_vec();
        match holes.last_mut() {
            Some(last) if last.to == from => last.to = to,
            _ => holes.push(Hole { from, to }),
        }
        self.holes = holes.into();
        self.end.place = to;
    }

    /// The last entry at or before `place`; the beginning where there is none.
    pub(super) fn mark_before(&self, place: u64) -> Mark {
        self.last_where(|entry| entry.place <= place)
    }

    /// The last entry with fewer than `messages` messages before it: no later batch is the first to reach so many.
    pub(super) fn mark_reaching(&self, messages: u64) -> Mark {
        self.last_where(|entry| entry.messages < messages)
    }

    /// The last entry that has only batches before it that surely arrived before `time`; the first entry where there is
    /// no other. `None` in an index without batches.
    pub(super) fn mark_not_behind(&self, time: u64) -> Option<Mark> {
        let count = self.entries.partition_point(|entry| entry.time.latest() < time);
        self.entries.get(count.saturating_sub(1)).copied()
    }

    /// The first entry whose batch, and so every later one, surely arrived after `time`.
    pub(super) fn mark_after(&self, time: u64) -> Option<Mark> {
        let count = self.entries.partition_point(|entry| entry.time.latest() <= time);
        let later = self.entries.get(count..).unwrap_or_default();
        later.iter().find(|entry| entry.time.exact().is_some()).copied()
    }

    /// The entries, in order.
    pub(super) fn entries(&self) -> &[Mark] {
        &self.entries
    }

    /// The last entry.
    pub(super) fn last_entry(&self) -> Option<Mark> {
        self.entries.last().copied()
    }

    fn last_where(&self, holds: impl Fn(&Mark) -> bool) -> Mark {
        let count = self.entries.partition_point(holds);
        let before = count.checked_sub(1).and_then(|last| self.entries.get(last));
        before.or(self.entries.first()).copied().unwrap_or(self.end)
    }

    /// The index as a file: `docs/storage.md`, "Index files". `writers` is what is known of the topic's writers at the
    /// end of the partition.
    pub(super) fn encode(&self, start: u64, writers: &[u8]) -> Vec<u8> {
        let index_bytes = self.entries.len() * ENTRY_BYTES + self.holes.len() * HOLE_BYTES;
        let mut payload = Vec::with_capacity(index_bytes + writers.len());
        for Mark { place, batches, messages, time } in &self.entries {
            put(&mut payload, &[*place, *batches, *messages, time.to_bits()]);
        }
        for Hole { from, to } in self.holes.iter() {
            put(&mut payload, &[*from, *to]);
        }
        payload.extend_from_slice(writers);
        let mut file = Vec::with_capacity(HEADER_BYTES + payload.len());
        file.extend_from_slice(MAGIC);
        let Mark { place, batches, messages, time } = self.end;
        let (entries, holes) = (self.entries.len() as u64, self.holes.len() as u64);
        put(
            &mut file,
            &[start, place, batches, messages, time.to_bits(), entries, holes, writers.len() as u64],
        );
        file.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
        file.extend_from_slice(&payload);
        file
    }

    /// Reads an index file of the partition that begins at `start`.
    pub(super) fn decode(file: &[u8], start: u64) -> Result<(Self, Writers), IndexError> {
        let header = Header::decode(file, start)?;
        let payload = file.get(HEADER_BYTES..).unwrap_or_default();
        if payload.len() != header.payload_bytes()? || crc32fast::hash(payload) != header.payload_crc {
            return Err(IndexError::Damaged);
        }
        let (entries, rest) =
            payload.split_at_checked(header.entries * ENTRY_BYTES).ok_or(IndexError::Damaged)?;
        let (holes, writers) = rest.split_at_checked(header.holes * HOLE_BYTES).ok_or(IndexError::Damaged)?;
        let entries: Vec<Mark> = entries
            .chunks_exact(ENTRY_BYTES)
            .filter_map(|bytes| {
                let [place, batches, messages, time] = numbers(bytes)?;
                Some(Mark { place, batches, messages, time: Arrival::from_bits(time) })
            })
            .collect();
        let holes: Arc<[Hole]> = holes
            .chunks_exact(HOLE_BYTES)
            .filter_map(|bytes| numbers(bytes).map(|[from, to]| Hole { from, to }))
            .collect();
        let index = Self { entries, holes, end: header.end };
        if index.is_ordered() { Ok((index, Writers::decode(writers)?)) } else { Err(IndexError::Damaged) }
    }

    fn is_ordered(&self) -> bool {
        let marks = self.entries.iter().chain(std::iter::once(&self.end));
        let rising = marks.clone().zip(marks.skip(1)).all(|(one, next)| {
            one.place < next.place
                && one.batches < next.batches
                && one.messages <= next.messages
                && one.time.latest() <= next.time.latest()
        });
        let holes = self.holes.iter().all(|hole| hole.from < hole.to && hole.to <= self.end.place)
            && self.holes.iter().zip(self.holes.iter().skip(1)).all(|(one, next)| one.to < next.from);
        rising && holes
    }
}

/// Whether the batch at `place` gets an entry, behind this entry and this hole.
pub(super) fn is_entry(last: Option<&Mark>, hole: Option<&Hole>, place: u64) -> bool {
    last.is_none_or(|last| place - last.place >= SPACING_BYTES || hole.is_some_and(|hole| hole.to == place))
}

/// The beginning of an index file: enough to know what a partition holds without reading the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The end of the partition.
    pub(super) end: Mark,
    entries: usize,
    holes: usize,
    writers_bytes: usize,
    payload_crc: u32,
}

impl Header {
    /// The bytes that [`Header::decode`] needs.
    pub(super) const BYTES: usize = HEADER_BYTES;

    /// Reads the header of an index file of the partition that begins at `start`.
    pub(super) fn decode(file: &[u8], start: u64) -> Result<Self, IndexError> {
        let header = file.get(..HEADER_BYTES).ok_or(IndexError::Damaged)?;
        let (checked, crc) = header.split_at_checked(HEADER_BYTES - 4).ok_or(IndexError::Damaged)?;
        if !header.starts_with(MAGIC) || crc != crc32fast::hash(checked).to_le_bytes() {
            return Err(IndexError::Damaged);
        }
        let [of, place, batches, messages, time, entries, holes, writers_bytes] =
            numbers(checked.get(MAGIC.len()..).unwrap_or_default()).ok_or(IndexError::Damaged)?;
        if of != start {
            return Err(IndexError::OtherPartition { start: of });
        }
        // Fewer than there are bytes, so that counting on does not overflow.
        if batches > place {
            return Err(IndexError::Damaged);
        }
        let payload_crc = checked.last_chunk().map(|bytes| u32::from_le_bytes(*bytes)).unwrap_or_default();
        let count = |number| usize::try_from(number).map_err(|_| IndexError::Damaged);
        Ok(Self {
            end: Mark { place, batches, messages, time: Arrival::from_bits(time) },
            entries: count(entries)?,
            holes: count(holes)?,
            writers_bytes: count(writers_bytes)?,
            payload_crc,
        })
    }

    fn payload_bytes(&self) -> Result<usize, IndexError> {
        let entries = self.entries.checked_mul(ENTRY_BYTES);
        let holes = self.holes.checked_mul(HOLE_BYTES);
        let index = entries.zip(holes).and_then(|(entries, holes)| entries.checked_add(holes));
        index.and_then(|index| index.checked_add(self.writers_bytes)).ok_or(IndexError::Damaged)
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// The first `N` numbers of `bytes`.
fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut out = [0; N];
    let mut chunks = bytes.chunks_exact(8);
    for number in &mut out {
        *number = u64::from_le_bytes(chunks.next()?.try_into().ok()?);
    }
    Some(out)
}
