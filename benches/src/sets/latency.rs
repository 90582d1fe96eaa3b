//! From a write to the message at a reader that follows the topic; one message at a time.
//!
//! The floor has no reader that follows: its figure is the time to write a batch of one message and then to read it, on
//! one connection, by hand.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use logd_client::{ClientConfig, Scanner, Writer};
use tokio::runtime::Runtime;

use super::LOGD;
use crate::args::Options;
use crate::figures::Spread;
use crate::load::{Amount, MESSAGE_BYTES, histogram, nanos, topic, write_and_read};
use crate::process::Side;
use crate::report::{Cell, Report};

/// What is written before anything is measured: it makes the connections and the topic.
const WARM_UP_MESSAGES: usize = 50;

const COLUMNS: &[&str] =
    &["quantile", "Writer to Scanner us", "floor, write and read, us", "over the floor", "least to most"];

/// Prints the table.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Latency", COLUMNS)?;
    let mut rounds: Vec<(Histogram<u64>, Amount)> = Vec::new();
    for _ in 0..options.rounds {
        let logd = Side::logd(&LOGD)?;
        let through_client = Runtime::new()?.block_on(follow(&logd, options.time))?;
        drop(logd);
        rounds.push((through_client, write_and_read(Side::floor(&[])?.address(), options.time)?));
    }
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        let client = |histogram: &Histogram<u64>| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let ratios = Spread::of(&rounds, |(logd, floor)| client(logd) / floor.micros(quantile));
        table.row(&[
            Cell::text_of(name),
            Cell::Number(Spread::of(&rounds, |(logd, _)| client(logd)).median, 0),
            Cell::Number(Spread::of(&rounds, |(_, floor)| floor.micros(quantile)).median, 0),
            Cell::Ratio(ratios.median),
            Cell::ends(ratios),
        ])?;
    }
    Ok(())
}

async fn follow(logd: &Side, time: Duration) -> io::Result<Histogram<u64>> {
    let config = ClientConfig::new(logd.address().to_string());
    let builder = Writer::builder(config.clone()).topic(topic(0)?).wait_interval(Duration::ZERO);
    let writer = builder.open().map_err(io::Error::other)?;
    let scanner = Scanner::builder(config).topic(topic(0)?).follow(true);
    let mut scanner = scanner.open().map_err(io::Error::other)?;
    let mut histogram = histogram()?;
    let mut begin = Instant::now();
    let mut count = 0;
    while count <= WARM_UP_MESSAGES || begin.elapsed() < time {
        if count == WARM_UP_MESSAGES {
            histogram.reset();
            begin = Instant::now();
        }
        let sent = Instant::now();
        writer.write(&[b'm'; MESSAGE_BYTES]).await.map_err(io::Error::other)?;
        scanner
            .next()
            .await
            .ok_or_else(|| io::Error::other("the scanner has ended"))?
            .map_err(io::Error::other)?;
        histogram.saturating_record(nanos(sent.elapsed()));
        count += 1;
    }
    writer.close().await.map_err(io::Error::other)?;
    Ok(histogram)
}
