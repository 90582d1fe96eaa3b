//! The arguments of `log-cli bench`.

use std::time::Duration;

use logd_client::limits::BATCH_BYTES_MAX;

use super::{batch_bytes, size, time_limit};

/// The most connections. A load of more is that of many machines.
const CONNS_MAX: u64 = 1000;

/// Arguments of `bench`.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
pub(crate) struct Bench {
    /// How many connections there are, each with one request under way, from 1 to 1000.
    #[arg(long, default_value_t = 10, value_parser = connections, value_name = "N")]
    pub(crate) conns: usize,
    /// Over how many topics the connections are spread, at most one for each.
    #[arg(long, default_value_t = 1, value_parser = connections, value_name = "N")]
    pub(crate) topics: usize,
    /// What the topics' names begin with; a number from 0 on follows. They stay when the measurement is over.
    #[arg(long, default_value = "bench-", value_name = "TEXT")]
    pub(crate) topic_prefix: String,
    /// How long to write, and then how long to read.
    #[arg(long, default_value = "10s", value_parser = time_limit, value_name = "TIME")]
    pub(crate) duration: Duration,
    /// The most bytes of a batch that is written, envelope and body.
    #[arg(long, default_value = "64KiB", value_parser = batch_bytes, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Write messages of so many bytes with a writer on each connection, several batches under way, and read them with
    /// a scanner, instead of whole batches. Each scanner reads its topic once, from the oldest message to the end.
    #[arg(long, value_parser = message_bytes, value_name = "BYTES")]
    pub(crate) messages: Option<usize>,
    /// Only read what the topics have.
    #[arg(long, conflicts_with = "only_write")]
    pub(crate) only_read: bool,
    /// Only write.
    #[arg(long)]
    pub(crate) only_write: bool,
    /// Measure writing that is safe from a power cut: go on only where the server syncs before each answer, as
    /// `logd --flush-batches 1` does.
    #[arg(long, conflicts_with = "only_read")]
    pub(crate) sync: bool,
    /// Print one JSON object instead of tables. Times are in seconds and nanoseconds.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the help says behind the options.
pub(crate) fn help() -> String {
    [
        "What is measured: with each request one batch is appended, or read and checked. Batches are filled with \
         messages of 100 bytes. A reader begins at the oldest batch, and again there at the end. The latency is that of \
         a request; with `--messages`, from the writing of one message to its acknowledgement, and how long a scanner \
         had to wait for more.",
        "The client takes part of the machine: where the server is on the same one, both share it. What is written can \
         lie in memory: whether the server syncs before it answers is its own setting, `logd --flush-batches`. It is \
         told in the first line; `--sync` makes sure of it.",
        "The first request that fails ends the measurement; what was measured is printed all the same.",
        &crate::exit::help(),
    ]
    .join("\n\n")
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=CONNS_MAX).contains(&number) => usize::try_from(number).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("it must be a number from 1 to {CONNS_MAX}"))
}

fn message_bytes(text: &str) -> Result<usize, String> {
    size(text)
        .filter(|bytes| (1..=BATCH_BYTES_MAX).contains(bytes))
        .ok_or_else(|| format!("it must be from 1 to {BATCH_BYTES_MAX} bytes, as `100` or `1KiB`"))
}
