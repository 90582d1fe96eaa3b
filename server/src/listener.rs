//! Where connections come in.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::StartError;
#[cfg(feature = "simulation")]
use crate::simulation;
use crate::socket::Socket;

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(feature = "simulation")]
    Simulated(Box<dyn simulation::Listener>),
}

impl Listener {
    /// Listens on an address with a port.
    pub(crate) async fn bind(host: &str) -> Result<(Self, SocketAddr), StartError> {
        // Go writes an address without a host for "every interface".
        let address =
            host.strip_prefix(':').map_or_else(|| host.to_owned(), |port| format!("0.0.0.0:{port}"));
        let listener = TcpListener::bind(&address).await.map_err(|source| {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => "; is another logd running? choose another address with --host",
                _ => "",
            };
            StartError::Listen { host: host.to_owned(), source, hint }
        })?;
        let local_addr = listener.local_addr().map_err(|source| StartError::Listen {
            host: host.to_owned(),
            source,
            hint: "",
        })?;
        Ok((Self::Tcp(listener), local_addr))
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for more; if the option is refused, they are only slower.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Watched(stream))
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(listener) => {
                std::future::poll_fn(|context| listener.poll_accept(context)).await.map(Socket::Simulated)
            }
        }
    }
}
