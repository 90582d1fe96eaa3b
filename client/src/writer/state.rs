//! What a writer's handles and its task share.
//!
//! - Batches are numbered in the order in which they are sealed, and settled (acknowledged or failed) in that order.
//!   So "everything up to here" is one number, which is what a flush waits for.
//! - The bytes of everything that is not acknowledged, the backlog included, stay within `buffer_bytes`; only a batch
//!   that is handed in again can go beyond.
//! - The lock is never held while something is waited for.
//! - Once the task has ended, whatever was not acknowledged is in the backlog.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use logd_protocol::{Batch, Offset, TopicName, framed_bytes};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use super::WriteError;
use super::delivery::{Delivery, Fate, Promise, promise};
use super::dropped::Dropped;
use super::fill::{OpenBatch, Pushed, random_writer};
use super::limits::Limits;
use super::waiting::{Patience, Promised, Waiting};
use crate::backlog::{Backlog, FailedBatch, Failures, FlushError};
use crate::error::{AppendError, Error, ErrorKind, Outcome};

/// What the task can do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this batch.
    Send(Batch),
    /// Wait until then, or for news.
    Wait(Instant),
    /// Wait for news.
    Idle,
    /// Nothing is left, and nothing can come any more.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more messages are taken; those that are there are still sent.
    Closing,
    /// The task has ended.
    Ended,
}

/// A flush that has begun.
enum Flush {
    /// Everything is settled already.
    Settled(Failures),
    /// It is told what failed once everything is settled.
    Waits(oneshot::Receiver<Failures>),
}

/// A flush that waits.
#[derive(Debug)]
struct Waiter {
    /// How many batches must be settled.
    target: u64,
    failures: Failures,
    done: oneshot::Sender<Failures>,
}

/// A batch and the one promise for all of its messages whose senders wait.
#[derive(Debug)]
struct Sealed {
    batch: Batch,
    promise: Option<Promise>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whether no handle is left.
    abandoned: bool,
    open: OpenBatch,
    /// What was promised about the messages of the open batch.
    promised: Option<(Promise, Fate)>,
    sealed: VecDeque<Sealed>,
    /// What the task has taken and not settled, oldest first.
    in_flight: VecDeque<Sealed>,
    /// How many batches have ever been sealed.
    sealed_count: u64,
    /// How many of them have been settled.
    settled_count: u64,
    /// The bytes of the framed messages that are open, sealed or in flight.
    bytes: usize,
    /// How many messages are open, sealed or in flight.
    messages: u64,
    backlog: Backlog,
    dropped: Dropped,
    waiters: Vec<Waiter>,
}

/// The state, and how the parties wake each other.
#[derive(Debug)]
pub(super) struct Shared {
    topic: TopicName,
    limits: Limits,
    state: Mutex<State>,
    /// There may be something for the task to do.
    work: Notify,
    /// No handle is left.
    abandoned: Notify,
    /// There may be room for the message whose turn it is.
    room: Notify,
    /// Whose turn it is to wait for room. Fair, so that no long message waits for ever while short ones pass.
    turn: tokio::sync::Mutex<()>,
    /// How many messages wait for room.
    waiting: AtomicUsize,
    /// Whether the task has ended.
    ended: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(topic: TopicName, limits: Limits) -> Self {
        let state = State {
            phase: Phase::Open,
            abandoned: false,
            open: OpenBatch::new(
                &topic,
                limits.batch_bytes,
                limits.dedup.then(random_writer),
                Instant::now(),
            ),
            promised: None,
            sealed: VecDeque::new(),
            in_flight: VecDeque::new(),
            sealed_count: 0,
            settled_count: 0,
            bytes: 0,
            messages: 0,
            backlog: Backlog::default(),
            dropped: Dropped::default(),
            waiters: Vec::new(),
        };
        Self {
            topic,
            limits,
            state: Mutex::new(state),
            work: Notify::new(),
            abandoned: Notify::new(),
            room: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
            ended: watch::Sender::new(false),
        }
    }

    /// Whether batches have an identity.
    pub(super) const fn is_dedup(&self) -> bool {
        self.limits.dedup
    }

