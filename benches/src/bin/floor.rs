//! The floor: the least that any server must do to take batches and give them back, as plainly as possible.
//!
//! A blocking thread for each connection receives a request, computes the checksum, appends the bytes to a file, and
//! answers; or finds stretches of that file, and has the kernel send them. It speaks as much of the protocol as the loads
//! need, believes every number, and has no limits, no recovery, and no retention. It is a measure, not a product.
//!
//!     floor DIRECTORY [--sync]
//!
//! It prints its address. With `--sync`, what is answered is synced: one sync for all that wait.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use logd_protocol::checksum;

/// What a connection receives into.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A topic: a file, and where its batches are.
struct Topic {
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    /// The batches: where each begins, and how many messages it has.
    batches: Vec<(u64, u64)>,
    end: u64,
    synced: u64,
    is_syncing: bool,
}

struct Floor {
    dir: PathBuf,
    syncs: bool,
    topics: Mutex<HashMap<String, Arc<Topic>>>,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or_else(|| bad("which directory?"))?);
    let syncs = arguments.next().is_some_and(|argument| argument == "--sync");
    let floor = Arc::new(Floor { dir, syncs, topics: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    for stream in listener.incoming() {
        let (stream, floor) = (stream?, Arc::clone(&floor));
        std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            // The load has ended, or its request was not understood: it sees its connection closed.
            let _ = serve(&stream, &floor);
        })?;
    }
    Ok(())
}

fn serve(mut stream: &TcpStream, floor: &Floor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut topics = HashMap::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut end = 0;
    loop {
        let line_end = loop {
            if let Some(at) = part(&buffer, 0, end)?.iter().position(|byte| *byte == b'\n') {
                break at + 1;
            }
            end += receive(stream, &mut buffer, end)?;
        };
        let line = String::from_utf8_lossy(part(&buffer, 0, line_end)?).into_owned();
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let taken = match *words.as_slice() {
            ["BATCH", bytes, name, crc, messages, ..] => {
                let whole = line_end + usize::try_from(number(bytes)?).map_err(|_| bad("too large"))?;
                while end < whole {
                    if buffer.len() < whole {
                        buffer.resize(whole, 0);
                    }
                    end += receive(stream, &mut buffer, end)?;
                }
                if u64::from(checksum(part(&buffer, line_end, whole)?)) != number(crc)? {
                    return Err(bad("the checksum is wrong"));
                }
                let topic = floor.topic(&mut topics, name)?;
                let offset = topic.append(part(&buffer, 0, whole)?, number(messages)?, floor.syncs)?;
                stream.write_all(format!("OK {offset} 1\r\n").as_bytes())?;
                whole
            }
            ["READ", name, offset, messages] => {
                let topic = floor.topic(&mut topics, name)?;
                topic.send(stream, number(offset)?, number(messages)?)?;
                line_end
            }
            _ => return Err(bad("only BATCH and READ")),
        };
        buffer.copy_within(taken..end, 0);
        end -= taken;
    }
}

impl Floor {
    fn topic(&self, known: &mut HashMap<String, Arc<Topic>>, name: &str) -> io::Result<Arc<Topic>> {
        if let Some(topic) = known.get(name) {
            return Ok(Arc::clone(topic));
        }
        let mut topics = lock(&self.topics);
        if !topics.contains_key(name) {
            let file = File::options().create_new(true).read(true).write(true).open(self.dir.join(name))?;
            let topic = Topic { file, state: Mutex::default(), synced: Condvar::new() };
            topics.insert(name.to_owned(), Arc::new(topic));
        }
        let topic = topics.get(name).ok_or_else(|| bad("no topic"))?;
        known.insert(name.to_owned(), Arc::clone(topic));
        Ok(Arc::clone(topic))
    }
}

impl Topic {
    fn append(&self, batch: &[u8], messages: u64, syncs: bool) -> io::Result<u64> {
        let mut state = lock(&self.state);
        let offset = state.end;
        self.file.write_all_at(batch, offset)?;
        state.end += batch.len() as u64;
        state.batches.push((offset, messages));
        if syncs {
            self.sync(state, offset + batch.len() as u64)?;
        }
        Ok(offset)
    }

    /// Waits until everything before `end` is synced. Who finds nobody at it syncs for all.
    fn sync<'a>(&'a self, mut state: MutexGuard<'a, State>, end: u64) -> io::Result<()> {
        while state.synced < end {
            if state.is_syncing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_syncing = true;
            let all = state.end;
            drop(state);
            self.file.sync_data()?;
            state = lock(&self.state);
            state.is_syncing = false;
            state.synced = all;
            self.synced.notify_all();
        }
        Ok(())
    }

    /// Sends the batches from `offset` on until there are enough messages.
    fn send(&self, mut stream: &TcpStream, offset: u64, messages: u64) -> io::Result<()> {
        let state = lock(&self.state);
        let first = state.batches.partition_point(|batch| batch.0 < offset);
        let mut found = 0;
        let count = state.batches.iter().skip(first).take_while(|batch| {
            let is_wanted = found < messages;
            found += batch.1;
            is_wanted
        });
        let count = count.count();
        let end = state.batches.get(first + count).map_or(state.end, |batch| batch.0);
        drop(state);
        if count == 0 {
            return stream.write_all(b"ERR not found\r\n");
        }
        stream.write_all(format!("OK {offset} {count}\r\n").as_bytes())?;
        let mut at = offset;
        while at < end {
            let bytes = usize::try_from(end - at).map_err(|_| bad("too large"))?;
            if rustix::fs::sendfile(stream, &self.file, Some(&mut at), bytes)? == 0 {
                return Err(bad("the file has become shorter"));
            }
        }
        Ok(())
    }
}

fn receive(mut stream: &TcpStream, buffer: &mut [u8], end: usize) -> io::Result<usize> {
    match stream.read(buffer.get_mut(end..).unwrap_or_default())? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
    }
}

fn part(buffer: &[u8], start: usize, end: usize) -> io::Result<&[u8]> {
    buffer.get(start..end).ok_or_else(|| bad("no such part"))
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| bad("no number"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
