//! Offsets by the time of arrival, against a model that knows every batch's time.

use logd_protocol::Bound;

use super::*;
use crate::disk::{Cut, Fault, FaultKind};
use crate::log::Moment;
use crate::log::index::SPACING_BYTES;

/// The bytes of the batches' messages: an index has an entry for every third batch.
const MESSAGE_BYTES: usize = 30_000;

/// How far from the exact offset an answer may be where all times are known: an entry's distance, and a batch.
const NEAR_BYTES: u64 = SPACING_BYTES + MESSAGE_BYTES as u64 + 100;

/// A batch, and when it arrived: by the clock, or by the latest time that the clock had shown before.
#[derive(Debug, Clone)]
struct Stored {
    offset: u64,
    time: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Every time: the answers are near to the exact offsets.
    All,
    /// Not all: the answers must not miss anything.
    Some,
}

fn append_at(log: &Log, stored: &mut Vec<Stored>, time: u64) {
    let appended = log.append(&checked(&batch_of(MESSAGE_BYTES)), time).unwrap();
    let latest = stored.last().map_or(0, |last| last.time);
    stored.push(Stored { offset: appended.offset.as_u64(), time: time.max(latest) });
}

/// Appends so many batches, 10 ms apart, every fourth at the time of the one before.
///
/// A simulated disk's clock goes on by a second with every change, so that files are modified after these times.
fn append_some(log: &Log, stored: &mut Vec<Stored>, count: u64) {
    let first = stored.last().map_or(1000, |last| last.time + 10);
    for number in 0..count {
        append_at(log, stored, first + (number - u64::from(number % 4 == 3)) * 10);
    }
}

fn at(log: &Log, time: u64, bound: Bound) -> (u64, bool) {
    let Moment { offset, has_batch } = log.view().at(time, bound, &mut Vec::new()).unwrap();
    (offset.as_u64(), has_batch)
}

/// What is said of every time, and of those beside it, misses nothing, and is near where all times are known.
fn check(log: &Log, stored: &[Stored], known: Known, context: &str) {
    let oldest = log.view().extent().oldest.as_u64();
    let end = end(log);
    let stored: Vec<&Stored> = stored.iter().filter(|batch| batch.offset >= oldest).collect();
    let beside = stored.iter().flat_map(|batch| [batch.time - 1, batch.time, batch.time + 1]);
    for time in beside.chain([0, 1, u64::MAX >> 1, u64::MAX]) {
        let context = format!("{context}, time {time}");
        let (lower, has_lower) = at(log, time, Bound::Lower);
        let (upper, has_upper) = at(log, time, Bound::Upper);
        for (offset, has_batch) in [(lower, has_lower), (upper, has_upper)] {
            if has_batch {
                assert_eq!(read(log, offset, 1).map(|answer| answer.offset), Some(offset), "{context}");
            } else {
                assert_eq!(offset, end, "{context}");
            }
        }
        for batch in &stored {
            assert!(
                batch.offset >= lower || batch.time < time,
                "{context}: {batch:?} is missed from {lower} on"
            );
            assert!(batch.offset < upper || batch.time > time, "{context}: {batch:?} is cut at {upper}");
        }
        if known == Known::All {
            let first = stored.iter().find(|batch| batch.time >= time);
            let nearest = first.map_or(end, |first| first.offset.saturating_sub(NEAR_BYTES));
            assert!(lower >= nearest, "{context}: {lower} is too early");
            assert_eq!(has_lower, first.is_some(), "{context}");
            let behind = stored.iter().find(|batch| batch.time > time).map_or(end, |batch| batch.offset);
            assert!(upper <= behind + NEAR_BYTES, "{context}: {upper} is too late");
        }
    }
}

fn remove_all(disk: &SimDisk, extension: &str) {
    for name in names(disk).iter().filter(|name| name.ends_with(extension)) {
        disk.remove(&Path::new(DIR).join(name)).unwrap();
    }
}

/// Lets the disk's clock come as far as `time`.
fn pass_time(disk: &SimDisk, time: u64) {
    for _ in 0..=time / 2000 {
        put(disk, "notes", b"x");
    }
}

fn killed(disk: &SimDisk) -> SimDisk {
    disk.restart(Cut::KeepAll)
}

#[test]
fn an_empty_topic_has_only_its_end() {
    let (log, _) = open(&SimDisk::new(1), &config(200_000));
    for bound in [Bound::Lower, Bound::Upper] {
        for time in [0, 1, u64::MAX] {
            assert_eq!(at(&log, time, bound), (0, false));
        }
    }
}

#[test]
fn every_time_is_found_in_partitions_of_any_size() {
    for partition_bytes in [1, 100_000, 250_000, 10_000_000] {
        let (log, _) = open(&SimDisk::new(1), &config(partition_bytes));
        let mut stored = Vec::new();
        append_some(&log, &mut stored, 30);
        check(&log, &stored, Known::All, "unsealed");
        log.maintain();
        check(&log, &stored, Known::All, "sealed");
    }
}

