//! `log-cli completions`: a script for a shell. It asks no server.

use crate::args::{self, Shell};
use crate::exit::{Exit, Failure};
use crate::output::print;

pub(crate) async fn run(shell: Shell) -> Result<Exit, Failure> {
    print(&args::completions(shell)).await?;
    Ok(Exit::Success)
}
