//! What a writer holds, and what every change of it means for the counts and for those who wait. Pure but for the
//! promises it keeps: nothing is sent, written or logged here.
//!
//! - Every message is in one place: the open batch, a sealed one, the backlog, the spool, or gone one way or the other.
//!   [`WriterStats`] counts them all.
//! - Once the task has ended, whatever was not acknowledged is in the spool or in the backlog.

use std::path::Path;
use std::sync::Arc;

use logd_protocol::{Batch, Offset, TopicName, framed_bytes};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::delivery::{Fate, Promise, promise};
use super::dropped::Dropped;
use super::fill::{OpenBatch, Pushed, random_writer};
use super::limits::Limits;
use super::queue::{Numbered, Queue};
use super::spooler::Removed;
use super::stats::WriterStats;
use crate::backlog::{FailedBatch, FailedBatches, Failures};
use crate::error::{AppendError, Error, ErrorKind, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// No more messages are taken; those that are there are still sent.
    Closing,
    /// The task has ended.
    Ended,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Settled {
    Acknowledged(Offset),
    Failed(FailedBatch),
    /// It is in the spool, because of the error where it was not only to make room.
    Spooled(Option<AppendError>),
    /// It is in a file of the spool that is not sent.
    Aside(FailedBatch),
}

/// What a flush is told: what failed, how many messages are in the spool, and why.
pub(super) type Flushed = (Failures, u64, Option<Error>);

/// A flush that waits.
#[derive(Debug)]
struct Waiter {
    /// The number of the last batch that must be settled.
    target: u64,
    failures: Failures,
    done: oneshot::Sender<Flushed>,
}

/// What is known of the spool.
#[derive(Debug, Clone)]
pub(super) struct SpoolState {
    pub(super) dir: Arc<Path>,
    pub(super) batches: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) open: OpenBatch,
    /// What was promised about the messages of the open batch.
    promised: Option<(Promise, Fate)>,
    pub(super) queue: Queue,
    /// The bytes of the framed messages that are open, sealed or in flight.
    pub(super) bytes: usize,
    pub(super) backlog: FailedBatches,
    pub(super) spool: Option<SpoolState>,
    /// Whether the spool took nothing when it was last given something.
    pub(super) is_spool_broken: bool,
    /// Why batches went into the spool last.
    spooled_why: Option<Error>,
    /// Why the server could not be reached; `None` when a batch was acknowledged since.
    pub(super) away: Option<Error>,
    /// When the buffer was empty, or a batch was acknowledged, for the last time.
    pub(super) progress: Instant,
    /// Whether a message has waited for all of its time, and nothing has come forward since it began to.
    pub(super) is_waiting_in_vain: bool,
    /// Whether a message has waited for so long that room shall be made for it.
    pub(super) pressed: bool,
    /// What the log is to say next.
    pub(super) dropped: Dropped,
    pub(super) stats: WriterStats,
    /// What was set aside and no flush has told yet.
    aside: Failures,
    waiters: Vec<Waiter>,
}

impl State {
    pub(super) fn new(topic: &TopicName, limits: &Limits, spool: Option<SpoolState>) -> Self {
        let now = Instant::now();
        let writer = limits.dedup.then(random_writer);
        let recovered = spool.as_ref().map_or(0, |spool| spool.messages);
        Self {
            phase: Phase::Open,
            open: OpenBatch::new(topic, limits.batch_bytes, writer, now),
            promised: None,
            queue: Queue::default(),
            bytes: 0,
            backlog: FailedBatches::new(limits.backlog),
            spool,
            is_spool_broken: false,
            spooled_why: None,
            away: None,
            progress: now,
            is_waiting_in_vain: false,
            pressed: false,
            dropped: Dropped::default(),
            stats: WriterStats { recovered, ..WriterStats::default() },
            aside: Failures::default(),
            waiters: Vec::new(),
        }
    }

    /// What became of every message so far.
    pub(super) fn stats(&self) -> WriterStats {
        let spooled = self.spool.as_ref().map_or(0, |spool| spool.messages);
        WriterStats { backlog: self.backlog.messages(), spooled, ..self.stats }
    }

