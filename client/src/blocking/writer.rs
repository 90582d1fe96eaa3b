//! A writer for synchronous code, with a thread of its own.

use std::task::Poll;
use std::time::Duration;

use logd_statehandlers::Position;

use crate::backlog::{FailedBatch, FlushError};
use crate::error::{AppendError, Error};
use crate::park::{self, Place, wait_until};
use crate::writer::{Backlog, LineWriter, TaskRuntime, WriteError, WriterBuilder, WriterStats};

/// Writes messages to a topic from synchronous code; otherwise as the async [`Writer`](crate::Writer).
///
/// Clones write to the same batches. The thread `logd-writer` sends them. When the last clone is dropped, that waits until
/// everything is sent, for 10 seconds at most; [`Writer::close`] tells whether it was.
///
/// ```no_run
/// use logd_client::ClientConfig;
/// use logd_client::blocking::Writer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let writer = Writer::open(logd_client::Writer::builder(ClientConfig::new("127.0.0.1:1774")))?;
/// let position = writer.send(b"important")?.wait()?;
/// println!("it is at {position}");
/// writer.write(b"less so")?;
/// writer.close()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Writer {
    writer: crate::Writer,
}

impl Writer {
    /// Starts a writer with these settings, and with [`TaskRuntime::Own`].
    ///
    /// # Errors
    /// As [`WriterBuilder::open`].
    pub fn open(builder: WriterBuilder) -> Result<Self, Error> {
        builder.runtime(TaskRuntime::Own).open().map(|writer| Self { writer })
    }

    /// Puts a copy of `message`, which can be empty, into the open batch. Waits for room, for the
    /// [budget](WriterBuilder::budget) at most.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the message was kept.
    pub fn write(&self, message: &[u8]) -> Result<(), WriteError> {
        self.writer.write_blocking(message)
    }

    /// As [`Writer::write`], and returns what tells what became of the message.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the message was kept.
    pub fn send(&self, message: &[u8]) -> Result<Delivery, WriteError> {
        self.writer.send_blocking(message).map(|delivery| Delivery { delivery: Some(delivery) })
    }

    /// Waits until everything that was written before is acknowledged, has failed, or is in the spool, however long that
    /// takes. [`Writer::flush_blocking`](crate::Writer::flush_blocking), which [`Writer::as_async`] has, takes a time.
    ///
    /// # Errors
    /// As [`Writer::flush_blocking`](crate::Writer::flush_blocking).
    pub fn flush(&self) -> Result<(), FlushError> {
        self.writer.flush_blocking(Duration::MAX)
    }

    /// Takes no more messages, waits as [`Writer::flush`] does, and ends the writer's thread. Closing again is no error.
    ///
    /// # Errors
    /// As [`Writer::flush`].
    pub fn close(&self) -> Result<(), FlushError> {
        self.writer.close_blocking(Duration::MAX)
    }

    /// Takes lines, as a logger writes them. See [`LineWriter`].
    pub fn io(&self) -> LineWriter {
        self.writer.io()
    }

    /// Takes the oldest batch that was given up, as the async [`Writer::failed`](crate::Writer::failed).
    pub fn failed(&self) -> Option<FailedBatch> {
        self.writer.failed()
    }

    /// Hands a failed batch in again, behind everything that has been written.
    ///
    /// # Errors
    /// [`WriteError::Closed`]: the batch is back in the backlog.
    pub fn retry(&self, failed: FailedBatch) -> Result<(), WriteError> {
        self.writer.retry(failed)
    }

    /// What was given up, as a handle that can be kept for longer than the writer.
    pub fn backlog(&self) -> Backlog {
        self.writer.backlog()
    }

    /// What became of every message so far.
    pub fn stats(&self) -> WriterStats {
        self.writer.stats()
    }

    /// How many messages were dropped so far because there was no room for them in time.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    /// The same writer for async code. A clone of it is a handle as any other.
    pub const fn as_async(&self) -> &crate::Writer {
        &self.writer
    }
}

/// Tells where a message is when the server has it, as the async [`Delivery`](crate::Delivery).
///
/// Dropping it loses the news, not the message.
#[derive(Debug)]
#[must_use = "a delivery that is not waited for tells nobody that the message failed"]
pub struct Delivery {
    /// There until it has told.
    delivery: Option<crate::Delivery>,
}

impl Delivery {
    /// Waits for the news, however long that takes.
    ///
    /// # Errors
    /// Why the message's batch was given up, and whether it may be in the topic all the same.
    pub fn wait(mut self) -> Result<Position, AppendError> {
        match self.poll(Duration::MAX) {
            Poll::Ready(told) => told,
            Poll::Pending => Err(told_before()),
        }
    }

    /// Waits for the news, for `timeout` at most: [`Poll::Pending`] when there was none until then. It is told once.
    ///
    /// # Errors
    /// As [`Delivery::wait`]; [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when it was told before.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Poll<Result<Position, AppendError>> {
        self.poll(timeout)
    }

    fn poll(&mut self, timeout: Duration) -> Poll<Result<Position, AppendError>> {
        let Some(delivery) = &mut self.delivery else { return Poll::Ready(Err(told_before())) };
        let told = wait_until(delivery, park::deadline(timeout), Place::Elsewhere);
        told.map_or(Poll::Pending, |told| {
            self.delivery = None;
            Poll::Ready(told)
        })
    }
}

fn told_before() -> AppendError {
    AppendError::unknown(Error::invalid("what became of the message was told before"))
}
