//! Several consumers of one name, and resets under a running one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use logd_client::{
    Checkpoint, ConsumerBuilder, Error, ErrorKind, MemoryState, Position, Start, StartAt, StateAdmin,
    StateEntry, StateErrorKind, StateHandler, WhenGone,
};

use super::gone::{make_anew, other};
use super::life::{Life, builder, fill, key, next, some, text, until};
use super::staged::{Call, Staged};
use crate::in_process::{TestServer, within};

const TTL: Duration = Duration::from_secs(3600);

async fn next_stored(states: &MemoryState) -> Position {
    states.get(&key()).await.unwrap().unwrap_or_default().next
}

#[tokio::test]
async fn the_second_fails_or_waits() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..6).await;
    let states = Arc::new(MemoryState::new());
    let begin = || builder(&server, &states).exclusive(TTL);
    let mut first = begin().owner("the first").open().await.unwrap();
    let error = begin().open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Fenced));
    assert!(error.to_string().contains("`the first`"), "{error}");
    let second = tokio::spawn(begin().wait_for_lease().open());
    assert_eq!(some(&mut first, 2).await, texts[..2]);
    assert!(!second.is_finished());
    first.shutdown(Duration::ZERO).await.unwrap();
    let mut second = within("the lease", second).await.unwrap().unwrap();
    assert_eq!(some(&mut second, 4).await, texts[2..]);
}

#[tokio::test]
async fn a_lease_lives_longer_than_its_time_while_its_reader_does() {
    let server = TestServer::start().await;
    fill(&server, 0..6).await;
    let states = Arc::new(MemoryState::new());
    let begin = || builder(&server, &states).exclusive(Duration::from_millis(200));
    let first = begin().open().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(begin().open().await.is_err());
    drop(first);
    within("the lease", begin().wait_for_lease().open()).await.unwrap();
}

#[tokio::test]
async fn an_open_that_fails_or_is_dropped_gives_the_lease_back() {
    let server = TestServer::start().await;
    fill(&server, 0..6).await;
    let states = Arc::new(MemoryState::new());
    states.reset(&key(), &Checkpoint::at("999999.0".parse().unwrap())).await.unwrap();
    let begin = || builder(&server, &states).exclusive(TTL);
    for _ in 0..2 {
        let error = begin().open().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Gap { .. }), "{error}");
    }
    states.reset(&key(), &Checkpoint::default()).await.unwrap();
    // Dropped in the middle, with the lease in its hands.
    for polls in 1..30 {
        let mut open = Box::pin(begin().open());
        for _ in 0..polls {
            if let std::task::Poll::Ready(opened) = futures::poll!(&mut open) {
                drop(opened);
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(open);
        until("the lease", async || states.list().await.unwrap().iter().all(|entry| entry.owner.is_none()))
            .await;
        within("the consumer", begin().open()).await.unwrap().shutdown(TTL).await.unwrap();
    }
}

#[tokio::test]
async fn one_that_was_replaced_says_why_and_changes_nothing() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..9).await;
    let states = Arc::new(MemoryState::new());
    let mut first = builder(&server, &states)
        .exclusive(TTL)
        .commit_interval(Duration::from_millis(10))
        .open()
        .await
        .unwrap();
    let held = next(&mut first).await;
    // An administrator frees the lease, and another takes it.
    let at = next_stored(&states).await;
    states.reset(&key(), &Checkpoint::at(at)).await.unwrap();
    let mut second = builder(&server, &states).exclusive(TTL).owner("the second").open().await.unwrap();
    held.ack();
    let error = loop {
        match within("the error", first.next()).await.unwrap() {
            Ok(delivery) => std::mem::forget(delivery),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Fenced));
    assert!(error.to_string().contains("`the second`"), "{error}");
    assert!(within("the end", first.next()).await.is_none());
    assert_eq!(next_stored(&states).await, at);
    assert_eq!(some(&mut second, 3).await, texts[..3]);
    let shutdown = second.shutdown(TTL).await.unwrap();
    // Nor does it take the lease when that is free.
    let error = first.shutdown(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Fenced));
    assert_eq!(Some(next_stored(&states).await), shutdown.committed);
    assert!(states.list().await.unwrap()[0].owner.is_none());
}

