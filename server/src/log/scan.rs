//! Reading a partition from end to end: every batch is checked, and an index made.
//!
//! What is no valid batch is damage; the next batch behind it is looked for as `damage.rs` says. A batch is valid here
//! if its envelope can be read and its body has the right checksum: Go logd has stored batches with wrong counts and
//! without messages, and they stay where they are.

use std::io;

use logd_protocol::limits::{BATCH_BYTES_MAX, LINE_BYTES_MAX};
use logd_protocol::{BatchId, Decoded, RawBatch, decode_batch};

use super::arrival::Arrival;
use super::index::{HOLES_MAX, Index};
use super::times::Times;
use crate::disk::File;

/// How much is read at once where all is read.
const WINDOW_BYTES: usize = 1024 * 1024;

/// The largest batch that is recognised: whatever the server's limit is now, it may have been larger before.
pub(super) const BYTES_MAX: usize = BATCH_BYTES_MAX + LINE_BYTES_MAX;

/// What a partition holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// The index of all that is valid.
    pub(super) index: Index,
    /// Where the valid part ends, if anything follows it.
    pub(super) tail: Option<u64>,
}

/// Checks the partition from the end of `index`, which holds what is known already, up to `end`.
///
/// When the batches arrived is what `times` knows. Those that have an identity are told to `found`, with their places.
pub(super) fn scan(
    file: &dyn File,
    mut index: Index,
    end: u64,
    times: &Times,
    mut found: impl FnMut(BatchId, u64),
) -> io::Result<Scan> {
    let mut window = Window::new(file, end);
    loop {
        let at = index.end().place;
        if at >= end {
            return Ok(Scan { index, tail: None });
        }
        match window.step(at, end, index.holes().len())? {
            Step::Batch(Valid { bytes, messages, id }) => {
                if let Some(id) = id {
                    found(id, at);
                }
                let time = match times.recorded(at) {
                    Some(time) => {
                        index.arrived_by(time);
                        Arrival::behind(time, index.end().time.latest())
                    }
                    None => Arrival::by(times.latest()),
                };
                index.push(bytes, messages, time);
            }
            Step::Hole(to) => index.push_hole(to),
            Step::Tail => return Ok(Scan { index, tail: Some(at) }),
        }
    }
}

/// Whether a valid batch starts at `place` of the partition, which ends at `end`.
pub(super) fn is_valid_at(file: &dyn File, place: u64, end: u64) -> io::Result<bool> {
    let mut window = Window { file, end, bytes_min: LINE_BYTES_MAX, bytes: Vec::new(), place: 0 };
    Ok(window.valid_batch(place)?.is_some())
}

/// A batch with the right checksum.
pub(super) struct Valid {
    pub(super) bytes: u64,
    pub(super) messages: u64,
    id: Option<BatchId>,
}

/// What is at a place where a batch should start.
pub(super) enum Step {
    /// A batch.
    Batch(Valid),
    /// None; what follows goes on there.
    Hole(u64),
    /// None, nor behind it.
    Tail,
}

/// The part of a partition that is in memory.
pub(super) struct Window<'a> {
    file: &'a dyn File,
    /// How much is read at once at least.
    bytes_min: usize,
    /// Where the partition ends.
    pub(super) end: u64,
    bytes: Vec<u8>,
    place: u64,
}

impl<'a> Window<'a> {
    /// A window on a partition that is read from end to end, and ends at `end`.
    pub(super) const fn new(file: &'a dyn File, end: u64) -> Self {
        Self { file, end, bytes_min: WINDOW_BYTES, bytes: Vec::new(), place: 0 }
    }

    /// What is at `place` of a partition that should have `end` bytes, behind so many holes.
    pub(super) fn step(&mut self, place: u64, end: u64, holes: usize) -> io::Result<Step> {
        if let Some(valid) = self.valid_batch(place)? {
            return Ok(Step::Batch(valid));
        }
        if holes >= HOLES_MAX {
            // No more holes are told apart: the rest is one. It is kept, for there may be batches in it.
            return Ok(Step::Hole(end));
        }
        Ok(self.batch_behind(place)?.map_or(Step::Tail, Step::Hole))
    }

    /// The batch at `place`, if there is one with the right checksum.
    pub(super) fn valid_batch(&mut self, place: u64) -> io::Result<Option<Valid>> {
        let found = self.batch(place, |batch| {
            batch.check_crc().is_ok().then(|| Valid {
                bytes: batch.bytes().len() as u64,
                messages: batch.envelope().messages,
                id: batch.envelope().id(),
            })
        })?;
        Ok(found.flatten())
    }

    /// What `read` makes of the batch at `place`, if there is the whole of one; its body may be wrong.
    fn batch<T>(&mut self, place: u64, read: impl FnOnce(&RawBatch<'_>) -> T) -> io::Result<Option<T>> {
        let mut wanted = LINE_BYTES_MAX;
        loop {
            if !self.holds(place, wanted) {
                self.fill(place, wanted)?;
            }
            match decode_batch(self.from(place), BYTES_MAX) {
                Decoded::Whole { value, .. } => return Ok(Some(read(&value))),
                Decoded::More { bytes } if place.saturating_add(bytes as u64) <= self.end => wanted = bytes,
                Decoded::More { .. } | Decoded::Broken(_) => return Ok(None),
            }
        }
    }

    /// The bytes from `place` on: at least `bytes` of them, fewer where the partition ends before.
    pub(super) fn at_least(&mut self, place: u64, bytes: usize) -> io::Result<&[u8]> {
        if !self.holds(place, bytes) {
            self.fill(place, bytes)?;
        }
        Ok(self.from(place))
    }

    /// The bytes of the window from `place` on.
    fn from(&self, place: u64) -> &[u8] {
        let skip = place.checked_sub(self.place).and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.bytes.get(skip..)).unwrap_or_default()
    }

    /// Whether the window holds `bytes` bytes from `place` on.
    fn holds(&self, place: u64, bytes: usize) -> bool {
        self.from(place).len() >= bytes
    }

    fn fill(&mut self, place: u64, bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.end.saturating_sub(place)).unwrap_or(usize::MAX);
        self.bytes.resize(bytes.max(self.bytes_min).min(left), 0);
        self.place = place;
        let read = self.file.read_full_at(&mut self.bytes, place)?;
        if read < self.bytes.len() {
            // The file is shorter than it was said to be: what is missing can be nothing but damage.
            self.bytes.truncate(read);
            self.end = self.end.min(place + read as u64);
        }
        Ok(())
    }
}
