//! One TCP connection: bytes out, answers and batches in.
//!
//! It knows how to send all of some bytes, how to receive whole answers and batches, and how to tell whether the peer
//! has closed; what is asked, and whether an answer fits the question, is the session's matter.
//!
//! - Received bytes wait in `input` until they are taken. A future that is dropped while it waits loses none of them.
//! - Every wait has a bound, and every byte that moves starts it anew: time-outs measure progress.
//! - [`Connection::send`] fails only while bytes are left to send. A peer that needs all of them has not got them.
//! - After an error the connection cannot be used any further.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use logd_protocol::limits::MOK_BYTES_MAX;
use logd_protocol::{
    Batch, BatchError, Broken, Decoded, Offset, Reason, Response, decode_batch, decode_response,
};
use tokio::time::timeout;

use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::transport::Transport;

/// The room made for an answer that carries no batches.
const ANSWER_BYTES: usize = 4096;
/// The room made at once for batches: few calls and allocations for many small ones, little waste for the last.
pub(crate) const STREAM_BYTES: usize = 256 * 1024;
/// How long to look for the reason that a server gave before it closed in the middle of a request.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(100);

/// An answer that owns its bytes, without the batches that follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Ok,
    Found { offset: Offset, batches: u64 },
    Lines(Vec<u8>),
    Error(Reason),
}

impl From<Response<'_>> for Reply {
    fn from(response: Response<'_>) -> Self {
        match response {
            Response::Ok => Self::Ok,
            Response::Found { offset, batches } => Self::Found { offset, batches },
            Response::Lines(lines) => Self::Lines(lines.to_vec()),
            Response::Error(reason) => Self::Error(reason),
        }
    }
}

/// A batch taken off the input.
#[derive(Debug)]
pub(crate) struct Taken {
    /// What it is, or what is wrong with it; `None` for one without a body, which Go logd stores.
    pub(crate) batch: Option<Result<Batch, BatchError>>,
    /// The bytes that it has, envelope and body.
    pub(crate) bytes: u64,
}

/// A connection that is there.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Transport,
    peer: Arc<str>,
    input: BytesMut,
    read_timeout: Duration,
    write_timeout: Duration,
}

impl Connection {
    /// Connects to the configured host, trying each of its addresses.
    pub(crate) async fn connect(config: &ClientConfig) -> Result<Self, Error> {
        let peer: Arc<str> = config.host.as_str().into();
        let what = || format!("cannot connect to `{peer}`");
        let stream = timeout(config.connect_timeout, Transport::connect(config))
            .await
            .map_err(|_| {
                let limit = config.connect_timeout;
                Error::new(ErrorKind::Connect, format!("{}: no answer within `{limit:?}`", what()))
            })?
            .map_err(|error| Error::io(ErrorKind::Connect, what(), error))?;
        stream.set_nodelay().map_err(|error| Error::io(ErrorKind::Connect, what(), error))?;
        Ok(Self {
            stream,
            peer,
            input: BytesMut::new(),
            read_timeout: config.read_timeout,
            write_timeout: config.write_timeout,
        })
    }

