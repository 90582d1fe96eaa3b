//! Group `durable`: what was acknowledged stays, and what is damaged is an error.

use std::sync::Arc;

use super::context::{Context, checkpoint, full, key, store, stored};
use super::fixture::Fixture;
use super::lease::{LONG, grant, leases};
use super::process::{CONSUMER, Child, Job};
use super::verdict::{Verdict, ensure, failed, hooked, refused, same, skipped};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind;
use crate::fence::{Claimant, Fence};
use crate::handler::StateHandler;
use crate::key::ConsumerKey;

/// How many checkpoints a process has told of when it is killed, a process each.
const KILLED_AFTER: [u32; 8] = [1, 2, 3, 5, 8, 13, 21, 34];

const CORRUPT: [StateErrorKind; 1] = [StateErrorKind::Corrupt];
const NEWER: [StateErrorKind; 1] = [StateErrorKind::Newer];

pub(super) async fn survives_reopen<F: Fixture>(context: &Context<F>) -> Verdict {
    let mut handler = context.open().await?;
    let (billing, other) = (key("billing")?, key("other")?);
    for offset in [5, 60, 61] {
        store(&handler, &billing, &full(offset)?, Fence::NONE).await?;
        handler = context.reopen(handler).await?;
        stored(&handler, &billing, Some(&full(offset)?), "after the store was opened again").await?;
        stored(&handler, &other, None, "a key that never was").await?;
    }
    let older = handler.complete(&billing, &checkpoint(7), Fence::NONE).await;
    refused(older, &[StateErrorKind::Stale { stored: full(61)?.next }], "an older one, after that")
}

pub(super) async fn survives_kill_after_ack<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key(CONSUMER)?;
    for count in KILLED_AFTER {
        let acked = Child::start(context, Job::Write)?.kill_after(count)?;
        let handler = context.open().await?;
        let Some(seen) = handler.get(&key).await? else {
            return failed(format!("`{acked}` was acknowledged, and after a kill nothing is stored"));
        };
        let offset = seen.next.offset.as_u64();
        ensure!(
            (acked..=acked.saturating_add(1)).contains(&offset),
            "`{acked}` was acknowledged last, and after a kill `{offset}` is stored"
        );
        same(&seen, &full(offset)?, "what is stored after a kill")?;
        handler.close().await?;
    }
    Ok(())
}

/// A store with a record, and what is stored of it.
async fn with_record<F: Fixture>(context: &Context<F>, key: &ConsumerKey) -> Verdict<Vec<u8>> {
    let raw = context.raw()?;
    let handler = context.open().await?;
    store(&handler, key, &full(60)?, Fence::NONE).await?;
    handler.close().await?;
    let bytes = hooked(raw.read(key).await)?;
    ensure!(!bytes.is_empty(), "the fixture: it reads nothing of a record that is stored");
    Ok(bytes)
}

pub(super) async fn empty_is_corrupt_not_new<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key("billing")?;
    with_record(context, &key).await?;
    hooked(context.raw()?.write(&key, b"").await)?;
    let handler = context.open().await?;
    refused(handler.get(&key).await, &CORRUPT, "reading an empty record")
}

pub(super) async fn truncated_is_corrupt_not_new<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key("billing")?;
    let bytes = with_record(context, &key).await?;
    let handler = context.open().await?;
    for length in 0..bytes.len() {
        hooked(context.raw()?.write(&key, bytes.get(..length).unwrap_or_default()).await)?;
        let what = format!("reading a record cut at `{length}` of `{}`", bytes.len());
        refused(handler.get(&key).await, &CORRUPT, &what)?;
    }
    hooked(context.raw()?.write(&key, &bytes).await)?;
    stored(&handler, &key, Some(&full(60)?), "the whole record again").await
}

pub(super) async fn flipped_bits_are_never_new<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key("billing")?;
    let raw = context.raw()?;
    let bytes = with_record(context, &key).await?;
    let handler = context.open().await?;
    if !raw.has_checksum() {
        context.skip_part("it has no checksum: a flipped bit may go unnoticed");
    }
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        if let Some(byte) = flipped.get_mut(index) {
            *byte ^= 1 << (index % 8);
        }
        hooked(raw.write(&key, &flipped).await)?;
        let what = format!("reading a record with a bit flipped in byte `{index}`");
        match handler.get(&key).await {
            Ok(Some(_)) if !raw.has_checksum() => {}
            read => refused(read, &[StateErrorKind::Corrupt, StateErrorKind::Newer], &what)?,
        }
    }
    Ok(())
}

