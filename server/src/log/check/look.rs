//! Reading a partition from end to end, and holding its index against what is there. Nothing is changed.
//!
//! Memory does not grow with the partition: of what is read, only the last entry and the holes are kept, and each entry
//! is compared with that of the index file when it comes. An index file has at most 128 MiB.

use std::io;

use super::super::damage::Lost;
use super::super::error::IndexError;
use super::super::index::{Hole, Index, Mark, is_entry};
use super::super::scan::{Step, Valid, Window};
use crate::disk::File;

/// How the partition that is looked at ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Another one follows; it has so many bytes, be they in the file or not.
    At(u64),
    /// It is the last one.
    Open,
}

/// What was seen of a partition.
#[derive(Debug)]
pub(super) struct Seen {
    /// Where the partition ends that is served, and what it holds.
    pub(super) end: Mark,
    /// How many bytes of it are not in the file.
    pub(super) missing: u64,
    /// Where what follows is to be cut off, up to the end of the file.
    pub(super) tail: Option<u64>,
    /// What is damaged, with what has been lost.
    pub(super) damage: Vec<(Hole, Lost)>,
    /// What is damaged and known to be so by the index.
    pub(super) known: Vec<Hole>,
    /// What has been lost.
    pub(super) lost: Lost,
    /// How many bytes were read and are there.
    pub(super) bytes: u64,
    pub(super) index: Fit,
}

/// What the index file is to the partition.
#[derive(Debug)]
pub(super) enum Fit {
    /// It says what is so, up to its end.
    Fits,
    /// It did until damage or more batches came: its times and its writers are right.
    Outdated,
    /// It says what is not so, or cannot be used.
    Wrong,
}

/// Looks at the partition in `file`; `index` is what its index file says.
pub(super) fn look(file: &dyn File, end: End, index: &Result<Index, IndexError>) -> io::Result<Seen> {
    let length = file.len()?;
    let said = index.as_ref().ok();
    let covered = said.map(|index| index.end().place);
    let bytes = match end {
        End::At(bytes) => bytes,
        End::Open => length,
    };
    let mut window = Window::new(file, length.min(bytes));
    let mut tally = Tally::new(said);
    let mut tail = None;
    while tally.end.place < bytes {
        let at = tally.end.place;
        match window.step(at, bytes, tally.holes.len())? {
            Step::Batch(valid) => tally.batch(&valid),
            Step::Hole(to) => tally.hole(to),
            Step::Tail => {
                // What the index covers was a part of the topic: the offsets behind it stay what they are.
                let to = match end {
                    End::At(bytes) => bytes,
                    End::Open => covered.filter(|covered| (at..=length).contains(covered)).unwrap_or(at),
                };
                if to > at {
                    tally.hole(to);
                }
                tail = (to < length && end == End::Open).then_some(to);
                break;
            }
        }
    }
    if let End::At(bytes) = end {
        tail = (length > bytes).then_some(bytes);
    }
    let missing = match end {
        End::At(bytes) => bytes.saturating_sub(length),
        // The file ends before its index says.
        End::Open => covered.unwrap_or_default().saturating_sub(length),
    };
    tally.seen(&mut window, end, tail, missing, length.min(bytes))
}

/// What has been counted so far, and how it compares with the index.
struct Tally<'a> {
    said: Option<&'a Index>,
    end: Mark,
    last: Option<Mark>,
    holes: Vec<Hole>,
    /// How many entries of the index have been passed.
    passed: usize,
    /// Whether each of them, but those in holes, was a batch.
    is_sound: bool,
    /// Whether each was as counted, and none was left out.
    is_equal: bool,
    /// What was counted at the place where the index ends, with how many entries and holes.
    covered: Option<(Mark, usize, usize)>,
    entries: usize,
}

impl<'a> Tally<'a> {
    fn new(said: Option<&'a Index>) -> Self {
        let mut tally = Self {
            said,
            end: Mark::default(),
            last: None,
            holes: Vec::new(),
            passed: 0,
            is_sound: true,
            is_equal: true,
            covered: None,
            entries: 0,
        };
        tally.note_covered();
        tally
    }

    fn batch(&mut self, valid: &Valid) {
        self.pass(self.end.place, self.end.place.saturating_add(1), true);
        if is_entry(self.last.as_ref(), self.holes.last(), self.end.place) {
            if self.is_in_index() {
                let entry = self.said.and_then(|said| said.entries().get(self.entries));
                self.is_equal &= entry.is_some_and(|entry| is_same(entry, &self.end));
            }
            self.entries += 1;
            self.last = Some(self.end);
        }
        let next = self.end.place.saturating_add(valid.bytes);
        // An entry inside a batch stands for none.
        self.pass(self.end.place.saturating_add(1), next, false);
        self.end.place = next;
        self.end.batches += 1;
        self.end.messages = self.end.messages.saturating_add(valid.messages);
        self.note_covered();
    }

