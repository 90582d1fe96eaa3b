//! A clock that is set back and forth under a running server, by `libfaketime` (Debian: `faketime`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use logd_tests::{RawPeer, TestServer, batch, not_run};
use tempfile::TempDir;

const BATCHES: usize = 12;
const HOUR: i64 = 3600;

/// How the clock is set, in seconds from the right time, and how the server is started again behind what is written then.
const SETTINGS: [(i64, Restart); 6] = [
    (0, Restart::No),
    (-HOUR, Restart::Kill),
    (0, Restart::No),
    (HOUR, Restart::Orderly),
    (-60, Restart::Kill),
    (2 * HOUR, Restart::No),
];

#[derive(Debug, Clone, Copy)]
enum Restart {
    No,
    Orderly,
    Kill,
}

/// A batch, and between which times it was appended: by the server's clock, and by the latest that it has shown.
struct Sent {
    bytes: Vec<u8>,
    offset: u64,
    from: u64,
    to: u64,
}

/// The clock of a server.
struct Clock {
    folder: TempDir,
    seconds: i64,
}

impl Clock {
    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }

    /// Sets it, in one step, for every later look at it.
    fn set(&mut self, seconds: i64) {
        self.seconds = seconds;
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).expect("a file can be written");
        fs::rename(new, self.file()).expect("a file can be renamed");
    }

    fn millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let now = i64::try_from(since.as_millis()).expect("the time of this century");
        u64::try_from(now + 1000 * self.seconds).expect("it is after 1970")
    }
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let place = Path::new("faketime/libfaketimeMT.so.1");
    folders.map(|folder| folder.join(place)).find(|path| path.exists())
}

fn at(peer: &mut RawPeer, time: u64, word: &str) -> u64 {
    peer.send(format!("AT default {time}{word}\r\n").as_bytes());
    let line = peer.read_line();
    let offset = line.strip_prefix("OK ").and_then(|rest| rest.split(' ').next());
    offset.and_then(|offset| offset.parse().ok()).unwrap_or_else(|| panic!("`AT` was answered `{line}`"))
}

#[test]
fn clock_that_is_set_loses_no_batch_and_bounds_hold() {
    let Some(library) = library() else {
        return not_run("a clock that is set back: there is no libfaketime");
    };
    let mut clock = Clock { folder: tempfile::tempdir().expect("a directory can be made"), seconds: 0 };
    clock.set(0);
    let settings = [
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.file().display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        // The clock that time-outs are measured by is not set, and files are as old as they are.
        "DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    let wrapper: Vec<&str> = ["env"].into_iter().chain(settings.iter().map(String::as_str)).collect();
    let options = ["--partition-size", "262144", "--partitions", "1000"];
    let mut server = TestServer::start_under(&wrapper, &options);
    let mut sent: Vec<Sent> = Vec::new();
    for (seconds, restart) in SETTINGS {
        clock.set(seconds);
        let mut peer = server.peer();
        for number in 0..BATCHES {
            let bytes = batch("default", &[format!("{seconds} {number}").as_bytes(), &vec![b'x'; 30_000]]);
            let from = clock.millis();
            let offset = peer.append(&bytes);
            // A time is cut to its millisecond. Who asks for one that the clock shows again finds what came the first time.
            let latest = sent.last().map_or(0, |last| last.to);
            sent.push(Sent { bytes, offset, from, to: latest.max(clock.millis() + 1) });
        }
        expect_all(&server, &sent);
        match restart {
            Restart::No => {}
            Restart::Orderly => assert_eq!(server.terminate().status.code(), Some(0), "{}", server.stderr()),
            Restart::Kill => server.kill9(),
        }
        if !matches!(restart, Restart::No) {
            server.restart();
            expect_all(&server, &sent);
        }
    }
    let said = server.stderr();
    assert!(!said.contains("panicked"), "it said:\n{said}");
    let times: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(times.windows(2).any(|pair| pair[0] > pair[1]), "the server's clock was never set back:\n{said}");
}

/// Expects that every batch is there, and that who asks for its time misses it neither from the one side nor the other.
fn expect_all(server: &TestServer, sent: &[Sent]) {
    let mut peer = server.peer();
    let (start, batches) = peer.find("READ default 0 50000").batches();
    assert_eq!(start, 0);
    assert!(batches.iter().eq(sent.iter().map(|sent| &sent.bytes)), "the batches differ");
    for Sent { offset, from, to, .. } in sent {
        let (lower, upper) = (at(&mut peer, *from, ""), at(&mut peer, *to, " bound=upper"));
        assert!(lower <= *offset, "the batch at {offset} is missed from {lower} on");
        assert!(upper > *offset, "the batch at {offset} is cut at {upper}");
    }
}
