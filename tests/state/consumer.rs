//! The consumer against a real server: what it delivers, what it stores, and where it goes on.

mod anew;
mod gone;
mod leases;
mod letters;
mod life;
mod staged;
mod store;
mod swapped;
mod watched;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logd_client::{
    Checkpoint, Done, ErrorKind, MemoryState, Message, Nack, Position, Start, StartAt, StateHandler,
};
use logd_tests::{Random, seed};

use self::life::{Life, all, builder, fill, key, next, positions, some, text, until};
use self::watched::Watched;
use crate::in_process::{TestServer, within};

#[tokio::test]
async fn it_goes_on_at_the_exact_message_after_a_shutdown_and_after_a_drop() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..60).await;
    let states = Arc::new(MemoryState::new());
    let mut at = 0;
    for (round, count) in [1, 7, 12, 3, 20, 1].into_iter().enumerate() {
        let mut consumer = builder(&server, &states).open().await.unwrap();
        assert_eq!(some(&mut consumer, count).await, texts[at..at + count], "round {round}");
        at += count;
        let acked = consumer.lag().await.unwrap().acked;
        if round % 2 == 0 {
            let shutdown = within("the shutdown", consumer.shutdown(Duration::from_secs(9))).await.unwrap();
            assert_eq!((shutdown.is_drained, shutdown.abandoned, shutdown.committed), (true, 0, Some(acked)));
        } else {
            drop(consumer);
        }
        until("the checkpoint", async || stored(&*states).await.unwrap().next == acked).await;
    }
    let mut consumer = builder(&server, &states).follow(false).open().await.unwrap();
    assert_eq!(all(&mut consumer).await, texts[at..]);
}

async fn stored(states: &dyn StateHandler) -> Option<Checkpoint> {
    states.get(&key()).await.unwrap()
}

#[tokio::test]
async fn the_checkpoint_never_passes_what_is_not_done_and_only_that_comes_again() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..40).await;
    let states = Arc::new(Watched::new(&[]));
    let life = Life::new();
    let opened = life.spawn(builder(&server, &states).open()).await.unwrap().unwrap();
    life.spawn(async move {
        let mut consumer = opened;
        let mut in_hand = Vec::new();
        for _ in 0..30 {
            in_hand.push(next(&mut consumer).await);
        }
        for (index, delivery) in in_hand.into_iter().enumerate().rev() {
            if [5, 6, 17].contains(&index) {
                // Neither acknowledged nor dropped: as if the process died meanwhile.
                std::mem::forget(delivery);
            } else {
                delivery.ack();
            }
        }
        std::mem::forget(consumer);
    })
    .await
    .unwrap();
    until("all that is done is stored", async || {
        stored(&*states).await.is_some_and(|found| found.done.len() == 2)
    })
    .await;
    life.crash();
    let mut consumer = builder(&server, &states).follow(false).open().await.unwrap();
    let expected: Vec<String> =
        [5, 6, 17].into_iter().chain(30..40).map(|index| texts[index].clone()).collect();
    // One more is done, and the others are still known to be.
    next(&mut consumer).await.ack();
    consumer.shutdown(Duration::ZERO).await.unwrap();
    let mut consumer = builder(&server, &states).follow(false).open().await.unwrap();
    assert_eq!(all(&mut consumer).await, expected[1..]);
}

