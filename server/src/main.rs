//! The `logd` binary: options, logging, signals, and the server; or the check of a directory.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use logd_server::args::{self, Invocation, Task};
use logd_server::check::{self, CheckRequest};
use logd_server::{Config, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The exit code when the server could not start or did not end in order.
const FAILED: u8 = 1;

/// The exit code for impossible settings; that of an unknown option is the same.
const USAGE: u8 = 2;

/// The exit code when a directory cannot be checked.
const UNCHECKED: u8 = 3;

/// How long after the first signal others are taken for the same.
const SIGNALS_ARE_ONE: Duration = Duration::from_millis(500);

/// The most threads that sync, seal and remove files at the same time.
const BLOCKING_THREADS_MAX: usize = 32;

fn main() -> ExitCode {
    match args::from_env() {
        Ok(Task::Serve(invocation)) => run_server(invocation),
        Ok(Task::Check(request)) => run_check(&request),
        Err(error) => fail(&error, USAGE),
    }
}

/// Needs no runtime; a signal ends it as it ends any program, which is safe at every moment.
fn run_check(request: &CheckRequest) -> ExitCode {
    match check::run(request, &mut io::stdout().lock()) {
        Ok(verdict) => verdict.into(),
        Err(error) => fail(&error, UNCHECKED),
    }
}

fn run_server(Invocation { config, verbose }: Invocation) -> ExitCode {
    log_to_stderr(verbose);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error, FAILED),
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let mut signals = Signals::listen()?;
    outlive_file_size_limit()?;
    let server = Server::bind(config).await?;
    tracing::info!("listening on {}", server.local_addr());
    let serving = server.run(async move {
        signals.next().await;
        tokio::spawn(stop_at_second_signal());
    });
    serving.await.map_err(Into::into)
}

/// A write beyond the process's limit of a file's length sends a signal that would end the server. Once it has been
/// listened for, whether anybody still does or not, the write fails instead, as on a full disk.
fn outlive_file_size_limit() -> io::Result<()> {
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Who sends a second signal does not want to wait for the order that the first one asks for. Signals that come at the
/// same time, as to a whole process group, are one.
async fn stop_at_second_signal() {
    tokio::time::sleep(SIGNALS_ARE_ONE).await;
    // Where signals cannot be listened for any more, the server ends in order.
    if let Ok(mut signals) = Signals::listen() {
        signals.next().await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(i32::from(FAILED));
    }
}

/// The signals that end the server.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => tracing::info!("received SIGHUP"),
            _ = self.interrupt.recv() => tracing::info!("received SIGINT"),
            _ = self.terminate.recv() => tracing::info!("received SIGTERM"),
        }
    }
}

/// Logs at the level of `--verbose`, or as the variable `RUST_LOG` says.
fn log_to_stderr(verbose: bool) {
    let level = if verbose { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Says an error with all that caused it, in one line.
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    let mut line = format!("logd: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    // Where even this cannot be written, the exit code has to say it.
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::from(code)
}
