//! What the server does when the system does not do what it is asked for, once: a disk that fails at one call, as
//! `strace` makes it. On the runtime and on a thread of a connection.
//!
//! After each: what was acknowledged is there, the error was answered and is in the log with its file, and a restart goes
//! on.

use std::fs;
use std::path::PathBuf;

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};
use tempfile::TempDir;

use crate::busy_peer;
use crate::floods::{expect_few_lines, lines_of};
use crate::trace::Trace;

const SYNCED: &[&str] = &["--flush-batches", "1"];
const SMALL: &[&str] = &["--partition-size", "65536", "--partitions", "1000"];

/// How often is tried until a call has failed: it is counted for each thread of the server.
const TRIES_MAX: usize = 200;

#[derive(Debug, Clone, Copy)]
enum Place {
    Runtime,
    Thread,
}

/// A server, and a `strace` to be put on it.
struct Faulty {
    server: TestServer,
    folder: TempDir,
    acknowledged: Vec<Vec<u8>>,
    /// What was answered with an error; it may be stored all the same.
    refused: Vec<String>,
}

impl Faulty {
    fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let server = TestServer::start(options);
        let mut faulty = Self { server, folder, acknowledged: Vec::new(), refused: Vec::new() };
        faulty.append(&mut faulty.server.peer());
        faulty
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// Puts `strace` on the server. Only calls on `path`, in the work directory, are touched.
    fn inject(&self, path: &str, injections: &[&str]) -> Trace {
        let path = self.server.workdir().join(path);
        let mut options = vec!["-P", path.to_str().expect("a path in UTF-8")];
        for injection in injections {
            options.extend(["-e", injection]);
        }
        Trace::start(&self.server, &options, &self.output())
    }

    /// How many calls have failed that were made to.
    fn injected(&self) -> usize {
        fs::read_to_string(self.output()).map_or(0, |trace| trace.matches("(INJECTED)").count())
    }

    fn peer(&self, place: Place) -> RawPeer {
        match place {
            Place::Runtime => self.server.peer(),
            Place::Thread => busy_peer(&self.server),
        }
    }

    /// Appends a batch and keeps what came of it.
    fn append(&mut self, peer: &mut RawPeer) {
        let number = self.acknowledged.len() + self.refused.len();
        let sent = batch("default", &[number.to_string().as_bytes(), &[b'x'; 5000]]);
        peer.send(&sent);
        let line = peer.read_line();
        match line.strip_prefix("ERR ") {
            Some(reason) => self.refused.push(reason.to_owned()),
            None => self.acknowledged.push(sent),
        }
    }

    fn append_until_injected(&mut self, peer: &mut RawPeer, count: usize) {
        for _ in 0..TRIES_MAX {
            self.append(peer);
            if self.injected() >= count {
                return;
            }
        }
        panic!("no call was made to fail:\n{}", fs::read_to_string(self.output()).unwrap_or_default());
    }

    /// Expects that what was acknowledged is there, in order; and beside it at most what was refused.
    fn expect_acknowledged(&self, others_max: usize) {
        let (start, stored) = self.server.peer().find("READ default 0 50000").batches();
        assert_eq!(start, 0);
        let mut rest = stored.iter();
        for (number, sent) in self.acknowledged.iter().enumerate() {
            assert!(rest.any(|batch| batch == sent), "batch {number} that was acknowledged is missing");
        }
        let others = stored.len() - self.acknowledged.len();
        assert!(others <= others_max, "{others} batches that nobody was told of");
    }

    /// Expects that the log says `what`, and that nothing is lost, also after a kill or an orderly end.
    fn check(mut self, what: &str, others_max: usize) {
        expect_few_lines(&self.server, what);
        self.expect_acknowledged(others_max);
        if self.acknowledged.len().is_multiple_of(2) {
            self.server.kill9();
        } else {
            // Where a sync has failed, the end is not in order, and says so.
            self.server.terminate();
        }
        self.server.restart();
        self.expect_acknowledged(others_max);
        let refused = self.refused.len();
        let mut peer = self.server.peer();
        for _ in 0..20 {
            self.append(&mut peer);
        }
        assert_eq!(self.refused.len(), refused, "after a restart everything is as before");
        self.expect_acknowledged(others_max);
        assert!(!self.server.stderr().contains("panicked"), "{}", self.server.stderr());
    }
}

