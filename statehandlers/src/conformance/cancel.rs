//! Group `cancel`: a call that was dropped is done, or not, or done later.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Waking, Poll};
use std::time::{Duration, Instant};

use super::context::{Context, admin, checkpoint, key, stale, store, stored, until};
use super::fixture::Fixture;
use super::lease::{LONG, grant, granted, leases};
use super::verdict::{Verdict, ensure, failed, same};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, StateHandler};
use crate::key::ConsumerKey;

/// The most polls that a call may take.
const POLLS_MAX: usize = 500;
/// How long a dropped call is given to land after all.
const LANDING: Duration = Duration::from_millis(30);
/// The longest that a call may keep the thread it is polled on, in most tries.
const BLOCKING_MAX: Duration = Duration::from_millis(20);
/// How many calls are timed.
const TIMED_CALLS: u64 = 21;

/// A call that is dropped after so many polls, each after it had itself woken: `None` if it was not done by then.
struct Dropped<'a, T> {
    call: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    polls: usize,
}

fn dropped_after<'a, T>(polls: usize, call: impl Future<Output = T> + Send + 'a) -> Dropped<'a, T> {
    Dropped { call: Box::pin(call), polls }
}

impl<T> Future for Dropped<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<Option<T>> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        match self.call.as_mut().poll(waking) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.polls == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Fails unless one of the two is stored.
async fn old_or_new(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    both: [Option<&Checkpoint>; 2],
    polls: usize,
) -> Verdict {
    let seen = handler.get(key).await?;
    ensure!(
        both.contains(&seen.as_ref()),
        "dropped after {polls} polls: stored is {seen:?}, and should be one of {both:?}"
    );
    Ok(())
}

pub(super) async fn dropped_complete_leaves_old_or_new<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    for polls in 0..POLLS_MAX {
        let (known, new) = (key(&format!("known {polls}"))?, key(&format!("new {polls}"))?);
        let (old, next) = (checkpoint(1), super::context::full(2)?);
        store(&handler, &known, &old, Fence::NONE).await?;
        let done = dropped_after(polls, handler.complete(&known, &next, Fence::NONE)).await;
        old_or_new(&handler, &known, [Some(&old), Some(&next)], polls).await?;
        let new_done = dropped_after(polls, handler.complete(&new, &next, Fence::NONE)).await;
        old_or_new(&handler, &new, [None, Some(&next)], polls).await?;
        for key in [&known, &new] {
            handler.complete(key, &next, Fence::NONE).await?;
            stored(&handler, key, Some(&next), "the dropped write, done again").await?;
            store(&handler, key, &checkpoint(3), Fence::NONE).await?;
        }
        if done.is_some() && new_done.is_some() {
            return Ok(());
        }
    }
    failed(format!("a write was not done after {POLLS_MAX} polls"))
}

pub(super) async fn dropped_complete_landing_late_cannot_regress<F: Fixture>(
    context: &Context<F>,
) -> Verdict {
    let handlers = context.open_all(2).await?;
    for polls in 0..POLLS_MAX {
        let key = key(&format!("billing {polls}"))?;
        let last = checkpoint(20);
        store(&handlers[0], &key, &checkpoint(1), Fence::NONE).await?;
        let done = dropped_after(polls, handlers[0].complete(&key, &checkpoint(10), Fence::NONE)).await;
        store(&handlers[1], &key, &last, Fence::NONE).await?;
        let begin = Instant::now();
        until("the time to land in is over", async || {
            stored(&handlers[1], &key, Some(&last), &format!("behind a write dropped after {polls} polls"))
                .await?;
            Ok(begin.elapsed() > LANDING)
        })
        .await?;
        stale(&handlers[0], &key, &checkpoint(10), Fence::NONE, last.next).await?;
        if done.is_some() {
            return Ok(());
        }
    }
    failed(format!("a write was not done after {POLLS_MAX} polls"))
}

