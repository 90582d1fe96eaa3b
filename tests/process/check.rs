//! `logd check`, `log-cli spool check` and `log-cli state check`: real files, damaged at real places.

mod spool;
mod state;
mod topics;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use logd_tests::Finished;

/// Nothing was found, or only notes.
const SOUND: i32 = 0;

/// Something is damaged or to be repaired, or was.
const FOUND: i32 = 1;

/// The command line cannot be meant.
const USAGE: i32 = 2;

/// Something could not be checked.
const UNCHECKED: i32 = 3;

/// Every file and directory below one, itself too: when it was changed, and what a file has.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot(BTreeMap<PathBuf, (SystemTime, Vec<u8>)>);

impl Snapshot {
    fn of(dir: &Path) -> Self {
        let mut all = BTreeMap::new();
        let mut waiting = vec![dir.to_path_buf()];
        while let Some(path) = waiting.pop() {
            let found = fs::symlink_metadata(&path).expect("what is listed is there");
            let bytes = if found.is_dir() {
                let entries = fs::read_dir(&path).expect("a directory can be listed");
                waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
                Vec::new()
            } else {
                fs::read(&path).expect("a file can be read")
            };
            all.insert(path, (found.modified().expect("a file has a time"), bytes));
        }
        Self(all)
    }
}

/// Flips a bit of a byte.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("the file can be read");
    *bytes.get_mut(at).expect("the file is so long") ^= 0x40;
    fs::write(path, bytes).expect("the file can be written");
}

/// Cuts a file off.
fn cut(path: &Path, bytes: usize) {
    let file = fs::File::options().write(true).open(path).expect("the file can be opened");
    file.set_len(bytes as u64).expect("the file can be cut");
}

/// What a run said that ended with this code.
fn said(finished: &Finished, code: i32) -> String {
    let text = String::from_utf8_lossy(&finished.stdout).into_owned();
    assert_eq!(finished.code(), Some(code), "it said:\n{text}{}", finished.stderr);
    text
}

/// What is left of the lines when notes and the summary are taken away.
fn matters(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("note ") && !line.starts_with("checked ")).collect()
}

/// Checks, repairs, and checks again with `run`, which is given further arguments: nothing is changed but by the repair,
/// which finds what the check has found, and finds nothing the second time. Returns what the first check said, and the
/// repair.
fn assert_mends(dir: &Path, run: impl Fn(&[&str]) -> Finished) -> (String, String) {
    let before = Snapshot::of(dir);
    let checked = said(&run(&[]), FOUND);
    assert_eq!(said(&run(&["--json"]), FOUND).lines().count(), checked.lines().count());
    assert_eq!(Snapshot::of(dir), before, "a check changes nothing");
    let repaired = said(&run(&["--repair"]), FOUND);
    assert_eq!(matters(&repaired).len(), matters(&checked).len(), "{checked}{repaired}");
    for (line, before) in matters(&repaired).iter().zip(matters(&checked)) {
        assert!(line.strip_prefix(before).is_some_and(|done| done.starts_with("; ")), "`{line}` is repaired");
    }
    let left = Snapshot::of(dir);
    assert_eq!(matters(&said(&run(&[]), SOUND)), [""; 0]);
    assert_eq!(matters(&said(&run(&["--repair"]), SOUND)), [""; 0]);
    assert_eq!(Snapshot::of(dir), left, "neither does a second repair");
    (checked, repaired)
}
