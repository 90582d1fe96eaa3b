//! Batches that could not be delivered, kept whole until their owner takes them.
//!
//! The backlog counts what it holds, so that the writer can bound it together with its buffers and can tell a flush
//! what is missing without looking at every batch.

use std::collections::VecDeque;

use bytes::BytesMut;
use logd_protocol::{Batch, Decoded};
use thiserror::Error as ThisError;

use crate::error::{Error, Outcome};

/// A batch that was given up, whole, with what is known about it.
#[derive(Debug, Clone)]
pub struct FailedBatch {
    /// The batch as it would have been stored.
    pub batch: Batch,
    /// Why the last attempt failed.
    pub error: Error,
    /// Whether the batch may be in the topic all the same.
    pub outcome: Outcome,
    /// How many attempts were made; 0 when it was given up together with one before it.
    pub attempts: u32,
}

/// Some of what was written has not been acknowledged.
///
/// The batches are kept: [`Writer::failed`](crate::Writer::failed) hands them out.
#[derive(Debug, Clone, ThisError)]
#[error("{batches} batches with {messages} messages were not acknowledged, the first because: {first}")]
pub struct FlushError {
    /// How many batches.
    pub batches: u64,
    /// How many messages they have together.
    pub messages: u64,
    /// The error of the first of them.
    #[source]
    pub first: Error,
}

/// What a flush has seen fail so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Option<FlushError>);

impl Failures {
    pub(crate) fn add(&mut self, failed: &FailedBatch) {
        let messages = failed.batch.messages();
        match &mut self.0 {
            Some(error) => {
                error.batches += 1;
                error.messages += messages;
            }
            None => self.0 = Some(FlushError { batches: 1, messages, first: failed.error.clone() }),
        }
    }

    pub(crate) fn into_result(self) -> Result<(), FlushError> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The failed batches, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    batches: VecDeque<FailedBatch>,
    bytes: usize,
    messages: u64,
}

impl Backlog {
    /// The bytes of all batches.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The messages of all batches.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    /// Adds a batch behind the others.
    pub(crate) fn push(&mut self, mut failed: FailedBatch) {
        failed.batch = compact(failed.batch);
        self.count(&failed);
        self.batches.push_back(failed);
    }

    /// Puts a batch back that had been taken, before the others.
    pub(crate) fn put_back(&mut self, failed: FailedBatch) {
        self.count(&failed);
        self.batches.push_front(failed);
    }

    /// Takes the oldest batch.
    pub(crate) fn take(&mut self) -> Option<FailedBatch> {
        let failed = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(failed.batch.bytes().len());
        self.messages = self.messages.saturating_sub(failed.batch.messages());
        Some(failed)
    }

    /// What a flush that begins now has to report.
    pub(crate) fn failures(&self) -> Failures {
        Failures(self.batches.front().map(|oldest| FlushError {
            batches: self.batches.len() as u64,
            messages: self.messages,
            first: oldest.error.clone(),
        }))
    }

    fn count(&mut self, failed: &FailedBatch) {
        self.bytes = self.bytes.saturating_add(failed.batch.bytes().len());
        self.messages = self.messages.saturating_add(failed.batch.messages());
    }
}

/// The batch in bytes of its own. A batch that was sent before it was full keeps the room it had to grow, which is not
/// worth keeping for as long as a failed batch may lie here.
fn compact(batch: Batch) -> Batch {
    let mut copy = BytesMut::from(&batch.bytes()[..]);
    match Batch::take(&mut copy, batch.bytes().len()) {
        Decoded::Whole { value: Ok(copy), .. } => copy,
        _ => batch,
    }
}

#[cfg(test)]
mod tests {
    use logd_protocol::{BatchBuilder, TopicName};

    use super::*;
    use crate::error::ErrorKind;

    fn failed(messages: usize) -> FailedBatch {
        let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
        for _ in 0..messages {
            builder.push(b"hello").unwrap();
        }
        FailedBatch {
            batch: builder.finish().unwrap(),
            error: Error::new(ErrorKind::Connect, format!("{messages}")),
            outcome: Outcome::NotWritten,
            attempts: 1,
        }
    }

    #[test]
    fn counts_follow_the_batches_and_the_oldest_comes_first() {
        let mut backlog = Backlog::default();
        assert!(backlog.failures().into_result().is_ok());
        let (one, two) = (failed(1), failed(2));
        backlog.push(one.clone());
        backlog.push(two.clone());
        assert_eq!(backlog.bytes(), one.batch.bytes().len() + two.batch.bytes().len());
        let error = backlog.failures().into_result().unwrap_err();
        assert_eq!((error.batches, error.messages, error.first.to_string()), (2, 3, "1".into()));

        let taken = backlog.take().unwrap();
        assert_eq!(taken.batch, one.batch);
        backlog.put_back(taken);
        assert_eq!(backlog.messages(), 3);
        assert_eq!(backlog.take().unwrap().batch, one.batch);
        assert_eq!(backlog.take().unwrap().batch, two.batch);
        assert!(backlog.take().is_none());
        assert_eq!((backlog.bytes(), backlog.messages()), (0, 0));
    }

    #[test]
    fn failures_add_up_and_keep_the_first_error() {
        let mut failures = Failures::default();
        failures.add(&failed(2));
        failures.add(&failed(3));
        let error = failures.into_result().unwrap_err();
        assert_eq!(
            error.to_string(),
            "2 batches with 5 messages were not acknowledged, the first because: 2"
        );
    }
}
