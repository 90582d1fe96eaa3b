//! The logd server.
//!
//! [`Server::bind`] takes a work directory and an address, [`Server::run`] serves. The binary `logd` adds options,
//! logging and signals; a test or a small system can have the server in its own process with the same two calls.
//!
//! `docs/ARCHITECTURE.md` is the map: [`disk`] is the seam to the file system, [`log`] the storage engine, and the rest
//! connects it with the network.

pub mod args;
pub mod check;
mod config;
mod connection;
mod control;
pub mod disk;
mod error;
mod host;
mod input;
mod listener;
pub mod log;
mod room;
mod send;
mod server;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod socket;
mod stats;
mod throttle;
mod topic;
mod topics;
mod watch;

pub use config::{Config, ConfigError};
pub use error::{ServeError, StartError};
pub use server::Server;
