//! Group `monotonic`: a position never goes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::{Context, at, checkpoint, full, key, stale, store, stored};
use super::fixture::Fixture;
use super::random::{Random, seed, with_seed};
use super::verdict::{Verdict, ensure, failed, same};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind;
use crate::fence::Fence;
use crate::handler::{Committed, StateHandler};
use crate::key::ConsumerKey;
use crate::position::Position;

/// How many write at once.
const WRITERS: u64 = 8;
/// How often each writes.
const WRITES: u64 = 12;
/// How many write at once in a race.
const RACERS: u64 = 4;
/// How many races there are, each for a key of its own.
const RACES: u64 = 50;
/// How often a call is made again that says it can be.
const TRIES_MAX: usize = 50;

pub(super) async fn same_write_twice_is_unchanged<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    for checkpoint in [checkpoint(0), full(60)?] {
        store(&handler, &key, &checkpoint, Fence::NONE).await?;
        for _ in 0..2 {
            let again = handler.complete(&key, &checkpoint, Fence::NONE).await?;
            same(&again, &Committed::Unchanged, "the same once more")?;
            stored(&handler, &key, Some(&checkpoint), "after the same once more").await?;
        }
    }
    Ok(())
}

pub(super) async fn same_position_is_replaced<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let base = full(60)?;
    store(&handler, &key, &base, Fence::NONE).await?;
    let changes = [
        Checkpoint { user: b"other".to_vec(), ..base.clone() },
        Checkpoint { head_attempts: 9, ..base.clone() },
        Checkpoint { done: Vec::new(), ..base.clone() },
        Checkpoint { anchor: None, ..base.clone() },
        Checkpoint { written_at: 1, ..base.clone() },
        Checkpoint::at(base.next),
    ];
    for changed in changes {
        store(&handler, &key, &changed, Fence::NONE).await?;
        stored(&handler, &key, Some(&changed), "another at the same position").await?;
    }
    Ok(())
}

pub(super) async fn older_is_stale_and_changes_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let newest = full(60)?;
    store(&handler, &key, &newest, Fence::NONE).await?;
    for older in [at(60, 11), at(60, 0), at(59, 12), at(59, u64::MAX), at(6, 0), at(0, 0)] {
        stale(&handler, &key, &Checkpoint::at(older), Fence::NONE, newest.next).await?;
        stored(&handler, &key, Some(&newest), "after an older one").await?;
    }
    Ok(())
}

pub(super) async fn late_duplicate_does_not_regress<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let last = checkpoint(30);
    for offset in [10, 20, 30] {
        store(&handlers[0], &key, &checkpoint(offset), Fence::NONE).await?;
    }
    for late in &handlers {
        for offset in [10, 20] {
            stale(late, &key, &checkpoint(offset), Fence::NONE, last.next).await?;
        }
        stored(late, &key, Some(&last), "after late duplicates").await?;
    }
    Ok(())
}

pub(super) async fn order_is_not_that_of_text<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    for (older, newer) in [
        (at(9, 0), at(10, 0)),
        (at(99, 0), at(100, 0)),
        (at(5, 9), at(5, 10)),
        (at(9, 99), at(10, 9)),
        (at(1, u64::MAX), at(2, 0)),
        (at(999_999_999, 0), at(10_000_000_000, 0)),
    ] {
        let key = key(&format!("{older} {newer}"))?;
        store(&handler, &key, &Checkpoint::at(older), Fence::NONE).await?;
        store(&handler, &key, &Checkpoint::at(newer), Fence::NONE).await?;
        stale(&handler, &key, &Checkpoint::at(older), Fence::NONE, newer).await?;
    }
    Ok(())
}

pub(super) async fn clock_of_the_writer_means_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let written = |offset, written_at| Checkpoint { written_at, ..checkpoint(offset) };
    for checkpoint in [written(1, u64::MAX), written(2, 5), written(3, 0)] {
        store(&handler, &key, &checkpoint, Fence::NONE).await?;
    }
    stale(&handler, &key, &written(2, u64::MAX), Fence::NONE, at(3, 0)).await?;
    stored(&handler, &key, Some(&written(3, 0)), "after an older one with a later time").await
}

