//! What can go wrong in a spool, told by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

use logd_protocol::limits::BATCH_BYTES_MAX;
use logd_protocol::{BatchError, Broken};
use thiserror::Error;

use super::SpoolKey;

/// A call of a [`Spool`](super::Spool) failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another handle, of this process or of another one, has the directory. Only one can at a time.
    #[error("the spool `{}` is in use by another writer or program", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory that was to be checked has no batch, and nobody has ever used it as a spool.
    #[error("`{}` is no spool", dir.display())]
    NoSpool {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no room for the batches: none of them was kept. [`Spool::remove`](super::Spool::remove) makes room.
    #[error("the spool `{}` has no room for another {bytes} bytes: it has {bytes_kept} of at most {bytes_max}", dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
        /// The bytes of the batches that were to be put.
        bytes: u64,
        /// The bytes of the batches that are there.
        bytes_kept: u64,
        /// The most bytes that the spool keeps.
        bytes_max: u64,
    },
    /// A batch is larger than any batch can be, so that it could never be sent. It was not kept.
    #[error("a batch of {bytes} bytes cannot be kept: the largest that can has {BATCH_BYTES_MAX}")]
    TooLarge {
        /// The bytes of the batch.
        bytes: u64,
    },
    /// The number was given to another batch of this run. None of the batches was kept.
    #[error("the spool has a batch `{key}` already")]
    Duplicate {
        /// The key that both would have.
        key: SpoolKey,
    },
    /// A batch that was whole when it was put or when the spool was opened no longer is.
    /// [`Spool::set_aside`](super::Spool::set_aside) makes the way free for those behind it.
    #[error("the batch `{key}` is damaged: {damage}")]
    Damaged {
        /// Which batch.
        key: SpoolKey,
        /// What is wrong with it.
        #[source]
        damage: Damage,
    },
    /// The directory has a batch of the highest run that there can be. Only a file that was put there by hand has it.
    #[error("the spool `{}` has no higher run left: move its last batch away", dir.display())]
    NoRunLeft {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} `{}`: {}", path.display(), reason(source))]
    Io {
        /// What was tried, as `write`.
        action: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl SpoolError {
    /// Turns the failure of `action` on `path` into an error.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}

/// What is wrong with a file that should be a whole batch and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Damage {
    /// It is not there any more.
    #[error("the file is gone")]
    Gone,
    /// It is a directory, a link, or something else that is no regular file.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is longer than any batch can be.
    #[error("the file has {bytes} bytes, more than the {BATCH_BYTES_MAX} of the largest batch")]
    TooLong {
        /// The length of the file.
        bytes: u64,
    },
    /// It ends before the batch does.
    #[error("the file ends after {bytes} bytes, in the middle of the batch")]
    Truncated {
        /// The length of the file.
        bytes: u64,
    },
    /// It does not begin with a batch.
    #[error("it does not begin with a batch: {0}")]
    Broken(Broken),
    /// The batch in it is wrong.
    #[error("{0}")]
    Batch(BatchError),
    /// Something stands behind the batch.
    #[error("{bytes} bytes stand behind the batch")]
    Trailing {
        /// How many bytes.
        bytes: u64,
    },
}

/// The cause of a failed call in the system's words, written as ours are: `no such file or directory`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}
