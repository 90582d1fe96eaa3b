//! Group `fenced`, the first half: whoever was replaced changes nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::context::{Context, admin, checkpoint, full, key, stale, store, stored};
use super::fixture::{Fixture, LeaseEnd};
use super::lease::{LONG, SHORT, are_fenced, grant, is_taken, leases, moves_on, wait_for_grant};
pub(super) use super::lease::{
    client_clocks_an_hour_off_change_nothing, lapsed_lease_can_be_renewed, lease_of_a_killed_holder_ends,
    lease_runs_out, processing_tells_what_is_left, release_writes_last_and_frees,
    released_lease_is_not_renewed, renewed_lease_lasts, repeated_release_is_no_error, stale_release_frees,
};
use super::verdict::{Verdict, ensure, failed, refused, same, skipped};
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, Committed};

/// How many ask for the lease at once.
const CLAIMANTS: usize = 30;
/// How often a claimant asks again that was told it can.
const TRIES_MAX: usize = 100;

pub(super) async fn epochs_grow_and_nonces_differ<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let mut nonces = HashSet::new();
    let mut epoch = 0;
    for round in 0..6 {
        // Every other claim is that of who has the lease already.
        let grant = match round % 2 {
            0 => grant(&handler, &key, &Claimant::new("one"), LONG).await?,
            _ => {
                let claimant = Claimant::new("two");
                grant(&handler, &key, &claimant, LONG).await?;
                grant(&handler, &key, &claimant, LONG).await?
            }
        };
        let fence = grant.fence;
        ensure!(fence.epoch > epoch, "behind the epoch {epoch} the fence {fence} was granted");
        ensure!(nonces.insert(fence.nonce), "the nonce of {fence} was granted before");
        epoch = fence.epoch;
        leases(&handler)?.release(&key, fence, None).await?;
    }
    Ok(())
}

pub(super) async fn grant_carries_the_checkpoint<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let (new, old) = (key("new")?, key("old")?);
    let first = grant(&handler, &new, &Claimant::new("one"), LONG).await?;
    same(&first.checkpoint, &None, "the checkpoint of a grant on an unknown key")?;
    stored(&handler, &new, None, "after a grant on an unknown key").await?;
    let full = full(60)?;
    store(&handler, &old, &full, Fence::NONE).await?;
    let first = grant(&handler, &old, &Claimant::new("one"), LONG).await?;
    same(&first.checkpoint, &Some(full), "the checkpoint of a grant")
}

pub(super) async fn second_claimant_gets_processing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    // As long as a name can be, and with what must not break a store's own form.
    let name = format!("ü'\"\n:{}", "x".repeat(Claimant::NAME_BYTES_MAX));
    let claimant = Claimant::new(name);
    let first = grant(&handlers[0], &key, &claimant, LONG).await?;
    for handler in handlers.iter().rev() {
        let claim = leases(handler)?.start(&key, &Claimant::new("two"), LONG).await?;
        let Claim::Processing { owner, retry_in } = claim else {
            return failed("a second claimant was granted");
        };
        same(&owner, &claimant.name, "the owner that was told")?;
        ensure!((Duration::from_millis(1)..=LONG).contains(&retry_in), "it said to retry in {retry_in:?}");
        let namesake = leases(handler)?.start(&key, &Claimant::new(owner), LONG).await?;
        ensure!(
            matches!(namesake, Claim::Processing { .. }),
            "another of the same name was granted the lease"
        );
    }
    moves_on(&handlers[0], &key, 5, first.fence).await?;
    leases(&handlers[0])?.renew(&key, first.fence, LONG).await?;
    leases(&handlers[0])?.release(&key, first.fence, Some(&checkpoint(6))).await?;
    Ok(())
}

pub(super) async fn thirty_claimants_one_winner<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(4).await?;
    for round in ["first", "second", "third"] {
        let key = key(round)?;
        let claims: Vec<_> = (0..CLAIMANTS)
            .zip(handlers.iter().cycle())
            .map(|(number, handler)| {
                let (handler, key) = (Arc::clone(handler), key.clone());
                tokio::spawn(async move {
                    let claimant = Claimant::new(format!("claimant {number}"));
                    let mut tries = 0;
                    loop {
                        match leases(&handler)?.start(&key, &claimant, LONG).await {
                            Err(error) if error.is_retryable() && tries < TRIES_MAX => tries += 1,
                            claim => return Verdict::Ok((claimant.name, claim?)),
                        }
                    }
                })
            })
            .collect();
        let (mut winners, mut owners) = (HashSet::new(), HashSet::new());
        for claim in claims {
            match claim.await?? {
                (name, Claim::Granted(_)) => winners.insert(name),
                (_, Claim::Processing { owner, .. }) => owners.insert(owner),
            };
        }
        same(&winners.len(), &1, "the number of winners")?;
        same(&owners, &winners, "the owners that the others were told")?;
    }
    Ok(())
}

