//! The simulated disk, with every call that changes or secures something in the trace, and an end of the machine at a
//! chosen one.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use logd_server::disk::{Disk, Entry, File, OpenMode, SimDisk};

use crate::machine::Machine;

/// A disk in a machine.
#[derive(Debug)]
pub(crate) struct Watched {
    disk: SimDisk,
    machine: Arc<Machine>,
}

impl Watched {
    pub(crate) fn new(disk: &SimDisk, machine: &Arc<Machine>) -> Self {
        Self { disk: disk.clone(), machine: Arc::clone(machine) }
    }

    fn call<T>(
        &self,
        what: &str,
        path: &Path,
        call: impl FnOnce(&SimDisk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.machine.check_on()?;
        let number = self.disk.calls();
        let result = call(&self.disk);
        self.machine.has_called(number, format_args!("{what} {}", path.display()), result.as_ref().err());
        result
    }
}

impl Disk for Watched {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir", path, |disk| disk.create_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = match mode {
            OpenMode::Read | OpenMode::Write => self.disk.open(path, mode)?,
            OpenMode::CreateNew | OpenMode::Truncate => {
                self.call("create", path, |disk| disk.open(path, mode))?
            }
        };
        let name = path.to_string_lossy().into_owned();
        Ok(Arc::new(WatchedFile { file, name, disk: self.disk.clone(), machine: Arc::clone(&self.machine) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", from, |disk| disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path, |disk| disk.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir", path, |disk| disk.remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", path, |disk| disk.sync_dir(path))
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    name: String,
    disk: SimDisk,
    machine: Arc<Machine>,
}

impl WatchedFile {
    fn call<T>(
        &self,
        what: std::fmt::Arguments<'_>,
        call: impl FnOnce(&dyn File) -> io::Result<T>,
    ) -> io::Result<T> {
        self.machine.check_on()?;
        let number = self.disk.calls();
        let result = call(&*self.file);
        self.machine.has_called(number, format_args!("{} {what}", self.name), result.as_ref().err());
        result
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        self.file.modified()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.call(format_args!("write {} at {at}", bytes.len()), |file| file.write_at(bytes, at))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(format_args!("set_len {bytes}"), |file| file.set_len(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.call(format_args!("sync"), |file| file.sync())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
