//! `logd check`: a work directory that no server has open is checked, and repaired if that is asked for.
//!
//! The directory's lock is held meanwhile, so that no server starts in it; a check alone shares it with other checks, and
//! changes nothing, neither a byte nor a time. Of a directory that no server has ever locked there is no lock to hold:
//! then it is looked at the end whether one has come. A repair writes its process id into the lock before its first
//! change.
//!
//! What a topic's check does is in [`log::check`](crate::log::check); here are the directory, the lock, and the sums.

mod report;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use logd_protocol::TopicName;
use thiserror::Error;

use self::report::Reporter;
use crate::disk::{DirLock, Disk, Entry, OsDisk, Shared};
use crate::log::check::{self, Done, Found, Grade, Totals, What};

/// The permissions of the files that a repair makes, less what the umask takes: those that a server gives by default.
const FILE_MODE: u32 = 0o600;

/// The file that is locked.
const LOCK: &str = ".lock";

/// What is to be checked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// The work directory.
    pub dir: PathBuf,
    /// Whether what can be repaired is.
    pub action: Action,
    /// How findings are printed.
    pub format: Format,
}

/// What a check does beside telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Look,
    /// It repairs what can be repaired.
    Repair,
}

/// For whom findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line each, and a summary.
    Text,
    /// A JSON object on a line each, the last one for the summary.
    Json,
}

/// How a check ends; each is an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// Nothing was found but what is only worth telling.
    Sound = 0,
    /// Something is damaged or to be repaired, or was.
    Found = 1,
    /// Something could not be checked or repaired.
    Unchecked = 3,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(verdict as u8)
    }
}

/// Why a directory cannot be checked at all. Nothing has been changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The directory, or its lock, cannot be opened.
    #[error("cannot check `{dir}`: {source}", dir = dir.display())]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A server or a repair has the directory.
    #[error("the work directory `{dir}` is in use by a running logd{holder}; stop it first", dir = dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// ` (process 1234)`, where it is known.
        holder: String,
    },
    /// There is nothing to check.
    #[error("`{dir}` has no topics{hint}", dir = dir.display())]
    NoTopics {
        /// The directory.
        dir: PathBuf,
        /// What may have been meant.
        hint: &'static str,
    },
    /// What was found cannot be told. Everything has been checked.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Something that was found, and in which topic; `None` for the work directory itself.
struct Told<'a> {
    topic: Option<&'a TopicName>,
    found: Found,
}

/// Sums over all topics.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    topics: u64,
    totals: Totals,
    /// How many findings there were of each grade, in their order.
    findings: [u64; 4],
    repaired: u64,
}

impl Sums {
    fn verdict(&self) -> Verdict {
        match self.findings {
            [_, 0, 0, 0] => Verdict::Sound,
            [_, _, _, 0] => Verdict::Found,
            _ => Verdict::Unchecked,
        }
    }

    fn count(&mut self, grade: Grade, done: Option<&Done>) {
        if let Some(count) = self.findings.get_mut(grade as usize) {
            *count += 1;
        }
        self.repaired += u64::from(done.is_some());
    }

    fn add(&mut self, totals: &Totals) {
        let sum = &mut self.totals;
        self.topics += 1;
        sum.partitions += totals.partitions;
        sum.batches += totals.batches;
        sum.messages = sum.messages.saturating_add(totals.messages);
        sum.bytes += totals.bytes;
        sum.bytes_damaged = sum.bytes_damaged.saturating_add(totals.bytes_damaged);
        sum.lost.batches = sum.lost.batches.saturating_add(totals.lost.batches);
        sum.lost.messages = sum.lost.messages.saturating_add(totals.lost.messages);
        sum.lost.is_exact &= totals.lost.is_exact;
    }
}

