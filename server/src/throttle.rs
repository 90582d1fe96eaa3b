//! Lines of the log that a client, or a disk that goes on failing, could otherwise have written without end.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(5);

/// Lets the first of many like lines through at once, and then at most one in [`PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Whether a line is to be written now: then how many were held back since the last one.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.held_back = state.held_back.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_passes_at_once_and_later_ones_now_and_then_with_their_number() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.pass_at(start), Some(0));
        for _ in 0..1000 {
            assert_eq!(throttle.pass_at(start + PAUSE / 2), None);
        }
        assert_eq!(throttle.pass_at(start + PAUSE), Some(1000));
        assert_eq!(throttle.pass_at(start + PAUSE), None);
        assert_eq!(throttle.pass_at(start + PAUSE * 3), Some(1));
        assert_eq!(throttle.pass_at(start + PAUSE * 10), Some(0));
    }
}
