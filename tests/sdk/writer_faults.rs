//! A Writer through a proxy that cuts, half-closes, delays and drips, at random: what was reported delivered is in the
//! topic exactly once and in order, and everything else is in the backlog, with what is true of it, in the spool, or
//! dropped, counted, and announced.
//!
//! Runs with even numbers have a spool. Of four runs, the first two have so little room that messages are dropped; they
//! end when all that was dropped has been announced. The others end whatever the proxy does, the third of them after the proxy.
//!
//! `LOGD_TEST_SEED` repeats a run that failed, `LOGD_TEST_RUNS` sets how many there are.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logd_client::{
    ClientConfig, Delivery, ErrorKind, Outcome, Position, RetryPolicy, Scanner, TopicName, WhenFull,
    WriteError, Writer, WriterStats,
};
use logd_tests::{FaultPlan, FaultProxy, Random, seed};
use tempfile::TempDir;

use crate::support::{TestServer, within};

/// How many runs there are by default.
const RUNS_DEFAULT: u64 = 1000;
/// How many run at once: mostly they wait.
const AT_ONCE: usize = 4;
const MESSAGES: usize = 120;
const NOTICE: &str = "dropped ";

/// The settings of a run.
#[derive(Debug)]
struct Plan {
    number: u64,
    topic: TopicName,
    spool: Option<PathBuf>,
    /// Whether there is so little room that messages are dropped.
    is_tight: bool,
    /// Whether batches are dropped from the backlog, too.
    forgets: bool,
    /// Whether the way to the server is gone before the writer is closed.
    ends_away: bool,
    random: Random,
}

impl Plan {
    fn new(number: u64, folder: &Path, random: &mut Random) -> Self {
        Self {
            number,
            topic: TopicName::new(format!("run-{number}")).unwrap(),
            spool: number.is_multiple_of(2).then(|| folder.join(number.to_string())),
            is_tight: number % 4 < 2,
            forgets: number % 8 == 3,
            ends_away: number % 4 == 2,
            random: Random::new(random.any()),
        }
    }

    fn open(&mut self, proxy: &FaultProxy) -> Writer {
        let random = &mut self.random;
        let attempts = 1 + u32::try_from(random.below(8)).unwrap();
        let retry = RetryPolicy::default().attempts(Some(attempts)).interval(Duration::from_millis(1));
        let config =
            ClientConfig::new(proxy.addr().to_string()).timeout(Duration::from_millis(250)).retry(retry);
        let batch_bytes = 512 + random.below(2000);
        let notices = AtomicU64::new(0);
        let mut builder = Writer::builder(config)
            .topic(self.topic.clone())
            .batch_bytes(batch_bytes)
            .in_flight(1 + random.below(8))
            .wait_interval([Duration::ZERO, Duration::from_millis(2)][random.below(2)])
            .drop_notice(move |dropped| {
                // Each text is another one, so that a notice that is handed back and in the topic is found to be the same.
                let number = notices.fetch_add(1, Ordering::Relaxed);
                Some(format!("{NOTICE}{} {number}", dropped.messages).into())
            });
        if self.is_tight {
            let budget = Duration::from_millis([0, 1, 10][random.below(3)]);
            builder = builder.buffer_bytes(batch_bytes + random.below(1000)).budget(budget);
        }
        if self.forgets {
            let choice = [WhenFull::DropOldest, WhenFull::DropNewest][random.below(2)];
            builder = builder.backlog_bytes(1000 + random.below(4000)).when_backlog_full(choice);
        }
        if let Some(dir) = &self.spool {
            let bytes_max = if self.is_tight { 2000 + random.below(6000) } else { 1024 * 1024 };
            builder = builder.spool(dir, bytes_max as u64);
        }
        builder.open().unwrap()
    }
}

