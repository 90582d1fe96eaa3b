//! The reference that histories are compared with: the contract in its shortest form, written apart from every handler.

use std::collections::BTreeMap;

use super::verdict::{Verdict, ensure, failed};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind as Kind;
use crate::fence::Fence;
use crate::key::ConsumerKey;

/// What a store should have of a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Expected {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) fence: Fence,
    /// The id and the name of who has the lease.
    pub(super) holder: Option<(u128, String)>,
}

/// What a store should have.
#[derive(Debug, Default)]
pub(super) struct Reference(pub(super) BTreeMap<ConsumerKey, Expected>);

impl Reference {
    /// Whether a write is stored as new, or why not.
    pub(super) fn complete(
        &mut self,
        key: &ConsumerKey,
        new: &Checkpoint,
        fence: Fence,
    ) -> Result<bool, Kind> {
        match self.0.get_mut(key) {
            None if fence != Fence::NONE => return Err(Kind::Lost),
            Some(entry) if entry.fence != fence => return Err(Kind::Fenced),
            Some(Expected { checkpoint: Some(old), .. }) if old.next > new.next => {
                return Err(Kind::Stale { stored: old.next });
            }
            Some(Expected { checkpoint: Some(old), .. }) if old == new => return Ok(false),
            _ => self.0.entry(key.clone()).or_default().checkpoint = Some(new.clone()),
        }
        Ok(true)
    }

    /// The name of who has the lease, if it is another; else whoever asks has it, with the fence that it got.
    pub(super) fn start(
        &mut self,
        key: &ConsumerKey,
        who: &(u128, String),
        got: Option<Fence>,
    ) -> Verdict<Option<String>> {
        let entry = self.0.entry(key.clone()).or_default();
        match (&entry.holder, got) {
            (Some((id, name)), _) if *id != who.0 => return Ok(Some(name.clone())),
            (_, Some(fence)) => {
                ensure!(
                    fence.epoch > entry.fence.epoch,
                    "the fence {fence} was granted after {}",
                    entry.fence
                );
                (entry.fence, entry.holder) = (fence, Some(who.clone()));
            }
            (holder, None) => {
                return failed(format!("the lease is {holder:?}'s, and {who:?} was not granted it"));
            }
        }
        Ok(None)
    }

    pub(super) fn renew(&mut self, key: &ConsumerKey, fence: Fence) -> Result<(), Kind> {
        match self.0.get(key) {
            None => Err(Kind::Lost),
            Some(entry) if fence != Fence::NONE && entry.fence == fence && entry.holder.is_some() => Ok(()),
            _ => Err(Kind::Fenced),
        }
    }

    pub(super) fn release(
        &mut self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), Kind> {
        match self.0.get_mut(key) {
            None => return Err(Kind::Lost),
            Some(entry) if fence != Fence::NONE && entry.fence == fence => entry.holder = None,
            _ => return Err(Kind::Fenced),
        }
        last.map_or(Ok(()), |last| self.complete(key, last, fence).map(|_| ()))
    }
}
