//! Where lines come from: standard input or a file, in large blocks.
//!
//! A thread of its own reads, since reading a pipe or a terminal can wait for ever. At most [`BLOCKS`] blocks wait to
//! be taken. The thread is never joined: it ends with the input, or with the process.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::exit::Failure;
use crate::output::reason;

/// The most bytes of a block. A pipe gives 64 KiB at most, a file as much as is asked for.
const BLOCK_BYTES: usize = 256 * 1024;
/// How many blocks can wait.
const BLOCKS: usize = 4;
/// After a stop: how long the thread is given to hand over a block that it has read.
const HAND_OVER_TIME: Duration = Duration::from_millis(50);

/// A file that is open for reading.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    file: File,
}

impl Source {
    /// Opens the file at `path`; standard input for none and for `-`.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name = path.map_or_else(|| "standard input".into(), |path| format!("`{}`", path.display()));
        let file = match path {
            Some(path) => File::open(path),
            None => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        };
        match file {
            Ok(file) => Ok(Self { name, file }),
            Err(error) => Err(read_failure(&name, &error)),
        }
    }

    /// Starts to read.
    pub(crate) fn start(self) -> (Input, Stop) {
        let Self { name, mut file } = self;
        let (stop, stopped) = watch::channel(false);
        let (blocks, full) = mpsc::channel(BLOCKS);
        let thread_stopped = stopped.clone();
        thread::spawn(move || {
            let mut buffer = vec![0; BLOCK_BYTES];
            while !*thread_stopped.borrow() {
                let block = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(bytes) => Ok(buffer.get(..bytes).unwrap_or_default().to_vec()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = block.is_err();
                if blocks.blocking_send(block).is_err() || failed {
                    break;
                }
            }
        });
        (Input { name, blocks: full, stopped }, Stop(stop))
    }
}

/// The blocks of a source.
#[derive(Debug)]
pub(crate) struct Input {
    name: String,
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
    stopped: watch::Receiver<bool>,
}

impl Input {
    /// The next block, never an empty one; `None` at the end. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let stopped = async {
            // Without a `Stop` nobody can stop it any more.
            if self.stopped.wait_for(|stopped| *stopped).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let block = tokio::select! {
            biased;
            block = self.blocks.recv() => block,
            () = stopped => timeout(HAND_OVER_TIME, self.blocks.recv()).await.unwrap_or(None),
        };
        block.transpose().map_err(|error| read_failure(&self.name, &error))
    }

    /// Whether it was stopped, so that its end need not be the source's.
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}

/// Ends an input: what was read is still handed out.
#[derive(Debug)]
pub(crate) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

fn read_failure(name: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot read {name}: {}", reason(error)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn blocks_are_the_bytes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().step_by(7).take(3 * BLOCK_BYTES + 7).collect();
        std::fs::write(&path, &bytes).unwrap();
        let (mut input, _stop) = Source::open(Some(&path)).unwrap().start();
        let mut read = Vec::new();
        run(async {
            while let Some(block) = input.next().await.unwrap() {
                assert!(!block.is_empty());
                read.extend(block);
            }
        });
        assert_eq!(read, bytes);
    }

    #[test]
    fn what_was_read_is_handed_out_after_a_stop_and_then_it_ends() {
        let (reader, mut writer) = io::pipe().unwrap();
        let source = Source { name: "a pipe".into(), file: File::from(OwnedFd::from(reader)) };
        writer.write_all(b"one").unwrap();
        let (mut input, stop) = source.start();
        run(async {
            stop.stop();
            // The thread reads the block before or after it sees the stop; the pipe stays open either way.
            let block = input.next().await.unwrap();
            assert!(block.is_none_or(|block| block == b"one"));
            assert_eq!(input.next().await.unwrap(), None);
            assert!(input.is_stopped());
        });
    }

    #[test]
    fn failures_name_the_file() {
        let failure = Source::open(Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(failure.to_string(), "cannot read `/nowhere`: no such file or directory");
        let (mut input, _stop) = Source::open(Some(Path::new("/"))).unwrap().start();
        let failure = run(input.next()).unwrap_err();
        assert_eq!(failure.to_string(), "cannot read `/`: is a directory");
    }
}
