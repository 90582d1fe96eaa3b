//! Group `tx`: results and position within one transaction of the user's.

use std::sync::Arc;

use super::context::{Context, checkpoint, key, store, stored};
use super::fixture::{Fixture, LeaseEnd};
use super::hooks::Transactions;
use super::lease::{LONG, SHORT, grant, leases, wait_for_grant};
use super::verdict::{Verdict, ensure, refused, same, skipped};
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::{Committed, StateHandler};
use crate::key::ConsumerKey;

fn transactions<F: Fixture>(context: &Context<F>) -> Verdict<&dyn Transactions> {
    context.store.transactions().map_or_else(|| skipped("the fixture has no `transactions`"), Ok)
}

/// A key with a checkpoint at 5, and the fence to go on with, if there are leases.
async fn begun(handler: &Arc<dyn StateHandler>) -> Verdict<(ConsumerKey, Fence)> {
    let key = key("billing")?;
    let fence = match handler.leases() {
        Some(_) => grant(handler, &key, &Claimant::new("one"), LONG).await?.fence,
        None => Fence::NONE,
    };
    store(handler, &key, &checkpoint(5), fence).await?;
    Ok((key, fence))
}

async fn results(transactions: &dyn Transactions, expected: &[&str], what: &str) -> Verdict {
    let mut seen = transactions.results().await?;
    seen.sort_unstable();
    let expected: Vec<String> = expected.iter().map(|&result| result.into()).collect();
    same(&seen, &expected, what)
}

pub(super) async fn rollback_leaves_both<F: Fixture>(context: &Context<F>) -> Verdict {
    let transactions = transactions(context)?;
    let handler = context.open().await?;
    let (key, fence) = begun(&handler).await?;
    let expected = Some(checkpoint(5).next);
    for is_told in [true, false] {
        let mut transaction = transactions.begin().await?;
        transaction.write("first").await?;
        transaction.complete_in(&key, expected, &checkpoint(6), fence).await?;
        transaction.write("second").await?;
        if is_told {
            transaction.rollback().await?;
        } else {
            drop(transaction);
        }
        // Another transaction comes after the end of one that was only dropped.
        let next = transactions.begin().await?;
        next.rollback().await?;
        stored(&handler, &key, Some(&checkpoint(5)), "after a rollback").await?;
        results(transactions, &[], "the results after a rollback").await?;
    }
    Ok(())
}

pub(super) async fn commit_applies_both<F: Fixture>(context: &Context<F>) -> Verdict {
    let transactions = transactions(context)?;
    let handler = context.open().await?;
    let (key, fence) = begun(&handler).await?;
    let mut transaction = transactions.begin().await?;
    transaction.write("first").await?;
    let full = super::context::full(6)?;
    let done = transaction.complete_in(&key, Some(checkpoint(5).next), &full, fence).await?;
    same(&done, &Committed::Stored, "a checkpoint in a transaction")?;
    transaction.write("second").await?;
    transaction.commit().await?;
    stored(&handler, &key, Some(&full), "after a commit").await?;
    results(transactions, &["first", "second"], "the results after a commit").await?;
    store(&handler, &key, &checkpoint(7), fence).await
}

pub(super) async fn stale_fence_aborts<F: Fixture>(context: &Context<F>) -> Verdict {
    let transactions = transactions(context)?;
    let handler = context.open().await?;
    if handler.leases().is_none() {
        return skipped("it has no leases");
    }
    let (key, zombie) = begun(&handler).await?;
    leases(&handler)?.release(&key, zombie, None).await?;
    let holder = grant(&handler, &key, &Claimant::new("two"), LONG).await?.fence;
    let wrong = Fence { nonce: holder.nonce ^ 1, ..holder };
    for fence in [zombie, wrong, Fence::NONE] {
        let mut transaction = transactions.begin().await?;
        transaction.write("by a zombie").await?;
        let done = transaction.complete_in(&key, Some(checkpoint(5).next), &checkpoint(9), fence).await;
        refused(done, &[StateErrorKind::Fenced], &format!("a checkpoint with the fence {fence}"))?;
        transaction.rollback().await?;
        stored(&handler, &key, Some(&checkpoint(5)), "after a zombie's transaction").await?;
        results(transactions, &[], "the results after a zombie's transaction").await?;
    }
    let mut transaction = transactions.begin().await?;
    transaction.complete_in(&key, Some(checkpoint(5).next), &checkpoint(6), holder).await?;
    transaction.commit().await?;
    stored(&handler, &key, Some(&checkpoint(6)), "after the holder's transaction").await
}

pub(super) async fn takeover_waits_for_the_open_transaction<F: Fixture>(context: &Context<F>) -> Verdict {
    let transactions = transactions(context)?;
    let handlers = context.open_all(2).await?;
    if handlers[0].leases().is_none() {
        return skipped("it has no leases");
    }
    if context.store.lease_end() == LeaseEnd::Holder {
        return skipped("its leases end with their holder");
    }
    let (key, first) = begun(&handlers[0]).await?;
    leases(&handlers[0])?.renew(&key, first, SHORT).await?;
    let mut transaction = transactions.begin().await?;
    transaction.write("first").await?;
    transaction.complete_in(&key, Some(checkpoint(5).next), &checkpoint(6), first).await?;
    let takeover = {
        let (handler, key) = (Arc::clone(&handlers[1]), key.clone());
        tokio::spawn(async move { wait_for_grant(&handler, &key, &Claimant::new("two"), LONG).await })
    };
    // The takeover is to be wrong here for as long as it likes: the lease is over, and only the transaction is in its way.
    tokio::time::sleep(SHORT * 3).await;
    ensure!(!takeover.is_finished(), "another was granted the lease while a transaction was open");
    transaction.commit().await?;
    let second = takeover.await??;
    same(&second.checkpoint, &Some(checkpoint(6)), "the checkpoint of who took over")?;
    results(transactions, &["first"], "the results after the takeover").await?;
    let mut late = transactions.begin().await?;
    late.write("by a zombie").await?;
    let done = late.complete_in(&key, Some(checkpoint(6).next), &checkpoint(7), first).await;
    refused(done, &[StateErrorKind::Fenced], "a zombie's checkpoint after the takeover")?;
    late.rollback().await?;
    results(transactions, &["first"], "the results after the zombie").await
}

pub(super) async fn tokens_in_the_wrong_order_fail<F: Fixture>(context: &Context<F>) -> Verdict {
    let transactions = transactions(context)?;
    let handler = context.open().await?;
    let (key, fence) = begun(&handler).await?;
    // The second token goes on from where the first ends, which is not stored yet.
    let mut second = transactions.begin().await?;
    second.write("second").await?;
    let done = second.complete_in(&key, Some(checkpoint(6).next), &checkpoint(7), fence).await;
    refused(done, &[StateErrorKind::Fenced], "the second token before the first")?;
    second.rollback().await?;
    let mut unknown = transactions.begin().await?;
    let done = unknown.complete_in(&key, None, &checkpoint(7), fence).await;
    refused(done, &[StateErrorKind::Fenced], "a token that knows of no checkpoint")?;
    unknown.rollback().await?;
    stored(&handler, &key, Some(&checkpoint(5)), "after tokens in the wrong order").await?;
    for (expected, offset) in [(5, 6), (6, 7)] {
        let mut transaction = transactions.begin().await?;
        transaction.complete_in(&key, Some(checkpoint(expected).next), &checkpoint(offset), fence).await?;
        transaction.commit().await?;
        stored(&handler, &key, Some(&checkpoint(offset)), "after tokens in order").await?;
    }
    results(transactions, &[], "the results of transactions that wrote none").await
}
