//! Keeping what a topic cannot use: cut off from a partition, copied, or given another name. Nothing is ever lost by it.
//!
//! A copy is synced, and its name too, before what it was copied from is changed. A name is taken only if it is free.
//! Nobody else may use the directory meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::OpenError;
use super::layout;
use crate::disk::{Disk, File, OpenMode};

/// How many files that would have the same name are kept apart.
const SAME_NAME_MAX: u32 = 1000;

/// How much is copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// A part of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// The offset in the topic of its first byte.
    pub(super) offset: u64,
    /// The place in the file of its first byte.
    pub(super) place: u64,
    /// The place behind its last.
    pub(super) end: u64,
}

/// Cuts `file`, which is at `path`, off where the stretch begins that goes up to its end. The stretch is kept in a
/// `.torn` file, which is returned.
pub(super) fn cut(
    disk: &dyn Disk,
    dir: &Path,
    file: &dyn File,
    path: &Path,
    stretch: Stretch,
) -> Result<PathBuf, OpenError> {
    let bytes = stretch.end - stretch.place;
    let name = |number| layout::torn(dir, stretch.offset, number);
    let kept_in = copy(disk, dir, file, stretch, name).map_err(|source| OpenError::SetAside {
        path: path.to_path_buf(),
        bytes,
        source,
    })?;
    file.set_len(stretch.place).and_then(|()| file.sync()).map_err(OpenError::io("cut", path))?;
    Ok(kept_in)
}

/// Keeps a copy of the file of this name.
pub(super) fn copy_whole(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<PathBuf> {
    let file = disk.open(&dir.join(name), OpenMode::Read)?;
    let all = Stretch { offset: 0, place: 0, end: file.len()? };
    copy(disk, dir, &*file, all, |number| layout::aside(dir, name, number))
}

/// Takes the file of this name out of use: it gets another. That survives a power cut when the directory is synced.
pub(super) fn rename(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 0..SAME_NAME_MAX {
        let path = layout::aside(dir, name, number);
        match disk.open(&path, OpenMode::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return disk.rename(&dir.join(name), &path).map(|()| path);
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(too_many())
}

/// Writes the stretch to a new file, whose name is the first of `name` that is free, and syncs both.
fn copy(
    disk: &dyn Disk,
    dir: &Path,
    file: &dyn File,
    stretch: Stretch,
    name: impl Fn(u32) -> PathBuf,
) -> io::Result<PathBuf> {
    let (path, copy) = new_file(disk, name)?;
    if let Err(error) = copy_stretch(file, stretch, &*copy).and_then(|()| disk.sync_dir(dir)) {
        // Half a copy is of no use, and takes room on a disk that may be full.
        let _ = disk.remove(&path);
        return Err(error);
    }
    Ok(path)
}

fn new_file(disk: &dyn Disk, name: impl Fn(u32) -> PathBuf) -> io::Result<(PathBuf, Arc<dyn File>)> {
    for number in 0..SAME_NAME_MAX {
        let path = name(number);
        match disk.open(&path, OpenMode::CreateNew) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((path, file)),
        }
    }
    Err(too_many())
}

fn too_many() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name have been set aside")
}

/// Writes the stretch of `file` to the beginning of `copy`, and syncs it.
fn copy_stretch(file: &dyn File, stretch: Stretch, copy: &dyn File) -> io::Result<()> {
    let Stretch { mut place, end, .. } = stretch;
    let mut buffer = vec![0; COPY_BYTES];
    let mut written = 0;
    while place < end {
        let left = usize::try_from(end - place).unwrap_or(usize::MAX).min(COPY_BYTES);
        let read = file.read_full_at(buffer.get_mut(..left).unwrap_or_default(), place)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        copy.write_all_at(bytes, written)?;
        place += read as u64;
        written += read as u64;
    }
    copy.sync()
}
