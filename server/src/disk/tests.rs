//! The contract of the seam, for both of its disks, and what only the real one has.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;

/// Runs `check` on an empty directory of each disk.
fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&OsDisk::new(0o600), dir.path());
    let sim = SimDisk::new(1);
    sim.create_dir(Path::new("/work")).unwrap();
    check(&sim, Path::new("/work"));
}

fn contents(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut buffer = vec![0; usize::try_from(file.len().unwrap()).unwrap() + 1];
    let read = file.read_full_at(&mut buffer, 0).unwrap();
    buffer.truncate(read);
    buffer
}

fn put(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.open(path, OpenMode::Truncate).unwrap().write_all_at(bytes, 0).unwrap();
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    disk.list(dir).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn written_bytes_are_seen_at_once_by_every_handle() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let writer = disk.open(&path, OpenMode::CreateNew).unwrap();
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert_eq!(writer.write_at(b"hello", 0).unwrap(), 5);
        assert_eq!(reader.len().unwrap(), 5);
        let mut buffer = [0; 8];
        assert_eq!(reader.read_at(&mut buffer, 1).unwrap(), 4);
        assert_eq!(&buffer[..4], b"ello");
        assert_eq!(reader.read_at(&mut buffer, 5).unwrap(), 0);
        assert_eq!(reader.read_at(&mut buffer, u64::from(u32::MAX)).unwrap(), 0);
        writer.sync().unwrap();
        disk.sync_dir(dir).unwrap();
    });
}

#[test]
fn a_write_behind_the_end_leaves_zeros() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"ab", 0).unwrap();
        file.write_all_at(b"z", 4).unwrap();
        file.write_all_at(b"B", 1).unwrap();
        assert_eq!(contents(disk, &path), b"aB\0\0z");
        assert_eq!(file.write_at(b"", 100).unwrap(), 0);
        assert_eq!(file.len().unwrap(), 5);
    });
}

#[test]
fn set_len_cuts_and_extends_with_zeros() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let file = disk.open(&path, OpenMode::CreateNew).unwrap();
        file.write_all_at(b"abcdef", 0).unwrap();
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(contents(disk, &path), b"ab\0\0");
    });
}

#[test]
fn each_mode_wants_what_it_says() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let kind = |mode| disk.open(&path, mode).map_err(|error| error.kind()).err();
        assert_eq!(kind(OpenMode::Read), Some(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::Write), Some(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::CreateNew), None);
        assert_eq!(kind(OpenMode::CreateNew), Some(ErrorKind::AlreadyExists));
        disk.open(&path, OpenMode::Write).unwrap().write_all_at(b"x", 0).unwrap();
        assert_eq!(contents(disk, &path), b"x");
        assert_eq!(kind(OpenMode::Truncate), None);
        assert_eq!(contents(disk, &path), b"");
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        assert!(reader.write_at(b"x", 0).is_err());
        assert!(reader.set_len(0).is_err());
        let lost = dir.join("missing").join("file");
        assert_eq!(disk.open(&lost, OpenMode::Truncate).unwrap_err().kind(), ErrorKind::NotFound);
        let below_a_file = path.join("file");
        assert_eq!(
            disk.open(&below_a_file, OpenMode::CreateNew).unwrap_err().kind(),
            ErrorKind::NotADirectory
        );
        assert_eq!(disk.open(dir, OpenMode::Write).unwrap_err().kind(), ErrorKind::IsADirectory);
    });
}

