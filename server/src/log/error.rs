//! What can go wrong in the storage engine.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a topic could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file system refused.
    #[error("cannot {action} `{path}`: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Two files claim the same offset.
    #[error("`{dir}` has two partition files for offset {start}", dir = dir.display())]
    DuplicatePartition {
        /// The topic's directory.
        dir: PathBuf,
        /// The offset.
        start: u64,
    },
    /// The end of the head partition has to be cut off but could not be kept.
    #[error(
        "`{path}` ends in {bytes} bytes that are no batch, and they cannot be set aside: {source}; free some space, or \
         move the file away",
        path = path.display()
    )]
    SetAside {
        /// The head partition.
        path: PathBuf,
        /// The length of its damaged end.
        bytes: u64,
        /// What the file system said.
        source: io::Error,
    },
}

impl OpenError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// What could not be done to which file.
#[derive(Debug, Error)]
#[error("cannot {action} `{path}`: {source}", path = path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// What the file system said.
    pub source: io::Error,
}

impl FileError {
    pub(super) fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { action, path: path.into(), source }
    }
}

/// Why a batch was not appended. Nothing of it is stored.
#[derive(Debug, Error)]
pub enum AppendError {
    /// The disk has no room. Appending works again when it has.
    #[error("the disk is full: {0}")]
    DiskFull(FileError),
    /// The write failed. Appending works again when writes do.
    #[error("the write failed: {0}")]
    Io(FileError),
    /// A sync failed before, so that what the disk holds is unknown. Nothing is appended until the topic is opened anew.
    #[error("an earlier sync failed: nothing is written until a restart")]
    SyncFailed,
    /// So old a batch of this writer is not remembered any more: whether it is stored cannot be told.
    #[error("whether the batch is stored is not remembered any more")]
    Forgotten,
    /// The topic has no offsets left.
    #[error("the topic has no offsets left")]
    Exhausted,
}

/// A sync failed. The topic takes no more batches until it is opened anew.
#[derive(Debug, Clone, Error)]
#[error("the sync failed: {0}")]
pub struct SyncError(pub(super) std::sync::Arc<FileError>);

/// Why there is nothing to read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// No batch starts at the offset.
    #[error("no batch starts there")]
    NotFound,
    /// The file system refused, or the files are not what was written.
    #[error("the read failed: {0}")]
    Io(#[from] io::Error),
}

/// Why an index file cannot be used. The index is rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IndexError {
    /// The file is no index, or has been damaged.
    #[error("the index file is damaged")]
    Damaged,
    /// The file is not there, or the file system refused.
    #[error("the index file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// The file is the index of another partition.
    #[error("the index file is that of the partition at {start}")]
    OtherPartition {
        /// The offset of that partition.
        start: u64,
    },
}

impl From<io::Error> for IndexError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.kind())
    }
}
