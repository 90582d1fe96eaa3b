//! When checkpoints are stored, and what happens when the store fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logd_client::{
    Checkpoint, Consumer, ErrorKind, Position, RetryPolicy, StateAdmin, StateError, StateErrorKind,
    StateHandler, WhenGone,
};

use super::gone::{make_anew, other};
use super::life::{all, builder, fill, key, next, some, until};
use super::staged::{Call, Staged};
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
async fn what_so_many_messages_did_not_store_is_stored_when_the_store_is_back() {
    let server = TestServer::start().await;
    fill(&server, 0..25).await;
    let states = Arc::new(Watched::new(&[]));
    let begin = builder(&server, &states).commit_interval(Duration::from_secs(3600)).commit_messages(10);
    let mut consumer = begin.open().await.unwrap();
    let held = next(&mut consumer).await;
    states.fail(true);
    some(&mut consumer, 10).await;
    until("an attempt", async || states.completes() > 0).await;
    states.fail(false);
    until("the checkpoint", async || states.get(&key()).await.unwrap().is_some()).await;
    drop(held);
}

#[tokio::test]
async fn no_messages_at_all_are_no_measure() {
    let server = TestServer::start().await;
    let states = Arc::new(Watched::new(&[]));
    let error = builder(&server, &states).commit_messages(0).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
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

#[tokio::test]
async fn the_lease_is_kept_while_nothing_can_be_stored() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let fails = Arc::new(AtomicBool::new(true));
    let states = Arc::new(Staged::new({
        let fails = Arc::clone(&fails);
        move |_, call| match call {
            Call::Complete if fails.load(Ordering::SeqCst) => {
                Err(StateError::new(StateErrorKind::Unavailable, "the store is away"))
            }
            _ => Ok(()),
        }
    }));
    // The store is asked again in hours, as chance has it.
    let hours = Duration::from_secs(1_000_000);
    let config = server.client_config().retry(RetryPolicy::default().interval(hours).max_interval(hours));
    let begin = Consumer::builder(config, Arc::clone(&states) as _, key());
    let begin = begin.exclusive(Duration::from_millis(300)).commit_interval(Duration::from_millis(5));
    let mut consumer = begin.open().await.unwrap();
    some(&mut consumer, 3).await;
    until("the failure", async || states.count(Call::Complete) == 1).await;
    let before = states.count(Call::Renew);
    until("the renewals", async || states.count(Call::Renew) >= before + 5).await;
    assert_eq!(states.count(Call::Complete), 1);
    assert!(states.inner.list().await.unwrap()[0].owner.is_some());
    fails.store(false, Ordering::SeqCst);
    consumer.shutdown(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_store_that_refuses_for_a_while_is_asked_again_wherever_that_is() {
    let mut server = TestServer::start().await;
    let texts = fill(&server, 0..60).await;
    for kind in [StateErrorKind::Unavailable, StateErrorKind::Ambiguous, StateErrorKind::Failed] {
        // How many calls of which sort are to fail.
        let failing = Arc::new(Mutex::new(HashMap::new()));
        let states = Arc::new(Staged::new({
            let failing = Arc::clone(&failing);
            move |_, call| match failing.lock().unwrap().get_mut(&format!("{call:?}")) {
                Some(left @ 1..) => {
                    *left -= 1;
                    Err(StateError::new(kind, "the disk is full"))
                }
                _ => Ok(()),
            }
        }));
        let fail = |calls: &[Call]| {
            failing.lock().unwrap().extend(calls.iter().map(|call| (format!("{call:?}"), 2)));
        };
        let have_failed = async || failing.lock().unwrap().values().all(|left| *left == 0);
        fail(&[Call::Get]);
        let begin = builder(&server, &states).when_gone(WhenGone::Jump);
        let mut consumer = begin.commit_interval(Duration::from_millis(5)).open().await.unwrap();
        fail(&[Call::Complete]);
        assert_eq!(some(&mut consumer, texts.len()).await, texts);
        let acked = consumer.lag().await.unwrap().acked;
        let is_stored = async |at: Position| {
            states.inner.get(&key()).await.unwrap().is_some_and(|found| found.next == at)
        };
        until("the checkpoint", async || is_stored(acked).await && have_failed().await).await;
        // It is fenced, and asks who has done that.
        fail(&[Call::Start]);
        states.inner.reset(&key(), &Checkpoint::at(acked)).await.unwrap();
        consumer.set_user(*b"new").unwrap();
        until("the lease", async || {
            states.inner.list().await.unwrap()[0].owner.is_some() && have_failed().await
        })
        .await;
        fail(&[Call::Reset, Call::Renew, Call::Start]);
        let again = make_anew(&mut server, other(10)).await;
        let gap = within("the gap", consumer.next()).await.unwrap().unwrap_err();
        assert!(matches!(gap.kind(), ErrorKind::Gap { .. }), "{gap}");
        assert_eq!(some(&mut consumer, 10).await, again);
        assert!(have_failed().await);
        fail(&[Call::Release]);
        let shutdown = consumer.shutdown(Duration::ZERO).await.unwrap();
        assert!(is_stored(shutdown.committed.unwrap()).await && have_failed().await);
        fail(&[Call::Start]);
        let begin = builder(&server, &states).exclusive(Duration::from_secs(3600)).follow(false);
        let mut consumer = begin.open().await.unwrap();
        assert!(all(&mut consumer).await.is_empty() && have_failed().await);
        consumer.shutdown(Duration::ZERO).await.unwrap();
        make_anew(&mut server, Vec::new()).await;
        fill(&server, 0..60).await;
    }
}

#[tokio::test]
async fn a_store_without_leases_that_refuses_for_a_while_is_asked_again_after_a_jump() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let left = Arc::new(AtomicUsize::new(0));
    let mut states = Staged::new({
        let left = Arc::clone(&left);
        move |_, call| {
            let fewer = |left: usize| left.checked_sub(1);
            match call {
                Call::Get if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok() => {
                    Err(StateError::new(StateErrorKind::Failed, "the disk is full"))
                }
                _ => Ok(()),
            }
        }
    });
    states.has_leases = false;
    let states = Arc::new(states);
    let mut consumer = builder(&server, &states).when_gone(WhenGone::Jump).open().await.unwrap();
    some(&mut consumer, 60).await;
    let texts = make_anew(&mut server, other(10)).await;
    left.store(2, Ordering::SeqCst);
    let gap = within("the gap", consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(gap.kind(), ErrorKind::Gap { .. }), "{gap}");
    assert_eq!(some(&mut consumer, 10).await, texts);
    assert_eq!(left.load(Ordering::SeqCst), 0);
    assert!(consumer.shutdown(Duration::ZERO).await.unwrap().is_drained);
}

#[tokio::test]
async fn times_without_end_are_times_like_others() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..3).await;
    let states = Arc::new(Staged::new(|_, _| Ok(())));
    let retry = RetryPolicy::default().max_interval(Duration::MAX);
    let begin = Consumer::builder(server.client_config().retry(retry), Arc::clone(&states) as _, key());
    let begin = begin
        .exclusive(Duration::MAX)
        .commit_interval(Duration::MAX)
        .commit_lag_max(Duration::MAX)
        .follow(false);
    let mut consumer = begin.open().await.unwrap();
    let held = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    second.ack();
    let third = next(&mut consumer).await;
    held.ack();
    assert_eq!(third.bytes(), texts[2].as_bytes());
    third.ack();
    let acked = consumer.lag().await.unwrap().acked;
    until("the checkpoint", async || {
        states.get(&key()).await.unwrap().is_some_and(|found| found.next == acked)
    })
    .await;
    let shutdown = within("the shutdown", consumer.shutdown(Duration::ZERO)).await.unwrap();
    assert!(shutdown.is_drained);
}

