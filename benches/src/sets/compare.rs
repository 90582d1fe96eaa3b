//! Batches written, read, and written with a sync before each answer: logd beside the floor.

use std::io;
use std::time::Duration;

use super::{BYTES_MAX, LOGD, Pair, READ_BYTES, Start, rounds_of};
use crate::args::{Options, Set};
use crate::figures::Spread;
use crate::load::{Amount, Load, Work, fill};
use crate::process::{Side, Usage};
use crate::report::{Cell, Report};

const COLUMNS: &[&str] = &[
    "connections",
    "topics",
    "KiB",
    "of the floor",
    "least to most",
    "logd MB/s",
    "floor MB/s",
    "p99 of the floor's",
    "logd CPU s/GB",
    "floor CPU s/GB",
    "logd peak MiB",
    "floor peak MiB",
];

const MORE_COLUMNS: &[&str] =
    &["KiB", "connections", "logd batches/s", "floor batches/s", "logd over fewest", "floor over fewest"];

/// What one side has done in a round.
struct Run {
    amount: Amount,
    cpu: Duration,
    usage: Usage,
}

impl Run {
    fn p99(&self) -> f64 {
        self.amount.micros(0.99)
    }

    fn cpu_per_gb(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e9 / self.amount.bytes as f64
    }

    fn requests_per_second(&self) -> f64 {
        self.amount.requests as f64 / self.amount.time.as_secs_f64()
    }
}

/// Prints the table of a set; for what is synced a second one, of what more connections bring.
pub(super) fn run(options: &Options, report: Report, set: Set) -> io::Result<()> {
    let title = match set {
        Set::Read => "Read",
        Set::Sync => "Sync",
        _ => "Write",
    };
    let table = report.table(title, COLUMNS)?;
    let mut synced = Vec::new();
    for connections in connections(options, set) {
        for topics in options.topics.iter().copied().filter(|topics| *topics <= connections) {
            for kib in &options.kib {
                let bytes = kib * 1024;
                // What is read does not fill the disk.
                let (work, bytes_max) = match set {
                    Set::Read => (Work::Read { bytes: READ_BYTES }, u64::MAX),
                    _ => (Work::Write { bytes }, BYTES_MAX),
                };
                let load = Load { work, connections, topics, time: options.time, bytes_max };
                let (logd, floor) = start(set);
                let rounds = rounds_of(options, logd, floor, |side| measure(options, &load, bytes, &side))?;
                table.row(&row(&load, *kib, &rounds))?;
                if set == Set::Sync && topics == 1 {
                    synced.push((connections, *kib, rounds));
                }
            }
        }
    }
    if set == Set::Sync { compare_connections(report, &synced) } else { Ok(()) }
}

/// Few and many are enough where it is the disk that is waited for.
fn connections(options: &Options, set: Set) -> Vec<usize> {
    let all = &options.connections;
    match (set, all.iter().min(), all.iter().max()) {
        (Set::Sync, Some(fewest), Some(most)) if fewest < most => vec![*fewest, *most],
        _ => all.clone(),
    }
}

/// How both sides are started.
fn start(set: Set) -> (Start, Start) {
    if set == Set::Sync {
        (|| Side::logd(&[&LOGD[..], &["--flush-batches", "1"]].concat()), || Side::floor(&["--sync"]))
    } else {
        (|| Side::logd(&LOGD), || Side::floor(&[]))
    }
}

fn measure(options: &Options, load: &Load, batch_bytes: usize, side: &Side) -> io::Result<Run> {
    if let Work::Read { .. } = load.work {
        fill(side.address(), load.topics, options.fill_bytes / load.topics as u64, batch_bytes)?;
    }
    let warm_up = Load { time: load.time / 10, ..*load };
    warm_up.run(side.address())?;
    let before = side.usage()?;
    let amount = load.run(side.address())?;
    let usage = side.usage()?;
    Ok(Run { amount, cpu: usage.cpu.saturating_sub(before.cpu), usage })
}

fn row(load: &Load, kib: usize, rounds: &[Pair<Run>]) -> Vec<Cell> {
    let ratios = Spread::of(rounds, |pair| pair.logd.amount.rate() / pair.floor.amount.rate());
    let median = |figure: &dyn Fn(&Pair<Run>) -> f64, decimals| {
        Cell::Number(Spread::of(rounds, figure).median, decimals)
    };
    vec![
        Cell::count(load.connections),
        Cell::count(load.topics),
        Cell::count(kib),
        Cell::Ratio(ratios.median),
        Cell::ends(ratios),
        median(&|pair| pair.logd.amount.rate() / 1e6, 0),
        median(&|pair| pair.floor.amount.rate() / 1e6, 0),
        median(&|pair| pair.logd.p99() / pair.floor.p99(), 2),
        median(&|pair| pair.logd.cpu_per_gb(), 2),
        median(&|pair| pair.floor.cpu_per_gb(), 2),
        median(&|pair| pair.logd.usage.peak_mib, 1),
        median(&|pair| pair.floor.usage.peak_mib, 1),
    ]
}

/// How much more is done for more connections, where they share a sync.
fn compare_connections(report: Report, synced: &[(usize, usize, Vec<Pair<Run>>)]) -> io::Result<()> {
    let table = report.table("Sync, one topic, by connections", MORE_COLUMNS)?;
    for (connections, kib, rounds) in synced {
        let Some((_, _, fewest)) = synced.iter().find(|(_, other, _)| other == kib) else { continue };
        let rate = |rounds: &[Pair<Run>], side: fn(&Pair<Run>) -> &Run| {
            Spread::of(rounds, |pair| side(pair).requests_per_second()).median
        };
        let (logd, floor) = (rate(rounds, |pair| &pair.logd), rate(rounds, |pair| &pair.floor));
        table.row(&[
            Cell::count(*kib),
            Cell::count(*connections),
            Cell::Number(logd, 0),
            Cell::Number(floor, 0),
            Cell::Ratio(logd / rate(fewest, |pair| &pair.logd)),
            Cell::Ratio(floor / rate(fewest, |pair| &pair.floor)),
        ])?;
    }
    Ok(())
}
