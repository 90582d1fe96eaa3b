//! The seam to the file system: the only way in which the server touches files.
//!
//! The storage engine is written against [`Disk`] and [`File`]. [`OsDisk`] is the real file system; [`SimDisk`] is a
//! seeded one in memory that can fail, run full, and lose its power at any call, so that the engine's promises can be
//! tried at every point at which they could break.
//!
//! Contract, for both: calls block. What was written is visible to every reader at once, but survives a power cut only
//! after [`File::sync`]; a name that was created, renamed or removed survives one only after [`Disk::sync_dir`] on its
//! directory. After a failed [`File::sync`] the state of the file on the disk is unknown, and a later success says
//! nothing about what was written before.

mod os;
mod sim;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

pub use os::{DirLock, OsDisk, Shared, is_disk_full, read_text};
pub use sim::{Cut, Fault, FaultKind, SimDisk};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// For reading; it must be there.
    Read,
    /// For reading and writing; it must be there.
    Write,
    /// For reading and writing; it must not be there yet.
    CreateNew,
    /// For reading and writing; it is created, or emptied if it is there.
    Truncate,
}

/// What a directory has under a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name; entries whose names are not UTF-8 are not listed.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// A file system.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Creates a directory and those above it; a directory that is there already is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The files and directories in a directory, ordered by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;

    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Gives a file another name in one step, replacing what is there under that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Those who have it open can go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory that is empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
#[expect(
    clippy::len_without_is_empty,
    reason = "a file's length can fail, and its emptiness is nobody's question"
)]
pub trait File: Debug + Send + Sync {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// When the file was last written.
    fn modified(&self) -> io::Result<SystemTime>;

    /// Reads at byte `at`, as much as there is room and data for in one go; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;

    /// Writes at byte `at`, as much as goes in one go. Writing behind the end fills the gap with zeros.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize>;

    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Makes contents and length survive a power cut.
    fn sync(&self) -> io::Result<()>;

    /// The descriptor, where there is one, for transfers that the kernel makes by itself.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Writes all of `bytes` at byte `at`. On an error any part of them may have been written.
    fn write_all_at(&self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    at = at.saturating_add(written as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from byte `at` on as far as the file goes; returns how many bytes there were.
    fn read_full_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.read_at(room, at.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
