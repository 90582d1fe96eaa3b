//! Killing the server in the midst of writing: what was answered is there, byte for byte, and the log goes on.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test that uses them")]

mod application;
mod spool;
mod writers;

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::Duration;

use logd_tests::{Found, Random, RawPeer, TestServer, batch, seed};

const WRITERS: usize = 3;
const TOPICS: [&str; 2] = ["default", "other"];

/// How many batches a writer has sent before it reads the first answer.
const IN_FLIGHT: usize = 4;

/// Partitions so small that kills hit rotations too, and so many that none is dropped.
const OPTIONS: &[&str] = &["--partition-size", "300000", "--partitions", "100000"];

#[test]
fn answered_batches_survive_fifty_kills() {
    kill_and_restart(OPTIONS, 50);
}

#[test]
fn answered_batches_survive_kills_with_a_sync_for_every_batch() {
    kill_and_restart(&[OPTIONS, &["--flush-batches", "1"]].concat(), 15);
}

#[test]
fn answered_batches_survive_kills_with_a_sync_now_and_then() {
    kill_and_restart(&[OPTIONS, &["--flush-interval", "5ms"]].concat(), 10);
}

/// What a writer knows of a batch that was answered.
#[derive(Debug, Clone)]
struct Answered {
    topic: &'static str,
    offset: u64,
    batch: Vec<u8>,
}

/// What a writer did until its connection broke.
#[derive(Debug, Default)]
struct Written {
    answered: Vec<Answered>,
    /// Everything that was sent, answered or not.
    sent: HashSet<Vec<u8>>,
}

fn kill_and_restart(options: &[&str], rounds: usize) {
    let mut random = Random::new(seed());
    let mut server = TestServer::start(options);
    let mut all = Written::default();
    let mut next = [0; TOPICS.len()];
    for round in 0..rounds {
        let written = write_until_killed(&mut server, &mut random, round);
        server.restart();
        expect_answered(&server, &written.answered, &next);
        all.answered.extend(written.answered);
        all.sent.extend(written.sent);
        next = expect_to_go_on(&server, &mut all, round);
    }
    assert!(all.answered.len() > rounds * 5, "only {} batches were answered", all.answered.len());
    expect_answered(&server, &all.answered, &[0; TOPICS.len()]);
    for topic in TOPICS {
        expect_whole(&server, topic, &all.sent);
    }
}

/// Has several connections append until the server is killed, some time after they began.
fn write_until_killed(server: &mut TestServer, random: &mut Random, round: usize) -> Written {
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (peer, random) = (server.peer(), Random::new(random.any()));
            thread::spawn(move || write(peer, random, &format!("round {round}, writer {writer}")))
        })
        .collect();
    // The moment of the kill is what is random here; nothing waits for anything.
    thread::sleep(Duration::from_micros(2000 + random.any() % 120_000));
    server.kill9();
    let mut all = Written::default();
    for writer in writers {
        let written = writer.join().expect("a writer ends when its connection does");
        all.answered.extend(written.answered);
        all.sent.extend(written.sent);
    }
    all
}

/// Appends batches, several in flight, until the connection breaks.
fn write(mut peer: RawPeer, mut random: Random, name: &str) -> Written {
    let mut written = Written::default();
    let mut unanswered = std::collections::VecDeque::new();
    for number in 0.. {
        let topic = TOPICS[random.below(TOPICS.len())];
        let length = random.below(20_000);
        let sent = batch(topic, &[format!("{name}, number {number}").as_bytes(), &random.bytes(length)]);
        written.sent.insert(sent.clone());
        let result = peer.try_send(&sent);
        unanswered.push_back((topic, sent));
        if result.is_err() {
            break;
        }
        if unanswered.len() >= IN_FLIGHT && !take_answer(&mut peer, &mut unanswered, &mut written.answered) {
            break;
        }
    }
    while take_answer(&mut peer, &mut unanswered, &mut written.answered) {}
    written
}

/// Reads the answer to the oldest unanswered batch; `false` when there is none.
fn take_answer(
    peer: &mut RawPeer,
    unanswered: &mut std::collections::VecDeque<(&'static str, Vec<u8>)>,
    answered: &mut Vec<Answered>,
) -> bool {
    let Some((topic, batch)) = unanswered.pop_front() else { return false };
    match peer.try_read_line() {
        Ok(line) => {
            let offset = line.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" 1"));
            let offset = offset.and_then(|offset| offset.parse().ok());
            let offset = offset.unwrap_or_else(|| panic!("a batch was answered `{line}`"));
            answered.push(Answered { topic, offset, batch });
            true
        }
        Err(error) => {
            assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "the server hung before it was killed");
            false
        }
    }
}

/// Expects that every answered batch is at its offset, which is not before that of its topic in `next`.
fn expect_answered(server: &TestServer, answered: &[Answered], next: &[u64; TOPICS.len()]) {
    let mut peer = server.peer();
    for Answered { topic, offset, batch } in answered {
        let earliest = TOPICS.iter().zip(next).find(|(name, _)| *name == topic).map_or(0, |(_, next)| *next);
        assert!(*offset >= earliest, "offset {offset} was given twice in topic `{topic}`");
        match peer.find(&format!("READ {topic} {offset} 1")) {
            Found::Batches { offset: found, batches } => {
                assert_eq!(found, *offset);
                assert!(batches == [batch.clone()], "topic `{topic}` has another batch at {offset}");
            }
            Found::Nothing(reason) => panic!(
                "topic `{topic}` has lost the batch at {offset} (`ERR {reason}`); the server said:\n{}",
                server.stderr()
            ),
        }
    }
}

/// Appends a batch to every topic and expects it at the head. Returns where the topics end then.
fn expect_to_go_on(server: &TestServer, all: &mut Written, round: usize) -> [u64; TOPICS.len()] {
    let mut peer = server.peer();
    TOPICS.map(|topic| {
        peer.send(format!("HEAD {topic}\r\n").as_bytes());
        let line = peer.read_line();
        let head = line.split(' ').nth(1).and_then(|head| head.parse().ok()).unwrap_or(0);
        let batch = batch(topic, &[format!("after round {round}").as_bytes()]);
        let offset = peer.append(&batch);
        assert_eq!(offset, head, "topic `{topic}` goes on where it ended");
        let end = offset + batch.len() as u64;
        all.sent.insert(batch.clone());
        all.answered.push(Answered { topic, offset, batch });
        end
    })
}

/// Expects that a topic is a row of whole batches from its first byte to its head, each of which was sent.
fn expect_whole(server: &TestServer, topic: &str, sent: &HashSet<Vec<u8>>) {
    let mut peer = server.peer();
    let mut next = 0;
    while let Found::Batches { offset, batches } = peer.find(&format!("READ {topic} {next} 1000")) {
        assert_eq!(offset, next);
        for batch in batches {
            assert!(sent.contains(&batch), "topic `{topic}` has a batch at {next} that nobody sent");
            next += batch.len() as u64;
        }
    }
    peer.send(format!("HEAD {topic}\r\n").as_bytes());
    assert!(peer.read_line().starts_with(&format!("OK {next} ")), "topic `{topic}` ends at {next}");
}
