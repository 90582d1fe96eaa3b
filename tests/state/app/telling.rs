//! A handler that says what its store said, with the times before and after, in microseconds since 1970.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_client::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Fence, LeaseHandler, StateAdmin,
    StateError, StateHandler, async_trait,
};

use crate::say;

/// Hands everything on, and says `granted <before> <after> <epoch>`, `stored <before> <after> <epoch> <position>` or
/// `refused <before> <after> <epoch> <kind>`.
#[derive(Debug)]
pub(crate) struct Telling(Arc<dyn StateHandler>);

impl Telling {
    pub(crate) fn of(state: Arc<dyn StateHandler>) -> Arc<dyn StateHandler> {
        Arc::new(Self(state))
    }

    fn inner(&self) -> &dyn LeaseHandler {
        self.0.leases().expect("it was asked for, as the store has leases")
    }
}

fn now() -> u128 {
    UNIX_EPOCH
        .elapsed()
        .or_else(|_| SystemTime::now().duration_since(UNIX_EPOCH))
        .expect("a clock")
        .as_micros()
}

fn tell<T>(before: u128, fence: Fence, what: &str, result: &Result<T, StateError>) {
    let (after, epoch) = (now(), fence.epoch);
    match result {
        Ok(_) => say(&format!("stored {before} {after} {epoch} {what}")),
        Err(error) => say(&format!("refused {before} {after} {epoch} {:?}", error.kind())),
    }
}

#[async_trait]
impl StateHandler for Telling {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.0.get(key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let before = now();
        let result = self.0.complete(key, checkpoint, fence).await;
        tell(before, fence, &checkpoint.next.to_string(), &result);
        result
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        self.0.leases().map(|_| self as &dyn LeaseHandler)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        self.0.admin()
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn close(&self) -> Result<(), StateError> {
        self.0.close().await
    }
}

#[async_trait]
impl LeaseHandler for Telling {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        let before = now();
        let claim = self.inner().start(key, claimant, ttl).await;
        if let Ok(Claim::Granted(grant)) = &claim {
            let next = grant.checkpoint.as_ref().map(|checkpoint| checkpoint.next).unwrap_or_default();
            say(&format!("granted {before} {} {} {next}", now(), grant.fence.epoch));
        }
        claim
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        self.inner().renew(key, fence, ttl).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        self.inner().release(key, fence, last).await
    }
}
