//! Directories that Go logd has written.

use logd_protocol::checksum;

use super::*;

/// A batch as Go logd stores it: whatever count and body it was sent with, as long as the checksum is right.
fn go_batch(body: &[u8], messages: u64) -> Vec<u8> {
    let mut batch = format!("BATCH {} default {} {messages}\r\n", body.len(), checksum(body)).into_bytes();
    batch.extend_from_slice(body);
    batch
}

#[test]
fn a_directory_of_go_logd_opens_and_goes_on() {
    let disk = SimDisk::new(1);
    let first = vec![batch_of(100), batch_of(200)];
    let second = vec![batch_of(300), batch_of(10)];
    let next = first.concat().len();
    put(&disk, "0.log", &first.concat());
    put(&disk, "0.idx", b"whatever it has there");
    put(&disk, &format!("{next:020}.log"), &second.concat());
    put(&disk, &format!("{next:020}.idx"), b"");
    let (log, findings) = open(&disk, &config(200));
    assert_eq!(findings, [Finding::IndexRebuilt { partition: 0 }]);
    let mut batches = [first, second].concat();
    batches.push(batch_of(5));
    append(&log, batches.last().unwrap());
    let offsets = starts(0, &batches);
    assert_holds(&log, &offsets, &batches);
    log.close().unwrap();
    drop(log);
    let names = names(&disk);
    assert!(names.contains(&format!("{next:020}.index")), "an index is named as its partition is: {names:?}");
    let (log, findings) = open(&disk, &config(200));
    assert_eq!(findings, []);
    assert_holds(&log, &offsets, &batches);
}

#[test]
fn dropping_a_partition_of_go_logd_removes_all_its_files() {
    let disk = SimDisk::new(1);
    let batches = [batch_of(100), batch_of(200)];
    let next = batches[0].len();
    put(&disk, "00000000.log", &batches[0]);
    put(&disk, "00000000.idx", b"x");
    put(&disk, &format!("{next:08}.log"), &batches[1]);
    let (log, _) = open(&disk, &LogConfig { partitions: 1, ..config(1) });
    log.maintain();
    assert_eq!(names(&disk), [format!("{next:08}.log")]);
    assert_eq!(read(&log, 0, 1), None);
    assert_eq!(read(&log, next as u64, 1).unwrap().bytes, batches[1]);
}

#[test]
fn batches_that_only_go_logd_would_take_are_kept() {
    let body = batch(&[b"hello"]).split_off(b"BATCH 14 default 1680380747 1\r\n".len());
    let batches = vec![
        go_batch(b"", 0),
        go_batch(&body, 1),
        go_batch(&body, 0),
        go_batch(&body, 7),
        go_batch(b"no frames at all", 3),
        go_batch(&body, u64::MAX),
        go_batch(&body, u64::MAX - 1),
        go_batch(&body, 1),
        go_batch(b"", 0),
    ];
    let offsets = starts(0, &batches);
    for is_head in [true, false] {
        let disk = SimDisk::new(1);
        put(&disk, "0.log", &batches.concat());
        if !is_head {
            put(&disk, &format!("{}.log", batches.concat().len()), &batch_of(5));
        }
        for _ in 0..2 {
            let (log, findings) = open(&disk, &config(1));
            assert!(
                findings.iter().all(|finding| matches!(finding, Finding::IndexRebuilt { .. })),
                "{findings:?}"
            );
            for (offset, batch) in offsets.iter().zip(&batches) {
                let answer = read(&log, *offset, 1).unwrap();
                assert_eq!(answer.offset, *offset);
                assert!(answer.bytes.starts_with(batch));
            }
            // Every read comes further, so that a reader gets through.
            let (mut at, mut read_batches) = (0, 0);
            while let Some(answer) = read(&log, at, 2) {
                at += answer.bytes.len() as u64;
                read_batches += answer.batches;
            }
            assert_eq!(at, end(&log));
            assert_eq!(read_batches, log.view().extent().batches);
            log.close().unwrap();
        }
    }
}

#[test]
fn batches_without_messages_are_not_read_beyond_what_was_asked() {
    let empty = go_batch(b"", 0);
    let full = batch(&[b"one"]);
    let batches = [empty.clone(), full.clone(), empty.clone(), full, empty];
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &batches.concat());
    let (log, _) = open(&disk, &config(1));
    for (messages, count) in [(0, 1), (1, 2), (2, 4), (3, 5)] {
        assert_eq!(read(&log, 0, messages).unwrap().batches, count, "{messages} messages");
    }
}

#[test]
fn batches_larger_than_any_limit_now_in_force_are_kept() {
    let large = batch(&[&vec![b'x'; 3_000_000], &batch_of(10)]);
    let largest_body = 64 * 1024 * 1024;
    let largest = go_batch(&vec![b'y'; largest_body], 1);
    let batches = vec![batch_of(10), large, batch_of(10), largest, batch_of(10)];
    let offsets = starts(0, &batches);
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &batches.concat());
    for _ in 0..2 {
        let (log, findings) = open(&disk, &config(1000));
        assert_eq!(findings, []);
        for (offset, batch) in offsets.iter().zip(&batches) {
            assert!(read(&log, *offset, 1).unwrap().bytes == *batch, "the batch at {offset}");
            assert_eq!(read(&log, offset + 1, 1), None);
        }
        log.close().unwrap();
    }
}