#[tokio::test]
async fn eight_workers_that_fail_and_crash_do_everything_and_nothing_again_that_is_stored() {
    let random = Arc::new(Mutex::new(Random::new(seed())));
    let server = TestServer::start().await;
    fill(&server, 0..2_000).await;
    let all = positions(&server).await;
    let states = Arc::new(Watched::new(&all));
    let mut crashes = 0;
    loop {
        let begun = stored(&*states).await.unwrap_or_default();
        let life = Life::new();
        let task = life.spawn({
            let (states, random) = (Arc::clone(&states), Arc::clone(&random));
            let builder = builder(&server, &states).follow(false).commit_interval(Duration::from_millis(5));
            async move {
                let consumer = builder.open().await.unwrap();
                let work = |message: Message| {
                    let position = message.position;
                    let is_done = |done: &Done| done.from <= position && position < done.to;
                    assert!(
                        position >= begun.next && !begun.done.iter().any(is_done),
                        "{position} came again"
                    );
                    let (time, fails) = {
                        let mut random = random.lock().unwrap();
                        (random.below(4_000) as u64, random.below(200) == 0)
                    };
                    let states = Arc::clone(&states);
                    async move {
                        tokio::time::sleep(Duration::from_micros(time)).await;
                        if fails {
                            return Err("it fails now and then");
                        }
                        states.finish(position);
                        Ok(())
                    }
                };
                consumer.for_each_concurrent(8, work).await.unwrap()
            }
        });
        let enough = states.finished() + 200 + random.lock().unwrap().below(300);
        until("some work", async || states.finished() >= enough || task.is_finished()).await;
        if task.is_finished() {
            assert!(task.await.unwrap().is_drained);
            break;
        }
        life.crash();
        crashes += 1;
    }
    assert!(crashes >= 2, "{crashes} crashes");
    assert_eq!(states.finished(), all.len());
    assert_eq!(states.violations(), Vec::<String>::new());
    assert!(stored(&*states).await.unwrap().next > *all.last().unwrap());
}

#[tokio::test]
async fn what_is_dropped_or_given_back_comes_again() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..5).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((text(&again), again.redelivered()), (texts[0].clone(), 1));
    let start = Instant::now();
    again.nack(Nack::Retry { after: Duration::from_millis(300) });
    let other = next(&mut consumer).await;
    assert_eq!(text(&other), texts[1]);
    other.nack(Nack::Skip);
    let third = next(&mut consumer).await;
    assert_eq!(text(&third), texts[2]);
    third.ack();
    assert_eq!(some(&mut consumer, 2).await, texts[3..]);
    let again = next(&mut consumer).await;
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!((text(&again), again.redelivered()), (texts[0].clone(), 2));
    assert_eq!(consumer.lag().await.unwrap().acked, Position::ZERO);
    again.ack();
    let lag = consumer.lag().await.unwrap();
    assert_eq!((lag.bytes, lag.in_hand), (0, 0));
}

#[tokio::test]
async fn the_window_holds_back() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..12).await;
    let states = Arc::new(MemoryState::new());
    for (messages, bytes, count) in [(3, 1 << 20, 3), (100, 45, 3)] {
        let mut consumer = builder(&server, &states).window(messages, bytes).open().await.unwrap();
        let mut in_hand = Vec::new();
        for text_ in &texts[..count] {
            in_hand.push(next(&mut consumer).await);
            assert_eq!(&text(in_hand.last().unwrap()), text_);
        }
        // The scanner has had the time to bring more: what is there comes at once when there is room.
        let more = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await;
        assert!(more.is_err(), "the window has room for {count}");
        in_hand.remove(0).ack();
        assert_eq!(text(&next(&mut consumer).await), texts[count]);
        drop(in_hand);
        // The acknowledged one must not be there for the second round.
        drop(consumer);
        until("the lease of nobody", async || stored(&*states).await.is_some()).await;
        logd_client::StateAdmin::delete(&*states, &key()).await.unwrap();
    }
}

