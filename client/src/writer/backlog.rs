//! A handle on what a writer has given up.

use std::sync::Arc;

use super::shared::Shared;
use super::stats::WriterStats;
use crate::backlog::FailedBatch;

/// The batches that a writer has given up, oldest first. Clones are the same backlog.
///
/// It can be kept for longer than the writer: what a dropped writer could not deliver is here, unless it is in a spool.
/// How much there can be, for how long, and what happens when it is full is said by
/// [`backlog_bytes`](super::WriterBuilder::backlog_bytes), [`backlog_age`](super::WriterBuilder::backlog_age) and
/// [`when_backlog_full`](super::WriterBuilder::when_backlog_full).
///
/// A batch that was taken and not handed in again is its taker's: [`Writer::close`](super::Writer::close) neither waits for
/// it nor tells of it.
///
/// ```no_run
/// # async fn example(writer: logd_client::Writer) -> Result<(), Box<dyn std::error::Error>> {
/// let backlog = writer.backlog();
/// while let Some(failed) = backlog.next().await {
///     eprintln!("{} messages, {}: {}", failed.batch.messages(), failed.outcome, failed.error);
///     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
///     writer.retry(failed)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Backlog {
    shared: Arc<Shared>,
}

impl Backlog {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Takes the oldest batch; `None` when there is none now.
    pub fn take(&self) -> Option<FailedBatch> {
        self.shared.take_failed()
    }

    /// Waits for a batch and takes it; `None` when there is none and the writer has ended.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, nothing was taken.
    pub async fn next(&self) -> Option<FailedBatch> {
        loop {
            let news = self.shared.failed.notified();
            let mut news = std::pin::pin!(news);
            // From here on none is missed.
            news.as_mut().enable();
            let has_ended = *self.shared.ended.borrow();
            let failed = self.take();
            if failed.is_some() || has_ended {
                return failed;
            }
            news.await;
        }
    }

    /// The batches that are there now, oldest first. They stay, and share their bytes with these.
    pub fn iter(&self) -> std::vec::IntoIter<FailedBatch> {
        self.shared.expire();
        self.shared.lock().backlog.iter().cloned().collect::<Vec<_>>().into_iter()
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.shared.lock().backlog.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of all batches.
    pub fn bytes(&self) -> usize {
        self.shared.lock().backlog.bytes()
    }

    /// The messages of all batches.
    pub fn messages(&self) -> u64 {
        self.shared.lock().backlog.messages()
    }

    /// What became of every message of the writer so far, also when it is gone.
    pub fn stats(&self) -> WriterStats {
        self.shared.stats()
    }
}

impl IntoIterator for &Backlog {
    type Item = FailedBatch;
    type IntoIter = std::vec::IntoIter<FailedBatch>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
