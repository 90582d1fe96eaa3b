//! What a consumer has in hand, and what may be committed. Pure: time is handed in.
//!
//! One row of batches in the order of the topic. A message is done when it was acknowledged, whatever the order; the
//! checkpoint moves over the done ones at the front only, so that it never passes one that is not. What was given back
//! comes again before anything new.
//!
//! Acknowledging does not go through here: it marks the message in its [`Lot`]. The tracker looks at the marks when it is
//! asked, from where it has come on; so every message is looked at once.

use std::collections::{BTreeMap, VecDeque};
use std::iter::successors;
use std::sync::Arc;

use logd_statehandlers::{Anchor, Checkpoint, Done, Position};
use tokio::time::Instant;

use super::lot::{Lot, Mark, Span};

/// A message to be worked on.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub(super) lot: Arc<Lot>,
    pub(super) span: Span,
    /// How often it was given back before.
    pub(super) returned: u32,
}

impl Handed {
    pub(super) fn position(&self) -> Position {
        self.lot.position(self.span.delta)
    }

    /// The position behind it.
    pub(super) fn next(&self) -> Position {
        self.lot.position(Lot::behind(self.span).delta)
    }
}

/// A part of the topic.
#[derive(Debug)]
enum Stretch {
    Lot(Arc<Lot>),
    /// Without messages, up to here.
    Gap(Position),
}

/// What is in hand between the checkpoint and the scanner.
#[derive(Debug)]
pub(super) struct Tracker {
    row: VecDeque<Stretch>,
    /// The mark in the first batch up to which every message is done.
    front: Option<Mark>,
    /// What is to come again, by time, and by a number that makes it unique.
    back: BTreeMap<(Instant, u64), Handed>,
    returns: u64,
    /// Everything before it is done.
    next: Position,
    anchor: Option<Anchor>,
    /// Whether anything was taken or passed.
    has_begun: bool,
    /// How many messages, and bytes of their bodies, `next` has moved over.
    settled: Amount,
    /// How many messages were not done when everything was let go of.
    abandoned: usize,
}

