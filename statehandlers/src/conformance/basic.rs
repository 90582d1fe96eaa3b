//! Group `basic`: what is stored comes back.

use super::context::{Context, at, checkpoint, full, key, store, stored};
use super::fixture::Fixture;
use super::verdict::{Verdict, refused, same};
use crate::checkpoint::{Checkpoint, Done};
use crate::error::StateErrorKind;
use crate::fence::Fence;

pub(super) async fn unknown_key_is_none<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let known = key("known")?;
    stored(&handler, &known, None, "in an empty store").await?;
    store(&handler, &known, &checkpoint(7), Fence::NONE).await?;
    stored(&handler, &key("unknown")?, None, "beside another").await?;
    if let Some(admin) = handler.admin() {
        let keys: Vec<_> = admin.list().await?.into_iter().map(|entry| entry.key).collect();
        same(&keys, &vec![known], "the list after a look at an unknown key")?;
    }
    Ok(())
}

pub(super) async fn every_field_comes_back<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let full = full(60)?;
    store(&handler, &key, &full, Fence::NONE).await?;
    stored(&handler, &key, Some(&full), "a checkpoint with every field").await?;
    let most = Done { from: at(u64::MAX - 1, 0), to: at(u64::MAX, u64::MAX) };
    let limits = Checkpoint { head_attempts: u32::MAX, written_at: u64::MAX, done: vec![most], ..full };
    store(&handler, &key, &limits, Fence::NONE).await?;
    stored(&handler, &key, Some(&limits), "the largest numbers").await?;
    let from = 100_u64;
    let range = |index: u64| Done { from: at(from + 2 * index, 0), to: at(from + 2 * index + 1, 0) };
    let done = (0..Checkpoint::DONE_MAX as u64).map(range).collect();
    let longest = Checkpoint { done, user: vec![b'"'; Checkpoint::USER_BYTES_MAX], ..limits };
    store(&handler, &key, &longest, Fence::NONE).await?;
    stored(&handler, &key, Some(&longest), "the most ranges and user bytes").await
}

pub(super) async fn nothing_is_kept_of_what_was_replaced<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    store(&handler, &key, &full(60)?, Fence::NONE).await?;
    store(&handler, &key, &checkpoint(61), Fence::NONE).await?;
    stored(&handler, &key, Some(&checkpoint(61)), "a checkpoint that knows only its position").await
}

pub(super) async fn extreme_positions<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let signed = i64::MAX as u64;
    let key = key("billing")?;
    let positions = [
        at(0, 0),
        at(0, 1),
        at(0, u64::MAX),
        at(1, 0),
        at(signed, signed),
        at(signed + 1, 0),
        at(u64::MAX, 0),
        at(u64::MAX, u64::MAX),
    ];
    for position in positions {
        let checkpoint = Checkpoint::at(position);
        store(&handler, &key, &checkpoint, Fence::NONE).await?;
        stored(&handler, &key, Some(&checkpoint), "an extreme position").await?;
    }
    Ok(())
}

pub(super) async fn values_above_2_to_53_compare_exactly<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let limit = 1_u64 << 53;
    for base in [limit, limit * 2, i64::MAX as u64 - 3, u64::MAX - 3] {
        let of_offset = (at(base, 0), at(base + 1, 0), at(base + 2, 0));
        let of_delta = (at(7, base), at(7, base + 1), at(7, base + 2));
        for (name, (older, position, newer)) in [("offset", of_offset), ("delta", of_delta)] {
            let key = key(&format!("{name} {base}"))?;
            store(&handler, &key, &Checkpoint::at(position), Fence::NONE).await?;
            super::context::stale(&handler, &key, &Checkpoint::at(older), Fence::NONE, position).await?;
            stored(&handler, &key, Some(&Checkpoint::at(position)), "after one less").await?;
            store(&handler, &key, &Checkpoint::at(newer), Fence::NONE).await?;
            stored(&handler, &key, Some(&Checkpoint::at(newer)), "after one more").await?;
        }
    }
    Ok(())
}

pub(super) async fn user_bytes_of_any_content<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let key = key("billing")?;
    let contents: [Vec<u8>; 7] = [
        vec![0],
        b"'; DROP TABLE checkpoints; --\\\"\r\n$1 ? %s {}".to_vec(),
        vec![0xFF, 0xFE, 0xC3, 0x28],
        (0..=255).cycle().take(Checkpoint::USER_BYTES_MAX).collect(),
        vec![0; Checkpoint::USER_BYTES_MAX],
        "ü€𐍈".into(),
        Vec::new(),
    ];
    for user in contents {
        let checkpoint = Checkpoint { user, ..checkpoint(5) };
        store(&handler, &key, &checkpoint, Fence::NONE).await?;
        stored(&handler, &key, Some(&checkpoint), "user bytes").await?;
    }
    Ok(())
}

pub(super) async fn too_much_is_refused<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let (key, unknown) = (key("billing")?, key("unknown")?);
    store(&handler, &key, &checkpoint(5), Fence::NONE).await?;
    let user = Checkpoint { user: vec![0; Checkpoint::USER_BYTES_MAX + 1], ..checkpoint(6) };
    let range = |index: u64| Done { from: at(10 + index, 0), to: at(10 + index, 1) };
    let done = Checkpoint { done: (0..=Checkpoint::DONE_MAX as u64).map(range).collect(), ..checkpoint(6) };
    for (what, checkpoint) in [("user bytes", user), ("ranges", done)] {
        for key in [&key, &unknown] {
            let result = handler.complete(key, &checkpoint, Fence::NONE).await;
            refused(result, &[StateErrorKind::Invalid], &format!("one more than the most {what}"))?;
        }
    }
    stored(&handler, &key, Some(&checkpoint(5)), "after what is too much").await?;
    stored(&handler, &unknown, None, "after what is too much for a new key").await
}
