//! A hundred thousand random and mutated requests: no input may crash, hang, or grow the server.
//!
//! Each connection sends a handful of requests, right ones and ones that were right before a mutation, ends its sending,
//! and reads all answers. Every byte that comes back must be an answer of the protocol, whatever was sent.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use logd_tests::{BOUND, Random, RawPeer, TestServer, batch, checksum, seed, wait_until};

const ANSWERS_MIN: usize = 100_000;
const CONNECTIONS: usize = 4;
const MIB: u64 = 1024 * 1024;

/// How many answers of each kind came, by their first words.
type Counts = BTreeMap<String, usize>;

#[test]
fn hundred_thousand_random_requests_are_survived() {
    let options = ["--max-messages", "100", "--partition-size", "1048576", "--partitions", "2"];
    let mut server = TestServer::start(&options);
    let seed = seed();
    let counts: Vec<Counts> = thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS as u64)
            .map(|number| {
                let random = Random::new(seed.wrapping_add(number << 32));
                scope.spawn(|| hammer(&server, random, ANSWERS_MIN / CONNECTIONS))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("every answer was right")).collect()
    });
    expect_every_kind(&counts);
    assert!(server.is_running(), "the server has ended:\n{}", server.stderr());
    let mut peer = server.peer();
    peer.ask(b"PING\r\n", b"OK\r\n");
    wait_until("the other connections are gone", BOUND, || peer.stats().count("conns.active") == 1);
    let resident = server.resident_bytes();
    assert!(resident < 50 * MIB, "the server has {resident} bytes of memory");
    assert!(!server.stderr().contains("panicked"), "the server has panicked:\n{}", server.stderr());
    for topic in ["default", "a", "b"] {
        peer.find(&format!("TAIL {topic} 100")).batches();
    }
}

#[test]
fn idle_server_is_small() {
    let server = TestServer::start(&[]);
    server.peer().ask(b"PING\r\n", b"OK\r\n");
    let resident = server.resident_bytes();
    assert!(resident < 15 * MIB, "the server has {resident} bytes of memory");
}

/// Sends requests over one connection after another until so many were answered.
fn hammer(server: &TestServer, mut random: Random, answers: usize) -> Counts {
    let mut counts = Counts::new();
    while counts.values().sum::<usize>() < answers {
        let mut peer = server.peer();
        // Mutation can ask for a long wait; the next connection goes on then.
        peer.set_read_timeout(Duration::from_millis(500));
        let mut sent = Vec::new();
        for _ in 0..=random.below(40) {
            let mut request = right_request(&mut random);
            if random.below(3) == 0 {
                mutate(&mut random, &mut request);
            }
            sent.extend_from_slice(&request);
        }
        // The server closes as soon as it cannot go on.
        if peer.try_send(&sent).is_ok() {
            peer.finish_sending_if_open();
        }
        count_answers(&read_all(&mut peer), &mut counts);
    }
    counts
}

fn read_all(peer: &mut RawPeer) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(some) = peer.read_some(1024 * 1024) {
        if some.is_empty() {
            break;
        }
        bytes.extend_from_slice(&some);
    }
    bytes
}

fn right_request(random: &mut Random) -> Vec<u8> {
    let topic = random.one_of(&["default", "default", "a", "b", "unknown"]);
    let messages = 1 + random.below(100);
    let text = match random.below(40) {
        0..10 => {
            let messages: Vec<Vec<u8>> = (0..=random.below(4))
                .map(|_| {
                    let length = random.below(200);
                    random.bytes(length)
                })
                .collect();
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            let topic = if topic == "unknown" { "a" } else { topic };
            return batch(topic, &messages);
        }
        10..18 => format!("READ {topic} 0 {messages}\r\n"),
        18..22 => format!("READ {topic} {} {messages}\r\n", random.below(10_000)),
        22 => format!("READ {topic} {} 1 wait={}\r\n", random.below(100), random.below(5)),
        23..28 => format!("TAIL {topic} {}\r\n", random.below(3)),
        28..31 => format!("HEAD {topic}\r\n"),
        31..33 => "TOPICS\r\n".to_owned(),
        33..36 => "PING\r\n".to_owned(),
        36 => "STATS\r\n".to_owned(),
        37 => "CONFIG\r\n".to_owned(),
        38 => "CLOSE\r\n".to_owned(),
        _ => format!("BATCH {} {topic} 1 1\r\n", 65_000 + random.below(2000)),
    };
    text.into_bytes()
}