    /// Whether the spool has something to send.
    pub(super) fn has_spooled(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.batches > 0)
    }

    /// Puts a message into the open batch, for which there is room. Returns its delta, and whether the task should hear
    /// of it; `None` when no batch has room for it.
    pub(super) fn push(&mut self, message: &[u8]) -> Option<(usize, bool)> {
        let placed = match self.open.push(message, Instant::now) {
            Ok(Pushed::Joined(delta)) => (delta, false),
            Ok(Pushed::First) => (0, true),
            Ok(Pushed::Sealed(batch)) => {
                let promise = self.take_promise();
                self.queue.push(batch, promise);
                (0, true)
            }
            Err(_) => return None,
        };
        if self.bytes == 0 {
            self.progress = self.open.since();
        }
        self.bytes = self.bytes.saturating_add(framed_bytes(message.len()));
        self.stats.buffered += 1;
        self.stats.written += 1;
        Some(placed)
    }

    pub(super) fn seal_open(&mut self) {
        if let Some(batch) = self.open.seal() {
            let promise = self.take_promise();
            self.queue.push(batch, promise);
        }
    }

    /// Puts a batch that was taken from a backlog behind everything that has been written.
    pub(super) fn push_again(&mut self, failed: FailedBatch) {
        self.seal_open();
        self.bytes = self.bytes.saturating_add(failed.batch.body().len());
        self.stats.buffered += failed.batch.messages();
        self.stats.written += failed.batch.messages();
        match failed.outcome {
            // It keeps the identity under which it may be stored.
            Outcome::Unknown => self.queue.push_doubtful(failed.batch),
            // As a new batch it is remembered for as long as any.
            Outcome::NotWritten => {
                let id = self.open.take_id();
                self.queue.push(failed.batch.with_id(id), None);
            }
        }
    }

    /// Puts the writer's own message into the open batch: `dropped` is told by it. `None` when no batch has room for it.
    pub(super) fn push_notice(&mut self, notice: &[u8], dropped: Dropped) -> Option<()> {
        self.push(notice)?;
        self.stats.notices += 1;
        self.forget_dropped(dropped);
        Some(())
    }

    /// So much has been told.
    pub(super) const fn forget_dropped(&mut self, dropped: Dropped) {
        self.dropped.messages = self.dropped.messages.saturating_sub(dropped.messages);
        self.dropped.bytes = self.dropped.bytes.saturating_sub(dropped.bytes);
    }

    /// Counts messages that are lost. They were counted elsewhere before, unless `is_new`.
    pub(super) const fn drop_messages(&mut self, messages: u64, bytes: u64, is_new: bool) {
        self.dropped.add(messages, bytes);
        self.stats.dropped += messages;
        self.stats.dropped_bytes += bytes;
        if is_new {
            self.stats.written += messages;
        }
    }

    /// Counts batches that were dropped from the backlog, or before it.
    pub(super) fn drop_batches(&mut self, batches: &[FailedBatch]) -> Dropped {
        let mut dropped = Dropped::default();
        for FailedBatch { batch, .. } in batches {
            dropped.add(batch.messages(), message_bytes(batch));
        }
        self.drop_messages(dropped.messages, dropped.bytes, false);
        dropped
    }

    /// What becomes of the open batch, as it will be told.
    pub(super) fn fate(&mut self) -> Fate {
        let (_, fate) = self.promised.get_or_insert_with(promise);
        fate.clone()
    }

    fn take_promise(&mut self) -> Option<Promise> {
        self.promised.take().map(|(promise, _)| promise)
    }

    /// A flush that begins now: the number of the batch up to which all must be settled.
    pub(super) fn flush_target(&self) -> u64 {
        self.queue.last() + u64::from(!self.open.is_empty())
    }

    /// What a flush for which everything is settled is told.
    pub(super) fn flushed(&mut self, mut failures: Failures) -> Flushed {
        failures.append(&std::mem::take(&mut self.aside));
        let spooled = self.spool.as_ref().map_or(0, |spool| spool.messages);
        (failures, spooled, self.spooled_why.clone())
    }

    /// Has the result of a flush told when everything up to `target` is settled.
    pub(super) fn wait(&mut self, target: u64) -> oneshot::Receiver<Flushed> {
        let failures = self.backlog.failures();
        let (done, settled) = oneshot::channel();
        self.waiters.retain(|waiter| !waiter.done.is_closed());
        self.waiters.push(Waiter { target, failures, done });
        settled
    }

    /// Batches are settled that are in no row any more. Returns those that the backlog has no room for.
    pub(super) fn settle(
        &mut self,
        settled: impl IntoIterator<Item = (Numbered, Settled)>,
    ) -> Vec<FailedBatch> {
        let mut no_room = Vec::new();
        for (settled, result) in settled {
            no_room.extend(self.settle_one(settled, result));
        }
        self.answer_waiters();
        no_room
    }

    fn settle_one(&mut self, settled: Numbered, mut result: Settled) -> Vec<FailedBatch> {
        let Numbered { number, batch, promise, is_doubtful } = settled;
        if is_doubtful && let Settled::Failed(failed) | Settled::Aside(failed) = &mut result {
            failed.outcome = Outcome::Unknown;
        }
        let messages = batch.messages();
        self.bytes = self.bytes.saturating_sub(batch.body().len());
        self.stats.buffered = self.stats.buffered.saturating_sub(messages);
        if let Some(promise) = promise {
            // Nobody may wait for it any more.
            let _ = promise.send(self.told(&result));
        }
        let now = Instant::now();
        match result {
            Settled::Acknowledged(_) => {
                self.stats.delivered += messages;
                self.come_forward(now);
                Vec::new()
            }
            Settled::Spooled(why) => {
                if let Some(spool) = &mut self.spool {
                    spool.batches += 1;
                    spool.messages += messages;
                    spool.bytes += batch.bytes().len() as u64;
                }
                self.spooled_why = why.map(|why| why.error).or(self.spooled_why.take());
                Vec::new()
            }
            Settled::Failed(failed) => {
                self.tell_waiters(number, &failed);
                self.backlog.push(failed, now)
            }
            Settled::Aside(failed) => {
                self.tell_waiters(number, &failed);
                self.stats.aside += messages;
                Vec::new()
            }
        }
    }

    fn tell_waiters(&mut self, number: u64, failed: &FailedBatch) {
        let waiters = self.waiters.iter_mut().filter(|waiter| waiter.target >= number);
        waiters.for_each(|waiter| waiter.failures.add(failed));
    }

    /// Answers the flushes for which everything is settled.
    fn answer_waiters(&mut self) {
        let settled = self.queue.settled_up_to();
        let answered: Vec<_> = self.waiters.extract_if(.., |waiter| waiter.target <= settled).collect();
        for Waiter { failures, done, .. } in answered {
            let flushed = self.flushed(failures);
            // A flush that does not wait any more does not need the answer.
            let _ = done.send(flushed);
        }
    }

    /// The result as those are told it who wait for a message.
    fn told(&self, result: &Settled) -> Result<Offset, AppendError> {
        match result {
            Settled::Acknowledged(offset) => Ok(*offset),
            Settled::Failed(failed) | Settled::Aside(failed) => {
                Err(AppendError { error: failed.error.clone(), outcome: failed.outcome })
            }
            Settled::Spooled(why) => {
                let dir = self.spool.as_ref().map(|spool| spool.dir.display().to_string());
                let because = why.as_ref().map(|why| format!(": {}", why.error)).unwrap_or_default();
                let text = format!("the batch is in the spool `{}`{because}", dir.unwrap_or_default());
                let outcome = why.as_ref().map_or(Outcome::NotWritten, |why| why.outcome);
                Err(AppendError { error: Error::new(ErrorKind::Spooled, text), outcome })
            }
        }
    }

    /// The server has taken something.
    pub(super) fn come_forward(&mut self, now: Instant) {
        self.away = None;
        self.progress = now;
        self.is_waiting_in_vain = false;
    }

    /// Batches have left the spool.
    pub(super) fn unspooled(&mut self, Removed { batches, messages, bytes }: Removed) {
        if let Some(spool) = &mut self.spool {
            spool.batches = spool.batches.saturating_sub(batches);
            spool.messages = spool.messages.saturating_sub(messages);
            spool.bytes = spool.bytes.saturating_sub(bytes);
        }
    }

    /// Batches were set aside: the next flush that ends tells it.
    pub(super) fn set_aside(&mut self, Removed { batches, messages, .. }: Removed, why: &Error) {
        self.stats.aside += messages;
        self.aside.count(batches, messages, why);
    }
}

/// The bytes of a batch's messages alone.
fn message_bytes(batch: &Batch) -> u64 {
    batch.messages_from(0).map(|message| message.bytes.len() as u64).sum()
}
