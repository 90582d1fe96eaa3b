//! The settings of a writer, and how it is started.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::TopicName;

use super::Writer;
use super::dropped::{Dropped, Notice};
use super::events::{ErrorHandler, Events};
use super::limits::{Limits, WhenAway, WhenFailed};
use super::own::{Home, TaskRuntime};
use super::receipt::{Receipts, StatePusher};
use super::shared::Shared;
use super::spooler::{SharedSpool, SpoolOptions};
use super::task::{Loops, Task};
use crate::backlog::{BacklogLimits, WhenFull};
use crate::config::{ClientConfig, check_batch_bytes, check_host};
use crate::error::Error;
use crate::session::Link;

/// How long after its first message a batch is sent, by default.
const WAIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(10);
/// How many batches are under way at once, by default.
const IN_FLIGHT_DEFAULT: usize = 4;
/// The most that there can be: a server remembers some hundred batches of a writer.
const IN_FLIGHT_MAX: usize = 64;
/// How long a write waits for room, by default.
const BUDGET_DEFAULT: Duration = Duration::from_secs(10);
/// The default for what a writer holds: 256 full batches.
const BUFFER_BYTES_DEFAULT: usize = 16 * 1024 * 1024;
/// The default for what its backlog holds.
const BACKLOG_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// What a writer does with a batch that was sent whole and never answered, because the connection ended or the server
/// was silent for too long; and that the server could not tell from another one when it is sent again, because it does
/// not know `dedup`, or because the writer was told to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownOutcome {
    /// Hand it back: nothing is ever written twice.
    #[default]
    HandBack,
    /// Send it again as the retry policy says: it may be written twice.
    Retry,
}

/// The settings of a [`Writer`].
#[must_use]
pub struct WriterBuilder {
    config: ClientConfig,
    topic: TopicName,
    limits: Limits,
    in_flight: usize,
    unknown_outcome: UnknownOutcome,
    spool: Option<SpoolOptions>,
    handler: Option<Box<dyn ErrorHandler>>,
    pusher: Option<Box<dyn StatePusher>>,
    runtime: TaskRuntime,
}

impl WriterBuilder {
    pub(super) fn new(config: ClientConfig) -> Self {
        let backlog =
            BacklogLimits { bytes_max: BACKLOG_BYTES_DEFAULT, age_max: None, when_full: WhenFull::default() };
        let limits = Limits {
            batch_bytes: config.batch_bytes,
            wait_interval: WAIT_INTERVAL_DEFAULT,
            buffer_bytes: BUFFER_BYTES_DEFAULT,
            budget: BUDGET_DEFAULT,
            dedup: true,
            when_away: WhenAway::default(),
            when_failed: WhenFailed::default(),
            backlog,
            notice: Notice::default(),
        };
        Self {
            config,
            topic: TopicName::default(),
            limits,
            in_flight: IN_FLIGHT_DEFAULT,
            unknown_outcome: UnknownOutcome::default(),
            spool: None,
            handler: None,
            pusher: None,
            runtime: TaskRuntime::default(),
        }
    }

