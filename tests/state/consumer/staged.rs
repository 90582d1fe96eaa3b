//! A store in memory in which a test has its say before each call.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use logd_client::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Fence, LeaseHandler, MemoryState,
    StateAdmin, StateEntry, StateError, StateHandler, async_trait,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Get,
    Complete,
    Start,
    Renew,
    Release,
    Reset,
}

type Say = dyn Fn(&MemoryState, Call) -> Result<(), StateError> + Send + Sync;

pub(super) struct Staged {
    pub(super) inner: Arc<MemoryState>,
    pub(super) has_leases: bool,
    calls: Mutex<Vec<Call>>,
    say: Box<Say>,
}

impl Staged {
    /// A store that does before each call what `say` does, and answers with its error.
    pub(super) fn new(
        say: impl Fn(&MemoryState, Call) -> Result<(), StateError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(MemoryState::new()),
            has_leases: true,
            calls: Mutex::default(),
            say: Box::new(say),
        }
    }

    /// How many such calls there were.
    pub(super) fn count(&self, call: Call) -> usize {
        self.calls.lock().unwrap().iter().filter(|found| **found == call).count()
    }

    fn hear(&self, call: Call) -> Result<(), StateError> {
        self.calls.lock().unwrap().push(call);
        (self.say)(&self.inner, call)
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Staged").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl StateHandler for Staged {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.hear(Call::Get)?;
        self.inner.get(key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        self.hear(Call::Complete)?;
        self.inner.complete(key, checkpoint, fence).await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        self.has_leases.then_some(self as _)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        if self.has_leases { self.inner.capabilities() } else { Capabilities::NONE.with_admin() }
    }
}

#[async_trait]
impl LeaseHandler for Staged {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        self.hear(Call::Start)?;
        self.inner.start(key, claimant, ttl).await
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        self.hear(Call::Renew)?;
        self.inner.renew(key, fence, ttl).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        self.hear(Call::Release)?;
        self.inner.release(key, fence, last).await
    }
}

#[async_trait]
impl StateAdmin for Staged {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        self.inner.list().await
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        self.hear(Call::Reset)?;
        if self.has_leases {
            return self.inner.reset(key, checkpoint).await;
        }
        self.inner.delete(key).await?;
        self.inner.complete(key, checkpoint, Fence::NONE).await.map(|_| ())
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        self.inner.delete(key).await
    }
}
