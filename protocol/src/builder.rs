//! Building a batch: every message is framed straight into the bytes that will be sent.
//!
//! The envelope stands before the body but is known only at the end. So the builder leaves room for the longest
//! envelope in front, and [`BatchBuilder::finish`] writes the real one right up to the body: nothing is moved.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::batch::Batch;
use crate::crc::checksum;
use crate::envelope::{self, Envelope};
use crate::id::BatchId;
use crate::message::{framed_bytes, put_message};
use crate::topic::TopicName;

/// Why a message was not put into a batch. The builder is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PushError {
    /// The batch has no room for it; an empty one has.
    #[error("the batch has no room for another {bytes} bytes")]
    Full {
        /// The length of the message.
        bytes: usize,
    },
    /// Not even an empty batch has room for it.
    #[error("a message of {bytes} bytes does not fit a batch: the longest that fits has {bytes_max} bytes")]
    TooLong {
        /// The length of the message.
        bytes: usize,
        /// The longest message that an empty batch has room for.
        bytes_max: usize,
    },
}

/// A batch under construction, of at most a given number of bytes.
///
/// After [`BatchBuilder::finish`] it is empty again and can be filled anew.
#[derive(Debug)]
pub struct BatchBuilder {
    topic: TopicName,
    batch_bytes_max: usize,
    /// Room for the envelope, then the body.
    buffer: BytesMut,
    /// The bytes kept free for the envelope.
    room: usize,
    /// How many of them for an identity.
    id_bytes: usize,
    messages: u64,
}

impl BatchBuilder {
    /// An empty batch for `topic` whose envelope and body will have at most `batch_bytes_max` bytes together.
    pub fn new(topic: &TopicName, batch_bytes_max: usize) -> Self {
        Self::with_room(topic, batch_bytes_max, 0)
    }

    /// As [`BatchBuilder::new`], with room for the identity that [`BatchBuilder::finish_as`] writes.
    pub fn with_ids(topic: &TopicName, batch_bytes_max: usize) -> Self {
        Self::with_room(topic, batch_bytes_max, 1 + BatchId::BYTES_MAX)
    }

    fn with_room(topic: &TopicName, batch_bytes_max: usize, id_bytes: usize) -> Self {
        let room = envelope::bytes_max(topic.as_str().len()) + id_bytes;
        Self { topic: topic.clone(), batch_bytes_max, buffer: BytesMut::new(), room, id_bytes, messages: 0 }
    }

    /// Frames `message` into the batch and returns its delta: the byte index in the body at which it starts.
    ///
    /// # Errors
    /// [`PushError::Full`] when it would fit an empty batch, [`PushError::TooLong`] when it fits none.
    pub fn push(&mut self, message: &[u8]) -> Result<usize, PushError> {
        let framed = framed_bytes(message.len());
        if !self.fits(framed) {
            return Err(self.refusal(message.len(), framed));
        }
        if self.buffer.is_empty() {
            self.buffer.reserve(self.capacity_hint(framed));
            self.buffer.put_bytes(0, self.room);
        }
        let delta = self.body_bytes();
        put_message(&mut self.buffer, message);
        self.messages += 1;
        Ok(delta)
    }

    /// Whether no message has been pushed.
    pub const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// How many messages have been pushed.
    pub const fn messages(&self) -> u64 {
        self.messages
    }

    /// The bytes of the body so far.
    pub fn body_bytes(&self) -> usize {
        self.buffer.len().saturating_sub(self.room)
    }

    /// The bytes that the whole batch would have if it were finished now, at most: the envelope is counted at its
    /// longest.
    pub fn bytes_max(&self) -> usize {
        self.room + self.body_bytes()
    }

    /// Writes the envelope and hands the batch out; `None` when it is empty. The builder is empty afterwards.
    pub fn finish(&mut self) -> Option<Batch> {
        self.finish_with(b"")
    }

    /// As [`BatchBuilder::finish`], with an identity in the envelope.
    ///
    /// A builder that was made without room for it makes a batch that can be 50 bytes longer than it should be.
    pub fn finish_as(&mut self, id: BatchId) -> Option<Batch> {
        let mut extensions = Vec::with_capacity(BatchId::BYTES_MAX);
        id.put(&mut extensions);
        self.finish_with(&extensions)
    }

    fn finish_with(&mut self, extensions: &[u8]) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        let mut bytes = self.buffer.split();
        let messages = std::mem::take(&mut self.messages);
        let body = bytes.get(self.room..).unwrap_or_default();
        let crc = checksum(body);
        let body_bytes = body.len() as u64;
        let envelope = Envelope { body_bytes, topic: self.topic.as_topic(), crc, messages, extensions };
        let Some(start) = self.room.checked_sub(envelope.bytes()) else {
            let mut whole = BytesMut::with_capacity(envelope.bytes() + body.len());
            envelope.put(&mut whole);
            whole.extend_from_slice(body);
            return Some(Batch::from_parts(whole.freeze(), &envelope));
        };
        if let Some(mut place) = bytes.get_mut(start..self.room) {
            envelope.put(&mut place);
        }
        Some(Batch::from_parts(bytes.split_off(start).freeze(), &envelope))
    }

    /// Whether a body longer by `framed` bytes still makes a batch that is small enough, by its exact envelope.
    ///
    /// The checksum is not known yet and is counted with its ten digits.
    fn fits(&self, framed: usize) -> bool {
        let Some(body) = self.body_bytes().checked_add(framed) else { return false };
        self.envelope_bytes(body).checked_add(body).is_some_and(|bytes| bytes <= self.batch_bytes_max)
    }

    fn envelope_bytes(&self, body: usize) -> usize {
        let envelope = Envelope {
            body_bytes: body as u64,
            topic: self.topic.as_topic(),
            crc: u32::MAX,
            messages: self.messages + 1,
            extensions: b"",
        };
        envelope.bytes() + self.id_bytes
    }

    fn refusal(&self, bytes: usize, framed: usize) -> PushError {
        let empty = Self::with_room(&self.topic, self.batch_bytes_max, self.id_bytes);
        if empty.fits(framed) {
            return PushError::Full { bytes };
        }
        // The longest message is a few header bytes shorter than what is left beside the envelope.
        let mut bytes_max = self.batch_bytes_max.saturating_sub(empty.envelope_bytes(self.batch_bytes_max));
        while bytes_max > 0 && !empty.fits(framed_bytes(bytes_max)) {
            bytes_max -= 1;
        }
        PushError::TooLong { bytes, bytes_max }
    }

    /// Room for a whole batch at once, unless batches are so large that most never fill.
    fn capacity_hint(&self, framed: usize) -> usize {
        const EAGER_BYTES_MAX: usize = 1024 * 1024;
        self.room + self.batch_bytes_max.min(EAGER_BYTES_MAX).max(framed)
    }
}
