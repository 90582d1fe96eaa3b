//! The client against a real server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod blocking;
mod logging;
mod proxy;
mod requests;
mod scan;
mod server_thread;
mod support;
mod time;
mod write;
mod writer_away;
mod writer_complaints;
mod writer_faults;