/// Messages, and bytes of the batches' bodies that they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Amount {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Tracker {
    /// A tracker for a reader that goes on at `next`.
    pub(super) const fn new(next: Position, anchor: Option<Anchor>) -> Self {
        Self {
            row: VecDeque::new(),
            front: None,
            back: BTreeMap::new(),
            returns: 0,
            next,
            anchor,
            has_begun: false,
            settled: Amount { messages: 0, bytes: 0 },
            abandoned: 0,
        }
    }

    /// Takes a batch, whose messages are handed out one by one.
    pub(super) fn take(&mut self, lot: Arc<Lot>) {
        self.row.push_back(Stretch::Lot(lot));
    }

    /// Passes over a stretch without messages, up to `next`.
    pub(super) fn pass(&mut self, next: Position) {
        self.has_begun = true;
        if next <= self.taken() {
            return;
        }
        self.row.push_back(Stretch::Gap(next));
        self.settle();
    }

    /// Lets go of everything that is in hand. What is done stays so, and how much was not is known:
    /// `left` where that was counted when what is stored was looked up.
    pub(super) fn let_go(&mut self, left: Option<usize>) {
        self.settle();
        self.abandoned = left.unwrap_or_else(|| self.open());
        self.row.clear();
        self.back.clear();
        self.front = None;
    }

    /// Moves over what is done at the front. Returns how much that was in all.
    pub(super) fn settle(&mut self) -> Amount {
        loop {
            match self.row.front() {
                None => break,
                Some(Stretch::Gap(next)) => self.next = *next,
                Some(Stretch::Lot(lot)) => {
                    let from = self.front.unwrap_or_else(|| lot.first());
                    let to = done_from(lot, from);
                    self.front = Some(to);
                    if to.index > from.index {
                        self.settled.messages += u64::from(to.index - from.index);
                        self.settled.bytes += u64::from(to.delta - from.delta);
                        self.next = lot.position(to.delta);
                        self.anchor = Some(lot.anchor());
                    }
                    if to.index < lot.count() {
                        break;
                    }
                    self.next = lot.end();
                    self.has_begun = true;
                }
            }
            self.front = None;
            self.row.pop_front();
        }
        self.settled
    }

    /// Everything before it is done.
    pub(super) fn next(&mut self) -> Position {
        self.settle();
        self.next
    }

    /// Whether there is nothing of which more could be done.
    pub(super) fn is_drained(&mut self) -> bool {
        self.settle();
        self.row.is_empty()
    }

    /// Whether nothing is in hand.
    pub(super) fn is_empty(&mut self) -> bool {
        self.settle();
        match (self.row.front(), self.front) {
            // Of every batch but the last, everything was handed out.
            (Some(Stretch::Lot(lot)), Some(front)) => front.index >= lot.handed().index,
            _ => true,
        }
    }

    /// The position behind the last message that was handed out; `None` when none was.
    pub(super) fn delivered(&self) -> Option<Position> {
        let is_begun = self.has_begun || self.lots().any(|lot| lot.handed() != lot.first());
        is_begun.then(|| self.taken())
    }

    /// Up to where everything was handed out or passed.
    pub(super) fn taken(&self) -> Position {
        match self.row.back() {
            None => self.next,
            Some(Stretch::Gap(next)) => *next,
            Some(Stretch::Lot(lot)) => lot.position(lot.handed().delta),
        }
    }

    /// The last batch before that.
    pub(super) fn last_batch(&self) -> Option<Anchor> {
        let anchor = self.lots().filter(|lot| lot.handed() != lot.first()).last().map(|lot| lot.anchor());
        anchor.or(self.anchor)
    }

    /// How many messages were handed out and are not done.
    pub(super) fn open(&self) -> usize {
        self.abandoned + self.count(|lot, index| !lot.is_done(index))
    }

    /// Whether somebody works on one, or it is on its way to the dead letters; the others that are not done wait to come
    /// again.
    pub(super) fn is_at_work(&mut self) -> bool {
        self.settle();
        self.count(Lot::is_at_work) > 0
    }

    fn count(&self, is_so: impl Fn(&Lot, u32) -> bool) -> usize {
        // Before the front, everything is done.
        let from = |number| self.front.filter(|_| number == 0).map_or(0, |front| front.index);
        let lots = self.lots().enumerate();
        lots.map(|(number, lot)| {
            (from(number)..lot.handed().index).filter(|index| is_so(lot, *index)).count()
        })
        .sum()
    }

    fn lots(&self) -> impl Iterator<Item = &Arc<Lot>> {
        self.row.iter().filter_map(|stretch| match stretch {
            Stretch::Lot(lot) => Some(lot),
            Stretch::Gap(_) => None,
        })
    }

    /// When the oldest message came that was handed out and is not done.
    pub(super) fn oldest(&mut self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        self.lots().next().map(|lot| lot.since)
    }

    /// Everything before `next` that was handed out is done.
    pub(super) fn settle_before(&self, next: Position) {
        for (number, lot) in self.lots().enumerate() {
            let handed = lot.handed();
            // Before the front, everything is done.
            let mut mark = self.front.filter(|_| number == 0).unwrap_or_else(|| lot.first());
            while mark.index < handed.index
                && let Some(span) = lot.span(mark)
            {
                mark = Lot::behind(span);
                if lot.position(mark.delta) > next {
                    return;
                }
                lot.settle(span.index);
            }
        }
    }

    /// A message comes again from `at` on. `None` when nobody works on it; else how often it has come back.
    pub(super) fn give_back(&mut self, handed: &Handed, at: Instant) -> Option<u32> {
        if !handed.lot.give_back(handed.span.index) {
            return None;
        }
        let returned = handed.returned.saturating_add(1);
        self.back.insert((at, self.returns), Handed { returned, ..handed.clone() });
        self.returns += 1;
        Some(returned)
    }

    /// The next message that is to come again by `now`.
    pub(super) fn again(&mut self, now: Instant) -> Option<Handed> {
        while let Some(first) = self.back.first_entry().filter(|first| first.key().0 <= now) {
            let handed = first.remove();
            // What was acknowledged meanwhile, or buried, does not.
            if handed.lot.come_again(handed.span.index) {
                return Some(handed);
            }
        }
        None
    }

    /// When the next message is to come again.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.back.first_key_value().map(|(key, _)| key.0)
    }

    /// What may be stored now. `ahead` is what was done before this reader began, and is further on than it has come.
    pub(super) fn checkpoint(&mut self, ahead: &[Done]) -> Checkpoint {
        self.settle();
        let mut checkpoint = Checkpoint::at(self.next);
        checkpoint.anchor = self.anchor;
        let taken = self.taken();
        let ahead = ahead.iter().filter(|ahead| ahead.to > taken);
        let ahead = ahead.map(|ahead| Done { from: ahead.from.max(taken), to: ahead.to });
        for done in self.done().chain(ahead) {
            let is_full = checkpoint.done.len() == Checkpoint::DONE_MAX;
            match checkpoint.done.last_mut() {
                Some(last) if last.to == done.from => last.to = done.to,
                _ if is_full => break,
                _ => checkpoint.done.push(done),
            }
        }
        checkpoint
    }

    /// What is done behind `next`: every message, and every gap.
    fn done(&self) -> impl Iterator<Item = Done> {
        let mut behind = self.next;
        let mut front = self.front;
        self.row.iter().flat_map(move |stretch| {
            let (gap, lot) = match stretch {
                Stretch::Gap(next) => (Some(Done { from: behind, to: *next }), None),
                Stretch::Lot(lot) => (None, Some((lot, front.take().unwrap_or_else(|| lot.first())))),
            };
            behind = match stretch {
                Stretch::Gap(next) => *next,
                Stretch::Lot(lot) => lot.end(),
            };
            gap.into_iter().chain(lot.into_iter().flat_map(|(lot, from)| done_in(lot, from)))
        })
    }
}

/// The mark behind the messages that are done, from `mark` on.
fn done_from(lot: &Lot, mark: Mark) -> Mark {
    let mut index = mark.index;
    while lot.is_done(index) {
        index += 1;
    }
    if index == lot.count() {
        return lot.last();
    }
    let mut mark = mark;
    while mark.index < index
        && let Some(span) = lot.span(mark)
    {
        mark = Lot::behind(span);
    }
    mark
}

/// The messages that were handed out and are done, from `mark` on.
fn done_in(lot: &Lot, mark: Mark) -> impl Iterator<Item = Done> {
    let handed = lot.handed();
    let spans = successors(lot.span(mark), |span| lot.span(Lot::behind(*span)));
    spans
        .take_while(move |span| span.index < handed.index)
        .filter(|span| lot.is_done(span.index))
        .map(|span| Done { from: lot.position(span.delta), to: lot.position(Lot::behind(span).delta) })
}

#[cfg(test)]
mod tests;
