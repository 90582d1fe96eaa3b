//! What happened in a run, a line an event, with the simulated time; and whether the run has failed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// So many lines are more than any run needs: one that has more is going round in circles.
const LINES_MAX: usize = 300_000;

/// So many polls of the server's tasks, likewise.
const POLLS_MAX: u64 = 3_000_000;

/// The trace of a run. Clones are the same.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Shared>);

struct Shared {
    start: Instant,
    state: Mutex<State>,
    failed: Notify,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    polls: u64,
    failure: Option<String>,
}

impl fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Trace")
    }
}

impl Trace {
    /// An empty trace that begins now.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { start: Instant::now(), state: Mutex::default(), failed: Notify::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The simulated time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Adds a line.
    pub(crate) fn log(&self, what: fmt::Arguments<'_>) {
        let millis = self.elapsed().as_millis();
        let mut state = self.lock();
        if state.failure.is_some() && state.lines.len() >= LINES_MAX {
            return;
        }
        state.lines.push(format!("{millis:>8} {what}"));
        let is_over = state.lines.len() == LINES_MAX;
        drop(state);
        if is_over {
            self.fail(format!("the run has more than {LINES_MAX} lines of trace"));
        }
    }

    /// Counts a poll.
    pub(crate) fn count_poll(&self) {
        let mut state = self.lock();
        state.polls += 1;
        let is_over = state.polls == POLLS_MAX;
        drop(state);
        if is_over {
            self.fail(format!("the server's tasks were polled more than {POLLS_MAX} times"));
        }
    }

    /// The run has failed; only the first failure counts.
    pub(crate) fn fail(&self, why: String) {
        self.log(format_args!("FAILURE {why}"));
        self.lock().failure.get_or_insert(why);
        self.0.failed.notify_one();
    }

    /// Whether the run has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Completes when the run has failed.
    pub(crate) async fn failed(&self) {
        while !self.has_failed() {
            self.0.failed.notified().await;
        }
    }

    /// The lines and the failure.
    pub(crate) fn take(&self) -> (Vec<String>, Option<String>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.lines), state.failure.take())
    }
}

/// Adds a line to a trace: the arguments are as those of `format!`.
macro_rules! log {
    ($trace:expr, $($what:tt)*) => { $trace.log(format_args!($($what)*)) };
}
pub(crate) use log;
