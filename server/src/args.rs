//! The command line, the environment and the configuration file: everything that becomes a [`Config`].
//!
//! Each setting has one row in `SETTINGS`: its name, its help, and how its text is read. The text is taken from the
//! first of these that has it: the option `--batch-size`, the environment variable `LOGD_BATCH_SIZE`, the key
//! `batch-size` of the file that `--config` names. An error says which of them gave the value.
//!
//! This file and those below it are the only ones that know clap.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use logd_protocol::TopicName;
use thiserror::Error;
use toml::{Table, Value};

use crate::check::CheckRequest;
use crate::config::{Config, ConfigError};
use crate::disk::read_text;

mod check;

/// What the program was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// To serve.
    Serve(Invocation),
    /// To check a work directory.
    Check(CheckRequest),
}

/// How a server was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The settings, all within their bounds.
    pub config: Config,
    /// Whether `--verbose` was given.
    pub verbose: bool,
}

/// Why a program cannot start with what it was given. The exit code for it is 2, as for an unknown option.
#[derive(Debug, Error)]
pub enum UsageError {
    /// A setting has a value that it cannot have.
    #[error("{error} (given by {origin})")]
    Value {
        /// The setting, its value and its bounds.
        error: ConfigError,
        /// Where the value comes from.
        origin: Origin,
    },
    /// An environment variable is not UTF-8.
    #[error("the environment variable `{variable}` is not UTF-8")]
    Environment {
        /// The name of the variable.
        variable: String,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file `{}`", file.display())]
    File {
        /// The path of the file.
        file: PathBuf,
        /// The error of reading it.
        source: io::Error,
    },
    /// The configuration file is not TOML.
    #[error("line {line} of the configuration file `{}` is not TOML: {message}", file.display())]
    Syntax {
        /// The path of the file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The configuration file has a key that is no setting.
    #[error("the configuration file `{}` has the unknown key `{key}`", file.display())]
    Key {
        /// The path of the file.
        file: PathBuf,
        /// The key.
        key: String,
    },
    /// The configuration file has a value of a type that the setting does not take.
    #[error("the key `{key}` in the configuration file `{}` must be {expected}", file.display())]
    Type {
        /// The path of the file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// The type that the setting takes.
        expected: &'static str,
    },
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option of the command line.
    CommandLine,
    /// The environment variable of this name.
    Environment(String),
    /// The configuration file of this path.
    File(PathBuf),
    /// Nobody gave it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => formatter.write_str("the command line"),
            Self::Environment(variable) => write!(formatter, "the environment variable `{variable}`"),
            Self::File(file) => write!(formatter, "the configuration file `{}`", file.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// Reads the command line, the environment and the configuration file of this process.
///
/// `--help` and `--version` print what they should and end the process with 0. A command line that is not of the right
/// form prints why, and ends it with 2.
///
/// # Errors
/// [`UsageError`] names the value that is wrong and where it comes from; that of a file which cannot be read has the
/// reason as its source.
pub fn from_env() -> Result<Task, UsageError> {
    let matches = command().try_get_matches().unwrap_or_else(|error| error.exit());
    task(&matches, |variable| std::env::var_os(variable))
}

/// As [`from_env`] reads what it is given, but of these arguments, the first of which is the program's name, and of this
/// environment. `None` where the command line is not of the right form, or asks for help or the version.
#[doc(hidden)]
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<Result<Task, UsageError>> {
    command().try_get_matches_from(arguments).ok().map(|matches| task(&matches, environment))
}

fn task(matches: &ArgMatches, environment: impl Fn(&str) -> Option<OsString>) -> Result<Task, UsageError> {
    match matches.subcommand() {
        Some((check::NAME, matches)) => Ok(Task::Check(check::request(matches))),
        _ => resolve(matches, environment).map(Task::Serve),
    }
}

/// The command line, of which other programs can make completions and manual pages.
fn command() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("Reads settings from this TOML file, in which each key is the name of an option.");
    let verbose = Arg::new("verbose")
        .long("verbose")
        .short('v')
        .action(ArgAction::SetTrue)
        .help("Logs what happens in more detail.");
    Command::new("logd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Takes batches of log messages over TCP, keeps them in files, and serves them to readers.")
        .after_help(
            "Every option with a value can also be given by an environment variable, as LOGD_BATCH_SIZE for \
             --batch-size, and all but --config in the file that --config names, as batch-size = \"64KiB\". The \
             command line comes before the environment, and that before the file.\n\nSizes are bytes, or have a unit: \
             kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024). Times have one or more units: \
             500ms, 15s, 1m30s, 2h.\n\nSIGTERM, SIGINT and SIGHUP end the server in order: what is in work is \
             finished, and everything is synced. A second signal ends it at once.\n\nExit codes: 0 ended in order; 1 \
             could not start, or did not end in order; 2 impossible options. Those of `logd check` are in its help.",
        )
        .args(SETTINGS.iter().map(Setting::arg))
        .args([config, verbose])
        .subcommand(check::command())
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
}

/// A setting: how it is named and read.
struct Setting {
    name: &'static str,
    value_name: &'static str,
    help: &'static str,
    /// The type of the setting in a configuration file.
    kind: Kind,
    /// Reads the text of a value. The error says what the value must be.
    set: fn(&mut Config, &str) -> Result<(), &'static str>,
}

/// What a setting is in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    List,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "host",
        value_name: "ADDRESS",
        help: "Listens on this address and port; port 0 takes a free one. The default is 127.0.0.1:1774.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.host, Ok(text.to_owned())),
    },
    Setting {
        name: "timeout",
        value_name: "TIME",
        help: "Closes a connection whose request or answer makes no progress for this time, from 1ms to 24h. \
               The default is 15s.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.timeout, parse_time(text)),
    },
    Setting {
        name: "idle-timeout",
        value_name: "TIME",
        help: "Closes a connection that sends no request for this time, from 1ms to 24h. The default is 30s.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.idle_timeout, parse_time(text)),
    },
    Setting {
        name: "shutdown-timeout",
        value_name: "TIME",
        help: "Waits at most this time for the requests in work when it is told to end, from 1ms to 24h. \
               The default is 15s.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.shutdown_timeout, parse_time(text)),
    },
    Setting {
        name: "workdir",
        value_name: "DIRECTORY",
        help: "Keeps the topics in this directory. The default is logs/.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.workdir, Ok(text.into())),
    },
    Setting {
        name: "file-mode",
        value_name: "MODE",
        help: "Creates files with these octal permissions, at least 0600. The default is 0600.",
        kind: Kind::Text,
        set: |config, text| set(&mut config.file_mode, parse_mode(text)),
    },
    Setting {
        name: "batch-size",
        value_name: "SIZE",
        help: "Takes batches of at most this size, envelope and body together, from 512 bytes to 64MiB. \
               The default is 65536.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.batch_bytes, parse_size(text)),
    },
    Setting {
        name: "partition-size",
        value_name: "SIZE",
        help: "Begins another partition of a topic when one has this size, at least --batch-size. \
               The default is 2097152000.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.partition_bytes, parse_size(text)),
    },
    Setting {
        name: "partitions",
        value_name: "COUNT",
        help: "Keeps this number of partitions of a topic and drops the oldest, from 1 to 100000. The default is 8.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.partitions, parse_count(text)),
    },
    Setting {
        name: "flush-batches",
        value_name: "COUNT",
        help: "Syncs a topic to the disk after this number of batches, at most 1000000: 1 before every answer, \
               0 never for this reason. The default is 0.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.flush_batches, parse_count(text)),
    },
    Setting {
        name: "flush-interval",
        value_name: "TIME",
        help: "Syncs a batch to the disk at the latest after this time, from 1ms to 24h; -1 never for this reason. \
               The default is -1.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.flush_interval, parse_interval(text)),
    },
    Setting {
        name: "max-messages",
        value_name: "COUNT",
        help: "Lets one request ask for at most this number of messages, from 1 to 10000000. \
               The default is 50000.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.max_messages, parse_count(text)),
    },
    Setting {
        name: "topics",
        value_name: "COUNT",
        help: "Keeps at most this number of topics, at most 100000; 0 is no limit. The default is 8.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.topics, parse_count(text)),
    },
    Setting {
        name: "topics-whitelist",
        value_name: "NAMES",
        help: "Lets clients create only the topics of these names, separated by commas; the option can be repeated. \
               Without names every topic is allowed, which is the default.",
        kind: Kind::List,
        set: |config, text| set(&mut config.topics_whitelist, parse_topics(text)),
    },
    Setting {
        name: "max-connections",
        value_name: "COUNT",
        help: "Serves at most this number of connections at a time, from 1 to 1000000. The default is 4096.",
        kind: Kind::Number,
        set: |config, text| set(&mut config.max_connections, parse_count(text)),
    },
];

impl Setting {
    fn arg(&self) -> Arg {
        let action = if self.kind == Kind::List { ArgAction::Append } else { ArgAction::Set };
        Arg::new(self.name)
            .long(self.name)
            .value_name(self.value_name)
            .help(self.help)
            .action(action)
            .allow_negative_numbers(true)
    }

