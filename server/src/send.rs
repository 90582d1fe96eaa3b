//! Sending answers: a buffer of answer lines, and stretches of files that the kernel moves by itself.
//!
//! A peer is given up when it takes nothing for the server's timeout, and with it what is on the way to it. What counts
//! is progress: a slow reader of a large answer that keeps reading is served to the end.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use logd_protocol::{Offset, Response};
use rustix::net::SendFlags;
use thiserror::Error;
use tokio::time::Instant;

use crate::log::{Piece, Selection};
use crate::socket::{Raw, Socket};
use crate::stats::Stats;

/// How much is asked of one sendfile: enough to make the calls few, and so little that others get their turn.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// A connection that the runtime serves, and whose peer takes everything at once, leaves others their turn after so many
/// bytes.
const TURN_BYTES: usize = 1024 * 1024;

/// From how many bytes on an answer is sent ahead of them.
const AHEAD_BYTES: u64 = 64 * 1024;

/// How much is copied at once from a file that has no descriptor.
const COPY_BYTES: usize = 64 * 1024;

/// How often within the timeout a peer that seems to take nothing is looked at.
const LOOKS_IN_TIMEOUT: u32 = 8;

/// The answers to pipelined requests are sent together until they have so many bytes.
pub(crate) const ANSWERS_BYTES_MAX: usize = 64 * 1024;

/// Why an answer broke off.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    /// The peer is gone, or takes nothing.
    #[error(transparent)]
    Peer(#[from] io::Error),
    /// What is to be sent cannot be read.
    #[error("cannot read `{path}` at offset {offset}: {source}", path = path.display())]
    Partition { path: PathBuf, offset: Offset, source: io::Error },
}

impl SendError {
    fn partition(piece: &Piece, place: u64, source: io::Error) -> Self {
        Self::Partition { path: piece.path(), offset: piece.offset(place), source }
    }

    fn too_short(piece: &Piece, place: u64) -> Self {
        let text = "the file has become shorter";
        Self::partition(piece, place, io::Error::new(io::ErrorKind::UnexpectedEof, text))
    }
}

/// What a connection has to send.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    socket: &'a Socket,
    stats: &'a Stats,
    /// The longest time without progress.
    timeout: Duration,
    answers: Vec<u8>,
    /// How much was sent in this turn.
    turn_bytes: AtomicUsize,
}

impl<'a> Output<'a> {
    pub(crate) fn new(socket: &'a Socket, stats: &'a Stats, timeout: Duration) -> Self {
        Self { socket, stats, timeout, answers: Vec::new(), turn_bytes: AtomicUsize::new(0) }
    }

    /// Adds an answer to those that are sent with the next flush.
    pub(crate) fn put(&mut self, response: &Response<'_>) {
        response.put(&mut self.answers);
    }

    /// Whether so much is waiting that it should be sent.
    pub(crate) fn is_full(&self) -> bool {
        self.answers.len() >= ANSWERS_BYTES_MAX
    }

    /// Sends the answers that wait.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.flush_with(SendFlags::empty()).await
    }

    /// Sends the answers that wait, and then what was selected.
    pub(crate) async fn flush_and_send(&mut self, selection: &Selection) -> Result<(), SendError> {
        // Where little follows, one packet holds all of it. Before much, the answer goes ahead: the peer is woken for it,
        // and the kernel, where it paces what it sends, has measured the way.
        let flags = if selection.bytes() < AHEAD_BYTES { SendFlags::MORE } else { SendFlags::empty() };
        self.flush_with(flags).await?;
        for piece in &selection.pieces {
            match piece.file.descriptor() {
                Some(file) => self.send_file(file, piece).await?,
                None => self.copy_file(piece).await?,
            }
        }
        Ok(())
    }

    async fn flush_with(&mut self, flags: SendFlags) -> io::Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.answers.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += self.progress(|socket| socket.send(rest, flags)).await?;
        }
        self.answers.clear();
        self.answers.shrink_to(ANSWERS_BYTES_MAX);
        Ok(())
    }

    async fn send_file(&self, file: BorrowedFd<'_>, piece: &Piece) -> Result<(), SendError> {
        let end = piece.place.saturating_add(piece.bytes);
        let mut place = piece.place;
        while place < end {
            let bytes = usize::try_from(end - place).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let sent = match self.progress(|socket| socket.send_file(file, place, bytes)).await {
                Ok(0) => return Err(SendError::too_short(piece, place)),
                Ok(sent) => sent,
                Err(error) if is_peers(&error) => return Err(SendError::Peer(error)),
                Err(error) => return Err(SendError::partition(piece, place, error)),
            };
            place += sent as u64;
        }
        Ok(())
    }

    async fn copy_file(&self, piece: &Piece) -> Result<(), SendError> {
        let end = piece.place.saturating_add(piece.bytes);
        let mut place = piece.place;
        let mut buffer = vec![0; COPY_BYTES];
        while place < end {
            let bytes = usize::try_from(end - place).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            let read = piece.file.read_at(buffer.get_mut(..bytes).unwrap_or_default(), place);
            let read = read.map_err(|error| SendError::partition(piece, place, error))?;
            if read == 0 {
                return Err(SendError::too_short(piece, place));
            }
            place += read as u64;
            let mut sent = 0;
            while let Some(rest) = buffer.get(sent..read).filter(|rest| !rest.is_empty()) {
                sent += self.progress(|socket| socket.send(rest, SendFlags::empty())).await?;
            }
        }
        Ok(())
    }

    /// Calls `send` when the socket takes something, and counts what it took.
    async fn progress(&self, send: impl Fn(Raw<'_>) -> io::Result<usize>) -> io::Result<usize> {
        let mut deadline = None;
        loop {
            match self.socket.send(&send) {
                Ok(sent) => return Ok(self.count(sent).await),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    let deadline = *deadline.get_or_insert(now + self.timeout);
                    if now >= deadline {
                        self.socket.abandon();
                        let text = "the peer has taken nothing for the whole of --timeout";
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                    let look = (now + self.timeout / LOOKS_IN_TIMEOUT).min(deadline);
                    if self.socket.is_writable_by(look).await? {
                        continue;
                    }
                    // The kernel says that a socket is writable when a good part of its buffer is free, which takes a
                    // slow reader longer than the timeout. That there is any room at all is seen by trying.
                    match send(self.socket.raw()) {
                        Ok(sent) => return Ok(self.count(sent).await),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn count(&self, sent: usize) -> usize {
        self.stats.sent(sent as u64);
        // A peer that takes everything at once must not keep the others waiting. On a thread there are none.
        if self.socket.is_own() {
            return sent;
        }
        if self.turn_bytes.fetch_add(sent, Ordering::Relaxed).saturating_add(sent) < TURN_BYTES {
            tokio::task::coop::consume_budget().await;
        } else {
            self.turn_bytes.store(0, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        sent
    }
}

/// Whether an error of a transfer from a file to a socket is about the socket.
fn is_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
        NotConnected, TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe
            | ConnectionAborted
            | ConnectionReset
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | NotConnected
            | TimedOut
    )
}
