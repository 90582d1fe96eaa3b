//! A file system in memory that can fail, run full and lose its power, at a chosen call and always in the same way.
//!
//! [`SimDisk`] counts the calls that change or secure something, from 0, and does to each what was injected for it.
//! Beside what a running process sees, it keeps what is certainly on the disk and, in order, what was done since then.
//! [`SimDisk::restart`] makes of these the disk as it can be after a kill or a power cut; the seeds decide where there
//! is a choice, so that a run that failed can be repeated.
//!
//! It is harsher than common file systems: syncing a file does not secure its name, what was not synced can survive in
//! any selection, and a failed sync loses a part of what it was asked to secure while later ones succeed.

mod cut;
mod fault;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

pub use cut::Cut;
pub use fault::{Fault, FaultKind};

use super::{Disk, Entry, File, OpenMode};
use cut::Random;
use fault::{Faults, Verdict};
use tree::{NodeId, Tree};

/// A seeded file system in memory. Clones are the same disk.
///
/// Paths are taken from one root, whether they begin with `/` or not; they must be UTF-8 and have no `..`. A file has
/// at most 1 GiB.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

/// The disk and what happens to it.
struct Machine {
    tree: Tree,
    faults: Faults,
    random: Random,
    seed: u64,
    capacity: Option<u64>,
}

impl SimDisk {
    /// An empty disk of unlimited capacity; `seed` decides what is left open.
    pub fn new(seed: u64) -> Self {
        Self::of(Tree::new(), seed, None)
    }

    fn of(tree: Tree, seed: u64, capacity: Option<u64>) -> Self {
        let machine = Machine { tree, faults: Faults::default(), random: Random::new(seed), seed, capacity };
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// How many calls were made that change or secure something: creating or emptying a file by opening it,
    /// `write_at`, `set_len`, `sync`, `rename`, `remove`, `remove_dir`, `sync_dir` and `create_dir`, each also where it
    /// failed.
    ///
    /// The next such call has this number.
    pub fn calls(&self) -> u64 {
        self.lock().faults.calls()
    }

    /// How many other calls were made: opening a file that is there, `list`, `len`, `modified` and `read_at`.
    ///
    /// The next such call has this number.
    pub fn reads(&self) -> u64 {
        self.lock().faults.reads()
    }

    /// Lets something happen at a call to come. There can be several faults, at most one at a call.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.inject(fault);
    }

    /// Lets the reading call with the number `read` (see [`SimDisk::reads`]) fail with an I/O error.
    pub fn fail_read(&self, read: u64) {
        self.lock().faults.fail_read(read);
    }

    /// Bounds the bytes of all files together; `None` lifts the bound. Those already there stay.
    ///
    /// A write that goes beyond it writes what there is room for, and fails as a full disk does where there is none.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// The disk after the process was killed or the power was cut, without faults, and with calls counted from 0.
    ///
    /// This disk is dead afterwards: every further call fails, also those of its open files.
    #[must_use = "this disk is dead afterwards"]
    pub fn restart(&self, cut: Cut) -> Self {
        let mut machine = self.lock();
        machine.faults.cut_power();
        let tree = cut::survivors(&machine.tree, cut, machine.seed);
        Self::of(tree, machine.seed.wrapping_add(1), machine.capacity)
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that changes something and happens as a whole or not at all.
    fn change<T>(&self, act: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.lock();
        match machine.faults.next_call() {
            Verdict::Go | Verdict::Short(_) => act(&mut machine.tree),
            Verdict::Fail(error) => Err(error),
            Verdict::Off => Err(power_is_off()),
            // What was asked for is done but not secured: the cut decides about it, as about all that is not synced.
            Verdict::Cut => act(&mut machine.tree).and(Err(power_is_off())),
        }
    }

    fn read<T>(&self, act: impl FnOnce(&mut Tree) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.lock();
        machine.faults.next_read()?;
        act(&mut machine.tree)
    }

    fn sync_node(&self, find: impl FnOnce(&Tree) -> io::Result<NodeId>) -> io::Result<()> {
        let mut guard = self.lock();
        let machine = &mut *guard;
        let verdict = machine.faults.next_sync();
        match verdict {
            Verdict::Go | Verdict::Short(_) => {
                let node = find(&machine.tree)?;
                machine.tree.sync(node);
                Ok(())
            }
            Verdict::Fail(error) => {
                if let Ok(node) = find(&machine.tree) {
                    machine.tree.sync_in_part(node, &mut machine.random);
                }
                Err(error)
            }
            Verdict::Cut | Verdict::Off => Err(power_is_off()),
        }
    }

    fn opened(&self, node: NodeId, is_writable: bool) -> Arc<dyn File> {
        Arc::new(SimFile { disk: self.clone(), node, is_writable })
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = self.lock();
        formatter
            .debug_struct("SimDisk")
            .field("seed", &machine.seed)
            .field("calls", &machine.faults.calls())
            .field("capacity", &machine.capacity)
            .finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.create_dir(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.read(|tree| tree.list(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        match mode {
            OpenMode::Read => Ok(self.opened(self.read(|tree| tree.open(path))?, false)),
            OpenMode::Write => Ok(self.opened(self.read(|tree| tree.open(path))?, true)),
            OpenMode::CreateNew => Ok(self.opened(self.change(|tree| tree.create_new(path))?, true)),
            OpenMode::Truncate => Ok(self.opened(self.change(|tree| tree.truncate(path))?, true)),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|tree| tree.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change(|tree| tree.remove_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_node(|tree| tree.find_dir(path))
    }
}

/// An open file of a [`SimDisk`].
struct SimFile {
    disk: SimDisk,
    node: NodeId,
    is_writable: bool,
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.is_writable { Ok(()) } else { Err(Errno::BADF.into()) }
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimFile").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.lock().tree.close(self.node);
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.read(|tree| Ok(tree.file(self.node)?.len()))
    }

    fn modified(&self) -> io::Result<SystemTime> {
        let seconds = self.disk.read(|tree| Ok(tree.file(self.node)?.modified()))?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.disk.read(|tree| Ok(tree.file(self.node)?.read(buffer, at)))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        self.check_writable()?;
        let mut guard = self.disk.lock();
        let machine = &mut *guard;
        let verdict = machine.faults.next_write();
        let asked = match verdict {
            Verdict::Fail(error) => return Err(error),
            Verdict::Off => return Err(power_is_off()),
            Verdict::Short(written) => bytes.get(..written).unwrap_or(bytes),
            Verdict::Go | Verdict::Cut => bytes,
        };
        let room = machine.tree.room(self.node, at, asked.len(), machine.capacity)?;
        let written = asked.get(..room).unwrap_or(asked);
        if written.is_empty() && !asked.is_empty() {
            return Err(Errno::NOSPC.into());
        }
        machine.tree.write(self.node, written, at)?;
        if matches!(verdict, Verdict::Cut) { Err(power_is_off()) } else { Ok(written.len()) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let capacity = self.disk.lock().capacity;
        self.disk.change(|tree| tree.set_len(self.node, bytes, capacity))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_node(|_| Ok(self.node))
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What every call on a disk without power gets.
fn power_is_off() -> io::Error {
    Errno::IO.into()
}
