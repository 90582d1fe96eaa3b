//! Requests: what a client asks for.

use std::time::Duration;

use bytes::BufMut;

use crate::batch::RawBatch;
use crate::decode::Decoded;
use crate::envelope::{Envelope, EnvelopeTokens};
use crate::error::{Broken, Reason};
use crate::id::BatchId;
use crate::limits::WAIT_MAX;
use crate::line::{Line, Tokens, decode_line};
use crate::number::{NumberError, parse_u64, put_u64};
use crate::offset::Offset;
use crate::topic::TopicRef;

/// The extension of AT that asks for [`Bound::Upper`].
const BOUND_UPPER: &[u8] = b"bound=upper";

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The first word of a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Command {
            $($(#[$doc])* $name,)*
        }

        impl Command {
            /// Every command.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn parse(word: &[u8]) -> Option<Self> {
                match word {
                    $(word if word == $text.as_bytes() => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// Append a batch.
    Batch = "BATCH",
    /// Read from an offset.
    Read = "READ",
    /// Read from the oldest batch.
    Tail = "TAIL",
    /// Ask for a topic's end.
    Head = "HEAD",
    /// Ask for the offset that belongs to a time of arrival.
    At = "AT",
    /// List the topics.
    Topics = "TOPICS",
    /// Ask whether the server is there.
    Ping = "PING",
    /// Ask for the server's counters.
    Stats = "STATS",
    /// Ask for the server's settings.
    Config = "CONFIG",
    /// End the connection.
    Close = "CLOSE",
}

/// Which of the offsets that belong to a time of arrival is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Bound {
    /// Where to begin: every batch before the offset arrived before the time.
    #[default]
    Lower,
    /// Where to end: every batch at or behind the offset arrived after the time.
    Upper,
}

/// A request whose arguments are within the server's bounds. The body of a batch is not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// `BATCH <body_bytes> <topic> <crc> <messages> [writer=<16 hex> seq=<n>]\r\n<body>`: append these very bytes.
    Batch(RawBatch<'a>),
    /// `READ <topic> <offset> <messages> [wait=<ms>]\r\n`.
    Read {
        /// The topic to read.
        topic: TopicRef<'a>,
        /// Where a batch starts.
        offset: Offset,
        /// As few batches as hold so many messages, at least 1.
        messages: u64,
        /// How long the answer can wait at the head for a batch to come; at most [`WAIT_MAX`].
        wait: Option<Duration>,
    },
    /// `TAIL <topic> <messages>\r\n`.
    Tail {
        /// The topic to read.
        topic: TopicRef<'a>,
        /// As few batches as hold so many messages, at least 1.
        messages: u64,
    },
    /// `HEAD <topic>\r\n`.
    Head {
        /// The topic asked for.
        topic: TopicRef<'a>,
    },
    /// `AT <topic> <unix ms> [bound=upper]\r\n`.
    At {
        /// The topic asked for.
        topic: TopicRef<'a>,
        /// A time of arrival by the server's clock, in milliseconds since 1970 (UTC).
        time_ms: u64,
        /// Which offset; [`Bound::Lower`] is what a request without the extension asks for.
        bound: Bound,
    },
    /// `TOPICS\r\n`.
    Topics,
    /// `PING\r\n`.
    Ping,
    /// `STATS\r\n`.
    Stats,
    /// `CONFIG\r\n`.
    Config,
    /// `CLOSE\r\n`.
    Close,
}

/// A request that is answered with an error while the connection stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejection {
    /// What was asked for.
    pub command: Command,
    /// Why not.
    pub reason: Reason,
    /// How many bytes of a body that is not taken still follow the request's line: 0 except for a batch that is too
    /// large. [`u64::MAX`] stands for that number and anything above it.
    pub body_bytes: u64,
}

impl Request<'_> {
    /// The request's command.
    pub const fn command(&self) -> Command {
        match self {
            Self::Batch(_) => Command::Batch,
            Self::Read { .. } => Command::Read,
            Self::Tail { .. } => Command::Tail,
            Self::Head { .. } => Command::Head,
            Self::At { .. } => Command::At,
            Self::Topics => Command::Topics,
            Self::Ping => Command::Ping,
            Self::Stats => Command::Stats,
            Self::Config => Command::Config,
            Self::Close => Command::Close,
        }
    }

    /// Writes the request as it is sent.
    pub fn put(&self, out: &mut impl BufMut) {
        if let Self::Batch(batch) = self {
            out.put_slice(batch.bytes());
            return;
        }
        out.put_slice(self.command().as_str().as_bytes());
        match self {
            Self::Read { topic, offset, messages, wait } => {
                put_word(out, topic.as_str().as_bytes());
                put_number(out, offset.as_u64());
                put_number(out, *messages);
                if let Some(wait) = wait {
                    out.put_slice(b" wait=");
                    put_u64(out, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                }
            }
            Self::Tail { topic, messages } => {
                put_word(out, topic.as_str().as_bytes());
                put_number(out, *messages);
            }
            Self::Head { topic } => put_word(out, topic.as_str().as_bytes()),
            Self::At { topic, time_ms, bound } => {
                put_word(out, topic.as_str().as_bytes());
                put_number(out, *time_ms);
                if *bound == Bound::Upper {
                    put_word(out, BOUND_UPPER);
                }
            }
            Self::Batch(_) | Self::Topics | Self::Ping | Self::Stats | Self::Config | Self::Close => {}
        }
        out.put_slice(b"\r\n");
    }
}

fn put_word(out: &mut impl BufMut, word: &[u8]) {
    out.put_u8(b' ');
    out.put_slice(word);
}

fn put_number(out: &mut impl BufMut, number: u64) {
    out.put_u8(b' ');
    put_u64(out, number);
}

/// Decodes the request at the beginning of `buffer`.
///
/// `batch_bytes_max` bounds a batch's envelope and body together, `read_messages_max` what READ and TAIL can ask for.
/// A batch that is too large is rejected as soon as its envelope is there, so that nothing has to be kept for its body.
pub fn decode_request(
    buffer: &[u8],
    batch_bytes_max: usize,
    read_messages_max: u64,
) -> Decoded<Result<Request<'_>, Rejection>> {
    let line = match decode_line(buffer) {
        Decoded::Whole { value, .. } => value,
        Decoded::More { bytes } => return Decoded::More { bytes },
        Decoded::Broken(broken) => return Decoded::Broken(broken),
    };
    let mut tokens = Tokens::new(line.text);
    let Some(command) = tokens.next().and_then(Command::parse) else {
        return Decoded::Broken(Broken::UnknownCommand);
    };
    if command == Command::Batch {
        return decode_batch_request(buffer, line, tokens, batch_bytes_max);
    }
    match parse_arguments(command, tokens, read_messages_max) {
        Ok(value) => Decoded::Whole {
            value: value.map_err(|reason| Rejection { command, reason, body_bytes: 0 }),
            bytes: line.bytes,
        },
        Err(broken) => Decoded::Broken(broken),
    }
}

/// The outer error ends the connection, the inner one is answered.
type Parsed<'a> = Result<Result<Request<'a>, Reason>, Broken>;

fn parse_arguments(command: Command, mut tokens: Tokens<'_>, read_messages_max: u64) -> Parsed<'_> {
    let request = match command {
        Command::Read => {
            let mut wait = None;
            let (topic, offset, messages) = (tokens.required()?, tokens.required()?, tokens.required()?);
            let extensions = parse_extensions(tokens, |token| {
                let before = wait;
                wait = wait.or_else(|| token.strip_prefix(b"wait=").and_then(parse_wait));
                before.is_none() && wait.is_some()
            })?;
            parse_topic(topic).and_then(|topic| {
                let offset = parse_u64(offset).map(Offset::new).map_err(|_| Reason::InvalidRequest)?;
                let messages = parse_messages(messages, read_messages_max)?;
                extensions?;
                if messages == 0 {
                    return Err(Reason::InvalidRequest);
                }
                Ok(Request::Read { topic, offset, messages, wait })
            })
        }
        Command::Tail => {
            let (topic, messages) = (tokens.required()?, tokens.required()?);
            let extensions = no_extensions(tokens)?;
            parse_topic(topic).and_then(|topic| {
                let messages = parse_messages(messages, read_messages_max)?.max(1);
                extensions.map(|()| Request::Tail { topic, messages })
            })
        }
        Command::Head => {
            let topic = tokens.required()?;
            let extensions = no_extensions(tokens)?;
            parse_topic(topic).and_then(|topic| extensions.map(|()| Request::Head { topic }))
        }
        Command::At => parse_at(tokens)?,
        Command::Topics => no_extensions(tokens)?.map(|()| Request::Topics),
        Command::Ping => no_extensions(tokens)?.map(|()| Request::Ping),
        Command::Stats => no_extensions(tokens)?.map(|()| Request::Stats),
        Command::Config => no_extensions(tokens)?.map(|()| Request::Config),
        Command::Close => no_extensions(tokens)?.map(|()| Request::Close),
        Command::Batch => return Err(Broken::UnknownCommand),
    };
    Ok(request)
}

/// docs/protocol.md, "Time": a topic, a number of milliseconds, and which bound.
fn parse_at(mut tokens: Tokens<'_>) -> Parsed<'_> {
    let (topic, time_ms) = (tokens.required()?, tokens.required()?);
    let mut bound = Bound::Lower;
    let extensions = parse_extensions(tokens, |token| {
        token == BOUND_UPPER && std::mem::replace(&mut bound, Bound::Upper) == Bound::Lower
    })?;
    Ok(parse_topic(topic).and_then(|topic| {
        let time_ms = parse_u64(time_ms).map_err(|_| Reason::InvalidRequest)?;
        extensions.map(|()| Request::At { topic, time_ms, bound })
    }))
}

/// docs/protocol.md, "Topics": a name that cannot be one is `topic not allowed`, for every command.
fn parse_topic(token: &[u8]) -> Result<TopicRef<'_>, Reason> {
    TopicRef::parse(token).map_err(|_| Reason::TopicNotAllowed)
}

fn parse_messages(token: &[u8], messages_max: u64) -> Result<u64, Reason> {
    match parse_u64(token) {
        Ok(messages) if messages <= messages_max => Ok(messages),
        _ => Err(Reason::InvalidRequest),
    }
}

fn no_extensions(tokens: Tokens<'_>) -> Result<Result<(), Reason>, Broken> {
    parse_extensions(tokens, |_| false)
}

/// docs/protocol.md, "Extensions": trailing `key=value` tokens. `take` says whether it knows one and had none of that
/// key before.
fn parse_extensions<'a>(
    tokens: Tokens<'a>,
    mut take: impl FnMut(&'a [u8]) -> bool,
) -> Result<Result<(), Reason>, Broken> {
    let mut unknown = false;
    if !tokens.is_done() {
        for token in tokens {
            if token.is_empty() {
                return Err(Broken::EmptyToken);
            }
            unknown |= !take(token);
        }
    }
    Ok(if unknown { Err(Reason::InvalidRequest) } else { Ok(()) })
}

fn parse_wait(value: &[u8]) -> Option<Duration> {
    parse_u64(value).ok().map(Duration::from_millis).filter(|wait| *wait <= WAIT_MAX)
}

fn decode_batch_request<'a>(
    buffer: &'a [u8],
    line: Line<'a>,
    tokens: Tokens<'a>,
    batch_bytes_max: usize,
) -> Decoded<Result<Request<'a>, Rejection>> {
    let reject = |reason, body_bytes, bytes| Decoded::Whole {
        value: Err(Rejection { command: Command::Batch, reason, body_bytes }),
        bytes,
    };
    let tokens = match EnvelopeTokens::parse_arguments(tokens) {
        Ok(tokens) => tokens,
        Err(broken) => return Decoded::Broken(broken),
    };
    let body_bytes = match parse_u64(tokens.body_bytes) {
        Ok(body_bytes) => body_bytes,
        Err(NumberError::Overflow) => return reject(Reason::TooLarge, u64::MAX, line.bytes),
        Err(NumberError::NotDecimal) => return Decoded::Broken(Broken::Number),
    };
    let bytes = match usize::try_from(body_bytes).map(|body| body.checked_add(line.bytes)) {
        Ok(Some(bytes)) if bytes <= batch_bytes_max => bytes,
        _ => return reject(Reason::TooLarge, body_bytes, line.bytes),
    };
    let Some((whole, body)) = buffer
        .get(..bytes)
        .and_then(|whole| whole.split_at_checked(line.bytes).map(|(_, body)| (whole, body)))
    else {
        return Decoded::More { bytes };
    };
    match parse_envelope(&tokens) {
        Ok(envelope) => {
            Decoded::Whole { value: Ok(Request::Batch(RawBatch { envelope, bytes: whole, body })), bytes }
        }
        Err(reason) => reject(reason, 0, bytes),
    }
}

/// The envelope of a batch that is there with its body: whatever is wrong with it now leaves the connection usable.
fn parse_envelope<'a>(tokens: &EnvelopeTokens<'a>) -> Result<Envelope<'a>, Reason> {
    parse_topic(tokens.topic)?;
    BatchId::parse(tokens.extensions).map_err(|_| Reason::InvalidRequest)?;
    Envelope::parse(tokens).map_err(|_| Reason::InvalidProtocol)
}
