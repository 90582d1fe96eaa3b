//! The calls on the file system, one by one, so that in tests each of them can fail.
//!
//! What each leaves behind when it fails is for the caller to know; nothing is tried twice here.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

/// A call that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Read,
    MakeFolder,
    OpenLock,
    Lock,
    Create,
    Write,
    Sync,
    Rename,
    SyncFolder,
    Remove,
}

#[cfg(test)]
type Before = std::sync::Arc<dyn Fn(Step, &Path) -> io::Result<()> + Send + Sync>;

/// The file system.
#[derive(Clone, Default)]
pub(super) struct Disk {
    /// Called before each call, which is not made when it fails.
    #[cfg(test)]
    pub(super) before: Option<Before>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Disk")
    }
}

impl Disk {
    #[cfg(test)]
    fn step(&self, step: Step, path: &Path) -> io::Result<()> {
        self.before.as_ref().map_or(Ok(()), |before| before(step, path))
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "it can fail in tests")]
    const fn step(&self, _: Step, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// A file, as far as `bytes_max` and one byte more; `None` when there is none.
    pub(super) fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        self.step(Step::Read, path)?;
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The names in a folder, as far as they are text; none when it is no folder, or is gone.
    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        self.step(Step::Read, path)?;
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
        entries.filter_map(|entry| name(entry).transpose()).collect()
    }

    /// A folder in one that exists; it may be there already.
    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::MakeFolder, path)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// The file of a lock, which is made if need be.
    pub(super) fn open_lock(&self, path: &Path) -> io::Result<LockFile> {
        self.step(Step::OpenLock, path)?;
        OpenOptions::new().write(true).create(true).truncate(false).open(path).map(LockFile)
    }

    /// The file of a lock if it is there. Nothing is changed by it.
    pub(super) fn find_lock(&self, path: &Path) -> io::Result<Option<LockFile>> {
        self.step(Step::Read, path)?;
        match File::open(path) {
            Ok(file) => Ok(Some(LockFile(file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it is a folder.
    pub(super) fn is_folder(&self, path: &Path) -> io::Result<bool> {
        self.step(Step::Read, path)?;
        Ok(fs::metadata(path)?.is_dir())
    }

    /// Whether there is nothing of this name.
    pub(super) fn is_free(&self, path: &Path) -> io::Result<bool> {
        self.step(Step::Read, path)?;
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Whether the lock was to be had. It is held until the file is dropped.
    pub(super) fn try_lock(&self, file: &LockFile, path: &Path) -> io::Result<bool> {
        self.step(Step::Lock, path)?;
        match file.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes a new file and has it on the disk. A file that is there already is none that anybody reads.
    pub(super) fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Not written over: what is left of a file whose sync failed would be of unknown state.
        self.remove(path)?;
        self.step(Step::Create, path)?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        self.step(Step::Write, path)?;
        file.write_all(bytes)?;
        self.step(Step::Sync, path)?;
        file.sync_all()
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(Step::Rename, to)?;
        fs::rename(from, to)
    }

    /// Has the names in a folder on the disk, where the system can do that.
    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(Step::SyncFolder, path)?;
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    }

    /// Whether there was one to remove.
    pub(super) fn remove(&self, path: &Path) -> io::Result<bool> {
        self.step(Step::Remove, path)?;
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A file that is locked or to be locked.
#[derive(Debug)]
pub(super) struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing alone does not do while a child of the process has the descriptor, as it has for a moment when it is made.
        let _ = self.0.unlock();
    }
}
