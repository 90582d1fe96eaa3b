//! The processes that are measured: logd and the floor, each in a fresh directory.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A server that is measured. It is killed when this is dropped, and its directory is removed.
#[derive(Debug)]
pub(crate) struct Side {
    child: Started,
    address: SocketAddr,
    dir: TempDir,
    /// From the start of the process to when it listens.
    start: Duration,
}

/// How a process is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is told to, and ends in order.
    Orderly,
    /// It is killed: nothing is finished.
    Killed,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Usage {
    /// The time of processors, its own and the kernel's for it; ten milliseconds are told apart.
    pub(crate) cpu: Duration,
    /// The most memory that was resident, in MiB.
    pub(crate) peak_mib: f64,
    /// What is resident, in MiB.
    pub(crate) resident_mib: f64,
}

impl Side {
    /// Starts logd. Its binary must lie beside this program's.
    pub(crate) fn logd(options: &[&str]) -> io::Result<Self> {
        Self::logd_in(tempfile::tempdir()?, options)
    }

    /// Starts the floor.
    pub(crate) fn floor(options: &[&str]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let begin = Instant::now();
        let mut child = Command::new(beside("floor")?)
            .arg(dir.path())
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .map(Started)?;
        let output = child.0.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(child.side(address, dir, begin.elapsed()))
    }

    /// Ends logd, and starts it anew in its directory.
    pub(crate) fn restarted(mut self, end: End, options: &[&str]) -> io::Result<Self> {
        self.end(end)?;
        let fresh = tempfile::tempdir()?;
        let dir = std::mem::replace(&mut self.dir, fresh);
        Self::logd_in(dir, options)
    }

    fn logd_in(dir: TempDir, options: &[&str]) -> io::Result<Self> {
        let begin = Instant::now();
        let mut command = Command::new(beside("logd")?);
        // What the environment says about logd is not meant for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LOGD_") {
                command.env_remove(name);
            }
        }
        command.args(["--host", "127.0.0.1:0", "--workdir"]).arg(dir.path().join("work")).args(options);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map(Started)?;
        let errors = child.0.stderr.take().ok_or_else(|| io::Error::other("no standard error"))?;
        let mut lines = BufReader::new(errors).lines();
        let mut said = String::new();
        let address = loop {
            let Some(line) = lines.next() else {
                return Err(io::Error::other(format!("logd has not started; it said: {said}")));
            };
            let line = line?;
            if let Some((_, address)) = line.split_once("listening on ") {
                break address.trim().parse().map_err(io::Error::other)?;
            }
            said += &line;
        };
        let start = begin.elapsed();
        // So that it can go on telling.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(child.side(address, dir, start))
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// From the start of the process to when it said that it listens.
    pub(crate) const fn start(&self) -> Duration {
        self.start
    }

    /// What it has used until now.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.0.id()))?;
        // Behind the name, which can have any letter: the state, and ten fields before the two times.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11);
        let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let ticks_per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.0.id()))?;
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0)
                .ok_or_else(|| io::Error::other(format!("the process has no `{name}`")))
        };
        Ok(Usage {
            cpu: Duration::from_secs(ticks) / ticks_per_second,
            peak_mib: mib("VmHWM:")?,
            resident_mib: mib("VmRSS:")?,
        })
    }

    fn end(&mut self, end: End) -> io::Result<()> {
        match end {
            End::Orderly => kill_process(Pid::from_child(&self.child.0), Signal::TERM)?,
            End::Killed => self.child.0.kill()?,
        }
        self.child.0.wait().map(drop)
    }
}

/// A process that is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Started(pub(crate) Child);

impl Started {
    fn side(self, address: SocketAddr, dir: TempDir, start: Duration) -> Side {
        Side { child: self, address, dir, start }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of a program of this build.
fn beside(name: &str) -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(OsStr::new(name));
    if path.is_file() {
        return Ok(path);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, missing(&path)))
}

fn missing(path: &Path) -> String {
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    format!(
        "`{}` is not there: build it with `cargo build{release} -p logd-server -p logd-benches`",
        path.display()
    )
}
