//! A program that logs through `tracing`, and whose log is a topic. With a number of lines it tells how fast that is.
//!
//!     cargo run --release                                                      # in one terminal: the server
//!     cargo run --release -p logd-examples --example app_logging -- 1000000    # in another
//!     cargo run -p logd-cli -- read
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Instant;

use logd_client::ClientConfig;
use logd_client::blocking::Writer;

fn main() -> Result<(), Box<dyn Error>> {
    let lines: u64 = match std::env::args().nth(1) {
        Some(number) => number.parse()?,
        None => 5,
    };
    // It is kept until the end of the program: dropping it sends what is left, closing it tells whether that went well.
    let writer = Writer::open(logd_client::Writer::builder(ClientConfig::default()))?;
    let log = writer.io();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).init();

    let start = Instant::now();
    for line in 0..lines {
        tracing::info!(line, "a customer has ordered something");
    }
    let logged = start.elapsed();
    writer.close()?;
    let stored = start.elapsed();
    let rate = |time: std::time::Duration| lines as f64 / time.as_secs_f64();
    println!("{lines} lines: logged in {logged:.2?}, {:.0} lines/s", rate(logged));
    println!("all of them in the topic after {stored:.2?}, {:.0} lines/s", rate(stored));
    println!("{} of them were dropped", writer.dropped());
    Ok(())
}