#[test]
fn every_time_is_found_after_a_clean_end() {
    let disk = SimDisk::new(1);
    let mut stored = Vec::new();
    for _ in 0..3 {
        let (log, _) = open(&disk, &config(250_000));
        append_some(&log, &mut stored, 11);
        log.close().unwrap();
        assert_eq!(count(&disk, Path::new(DIR), "times"), 0);
        drop(log);
        check(&open(&disk, &config(250_000)).0, &stored, Known::All, "reopened");
    }
}

#[test]
fn every_time_before_a_kill_is_found() {
    for (is_maintained, flush_batches) in [(true, 0), (false, 0), (true, 1), (false, 1)] {
        let config = LogConfig { flush_batches, ..config(250_000) };
        let mut disk = SimDisk::new(1);
        let mut stored = Vec::new();
        for round in 0..3 {
            let (log, _) = open(&disk, &config);
            let first = stored.last().map_or(1000, |last: &Stored| last.time + 200_000);
            pass_time(&disk, first + 1000);
            for number in 0..9 {
                append_at(&log, &mut stored, first + number * 10);
            }
            log.sync().unwrap();
            if is_maintained {
                log.maintain();
            }
            let known = if round == 0 { Known::All } else { Known::Some };
            check(&log, &stored, known, &format!("round {round}, running"));
            disk = killed(&disk);
            let (log, _) = open(&disk, &config);
            check(&log, &stored, Known::Some, &format!("round {round}, killed"));
            // A batch before the last entry is found as before; only the end is bounded.
            let known = &stored[..stored.len() - 4];
            for batch in known {
                let lower = at(&log, batch.time, Bound::Lower).0;
                let upper = at(&log, batch.time, Bound::Upper).0;
                assert!(lower + NEAR_BYTES >= batch.offset, "{batch:?}: {lower}");
                assert!(
                    upper <= batch.offset + NEAR_BYTES + MESSAGE_BYTES as u64 + 100,
                    "{batch:?}: {upper}"
                );
            }
            assert_eq!(at(&log, u64::MAX, Bound::Lower), (end(&log), false));
        }
    }
}

#[test]
fn what_is_retained_is_found_and_what_was_dropped_is_not() {
    let config = LogConfig { partitions: 3, ..config(150_000) };
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config);
    let mut stored = Vec::new();
    for _ in 0..8 {
        append_some(&log, &mut stored, 5);
        check(&log, &stored, Known::All, "before the removal");
        log.maintain();
        check(&log, &stored, Known::All, "after the removal");
    }
    let view = log.view();
    let oldest = view.extent().oldest;
    assert!(oldest.as_u64() > 0);
    assert_eq!(at(&log, 0, Bound::Lower), (oldest.as_u64(), true));
    assert!(count(&disk, Path::new(DIR), "times") <= 1, "times go with their partitions: {:?}", names(&disk));
    append_some(&log, &mut stored, 20);
    log.maintain();
    // All partitions of the old view are gone but one.
    let moment = view.at(0, Bound::Lower, &mut Vec::new()).unwrap();
    assert!(moment.offset > oldest);
}

#[test]
fn a_clock_that_goes_back_breaks_nothing() {
    for partition_bytes in [100_000, 10_000_000] {
        let mut disk = SimDisk::new(1);
        let mut stored = Vec::new();
        for start in [1_000, 900, 2_000, 10, 3_000, 2_990, 5_000] {
            let (log, _) = open(&disk, &config(partition_bytes));
            for number in 0..6 {
                append_at(&log, &mut stored, start + number * 10);
            }
            for time in [start - 5, 1, start + 70, 0] {
                append_at(&log, &mut stored, time);
            }
            check(&log, &stored, Known::Some, "running");
            log.close().unwrap();
            drop(log);
            disk = killed(&disk);
            check(&open(&disk, &config(partition_bytes)).0, &stored, Known::Some, "reopened");
        }
        let (log, _) = open(&disk, &config(partition_bytes));
        let last = stored.last().unwrap().time;
        append_some(&log, &mut stored, 9);
        assert!(at(&log, last, Bound::Lower).1 && at(&log, last, Bound::Upper).1, "it has caught up");
    }
}

/// What arrived behind it counts as late as what it had shown, also where nothing but the files' own times is left.
#[test]
fn a_clock_that_has_gone_back_before_a_kill_breaks_nothing() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(100_000));
    let mut stored = Vec::new();
    for time in [1_000_000, 1_000_010, 1_000_020, 500, 510, 520, 530, 540] {
        append_at(&log, &mut stored, time);
    }
    log.maintain();
    let disk = killed(&disk);
    for round in 0..2 {
        let (log, _) = open(&disk, &config(100_000));
        check(&log, &stored, Known::Some, &format!("round {round}"));
        remove_all(&disk, ".times");
        remove_all(&disk, &format!("{}.index", stored[3].offset));
    }
}

