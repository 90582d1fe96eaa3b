//! What clients were told in a run, in the order in which they were told it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logd_client::{Outcome, Position};
use tokio::sync::Notify;

use crate::trace::{Trace, log};

/// A message: which writer's, and which of that writer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) writer: u32,
    pub(crate) number: u32,
}

impl Name {
    /// The name in a message's bytes; `None` for what no writer of the run has written by itself.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (writer, number) = text.strip_prefix('w')?.split(' ').next()?.split_once('.')?;
        Some(Self { writer: writer.parse().ok()?, number: number.parse().ok()? })
    }

    /// The message's bytes, with so many more.
    pub(crate) fn message(self, padding: usize) -> String {
        format!("w{}.{} {}", self.writer, self.number, "x".repeat(padding))
    }
}

/// What a writer was told of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing yet.
    Open,
    Delivered(Position),
    Unknown,
    NotWritten,
    /// It is in the spool, and is sent from there by the next writer.
    Spooled,
}

/// A message in the history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) fate: Fate,
    /// When it was handed to the writer, and when the writer was told.
    pub(crate) begun: Duration,
    pub(crate) at: Duration,
    /// How many power cuts that can lose something there had been when it was written, and when the writer was told.
    pub(crate) epochs: (u32, u32),
}

/// A checkpoint that was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) next: Position,
    /// How many messages had been acknowledged by the consumer then.
    pub(crate) acked: usize,
    pub(crate) epoch: u32,
}

/// The history of a run. Clones are the same.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) trace: Trace,
    state: Arc<Mutex<State>>,
    news: Arc<Notify>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) messages: BTreeMap<Name, Written>,
    /// Those that were not written, and handed in again.
    pub(crate) retried: BTreeSet<Name>,
    /// The writers that have set something of their spool aside.
    pub(crate) asides: BTreeSet<u32>,
    pub(crate) epoch: u32,
    /// When a server was started, and when it was gone.
    pub(crate) lives: Vec<(Duration, Option<Duration>)>,
    /// When there were power cuts; of those that can lose something in another row, too.
    pub(crate) power_cuts: Vec<Duration>,
    pub(crate) cuts: Vec<Duration>,
    /// What each scanner has yielded in this epoch.
    pub(crate) scanned: BTreeMap<usize, Vec<(Position, Option<Name>)>>,
    /// What was handed to the consumer in this epoch, and what of it was acknowledged, with how many before it.
    pub(crate) handed: BTreeSet<Position>,
    pub(crate) acked: BTreeMap<Position, usize>,
    pub(crate) checkpoints: Vec<Stored>,
    /// Whether everything that is to be written was, and the topic does not change any more.
    pub(crate) is_final: bool,
}

impl History {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self { trace: trace.clone(), state: Arc::default(), news: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is handed to a writer.
    pub(crate) fn begin(&self, name: Name) {
        let mut state = self.lock();
        let (at, epoch) = (self.trace.elapsed(), state.epoch);
        state.messages.insert(name, Written { fate: Fate::Open, begun: at, at, epochs: (epoch, epoch) });
    }

    /// A writer has told what became of a message.
    pub(crate) fn settle(&self, name: Name, fate: Fate, why: &dyn std::fmt::Display) {
        log!(self.trace, "w{}.{} {fate:?} {why}", name.writer, name.number);
        let mut state = self.lock();
        let (at, epoch) = (self.trace.elapsed(), state.epoch);
        let is_open = match state.messages.get_mut(&name) {
            Some(written) if written.fate == Fate::Open => {
                *written = Written { fate, at, epochs: (written.epochs.0, epoch), ..*written };
                true
            }
            _ => false,
        };
        drop(state);
        if !is_open {
            self.trace.fail(format!("{name:?} was settled twice"));
        }
    }

    /// The server is started.
    pub(crate) fn server_starts(&self) {
        let now = self.trace.elapsed();
        self.lock().lives.push((now, None));
    }

    /// The server is gone.
    pub(crate) fn server_ends(&self) {
        let now = self.trace.elapsed();
        if let Some((_, end)) = self.lock().lives.last_mut() {
            end.get_or_insert(now);
        }
    }

    /// A power cut has come that can lose something: readers begin anew.
    pub(crate) fn begin_epoch(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        state.cuts.push(self.trace.elapsed());
        state.scanned.clear();
        state.handed.clear();
        state.acked.clear();
        drop(state);
        self.news.notify_waiters();
    }

    /// The topic does not change any more.
    pub(crate) fn finish(&self) {
        self.lock().is_final = true;
        self.news.notify_waiters();
    }

    /// Completes when the epoch is another one.
    pub(crate) async fn epoch_after(&self, epoch: u32) {
        loop {
            let news = self.news.notified();
            if self.lock().epoch != epoch {
                return;
            }
            news.await;
        }
    }
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::NotWritten => Self::NotWritten,
            Outcome::Unknown => Self::Unknown,
        }
    }
}
