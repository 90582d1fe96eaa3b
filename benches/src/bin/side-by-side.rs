//! Runs logd and the floor in turn under the same loads, and prints how logd compares.
//!
//!     cargo build --release -p logd-server -p logd-benches
//!     cargo run --release -p logd-benches --bin side-by-side
//!
//! `docs/benchmarks.md` says what each table shows. Whatever goes wrong ends it with an error: a figure that could not be
//! measured is never left out.

use std::process::ExitCode;

use logd_benches::args::Options;

#[expect(clippy::print_stderr, reason = "a program says why it has failed")]
fn main() -> ExitCode {
    match logd_benches::run(&Options::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("side-by-side: {error}");
            ExitCode::FAILURE
        }
    }
}
