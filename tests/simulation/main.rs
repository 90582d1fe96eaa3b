//! The whole system in one task after another: a server, writers, scanners and a consumer, on a simulated network and disk
//! that fail, with a clock that only moves when nobody has anything to do. One seed decides everything.
//!
//! `LOGD_TEST_SEED=<number>` repeats one run, `LOGD_TEST_RUNS=<number>` makes so many from there on,
//! `LOGD_TEST_SECONDS=<number>` takes so long. `LOGD_TEST_TRACE=<file>` keeps the trace of the last run.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a helper of a test that panics fails the test, and says why"
)]

mod checker;
mod consumer;
mod disk;
mod ends;
mod history;
mod machine;
mod network;
mod pipe;
mod scanners;
mod scenario;
mod trace;
mod world;
mod writers;

use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{Outcome, run};

/// How long the runs take together, unless it is said.
const SECONDS_DEFAULT: u64 = 45;

/// One run takes much less, in real time.
const RUN_MAX: Duration = Duration::from_secs(120);

/// How many seeds are run several times, to compare their traces.
const SEEDS_REPEATED: u64 = 5;

/// How many lines of a failed run's trace are printed.
const LINES_SHOWN: usize = 60;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is a number below 2^64")))
}

/// Runs a seed, and ends the process with the seed's number if it does not come to an end.
fn run_bounded(seed: u64) -> Outcome {
    let (done, is_done) = channel::<()>();
    let watch = thread::spawn(move || {
        if is_done.recv_timeout(RUN_MAX) == Err(RecvTimeoutError::Timeout) {
            eprintln!("the run goes on for more than {RUN_MAX:?}\n{}", replay(seed));
            std::process::exit(101);
        }
    });
    let outcome = run(seed);
    drop(done);
    watch.join().expect("the watch does not panic");
    outcome
}

fn replay(seed: u64) -> String {
    format!(
        "repeat it with: LOGD_TEST_SEED={seed} LOGD_TEST_TRACE=$PWD/trace cargo test -p logd-tests --test simulation seeds"
    )
}

#[test]
fn seeds() {
    let start = Instant::now();
    let given = number("LOGD_TEST_SEED");
    let first = given.unwrap_or_else(logd_tests::seed);
    let runs =
        number("LOGD_TEST_RUNS").or(given.map(|_| 1).filter(|_| number("LOGD_TEST_SECONDS").is_none()));
    let time = Duration::from_secs(number("LOGD_TEST_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let (mut messages, mut connections, mut faults, mut simulated) = (0, 0, 0, Duration::ZERO);
    let mut count = 0;
    while runs.map_or_else(|| start.elapsed() < time, |runs| count < runs) {
        let seed = first.wrapping_add(count);
        let outcome = run_bounded(seed);
        if let Ok(path) = std::env::var("LOGD_TEST_TRACE") {
            std::fs::write(path, outcome.trace.join("\n")).expect("the trace can be written");
        }
        if let Some(failure) = outcome.failure {
            let from = outcome.trace.len().saturating_sub(LINES_SHOWN);
            panic!("{}\n\n{failure}\n{}", outcome.trace[from..].join("\n"), replay(seed));
        }
        count += 1;
        messages += outcome.messages;
        connections += outcome.connections;
        faults += outcome.faults;
        simulated += outcome.simulated;
    }
    eprintln!(
        "{count} seeds from {first} on: {messages} messages, {connections} connections, {faults} faults, \
         {simulated:.0?} simulated in {:.1?}",
        start.elapsed()
    );
    assert!(count > 0, "there was time for a run");
}

#[test]
fn a_seed_gives_the_same_trace_in_the_same_process_and_in_another() {
    for seed in 0..SEEDS_REPEATED {
        let first = run_bounded(seed).trace;
        assert_eq!(difference(&first, &run_bounded(seed).trace), None, "seed {seed}");
        assert_eq!(difference(&first, &trace_of_another_process(seed)), None, "seed {seed}");
    }
}

/// The trace of a seed that is run in a process of its own, whose hash tables have other keys.
fn trace_of_another_process(seed: u64) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("trace");
    let output = Command::new(std::env::current_exe().expect("the test has a path"))
        .args(["--exact", "seeds"])
        .env("LOGD_TEST_SEED", seed.to_string())
        .env_remove("LOGD_TEST_RUNS")
        .env_remove("LOGD_TEST_SECONDS")
        .env("LOGD_TEST_TRACE", &path)
        .output()
        .expect("the test can be started again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let trace = std::fs::read_to_string(&path).expect("the other process has written its trace");
    trace.lines().map(str::to_owned).collect()
}

/// The first line that differs, with its number.
fn difference<'a>(one: &'a [String], other: &'a [String]) -> Option<(usize, &'a str, &'a str)> {
    let line = |lines: &'a [String], number: usize| lines.get(number).map_or("(none)", String::as_str);
    (0..one.len().max(other.len()))
        .map(|number| (number, line(one, number), line(other, number)))
        .find(|(_, one, other)| one != other)
}
