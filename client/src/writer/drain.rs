//! Sending what is in the spool, oldest first.
//!
//! A batch leaves the spool when the server has acknowledged it, and is set aside when it never will. While the server
//! is away it stays, for as long as the writer is open; a writer that closes tries a few times where it can connect, and once where it cannot.

use logd_protocol::Batch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::events::WriterEvent;
use super::limits::WhenAway;
use super::row::Sent;
use super::spooler::SharedSpool;
use super::task::{Task, is_transient};
use crate::backlog::FailedBatch;
use crate::error::{AppendError, Error, ErrorKind, Outcome};
use crate::spool::{Aside, SpoolKey, Spooled};

/// How often in a row a writer that closes tries to send what is in the spool, if it can connect.
const CLOSING_ATTEMPTS: u32 = 3;

/// The most bytes that are read from the spool at once, unless a single batch has more.
const READ_BYTES: u64 = 4 * 1024 * 1024;

impl Task {
    /// Sends what is older in the spool than the batch of this number, for as long as that can help. Whether nothing is
    /// there any more that is older.
    pub(super) async fn drain_before(&mut self, number: Option<u64>) -> bool {
        let (Some(spool), Some(number)) = (self.spool.clone(), number) else { return true };
        while self.shared.spooled_batches() > 0 && spool.has_before(number).await {
            if self.why_not_try().is_some() || self.is_patience_spent() {
                return false;
            }
            self.drain_up_to(&spool, number).await;
        }
        true
    }

    /// Whether the server has been away for as many attempts as the retry policy allows for a batch.
    fn is_patience_spent(&self) -> bool {
        let failures = self.patience.failures();
        match self.shared.limits.when_away {
            WhenAway::Fail => failures > 0,
            WhenAway::Retry => self.link.config().retry.attempts_max().is_some_and(|max| failures >= max),
        }
    }

    /// Sends the oldest batches of the spool, as many as may be in flight.
    pub(super) async fn drain(&mut self) {
        if let Some(spool) = self.spool.clone() {
            self.drain_up_to(&spool, u64::MAX).await;
        }
    }

    /// Sends the oldest batches of the spool, if they are older than the batch of this number.
    async fn drain_up_to(&mut self, spool: &SharedSpool, number: u64) {
        if !self.delivered.is_empty() {
            self.remove_delivered(spool).await;
            return;
        }
        // No more than are counted: what `make_room` puts there meanwhile is counted when it is safe.
        let count = if self.server_dedup { self.in_flight_max } else { 1 }.min(self.shared.spooled_batches());
        let oldest = match spool.oldest(count, READ_BYTES, number).await {
            Ok(Ok(oldest)) if oldest.is_empty() => {
                return self
                    .spool_failed(Error::new(ErrorKind::Spool, "the spool is empty all at once"))
                    .await;
            }
            Ok(Ok(oldest)) => oldest,
            Ok(Err(key)) => {
                let error =
                    Error::new(ErrorKind::Corrupt, format!("the batch `{key}` of the spool is damaged"));
                return self.set_aside(spool, key, Aside::Damaged, error).await;
            }
            Err(error) => return self.spool_failed(error).await,
        };
        if let Some(Spooled { batch, key }) =
            oldest.first().filter(|first| self.doubtful.contains(&first.key))
        {
            match self.link.ready_to_append().await {
                Ok(session) => self.server_dedup = session.has_dedup(),
                Err(error) => {
                    return self.spooled_failed(spool, *key, batch, AppendError::not_written(error)).await;
                }
            }
            if !self.is_repeatable(batch) {
                let text =
                    "the server does not know `dedup`: the batch is not sent again, since it may be stored";
                return self.set_aside(spool, *key, Aside::Unknown, Error::invalid(text)).await;
            }
        }
        let batches: Vec<Batch> = oldest.iter().map(|spooled| spooled.batch.clone()).collect();
        self.draining.clone_from(&oldest);
        let sent = self.send_all(&batches).await;
        self.draining.clear();
        let mut keys = Vec::with_capacity(oldest.len());
        let mut failed = None;
        for (Spooled { batch, key }, sent) in oldest.iter().zip(sent) {
            match sent {
                Sent::Acknowledged(appended) => {
                    keys.push(*key);
                    self.push_receipt(batch, appended, false).await;
                }
                Sent::Failed(failure) if failed.is_none() => failed = Some((*key, batch.clone(), failure)),
                Sent::Failed(_) | Sent::Nothing => {}
            }
        }
        self.delivered.extend(keys);
        if !self.remove_delivered(spool).await {
            return;
        }
        if let Some((key, batch, failure)) = failed {
            self.spooled_failed(spool, key, &batch, failure).await;
        }
    }

