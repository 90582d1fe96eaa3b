//! Ad-hoc access to logd from a shell: the library behind `log-cli`.
//!
//! A command is a file. Each is given the parsed arguments and ends with an [`Exit`], or with a failure that becomes
//! one line on standard error. What they share: `exit` knows how a run can end, `args` is the only file that knows
//! the library which parses arguments, `output` and `input` move bytes on threads of their own, so that a signal is
//! noticed even while a pipe is full or empty.

mod args;
mod bench;
mod check;
mod completions;
mod config;
mod connect;
mod counts;
mod exit;
mod head;
mod input;
mod output;
mod ping;
mod progress;
mod read;
mod signals;
mod spool;
mod state;
mod stats;
mod topics;
mod version;
mod when;
mod write;

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

pub use exit::Exit;

use crate::args::{Cli, Command};
use crate::exit::Failure;
use crate::output::complain;
use crate::signals::Signals;

/// After how many steps the runtime looks for signals and sockets. Its default is meant for many small tasks; here a
/// step can move many megabytes.
const STEPS_BETWEEN_EVENTS: u32 = 4;

/// Runs `log-cli` with `arguments`, the first of which is the name it was called by.
///
/// Whatever goes wrong has been told on standard error when it returns.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::parse_from(arguments) {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    execute(cli).unwrap_or_else(|failure| {
        complain(&failure);
        failure.exit
    })
}

fn execute(cli: Cli) -> Result<Exit, Failure> {
    if cli.common.verbose {
        trace();
    }
    let runtime = runtime(&cli.command).map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(dispatch(cli));
    // A name that is still being looked up must not delay the end.
    runtime.shutdown_background();
    result
}

fn runtime(command: &Command) -> io::Result<Runtime> {
    if let Command::Bench(_) = command {
        // One thread would be the limit of what can be measured.
        return Builder::new_multi_thread().enable_all().build();
    }
    Builder::new_current_thread().enable_all().event_interval(STEPS_BETWEEN_EVENTS).build()
}

fn trace() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("debug"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { common, command } = cli;
    let mut signals = Signals::listen()?;
    match command {
        Command::Write(args) => write::run(&common, args, &mut signals).await,
        Command::Read(args) => read::run(&common, &args, &mut signals).await,
        Command::Topics => signals.unless(topics::run(&common)).await,
        Command::Head(args) => signals.unless(head::run(&common, &args)).await,
        Command::Stats => signals.unless(stats::run(&common)).await,
        Command::Config => signals.unless(config::run(&common)).await,
        Command::Ping => signals.unless(ping::run(&common)).await,
        Command::Spool(args) => spool::run(&common, args.command, &mut signals).await,
        Command::State(args) => signals.unless(state::run(&common, args.command)).await,
        Command::Bench(args) => bench::run(&common, &args, &mut signals).await,
        Command::Version => signals.unless(version::run()).await,
        Command::Completions(args) => signals.unless(completions::run(args.shell)).await,
    }
}
