//! What carries a connection's bytes: TCP, or a simulated network in tests of the whole system.

use std::io;
use std::mem::MaybeUninit;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::ClientConfig;
#[cfg(feature = "simulation")]
use crate::simulation::Stream;

#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn Stream>),
}

impl Transport {
    /// Connects to the configured host, trying each of its addresses.
    pub(crate) async fn connect(config: &ClientConfig) -> io::Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(network) = &config.network {
            return network.connect(&config.host).await.map(Self::Simulated);
        }
        TcpStream::connect(&*config.host).await.map(Self::Tcp)
    }

    /// Sends small messages at once.
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Hands some of `bytes` over.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes).await,
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                tokio::task::coop::consume_budget().await;
                loop {
                    std::future::poll_fn(|context| stream.poll_writable(context)).await;
                    match stream.try_write(bytes) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        result => return result,
                    }
                }
            }
        }
    }

    /// Adds some bytes that have come in to `input`; 0 at the end. Nothing is lost when the future is dropped.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_buf(input).await,
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                tokio::task::coop::consume_budget().await;
                loop {
                    std::future::poll_fn(|context| stream.poll_readable(context)).await;
                    let mut room = vec![0; (input.capacity() - input.len()).clamp(64, 64 * 1024)];
                    match stream.try_read(&mut room) {
                        Ok(read) => {
                            input.extend_from_slice(room.get(..read).unwrap_or_default());
                            return Ok(read);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Whether nothing has come, neither bytes nor an end, by what the system knows right now.
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            // The runtime may not have seen yet what has come; the system is asked itself.
            Self::Tcp(stream) => SockRef::from(stream)
                .peek(&mut [MaybeUninit::uninit()])
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => stream.is_quiet(),
        }
    }

    /// Completes when something may have come. Where nothing has, [`Transport::has_come`] says so, and this waits again.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => {
                std::future::poll_fn(|context| stream.poll_readable(context)).await;
                Ok(())
            }
        }
    }

    /// Whether something has come, which is lost by that.
    pub(crate) fn has_come(&self) -> bool {
        match self {
            // What the runtime holds to be readable need not be any more; a read that finds nothing corrects it.
            Self::Tcp(stream) => {
                !matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(stream) => !stream.is_quiet(),
        }
    }
}
