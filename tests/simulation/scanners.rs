//! Scanners that follow the topic, and are opened again now and then where they have come to.

use std::time::Duration;

use logd_client::{ClientConfig, Error, ErrorKind, Position, Reason, RetryPolicy, Scanner, Start, TopicName};
use logd_tests::Random;
use tokio::time::{sleep, timeout};

use crate::history::{History, Name};
use crate::network::Network;
use crate::scenario::Damage;
use crate::trace::log;

/// How readers are configured: they try without end.
pub(crate) fn config(network: &Network, name: &str, random: &mut Random) -> ClientConfig {
    let limit = Duration::from_millis([300, 1000, 5000][random.below(3)]);
    let retry = RetryPolicy::default().attempts(None).max_interval(Duration::from_secs(2));
    ClientConfig::new("server:1774")
        .connect_timeout(limit)
        .timeout(limit)
        .retry(retry)
        .simulated(network.client(name))
}

/// Whether reading ends with this error because the server's disk has failed: reading again is all that can be done.
pub(crate) fn is_of_disk(error: &Error) -> bool {
    error.kind() == ErrorKind::Server(Reason::StorageFailed)
}

/// Scans the topic until the run ends.
pub(crate) async fn scan(
    number: usize,
    damage: Damage,
    topic: TopicName,
    network: Network,
    history: History,
    mut random: Random,
) {
    loop {
        let epoch = history.lock().epoch;
        let scanning = scan_epoch(number, damage, &topic, &network, &history, &mut random);
        tokio::select! {
            biased;
            () = history.epoch_after(epoch) => log!(history.trace, "s{number} begins anew"),
            () = scanning => return,
        }
    }
}

/// Scans the topic as it is between two power cuts that can lose something.
async fn scan_epoch(
    number: usize,
    damage: Damage,
    topic: &TopicName,
    network: &Network,
    history: &History,
    random: &mut Random,
) {
    let mut next = Position::ZERO;
    // Where reading begins at the oldest batch, which is not known before.
    let mut is_oldest = false;
    loop {
        let config = config(network, &format!("s{number}"), random);
        let opened = Scanner::builder(config)
            .topic(topic.clone())
            .start(if is_oldest { Start::Earliest } else { Start::At(next) })
            .follow(true)
            .read_messages([1, 5, 1000][random.below(3)])
            .wait(Duration::from_millis([0, 700, 10_000][random.below(3)]))
            .open();
        let mut scanner = opened.expect("the settings of a scanner are right");
        let life = [10, 100, 1_000_000][random.below(3)];
        for _ in 0..life {
            let item = loop {
                // A future that is dropped loses nothing.
                let patience = Duration::from_millis(1 + random.below(200) as u64);
                if let Ok(item) = timeout(patience, scanner.next()).await {
                    break item;
                }
            };
            let Some(item) = item else {
                return history.trace.fail(format!("scanner {number} ended, though it follows the topic"));
            };
            match item {
                Ok(message) => {
                    let (position, name) = (message.position, Name::of(&message.bytes));
                    log!(history.trace, "s{number} {position} {name:?}");
                    if position != next && !(is_oldest && position > next) {
                        let text = format!("scanner {number} skipped from {next} to {position}");
                        return history.trace.fail(text);
                    }
                    is_oldest = false;
                    history.lock().scanned.entry(number).or_default().push((position, name));
                }
                Err(error) if is_of_disk(&error) => {
                    log!(history.trace, "s{number} {error}");
                    sleep(Duration::from_millis(500)).await;
                    break;
                }
                Err(error) if error.is_not_found() && damage.by_retention => {
                    log!(history.trace, "s{number} {error}");
                    is_oldest = true;
                    sleep(Duration::from_millis(500)).await;
                    break;
                }
                Err(error) if error.is_skippable() && damage.is_told() => {
                    log!(history.trace, "s{number} {error}");
                }
                Err(error) => return history.trace.fail(format!("scanner {number} at {next}: {error}")),
            }
            next = scanner.position().unwrap_or(next);
        }
    }
}
