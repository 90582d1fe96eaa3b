//! Answers: what a server says.

use bytes::BufMut;

use crate::decode::Decoded;
use crate::error::{Broken, Reason};
use crate::line::{Tokens, decode_line};
use crate::number::{parse_u64, put_u64};
use crate::offset::Offset;
use crate::topic::TopicRef;

/// An answer, without the batches that follow [`Response::Found`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response<'a> {
    /// `OK\r\n`.
    Ok,
    /// `OK <offset> <batches>\r\n`. To READ and TAIL so many batches follow, the first of which starts at `offset`.
    Found {
        /// The place in the topic.
        offset: Offset,
        /// The number of batches.
        batches: u64,
    },
    /// `MOK <bytes>\r\n<bytes>\r\n`, the bytes being lines that end in `\r\n`.
    Lines(&'a [u8]),
    /// `ERR\r\n` or `ERR <reason>\r\n`.
    Error(Reason),
}

impl Response<'_> {
    /// Writes the answer as it is sent.
    pub fn put(&self, out: &mut impl BufMut) {
        match self {
            Self::Ok => out.put_slice(b"OK"),
            Self::Found { offset, batches } => {
                out.put_slice(b"OK ");
                put_u64(out, offset.as_u64());
                out.put_u8(b' ');
                put_u64(out, *batches);
            }
            Self::Lines(lines) => {
                out.put_slice(b"MOK ");
                put_u64(out, lines.len() as u64);
                out.put_slice(b"\r\n");
                out.put_slice(lines);
            }
            Self::Error(Reason::Unknown) => out.put_slice(b"ERR"),
            Self::Error(reason) => {
                out.put_slice(b"ERR ");
                out.put_slice(reason.as_str().as_bytes());
            }
        }
        out.put_slice(b"\r\n");
    }
}

/// Decodes the answer at the beginning of `buffer`; the body of a `MOK` has at most `lines_bytes_max` bytes.
pub fn decode_response(buffer: &[u8], lines_bytes_max: usize) -> Decoded<Response<'_>> {
    let line = match decode_line(buffer) {
        Decoded::Whole { value, .. } => value,
        Decoded::More { bytes } => return Decoded::More { bytes },
        Decoded::Broken(broken) => return Decoded::Broken(broken),
    };
    match parse_line(line.text) {
        Ok(ResponseLine::Whole(value)) => Decoded::Whole { value, bytes: line.bytes },
        Ok(ResponseLine::Lines(length)) => decode_lines(buffer, line.bytes, length, lines_bytes_max),
        Err(broken) => Decoded::Broken(broken),
    }
}

/// What the line of an answer says.
enum ResponseLine<'a> {
    Whole(Response<'a>),
    Lines(u64),
}

fn parse_line(text: &[u8]) -> Result<ResponseLine<'_>, Broken> {
    let mut tokens = Tokens::new(text);
    match tokens.next().unwrap_or_default() {
        b"OK" if tokens.is_done() => Ok(ResponseLine::Whole(Response::Ok)),
        b"OK" => {
            let offset = required_number(&mut tokens).map(Offset::new)?;
            let batches = required_number(&mut tokens)?;
            end(&tokens)?;
            Ok(ResponseLine::Whole(Response::Found { offset, batches }))
        }
        b"MOK" => {
            let length = required_number(&mut tokens)?;
            end(&tokens)?;
            Ok(ResponseLine::Lines(length))
        }
        b"ERR" => Ok(ResponseLine::Whole(Response::Error(Reason::parse(tokens.rest())))),
        _ => Err(Broken::UnknownCommand),
    }
}

fn required_number(tokens: &mut Tokens<'_>) -> Result<u64, Broken> {
    parse_u64(tokens.required()?).map_err(|_| Broken::Number)
}

fn end(tokens: &Tokens<'_>) -> Result<(), Broken> {
    if tokens.is_done() { Ok(()) } else { Err(Broken::Trailing) }
}

