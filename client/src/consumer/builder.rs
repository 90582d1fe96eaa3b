//! The settings of a consumer, and how it begins.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt;
use logd_statehandlers::{Claimant, ConsumerKey, Fence, Fencing, StateError, StateErrorKind, StateHandler};
use tokio::runtime::Handle as Runtime;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use super::begin::{Begin, Beginning, Held, no_leases};
use super::committer::{Committer, Hold};
use super::graves::bury_all;
use super::policy::{CommitPolicy, DeadLetters, Grave, StartAt, WhenGone};
use super::shared::{Shared, State};
use super::tracker::{Amount, Tracker};
use super::{Consumer, Stopping};
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::Error;
use crate::scanner::{Scanner, ScannerBuilder, Start};

/// The longest time for which something done is not stored, by default.
const COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);
/// How long a store can fail before the stream says so, by default.
const COMMIT_LAG_DEFAULT: Duration = Duration::from_secs(60);
/// How long a lease lasts that is not renewed, by default.
const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// How many messages can be in hand, by default.
const WINDOW_MESSAGES_DEFAULT: usize = 10_000;
/// How many bytes can be, by default.
const WINDOW_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// The settings of a [`Consumer`].
#[derive(Debug)]
#[must_use]
pub struct ConsumerBuilder {
    config: ClientConfig,
    handler: Arc<dyn StateHandler>,
    key: ConsumerKey,
    scanner: ScannerBuilder,
    start: StartAt,
    when_gone: WhenGone,
    policy: CommitPolicy,
    ttl: Duration,
    is_exclusive: bool,
    waits: bool,
    owner: Option<String>,
    limit: u64,
    window_messages: usize,
    window_bytes: usize,
    deliveries_max: Option<u32>,
    grave: Grave,
}

impl ConsumerBuilder {
    pub(super) fn new(config: ClientConfig, handler: Arc<dyn StateHandler>, key: ConsumerKey) -> Self {
        let scanner = Scanner::builder(config.clone()).topic(key.topic().clone()).follow(true).watched(None);
        let policy = CommitPolicy {
            interval: COMMIT_INTERVAL_DEFAULT,
            messages: None,
            lag_max: COMMIT_LAG_DEFAULT,
            is_transactional: false,
        };
        Self {
            config,
            handler,
            key,
            scanner,
            start: StartAt::default(),
            when_gone: WhenGone::default(),
            policy,
            ttl: TTL_DEFAULT,
            is_exclusive: false,
            waits: false,
            owner: None,
            limit: u64::MAX,
            window_messages: WINDOW_MESSAGES_DEFAULT,
            window_bytes: WINDOW_BYTES_DEFAULT,
            deliveries_max: None,
            grave: Grave(None),
        }
    }

    /// Where to begin. Default: at the checkpoint; where there is none, with the oldest message.
    pub const fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// Whether to wait for more at the end of the topic. Default: yes.
    pub fn follow(mut self, follow: bool) -> Self {
        self.scanner = self.scanner.follow(follow);
        self
    }

    /// The most messages to deliver. Default: no limit.
    pub const fn limit(mut self, messages: u64) -> Self {
        self.limit = messages;
        self
    }

    /// What to do when what comes next is not in the topic any more. Default: it is an error.
    pub const fn when_gone(mut self, choice: WhenGone) -> Self {
        self.when_gone = choice;
        self
    }

    /// Holds the lease of the key: at most one such consumer moves the checkpoint, wherever the others run. Default: no;
    /// then the stream of the slower of two ends with an error. A key that ever had a lease, or was reset, needs one: a
    /// consumer that is not exclusive takes it with its first checkpoint.
    ///
    /// Another one that is opened meanwhile fails, or [waits](ConsumerBuilder::wait_for_lease). One that dies is followed
    /// when its lease has run out, after `ttl` at most, or at once where the store notices by itself. One that was only
    /// stopped for that long notices when it goes on: it changes nothing any more, and its stream ends with an error.
    pub const fn exclusive(mut self, ttl: Duration) -> Self {
        self.is_exclusive = true;
        self.ttl = ttl;
        self
    }

    /// Waits in [`ConsumerBuilder::open`] while another consumer has the lease. Default: that is an error.
    pub const fn wait_for_lease(mut self) -> Self {
        self.waits = true;
        self
    }

    /// The name under which others see who has the lease. Default: the process.
    pub fn owner(mut self, name: impl Into<String>) -> Self {
        self.owner = Some(name.into());
        self
    }

