//! When batches arrived, as far as it is known. No I/O.
//!
//! The time of a batch is known exactly if this server, or one before it that has left a record, took the batch while
//! its clock was not behind a time that it had given out before. Of every other batch only a bound is known: it arrived
//! at that time or before. A bound is never made an exact time again, neither in memory nor in a file.

/// The bit that says that a time is a bound. No clock comes near to it.
const BOUND_BIT: u64 = 1 << 63;

/// When a batch arrived, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Arrival(u64);

impl Arrival {
    /// It arrived at `time`.
    pub(super) const fn at(time: u64) -> Self {
        Self(time & !BOUND_BIT)
    }

    /// It arrived at `time` or before.
    pub(super) fn by(time: u64) -> Self {
        Self(time.min(!BOUND_BIT) | BOUND_BIT)
    }

    /// What is known of a batch that arrived when the clock said `time`, behind one that arrived by `latest`. A clock
    /// that went back does not say when.
    pub(super) fn behind(time: u64, latest: u64) -> Self {
        if (latest..BOUND_BIT).contains(&time) { Self::at(time) } else { Self::by(time.max(latest)) }
    }

    /// The time if it is known.
    pub(super) fn exact(self) -> Option<u64> {
        (self.0 & BOUND_BIT == 0).then_some(self.0)
    }

    /// It did not arrive later.
    pub(super) const fn latest(self) -> u64 {
        self.0 & !BOUND_BIT
    }

    /// As a file has it.
    pub(super) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Reads what [`Arrival::to_bits`] gave.
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}
