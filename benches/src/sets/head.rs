//! Reading the newest batch while others write: how much longer a reader waits than alone.

use std::io;

use super::{BATCH_BYTES, BYTES_MAX, rounds};
use crate::args::Options;
use crate::figures::Spread;
use crate::load::{Amount, read_newest};
use crate::process::Side;
use crate::report::{Cell, Report};

/// How many connections write at full speed.
const WRITERS: usize = 4;

const COLUMNS: &[&str] = &[
    "server",
    "p50 us alone",
    "p99 us alone",
    "p50 us with 4 writers",
    "p99 us with 4 writers",
    "p99 over alone",
    "least to most",
];

/// What a reader did.
struct Run {
    alone: Amount,
    with_writers: Amount,
}

/// Prints the table.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    let table = report.table("Head", COLUMNS)?;
    let rounds = rounds(options, |side: Side| {
        let read = |writers| read_newest(side.address(), writers, BATCH_BYTES, options.time, BYTES_MAX);
        Ok(Run { alone: read(0)?, with_writers: read(WRITERS)? })
    })?;
    let (logd, floor): (Vec<Run>, Vec<Run>) = rounds.into_iter().map(|pair| (pair.logd, pair.floor)).unzip();
    for (name, runs) in [("logd", logd), ("floor", floor)] {
        let micros = |figure: &dyn Fn(&Run) -> f64| Cell::Number(Spread::of(&runs, figure).median, 0);
        let ratios = Spread::of(&runs, |run| run.with_writers.micros(0.99) / run.alone.micros(0.99));
        table.row(&[
            Cell::text_of(name),
            micros(&|run| run.alone.micros(0.5)),
            micros(&|run| run.alone.micros(0.99)),
            micros(&|run| run.with_writers.micros(0.5)),
            micros(&|run| run.with_writers.micros(0.99)),
            Cell::Ratio(ratios.median),
            Cell::ends(ratios),
        ])?;
    }
    Ok(())
}
