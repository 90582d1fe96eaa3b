//! The writer's task: it owns the connection, and sends the batches in their order.
//!
//! While all goes well several are under way at once. When something fails, the answers that still come are taken, and
//! what is left goes into the spool, if there is one and it can be sent from there; else it is tried one by one until it
//! is acknowledged or given up. What is in the spool is older than all that waits, and is sent first. A batch is settled,
//! one way or the other, exactly once; when the task ends early, with its runtime, its guard hands everything that is
//! left to the spool or the backlog.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logd_protocol::{Batch, Reason};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::UnknownOutcome;
use super::events::{EventLoop, WriterEvent};
use super::limits::{WhenAway, WhenFailed};
use super::mark::{Identity, Marked};
use super::receipt::{Receipt, ReceiptLoop, Receipts};
use super::row::Sent;
use super::shared::Shared;
use super::spooler::{Removed, SharedSpool, make_room};
use super::state::Settled;
use super::supply::{InFlight, Next};
use crate::backlog::FailedBatch;
use crate::error::{AppendError, Error, ErrorKind, Outcome};
use crate::retry::Backoff;
use crate::session::{Appended, Link};
use crate::spool::{Aside, SpoolKey, Spooled};

/// How long what is unsent is still tried to be sent when no handle is left.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a closing writer waits for the handler of errors to be done.
const HANDLER_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that the task owns.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) spool: Option<SharedSpool>,
    pub(super) unknown_outcome: UnknownOutcome,
    /// How many batches may be under way at once.
    pub(super) in_flight_max: usize,
    /// Whether the server that was asked last stores a batch with an identity only once.
    pub(super) server_dedup: bool,
    /// Whether there has been a connection.
    pub(super) knows_server: bool,
    pub(super) receipts: Receipts,
    /// How long to wait for a server that is away, before the next batch of the spool or the next look.
    pub(super) patience: Backoff,
    /// What of the spool is being sent.
    pub(super) draining: Vec<Spooled>,
    /// What the server has acknowledged of the spool, and is not removed from there.
    pub(super) delivered: Vec<SpoolKey>,
    /// What of the spool may be stored, as far as this writer knows.
    pub(super) doubtful: HashSet<SpoolKey>,
    /// Why everything that is left is given up for good: the server is away while the writer closes, or a batch failed and
    /// the writer is to halt then.
    pub(super) hopeless: Option<Error>,
}

/// The tasks that serve the user's handlers.
#[derive(Debug, Default)]
pub(super) struct Loops {
    pub(super) events: Option<EventLoop>,
    pub(super) receipts: Option<ReceiptLoop>,
}

impl fmt::Debug for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Task")
            .field("shared", &self.shared)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end();
        self.shared.has_ended();
    }
}

impl Task {
    /// Sends until the writer is closed and nothing is left, or no handle has been left for too long; and serves the
    /// user's handlers, until they have been told everything.
    pub(super) async fn run(mut self, loops: Loops) {
        let shared = Arc::clone(&self.shared);
        let abandoned = async {
            shared.abandoned.notified().await;
            if !shared.has_no_time.load(Ordering::Relaxed) {
                sleep(ABANDONED_TIMEOUT).await;
            }
        };
        let identity = Identity::of(&shared);
        let pusher = loops.receipts.map(|receipts| tokio::spawn(Marked::new(identity, receipts.run())));
        let (told, all_told) = oneshot::channel();
        let handler = loops.events.map(|events| tokio::spawn(Marked::new(identity, events.run(all_told))));
        let served = async {
            self.serve().await;
            self.receipts.close();
            if let Some(pusher) = pusher {
                // One that has panicked has told that by itself.
                let _ = pusher.await;
            }
        };
        tokio::select! {
            biased;
            () = served => {}
            () = abandoned => {}
        }
        self.end();
        // Without a handler nobody listens.
        let _ = told.send(());
        if let Some(handler) = handler {
            let _ = timeout(HANDLER_TIMEOUT, handler).await;
        }
    }

    /// Gives up what is left.
    fn end(&mut self) {
        let draining = std::mem::take(&mut self.draining);
        if let Some(spool) = self.spool.clone()
            && self.link.session().is_some_and(|session| session.has_unanswered())
        {
            for Spooled { batch, key } in
                draining.iter().filter(|spooled| !self.is_repeatable(&spooled.batch))
            {
                if spool.set_aside_at_end(*key, Aside::Unknown).is_ok() {
                    let (messages, bytes) = (batch.messages(), batch.bytes().len() as u64);
                    let text = "the writer ended before the batch of the spool was acknowledged";
                    let removed = Removed { batches: 1, messages, bytes };
                    self.shared.set_aside(removed, &Error::new(ErrorKind::Closed, text));
                }
            }
        }
        let is_repeatable =
            self.unknown_outcome == UnknownOutcome::Retry || (self.shared.limits.dedup && self.server_dedup);
        let in_flight = match (self.knows_server, is_repeatable) {
            (false, _) => InFlight::Unsent,
            (true, true) => InFlight::Repeatable,
            (true, false) => InFlight::Doubtful,
        };
        self.shared.end(self.spool.as_ref(), in_flight, self.hopeless.as_ref());
    }

