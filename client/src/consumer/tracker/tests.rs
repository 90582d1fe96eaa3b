use std::time::Duration;

use logd_protocol::{Batch, BatchBuilder, TopicName};
use logd_statehandlers::{ConsumerKey, Fence, MemoryState};
use proptest::prelude::*;

use super::*;
use crate::consumer::begin::Begin;
use crate::consumer::builder::state;
use crate::consumer::policy::CommitPolicy;
use crate::consumer::shared::Shared;
use crate::scanner::Fetched;

fn shared() -> Arc<Shared> {
    shared_with(None)
}

fn shared_with(deliveries_max: Option<u32>) -> Arc<Shared> {
    let key = ConsumerKey::new(TopicName::default(), "reader").unwrap();
    let begin = Begin { checkpoint: None, next: Position::ZERO, gap: None, is_poison: false };
    let policy = CommitPolicy {
        interval: Duration::from_secs(1),
        messages: None,
        lag_max: Duration::from_secs(1),
        is_transactional: false,
    };
    let state = state(begin, Fence::NONE);
    Arc::new(Shared::new(key, Arc::new(MemoryState::new()), policy, deliveries_max, false, state))
}

fn batch(count: usize) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
    for number in 0..count {
        // Of different lengths.
        builder.push("hello".repeat(number % 4).as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

/// A topic in batches of so many messages, all of them taken and handed out.
fn tracker(batches: &[usize]) -> (Tracker, Vec<Handed>) {
    let mut tracker = Tracker::new(Position::ZERO, None);
    let mut all = Vec::new();
    let shared = shared();
    let mut offset = logd_protocol::Offset::ZERO;
    for count in batches {
        let batch = batch(*count);
        let end = offset.checked_add(batch.bytes().len() as u64).unwrap();
        let crc = batch.crc();
        let messages = batch.messages_from(0);
        let fetched = Fetched { offset, end, crc, count: *count as u64, messages };
        let lot = Arc::new(Lot::new(&fetched, 0, Arc::clone(&shared)).unwrap());
        tracker.take(Arc::clone(&lot));
        all.extend(hand_out(&lot, *count));
        offset = end;
    }
    (tracker, all)
}

/// Hands out so many messages more.
fn hand_out(lot: &Arc<Lot>, count: usize) -> Vec<Handed> {
    let mut handed = Vec::new();
    for _ in 0..count {
        let span = lot.span(lot.handed()).unwrap();
        lot.hand_out(Lot::behind(span));
        handed.push(Handed { lot: Arc::clone(lot), span, returned: 0 });
    }
    handed
}

fn ack(handed: &Handed) -> bool {
    handed.lot.settle(handed.span.index)
}

#[test]
fn the_checkpoint_moves_over_the_done_ones_at_the_front_only() {
    let (mut tracker, all) = tracker(&[3, 2]);
    assert!(ack(&all[2]));
    assert_eq!(tracker.next(), Position::ZERO);
    let checkpoint = tracker.checkpoint(&[]);
    let done = Done { from: all[2].position(), to: all[3].position() };
    assert_eq!((checkpoint.next, checkpoint.anchor, checkpoint.done), (Position::ZERO, None, vec![done]));
    assert!(ack(&all[0]) && !ack(&all[0]));
    assert_eq!(tracker.checkpoint(&[]).anchor, Some(all[0].lot.anchor()));
    assert_eq!((tracker.next(), tracker.open()), (all[1].position(), 3));
    assert_eq!(tracker.oldest(), Some(all[0].lot.since));
    assert!(ack(&all[1]));
    assert_eq!((tracker.next(), tracker.checkpoint(&[]).done), (all[3].position(), vec![]));
    assert_eq!((tracker.settle().messages, tracker.open()), (3, 2));
    let behind = Position::at(logd_protocol::Offset::new(1000));
    tracker.pass(behind);
    assert!(ack(&all[3]) && ack(&all[4]) && tracker.is_empty() && tracker.is_drained());
    assert_eq!((tracker.next(), tracker.taken()), (behind, behind));
    assert_eq!(tracker.checkpoint(&[]).anchor, Some(all[4].lot.anchor()));
    assert_eq!(tracker.oldest(), None);
}

#[test]
fn a_gap_of_no_length_is_none() {
    let (mut tracker, all) = tracker(&[3]);
    assert!(ack(&all[2]));
    tracker.pass(tracker.taken());
    let checkpoint = tracker.checkpoint(&[]);
    assert_eq!(checkpoint.done, [Done { from: all[2].position(), to: all[2].next() }]);
    assert!(checkpoint.encode().is_ok());
}

#[test]
fn what_is_not_handed_out_is_never_passed() {
    let (mut tracker, _) = tracker(&[]);
    let (_, others) = self::tracker(&[4]);
    let fetched = batch(4);
    let end = logd_protocol::Offset::new(fetched.bytes().len() as u64);
    let messages = fetched.messages_from(0);
    let fetched = Fetched { offset: logd_protocol::Offset::ZERO, end, crc: 7, count: 4, messages };
    let lot = Arc::new(Lot::new(&fetched, 0, Arc::clone(&others[0].lot.shared)).unwrap());
    tracker.take(Arc::clone(&lot));
    assert_eq!((tracker.delivered(), tracker.last_batch()), (None, None));
    let handed = hand_out(&lot, 2);
    assert!(handed.iter().all(ack));
    assert!(tracker.is_empty() && !tracker.is_drained());
    assert_eq!((tracker.next(), tracker.taken()), (handed[1].next(), handed[1].next()));
    assert_eq!((tracker.delivered(), tracker.last_batch()), (Some(handed[1].next()), Some(lot.anchor())));
    let last = hand_out(&lot, 2);
    assert!(!tracker.is_empty() && ack(&last[1]));
    assert_eq!(tracker.next(), last[0].position());
    tracker.settle_before(last[1].position());
    assert_eq!((tracker.next(), tracker.is_drained()), (Position::at(end), true));
}

#[test]
fn what_was_given_back_comes_again_in_time_and_once() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let (mut tracker, all) = tracker(&[3]);
    assert_eq!(tracker.give_back(&all[1], now + second), Some(1));
    assert_eq!(tracker.give_back(&all[1], now), None, "nobody has it in hand");
    assert_eq!(tracker.give_back(&all[0], now + 2 * second), Some(1));
    assert!(tracker.again(now).is_none() && tracker.again_at() == Some(now + second));
    assert!(tracker.is_at_work(), "the third");
    let again = tracker.again(now + second).unwrap();
    assert_eq!((again.span, again.returned), (all[1].span, 1));
    assert!(tracker.again(now + second).is_none());
    assert_eq!(tracker.give_back(&again, now), Some(2));
    assert!(ack(&again) && ack(&all[0]), "who acknowledges late has done it all the same");
    assert!(tracker.again(now + 3 * second).is_none() && tracker.again_at().is_none());
    assert_eq!(tracker.give_back(&all[0], now), None);
    assert_eq!(tracker.next(), all[2].position());
    assert!(all[2].lot.bury(2) && !all[2].lot.bury(2) && tracker.is_at_work());
    assert_eq!(tracker.give_back(&all[2], now), None, "it is on its way to the dead letters");
    tracker.let_go(None);
    assert_eq!((tracker.open(), tracker.is_drained(), tracker.next()), (1, true, all[2].position()));
}

#[test]
fn how_much_is_settled_counts_messages_and_their_bytes() {
    let (mut tracker, all) = tracker(&[3, 2]);
    assert!(ack(&all[0]) && ack(&all[1]) && ack(&all[3]));
    let bytes = u64::from(all[2].span.delta);
    assert_eq!(tracker.settle(), Amount { messages: 2, bytes });
    assert!(ack(&all[2]));
    let body = u64::from(all[0].lot.last().delta);
    assert_eq!(tracker.settle(), Amount { messages: 4, bytes: body + u64::from(all[4].span.delta) });
}

#[test]
fn what_is_skipped_after_its_last_return_is_not_kept_to_come_again() {
    let shared = shared_with(Some(2));
    let (_, all) = tracker(&[2]);
    let again = Handed { returned: 1, ..all[1].clone() };
    for (handed, comes_again) in [(&all[0], true), (&again, false)] {
        shared.give_back(handed, Duration::from_secs(3600));
        assert_eq!(shared.lock().tracker.again_at().is_some(), comes_again);
        shared.lock().tracker.let_go(None);
    }
    assert!(all[1].lot.is_done(1));
}

proptest! {
    #[test]
    fn no_unfinished_message_is_ever_passed(
        order in Just((0_usize..60).collect::<Vec<_>>()).prop_shuffle(),
        count in 0_usize..60,
        sizes in prop::sample::select(vec![vec![60], vec![1; 60], vec![7, 13, 1, 39], vec![30, 30]]),
    ) {
        let (mut tracker, all) = tracker(&sizes);
        for index in &order[..count] {
            ack(&all[*index]);
            if index % 3 == 0 {
                tracker.settle();
            }
        }
        let open = &order[count..];
        let first = open.iter().min().copied().unwrap();
        let checkpoint = tracker.checkpoint(&[]);
        prop_assert_eq!(checkpoint.next, all[first].position());
        for (index, handed) in all.iter().enumerate().skip(first) {
            let position = handed.position();
            let is_done = checkpoint.done.iter().any(|done| done.from <= position && position < done.to);
            prop_assert_eq!(is_done, !open.contains(&index));
        }
        prop_assert!(checkpoint.encode().is_ok());
        prop_assert_eq!(tracker.open(), open.len());
    }
}
