//! A writer as [`std::io::Write`]: every line becomes a message.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dropped::Dropped;
use super::events::WriterEvent;
use super::lines::Lines;
use super::mark::Identity;
use super::shared::Shared;
use super::sync::{Patience, place};
use super::waiting::Promised;
use super::{WriteError, Writer};
use crate::error::{Error, ErrorKind};
use crate::park::Place;

/// Takes text for a [`Writer`] from synchronous code, such as a logger: a line is a message. See [`Writer::io`].
///
/// - A message is the line without its `\n`; a `\r` before that stays, and an empty line is an empty message.
/// - A line is sent when its end has come. Its beginning is kept until then, by each clone for itself, also when it is
///   flushed; when the clone is dropped, it is a message without its end.
/// - A line that is longer than the longest message is several messages, each as long as can be without cutting a
///   character.
/// - A message is never mixed with that of another clone, whatever the threads do.
///
/// Where there is no room, [`write`](io::Write::write) waits, for the [budget](super::WriterBuilder::budget) at most and
/// for all of its lines together. The thread is held up meanwhile; on a thread of a runtime of several threads, others
/// take over its tasks. See [`TaskRuntime`](super::TaskRuntime) for where the writer's task should run, and the panic that
/// [`Writer::flush_blocking`] tells of.
///
/// [`flush`](io::Write::flush) does nothing: lines are handed over as they end. Whether they were sent is told by
/// [`Writer::flush`] and [`Writer::flush_blocking`].
///
/// # Errors
/// An error of `write` says that at least one line was refused, with a [`WriteError`] as the inner error:
/// [`TimedOut`](io::ErrorKind::TimedOut) for [`WriteError::Dropped`], [`BrokenPipe`](io::ErrorKind::BrokenPipe) for
/// [`WriteError::Closed`], [`StorageFull`](io::ErrorKind::StorageFull) for [`WriteError::BacklogFull`],
/// [`NotConnected`](io::ErrorKind::NotConnected) for [`WriteError::Away`]. The call has dealt with all that it was given
/// all the same: it must not be repeated, so this must not be wrapped into a buffer that does. For loggers that do not
/// look at errors, every line that is refused counts as [dropped](Writer::dropped), whatever the reason, and the topic
/// will say so.
///
/// # Logging through the writer itself
/// What the writer's own tasks log while this is where the application's log goes, as they do when a server is away, is
/// not taken, or each line could cause the next. It is counted in
/// [`WriterStats::suppressed`](super::WriterStats::suppressed). That holds for what is logged by handlers of its errors and
/// receipts, too; they can call [`Writer::write`]. And it holds for the last of all, that a writer which was dropped has lost
/// something: close it, and look at what that says.
///
/// ```no_run
/// use std::io::Write;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let writer = logd_client::Writer::builder(logd_client::ClientConfig::default()).open()?;
/// let mut lines = writer.io();
/// writeln!(lines, "the answer is {}", 42)?;
/// writer.close_blocking(std::time::Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
///
/// With `tracing-subscriber`, `move || lines.clone()` is a `MakeWriter`:
///
/// ```
/// # let writer = logd_client::Writer::builder(logd_client::ClientConfig::default()).open()?;
/// # let lines = writer.io();
/// tracing_subscriber::fmt()
///     .with_ansi(false)
///     .with_writer(move || lines.clone())
///     // Else it prints a line to standard error for each that is refused.
///     .log_internal_errors(false)
///     .init();
/// # Ok::<(), logd_client::Error>(())
/// ```
#[derive(Debug)]
pub struct LineWriter {
    shared: Arc<Shared>,
    place: Place,
    lines: Lines,
}

impl Writer {
    /// Takes lines from synchronous code.
    ///
    /// It does not keep the writer open, so that a logger which is never dropped does not, either: keep the writer, and
    /// close or drop it when the program ends. What is written behind that is refused.
    pub fn io(&self) -> LineWriter {
        let shared = Arc::clone(&self.handle.shared);
        let bytes_max = shared.lock().open.message_bytes_max();
        LineWriter { shared, place: place(self.handle.thread), lines: Lines::new(bytes_max) }
    }
}

impl Clone for LineWriter {
    /// The same writer; what is kept of a line stays with this one. It allocates nothing.
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            place: self.place,
            lines: Lines::new(self.lines.bytes_max()),
        }
    }
}

impl io::Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sink = Sink::new(&self.shared, self.place);
        self.lines.push(bytes, |message| sink.put(message));
        sink.refused.map_or(Ok(bytes.len()), |error| Err(error.into()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let Self { shared, place, lines } = self;
        // What is refused is counted.
        lines.end(|message| Sink::new(shared, *place).put(message));
    }
}

impl From<WriteError> for io::Error {
    /// The kind is told with [`LineWriter`]; [`WriteError::TooLong`] is [`InvalidInput`](io::ErrorKind::InvalidInput).
    fn from(error: WriteError) -> Self {
        let kind = match &error {
            WriteError::TooLong { .. } => io::ErrorKind::InvalidInput,
            WriteError::Closed => io::ErrorKind::BrokenPipe,
            WriteError::Dropped { .. } => io::ErrorKind::TimedOut,
            WriteError::BacklogFull => io::ErrorKind::StorageFull,
            WriteError::Away { .. } => io::ErrorKind::NotConnected,
        };
        Self::new(kind, error)
    }
}

/// Where the messages of one call go.
struct Sink<'a> {
    shared: &'a Shared,
    place: Place,
    /// Whether the writer's own work has caused the call.
    is_own: bool,
    patience: Patience,
    /// Why the first of them was refused that was.
    refused: Option<WriteError>,
}

impl<'a> Sink<'a> {
    fn new(shared: &'a Arc<Shared>, place: Place) -> Self {
        let is_own = Identity::of(shared).is_marked();
        Self { shared, place, is_own, patience: Patience::default(), refused: None }
    }

    fn put(&mut self, message: &[u8]) {
        if self.is_own {
            self.shared.suppressed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Err(error) = self.shared.put_blocking(message, Promised::No, &mut self.patience, self.place) {
            self.shared.refuse(message, &error);
            self.refused.get_or_insert(error);
        }
    }
}

impl Shared {
    /// Counts a message that was refused as dropped, unless it was counted already.
    fn refuse(&self, message: &[u8], error: &WriteError) {
        let kind = match error {
            WriteError::Dropped { .. } => return,
            WriteError::Closed => ErrorKind::Closed,
            WriteError::Away { error } => error.kind(),
            WriteError::TooLong { .. } | WriteError::BacklogFull => ErrorKind::Invalid,
        };
        let bytes = message.len() as u64;
        self.lock().drop_messages(1, bytes, true);
        let error = Error::new(kind, error.to_string());
        self.events.tell(|| WriterEvent::Dropped { dropped: Dropped { messages: 1, bytes }, error });
    }
}
