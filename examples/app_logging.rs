//! A program that logs through `tracing`, and whose log is a topic. With a number of lines it tells how fast that is.
//!
//!     cargo run --release                                                      # in one terminal: the server
//!     cargo run --release -p logd-examples --example app_logging -- 1000000    # in another
//!     cargo run -p logd-cli -- read
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::{Duration, Instant};

use logd_client::{ClientConfig, RetryPolicy, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let lines: u64 = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 5,
    };
    // A server that is away for long is waited for, but does not hold the program up for more than a tenth of a second:
    // what has no room then is dropped, and the log will say how much. With `spool(dir, bytes)` they go to the disk instead.
    let config = ClientConfig::default().retry(RetryPolicy::default().attempts(None));
    // It is kept until the end of the program: dropping it sends what is left, closing it tells whether that went well.
    let writer = Writer::builder(config).budget(Duration::from_millis(100)).open()?;
    let log = writer.io();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || log.clone())
        // Else each line that is refused is told on standard error.
        .log_internal_errors(false)
        .init();

    let start = Instant::now();
    for line in 0..lines {
        tracing::info!(line, "a customer has ordered something");
    }
    let logged = start.elapsed();
    writer.close_blocking(Duration::from_secs(5))?;
    let stored = start.elapsed();
    let rate = |time: std::time::Duration| lines as f64 / time.as_secs_f64();
    println!("{lines} lines: logged in {logged:.2?}, {:.0} lines/s", rate(logged));
    println!("all of them in the topic after {stored:.2?}, {:.0} lines/s", rate(stored));
    println!("{} of them were dropped", writer.dropped());
    Ok(())
}
