//! A directory of the real file system, made from the files of an input.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::files::File;

/// Where file systems in memory are mounted: syncs cost nothing there.
const IN_MEMORY: &str = "/dev/shm";

/// A new, empty directory, which goes with its handle.
pub(crate) fn dir() -> TempDir {
    let made =
        if Path::new(IN_MEMORY).is_dir() { tempfile::tempdir_in(IN_MEMORY) } else { tempfile::tempdir() };
    made.expect("a directory can be made")
}

/// Writes the files into a directory.
pub(crate) fn fill(dir: &Path, files: &[File]) {
    for File { name, bytes, .. } in files {
        fs::write(dir.join(name), bytes).expect("a file can be written");
    }
}

/// The files in a directory, and those in the directories below it, by their paths.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            all.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            all.insert(name, fs::read(&path).expect("a file can be read"));
        }
    }
    all
}
