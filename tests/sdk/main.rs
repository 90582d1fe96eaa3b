//! The client against a real server.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod proxy;
mod requests;
mod scan;
mod support;
mod time;
mod write;
mod writer_faults;
