//! Batches that could not be delivered, kept whole until their owner takes them.
//!
//! The store counts what it holds, so that the writer can bound it and can tell a flush what is missing without looking
//! at every batch. It is pure: time is handed in.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use logd_protocol::{Batch, Decoded};
use tokio::time::Instant;

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
/// What failed is kept: [`Writer::failed`](crate::Writer::failed) hands it out. What is in the spool is on the disk, and
/// is sent from there.
#[derive(Debug, Clone)]
pub struct FlushError {
    /// How many batches failed.
    pub batches: u64,
    /// How many messages they have together.
    pub messages: u64,
    /// How many messages are in the spool.
    pub spooled: u64,
    /// The error of the first batch that failed; without one, of the last that went into the spool.
    pub first: Error,
}

impl FlushError {
    /// Whether nothing failed: what is not acknowledged is in the spool, all of it.
    pub const fn is_spooled(&self) -> bool {
        self.batches == 0
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batches, messages, spooled, first } = self;
        let were = if *messages == 1 { "was" } else { "were" };
        let failed = format!("{} with {}", counted(*batches, "batch"), counted(*messages, "message"));
        let are = if *spooled == 1 { "is" } else { "are" };
        let kept = format!("{} {are} in the spool", counted(*spooled, "message"));
        match (batches, spooled) {
            (0, _) => write!(formatter, "{kept} and not acknowledged: {first}"),
            (_, 0) => write!(formatter, "{failed} {were} not acknowledged, the first because: {first}"),
            _ => {
                write!(formatter, "{failed} {were} not acknowledged, and {kept}; the first because: {first}")
            }
        }
    }
}

/// A number of things, as it is said.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ if thing.ends_with("ch") => format!("{number} {thing}es"),
        _ => format!("{number} {thing}s"),
    }
}

impl std::error::Error for FlushError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.first)
    }
}

/// What a flush has seen fail so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    batches: u64,
    messages: u64,
    first: Option<Error>,
}

impl Failures {
    pub(crate) fn add(&mut self, failed: &FailedBatch) {
        self.count(1, failed.batch.messages(), &failed.error);
    }

    /// Counts batches that failed because of the error.
    pub(crate) fn count(&mut self, batches: u64, messages: u64, why: &Error) {
        self.batches += batches;
        self.messages += messages;
        self.first.get_or_insert_with(|| why.clone());
    }

    /// Counts what others have seen fail.
    pub(crate) fn append(&mut self, others: &Self) {
        if let Some(first) = &others.first {
            self.count(others.batches, others.messages, first);
        }
    }

    /// `spooled` messages are in the spool, the last of them because of the error.
    pub(crate) fn into_result(self, spooled: u64, why: Option<Error>) -> Result<(), FlushError> {
        let Self { batches, messages, first } = self;
        let unsent = || Error::new(crate::ErrorKind::Spooled, "they were found there and are not sent yet");
        match first {
            Some(first) => Err(FlushError { batches, messages, spooled, first }),
            None if spooled > 0 => {
                Err(FlushError { batches, messages, spooled, first: why.unwrap_or_else(unsent) })
            }
            None => Ok(()),
        }
    }
}

/// What happens when a batch fails and the backlog has no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenFull {
    /// It is kept, and writes are refused with [`WriteError::BacklogFull`](crate::WriteError::BacklogFull) until some is
    /// taken. Nothing is ever dropped from the backlog; with the buffer, it can have `buffer_bytes` more than its bound.
    #[default]
    Refuse,
    /// The oldest batches of the backlog are dropped for it, and counted.
    DropOldest,
    /// It is dropped, and counted.
    DropNewest,
}

/// The bounds of a backlog.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BacklogLimits {
    pub(crate) bytes_max: usize,
    pub(crate) age_max: Option<Duration>,
    pub(crate) when_full: WhenFull,
}

/// The failed batches, oldest first.
#[derive(Debug)]
pub(crate) struct FailedBatches {
    limits: BacklogLimits,
    batches: VecDeque<(FailedBatch, Instant)>,
    bytes: usize,
    messages: u64,
}

impl FailedBatches {
    pub(crate) const fn new(limits: BacklogLimits) -> Self {
        Self { limits, batches: VecDeque::new(), bytes: 0, messages: 0 }
    }

    /// The bytes of all batches.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The messages of all batches.
    pub(crate) const fn messages(&self) -> u64 {
        self.messages
    }

