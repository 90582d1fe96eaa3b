//! `log-cli state set` and `reset`: move a checkpoint.
//!
//! Both fence whoever reads with it, who begins anew where the checkpoint is then. Between the look at a checkpoint and
//! its change, a reader that runs can have moved it: what it has stored meanwhile comes again, and is not lost.
//!
//! The last batch that was consumed is forgotten: a checkpoint is also moved because its topic was made anew.

use std::time::SystemTime;

use logd_client::{Bound, Checkpoint, Client, ConsumerKey, Fence, Position, StateEntry};
use serde_json::json;

use super::judge;
use super::key::Word;
use super::report::{object, tell};
use super::store::{Missing, Store};
use crate::args::Common;
use crate::args::state::{Reset, Set, Target};
use crate::connect::connect;
use crate::exit::{Exit, Failure};

pub(super) async fn set(common: &Common, args: &Set) -> Result<Exit, Failure> {
    let (key, position) = (&args.key.key, args.position);
    let store = Store::open(&args.store.state, Missing::Refuse).await?;
    let found = store.find(key).await?;
    let current = match found.as_ref().map(|entry| &entry.checkpoint) {
        Some(Ok(checkpoint)) => checkpoint.as_ref(),
        None => None,
        Some(Err(_)) if args.force => None,
        Some(Err(error)) => return Err(Failure::from(error.clone()).and("; `--force` writes over it")),
    };
    if !args.force {
        if let Some(stored) = current.map(|current| current.next).filter(|stored| position < *stored) {
            let text = format!(
                "`{}` is at `{stored}` already; from `{position}` on, messages would come again; `--force` moves it back",
                Word(key)
            );
            return Err(Failure::failed(text));
        }
        check(&mut connect(common).await?, key, position).await?;
    }
    let mut checkpoint = Checkpoint::at(position).written_now();
    if let Some(current) = current {
        checkpoint = checkpoint.with_extra_of(current);
        checkpoint.user.clone_from(&current.user);
        checkpoint.done = current.done.iter().copied().filter(|done| done.from >= position).collect();
    }
    if found.is_some() {
        store.admin()?.reset(key, &checkpoint).await?;
    } else {
        store.handler().complete(key, &checkpoint, Fence::NONE).await?;
    }
    store.close().await;
    moved(args.store.json, key, found.as_ref(), position).await
}

pub(super) async fn reset(common: &Common, args: &Reset) -> Result<Exit, Failure> {
    let key = &args.key.key;
    let store = Store::open(&args.store.state, Missing::Refuse).await?;
    let found = store.find(key).await?.ok_or_else(|| store.absent(key))?;
    let mut client = connect(common).await?;
    let position = resolve(&mut client, key, args.to).await?;
    // Nothing more is asked, and the connection ends in any case.
    let _ = client.close().await;
    store.admin()?.reset(key, &Checkpoint::at(position).written_now()).await?;
    store.close().await;
    moved(args.store.json, key, Some(&found), position).await
}

/// The position that is meant, by what the server has now. A topic that is not there has its beginning only.
async fn resolve(client: &mut Client, key: &ConsumerKey, target: Target) -> Result<Position, Failure> {
    let topic = key.topic();
    let found = match target {
        Target::At(position) => return check(client, key, position).await.map(|()| position),
        Target::Earliest => {
            return Ok(judge::extent(client, topic)
                .await?
                .map_or(Position::ZERO, |extent| Position::at(extent.oldest)));
        }
        Target::Latest => client.head(topic).await.map(|head| head.next),
        Target::Since(when) => client.offset_at(topic, when.earliest(SystemTime::now()), Bound::Lower).await,
    };
    match found {
        Err(error) if error.is_not_found() => Ok(Position::ZERO),
        found => Ok(Position::at(found?)),
    }
}

async fn check(client: &mut Client, key: &ConsumerKey, position: Position) -> Result<(), Failure> {
    match judge::position(client, key.topic(), position).await? {
        None => Ok(()),
        Some(wrong) => {
            let text = format!(
                "`{}` cannot be at `{position}`: {wrong}; `set --force` does not ask the server",
                Word(key)
            );
            Err(Failure::failed(text))
        }
    }
}

/// Tells where it was and where it is.
async fn moved(
    is_json: bool,
    key: &ConsumerKey,
    found: Option<&StateEntry>,
    to: Position,
) -> Result<Exit, Failure> {
    let before = found.and_then(|entry| entry.checkpoint.as_ref().ok()?.as_ref());
    let before = before.map(|checkpoint| checkpoint.next.to_string());
    let objects = [object(key, json!({ "from": before, "to": to.to_string() }))];
    let was = match (&before, found) {
        (Some(before), _) => before,
        (None, Some(entry)) if entry.checkpoint.is_err() => "unreadable",
        _ => "-",
    };
    tell(is_json, &objects, || format!("{}: {was} -> {to}\n", Word(key))).await?;
    Ok(Exit::Success)
}
