//! Writers that write numbered messages and tell the history what they are told of each.

use std::time::Duration;

use logd_client::{ClientConfig, RetryPolicy, TaskRuntime, TopicName, WhenAway, WhenFailed, Writer};
use logd_tests::Random;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::history::{Fate, History, Name};
use crate::network::Network;
use crate::trace::log;

/// How long closing a writer can take on a calm network.
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
    /// Between messages, one time of eight.
    pause_max: usize,
}

impl Plan {
    pub(crate) fn new(number: u32, random: &mut Random) -> Self {
        let mut one_of = |count: usize| random.below(count) == 0;
        let is_patient = !one_of(3);
        let (dedup, is_failing, is_halting) = (!one_of(5), one_of(8), one_of(8));
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

/// Writes all messages of a plan, closes the writer, and waits until every one of them is settled.
pub(crate) async fn write(
    plan: Plan,
    topic: TopicName,
    network: Network,
    history: History,
    mut random: Random,
) {
    log!(history.trace, "{plan:?}");
    let writer = Writer::builder(plan.config(&network))
        .topic(topic)
        .runtime(TaskRuntime::Current)
        .buffer_bytes(plan.batch_bytes * plan.buffer_batches)
        .in_flight(plan.in_flight)
        .wait_interval(plan.wait)
        .budget(plan.budget)
        .dedup(plan.dedup)
        .when_away(plan.when_away)
        .when_failed(plan.when_failed)
        .open()
        .expect("the settings of a writer are right");
    let mut settled = JoinSet::new();
    for number in 0..plan.messages {
        if random.below(8) == 0 {
            sleep(Duration::from_millis(random.below(plan.pause_max) as u64)).await;
        }
        let name = Name { writer: plan.number, number };
        history.begin(name);
        match writer.send(name.message(random.below(plan.message_bytes)).as_bytes()).await {
            Ok(delivery) => {
                let history = history.clone();
                settled.spawn(async move {
                    match delivery.await {
                        Ok(position) => history.settle(name, Fate::Delivered(position), &""),
                        Err(error) => history.settle(name, error.outcome.into(), &error.error),
                    }
                });
            }
            Err(error) => history.settle(name, Fate::NotWritten, &error),
        }
        // What was given up makes room again.
        while let Some(failed) = writer.failed() {
            log!(history.trace, "w{} takes {} messages back", plan.number, failed.batch.messages());
        }
    }
    let closed = timeout(CLOSE_MAX, async {
        let closed = writer.close().await;
        while settled.join_next().await.is_some() {}
        closed
    });
    match closed.await {
        Ok(closed) => log!(history.trace, "w{} closed {:?}", plan.number, closed.is_ok()),
        Err(_) => {
            let stats = writer.stats();
            history
                .trace
                .fail(format!("writer {} did not close within {CLOSE_MAX:?}: {stats:?}", plan.number));
        }
    }
    let stats = writer.stats();
    if !stats.is_complete() || stats.buffered > 0 {
        history.trace.fail(format!("writer {} does not account for everything: {stats:?}", plan.number));
    }
}
