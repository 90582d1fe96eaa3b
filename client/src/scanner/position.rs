//! Where reading goes on: the arithmetic of offsets and deltas.
//!
//! Pure. A cursor names the batch to ask for next and the message to begin with in it. It moves over whole batches
//! only, so that after any failure the same question can be asked again.

use logd_protocol::{Batch, BatchMessages, Offset};
use logd_statehandlers::Position;

/// How the first batch of an answer lies to the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the one.
    Here,
    /// It is a later one: those between are missing.
    Beyond {
        /// The offset that was asked for.
        from: Offset,
        /// The offset that the answer begins with.
        to: Offset,
    },
    /// It is an earlier one, which no answer can be.
    Before,
}

/// The place of the next message to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    position: Position,
}

impl Cursor {
    pub(super) const fn new(position: Position) -> Self {
        Self { position }
    }

    /// The position of the next message.
    pub(super) const fn position(self) -> Position {
        self.position
    }

    /// The offset to ask for.
    pub(super) const fn offset(self) -> Offset {
        self.position.offset
    }

    /// Moves to the batch that an answer begins with.
    pub(super) fn arrive(&mut self, answered: Offset) -> Arrival {
        let from = self.position.offset;
        if answered < from {
            return Arrival::Before;
        }
        if answered == from {
            return Arrival::Here;
        }
        self.position = Position::at(answered);
        Arrival::Beyond { from, to: answered }
    }

    /// The messages of the batch that the cursor is at, from the cursor on; `None` when none starts there.
    pub(super) fn enter(self, batch: &Batch) -> Option<BatchMessages> {
        let delta = usize::try_from(self.position.delta).ok()?;
        let mut messages = batch.messages_from(0);
        while messages.delta() < delta {
            messages.next()?;
        }
        (messages.delta() == delta && !messages.is_done()).then_some(messages)
    }

    /// Moves behind the batch of `bytes` bytes that the cursor is at; `None` when there is no such offset.
    pub(super) fn pass(&mut self, bytes: u64) -> Option<()> {
        self.position = Position::at(self.position.offset.checked_add(bytes)?);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use logd_protocol::{BatchBuilder, TopicName};
    use proptest::prelude::*;

    use super::*;

    fn batch(messages: &[Vec<u8>]) -> Batch {
        let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
        for message in messages {
            builder.push(message).unwrap();
        }
        builder.finish().unwrap()
    }

    fn cursor(offset: u64, delta: u64) -> Cursor {
        Cursor::new(Position { offset: Offset::new(offset), delta })
    }

    #[test]
    fn an_answer_further_on_is_a_gap_and_begins_at_a_first_message() {
        let mut at = cursor(60, 12);
        assert_eq!(at.arrive(Offset::new(60)), Arrival::Here);
        assert_eq!(at, cursor(60, 12));
        assert_eq!(at.arrive(Offset::new(59)), Arrival::Before);
        assert_eq!(at, cursor(60, 12));
        let (from, to) = (Offset::new(60), Offset::new(61));
        assert_eq!(at.arrive(to), Arrival::Beyond { from, to });
        assert_eq!(at, cursor(61, 0));
    }

    #[test]
    fn nothing_is_beyond_the_largest_offset() {
        let mut at = cursor(u64::MAX - 1, 0);
        assert_eq!(at.pass(2), None);
        assert_eq!(at.pass(1), Some(()));
        assert_eq!(at.offset(), Offset::new(u64::MAX));
    }

    proptest! {
        #[test]
        fn only_where_a_message_starts_can_be_entered(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..10),
        ) {
            let batch = batch(&messages);
            let starts: Vec<usize> = batch.messages_from(0).map(|message| message.delta).collect();
            for delta in 0..batch.body().len() + 3 {
                let entered = cursor(5, delta as u64).enter(&batch);
                match starts.iter().position(|start| *start == delta) {
                    Some(index) => {
                        let rest: Vec<_> = entered.unwrap().map(|message| message.bytes.to_vec()).collect();
                        prop_assert_eq!(rest, &messages[index..]);
                    }
                    None => prop_assert!(entered.is_none()),
                }
            }
            prop_assert!(cursor(5, u64::MAX).enter(&batch).is_none());
        }
    }
}
