//! The settings of a server: their defaults, their bounds, and how they are named when one is impossible.
//!
//! A [`Config`] is plain data that anyone can build; [`Config::validate`] is where it is checked, once, before a server
//! starts with it. Where the values come from is no concern of this file.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use logd_protocol::{TopicName, limits};
use thiserror::Error;

/// Bounds of every time. A day is longer than any request needs, and far from where sums of times overflow.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// Bounds of [`Config::batch_bytes`].
const BATCH_BYTES: RangeInclusive<u64> = limits::BATCH_BYTES_MIN as u64..=limits::BATCH_BYTES_MAX as u64;

/// The largest [`Config::partition_bytes`]: beyond what a file system holds, and far from where sums overflow.
const PARTITION_BYTES_MAX: u64 = 1 << 60;

/// Bounds of [`Config::partitions`]. Each is a file, listed when the server starts.
const PARTITIONS: RangeInclusive<u64> = 1..=100_000;

/// Bounds of [`Config::flush_batches`].
const FLUSH_BATCHES: RangeInclusive<u64> = 0..=1_000_000;

/// Bounds of [`Config::max_messages`].
const MAX_MESSAGES: RangeInclusive<u64> = 1..=10_000_000;

/// Bounds of [`Config::topics`]. Each is a directory, opened when the server starts.
const TOPICS: RangeInclusive<u64> = 0..=100_000;

/// Bounds of [`Config::max_connections`]: the most open files that Linux allows a process by default.
const MAX_CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;

/// What the owner of a file must be allowed, for the server to read back what it wrote.
const OWNER_READS_AND_WRITES: u32 = 0o600;

/// The settings of a server.
///
/// ```
/// use logd_server::Config;
///
/// let config = Config { batch_bytes: 1024 * 1024, ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address and port to listen on; port 0 takes a free one. Default `127.0.0.1:1774`.
    pub host: String,
    /// The longest time in which a request or an answer makes no progress before its connection is closed.
    /// 1 ms to 1 day, default 15 s.
    pub timeout: Duration,
    /// The longest time that a connection can stay without a request. 1 ms to 1 day, default 30 s.
    pub idle_timeout: Duration,
    /// The longest time that a shutdown waits for the requests in work. 1 ms to 1 day, default 15 s.
    pub shutdown_timeout: Duration,
    /// The directory with the topics. Default `logs/`.
    pub workdir: PathBuf,
    /// The permissions of new files, at least `0o600` and at most `0o777`. Default `0o600`.
    pub file_mode: u32,
    /// The most bytes of a batch, envelope and body together. 512 to 64 MiB, default 65536.
    pub batch_bytes: usize,
    /// The bytes at which a partition is full. At least [`Config::batch_bytes`], at most 2^60, default 2097152000.
    pub partition_bytes: u64,
    /// The most partitions that a topic keeps; the oldest goes first. 1 to 100000, default 8.
    pub partitions: usize,
    /// After how many batches a topic is synced; 1 syncs before every answer, 0 never for this reason.
    /// At most 1000000, default 0.
    pub flush_batches: u64,
    /// The longest time that a batch stays unsynced; `None` never syncs for this reason. 1 ms to 1 day, default `None`.
    pub flush_interval: Option<Duration>,
    /// The most messages that one READ or TAIL can ask for. 1 to 10000000, default 50000.
    pub max_messages: u64,
    /// The most topics; 0 is no limit. At most 100000, default 8.
    pub topics: usize,
    /// The only topics that clients can create; empty allows every name. Default empty.
    pub topics_whitelist: Vec<TopicName>,
    /// The most connections at a time. 1 to 1000000, default 4096.
    pub max_connections: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: format!("127.0.0.1:{}", limits::PORT_DEFAULT),
            timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(15),
            workdir: PathBuf::from("logs/"),
            file_mode: 0o600,
            batch_bytes: limits::BATCH_BYTES_DEFAULT,
            partition_bytes: 2_097_152_000,
            partitions: 8,
            flush_batches: 0,
            flush_interval: None,
            max_messages: limits::READ_MESSAGES_DEFAULT,
            topics: 8,
            topics_whitelist: Vec::new(),
            max_connections: 4096,
        }
    }
}

