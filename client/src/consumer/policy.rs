//! The choices of a consumer.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::received::DeliveryId;
use crate::error::ErrorKind;
use crate::scanner::{Message, Start};
use crate::writer::Writer;

/// When checkpoints are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitPolicy {
    /// The longest time for which something done is not stored.
    pub(super) interval: Duration,
    /// After so many messages it is stored sooner.
    pub(super) messages: Option<u64>,
    /// For so long a store can fail before the stream says so.
    pub(super) lag_max: Duration,
    /// Whether checkpoints are stored by the user's transactions only.
    pub(super) is_transactional: bool,
}

/// Where a consumer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At its checkpoint; where it has none, here.
    Checkpoint(Start),
    /// Here, whatever its checkpoint says. Only a store that can [reset](logd_statehandlers::StateAdmin::reset) allows it,
    /// and only while no other reader has the lease. What was kept [beside the position](super::Consumer::set_user) is
    /// forgotten.
    Force(Start),
}

impl Default for StartAt {
    fn default() -> Self {
        Self::Checkpoint(Start::Earliest)
    }
}

/// What to do when what comes next at a checkpoint is not in the topic any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenGone {
    /// It is an error that says what is gone.
    #[default]
    Fail,
    /// The stream yields the gap as an error for which [`is_skippable`](crate::Error::is_skippable) is true, and goes on with
    /// the oldest message there is. A topic that was made anew is read from its beginning, if the store can
    /// [reset](logd_statehandlers::StateAdmin::reset) a checkpoint, and no other reader has the lease; what was kept
    /// [beside the position](super::Consumer::set_user) is forgotten then.
    Jump,
}

/// Takes the messages that cannot be worked on.
#[async_trait]
pub trait DeadLetters: Send + 'static {
    /// Takes a message, which counts as done when this returns `Ok`. `returned` says how often it was given back.
    ///
    /// # Errors
    /// It could not be taken: it is tried again.
    ///
    /// # Panics
    /// A panic ends the stream with an error, and nothing is buried any more.
    async fn bury(
        &mut self,
        id: &DeliveryId,
        message: &Message,
        returned: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// A topic of dead letters: their bytes are written to it, and count as taken when the server has them, or the writer's
/// [spool](crate::WriterBuilder::spool).
#[async_trait]
impl DeadLetters for Writer {
    async fn bury(
        &mut self,
        _: &DeliveryId,
        message: &Message,
        _: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let delivery = self.send(&message.bytes).await?;
        // It hurries the letter along; what became of other messages is not asked here.
        let _ = self.flush().await;
        match delivery.await {
            Err(error) if error.error.kind() != ErrorKind::Spooled => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The dead letters, if there are any, for `Debug`.
pub(super) struct Grave(pub(super) Option<Box<dyn DeadLetters>>);

impl fmt::Debug for Grave {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_some() { "Grave" } else { "None" })
    }
}
