//! How a property ends.

use std::error::Error;
use std::fmt::{self, Debug};

use super::fixture::FixtureError;
use crate::error::{StateError, StateErrorKind};

/// How a property ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It holds.
    Held,
    /// It was not tested, for this reason.
    Skipped(String),
    /// It does not hold; this was seen.
    Failed(String),
}

impl Outcome {
    /// Whether the property does not hold.
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => formatter.write_str("held"),
            Self::Skipped(why) => write!(formatter, "skipped: {why}"),
            Self::Failed(why) => write!(formatter, "failed: {why}"),
        }
    }
}

/// Why a property is left before its end.
#[derive(Debug)]
pub(super) enum Stop {
    Skipped(String),
    Failed(String),
}

pub(super) type Verdict<T = ()> = Result<T, Stop>;

pub(super) fn skipped<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Stop::Skipped(why.into()))
}

pub(super) fn failed<T>(why: impl Into<String>) -> Verdict<T> {
    Err(Stop::Failed(why.into()))
}

impl<E: Error> From<E> for Stop {
    /// An error that a property did not ask for.
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A hook that failed fails the property.
pub(super) fn hooked<T>(result: Result<T, FixtureError>) -> Verdict<T> {
    result.map_err(|error| Stop::Failed(format!("the fixture: {error}")))
}

/// Fails the property with what was seen, unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($seen:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err($crate::conformance::verdict::Stop::Failed(format!($($seen)+)));
        }
    };
}
pub(super) use ensure;

/// Fails the property unless both are the same.
pub(super) fn same<T: PartialEq + Debug>(seen: &T, expected: &T, what: &str) -> Verdict {
    ensure!(seen == expected, "{what}: it is {seen:?}, and should be {expected:?}");
    Ok(())
}

/// Fails the property unless the call was refused with one of these kinds.
pub(super) fn refused<T: Debug>(
    result: Result<T, StateError>,
    kinds: &[StateErrorKind],
    what: &str,
) -> Verdict {
    match result {
        Err(error) if kinds.contains(&error.kind()) => Ok(()),
        Err(error) => {
            failed(format!("{what}: its error is {:?} (`{error}`), and should be {kinds:?}", error.kind()))
        }
        Ok(done) => failed(format!("{what}: it was done ({done:?}), and should be refused with {kinds:?}")),
    }
}
