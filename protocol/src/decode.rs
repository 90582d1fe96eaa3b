//! Decoding over a growing buffer: each decoder looks at what has arrived so far and says "more", "whole" or "broken".
//!
//! A decoder never keeps anything between two calls. Whatever the split of the stream, the same bytes give the same
//! answer: a decoder that says [`Decoded::More`] says it again until enough has arrived.

use crate::batch::RawBatch;
use crate::envelope::{Envelope, EnvelopeTokens};
use crate::error::Broken;
use crate::line::decode_line;

pub use crate::request::decode_request;
pub use crate::response::decode_response;

/// What the beginning of a buffer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<T> {
    /// Not yet all of it: there must be at least `bytes` bytes in the buffer before it is worth looking again.
    More {
        /// The length that the buffer must have at least, always more than it has.
        bytes: usize,
    },
    /// A whole one, in the first `bytes` bytes of the buffer.
    Whole {
        /// What it is.
        value: T,
        /// How many bytes it takes.
        bytes: usize,
    },
    /// Bytes that cannot become one, whatever follows.
    Broken(Broken),
}

/// Decodes the envelope of a batch; the body can still be missing.
///
/// The body is only promised to be countable: [`Envelope::body_bytes`] can be any number.
pub fn decode_envelope(buffer: &[u8]) -> Decoded<Envelope<'_>> {
    let line = match decode_line(buffer) {
        Decoded::Whole { value, .. } => value,
        Decoded::More { bytes } => return Decoded::More { bytes },
        Decoded::Broken(broken) => return Decoded::Broken(broken),
    };
    match EnvelopeTokens::parse(line.text).and_then(|tokens| Envelope::parse(&tokens)) {
        Ok(value) => Decoded::Whole { value, bytes: line.bytes },
        Err(broken) => Decoded::Broken(broken),
    }
}

/// Decodes a batch as it is sent and stored: envelope and body, of at most `bytes_max` bytes together.
///
/// The body is not looked at; [`RawBatch::check`] does that.
pub fn decode_batch(buffer: &[u8], bytes_max: usize) -> Decoded<RawBatch<'_>> {
    let (envelope, envelope_bytes) = match decode_envelope(buffer) {
        Decoded::Whole { value, bytes } => (value, bytes),
        Decoded::More { bytes } => return Decoded::More { bytes },
        Decoded::Broken(broken) => return Decoded::Broken(broken),
    };
    let bytes = match usize::try_from(envelope.body_bytes).map(|body| body.checked_add(envelope_bytes)) {
        Ok(Some(bytes)) if bytes <= bytes_max => bytes,
        _ => return Decoded::Broken(Broken::TooLarge { limit: bytes_max }),
    };
    let whole = buffer.get(..bytes);
    match whole.and_then(|whole| whole.get(envelope_bytes..).map(|body| (whole, body))) {
        Some((whole, body)) => Decoded::Whole { value: RawBatch { envelope, bytes: whole, body }, bytes },
        None => Decoded::More { bytes },
    }
}
