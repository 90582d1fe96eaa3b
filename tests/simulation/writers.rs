//! Writers that write numbered messages and tell the history what they are told of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use logd_client::{
    ClientConfig, ErrorKind, Outcome, Receipt, RetryPolicy, TaskRuntime, TopicName, WhenAway, WhenFailed,
    Writer,
};
use logd_tests::Random;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::history::{Fate, History, Name};
use crate::network::Network;
use crate::trace::log;

/// The most bytes of a spool: more than some runs need, and less than others.
const SPOOL_BYTES_MAX: u64 = 20_000;

/// How long closing a writer can take.
const CLOSE_MAX: Duration = Duration::from_secs(600);

/// What one writer does, as the seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    number: u32,
    messages: u32,
    message_bytes: usize,
    batch_bytes: usize,
    buffer_batches: usize,
    in_flight: usize,
    wait: Duration,
    budget: Duration,
    timeout: Duration,
    attempts: Option<u32>,
    dedup: bool,
    when_away: WhenAway,
    when_failed: WhenFailed,
    /// How many writers write the messages, one after another.
    lives: u32,
    has_spool: bool,
    /// Between messages, one time of eight.
    pause_max: usize,
}

impl Plan {
    pub(crate) fn new(number: u32, random: &mut Random) -> Self {
        let mut one_of = |count: usize| random.below(count) == 0;
        let is_patient = !one_of(3);
        let (has_spool, is_failing) = (one_of(3), one_of(8));
        let (dedup, is_halting) = (has_spool || !one_of(5), !has_spool && one_of(8));
        Self {
            number,
            messages: 20 + u32::try_from(random.below(150)).unwrap_or(0),
            message_bytes: [20, 100, 400][random.below(3)],
            batch_bytes: [512, 1024, 4096][random.below(3)],
            buffer_batches: [2, 16][random.below(2)],
            in_flight: [1, 2, 4, 8][random.below(4)],
            wait: Duration::from_millis([0, 5, 50][random.below(3)]),
            budget: Duration::from_millis([0, 500, 20_000][random.below(3)]),
            timeout: Duration::from_millis([300, 1000, 5000][random.below(3)]),
            attempts: if is_patient { None } else { Some(1 + u32::try_from(random.below(8)).unwrap_or(0)) },
            dedup,
            when_away: if is_failing { WhenAway::Fail } else { WhenAway::Retry },
            when_failed: if is_halting { WhenFailed::Halt } else { WhenFailed::GoOn },
            lives: 1 + u32::try_from(random.below(3)).unwrap_or(0),
            has_spool,
            pause_max: [2, 100, 1000][random.below(3)],
        }
    }

    fn config(&self, network: &Network) -> ClientConfig {
        let retry = RetryPolicy::default().attempts(self.attempts).max_interval(Duration::from_secs(2));
        ClientConfig::new("server:1774")
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            .batch_bytes(self.batch_bytes)
            .retry(retry)
            .simulated(network.client(&format!("w{}", self.number)))
    }
}

/// A writer at work.
struct Work {
    plan: Plan,
    writer: Writer,
    history: History,
    random: Random,
    /// The tasks that wait for what becomes of the messages.
    settled: JoinSet<()>,
    /// How many messages the receipts have told of.
    receipted: Arc<AtomicU64>,
}

/// Writes all messages of a plan, and waits until every one of them is settled.
pub(crate) async fn write(
    plan: Plan,
    topic: TopicName,
    dir: PathBuf,
    network: Network,
    history: History,
    mut random: Random,
) {
    log!(history.trace, "{plan:?}");
    let lives = u64::from(plan.lives);
    for life in 0..lives {
        let mut work = Work::begin(&plan, &topic, &dir, &network, &history, Random::new(random.any()));
        let part = |life: u64| u32::try_from(u64::from(plan.messages) * life / lives).unwrap_or(0);
        for number in part(life)..part(life + 1) {
            if work.random.below(8) == 0 {
                sleep(Duration::from_millis(work.random.below(plan.pause_max) as u64)).await;
            }
            work.send(number).await;
            work.take_back();
        }
        let is_dropped = life + 1 == lives && !plan.has_spool && work.random.below(6) == 0;
        if is_dropped {
            return work.let_go().await;
        }
        let mut is_empty = work.close().await;
        // The last writer leaves nothing in the spool.
        while !is_empty && life + 1 == lives && !history.trace.has_failed() {
            let work = Work::begin(&plan, &topic, &dir, &network, &history, Random::new(random.any()));
            sleep(Duration::from_secs(1)).await;
            is_empty = work.close().await;
        }
    }
}

