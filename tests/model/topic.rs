//! A topic on a simulated disk, as the tests use it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use logd_protocol::{CheckedBatch, Decoded, Offset, decode_batch};
use logd_server::disk::{Disk, SimDisk};
use logd_server::log::{AppendError, Appended, Finding, Log, LogConfig, OpenError, ReadError, Selection};
use logd_tests::Random;

const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a reader receives.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) offset: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, batches, bytes } = self;
        let (length, crc) = (bytes.len(), logd_tests::checksum(bytes));
        write!(formatter, "{batches} batches at {offset}, {length} bytes with crc {crc:08x}")
    }
}

/// A disk with a work directory whose name is safe, as a server has made it.
pub(crate) fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new("work")).expect("a sound disk");
    disk.sync_dir(Path::new("/")).expect("a sound disk");
    disk
}

pub(crate) fn try_open(disk: &SimDisk, config: &LogConfig) -> Result<(Log, Vec<Finding>), OpenError> {
    Log::open(Arc::new(disk.clone()), Path::new("work/topic"), config.clone())
}

pub(crate) fn open(disk: &SimDisk, config: &LogConfig) -> (Log, Vec<Finding>) {
    try_open(disk, config).unwrap_or_else(|error| panic!("the topic does not open: {error}"))
}

pub(crate) fn append(log: &Log, bytes: &[u8]) -> Result<Appended, AppendError> {
    log.append(&checked(bytes), 1)
}

pub(crate) fn checked(bytes: &[u8]) -> CheckedBatch<'_> {
    match decode_batch(bytes, BYTES_MAX) {
        Decoded::Whole { value, bytes: length } if length == bytes.len() => {
            value.check().expect("a right batch")
        }
        other => panic!("{other:?} is no batch"),
    }
}

/// READ; `None` is "not found".
pub(crate) fn read(log: &Log, offset: u64, messages: u64) -> Option<Answer> {
    answer(log.view().select(Offset::new(offset), messages, &mut Vec::new()))
}

/// TAIL; `None` is "not found".
pub(crate) fn read_oldest(log: &Log, messages: u64) -> Option<Answer> {
    answer(log.view().select_oldest(messages, &mut Vec::new()))
}

fn answer(selected: Result<Selection, ReadError>) -> Option<Answer> {
    let selection = match selected {
        Ok(selection) => selection,
        Err(ReadError::NotFound) => return None,
        Err(error) => panic!("{error}"),
    };
    let mut all = Vec::new();
    for piece in &selection.pieces {
        let mut bytes = vec![0; usize::try_from(piece.bytes).expect("it fits memory")];
        let read = piece.file.read_full_at(&mut bytes, piece.place).expect("a piece can be read");
        assert_eq!(read, bytes.len(), "a piece ends before its end");
        all.extend(bytes);
    }
    Some(Answer { offset: selection.offset.as_u64(), batches: selection.batches, bytes: all })
}

/// All that can be read from the oldest batch on, batch by batch.
pub(crate) fn read_all(log: &Log) -> Vec<Answer> {
    let mut all = Vec::new();
    let mut next = read_oldest(log, 1);
    while let Some(answer) = next {
        assert_eq!(answer.batches, 1);
        let behind = answer.offset + answer.bytes.len() as u64;
        all.push(answer);
        next = read(log, behind, 1);
        assert!(next.as_ref().is_none_or(|next| next.offset >= behind), "reading goes forward");
    }
    all
}

/// A batch of up to a few messages, some of which hold batches, with at least one of about `bytes` bytes.
pub(crate) fn random_batch(random: &mut Random, bytes: usize) -> (Vec<u8>, u64) {
    let messages: Vec<Vec<u8>> = (0..=random.below(4)).map(|_| random_message(random, bytes)).collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    (logd_tests::batch("default", &messages), messages.len() as u64)
}

fn random_message(random: &mut Random, bytes: usize) -> Vec<u8> {
    match random.below(4) {
        0 => logd_tests::batch("default", &[b"inner"]).repeat(random.below(bytes / 40 + 3)),
        1 => vec![b'x'; random.below(bytes + 1)],
        2 => Vec::new(),
        _ => random.any().to_string().into_bytes(),
    }
}