    /// The topic to write to. Default: `default`. The server makes it with its first batch.
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topic = topic;
        self
    }

    /// The most bytes of a batch, envelope and body. Default: the configuration's; from 512 to 64 MiB. The server
    /// must take batches of this size.
    pub const fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes;
        self
    }

    /// How long after its first message a batch is sent, unless it is full before. Default: 10 ms.
    ///
    /// With 0 it is sent as soon as fewer than [`WriterBuilder::in_flight`] batches are under way.
    pub const fn wait_interval(mut self, interval: Duration) -> Self {
        self.limits.wait_interval = interval;
        self
    }

    /// The most batches that can be sent before the first of them is answered. Default: 4; from 1 to 64.
    ///
    /// Their order is kept, also when some are refused. Where the server does not know the extension `dedup`, or the
    /// writer was told to do without, one batch is sent at a time.
    pub const fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches;
        self
    }

    /// The most bytes of framed messages that the writer buffers, open, waiting or under way. Default: 16 MiB; at least
    /// `batch_bytes`. Writes wait while there are so many.
    ///
    /// The memory used can be twice that, where batches are sent long before they are full.
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffer_bytes = bytes;
        self
    }

    /// How long a write waits for room, at most. Default: 10 seconds.
    ///
    /// Where there is a [spool](WriterBuilder::spool), room is made by it before that time is over. A message for which
    /// there is no room by then is dropped: the write says so, and how many were dropped is written to the topic as a
    /// [message of its own](WriterBuilder::drop_notice) as soon as a batch has been acknowledged again. With 0 a write
    /// never waits.
    ///
    /// When a message has waited in vain, and nothing was acknowledged meanwhile, those behind it do not wait until
    /// something is: a server that is away holds an application up once, not with every message.
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.limits.budget = budget;
        self
    }

    /// The message that tells readers of the topic that messages were dropped; `None` for none. Default: the text of
    /// [`Dropped`].
    ///
    /// One that no batch has room for is replaced by the default.
    pub fn drop_notice(mut self, text: impl Fn(&Dropped) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        self.limits.notice = Notice::new(text);
        self
    }

    /// Keeps batches in the directory `dir`, of at most `bytes_max` bytes together, when the server cannot take them:
    /// instead of in the backlog, and before anything is dropped. Default: none.
    ///
    /// They survive the application, and are sent before anything else as soon as the server is there, by this writer,
    /// by the next one that has the directory, or by `log-cli spool send`. What goes there is what the server may take
    /// later; what it refuses for good goes to the backlog, or is set aside in the directory where it was there already.
    /// A writer without [`dedup`](WriterBuilder::dedup), or whose server does not know it, keeps a batch that may be
    /// in the topic as it is told to by [`unknown_outcome`](WriterBuilder::unknown_outcome).
    ///
    /// [`WriterBuilder::open`] reads what is there, and makes the directory where there is none. One process at a time
    /// can have it.
    pub fn spool(mut self, dir: impl Into<PathBuf>, bytes_max: u64) -> Self {
        self.spool = Some(SpoolOptions { dir: dir.into(), bytes_max });
        self
    }

    /// What to do while the server is away. Default: to retry.
    pub const fn when_away(mut self, choice: WhenAway) -> Self {
        self.limits.when_away = choice;
        self
    }

    /// Whether to go on behind a batch that was given up. Default: to go on. A writer that halts cannot have a spool.
    pub const fn when_failed(mut self, choice: WhenFailed) -> Self {
        self.limits.when_failed = choice;
        self
    }

    /// The most bytes of failed batches that the backlog holds, beside `buffer_bytes`. Default: 16 MiB.
    pub const fn backlog_bytes(mut self, bytes: usize) -> Self {
        self.limits.backlog.bytes_max = bytes;
        self
    }

    /// How long a failed batch stays in the backlog before it is dropped, and counted, which happens when the backlog is
    /// next looked at, flushed, or added to. Default: without end.
    pub const fn backlog_age(mut self, age: Duration) -> Self {
        self.limits.backlog.age_max = Some(age);
        self
    }

    /// What to do when a batch fails and the backlog is full. Default: to keep it, and to refuse writes.
    pub const fn when_backlog_full(mut self, choice: WhenFull) -> Self {
        self.limits.backlog.when_full = choice;
        self
    }

    /// Who hears of everything that goes wrong, from a task of its own. Default: nobody; what is serious is logged in any
    /// case, through `tracing`.
    ///
    /// ```
    /// # use logd_client::{ClientConfig, Writer, WriterEvent};
    /// let builder = Writer::builder(ClientConfig::default()).error_handler(|event: WriterEvent| eprintln!("{event}"));
    /// ```
    pub fn error_handler(mut self, handler: impl ErrorHandler) -> Self {
        self.handler = Some(Box::new(handler));
        self
    }

    /// Who is told the receipt of every acknowledged batch, in order, from a task of its own. Default: nobody.
    ///
    /// [`Writer::close`] waits until all were told.
    ///
    /// ```
    /// # use logd_client::{ClientConfig, Receipt, Writer};
    /// let builder = Writer::builder(ClientConfig::default())
    ///     .state_pusher(|receipt: &Receipt| println!("{} messages at {}", receipt.messages, receipt.offset));
    /// ```
    pub fn state_pusher(mut self, pusher: impl StatePusher) -> Self {
        self.pusher = Some(Box::new(pusher));
        self
    }

    /// Whether batches carry an identity, so that a server with the extension `dedup` stores each of them once, however
    /// often it is sent. Default: yes. It takes up to 50 bytes a batch; a server without the extension gets none.
    ///
    /// With it, a batch whose outcome is unknown is sent again as the retry policy says.
    pub const fn dedup(mut self, choice: bool) -> Self {
        self.limits.dedup = choice;
        self
    }

    /// What to do with a batch whose outcome is unknown where the server cannot tell it from another. Default: hand it
    /// back.
    pub const fn unknown_outcome(mut self, choice: UnknownOutcome) -> Self {
        self.unknown_outcome = choice;
        self
    }

    /// Where the writer's task runs. Default: on the runtime that it is opened in, if that has several threads; else on a
    /// thread of its own.
    pub const fn runtime(mut self, choice: TaskRuntime) -> Self {
        self.runtime = choice;
        self
    }

    /// Starts the writer's task. It connects when there is something to send.
    ///
    /// Where there is a spool, it is read now, by the calling thread.
    ///
    /// # Errors
    /// - [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a setting is out of its bounds, when the writer shall run
    ///   on the [current](TaskRuntime::Current) runtime and there is none, or when no thread can be started
    /// - [`ErrorKind::Spool`](crate::ErrorKind::Spool) when the spool is in use or cannot be read
    pub fn open(self) -> Result<Writer, Error> {
        self.check()?;
        let home = Home::find(self.runtime)?;
        self.start(home)
    }

    fn check(&self) -> Result<(), Error> {
        let Limits { batch_bytes, buffer_bytes, .. } = self.limits;
        check_host(&self.config.host)?;
        check_batch_bytes("batch_bytes", batch_bytes)?;
        if buffer_bytes < batch_bytes {
            return Err(Error::invalid(format!(
                "buffer_bytes is `{buffer_bytes}`: it must be at least batch_bytes, which is `{batch_bytes}`"
            )));
        }
        if self.spool.is_some() && self.limits.when_failed == WhenFailed::Halt {
            let text = "a writer that halts cannot have a spool: what is there is sent behind the gap";
            return Err(Error::invalid(text));
        }
        let in_flight = self.in_flight;
        if !(1..=IN_FLIGHT_MAX).contains(&in_flight) {
            return Err(Error::invalid(format!(
                "in_flight is `{in_flight}`: it must be from 1 to {IN_FLIGHT_MAX}"
            )));
        }
        Ok(())
    }

    fn start(self, home: Home) -> Result<Writer, Error> {
        let (events, event_loop) = Events::new(self.handler);
        let (receipts, receipt_loop) = Receipts::new(self.pusher, &events);
        let (spool, spool_state) = match &self.spool {
            Some(options) => {
                let (spool, state) = SharedSpool::open(options, &self.topic, &events)?;
                (Some(spool), Some(state))
            }
            None => (None, None),
        };
        let patience = self.config.retry.clone().attempts(None).backoff();
        let shared = Arc::new(Shared::new(self.topic, self.limits, events, spool_state));
        let task = Task {
            shared: Arc::clone(&shared),
            link: Link::new(self.config),
            spool,
            unknown_outcome: self.unknown_outcome,
            in_flight_max: self.in_flight,
            server_dedup: false,
            knows_server: false,
            receipts,
            patience,
            draining: Vec::new(),
            delivered: Vec::new(),
            doubtful: HashSet::new(),
            hopeless: None,
        };
        Ok(home.start(task, Loops { events: event_loop, receipts: receipt_loop }, shared))
    }
}

impl fmt::Debug for WriterBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WriterBuilder")
            .field("config", &self.config)
            .field("topic", &self.topic)
            .field("limits", &self.limits)
            .field("in_flight", &self.in_flight)
            .field("unknown_outcome", &self.unknown_outcome)
            .field("spool", &self.spool)
            .finish_non_exhaustive()
    }
}
