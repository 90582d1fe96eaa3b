//! Reading with a memory: messages are worked on, and how far that has come is kept in a store.
//!
//! A [`Consumer`] takes the messages of a topic behind its checkpoint and hands them out as [`Received`]s, which are
//! acknowledged in any order. A tracker knows what is done; a task of its own stores the position behind the last message
//! before which everything is, now and then. So what is stored never passes an unfinished message, and after a crash what
//! comes again is what was not stored: each message at least once.
//!
//! With a store that has transactions, checkpoints can be stored together with the results: each message exactly once. See
//! [`Consumer::token`].

mod begin;
mod builder;
mod committer;
mod gone;
mod graves;
mod policy;
mod received;
mod report;
mod shared;
mod tracker;
mod verify;
mod work;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::unfold;
use futures::{FutureExt, Stream};
use logd_protocol::Offset;
use logd_statehandlers::{
    Checkpoint, ConsumerKey, Position, StateError, StateErrorKind, StateHandler, Token,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use self::builder::ConsumerBuilder;
use self::committer::within;
pub use self::policy::{DeadLetters, StartAt, WhenGone};
pub use self::received::{DeliveryId, Nack, Received};
pub use self::report::{Lag, Shutdown};
use self::shared::Shared;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::scanner::{Message, Scanner, ScannerBuilder, Start};

/// The task that stores checkpoints, and how it is told to end.
#[derive(Debug)]
struct Stopping {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), StateError>>,
    /// The task that buries dead letters ends when this is dropped.
    stop_burying: oneshot::Sender<()>,
}

/// Reads a topic from where its checkpoint says, and moves that on.
///
/// One that is dropped without [`Consumer::shutdown`] stores what is done and gives its lease back in the background, as
/// long as its runtime goes on; what was in hand comes again.
///
/// ```no_run
/// use std::time::Duration;
/// use logd_client::{ClientConfig, Consumer, ConsumerKey, open_state};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let states = open_state("file:state/").await?;
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// let mut consumer = Consumer::builder(ClientConfig::new("127.0.0.1:1774"), states, key).open().await?;
/// while let Some(delivery) = consumer.next().await {
///     let delivery = delivery?;
///     println!("{}: {}", delivery.position(), delivery.bytes().escape_ascii());
///     delivery.ack();
/// }
/// consumer.shutdown(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    config: ClientConfig,
    builder: ScannerBuilder,
    /// `None` when the topic's end has come, or no more is wanted.
    scanner: Option<Scanner>,
    /// Why the scanner does not find what comes next, until it is known what is the matter.
    lost: Option<Error>,
    /// Whether the checkpoint is being put to the beginning of another topic.
    is_jumping: bool,
    /// Where reading began.
    origin: Position,
    when_gone: WhenGone,
    /// Whether the first message has brought down every start.
    is_poison: bool,
    window_messages: usize,
    window_bytes: usize,
    /// The batch of the last message, and when its first was taken.
    batch: (Offset, Instant),
    stopping: Option<Stopping>,
}

/// What the consumer can do next.
enum Step {
    Yield(Option<Result<Received, Error>>),
    /// Wait: for a message if there is room, until then if there is a time, or for news.
    Wait {
        has_room: bool,
        at: Option<Instant>,
    },
}

impl Consumer {
    /// The default settings for a consumer of the configured server, whose checkpoints `handler` keeps under `key`.
    pub fn builder(
        config: ClientConfig,
        handler: Arc<dyn StateHandler>,
        key: ConsumerKey,
    ) -> ConsumerBuilder {
        ConsumerBuilder::new(config, handler, key)
    }

    /// The next message to work on: one that comes again, or a new one. `None` at the end of a topic that is not followed
    /// or of the limit, when nothing is in hand any more, and after an error that ended it.
    ///
    /// While as many are in hand as the window has, this waits until some are done: work on several at once in tasks of
    /// their own.
    ///
    /// # Errors
    /// - what a [`Scanner`](crate::Scanner) yields; behind an error for which [`Error::is_skippable`] is true, the next call
    ///   goes on, and the checkpoint will pass what is missing
    /// - [`ErrorKind::Gap`] where what comes next is gone, or the topic is another one; it ends the stream, unless
    ///   [`WhenGone::Jump`] has it go on
    /// - [`ErrorKind::State`] when another reader has taken over, which ends the stream, or the store has failed for too
    ///   long, behind which the next call goes on
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped: the next call yields the message.
    pub async fn next(&mut self) -> Option<Result<Received, Error>> {
        loop {
            if self.lost.is_some() {
                self.find_out().await;
            }
            match self.step() {
                Step::Yield(item) => return item,
                Step::Wait { has_room: true, .. } => {
                    let ready = self.scanner.as_mut().and_then(|scanner| scanner.next().now_or_never());
                    if let Some(scanned) = ready {
                        match self.take(scanned) {
                            Some(item) => return Some(item),
                            None => continue,
                        }
                    }
                }
                Step::Wait { .. } => {}
            }
            if let Some(item) = self.wait().await {
                return item;
            }
        }
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Option<Option<Result<Received, Error>>> {
        let shared = Arc::clone(&self.shared);
        let mut news = pin!(shared.news.notified());
        news.as_mut().enable();
        let (has_room, at) = match self.step() {
            Step::Yield(item) => return Some(item),
            Step::Wait { has_room, at } => (has_room, at),
        };
        let scanned = async {
            match &mut self.scanner {
                Some(scanner) if has_room => scanner.next().await,
                _ => std::future::pending().await,
            }
        };
        let timer = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = news => None,
            () = timer => None,
            scanned = scanned => self.take(scanned).map(Some),
        }
    }

