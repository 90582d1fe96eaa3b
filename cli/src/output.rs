//! Where bytes go: standard output, a file, standard error.
//!
//! An [`Output`] collects bytes in a block and hands full blocks to a thread that writes them. So a reader that takes
//! nothing, a pager for instance, holds up only that thread, and a signal is noticed all the same. At most
//! [`BLOCKS`] blocks wait to be written.
//!
//! A reader that closes its pipe is no failure: it has had enough. Any other error is told by [`Output::finish`].

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::exit::Failure;

/// A block is handed over when it has this many bytes: large enough that the calls cost nothing.
const BLOCK_BYTES: usize = 256 * 1024;
/// How many full blocks can wait.
const BLOCKS: usize = 4;

/// Nobody takes the output any more. [`Output::finish`] tells whether that is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

/// A place for bytes.
#[derive(Debug)]
pub(crate) struct Output {
    name: String,
    is_terminal: bool,
    block: Vec<u8>,
    blocks: mpsc::Sender<Vec<u8>>,
    end: oneshot::Receiver<io::Result<()>>,
}

impl Output {
    /// Standard output.
    pub(crate) fn stdout() -> Result<Self, Failure> {
        let name = "standard output";
        let file = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Failure::failed(format!("cannot write to {name}: {error}")))?;
        Ok(Self::start(name.into(), File::from(file)))
    }

    /// The file at `path`, made empty; standard output for none and for `-`.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Self::stdout() };
        let name = format!("`{}`", path.display());
        let file = File::create(path)
            .map_err(|error| Failure::failed(format!("cannot write to {name}: {}", reason(&error))))?;
        Ok(Self::start(name, file))
    }

    fn start(name: String, mut file: File) -> Self {
        let is_terminal = file.is_terminal();
        let (blocks, mut full) = mpsc::channel::<Vec<u8>>(BLOCKS);
        let (ended, end) = oneshot::channel();
        thread::spawn(move || {
            let mut result = Ok(());
            while let Some(block) = full.blocking_recv() {
                result = file.write_all(&block);
                if result.is_err() {
                    break;
                }
            }
            // Nobody waits for the result where the process ends early.
            let _ = ended.send(result);
        });
        Self { name, is_terminal, block: Vec::new(), blocks, end }
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Puts bytes into the block; [`Output::flush`] is due when it [is full](Output::is_full).
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.block.len() >= BLOCK_BYTES
    }

    /// Hands over what there is, so that it is written without anything else coming. Waits while too much waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Closed> {
        if self.block.is_empty() {
            return Ok(());
        }
        let Ok(place) = self.blocks.reserve().await else {
            self.block.clear();
            return Err(Closed);
        };
        let room = self.block.len().min(BLOCK_BYTES);
        place.send(std::mem::replace(&mut self.block, Vec::with_capacity(room)));
        Ok(())
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        // Where it is closed, the thread has ended and tells why.
        let _ = self.flush().await;
        let Self { name, blocks, end, .. } = self;
        drop(blocks);
        match end.await {
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::failed(format!("cannot write to {name}: {}", reason(&error))))
            }
            _ => Ok(()),
        }
    }
}

/// Writes `text` to standard output and waits until it is written.
pub(crate) async fn print(text: &[u8]) -> Result<(), Failure> {
    let mut output = Output::stdout()?;
    output.put(text);
    output.finish().await
}

/// Keys and values, a line each.
pub(crate) fn pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().flat_map(|(key, value)| [key.as_str(), ": ", value.as_str(), "\n"]).collect()
}

/// Says a sentence on standard error, after the program's name.
pub(crate) fn complain(sentence: &dyn fmt::Display) {
    say(&format!("log-cli: {sentence}\n"));
}

/// Writes `text` to standard error as it is.
pub(crate) fn say(text: &str) {
    // There is no other place left to tell that this one is not there.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The cause of a failed call in the system's words, written as ours are: `no such file or directory`.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn everything_put_is_in_the_file_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut expected = Vec::new();
        run(async {
            let mut output = Output::create(Some(&path)).unwrap();
            for number in 0..100_000_u32 {
                let text = format!("{number}\n");
                expected.extend_from_slice(text.as_bytes());
                output.put(text.as_bytes());
                if output.is_full() {
                    output.flush().await.unwrap();
                }
            }
            output.finish().await.unwrap();
        });
        assert!(expected.len() > 2 * BLOCK_BYTES, "the test must fill more than one block");
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn closed_pipe_stops_the_writer_and_is_no_failure() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        run(async {
            let mut output = Output::start("a pipe".into(), File::from(std::os::fd::OwnedFd::from(writer)));
            loop {
                output.put(b"x");
                if output.flush().await == Err(Closed) {
                    break;
                }
            }
            assert_eq!(output.finish().await, Ok(()));
        });
    }

    #[test]
    fn full_disk_is_a_failure_that_names_the_place() {
        let failure = run(async {
            let mut output = Output::create(Some(Path::new("/dev/full"))).unwrap();
            output.put(b"x");
            output.finish().await.unwrap_err()
        });
        assert_eq!(failure.to_string(), "cannot write to `/dev/full`: no space left on device");
    }

    #[test]
    fn file_that_cannot_be_made_is_named() {
        let failure = Output::create(Some(Path::new("/nowhere/at/all"))).unwrap_err();
        assert_eq!(failure.to_string(), "cannot write to `/nowhere/at/all`: no such file or directory");
    }
}
