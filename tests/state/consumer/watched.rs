//! A store in memory that counts what it is asked, and fails when it is told to.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use logd_client::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Fence, LeaseHandler, MemoryState,
    Position, StateAdmin, StateError, StateErrorKind, StateHandler, async_trait,
};

#[derive(Debug)]
pub(super) struct Watched {
    inner: MemoryState,
    /// Every message there is.
    all: BTreeSet<Position>,
    finished: Mutex<BTreeSet<Position>>,
    violations: Mutex<Vec<String>>,
    completes: AtomicUsize,
    fails: AtomicBool,
}

impl Watched {
    /// `all` are the positions of the messages that must not be passed before they are finished.
    pub(super) fn new(all: &[Position]) -> Self {
        Self {
            inner: MemoryState::new(),
            all: all.iter().copied().collect(),
            finished: Mutex::default(),
            violations: Mutex::default(),
            completes: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        }
    }

    pub(super) fn finish(&self, position: Position) {
        self.finished.lock().unwrap().insert(position);
    }

    pub(super) fn finished(&self) -> usize {
        self.finished.lock().unwrap().len()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    pub(super) fn completes(&self) -> usize {
        self.completes.load(Ordering::SeqCst)
    }

    pub(super) fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StateError> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(StateError::new(StateErrorKind::Unavailable, "the store is away"));
        }
        Ok(())
    }

    /// Notes what is passed and was not finished.
    fn hold_against(&self, checkpoint: &Checkpoint) {
        let finished = self.finished.lock().unwrap();
        let mut violations = self.violations.lock().unwrap();
        for position in self.all.difference(&finished) {
            let is_in = checkpoint.done.iter().any(|done| done.from <= *position && *position < done.to);
            if *position < checkpoint.next || is_in {
                violations.push(format!("{position} is not done, for {checkpoint:?}"));
            }
        }
    }
}

#[async_trait]
impl StateHandler for Watched {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.check()?;
        self.inner.get(key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        self.completes.fetch_add(1, Ordering::SeqCst);
        self.hold_against(checkpoint);
        self.check()?;
        self.inner.complete(key, checkpoint, fence).await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        self.inner.admin()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl LeaseHandler for Watched {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        self.check()?;
        self.inner.start(key, claimant, ttl).await
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        self.check()?;
        self.inner.renew(key, fence, ttl).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        if let Some(last) = last {
            self.hold_against(last);
        }
        self.check()?;
        self.inner.release(key, fence, last).await
    }
}
