//! A logger for the crate `log`, whose lines are messages of a topic.
//!
//!     cargo run --release                                    # in one terminal: the server
//!     cargo run -p logd-examples --example log_crate         # in another
//!     cargo run -p logd-cli -- read

use std::error::Error;
use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};
use logd_client::blocking::Writer;
use logd_client::{ClientConfig, LineWriter};

/// Formats a record and hands it over.
struct Logger {
    lines: LineWriter,
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // A clone costs next to nothing, and no lock is held while a line is formatted. What is refused is counted.
        let _ = writeln!(self.lines.clone(), "{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let writer = Writer::open(logd_client::Writer::builder(ClientConfig::default()))?;
    log::set_boxed_logger(Box::new(Logger { lines: writer.io() }))?;
    log::set_max_level(LevelFilter::Info);

    log::info!("the shop is open");
    log::warn!("{} apples are left", 3);

    // The logger lives for ever: only this tells that everything has arrived.
    writer.close()?;
    Ok(())
}
