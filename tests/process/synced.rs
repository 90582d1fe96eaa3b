//! What the server asks of the system before it answers, as `strace` (Debian: `strace`) sees it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::busy_peer;

/// `strace` on a running server, with all its threads, also those to come.
struct Trace {
    child: Child,
}

impl Trace {
    fn start(server: &TestServer, output: &Path) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-s", "16", "-e", "trace=pwrite64,fsync,fdatasync,sendto", "-o"])
            .arg(output)
            .args(["-p", &server.pid().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed by tests/run");
        let trace = Self { child };
        let status = format!("/proc/{}/status", server.pid());
        wait_until("strace has the server", BOUND, || {
            let status = fs::read_to_string(&status).expect("the server runs");
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            tracer.is_some_and(|tracer| tracer.trim() == trace.child.id().to_string())
        });
        // It has every thread when it sees what each does.
        wait_until("strace sees the server", BOUND, || {
            server.peer().ask(b"PING\r\n", b"OK\r\n");
            fs::read_to_string(output).is_ok_and(|seen| seen.matches("\"OK\\r\\n\"").count() > 8)
        });
        trace
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("strace runs");
        self.child.wait().expect("a child can be waited for");
    }
}

/// Whether the lines show, so often, a batch written, synced to the end, and only then answered.
fn check(trace: &str, batches: usize) {
    let mut done = 0;
    let mut state = "answered";
    for line in trace.lines() {
        let is_sync = line.contains("fdatasync") || line.contains("fsync");
        if line.contains("pwrite64(") && line.contains("\"BATCH ") {
            assert_eq!(state, "answered", "batch {done}:\n{trace}");
            state = "written";
        } else if is_sync && line.ends_with("= 0") && state == "written" {
            state = "synced";
        } else if line.contains("sendto(") && line.contains(" 1\\r\\n\"") {
            assert_eq!(state, "synced", "batch {done} is answered:\n{trace}");
            state = "answered";
            done += 1;
        }
    }
    assert_eq!((state, done), ("answered", batches), "{trace}");
}

fn append(peer: &mut RawPeer, count: usize) {
    for _ in 0..count {
        peer.append(&batch("default", &[b"hello"]));
    }
}

#[test]
fn batch_is_synced_before_it_is_answered_on_the_runtime_and_on_a_thread() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let output = folder.path().join("trace");
    let server = TestServer::start(&["--flush-batches", "1"]);
    append(&mut server.peer(), 1);
    let trace = Trace::start(&server, &output);
    append(&mut server.peer(), 3);
    append(&mut busy_peer(&server), 20);
    trace.stop();
    check(&fs::read_to_string(&output).expect("strace has written it"), 23);
}

#[test]
fn batch_in_the_spool_is_synced_before_it_has_its_name_and_its_name_before_the_end() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let (output, spool) = (folder.path().join("trace"), folder.path().join("spool"));
    // Nobody listens there: what the program wrote goes to the spool when it ends.
    let status = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"])
        .arg(&output)
        .arg(env!("CARGO_BIN_EXE_writer-app"))
        .args(["write", "127.0.0.1:1"])
        .arg(&spool)
        .arg("20")
        .stdout(Stdio::null())
        .status()
        .expect("strace is installed by tests/run");
    assert!(status.success(), "{status}");
    let trace = fs::read_to_string(&output).expect("strace has written it");
    let line_of = |is_it: &dyn Fn(&str) -> bool| trace.lines().position(is_it);
    let synced = line_of(&|line| line.contains("sync(") && line.contains(".batch.new>"));
    let named = line_of(&|line| line.contains("rename") && line.contains(".batch\""));
    assert!(synced.is_some() && synced < named, "{trace}");
    let folder = format!("<{}>", spool.display());
    let behind = trace.lines().skip(named.unwrap_or_default());
    let is_secured = behind.into_iter().any(|line| line.contains("sync(") && line.contains(&folder));
    assert!(is_secured, "{trace}");
}
