//! What a consumer has in hand, and what may be committed. Pure: time is handed in.
//!
//! One row of slots in the order of the topic. A message is done when it was acknowledged, whatever the order; the
//! checkpoint moves over the done ones at the front only, so that it never passes one that is not. What was given back
//! comes again, with its slot, before anything new.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use logd_statehandlers::{Anchor, Checkpoint, Done, Position};
use tokio::time::Instant;

use crate::scanner::Message;

/// Names a slot for as long as the tracker is.
pub(super) type SlotId = u64;

/// What became of the message of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Somebody works on it.
    InHand,
    /// It is to come again from then on.
    Back(Instant),
    /// It is on its way to the dead letters.
    Dying,
    Done,
}

#[derive(Debug)]
struct Slot {
    /// Empty when it is done.
    message: Message,
    /// The position behind it.
    next: Position,
    /// The checksum of its batch; `None` for a stretch without messages.
    crc: Option<u32>,
    state: State,
    /// When it was handed out first.
    since: Instant,
    /// How often it was given back.
    returned: u32,
}

/// A message to be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handed {
    pub(super) slot: SlotId,
    pub(super) message: Message,
    /// The position behind it.
    pub(super) next: Position,
    /// How often it was given back before.
    pub(super) returned: u32,
}

/// What is in hand between the checkpoint and the scanner.
#[derive(Debug)]
pub(super) struct Tracker {
    /// The id of the first slot.
    first: SlotId,
    slots: VecDeque<Slot>,
    /// The slots that are to come again, by time.
    back: BTreeSet<(Instant, SlotId)>,
    /// The bytes of the messages that are not done.
    bytes: usize,
    /// How many slots are not done.
    open: usize,
    /// Everything before it is done.
    next: Position,
    anchor: Option<Anchor>,
    /// How many messages were done since [`Tracker::take_done`].
    done: u64,
}

impl Tracker {
    /// A tracker for a reader that goes on at `next`.
    pub(super) const fn new(next: Position, anchor: Option<Anchor>) -> Self {
        Self {
            first: 0,
            slots: VecDeque::new(),
            back: BTreeSet::new(),
            bytes: 0,
            open: 0,
            next,
            anchor,
            done: 0,
        }
    }

    /// The position behind the last message that was taken into hand; `None` when none was.
    pub(super) fn delivered(&self) -> Option<Position> {
        self.slots.back().map(|slot| slot.next).or_else(|| (self.first > 0).then_some(self.next))
    }

    /// Up to where everything was taken into hand or passed.
    pub(super) fn taken(&self) -> Position {
        self.slots.back().map_or(self.next, |slot| slot.next)
    }

    /// The last batch before that.
    pub(super) fn last_batch(&self) -> Option<Anchor> {
        let anchor = |slot: &Slot| Some(Anchor { offset: slot.message.position.offset, crc: slot.crc? });
        self.slots.iter().rev().find_map(anchor).or(self.anchor)
    }

    /// The checksum of the batch of a message.
    pub(super) fn crc(&mut self, slot: SlotId) -> Option<u32> {
        self.slot(slot).and_then(|slot| slot.crc)
    }

    /// Whether no more messages should be taken from the topic for now.
    pub(super) fn is_full(&self, messages_max: usize, bytes_max: usize) -> bool {
        self.slots.len() >= messages_max || (self.bytes >= bytes_max && self.open > 0)
    }

    /// Whether nothing is in hand.
    pub(super) const fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether somebody works on one, or it is on its way to the dead letters; the others that are not done wait to come
    /// again.
    pub(super) fn is_at_work(&self) -> bool {
        self.open > self.back.len()
    }

    /// Everything before it is done.
    pub(super) const fn next(&self) -> Position {
        self.next
    }

    /// How many messages are not done.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// How many were done since this was asked last.
    pub(super) const fn done_since(&self) -> u64 {
        self.done
    }

    /// Counts what is done from here on anew.
    pub(super) const fn forget_done(&mut self) {
        self.done = 0;
    }

