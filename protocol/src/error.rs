//! What can be wrong with bytes, and the reasons that an answer gives for it.

use std::fmt;

use thiserror::Error;

use crate::message::FrameError;

/// Why the bytes of a connection cannot be understood any further. The connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Broken {
    /// No line ends within [`LINE_BYTES_MAX`](crate::limits::LINE_BYTES_MAX) bytes.
    #[error("a line has more than {} bytes", crate::limits::LINE_BYTES_MAX)]
    LineTooLong,
    /// A line ends in `\n` without `\r`.
    #[error("a line does not end in `\\r\\n`")]
    LineEnd,
    /// The first token is none of the commands or answers.
    #[error("the first word of a line is unknown")]
    UnknownCommand,
    /// A line has too few tokens.
    #[error("an argument is missing")]
    MissingArgument,
    /// Two spaces follow each other, or a line starts or ends with one.
    #[error("an argument is empty")]
    EmptyToken,
    /// The line of a batch or an answer has a number that is none, so that its end cannot be found.
    #[error("a number is not a decimal number below 2^64")]
    Number,
    /// The line of a batch has a topic that cannot be one.
    #[error("a batch has an invalid topic")]
    Topic,
    /// A batch or an answer is larger than the reader takes.
    #[error("a batch or an answer is larger than {limit} bytes")]
    TooLarge {
        /// The most bytes that the reader takes.
        limit: usize,
    },
    /// An answer has something after its last token.
    #[error("an answer has more words than it should")]
    Trailing,
    /// The bytes after a `MOK` body are not `\r\n`.
    #[error("the body of an answer does not end in `\\r\\n`")]
    BodyEnd,
}

/// Why the bytes of a batch are not a valid batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The body does not have the checksum that the envelope names.
    #[error("the body's checksum is {actual}, the envelope says {expected}")]
    Checksum {
        /// The checksum of the envelope.
        expected: u32,
        /// The checksum of the body.
        actual: u32,
    },
    /// The body does not hold as many messages as the envelope names.
    #[error("the body holds {actual} messages, the envelope says {expected}")]
    Count {
        /// The number of the envelope.
        expected: u64,
        /// The messages of the body.
        actual: u64,
    },
    /// The body is not a row of framed messages.
    #[error("the body is not framed: {0}")]
    Frame(#[from] FrameError),
    /// The batch has no messages.
    #[error("the batch is empty")]
    Empty,
}

impl BatchError {
    /// The reason that a server answers with.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Checksum { .. } => Reason::ChecksumMismatch,
            Self::Count { .. } | Self::Frame(_) => Reason::InvalidProtocol,
            Self::Empty => Reason::InvalidRequest,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request failed, as an `ERR` answer says it.
        ///
        /// The first eight are Go logd's; its clients read any other as an internal error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// A bare `ERR`, or a reason that this version does not know.
            Unknown,
        }

        impl Reason {
            /// The words of the answer after `ERR `; empty for [`Reason::Unknown`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown => "",
                }
            }

            /// The reason that these words name; [`Reason::Unknown`] where they name none.
            pub fn parse(text: &[u8]) -> Self {
                match text {
                    $(text if text == $text.as_bytes() => Self::$name,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

reasons! {
    /// No batch starts at the offset, or the topic is not there.
    NotFound = "not found",
    /// An argument is out of its bounds, or unknown.
    InvalidRequest = "invalid request",
    /// The server has as many topics as it may have.
    MaximumTopics = "maximum topics allowed",
    /// The name is no topic name, or the server's list does not have it.
    TopicNotAllowed = "topic not allowed",
    /// A batch is larger than the server takes.
    TooLarge = "too large",
    /// The request is not of the protocol's form.
    InvalidProtocol = "invalid protocol",
    /// The body of a batch does not have the checksum of its envelope.
    ChecksumMismatch = "checksum mismatch",
    /// The request names no topic (Go logd only).
    MissingTopic = "request missing topic",
    /// The disk has no room. Nothing was stored; the same request can succeed later.
    DiskFull = "disk full",
    /// The storage failed. Nothing is promised about the request; the server's log says more.
    StorageFailed = "storage failed",
    /// The server has as many connections as it may have.
    TooManyConnections = "too many connections",
    /// The request did not come in within the server's time.
    TimedOut = "timed out",
    /// A batch of this writer with so small a number is not remembered any more: whether it is stored cannot be told.
    /// Nothing was stored.
    Forgotten = "sequence forgotten",
    /// The server is about to end.
    ShuttingDown = "shutting down",
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("unknown reason"),
            known => formatter.write_str(known.as_str()),
        }
    }
}
