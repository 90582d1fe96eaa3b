//! What a record has as its field `checkpoint`. Pure.
//!
//! ```text
//! SHA-1 of the rest, 40 digits ' ' offset, 20 digits · delta, 20 digits ' ' body
//! ```
//!
//! The position stands in front as text of a fixed width, so that a script compares it exactly: its numbers are doubles,
//! which confuse positions above 2^53. The checksum is SHA-1 as that is what a script can compute; it is there against
//! damage, and not against malice.

use logd_protocol::{Offset, parse_u64};
use sha1_smol::Sha1;

use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::position::Position;

/// The digits of the checksum.
const SUM_BYTES: usize = 40;
/// The digits of an offset, and of a delta.
const NUMBER_BYTES: usize = 20;

pub(super) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, BodyError> {
    let Position { offset, delta } = checkpoint.next;
    let mut rest = format!("{:020}{delta:020} ", offset.as_u64()).into_bytes();
    rest.extend(checkpoint.encode()?);
    let mut frame = format!("{} ", sum(&rest)).into_bytes();
    frame.extend(rest);
    Ok(frame)
}

pub(super) fn decode(frame: &[u8]) -> Result<Checkpoint, BodyError> {
    let (sum_told, rest) = split(frame, SUM_BYTES).ok_or_else(|| corrupt("it is cut, or has no checksum"))?;
    if sum(rest).as_bytes() != sum_told {
        return Err(corrupt("its checksum is wrong"));
    }
    let (place, body) =
        split(rest, 2 * NUMBER_BYTES).ok_or_else(|| corrupt("it is cut, or has no position"))?;
    let checkpoint = Checkpoint::decode(body)?;
    if position(place) != Some(checkpoint.next) {
        return Err(corrupt("it has two positions"));
    }
    Ok(checkpoint)
}

/// The position that stands in front of a body.
pub(super) fn position(digits: &[u8]) -> Option<Position> {
    let (offset, delta) = digits.split_at_checked(NUMBER_BYTES)?;
    if delta.len() != NUMBER_BYTES {
        return None;
    }
    Some(Position { offset: Offset::new(parse_padded(offset)?), delta: parse_padded(delta)? })
}

fn parse_padded(digits: &[u8]) -> Option<u64> {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    match digits.get(zeros..)? {
        [] => Some(0),
        digits => parse_u64(digits).ok(),
    }
}

/// What is before and behind the space at `at`.
fn split(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (before, rest) = bytes.split_at_checked(at)?;
    Some((before, rest.strip_prefix(b" ")?))
}

fn sum(bytes: &[u8]) -> String {
    Sha1::from(bytes).hexdigest()
}

fn corrupt(what: &str) -> BodyError {
    BodyError::Corrupt { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, delta: u64) -> Checkpoint {
        Checkpoint::at(Position { offset: Offset::new(offset), delta })
    }

    #[test]
    fn frame_is_as_documented() {
        let frame = String::from_utf8(encode(&at(60, 12)).unwrap()).unwrap();
        let (sum, rest) = frame.split_once(' ').unwrap();
        assert_eq!(
            rest,
            "0000000000000000006000000000000000000012 {\"logd-checkpoint\":1,\"next\":\"60.12\"}"
        );
        assert_eq!(sum, "f034475f0bb68c7c5cd4f352acb09480c7f57f6b");
    }

    #[test]
    fn frames_come_back_and_are_ordered_as_positions_are() {
        let places =
            [(0, 0), (0, 1), (9, 0), (10, 0), ((1 << 53) + 1, 0), ((1 << 53) + 2, 0), (u64::MAX, u64::MAX)];
        let frames: Vec<_> =
            places.iter().map(|(offset, delta)| encode(&at(*offset, *delta)).unwrap()).collect();
        for ((offset, delta), frame) in places.iter().zip(&frames) {
            assert_eq!(decode(frame).unwrap(), at(*offset, *delta));
            assert_eq!(position(&frame[41..81]), Some(at(*offset, *delta).next));
        }
        assert!(frames.iter().map(|frame| &frame[41..81]).is_sorted());
    }

    #[test]
    fn damage_is_corrupt() {
        let frame = encode(&at(60, 12)).unwrap();
        for length in 0..frame.len() {
            assert!(matches!(decode(&frame[..length]), Err(BodyError::Corrupt { .. })), "cut at {length}");
        }
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped), Err(BodyError::Corrupt { .. })), "bit {bit}");
        }
    }

    #[test]
    fn two_positions_are_corrupt() {
        let rest = b"0000000000000000006100000000000000000012 {\"logd-checkpoint\":1,\"next\":\"60.12\"}";
        let frame = [sum(rest).as_bytes(), b" ", rest].concat();
        assert!(matches!(decode(&frame), Err(BodyError::Corrupt { .. })));
        assert_eq!(position(b"000000000000000000610000000000000000001x"), None);
        assert_eq!(position(b"999999999999999999990000000000000000001"), None);
        assert_eq!(position(&[b'9'; 40]), None);
    }
}
