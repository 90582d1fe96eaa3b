//! Where readers of logd keep how far they have come.
//!
//! A [`Position`] names one message of a topic. A [`Checkpoint`] holds the position to read next, for one reader, named by
//! a [`ConsumerKey`]. A [`StateHandler`] keeps checkpoints in a store, and is all that a store of one's own has to be.
//!
//! A store is a register for each key whose value only grows, with a [`Fence`] that keeps out who was replaced. Nothing
//! else is asked of it: what is under way is the reader's matter.

mod body;
mod checkpoint;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod fence;
#[cfg(feature = "file")]
mod file;
mod handler;
mod key;
mod memory;
mod position;
#[cfg(feature = "postgres")]
pub mod postgres;
mod record;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod token;
mod url;

pub use async_trait::async_trait;
pub use body::BodyError;
pub use checkpoint::{Anchor, Checkpoint, Done};
pub use error::{StateError, StateErrorKind};
pub use fence::{Claimant, Fence};
#[cfg(feature = "file")]
pub use file::{FileCheck, FileFault, FileFinding, FileState};
pub use handler::{
    Capabilities, Claim, Committed, Fencing, Grant, LeaseHandler, StateAdmin, StateEntry, StateHandler,
};
pub use key::{ConsumerKey, KeyError};
pub use memory::MemoryState;
pub use position::{Position, PositionError};
#[cfg(feature = "postgres")]
pub use postgres::PostgresState;
#[cfg(feature = "redis")]
pub use redis::{RedisState, RedisStateBuilder};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteState;
pub use token::Token;
pub use url::{open, redact};
