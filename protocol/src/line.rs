//! Lines and tokens: what every request and answer begins with.

use crate::decode::Decoded;
use crate::error::Broken;
use crate::limits::LINE_BYTES_MAX;

/// A whole line without its `\r\n`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The text of the line.
    pub(crate) text: &'a [u8],
    /// The bytes of the line, its `\r\n` included.
    pub(crate) bytes: usize,
}

/// Finds the line at the beginning of `buffer`.
///
/// docs/protocol.md, "Lines": a line ends in `\r\n` and has at most [`LINE_BYTES_MAX`] bytes with it.
pub(crate) fn decode_line(buffer: &[u8]) -> Decoded<Line<'_>> {
    let window = buffer.get(..LINE_BYTES_MAX).unwrap_or(buffer);
    let Some(newline) = memchr::memchr(b'\n', window) else {
        if buffer.len() >= LINE_BYTES_MAX {
            return Decoded::Broken(Broken::LineTooLong);
        }
        return Decoded::More { bytes: buffer.len() + 1 };
    };
    match window.get(..newline).and_then(|line| line.strip_suffix(b"\r")) {
        Some(text) => Decoded::Whole { value: Line { text, bytes: newline + 1 }, bytes: newline + 1 },
        None => Decoded::Broken(Broken::LineEnd),
    }
}

/// The tokens of a line: separated by exactly one space, so that two spaces make an empty token.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { rest: Some(text) }
    }

    /// The next token, which must be there and not be empty.
    pub(crate) fn required(&mut self) -> Result<&'a [u8], Broken> {
        match self.next() {
            None => Err(Broken::MissingArgument),
            Some([]) => Err(Broken::EmptyToken),
            Some(token) => Ok(token),
        }
    }

    /// What is left of the line, as it is.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest.unwrap_or_default()
    }

    /// Whether every token has been taken.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_none()
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest?;
        if let Some((token, rest)) = memchr::memchr(b' ', text).and_then(|space| text.split_at_checked(space))
        {
            self.rest = rest.get(1..);
            Some(token)
        } else {
            self.rest = None;
            Some(text)
        }
    }
}
