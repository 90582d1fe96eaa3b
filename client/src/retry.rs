//! When to try again: capped exponential backoff with full jitter.
//!
//! The delay before attempt `n + 1` is a random part of `interval * multiplier^(n - 1)`, which never exceeds
//! `max_interval`. Taking a random part of it spreads out clients that lost the same server at the same time.
//!
//! The arithmetic is pure: the random number is handed in. No setting makes it overflow or panic.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How often, and how soon, a failed request is tried again.
///
/// Only errors that [`is_retryable`](crate::Error::is_retryable) are.
///
/// ```
/// use std::time::Duration;
/// use logd_client::RetryPolicy;
///
/// let patient = RetryPolicy::default().attempts(None).max_interval(Duration::from_secs(30));
/// assert_ne!(patient, RetryPolicy::none());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    attempts: Option<u32>,
    interval: Duration,
    multiplier: f64,
    max_interval: Duration,
}

impl RetryPolicy {
    /// The default number of attempts. With the other defaults the last of them comes after some 16 seconds.
    pub const ATTEMPTS_DEFAULT: u32 = 10;

    /// One attempt, no second.
    pub fn none() -> Self {
        Self::default().attempts(Some(1))
    }

    /// How many attempts there are in a row, the first included; `None` means without end, until the caller stops.
    /// Default: 10. `Some(0)` acts as `Some(1)`.
    #[must_use]
    pub const fn attempts(mut self, attempts: Option<u32>) -> Self {
        self.attempts = attempts;
        self
    }

    /// The longest delay before the second attempt. Default: 100 ms.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// By what the longest delay grows from one attempt to the next. Default: 2. Anything below 1 acts as 1.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// What the longest delay grows to. Default: 10 seconds.
    #[must_use]
    pub const fn max_interval(mut self, max_interval: Duration) -> Self {
        self.max_interval = max_interval;
        self
    }

    /// How many attempts there are in a row.
    pub(crate) fn attempts_max(&self) -> Option<u32> {
        self.attempts.map(|attempts| attempts.max(1))
    }

    /// The count of failures in a row, none yet.
    pub(crate) fn backoff(&self) -> Backoff {
        Backoff { policy: self.clone(), failures: 0 }
    }

    /// The longest delay after `failures` failures in a row.
    fn ceiling(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let factor = self.multiplier.max(1.0).powi(exponent);
        let seconds = self.interval.as_secs_f64() * factor;
        Duration::try_from_secs_f64(seconds).unwrap_or(self.max_interval).min(self.max_interval)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: Some(Self::ATTEMPTS_DEFAULT),
            interval: Duration::from_millis(100),
            multiplier: 2.0,
            max_interval: Duration::from_secs(10),
        }
    }
}

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
}

impl Backoff {
    /// Counts a failure. How long to wait before the next attempt, or `None` when there is none left.
    pub(crate) fn next_delay(&mut self) -> Option<Duration> {
        self.next_delay_with(random())
    }

    /// [`Backoff::next_delay`] with the random number given.
    fn next_delay_with(&mut self, random: u32) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.policy.attempts.is_some_and(|attempts| self.failures >= attempts) {
            return None;
        }
        let part = f64::from(random) / f64::from(u32::MAX);
        Some(self.policy.ceiling(self.failures).mul_f64(part))
    }

    /// How many failures there were in a row.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures, after a success.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number that differs from call to call and from process to process. Jitter needs no more than that.
fn random() -> u32 {
    #[cfg(feature = "simulation")]
    if let Some(number) = crate::simulation::random() {
        return (number >> 32) as u32;
    }
    let hash = RandomState::new().build_hasher().finish();
    // The upper half is as good as the lower one.
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn longest(policy: &RetryPolicy) -> Vec<Option<Duration>> {
        let mut backoff = policy.backoff();
        (0..6).map(|_| backoff.next_delay_with(u32::MAX)).collect()
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let policy = RetryPolicy::default().max_interval(Duration::from_millis(500));
        let milliseconds: Vec<u128> =
            longest(&policy).into_iter().map(|delay| delay.unwrap().as_millis()).collect();
        assert_eq!(milliseconds, [100, 200, 400, 500, 500, 500]);
    }

    #[test]
    fn the_first_attempt_counts() {
        assert_eq!(longest(&RetryPolicy::none())[0], None);
        assert_eq!(longest(&RetryPolicy::default().attempts(Some(0)))[0], None);
        let three = longest(&RetryPolicy::default().attempts(Some(3)));
        assert_eq!(three.iter().take_while(|delay| delay.is_some()).count(), 2);
        assert!(longest(&RetryPolicy::default().attempts(None)).iter().all(Option::is_some));
    }

    #[test]
    fn a_success_starts_anew() {
        let mut backoff = RetryPolicy::default().attempts(Some(2)).backoff();
        assert!(backoff.next_delay().is_some());
        assert!(backoff.next_delay().is_none());
        assert_eq!(backoff.failures(), 2);
        backoff.reset();
        assert!(backoff.next_delay().is_some());
    }

    #[test]
    fn jitter_differs() {
        let numbers: std::collections::HashSet<u32> = (0..100).map(|_| random()).collect();
        assert!(numbers.len() > 90, "{} different numbers in 100", numbers.len());
    }

    proptest! {
        #[test]
        fn no_setting_panics_or_exceeds_the_longest(
            interval: Duration,
            max_interval: Duration,
            multiplier: f64,
            failures in 0_u32..10_000,
            random: u32,
        ) {
            let policy = RetryPolicy::default()
                .attempts(None)
                .interval(interval)
                .max_interval(max_interval)
                .multiplier(multiplier);
            let mut backoff = Backoff { policy, failures };
            prop_assert!(backoff.next_delay_with(random).unwrap() <= max_interval);
        }
    }
}