/// What was told about a run's messages.
#[derive(Debug, Default)]
struct Told {
    /// Those of which it was told that they are delivered, in the order in which they were written.
    delivered: Vec<(String, Position)>,
    /// Those that were taken and of which nothing was to be told.
    silent: HashSet<String>,
    /// Those of which it was told that they are in the spool, and whether they may be in the topic.
    spooled: HashMap<String, Outcome>,
    /// Those handed back, and whether the batch of each may be stored.
    failed: HashMap<String, Outcome>,
    /// The notices that were handed back.
    notices: HashMap<String, Outcome>,
    /// Those that failed, by what was told of each.
    told_failed: HashSet<String>,
    dropped: HashSet<String>,
    stats: WriterStats,
    faults: usize,
}

impl Told {
    /// Hands a message in; whether it was taken.
    async fn write(
        &mut self,
        writer: &Writer,
        text: &str,
        is_silent: bool,
        deliveries: &mut Vec<(String, Delivery)>,
    ) {
        let result = if is_silent {
            writer.write(text.as_bytes()).await.map(|()| {
                self.silent.insert(text.to_owned());
            })
        } else {
            writer.send(text.as_bytes()).await.map(|delivery| deliveries.push((text.to_owned(), delivery)))
        };
        match result {
            Ok(()) => {}
            Err(WriteError::Dropped { .. }) => assert!(self.dropped.insert(text.to_owned())),
            Err(error) => panic!("{text}: {error}"),
        }
    }

    async fn settle(&mut self, deliveries: Vec<(String, Delivery)>) {
        for (text, delivery) in deliveries {
            match within("what became of a message", delivery).await {
                Ok(position) => self.delivered.push((text, position)),
                Err(error) if error.error.kind() == ErrorKind::Spooled => {
                    self.spooled.insert(text, error.outcome);
                }
                Err(_) => assert!(self.told_failed.insert(text)),
            }
        }
    }

    /// Takes what was given up.
    fn take_failed(&mut self, writer: &Writer) {
        while let Some(batch) = writer.failed() {
            for message in batch.batch.messages_from(0) {
                let text = String::from_utf8(message.bytes.to_vec()).unwrap();
                let failed = if announced_by(&text).is_some() { &mut self.notices } else { &mut self.failed };
                assert_eq!(failed.insert(text, batch.outcome), None, "handed back twice");
            }
        }
    }
}

/// How many dropped messages the text tells of; `None` when it is no notice.
fn announced_by(text: &str) -> Option<u64> {
    text.strip_prefix(NOTICE).map(|rest| rest.split_once(' ').unwrap().0.parse().unwrap())
}

/// A run, and what was told in it.
type Run = (Plan, Told);

async fn run(address: std::net::SocketAddr, mut plan: Plan) -> Run {
    let faults = FaultPlan::seeded(plan.random.any()).percent(60).delay(Duration::from_millis(20));
    let proxy = FaultProxy::start(address, faults);
    let writer = plan.open(&proxy);
    let mut told = Told::default();
    let mut deliveries = Vec::new();
    for number in 0..MESSAGES {
        let random = &mut plan.random;
        let text = format!("{number}:{}", "x".repeat(random.below(200)));
        let is_silent = random.below(4) == 0;
        let is_flushed = random.below(20) == 0;
        told.write(&writer, &text, is_silent, &mut deliveries).await;
        if is_flushed {
            // Whether it fails is told for each message.
            let _ = within(&format!("{plan:?}: a flush"), writer.flush()).await;
        }
    }
    if plan.is_tight && !plan.forgets {
        within(&format!("{plan:?}: a message that is acknowledged"), announce(&writer, &mut told)).await;
    }
    told.faults = proxy.stats().faults.values().sum();
    if plan.ends_away {
        drop(proxy);
    }
    let closed = within(&format!("{plan:?}: the end"), writer.close()).await;
    told.settle(deliveries).await;
    told.stats = writer.stats();
    let (backlog, spooled) = (told.stats.backlog, told.stats.spooled);
    assert_eq!(closed.is_err(), backlog + spooled > 0, "{plan:?}: {closed:?}");
    told.take_failed(&writer);
    expect_counts(&plan, &told);
    (plan, told)
}