    /// Removes what the server has acknowledged, so that it is not sent again; whether it could.
    async fn remove_delivered(&mut self, spool: &SharedSpool) -> bool {
        if self.delivered.is_empty() {
            return true;
        }
        let (removed, result) = spool.remove(self.delivered.clone()).await;
        self.shared.unspooled(removed);
        match result {
            Ok(()) => {
                for key in self.delivered.drain(..) {
                    self.doubtful.remove(&key);
                }
                self.patience.reset();
                true
            }
            Err(error) => {
                self.spool_failed(error).await;
                false
            }
        }
    }

    /// The oldest batch of the spool was not acknowledged.
    async fn spooled_failed(
        &mut self,
        spool: &SharedSpool,
        key: SpoolKey,
        batch: &Batch,
        failure: AppendError,
    ) {
        if batch.id().is_some() && self.server_dedup {
            // docs/protocol.md, "Dedup": on this connection what follows would be refused.
            self.link.forget();
        }
        if failure.outcome == Outcome::Unknown && !self.is_repeatable(batch) {
            return self.set_aside(spool, key, Aside::Unknown, failure.error).await;
        }
        if !is_transient(&failure.error) {
            let why = match failure.outcome {
                Outcome::Unknown => Aside::Unknown,
                Outcome::NotWritten => Aside::Refused,
            };
            return self.set_aside(spool, key, why, failure.error).await;
        }
        if failure.outcome == Outcome::Unknown {
            self.doubtful.insert(key);
        }
        self.shared.set_away(&failure.error);
        let delay = self.patience.next_delay().unwrap_or_default();
        let attempts = self.patience.failures();
        if failure.error.kind() == ErrorKind::Connect || attempts >= CLOSING_ATTEMPTS {
            self.lose_hope(&failure.error);
        }
        if self.hopeless.is_some() {
            return;
        }
        if self.is_patience_spent() {
            self.give_up_without_room(&failure.error);
        }
        debug!(error = %failure, ?delay, attempts, "will send the spool again");
        let AppendError { error, outcome } = failure;
        self.shared.events.tell(|| WriterEvent::Retrying { error, outcome, attempts, delay });
        self.rest(delay).await;
    }

    /// Gives up what waits and finds no room in the spool, as it would be without one.
    fn give_up_without_room(&mut self, error: &Error) {
        while let Some(batch) = self.shared.take_without_room() {
            let (error, outcome) = (error.clone(), Outcome::NotWritten);
            self.give_up(FailedBatch { batch, error, outcome, attempts: 0 });
        }
    }

    /// Makes the way free for those behind a batch that will never be accepted.
    async fn set_aside(&mut self, spool: &SharedSpool, key: SpoolKey, why: Aside, error: Error) {
        let (removed, set_aside) = spool.set_aside(key, why).await;
        self.doubtful.remove(&key);
        self.shared.set_aside(removed, &error);
        match set_aside {
            Ok(path) => {
                let path = path.unwrap_or_default();
                warn!(topic = %self.shared.topic, path = %path.display(), %error, "a batch of the spool was set aside");
                self.shared.events.tell(|| WriterEvent::SetAside { path, error });
            }
            Err(error) => self.spool_failed(error).await,
        }
    }

    /// The disk has failed: waits before it is tried again.
    async fn spool_failed(&mut self, error: Error) {
        warn!(topic = %self.shared.topic, %error, "the spool could not be used");
        if self.shared.is_closing() {
            self.hopeless.get_or_insert_with(|| error.clone());
        }
        self.shared.events.tell(|| WriterEvent::SpoolFailed { error });
        let delay = self.patience.next_delay().unwrap_or_default();
        self.rest(delay).await;
    }

    /// Waits, but not for long when the writer closes.
    async fn rest(&self, delay: std::time::Duration) {
        tokio::select! {
            biased;
            () = self.shared.closing.notified() => {}
            () = sleep(delay) => {}
        }
    }
}
