//! What happens to which call: the faults that were injected, and the counters that they go by.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::io::Errno;

use super::power_is_off;

/// Something that happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The number of the call, as [`SimDisk::calls`](super::SimDisk::calls) counts them: from 0.
    pub call: u64,
    /// What happens at it.
    pub kind: FaultKind,
}

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The call fails and does nothing, with an error of this kind; [`io::ErrorKind::Other`] stands for the operating
    /// system's I/O error. A sync fails as with [`FaultKind::FailSync`].
    Fail(io::ErrorKind),
    /// The disk is full for this call. With `written` above 0 a write takes so many bytes, at most, and the call
    /// after it finds the disk full.
    DiskFull {
        /// How many bytes a write takes.
        written: usize,
    },
    /// A write takes only so many bytes and says so. A write without bytes is an end to most callers, so at least 1
    /// is taken. Nothing happens to other calls.
    ShortWrite {
        /// How many bytes are taken.
        written: usize,
    },
    /// The first `sync` or `sync_dir` from this call on fails with an I/O error. Of what it was to secure the seed
    /// decides which part is on the disk; the rest never will be, while running processes go on seeing it.
    FailSync,
    /// The power goes: this call and all later ones fail. What the call was to change is unsynced, like all before it.
    PowerCut,
}

/// What becomes of one call.
pub(super) enum Verdict {
    /// It happens.
    Go,
    /// It fails and does nothing.
    Fail(io::Error),
    /// If it is a write, it takes at most so many bytes.
    Short(usize),
    /// It happens, but the power goes before it returns.
    Cut,
    /// There is no power.
    Off,
}

/// The faults to come, and the calls so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: u64,
    reads: u64,
    at_call: BTreeMap<u64, FaultKind>,
    at_sync: BTreeSet<u64>,
    at_read: BTreeSet<u64>,
    is_off: bool,
}

impl Faults {
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads
    }

    pub(super) fn inject(&mut self, fault: Fault) {
        if fault.kind == FaultKind::FailSync {
            self.at_sync.insert(fault.call);
        } else {
            self.at_call.insert(fault.call, fault.kind);
        }
    }

    pub(super) fn fail_read(&mut self, read: u64) {
        self.at_read.insert(read);
    }

    pub(super) fn cut_power(&mut self) {
        self.is_off = true;
    }

    pub(super) fn next_read(&mut self) -> io::Result<()> {
        let read = self.reads;
        self.reads += 1;
        if self.is_off {
            return Err(power_is_off());
        }
        if self.at_read.remove(&read) { Err(Errno::IO.into()) } else { Ok(()) }
    }

    /// The verdict on a call that is neither a write nor a sync.
    pub(super) fn next_call(&mut self) -> Verdict {
        self.next(IsWrite::No)
    }

    pub(super) fn next_write(&mut self) -> Verdict {
        self.next(IsWrite::Yes)
    }

    pub(super) fn next_sync(&mut self) -> Verdict {
        let call = self.calls;
        let verdict = self.next(IsWrite::No);
        let due = self.at_sync.first().copied().filter(|first| *first <= call);
        match (due, verdict) {
            (Some(due), Verdict::Go | Verdict::Short(_)) => {
                self.at_sync.remove(&due);
                Verdict::Fail(Errno::IO.into())
            }
            (_, verdict) => verdict,
        }
    }

    fn next(&mut self, is_write: IsWrite) -> Verdict {
        let call = self.calls;
        self.calls += 1;
        if self.is_off {
            return Verdict::Off;
        }
        match self.at_call.remove(&call) {
            None | Some(FaultKind::FailSync) => Verdict::Go,
            Some(FaultKind::Fail(io::ErrorKind::Other)) => Verdict::Fail(Errno::IO.into()),
            Some(FaultKind::Fail(kind)) => Verdict::Fail(kind.into()),
            Some(FaultKind::DiskFull { written }) if written > 0 && is_write == IsWrite::Yes => {
                self.at_call.insert(self.calls, FaultKind::DiskFull { written: 0 });
                Verdict::Short(written)
            }
            Some(FaultKind::DiskFull { .. }) => Verdict::Fail(Errno::NOSPC.into()),
            Some(FaultKind::ShortWrite { written }) => Verdict::Short(written.max(1)),
            Some(FaultKind::PowerCut) => {
                self.is_off = true;
                Verdict::Cut
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IsWrite {
    Yes,
    No,
}
