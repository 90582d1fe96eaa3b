//! Messages in a body: `MSG <bytes>\r\n<bytes>\r\n`, repeated.

use bytes::BufMut;
use thiserror::Error;

use crate::number::{digits, parse_u64, put_u64};

/// The longest header of a message: `MSG `, twenty digits, `\r\n`.
const HEADER_BYTES_MAX: usize = 4 + 20 + 2;

/// Where and why a body stops being a row of framed messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A message does not begin with `MSG <bytes>\r\n`.
    #[error("no message header at byte {at}")]
    Header {
        /// The byte index in the body.
        at: usize,
    },
    /// A message is longer than what is left of the body.
    #[error("the message at byte {at} is longer than the body")]
    Length {
        /// The byte index in the body.
        at: usize,
    },
    /// A message's bytes are not followed by `\r\n`.
    #[error("the message at byte {at} does not end in `\\r\\n`")]
    End {
        /// The byte index in the body.
        at: usize,
    },
}

/// A message of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The byte index in the body at which the message's header starts.
    pub delta: usize,
    /// The byte index in the body at which the message's own bytes start.
    pub start: usize,
    /// The message's own bytes.
    pub bytes: &'a [u8],
}

/// How many bytes of a body a message of `bytes` bytes takes.
pub fn framed_bytes(bytes: usize) -> usize {
    (4 + digits(bytes as u64) + 2).saturating_add(bytes).saturating_add(2)
}

/// Writes a message with its frame.
pub(crate) fn put_message(out: &mut impl BufMut, message: &[u8]) {
    out.put_slice(b"MSG ");
    put_u64(out, message.len() as u64);
    out.put_slice(b"\r\n");
    out.put_slice(message);
    out.put_slice(b"\r\n");
}

/// The messages of a body, in order. After an error there are no more.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Messages<'a> {
    /// Begins at the first message of `body`.
    pub const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Begins at the message whose header starts at byte `delta` of `body`.
    pub const fn starting_at(body: &'a [u8], delta: usize) -> Self {
        Self { body, at: delta }
    }

    /// Where the next message's header starts.
    pub const fn delta(&self) -> usize {
        self.at
    }

    /// A message whose length has few digits, as nearly all have; `None` where that is not so, or anything is wrong.
    fn parse_short(&self) -> Option<Message<'a>> {
        let header = self.body.get(self.at..)?.strip_prefix(b"MSG ")?;
        let mut length = 0;
        let mut digits = 0;
        // As many as no overflow can come of.
        for byte in header.iter().take(9) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            length = length * 10 + usize::from(digit);
            digits += 1;
        }
        let rest = header.get(digits..)?.strip_prefix(b"\r\n")?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        let is_whole = digits > 0 && rest.starts_with(b"\r\n");
        is_whole.then_some(Message { delta: self.at, start: self.at + 4 + digits + 2, bytes })
    }

    /// docs/protocol.md, "Messages": `MSG <bytes>\r\n<bytes>\r\n`.
    fn parse(&self) -> Result<Message<'a>, FrameError> {
        let at = self.at;
        let rest = self.body.get(at..).unwrap_or_default();
        let header = FrameError::Header { at };
        let digits_and_more = rest.strip_prefix(b"MSG ").ok_or(header)?;
        let window = digits_and_more.get(..HEADER_BYTES_MAX).unwrap_or(digits_and_more);
        let end = window.iter().position(|byte| *byte == b'\r').ok_or(header)?;
        let (number, rest) = digits_and_more.split_at_checked(end).ok_or(header)?;
        let rest = rest.strip_prefix(b"\r\n").ok_or(header)?;
        let length = match parse_u64(number) {
            Ok(number) => usize::try_from(number).map_err(|_| FrameError::Length { at })?,
            Err(crate::number::NumberError::Overflow) => return Err(FrameError::Length { at }),
            Err(crate::number::NumberError::NotDecimal) => return Err(header),
        };
        let (bytes, rest) = rest.split_at_checked(length).ok_or(FrameError::Length { at })?;
        if !rest.starts_with(b"\r\n") {
            return Err(FrameError::End { at });
        }
        Ok(Message { delta: at, start: at + 4 + number.len() + 2, bytes })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.body.len() {
            return None;
        }
        let parsed = self.parse_short().map_or_else(|| self.parse(), Ok);
        self.at = match &parsed {
            Ok(message) => message.start + message.bytes.len() + 2,
            Err(_) => self.body.len(),
        };
        Some(parsed)
    }
}
