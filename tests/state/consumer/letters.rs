//! Dead letters, and what makes a message one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use logd_client::{
    ClientConfig, Consumer, ConsumerKey, DeadLetters, DeliveryId, ErrorKind, MemoryState, Message, Nack,
    RetryPolicy, Scanner, Start, StartAt, StateErrorKind, StateHandler, TaskRuntime, TopicName, Writer,
    async_trait,
};

use super::life::{Life, all, builder, fill, key, next, some, text, until};
use crate::in_process::{TestServer, take_all, within};

/// Keeps the letters; the first time each fails.
#[derive(Debug, Clone, Default)]
struct Kept {
    letters: Arc<Mutex<Vec<(String, String, u32)>>>,
    has_failed: bool,
}

#[async_trait]
impl DeadLetters for Kept {
    async fn bury(
        &mut self,
        id: &DeliveryId,
        message: &Message,
        returned: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if !std::mem::replace(&mut self.has_failed, true) {
            return Err("not yet".into());
        }
        let text = String::from_utf8(message.bytes.to_vec())?;
        self.letters.lock().unwrap().push((id.to_string(), text, returned));
        Ok(())
    }
}

#[tokio::test]
async fn letters_go_to_a_topic() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..6).await;
    let states = Arc::new(MemoryState::new());
    let topic = TopicName::new("dead").unwrap();
    let letters = Writer::builder(server.client_config()).topic(topic.clone()).runtime(TaskRuntime::Current);
    let begin =
        builder(&server, &states).follow(false).deliveries_max(3).dead_letters(letters.open().unwrap());
    let mut consumer = begin.open().await.unwrap();
    next(&mut consumer).await.nack(Nack::DeadLetter);
    // What is on its way to the dead letters does not come again.
    let mut seen = Vec::new();
    while let Some(delivery) = within("a message", consumer.next()).await {
        let delivery = delivery.unwrap();
        seen.push(text(&delivery));
        match delivery.redelivered() {
            _ if text(&delivery) != texts[3] => delivery.ack(),
            0 => drop(delivery),
            _ => delivery.nack(Nack::Retry { after: Duration::ZERO }),
        }
    }
    assert_eq!(seen.iter().filter(|text| **text == texts[3]).count(), 3);
    assert_eq!(seen.len(), 7);
    let shutdown = consumer.shutdown(Duration::from_secs(9)).await.unwrap();
    assert!(shutdown.is_drained);
    let scanner = Scanner::builder(server.client_config()).topic(topic).open().unwrap();
    assert_eq!(take_all(scanner).await, [texts[0].clone(), texts[3].clone()]);
}

#[tokio::test]
async fn letters_go_to_a_callback_that_can_fail() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    let states = Arc::new(MemoryState::new());
    let kept = Kept::default();
    let begin = builder(&server, &states).deliveries_max(2).dead_letters(kept.clone());
    let mut consumer = begin.open().await.unwrap();
    drop(next(&mut consumer).await);
    next(&mut consumer).await.nack(Nack::Retry { after: Duration::ZERO });
    assert_eq!(some(&mut consumer, 2).await, texts[1..]);
    // It waits for the letter.
    let shutdown = within("the shutdown", consumer.shutdown(Duration::from_secs(60))).await.unwrap();
    assert!(shutdown.is_drained, "{shutdown:?}");
    assert_eq!(*kept.letters.lock().unwrap(), [("default/0.0".to_owned(), texts[0].clone(), 2)]);
}

#[tokio::test]
async fn a_message_that_brings_down_every_start_is_a_dead_letter() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    let states = Arc::new(MemoryState::new());
    let kept = Kept { has_failed: true, ..Kept::default() };
    let begin = || builder(&server, &states).deliveries_max(3).follow(false).dead_letters(kept.clone());
    for start in 1..=3 {
        let life = Life::new();
        life.hold(begin(), 2).await;
        life.crash();
        assert_eq!(states.get(&key()).await.unwrap().unwrap().head_attempts, start);
    }
    let mut consumer = begin().open().await.unwrap();
    assert_eq!(all(&mut consumer).await, texts[1..]);
    consumer.shutdown(Duration::from_secs(9)).await.unwrap();
    assert_eq!(*kept.letters.lock().unwrap(), [("default/0.0".to_owned(), texts[0].clone(), 0)]);
}

#[tokio::test]
async fn starts_that_end_well_or_had_nothing_to_do_do_not_count() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(MemoryState::new());
    let begin = || builder(&server, &states).deliveries_max(2);
    for _ in 0..4 {
        let consumer = begin().open().await.unwrap();
        consumer.shutdown(Duration::ZERO).await.unwrap();
    }
    let mut consumer = begin().open().await.unwrap();
    some(&mut consumer, 3).await;
    consumer.shutdown(Duration::ZERO).await.unwrap();
    for _ in 0..4 {
        let life = Life::new();
        life.hold(begin(), 0).await;
        life.crash();
    }
    let texts = fill(&server, 3..5).await;
    let mut consumer = begin().open().await.unwrap();
    assert_eq!(some(&mut consumer, 2).await, texts);
}

