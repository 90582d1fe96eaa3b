//! Random numbers from a seed that a failed test names.

use std::env;
use std::time::UNIX_EPOCH;

use super::verdict::{Stop, Verdict};

/// The environment variable that repeats a run.
const SEED_VARIABLE: &str = "LOGD_TEST_SEED";

/// The seed of a property's random choices: `LOGD_TEST_SEED` if it is set, else the clock.
pub(super) fn seed() -> Verdict<u64> {
    match env::var(SEED_VARIABLE) {
        Ok(text) => text
            .parse()
            .map_err(|_| Stop::Failed(format!("`{SEED_VARIABLE}` is no number below 2^64: `{text}`"))),
        Err(_) => Ok(UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() ^ u64::from(time.subsec_nanos()))),
    }
}

/// Adds the seed to what a failure says.
pub(super) fn with_seed(verdict: Verdict, seed: u64) -> Verdict {
    verdict.map_err(|stop| match stop {
        Stop::Failed(why) => Stop::Failed(format!("{why}; repeat it with {SEED_VARIABLE}={seed}")),
        Stop::Skipped(why) => Stop::Skipped(why),
    })
}

/// `SplitMix64`: small, good enough for tests, the same everywhere.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub(super) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.any() % end.max(1)
    }

    /// One of `choices`; `None` when there are none.
    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(choices.len() as u64);
        choices.get(usize::try_from(index).ok()?)
    }

    /// Brings them into any order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = usize::try_from(self.below(end as u64 + 1)).unwrap_or_default();
            items.swap(end, other);
        }
    }
}
