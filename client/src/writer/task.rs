//! The writer's task: it owns the connection, and sends the batches in their order.
//!
//! While all goes well several are under way at once. When something fails, the answers that still come are taken, and
//! what is left is tried one by one until it is acknowledged or given up: order is kept over retries, because a server
//! that knows `dedup` refuses what follows a batch that it has refused. To others, one batch is sent at a time. A batch is settled, one way or the other, exactly once; when the task ends early, by a panic in the
//! caller's function or with its runtime, its guard hands everything that is left to the backlog.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Batch, Reason};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::state::{Next, Shared};
use super::{Receipt, UnknownOutcome};
use crate::backlog::FailedBatch;
use crate::error::{AppendError, Error, ErrorKind, Outcome};
use crate::session::{Appended, Link};

/// How long what is unsent is still tried to be sent when no handle is left.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// What is called with every receipt.
pub(super) type OnReceipt = Box<dyn FnMut(&Receipt) + Send>;

/// What became of a batch of a row.
enum Sent {
    /// It was not tried.
    Nothing,
    Failed(AppendError),
    Acknowledged(Appended),
}

/// Everything that the task owns.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) unknown_outcome: UnknownOutcome,
    /// How many batches may be under way at once.
    pub(super) in_flight_max: usize,
    /// Whether the server that was asked last stores a batch with an identity only once.
    pub(super) server_dedup: bool,
    pub(super) on_receipt: Option<OnReceipt>,
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
        self.shared.end();
    }
}

