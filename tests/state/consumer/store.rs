//! When checkpoints are stored, and what happens when the store fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use logd_client::{ErrorKind, StateErrorKind, StateHandler};

use super::life::{builder, fill, key, next, some, until};
use super::watched::Watched;
use crate::in_process::{TestServer, within};

#[tokio::test]
async fn a_busy_topic_is_stored_about_once_a_second() {
    let server = TestServer::start().await;
    fill(&server, 0..20_000).await;
    let states = Arc::new(Watched::new(&[]));
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let start = Instant::now();
    let mut count = 0_u32;
    while count < 20_000 {
        next(&mut consumer).await.ack();
        count += 1;
        if count.is_multiple_of(20) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let completes = states.completes() as f64;
    assert!(completes >= (seconds - 1.0).floor() && completes <= seconds + 2.0, "{completes} in {seconds} s");
    assert!(seconds > 1.5, "{seconds}");
}

#[tokio::test]
async fn what_is_done_is_stored_while_something_else_is_in_hand() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(Watched::new(&[]));
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    let expected = first.next();
    first.ack();
    let is_stored = async || states.get(&key()).await.unwrap().is_some_and(|found| found.next == expected);
    let start = Instant::now();
    until("the checkpoint", is_stored).await;
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    drop(second);
}

#[tokio::test]
async fn an_idle_consumer_stores_soon_and_then_nothing_more() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(Watched::new(&[]));
    let mut consumer =
        builder(&server, &states).commit_interval(Duration::from_secs(3600)).open().await.unwrap();
    some(&mut consumer, 3).await;
    until("the checkpoint", async || states.completes() == 1).await;
    consumer.set_user(Vec::new()).unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(states.completes(), 1);
    let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
    assert_eq!(states.completes(), 1, "nothing has changed");
    assert_eq!(states.get(&key()).await.unwrap().map(|found| found.next), shutdown.committed);
}

#[tokio::test]
async fn so_many_messages_are_stored_at_once() {
    let server = TestServer::start().await;
    fill(&server, 0..25).await;
    let states = Arc::new(Watched::new(&[]));
    let begin = builder(&server, &states).commit_interval(Duration::from_secs(3600)).commit_messages(10);
    let mut consumer = begin.open().await.unwrap();
    // Something stays in hand, so that it is not stored for being idle.
    let held = next(&mut consumer).await;
    some(&mut consumer, 9).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(states.completes(), 0);
    some(&mut consumer, 1).await;
    until("the checkpoint", async || states.completes() == 1).await;
    some(&mut consumer, 10).await;
    until("the next checkpoint", async || states.completes() == 2).await;
    drop(held);
}

#[tokio::test]
async fn a_store_that_fails_is_asked_again_and_told_about_when_it_takes_too_long() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..9).await;
    for ttl in [None, Some(Duration::from_secs(5))] {
        let states = Arc::new(Watched::new(&[]));
        let lag = Duration::from_millis(300);
        let mut begin =
            builder(&server, &states).commit_interval(Duration::from_millis(10)).commit_lag_max(lag);
        if let Some(ttl) = ttl {
            begin = begin.exclusive(ttl);
        }
        let mut consumer = begin.open().await.unwrap();
        states.fail(true);
        assert_eq!(some(&mut consumer, 4).await, texts[..4]);
        // For a while nobody hears of it.
        until("a few tries", async || states.completes() >= 2).await;
        states.fail(false);
        let acked = consumer.lag().await.unwrap().acked;
        let is_stored = async || {
            states.get(&key()).await.is_ok_and(|found| found.is_some_and(|found| found.next == acked))
        };
        until("the checkpoint", is_stored).await;
        assert_eq!(some(&mut consumer, 1).await, texts[4..5]);
        states.fail(true);
        let start = Instant::now();
        let error = loop {
            match within("the error", consumer.next()).await.unwrap() {
                Ok(delivery) => delivery.ack(),
                Err(error) => break error,
            }
        };
        assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
        assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Unavailable));
        assert_eq!(error.to_string(), "the store is away");
        states.fail(false);
        // It goes on, and everything is stored.
        let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
        assert_eq!(states.get(&key()).await.unwrap().map(|found| found.next), shutdown.committed);
        assert_eq!(
            shutdown.committed.unwrap().offset,
            server.client().head(key().topic()).await.unwrap().next
        );
    }
}

#[tokio::test]
async fn a_last_checkpoint_that_is_not_stored_is_an_error() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(Watched::new(&[]));
    let mut consumer = builder(&server, &states).open().await.unwrap();
    some(&mut consumer, 3).await;
    states.fail(true);
    let error = within("the shutdown", consumer.shutdown(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Unavailable));
}

#[tokio::test]
async fn a_server_that_is_gone_does_not_keep_the_last_checkpoint_from_being_stored() {
    let mut server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(Watched::new(&[]));
    let config = server.client_config().retry(logd_client::RetryPolicy::none());
    let begin = logd_client::Consumer::builder(config, Arc::clone(&states) as _, key());
    let begin = begin.exclusive(Duration::from_secs(3600)).commit_interval(Duration::from_secs(3600));
    let mut consumer = begin.open().await.unwrap();
    let held = next(&mut consumer).await;
    let expected = held.next();
    server.stop().await;
    let error = loop {
        match within("the error", consumer.next()).await.unwrap() {
            Ok(delivery) => std::mem::forget(delivery),
            Err(error) => break error,
        }
    };
    assert!(error.is_retryable(), "{error}");
    held.ack();
    let shutdown = within("the shutdown", consumer.shutdown(Duration::ZERO)).await.unwrap();
    assert_eq!(shutdown.committed, Some(expected));
    // The lease is free.
    server.start_again().await;
    let consumer = builder(&server, &states).exclusive(Duration::from_secs(3600)).open().await.unwrap();
    consumer.shutdown(Duration::ZERO).await.unwrap();
}
