//! What a failure of Redis means for the caller. Pure.
//!
//! What failed before a command was sent has done nothing: `Unavailable`, or `Failed` where only a person can help. What
//! failed after that may have been done: `Ambiguous`, unless it only reads. An answer that is an error has done nothing, as
//! no script is left half done.
//!
//! A server may repeat in its errors what it was sent, the password among it. So its texts are cut before that, searched
//! for the password, and kept as text only.

use std::fmt;

use ::redis::{ErrorKind, RedisError};

use crate::error::{StateError, StateErrorKind};
use crate::key::ConsumerKey;

/// What was asked of the store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task<'a> {
    Open,
    List,
    Read(&'a ConsumerKey),
    Change(&'a ConsumerKey),
}

impl Task<'_> {
    /// An error that says first what was not done.
    pub(super) fn failed(self, kind: StateErrorKind, why: impl fmt::Display) -> StateError {
        StateError::new(kind, format!("{self}: {why}"))
    }
}

impl fmt::Display for Task<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => formatter.write_str("the store was not opened"),
            Self::List => formatter.write_str("the checkpoints were not listed"),
            Self::Read(key) => write!(formatter, "the checkpoint of `{key}` was not read"),
            Self::Change(key) => formatter.write_str(&crate::record::what(key)),
        }
    }
}

/// How errors name the server, and what they must not tell.
#[derive(Clone)]
pub(super) struct Server {
    /// Its URL, without the password.
    pub(super) url: String,
    pub(super) password: Option<String>,
}

impl Server {
    /// A connection could not be made: nothing was done.
    pub(super) fn unreachable(&self, task: Task<'_>, error: RedisError) -> StateError {
        let what = format!("{task}: `{}` was not reached", self.url);
        if error.is_io_error() {
            // Rustls says this of a certificate; trying again does not change it.
            let is_refused = error.to_string().contains("invalid peer certificate");
            let kind = if is_refused { StateErrorKind::Failed } else { StateErrorKind::Unavailable };
            return StateError::caused(kind, what, error);
        }
        let kind = match said_by_server(&error) {
            StateErrorKind::Failed if error.to_string().contains("max number of clients") => {
                StateErrorKind::Unavailable
            }
            kind => kind,
        };
        StateError::new(kind, format!("{what}: {}", self.without_secrets(&error)))
    }

    /// A command was sent, and failed.
    pub(super) fn failed(&self, task: Task<'_>, error: RedisError) -> StateError {
        let is_lost = error.is_io_error() || error.kind() == ErrorKind::Parse;
        match task {
            Task::Change(key) if is_lost => {
                let what = format!("it is not known whether the checkpoint of `{key}` was changed");
                StateError::caused(StateErrorKind::Ambiguous, format!("{what}: `{}`", self.url), error)
            }
            task if is_lost => {
                StateError::caused(StateErrorKind::Unavailable, format!("{task}: `{}`", self.url), error)
            }
            task => {
                let text = format!("{task}: `{}`: {}", self.url, self.without_secrets(&error));
                StateError::new(said_by_server(&error), text)
            }
        }
    }

    fn without_secrets(&self, error: &RedisError) -> String {
        let text = error.to_string();
        let text = text.split("with args beginning").next().unwrap_or_default().trim_end_matches([' ', ',']);
        match self.password.as_deref() {
            Some(password) if !password.is_empty() => text.replace(password, "***"),
            _ => text.to_owned(),
        }
    }
}

/// What an answer that is an error means, by the word that Redis puts first; within a script, older servers put it
/// somewhere in the text.
fn said_by_server(error: &RedisError) -> StateErrorKind {
    const WORDS: [(&str, StateErrorKind); 11] = [
        ("LOADING", StateErrorKind::Unavailable),
        ("BUSY", StateErrorKind::Unavailable),
        ("READONLY", StateErrorKind::Unavailable),
        ("MASTERDOWN", StateErrorKind::Unavailable),
        ("CLUSTERDOWN", StateErrorKind::Unavailable),
        ("TRYAGAIN", StateErrorKind::Unavailable),
        ("NOREPLICAS", StateErrorKind::Unavailable),
        ("NOSCRIPT", StateErrorKind::Unavailable),
        ("UNBLOCKED", StateErrorKind::Unavailable),
        ("WRONGTYPE", StateErrorKind::Corrupt),
        ("integer", StateErrorKind::Corrupt),
    ];
    let code = error.code().unwrap_or_default();
    let detail = error.detail().unwrap_or_default();
    let has = |word: &str| code == word || (code == "ERR" && detail.split(' ').any(|part| part == word));
    WORDS.into_iter().find(|(word, _)| has(word)).map_or(StateErrorKind::Failed, |(_, kind)| kind)
}

/// Whether nothing more will come of the connection on which this was the answer.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    // A server that has become a replica is reached under the name of another from now on.
    error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY")
}
