//! The scanner's task: it asks for batches, checks them, and hands them over in pieces.
//!
//! It begins where it is told, and asks for the batch at its cursor again and again: the cursor moves only over what
//! has been handed over, so that a lost connection costs nothing but time. What has been received and what is being
//! received is all it keeps: it hands over whatever is whole before it waits for more, and waits while the scanner has
//! enough.
//!
//! `not found` has many meanings. Where the server knows HEAD it tells which: the end of the topic, an unknown topic,
//! or an offset that is no batch's (any more). A batch can be appended between the two answers, so that only the
//! third contradiction in a row counts.

use std::time::Duration;

use logd_protocol::{BatchMessages, Offset, Request, TopicName};
use logd_statehandlers::Position;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Start;
use super::position::{Arrival, Cursor};
use crate::client::{Client, corrupt, pause};
use crate::connection::Taken;
use crate::error::{Error, ErrorKind};
use crate::session::{Session, feature};

/// How often `not found` and HEAD can contradict each other in a row.
const CONTRADICTIONS_MAX: u32 = 3;

/// The settings of a scanner that its task needs.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) topic: TopicName,
    pub(super) start: Start,
    pub(super) follow: bool,
    pub(super) read_messages: u64,
    pub(super) wait: Duration,
    pub(super) poll_interval: Duration,
    pub(super) batch_bytes_max: usize,
}

/// What the task tells the scanner, in the order of the topic.
#[derive(Debug)]
pub(super) enum Event {
    /// The next message has this position.
    At(Position),
    /// A batch to yield.
    Batch(Fetched),
    /// Something is damaged or missing; what comes next has this position.
    Skipped { error: Error, next: Position },
    /// The end, as wanted.
    End,
    /// The end, because of an error.
    Failed(Error),
}

/// A checked batch, or what is wanted of it.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) offset: Offset,
    /// The offset behind the batch.
    pub(super) end: Offset,
    pub(super) messages: BatchMessages,
}

/// Why the task stops.
enum Stop {
    /// The scanner was dropped.
    Dropped,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What came of asking once.
enum Progress {
    /// There may be more at once.
    Ask,
    /// There is nothing now.
    Nothing,
}

/// The way to the scanner: events that are ready, and those that it has not taken yet.
struct Sink {
    ready: Vec<Event>,
    events: mpsc::Sender<Vec<Event>>,
}

impl Sink {
    fn push(&mut self, event: Event) {
        self.ready.push(event);
    }

    /// Hands over what is ready. Waits while the scanner has enough.
    async fn flush(&mut self) -> Result<(), Stop> {
        if self.ready.is_empty() {
            return Ok(());
        }
        self.events.send(std::mem::take(&mut self.ready)).await.map_err(|_| Stop::Dropped)
    }
}

/// Everything that the task owns.
pub(super) struct Poller {
    client: Client,
    settings: Settings,
    /// Where to go on; `None` until the start is known.
    cursor: Option<Cursor>,
    /// How many messages are still wanted.
    wanted: u64,
    /// How often in a row the server has contradicted itself.
    contradictions: u32,
    sink: Sink,
}

impl Poller {
    pub(super) fn new(
        client: Client,
        settings: Settings,
        wanted: u64,
        events: mpsc::Sender<Vec<Event>>,
    ) -> Self {
        let cursor = match settings.start {
            Start::At(position) => Some(Cursor::new(position)),
            Start::Earliest | Start::Latest => None,
        };
        let sink = Sink { ready: Vec::new(), events };
        Self { client, settings, cursor, wanted, contradictions: 0, sink }
    }

    /// Polls to the end.
    pub(super) async fn run(mut self) {
        let end = match self.poll_all().await {
            Ok(()) => Event::End,
            Err(Stop::Failed(error)) => Event::Failed(error),
            Err(Stop::Dropped) => return,
        };
        self.sink.push(end);
        // Where the scanner is gone, nobody waits for the end.
        let _ = self.sink.flush().await;
    }

    async fn poll_all(&mut self) -> Result<(), Stop> {
        if let Some(cursor) = self.cursor {
            self.sink.push(Event::At(cursor.position()));
        }
        let mut backoff = self.client.link().config().retry.backoff();
        while self.wanted > 0 {
            let before = self.cursor;
            let asked = Instant::now();
            let polled = self.poll().await;
            self.sink.flush().await?;
            if polled.is_ok() || self.cursor != before {
                backoff.reset();
            }
            match polled {
                Ok(Progress::Ask) => {}
                Ok(Progress::Nothing) if !self.settings.follow => return Ok(()),
                // A server that can wait has done so.
                Ok(Progress::Nothing) if asked.elapsed() >= self.settings.poll_interval => {}
                Ok(Progress::Nothing) => sleep(self.settings.poll_interval).await,
                Err(Stop::Failed(error)) => pause(&mut backoff, error).await?,
                Err(Stop::Dropped) => return Err(Stop::Dropped),
            }
        }
        Ok(())
    }

    /// Asks once, and takes the batches of the answer.
    async fn poll(&mut self) -> Result<Progress, Stop> {
        if self.cursor.is_none() && self.settings.start == Start::Latest {
            return self.begin_at_head().await;
        }
        let messages = self.settings.read_messages.min(self.wanted);
        let session = self.client.link().ready().await?;
        let topic = self.settings.topic.as_topic();
        let can_wait = self.settings.follow && session.settings().has_feature(feature::WAIT);
        let wait = can_wait.then_some(self.settings.wait);
        let request = match self.cursor {
            Some(cursor) => Request::Read { topic, offset: cursor.offset(), messages, wait },
            None => Request::Tail { topic, messages },
        };
        match session.ask_found(&request).await {
            Ok((offset, batches)) => {
                self.contradictions = 0;
                self.take_answer(offset, batches).await?;
                Ok(Progress::Ask)
            }
            Err(error) if error.is_not_found() => self.explain_not_found(error).await,
            Err(error) if error.reason() == Some(logd_protocol::Reason::InvalidRequest) && messages > 1 => {
                // The server's limit of messages for one READ is lower: it does not tell it.
                self.settings.read_messages = messages / 2;
                Ok(Progress::Ask)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the batches that follow an answer.
    async fn take_answer(&mut self, offset: Offset, batches: u64) -> Result<(), Stop> {
        let mut cursor = match self.cursor {
            Some(mut cursor) => {
                match cursor.arrive(offset) {
                    Arrival::Here => {}
                    Arrival::Beyond { from, to } => self.skip_gap(from, to),
                    Arrival::Before => {
                        let topic = &self.settings.topic;
                        let asked = cursor.offset();
                        let text = format!(
                            "asked for topic `{topic}` from offset `{asked}` on, the server answered from `{offset}` on"
                        );
                        return Err(Error::new(ErrorKind::Protocol, text).into());
                    }
                }
                cursor
            }
            None => {
                self.sink.push(Event::At(Position::at(offset)));
                Cursor::new(Position::at(offset))
            }
        };
        self.cursor = Some(cursor);
        for _ in 0..batches {
            let taken = self.take_batch().await?;
            let start = cursor;
            let passed = cursor.pass(taken.bytes);
            let session = self.client.link().ready_in_exchange()?;
            passed.ok_or_else(|| session.offset_overflow())?;
            self.yield_batch(start, cursor, taken)?;
            self.cursor = Some(cursor);
        }
        self.client.link().ready_in_exchange()?.rest();
        Ok(())
    }
}
