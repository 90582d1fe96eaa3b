//! What the checks of spools and of stores in files print, and how they end: as `logd check` does.
//!
//! A finding is a line, or a JSON object on a line for programs; the last line is a summary.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::exit::{Exit, Failure};
use crate::output::print;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grade {
    /// Worth telling; nothing is wrong.
    Note,
    /// Something is to be repaired; nothing has been lost by it.
    Repair,
    /// Something has been lost.
    Damage,
    /// It is not known what is there.
    Unchecked,
}

impl Grade {
    const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Repair => "repair",
            Self::Damage => "damage",
            Self::Unchecked => "unchecked",
        }
    }
}

/// A finding.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    /// A word for programs.
    pub(crate) kind: &'static str,
    /// The file, from the directory on.
    pub(crate) file: String,
    pub(crate) text: String,
    /// Its name since the repair.
    pub(crate) moved_to: Option<String>,
    /// What follows from that it has another name.
    pub(crate) then: Option<&'static str>,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    /// What was counted, each with the words for one and for many.
    counts: Vec<(u64, &'static str, &'static str)>,
}

impl Report {
    pub(crate) fn new(counts: &[(u64, &'static str, &'static str)]) -> Self {
        Self { findings: Vec::new(), counts: counts.to_vec() }
    }

    /// Adds a finding and, if it was to be repaired in vain, why.
    pub(crate) fn add(&mut self, finding: Finding, failure: Option<String>) {
        let file = finding.file.clone();
        self.findings.push(finding);
        if let Some(text) = failure {
            let grade = Grade::Unchecked;
            self.findings.push(Finding { grade, kind: "unrepaired", file, text, moved_to: None, then: None });
        }
    }

    /// Prints everything, and says how the program ends.
    pub(crate) async fn tell(&self, is_json: bool) -> Result<Exit, Failure> {
        let text = if is_json { self.objects() } else { self.lines() };
        print(text.as_bytes()).await?;
        Ok(match self.findings.iter().map(|finding| finding.grade).max() {
            None | Some(Grade::Note) => Exit::Success,
            Some(Grade::Repair | Grade::Damage) => Exit::Failed,
            Some(Grade::Unchecked) => Exit::Unreachable,
        })
    }

    fn count(&self, grade: Grade) -> u64 {
        self.findings.iter().filter(|finding| finding.grade == grade).count() as u64
    }

    fn repaired(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.moved_to.is_some()).count() as u64
    }

    fn lines(&self) -> String {
        let mut text = String::new();
        for Finding { grade, file, text: what, moved_to, then, .. } in &self.findings {
            let then = then.map(|then| format!("; {then}")).unwrap_or_default();
            let done =
                moved_to.as_ref().map(|name| format!("; set aside as `{}`{then}", name.escape_debug()));
            let (grade, file, done) = (grade.word(), file.escape_debug(), done.unwrap_or_default());
            text.push_str(&[&format!("{grade:<9} {file}: {what}"), &*done, "\n"].concat());
        }
        let checked = self
            .counts
            .iter()
            .map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }));
        let checked = format!("checked {}", checked.collect::<Vec<_>>().join(", "));
        let counts = [
            (self.count(Grade::Damage), "of damage"),
            (self.count(Grade::Repair), "to repair"),
            (self.count(Grade::Unchecked), "unchecked"),
            (self.count(Grade::Note), "noted"),
            (self.repaired(), "repaired"),
        ];
        let counts =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
        text + &std::iter::once(checked).chain(counts).collect::<Vec<_>>().join("; ") + "\n"
    }

    fn objects(&self) -> String {
        let object = |finding: &Finding| {
            let Finding { grade, kind, file, text, moved_to, .. } = finding;
            json!({ "grade": grade.word(), "kind": kind, "file": file, "text": text, "moved_to": moved_to })
        };
        let mut summary = Map::new();
        for (count, _, many) in &self.counts {
            summary.insert((*many).to_owned(), (*count).into());
        }
        let grades = [Grade::Damage, Grade::Repair, Grade::Unchecked, Grade::Note];
        let findings: Map<String, Value> =
            grades.iter().map(|grade| (grade.word().to_owned(), self.count(*grade).into())).collect();
        summary.insert("findings".into(), findings.into());
        summary.insert("repaired".into(), self.repaired().into());
        let objects = self.findings.iter().map(object).chain([json!({ "summary": summary })]);
        objects.flat_map(|object| [object.to_string(), "\n".into()]).collect()
    }
}

/// A path as it is told: from the directory that is checked on.
pub(crate) fn name(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned()
}

/// That a directory cannot be checked at all.
pub(crate) fn unchecked(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, error.to_string())
}

/// The exit codes of a check for its help text.
pub(crate) fn help() -> &'static str {
    "Exit codes of a check, which are those of `logd check`:
    0  nothing was found, or only notes
    1  something is damaged or to be repaired, or was
    2  the arguments make no sense
    3  something could not be checked or repaired, or the directory is in use"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(grades: &[Grade]) -> Report {
        let mut report = Report::new(&[(1, "batch", "batches"), (2, "message", "messages")]);
        for grade in grades {
            let (file, text, moved_to) = ("a\nb".into(), "is wrong".into(), Some("a.aside".into()));
            report.add(Finding { grade: *grade, kind: "kind", file, text, moved_to, then: None }, None);
        }
        report
    }

    #[test]
    fn findings_are_lines_and_then_a_summary() {
        let expected = "\
damage    a\\nb: is wrong; set aside as `a.aside`
checked 1 batch, 2 messages; 1 of damage; 1 repaired
";
        assert_eq!(report(&[Grade::Damage]).lines(), expected);
        assert_eq!(report(&[]).lines(), "checked 1 batch, 2 messages\n");
        assert_eq!(report(&[Grade::Note]).objects().lines().count(), 2);
    }
}