#[test]
fn times_torn_or_changed_at_any_byte_are_used_up_to_there() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(10_000_000));
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 7);
    let disk = killed(&disk);
    let times = file(&disk, "0.times").unwrap();
    assert_eq!(times.len(), 3 * 20);
    let log_bytes = file(&disk, "0.log").unwrap();
    for at_byte in 0..=times.len() {
        let mut changed = times.clone();
        changed.iter_mut().skip(at_byte).take(1).for_each(|byte| *byte ^= 0x10);
        let torn = times[..at_byte].to_vec();
        let zeros = [&torn[..], &vec![0; times.len() - at_byte]].concat();
        for (what, bytes) in [("torn", torn), ("changed", changed), ("zeros", zeros)] {
            let disk = SimDisk::new(1);
            put(&disk, "0.log", &log_bytes);
            put(&disk, "0.times", &bytes);
            let context = format!("{what} at {at_byte}");
            let (log, _) = open(&disk, &config(10_000_000));
            check(&log, &stored, Known::Some, &context);
            let whole = at_byte / 20;
            let is_found = (0..whole).all(|record| at(&log, stored[record * 3].time - 1, Bound::Upper).1);
            assert!(is_found, "{context}");
            assert_eq!(file(&disk, "0.times").unwrap().len(), whole * 20, "{context}: the rest is cut off");
            // What follows is recorded behind what is right.
            let mut stored = stored.clone();
            pass_time(&disk, 200_000);
            for number in 0..6 {
                append_at(&log, &mut stored, 200_000 + number);
            }
            let disk = killed(&disk);
            let (log, _) = open(&disk, &config(10_000_000));
            check(&log, &stored, Known::Some, &format!("{context}, and went on"));
            assert!(at(&log, 199_999, Bound::Upper).1, "{context}");
        }
    }
}

#[test]
fn times_of_another_partition_or_of_no_batch_are_not_used() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(100_000));
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 4);
    let disk = killed(&disk);
    let head = stored[3].offset;
    let others = file(&disk, "0.times").unwrap();
    put(&disk, &format!("{head}.times"), &others);
    let (log, _) = open(&disk, &config(100_000));
    check(&log, &stored, Known::Some, "of another partition");
    assert_eq!(at(&log, stored[3].time - 1, Bound::Upper), (end(&log), false));
    drop(log);
    // Of batches that are not there any more: a power cut has taken them, and others come to their places.
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(10_000_000));
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 10);
    let disk = killed(&disk);
    let kept = file(&disk, "0.log").unwrap()[..usize::try_from(stored[2].offset).unwrap()].to_vec();
    put(&disk, "0.log", &kept);
    stored.truncate(2);
    let disk = {
        open(&disk, &config(10_000_000));
        disk.restart(Cut::LoseUnsynced)
    };
    put(&disk, "0.log", &kept);
    let (log, _) = open(&disk, &config(10_000_000));
    pass_time(&disk, 300_000);
    for number in 0..8 {
        append_at(&log, &mut stored, 300_000 + number);
    }
    let disk = killed(&disk);
    check(&open(&disk, &config(10_000_000)).0, &stored, Known::Some, "of batches that were lost");
}

#[test]
fn without_times_what_is_said_misses_nothing() {
    for extensions in [&[".index"][..], &[".times"], &[".index", ".times"]] {
        for is_closed in [true, false] {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(250_000));
            let mut stored = Vec::new();
            append_some(&log, &mut stored, 20);
            log.maintain();
            if is_closed {
                log.close().unwrap();
            }
            drop(log);
            let disk = killed(&disk);
            for extension in extensions {
                remove_all(&disk, extension);
            }
            for round in 0..3 {
                let (log, _) = open(&disk, &config(250_000));
                check(&log, &stored, Known::Some, &format!("{extensions:?}, round {round}"));
                log.close().unwrap();
            }
        }
    }
}

/// As `cp -r` leaves them: all were modified after every batch had arrived.
#[test]
fn of_copied_partitions_only_the_latest_time_is_known() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(250_000));
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 20);
    log.maintain();
    let mut logs = names(&disk);
    logs.retain(|name| Path::new(name).extension().is_some_and(|found| found == "log"));
    for _ in 0..2 {
        logs.reverse();
        let copy = SimDisk::new(1);
        pass_time(&copy, 100_000);
        for name in &logs {
            put(&copy, name, &file(&disk, name).unwrap());
        }
        for _ in 0..2 {
            let (log, _) = open(&copy, &config(250_000));
            check(&log, &stored, Known::Some, "copied");
            assert_eq!(at(&log, stored[10].time, Bound::Lower), (0, true));
            assert_eq!(at(&log, stored[10].time, Bound::Upper), (end(&log), false), "nothing is cut");
            assert_eq!(at(&log, 1_000_000, Bound::Lower), (end(&log), false), "all were there by then");
        }
    }
}

