//! What a connection has received and not yet dealt with.
//!
//! The bytes lie in one buffer, where a request is decoded, checked and appended from without being moved. Buffers come
//! from a pool when there is something to read and go back when everything has been dealt with, so that connections
//! that are silent cost no memory.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use logd_protocol::limits::LINE_BYTES_MAX;

use crate::socket::Socket;

/// A buffer's first length: a request line, or many small requests.
const FIRST_BYTES: usize = 2 * LINE_BYTES_MAX;

/// So much room is made for what is only announced, or was wanted the last time.
const EAGER_BYTES_MAX: usize = 128 * 1024;

/// The most bytes that the pool keeps.
const POOL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Buffers that are not in use.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    buffers: Mutex<(Vec<Vec<u8>>, usize)>,
}

impl BufferPool {
    fn take(&self) -> Vec<u8> {
        let mut pool = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (buffers, bytes) = &mut *pool;
        let buffer = buffers.pop().unwrap_or_default();
        *bytes -= buffer.len();
        buffer
    }

    fn give(&self, buffer: Vec<u8>) {
        let mut pool = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (buffers, bytes) = &mut *pool;
        if !buffer.is_empty() && *bytes + buffer.len() <= POOL_BYTES_MAX {
            *bytes += buffer.len();
            buffers.push(buffer);
        }
    }
}

/// What a read of the socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The peer sends no more.
    End,
}

/// The received bytes of one connection.
#[derive(Debug)]
pub(crate) struct Input {
    pool: Arc<BufferPool>,
    /// All of it is initialized; its length is its capacity.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How long the buffer was when it was given back: so long a one is likely to be wanted again.
    last_length: usize,
}

impl Input {
    pub(crate) const fn new(pool: Arc<BufferPool>) -> Self {
        Self { pool, buffer: Vec::new(), start: 0, end: 0, last_length: FIRST_BYTES }
    }

    /// What has been received and not been consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes `bytes` bytes as dealt with.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the buffer back, if there is nothing in it.
    pub(crate) fn release(&mut self) {
        if self.end == 0 && !self.buffer.is_empty() {
            self.last_length = self.buffer.len().min(EAGER_BYTES_MAX);
            self.pool.give(std::mem::take(&mut self.buffer));
        }
    }

    /// Reads what the socket has, without waiting unless it is a thread's own. Room is made for up to `bytes` unconsumed bytes in all.
    pub(crate) fn read(&mut self, socket: &Socket, bytes: usize) -> io::Result<Received> {
        self.make_room(bytes);
        let Some(room) = self.buffer.get_mut(self.end..).filter(|room| !room.is_empty()) else {
            return Ok(Received::Nothing);
        };
        match socket.read(room) {
            Ok(0) => Ok(Received::End),
            Ok(read) => {
                self.end += read;
                Ok(Received::Bytes(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Whether there is room for more without growing.
    pub(crate) fn has_room(&self) -> bool {
        self.end < self.buffer.len() || self.buffer.is_empty()
    }

    fn make_room(&mut self, bytes: usize) {
        if self.buffer.is_empty() {
            self.buffer = self.pool.take();
        }
        // What a peer announces is not believed before half of it is there.
        let eager = EAGER_BYTES_MAX.max((self.end - self.start).saturating_mul(2));
        let hint = if self.end == 0 { self.last_length } else { FIRST_BYTES };
        let wanted = bytes.max(hint).min(eager);
        if self.start > 0 && self.start + wanted > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.start + wanted > self.buffer.len() {
            self.buffer.resize(self.start + wanted, 0);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        (self.start, self.end) = (0, 0);
        self.release();
    }
}
