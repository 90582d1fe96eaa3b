//! Fences: who may move a checkpoint.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The number of a grant. Who was granted a lease later has a higher epoch, and from then on the store refuses what
/// comes with another fence, however late it comes.
///
/// The default is no fence at all: for a reader that has asked for no lease. A key on which a lease was ever granted
/// refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Fence {
    /// Grows with every grant, and with every reset; 0 for no fence.
    pub epoch: u64,
    /// Random for every grant, so that epochs of a record that was deleted and made anew are not taken for its.
    pub nonce: u128,
}

impl Fence {
    /// No fence.
    pub const NONE: Self = Self { epoch: 0, nonce: 0 };

    /// Whether it is no fence.
    pub const fn is_none(self) -> bool {
        self.epoch == 0
    }

    /// The fence of the grant behind `epoch`; `None` behind the last epoch there can be.
    pub fn next(epoch: u64) -> Option<Self> {
        Some(Self { epoch: epoch.checked_add(1)?, nonce: random() })
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:032x}", self.epoch, self.nonce)
    }
}

/// Who asks for a lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claimant {
    /// For people: shown to others while it holds the lease. At most 200 bytes are kept.
    pub name: String,
    /// Random for each run of a reader. Asking again with the same id is granted at once, so that a grant whose answer
    /// was lost is not waited for.
    pub id: u128,
}

impl Claimant {
    /// The most bytes of a name.
    pub const NAME_BYTES_MAX: usize = 200;

    /// A claimant with a new id.
    pub fn new(name: impl Into<String>) -> Self {
        let mut name: String = name.into();
        let mut end = name.len().min(Self::NAME_BYTES_MAX);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        Self { name, id: random() }
    }
}

/// A number that no other call has returned, as far as chance goes.
fn random() -> u128 {
    // Each has keys from the system's random numbers.
    let half = || RandomState::new().build_hasher().finish();
    (u128::from(half()) << 64) | u128::from(RandomState::new().hash_one(half()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn epochs_grow_and_nonces_differ() {
        let fences: HashSet<Fence> = (0..1000).map(|_| Fence::next(6).unwrap()).collect();
        assert_eq!(fences.len(), 1000);
        assert!(fences.iter().all(|fence| fence.epoch == 7));
        assert_eq!(Fence::next(u64::MAX), None);
        assert!(Fence::default().is_none() && !Fence::next(0).unwrap().is_none());
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let claimant = Claimant::new("ü".repeat(150));
        assert_eq!(claimant.name, "ü".repeat(100));
        let claimant = Claimant::new(format!("x{}", "ü".repeat(150)));
        assert_eq!(claimant.name.len(), 199);
    }
}