/// The time of a partition without an index is bounded by that of its file, partition by partition.
#[test]
fn the_time_of_a_file_bounds_that_of_its_batches() {
    let disk = SimDisk::new(1);
    let bytes = batch_of(100);
    let start = bytes.len() as u64;
    put(&disk, "0.log", &bytes);
    (0..100).for_each(|_| put(&disk, "notes", b"x"));
    put(&disk, &format!("{start}.log"), &bytes);
    for _ in 0..2 {
        let (log, _) = open(&disk, &config(1));
        // Files are modified some seconds after the disk's first, and a hundred changes later.
        assert_eq!(at(&log, 1000, Bound::Lower), (0, true));
        assert_eq!(at(&log, 50_000, Bound::Lower), (start, true));
        assert_eq!(at(&log, 1_000_000, Bound::Lower), (2 * start, false));
        assert_eq!(at(&log, 0, Bound::Upper), (2 * start, false));
        log.close().unwrap();
    }
}

#[test]
fn damaged_batches_are_never_the_answer() {
    for (is_closed, is_indexed) in [(true, true), (true, false), (false, false)] {
        for lost in 0..9 {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(160_000));
            let mut stored = Vec::new();
            append_some(&log, &mut stored, 9);
            if is_closed {
                log.close().unwrap();
            }
            drop(log);
            let disk = killed(&disk);
            let offset = stored[lost].offset;
            let partition = if offset < stored[5].offset { 0 } else { stored[5].offset };
            let name = format!("{partition}.log");
            let mut bytes = file(&disk, &name).unwrap();
            let place = usize::try_from(offset - partition).unwrap();
            bytes[place..place + 100].fill(b'x');
            put(&disk, &name, &bytes);
            if !is_indexed {
                remove_all(&disk, ".index");
            }
            stored.remove(lost);
            let (log, _) = open(&disk, &config(160_000));
            let context = format!("closed {is_closed}, indexed {is_indexed}, lost {lost}");
            // The damage is found by the first look at it, and changes what is said of the batches beside it.
            for round in 0..2 {
                check(&log, &stored, Known::Some, &format!("{context}, round {round}"));
            }
        }
    }
}

#[test]
fn a_record_that_cannot_be_written_is_no_failure_of_the_append() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(10_000_000));
    let first = disk.calls();
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 9);
    let calls = disk.calls() - first;
    assert_eq!(calls, 9 + 1 + 3, "a write a batch, one file, and a write an entry");
    for call in 0..calls {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(10_000_000));
        for kind in [FaultKind::Fail(std::io::ErrorKind::Other), FaultKind::DiskFull { written: 7 }] {
            disk.inject(Fault { call: disk.calls() + call, kind });
        }
        let mut stored = Vec::new();
        let mut refused = 0;
        for number in 0..9 {
            match log.append(&checked(&batch_of(MESSAGE_BYTES)), 1000 + number * 10) {
                Ok(appended) => {
                    stored.push(Stored { offset: appended.offset.as_u64(), time: 1000 + number * 10 });
                }
                Err(_) => refused += 1,
            }
        }
        let is_of_record = [1, 2, 6, 10].contains(&call);
        assert_eq!(refused, u32::from(!is_of_record), "call {call}");
        check(&log, &stored, Known::All, &format!("call {call}"));
        let (log, _) = open(&killed(&disk), &config(10_000_000));
        check(&log, &stored, Known::Some, &format!("call {call}, killed"));
    }
}

#[test]
fn an_index_keeps_what_is_known_and_what_is_bounded() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(10_000_000));
    let mut stored = Vec::new();
    append_some(&log, &mut stored, 9);
    let disk = killed(&disk);
    remove_all(&disk, ".times");
    let (log, _) = open(&disk, &config(10_000_000));
    for number in 0..9 {
        append_at(&log, &mut stored, 10_000_000 + number * 10);
    }
    let answers = |log: &Log| {
        let times = stored.iter().flat_map(|batch| [batch.time - 1, batch.time, batch.time + 1]);
        times.map(|time| (at(log, time, Bound::Lower), at(log, time, Bound::Upper))).collect::<Vec<_>>()
    };
    let before = answers(&log);
    assert_eq!(at(&log, 1000, Bound::Upper).0, stored[9].offset, "the first whose time is known");
    log.close().unwrap();
    drop(log);
    let (log, _) = open(&disk, &config(10_000_000));
    assert_eq!(answers(&log), before);
    check(&log, &stored, Known::Some, "reopened");
}
