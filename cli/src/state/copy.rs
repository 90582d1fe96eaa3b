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
    /// The position that was written over.
    replaced: Option<String>,
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
        let fields = json!({
            "next": next(row.entry),
            "result": row.result,
            "replaced": row.replaced,
            "error": row.why,
        });
        object(&row.entry.key, fields)
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
    let named = |entry: &StateEntry| {
        let (here, there) = (next(entry), there.get(&entry.key).and_then(next));
        let [here, there] = [here, there].map(|next| next.unwrap_or_else(|| "-".into()));
        format!("`{}` (`{there}` there, `{here}` here)", Word(&entry.key))
    };
    let differing: Vec<String> = entries.iter().filter(differs).map(named).collect();
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

/// The position of a checkpoint.
fn next(entry: &StateEntry) -> Option<String> {
    let checkpoint = entry.checkpoint.as_ref().ok()?.as_ref()?;
    Some(checkpoint.next.to_string())
}

fn is_same(checkpoint: &Checkpoint, other: &StateEntry) -> bool {
    matches!(&other.checkpoint, Ok(Some(other)) if other == checkpoint)
}

async fn copy<'a>(to: &Store, entry: &'a StateEntry, there: Option<&StateEntry>) -> Result<Row<'a>, Failure> {
    let key = &entry.key;
    let row = |result| Row { entry, result, replaced: None, why: None };
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
        Some(other) => {
            to.admin()?.reset(key, checkpoint).await?;
            return Ok(Row { replaced: Some(next(other).unwrap_or_else(|| "-".into())), ..row("copied") });
        }
        None => {
            to.handler().complete(key, checkpoint, Fence::NONE).await?;
        }
    }
    Ok(row("copied"))
}

fn told(rows: &[Row<'_>]) -> String {
    use Column::{Left, Right};
    let cells = |row: &Row<'_>| {
        let next = next(row.entry).unwrap_or_else(|| "-".into());
        let result = match (&row.why, &row.replaced) {
            (Some(why), _) => format!("{}: {}", row.result, plain(why)),
            (None, Some(replaced)) => format!("{} over {replaced}", row.result),
            (None, None) => row.result.into(),
        };
        [Word(&row.entry.key).to_string(), next, result]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table([Left("KEY"), Right("NEXT"), Left("RESULT")], &rows)
}
