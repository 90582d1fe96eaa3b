//! The contract of a store of checkpoints.
//!
//! A store is a register for each key whose value only grows, and that can be fenced. Every call can be repeated, and can
//! take effect late, without harm: so a call whose future was dropped, whose answer was lost, or that was sent twice leaves
//! either the old or the new state, and never an older one than there was.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::checkpoint::Checkpoint;
use crate::error::StateError;
#[cfg(doc)]
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::key::ConsumerKey;

/// What became of a checkpoint that a store was to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is stored.
    Stored,
    /// The very same was stored already.
    Unchanged,
}

/// What a handler can do beyond the least. Each is tested by the conformance suite where it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// What was stored survives the process: a kill, and what else the store says of itself.
    pub durable: bool,
    /// It grants leases, and its fences hold.
    pub fencing: Fencing,
    /// It lists, resets and deletes.
    pub admin: bool,
    /// It writes a checkpoint within a transaction of the user's.
    pub transactions: bool,
}

/// How far a fence can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Fencing {
    /// There are no leases.
    #[default]
    None,
    /// A stale fence is refused, but for what a failover of the store has forgotten.
    BestEffort,
    /// A stale fence is always refused.
    Strict,
}

impl Capabilities {
    /// The least: `get` and `complete`, as long as the process lives.
    pub const NONE: Self = Self { durable: false, fencing: Fencing::None, admin: false, transactions: false };

    /// The same with [`Capabilities::durable`].
    #[must_use]
    pub const fn with_durable(self) -> Self {
        Self { durable: true, ..self }
    }

    /// The same with [`Capabilities::fencing`].
    #[must_use]
    pub const fn with_fencing(self, fencing: Fencing) -> Self {
        Self { fencing, ..self }
    }

    /// The same with [`Capabilities::admin`].
    #[must_use]
    pub const fn with_admin(self) -> Self {
        Self { admin: true, ..self }
    }

    /// The same with [`Capabilities::transactions`].
    #[must_use]
    pub const fn with_transactions(self) -> Self {
        Self { transactions: true, ..self }
    }
}

/// Keeps the checkpoints of readers.
///
/// `get` and `complete` are all that a handler must have. Everything else is declared by
/// [`capabilities`](StateHandler::capabilities), and the conformance suite (feature `conformance`) tests what is declared.
///
/// # Cancel safety
/// Every future can be dropped at any point: what it was to do is then done, or not, or done later; the handler stays
/// usable, and nothing goes back.
#[async_trait]
pub trait StateHandler: Debug + Send + Sync + 'static {
    /// The stored checkpoint; `None` only if there never was one, or it was deleted.
    ///
    /// # Errors
    /// [`StateError`]. Whatever is stored and cannot be read is an error, never `None`.
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError>;

    /// Stores a checkpoint. One that is as far on as the stored one replaces it.
    ///
    /// # Errors
    /// - [`StateErrorKind::Fenced`] when `fence` is not that of the last grant; also without a fence, once there was one
    /// - [`StateErrorKind::Stale`] when the stored checkpoint is further on
    /// - [`StateErrorKind::Lost`] when there is a fence and no record
    /// - other kinds, by what can be done about it
    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError>;

    /// Leases, if the handler has them.
    fn leases(&self) -> Option<&dyn LeaseHandler> {
        None
    }

    /// The administrator's side, if the handler has one.
    fn admin(&self) -> Option<&dyn StateAdmin> {
        None
    }

    /// What the handler can do beyond the least.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    /// Gives back what the handler holds: connections, threads, leases of files. Calls after it can fail.
    ///
    /// # Errors
    /// [`StateError`] when something of it failed; it is closed all the same.
    async fn close(&self) -> Result<(), StateError> {
        Ok(())
    }
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What the holder shows with every call.
    pub fence: Fence,
    /// Where to go on; `None` for a key that never had a checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// The answer to who asks for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It has it.
    Granted(Grant),
    /// Somebody else has it.
    Processing {
        /// The name of the holder, for people.
        owner: String,
        /// When it makes sense to ask again. The lease may last longer, if it is renewed.
        retry_in: Duration,
    },
}

/// Leases: at most one reader of a key at a time moves its checkpoint.
///
/// Safety comes from the fence: whoever holds an old one changes nothing, whatever its clock says. The lease's time only
/// says how soon somebody else can go on; only the store's clock measures it.
#[async_trait]
pub trait LeaseHandler: Send + Sync {
    /// Asks for the lease of a key for the time `ttl`, which a store whose leases end with their process ignores. A claimant
    /// that has it already is granted it anew, with a new fence.
    ///
    /// # Errors
    /// [`StateError`]; when the kind is ambiguous, asking again with the same claimant resolves it.
    async fn start(&self, key: &ConsumerKey, claimant: &Claimant, ttl: Duration)
    -> Result<Claim, StateError>;

    /// Keeps the lease for the time `ttl` from now on, also where it has run out and nobody else has it.
    ///
    /// # Errors
    /// [`StateErrorKind::Fenced`] or [`StateErrorKind::Lost`] when it is the caller's no more; other kinds, by what can be
    /// done about it.
    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError>;

    /// Stores a last checkpoint, if there is one, and gives the lease back, in one step. The next claimant is granted it at
    /// once. Repeating it is no error, as long as nobody else has been granted the lease.
    ///
    /// # Errors
    /// As [`StateHandler::complete`]; when it is stale, the lease is given back all the same.
    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError>;
}

/// What a store has of a key.
#[derive(Debug, Clone)]
pub struct StateEntry {
    /// Which reader's.
    pub key: ConsumerKey,
    /// The checkpoint; `None` where a lease was granted before there was one; an error where it cannot be read.
    pub checkpoint: Result<Option<Checkpoint>, StateError>,
    /// The epoch of the last grant or reset; 0 if there was none.
    pub epoch: u64,
    /// Who holds the lease now.
    pub owner: Option<String>,
}

/// The administrator's side of a store.
#[async_trait]
pub trait StateAdmin: Send + Sync {
    /// Everything that is stored, in the order of the keys.
    ///
    /// # Errors
    /// [`StateError`] when the store as a whole cannot be read; what is wrong with one entry is in the entry.
    async fn list(&self) -> Result<Vec<StateEntry>, StateError>;

    /// Stores a checkpoint wherever it lies, also over one that cannot be read. Whoever has the lease is fenced, and the
    /// lease is free.
    ///
    /// # Errors
    /// [`StateError`].
    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError>;

    /// Forgets a key: it is as if it had never been. Whether there was one is told. Whoever has the lease gets
    /// [`StateErrorKind::Lost`] or [`StateErrorKind::Fenced`] from then on.
    ///
    /// # Errors
    /// [`StateError`].
    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError>;
}
