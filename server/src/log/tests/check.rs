//! Checking and repairing a topic's directory: every kind of damage, and every call at which a repair can be interrupted.

mod damage;
mod faults;
mod files;

use std::collections::BTreeMap;

use super::*;
use crate::log::check::{Done, Found, Grade, Totals, What, check as check_topic, repair as repair_topic};

/// What the file system has in the topic's directory.
fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    names(disk).into_iter().filter_map(|name| Some((name.clone(), file(disk, &name)?))).collect()
}

/// Checks, and that nothing is changed by it.
fn check(disk: &SimDisk) -> (Vec<Found>, Totals) {
    let (before, calls) = (files(disk), disk.calls());
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut found = Vec::new();
    let totals = check_topic(&shared, Path::new(DIR), &mut |one| found.push(one)).unwrap();
    assert_eq!(disk.calls(), calls, "a check makes no call that changes something");
    assert_eq!(files(disk), before);
    assert!(found.iter().all(|one| one.done.is_none()));
    (found, totals)
}

fn repair(disk: &SimDisk) -> Vec<Found> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut found = Vec::new();
    let (start, mut before) = (disk.calls(), None);
    let mut note = || {
        before.get_or_insert_with(|| disk.calls());
    };
    repair_topic(&shared, Path::new(DIR), &mut note, &mut |one| found.push(one)).unwrap();
    assert_eq!(before.unwrap_or(disk.calls()), start, "it is told before the first change");
    found
}

/// The files and kinds of what was found, without notes.
fn kinds(found: &[Found]) -> Vec<(&str, &'static str)> {
    let matters = found.iter().filter(|one| one.what.grade() > Grade::Note);
    matters.map(|one| (one.file.as_str(), one.what.word())).collect()
}

/// Repairs, and checks that all is well then: nothing is left but notes, a second repair does nothing, nothing is gone,
/// and a server finds nothing out of order and serves `held` at its offsets, and goes on.
fn assert_mends(disk: &SimDisk, held: &[(u64, Vec<u8>)], context: &str) -> Vec<Found> {
    let found = repair(disk);
    for one in &found {
        assert!(one.what.grade() != Grade::Unchecked, "{context}: {one:?}");
        let is_open = one.what.grade() > Grade::Note && one.done.is_none();
        assert!(!is_open, "{context}: {one:?} is not repaired");
    }
    let (left, totals) = check(disk);
    assert_eq!(kinds(&left), [], "{context}: {left:?}");
    assert_eq!((totals.bytes_damaged, totals.lost.batches), (0, 0), "{context}");
    let (calls, before) = (disk.calls(), files(disk));
    let again = repair(disk);
    assert!(again.iter().all(|one| one.done.is_none()), "{context}: {again:?}");
    assert_eq!((disk.calls(), files(disk)), (calls, before), "{context}: a second repair changes nothing");
    assert_serves(disk, held, context);
    found
}

/// A server opens the topic without a finding, serves these batches, and goes on.
fn assert_serves(disk: &SimDisk, held: &[(u64, Vec<u8>)], context: &str) {
    let (log, findings) = open(disk, &config(1_000_000));
    assert_eq!(findings, [], "{context}");
    for (offset, bytes) in held {
        let answer = Answer { offset: *offset, batches: 1, bytes: bytes.clone() };
        assert_eq!(read(&log, *offset, 1), Some(answer), "{context}: the batch at {offset}");
    }
    let more = batch(&[b"appended"]);
    let offset = append(&log, &more);
    assert_eq!(read(&log, offset, 1).map(|answer| answer.bytes), Some(more), "{context}");
}

/// The batches with their offsets, the first of which is 0.
fn placed(batches: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    starts(0, batches).into_iter().zip(batches.iter().cloned()).collect()
}

/// Batches of the same length, of two messages each.
fn numbered(count: usize) -> Vec<Vec<u8>> {
    let all = (0..1000).map(|number| batch(&[format!("{number:03}").as_bytes(), b"and more"]));
    // Most checksums have ten digits.
    let length = b"BATCH 29 default 4294967295 2\r\n".len() + 29;
    let batches: Vec<Vec<u8>> = all.filter(|batch| batch.len() == length).take(count).collect();
    assert_eq!(batches.len(), count);
    batches
}

/// A topic of partitions of `count` numbered batches each, ended in order.
fn closed(batches: &[Vec<u8>], count: usize) -> SimDisk {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config((batches[0].len() * count) as u64));
    append_all(&log, batches);
    log.close().unwrap();
    disk
}

fn remove(disk: &SimDisk, name: &str) {
    disk.remove(&Path::new(DIR).join(name)).unwrap();
}
