//! The names of a topic's files.
//!
//! | name | what |
//! |---|---|
//! | `<start>.log` | a partition: requests as they came, one after another; `start` is the offset of the first |
//! | `<start>.index` | its index, which can be rebuilt from the `.log` file at any time |
//! | `<start>.index.new` | an index being written; never read |
//! | `<start>.times` | when some of its batches arrived, while it has no index |
//! | `<offset>.torn` | the end of a head partition that was cut off when the topic was opened |
//! | `<name>.aside` | a file of any of these names that `logd check --repair` has taken out of use; never read |
//! | `<start>.idx` | an index of Go logd; never read, removed with its partition |
//!
//! Go logd pads its numbers in some versions, so a partition keeps the name under which it was found.

use std::path::{Path, PathBuf};

use logd_protocol::parse_u64;

use crate::disk::Entry;

/// A partition's file, as a directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartitionFile {
    /// The offset of the partition's first batch.
    pub(super) start: u64,
    /// The file's name without `.log`.
    pub(super) stem: String,
}

impl PartitionFile {
    /// A new partition.
    pub(super) fn new(start: u64) -> Self {
        Self { start, stem: start.to_string() }
    }

    /// The partitions among the entries of a topic's directory, by their offsets.
    pub(super) fn among(entries: &[Entry]) -> Vec<Self> {
        let mut files: Vec<Self> = entries
            .iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| entry.name.strip_suffix(".log"))
            .filter_map(|stem| {
                parse_u64(stem.as_bytes()).ok().map(|start| Self { start, stem: stem.to_owned() })
            })
            .collect();
        files.sort_by_key(|file| file.start);
        files
    }

    pub(super) fn log(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.log", self.stem))
    }

    /// The name of the file.
    pub(super) fn log_name(&self) -> String {
        format!("{}.log", self.stem)
    }

    /// The name of the index file.
    pub(super) fn index_name(&self) -> String {
        format!("{}{INDEX}", self.stem)
    }

    pub(super) fn index(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}{INDEX}", self.stem))
    }

    pub(super) fn new_index(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}{NEW_INDEX}", self.stem))
    }

    pub(super) fn times(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}{TIMES}", self.stem))
    }

    /// Everything that goes when the partition goes, the partition itself first.
    pub(super) fn all(&self, dir: &Path) -> [PathBuf; 4] {
        [self.log(dir), self.index(dir), self.times(dir), dir.join(format!("{}.idx", self.stem))]
    }
}

/// How the names of indexes end.
const INDEX: &str = ".index";

/// How the names of unfinished indexes end.
const NEW_INDEX: &str = ".index.new";

/// How the names of recorded times end.
const TIMES: &str = ".times";

/// How the names of tails end that were cut off.
const TORN: &str = ".torn";

/// How the names of files end that were taken out of use.
const ASIDE: &str = ".aside";

/// The name of a file that is of use only beside its partition.
pub(super) enum CompanionName<'a> {
    /// Of an index or of times, and the name of its partition without `.log`.
    Finished(&'a str),
    /// Of an index that is being written.
    New,
}

/// What a file's name says if it is that of an index or of times. Files of other names are none of ours.
pub(super) fn companion_name(name: &str) -> Option<CompanionName<'_>> {
    let is_start = |stem: &&str| parse_u64(stem.as_bytes()).is_ok();
    let new = name.strip_suffix(NEW_INDEX).filter(is_start).map(|_| CompanionName::New);
    let stem = name.strip_suffix(INDEX).or_else(|| name.strip_suffix(TIMES));
    new.or_else(|| stem.filter(is_start).map(CompanionName::Finished))
}

/// Where the `number`th tail that was cut off at `offset` is kept.
pub(super) fn torn(dir: &Path, offset: u64, number: u32) -> PathBuf {
    match number {
        0 => dir.join(format!("{offset}{TORN}")),
        number => dir.join(format!("{offset}.{number}{TORN}")),
    }
}

/// Where the `number`th file of this name is kept that was taken out of use.
pub(super) fn aside(dir: &Path, name: &str, number: u32) -> PathBuf {
    match number {
        0 => dir.join(format!("{name}{ASIDE}")),
        number => dir.join(format!("{name}.{number}{ASIDE}")),
    }
}

/// What a file in a topic's directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A partition.
    Partition,
    /// Of use only beside the partition of this name without `.log`.
    Companion(&'a str),
    /// An index that is being written.
    Unfinished,
    /// Kept for people: a tail that was cut off, or a file that was taken out of use.
    Kept,
    /// None of ours.
    Foreign,
}

/// What a file's name says.
pub(super) fn kind(name: &str) -> Kind<'_> {
    let is_number = |text: &str| parse_u64(text.as_bytes()).is_ok();
    match companion_name(name) {
        Some(CompanionName::Finished(stem)) => return Kind::Companion(stem),
        Some(CompanionName::New) => return Kind::Unfinished,
        None => {}
    }
    if let Some(stem) = name.strip_suffix(TORN) {
        let offset = stem.split_once('.').map_or(stem, |(offset, _)| offset);
        return if is_number(offset) { Kind::Kept } else { Kind::Foreign };
    }
    if name.ends_with(ASIDE) {
        return Kind::Kept;
    }
    match name.rsplit_once('.') {
        Some((stem, "log")) if is_number(stem) => Kind::Partition,
        Some((stem, "idx")) if is_number(stem) => Kind::Companion(stem),
        _ => Kind::Foreign,
    }
}
