//! A server that is a real process: the binary `logd`, on a free port, in a directory of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary::{KillOnDrop, command_under};
use crate::peer::RawPeer;
use crate::wait::{BOUND, wait_until};

/// How long a server can take to start. A start is a matter of milliseconds; a busy machine makes it longer.
const START_BOUND: Duration = Duration::from_secs(30);

/// A running `logd`. Dropping it kills the process.
#[derive(Debug)]
pub struct TestServer {
    process: KillOnDrop,
    address: SocketAddr,
    stderr: Arc<Mutex<String>>,
    wrapper: Vec<String>,
    options: Vec<String>,
    workdir: PathBuf,
    /// Kept so that it is removed with the server, unless the test brought its own.
    _folder: Option<TempDir>,
}

/// How a server ended.
#[derive(Debug)]
pub struct Stopped {
    /// How the process ended.
    pub status: ExitStatus,
    /// From the signal to the end.
    pub time: Duration,
}

/// Has the system choose a port.
const FREE_PORT: &str = "127.0.0.1:0";

impl TestServer {
    /// Starts a server in a new directory.
    ///
    /// # Panics
    /// When it does not say that it listens, with what it said instead.
    pub fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let workdir = folder.path().join("logs");
        Self::spawn(workdir, Some(folder), &[], options)
    }

    /// Starts a server in a new directory by a program that becomes the server, as `env` and `prlimit` do. So it is
    /// started again, too.
    ///
    /// # Panics
    /// As [`TestServer::start`].
    pub fn start_under(wrapper: &[&str], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let workdir = folder.path().join("logs");
        Self::spawn(workdir, Some(folder), wrapper, options)
    }

    /// Starts a server in `workdir`, which is left alone when the server is dropped.
    ///
    /// # Panics
    /// As [`TestServer::start`].
    pub fn start_in(workdir: &Path, options: &[&str]) -> Self {
        Self::spawn(workdir.to_path_buf(), None, &[], options)
    }

    fn spawn(workdir: PathBuf, folder: Option<TempDir>, wrapper: &[&str], options: &[&str]) -> Self {
        let [wrapper, options]: [Vec<String>; 2] =
            [wrapper, options].map(|words| words.iter().map(ToString::to_string).collect());
        let stderr = Arc::default();
        let (process, address) = launch(&wrapper, FREE_PORT, &workdir, &options, &stderr);
        Self { process, address, stderr, wrapper, options, workdir, _folder: folder }
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Its working directory.
    pub fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// What it has said on standard error so far, over all its starts.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new connection.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn peer(&self) -> RawPeer {
        RawPeer::connect(self.address)
    }

    /// Kills the process as a power cut would: nothing is finished.
    ///
    /// # Panics
    /// When it has ended already.
    pub fn kill9(&mut self) {
        assert!(self.is_running(), "the server had ended by itself:\n{}", self.stderr());
        self.process.0.kill().expect("a child can be killed");
        self.process.0.wait().expect("a child can be waited for");
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When it has not ended after thrice [`BOUND`].
    pub fn terminate(&mut self) -> Stopped {
        self.stop(Signal::TERM)
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Panics
    /// When it has not ended after thrice [`BOUND`].
    pub fn stop(&mut self, signal: Signal) -> Stopped {
        let start = Instant::now();
        self.signal(signal);
        let status = self.wait_for_end();
        Stopped { status, time: start.elapsed() }
    }

    /// Sends `signal`.
    ///
    /// # Panics
    /// When the process has ended already.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("a child can be sent a signal");
    }

    /// Waits until the process has ended.
    ///
    /// # Panics
    /// When it has not ended after thrice [`BOUND`].
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", BOUND * 3, || {
            status = self.process.0.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("the process has ended")
    }

    /// Whether the process is there.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.process.0.try_wait().expect("a child can be waited for").is_none()
    }

    /// Starts the server again, in the same directory with the same options, on another port. If it still runs it is
    /// killed.
    ///
    /// # Panics
    /// As [`TestServer::start`].
    pub fn restart(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        (self.process, self.address) =
            launch(&self.wrapper, FREE_PORT, &self.workdir, &self.options, &self.stderr);
    }

    /// As [`TestServer::restart`], on the same port, so that clients find it again.
    ///
    /// # Panics
    /// As [`TestServer::start`]; also when somebody else has taken the port meanwhile.
    pub fn restart_in_place(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
        let host = self.host();
        (self.process, self.address) =
            launch(&self.wrapper, &host, &self.workdir, &self.options, &self.stderr);
    }

    /// The physical memory that the process has now, in bytes.
    ///
    /// # Panics
    /// When the process is not there.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("a running process has a status");
        let kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix(" kB"))
            .and_then(|value| value.parse().ok())
            .expect("a status has the line `VmRSS:`");
        kib * 1024
    }

    /// How many files and sockets the process has open.
    ///
    /// # Panics
    /// When the process is not there.
    pub fn open_files(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(path).expect("a running process has descriptors").count()
    }
}

/// Starts the process and waits for the line that names its address.
fn launch(
    wrapper: &[String],
    host: &str,
    workdir: &Path,
    options: &[String],
    stderr: &Arc<Mutex<String>>,
) -> (KillOnDrop, SocketAddr) {
    let mut process = command_under(wrapper, "logd")
        .args(["--host", host, "--workdir"])
        .arg(workdir)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(KillOnDrop)
        .expect("`logd` can be started");
    let address = listen_to(&mut process.0, stderr)
        .recv_timeout(START_BOUND)
        .unwrap_or_else(|_| panic!("`logd` does not listen; it said:\n{}", text_of(stderr)));
    (process, address)
}

/// Keeps what the process says, and hands out the address it names. The other end is gone when the process ends first.
fn listen_to(process: &mut Child, stderr: &Arc<Mutex<String>>) -> mpsc::Receiver<SocketAddr> {
    let pipe = process.stderr.take().expect("stderr is a pipe");
    let (sender, receiver) = mpsc::channel();
    let stderr = Arc::clone(stderr);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
            let text = String::from_utf8_lossy(&line).into_owned();
            stderr.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            if let Some(address) = address_in(&text) {
                // The test has what it waits for after the first.
                let _ = sender.send(address);
            }
            line.clear();
        }
    });
    receiver
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find(|letter: char| !(letter.is_ascii_hexdigit() || ".:[]".contains(letter)));
    rest.get(..end.unwrap_or(rest.len()))?.parse().ok()
}

fn text_of(stderr: &Mutex<String>) -> String {
    stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