pub(super) async fn zombies_change_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let (one, two) = (Claimant::new("one"), Claimant::new("two"));
    let asked_twice = grant(&handlers[0], &key, &one, LONG).await?.fence;
    let released = grant(&handlers[0], &key, &one, LONG).await?.fence;
    moves_on(&handlers[0], &key, 5, released).await?;
    leases(&handlers[0])?.release(&key, released, None).await?;
    let mut zombies = vec![asked_twice, released];
    if context.store.lease_end() == LeaseEnd::Time {
        zombies.push(grant(&handlers[0], &key, &one, SHORT).await?.fence);
    }
    let holder = wait_for_grant(&handlers[1], &key, &two, LONG).await?.fence;
    for handler in &handlers {
        are_fenced(handler, &key, &zombies, "two").await?;
    }
    moves_on(&handlers[1], &key, 6, holder).await?;
    leases(&handlers[1])?.renew(&key, holder, LONG).await?;
    leases(&handlers[1])?.release(&key, holder, Some(&checkpoint(7))).await?;
    // The holder is gone as well: still, they are not who was granted last.
    for fence in zombies {
        let late = handlers[0].complete(&key, &checkpoint(8), fence).await;
        refused(late, &[StateErrorKind::Fenced], "a zombie's write while nobody has the lease")?;
        let late = leases(&handlers[0])?.renew(&key, fence, LONG).await;
        refused(late, &[StateErrorKind::Fenced], "a zombie's renewal while nobody has the lease")?;
    }
    stored(&handlers[0], &key, Some(&checkpoint(7)), "after the zombies").await
}

pub(super) async fn invented_fences_change_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let (unknown, known) = (key("unknown")?, key("known")?);
    let invented = Fence { epoch: 1, nonce: 7 };
    let nothing = [StateErrorKind::Lost, StateErrorKind::Fenced];
    for checkpoint in [None, Some(checkpoint(5))] {
        let released = leases(&handler)?.release(&unknown, invented, checkpoint.as_ref()).await;
        refused(released, &nothing, "a release of an unknown key")?;
        let released = leases(&handler)?.release(&unknown, Fence::NONE, checkpoint.as_ref()).await;
        refused(released, &nothing, "a release of an unknown key without a fence")?;
    }
    refused(leases(&handler)?.renew(&unknown, invented, LONG).await, &nothing, "renewing an unknown key")?;
    refused(
        leases(&handler)?.renew(&unknown, Fence::NONE, LONG).await,
        &nothing,
        "renewing without a fence",
    )?;
    let written = handler.complete(&unknown, &checkpoint(5), invented).await;
    refused(written, &[StateErrorKind::Lost], "a write with a fence to an unknown key")?;
    stored(&handler, &unknown, None, "after calls with an invented fence").await?;
    if let Some(admin) = handler.admin() {
        same(&admin.list().await?.len(), &0, "the number of records after calls that were refused")?;
    }

    // A record that never had a lease.
    store(&handler, &known, &checkpoint(5), Fence::NONE).await?;
    let written = handler.complete(&known, &checkpoint(6), invented).await;
    refused(written, &[StateErrorKind::Fenced], "a write with an invented fence")?;
    store(&handler, &known, &checkpoint(6), Fence::NONE).await?;

    let Fence { epoch, nonce } = grant(&handler, &known, &Claimant::new("one"), LONG).await?.fence;
    let fences = [
        Fence { epoch, nonce: nonce ^ 1 },
        Fence { epoch, nonce: nonce ^ (1 << 127) },
        Fence { epoch, nonce: 0 },
        Fence { epoch: epoch + 1, nonce },
        Fence { epoch: epoch - 1, nonce },
        Fence { epoch: u64::MAX, nonce },
    ];
    are_fenced(&handler, &known, &fences, "one").await?;
    moves_on(&handler, &known, 7, Fence { epoch, nonce }).await
}

pub(super) async fn unfenced_is_refused_after_a_lease<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    for (consumer, before) in [("new", None), ("old", Some(checkpoint(5)))] {
        let key = key(consumer)?;
        if let Some(checkpoint) = &before {
            store(&handler, &key, checkpoint, Fence::NONE).await?;
        }
        let first = grant(&handler, &key, &Claimant::new("one"), LONG).await?;
        are_fenced(&handler, &key, &[Fence::NONE], "one").await?;
        leases(&handler)?.release(&key, first.fence, None).await?;
        let written = handler.complete(&key, &checkpoint(9), Fence::NONE).await;
        refused(written, &[StateErrorKind::Fenced], "a write without a fence after the release")?;
        stored(&handler, &key, before.as_ref(), "after a write without a fence").await?;
    }
    Ok(())
}

