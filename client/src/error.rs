//! What can go wrong between a caller and a server, told by what the caller can do about it.
//!
//! An [`Error`] is a kind, a sentence that names the address, topic or offset concerned, and the cause where there is
//! one. [`AppendError`] adds what is known about the batch: whether it may be in the topic all the same.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use logd_protocol::{Offset, Reason};
use logd_statehandlers::StateErrorKind;
use thiserror::Error as ThisError;

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No connection could be made: nothing was asked of the server. Trying again can help.
    Connect,
    /// The server neither sent nor took a byte within the time allowed. Trying again can help.
    TimedOut,
    /// The connection ended before the answer was whole. Trying again can help.
    Disconnected,
    /// The peer does not speak the protocol, or sends more than is accepted.
    Protocol,
    /// A batch is damaged: its checksum, its frames, or its number of messages is wrong.
    Corrupt,
    /// Batches are missing from the topic: those from `from` up to `to`, which is there again.
    Gap {
        /// The offset that was asked for.
        from: Offset,
        /// The offset of the first batch after the missing ones.
        to: Offset,
    },
    /// The topic is not the one that was read: it ends before what was read of it, or has other batches there.
    Beyond {
        /// Where reading was to go on.
        from: Offset,
        /// Up to where it can be the same at most: the end of the topic, or the first batch that is known to be another.
        end: Offset,
    },
    /// The server answered `ERR` with this reason.
    Server(Reason),
    /// The request makes no sense as it is; repeating it does not help.
    Invalid,
    /// The handle was closed.
    Closed,
    /// The batch is in the writer's spool, on the disk, and is sent from there.
    Spooled,
    /// Reading or writing the spool failed.
    Spool,
    /// The store of checkpoints failed, or said no.
    State(StateErrorKind),
}

/// A failed request. Cloning it is cheap.
///
/// ```
/// use logd_client::{Client, ClientConfig, ErrorKind, RetryPolicy};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let config = ClientConfig::new("127.0.0.1:1").retry(RetryPolicy::none());
/// let error = Client::connect(config).await.expect_err("nothing listens there");
/// assert_eq!(error.kind(), ErrorKind::Connect);
/// assert_eq!(error.to_string(), "cannot connect to `127.0.0.1:1`: connection refused");
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    text: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    ends_stream: bool,
}

impl Error {
    /// What kind of failure it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The reason of the server's `ERR` answer, where there was one.
    pub const fn reason(&self) -> Option<Reason> {
        match self.kind {
            ErrorKind::Server(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the server answered `ERR not found`: no batch starts at the offset, or the topic is not there.
    pub const fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::Server(Reason::NotFound))
    }

    /// Whether the same request can succeed later: the network or the server was not ready for it.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Connect
                | ErrorKind::TimedOut
                | ErrorKind::Disconnected
                | ErrorKind::Server(Reason::TooManyConnections | Reason::TimedOut | Reason::ShuttingDown)
        )
    }

    /// Whether a scanner or consumer that yielded this error goes on behind what is damaged or missing.
    pub const fn is_skippable(&self) -> bool {
        !self.ends_stream && matches!(self.kind, ErrorKind::Corrupt | ErrorKind::Gap { .. })
    }

    /// Whether the scanner or consumer that yielded this error has ended with it.
    pub const fn ends_stream(&self) -> bool {
        self.ends_stream
    }

    /// The stream ends with this error.
    pub(crate) const fn ending(mut self) -> Self {
        self.ends_stream = true;
        self
    }

    pub(crate) fn new(kind: ErrorKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, text: text.into(), source: None, ends_stream: false }
    }

    pub(crate) fn invalid(text: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Invalid, text)
    }

    /// An error that tells its cause as the last part of its text.
    pub(crate) fn caused(
        kind: ErrorKind,
        what: impl fmt::Display,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind,
            text: format!("{what}: {source}").into(),
            source: Some(Arc::new(source)),
            ends_stream: false,
        }
    }

    /// An error that says what its cause says.
    pub(crate) fn told(kind: ErrorKind, source: impl StdError + Send + Sync + 'static) -> Self {
        Self { kind, text: source.to_string().into(), source: Some(Arc::new(source)), ends_stream: false }
    }

    /// A failed call of the operating system. The cause is told in the library's words, which are lower case, where
    /// it has some.
    pub(crate) fn io(kind: ErrorKind, what: impl fmt::Display, source: io::Error) -> Self {
        let text = match source.kind() {
            io::ErrorKind::Other => format!("{what}: {source}"),
            // The library has no word for the others, but the system has.
            known if known.to_string() == "uncategorized error" => format!("{what}: {source}"),
            known => format!("{what}: {known}"),
        };
        Self { kind, text: text.into(), source: Some(Arc::new(source)), ends_stream: false }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// What is known about a batch that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The batch is surely not in the topic: sending it again makes no duplicate.
    NotWritten,
    /// The whole batch was sent and no answer tells what became of it: sending it again can make a duplicate.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotWritten => "not written",
            Self::Unknown => "unknown",
        })
    }
}

/// A batch was not acknowledged.
#[derive(Debug, Clone, ThisError)]
#[error("{error} (outcome: {outcome})")]
pub struct AppendError {
    /// Why.
    #[source]
    pub error: Error,
    /// Whether the batch may be in the topic all the same.
    pub outcome: Outcome,
}

impl AppendError {
    pub(crate) const fn not_written(error: Error) -> Self {
        Self { error, outcome: Outcome::NotWritten }
    }

    pub(crate) const fn unknown(error: Error) -> Self {
        Self { error, outcome: Outcome::Unknown }
    }
}