fn on_both(check: impl Fn(Place)) {
    for place in [Place::Runtime, Place::Thread] {
        check(place);
    }
}

#[test]
fn write_that_fails_is_refused_and_the_next_one_goes_on() {
    // A file system that has become read-only, which the system allows nobody to do while a file is written.
    let errors = [
        ("EIO", "storage failed"),
        ("ENOSPC", "disk full"),
        ("EDQUOT", "disk full"),
        ("EROFS", "storage failed"),
    ];
    for (error, reason) in errors {
        on_both(|place| {
            for when in [1, 3] {
                let mut faulty = Faulty::start(&[]);
                let trace =
                    faulty.inject("default/0.log", &[&format!("inject=pwrite64:error={error}:when={when}")]);
                let mut peer = faulty.peer(place);
                faulty.append_until_injected(&mut peer, 1);
                assert_eq!(faulty.refused, [reason]);
                trace.stop();
                for _ in 0..5 {
                    faulty.append(&mut peer);
                }
                assert_eq!(faulty.refused, [reason], "only the one is refused");
                let path = faulty.server.workdir().join("default/0.log");
                faulty.check(&format!("cannot write to `{}`", path.display()), 0);
            }
        });
    }
}

#[test]
fn remains_that_cannot_be_cut_off_at_once_are_cut_off_later() {
    on_both(|place| {
        let mut faulty = Faulty::start(&[]);
        let injections = ["inject=pwrite64:error=EIO:when=2", "inject=ftruncate:error=EIO:when=1"];
        let trace = faulty.inject("default/0.log", &injections);
        let mut peer = faulty.peer(place);
        faulty.append_until_injected(&mut peer, 2);
        trace.stop();
        for _ in 0..5 {
            faulty.append(&mut peer);
        }
        assert!(faulty.refused.iter().all(|reason| reason == "storage failed"), "{:?}", faulty.refused);
        assert!(faulty.refused.len() <= 2, "{:?}", faulty.refused);
        faulty.check("batches are refused", 0);
    });
}

#[test]
fn sync_that_fails_ends_the_topic_until_a_restart() {
    on_both(|place| {
        for when in [1, 2] {
            let mut faulty = Faulty::start(SYNCED);
            let trace =
                faulty.inject("default/0.log", &[&format!("inject=fdatasync,fsync:error=EIO:when={when}")]);
            let mut peer = faulty.peer(place);
            faulty.append_until_injected(&mut peer, 1);
            trace.stop();
            for _ in 0..200 {
                faulty.append(&mut peer);
            }
            assert_eq!(faulty.refused, vec!["storage failed"; 201]);
            // Readers see what was acknowledged, and not the batch whose sync has failed.
            faulty.expect_acknowledged(0);
            assert_eq!(lines_of(&faulty.server, "takes no more batches"), 1, "{}", faulty.server.stderr());
            let path = faulty.server.workdir().join("default/0.log");
            faulty.check(&format!("cannot sync `{}`", path.display()), 1);
        }
    });
}

#[test]
fn directory_that_is_not_synced_ends_the_topic_until_a_restart() {
    on_both(|place| {
        let mut faulty = Faulty::start(&[SYNCED, SMALL].concat());
        let trace = faulty.inject("default", &["inject=fsync:error=EIO:when=1"]);
        let mut peer = faulty.peer(place);
        faulty.append_until_injected(&mut peer, 1);
        trace.stop();
        for _ in 0..200 {
            faulty.append(&mut peer);
        }
        // It can be the sync of an index: that batch is acknowledged.
        assert!(
            faulty.refused.len() >= 200 && faulty.refused.iter().all(|reason| reason == "storage failed")
        );
        faulty.check("batches", 1);
    });
}