    pub(super) const fn topic(&self) -> &TopicName {
        &self.topic
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into the open batch, after those that already wait for room. Dropped before it is ready, it has
    /// not put it there.
    pub(super) async fn write(&self, message: &[u8]) -> Result<(), WriteError> {
        self.put(message, Promised::No).await.map(|_| ())
    }

    /// As [`Shared::write`], and promises to tell what becomes of the message.
    pub(super) async fn send(&self, message: &[u8]) -> Result<Option<Delivery>, WriteError> {
        self.put(message, Promised::Yes).await
    }

    async fn put(&self, message: &[u8], promised: Promised) -> Result<Option<Delivery>, WriteError> {
        if self.waiting.load(Ordering::Relaxed) == 0
            && let Some(result) = self.try_write(message, Patience::Look, promised)
        {
            return result;
        }
        let _waiting = Waiting::new(&self.waiting);
        let room = async {
            let _turn = self.turn.lock().await;
            loop {
                if let Some(result) = self.try_write(message, Patience::Wait, promised) {
                    return result;
                }
                self.room.notified().await;
            }
        };
        timeout(self.limits.budget, room).await.unwrap_or_else(|_| {
            self.lock().dropped.add(message.len());
            Err(WriteError::Dropped { budget: self.limits.budget })
        })
    }

    /// How many messages have been dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped.total()
    }

    /// Puts a message into the open batch; `None` when there is no room now, but will be.
    fn try_write(
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
        if message.len() > bytes_max {
            return Some(Err(WriteError::TooLong { bytes: message.len(), bytes_max }));
        }
        let kept = state.backlog.bytes().saturating_add(framed);
        if kept > self.limits.buffer_bytes {
            return Some(Err(WriteError::BacklogFull));
        }
        if kept.saturating_add(state.bytes) > self.limits.buffer_bytes {
            if patience == Patience::Wait {
                // The room may be taken by the open batch itself, which need not be due for long.
                state.open.hurry();
                drop(state);
                self.work.notify_one();
            }
            return None;
        }
        let (news, delta) = match state.open.push(message, Instant::now) {
            Ok(Pushed::Joined(delta)) => (false, delta),
            Ok(Pushed::First) => (true, 0),
            Ok(Pushed::Sealed(batch)) => {
                let promise = state.take_promise();
                state.enqueue(batch, promise);
                (true, 0)
            }
            Err(_) => return Some(Err(WriteError::TooLong { bytes: message.len(), bytes_max })),
        };
        state.bytes += framed;
        state.messages += 1;
        let delivery = match promised {
            Promised::Yes => Some(Delivery::new(state.fate(), delta)),
            Promised::No => None,
        };
        drop(state);
        if news {
            self.work.notify_one();
        }
        Some(Ok(delivery))
    }

    /// Puts a failed batch behind everything that has been written; back into the backlog when that cannot be.
    pub(super) fn retry(&self, failed: FailedBatch) -> Result<(), WriteError> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            state.backlog.put_back(failed);
            return Err(WriteError::Closed);
        }
        state.seal_open();
        state.bytes = state.bytes.saturating_add(failed.batch.body().len());
        state.messages = state.messages.saturating_add(failed.batch.messages());
        let batch = match failed.outcome {
            // It keeps the identity under which it may be stored.
            Outcome::Unknown => failed.batch,
            // As a new batch it is remembered for as long as any.
            Outcome::NotWritten => {
                let id = state.open.take_id();
                failed.batch.with_id(id)
            }
        };
        state.enqueue(batch, None);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// Takes the oldest batch of the backlog.
    pub(super) fn take_failed(&self) -> Option<FailedBatch> {
        let failed = self.lock().backlog.take();
        if failed.is_some() {
            self.room.notify_one();
        }
        failed
    }

    /// Has everything sent that has been written, and waits until it is settled. A flush that is dropped does all but
    /// wait.
    pub(super) async fn flush(&self) -> Result<(), FlushError> {
        match self.begin_flush() {
            Flush::Settled(failures) => failures.into_result(),
            // The sender is only dropped unused when the whole state is, and this holds on to the state.
            Flush::Waits(settled) => settled.await.unwrap_or_default().into_result(),
        }
    }

    fn begin_flush(&self) -> Flush {
        let mut state = self.lock();
        let failures = state.backlog.failures();
        let target = state.sealed_count + u64::from(!state.open.is_empty());
        if state.settled_count >= target {
            return Flush::Settled(failures);
        }
        state.open.hurry();
        let (done, settled) = oneshot::channel();
        state.waiters.retain(|waiter| !waiter.done.is_closed());
        state.waiters.push(Waiter { target, failures, done });
        drop(state);
        self.work.notify_one();
        Flush::Waits(settled)
    }

    /// Takes no more messages from now on.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.work.notify_one();
        self.room.notify_one();
    }

    /// No handle is left: nobody can close, or take what failed.
    pub(super) fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        state.abandoned = true;
        let (unsent, failed) = (state.messages, state.backlog.messages());
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

    /// Whether no more messages are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// Completes when something may have changed for the task. Nothing is lost when the future is dropped.
    pub(super) async fn news(&self) {
        self.work.notified().await;
    }

    /// Completes when no handle is left.
    pub(super) async fn abandoned(&self) {
        self.abandoned.notified().await;
    }

    /// What the task can do at `now`.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut state = self.lock();
        let due = state.open.due(self.limits.wait_interval);
        if state.sealed.is_empty() && due.is_some_and(|due| due <= now || state.phase != Phase::Open) {
            state.seal_open();
        }
        if let Some(sealed) = state.sealed.pop_front() {
            let batch = sealed.batch.clone();
            state.in_flight.push_back(sealed);
            return Next::Send(batch);
        }
        match due {
            Some(due) => Next::Wait(due),
            None if state.phase == Phase::Open => Next::Idle,
            None => Next::End,
        }
    }

    /// The oldest batch in flight was acknowledged, or failed.
    pub(super) fn settle(&self, result: Result<Offset, FailedBatch>) {
        let is_well = result.is_ok();
        let mut state = self.lock();
        state.settle(result);
        let notice = if is_well { state.announce() } else { None };
        drop(state);
        if let Some(notice) = notice {
            warn!(topic = %self.topic, "{notice}");
            self.work.notify_one();
        }
        self.room.notify_one();
    }

    /// The task has ended: what it has not settled has failed.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.phase = Phase::Ended;
        state.seal_open();
        let mut outcome = Outcome::Unknown;
        loop {
            if state.in_flight.is_empty() {
                outcome = Outcome::NotWritten;
                let batch = state.sealed.pop_front();
                state.in_flight.extend(batch);
            }
            let Some(batch) = state.in_flight.front().map(|sealed| sealed.batch.clone()) else { break };
            let text =
                format!("the writer of topic `{}` ended before the batch was acknowledged", self.topic);
            let error = Error::new(ErrorKind::Closed, text);
            state.settle(Err(FailedBatch { batch, error, outcome, attempts: 0 }));
        }
        let (abandoned, failed) = (state.abandoned, state.backlog.messages());
        drop(state);
        self.room.notify_one();
        self.ended.send_replace(true);
        if abandoned {
            self.report_loss(failed);
        }
    }

    /// Completes when the task has ended.
    pub(super) async fn ended(&self) {
        // The sender is here: it is not dropped meanwhile.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn report_loss(&self, messages: u64) {
        if messages > 0 {
            error!(topic = %self.topic, messages, "messages of a dropped writer were not acknowledged");
        }
    }
}

