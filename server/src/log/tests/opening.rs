//! Opening directories in which files are missing, left over, or not what they should be.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use super::*;
use crate::disk::{Cut, Entry, Fault, FaultKind, File};
use crate::log::OpenError;

/// Three partitions of a batch each, the last of which is the head, after a clean close.
fn three_partitions() -> (SimDisk, Vec<Vec<u8>>, Vec<u64>) {
    let disk = SimDisk::new(1);
    let batches = vec![batch(&[b"first"]), batch(&[b"second", b"2"]), batch(&[b"third"])];
    let (log, _) = open(&disk, &config(1));
    let offsets = append_all(&log, &batches);
    log.close().unwrap();
    (disk, batches, offsets)
}

fn remove(disk: &SimDisk, name: &str) {
    disk.remove(&Path::new(DIR).join(name)).unwrap();
}

#[test]
fn a_clean_close_leaves_an_index_for_every_partition() {
    let (disk, _, offsets) = three_partitions();
    for offset in offsets {
        assert!(file(&disk, &format!("{offset}.log")).is_some());
        assert!(file(&disk, &format!("{offset}.index")).is_some());
    }
    assert_eq!(names(&disk).len(), 6);
}

#[test]
fn any_index_that_is_missing_or_wrong_is_made_anew() {
    let (disk, batches, offsets) = three_partitions();
    let names: Vec<String> = offsets.iter().map(|offset| format!("{offset}.index")).collect();
    let sound: Vec<Vec<u8>> = names.iter().map(|name| file(&disk, name).unwrap()).collect();
    let mut wrong: Vec<Vec<u8>> = vec![Vec::new(), b"garbage".repeat(100), sound[0].repeat(2)];
    wrong.extend(sound.iter().map(|index| index[..index.len() - 1].to_vec()));
    wrong.extend((0..sound[0].len()).map(|at| {
        let mut index = sound[0].clone();
        index[at] ^= 0x10;
        index
    }));
    wrong.extend(sound.iter().cloned());
    for (number, name) in names.iter().enumerate() {
        for index in wrong.iter().filter(|index| **index != sound[number]) {
            put(&disk, name, index);
            let (log, _) = open(&disk, &config(1));
            assert_holds(&log, &offsets, &batches);
            log.close().unwrap();
            drop(log);
            let left = file(&disk, name);
            assert!(
                left.as_ref().is_none_or(|left| left.len() == sound[number].len()),
                "it does not stay: {left:?}"
            );
        }
        put(&disk, name, b"");
        remove(&disk, name);
        let (log, findings) = open(&disk, &config(1));
        let is_head = number + 1 == names.len();
        let rebuilt = [Finding::IndexRebuilt { partition: offsets[number] }];
        assert_eq!(findings, if is_head { &[] } else { &rebuilt[..] });
        assert_holds(&log, &offsets, &batches);
        log.close().unwrap();
    }
    assert_eq!(open(&disk, &config(1)).1, []);
}

/// An index file with its checksums, whose first entry is moved.
fn moved(index: &[u8], entry: usize, by: u64) -> Vec<u8> {
    let mut index = index.to_vec();
    let at = 80 + entry * 32;
    let place = u64::from_le_bytes(index[at..at + 8].try_into().unwrap()) + by;
    index[at..at + 8].copy_from_slice(&place.to_le_bytes());
    let payload = crc32fast::hash(&index[80..]);
    index[72..76].copy_from_slice(&payload.to_le_bytes());
    let header = crc32fast::hash(&index[..76]);
    index[76..80].copy_from_slice(&header.to_le_bytes());
    index
}

#[test]
fn an_index_that_points_into_batches_is_found_out_by_the_walk() {
    let batches: Vec<Vec<u8>> = (0..12).map(|number| batch_of(30_000 + number)).collect();
    for is_sealed in [false, true] {
        for (entry, by) in (0..4).flat_map(|entry| [(entry, 1), (entry, 40), (entry, 29_999)]) {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(batches.concat().len() as u64));
            let offsets = append_all(&log, &batches);
            if is_sealed {
                append(&log, &batch_of(1));
            }
            log.close().unwrap();
            drop(log);
            let sound = file(&disk, "0.index").unwrap();
            for first in 0..batches.len() {
                put(&disk, "0.index", &moved(&sound, entry, by));
                let (log, findings) = open(&disk, &config(batches.concat().len() as u64));
                assert_eq!(findings, [], "the index looks right");
                for number in (0..batches.len()).cycle().skip(first).take(batches.len()) {
                    let answer = read(&log, offsets[number], 1).map(|answer| answer.bytes);
                    assert_eq!(answer.as_ref(), Some(&batches[number]), "entry {entry} moved by {by}");
                    assert_eq!(read(&log, offsets[number] + by, 1), None);
                }
            }
        }
    }
}

