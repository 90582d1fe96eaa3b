//! A connection's socket: watched by the runtime, as most are, or a thread's own while the connection is busy.
//!
//! On a thread of its own, reading and sending wait in the kernel, which saves what watching costs. So that deadlines and
//! the server's end are noticed there, no call waits for longer than a [`SLICE`].

use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::SendFlags;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

#[cfg(feature = "simulation")]
use crate::simulation;

/// The longest time that one call waits on a thread.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) enum Socket {
    Watched(TcpStream),
    Own(std::net::TcpStream),
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Stream>),
}

/// Sends without being watched.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    Descriptor(BorrowedFd<'a>),
    #[cfg(feature = "simulation")]
    Simulated(&'a dyn simulation::Stream),
}

impl Raw<'_> {
    /// Sends what is taken of `bytes`.
    pub(crate) fn send(self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        match self {
            Self::Descriptor(socket) => Ok(rustix::net::send(socket, bytes, flags | SendFlags::NOSIGNAL)?),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => stream.try_write(bytes),
        }
    }

    /// Has the kernel send so many bytes of a file from `place` on, as far as they are taken.
    pub(crate) fn send_file(self, file: BorrowedFd<'_>, place: u64, bytes: usize) -> io::Result<usize> {
        match self {
            Self::Descriptor(socket) => {
                let mut from = place;
                Ok(rustix::fs::sendfile(socket, file, Some(&mut from), bytes)?)
            }
            // A simulated disk has no files with descriptors.
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
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
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) const fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// The address of the peer, where it can be told.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Watched(stream) => stream.peer_addr().ok(),
            Self::Own(stream) => stream.peer_addr().ok(),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => None,
        }
    }

    /// Reads what is there. [`io::ErrorKind::WouldBlock`] when there is nothing; a thread has waited for a slice then.
    pub(crate) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Watched(stream) => stream.try_read(room),
            Self::Own(stream) => (&*stream).read(room),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => stream.try_read(room),
        }
    }

    /// Waits until there may be something to read. A thread waits when it reads.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Watched(stream) => stream.readable().await,
            Self::Own(_) => Ok(()),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                std::future::poll_fn(|context| stream.poll_readable(context)).await;
                Ok(())
            }
        }
    }

    /// Calls `send`. [`io::ErrorKind::WouldBlock`] when nothing was taken; a thread has waited for a slice then.
    pub(crate) fn send(&self, send: impl FnOnce(Raw<'_>) -> io::Result<usize>) -> io::Result<usize> {
        match self {
            Self::Watched(stream) => stream.try_io(Interest::WRITABLE, || send(self.raw())),
            Self::Own(_) => send(self.raw()),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => send(self.raw()),
        }
    }

    /// The socket whatever the runtime holds of it.
    pub(crate) fn raw(&self) -> Raw<'_> {
        match self {
            Self::Watched(stream) => Raw::Descriptor(stream.as_fd()),
            Self::Own(stream) => Raw::Descriptor(stream.as_fd()),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => Raw::Simulated(&**stream),
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
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                let writable = std::future::poll_fn(|context| stream.poll_writable(context));
                Ok(timeout_at(deadline, writable).await.is_ok())
            }
        }
    }

    /// Has the connection end in a reset. Otherwise the kernel keeps what the peer has not taken, several megabytes, for
    /// minutes after the connection was closed, and nobody counts how often.
    pub(crate) fn abandon(&self) {
        match self.raw() {
            Raw::Descriptor(descriptor) => {
                // If the option is refused, the kernel keeps it.
                let _ = rustix::net::sockopt::set_socket_linger(descriptor, Some(Duration::ZERO));
            }
            #[cfg(feature = "simulation")]
            Raw::Simulated(_) => {}
        }
    }

    /// Has the kernel give up a peer that takes nothing for so long, also when the connection has been closed: it would
    /// keep what was sent for minutes otherwise, or without end where the peer lives.
    pub(crate) fn bound_end(&self, time: Duration) {
        match self.raw() {
            Raw::Descriptor(descriptor) => {
                let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
                // If the option is refused, the kernel's own bounds stand.
                let _ = rustix::net::sockopt::set_tcp_user_timeout(descriptor, millis);
            }
            #[cfg(feature = "simulation")]
            Raw::Simulated(_) => {}
        }
    }

    /// Sends an end.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Watched(stream) => stream.shutdown().await,
            Self::Own(stream) => stream.shutdown(std::net::Shutdown::Write),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                stream.shutdown();
                Ok(())
            }
        }
    }
}
