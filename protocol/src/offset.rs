//! Offsets: places in a topic.

use std::fmt;
use std::str::FromStr;

use crate::number::{NumberError, parse_u64};

/// A place in a topic: how many bytes of batches were ever appended before it.
///
/// A batch's offset is where its envelope starts. Offsets of a topic only grow; they are not reused when old
/// partitions are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(u64);

impl Offset {
    /// The offset of the first batch that a topic ever gets.
    pub const ZERO: Self = Self(0);

    /// The offset at `bytes` bytes from the beginning of the topic.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The offset as a number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The offset `bytes` further on, or `None` where that is more than 2^64-1.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Offset {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        parse_u64(text.as_bytes()).map(Self)
    }
}
