//! What `side-by-side` takes.

use clap::{Parser, ValueEnum};

/// Loads that are of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// Batches written.
    Write,
    /// Batches read.
    Read,
    /// Batches written, each answered when it is synced.
    Sync,
    /// Messages of 100 bytes through a Writer and a Scanner, and through Redis Streams where that is installed.
    Messages,
    /// From a write to a following Scanner.
    Latency,
    /// What is resident when idle, and with 1,000 connections that write.
    Memory,
}

/// Compares logd with the floor under the same loads.
#[derive(Debug, Parser)]
pub struct Options {
    /// Only these sets of loads.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Set>,
    /// How often both are measured.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// For how many milliseconds each time.
    #[arg(long, default_value_t = 1000)]
    pub millis: u64,
    /// So many messages.
    #[arg(long, default_value_t = 2_000_000)]
    pub messages: u64,
    /// Only these numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 16])]
    pub connections: Vec<usize>,
    /// Only these numbers of topics.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    pub topics: Vec<usize>,
    /// Only batches of so many KiB.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 64, 512])]
    pub kib: Vec<usize>,
}

impl Options {
    /// Those of the command line. Ends the process where they are wrong.
    pub fn from_env() -> Self {
        Self::parse()
    }
}
