//! Which offsets are batches, and what is read from them.

use super::*;
use crate::log::AppendError;
use crate::log::index::SPACING_BYTES;

#[test]
fn an_offset_in_the_middle_of_a_batch_is_refused_even_where_a_batch_seems_to_start() {
    for batches in [plain_batches(), nesting_batches()] {
        for partition_bytes in [1, 200, 1_000_000] {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(partition_bytes));
            let offsets = append_all(&log, &batches);
            assert_holds(&log, &offsets, &batches);
            for offset in (0..end(&log) + 10).filter(|offset| !offsets.contains(offset)) {
                assert_eq!(read(&log, offset, 1), None, "no batch starts at {offset}");
            }
            log.close().unwrap();
            drop(log);
            assert_holds(&open(&disk, &config(partition_bytes)).0, &offsets, &batches);
        }
    }
}

#[test]
fn an_offset_in_the_middle_of_a_batch_is_refused_where_an_index_entry_would_fall() {
    let inner = batch(&[b"inner"]);
    let spacing = usize::try_from(SPACING_BYTES).unwrap();
    // A batch whose message has a batch at every place at which one that is 64 KiB behind the first could start.
    let row = inner.repeat(2 * spacing / inner.len());
    let batches = vec![batch_of(20), batch(&[&row]), batch(&[&row[1..]]), batch(&[&inner])];
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(10_000_000));
    let offsets = append_all(&log, &batches);
    let all = batches.concat();
    let check = |log: &Log| {
        for (offset, batch) in offsets.iter().zip(&batches) {
            let expected = Answer { offset: *offset, batches: 1, bytes: batch.clone() };
            assert_eq!(read(log, *offset, 1), Some(expected));
        }
        let seeming = memchr::memmem::find_iter(&all, b"BATCH ").map(|place| place as u64);
        let mut refused = 0;
        for offset in seeming.filter(|offset| !offsets.contains(offset)).step_by(23) {
            assert_eq!(read(log, offset, 1), None, "at {offset}");
            refused += 1;
        }
        assert!(refused > 100);
    };
    check(&log);
    log.close().unwrap();
    drop(log);
    check(&open(&disk, &config(10_000_000)).0);
    // And where the index is made by reading the partition.
    disk.remove(Path::new("topic/0.index")).unwrap();
    check(&open(&disk, &config(10_000_000)).0);
}

#[test]
fn a_read_has_as_few_batches_as_hold_the_messages_wherever_partitions_end() {
    let batches: Vec<Vec<u8>> = (0..30)
        .map(|number: usize| {
            let text = number.to_string();
            batch(&vec![text.as_bytes(); number % 4 + 1])
        })
        .collect();
    for partition_bytes in [1, 150, 400, 1_000_000] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(partition_bytes));
        let offsets = append_all(&log, &batches);
        for from in 0..batches.len() {
            for messages in 0..80 {
                let mut held = 0;
                let mut count = 0;
                while from + count < batches.len() && (count == 0 || held < messages) {
                    held += (from + count) as u64 % 4 + 1;
                    count += 1;
                }
                let bytes = batches[from..from + count].concat();
                let expected = Answer { offset: offsets[from], batches: count as u64, bytes };
                assert_eq!(read(&log, offsets[from], messages), Some(expected));
            }
        }
    }
}

#[test]
fn batches_of_all_sizes_are_found_from_each_other() {
    // Rows of small ones, and single large ones, so that what is read ahead is now too much, now too little.
    let sizes = [10, 5000, 30, 4000, 4100, 70_000, 1, 1, 1, 200_000, 2, 66_000, 300, 9000];
    let sizes = sizes.iter().flat_map(|size| vec![*size; if *size < 400 { 40 } else { 2 }]);
    let batches: Vec<_> = sizes.map(batch_of).collect();
    for rows in [batches.clone(), batches.iter().rev().cloned().collect()] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(10_000_000));
        let offsets = append_all(&log, &rows);
        for (from, offset) in offsets.iter().enumerate() {
            for count in [1, 2, 3, 39, 100] {
                let some: Vec<_> = rows.iter().skip(from).take(count).cloned().collect();
                let expected = Answer { offset: *offset, batches: some.len() as u64, bytes: some.concat() };
                assert!(read(&log, *offset, count as u64) == Some(expected), "{count} from {from} on");
            }
        }
    }
}

#[test]
fn an_empty_topic_has_nothing_to_read() {
    let (log, findings) = open(&SimDisk::new(1), &config(100));
    assert_eq!(findings, []);
    assert_eq!(read(&log, 0, 1), None);
    assert!(matches!(log.view().select_oldest(1, &mut Vec::new()), Err(ReadError::NotFound)));
    let extent = log.view().extent();
    assert_eq!(
        (extent.oldest, extent.next, extent.batches, extent.bytes),
        (Offset::ZERO, Offset::ZERO, 0, 0)
    );
}

#[test]
fn offsets_at_and_behind_the_end_are_refused() {
    let (log, _) = open(&SimDisk::new(1), &config(100));
    append_all(&log, &plain_batches());
    for offset in [end(&log), end(&log) + 1, end(&log) + 1000, u64::MAX - 1, u64::MAX] {
        assert_eq!(read(&log, offset, 1), None);
    }
}

#[test]
fn a_topic_can_run_out_of_offsets() {
    let batch = batch_of(20);
    let room = 3 * batch.len() as u64 + 10;
    let start = u64::MAX - room;
    for partition_bytes in [1, 1_000_000] {
        let disk = SimDisk::new(1);
        put(&disk, &format!("{start}.log"), b"");
        let (log, findings) = open(&disk, &config(partition_bytes));
        assert_eq!(findings, []);
        let batches = vec![batch.clone(); 3];
        let offsets = append_all(&log, &batches);
        assert_eq!(offsets, starts(start, &batches));
        for _ in 0..2 {
            assert!(matches!(try_append(&log, &batch), Err(AppendError::Exhausted)));
        }
        assert_eq!(read(&log, offsets[0], 3).unwrap().bytes, batches.concat());
        log.close().unwrap();
        drop(log);
        let (log, findings) = open(&disk, &config(partition_bytes));
        assert_eq!(findings, []);
        assert!(matches!(try_append(&log, &batch), Err(AppendError::Exhausted)));
        assert_eq!(read(&log, offsets[2], 1).unwrap().bytes, batch);
    }
}

#[test]
fn a_partition_that_reaches_beyond_the_last_offset_is_refused() {
    let disk = SimDisk::new(1);
    put(&disk, "18446744073709551600.log", &batch_of(20));
    let error = Log::open(Arc::new(disk.clone()), Path::new(DIR), config(100)).unwrap_err();
    assert!(error.to_string().contains("18446744073709551600.log"), "{error}");
    assert_eq!(file(&disk, "18446744073709551600.log"), Some(batch_of(20)), "it is left alone");
}

#[test]
fn a_batch_larger_than_a_partition_has_one_to_itself() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(100));
    let batches = vec![batch_of(10), batch_of(500), batch_of(10), batch_of(500), batch_of(500)];
    let offsets = append_all(&log, &batches);
    assert_holds(&log, &offsets, &batches);
    assert_eq!(log.view().extent().partitions, 5);
}
