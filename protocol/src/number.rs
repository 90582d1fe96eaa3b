//! Numbers of the protocol: unsigned, decimal, ASCII, without sign, never wrapping round.

use bytes::BufMut;
use thiserror::Error;

/// Why bytes are no number of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NumberError {
    /// There are no bytes, or one of them is not a decimal digit.
    #[error("is not a decimal number")]
    NotDecimal,
    /// The digits are a number above 2^64-1.
    #[error("is larger than {max}", max = u64::MAX)]
    Overflow,
}

/// Reads a number as the protocol writes it. Leading zeros are allowed, signs and spaces are not.
///
/// # Errors
/// [`NumberError::NotDecimal`] for an empty text and for anything but digits, [`NumberError::Overflow`] above 2^64-1.
pub fn parse_u64(text: &[u8]) -> Result<u64, NumberError> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::NotDecimal);
    }
    text.iter().try_fold(0_u64, |number, digit| {
        number
            .checked_mul(10)
            .and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
            .ok_or(NumberError::Overflow)
    })
}

/// Writes `number` in decimal digits.
pub(crate) fn put_u64(out: &mut impl BufMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How many decimal digits `number` has.
pub(crate) fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