/// A setting with a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{option}` cannot be `{value}`: it must be {expected}")]
pub struct ConfigError {
    /// The name of the setting, as `batch-size`.
    pub option: &'static str,
    /// The value.
    pub value: String,
    /// What the value must be, with unit and bounds.
    pub expected: String,
}

impl ConfigError {
    pub(crate) fn new(option: &'static str, value: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self { option, value: value.to_string(), expected: expected.to_string() }
    }
}

impl Config {
    /// Checks that every setting is within its bounds.
    ///
    /// # Errors
    /// [`ConfigError`] names the first setting that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_host()?;
        check_time("timeout", self.timeout)?;
        check_time("idle-timeout", self.idle_timeout)?;
        check_time("shutdown-timeout", self.shutdown_timeout)?;
        if self.workdir.as_os_str().is_empty() {
            return Err(ConfigError::new("workdir", "", "a directory"));
        }
        self.validate_file_mode()?;
        check("batch-size", self.batch_bytes as u64, &BATCH_BYTES, " bytes")?;
        self.validate_partition_bytes()?;
        check("partitions", self.partitions as u64, &PARTITIONS, "")?;
        check("flush-batches", self.flush_batches, &FLUSH_BATCHES, "")?;
        self.flush_interval.map_or(Ok(()), |interval| check_time("flush-interval", interval))?;
        check("max-messages", self.max_messages, &MAX_MESSAGES, "")?;
        check("topics", self.topics as u64, &TOPICS, "")?;
        check("max-connections", self.max_connections as u64, &MAX_CONNECTIONS, "")
    }

    /// A time as the protocol and the options write it: `15s`, `500ms`, `90s`. Go's `time.ParseDuration` reads it too.
    pub fn duration_text(duration: Duration) -> String {
        let nanoseconds = duration.as_nanos();
        [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")]
            .into_iter()
            .find(|(unit, _)| nanoseconds.is_multiple_of(*unit))
            .map_or_else(
                || format!("{nanoseconds}ns"),
                |(unit, name)| format!("{}{name}", nanoseconds / unit),
            )
    }

    fn validate_host(&self) -> Result<(), ConfigError> {
        // As in Go, an address without a host, as `:1774`, stands for every interface.
        let is_right = self.host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if is_right {
            return Ok(());
        }
        Err(ConfigError::new(
            "host",
            &self.host,
            "an address and a port, as `127.0.0.1:1774`, `[::1]:0` or `:1774`",
        ))
    }

    fn validate_file_mode(&self) -> Result<(), ConfigError> {
        if self.file_mode <= 0o777 && self.file_mode & OWNER_READS_AND_WRITES == OWNER_READS_AND_WRITES {
            return Ok(());
        }
        let expected = "octal permissions of at most `0777` with `0600` among them";
        Err(ConfigError::new("file-mode", format_args!("{:04o}", self.file_mode), expected))
    }

    fn validate_partition_bytes(&self) -> Result<(), ConfigError> {
        let (batch, partition) = (self.batch_bytes as u64, self.partition_bytes);
        if (batch..=PARTITION_BYTES_MAX).contains(&partition) {
            return Ok(());
        }
        let expected = format_args!(
            "at least the {batch} bytes of `batch-size` and at most {PARTITION_BYTES_MAX} bytes"
        );
        Err(ConfigError::new("partition-size", partition, expected))
    }
}

fn check(
    option: &'static str,
    value: u64,
    bounds: &RangeInclusive<u64>,
    unit: &str,
) -> Result<(), ConfigError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(option, value, format_args!("from {} to {}{unit}", bounds.start(), bounds.end())))
}

fn check_time(option: &'static str, value: Duration) -> Result<(), ConfigError> {
    if TIMES.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(option, Config::duration_text(value), "from `1ms` to `24h`"))
}

#[cfg(test)]
mod tests;
