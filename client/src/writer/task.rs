//! The writer's task: it owns the connection, and sends one batch after the other.
//!
//! A batch is tried until it is acknowledged or given up, before the next one is looked at: order is kept over
//! retries. A batch is settled, one way or the other, exactly once; when the task ends early, by a panic in the
//! caller's function or with its runtime, its guard hands everything that is left to the backlog.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Batch, Reason};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::state::{Next, Shared};
use super::{Receipt, UnknownOutcome};
use crate::backlog::FailedBatch;
use crate::error::{AppendError, Error, Outcome};
use crate::session::{Appended, Link};

/// How long what is unsent is still tried to be sent when no handle is left.
const ABANDONED_TIMEOUT: Duration = Duration::from_secs(5);

/// What is called with every receipt.
pub(super) type OnReceipt = Box<dyn FnMut(&Receipt) + Send>;

/// Everything that the task owns.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) link: Link,
    pub(super) unknown_outcome: UnknownOutcome,
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
            let result = match &hopeless {
                Some(error) => Err(given_up(&batch, AppendError::not_written(error.clone()), 0)),
                None => self.deliver(&batch).await,
            };
            match result {
                Ok(appended) => {
                    self.acknowledge(&batch, appended);
                    self.shared.settle(None);
                }
                Err(failed) => {
                    let FailedBatch { error, outcome, attempts, .. } = &failed;
                    warn!(topic = %self.shared.topic(), %error, %outcome, attempts, "a batch was given up");
                    if error.is_retryable() && self.shared.is_closing() {
                        hopeless = Some(error.clone());
                    }
                    if batch.id().is_some() && self.server_dedup {
                        // docs/protocol.md, "Dedup": on this connection what follows would be refused.
                        self.link.forget();
                    }
                    self.shared.settle(Some(failed));
                }
            }
        }
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

    /// Tries to append a batch for as long as that can help. Once it may have been stored, it is unknown whether it is
    /// until a server says so.
    async fn deliver(&mut self, batch: &Batch) -> Result<Appended, FailedBatch> {
        let mut backoff = self.link.config().retry.backoff();
        let mut outcome = Outcome::NotWritten;
        loop {
            let mut failure = match self.attempt(batch, outcome).await {
                Ok(appended) => return Ok(appended),
                Err(failure) => failure,
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
