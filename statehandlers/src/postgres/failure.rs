//! What the database and the driver say, as errors that tell what to do.
//!
//! A statement is a transaction of its own. Whatever the server itself says of it, nothing of it was done, but for a
//! server that is going down, which may say so of what is done already. Without an answer, a statement that writes
//! may be done, or be done later.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::error::{StateError, StateErrorKind};

/// What a statement does, if it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changes nothing, or nothing that stays unless a later commit says so.
    None,
    /// It changes what is stored.
    Write,
}

/// An error of the driver, with all that it knows in its text.
#[derive(Debug)]
struct Cause(Error);

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(said) = self.0.as_db_error() {
            return write!(formatter, "the server says `{}`: {}", said.code().code(), said.message());
        }
        let mut text = self.0.to_string();
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(text, ": {error}")?;
            cause = error.source();
        }
        formatter.write_str(&text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// A statement has failed.
pub(super) fn of_statement(what: &str, error: Error, effect: Effect) -> StateError {
    let kind = match error.as_db_error() {
        Some(said) => of_server(said, effect),
        None if is_lost(&error) => without_answer(effect),
        // What was asked could not be put into words, or the answer is not what a statement of ours gives.
        None => StateErrorKind::Failed,
    };
    StateError::caused(kind, what, Cause(error))
}

/// There was no answer in time.
pub(super) fn late(what: &str, effect: Effect) -> StateError {
    StateError::new(without_answer(effect), format!("{what}: the database has not answered in time"))
}

/// No connection could be had: nothing was asked.
pub(super) fn of_pool(what: &str, error: PoolError) -> StateError {
    match error {
        PoolError::Backend(error) => {
            let kind = match error.as_db_error() {
                Some(said) => of_server(said, Effect::None),
                None if is_lost(&error) => StateErrorKind::Unavailable,
                None => StateErrorKind::Failed,
            };
            StateError::caused(kind, format!("{what}: the database cannot be asked"), Cause(error))
        }
        PoolError::Timeout(_) => {
            StateError::new(StateErrorKind::Unavailable, format!("{what}: there was no connection in time"))
        }
        PoolError::Closed => StateError::new(StateErrorKind::Invalid, "the pool of connections is closed"),
        PoolError::NoRuntimeSpecified => {
            let text = format!("{what}: the pool has time limits, and no runtime to keep them");
            StateError::new(StateErrorKind::Invalid, text)
        }
        PoolError::PostCreateHook(error) => StateError::caused(
            StateErrorKind::Failed,
            format!("{what}: a hook of the pool has failed"),
            error,
        ),
    }
}

const fn without_answer(effect: Effect) -> StateErrorKind {
    match effect {
        Effect::None => StateErrorKind::Unavailable,
        Effect::Write => StateErrorKind::Ambiguous,
    }
}

/// Whether the connection is gone, and not a word was refused: certificates and passwords are.
fn is_lost(error: &Error) -> bool {
    let mut cause = error.source();
    if cause.is_none() {
        return true;
    }
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return !error.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<rustls::Error>)
                && error.kind() != io::ErrorKind::InvalidInput;
        }
        cause = error.source();
    }
    false
}

fn of_server(said: &DbError, effect: Effect) -> StateErrorKind {
    let code = said.code();
    // Damage is what a statement of ours finds where it reads a body that is none.
    if [SqlState::INVALID_TEXT_REPRESENTATION, SqlState::CHARACTER_NOT_IN_REPERTOIRE].contains(code) {
        return StateErrorKind::Corrupt;
    }
    if *code == SqlState::NUMERIC_VALUE_OUT_OF_RANGE || *code == SqlState::DISK_FULL {
        return StateErrorKind::Failed;
    }
    let passes = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED, SqlState::CANNOT_CONNECT_NOW];
    if passes.contains(code) {
        return StateErrorKind::Unavailable;
    }
    match code.code().get(..2) {
        // Rolled back because of others; out of memory or connections.
        Some("40" | "53") => StateErrorKind::Unavailable,
        // The server goes down, or has lost somebody.
        Some("08" | "57") => without_answer(effect),
        _ => StateErrorKind::Failed,
    }
}

/// Whether the connection is of no use any more, though it may still be there.
pub(super) fn spoils_connection(error: &Error) -> bool {
    match error.as_db_error() {
        // After a failover, the other server is to be found.
        Some(said) => {
            *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION
                || matches!(said.code().code().get(..2), Some("08" | "57"))
        }
        None => true,
    }
}
