//! What the same work costs the server when it is more, over more topics, and over more connections: the time of
//! processors, which says more than throughput where the load needs them too.

use std::io;
use std::time::Duration;

use super::{BATCH_BYTES, Pair, READ_BYTES, rounds};
use crate::args::Options;
use crate::figures::Spread;
use crate::load::{Load, Work, fill};
use crate::process::Side;
use crate::report::{Cell, Report};

/// How many connections work where that is not what is varied.
const CONNECTIONS: usize = 4;
/// A load of so many bytes ends by them, not by its time.
const ENDLESS: Duration = Duration::from_secs(3600);

const COLUMNS: &[&str] = &[
    "work",
    "GB",
    "topics",
    "connections",
    "logd CPU s/GB",
    "least to most",
    "floor CPU s/GB",
    "logd CPU s/100,000 requests",
    "floor CPU s/100,000 requests",
];

/// The work of a line.
struct Case {
    is_read: bool,
    bytes: u64,
    topics: usize,
    connections: usize,
}

/// What it cost, in seconds.
struct Cost {
    per_gb: f64,
    per_100_000: f64,
}

/// Prints the table.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Scale", COLUMNS)?;
    let once = options.scale_bytes;
    for is_read in [false, true] {
        let case = |bytes, topics, connections| Case { is_read, bytes, topics, connections };
        let more = [case(once, 1, CONNECTIONS), case(once * 10, 1, CONNECTIONS)];
        let topics = options.scale.iter().filter(|count| **count > 1);
        let topics = topics.map(|count| case(once * 4, *count, CONNECTIONS));
        let connections = options.scale.iter().map(|count| case(once * 4, 1, *count));
        for case in more.into_iter().chain(topics).chain(connections) {
            table.row(&row(&case, &rounds(options, |side| case.cost(&side))?))?;
        }
    }
    Ok(())
}

impl Case {
    fn cost(&self, side: &Side) -> io::Result<Cost> {
        let topics = self.topics;
        let work = if self.is_read {
            // A tenth of what is read, over all topics.
            fill(side.address(), topics, self.bytes / 10 / topics as u64, BATCH_BYTES)?;
            Work::Read { bytes: READ_BYTES }
        } else {
            Work::Write { bytes: BATCH_BYTES }
        };
        let load = Load { work, connections: self.connections, topics, time: ENDLESS, bytes_max: self.bytes };
        let before = side.usage()?;
        let amount = load.run(side.address())?;
        let seconds = side.usage()?.cpu.saturating_sub(before.cpu).as_secs_f64();
        Ok(Cost {
            per_gb: seconds * 1e9 / amount.bytes as f64,
            per_100_000: seconds * 1e5 / amount.requests as f64,
        })
    }
}

fn row(case: &Case, rounds: &[Pair<Cost>]) -> Vec<Cell> {
    let logd = Spread::of(rounds, |pair| pair.logd.per_gb);
    vec![
        Cell::text_of(if case.is_read { "read" } else { "write" }),
        Cell::Number(case.bytes as f64 / 1e9, 2),
        Cell::count(case.topics),
        Cell::count(case.connections),
        Cell::Number(logd.median, 2),
        Cell::ends(logd),
        Cell::Number(Spread::of(rounds, |pair| pair.floor.per_gb).median, 2),
        Cell::Number(Spread::of(rounds, |pair| pair.logd.per_100_000).median, 2),
        Cell::Number(Spread::of(rounds, |pair| pair.floor.per_100_000).median, 2),
    ]
}
