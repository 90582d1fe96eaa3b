//! What a fixture can let the suite do to its store. Each hook is optional, and what it would have tested is skipped without.

use std::time::Duration;

use async_trait::async_trait;

use super::fixture::FixtureError;
use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::fence::Fence;
use crate::handler::Committed;
use crate::key::ConsumerKey;
use crate::position::Position;

/// By how much a handler's clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// It is an hour later there.
    HourAhead,
    /// It is an hour earlier there.
    HourBehind,
}

/// What is stored of a key, behind the handler's back. All methods fail where there is no record, but for
/// [`RawAccess::vanish`]. The keys have names of `a-z 0-9` only, which no store has to encode.
#[async_trait]
pub trait RawAccess: Send + Sync {
    /// Everything that is stored as the checkpoint, with what the store wraps it in.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError>;

    /// Puts exactly these bytes in the place of what [`RawAccess::read`] reads. A lease and its fence stay as they are,
    /// where they are kept apart from it.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError>;

    /// Puts this body of a checkpoint in the place of the stored one, in an otherwise sound record: with the right
    /// checksum, where there is one. By default the body is all that is stored.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        self.write(key, body).await
    }

    /// Removes the record, lease and all.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError>;

    /// Whether what is stored has a checksum, so that any flipped bit is noticed. By default it has none; then it is only
    /// tested that a damaged record is never taken for a missing one.
    fn has_checksum(&self) -> bool {
        false
    }
}

/// A disk that can be full.
#[async_trait]
pub trait Disk: Send + Sync {
    /// Leaves no room for another checkpoint.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn fill(&self) -> Result<(), FixtureError>;

    /// Makes room again.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn free(&self) -> Result<(), FixtureError>;
}

/// Transactions of the user's in the database in which the handler keeps checkpoints.
#[async_trait]
pub trait Transactions: Send + Sync {
    /// Begins a transaction on a connection of the user's.
    ///
    /// # Errors
    /// [`StateError`].
    async fn begin(&self) -> Result<Box<dyn Transaction>, StateError>;

    /// The results that committed transactions have written, in any order.
    ///
    /// # Errors
    /// [`StateError`].
    async fn results(&self) -> Result<Vec<String>, StateError>;
}

/// A transaction of the user's. Dropping it rolls it back.
#[async_trait]
pub trait Transaction: Send {
    /// Writes a result of the user's.
    ///
    /// # Errors
    /// [`StateError`].
    async fn write(&mut self, result: &str) -> Result<(), StateError>;

    /// Writes a checkpoint with the handler's means, if the stored one still is at `expected`; `None` if there is none.
    ///
    /// # Errors
    /// [`StateErrorKind::Fenced`](crate::StateErrorKind::Fenced) when the fence is not that of the last grant, or the stored
    /// position is another.
    async fn complete_in(
        &mut self,
        key: &ConsumerKey,
        expected: Option<Position>,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError>;

    /// Commits all of it.
    ///
    /// # Errors
    /// [`StateError`].
    async fn commit(self: Box<Self>) -> Result<(), StateError>;

    /// Takes back all of it.
    ///
    /// # Errors
    /// [`StateError`].
    async fn rollback(self: Box<Self>) -> Result<(), StateError>;
}

/// Where the connection of the next request is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the store has any of the request.
    Before,
    /// When the store has a part of the request.
    During,
    /// When the store has done the request, and before the answer arrives.
    After,
}

/// What can go wrong between a handler and its store. The methods that answer `false`, as all do by default, can not do it;
/// what they would have tested is skipped.
#[async_trait]
pub trait Faults: Send + Sync {
    /// Cuts the connection of the next request, there; the one after it goes through. `false` if that cannot be done.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn cut(&self, _at: Cut) -> Result<bool, FixtureError> {
        Ok(false)
    }

    /// Ends the store's server, and starts it again on the same data. `false` if that cannot be done.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn restart(&self) -> Result<bool, FixtureError> {
        Ok(false)
    }

    /// Lets the server accept everything, and answer nothing, until [`Faults::resume`]. `false` if that cannot be done.
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn pause(&self) -> Result<bool, FixtureError> {
        Ok(false)
    }

    /// Ends [`Faults::pause`].
    ///
    /// # Errors
    /// Whatever went wrong.
    async fn resume(&self) -> Result<(), FixtureError> {
        Ok(())
    }

    /// The longest that a call takes while the server hangs; by default 10 seconds.
    fn call_time_max(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The errors of handlers that were opened, or used, with a wrong address, password or right: to look for secrets in.
    async fn refusals(&self) -> Vec<StateError> {
        Vec::new()
    }
}
