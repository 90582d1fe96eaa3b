//! A repair that is interrupted or refused at any call loses nothing that could be read before.

use std::io::ErrorKind;

use super::*;
use crate::disk::{Cut, Fault, FaultKind};

/// A topic with something of everything that a repair does, all of it on the disk.
fn wreck() -> SimDisk {
    let batches = numbered(10);
    let disk = closed(&batches, 2);
    let part = batches[..2].concat().len();
    let name = |number: usize, extension: &str| format!("{}.{extension}", part * number);
    // A damaged body, a missing index, a missing partition, one of another partition, a damaged end and a torn tail.
    let mut first = batches[..2].concat();
    first[60] ^= 1;
    put(&disk, "0.log", &[&first[..], b"more"].concat());
    remove(&disk, &name(1, "index"));
    remove(&disk, &name(2, "log"));
    put(&disk, &name(3, "index"), &file(&disk, "0.index").unwrap());
    let mut head = batches[8..].concat();
    let end = head.len() - 3;
    head[end] ^= 1;
    put(&disk, &name(4, "log"), &[&head[..], b"BATCH torn"].concat());
    put(&disk, "0.index.new", b"unfinished");
    put(&disk, "7.log", b"");
    put(&disk, "0.aside", b"kept");
    sync(&disk);
    disk
}

fn sync(disk: &SimDisk) {
    for name in names(disk) {
        disk.open(&Path::new(DIR).join(name), OpenMode::Write).unwrap().sync().unwrap();
    }
    disk.sync_dir(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
}

/// The batches that a server serves, in whatever state the directory is.
fn served(disk: &SimDisk) -> Vec<(u64, Vec<u8>)> {
    let (log, _) = open(disk, &config(1_000_000));
    let sound = placed(&numbered(10)).into_iter();
    sound
        .filter(|(offset, bytes)| {
            read(&log, *offset, 1).is_some_and(|answer| answer.offset == *offset && answer.bytes == *bytes)
        })
        .collect()
}

/// Every piece of the wreck that a repair cuts off or replaces is in some file.
fn assert_kept(disk: &SimDisk, wreck: &BTreeMap<String, Vec<u8>>, context: &str) {
    let left = files(disk);
    for (name, bytes) in wreck {
        let is_same = left.iter().any(|(other, same)| other.starts_with(name.as_str()) && same == bytes);
        let is_cut = left.get(name).is_some_and(|cut| {
            !cut.is_empty()
                && bytes.starts_with(cut)
                && left.values().any(|torn| !torn.is_empty() && torn[..] == bytes[cut.len()..])
        });
        assert!(is_same || is_cut, "{context}: {name} is not kept: {:?}", left.keys());
    }
}

/// Does `kind` at every call of a repair, and says how often that was told.
fn interrupt_at_every_call(kind: FaultKind) -> u64 {
    let readable = served(&wreck());
    assert_eq!(readable.len(), 6, "the wreck has what can be read, and what cannot");
    let calls = {
        let disk = wreck();
        let start = disk.calls();
        repair(&disk);
        disk.calls() - start
    };
    assert!(calls > 30, "a repair of {calls} calls");
    let mut told = 0;
    for (call, cut) in (0..calls).flat_map(|call| {
        [Cut::KeepAll, Cut::LoseUnsynced, Cut::Seeded(call), Cut::Seeded(call + 1000)].map(|cut| (call, cut))
    }) {
        let context = format!("{kind:?} at call {call} of {calls}, then {cut:?}");
        let disk = wreck();
        let before = files(&disk);
        disk.inject(Fault { call: disk.calls() + call, kind });
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut found = Vec::new();
        // The directory may not even be listed after a cut.
        let _ = repair_topic(&shared, Path::new(DIR), &mut || {}, &mut |one| found.push(one));
        let is_told = found.iter().any(|one| one.what.grade() == Grade::Unchecked);
        told += u64::from(is_told);
        // Times that were not removed are no failure.
        assert!(is_told || kinds(&check(&disk).0).is_empty(), "{context}: {found:?}");
        let disk = disk.restart(cut);
        assert_kept(&disk, &before, &context);
        // What a server makes of it is tried on a copy.
        assert_eq!(served(&copy(&disk)), readable, "{context}");
        repair(&disk);
        assert_kept(&disk, &before, &context);
        assert_mends(&disk, &readable, &context);
    }
    told
}

fn copy(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new(2);
    for (name, bytes) in files(disk) {
        put(&copy, &name, &bytes);
    }
    copy
}

#[test]
fn the_power_can_go_at_any_call() {
    assert!(interrupt_at_every_call(FaultKind::PowerCut) > 100);
}

#[test]
fn any_call_can_fail() {
    assert!(interrupt_at_every_call(FaultKind::Fail(ErrorKind::Other)) > 100);
}

#[test]
fn the_disk_can_be_full_at_any_call() {
    for written in [0, 3] {
        assert!(interrupt_at_every_call(FaultKind::DiskFull { written }) > 100);
    }
}

#[test]
fn a_write_that_is_cut_short_is_continued() {
    assert_eq!(interrupt_at_every_call(FaultKind::ShortWrite { written: 3 }), 0);
}

#[test]
fn any_sync_can_fail() {
    assert!(interrupt_at_every_call(FaultKind::FailSync) > 100);
}

#[test]
fn what_was_repaired_survives_a_power_cut() {
    let batches = numbered(6);
    for cut in [Cut::LoseUnsynced, Cut::Seeded(1), Cut::Seeded(2), Cut::Seeded(3)] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config((batches[0].len() * 2) as u64));
        append_all(&log, &batches);
        // Killed: nothing is synced, and no index written.
        drop(log);
        let head = batches[4].len() * 4;
        put(&disk, &format!("{head}.log"), &[&batches[4..].concat()[..], b"BATCH torn"].concat());
        assert!(kinds(&repair(&disk)).contains(&("0.index", "index-missing")));
        disk.sync_dir(Path::new("")).unwrap();
        let disk = disk.restart(cut);
        assert_eq!(kinds(&check(&disk).0), [], "{cut:?}");
        assert_serves(&disk, &placed(&batches), &format!("{cut:?}"));
    }
}
