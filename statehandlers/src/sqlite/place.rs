//! Whether the database still is the file that was opened.
//!
//! SQLite goes on with files that were removed or replaced, and what it then commits is lost. So before and after each
//! request the files' identities are compared with those at opening. They are not opened for that: closing one would end
//! all locks that the process has on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{StateError, StateErrorKind};

/// The files of a database.
#[derive(Debug)]
pub(super) struct Place {
    /// The database, and its write-ahead log, if it has one.
    files: Vec<(PathBuf, Identity)>,
}

/// What tells a file from any other that is there at the same time.
type Identity = (u64, u64);

impl Place {
    /// The files as they are now.
    pub(super) fn new(database: &Path, has_log: bool) -> Result<Self, StateError> {
        let mut paths = vec![database.to_owned()];
        if has_log {
            let mut log = database.as_os_str().to_owned();
            log.push("-wal");
            paths.push(log.into());
        }
        let file = |path: PathBuf| match identity(&path) {
            Ok(identity) => Ok((path, identity)),
            Err(error) => Err(StateError::caused(
                StateErrorKind::Failed,
                format!("the database was not opened: `{}`", path.display()),
                error,
            )),
        };
        Ok(Self { files: paths.into_iter().map(file).collect::<Result<_, _>>()? })
    }

    /// The text of an error, unless all files are those that were opened.
    pub(super) fn check(&self) -> Result<(), String> {
        for (path, opened) in &self.files {
            let path_text = path.display();
            match identity(path) {
                Ok(identity) if identity == *opened => {}
                Ok(_) => return Err(format!("`{path_text}` is not the file that was opened")),
                Err(error) => return Err(format!("`{path_text}` is not there any more: {error}")),
            }
        }
        Ok(())
    }

    /// Whether a path is that of the database.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let opened = self.files.first().map(|(_, identity)| *identity);
        identity(path).is_ok_and(|identity| Some(identity) == opened)
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> io::Result<Identity> {
    use std::os::unix::fs::MetadataExt;

    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> io::Result<Identity> {
    // Files that are open cannot be removed or replaced there.
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    fs::canonicalize(path)?.hash(&mut hasher);
    Ok((hasher.finish(), 0))
}
