//! Several processes: the test binary starts itself again as `child`, which does what `LOGD_STATE_CHILD` says.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Instant;

use super::*;

const ROLE: &str = "LOGD_STATE_CHILD";
const ROOT: &str = "LOGD_STATE_ROOT";

/// Whatever a test does with it, it does not outlive the test.
struct Process {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Process {
    fn start(role: &str, root: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "file::tests::processes::child", "--nocapture"])
            .env(ROLE, role)
            .env(ROOT, root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the child has ended: `{line}`");
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{signal}"), &process]).status();
        assert!(status.unwrap().success());
    }

    /// Waits until it is stopped.
    fn wait_stopped(&self) {
        let start = Instant::now();
        let stat = format!("/proc/{}/stat", self.child.id());
        while !fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(start.elapsed() < BOUND, "the child was not stopped");
            std::thread::yield_now();
        }
    }

    /// Kills it, and gives what it has said and nobody has read.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = Vec::new();
        self.lines.read_to_end(&mut rest).unwrap();
        let rest = String::from_utf8(rest).unwrap();
        // Without what it was killed in the middle of.
        rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No test, but what the other processes run.
#[tokio::test]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let root = PathBuf::from(std::env::var_os(ROOT).unwrap());
    let state = FileState::open_existing(&root).await.unwrap();
    let key = key("a");
    let wait_for_end = || std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    match role.as_str() {
        "write" => {
            let Claim::Granted(grant) = state.start(&key, &Claimant::new("one"), TTL).await.unwrap() else {
                panic!()
            };
            let stored = grant.checkpoint.map_or(0, |checkpoint| checkpoint.next.offset.as_u64());
            eprintln!("{stored}");
            for offset in stored + 1.. {
                let checkpoint = Checkpoint { user: vec![b'x'; 4096], ..at(offset) };
                state.complete(&key, &checkpoint, grant.fence).await.unwrap();
                eprintln!("{offset}");
            }
        }
        "race" => {
            for offset in 1..=100 {
                match state.complete(&key, &at(offset), Fence::NONE).await {
                    Ok(_) => {}
                    Err(error) => assert!(
                        matches!(error.kind(), StateErrorKind::Stale { stored } if stored > at(offset).next)
                    ),
                }
                let stored = state.get(&key).await.unwrap().unwrap();
                assert!(stored.next >= at(offset).next, "went back to {stored:?}");
            }
        }
        "hold" => {
            let fence = granted(&state, &key, &Claimant::new("one")).await;
            eprintln!("granted");
            wait_for_end();
            assert_eq!(kind(state.complete(&key, &at(99), fence).await), StateErrorKind::Fenced);
        }
        "halt in a write" => {
            let before = move |step: Step, _: &Path| {
                if step == Step::Rename {
                    eprintln!("renaming");
                    wait_for_end();
                }
                Ok(())
            };
            let disk = Disk { before: Some(Arc::new(before)) };
            let state = FileState::open_with(root, Missing::Refuse, disk, WRITE_WAIT).await.unwrap();
            state.complete(&key, &at(5), Fence::NONE).await.unwrap();
            eprintln!("stored");
        }
        _ => panic!("no role: `{role}`"),
    }
}

#[tokio::test]
async fn a_kill_leaves_the_old_or_the_new_and_frees_the_lease() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    let mut known = 0;
    for round in 0..12 {
        let mut process = Process::start("write", folder.path());
        let start: u64 = process.line().parse().unwrap();
        assert!(start == known || start == known + 1, "{start} after {known}");
        for _ in 0..round {
            process.line();
        }
        let reported = process.kill().last().map(|line| line.parse().unwrap());
        let stored = state.get(&key("a")).await.unwrap().map_or(0, |stored| stored.next.offset.as_u64());
        let reported = reported.unwrap_or(start + round);
        assert!(stored == reported || stored == reported + 1, "{stored} after {reported}");
        known = stored;
    }
    granted(&state, &key("a"), &Claimant::new("two")).await;
    assert!(known >= 66);
}

#[tokio::test]
async fn processes_that_race_never_go_back() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    let processes = [(); 3].map(|()| Process::start("race", folder.path()));
    for process in processes {
        process.end();
    }
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(at(100)));
}

#[tokio::test]
async fn a_stopped_holder_keeps_its_lease_until_a_reset() {
    let folder = folder();
    let state = FileState::open(folder.path()).await.unwrap();
    let mut holder = Process::start("hold", folder.path());
    assert_eq!(holder.line(), "granted");
    holder.signal("STOP");
    holder.wait_stopped();
    assert!(is_processing(&state, &key("a")).await);
    assert_eq!(state.list().await.unwrap()[0].owner.as_deref(), Some("one"));
    state.reset(&key("a"), &at(7)).await.unwrap();
    assert_eq!(state.list().await.unwrap()[0].owner, None);
    granted(&state, &key("a"), &Claimant::new("two")).await;
    holder.signal("CONT");
    holder.end();
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(at(7)));
}

#[tokio::test]
async fn a_writer_that_was_stopped_is_waited_for_with_a_bound() {
    let folder = folder();
    let wait = Duration::from_millis(50);
    let state =
        FileState::open_with(folder.path().into(), Missing::Make, Disk::default(), wait).await.unwrap();
    state.complete(&key("a"), &at(1), Fence::NONE).await.unwrap();
    let mut writer = Process::start("halt in a write", folder.path());
    assert_eq!(writer.line(), "renaming");
    writer.signal("STOP");
    writer.wait_stopped();
    let error = state.complete(&key("a"), &at(3), Fence::NONE).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Unavailable);
    assert_eq!(state.get(&key("a")).await.unwrap(), Some(at(1)));
    assert_eq!(state.list().await.unwrap().len(), 1);
    writer.signal("CONT");
    drop(writer.child.stdin.take());
    assert_eq!(writer.line(), "stored");
    assert_eq!(
        kind(state.complete(&key("a"), &at(3), Fence::NONE).await),
        StateErrorKind::Stale { stored: at(5).next }
    );

    // Killed instead, it leaves nothing that keeps others out.
    let mut writer = Process::start("halt in a write", folder.path());
    assert_eq!(writer.line(), "renaming");
    writer.kill();
    state.complete(&key("a"), &at(6), Fence::NONE).await.unwrap();
    assert_eq!(files(&folder.path().join("default")), ["a.ckpt", "a.write"]);
}