#[tokio::test]
async fn what_is_kept_beside_the_position_is_not_stored_with_each_change() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    let states = Arc::new(Watched::new(&[]));
    let mut consumer = builder(&server, &states).open().await.unwrap();
    some(&mut consumer, 3).await;
    until("the checkpoint", async || states.completes() == 1).await;
    // Nothing was done for long.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    let mut changes = 0_u32;
    while start.elapsed() < Duration::from_millis(1_500) {
        changes += 1;
        consumer.set_user(changes.to_be_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let completes = (states.completes() - 1) as f64;
    assert!(completes >= 1.0 && completes <= seconds + 2.0, "{completes} of {changes} in {seconds} s");
    until("the last", async || {
        states.get(&key()).await.unwrap().is_some_and(|found| found.user == changes.to_be_bytes())
    })
    .await;
}

#[tokio::test]
async fn a_store_that_panics_ends_the_stream_and_the_shutdown_with_that() {
    let server = TestServer::start().await;
    fill(&server, 0..3).await;
    for call in [Call::Complete, Call::Renew, Call::Release] {
        let states = Arc::new(Staged::new(move |_, found| {
            assert!(found != call, "no such call: {found:?}");
            Ok(())
        }));
        let begin = builder(&server, &states).exclusive(Duration::from_millis(100));
        let mut consumer = begin.commit_interval(Duration::from_millis(5)).open().await.unwrap();
        some(&mut consumer, 3).await;
        let what = format!("the store of checkpoints has panicked: `no such call: {call:?}`");
        if call != Call::Release {
            let error = within("the error", consumer.next()).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Failed));
            assert_eq!(error.to_string(), what);
            assert!(within("the end", consumer.next()).await.is_none());
        }
        let error = within("the shutdown", consumer.shutdown(Duration::from_secs(60))).await.unwrap_err();
        assert_eq!(error.to_string(), what);
    }
}