    /// The text of the setting in a configuration file.
    fn text(&self, value: &Value) -> Result<String, &'static str> {
        match (value, self.kind) {
            (Value::String(text), _) => Ok(text.clone()),
            (Value::Integer(number), Kind::Number) => Ok(number.to_string()),
            (Value::Array(items), Kind::List) if items.iter().all(Value::is_str) => {
                Ok(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
            }
            (_, Kind::Text) => Err("a string"),
            (_, Kind::Number) => Err("an integer or a string"),
            (_, Kind::List) => Err("an array of strings"),
        }
    }
}

fn resolve(
    matches: &ArgMatches,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, UsageError> {
    let sources = Sources { matches, environment, file: None };
    let file = sources.given("config")?.map(|(path, _)| read_file(Path::new(&path))).transpose()?;
    let sources = Sources { file, ..sources };
    let mut config = Config::default();
    for setting in SETTINGS {
        if let Some((text, origin)) = sources.find(setting)? {
            (setting.set)(&mut config, &text).map_err(|expected| UsageError::Value {
                error: ConfigError::new(setting.name, text, expected),
                origin,
            })?;
        }
    }
    match config.validate() {
        Ok(()) => Ok(Invocation { config, verbose: matches.get_flag("verbose") }),
        Err(error) => {
            let origin = sources.origin(error.option)?;
            Err(UsageError::Value { error, origin })
        }
    }
}

/// Everything that can give a value.
struct Sources<'a, E> {
    matches: &'a ArgMatches,
    environment: E,
    file: Option<(PathBuf, Table)>,
}

impl<E: Fn(&str) -> Option<OsString>> Sources<'_, E> {
    /// The value of the command line or the environment.
    fn given(&self, name: &str) -> Result<Option<(String, Origin)>, UsageError> {
        if let Some(values) = self.matches.get_many::<String>(name) {
            let text = values.map(String::as_str).collect::<Vec<_>>().join(",");
            return Ok(Some((text, Origin::CommandLine)));
        }
        let variable = format!("LOGD_{}", name.to_uppercase().replace('-', "_"));
        match (self.environment)(&variable).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some((text, Origin::Environment(variable)))),
            Some(Err(_)) => Err(UsageError::Environment { variable }),
        }
    }

    fn find(&self, setting: &Setting) -> Result<Option<(String, Origin)>, UsageError> {
        if let Some(given) = self.given(setting.name)? {
            return Ok(Some(given));
        }
        let Some((file, table)) = &self.file else { return Ok(None) };
        let Some(value) = table.get(setting.name) else { return Ok(None) };
        match setting.text(value) {
            Ok(text) => Ok(Some((text, Origin::File(file.clone())))),
            Err(expected) => Err(UsageError::Type { file: file.clone(), key: setting.name, expected }),
        }
    }

    fn origin(&self, name: &str) -> Result<Origin, UsageError> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name);
        let found = setting.map(|setting| self.find(setting)).transpose()?.flatten();
        Ok(found.map_or(Origin::Default, |(_, origin)| origin))
    }
}

