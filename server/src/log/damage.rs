//! Finding the next batch behind damage.
//!
//! A message may hold the bytes of whole batches, so what looks like a batch behind damage may be a part of the damaged
//! one. What is left of the damaged batch is asked first, and only what it cannot answer is guessed:
//!
//! 1. If its envelope can be read, it says where the batch ends, and so do the frames of its messages. Where a valid
//!    batch starts there, that is the next one. Where another damaged one starts, that one is asked in turn. An envelope is
//!    not believed if a valid batch lies across the end that it names.
//! 2. If it reaches up to the end of the partition or, by its envelope and its last frame, beyond it, nothing follows.
//! 3. Otherwise every envelope that follows is tried; messages whose frames are whole are stepped over. The row of
//!    batches that begins there, some of them perhaps damaged, counts unless it ends as the contents of a message do,
//!    before `\r\n` or where the header before it says. Nor does it count if it ends before zeros, which a power cut
//!    leaves, and does not begin behind them: that is what a large batch looks like whose beginning and end are lost.
//!
//! What was found once is found again when the partition has grown: an envelope that named an end beyond the partition's
//! is contradicted by what was appended since.

use std::io;

use logd_protocol::limits::LINE_BYTES_MAX;
use logd_protocol::{Decoded, decode_envelope, parse_u64};
use memchr::{memchr2, memmem};

use super::scan::{BYTES_MAX, Window};

const COMMAND: &[u8] = b"BATCH ";
const FRAME: &[u8] = b"MSG ";

/// The longest header of a message: `MSG `, twenty digits, `\r\n`.
const FRAME_BYTES_MAX: usize = 26;

/// The least bytes of a message: `MSG 0\r\n\r\n`.
const MESSAGE_BYTES_MIN: u64 = 9;

/// The bytes behind the contents of a message: `\r\n`.
const MESSAGE_END_BYTES: u64 = 2;

/// How many batches are tried behind one damaged place that would contradict an envelope: each can be as long as the
/// longest, and what has the look of them was written by somebody.
const TRIES_MAX: u32 = 64;

/// Where the end of an envelope is looked for: few are longer.
const ENVELOPE_BYTES: usize = 512;

/// What has been lost with damaged bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// How many batches.
    pub batches: u64,
    /// How many messages were in them.
    pub messages: u64,
    /// Whether that is known; otherwise it is the least that can be said.
    pub is_exact: bool,
}

impl Lost {
    /// Where bytes of a topic are none of a batch there was one, and more cannot be said.
    pub(super) const AT_LEAST_ONE: Self = Self { batches: 1, messages: 0, is_exact: false };
}

