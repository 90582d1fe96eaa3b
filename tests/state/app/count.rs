//! Counting with a transactional consumer: results and checkpoint are stored in one transaction, or neither is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use logd_client::{
    Checkpoint, Consumer, ErrorKind, Received, StateError, StateErrorKind, StateHandler, Token,
};
use logd_tests::key_of;
use tokio::time::{sleep, timeout};

use crate::{Place, TAKEN_OVER, say};

/// How many messages a transaction has, at most.
const BATCH_MESSAGES: usize = 250;
/// For how long a transaction waits for more of them.
const BATCH_WAIT: Duration = Duration::from_millis(50);
/// A short lease, as whoever comes after a kill waits for its end.
const TTL: Duration = Duration::from_millis(300);
/// How long after a store that could not be asked it is asked again.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) type Counts = BTreeMap<String, i64>;

/// Why a transaction was not stored, as far as is known.
pub(crate) enum Undone {
    /// The checkpoint is not what the token says: it was rolled back.
    Stale(String),
    /// It may be stored, or not.
    Open(String),
}

/// Where the results are.
pub(crate) trait Results {
    async fn store(&mut self, token: &Token, counts: &Counts, new: &Checkpoint) -> Result<Token, Undone>;

    /// Waits until no transaction of ours can be committed any more, but those that are.
    async fn settle(&mut self, token: &Token) -> Result<(), StateError>;
}

pub(crate) async fn run(place: &Place<'_>, state: Arc<dyn StateHandler>, mut results: impl Results) -> i32 {
    let mut consumer = Consumer::builder(place.config(), state, place.key.clone())
        .transactional()
        .exclusive(TTL)
        .wait_for_lease()
        .follow(false)
        .open()
        .await
        .expect("the consumer can be opened");
    say("open");
    let mut batch: Vec<Received> = Vec::new();
    loop {
        match timeout(BATCH_WAIT, consumer.next()).await {
            Ok(Some(Ok(message))) => {
                batch.push(message);
                if batch.len() < BATCH_MESSAGES {
                    continue;
                }
            }
            Ok(Some(Err(error))) => {
                say(&format!("error {:?} {error}", error.kind()));
                if matches!(error.kind(), ErrorKind::State(kind) if is_passing(kind)) {
                    continue;
                }
                return TAKEN_OVER;
            }
            Ok(None) => break,
            Err(_) => {}
        }
        let Some(last) = batch.last() else { continue };
        let (token, new) = (consumer.token(), last.checkpoint());
        match results.store(&token, &counts(&batch), &new).await {
            Ok(token) => {
                consumer.committed(&token);
                say(&format!("committed {}", new.next));
            }
            Err(Undone::Stale(error)) => {
                say(&format!("stale {error}"));
                return TAKEN_OVER;
            }
            Err(Undone::Open(error)) => {
                say(&format!("doubt {error}"));
                if !resync(&mut consumer, &mut results, &token).await {
                    return TAKEN_OVER;
                }
            }
        }
        batch.clear();
    }
    let shutdown = consumer.shutdown(Duration::from_secs(5)).await.expect("the lease is given back");
    say(&format!("done {shutdown:?}"));
    0
}

fn is_passing(kind: StateErrorKind) -> bool {
    matches!(kind, StateErrorKind::Unavailable | StateErrorKind::Ambiguous)
}

fn counts(batch: &[Received]) -> Counts {
    let mut counts = Counts::new();
    for message in batch {
        let line = std::str::from_utf8(message.bytes()).expect("a text was written");
        *counts.entry(key_of(line)).or_default() += 1;
    }
    counts
}

/// Finds out what became of the transaction of a token. `false` if somebody else has taken over.
async fn resync(consumer: &mut Consumer, results: &mut impl Results, token: &Token) -> bool {
    loop {
        match results.settle(token).await {
            Ok(()) => break,
            Err(error) if error.is_retryable() => sleep(PAUSE).await,
            Err(error) => {
                say(&format!("stale {error}"));
                return false;
            }
        }
    }
    loop {
        match consumer.resync().await {
            Ok(position) => {
                let is_done = position != token.expected;
                say(&format!("resync {}", if is_done { "it was committed" } else { "it was not" }));
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::State(kind) if is_passing(kind)) => {
                sleep(PAUSE).await;
            }
            Err(error) => {
                say(&format!("stale {error}"));
                return false;
            }
        }
    }
}
