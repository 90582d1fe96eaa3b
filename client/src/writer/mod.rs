//! Writing many messages: batches that fill while others are under way.
//!
//! A [`Writer`] is a handle. [`Writer::write`] frames the message straight into the open batch, which all handles of
//! the writer share, and returns. A task of its own owns the connection and sends a batch when it is full, or old
//! enough, or awaited by a flush.
//!
//! What cannot be delivered is handed back whole: see [`Writer::failed`].

mod backlog;
mod builder;
mod delivery;
mod drain;
mod dropped;
mod events;
mod fill;
mod io;
mod limits;
mod lines;
mod mark;
mod own;
mod queue;
mod receipt;
mod row;
mod shared;
mod spooler;
mod state;
mod stats;
mod supply;
mod sync;
mod task;
mod waiting;

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio::runtime::Handle as Runtime;
use tokio::task::coop::consume_budget;

pub use self::backlog::Backlog;
pub use self::builder::{UnknownOutcome, WriterBuilder};
pub use self::delivery::Delivery;
pub use self::dropped::Dropped;
pub use self::events::{ErrorHandler, WriterEvent};
pub use self::io::LineWriter;
pub use self::limits::{WhenAway, WhenFailed};
pub use self::own::TaskRuntime;
pub use self::receipt::{Receipt, StatePusher};
use self::shared::Shared;
pub use self::stats::WriterStats;
use self::waiting::Promised;
use crate::backlog::{FailedBatch, FlushError};
use crate::config::ClientConfig;
use crate::error::Error;

/// A message was not taken. Nothing of it was kept.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum WriteError {
    /// No batch has room for the message: it must be shorter, or `batch_bytes` larger.
    #[error("a message of `{bytes}` bytes does not fit a batch: the longest that fits has `{bytes_max}`")]
    TooLong {
        /// The length of the message.
        bytes: usize,
        /// The longest message that fits.
        bytes_max: usize,
    },
    /// The writer is closed or dropped, or its task has ended with its runtime.
    #[error("the writer is closed")]
    Closed,
    /// There was no room within the writer's budget: the message was dropped, and counted.
    #[error("there was no room for the message within `{budget:?}`: it was dropped")]
    Dropped {
        /// How long the write waited.
        budget: Duration,
    },
    /// The backlog is full of failed batches, and the writer was not told to drop any: some must be taken.
    #[error("the backlog of failed batches is full: take them with `failed`")]
    BacklogFull,
    /// The server is away, and the writer was told to fail then.
    #[error("the server is away: {error}")]
    Away {
        /// Why it could not be reached.
        #[source]
        error: Error,
    },
}

/// Writes messages to a topic. Clones write to the same batches.
///
/// Messages that one task writes one after the other keep their order. Close the writer before the last handle is
/// dropped: only then is it certain what became of every message. What a dropped writer has not sent is still tried
/// for 5 seconds, and its loss is logged.
///
/// ```no_run
/// use logd_client::{ClientConfig, TopicName, Writer};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let writer = Writer::builder(ClientConfig::new("127.0.0.1:1774")).topic(TopicName::new("greetings")?).open()?;
/// writer.write(b"hello").await?;
/// writer.write(b"world").await?;
/// if let Err(error) = writer.close().await {
///     eprintln!("{error}");
///     while let Some(failed) = writer.failed() {
///         eprintln!("{} messages: {}", failed.batch.messages(), failed.error);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    handle: Arc<Handle>,
}

/// What the clones of a writer share; when it is dropped, no handle is left.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The thread of the writer's task, if it has one of its own.
    thread: Option<ThreadId>,
    /// The runtime of the writer's task, if that has several threads.
    runtime: Option<Runtime>,
}

impl Writer {
    /// The default settings for a writer to the configured server.
    pub fn builder(config: ClientConfig) -> WriterBuilder {
        WriterBuilder::new(config)
    }

    /// Puts a copy of `message`, which can be empty, into the open batch. Waits for room, for the
    /// [budget](WriterBuilder::budget) at most.
    ///
    /// That this returns does not mean that the message has been sent: [`Writer::flush`] tells.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the message was kept.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not taken.
    pub async fn write(&self, message: &[u8]) -> Result<(), WriteError> {
        // A loop of writes that never have to wait would keep the writer's task from running on the same thread.
        consume_budget().await;
        self.handle.shared.put(message, Promised::No).await.map(|_| ())
    }

    /// As [`Writer::write`], and returns a future of its own that tells what became of the message.
    ///
    /// All messages of a batch share what it takes: one allocation a batch, none for each message.
    ///
    /// ```no_run
    /// # async fn example(writer: logd_client::Writer) -> Result<(), Box<dyn std::error::Error>> {
    /// let delivery = writer.send(b"important").await?;
    /// let position = delivery.await?;
    /// println!("it is at {position}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the message was kept.
    ///
    /// # Cancel safety
    /// When the future is dropped before it is ready, the message was not taken. Dropping the [`Delivery`] loses only
    /// the news.
    pub async fn send(&self, message: &[u8]) -> Result<Delivery, WriteError> {
        consume_budget().await;
        let delivery = self.handle.shared.put(message, Promised::Yes).await?;
        delivery.ok_or(WriteError::Closed)
    }

    /// Waits until everything that was written before is acknowledged, has failed, or is in the spool.
    ///
    /// # Errors
    /// [`FlushError`] when some of it failed, now or before, and has not been taken since with [`Writer::failed`]; or
    /// when something is in the spool, also of what was written before the writer was opened.
    ///
    /// # Cancel safety
    /// When the future is dropped, what was written is sent at once all the same; only the news of it is lost.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.handle.shared.flush().await
    }

    /// Takes no more messages, waits as [`Writer::flush`] does, and ends the writer's task.
    ///
    /// When the server cannot be reached, the first batch is tried as the retry policy says and those behind it are
    /// given up with it. With a policy of endless attempts this waits without end, too; with a spool it does not, for
    /// everything goes there. What is in the spool is sent for as long as the server takes it: where that can be too long,
    /// give this future a time, and drop the writer.
    ///
    /// Closing again is no error. Failed batches can still be taken afterwards.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    ///
    /// # Cancel safety
    /// When the future is dropped the writer is closing all the same; closing again waits for it again.
    pub async fn close(&self) -> Result<(), FlushError> {
        self.handle.shared.close();
        self.handle.shared.ended().await;
        self.handle.shared.flush().await
    }

    /// What became of every message so far.
    pub fn stats(&self) -> WriterStats {
        self.handle.shared.stats()
    }

    /// How many messages were dropped so far because there was no room for them in time.
    pub fn dropped(&self) -> u64 {
        self.stats().dropped
    }

    /// What was given up, as a handle that can be waited for, and kept for longer than the writer.
    pub fn backlog(&self) -> Backlog {
        Backlog::new(Arc::clone(&self.handle.shared))
    }

    /// Takes the oldest batch that was given up. The room that it took is free then.
    ///
    /// Batches that were written later may have been delivered.
    pub fn failed(&self) -> Option<FailedBatch> {
        self.handle.shared.take_failed()
    }

    /// Hands a failed batch in again, behind everything that has been written.
    ///
    /// This does not wait for room: what is held can exceed `buffer_bytes` by the batches handed in.
    ///
    /// # Errors
    /// [`WriteError::Closed`]: the batch is back in the backlog.
    pub fn retry(&self, failed: FailedBatch) -> Result<(), WriteError> {
        self.handle.shared.retry(failed)
    }
}

#[cfg(test)]
mod tests;
