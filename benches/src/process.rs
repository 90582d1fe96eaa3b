//! The processes that are measured: logd and the floor, each in a fresh directory.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A partition so large that no run fills it: what follows a full partition, syncing and removing it, is not measured here.
const PARTITION_BYTES: &str = "64GiB";

/// A server that is measured. It is killed when this is dropped, and its directory is removed.
#[derive(Debug)]
pub struct Side {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// The time of processors, its own and the kernel's for it.
    pub cpu: Duration,
    /// The most memory that was resident, in KiB.
    pub peak_kib: u64,
    /// What is resident, in KiB.
    pub resident_kib: u64,
}

impl Side {
    /// Starts logd. Its binary must lie beside this program's.
    ///
    /// # Errors
    /// The binary is not there, or does not start.
    pub fn logd(options: &[&str]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(beside("logd")?);
        command.args(["--host", "127.0.0.1:0", "--partition-size", PARTITION_BYTES, "--workdir"]);
        command.arg(dir.path().join("work")).args(options);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let errors = child.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(errors).lines();
        let address = loop {
            let line = lines.next().ok_or_else(|| io::Error::other("logd has not started"))??;
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse().map_err(io::Error::other)?;
            }
        };
        // So that it can go on telling.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, address, _dir: dir })
    }

    /// Starts the floor.
    ///
    /// # Errors
    /// As [`Side::logd`].
    pub fn floor(options: &[&str]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = Command::new(beside("floor")?);
        command.arg(dir.path()).args(options);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { child, address, _dir: dir })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has used until now.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn usage(&self) -> io::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which can have any letter: the state, and ten fields before the two times.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
        let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let cpu = Duration::from_secs(ticks)
            / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Usage { cpu, peak_kib: kib("VmHWM:"), resident_kib: kib("VmRSS:") })
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn stop(mut self) -> io::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        self.child.wait().map(drop)
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program of this build.
fn beside(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(OsStr::new(name));
    if path.is_file() {
        return Ok(path);
    }
    let text = format!(
        "`{}` is not there: build it with `cargo build --release -p logd-server -p logd-benches`",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}
