//! The arguments of `log-cli state`.
//!
//! The URL of a store can have a password: it is never shown, neither in a help text nor in a failure.

use std::ffi::OsString;
use std::fmt;

use clap::Subcommand;
use logd_client::{ConsumerKey, Position};
use logd_statehandlers::redact;

use super::CheckDir;
use crate::check;
use crate::state::key;
use crate::when::When;

/// Arguments of `state`.
#[derive(Debug, clap::Args)]
pub(crate) struct State {
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

/// What is to be done with the checkpoints of a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// List the checkpoints: which message is next, the epoch of the last lease or reset, how long ago it was stored, and
    /// who has the lease. Nothing is changed.
    Ls {
        #[command(flatten)]
        keys: Keys,
    },
    /// Print everything that a checkpoint has.
    Show {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        key: Key,
    },
    /// Print how many bytes of its topic lie between each checkpoint and the end of the topic, by the server at `--host`. A
    /// checkpoint that does not fit to its topic is told.
    Lag {
        #[command(flatten)]
        keys: Keys,
    },
    /// Move a checkpoint to a position, or make one there. A reader that runs goes on from there. It keeps what the
    /// application has put into it.
    Set(Set),
    /// Let a reader begin anew: it forgets what it has read, and what the application has put into its checkpoint. A
    /// reader that runs goes on from there.
    Reset(Reset),
    /// Copy every checkpoint of a store to another, with everything that it has. Readers should not run meanwhile: what they
    /// store later is not copied. If it ends early it can be repeated.
    Copy(Copy),
    /// Hold each checkpoint against its topic on the server at `--host`: whether it can be read, whether the topic is the
    /// one that was read, and whether a message starts at its position. Nothing is changed.
    Verify {
        #[command(flatten)]
        keys: Keys,
    },
    /// Check a store in files, its directory being what stands behind `file:` in its URL: read every checkpoint, and tell
    /// what is damaged, unfinished, set aside, or not the store's. No server is asked, and readers can run meanwhile.
    #[command(after_help = check::help())]
    Check(CheckDir),
}

/// Which store, and in which form to print.
#[derive(Debug, clap::Args)]
pub(crate) struct Store {
    /// The store: `file:state/`, `sqlite:state.db`, `redis://user:password@host:6379/0` or
    /// `postgres://user:password@host/database`. It must be there. A password on a command line can be seen by others;
    /// the variable cannot.
    #[arg(long, env = "LOGD_STATE", hide_env_values = true, value_name = "URL")]
    pub(crate) state: StoreUrl,
    /// Print a JSON object on a line of its own for each checkpoint, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A store, and some of its checkpoints.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    #[command(flatten)]
    pub(crate) store: Store,
    /// Only these checkpoints, as `topic/consumer` or `namespace/topic/consumer` [default: all].
    #[arg(value_name = "KEY", value_parser = key::parse)]
    pub(crate) keys: Vec<ConsumerKey>,
}

/// One checkpoint.
#[derive(Debug, clap::Args)]
pub(crate) struct Key {
    /// Whose checkpoint: `topic/consumer`, which is in the namespace `default`, or `namespace/topic/consumer`. Within a
    /// name, `%2F` is `/`, `%25` is `%` and `%20` is a space, as `ls` prints them.
    #[arg(value_name = "KEY", value_parser = key::parse)]
    pub(crate) key: ConsumerKey,
}

/// Arguments of `state set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) key: Key,
    /// The message to read next. The server must have a message there, or its topic must end there.
    #[arg(value_name = "OFFSET[.DELTA]")]
    pub(crate) position: Position,
    /// Also move it back, so that messages come again; also write over a checkpoint that cannot be read; and do not ask the
    /// server about the position.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `state reset`.
#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) store: Store,
    #[command(flatten)]
    pub(crate) key: Key,
    /// Where to begin: with the `earliest` message that the topic has, behind its `latest`, at a position as `60` or `60.12`,
    /// or with what arrived at the server since a time, in the forms of `read --since`. The checkpoint can be one that
    /// cannot be read. Nothing of it is kept, also not what the reader has stored beside the position; `set` keeps that.
    #[arg(long, value_name = "earliest|latest|POSITION|TIME", value_parser = Target::parse)]
    pub(crate) to: Target,
    /// Yes, forget what is there: there is no way back.
    #[arg(long, required = true)]
    pub(crate) yes: bool,
}

/// Arguments of `state copy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// The store to copy from, in the forms of `state ls --state`.
    #[arg(long, value_name = "URL")]
    pub(crate) from: StoreUrl,
    /// The store to copy to. It is made if it is not there.
    #[arg(long, value_name = "URL")]
    pub(crate) to: StoreUrl,
    /// Write over checkpoints that the other store has already, also those that are further on or cannot be read; their
    /// readers are fenced. Without it, nothing is copied when there is one that differs.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print a JSON object on a line of its own for each checkpoint, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The URL of a store, shown without its password.
#[derive(Clone)]
pub(crate) struct StoreUrl(String);

impl StoreUrl {
    /// With the password.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StoreUrl({self})")
    }
}

/// Where a reader begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// With the oldest message.
    Earliest,
    /// Behind the newest.
    Latest,
    /// At a message.
    At(Position),
    /// With what arrived since then.
    Since(When),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("earliest", _) => Ok(Self::Earliest),
            ("latest", _) => Ok(Self::Latest),
            (_, Ok(position)) => Ok(Self::At(position)),
            _ => When::parse(text).map(Self::Since).map_err(|error| {
                format!(
                    "it is neither `earliest` nor `latest` nor a position as `60` or `60.12`, and {error}"
                )
            }),
        }
    }
}

/// A text about arguments that are wrong, in which passwords of URLs are left out, whatever option they were given to.
pub(crate) fn without_secrets(mut text: String, arguments: &[OsString]) -> String {
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let value = argument.split_once('=').map_or("", |(_, value)| value);
        for shown in [&*argument, value] {
            let redacted = redact(shown);
            if redacted != shown {
                text = text.replace(shown, &redacted);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_words_positions_and_times() {
        assert_eq!(Target::parse("earliest"), Ok(Target::Earliest));
        assert_eq!(Target::parse("latest"), Ok(Target::Latest));
        assert_eq!(Target::parse("60.12"), Ok(Target::At("60.12".parse().unwrap())));
        assert_eq!(Target::parse("2026"), Ok(Target::At("2026".parse().unwrap())));
        assert!(matches!(Target::parse("10m"), Ok(Target::Since(When::Ago(_)))));
        assert!(matches!(Target::parse("2026-11-24"), Ok(Target::Since(When::At { .. }))));
        for text in ["", "Earliest", "-1", "60.", "yesterday"] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.contains("`latest`") && error.contains("`10m`"), "{error}");
        }
    }

    #[test]
    fn urls_are_shown_without_passwords() {
        let url = StoreUrl::from("redis://anna:hunter2@host".to_owned());
        assert_eq!(format!("{url} {url:?}"), "redis://anna:***@host StoreUrl(redis://anna:***@host)");
        let arguments =
            ["redis://anna:hunter2@host", "--stat=postgres://a:hunter3@host/b"].map(OsString::from);
        let text = "unexpected argument 'redis://anna:hunter2@host', '--stat=postgres://a:hunter3@host/b', 'postgres://a:hunter3@host/b'";
        let expected = "unexpected argument 'redis://anna:***@host', '--stat=postgres://a:***@host/b', 'postgres://a:***@host/b'";
        assert_eq!(without_secrets(text.into(), &arguments), expected);
    }
}
