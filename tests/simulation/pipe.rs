//! One direction of a simulated connection.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

/// How many bytes are held and on their way together: less than a large answer has, so that who sends has to wait.
const CAPACITY: usize = 16 * 1024;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What one side writes and the other reads.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, known to one side or to none")]
pub(crate) struct Pipe {
    /// What can be read.
    pub(crate) held: VecDeque<u8>,
    /// How many bytes are on their way.
    pub(crate) moving: usize,
    /// When the last of all that is on its way arrives.
    pub(crate) last_due: Instant,
    /// Who reads knows that no more comes.
    pub(crate) has_ended: bool,
    /// Nothing arrives any more, and nobody knows.
    pub(crate) is_lost: bool,
    /// Who writes has closed it.
    pub(crate) is_closed: bool,
    /// Who reads has closed it.
    pub(crate) is_unread: bool,
    /// After so many bytes the connection breaks.
    pub(crate) cut_after: Option<usize>,
    /// Who writes knows that the connection is broken.
    is_broken_for_writer: bool,
    /// Who reads does.
    is_broken_for_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self {
            held: VecDeque::new(),
            moving: 0,
            last_due: Instant::now(),
            has_ended: false,
            is_lost: false,
            is_closed: false,
            is_unread: false,
            cut_after: None,
            is_broken_for_writer: false,
            is_broken_for_reader: false,
            reader: None,
            writer: None,
        }
    }

    fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.held.len() + self.moving)
    }

    pub(crate) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let count = room.len().min(self.held.len());
        if count > 0 {
            for (to, from) in room.iter_mut().zip(self.held.drain(..count)) {
                *to = from;
            }
            self.writer.take().into_iter().for_each(Waker::wake);
            return Ok(count);
        }
        match (self.is_broken_for_reader, self.has_ended) {
            (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
            (false, true) => Ok(0),
            (false, false) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Takes up to so many bytes; how many.
    pub(crate) fn write(&mut self, bytes: usize) -> io::Result<usize> {
        if self.is_broken_for_writer {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.min(self.room());
        if taken == 0 && bytes > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.moving += taken;
        Ok(taken)
    }

    /// How many of these bytes pass before the connection breaks.
    pub(crate) fn passing(&mut self, bytes: usize) -> usize {
        let Some(left) = &mut self.cut_after else { return bytes };
        let passing = bytes.min(*left);
        *left -= passing;
        passing
    }

    /// Who writes hears that the connection is broken.
    pub(crate) fn break_for_writer(&mut self) {
        self.is_broken_for_writer = true;
        self.writer.take().into_iter().for_each(Waker::wake);
    }

    /// Who reads does, and may find what has arrived before.
    pub(crate) fn break_for_reader(&mut self, is_purged: bool) {
        self.is_broken_for_reader = true;
        if is_purged {
            self.held.clear();
        }
        self.wake_reader();
    }

    pub(crate) fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.held.is_empty() && !self.is_broken_for_reader && !self.has_ended
    }

    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_quiet() {
            return Poll::Ready(());
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_broken_for_writer || self.room() > 0 {
            return Poll::Ready(());
        }
        self.writer = Some(context.waker().clone());
        Poll::Pending
    }
}
