//! Tests of the storage engine: what they share, and a file an area.

mod check;
mod concurrency;
mod damage;
mod go;
mod index;
mod offsets;
mod opening;
mod retention;
mod sync;
mod times;
mod torn;
mod writers;

use std::path::Path;
use std::sync::Arc;

use logd_protocol::{BatchBuilder, CheckedBatch, Decoded, Offset, TopicName, decode_batch};

use super::{Appended, Finding, Log, LogConfig, ReadError, Selection};
use crate::disk::{Disk, OpenMode, SimDisk};

const DIR: &str = "topic";
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// A topic without guarantees, with partitions of so many bytes and no retention to speak of.
fn config(partition_bytes: u64) -> LogConfig {
    LogConfig { partition_bytes, partitions: 1_000_000, flush_batches: 0 }
}

fn open(disk: &SimDisk, config: &LogConfig) -> (Log, Vec<Finding>) {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), config.clone()).unwrap()
}

/// A valid batch of these messages.
fn batch(messages: &[&[u8]]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&TopicName::default(), BYTES_MAX);
    for message in messages {
        builder.push(message).unwrap();
    }
    builder.finish().unwrap().bytes().to_vec()
}

/// A valid batch of one message of so many bytes.
fn batch_of(bytes: usize) -> Vec<u8> {
    batch(&[&vec![b'x'; bytes]])
}

/// Batches in which nothing is out of the ordinary.
fn plain_batches() -> Vec<Vec<u8>> {
    vec![batch(&[b"hello", b"world!"]), batch(&[b""]), batch(&[b"one", b"two", b"three"]), batch(&[b"last"])]
}

/// Batches whose messages hold batches: one, several in a row, one with more behind it, and one that holds such a one.
fn nesting_batches() -> Vec<Vec<u8>> {
    let inner = batch(&[b"inner"]);
    let row = inner.repeat(3);
    let with_more = [&inner[..], b" and more"].concat();
    vec![
        batch(&[&inner]),
        batch(&[b"before", &row, b"after"]),
        batch(&[&with_more, &with_more]),
        batch(&[b"MSG 5\r\nhello\r\n", &batch(&[&inner])]),
        batch(&[&row]),
    ]
}

fn checked(bytes: &[u8]) -> CheckedBatch<'_> {
    match decode_batch(bytes, BYTES_MAX) {
        Decoded::Whole { value, bytes: length } if length == bytes.len() => value.check().unwrap(),
        other => panic!("{other:?} is no batch"),
    }
}

fn try_append(log: &Log, bytes: &[u8]) -> Result<Appended, super::AppendError> {
    log.append(&checked(bytes), 1)
}

/// Appends and returns the offset.
fn append(log: &Log, bytes: &[u8]) -> u64 {
    try_append(log, bytes).unwrap().offset.as_u64()
}

/// Appends all and returns the offset of each.
fn append_all(log: &Log, batches: &[Vec<u8>]) -> Vec<u64> {
    batches.iter().map(|batch| append(log, batch)).collect()
}

/// What a reader receives.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    offset: u64,
    batches: u64,
    bytes: Vec<u8>,
}

fn contents(selection: &Selection) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in &selection.pieces {
        let mut bytes = vec![0; usize::try_from(piece.bytes).unwrap()];
        let read = piece.file.read_full_at(&mut bytes, piece.place).unwrap();
        assert_eq!(read, bytes.len(), "a piece ends before its end");
        all.extend(bytes);
    }
    all
}

/// READ; `None` where the answer is "not found".
fn read(log: &Log, offset: u64, messages: u64) -> Option<Answer> {
    match log.view().select(Offset::new(offset), messages, &mut Vec::new()) {
        Ok(selection) => Some(Answer {
            offset: selection.offset.as_u64(),
            batches: selection.batches,
            bytes: contents(&selection),
        }),
        Err(ReadError::NotFound) => None,
        Err(error) => panic!("reading at {offset}: {error}"),
    }
}

/// The offset at which the topic goes on, as readers see it.
fn end(log: &Log) -> u64 {
    log.view().extent().next.as_u64()
}

/// Each of the batches can be read at its offset, one by one and all at once, and nothing where a message holds a batch
/// or right beside an offset.
fn assert_holds(log: &Log, offsets: &[u64], batches: &[Vec<u8>]) {
    let Some(first) = offsets.first().copied() else { return };
    let bytes = batches.concat();
    for (offset, batch) in offsets.iter().zip(batches) {
        let expected = Answer { offset: *offset, batches: 1, bytes: batch.clone() };
        assert_eq!(read(log, *offset, 1), Some(expected), "at {offset}");
    }
    let seeming = memchr::memmem::find_iter(&bytes, b"BATCH ").map(|place| first + place as u64);
    let beside = offsets.iter().flat_map(|offset| [offset.saturating_sub(1), offset + 1]);
    for offset in seeming.chain(beside).filter(|offset| !offsets.contains(offset)) {
        assert_eq!(read(log, offset, 1), None, "no batch starts at {offset}");
    }
    let expected = Answer { offset: first, batches: batches.len() as u64, bytes };
    assert_eq!(read(log, first, 1_000_000), Some(expected));
}

/// Writes a file into the topic's directory, as another hand would.
fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.open(&Path::new(DIR).join(name), OpenMode::Truncate).unwrap().write_all_at(bytes, 0).unwrap();
}

/// What a file of the topic's directory holds.
fn file(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&Path::new(DIR).join(name), OpenMode::Read).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_full_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(DIR)).unwrap().into_iter().map(|entry| entry.name).collect()
}

/// How many files of the directory have this extension.
fn count(disk: &dyn Disk, dir: &Path, extension: &str) -> usize {
    let entries = disk.list(dir).unwrap();
    entries
        .iter()
        .filter(|entry| Path::new(&entry.name).extension().is_some_and(|found| found == extension))
        .count()
}

/// Where each of the batches starts when the first one is at `start`.
fn starts(start: u64, batches: &[Vec<u8>]) -> Vec<u64> {
    let next = |at: &mut u64, batch: &Vec<u8>| {
        let offset = *at;
        *at += batch.len() as u64;
        Some(offset)
    };
    batches.iter().scan(start, next).collect()
}
