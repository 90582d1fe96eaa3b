//! The conformance suite, run for a store that has every hook but a process to kill.
//!
//! No store of this crate has all of them, and a property that nothing runs could not be trusted. The store is in memory,
//! keeps bodies with a checksum, and lets itself be damaged, cut off, paused and filled; a transaction of it is its lock,
//! and a copy to go back to.
#![cfg(feature = "conformance")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use logd_protocol::checksum;
use logd_statehandlers::conformance::{
    Cut, Disk, Faults, Fixture, FixtureError, RawAccess, Skew, Transaction, Transactions,
};
use logd_statehandlers::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Fence, Fencing, Grant, LeaseHandler,
    Position, StateAdmin, StateEntry, StateError, StateErrorKind, StateHandler, async_trait,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

type Result<T, E = StateError> = std::result::Result<T, E>;

const WHAT: &str = "nothing was done";
/// How long a call waits for a server that hangs.
const HANGING_MAX: Duration = Duration::from_millis(100);
const PASSWORD: &str = "correct horse";

#[derive(Debug, Clone, Default)]
struct Stored {
    /// The checksum, and the body.
    bytes: Option<Vec<u8>>,
    fence: Fence,
    lease: Option<(Claimant, Instant)>,
}

#[derive(Debug, Clone, Default)]
struct Tables {
    records: BTreeMap<ConsumerKey, Stored>,
    results: Vec<String>,
}

#[derive(Debug, Default)]
struct Store {
    tables: Arc<AsyncMutex<Tables>>,
    cut: Mutex<Option<Cut>>,
    is_paused: AtomicBool,
    is_full: AtomicBool,
}

fn wrap(body: &[u8]) -> Vec<u8> {
    [&checksum(body).to_be_bytes()[..], body].concat()
}

fn next(epoch: u64) -> Result<Fence> {
    Fence::next(epoch).ok_or_else(|| StateError::new(StateErrorKind::Failed, "no epoch is left"))
}

impl Stored {
    fn read(&self) -> Result<Option<Checkpoint>> {
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let corrupt = || StateError::new(StateErrorKind::Corrupt, "the checksum is wrong");
        let (crc, body) = bytes.split_at_checked(4).ok_or_else(corrupt)?;
        if checksum(body).to_be_bytes() != crc {
            return Err(corrupt());
        }
        Checkpoint::decode(body).map(Some).map_err(|error| StateError::body(WHAT, error))
    }

    fn write(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.bytes = Some(wrap(&checkpoint.encode().map_err(|error| StateError::body(WHAT, error))?));
        Ok(())
    }

    fn complete(&mut self, new: &Checkpoint, fence: Fence) -> Result<Committed> {
        let old = self.read()?;
        if self.fence != fence {
            return Err(StateError::fenced(WHAT));
        }
        match old {
            Some(old) if old.next > new.next => return Err(StateError::stale(WHAT, old.next)),
            Some(old) if old == *new => return Ok(Committed::Unchanged),
            _ => self.write(new)?,
        }
        Ok(Committed::Stored)
    }
}

impl Tables {
    fn complete(&mut self, key: &ConsumerKey, new: &Checkpoint, fence: Fence) -> Result<Committed> {
        match self.records.get_mut(key) {
            Some(stored) => stored.complete(new, fence),
            None if !fence.is_none() => Err(StateError::lost(WHAT)),
            None => {
                let mut stored = Stored::default();
                stored.complete(new, fence)?;
                self.records.insert(key.clone(), stored);
                Ok(Committed::Stored)
            }
        }
    }

    fn leased(&mut self, key: &ConsumerKey, fence: Fence) -> Result<&mut Stored> {
        let stored = self.records.get_mut(key).ok_or_else(|| StateError::lost(WHAT))?;
        if fence.is_none() || stored.fence != fence { Err(StateError::fenced(WHAT)) } else { Ok(stored) }
    }
}

