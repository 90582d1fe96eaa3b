//! Group `fenced`, the second half: how leases end. And what every property about leases is made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::context::{Context, LOOK_EVERY, WAIT_MAX, checkpoint, key, stale, store, stored, until};
use super::fixture::{Fixture, LeaseEnd};
use super::hooks::Skew;
use super::process::{Child, Job};
use super::verdict::{Verdict, ensure, failed, refused, same, skipped};
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, Grant, LeaseHandler, StateHandler};
use crate::key::ConsumerKey;

/// A lease that does not run out in a test.
pub(super) const LONG: Duration = Duration::from_secs(3600);
/// A lease that runs out in a test.
pub(super) const SHORT: Duration = Duration::from_millis(200);
/// The longest between a grant and the next call, on a machine that is busy.
const LEFT_OFF_MAX: Duration = Duration::from_secs(60);

pub(super) fn leases(handler: &Arc<dyn StateHandler>) -> Verdict<&dyn LeaseHandler> {
    handler.leases().map_or_else(|| skipped("it has no leases"), Ok)
}

pub(super) fn granted(claim: Claim, what: &str) -> Verdict<Grant> {
    match claim {
        Claim::Granted(grant) => {
            ensure!(!grant.fence.is_none(), "{what}: it was granted without a fence");
            Ok(grant)
        }
        Claim::Processing { owner, .. } => failed(format!("{what}: it was not granted, `{owner}` has it")),
    }
}

pub(super) async fn grant(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    claimant: &Claimant,
    ttl: Duration,
) -> Verdict<Grant> {
    granted(leases(handler)?.start(key, claimant, ttl).await?, &format!("the claim of `{}`", claimant.name))
}

/// Fails unless the lease is another's, and the answer says whose.
pub(super) async fn is_taken(handler: &Arc<dyn StateHandler>, key: &ConsumerKey, owner: &str) -> Verdict {
    match leases(handler)?.start(key, &Claimant::new("intruder"), LONG).await? {
        Claim::Processing { owner: told, .. } => same(&told.as_str(), &owner, "the owner that was told"),
        Claim::Granted(_) => failed(format!("the lease of `{owner}` was granted to another")),
    }
}

/// Asks for the lease until it is granted.
pub(super) async fn wait_for_grant(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    claimant: &Claimant,
    ttl: Duration,
) -> Verdict<Grant> {
    let begin = Instant::now();
    loop {
        match leases(handler)?.start(key, claimant, ttl).await {
            Ok(Claim::Granted(grant)) => return Ok(grant),
            Ok(Claim::Processing { .. }) => {}
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(
            begin.elapsed() < WAIT_MAX,
            "`{}` was not granted the lease within {WAIT_MAX:?}",
            claimant.name
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn timed<F: Fixture>(context: &Context<F>) -> Verdict {
    match context.store.lease_end() {
        LeaseEnd::Time => Ok(()),
        LeaseEnd::Holder => skipped("its leases end with their holder, whatever their time"),
    }
}

pub(super) async fn release_writes_last_and_frees<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let first = grant(&handlers[0], &key, &Claimant::new("one"), LONG).await?;
    leases(&handlers[0])?.release(&key, first.fence, Some(&checkpoint(5))).await?;
    stored(&handlers[1], &key, Some(&checkpoint(5)), "after the release").await?;
    let second = grant(&handlers[1], &key, &Claimant::new("two"), LONG).await?;
    same(&second.checkpoint, &Some(checkpoint(5)), "the checkpoint of the next grant")?;
    leases(&handlers[1])?.release(&key, second.fence, None).await?;
    stored(&handlers[0], &key, Some(&checkpoint(5)), "after a release without a checkpoint").await?;
    grant(&handlers[0], &key, &Claimant::new("three"), LONG).await.map(|_| ())
}

pub(super) async fn stale_release_frees<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let first = grant(&handlers[0], &key, &Claimant::new("one"), LONG).await?;
    store(&handlers[0], &key, &checkpoint(9), first.fence).await?;
    let result = leases(&handlers[0])?.release(&key, first.fence, Some(&checkpoint(5))).await;
    let kinds = [StateErrorKind::Stale { stored: checkpoint(9).next }];
    refused(result, &kinds, "a release with an older checkpoint")?;
    stored(&handlers[0], &key, Some(&checkpoint(9)), "after a release with an older checkpoint").await?;
    let second = grant(&handlers[1], &key, &Claimant::new("two"), LONG).await?;
    same(&second.checkpoint, &Some(checkpoint(9)), "the checkpoint of the next grant")
}

pub(super) async fn repeated_release_is_no_error<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let first = grant(&handlers[0], &key, &Claimant::new("one"), LONG).await?;
    for _ in 0..3 {
        leases(&handlers[0])?.release(&key, first.fence, Some(&checkpoint(5))).await?;
        leases(&handlers[0])?.release(&key, first.fence, None).await?;
    }
    let second = grant(&handlers[1], &key, &Claimant::new("two"), LONG).await?;
    let late = leases(&handlers[0])?.release(&key, first.fence, Some(&checkpoint(6))).await;
    refused(late, &[StateErrorKind::Fenced], "a release that is repeated after the next grant")?;
    is_taken(&handlers[0], &key, "two").await?;
    store(&handlers[1], &key, &checkpoint(7), second.fence).await
}

pub(super) async fn released_lease_is_not_renewed<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let first = grant(&handlers[0], &key, &Claimant::new("one"), LONG).await?;
    leases(&handlers[0])?.release(&key, first.fence, None).await?;
    let late = leases(&handlers[0])?.renew(&key, first.fence, LONG).await;
    refused(late, &[StateErrorKind::Fenced], "renewing a lease that was given back")?;
    grant(&handlers[1], &key, &Claimant::new("two"), LONG).await.map(|_| ())
}

