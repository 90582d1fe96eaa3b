//! `log-cli state ls` and `show`: what a store has.

use std::fmt::Write as _;

use logd_client::{Checkpoint, ConsumerKey, StateEntry};
use serde_json::{Map, Value, json};

use super::key::Word;
use super::report::{Column, age, now, object, plain, seconds, table, tell};
use super::store::{Missing, Store};
use crate::args::state::{self, Keys};
use crate::exit::{Exit, Failure};
use crate::output::{pairs, print};

/// The fields of a checkpoint's body that `show` prints in a form of its own.
const KNOWN: [&str; 7] = ["logd-checkpoint", "next", "anchor", "done", "head_attempts", "user", "written_at"];

pub(super) async fn ls(keys: &Keys) -> Result<Exit, Failure> {
    let (store, entries) = Store::open_for(keys).await?;
    store.close().await;
    let now = now();
    let objects: Vec<Value> = entries.iter().map(|entry| described(entry, now)).collect();
    tell(keys.store.json, &objects, || listed(&entries, now)).await?;
    let is_damaged = entries.iter().any(|entry| entry.checkpoint.is_err());
    Ok(if is_damaged { Exit::Damaged } else { Exit::Success })
}

/// A row for each, then what cannot be read.
fn listed(entries: &[StateEntry], now: u64) -> String {
    use Column::{Left, Right};
    let none = || "-".to_owned();
    let row = |entry: &StateEntry| {
        let checkpoint = entry.checkpoint.as_ref().ok()?.as_ref();
        Some([
            Word(&entry.key).to_string(),
            checkpoint.map_or_else(none, |checkpoint| checkpoint.next.to_string()),
            entry.epoch.to_string(),
            checkpoint.and_then(|checkpoint| age(checkpoint, now)).map_or_else(none, seconds),
            entry.owner.as_deref().map_or_else(none, plain),
        ])
    };
    let rows: Vec<_> = entries.iter().filter_map(row).collect();
    let columns = [Left("KEY"), Right("NEXT"), Right("EPOCH"), Right("AGE"), Left("OWNER")];
    let mut text = table(columns, &rows);
    for entry in entries {
        if let Err(error) = &entry.checkpoint {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}  unreadable: {}", Word(&entry.key), plain(&error.to_string()));
        }
    }
    text
}

fn described(entry: &StateEntry, now: u64) -> Value {
    let checkpoint = entry.checkpoint.as_ref().ok().and_then(Option::as_ref);
    let fields = json!({
        "next": checkpoint.map(|checkpoint| checkpoint.next.to_string()),
        "epoch": entry.epoch,
        "owner": entry.owner,
        "written_at": checkpoint.map(|checkpoint| checkpoint.written_at).filter(|time| *time > 0),
        "age_seconds": checkpoint.and_then(|checkpoint| age(checkpoint, now)).map(|age| age.as_secs()),
        "error": entry.checkpoint.as_ref().err().map(ToString::to_string),
    });
    object(&entry.key, fields)
}

pub(super) async fn show(args: &state::Store, key: &ConsumerKey) -> Result<Exit, Failure> {
    let store = Store::open(&args.state, Missing::Refuse).await?;
    let entry = store.find(key).await?.ok_or_else(|| store.absent(key))?;
    store.close().await;
    let checkpoint = entry.checkpoint?;
    let body = checkpoint.as_ref().map(body).transpose()?;
    if args.json {
        let fields = json!({ "epoch": entry.epoch, "owner": entry.owner, "checkpoint": body });
        print(format!("{}\n", object(key, fields)).as_bytes()).await?;
        return Ok(Exit::Success);
    }
    let mut lines = vec![("key".to_owned(), Word(key).to_string())];
    match (&checkpoint, body) {
        (Some(checkpoint), Some(body)) => lines.extend(told(checkpoint, body)),
        _ => lines.push(("next".into(), "-".into())),
    }
    lines.push(("epoch".into(), entry.epoch.to_string()));
    lines.push(("owner".into(), entry.owner.as_deref().map_or_else(|| "-".into(), plain)));
    print(pairs(&lines).as_bytes()).await?;
    Ok(Exit::Success)
}

/// The body that stores keep, which has also what a later version has put into it.
fn body(checkpoint: &Checkpoint) -> Result<Map<String, Value>, Failure> {
    let bytes = checkpoint.encode().map_err(|error| Failure::failed(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| Failure::failed(error.to_string()))
}

/// Everything of a checkpoint, a line each.
fn told(checkpoint: &Checkpoint, body: Map<String, Value>) -> Vec<(String, String)> {
    let mut lines = vec![("next".to_owned(), checkpoint.next.to_string())];
    let mut line = |name: &str, value: String| lines.push((name.into(), value));
    if let Some(anchor) = checkpoint.anchor {
        line("anchor", format!("{} {}", anchor.offset, anchor.crc));
    }
    for done in &checkpoint.done {
        line("done", format!("{} {}", done.from, done.to));
    }
    line("head_attempts", checkpoint.head_attempts.to_string());
    line("user_bytes", checkpoint.user.len().to_string());
    if !checkpoint.user.is_empty() {
        line("user", checkpoint.user.escape_ascii().to_string());
    }
    let time = i64::try_from(checkpoint.written_at)
        .ok()
        .and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    let written_at = match (age(checkpoint, now()), time) {
        (Some(age), Some(time)) => format!("{time} ({} ago)", seconds(age)),
        _ => "-".into(),
    };
    line("written_at", written_at);
    for (name, value) in body.into_iter().filter(|(name, _)| !KNOWN.contains(&name.as_str())) {
        line(&plain(&name), value.to_string());
    }
    lines
}
