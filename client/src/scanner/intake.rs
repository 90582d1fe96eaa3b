//! From an answer to the scanner: batches are taken off the connection, checked, and handed over in pieces.
//!
//! What is whole is handed over before more is waited for, and handing over waits while the scanner has enough: so a
//! piece of what was received, and what is being received, is all that is kept. The cursor moves only over what has
//! been taken; when a connection is lost in the middle of an answer, it is where reading has to go on.
//!
//! A damaged batch, and batches that the server left out, are reported once and passed over.

use logd_protocol::{BatchError, BatchMessages, Offset, TopicName};
use logd_statehandlers::{Anchor, Position};
use tokio::sync::mpsc;

use super::position::{Arrival, Cursor};
use crate::connection::Taken;
use crate::error::{Error, ErrorKind};
use crate::session::Session;

/// What the task tells the scanner, in the order of the topic.
#[derive(Debug)]
pub(super) enum Event {
    /// The next message has this position.
    At(Position),
    /// Messages to yield.
    Messages(Fetched),
    /// Something is damaged or missing; the next message has this position.
    Skipped { error: Error, next: Position },
    /// The end, as wanted.
    End,
    /// The end, because of an error.
    Failed(Error),
}

/// The messages of a checked batch, from the first that is wanted on.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The offset of the batch.
    pub(crate) offset: Offset,
    /// The offset behind the batch.
    pub(crate) end: Offset,
    /// The checksum of its body.
    pub(crate) crc: u32,
    /// How many messages there are from the first that is wanted on.
    pub(crate) count: u64,
    pub(crate) messages: BatchMessages,
}

/// Why the task stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// The scanner was dropped.
    Dropped,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Where reading is, and the way to the scanner.
#[derive(Debug)]
pub(super) struct Intake {
    topic: TopicName,
    batch_bytes_max: usize,
    /// Where to go on; `None` until the start is known.
    cursor: Option<Cursor>,
    /// The last batch that was taken, as far as it is known.
    last: Option<Anchor>,
    /// How many messages are still wanted.
    wanted: u64,
    /// The first offset that is not wanted.
    end: Option<Offset>,
    /// What the scanner has not been handed yet.
    ready: Vec<Event>,
    events: mpsc::Sender<Vec<Event>>,
}

impl Intake {
    pub(super) const fn new(
        topic: TopicName,
        batch_bytes_max: usize,
        last: Option<Anchor>,
        wanted: u64,
        events: mpsc::Sender<Vec<Event>>,
    ) -> Self {
        Self { topic, batch_bytes_max, cursor: None, last, wanted, end: None, ready: Vec::new(), events }
    }

    pub(super) const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The last batch that was taken, by which the topic is known.
    pub(super) const fn last(&self) -> Option<Anchor> {
        self.last
    }

    /// The last batch that was taken cannot be read any more.
    pub(super) const fn forget_last(&mut self) {
        self.last = None;
    }

    pub(super) const fn wanted(&self) -> u64 {
        self.wanted
    }

    /// The start is known.
    pub(super) fn begin(&mut self, position: Position) {
        self.cursor = Some(Cursor::new(position));
        self.ready.push(Event::At(position));
    }

    /// The start has turned out not to be one: it is to be found anew.
    pub(super) fn forget_start(&mut self) {
        self.cursor = None;
    }

    /// From this offset on nothing is wanted: batches that come all the same are not taken, and the cursor stays in
    /// front of them.
    pub(super) const fn set_end(&mut self, end: Option<Offset>) {
        self.end = end;
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self, last: Event) {
        self.ready.push(last);
    }

    /// Hands over what is ready. Waits while the scanner has enough.
    pub(super) async fn hand_over(&mut self) -> Result<(), Stop> {
        if self.ready.is_empty() {
            return Ok(());
        }
        self.events.send(std::mem::take(&mut self.ready)).await.map_err(|_| Stop::Dropped)
    }

    /// Takes the `batches` batches that follow an answer, the first of which is at `offset`.
    pub(super) async fn take_answer(
        &mut self,
        session: &mut Session,
        offset: Offset,
        batches: u64,
    ) -> Result<(), Stop> {
        let mut cursor = self.arrive(offset)?;
        for _ in 0..batches {
            let taken = self.take_batch(session).await?;
            let place = cursor;
            cursor.pass(taken.bytes).ok_or_else(|| session.offset_overflow())?;
            if self.end.is_some_and(|end| place.offset() >= end) {
                continue;
            }
            match taken.batch {
                Some(Ok(batch)) => self.offer(place, cursor, &batch)?,
                Some(Err(damage)) => self.skip_damaged(place, cursor, damage),
                None => {}
            }
            self.cursor = Some(cursor);
        }
        session.rest();
        Ok(())
    }

    /// Waits for the next batch of the answer, handing over what is ready meanwhile.
    async fn take_batch(&mut self, session: &mut Session) -> Result<Taken, Stop> {
        loop {
            match session.connection().take_batch(self.batch_bytes_max)? {
                Ok(taken) => return Ok(taken),
                Err(missing) => {
                    self.hand_over().await?;
                    session.connection().receive_batch(missing).await?;
                }
            }
        }
    }

    /// Where the answer begins, which may be further on than was asked for.
    fn arrive(&mut self, offset: Offset) -> Result<Cursor, Error> {
        let Some(mut cursor) = self.cursor else {
            self.begin(Position::at(offset));
            return Ok(Cursor::new(Position::at(offset)));
        };
        match cursor.arrive(offset) {
            Arrival::Here => {}
            Arrival::Beyond { from, to } => {
                let text = format!("the batches from `{from}` to `{to}` of topic `{}` are lost", self.topic);
                let error = Error::new(ErrorKind::Gap { from, to }, text);
                self.ready.push(Event::Skipped { error, next: cursor.position() });
                self.cursor = Some(cursor);
            }
            Arrival::Before => {
                let text = format!(
                    "asked for topic `{}` from offset `{}` on, the server answered from offset `{offset}` on",
                    self.topic,
                    cursor.offset()
                );
                return Err(Error::new(ErrorKind::Protocol, text));
            }
        }
        Ok(cursor)
    }

    /// Gets the batch at `place` ready, from the message on that `place` names.
    fn offer(&mut self, place: Cursor, behind: Cursor, batch: &logd_protocol::Batch) -> Result<(), Error> {
        let position = place.position();
        let messages = place.enter(batch).ok_or_else(|| {
            Error::invalid(format!("no message of topic `{}` starts at position `{position}`", self.topic))
        })?;
        let count = if position.delta == 0 { batch.messages() } else { messages.clone().count() as u64 };
        self.wanted = self.wanted.saturating_sub(count);
        let (offset, end, crc) = (position.offset, behind.offset(), batch.crc());
        self.last = Some(Anchor { offset, crc });
        self.ready.push(Event::Messages(Fetched { offset, end, crc, count, messages }));
        Ok(())
    }

    fn skip_damaged(&mut self, place: Cursor, behind: Cursor, damage: BatchError) {
        let what = format!("the batch at offset `{}` of topic `{}` is damaged", place.offset(), self.topic);
        let error = Error::caused(ErrorKind::Corrupt, what, damage);
        self.ready.push(Event::Skipped { error, next: behind.position() });
    }
}
