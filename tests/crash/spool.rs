//! A spool under an application, and each call to the file system that it makes for it fails once, or is where the
//! application is killed: while the server is away, and while what is in the spool is sent. What the application was told
//! holds: what is in the spool comes to the topic, once and in order, and what failed does not.
//!
//! `strace` (Debian: `strace`) lets the calls fail, and counts those that name a file of the spool.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use logd_tests::{App, BOUND, Found, TestServer};

/// The calls that a spool makes, and how each may fail.
const CALLS: [(&str, &[&str]); 9] = [
    ("mkdir", &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("openat", &["error=EIO", "error=ENOSPC", "error=EMFILE", "signal=KILL"]),
    ("write", &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("read", &["error=EIO", "signal=KILL"]),
    ("fsync", &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("rename", &["error=EIO", "error=ENOSPC", "signal=KILL"]),
    ("unlink", &["error=EIO", "signal=KILL"]),
    ("statx", &["error=EIO", "signal=KILL"]),
    ("getdents64", &["error=EIO", "signal=KILL"]),
];
/// Each is a batch.
const MESSAGES: u64 = 4;
/// Written while the spool is sent.
const LATER: u64 = 2;
/// The batch that empties the spool in the end.
const LAST: u64 = 1000;
/// Where nobody listens.
const AWAY: &str = "127.0.0.1:1";
/// Calls of a name after so many are the same again: trying to reach the server.
const CALLS_MAX: usize = 16;

/// What an application was told of its messages, by number.
#[derive(Debug, Default)]
struct Told {
    letters: BTreeMap<u64, char>,
    was_killed: bool,
}

impl Told {
    fn numbers(&self, letter: char) -> impl Iterator<Item = u64> {
        self.letters.iter().filter(move |(_, told)| **told == letter).map(|(number, _)| *number)
    }
}

/// Runs the application; with a fault, under `strace`, whose lines come too.
fn settle(host: &str, spool: &Path, first: u64, count: u64, fault: Option<&str>) -> (Told, String) {
    let log = spool.with_extension("trace");
    let spool_text = spool.to_str().expect("the path is text");
    let (first_text, count_text) = (first.to_string(), count.to_string());
    let app = [env!("CARGO_BIN_EXE_writer-app"), "settle", host, spool_text, &first_text, &count_text];
    let app = match fault {
        None => App::start(app[0], &app[1..]),
        Some(fault) => {
            let names = CALLS.map(|(name, _)| name).join(",");
            let mut arguments: Vec<String> =
                ["-f", "-qq", "-e", "signal=none", "-e"].map(String::from).into();
            arguments.push(format!("trace={names}"));
            if !fault.is_empty() {
                arguments.extend(["-e".into(), format!("inject={fault}")]);
            }
            for path in paths(spool_text) {
                arguments.extend(["-P".into(), path]);
            }
            arguments.extend(["-o".into(), log.display().to_string()]);
            App::start("strace", &[&arguments[..], &app.map(String::from)].concat())
        }
    };
    let (status, lines) = app.finish(BOUND);
    let was_killed = !status.success();
    let is_expected = fault.is_some_and(|fault| fault.contains("KILL"));
    assert!(!was_killed || is_expected, "{fault:?}: {status}");
    let mut told = Told { was_killed, ..Told::default() };
    for line in &lines {
        let mut words = line.split(' ');
        let (letter, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        match letter {
            "O" => {
                // It could not begin: nothing was written.
                assert_eq!((lines.len(), fault.is_some()), (1, true), "{lines:?}");
                return (told, String::new());
            }
            "D" | "S" | "X" | "F" => {
                let number = number.parse().expect("a number");
                let before = told.letters.insert(number, letter.chars().next().unwrap_or_default());
                assert_eq!(before, None, "{number} was told twice: {lines:?}");
            }
            _ => panic!("the application said `{line}`"),
        }
    }
    if !was_killed {
        let numbers: Vec<u64> = told.letters.keys().copied().collect();
        assert_eq!(numbers, (first..first + count).collect::<Vec<_>>(), "{fault:?}: {lines:?}");
    }
    (told, fault.map_or_else(String::new, |_| fs::read_to_string(&log).unwrap_or_default()))
}

/// The directory, that above it, and every file that it may get.
fn paths(spool: &str) -> Vec<String> {
    let above = spool.rsplit_once('/').map_or("/", |(above, _)| above);
    let mut paths = vec![spool.to_owned(), above.to_owned(), format!("{spool}/.lock")];
    for run in 1..=2 {
        for number in 0..=MESSAGES + LATER {
            for end in ["", ".new", ".damaged", ".unknown", ".refused"] {
                paths.push(format!("{spool}/{run:020}-{number:020}.batch{end}"));
            }
        }
    }
    paths
}

/// The numbers that the topic has from the offset on, in its order.
fn topic_from(server: &TestServer, offset: u64) -> Vec<u64> {
    match server.peer().find(&format!("READ default {offset} 1000")) {
        Found::Nothing(reason) => panic!("READ was answered `ERR {reason}`"),
        Found::Batches { batches, .. } => {
            let number = |batch: &Vec<u8>| {
                let text = String::from_utf8_lossy(batch);
                let message = text.split("\r\n").nth(2).expect("a batch has a message");
                message.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
            };
            batches.iter().map(number).collect()
        }
    }
}

fn head(server: &TestServer) -> u64 {
    let line = {
        let mut peer = server.peer();
        peer.send(b"HEAD default\r\n");
        peer.read_line()
    };
    line.split(' ').nth(1).and_then(|offset| offset.parse().ok()).expect("HEAD has an offset")
}

/// How often each call was made.
fn counts(trace: &str) -> BTreeMap<&'static str, usize> {
    let count = |name: &str| trace.lines().filter(|line| line.contains(&format!(" {name}("))).count();
    CALLS.map(|(name, _)| (name, count(name).min(CALLS_MAX))).into()
}

/// Every fault of every call, as `strace` takes it.
fn faults(counts: &BTreeMap<&'static str, usize>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, ways) in CALLS {
        for (call, way) in (1..=counts[name]).flat_map(|call| ways.iter().map(move |way| (call, way))) {
            faults.push(format!("{name}:{way}:when={call}"));
        }
    }
    faults
}

/// Empties the spool into the topic, and checks what it has from the offset on: all of `told` that is in the spool or was
/// delivered, once and in order; and nothing else but what nobody was told of, because the application was killed.
fn check(server: &TestServer, spool: &Path, offset: u64, told: &[&Told], what: &str) {
    let (last, _) = settle(&server.host(), spool, LAST, 1, None);
    assert_eq!(last.numbers('D').collect::<Vec<_>>(), [LAST], "{what}");
    let topic = topic_from(server, offset);
    assert!(topic.is_sorted_by(|one, other| one < other), "{what}: {topic:?}");
    for told in told {
        for number in told.numbers('S').chain(told.numbers('D')) {
            assert!(topic.contains(&number), "{what}: {number} is missing from {topic:?}, told {told:?}");
        }
        for number in told.numbers('F').chain(told.numbers('X')) {
            assert!(!topic.contains(&number), "{what}: {number} is in {topic:?}, told {told:?}");
        }
    }
    for number in topic.iter().filter(|number| **number != LAST) {
        let is_told = told.iter().any(|told| told.letters.contains_key(number));
        assert!(
            is_told || told.iter().any(|told| told.was_killed),
            "{what}: {number} in {topic:?}: {told:?}"
        );
    }
    let left: Vec<_> = fs::read_dir(spool)
        .expect("the spool is there")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name != ".lock")
        .collect();
    assert!(left.is_empty(), "{what}: {left:?} is left in the spool, told {told:?}");
}

#[test]
fn any_call_of_the_spool_can_fail_once_while_the_server_is_away() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let server = TestServer::start(&[]);
    let (_, trace) = settle(AWAY, &folder.path().join("counted"), 0, MESSAGES, Some(""));
    let faults = faults(&counts(&trace));
    assert!(faults.len() > 60, "{faults:?}: the spool was not used\n{trace}");
    let mut failed = 0;
    for (number, fault) in faults.iter().enumerate() {
        let spool = folder.path().join(number.to_string());
        let offset = head(&server);
        let (told, _) = settle(AWAY, &spool, 0, MESSAGES, Some(fault));
        failed += told.numbers('F').count() + told.numbers('X').count();
        check(&server, &spool, offset, &[&told], fault);
    }
    println!("{} faults of a spool that is filled; {failed} messages were told as failed", faults.len());
}

#[test]
fn any_call_of_the_spool_can_fail_once_while_it_is_sent() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let server = TestServer::start(&[]);
    let counted = folder.path().join("counted");
    settle(AWAY, &counted, 0, MESSAGES, None);
    let (_, trace) = settle(&server.host(), &counted, MESSAGES, LATER, Some(""));
    let faults = faults(&counts(&trace));
    assert!(faults.len() > 40, "{faults:?}: the spool was not used\n{trace}");
    for (number, fault) in faults.iter().enumerate() {
        let spool = folder.path().join(number.to_string());
        let offset = head(&server);
        let (before, _) = settle(AWAY, &spool, 0, MESSAGES, None);
        assert_eq!(before.numbers('S').count() as u64, MESSAGES, "{before:?}");
        let (told, _) = settle(&server.host(), &spool, MESSAGES, LATER, Some(fault));
        check(&server, &spool, offset, &[&before, &told], fault);
    }
    println!("{} faults of a spool that is sent", faults.len());
}
