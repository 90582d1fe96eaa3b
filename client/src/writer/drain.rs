//! Sending what is in the spool, oldest first.
//!
//! A batch leaves the spool when the server has acknowledged it, and is set aside when it never will. While the server
//! is away it stays, for as long as the writer is open; a writer that closes tries a few times where it can connect, and once where it cannot.

use logd_protocol::Batch;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::events::WriterEvent;
use super::row::Sent;
use super::spooler::{Removed, SharedSpool};
use super::task::{Task, is_transient};
use crate::error::{AppendError, Error, ErrorKind, Outcome};
use crate::spool::{Aside, SpoolKey, Spooled};

/// How often in a row a writer that closes tries to send what is in the spool, if it can connect.
const CLOSING_ATTEMPTS: u32 = 3;

/// The most bytes that are read from the spool at once, unless a single batch has more.
const READ_BYTES: u64 = 4 * 1024 * 1024;

impl Task {
    /// Sends what is older in the spool than the batch of this number, however long that takes, but not in vain while
    /// the writer closes.
    pub(super) async fn drain_before(&mut self, number: Option<u64>) {
        let (Some(spool), Some(number)) = (self.spool.clone(), number) else { return };
        while self.hopeless.is_none() && spool.has_before(number) {
            self.drain_up_to(&spool, number).await;
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
        let batches: Vec<Batch> = oldest.iter().map(|spooled| spooled.batch.clone()).collect();
        let sent = self.send_all(&batches).await;
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
        if !keys.is_empty() {
            self.patience.reset();
            let (Removed { batches, messages, bytes }, removed) = spool.remove(keys).await;
            self.shared.unspooled(batches, messages, bytes, false);
            if let Err(error) = removed {
                return self.spool_failed(error).await;
            }
        }
        if let Some((key, batch, failure)) = failed {
            self.spooled_failed(spool, key, &batch, failure).await;
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
            return self.set_aside(spool, key, Aside::Refused, failure.error).await;
        }
        self.shared.is_away(&failure.error);
        let delay = self.patience.next_delay().unwrap_or_default();
        let attempts = self.patience.failures();
        if failure.error.kind() == ErrorKind::Connect || attempts >= CLOSING_ATTEMPTS {
            self.lose_hope(&failure.error);
        }
        if self.hopeless.is_some() {
            return;
        }
        debug!(error = %failure, ?delay, attempts, "will send the spool again");
        let AppendError { error, outcome } = failure;
        self.shared.events.tell(|| WriterEvent::Retrying { error, outcome, attempts, delay });
        self.rest(delay).await;
    }

    /// Makes the way free for those behind a batch that will never be accepted.
    async fn set_aside(&mut self, spool: &SharedSpool, key: SpoolKey, why: Aside, error: Error) {
        let (Removed { batches, messages, bytes }, set_aside) = spool.set_aside(key, why).await;
        self.shared.unspooled(batches, messages, bytes, true);
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
            () = sleep(delay) => {}
            () = self.shared.closing.notified() => {}
        }
    }
}
