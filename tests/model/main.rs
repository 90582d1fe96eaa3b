//! The storage engine against a model of it, and against a disk that fails and loses its power at every call.
//!
//! All of it runs on the simulated disk. `random.rs` compares a topic with a list of batches after random operations;
//! `power.rs` and `faults.rs` run a fixed workload once for every call that changes the disk, and let the power go or
//! the call fail there.
//!
//! `LOGD_TEST_SEED=<number>` repeats a random run, `LOGD_TEST_RUNS=<number>` makes more, or fewer, of them.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test that panics fails the test, and says why"
)]

mod faults;
mod power;
mod random;
mod topic;
mod workload;
