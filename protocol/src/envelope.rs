//! The envelope of a batch: `BATCH <body_bytes> <topic> <crc> <messages>\r\n`, with `key=value` tokens to follow.

use bytes::BufMut;

use crate::error::Broken;
use crate::id::BatchId;
use crate::limits::TOPIC_BYTES_MAX;
use crate::line::Tokens;
use crate::number::{digits, parse_u64, put_u64};
use crate::topic::TopicRef;

/// The command and its space.
pub(crate) const COMMAND: &[u8] = b"BATCH ";

/// What an envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The bytes of the body that follows.
    pub body_bytes: u64,
    /// The topic that the batch is for.
    pub topic: TopicRef<'a>,
    /// The [`checksum`](crate::checksum) of the body.
    pub crc: u32,
    /// How many messages the body has.
    pub messages: u64,
    /// What follows on the line: `key=value` tokens, or nothing.
    pub extensions: &'a [u8],
}

/// The tokens of an envelope before they are understood, so that a server can tell which of them is wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EnvelopeTokens<'a> {
    pub(crate) body_bytes: &'a [u8],
    pub(crate) topic: &'a [u8],
    pub(crate) crc: &'a [u8],
    pub(crate) messages: &'a [u8],
    pub(crate) extensions: &'a [u8],
}

impl<'a> EnvelopeTokens<'a> {
    /// Splits a line without its `\r\n`.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Broken> {
        let arguments = text.strip_prefix(COMMAND).ok_or(Broken::UnknownCommand)?;
        Self::parse_arguments(Tokens::new(arguments))
    }

    /// Splits what follows the command.
    pub(crate) fn parse_arguments(mut tokens: Tokens<'a>) -> Result<Self, Broken> {
        let body_bytes = tokens.required()?;
        let topic = tokens.required()?;
        let crc = tokens.required()?;
        let messages = tokens.required()?;
        if !tokens.is_done() && tokens.clone().any(<[u8]>::is_empty) {
            return Err(Broken::EmptyToken);
        }
        Ok(Self { body_bytes, topic, crc, messages, extensions: tokens.rest() })
    }
}

impl<'a> Envelope<'a> {
    /// Understands every token.
    pub(crate) fn parse(tokens: &EnvelopeTokens<'a>) -> Result<Self, Broken> {
        let number = |token| parse_u64(token).map_err(|_| Broken::Number);
        Ok(Self {
            body_bytes: number(tokens.body_bytes)?,
            topic: TopicRef::parse(tokens.topic).map_err(|_| Broken::Topic)?,
            crc: u32::try_from(number(tokens.crc)?).map_err(|_| Broken::Number)?,
            messages: number(tokens.messages)?,
            extensions: tokens.extensions,
        })
    }

    /// Which batch of which writer it is, where the line says so.
    pub fn id(&self) -> Option<BatchId> {
        BatchId::parse(self.extensions).ok().flatten()
    }

    /// The bytes that [`Envelope::put`] writes.
    pub(crate) fn bytes(&self) -> usize {
        let extensions = if self.extensions.is_empty() { 0 } else { 1 + self.extensions.len() };
        COMMAND.len()
            + digits(self.body_bytes)
            + self.topic.as_str().len()
            + digits(u64::from(self.crc))
            + digits(self.messages)
            + "   ".len()
            + extensions
            + "\r\n".len()
    }

    /// Writes the envelope with its `\r\n`.
    pub(crate) fn put(&self, out: &mut impl BufMut) {
        out.put_slice(COMMAND);
        put_u64(out, self.body_bytes);
        out.put_u8(b' ');
        out.put_slice(self.topic.as_str().as_bytes());
        out.put_u8(b' ');
        put_u64(out, u64::from(self.crc));
        out.put_u8(b' ');
        put_u64(out, self.messages);
        if !self.extensions.is_empty() {
            out.put_u8(b' ');
            out.put_slice(self.extensions);
        }
        out.put_slice(b"\r\n");
    }
}

/// The longest envelope without extensions for a topic name of `topic_bytes` bytes.
pub(crate) const fn bytes_max(topic_bytes: usize) -> usize {
    COMMAND.len() + 20 + topic_bytes + 10 + 20 + "   ".len() + "\r\n".len()
}

const _: () = assert!(
    bytes_max(TOPIC_BYTES_MAX) + 1 + BatchId::BYTES_MAX < crate::limits::BATCH_BYTES_MIN,
    "an envelope fits every batch"
);