    /// When the oldest message was handed out first that is not done.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.slots.iter().find(|slot| slot.state != State::Done).map(|slot| slot.since)
    }

    /// Takes a message from the topic into hand; `next` is the position behind it, `crc` the checksum of its batch.
    pub(super) fn take(&mut self, message: Message, next: Position, crc: u32, now: Instant) -> Handed {
        let slot = self.end();
        self.bytes += message.bytes.len();
        self.open += 1;
        self.slots.push_back(Slot {
            message: message.clone(),
            next,
            crc: Some(crc),
            state: State::InHand,
            since: now,
            returned: 0,
        });
        Handed { slot, message, next, returned: 0 }
    }

    /// Passes over what was done already, or a stretch without messages (which has no `crc`), up to `next`.
    pub(super) fn pass(&mut self, from: Position, next: Position, crc: Option<u32>, now: Instant) {
        let message = Message { position: from, bytes: Bytes::new() };
        self.slots.push_back(Slot { message, next, crc, state: State::Done, since: now, returned: 0 });
        self.move_on();
    }

    /// A message is done. `false` when it was done before, or is not of this tracker.
    pub(super) fn ack(&mut self, slot: SlotId) -> bool {
        let Some(settled) = self.slot(slot).filter(|slot| slot.state != State::Done) else { return false };
        let was = std::mem::replace(&mut settled.state, State::Done);
        let bytes = std::mem::take(&mut settled.message.bytes).len();
        if let State::Back(at) = was {
            self.back.remove(&(at, slot));
        }
        self.bytes -= bytes;
        self.open -= 1;
        self.done += 1;
        self.move_on();
        true
    }

    /// Everything before `next` is done.
    pub(super) fn ack_before(&mut self, next: Position) {
        let before: Vec<SlotId> = (self.first..self.end())
            .zip(&self.slots)
            .take_while(|(_, slot)| slot.next <= next)
            .map(|(id, _)| id)
            .collect();
        for slot in before {
            self.ack(slot);
        }
    }

    /// Moves over what is done at the front.
    fn move_on(&mut self) {
        while let Some(front) = self.slots.front().filter(|front| front.state == State::Done) {
            self.next = front.next;
            if let Some(crc) = front.crc {
                self.anchor = Some(Anchor { offset: front.message.position.offset, crc });
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// The id that the next slot gets.
    fn end(&self) -> SlotId {
        self.first + self.slots.len() as u64
    }

    /// A message comes again from `at` on. `None` when it is done, or is not of this tracker; else how often it has come
    /// back.
    pub(super) fn give_back(&mut self, slot: SlotId, at: Instant) -> Option<u32> {
        let back = self.slot(slot).filter(|slot| slot.state == State::InHand)?;
        back.state = State::Back(at);
        back.returned = back.returned.saturating_add(1);
        let returned = back.returned;
        self.back.insert((at, slot));
        Some(returned)
    }

    /// A message goes to the dead letters, from where it does not come again. How often it has come back; `None` when it is
    /// there or done already, or is not of this tracker.
    pub(super) fn bury(&mut self, slot: SlotId) -> Option<u32> {
        let dying = self.slot(slot).filter(|slot| !matches!(slot.state, State::Done | State::Dying))?;
        let was = std::mem::replace(&mut dying.state, State::Dying);
        let returned = dying.returned;
        if let State::Back(at) = was {
            self.back.remove(&(at, slot));
        }
        Some(returned)
    }

    /// The next message that is to come again by `now`.
    pub(super) fn again(&mut self, now: Instant) -> Option<Handed> {
        let (at, id) = self.back.first().copied().filter(|(at, _)| *at <= now)?;
        self.back.remove(&(at, id));
        let slot = self.slot(id)?;
        slot.state = State::InHand;
        Some(Handed { slot: id, message: slot.message.clone(), next: slot.next, returned: slot.returned })
    }

    /// When the next message is to come again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.back.first().map(|(at, _)| *at)
    }

    /// What may be stored now. `ahead` is what was done before this reader began, and is further on than it has come.
    pub(super) fn checkpoint(&self, ahead: &[Done]) -> Checkpoint {
        let mut checkpoint = Checkpoint::at(self.next);
        checkpoint.anchor = self.anchor;
        let taken = self.taken();
        let done = self.slots.iter().filter(|slot| slot.state == State::Done);
        let done = done.map(|slot| Done { from: slot.message.position, to: slot.next });
        let ahead = ahead.iter().filter(|ahead| ahead.to > taken);
        let ahead = ahead.map(|ahead| Done { from: ahead.from.max(taken), to: ahead.to });
        for Done { from, to } in done.chain(ahead) {
            let is_full = checkpoint.done.len() == Checkpoint::DONE_MAX;
            match checkpoint.done.last_mut() {
                Some(last) if last.to == from => last.to = to,
                _ if is_full => break,
                _ => checkpoint.done.push(Done { from, to }),
            }
        }
        checkpoint
    }

    fn slot(&mut self, slot: SlotId) -> Option<&mut Slot> {
        let index = usize::try_from(slot.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use logd_protocol::Offset;
    use proptest::prelude::*;

    use super::*;

    fn at(offset: u64) -> Position {
        Position::at(Offset::new(offset))
    }

    fn message(offset: u64) -> Message {
        Message { position: at(offset), bytes: Bytes::from_static(b"hello") }
    }

    fn tracker(count: u64, now: Instant) -> Tracker {
        let mut tracker = Tracker::new(at(0), None);
        for number in 0..count {
            assert_eq!(tracker.take(message(number), at(number + 1), 7, now).slot, number);
        }
        tracker
    }

    #[test]
    fn the_checkpoint_moves_over_the_done_ones_at_the_front_only() {
        let now = Instant::now();
        let mut tracker = tracker(4, now);
        assert!(tracker.ack(2));
        assert_eq!(tracker.next(), at(0));
        let checkpoint = tracker.checkpoint(&[]);
        assert_eq!((checkpoint.next, checkpoint.done), (at(0), vec![Done { from: at(2), to: at(3) }]));
        assert!(tracker.ack(0) && !tracker.ack(0));
        assert_eq!(tracker.checkpoint(&[]).anchor, Some(Anchor { offset: Offset::new(0), crc: 7 }));
        assert_eq!((tracker.next(), tracker.open()), (at(1), 2));
        assert!(tracker.ack(1));
        assert_eq!((tracker.next(), tracker.checkpoint(&[]).done), (at(3), vec![]));
        assert_eq!(tracker.oldest(), Some(now));
        tracker.pass(at(4), at(9), None, now);
        assert!(tracker.ack(3) && tracker.is_empty());
        assert_eq!(tracker.next(), at(9));
        assert_eq!(tracker.checkpoint(&[]).anchor.map(|anchor| anchor.offset), Some(Offset::new(3)));
        assert_eq!(tracker.done_since(), 4);
    }

    #[test]
    fn what_was_given_back_comes_again_in_time_and_once() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut tracker = tracker(3, now);
        assert_eq!(tracker.give_back(1, now + second), Some(1));
        assert_eq!(tracker.give_back(1, now), None, "nobody has it in hand");
        assert_eq!(tracker.give_back(0, now + 2 * second), Some(1));
        assert_eq!((tracker.again(now), tracker.again_at()), (None, Some(now + second)));
        let again = tracker.again(now + second).unwrap();
        assert_eq!((again.slot, again.returned, again.message), (1, 1, message(1)));
        assert_eq!(tracker.again(now + second), None);
        assert!(tracker.ack(1) && tracker.ack(0), "who acknowledges late has done it all the same");
        assert_eq!(tracker.again_at(), None);
        assert_eq!(tracker.give_back(0, now), None);
        assert_eq!(tracker.next(), at(2));
    }

    #[test]
    fn the_window_is_bounded_in_messages_and_bytes() {
        let mut tracker = tracker(2, Instant::now());
        assert!(tracker.is_full(2, 100) && tracker.is_full(3, 10) && !tracker.is_full(3, 11));
        tracker.ack(1);
        assert!(tracker.is_full(2, 100), "a done one that waits for one before it is kept");
        tracker.ack(0);
        assert!(!tracker.is_full(1, 0), "nothing is in hand");
    }

    proptest! {
        #[test]
        fn no_unfinished_message_is_ever_passed(
            order in Just((0_u64..60).collect::<Vec<_>>()).prop_shuffle(),
            count in 0_usize..60,
        ) {
            let mut tracker = tracker(60, Instant::now());
            for slot in &order[..count] {
                tracker.ack(*slot);
            }
            let open: Vec<u64> = order[count..].to_vec();
            let first = open.iter().min().copied().unwrap_or(60);
            let checkpoint = tracker.checkpoint(&[]);
            prop_assert_eq!(checkpoint.next, at(first));
            for slot in first..60 {
                let is_done = checkpoint.done.iter().any(|done| done.from <= at(slot) && at(slot) < done.to);
                prop_assert_eq!(is_done, !open.contains(&slot));
            }
            prop_assert!(checkpoint.encode().is_ok());
        }
    }
}
