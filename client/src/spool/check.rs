//! Checking a spool that nobody uses, and repairing it.
//!
//! A check reads every batch and changes nothing: neither a byte nor a time. A repair gives what is no whole batch, and
//! what is left of puts that never returned, another name under which the spool leaves it alone. It removes nothing.
//!
//! The directory's lock is held meanwhile; a check shares it with other checks. Where there is no lock file yet none is
//! made: then it is looked at the end whether one has come.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::file::{self, Name};
use super::{Aside, Damage, Kept, Spool, SpoolError};

/// Behind the name of a file that a repair has taken out of use, where no other name says why.
const ASIDE: &str = ".aside";

/// How many files of the same name are kept apart.
const SAME_NAME_MAX: u32 = 1000;

/// What a check of a spool found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SpoolCheck {
    /// The whole batches.
    pub batches: u64,
    /// The messages in them.
    pub messages: u64,
    /// The bytes of them.
    pub bytes: u64,
    /// What is not a whole batch, by name.
    pub findings: Vec<SpoolFinding>,
}

/// A file that is no whole batch.
#[derive(Debug)]
#[non_exhaustive]
pub struct SpoolFinding {
    /// The file, or what was its name before the repair.
    pub path: PathBuf,
    /// What it is.
    pub fault: SpoolFault,
    /// Its name since the repair.
    pub moved_to: Option<PathBuf>,
    /// Why it was not repaired.
    pub failure: Option<SpoolError>,
}

/// What a file of a spool is that is no whole batch.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpoolFault {
    /// It should be a whole batch.
    Damaged(Damage),
    /// It is what is left of a put that never returned. The next [`Spool::open`] removes it.
    Unfinished,
    /// It was set aside earlier.
    Kept(Option<Aside>),
    /// It has a name that is none of the spool's.
    Foreign,
    /// It cannot be read.
    Unreadable(SpoolError),
}

impl Spool {
    /// Checks every batch in a directory that nobody uses, and changes nothing in it.
    ///
    /// # Errors
    /// - [`SpoolError::NoSpool`] when the directory has nothing of a spool
    /// - [`SpoolError::Locked`] when a handle or a repair has the directory
    /// - [`SpoolError::Io`] when the directory or its lock cannot be read
    pub fn check(dir: &Path) -> Result<SpoolCheck, SpoolError> {
        expect_spool(dir)?;
        let lock = share(dir)?;
        let mut check = SpoolCheck::default();
        for entry in entries(dir)? {
            check.look(&entry);
        }
        if lock.is_none() && share(dir)?.is_some() {
            return Err(SpoolError::Locked { dir: dir.to_owned() });
        }
        Ok(check)
    }

    /// As [`Spool::check`], and gives what is damaged or unfinished another name, under which it is left alone. The first
    /// failure is told with its file, and ends the repair; the rest is checked.
    ///
    /// # Errors
    /// As [`Spool::check`].
    pub fn repair(dir: &Path) -> Result<SpoolCheck, SpoolError> {
        expect_spool(dir)?;
        let _lock = file::lock(dir)?;
        let mut check = SpoolCheck::default();
        let mut has_failed = false;
        for entry in entries(dir)? {
            let count = check.findings.len();
            check.look(&entry);
            let Some(finding) = check.findings.get_mut(count).filter(|_| !has_failed) else { continue };
            match finding.set_aside(dir) {
                Ok(moved_to) => finding.moved_to = moved_to,
                Err(error) => {
                    finding.failure = Some(error);
                    has_failed = true;
                }
            }
        }
        Ok(check)
    }
}

impl SpoolCheck {
    fn look(&mut self, path: &Path) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let fault = match Name::parse(name) {
            Some(Name::Batch(_)) => match file::read(path) {
                Ok(Ok(batch)) => {
                    let Kept { bytes, messages } = Kept::of(&batch);
                    self.batches += 1;
                    self.messages = self.messages.saturating_add(messages);
                    self.bytes = self.bytes.saturating_add(bytes);
                    return;
                }
                Ok(Err(damage)) => SpoolFault::Damaged(damage),
                Err(error) => SpoolFault::Unreadable(error),
            },
            Some(Name::New(_)) => SpoolFault::Unfinished,
            Some(Name::Aside(_, why)) => SpoolFault::Kept(Some(why)),
            None if name.ends_with(ASIDE) => SpoolFault::Kept(None),
            None => SpoolFault::Foreign,
        };
        self.findings.push(SpoolFinding { path: path.to_owned(), fault, moved_to: None, failure: None });
    }
}

impl SpoolFinding {
    /// Gives the file another name, if that is what it needs.
    fn set_aside(&self, dir: &Path) -> Result<Option<PathBuf>, SpoolError> {
        let damaged =
            match (&self.fault, self.path.file_name().and_then(|name| name.to_str()).and_then(Name::parse)) {
                (SpoolFault::Damaged(_), Some(Name::Batch(key))) => Some(key.path_aside(dir, Aside::Damaged)),
                (SpoolFault::Unfinished, _) => None,
                _ => return Ok(None),
            };
        let others = (0..SAME_NAME_MAX).map(|number| with_number(&self.path, number));
        let free = damaged.into_iter().chain(others).find(|path| {
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        });
        let Some(free) = free else {
            return Err(SpoolError::io("set aside", &self.path)(io::ErrorKind::AlreadyExists.into()));
        };
        file::rename(&self.path, &free)?;
        file::sync_dir(dir)?;
        Ok(Some(free))
    }
}

fn with_number(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.push(ASIDE);
    name.into()
}

/// Everything in the directory but the lock, by name.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, SpoolError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(SpoolError::io("read", dir))? {
        entries.push(entry.map_err(SpoolError::io("read", dir))?.path());
    }
    entries.retain(|path| *path != file::lock_path(dir));
    entries.sort_unstable();
    Ok(entries)
}

/// A directory of something else must not be told to be a sound spool, nor get a lock.
fn expect_spool(dir: &Path) -> Result<(), SpoolError> {
    let has_lock = fs::symlink_metadata(file::lock_path(dir)).is_ok();
    if has_lock || !file::names(dir)?.is_empty() {
        return Ok(());
    }
    Err(SpoolError::NoSpool { dir: dir.to_owned() })
}

/// Locks the directory for reading; `None` where there is no lock file.
fn share(dir: &Path) -> Result<Option<File>, SpoolError> {
    let path = file::lock_path(dir);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(SpoolError::io("open", &path))?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(SpoolError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(SpoolError::io("lock", &path)(error)),
    }
}
