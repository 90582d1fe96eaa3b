//! Damage in the middle: what is lost, and that nothing else is.

use logd_protocol::RawBatch;

use super::*;

/// Where the partition lies, and whether it has an index when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    HeadWithIndex,
    Sealed,
    SealedWithIndex,
}

/// How a byte is damaged: one turns a digit into another digit, the other into something else.
const MASKS: [u8; 2] = [0x01, 0x40];

/// A topic whose partition at 0 holds `batches`, of which the bytes are `bytes`.
fn damaged(place: Place, batches: &[Vec<u8>], bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(batches.concat().len() as u64));
    append_all(&log, batches);
    if matches!(place, Place::Sealed | Place::SealedWithIndex) {
        append(&log, &behind());
    }
    log.close().unwrap();
    drop(log);
    if matches!(place, Place::Head | Place::Sealed) {
        disk.remove(Path::new("topic/0.index")).unwrap();
    }
    put(&disk, "0.log", bytes);
    disk
}

/// The batch in the partition behind a sealed one.
fn behind() -> Vec<u8> {
    batch(&[b"behind"])
}

/// The batch at the beginning of `bytes`, if its checksum is right.
fn valid(bytes: &[u8]) -> Option<RawBatch<'_>> {
    match decode_batch(bytes, BYTES_MAX) {
        Decoded::Whole { value, .. } if value.check_crc().is_ok() => Some(value),
        _ => None,
    }
}

/// All but the batch `lost` can be read; the damaged one is a hole, or the end that was cut off.
fn check_lost(log: &Log, place: Place, batches: &[Vec<u8>], lost: usize, context: &str) {
    let mut expected: Vec<(u64, Vec<u8>)> =
        starts(0, batches).into_iter().zip(batches.iter().cloned()).collect();
    let (hole, _) = expected.remove(lost);
    if place == Place::Sealed || place == Place::SealedWithIndex {
        expected.push((batches.concat().len() as u64, behind()));
    }
    for (offset, bytes) in &expected {
        let answer = Answer { offset: *offset, batches: 1, bytes: bytes.clone() };
        assert_eq!(read(log, *offset, 1), Some(answer), "{context}: the batch at {offset}");
    }
    let next = expected.iter().find(|(offset, _)| *offset > hole);
    let answer = next.map(|(offset, bytes)| Answer { offset: *offset, batches: 1, bytes: bytes.clone() });
    assert_eq!(read(log, hole, 1), answer, "{context}: reading where the damage begins");
    for offset in (hole + 1..next.map_or(end(log), |(offset, _)| *offset)).step_by(9) {
        assert_eq!(read(log, offset, 1), None, "{context}: inside the hole at {offset}");
    }
    // A read that begins before the hole ends at it.
    let before = batches[..lost].concat();
    if !before.is_empty() {
        assert_eq!(read(log, 0, 1_000_000).unwrap().bytes, before, "{context}");
    }
}

fn check_every_byte(place: Place, batches: &[Vec<u8>]) {
    let all = batches.concat();
    let offsets = starts(0, batches);
    let mut lost_count = 0;
    for at in 0..all.len() {
        for mask in MASKS {
            let mut bytes = all.clone();
            bytes[at] ^= mask;
            let lost = offsets.iter().filter(|offset| **offset <= at as u64).count() - 1;
            let start = usize::try_from(offsets[lost]).unwrap();
            // The topic and the count of an envelope can be damaged so that a valid batch is left.
            if valid(&bytes[start..]).is_some_and(|left| left.bytes().len() == batches[lost].len()) {
                continue;
            }
            lost_count += 1;
            let context = format!("{place:?}, byte {at} with {mask:#x}");
            let disk = damaged(place, batches, &bytes);
            let (log, findings) = open(&disk, &config(all.len() as u64));
            check_found(&findings, place, batches, lost, &context);
            check_lost(&log, place, batches, lost, &context);
            if place == Place::Head {
                drop(log);
                check_growth(&disk, all.len() as u64, batches, lost, &context);
                continue;
            }
            drop(log);
            let (log, findings) = open(&disk, &config(all.len() as u64));
            if place == Place::Sealed {
                assert_eq!(findings, [], "{context}: what is known is not read again");
                check_lost(&log, place, batches, lost, &context);
            }
        }
    }
    assert!(2 * lost_count > all.len(), "most damage is seen");
}

