//! `log-cli state set` and `reset`: move a checkpoint.
//!
//! Both fence whoever reads with it, who begins anew where the checkpoint is then. Between the look at a checkpoint and
//! its change, a reader that runs can have moved it: what it has stored meanwhile comes again, and is not lost.
//!
//! What was done behind the checkpoint is forgotten, since it is moved so that messages come, and the last batch that was
//! consumed, since it is also moved because its topic was made anew.

use std::time::SystemTime;

use logd_client::fit::extent;
use logd_client::{Bound, Checkpoint, Client, ConsumerKey, Error, Fence, Offset, Position, StateEntry};
use serde_json::json;

use super::judge;
use super::key::Word;
use super::report::{object, plain, tell};
use super::store::{Missing, Store};
use crate::args::Common;
use crate::args::state::{Reset, Set, Target};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::head::no_topic;
use crate::output::complain;

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
    let position = resolve(&mut client, &common.host, key, args.to).await?;
    // Nothing more is asked, and the connection ends in any case.
    let _ = client.close().await;
    store.admin()?.reset(key, &Checkpoint::at(position).written_now()).await?;
    store.close().await;
    moved(args.store.json, key, Some(&found), position).await
}

/// The position that is meant, by what the server has now. In a topic that is not there, which can be because it is another
/// server than was meant, only the beginning is a position, and only if it is named.
async fn resolve(
    client: &mut Client,
    host: &str,
    key: &ConsumerKey,
    target: Target,
) -> Result<Position, Failure> {
    let topic = key.topic();
    let absent = || no_topic(topic, host).and("; `--to 0` begins with whatever is its first message");
    let found = match target {
        Target::At(Position::ZERO) if extent(client, topic).await?.is_none() => Offset::ZERO,
        Target::At(position) => return check(client, key, position).await.map(|()| position),
        Target::Earliest => extent(client, topic).await?.map(|extent| extent.oldest).ok_or_else(absent)?,
        Target::Latest => found(client.head(topic).await.map(|head| head.next), absent)?,
        Target::Since(when) => {
            let offset = client.offset_at(topic, when.earliest(SystemTime::now()), Bound::Lower).await;
            found(offset, absent)?
        }
    };
    Ok(Position::at(found))
}

fn found(offset: Result<Offset, Error>, absent: impl FnOnce() -> Failure) -> Result<Offset, Failure> {
    offset.map_err(|error| if error.is_not_found() { absent() } else { error.into() })
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
    if let Some(owner) = found.and_then(|entry| entry.owner.as_deref()) {
        let owner = plain(owner);
        complain(&format_args!("`{owner}` reads with `{}`: it begins anew there", Word(key)));
    }
    let was = match (&before, found) {
        (Some(before), _) => before,
        (None, Some(entry)) if entry.checkpoint.is_err() => "unreadable",
        _ => "-",
    };
    tell(is_json, &objects, || format!("{}: {was} -> {to}\n", Word(key))).await?;
    Ok(Exit::Success)
}
