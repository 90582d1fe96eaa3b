//! Whether what clients were told and what the topic has at the end belong together.

use std::collections::BTreeMap;
use std::time::Duration;

use logd_client::{Offset, Position};

use crate::history::{Fate, Name, State};
use crate::scenario::Scenario;

/// A message that the topic has at the end.
pub(crate) type Found = (Position, Option<Name>);

/// What power cuts may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing that was acknowledged.
    Nothing,
    /// At most so many batches for each power cut. A message can have a batch of its own.
    Batches(u64),
    /// What was acknowledged in so much time before the power cut, as long as a server ran.
    Late(Duration),
    /// Whatever was not synced.
    Unsynced,
}

/// Checks all; the first thing that is wrong.
pub(crate) fn check(state: &State, topic: &[Found], scenario: &Scenario) -> Result<(), String> {
    check_order(state, topic)?;
    let places: BTreeMap<Name, Position> =
        topic.iter().filter_map(|(position, name)| name.map(|name| (name, *position))).collect();
    // What is before was dropped.
    let oldest =
        topic.first().filter(|_| scenario.has_retention).map_or(Position::ZERO, |(oldest, _)| *oldest);
    check_fates(state, &places, oldest, scenario.loss)?;
    check_readers(state, topic)
}

/// Each message is there once, and those of a writer are in their order.
///
/// docs/protocol.md, "Dedup": of two batches that are under way, a power cut can keep the second one only.
fn check_order(state: &State, topic: &[Found]) -> Result<(), String> {
    let mut last: BTreeMap<u32, (Name, Position)> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (position, name) in topic {
        let Some(name) = name else { continue };
        if let Some(first) = places.insert(*name, *position) {
            return Err(format!("{name:?} is there twice, at {first} and at {position}"));
        }
        let is_unknown = state.messages.get(name).is_some_and(|written| written.fate == Fate::Unknown);
        if is_unknown || state.retried.contains(name) {
            // It was given up, and arrived all the same; or it is behind all that was written before it was handed in again.
            continue;
        }
        if let Some((before, at)) = last.insert(name.writer, (*name, *position))
            && before >= *name
            && !(before > *name && was_cut_off(state, *name, before))
        {
            return Err(format!("{before:?} at {at} is followed by {name:?} at {position}"));
        }
    }
    Ok(())
}

/// Whether there was a power cut while both messages were under way.
fn was_cut_off(state: &State, first: Name, second: Name) -> bool {
    let (Some(first), Some(second)) = (state.messages.get(&first), state.messages.get(&second)) else {
        return false;
    };
    // What is in the spool is sent again when nobody is told.
    let end = if first.fate == Fate::Spooled { Duration::MAX } else { first.at };
    state.power_cuts.iter().any(|cut| (first.begun.max(second.begun)..=end).contains(cut))
}

/// What was delivered is where it was said to be, and what was not written is not there.
fn check_fates(
    state: &State,
    places: &BTreeMap<Name, Position>,
    oldest: Position,
    loss: Loss,
) -> Result<(), String> {
    let mut lost = Vec::new();
    for (name, written) in &state.messages {
        match (written.fate, places.get(name)) {
            (Fate::Delivered(told), Some(found)) if told == *found => {}
            (Fate::Delivered(told), None) if told < oldest => {}
            (Fate::Delivered(_), None) if loss != Loss::Nothing && written.epochs.0 < state.epoch => {
                lost.push(name);
            }
            (Fate::Delivered(told), found) => {
                return Err(format!("{name:?} was delivered at {told} and is at {found:?}"));
            }
            (Fate::NotWritten, Some(_)) if state.retried.contains(name) => {}
            (Fate::NotWritten, Some(found)) => {
                return Err(format!("{name:?} was not written and is at {found}"));
            }
            (Fate::Spooled, None)
                if loss == Loss::Nothing
                    && oldest == Position::ZERO
                    && !state.asides.contains(&name.writer) =>
            {
                return Err(format!("{name:?} was in the spool, and is nowhere"));
            }
            (Fate::Open, _) => return Err(format!("it was never told what became of {name:?}")),
            (Fate::NotWritten, None) | (Fate::Unknown | Fate::Spooled, _) => {}
        }
    }
    if let Some(name) = places.keys().find(|name| !state.messages.contains_key(name)) {
        return Err(format!("{name:?} was never written"));
    }
    check_lost(state, &lost, loss)
}

