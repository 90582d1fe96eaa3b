//! The arguments of `log-cli`: the only file that knows the library which parses them.
//!
//! What comes out is plain: durations, sizes, positions and names that are right. A mistake is told on standard error
//! as every other, and ends the run with [`Exit::Usage`].

use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use logd_client::limits::{BATCH_BYTES_MAX, BATCH_BYTES_MIN};
use logd_client::{ClientConfig, Position, RetryPolicy, TopicName};

use self::bench::Bench;
use self::state::State;
use crate::check;
use crate::exit::{self, Exit};
use crate::output::say;
use crate::when::When;

pub(crate) use clap_complete::Shell;

pub(crate) mod bench;
pub(crate) mod state;

/// Write messages to logd, read them back, and look at its topics.
#[derive(Debug, Parser)]
#[command(name = "log-cli", version, after_help = exit::help(), max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Append messages to a topic, and print the offset of each batch.
    #[command(visible_alias = "w", after_help = exit::help())]
    Write(Write),
    /// Print the messages of a topic, each as a line.
    #[command(visible_alias = "r", after_help = exit::help())]
    Read(Read),
    /// List the topics: oldest offset, next offset, bytes, partitions.
    Topics,
    /// Print the offset that the next batch of a topic will get, and how many batches it has.
    Head(Head),
    /// Print the server's counters.
    Stats,
    /// Print the server's settings.
    Config,
    /// Ask the server for a sign of life, and print how long that took.
    Ping,
    /// Look at batches that a writer kept in a directory because they could not be delivered, send them, or drop them.
    #[command(after_help = exit::help())]
    Spool(Spool),
    /// Look at the checkpoints of readers in a store, move them, copy them to another store, or hold them against the
    /// server's topics.
    #[command(after_help = exit::help())]
    State(State),
    /// Measure how fast the server takes batches and hands them out. Makes topics of its own, which stay.
    #[command(after_help = bench::help())]
    Bench(Bench),
    /// Print the version of log-cli.
    Version,
    /// Print a script that completes log-cli's arguments in a shell.
    Completions(Completions),
}

/// Options of every command.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// The server's address: a name or an IP address, and a port. `:1774` is that port of this machine.
    #[arg(long, global = true, env = "LOGD_HOST", default_value = ClientConfig::HOST_DEFAULT, value_parser = host, value_name = "HOST:PORT")]
    pub(crate) host: String,
    /// How long the server can be silent while an answer is due, or take in nothing while there is something to send.
    /// Every byte that moves starts the time anew.
    #[arg(long, global = true, default_value = "15s", value_parser = time_limit, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// How long making a connection can take.
    #[arg(long, global = true, default_value = "5s", value_parser = time_limit, value_name = "TIME")]
    pub(crate) connect_timeout: Duration,
    /// How long the server can be silent while an answer is due [default: --timeout].
    #[arg(long, global = true, value_parser = time_limit, value_name = "TIME")]
    pub(crate) read_timeout: Option<Duration>,
    /// How long the server can take in nothing while there is something to send [default: --timeout].
    #[arg(long, global = true, value_parser = time_limit, value_name = "TIME")]
    pub(crate) write_timeout: Option<Duration>,
    /// The most bytes of a batch that `write` makes, as `65536` or `64KiB`. A server that takes less is given less.
    #[arg(long, global = true, default_value = "64KiB", value_parser = batch_bytes, value_name = "BYTES")]
    pub(crate) batch_size: usize,
    /// How long `write` waits for more lines before it sends a batch that is not full, and `bench` for more messages. `0s` sends what is at hand.
    #[arg(long, global = true, default_value = "10ms", value_parser = interval, value_name = "TIME")]
    pub(crate) wait_interval: Duration,
    /// Print at the end, on standard error, how many messages, batches and bytes were written or read. The bytes are
    /// those of the messages, without line ends.
    #[arg(short, long, global = true)]
    pub(crate) count: bool,
    /// Print on standard error what the client does. `RUST_LOG` chooses from it.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

