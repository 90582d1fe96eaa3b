//! The operator's side of the binary: how it starts, stops, refuses, and what it does when the machine runs out of
//! something.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test that uses them")]

mod check;
mod cli;
mod crowd;
mod disk_full;
mod faults;
mod floods;
mod options;
mod start;
mod stop;
mod stored;
mod synced;

use logd_tests::{BOUND, Finished, run};

/// Runs `logd` with arguments that it must refuse, and checks that it says so as a program should: on standard error,
/// without a trace of where in its source it was.
fn refusal(arguments: &[&str], code: i32) -> Finished {
    let finished = run("logd", arguments, BOUND);
    assert_eq!(finished.code(), Some(code), "with {arguments:?} it said:\n{}", finished.stderr);
    assert!(finished.stdout.is_empty(), "an error belongs on standard error");
    for trace in ["panicked", "backtrace", "src/", ".rs:", "Error {", "Os {"] {
        assert!(!finished.stderr.contains(trace), "with {arguments:?} it said:\n{}", finished.stderr);
    }
    finished
}
