//! Batches: as they are read, checked, and kept.

use bytes::{Bytes, BytesMut};

use crate::crc::checksum;
use crate::decode::{Decoded, decode_batch, decode_envelope};
use crate::envelope::Envelope;
use crate::error::BatchError;
use crate::id::BatchId;
use crate::message::Messages;
use crate::topic::{TopicName, TopicRef};

/// The bytes of a batch whose envelope has been understood; nothing is known about its body yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawBatch<'a> {
    pub(crate) envelope: Envelope<'a>,
    pub(crate) bytes: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> RawBatch<'a> {
    /// What the envelope says.
    pub const fn envelope(&self) -> &Envelope<'a> {
        &self.envelope
    }

    /// Envelope and body.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The body.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether the body has the checksum that the envelope names.
    ///
    /// # Errors
    /// [`BatchError::Checksum`] with both.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let actual = checksum(self.body);
        if actual == self.envelope.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum { expected: self.envelope.crc, actual })
        }
    }

    /// Checks that there are messages, the checksum, the frames, and the number of messages.
    ///
    /// # Errors
    /// [`BatchError`] names the first of these that is wrong.
    pub fn check(&self) -> Result<CheckedBatch<'a>, BatchError> {
        if self.body.is_empty() || self.envelope.messages == 0 {
            return Err(BatchError::Empty);
        }
        self.check_crc()?;
        let mut actual = 0;
        for message in Messages::new(self.body) {
            message?;
            actual += 1;
        }
        if actual != self.envelope.messages {
            return Err(BatchError::Count { expected: self.envelope.messages, actual });
        }
        Ok(CheckedBatch(*self))
    }
}

/// A batch that is right in every respect: checksum, frames, and number of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedBatch<'a>(RawBatch<'a>);

impl<'a> CheckedBatch<'a> {
    /// The topic that the batch is for.
    pub const fn topic(&self) -> TopicRef<'a> {
        self.0.envelope.topic
    }

    /// Which batch of which writer it is, where the envelope says so.
    pub fn id(&self) -> Option<BatchId> {
        self.0.envelope.id()
    }

    /// Envelope and body.
    pub const fn bytes(&self) -> &'a [u8] {
        self.0.bytes
    }

    /// How many messages the batch has, at least one.
    pub const fn messages(&self) -> u64 {
        self.0.envelope.messages
    }

    /// The messages.
    pub const fn iter(&self) -> Messages<'a> {
        Messages::new(self.0.body)
    }
}

impl<'a> IntoIterator for &CheckedBatch<'a> {
    type Item = Result<crate::Message<'a>, crate::FrameError>;
    type IntoIter = Messages<'a>;

    fn into_iter(self) -> Messages<'a> {
        self.iter()
    }
}

/// A valid batch that owns its bytes. Cloning it copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    envelope_bytes: usize,
    messages: u64,
    crc: u32,
    id: Option<BatchId>,
}

impl Batch {
    /// Takes the bytes of a batch that has been put together from its envelope and its body.
    pub(crate) fn from_parts(bytes: Bytes, envelope: &Envelope<'_>) -> Self {
        Self {
            bytes,
            envelope_bytes: envelope.bytes(),
            messages: envelope.messages,
            crc: envelope.crc,
            id: envelope.id(),
        }
    }

    /// Takes the batch at the beginning of `buffer` off it, and checks it.
    ///
    /// The bytes are taken whether the batch is right or not, so that a reader can go on behind a damaged one. The
    /// batch keeps them without a copy.
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use logd_protocol::{Batch, Decoded};
    ///
    /// let mut buffer = BytesMut::from(&b"BATCH 14 default 1680380747 1\r\nMSG 5\r\nhello"[..]);
    /// assert!(matches!(Batch::take(&mut buffer, 65536), Decoded::More { bytes: 45 }));
    /// ```
    pub fn take(buffer: &mut BytesMut, bytes_max: usize) -> Decoded<Result<Self, BatchError>> {
        let (checked, bytes) = match decode_batch(buffer, bytes_max) {
            Decoded::Whole { value, bytes } => (value.check().map(|_| Parts::of(&value)), bytes),
            Decoded::More { bytes } => return Decoded::More { bytes },
            Decoded::Broken(broken) => return Decoded::Broken(broken),
        };
        let taken = buffer.split_to(bytes).freeze();
        let value = checked.map(|Parts { envelope_bytes, messages, crc, id }| Self {
            bytes: taken,
            envelope_bytes,
            messages,
            crc,
            id,
        });
        Decoded::Whole { value, bytes }
    }