/// What was found behind damage stays found when the topic has grown, whatever the damaged batch says of its length.
fn check_growth(disk: &SimDisk, partition_bytes: u64, batches: &[Vec<u8>], lost: usize, context: &str) {
    let mut expected: Vec<(u64, Vec<u8>)> =
        starts(0, batches).into_iter().zip(batches.iter().cloned()).collect();
    expected.remove(lost);
    for appended in [batch(&[b"appended"]), batch_of(1), batch_of(700)] {
        let (log, _) = open(disk, &config(2 * partition_bytes + 2000));
        expected.push((append(&log, &appended), appended));
        drop(log);
        let (log, _) = open(disk, &config(partition_bytes));
        for (offset, bytes) in &expected {
            let answer = Answer { offset: *offset, batches: 1, bytes: bytes.clone() };
            assert_eq!(read(&log, *offset, 1), Some(answer), "{context}: the batch at {offset}, later");
        }
    }
}

fn check_found(findings: &[Finding], place: Place, batches: &[Vec<u8>], lost: usize, context: &str) {
    let from = starts(0, batches)[lost];
    let bytes = batches[lost].len() as u64;
    let damage = Finding::Damage { from, to: from + bytes };
    match place {
        Place::Head if lost + 1 == batches.len() => {
            let kept_in = Path::new(DIR).join(format!("{from}.torn"));
            assert_eq!(findings, [Finding::TornTail { offset: from, bytes, kept_in }], "{context}");
        }
        Place::Head => assert_eq!(findings, [damage], "{context}"),
        Place::Sealed => assert_eq!(findings, [Finding::IndexRebuilt { partition: 0 }, damage], "{context}"),
        Place::HeadWithIndex | Place::SealedWithIndex => assert_eq!(findings, [], "{context}"),
    }
}

#[test]
fn a_damaged_byte_in_the_head_loses_one_batch() {
    check_every_byte(Place::Head, &plain_batches());
    check_every_byte(Place::Head, &nesting_batches());
}

#[test]
fn a_damaged_byte_in_a_sealed_partition_loses_one_batch() {
    check_every_byte(Place::Sealed, &plain_batches());
    check_every_byte(Place::Sealed, &nesting_batches());
}

/// Where there is an index, the partition is not read when it is opened. What is damaged is found when it leads astray;
/// a damaged body is sent as it is, for its reader to see by the checksum.
#[test]
fn a_damaged_byte_under_an_index_hides_no_other_batch() {
    for place in [Place::HeadWithIndex, Place::SealedWithIndex] {
        for batches in [plain_batches(), nesting_batches()] {
            let all = batches.concat();
            let offsets = starts(0, &batches);
            for at in 0..all.len() {
                for mask in MASKS {
                    let context = format!("{place:?}, byte {at} with {mask:#x}");
                    let mut bytes = all.clone();
                    bytes[at] ^= mask;
                    let lost = offsets.iter().filter(|offset| **offset <= at as u64).count() - 1;
                    let (log, findings) = open(&damaged(place, &batches, &bytes), &config(all.len() as u64));
                    assert_eq!(findings, [], "{context}");
                    for (number, offset) in
                        offsets.iter().enumerate().rev().filter(|(number, _)| *number != lost)
                    {
                        // A damaged count makes the answer longer, not wrong.
                        let answer = read(&log, *offset, 1).expect(&context);
                        assert_eq!(answer.offset, *offset, "{context}");
                        assert!(
                            answer.bytes.starts_with(&batches[number]),
                            "{context}: the batch at {offset}"
                        );
                    }
                    for offset in (offsets[lost]..all.len() as u64)
                        .step_by(5)
                        .filter(|offset| !offsets.contains(offset))
                    {
                        assert_eq!(read(&log, offset, 1), None, "{context}: nothing starts at {offset}");
                    }
                    if let Some(answer) = read(&log, offsets[lost], 1) {
                        let is_next = offsets.get(lost + 1) == Some(&answer.offset);
                        let is_behind = answer.bytes == behind();
                        assert!(
                            answer.offset == offsets[lost] || is_next || is_behind,
                            "{context}: {answer:?}"
                        );
                    }
                }
            }
        }
    }
}

