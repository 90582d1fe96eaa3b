//! The sets of loads, a file each, and what they have in common: which options logd is started with, and what a round is.

mod compare;
mod head;
mod latency;
mod memory;
mod messages;
mod redis;
mod scale;

use std::io;

use crate::args::{Options, Set};
use crate::process::Side;
use crate::report::Report;

/// What is given to logd: a partition that no load fills, for what follows a full one, syncing and removing it, is not
/// measured; room for the largest batches; any number of topics.
const LOGD: [&str; 6] = ["--partition-size", "64GiB", "--batch-size", "2MiB", "--topics", "0"];
/// The most that a load writes. The kernel begins to write back, and to slow writers down, at some tenth of the memory:
/// what is measured is the way into the page cache.
const BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// How much is asked for with each request when reading.
const READ_BYTES: usize = 1024 * 1024;
/// The batches of loads whose batches are of one size.
const BATCH_BYTES: usize = 64 * 1024;

/// Runs the sets of loads that are asked for, and prints their tables.
///
/// # Errors
/// A server does not start, a request fails, or an answer is not right.
pub fn run(options: &Options) -> io::Result<()> {
    let report = Report::new(options.is_json);
    for set in &options.sets {
        match set {
            Set::Write | Set::Read | Set::Sync => compare::run(options, report, *set)?,
            Set::Messages => messages::run(options, report)?,
            Set::Latency => latency::run(options, report)?,
            Set::Head => head::run(options, report)?,
            Set::Redis => redis::run(options, report)?,
            Set::Memory => memory::run(options, report)?,
            Set::Scale => scale::run(options, report)?,
        }
    }
    Ok(())
}

/// What both sides did in a round.
struct Pair<T> {
    logd: T,
    floor: T,
}

/// How a side is started.
type Start = fn() -> io::Result<Side>;

/// Measures both sides, each started anew, as often as there are rounds.
fn rounds<T>(options: &Options, measure: impl Fn(Side) -> io::Result<T>) -> io::Result<Vec<Pair<T>>> {
    rounds_of(options, || Side::logd(&LOGD), || Side::floor(&[]), measure)
}

/// As [`rounds`]. The second finds the memory and the disk as the first has left them, so they begin in turn.
fn rounds_of<T>(
    options: &Options,
    logd: Start,
    floor: Start,
    measure: impl Fn(Side) -> io::Result<T>,
) -> io::Result<Vec<Pair<T>>> {
    (0..options.rounds)
        .map(|round| {
            if round % 2 == 0 {
                let logd = measure(logd()?)?;
                Ok(Pair { logd, floor: measure(floor()?)? })
            } else {
                let floor = measure(floor()?)?;
                Ok(Pair { logd: measure(logd()?)?, floor })
            }
        })
        .collect()
}
