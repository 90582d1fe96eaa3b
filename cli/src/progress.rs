//! A line on the terminal that says how a long write or read goes on.
//!
//! It appears after a second and is renewed every second. It is there only where standard error is a terminal and the
//! output is not one, since the two would get in each other's way.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::counts::Counts;
use crate::output::say;

/// How long it takes until the line appears, and then until it is renewed.
const PERIOD: Duration = Duration::from_secs(1);
/// Goes to the beginning of the line and empties it.
const CLEAR: &str = "\r\x1b[K";

/// The progress line of one command.
#[derive(Debug)]
pub(crate) struct Progress {
    wanted: bool,
    shown: Cell<bool>,
}

impl Progress {
    /// A line for a command whose output goes to a terminal, or not.
    pub(crate) fn new(output_is_terminal: bool) -> Self {
        Self { wanted: io::stderr().is_terminal() && !output_is_terminal, shown: Cell::new(false) }
    }

    /// Shows `counts` once a second. It never ends; drop it, and then [`Progress::clear`].
    pub(crate) async fn run(&self, counts: &Counts) -> Infallible {
        if !self.wanted {
            return std::future::pending().await;
        }
        let mut ticks = interval_at(Instant::now() + PERIOD, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (Instant::now(), 0);
        loop {
            let now = ticks.tick().await;
            let bytes = counts.bytes();
            let line = line(counts.messages(), bytes, bytes - last.1, now - last.0);
            say(&format!("{CLEAR}{line}"));
            self.shown.set(true);
            last = (now, bytes);
        }
    }

    /// Takes the line away, so that something else can be said.
    pub(crate) fn clear(&self) {
        if self.shown.take() {
            say(CLEAR);
        }
    }
}

/// What the line says, when `new_bytes` of the bytes came within the last `period`.
fn line(messages: u64, bytes: u64, new_bytes: u64, period: Duration) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let rate = new_bytes as f64 / period.as_secs_f64().max(f64::EPSILON);
    format!("{messages} messages, {:.1} MiB, {:.1} MiB/s", bytes as f64 / MIB, rate / MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_messages_bytes_and_the_rate_of_the_last_period() {
        let text = line(12, 5 << 20, 3 << 20, Duration::from_secs(2));
        assert_eq!(text, "12 messages, 5.0 MiB, 1.5 MiB/s");
        assert_eq!(line(0, 0, 0, Duration::ZERO), "0 messages, 0.0 MiB, 0.0 MiB/s");
    }
}
