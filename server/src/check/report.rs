//! How findings are printed: a line for people, or a JSON object for programs.
//!
//! Offsets are text in JSON, since many of its readers take large numbers for fractions. A reader that closes its pipe has
//! had enough: the rest is not printed, and that is no failure.

use std::io::{self, Write};
use std::path::Path;

use logd_protocol::TopicName;
use serde_json::{Value, json};

use super::{Format, Sums, Told};
use crate::log::check::{Done, Grade, What};

/// Prints findings as they come.
pub(super) struct Reporter<'a> {
    out: &'a mut dyn Write,
    format: Format,
    failed: Option<io::Error>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(out: &'a mut dyn Write, format: Format) -> Self {
        Self { out, format, failed: None }
    }

    pub(super) fn tell(&mut self, told: &Told<'_>) {
        let line = match self.format {
            Format::Text => line(told),
            Format::Json => object(told).to_string(),
        };
        self.print(&line);
    }

    pub(super) fn summary(&mut self, sums: &Sums) {
        let line = match self.format {
            Format::Text => summary(sums),
            Format::Json => json!({ "summary": summary_object(sums) }).to_string(),
        };
        self.print(&line);
    }

    /// The error of printing, but for a pipe that was closed.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.failed.is_none() {
            self.failed = self.out.flush().err();
        }
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn print(&mut self, line: &str) {
        if self.failed.is_none() {
            self.failed = writeln!(self.out, "{line}").err();
        }
    }
}

fn line(Told { topic, found }: &Told<'_>) -> String {
    let place = match (topic, found.file.as_str()) {
        (Some(topic), "") => topic.to_string(),
        (Some(topic), file) => format!("{topic}/{}", file.escape_debug()),
        (None, file) => file.escape_debug().to_string(),
    };
    let done = found.done.as_ref().map(|done| format!("; {done}")).unwrap_or_default();
    format!("{:<9} {place}: {}{done}", found.what.grade().word(), found.what)
}

fn object(Told { topic, found }: &Told<'_>) -> Value {
    let mut object = json!({
        "grade": found.what.grade().word(),
        "kind": found.what.word(),
        "topic": topic.map(TopicName::as_str),
        "file": found.file,
        "text": found.what.to_string(),
        "done": found.done.as_ref().map(done),
    });
    if let (Value::Object(object), Value::Object(facts)) = (&mut object, facts(&found.what)) {
        object.extend(facts);
    }
    object
}

fn facts(what: &What) -> Value {
    match what {
        What::Damage { from, to, missing, lost } => json!({
            "from": from.to_string(),
            "to": to.to_string(),
            "bytes": to - from,
            "bytes_missing": missing,
            "batches_lost": lost.batches,
            "messages_lost": lost.messages,
            "is_exact": lost.is_exact,
        }),
        What::KnownDamage { from, to } => {
            json!({ "from": from.to_string(), "to": to.to_string(), "bytes": to - from })
        }
        What::TornTail { offset, bytes } | What::Excess { offset, bytes } => {
            json!({ "offset": offset.to_string(), "bytes": bytes })
        }
        What::NotClosed { bytes } | What::Kept { bytes } => json!({ "bytes": bytes }),
        _ => json!({}),
    }
}

fn done(done: &Done) -> Value {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    match done {
        Done::Cut(path) => json!({ "action": "cut", "kept_in": name(path) }),
        Done::Indexed(path) => json!({ "action": "indexed", "kept_in": path.as_deref().and_then(name) }),
        Done::SetAside(path) => json!({ "action": "set-aside", "kept_in": name(path) }),
    }
}

fn summary(sums: &Sums) -> String {
    let totals = &sums.totals;
    let mut checked = format!(
        "checked {}, {}, {}, {}, {}; {} damaged",
        counted(sums.topics, "topic", "topics"),
        counted(totals.partitions, "partition", "partitions"),
        counted(totals.batches, "batch", "batches"),
        counted(totals.messages, "message", "messages"),
        counted(totals.bytes, "byte", "bytes"),
        counted(totals.bytes_damaged, "byte", "bytes"),
    );
    if totals.lost.batches > 0 {
        checked = format!("{checked}, {}", totals.lost);
    }
    let [notes, repair, damage, unchecked] = sums.findings;
    let counts = [
        (damage, "of damage"),
        (repair, "to repair"),
        (unchecked, "unchecked"),
        (notes, "noted"),
        (sums.repaired, "repaired"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    std::iter::once(checked).chain(counts).collect::<Vec<_>>().join("; ")
}

fn summary_object(sums: &Sums) -> Value {
    let totals = &sums.totals;
    let [notes, repair, damage, unchecked] = sums.findings;
    json!({
        "topics": sums.topics,
        "partitions": totals.partitions,
        "batches": totals.batches,
        "messages": totals.messages,
        "bytes": totals.bytes,
        "bytes_damaged": totals.bytes_damaged,
        "batches_lost": totals.lost.batches,
        "messages_lost": totals.lost.messages,
        "is_exact": totals.lost.is_exact,
        "findings": {
            Grade::Damage.word(): damage,
            Grade::Repair.word(): repair,
            Grade::Unchecked.word(): unchecked,
            Grade::Note.word(): notes,
        },
        "repaired": sums.repaired,
    })
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
