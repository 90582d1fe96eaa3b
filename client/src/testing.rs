//! A peer that says what a test has it say, byte by byte.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use logd_protocol::{Batch, BatchBuilder, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::config::ClientConfig;
use crate::retry::RetryPolicy;

/// What Go logd answers to CONFIG.
pub(crate) const GO_CONFIG: &[u8] =
    b"Host: 127.0.0.1:1774\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\n";
/// What logd answers to CONFIG.
pub(crate) const CONFIG: &[u8] = b"Host: 127.0.0.1:1774\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\nVersion: 0.1.0\r\nFeatures: wait head topics ping\r\n";

/// The same of a server that knows identities.
pub(crate) const DEDUP_CONFIG: &[u8] = b"Host: 127.0.0.1:1774\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\nVersion: 0.1.0\r\nFeatures: dedup wait head topics ping\r\n";

/// The same of a server that knows times.
pub(crate) const TIME_CONFIG: &[u8] = b"Host: 127.0.0.1:1774\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\nVersion: 0.1.0\r\nFeatures: wait head topics ping time\r\n";

/// The longest that any step of a test takes; a test that needs it has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A listener for the connections of the client under test.
pub(crate) struct Peer {
    listener: TcpListener,
}

impl Peer {
    pub(crate) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// A peer at this listener.
    pub(crate) const fn of(listener: TcpListener) -> Self {
        Self { listener }
    }

    /// Settings for this peer: short waits, two quick retries.
    pub(crate) fn config(&self) -> ClientConfig {
        let retry = RetryPolicy::default().attempts(Some(3)).interval(Duration::from_millis(1));
        ClientConfig::new(self.listener.local_addr().unwrap().to_string()).retry(retry)
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Wire {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, input: BytesMut::new() }
    }

    /// The next connection, after it has asked for the settings and got these.
    pub(crate) async fn accept_with(&self, config: &[u8]) -> Wire {
        let mut wire = self.accept().await;
        wire.answer_config(config).await;
        wire
    }
}

/// The peer's side of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    pub(crate) async fn answer_config(&mut self, config: &[u8]) {
        self.expect(b"CONFIG\r\n").await;
        self.send(format!("MOK {}\r\n", config.len()).as_bytes()).await;
        self.send(config).await;
        self.send(b"\r\n").await;
    }

    /// Waits until exactly these bytes have come next.
    pub(crate) async fn expect(&mut self, bytes: &[u8]) {
        while self.input.len() < bytes.len() && bytes.starts_with(&self.input) {
            let expected = bytes.escape_ascii().to_string();
            if within(&expected, self.stream.read_buf(&mut self.input)).await.unwrap() == 0 {
                break;
            }
        }
        let got = self.input.get(..bytes.len()).unwrap_or(&self.input);
        assert_eq!(got.escape_ascii().to_string(), bytes.escape_ascii().to_string());
        self.input.advance(bytes.len());
    }

    /// Waits for a whole batch, and returns it.
    pub(crate) async fn batch(&mut self) -> Batch {
        loop {
            if let logd_protocol::Decoded::Whole { value, .. } = Batch::take(&mut self.input, 1 << 26) {
                return value.unwrap();
            }
            let count = within("a batch", self.stream.read_buf(&mut self.input)).await.unwrap();
            assert_ne!(count, 0, "the client closed the connection in the middle of a batch");
        }
    }

    /// The next line, without its end; `None` when the client has closed the connection.
    pub(crate) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                let line = self.input.split_to(end + 1);
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if within("a line", self.stream.read_buf(&mut self.input)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes)).await.unwrap();
    }

    /// Whether nothing comes for a while: to be used where what would come is on its way already.
    pub(crate) async fn is_silent(&mut self) -> bool {
        let wait = Duration::from_millis(50);
        self.input.is_empty()
            && tokio::time::timeout(wait, self.stream.read_buf(&mut self.input)).await.is_err()
    }

    /// Waits until the client has closed the connection.
    pub(crate) async fn closed(mut self) {
        let rest = within("the end", self.stream.read_buf(&mut self.input)).await.unwrap_or(0);
        assert_eq!(rest, 0, "`{}` came instead of the end", self.input.escape_ascii());
    }
}

/// Waits for `future` for as long as a step can take.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIMEOUT, future)
        .await
        .unwrap_or_else(|_| panic!("nothing came for {STEP_TIMEOUT:?} while waiting for {what}"))
}

/// A batch of these messages for the topic `default`.
pub(crate) fn batch(messages: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
    for message in messages {
        builder.push(message.as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}