/// Arguments of `write`.
#[derive(Debug, clap::Args)]
pub(crate) struct Write {
    /// The messages. Without any, each line of --input is one, byte for byte: empty lines and `\r` are kept.
    #[arg(conflicts_with = "input")]
    pub(crate) messages: Vec<OsString>,
    /// The topic to write to. It comes into being with its first batch.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) topic: TopicName,
    /// Read lines from this file [default: standard input].
    #[arg(long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print the offsets to this file, which is made empty first [default: standard output].
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

/// Arguments of `read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Read {
    /// The topic to read.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) topic: TopicName,
    /// Begin at the batch with this offset, or at one of its messages, as `--numbers` prints it [default: the oldest
    /// message].
    #[arg(long, value_name = "OFFSET[.DELTA]")]
    pub(crate) offset: Option<Position>,
    /// Begin with what arrived at the server since then: so long ago as `10m`, `1h30m` or `2d`, or a date and time as
    /// `2026-11-24`, `2026-11-24T08:00`, `2026-11-24T08:00:00Z` or `2026-11-24T08:00:00+01:00`. One that names no time
    /// zone is in that of this machine, which `TZ` can name, and a date alone is its first moment. The server keeps a
    /// time for each 64 KiB, by its own clock: nothing is left out, and up to 64 KiB that arrived earlier come first.
    #[arg(long, value_name = "TIME", value_parser = When::parse, conflicts_with = "offset")]
    pub(crate) since: Option<When>,
    /// End with what arrived at the server until then, in the forms of `--since`. Nothing is left out, and up to 64 KiB
    /// that arrived later come too. With `--read-forever`, a time to come is waited for.
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub(crate) until: Option<When>,
    /// End after so many messages. 0 means no limit: read to the end of the topic.
    #[arg(long, default_value_t = 0, value_name = "MESSAGES")]
    pub(crate) limit: u64,
    /// At the end of the topic, wait for more messages until interrupted. A topic that is not there yet is waited for.
    #[arg(short = 'F', long, visible_alias = "follow")]
    pub(crate) read_forever: bool,
    /// Print `offset.delta` and a space before each message: where it is, as `--offset` takes it.
    #[arg(short, long)]
    pub(crate) numbers: bool,
    #[command(flatten)]
    pub(crate) retry: Retry,
}

/// What to do when a connection that was there is lost.
#[derive(Debug, clap::Args)]
pub(crate) struct Retry {
    /// How often in a row a lost connection is made anew [default: 9; for `read --read-forever`, without end]. The first
    /// connection is tried once only, so that a wrong address is told at once.
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The longest wait before the first retry. The actual one is a random part of it.
    #[arg(long, default_value = "100ms", value_parser = interval, value_name = "TIME")]
    retry_interval: Duration,
    /// By what the longest wait grows with each retry.
    #[arg(long, default_value_t = 2.0, value_parser = multiplier, value_name = "FACTOR")]
    retry_multiplier: f64,
    /// What the longest wait grows to.
    #[arg(long, default_value = "10s", value_parser = interval, value_name = "TIME")]
    retry_max_interval: Duration,
}

/// Arguments of `head`.
#[derive(Debug, clap::Args)]
pub(crate) struct Head {
    /// The topic to look at.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) topic: TopicName,
}

/// Arguments of `spool`.
#[derive(Debug, clap::Args)]
pub(crate) struct Spool {
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: SpoolCommand,
}

/// What is to be done with a directory of undelivered batches.
#[derive(Debug, Subcommand)]
pub(crate) enum SpoolCommand {
    /// List the batches, oldest first, and what is damaged. Nothing is changed, and a writer can use the directory
    /// meanwhile.
    Ls {
        /// The directory.
        dir: PathBuf,
    },
    /// Append the batches to their topics, oldest first, and remove each that the server has acknowledged. Print the
    /// key and the offset of each. The first failure ends it; the batches that are left can be sent later.
    Send {
        /// The directory. No writer can use it meanwhile.
        dir: PathBuf,
    },
    /// Check the directory: read every batch, and tell what is damaged, unfinished, set aside, or not the spool's. No
    /// server is asked, and no writer can use the directory meanwhile.
    #[command(after_help = check::help())]
    Check(CheckDir),
    /// Remove all batches for good. What is damaged stays.
    Drop {
        /// The directory. No writer can use it meanwhile.
        dir: PathBuf,
        /// Yes, remove them: there is no way back.
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// Arguments of `spool check` and `state check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckDir {
    /// The directory.
    pub(crate) dir: PathBuf,
    /// Give what is damaged or unfinished another name, under which it is left alone. Nothing is removed. Without it,
    /// nothing is changed.
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print a JSON object on a line of its own for each finding and for the summary, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: Shell,
}

impl Cli {
    /// Parses the arguments, or prints the help, the version, or what is wrong with them.
    pub(crate) fn parse_from(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Exit> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        Self::try_parse_from(&arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // A reader that closed the pipe has had enough.
                let _ = error.print();
                Exit::Success
            }
            _ => {
                let text = state::without_secrets(error.render().to_string(), &arguments);
                say(&format!("log-cli: {}", text.strip_prefix("error: ").unwrap_or(&text)));
                Exit::Usage
            }
        })
    }
}

