//! What every property works with: the store, handlers on it, keys, checkpoints, waits.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use logd_protocol::Offset;

use super::fixture::Fixture;
use super::hooks::RawAccess;
use super::verdict::{Stop, Verdict, ensure, hooked, refused, skipped};
use crate::checkpoint::{Anchor, Checkpoint, Done};
use crate::error::StateErrorKind;
use crate::fence::Fence;
use crate::handler::{Committed, StateAdmin, StateHandler};
use crate::key::ConsumerKey;
use crate::position::Position;

/// The longest that anything is waited for which a handler has to do at some time.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(15);
/// Between two looks at what is waited for.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) struct Context<F> {
    pub(super) store: F,
    property: &'static str,
    /// The name of the test that is the process to kill; `None` where there is no test binary.
    pub(super) process: Option<String>,
}

impl<F: Fixture> Context<F> {
    pub(super) async fn new(property: &'static str, process: Option<String>) -> Verdict<Self> {
        Ok(Self { store: hooked(F::new().await)?, property, process })
    }

    pub(super) async fn open(&self) -> Verdict<Arc<dyn StateHandler>> {
        Ok(self.store.open().await?)
    }

    /// So many handlers on the store; one several times, where only one can have it open.
    pub(super) async fn open_all(&self, count: usize) -> Verdict<Vec<Arc<dyn StateHandler>>> {
        let mut handlers = vec![self.open().await?];
        while handlers.len() < count {
            let another = if self.store.is_shared() { self.open().await? } else { Arc::clone(&handlers[0]) };
            handlers.push(another);
        }
        Ok(handlers)
    }

    pub(super) async fn reopen(&self, handler: Arc<dyn StateHandler>) -> Verdict<Arc<dyn StateHandler>> {
        handler.close().await?;
        drop(handler);
        self.open().await
    }

    pub(super) fn raw(&self) -> Verdict<&dyn RawAccess> {
        self.store.raw().map_or_else(|| skipped("the fixture has no `raw` access"), Ok)
    }

    /// Tells that a part of the property is not tested.
    pub(super) fn skip_part(&self, why: &str) {
        say("skipped", &F::name(), self.property, why);
    }

    /// Tells what does not fail, and should be known.
    pub(super) fn report(&self, what: &str) {
        say("reported", &F::name(), self.property, what);
    }
}

/// Tells something that libtest must not hide, as it hides what tests print.
pub(super) fn say(what: &str, handler: &str, property: &str, why: &str) {
    // Where nobody can be told, the outcome is still right.
    let _ = writeln!(io::stderr(), "{what}: {handler}: {property}: {why}");
}

pub(super) fn admin(handler: &Arc<dyn StateHandler>) -> Verdict<&dyn StateAdmin> {
    handler.admin().map_or_else(|| skipped("it has no `admin`"), Ok)
}

pub(super) fn key(consumer: &str) -> Verdict<ConsumerKey> {
    key_of(ConsumerKey::NAMESPACE_DEFAULT, "orders", consumer)
}

pub(super) fn key_of(namespace: &str, topic: &str, consumer: &str) -> Verdict<ConsumerKey> {
    Ok(ConsumerKey::new(topic.parse()?, consumer)?.in_namespace(namespace)?)
}

pub(super) const fn at(offset: u64, delta: u64) -> Position {
    Position { offset: Offset::new(offset), delta }
}

pub(super) fn checkpoint(offset: u64) -> Checkpoint {
    Checkpoint::at(at(offset, 0))
}

/// A checkpoint with something in every field, and a field of a later version.
pub(super) fn full(offset: u64) -> Verdict<Checkpoint> {
    let body = format!(r#"{{"logd-checkpoint":1,"next":"{offset}.12","colour":{{"deep":[1,"ü",null]}}}}"#);
    let from_later = Checkpoint::decode(body.as_bytes())?;
    let range =
        |from, to| Done { from: at(offset.saturating_add(from), 0), to: at(offset.saturating_add(to), 7) };
    Ok(Checkpoint {
        anchor: Some(Anchor { offset: Offset::new(offset.saturating_sub(1)), crc: u32::MAX }),
        done: vec![range(5, 6), range(9, 100)],
        head_attempts: 3,
        user: (0..=255).collect(),
        written_at: 1_764_000_000_000,
        ..from_later
    })
}

/// Fails unless exactly this checkpoint is stored.
pub(super) async fn stored(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    expected: Option<&Checkpoint>,
    what: &str,
) -> Verdict {
    let seen = handler.get(key).await?;
    ensure!(seen.as_ref() == expected, "{what}: stored is {seen:?}, and should be {expected:?}");
    Ok(())
}

/// Stores a checkpoint that must be accepted as a new one.
pub(super) async fn store(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    checkpoint: &Checkpoint,
    fence: Fence,
) -> Verdict {
    let done = handler.complete(key, checkpoint, fence).await;
    let next = checkpoint.next;
    let done = done.map_err(|error| Stop::Failed(format!("`{next}` of `{key}` was not stored: {error}")))?;
    ensure!(done == Committed::Stored, "`{next}` of `{key}` is new, and the answer was {done:?}");
    Ok(())
}

/// Fails unless the checkpoint is refused as one that the store is ahead of, and says by what.
pub(super) async fn stale(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    checkpoint: &Checkpoint,
    fence: Fence,
    stored: Position,
) -> Verdict {
    let what = format!("`{}` behind `{stored}`", checkpoint.next);
    refused(handler.complete(key, checkpoint, fence).await, &[StateErrorKind::Stale { stored }], &what)
}

/// Looks again and again until it holds; fails after [`WAIT_MAX`].
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> Verdict<bool>) -> Verdict {
    let begin = Instant::now();
    while !holds().await? {
        ensure!(begin.elapsed() < WAIT_MAX, "{what}: not within {WAIT_MAX:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