async fn check_reset(begin: impl Fn() -> ConsumerBuilder, states: &MemoryState, texts: &[String]) {
    let mut consumer = begin().commit_interval(Duration::from_millis(10)).open().await.unwrap();
    let mut third = Position::ZERO;
    for index in 0..8 {
        let delivery = next(&mut consumer).await;
        if index == 2 {
            third = delivery.position();
        }
        delivery.ack();
    }
    let acked = consumer.lag().await.unwrap().acked;
    until("the checkpoint", async || next_stored(states).await == acked).await;
    let held = next(&mut consumer).await;
    states.reset(&key(), &Checkpoint::at(third)).await.unwrap();
    // Without a lease it is noticed when something is to be stored.
    let second = next(&mut consumer).await;
    second.ack();
    let again = loop {
        let delivery = next(&mut consumer).await;
        if delivery.position() <= third {
            break delivery;
        }
        delivery.ack();
    };
    assert_eq!(text(&again), texts[2]);
    // What was in hand before does nothing any more.
    held.ack();
    again.ack();
    assert_eq!(some(&mut consumer, texts.len() - 3).await, texts[3..]);
    let shutdown = consumer.shutdown(TTL).await.unwrap();
    assert!(shutdown.is_drained);
    assert_eq!(Some(next_stored(states).await), shutdown.committed);
}

#[tokio::test]
async fn a_reset_under_a_running_consumer_is_followed() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let states = Arc::new(MemoryState::new());
    check_reset(|| builder(&server, &states), &states, &texts).await;
    let states = Arc::new(MemoryState::new());
    // The renewal finds out.
    check_reset(|| builder(&server, &states).exclusive(Duration::from_millis(300)), &states, &texts).await;
}

#[tokio::test]
async fn a_key_that_was_reset_once_is_read_without_repetition() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    for deliveries_max in [None, Some(3)] {
        let states = Arc::new(MemoryState::new());
        states.reset(&key(), &Checkpoint::default()).await.unwrap();
        let begin = || {
            let begin = builder(&server, &states).commit_interval(Duration::from_millis(5));
            match deliveries_max {
                Some(max) => begin.deliveries_max(max),
                None => begin,
            }
        };
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut consumer = begin().open().await.unwrap();
            for _ in 0..5 {
                seen.extend(some(&mut consumer, 1).await);
                let acked = consumer.lag().await.unwrap().acked;
                until("the checkpoint", async || next_stored(&states).await == acked).await;
            }
            consumer.shutdown(TTL).await.unwrap();
        }
        // Too short for a checkpoint in between.
        let mut consumer = begin().commit_interval(TTL).open().await.unwrap();
        seen.extend(some(&mut consumer, 2).await);
        consumer.shutdown(TTL).await.unwrap();
        let mut consumer = begin().open().await.unwrap();
        seen.extend(some(&mut consumer, 3).await);
        assert_eq!(seen, texts);
    }
}

#[tokio::test]
async fn one_that_died_is_followed_when_its_lease_has_run_out() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..4).await;
    let states = Arc::new(MemoryState::new());
    let life = Life::new();
    life.hold(builder(&server, &states).exclusive(Duration::from_millis(300)), 2).await;
    life.crash();
    let begin = builder(&server, &states).exclusive(TTL).wait_for_lease();
    let mut consumer = within("the lease", begin.open()).await.unwrap();
    assert_eq!(some(&mut consumer, 4).await, texts);
}

async fn entry(states: &MemoryState) -> StateEntry {
    states.list().await.unwrap().remove(0)
}

fn is_fenced_by_the_second(error: &Error) -> bool {
    error.kind() == ErrorKind::State(StateErrorKind::Fenced) && error.to_string().contains("`the second`")
}

#[tokio::test]
async fn a_jump_resets_nothing_that_another_reader_has_the_lease_of() {
    for is_exclusive in [true, false] {
        let mut server = TestServer::start().await;
        fill(&server, 0..60).await;
        let states = Arc::new(MemoryState::new());
        let begin = builder(&server, &states).when_gone(WhenGone::Jump);
        // Its lease is renewed so seldom that it does not notice by that.
        let begin = if is_exclusive { begin.exclusive(TTL) } else { begin };
        let mut first = begin.open().await.unwrap();
        some(&mut first, 60).await;
        let acked = first.lag().await.unwrap().acked;
        until("the checkpoint", async || next_stored(&states).await == acked).await;
        if is_exclusive {
            let stored = states.get(&key()).await.unwrap().unwrap();
            states.reset(&key(), &stored).await.unwrap();
        }
        let second = builder(&server, &states).exclusive(TTL).owner("the second").open().await.unwrap();
        let before = entry(&states).await;
        make_anew(&mut server, other(10)).await;
        let gap = within("the gap", first.next()).await.unwrap().unwrap_err();
        assert!(matches!(gap.kind(), ErrorKind::Gap { .. }), "{gap}");
        let error = within("the error", first.next()).await.unwrap().unwrap_err();
        assert!(is_fenced_by_the_second(&error), "{error}");
        assert!(within("the end", first.next()).await.is_none());
        let after = entry(&states).await;
        assert_eq!((after.epoch, after.owner), (before.epoch, before.owner));
        assert_eq!(after.checkpoint.unwrap(), before.checkpoint.unwrap());
        drop(second);
    }
}

