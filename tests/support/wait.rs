//! Waiting for a condition, with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what should come at once: long enough for a machine that is busy with other tests, shorter
/// than the server's default time-outs, so that the one is never taken for the other.
pub const BOUND: Duration = Duration::from_secs(10);

/// Asks again and again whether `condition` holds.
///
/// # Panics
/// When it does not hold within `bound`; the text names `what` was waited for.
pub fn wait_until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    const PAUSE_MAX: Duration = Duration::from_millis(20);
    let start = Instant::now();
    let mut pause = Duration::from_micros(20);
    while !condition() {
        assert!(start.elapsed() < bound, "waited {bound:?} in vain until {what}");
        thread::sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
