//! Group `model`: random histories, compared call by call with a reference.
//!
//! A history has a few keys, claimants and positions, so that its calls often meet. All fences that were ever granted are
//! used again. Leases do not run out in it; that is the group `fenced`'s matter.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::context::{Context, at, full, key_of};
use super::fixture::{Fixture, LeaseEnd};
use super::lease::{LONG, leases};
use super::random::{Random, seed, with_seed};
use super::reference::Reference;
use super::verdict::{Stop, Verdict, ensure, failed, same};
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{Capabilities, Claim, Committed, Fencing, StateHandler};
use crate::key::ConsumerKey;

/// How many histories, each on an empty store.
const HISTORIES: u64 = 4;
/// How many calls each has.
const CALLS: u32 = 150;
/// How many offsets there are.
const OFFSETS: u64 = 12;

pub(super) async fn random_histories_end_as_the_reference<F: Fixture>(_: &Context<F>) -> Verdict {
    let seed = seed()?;
    for history in 0..HISTORIES {
        let store = super::verdict::hooked(F::new().await)?;
        let verdict = History::new(&store, seed.wrapping_add(history)).await?.run().await;
        // Only that history is to be repeated.
        with_seed(verdict, seed.wrapping_add(history))?;
    }
    Ok(())
}

struct History<'a, F> {
    store: &'a F,
    handlers: Vec<Arc<dyn StateHandler>>,
    declared: Capabilities,
    random: Random,
    reference: Reference,
    keys: Vec<ConsumerKey>,
    claimants: Vec<Claimant>,
    /// Every fence that was ever granted, of whatever key, and none.
    fences: Vec<Fence>,
    /// The last calls, for the report.
    calls: Vec<String>,
}

impl<'a, F: Fixture> History<'a, F> {
    async fn new(store: &'a F, seed: u64) -> Verdict<Self> {
        let mut history = Self {
            store,
            handlers: Vec::new(),
            declared: Capabilities::NONE,
            random: Random::new(seed),
            reference: Reference::default(),
            keys: vec![key_of("n", "t", "a")?, key_of("n", "t", "b")?, key_of("m", "t", "a")?],
            claimants: ["one", "two", "three"].map(Claimant::new).into(),
            fences: vec![Fence::NONE],
            calls: Vec::new(),
        };
        history.open().await?;
        Ok(history)
    }

    async fn open(&mut self) -> Verdict {
        let count = if self.store.is_shared() { 2 } else { 1 };
        while self.handlers.len() < count {
            self.handlers.push(self.store.open().await?);
        }
        self.declared = self.handlers.first().map_or(Capabilities::NONE, |handler| handler.capabilities());
        Ok(())
    }

    async fn run(mut self) -> Verdict {
        for _ in 0..CALLS {
            let call = self.call().await;
            call.map_err(|stop| match stop {
                Stop::Failed(why) => Stop::Failed(format!("{why}; the calls were {}", self.calls.join("; "))),
                stop @ Stop::Skipped(_) => stop,
            })?;
        }
        Ok(())
    }

    async fn call(&mut self) -> Verdict {
        let has_leases = self.declared.fencing != Fencing::None;
        let (handler, key) = (self.any_handler()?, self.any_key()?);
        match self.random.below(20) {
            0..6 => self.complete(&handler, &key).await?,
            6..10 if has_leases => self.start(&handler, &key).await?,
            10..12 if has_leases => self.renew(&handler, &key).await?,
            12..15 if has_leases => self.release(&handler, &key).await?,
            15 if self.declared.admin => self.reset(&handler, &key).await?,
            16 if self.declared.admin => self.delete(&handler, &key).await?,
            17 if self.declared.admin => self.list(&handler).await?,
            18 if self.declared.durable => self.reopen().await?,
            _ => {}
        }
        let handler = self.any_handler()?;
        for key in &self.keys {
            let expected = self.reference.0.get(key).and_then(|entry| entry.checkpoint.clone());
            same(&handler.get(key).await?, &expected, &format!("stored for `{key}`"))?;
        }
        Ok(())
    }

    async fn complete(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        let (checkpoint, fence) = (self.any_checkpoint()?, self.any_fence(key));
        self.calls.push(format!("complete {key} {} {fence}", checkpoint.next));
        let expected = self.reference.complete(key, &checkpoint, fence);
        let seen = handler.complete(key, &checkpoint, fence).await;
        agree(seen.map(|done| done == Committed::Stored), &expected)
    }

    async fn start(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        let claimant = self.random.one_of(&self.claimants).cloned().unwrap_or_else(|| Claimant::new("one"));
        self.calls.push(format!("start {key} {}", claimant.name));
        let who = (claimant.id, claimant.name.clone());
        let (grant, owner) = match leases(handler)?.start(key, &claimant, LONG).await? {
            Claim::Granted(grant) => (Some(grant), None),
            Claim::Processing { owner, .. } => (None, Some(owner)),
        };
        let fence = grant.as_ref().map(|grant| grant.fence);
        same(&owner, &self.reference.start(key, &who, fence)?, "who has the lease")?;
        if let Some(grant) = grant {
            ensure!(!self.fences.contains(&grant.fence), "the fence {} was granted before", grant.fence);
            self.fences.push(grant.fence);
            let expected = self.reference.0.get(key).and_then(|entry| entry.checkpoint.clone());
            same(&grant.checkpoint, &expected, "the checkpoint of a grant")?;
        }
        Ok(())
    }