pub(super) async fn lost_replies_are_resolved_by_retry<F: Fixture>(context: &Context<F>) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let one = Claimant::new("one");
    let lost = grant(&handlers[0], &key, &one, LONG).await?;
    let again = grant(&handlers[1], &key, &one, LONG).await?;
    ensure!(again.fence.epoch > lost.fence.epoch, "a claim that was repeated was granted {}", again.fence);
    let late = handlers[0].complete(&key, &checkpoint(5), lost.fence).await;
    refused(late, &[StateErrorKind::Fenced], "a write with the fence of the lost reply")?;
    store(&handlers[0], &key, &checkpoint(5), again.fence).await?;
    let repeated = handlers[1].complete(&key, &checkpoint(5), again.fence).await?;
    same(&repeated, &Committed::Unchanged, "a write that was repeated")?;
    for _ in 0..2 {
        leases(&handlers[0])?.renew(&key, again.fence, LONG).await?;
    }
    for _ in 0..2 {
        leases(&handlers[0])?.release(&key, again.fence, Some(&checkpoint(6))).await?;
    }
    stored(&handlers[1], &key, Some(&checkpoint(6)), "after a release that was repeated").await
}

pub(super) async fn older_is_stale_also_with_a_fence<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    store(&handler, &key, &checkpoint(5), Fence::NONE).await?;
    let first = grant(&handler, &key, &Claimant::new("one"), LONG).await?;
    stale(&handler, &key, &checkpoint(4), first.fence, checkpoint(5).next).await?;
    moves_on(&handler, &key, 6, first.fence).await?;
    is_taken(&handler, &key, "one").await
}

pub(super) async fn late_write_of_the_holder_is_accepted<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let first = grant(&handler, &key, &Claimant::new("one"), LONG).await?;
    leases(&handler)?.release(&key, first.fence, Some(&checkpoint(5))).await?;
    // Nobody was granted the lease since: its fence is the last.
    store(&handler, &key, &checkpoint(6), first.fence).await?;
    let second = grant(&handler, &key, &Claimant::new("two"), LONG).await?;
    same(&second.checkpoint, &Some(checkpoint(6)), "the checkpoint of the next grant")
}

pub(super) async fn fence_of_a_deleted_key_means_nothing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let before = grant(&handler, &key, &Claimant::new("one"), LONG).await?.fence;
    store(&handler, &key, &checkpoint(5), before).await?;
    ensure!(
        admin(&handler)?.delete(&key).await?,
        "a record was deleted, and it was told that there was none"
    );
    let gone = [StateErrorKind::Lost, StateErrorKind::Fenced];
    refused(handler.complete(&key, &checkpoint(6), before).await, &gone, "a write to a deleted key")?;
    refused(leases(&handler)?.renew(&key, before, LONG).await, &gone, "renewing a deleted key")?;
    let released = leases(&handler)?.release(&key, before, Some(&checkpoint(6))).await;
    refused(released, &gone, "releasing a deleted key")?;
    stored(&handler, &key, None, "after calls for a deleted key").await?;
    let holder = grant(&handler, &key, &Claimant::new("two"), LONG).await?;
    same(&holder.checkpoint, &None, "the checkpoint of a grant on a deleted key")?;
    are_fenced(&handler, &key, &[before], "two").await?;
    moves_on(&handler, &key, 3, holder.fence).await
}

pub(super) async fn epoch_survives_reopen<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    if !handler.capabilities().durable {
        return skipped("it is not declared durable");
    }
    let key = key("billing")?;
    let first = grant(&handler, &key, &Claimant::new("one"), SHORT).await?.fence;
    store(&handler, &key, &checkpoint(5), first).await?;
    let handler = context.reopen(handler).await?;
    let written = handler.complete(&key, &checkpoint(9), Fence::NONE).await;
    refused(written, &[StateErrorKind::Fenced], "a write without a fence after the store was opened again")?;
    let second = wait_for_grant(&handler, &key, &Claimant::new("two"), LONG).await?;
    ensure!(second.fence.epoch > first.epoch, "the epoch did not grow from {first} to {}", second.fence);
    same(&second.checkpoint, &Some(checkpoint(5)), "the checkpoint of the next grant")?;
    are_fenced(&handler, &key, &[first], "two").await
}
