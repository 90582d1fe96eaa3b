//! Whose the checkpoint is: finding out who has moved it, following that, and moving it oneself where the topic is another
//! one.

use std::sync::Arc;

use logd_statehandlers::{Checkpoint, Claim, Fence, Grant, Position, StateError, StateErrorKind};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Committer, is_passing, later, within};

impl Committer {
    /// Whether it is looked for a reset now and then: who has a lease is told.
    pub(super) fn looks(&self) -> bool {
        !self.shared.policy.is_transactional && !self.is_leased()
    }

    /// Looks whether the checkpoint was put back. That it went on is noticed when the next one is stored.
    pub(super) async fn look(&mut self) {
        self.looked_at = Instant::now();
        let shared = Arc::clone(&self.shared);
        // A store that fails is told of when something is to be stored.
        let Ok(Some(stored)) = within(shared.handler.get(&shared.key)).await else { return };
        let state = shared.lock();
        if state.committed.as_ref().is_some_and(|committed| stored.next < committed.next) {
            self.is_fenced = true;
            self.must_reload = true;
        }
    }

    /// Puts the checkpoint where the topic, which is another one, has its oldest batch, unless somebody else has the lease.
    pub(super) async fn jump(&mut self, to: Position) {
        let shared = Arc::clone(&self.shared);
        let unable = || {
            StateError::new(
                StateErrorKind::Unsupported,
                format!("the checkpoint of `{}` cannot be reset", shared.key),
            )
        };
        let Some(admin) = shared.handler.admin() else { return self.end(unable()) };
        if shared.handler.leases().is_some() {
            if !self.is_leased() {
                return self.ask_again().await;
            }
            if !self.renew().await {
                return;
            }
        }
        warn!(key = %shared.key, next = %to, "the checkpoint is reset");
        match within(admin.reset(&shared.key, &Checkpoint::at(to))).await {
            Ok(()) => {
                shared.lock().jump = None;
                self.must_reload = true;
                self.is_fenced = true;
                self.is_well();
            }
            Err(error) if is_passing(&error) => self.wait_for_store(error),
            Err(error) => self.end(error),
        }
    }

    /// Finds out who has moved the checkpoint: an administrator, or another reader.
    pub(super) async fn ask_again(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(leases) = shared.handler.leases() else {
            if self.must_reload {
                return self.read_again().await;
            }
            let text = format!("the checkpoint of `{}` was taken over", shared.key);
            return self.end(StateError::new(StateErrorKind::Fenced, text));
        };
        match within(leases.start(&shared.key, &self.hold.claimant, self.hold.ttl)).await {
            Ok(Claim::Granted(Grant { fence, checkpoint, .. })) => {
                self.renew_at = later(Instant::now(), self.hold.ttl / 3);
                self.begin_anew(checkpoint, fence);
            }
            Ok(Claim::Processing { owner, .. }) => {
                let text = format!("the checkpoint of `{}` was taken over by `{owner}`", shared.key);
                self.end(StateError::new(StateErrorKind::Fenced, text));
            }
            Err(error) if is_passing(&error) => {
                if error.kind() == StateErrorKind::Ambiguous {
                    self.starts_lost += 1;
                }
                self.wait_for_store(error);
            }
            Err(error) => self.end(error),
        }
    }

    /// Takes what is stored where there are no leases.
    pub(super) async fn read_again(&mut self) {
        let shared = Arc::clone(&self.shared);
        match within(shared.handler.get(&shared.key)).await {
            Ok(checkpoint) => self.begin_anew(checkpoint, Fence::NONE),
            Err(error) if is_passing(&error) => self.wait_for_store(error),
            Err(error) => self.end(error),
        }
    }

    pub(super) fn begin_anew(&mut self, checkpoint: Option<Checkpoint>, fence: Fence) {
        self.is_fenced = false;
        self.is_well();
        let must_reload = std::mem::take(&mut self.must_reload);
        let starts_lost = std::mem::take(&mut self.starts_lost);
        let mut state = self.shared.lock();
        let attempted = self.attempted.take();
        let is_ours = if state.fence.is_none() {
            state.committed == checkpoint || (attempted.is_some() && attempted == checkpoint)
        } else {
            let next =
                |checkpoint: &Option<Checkpoint>| checkpoint.as_ref().map(|checkpoint| checkpoint.next);
            let stored = next(&checkpoint);
            let was_attempted = attempted.is_some();
            // With a grant to another reader in between, or a reset, which can be to the same place, the epochs do not
            // follow each other. A grant of which the answer was lost can be this reader's own: then all must be the same.
            match fence.epoch.saturating_sub(state.fence.epoch) {
                1 => stored == next(&state.committed) || (was_attempted && stored == next(&attempted)),
                grants if grants <= starts_lost.saturating_add(1) && !self.shared.policy.is_transactional => {
                    checkpoint == state.committed || (was_attempted && checkpoint == attempted)
                }
                _ => false,
            }
        };
        if !must_reload && is_ours {
            // Nobody has moved it: the lease had run out, or there was none.
            state.fence = fence;
            state.committed = checkpoint;
            drop(state);
            return self.is_found_out();
        }
        state.jump = None;
        drop(state);
        info!(key = %self.shared.key, "the checkpoint was moved; reading begins anew there");
        self.shared.begin_anew(checkpoint, fence, self.start);
        self.is_found_out();
    }
}
