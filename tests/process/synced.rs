//! What the server asks of the system before it answers, as `strace` (Debian: `strace`) sees it.

use std::fs;
use std::process::{Command, Stdio};

use logd_tests::{RawPeer, TestServer, batch};

use crate::busy_peer;
use crate::trace::Trace;

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
    let trace = Trace::start(&server, &["-s", "16", "-e", "trace=pwrite64,fsync,fdatasync,sendto"], &output);
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
