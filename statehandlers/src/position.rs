//! Positions: one message of a topic.

use std::fmt;
use std::str::FromStr;

use logd_protocol::{NumberError, Offset, parse_u64};
use thiserror::Error;

/// The place of a message: its batch, and where in the batch's body it starts.
///
/// Positions are ordered as the messages are. Written as text, a position is `offset.delta`, and `offset` alone names
/// the first message of a batch.
///
/// ```
/// use logd_statehandlers::Position;
///
/// let position: Position = "60.12".parse()?;
/// assert_eq!((position.offset.as_u64(), position.delta), (60, 12));
/// assert_eq!(position.to_string(), "60.12");
/// assert!(position > "60".parse()?);
/// # Ok::<(), logd_statehandlers::PositionError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The offset of the batch.
    pub offset: Offset,
    /// The byte index in the batch's body at which the message's header starts; 0 for the first message.
    pub delta: u64,
}

impl Position {
    /// The first message of the first batch that a topic ever gets.
    pub const ZERO: Self = Self { offset: Offset::ZERO, delta: 0 };

    /// The first message of the batch at `offset`.
    pub const fn at(offset: Offset) -> Self {
        Self { offset, delta: 0 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.offset, self.delta)
    }
}

/// Why a text is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a position is `offset` or `offset.delta`, each a decimal number below 2^64")]
pub struct PositionError(#[from] NumberError);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (offset, delta) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { offset: Offset::new(parse_u64(offset.as_bytes())?), delta: parse_u64(delta.as_bytes())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_the_position_and_nothing_else_is() {
        assert_eq!("7".parse::<Position>(), Ok(Position::at(Offset::new(7))));
        assert_eq!(
            Position { offset: Offset::new(u64::MAX), delta: u64::MAX }.to_string().parse(),
            Ok(Position { offset: Offset::new(u64::MAX), delta: u64::MAX })
        );
        for text in ["", ".", "1.", ".1", "1.2.3", "-1", "+1", "1 ", "18446744073709551616"] {
            assert!(text.parse::<Position>().is_err(), "{text:?} was taken for a position");
        }
    }

    #[test]
    fn order_is_offset_then_delta() {
        let order: Vec<Position> =
            ["0", "0.7", "9", "9.14", "10"].iter().map(|text| text.parse().unwrap()).collect();
        assert!(order.is_sorted());
    }
}