    /// The host that the connection was made to.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    /// Hands all of `bytes` to the system. After an error, some of them were not.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let sent = match timeout(self.write_timeout, self.stream.write(bytes)).await {
                Ok(Ok(0)) => return Err(self.send_error(io::ErrorKind::WriteZero.into()).await),
                Ok(Ok(sent)) => sent,
                Ok(Err(error)) => return Err(self.send_error(error).await),
                Err(_) => {
                    return Err(self.timed_out("took in nothing", self.write_timeout));
                }
            };
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// The next answer. The server can take `patience` longer than usual to begin it.
    pub(crate) async fn reply(&mut self, patience: Duration) -> Result<Reply, Error> {
        let mut limit = self.read_timeout.saturating_add(patience);
        loop {
            let bytes = match decode_response(&self.input, MOK_BYTES_MAX) {
                Decoded::Whole { value, bytes } => {
                    let reply = Reply::from(value);
                    self.input.advance(bytes);
                    return Ok(reply);
                }
                Decoded::More { bytes } => bytes,
                Decoded::Broken(broken) => return Err(self.broken(broken)),
            };
            self.receive(bytes, ANSWER_BYTES, limit).await?;
            limit = self.read_timeout;
        }
    }

    /// Takes the next batch of an answer off what has been received: `None` while it is not all there.
    pub(crate) fn take_batch(&mut self, bytes_max: usize) -> Result<Result<Taken, Missing>, Error> {
        if let Decoded::Whole { value, bytes } = decode_batch(&self.input, bytes_max)
            && value.body().is_empty()
        {
            self.input.advance(bytes);
            return Ok(Ok(Taken { batch: None, bytes: bytes as u64 }));
        }
        match Batch::take(&mut self.input, bytes_max) {
            Decoded::Whole { value, bytes } => Ok(Ok(Taken { batch: Some(value), bytes: bytes as u64 })),
            Decoded::More { bytes } => Ok(Err(Missing(bytes))),
            Decoded::Broken(broken) => Err(self.broken(broken)),
        }
    }

    /// Receives some of the bytes that are missing.
    pub(crate) async fn receive_batch(&mut self, missing: Missing) -> Result<(), Error> {
        self.receive(missing.0, STREAM_BYTES, self.read_timeout).await
    }

    /// Whether the peer has neither closed nor sent anything unasked, by what the system knows right now.
    ///
    /// What comes when nothing is due is a farewell: no answer that follows it could be told from it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.input.is_empty() && self.stream.is_quiet()
    }

    /// Completes when the connection is no longer quiet. Nothing is lost when the future is dropped.
    pub(crate) async fn disturbed(&self) {
        while self.is_quiet() {
            if self.stream.readable().await.is_err() || self.stream.has_come() {
                return;
            }
        }
    }

    /// Waits for bytes to come in, with room for `bytes` of them altogether, or for `chunk` more at least.
    async fn receive(&mut self, bytes: usize, chunk: usize, limit: Duration) -> Result<(), Error> {
        let missing = bytes.saturating_sub(self.input.len());
        let room = self.input.capacity() - self.input.len();
        if room < missing || room < ANSWER_BYTES {
            self.input.reserve(missing.max(chunk));
        }
        match timeout(limit, self.stream.read(&mut self.input)).await {
            Ok(Ok(0)) => Err(Error::new(ErrorKind::Disconnected, self.ended())),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::io(ErrorKind::Disconnected, self.ended(), error)),
            Err(_) => Err(self.timed_out("sent nothing", limit)),
        }
    }

    fn ended(&self) -> String {
        let when = if self.input.is_empty() { "before its answer" } else { "in the middle of its answer" };
        format!("`{}` ended the connection {when}", self.peer)
    }

    pub(crate) const fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    pub(crate) fn timed_out(&self, what: &str, limit: Duration) -> Error {
        Error::new(ErrorKind::TimedOut, format!("`{}` {what} for `{limit:?}`", self.peer))
    }

    fn broken(&self, broken: Broken) -> Error {
        Error::caused(ErrorKind::Protocol, format!("`{}` sent what is no answer", self.peer), broken)
    }

    /// What a failed write means: the reason that the server gave before it closed, if it gave one.
    async fn send_error(&mut self, error: io::Error) -> Error {
        let last_words = async {
            while self.stream.read(&mut self.input).await? != 0 {}
            Ok::<_, io::Error>(())
        };
        // Whether this succeeds or not, what counts is what has come in.
        let _ = timeout(LAST_WORDS_TIMEOUT, last_words).await;
        match decode_response(&self.input, MOK_BYTES_MAX) {
            Decoded::Whole { value: Response::Error(reason), .. } => Error::new(
                ErrorKind::Server(reason),
                format!("`{}` ended the connection in the middle of a request: {reason}", self.peer),
            ),
            _ => {
                let what = format!("`{}` ended the connection in the middle of a request", self.peer);
                Error::io(ErrorKind::Disconnected, what, error)
            }
        }
    }
}

/// How many bytes there must be before it is worth looking for a whole batch again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Missing(usize);

#[cfg(test)]
mod tests;
