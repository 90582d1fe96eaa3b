//! What comes next is gone: dropped, cut off, or the topic is another one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logd_client::{Consumer, Error, ErrorKind, MemoryState, TopicName, WhenGone};
use logd_server::Config;

use super::life::{all, builder, fill, next, some, text, until, write};
use crate::in_process::{TestServer, within};

fn empty(workdir: &Path) {
    for entry in std::fs::read_dir(workdir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Makes the topic anew.
pub(super) async fn make_anew(server: &mut TestServer, texts: Vec<String>) -> Vec<String> {
    server.stop().await;
    empty(server.workdir());
    server.start_again().await;
    write(server, texts).await
}

pub(super) fn other(count: usize) -> Vec<String> {
    // As long as those of `fill`.
    (0..count).map(|number| format!("MESSAGE {number}")).collect()
}

async fn read(server: &TestServer, states: &Arc<MemoryState>, count: usize) {
    let mut consumer = builder(server, states).open().await.unwrap();
    some(&mut consumer, count).await;
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

async fn error(consumer: &mut Consumer) -> Error {
    within("the error", consumer.next()).await.unwrap().unwrap_err()
}

/// Checks both choices, at the start, and returns the texts of the error.
async fn check_start(server: &TestServer, states: &Arc<MemoryState>, texts: &[String]) -> String {
    let failed = builder(server, states).follow(false).open().await.unwrap_err();
    assert!(matches!(failed.kind(), ErrorKind::Gap { .. }), "{failed}");
    let mut jump = builder(server, states).follow(false).when_gone(WhenGone::Jump).open().await.unwrap();
    let told = error(&mut jump).await;
    assert!(told.is_skippable(), "{told}");
    assert_eq!(told.to_string(), failed.to_string());
    assert_eq!(all(&mut jump).await, texts);
    jump.shutdown(Duration::ZERO).await.unwrap();
    // It is told once.
    let mut consumer = builder(server, states).follow(false).open().await.unwrap();
    assert!(all(&mut consumer).await.is_empty());
    consumer.shutdown(Duration::ZERO).await.unwrap();
    failed.to_string()
}

#[tokio::test]
async fn a_topic_that_is_another_one_is_noticed_at_the_start() {
    for (count, why) in [(10, "it ends at"), (60, "has the checksum"), (200, "has the checksum")] {
        let mut server = TestServer::start().await;
        fill(&server, 0..60).await;
        let states = Arc::new(MemoryState::new());
        read(&server, &states, 33).await;
        let texts = make_anew(&mut server, other(count)).await;
        let text = check_start(&server, &states, &texts).await;
        assert!(text.contains(why), "{count}: {text}");
    }
}

#[tokio::test]
async fn a_topic_whose_batches_lie_otherwise_is_noticed_at_the_start() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let states = Arc::new(MemoryState::new());
    read(&server, &states, 60).await;
    let texts =
        make_anew(&mut server, (0..90).map(|number| format!("other {number} {}", "x".repeat(29))).collect())
            .await;
    let text = check_start(&server, &states, &texts).await;
    assert!(text.contains("no batch begins at") || text.contains("has the checksum"), "{text}");
}

#[tokio::test]
async fn a_topic_that_is_not_there_any_more_is_noticed_at_the_start() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let states = Arc::new(MemoryState::new());
    read(&server, &states, 60).await;
    make_anew(&mut server, Vec::new()).await;
    let text = check_start(&server, &states, &[]).await;
    assert!(text.contains("is not the one that was read"), "{text}");
}

fn small(config: Config) -> Config {
    Config { batch_bytes: 512, partition_bytes: 1024, partitions: 3, ..config }
}

#[tokio::test]
async fn what_retention_has_dropped_is_told_at_the_start() {
    let server = TestServer::start_with(small).await;
    fill(&server, 0..20).await;
    let states = Arc::new(MemoryState::new());
    read(&server, &states, 5).await;
    fill(&server, 20..400).await;
    let texts = server.messages().await;
    assert!(texts.len() < 380);
    let text = check_start(&server, &states, &texts).await;
    assert!(text.contains("were dropped before `reader` has read them"), "{text}");
}

#[tokio::test]
async fn what_was_read_can_be_dropped() {
    let server = TestServer::start_with(small).await;
    fill(&server, 0..400).await;
    let left = server.messages().await.len();
    let states = Arc::new(MemoryState::new());
    read(&server, &states, left).await;
    let texts = fill(&server, 400..403).await;
    let mut consumer = builder(&server, &states).follow(false).open().await.unwrap();
    assert_eq!(all(&mut consumer).await, texts);
}

/// A running consumer that has read, and stored, all of 60 messages.
async fn running(server: &TestServer, states: &Arc<MemoryState>, choice: WhenGone) -> Consumer {
    let begin = builder(server, states).when_gone(choice).commit_interval(Duration::from_millis(10));
    let mut consumer = begin.open().await.unwrap();
    some(&mut consumer, 60).await;
    let acked = consumer.lag().await.unwrap().acked;
    until("the checkpoint", async || consumer.lag().await.unwrap().committed == Some(acked)).await;
    consumer
}

#[tokio::test]
async fn a_topic_that_becomes_another_one_is_noticed_by_a_running_consumer() {
    // Shorter, as long, and longer than what was read.
    for count in [10, 60, 150] {
        for choice in [WhenGone::Fail, WhenGone::Jump] {
            let mut server = TestServer::start().await;
            fill(&server, 0..60).await;
            let states = Arc::new(MemoryState::new());
            let mut consumer = running(&server, &states, choice).await;
            let mut texts = make_anew(&mut server, other(count)).await;
            let told = error(&mut consumer).await;
            assert!(matches!(told.kind(), ErrorKind::Gap { .. }), "{told}");
            assert!(told.to_string().contains("is not the one that was read"), "{told}");
            if choice == WhenGone::Fail {
                assert!(within("the end", consumer.next()).await.is_none());
                consumer.shutdown(Duration::ZERO).await.unwrap();
                continue;
            }
            assert_eq!(some(&mut consumer, count).await, texts);
            texts = fill(&server, 0..3).await;
            assert_eq!(some(&mut consumer, 3).await, texts);
            let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
            assert_eq!(
                shutdown.committed.unwrap().offset,
                server.client().head(&TopicName::default()).await.unwrap().next
            );
        }
    }
}

#[tokio::test]
async fn what_retention_drops_under_a_running_consumer_is_told() {
    for choice in [WhenGone::Fail, WhenGone::Jump] {
        let mut server = TestServer::start_with(small).await;
        fill(&server, 0..60).await;
        let states = Arc::new(MemoryState::new());
        // So that the scanner has not read ahead.
        let begin = builder(&server, &states).when_gone(choice).window(1, 1);
        let mut consumer = begin.open().await.unwrap();
        let held = next(&mut consumer).await;
        let first = text(&held);
        server.stop().await;
        server.start_again().await;
        fill(&server, 60..20_000).await;
        held.ack();
        let mut seen = vec![first];
        let told = loop {
            match within("a message", consumer.next()).await.unwrap() {
                Ok(delivery) => {
                    seen.push(text(&delivery));
                    delivery.ack();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(told.kind(), ErrorKind::Gap { .. }), "{told}");
        if choice == WhenGone::Jump {
            let texts = server.messages().await;
            assert_eq!(some(&mut consumer, texts.len()).await, texts);
        } else {
            assert!(within("the end", consumer.next()).await.is_none());
        }
        consumer.shutdown(Duration::ZERO).await.unwrap();
    }
}
