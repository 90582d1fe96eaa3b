//! What can go wrong with a store, told by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::body::BodyError;
use crate::position::Position;

/// What kind of failure a [`StateError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateErrorKind {
    /// Somebody else was granted the lease since, or the checkpoint was reset: the caller must stop and start anew.
    /// Nothing was changed.
    Fenced,
    /// The store has a checkpoint that is further on. Nothing was changed.
    Stale {
        /// What the store has.
        stored: Position,
    },
    /// The record is gone that the caller's lease was granted on. Nothing was made in its place.
    Lost,
    /// What is stored is no checkpoint, or is damaged. It was left as it is.
    Corrupt,
    /// A later version has stored it. It was left as it is.
    Newer,
    /// The request makes no sense as it is; repeating it does not help.
    Invalid,
    /// The handler cannot do that.
    Unsupported,
    /// The store could not be asked, and nothing was done. Trying again can help.
    Unavailable,
    /// It is not known whether it was done. Doing it again is safe, and can help.
    Ambiguous,
    /// The store refuses, and will until somebody changes something: a password, a right, a full disk.
    Failed,
}

/// A failed call of a handler. Cloning it is cheap. It never contains a password.
#[derive(Debug, Clone)]
pub struct StateError {
    kind: StateErrorKind,
    text: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StateError {
    /// An error with a text: lower case, no full stop, values in backticks, no secrets.
    pub fn new(kind: StateErrorKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, text: text.into(), source: None }
    }

    /// An error that tells its cause as the last part of its text.
    pub fn caused(
        kind: StateErrorKind,
        what: impl fmt::Display,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { kind, text: format!("{what}: {source}").into(), source: Some(Arc::new(source)) }
    }

    /// The caller's fence is not that of the record.
    pub fn fenced(what: impl fmt::Display) -> Self {
        Self::new(StateErrorKind::Fenced, format!("{what}: somebody else has the lease, or it was reset"))
    }

    /// The store is further on than the caller.
    pub fn stale(what: impl fmt::Display, stored: Position) -> Self {
        let text = format!("{what}: the store is further on, at `{stored}`");
        Self::new(StateErrorKind::Stale { stored }, text)
    }

    /// The record that a lease was granted on is gone.
    pub fn lost(what: impl fmt::Display) -> Self {
        Self::new(StateErrorKind::Lost, format!("{what}: the record is gone"))
    }

    /// What is stored cannot be read, or what is to be stored cannot be.
    pub fn body(what: impl fmt::Display, error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Corrupt { .. } => StateErrorKind::Corrupt,
            BodyError::Newer { .. } => StateErrorKind::Newer,
            BodyError::TooLarge { .. } | BodyError::Disordered => StateErrorKind::Invalid,
        };
        Self::caused(kind, what, error)
    }

    /// What kind of failure it is.
    pub const fn kind(&self) -> StateErrorKind {
        self.kind
    }

    /// Whether doing the same again can succeed. It is safe in any case.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, StateErrorKind::Unavailable | StateErrorKind::Ambiguous)
    }

    /// Whether it is not known if it was done.
    pub const fn is_ambiguous(&self) -> bool {
        matches!(self.kind, StateErrorKind::Ambiguous)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl StdError for StateError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
