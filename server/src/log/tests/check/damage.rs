//! Damaged, torn and missing bytes.

use logd_protocol::RawBatch;

use super::*;

/// How a byte is damaged: one turns a digit into another digit, the other into something else.
const MASKS: [u8; 2] = [0x01, 0x40];

/// The batch that `bytes` are, if its checksum is right.
fn valid(bytes: &[u8]) -> Option<RawBatch<'_>> {
    match decode_batch(bytes, BYTES_MAX) {
        Decoded::Whole { value, bytes: length } if length == bytes.len() => {
            value.check_crc().is_ok().then_some(value)
        }
        _ => None,
    }
}

fn damage(found: &[Found]) -> Vec<(u64, u64, u64, u64, u64, bool)> {
    let damage = found.iter().filter_map(|one| match one.what {
        What::Damage { from, to, missing, lost } => {
            Some((from, to, missing, lost.batches, lost.messages, lost.is_exact))
        }
        _ => None,
    });
    damage.collect()
}

/// Flips every byte of the partition at `start`, in which `batches` are, of a topic that `make` makes.
fn flip_every_byte(make: impl Fn() -> SimDisk, start: u64, all: &[(u64, Vec<u8>)], has_index: bool) {
    let name = format!("{start}.log");
    let sound = file(&make(), &name).unwrap();
    let is_head = all.last().unwrap().0 < start + sound.len() as u64;
    for at in 0..sound.len() {
        for mask in MASKS {
            let mut bytes = sound.clone();
            bytes[at] ^= mask;
            let disk = make();
            put(&disk, &name, &bytes);
            if !has_index {
                remove(&disk, &format!("{start}.index"));
            }
            let context = format!("byte {at} of {name} with mask {mask}, index {has_index}");
            let number = all.iter().filter(|(offset, _)| *offset <= start + at as u64).count() - 1;
            let (from, batch) = &all[number];
            let to = from + batch.len() as u64;
            let place = usize::try_from(from - start).unwrap();
            let messages = valid(batch).unwrap().envelope().messages;
            let (found, totals) = check(&disk);
            let mut held = all.to_vec();
            held.remove(number);
            if valid(&bytes[place..place + batch.len()]).is_some() {
                assert_eq!(damage(&found), [], "{context}: the batch is still one");
                assert_eq!(totals.batches, all.len() as u64, "{context}");
            } else if is_head && !has_index && number + 1 == all.len() {
                let torn = What::TornTail { offset: *from, bytes: to - from };
                assert_eq!(found[0].what.to_string(), torn.to_string(), "{context}");
            } else {
                let [(found_from, found_to, 0, batches, found_messages, is_exact)] = damage(&found)[..]
                else {
                    panic!("{context}: {found:?}")
                };
                assert_eq!((found_from, found_to, batches), (*from, to, 1), "{context}");
                assert!(is_exact || !has_index, "{context}");
                assert!(!has_index || found_messages == messages, "{context}");
                assert_eq!(totals.bytes_damaged, to - from, "{context}");
                assert_eq!((totals.batches, totals.lost.batches), (held.len() as u64, 1), "{context}");
            }
            assert_mends(&disk, &held, &context);
        }
    }
}

#[test]
fn any_byte_that_is_flipped_is_found_and_costs_its_batch_only() {
    let batches = numbered(5);
    for start in starts(0, &batches).into_iter().step_by(2) {
        for has_index in [true, false] {
            flip_every_byte(|| closed(&batches, 2), start, &placed(&batches), has_index);
        }
    }
}

#[test]
fn messages_that_hold_batches_are_not_taken_for_them() {
    let mut batches = nesting_batches();
    batches.push(batch(&[b"in another partition"]));
    let make = || {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(batches[..5].concat().len() as u64));
        append_all(&log, &batches);
        log.close().unwrap();
        disk
    };
    for has_index in [true, false] {
        flip_every_byte(make, 0, &placed(&batches), has_index);
    }
}

