//! The `logd` binary: options, logging, signals, and the server.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use logd_server::args::{self, Invocation};
use logd_server::{Config, Server};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The exit code when the server could not start or did not end in order.
const FAILED: u8 = 1;

/// The exit code for impossible settings; that of an unknown option is the same.
const USAGE: u8 = 2;

/// The most threads that sync, seal and remove files at the same time.
const BLOCKING_THREADS_MAX: usize = 32;

fn main() -> ExitCode {
    let Invocation { config, verbose } = match args::from_env() {
        Ok(invocation) => invocation,
        Err(error) => return fail(&error, USAGE),
    };
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
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let server = Server::bind(config).await?;
    tracing::info!("listening on {}", server.local_addr());
    let serving = server.run(async move {
        stop_signal(&mut interrupt, &mut terminate).await;
        // Who sends a second signal does not want to wait for the order that the first one asks for.
        tokio::spawn(async move {
            stop_signal(&mut interrupt, &mut terminate).await;
            tracing::warn!("stopped at once by a second signal");
            std::process::exit(i32::from(FAILED));
        });
    });
    serving.await.map_err(Into::into)
}

async fn stop_signal(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("received SIGINT"),
        _ = terminate.recv() => tracing::info!("received SIGTERM"),
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