pub(super) async fn dropped_lease_calls_leave_a_usable_lease<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let leases = leases(&handler)?;
    for polls in 0..POLLS_MAX {
        let key = key(&format!("billing {polls}"))?;
        let (one, two) = (Claimant::new("one"), Claimant::new("two"));
        let started = dropped_after(polls, leases.start(&key, &one, LONG)).await;
        let first = grant(&handler, &key, &one, LONG).await?;
        let renewed = dropped_after(polls, leases.renew(&key, first.fence, LONG)).await;
        let last = checkpoint(5);
        let released = dropped_after(polls, leases.release(&key, first.fence, Some(&last))).await;
        let seen = handler.get(&key).await?;
        ensure!(
            [None, Some(&last)].contains(&seen.as_ref()),
            "a release dropped after {polls} polls left {seen:?}"
        );
        // Where it was done, it was as a whole; else the holder does it, and a `start` that lands late makes it do it again.
        let mut claim = leases.start(&key, &two, LONG).await?;
        for _ in 0..2 {
            if matches!(claim, Claim::Processing { .. }) {
                release_at_last(&handler, &key, &one, first.fence, &last).await?;
                claim = leases.start(&key, &two, LONG).await?;
            }
        }
        let next = granted(claim, "the claim behind a dropped release")?;
        same(&next.checkpoint, &Some(last), "the checkpoint behind a dropped release")?;
        store(&handler, &key, &checkpoint(6), next.fence).await?;
        if started.is_some() && renewed.is_some() && released.is_some() {
            return Ok(());
        }
    }
    failed(format!("a call was not done after {POLLS_MAX} polls"))
}

/// Releases the lease as its holder does: a dropped `start` of its own may land late and fence it, and then it asks again.
async fn release_at_last(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    claimant: &Claimant,
    mut fence: Fence,
    last: &Checkpoint,
) -> Verdict {
    let leases = leases(handler)?;
    for _ in 0..2 {
        match leases.release(key, fence, Some(last)).await {
            Err(error) if error.kind() == StateErrorKind::Fenced => {
                fence = grant(handler, key, claimant, LONG).await?.fence;
            }
            released => return Ok(released?),
        }
    }
    failed("one dropped call has fenced the holder twice")
}

pub(super) async fn dropped_reset_leaves_old_or_new<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let admin = admin(&handler)?;
    for polls in 0..POLLS_MAX {
        let (key, gone) = (key(&format!("reset {polls}"))?, key(&format!("deleted {polls}"))?);
        let (old, new) = (checkpoint(9), checkpoint(2));
        store(&handler, &key, &old, Fence::NONE).await?;
        store(&handler, &gone, &old, Fence::NONE).await?;
        let reset = dropped_after(polls, admin.reset(&key, &new)).await;
        old_or_new(&handler, &key, [Some(&old), Some(&new)], polls).await?;
        admin.reset(&key, &new).await?;
        stored(&handler, &key, Some(&new), "the dropped reset, done again").await?;
        let deleted = dropped_after(polls, admin.delete(&gone)).await;
        old_or_new(&handler, &gone, [Some(&old), None], polls).await?;
        admin.delete(&gone).await?;
        stored(&handler, &gone, None, "the dropped delete, done again").await?;
        let listed = dropped_after(polls, admin.list()).await;
        if reset.is_some() && deleted.is_some() && listed.is_some() {
            return Ok(());
        }
    }
    failed(format!("a call was not done after {POLLS_MAX} polls"))
}

/// A call that measures the longest of its polls.
struct Timed<'a, T> {
    call: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    longest: Duration,
}

impl<T> Future for Timed<'_, T> {
    type Output = (T, Duration);

    fn poll(mut self: Pin<&mut Self>, waking: &mut Waking<'_>) -> Poll<(T, Duration)> {
        let begin = Instant::now();
        let polled = self.call.as_mut().poll(waking);
        self.longest = self.longest.max(begin.elapsed());
        polled.map(|done| (done, self.longest))
    }
}

/// The time that a call keeps its thread is looked at in the middle of many tries: a busy machine takes it away as well.
pub(super) async fn runtime_is_not_blocked<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let mut times = Vec::new();
    for offset in 0..TIMED_CALLS {
        let checkpoint = checkpoint(offset);
        let call = Box::pin(handler.complete(&key, &checkpoint, Fence::NONE));
        let (done, written) = Timed { call, longest: Duration::ZERO }.await;
        done?;
        let (done, read) = Timed { call: Box::pin(handler.get(&key)), longest: Duration::ZERO }.await;
        done?;
        times.push(written.max(read));
    }
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    ensure!(middle <= BLOCKING_MAX, "most calls keep their thread for {middle:?} at a time");
    Ok(())
}
