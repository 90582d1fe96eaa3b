//! A connection to a server that has introduced itself: requests and the answers that fit them.
//!
//! Every session begins with CONFIG. So a server that takes no more connections is noticed before anything is asked,
//! the extensions that it understands are known, and so is the largest batch that it takes.
//!
//! A session that is left in the middle of an exchange, by an error or by a dropped future, is not usable any more:
//! the next answer would be the one to the request before. [`Link`] makes a new one then.

use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Batch, Command, Offset, Reason, Request};
use tokio::time::Instant;
use tracing::debug;

use crate::answers::ServerSettings;
use crate::config::ClientConfig;
use crate::connection::{Connection, Reply};
use crate::error::{AppendError, Error, ErrorKind};

/// How long a session can be idle before an append makes sure that the server is still there.
///
/// A server closes idle connections, and a batch that is sent at that moment has an unknown outcome. No server closes
/// one after so short a time, and a question a second costs nothing.
const IDLE_UNASKED: Duration = Duration::from_secs(1);

/// A server's extensions, as CONFIG names them.
pub(crate) mod feature {
    pub(crate) const WAIT: &str = "wait";
    pub(crate) const HEAD: &str = "head";
    pub(crate) const TOPICS: &str = "topics";
    pub(crate) const PING: &str = "ping";
    pub(crate) const DEDUP: &str = "dedup";
    pub(crate) const TIME: &str = "time";
}

/// A way to a server: the session that there is, or how to make one.
#[derive(Debug)]
pub(crate) struct Link {
    config: ClientConfig,
    session: Option<Session>,
}

impl Link {
    pub(crate) const fn new(config: ClientConfig) -> Self {
        Self { config, session: None }
    }

    pub(crate) const fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// A session that is usable as far as can be told without asking; makes one, once, where there is none.
    pub(crate) async fn ready(&mut self) -> Result<&mut Session, Error> {
        let session = match self.session.take().filter(Session::is_usable) {
            Some(session) => session,
            None => Session::open(&self.config).await?,
        };
        Ok(self.session.insert(session))
    }

    /// A session whose server has answered just now, so that it does not close it as idle.
    pub(crate) async fn ready_to_append(&mut self) -> Result<&mut Session, Error> {
        if let Some(session) = &mut self.session
            && session.is_usable()
            && session.used.elapsed() > IDLE_UNASKED
            && let Err(error) = session.ping().await
        {
            debug!(%error, "an idle connection was not usable any more");
            self.session = None;
        }
        self.ready().await.map_err(|error| match error.kind() {
            // It says nothing about a batch: none was sent.
            ErrorKind::Protocol => Error::caused(ErrorKind::Connect, "no server answers", error),
            _ => error,
        })
    }

    /// The session that there is, in whatever state.
    pub(crate) const fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    /// Makes a new session for what comes next.
    pub(crate) fn forget(&mut self) {
        self.session = None;
    }

    /// Completes when the server has closed the session, which is given up then; never without one. Nothing is lost
    /// when the future is dropped.
    pub(crate) async fn closed_by_server(&mut self) {
        match &self.session {
            Some(session) => session.connection.disturbed().await,
            None => std::future::pending().await,
        }
        self.session = None;
    }

    /// Ends the session politely, if there is one.
    pub(crate) async fn close(&mut self) -> Result<(), Error> {
        match self.session.take().filter(Session::is_usable) {
            Some(mut session) => session.ask_ok(&Request::Close).await,
            None => Ok(()),
        }
    }
}

/// A batch that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) offset: Offset,
    /// The bytes that it has in the topic.
    pub(crate) bytes: u64,
}

/// A connection whose server has told its settings.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    settings: Arc<ServerSettings>,
    /// When the last answer came.
    used: Instant,
    /// Whether an exchange has begun that has not come to its end.
    busy: bool,
    /// How many batches were sent whole and are not answered.
    unanswered: usize,
    /// Whether the server has said that it does no more.
    has_ended: bool,
    /// Whether a batch was sent in part: what is sent behind it would be taken for the rest.
    is_half_sent: bool,
    /// Why an answer did not come. One that comes later would be taken for the answer to another batch.
    unanswerable: Option<Error>,
    /// When the answer to the oldest batch must have come, however often the wait for it began anew.
    reply_due: Option<Instant>,
}

impl Session {
    async fn open(config: &ClientConfig) -> Result<Self, Error> {
        let connection = Connection::connect(config).await?;
        let mut session = Self {
            connection,
            settings: Arc::default(),
            used: Instant::now(),
            busy: false,
            unanswered: 0,
            has_ended: false,
            is_half_sent: false,
            unanswerable: None,
            reply_due: None,
        };
        session.settings = Arc::new(session.ask_settings().await?);
        Ok(session)
    }

    /// What the server said about itself.
    pub(crate) const fn settings(&self) -> &Arc<ServerSettings> {
        &self.settings
    }

