//! The bounds and choices of a writer.

use std::time::Duration;

use super::dropped::Notice;
use crate::backlog::BacklogLimits;

/// What a writer does while the server cannot be reached, or has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenAway {
    /// It takes messages for as long as it has room, and tries to send them as the retry policy says.
    #[default]
    Retry,
    /// It gives everything up that it has, refuses messages with [`WriteError::Away`](super::WriteError::Away), and looks
    /// for the server until it is there again.
    Fail,
}

/// Whether a writer goes on behind a batch that it has given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenFailed {
    /// It does: what was written later may be in the topic without what was before it.
    #[default]
    GoOn,
    /// It gives up everything behind it, too, and ends: what is in the topic has no gap.
    Halt,
}

/// The settings of a writer that its handles and its task both need.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// The most bytes of a batch.
    pub(super) batch_bytes: usize,
    /// How long after its first message a batch is sent.
    pub(super) wait_interval: Duration,
    /// The most bytes of framed messages that are open, waiting or under way.
    pub(super) buffer_bytes: usize,
    /// How long a message waits for room before it is dropped.
    pub(super) budget: Duration,
    /// Whether batches get an identity, so that a server can store them only once.
    pub(super) dedup: bool,
    pub(super) when_away: WhenAway,
    pub(super) when_failed: WhenFailed,
    pub(super) backlog: BacklogLimits,
    pub(super) notice: Notice,
}

impl Limits {
    /// How long nothing may be acknowledged, with the buffer half full, before batches go into the spool: early enough
    /// that there is room when the budget of the next message ends.
    pub(super) fn stuck_after(&self) -> Duration {
        (self.budget / 2).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}
