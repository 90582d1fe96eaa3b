//! skeleton
use std::time::Duration;
use thiserror::Error as ThisError;
use crate::*;

/// A batch that was given up, whole, with all that is known about it.
#[derive(Debug, Clone)]
pub struct FailedBatch { /// x
 pub batch: Batch, /// x
 pub error: Error, /// x
 pub outcome: Outcome, /// x
 pub attempts: u32 }
/// An acknowledged batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt { /// x
 pub topic: TopicName, /// x
 pub offset: Offset, /// x
 pub next: Offset, /// x
 pub messages: u64, /// x
 pub crc: u32 }
/// x
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum WriteError {
    /// x
    #[error("x")] TooLong { /// x
        bytes: usize, /// x
        bytes_max: usize },
    /// x
    #[error("x")] Closed,
    /// x
    #[error("x")] BacklogFull,
}
/// x
#[derive(Debug, Clone, ThisError)]
#[error("x")]
pub struct FlushError { /// x
 pub batches: u64, /// x
 pub messages: u64, /// x
 #[source] pub first: Error }
/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownOutcome { /// x
 #[default] HandBack, /// x
 Retry }
/// x
#[derive(Debug)] pub struct WriterBuilder { _c: ClientConfig }
#[expect(clippy::todo, missing_docs, clippy::unused_async, unused_variables, clippy::missing_const_for_fn, reason = "skeleton")]
impl WriterBuilder {
    #[must_use] pub fn topic(self, topic: TopicName) -> Self { todo!() }
    #[must_use] pub fn batch_bytes(self, bytes: usize) -> Self { todo!() }
    #[must_use] pub fn wait_interval(self, interval: Duration) -> Self { todo!() }
    #[must_use] pub fn buffer_bytes(self, bytes: usize) -> Self { todo!() }
    #[must_use] pub fn on_receipt(self, callback: impl FnMut(&Receipt) + Send + 'static) -> Self { todo!() }
    #[must_use] pub fn unknown_outcome(self, choice: UnknownOutcome) -> Self { todo!() }
    pub fn open(self) -> Result<Writer, Error> { todo!() }
}
/// x
#[derive(Debug, Clone)] pub struct Writer { _c: ClientConfig }
#[expect(clippy::todo, missing_docs, clippy::unused_async, unused_variables, clippy::missing_const_for_fn, reason = "skeleton")]
impl Writer {
    pub fn builder(config: ClientConfig) -> WriterBuilder { todo!() }
    pub async fn write(&self, message: &[u8]) -> Result<(), WriteError> { todo!() }
    pub async fn flush(&self) -> Result<(), FlushError> { todo!() }
    pub async fn close(&self) -> Result<(), FlushError> { todo!() }
    pub fn failed(&self) -> Option<FailedBatch> { todo!() }
    pub fn retry(&self, failed: FailedBatch) -> Result<(), WriteError> { todo!() }
}
