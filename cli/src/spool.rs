//! `log-cli spool`: look at the batches that a writer could not deliver and kept in a directory, send them, drop them.
//!
//! `ls` and `check` only read; `check --repair` gives what is damaged another name. `send` and `drop` hold the directory while they run, so that no writer and no other `log-cli` uses
//! it meanwhile. A batch is removed only after the server has acknowledged it: a run of `send` that ends early, by a
//! failure or a signal, loses nothing and can be repeated. A batch whose answer did not come is then sent again; a
//! server that knows `dedup` stores it once all the same, where it has an identity.
//!
//! What is damaged is told, set aside, and never deleted; the run goes on and ends with [`Exit::Damaged`].

mod check;

use std::fmt::Write as _;
use std::path::Path;

use logd_client::{
    Aside, Batch, Client, Offset, Outcome, Spool, SpoolError, SpoolKey, SpoolListing, Spooled,
};

use crate::args::{Common, SpoolCommand};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::{Output, complain, print};
use crate::signals::Signals;

pub(crate) async fn run(
    common: &Common,
    command: SpoolCommand,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    match command {
        SpoolCommand::Ls { dir } => {
            let list = async move {
                let listing = blocking(move || Spool::list(&dir)).await?;
                print(table(&listing).as_bytes()).await?;
                Ok(if listing.damaged.is_empty() && listing.aside.is_empty() {
                    Exit::Success
                } else {
                    Exit::Damaged
                })
            };
            signals.unless(list).await
        }
        SpoolCommand::Check(args) => signals.unless(check::run(args)).await,
        SpoolCommand::Send { dir } => {
            let mut output = Output::stdout()?;
            let sent = send(common, &dir, signals, &mut output).await;
            let printed = output.finish().await;
            sent.and_then(|exit| printed.map(|()| exit))
        }
        SpoolCommand::Drop { dir, .. } => {
            let drop = async move {
                let (mut spool, exit) = open(&dir).await?;
                let dropped = format!("dropped: {}, {} messages\n", count(spool.len()), spool.messages());
                blocking(move || spool.clear()).await?;
                print(dropped.as_bytes()).await?;
                Ok(exit)
            };
            signals.unless(drop).await
        }
    }
}

/// Takes the directory, which must be there. What is damaged is told.
async fn open(dir: &Path) -> Result<(Spool, Exit), Failure> {
    if !dir.is_dir() {
        return Err(Failure::failed(format!("`{}` is no directory", dir.display())));
    }
    let dir = dir.to_owned();
    // Nothing is put, so it does not matter how much there could be.
    let (spool, findings) = blocking(move || Spool::open(dir, u64::MAX)).await?;
    for file in &findings.damaged {
        complain(&format_args!("set aside as `{}`: {}", file.path.display(), file.damage));
    }
    Ok((spool, if findings.damaged.is_empty() { Exit::Success } else { Exit::Damaged }))
}

/// Sends every batch, oldest first, and removes each that is acknowledged.
async fn send(
    common: &Common,
    dir: &Path,
    signals: &mut Signals,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let (mut spool, mut exit) = tokio::select! {
        opened = open(dir) => opened?,
        exit = signals.next() => return Ok(exit),
    };
    if spool.is_empty() {
        return Ok(exit);
    }
    let mut client = tokio::select! {
        connected = connect(common) => connected?,
        exit = signals.next() => return Ok(exit),
    };
    let mut sent = 0;
    loop {
        let Spooled { batch, key } = match spool.first() {
            Ok(Some(spooled)) => spooled,
            Ok(None) => return Ok(exit),
            Err(error @ SpoolError::Damaged { key, .. }) => {
                spool.set_aside(key, Aside::Damaged)?;
                complain(&error);
                exit = Exit::Damaged;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let appended = append(&mut client, &batch, key, signals).await;
        let offset = appended.map_err(|failure| failure.and(progress(sent, &spool)))?;
        sent += 1;
        output.put(format!("{key} {offset}\n").as_bytes());
        // A reader that has had enough does not keep the others from being sent.
        let _ = output.flush().await;
        if let Err(error) = spool.remove(key) {
            let doubt = format!("; the batch `{key}` is in the topic, do not send it again");
            return Err(Failure::from(error).and(doubt).and(progress(sent, &spool)));
        }
    }
}

async fn append(
    client: &mut Client,
    batch: &Batch,
    key: SpoolKey,
    signals: &mut Signals,
) -> Result<Offset, Failure> {
    let (failure, outcome) = tokio::select! {
        appended = client.append(batch) => match appended {
            Ok(offset) => return Ok(offset),
            Err(error) => (Failure::from(error.error), error.outcome),
        },
        exit = signals.next() => (Failure::new(exit, "interrupted"), Outcome::Unknown),
    };
    Err(failure.and(match outcome {
        Outcome::NotWritten => format!("; the batch `{key}` is not in the topic"),
        Outcome::Unknown => format!("; the batch `{key}` may be in the topic all the same"),
    }))
}

/// How far it came.
fn progress(sent: u64, spool: &Spool) -> String {
    format!("; `{sent}` were sent before, `{}` are still in `{}`", spool.len(), spool.dir().display())
}

/// Batches oldest first, then what is damaged.
fn table(listing: &SpoolListing) -> String {
    let topics = listing.batches.iter().map(|batch| batch.topic.as_str().len());
    let width = topics.max().unwrap_or(0).max("TOPIC".len());
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:<41}  {:<width$}  {:>8}  {:>8}", "KEY", "TOPIC", "MESSAGES", "BYTES");
    for batch in &listing.batches {
        let (key, topic) = (batch.key.to_string(), batch.topic.as_str());
        let _ = writeln!(text, "{key}  {topic:<width$}  {:>8}  {:>8}", batch.messages, batch.bytes);
    }
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).display().to_string();
    for (path, damage) in &listing.damaged {
        let _ = writeln!(text, "{}  damaged: {damage}", name(path));
    }
    for (path, why) in &listing.aside {
        let why = match why {
            Aside::Damaged => "damaged",
            Aside::Refused => "refused by the server",
            Aside::Unknown => "may be in the topic already",
            _ => "not to be sent",
        };
        let _ = writeln!(text, "{}  set aside: {why}", name(path));
    }
    text
}

fn count(batches: usize) -> String {
    if batches == 1 { "1 batch".into() } else { format!("{batches} batches") }
}

/// Does what waits for the disk on a thread of its own, so that a signal is noticed meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SpoolError> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Failure::failed(error.to_string()))??)
}

impl From<SpoolError> for Failure {
    fn from(error: SpoolError) -> Self {
        let exit = match error {
            SpoolError::Damaged { .. } => Exit::Damaged,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
