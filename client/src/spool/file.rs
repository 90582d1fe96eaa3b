//! The files of a spool: their names, and how one is written, read and checked.
//!
//! Every function here is one step that [`Spool`](super::Spool) puts in order; none keeps anything. A step that fails
//! leaves the files as the step before it did.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use logd_protocol::limits::BATCH_BYTES_MAX;
use logd_protocol::{Batch, Decoded};

use super::error::{Damage, SpoolError};

/// Behind the key of a whole batch.
const BATCH: &str = ".batch";
/// Behind the name of a batch that is being written.
const NEW: &str = ".new";
/// The name of the file that the holder of the directory has locked.
const LOCK: &str = ".lock";
/// Digits of a run or a number in a name: as many as the largest has, so that names sort as the numbers do.
const DIGITS: usize = 20;

/// Which batch of a spool: the run that put it, and its number in that run. Keys sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolKey {
    /// Counts the handles that the directory had: each that opens it gets a higher one than any batch there has.
    pub run: u64,
    /// The number that the batch was put under.
    pub number: u64,
}

impl fmt::Display for SpoolKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0DIGITS$}-{:0DIGITS$}", self.run, self.number)
    }
}

impl SpoolKey {
    fn parse(text: &str) -> Option<Self> {
        let (run, number) = text.split_once('-')?;
        Some(Self { run: parse_digits(run)?, number: parse_digits(number)? })
    }

    /// The file of the whole batch.
    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}{BATCH}"))
    }

    /// The file in which the batch is made.
    pub(super) fn path_new(self, dir: &Path) -> PathBuf {
        dir.join(format!("{self}{BATCH}{NEW}"))
    }

    /// The file that keeps what is not sent any more.
    pub(super) fn path_aside(self, dir: &Path, why: Aside) -> PathBuf {
        dir.join(format!("{self}{BATCH}{}", why.suffix()))
    }
}

fn parse_digits(text: &str) -> Option<u64> {
    let is_number = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Why a batch is set aside, and not sent any more. The file's name ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aside {
    /// `.damaged`: it is no longer whole.
    Damaged,
    /// `.refused`: the server will never take it as it is.
    Refused,
    /// `.unknown`: it was sent, may be in the topic, and the server could not tell it from another one.
    Unknown,
}

impl Aside {
    const ALL: [Self; 3] = [Self::Damaged, Self::Refused, Self::Unknown];

    const fn suffix(self) -> &'static str {
        match self {
            Self::Damaged => ".damaged",
            Self::Refused => ".refused",
            Self::Unknown => ".unknown",
        }
    }
}

/// What a name in the directory says; `None` of [`Name::parse`] for a name that is none of the spool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Batch(SpoolKey),
    New(SpoolKey),
    Aside(SpoolKey, Aside),
}

impl Name {
    pub(super) const fn key(self) -> SpoolKey {
        match self {
            Self::Batch(key) | Self::New(key) | Self::Aside(key, _) => key,
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix(NEW) {
            return Self::key_of(stem).map(Self::New);
        }
        for why in Aside::ALL {
            if let Some(stem) = name.strip_suffix(why.suffix()) {
                return Self::key_of(stem).map(|key| Self::Aside(key, why));
            }
        }
        Self::key_of(name).map(Self::Batch)
    }

    fn key_of(name: &str) -> Option<SpoolKey> {
        name.strip_suffix(BATCH).and_then(SpoolKey::parse)
    }
}

/// The names in the directory that are the spool's, in no order.
pub(super) fn names(dir: &Path) -> Result<Vec<Name>, SpoolError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(SpoolError::io("read", dir))? {
        let entry = entry.map_err(SpoolError::io("read", dir))?;
        names.extend(entry.file_name().to_str().and_then(Name::parse));
    }
    Ok(names)
}

/// Makes the directory and those above it that are missing. Each is on disk when it returns.
pub(super) fn create_dir(dir: &Path) -> Result<(), SpoolError> {
    let is_made = match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                create_dir(parent)?;
                fs::create_dir(dir)
            }
            _ => Err(error),
        },
        made => made,
    };
    let is_dir = is_made.and_then(|()| fs::metadata(dir)).map_err(SpoolError::io("create", dir))?.is_dir();
    if !is_dir {
        return Err(SpoolError::io("use", dir)(io::ErrorKind::NotADirectory.into()));
    }
    // Also where it was there: who made it may have been stopped before this.
    sync_dir(&dir.join(".."))
}

/// The file that is locked.
pub(super) fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

/// Locks the directory for as long as the file is open.
pub(super) fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = lock_path(dir);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(SpoolError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("lock", &path)(error)),
    }
}

/// Makes the names in the directory survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SpoolError::io("sync", dir))
}

/// Puts the bytes into the new, empty file, and makes them survive a power cut. The name does not yet.
pub(super) fn fill(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), SpoolError> {
    file.write_all(bytes).map_err(SpoolError::io("write", path))?;
    file.sync_all().map_err(SpoolError::io("sync", path))
}

/// Gives the file another name, which must be free. Only the holder of the lock may call it.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), SpoolError> {
    match fs::symlink_metadata(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        Err(error) => Err(error),
    }
    .map_err(SpoolError::io("create", to))
}

/// Whether both are files with the same bytes.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let read = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.len() <= BATCH_BYTES_MAX as u64 => fs::read(path).ok(),
        _ => None,
    };
    read(other).is_some_and(|bytes| read(one).as_ref() == Some(&bytes))
}

/// Removes the file; that it is not there is no failure.
pub(super) fn remove(path: &Path) -> Result<(), SpoolError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SpoolError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Reads a batch and checks it.
///
/// The outer error is one of the system, which says nothing about the batch.
pub(super) fn read(path: &Path) -> Result<Result<Batch, Damage>, SpoolError> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Damage::Gone)),
        found => found.map_err(SpoolError::io("read", path))?,
    };
    if !found.is_file() {
        return Ok(Err(Damage::NotAFile));
    }
    let bytes_max = BATCH_BYTES_MAX as u64;
    if found.len() > bytes_max {
        return Ok(Err(Damage::TooLong { bytes: found.len() }));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
    match File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Err(Damage::Gone)),
        Err(error) => Err(SpoolError::io("read", path)(error)),
        Ok(_) => Ok(check(bytes)),
    }
}

/// Whether the bytes are a whole batch and nothing else.
fn check(bytes: Vec<u8>) -> Result<Batch, Damage> {
    let length = bytes.len() as u64;
    // Bytes that nothing else shares become a buffer without a copy.
    let mut buffer = BytesMut::from(bytes::Bytes::from(bytes));
    match Batch::take(&mut buffer, BATCH_BYTES_MAX) {
        Decoded::More { .. } => Err(Damage::Truncated { bytes: length }),
        Decoded::Broken(broken) => Err(Damage::Broken(broken)),
        Decoded::Whole { value, .. } => {
            let batch = value.map_err(Damage::Batch)?;
            if buffer.is_empty() { Ok(batch) } else { Err(Damage::Trailing { bytes: buffer.len() as u64 }) }
        }
    }
}