fn decode_lines(buffer: &[u8], start: usize, length: u64, lines_bytes_max: usize) -> Decoded<Response<'_>> {
    let too_large = Broken::TooLarge { limit: lines_bytes_max };
    let Ok(length) = usize::try_from(length) else { return Decoded::Broken(too_large) };
    if length > lines_bytes_max {
        return Decoded::Broken(too_large);
    }
    let bytes = start.saturating_add(length).saturating_add(2);
    let Some(body) = buffer.get(start..bytes) else { return Decoded::More { bytes } };
    match body.strip_suffix(b"\r\n") {
        Some(lines) => Decoded::Whole { value: Response::Lines(lines), bytes },
        None => Decoded::Broken(Broken::BodyEnd),
    }
}

/// A server's settings, as `CONFIG` answers them.
///
/// The four settings of Go logd come first; the rest are ours, and missing where the server is Go logd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerConfig<'a> {
    /// The address that the server listens on.
    pub host: &'a str,
    /// The time for a request to make progress, as `15s`.
    pub timeout: &'a str,
    /// The time after which a connection without requests is closed, as `30s`.
    pub idle_timeout: &'a str,
    /// The most bytes of a batch, envelope and body; `None` where the answer does not say it.
    pub batch_bytes_max: Option<u64>,
    /// The server's version, empty for Go logd.
    pub version: &'a str,
    /// The extensions that the server understands, separated by spaces.
    pub features: &'a str,
    /// After how many batches a topic is synced: 1 before every answer, 0 not for this reason; `None` where the answer
    /// does not say it.
    pub flush_batches: Option<u64>,
}

impl<'a> ServerConfig<'a> {
    /// Reads the lines of the answer. Unknown lines are passed over.
    pub fn parse(lines: &'a [u8]) -> Self {
        let mut config = Self::default();
        for (key, value) in key_values(lines) {
            match key {
                "Host" => config.host = value,
                "Timeout" => config.timeout = value,
                "IdleTimeout" => config.idle_timeout = value,
                "MaxBatchSize" => config.batch_bytes_max = parse_u64(value.as_bytes()).ok(),
                "Version" => config.version = value,
                "Features" => config.features = value,
                "FlushBatches" => config.flush_batches = parse_u64(value.as_bytes()).ok(),
                _ => {}
            }
        }
        config
    }

    /// Whether the server names the extension.
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.split(' ').any(|feature| feature == name)
    }
}

/// The pairs of `key: value` lines, as `STATS` and `CONFIG` answer them. Lines of another form are passed over.
pub fn key_values(lines: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    lines
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter_map(|line| line.strip_suffix('\r').unwrap_or(line).split_once(':'))
        .map(|(key, value)| (key, value.trim_start_matches(' ')))
}

/// A line of `TOPICS`: `<name> <oldest offset> <next offset> <bytes> <partitions>\r\n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInfo<'a> {
    /// The topic.
    pub topic: TopicRef<'a>,
    /// The offset of the oldest batch that is still there; `next` where there is none.
    pub oldest: Offset,
    /// The offset that the next batch will get.
    pub next: Offset,
    /// The bytes of all partitions.
    pub bytes: u64,
    /// The number of partitions.
    pub partitions: u64,
}

impl<'a> TopicInfo<'a> {
    /// Writes the line with its `\r\n`.
    pub fn put(&self, out: &mut impl BufMut) {
        out.put_slice(self.topic.as_str().as_bytes());
        for number in [self.oldest.as_u64(), self.next.as_u64(), self.bytes, self.partitions] {
            out.put_u8(b' ');
            put_u64(out, number);
        }
        out.put_slice(b"\r\n");
    }

    /// Reads every line of the answer.
    ///
    /// # Errors
    /// [`Broken`] says what is wrong with the first line that is none.
    pub fn parse(lines: &'a [u8]) -> impl Iterator<Item = Result<Self, Broken>> {
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Self::parse_line)
    }

    fn parse_line(line: &'a [u8]) -> Result<Self, Broken> {
        let mut tokens = Tokens::new(line.strip_suffix(b"\r").ok_or(Broken::LineEnd)?);
        let topic = TopicRef::parse(tokens.required()?).map_err(|_| Broken::Topic)?;
        Ok(Self {
            topic,
            oldest: required_number(&mut tokens).map(Offset::new)?,
            next: required_number(&mut tokens).map(Offset::new)?,
            bytes: required_number(&mut tokens)?,
            partitions: required_number(&mut tokens)?,
        })
    }
}
