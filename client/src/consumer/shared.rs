//! What a consumer, its deliveries, and its committer share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logd_statehandlers::{
    Checkpoint, ConsumerKey, Done, Fence, Position, StateError, StateErrorKind, StateHandler,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::policy::CommitPolicy;
use super::tracker::{Handed, Tracker};
use crate::error::Error;

/// How far off a time is that nobody waits for.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How many errors wait for the stream to yield them.
const FAILURES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct State {
    /// Grows when reading begins anew: deliveries of before do nothing any more.
    pub(super) generation: u64,
    pub(super) tracker: Tracker,
    pub(super) fence: Fence,
    /// The fence of what was handed out, while reading is to begin anew with another one.
    pub(super) fence_before: Option<Fence>,
    /// What is stored, as far as is known; `None` if nothing is.
    pub(super) committed: Option<Checkpoint>,
    /// What the application keeps beside the position.
    pub(super) user: Vec<u8>,
    /// What the stream is to yield next.
    pub(super) failures: VecDeque<Error>,
    /// Whether nothing more comes behind the failures.
    pub(super) has_failed: bool,
    /// Where reading is to begin anew.
    pub(super) reload: Option<Position>,
    /// What was in hand when a transactional consumer's checkpoint was moved, and up to where it was stored.
    pub(super) replaced: Option<(Tracker, Position)>,
    /// How many messages were not done when it was looked for what is to be stored.
    pub(super) left: Option<usize>,
    /// How often it was found out whether the fence holds.
    pub(super) checks: u64,
    /// Whether nothing is stored any more.
    pub(super) is_closed: bool,
    /// Where the checkpoint is to be put, whatever it says: the topic is another one.
    pub(super) jump: Option<Position>,
    /// Whether the fence may not hold any more.
    pub(super) is_doubted: bool,
    /// What was done before this reader began, behind the checkpoint.
    pub(super) ahead: Vec<Done>,
    /// What is on its way to the dead letters.
    pub(super) dead: VecDeque<Handed>,
    /// How many messages were done at the front when the committer has seen it change last, and when that was.
    pub(super) settled_seen: (u64, Instant),
    /// Since when there may be something done that is not stored.
    pub(super) unstored_since: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) key: ConsumerKey,
    pub(super) handler: Arc<dyn StateHandler>,
    pub(super) policy: CommitPolicy,
    /// After so many returns a message goes to the dead letters.
    pub(super) deliveries_max: Option<u32>,
    pub(super) has_dead_letters: bool,
    state: Mutex<State>,
    /// Whether there is something for the stream to look at. Changed with the state locked.
    pub(super) is_noted: AtomicBool,
    /// Whether the stream waits for something to be acknowledged.
    pub(super) is_awaited: AtomicBool,
    /// How many messages were acknowledged since something was stored; counted where that has a bound.
    pub(super) acks: AtomicU64,
    /// Something may have changed for the stream.
    pub(super) news: Notify,
    /// Something may have changed for the committer.
    pub(super) work: Notify,
    /// There is something to bury.
    pub(super) burials: Notify,
}

