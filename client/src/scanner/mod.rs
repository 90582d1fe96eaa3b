//! Reading many messages: a topic as a stream.
//!
//! A [`Scanner`] is a handle. A task of its own owns the connection, asks for batches, checks every one, and hands
//! them over in pieces of some 256 KiB, of which a few can wait; so the next piece is received and checked while the
//! caller works on this one. The scanner cuts the messages out of the pieces without copying them.
//!
//! The task knows where to go on; a lost connection is made anew there, and nothing is left out or repeated.

mod intake;
mod poll;
mod position;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::Stream;
use logd_protocol::TopicName;
use logd_protocol::limits::{BATCH_BYTES_MAX, READ_MESSAGES_DEFAULT, WAIT_MAX};
use logd_statehandlers::{Anchor, Position};
use tokio::runtime::Handle as Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub(crate) use self::intake::Fetched;
use self::intake::{Event, Intake};
use self::poll::{Poller, Settings};
use crate::client::POLL_INTERVAL_DEFAULT;
use crate::config::{ClientConfig, check_batch_bytes, check_host};
use crate::error::{Error, ErrorKind};
use crate::session::Link;

/// How many messages one READ asks for, by default: about 1 MiB of lines of 100 bytes.
const READ_MESSAGES: u64 = 10_000;
/// How long a READ waits at the end of a topic, by default.
const WAIT_DEFAULT: Duration = Duration::from_secs(10);
/// How many pieces can wait for the scanner.
const PIECES_MAX: usize = 2;

/// A message of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it is in the topic. [`Start::At`] this position begins with this message.
    pub position: Position,
    /// The message's own bytes. They share the piece of some 256 KiB that they were received in: copy them to keep few
    /// of many.
    pub bytes: Bytes,
}

/// Where a scanner begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Start {
    /// With the oldest message that the topic still has.
    #[default]
    Earliest,
    /// With the first message that is written after the scanner's first answer.
    Latest,
    /// With the message at this position.
    At(Position),
    /// With a message that arrived at the server about this time, so that none which arrived then or later is missed.
    ///
    /// The server keeps a time for about every 64 KiB: up to so much that arrived earlier comes first, and where it has
    /// lost the times of a part of the topic, that part. It goes by the server's clock. Where nothing is known to have
    /// arrived so late, and so for a time to come, this is the topic's end; where the topic does not exist yet and is
    /// followed, its beginning. A server that does not know `AT`, as Go logd does not, is an error.
    Time(SystemTime),
}

/// The settings of a [`Scanner`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ScannerBuilder {
    config: ClientConfig,
    settings: Settings,
    last: Option<Anchor>,
    limit: Option<u64>,
}

