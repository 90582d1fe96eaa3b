//! `read --since` and `--until`.

use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_millis;
use logd_cli::Exit;

use crate::support::{TestServer, command, run, scripted, wait_for};

/// Lines of 1000 bytes, more than twice what one time of the server stands for.
fn phase(letter: char) -> String {
    format!("{}\n", letter.to_string().repeat(999)).repeat(200)
}

/// A time that nothing arrived at and nothing will arrive at, but a millisecond before and after at the earliest.
fn mark() -> SystemTime {
    let pass = |time| wait_for("the clock goes on", || (SystemTime::now() > time).then_some(()));
    pass(SystemTime::now() + Duration::from_millis(2));
    let mark = SystemTime::now();
    pass(mark + Duration::from_millis(2));
    mark
}

/// Three phases, and the times between them.
fn write_phases(server: &TestServer) -> [SystemTime; 2] {
    let write = |letter| server.done(&["write", "--batch-size", "4KiB"], phase(letter).as_bytes());
    write('a');
    let first = mark();
    write('b');
    let second = mark();
    write('c');
    [first, second]
}

/// How many lines begin with each letter, after they were found to be in order.
fn counts(lines: &[u8]) -> [usize; 3] {
    let firsts: Vec<char> = lines.chunks(1000).map(|line| line[0].into()).collect();
    assert!(firsts.is_sorted());
    ['a', 'b', 'c'].map(|letter| firsts.iter().filter(|first| **first == letter).count())
}

/// Whether so many of a phase's lines are no more than come too early or too late: 64 KiB and a batch.
fn are_few(lines: usize) -> bool {
    lines <= (64 + 4) * 1024 / 1000
}

#[test]
fn what_arrived_between_two_times_is_read() {
    let server = TestServer::start();
    let marks = write_phases(&server);
    let [first, second] = marks.map(|mark| format_rfc3339_millis(mark).to_string());

    let [a, b, c] = counts(&server.done(&["read", "--since", &first], b""));
    assert!(are_few(a) && (b, c) == (200, 200), "since the first: {a}, {b}, {c}");
    let [a, b, c] = counts(&server.done(&["read", "--until", &first], b""));
    assert!(a == 200 && are_few(b) && c == 0, "until the first: {a}, {b}, {c}");
    let [a, b, c] = counts(&server.done(&["read", "--since", &first, "--until", &second], b""));
    assert!(are_few(a) && b == 200 && are_few(c), "between: {a}, {b}, {c}");
    let followed = server.done(&["read", "-F", "--since", &first, "--until", &second], b"");
    assert_eq!(counts(&followed), [a, b, c]);

    assert_eq!(counts(&server.done(&["read", "--since", "1h"], b"")), [200; 3]);
    assert_eq!(counts(&server.done(&["read", "--since", "1h", "--until", "0s"], b"")), [200; 3]);
    assert_eq!(counts(&server.done(&["read", "--since", "2000-01-01", "--limit", "7"], b"")), [7, 0, 0]);
    assert_eq!(server.done(&["read", "--until", "1h30m"], b""), b"");
    assert_eq!(server.done(&["read", "--since", "2999-01-01T00:00"], b""), b"");
    let offset = server.done(&["read", "--offset", "0", "--until", &second], b"");
    assert!(counts(&offset).starts_with(&[200, 200]));
}

#[test]
fn a_time_without_a_zone_is_in_that_of_the_machine() {
    let server = TestServer::start();
    let [first, _] = write_phases(&server);
    let local = format_rfc3339_millis(first + Duration::from_secs(3 * 3600)).to_string();
    let local = local.trim_end_matches('Z');
    let read = command(&server.host(), &["read", "--since", local]).env("TZ", "XXX-3").output().unwrap();
    let [a, b, c] = counts(&read.stdout);
    assert!(are_few(a) && (b, c) == (200, 200), "{a}, {b}, {c}");
    // The same text is three hours from now elsewhere.
    let read = command(&server.host(), &["read", "--since", local]).env("TZ", "UTC0").output().unwrap();
    assert_eq!((read.status.code(), read.stdout.len()), (Some(0), 0));
}

#[test]
fn following_since_a_time_goes_on_with_what_comes() {
    let server = TestServer::start();
    let mut follower = server.spawn(&["read", "-F", "--since", "10m", "--topic", "later"]);
    let write = |line: &[u8]| server.done(&["write", "--topic", "later"], line);
    write(b"one\n");
    assert_eq!(follower.line(), "one\n");
    write(b"two\n");
    assert_eq!(follower.line(), "two\n");
}

#[test]
fn following_until_a_time_to_come_ends_by_itself() {
    let server = TestServer::start();
    server.done(&["write"], b"one\n");
    let until = format_rfc3339_millis(SystemTime::now() + Duration::from_millis(300)).to_string();
    assert_eq!(server.done(&["read", "-F", "--until", &until], b""), b"one\n");
}

#[test]
fn times_that_make_no_sense_are_told() {
    for arguments in [
        &["read", "--since", "10m", "--offset", "0"][..],
        &["read", "--since", "yesterday"],
        &["read", "--until", "24.11.2026"],
        &["read", "--until", "-10m"],
    ] {
        let finished = run("127.0.0.1:1", arguments, b"");
        assert_eq!(finished.code, i32::from(Exit::Usage.code()), "{arguments:?}");
        assert!(finished.stderr.starts_with("log-cli: "), "{}", finished.stderr);
    }
    let finished = run("127.0.0.1:1", &["read", "--since", "5m", "--until", "10m"], b"");
    assert_eq!(finished.failed_with(Exit::Usage), "log-cli: `--since` is later than `--until`");
    let same = run("127.0.0.1:1", &["read", "--since", "5m", "--until", "5m"], b"");
    assert_eq!(same.code, i32::from(Exit::Unreachable.code()), "{}", same.stderr);
}

#[test]
fn a_server_that_knows_no_times_is_told() {
    let (host, _) = scripted(&[]);
    for option in ["--since", "--until"] {
        let finished = run(&host, &["read", option, "10m"], b"");
        let expected =
            format!("log-cli: the server at `{host}` does not know `AT`, which finds the offset of a time");
        assert_eq!(finished.failed_with(Exit::Failed), expected);
    }
}

#[test]
fn a_topic_that_is_not_there_is_told() {
    let server = TestServer::start();
    for option in ["--since", "--until"] {
        let finished = server.cli(&["read", "--topic", "nope", option, "10m"], b"");
        let expected = format!("log-cli: `{}` has no topic `nope`", server.host());
        assert_eq!(finished.failed_with(Exit::Failed), expected);
    }
}
