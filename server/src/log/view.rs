//! What readers see of a topic: a list of partitions, each with an end that only grows.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use logd_protocol::{Bound, Offset};

use super::error::ReadError;
use super::index::{Hole, Mark};
use super::partition::Partition;
use super::scan::is_valid_at;
use super::walk::{Walk, WalkError};
use crate::disk::File;

/// How often a time is looked up in an index: a second time if the first has found that it does not fit.
const LOOKS_MAX: usize = 2;

/// The partitions of a topic at a moment, oldest first; there is always one.
///
/// It keeps no file open: of a partition that was dropped since, only what is selected already stays readable.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) partitions: Arc<[Arc<Partition>]>,
}

/// Whole batches in the order of the topic, and where their bytes are.
#[derive(Debug)]
pub struct Selection {
    /// The offset of the first batch. It is behind the offset asked for only if what was there is damaged and lost.
    pub offset: Offset,
    /// How many batches there are, at least one.
    pub batches: u64,
    /// Their bytes, one piece a partition.
    pub pieces: Vec<Piece>,
}

impl Selection {
    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }
}

/// A stretch of a file.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The file, which stays readable even if the partition is dropped meanwhile.
    pub file: Arc<dyn File>,
    /// The first byte.
    pub place: u64,
    /// How many bytes.
    pub bytes: u64,
    partition: Arc<Partition>,
}

impl Piece {
    /// The name of the file; that of a partition that was dropped is gone.
    pub fn path(&self) -> PathBuf {
        self.partition.path()
    }

    /// The offset of the byte at `place` of the file.
    pub fn offset(&self, place: u64) -> Offset {
        Offset::new(self.partition.start.saturating_add(place))
    }
}

/// The offset that belongs to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Where a batch starts, or where what readers can see ends.
    pub offset: Offset,
    /// Whether a batch starts there.
    pub has_batch: bool,
}

/// The size of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The offset of the oldest batch; `next` where there is none.
    pub oldest: Offset,
    /// The offset behind the last batch that readers can see.
    pub next: Offset,
    /// How many batches there are.
    pub batches: u64,
    /// The bytes of all partitions.
    pub bytes: u64,
    /// The number of partitions.
    pub partitions: u64,
}

impl View {
    /// How much the topic holds.
    pub fn extent(&self) -> Extent {
        let ends = self.ends();
        let next = end_offset(&ends);
        let oldest = ends.iter().find(|(_, end)| end.batches > 0).map_or(next, |(start, _)| *start);
        Extent {
            oldest: Offset::new(oldest),
            next: Offset::new(next),
            batches: ends.iter().map(|(_, end)| end.batches).sum(),
            bytes: ends.iter().map(|(_, end)| end.place).sum(),
            partitions: ends.len() as u64,
        }
    }

    /// The start and the end of each partition.
    fn ends(&self) -> Vec<(u64, Mark)> {
        self.partitions.iter().map(|partition| (partition.start, partition.end())).collect()
    }

    /// The offset that belongs to a time of arrival, in milliseconds since 1970: with [`Bound::Lower`] one before which
    /// every batch surely arrived before `time`, with [`Bound::Upper`] one from which on every batch surely arrived
    /// after it. Where a batch starts there, it can be read.
    ///
    /// Lower is the last such offset that has an entry in an index, or the oldest batch; upper the first such. So they
    /// lie up to an entry's distance apart from the exact ones, further where times are not known.
    ///
    /// # Errors
    /// [`ReadError::Io`] when a partition that has to be looked into cannot be read.
    pub fn at(&self, time: u64, bound: Bound, scratch: &mut Vec<u8>) -> Result<Moment, ReadError> {
        let ends = self.ends();
        let is_passed = |end: &Mark| match bound {
            Bound::Lower => end.time.latest() < time,
            Bound::Upper => end.time.latest() <= time,
        };
        let passed = ends.iter().rposition(|(_, end)| end.batches > 0 && is_passed(end));
        let first = passed.map_or(0, |last| last + 1);
        for (partition, (start, end)) in self.partitions.iter().zip(&ends).skip(first) {
            if end.batches > 0
                && let Some(place) = place_at(partition, time, bound, scratch)?
            {
                return Ok(Moment { offset: Offset::new(start + place), has_batch: true });
            }
        }
        Ok(Moment { offset: Offset::new(end_offset(&ends)), has_batch: false })
    }

