//! Busy connections on threads of their own.
//!
//! A connection that goes on asking without a pause is served by a thread, which waits in the kernel: what it costs to
//! watch a socket, to wake a worker of the runtime, and to try a read that finds nothing, is saved. It goes back when it
//! pauses, or has to wait for a batch to come. There are few such threads; when more connections are busy, all are served
//! by the runtime for a while, so that none gets more of the processors than another.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::{Carried, End, Shared, run};
use crate::socket::Socket;
use crate::throttle::Throttle;
use crate::watch;

/// The most threads. `room.rs` keeps as many file descriptors for them.
pub(crate) const THREADS_MAX: usize = 64;

/// How long connections are served by the runtime after there were too few threads.
const CROWDED: Duration = Duration::from_secs(10);

/// How long the server waits for threads whose connections it has cut.
const END: Duration = Duration::from_secs(2);

/// The stack of a thread: what a request needs is on the heap.
const STACK_BYTES: usize = 512 * 1024;

/// The threads of busy connections.
#[derive(Debug)]
pub(crate) struct Threads {
    free: Arc<Semaphore>,
    /// How many there are in all.
    all: usize,
    start: Instant,
    /// In milliseconds since the start.
    crowded_until: AtomicU64,
    /// For connections that have none because the system gives none.
    missing: Throttle,
}

impl Threads {
    /// So many threads. With none, all connections are served by the runtime.
    pub(crate) fn new(all: usize) -> Self {
        let free = Arc::new(Semaphore::new(all));
        Self {
            free,
            all,
            start: Instant::now(),
            crowded_until: AtomicU64::new(0),
            missing: Throttle::default(),
        }
    }

    /// Takes a thread for a connection, if it can have one now.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        if self.is_crowded() {
            return None;
        }
        let taken = Arc::clone(&self.free).try_acquire_owned().ok();
        if taken.is_none() {
            self.crowd();
        }
        taken
    }

    /// There are too few: all connections are served by the runtime for a while.
    fn crowd(&self) {
        self.crowded_until.store(self.now().saturating_add(millis(CROWDED)), Ordering::Relaxed);
    }

    /// Whether all connections are to be served by the runtime.
    pub(super) fn is_crowded(&self) -> bool {
        let until = self.crowded_until.load(Ordering::Relaxed);
        until != 0 && self.now() < until
    }

    /// Waits until no thread serves a connection any more, for at most [`END`]: those whose connections were cut see that
    /// at once, unless the disk keeps them.
    pub(crate) async fn wait_for_end(&self) {
        let all = u32::try_from(self.all).unwrap_or(u32::MAX);
        let _ = timeout(END, self.free.acquire_many(all)).await;
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Ends what a thread waits for when nobody waits for the thread.
struct Cut(Option<std::net::TcpStream>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            // The peer may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Serves a connection on a thread until it pauses or ends. Where the system has no thread or no descriptor left, the
/// connection comes back as one that pauses: the runtime goes on with it.
///
/// # Cancel safety
/// When the future is dropped the connection is cut.
pub(super) async fn run_on_thread(
    stream: TcpStream,
    carried: Carried,
    shared: &Arc<Shared>,
    shutdown: &watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) -> io::Result<(TcpStream, Carried, End)> {
    let (give, given) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let work = (Arc::clone(shared), shutdown.clone(), Handle::current());
    let spawned = thread().spawn(move || {
        let (shared, shutdown, runtime) = work;
        // Nothing is given where there was no descriptor.
        if let Ok((socket, mut carried)) = given.blocking_recv() {
            let end = runtime.block_on(run(&socket, &mut carried, &shared, shutdown));
            // Who has cut the connection does not wait.
            let _ = done.send((socket, carried, end));
        }
        // Who waits for all threads finds the work directory free.
        drop((shared, permit));
    });
    let mut cut = match spawned.and_then(|_| stream.as_fd().try_clone_to_owned()) {
        Ok(socket) => Cut(Some(socket.into())),
        Err(error) => {
            shared.threads.crowd();
            if let Some(held_back) = shared.threads.missing.pass() {
                tracing::warn!(%error, held_back, "a busy connection has no thread of its own");
            }
            return Ok((stream, carried, End::Paused));
        }
    };
    // Only where the thread has ended it is not taken.
    let _ = give.send((Socket::own(stream)?, carried));
    let ended = is_done.await;
    let (socket, carried, end) = ended.map_err(|_| io::Error::other("the connection's thread has ended"))?;
    let end = end?;
    cut.0 = None;
    Ok((socket.watched()?, carried, end))
}

fn thread() -> Builder {
    Builder::new().name("connection".into()).stack_size(STACK_BYTES)
}
