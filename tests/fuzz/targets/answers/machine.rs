//! A simulated machine and network for a server: connections whose peers send what was written down before.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use logd_server::disk::SimDisk;
use logd_server::simulation::{Listener, Machine, Stream};
use logd_server::{Config, Server};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::{BATCH_BYTES_MAX, MESSAGES_MAX, TOPICS_MAX};

/// What the clock says, in milliseconds since 1970.
pub(super) const NOW: u64 = 1_700_000_000_000;

/// Longer than any wait that can be asked for.
const HOUR: Duration = Duration::from_secs(3600);

/// So much is taken from the server at once.
const TAKEN_BYTES: usize = 4096;

#[derive(Debug)]
struct Standing;

impl Machine for Standing {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(NOW)
    }

    fn blocking_delay(&self) -> Duration {
        Duration::ZERO
    }

    fn goes_on(&self) -> bool {
        true
    }
}

/// What a peer sends, in pieces of so many bytes at most, and what it has received.
#[derive(Debug)]
struct Talk {
    said: Vec<u8>,
    piece: usize,
    sent: AtomicUsize,
    heard: Mutex<Vec<u8>>,
    /// Told when the connection has ended.
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct Peer(Arc<Talk>);

impl Drop for Peer {
    fn drop(&mut self) {
        self.0.ended.notify_one();
    }
}

impl Stream for Peer {
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let sent = self.0.sent.load(Ordering::Relaxed);
        let rest = self.0.said.get(sent..).unwrap_or_default();
        let count = rest.len().min(room.len()).min(self.0.piece);
        room[..count].copy_from_slice(&rest[..count]);
        self.0.sent.store(sent + count, Ordering::Relaxed);
        Ok(count)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(TAKEN_BYTES);
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn shutdown(&self) {}
}

/// Where the next connection waits.
#[derive(Debug, Default)]
struct Door {
    next: Mutex<(Option<Peer>, Option<Waker>)>,
}

impl Door {
    fn enter(&self, peer: Peer) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.0 = Some(peer);
        if let Some(waker) = next.1.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct Doorkeeper(Arc<Door>);

impl Listener for Doorkeeper {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>> {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        match next.0.take() {
            Some(peer) => Poll::Ready(Ok(Box::new(peer))),
            None => {
                next.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Has peers say something to a new server, one after another, each in pieces of so many bytes; what it says to each.
pub(super) fn converse<const COUNT: usize>(
    flush_batches: u64,
    talks: [(Vec<u8>, usize); COUNT],
) -> [Vec<u8>; COUNT] {
    let config = Config {
        workdir: PathBuf::from("logs"),
        batch_bytes: BATCH_BYTES_MAX,
        partition_bytes: BATCH_BYTES_MAX as u64,
        partitions: 10_000,
        topics: TOPICS_MAX,
        max_messages: MESSAGES_MAX,
        flush_batches,
        ..Config::default()
    };
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let door = Arc::new(Door::default());
        let listener = Box::new(Doorkeeper(Arc::clone(&door)));
        let server = Server::simulated(config, Arc::new(Standing), Arc::new(SimDisk::new(1)), listener);
        let server = server.await.expect("an empty work directory");
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let serving = tokio::spawn(async move { server.run(stopped.notified()).await });
        let ended = Arc::new(Notify::new());
        let mut heard = [const { Vec::new() }; COUNT];
        for ((said, piece), heard) in talks.into_iter().zip(&mut heard) {
            let (sent, nothing, ended) = (AtomicUsize::new(0), Mutex::default(), Arc::clone(&ended));
            let talk = Arc::new(Talk { said, piece, sent, heard: nothing, ended: Arc::clone(&ended) });
            door.enter(Peer(Arc::clone(&talk)));
            tokio::time::timeout(HOUR, ended.notified()).await.expect("a connection comes to an end");
            heard.clone_from(&talk.heard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        stop.notify_one();
        let ended = tokio::time::timeout(HOUR, serving).await.expect("the server comes to an end");
        ended.expect("the server does not panic").expect("a sound disk");
        heard
    })
}
