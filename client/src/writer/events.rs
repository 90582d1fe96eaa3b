//! Everything that goes wrong in a writer, told to its user as it happens.
//!
//! Events go through a bounded queue to a task of their own, so that a slow handler holds nothing up. What finds the
//! queue full is counted, and the handler is told the number.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::dropped::Dropped;
use crate::backlog::counted;
use crate::error::{Error, Outcome};

/// How many events wait for the handler, at most.
const EVENTS_MAX: usize = 256;

/// Something went wrong in a writer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WriterEvent {
    /// An attempt failed, and will be repeated.
    Retrying {
        /// Why it failed.
        error: Error,
        /// Whether the batch may be in the topic.
        outcome: Outcome,
        /// How many attempts have failed in a row.
        attempts: u32,
        /// The time until the next.
        delay: Duration,
    },
    /// A batch was given up. It is in the backlog, unless [`WriterEvent::Dropped`] follows.
    Failed {
        /// Why the last attempt failed.
        error: Error,
        /// Whether the batch may be in the topic.
        outcome: Outcome,
        /// How many attempts were made; 0 when it was given up together with one before it.
        attempts: u32,
        /// The messages of the batch.
        messages: u64,
    },
    /// Batches went into the spool, and are sent from there.
    Spooled {
        /// Why they were not delivered; `None` where it was only to make room.
        error: Option<Error>,
        /// How many batches.
        batches: u64,
        /// The messages of these batches.
        messages: u64,
    },
    /// The spool could not be read or written. Nothing was lost by that alone.
    SpoolFailed {
        /// What failed.
        error: Error,
    },
    /// A file of the spool was set aside under another name, because it will never be sent as it is.
    SetAside {
        /// Where it is now.
        path: PathBuf,
        /// Why.
        error: Error,
    },
    /// Messages are lost. The topic will say so.
    Dropped {
        /// How many.
        dropped: Dropped,
        /// Why.
        error: Error,
    },
    /// A receipt could not be pushed.
    ReceiptFailed {
        /// What the pusher said.
        error: Error,
    },
    /// So many events were not told, because the handler was too slow for them.
    Missed {
        /// How many.
        events: u64,
    },
}

impl fmt::Display for WriterEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retrying { error, outcome, attempts, delay } => {
                write!(
                    formatter,
                    "attempt {attempts} failed, the next is in {delay:?}: {error} (outcome: {outcome})"
                )
            }
            Self::Failed { error, outcome, messages, .. } => {
                let messages = counted(*messages, "message");
                write!(formatter, "a batch with {messages} was given up: {error} (outcome: {outcome})")
            }
            Self::Spooled { error, messages, .. } => {
                let messages = counted(*messages, "message");
                match error {
                    Some(error) => write!(formatter, "{messages} went into the spool: {error}"),
                    None => write!(formatter, "{messages} went into the spool to make room"),
                }
            }
            Self::SetAside { path, error } => {
                write!(formatter, "a batch of the spool was set aside as `{}`: {error}", path.display())
            }
            Self::Dropped { dropped: Dropped { messages, .. }, error } => {
                write!(formatter, "{} lost: {error}", counted(*messages, "message"))
            }
            Self::SpoolFailed { error } | Self::ReceiptFailed { error } => write!(formatter, "{error}"),
            Self::Missed { events } => write!(formatter, "{} not told", counted(*events, "event")),
        }
    }
}

/// Hears of everything that goes wrong in a writer.
///
/// Every function of one event, by value, is a handler: `|event: WriterEvent| eprintln!("{event}")`. One that panics is not
/// called again.
#[async_trait]
pub trait ErrorHandler: Send + 'static {
    /// Is told of an event. The next is not told before this is done; up to 256 wait, and what comes while so many wait
    /// is counted in [`WriterEvent::Missed`].
    ///
    /// It may write to the writer that it is told about.
    async fn handle(&mut self, event: WriterEvent);
}

#[async_trait]
impl<F: FnMut(WriterEvent) + Send + 'static> ErrorHandler for F {
    async fn handle(&mut self, event: WriterEvent) {
        self(event);
    }
}

/// Where events go.
#[derive(Debug, Clone)]
pub(super) struct Events {
    queue: Option<mpsc::Sender<WriterEvent>>,
    missed: Arc<AtomicU64>,
}

/// What the handler's task needs.
pub(super) struct EventLoop {
    queue: mpsc::Receiver<WriterEvent>,
    missed: Arc<AtomicU64>,
    handler: Box<dyn ErrorHandler>,
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventLoop")
    }
}

impl Events {
    pub(super) fn new(handler: Option<Box<dyn ErrorHandler>>) -> (Self, Option<EventLoop>) {
        let missed = Arc::new(AtomicU64::new(0));
        let Some(handler) = handler else { return (Self { queue: None, missed }, None) };
        let (sender, queue) = mpsc::channel(EVENTS_MAX);
        (
            Self { queue: Some(sender), missed: Arc::clone(&missed) },
            Some(EventLoop { queue, missed, handler }),
        )
    }

    /// Tells of an event, without waiting.
    pub(super) fn tell(&self, event: impl FnOnce() -> WriterEvent) {
        if let Some(queue) = &self.queue
            && queue.try_send(event()).is_err()
        {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl EventLoop {
    /// Hands events on until `ended` and all that were told before are handed on.
    pub(super) async fn run(mut self, mut ended: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                biased;
                event = self.queue.recv() => match event {
                    Some(event) => self.hand_on(event).await,
                    None => return,
                },
                _ = &mut ended => break,
            }
        }
        while let Ok(event) = self.queue.try_recv() {
            self.hand_on(event).await;
        }
    }

    async fn hand_on(&mut self, event: WriterEvent) {
        self.handler.handle(event).await;
        let events = self.missed.swap(0, Ordering::Relaxed);
        if events > 0 {
            self.handler.handle(WriterEvent::Missed { events }).await;
        }
    }
}