    /// As few batches from the oldest on as hold at least `messages` messages.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when the topic has no batches.
    pub fn select_oldest(&self, messages: u64, scratch: &mut Vec<u8>) -> Result<Selection, ReadError> {
        for partition in self.partitions.iter().filter(|partition| partition.end().batches > 0) {
            match self.select(Offset::new(partition.start), messages, scratch) {
                // The partition has been dropped and removed meanwhile: the next one is the oldest.
                Err(ReadError::NotFound) => {}
                selected => return selected,
            }
        }
        Err(ReadError::NotFound)
    }

    /// As few batches from `offset` on as hold at least `messages` messages, but at least one; fewer messages where the
    /// topic ends before, and where damaged batches or a partition that cannot be read follow.
    ///
    /// `scratch` is used to read envelopes; its contents do not matter.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] when no batch starts at `offset`, or its partition was dropped; [`ReadError::Io`] when
    /// it cannot be read.
    pub fn select(
        &self,
        offset: Offset,
        messages: u64,
        scratch: &mut Vec<u8>,
    ) -> Result<Selection, ReadError> {
        let offset = offset.as_u64();
        let behind = self.partitions.partition_point(|partition| partition.start <= offset);
        let first = behind.checked_sub(1).ok_or(ReadError::NotFound)?;
        let mut selection: Option<Selection> = None;
        let (mut at, mut left) = (offset, messages);
        // What was lost in between ends the selection: an answer of its own says so, by beginning behind it.
        for partition in self.partitions.iter().skip(first) {
            let Some(place) = at.checked_sub(partition.start) else { break };
            let range = match select_in(partition, place, left, scratch) {
                Ok(Found::Batches(range)) => range,
                Ok(Found::End(end)) if selection.is_none() || end == place => {
                    at = partition.start + end;
                    continue;
                }
                Ok(Found::End(_)) => break,
                // Why there is no more is said to the one who asks for it.
                Err(_) if selection.is_some() => break,
                Err(error) => return Err(error),
            };
            if selection.is_some() && range.from.place != place {
                break;
            }
            let piece = Piece {
                file: range.file,
                place: range.from.place,
                bytes: range.to.place - range.from.place,
                partition: Arc::clone(partition),
            };
            let selected = selection.get_or_insert_with(|| Selection {
                offset: Offset::new(partition.start + range.from.place),
                batches: 0,
                pieces: Vec::with_capacity(1),
            });
            selected.batches += range.to.batches - range.from.batches;
            selected.pieces.push(piece);
            left = left.saturating_sub(range.to.messages - range.from.messages);
            at = partition.start + range.to.place;
            if left == 0 || range.to.place < range.end {
                break;
            }
        }
        selection.ok_or(ReadError::NotFound)
    }
}

/// Where what readers can see ends: in the first partition that has batches which they cannot see yet.
fn end_offset(ends: &[(u64, Mark)]) -> u64 {
    let nexts = ends.iter().skip(1).map(|(next, _)| *next);
    let mut offsets = ends.iter().map(|(start, end)| start + end.place).zip(nexts);
    let hidden = offsets.find(|(end, next)| end < next).map(|(end, _)| end);
    hidden.or_else(|| ends.last().map(|(start, end)| start + end.place)).unwrap_or_default()
}

