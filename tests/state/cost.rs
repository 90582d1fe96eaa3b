//! What checkpoints cost: how often the store is asked at the default policy, and how much slower a topic is read with them
//! than without.
//!
//! Figures are printed, and mean something with `--release` only. `LOGD_TEST_COST_MESSAGES` sets how many messages are read,
//! `LOGD_TEST_COST_ROUNDS` how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logd_client::{
    Capabilities, Checkpoint, Committed, Consumer, ConsumerKey, Fence, LeaseHandler, Scanner, StateError,
    StateHandler, Writer, async_trait, open_state,
};
use logd_tests::TestServer;
use tokio::runtime::Runtime;

use crate::redis_server::Reply;
use crate::stores::{Store, config, log_server, setting, write_lines};

const TOPIC: &str = "lines";
const MESSAGES_DEFAULT: usize = 100_000;
/// How often each way of reading is measured by default, one after the other in turn.
const ROUNDS_DEFAULT: usize = 3;
/// For how long a consumer reads, so that a rate of commits can be seen.
const LONG: Duration = Duration::from_secs(3);

/// Counts what is stored.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn StateHandler>,
    stored: AtomicU64,
}

#[async_trait]
impl StateHandler for Counting {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.inner.get(key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        self.stored.fetch_add(1, Ordering::Relaxed);
        self.inner.complete(key, checkpoint, fence).await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        self.inner.leases()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

fn key(name: &str) -> ConsumerKey {
    ConsumerKey::new(TOPIC.parse().unwrap(), name).unwrap()
}

async fn scan(server: &TestServer, messages: usize) -> Duration {
    let begin = Instant::now();
    let mut scanner = Scanner::builder(config(server)).topic(TOPIC.parse().unwrap()).open().unwrap();
    let mut count = 0;
    while let Some(message) = scanner.next().await {
        message.unwrap();
        count += 1;
    }
    assert_eq!(count, messages);
    begin.elapsed()
}

async fn consume(server: &TestServer, state: Arc<dyn StateHandler>, name: &str, messages: usize) -> Duration {
    let begin = Instant::now();
    let mut consumer =
        Consumer::builder(config(server), state, key(name)).follow(false).open().await.unwrap();
    let mut count = 0;
    while let Some(message) = consumer.next().await {
        message.unwrap().ack();
        count += 1;
    }
    assert_eq!(count, messages);
    let elapsed = begin.elapsed();
    let shutdown = consumer.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(shutdown.is_drained && shutdown.committed.is_some(), "{shutdown:?}");
    elapsed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_checkpointed_scan_is_nearly_as_fast_as_one_without() {
    let messages = setting("LOGD_TEST_COST_MESSAGES", MESSAGES_DEFAULT);
    let rounds = setting("LOGD_TEST_COST_ROUNDS", ROUNDS_DEFAULT);
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    write_lines(&runtime, &server, TOPIC, messages, 1);
    let stores = ["file", "sqlite", "redis", "postgres"].map(|name| (name, Store::start(name)));
    let mut states: Vec<(&str, Arc<dyn StateHandler>)> = stores
        .iter()
        .map(|(name, store)| (*name, runtime.block_on(open_state(&store.url())).unwrap()))
        .collect();
    // What the consumer itself costs, without a store.
    states.push(("memory", runtime.block_on(open_state("memory:")).unwrap()));
    let mut plain = Vec::new();
    let mut checkpointed = vec![Vec::new(); states.len()];
    runtime.block_on(async {
        scan(&server, messages).await;
        for round in 0..rounds {
            plain.push(scan(&server, messages).await);
            for ((_, state), times) in states.iter().zip(&mut checkpointed) {
                times.push(consume(&server, Arc::clone(state), &format!("round-{round}"), messages).await);
            }
        }
    });
    let plain = median(plain);
    println!(
        "without checkpoints: {plain:?}, {:.0} messages a second",
        messages as f64 / plain.as_secs_f64()
    );
    for ((name, _), times) in states.iter().zip(checkpointed) {
        let time = median(times);
        let ratio = plain.as_secs_f64() / time.as_secs_f64();
        let rate = messages as f64 / time.as_secs_f64();
        println!("with {name}: {time:?}, {rate:.0} messages a second: {ratio:.3} of the speed without");
        assert!(ratio > 0.1, "checkpoints with {name} make reading ten times as slow");
    }
}

/// How often Redis has run a script.
fn scripts_run(store: &Store) -> Option<u64> {
    let Store::Redis(server) = store else { return None };
    let Reply::Text(text) = server.command(&["INFO", "commandstats"]).unwrap() else { panic!("no text") };
    let text = String::from_utf8(text).unwrap();
    let calls = text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        ["eval", "evalsha"].contains(&name).then_some(calls)
    });
    Some(calls.sum())
}

#[test]
fn the_store_is_asked_about_once_a_second() {
    let messages = setting("LOGD_TEST_COST_MESSAGES", MESSAGES_DEFAULT);
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    let lines = Arc::new(write_lines(&runtime, &server, TOPIC, messages, 2));
    for name in ["file", "sqlite", "redis", "postgres"] {
        let store = Store::start(name);
        let inner = runtime.block_on(open_state(&store.url())).unwrap();
        let state = Arc::new(Counting { inner, stored: AtomicU64::new(0) });
        let scripts_before = scripts_run(&store);
        let (read, time) = runtime.block_on(read_on(&server, &state, Arc::clone(&lines)));
        let stored = state.stored.load(Ordering::Relaxed);
        let scripts = scripts_run(&store).zip(scripts_before).map(|(after, before)| after - before);
        println!(
            "{name}: {read} messages in {time:?}, {:.0} a second; {stored} checkpoints stored{}",
            read as f64 / time.as_secs_f64(),
            scripts.map_or_else(String::new, |scripts| format!(", {scripts} scripts run by the server"))
        );
        // One a second, one when all was read in between, and one at the end.
        let most = 2 * time.as_secs() + 2;
        assert!((1..=most).contains(&stored), "{stored} in {time:?}");
        // Each may be asked for by its name first, and then sent in full.
        assert!(scripts.is_none_or(|scripts| scripts <= 2 * stored + 4), "{scripts:?} for {stored}");
    }
}

/// Has a consumer follow the topic for a while, which grows as fast as it can be written.
async fn read_on(server: &TestServer, state: &Arc<Counting>, lines: Arc<Vec<String>>) -> (usize, Duration) {
    let writer =
        Writer::builder(config(server)).topic(TOPIC.parse().unwrap()).batch_bytes(60_000).open().unwrap();
    let writing = tokio::spawn(async move {
        loop {
            for line in lines.iter() {
                writer.write(line.as_bytes()).await.unwrap();
            }
        }
    });
    let handler: Arc<dyn StateHandler> = state.clone();
    let begin = Instant::now();
    let mut consumer = Consumer::builder(config(server), handler, key("long")).open().await.unwrap();
    let mut read = 0;
    while begin.elapsed() < LONG {
        consumer.next().await.unwrap().unwrap().ack();
        read += 1;
    }
    writing.abort();
    consumer.shutdown(Duration::from_secs(10)).await.unwrap();
    (read, begin.elapsed())
}
