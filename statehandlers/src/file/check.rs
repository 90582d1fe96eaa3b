//! Checking the files of a store, and repairing them.
//!
//! A check reads every record and changes nothing: neither a byte nor a time. It can run beside readers, since records are
//! replaced as a whole. A repair gives what cannot be read another name, under which the store does not see it, and so
//! what is left of a write that a crash has ended. It removes nothing.
//!
//! It does so under the lock for writing of that record, when it has looked again; a record whose lease somebody holds
//! stays. A failure is told with its file, and leaves it as it was.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::disk::{Disk, LockFile};
use super::marker::{self, Marker, Missing};
use super::names::{self, Kind, Paths};
use super::store::{WRITE_WAIT, key_of, refused};
use super::{FileState, blocking, frame};
use crate::body::BodyError;
use crate::error::{StateError, StateErrorKind};
use crate::key::ConsumerKey;

/// Behind the name of a file that a repair has taken out of use.
const ASIDE: &str = ".aside";

/// How many files of the same name are kept apart.
const SAME_NAME_MAX: u32 = 1000;

/// The pause between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(5);

/// What a check of a store found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct FileCheck {
    /// The records that can be read.
    pub records: u64,
    /// The bytes of them.
    pub bytes: u64,
    /// What is not as it should be, or is worth telling, by name.
    pub findings: Vec<FileFinding>,
}

/// A file of a store that is no sound record.
#[derive(Debug)]
#[non_exhaustive]
pub struct FileFinding {
    /// The file, or what was its name before the repair.
    pub path: PathBuf,
    /// Whose record it is.
    pub key: Option<ConsumerKey>,
    /// What it is.
    pub fault: FileFault,
    /// Its name since the repair; of what marks the store, that of the copy.
    pub moved_to: Option<PathBuf>,
    /// Why it was not repaired.
    pub failure: Option<StateError>,
}

/// What a file of a store is that is no sound record.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileFault {
    /// A record that cannot be read for what is in it.
    Damaged(BodyError),
    /// What marks the folder as a store, and cannot be read: the store cannot be opened. A repair makes it another store
    /// with the same records, which handlers that are open refuse.
    Marker,
    /// What is left of a write that was not ended. The next write of the record removes it.
    Unfinished,
    /// A repair has taken it out of use.
    Kept,
    /// It has a name that is none of the store's.
    Foreign,
    /// It cannot be read, or a later version has written it.
    Unreadable(StateError),
}

impl FileState {
    /// Checks every record in the folder `root`, and changes nothing in it. Readers can run meanwhile.
    ///
    /// # Errors
    /// [`StateError`]: there is no store, a later version has made it, or a folder cannot be listed.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn check(root: impl Into<PathBuf>) -> Result<FileCheck, StateError> {
        let root = root.into();
        blocking(move || run(&Disk::default(), &root, Action::Look)).await
    }

    /// As [`FileState::check`], and gives what is damaged or unfinished another name, under which it is no record. Its
    /// reader begins anew, then, as if it had never stored one. A record whose lease somebody holds is left.
    ///
    /// # Errors
    /// As [`FileState::check`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the repair goes on to its end.
    pub async fn repair(root: impl Into<PathBuf>) -> Result<FileCheck, StateError> {
        let root = root.into();
        blocking(move || run(&Disk::default(), &root, Action::Repair)).await
    }
}

/// What is done beside looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Look,
    Repair,
}

pub(super) fn run(disk: &Disk, root: &Path, action: Action) -> Result<FileCheck, StateError> {
    let mut check = Check { disk, root, action, told: FileCheck::default() };
    check.marker()?;
    for namespace in check.folders(root, "")? {
        let path = root.join(&namespace);
        for topic in check.folders(&path, &namespace)? {
            check.topic(&path.join(&topic), &namespace, &topic)?;
        }
    }
    check.told.findings.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(check.told)
}

struct Check<'a> {
    disk: &'a Disk,
    root: &'a Path,
    action: Action,
    told: FileCheck,
}

