//! Indexes that do not fit, and files that belong to nothing.

use std::io::ErrorKind;

use super::*;
use crate::log::IndexError;

const COUNT: usize = 6;

#[test]
fn nothing_is_found_in_a_topic_that_was_ended_in_order() {
    for count in [1, 2, COUNT] {
        let batches = numbered(COUNT);
        let disk = closed(&batches, count);
        let (found, totals) = check(&disk);
        assert!(found.is_empty(), "{found:?}");
        let bytes = batches.concat().len() as u64;
        assert_eq!((totals.batches, totals.messages, totals.bytes), (6, 12, bytes));
        assert_eq!(totals.partitions, (COUNT / count) as u64);
        let calls = disk.calls();
        assert!(repair(&disk).is_empty());
        assert_eq!(disk.calls(), calls);
    }
}

#[test]
fn entries_of_a_large_partition_are_compared() {
    let batches: Vec<Vec<u8>> = (0..30).map(|number| batch_of(30_000 + number)).collect();
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(1_000_000));
    append_all(&log, &batches);
    log.close().unwrap();
    assert!(check(&disk).0.is_empty());
    let sound = file(&disk, "0.index").unwrap();
    for (at, by) in [(80 + 32, 1_u64), (80 + 32, 30_000), (80 + 32 + 8, 1), (80 + 32 + 16, 1)] {
        let mut index = sound.clone();
        let number = u64::from_le_bytes(index[at..at + 8].try_into().unwrap()) + by;
        index[at..at + 8].copy_from_slice(&number.to_le_bytes());
        let payload = crc32fast::hash(&index[80..]);
        index[72..76].copy_from_slice(&payload.to_le_bytes());
        let header = crc32fast::hash(&index[..76]);
        index[76..80].copy_from_slice(&header.to_le_bytes());
        put(&disk, "0.index", &index);
        assert_eq!(kinds(&check(&disk).0), [("0.index", "index-unfit")], "the number at {at} is wrong");
    }
    assert_mends(&disk, &placed(&batches), "an index with a wrong entry");
}

#[test]
fn a_killed_server_leaves_only_what_is_to_be_noted() {
    let batches = numbered(COUNT);
    for covered in [0, 2] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1_000_000));
        append_all(&log, &batches[..covered]);
        if covered > 0 {
            log.close().unwrap();
        }
        append_all(&log, &batches[covered..]);
        drop(log);
        let (found, _) = check(&disk);
        let bytes = batches[covered..].concat().len() as u64;
        assert!(
            matches!(found[..], [Found { what: What::NotClosed { bytes: of }, .. }] if of == bytes),
            "{found:?}"
        );
        assert_eq!(found[0].what.grade(), Grade::Note);
        assert_mends(&disk, &placed(&batches), "nothing is to be repaired");
    }
    let empty = SimDisk::new(1);
    drop(open(&empty, &config(1)));
    assert!(check(&empty).0.is_empty(), "a topic without batches");
}

#[test]
fn any_index_that_is_missing_or_wrong_is_made_anew_and_the_old_one_kept() {
    let batches = numbered(COUNT);
    let offsets: Vec<u64> = starts(0, &batches).into_iter().step_by(2).collect();
    let sound: Vec<Vec<u8>> = offsets
        .iter()
        .map(|offset| file(&closed(&batches, 2), &format!("{offset}.index")).unwrap())
        .collect();
    let mut wrong: Vec<Vec<u8>> = vec![Vec::new(), b"garbage".repeat(100), sound[0].repeat(2)];
    wrong.extend((0..sound[0].len()).step_by(7).map(|at| {
        let mut index = sound[0].clone();
        index[at] ^= 0x10;
        index
    }));
    wrong.extend(sound.iter().cloned());
    for (number, offset) in offsets.iter().enumerate() {
        let name = format!("{offset}.index");
        for index in wrong.iter().filter(|index| **index != sound[number]) {
            let disk = closed(&batches, 2);
            put(&disk, &name, index);
            let (found, totals) = check(&disk);
            assert_eq!(kinds(&found), [(name.as_str(), "index-unusable")]);
            assert_eq!(totals.batches, 6);
            assert_mends(&disk, &placed(&batches), &name);
            assert_eq!(file(&disk, &format!("{name}.aside")).as_ref(), Some(index));
        }
        let disk = closed(&batches, 2);
        remove(&disk, &name);
        let is_head = number + 1 == offsets.len();
        let expected: &[_] = if is_head { &[] } else { &[(name.as_str(), "index-missing")] };
        assert_eq!(kinds(&check(&disk).0), expected);
        assert_mends(&disk, &placed(&batches), &name);
        // One of another partition says whose it is.
        let other = (number + 1) % offsets.len();
        put(&disk, &name, &sound[other]);
        let what = check(&disk).0.into_iter().find(|one| one.file == name).unwrap().what;
        let start = offsets[other];
        assert!(
            matches!(what, What::IndexUnusable(IndexError::OtherPartition { start: of }) if of == start),
            "{what:?}"
        );
    }
}

#[test]
fn an_index_that_cannot_be_read_is_taken_out_of_use() {
    let batches = numbered(COUNT);
    let disk = closed(&batches, 2);
    remove(&disk, "0.index");
    disk.create_dir(Path::new("topic/0.index")).unwrap();
    assert_eq!(kinds(&check(&disk).0), [("0.index", "index-unusable")]);
    assert_mends(&disk, &placed(&batches), "an index that is a directory");
}

