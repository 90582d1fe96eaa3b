//! The rules of a record: who may change it, and how. Pure: the time is handed in.
//!
//! Handlers that can read a record and write it back without anybody in between (under a lock, in a transaction) use this;
//! the others say the same in the language of their store.

use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, Committed, Grant};
use crate::key::ConsumerKey;

/// Who has the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) owner: Claimant,
    /// When it ends, in milliseconds by the store's clock. `None` where it ends with its process, and is found out of by
    /// other means.
    pub(crate) until: Option<u64>,
}

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Record {
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The fence of the last grant or reset.
    pub(crate) fence: Fence,
    pub(crate) lease: Option<Lease>,
}

impl Record {
    /// Stores a checkpoint; `existed` says whether there was a record.
    pub(crate) fn complete(
        &mut self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
        existed: bool,
    ) -> Result<Committed, StateError> {
        self.check_fence(key, fence, existed)?;
        if let Some(stored) = &self.checkpoint {
            if stored.next > checkpoint.next {
                return Err(StateError::stale(what(key), stored.next));
            }
            if stored == checkpoint {
                return Ok(Committed::Unchanged);
            }
        }
        self.checkpoint = Some(checkpoint.clone());
        Ok(Committed::Stored)
    }

    /// Grants the lease, unless somebody else has it.
    pub(crate) fn start(
        &mut self,
        key: &ConsumerKey,
        claimant: &Claimant,
        until: Option<u64>,
        now: u64,
    ) -> Result<Claim, StateError> {
        if let Some(Lease { owner, until: Some(end) }) = &self.lease
            && owner.id != claimant.id
            && *end > now
        {
            let retry_in = Duration::from_millis(end - now);
            return Ok(Claim::Processing { owner: owner.name.clone(), retry_in });
        }
        self.bump(key)?;
        self.lease = Some(Lease { owner: claimant.clone(), until });
        Ok(Claim::Granted(Grant { fence: self.fence, checkpoint: self.checkpoint.clone() }))
    }

    pub(crate) fn renew(
        &mut self,
        key: &ConsumerKey,
        fence: Fence,
        until: Option<u64>,
        existed: bool,
    ) -> Result<(), StateError> {
        self.check_lease(key, fence, existed)?;
        match &mut self.lease {
            Some(lease) => {
                lease.until = until;
                Ok(())
            }
            None => Err(StateError::fenced(what(key))),
        }
    }

    /// Gives the lease back, also when `last` is stale, which is told.
    pub(crate) fn release(
        &mut self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
        existed: bool,
    ) -> Result<(), StateError> {
        self.check_lease(key, fence, existed)?;
        self.lease = None;
        match last {
            Some(last) => self.complete(key, last, fence, existed).map(|_| ()),
            None => Ok(()),
        }
    }

    pub(crate) fn reset(&mut self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        self.bump(key)?;
        self.checkpoint = Some(checkpoint.clone());
        self.lease = None;
        Ok(())
    }

    fn bump(&mut self, key: &ConsumerKey) -> Result<(), StateError> {
        let used_up =
            || StateError::new(crate::StateErrorKind::Failed, format!("{}: no epoch is left", what(key)));
        self.fence = Fence::next(self.fence.epoch).ok_or_else(used_up)?;
        Ok(())
    }

    fn check_fence(&self, key: &ConsumerKey, fence: Fence, existed: bool) -> Result<(), StateError> {
        if !existed && !fence.is_none() {
            return Err(StateError::lost(what(key)));
        }
        if self.fence != fence {
            return Err(StateError::fenced(what(key)));
        }
        Ok(())
    }

    fn check_lease(&self, key: &ConsumerKey, fence: Fence, existed: bool) -> Result<(), StateError> {
        if fence.is_none() {
            return Err(StateError::fenced(what(key)));
        }
        self.check_fence(key, fence, existed)
    }
}

/// The beginning of an error's text.
pub(crate) fn what(key: &ConsumerKey) -> String {
    format!("the checkpoint of `{key}` was not changed")
}
