//! A batch in hand: its messages, and what has become of each.
//!
//! What a message costs is kept small: its delivery holds a share of the batch, and acknowledging it is one write to a byte
//! of its own. Nobody is told, unless somebody waits; the tracker looks when it wants to know.
//!
//! The orders are sequentially consistent: who acknowledges writes first and then looks whether somebody waits; who waits
//! says so first and then looks what was acknowledged. So one of them sees the other.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bytes::Bytes;
use logd_protocol::{Messages, Offset};
use logd_statehandlers::{Anchor, Position};
use tokio::time::Instant;

use super::shared::Shared;
use crate::error::Error;
use crate::scanner::{Fetched, Message};

/// Somebody works on the message, or nobody has it yet.
const OPEN: u8 = 0;
/// It is done.
const DONE: u8 = 1;
/// It waits to come again.
const BACK: u8 = 2;
/// It is on its way to the dead letters.
const DYING: u8 = 3;

/// Where a message is in its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// How many messages are before it, from the first that was wanted on.
    pub(super) index: u32,
    /// Where its header starts in the body.
    pub(super) delta: u32,
    /// Where its own bytes start.
    pub(super) start: u32,
    /// Behind its own bytes.
    pub(super) end: u32,
}

impl Span {
    /// Where the next message's header starts in the body.
    const fn next(self) -> u32 {
        self.end + 2
    }
}

/// What comes next in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// How many messages are before it.
    pub(super) index: u32,
    /// Where its header starts in the body.
    pub(super) delta: u32,
}

/// A batch, from the first message that is wanted on.
pub(super) struct Lot {
    /// Which run of reading it is of: see [`State`](super::shared::State).
    pub(super) generation: u64,
    pub(super) shared: Arc<Shared>,
    /// When it was taken into hand.
    pub(super) since: Instant,
    offset: Offset,
    end: Offset,
    crc: u32,
    body: Bytes,
    first: Mark,
    /// The mark of the first message that was not handed out, in one: the index, and the delta.
    handed: AtomicU64,
    states: Box<[AtomicU8]>,
}

impl Lot {
    pub(super) fn new(fetched: &Fetched, generation: u64, shared: Arc<Shared>) -> Result<Self, Error> {
        let Fetched { offset, end, crc, count, ref messages } = *fetched;
        let bounds =
            (u32::try_from(messages.delta()), u32::try_from(messages.body().len()), u32::try_from(count));
        let (Ok(delta), Ok(_), Ok(count)) = bounds else {
            return Err(Error::invalid(format!("the batch at `{offset}` is too large to be worked on")));
        };
        let first = Mark { index: 0, delta };
        Ok(Self {
            generation,
            shared,
            since: Instant::now(),
            offset,
            end,
            crc,
            body: messages.body().clone(),
            first,
            handed: AtomicU64::new(pack(first)),
            states: (0..count).map(|_| AtomicU8::new(OPEN)).collect(),
        })
    }

    /// How many messages there are.
    pub(super) fn count(&self) -> u32 {
        // As many as an `u32` has: see `new`.
        u32::try_from(self.states.len()).unwrap_or(u32::MAX)
    }

    /// The first message.
    pub(super) const fn first(&self) -> Mark {
        self.first
    }

    /// The mark behind the last message.
    pub(super) fn last(&self) -> Mark {
        // As many bytes as an `u32` has: see `new`.
        Mark { index: self.count(), delta: u32::try_from(self.body.len()).unwrap_or(u32::MAX) }
    }

    pub(super) const fn anchor(&self) -> Anchor {
        Anchor { offset: self.offset, crc: self.crc }
    }

    /// The position behind the batch.
    pub(super) const fn end(&self) -> Position {
        Position::at(self.end)
    }

    /// The position of the message whose header starts there in the body.
    pub(super) fn position(&self, delta: u32) -> Position {
        if delta as usize >= self.body.len() {
            self.end()
        } else {
            Position { offset: self.offset, delta: u64::from(delta) }
        }
    }

    /// The message at a mark; `None` behind the last.
    pub(super) fn span(&self, mark: Mark) -> Option<Span> {
        // A batch's frames were checked when it was taken off the connection.
        let message = Messages::starting_at(&self.body, mark.delta as usize).next()?.ok()?;
        let start = u32::try_from(message.start).ok()?;
        let end = start.checked_add(u32::try_from(message.bytes.len()).ok()?)?;
        Some(Span { index: mark.index, delta: mark.delta, start, end })
    }

    /// The mark behind a message.
    pub(super) const fn behind(span: Span) -> Mark {
        Mark { index: span.index + 1, delta: span.next() }
    }

    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        self.body.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    pub(super) fn message(&self, span: Span) -> Message {
        Message { position: self.position(span.delta), bytes: self.body.slice_ref(self.bytes(span)) }
    }

    /// The first message that was not handed out.
    pub(super) fn handed(&self) -> Mark {
        unpack(self.handed.load(Ordering::Acquire))
    }

    /// The messages before `mark` are handed out. Only the consumer says so.
    pub(super) fn hand_out(&self, mark: Mark) {
        self.handed.store(pack(mark), Ordering::Release);
    }

    /// The message is done. `false` when it was before.
    pub(super) fn settle(&self, index: u32) -> bool {
        self.state(index).is_some_and(|state| state.swap(DONE, Ordering::SeqCst) != DONE)
    }

    pub(super) fn is_done(&self, index: u32) -> bool {
        self.state(index).is_some_and(|state| state.load(Ordering::SeqCst) == DONE)
    }

    /// Whether somebody works on it, or it is on its way to the dead letters.
    pub(super) fn is_at_work(&self, index: u32) -> bool {
        self.state(index).is_some_and(|state| matches!(state.load(Ordering::SeqCst), OPEN | DYING))
    }

    /// It waits to come again from here on. `false` when nobody works on it.
    pub(super) fn give_back(&self, index: u32) -> bool {
        self.change(index, OPEN, BACK)
    }

    /// It comes again. `false` when it does not wait for that.
    pub(super) fn come_again(&self, index: u32) -> bool {
        self.change(index, BACK, OPEN)
    }

    /// It is on its way to the dead letters. `false` when it is there or done already.
    pub(super) fn bury(&self, index: u32) -> bool {
        self.change(index, OPEN, DYING) || self.change(index, BACK, DYING)
    }

    fn change(&self, index: u32, from: u8, to: u8) -> bool {
        let exchange =
            |state: &AtomicU8| state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        self.state(index).is_some_and(|state| exchange(state).is_ok())
    }

    fn state(&self, index: u32) -> Option<&AtomicU8> {
        self.states.get(index as usize)
    }
}

// What is shared knows of the lots: it would go round in circles.
impl fmt::Debug for Lot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lot")
            .field("offset", &self.offset)
            .field("messages", &self.states.len())
            .finish_non_exhaustive()
    }
}

const fn pack(mark: Mark) -> u64 {
    (mark.index as u64) << 32 | mark.delta as u64
}

fn unpack(packed: u64) -> Mark {
    let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default();
    Mark { index: half(packed >> 32), delta: half(packed) }
}