impl Shared {
    pub(super) fn new(
        key: ConsumerKey,
        handler: Arc<dyn StateHandler>,
        policy: CommitPolicy,
        deliveries_max: Option<u32>,
        has_dead_letters: bool,
        state: State,
    ) -> Self {
        Self {
            key,
            handler,
            policy,
            deliveries_max,
            has_dead_letters,
            state: Mutex::new(state),
            is_noted: AtomicBool::new(true),
            is_awaited: AtomicBool::new(false),
            acks: AtomicU64::new(0),
            news: Notify::new(),
            work: Notify::new(),
            burials: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message is done.
    pub(super) fn ack(&self, handed: &Handed) {
        // What came before reading began anew is in no tracker any more.
        if !handed.lot.settle(handed.span.index) {
            return;
        }
        // Behind the mark: who waits says so before looking at the marks.
        if self.is_awaited.load(Ordering::SeqCst) {
            self.news.notify_one();
        }
        if let Some(max) = self.policy.messages
            && self.acks.fetch_add(1, Ordering::Relaxed) + 1 == max
        {
            self.work.notify_one();
        }
    }

    /// Something may be to be stored, now or later.
    pub(super) fn is_unstored(&self, state: &mut State) {
        if state.unstored_since.is_none() {
            state.unstored_since = Some(Instant::now());
            self.work.notify_one();
        }
    }

    pub(super) fn give_back(&self, handed: &Handed, after: Duration) {
        let mut state = self.lock();
        if state.generation != handed.lot.generation {
            return;
        }
        let returned = handed.returned.saturating_add(1);
        if self.deliveries_max.is_some_and(|max| returned >= max) {
            return self.bury_locked(&mut state, Handed { returned, ..handed.clone() });
        }
        state.tracker.give_back(handed, later(Instant::now(), after));
        self.tell();
    }

    /// The message goes to the dead letters; to nowhere without any.
    pub(super) fn bury(&self, handed: &Handed) {
        let mut state = self.lock();
        if state.generation == handed.lot.generation {
            self.bury_locked(&mut state, handed.clone());
        }
    }

    pub(super) fn bury_locked(&self, state: &mut State, handed: Handed) {
        if !self.has_dead_letters {
            if handed.lot.settle(handed.span.index) {
                tracing::warn!(key = %self.key, position = %handed.position(), "a message was skipped");
            }
            self.tell();
        } else if handed.lot.bury(handed.span.index) {
            state.dead.push_back(handed);
            self.burials.notify_one();
            self.tell();
        }
    }

    /// There is something for the stream to look at. With the state locked, or before it is looked at.
    fn tell(&self) {
        self.is_noted.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }

    /// The stream ends with this error.
    pub(super) fn fail(&self, error: Error) {
        self.fail_locked(&mut self.lock(), error);
    }

    pub(super) fn fail_locked(&self, state: &mut State, error: Error) {
        if !state.has_failed {
            state.failures.push_back(error.ending());
            state.has_failed = true;
        }
        self.tell();
    }

    /// The stream yields this error, and goes on.
    pub(super) fn complain(&self, error: Error) {
        let mut state = self.lock();
        if state.failures.len() >= FAILURES_MAX {
            tracing::warn!(key = %self.key, %error, "the stream has not been asked for long");
        } else {
            self.complain_locked(&mut state, error);
        }
    }

    /// As [`Shared::complain`], for what must not be left out: at most one for each time that the stream is asked.
    pub(super) fn complain_locked(&self, state: &mut State, error: Error) {
        if !state.has_failed {
            state.failures.push_back(error);
        }
        self.tell();
    }

    /// Reading begins anew at what is stored, which somebody else has moved.
    pub(super) fn begin_anew(&self, committed: Option<Checkpoint>, fence: Fence, start: Position) {
        let mut state = self.lock();
        let stored = state.committed.as_ref().map_or(start, |committed| committed.next);
        let replaced = self.reload(&mut state, committed, fence, start);
        if self.policy.is_transactional && state.replaced.is_none() {
            state.replaced = Some((replaced, stored));
        }
    }

    /// What is told of messages that were worked on when the checkpoint of a transactional consumer was moved.
    pub(super) fn moved(&self, to: Position) -> Error {
        let text = format!(
            "the checkpoint of `{}` was moved to `{to}` while messages were worked on: they must not be stored; reading \
             goes on there",
            self.key
        );
        Error::state(StateError::new(StateErrorKind::Fenced, text))
    }

    /// Reading begins anew at what is stored. Returns what was in hand.
    pub(super) fn reload(
        &self,
        state: &mut State,
        committed: Option<Checkpoint>,
        fence: Fence,
        start: Position,
    ) -> Tracker {
        let next = committed.as_ref().map_or(start, |committed| committed.next);
        let known = committed.clone().unwrap_or_default();
        state.generation += 1;
        let replaced = std::mem::replace(&mut state.tracker, Tracker::new(next, known.anchor));
        state.user = known.user;
        state.ahead = known.done;
        state.fence_before.get_or_insert(state.fence);
        state.fence = fence;
        state.committed = committed;
        state.dead.clear();
        state.unstored_since = None;
        state.reload = Some(next);
        self.tell();
        replaced
    }
}

/// The time so much later, or one that nobody waits for.
pub(super) fn later(from: Instant, by: Duration) -> Instant {
    from + by.min(FAR)
}