    /// The longest time for which something done is not stored: what comes again after a crash. Default: 1 second. When
    /// nothing is in hand for a tenth of a second, it is stored sooner.
    pub const fn commit_interval(mut self, interval: Duration) -> Self {
        self.policy.interval = interval;
        self
    }

    /// Stores a checkpoint sooner, after so many messages. Default: no.
    pub const fn commit_messages(mut self, messages: u64) -> Self {
        self.policy.messages = Some(messages);
        self
    }

    /// How long the store can fail before the stream yields the error. It is asked again in any case, and what is done
    /// meanwhile is stored when it answers. Default: 60 seconds.
    pub const fn commit_lag_max(mut self, lag: Duration) -> Self {
        self.policy.lag_max = lag;
        self
    }

    /// Stores no checkpoints: the user's transactions do, see [`Consumer::token`]. It needs a store with
    /// [transactions](logd_statehandlers::Capabilities::transactions), and makes the consumer exclusive. More messages than
    /// the [window](ConsumerBuilder::window) has can not be in one transaction, and starts are not counted for
    /// [`deliveries_max`](ConsumerBuilder::deliveries_max).
    pub const fn transactional(mut self) -> Self {
        self.policy.is_transactional = true;
        self.is_exclusive = true;
        self
    }

    /// How far what is handed out can be ahead of what is done, in messages, and in bytes of their frames, before no more is
    /// taken from the topic. Default: 10,000 messages and 16 MiB; at least 1 message.
    pub const fn window(mut self, messages: usize, bytes: usize) -> Self {
        self.window_messages = messages;
        self.window_bytes = bytes;
        self
    }

    /// After how many returns, by `nack` or by being dropped, and after how many starts at the same message that never
    /// came past it, a message goes to the dead letters, or is skipped without any. At least 1. Default: it comes again
    /// without end.
    pub const fn deliveries_max(mut self, count: u32) -> Self {
        self.deliveries_max = Some(count);
        self
    }

    /// Where messages go that cannot be worked on: a [`Writer`](crate::Writer) to a topic of its own, or whatever
    /// implements [`DeadLetters`]. Default: nowhere, they are logged and skipped.
    pub fn dead_letters(mut self, letters: impl DeadLetters) -> Self {
        self.grave = Grave(Some(Box::new(letters)));
        self
    }

    /// Takes the checkpoint, holds it against the topic, and begins to read.
    ///
    /// # Errors
    /// - [`ErrorKind::Gap`](crate::ErrorKind::Gap) when what comes next is not there any more, or the topic is another one
    /// - [`ErrorKind::State`](crate::ErrorKind::State) when the store fails, or another consumer has the lease
    /// - [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the store cannot do what is wanted, or a setting is out of
    ///   its bounds
    /// - else what asking the server has failed with
    ///
    /// # Cancel safety
    /// Nothing has begun when the future is dropped, and the lease is given back.
    pub async fn open(self) -> Result<Consumer, Error> {
        self.check()?;
        let runtime = Runtime::try_current()
            .map_err(|_| Error::invalid("a consumer must be opened within a tokio runtime"))?;
        let owner = self.owner.unwrap_or_else(|| format!("process {}", std::process::id()));
        let hold = Hold { claimant: Claimant::new(owner), ttl: self.ttl };
        let mut held = Held::new(Arc::clone(&self.handler), self.key.clone());
        let beginning = Beginning {
            key: &self.key,
            client: Client::new(self.config.clone()),
            start: self.start,
            when_gone: self.when_gone,
            hold: &hold,
            is_exclusive: self.is_exclusive,
            waits: self.waits,
            starts_max: self.deliveries_max.filter(|_| !self.policy.is_transactional),
            held: &mut held,
        };
        let found = beginning.find().await.and_then(|begin| {
            let last = begin.checkpoint.as_ref().and_then(|checkpoint| checkpoint.anchor);
            // What is passed over is not counted.
            let skips = begin.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.done.is_empty());
            let limit = if skips { u64::MAX } else { self.limit };
            Ok((self.scanner.clone().limit(limit).start(Start::At(begin.next)).watched(last).open()?, begin))
        });
        let (scanner, begin) = match found {
            Ok(found) => found,
            Err(error) => {
                held.release().await;
                return Err(error);
            }
        };
        let (is_poison, next, has_gap) = (begin.is_poison, begin.next, begin.gap.is_some());
        let state = state(begin, held.take());
        let has_dead_letters = self.grave.0.is_some();
        let shared =
            Shared::new(self.key, self.handler, self.policy, self.deliveries_max, has_dead_letters, state);
        let shared = Arc::new(shared);
        let backoff = self.config.retry.clone().attempts(None).backoff();
        let committer = Committer::new(Arc::clone(&shared), hold, backoff, next);
        let (stop, stopped) = oneshot::channel();
        let (stop_burying, burying_stopped) = oneshot::channel();
        let lost_letters = Arc::new(OnceLock::new());
        runtime.spawn(bury(Arc::clone(&shared), self.grave, burying_stopped, Arc::clone(&lost_letters)));
        let task = runtime.spawn(commit(Arc::clone(&shared), committer, stopped, lost_letters));
        Ok(Consumer {
            stopping: Some(Stopping { stop, task, stop_burying }),
            shared,
            config: self.config,
            builder: self.scanner,
            scanner: Some(scanner),
            lost: None,
            is_jumping: false,
            passing: has_gap.then_some(next),
            origin: next,
            when_gone: self.when_gone,
            is_poison,
            is_careful: true,
            current: None,
            wanted: self.limit,
            window: Amount { messages: self.window_messages as u64, bytes: self.window_bytes as u64 },
            handed: Amount::default(),
            room: Amount::default(),
        })
    }

    fn check(&self) -> Result<(), Error> {
        let can = self.handler.capabilities();
        if self.policy.is_transactional && !can.transactions {
            return Err(Error::invalid("the store writes no checkpoints within transactions"));
        }
        if self.is_exclusive && (can.fencing == Fencing::None || self.handler.leases().is_none()) {
            return Err(no_leases(&self.key));
        }
        if self.ttl < Duration::from_millis(10) {
            return Err(Error::invalid(format!(
                "the lease's time is `{:?}`: it must be at least 10ms",
                self.ttl
            )));
        }
        if self.deliveries_max == Some(0) {
            return Err(Error::invalid("a message has `0` deliveries: it must have at least 1"));
        }
        if self.policy.messages == Some(0) {
            return Err(Error::invalid("a checkpoint after `0` messages: it must be at least 1"));
        }
        if self.window_messages == 0 {
            return Err(Error::invalid("the window has no messages: it must have at least 1"));
        }
        Ok(())
    }
}