/// Writes more messages until one is acknowledged, and with it all that was dropped is announced.
async fn announce(writer: &Writer, told: &mut Told) {
    for number in MESSAGES.. {
        // What of the earlier ones is in the way has been settled then, and none waits for room beside this one.
        let _ = writer.flush().await;
        let text = format!("{number}:last");
        let mut deliveries = Vec::new();
        told.write(writer, &text, false, &mut deliveries).await;
        let dropped = writer.dropped();
        told.settle(deliveries).await;
        let is_delivered = told.delivered.last().is_some_and(|(last, _)| *last == text);
        if is_delivered && writer.dropped() == dropped {
            return;
        }
    }
}

/// The writer counts what was counted here.
fn expect_counts(plan: &Plan, told: &Told) {
    let stats = &told.stats;
    assert!(stats.is_complete() && stats.buffered == 0, "{plan:?}: {stats:?}");
    let all = told.delivered.len() + told.silent.len() + told.spooled.len() + told.told_failed.len();
    let written = (all + told.dropped.len()) as u64;
    assert_eq!(stats.written, written + stats.notices, "{plan:?}: {stats:?}");
    if !plan.forgets {
        assert_eq!(stats.dropped, told.dropped.len() as u64, "{plan:?}: {stats:?}");
        assert!(told.told_failed.iter().all(|text| told.failed.contains_key(text)), "{plan:?}");
    }
    assert_eq!(stats.recovered, 0);
    let is_known = |text: &String| told.told_failed.contains(text) || told.silent.contains(text);
    assert!(told.failed.keys().all(is_known), "{plan:?}: a message was handed back that was told otherwise");
}

/// What a topic has, in order; a topic that is not there has nothing.
async fn read(server: &TestServer, topic: &TopicName) -> Vec<(String, Position)> {
    let mut found = Vec::new();
    let mut scanner = Scanner::builder(server.client_config()).topic(topic.clone()).open().unwrap();
    while let Some(message) = within("a message", scanner.next()).await {
        match message {
            Ok(message) => {
                found.push((String::from_utf8(message.bytes.to_vec()).unwrap(), message.position));
            }
            Err(error) if error.is_not_found() => break,
            Err(error) => panic!("{topic}: {error}"),
        }
    }
    found
}

/// Sends what the run has left in the spool, straight to the server.
async fn drain(server: &TestServer, plan: &Plan, told: &Told) {
    let Some(dir) = &plan.spool else { return };
    let writer =
        Writer::builder(server.client_config()).topic(plan.topic.clone()).spool(dir, 0).open().unwrap();
    within("the spool to be sent", writer.close()).await.unwrap();
    let stats = writer.stats();
    let spooled = told.stats.spooled;
    assert_eq!((stats.recovered, stats.delivered), (spooled, spooled), "{plan:?}: {stats:?}");
    assert!(stats.is_complete());
}