    /// Envelope and body, as they are sent and stored.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The body: the framed messages.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.envelope_bytes..)
    }

    /// How many messages the batch has.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// The checksum of the body.
    pub const fn crc(&self) -> u32 {
        self.crc
    }

    /// Which batch of which writer it is, where the envelope says so.
    pub const fn id(&self) -> Option<BatchId> {
        self.id
    }

    /// The topic that the batch is for.
    pub fn topic(&self) -> TopicName {
        match decode_envelope(&self.bytes) {
            Decoded::Whole { value, .. } => value.topic.into(),
            // A batch is only made from an envelope that can be read.
            Decoded::More { .. } | Decoded::Broken(_) => TopicName::default(),
        }
    }

    /// The same batch under another identity, or under none; its body is copied unless the identity is the same.
    ///
    /// It can become longer by 50 bytes.
    #[must_use]
    pub fn with_id(&self, id: Option<BatchId>) -> Self {
        if id == self.id {
            return self.clone();
        }
        let mut extensions = Vec::new();
        if let Some(id) = id {
            id.put(&mut extensions);
        }
        let (body, topic) = (self.body(), self.topic());
        let envelope = Envelope {
            body_bytes: body.len() as u64,
            topic: topic.as_topic(),
            crc: self.crc,
            messages: self.messages,
            extensions: &extensions,
        };
        let mut bytes = BytesMut::with_capacity(envelope.bytes() + body.len());
        envelope.put(&mut bytes);
        bytes.extend_from_slice(&body);
        Self::from_parts(bytes.freeze(), &envelope)
    }

    /// The messages from byte `delta` of the body on, each a slice of the batch's own bytes. `0` begins at the first.
    pub fn messages_from(&self, delta: usize) -> BatchMessages {
        BatchMessages { body: self.body(), at: delta }
    }
}

/// What a [`Batch`] keeps of its envelope.
struct Parts {
    envelope_bytes: usize,
    messages: u64,
    crc: u32,
    id: Option<BatchId>,
}

impl Parts {
    fn of(raw: &RawBatch<'_>) -> Self {
        let envelope_bytes = raw.bytes.len() - raw.body.len();
        Self { envelope_bytes, messages: raw.envelope.messages, crc: raw.envelope.crc, id: raw.envelope.id() }
    }
}

/// A message that shares the bytes of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMessage {
    /// The byte index in the body at which the message's header starts.
    pub delta: usize,
    /// The message's own bytes.
    pub bytes: Bytes,
}

/// The messages of a [`Batch`], in order. They own a share of the batch, so they can outlive it.
#[derive(Debug, Clone)]
pub struct BatchMessages {
    body: Bytes,
    at: usize,
}

impl BatchMessages {
    /// Where the next message's header starts in the body; the body's length after the last message.
    pub const fn delta(&self) -> usize {
        self.at
    }

    /// Whether every message has been yielded.
    pub fn is_done(&self) -> bool {
        self.at >= self.body.len()
    }

    /// The body that the messages lie in.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Iterator for BatchMessages {
    type Item = BatchMessage;

    fn next(&mut self) -> Option<BatchMessage> {
        let mut messages = Messages::starting_at(&self.body, self.at);
        // A batch's frames were checked when it was made: an error can only come from a wrong `delta`, and ends here.
        let message = messages.next()?.ok();
        self.at = messages.delta();
        let message = message?;
        Some(BatchMessage { delta: message.delta, bytes: self.body.slice_ref(message.bytes) })
    }
}