    fn is_usable(&self) -> bool {
        !self.busy && !self.is_half_sent && self.unanswerable.is_none() && self.connection.is_quiet()
    }

    async fn ask_settings(&mut self) -> Result<ServerSettings, Error> {
        self.ask_lines(&Request::Config).await.map(|lines| ServerSettings::parse(&lines))
    }

    /// Makes sure that the server answers. One that does not know PING is asked for its settings.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        if self.settings.has_feature(feature::PING) {
            self.ask_ok(&Request::Ping).await
        } else {
            self.ask_settings().await.map(|_| ())
        }
    }

    /// Whether the server stores a batch with an identity only once.
    pub(crate) fn has_dedup(&self) -> bool {
        self.settings.has_feature(feature::DEDUP)
    }

    /// Appends a batch, without its identity where the server knows none. The error tells what is known about it.
    pub(crate) async fn append(&mut self, batch: &Batch) -> Result<Appended, AppendError> {
        let bytes = self.send_batch(batch).await?;
        self.batch_reply(bytes).await
    }

    /// Sends a batch, without its identity where the server knows none, and returns the bytes that it has so.
    ///
    /// Several can be sent before the first [`Session::batch_reply`]. After an error nothing more can be sent, and what
    /// was sent before can have been answered.
    pub(crate) async fn send_batch(&mut self, batch: &Batch) -> Result<u64, AppendError> {
        let stripped;
        let batch = if batch.id().is_some() && !self.has_dedup() {
            stripped = batch.with_id(None);
            &stripped
        } else {
            batch
        };
        let bytes = batch.bytes().len() as u64;
        let bytes_max = self.settings.batch_bytes_max;
        if bytes > bytes_max {
            let text = format!(
                "the batch has `{bytes}` bytes and the server takes at most `{bytes_max}`: set `batch_bytes` to that"
            );
            return Err(AppendError::not_written(Error::invalid(text)));
        }
        self.busy = true;
        self.is_half_sent = true;
        self.connection.send(batch.bytes()).await.map_err(AppendError::not_written)?;
        self.is_half_sent = false;
        self.unanswered += 1;
        Ok(bytes)
    }

    /// The answer to the oldest batch that was sent and is not answered, which has so many bytes. Nothing is lost when
    /// the future is dropped.
    ///
    /// After an error that is no refusal, all that follow have the same.
    pub(crate) async fn batch_reply(&mut self, bytes: u64) -> Result<Appended, AppendError> {
        if let Some(error) = &self.unanswerable {
            return Err(AppendError::unknown(error.clone()));
        }
        let limit = self.connection.read_timeout();
        let due = self.reply_due.or_else(|| Instant::now().checked_add(limit));
        self.reply_due = due;
        let reply = match due {
            Some(due) => tokio::time::timeout_at(due, self.connection.reply(Duration::ZERO)).await,
            None => Ok(self.connection.reply(Duration::ZERO).await),
        };
        let reply = reply.unwrap_or_else(|_| Err(self.connection.timed_out("sent nothing", limit)));
        self.reply_due = None;
        let reply = reply.map_err(|error| {
            self.unanswerable = Some(error.clone());
            AppendError::unknown(error)
        })?;
        self.unanswered = self.unanswered.saturating_sub(1);
        match reply {
            Reply::Found { offset, .. } => {
                self.rest();
                Ok(Appended { offset, bytes })
            }
            Reply::Error(reason) => {
                let error = self.refused("the batch was not appended", reason);
                // After `invalid protocol` what follows may have been understood all the same.
                self.has_ended = !can_follow(reason) && reason != Reason::InvalidProtocol;
                Err(match reason {
                    // These say that something went wrong on the way, not how far it got.
                    Reason::StorageFailed | Reason::Forgotten | Reason::Unknown => {
                        AppendError::unknown(error)
                    }
                    _ => AppendError::not_written(error),
                })
            }
            reply @ (Reply::Ok | Reply::Lines(_)) => {
                let error = wrong_reply(self.connection.peer(), Command::Batch, &reply);
                self.unanswerable = Some(error.clone());
                Err(AppendError::unknown(error))
            }
        }
    }

    /// Whether a batch was sent whole and is not answered.
    pub(crate) const fn has_unanswered(&self) -> bool {
        self.unanswered > 0
    }

    /// Whether the server said, as the last it had to say, that it does no more: what it has not answered is not done.
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Sends a request that `OK` answers.
    async fn ask_ok(&mut self, request: &Request<'_>) -> Result<(), Error> {
        match self.ask(request).await? {
            Reply::Ok => {
                self.rest();
                Ok(())
            }
            reply => Err(self.wrong_reply(request, &reply)),
        }
    }

    /// Sends a request that `MOK` answers.
    pub(crate) async fn ask_lines(&mut self, request: &Request<'_>) -> Result<Vec<u8>, Error> {
        match self.ask(request).await? {
            Reply::Lines(lines) => {
                self.rest();
                Ok(lines)
            }
            reply => Err(self.wrong_reply(request, &reply)),
        }
    }

    /// Sends a request that `OK <offset> <batches>` answers. After READ and TAIL the batches are still to come, and
    /// [`Session::rest`] says that they have been taken.
    pub(crate) async fn ask_found(&mut self, request: &Request<'_>) -> Result<(Offset, u64), Error> {
        match self.ask(request).await? {
            Reply::Found { offset, batches } => {
                let is_reading = matches!(request, Request::Read { .. } | Request::Tail { .. });
                if !is_reading {
                    self.rest();
                } else if batches == 0 {
                    return Err(self.no_batches(request));
                }
                Ok((offset, batches))
            }
            reply => Err(self.wrong_reply(request, &reply)),
        }
    }

    /// Sends a request and receives the beginning of its answer. A refusal is an error.
    async fn ask(&mut self, request: &Request<'_>) -> Result<Reply, Error> {
        let mut line = Vec::with_capacity(128);
        request.put(&mut line);
        let patience = match request {
            Request::Read { wait: Some(wait), .. } => *wait,
            _ => Duration::ZERO,
        };
        self.busy = true;
        self.connection.send(&line).await?;
        match self.connection.reply(patience).await? {
            Reply::Error(reason) => Err(self.refused(&describe(request), reason)),
            reply => Ok(reply),
        }
    }

    /// The connection, to take the batches off that follow an answer. [`Session::rest`] when that is done.
    pub(crate) const fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The exchange has come to its end: the next request can be sent.
    pub(crate) fn rest(&mut self) {
        self.busy = self.unanswered > 0;
        self.used = Instant::now();
    }

    /// An answer of another form than the request has.
    fn wrong_reply(&self, request: &Request<'_>, reply: &Reply) -> Error {
        wrong_reply(self.connection.peer(), request.command(), reply)
    }

    /// An answer that has none of the batches that it says it has found: asked again, it would not get on.
    fn no_batches(&self, request: &Request<'_>) -> Error {
        let (peer, command) = (self.connection.peer(), request.command().as_str());
        Error::new(ErrorKind::Protocol, format!("`{peer}` answered `{command}` with no batches"))
    }

    /// An answer that begins before the offset that was asked for: who goes on behind it would not get on.
    pub(crate) fn went_back(&self, asked: Offset, offset: Offset) -> Error {
        let peer = self.connection.peer();
        let text = format!(
            "`{peer}` was asked for offset `{asked}` and answered with `{offset}`, which is before it"
        );
        Error::new(ErrorKind::Protocol, text)
    }

    /// An answer whose batches end where no offset is.
    pub(crate) fn offset_overflow(&self) -> Error {
        let peer = self.connection.peer();
        Error::new(ErrorKind::Protocol, format!("`{peer}` sent batches beyond the largest offset there is"))
    }

    /// The server said no. It closes after some reasons, so that the session is not used any more after these.
    fn refused(&mut self, what: &str, reason: Reason) -> Error {
        if can_follow(reason) {
            self.rest();
        }
        let peer = self.connection.peer();
        let advice = advice(reason);
        Error::new(ErrorKind::Server(reason), format!("{what}: `{peer}` answered `{reason}`{advice}"))
    }
}

