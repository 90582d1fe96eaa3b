//! Rotation, and what becomes of partitions that are dropped.

use super::*;
use crate::disk::OsDisk;

fn keeping(partitions: usize, partition_bytes: u64) -> LogConfig {
    LogConfig { partitions, ..config(partition_bytes) }
}

#[test]
fn after_a_thousand_rotations_all_that_is_kept_can_be_read() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(8, 150));
    let batches: Vec<Vec<u8>> =
        (0..3000).map(|number: u32| batch(&[number.to_string().as_bytes()])).collect();
    let mut offsets = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let appended = try_append(&log, batch).unwrap();
        offsets.push(appended.offset.as_u64());
        if appended.is_maintenance_due {
            log.maintain();
        }
        if number % 100 == 99 {
            check_kept(&log, &batches[..=number], &offsets);
        }
    }
    assert_eq!(count(&disk, Path::new(DIR), "log"), 8);
    assert_eq!(count(&disk, Path::new(DIR), "index"), 7);
    log.close().unwrap();
    drop(log);
    let (log, findings) = open(&disk, &keeping(8, 150));
    assert_eq!(findings, []);
    check_kept(&log, &batches, &offsets);
}

/// Of the batches, those of the last eight partitions can be read, and no others.
fn check_kept(log: &Log, batches: &[Vec<u8>], offsets: &[u64]) {
    let oldest = log.view().extent().oldest.as_u64();
    let first = offsets.iter().position(|offset| *offset == oldest).expect("the oldest offset is a batch");
    if batches.len() > 40 {
        assert!(first > 0 && batches.len() - first > 8, "{first} of {}", batches.len());
    }
    assert!(
        offsets[..first].iter().all(|offset| read(log, *offset, 1).is_none()),
        "what was dropped is not found"
    );
    assert_holds(log, &offsets[first..], &batches[first..]);
    let tail = log.view().select_oldest(1, &mut Vec::new()).unwrap();
    assert_eq!(tail.offset.as_u64(), oldest);
}

#[test]
fn what_was_selected_can_be_read_after_it_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let sim: (Arc<dyn Disk>, &Path) = (Arc::new(SimDisk::new(1)), Path::new(DIR));
    let os: (Arc<dyn Disk>, &Path) = (Arc::new(OsDisk::new(0o600)), dir.path());
    for (disk, dir) in [sim, os] {
        let (log, _) = Log::open(Arc::clone(&disk), dir, keeping(3, 200)).unwrap();
        let batches: Vec<Vec<u8>> =
            (0..30).map(|number: u32| batch(&[number.to_string().as_bytes()])).collect();
        append_all(&log, &batches);
        let view = log.view();
        let extent = view.extent();
        let kept: Vec<u8> = batches.concat().split_off(usize::try_from(extent.oldest.as_u64()).unwrap());
        let selection = view.select(extent.oldest, 1000, &mut Vec::new()).unwrap();
        assert_eq!(selection.pieces.len(), 3);
        for number in 0..100 {
            append(&log, &batches[number % 30]);
            log.maintain();
        }
        assert_eq!(contents(&selection), kept, "all of it, after all its partitions were removed");
        assert_eq!(read(&log, extent.oldest.as_u64(), 1), None);
        drop(selection);
        let found = view.select(extent.oldest, 1, &mut Vec::new());
        assert!(
            matches!(found, Err(ReadError::NotFound)),
            "dropped is not found, also for those who look late"
        );
        assert!(matches!(view.select_oldest(1, &mut Vec::new()), Err(ReadError::NotFound)));
        assert_eq!(count(&*disk, dir, "log"), 3);
    }
}

#[test]
fn the_oldest_is_the_next_one_while_the_oldest_is_being_removed() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(3, 1));
    let batches = plain_batches();
    let offsets = append_all(&log, &batches[..3]);
    let view = log.view();
    append(&log, &batches[3]);
    log.maintain();
    let selection = view.select_oldest(1, &mut Vec::new()).unwrap();
    assert_eq!(selection.offset.as_u64(), offsets[1]);
    assert_eq!(contents(&selection), batches[1]);
}

#[test]
fn a_read_that_reaches_into_a_partition_that_is_gone_has_what_is_before_it() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(4, 1));
    let batches = plain_batches();
    append_all(&log, &batches);
    log.maintain();
    disk.remove(&Path::new(DIR).join(format!("{}.log", batches[..2].concat().len()))).unwrap();
    let answer = read(&log, 0, 1000).unwrap();
    assert_eq!(answer.bytes, batches[..2].concat());
}

#[test]
fn fewer_partitions_than_before_are_dropped_when_the_topic_is_opened() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(10, 1));
    let batches = plain_batches();
    let offsets = append_all(&log, &batches);
    log.close().unwrap();
    drop(log);
    for partitions in [2, 0] {
        let (log, findings) = open(&disk, &keeping(partitions, 1));
        assert_eq!(findings, []);
        let kept = partitions.max(1);
        assert_eq!(log.view().extent().partitions, kept as u64);
        assert_holds(&log, &offsets[4 - kept..], &batches[4 - kept..]);
        log.maintain();
        assert_eq!(count(&disk, Path::new(DIR), "log"), kept);
    }
}

#[test]
fn a_removal_that_fails_is_tried_again() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(1, 1));
    append_all(&log, &plain_batches());
    let logs = |disk: &SimDisk| count(disk, Path::new(DIR), "log");
    disk.inject(crate::disk::Fault {
        call: disk.calls(),
        kind: crate::disk::FaultKind::Fail(std::io::ErrorKind::Other),
    });
    log.maintain();
    assert_eq!(logs(&disk), 4);
    log.maintain();
    assert_eq!(logs(&disk), 1);
}

#[test]
fn without_maintenance_the_writer_helps() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(2, 1));
    for _ in 0..500 {
        append(&log, &batch_of(1));
    }
    assert!(names(&disk).len() < 2 * 70, "dropped partitions do not pile up");
}

/// A topic that never syncs must not keep the files of its partitions open for the sync.
#[test]
fn a_topic_without_guarantees_keeps_few_files_open() {
    for calls_maintain in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = Log::open(Arc::new(OsDisk::new(0o600)), dir.path(), keeping(4, 1)).unwrap();
        for _ in 0..1000 {
            append(&log, &batch_of(1));
            if calls_maintain {
                log.maintain();
            }
        }
        let root = dir.path().canonicalize().unwrap();
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let open = fds
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter(|path| path.starts_with(&root));
        let open = open.count();
        assert!(open <= 5, "{open} files are open");
    }
}

#[test]
fn a_disk_that_is_full_at_a_rotation_gets_the_room_of_what_was_dropped() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &keeping(2, 1500));
    let bytes = batch_of(1000);
    append_all(&log, &[bytes.clone(), bytes.clone()]);
    log.maintain();
    disk.set_capacity(Some(2500));
    let error = try_append(&log, &bytes).unwrap_err();
    assert!(matches!(error, crate::log::AppendError::DiskFull(_)), "{error}");
    assert!(log.is_maintenance_due(), "the partition that was dropped takes room");
    log.maintain();
    let offset = append(&log, &bytes);
    assert_eq!(read(&log, offset, 1).map(|answer| answer.bytes), Some(bytes));
    log.maintain();
    assert!(!log.is_maintenance_due());
}
