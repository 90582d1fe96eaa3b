//! What a consumer tells about itself.

use std::time::Duration;

use logd_protocol::Offset;
use logd_statehandlers::Position;

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// Up to where its checkpoint is stored; `None` where nothing is.
    pub committed: Option<Position>,
    /// Up to where every message is done.
    pub acked: Position,
    /// Up to where messages were delivered.
    pub delivered: Option<Position>,
    /// The offset behind the topic's last batch.
    pub head: Offset,
    /// How many bytes of the topic lie between what is done and its end.
    pub bytes: u64,
    /// How many messages are in hand.
    pub in_hand: usize,
    /// How long the oldest of them has been.
    pub oldest_unacked: Option<Duration>,
}

/// What a consumer left when it ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Shutdown {
    /// Whether everything that was in hand is done.
    pub is_drained: bool,
    /// How many messages were still in hand: they come again.
    pub abandoned: usize,
    /// The position from which the next consumer goes on; `None` where nothing is stored.
    pub committed: Option<Position>,
}
