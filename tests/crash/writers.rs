//! Killing the server again and again under Writers, each with a spool, that know nothing of it: what they wrote is there,
//! once, in order.
//!
//! `LOGD_TEST_KILLS` sets how often it is killed; 60, at a pause of a second, take a minute.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use logd_client::{ClientConfig, RetryPolicy, Scanner, Writer};
use logd_tests::{Random, TestServer, seed};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::OPTIONS;

const WRITERS: usize = 10;
const SPOOL_BYTES: u64 = 64 * 1024 * 1024;
const KILLS_DEFAULT: usize = 20;
/// The longest time between two kills by default, in milliseconds.
const PAUSE_DEFAULT: usize = 300;

/// The longest that the writers need after the last kill.
const END_BOUND: Duration = Duration::from_secs(60);

pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// Writes numbered messages until told to end; returns how many there were, when all of them are acknowledged.
async fn write(config: ClientConfig, number: usize, spool: PathBuf, ending: Arc<AtomicBool>) -> usize {
    let writer = Writer::builder(config)
        .spool(spool, SPOOL_BYTES)
        .batch_bytes(600)
        .wait_interval(Duration::from_millis(1))
        .open()
        .expect("the settings are right");
    let mut count = 0;
    while !ending.load(Ordering::Relaxed) {
        for _ in 0..20 {
            writer.write(format!("{number}:{count}").as_bytes()).await.expect("the writer is open");
            count += 1;
        }
        sleep(Duration::from_millis(2)).await;
    }
    timeout(END_BOUND, writer.close()).await.expect("the server is there").expect("all is delivered");
    let stats = writer.stats();
    assert!(stats.is_complete(), "{stats:?}");
    assert_eq!((stats.written, stats.delivered), (count as u64, count as u64), "{stats:?}");
    count
}

/// How many messages of each writer the topic has; they must be there once and in order.
async fn counts(config: ClientConfig) -> Vec<usize> {
    let mut counts = vec![0; WRITERS];
    let mut scanner = Scanner::builder(config).open().expect("the settings are right");
    while let Some(message) = scanner.next().await {
        let message = message.expect("nothing is damaged");
        let text = std::str::from_utf8(&message.bytes).expect("a text was written");
        let (writer, count) = text.split_once(':').expect("two numbers were written");
        let writer: usize = writer.parse().expect("a number");
        assert_eq!(count, counts[writer].to_string(), "of writer {writer}, at {}", message.position);
        counts[writer] += 1;
    }
    counts
}

#[test]
fn writers_lose_and_repeat_nothing_over_kills() {
    let kills = setting("LOGD_TEST_KILLS", KILLS_DEFAULT);
    let pause = setting("LOGD_TEST_PAUSE", PAUSE_DEFAULT);
    let mut server = TestServer::start(OPTIONS);
    let retry = RetryPolicy::default()
        .attempts(None)
        .interval(Duration::from_millis(5))
        .max_interval(Duration::from_millis(50));
    let config = ClientConfig::new(server.host()).timeout(Duration::from_secs(5)).retry(retry);
    let runtime = Runtime::new().expect("a runtime");
    let ending = Arc::new(AtomicBool::new(false));
    let folder = tempfile::tempdir().expect("a directory can be made");
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let spool = folder.path().join(number.to_string());
            runtime.spawn(write(config.clone(), number, spool, Arc::clone(&ending)))
        })
        .collect();
    let mut random = Random::new(seed());
    for _ in 0..kills {
        // Kills come at random moments of the work: there is no condition to wait for.
        thread::sleep(Duration::from_millis(20 + random.below(pause) as u64));
        server.kill9();
        server.restart_in_place();
    }
    ending.store(true, Ordering::Relaxed);
    let written: Vec<usize> = writers
        .into_iter()
        .map(|writer| runtime.block_on(writer).expect("a writer does not panic"))
        .collect();
    let read = runtime.block_on(counts(config));
    assert_eq!(read, written);
    println!("{kills} kills, {} messages of {WRITERS} writers, each once", written.iter().sum::<usize>());
    assert!(
        written.iter().all(|count| *count > 20 * kills),
        "the writers wrote next to nothing: {written:?}"
    );
}