/// What is in the topic before the spool is sent, and after.
fn expect_topic(run: &Run, before: &[(String, Position)], after: &[(String, Position)]) {
    let (plan, told) = run;
    assert_eq!(after[..before.len()], *before, "{plan:?}: what was there has changed");
    let is_notice = |text: &str| announced_by(text).is_some();
    let texts: Vec<&str> =
        after.iter().map(|(text, _)| text.as_str()).filter(|text| !is_notice(text)).collect();
    let unique: HashSet<&str> = texts.iter().copied().collect();
    assert_eq!(unique.len(), texts.len(), "{plan:?}: something is there twice: {texts:?}");
    // One that was given up, and of which it is unknown whether it is there, can come there late. Where the backlog drops
    // some, it is not told of silent ones that they were given up.
    let is_given_up = |text: &str| {
        told.failed.contains_key(text)
            || told.told_failed.contains(text)
            || (plan.forgets && told.silent.contains(text))
    };
    let in_order = texts.iter().filter(|text| !is_given_up(text));
    let numbers: Vec<usize> = in_order.map(|text| text.split(':').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted(), "{plan:?}: out of order: {numbers:?}");
    let there: HashMap<&str, Position> = after.iter().map(|(text, at)| (text.as_str(), *at)).collect();
    for (text, position) in &told.delivered {
        let at = there.get(text.as_str());
        let instead = after.iter().find(|(_, at)| at == position);
        assert_eq!(
            at,
            Some(position),
            "{plan:?}: {text} was told to be at the second, where {instead:?} is; failed: {:?}",
            told.failed
        );
    }
    for (text, outcome) in &told.failed {
        let is_true = *outcome == Outcome::Unknown || !there.contains_key(text.as_str());
        assert!(is_true, "{plan:?}: {text} is there, and was told not to be");
    }
    for text in told.spooled.keys() {
        assert!(there.contains_key(text.as_str()), "{plan:?}: {text} was in the spool, and is not there");
    }
    for text in &told.dropped {
        assert!(!there.contains_key(text.as_str()), "{plan:?}: {text} was dropped, and is there");
    }
    let is_lost = |text: &&String| !there.contains_key(text.as_str()) && !told.failed.contains_key(*text);
    let lost: Vec<&String> = told.silent.iter().chain(&told.told_failed).filter(is_lost).collect();
    assert!(plan.forgets || lost.is_empty(), "{plan:?}: {lost:?} vanished");
    assert!(lost.len() as u64 <= told.stats.dropped, "{plan:?}: {lost:?} vanished");
    let notices: HashSet<&str> = after
        .iter()
        .map(|(text, _)| text.as_str())
        .filter(|text| is_notice(text))
        .chain(told.notices.keys().map(String::as_str))
        .collect();
    let told_of = notices.iter().filter_map(|text| announced_by(text)).sum::<u64>();
    let is_announced = plan.is_tight && !plan.forgets;
    assert!(told_of <= told.stats.dropped, "{plan:?}: {told_of} were announced: {:?}", told.stats);
    assert!(
        !is_announced || told_of == told.stats.dropped,
        "{plan:?}: {told_of} were announced: {:?}",
        told.stats
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reported_delivered_is_there_once_and_in_order_and_the_rest_is_accounted_for() {
    let runs = std::env::var("LOGD_TEST_RUNS").ok().map_or(RUNS_DEFAULT, |runs| runs.parse().unwrap());
    let mut random = Random::new(seed());
    let folder = TempDir::new().unwrap();
    let mut server = TestServer::start_with(|config| logd_server::Config { topics: 0, ..config }).await;
    let address = server.client_config().host().parse().unwrap();
    let mut plans = (0..runs).map(|number| Plan::new(number, folder.path(), &mut random));
    let mut running = tokio::task::JoinSet::new();
    let mut all: Vec<Run> = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(plan) = plans.next()
        {
            running.spawn(run(address, plan));
        }
        match running.join_next().await {
            Some(done) => all.push(done.unwrap()),
            None => break,
        }
    }
    all.sort_unstable_by_key(|(plan, ..)| plan.number);
    // A server that ends carries out what has come in whole: nothing is on its way any more.
    server.stop().await;
    server.start_again().await;
    for run in &all {
        let (plan, told) = run;
        let before = read(&server, &plan.topic).await;
        drain(&server, plan, told).await;
        let after = read(&server, &plan.topic).await;
        expect_topic(run, &before, &after);
    }
    server.stop().await;
    let sum = |count: fn(&Told) -> u64| all.iter().map(|(_, told)| count(told)).sum::<u64>();
    let outcomes =
        |told: &Told, which| told.failed.values().filter(|outcome| **outcome == which).count() as u64;
    let faults = sum(|told| told.faults as u64);
    println!(
        "{runs} runs, {faults} faults: {} delivered, {} in the spool ({} of them until the end), {} dropped, {} notices, \
         {} unknown, {} not written",
        sum(|told| told.stats.delivered),
        sum(|told| told.spooled.len() as u64),
        sum(|told| told.stats.spooled),
        sum(|told| told.stats.dropped),
        sum(|told| told.stats.notices),
        all.iter().map(|(_, told)| outcomes(told, Outcome::Unknown)).sum::<u64>(),
        all.iter().map(|(_, told)| outcomes(told, Outcome::NotWritten)).sum::<u64>(),
    );
    assert!(faults >= runs / 2, "the proxy did nothing: {faults} faults in {runs} runs");
    let nothing = [sum(|told| told.stats.spooled), sum(|told| told.stats.dropped)].contains(&0);
    assert!(runs < 20 || !nothing, "nothing was spooled, or nothing dropped");
}
