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
mod lot;
mod policy;
mod received;
mod report;
mod shared;
mod stream;
mod tracker;
mod verify;
mod work;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::Stream;
use futures::stream::unfold;
use logd_protocol::Offset;
use logd_statehandlers::{
    Checkpoint, ConsumerKey, Position, StateError, StateErrorKind, StateHandler, Token,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub use self::builder::ConsumerBuilder;
use self::committer::{STORE_TIMEOUT, within};
pub use self::policy::{DeadLetters, StartAt, WhenGone};
pub use self::received::{DeliveryId, Nack, Received};
pub use self::report::{Lag, Shutdown};
use self::shared::{Shared, later};
use self::stream::Current;
use self::tracker::Amount;
use crate::client::Client;
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::scanner::{Scanner, ScannerBuilder};

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
    /// What is missing up to here was told, and is passed at the next call.
    passing: Option<Position>,
    /// Where reading began.
    origin: Position,
    when_gone: WhenGone,
    /// Whether the first message has brought down every start.
    is_poison: bool,
    /// Whether the next message may not be one to hand out.
    is_careful: bool,
    current: Option<Current>,
    /// How many messages are still wanted.
    wanted: u64,
    /// How much can be in hand.
    window: Amount,
    /// How much was handed out in this run of reading.
    handed: Amount,
    /// How much can be without looking what is done.
    room: Amount,
    stopping: Option<Stopping>,
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
        let mut state = self.shared.lock();
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
        // Until the stream has said that reading begins anew, what is worked on is of before.
        let fence = state.fence_before.unwrap_or(state.fence);
        Token { key: self.shared.key.clone(), fence, expected }
    }

    /// A transaction was committed with the checkpoint that has led to this token: everything before its position is done.
    pub fn committed(&mut self, token: &Token) {
        let Some(next) = token.expected else { return };
        let mut state = self.shared.lock();
        if state.fence == token.fence {
            state.committed = Some(Checkpoint::at(next));
            state.tracker.settle_before(next);
            self.shared.news.notify_one();
        }
    }

    /// Reads what is stored, after a transaction of which it is not known whether it was committed, or a rollback. What was
    /// in hand and is not stored comes again; deliveries of before do nothing any more. Returns where reading goes on.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the store cannot be asked; [`ErrorKind::Invalid`] when the consumer is not
    /// [transactional](ConsumerBuilder::transactional).
    pub async fn resync(&mut self) -> Result<Option<Position>, Error> {
        if !self.shared.policy.is_transactional {
            return Err(Error::invalid("a consumer that is not transactional stores its checkpoints itself"));
        }
        let generation = self.shared.lock().generation;
        self.find_out_whose().await;
        let stored = within(self.shared.handler.get(&self.shared.key)).await.map_err(Error::state)?;
        let mut state = self.shared.lock();
        if state.generation != generation {
            // The checkpoint was moved, and reading begins anew where it is: that is told here.
            state.replaced = None;
            return Ok(state.committed.as_ref().map(|committed| committed.next));
        }
        let position = stored.as_ref().map(|stored| stored.next);
        let fence = state.fence;
        drop(self.shared.reload(&mut state, stored, fence, self.origin));
        Ok(position)
    }

    /// Waits until the committer has found out whether the checkpoint is still this consumer's to move, as long as a call of
    /// the store can take.
    async fn find_out_whose(&self) {
        let checks = {
            let mut state = self.shared.lock();
            state.is_doubted = true;
            state.checks
        };
        self.shared.work.notify_one();
        let found_out = async {
            loop {
                let mut news = pin!(self.shared.news.notified());
                news.as_mut().enable();
                let is_found_out = {
                    let state = self.shared.lock();
                    state.checks != checks || state.has_failed
                };
                if is_found_out {
                    return;
                }
                news.await;
            }
        };
        // Who does not know goes on with the old fence, which is refused where it does not hold.
        let _ = timeout(STORE_TIMEOUT, found_out).await;
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
        self.shared.is_awaited.store(true, Ordering::SeqCst);
        let end = later(Instant::now(), deadline);
        loop {
            let shared = Arc::clone(&self.shared);
            let mut news = pin!(shared.news.notified());
            news.as_mut().enable();
            // Where nothing is buried any more, what is in hand may never be done.
            let has_died = self.stopping.as_ref().is_some_and(|stopping| stopping.stop_burying.is_closed());
            if has_died || !self.shared.lock().tracker.is_at_work() || timeout_at(end, news).await.is_err() {
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