/// Reads a configuration file, whose keys must all be settings.
fn read_file(path: &Path) -> Result<(PathBuf, Table), UsageError> {
    let file = path.to_owned();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(source) => return Err(UsageError::File { file, source }),
    };
    let table: Table = match toml::from_str(&text) {
        Ok(table) => table,
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            return Err(UsageError::Syntax { file, line, message: error.message().to_owned() });
        }
    };
    let is_setting = |key: &&String| SETTINGS.iter().any(|setting| setting.name == key.as_str());
    match table.keys().find(|key| !is_setting(key)) {
        Some(key) => Err(UsageError::Key { file, key: key.clone() }),
        None => Ok((file, table)),
    }
}

fn set<T>(place: &mut T, value: Result<T, &'static str>) -> Result<(), &'static str> {
    *place = value?;
    Ok(())
}

fn parse_count<T: std::str::FromStr>(text: &str) -> Result<T, &'static str> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal
        .then(|| text.parse().ok())
        .flatten()
        .ok_or("a whole number of 0 or more (`--help` names its bounds)")
}

fn parse_mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let is_octal = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    is_octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten().ok_or("octal permissions, as `0640`")
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "a time with its unit, as `500ms`, `15s` or `1m30s`")
}

fn parse_interval(text: &str) -> Result<Option<Duration>, &'static str> {
    if text == "-1" {
        return Ok(None);
    }
    parse_time(text).map(Some).map_err(|_| "a time with its unit, as `500ms` or `15s`, or `-1` for never")
}

fn parse_topics(text: &str) -> Result<Vec<TopicName>, &'static str> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let topics = names.map(TopicName::new).collect::<Result<_, _>>();
    topics
        .map_err(|_| "topic names of 1 to 255 of `A-Z a-z 0-9 . _ -`, not starting with `.`, between commas")
}

/// The units of sizes; upper and lower case are the same.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("tb", 1000 * 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

fn parse_size<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    let digits_end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(digits_end)
        .and_then(|(digits, unit)| {
            let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
            let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
            digits.parse::<u64>().ok()?.checked_mul(*bytes)
        })
        .and_then(|bytes| T::try_from(bytes).ok())
        .ok_or("a size in bytes below 2^64, as `65536`, `64KiB` or `100kB`")
}

#[cfg(test)]
mod tests;
