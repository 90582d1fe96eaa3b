//! The ends of the simulated network: what clients connect with, where the server accepts, and what both then have.

use std::io;
use std::task::{Context, Poll};

use logd_client::simulation as client;
use logd_server::simulation as server;

use crate::network::Network;
use crate::pipe::Side;

/// A client's way to the server.
#[derive(Debug)]
pub(crate) struct Way {
    network: Network,
    name: String,
}

impl Way {
    pub(crate) fn new(network: &Network, name: &str) -> Self {
        Self { network: network.clone(), name: name.to_owned() }
    }
}

impl client::Network for Way {
    fn connect(&self, _: &str) -> client::Connecting {
        let (network, name) = (self.network.clone(), self.name.clone());
        Box::pin(async move {
            let id = network.connect(&name).await?;
            Ok(Box::new(End { network, id, side: Side::Client }) as Box<dyn client::Stream>)
        })
    }
}

/// Where connections come in at the server.
#[derive(Debug)]
pub(crate) struct Door {
    network: Network,
}

impl Door {
    pub(crate) fn new(network: &Network) -> Self {
        Self { network: network.clone() }
    }
}

impl server::Listener for Door {
    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Box<dyn server::Stream>>> {
        self.network.poll_accept(context).map(|id| {
            Ok(Box::new(End { network: self.network.clone(), id, side: Side::Server })
                as Box<dyn server::Stream>)
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Nobody listens before this one is gone.
        self.network.listen_no_more();
    }
}

/// One end of a connection.
#[derive(Debug)]
struct End {
    network: Network,
    id: u64,
    side: Side,
}

impl Drop for End {
    fn drop(&mut self) {
        self.network.close(self.id, self.side);
    }
}

impl client::Stream for End {
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.network.read(self.id, self.side, room)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.network.write(self.id, self.side, bytes)
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.network.poll_readable(self.id, self.side, context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.network.poll_writable(self.id, self.side, context)
    }

    fn is_quiet(&self) -> bool {
        self.network.is_quiet(self.id)
    }
}

impl server::Stream for End {
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.network.read(self.id, self.side, room)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.network.write(self.id, self.side, bytes)
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.network.poll_readable(self.id, self.side, context)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.network.poll_writable(self.id, self.side, context)
    }

    fn shutdown(&self) {
        self.network.end(self.id, self.side);
    }
}