    /// What can be done without waiting.
    fn step(&mut self) -> Step {
        let mut state = self.shared.lock();
        if let Some(error) = state.failure.take() {
            return Step::Yield(Some(Err(error)));
        }
        if state.has_failed {
            return Step::Yield(None);
        }
        if let Some(position) = state.reload.take() {
            drop(state);
            self.begin_anew(position);
            return Step::Wait { has_room: false, at: Some(Instant::now()) };
        }
        if state.tracker.again_at().is_some()
            && let Some(handed) = state.tracker.again(Instant::now())
        {
            let (generation, crc) = (state.generation, state.tracker.crc(handed.slot).unwrap_or_default());
            drop(state);
            return Step::Yield(Some(Ok(Received::new(handed, generation, crc, Arc::clone(&self.shared)))));
        }
        if self.scanner.is_none() && !self.is_jumping && state.tracker.is_empty() {
            return Step::Yield(None);
        }
        let has_room = !state.tracker.is_full(self.window_messages, self.window_bytes);
        Step::Wait { has_room, at: state.tracker.again_at() }
    }

    /// Reads from another place on.
    fn begin_anew(&mut self, position: Position) {
        self.is_jumping = false;
        self.is_poison = false;
        self.lost = None;
        match self.builder.clone().start(Start::At(position)).open() {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(error) => self.shared.fail(error),
        }
    }

    /// Takes what the scanner has yielded into hand; `None` when there is nothing to tell.
    fn take(&mut self, scanned: Option<Result<Message, Error>>) -> Option<Result<Received, Error>> {
        let Some(scanner) = &self.scanner else { return None };
        let next = scanner.position();
        if let Some(Ok(message)) = &scanned
            && message.position.offset != self.batch.0
        {
            // One time for all messages of a batch: they have come together.
            self.batch = (message.position.offset, Instant::now());
        }
        let now = self.batch.1;
        match scanned {
            None => {
                self.scanner = None;
                None
            }
            Some(Ok(message)) => {
                let crc = scanner.batch_crc();
                let next = next.unwrap_or(message.position);
                let mut state = self.shared.lock();
                let position = message.position;
                if state.ahead.iter().any(|done| done.from <= position && position < done.to) {
                    state.tracker.pass(position, next, Some(crc), now);
                    self.shared.is_unstored(&mut state);
                    return None;
                }
                let handed = state.tracker.take(message, next, crc, now);
                let generation = state.generation;
                drop(state);
                if std::mem::take(&mut self.is_poison) {
                    self.shared.bury(generation, &handed);
                    return None;
                }
                Some(Ok(Received::new(handed, generation, crc, Arc::clone(&self.shared))))
            }
            Some(Err(error)) if error.is_skippable() => {
                let mut state = self.shared.lock();
                if let Some(next) = next {
                    let from = state.tracker.taken();
                    state.tracker.pass(from, next, None, now);
                    self.shared.is_unstored(&mut state);
                }
                Some(Err(error))
            }
            Some(Err(error)) if error.is_not_found() || matches!(error.kind(), ErrorKind::Beyond { .. }) => {
                self.scanner = None;
                self.lost = Some(error);
                None
            }
            Some(Err(error)) => {
                self.scanner = None;
                self.shared.lock().has_failed = true;
                Some(Err(error))
            }
        }
    }

