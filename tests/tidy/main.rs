//! The shape of the tree: who depends on whom, and what may stand where.
//!
//! Each rule of the source is a row in `rules`, with a sample that breaks it and one that does not, so that a rule that
//! cannot fail is noticed.
#![expect(clippy::expect_used, reason = "helpers of tests fail the test that uses them")]

mod code;
mod members;
mod planted;
mod rules;

use std::fs;
use std::path::{Path, PathBuf};

use crate::code::code_of;

/// A file of the workspace.
struct Source {
    /// The path from the workspace's root, with `/`.
    path: String,
    text: String,
    /// The text with comments and the contents of literals blanked.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// Whether the file has nothing but tests.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || self.path.contains("/benches/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// Every Rust file of the workspace's members.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for member in members::MEMBERS {
        list(&root().join(member.folder), &mut paths);
    }
    assert!(!paths.is_empty(), "there are no sources below `{}`", root().display());
    paths
        .iter()
        .map(|path| {
            let relative = path.strip_prefix(root()).expect("members are in the root").to_string_lossy();
            Source::new(&relative, &fs::read_to_string(path).expect("a source can be read"))
        })
        .collect()
}

fn list(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a member's folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}
