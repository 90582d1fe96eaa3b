//! What a consumer, its deliveries, and its committer share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logd_statehandlers::{Checkpoint, ConsumerKey, Done, Fence, Position, StateHandler};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::policy::CommitPolicy;
use super::tracker::{Handed, SlotId, Tracker};
use crate::error::Error;
use crate::scanner::Message;

/// How far off a time is that nobody waits for.
const FAR: Duration = Duration::from_secs(86_400);

/// A message on its way to the dead letters.
#[derive(Debug, Clone)]
pub(super) struct Dead {
    pub(super) slot: SlotId,
    pub(super) message: Message,
    pub(super) returned: u32,
}

#[derive(Debug)]
pub(super) struct State {
    /// Grows when reading begins anew: deliveries of before do nothing any more.
    pub(super) generation: u64,
    pub(super) tracker: Tracker,
    pub(super) fence: Fence,
    /// What is stored, as far as is known; `None` if nothing is.
    pub(super) committed: Option<Checkpoint>,
    /// What the application keeps beside the position.
    pub(super) user: Vec<u8>,
    /// What the stream is to yield next.
    pub(super) failure: Option<Error>,
    /// Whether nothing more comes behind the failure.
    pub(super) has_failed: bool,
    /// Where reading is to begin anew.
    pub(super) reload: Option<Position>,
    /// Where the checkpoint is to be put, whatever it says: the topic is another one.
    pub(super) jump: Option<Position>,
    /// Whether the fence may not hold any more.
    pub(super) is_doubted: bool,
    /// What was done before this reader began, behind the checkpoint.
    pub(super) ahead: Vec<Done>,
    pub(super) dead: VecDeque<Dead>,
    /// How many messages were acknowledged; and how many when the committer has seen it change last, and when that was.
    pub(super) acks: u64,
    pub(super) acks_seen: (u64, Instant),
    /// When the oldest thing was done that is not stored.
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
            news: Notify::new(),
            work: Notify::new(),
            burials: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ack(&self, generation: u64, slot: SlotId) {
        let mut state = self.lock();
        if state.generation == generation {
            self.ack_locked(&mut state, slot);
        }
    }

    fn ack_locked(&self, state: &mut State, slot: SlotId) {
        if !state.tracker.ack(slot) {
            return;
        }
        state.acks += 1;
        // The committer looks for itself now and then once it knows that there is something.
        let is_first = state.unstored_since.is_none();
        if is_first {
            state.unstored_since = Some(Instant::now());
        }
        if is_first || self.policy.messages == Some(state.tracker.done_since()) {
            self.work.notify_one();
        }
        self.news.notify_one();
    }

    /// Something other than a message is to be stored.
    pub(super) fn is_unstored(&self, state: &mut State) {
        state.unstored_since.get_or_insert_with(Instant::now);
        self.work.notify_one();
    }

    pub(super) fn give_back(&self, generation: u64, handed: &Handed, after: Duration) {
        let mut state = self.lock();
        if state.generation != generation {
            return;
        }
        let at = Instant::now().checked_add(after).unwrap_or_else(|| Instant::now() + FAR);
        match (state.tracker.give_back(handed.slot, at), self.deliveries_max) {
            (Some(returned), Some(max)) if returned >= max => self.bury_locked(&mut state, handed),
            _ => self.news.notify_one(),
        }
    }

    /// The message goes to the dead letters; to nowhere without any.
    pub(super) fn bury(&self, generation: u64, handed: &Handed) {
        let mut state = self.lock();
        if state.generation == generation {
            self.bury_locked(&mut state, handed);
        }
    }

    fn bury_locked(&self, state: &mut State, handed: &Handed) {
        let Handed { slot, message, .. } = handed;
        if !self.has_dead_letters {
            tracing::warn!(key = %self.key, position = %message.position, "a message was skipped");
            return self.ack_locked(state, *slot);
        }
        if let Some(returned) = state.tracker.bury(*slot) {
            state.dead.push_back(Dead { slot: *slot, message: message.clone(), returned });
            self.burials.notify_one();
            self.news.notify_one();
        }
    }

    /// The stream ends with this error.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        if !state.has_failed {
            state.failure = Some(error);
            state.has_failed = true;
        }
        drop(state);
        self.news.notify_one();
    }

    /// The stream yields this error, and goes on.
    pub(super) fn complain(&self, error: Error) {
        self.lock().failure.get_or_insert(error);
        self.news.notify_one();
    }

    /// Reading begins anew at what is stored.
    pub(super) fn reload(&self, committed: Option<Checkpoint>, fence: Fence, start: Position) {
        let mut state = self.lock();
        let next = committed.as_ref().map_or(start, |committed| committed.next);
        let known = committed.clone().unwrap_or_default();
        state.generation += 1;
        state.tracker = Tracker::new(next, known.anchor);
        state.user = known.user;
        state.ahead = known.done;
        state.fence = fence;
        state.committed = committed;
        state.dead.clear();
        state.unstored_since = None;
        state.reload = Some(next);
        drop(state);
        self.news.notify_one();
    }
}
