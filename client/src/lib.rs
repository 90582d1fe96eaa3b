//! The async client of logd: write messages in batches, scan them back.
//!
//! - [`Writer`] takes messages from any number of tasks, sends them in batches, and never loses one silently: what is
//!   not acknowledged is handed back whole, with what is known about it.
//! - [`Scanner`] yields the messages of a topic from any [`Position`] on, checks every one, survives reconnects without
//!   a gap or a repetition, and follows the topic as it grows.
//! - [`Client`] does single requests.
//!
//! Everything is bounded: buffers, answers, waits, and attempts. Every async function says what is lost when its
//! future is dropped.
//!
//! ```no_run
//! use logd_client::{ClientConfig, Scanner, Writer};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig::new("127.0.0.1:1774");
//! let writer = Writer::builder(config.clone()).open()?;
//! writer.write(b"hello").await?;
//! writer.close().await?;
//!
//! let mut scanner = Scanner::builder(config).limit(1).open()?;
//! while let Some(message) = scanner.next().await {
//!     let message = message?;
//!     println!("{}: {}", message.position, message.bytes.escape_ascii());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The crate needs a tokio runtime with its network and time drivers enabled; but a [`Writer`] can have a thread of its
//! own, and [`blocking`] is for programs without a runtime. [`Writer::io`] takes an application's log, see
//! [`LineWriter`]. It speaks to logd and to Go logd 0.3.2.

mod answers;
mod backlog;
pub mod blocking;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
#[doc(hidden)]
pub mod fit;
mod own_thread;
mod park;
mod retry;
mod scanner;
mod session;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod spool;
#[cfg(test)]
mod testing;
mod transport;
mod writer;

pub use answers::{Batches, Head, ServerSettings, TopicSummary};
pub use backlog::{FailedBatch, FlushError, WhenFull};
pub use client::Client;
pub use config::ClientConfig;
pub use consumer::{
    Consumer, ConsumerBuilder, DeadLetters, DeliveryId, Lag, Nack, Received, Shutdown, StartAt, WhenGone,
};
pub use error::{AppendError, Error, ErrorKind, Outcome};
pub use logd_protocol::{
    Batch, BatchBuilder, BatchId, Bound, Offset, PushError, Reason, TopicName, TopicNameError, WriterId,
    limits,
};
#[cfg(feature = "file")]
pub use logd_statehandlers::FileState;
#[cfg(feature = "conformance")]
pub use logd_statehandlers::conformance;
pub use logd_statehandlers::{
    Anchor, BodyError, Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Done, Fence,
    Fencing, Grant, KeyError, LeaseHandler, MemoryState, Position, PositionError, StateAdmin, StateEntry,
    StateError, StateErrorKind, StateHandler, Token, async_trait, open as open_state,
};
#[cfg(feature = "postgres")]
pub use logd_statehandlers::{PostgresState, postgres};
#[cfg(feature = "redis")]
pub use logd_statehandlers::{RedisState, RedisStateBuilder};
#[cfg(feature = "sqlite")]
pub use logd_statehandlers::{SqliteState, sqlite};
pub use retry::RetryPolicy;
pub use scanner::{Message, Scanner, ScannerBuilder, Start};
pub use spool::{
    Aside, Damage, DamagedFile, ListedBatch, Spool, SpoolCheck, SpoolError, SpoolFault, SpoolFinding,
    SpoolFindings, SpoolKey, SpoolListing, Spooled,
};
pub use writer::{
    Backlog, Delivery, Dropped, ErrorHandler, LineWriter, Receipt, StatePusher, TaskRuntime, UnknownOutcome,
    WhenAway, WhenFailed, WriteError, Writer, WriterBuilder, WriterEvent, WriterStats,
};
