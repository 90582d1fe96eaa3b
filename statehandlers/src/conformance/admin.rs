//! Group `admin`: list, reset, delete.

use super::context::{Context, admin, checkpoint, full, key, key_of, stale, store, stored};
use super::fixture::Fixture;
use super::lease::{LONG, SHORT, grant, is_taken, leases, moves_on, wait_for_grant};
use super::verdict::{Verdict, ensure, failed, hooked, refused, same, skipped};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::StateAdmin;
use crate::key::ConsumerKey;

/// Keys in their order, which is that of their bytes, name by name.
const KEYS: [(&str, &str, &str); 11] = [
    ("A", "t", "n"),
    ("a", "A", "n"),
    ("a", "a", "!"),
    ("a", "a", "/"),
    ("a", "a", "a"),
    ("a", "a", "a b"),
    ("a", "a", "aa"),
    ("a", "a", "ä"),
    ("a", "a-b", "a"),
    ("a!", "a", "a"),
    ("ä", "a", "a"),
];

async fn all(admin: &dyn StateAdmin) -> Verdict<Vec<(ConsumerKey, Option<Checkpoint>)>> {
    let mut all = Vec::new();
    for entry in admin.list().await? {
        all.push((entry.key, entry.checkpoint?));
    }
    Ok(all)
}

pub(super) async fn list_is_all_in_order<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    same(&all(admin(&handler)?).await?, &Vec::new(), "the list of an empty store")?;
    let mut expected = Vec::new();
    for (offset, (namespace, topic, consumer)) in (1..).zip(KEYS) {
        expected.push((key_of(namespace, topic, consumer)?, Some(full(offset)?)));
    }
    // Not in their order.
    for (key, checkpoint) in expected.iter().rev().step_by(2).chain(expected.iter().rev().skip(1).step_by(2))
    {
        store(&handler, key, checkpoint.as_ref().unwrap_or(&Checkpoint::default()), Fence::NONE).await?;
    }
    same(&all(admin(&handler)?).await?, &expected, "the list")
}

pub(super) async fn list_shows_leases<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    if handler.leases().is_none() {
        return skipped("it has no leases");
    }
    let (claimed, never, released) = (key("claimed")?, key("never")?, key("released")?);
    let claimant = Claimant::new("ü one");
    grant(&handler, &claimed, &claimant, LONG).await?;
    let again = grant(&handler, &claimed, &claimant, LONG).await?.fence;
    leases(&handler)?.renew(&claimed, again, LONG).await?;
    store(&handler, &never, &checkpoint(5), Fence::NONE).await?;
    let given_back = grant(&handler, &released, &claimant, LONG).await?.fence;
    leases(&handler)?.release(&released, given_back, Some(&checkpoint(6))).await?;
    let seen: Vec<_> = admin(&handler)?.list().await?.into_iter().collect();
    let mut shown = Vec::new();
    for entry in seen {
        shown.push((entry.key, entry.checkpoint?, entry.epoch, entry.owner));
    }
    let expected = vec![
        (claimed.clone(), None, again.epoch, Some(claimant.name)),
        (never, Some(checkpoint(5)), 0, None),
        (released, Some(checkpoint(6)), given_back.epoch, None),
    ];
    same(&shown, &expected, "the list")?;
    // A list changes nothing.
    moves_on(&handler, &claimed, 7, again).await?;
    is_taken(&handler, &claimed, "ü one").await?;
    if context.store.lease_end() != super::fixture::LeaseEnd::Time {
        return Ok(());
    }
    let lapsed = key("lapsed")?;
    grant(&handler, &lapsed, &Claimant::new("two"), SHORT).await?;
    super::context::until("the list shows no owner of a lease that ran out", async || {
        let entries = admin(&handler)?.list().await?;
        Ok(entries.iter().any(|entry| entry.key == lapsed && entry.owner.is_none()))
    })
    .await?;
    wait_for_grant(&handler, &lapsed, &Claimant::new("three"), LONG).await.map(|_| ())
}

pub(super) async fn reset_backwards_is_kept_and_fences_the_owner<F: Fixture>(
    context: &Context<F>,
) -> Verdict {
    let handlers = context.open_all(2).await?;
    let key = key("billing")?;
    let back = full(5)?;
    if handlers[0].leases().is_none() {
        store(&handlers[0], &key, &checkpoint(60), Fence::NONE).await?;
        admin(&handlers[1])?.reset(&key, &back).await?;
        return stored(&handlers[0], &key, Some(&back), "after a reset").await;
    }
    let one = Claimant::new("one");
    let owner = grant(&handlers[0], &key, &one, LONG).await?.fence;
    store(&handlers[0], &key, &checkpoint(60), owner).await?;
    for _ in 0..2 {
        admin(&handlers[1])?.reset(&key, &back).await?;
        stored(&handlers[0], &key, Some(&back), "after a reset").await?;
    }
    let fenced = [StateErrorKind::Fenced];
    for fence in [owner, Fence::NONE] {
        refused(handlers[0].complete(&key, &checkpoint(61), fence).await, &fenced, "a write after a reset")?;
        refused(leases(&handlers[0])?.renew(&key, fence, LONG).await, &fenced, "renewing after a reset")?;
        let released = leases(&handlers[0])?.release(&key, fence, Some(&checkpoint(61))).await;
        refused(released, &fenced, "releasing after a reset")?;
    }
    stored(&handlers[0], &key, Some(&back), "after calls of who was fenced by a reset").await?;
    let next = grant(&handlers[1], &key, &Claimant::new("two"), LONG).await?;
    ensure!(next.fence.epoch > owner.epoch + 1, "after {owner} and two resets came the fence {}", next.fence);
    same(&next.checkpoint, &Some(back), "the checkpoint of the grant after a reset")?;
    moves_on(&handlers[1], &key, 6, next.fence).await
}

