//! A topic's directory with any bytes as partitions, indexes and times: `Log::open`, `check::check`, `check::repair`.
//!
//! - each comes to an end, within a bounded number of calls on the disk
//! - a check changes nothing; what it finds damaged and cut off is what opening finds
//! - what is served are valid batches at the offsets at which the files have them, and from the beginning of a partition
//!   all of them up to the first that is not
//! - after a repair a check finds nothing more, and everything is served that it had counted as whole
//! - what is appended then is there, also when the topic is opened again
//!
//! An index with right checksums is believed, as it must be: only what was synced is in one. So of a directory that has
//! one which the check finds wrong, less is asked as long as it is not repaired.

mod dir;

use std::path::Path;
use std::sync::Arc;

use logd_protocol::{Bound, CheckedBatch, Decoded, Offset, decode_batch};
use logd_server::disk::{Cut, Disk, SimDisk};
use logd_server::log::check::{self, Found, Grade, Totals, What};
use logd_server::log::{AppendError, Finding, Log, LogConfig, OpenError, ReadError};

use self::dir::{DIR, Dir};
use super::files::ends_in;
use super::reference;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n--- 0.log\n",
    b"\n--- 0.log!\n",
    b"\n--- 0.index#\n",
    b"\n--- 0.times!\n",
    b".log",
    b".index",
    b".times",
    b".torn",
    b".index.new",
    b".aside",
    b"logdidx3",
    b"BATCH ",
    b"MSG ",
    b" default ",
    b" writer=0123456789abcdef seq=7",
    b"\r\n",
];

/// The largest batch that is recognised on the disk.
const BATCH_BYTES_MAX: usize = 65 * 1024 * 1024;

/// The most calls on the disk for a byte of the files, and for each file. Reading a damaged partition takes many small
/// steps, but those are made in memory.
const CALLS_PER_BYTE: u64 = 4;
const CALLS_PER_FILE: u64 = 200;

/// A batch as a reader receives it.
type Served = (u64, Vec<u8>);

pub(crate) fn run(input: &[u8]) {
    let dir = Dir::of(input);
    let (found, totals) = check_only(&dir);
    let is_wrong = found.iter().any(|found| found.what.grade() > Grade::Note);
    let is_strict = !is_wrong || !dir.has_index();
    opened(&dir, &found, totals, is_strict);
    repaired(&dir, &found, totals);
}

/// A log whose partitions are not dropped.
fn config(dir: &Dir) -> LogConfig {
    LogConfig { partition_bytes: 512, partitions: 1000, flush_batches: dir.bytes() % 3 }
}

fn try_open(disk: &SimDisk, dir: &Dir) -> Result<(Log, Vec<Finding>), OpenError> {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), config(dir))
}

fn check_disk(disk: &SimDisk) -> (Vec<Found>, Totals) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut found = Vec::new();
    let totals = check::check(&disk, Path::new(DIR), &mut |one| found.push(one));
    (found, totals.expect("the directory can be listed"))
}

fn check_only(dir: &Dir) -> (Vec<Found>, Totals) {
    let disk = dir.disk();
    let calls = disk.calls();
    let (found, totals) = check_disk(&disk);
    assert_eq!(disk.calls(), calls, "a check has changed something");
    expect_bounded(dir, &disk, "a check");
    let unreadable = found.iter().find(|found| found.what.grade() == Grade::Unchecked);
    assert!(unreadable.is_none(), "{unreadable:?} on a sound disk");
    (found, totals)
}

fn expect_bounded(dir: &Dir, disk: &SimDisk, what: &str) {
    let (calls, files) = (disk.calls() + disk.reads(), dir.files() + 1);
    let most = dir.bytes() * CALLS_PER_BYTE + files * CALLS_PER_FILE;
    assert!(calls <= most, "{what} has made {calls} calls for {} bytes in {files} files", dir.bytes());
}

/// Whether the server cannot start because of it.
fn is_fatal(found: &Found) -> bool {
    matches!(found.what, What::Duplicate { .. } | What::BeyondLastOffset)
}

/// Whether what lies between damage and a torn tail is a guess, which can be another when the tail is gone.
fn is_guess(found: &[Found]) -> bool {
    let has = |is: fn(&What) -> bool| found.iter().any(|found| is(&found.what));
    has(|what| matches!(what, What::Damage { .. })) && has(|what| matches!(what, What::TornTail { .. }))
}

