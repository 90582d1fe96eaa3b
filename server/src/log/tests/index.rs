//! The index alone: its size, and what is found with it.

use crate::log::arrival::Arrival;
use crate::log::index::{Header, Index, SPACING_BYTES};

const GIB: u64 = 1 << 30;

#[test]
fn an_index_takes_at_most_one_mib_for_a_gib_of_any_batches() {
    for bytes in [29, 100, 1000, SPACING_BYTES - 1, SPACING_BYTES, SPACING_BYTES + 1, 1 << 20, 64 << 20] {
        let mut index = Index::default();
        while index.end().place < GIB {
            index.push(bytes, 1, Arrival::at(0));
        }
        let held = index.memory_bytes();
        assert!(held <= 1 << 20, "batches of {bytes} bytes: {held}");
        assert!(index.encode(0, &[]).len() <= (1 << 19) + 1000, "batches of {bytes} bytes");
    }
}

/// An index over batches of various sizes, with holes, and where the batches are.
fn sample() -> (Index, Vec<u64>) {
    let mut index = Index::default();
    let mut places = Vec::new();
    for number in 0..3000_u64 {
        if number % 700 == 3 {
            index.push_hole(index.end().place + 50_000);
        }
        places.push(index.end().place);
        index.push(29 + number * 7919 % 5000, number % 3, Arrival::at(number));
    }
    (index, places)
}

#[test]
fn a_mark_is_the_last_entry_before_a_place_and_near_to_it() {
    let (index, places) = sample();
    for place in &places {
        let mark = index.mark_before(*place);
        assert!(mark.place <= *place && places.contains(&mark.place));
        assert!(place - mark.place < SPACING_BYTES + 50_000);
        assert_eq!(mark.batches, places.iter().filter(|before| **before < mark.place).count() as u64);
    }
}

#[test]
fn a_mark_by_messages_is_not_behind_the_batch_that_reaches_them() {
    let (index, _) = sample();
    for messages in 0..=index.end().messages {
        let mark = index.mark_reaching(messages);
        assert!(mark.messages < messages || mark.place == 0, "{messages}: {mark:?}");
    }
}

#[test]
fn a_place_behind_a_hole_has_an_entry() {
    let (index, _) = sample();
    assert!(!index.holes().is_empty());
    for hole in index.holes().iter() {
        assert_eq!(index.mark_before(hole.to).place, hole.to);
    }
}

#[test]
fn an_index_is_read_as_it_was_written() {
    for index in [sample().0, Index::default()] {
        let file = index.encode(77, &[]);
        assert_eq!(Index::decode(&file, 77).unwrap().0, index);
        assert_eq!(Header::decode(&file[..Header::BYTES], 77).unwrap().end, index.end());
        assert!(Index::decode(&file, 78).is_err());
        for length in 0..file.len() {
            assert!(Index::decode(&file[..length], 77).is_err());
        }
    }
}

#[test]
fn an_index_with_any_byte_changed_is_damaged() {
    let mut index = Index::default();
    index.push(100, 1, Arrival::at(5));
    index.push_hole(300);
    index.push(100, 1, Arrival::by(6));
    let file = index.encode(77, &[]);
    for at in 0..file.len() {
        for mask in [1, 0x80, 0xFF] {
            let mut changed = file.clone();
            changed[at] ^= mask;
            assert!(Index::decode(&changed, 77).is_err(), "byte {at}");
        }
    }
}

#[test]
fn an_index_of_more_batches_than_bytes_is_damaged() {
    let mut index = Index::default();
    index.push(100, 1, Arrival::at(5));
    for (batches, is_right) in [(1, true), (100, true), (101, false), (u64::MAX, false)] {
        let mut file = index.encode(77, &[]);
        file[24..32].copy_from_slice(&u64::to_le_bytes(batches));
        let crc = crc32fast::hash(&file[..Header::BYTES - 4]);
        file[Header::BYTES - 4..Header::BYTES].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Index::decode(&file, 77).is_ok(), is_right, "{batches} batches in 100 bytes");
    }
}
