//! The task that stores checkpoints: one at a time, the latest only, when there is something new.
//!
//! It also keeps the lease, whether or not something can be stored. A store that fails for a while is asked again; what is
//! done meanwhile is stored when it answers.
//!
//! When somebody else has touched the checkpoint, the lease is asked for again. If it is granted, and the checkpoint is what
//! was stored last, everything goes on; if it is another one, it was reset, and reading begins anew there. If the lease is
//! not granted, the consumer ends, and this task does nothing any more. A reset asks for no fence, so where there are leases
//! it is done only by who has shown a moment before that it has this one.

mod whose;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logd_statehandlers::{Checkpoint, Claimant, Position, StateError, StateErrorKind};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::shared::{Shared, later};
use crate::error::{Error, ErrorKind};
use crate::retry::Backoff;

/// How long nothing must have been done, with nothing in hand, for a checkpoint to be stored before its time.
const IDLE: Duration = Duration::from_millis(100);
/// How often a consumer without a lease looks for a reset.
const LOOK: Duration = Duration::from_secs(5);
/// How often it is looked for something new at most.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// How long one call of the store can take.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the last checkpoint is tried to be stored.
const FINISH_TRIES: u32 = 5;

/// The lease that a consumer holds.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) claimant: Claimant,
    pub(super) ttl: Duration,
}

