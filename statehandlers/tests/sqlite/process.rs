//! Other processes that use the database: the test binary itself, started for one test, with a job to do.
//!
//! A job tells by lines on its standard output how far it is, and ends at the latest with its standard input.

use std::env;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use logd_statehandlers::sqlite::rusqlite::Connection;
use logd_statehandlers::{Committed, Fence, SqliteState, StateError, StateErrorKind, StateHandler, Token};

use super::{at, key};

const JOB: &str = "LOGD_SQLITE_TEST_JOB";
const PATH: &str = "LOGD_SQLITE_TEST_PATH";
/// What a line begins with that is meant for the test.
const TOLD: &str = "told: ";
const WAIT_MAX: Duration = Duration::from_secs(15);

/// A process with a job; it is killed when this is dropped.
pub(super) struct Worker {
    process: Child,
    input: Option<ChildStdin>,
    told: Receiver<String>,
}

impl Worker {
    pub(super) fn start(job: &str, path: &Path) -> Self {
        Self::run(Command::new(env::current_exe().unwrap()), job, path)
    }

    /// In a process whose files cannot be longer than so many kibibytes, which `sh` sees to.
    pub(super) fn start_limited(job: &str, path: &Path, kibibytes: u32) -> Self {
        let mut command = Command::new("sh");
        // Blocks of 512 bytes. With the signal ignored, writing fails instead.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" \"$@\"", kibibytes * 2);
        command.args(["-c", &script]).arg(env::current_exe().unwrap());
        Self::run(command, job, path)
    }

    fn run(mut command: Command, job: &str, path: &Path) -> Self {
        let mut process = command
            .args(["--exact", "process::job", "--nocapture", "--test-threads=1"])
            .env(JOB, job)
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, told) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Some(text) = line.strip_prefix(TOLD) {
                    let _ = send.send(text.to_owned());
                }
            }
        });
        Self { input: process.stdin.take(), process, told }
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it tells next.
    pub(super) fn next(&self) -> String {
        self.told.recv_timeout(WAIT_MAX).expect("the process tells nothing more")
    }

    /// Has it go on.
    pub(super) fn go_on(&mut self) {
        writeln!(self.input.as_mut().unwrap()).unwrap();
    }

    /// Kills it, and gives what it told last of all, or `last`.
    pub(super) fn kill(mut self, mut last: String) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        while let Ok(told) = self.told.recv_timeout(WAIT_MAX) {
            last = told;
        }
        last
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tell(what: impl std::fmt::Display) {
    let mut output = stdout().lock();
    writeln!(output, "\n{TOLD}{what}").unwrap();
    output.flush().unwrap();
}

fn wait() {
    let _ = stdin().read_line(&mut String::new());
}

#[test]
fn job() {
    let (Ok(job), Ok(path)) = (env::var(JOB), env::var(PATH)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match job.as_str() {
        "lock" => lock(&path),
        "transactions" => runtime.block_on(transactions(&path)).unwrap(),
        "limited" => runtime.block_on(limited(&path)),
        _ => panic!("there is no job `{job}`"),
    }
}

/// Keeps the database locked until it is told to go on.
fn lock(path: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    tell("locked");
    wait();
    connection.execute_batch("COMMIT").unwrap();
    tell("free");
    wait();
}

/// Writes results and checkpoints, one with the other, until it is killed.
async fn transactions(path: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let state = SqliteState::open(path).await?;
    let expected = state.get(&key()).await?.map(|checkpoint| checkpoint.next);
    let first = expected.map_or(0, |next| next.offset.as_u64());
    let mut token = Token { key: key(), fence: Fence::NONE, expected };
    for offset in first.. {
        let next = at(&(offset + 1).to_string());
        let done = state.with_tx(&token, &next, move |transaction| {
            transaction.execute("INSERT INTO results VALUES (?1)", [offset.to_string()])?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        ((), token) = done.await?;
        tell(offset + 1);
    }
    Ok(())
}

/// Writes until a write fails, and that once more when it is told to go on.
async fn limited(path: &str) {
    let state = SqliteState::open(path).await.unwrap();
    let mut offset = 0;
    let (position, error) = loop {
        offset += 1;
        let position = offset.to_string();
        match state.complete(&key(), &at(&position), Fence::NONE).await {
            Ok(_) => assert!(offset < 10_000, "nothing limits the files"),
            Err(error) => break (position, error),
        }
    };
    let kept = state.get(&key()).await.unwrap().unwrap();
    assert!(kept == at(&(offset - 1).to_string()) || kept == at(&position), "{kept:?}");
    assert_eq!(StateError::kind(&error), StateErrorKind::Ambiguous, "{error}");
    tell(&position);
    wait();
    assert_eq!(state.complete(&key(), &at(&position), Fence::NONE).await.unwrap(), Committed::Stored);
    tell("stored");
    wait();
}
