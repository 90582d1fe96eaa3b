//! Messages from end to end: what a program gets that uses the client's `Writer` and `Scanner`, on one connection.
//!
//! The floor does the same bytes in the batches that the load has made before: it shows what is left for the client to
//! spend.

use std::io;
use std::time::{Duration, Instant};

use logd_client::{ClientConfig, Scanner, Writer};
use tokio::runtime::Runtime;

use super::{BATCH_BYTES, BYTES_MAX, LOGD, READ_BYTES};
use crate::args::Options;
use crate::figures::Spread;
use crate::load::{FRAMED_BYTES, Load, MESSAGE_BYTES, Work, fill, topic};
use crate::process::Side;
use crate::report::{Cell, Report};

/// The most messages that are written: their bytes are those of a load.
const MESSAGES_MAX: u64 = BYTES_MAX / FRAMED_BYTES as u64;
/// How often the clock is looked at.
const MESSAGES_PER_LOOK: u64 = 1000;

const COLUMNS: &[&str] =
    &["100-byte messages", "a second", "MB/s framed", "floor MB/s", "of the floor", "least to most"];

/// A rate, and its name.
pub(super) type NamedRate = (&'static str, fn(&Rates) -> f64);

/// Both rates.
pub(super) const RATES: [NamedRate; 2] =
    [("written", |rates| rates.written), ("scanned", |rates| rates.scanned)];

/// Messages in a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) written: f64,
    pub(super) scanned: f64,
}

/// Prints the table.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Messages", COLUMNS)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        rounds.push((through_client(&LOGD, options.time)?, floor(options)?));
    }
    // The floor's figures are bytes.
    let framed = |rate: f64| rate * FRAMED_BYTES as f64;
    for (name, of) in RATES {
        let ratios = Spread::of(&rounds, |(logd, floor)| framed(of(logd)) / of(floor));
        table.row(&[
            Cell::text_of(name),
            Cell::Number(Spread::of(&rounds, |(logd, _)| of(logd)).median, 0),
            Cell::Number(Spread::of(&rounds, |(logd, _)| framed(of(logd)) / 1e6).median, 0),
            Cell::Number(Spread::of(&rounds, |(_, floor)| of(floor) / 1e6).median, 0),
            Cell::Ratio(ratios.median),
            Cell::ends(ratios),
        ])?;
    }
    Ok(())
}

/// Writes messages for so long, and scans all of them.
pub(super) fn through_client(options: &[&str], time: Duration) -> io::Result<Rates> {
    let side = Side::logd(options)?;
    let config = ClientConfig::new(side.address().to_string());
    Runtime::new()?.block_on(async {
        let (written, write_rate) = write(config.clone(), time).await?;
        let begin = Instant::now();
        let mut scanner = Scanner::builder(config).topic(topic(0)?).open().map_err(io::Error::other)?;
        let mut scanned = 0;
        while let Some(message) = scanner.next().await {
            std::hint::black_box(message.map_err(io::Error::other)?.bytes);
            scanned += 1;
        }
        if scanned != written {
            return Err(io::Error::other(format!("`{written}` messages were written, `{scanned}` read")));
        }
        Ok(Rates { written: write_rate, scanned: scanned as f64 / begin.elapsed().as_secs_f64() })
    })
}

/// How many were written, and how many in a second until the last one was acknowledged.
async fn write(config: ClientConfig, time: Duration) -> io::Result<(u64, f64)> {
    let writer = Writer::builder(config).topic(topic(0)?).open().map_err(io::Error::other)?;
    let begin = Instant::now();
    let mut written = 0;
    while begin.elapsed() < time && written < MESSAGES_MAX {
        for _ in 0..MESSAGES_PER_LOOK {
            writer.write(&[b'm'; MESSAGE_BYTES]).await.map_err(io::Error::other)?;
        }
        written += MESSAGES_PER_LOOK;
    }
    writer.close().await.map_err(io::Error::other)?;
    Ok((written, written as f64 / begin.elapsed().as_secs_f64()))
}

/// Bytes in a second.
fn floor(options: &Options) -> io::Result<Rates> {
    let load = |work| Load { work, connections: 1, topics: 1, time: options.time, bytes_max: BYTES_MAX };
    let side = Side::floor(&[])?;
    let written = load(Work::Write { bytes: BATCH_BYTES }).run(side.address())?.rate();
    drop(side);
    let side = Side::floor(&[])?;
    fill(side.address(), 1, options.fill_bytes, BATCH_BYTES)?;
    let scanned = load(Work::Read { bytes: READ_BYTES }).run(side.address())?.rate();
    Ok(Rates { written, scanned })
}
