//! What a simulation gives clients instead of the machine: a network, and random numbers that a seed decides.
//!
//! Only tests ask for the feature. Without [`ClientConfig::simulated`](crate::ClientConfig::simulated) and [`seed`] nothing
//! of this is ever made or asked.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a piece of blocking work takes, at most.
const BLOCKING_MILLIS_MAX: u64 = 20;

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Makes simulated connections.
pub trait Network: fmt::Debug + Send + Sync {
    /// Connects to a host, which has a port.
    fn connect(&self, host: &str) -> Connecting;
}

/// The client's end of a simulated connection. Dropping it closes it.
pub trait Stream: fmt::Debug + Send + Sync {
    /// Reads what is there; 0 at the end. [`io::ErrorKind::WouldBlock`] when there is nothing.
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize>;

    /// Sends as much as there is room for. [`io::ErrorKind::WouldBlock`] when there is none.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether [`Stream::try_read`] would not block.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether [`Stream::try_write`] would not block.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether there is nothing to read now, neither bytes nor an end.
    fn is_quiet(&self) -> bool;
}

thread_local! {
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Has every random number that clients draw on this thread depend on a number; `None` gives them real ones again.
pub fn seed(seed: Option<u64>) {
    RANDOM.set(seed);
}

/// Does work that blocks, where there are no threads for it. It is done also when nobody waits for it.
pub(crate) async fn block<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let delay = Duration::from_millis(random().unwrap_or_default() % BLOCKING_MILLIS_MAX);
    let task = async move {
        tokio::time::sleep(delay).await;
        work()
    };
    tokio::spawn(task).await
}

/// Whether what runs on this thread is simulated.
pub(crate) fn is_on() -> bool {
    RANDOM.get().is_some()
}

/// The next number of the simulation on this thread, if there is one: splitmix64.
pub(crate) fn random() -> Option<u64> {
    let state = RANDOM.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(Some(state));
    let bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(bits ^ (bits >> 31))
}
