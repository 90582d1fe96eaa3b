//! The scanner's task: it owns the connection and asks for the batch at the cursor, again and again.
//!
//! `not found` has many meanings. Where the server knows HEAD it tells which: the end of the topic, an unknown topic,
//! or an offset that is no batch's, or not any more. A batch can be appended between the two answers, so that they
//! contradict each other; that is believed only when it happens several times in a row.
//!
//! The end that a time gives is known for good once something has arrived later. Until then the topic's end, as it was
//! when the server was asked, takes its place: when reading has come there, the server is asked again, and where there
//! is nothing new a single batch is waited for, so that no more than that one comes too late.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use logd_protocol::{Bound, Offset, Reason, Request, TopicName};
use logd_statehandlers::Position;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Start;
use super::intake::{Event, Intake, Stop};
use super::position::Cursor;
use crate::answers::{Head, ServerSettings};
use crate::client::{Client, ask_at, pause};
use crate::error::{Error, ErrorKind};
use crate::fit::{self, Remains};
use crate::session::{Link, Session, feature};

/// How often in a row `not found` and HEAD can contradict each other.
const CONTRADICTIONS_MAX: u32 = 3;

/// How long after a time a topic that goes on being silent is followed. What arrived in time can be seen only when it
/// is stored, and the server's clock can be a little behind this one.
const LATE_MAX: Duration = Duration::from_secs(1);

/// The settings of a scanner that its task needs.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) topic: TopicName,
    pub(super) start: Start,
    pub(super) until: Option<SystemTime>,
    pub(super) follow: bool,
    /// Whether the topic must be the one that was read so far.
    pub(super) is_watched: bool,
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
    /// There is nothing more that is wanted.
    End,
}

/// Where the time that reading goes on until is in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    offset: Offset,
    /// Whether nothing that comes later can change it.
    is_final: bool,
}

/// Everything that the task owns.
#[derive(Debug)]
pub(super) struct Poller {
    link: Link,
    settings: Settings,
    intake: Intake,
    /// How often in a row the server has contradicted itself.
    contradictions: u32,
    /// The settings of the session on which the topic was last recognised. Each session has its own.
    recognised: Option<Arc<ServerSettings>>,
    /// Where a time was found to begin.
    start_of_time: Option<Cursor>,
    /// Where the time found last, that reading goes on until, is.
    end: Option<End>,
    /// Where an answer has broken off last.
    broken_at: Option<Offset>,
    /// Whether it has been said that the position is beyond the topic's end.
    beyond_end_told: bool,
}

