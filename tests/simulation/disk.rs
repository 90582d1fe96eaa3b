//! The simulated disk, with every call that changes or secures something in the trace, and an end of the machine at a
//! chosen one.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use logd_server::disk::{Disk, Entry, File, OpenMode, SimDisk};
use logd_server::simulation::Machine as _;

use crate::machine::Machine;

/// When files were last written, by the simulated clock. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Arc<Mutex<BTreeMap<PathBuf, SystemTime>>>);

impl Times {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A disk in a machine.
#[derive(Debug)]
pub(crate) struct Watched {
    disk: SimDisk,
    times: Times,
    machine: Arc<Machine>,
}

impl Watched {
    pub(crate) fn new(disk: &SimDisk, times: &Times, machine: &Arc<Machine>) -> Self {
        Self { disk: disk.clone(), times: times.clone(), machine: Arc::clone(machine) }
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
        if matches!(mode, OpenMode::CreateNew | OpenMode::Truncate) {
            self.times.lock().insert(path.to_owned(), self.machine.now());
        }
        let (path, times) = (path.to_owned(), self.times.clone());
        let (disk, machine) = (self.disk.clone(), Arc::clone(&self.machine));
        Ok(Arc::new(WatchedFile { file, path, times, disk, machine }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", from, |disk| disk.rename(from, to))?;
        let mut times = self.times.lock();
        if let Some(time) = times.remove(from) {
            times.insert(to.to_owned(), time);
        }
        Ok(())
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
    path: PathBuf,
    times: Times,
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
        self.machine.has_called(
            number,
            format_args!("{} {what}", self.path.display()),
            result.as_ref().err(),
        );
        result
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn modified(&self) -> io::Result<SystemTime> {
        // The disk's own counts the changes, and nothing else.
        let time = self.times.lock().get(&self.path).copied();
        time.map_or_else(|| self.file.modified(), Ok)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let written =
            self.call(format_args!("write {} at {at}", bytes.len()), |file| file.write_at(bytes, at));
        self.times.lock().insert(self.path.clone(), self.machine.now());
        written
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let cut = self.call(format_args!("set_len {bytes}"), |file| file.set_len(bytes));
        self.times.lock().insert(self.path.clone(), self.machine.now());
        cut
    }

    fn sync(&self) -> io::Result<()> {
        self.call(format_args!("sync"), |file| file.sync())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
