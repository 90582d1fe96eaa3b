//! What `side-by-side` takes.

use std::time::Duration;

use clap::{Parser, ValueEnum};

const MIB: u64 = 1024 * 1024;

/// Loads that are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// Batches written.
    Write,
    /// Batches read.
    Read,
    /// Batches written, each answered when it is synced.
    Sync,
    /// Messages through the client, written and scanned.
    Messages,
    /// From a write to the message at a following reader.
    Latency,
    /// Batches read where they are being written.
    Head,
    /// Messages through the client, beside Redis Streams.
    Redis,
    /// What a server holds, and how long it takes to start.
    Memory,
    /// What the same work costs, over more topics and connections.
    Scale,
}

/// What is measured, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The sets, in order.
    pub sets: Vec<Set>,
    /// How often both sides are measured; at least 1.
    pub rounds: usize,
    /// For how long each time.
    pub time: Duration,
    /// The numbers of connections that are compared; none is 0.
    pub connections: Vec<usize>,
    /// The numbers of topics that are compared; none is 0.
    pub topics: Vec<usize>,
    /// The sizes of batches that are compared, in KiB.
    pub kib: Vec<usize>,
    /// The bytes that are read, again and again, over all topics.
    pub fill_bytes: u64,
    /// The bytes of a topic that a server is started with.
    pub start_bytes: u64,
    /// The connections whose memory is measured.
    pub crowd: usize,
    /// The numbers of topics and of connections over which the same work is spread.
    pub scale: Vec<usize>,
    /// The bytes of that work; a tenth of the most.
    pub scale_bytes: u64,
    /// Whether each figure is a line of JSON.
    pub is_json: bool,
}

/// Compares logd with the floor under the same loads.
#[derive(Debug, Parser)]
struct Arguments {
    /// Measures only these sets of loads.
    #[arg(long, value_delimiter = ',', value_name = "SETS")]
    only: Vec<Set>,
    /// Shows in a minute whether everything works: one short round of few loads. Its figures say little.
    #[arg(long)]
    quick: bool,
    /// Measures both so often. The default is 5.
    #[arg(long, value_parser = positive)]
    rounds: Option<usize>,
    /// Measures for so many seconds each time, from 0.01 to 3600. The default is 2.
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,
    /// Compares only these numbers of connections. The default is 1,4,16.
    #[arg(long, value_delimiter = ',', value_name = "COUNTS", value_parser = positive)]
    connections: Vec<usize>,
    /// Compares only these numbers of topics. The default is 1,4.
    #[arg(long, value_delimiter = ',', value_name = "COUNTS", value_parser = positive)]
    topics: Vec<usize>,
    /// Compares only batches of so many KiB. The default is 4,64,512.
    #[arg(long, value_delimiter = ',', value_name = "KIB", value_parser = positive)]
    kib: Vec<usize>,
    /// Starts servers with so many GB of data, from 0.001 to 1000. The default is 2.
    #[arg(long, value_name = "GB", value_parser = gigabytes)]
    start_gb: Option<u64>,
    /// Prints each line of the tables as a JSON object.
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Those of the command line. Ends the process where they are wrong.
    pub fn from_env() -> Self {
        Arguments::parse().into()
    }
}

impl From<Arguments> for Options {
    fn from(given: Arguments) -> Self {
        let quick = given.quick;
        let or = |list: Vec<usize>, usual: &[usize], quickly: &[usize]| match list {
            list if !list.is_empty() => list,
            _ if quick => quickly.to_vec(),
            _ => usual.to_vec(),
        };
        Self {
            sets: if given.only.is_empty() { Set::value_variants().to_vec() } else { given.only },
            rounds: given.rounds.unwrap_or(if quick { 1 } else { 5 }),
            time: given.seconds.unwrap_or(Duration::from_millis(if quick { 200 } else { 2000 })),
            connections: or(given.connections, &[1, 4, 16], &[1, 4]),
            topics: or(given.topics, &[1, 4], &[1]),
            kib: or(given.kib, &[4, 64, 512], &[64]),
            fill_bytes: if quick { 8 * MIB } else { 256 * MIB },
            start_bytes: given.start_gb.unwrap_or(if quick { 20_000_000 } else { 2_000_000_000 }),
            crowd: if quick { 50 } else { 1000 },
            scale: or(Vec::new(), &[1, 10, 100, 1000], &[1, 10]),
            scale_bytes: if quick { 2_000_000 } else { 400_000_000 },
            is_json: given.json,
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it must be a number of 1 or more".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "it must be from 0.01 to 3600".to_owned())
}

fn gigabytes(text: &str) -> Result<u64, String> {
    let gigabytes = text.parse().ok().filter(|gigabytes| (0.001..=1000.0).contains(gigabytes));
    // Read as a time, in which a GB is a second: a nanosecond is a byte.
    let bytes =
        gigabytes.and_then(|gigabytes| u64::try_from(Duration::from_secs_f64(gigabytes).as_nanos()).ok());
    bytes.ok_or_else(|| "it must be from 0.001 to 1000".to_owned())
}
