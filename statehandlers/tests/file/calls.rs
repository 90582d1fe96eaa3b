//! What the store asks of the system, and in which order, as `strace` sees it: a record is on the disk before it has its
//! name, its name is before anybody is told, and the folders above it are before it.
//!
//! The test binary starts itself again as `child`, under `strace` (Debian: `strace`). A power cut cannot be tried here:
//! that what is synced survives one is what the file system promises, and this is what it is asked for.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use logd_protocol::Offset;
use logd_statehandlers::{
    Checkpoint, Claim, Claimant, ConsumerKey, Fence, FileState, LeaseHandler, Position, StateAdmin,
    StateHandler,
};

/// Where the child's store is; without it, a child does nothing.
const ROOT: &str = "LOGD_CALLS_ROOT";
/// What changes a file, a name or a folder, or has it on the disk. Machines lack some of them, hence the `?`.
const TRACED: &str = "trace=?open,?openat,?openat2,?creat,?write,?writev,?pwrite64,?pwritev,?pwritev2,?sendfile,\
    ?copy_file_range,?truncate,?ftruncate,?fallocate,?fsync,?fdatasync,?sync_file_range,?sync,?syncfs,?rename,?renameat,\
    ?renameat2,?link,?linkat,?symlink,?symlinkat,?unlink,?unlinkat,?mkdir,?mkdirat,?rmdir";
/// A lease that does not run out; those of files never do.
const LONG: Duration = Duration::from_secs(3600);

fn key(consumer: &str) -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), consumer).unwrap()
}

fn at(offset: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::at(Position::at(Offset::new(offset)));
    // Longer than what a buffer may hold back.
    checkpoint.user = vec![b'x'; Checkpoint::USER_BYTES_MAX];
    checkpoint
}

/// Without a runtime, all is done on this thread: the calls that are seen are those of one thread, in their order.
fn done<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the call waits for something"),
    }
}

/// Tells the parent, in a call of its own, that something is done.
fn tell(what: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("TOLD {what}\n").as_bytes()).unwrap();
}

/// No test, but what runs under `strace`.
#[test]
fn child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    tell("begin");
    let state = done(FileState::open(&root)).unwrap();
    tell("open");
    let billing = key("billing");
    let record = root.join("default/orders/billing.ckpt");
    let stored = |what: &str, record: &Path| tell(&format!("{what} {}", fs::metadata(record).unwrap().len()));
    done(state.complete(&billing, &at(1), Fence::NONE)).unwrap();
    stored("first", &record);
    done(state.complete(&billing, &at(2), Fence::NONE)).unwrap();
    stored("later", &record);
    done(state.complete(&billing, &at(2), Fence::NONE)).unwrap();
    stored("unchanged", &record);
    done(state.complete(&billing, &at(1), Fence::NONE)).unwrap_err();
    tell("stale");
    let Claim::Granted(grant) = done(state.start(&billing, &Claimant::new("one"), LONG)).unwrap() else {
        panic!("the lease was not granted");
    };
    stored("start", &record);
    done(state.renew(&billing, grant.fence, LONG)).unwrap();
    tell("renew");
    done(state.release(&billing, grant.fence, Some(&at(3)))).unwrap();
    stored("release", &record);
    done(state.reset(&billing, &at(1))).unwrap();
    stored("reset", &record);
    assert!(done(state.delete(&billing)).unwrap());
    tell("delete");
    let other = billing.clone().in_namespace("other").unwrap();
    done(state.start(&other, &Claimant::new("one"), LONG)).unwrap();
    stored("other", &root.join("other/orders/billing.ckpt"));
    // As another process leaves them that made the folders, and came no further.
    let third = root.join("third/orders");
    fs::create_dir_all(&third).unwrap();
    tell("folders");
    done(state.reset(&billing.in_namespace("third").unwrap(), &at(1))).unwrap();
    stored("third", &third.join("billing.ckpt"));
}

/// The same, in a store that has a record at 1 already; tells how it went.
#[test]
fn failing_child() {
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else { return };
    let state = done(FileState::open_existing(root)).unwrap();
    let told = done(state.complete(&key("billing"), &at(2), Fence::NONE));
    tell(&told.map_or_else(|error| format!("{:?}", error.kind()), |done| format!("{done:?}")));
}

/// A call as it was seen, such as `fsync(3</tmp/x/a.tmp>) = 0`.
struct Call<'a> {
    name: &'a str,
    arguments: &'a str,
    result: i64,
}

impl<'a> Call<'a> {
    fn parse(line: &'a str) -> Self {
        let parse = || {
            let (call, result) = line.rsplit_once(" = ")?;
            let (name, arguments) = call.trim_end().strip_suffix(')')?.split_once('(')?;
            // A descriptor is shown with its path, a failure with its name.
            let digits =
                result.find(|byte| byte != '-' && !char::is_ascii_digit(&byte)).unwrap_or(result.len());
            Some(Self { name, arguments, result: result.get(..digits)?.parse().ok()? })
        };
        parse().unwrap_or_else(|| panic!("`strace` has written `{line}`"))
    }

    /// The name of the file behind the descriptor that is the first argument.
    fn file(&self) -> &'a str {
        self.arguments
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map_or("", |(path, _)| name(path))
    }

    /// The names of the paths among the arguments.
    fn names(&self) -> String {
        let paths = self.arguments.split('"').skip(1).step_by(2);
        paths.map(name).collect::<Vec<_>>().join(" ")
    }

    /// Whether a file is opened to be changed.
    fn is_change(&self) -> bool {
        ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| self.arguments.contains(flag))
    }
}

