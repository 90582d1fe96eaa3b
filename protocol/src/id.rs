//! The identity of a batch: which writer made it, and which of the writer's batches it is.
//!
//! docs/protocol.md, "Dedup": `writer=<16 hex> seq=<n>` on the line of a batch. It is stored with the envelope, so that
//! what a server knows of its writers can be rebuilt from the log.

use std::fmt;

use bytes::BufMut;

use crate::number::{parse_u64, put_u64};

const WRITER: &[u8] = b"writer=";
const SEQ: &[u8] = b"seq=";
const WRITER_DIGITS: usize = 16;

/// Names a writer among all those that write to a topic: a random number, in text 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WriterId(u64);

impl WriterId {
    /// The writer of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    fn parse(digits: &[u8]) -> Option<Self> {
        let is_hex = digits.len() == WRITER_DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| is_hex)?;
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The identity of a batch. A server that knows the extension `dedup` stores the same one only once in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId {
    /// Who made the batch.
    pub writer: WriterId,
    /// Which of its writer's batches it is. The numbers of a writer grow.
    pub seq: u64,
}

/// The tokens of an envelope are not `writer=<16 hex> seq=<n>`, each once, in either order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnknownTokens;

impl BatchId {
    /// The longest that an identity is on a line, without the space before it.
    pub(crate) const BYTES_MAX: usize = WRITER.len() + WRITER_DIGITS + 1 + SEQ.len() + 20;

    /// Reads what follows the arguments on the line of a batch; `None` where nothing does.
    pub(crate) fn parse(extensions: &[u8]) -> Result<Option<Self>, UnknownTokens> {
        if extensions.is_empty() {
            return Ok(None);
        }
        let (mut writer, mut seq) = (None, None);
        for token in extensions.split(|byte| *byte == b' ') {
            if let Some(digits) = token.strip_prefix(WRITER).filter(|_| writer.is_none()) {
                writer = Some(WriterId::parse(digits).ok_or(UnknownTokens)?);
            } else if let Some(digits) = token.strip_prefix(SEQ).filter(|_| seq.is_none()) {
                seq = Some(parse_u64(digits).map_err(|_| UnknownTokens)?);
            } else {
                return Err(UnknownTokens);
            }
        }
        match (writer, seq) {
            (Some(writer), Some(seq)) => Ok(Some(Self { writer, seq })),
            _ => Err(UnknownTokens),
        }
    }

    /// Writes the tokens of the identity, without a space before them.
    pub(crate) fn put(self, out: &mut impl BufMut) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        out.put_slice(WRITER);
        for shift in (0..WRITER_DIGITS).rev() {
            let digit = (self.writer.0 >> (4 * shift)) & 0xf;
            out.put_u8(
                usize::try_from(digit).ok().and_then(|digit| DIGITS.get(digit)).copied().unwrap_or(b'0'),
            );
        }
        out.put_u8(b' ');
        out.put_slice(SEQ);
        put_u64(out, self.seq);
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "writer={} seq={}", self.writer, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: BatchId = BatchId { writer: WriterId::new(0x0123_4567_89ab_cdef), seq: 42 };

    #[test]
    fn written_and_read_as_literal_bytes() {
        let mut line = Vec::new();
        ID.put(&mut line);
        assert_eq!(line, b"writer=0123456789abcdef seq=42");
        assert_eq!(ID.to_string().as_bytes(), line);
        assert_eq!(BatchId::parse(&line), Ok(Some(ID)));
        assert_eq!(BatchId::parse(b"seq=42 writer=0123456789ABCDEF"), Ok(Some(ID)));
        assert_eq!(BatchId::parse(b""), Ok(None));
    }

    #[test]
    fn longest_has_the_length_that_is_said() {
        let mut line = Vec::new();
        BatchId { writer: WriterId::new(u64::MAX), seq: u64::MAX }.put(&mut line);
        assert_eq!(line.len(), BatchId::BYTES_MAX);
    }

    #[test]
    fn anything_else_is_unknown() {
        for tokens in [
            "writer=0123456789abcdef",
            "seq=1",
            "seq=1 seq=2",
            "writer=0123456789abcde seq=1",
            "writer=0123456789abcdef0 seq=1",
            "writer=+123456789abcdef seq=1",
            "writer=0123456789abcdeg seq=1",
            "writer=0123456789abcdef seq=",
            "writer=0123456789abcdef seq=-1",
            "writer=0123456789abcdef seq=18446744073709551616",
            "writer=0123456789abcdef seq=1 wait=1",
            "writer=0123456789abcdef  seq=1",
            "wait=1",
        ] {
            assert_eq!(BatchId::parse(tokens.as_bytes()), Err(UnknownTokens), "{tokens}");
        }
    }
}