fn opened(dir: &Dir, found: &[Found], totals: Totals, is_strict: bool) {
    let disk = dir.disk();
    let opened = try_open(&disk, dir);
    expect_bounded(dir, &disk, "opening");
    let (log, findings) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            // An empty file that claims the offset of another one is taken away by a repair.
            let is_told =
                found.iter().any(|found| is_fatal(found) || matches!(found.what, What::EmptyPartition));
            return assert!(is_told, "the check has not told that the topic does not open: {error}");
        }
    };
    assert!(!found.iter().any(is_fatal), "the topic opens, though {found:?}");
    let served = read_all(&log, dir);
    if is_strict {
        expect_same(found, &findings);
        expect_valid(&served, dir);
        expect_all(&served, totals);
    }
    look_up_times(&log);
    let next = log.view().extent().next;
    drop(log);

    let disk = disk.restart(Cut::KeepAll);
    let (log, again) = try_open(&disk, dir).expect("what was opened once opens again");
    let is_strict = is_strict && !is_guess(found);
    if is_strict {
        assert!(!again.iter().any(|finding| matches!(finding, Finding::TornTail { .. })), "{again:?}");
        assert!(read_all(&log, dir) == served, "something else is served after a restart");
        assert_eq!(log.view().extent().next, next, "the topic ends elsewhere after a restart");
    }
    // Where an index was wrong, the end that was told by it is given up with it.
    append(&log, if is_strict { &served } else { &[] });
    log.close().expect("a sound disk");
    drop(log);
    let (after, _) = check_disk(&disk);
    // The server leaves alone what a partition has behind the beginning of the next one, and indexes of Go logd.
    let is_left = |found: &Found| matches!(found.what, What::Excess { .. }) || ends_in(&found.file, "idx");
    let wrong = after.iter().find(|found| found.what.grade() > Grade::Note && !is_left(found));
    assert!(!is_strict || wrong.is_none(), "a topic that was closed has {wrong:?}");
}

/// What a check finds is what opening finds.
fn expect_same(found: &[Found], findings: &[Finding]) {
    let mut checked: Vec<(u64, u64, bool)> = found
        .iter()
        .filter_map(|found| match found.what {
            What::Damage { from, to, .. } => Some((from, to, false)),
            What::TornTail { offset, bytes } => Some((offset, offset + bytes, true)),
            _ => None,
        })
        .collect();
    let mut opened: Vec<(u64, u64, bool)> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Damage { from, to } => Some((*from, *to, false)),
            Finding::TornTail { offset, bytes, .. } => Some((*offset, offset + bytes, true)),
            Finding::IndexRebuilt { .. } | Finding::EmptyFileRemoved { .. } => None,
        })
        .collect();
    checked.sort_unstable();
    opened.sort_unstable();
    assert_eq!(checked, opened, "the check and opening do not find the same");
}

/// All that can be read from the oldest batch on, batch by batch. Batches without messages are handed out with others.
fn read_all(log: &Log, dir: &Dir) -> Vec<Served> {
    let mut all: Vec<Served> = Vec::new();
    let mut scratch = Vec::new();
    let view = log.view();
    let mut selected = view.select_oldest(1, &mut scratch);
    loop {
        let selection = match selected {
            Ok(selection) => selection,
            Err(ReadError::NotFound) => return all,
            // An index that was believed can lead to where nothing can be read; that is told, and the reader stops.
            Err(error) => {
                assert!(dir.has_index(), "{error}");
                return all;
            }
        };
        let offset = selection.offset.as_u64();
        let mut bytes = Vec::new();
        for piece in &selection.pieces {
            let start = bytes.len();
            bytes.resize(start + usize::try_from(piece.bytes).expect("it is in a file"), 0);
            let read = piece.file.read_full_at(&mut bytes[start..], piece.place).expect("a sound disk");
            // An index that was believed can be of a longer file.
            assert!(read as u64 == piece.bytes || dir.has_index(), "a piece ends before its end");
        }
        assert!(selection.batches > 0 && !bytes.is_empty(), "nothing was selected at {offset}");
        let behind = offset.saturating_add(bytes.len() as u64);
        assert!(all.len() as u64 <= dir.bytes() || dir.has_index(), "there are more batches than bytes");
        assert!(
            all.last().is_none_or(|(last, bytes)| last + bytes.len() as u64 <= offset),
            "back to {offset}"
        );
        split(offset, &bytes, &mut all);
        selected = view.select(Offset::new(behind), 1, &mut scratch);
    }
}

/// Takes batches apart; what is none is left as it is.
fn split(mut offset: u64, mut bytes: &[u8], all: &mut Vec<Served>) {
    while !bytes.is_empty() {
        let length = match decode_batch(bytes, BATCH_BYTES_MAX) {
            Decoded::Whole { bytes, .. } => bytes,
            _ => bytes.len(),
        };
        let (batch, rest) = bytes.split_at(length);
        all.push((offset, batch.to_vec()));
        offset += length as u64;
        bytes = rest;
    }
}

/// The length of the valid batch at the beginning.
fn checked(bytes: &[u8]) -> Option<usize> {
    match decode_batch(bytes, BATCH_BYTES_MAX) {
        Decoded::Whole { value, bytes } => {
            (reference::checksum(value.body()) == value.envelope().crc).then_some(bytes)
        }
        _ => None,
    }
}