/// A record's body of a later form.
fn newer() -> Verdict<Vec<u8>> {
    let body = String::from_utf8(full(60)?.encode()?)?;
    Ok(body.replace(r#""logd-checkpoint":1"#, r#""logd-checkpoint":2"#).into_bytes())
}

pub(super) async fn newer_format_is_refused_and_kept<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key("billing")?;
    with_record(context, &key).await?;
    hooked(context.raw()?.write_body(&key, &newer()?).await)?;
    is_refused_and_kept(context, &key, &NEWER).await
}

pub(super) async fn unreadable_is_not_overwritten<F: Fixture>(context: &Context<F>) -> Verdict {
    let key = key("billing")?;
    let bytes = with_record(context, &key).await?;
    let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
    for damaged in [&b""[..], half, b"{}", &[0; 64]] {
        hooked(context.raw()?.write(&key, damaged).await)?;
        is_refused_and_kept(context, &key, &CORRUPT).await?;
    }
    Ok(())
}

/// Fails unless every call that would need what is stored is refused, and leaves it as it is.
async fn is_refused_and_kept<F: Fixture>(
    context: &Context<F>,
    key: &ConsumerKey,
    kinds: &[StateErrorKind],
) -> Verdict {
    let raw = context.raw()?;
    let before = hooked(raw.read(key).await)?;
    let handler = context.open().await?;
    refused(handler.get(key).await, kinds, "reading it")?;
    for offset in [0, 60, u64::MAX] {
        refused(handler.complete(key, &checkpoint(offset), Fence::NONE).await, kinds, "writing over it")?;
    }
    if let Some(leases) = handler.leases() {
        refused(leases.start(key, &Claimant::new("one"), LONG).await, kinds, "a claim of it")?;
    }
    handler.close().await?;
    same(&hooked(raw.read(key).await)?, &before, "what is stored, after it was refused")
}

pub(super) async fn full_disk_keeps_the_previous<F: Fixture>(context: &Context<F>) -> Verdict {
    let Some(disk) = context.store.disk() else {
        return skipped("the fixture has no `disk` that can be full");
    };
    let handler = context.open().await?;
    let (known, new) = (key("known")?, key("new")?);
    let (old, next) = (full(60)?, Checkpoint { user: vec![7; Checkpoint::USER_BYTES_MAX], ..full(61)? });
    store(&handler, &known, &old, Fence::NONE).await?;
    hooked(disk.fill().await)?;
    let (over, beside) = (
        handler.complete(&known, &next, Fence::NONE).await,
        handler.complete(&new, &next, Fence::NONE).await,
    );
    let kept = stored(&handler, &known, Some(&old), "while the disk is full").await;
    hooked(disk.free().await)?;
    let kinds = [StateErrorKind::Failed, StateErrorKind::Unavailable, StateErrorKind::Ambiguous];
    refused(over, &kinds, "a write to a full disk")?;
    refused(beside, &kinds, "a write of a new key to a full disk")?;
    kept?;
    stored(&handler, &known, Some(&old), "after the disk was full").await?;
    stored(&handler, &new, None, "a key that found no room").await?;
    for key in [&known, &new] {
        store(&handler, key, &next, Fence::NONE).await?;
        stored(&handler, key, Some(&next), "once there is room").await?;
    }
    Ok(())
}

pub(super) async fn vanished_record_is_lost_not_recreated<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let Some(leases) = handler.leases() else {
        return skipped("without a lease, a vanished record is a new one");
    };
    let lost = [StateErrorKind::Lost];
    for is_written in [true, false] {
        let key = key(if is_written { "written" } else { "claimed" })?;
        let fence = grant(&handler, &key, &Claimant::new("one"), LONG).await?.fence;
        if is_written {
            store(&handler, &key, &checkpoint(5), fence).await?;
        }
        hooked(context.raw()?.vanish(&key).await)?;
        refused(handler.complete(&key, &checkpoint(6), fence).await, &lost, "a write to a vanished record")?;
        refused(leases.renew(&key, fence, LONG).await, &lost, "renewing a vanished record")?;
        refused(
            leases.release(&key, fence, Some(&checkpoint(7))).await,
            &lost,
            "releasing a vanished record",
        )?;
        stored(&handler, &key, None, "a vanished record").await?;
    }
    Ok(())
}

pub(super) async fn old_bodies_are_read<F: Fixture>(context: &Context<F>) -> Verdict {
    // The forms of every version that was released. None of these is ever changed.
    const BODIES: [&str; 3] = [
        r#"{"logd-checkpoint":1,"next":"60.12","anchor":"0 2499380544","done":["80.0 90.0"],"head_attempts":1,"user":"aGk=","written_at":1764000000000}"#,
        r#"{"logd-checkpoint":1,"next":"60.12"}"#,
        r#"{ "colour" : [1, null], "next" : "60", "logd-checkpoint" : 1 }"#,
    ];
    for (number, body) in BODIES.into_iter().enumerate() {
        let key = key(&format!("body{number}"))?;
        with_record(context, &key).await?;
        let expected = Checkpoint::decode(body.as_bytes())?;
        hooked(context.raw()?.write_body(&key, body.as_bytes()).await)?;
        let handler = context.open().await?;
        stored(&handler, &key, Some(&expected), body).await?;
        goes_on(&handler, &key, &expected).await?;
        handler.close().await?;
    }
    Ok(())
}

/// What was read from an old body is handed on with its unknown fields.
async fn goes_on(handler: &Arc<dyn StateHandler>, key: &ConsumerKey, read: &Checkpoint) -> Verdict {
    let next = Checkpoint { next: super::context::at(70, 0), done: Vec::new(), ..read.clone() };
    store(handler, key, &next, Fence::NONE).await?;
    stored(handler, key, Some(&next), "what goes on from an old body").await?;
    if handler.leases().is_some() {
        let grant = grant(handler, key, &Claimant::new("one"), LONG).await?;
        same(&grant.checkpoint, &Some(next), "the checkpoint of a grant on an old body")?;
        leases(handler)?.release(key, grant.fence, None).await?;
    }
    Ok(())
}