impl Work {
    fn begin(
        plan: &Plan,
        topic: &TopicName,
        dir: &Path,
        network: &Network,
        history: &History,
        random: Random,
    ) -> Self {
        let receipted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&receipted);
        let mut builder = Writer::builder(plan.config(network))
            .topic(topic.clone())
            .runtime(TaskRuntime::Current)
            .buffer_bytes(plan.batch_bytes * plan.buffer_batches)
            .in_flight(plan.in_flight)
            .wait_interval(plan.wait)
            .budget(plan.budget)
            .dedup(plan.dedup)
            .when_away(plan.when_away)
            .when_failed(plan.when_failed)
            .state_pusher(move |receipt: &Receipt| {
                count.fetch_add(receipt.messages, Ordering::Relaxed);
            });
        if plan.has_spool {
            builder = builder.spool(dir.join(plan.number.to_string()), SPOOL_BYTES_MAX);
        }
        let writer = builder.open().expect("the settings of a writer are right");
        let (plan, history) = (plan.clone(), history.clone());
        Self { plan, writer, history, random, settled: JoinSet::new(), receipted }
    }

    async fn send(&mut self, number: u32) {
        let name = Name { writer: self.plan.number, number };
        self.history.begin(name);
        let message = name.message(self.random.below(self.plan.message_bytes));
        // A future that is dropped has not taken the message.
        let patience = Duration::from_millis(if self.random.below(16) == 0 { 5 } else { 100_000 });
        match timeout(patience, self.writer.send(message.as_bytes())).await {
            Ok(Ok(delivery)) => {
                let history = self.history.clone();
                self.settled.spawn(async move {
                    match delivery.await {
                        Ok(position) => history.settle(name, Fate::Delivered(position), &""),
                        // The path of the spool is another one in each run.
                        Err(error) if error.error.kind() == ErrorKind::Spooled => {
                            history.settle(name, Fate::Spooled, &"");
                        }
                        Err(error) => history.settle(name, error.outcome.into(), &error.error),
                    }
                });
            }
            Ok(Err(error)) => self.history.settle(name, Fate::NotWritten, &error),
            Err(_) => self.history.settle(name, Fate::NotWritten, &"the write was dropped"),
        }
    }

    /// What was given up makes room again; some of what is certainly not written is handed in again.
    fn take_back(&mut self) {
        while let Some(failed) = self.writer.failed() {
            let is_retried = failed.outcome == Outcome::NotWritten && self.random.below(2) == 0;
            let (number, messages) = (self.plan.number, failed.batch.messages());
            log!(self.history.trace, "w{number} takes {messages} messages back, again {is_retried}");
            if is_retried {
                let names = failed.batch.messages_from(0).filter_map(|message| Name::of(&message.bytes));
                self.history.lock().retried.extend(names);
                // A writer that has halted does not take it, and nothing of it is there then.
                if self.writer.retry(failed).is_err() {
                    return;
                }
            }
        }
    }

    /// Drops the writer, and waits until everything is settled.
    async fn let_go(mut self) {
        let (number, trace) = (self.plan.number, self.history.trace.clone());
        log!(trace, "w{number} is dropped");
        drop(self.writer);
        if timeout(CLOSE_MAX, all(&mut self.settled)).await.is_err() {
            trace.fail(format!("writer {number} did not settle everything within {CLOSE_MAX:?}"));
        }
    }

    /// Closes the writer, and waits until everything is settled. Whether nothing is in its spool.
    async fn close(mut self) -> bool {
        let (number, trace) = (self.plan.number, self.history.trace.clone());
        let closed = timeout(CLOSE_MAX, async {
            let closed = self.writer.close().await;
            all(&mut self.settled).await;
            closed
        });
        let closed = closed.await;
        let stats = self.writer.stats();
        match closed {
            Ok(closed) => log!(trace, "w{number} closed {} {stats:?}", closed.is_ok()),
            Err(_) => trace.fail(format!("writer {number} did not close within {CLOSE_MAX:?}: {stats:?}")),
        }
        if !stats.is_complete() || stats.buffered > 0 {
            trace.fail(format!("writer {number} does not account for everything: {stats:?}"));
        }
        let receipted = self.receipted.load(Ordering::Relaxed);
        if receipted != stats.delivered {
            trace.fail(format!("writer {number} has receipts for {receipted} messages: {stats:?}"));
        }
        if stats.aside > 0 {
            self.history.lock().asides.insert(number);
        }
        stats.spooled == 0
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
