//! What a topic knows of those who write to it: the last batches of each writer, so that one that is sent again is not
//! stored again. No I/O.
//!
//! docs/protocol.md, "Dedup". What is known is a function of the batches of the topic, in their order: it is kept in each
//! index file as it was at the end of the partition, and what was appended since is added when the topic is opened.
//!
//! It is bounded: of the writers those that were heard of last, of a writer the batches with the largest numbers. What
//! is older is forgotten; that a number was forgotten is not, as long as its writer is known.

use std::collections::{HashMap, VecDeque};

use logd_protocol::{BatchId, WriterId};

use super::error::IndexError;

/// The most batches of a writer that are remembered: more than any client has under way at once, by far.
pub(super) const BATCHES_MAX: usize = 256;

/// The most writers that are remembered. With all of their batches they take 16 MiB.
pub(super) const WRITERS_MAX: usize = 4096;

/// How many writers are forgotten at once, so that looking for the oldest costs little for each.
const FORGOTTEN_AT_ONCE: usize = 256;

/// Whether a batch is stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is not, as far as is known of its writer.
    New,
    /// It is, at this offset.
    Stored(u64),
    /// Its number is not above all that were forgotten: it cannot be told.
    Forgotten,
}

/// A batch that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stored {
    seq: u64,
    offset: u64,
}

/// The last batches of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Recent {
    /// The offset of the batch that was stored last.
    last: u64,
    /// The largest number that was forgotten.
    forgotten: Option<u64>,
    /// By their numbers.
    batches: VecDeque<Stored>,
}

/// The writers of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Writers(HashMap<WriterId, Recent>);

impl Writers {
    /// What is known of a batch.
    pub(super) fn find(&self, id: BatchId) -> Known {
        let Some(recent) = self.0.get(&id.writer) else { return Known::New };
        match recent.batches.binary_search_by_key(&id.seq, |stored| stored.seq) {
            Ok(found) => recent.batches.get(found).map_or(Known::New, |stored| Known::Stored(stored.offset)),
            Err(_) if recent.forgotten.is_some_and(|forgotten| id.seq <= forgotten) => Known::Forgotten,
            Err(_) => Known::New,
        }
    }

    /// Adds a batch that has been stored. One that is known already stays as it is.
    pub(super) fn add(&mut self, id: BatchId, offset: u64) {
        if self.0.len() >= WRITERS_MAX && !self.0.contains_key(&id.writer) {
            self.forget_writers();
        }
        let recent = self.0.entry(id.writer).or_default();
        recent.last = offset;
        if let Err(place) = recent.batches.binary_search_by_key(&id.seq, |stored| stored.seq) {
            recent.batches.insert(place, Stored { seq: id.seq, offset });
        }
        if recent.batches.len() > BATCHES_MAX {
            let gone = recent.batches.pop_front().map(|stored| stored.seq);
            recent.forgotten = recent.forgotten.max(gone);
        }
    }

    fn forget_writers(&mut self) {
        let mut lasts: Vec<u64> = self.0.values().map(|recent| recent.last).collect();
        lasts.sort_unstable();
        let limit = lasts.get(FORGOTTEN_AT_ONCE).copied().unwrap_or(u64::MAX);
        self.0.retain(|_, recent| recent.last >= limit);
    }

    /// Everything, as index files have it: `docs/storage.md`, "Index files".
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        // By number, so that the same batches make the same file.
        let mut writers: Vec<_> = self.0.iter().collect();
        writers.sort_unstable_by_key(|(writer, _)| **writer);
        for (writer, recent) in writers {
            put(writer.as_u64());
            put(recent.last);
            put(u64::from(recent.forgotten.is_some()));
            put(recent.forgotten.unwrap_or_default());
            put(recent.batches.len() as u64);
            for Stored { seq, offset } in &recent.batches {
                put(*seq);
                put(*offset);
            }
        }
        out
    }

    /// Reads what [`Writers::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(IndexError::Damaged);
        }
        let mut numbers = numbers.iter().copied().map(u64::from_le_bytes);
        let mut writers = HashMap::new();
        while let Some(writer) = numbers.next() {
            let mut next = || numbers.next().ok_or(IndexError::Damaged);
            let (last, has_forgotten, forgotten, count) = (next()?, next()?, next()?, next()?);
            let batches = (0..count.min(BATCHES_MAX as u64 + 1))
                .map(|_| Ok(Stored { seq: next()?, offset: next()? }))
                .collect::<Result<VecDeque<_>, IndexError>>()?;
            let is_rising =
                batches.iter().zip(batches.iter().skip(1)).all(|(one, other)| one.seq < other.seq);
            let forgotten = (has_forgotten == 1).then_some(forgotten);
            if count > BATCHES_MAX as u64 || has_forgotten > 1 || !is_rising {
                return Err(IndexError::Damaged);
            }
            writers.insert(WriterId::new(writer), Recent { last, forgotten, batches });
        }
        if writers.len() > WRITERS_MAX { Err(IndexError::Damaged) } else { Ok(Self(writers)) }
    }
}
