//! A connection of a hostile client.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long an answer can take that should come at once, on a processor that others have first.
const BOUND: Duration = Duration::from_secs(15);

/// How much is received at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// So little arrives before the sender has to wait.
const NARROW_BYTES: u32 = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    /// What was received and not yet asked for.
    received: Vec<u8>,
    opened: Instant,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// What came before.
    pub(crate) received: Vec<u8>,
    pub(crate) is_reset: bool,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(BOUND, TcpStream::connect(address)).await;
        let stream = stream.expect("a connection is made in time").expect("the server listens");
        stream.set_nodelay(true).expect("an option");
        Self { stream, received: Vec::new(), opened: Instant::now() }
    }

    /// With a small buffer for what arrives.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(NARROW_BYTES).expect("an option");
        let stream = timeout(BOUND, socket.connect(address)).await;
        let stream = stream.expect("a connection is made in time").expect("the server listens");
        Self { stream, received: Vec::new(), opened: Instant::now() }
    }

    /// Sends to a server that may have closed the connection; what it has said before can still be read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(BOUND, self.stream.write_all(bytes)).await.expect("the server takes what is sent");
    }

    /// How long it has been there.
    pub(crate) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Sends no more.
    pub(crate) async fn finish_sending(&mut self) {
        // The server may have closed the connection.
        let _ = self.stream.shutdown().await;
    }

    /// Has the connection end in a reset.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("an option");
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self) -> String {
        let line = self.try_line().await;
        line.unwrap_or_else(|end| panic!("the connection ended: {end:?}"))
    }

    /// The next line, without its end, or what came instead of one.
    pub(crate) async fn try_line(&mut self) -> Result<String, End> {
        let mut seen = 0;
        loop {
            let rest = self.received.get(seen..).unwrap_or_default();
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|place| seen + place) {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            seen = self.received.len();
            self.receive(BOUND).await?;
        }
    }

    /// Receives and throws away so many bytes.
    pub(crate) async fn skip(&mut self, bytes: usize) {
        let mut left = bytes;
        loop {
            let now = left.min(self.received.len());
            self.received.drain(..now);
            left -= now;
            if left == 0 {
                return;
            }
            self.receive(BOUND).await.unwrap_or_else(|end| panic!("the connection ended: {end:?}"));
        }
    }

    /// Everything up to the end of the connection, which comes within `bound`.
    pub(crate) async fn end(&mut self, bound: Duration) -> End {
        loop {
            if let Err(end) = self.receive(bound).await {
                return end;
            }
        }
    }

    /// Whether anything comes, or the connection ends, within `time`.
    pub(crate) async fn hears_within(&mut self, time: Duration) -> bool {
        !self.received.is_empty() || timeout(time, self.stream.readable()).await.is_ok()
    }

    async fn receive(&mut self, bound: Duration) -> Result<(), End> {
        let mut buffer = vec![0; READ_BYTES];
        let read = timeout(bound, self.stream.read(&mut buffer)).await;
        match read.expect("an answer, or the end of the connection, comes in time") {
            Ok(0) => Err(self.ended(false)),
            Ok(read) => {
                self.received.extend_from_slice(buffer.get(..read).unwrap_or_default());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(self.ended(true)),
            Err(error) => panic!("the connection broke: {error}"),
        }
    }

    fn ended(&mut self, is_reset: bool) -> End {
        End { received: std::mem::take(&mut self.received), is_reset }
    }
}
