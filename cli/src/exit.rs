//! How a run of `log-cli` can end.
//!
//! The exit codes are a closed set, which scripts can rely on; `help` lists them for people. A `Failure` is an exit
//! code and the sentence that goes to standard error.

use std::fmt;
use std::fmt::Write as _;
use std::process::ExitCode;

use logd_client::{Error, ErrorKind, StateError, StateErrorKind};

/// What the exit code of `log-cli` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done, or the reader of the output had enough of it.
    Success = 0,
    /// It could not be done: a file cannot be read, a line is too long, a topic or an offset is not there.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 2,
    /// The server or the store of checkpoints cannot be reached, or the connection to it was lost.
    Unreachable = 3,
    /// The server refused the request, or does not speak the protocol.
    Refused = 4,
    /// Everything readable was read, but batches or checkpoints are missing or damaged, or do not fit together.
    Damaged = 5,
    /// SIGINT ended it.
    Interrupted = 130,
    /// SIGTERM ended it.
    Terminated = 143,
}

impl Exit {
    /// Every exit code, in order.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::Unreachable,
        Self::Refused,
        Self::Damaged,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The code that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, in a few words.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done; also when the reader of the output closed it",
            Self::Failed => "failed: a file, a line that is too long, a topic or an offset that is not there",
            Self::Usage => "the arguments make no sense",
            Self::Unreachable => "the server or the store cannot be reached, or the connection was lost",
            Self::Refused => "the server refused the request, or does not speak the protocol",
            Self::Damaged => "batches or checkpoints are missing or damaged; all others were read",
            Self::Interrupted => "ended by SIGINT",
            Self::Terminated => "ended by SIGTERM",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The list of exit codes for a help text.
pub(crate) fn help() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:>3}  {}", exit.code(), exit.meaning());
    }
    text
}

/// Why a run ends early: an exit code and a sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::new(Exit::Failed, text)
    }

    /// The same with more to say.
    pub(crate) fn and(mut self, more: impl fmt::Display) -> Self {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{more}");
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Connect | ErrorKind::TimedOut | ErrorKind::Disconnected => Exit::Unreachable,
            _ if error.is_not_found() => Exit::Failed,
            ErrorKind::Server(_) | ErrorKind::Protocol => Exit::Refused,
            ErrorKind::Corrupt | ErrorKind::Gap { .. } => Exit::Damaged,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let exit = match error.kind() {
            StateErrorKind::Unavailable | StateErrorKind::Ambiguous => Exit::Unreachable,
            StateErrorKind::Corrupt | StateErrorKind::Newer => Exit::Damaged,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_code_once_and_in_order() {
        let help = help();
        let codes: Vec<u8> = help
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(codes, Exit::ALL.map(Exit::code));
        assert!(codes.is_sorted_by(|one, other| one < other));
    }

    #[test]
    fn codes_of_signals_are_those_of_a_shell() {
        assert_eq!((Exit::Interrupted.code(), Exit::Terminated.code()), (128 + 2, 128 + 15));
    }
}
