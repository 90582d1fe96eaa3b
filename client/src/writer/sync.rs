//! A writer for synchronous code: the thread waits, on whatever runtime it may be.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::delivery::Delivery;
use super::shared::Shared;
use super::waiting::Promised;
use super::{Handle, WriteError, Writer};
use crate::backlog::FlushError;
use crate::error::{Error, ErrorKind};
use crate::park::{self, Place, wait_until};

/// How synchronous code waits for a task on this thread, if it has one of its own.
pub(super) const fn place(thread: Option<ThreadId>) -> Place {
    match thread {
        Some(_) => Place::Elsewhere,
        None => Place::SameRuntime,
    }
}

/// The time that one call can take to find room for all of its messages. It begins with the first wait.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Ends>);

/// When half of the time is over, and when all of it is; `None` for never.
#[derive(Debug, Clone, Copy)]
struct Ends {
    half: Option<Instant>,
    all: Option<Instant>,
}

impl Patience {
    fn ends(&mut self, budget: Duration) -> Ends {
        *self.0.get_or_insert_with(|| Ends { half: park::deadline(budget / 2), all: park::deadline(budget) })
    }
}

impl Shared {
    /// As [`Shared::put`], and holds the thread up meanwhile, for as long as there is patience.
    pub(super) fn put_blocking(
        &self,
        message: &[u8],
        promised: Promised,
        patience: &mut Patience,
        place: Place,
    ) -> Result<Option<Delivery>, WriteError> {
        if let Some(result) = self.put_now(message, promised) {
            return result;
        }
        if self.lock().is_waiting_in_vain {
            self.press_on();
            return Err(self.drop_message(message));
        }
        let begin = tokio::time::Instant::now();
        let Ends { half, all } = patience.ends(self.limits.budget);
        let mut waiting = pin!(self.put_when_room(message, promised));
        if let Some(result) = wait_until(waiting.as_mut(), half, place) {
            return result;
        }
        self.press_on();
        wait_until(waiting, all, place).unwrap_or_else(|| {
            self.has_waited_in_vain(begin);
            Err(self.drop_message(message))
        })
    }
}

impl Writer {
    /// As [`Writer::write`], for synchronous code.
    pub(crate) fn write_blocking(&self, message: &[u8]) -> Result<(), WriteError> {
        self.put_blocking(message, Promised::No).map(|_| ())
    }

    /// As [`Writer::send`], for synchronous code.
    pub(crate) fn send_blocking(&self, message: &[u8]) -> Result<Delivery, WriteError> {
        self.put_blocking(message, Promised::Yes)?.ok_or(WriteError::Closed)
    }

    fn put_blocking(&self, message: &[u8], promised: Promised) -> Result<Option<Delivery>, WriteError> {
        let Handle { shared, thread, .. } = &*self.handle;
        if thread.is_some_and(|thread| thread == thread::current().id()) {
            // It would wait for itself.
            return shared.put_now(message, promised).unwrap_or_else(|| {
                shared.press_on();
                Err(shared.drop_message(message))
            });
        }
        shared.put_blocking(message, promised, &mut Patience::default(), place(*thread))
    }

    /// As [`Writer::flush`], for synchronous code. It waits `timeout` at most; [`Duration::MAX`] is without end.
    ///
    /// On a thread of a runtime of several threads, others take over its tasks meanwhile. A runtime of one thread stands
    /// still; see [`TaskRuntime::Current`](super::TaskRuntime::Current) for where that is of no use. Where the task is on the caller's runtime, it
    /// panics in a [`LocalSet`](tokio::task::LocalSet) of a runtime of several threads, as
    /// [`block_in_place`](tokio::task::block_in_place) does: use [`TaskRuntime::Own`](super::TaskRuntime::Own) there.
    ///
    /// # Errors
    /// As [`Writer::flush`]. With [`ErrorKind::TimedOut`] as the kind of the first error when the time is over: what was
    /// written is still being sent. [`ErrorKind::Invalid`] when the writer's own thread calls this, as a handler can,
    /// for it would wait for itself.
    pub fn flush_blocking(&self, timeout: Duration) -> Result<(), FlushError> {
        self.wait_for(park::deadline(timeout), Shared::flush)
    }

    /// As [`Writer::close`], for synchronous code, and otherwise as [`Writer::flush_blocking`]. When the time is over and
    /// the last handle is dropped, nothing more is tried.
    ///
    /// # Errors
    /// As [`Writer::flush_blocking`]. The writer is closing in any case.
    pub fn close_blocking(&self, timeout: Duration) -> Result<(), FlushError> {
        self.handle.shared.close();
        self.wait_for(park::deadline(timeout), async |shared| {
            shared.ended().await;
            shared.flush().await
        })
    }

    fn wait_for(
        &self,
        deadline: Option<Instant>,
        wait: impl AsyncFnOnce(&Shared) -> Result<(), FlushError>,
    ) -> Result<(), FlushError> {
        let Handle { shared, thread, .. } = &*self.handle;
        if thread.is_some_and(|thread| thread == thread::current().id()) {
            return Err(self.unknown(Error::invalid("the writer's own thread cannot wait for it")));
        }
        wait_until(wait(shared), deadline, place(*thread)).unwrap_or_else(|| {
            if shared.is_closing() {
                shared.has_no_time.store(true, Ordering::Relaxed);
            }
            let why = shared.lock().away.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let text = format!("the writer of topic `{}` was not done in time{why}", shared.topic);
            Err(self.unknown(Error::new(ErrorKind::TimedOut, text)))
        })
    }

    /// A flush that does not know what becomes of the messages.
    fn unknown(&self, first: Error) -> FlushError {
        let stats = self.stats();
        let state = self.handle.shared.lock();
        let batches = state.flush_target() - state.queue.settled_up_to() + state.backlog.len() as u64;
        drop(state);
        FlushError { batches, messages: stats.buffered + stats.backlog, spooled: stats.spooled, first }
    }
}
