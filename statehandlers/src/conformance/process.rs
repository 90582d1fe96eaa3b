//! A process that uses the store, and is killed.
//!
//! It is the test binary itself, started for one test: `writer_process`, which [`conformance!`](crate::conformance!) makes.
//! It tells on its standard output what the store has acknowledged, a line each, and goes on until it is killed, or until
//! its standard input ends, which it does when the process that started it has died.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::context::{Context, WAIT_MAX, full, key};
use super::fixture::Fixture;
use super::lease::{SHORT, grant};
use super::verdict::{Stop, Verdict, failed, skipped};
use crate::fence::{Claimant, Fence};

/// The reader whose checkpoint the process writes.
pub(super) const CONSUMER: &str = "killed";

const LOCATION_VARIABLE: &str = "LOGD_CONFORMANCE_LOCATION";
const JOB_VARIABLE: &str = "LOGD_CONFORMANCE_JOB";
/// What a line begins with that tells of something acknowledged.
const ACKED: &str = "acked ";

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Writes one checkpoint after the other.
    Write,
    /// Takes a short lease, and keeps it without renewing it.
    Hold,
}

/// A process that was started.
pub(super) struct Child {
    process: std::process::Child,
    acked: Receiver<u64>,
}

impl Child {
    pub(super) fn start<F: Fixture>(context: &Context<F>, job: Job) -> Verdict<Self> {
        let Some(location) = context.store.location() else {
            return skipped("the fixture has no `location`: no other process can open the store");
        };
        let Some(test) = &context.process else {
            return skipped("only the tests of `conformance!` can start a process");
        };
        let mut process = Command::new(env::current_exe()?)
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(LOCATION_VARIABLE, location)
            .env(JOB_VARIABLE, if job == Job::Write { "write" } else { "hold" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (send, acked) = channel();
        let output = process.stdout.take();
        thread::spawn(move || {
            let lines =
                output.into_iter().flat_map(|output| BufReader::new(output).lines().map_while(Result::ok));
            for line in lines {
                let number = line.strip_prefix(ACKED).and_then(|number| number.parse().ok());
                if number.is_some_and(|number| send.send(number).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { process, acked })
    }

    /// Kills the process when it has told of so many, and tells what it has told of last.
    pub(super) fn kill_after(mut self, count: u32) -> Verdict<u64> {
        let mut last = 0;
        for _ in 0..count {
            match self.acked.recv_timeout(WAIT_MAX) {
                Ok(number) => last = number,
                Err(_) => {
                    return failed(format!(
                        "the process stopped at `{last}`, or nothing came within {WAIT_MAX:?}"
                    ));
                }
            }
        }
        self.process.kill()?;
        self.process.wait()?;
        while let Ok(number) = self.acked.recv_timeout(WAIT_MAX) {
            last = number;
        }
        Ok(last)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It is gone already, or the property has failed before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the process does that the suite kills. Without the suite, which tells it by environment variables what to do, it
/// does nothing.
///
/// # Panics
/// When the store fails; the suite then finds that the process has ended.
#[expect(clippy::panic, reason = "it is the body of a test")]
pub fn writer_process<F: Fixture>() {
    let (Ok(location), Ok(job)) = (env::var(LOCATION_VARIABLE), env::var(JOB_VARIABLE)) else { return };
    let job = if job == "write" { Job::Write } else { Job::Hold };
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(Stop::from)
        .and_then(|runtime| runtime.block_on(work::<F>(&location, job)));
    if let Err(stop) = done {
        panic!("the process that is to be killed: {stop:?}");
    }
}

async fn work<F: Fixture>(location: &str, job: Job) -> Verdict {
    let handler = F::open_at(location).await?;
    let key = key(CONSUMER)?;
    if job == Job::Hold {
        let grant = grant(&handler, &key, &Claimant::new("killed"), SHORT).await?;
        tell(grant.fence.epoch)?;
        let mut nothing = [0];
        let _ = io::stdin().read(&mut nothing)?;
        return Ok(());
    }
    let first = handler.get(&key).await?.map_or(0, |checkpoint| checkpoint.next.offset.as_u64() + 1);
    for offset in first.. {
        handler.complete(&key, &full(offset)?, Fence::NONE).await?;
        tell(offset)?;
    }
    Ok(())
}

fn tell(number: u64) -> io::Result<()> {
    let mut output = io::stdout().lock();
    // libtest leaves its line about the test unfinished.
    writeln!(output, "\n{ACKED}{number}")?;
    output.flush()
}
