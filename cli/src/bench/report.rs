//! What was measured, as tables for people or as one JSON object.
//!
//! A phase that was begun is there, however it ended; one that was not is `null`, and so is the latency where no request
//! was answered.

use std::fmt::Write as _;

use logd_client::ServerSettings;
use serde_json::{Value, json};

use super::plan::{Plan, Work};
use super::tally::{Latency, Tally};
use crate::exit::Failure;

/// The sums of a measurement.
#[derive(Debug)]
pub(super) struct Report {
    host: String,
    version: Option<String>,
    flush_batches: Option<u64>,
    connections: usize,
    topics: Vec<String>,
    batch_bytes: usize,
    message_bytes: Option<usize>,
    phases: Vec<(Work, Tally)>,
    is_interrupted: bool,
    failure: Option<Failure>,
}

impl Report {
    pub(super) fn new(plan: &Plan, server: ServerSettings) -> Self {
        Self {
            host: plan.config.host().into(),
            version: server.version,
            flush_batches: server.flush_batches,
            connections: plan.connections,
            topics: plan.topics.iter().map(ToString::to_string).collect(),
            batch_bytes: plan.batch_bytes,
            message_bytes: plan.message_bytes,
            phases: Vec::new(),
            is_interrupted: false,
            failure: None,
        }
    }

    pub(super) fn add(&mut self, work: Work, mut tally: Tally) {
        if let Some(failure) = tally.failure.take() {
            self.fail(failure.and(format_args!(
                "; `{}` batches had succeeded in the phase `{}`",
                tally.batches,
                work.name()
            )));
        }
        self.phases.push((work, tally));
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    pub(super) const fn interrupt(&mut self, is_interrupted: bool) {
        self.is_interrupted = is_interrupted;
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(super) fn into_failure(self) -> Option<Failure> {
        self.failure
    }

    /// What is printed; nothing where nothing was measured, unless a program reads it.
    pub(super) fn text(&self, is_json: bool) -> String {
        match is_json {
            true => format!("{}\n", self.json()),
            false if self.phases.is_empty() => String::new(),
            false => self.tables(),
        }
    }

    fn json(&self) -> Value {
        let phase = |wanted: Work| {
            let found = self.phases.iter().find(|(work, _)| *work == wanted);
            found.map(|(_, tally)| phase_json(tally))
        };
        json!({
            "host": self.host,
            "version": self.version,
            "flush_batches": self.flush_batches,
            "connections": self.connections,
            "topics": self.topics,
            "batch_bytes_max": self.batch_bytes,
            "message_bytes": self.message_bytes,
            "interrupted": self.is_interrupted,
            "failure": self.failure.as_ref().map(ToString::to_string),
            "write": phase(Work::Write),
            "read": phase(Work::Read),
        })
    }

    fn tables(&self) -> String {
        let head =
            ["", "TIME", "BYTES", "BATCHES", "MESSAGES", "BYTES/S", "BATCHES/S", "MESSAGES/S", "FAILED"];
        let mut counts = vec![head.map(String::from).to_vec()];
        let mut times =
            vec![["LATENCY", "MIN", "P50", "P90", "P95", "P99", "MAX"].map(String::from).to_vec()];
        for (work, tally) in &self.phases {
            counts.push(vec![
                work.name().into(),
                format!("{:.2} s", tally.time.as_secs_f64()),
                bytes_text(tally.bytes as f64),
                tally.batches.to_string(),
                tally.messages.to_string(),
                bytes_text(tally.rate(tally.bytes)),
                format!("{:.0}", tally.rate(tally.batches)),
                format!("{:.0}", tally.rate(tally.messages)),
                tally.failed.to_string(),
            ]);
            times.push(latency_row(*work, tally.latency()));
        }
        let mut text = format!("{}\n\n{}\n{}", self.headline(), table(&counts), table(&times));
        for (work, tally) in self.phases.iter().filter(|(_, tally)| tally.abandoned > 0) {
            // Writing to a string cannot fail.
            let _ =
                writeln!(text, "\n{}: `{}` requests under way were abandoned", work.name(), tally.abandoned);
        }
        text
    }

    fn headline(&self) -> String {
        let version = self.version.as_deref().unwrap_or("of a version that it does not tell");
        let what =
            self.message_bytes.map_or_else(String::new, |bytes| format!("messages of {bytes} bytes in "));
        let topics = match self.topics.as_slice() {
            [first, .., last] => format!("{} topics `{first}` to `{last}`", self.topics.len()),
            topics => format!("topic `{}`", topics.concat()),
        };
        let sync = match self.flush_batches {
            Some(0) => ", not synced before the answer".into(),
            Some(1) => ", synced before the answer".into(),
            Some(batches) => format!(", synced after {batches} batches"),
            None => String::new(),
        };
        let connections = if self.connections == 1 { "connection" } else { "connections" };
        format!(
            "logd {version} at {}: {} {connections}, {topics}, {what}batches of at most {} bytes{sync}",
            self.host, self.connections, self.batch_bytes
        )
    }
}

fn phase_json(tally: &Tally) -> Value {
    json!({
        "seconds": tally.time.as_secs_f64(),
        "bytes": tally.bytes,
        "batches": tally.batches,
        "messages": tally.messages,
        "bytes_per_second": tally.rate(tally.bytes),
        "batches_per_second": tally.rate(tally.batches),
        "messages_per_second": tally.rate(tally.messages),
        "failed": tally.failed,
        "abandoned": tally.abandoned,
        "latency_nanos": tally.latency().map(|latency| json!({
            "min": latency.min,
            "p50": latency.p50,
            "p90": latency.p90,
            "p95": latency.p95,
            "p99": latency.p99,
            "max": latency.max,
        })),
    })
}

fn latency_row(work: Work, latency: Option<Latency>) -> Vec<String> {
    let times = latency.map_or_else(
        || vec!["-".into(); 6],
        |Latency { min, p50, p90, p95, p99, max }| [min, p50, p90, p95, p99, max].map(time_text).to_vec(),
    );
    std::iter::once(work.name().into()).chain(times).collect()
}

/// The first column to the left, all others to the right.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ =
                if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

/// A number of bytes as people read it.
fn bytes_text(bytes: f64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024.0 {
        return format!("{bytes:.0} B");
    }
    let mut amount = bytes / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while amount >= 1024.0 {
        let Some(larger) = units.next() else { break };
        (amount, unit) = (amount / 1024.0, Some(larger));
    }
    format!("{amount:.1} {}", unit.unwrap_or(&"KiB"))
}

/// A time as people read it.
fn time_text(nanos: u64) -> String {
    let nanos = nanos as f64;
    if nanos < 1e6 {
        format!("{:.0} µs", nanos / 1e3)
    } else if nanos < 1e9 {
        format!("{:.2} ms", nanos / 1e6)
    } else {
        format!("{:.2} s", nanos / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_the_unit_that_fits() {
        let sizes = [0.0, 1023.0, 1024.0, 1_572_864.0, 1_073_741_824.0, 1e18].map(bytes_text);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "1.0 GiB", "909494.7 TiB"]);
        let times = [0, 1_500, 999_000, 1_500_000, 2_500_000_000].map(time_text);
        assert_eq!(times, ["0 µs", "2 µs", "999 µs", "1.50 ms", "2.50 s"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["", "TIME"], vec!["write", "1 µs"], vec!["read", "10.00 ms"]]
            .map(|row| row.into_iter().map(String::from).collect());
        assert_eq!(table(&rows), "           TIME\nwrite      1 µs\nread   10.00 ms\n");
    }
}
