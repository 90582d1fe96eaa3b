//! Runs logd and the floor in turn under the same loads, and prints how logd compares.
//!
//!     cargo build --release -p logd-server -p logd-benches
//!     cargo run --release -p logd-benches --bin side-by-side
//!
//! Every line is a load. Each round starts both servers anew, one after the other, in fresh directories; the ratios are
//! those of a round, and what is printed is the median of the rounds, and the least and the most.

use std::io::{self, Write};
use std::time::Duration;

use logd_benches::args::{Options, Set};
use logd_benches::messages::{Redis, latency, through_logd};
use logd_benches::{Amount, Load, Side, Usage, Work, fill};

/// What is given to logd so that the largest batches fit.
const BATCH_SIZE: [&str; 2] = ["--batch-size", "2MiB"];
/// What is read.
const FILL_BYTES: u64 = 256 * 1024 * 1024;
/// How much is asked for with each request when reading.
const READ_BYTES: usize = 1024 * 1024;

/// What one side has done in a round.
struct Run {
    amount: Amount,
    cpu: Duration,
    usage: Usage,
}

fn main() -> io::Result<()> {
    let options = Options::from_env();
    let sets = [Set::Write, Set::Read, Set::Sync, Set::Messages, Set::Latency, Set::Memory];
    for set in sets.into_iter().filter(|set| options.only.is_empty() || options.only.contains(set)) {
        match set {
            Set::Write | Set::Read | Set::Sync => compare(&options, set)?,
            Set::Messages => compare_messages(&options)?,
            Set::Latency => print_latency(&options)?,
            Set::Memory => print_memory(&options)?,
        }
    }
    Ok(())
}

/// Prints how many messages a second go through, beside what the floor writes in the same round.
fn compare_messages(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut out = io::stdout();
    writeln!(
        out,
        "\nMessages\n\n| round | logd written/s | logd read/s | floor, 1 connection, 64 KiB, MB/s | Redis written/s | Redis \
         read/s | written, of Redis | read, of Redis |\n|---|---|---|---|---|---|---|---|"
    )?;
    let rate = |time: Duration| options.messages as f64 / time.as_secs_f64();
    for round in 1..=options.rounds {
        let logd = Side::logd(&BATCH_SIZE)?;
        let times = runtime.block_on(through_logd(logd.address(), options.messages))?;
        drop(logd);
        let floor = run(options, Set::Write, "floor", 1, 1, 64 * 1024)?.amount.rate() / 1e6;
        let count = usize::try_from(options.messages / 10).unwrap_or(usize::MAX);
        let redis = Redis::start()?.map(|redis| redis.run(count)).transpose()?;
        let of_redis = redis.map_or_else(
            || "| not installed | | | |".to_owned(),
            |redis| {
                let (written, read) = (10.0 * redis.written.as_secs_f64(), 10.0 * redis.read.as_secs_f64());
                let (w, r) = (written / times.written.as_secs_f64(), read / times.read.as_secs_f64());
                let rate = |time: f64| options.messages as f64 / time;
                format!("| {:.0} | {:.0} | **{w:.1}** | **{r:.1}** |", rate(written), rate(read))
            },
        );
        writeln!(
            out,
            "| {round} | {:.0} | {:.0} | {floor:.0} {of_redis}",
            rate(times.written),
            rate(times.read)
        )?;
    }
    Ok(())
}

/// Prints the time from a write to a following scanner.
fn print_latency(options: &Options) -> io::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut out = io::stdout();
    writeln!(out, "\nLatency\n\n| round | p50 µs | p90 µs | p99 µs | most µs |\n|---|---|---|---|---|")?;
    for round in 1..=options.rounds {
        let logd = Side::logd(&[])?;
        let latency = runtime.block_on(latency(logd.address(), options.messages.min(2000)))?;
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
        writeln!(
            out,
            "| {round} | {:.0} | {:.0} | {:.0} | {:.0} |",
            at(0.5),
            at(0.9),
            at(0.99),
            latency.max() as f64 / 1e3
        )?;
    }
    Ok(())
}

