//! Batches that are sent again: stored once, whatever lies between the two times.

use logd_protocol::{BatchBuilder, BatchId, TopicName, WriterId};

use super::{BYTES_MAX, append, config, end, file, names, open, read, try_append};
use crate::disk::{Disk, SimDisk};
use crate::log::writers::{BATCHES_MAX, Known, WRITERS_MAX, Writers};
use crate::log::{AppendError, LogConfig};

const fn id(writer: u64, seq: u64) -> BatchId {
    BatchId { writer: WriterId::new(writer), seq }
}

fn batch_as(id: BatchId, message: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::with_ids(&TopicName::default(), BYTES_MAX);
    builder.push(message).unwrap();
    builder.finish_as(id).unwrap().bytes().to_vec()
}

fn batch(writer: u64, seq: u64) -> Vec<u8> {
    batch_as(id(writer, seq), format!("message {seq} of {writer}").as_bytes())
}

#[test]
fn batch_sent_again_gets_its_first_offset_and_is_not_stored() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(1_000_000));
    let first = append(&log, &batch(1, 7));
    let other = append(&log, &batch(2, 7));
    let second = append(&log, &batch(1, 8));
    let bytes = end(&log);
    assert_eq!(
        [append(&log, &batch(1, 7)), append(&log, &batch(2, 7)), append(&log, &batch(1, 8))],
        [first, other, second]
    );
    // What counts is the identity.
    assert_eq!(append(&log, &batch_as(id(1, 7), b"something else")), first);
    assert_eq!(end(&log), bytes);
    // A smaller number that was never stored is.
    assert_eq!(append(&log, &batch(1, 3)), bytes);
    assert_eq!(append(&log, &batch(1, 3)), bytes);
    assert_eq!(read(&log, first, 100).unwrap().batches, 4);
}

/// Batches of three writers over several partitions; afterwards, however the topic is opened again, all are known.
fn known_after(reopen: impl FnOnce(&SimDisk, super::Log)) {
    let disk = SimDisk::new(1);
    let config = config(500);
    let (log, _) = open(&disk, &config);
    let stored: Vec<(Vec<u8>, u64)> = (0..40)
        .map(|number| {
            let batch = batch(number % 3, number);
            let offset = append(&log, &batch);
            (batch, offset)
        })
        .collect();
    log.sync().unwrap();
    reopen(&disk, log);
    let (log, _) = open(&disk, &config);
    let bytes = end(&log);
    for (batch, offset) in &stored {
        assert_eq!(append(&log, batch), *offset);
    }
    assert_eq!(end(&log), bytes);
}

#[test]
fn all_is_known_after_a_clean_end() {
    known_after(|_, log| log.close().unwrap());
}

#[test]
fn all_is_known_after_a_kill_before_any_partition_was_sealed() {
    known_after(|_, log| drop(log));
}

#[test]
fn all_is_known_after_a_kill_when_complete_partitions_were_sealed() {
    known_after(|_, log| assert!(log.maintain()));
}

#[test]
fn what_came_behind_the_end_of_an_index_is_known_after_a_kill() {
    let disk = SimDisk::new(1);
    let config = config(1_000_000);
    let (log, _) = open(&disk, &config);
    let first = append(&log, &batch(1, 1));
    log.close().unwrap();
    drop(log);
    let (log, _) = open(&disk, &config);
    let second = append(&log, &batch(1, 2));
    drop(log);
    let (log, findings) = open(&disk, &config);
    assert_eq!(findings, []);
    let bytes = end(&log);
    assert_eq!([append(&log, &batch(1, 1)), append(&log, &batch(1, 2))], [first, second]);
    assert_eq!(end(&log), bytes);
}

#[test]
fn all_is_known_when_the_indexes_were_deleted() {
    known_after(|disk, log| {
        log.close().unwrap();
        let indexes: Vec<String> = names(disk).into_iter().filter(|name| name.contains(".index")).collect();
        assert!(indexes.len() > 3, "{indexes:?}");
        for name in indexes {
            disk.remove(&std::path::Path::new(super::DIR).join(name)).unwrap();
        }
    });
}

#[test]
fn all_is_known_when_some_indexes_were_deleted() {
    for which in 0..6 {
        known_after(|disk, log| {
            log.close().unwrap();
            let indexes: Vec<String> =
                names(disk).into_iter().filter(|name| name.contains(".index")).collect();
            for (_, name) in indexes.iter().enumerate().filter(|(number, _)| number % 6 == which) {
                disk.remove(&std::path::Path::new(super::DIR).join(name)).unwrap();
            }
        });
    }
}