#[tokio::test]
async fn without_a_place_for_letters_they_are_skipped() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).deliveries_max(2).follow(false).open().await.unwrap();
    next(&mut consumer).await.nack(Nack::DeadLetter);
    drop(next(&mut consumer).await);
    drop(next(&mut consumer).await);
    assert_eq!(all(&mut consumer).await, texts[2..]);
    let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
    until("the end", async || {
        states.get(&key()).await.unwrap().map(|found| found.next) == shutdown.committed
    })
    .await;
    assert!(shutdown.is_drained);
}

#[tokio::test]
async fn starts_at_which_there_was_no_message_do_not_count() {
    let server = TestServer::start().await;
    let starts = [StartAt::default(), StartAt::Checkpoint(Start::Latest), StartAt::Force(Start::Latest)];
    let mut texts = Vec::new();
    for (round, start) in starts.into_iter().enumerate() {
        let states = Arc::new(MemoryState::new());
        let begin = || {
            let begin = builder(&server, &states).deliveries_max(1).start(start);
            // Whoever resets has a lease, which one that has died has for a while.
            begin.exclusive(Duration::from_millis(100)).wait_for_lease()
        };
        for _ in 0..3 {
            let life = Life::new();
            life.hold(begin(), 0).await;
            life.crash();
        }
        let attempts = states.get(&key()).await.unwrap().map_or(0, |found| found.head_attempts);
        assert_eq!(attempts, 0, "{start:?}");
        let mut consumer = begin().open().await.unwrap();
        texts = fill(&server, round..round + 1).await;
        assert_eq!(some(&mut consumer, 1).await, texts, "{start:?}");
    }
    // Nor does one on a topic that is not there yet.
    let states = Arc::new(MemoryState::new());
    let other = ConsumerKey::new(TopicName::new("later").unwrap(), "reader").unwrap();
    let begin = Consumer::builder(server.client_config(), Arc::clone(&states) as _, other.clone());
    begin.deliveries_max(1).open().await.unwrap();
    assert_eq!(states.get(&other).await.unwrap(), None);
    // One that there was is counted.
    let states = Arc::new(MemoryState::new());
    let begin = || builder(&server, &states).deliveries_max(1).start(StartAt::Force(Start::Earliest));
    let life = Life::new();
    life.hold(begin(), 0).await;
    life.crash();
    assert_eq!(states.get(&key()).await.unwrap().unwrap().head_attempts, 1);
    assert_eq!(texts.len(), 1);
}

#[tokio::test]
async fn no_deliveries_at_all_are_refused() {
    let server = TestServer::start().await;
    let states = Arc::new(MemoryState::new());
    let error = builder(&server, &states).deliveries_max(0).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "a message has `0` deliveries: it must have at least 1");
}

#[tokio::test]
async fn a_letter_in_the_spool_is_taken_once() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    let states = Arc::new(MemoryState::new());
    let topic = TopicName::new("dead").unwrap();
    let spool = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let away = ClientConfig::new("127.0.0.1:1").retry(RetryPolicy::none());
    let letters = Writer::builder(away).topic(topic.clone()).runtime(TaskRuntime::Current);
    let letters = letters.spool(spool.path(), u64::MAX).open().unwrap();
    let mut consumer = builder(&server, &states).dead_letters(letters).open().await.unwrap();
    for index in 0..3 {
        let message = next(&mut consumer).await;
        if index == 2 {
            message.ack();
        } else {
            message.nack(Nack::DeadLetter);
        }
    }
    let shutdown = within("the shutdown", consumer.shutdown(Duration::from_secs(60))).await.unwrap();
    assert!(shutdown.is_drained, "{shutdown:?}");
    let mut opened = None;
    until("the spool", async || {
        let writer = Writer::builder(server.client_config()).topic(topic.clone());
        opened = writer.runtime(TaskRuntime::Current).spool(spool.path(), u64::MAX).open().ok();
        opened.is_some()
    })
    .await;
    within("the letters", opened.unwrap().close()).await.unwrap();
    let scanner = Scanner::builder(server.client_config()).topic(topic).open().unwrap();
    assert_eq!(take_all(scanner).await, texts[..2]);
}

/// Panics at every letter.
struct Panicking;

#[async_trait]
impl DeadLetters for Panicking {
    async fn bury(
        &mut self,
        id: &DeliveryId,
        _: &Message,
        _: u32,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        panic!("no room for {id}");
    }
}

#[tokio::test]
async fn letters_that_make_their_handler_panic_end_the_stream_and_the_shutdown_with_that() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    for is_told in [true, false] {
        let states = Arc::new(MemoryState::new());
        let mut consumer = builder(&server, &states).dead_letters(Panicking).open().await.unwrap();
        let first = next(&mut consumer).await;
        let expected = first.next();
        assert_eq!(text(&first), texts[0]);
        first.ack();
        let second = next(&mut consumer).await;
        let what = format!("the dead letters' handler has panicked: `no room for {}`", second.id());
        second.nack(Nack::DeadLetter);
        if is_told {
            let error = loop {
                match within("the error", consumer.next()).await.unwrap() {
                    Ok(delivery) => std::mem::forget(delivery),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Failed));
            assert_eq!(error.to_string(), what);
            assert!(within("the end", consumer.next()).await.is_none());
        }
        let error = within("the shutdown", consumer.shutdown(Duration::from_secs(3600))).await.unwrap_err();
        assert_eq!(error.to_string(), what);
        // What was done is stored all the same.
        assert_eq!(states.get(&key()).await.unwrap().unwrap().next, expected);
    }
}