#[test]
fn partition_that_cannot_be_created_is_created_later() {
    for (error, reason) in [("EIO", "storage failed"), ("ENOSPC", "disk full"), ("EMFILE", "storage failed")]
    {
        on_both(|place| {
            let mut faulty = Faulty::start(SMALL);
            let bytes = faulty.acknowledged.first().map_or(0, Vec::len);
            // The numbers in the messages have one digit, and later two.
            let start = bytes * 10 + (65_536 - bytes * 10) / (bytes + 1) * (bytes + 1);
            let name = format!("default/{start}.log");
            let trace = faulty.inject(&name, &[&format!("inject=openat:error={error}:when=1")]);
            let mut peer = faulty.peer(place);
            faulty.append_until_injected(&mut peer, 1);
            assert_eq!(faulty.refused, [reason]);
            trace.stop();
            for _ in 0..20 {
                faulty.append(&mut peer);
            }
            assert_eq!(faulty.refused, [reason], "only the one is refused");
            let path = faulty.server.workdir().join(&name);
            faulty.check(&format!("cannot create `{}`", path.display()), 0);
        });
    }
}

#[test]
fn index_that_is_not_renamed_is_written_later() {
    let mut faulty = Faulty::start(SMALL);
    let trace = faulty.inject("default/0.index.new", &["inject=rename,renameat,renameat2:error=EIO:when=1"]);
    let mut peer = faulty.peer(Place::Runtime);
    faulty.append_until_injected(&mut peer, 1);
    trace.stop();
    for _ in 0..20 {
        faulty.append(&mut peer);
    }
    assert!(faulty.refused.is_empty(), "{:?}", faulty.refused);
    let index = faulty.server.workdir().join("default/0.index");
    wait_until("the index is written with the next one", BOUND, || index.exists());
    faulty.check("an index was not written", 0);
}

#[test]
fn topic_that_cannot_be_created_comes_later_and_is_not_there_before() {
    let cases = [
        ("created", "inject=mkdir,mkdirat:error=ENOSPC:when=1", "disk full"),
        ("created/0.log", "inject=openat:error=ENOSPC:when=1", "disk full"),
        ("created/0.log", "inject=openat:error=EIO:when=1", "storage failed"),
        ("created", "inject=fsync:error=EIO:when=1", "storage failed"),
    ];
    for (path, injection, reason) in cases {
        let mut faulty = Faulty::start(SYNCED);
        let trace = faulty.inject(path, &[injection]);
        let sent = batch("created", &[b"hello"]);
        faulty.server.peer().ask(&sent, format!("ERR {reason}\r\n").as_bytes());
        assert_eq!(faulty.injected(), 1, "{path}, {injection}");
        trace.stop();
        expect_few_lines(&faulty.server, "a topic was not created");
        assert!(!faulty.server.workdir().join("created").exists(), "{path}, {injection}");
        faulty.server.restart();
        let topics = faulty.server.peer().lines("TOPICS");
        assert!(!topics.contains("created"), "{topics}");
        faulty.server.peer().ask(&sent, b"OK 0 1\r\n");
    }
}

#[test]
fn read_that_fails_is_answered_or_told_in_the_log() {
    on_both(|place| {
        let mut faulty = Faulty::start(&[]);
        let trace = faulty.inject("default/0.log", &["inject=pread64:error=EIO:when=1"]);
        let mut peer = faulty.peer(place);
        peer.ask(b"READ default 0 1\r\n", b"ERR storage failed\r\n");
        trace.stop();
        faulty.append(&mut peer);
        assert!(faulty.refused.is_empty(), "{:?}", faulty.refused);
        faulty.check("a read failed", 0);

        let faulty = Faulty::start(&[]);
        let trace = faulty.inject("default/0.log", &["inject=sendfile:error=EIO:when=1"]);
        let mut peer = faulty.peer(place);
        peer.ask(b"READ default 0 1\r\n", b"OK 0 1\r\n");
        peer.expect_closed();
        trace.stop();
        faulty.check("an answer broke off", 0);
    });
}
