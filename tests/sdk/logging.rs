//! What loggers write through a Writer, with the loggers themselves.

use std::io::Write;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use log::Log;
use logd_client::{ClientConfig, LineWriter, RetryPolicy, TaskRuntime, Writer};
use slog::Drain;
use tracing::subscriber::with_default;

use crate::server_thread::ServerThread;
use crate::support::TestServer;

/// A subscriber that writes lines without times.
fn subscriber(lines: LineWriter) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || lines.clone())
        .finish()
}

#[test]
fn no_line_of_a_program_that_ends_normally_is_lost() {
    const LINES: usize = 200_000;
    let server = ServerThread::start();
    let writer = Writer::builder(server.client_config()).open().unwrap();
    let backlog = writer.backlog();
    let start = Instant::now();
    with_default(subscriber(writer.io()), || {
        for line in 0..LINES {
            tracing::info!("line {line}");
        }
    });
    let logged = start.elapsed();
    drop(writer);
    println!("{:.0} lines/s, all stored after {:?}", LINES as f64 / logged.as_secs_f64(), start.elapsed());
    let stats = backlog.stats();
    assert_eq!((stats.delivered, stats.dropped), (LINES as u64, 0), "{stats:?}");

    let mut scanner = server.scanner();
    for line in 0..LINES {
        let message = scanner.next().unwrap().unwrap();
        let text = std::str::from_utf8(&message.bytes).unwrap();
        assert_eq!(text, format!(" INFO sdk::logging: line {line}"));
    }
    assert!(scanner.next().is_none());
}

/// A logger as an application would write it.
struct Logger(LineWriter);

impl Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        writeln!(self.0.clone(), "{}: {}", record.level(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

#[test]
fn the_lines_of_log_env_logger_and_slog_are_messages() {
    let server = ServerThread::start();
    let writer = Writer::builder(server.client_config()).open().unwrap();

    // Nothing is logged before that is said, in the whole process.
    log::set_max_level(log::LevelFilter::Info);
    let logger = Logger(writer.io());
    log::info!(logger: logger, "of {}", "log");

    let target = env_logger::Target::Pipe(Box::new(writer.io()));
    let logger = env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .format_timestamp(None)
        .format_target(false)
        .target(target)
        .build();
    log::warn!(logger: logger, "of env_logger");
    log::debug!(logger: logger, "left out");

    let drain = Mutex::new(slog_json::Json::new(writer.io()).build()).map(slog::Fuse);
    let logger = slog::Logger::root(drain, slog::o!("service" => "shop"));
    slog::info!(logger, "of slog"; "apples" => 3);

    writer.close_blocking(Duration::from_secs(20)).unwrap();
    let expected = ["INFO: of log", "[WARN ] of env_logger", r#"{"service":"shop","apples":3}"#];
    let texts: Vec<String> =
        server.scanner().map(|message| String::from_utf8(message.unwrap().bytes.to_vec()).unwrap()).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn what_a_writer_complains_about_does_not_come_back_to_it() {
    let mut server = TestServer::start().await;
    let config: ClientConfig = server.client_config().retry(RetryPolicy::none());
    server.stop().await;
    // Its tasks run on this thread, which the subscriber is set for.
    let writer = Writer::builder(config).runtime(TaskRuntime::Current).open().unwrap();
    let _subscriber = tracing::subscriber::set_default(subscriber(writer.io()));
    for round in 1..=3 {
        tracing::info!("line {round}");
        writer.flush().await.unwrap_err();
        let stats = writer.stats();
        // Once that the server is away, and for each batch that it was given up.
        assert_eq!((stats.written, stats.suppressed), (round, 1 + round), "{stats:?}");
    }
    writer.close().await.unwrap_err();
    assert!(writer.stats().is_complete());
}
