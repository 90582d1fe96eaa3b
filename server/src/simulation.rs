//! What a simulation gives a server instead of a machine: a network, a clock, time for blocking work, and a disk.
//!
//! A simulated server runs in one task and those that it starts, on a runtime with one thread and a paused clock. It has
//! no thread of its own and looks at nothing outside: what it does is a function of what it is given here. Only tests
//! ask for the feature; without [`Server::simulated`](crate::Server::simulated) nothing of this is ever made.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

/// A simulated machine.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// What its clock says.
    fn now(&self) -> SystemTime;

    /// How long the next piece of blocking work waits for its thread.
    fn blocking_delay(&self) -> Duration;

    /// Called before a task of the server is polled; with `false` it is not polled any more.
    fn goes_on(&self) -> bool;
}

/// The server's end of a simulated connection. Dropping it closes it.
pub trait Stream: fmt::Debug + Send + Sync {
    /// Reads what is there; 0 at the end. [`io::ErrorKind::WouldBlock`] when there is nothing.
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize>;

    /// Sends as much as there is room for. [`io::ErrorKind::WouldBlock`] when there is none.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether [`Stream::try_read`] would not block.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether [`Stream::try_write`] would not block.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Sends an end.
    fn shutdown(&self);
}

/// Where connections come in.
pub trait Listener: fmt::Debug + Send + Sync {
    /// The next connection.
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn Stream>>>;
}

/// A task of a server, for as long as its machine goes on.
pub(crate) struct Watched<F> {
    machine: Arc<dyn Machine>,
    task: Pin<Box<F>>,
}

impl<F> Watched<F> {
    pub(crate) fn new(machine: &Arc<dyn Machine>, task: F) -> Self {
        Self { machine: Arc::clone(machine), task: Box::pin(task) }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.machine.goes_on() { self.task.as_mut().poll(context) } else { Poll::Pending }
    }
}
