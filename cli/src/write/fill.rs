//! Messages into batches: the task that reads the input.
//!
//! A batch is queued when the next message does not fit, when its first message has waited for the wait interval, and
//! at the end. The queue is short: while it is full, nothing more is read.

use std::ffi::OsString;
use std::time::Duration;

use logd_client::{Batch, BatchBuilder, PushError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::lines::Lines;
use crate::exit::Failure;
use crate::input::Input;

/// Why there are no more messages. Those before are queued, all of them.
#[derive(Debug)]
pub(crate) enum End {
    /// The input came to its end.
    Whole,
    /// The input was stopped; so many bytes of a line that had begun were left out.
    Stopped { left_out: usize },
    /// The next message fits no batch, or could not be read.
    Failed(Failure),
}

/// A batch on its way to the server.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) batch: Batch,
    /// The bytes of its messages themselves.
    pub(crate) message_bytes: u64,
}

/// A message that fits no batch.
struct TooLong {
    bytes: usize,
    bytes_max: usize,
}

/// A batch that is being filled, and the queue it goes to.
#[derive(Debug)]
pub(crate) struct Filler {
    builder: BatchBuilder,
    batch_bytes: usize,
    wait_interval: Duration,
    /// When the batch is to be queued; set while it is not empty.
    due: Option<Instant>,
    queue: mpsc::Sender<Filled>,
    /// The bytes of the messages in the batch.
    message_bytes: u64,
    /// How many messages were put into batches.
    messages: u64,
}

impl Filler {
    pub(crate) const fn new(
        builder: BatchBuilder,
        batch_bytes: usize,
        wait_interval: Duration,
        queue: mpsc::Sender<Filled>,
    ) -> Self {
        Self { builder, batch_bytes, wait_interval, due: None, queue, message_bytes: 0, messages: 0 }
    }

    /// Queues the messages, one after the other.
    pub(crate) async fn take_messages(mut self, messages: Vec<OsString>) -> End {
        for message in messages {
            if let Err(too_long) = self.push(message.as_encoded_bytes()).await {
                return self.refuse(too_long, "message", false).await;
            }
        }
        self.end(End::Whole).await
    }

    /// Queues every line of `input`.
    pub(crate) async fn take_lines(mut self, mut input: Input) -> End {
        let mut lines = Lines::new(self.batch_bytes);
        loop {
            let block = match self.next_block(&mut input).await {
                Ok(Some(block)) => block,
                Ok(None) => break,
                Err(failure) => return self.end(End::Failed(failure)).await,
            };
            lines.push(block);
            while let Some(line) = lines.next() {
                if let Err(too_long) = self.push(line.bytes).await {
                    return self.refuse(too_long, "line", line.is_cut).await;
                }
            }
        }
        let rest = lines.rest().unwrap_or_default();
        if input.is_stopped() {
            return self.end(End::Stopped { left_out: rest.len() }).await;
        }
        if !rest.is_empty()
            && let Err(too_long) = self.push(rest).await
        {
            return self.refuse(too_long, "line", false).await;
        }
        self.end(End::Whole).await
    }

    /// The next block. Queues the batch when it is due before a block comes.
    async fn next_block(&mut self, input: &mut Input) -> Result<Option<Vec<u8>>, Failure> {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            // Lines come in steadily, so that none is ever waited for.
            self.queue_batch().await;
        }
        while let Some(due) = self.due {
            match timeout_at(due, input.next()).await {
                Ok(block) => return block,
                Err(_) => self.queue_batch().await,
            }
        }
        input.next().await
    }

    async fn push(&mut self, message: &[u8]) -> Result<(), TooLong> {
        loop {
            match self.builder.push(message) {
                Ok(_) => break,
                Err(PushError::Full { .. }) => self.queue_batch().await,
                Err(PushError::TooLong { bytes, bytes_max }) => return Err(TooLong { bytes, bytes_max }),
            }
        }
        self.messages += 1;
        self.message_bytes += message.len() as u64;
        if self.due.is_none() {
            self.due = Some(Instant::now() + self.wait_interval);
        }
        Ok(())
    }

    async fn queue_batch(&mut self) {
        self.due = None;
        if let Some(batch) = self.builder.finish() {
            let message_bytes = std::mem::take(&mut self.message_bytes);
            // The other task drops its end only when it has failed; it says so itself, and this one is not run on.
            let _ = self.queue.send(Filled { batch, message_bytes }).await;
        }
    }

    async fn refuse(self, too_long: TooLong, what: &str, is_cut: bool) -> End {
        let TooLong { bytes, bytes_max } = too_long;
        let number = self.messages + 1;
        let more = if is_cut { "more than " } else { "" };
        let text = format!(
            "{what} {number} has {more}`{bytes}` bytes: the longest that fits a batch of `{}` bytes has `{bytes_max}`",
            self.batch_bytes
        );
        self.end(End::Failed(Failure::failed(text))).await
    }

    /// Queues what there is.
    async fn end(mut self, end: End) -> End {
        self.queue_batch().await;
        end
    }
}
