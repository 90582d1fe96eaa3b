//! What the servers hold in memory, idle and with many connections that write; and how long logd takes to start with
//! data, after an orderly end and after a kill.

use std::io;
use std::time::Duration;

use super::{BATCH_BYTES, rounds};
use crate::args::Options;
use crate::figures::Spread;
use crate::load::{Load, Work, fill};
use crate::process::{End, Side, Usage};
use crate::report::{Cell, Report};

/// Batches of a writer that has little to say: what is measured is the connection, not the batch.
const CROWD_BATCH_BYTES: usize = 4096;
/// Partitions of the default size, and so many that none is removed.
const START: [&str; 2] = ["--partitions", "100000"];

const COLUMNS: &[&str] =
    &["server", "idle MiB", "connections", "peak MiB while they write", "KiB a connection", "MiB after"];

const START_COLUMNS: &[&str] = &[
    "GB",
    "first start ms",
    "after an orderly end ms",
    "least to most, orderly",
    "after a kill ms",
    "least to most, killed",
];

/// Prints both tables.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    holding(options, report)?;
    starting(options, report)
}

fn holding(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Memory", COLUMNS)?;
    let load = Load {
        work: Work::Write { bytes: CROWD_BATCH_BYTES },
        connections: options.crowd,
        topics: 1,
        time: options.time,
        bytes_max: super::BYTES_MAX,
    };
    let rounds = rounds(options, |side: Side| {
        let idle = side.usage()?;
        load.run(side.address())?;
        Ok((idle, side.usage()?))
    })?;
    let (logd, floor): (Vec<_>, Vec<_>) = rounds.into_iter().map(|pair| (pair.logd, pair.floor)).unzip();
    for (name, usages) in [("logd", logd), ("floor", floor)] {
        let median =
            |figure: &dyn Fn(&(Usage, Usage)) -> f64| Cell::Number(Spread::of(&usages, figure).median, 1);
        table.row(&[
            Cell::text_of(name),
            median(&|(idle, _)| idle.resident_mib),
            Cell::count(options.crowd),
            median(&|(_, after)| after.peak_mib),
            median(&|(idle, after)| (after.peak_mib - idle.resident_mib) * 1024.0 / options.crowd as f64),
            median(&|(_, after)| after.resident_mib),
        ])?;
    }
    Ok(())
}

/// How long a server took to start in each case.
struct Starts {
    first: Duration,
    orderly: Duration,
    killed: Duration,
}

fn starting(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Start", START_COLUMNS)?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let side = Side::logd(&START)?;
        let first = side.start();
        fill(side.address(), 1, options.start_bytes, BATCH_BYTES - 1024)?;
        let side = side.restarted(End::Killed, &START)?;
        let killed = side.start();
        let side = side.restarted(End::Orderly, &START)?;
        rounds.push(Starts { first, orderly: side.start(), killed });
    }
    let millis =
        |figure: fn(&Starts) -> Duration| Spread::of(&rounds, |starts| figure(starts).as_secs_f64() * 1000.0);
    let (orderly, killed) = (millis(|starts| starts.orderly), millis(|starts| starts.killed));
    table.row(&[
        Cell::Number(options.start_bytes as f64 / 1e9, 2),
        Cell::Number(millis(|starts| starts.first).median, 1),
        Cell::Number(orderly.median, 1),
        Cell::Range(orderly.least, orderly.most, 1),
        Cell::Number(killed.median, 1),
        Cell::Range(killed.least, killed.most, 1),
    ])
}