/// The place of the entry that belongs to a time, where a batch can be read; `None` where there is no such entry, or
/// the partition was dropped and removed. An index that does not fit the partition is rebuilt on the way.
fn place_at(
    partition: &Partition,
    time: u64,
    bound: Bound,
    scratch: &mut Vec<u8>,
) -> Result<Option<u64>, ReadError> {
    for _ in 0..LOOKS_MAX {
        let found = partition.look_up(|index| match bound {
            Bound::Lower => index.mark_not_behind(time),
            Bound::Upper => index.mark_after(time),
        });
        let mark = match found {
            Ok(Some(mark)) => mark,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match select_in(partition, mark.place, 1, scratch) {
            Ok(Found::Batches(range)) if range.from.place == mark.place => return Ok(Some(mark.place)),
            Ok(_) | Err(ReadError::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// What there is at a place of a partition.
enum Found {
    Batches(Range),
    /// Nothing: the partition ends there, at this place.
    End(u64),
}

/// Whole batches of one partition.
struct Range {
    file: Arc<dyn File>,
    from: Mark,
    to: Mark,
    /// Where the partition ends.
    end: u64,
}

impl Range {
    /// Marks come from the index and from envelopes: an envelope that is damaged can contradict the index.
    fn new(file: Arc<dyn File>, from: Mark, to: Mark, end: u64) -> Result<Self, WalkError> {
        let is_ordered = from.place < to.place && from.batches < to.batches && from.messages <= to.messages;
        if is_ordered { Ok(Self { file, from, to, end }) } else { Err(WalkError::Damaged) }
    }
}

/// Selects in one partition. An index that does not fit its partition is rebuilt, once.
fn select_in(
    partition: &Partition,
    place: u64,
    messages: u64,
    scratch: &mut Vec<u8>,
) -> Result<Found, ReadError> {
    let mut selected = try_select(partition, place, messages, scratch);
    if let Err(WalkError::Damaged) = selected {
        partition.rebuild()?;
        selected = try_select(partition, place, messages, scratch);
    }
    match selected {
        Ok(found) => found,
        Err(WalkError::Io(error)) => Err(error.into()),
        Err(WalkError::Damaged) => {
            let text = "the partition file is not what was written";
            Err(io::Error::new(io::ErrorKind::InvalidData, text).into())
        }
    }
}

/// `Ok(Err(NotFound))` where no batch starts at `place`.
fn try_select(
    partition: &Partition,
    place: u64,
    messages: u64,
    scratch: &mut Vec<u8>,
) -> Result<Result<Found, ReadError>, WalkError> {
    let file = match partition.file() {
        Ok(file) => file,
        // The partition was dropped, and its file is removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(ReadError::NotFound)),
        Err(error) => return Err(WalkError::Io(error)),
    };
    let (place, mut mark, end, holes) = partition
        .look_up(|index| {
            let place = behind_hole(index.holes(), place);
            (place, index.mark_before(place), index.end(), Arc::clone(index.holes()))
        })
        .map_err(WalkError::Io)?;
    if place >= end.place {
        return Ok(if place == end.place { Ok(Found::End(place)) } else { Err(ReadError::NotFound) });
    }
    let stop = holes.iter().find(|hole| hole.from >= place).map_or(end.place, |hole| hole.from);
    let mut walk = Walk::new(&*file, &end, scratch);
    let mut before = None;
    while mark.place < place {
        before = Some(mark.place);
        walk.step(&mut mark)?;
        mark.place = behind_hole(&holes, mark.place);
    }
    if mark.place > place {
        return match before {
            _ if is_in_hole(&holes, place) => Ok(Err(ReadError::NotFound)),
            // The batch before says that it is longer. That is so only if it is not damaged.
            Some(before) if is_valid_at(&*file, before, end.place).map_err(WalkError::Io)? => {
                Ok(Err(ReadError::NotFound))
            }
            _ => Err(WalkError::Damaged),
        };
    }
    let from = mark;
    let wanted = from.messages.saturating_add(messages);
    if end.messages < wanted && stop == end.place {
        // Where a reader begins, there must be an envelope: one who has met damage comes back to it, and is led past it.
        let mut first = from;
        walk.step(&mut first)?;
        return Range::new(file, from, end, end.place).map(|range| Ok(Found::Batches(range)));
    }
    let near = partition.look_up(|index| index.mark_reaching(wanted)).map_err(WalkError::Io)?;
    // Behind a hole the marks count on; only what is before the next hole can be sent.
    if near.place > mark.place && near.place <= stop {
        mark = near;
    } else if near.place > stop {
        mark = partition.look_up(|index| index.mark_before(stop.saturating_sub(1))).map_err(WalkError::Io)?;
        mark = if mark.place < from.place { from } else { mark };
    }
    while mark.place < stop && (mark.messages < wanted || mark.place == from.place) {
        walk.step(&mut mark)?;
    }
    if mark.place > stop {
        return Err(WalkError::Damaged);
    }
    Range::new(file, from, mark, end.place).map(|range| Ok(Found::Batches(range)))
}

/// `place`, or the end of the hole that begins there.
fn behind_hole(holes: &[Hole], place: u64) -> u64 {
    match holes.binary_search_by_key(&place, |hole| hole.from) {
        Ok(found) => holes.get(found).map_or(place, |hole| hole.to),
        Err(_) => place,
    }
}

fn is_in_hole(holes: &[Hole], place: u64) -> bool {
    let behind = holes.partition_point(|hole| hole.from <= place);
    behind.checked_sub(1).and_then(|last| holes.get(last)).is_some_and(|hole| place < hole.to)
}
