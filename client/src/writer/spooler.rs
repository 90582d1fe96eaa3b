//! The writer's spool: opened once, used by the task that sends and by the one that makes room.
//!
//! Every call of the disk is made on a thread for blocking work, except at the writer's end, when there may be no
//! runtime any more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logd_protocol::{Batch, TopicName};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::warn;

use super::events::{Events, WriterEvent};
use super::shared::Shared;
use super::state::SpoolState;
use super::supply::Press;
use crate::error::{Error, ErrorKind};
use crate::spool::{Aside, Spool, SpoolError, SpoolKey, Spooled};

/// How long after a failure of the disk it is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Where the batches go that cannot be delivered.
#[derive(Debug, Clone)]
pub(super) struct SpoolOptions {
    pub(super) dir: PathBuf,
    pub(super) bytes_max: u64,
}

/// How a batch was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is sent from there.
    Spooled,
    /// It is not sent, because it may be in the topic.
    Aside,
}

/// What a call has taken out of the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Removed {
    pub(super) batches: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// A spool.
#[derive(Debug, Clone)]
pub(super) struct SharedSpool {
    /// `None` once it is closed.
    spool: Arc<Mutex<Option<Spool>>>,
    /// The run of this writer's batches.
    run: u64,
}

impl SharedSpool {
    /// Opens the spool, tells what was wrong in it, and says what it holds.
    pub(super) fn open(
        options: &SpoolOptions,
        topic: &TopicName,
        events: &Events,
    ) -> Result<(Self, SpoolState), Error> {
        let (spool, findings) = Spool::open(&options.dir, options.bytes_max).map_err(spool_error)?;
        for file in findings.damaged {
            let error =
                Error::new(ErrorKind::Corrupt, format!("a batch in the spool is damaged: {}", file.damage));
            warn!(%topic, path = %file.path.display(), %error, "a file of the spool was set aside");
            events.tell(|| WriterEvent::SetAside { path: file.path, error });
        }
        let state = SpoolState {
            dir: Arc::from(spool.dir()),
            batches: spool.len() as u64,
            messages: spool.messages(),
            bytes: spool.bytes(),
            bytes_max: options.bytes_max,
        };
        let run = spool.key(0).run;
        Ok((Self { spool: Arc::new(Mutex::new(Some(spool))), run }, state))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Spool) -> Result<T, SpoolError>) -> Result<T, Error> {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let spool = spool.as_mut().ok_or_else(|| Error::new(ErrorKind::Closed, "the spool is closed"))?;
        work(spool).map_err(spool_error)
    }

    /// Works on the spool without holding up the runtime. Dropped, the work is done all the same if it has begun.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, Error> {
        let spool = self.clone();
        let work = move || spool.with(work);
        #[cfg(feature = "simulation")]
        if crate::simulation::is_on() {
            let done = crate::simulation::block(work).await;
            return done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Spool, "the runtime ends")));
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(Error::new(ErrorKind::Spool, "the runtime ends")))
    }

    pub(super) async fn put(&self, batches: Vec<(u64, Batch)>) -> Result<(), Error> {
        self.run(move |spool| spool.put_all(&batches)).await
    }

    /// The oldest batches that are older than the one of the number `before`; the key of the oldest where that is damaged.
    pub(super) async fn oldest(
        &self,
        count: usize,
        bytes_max: u64,
        before: u64,
    ) -> Result<Result<Vec<Spooled>, SpoolKey>, Error> {
        let read = move |spool: &mut Spool| match spool.oldest(count, bytes_max) {
            Ok(mut oldest) => {
                let before = spool.key(before);
                oldest.retain(|spooled| spooled.key < before);
                Ok(Ok(oldest))
            }
            Err(SpoolError::Damaged { key, .. }) => Ok(Err(key)),
            Err(error) => Err(error),
        };
        self.run(read).await
    }

    /// Whether something is there that is older than the batch of this number.
    pub(super) async fn has_before(&self, number: u64) -> bool {
        let first =
            self.run(move |spool| Ok(spool.first_key().is_some_and(|first| first < spool.key(number))));
        first.await.unwrap_or(false)
    }

    /// The key of the batch of this number.
    pub(super) const fn key(&self, number: u64) -> SpoolKey {
        SpoolKey { run: self.run, number }
    }

    /// Removes delivered batches. What is told is gone also when it fails.
    pub(super) async fn remove(&self, keys: Vec<SpoolKey>) -> (Removed, Result<(), Error>) {
        self.measured(move |spool| spool.remove_all(&keys)).await
    }

    /// Sets a batch aside.
    pub(super) async fn set_aside(
        &self,
        key: SpoolKey,
        why: Aside,
    ) -> (Removed, Result<Option<PathBuf>, Error>) {
        self.measured(move |spool| spool.set_aside(key, why)).await
    }

    async fn measured<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> Result<T, SpoolError> + Send + 'static,
    ) -> (Removed, Result<T, Error>) {
        let measure = |spool: &Spool| (spool.len() as u64, spool.messages(), spool.bytes());
        let done = self
            .run(move |spool| {
                let before = measure(spool);
                let result = work(spool);
                let after = measure(spool);
                let removed = Removed {
                    batches: before.0.saturating_sub(after.0),
                    messages: before.1.saturating_sub(after.1),
                    bytes: before.2.saturating_sub(after.2),
                };
                Ok((removed, result))
            })
            .await;
        match done {
            Ok((removed, result)) => (removed, result.map_err(spool_error)),
            Err(error) => (Removed::default(), Err(error)),
        }
    }

    /// Keeps a batch at the writer's end; not to be sent unless it `is_sendable`.
    pub(super) fn put_at_end(&self, number: u64, batch: &Batch, is_sendable: bool) -> Result<Kept, Error> {
        self.with(|spool| {
            match spool.put(number, batch) {
                // It was on its way there when the task was dropped.
                Err(SpoolError::Duplicate { .. }) => {}
                put => put?,
            }
            if is_sendable {
                return Ok(Kept::Spooled);
            }
            spool.set_aside(spool.key(number), Aside::Unknown).map(|_| Kept::Aside)
        })
    }

    /// As [`SharedSpool::set_aside`], at the writer's end.
    pub(super) fn set_aside_at_end(&self, key: SpoolKey, why: Aside) -> Result<(), Error> {
        self.with(|spool| spool.set_aside(key, why).map(|_| ()))
    }

    /// Gives the directory free, at once.
    pub(super) fn close(&self) {
        *self.spool.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn spool_error(error: SpoolError) -> Error {
    Error::told(ErrorKind::Spool, error)
}

/// Makes room in the buffer by putting batches into the spool, when it is time for that. Never returns.
pub(super) async fn make_room(shared: &Shared, spool: &SharedSpool) -> std::convert::Infallible {
    let mut was_failing = false;
    loop {
        match shared.press(Instant::now()) {
            Press::Put(batches) => match spool.put(batches).await {
                Ok(()) => {
                    was_failing = false;
                    shared.pressed_out();
                }
                Err(error) => {
                    shared.press_failed();
                    if !was_failing {
                        warn!(topic = %shared.topic, %error, "batches could not be put into the spool");
                    }
                    was_failing = true;
                    shared.events.tell(|| WriterEvent::SpoolFailed { error });
                    sleep(DISK_PAUSE).await;
                }
            },
            Press::Wait(Some(at)) => tokio::select! {
                biased;
                () = shared.pressure.notified() => {}
                () = sleep_until(at) => {}
            },
            Press::Wait(None) => shared.pressure.notified().await,
        }
    }
}
