//! The scanner's task: it owns the connection and asks for the batch at the cursor, again and again.
//!
//! `not found` has many meanings. Where the server knows HEAD it tells which: the end of the topic, an unknown topic,
//! or an offset that is no batch's, or not any more. A batch can be appended between the two answers, so that they
//! contradict each other; that is believed only when it happens several times in a row.

use std::time::Duration;

use logd_protocol::{Offset, Reason, Request, TopicName};
use logd_statehandlers::Position;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Start;
use super::intake::{Event, Intake, Stop};
use super::position::Cursor;
use crate::answers::Head;
use crate::client::{Client, pause};
use crate::error::{Error, ErrorKind};
use crate::session::{Link, feature};

/// How often in a row `not found` and HEAD can contradict each other.
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

/// What came of asking once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Asking again at once can bring more.
    Ask,
    /// There is nothing now.
    Nothing,
}

/// Everything that the task owns.
#[derive(Debug)]
pub(super) struct Poller {
    link: Link,
    settings: Settings,
    intake: Intake,
    /// How often in a row the server has contradicted itself.
    contradictions: u32,
    /// Where an answer has broken off last.
    broken_at: Option<Offset>,
    /// Whether it has been said that the position is beyond the topic's end.
    beyond_end_told: bool,
}

impl Poller {
    pub(super) const fn new(link: Link, settings: Settings, intake: Intake) -> Self {
        Self { link, settings, intake, contradictions: 0, broken_at: None, beyond_end_told: false }
    }

    /// Polls to the end.
    pub(super) async fn run(mut self) {
        let last = match self.poll_all().await {
            Ok(()) => Event::End,
            Err(Stop::Failed(error)) => Event::Failed(error),
            Err(Stop::Dropped) => return,
        };
        self.intake.end(last);
        // When the scanner is gone, nobody waits for the end.
        let _ = self.intake.hand_over().await;
    }

    async fn poll_all(&mut self) -> Result<(), Stop> {
        if let Start::At(position) = self.settings.start {
            self.intake.begin(position);
        }
        let mut backoff = self.link.config().retry.backoff();
        while self.intake.wanted() > 0 {
            let before = self.intake.cursor();
            let asked = Instant::now();
            let polled = self.poll().await;
            self.intake.hand_over().await?;
            if polled.is_ok() || self.intake.cursor() != before {
                backoff.reset();
            }
            match polled {
                Ok(Progress::Ask) => {}
                Ok(Progress::Nothing) if !self.settings.follow => return Ok(()),
                // A server that can wait has done so already.
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
        if self.intake.cursor().is_none() && self.settings.start == Start::Latest {
            self.begin_at_end().await?;
            return Ok(Progress::Ask);
        }
        let session = self.link.ready().await?;
        let topic = self.settings.topic.as_topic();
        let messages = self.settings.read_messages.min(self.intake.wanted());
        let can_wait = self.settings.follow && session.settings().has_feature(feature::WAIT);
        let request = match self.intake.cursor() {
            Some(cursor) => {
                let wait = can_wait.then_some(self.settings.wait);
                Request::Read { topic, offset: cursor.offset(), messages, wait }
            }
            None => Request::Tail { topic, messages },
        };
        match session.ask_found(&request).await {
            Ok((offset, batches)) => {
                self.contradictions = 0;
                let is_before = self.intake.cursor().is_some_and(|cursor| offset < cursor.offset());
                match self.intake.take_answer(session, offset, batches).await {
                    Ok(()) => Ok(Progress::Ask),
                    Err(stop) if is_before => Err(stop),
                    Err(stop) => self.ask_again(stop),
                }
            }
            Err(error) if error.is_not_found() => self.explain_not_found(error).await,
            Err(error) if error.reason() == Some(Reason::InvalidRequest) && messages > 1 => {
                // The server can have a lower limit for one READ, which it does not tell.
                self.settings.read_messages = messages / 2;
                Ok(Progress::Ask)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An answer can stop being one because of damage on the server's disk. The server finds it when it is asked for
    /// that very place, and leads past it: so it is asked, once.
    fn ask_again(&mut self, stop: Stop) -> Result<Progress, Stop> {
        let place = self.intake.cursor().map(Cursor::offset);
        match stop {
            Stop::Failed(error) if error.kind() == ErrorKind::Protocol && self.broken_at != place => {
                warn!(topic = %self.settings.topic, %error, "an answer broke off; asking again from there");
                self.broken_at = place;
                Ok(Progress::Ask)
            }
            stop => Err(stop),
        }
    }

    /// Finds out where the end is, and begins there.
    async fn begin_at_end(&mut self) -> Result<(), Stop> {
        let next = match self.find_end().await {
            Ok(head) => head.next,
            // Whatever is the first batch of a topic that does not exist yet, it is new.
            Err(error) if error.is_not_found() && self.settings.follow => Offset::ZERO,
            Err(error) => return Err(error.into()),
        };
        self.intake.begin(Position::at(next));
        Ok(())
    }

    /// The end of the topic. A server that does not know HEAD has the topic read through for that.
    async fn find_end(&mut self) -> Result<Head, Error> {
        let session = self.link.ready().await?;
        if session.settings().has_feature(feature::HEAD) {
            let request = Request::Head { topic: self.settings.topic.as_topic() };
            return session.ask_found(&request).await.map(|(next, batches)| Head { next, batches });
        }
        let mut client = Client::new(self.link.config().clone());
        client.head(&self.settings.topic).await
    }

    /// What the server means by `not found`: that there is nothing now, that there may be something after all, or
    /// that there never will be, which is the error.
    async fn explain_not_found(&mut self, not_found: Error) -> Result<Progress, Stop> {
        let follow = self.settings.follow;
        let knows_head = self.link.ready().await?.settings().has_feature(feature::HEAD);
        if follow && !knows_head {
            return Ok(Progress::Nothing);
        }
        let Head { next: end, batches } = match self.find_end().await {
            Ok(head) => head,
            Err(error) if !error.is_not_found() => return Err(error.into()),
            Err(_) if follow => return Ok(Progress::Nothing),
            Err(_) => return Err(not_found.into()),
        };
        match self.intake.cursor() {
            None if batches == 0 || end == Offset::ZERO => {
                self.intake.begin(Position::at(end));
                Ok(Progress::Nothing)
            }
            Some(cursor) if cursor.position() == Position::at(end) => Ok(Progress::Nothing),
            Some(cursor) if cursor.offset() >= end => {
                if !follow {
                    return Err(not_found.into());
                }
                self.warn_beyond_end(cursor.position(), end);
                Ok(Progress::Nothing)
            }
            None | Some(_) => {
                self.contradictions += 1;
                if self.contradictions < CONTRADICTIONS_MAX {
                    Ok(Progress::Ask)
                } else {
                    Err(not_found.into())
                }
            }
        }
    }

    fn warn_beyond_end(&mut self, position: Position, end: Offset) {
        if !self.beyond_end_told {
            self.beyond_end_told = true;
            let topic = &self.settings.topic;
            warn!(%topic, %position, %end, "the position is beyond the end of the topic; waiting for it to get there");
        }
    }
}