#[test]
fn directories_are_created_with_those_above_and_listed_by_name() {
    on_both(|disk, dir| {
        let deep = dir.join("a").join("b");
        disk.create_dir(&deep).unwrap();
        disk.create_dir(&deep).unwrap();
        put(disk, &dir.join("c"), b"");
        put(disk, &dir.join("B"), b"");
        let is_dir: Vec<_> = disk.list(dir).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
        assert_eq!(is_dir, [("B".into(), false), ("a".into(), true), ("c".into(), false)]);
        assert_eq!(names(disk, &deep), Vec::<String>::new());
        assert_eq!(disk.list(&dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list(&dir.join("c")).unwrap_err().kind(), ErrorKind::NotADirectory);
        assert!(disk.create_dir(&dir.join("c")).is_err());
        assert_eq!(disk.sync_dir(&dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_directory_is_removed_when_it_is_empty() {
    on_both(|disk, dir| {
        let sub = dir.join("sub");
        disk.create_dir(&sub).unwrap();
        put(disk, &sub.join("file"), b"");
        assert_eq!(disk.remove_dir(&sub).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        disk.remove(&sub.join("file")).unwrap();
        disk.remove_dir(&sub).unwrap();
        assert_eq!(names(disk, dir), Vec::<String>::new());
        assert_eq!(disk.remove_dir(&sub).unwrap_err().kind(), ErrorKind::NotFound);
        put(disk, &sub, b"");
        assert_eq!(disk.remove_dir(&sub).unwrap_err().kind(), ErrorKind::NotADirectory);
    });
}

#[test]
fn rename_replaces_in_one_step() {
    on_both(|disk, dir| {
        let (old, new) = (dir.join("old"), dir.join("new"));
        put(disk, &old, b"old");
        put(disk, &new, b"new");
        let replaced = disk.open(&new, OpenMode::Read).unwrap();
        disk.rename(&old, &new).unwrap();
        assert_eq!(names(disk, dir), ["new"]);
        assert_eq!(contents(disk, &new), b"old");
        assert_eq!(replaced.len().unwrap(), 3);
        disk.create_dir(&dir.join("sub")).unwrap();
        let moved = dir.join("sub").join("moved");
        disk.rename(&new, &moved).unwrap();
        assert_eq!(names(disk, dir), ["sub"]);
        assert_eq!(contents(disk, &moved), b"old");
        disk.rename(&moved, &moved).unwrap();
        assert_eq!(contents(disk, &moved), b"old");
        assert_eq!(disk.rename(&old, &new).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(disk.rename(&moved, &dir.join("sub")).is_err());
    });
}

#[test]
fn a_removed_file_stays_readable_for_those_who_have_it_open() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        put(disk, &path, b"kept");
        let reader = disk.open(&path, OpenMode::Read).unwrap();
        disk.remove(&path).unwrap();
        put(disk, &path, b"another");
        let mut buffer = [0; 8];
        assert_eq!(reader.read_full_at(&mut buffer, 0).unwrap(), 4);
        assert_eq!(&buffer[..4], b"kept");
        disk.remove(&path).unwrap();
        assert_eq!(disk.remove(&path).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(disk.remove(dir).is_err());
    });
}

#[test]
fn a_change_moves_the_time_on() {
    on_both(|disk, dir| {
        let file = disk.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
        let created = file.modified().unwrap();
        file.write_all_at(b"x", 0).unwrap();
        let written = file.modified().unwrap();
        assert!(written >= created);
        file.sync().unwrap();
        assert_eq!(file.modified().unwrap(), written);
    });
}

#[test]
fn only_the_real_disk_has_descriptors() {
    let dir = tempfile::tempdir().unwrap();
    let real = OsDisk::new(0o600).open(&dir.path().join("file"), OpenMode::CreateNew).unwrap();
    assert!(real.descriptor().is_some());
    let sim = SimDisk::new(1).open(Path::new("file"), OpenMode::CreateNew).unwrap();
    assert!(sim.descriptor().is_none());
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn modes_are_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(0o640);
    let (sub, file) = (dir.path().join("sub"), dir.path().join("sub").join("file"));
    disk.create_dir(&sub).unwrap();
    put(&disk, &file, b"");
    // The umask of whoever runs the test can only take bits away from the group.
    assert_eq!(mode_of(&file) | 0o040, 0o640);
    assert_eq!(mode_of(&sub) | 0o050, 0o750);
    put(&OsDisk::new(0o600), &dir.path().join("private"), b"");
    assert_eq!(mode_of(&dir.path().join("private")), 0o600);
}

#[test]
fn a_link_to_a_directory_is_listed_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = OsDisk::new(0o600);
    disk.create_dir(&dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("loose")).unwrap();
    let entries: Vec<_> = disk.list(dir.path()).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
    assert_eq!(entries, [("link".into(), true), ("loose".into(), false), ("real".into(), true)]);
}

#[test]
fn a_directory_has_one_holder_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(DirLock::holder(dir.path()), None);
    let lock = DirLock::acquire(dir.path()).unwrap().expect("nobody else has it");
    assert!(DirLock::acquire(dir.path()).unwrap().is_none());
    assert_eq!(DirLock::holder(dir.path()), Some(std::process::id().to_string()));
    drop(lock);
    assert!(DirLock::acquire(dir.path()).unwrap().is_some());
    let missing: PathBuf = dir.path().join("missing");
    assert_eq!(DirLock::acquire(&missing).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn full_disks_are_told_from_other_errors() {
    use rustix::io::Errno;
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        assert!(is_disk_full(&errno.into()), "{errno}");
    }
    for errno in [Errno::IO, Errno::ACCESS, Errno::ROFS] {
        assert!(!is_disk_full(&errno.into()), "{errno}");
    }
}

#[test]
fn text_is_read_up_to_a_mebibyte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    std::fs::write(&path, "x".repeat(1024 * 1024)).unwrap();
    assert_eq!(read_text(&path).unwrap().len(), 1024 * 1024);
    std::fs::write(&path, "x".repeat(1024 * 1024 + 1)).unwrap();
    assert_eq!(read_text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    std::fs::write(&path, b"\xff").unwrap();
    assert_eq!(read_text(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(read_text(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
}
