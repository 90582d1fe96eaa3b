//! Checkpoints in memory: for tests, and for readers that share them within a process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::fence::{Claimant, Fence};
use crate::handler::{
    Capabilities, Claim, Committed, Fencing, LeaseHandler, StateAdmin, StateEntry, StateHandler,
};
use crate::key::ConsumerKey;
use crate::record::Record;

/// Keeps checkpoints for as long as it is there, with leases and fences as strict as any. Closing it does nothing: others
/// may use it, too.
#[derive(Debug)]
pub struct MemoryState {
    records: Mutex<BTreeMap<ConsumerKey, Record>>,
    start: Instant,
}

impl MemoryState {
    /// An empty store.
    pub fn new() -> Self {
        Self { records: Mutex::default(), start: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConsumerKey, Record>> {
        // Nothing that is done under the lock can panic half-way.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn until(&self, ttl: Duration) -> u64 {
        self.now().saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
    }

    /// Changes a record; the change is kept also where a part of it failed, but no record is made by a failure.
    fn change<T>(
        &self,
        key: &ConsumerKey,
        change: impl FnOnce(&mut Record, bool) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let mut records = self.lock();
        match records.get_mut(key) {
            Some(record) => change(record, true),
            None => {
                let mut record = Record::default();
                let result = change(&mut record, false);
                if result.is_ok() {
                    records.insert(key.clone(), record);
                }
                result
            }
        }
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new()
    }
}

/// What any other store would refuse is refused here, too.
fn check(key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
    checkpoint.encode().map(|_| ()).map_err(|error| StateError::body(crate::record::what(key), error))
}

#[async_trait]
impl StateHandler for MemoryState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        Ok(self.lock().get(key).and_then(|record| record.checkpoint.clone()))
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        check(key, checkpoint)?;
        self.change(key, |record, existed| record.complete(key, checkpoint, fence, existed))
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_fencing(Fencing::Strict).with_admin()
    }
}

#[async_trait]
impl LeaseHandler for MemoryState {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        let (now, until) = (self.now(), Some(self.until(ttl)));
        self.change(key, |record, _| record.start(key, claimant, until, now))
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        let until = Some(self.until(ttl));
        self.change(key, |record, existed| record.renew(key, fence, until, existed))
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        if let Some(last) = last {
            check(key, last)?;
        }
        self.change(key, |record, existed| record.release(key, fence, last, existed))
    }
}

#[async_trait]
impl StateAdmin for MemoryState {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        let now = self.now();
        let entry = |(key, record): (&ConsumerKey, &Record)| StateEntry {
            key: key.clone(),
            checkpoint: Ok(record.checkpoint.clone()),
            epoch: record.fence.epoch,
            owner: record
                .lease
                .as_ref()
                .filter(|lease| lease.until.is_none_or(|until| until > now))
                .map(|lease| lease.owner.name.clone()),
        };
        Ok(self.lock().iter().map(entry).collect())
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        check(key, checkpoint)?;
        self.change(key, |record, _| record.reset(key, checkpoint))
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        Ok(self.lock().remove(key).is_some())
    }
}