pub(super) async fn lease_runs_out<F: Fixture>(context: &Context<F>) -> Verdict {
    timed(context)?;
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let begin = Instant::now();
    let first = grant(&handlers[0], &key, &Claimant::new("one"), SHORT).await?;
    store(&handlers[0], &key, &checkpoint(5), first.fence).await?;
    let second = wait_for_grant(&handlers[1], &key, &Claimant::new("two"), LONG).await?;
    // The store's clock may count whole milliseconds.
    let least = SHORT.saturating_sub(Duration::from_millis(2));
    ensure!(begin.elapsed() >= least, "a lease of {SHORT:?} ended after {:?}", begin.elapsed());
    same(&second.checkpoint, &Some(checkpoint(5)), "the checkpoint of the next grant")?;
    ensure!(
        second.fence.epoch > first.fence.epoch,
        "the epoch did not grow from {} to {}",
        first.fence,
        second.fence
    );
    let late = handlers[0].complete(&key, &checkpoint(6), first.fence).await;
    refused(late, &[StateErrorKind::Fenced], "the write of who let the lease run out")?;
    let late = leases(&handlers[0])?.renew(&key, first.fence, LONG).await;
    refused(late, &[StateErrorKind::Fenced], "the renewal of who let the lease run out")?;
    is_taken(&handlers[0], &key, "two").await
}

pub(super) async fn renewed_lease_lasts<F: Fixture>(context: &Context<F>) -> Verdict {
    timed(context)?;
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let first = grant(&handlers[0], &key, &Claimant::new("one"), SHORT).await?;
    leases(&handlers[0])?.renew(&key, first.fence, LONG).await?;
    let begin = Instant::now();
    until("the first time of a lease is over", async || {
        is_taken(&handlers[1], &key, "one").await?;
        Ok(begin.elapsed() > SHORT * 2)
    })
    .await?;
    // A shorter time counts as well.
    leases(&handlers[0])?.renew(&key, first.fence, SHORT).await?;
    wait_for_grant(&handlers[1], &key, &Claimant::new("two"), LONG).await.map(|_| ())
}

pub(super) async fn processing_tells_what_is_left<F: Fixture>(context: &Context<F>) -> Verdict {
    timed(context)?;
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let (one, short) = (Claimant::new("one"), LONG / 4);
    // The time of the last grant or renewal counts, whether it is longer or shorter than the one before.
    let mut fence = grant(&handlers[0], &key, &one, LONG).await?.fence;
    is_left(&handlers[1], &key, LONG).await?;
    leases(&handlers[0])?.renew(&key, fence, short).await?;
    is_left(&handlers[1], &key, short).await?;
    for ttl in [LONG, short] {
        fence = grant(&handlers[0], &key, &one, ttl).await?.fence;
        is_left(&handlers[1], &key, ttl).await?;
    }
    leases(&handlers[0])?.renew(&key, fence, LONG).await?;
    is_left(&handlers[1], &key, LONG).await
}

/// Fails unless somebody else, who asks for another time, is told that nearly all of `ttl` is left of the lease.
async fn is_left(handler: &Arc<dyn StateHandler>, key: &ConsumerKey, ttl: Duration) -> Verdict {
    match leases(handler)?.start(key, &Claimant::new("two"), SHORT).await? {
        Claim::Granted(_) => failed(format!("a lease of {ttl:?} was granted to another at once")),
        Claim::Processing { retry_in, .. } => {
            let is_right = (ttl.saturating_sub(LEFT_OFF_MAX)..=ttl).contains(&retry_in);
            ensure!(is_right, "of a lease of {ttl:?}, it was told that {retry_in:?} is left");
            Ok(())
        }
    }
}

