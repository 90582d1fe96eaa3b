//! `strace` (Debian: `strace`) on a running server: what it asks of the system, and what the system does not do for it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use logd_tests::{BOUND, TestServer, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// `strace` on a server with all its threads, also those to come, until it is stopped or dropped.
pub(crate) struct Trace {
    child: Child,
}

impl Trace {
    /// Returns when it has every thread that there is.
    pub(crate) fn start(server: &TestServer, options: &[&str], output: &Path) -> Self {
        let child = Command::new("strace")
            .arg("-f")
            .args(options)
            .arg("-o")
            .arg(output)
            .args(["-p", &server.pid().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed by tests/run");
        let trace = Self { child };
        let tracer = format!("TracerPid:\t{}\n", trace.child.id());
        wait_until("strace has the server", BOUND, || {
            let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
            let statuses = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
            statuses.into_iter().all(|status| status.contains(&tracer))
        });
        trace
    }

    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // It lets the server go on. Where the server has ended, so has it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let _ = self.child.wait();
    }
}