impl State {
    /// Puts a sealed batch behind the others.
    fn enqueue(&mut self, batch: Batch, promise: Option<Promise>) {
        self.sealed.push_back(Sealed { batch, promise });
        self.sealed_count += 1;
    }

    fn seal_open(&mut self) {
        if let Some(batch) = self.open.seal() {
            let promise = self.take_promise();
            self.enqueue(batch, promise);
        }
    }

    /// Says in the log itself what is missing there, if anything is. Returns what it said.
    fn announce(&mut self) -> Option<String> {
        let notice = self.dropped.notice()?;
        match self.open.push(notice.as_bytes(), Instant::now) {
            Ok(Pushed::First | Pushed::Joined(_)) => {}
            Ok(Pushed::Sealed(batch)) => {
                let promise = self.take_promise();
                self.enqueue(batch, promise);
            }
            // The shortest batch there can be has room for it.
            Err(_) => return None,
        }
        self.bytes = self.bytes.saturating_add(framed_bytes(notice.len()));
        self.messages += 1;
        self.dropped.announced();
        Some(notice)
    }

    /// What becomes of the open batch, as it will be told.
    fn fate(&mut self) -> Fate {
        let (_, fate) = self.promised.get_or_insert_with(promise);
        fate.clone()
    }

    fn take_promise(&mut self) -> Option<Promise> {
        self.promised.take().map(|(promise, _)| promise)
    }

    fn settle(&mut self, result: Result<Offset, FailedBatch>) {
        if let Some(Sealed { batch, promise }) = self.in_flight.pop_front() {
            self.bytes = self.bytes.saturating_sub(batch.body().len());
            self.messages = self.messages.saturating_sub(batch.messages());
            if let Some(promise) = promise {
                let told = result
                    .as_ref()
                    .copied()
                    .map_err(|failed| AppendError { error: failed.error.clone(), outcome: failed.outcome });
                // Nobody may wait for it any more.
                let _ = promise.send(told);
            }
        }
        self.settled_count += 1;
        let settled = self.settled_count;
        if let Err(failed) = result {
            // Every waiter's target is at least the batch that is settled: it would be gone otherwise.
            self.waiters.iter_mut().for_each(|waiter| waiter.failures.add(&failed));
            self.backlog.push(failed);
        }
        for waiter in self.waiters.extract_if(.., |waiter| waiter.target <= settled) {
            // A flush that does not wait any more does not need the answer.
            let _ = waiter.done.send(waiter.failures);
        }
    }
}
