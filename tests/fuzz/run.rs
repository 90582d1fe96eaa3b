//! Runs a target: the inputs that are kept, then random ones made from them.
//!
//! An input at which the target panics, or which takes far too long, is written into a file, and the command that runs it
//! again is printed.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use logd_tests::{Random, seed};

use crate::mutate::mutated;
use crate::targets::{TARGETS, Target};

/// How long a target gets random inputs where nothing else is said.
const SECONDS_DEFAULT: u64 = 3;

/// An input that takes longer hangs. None needs a hundredth of it.
const HANGS_AFTER: Duration = Duration::from_secs(120);

pub(crate) fn run(name: &str) {
    let target =
        TARGETS.iter().find(|target| target.name == name).expect("a target has the name of its test");
    if let Some(file) = env::var_os("LOGD_TEST_INPUT") {
        let input = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&file).display()));
        return (target.run)(&input);
    }
    let kept = corpus(target);
    let watch = watch(target);
    for input in &kept {
        check(target, input, &watch);
    }
    let tried = run_random(target, &kept, &watch);
    println!("{name}: {} inputs that are kept, {tried} random ones", kept.len());
}

/// The inputs that are kept, by name.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "`{}` has no inputs", folder.display());
    paths.iter().map(|path| fs::read(path).expect("an input can be read")).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` is a number, and not `{text}`")))
}

/// Gives the target random inputs until there were enough; says how many.
fn run_random(target: &Target, kept: &[Vec<u8>], watch: &Sender<Vec<u8>>) -> u64 {
    let runs = number("LOGD_TEST_RUNS");
    let time = Duration::from_secs(number("LOGD_TEST_SECONDS").unwrap_or(SECONDS_DEFAULT));
    let mut random = Random::new(seed());
    let start = Instant::now();
    let mut tried = 0;
    while runs.map_or_else(|| start.elapsed() < time, |runs| tried < runs) {
        check(target, &mutated(&mut random, kept, target.words), watch);
        tried += 1;
    }
    assert!(tried > 0, "there was no time for any random input");
    tried
}

fn check(target: &Target, input: &[u8], watch: &Sender<Vec<u8>>) {
    // Who watches ends with the test, and not before.
    let _ = watch.send(input.to_vec());
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        report(target, input, "a panic");
        resume_unwind(panic);
    }
}

/// Ends the process when an input is not followed by another for far too long.
fn watch(target: &'static Target) -> Sender<Vec<u8>> {
    let (sender, inputs) = channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut last = Vec::new();
        loop {
            match inputs.recv_timeout(HANGS_AFTER) {
                Ok(input) => last = input,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    report(target, &last, "no end");
                    std::process::abort();
                }
            }
        }
    });
    sender
}

/// Keeps the input, and says how to run it again.
fn report(target: &Target, input: &[u8], what: &str) {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{}-{:016x}", target.name, hasher.finish()));
    fs::write(&path, input).expect("the input can be written");
    let (path, name) = (path.display(), target.name);
    eprintln!("{what} at an input of {} bytes:\n  {}", input.len(), input.escape_ascii());
    eprintln!("LOGD_TEST_INPUT={path} cargo test -p logd-tests --test fuzz {name}");
}
