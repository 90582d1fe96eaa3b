//! What a writer's handles and its task share: the task's side. It takes batches in their order, and settles each of
//! them exactly once.

use std::sync::atomic::Ordering;

use logd_protocol::Batch;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::events::WriterEvent;
use super::shared::Shared;
use super::spooler::{Kept, Removed, SharedSpool};
use super::state::{Phase, Settled};
use crate::backlog::FailedBatch;
use crate::error::{AppendError, Error, ErrorKind, Outcome};

/// The most bytes that go into the spool in one go, unless a single batch has more: room comes bit by bit.
const SPOOL_BYTES: u64 = 1024 * 1024;
/// The most batches that do: each is a file that is synced.
const SPOOL_BATCHES: usize = 16;

/// What the task can do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this batch.
    Send(Batch),
    /// Send what is in the spool: it is older than all else.
    Drain,
    /// Wait until then, or for news.
    Wait(Instant),
    /// Wait for news.
    Idle,
    /// Nothing is left, and nothing can come any more.
    End,
}

/// What is known, at the writer's end, of batches in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    /// There was no connection to send them on.
    Unsent,
    /// They may be in the topic, and sending them again does not write them twice.
    Repeatable,
    /// They may be in the topic, and sending them again could write them twice.
    Doubtful,
}

/// What is to be put into the spool.
#[derive(Debug)]
pub(super) enum Press {
    /// These batches, under their numbers.
    Put(Vec<(u64, Batch)>),
    /// Nothing until then, or until there is news.
    Wait(Option<Instant>),
}