impl Store {
    async fn call<T>(&self, call: impl FnOnce(&mut Tables) -> Result<T>) -> Result<T> {
        let unavailable = || StateError::new(StateErrorKind::Unavailable, "the store is not there");
        if self.is_paused.load(Ordering::SeqCst) {
            tokio::time::sleep(HANGING_MAX).await;
            return Err(unavailable());
        }
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner).take();
        match cut {
            None => call(&mut *self.tables.lock().await),
            Some(Cut::Before | Cut::During) => Err(unavailable()),
            Some(Cut::After) => {
                let _ = call(&mut *self.tables.lock().await);
                Err(StateError::new(StateErrorKind::Ambiguous, "the answer was lost"))
            }
        }
    }

    fn room(&self) -> Result<()> {
        let full = || StateError::new(StateErrorKind::Failed, "the disk is full");
        if self.is_full.load(Ordering::SeqCst) { Err(full()) } else { Ok(()) }
    }
}

#[async_trait]
impl StateHandler for Store {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>> {
        self.call(|tables| tables.records.get(key).map_or(Ok(None), Stored::read)).await
    }

    async fn complete(&self, key: &ConsumerKey, checkpoint: &Checkpoint, fence: Fence) -> Result<Committed> {
        self.room()?;
        self.call(|tables| tables.complete(key, checkpoint, fence)).await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_durable().with_fencing(Fencing::Strict).with_admin().with_transactions()
    }
}

#[async_trait]
impl LeaseHandler for Store {
    async fn start(&self, key: &ConsumerKey, claimant: &Claimant, ttl: Duration) -> Result<Claim> {
        let start = |tables: &mut Tables| {
            let stored = tables.records.entry(key.clone()).or_default();
            let checkpoint = stored.read()?;
            if let Some((owner, until)) = &stored.lease
                && owner.id != claimant.id
                && let Some(retry_in) = until.checked_duration_since(Instant::now())
            {
                return Ok(Claim::Processing { owner: owner.name.clone(), retry_in });
            }
            stored.fence = next(stored.fence.epoch)?;
            stored.lease = Some((claimant.clone(), Instant::now() + ttl));
            Ok(Claim::Granted(Grant { fence: stored.fence, checkpoint }))
        };
        self.call(start).await
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<()> {
        let renew = |tables: &mut Tables| {
            let lease = &mut tables.leased(key, fence)?.lease;
            let (_, until) = lease.as_mut().ok_or_else(|| StateError::fenced(WHAT))?;
            *until = Instant::now() + ttl;
            Ok(())
        };
        self.call(renew).await
    }

    async fn release(&self, key: &ConsumerKey, fence: Fence, last: Option<&Checkpoint>) -> Result<()> {
        let release = |tables: &mut Tables| {
            let stored = tables.leased(key, fence)?;
            stored.lease = None;
            last.map_or(Ok(()), |last| stored.complete(last, fence).map(|_| ()))
        };
        self.call(release).await
    }
}

#[async_trait]
impl StateAdmin for Store {
    async fn list(&self) -> Result<Vec<StateEntry>> {
        let entry = |(key, stored): (&ConsumerKey, &Stored)| StateEntry {
            key: key.clone(),
            checkpoint: stored.read(),
            epoch: stored.fence.epoch,
            owner: stored
                .lease
                .as_ref()
                .and_then(|(owner, until)| (*until > Instant::now()).then(|| owner.name.clone())),
        };
        self.call(|tables| Ok(tables.records.iter().map(entry).collect())).await
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<()> {
        let reset = |tables: &mut Tables| {
            let epoch = tables.records.get(key).map_or(0, |stored| stored.fence.epoch);
            let mut stored = Stored { fence: next(epoch)?, ..Stored::default() };
            stored.write(checkpoint)?;
            tables.records.insert(key.clone(), stored);
            Ok(())
        };
        self.call(reset).await
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool> {
        self.call(|tables| Ok(tables.records.remove(key).is_some())).await
    }
}

struct StoreFixture(Arc<Store>);

#[async_trait]
impl Fixture for StoreFixture {
    async fn new() -> Result<Self, FixtureError> {
        Ok(Self(Arc::default()))
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>> {
        Ok(self.0.clone())
    }

    async fn open_skewed(&self, _skew: Skew) -> Result<Option<Arc<dyn StateHandler>>> {
        // Its clock is the store's: there is none of its own to be wrong.
        self.open().await.map(Some)
    }

    fn raw(&self) -> Option<&dyn RawAccess> {
        Some(self)
    }

    fn disk(&self) -> Option<&dyn Disk> {
        Some(self)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        Some(self)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }
}

#[async_trait]
impl RawAccess for StoreFixture {
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
        let tables = self.0.tables.lock().await;
        tables
            .records
            .get(key)
            .and_then(|stored| stored.bytes.clone())
            .ok_or_else(|| "there is no record".into())
    }

    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
        let mut tables = self.0.tables.lock().await;
        tables.records.get_mut(key).ok_or("there is no record")?.bytes = Some(bytes.to_vec());
        Ok(())
    }

    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        self.write(key, &wrap(body)).await
    }

    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
        self.0.tables.lock().await.records.remove(key);
        Ok(())
    }