    fn hole(&mut self, to: u64) {
        self.pass(self.end.place, to, true);
        match self.holes.last_mut() {
            Some(last) if last.to == self.end.place => last.to = to,
            _ => self.holes.push(Hole { from: self.end.place, to }),
        }
        self.end.place = to;
        self.note_covered();
    }

    /// Steps over the index's entries from `from` to `to`, which can be right there or not.
    fn pass(&mut self, from: u64, to: u64, may_be: bool) {
        let Some(said) = self.said else { return };
        while let Some(entry) = said.entries().get(self.passed).filter(|entry| entry.place < to) {
            self.is_sound &= may_be && entry.place >= from;
            self.passed += 1;
        }
    }

    fn is_in_index(&self) -> bool {
        self.said.is_some_and(|said| self.end.place < said.end().place)
    }

    fn note_covered(&mut self) {
        if self.said.is_some_and(|said| said.end().place == self.end.place) {
            self.covered = Some((self.end, self.entries, self.holes.len()));
        }
    }

    fn fit(&self, end: End) -> Fit {
        let Some(said) = self.said else { return Fit::Wrong };
        let Some((mark, entries, holes)) = self.covered else { return Fit::Wrong };
        let is_whole = end == End::Open || said.end().place == self.end.place;
        let is_counted = is_whole
            && is_same(&mark, &said.end())
            && entries == said.entries().len()
            && self.holes.get(..holes).is_some_and(|holes| holes == &**said.holes());
        let is_less = mark.batches <= said.end().batches && mark.messages <= said.end().messages;
        match (is_counted && self.is_equal, self.is_sound && is_less) {
            (true, _) => Fit::Fits,
            (false, true) => Fit::Outdated,
            (false, false) => Fit::Wrong,
        }
    }

    fn seen(
        self,
        window: &mut Window<'_>,
        end: End,
        tail: Option<u64>,
        missing: u64,
        bytes: u64,
    ) -> io::Result<Seen> {
        let index = self.fit(end);
        let is_trusted = !matches!(index, Fit::Wrong);
        let known_holes =
            self.said.filter(|_| is_trusted).map(|said| said.holes().as_ref()).unwrap_or_default();
        let (known, new): (Vec<Hole>, Vec<Hole>) =
            self.holes.iter().partition(|hole| known_holes.contains(hole));
        let mut damage = Vec::with_capacity(new.len());
        for hole in new {
            damage.push((hole, window.lost(hole.from, hole.to)?));
        }
        if end == End::Open && missing > 0 {
            let from = bytes.min(self.end.place);
            damage.push((Hole { from, to: bytes.saturating_add(missing) }, Lost::AT_LEAST_ONE));
        }
        let mut lost = Lost { is_exact: true, ..Lost::default() };
        for (_, part) in &damage {
            lost.batches = lost.batches.saturating_add(part.batches);
            lost.messages = lost.messages.saturating_add(part.messages);
            lost.is_exact &= part.is_exact;
        }
        if let Some(counted) = self.lost_by_index(&index, missing) {
            let is_all =
                damage.iter().all(|(hole, _)| self.said.is_some_and(|said| hole.to <= said.end().place));
            if is_all {
                lost = counted;
            }
            if let [(_, part)] = &mut damage[..]
                && is_all
            {
                *part = counted;
            }
        }
        Ok(Seen { end: self.end, missing, tail, damage, known, lost, bytes, index })
    }

    /// What has been lost of that which the index has counted.
    fn lost_by_index(&self, index: &Fit, missing: u64) -> Option<Lost> {
        let said = self.said?.end();
        let counted = match (index, self.covered) {
            (Fit::Outdated, Some((mark, ..))) => mark,
            // The file is shorter than what the index, which is right up to there, has counted.
            (Fit::Wrong, None) if missing > 0 && self.is_sound && self.is_equal => self.end,
            _ => return None,
        };
        let messages = said.messages.checked_sub(counted.messages)?;
        Some(Lost { batches: said.batches.checked_sub(counted.batches)?, messages, is_exact: true })
    }
}

/// But for the time, which cannot be found out by reading.
fn is_same(one: &Mark, other: &Mark) -> bool {
    (one.place, one.batches, one.messages) == (other.place, other.batches, other.messages)
}