    /// The deliveries as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Received, Error>> {
        unfold(self, |mut consumer| async move { consumer.next().await.map(|item| (item, consumer)) })
    }

    /// How far the consumer is, against the topic's end now.
    ///
    /// # Errors
    /// What asking the server has failed with.
    pub async fn lag(&self) -> Result<Lag, Error> {
        let mut client = Client::new(self.config.clone());
        let head = match client.head(self.shared.key.topic()).await {
            Err(error) if error.is_not_found() => Offset::ZERO,
            head => head?.next,
        };
        let state = self.shared.lock();
        let acked = state.tracker.next();
        Ok(Lag {
            committed: state.committed.as_ref().map(|committed| committed.next),
            acked,
            delivered: state.tracker.delivered(),
            head,
            bytes: head.as_u64().saturating_sub(acked.offset.as_u64()),
            in_hand: state.tracker.open(),
            oldest_unacked: state.tracker.oldest().map(|since| since.elapsed()),
        })
    }

    /// Sets what is kept beside the position, from the next checkpoint on: up to
    /// [`Checkpoint::USER_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when it is longer.
    pub fn set_user(&self, user: impl Into<Vec<u8>>) -> Result<(), Error> {
        let user: Vec<u8> = user.into();
        if user.len() > Checkpoint::USER_BYTES_MAX {
            let (bytes, max) = (user.len(), Checkpoint::USER_BYTES_MAX);
            return Err(Error::invalid(format!(
                "`{bytes}` bytes are too many beside a position: at most `{max}`"
            )));
        }
        let mut state = self.shared.lock();
        state.user = user;
        self.shared.is_unstored(&mut state);
        Ok(())
    }

    /// What is kept beside the position.
    pub fn user(&self) -> Vec<u8> {
        self.shared.lock().user.clone()
    }

    /// What a transaction stores its checkpoint against; see [`ConsumerBuilder::transactional`].
    ///
    /// Work on some messages, in order; write their results and the [checkpoint](Received::checkpoint) of the last one in
    /// one transaction of the store, by its `complete_in` or `with_tx` with this token; and hand the token that came of it
    /// to [`Consumer::committed`] once the transaction is committed. When the store says that the token is stale, roll back:
    /// another reader has taken over. When it is not known whether the transaction was committed, [`Consumer::resync`].
    pub fn token(&self) -> Token {
        let state = self.shared.lock();
        let expected = state.committed.as_ref().map(|committed| committed.next);
        Token { key: self.shared.key.clone(), fence: state.fence, expected }
    }

    /// A transaction was committed with the checkpoint that has led to this token: everything before its position is done.
    pub fn committed(&mut self, token: &Token) {
        let Some(next) = token.expected else { return };
        let mut state = self.shared.lock();
        if state.fence == token.fence {
            state.committed = Some(Checkpoint::at(next));
            state.tracker.ack_before(next);
            self.shared.news.notify_one();
        }
    }

    /// Reads what is stored, after a transaction of which it is not known whether it was committed, or a rollback. What was
    /// in hand and is not stored comes again; deliveries of before do nothing any more. Returns where reading goes on.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the store cannot be asked.
    pub async fn resync(&mut self) -> Result<Option<Position>, Error> {
        let stored = within(self.shared.handler.get(&self.shared.key)).await.map_err(Error::state)?;
        let fence = {
            let mut state = self.shared.lock();
            state.is_doubted = true;
            state.fence
        };
        self.shared.work.notify_one();
        let position = stored.as_ref().map(|stored| stored.next);
        self.shared.reload(stored, fence, self.origin);
        Ok(position)
    }

    /// Takes no more messages, waits until what is in hand is done, for the time `deadline` at most, stores the last
    /// checkpoint, and gives the lease back.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the last checkpoint could not be stored: what was done since the one before comes again.
    ///
    /// # Cancel safety
    /// When the future is dropped, the last checkpoint may not be stored, and the lease runs out.
    pub async fn shutdown(mut self, deadline: Duration) -> Result<Shutdown, Error> {
        self.scanner = None;
        let end = Instant::now() + deadline;
        loop {
            let shared = Arc::clone(&self.shared);
            let mut news = pin!(shared.news.notified());
            news.as_mut().enable();
            if !self.shared.lock().tracker.is_at_work() || timeout_at(end, news).await.is_err() {
                break;
            }
        }
        let stored = match self.stopping.take() {
            Some(Stopping { stop, task, stop_burying }) => {
                drop(stop_burying);
                // A task that has ended by itself has said why.
                let _ = stop.send(());
                task.await.unwrap_or_else(|_| {
                    Err(StateError::new(
                        StateErrorKind::Ambiguous,
                        "the task that stores checkpoints has ended",
                    ))
                })
            }
            None => Ok(()),
        };
        stored.map_err(Error::state)?;
        let state = self.shared.lock();
        let abandoned = state.tracker.open();
        Ok(Shutdown {
            is_drained: abandoned == 0,
            abandoned,
            committed: state.committed.as_ref().map(|committed| committed.next),
        })
    }
}

impl Error {
    /// A store of checkpoints has failed.
    pub(crate) fn state(error: StateError) -> Self {
        Self::told(ErrorKind::State(error.kind()), error)
    }
}