#[test]
fn the_index_of_another_topic_does_not_hide_a_batch() {
    let sizes = [[10, 20, 70_000, 5, 70_000, 50], [20, 70_000, 10, 50, 70_000, 5]];
    let topics: Vec<(SimDisk, Vec<Vec<u8>>)> = sizes
        .iter()
        .map(|sizes| {
            let disk = SimDisk::new(1);
            let batches: Vec<Vec<u8>> = sizes.iter().map(|size| batch_of(*size)).collect();
            let (log, _) = open(&disk, &config(1_000_000));
            append_all(&log, &batches);
            log.close().unwrap();
            (disk, batches)
        })
        .collect();
    let total = |batches: &[Vec<u8>]| batches.concat().len();
    assert_eq!(total(&topics[0].1), total(&topics[1].1), "as long, so that nothing seems wrong");
    put(&topics[0].0, "0.index", &file(&topics[1].0, "0.index").unwrap());
    let (log, _) = open(&topics[0].0, &config(1_000_000));
    for (offset, batch) in starts(0, &topics[0].1).into_iter().zip(&topics[0].1).rev() {
        assert_eq!(read(&log, offset, 1).map(|answer| answer.bytes).as_ref(), Some(batch), "at {offset}");
    }
}

#[test]
fn an_index_that_cannot_be_read_is_no_reason_not_to_open() {
    let (disk, batches, offsets) = three_partitions();
    remove(&disk, "0.index");
    disk.create_dir(Path::new("topic/0.index")).unwrap();
    let (log, _) = open(&disk, &config(1));
    assert_holds(&log, &offsets, &batches);
    log.close().unwrap();
}

#[test]
fn a_lost_partition_is_a_hole() {
    for lost in 0..2 {
        let (disk, mut batches, mut offsets) = three_partitions();
        remove(&disk, &format!("{}.log", offsets[lost]));
        let (log, findings) = open(&disk, &config(1));
        assert!(
            !names(&disk).contains(&format!("{}.index", offsets[lost])),
            "an index without a partition is removed"
        );
        let gone = offsets.remove(lost);
        batches.remove(lost);
        for (offset, batch) in offsets.iter().zip(&batches) {
            assert_eq!(read(&log, *offset, 1).unwrap().bytes, *batch);
        }
        if lost == 0 {
            assert_eq!(findings, []);
            assert_eq!(read(&log, gone, 1), None, "what is before the first partition is not there");
            continue;
        }
        let hole = Finding::Damage { from: gone, to: offsets[1] };
        assert_eq!(findings, [Finding::IndexRebuilt { partition: 0 }, hole]);
        assert_eq!(read(&log, gone, 1).unwrap().offset, offsets[1], "reading goes on behind it");
        assert_eq!(read(&log, 0, 100).unwrap().batches, 1, "a read does not cross it");
        drop(log);
        assert_eq!(open(&disk, &config(1)).1, [], "it is known from then on");
    }
}

#[test]
fn what_a_partition_has_behind_the_next_ones_start_is_not_read() {
    let (disk, batches, offsets) = three_partitions();
    put(&disk, "0.log", &[&batches[0][..], &batch(&[b"too much"])].concat());
    for is_indexed in [true, false] {
        if !is_indexed {
            remove(&disk, "0.index");
        }
        let (log, _) = open(&disk, &config(1));
        assert_holds(&log, &offsets, &batches);
    }
    // A batch across the start of the next partition is none.
    put(&disk, "0.log", &batch(&[&batches[0], &batches[0]]));
    remove(&disk, "0.index");
    let (log, findings) = open(&disk, &config(1));
    assert_eq!(findings[1], Finding::Damage { from: 0, to: offsets[1] });
    assert_eq!(read(&log, 0, 1).unwrap().bytes, batches[1]);
}

