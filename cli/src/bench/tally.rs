//! What was measured: counts, and the latency of requests.
//!
//! Each connection has a tally of its own, so that none waits for another; they are added up at the end. A histogram
//! has some 30 KiB, whatever the number of requests, and times that are wrong by one in a hundred at most.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::exit::Failure;

/// The longest latency that is told from longer ones: far above the time-outs that anybody sets.
const NANOS_MAX: u64 = 600_000_000_000;
/// How many digits of a latency are kept.
const DIGITS: u8 = 2;

/// Counts of one connection, or of all together.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of batches, envelope and body; of messages, their own.
    pub(super) bytes: u64,
    pub(super) batches: u64,
    pub(super) messages: u64,
    /// Batches or requests that failed.
    pub(super) failed: u64,
    /// Connections whose last request was not waited for.
    pub(super) abandoned: u64,
    /// Why it ended early.
    pub(super) failure: Option<Failure>,
    /// From the start of the phase to the last answer that was counted.
    pub(super) time: Duration,
    latency: Histogram<u64>,
}

/// The latency of requests, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Latency {
    pub(super) min: u64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_max(NANOS_MAX, DIGITS)
            .map_err(|error| Failure::failed(format!("cannot count latencies: {error}")))?;
        Ok(Self {
            bytes: 0,
            batches: 0,
            messages: 0,
            failed: 0,
            abandoned: 0,
            failure: None,
            time: Duration::ZERO,
            latency,
        })
    }

    /// Notes how long a request took that began then.
    pub(super) fn record_since(&mut self, start: Instant) {
        self.record(start.elapsed());
    }

    fn record(&mut self, time: Duration) {
        self.latency.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Notes that so many batches or requests failed, and why.
    pub(super) fn fail(&mut self, failed: u64, failure: Failure) {
        self.failed += failed;
        self.failure.get_or_insert(failure);
    }

    /// Adds what another has counted at the same time.
    pub(super) fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.batches += other.batches;
        self.messages += other.messages;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.time = self.time.max(other.time);
        if self.failure.is_none() {
            self.failure = other.failure;
        }
        // All have the same bounds, so that none can be out of them.
        let _ = self.latency.add(&other.latency);
    }

    /// `None` where nothing was measured.
    pub(super) fn latency(&self) -> Option<Latency> {
        let latency = &self.latency;
        let at = |quantile| latency.value_at_quantile(quantile);
        (!latency.is_empty()).then(|| Latency {
            min: latency.min(),
            p50: at(0.50),
            p90: at(0.90),
            p95: at(0.95),
            p99: at(0.99),
            max: latency.max(),
        })
    }

    /// So many in a second, of what was counted.
    pub(super) fn rate(&self, count: u64) -> f64 {
        if self.time.is_zero() { 0.0 } else { count as f64 / self.time.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_the_longest_time_and_the_first_failure() {
        let mut sum = Tally::new().unwrap();
        for (milliseconds, failure) in [(10, None), (30, Some("first")), (20, Some("second"))] {
            let mut one = Tally::new().unwrap();
            one.bytes = 100;
            one.time = Duration::from_millis(milliseconds);
            one.record(Duration::from_millis(milliseconds));
            if let Some(text) = failure {
                one.fail(1, Failure::failed(text));
            }
            sum.add(one);
        }
        assert_eq!((sum.bytes, sum.failed, sum.time), (300, 2, Duration::from_millis(30)));
        assert_eq!(sum.failure, Some(Failure::failed("first")));
        assert!((sum.rate(300) - 10_000.0).abs() < 1e-6);
        let latency = sum.latency().unwrap();
        for (nanos, milliseconds) in
            [(latency.min, 10), (latency.p50, 20), (latency.p99, 30), (latency.max, 30)]
        {
            assert!(nanos.abs_diff(milliseconds * 1_000_000) <= milliseconds * 10_000, "{nanos}");
        }
    }

    #[test]
    fn nothing_has_no_latency_and_no_rate() {
        let tally = Tally::new().unwrap();
        assert_eq!(tally.latency(), None);
        assert!(tally.rate(1).abs() < f64::EPSILON);
    }

    #[test]
    fn latency_beyond_the_longest_counts_as_that() {
        let mut tally = Tally::new().unwrap();
        tally.record(Duration::MAX);
        let max = tally.latency().unwrap().max;
        assert!(max >= NANOS_MAX, "{max}");
    }
}
