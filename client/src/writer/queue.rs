//! The sealed batches of a writer that are not settled, in their order. Pure.
//!
//! Batches are numbered in the order in which they are sealed. Each waits in one of three rows, and the numbers rise
//! from row to row: those in flight are older than those on their way into the spool, and these are older than those
//! that wait. So "everything up to here is settled" is one number, which is what a flush waits for, although batches may
//! reach the spool before an older one is acknowledged.

use std::collections::VecDeque;

use logd_protocol::Batch;

use super::delivery::Promise;

/// A sealed batch, its number, and the one promise for all of its messages whose senders wait.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) batch: Batch,
    pub(super) promise: Option<Promise>,
    /// Whether it may be stored by an attempt before it was handed in again.
    pub(super) is_doubtful: bool,
}

/// Sealed batches that are not settled.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The number of the last batch that was ever sealed; the first has 1.
    last: u64,
    /// What the task has taken, oldest first.
    in_flight: VecDeque<Numbered>,
    /// What is being written to the spool.
    spooling: VecDeque<Numbered>,
    /// What nobody has taken.
    sealed: VecDeque<Numbered>,
}

impl Queue {
    /// Adds a batch behind all others.
    pub(super) fn push(&mut self, batch: Batch, promise: Option<Promise>) {
        self.last += 1;
        self.sealed.push_back(Numbered { number: self.last, batch, promise, is_doubtful: false });
    }

    /// Adds a batch that may be stored already.
    pub(super) fn push_doubtful(&mut self, batch: Batch) {
        self.last += 1;
        self.sealed.push_back(Numbered { number: self.last, batch, promise: None, is_doubtful: true });
    }

    /// The number of the last batch that was sealed.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Every batch with at most this number is settled.
    pub(super) fn settled_up_to(&self) -> u64 {
        let rows = [&self.in_flight, &self.spooling, &self.sealed];
        let oldest = rows.iter().find_map(|row| row.front());
        oldest.map_or(self.last, |oldest| oldest.number - 1)
    }

    /// Whether there is a batch to take that comes next.
    pub(super) fn is_ready(&self) -> bool {
        self.spooling.is_empty() && !self.sealed.is_empty()
    }

    /// Whether no batch waits to be taken.
    pub(super) fn is_taken(&self) -> bool {
        self.spooling.is_empty() && self.sealed.is_empty()
    }

    /// Whether batches are on their way into the spool.
    pub(super) fn is_spooling(&self) -> bool {
        !self.spooling.is_empty()
    }

    /// The bytes of the oldest batch that waits.
    pub(super) fn waiting_bytes(&self) -> Option<u64> {
        self.sealed.front().map(|oldest| oldest.batch.bytes().len() as u64)
    }

    /// Takes the next batch for sending; `None` while there is none, or older ones are on their way into the spool.
    pub(super) fn take(&mut self) -> Option<Batch> {
        if !self.is_ready() {
            return None;
        }
        let taken = self.sealed.pop_front()?;
        let batch = taken.batch.clone();
        self.in_flight.push_back(taken);
        Some(batch)
    }

    /// The oldest batch in flight.
    pub(super) fn front(&self) -> Option<&Numbered> {
        self.in_flight.front()
    }

    /// The oldest batch in flight is settled.
    pub(super) fn settle(&mut self) -> Option<Numbered> {
        self.in_flight.pop_front()
    }

    /// Takes waiting batches for the spool, oldest first, as many as `bytes_max` and `count_max` allow.
    pub(super) fn take_for_spool(
        &mut self,
        room: u64,
        bytes_max: u64,
        count_max: usize,
    ) -> Vec<(u64, Batch)> {
        let mut taken = Vec::new();
        let mut bytes = 0_u64;
        while taken.len() < count_max
            && let Some(next) = self.sealed.front()
        {
            bytes = bytes.saturating_add(next.batch.bytes().len() as u64);
            if bytes > room || (bytes > bytes_max && !taken.is_empty()) {
                break;
            }
            if let Some(next) = self.sealed.pop_front() {
                taken.push((next.number, next.batch.clone()));
                self.spooling.push_back(next);
            }
        }
        taken
    }

    /// What was taken for the spool is settled.
    pub(super) fn spooled(&mut self) -> impl Iterator<Item = Numbered> + '_ {
        self.spooling.drain(..)
    }

    /// What was taken for the spool did not get there, and waits again.
    pub(super) fn unspool(&mut self) {
        while let Some(back) = self.spooling.pop_back() {
            self.sealed.push_front(back);
        }
    }

    /// Takes everything, oldest first, with whether it was in flight.
    pub(super) fn take_all(&mut self) -> Vec<(Numbered, bool)> {
        let in_flight = self.in_flight.drain(..).map(|batch| (batch, true));
        let others = self.spooling.drain(..).chain(self.sealed.drain(..)).map(|batch| (batch, false));
        in_flight.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::batch;

    fn queue(count: usize) -> Queue {
        let mut queue = Queue::default();
        for number in 1..=count {
            queue.push(batch(&[&number.to_string()]), None);
        }
        queue
    }

    #[test]
    fn what_is_settled_is_told_by_the_oldest_that_is_not() {
        let mut queue = queue(5);
        assert_eq!((queue.last(), queue.settled_up_to()), (5, 0));
        assert_eq!(queue.take(), Some(batch(&["1"])));
        assert_eq!(queue.take_for_spool(u64::MAX, u64::MAX, 2).len(), 2);
        assert_eq!(queue.take(), None, "what is on its way into the spool is older");
        assert_eq!(queue.spooled().count(), 2);
        assert_eq!(queue.settled_up_to(), 0, "the first is still in flight");
        assert_eq!(queue.settle().map(|settled| settled.number), Some(1));
        assert_eq!(queue.settled_up_to(), 3);
        assert_eq!(queue.take(), Some(batch(&["4"])));
        assert_eq!(queue.take(), Some(batch(&["5"])));
        assert!(queue.is_taken());
        queue.settle();
        queue.settle();
        assert_eq!(queue.settled_up_to(), 5);
    }

    #[test]
    fn what_did_not_reach_the_spool_waits_in_its_old_place() {
        let mut queue = queue(3);
        let [one, two, three] = ["1", "2", "3"].map(|text| batch(&[text]).bytes().len() as u64);
        assert_eq!(queue.take_for_spool(one + two - 1, u64::MAX, 9).len(), 1, "two have no room");
        assert_eq!(queue.take_for_spool(two + three, u64::MAX, 9).len(), 2);
        queue.unspool();
        let order: Vec<_> =
            queue.take_all().into_iter().map(|(batch, is_sent)| (batch.number, is_sent)).collect();
        assert_eq!(order, [(1, false), (2, false), (3, false)]);
    }
}
