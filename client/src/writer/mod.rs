//! Writing many messages: batches that fill while others are under way.
//!
//! A [`Writer`] is a handle. [`Writer::write`] frames the message straight into the open batch, which all handles of
//! the writer share, and returns. A task of its own owns the connection and sends a batch when it is full, or old
//! enough, or awaited by a flush.
//!
//! What cannot be delivered is handed back whole: see [`Writer::failed`].

mod delivery;
mod dropped;
mod fill;
mod limits;
mod state;
mod task;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Offset, TopicName};
use thiserror::Error as ThisError;
use tokio::runtime::Handle as Runtime;
use tokio::task::coop::consume_budget;

pub use self::delivery::Delivery;
use self::limits::Limits;
use self::state::Shared;
use self::task::{OnReceipt, Task};
use crate::backlog::{FailedBatch, FlushError};
use crate::config::{ClientConfig, check_batch_bytes};
use crate::error::Error;
use crate::session::Link;

/// How long after its first message a batch is sent, by default.
const WAIT_INTERVAL_DEFAULT: Duration = Duration::from_millis(10);
/// How many batches are under way at once, by default.
const IN_FLIGHT_DEFAULT: usize = 4;
/// The most that there can be: a server remembers some hundred batches of a writer.
const IN_FLIGHT_MAX: usize = 64;
/// How long a write waits for room, by default.
const BUDGET_DEFAULT: Duration = Duration::from_secs(10);
/// The default for what a writer holds: 256 full batches.
const BUFFER_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// A batch was acknowledged: it is in the topic.
///
/// Whether it survives a power cut there is the server's matter, by its flush settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic that has it.
    pub topic: TopicName,
    /// The offset of the batch.
    pub offset: Offset,
    /// The offset behind the batch.
    pub next: Offset,
    /// How many messages it has.
    pub messages: u64,
    /// The checksum of its body.
    pub crc: u32,
}

/// A message was not taken. Nothing of it was kept.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
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
    /// The writer is closed, or its task has ended with its runtime.
    #[error("the writer is closed")]
    Closed,
    /// There was no room within the writer's budget: the message was dropped, and counted.
    #[error("there was no room for the message within `{budget:?}`: it was dropped")]
    Dropped {
        /// How long the write waited.
        budget: Duration,
    },
    /// Failed batches take so much of `buffer_bytes` that no room is left, and none will be until they are taken.
    #[error("the backlog of failed batches is full: take them with `failed`")]
    BacklogFull,
}

/// What a writer does with a batch that was sent whole and never answered, because the connection ended or the server
/// was silent for too long; and that the server could not tell from another one when it is sent again, because it does
/// not know `dedup`, or because the writer was told to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UnknownOutcome {
    /// Hand it back: nothing is ever written twice.
    #[default]
    HandBack,
    /// Send it again as the retry policy says: it may be written twice.
    Retry,
}

/// The settings of a [`Writer`].
#[must_use]
pub struct WriterBuilder {
    config: ClientConfig,
    topic: TopicName,
    limits: Limits,
    in_flight: usize,
    unknown_outcome: UnknownOutcome,
    on_receipt: Option<OnReceipt>,
}