#[test]
fn times_and_writers_of_an_index_outlive_its_repair() {
    let batches = numbered(COUNT);
    let disk = SimDisk::new(1);
    let length = batches[0].len();
    let (log, _) = open(&disk, &config(1_000_000));
    let identified = |number: u64| {
        let text = format!(" writer=00000000000000aa seq={number}\r\n");
        let plain = String::from_utf8(batches[usize::try_from(number).unwrap()].clone()).unwrap();
        plain.replacen("\r\n", &text, 1).into_bytes()
    };
    let all: Vec<Vec<u8>> = (0..4).map(identified).collect();
    for (number, batch) in all.iter().enumerate() {
        log.append(&checked(batch), 1_000_000 + number as u64).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let entry = |index: &[u8]| u64::from_le_bytes(index[80 + 24..80 + 32].try_into().unwrap());
    assert_eq!(entry(&file(&disk, "0.index").unwrap()), 1_000_000, "the time is exact");
    let mut bytes = all.concat();
    let damaged = all[0].len() + length;
    bytes[damaged] ^= 1;
    put(&disk, "0.log", &bytes);
    assert_mends(&disk, &[], "damage between batches with identities");
    assert_eq!(entry(&file(&disk, "0.index").unwrap()), 1_000_000);
    let (log, _) = open(&disk, &config(1_000_000));
    for (number, batch) in all.iter().enumerate() {
        let again = log.append(&checked(batch), 2_000_000).unwrap();
        let offset = all[..number].concat().len() as u64;
        assert_eq!(again.offset.as_u64(), offset, "batch {number} is known");
    }
}

#[test]
fn files_that_belong_to_nothing_are_taken_out_of_use() {
    let batches = numbered(COUNT);
    let disk = closed(&batches, 2);
    let next = batches.concat().len();
    for (name, bytes) in [
        ("7.index", &b"orphan"[..]),
        ("7.times", b"orphan"),
        ("7.idx", b"orphan"),
        ("0.index.new", b"unfinished"),
        ("7.log", b""),
        ("0.torn", b"earlier"),
        ("0.2.torn", b"earlier"),
        ("7.log.aside", b"earlier"),
        ("notes.txt", b"foreign"),
        ("x.torn", b"foreign"),
        ("x.log", b"foreign"),
        (".hidden", b"foreign"),
    ] {
        put(&disk, name, bytes);
    }
    put(&disk, &format!("{}.log", next + 1), b"");
    disk.create_dir(Path::new("topic/folder")).unwrap();
    let before = files(&disk);
    let (found, _) = check(&disk);
    let notes = |word| found.iter().filter(|one| one.what.word() == word).count();
    assert_eq!((notes("foreign"), notes("kept")), (5, 3), "{found:?}");
    let after_last = format!("{}.log", next + 1);
    let expected = [
        ("0.index.new", "unfinished"),
        ("7.log", "empty-partition"),
        (after_last.as_str(), "empty-partition"),
        ("7.idx", "orphan"),
        ("7.index", "orphan"),
        ("7.times", "orphan"),
    ];
    assert_eq!(kinds(&found), expected);
    assert_mends(&disk, &placed(&batches), "files that belong to nothing");
    let after = files(&disk);
    for (name, bytes) in &before {
        let is_kept =
            after.iter().any(|(other, same)| other.starts_with(name.as_str()) && same.starts_with(bytes));
        assert!(is_kept, "{name} is gone: {:?}", after.keys());
    }
}

#[test]
fn bytes_behind_the_beginning_of_the_next_partition_are_cut_and_kept() {
    let batches = numbered(4);
    let disk = closed(&batches, 2);
    let part = batches[..2].concat();
    put(&disk, "0.log", &[&part[..], b"more"].concat());
    assert_eq!(kinds(&check(&disk).0), [("0.log", "excess")]);
    assert_mends(&disk, &placed(&batches), "excess");
    assert_eq!(file(&disk, &format!("{}.torn", part.len())).as_deref(), Some(&b"more"[..]));
}

#[test]
fn two_files_for_an_offset_are_for_a_person_to_tell_apart() {
    let batches = numbered(4);
    let disk = closed(&batches, 2);
    put(&disk, "000.log", b"something else");
    let before = files(&disk);
    let (found, _) = check(&disk);
    assert_eq!(kinds(&found), [("000.log", "duplicate")]);
    assert!(found[0].what.grade() == Grade::Damage);
    let found = repair(&disk);
    assert!(found.iter().all(|one| one.done.is_none()), "{found:?}");
    assert_eq!(files(&disk), before);
    put(&disk, "000.log", b"");
    assert_mends(&disk, &placed(&batches), "one of them is empty");
}

#[test]
fn any_read_can_fail_and_is_told() {
    let batches = numbered(4);
    let reads = {
        let disk = closed(&batches, 2);
        let start = disk.reads();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        check_topic(&shared, Path::new(DIR), &mut |_| {}).unwrap();
        disk.reads() - start
    };
    for read in 0..reads {
        let disk = closed(&batches, 2);
        disk.fail_read(disk.reads() + read);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut grades = Vec::new();
        let checked = check_topic(&shared, Path::new(DIR), &mut |one| grades.push(one.what.grade()));
        // An index that cannot be read is one that is to be made anew.
        let is_told = checked.is_err() || grades.iter().any(|grade| *grade >= Grade::Repair);
        assert!(is_told, "read {read} of {reads}: {grades:?}");
    }
    let missing: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let error = check_topic(&missing, Path::new(DIR), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
