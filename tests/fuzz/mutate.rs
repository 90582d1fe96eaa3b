//! Changes an input so that most of it still looks right.
//!
//! What is done to it is drawn from a seed: bits, bytes and stretches of any input, numbers in digits and in bytes, words
//! that the target knows, and parts of other inputs.

use logd_tests::Random;

/// The most bytes of an input.
pub(crate) const BYTES_MAX: usize = 16 * 1024;

/// The most changes that are made to an input at a time.
const CHANGES_MAX: usize = 6;

/// Numbers in digits at which something often changes.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "00",
    "511",
    "512",
    "4096",
    "65535",
    "65536",
    "65537",
    "16777217",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "-1",
    "+1",
    "",
];

/// The same in bytes.
const INTEGERS: &[u64] = &[
    0,
    1,
    2,
    7,
    8,
    16,
    64,
    0x7F,
    0x80,
    0xFF,
    4096,
    65535,
    65536,
    1 << 31,
    1 << 32,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// An input made from `inputs`, of which there is one at least.
pub(crate) fn mutated(random: &mut Random, inputs: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(CHANGES_MAX) {
        change(random, &mut input, inputs, words);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(random: &mut Random, input: &mut Vec<u8>, inputs: &[Vec<u8>], words: &[&[u8]]) {
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at + 1).min(64));
    match random.below(14) {
        0 => flip(random, input),
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = random.byte();
            }
        }
        2 => input.truncate(at),
        3 => drop(input.drain(at..end)),
        4 => {
            let repeated = input[at..end].repeat(1 + random.below(8));
            input.splice(at..at, repeated);
        }
        5 => {
            let count = 1 + random.below(8);
            let bytes = random.bytes(count);
            input.splice(at..end.min(at + 8), bytes);
        }
        6 | 7 => {
            let word = if words.is_empty() { b"\0" } else { words[random.below(words.len())] };
            let behind = if random.below(2) == 0 { at } else { end };
            input.splice(at..behind, word.iter().copied());
        }
        8 | 9 => replace_number(random, input),
        10 => replace_integer(random, input, at),
        11 | 12 => {
            let other = &inputs[random.below(inputs.len())];
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1);
            let behind = if random.below(2) == 0 { at } else { input.len() };
            input.splice(at..behind, other[from..to].iter().copied());
        }
        _ => {
            let moved: Vec<u8> = input.drain(at..end).collect();
            let to = random.below(input.len() + 1);
            input.splice(to..to, moved);
        }
    }
}

fn flip(random: &mut Random, input: &mut [u8]) {
    let at = random.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

/// Replaces a number in digits, by one beside it or by one at which something often changes.
fn replace_number(random: &mut Random, input: &mut Vec<u8>) {
    let digits: Vec<usize> = (0..input.len()).filter(|at| input[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return;
    }
    let at = digits[random.below(digits.len())];
    let before = input[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let after = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let range = at - before..at + after;
    let number = std::str::from_utf8(&input[range.clone()]).ok().and_then(|text| text.parse::<u64>().ok());
    let text = match (random.below(3), number) {
        (0, Some(number)) => number.wrapping_add(1).to_string(),
        (1, Some(number)) => number.wrapping_sub(1).to_string(),
        _ => random.one_of(NUMBERS).to_owned(),
    };
    input.splice(range, text.into_bytes());
}

/// Replaces 2, 4 or 8 bytes by a number, the lowest byte first.
fn replace_integer(random: &mut Random, input: &mut [u8], at: usize) {
    let count = 2 << random.below(3);
    let at = if random.below(2) == 0 { at - at % 8 } else { at };
    let Some(place) = input.get_mut(at..at + count) else { return };
    let mut bytes = [0; 8];
    bytes[..count].copy_from_slice(place);
    let number = match random.below(3) {
        0 => u64::from_le_bytes(bytes).wrapping_add(1),
        1 => u64::from_le_bytes(bytes).wrapping_sub(1),
        _ => INTEGERS[random.below(INTEGERS.len())],
    };
    place.copy_from_slice(&number.to_le_bytes()[..count]);
}
