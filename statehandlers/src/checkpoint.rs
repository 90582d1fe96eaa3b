//! Checkpoints: where a reader goes on, and what it needs to know for that.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_protocol::Offset;
use serde_json::{Map, Value};

use crate::body::{self, BodyError};
use crate::position::Position;

/// A batch that a reader has consumed, to recognise the topic by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Where the batch starts.
    pub offset: Offset,
    /// The checksum of its body.
    pub crc: u32,
}

/// Messages behind [`Checkpoint::next`] that are done already: from `from` on, up to and without `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The first of them.
    pub from: Position,
    /// The first behind them.
    pub to: Position,
}

/// Where a reader goes on.
///
/// ```
/// use logd_statehandlers::{Checkpoint, Position};
///
/// let checkpoint = Checkpoint::at("60.12".parse()?);
/// assert_eq!(Checkpoint::decode(&checkpoint.encode()?)?, checkpoint);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The message to read next: everything before it is done.
    pub next: Position,
    /// The last batch that was consumed; `None` before the first.
    pub anchor: Option<Anchor>,
    /// What is done behind `next`, in order, without overlap; at most [`Checkpoint::DONE_MAX`] ranges. They spare work, and
    /// may be missing.
    pub done: Vec<Done>,
    /// How often reading has begun at `next` without ever getting behind it.
    pub head_attempts: u32,
    /// What the application keeps beside the position, at most [`Checkpoint::USER_BYTES_MAX`]. It is stored with the
    /// position, or neither is.
    pub user: Vec<u8>,
    /// When it was stored, by the clock of whoever stored it: for people. In milliseconds since 1970; 0 for unknown.
    pub written_at: u64,
    /// What a later version keeps here, and this one only hands on.
    pub(crate) extra: Map<String, Value>,
}

impl Checkpoint {
    /// The most ranges in [`Checkpoint::done`].
    pub const DONE_MAX: usize = 256;
    /// The most bytes of [`Checkpoint::user`].
    pub const USER_BYTES_MAX: usize = 4096;

    /// A checkpoint that knows nothing but where to go on.
    pub fn at(next: Position) -> Self {
        Self { next, ..Self::default() }
    }

    /// The same, stored now.
    #[must_use]
    pub fn written_now(mut self) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.written_at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The same, with what a later version has put into `other`.
    #[must_use]
    pub fn with_extra_of(mut self, other: &Self) -> Self {
        self.extra.clone_from(&other.extra);
        self
    }

    /// What stores keep: one form for all of them, that says what it is. JSON, so that people can read it.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when it has more ranges or user bytes than a checkpoint can.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        body::encode(self)
    }

    /// Reads what [`Checkpoint::encode`] gave. What a later version has added is kept, and given back by `encode`.
    ///
    /// # Errors
    /// - [`BodyError::Corrupt`] when it is no checkpoint, which nothing that was ever stored is
    /// - [`BodyError::Newer`] when it has a form that only a later version knows
    pub fn decode(body: &[u8]) -> Result<Self, BodyError> {
        body::decode(body)
    }
}