/// Overwrites the batches with these numbers, wholly or by their first bytes, and checks that the others are left.
fn check_overwritten(batches: &[Vec<u8>], lost: &[usize], bytes_max: usize, with: u8) {
    let offsets = starts(0, batches);
    let mut bytes = batches.concat();
    for number in lost {
        let start = usize::try_from(offsets[*number]).unwrap();
        bytes[start..start + batches[*number].len().min(bytes_max)].fill(with);
    }
    for place in [Place::Head, Place::Sealed] {
        let (log, _) = open(&damaged(place, batches, &bytes), &config(bytes.len() as u64));
        for (number, offset) in offsets.iter().enumerate() {
            let context = format!("{place:?}, {lost:?} lost, {bytes_max} bytes of {with:#x}: batch {number}");
            match read(&log, *offset, 1) {
                Some(answer) if lost.contains(&number) => assert!(answer.offset > *offset, "{context}"),
                None if lost.contains(&number) => {}
                answer => assert_eq!(
                    answer.map(|answer| answer.bytes).as_ref(),
                    Some(&batches[number]),
                    "{context}"
                ),
            }
        }
        let held = offsets.len() - lost.len() + usize::from(place == Place::Sealed);
        assert_eq!(
            log.view().extent().batches,
            held as u64,
            "{place:?}, {lost:?} lost, {bytes_max} of {with:#x}"
        );
    }
}

#[test]
fn any_batches_may_be_lost_without_the_others() {
    for batches in [plain_batches(), nesting_batches()] {
        let subsets = (1..1_u32 << batches.len())
            .map(|bits| (0..batches.len()).filter(|number| bits & (1 << number) != 0).collect::<Vec<_>>());
        for lost in subsets {
            for with in [0, b'x', b'\n', 0xFF] {
                check_overwritten(&batches, &lost, usize::MAX, with);
            }
        }
    }
}

#[test]
fn damaged_envelopes_do_not_make_batches_of_what_messages_hold() {
    let batches = nesting_batches();
    for lost in 0..batches.len() {
        for next in lost..batches.len() {
            for bytes in [1, 6, 8, 12, 20] {
                for with in [b'x', b' ', b'9', b'\n'] {
                    let lost = if lost == next { vec![lost] } else { vec![lost, next] };
                    check_overwritten(&batches, &lost, bytes, with);
                }
            }
        }
    }
}

/// A power cut can leave any sectors of a large batch unwritten. Its messages are rows of batches all through.
#[test]
fn what_is_left_of_a_large_batch_is_no_batch() {
    let inner = batch(&[b"inner"]);
    let first = batch_of(30);
    let large = batch(&[&inner.repeat(20), &inner.repeat(30), &inner.repeat(7)]);
    let last = batch_of(40);
    let sectors = (first.len() + large.len()).div_ceil(512);
    for lost in 1..1_u32 << sectors {
        let mut bytes = [&first[..], &large, &last].concat();
        for sector in (0..sectors).filter(|sector| lost & (1 << sector) != 0) {
            let start = (sector * 512).max(first.len());
            bytes[start..((sector + 1) * 512).min(first.len() + large.len())].fill(0);
        }
        let (log, _) = open(
            &damaged(Place::Head, &[first.clone(), large.clone(), last.clone()], &bytes),
            &config(1_000_000),
        );
        let context = format!("sectors {lost:b} lost");
        assert_eq!(read(&log, 0, 1).unwrap().bytes, first, "{context}");
        let behind = (first.len() + large.len()) as u64;
        assert_eq!(read(&log, behind, 1).unwrap().bytes, last, "{context}");
        assert_eq!(log.view().extent().batches, 2, "{context}");
    }
}

#[test]
fn more_holes_than_are_told_apart_cost_what_follows_but_no_time() {
    let good = batch_of(10);
    let mut bytes = Vec::new();
    for _ in 0..5000 {
        bytes.extend_from_slice(&good);
        bytes.extend_from_slice(b"damage");
    }
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &bytes);
    put(&disk, &format!("{}.log", bytes.len()), &good);
    let (log, _) = open(&disk, &config(100));
    assert_eq!(log.view().extent().batches, 4097 + 1);
    assert_eq!(read(&log, bytes.len() as u64, 1).unwrap().bytes, good);
}

