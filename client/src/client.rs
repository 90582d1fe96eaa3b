//! Single requests over one connection.
//!
//! A [`Client`] has one connection at most, made on first use and made anew after a failure. Requests that change
//! nothing are tried again as the [`RetryPolicy`](crate::RetryPolicy) says; an append is not, once bytes of it may have
//! reached the server. What a server does not know is done without, where it can be: Go logd is asked for its settings
//! instead of a PING, and its topics are read through to find their ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_protocol::limits::{BATCH_BYTES_MAX, WAIT_MAX};
use logd_protocol::{Batch, BatchError, Bound, Offset, Request, TopicInfo, TopicName};
use logd_statehandlers::Anchor;
use tokio::time::Instant;
use tracing::debug;

use crate::answers::{Batches, Head, ServerSettings, TopicSummary, owned_pairs};
use crate::config::ClientConfig;
use crate::connection::Taken;
use crate::error::{AppendError, Error, ErrorKind};
use crate::fit::{self, Look, Remains};
use crate::retry::Backoff;
use crate::session::{Link, Session, feature};

/// The most bytes of one answer that [`Client::read`] and its like keep: what the largest batch can have.
const READ_BYTES_MAX: u64 = BATCH_BYTES_MAX as u64;
/// How many messages to read at a time when looking for a topic's end.
const WALK_MESSAGES: u64 = 1000;
/// How often a server that cannot wait is asked whether a batch has come.
pub(crate) const POLL_INTERVAL_DEFAULT: Duration = Duration::from_millis(200);

/// Does what can be repeated without harm until it succeeds, is refused, or no attempt is left. (A macro, because the
/// compiler cannot see that a future which calls an async closure with a borrowed session is `Send`.)
macro_rules! retrying {
    ($client:ident, $session:ident => $attempt:expr) => {{
        let mut backoff = $client.link.config().retry.backoff();
        loop {
            let result = match $client.link.ready().await {
                Ok($session) => $attempt,
                Err(error) => Err(error),
            };
            match result {
                Ok(value) => break Ok(value),
                Err(error) => pause(&mut backoff, error).await?,
            }
        }
    }};
}

/// A connection to a server, for single requests.
///
/// To write many messages use a [`Writer`](crate::Writer), to read many a [`Scanner`](crate::Scanner).
///
/// # Cancel safety
/// Dropping the future of a request before it is ready abandons the connection it was made on; the next request makes a
/// new one. For requests that read nothing is lost. An append that was dropped may or may not be in the topic.
///
/// ```no_run
/// use logd_client::{BatchBuilder, Client, ClientConfig, TopicName};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = Client::connect(ClientConfig::new("127.0.0.1:1774")).await?;
/// let topic = TopicName::new("greetings")?;
/// let mut builder = BatchBuilder::new(&topic, 65536);
/// builder.push(b"hello")?;
/// if let Some(batch) = builder.finish() {
///     let offset = client.append(&batch).await?;
///     assert_eq!(client.read(&topic, offset, 1).await?.batches, [batch]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    link: Link,
}

impl Client {
    /// A client that connects when it is first used. It does no I/O yet.
    pub const fn new(config: ClientConfig) -> Self {
        Self { link: Link::new(config) }
    }

    /// A client that is connected.
    ///
    /// # Errors
    /// The error of the last attempt that the retry policy allows: [`ErrorKind::Connect`] when no connection could be
    /// made, and any other when the server did not tell its settings on it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> {
        let mut client = Self::new(config);
        client.settings().await?;
        Ok(client)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// The error of the last attempt that the retry policy allows.
    pub async fn ping(&mut self) -> Result<(), Error> {
        retrying!(self, session => session.ping().await)
    }

    /// Appends a batch to its topic and returns the offset that it got.
    ///
    /// Making a connection for it is tried again as the retry policy says, the append itself never.
    ///
    /// # Errors
    /// [`AppendError`] with what is known about the batch.
    ///
    /// # Cancel safety
    /// Not cancel safe: when the future is dropped, the batch may or may not be in the topic.
    pub async fn append(&mut self, batch: &Batch) -> Result<Offset, AppendError> {
        let mut backoff = self.link.config().retry.backoff();
        loop {
            match self.link.ready_to_append().await {
                Ok(session) => {
                    let appended = session.append(batch).await;
                    if appended.is_err() && batch.id().is_some() {
                        // docs/protocol.md, "Dedup": what its writer sends next would be refused on this connection.
                        self.link.forget();
                    }
                    return appended.map(|appended| appended.offset);
                }
                Err(error) => pause(&mut backoff, error).await.map_err(AppendError::not_written)?,
            }
        }
    }