impl Shared {
    /// Whether no more messages are taken.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().phase != Phase::Open
    }

    /// Completes when something may have changed for the task. Nothing is lost when the future is dropped.
    pub(super) async fn news(&self) {
        self.work.notified().await;
    }

    /// What the task can do at `now`.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut state = self.lock();
        let is_closing = state.phase != Phase::Open;
        let due = state.open.due(self.limits.wait_interval);
        if state.queue.is_taken() && due.is_some_and(|due| due <= now || is_closing) {
            state.seal_open();
        }
        if state.has_spooled() {
            return if state.queue.front().is_none() { Next::Drain } else { Next::Idle };
        }
        if let Some(batch) = state.queue.take() {
            return Next::Send(batch);
        }
        match due {
            _ if !state.queue.is_taken() => Next::Idle,
            Some(due) => Next::Wait(due),
            None if is_closing => Next::End,
            None => Next::Idle,
        }
    }

    /// Notes that the server could not be reached, or had no room.
    pub(super) fn set_away(&self, error: &Error) {
        let was_away = self.lock().away.replace(error.clone()).is_some();
        if !was_away {
            warn!(topic = %self.topic, %error, "the server is away");
        }
        self.pressure.notify_one();
        // Those that wait for room may be told that there is no use in it.
        self.room.notify_one();
    }

    /// Notes that the server is there again.
    pub(super) fn set_back(&self) {
        let was_away = self.lock().away.take().is_some();
        self.tell_back(was_away);
    }

    fn tell_back(&self, was_away: bool) {
        if was_away {
            info!(topic = %self.topic, "the server is back");
        }
    }

    /// How many batches of the spool can be sent.
    pub(super) fn spooled_batches(&self) -> usize {
        let batches = self.lock().spool.as_ref().map_or(0, |spool| spool.batches);
        usize::try_from(batches).unwrap_or(usize::MAX)
    }

    /// The number of the oldest batch in flight.
    pub(super) fn front_number(&self) -> Option<u64> {
        self.lock().queue.front().map(|front| front.number)
    }

    /// The oldest batch in flight was acknowledged, failed, or is in the spool.
    pub(super) fn settle(&self, result: Settled) {
        let is_acknowledged = matches!(result, Settled::Acknowledged(_));
        let is_failed = matches!(result, Settled::Failed(_));
        if is_failed {
            self.expire();
        }
        let mut state = self.lock();
        let was_away = is_acknowledged && state.away.is_some();
        let settled = state.queue.settle().map(|settled| (settled, result));
        let no_room = state.settle(settled);
        let dropped = state.drop_batches(&no_room);
        drop(state);
        self.tell_dropped(dropped, "the backlog is full");
        if is_failed {
            self.failed.notify_waiters();
        }
        if is_acknowledged {
            self.tell_back(was_away);
            self.announce();
        }
        self.room.notify_one();
    }

    /// Says in the log itself what is missing there, if anything is.
    fn announce(&self) {
        let dropped = self.lock().dropped;
        if dropped.messages == 0 {
            return;
        }
        let text = self.limits.notice.text(&dropped);
        let mut state = self.lock();
        match text {
            None => state.forget_dropped(dropped),
            Some(text) => {
                let told = state.push_notice(&text, dropped);
                // The shortest batch there can be has room for this one.
                told.or_else(|| state.push_notice(dropped.to_string().as_bytes(), dropped));
            }
        }
        drop(state);
        warn!(topic = %self.topic, "{dropped}");
        self.work.notify_one();
    }

    /// What is to be put into the spool at `now`.
    pub(super) fn press(&self, now: Instant) -> Press {
        let mut state = self.lock();
        let Some(spool) = &state.spool else { return Press::Wait(None) };
        let bytes_left = spool.bytes_max.saturating_sub(spool.bytes);
        if state.phase == Phase::Ended {
            return Press::Wait(None);
        }
        let is_half_full = self.is_half_full(&state);
        let stuck = is_half_full.then(|| state.progress + self.limits.stuck_after());
        let is_away = state.away.is_some();
        let is_due = is_away || state.pressed || stuck.is_some_and(|at| at <= now);
        if !is_due {
            return Press::Wait(stuck);
        }
        let due = state.open.due(self.limits.wait_interval);
        if due.is_some_and(|due| due <= now || (state.phase != Phase::Open && is_away)) {
            state.seal_open();
        }
        let batches = state.queue.take_for_spool(bytes_left, SPOOL_BYTES, SPOOL_BATCHES);
        if batches.is_empty() {
            state.pressed = false;
            return Press::Wait(due.filter(|due| *due > now));
        }
        Press::Put(batches)
    }

    /// What was to be put into the spool is there.
    pub(super) fn pressed_out(&self) {
        let mut state = self.lock();
        let why = state.away.clone().map(AppendError::not_written);
        let error = why.as_ref().map(|why| why.error.clone());
        state.is_spool_broken = false;
        let spooled: Vec<_> = state.queue.spooled().collect();
        let batches = spooled.len() as u64;
        let messages = spooled.iter().map(|spooled| spooled.batch.messages()).sum();
        state.settle(spooled.into_iter().map(|spooled| (spooled, Settled::Spooled(why.clone()))));
        state.is_waiting_in_vain = false;
        if !self.is_half_full(&state) {
            state.pressed = false;
        }
        drop(state);
        self.events.tell(|| WriterEvent::Spooled { error, batches, messages });
        self.work.notify_one();
        self.room.notify_one();
    }

    /// What was to be put into the spool is not there.
    pub(super) fn press_failed(&self) {
        let mut state = self.lock();
        state.queue.unspool();
        state.is_spool_broken = true;
        drop(state);
        self.work.notify_one();
    }

    /// Whether a writer that cannot send has put everything into the spool that it takes.
    pub(super) fn is_spooled_out(&self) -> bool {
        let mut state = self.lock();
        state.seal_open();
        let bytes_left = state.spool.as_ref().map_or(0, |spool| spool.bytes_max.saturating_sub(spool.bytes));
        let has_room = state.queue.waiting_bytes().is_some_and(|bytes| bytes <= bytes_left);
        let is_done =
            state.queue.is_taken() || state.is_spool_broken || !(has_room || state.queue.is_spooling());
        state.pressed = true;
        drop(state);
        self.pressure.notify_one();
        is_done
    }

    /// Batches of the spool were acknowledged, and are not there any more.
    pub(super) fn unspooled(&self, removed: Removed) {
        let mut state = self.lock();
        state.unspooled(removed);
        state.stats.delivered += removed.messages;
        let was_away = state.away.is_some();
        state.come_forward(Instant::now());
        drop(state);
        self.tell_back(was_away);
        self.announce();
        self.pressure.notify_one();
        self.room.notify_one();
    }

    /// Batches of the spool were set aside, and will not be sent.
    pub(super) fn set_aside(&self, removed: Removed, why: &Error) {
        let mut state = self.lock();
        state.unspooled(removed);
        state.set_aside(removed, why);
        drop(state);
        self.pressure.notify_one();
        self.room.notify_one();
    }

    /// Takes the oldest batch that waits, if the spool has no room for it or does not work.
    pub(super) fn take_without_room(&self) -> Option<Batch> {
        let mut state = self.lock();
        let bytes_left = state.spool.as_ref().map_or(0, |spool| spool.bytes_max.saturating_sub(spool.bytes));
        let bytes = state.queue.waiting_bytes()?;
        if bytes <= bytes_left && !state.is_spool_broken {
            return None;
        }
        state.queue.take()
    }

    /// The task has ended: what it has not settled goes into the spool, and has failed where that cannot be.
    pub(super) fn end(&self, spool: Option<&SharedSpool>, in_flight: InFlight, why: Option<&Error>) {
        if spool.is_some() {
            // It reaches the topic with what is spooled.
            self.announce();
        }
        let mut state = self.lock();
        state.phase = Phase::Ended;
        state.seal_open();
        let left = state.queue.take_all();
        drop(state);
        let error = why.cloned().unwrap_or_else(|| {
            let text =
                format!("the writer of topic `{}` ended before the batch was acknowledged", self.topic);
            Error::new(ErrorKind::Closed, text)
        });
        let mut settled = Vec::with_capacity(left.len());
        for (numbered, is_in_flight) in left {
            let is_sent = is_in_flight && in_flight != InFlight::Unsent;
            let outcome = if is_sent { Outcome::Unknown } else { Outcome::NotWritten };
            let (number, batch) = (numbered.number, numbered.batch.clone());
            let why = AppendError { error: error.clone(), outcome };
            let failed = FailedBatch { batch, error: error.clone(), outcome, attempts: 0 };
            let is_sendable = !is_sent || in_flight == InFlight::Repeatable;
            let result = match spool.map(|spool| spool.put_at_end(number, &failed.batch, is_sendable)) {
                Some(Ok(Kept::Spooled)) => Settled::Spooled(Some(why)),
                Some(Ok(Kept::Aside)) => Settled::Aside(failed),
                Some(Err(failure)) => {
                    error!(topic = %self.topic, error = %failure, "a batch could not be put into the spool");
                    self.events.tell(|| WriterEvent::SpoolFailed { error: failure });
                    Settled::Failed(failed)
                }
                None => Settled::Failed(failed),
            };
            if let Settled::Failed(failed) | Settled::Aside(failed) = &result {
                let FailedBatch { batch, error, outcome, attempts } = failed.clone();
                let messages = batch.messages();
                self.events.tell(|| WriterEvent::Failed { error, outcome, attempts, messages });
            }
            settled.push((numbered, result));
        }
        if let Some(spool) = spool {
            spool.close();
        }
        let mut state = self.lock();
        let no_room = state.settle(settled);
        let dropped = state.drop_batches(&no_room);
        let failed = state.backlog.messages();
        drop(state);
        self.tell_dropped(dropped, "the backlog is full");
        self.room.notify_one();
        if self.is_abandoned.load(Ordering::Relaxed) {
            self.report_loss(failed);
        }
    }

    /// Tells those that wait for the end.
    pub(super) fn has_ended(&self) {
        self.ended.send_replace(true);
        self.failed.notify_waiters();
    }
}
