//! Finding the next batch behind damage.
//!
//! A message may hold the bytes of whole batches, so what looks like a batch behind damage may be a part of the damaged
//! one. What is left of the damaged batch is asked first, and only what it cannot answer is guessed:
//!
//! 1. Its envelope says where it ends, and its messages' frames lead there too. Where a valid batch starts there, that
//!    is the next one. Where another damaged one starts, that one is asked in turn.
//! 2. If it reaches up to the end of the partition or, by its envelope and its last frame, beyond it, nothing follows.
//! 3. Otherwise every `BATCH ` that follows is tried; messages whose frames are whole are stepped over. The row of
//!    batches that begins there counts unless it ends like the contents of a message, in `\r\n`. It does not count
//!    either if it ends in zeros and does not begin behind zeros: so look the remains of a large batch whose beginning
//!    and end a power cut has taken.

use std::io;

use logd_protocol::limits::LINE_BYTES_MAX;
use logd_protocol::{Decoded, decode_envelope, parse_u64};
use memchr::{memchr2, memmem};

use super::scan::{BYTES_MAX, Window};

const COMMAND: &[u8] = b"BATCH ";
const FRAME: &[u8] = b"MSG ";

/// The longest header of a message: `MSG `, twenty digits, `\r\n`.
const FRAME_BYTES_MAX: usize = 26;

/// What is left of a batch says about where it ends.
struct Remains {
    /// Its end, by its envelope.
    said: Option<u64>,
    /// The end of the whole frames that follow its first line, if there is one.
    framed: Option<u64>,
    /// Whether the frame after these is longer than what is left of the partition.
    overruns: bool,
}

/// A message at a place.
enum Frame {
    /// It is whole, and ends there.
    Whole(u64),
    /// It would end behind the end of the partition.
    Overruns,
    /// There is none.
    Absent,
}

impl Window<'_> {
    /// Where the next batch starts behind the damage at `at`.
    pub(super) fn batch_behind(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        loop {
            let Remains { said, framed, overruns } = self.remains(at)?;
            for end in [said, framed].into_iter().flatten() {
                if self.valid_batch(end)?.is_some() {
                    return Ok(Some(end));
                }
            }
            if said.is_some_and(|said| said == self.end || (said > self.end && overruns)) {
                return Ok(None);
            }
            if let Some(next) = self.next_damaged([said, framed])? {
                at = next;
                continue;
            }
            let is_believed = |said: &u64| *said < self.end && framed.is_none_or(|framed| framed <= *said);
            let from = said.filter(is_believed).or(framed).unwrap_or(at + 1);
            return self.search(from);
        }
    }

    /// The first of these places at which a batch starts by its envelope, though it is not valid.
    fn next_damaged(&mut self, places: [Option<u64>; 2]) -> io::Result<Option<u64>> {
        for place in places.into_iter().flatten() {
            if self.said_end(place)?.is_some() {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    fn remains(&mut self, at: u64) -> io::Result<Remains> {
        let said = self.said_end(at)?;
        let line = self.at_least(at, LINE_BYTES_MAX)?;
        let window = line.get(..LINE_BYTES_MAX).unwrap_or(line);
        let line_end = memmem::find(window, b"\r\n").map(|end| at + end as u64 + 2);
        let Some(body) = line_end else { return Ok(Remains { said, framed: None, overruns: false }) };
        let mut end = body;
        let overruns = loop {
            match self.frame(end)? {
                Frame::Whole(next) => end = next,
                Frame::Overruns => break true,
                Frame::Absent => break false,
            }
        };
        Ok(Remains { said, framed: (end > body).then_some(end), overruns })
    }

    /// The end of the batch at `place` by its envelope, if there is one that can be read.
    fn said_end(&mut self, place: u64) -> io::Result<Option<u64>> {
        match decode_envelope(self.at_least(place, LINE_BYTES_MAX)?) {
            Decoded::Whole { value, bytes } if value.body_bytes <= BYTES_MAX as u64 => {
                Ok(place.checked_add(bytes as u64 + value.body_bytes))
            }
            _ => Ok(None),
        }
    }

    fn frame(&mut self, place: u64) -> io::Result<Frame> {
        let Some(end) = frame_end(self.at_least(place, FRAME_BYTES_MAX)?, place) else {
            return Ok(Frame::Absent);
        };
        if end > self.end {
            return Ok(Frame::Overruns);
        }
        let is_ended = self.at_least(end - 2, 2)?.starts_with(b"\r\n");
        Ok(if is_ended { Frame::Whole(end) } else { Frame::Absent })
    }

    /// The first batch from `from` on that does not look like a part of a message.
    fn search(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        while let Some(place) = self.next_keyword(from)? {
            if let Frame::Whole(end) = self.frame(place)? {
                from = end;
                continue;
            }
            from = match self.row_end(place)? {
                None => place + 1,
                Some(end) if self.is_in_message(place, end)? => end,
                Some(_) => return Ok(Some(place)),
            };
        }
        Ok(None)
    }

    /// The first place from `from` on where a batch or a message may start.
    fn next_keyword(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        while from < self.end {
            let bytes = self.at_least(from, COMMAND.len())?;
            let Some(skip) = memchr2(b'B', b'M', bytes) else {
                from += bytes.len().max(1) as u64;
                continue;
            };
            from += skip as u64;
            let word = self.at_least(from, COMMAND.len())?;
            if word.starts_with(COMMAND) || word.starts_with(FRAME) {
                return Ok(Some(from));
            }
            from += 1;
        }
        Ok(None)
    }

    /// Where the row of batches ends that begins at `place` with a valid one; damaged ones with envelopes belong to it.
    fn row_end(&mut self, place: u64) -> io::Result<Option<u64>> {
        let Some((bytes, _)) = self.valid_batch(place)? else { return Ok(None) };
        let mut end = place + bytes;
        // A row that is longer than the longest message cannot be inside one.
        while end - place <= BYTES_MAX as u64 {
            match self.said_end(end)? {
                Some(next) if next <= self.end => end = next,
                _ => break,
            }
        }
        Ok(Some(end))
    }

    /// Whether the row of batches from `start` to `end` looks like the contents of a message.
    fn is_in_message(&mut self, start: u64, end: u64) -> io::Result<bool> {
        if end - start > BYTES_MAX as u64 {
            return Ok(false);
        }
        let is_behind_zeros = start.checked_sub(1).map(|before| self.at_least(before, 1)).transpose()?;
        let is_behind_zeros = is_behind_zeros.is_some_and(|bytes| bytes.starts_with(b"\0"));
        let behind = self.at_least(end, 2)?;
        Ok(behind.starts_with(b"\r\n") || (behind.starts_with(b"\0") && !is_behind_zeros))
    }
}

/// Where the message ends whose header begins `bytes`, which are at `place`.
fn frame_end(bytes: &[u8], place: u64) -> Option<u64> {
    let rest = bytes.strip_prefix(FRAME)?;
    let window = rest.get(..FRAME_BYTES_MAX).unwrap_or(rest);
    let digits = window.get(..memmem::find(window, b"\r\n")?)?;
    let header = (FRAME.len() + digits.len() + 2) as u64;
    place.checked_add(header)?.checked_add(parse_u64(digits).ok()?)?.checked_add(2)
}
