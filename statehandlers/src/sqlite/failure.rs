//! What SQLite's errors mean to a caller.

use std::fmt;

use rusqlite::{Error, ErrorCode};

use crate::error::{StateError, StateErrorKind};
use crate::key::ConsumerKey;

/// A call failed that has changed nothing.
pub(super) fn refused(what: impl fmt::Display, error: Error) -> StateError {
    let kind = match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationInterrupted
            | ErrorCode::OutOfMemory,
        ) => StateErrorKind::Unavailable,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StateErrorKind::Corrupt,
        _ => StateErrorKind::Failed,
    };
    StateError::caused(kind, what, error)
}

/// A commit failed. A lock that was not had, a constraint that does not hold, and a write that found no room are before the
/// point from which on the next program that opens the database may find the transaction in it; any other failure may be
/// behind.
pub(super) fn uncommitted(what: impl fmt::Display, unknown: impl fmt::Display, error: Error) -> StateError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::ConstraintViolation
            | ErrorCode::DiskFull,
        ) => refused(what, error),
        _ => StateError::caused(StateErrorKind::Ambiguous, unknown, error),
    }
}

/// The beginning of an error's text.
pub(super) fn unknown(key: &ConsumerKey) -> String {
    format!("it is not known whether the checkpoint of `{key}` was changed")
}

pub(super) fn busy(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

pub(super) fn invalid(text: impl Into<std::sync::Arc<str>>) -> StateError {
    StateError::new(StateErrorKind::Invalid, text)
}
