//! `log-cli state lag` and `verify`: checkpoints held against the topics that the server has.

use logd_client::fit::{Extent, Finding, Fit, judge};
use logd_client::{Client, StateEntry};
use serde_json::{Value, json};

use super::judge::{OK, told};
use super::key::Word;
use super::report::{Column, object, plain, table, tell};
use super::store::Store;
use crate::args::Common;
use crate::args::state::Keys;
use crate::connect::connect;
use crate::exit::{Exit, Failure};

/// A checkpoint, and what was found about it.
struct Row<'a> {
    entry: &'a StateEntry,
    /// The end of its topic.
    head: Option<u64>,
    /// How many bytes that are there lie between the two.
    bytes: Option<u64>,
    /// How it is, in a word for programs.
    verdict: &'static str,
    /// What is wrong with it.
    finding: Option<String>,
}

pub(super) async fn lag(common: &Common, keys: &Keys) -> Result<Exit, Failure> {
    let (store, entries) = Store::open_for(keys).await?;
    store.close().await;
    let rows = compared(common, &entries).await?;
    let described = |row: &Row<'_>| {
        let fields = json!({
            "next": next(row.entry),
            "head": row.head,
            "bytes": row.bytes,
            "verdict": row.verdict,
            "finding": row.finding,
        });
        object(&row.entry.key, fields)
    };
    let objects: Vec<Value> = rows.iter().map(described).collect();
    tell(keys.store.json, &objects, || lags(&rows)).await?;
    Ok(exit(&rows))
}

pub(super) async fn verify(common: &Common, keys: &Keys) -> Result<Exit, Failure> {
    let (store, entries) = Store::open_for(keys).await?;
    store.close().await;
    let rows = compared(common, &entries).await?;
    let described = |row: &Row<'_>| {
        let fields = json!({
            "next": next(row.entry),
            "ok": row.finding.is_none(),
            "verdict": row.verdict,
            "finding": row.finding,
        });
        object(&row.entry.key, fields)
    };
    let objects: Vec<Value> = rows.iter().map(described).collect();
    tell(keys.store.json, &objects, || verdicts(&rows)).await?;
    Ok(exit(&rows))
}

async fn compared<'a>(common: &Common, entries: &'a [StateEntry]) -> Result<Vec<Row<'a>>, Failure> {
    let mut client = connect(common).await?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        rows.push(compare(&mut client, entry).await?);
    }
    // Every answer has come, and the connection ends in any case.
    let _ = client.close().await;
    Ok(rows)
}

async fn compare<'a>(client: &mut Client, entry: &'a StateEntry) -> Result<Row<'a>, Failure> {
    let mut row = Row { entry, head: None, bytes: None, verdict: OK, finding: None };
    let checkpoint = match &entry.checkpoint {
        Ok(Some(checkpoint)) => checkpoint,
        Ok(None) => return Ok(row),
        Err(error) => {
            (row.verdict, row.finding) = ("unreadable", Some(format!("unreadable: {error}")));
            return Ok(row);
        }
    };
    let Fit { extent, finding } = judge(client, entry.key.topic(), checkpoint).await?;
    row.head = extent.map(|Extent { head, .. }| head.as_u64());
    // The offsets of another topic say nothing.
    if !matches!(finding, Some(Finding::Other(_))) {
        let next = checkpoint.next.offset;
        row.bytes = match extent {
            Some(Extent { oldest, head }) => Some(head.as_u64().saturating_sub(next.max(oldest).as_u64())),
            None => finding.is_none().then_some(0),
        };
    }
    if let Some(finding) = finding {
        let (verdict, text) = told(&finding);
        (row.verdict, row.finding) = (verdict, Some(text));
    }
    Ok(row)
}

fn next(entry: &StateEntry) -> Option<String> {
    let checkpoint = entry.checkpoint.as_ref().ok()?.as_ref()?;
    Some(checkpoint.next.to_string())
}

fn exit(rows: &[Row<'_>]) -> Exit {
    if rows.iter().any(|row| row.finding.is_some()) { Exit::Damaged } else { Exit::Success }
}

/// What there is not is a dash.
fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn lags(rows: &[Row<'_>]) -> String {
    use Column::{Left, Right};
    let cells = |row: &Row<'_>| {
        [
            Word(&row.entry.key).to_string(),
            cell(next(row.entry)),
            cell(row.head),
            cell(row.bytes),
            row.finding.as_deref().map(plain).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table([Left("KEY"), Right("NEXT"), Right("HEAD"), Right("BYTES"), Left("NOTE")], &rows)
}

fn verdicts(rows: &[Row<'_>]) -> String {
    use Column::{Left, Right};
    let cells = |row: &Row<'_>| {
        let verdict = row.finding.as_deref().map_or_else(|| "ok".into(), plain);
        [Word(&row.entry.key).to_string(), cell(next(row.entry)), verdict]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table([Left("KEY"), Right("NEXT"), Left("VERDICT")], &rows)
}
