//! A message in hand, until it is done.

use std::fmt;
use std::time::Duration;

use logd_protocol::TopicName;
use logd_statehandlers::{Checkpoint, Position};

use super::shared::Shared;
use super::tracker::Handed;
use crate::scanner::Message;

/// What is to become of a message that was not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nack {
    /// It comes again, not before so much time.
    Retry {
        /// The time.
        after: Duration,
    },
    /// It counts as done.
    Skip,
    /// It goes to the dead letters and counts as done then; without [`dead_letters`](super::ConsumerBuilder::dead_letters),
    /// it is skipped.
    DeadLetter,
}

/// The name of a message, the same however often it comes: for stores that tell repetitions by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    /// The topic.
    pub topic: TopicName,
    /// The position in it.
    pub position: Position,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.topic, self.position)
    }
}

/// A message to be worked on. The checkpoint does not pass it before it is [acknowledged](Received::ack).
///
/// Dropped without that, it is abandoned: it comes again.
///
/// It keeps the batch that the message came in, and so the piece of some 256 KiB that was received with it: copy the bytes
/// to keep few of many, and let the delivery go.
#[derive(Debug)]
#[must_use = "a delivery that is dropped comes again"]
pub struct Received {
    handed: Handed,
    is_settled: bool,
}

impl Received {
    pub(super) const fn new(handed: Handed) -> Self {
        Self { handed, is_settled: false }
    }

    /// The message, which shares the bytes of its batch.
    pub fn message(&self) -> Message {
        self.handed.lot.message(self.handed.span)
    }

    /// The message's own bytes.
    pub fn bytes(&self) -> &[u8] {
        self.handed.lot.bytes(self.handed.span)
    }

    /// Where the message is.
    pub fn position(&self) -> Position {
        self.handed.position()
    }

    /// The position behind it.
    pub fn next(&self) -> Position {
        self.handed.next()
    }

    /// The name of the message.
    pub fn id(&self) -> DeliveryId {
        DeliveryId { topic: self.shared().key.topic().clone(), position: self.position() }
    }

    /// How often it has come before, to this consumer since it was opened.
    pub const fn redelivered(&self) -> u32 {
        self.handed.returned
    }

    /// The checkpoint of a reader that has done this message and all before it: what a transaction stores, see
    /// [`Consumer::token`](super::Consumer::token).
    pub fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::at(self.next());
        checkpoint.anchor = Some(self.handed.lot.anchor());
        checkpoint.user.clone_from(&self.shared().lock().user);
        checkpoint.written_now()
    }

    /// The message is done. It cannot fail: the checkpoint is stored later, and until then the message can come again,
    /// after a crash.
    pub fn ack(mut self) {
        self.is_settled = true;
        self.shared().ack(&self.handed);
    }

    /// The message is not done.
    pub fn nack(mut self, nack: Nack) {
        self.is_settled = true;
        match nack {
            Nack::Retry { after } => self.shared().give_back(&self.handed, after),
            Nack::Skip => self.shared().ack(&self.handed),
            Nack::DeadLetter => self.shared().bury(&self.handed),
        }
    }

    fn shared(&self) -> &Shared {
        &self.handed.lot.shared
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if !self.is_settled {
            self.shared().give_back(&self.handed, Duration::ZERO);
        }
    }
}
