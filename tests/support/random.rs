//! Random numbers from a seed that a failed test names.

/// The seed of a test's random choices: `LOGD_TEST_SEED` if it is set, else the clock. It is printed, and libtest shows
/// it when the test fails.
///
/// # Panics
/// When `LOGD_TEST_SEED` is no number.
#[expect(clippy::print_stdout, reason = "libtest shows it when the test fails")]
pub fn seed() -> u64 {
    let seed = match std::env::var("LOGD_TEST_SEED") {
        Ok(text) => text.parse().expect("`LOGD_TEST_SEED` is a number below 2^64"),
        Err(_) => {
            std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs() ^ u64::from(time.subsec_nanos()))
        }
    };
    println!("LOGD_TEST_SEED={seed}");
    seed
}

/// `SplitMix64`: small, good enough for tests, the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end.max(1) as u64;
        usize::try_from(self.any() % end).unwrap_or_default()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        self.any().to_le_bytes()[0]
    }

    /// So many bytes, each of any value.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// One of `choices`.
    ///
    /// # Panics
    /// When there are none.
    pub fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices.get(self.below(choices.len())).expect("there is a choice")
    }
}