/// Prints what is resident.
fn print_memory(options: &Options) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "\nMemory\n\n| logd | resident MiB | most MiB |\n|---|---|---|")?;
    let logd = Side::logd(&[])?;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let idle = logd.usage()?;
    writeln!(out, "| idle | {:.1} | {:.1} |", mib(idle.resident_kib), mib(idle.peak_kib))?;
    let work = Work::Write { bytes: 16 * 1024 };
    let time = Duration::from_millis(options.millis);
    Load { work, connections: 1000, topics: 4, time }.run(logd.address())?;
    let busy = logd.usage()?;
    writeln!(
        out,
        "| 1,000 connections that write 16 KiB | {:.1} | {:.1} |",
        mib(busy.resident_kib),
        mib(busy.peak_kib)
    )?;
    logd.stop()
}

/// Prints the table of a set.
fn compare(options: &Options, set: Set) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "\n{set:?}\n\n| connections | topics | batch | of the floor | least to most | logd MB/s | floor MB/s | p99 of the \
         floor's | CPU s/GB | floor's | peak MiB |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for connections in &options.connections {
        for topics in options.topics.iter().filter(|topics| *topics <= connections) {
            for kib in &options.kib {
                let mut rounds = Vec::new();
                for _ in 0..options.rounds {
                    let of = |side| run(options, set, side, *connections, *topics, kib * 1024);
                    rounds.push((of("logd")?, of("floor")?));
                }
                writeln!(out, "| {connections} | {topics} | {kib} KiB {}", row(&rounds))?;
                out.flush()?;
            }
        }
    }
    Ok(())
}

fn run(
    options: &Options,
    set: Set,
    side: &str,
    connections: usize,
    topics: usize,
    bytes: usize,
) -> io::Result<Run> {
    let is_synced = set == Set::Sync;
    let side = match side {
        "logd" if is_synced => Side::logd(&[&BATCH_SIZE[..], &["--flush-batches", "1"]].concat())?,
        "logd" => Side::logd(&BATCH_SIZE)?,
        _ if is_synced => Side::floor(&["--sync"])?,
        _ => Side::floor(&[])?,
    };
    let work = if set == Set::Read {
        fill(side.address(), topics, FILL_BYTES / topics as u64, bytes)?;
        Work::Read { bytes: READ_BYTES }
    } else {
        Work::Write { bytes }
    };
    let load = Load { work, connections, topics, time: Duration::from_millis(options.millis) };
    let warm_up = Load { time: load.time / 10, ..load };
    warm_up.run(side.address())?;
    let before = side.usage()?;
    let amount = load.run(side.address())?;
    let usage = side.usage()?;
    Ok(Run { amount, cpu: usage.cpu.saturating_sub(before.cpu), usage })
}

fn row(rounds: &[(Run, Run)]) -> String {
    let of = |figure: &dyn Fn(&(Run, Run)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    };
    let median = |figure: &dyn Fn(&(Run, Run)) -> f64| {
        let figures = of(figure);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let ratios = of(&|(logd, floor)| logd.amount.rate() / floor.amount.rate());
    let (least, most) = (ratios.first().copied(), ratios.last().copied());
    let p99 = |run: &Run| run.amount.latency.value_at_quantile(0.99) as f64;
    let cost = |run: &Run| run.cpu.as_secs_f64() * 1e9 / run.amount.bytes as f64;
    format!(
        "| **{:.2}** | {:.2} to {:.2} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.1} |",
        median(&|(logd, floor)| logd.amount.rate() / floor.amount.rate()),
        least.unwrap_or(f64::NAN),
        most.unwrap_or(f64::NAN),
        median(&|(logd, _)| logd.amount.rate() / 1e6),
        median(&|(_, floor)| floor.amount.rate() / 1e6),
        median(&|(logd, floor)| p99(logd) / p99(floor)),
        median(&|(logd, _)| cost(logd)),
        median(&|(_, floor)| cost(floor)),
        median(&|(logd, _)| logd.usage.peak_kib as f64 / 1024.0),
    )
}
