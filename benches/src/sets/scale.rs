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
    "logd, ten times as much costs",
    "floor, ten times as much costs",
];

/// The work of a line.
struct Case {
    is_read: bool,
    bytes: u64,
    topics: usize,
    connections: usize,
}

/// Prints the table: for each step to ten times as much, what the work costs then.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Scale", COLUMNS)?;
    let once = options.scale_bytes;
    for is_read in [false, true] {
        let case = |bytes, topics, connections| Case { is_read, bytes, topics, connections };
        let bytes = vec![case(once, 1, CONNECTIONS), case(once * 10, 1, CONNECTIONS)];
        // Among many connections each must find something left to do.
        let topics = options.scale.iter().map(|count| case(once * 4, *count, CONNECTIONS)).collect();
        let connections = options.scale.iter().map(|count| case(once * 4, 1, *count)).collect();
        for cases in [bytes, topics, connections] {
            let mut before = None;
            for case in &cases {
                let costs = rounds(options, |side| case.cost(&side))?;
                table.row(&row(case, &costs, before.as_deref()))?;
                before = Some(costs);
            }
        }
    }
    Ok(())
}

impl Case {
    /// In seconds of processors for a GB.
    fn cost(&self, side: &Side) -> io::Result<f64> {
        let topics = self.topics;
        let work = if self.is_read {
            // A tenth of what is read, over all topics, but in each as much as one READ asks for: one that finds less
            // costs no less, and that would be taken for what topics cost.
            let bytes = (self.bytes / 10 / topics as u64).max((READ_BYTES + BATCH_BYTES) as u64);
            fill(side.address(), topics, bytes, BATCH_BYTES)?;
            Work::Read { bytes: READ_BYTES }
        } else {
            // Topics are created once: that is not what more of them cost.
            fill(side.address(), topics, 1, BATCH_BYTES)?;
            Work::Write { bytes: BATCH_BYTES }
        };
        let load = Load { work, connections: self.connections, topics, time: ENDLESS, bytes_max: self.bytes };
        let before = side.usage()?;
        let amount = load.run(side.address())?;
        let seconds = side.usage()?.cpu.saturating_sub(before.cpu).as_secs_f64();
        Ok(seconds * 1e9 / amount.bytes as f64)
    }
}

/// `before` are the costs of a tenth: of the same for each byte, ten times as much costs ten times as much.
fn row(case: &Case, costs: &[Pair<f64>], before: Option<&[Pair<f64>]>) -> Vec<Cell> {
    let logd = Spread::of(costs, |pair| pair.logd);
    let floor = Spread::of(costs, |pair| pair.floor);
    let steps = before.map_or_else(
        || [Cell::text_of("-"), Cell::text_of("-")],
        |before| {
            let logd = logd.median / Spread::of(before, |pair| pair.logd).median;
            let floor = floor.median / Spread::of(before, |pair| pair.floor).median;
            [Cell::Ratio(logd * 10.0), Cell::Number(floor * 10.0, 2)]
        },
    );
    let [logd_step, floor_step] = steps;
    vec![
        Cell::text_of(if case.is_read { "read" } else { "write" }),
        Cell::Number(case.bytes as f64 / 1e9, 2),
        Cell::count(case.topics),
        Cell::count(case.connections),
        Cell::Number(logd.median, 2),
        Cell::ends(logd),
        Cell::Number(floor.median, 2),
        logd_step,
        floor_step,
    ]
}