#[tokio::test]
async fn a_reset_just_before_a_jump_is_what_is_followed() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let to = Arc::new(Mutex::new(None));
    let states = Arc::new(Staged::new({
        let to = Arc::clone(&to);
        move |states, call| {
            if call == Call::Renew
                && let Some(to) = to.lock().unwrap().take()
            {
                states.reset(&key(), &Checkpoint::at(to)).now_or_never().unwrap().unwrap();
            }
            Ok(())
        }
    }));
    let begin = builder(&server, &states).when_gone(WhenGone::Jump).exclusive(TTL);
    let mut consumer = begin.open().await.unwrap();
    some(&mut consumer, 60).await;
    let texts = make_anew(&mut server, other(60)).await;
    *to.lock().unwrap() = Some(super::positions(&server).await[5]);
    let gap = within("the gap", consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(gap.kind(), ErrorKind::Gap { .. }), "{gap}");
    assert_eq!(some(&mut consumer, 55).await, texts[5..]);
    assert_eq!(states.count(Call::Reset), 0);
    assert!(consumer.shutdown(Duration::ZERO).await.unwrap().is_drained);
}

#[tokio::test]
async fn a_start_resets_nothing_that_another_reader_has_the_lease_of() {
    let mut server = TestServer::start().await;
    fill(&server, 0..60).await;
    let states = Arc::new(MemoryState::new());
    let mut second = builder(&server, &states).exclusive(TTL).owner("the second").open().await.unwrap();
    some(&mut second, 60).await;
    let acked = second.lag().await.unwrap().acked;
    until("the checkpoint", async || next_stored(&states).await == acked).await;
    let before = entry(&states).await;
    make_anew(&mut server, other(10)).await;
    let force = builder(&server, &states).start(StartAt::Force(Start::Earliest));
    for begin in [force, builder(&server, &states).when_gone(WhenGone::Jump)] {
        let error = begin.open().await.unwrap_err();
        assert!(is_fenced_by_the_second(&error), "{error}");
        let after = entry(&states).await;
        assert_eq!((after.epoch, &after.owner), (before.epoch, &before.owner));
        assert_eq!(after.checkpoint.unwrap(), before.checkpoint.clone().unwrap());
    }
    // It waits where it is to.
    let force = builder(&server, &states).start(StartAt::Force(Start::Earliest)).wait_for_lease();
    let force = tokio::spawn(force.open());
    second.shutdown(Duration::ZERO).await.unwrap();
    let mut force = within("the lease", force).await.unwrap().unwrap();
    assert_eq!(some(&mut force, 10).await, other(10));
}

#[tokio::test]
async fn a_reset_while_a_consumer_begins_is_followed() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let positions = super::positions(&server).await;
    for is_exclusive in [false, true] {
        for (to, times) in [(positions[3], 1), (positions[12], 2)] {
            let left = AtomicUsize::new(times);
            let states = Arc::new(Staged::new(move |states, call| {
                let is_left = |left: usize| left.checked_sub(1);
                if call == Call::Complete
                    && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_left).is_ok()
                {
                    states.reset(&key(), &Checkpoint::at(to)).now_or_never().unwrap().unwrap();
                }
                Ok(())
            }));
            states.inner.reset(&key(), &Checkpoint::at(positions[8])).await.unwrap();
            let begin = builder(&server, &states).deliveries_max(3);
            let begin = if is_exclusive { begin.exclusive(TTL) } else { begin };
            let mut consumer = begin.open().await.unwrap();
            let stored = states.get(&key()).await.unwrap().unwrap();
            assert_eq!((stored.next, stored.head_attempts), (to, 1));
            let from = positions.iter().position(|position| *position == to).unwrap();
            assert_eq!(some(&mut consumer, 20 - from).await, texts[from..]);
            consumer.shutdown(Duration::ZERO).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_is_moved_all_the_time_is_not_followed_without_end() {
    let server = TestServer::start().await;
    fill(&server, 0..20).await;
    let states = Arc::new(Staged::new(|states, call| {
        if call == Call::Complete {
            states.reset(&key(), &Checkpoint::default()).now_or_never().unwrap().unwrap();
        }
        Ok(())
    }));
    let begin = builder(&server, &states).deliveries_max(3).exclusive(TTL);
    let error = within("the error", begin.open()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State(StateErrorKind::Fenced));
    assert!(error.to_string().contains("was moved `5` times"), "{error}");
    until("the lease", async || entry(&states.inner).await.owner.is_none()).await;
}