#[test]
fn empty_files_are_removed_unless_the_topic_goes_on_there() {
    let (disk, batches, offsets) = three_partitions();
    let next = batches.concat().len() as u64;
    put(&disk, &format!("{next}.log"), b"");
    let (log, findings) = open(&disk, &config(1));
    assert_eq!(findings, [], "a partition that was begun and not written to");
    assert_holds(&log, &offsets, &batches);
    assert_eq!(append(&log, &batches[0]), next);
    drop(log);
    let (batches, offsets) = ([&batches[..], &batches[..1]].concat(), [&offsets[..], &[next]].concat());
    let empty = ["1.log".to_owned(), format!("{}.log", offsets[1] + 1), "999999.log".to_owned()];
    for name in &empty {
        put(&disk, name, b"");
    }
    let (log, findings) = open(&disk, &config(1));
    let removed = empty.map(|name| Finding::EmptyFileRemoved { path: Path::new(DIR).join(name) });
    assert_eq!(findings, removed);
    assert_holds(&log, &offsets, &batches);
    assert_eq!(end(&log), batches.concat().len() as u64);
}

#[test]
fn an_empty_file_alone_says_where_the_topic_goes_on() {
    let disk = SimDisk::new(1);
    put(&disk, "5000.log", b"");
    for round in 0..2 {
        let (log, findings) = open(&disk, &config(100));
        assert_eq!(findings, []);
        assert_eq!(end(&log), 5000);
        log.close().unwrap();
        assert!(file(&disk, "5000.index").is_some(), "round {round}");
    }
    assert_eq!(append(&open(&disk, &config(100)).0, &batch_of(5)), 5000);
}

#[test]
fn a_head_shorter_than_the_start_of_an_empty_one_goes_on() {
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &batch_of(10));
    put(&disk, "500.log", b"");
    let (log, findings) = open(&disk, &config(1000));
    assert_eq!(findings, [Finding::EmptyFileRemoved { path: PathBuf::from("topic/500.log") }]);
    assert_eq!(append(&log, &batch_of(1)), batch_of(10).len() as u64);
}

/// What is missing in between is known since the topic was opened for the first time, and its end was told since.
#[test]
fn a_head_that_was_all_torn_keeps_its_offset() {
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &batch_of(10));
    put(&disk, "500.log", b"BATCH 100 default 1 1\r\nMSG 5\r\nhe");
    for round in 0..3 {
        let (log, findings) = open(&disk, &config(1000));
        assert_eq!(findings.is_empty(), round > 0, "{findings:?}");
        assert_eq!((end(&log), read(&log, 0, 9).unwrap().batches), (500, 1), "round {round}");
        let mut found = Vec::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        crate::log::check::check(&shared, Path::new(DIR), &mut |one| found.push(one)).unwrap();
        let wrong = found.iter().find(|found| found.what.grade() > crate::log::check::Grade::Note);
        assert!(wrong.is_none(), "round {round}: {wrong:?}");
    }
    assert_eq!(append(&open(&disk, &config(1000)).0, &batch_of(1)), 500);
}

