//! Running `log-cli`.

use std::ffi::OsStr;

use crate::binary::{Finished, command, run_command};
use crate::wait::BOUND;

/// Runs `log-cli` with `arguments` and `input` on its standard input, to its end.
///
/// # Panics
/// When it has not ended within thrice [`BOUND`].
pub fn log_cli<A: AsRef<OsStr>>(arguments: &[A], input: &[u8]) -> Finished {
    let mut command = command("log-cli");
    command.args(arguments);
    run_command(command, Some(input.to_vec()), BOUND * 3)
}
