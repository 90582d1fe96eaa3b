//! What the tests of logd's boundaries share: a server that is a real process, a peer that speaks literal bytes, and
//! batches made without the protocol crate, so that a mistake there cannot hide itself here.
//!
//! Everything waits for a condition with a bound and panics, saying what it waited for, when the bound is passed.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests fails the test that uses it, and says why"
)]

mod answer;
mod app;
mod batch;
mod binary;
mod cli;
mod gate;
mod log_lines;
mod mount;
mod not_run;
mod peer;
mod proxy;
mod random;
mod server;
mod usage;
mod wait;

pub use answer::{Found, Stats};
pub use app::App;
pub use batch::{batch, body, checksum, envelope};
pub use binary::{Finished, binary, run};
pub use cli::log_cli;
pub use gate::Gate;
pub use log_lines::{key_of, log_line};
pub use mount::Tmpfs;
pub use not_run::not_run;
pub use peer::RawPeer;
pub use proxy::{Fault, FaultPlan, FaultProxy, Place, ProxyStats, Side};
pub use random::{Random, seed};
pub use server::{Stopped, TestServer};
pub use usage::Usage;
pub use wait::{BOUND, wait_until};