#[test]
fn two_files_for_one_offset_are_refused() {
    for other in ["00.log", "00000000000000000000.log"] {
        let disk = SimDisk::new(1);
        put(&disk, "0.log", &batch_of(1));
        put(&disk, other, &batch_of(2));
        let error = Log::open(Arc::new(disk.clone()), Path::new(DIR), config(1)).unwrap_err();
        assert!(matches!(error, OpenError::DuplicatePartition { start: 0, .. }), "{error}");
        assert_eq!(file(&disk, "0.log"), Some(batch_of(1)));
        assert_eq!(file(&disk, other), Some(batch_of(2)));
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let strange = [
        "notes.index",
        "notes.index.new",
        "x.log",
        "18446744073709551616.log",
        "-1.log",
        "0.torn",
        "1.log.bak",
    ];
    let disk = SimDisk::new(1);
    for name in strange {
        put(&disk, name, b"mine");
    }
    disk.create_dir(Path::new("topic/7.log")).unwrap();
    disk.create_dir(Path::new("topic/7.index")).unwrap();
    put(&disk, "0.index.new", b"unfinished");
    put(&disk, "12.index", b"of a partition that is gone");
    let (log, findings) = open(&disk, &config(1));
    assert_eq!(findings, []);
    append(&log, &batch_of(1));
    log.close().unwrap();
    for name in strange {
        assert_eq!(file(&disk, name).as_deref(), Some(&b"mine"[..]), "{name}");
    }
    let names = names(&disk);
    assert!(
        !names.contains(&"0.index.new".to_owned()) && !names.contains(&"12.index".to_owned()),
        "{names:?}"
    );
    assert!(names.contains(&"7.log".to_owned()));
}

#[test]
fn opening_after_a_clean_close_reads_no_batches() {
    let (disk, batches, offsets) = three_partitions();
    let watched = WatchedDisk { disk: disk.clone(), read: Arc::default() };
    let (log, findings) = Log::open(Arc::new(watched.clone()), Path::new(DIR), config(1)).unwrap();
    assert_eq!(findings, []);
    assert_eq!(watched.log_bytes_read(), 0);
    assert_holds(&log, &offsets, &batches);
    assert!(watched.log_bytes_read() > 0, "what is read is counted");
    drop(log);
    // After a kill, only the head is read, and only behind what its index knows.
    let appended = batch_of(100);
    append(&open(&disk, &config(1_000_000)).0, &appended);
    let watched = WatchedDisk { disk: disk.clone(), read: Arc::default() };
    Log::open(Arc::new(watched.clone()), Path::new(DIR), config(1_000_000)).unwrap();
    assert_eq!(watched.log_bytes_read(), appended.len() as u64);
}

#[test]
fn a_topic_that_could_not_be_created_is_not_there() {
    for flush_batches in [0, 1] {
        let config = LogConfig { flush_batches, ..config(1000) };
        let try_open = |disk: &SimDisk| Log::open(Arc::new(disk.clone()), Path::new(DIR), config.clone());
        let whole = SimDisk::new(1);
        try_open(&whole).unwrap();
        assert!(whole.calls() > 2);
        for call in 0..whole.calls() {
            for kind in [FaultKind::Fail(io::ErrorKind::Other), FaultKind::DiskFull { written: 0 }] {
                for cut in [Cut::KeepAll, Cut::LoseUnsynced, Cut::Seeded(call)] {
                    let disk = SimDisk::new(1);
                    disk.inject(Fault { call, kind });
                    try_open(&disk).unwrap_err();
                    assert_eq!(disk.list(Path::new("")).unwrap(), [], "call {call}");
                    let disk = disk.restart(cut);
                    assert_eq!(disk.list(Path::new("")).unwrap(), [], "call {call}, then {cut:?}");
                    try_open(&disk).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_topic_that_is_there_is_not_taken_away_when_it_cannot_be_opened() {
    let (disk, ..) = three_partitions();
    let before = disk.reads();
    open(&disk, &config(1));
    for read in 0..disk.reads() - before {
        let (disk, batches, offsets) = three_partitions();
        disk.fail_read(disk.reads() + read);
        // Not every read has to succeed for a topic to be opened.
        let _ = Log::open(Arc::new(disk.clone()), Path::new(DIR), config(1));
        let (log, _) = open(&disk.restart(Cut::KeepAll), &config(1));
        assert_holds(&log, &offsets, &batches);
    }
}

/// A disk that counts what is read of which file.
#[derive(Debug, Clone)]
struct WatchedDisk {
    disk: SimDisk,
    read: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl WatchedDisk {
    fn log_bytes_read(&self) -> u64 {
        let read = self.read.lock().unwrap();
        read.iter()
            .filter(|(path, _)| path.extension().is_some_and(|end| end == "log"))
            .map(|(_, bytes)| bytes)
            .sum()
    }
}

impl Disk for WatchedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(WatchedFile { file, path: path.to_path_buf(), read: Arc::clone(&self.read) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    read: Arc<Mutex<BTreeMap<PathBuf, u64>>>,
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.file.modified()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.file.read_at(buffer, at)?;
        *self.read.lock().unwrap().entry(self.path.clone()).or_default() += bytes as u64;
        Ok(bytes)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.file.write_at(bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