    /// Reads whole batches from `offset` on: as few as hold `messages` messages, fewer where the topic ends first.
    ///
    /// # Errors
    /// - [`Error::is_not_found`] when no batch starts at `offset` or there is no such topic
    /// - [`ErrorKind::Corrupt`] when one of the batches is damaged
    /// - [`ErrorKind::Invalid`] when the answer has more than 64 MiB: ask for fewer messages
    /// - else the error of the last attempt that the retry policy allows
    pub async fn read(&mut self, topic: &TopicName, offset: Offset, messages: u64) -> Result<Batches, Error> {
        let request = Request::Read { topic: topic.as_topic(), offset, messages, wait: None };
        self.batches(&request).await
    }

    /// Reads as [`Client::read`] does, but waits for a batch to come where `offset` is the topic's end: for `wait` at
    /// most, and never for more than 60 seconds.
    ///
    /// A server that cannot wait is asked again every 200 ms.
    ///
    /// # Errors
    /// As [`Client::read`]; [`Error::is_not_found`] when no batch has come in time.
    pub async fn read_wait(
        &mut self,
        topic: &TopicName,
        offset: Offset,
        messages: u64,
        wait: Duration,
    ) -> Result<Batches, Error> {
        let wait = wait.min(WAIT_MAX);
        if self.settings().await?.has_feature(feature::WAIT) {
            let request = Request::Read { topic: topic.as_topic(), offset, messages, wait: Some(wait) };
            return self.batches(&request).await;
        }
        let deadline = Instant::now() + wait;
        loop {
            match self.read(topic, offset, messages).await {
                Err(error) if error.is_not_found() && Instant::now() < deadline => {
                    let next = Instant::now() + POLL_INTERVAL_DEFAULT;
                    tokio::time::sleep_until(next.min(deadline)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Reads from the oldest batch on that the topic still has.
    ///
    /// # Errors
    /// As [`Client::read`].
    pub async fn tail(&mut self, topic: &TopicName, messages: u64) -> Result<Batches, Error> {
        self.batches(&Request::Tail { topic: topic.as_topic(), messages }).await
    }

    /// Finds the end of a topic.
    ///
    /// A server that does not know HEAD is read through from the oldest batch on; there, an empty topic cannot be told
    /// from one that does not exist.
    ///
    /// # Errors
    /// [`Error::is_not_found`] when there is no such topic; else the error of the last attempt that the retry policy
    /// allows.
    pub async fn head(&mut self, topic: &TopicName) -> Result<Head, Error> {
        if !self.settings().await?.has_feature(feature::HEAD) {
            return self.walk(topic).await;
        }
        let request = Request::Head { topic: topic.as_topic() };
        let (next, batches) = retrying!(self, session => session.ask_found(&request).await)?;
        Ok(Head { next, batches })
    }

    /// Finds the offset that belongs to a time of arrival, by the server's clock and in whole milliseconds.
    ///
    /// - [`Bound::Lower`]: where to begin. Every batch before the offset arrived before `time`, so that nothing which
    ///   arrived at that time or later is missed from there on.
    /// - [`Bound::Upper`]: where to end. Every batch at or behind the offset arrived after `time`, so that nothing which
    ///   arrived until that time is missed up to there.
    ///
    /// The server keeps a time for about every 64 KiB, so that a lower offset can be that much too early and an upper
    /// one that much too late; where it has lost the times of a part of the topic, by the whole part. Either is the end
    /// of the topic where no later batch is known to have arrived. A time before 1970 is taken for 1970.
    ///
    /// Retention can have dropped the batch at a lower offset by the time that it is read; a [`Scanner`](crate::Scanner)
    /// that starts at a [`Start::Time`](crate::Start::Time) asks anew then.
    ///
    /// # Errors
    /// - [`Error::is_not_found`] when there is no such topic
    /// - [`ErrorKind::Invalid`] when the server does not know `AT`, as Go logd does not
    /// - else the error of the last attempt that the retry policy allows
    pub async fn offset_at(
        &mut self,
        topic: &TopicName,
        time: SystemTime,
        bound: Bound,
    ) -> Result<Offset, Error> {
        retrying!(self, session => ask_at(session, topic, time, bound).await).map(|(offset, _)| offset)
    }

    /// What has become of a batch that was read.
    pub(crate) async fn remains(&mut self, topic: &TopicName, anchor: Anchor) -> Result<Remains, Error> {
        retrying!(self, session => fit::remains(session, topic, anchor).await)
    }

    /// What is at an offset.
    pub(crate) async fn look(&mut self, topic: &TopicName, offset: Offset) -> Result<Look, Error> {
        retrying!(self, session => fit::look(session, topic, offset).await)
    }

    /// Where the oldest batch starts; `None` where there is none.
    pub(crate) async fn oldest(&mut self, topic: &TopicName) -> Result<Option<Offset>, Error> {
        retrying!(self, session => fit::oldest(session, topic).await)
    }

    /// Lists the server's topics.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the server does not know `TOPICS`; else the error of the last attempt that the
    /// retry policy allows.
    pub async fn topics(&mut self) -> Result<Vec<TopicSummary>, Error> {
        if !self.settings().await?.has_feature(feature::TOPICS) {
            let host = self.link.config().host();
            return Err(Error::invalid(format!("the server at `{host}` does not know `TOPICS`")));
        }
        let lines = self.lines(&Request::Topics).await?;
        TopicInfo::parse(&lines)
            .map(|topic| topic.map(TopicSummary::from))
            .collect::<Result<_, _>>()
            .map_err(|broken| Error::caused(ErrorKind::Protocol, "the list of topics is broken", broken))
    }

    /// The server's counters, as keys and values in the server's order.
    ///
    /// # Errors
    /// The error of the last attempt that the retry policy allows.
    pub async fn stats(&mut self) -> Result<Vec<(String, String)>, Error> {
        self.lines(&Request::Stats).await.map(|lines| owned_pairs(&lines))
    }

    /// The server's settings, as it told them when the connection was made.
    ///
    /// # Errors
    /// The error of the last attempt that the retry policy allows.
    pub async fn server_config(&mut self) -> Result<ServerSettings, Error> {
        self.settings().await.map(|settings| ServerSettings::clone(&settings))
    }

    /// Ends the connection politely. Dropping the client ends it too.
    ///
    /// # Errors
    /// The server did not agree; the connection is closed all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        self.link.close().await
    }

    /// What the server told about itself; makes a session for that where there is none.
    async fn settings(&mut self) -> Result<Arc<ServerSettings>, Error> {
        retrying!(self, session => Ok(Arc::clone(session.settings())))
    }

    async fn batches(&mut self, request: &Request<'_>) -> Result<Batches, Error> {
        retrying!(self, session => read_batches(session, request).await)
    }

    async fn lines(&mut self, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        retrying!(self, session => session.ask_lines(request).await)
    }

    /// Reads a topic through to its end.
    async fn walk(&mut self, topic: &TopicName) -> Result<Head, Error> {
        let mut answer = self.tail(topic, WALK_MESSAGES).await?;
        let mut batches = 0;
        loop {
            batches += answer.batches.len() as u64;
            let next = answer.next_offset();
            answer = match self.read(topic, next, WALK_MESSAGES).await {
                Ok(answer) => answer,
                Err(error) if error.is_not_found() => return Ok(Head { next, batches }),
                Err(error) => return Err(error),
            };
        }
    }
}

/// Waits before the next attempt, or returns `error` when there is none.
pub(crate) async fn pause(backoff: &mut Backoff, error: Error) -> Result<(), Error> {
    if !error.is_retryable() {
        return Err(error);
    }
    let Some(delay) = backoff.next_delay() else { return Err(error) };
    debug!(%error, ?delay, failures = backoff.failures(), "will try again");
    tokio::time::sleep(delay).await;
    Ok(())
}

/// Asks for the offset that belongs to a time, and how many batches are known to start there: 0 at the topic's end.
pub(crate) async fn ask_at(
    session: &mut Session,
    topic: &TopicName,
    time: SystemTime,
    bound: Bound,
) -> Result<(Offset, u64), Error> {
    if !session.settings().has_feature(feature::TIME) {
        let peer = session.connection().peer();
        let text = format!("the server at `{peer}` does not know `AT`, which finds the offset of a time");
        return Err(Error::invalid(text));
    }
    // Parts of a millisecond are cut off, as the server cuts them off what it compares with.
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    session.ask_found(&Request::At { topic: topic.as_topic(), time_ms, bound }).await
}

/// Asks for batches and keeps them all.
async fn read_batches(session: &mut Session, request: &Request<'_>) -> Result<Batches, Error> {
    let (offset, count) = session.ask_found(request).await?;
    if let Request::Read { offset: asked, .. } = request
        && offset < *asked
    {
        return Err(session.went_back(*asked, offset));
    }
    let mut answer = Batches { offset, batches: Vec::new() };
    let mut next = offset;
    let mut bytes_left = READ_BYTES_MAX;
    while (answer.batches.len() as u64) < count {
        let Taken { batch, bytes } = match session.connection().take_batch(BATCH_BYTES_MAX)? {
            Ok(taken) => taken,
            Err(missing) => {
                session.connection().receive_batch(missing).await?;
                continue;
            }
        };
        bytes_left = bytes_left.checked_sub(bytes).ok_or_else(|| {
            Error::invalid(format!(
                "the answer has more than `{READ_BYTES_MAX}` bytes: ask for fewer messages"
            ))
        })?;
        answer.batches.push(batch.unwrap_or(Err(BatchError::Empty)).map_err(|damage| corrupt(next, damage))?);
        next = next.checked_add(bytes).ok_or_else(|| session.offset_overflow())?;
    }
    session.rest();
    Ok(answer)
}

/// The batch at `offset` is damaged.
pub(crate) fn corrupt(offset: Offset, damage: BatchError) -> Error {
    Error::caused(ErrorKind::Corrupt, format!("the batch at offset `{offset}` is damaged"), damage)
}

#[cfg(test)]
mod tests;
