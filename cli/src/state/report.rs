//! What the commands on checkpoints print: columns for people, a JSON object on a line for programs.
//!
//! Positions are text in both, since many readers of JSON take large numbers for fractions.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_client::{Checkpoint, ConsumerKey};
use serde_json::{Value, json};

use super::key::Word;
use crate::exit::Failure;
use crate::output::print;

/// How a column lies below its headline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Left(&'static str),
    Right(&'static str),
}

/// Rows below headlines, for people.
pub(super) fn table<const N: usize>(columns: [Column; N], rows: &[[String; N]]) -> String {
    let heads = columns.map(|column| match column {
        Column::Left(head) | Column::Right(head) => head.to_owned(),
    });
    let mut widths = [0; N];
    for row in std::iter::once(&heads).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for ((cell, column), width) in row.iter().zip(columns).zip(widths) {
            // Writing to a string cannot fail.
            let _ = match column {
                Column::Left(_) => write!(line, "{cell:<width$}  "),
                Column::Right(_) => write!(line, "{cell:>width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What every object begins with: the key as a word, and its names.
pub(super) fn object(key: &ConsumerKey, fields: Value) -> Value {
    let mut object = json!({
        "key": Word(key).to_string(),
        "namespace": key.namespace(),
        "topic": key.topic().as_str(),
        "consumer": key.consumer(),
    });
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// Prints objects, or what people are to read.
pub(super) async fn tell(
    json: bool,
    objects: &[Value],
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let lines = || objects.iter().flat_map(|object| [object.to_string(), "\n".into()]).collect();
    let text = if json { lines() } else { text() };
    print(text.as_bytes()).await
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How long ago a checkpoint was stored; `None` where it does not say. By clocks of two machines, so never before zero.
pub(super) fn age(checkpoint: &Checkpoint, now: u64) -> Option<Duration> {
    (checkpoint.written_at > 0).then(|| Duration::from_millis(now.saturating_sub(checkpoint.written_at)))
}

/// A time for people: whole seconds.
pub(super) fn seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// A text from a store, which can have anything in it.
pub(super) fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows =
            [["ä/b/c".to_owned(), "7".into(), String::new()], ["a".into(), "1234567".into(), "x y".into()]];
        let columns = [Column::Left("KEY"), Column::Right("BYTES"), Column::Left("NOTE")];
        assert_eq!(table(columns, &rows), "KEY      BYTES  NOTE\nä/b/c        7\na      1234567  x y\n");
    }

    #[test]
    fn ages_are_never_before_zero() {
        let written_at = |time| {
            let mut checkpoint = Checkpoint::default();
            checkpoint.written_at = time;
            checkpoint
        };
        assert_eq!(age(&written_at(0), 5), None);
        assert_eq!(age(&written_at(7000), 9500).map(seconds).as_deref(), Some("2s"));
        assert_eq!(age(&written_at(7000), 5).map(seconds).as_deref(), Some("0s"));
    }
}
