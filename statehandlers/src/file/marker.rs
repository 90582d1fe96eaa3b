//! The file that makes a folder a store, `.logd-state` in its root.
//!
//! ```text
//! logd-state-store 1 0f8e…
//! ```
//!
//! It has the version of the folder's layout, and a random number that no other store has. A handler remembers the number:
//! a root that is gone, not mounted, or another one than was opened is told from one in which a record never was.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::disk::Disk;
use super::store::{WRITE_WAIT, refused};
use crate::body::BodyError;
use crate::error::{StateError, StateErrorKind};
use crate::fence::Claimant;

/// The name of the marker.
pub(super) const FILE: &str = ".logd-state";
/// The next marker, while it is written.
pub(super) const TEMPORARY: &str = ".logd-state.tmp";
const NAME: &str = "logd-state-store";
const VERSION: &str = "1";
/// More than a marker has.
pub(super) const BYTES_MAX: usize = 256;

/// Which store a root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker(String);

/// What to do about a root that is no store yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Refuse,
}

impl Marker {
    /// Opens a root: its marker is read, or made.
    pub(super) fn open(disk: &Disk, root: &Path, missing: Missing) -> Result<Self, StateError> {
        let what = format!("`{}` cannot be opened", root.display());
        let path = root.join(FILE);
        if let Some(marker) = read(disk, &path, &what)? {
            return Ok(marker);
        }
        if missing == Missing::Refuse {
            let text = format!("{what}: there is no store of checkpoints");
            return Err(StateError::new(StateErrorKind::Failed, text));
        }
        make_folders(disk, root).map_err(|error| refused(&what, root, error))?;
        let lock_path = root.join(".write");
        let lock = disk.open_lock(&lock_path).map_err(|error| refused(&what, &lock_path, error))?;
        let start = Instant::now();
        while !disk.try_lock(&lock, &lock_path).map_err(|error| refused(&what, &lock_path, error))? {
            if start.elapsed() >= WRITE_WAIT {
                let text = format!("{what}: another process has been opening it for `{WRITE_WAIT:?}`");
                return Err(StateError::new(StateErrorKind::Unavailable, text));
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if let Some(marker) = read(disk, &path, &what)? {
            return Ok(marker);
        }
        Self::replace(disk, root).map_err(|error| refused(&what, &path, error))
    }

    /// Makes the root another store, with the records that it has. Whoever calls it has locked the root.
    pub(super) fn replace(disk: &Disk, root: &Path) -> io::Result<Self> {
        let marker = Self(format!("{NAME} {VERSION} {:032x}\n", Claimant::new("").id));
        let temporary = root.join(TEMPORARY);
        disk.write_new(&temporary, marker.0.as_bytes())?;
        disk.rename(&temporary, &root.join(FILE))?;
        disk.sync_folder(root)?;
        Ok(marker)
    }

    /// Whether the root is still the one that was opened.
    pub(super) fn check(&self, disk: &Disk, root: &Path) -> io::Result<()> {
        match disk.read(&root.join(FILE), BYTES_MAX)? {
            Some(text) if text == self.0.as_bytes() => Ok(()),
            Some(_) => Err(io::Error::other(format!("its `{FILE}` is another"))),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("it has no `{FILE}`"))),
        }
    }
}

fn read(disk: &Disk, path: &Path, what: &impl fmt::Display) -> Result<Option<Marker>, StateError> {
    let text = disk.read(path, BYTES_MAX).map_err(|error| refused(what, path, error))?;
    let parse = |text: Vec<u8>| {
        let corrupt = || BodyError::Corrupt { what: "it is not what marks a store".into() };
        let text = String::from_utf8(text).map_err(|_| corrupt())?;
        let mut words = text.strip_suffix('\n').ok_or_else(corrupt)?.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(NAME), Some(VERSION), Some(id), None) if id.len() == 32 => Ok(Marker(text)),
            (Some(NAME), Some(version), ..) => match version.parse() {
                Ok(version @ 2..) => Err(BodyError::Newer { version }),
                _ => Err(corrupt()),
            },
            _ => Err(corrupt()),
        }
    };
    let what = format_args!("{what}: `{}`", path.display());
    text.map(|text| parse(text).map_err(|error| StateError::body(what, error))).transpose()
}

/// Makes a folder and those above it, and has them on the disk.
fn make_folders(disk: &Disk, root: &Path) -> io::Result<()> {
    let root = std::path::absolute(root)?;
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut folder = root.as_path();
    while !folder.try_exists()? {
        missing.push(folder.to_owned());
        match folder.parent() {
            Some(parent) => folder = parent,
            None => break,
        }
    }
    for folder in missing.iter().rev() {
        disk.make_folder(folder)?;
    }
    // Also that of a root which was there: another process may have made it and not have come further.
    for folder in missing.iter().chain([&root]) {
        if let Some(parent) = folder.parent() {
            disk.sync_folder(parent)?;
        }
    }
    Ok(())
}
