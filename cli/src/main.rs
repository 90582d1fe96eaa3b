//! The `log-cli` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    logd_cli::run(std::env::args_os()).into()
}