    async fn serve(&mut self) {
        let Some(spool) = self.spool.clone() else { return self.send_everything().await };
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            () = self.send_everything() => {}
            never = make_room(&shared, &spool) => match never {},
        }
    }

    async fn send_everything(&mut self) {
        loop {
            match self.next_work().await {
                Next::Send(batch) => self.send_some(batch).await,
                Next::Drain if self.hopeless.is_none() => self.drain().await,
                Next::End => return,
                // Without hope, what is in the spool stays there.
                Next::Drain | Next::Wait(_) | Next::Idle => {}
            }
            if self.hopeless.is_some() && self.spool.is_some() {
                return self.spool_out().await;
            }
        }
    }

    /// Waits until what is left is in the spool, as far as it has room and works.
    async fn spool_out(&self) {
        while !self.shared.is_spooled_out() {
            self.shared.news().await;
        }
    }

    /// Sends a batch and what becomes ready meanwhile, and settles it.
    async fn send_some(&mut self, batch: Batch) {
        for (batch, sent) in self.send_row(batch, self.why_not_try().is_some()).await {
            match self.deliver(&batch, sent).await {
                Ok(Some(appended)) => self.acknowledge(&batch, appended).await,
                Ok(None) => {}
                Err(failed) => self.give_up(failed),
            }
        }
    }

    /// Why nothing needs to be tried now.
    pub(super) fn why_not_try(&self) -> Option<Error> {
        let is_failing = self.shared.limits.when_away == WhenAway::Fail;
        self.hopeless.clone().or_else(|| self.shared.lock().away.clone().filter(|_| is_failing))
    }

    pub(super) fn give_up(&mut self, failed: FailedBatch) {
        let FailedBatch { batch, error, outcome, attempts } = &failed;
        warn!(topic = %self.shared.topic, %error, %outcome, attempts, "a batch was given up");
        if self.shared.limits.when_failed == WhenFailed::Halt {
            self.shared.close();
            self.hopeless.get_or_insert_with(|| error.clone());
        }
        self.lose_hope(error);
        if batch.id().is_some() && self.server_dedup {
            // docs/protocol.md, "Dedup": on this connection what follows would be refused.
            self.link.forget();
        }
        let (error, outcome, attempts, messages) = (error.clone(), *outcome, *attempts, batch.messages());
        self.shared.events.tell(|| WriterEvent::Failed { error, outcome, attempts, messages });
        self.shared.settle(Settled::Failed(failed));
    }

    /// While the writer closes, what is left would only wait in vain for a server that is away.
    pub(super) fn lose_hope(&mut self, error: &Error) {
        if is_transient(error) && self.shared.is_closing() {
            self.hopeless.get_or_insert_with(|| error.clone());
        }
    }

    /// Waits for something to do. Meanwhile it takes notice when the server closes the connection, and looks for one
    /// that is away where nothing else would.
    async fn next_work(&mut self) -> Next {
        loop {
            let due = match self.shared.next(Instant::now()) {
                work @ (Next::Send(_) | Next::Drain | Next::End) => return work,
                Next::Wait(due) => Some(due),
                Next::Idle => None,
            };
            let time = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let shared = Arc::clone(&self.shared);
            let is_looking = shared.limits.when_away == WhenAway::Fail && shared.lock().away.is_some();
            let server = async {
                if is_looking {
                    self.look_for_server().await;
                } else {
                    self.link.closed_by_server().await;
                }
            };
            tokio::select! {
                biased;
                () = shared.news() => {}
                () = time => {}
                () = server => {}
            }
        }
    }

    /// Waits a while and connects.
    async fn look_for_server(&mut self) {
        sleep(self.patience.next_delay().unwrap_or_default()).await;
        if self.link.ready_to_append().await.is_ok() {
            self.patience.reset();
            self.shared.set_back();
        }
    }

    /// Whether a batch that failed can be sent from the spool later on, as it is.
    fn can_be_spooled(&self, batch: &Batch, failure: &AppendError) -> bool {
        self.spool.is_some()
            && is_transient(&failure.error)
            && (failure.outcome == Outcome::NotWritten || self.is_repeatable(batch))
    }

    /// Puts the oldest batch in flight into the spool; its failure comes back where that cannot be.
    async fn put_into_spool(&mut self, batch: &Batch, failure: AppendError) -> Result<(), AppendError> {
        let (Some(spool), Some(number)) = (self.spool.clone(), self.shared.front_number()) else {
            return Err(failure);
        };
        if failure.outcome == Outcome::Unknown {
            self.doubtful.insert(spool.key(number));
        }
        if let Err(error) = spool.put(vec![(number, batch.clone())]).await {
            warn!(topic = %self.shared.topic, %error, "a batch could not be put into the spool");
            self.shared.events.tell(|| WriterEvent::SpoolFailed { error });
            return Err(failure);
        }
        debug!(topic = %self.shared.topic, error = %failure, "a batch went into the spool");
        self.shared.set_away(&failure.error);
        let (error, messages) = (Some(failure.error.clone()), batch.messages());
        self.shared.events.tell(|| WriterEvent::Spooled { error, batches: 1, messages });
        if failure.error.kind() == ErrorKind::Connect {
            self.lose_hope(&failure.error);
        }
        self.shared.settle(Settled::Spooled(Some(failure)));
        Ok(())
    }

    /// Settles what was sent in a row, and tries to append the batch for as long as that can help, if it was not. Once it
    /// may have been stored, it is unknown whether it is until a server says so. `None` when it went into the spool.
    async fn deliver(&mut self, batch: &Batch, mut sent: Sent) -> Result<Option<Appended>, FailedBatch> {
        let mut backoff = self.link.config().retry.backoff();
        let mut outcome = Outcome::NotWritten;
        let mut attempts = 0;
        loop {
            let is_tried = !matches!(sent, Sent::Nothing) || self.why_not_try().is_none();
            attempts += u32::from(is_tried);
            let mut failure = match (std::mem::replace(&mut sent, Sent::Nothing), self.why_not_try()) {
                (Sent::Acknowledged(appended), _) => return Ok(Some(appended)),
                (Sent::Failed(failure), _) => failure,
                (Sent::Nothing, Some(error)) => AppendError::not_written(error),
                (Sent::Nothing, None) => match self.attempt(batch, outcome).await {
                    Ok(appended) => return Ok(Some(appended)),
                    Err(failure) => failure,
                },
            };
            if outcome == Outcome::Unknown {
                failure.outcome = outcome;
            }
            outcome = failure.outcome;
            if self.can_be_spooled(batch, &failure) {
                failure = match self.put_into_spool(batch, failure).await {
                    Ok(()) => return Ok(None),
                    Err(failure) => failure,
                };
                if failure.error.kind() == ErrorKind::Connect {
                    self.lose_hope(&failure.error);
                }
            }
            if is_transient(&failure.error) {
                self.shared.set_away(&failure.error);
            }
            // Others of its row may be in the spool: they go first.
            let is_next = self.drain_before(self.shared.front_number()).await;
            let delay = backoff.next_delay().filter(|_| is_next && self.can_help(batch, &failure));
            let delay = delay.filter(|_| self.why_not_try().is_none());
            let Some(delay) = delay else { return Err(given_up(batch, failure, attempts)) };
            debug!(error = %failure, ?delay, attempts, "will send the batch again");
            let error = failure.error;
            self.shared.events.tell(|| WriterEvent::Retrying { error, outcome, attempts, delay });
            sleep(delay).await;
        }
    }

    async fn attempt(&mut self, batch: &Batch, outcome: Outcome) -> Result<Appended, AppendError> {
        let session = self.link.ready_to_append().await.map_err(AppendError::not_written)?;
        self.server_dedup = session.has_dedup();
        self.knows_server = true;
        if outcome == Outcome::Unknown && !self.is_repeatable(batch) {
            let text =
                "the server does not know `dedup`: the batch is not sent again, since it may be stored";
            return Err(AppendError::unknown(Error::invalid(text)));
        }
        let session = self.link.ready().await.map_err(AppendError::not_written)?;
        session.append(batch).await
    }

    /// Whether sending the batch again can succeed, and is wanted.
    fn can_help(&self, batch: &Batch, failure: &AppendError) -> bool {
        let is_wanted = self.shared.limits.when_away == WhenAway::Retry && is_transient(&failure.error);
        is_wanted && (failure.outcome == Outcome::NotWritten || self.is_repeatable(batch))
    }

    /// Whether a batch that may be stored can be sent again.
    pub(super) fn is_repeatable(&self, batch: &Batch) -> bool {
        self.unknown_outcome == UnknownOutcome::Retry || (batch.id().is_some() && self.server_dedup)
    }

    /// The oldest batch in flight was acknowledged.
    pub(super) async fn acknowledge(&mut self, batch: &Batch, appended: Appended) {
        self.patience.reset();
        self.shared.settle(Settled::Acknowledged(appended.offset));
        self.push_receipt(batch, appended, true).await;
    }

    /// Tells that a batch was acknowledged, which is the writer's own or of the spool.
    pub(super) async fn push_receipt(&mut self, batch: &Batch, appended: Appended, is_own: bool) {
        let Appended { offset, bytes } = appended;
        let shared = &self.shared;
        self.receipts
            .push(|| Receipt {
                topic: if is_own { shared.topic.clone() } else { batch.topic() },
                offset,
                // A server that answers an offset so near the end of all offsets is not to be believed, but did store it.
                next: offset.checked_add(bytes).unwrap_or(offset),
                messages: batch.messages(),
                crc: batch.crc(),
            })
            .await;
    }
}

/// Whether the same batch can be accepted later.
pub(super) fn is_transient(error: &Error) -> bool {
    error.is_retryable() || error.reason() == Some(Reason::DiskFull)
}

fn given_up(batch: &Batch, failure: AppendError, attempts: u32) -> FailedBatch {
    let AppendError { error, outcome } = failure;
    FailedBatch { batch: batch.clone(), error, outcome, attempts }
}