impl Task {
    /// Sends until the writer is closed and nothing is left, or no handle has been left for too long.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let abandoned = async {
            shared.abandoned().await;
            sleep(ABANDONED_TIMEOUT).await;
        };
        tokio::select! {
            () = self.serve() => {}
            () = abandoned => {}
        }
    }

    async fn serve(&mut self) {
        // Set when the server cannot be reached although the writer is closing: what is left would only wait in vain.
        let mut hopeless: Option<Error> = None;
        while let Some(batch) = self.next_batch().await {
            for (batch, sent) in self.send_row(batch, hopeless.is_some()).await {
                let result = match (sent, &hopeless) {
                    (Sent::Acknowledged(appended), _) => Ok(appended),
                    (Sent::Failed(failure), Some(_)) => Err(given_up(&batch, failure, 1)),
                    (Sent::Failed(failure), None) => self.deliver(&batch, Some(failure)).await,
                    (Sent::Nothing, Some(error)) => {
                        Err(given_up(&batch, AppendError::not_written(error.clone()), 0))
                    }
                    (Sent::Nothing, None) => self.deliver(&batch, None).await,
                };
                match result {
                    Ok(appended) => {
                        self.acknowledge(&batch, appended);
                        self.shared.settle(Ok(appended.offset));
                    }
                    Err(failed) => {
                        self.give_up(&failed, &mut hopeless);
                        self.shared.settle(Err(failed));
                    }
                }
            }
        }
    }

    fn give_up(&mut self, failed: &FailedBatch, hopeless: &mut Option<Error>) {
        let FailedBatch { batch, error, outcome, attempts } = failed;
        warn!(topic = %self.shared.topic(), %error, %outcome, attempts, "a batch was given up");
        if error.is_retryable() && self.shared.is_closing() {
            *hopeless = Some(error.clone());
        }
        if batch.id().is_some() && self.server_dedup {
            // docs/protocol.md, "Dedup": on this connection what follows would be refused.
            self.link.forget();
        }
    }

    /// Sends a batch and those that become ready meanwhile, as many at a time as may be in flight, for as long as
    /// everything goes well and there is always one in flight. What was acknowledged is settled at once.
    ///
    /// Returns what is yet to be settled: nothing, or what was under way when something failed. Where the server cannot
    /// keep the order of a row when it refuses one of it, nothing is sent.
    async fn send_row(&mut self, batch: Batch, is_hopeless: bool) -> Vec<(Batch, Sent)> {
        let mut unsent = Some(batch);
        let mut row: VecDeque<(Batch, u64)> = VecDeque::new();
        loop {
            if let Some(batch) = unsent.take() {
                if is_hopeless || !self.shared.is_dedup() || !self.server_dedup {
                    // The first of all is delivered by itself, so that it is known who the server is.
                    return vec![(batch, Sent::Nothing)];
                }
                match self.send(&batch, row.is_empty()).await {
                    Ok(bytes) => row.push_back((batch, bytes)),
                    Err(failure) => return self.wind_up(row, Some((batch, failure))).await,
                }
            }
            let mut due = None;
            // A server that does not know `dedup` after all has what was sent, and gets no more beside it.
            let in_flight_max = if self.server_dedup { self.in_flight_max } else { 1 };
            let is_room = row.len() < in_flight_max;
            if is_room {
                match self.shared.next(Instant::now()) {
                    Next::Send(batch) => {
                        unsent = Some(batch);
                        continue;
                    }
                    Next::Wait(at) => due = Some(at),
                    Next::Idle | Next::End => {}
                }
            }
            let Some(bytes) = row.front().map(|(_, bytes)| *bytes) else { return Vec::new() };
            let Some(session) = self.link.session() else { return self.wind_up(row, None).await };
            let reply = tokio::select! {
                reply = session.batch_reply(bytes) => reply,
                () = self.shared.news(), if is_room => continue,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if is_room && due.is_some() => continue,
            };
            match (reply, row.front()) {
                (Ok(appended), Some((batch, _))) => {
                    let batch = batch.clone();
                    self.acknowledge(&batch, appended);
                    self.shared.settle(Ok(appended.offset));
                    row.pop_front();
                }
                (Err(failure), Some((batch, _))) => {
                    let first = (batch.clone(), Sent::Failed(failure));
                    row.pop_front();
                    let mut left = vec![first];
                    left.extend(self.wind_up(row, None).await);
                    return left;
                }
                (_, None) => return Vec::new(),
            }
        }
    }

    /// Hands a batch to the system; the first of a row after making sure that the server is there.
    async fn send(&mut self, batch: &Batch, is_first: bool) -> Result<u64, AppendError> {
        let session = if is_first {
            self.link.ready_to_append().await.map_err(AppendError::not_written)?
        } else {
            let gone = || Error::new(ErrorKind::Disconnected, "the connection has ended");
            self.link.session().ok_or_else(gone).map_err(AppendError::not_written)?
        };
        self.server_dedup = session.has_dedup();
        session.send_batch(batch).await
    }

    /// Something has failed: takes the answers that still come. `unsent` is a batch that was not sent.
    async fn wind_up(
        &mut self,
        row: VecDeque<(Batch, u64)>,
        unsent: Option<(Batch, AppendError)>,
    ) -> Vec<(Batch, Sent)> {
        let mut left = Vec::with_capacity(row.len() + 1);
        let mut ended: Option<AppendError> = None;
        for (batch, bytes) in row {
            let result = match (&ended, self.link.session()) {
                (Some(failure), _) => Err(failure.clone()),
                (None, Some(session)) if session.has_ended() => {
                    let text = "the server ended the connection before the batch was done";
                    Err(AppendError::not_written(Error::new(ErrorKind::Disconnected, text)))
                }
                (None, Some(session)) => session.batch_reply(bytes).await,
                (None, None) => {
                    let text = "the connection ended before the answer";
                    Err(AppendError::unknown(Error::new(ErrorKind::Disconnected, text)))
                }
            };
            left.push(match result {
                Ok(appended) => (batch, Sent::Acknowledged(appended)),
                Err(failure) => {
                    if failure.error.reason().is_none() && failure.outcome == Outcome::Unknown {
                        ended = Some(failure.clone());
                    }
                    (batch, Sent::Failed(failure))
                }
            });
        }
        left.extend(unsent.map(|(batch, failure)| (batch, Sent::Failed(failure))));
        left
    }

    /// Waits for a batch to send; `None` when there will be none any more. Meanwhile it takes notice when the server
    /// closes the connection.
    async fn next_batch(&mut self) -> Option<Batch> {
        loop {
            let due = match self.shared.next(Instant::now()) {
                Next::Send(batch) => return Some(batch),
                Next::End => return None,
                Next::Wait(due) => Some(due),
                Next::Idle => None,
            };
            let time = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.news() => {}
                () = time => {}
                () = self.link.closed_by_server() => {}
            }
        }
    }

    /// Tries to append a batch for as long as that can help; `failure` is that of a first attempt. Once it may have been stored, it is unknown whether it is
    /// until a server says so.
    async fn deliver(
        &mut self,
        batch: &Batch,
        mut failure: Option<AppendError>,
    ) -> Result<Appended, FailedBatch> {
        let mut backoff = self.link.config().retry.backoff();
        let mut outcome = Outcome::NotWritten;
        loop {
            let mut failure = match failure.take() {
                Some(failure) => failure,
                None => match self.attempt(batch, outcome).await {
                    Ok(appended) => return Ok(appended),
                    Err(failure) => failure,
                },
            };
            if outcome == Outcome::Unknown {
                failure.outcome = outcome;
            }
            outcome = failure.outcome;
            let delay = backoff.next_delay().filter(|_| self.can_help(batch, &failure));
            let Some(delay) = delay else { return Err(given_up(batch, failure, backoff.failures())) };
            debug!(error = %failure, ?delay, attempts = backoff.failures(), "will send the batch again");
            sleep(delay).await;
        }
    }

    async fn attempt(&mut self, batch: &Batch, outcome: Outcome) -> Result<Appended, AppendError> {
        let session = self.link.ready_to_append().await.map_err(AppendError::not_written)?;
        self.server_dedup = session.has_dedup();
        if outcome == Outcome::Unknown && !is_repeatable(batch, self.unknown_outcome, self.server_dedup) {
            let text =
                "the server does not know `dedup`: the batch is not sent again, since it may be stored";
            return Err(AppendError::unknown(Error::invalid(text)));
        }
        session.append(batch).await
    }

    /// Whether sending the batch again can succeed, and is wanted.
    fn can_help(&self, batch: &Batch, failure: &AppendError) -> bool {
        let transient = failure.error.is_retryable() || failure.error.reason() == Some(Reason::DiskFull);
        match failure.outcome {
            Outcome::NotWritten => transient,
            Outcome::Unknown => transient && is_repeatable(batch, self.unknown_outcome, self.server_dedup),
        }
    }

    fn acknowledge(&mut self, batch: &Batch, Appended { offset, bytes }: Appended) {
        let Some(on_receipt) = &mut self.on_receipt else { return };
        on_receipt(&Receipt {
            topic: self.shared.topic().clone(),
            offset,
            // A server that answers an offset so near the end of all offsets is not to be believed, but did store it.
            next: offset.checked_add(bytes).unwrap_or(offset),
            messages: batch.messages(),
            crc: batch.crc(),
        });
    }
}

/// Whether a batch that may be stored can be sent again.
fn is_repeatable(batch: &Batch, choice: UnknownOutcome, server_dedup: bool) -> bool {
    choice == UnknownOutcome::Retry || (batch.id().is_some() && server_dedup)
}

fn given_up(batch: &Batch, failure: AppendError, attempts: u32) -> FailedBatch {
    let AppendError { error, outcome } = failure;
    FailedBatch { batch: batch.clone(), error, outcome, attempts }
}