/// Whether the connection goes on after a refusal with this reason.
const fn can_follow(reason: Reason) -> bool {
    !matches!(
        reason,
        Reason::InvalidProtocol | Reason::TooManyConnections | Reason::TimedOut | Reason::ShuttingDown
    )
}

fn wrong_reply(peer: &str, command: Command, reply: &Reply) -> Error {
    let form = match reply {
        Reply::Ok => "OK",
        Reply::Found { .. } => "OK <offset> <batches>",
        Reply::Lines(_) => "MOK",
        Reply::Error(_) => "ERR",
    };
    Error::new(ErrorKind::Protocol, format!("`{peer}` answered `{}` with `{form}`", command.as_str()))
}

/// What could not be done, in the words of the user.
fn describe(request: &Request<'_>) -> String {
    match request {
        Request::Read { topic, offset, .. } => format!("cannot read topic `{topic}` at offset `{offset}`"),
        Request::Tail { topic, .. } => format!("cannot read topic `{topic}` from its oldest batch"),
        Request::Head { topic } => format!("cannot find the end of topic `{topic}`"),
        Request::At { topic, .. } => format!("cannot find the offset of a time in topic `{topic}`"),
        other => format!("`{}` failed", other.command().as_str()),
    }
}

/// What the user can do about it, where the reason alone does not say that.
const fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::MaximumTopics => ": write to a topic that there is, or raise the server's limit of topics",
        Reason::TopicNotAllowed => ": the server's list of topics does not have it",
        Reason::TooLarge => ": make smaller batches",
        Reason::TooManyConnections => ": close some, or raise the server's limit of connections",
        Reason::StorageFailed => ": the server's log says more",
        Reason::Forgotten => ": too much was written since it was sent first",
        Reason::Unknown => ": it gave no reason that this client knows",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
