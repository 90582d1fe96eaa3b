//! Where a consumer begins: at its checkpoint, held against what the topic has now, and with the lease where it is wanted.
//!
//! A checkpoint is never taken for the beginning of a topic, nor a topic for the one that the checkpoint is of, without
//! looking. A beginning that fails, or is not waited for, gives the lease back.

use std::sync::Arc;
use std::time::Duration;

use logd_protocol::Offset;
use logd_statehandlers::{
    Checkpoint, Claim, ConsumerKey, Fence, Position, StateError, StateErrorKind, StateHandler,
};
use tokio::runtime::Handle as Runtime;
use tokio::time::sleep;
use tracing::{info, warn};

use super::committer::{Hold, within};
use super::policy::{StartAt, WhenGone};
use super::verify::{Verdict, resolve, verify};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::scanner::Start;

/// How a consumer begins.
#[derive(Debug)]
pub(super) struct Begin {
    /// What is stored.
    pub(super) checkpoint: Option<Checkpoint>,
    /// What the reader has of it, which is less where the topic is another one.
    pub(super) next: Position,
    /// What is gone, to be told first.
    pub(super) gap: Option<Error>,
    /// Whether the first message has brought down as many starts as it can.
    pub(super) is_poison: bool,
}

/// What decides where a consumer begins.
pub(super) struct Beginning<'a> {
    pub(super) key: &'a ConsumerKey,
    pub(super) client: Client,
    pub(super) start: StartAt,
    pub(super) when_gone: WhenGone,
    pub(super) hold: &'a Hold,
    pub(super) is_exclusive: bool,
    /// Whether to wait while somebody else has the lease.
    pub(super) waits: bool,
    /// After how many starts at the same message it is taken for poison; `None` where they are not counted.
    pub(super) starts_max: Option<u32>,
    pub(super) held: &'a mut Held,
}

/// The lease, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) handler: Arc<dyn StateHandler>,
    pub(super) key: ConsumerKey,
    fence: Fence,
}

impl Held {
    pub(super) fn new(handler: Arc<dyn StateHandler>, key: ConsumerKey) -> Self {
        Self { handler, key, fence: Fence::NONE }
    }

    /// Somebody else gives it back from here on.
    pub(super) const fn take(&mut self) -> Fence {
        std::mem::replace(&mut self.fence, Fence::NONE)
    }

    pub(super) async fn release(mut self) {
        let fence = self.take();
        release(&*self.handler, &self.key, fence).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let fence = self.take();
        if let (false, Ok(runtime)) = (fence.is_none(), Runtime::try_current()) {
            let (handler, key) = (Arc::clone(&self.handler), self.key.clone());
            runtime.spawn(async move { release(&*handler, &key, fence).await });
        }
    }
}

async fn release(handler: &dyn StateHandler, key: &ConsumerKey, fence: Fence) {
    if let Some(leases) = handler.leases().filter(|_| !fence.is_none())
        && let Err(error) = within(leases.release(key, fence, None)).await
    {
        warn!(%key, %error, "the lease could not be given back; it runs out");
    }
}