impl ScannerBuilder {
    /// The topic to read. Default: `default`.
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.settings.topic = topic;
        self
    }

    /// Where to begin. Default: [`Start::Earliest`].
    pub const fn start(mut self, start: Start) -> Self {
        self.settings.start = start;
        self
    }

    /// The most messages to yield. Default: no limit.
    pub const fn limit(mut self, messages: u64) -> Self {
        self.limit = Some(messages);
        self
    }

    /// Whether to wait for more at the end of the topic, and for the topic itself. Default: no, end there.
    pub const fn follow(mut self, follow: bool) -> Self {
        self.settings.follow = follow;
        self
    }

    /// Ends behind the last message that arrived at the server until this time, by the server's clock. Default: no such
    /// end.
    ///
    /// No message that arrived until then is left out. The server keeps a time for about every 64 KiB: up to so much
    /// that arrived later comes too, and where it has lost the times of a part of the topic, that part. A server that
    /// does not know `AT`, as Go logd does not, is an error.
    ///
    /// A topic that is not followed ends where it ended when the scanner began, at the latest. One that is followed ends
    /// once a message has arrived later; where none does, a second after the time by this machine's clock.
    pub const fn until(mut self, time: SystemTime) -> Self {
        self.settings.until = Some(time);
        self
    }

    /// That the topic is not the one any more that was read up to the start, `last` being its last batch if one is known,
    /// is an error, also when the topic is followed. It is looked for at the beginning of each connection.
    pub(crate) const fn watched(mut self, last: Option<Anchor>) -> Self {
        self.settings.is_watched = true;
        self.last = last;
        self
    }

    /// How many messages one READ asks for. Default: 10,000; from 1 to 50,000. Where the server allows fewer, fewer
    /// are asked for.
    pub const fn read_messages(mut self, messages: u64) -> Self {
        self.settings.read_messages = messages;
        self
    }

    /// How long a READ waits for a batch to come, before the server is asked anew. Default: 10 seconds; at most 60.
    pub const fn wait(mut self, wait: Duration) -> Self {
        self.settings.wait = wait;
        self
    }

    /// How often to look for more where the server cannot wait for it. Default: 200 ms.
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.settings.poll_interval = interval;
        self
    }

    /// The most bytes of a batch that is accepted. Default, and at most: 64 MiB; at least 512.
    pub const fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes_max = bytes;
        self
    }

    /// Starts the scanner's task, which connects and begins to read ahead.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when a setting is out of its bounds, or when this is not called within a tokio runtime.
    pub fn open(self) -> Result<Scanner, Error> {
        let Self { config, settings, last, limit } = self;
        check_host(config.host())?;
        check_batch_bytes("batch_bytes_max", settings.batch_bytes_max)?;
        if !(1..=READ_MESSAGES_DEFAULT).contains(&settings.read_messages) {
            let text = format!(
                "read_messages is `{}`: it must be from 1 to {READ_MESSAGES_DEFAULT}",
                settings.read_messages
            );
            return Err(Error::invalid(text));
        }
        if settings.wait > WAIT_MAX {
            return Err(Error::invalid(format!(
                "wait is `{:?}`: it must be at most `{WAIT_MAX:?}`",
                settings.wait
            )));
        }
        let runtime = Runtime::try_current()
            .map_err(|_| Error::invalid("a scanner must be opened within a tokio runtime"))?;
        let wanted = limit.unwrap_or(u64::MAX);
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let intake = Intake::new(settings.topic.clone(), settings.batch_bytes_max, last, wanted, sender);
        let task = runtime.spawn(Poller::new(Link::new(config), settings, intake).run()).abort_handle();
        Ok(Scanner {
            position: None,
            wanted,
            current: None,
            piece: Vec::new().into_iter(),
            pieces,
            ended: false,
            task,
        })
    }
}

/// The messages of a topic, in order, as a stream.
///
/// Every message is checked and comes once. When the connection is lost it is made anew, as the retry policy says, and
/// reading goes on exactly behind the last message; the policy's attempts are counted from one success to the next.
///
/// What is damaged or missing is yielded once as an error for which [`Error::is_skippable`] is true, and the messages
/// behind it follow. After any other error the stream ends.
///
/// ```no_run
/// use logd_client::{ClientConfig, Scanner, Start};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut scanner = Scanner::builder(ClientConfig::new("127.0.0.1:1774"))
///     .start(Start::At("60.0".parse()?))
///     .follow(true)
///     .open()?;
/// while let Some(message) = scanner.next().await {
///     match message {
///         Ok(message) => println!("{}: {}", message.position, message.bytes.escape_ascii()),
///         Err(error) if error.is_skippable() => eprintln!("{error}"),
///         Err(error) => return Err(error.into()),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Scanner {
    position: Option<Position>,
    wanted: u64,
    current: Option<Fetched>,
    piece: std::vec::IntoIter<Event>,
    pieces: mpsc::Receiver<Vec<Event>>,
    ended: bool,
    task: AbortHandle,
}

impl Scanner {
    /// The default settings for a scanner of the configured server.
    pub fn builder(config: ClientConfig) -> ScannerBuilder {
        let settings = Settings {
            topic: TopicName::default(),
            start: Start::default(),
            until: None,
            follow: false,
            is_watched: false,
            read_messages: READ_MESSAGES,
            wait: WAIT_DEFAULT,
            poll_interval: POLL_INTERVAL_DEFAULT,
            batch_bytes_max: BATCH_BYTES_MAX,
        };
        ScannerBuilder { config, settings, last: None, limit: None }
    }

