//! The topic is put away, or another one in its place, while nobody is connected: a running consumer must notice.
//!
//! The other topic has batches of the same sizes, so that nothing but their bytes tells the two apart.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logd_client::{
    Anchor, Batch, BatchBuilder, Checkpoint, Consumer, ConsumerBuilder, ConsumerKey, Error, ErrorKind, Fence,
    MemoryState, Offset, Scanner, StateAdmin, StateHandler, TopicName, WhenGone,
};
use tempfile::TempDir;

use super::life::{all, some, until};
use crate::in_process::{TestServer, take_all, within};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn empty(workdir: &Path) {
    for entry in fs::read_dir(workdir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn key() -> ConsumerKey {
    ConsumerKey::new(topic(), "reader").unwrap()
}

fn builder(server: &TestServer, states: &Arc<MemoryState>) -> ConsumerBuilder {
    let states: Arc<dyn StateHandler> = Arc::clone(states) as _;
    Consumer::builder(server.client_config(), states, key())
}

/// So many messages are in a batch.
const IN_BATCH: usize = 3;

/// A batch without an identity, whose length would differ from one to the next.
fn batch(texts: &[String]) -> Batch {
    let mut batch = BatchBuilder::new(&topic(), 65536);
    for text in texts {
        batch.push(text.as_bytes()).unwrap();
    }
    batch.finish().unwrap()
}

async fn write(server: &TestServer, texts: &[String]) {
    let mut client = server.client();
    for texts in texts.chunks(IN_BATCH) {
        client.append(&batch(texts)).await.unwrap();
    }
}

async fn messages(server: &TestServer) -> Vec<String> {
    take_all(Scanner::builder(server.client_config()).topic(topic()).open().unwrap()).await
}

/// The messages of the topic that is read first.
fn first(numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("message {number}")).collect()
}

/// Those of the other, whose batches are as long: a checksum has as many digits as it needs.
fn other(numbers: Range<usize>) -> Vec<String> {
    let first = first(numbers);
    let alike = |texts: &[String]| {
        let other =
            |salt: u32| texts.iter().map(|text| text.replace("mess", &format!("{salt:04}"))).collect();
        let mut others = (0..10_000).map(other);
        others.find(|others: &Vec<String>| batch(others).bytes().len() == batch(texts).bytes().len()).unwrap()
    };
    first.chunks(IN_BATCH).flat_map(alike).collect()
}

/// What a server has after `write`, from what is in `before` on.
async fn prepared(before: Option<&Path>, writes: &[Vec<String>]) -> TempDir {
    let mut server = TestServer::start().await;
    if let Some(before) = before {
        server.stop().await;
        empty(server.workdir());
        copy(before, server.workdir());
        server.start_again().await;
    }
    for texts in writes {
        write(&server, texts).await;
    }
    server.stop().await;
    let kept = tempfile::tempdir().unwrap();
    copy(server.workdir(), kept.path());
    kept
}

/// Gives the server other topics, without a moment in which it has none.
async fn swap(server: &mut TestServer, other: &Path) {
    server.stop().await;
    empty(server.workdir());
    copy(other, server.workdir());
    server.start_again().await;
}

/// A consumer that has stored that it has read `count` messages, which are all that there are.
async fn running(server: &TestServer, states: &Arc<MemoryState>, choice: WhenGone, count: usize) -> Consumer {
    let begin = builder(server, states).when_gone(choice).commit_interval(Duration::from_millis(10));
    let mut consumer = begin.open().await.unwrap();
    some(&mut consumer, count).await;
    let acked = consumer.lag().await.unwrap().acked;
    if count > 0 {
        until("the checkpoint", async || consumer.lag().await.unwrap().committed == Some(acked)).await;
    }
    consumer
}

async fn error(consumer: &mut Consumer) -> Error {
    within("the error", consumer.next()).await.unwrap().unwrap_err()
}

/// Checks that the consumer says so, and by its choice ends, or goes on with all that the server has.
async fn check(mut consumer: Consumer, server: &TestServer, choice: WhenGone, why: &str) {
    let told = error(&mut consumer).await;
    assert!(matches!(told.kind(), ErrorKind::Gap { .. }), "{told}");
    let text = told.to_string();
    assert!(text.contains("topic `orders` is not the one that was read up to `"), "{text}");
    assert!(text.contains(why), "{text}");
    if choice == WhenGone::Fail {
        assert!(within("the end", consumer.next()).await.is_none());
    } else {
        let texts = messages(server).await;
        assert_eq!(some(&mut consumer, texts.len()).await, texts);
        let texts = first(0..3);
        write(server, &texts).await;
        assert_eq!(some(&mut consumer, 3).await, texts);
    }
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

const CHOICES: [WhenGone; 2] = [WhenGone::Fail, WhenGone::Jump];

#[tokio::test]
async fn another_topic_of_the_same_layout_is_noticed() {
    // As long as what was read, and longer.
    let same = prepared(None, &[other(0..60)]).await;
    let longer = prepared(None, &[other(0..60), other(60..63)]).await;
    for kept in [&same, &longer] {
        for choice in CHOICES {
            let mut server = TestServer::start().await;
            write(&server, &first(0..60)).await;
            let consumer = running(&server, &Arc::new(MemoryState::new()), choice, 60).await;
            swap(&mut server, kept.path()).await;
            check(consumer, &server, choice, "has the checksum").await;
        }
    }
}

#[tokio::test]
async fn another_topic_is_noticed_by_a_consumer_that_has_read_nothing_yet() {
    let longer = prepared(None, &[other(0..60), other(60..63)]).await;
    for choice in CHOICES {
        let mut server = TestServer::start().await;
        write(&server, &first(0..60)).await;
        let states = Arc::new(MemoryState::new());
        running(&server, &states, choice, 60).await.shutdown(Duration::ZERO).await.unwrap();
        let consumer = running(&server, &states, choice, 0).await;
        swap(&mut server, longer.path()).await;
        check(consumer, &server, choice, "has the checksum").await;
    }
}

#[tokio::test]
async fn another_topic_is_noticed_by_a_consumer_that_has_begun_anew() {
    let longer = prepared(None, &[other(0..60), other(60..63)]).await;
    for choice in CHOICES {
        let mut server = TestServer::start().await;
        write(&server, &first(0..60)).await;
        let states = Arc::new(MemoryState::new());
        let mut consumer = running(&server, &states, choice, 60).await;
        consumer.shutdown(Duration::ZERO).await.unwrap();
        let begin = builder(&server, &states).when_gone(choice).exclusive(Duration::from_millis(100));
        consumer = begin.open().await.unwrap();
        let (fence, stored) = (consumer.token().fence, states.get(&key()).await.unwrap().unwrap());
        // It is fenced, and goes on where it was.
        states.reset(&key(), &stored).await.unwrap();
        until("the new beginning", async || {
            assert!(futures::poll!(Box::pin(consumer.next())).is_pending());
            consumer.token().fence != fence
        })
        .await;
        swap(&mut server, longer.path()).await;
        check(consumer, &server, choice, "has the checksum").await;
    }
}

#[tokio::test]
async fn an_older_copy_that_went_another_way_is_noticed() {
    let older = prepared(None, &[first(0..30)]).await;
    let went = prepared(Some(older.path()), &[other(30..60), other(60..63)]).await;
    for choice in CHOICES {
        let mut server = TestServer::start().await;
        swap(&mut server, older.path()).await;
        write(&server, &first(30..60)).await;
        let consumer = running(&server, &Arc::new(MemoryState::new()), choice, 60).await;
        swap(&mut server, went.path()).await;
        check(consumer, &server, choice, "has the checksum").await;
    }
}

#[tokio::test]
async fn a_deleted_topic_is_noticed() {
    for choice in CHOICES {
        let mut server = TestServer::start().await;
        write(&server, &first(0..60)).await;
        let mut consumer = running(&server, &Arc::new(MemoryState::new()), choice, 60).await;
        server.stop().await;
        empty(server.workdir());
        server.start_again().await;
        let told = error(&mut consumer).await;
        assert!(told.to_string().ends_with("it is not there; was it deleted?"), "{told}");
        if choice == WhenGone::Jump {
            let texts = first(0..3);
            write(&server, &texts).await;
            assert_eq!(some(&mut consumer, 3).await, texts);
        } else {
            assert!(within("the end", consumer.next()).await.is_none());
        }
        consumer.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test]
async fn a_consumer_that_has_read_nothing_waits_for_its_topic() {
    let mut server = TestServer::start().await;
    let mut consumer = running(&server, &Arc::new(MemoryState::new()), WhenGone::Fail, 0).await;
    server.stop().await;
    server.start_again().await;
    let texts = first(0..3);
    write(&server, &texts).await;
    assert_eq!(some(&mut consumer, 3).await, texts);
}

#[tokio::test]
async fn the_same_topic_is_not_another_after_a_restart() {
    let mut server = TestServer::start().await;
    write(&server, &first(0..60)).await;
    let mut consumer = running(&server, &Arc::new(MemoryState::new()), WhenGone::Fail, 60).await;
    for round in 1..4 {
        server.stop().await;
        server.start_again().await;
        let texts = first(round * 60..round * 60 + 5);
        write(&server, &texts).await;
        assert_eq!(some(&mut consumer, 5).await, texts);
    }
}

#[tokio::test]
async fn a_position_at_which_no_message_starts_is_told_at_the_start() {
    let server = TestServer::start().await;
    write(&server, &first(0..60)).await;
    // Not a batch, not a message, and both behind a batch that fits.
    let crc = server.client().tail(&topic(), 1).await.unwrap().batches[0].crc();
    let anchor = Some(Anchor { offset: Offset::ZERO, crc });
    for (next, anchor) in [("7", None), ("0.1", None), ("7", anchor), ("0.1", anchor)] {
        let states = Arc::new(MemoryState::new());
        let mut checkpoint = Checkpoint::at(next.parse().unwrap());
        checkpoint.anchor = anchor;
        states.complete(&key(), &checkpoint, Fence::NONE).await.unwrap();
        let failed = builder(&server, &states).open().await.unwrap_err();
        assert!(failed.to_string().contains("no message starts at `"), "{failed}");
        let mut jump =
            builder(&server, &states).follow(false).when_gone(WhenGone::Jump).open().await.unwrap();
        assert!(error(&mut jump).await.is_skippable());
        assert_eq!(all(&mut jump).await, messages(&server).await);
    }
}
