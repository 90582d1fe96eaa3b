//! The `log-cli` binary against a real server, and against scripted ones that fail.

mod commands;
mod failures;
mod round_trips;
mod signals;
mod support;