    /// The next message; `None` when the limit is reached, at the end of the topic unless it is followed, and after an
    /// error that ended the stream.
    ///
    /// # Errors
    /// - [`ErrorKind::Corrupt`] and [`ErrorKind::Gap`] for what is skipped; the next call goes on behind it
    /// - [`Error::is_not_found`] when there is no such topic, or no batch at the start, and the topic is not followed;
    ///   and when retention has dropped what comes next
    /// - [`ErrorKind::Invalid`] when no message starts at the start, or when the server does not know `AT` and a time
    ///   was given
    /// - [`ErrorKind::Closed`] when the runtime that the scanner was opened in has ended
    /// - else the error of the last attempt that the retry policy allows
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the next call yields the message.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|context| self.poll_message(context)).await
    }

    /// The position of the next message: what to start at to go on here. `None` until the start is known, which it is
    /// once a call of [`Scanner::next`] has returned.
    ///
    /// Behind the last message of a batch this is the batch that follows, which need not exist yet.
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// The next batch, instead of its messages one by one. [`Scanner::position`] is behind it then, and the limit is not
    /// counted.
    ///
    /// # Errors
    /// As [`Scanner::next`].
    ///
    /// # Cancel safety
    /// As [`Scanner::next`].
    pub(crate) async fn next_batch(&mut self) -> Option<Result<Fetched, Error>> {
        poll_fn(|context| self.poll_batch(context)).await
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Fetched, Error>>> {
        loop {
            if let Some(fetched) = self.current.take() {
                self.position = Some(Position::at(fetched.end));
                return Poll::Ready(Some(Ok(fetched)));
            }
            if let Err(last) = ready!(self.poll_event(context)) {
                return Poll::Ready(last.map(Err));
            }
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            if self.wanted == 0 {
                return Poll::Ready(None);
            }
            if let Some(message) = self.cut_message() {
                return Poll::Ready(Some(Ok(message)));
            }
            if let Err(last) = ready!(self.poll_event(context)) {
                return Poll::Ready(last.map(Err));
            }
        }
    }

    /// Takes what the task tells next; `Err` with what is to be yielded, the end or an error.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Option<Error>>> {
        match self.piece.next() {
            Some(Event::At(position)) => self.position = Some(position),
            Some(Event::Messages(fetched)) => self.current = Some(fetched),
            Some(Event::Skipped { error, next }) => {
                self.position = Some(next);
                return Poll::Ready(Err(Some(error)));
            }
            Some(Event::End) => self.ended = true,
            Some(Event::Failed(error)) => {
                self.ended = true;
                return Poll::Ready(Err(Some(error.ending())));
            }
            None if self.ended => return Poll::Ready(Err(None)),
            None => match ready!(self.pieces.poll_recv(context)) {
                Some(piece) => self.piece = piece.into_iter(),
                None => {
                    self.ended = true;
                    let text = "the scanner's runtime ended before the scanner did";
                    return Poll::Ready(Err(Some(Error::new(ErrorKind::Closed, text).ending())));
                }
            },
        }
        Poll::Ready(Ok(()))
    }

    /// Cuts the next message out of the current batch.
    fn cut_message(&mut self) -> Option<Message> {
        let Fetched { offset, end, messages, .. } = self.current.as_mut()?;
        let Some(message) = messages.next() else {
            self.current = None;
            return None;
        };
        let position = Position { offset: *offset, delta: message.delta as u64 };
        self.position = Some(if messages.is_done() {
            Position::at(*end)
        } else {
            Position { offset: *offset, delta: messages.delta() as u64 }
        });
        self.wanted -= 1;
        Some(Message { position, bytes: message.bytes })
    }
}

impl Stream for Scanner {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_message(context)
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