#[tokio::test]
async fn starts_are_where_they_say() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..20).await;
    let mut positions = Vec::new();
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).follow(false).open().await.unwrap();
    while let Some(delivery) = consumer.next().await {
        positions.push(delivery.as_ref().unwrap().position());
        delivery.unwrap().ack();
    }
    consumer.shutdown(Duration::ZERO).await.unwrap();
    let at = positions[7];
    for (start, first) in [(Start::Earliest, 0), (Start::At(at), 7), (Start::Latest, 20)] {
        // A checkpoint is stronger than a start.
        let begin = builder(&server, &states).follow(false).start(StartAt::Checkpoint(start));
        assert!(all(&mut begin.open().await.unwrap()).await.is_empty());
        let new = Arc::new(MemoryState::new());
        let begin = builder(&server, &new).follow(false).start(StartAt::Checkpoint(start));
        assert_eq!(all(&mut begin.open().await.unwrap()).await, texts[first..], "{start:?}");
        // Unless it is forced.
        let forced = Arc::new(MemoryState::new());
        builder(&server, &forced).follow(false).open().await.unwrap().shutdown(Duration::ZERO).await.unwrap();
        for _ in 0..2 {
            let begin = builder(&server, &forced).follow(false).start(StartAt::Force(start));
            let mut consumer = begin.open().await.unwrap();
            assert_eq!(all(&mut consumer).await, texts[first..], "{start:?}, forced");
            consumer.shutdown(Duration::ZERO).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_latest_at_the_first_start_is_so_at_the_second() {
    let server = TestServer::start().await;
    fill(&server, 0..5).await;
    let states = Arc::new(MemoryState::new());
    let life = Life::new();
    let start = StartAt::Checkpoint(Start::Latest);
    let consumer = life.spawn(builder(&server, &states).start(start).open()).await.unwrap().unwrap();
    std::mem::forget(consumer);
    life.crash();
    let texts = fill(&server, 5..9).await;
    let mut consumer = builder(&server, &states).start(start).follow(false).open().await.unwrap();
    assert_eq!(all(&mut consumer).await, texts);
}

#[tokio::test]
async fn a_dropped_future_loses_nothing() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..300).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).window(4, 1 << 20).open().await.unwrap();
    let mut got = Vec::new();
    let mut dropped = 0;
    while got.len() < texts.len() {
        let polled = futures::poll!(Box::pin(consumer.next()));
        match polled {
            std::task::Poll::Ready(delivery) => {
                let delivery = delivery.unwrap().unwrap();
                got.push(text(&delivery));
                delivery.ack();
            }
            std::task::Poll::Pending => {
                dropped += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert_eq!(got, texts);
    assert!(dropped > 0);
}

#[tokio::test]
async fn a_shutdown_waits_and_tells_what_is_left() {
    let server = TestServer::start().await;
    let texts = fill(&server, 0..5).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let first = next(&mut consumer).await;
    let second = next(&mut consumer).await;
    let next_ = first.next();
    let lag = consumer.lag().await.unwrap();
    assert_eq!(
        (lag.in_hand, lag.committed, lag.acked, lag.delivered),
        (2, None, Position::ZERO, Some(second.next()))
    );
    assert!(lag.oldest_unacked.is_some() && lag.bytes == lag.head.as_u64());
    let worker = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.ack();
        second.nack(Nack::Retry { after: Duration::from_secs(100) });
    });
    // It does not wait for what is given back.
    let shutdown = within("the shutdown", consumer.shutdown(Duration::from_secs(60))).await.unwrap();
    worker.await.unwrap();
    assert_eq!((shutdown.is_drained, shutdown.abandoned, shutdown.committed), (false, 1, Some(next_)));
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let held = next(&mut consumer).await;
    assert_eq!(text(&held), texts[1]);
    let shutdown = within("the shutdown", consumer.shutdown(Duration::from_millis(50))).await.unwrap();
    assert_eq!((shutdown.is_drained, shutdown.abandoned), (false, 1));
    held.ack();
}

#[tokio::test]
async fn what_is_kept_beside_the_position_comes_back() {
    let server = TestServer::start().await;
    fill(&server, 0..5).await;
    let states = Arc::new(MemoryState::new());
    let mut consumer = builder(&server, &states).open().await.unwrap();
    let error = consumer.set_user(vec![0; 4097]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    consumer.set_user(*b"\0sum=17\xff").unwrap();
    // It is stored without a message, too.
    until("the bytes", async || stored(&*states).await.is_some_and(|found| found.user == b"\0sum=17\xff"))
        .await;
    some(&mut consumer, 2).await;
    consumer.shutdown(Duration::ZERO).await.unwrap();
    let consumer = builder(&server, &states).open().await.unwrap();
    assert_eq!(consumer.user(), b"\0sum=17\xff");
}