pub(super) async fn reset_makes_what_is_missing<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let full = full(60)?;
    admin(&handler)?.reset(&key, &full).await?;
    stored(&handler, &key, Some(&full), "after a reset of an unknown key").await?;
    same(&all(admin(&handler)?).await?, &vec![(key.clone(), Some(full))], "the list after it")?;
    let too_much = Checkpoint { user: vec![0; Checkpoint::USER_BYTES_MAX + 1], ..checkpoint(3) };
    refused(admin(&handler)?.reset(&key, &too_much).await, &[StateErrorKind::Invalid], "a reset to too much")
}

pub(super) async fn delete_forgets<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let (key, other) = (key("billing")?, key("other")?);
    store(&handler, &key, &full(60)?, Fence::NONE).await?;
    store(&handler, &other, &checkpoint(7), Fence::NONE).await?;
    let admin = admin(&handler)?;
    for was_there in [true, false] {
        same(&admin.delete(&key).await?, &was_there, "whether there was one to delete")?;
        stored(&handler, &key, None, "after it was deleted").await?;
        same(
            &all(admin).await?,
            &vec![(other.clone(), Some(checkpoint(7)))],
            "the list after it was deleted",
        )?;
    }
    store(&handler, &key, &checkpoint(5), Fence::NONE).await?;
    stale(&handler, &key, &checkpoint(4), Fence::NONE, checkpoint(5).next).await?;
    if handler.leases().is_some() {
        let claimed = super::context::key("claimed")?;
        grant(&handler, &claimed, &Claimant::new("one"), LONG).await?;
        same(&admin.delete(&claimed).await?, &true, "whether there was a lease to delete")?;
        // As if it had never been: nobody has it, and nothing is fenced.
        store(&handler, &claimed, &checkpoint(3), Fence::NONE).await?;
        grant(&handler, &claimed, &Claimant::new("two"), LONG).await?;
    }
    Ok(())
}

pub(super) async fn unreadable_is_listed_and_reset<F: Fixture>(context: &Context<F>) -> Verdict {
    let raw = context.raw()?;
    let (damaged, sound) = (key("damaged")?, key("sound")?);
    let handler = context.open().await?;
    store(&handler, &damaged, &full(60)?, Fence::NONE).await?;
    store(&handler, &sound, &full(61)?, Fence::NONE).await?;
    handler.close().await?;
    let newer = br#"{"logd-checkpoint":2,"next":"0.0"}"#;
    for (is_body, bytes) in [(false, &b""[..]), (false, b"nonsense"), (true, newer)] {
        let hook =
            if is_body { raw.write_body(&damaged, bytes).await } else { raw.write(&damaged, bytes).await };
        hooked(hook)?;
        let handler = context.open().await?;
        let list = admin(&handler)?.list().await?;
        same(
            &list.iter().map(|entry| &entry.key).collect(),
            &vec![&damaged, &sound],
            "the keys in the list",
        )?;
        for entry in list {
            match (entry.key == sound, entry.checkpoint) {
                (true, checkpoint) => same(&checkpoint?, &Some(full(61)?), "the sound one in the list")?,
                (false, Err(_)) => {}
                (false, Ok(seen)) => return failed(format!("a damaged one is listed as {seen:?}")),
            }
        }
        admin(&handler)?.reset(&damaged, &full(5)?).await?;
        stored(&handler, &damaged, Some(&full(5)?), "a damaged one after its reset").await?;
        handler.close().await?;
    }
    Ok(())
}

pub(super) async fn export_then_import_is_the_identity<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    for (offset, (namespace, topic, consumer)) in (1..).zip(KEYS) {
        store(&handler, &key_of(namespace, topic, consumer)?, &full(offset)?, Fence::NONE).await?;
    }
    let last = key_of("z", "z", "z")?;
    let most = Checkpoint { next: super::context::at(u64::MAX, u64::MAX), done: Vec::new(), ..full(1)? };
    store(&handler, &last, &most, Fence::NONE).await?;
    let exported = all(admin(&handler)?).await?;
    same(&exported.len(), &(KEYS.len() + 1), "the number of entries that were exported")?;

    let other = hooked(F::new().await)?;
    let into = other.open().await?;
    same(&all(admin(&into)?).await?, &Vec::new(), "the list of another store")?;
    for (key, checkpoint) in &exported {
        // As text, in which form it is carried from store to store.
        let body = checkpoint.clone().unwrap_or_default().encode()?;
        admin(&into)?.reset(key, &Checkpoint::decode(&body)?).await?;
    }
    same(&all(admin(&into)?).await?, &exported, "what was imported")?;
    same(&all(admin(&handler)?).await?, &exported, "what it was exported from")
}
