//! A store of checkpoints in files, with any bytes as its files: `FileState`.
//!
//! - a check changes nothing; what it counts can be read, and what it finds damaged cannot
//! - a record that is replaced is what it was replaced by, whatever it was before
//! - after a repair there is nothing that cannot be read, and every sound record is as it was

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use logd_statehandlers::{
    Checkpoint, ConsumerKey, FileCheck, FileFault, FileState, StateAdmin, StateHandler,
};
use tokio::runtime::{Builder, Runtime};

use super::files::{File, files};
use super::reference::checksum;
use super::scratch::{contents, dir, fill};

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n--- billing.ckpt!\n",
    b"\n--- .logd-state\n",
    b".ckpt",
    b".lock",
    b".write",
    b".tmp",
    b".aside",
    b"%2F",
    b"logd-state 1 ",
    b"logd-state-store 1 0123456789abcdef0123456789abcdef\n",
    b"{\"claimant\":\"0123456789abcdef0123456789abcdef\",\"fence\":\"7-0123\",\"owner\":\"host-1\"}\n",
    b"{\"logd-checkpoint\":1,\"next\":\"60.12\"}\n",
    b"{}\n",
];

/// The file that makes a folder a store.
const MARKER: &str = ".logd-state";
const MARKER_TEXT: &[u8] = b"logd-state-store 1 0123456789abcdef0123456789abcdef\n";

/// Where the records are in the root.
const FOLDER: &str = "default/orders";

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Blocking calls are made on the thread that asks, without a runtime for them.
fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime
            .get_or_insert_with(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
        runtime.block_on(future)
    })
}

pub(crate) fn run(input: &[u8]) {
    let files: Vec<File> = files(input).into_iter().map(seal).collect();
    let scratch = dir();
    store(scratch.path(), &files);
    let before = contents(scratch.path());
    let check = wait(FileState::check(scratch.path()));
    assert!(contents(scratch.path()) == before, "a check has changed something");
    match check {
        Ok(check) => {
            let sealed =
                files.iter().filter(|file| file.is_a("ckpt") && is_sealed(&file.bytes)).count() as u64;
            assert!(check.records <= sealed, "{} records are taken for sound, {sealed} are", check.records);
            read(scratch.path(), &check);
            repaired(&files, &check, &before);
        }
        // A later version has made the store.
        Err(error) => {
            assert!(files.iter().any(|file| file.name == MARKER), "{error}");
            let opened = wait(FileState::open_existing(scratch.path()));
            assert!(opened.is_err(), "a store that cannot be checked opens: {error}");
        }
    }
}

/// Makes the files a store.
fn store(root: &Path, files: &[File]) {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let (marker, records): (Vec<File>, Vec<File>) =
        files.iter().cloned().partition(|file| file.name == MARKER);
    fs::write(root.join(MARKER), MARKER_TEXT).expect("a file can be written");
    fill(root, &marker);
    fill(&folder, &records);
}

/// Gives a record the first line that belongs to what follows it.
fn seal(mut file: File) -> File {
    if file.is_sealed && file.is_a("ckpt") {
        let (line, content) = file.bytes.split_at(line_bytes(&file.bytes));
        let version = line.split(|byte| *byte == b' ').nth(1).unwrap_or(b"1");
        file.bytes = [&first_line(version, content)[..], content].concat();
    }
    file
}

/// Whether the first line of a record belongs to what follows it.
fn is_sealed(record: &[u8]) -> bool {
    let (line, content) = record.split_at(line_bytes(record));
    line.split(|byte| *byte == b' ').nth(1).is_some_and(|version| line == first_line(version, content))
}

fn line_bytes(record: &[u8]) -> usize {
    record.iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1)
}

fn first_line(version: &[u8], content: &[u8]) -> Vec<u8> {
    let crc = checksum(&[b"logd-state ", version, b"\n", content].concat());
    [b"logd-state ", version, format!(" {crc:08x} {}\n", content.len()).as_bytes()].concat()
}

/// The records that are damaged, and how many findings ask for a repair.
fn damaged(check: &FileCheck) -> (Vec<ConsumerKey>, usize) {
    let is_damaged = |fault: &FileFault| matches!(fault, FileFault::Damaged(_) | FileFault::Unreadable(_));
    let keys = check.findings.iter().filter(|finding| is_damaged(&finding.fault));
    let is_to_be_repaired = |fault: &FileFault| {
        matches!(fault, FileFault::Damaged(_) | FileFault::Marker | FileFault::Unfinished)
    };
    let count = check.findings.iter().filter(|finding| is_to_be_repaired(&finding.fault)).count();
    (keys.filter_map(|finding| finding.key.clone()).collect(), count)
}

fn has_marker_fault(check: &FileCheck) -> bool {
    check.findings.iter().any(|finding| matches!(finding.fault, FileFault::Marker))
}

fn read(root: &Path, check: &FileCheck) {
    let state = match wait(FileState::open_existing(root)) {
        Ok(state) => state,
        Err(error) => return assert!(has_marker_fault(check), "the check has not told that {error}"),
    };
    assert!(!has_marker_fault(check), "the store opens, though its marker is none");
    let (damaged, _) = damaged(check);
    let entries = wait(state.list()).expect("a sound disk");
    let sound = entries.iter().filter(|entry| entry.checkpoint.is_ok()).count() as u64;
    assert_eq!(sound, check.records, "other records are listed than the check has counted");
    for entry in entries {
        let read = wait(state.get(&entry.key));
        assert_eq!(read.is_err(), damaged.contains(&entry.key), "{:?} of `{}`", read, entry.key);
        assert_eq!(read.is_err(), entry.checkpoint.is_err(), "`{}` is listed otherwise", entry.key);
        let mut checkpoint = Checkpoint::at("5.0".parse().expect("a position"));
        checkpoint.user = b"anew".to_vec();
        wait(state.reset(&entry.key, &checkpoint)).expect("a record can be replaced whatever it was");
        let now = wait(state.get(&entry.key)).expect("it was replaced").expect("it is there");
        assert_eq!((now.next, now.user), (checkpoint.next, checkpoint.user));
    }
}

fn repaired(files: &[File], check: &FileCheck, before: &BTreeMap<String, Vec<u8>>) {
    let scratch = dir();
    store(scratch.path(), files);
    let repair = wait(FileState::repair(scratch.path())).expect("a sound disk");
    assert_eq!(damaged(&repair), damaged(check), "a repair does not find what the check has found");
    let failed = repair.findings.iter().find(|finding| finding.failure.is_some());
    assert!(failed.is_none(), "{failed:?} on a sound disk");
    let after = wait(FileState::check(scratch.path())).expect("a sound disk");
    assert_eq!(damaged(&after).1, 0, "after a repair there is {:?}", after.findings);
    assert_eq!(after.records, check.records, "a repair has changed what is sound");
    let left: Vec<Vec<u8>> = contents(scratch.path()).into_values().collect();
    let gone = before.iter().find(|(_, bytes)| !left.contains(bytes));
    assert!(gone.is_none(), "a repair has lost `{}`", gone.map_or("", |(name, _)| name));
}