impl Beginning<'_> {
    pub(super) async fn find(mut self) -> Result<Begin, Error> {
        let stored = self.load().await?;
        let topic = self.key.topic();
        let mut begin = Begin { checkpoint: stored, next: Position::ZERO, gap: None, is_poison: false };
        let mut has_more = true;
        match (self.start, &begin.checkpoint) {
            (StartAt::Force(start), _) => {
                begin.next = resolve(&mut self.client, topic, start).await?;
                begin.checkpoint = self.reset(Checkpoint::at(begin.next)).await?;
            }
            (StartAt::Checkpoint(start), None) => {
                begin.next = resolve(&mut self.client, topic, start).await?;
                // What is new, or recent, is so from the first start on.
                let moves = matches!(start, Start::Latest | Start::Time(_));
                if moves || self.starts_max.is_some() {
                    begin.checkpoint = Some(self.store(Checkpoint::at(begin.next)).await?);
                }
            }
            (StartAt::Checkpoint(_), Some(found)) => match verify(&mut self.client, topic, found).await? {
                Verdict::Fits { has_more: more } => (begin.next, has_more) = (found.next, more),
                Verdict::Dropped { oldest } => {
                    let gap = dropped(self.key, found.next.offset, oldest);
                    begin.gap = Some(self.gone(gap)?);
                    (begin.next, has_more) = (Position::at(oldest), false);
                }
                Verdict::Other { oldest, why } => {
                    let gap = Error::new(ErrorKind::Gap { from: found.next.offset, to: oldest }, why);
                    begin.gap = Some(self.gone(gap)?);
                    begin.next = Position::at(oldest);
                    begin.checkpoint = self.reset(Checkpoint::at(begin.next)).await?;
                }
            },
        }
        if let (Some(max), Some(found), true) = (self.starts_max, &begin.checkpoint, has_more) {
            begin.is_poison = found.head_attempts >= max;
            let mut counted = found.clone();
            counted.head_attempts = found.head_attempts.saturating_add(1);
            begin.checkpoint = Some(self.store(counted).await?);
        }
        Ok(begin)
    }

    /// The checkpoint, with the lease where it is wanted.
    async fn load(&mut self) -> Result<Option<Checkpoint>, Error> {
        let handler = Arc::clone(&self.held.handler);
        if !self.is_exclusive {
            return retrying(|| handler.get(self.key)).await.map_err(Error::state);
        }
        let leases = handler.leases().ok_or_else(|| no_leases(self.key))?;
        let mut is_told = false;
        loop {
            let claim = retrying(|| leases.start(self.key, &self.hold.claimant, self.hold.ttl)).await;
            match claim.map_err(Error::state)? {
                Claim::Granted(grant) => {
                    self.held.fence = grant.fence;
                    return Ok(grant.checkpoint);
                }
                Claim::Processing { owner, retry_in } if self.waits => {
                    if !is_told {
                        info!(key = %self.key, owner, "another reader has the lease; waiting for it");
                    }
                    is_told = true;
                    sleep(retry_in.clamp(Duration::from_millis(10), Duration::from_secs(1))).await;
                }
                Claim::Processing { owner, .. } => {
                    let text = format!("`{owner}` has the lease of `{}`", self.key);
                    return Err(Error::state(StateError::new(StateErrorKind::Fenced, text)));
                }
            }
        }
    }

    /// Stores a checkpoint. A key on which a lease was ever granted needs one for that.
    async fn store(&mut self, checkpoint: Checkpoint) -> Result<Checkpoint, Error> {
        let handler = Arc::clone(&self.held.handler);
        let mut stored = retrying(|| handler.complete(self.key, &checkpoint, self.held.fence)).await;
        if stored.as_ref().is_err_and(|error| error.kind() == StateErrorKind::Fenced)
            && self.held.fence.is_none()
            && handler.leases().is_some()
        {
            self.is_exclusive = true;
            self.load().await?;
            stored = retrying(|| handler.complete(self.key, &checkpoint, self.held.fence)).await;
        }
        stored.map(|_| checkpoint).map_err(Error::state)
    }

    /// Puts a checkpoint where it lies, and takes the lease anew where there is one.
    async fn reset(&mut self, checkpoint: Checkpoint) -> Result<Option<Checkpoint>, Error> {
        let handler = Arc::clone(&self.held.handler);
        let admin = handler.admin().ok_or_else(|| {
            Error::invalid(format!("the store cannot reset the checkpoint of `{}`", self.key))
        })?;
        warn!(key = %self.key, next = %checkpoint.next, "the checkpoint is reset");
        retrying(|| admin.reset(self.key, &checkpoint)).await.map_err(Error::state)?;
        // Behind a reset nothing is stored without a fence.
        self.is_exclusive |= handler.leases().is_some();
        self.load().await
    }

    /// What is gone: an error, or something to be told and passed over.
    fn gone(&self, error: Error) -> Result<Error, Error> {
        match self.when_gone {
            WhenGone::Jump => Ok(error),
            WhenGone::Fail => Err(error),
        }
    }
}

/// Messages were dropped before they were read.
pub(super) fn dropped(key: &ConsumerKey, from: Offset, to: Offset) -> Error {
    let (topic, consumer) = (key.topic(), key.consumer());
    let text = format!(
        "the batches from `{from}` to `{to}` of topic `{topic}` were dropped before `{consumer}` has read them"
    );
    Error::new(ErrorKind::Gap { from, to }, text)
}

/// Asks a store a few times.
async fn retrying<T, F: Future<Output = Result<T, StateError>>>(
    call: impl Fn() -> F,
) -> Result<T, StateError> {
    let mut backoff = crate::RetryPolicy::default().backoff();
    loop {
        match within(call()).await {
            Err(error) if error.is_retryable() => match backoff.next_delay() {
                Some(delay) => sleep(delay).await,
                None => return Err(error),
            },
            result => return result,
        }
    }
}

pub(super) fn no_leases(key: &ConsumerKey) -> Error {
    Error::invalid(format!("the store grants no leases: `{key}` cannot be exclusive"))
}
