//! The `log-cli` binary against a real server, and against scripted ones that fail.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what is not as a test needs it fails the test")]

mod bench;
mod commands;
mod failures;
mod round_trips;
mod signals;
mod spool;
mod state;
mod support;
mod times;
mod write;
