//! The bounds of a writer.

use std::time::Duration;

/// The settings of a writer that its handles and its task both need.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// The most bytes of a batch.
    pub(super) batch_bytes: usize,
    /// How long after its first message a batch is sent.
    pub(super) wait_interval: Duration,
    /// The most bytes of framed messages that are not acknowledged.
    pub(super) buffer_bytes: usize,
    /// How long a message waits for room before it is dropped.
    pub(super) budget: Duration,
    /// Whether batches get an identity, so that a server can store them only once.
    pub(super) dedup: bool,
}
