//! Batches to the server: the task that owns the connection.
//!
//! One batch at a time, in order; the first that fails ends it. A batch is sent again only where it surely was not
//! written and trying again can help.

use std::time::Duration;

use logd_client::{AppendError, Batch, Client, ErrorKind, Offset, Outcome};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;

use super::fill::Filled;
use crate::counts::Counts;
use crate::output::Output;

/// A batch that was not acknowledged.
#[derive(Debug)]
pub(crate) struct Undelivered {
    pub(crate) failure: AppendError,
    /// How many messages it has.
    pub(crate) messages: u64,
}

/// What appending takes.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) client: Client,
    pub(crate) counts: &'a Counts,
    pub(crate) output: &'a mut Output,
    pub(crate) retries: u32,
    pub(crate) retry_interval: Duration,
}

impl Sender<'_> {
    /// Appends every batch of the queue, until it ends, and prints the offsets.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Filled>) -> Result<(), Undelivered> {
        while let Some(Filled { batch, message_bytes }) = queue.recv().await {
            let offset = self
                .append(&batch)
                .await
                .map_err(|failure| Undelivered { failure, messages: batch.messages() })?;
            self.counts.add_messages(batch.messages(), message_bytes);
            self.counts.add_batch();
            self.output.put(format!("{offset}\n").as_bytes());
            // Where nobody wants the offsets, the messages are still to be delivered.
            let _ = self.output.flush().await;
        }
        // Everything was acknowledged, and the connection ends in any case.
        let _ = self.client.close().await;
        Ok(())
    }

    async fn append(&mut self, batch: &Batch) -> Result<Offset, AppendError> {
        let mut retries = self.retries;
        loop {
            let failure = match self.client.append(batch).await {
                Ok(offset) => return Ok(offset),
                Err(failure) => failure,
            };
            // The client itself has tried often enough to connect.
            let can_help = failure.outcome == Outcome::NotWritten
                && failure.error.is_retryable()
                && failure.error.kind() != ErrorKind::Connect;
            if !can_help || retries == 0 {
                return Err(failure);
            }
            retries -= 1;
            debug!(error = %failure, "will send the batch again");
            sleep(self.retry_interval).await;
        }
    }
}
