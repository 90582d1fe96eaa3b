//! The real file system, and the few things beside [`Disk`] that a server needs of it.
//!
//! This is the only file of the server that may use `std::fs`. Files are reached by position only (`pread`, `pwrite`),
//! so that readers and the writer of a file can share one descriptor. Errors are those of the operating system and
//! name no path: the caller knows which file it was about and says so.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Disk, Entry, File, OpenMode};

/// The name of the file in a directory that [`DirLock`] locks.
const LOCK_NAME: &str = ".lock";

/// The longest file that [`read_text`] takes, in bytes: far above any file written by hand.
const TEXT_BYTES_MAX: u64 = 1024 * 1024;

/// The longest line that [`DirLock::holder`] takes from a lock file, in bytes: a process id is shorter.
const HOLDER_BYTES_MAX: u64 = 32;

/// The file system of the operating system.
#[derive(Debug, Clone)]
pub struct OsDisk {
    file_mode: u32,
}

impl OsDisk {
    /// A disk that creates files with the permissions `file_mode`, as `0o600`, less what the process's umask takes.
    ///
    /// Directories are created with `0o700`, and for everyone else with the permissions of the files and the one to
    /// enter where a file can be read: `0o640` makes directories of `0o750`.
    pub const fn new(file_mode: u32) -> Self {
        Self { file_mode }
    }

    const fn dir_mode(&self) -> u32 {
        0o700 | self.file_mode | ((self.file_mode & 0o444) >> 2)
    }
}

impl Disk for OsDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(self.dir_mode()).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // A symbolic link counts as what it leads to, so that a topic can be moved to another disk.
            let is_dir = if kind.is_symlink() { entry.path().is_dir() } else { kind.is_dir() };
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(self.file_mode);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Truncate => options.write(true).create(true).truncate(true),
        };
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

/// An open file of the operating system.
#[derive(Debug)]
struct OsFile(fs::File);

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.0.metadata()?.modified()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // `fdatasync` also writes the length: what is needed to read the data back. It leaves out the times only.
        self.0.sync_data()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}

/// The exclusive right to a directory, held until it is dropped or the process ends in whatever way.
///
/// It is an advisory lock on the file `.lock` in the directory: it keeps out those who ask for it, nobody else.
#[derive(Debug)]
pub struct DirLock {
    /// Closing it releases the lock.
    file: fs::File,
}

/// What became of asking for a directory only to read it.
#[derive(Debug)]
pub enum Shared {
    /// It is the caller's until the lock is dropped; others may read it, too.
    Taken(DirLock),
    /// Somebody has it who may change it.
    InUse,
    /// Nobody has ever locked it, and nothing was made: who comes to change it is not kept out.
    NeverLocked,
}

impl DirLock {
    /// Takes the lock of the directory, which must be there; `None` where another process, or another lock of this
    /// one, has it.
    ///
    /// The process id is written into the lock file as far as the disk has room for it.
    ///
    /// # Errors
    /// Those of opening, creating and locking the file `.lock`.
    pub fn acquire(dir: &Path) -> io::Result<Option<Self>> {
        let lock = Self::acquire_unsigned(dir)?;
        if let Some(lock) = &lock {
            lock.sign();
        }
        Ok(lock)
    }

    /// As [`DirLock::acquire`], and leaves what is in the lock file as it is.
    ///
    /// # Errors
    /// As [`DirLock::acquire`].
    pub fn acquire_unsigned(dir: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock_path(dir))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes the process id into the lock file, for who finds the directory in use. Not on a lock that is shared.
    pub fn sign(&self) {
        // The id only serves an error message of others. A disk without room for it must not keep a server from
        // starting: it can still be read from.
        let _ = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
    }

    /// Takes the directory for reading, without changing anything in it.
    ///
    /// # Errors
    /// Those of opening and locking the file `.lock`.
    pub fn share(dir: &Path) -> io::Result<Shared> {
        let file = match fs::File::open(lock_path(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Shared::NeverLocked),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Shared::Taken(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(Shared::InUse),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// What the one who has, or last had, the directory's lock wrote into it: a process id. `None` where nothing can
    /// be read.
    pub fn holder(dir: &Path) -> Option<String> {
        let mut text = String::new();
        fs::File::open(lock_path(dir)).ok()?.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
        let holder = text.trim();
        (!holder.is_empty()).then(|| holder.to_owned())
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK_NAME)
}

/// Whether an error says that there is no room: on the disk, in the user's quota, or in the longest file allowed.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Reads a text file of at most 1 MiB, such as a configuration.
///
/// # Errors
/// Those of opening and reading; [`io::ErrorKind::InvalidData`] where the file is longer or not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        let message = format!("the file has more than {TEXT_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(text)
}