pub(super) async fn concurrent_completes_end_at_the_maximum<F: Fixture>(context: &Context<F>) -> Verdict {
    let seed = seed()?;
    with_seed(concurrent(context, seed).await, seed)
}

async fn concurrent<F: Fixture>(context: &Context<F>, seed: u64) -> Verdict {
    let handlers = context.open_all(3).await?;
    let key = key("billing")?;
    let is_done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(never_back(Arc::clone(&handlers[2]), key.clone(), Arc::clone(&is_done)));
    let mut offsets: Vec<u64> = (1..=WRITERS * WRITES).collect();
    Random::new(seed).shuffle(&mut offsets);
    // Whoever writes the maximum has lower ones left.
    let maximum = offsets.iter().position(|offset| *offset == WRITERS * WRITES).unwrap_or_default();
    offsets.swap(maximum, 1);
    let writers: Vec<_> = offsets
        .chunks(usize::try_from(WRITES).unwrap_or(1))
        .zip(handlers.iter().cycle())
        .map(|(offsets, handler)| tokio::spawn(write_all(Arc::clone(handler), key.clone(), offsets.to_vec())))
        .collect();
    for writer in writers {
        writer.await??;
    }
    is_done.store(true, Ordering::Release);
    reader.await??;
    for handler in &handlers {
        stored(handler, &key, Some(&checkpoint(WRITERS * WRITES)), "after all writers").await?;
    }
    Ok(())
}

/// A store that reads, compares and writes in steps of their own loses the higher of two writes here.
pub(super) async fn racing_first_writes_end_at_the_maximum<F: Fixture>(context: &Context<F>) -> Verdict {
    let seed = seed()?;
    with_seed(racing(context, seed).await, seed)
}

async fn racing<F: Fixture>(context: &Context<F>, seed: u64) -> Verdict {
    let handlers = context.open_all(3).await?;
    let mut random = Random::new(seed);
    let mut offsets: Vec<u64> = (1..=RACERS).collect();
    for race in 0..RACES {
        let key = key(&format!("race {race}"))?;
        random.shuffle(&mut offsets);
        let writes = offsets.iter().zip(handlers.iter().cycle());
        let writes: Vec<_> = writes
            .map(|(offset, handler)| tokio::spawn(write_all(Arc::clone(handler), key.clone(), vec![*offset])))
            .collect();
        for write in writes {
            write.await??;
        }
        stored(&handlers[0], &key, Some(&checkpoint(RACERS)), "after a race").await?;
    }
    Ok(())
}

async fn write_all(handler: Arc<dyn StateHandler>, key: ConsumerKey, offsets: Vec<u64>) -> Verdict {
    for offset in offsets {
        let checkpoint = checkpoint(offset);
        let mut tries = 0;
        loop {
            match handler.complete(&key, &checkpoint, Fence::NONE).await {
                Ok(_) => break,
                Err(error) if matches!(error.kind(), StateErrorKind::Stale { stored } if stored > checkpoint.next) =>
                {
                    break;
                }
                Err(error) if error.is_retryable() && tries < TRIES_MAX => tries += 1,
                Err(error) => return failed(format!("one of many writers: {error}")),
            }
        }
        let seen = handler.get(&key).await?.map(|checkpoint| checkpoint.next);
        ensure!(
            seen >= Some(checkpoint.next),
            "after `{}` was acknowledged, {seen:?} was read",
            checkpoint.next
        );
    }
    Ok(())
}

async fn never_back(handler: Arc<dyn StateHandler>, key: ConsumerKey, is_done: Arc<AtomicBool>) -> Verdict {
    let mut last: Option<Position> = None;
    while !is_done.load(Ordering::Acquire) {
        let next = handler.get(&key).await?.map(|checkpoint| checkpoint.next);
        ensure!(next >= last, "a reader saw {last:?}, and then {next:?}");
        last = next;
        tokio::task::yield_now().await;
    }
    Ok(())
}
