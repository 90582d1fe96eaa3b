//! Consumers and their stores of checkpoints, against a real server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it has found, in its helpers too"
)]

mod consumer;
mod cost;
#[path = "../../statehandlers/tests/support/cut.rs"]
mod cut;
mod exactly_once;
#[expect(dead_code, reason = "the tests of the client use more of it")]
#[path = "../sdk/support.rs"]
mod in_process;
mod outages;
#[expect(dead_code, reason = "the store's own tests use more of it")]
#[path = "../../statehandlers/tests/support/postgres.rs"]
mod postgres_server;
#[expect(dead_code, reason = "the store's own tests use more of it")]
#[path = "../../statehandlers/tests/support/redis.rs"]
mod redis_server;
mod stores;
mod takeover;