    fn has_checksum(&self) -> bool {
        true
    }
}

#[async_trait]
impl Disk for StoreFixture {
    async fn fill(&self) -> Result<(), FixtureError> {
        self.0.is_full.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn free(&self) -> Result<(), FixtureError> {
        self.0.is_full.store(false, Ordering::SeqCst);
        Ok(())
    }
}

#[async_trait]
impl Faults for StoreFixture {
    async fn cut(&self, at: Cut) -> Result<bool, FixtureError> {
        *self.0.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
        Ok(true)
    }

    async fn restart(&self) -> Result<bool, FixtureError> {
        self.cut(Cut::Before).await
    }

    async fn pause(&self) -> Result<bool, FixtureError> {
        self.0.is_paused.store(true, Ordering::SeqCst);
        Ok(true)
    }

    async fn resume(&self) -> Result<(), FixtureError> {
        self.0.is_paused.store(false, Ordering::SeqCst);
        Ok(())
    }

    fn call_time_max(&self) -> Duration {
        HANGING_MAX
    }

    async fn refusals(&self) -> Vec<StateError> {
        vec![StateError::new(StateErrorKind::Failed, "the password of `reader` is wrong")]
    }
}

/// Holds the store's lock, so that everybody else waits, and goes back to `before` unless it is committed.
struct Open {
    tables: OwnedMutexGuard<Tables>,
    before: Option<Tables>,
}

#[async_trait]
impl Transactions for StoreFixture {
    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let tables = Arc::clone(&self.0.tables).lock_owned().await;
        let before = Some(tables.clone());
        Ok(Box::new(Open { tables, before }))
    }

    async fn results(&self) -> Result<Vec<String>> {
        Ok(self.0.tables.lock().await.results.clone())
    }
}

#[async_trait]
impl Transaction for Open {
    async fn write(&mut self, result: &str) -> Result<()> {
        self.tables.results.push(result.into());
        Ok(())
    }

    async fn complete_in(
        &mut self,
        key: &ConsumerKey,
        expected: Option<Position>,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed> {
        let stored = self.tables.records.get(key).map_or(Ok(None), Stored::read)?;
        if stored.map(|stored| stored.next) != expected {
            return Err(StateError::fenced(WHAT));
        }
        self.tables.complete(key, checkpoint, fence)
    }

    async fn commit(mut self: Box<Self>) -> Result<()> {
        self.before = None;
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            *self.tables = before;
        }
    }
}

logd_statehandlers::conformance!(StoreFixture);