#[test]
fn a_read_does_not_cross_a_hole_where_a_partition_begins() {
    let batches = plain_batches();
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(1));
    let offsets = append_all(&log, &batches);
    drop(log);
    let second = [&vec![b'x'; batches[1].len() - 1][..], b"\n"].concat();
    put(&disk, &format!("{}.log", offsets[1]), &second);
    let (log, findings) = open(&disk, &config(1));
    assert!(findings.contains(&Finding::Damage { from: offsets[1], to: offsets[2] }), "{findings:?}");
    assert_eq!(read(&log, 0, 1000).unwrap().bytes, batches[0]);
    let behind = Answer { offset: offsets[2], batches: 2, bytes: batches[2..].concat() };
    assert_eq!(read(&log, offsets[1], 1000), Some(behind));
    drop(log);
    // The same where a batch is left behind the damage in that partition.
    let second = [&second[..], &batches[1]].concat();
    let third = batches[0].len() + second.len();
    for offset in &offsets[1..] {
        disk.remove(&Path::new(DIR).join(format!("{offset}.log"))).unwrap();
    }
    put(&disk, &format!("{}.log", offsets[1]), &second);
    put(&disk, &format!("{third}.log"), &batches[2]);
    let (log, _) = open(&disk, &config(1));
    assert_eq!(read(&log, 0, 1000).unwrap().bytes, batches[0], "what was lost is not passed over in silence");
    let answer = read(&log, offsets[1], 1000).unwrap();
    assert_eq!((answer.offset, answer.bytes), (offsets[2], batches[1..3].concat()));
}

/// Its envelope says that it ends in the middle of the batch that follows the next one, or where that begins.
#[test]
fn an_envelope_is_not_believed_if_a_batch_lies_across_its_end() {
    let next = batch(&[b"next"]);
    for more in [0, next.len(), next.len() + 1, 2 * next.len() - 1, 2 * next.len()] {
        let body = format!("MSG 9\r\n{next:?}");
        let damaged = format!("BATCH {} default 1 1\r\n{body}", body.len() + more);
        let disk = SimDisk::new(1);
        put(&disk, "0.log", &[damaged.as_bytes(), &next].concat());
        let (log, _) = open(&disk, &config(1_000_000));
        let first = damaged.len() as u64;
        assert_eq!(read(&log, 0, 1).unwrap().offset, first, "{more} bytes more");
        for offset in 1..=4 {
            let offset = first + offset * next.len() as u64;
            assert_eq!(append(&log, &next), offset, "{more} bytes more");
        }
        drop(log);
        let (log, _) = open(&disk, &config(1_000_000));
        assert_eq!(read(&log, 0, 5).map(|answer| (answer.offset, answer.batches)), Some((first, 5)));
    }
}

/// The contents of the damaged batch's only message are a batch but for the `\r\n` that the message has.
#[test]
fn a_message_that_ends_as_a_batch_does_is_none() {
    let inner = batch(&[b"hello"]);
    let mut damaged = batch(&[&inner[..inner.len() - 2]]);
    let next = batch(&[b"next"]);
    let header = memchr::memmem::find(&damaged, b"MSG ").unwrap();
    damaged[header] = b'N';
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &[&damaged[..], &next, &next].concat());
    let (log, _) = open(&disk, &config(1_000_000));
    assert_eq!(
        read(&log, 0, 2).map(|answer| (answer.offset, answer.bytes)),
        Some((damaged.len() as u64, next.repeat(2)))
    );
}

/// A message full of envelopes that announce much: each would be read for each before it.
#[test]
fn envelopes_that_announce_much_are_not_read_again_and_again() {
    const COUNT: usize = 100;
    let announced = "BATCH 2000000 a 1 1\r\nMSG 1\r\nx\r\n".repeat(COUNT);
    let mut bytes = batch(&[announced.as_bytes()]);
    let header = memchr::memmem::find(&bytes, b"MSG ").unwrap();
    bytes[..header + 10].fill(0);
    for _ in 0..50 {
        bytes.extend(batch(&[&vec![b'x'; 60_000]]));
    }
    let disk = SimDisk::new(1);
    put(&disk, "0.log", &bytes);
    let before = disk.reads();
    drop(open(&disk, &config(100_000_000)));
    let reads = disk.reads() - before;
    assert!(reads < 10 * COUNT as u64, "{reads} reads of {} bytes", bytes.len());
}
