//! An application under test: a process whose lines on standard output are taken as they come.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::KillOnDrop;
use crate::wait::{BOUND, wait_until};

/// A running application. Dropping it kills the process.
#[derive(Debug)]
pub struct App {
    process: KillOnDrop,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl App {
    /// Starts the binary at `path`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start<A: AsRef<OsStr>>(path: &str, arguments: &[A]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().map(KillOnDrop).expect("the application can be started");
        let stdout = process.0.stdout.take().expect("stdout is a pipe");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let reader = thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                for line in BufReader::new(stdout).lines() {
                    let line = line.expect("the application says lines of text");
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Self { process, lines, reader }
    }

    /// Waits until it has said a line that begins with `start`.
    ///
    /// # Panics
    /// When it has not within thrice [`BOUND`].
    pub fn wait_for(&self, start: &str) {
        wait_until(&format!("the application says `{start}`"), BOUND * 3, || {
            self.lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .any(|said| said.starts_with(start))
        });
    }

    /// Whether it has said a line that begins with `start`.
    pub fn has_said(&self, start: &str) -> bool {
        self.said().iter().any(|said| said.starts_with(start))
    }

    /// What it has said so far.
    pub fn said(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends `signal`.
    ///
    /// # Panics
    /// When it has ended and was waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("a child can be sent a signal");
    }

    /// Whether the process is there.
    ///
    /// # Panics
    /// When the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.process.0.try_wait().expect("a child can be waited for").is_none()
    }

    /// Kills it with SIGKILL, and returns what it has said.
    ///
    /// # Panics
    /// When it had ended by itself.
    pub fn kill9(mut self) -> Vec<String> {
        let ended = self.process.0.try_wait().expect("a child can be waited for");
        assert_eq!(ended, None, "the application ended by itself");
        self.process.0.kill().expect("a child can be killed");
        self.process.0.wait().expect("a child can be waited for");
        self.all_lines()
    }

    /// Waits until it has ended by itself; returns how, and what it has said.
    ///
    /// # Panics
    /// When it has not within `bound`.
    pub fn finish(mut self, bound: Duration) -> (ExitStatus, Vec<String>) {
        let mut status = None;
        wait_until("the application ends", bound, || {
            status = self.process.0.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        (status.expect("the process has ended"), self.all_lines())
    }

    fn all_lines(self) -> Vec<String> {
        self.reader.join().expect("what it says can be read");
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