    async fn renew(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        let fence = self.any_fence(key);
        self.calls.push(format!("renew {key} {fence}"));
        agree(leases(handler)?.renew(key, fence, LONG).await, &self.reference.renew(key, fence))
    }

    async fn release(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        let (checkpoint, fence) = (self.any_checkpoint()?, self.any_fence(key));
        let last = (self.random.below(3) > 0).then_some(&checkpoint);
        self.calls.push(format!("release {key} {fence} {:?}", last.map(|last| last.next)));
        let expected = self.reference.release(key, fence, last);
        agree(leases(handler)?.release(key, fence, last).await, &expected)
    }

    async fn reset(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        let checkpoint = self.any_checkpoint()?;
        self.calls.push(format!("reset {key} {}", checkpoint.next));
        super::context::admin(handler)?.reset(key, &checkpoint).await?;
        let has_leases = self.declared.fencing != Fencing::None;
        let entry = self.reference.0.entry(key.clone()).or_default();
        (entry.checkpoint, entry.holder) = (Some(checkpoint), None);
        if has_leases {
            // Its nonce is nobody's: no call may ever be made with it.
            entry.fence = Fence { epoch: entry.fence.epoch + 1, nonce: 0 };
        }
        Ok(())
    }

    async fn delete(&mut self, handler: &Arc<dyn StateHandler>, key: &ConsumerKey) -> Verdict {
        self.calls.push(format!("delete {key}"));
        let was_there = super::context::admin(handler)?.delete(key).await?;
        same(&was_there, &self.reference.0.remove(key).is_some(), "whether there was one to delete")
    }

    async fn list(&mut self, handler: &Arc<dyn StateHandler>) -> Verdict {
        self.calls.push("list".into());
        let mut seen = BTreeMap::new();
        for entry in super::context::admin(handler)?.list().await? {
            seen.insert(entry.key, (entry.checkpoint?, entry.owner));
        }
        let owner = |holder: &Option<(u128, String)>| holder.as_ref().map(|(_, name)| name.clone());
        let entries = self.reference.0.iter();
        let expected =
            entries.map(|(key, entry)| (key.clone(), (entry.checkpoint.clone(), owner(&entry.holder))));
        same(&seen, &expected.collect(), "the list")
    }

    async fn reopen(&mut self) -> Verdict {
        self.calls.push("reopen".into());
        for handler in self.handlers.drain(..) {
            handler.close().await?;
        }
        if self.store.lease_end() == LeaseEnd::Holder {
            self.reference.0.values_mut().for_each(|entry| entry.holder = None);
        }
        self.open().await
    }

    fn any_handler(&mut self) -> Verdict<Arc<dyn StateHandler>> {
        self.random.one_of(&self.handlers).cloned().map_or_else(|| failed("no handler is open"), Ok)
    }

    fn any_key(&mut self) -> Verdict<ConsumerKey> {
        self.random.one_of(&self.keys).cloned().map_or_else(|| failed("there is no key"), Ok)
    }

    /// Mostly the right one, else any that there ever was.
    fn any_fence(&mut self, key: &ConsumerKey) -> Fence {
        let last = self.reference.0.get(key).map_or(Fence::NONE, |entry| entry.fence);
        let is_of_reset = last.nonce == 0 && !last.is_none();
        // Without leases a fence means nothing.
        if self.declared.fencing == Fencing::None || (!is_of_reset && self.random.below(3) > 0) {
            return last;
        }
        self.random.one_of(&self.fences).copied().unwrap_or_default()
    }

    fn any_checkpoint(&mut self) -> Verdict<Checkpoint> {
        let next = at(self.random.below(OFFSETS), self.random.below(2));
        Ok(match self.random.below(3) {
            0 => Checkpoint { next, done: Vec::new(), ..full(1)? },
            1 => Checkpoint { user: vec![7; 3], ..Checkpoint::at(next) },
            _ => Checkpoint::at(next),
        })
    }
}

/// Fails unless the store has said what the reference says. Where there is no record, a store may know that there was one,
/// or look at the fence first.
fn agree<T: PartialEq + std::fmt::Debug>(
    seen: Result<T, StateError>,
    expected: &Result<T, StateErrorKind>,
) -> Verdict {
    let seen = seen.map_err(|error| error.kind());
    let is_gone = *expected == Err(StateErrorKind::Lost) && seen == Err(StateErrorKind::Fenced);
    ensure!(is_gone || seen == *expected, "the call ended in {seen:?}, and should end in {expected:?}");
    Ok(())
}
