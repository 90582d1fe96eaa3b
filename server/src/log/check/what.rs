//! What a check can find in a topic's directory, and what can have been done about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::super::damage::Lost;
use super::super::error::IndexError;

/// A file, what was found about it, and what has been done.
#[derive(Debug)]
pub struct Found {
    /// The name of the file in the topic's directory; empty for the directory itself.
    pub file: String,
    /// What was found.
    pub what: What,
    /// What has been done about it.
    pub done: Option<Done>,
}

/// What was found.
#[derive(Debug)]
pub enum What {
    /// Bytes that should be batches are none, or are not there.
    Damage {
        /// The offset of the first of them.
        from: u64,
        /// The offset behind the last.
        to: u64,
        /// How many of them, the last ones, are not in any file.
        missing: u64,
        /// What has been lost with them.
        lost: Lost,
    },
    /// The same, but an index says so: readers are led past it.
    KnownDamage {
        /// The offset of the first of them.
        from: u64,
        /// The offset behind the last.
        to: u64,
    },
    /// The end of the last partition is no batch.
    TornTail {
        /// The offset at which the topic goes on.
        offset: u64,
        /// How many bytes follow it.
        bytes: u64,
    },
    /// The partition is longer than the beginning of the next one lets it be.
    Excess {
        /// The offset at which the next one begins.
        offset: u64,
        /// How many bytes follow it.
        bytes: u64,
    },
    /// A partition has no index, or one of an earlier format.
    IndexMissing,
    /// The index file is none that can be used.
    IndexUnusable(IndexError),
    /// The index file is sound and says of the partition what is not so.
    IndexUnfit,
    /// The index of the last partition does not go up to its end, or is not there: the server was not ended in order.
    NotClosed {
        /// How many bytes the index does not cover.
        bytes: u64,
    },
    /// A partition file without a byte that continues nothing.
    EmptyPartition,
    /// An index, or times, without a partition.
    Orphan,
    /// An index that was not finished.
    Unfinished,
    /// A file that was cut off or taken out of use earlier.
    Kept {
        /// Its length.
        bytes: u64,
    },
    /// A name that is none of logd's.
    Foreign,
    /// Another file claims the same offset: the server does not start.
    Duplicate {
        /// The name of the other.
        of: String,
    },
    /// The partition reaches beyond the last offset that there is: the server does not start.
    BeyondLastOffset,
    /// It could not be checked.
    Unreadable(io::Error),
    /// It could not be repaired.
    Unrepaired(String),
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Worth telling; nothing is wrong.
    Note,
    /// Something is to be repaired; nothing that was acknowledged under a guarantee has been lost by it.
    Repair,
    /// Batches have been lost, or the server cannot start.
    Damage,
    /// It is not known what is there.
    Unchecked,
}

/// What has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// The bytes were cut off, and are kept in this file.
    Cut(PathBuf),
    /// The index was made anew; where there was one, it is kept in this file.
    Indexed(Option<PathBuf>),
    /// The file has another name now.
    SetAside(PathBuf),
}

impl Grade {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Repair => "repair",
            Self::Damage => "damage",
            Self::Unchecked => "unchecked",
        }
    }
}

impl What {
    /// How much it matters.
    pub const fn grade(&self) -> Grade {
        match self {
            Self::KnownDamage { .. } | Self::NotClosed { .. } | Self::Kept { .. } | Self::Foreign => {
                Grade::Note
            }
            Self::TornTail { .. }
            | Self::Excess { .. }
            | Self::IndexMissing
            | Self::IndexUnusable(_)
            | Self::IndexUnfit
            | Self::EmptyPartition
            | Self::Orphan
            | Self::Unfinished => Grade::Repair,
            Self::Damage { .. } | Self::Duplicate { .. } | Self::BeyondLastOffset => Grade::Damage,
            Self::Unreadable(_) | Self::Unrepaired(_) => Grade::Unchecked,
        }
    }

    /// A word for programs, which never changes.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Damage { .. } => "damage",
            Self::KnownDamage { .. } => "known-damage",
            Self::TornTail { .. } => "torn-tail",
            Self::Excess { .. } => "excess",
            Self::IndexMissing => "index-missing",
            Self::IndexUnusable(_) => "index-unusable",
            Self::IndexUnfit => "index-unfit",
            Self::NotClosed { .. } => "not-closed",
            Self::EmptyPartition => "empty-partition",
            Self::Orphan => "orphan",
            Self::Unfinished => "unfinished",
            Self::Kept { .. } => "kept",
            Self::Foreign => "foreign",
            Self::Duplicate { .. } => "duplicate",
            Self::BeyondLastOffset => "beyond-last-offset",
            Self::Unreadable(_) => "unreadable",
            Self::Unrepaired(_) => "unrepaired",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damage { from, to, missing, lost } => {
                write!(out, "offsets {from} to {to} are no batches ({} bytes", to - from)?;
                if *missing > 0 {
                    write!(out, ", of which {missing} are missing")?;
                }
                write!(out, "): {lost}")
            }
            Self::KnownDamage { from, to } => {
                write!(out, "offsets {from} to {to} are no batches ({} bytes); the index knows it", to - from)
            }
            Self::TornTail { offset, bytes } => {
                write!(out, "ends in {bytes} bytes that are no batch, from offset {offset} on")
            }
            Self::Excess { offset, bytes } => {
                write!(
                    out,
                    "has {bytes} bytes behind offset {offset}, where the next partition begins; they are not served"
                )
            }
            Self::IndexMissing => out.write_str("has no index"),
            Self::IndexUnusable(error) => error.fmt(out),
            Self::IndexUnfit => out.write_str("the index does not fit the partition"),
            Self::NotClosed { bytes } => {
                write!(
                    out,
                    "the index does not cover the last {bytes} bytes: the server was not ended in order"
                )
            }
            Self::EmptyPartition => out.write_str("a partition without a byte"),
            Self::Orphan => out.write_str("there is no partition for it"),
            Self::Unfinished => out.write_str("an index that was not finished"),
            Self::Kept { bytes } => write!(out, "{bytes} bytes that were set aside earlier"),
            Self::Foreign => out.write_str("is none of logd's files"),
            Self::Duplicate { of } => {
                write!(
                    out,
                    "claims the same offset as `{of}`: the server does not start; move one of them away"
                )
            }
            Self::BeyondLastOffset => out.write_str(
                "reaches beyond the last offset there is: the server does not start; move it away",
            ),
            Self::Unreadable(error) => write!(out, "cannot be checked: {error}"),
            Self::Unrepaired(error) => out.write_str(error),
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = if self.batches == 1 { "batch" } else { "batches" };
        let messages = if self.messages == 1 { "message" } else { "messages" };
        let least = if self.is_exact { "" } else { "at least " };
        write!(out, "{least}{} {batches} with {least}{} {messages} lost", self.batches, self.messages)
    }
}

impl fmt::Display for Done {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).display().to_string();
        match self {
            Self::Cut(path) => write!(out, "cut off, kept in `{}`", name(path)),
            Self::Indexed(None) => out.write_str("indexed anew"),
            Self::Indexed(Some(path)) => write!(out, "indexed anew, the old index is `{}`", name(path)),
            Self::SetAside(path) => write!(out, "set aside as `{}`", name(path)),
        }
    }
}
