//! What a writer's handles and its task share: the handles' side. The task's is in `supply`.
//!
//! The lock is never held while something is waited for, logged, or done by a user's function.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use logd_protocol::{TopicName, framed_bytes};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use super::WriteError;
use super::delivery::Delivery;
use super::dropped::Dropped;
use super::events::{Events, WriterEvent};
use super::limits::{Limits, WhenAway};
use super::state::{Phase, SpoolState, State};
use super::stats::WriterStats;
use super::waiting::{Patience, Promised, Waiting};
use crate::backlog::{FailedBatch, FlushError};
use crate::error::{Error, ErrorKind};

/// The state, and how the parties wake each other.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) topic: TopicName,
    pub(super) limits: Limits,
    pub(super) events: Events,
    pub(super) state: Mutex<State>,
    /// There may be something for the task to do.
    pub(super) work: Notify,
    /// There may be something to put into the spool.
    pub(super) pressure: Notify,
    /// The writer is closing.
    pub(super) closing: Notify,
    /// No handle is left.
    pub(super) abandoned: Notify,
    /// Whether no handle is left.
    pub(super) is_abandoned: AtomicBool,
    /// Whether somebody has waited for the end for as long as there was time: nothing more is tried once no handle is
    /// left.
    pub(super) has_no_time: AtomicBool,
    /// There may be room for the message whose turn it is.
    pub(super) room: Notify,
    /// A batch has come into the backlog, or none will any more.
    pub(super) failed: Notify,
    /// Whose turn it is to wait for room. Fair, so that no long message waits for ever while short ones pass.
    turn: tokio::sync::Mutex<()>,
    /// How many messages wait for room.
    waiting: AtomicUsize,
    /// How many lines were suppressed.
    pub(super) suppressed: AtomicU64,
    /// Whether the task has ended.
    pub(super) ended: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(topic: TopicName, limits: Limits, events: Events, spool: Option<SpoolState>) -> Self {
        let state = State::new(&topic, &limits, spool);
        Self {
            topic,
            limits,
            events,
            state: Mutex::new(state),
            work: Notify::new(),
            pressure: Notify::new(),
            closing: Notify::new(),
            abandoned: Notify::new(),
            is_abandoned: AtomicBool::new(false),
            has_no_time: AtomicBool::new(false),
            room: Notify::new(),
            failed: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            suppressed: AtomicU64::new(0),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into the open batch, after those that already wait for room. Dropped before it is ready, it has
    /// not put it there.
    pub(super) async fn put(
        &self,
        message: &[u8],
        promised: Promised,
    ) -> Result<Option<Delivery>, WriteError> {
        if let Some(result) = self.put_now(message, promised) {
            return result;
        }
        let waiting = self.put_when_room(message, promised);
        let mut waiting = std::pin::pin!(waiting);
        // Half of the time is left for making room.
        let (begin, budget) = (Instant::now(), self.limits.budget);
        if self.lock().is_waiting_in_vain {
            self.press_on();
            return Err(self.drop_message(message));
        }
        for wait in [budget / 2, budget] {
            let result = match begin.checked_add(wait) {
                Some(deadline) => timeout_at(deadline, &mut waiting).await,
                None => Ok(waiting.as_mut().await),
            };
            match result {
                Ok(result) => return result,
                Err(_) => self.press_on(),
            }
        }
        self.has_waited_in_vain(begin);
        Err(self.drop_message(message))
    }

    /// A message has waited for all of its time: those behind it do not, until something comes forward. So an
    /// application is held up by a server that is away for one budget, not for one with every message.
    pub(super) fn has_waited_in_vain(&self, begin: Instant) {
        let mut state = self.lock();
        state.is_waiting_in_vain = state.progress <= begin;
    }

    /// Puts a message into the open batch if there is room, and no other waits for it; `None` when it has to wait.
    pub(super) fn put_now(
        &self,
        message: &[u8],
        promised: Promised,
    ) -> Option<Result<Option<Delivery>, WriteError>> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        self.try_put(message, Patience::Look, promised)
    }

    /// Waits for its turn and for room, however long that takes. It needs no runtime.
    pub(super) async fn put_when_room(
        &self,
        message: &[u8],
        promised: Promised,
    ) -> Result<Option<Delivery>, WriteError> {
        let _waiting = Waiting::new(&self.waiting);
        let _turn = self.turn.lock().await;
        loop {
            if let Some(result) = self.try_put(message, Patience::Wait, promised) {
                return result;
            }
            self.room.notified().await;
        }
    }

    /// A message has waited for half of its time: room is to be made.
    pub(super) fn press_on(&self) {
        self.lock().pressed = true;
        self.pressure.notify_one();
    }

    /// Counts a message for which there was no room in time.
    pub(super) fn drop_message(&self, message: &[u8]) -> WriteError {
        let bytes = message.len() as u64;
        self.lock().drop_messages(1, bytes, true);
        let error = WriteError::Dropped { budget: self.limits.budget };
        self.events.tell(|| WriterEvent::Dropped {
            dropped: Dropped { messages: 1, bytes },
            error: Error::new(ErrorKind::TimedOut, error.to_string()),
        });
        error
    }

    /// Puts a message into the open batch; `None` when there is no room now, but will be.
    fn try_put(
        &self,
        message: &[u8],
        patience: Patience,
        promised: Promised,
    ) -> Option<Result<Option<Delivery>, WriteError>> {
        let framed = framed_bytes(message.len());
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Some(Err(WriteError::Closed));
        }
        let bytes_max = state.open.message_bytes_max();
        let too_long = WriteError::TooLong { bytes: message.len(), bytes_max };
        if message.len() > bytes_max {
            return Some(Err(too_long));
        }
        if self.limits.when_away == WhenAway::Fail
            && let Some(error) = &state.away
        {
            return Some(Err(WriteError::Away { error: error.clone() }));
        }
        if state.backlog.is_full_for(framed) {
            return Some(Err(WriteError::BacklogFull));
        }
        if framed.saturating_add(state.bytes) > self.limits.buffer_bytes {
            if patience == Patience::Wait {
                if state.queue.settled_up_to() == state.queue.last() {
                    // All room is taken by the open batch itself, which need not be due for long.
                    state.open.hurry();
                }
                drop(state);
                self.work.notify_one();
                self.pressure.notify_one();
            }
            return None;
        }
        let Some((delta, is_news)) = state.push(message) else { return Some(Err(too_long)) };
        let delivery = match promised {
            Promised::Yes => Some(Delivery::new(state.fate(), delta)),
            Promised::No => None,
        };
        let is_pressed =
            state.spool.is_some() && is_news && (state.away.is_some() || self.is_half_full(&state));
        drop(state);
        if is_news {
            self.work.notify_one();
        }
        if is_pressed {
            self.pressure.notify_one();
        }
        Some(Ok(delivery))
    }

    /// Whether half of the buffer is in use.
    pub(super) const fn is_half_full(&self, state: &State) -> bool {
        state.bytes > self.limits.buffer_bytes / 2
    }

    /// Puts a failed batch behind everything that has been written; back into the backlog when that cannot be.
    pub(super) fn retry(&self, failed: FailedBatch) -> Result<(), WriteError> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            let messages = failed.batch.messages();
            state.backlog.put_back(failed, Instant::now());
            state.stats.written += messages;
            return Err(WriteError::Closed);
        }
        state.push_again(failed);
        drop(state);
        self.work.notify_one();
        self.pressure.notify_one();
        Ok(())
    }

    /// Takes the oldest batch of the backlog.
    pub(super) fn take_failed(&self) -> Option<FailedBatch> {
        self.expire();
        let mut state = self.lock();
        let failed = state.backlog.take();
        if let Some(failed) = &failed {
            state.stats.taken += failed.batch.messages();
        }
        drop(state);
        if failed.is_some() {
            self.room.notify_one();
        }
        failed
    }

    /// Drops what is too old from the backlog.
    pub(super) fn expire(&self) {
        let mut state = self.lock();
        let expired = state.backlog.expire(Instant::now());
        let dropped = state.drop_batches(&expired);
        drop(state);
        self.tell_dropped(dropped, "the backlog's batches were too old");
    }

    /// Tells that batches were lost, if any were.
    pub(super) fn tell_dropped(&self, dropped: Dropped, why: &'static str) {
        if dropped.messages > 0 {
            error!(topic = %self.topic, messages = dropped.messages, "messages were dropped: {why}");
            self.events.tell(|| WriterEvent::Dropped { dropped, error: Error::new(ErrorKind::Invalid, why) });
        }
    }

    /// What became of every message so far.
    pub(super) fn stats(&self) -> WriterStats {
        let suppressed = self.suppressed.load(Ordering::Relaxed);
        WriterStats { suppressed, ..self.lock().stats() }
    }

    /// Has everything sent that has been written, and waits until it is settled. A flush that is dropped does all but
    /// wait.
    pub(super) async fn flush(&self) -> Result<(), FlushError> {
        let (failures, spooled, why) = match self.begin_flush() {
            Ok(flushed) => flushed,
            // The sender is only dropped unused when the whole state is, and this holds on to the state.
            Err(settled) => settled.await.unwrap_or_default(),
        };
        failures.into_result(spooled, why)
    }

    fn begin_flush(
        &self,
    ) -> Result<super::state::Flushed, tokio::sync::oneshot::Receiver<super::state::Flushed>> {
        self.expire();
        let mut state = self.lock();
        let target = state.flush_target();
        if state.queue.settled_up_to() >= target {
            let failures = state.backlog.failures();
            return Ok(state.flushed(failures));
        }
        state.open.hurry();
        let settled = state.wait(target);
        drop(state);
        self.work.notify_one();
        self.pressure.notify_one();
        Err(settled)
    }

    /// Takes no more messages from now on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
        self.closing.notify_one();
        self.room.notify_one();
    }

    /// No handle is left: nobody can close, or write.
    pub(super) fn abandon(&self) {
        self.close();
        self.is_abandoned.store(true, Ordering::Relaxed);
        let state = self.lock();
        let (unsent, failed) = (state.stats.buffered, state.backlog.messages());
        let ended = state.phase == Phase::Ended;
        drop(state);
        if ended {
            self.report_loss(failed);
        } else if unsent > 0 || failed > 0 {
            let topic = &self.topic;
            warn!(%topic, unsent, failed, "a writer was dropped without being closed; what is unsent is still sent");
        }
        self.abandoned.notify_one();
    }

    /// Whether something is neither acknowledged nor given up, nor in the spool.
    pub(super) fn has_unsent(&self) -> bool {
        self.lock().stats.buffered > 0
    }

    /// Completes when the task has ended.
    pub(super) async fn ended(&self) {
        // The sender is here: it is not dropped meanwhile.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    pub(super) fn report_loss(&self, messages: u64) {
        if messages > 0 {
            error!(topic = %self.topic, messages, "messages of a dropped writer were not acknowledged");
        }
    }
}