/// The last part of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What was done to records, markers and folders, in words; bytes that are written one behind the other are added up, and
/// must be all that the record has when it is told as stored.
fn events(calls: &[&str]) -> Vec<String> {
    let mut events: Vec<String> = Vec::new();
    let mut written = 0;
    for call in calls.iter().copied().map(Call::parse).filter(|call| call.result >= 0) {
        let event = match call.name {
            "write" if call.arguments.starts_with("2<") => {
                let Some((_, words)) = call.arguments.split_once("TOLD ") else { continue };
                let (words, _) = words.split_once("\\n").unwrap();
                let (what, bytes) = words.split_once(' ').unwrap_or((words, ""));
                assert!(bytes.is_empty() || bytes == written.to_string(), "{written} bytes of {words}");
                format!("told {what}")
            }
            "write" => {
                let event = format!("write {}", call.file());
                let goes_on = events.last() == Some(&event);
                written = call.result + if goes_on { written } else { 0 };
                if goes_on {
                    continue;
                }
                event
            }
            "open" | "openat" if !call.is_change() => continue,
            "open" | "openat" => format!("create {}", call.names()),
            "fsync" | "fdatasync" => format!("sync {}", call.file()),
            "rename" | "renameat" | "renameat2" => format!("rename {}", call.names()),
            "mkdir" | "mkdirat" => format!("make {}", call.names()),
            "unlink" | "unlinkat" => format!("remove {}", call.names()),
            // Nothing else is expected, and so it is shown.
            _ => format!("{} {}", call.name, call.arguments),
        };
        // A lock is worth something as long as its holder lives, and so never needs to be on the disk.
        if !matches!(event.rsplit('.').next(), Some("lock" | "write")) {
            events.push(event);
        }
    }
    events
}

/// Runs a child under `strace`, and gives what it has said.
fn strace(arguments: &[&str], log: &Path, child: &str, root: &Path) -> String {
    let output = Command::new("strace")
        .args(["-qq", "-e", "signal=none", "-o"])
        .arg(log)
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("NOT TESTED: `strace` cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "NOT TESTED: under `strace`, the child has failed: {said}");
    said
}

/// What the child's thread has called from the first word to the last.
fn trace(root: &Path, into: &Path) -> Vec<String> {
    // A file a thread, and descriptors with their paths.
    let said = strace(&["-ff", "-y", "-e", TRACED], &into.join("calls"), "calls::child", root);
    for entry in fs::read_dir(into).unwrap() {
        let calls = fs::read_to_string(entry.unwrap().path()).unwrap();
        // Before and behind the words, the test harness does its own.
        let lines: Vec<&str> = calls.lines().collect();
        let is_word = |line: &&str| line.contains("TOLD ");
        if let (Some(first), Some(last)) = (lines.iter().position(is_word), lines.iter().rposition(is_word)) {
            return events(&lines[first..=last]);
        }
    }
    panic!("NOT TESTED: `strace` has seen nothing of the child: {said}");
}

#[test]
fn what_is_told_as_stored_is_on_the_disk_with_its_name_and_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let traces = tempfile::tempdir().unwrap();
    let seen = trace(&folder.path().join("deep/root"), traces.path());
    let above = format!("sync {}", name(folder.path().to_str().unwrap()));
    let replace = [
        "create billing.tmp",
        "write billing.tmp",
        "sync billing.tmp",
        "rename billing.tmp billing.ckpt",
        "sync orders",
    ];
    let marker = [
        "create .logd-state.tmp",
        "write .logd-state.tmp",
        "sync .logd-state.tmp",
        "rename .logd-state.tmp .logd-state",
        "sync root",
    ];
    let steps: [(&str, &[&str], &[&str]); 14] = [
        ("told begin", &[], &[]),
        ("told open", &["make deep", "make root", "sync deep", &above, "sync deep"], &marker),
        ("told first", &["make default", "make orders", "sync root", "sync default"], &replace),
        ("told later", &[], &replace),
        // The record may have been written by somebody who came no further.
        ("told unchanged", &[], &replace),
        ("told stale", &[], &[]),
        ("told start", &[], &replace),
        ("told renew", &[], &[]),
        ("told release", &[], &replace),
        ("told reset", &[], &replace),
        ("told delete", &["remove billing.ckpt", "sync orders"], &[]),
        ("told other", &["make other", "make orders", "sync root", "sync other"], &replace),
        ("told folders", &["make third", "make orders"], &[]),
        ("told third", &["sync root", "sync third"], &replace),
    ];
    let expected: Vec<&str> = steps
        .iter()
        .flat_map(|(told, before, then)| before.iter().chain(*then).chain([told]))
        .copied()
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn call_that_fails_is_never_told_as_stored() {
    for (call, told, stored) in [
        // The file's, then the folder's.
        ("?fsync,?fdatasync:error=EIO:when=1", "Failed", 1),
        ("?fsync,?fdatasync:error=EIO:when=2", "Ambiguous", 2),
        ("?fsync,?fdatasync:error=EIO:when=3", "Stored", 2),
        ("?rename,?renameat,?renameat2:error=EIO:when=1", "Ambiguous", 1),
        ("?rename,?renameat,?renameat2:error=ENOSPC:when=1", "Failed", 1),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let state = done(FileState::open(folder.path())).unwrap();
        done(state.complete(&key("billing"), &at(1), Fence::NONE)).unwrap();
        let inject = format!("inject={call}");
        let log = Path::new("/dev/null");
        let said = strace(&["-f", "-e", &inject], log, "calls::failing_child", folder.path());
        assert!(said.contains(&format!("TOLD {told}\n")), "{call}: {said}");
        assert_eq!(done(state.get(&key("billing"))).unwrap(), Some(at(stored)), "{call}");
    }
}
