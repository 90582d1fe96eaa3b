//! Group `naming`: keys never meet.

use std::sync::Arc;

use logd_protocol::limits::TOPIC_BYTES_MAX;

use super::context::{Context, checkpoint, full, key_of, store, stored};
use super::fixture::Fixture;
use super::verdict::Verdict;
use crate::fence::{Claimant, Fence};
use crate::handler::StateHandler;
use crate::key::ConsumerKey;

/// Names that stores have taken for one another, or for something else.
const NAMES: [&str; 34] = [
    "a",
    "A",
    "aa",
    "a ",
    " a",
    "a.",
    ".a",
    ".",
    "..",
    "...",
    "a/b",
    "a\\b",
    "a:b",
    "a%2Fb",
    "a%2fb",
    "a%",
    "%61",
    "a*",
    "a?b",
    "a_b",
    "a-b",
    "a\u{0300}",
    "\u{e0}",
    "ä",
    "ß",
    "ss",
    "İ",
    "i",
    "'a'",
    "\"a\"",
    "{a}",
    "a.ckpt",
    "a.lock",
    "a,b",
];
const TOPICS: [&str; 8] = ["a", "A", "a.b", "a_b", "a-b", "aa", "a..b", "a.ckpt"];

/// How the same letters can be divided among three names.
const DIVISIONS: [(&str, &str, &str); 10] = [
    ("x", "y", "z"),
    ("x/y", "y", "z"),
    ("x", "y", "y/z"),
    ("x", "yy", "z"),
    ("xy", "y", "z"),
    ("x", "y", "yz"),
    ("x:y", "y", "z"),
    ("x", "y", "y:z"),
    ("z", "y", "x"),
    ("y", "x", "z"),
];

pub(super) async fn no_names_collide<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let mut keys = Vec::new();
    for name in NAMES {
        keys.push(key_of("n", "t", name)?);
        keys.push(key_of(name, "t", "n")?);
    }
    for topic in TOPICS {
        keys.push(key_of("n", topic, "n")?);
    }
    for (namespace, topic, consumer) in DIVISIONS {
        keys.push(key_of(namespace, topic, consumer)?);
    }
    all_apart(&handler, &keys).await
}

pub(super) async fn longest_names_are_kept_apart<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let name = |last: &str| format!("{}{last}", "ü".repeat(39));
    let topic = |last: &str| format!("{}{last}", "t".repeat(TOPIC_BYTES_MAX - 1));
    let keys = [
        key_of(&name("aa"), &topic("a"), &name("aa"))?,
        key_of(&name("ab"), &topic("a"), &name("aa"))?,
        key_of(&name("aa"), &topic("b"), &name("aa"))?,
        key_of(&name("aa"), &topic("a"), &name("ab"))?,
        key_of(&name("aa"), &topic("a"), &name("a"))?,
    ];
    all_apart(&handler, &keys).await
}

pub(super) async fn writes_leave_other_keys<F: Fixture>(context: &Context<F>) -> Verdict {
    let handler = context.open().await?;
    let changed = key_of("n", "t", "changed")?;
    let others = [key_of("m", "t", "changed")?, key_of("n", "u", "changed")?, key_of("n", "t", "change")?];
    let other = full(60)?;
    for key in &others {
        store(&handler, key, &other, Fence::NONE).await?;
    }
    store(&handler, &changed, &checkpoint(5), Fence::NONE).await?;
    if let Some(leases) = handler.leases() {
        let claimant = Claimant::new("one");
        let claim = leases.start(&changed, &claimant, super::lease::LONG).await?;
        let fence = super::lease::granted(claim, "the only claimant")?.fence;
        leases.renew(&changed, fence, super::lease::LONG).await?;
        leases.release(&changed, fence, Some(&checkpoint(6))).await?;
    }
    if let Some(admin) = handler.admin() {
        admin.reset(&changed, &checkpoint(1)).await?;
        admin.delete(&changed).await?;
    }
    for key in &others {
        stored(&handler, key, Some(&other), "after calls for another key").await?;
        // Without a fence: no lease was granted on it either.
        store(&handler, key, &checkpoint(100), Fence::NONE).await?;
    }
    Ok(())
}

/// Gives each key a position of its own, and looks for all of them afterwards.
async fn all_apart(handler: &Arc<dyn StateHandler>, keys: &[ConsumerKey]) -> Verdict {
    for (offset, key) in (1..).zip(keys) {
        stored(handler, key, None, &format!("{key:?} before it was written")).await?;
        store(handler, key, &checkpoint(offset), Fence::NONE).await?;
    }
    for (offset, key) in (1..).zip(keys) {
        stored(handler, key, Some(&checkpoint(offset)), &format!("{key:?}")).await?;
    }
    Ok(())
}
