//! Mixed load for as long as is asked for: writers that batch and spool, consumers with checkpoints, readers that begin
//! anew, on small partitions of which old ones are dropped. One server stays up all the time; beside it another is
//! stopped, or killed, and started again. What was written is read, in order, nothing left out; and memory, descriptors
//! and threads of the server that stays up, and of this process with all the clients, do not grow.
//!
//! `LOGD_TEST_SECONDS` sets how long, 10 by default. An hour:
//!
//!     LOGD_TEST_SECONDS=3600 cargo test --release -p logd-tests --test soak -- --nocapture
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that uses them, and say its figures"
)]

mod load;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use logd_tests::{Random, TestServer, Usage, seed};
use tokio::runtime::Runtime;

use crate::load::{Load, Totals};
use crate::usage::expect_flat;

const SECONDS_DEFAULT: u64 = 10;
/// How often is looked at what the processes use.
const LOOKS: u32 = 40;
/// Partitions are completed and dropped all the time, and hold more than a consumer is ever behind.
const OPTIONS: [&str; 6] = ["--partition-size", "1MiB", "--partitions", "40", "--flush-batches", "1000"];
/// How long the server that is restarted is up at least, and how much longer at most.
const UP: Duration = Duration::from_secs(2);
const UP_MORE_MILLIS: usize = 6000;

fn seconds() -> u64 {
    let text = std::env::var("LOGD_TEST_SECONDS");
    text.map_or(SECONDS_DEFAULT, |text| text.parse().expect("`LOGD_TEST_SECONDS` is a number"))
}

#[test]
fn nothing_is_lost_and_nothing_grows() {
    let length = Duration::from_secs(seconds());
    let steady = TestServer::start(&OPTIONS);
    let mut restarted = TestServer::start(&OPTIONS);
    let ending = Arc::new(AtomicBool::new(false));
    let seed = seed();
    let runtime = Runtime::new().expect("a runtime can be made");
    let loads: Vec<_> = [&steady, &restarted]
        .into_iter()
        .map(|server| runtime.spawn(Load::new(server.host(), seed, Arc::clone(&ending)).run()))
        .collect();

    let begin = Instant::now();
    let (mut of_server, mut of_clients) = (Vec::new(), Vec::new());
    let mut random = Random::new(seed);
    let mut next_look = Duration::ZERO;
    let (mut stops, mut kills) = (0_u32, 0_u32);
    let mut next_restart = UP;
    while begin.elapsed() < length {
        if begin.elapsed() >= next_look {
            of_server.push(Usage::of(steady.pid()));
            of_clients.push(Usage::of(std::process::id()));
            next_look += length / LOOKS;
        }
        if begin.elapsed() >= next_restart {
            if random.below(2) == 0 {
                restarted.kill9();
                kills += 1;
            } else {
                let stopped = restarted.terminate();
                assert_eq!(stopped.status.code(), Some(0), "{}", restarted.stderr());
                stops += 1;
            }
            restarted.restart_in_place();
            next_restart = begin.elapsed() + UP + Duration::from_millis(random.below(UP_MORE_MILLIS) as u64);
        }
        thread::sleep(Duration::from_millis(20));
    }
    ending.store(true, Ordering::Relaxed);
    let totals: Vec<Totals> =
        loads.into_iter().map(|load| runtime.block_on(load).expect("a load has not failed")).collect();

    for server in [&steady, &restarted] {
        assert!(!server.stderr().contains("panicked"), "it said:\n{}", server.stderr());
    }
    eprintln!("{:.0?} of load, {stops} stops and {kills} kills of one server", begin.elapsed());
    for (name, totals) in ["the steady server", "the restarted one"].into_iter().zip(&totals) {
        eprintln!("{name}: {totals:?}");
    }
    expect_flat("the steady server", &of_server);
    expect_flat("the clients", &of_clients);
}