impl Poller {
    pub(super) const fn new(link: Link, settings: Settings, intake: Intake) -> Self {
        Self {
            link,
            settings,
            intake,
            contradictions: 0,
            recognised: None,
            start_of_time: None,
            end: None,
            broken_at: None,
            beyond_end_told: false,
        }
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
                Ok(Progress::End) => return Ok(()),
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
        match self.settings.start {
            Start::Latest if self.intake.cursor().is_none() => {
                self.begin_at_end().await?;
                return Ok(Progress::Ask);
            }
            Start::Time(time) if self.intake.cursor().is_none() => {
                self.begin_at_time(time).await?;
                return Ok(Progress::Ask);
            }
            _ => {}
        }
        let (mut messages_max, mut wait) = (self.settings.read_messages, self.settings.wait);
        if let Some(until) = self.settings.until
            && self.is_end_due()
        {
            if self.find_end_of_time(until).await? {
                return Ok(Progress::End);
            }
            if self.is_end_due() {
                messages_max = 1;
                wait = wait.min(time_left(until, SystemTime::now()));
            }
        }
        let session = self.link.ready().await?;
        let is_recognised =
            self.recognised.as_ref().is_some_and(|known| Arc::ptr_eq(known, session.settings()));
        if self.settings.is_watched && !is_recognised {
            recognise(session, &self.settings.topic, &mut self.intake).await?;
            self.recognised = Some(Arc::clone(session.settings()));
        }
        let topic = self.settings.topic.as_topic();
        let messages = messages_max.min(self.intake.wanted());
        let can_wait = self.settings.follow && session.settings().has_feature(feature::WAIT);
        let request = match self.intake.cursor() {
            Some(cursor) => {
                let wait = can_wait.then_some(wait);
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

    /// Finds out where `time` is, and begins there.
    async fn begin_at_time(&mut self, time: SystemTime) -> Result<(), Stop> {
        let session = self.link.ready().await?;
        match ask_at(session, &self.settings.topic, time, Bound::Lower).await {
            Ok((offset, _)) => {
                self.intake.begin(Position::at(offset));
                self.start_of_time = self.intake.cursor();
            }
            // Whatever is the first batch of a topic that does not exist yet, it comes later than now.
            Err(error) if error.is_not_found() && self.settings.follow => {
                self.settings.start = Start::Earliest;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Whether reading has come to where the end was found last, or it was not found yet.
    fn is_end_due(&self) -> bool {
        self.end.is_none_or(|end| self.intake.cursor().is_some_and(|cursor| cursor.offset() >= end.offset))
    }

    /// Finds out where `until` is, and whether reading is over.
    async fn find_end_of_time(&mut self, until: SystemTime) -> Result<bool, Stop> {
        if self.end.is_some_and(|end| end.is_final) {
            return Ok(true);
        }
        // Before asking: what comes after the answer has arrived after this.
        let has_passed = time_left(until, SystemTime::now()).is_zero();
        let follow = self.settings.follow;
        let session = self.link.ready().await?;
        match ask_at(session, &self.settings.topic, until, Bound::Upper).await {
            Ok((offset, batches)) => self.end = Some(End { offset, is_final: batches > 0 || !follow }),
            Err(error) if error.is_not_found() && follow => return Ok(has_passed),
            Err(error) => return Err(error.into()),
        }
        let is_over = self.is_end_due() && (has_passed || self.end.is_some_and(|end| end.is_final));
        // At an end that is not the last one, the next batch is wanted.
        let end = self.end.filter(|_| is_over || !self.is_end_due());
        self.intake.set_end(end.map(|end| end.offset));
        Ok(is_over)
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
            Err(_) if !follow => return Err(not_found.into()),
            Err(_) => {
                let read = self.intake.cursor().map(Cursor::position).filter(|read| *read != Position::ZERO);
                return match read {
                    Some(read) if self.settings.is_watched => {
                        let why = "it is not there any more; was it deleted?";
                        Err(lost(&self.settings.topic, read.offset, Offset::ZERO, why).into())
                    }
                    _ => Ok(Progress::Nothing),
                };
            }
        };
        match self.intake.cursor() {
            None if batches == 0 || end == Offset::ZERO => {
                self.intake.begin(Position::at(end));
                Ok(Progress::Nothing)
            }
            Some(cursor) if cursor.position() == Position::at(end) => Ok(Progress::Nothing),
            Some(cursor) if cursor.offset() >= end && self.settings.is_watched => {
                let why = format!("it ends at `{end}`; was it made anew, or cut off?");
                Err(lost(&self.settings.topic, cursor.offset(), end, &why).into())
            }
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
                    if self.intake.cursor() == self.start_of_time {
                        // Retention can have dropped it since; then a later one is it.
                        self.intake.forget_start();
                    }
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

/// Makes sure that the topic is the one that was read.
///
/// Only a server that starts can have another one, and its sessions are new: within a session nothing is asked.
async fn recognise(session: &mut Session, topic: &TopicName, intake: &mut Intake) -> Result<(), Error> {
    let (Some(last), Some(cursor)) = (intake.last(), intake.cursor()) else { return Ok(()) };
    match fit::remains(session, topic, last).await? {
        Remains::Same => {}
        Remains::Dropped => intake.forget_last(),
        Remains::Damaged(what) => {
            warn!(%topic, what, "whether the topic is the one that was read cannot be told");
            intake.forget_last();
        }
        Remains::Other(why) => return Err(lost(topic, cursor.offset(), last.offset, &why)),
    }
    Ok(())
}

/// The topic is not the one that was read up to `from`, or is so up to `end` at most.
fn lost(topic: &TopicName, from: Offset, end: Offset, why: &str) -> Error {
    let text = format!("topic `{topic}` is not the one that was read up to `{from}`: {why}");
    Error::new(ErrorKind::Beyond { from, end }, text)
}

/// How long it is until nothing more that arrived by `until` can turn up, however little comes.
fn time_left(until: SystemTime, now: SystemTime) -> Duration {
    let last = until.checked_add(LATE_MAX).unwrap_or(until);
    last.duration_since(now).unwrap_or_default()
}