pub(super) async fn lapsed_lease_can_be_renewed<F: Fixture>(context: &Context<F>) -> Verdict {
    timed(context)?;
    let handlers = context.open_all(2).await?;
    let (lapsed, witness) = (key("lapsed")?, key("witness")?);
    let first = grant(&handlers[0], &lapsed, &Claimant::new("one"), SHORT).await?;
    // A lease that was granted later has run out when another is granted it: then so has the first.
    grant(&handlers[0], &witness, &Claimant::new("one"), SHORT).await?;
    wait_for_grant(&handlers[1], &witness, &Claimant::new("two"), LONG).await?;
    store(&handlers[0], &lapsed, &checkpoint(5), first.fence).await?;
    leases(&handlers[0])?.renew(&lapsed, first.fence, LONG).await?;
    is_taken(&handlers[1], &lapsed, "one").await?;
    store(&handlers[0], &lapsed, &checkpoint(6), first.fence).await
}

pub(super) async fn lease_of_a_killed_holder_ends<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key(super::process::CONSUMER)?;
    let child = Child::start(context, Job::Hold)?;
    let epoch = child.kill_after(1)?;
    let handler = context.open().await?;
    let next = wait_for_grant(&handler, &key, &Claimant::new("two"), LONG).await?;
    ensure!(
        next.fence.epoch > epoch,
        "the epoch of the killed holder was {epoch}, and the next is {}",
        next.fence
    );
    store(&handler, &key, &checkpoint(u64::MAX), next.fence).await
}

pub(super) async fn client_clocks_an_hour_off_change_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    for (name, skew) in [("ahead", Skew::HourAhead), ("behind", Skew::HourBehind)] {
        let key = key(name)?;
        let Some(skewed) = context.store.open_skewed(skew).await? else {
            return skipped("the fixture has no `open_skewed`: the clock of a handler cannot be set");
        };
        let held = grant(&handler, &key, &Claimant::new("right"), LONG / 4).await?;
        is_taken(&skewed, &key, "right").await?;
        leases(&handler)?.release(&key, held.fence, None).await?;
        let held = grant(&skewed, &key, &Claimant::new("skewed"), LONG / 4).await?;
        is_taken(&handler, &key, "skewed").await?;
        store(&skewed, &key, &checkpoint(5), held.fence).await?;
        leases(&skewed)?.release(&key, held.fence, Some(&checkpoint(6))).await?;
        if timed(context).is_ok() {
            grant(&skewed, &key, &Claimant::new("skewed"), SHORT).await?;
            wait_for_grant(&handler, &key, &Claimant::new("right"), SHORT).await?;
            wait_for_grant(&skewed, &key, &Claimant::new("skewed"), SHORT).await?;
        }
    }
    Ok(())
}

/// Fails unless a call with each of these fences changes nothing: the position, and that `owner` has the lease.
pub(super) async fn are_fenced(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    fences: &[Fence],
    owner: &str,
) -> Verdict {
    let before = handler.get(key).await?;
    let next = before.as_ref().map_or(0, |checkpoint| checkpoint.next.offset.as_u64());
    for fence in fences {
        for offset in [0, next, next.saturating_add(1), u64::MAX] {
            let checkpoint = checkpoint(offset);
            let kinds = [StateErrorKind::Fenced];
            let what = |call: &str| format!("{call} at `{offset}` with the fence {fence}");
            refused(handler.complete(key, &checkpoint, *fence).await, &kinds, &what("complete"))?;
            let released = leases(handler)?.release(key, *fence, Some(&checkpoint)).await;
            refused(released, &kinds, &what("release"))?;
        }
        refused(leases(handler)?.renew(key, *fence, LONG).await, &[StateErrorKind::Fenced], "renew")?;
        refused(leases(handler)?.release(key, *fence, None).await, &[StateErrorKind::Fenced], "release")?;
        stored(handler, key, before.as_ref(), "after calls with a fence that is not the last").await?;
        is_taken(handler, key, owner).await?;
    }
    Ok(())
}

/// Fails unless who has the fence can store this offset, and then no older one.
pub(super) async fn moves_on(
    handler: &Arc<dyn StateHandler>,
    key: &ConsumerKey,
    offset: u64,
    fence: Fence,
) -> Verdict {
    store(handler, key, &checkpoint(offset), fence).await?;
    stale(handler, key, &checkpoint(offset.saturating_sub(1)), fence, checkpoint(offset).next).await?;
    stored(handler, key, Some(&checkpoint(offset)), "what the holder wrote").await
}
