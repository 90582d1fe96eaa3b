//! A connection's socket: watched by the runtime, as most are, or a thread's own.
//!
//! On a thread of its own, reading and sending wait in the kernel, which saves what watching costs. So that deadlines and
//! the server's end are noticed there, no call waits for longer than a [`SLICE`].

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// The longest time that one call waits on a thread.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) enum Socket {
    Watched(TcpStream),
    Own(std::net::TcpStream),
}

impl Socket {
    /// Takes a socket from the runtime.
    pub(crate) fn own(stream: TcpStream) -> io::Result<Self> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self::Own(stream))
    }

    /// Gives it to the runtime.
    pub(crate) fn watched(self) -> io::Result<TcpStream> {
        match self {
            Self::Watched(stream) => Ok(stream),
            Self::Own(stream) => {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
        }
    }

    pub(crate) const fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Reads what is there. [`io::ErrorKind::WouldBlock`] when there is nothing; a thread has waited for a slice then.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(stream) => stream.try_read(room),
            Self::Own(stream) => (&*stream).read(room),
        }
    }

    /// Waits until there may be something to read. A thread waits when it reads.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Watched(stream) => stream.readable().await,
            Self::Own(_) => Ok(()),
        }
    }

    /// Calls `send`. [`io::ErrorKind::WouldBlock`] when nothing was taken; a thread has waited for a slice then.
    pub(crate) fn send(&self, send: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>) -> io::Result<usize> {
        match self {
            Self::Watched(stream) => stream.try_io(Interest::WRITABLE, || send(stream.as_fd())),
            Self::Own(stream) => send(stream.as_fd()),
        }
    }

    /// Waits until the peer may take something; `false` when the time is up, and at once on a thread, which waits when it
    /// sends.
    pub(crate) async fn is_writable_by(&self, deadline: Instant) -> io::Result<bool> {
        match self {
            Self::Watched(stream) => match timeout_at(deadline, stream.writable()).await {
                Ok(ready) => ready.map(|()| true),
                Err(_) => Ok(false),
            },
            Self::Own(_) => Ok(false),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Watched(stream) => stream.as_fd(),
            Self::Own(stream) => stream.as_fd(),
        }
    }
}
