//! Reading a partition from end to end: every batch is checked, and an index made.
//!
//! What is no valid batch is damage. Behind it the next batch is looked for: first where the damaged batch's own
//! envelope says that it ends, then at every `BATCH ` that follows. A message may itself hold the bytes of a batch, so
//! a batch found by such a search counts only if it cannot be inside a message: the row of batches that begins with it
//! must reach the end, or stop at something else than the `\r\n` that ends a message.

use std::io;

use logd_protocol::limits::{BATCH_BYTES_MAX, LINE_BYTES_MAX};
use logd_protocol::{Decoded, RawBatch, decode_batch};
use memchr::memmem;

use super::index::{HOLES_MAX, Index};
use crate::disk::File;

/// How much is read at once at least.
const WINDOW_BYTES: usize = 1024 * 1024;

/// The largest batch that is recognised: whatever the server's limit is now, it may have been larger before.
const BYTES_MAX: usize = BATCH_BYTES_MAX + LINE_BYTES_MAX;

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
/// The batches found are said to have arrived at `time`.
pub(super) fn scan(file: &dyn File, mut index: Index, end: u64, time: u64) -> io::Result<Scan> {
    let mut window = Window { file, end, bytes: Vec::new(), place: 0 };
    loop {
        let at = index.end().place;
        if at >= end {
            return Ok(Scan { index, tail: None });
        }
        if let Some((bytes, messages)) = window.valid_batch(at)? {
            index.push(bytes, messages, time);
        } else if index.holes().len() >= HOLES_MAX {
            return Ok(Scan { index, tail: Some(at) });
        } else {
            match window.batch_behind(at)? {
                Some(next) => index.push_hole(next),
                None => return Ok(Scan { index, tail: Some(at) }),
            }
        }
    }
}

struct Window<'a> {
    file: &'a dyn File,
    end: u64,
    bytes: Vec<u8>,
    place: u64,
}

impl Window<'_> {
    /// The length and the messages of the batch at `place`, if there is one with the right checksum.
    fn valid_batch(&mut self, place: u64) -> io::Result<Option<(u64, u64)>> {
        let found = self.batch(place, |batch| {
            batch.check_crc().is_ok().then(|| (batch.bytes().len() as u64, batch.envelope().messages))
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
            let is_all = self.place + self.bytes.len() as u64 >= self.end;
            match decode_batch(self.from(place), BYTES_MAX) {
                Decoded::Whole { value, .. } => return Ok(Some(read(&value))),
                Decoded::More { bytes } if !is_all || self.holds(place, bytes) => wanted = bytes,
                Decoded::More { .. } | Decoded::Broken(_) => return Ok(None),
            }
        }
    }

    /// Where the next batch starts behind the damage at `at`.
    fn batch_behind(&mut self, at: u64) -> io::Result<Option<u64>> {
        if let Some(bytes) = self.batch(at, |batch| batch.bytes().len() as u64)? {
            let next = at + bytes;
            if self.valid_batch(next)?.is_some() {
                return Ok(Some(next));
            }
        }
        let mut from = at + 1;
        while let Some(candidate) = self.find_command(from)? {
            from = match self.row_end(candidate)? {
                None => candidate + 1,
                Some(stop) if self.ends_a_message(stop)? => stop,
                Some(_) => return Ok(Some(candidate)),
            };
        }
        Ok(None)
    }

    /// Where the row of valid batches ends that begins at `place`; `None` where not even one does.
    fn row_end(&mut self, place: u64) -> io::Result<Option<u64>> {
        let mut stop = place;
        // A row that is longer than the longest message cannot be inside one.
        while stop - place <= BYTES_MAX as u64 {
            match self.valid_batch(stop)? {
                Some((bytes, _)) => stop += bytes,
                None => break,
            }
        }
        Ok((stop > place).then_some(stop))
    }

    fn ends_a_message(&mut self, place: u64) -> io::Result<bool> {
        if place < self.end && !self.holds(place, 2) {
            self.fill(place, 2)?;
        }
        Ok(self.from(place).starts_with(b"\r\n"))
    }

    fn find_command(&mut self, from: u64) -> io::Result<Option<u64>> {
        const COMMAND: &[u8] = b"BATCH ";
        let mut from = from;
        while from < self.end {
            if !self.holds(from, COMMAND.len()) {
                self.fill(from, COMMAND.len())?;
            }
            let rest = self.from(from);
            if let Some(found) = memmem::find(rest, COMMAND) {
                return Ok(Some(from + found as u64));
            }
            // The command may begin in the last bytes of the window.
            from += rest.len().saturating_sub(COMMAND.len() - 1).max(1) as u64;
        }
        Ok(None)
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
        self.bytes.resize(bytes.max(WINDOW_BYTES).min(left), 0);
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
