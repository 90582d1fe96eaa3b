//! A consumer that works on several messages at a time, returns some, and is dropped and opened again now and then; and
//! its store, which is slow, fails, and checks every checkpoint.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use logd_client::{
    Capabilities, Checkpoint, Committed, Consumer, ConsumerKey, Error, ErrorKind, Fence, MemoryState, Nack,
    Received, StateError, StateErrorKind, StateHandler, TopicName, WhenGone, async_trait,
};
use logd_tests::Random;
use tokio::time::{sleep, timeout};

use crate::history::{History, Stored};
use crate::network::Network;
use crate::scanners::{config, is_of_disk};
use crate::scenario::{ByPower, Damage};
use crate::trace::log;

/// A store of checkpoints that is slow, and fails.
struct Store {
    memory: MemoryState,
    history: History,
    random: Mutex<Random>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Store")
    }
}

impl Store {
    /// Takes some time; the error with which the call fails, and whether it is done all the same.
    async fn suffer(&self) -> Option<(StateError, bool)> {
        let (delay, choice, is_done) = {
            let mut random = self.random.lock().expect("nobody panics with the store");
            (random.below(30), random.below(12), random.below(2) == 0)
        };
        sleep(Duration::from_millis(delay as u64)).await;
        let error = |kind, text: &str| StateError::new(kind, text);
        match choice {
            0 => Some((error(StateErrorKind::Unavailable, "the store is away"), false)),
            1 => Some((error(StateErrorKind::Ambiguous, "the store's answer was lost"), is_done)),
            _ => None,
        }
    }

    /// Everything before a checkpoint must be done.
    fn check(&self, checkpoint: &Checkpoint, key: &ConsumerKey) {
        let mut state = self.history.lock();
        let epoch = state.epoch;
        log!(self.history.trace, "checkpoint {} of {}", checkpoint.next, key.consumer());
        if key.consumer() != name(epoch) {
            return;
        }
        let missing = state
            .handed
            .range(..checkpoint.next)
            .find(|position| !state.acked.contains_key(position))
            .copied();
        let acked = state.acked.len();
        state.checkpoints.push(Stored { next: checkpoint.next, acked, epoch });
        drop(state);
        if let Some(missing) = missing {
            let text = format!("the checkpoint {} passes {missing}, which is not done", checkpoint.next);
            self.history.trace.fail(text);
        }
    }
}

#[async_trait]
impl StateHandler for Store {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        match self.suffer().await {
            Some((error, _)) => Err(error),
            None => self.memory.get(key).await,
        }
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let failure = self.suffer().await;
        if failure.as_ref().is_none_or(|(_, is_done)| *is_done) {
            self.check(checkpoint, key);
            let stored = self.memory.complete(key, checkpoint, fence).await;
            if failure.is_none() {
                return stored;
            }
        }
        failure.map_or(Ok(Committed::Unchanged), |(error, _)| Err(error))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }
}

/// The name of the consumer of an epoch.
fn name(epoch: u32) -> String {
    format!("c{epoch}")
}

/// Consumes the topic until the run ends.
pub(crate) async fn consume(
    damage: Damage,
    topic: TopicName,
    network: Network,
    history: History,
    mut random: Random,
) {
    let store = Arc::new(Store {
        memory: MemoryState::new(),
        history: history.clone(),
        random: Mutex::new(Random::new(random.any())),
    });
    loop {
        let epoch = history.lock().epoch;
        let key = ConsumerKey::new(topic.clone(), name(epoch)).expect("the name of a consumer is right");
        let consuming = async {
            while !history.trace.has_failed() {
                live(damage, &store, &key, &network, &history, &mut random).await;
            }
        };
        tokio::select! {
            biased;
            () = history.epoch_after(epoch) => log!(history.trace, "c begins anew"),
            () = consuming => return,
        }
    }
}

/// One life of the consumer.
async fn live(
    damage: Damage,
    store: &Arc<Store>,
    key: &ConsumerKey,
    network: &Network,
    history: &History,
    random: &mut Random,
) {
    let handler: Arc<dyn StateHandler> = Arc::<Store>::clone(store);
    let builder = Consumer::builder(config(network, "c", random), handler, key.clone())
        .when_gone(WhenGone::Jump)
        .commit_interval(Duration::from_millis([10, 200, 3000][random.below(3)]))
        .window([1, 20, 1000][random.below(3)], 64 * 1024);
    let mut consumer = match builder.open().await {
        Ok(consumer) => consumer,
        Err(error) => {
            log!(history.trace, "c was not opened: {error}");
            return sleep(Duration::from_millis(300)).await;
        }
    };
    let mut life = [30, 300, 1_000_000][random.below(3)];
    let mut in_hand: Vec<Received> = Vec::new();
    let hand_max = 1 + random.below(5);
    let mut is_first = true;
    loop {
        let patience = Duration::from_millis(if in_hand.is_empty() { 2000 } else { 50 });
        let item = timeout(patience, consumer.next()).await;
        match item {
            Err(_) if in_hand.is_empty() => life -= 1,
            Err(_) => {}
            Ok(None) => return history.trace.fail("the consumer ended, though it follows".to_owned()),
            Ok(Some(Ok(received))) => {
                log!(history.trace, "c {} again {}", received.position(), received.redelivered());
                let mut state = history.lock();
                if std::mem::take(&mut is_first) && damage.by_retention {
                    // A life that finds no checkpoint begins with the oldest that there is.
                    state.handed.retain(|position| *position >= received.position());
                }
                state.handed.insert(received.position());
                drop(state);
                in_hand.push(received);
                life -= 1;
            }
            Ok(Some(Err(error))) if error.is_skippable() && damage.is_told() => {
                log!(history.trace, "c {error}");
                if let ErrorKind::Gap { to, .. } = error.kind() {
                    // What is not there any more need not be done.
                    history.lock().handed.retain(|position| position.offset >= to);
                }
            }
            Ok(Some(Err(error)))
                if is_of_disk(&error)
                    || is_stale(&error)
                    || error.ends_stream() && damage.by_power == ByPower::Lost =>
            {
                log!(history.trace, "c {error}");
                return;
            }
            Ok(Some(Err(error))) => return history.trace.fail(format!("the consumer: {error}")),
        }
        while in_hand.len() >= hand_max || (!in_hand.is_empty() && random.below(4) == 0) {
            let received = in_hand.swap_remove(random.below(in_hand.len()));
            match random.below(12) {
                0 => received.nack(Nack::Retry { after: Duration::from_millis(random.below(200) as u64) }),
                1 => drop(received),
                _ => {
                    let mut state = history.lock();
                    let before = state.acked.len();
                    state.acked.entry(received.position()).or_insert(before);
                    drop(state);
                    received.ack();
                }
            }
        }
        if life <= 0 {
            break;
        }
    }
    if random.below(2) == 0 {
        in_hand.clear();
        let ended = consumer.shutdown(Duration::from_secs(1)).await;
        log!(history.trace, "c ended {:?}", ended.map(|ended| ended.committed));
    } else {
        log!(history.trace, "c is dropped");
    }
}

/// Whether the life before has stored a checkpoint since this one began: without a lease, both may.
fn is_stale(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::State(StateErrorKind::Stale { .. }))
}
