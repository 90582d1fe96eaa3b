//! A Writer through a proxy that cuts, half-closes, delays and drips, at random: what was reported delivered is in the
//! topic exactly once and in order, and everything else is handed back with what is true of it.
//!
//! `LOGD_TEST_SEED` repeats a run that failed, `LOGD_TEST_RUNS` sets how many there are.

use std::collections::HashMap;
use std::time::Duration;

use logd_client::{ClientConfig, Outcome, Position, RetryPolicy, Scanner, TopicName, Writer};
use logd_tests::{FaultPlan, FaultProxy, Random, seed};

use crate::support::{TestServer, within};

/// How many runs there are by default.
const RUNS_DEFAULT: u64 = 1000;
const MESSAGES: usize = 120;

/// What was told about a run's messages.
struct Told {
    delivered: Vec<(String, Position)>,
    /// The messages handed back, and whether the batch of each may be stored.
    failed: HashMap<String, Outcome>,
    faults: usize,
}

async fn run(server: &TestServer, topic: &TopicName, random: &mut Random) -> Told {
    let plan = FaultPlan::seeded(random.any()).percent(60).delay(Duration::from_millis(20));
    let proxy = FaultProxy::start(server.client_config().host().parse().unwrap(), plan);
    let attempts = 1 + u32::try_from(random.below(8)).unwrap();
    let retry = RetryPolicy::default().attempts(Some(attempts)).interval(Duration::from_millis(1));
    let config = ClientConfig::new(proxy.addr().to_string()).timeout(Duration::from_millis(250)).retry(retry);
    let writer = Writer::builder(config)
        .topic(topic.clone())
        .batch_bytes(512 + random.below(2000))
        .in_flight(1 + random.below(8))
        .wait_interval([Duration::ZERO, Duration::from_millis(2)][random.below(2)])
        .open()
        .unwrap();
    let mut deliveries = Vec::new();
    for number in 0..MESSAGES {
        let text = format!("{number}:{}", "x".repeat(random.below(200)));
        let delivery = writer.send(text.as_bytes()).await.unwrap();
        deliveries.push((text, delivery));
        if random.below(20) == 0 {
            // Whether it fails is told for each message.
            let _ = within("a flush", writer.flush()).await;
        }
    }
    let closed = within("the end", writer.close()).await;
    let mut told =
        Told { delivered: Vec::new(), failed: HashMap::new(), faults: proxy.stats().faults.values().sum() };
    let mut refused = 0;
    for (text, delivery) in deliveries {
        match within("what became of a message", delivery).await {
            Ok(position) => told.delivered.push((text, position)),
            Err(_) => refused += 1,
        }
    }
    while let Some(failed) = writer.failed() {
        for message in failed.batch.messages_from(0) {
            let text = String::from_utf8(message.bytes.to_vec()).unwrap();
            assert_eq!(told.failed.insert(text, failed.outcome), None, "a message was handed back twice");
        }
    }
    assert_eq!(closed.is_err(), refused > 0);
    assert_eq!(told.failed.len(), refused);
    assert_eq!(told.delivered.len() + refused, MESSAGES);
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reported_delivered_is_there_once_and_in_order_and_the_rest_is_handed_back() {
    let runs = std::env::var("LOGD_TEST_RUNS").ok().map_or(RUNS_DEFAULT, |runs| runs.parse().unwrap());
    let mut random = Random::new(seed());
    let mut server = TestServer::start_with(|config| logd_server::Config { topics: 0, ..config }).await;
    let mut all = Vec::new();
    for number in 0..runs {
        let topic = TopicName::new(format!("run-{number}")).unwrap();
        let told = run(&server, &topic, &mut random).await;
        all.push((topic, told));
    }
    // A server that ends carries out what has come in whole: nothing is on its way any more.
    server.stop().await;
    server.start_again().await;
    let (mut faults, mut delivered, mut unknown, mut not_written) = (0, 0, 0, 0);
    for (topic, told) in all {
        let mut found = Vec::new();
        if !told.delivered.is_empty() {
            let mut scanner = Scanner::builder(server.client_config()).topic(topic.clone()).open().unwrap();
            while let Some(message) = within("a message", scanner.next()).await {
                let message = message.unwrap();
                found.push((String::from_utf8(message.bytes.to_vec()).unwrap(), message.position));
            }
        }
        let is_known = |text: &str| told.failed.get(text).is_none_or(|outcome| *outcome == Outcome::Unknown);
        assert!(found.iter().all(|(text, _)| is_known(text)), "{topic}: what was not written is there");
        let numbers: Vec<usize> =
            found.iter().map(|(text, _)| text.split(':').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{topic}: twice or out of order: {numbers:?}");
        let delivered_here: Vec<_> =
            found.into_iter().filter(|(text, _)| !told.failed.contains_key(text)).collect();
        assert_eq!(delivered_here, told.delivered, "{topic}");
        faults += told.faults;
        delivered += told.delivered.len();
        unknown += told.failed.values().filter(|outcome| **outcome == Outcome::Unknown).count();
        not_written += told.failed.values().filter(|outcome| **outcome == Outcome::NotWritten).count();
    }
    println!(
        "{runs} runs, {faults} faults: {delivered} delivered, {unknown} unknown, {not_written} not written"
    );
    assert!(faults as u64 >= runs / 2, "the proxy did nothing: {faults} faults in {runs} runs");
}
