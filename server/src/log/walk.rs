//! Walking through a partition from envelope to envelope, without looking at bodies.

use std::io;

use logd_protocol::{Decoded, decode_envelope, limits::LINE_BYTES_MAX};

use super::index::Mark;
use crate::disk::File;

/// The most of the partition that is read at once: as far as two entries of an index are apart, so that one read does
/// where the batches are small.
const WINDOW_BYTES: usize = 64 * 1024;

/// The least: where the batches are larger, more would be read for nothing.
const ENVELOPE_BYTES: usize = LINE_BYTES_MAX;

/// Why a walk came to its end too early.
#[derive(Debug)]
pub(super) enum WalkError {
    /// Where a batch should start, there is none: the index or the partition is not what was written.
    Damaged,
    /// The file system refused.
    Io(io::Error),
}

/// A walk over the bytes of a partition up to `end`.
pub(super) struct Walk<'a> {
    file: &'a dyn File,
    end: u64,
    window: &'a mut Vec<u8>,
    window_place: u64,
    /// How much of the window is of the partition.
    filled: usize,
    /// How much is read next.
    ahead: usize,
}

impl<'a> Walk<'a> {
    /// A walk that reads into `window`, whose contents do not matter, up to the end of the partition.
    pub(super) fn new(file: &'a dyn File, end: &Mark, window: &'a mut Vec<u8>) -> Self {
        let usual = end.place / end.batches.max(1);
        let ahead = if usual < ENVELOPE_BYTES as u64 { WINDOW_BYTES } else { ENVELOPE_BYTES };
        Self { file, end: end.place, window, window_place: 0, filled: 0, ahead }
    }

    /// Steps over the batch that starts at `mark.place`.
    pub(super) fn step(&mut self, mark: &mut Mark) -> Result<(), WalkError> {
        let (bytes, messages) = self.batch_at(mark.place)?;
        let next =
            mark.place.checked_add(bytes).filter(|next| *next <= self.end).ok_or(WalkError::Damaged)?;
        mark.place = next;
        mark.batches += 1;
        mark.messages = mark.messages.saturating_add(messages);
        Ok(())
    }

    fn batch_at(&mut self, place: u64) -> Result<(u64, u64), WalkError> {
        if let Some(found) = self.in_window(place) {
            return Ok(found);
        }
        self.fill(place).map_err(WalkError::Io)?;
        self.in_window(place).ok_or(WalkError::Damaged)
    }

    /// The length and the messages of the batch at `place`, if its envelope is in the window.
    fn in_window(&self, place: u64) -> Option<(u64, u64)> {
        let skip = usize::try_from(place.checked_sub(self.window_place)?).ok()?;
        match decode_envelope(self.window.get(skip..self.filled)?) {
            Decoded::Whole { value, bytes } => {
                value.body_bytes.checked_add(bytes as u64).map(|bytes| (bytes, value.messages))
            }
            Decoded::More { .. } | Decoded::Broken(_) => None,
        }
    }

    fn fill(&mut self, place: u64) -> io::Result<()> {
        // Several batches in what was read last: there are small ones here.
        if self.filled > 0 && place.saturating_sub(self.window_place) <= self.ahead as u64 {
            self.ahead = WINDOW_BYTES;
        }
        let left = usize::try_from(self.end.saturating_sub(place)).unwrap_or(usize::MAX);
        let bytes = left.min(self.ahead);
        if self.window.len() < bytes {
            self.window.resize(bytes, 0);
        }
        self.window_place = place;
        self.filled = 0;
        self.filled = self.file.read_full_at(self.window.get_mut(..bytes).unwrap_or_default(), place)?;
        Ok(())
    }
}