    /// How many batches there are.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether so many bytes more are refused until something is taken.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        self.limits.when_full == WhenFull::Refuse && self.bytes.saturating_add(bytes) > self.limits.bytes_max
    }

    /// Adds a batch behind the others, and returns those that there was no room for.
    pub(crate) fn push(&mut self, mut failed: FailedBatch, now: Instant) -> Vec<FailedBatch> {
        let mut dropped = Vec::new();
        let bytes = failed.batch.bytes().len();
        let bytes_max = self.limits.bytes_max;
        let is_full = |kept: usize| kept.saturating_add(bytes) > bytes_max;
        match self.limits.when_full {
            WhenFull::DropNewest if is_full(self.bytes) => return vec![failed],
            WhenFull::Refuse | WhenFull::DropNewest => {}
            WhenFull::DropOldest if bytes > bytes_max => return vec![failed],
            WhenFull::DropOldest => {
                while is_full(self.bytes)
                    && let Some(oldest) = self.take()
                {
                    dropped.push(oldest);
                }
            }
        }
        failed.batch = compact(failed.batch);
        self.count(&failed);
        self.batches.push_back((failed, now));
        dropped
    }

    /// Puts a batch back that had been taken, before the others.
    pub(crate) fn put_back(&mut self, failed: FailedBatch, now: Instant) {
        self.count(&failed);
        self.batches.push_front((failed, now));
    }

    /// Takes the oldest batch.
    pub(crate) fn take(&mut self) -> Option<FailedBatch> {
        let (failed, _) = self.batches.pop_front()?;
        self.bytes = self.bytes.saturating_sub(failed.batch.bytes().len());
        self.messages = self.messages.saturating_sub(failed.batch.messages());
        Some(failed)
    }

    /// Takes the batches that are here for longer than they may be.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<FailedBatch> {
        let mut expired = Vec::new();
        let Some(age_max) = self.limits.age_max else { return expired };
        while let Some((_, since)) = self.batches.front()
            && now.saturating_duration_since(*since) > age_max
        {
            expired.extend(self.take());
        }
        expired
    }

    /// What a flush that begins now has to report.
    pub(crate) fn failures(&self) -> Failures {
        Failures {
            batches: self.batches.len() as u64,
            messages: self.messages,
            first: self.batches.front().map(|(oldest, _)| oldest.error.clone()),
        }
    }

    /// The batches, which stay.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FailedBatch> {
        self.batches.iter().map(|(failed, _)| failed)
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

    fn store(when_full: WhenFull, bytes_max: usize) -> FailedBatches {
        FailedBatches::new(BacklogLimits { bytes_max, age_max: Some(Duration::from_secs(10)), when_full })
    }

    fn counts(batches: &[FailedBatch]) -> Vec<u64> {
        batches.iter().map(|failed| failed.batch.messages()).collect()
    }

    #[test]
    fn counts_follow_the_batches_and_the_oldest_comes_first() {
        let mut backlog = store(WhenFull::Refuse, 1);
        let now = Instant::now();
        assert!(backlog.failures().into_result(0, None).is_ok());
        let (one, two) = (failed(1), failed(2));
        assert!(backlog.push(one.clone(), now).is_empty());
        assert!(backlog.push(two.clone(), now).is_empty());
        assert_eq!(backlog.bytes(), one.batch.bytes().len() + two.batch.bytes().len());
        let error = backlog.failures().into_result(0, None).unwrap_err();
        assert_eq!((error.batches, error.messages, error.first.to_string()), (2, 3, "1".into()));
        assert_eq!(backlog.iter().count(), 2);

        let taken = backlog.take().unwrap();
        assert_eq!(taken.batch, one.batch);
        backlog.put_back(taken, now);
        assert_eq!(backlog.messages(), 3);
        assert_eq!(backlog.take().unwrap().batch, one.batch);
        assert_eq!(backlog.take().unwrap().batch, two.batch);
        assert!(backlog.take().is_none());
        assert_eq!((backlog.bytes(), backlog.messages(), backlog.len()), (0, 0, 0));
    }

    #[test]
    fn a_full_backlog_drops_what_it_was_told_to() {
        let now = Instant::now();
        let bytes_max = failed(1).batch.bytes().len() + failed(2).batch.bytes().len();
        let mut oldest = store(WhenFull::DropOldest, bytes_max);
        let mut newest = store(WhenFull::DropNewest, bytes_max);
        for backlog in [&mut oldest, &mut newest] {
            assert!(backlog.push(failed(1), now).is_empty() && backlog.push(failed(2), now).is_empty());
            assert!(!backlog.is_full_for(1), "only `Refuse` refuses");
        }
        assert_eq!(counts(&oldest.push(failed(3), now)), [1, 2]);
        assert_eq!(counts(&oldest.push(failed(900), now)), [900], "larger than all there can be");
        assert_eq!((oldest.len(), oldest.messages()), (1, 3));
        assert_eq!(counts(&newest.push(failed(3), now)), [3]);
        assert_eq!((newest.len(), newest.messages()), (2, 3));
        let mut refuse = store(WhenFull::Refuse, bytes_max);
        assert!(!refuse.is_full_for(bytes_max) && refuse.is_full_for(bytes_max + 1));
        refuse.push(failed(1), now);
        assert!(refuse.is_full_for(bytes_max));
    }

    #[test]
    fn what_is_too_old_goes() {
        let mut backlog = store(WhenFull::Refuse, 9999);
        let start = Instant::now();
        let second = Duration::from_secs(1);
        backlog.push(failed(1), start);
        backlog.push(failed(2), start + second);
        assert!(backlog.expire(start + 10 * second).is_empty());
        assert_eq!(counts(&backlog.expire(start + 10 * second + Duration::from_millis(1))), [1]);
        assert_eq!(backlog.messages(), 2);
    }

    #[test]
    fn failures_add_up_and_keep_the_first_error() {
        let mut failures = Failures::default();
        failures.add(&failed(2));
        failures.add(&failed(3));
        let text = |failures: &Failures, spooled| {
            failures.clone().into_result(spooled, None).unwrap_err().to_string()
        };
        assert_eq!(
            text(&failures, 0),
            "2 batches with 5 messages were not acknowledged, the first because: 2"
        );
        assert_eq!(
            text(&failures, 7),
            "2 batches with 5 messages were not acknowledged, and 7 messages are in the spool; the first because: 2"
        );
        let why = Some(Error::new(ErrorKind::Connect, "away"));
        let spooled = Failures::default().into_result(7, why).unwrap_err();
        assert!(spooled.is_spooled());
        assert_eq!(spooled.to_string(), "7 messages are in the spool and not acknowledged: away");
    }
}