impl Common {
    /// The client's settings. A failed connection is not tried again.
    pub(crate) fn client_config(&self) -> ClientConfig {
        ClientConfig::new(&self.host)
            .connect_timeout(self.connect_timeout)
            .read_timeout(self.read_timeout.unwrap_or(self.timeout))
            .write_timeout(self.write_timeout.unwrap_or(self.timeout))
            .retry(RetryPolicy::none())
    }
}

impl Retry {
    /// The policy, with so many retries where none were asked for; `None` means without end.
    pub(crate) fn policy(&self, retries_default: Option<u32>) -> RetryPolicy {
        RetryPolicy::default()
            .attempts(self.retries.or(retries_default).map(|retries| retries.saturating_add(1)))
            .interval(self.retry_interval)
            .multiplier(self.retry_multiplier)
            .max_interval(self.retry_max_interval)
    }
}

/// How often in a row a lost connection is made anew, unless the user says it.
pub(crate) const RETRIES_DEFAULT: u32 = RetryPolicy::ATTEMPTS_DEFAULT - 1;

/// The longest time that an option takes: longer than anybody waits, and far from where sums of times overflow.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The script that completes arguments in `shell`.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "log-cli", &mut script);
    if shell == Shell::Bash {
        // The library writes the name of a command with a hyphen in two ways, so that nothing behind a subcommand is
        // completed (clap issues 6421 and 6529).
        return String::from_utf8_lossy(&script).replace("log__subcmd__cli", "log__cli").into_bytes();
    }
    script
}

/// A name or an address, which is not looked up yet, and a port.
fn host(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        // A server can listen on every interface by such an address, and both read it from the same variable.
        Some(("", port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(format!("127.0.0.1:{port}"))
        }
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(text.into())
        }
        _ => Err(format!("it must be a host and a port, as `{}`", ClientConfig::HOST_DEFAULT)),
    }
}

/// Whether what stands before the port can be a host: an IPv6 address must be in brackets.
fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.map_or(!text.is_empty() && !text.contains(':'), |address| address.parse::<Ipv6Addr>().is_ok())
}

fn time_limit(text: &str) -> Result<Duration, String> {
    interval(text)
        .and_then(|limit| if limit.is_zero() { Err("it must be longer than zero".into()) } else { Ok(limit) })
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time <= TIME_MAX { Ok(time) } else { Err("it must be at most a day".into()) }
}

fn multiplier(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if (1.0..=1000.0).contains(&factor) => Ok(factor),
        Ok(_) => Err("it must be from 1 to 1000".into()),
        Err(_) => Err("it is not a number".into()),
    }
}

fn batch_bytes(text: &str) -> Result<usize, String> {
    let bytes = size(text)
        .ok_or("it is not a number of bytes: write `65536`, or with one of the units `B`, `kB`, `MB`, `KiB`, `MiB`, `GiB`")?;
    if (BATCH_BYTES_MIN..=BATCH_BYTES_MAX).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("it must be from {BATCH_BYTES_MIN} to {BATCH_BYTES_MAX} bytes"))
    }
}

/// A number of bytes, with a unit or without. One that is too large for the machine is as large as can be.
fn size(text: &str) -> Option<usize> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let factor = match unit.trim_start() {
        "" | "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    if digits.is_empty() {
        return None;
    }
    Some(digits.parse().unwrap_or(usize::MAX).saturating_mul(factor))
}

#[cfg(test)]
mod tests;