/// Changes a request a little, so that most of it still looks right.
fn mutate(random: &mut Random, request: &mut Vec<u8>) {
    let at = random.below(request.len());
    let end = at + random.below(request.len() - at + 1);
    match random.below(9) {
        0 => request[at] ^= 1 << random.below(8),
        1 => request.truncate(at),
        2 => {
            let length = 1 + random.below(8);
            let bytes = random.bytes(length);
            request.splice(at..at, bytes);
        }
        3 => {
            let repeated = request[at..end].repeat(1 + random.below(20));
            request.splice(at..at, repeated);
        }
        4 => {
            request.drain(at..end);
        }
        5 => replace_a_number(random, request),
        6 => repair_checksum(random, request),
        7 => request.insert(at, *random.one_of(&[&b' ', &b'\r', &b'\n', &b'\0', &b'.', &b'/', &b'='])),
        _ => {
            let word = random.one_of(&[" word", " wait=1", " wait=x", " wait=99999999999", " a=b", " "]);
            let line = request.iter().position(|byte| *byte == b'\r').unwrap_or(at);
            request.splice(line..line, word.bytes());
        }
    }
}

fn replace_a_number(random: &mut Random, request: &mut Vec<u8>) {
    let numbers = [
        "0",
        "1",
        "65536",
        "16777217",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999999999999",
        "-1",
        "+1",
        "0x10",
        "1e3",
        "",
    ];
    let digits: Vec<usize> = (0..request.len()).filter(|at| request[*at].is_ascii_digit()).collect();
    if digits.is_empty() {
        return;
    }
    let at = digits[random.below(digits.len())];
    let before = request[..at].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let after = request[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    request.splice(at - before..at + after, random.one_of(&numbers).bytes());
}

/// Gives a batch a random body with the right checksum, so that what checks the frames is reached.
fn repair_checksum(random: &mut Random, request: &mut Vec<u8>) {
    let start: &[u8] =
        random.one_of(&[b"MSG 5\r\nhello\r\n".as_slice(), b"MSG ", b"MSG 18446744073709551615\r\n", b""]);
    let length = random.below(60);
    let body = [start, &random.bytes(length)].concat();
    let mut envelope = format!("BATCH {} default {} 1\r\n", body.len(), checksum(&body)).into_bytes();
    envelope.extend_from_slice(&body);
    *request = envelope;
}

/// Takes apart what a server sent: every answer whole, but for the last, which the end of the connection can cut.
fn count_answers(mut bytes: &[u8], counts: &mut Counts) {
    while let Some((line, rest)) = split_line(bytes) {
        let words: Vec<&str> = line.split(' ').collect();
        bytes = match words.as_slice() {
            ["OK"] | ["ERR", ..] => rest,
            ["OK", _, batches] if rest.starts_with(b"BATCH ") => {
                skip_batches(rest, batches.parse().expect("a count is a number"))
            }
            ["OK", offset, count] => {
                offset.parse::<u64>().expect("an offset is a number");
                count.parse::<u64>().expect("a count is a number");
                rest
            }
            ["MOK", length] => {
                let length: usize = length.parse().expect("a length is a number");
                rest.get(length + 2..).unwrap_or_default()
            }
            _ => panic!("`{line}` is no answer"),
        };
        let kind = if words[0] == "ERR" { line } else { words[0].to_owned() };
        *counts.entry(kind).or_default() += 1;
    }
}

fn skip_batches(mut bytes: &[u8], count: usize) -> &[u8] {
    for _ in 0..count {
        let Some((line, rest)) = split_line(bytes) else { return b"" };
        let words: Vec<&str> = line.split(' ').collect();
        let ["BATCH", body_bytes, _, crc, _] = words.as_slice() else { panic!("`{line}` is no envelope") };
        let Some((body, rest)) = rest.split_at_checked(body_bytes.parse().expect("a number")) else {
            return b"";
        };
        assert_eq!(checksum(body).to_string(), *crc, "checksum of `{line}`");
        bytes = rest;
    }
    bytes
}

fn split_line(bytes: &[u8]) -> Option<(String, &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), &bytes[end + 2..]))
}

/// Checks that the requests reached every corner: otherwise the test would say little.
fn expect_every_kind(counts: &[Counts]) {
    let kinds = [
        "OK",
        "MOK",
        "ERR not found",
        "ERR invalid request",
        "ERR invalid protocol",
        "ERR checksum mismatch",
        "ERR too large",
        "ERR topic not allowed",
        "ERR maximum topics allowed",
    ];
    for kind in kinds {
        let count: usize = counts.iter().filter_map(|counts| counts.get(kind)).sum();
        assert!(count > 0, "no request was answered `{kind}`: {counts:?}");
    }
}