/// What is served are batches that the files have there.
fn expect_valid(served: &[Served], dir: &Dir) {
    for (offset, bytes) in served {
        assert_eq!(checked(bytes), Some(bytes.len()), "what is served at {offset} is no batch");
        assert!(dir.has_at(*offset, bytes), "what is served at {offset} is in no file");
    }
    for (offset, length) in dir.leading_batches(checked) {
        let found = served.iter().any(|(other, bytes)| (*other, bytes.len()) == (offset, length));
        assert!(found, "the batch of {length} bytes at {offset}, before all damage, is not served");
    }
}

/// As many batches and messages are served as the check has counted.
fn expect_all(served: &[Served], totals: Totals) {
    let messages =
        served.iter().fold(0_u64, |messages, (_, bytes)| match decode_batch(bytes, BATCH_BYTES_MAX) {
            Decoded::Whole { value, .. } => messages.saturating_add(value.envelope().messages),
            _ => messages,
        });
    assert_eq!((served.len() as u64, messages), (totals.batches, totals.messages), "not all is served");
}

/// Every time has an offset; where a batch should start, one can be read.
fn look_up_times(log: &Log) {
    let view = log.view();
    let next = view.extent().next;
    let mut scratch = Vec::new();
    for time in [0, 1, 5, 100, 1_700_000_000_000, u64::MAX >> 1, u64::MAX] {
        for bound in [Bound::Lower, Bound::Upper] {
            // What an index that was believed leads to may be unreadable.
            let Ok(moment) = view.at(time, bound, &mut scratch) else { continue };
            let selected = view.select(moment.offset, 1, &mut scratch);
            if moment.has_batch {
                let offset = selected.expect("it was read before").offset;
                assert_eq!(offset, moment.offset, "no batch starts at the offset of {time}");
            } else {
                assert_eq!(moment.offset, next, "the offset of {time} is neither a batch nor the end");
            }
        }
    }
}

/// What is appended is behind all that was there, and can be read.
fn append(log: &Log, served: &[Served]) {
    let body = b"MSG 5\r\nhello\r\n";
    let bytes = [format!("BATCH 14 default {} 1\r\n", reference::checksum(body)).as_bytes(), body].concat();
    let Decoded::Whole { value, .. } = decode_batch(&bytes, BATCH_BYTES_MAX) else { panic!("a batch") };
    let batch: CheckedBatch<'_> = value.check().expect("a right batch");
    let next = log.view().extent().next;
    let appended = match log.append(&batch, 7) {
        Ok(appended) => appended,
        Err(AppendError::Exhausted) => return,
        Err(error) => panic!("nothing can be appended: {error}"),
    };
    assert!(appended.offset >= next, "{} is before {next}", appended.offset);
    let behind = served.last().map_or(0, |(offset, bytes)| offset + bytes.len() as u64);
    assert!(appended.offset.as_u64() >= behind, "{} is before {behind}", appended.offset);
    let synced = log.sync().expect("a sound disk");
    assert_eq!(synced, appended.end);
    let selection = log.view().select(appended.offset, 1, &mut Vec::new()).expect("it was appended");
    assert_eq!((selection.offset, selection.bytes()), (appended.offset, bytes.len() as u64));
}

fn repaired(dir: &Dir, found: &[Found], totals: Totals) {
    let disk = dir.disk();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut told = Vec::new();
    let repair = check::repair(&shared, Path::new(DIR), &mut || {}, &mut |one| told.push(one));
    repair.expect("the directory can be listed");
    expect_bounded(dir, &disk, "a repair");
    let failed = told.iter().find(|found| found.what.grade() == Grade::Unchecked);
    assert!(failed.is_none(), "{failed:?} on a sound disk");

    if found.iter().any(is_fatal) {
        // It takes a person: which of two files is the right one is not for a repair to say.
        return;
    }
    let (after, totals_after) = check_disk(&disk);
    let wrong = after.iter().find(|found| found.what.grade() > Grade::Note);
    assert!(wrong.is_none(), "after a repair there is {wrong:?}; it has done {told:?}");
    let counts = |totals: &Totals| (totals.batches, totals.messages);
    if !is_guess(found) {
        assert_eq!(counts(&totals_after), counts(&totals), "a repair has changed what is whole");
    }
    let calls = disk.calls();
    let _ = check::repair(&shared, Path::new(DIR), &mut || {}, &mut |_| {});
    assert_eq!(disk.calls(), calls, "a second repair has changed something");
    let (log, findings) = try_open(&disk, dir).expect("a topic that was repaired opens");
    assert_eq!(findings, [], "a topic that was repaired opens with findings");
    let served = read_all(&log, dir);
    expect_valid(&served, dir);
    expect_all(&served, totals_after);
}
