//! Saying loudly that a test could not run.

use std::fs::OpenOptions;
use std::io::{self, Write};

/// Says that a test did not run and why, past the capture of a test's output.
///
/// `tests/run` names a file in `LOGD_TEST_NOT_RUN` and shows at its end what is in it.
///
/// # Panics
/// When that file cannot be written.
pub fn not_run(what: &str) {
    let line = format!("NOT RUN: {what}\n");
    io::stderr().write_all(line.as_bytes()).expect("stderr takes a line");
    if let Some(path) = std::env::var_os("LOGD_TEST_NOT_RUN") {
        let mut file =
            OpenOptions::new().append(true).create(true).open(path).expect("the list can be opened");
        file.write_all(line.as_bytes()).expect("the list takes a line");
    }
}
