//! A writer's spool with any bytes as its files: `Spool::check`, `Spool::open`, `Spool::repair`.
//!
//! - a check changes nothing; what it counts and finds is what opening does
//! - what is handed out are valid batches, each the whole of its file, oldest first
//! - nothing is ever removed but what is left of puts that never returned
//! - what is put then is there, also when the spool is opened again

use std::collections::BTreeMap;
use std::path::Path;

use bytes::BytesMut;
use logd_client::{Batch, Spool, SpoolCheck, SpoolError, SpoolFault};
use logd_protocol::Decoded;

use super::files::{File, files};
use super::reference::{self, Read};
use super::scratch::{contents, dir, fill};
use super::seal::sealed;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n--- 00000000000000000001-00000000000000000001.batch\n",
    b"\n--- 00000000000000000001-00000000000000000002.batch#\n",
    b"00000000000000000002-00000000000000000001",
    b"18446744073709551615",
    b".batch",
    b".batch.new",
    b".damaged",
    b".refused",
    b".unknown",
    b".aside",
    b".lock",
    b"BATCH ",
    b"MSG ",
    b" writer=0123456789abcdef seq=7",
];

/// The most bytes of a spool.
const BYTES_MAX: u64 = 1 << 30;

/// How many batches are read at once.
const COUNT: usize = 3;

pub(crate) fn run(input: &[u8]) {
    let files: Vec<File> = files(input)
        .into_iter()
        .map(|mut file| {
            if file.is_sealed {
                file.bytes = sealed(&file.bytes, file.is_counted);
            }
            file
        })
        .collect();
    let scratch = dir();
    fill(scratch.path(), &files);
    let before = contents(scratch.path());
    let check = match Spool::check(scratch.path()) {
        Ok(check) => check,
        Err(SpoolError::NoSpool { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert!(contents(scratch.path()) == before, "a check has changed something");
    for finding in &check.findings {
        assert!(!matches!(finding.fault, SpoolFault::Unreadable(_)), "{finding:?} of a sound disk");
    }
    opened(scratch.path(), &check, &before);
    repaired(&files, &check, &before);
}

/// How many findings are damaged batches, and how many what is left of a put.
fn counts(check: &SpoolCheck) -> (usize, u64) {
    let damaged = check.findings.iter().filter(|one| matches!(one.fault, SpoolFault::Damaged(_))).count();
    let unfinished = check.findings.iter().filter(|one| matches!(one.fault, SpoolFault::Unfinished)).count();
    (damaged, unfinished as u64)
}

/// Whether every file is there, under its name or another one, but `removed` ones.
fn expect_kept(dir: &Path, before: &BTreeMap<String, Vec<u8>>, removed: u64) {
    let mut left: Vec<Vec<u8>> = contents(dir).into_values().collect();
    let mut missing = 0;
    for bytes in before.values() {
        match left.iter().position(|other| other == bytes) {
            Some(found) => drop(left.swap_remove(found)),
            None => missing += 1,
        }
    }
    assert!(missing <= removed, "{missing} files are gone, {removed} of which were not finished");
}

fn opened(dir: &Path, check: &SpoolCheck, before: &BTreeMap<String, Vec<u8>>) {
    let (damaged, unfinished) = counts(check);
    let (mut spool, findings) = match Spool::open(dir, BYTES_MAX) {
        Ok(opened) => opened,
        Err(SpoolError::NoRunLeft { .. }) => return,
        // A damaged batch whose other name is taken by a file that was set aside before.
        Err(SpoolError::Io { path, .. }) if path.to_string_lossy().ends_with(".batch.damaged") => return,
        Err(error) => panic!("{error}"),
    };
    assert_eq!((findings.damaged.len(), findings.unfinished), (damaged, unfinished));
    assert_eq!(
        (spool.len() as u64, spool.bytes(), spool.messages()),
        (check.batches, check.bytes, check.messages)
    );
    expect_kept(dir, before, unfinished);

    let mut last = None;
    let mut handed = 0;
    loop {
        let oldest = spool.oldest(COUNT, BYTES_MAX).expect("what was whole is whole");
        for spooled in &oldest {
            let name = format!("{}.batch", spooled.key);
            assert!(last < Some(spooled.key), "{name} is not in order");
            last = Some(spooled.key);
            expect_right(&spooled.batch);
            assert_eq!(before.get(&name).map(Vec::as_slice), Some(&spooled.batch.bytes()[..]), "{name}");
            handed += 1;
        }
        if oldest.is_empty() {
            break;
        }
        spool
            .remove_all(&oldest.iter().map(|spooled| spooled.key).collect::<Vec<_>>())
            .expect("a sound disk");
    }
    assert_eq!(handed, check.batches);
    put(spool, dir);
}

fn expect_right(batch: &Batch) {
    let line = batch.bytes().iter().position(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    // Words that are no identity are none of a spool's business.
    let words: Vec<&[u8]> = batch.bytes()[..line].split(|byte| *byte == b' ').collect();
    let plain =
        [&words[..4].join(&b' '), &b" "[..], words[4].trim_ascii_end(), b"\r\n", &batch.bytes()[line..]]
            .concat();
    match reference::request(&plain, u64::MAX, 1) {
        Read::Taken { request, bytes } if bytes == plain.len() => {
            assert!(reference::wrongs(&request).is_empty(), "{batch:?} is wrong");
        }
        other => panic!("{batch:?} is read as {other:?}"),
    }
}

/// What is put is there when the spool is opened again.
fn put(mut spool: Spool, dir: &Path) {
    let mut bytes =
        BytesMut::from(&b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n"[..]);
    let Decoded::Whole { value: Ok(batch), .. } = Batch::take(&mut bytes, 1000) else { panic!("a batch") };
    spool.put(7, &batch).expect("there is room");
    drop(spool);
    let (spool, findings) = match Spool::open(dir, BYTES_MAX) {
        Ok(opened) => opened,
        Err(SpoolError::NoRunLeft { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    assert!(findings.damaged.is_empty() && findings.unfinished == 0, "{findings:?} for the second time");
    let first = spool.first().expect("a sound disk").expect("it was put");
    assert_eq!((first.batch, spool.len()), (batch, 1));
}

fn repaired(files: &[File], check: &SpoolCheck, before: &BTreeMap<String, Vec<u8>>) {
    let scratch = dir();
    fill(scratch.path(), files);
    let repair = Spool::repair(scratch.path()).expect("a sound disk");
    assert_eq!(counts(&repair), counts(check), "a repair does not find what the check has found");
    let failed = repair.findings.iter().find(|finding| finding.failure.is_some());
    assert!(failed.is_none(), "{failed:?} on a sound disk");
    expect_kept(scratch.path(), before, 0);
    let after = Spool::check(scratch.path()).expect("a sound disk");
    assert_eq!(counts(&after), (0, 0), "after a repair there is {:?}", after.findings);
    assert_eq!(
        (after.batches, after.bytes),
        (check.batches, check.bytes),
        "a repair has changed what is whole"
    );
}