/// Checks a work directory, and prints what is found to `out`. A reader that closes its pipe does not end it. Blocks.
///
/// # Errors
/// [`CheckError`].
pub fn run(request: &CheckRequest, out: &mut dyn Write) -> Result<Verdict, CheckError> {
    let dir = &*request.dir;
    let failed = |source| CheckError::Dir { dir: dir.to_owned(), source };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(FILE_MODE));
    // Before the lock, which would be made in whatever directory this is.
    let entries = disk.list(dir).map_err(failed)?;
    let topics = topics(&entries);
    if topics.is_empty() {
        return Err(CheckError::NoTopics { dir: dir.to_owned(), hint: hint(&entries) });
    }
    let lock = Lock::take(dir, request.action)?;
    let mut reporter = Reporter::new(out, request.format);
    let mut sums = Sums::default();
    sums.totals.lost.is_exact = true;
    for (name, what) in strangers(&entries) {
        tell(&mut reporter, &mut sums, None, Found { file: name, what, done: None });
    }
    for (topic, name) in &topics {
        check_topic(&disk, &dir.join(name), topic, &lock, &mut reporter, &mut sums);
    }
    lock.expect_kept(dir)?;
    reporter.summary(&sums);
    reporter.finish().map_err(CheckError::Output)?;
    Ok(sums.verdict())
}

fn check_topic(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    topic: &TopicName,
    lock: &Lock,
    reporter: &mut Reporter<'_>,
    sums: &mut Sums,
) {
    let mut telling = |found| tell(reporter, sums, Some(topic), found);
    let checked = match lock {
        Lock::Own(lock) => {
            let mut is_signed = false;
            let mut sign = || {
                if !std::mem::replace(&mut is_signed, true) {
                    lock.sign();
                }
            };
            check::repair(disk, dir, &mut sign, &mut telling)
        }
        Lock::Shared(_) | Lock::Absent => check::check(disk, dir, &mut telling),
    };
    match checked {
        Ok(totals) => sums.add(&totals),
        Err(error) => {
            let found = Found { file: String::new(), what: What::Unreadable(error), done: None };
            tell(reporter, sums, Some(topic), found);
        }
    }
}

fn tell(reporter: &mut Reporter<'_>, sums: &mut Sums, topic: Option<&TopicName>, found: Found) {
    sums.count(found.what.grade(), found.done.as_ref());
    reporter.tell(&Told { topic, found });
}

/// The right to the directory.
enum Lock {
    Own(DirLock),
    Shared(#[expect(dead_code, reason = "it is held, not used")] DirLock),
    Absent,
}

impl Lock {
    fn take(dir: &Path, action: Action) -> Result<Self, CheckError> {
        let failed = |source| CheckError::Dir { dir: dir.to_owned(), source };
        match action {
            Action::Repair => match DirLock::acquire_unsigned(dir).map_err(failed)? {
                Some(lock) => Ok(Self::Own(lock)),
                None => Err(in_use(dir)),
            },
            Action::Look => match DirLock::share(dir).map_err(failed)? {
                Shared::Taken(lock) => Ok(Self::Shared(lock)),
                Shared::InUse => Err(in_use(dir)),
                Shared::NeverLocked => Ok(Self::Absent),
            },
        }
    }

    /// Nobody has come whom no lock has kept out.
    fn expect_kept(&self, dir: &Path) -> Result<(), CheckError> {
        match (self, DirLock::share(dir)) {
            (Self::Absent, Ok(Shared::Taken(_) | Shared::InUse) | Err(_)) => Err(in_use(dir)),
            _ => Ok(()),
        }
    }
}

fn in_use(dir: &Path) -> CheckError {
    let holder = DirLock::holder(dir).map(|process| format!(" (process {process})"));
    CheckError::InUse { dir: dir.to_owned(), holder: holder.unwrap_or_default() }
}

/// The topics that a server would open, and the names of their directories.
fn topics(entries: &[Entry]) -> Vec<(TopicName, String)> {
    let dirs = entries.iter().filter(|entry| entry.is_dir);
    dirs.filter_map(|entry| Some((TopicName::new(&entry.name).ok()?, entry.name.clone()))).collect()
}

/// What is neither a topic nor the lock.
fn strangers(entries: &[Entry]) -> impl Iterator<Item = (String, What)> {
    let strange = entries
        .iter()
        .filter(|entry| entry.name != LOCK && !(entry.is_dir && TopicName::new(&entry.name).is_ok()));
    strange.map(|entry| (entry.name.clone(), What::Foreign))
}

/// What may have been meant by a directory without topics.
fn hint(entries: &[Entry]) -> &'static str {
    let is_partition =
        |entry: &Entry| !entry.is_dir && entry.name.strip_suffix(".log").is_some_and(is_number);
    if entries.iter().any(is_partition) {
        "; it looks like the directory of one: name the work directory above it"
    } else {
        "; name the directory that `logd --workdir` has"
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
