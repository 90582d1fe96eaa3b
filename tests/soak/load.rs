//! What is done to a server: on each topic a writer with a spool, and two consumers; a reader of everything that there is
//! goes from topic to topic.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logd_client::{ClientConfig, Consumer, ConsumerKey, FileState, RetryPolicy, Scanner, TopicName, Writer};
use logd_tests::Random;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const TOPICS: usize = 4;
const CONSUMERS: usize = 2;
/// How many messages a writer writes before it pauses, at most, and for how long.
const BURST: usize = 40;
const PAUSE: Duration = Duration::from_millis(10);
/// The longest message.
const MESSAGE_BYTES: usize = 2000;
const SPOOL_BYTES: u64 = 256 * 1024 * 1024;
/// How many messages a consumer takes before it is opened anew.
const TERM: u64 = 20_000;
/// How long the end of everything may take.
const END_BOUND: Duration = Duration::from_secs(120);

/// What was done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) written: u64,
    pub(crate) consumed: u64,
    /// How many messages came to a consumer more than once, after it was opened anew.
    pub(crate) again: u64,
    pub(crate) opened: u64,
    pub(crate) scanned: u64,
    pub(crate) scans: u64,
}

impl Totals {
    fn add(&mut self, other: Self) {
        self.written += other.written;
        self.consumed += other.consumed;
        self.again += other.again;
        self.opened += other.opened;
        self.scanned += other.scanned;
        self.scans += other.scans;
    }
}

#[derive(Clone)]
pub(crate) struct Load {
    config: ClientConfig,
    seed: u64,
    ending: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn new(host: String, seed: u64, ending: Arc<AtomicBool>) -> Self {
        // A server that is away for a while is waited for.
        let retry = RetryPolicy::default().attempts(Some(10_000)).interval(Duration::from_millis(20));
        Self { config: ClientConfig::new(host).timeout(Duration::from_secs(10)).retry(retry), seed, ending }
    }

    /// Until the end; then until all that was written is acknowledged and consumed.
    pub(crate) async fn run(self) -> Totals {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let state =
            Arc::new(FileState::open(folder.path().join("state")).await.expect("a store can be made"));
        let mut tasks = JoinSet::new();
        for number in 0..TOPICS {
            let topic = topic(number);
            let (told, end) = watch::channel(None);
            let spool = folder.path().join(format!("spool-{number}"));
            tasks.spawn(self.clone().write(topic.clone(), spool, number as u64, told));
            for consumer in 0..CONSUMERS {
                let key = ConsumerKey::new(topic.clone(), format!("consumer-{consumer}"));
                let key = key.expect("a consumer's name");
                tasks.spawn(consume(self.config.clone(), Arc::clone(&state), key, end.clone()));
            }
        }
        tasks.spawn(self.scan());
        let mut totals = Totals::default();
        while let Some(done) = tasks.join_next().await {
            totals.add(done.expect("no part of the load has failed"));
        }
        assert_eq!(totals.consumed, totals.written * CONSUMERS as u64, "{totals:?}");
        totals
    }

    /// Writes numbered messages until the end, and tells how many.
    async fn write(
        self,
        topic: TopicName,
        spool: PathBuf,
        number: u64,
        told: watch::Sender<Option<u64>>,
    ) -> Totals {
        let mut random = Random::new(self.seed.wrapping_add(number));
        let writer = Writer::builder(self.config)
            .topic(topic)
            .spool(spool, SPOOL_BYTES)
            .wait_interval(Duration::from_millis(5))
            .open()
            .expect("the settings are right");
        let mut count = 0;
        while !self.ending.load(Ordering::Relaxed) {
            for _ in 0..random.below(BURST) {
                let mut message = format!("{count} ").into_bytes();
                message.resize(message.len() + random.below(MESSAGE_BYTES), b'm');
                writer.write(&message).await.expect("the writer is open");
                count += 1;
            }
            sleep(PAUSE).await;
        }
        timeout(END_BOUND, writer.close()).await.expect("the server is there").expect("all is delivered");
        let stats = writer.stats();
        assert_eq!((stats.written, stats.delivered), (count, count), "{stats:?}");
        told.send_replace(Some(count));
        Totals { written: count, ..Totals::default() }
    }

    /// Reads one topic after the other, from its oldest message to its end.
    async fn scan(self) -> Totals {
        let mut totals = Totals::default();
        while !self.ending.load(Ordering::Relaxed) {
            let topic = topic(usize::try_from(totals.scans).expect("there are not so many") % TOPICS);
            let scanner = Scanner::builder(self.config.clone()).topic(topic).follow(false);
            let mut scanner = scanner.open().expect("the settings are right");
            let mut last = None;
            while let Some(message) = scanner.next().await {
                match message {
                    Ok(message) => {
                        let number = number_of(&message.bytes);
                        assert!(last < Some(number), "{number} behind {last:?}");
                        last = Some(number);
                        totals.scanned += 1;
                    }
                    // What is scanned can be dropped on the way; a topic may not be there yet.
                    Err(error) => assert!(error.is_skippable() || error.is_not_found(), "{error}"),
                }
            }
            totals.scans += 1;
            sleep(PAUSE).await;
        }
        totals
    }
}

fn topic(number: usize) -> TopicName {
    TopicName::new(format!("soak-{number}")).expect("a topic's name")
}

fn number_of(message: &[u8]) -> u64 {
    let digits = message.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(digits).parse().expect("a message begins with its number")
}

/// Consumes everything, in terms, each with a consumer that begins at the checkpoint of the one before. Nothing is left
/// out, whatever comes again.
async fn consume(
    config: ClientConfig,
    state: Arc<FileState>,
    key: ConsumerKey,
    mut end: watch::Receiver<Option<u64>>,
) -> Totals {
    let mut totals = Totals::default();
    loop {
        let consumer = Consumer::builder(config.clone(), Arc::clone(&state) as _, key.clone());
        let consumer = consumer.commit_interval(Duration::from_millis(200)).wait_for_lease();
        let mut consumer = consumer.open().await.expect("a consumer can be opened");
        totals.opened += 1;
        let mut left = TERM;
        while left > 0 && *end.borrow() != Some(totals.consumed) {
            let is_endless = end.borrow().is_none();
            let received = tokio::select! {
                received = consumer.next() => received.expect("it follows").expect("nothing is missing"),
                changed = end.changed(), if is_endless => {
                    changed.expect("the writer tells its end");
                    continue;
                }
            };
            let number = number_of(received.bytes());
            assert!(number <= totals.consumed, "{key}: {number} where {} should be", totals.consumed);
            if number == totals.consumed {
                totals.consumed += 1;
            } else {
                totals.again += 1;
            }
            received.ack();
            left -= 1;
        }
        consumer.shutdown(END_BOUND).await.expect("the store is there");
        if *end.borrow() == Some(totals.consumed) {
            return totals;
        }
    }
}