/// Stores checkpoints until it is told to stop. Tells what could not be stored, or why no more letters could be buried.
async fn commit(
    shared: Arc<Shared>,
    committer: Committer,
    stopped: oneshot::Receiver<()>,
    lost_letters: Arc<OnceLock<StateError>>,
) -> Result<(), StateError> {
    let done = AssertUnwindSafe(committer.run(stopped)).catch_unwind().await;
    let stored = done.unwrap_or_else(|panic| Err(panicked(&shared, "the store of checkpoints", &*panic)));
    stored.and_then(|()| lost_letters.get().cloned().map_or(Ok(()), Err))
}

/// Buries dead letters until it is told to stop.
async fn bury(
    shared: Arc<Shared>,
    grave: Grave,
    stopped: oneshot::Receiver<()>,
    lost_letters: Arc<OnceLock<StateError>>,
) {
    let done = AssertUnwindSafe(bury_all(Arc::clone(&shared), grave, stopped)).catch_unwind().await;
    if let Err(panic) = done {
        // It is the first: this task ends.
        let _ = lost_letters.set(panicked(&shared, "the dead letters' handler", &*panic));
    }
}

/// The user's code has panicked in a task of the consumer's: the stream ends with that.
fn panicked(shared: &Shared, what: &str, panic: &(dyn Any + Send)) -> StateError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    error!(key = %shared.key, "{what} has panicked: {text}");
    let error = StateError::new(StateErrorKind::Failed, format!("{what} has panicked: `{text}`"));
    shared.fail(Error::state(error.clone()));
    error
}

/// What a consumer knows when it begins.
pub(super) fn state(begin: Begin, fence: Fence) -> State {
    let now = Instant::now();
    let known = begin.checkpoint.clone().unwrap_or_default();
    // What is gone is passed once it was told.
    let done = if begin.gap.is_some() && begin.checkpoint.is_some() { known.next } else { begin.next };
    State {
        generation: 0,
        tracker: Tracker::new(done, known.anchor),
        fence,
        fence_before: None,
        committed: begin.checkpoint,
        user: known.user,
        unstored_since: None,
        failures: begin.gap.into_iter().collect(),
        has_failed: false,
        replaced: None,
        left: None,
        checks: 0,
        is_closed: false,
        reload: None,
        jump: None,
        is_doubted: false,
        ahead: known.done,
        dead: VecDeque::new(),
        settled_seen: (0, now),
    }
}