/// What a power cut has taken is allowed to be.
fn check_lost(state: &State, lost: &[&Name], loss: Loss) -> Result<(), String> {
    match loss {
        Loss::Nothing | Loss::Unsynced => {}
        Loss::Batches(batches) => {
            let offsets: std::collections::BTreeSet<_> = lost
                .iter()
                .filter_map(|name| match state.messages.get(name)?.fate {
                    Fate::Delivered(told) => Some(told.offset),
                    _ => None,
                })
                .collect();
            let allowed = batches * u64::from(state.epoch);
            if offsets.len() as u64 > allowed {
                let count = offsets.len();
                return Err(format!("{count} acknowledged batches are lost, where {allowed} can be"));
            }
        }
        Loss::Late(time) => {
            for name in lost {
                let Some(written) = state.messages.get(name) else { continue };
                // It was acknowledged no later than it was told.
                let since = usize::try_from(written.epochs.0).unwrap_or(usize::MAX);
                let is_late =
                    state.cuts.iter().skip(since).any(|cut| !ran_for(state, written.at, *cut, time));
                if !is_late {
                    return Err(format!("{name:?} was delivered at {:?} and is lost", written.at));
                }
            }
        }
    }
    Ok(())
}

/// Whether a server ran for so long without a pause, between two moments.
fn ran_for(state: &State, from: Duration, to: Duration, time: Duration) -> bool {
    let ran = |(start, end): &(Duration, Option<Duration>)| {
        end.unwrap_or(to).min(to).saturating_sub(from.max(*start))
    };
    state.lives.iter().any(|life| ran(life) > time)
}

/// Readers have seen the topic as it is, and no checkpoint has passed what was not done.
fn check_readers(state: &State, topic: &[Found]) -> Result<(), String> {
    for (number, scanned) in &state.scanned {
        // With retention, what is left is behind what was read and is not there any more.
        let start =
            topic.first().map_or(0, |(oldest, _)| scanned.partition_point(|(place, _)| place < oldest));
        let left = scanned.get(start..).unwrap_or_default();
        if let Some((seen, is)) = left.iter().zip(topic).find(|(seen, is)| seen != is) {
            return Err(format!("scanner {number} has seen {seen:?} where the topic has {is:?}"));
        }
    }
    for stored in state.checkpoints.iter().filter(|stored| stored.epoch == state.epoch) {
        let passed =
            topic.iter().map(|(position, _)| position).take_while(|position| **position < stored.next);
        for position in passed {
            if state.acked.get(position).is_none_or(|before| *before >= stored.acked) {
                return Err(format!(
                    "the checkpoint {} has passed {position}, which was not done",
                    stored.next
                ));
            }
        }
    }
    Ok(())
}

/// A message arrived no sooner than it was written, and no later than its writer was told.
pub(crate) fn check_time(
    state: &State,
    topic: &[Found],
    time: Duration,
    (lower, upper): (Offset, Offset),
) -> Result<(), String> {
    for (position, name) in topic {
        let Some(name) = name else { continue };
        let Some(written) = state.messages.get(name) else { continue };
        let (begun, told) = (written.begun.as_millis(), written.at.as_millis());
        if position.offset < lower && begun >= time.as_millis() {
            return Err(format!("{name:?} at {position} came after {time:?}, and before its bound {lower}"));
        }
        let is_told = matches!(written.fate, Fate::Delivered(_));
        if position.offset >= upper && is_told && told <= time.as_millis() {
            return Err(format!("{name:?} at {position} came before {time:?}, and behind its bound {upper}"));
        }
    }
    Ok(())
}

/// Whether all readers have come to the end of the topic; else who has not.
pub(crate) fn laggard(state: &State, topic: &[Found], scanners: usize) -> Option<String> {
    for number in 0..scanners {
        let last = state.scanned.get(&number).and_then(|scanned| scanned.last()).map(|(place, _)| *place);
        let end = topic.last().map(|(place, _)| *place);
        if last < end {
            return Some(format!("scanner {number} is at {last:?} of {end:?}"));
        }
    }
    let undone = topic.iter().find(|(position, _)| !state.acked.contains_key(position));
    undone.map(|(position, _)| format!("the consumer has not done {position}"))
}
