//! Where a consumer begins: at its checkpoint, held against what the topic has now, and with the lease where it is wanted.
//!
//! A checkpoint is never taken for the beginning of a topic, nor a topic for the one that the checkpoint is of, without
//! looking. What somebody else moves meanwhile is looked at anew, and nothing is reset while another reader has the lease.
//! A beginning that fails, or is not waited for, gives the lease back.

use std::sync::Arc;
use std::time::Duration;

use logd_protocol::Offset;
use logd_statehandlers::{
    Checkpoint, Claim, ConsumerKey, Fence, Position, StateError, StateErrorKind, StateHandler,
};
use tokio::runtime::Handle as Runtime;
use tokio::time::sleep;
use tracing::{info, warn};

use super::committer::{Hold, is_passing, within};
use super::policy::{StartAt, WhenGone};
use super::verify::{Verdict, resolve, verify};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::scanner::Start;

/// How often a checkpoint is looked at that somebody else moves meanwhile.
const LOOKS: u32 = 5;

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
        for _ in 0..LOOKS {
            if let Some(begin) = self.look().await? {
                return Ok(begin);
            }
        }
        let what =
            format!("the checkpoint of `{}` was moved `{LOOKS}` times while it was looked at", self.key);
        Err(Error::state(StateError::fenced(what)))
    }

    /// Finds out where to begin; `None` if somebody else has moved the checkpoint meanwhile.
    async fn look(&mut self) -> Result<Option<Begin>, Error> {
        let found = self.load().await?;
        let topic = self.key.topic();
        let mut begin = Begin { checkpoint: None, next: Position::ZERO, gap: None, is_poison: false };
        let (mut is_reset, mut is_stored, mut has_more) = (false, false, None);
        match (self.start, &found) {
            (StartAt::Force(start), _) => {
                begin.next = resolve(&mut self.client, topic, start).await?;
                is_reset = true;
            }
            (StartAt::Checkpoint(start), None) => {
                begin.next = resolve(&mut self.client, topic, start).await?;
                // What is new, or recent, is so from the first start on.
                is_stored = matches!(start, Start::Latest | Start::Time(_));
            }
            (StartAt::Checkpoint(_), Some(found)) => match verify(&mut self.client, topic, found).await? {
                Verdict::Fits { has_more: more } => (begin.next, has_more) = (found.next, Some(more)),
                Verdict::Dropped { oldest } => {
                    let gap = dropped(self.key, found.next.offset, oldest);
                    begin.gap = Some(self.gone(gap)?);
                    (begin.next, has_more) = (Position::at(oldest), Some(false));
                }
                Verdict::Other { oldest, why } => {
                    let gap = Error::new(ErrorKind::Gap { from: found.next.offset, to: oldest }, why);
                    begin.gap = Some(self.gone(gap)?);
                    begin.next = Position::at(oldest);
                    is_reset = true;
                }
            },
        }
        let mut checkpoint =
            found.clone().filter(|_| !is_reset).unwrap_or_else(|| Checkpoint::at(begin.next));
        if let Some(max) = self.starts_max
            && self.has_message(begin.next, has_more).await?
        {
            begin.is_poison = checkpoint.head_attempts >= max;
            checkpoint.head_attempts = checkpoint.head_attempts.saturating_add(1);
            is_stored = true;
        }
        let is_there = match (is_reset, is_stored) {
            (true, _) => self.reset(found.as_ref(), &checkpoint).await?,
            (false, true) => self.store(&checkpoint).await?,
            (false, false) => true,
        };
        begin.checkpoint = if is_reset || is_stored { Some(checkpoint) } else { found };
        Ok(is_there.then_some(begin))
    }

    /// Whether there is a message at a position, which a start can have died on, unless that is known.
    async fn has_message(&mut self, at: Position, known: Option<bool>) -> Result<bool, Error> {
        match known {
            Some(has_message) => Ok(has_message),
            None => match self.client.head(self.key.topic()).await {
                Err(error) if error.is_not_found() => Ok(false),
                head => Ok(at.offset < head?.next),
            },
        }
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
                    let text = format!(
                        "`{owner}` has the lease of `{}`; it can be waited for, or taken away by `log-cli state reset`",
                        self.key
                    );
                    return Err(Error::state(StateError::new(StateErrorKind::Fenced, text)));
                }
            }
        }
    }

    /// Stores a checkpoint; `false` if somebody else has moved it, or the key needs a lease, which is asked for from then on.
    async fn store(&mut self, checkpoint: &Checkpoint) -> Result<bool, Error> {
        let handler = Arc::clone(&self.held.handler);
        match retrying(|| handler.complete(self.key, checkpoint, self.held.fence)).await {
            Err(error) if error.kind() == StateErrorKind::Fenced && handler.leases().is_some() => {
                self.is_exclusive = true;
                Ok(false)
            }
            Err(error) if matches!(error.kind(), StateErrorKind::Stale { .. }) => Ok(false),
            stored => stored.map(|_| true).map_err(Error::state),
        }
    }

    /// Puts a checkpoint in the place of `found`, unless another reader has the lease; `false` if somebody else has moved it.
    async fn reset(&mut self, found: Option<&Checkpoint>, checkpoint: &Checkpoint) -> Result<bool, Error> {
        let handler = Arc::clone(&self.held.handler);
        let admin = handler.admin().ok_or_else(|| {
            Error::invalid(format!("the store cannot reset the checkpoint of `{}`", self.key))
        })?;
        // Behind a reset nothing is stored without a fence.
        self.is_exclusive |= handler.leases().is_some();
        if self.load().await?.as_ref() != found {
            return Ok(false);
        }
        warn!(key = %self.key, next = %checkpoint.next, "the checkpoint is reset");
        retrying(|| admin.reset(self.key, checkpoint)).await.map_err(Error::state)?;
        self.held.fence = Fence::NONE;
        let stored = self.load().await?;
        Ok(stored.is_some_and(|stored| stored.next == checkpoint.next))
    }

    /// What is gone: an error, or something to be told and passed over.
    fn gone(&self, error: Error) -> Result<Error, Error> {
        match self.when_gone {
            WhenGone::Jump => Ok(error),
            WhenGone::Fail => Err(error.ending()),
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
            Err(error) if is_passing(&error) => match backoff.next_delay() {
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