impl WriterBuilder {
    /// The most batches that can be sent before the first of them is answered. Default: 4; from 1 to 64.
    ///
    /// Their order is kept, also when some are refused. Where the server does not know the extension `dedup`, or the
    /// writer was told to do without, one batch is sent at a time.
    pub const fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches;
        self
    }

    /// The topic to write to. Default: `default`. The server makes it with its first batch.
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topic = topic;
        self
    }

    /// The most bytes of a batch, envelope and body. Default: the configuration's; from 512 to 64 MiB. The server
    /// must take batches of this size.
    pub const fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes;
        self
    }

    /// How long after its first message a batch is sent, unless it is full before. Default: 10 ms.
    ///
    /// With 0 it is sent as soon as fewer than [`WriterBuilder::in_flight`] batches are under way.
    pub const fn wait_interval(mut self, interval: Duration) -> Self {
        self.limits.wait_interval = interval;
        self
    }

    /// The most bytes of framed messages that the writer holds, open, waiting, under way or failed. Default: 16 MiB;
    /// at least `batch_bytes`. Writes wait while there are so many.
    ///
    /// The memory used can be twice that, where batches are sent long before they are full.
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffer_bytes = bytes;
        self
    }

    /// How long a write waits for room, at most. Default: 10 seconds.
    ///
    /// A message for which there is no room by then is dropped: the write says so, and how many were dropped is written
    /// to the topic as a message of its own (`logd-writer: 12 messages with 345 bytes were dropped: …`) as soon as a
    /// batch has been acknowledged again. With 0 a write never waits.
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.limits.budget = budget;
        self
    }

    /// Has `function` called with every receipt, in order, before a flush that waits for the batch returns.
    ///
    /// It is called from the writer's task and holds it up: it must not block. When it panics, the writer is closed
    /// and everything that is not acknowledged by then is handed back.
    pub fn on_receipt(mut self, function: impl FnMut(&Receipt) + Send + 'static) -> Self {
        self.on_receipt = Some(Box::new(function));
        self
    }

    /// Whether batches carry an identity, so that a server with the extension `dedup` stores each of them once, however
    /// often it is sent. Default: yes. It takes up to 50 bytes a batch; a server without the extension gets none.
    ///
    /// With it, a batch whose outcome is unknown is sent again as the retry policy says.
    pub const fn dedup(mut self, choice: bool) -> Self {
        self.limits.dedup = choice;
        self
    }

    /// What to do with a batch whose outcome is unknown where the server cannot tell it from another. Default: hand it
    /// back.
    pub const fn unknown_outcome(mut self, choice: UnknownOutcome) -> Self {
        self.unknown_outcome = choice;
        self
    }

    /// Starts the writer's task. It connects when there is something to send.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when a setting is out of its bounds, or when this is not
    /// called within a tokio runtime.
    pub fn open(self) -> Result<Writer, Error> {
        let Limits { batch_bytes, buffer_bytes, .. } = self.limits;
        check_batch_bytes("batch_bytes", batch_bytes)?;
        if buffer_bytes < batch_bytes {
            return Err(Error::invalid(format!(
                "buffer_bytes is `{buffer_bytes}`: it must be at least batch_bytes, which is `{batch_bytes}`"
            )));
        }
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            let in_flight = self.in_flight;
            return Err(Error::invalid(format!(
                "in_flight is `{in_flight}`: it must be from 1 to {IN_FLIGHT_MAX}"
            )));
        }
        let runtime = Runtime::try_current()
            .map_err(|_| Error::invalid("a writer must be opened within a tokio runtime"))?;
        let shared = Arc::new(Shared::new(self.topic, self.limits));
        let task = Task {
            shared: Arc::clone(&shared),
            link: Link::new(self.config),
            unknown_outcome: self.unknown_outcome,
            in_flight_max: self.in_flight,
            server_dedup: false,
            on_receipt: self.on_receipt,
        };
        runtime.spawn(task.run());
        Ok(Writer { handle: Arc::new(Handle { shared }) })
    }
}

impl fmt::Debug for WriterBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WriterBuilder")
            .field("config", &self.config)
            .field("topic", &self.topic)
            .field("limits", &self.limits)
            .field("in_flight", &self.in_flight)
            .field("unknown_outcome", &self.unknown_outcome)
            .finish_non_exhaustive()
    }
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
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl Writer {
    /// The default settings for a writer to the configured server.
    pub fn builder(config: ClientConfig) -> WriterBuilder {
        let limits = Limits {
            batch_bytes: config.batch_bytes,
            wait_interval: WAIT_INTERVAL_DEFAULT,
            buffer_bytes: BUFFER_BYTES_DEFAULT,
            budget: BUDGET_DEFAULT,
            dedup: true,
        };
        WriterBuilder {
            config,
            topic: TopicName::default(),
            limits,
            in_flight: IN_FLIGHT_DEFAULT,
            unknown_outcome: UnknownOutcome::default(),
            on_receipt: None,
        }
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
        self.handle.shared.write(message).await
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
        let delivery = self.handle.shared.send(message).await?;
        delivery.ok_or(WriteError::Closed)
    }

    /// Waits until everything that was written before is acknowledged.
    ///
    /// # Errors
    /// [`FlushError`] when some of it failed, now or before, and has not been taken since with [`Writer::failed`].
    ///
    /// # Cancel safety
    /// When the future is dropped, what was written is sent at once all the same; only the news of it is lost.
    pub async fn flush(&self) -> Result<(), FlushError> {
        self.handle.shared.flush().await
    }

    /// Takes no more messages, waits as [`Writer::flush`] does, and ends the writer's task.
    ///
    /// When the server cannot be reached, the first batch is tried as the retry policy says and those behind it are
    /// given up with it. With a policy of endless attempts this waits without end, too.
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
        let flushed = self.handle.shared.flush().await;
        self.handle.shared.ended().await;
        flushed
    }

    /// How many messages were dropped so far because there was no room for them in time.
    pub fn dropped(&self) -> u64 {
        self.handle.shared.dropped()
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