/// Where a batch lies, by its envelope.
struct Extent {
    body: u64,
    end: u64,
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
        let mut tries_left = TRIES_MAX;
        loop {
            let next = match self.extent(at)? {
                Some(extent) => self.behind(&extent, &mut tries_left)?,
                None => self.search(at + 1)?,
            };
            match next {
                Some(next) if self.valid_batch(next)?.is_none() => at = next,
                found => return Ok(found),
            }
        }
    }

    /// What has been lost between two places where batches start: what the envelopes say that are left there, if they
    /// lead from the one to the other.
    pub(super) fn lost(&mut self, mut from: u64, to: u64) -> io::Result<Lost> {
        let mut lost = Lost { batches: 0, messages: 0, is_exact: true };
        while from < to {
            let Decoded::Whole { value, bytes } = decode_envelope(self.at_least(from, LINE_BYTES_MAX)?)
            else {
                return Ok(Lost::AT_LEAST_ONE);
            };
            from = from.saturating_add(bytes as u64).saturating_add(value.body_bytes);
            // More messages than have room in the body: the count is what is damaged.
            if from > to || value.messages > value.body_bytes / MESSAGE_BYTES_MIN {
                return Ok(Lost::AT_LEAST_ONE);
            }
            lost.batches += 1;
            lost.messages = lost.messages.saturating_add(value.messages);
        }
        Ok(lost)
    }

    /// Where the next batch starts, valid or not, behind a damaged one whose envelope can be read.
    fn behind(&mut self, damaged: &Extent, tries_left: &mut u32) -> io::Result<Option<u64>> {
        let said = damaged.end;
        let (framed, overruns) = self.frames_end(damaged.body)?;
        // The first of them: no batch stands between the messages of another.
        if self.valid_batch(said.min(framed))?.is_some() {
            return Ok(Some(said.min(framed)));
        }
        if framed < said && self.is_contradicted(framed, said, tries_left)? {
            return self.search(framed);
        }
        if self.valid_batch(said.max(framed))?.is_some() {
            return Ok(Some(said.max(framed)));
        }
        if said == self.end || (said > self.end && overruns) {
            return Ok(None);
        }
        for end in [said, framed] {
            if self.extent(end)?.is_some() {
                return Ok(Some(end));
            }
        }
        let is_believed = said < self.end && framed <= said;
        self.search(if is_believed { said } else { framed })
    }

    /// Whether a valid batch that begins from `from` on lies across `said`, where a damaged batch ends by its envelope, or
    /// ends there: inside a message of the damaged one it would end before the message does.
    fn is_contradicted(&mut self, mut from: u64, said: u64, tries_left: &mut u32) -> io::Result<bool> {
        while said <= self.end
            && *tries_left > 0
            && let Some(place) = self.next_keyword(from, said)?
        {
            from = place + 1;
            let Some(Extent { body, end }) = self.extent(place)? else { continue };
            if end.saturating_add(MESSAGE_END_BYTES) <= said {
                continue;
            }
            *tries_left -= 1;
            // The frames are looked at first: that takes no reading of what may only be announced.
            if self.frames_end(body)?.0 == end
                && !self.ends_as_message(place, end)?
                && self.valid_batch(place)?.is_some()
                && !self.is_in_message(place, end)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the line before `start` ends in a number of bytes after which, and `\r\n`, `end` comes: a message whose
    /// header may be damaged, and whose contents are a batch but for the last `\r\n`.
    fn ends_as_message(&mut self, start: u64, end: u64) -> io::Result<bool> {
        let from = start.saturating_sub(FRAME_BYTES_MAX as u64);
        let before = self.at_least(from, FRAME_BYTES_MAX)?;
        let before = usize::try_from(start - from).ok().and_then(|bytes| before.get(..bytes));
        let Some(line) = before.and_then(|before| before.strip_suffix(b"\r\n")) else { return Ok(false) };
        let digits = line.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = line.get(line.len() - digits..).unwrap_or_default();
        Ok(parse_u64(digits).is_ok_and(|bytes| bytes.checked_add(MESSAGE_END_BYTES) == Some(end - start)))
    }

    /// Where the batch at `place` lies, if its envelope can be read.
    fn extent(&mut self, place: u64) -> io::Result<Option<Extent>> {
        let Decoded::Whole { value, bytes } = decode_envelope(self.at_least(place, LINE_BYTES_MAX)?) else {
            return Ok(None);
        };
        let body = place.saturating_add(bytes as u64);
        let end = body.checked_add(value.body_bytes).filter(|_| value.body_bytes <= BYTES_MAX as u64);
        Ok(end.map(|end| Extent { body, end }))
    }

    /// Where the row of whole messages ends that begins at `place`, and whether one follows that is longer than what
    /// is left of the partition.
    fn frames_end(&mut self, place: u64) -> io::Result<(u64, bool)> {
        let mut end = place;
        loop {
            match self.frame(end)? {
                Frame::Whole(next) => end = next,
                Frame::Overruns => return Ok((end, true)),
                Frame::Absent => return Ok((end, false)),
            }
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

    /// The first batch from `from` on, valid or not, that does not look like a part of a message.
    fn search(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        while let Some(place) = self.next_keyword(from, self.end)? {
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

    /// The first place from `from` on, and before `until`, where a batch or a message may start.
    fn next_keyword(&mut self, mut from: u64, until: u64) -> io::Result<Option<u64>> {
        while from < until.min(self.end) {
            let bytes = self.at_least(from, COMMAND.len())?;
            let Some(skip) = memchr2(b'B', b'M', bytes) else {
                from += bytes.len().max(1) as u64;
                continue;
            };
            from += skip as u64;
            let word = self.at_least(from, COMMAND.len())?;
            if word.starts_with(COMMAND) || word.starts_with(FRAME) {
                return Ok(Some(from).filter(|from| *from < until));
            }
            from += 1;
        }
        Ok(None)
    }

    /// Where the row of batches ends that begins at `place`, if one begins there: valid, or at least with a message.
    fn row_end(&mut self, place: u64) -> io::Result<Option<u64>> {
        let Some(first) = self.extent(place)? else { return Ok(None) };
        let has_message = frame_end(self.at_least(first.body, FRAME_BYTES_MAX)?, 0).is_some();
        if !(has_message || self.valid_batch(place)?.is_some()) {
            return Ok(None);
        }
        let mut end = first.end.min(self.end);
        // A row that is longer than the longest message cannot be inside one.
        while end - place <= BYTES_MAX as u64 {
            match self.extent(end)? {
                Some(next) if next.end <= self.end => end = next.end,
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
        // Also where it was cut off in between.
        if self.at_least(end, 1)?.starts_with(b"\r") || self.is_contents(start, end)? {
            return Ok(true);
        }
        let is_behind_loss = match start.checked_sub(1) {
            Some(before) => self.at_least(before, 1)?.starts_with(b"\0"),
            None => false,
        };
        Ok(!is_behind_loss && self.is_lost(end)?)
    }

    /// Whether the header of a message stands before `start` that says that its contents end at `end`.
    fn is_contents(&mut self, start: u64, end: u64) -> io::Result<bool> {
        let from = start.saturating_sub(FRAME_BYTES_MAX as u64);
        let before = self.at_least(from, FRAME_BYTES_MAX)?;
        let before = usize::try_from(start - from).ok().and_then(|bytes| before.get(..bytes));
        let header = before.and_then(|before| before.get(memmem::rfind(before, FRAME)?..));
        let digits = header.and_then(|header| header.strip_prefix(FRAME)?.strip_suffix(b"\r\n"));
        Ok(digits.is_some_and(|digits| parse_u64(digits) == Ok(end - start)))
    }

    /// Whether zeros are at `place`, or cut off the envelope that begins there.
    fn is_lost(&mut self, place: u64) -> io::Result<bool> {
        let bytes = self.at_least(place, ENVELOPE_BYTES)?;
        let window = bytes.get(..ENVELOPE_BYTES).unwrap_or(bytes);
        Ok(memchr2(0, b'\n', window).is_some_and(|found| window.get(found) == Some(&0)))
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
