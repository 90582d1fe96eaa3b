//! `log-cli state copy`: the checkpoints of a store, to another.
//!
//! What the other store does not have is made there as it is, without a lease; what it has is written over only if that was
//! asked for, and its readers are fenced. A checkpoint that is there already just so is left alone, so that a run which
//! ended early can be repeated.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use logd_client::{Checkpoint, ConsumerKey, Fence, StateEntry};
use serde_json::{Value, json};

use super::key::Word;
use super::report::{Column, object, plain, table, tell};
use super::store::{Missing, Store};
use crate::args::state::Copy;
use crate::exit::{Exit, Failure};
use crate::output::complain;

/// How many keys a failure names.
const NAMED_MAX: usize = 3;

/// What became of a checkpoint.
struct Row<'a> {
    entry: &'a StateEntry,
    result: &'static str,
    why: Option<String>,
}

pub(super) async fn run(args: &Copy) -> Result<Exit, Failure> {
    let from = Store::open(&args.from, Missing::Refuse).await?;
    let entries = from.list().await?;
    from.close().await;
    let to = Store::open(&args.to, Missing::Make).await?;
    let there: BTreeMap<ConsumerKey, StateEntry> =
        to.list().await?.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    if !args.overwrite {
        refuse_differing(&entries, &there, &to)?;
    }
    let mut rows = Vec::with_capacity(entries.len());
    let mut failure = None;
    for entry in &entries {
        match copy(&to, entry, there.get(&entry.key)).await {
            Ok(row) => rows.push(row),
            Err(error) => {
                failure =
                    Some(error.and(format_args!(
                        "; `{}` and what comes behind it were not copied",
                        Word(&entry.key)
                    )));
                break;
            }
        }
    }
    to.close().await;
    let described = |row: &Row<'_>| {
        let next = row
            .entry
            .checkpoint
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .map(|checkpoint| checkpoint.next.to_string());
        object(&row.entry.key, json!({ "next": next, "result": row.result, "error": row.why }))
    };
    let objects: Vec<Value> = rows.iter().map(described).collect();
    tell(args.json, &objects, || told(&rows)).await?;
    match failure {
        Some(failure) => Err(failure),
        None if entries.iter().any(|entry| entry.checkpoint.is_err()) => Ok(Exit::Damaged),
        None => Ok(Exit::Success),
    }
}

/// Nothing is copied where something would be lost by it.
fn refuse_differing(
    entries: &[StateEntry],
    there: &BTreeMap<ConsumerKey, StateEntry>,
    to: &Store,
) -> Result<(), Failure> {
    let differs = |entry: &&StateEntry| match (&entry.checkpoint, there.get(&entry.key)) {
        (Ok(Some(checkpoint)), Some(other)) => !is_same(checkpoint, other),
        _ => false,
    };
    let differing: Vec<String> =
        entries.iter().filter(differs).map(|entry| format!("`{}`", Word(&entry.key))).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let mut names = differing.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if differing.len() > NAMED_MAX {
        // Writing to a string cannot fail.
        let _ = write!(names, " and `{}` more", differing.len() - NAMED_MAX);
    }
    let text = format!(
        "`{}` has others already of {names}; nothing was copied; `--overwrite` replaces them",
        to.url()
    );
    Err(Failure::failed(text))
}

fn is_same(checkpoint: &Checkpoint, other: &StateEntry) -> bool {
    matches!(&other.checkpoint, Ok(Some(other)) if other == checkpoint)
}

async fn copy<'a>(to: &Store, entry: &'a StateEntry, there: Option<&StateEntry>) -> Result<Row<'a>, Failure> {
    let key = &entry.key;
    let row = |result| Row { entry, result, why: None };
    let checkpoint = match &entry.checkpoint {
        Ok(Some(checkpoint)) => checkpoint,
        Ok(None) => return Ok(row("empty")),
        Err(error) => return Ok(Row { why: Some(error.to_string()), ..row("unreadable") }),
    };
    if let Some(owner) = &entry.owner {
        let owner = plain(owner);
        complain(&format_args!(
            "`{owner}` reads with `{}`: what it stores from now on is not copied",
            Word(key)
        ));
    }
    match there {
        Some(other) if is_same(checkpoint, other) => return Ok(row("unchanged")),
        Some(_) => to.admin()?.reset(key, checkpoint).await?,
        None => {
            to.handler().complete(key, checkpoint, Fence::NONE).await?;
        }
    }
    Ok(row("copied"))
}

fn told(rows: &[Row<'_>]) -> String {
    use Column::{Left, Right};
    let cells = |row: &Row<'_>| {
        let checkpoint = row.entry.checkpoint.as_ref().ok().and_then(Option::as_ref);
        let next = checkpoint.map_or_else(|| "-".into(), |checkpoint| checkpoint.next.to_string());
        let result = row
            .why
            .as_deref()
            .map_or_else(|| row.result.into(), |why| format!("{}: {}", row.result, plain(why)));
        [Word(&row.entry.key).to_string(), next, result]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table([Left("KEY"), Right("NEXT"), Left("RESULT")], &rows)
}