#[test]
fn what_retention_has_dropped_is_still_known() {
    let disk = SimDisk::new(1);
    let config = LogConfig { partitions: 2, ..config(300) };
    let (log, _) = open(&disk, &config);
    let offset = append(&log, &batch(1, 1));
    for seq in 2..60 {
        append(&log, &batch(1, seq));
    }
    log.close().unwrap();
    drop(log);
    assert!(file(&disk, "0.log").is_none());
    let (log, _) = open(&disk, &config);
    assert_eq!(append(&log, &batch(1, 1)), offset);
}

#[test]
fn batch_that_was_not_written_is_not_known() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(1_000_000));
    append(&log, &batch(1, 1));
    disk.set_capacity(Some(0));
    try_append(&log, &batch(1, 2)).unwrap_err();
    // What is stored is known on a full disk, too.
    assert_eq!(append(&log, &batch(1, 1)), 0);
    disk.set_capacity(None);
    let bytes = end(&log);
    assert_eq!(append(&log, &batch(1, 2)), bytes);
    assert!(end(&log) > bytes);
}

#[test]
fn batch_sent_again_waits_for_the_sync_of_the_first_time() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &LogConfig { flush_batches: 1, ..config(1_000_000) });
    let first = try_append(&log, &batch(1, 1)).unwrap();
    assert!(first.is_sync_due);
    let again = try_append(&log, &batch(1, 1)).unwrap();
    assert!(again.is_sync_due && again.end >= first.end && again.offset == first.offset);
    log.sync().unwrap();
    assert!(!try_append(&log, &batch(1, 1)).unwrap().is_sync_due);
}

#[test]
fn batch_that_is_forgotten_is_refused_and_one_above_it_is_not() {
    let disk = SimDisk::new(1);
    let config = config(4000);
    let (log, _) = open(&disk, &config);
    for seq in 0..=BATCHES_MAX as u64 {
        append(&log, &batch(1, seq * 2));
    }
    let check = |log: &super::Log| {
        let bytes = end(log);
        assert!(matches!(try_append(log, &batch(1, 0)), Err(AppendError::Forgotten)));
        append(log, &batch(1, 2));
        assert_eq!(end(log), bytes);
    };
    check(&log);
    log.close().unwrap();
    drop(log);
    let (log, _) = open(&disk, &config);
    check(&log);
    let bytes = end(&log);
    assert_eq!(append(&log, &batch(1, 1)), bytes, "it was never stored");
}

#[test]
fn writers_are_bounded_and_the_last_ones_are_known() {
    let mut writers = Writers::default();
    let count = 3 * WRITERS_MAX as u64;
    for writer in 0..count {
        writers.add(id(writer, 1), writer);
    }
    assert_eq!(writers.find(id(0, 1)), Known::New);
    for writer in count - 3 * (WRITERS_MAX as u64) / 4..count {
        assert_eq!(writers.find(id(writer, 1)), Known::Stored(writer));
    }
    let bytes = writers.encode();
    assert!(bytes.len() <= WRITERS_MAX * 56);
    assert_eq!(Writers::decode(&bytes).unwrap(), writers);
}

#[test]
fn damaged_bytes_are_no_writers() {
    let mut writers = Writers::default();
    for seq in 0..300 {
        writers.add(id(seq % 2, seq), seq * 100);
    }
    let bytes = writers.encode();
    for length in 0..bytes.len() {
        // A cut between two writers leaves a whole list; the checksum of the file finds that out.
        if let Ok(fewer) = Writers::decode(&bytes[..length]) {
            assert!(fewer != writers);
        }
    }
    let count = [0_u8; 32].into_iter().chain(u64::MAX.to_le_bytes()).collect::<Vec<_>>();
    assert!(Writers::decode(&count).is_err());
}

#[test]
fn what_is_known_has_the_same_bytes_in_whatever_order_it_came_to_be_known() {
    let of = |numbers: &mut dyn Iterator<Item = u64>| {
        let mut writers = Writers::default();
        for number in numbers {
            writers.add(id(number, 1), number);
        }
        writers.encode()
    };
    let bytes = of(&mut (0..100));
    assert_eq!(of(&mut (0..100).rev()), bytes);
    assert_eq!(Writers::decode(&bytes).unwrap().encode(), bytes);
}