#[test]
fn what_a_damaged_batch_had_is_known_from_its_envelope_where_there_is_no_index() {
    let batches = numbered(3);
    let disk = closed(&batches, 3);
    remove(&disk, "0.index");
    let mut bytes = batches.concat();
    // In the body of the second.
    bytes[batches[0].len() * 2 - 3] ^= 1;
    put(&disk, "0.log", &bytes);
    let length = batches[0].len() as u64;
    assert_eq!(damage(&check(&disk).0), [(length, 2 * length, 0, 1, 2, true)]);
    // And its envelope.
    bytes[batches[0].len()] ^= 1;
    put(&disk, "0.log", &bytes);
    assert_eq!(damage(&check(&disk).0), [(length, 2 * length, 0, 1, 0, false)]);
}

#[test]
fn damage_that_was_repaired_is_known_and_more_of_it_is_new() {
    let batches = numbered(6);
    let disk = closed(&batches, 4);
    let length = batches[0].len();
    let mut bytes = batches[..4].concat();
    for (number, known) in [(0, 0), (2, 1), (1, 2)] {
        bytes[number * length + 50] ^= 1;
        put(&disk, "0.log", &bytes);
        let (found, _) = check(&disk);
        let (from, to) = ((number * length) as u64, ((number + 1) * length) as u64);
        let is_known = |one: &&Found| matches!(one.what, What::KnownDamage { .. });
        if number == 1 {
            // It joins the two that are known, and all of it is one.
            assert_eq!(damage(&found), [(0, 3 * length as u64, 0, 1, 2, true)]);
        } else {
            assert_eq!(damage(&found), [(from, to, 0, 1, 2, true)]);
            assert_eq!(found.iter().filter(is_known).count(), known);
        }
        let held: Vec<_> =
            placed(&batches).into_iter().filter(|(offset, _)| *offset >= 4 * length as u64).collect();
        assert_mends(&disk, &held, "more and more of it");
    }
    // The bytes are put back: the index that knows of damage is wrong now.
    put(&disk, "0.log", &batches[..4].concat());
    assert_eq!(kinds(&check(&disk).0), [("0.index", "index-unfit")]);
    assert_mends(&disk, &placed(&batches), "put back");
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_kept() {
    for batches in [plain_batches(), nesting_batches()] {
        let all = batches.concat();
        for (cut, covered) in (0..all.len()).flat_map(|cut| [(cut, 0), (cut, 1), (cut, 2)]) {
            let known = batches[..covered].concat().len();
            if cut < known {
                continue;
            }
            let disk = SimDisk::new(1);
            if covered > 0 {
                let (log, _) = open(&disk, &config(1_000_000));
                append_all(&log, &batches[..covered]);
                log.close().unwrap();
            }
            put(&disk, "0.log", &all[..cut]);
            let held: Vec<_> = placed(&batches)
                .into_iter()
                .take_while(|(offset, batch)| offset + batch.len() as u64 <= cut as u64)
                .collect();
            let kept = held.last().map_or(0, |(offset, batch)| offset + batch.len() as u64);
            let context = format!("cut at {cut} behind {covered}");
            let expected: &[_] = if kept < cut as u64 { &[("0.log", "torn-tail")] } else { &[] };
            assert_eq!(kinds(&check(&disk).0), expected, "{context}");
            let found = assert_mends(&disk, &held, &context);
            if kept < cut as u64 {
                let Some(Done::Cut(path)) = &found[0].done else { panic!("{context}: {found:?}") };
                assert_eq!(path, &Path::new(DIR).join(format!("{kept}.torn")));
                let torn = file(&disk, &format!("{kept}.torn"));
                assert_eq!(torn.as_deref(), Some(&all[usize::try_from(kept).unwrap()..cut]), "{context}");
            }
        }
    }
}

#[test]
fn a_head_that_is_shorter_than_its_index_says_has_lost_what_the_index_had() {
    let batches = numbered(3);
    let (all, length) = (batches.concat(), batches[0].len());
    for cut in 0..all.len() {
        let disk = closed(&batches, 3);
        put(&disk, "0.log", &all[..cut]);
        let whole = cut / length;
        let (from, lost) = ((whole * length) as u64, (3 - whole) as u64);
        let missing = (all.len() - cut) as u64;
        let (found, totals) = check(&disk);
        assert_eq!(damage(&found), [(from, all.len() as u64, missing, lost, 2 * lost, true)], "cut at {cut}");
        assert_eq!((totals.lost.batches, totals.batches), (lost, whole as u64), "cut at {cut}");
        assert_mends(&disk, &placed(&batches[..whole]), &format!("cut at {cut}"));
    }
}

#[test]
fn a_complete_partition_that_was_cut_keeps_the_offsets_of_what_follows() {
    let batches = numbered(6);
    let (length, part) = (batches[0].len(), batches[..2].concat());
    for (start, has_index) in [(0, true), (0, false), (part.len(), true), (part.len(), false)] {
        for cut in 1..part.len() {
            let disk = closed(&batches, 2);
            let bytes = file(&disk, &format!("{start}.log")).unwrap();
            put(&disk, &format!("{start}.log"), &bytes[..cut]);
            if !has_index {
                remove(&disk, &format!("{start}.index"));
            }
            let from = start + cut / length * length;
            let missing = (part.len() - cut) as u64;
            let (found, _) = check(&disk);
            let [(found_from, to, found_missing, batches_lost, _, is_exact)] = damage(&found)[..] else {
                panic!("cut at {cut}: {found:?}")
            };
            assert_eq!((found_from, to), (from as u64, (start + part.len()) as u64), "cut at {cut}");
            assert_eq!(found_missing, missing, "cut at {cut}");
            let lost = (2 - cut / length) as u64;
            assert!(if has_index { is_exact && batches_lost == lost } else { batches_lost <= lost });
            let held: Vec<_> = placed(&batches)
                .into_iter()
                .filter(|(offset, _)| !(from as u64..to).contains(offset))
                .collect();
            assert_mends(&disk, &held, &format!("cut at {cut}"));
        }
    }
}

#[test]
fn a_partition_that_is_missing_in_the_middle_is_told_with_what_its_index_had() {
    let batches = numbered(6);
    let part = batches[..2].concat().len() as u64;
    for has_index in [true, false] {
        let disk = closed(&batches, 2);
        remove(&disk, &format!("{part}.log"));
        if !has_index {
            remove(&disk, &format!("{part}.index"));
        }
        let (found, totals) = check(&disk);
        let lost = if has_index { (2, 4, true) } else { (1, 0, false) };
        assert_eq!(damage(&found), [(part, 2 * part, part, lost.0, lost.1, lost.2)]);
        assert_eq!(totals.bytes_damaged, part);
        let mut held = placed(&batches);
        held.drain(2..4);
        let found = assert_mends(&disk, &held, "missing");
        let orphan = format!("{part}.index");
        let aside = found.iter().find(|one| one.file == orphan).and_then(|one| one.done.clone());
        let kept = Path::new(DIR).join(format!("{orphan}.aside"));
        assert_eq!(aside, has_index.then_some(Done::SetAside(kept)));
        // It is found again in another directory.
        put(&disk, &format!("{part}.log"), &batches[2..4].concat());
        assert_mends(&disk, &placed(&batches), "put back");
    }
}

#[test]
fn what_the_index_of_the_head_covers_is_damage_and_not_a_torn_tail() {
    let batches = numbered(2);
    let length = batches[0].len();
    let disk = closed(&batches, 3);
    let mut bytes = batches.concat();
    bytes[2 * length - 3] ^= 1;
    bytes.extend_from_slice(b"BATCH torn");
    put(&disk, "0.log", &bytes);
    let (found, _) = check(&disk);
    assert_eq!(kinds(&found), [("0.log", "damage"), ("0.log", "torn-tail")]);
    assert_mends(&disk, &placed(&batches[..1]), "a damaged end");
    // The offsets of what was acknowledged are not given again.
    let (log, _) = open(&disk, &config(1_000_000));
    let next = read(&log, length as u64, 1).unwrap();
    assert_eq!((next.offset, next.bytes), (2 * length as u64, batch(&[b"appended"])));
}
