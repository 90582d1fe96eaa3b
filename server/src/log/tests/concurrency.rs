//! Several threads append and read at the same time, on the real file system.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::disk::OsDisk;

const WRITERS: u64 = 3;
const READERS: usize = 3;

/// How long a reader may take to come to the end.
const BOUND: Duration = Duration::from_secs(100);

/// A batch that names its writer and number, of very different lengths.
fn numbered(writer: u64, number: u64) -> Vec<u8> {
    let name = format!("{writer}:{number}");
    let filler = vec![b'.'; usize::try_from(number * 7919 % 3000).unwrap()];
    batch(&[name.as_bytes(), &filler, &batch(&[b"inner"])])
}

/// Everything that a selection has, batch by batch, each of which must be right.
fn read_whole(selection: &Selection) -> Vec<Vec<u8>> {
    let bytes = contents(selection);
    let mut rest = &bytes[..];
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let Decoded::Whole { value, bytes } = decode_batch(rest, BYTES_MAX) else { panic!("half a batch") };
        value.check().expect("a whole batch");
        batches.push(rest[..bytes].to_vec());
        rest = &rest[bytes..];
    }
    assert_eq!(batches.len() as u64, selection.batches);
    batches
}

/// Reads from the oldest to the end again and again; returns how many batches it has seen.
fn read_until(log: &Log, is_done: &AtomicBool, acknowledged: &Mutex<BTreeMap<u64, Vec<u8>>>) -> u64 {
    let mut scratch = Vec::new();
    let mut seen = 0;
    let mut at = None;
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < BOUND, "the end is not reached, reading at {at:?}");
        let was_done = is_done.load(Ordering::Acquire);
        let view = log.view();
        let selected = match at {
            Some(offset) => view.select(Offset::new(offset), 50, &mut scratch),
            None => view.select_oldest(50, &mut scratch),
        };
        match selected {
            Ok(selection) => {
                let offset = selection.offset.as_u64();
                assert!(at.is_none_or(|at| at == offset), "nothing is damaged");
                let batches = read_whole(&selection);
                let acknowledged = acknowledged.lock().unwrap();
                for (offset, batch) in starts(offset, &batches).iter().zip(&batches) {
                    assert!(acknowledged.get(offset).is_none_or(|known| known == batch), "at {offset}");
                }
                seen += selection.batches;
                at = Some(offset + batches.concat().len() as u64);
            }
            // The end was reached, or retention has come past.
            Err(ReadError::NotFound) if was_done && at == Some(view.extent().next.as_u64()) => return seen,
            Err(ReadError::NotFound) => {
                at = at.filter(|at| *at >= log.view().extent().oldest.as_u64());
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn run(config: &LogConfig, batches: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(Arc::new(OsDisk::new(0o600)), dir.path(), config.clone()).unwrap();
    let acknowledged = Mutex::new(BTreeMap::new());
    let is_done = AtomicBool::new(false);
    let writing = AtomicU64::new(WRITERS);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, acknowledged, is_done, writing) = (&log, &acknowledged, &is_done, &writing);
            scope.spawn(move || {
                for number in 0..batches {
                    let batch = numbered(writer, number);
                    let appended = log.append(&checked(&batch), number).unwrap();
                    if appended.is_sync_due {
                        assert!(log.sync().unwrap() >= appended.end);
                        assert!(
                            log.view().extent().next >= appended.end,
                            "it is seen when it is acknowledged"
                        );
                    }
                    let before = acknowledged.lock().unwrap().insert(appended.offset.as_u64(), batch);
                    assert_eq!(before, None, "no offset is given twice");
                    if appended.is_maintenance_due {
                        log.maintain();
                    }
                }
                if writing.fetch_sub(1, Ordering::AcqRel) == 1 {
                    is_done.store(true, Ordering::Release);
                }
            });
        }
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| read_until(&log, &is_done, &acknowledged))).collect();
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    let oldest = log.view().extent().oldest.as_u64();
    let kept: (Vec<u64>, Vec<Vec<u8>>) =
        acknowledged.range(oldest..).map(|(at, batch)| (*at, batch.clone())).unzip();
    assert_holds(&log, &kept.0, &kept.1);
    log.close().unwrap();
    drop(log);
    let (log, findings) = Log::open(Arc::new(OsDisk::new(0o600)), dir.path(), config.clone()).unwrap();
    assert_eq!(findings, []);
    assert_holds(&log, &kept.0, &kept.1);
}

#[test]
fn threads_append_and_read_without_syncs() {
    run(&LogConfig { partition_bytes: 20_000, partitions: 4, flush_batches: 0 }, 2000);
    run(&LogConfig { partition_bytes: 1, partitions: 3, flush_batches: 0 }, 500);
}

#[test]
fn threads_append_and_read_with_a_sync_before_every_answer() {
    run(&LogConfig { partition_bytes: 20_000, partitions: 4, flush_batches: 1 }, 200);
    run(&LogConfig { partition_bytes: 1, partitions: 3, flush_batches: 1 }, 60);
}

#[test]
fn threads_append_and_read_with_a_sync_now_and_then() {
    run(&LogConfig { partition_bytes: 20_000, partitions: 4, flush_batches: 7 }, 400);
}