/// What the task owns.
#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    hold: Hold,
    backoff: Backoff,
    /// Where a reader begins that has no checkpoint.
    start: Position,
    renew_at: Instant,
    failing_since: Option<Instant>,
    /// What may be stored, and what is not known to be.
    attempted: Option<Checkpoint>,
    /// Whether somebody waits until it is found out whether the fence holds.
    is_awaited: bool,
    /// When it was looked last whether a checkpoint without a lease was moved.
    looked_at: Instant,
    /// How often a lease was asked for that may have been granted.
    starts_lost: u64,
    /// Before that a store that has failed is asked for nothing but to keep the lease.
    retry_at: Option<Instant>,
    /// What the application keeps beside the position, when it was looked at last, and since when it is that.
    user_seen: (Vec<u8>, Instant),
    /// Whether somebody else has moved the checkpoint, and it is not known yet who.
    is_fenced: bool,
    /// Whether reading begins anew wherever the checkpoint is.
    must_reload: bool,
    /// Why the checkpoint is no more this consumer's to move.
    ended: Option<StateError>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        // What is in hand knows of what is shared, and that of it: nobody needs it any more.
        let mut state = self.shared.lock();
        let left = state.left;
        state.tracker.let_go(left);
        state.replaced = None;
        state.dead.clear();
        state.generation += 1;
        state.is_closed = true;
        if !state.has_failed && !std::thread::panicking() {
            // Where the consumer is not: its runtime is.
            let text = "the runtime that the consumer was opened in has ended";
            self.shared.fail_locked(&mut state, Error::new(ErrorKind::Closed, text));
        }
    }
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, hold: Hold, backoff: Backoff, start: Position) -> Self {
        let now = Instant::now();
        let renew_at = later(now, hold.ttl / 3);
        let user_seen = (shared.lock().user.clone(), now);
        Self {
            shared,
            hold,
            backoff,
            start,
            renew_at,
            failing_since: None,
            attempted: None,
            is_awaited: false,
            looked_at: now,
            starts_lost: 0,
            retry_at: None,
            user_seen,
            is_fenced: false,
            must_reload: false,
            ended: None,
        }
    }

    /// Works until it is told to stop, and then stores a last time and gives the lease back. Tells what it could not store.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Result<(), StateError> {
        let is_clean = loop {
            let wake = self.wake();
            let timer = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                stopped = &mut stop => break stopped.is_ok(),
                () = timer => {}
                () = self.shared.work.notified() => {}
            }
            if self.ended.is_none() {
                self.work().await;
            }
        };
        self.finish(is_clean).await
    }

    async fn work(&mut self) {
        if std::mem::take(&mut self.shared.lock().is_doubted) {
            self.is_awaited = true;
            self.renew_at = Instant::now();
        }
        if self.is_fenced {
            if !self.is_waiting() {
                self.ask_again().await;
            }
            return;
        }
        if self.is_leased() && Instant::now() >= self.renew_at {
            self.renew().await;
        } else if self.looks() && Instant::now() >= later(self.looked_at, LOOK) {
            self.look().await;
        }
        if self.is_fenced || self.ended.is_some() || self.is_waiting() {
            return;
        }
        let jump = self.shared.lock().jump;
        if let Some(to) = jump {
            self.jump(to).await;
        } else if self.commit_at().is_some_and(|at| at <= Instant::now()) {
            self.commit().await;
        }
    }

    /// Whether the store has failed, and is not to be asked again yet.
    fn is_waiting(&self) -> bool {
        self.retry_at.is_some_and(|at| at > Instant::now())
    }

    /// Whether this consumer holds a lease.
    fn is_leased(&self) -> bool {
        !self.shared.lock().fence.is_none()
    }

    /// When the next checkpoint is due, or is to be looked for again; `None` while nothing is new.
    fn commit_at(&mut self) -> Option<Instant> {
        let shared = Arc::clone(&self.shared);
        let policy = &shared.policy;
        if policy.is_transactional {
            return None;
        }
        let mut state = shared.lock();
        let since = state.unstored_since?;
        if self.user_seen.0 != state.user {
            self.user_seen = (state.user.clone(), Instant::now());
        }
        let settled = state.tracker.settle().messages;
        if state.settled_seen.0 != settled {
            state.settled_seen = (settled, Instant::now());
        }
        if self.failing_since.is_some() {
            // It is tried again when it is time for that.
            return Some(since);
        }
        if policy.messages.is_some_and(|messages| self.shared.acks.load(Ordering::Relaxed) >= messages) {
            return Some(since);
        }
        let latest = later(since, policy.interval.max(INTERVAL_MIN));
        let changed = since.max(state.settled_seen.1).max(self.user_seen.1);
        Some(if state.tracker.is_empty() { latest.min(changed + IDLE) } else { latest })
    }

    fn wake(&mut self) -> Option<Instant> {
        if self.ended.is_some() {
            return None;
        }
        let now = Instant::now();
        if self.is_fenced {
            return Some(self.retry_at.unwrap_or(now));
        }
        let is_jumping = self.shared.lock().jump.is_some();
        // Nobody says when the last message in hand is done: it is looked for.
        let work = if is_jumping { Some(now) } else { self.commit_at().map(|at| at.min(now + IDLE)) };
        let work = work.map(|at| self.retry_at.map_or(at, |retry_at| at.max(retry_at)));
        let renew = self.is_leased().then_some(self.renew_at);
        let look = self.looks().then(|| later(self.looked_at, LOOK));
        [work, renew, look].into_iter().flatten().min()
    }

    /// What is to be stored; `None` if it is stored already.
    fn latest(&self, is_clean: bool) -> Option<Checkpoint> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        // Before looking: what is acknowledged from here on counts.
        self.shared.acks.store(0, Ordering::Relaxed);
        let is_drained = state.tracker.is_drained();
        let mut checkpoint = state.tracker.checkpoint(&state.ahead);
        checkpoint.user.clone_from(&state.user);
        let since = state.unstored_since.take();
        // More of what is in hand can be done at any time, also since it was looked at, of which nobody tells.
        state.unstored_since = (!is_drained).then(Instant::now);
        state.left = Some(state.tracker.open());
        let is_known = self.attempted.is_none();
        if let Some(committed) = &state.committed {
            if committed.next == checkpoint.next && !(is_clean && state.tracker.is_empty()) {
                checkpoint.head_attempts = committed.head_attempts;
            }
            checkpoint = checkpoint.with_extra_of(committed);
            checkpoint.written_at = committed.written_at;
            if is_known && *committed == checkpoint {
                return None;
            }
        } else if is_known && since.is_none() {
            return None;
        }
        Some(checkpoint.written_now())
    }

    async fn commit(&mut self) {
        let since = self.shared.lock().unstored_since;
        let Some(checkpoint) = self.latest(false) else {
            // There is nothing that the store could fail at.
            (self.failing_since, self.retry_at) = (None, None);
            return;
        };
        let fence = self.shared.lock().fence;
        let shared = Arc::clone(&self.shared);
        let stored = within(shared.handler.complete(&shared.key, &checkpoint, fence)).await;
        match stored {
            Ok(_) => {
                self.shared.lock().committed = Some(checkpoint);
                self.attempted = None;
                self.is_well();
            }
            Err(error) => {
                if error.kind() == StateErrorKind::Ambiguous {
                    self.attempted = Some(checkpoint);
                }
                let mut state = self.shared.lock();
                state.unstored_since = since.or(state.unstored_since);
                drop(state);
                self.failed(error);
            }
        }
    }

    /// Keeps the lease. Whether it is this consumer's is told.
    async fn renew(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let fence = shared.lock().fence;
        let Some(leases) = shared.handler.leases() else { return false };
        match within(leases.renew(&shared.key, fence, self.hold.ttl)).await {
            Ok(()) => {
                self.renew_at = later(Instant::now(), self.hold.ttl / 3);
                self.is_found_out();
                // Else what is stored next says whether the store is well.
                if self.commit_at().is_none() && shared.lock().jump.is_none() {
                    self.is_well();
                }
                true
            }
            Err(error) => {
                self.renew_at = later(Instant::now(), self.hold.ttl / 10);
                self.failed(error);
                false
            }
        }
    }

    /// Whether the fence holds is known, and what follows from that is done.
    fn is_found_out(&mut self) {
        if std::mem::take(&mut self.is_awaited) {
            self.shared.lock().checks += 1;
            self.shared.news.notify_one();
        }
    }

    fn is_well(&mut self) {
        if self.failing_since.take().is_some() {
            info!(key = %self.shared.key, "the store of checkpoints is back");
        }
        self.backoff.reset();
        self.retry_at = None;
    }

    fn failed(&mut self, error: StateError) {
        match error.kind() {
            StateErrorKind::Fenced => {
                self.is_fenced = true;
                self.retry_at = None;
            }
            _ if is_passing(&error) => self.wait_for_store(error),
            _ => self.end(error),
        }
    }

    /// The checkpoint is not this consumer's to move any more.
    fn end(&mut self, error: StateError) {
        self.is_fenced = false;
        self.shared.fail(Error::state(error.clone()));
        self.ended = Some(error);
        self.is_found_out();
    }

    /// The store fails: it is asked again, and when that has gone on for too long the stream says so.
    fn wait_for_store(&mut self, error: StateError) {
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert_with(|| {
            warn!(key = %self.shared.key, %error, "the store of checkpoints fails; it is asked again");
            now
        });
        self.retry_at = Some(later(now, self.backoff.next_delay().unwrap_or_default()));
        if now.duration_since(since) >= self.shared.policy.lag_max {
            self.failing_since = Some(now);
            self.shared.complain(Error::state(error));
        }
    }

    /// Stores a last time, and gives the lease back, also where nothing could be stored.
    async fn finish(&mut self, is_clean: bool) -> Result<(), StateError> {
        let finished = self.store_last(is_clean).await;
        let fence = self.shared.lock().fence;
        let shared = Arc::clone(&self.shared);
        if finished.as_ref().is_err_and(|error| error.kind() != StateErrorKind::Fenced)
            && let Some(leases) = shared.handler.leases().filter(|_| !fence.is_none())
            && let Err(error) = within(leases.release(&shared.key, fence, None)).await
        {
            warn!(key = %shared.key, %error, "the lease could not be given back; it runs out");
        }
        finished
    }

    async fn store_last(&mut self, is_clean: bool) -> Result<(), StateError> {
        let shared = Arc::clone(&self.shared);
        let mut tries = 0;
        loop {
            tries += 1;
            if self.is_fenced {
                self.ask_again().await;
            }
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            let stored = if self.is_fenced {
                let text = format!("it is not known who has moved the checkpoint of `{}`", shared.key);
                Err(StateError::new(StateErrorKind::Unavailable, text))
            } else {
                self.store_and_release(is_clean).await
            };
            let Err(error) = stored else { return Ok(()) };
            shared.lock().unstored_since.get_or_insert_with(Instant::now);
            if tries == FINISH_TRIES {
                return Err(error);
            }
            if error.kind() == StateErrorKind::Fenced {
                self.is_fenced = true;
            } else if is_passing(&error) {
                tokio::time::sleep(self.backoff.next_delay().unwrap_or_default()).await;
            } else {
                return Err(error);
            }
        }
    }

    async fn store_and_release(&mut self, is_clean: bool) -> Result<(), StateError> {
        let shared = Arc::clone(&self.shared);
        let last = if shared.policy.is_transactional { None } else { self.latest(is_clean) };
        let fence = shared.lock().fence;
        match (shared.handler.leases().filter(|_| !fence.is_none()), &last) {
            (Some(leases), last) => within(leases.release(&shared.key, fence, last.as_ref())).await?,
            (None, Some(last)) => {
                within(shared.handler.complete(&shared.key, last, fence)).await.map(|_| ())?;
            }
            (None, None) => {}
        }
        if let Some(last) = last {
            shared.lock().committed = Some(last);
        }
        Ok(())
    }
}

/// Whether a store is asked again after this error: it was away, or refuses until somebody has made room or given a right.
pub(super) fn is_passing(error: &StateError) -> bool {
    error.is_retryable() || error.kind() == StateErrorKind::Failed
}

/// A call of the store, in its time. What takes longer may be done all the same.
pub(super) async fn within<T>(call: impl Future<Output = Result<T, StateError>>) -> Result<T, StateError> {
    timeout(STORE_TIMEOUT, call).await.unwrap_or_else(|_| {
        let text = format!("the store did not answer within `{STORE_TIMEOUT:?}`");
        Err(StateError::new(StateErrorKind::Ambiguous, text))
    })
}