impl Check<'_> {
    fn found(
        &mut self,
        path: PathBuf,
        key: Option<ConsumerKey>,
        fault: FileFault,
        mended: io::Result<Option<PathBuf>>,
    ) {
        let (moved_to, failure) = match mended {
            Ok(moved_to) => (moved_to, None),
            Err(error) => (None, Some(refused("it was not repaired", &path, error))),
        };
        self.told.findings.push(FileFinding { path, key, fault, moved_to, failure });
    }

    /// What marks the root as a store.
    fn marker(&mut self) -> Result<(), StateError> {
        match Marker::open(self.disk, self.root, Missing::Refuse) {
            Err(error) if error.kind() == StateErrorKind::Corrupt => {
                let mended = if self.action == Action::Repair { self.mend_marker() } else { Ok(None) };
                self.found(self.root.join(marker::FILE), None, FileFault::Marker, mended);
                Ok(())
            }
            opened => opened.map(|_| ()),
        }
    }

    /// Keeps a copy, so that there is no moment without a marker.
    fn mend_marker(&self) -> io::Result<Option<PathBuf>> {
        let path = self.root.join(marker::FILE);
        let _lock = self.lock(&self.root.join(".write"))?;
        let Some(bytes) = self.disk.read(&path, frame::BYTES_MAX)? else { return Ok(None) };
        let copy = self.free_name(&path)?;
        self.disk.write_new(&copy, &bytes)?;
        Marker::replace(self.disk, self.root)?;
        Ok(Some(copy))
    }

    /// The folders of namespaces, or of topics in the one of `namespace`.
    fn folders(&mut self, path: &Path, namespace: &str) -> Result<Vec<String>, StateError> {
        let is_root = namespace.is_empty();
        let mut folders = Vec::new();
        for name in self.names(path)? {
            let own = path.join(&name);
            let is_name = match names::decode(&name) {
                Some(name) if is_root => !name.is_empty(),
                Some(name) => name.parse::<logd_protocol::TopicName>().is_ok(),
                None => false,
            };
            let is_folder = self.disk.is_folder(&own).unwrap_or(false);
            match name.as_str() {
                _ if is_name && is_folder => folders.push(name),
                marker::FILE | ".write" if is_root => {}
                marker::TEMPORARY if is_root => self.unfinished(own, &path.join(".write"), None),
                name if name.ends_with(ASIDE) => self.found(own, None, FileFault::Kept, Ok(None)),
                _ => self.found(own, None, FileFault::Foreign, Ok(None)),
            }
        }
        Ok(folders)
    }

    fn names(&self, path: &Path) -> Result<Vec<String>, StateError> {
        let mut names = self
            .disk
            .names(path)
            .map_err(|error| refused("the checkpoints cannot be listed", path, error))?;
        names.sort_unstable();
        Ok(names)
    }

    fn topic(&mut self, folder: &Path, namespace: &str, topic: &str) -> Result<(), StateError> {
        for name in self.names(folder)? {
            let path = folder.join(&name);
            match names::kind(&name) {
                Kind::Record => match key_of(namespace, topic, &name) {
                    Some(key) => self.record(path, key),
                    None => self.found(path, None, FileFault::Foreign, Ok(None)),
                },
                Kind::Temporary => {
                    let record = format!("{}.ckpt", name.strip_suffix(".tmp").unwrap_or(&name));
                    let key = key_of(namespace, topic, &record);
                    self.unfinished(path.clone(), &path.with_extension("write"), key);
                }
                Kind::Lock => {}
                Kind::Foreign if name.ends_with(ASIDE) => self.found(path, None, FileFault::Kept, Ok(None)),
                Kind::Foreign => self.found(path, None, FileFault::Foreign, Ok(None)),
            }
        }
        Ok(())
    }

    fn record(&mut self, path: PathBuf, key: ConsumerKey) {
        let fault = match self.disk.read(&path, frame::BYTES_MAX) {
            Ok(Some(file)) => match frame::decode(&file) {
                Ok(_) => {
                    self.told.records += 1;
                    self.told.bytes = self.told.bytes.saturating_add(file.len() as u64);
                    return;
                }
                Err(error @ BodyError::Newer { .. }) => {
                    FileFault::Unreadable(StateError::body("a later version has stored it", error))
                }
                Err(error) => FileFault::Damaged(error),
            },
            // Its reader, or somebody, has removed it meanwhile.
            Ok(None) => return,
            Err(error) => FileFault::Unreadable(refused("it cannot be read", &path, error)),
        };
        let is_mended = self.action == Action::Repair && matches!(fault, FileFault::Damaged(_));
        let mended = if is_mended { self.mend_record(&path, &key) } else { Ok(None) };
        self.found(path, Some(key), fault, mended);
    }

    fn mend_record(&self, path: &Path, key: &ConsumerKey) -> io::Result<Option<PathBuf>> {
        let paths = Paths::new(self.root, key);
        let _lock = self.lock(&paths.write)?;
        match self.disk.read(path, frame::BYTES_MAX)? {
            Some(file) if frame::decode(&file).is_err() => {}
            // Somebody has reset or deleted it meanwhile.
            _ => return Ok(None),
        }
        if let Some(lease) = self.disk.find_lock(&paths.lease)?
            && !self.disk.try_lock(&lease, &paths.lease)?
        {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "a reader holds its lease: end it first",
            ));
        }
        self.set_aside(path).map(Some)
    }

    /// What is left of a write, if none is under way.
    fn unfinished(&mut self, path: PathBuf, lock_path: &Path, key: Option<ConsumerKey>) {
        let is_busy = || -> io::Result<bool> {
            let Some(lock) = self.disk.find_lock(lock_path)? else { return Ok(false) };
            Ok(!self.disk.try_lock(&lock, lock_path)?)
        };
        if is_busy().unwrap_or(false) {
            return;
        }
        let mend = || {
            let _lock = self.lock(lock_path)?;
            if self.disk.is_free(&path)? { Ok(None) } else { self.set_aside(&path).map(Some) }
        };
        let mended = if self.action == Action::Repair { mend() } else { Ok(None) };
        self.found(path, key, FileFault::Unfinished, mended);
    }

    fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let free = self.free_name(path)?;
        self.disk.rename(path, &free)?;
        self.disk.sync_folder(path.parent().unwrap_or(self.root))?;
        Ok(free)
    }

    fn free_name(&self, path: &Path) -> io::Result<PathBuf> {
        for number in 0..SAME_NAME_MAX {
            let mut name = path.as_os_str().to_owned();
            if number > 0 {
                name.push(format!(".{number}"));
            }
            name.push(ASIDE);
            let free = PathBuf::from(name);
            if self.disk.is_free(&free)? {
                return Ok(free);
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name have been set aside"))
    }

    fn lock(&self, path: &Path) -> io::Result<LockFile> {
        let file = self.disk.open_lock(path)?;
        let start = Instant::now();
        while !self.disk.try_lock(&file, path)? {
            if start.elapsed() >= WRITE_WAIT {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it"));
            }
            thread::sleep(PAUSE);
        }
        Ok(file)
    }
}
