//! `write` against servers that know `dedup`: several batches are under way when something fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use logd_cli::Exit;
use rustix::process::Signal;

use crate::support::{Running, TestServer, run, wait_for};

/// What a scripted server does with a batch.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Its offset is its number in hundreds.
    Offset,
    Refuse,
    /// Closes the connection without a word.
    Close,
    Silence,
}

/// A batch that came: on which connection, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Came {
    connection: usize,
    seq: u64,
}

/// A server that knows `dedup` and does with each batch what `script` says. Connections are counted from 0, which is the
/// one on which only the settings are asked for. Returns its address, and where it notes what came.
fn scripted(script: fn(Came) -> Answer) -> (String, Arc<Mutex<Vec<Came>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let came = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&came);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let noted = Arc::clone(&noted);
            thread::spawn(move || serve(connection, stream.unwrap(), script, &noted));
        }
    });
    (host, came)
}

fn serve(
    connection: usize,
    mut stream: TcpStream,
    script: fn(Came) -> Answer,
    noted: &Mutex<Vec<Came>>,
) -> Option<()> {
    const CONFIG: &str = "Host: x\r\nMaxBatchSize: 65536\r\nFeatures: dedup\r\n";
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["CONFIG"] => write!(stream, "MOK {}\r\n{CONFIG}\r\n", CONFIG.len()).ok()?,
            ["BATCH", bytes, .., seq] => {
                reader.read_exact(&mut vec![0; bytes.parse().unwrap()]).ok()?;
                let seq = seq.strip_prefix("seq=").unwrap().parse().unwrap();
                let came = Came { connection, seq };
                noted.lock().unwrap().push(came);
                match script(came) {
                    Answer::Offset => write!(stream, "OK {} 1\r\n", 100 * seq).ok()?,
                    Answer::Refuse => write!(stream, "ERR maximum topics allowed\r\n").ok()?,
                    Answer::Close => return None,
                    Answer::Silence => {}
                }
            }
            _ => return None,
        }
    }
}

/// So many lines of which each fills a batch of 512 bytes.
fn lines(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("{number:03}{}\n", "x".repeat(400)).into_bytes()).collect()
}

#[test]
fn nothing_is_in_the_topic_behind_the_first_line_that_was_not_delivered() {
    // A new connection would be given what is behind the refused batch.
    let (host, came) = scripted(|came| match came {
        Came { connection: 1, seq: 3.. } => Answer::Refuse,
        _ => Answer::Offset,
    });
    let finished = run(&host, &["write", "--batch-size", "512", "-c"], &lines(20));
    assert_eq!(finished.code, i32::from(Exit::Refused.code()), "{}", finished.stderr);
    assert!(
        finished.stderr.ends_with("; `2` messages were delivered, line `3` is the first that was not\n"),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.starts_with("messages: 2\nbatches: 2\nbytes: 806\n"), "{}", finished.stderr);
    assert_eq!(finished.stdout, b"100\n200\n");
    assert!(came.lock().unwrap().iter().all(|came| came.connection == 1), "{came:?}");
}

#[test]
fn batches_under_way_on_a_lost_connection_are_sent_again_as_the_same() {
    let (host, came) = scripted(|came| match came {
        Came { connection: 1, seq: 3.. } => Answer::Close,
        _ => Answer::Offset,
    });
    let finished = run(&host, &["write", "--batch-size", "512", "--retry-interval", "1ms"], &lines(9));
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    assert_eq!(finished.stdout, b"100\n200\n300\n400\n500\n600\n700\n800\n900\n");
    let came = came.lock().unwrap();
    assert!(came.contains(&Came { connection: 1, seq: 3 }), "{came:?}");
    assert!(came.contains(&Came { connection: 2, seq: 3 }), "{came:?}");
}

#[test]
fn all_batches_under_way_are_in_doubt_when_no_connection_tells() {
    let (host, _) = scripted(|came| match came {
        Came { connection: 1, seq: 1 } => Answer::Offset,
        _ => Answer::Close,
    });
    let arguments = &["write", "--batch-size", "512", "--retries", "2", "--retry-interval", "1ms"];
    let finished = run(&host, arguments, &lines(9));
    let line = finished.failed_with(Exit::Unreachable);
    let text =
        "; `1` messages were delivered, line `2` is the first that was not for sure: those up to line `";
    let last: u64 = line.split_once(text).unwrap().1.split('`').next().unwrap().parse().unwrap();
    assert!((2..=5).contains(&last) && line.ends_with("` were sent, and no answer tells"), "{line}");
    assert_eq!(finished.stdout, b"100\n");
}

#[test]
fn failure_is_told_while_the_input_stays_open() {
    let server = TestServer::start_with(|config| config.topics_whitelist = vec!["allowed".parse().unwrap()]);
    let start = Instant::now();
    let mut writer = server.spawn(&["write", "--topic", "other"]);
    writer.write(b"one\ntwo\n");
    // What is left is to wait for nothing.
    let finished = writer.finish();
    let line = finished.failed_with(Exit::Refused);
    assert!(line.ends_with("`0` messages were delivered, line `1` is the first that was not"), "{line}");
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
}

#[test]
fn second_signal_ends_a_write_that_nobody_answers() {
    let (host, came) = scripted(|_| Answer::Silence);
    let mut writer = Running::start(&host, &["write"]);
    writer.write(b"one\n");
    wait_for("the line is sent", || (!came.lock().unwrap().is_empty()).then_some(()));
    let start = Instant::now();
    // Two different ones are two, also when both come before it looks; which it sees first is open then.
    writer.signal(Signal::INT);
    writer.signal(Signal::TERM);
    let finished = writer.finish();
    let exits = [Exit::Interrupted, Exit::Terminated].map(|exit| i32::from(exit.code()));
    assert!(exits.contains(&finished.code), "{finished:?}");
    let expected =
        "log-cli: interrupted: `0` messages were delivered, line `1` is the first that was not for sure\n";
    assert_eq!(finished.stderr, expected);
    assert!(start.elapsed() < Duration::from_secs(4), "it took {:?}", start.elapsed());
}

#[test]
fn every_line_is_in_the_topic_once_although_the_server_restarts() {
    let mut server = TestServer::start();
    let host = server.host();
    let input = lines(30_000);
    let expected = input.clone();
    let writing = thread::spawn(move || {
        run(&host, &["write", "--batch-size", "4KiB", "--retry-interval", "20ms"], &input)
    });
    for restart in 0..3 {
        let size = || std::fs::metadata(server.partition("default")).map_or(0, |file| file.len());
        let before = size();
        wait_for("the topic grows, or all is written", || {
            (size() > before + 100_000 || writing.is_finished()).then_some(())
        });
        assert!(restart > 0 || !writing.is_finished(), "all was written before the first restart");
        server.stop();
        server.start_again();
    }
    let finished = writing.join().unwrap();
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
    assert!(server.done(&["read"], b"") == expected);
    for offset in String::from_utf8(finished.stdout).unwrap().lines().step_by(500) {
        server.done(&["read", "--offset", offset, "--limit", "1"], b"");
    }
}
