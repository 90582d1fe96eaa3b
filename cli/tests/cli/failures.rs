//! Failures: what is said, and with which exit code.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use logd_cli::Exit;

use crate::support::{Script, TestServer, command, run, scripted, wait_for};

#[test]
fn server_that_is_not_there_is_told_at_once_with_what_to_do() {
    // A port that was free a moment ago.
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for arguments in [
        &["write", "hello"][..],
        &["write"],
        &["read"],
        &["read", "-F"],
        &["topics"],
        &["head"],
        &["stats"],
        &["config"],
        &["ping"],
    ] {
        let start = Instant::now();
        let finished = run(&host, arguments, b"hello\n");
        let expected = format!(
            "log-cli: cannot connect to `{host}`: connection refused (is logd running? start it with `logd`, or \
             name another address with `--host`)"
        );
        assert_eq!(finished.failed_with(Exit::Unreachable), expected);
        assert!(start.elapsed() < Duration::from_secs(5), "{arguments:?} took {:?}", start.elapsed());
        assert_eq!(finished.stdout, b"");
    }
}

#[test]
fn arguments_that_make_no_sense_are_told() {
    for arguments in [
        &["bogus"][..],
        &[],
        &["write", "--batch-size", "511"],
        &["write", "--topic", "a/b"],
        &["read", "--offset", "x"],
        &["read", "--limit", "-1"],
        &["read", "--timeout", "0s"],
        &["read", "--host", "127.0.0.1"],
        &["write", "hello", "--input", "x"],
    ] {
        let finished = run("127.0.0.1:1", arguments, b"");
        assert_eq!(finished.code, i32::from(Exit::Usage.code()), "{arguments:?}");
        assert!(finished.stderr.starts_with("log-cli: "), "{}", finished.stderr);
    }
}

#[test]
fn unknown_topic_is_told_and_not_read_as_empty() {
    let server = TestServer::start();
    for arguments in [
        &["read", "--topic", "nope"][..],
        &["read", "--topic", "nope", "--offset", "0"],
        &["head", "--topic", "nope"],
    ] {
        let finished = server.cli(arguments, b"");
        assert_eq!(
            finished.failed_with(Exit::Failed),
            format!("log-cli: `{}` has no topic `nope`", server.host())
        );
    }
}

#[test]
fn offset_that_is_no_batchs_is_told() {
    let server = TestServer::start();
    server.done(&["write", "hello", "world!"], b"");
    for (offset, place) in [
        ("7", "it has batches from `0` to `90`, and `read --numbers` shows where"),
        ("91", "it ends at `90`"),
    ] {
        let finished = server.cli(&["read", "--offset", offset], b"");
        let expected = format!("log-cli: no batch of topic `default` starts at offset `{offset}`: {place}");
        assert_eq!(finished.failed_with(Exit::Failed), expected);
    }
    let follower = server.cli(&["read", "-F", "--offset", "7"], b"");
    assert!(follower.failed_with(Exit::Failed).contains("starts at offset `7`"));
    let finished = server.cli(&["read", "--offset", "0.3"], b"");
    assert!(finished.failed_with(Exit::Failed).contains("`0.3`"));
}

#[test]
fn line_that_is_too_long_is_named_and_all_before_it_is_delivered() {
    let server = TestServer::start();
    let long = "x".repeat(600);
    let input = format!("one\ntwo\n\n{long}\nfive\n");
    let finished = server.cli(&["write", "--batch-size", "512"], input.as_bytes());
    let line = finished.failed_with(Exit::Failed);
    assert!(
        line.starts_with(
            "log-cli: line 4 has `600` bytes: the longest that fits a batch of `512` bytes has `4"
        )
    );
    assert!(line.ends_with("; `3` messages were delivered"), "{line}");
    assert_eq!(finished.stdout, b"0\n");
    assert_eq!(server.done(&["read"], b""), b"one\ntwo\n\n");
}

#[test]
fn line_without_end_does_not_fill_the_memory() {
    let server = TestServer::start();
    let mut running = server.spawn(&["write"]);
    // It ends although the line does not, and its input is still open.
    let mut stdin = running.stdin.take().unwrap();
    let feeder =
        std::thread::spawn(move || while std::io::Write::write_all(&mut stdin, &[b'x'; 8192]).is_ok() {});
    let finished = running.finish();
    feeder.join().unwrap();
    assert!(finished.failed_with(Exit::Failed).contains("line 1 has more than `"), "{}", finished.stderr);
}

#[test]
fn input_that_cannot_be_read_is_named() {
    let server = TestServer::start();
    let finished = server.cli(&["write", "--input", "/nowhere/at/all"], b"");
    assert_eq!(
        finished.failed_with(Exit::Failed),
        "log-cli: cannot read `/nowhere/at/all`: no such file or directory"
    );
    let finished = server.cli(&["write", "--input", "/"], b"");
    assert!(finished.failed_with(Exit::Failed).starts_with("log-cli: cannot read `/`: is a directory"));
}

#[test]
fn output_that_cannot_be_written_is_told_and_the_messages_are_delivered() {
    let server = TestServer::start();
    let finished = server.cli(&["write", "hello", "--output", "/dev/full"], b"");
    assert_eq!(
        finished.failed_with(Exit::Failed),
        "log-cli: cannot write to `/dev/full`: no space left on device; all `1` messages were delivered"
    );
    assert_eq!(server.done(&["read"], b""), b"hello\n");
}

#[test]
fn refusal_of_the_server_is_told() {
    let server = TestServer::start_with(|config| config.topics_whitelist = vec!["allowed".parse().unwrap()]);
    let finished = server.cli(&["write", "--topic", "other", "hello"], b"");
    let line = finished.failed_with(Exit::Refused);
    assert!(line.contains("`topic not allowed`"), "{line}");
    assert!(line.ends_with("`0` messages were delivered, message `1` is the first that was not"), "{line}");
}

#[test]
fn peer_that_is_no_logd_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let finished = run(&host, &["ping"], b"");
    assert!(finished.failed_with(Exit::Refused).contains(&host), "{}", finished.stderr);
}

/// Five lines of which each fills a batch of 512 bytes.
fn five_lines() -> Vec<u8> {
    (1..=5).flat_map(|number| format!("{number}{}\n", "x".repeat(400)).into_bytes()).collect()
}

#[test]
fn batch_that_is_refused_midway_ends_the_write_and_the_first_line_not_delivered_is_named() {
    let (host, bodies) = scripted(&[
        Script::Answer("OK 0 1\r\n"),
        Script::Answer("OK 450 1\r\n"),
        Script::Answer("ERR maximum topics allowed\r\n"),
    ]);
    let finished = run(&host, &["write", "--batch-size", "512", "-c"], &five_lines());
    assert_eq!(finished.code, i32::from(Exit::Refused.code()));
    assert!(
        finished.stderr.ends_with("; `2` messages were delivered, line `3` is the first that was not\n"),
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.starts_with("messages: 2\nbatches: 2\n"), "{}", finished.stderr);
    assert_eq!(finished.stdout, b"0\n450\n");
    assert_eq!(bodies.lock().unwrap().len(), 3, "nothing is sent behind a batch that failed");
}

#[test]
fn batch_of_unknown_fate_is_told_as_such_and_not_sent_twice() {
    for (last, arguments) in [
        (Script::Close, &["write", "--batch-size", "512"][..]),
        (Script::Silence, &["write", "--batch-size", "512", "--timeout", "200ms"]),
    ] {
        let (host, bodies) = scripted(&[Script::Answer("OK 0 1\r\n"), last]);
        let finished = run(&host, arguments, &five_lines());
        let line = finished.failed_with(Exit::Unreachable);
        assert!(
            line.ends_with("; `1` messages were delivered, line `2` is the first that was not for sure: those up to line `2` were sent, and no answer tells"),
            "{line}"
        );
        assert_eq!(bodies.lock().unwrap().len(), 2);
    }
}

#[test]
fn batch_that_was_surely_not_written_is_sent_again() {
    let (host, bodies) = scripted(&[
        Script::Answer("OK 0 1\r\n"),
        Script::Answer("ERR shutting down\r\n"),
        Script::Answer("OK 450 1\r\n"),
        Script::Answer("OK 900 1\r\n"),
        Script::Answer("OK 1350 1\r\n"),
        Script::Answer("OK 1800 1\r\n"),
    ]);
    let finished = run(&host, &["write", "--batch-size", "512"], &five_lines());
    assert_eq!(
        (finished.code, finished.stdout.as_slice()),
        (0, &b"0\n450\n900\n1350\n1800\n"[..]),
        "{}",
        finished.stderr
    );
    let bodies = bodies.lock().unwrap();
    assert_eq!((bodies.len(), &bodies[1]), (6, &bodies[2]));
}

#[test]
fn server_that_ends_midway_is_told() {
    let mut server = TestServer::start();
    let mut writer = server.spawn(&["write", "--retries", "1"]);
    writer.write(b"one\n");
    assert_eq!(writer.line(), "0\n");
    server.stop();
    writer.write(b"two\n");
    let finished = writer.finish();
    let line = finished.failed_with(Exit::Unreachable);
    assert!(line.ends_with("; `1` messages were delivered, line `2` is the first that was not"), "{line}");
}

#[test]
fn damaged_batch_is_told_and_skipped() {
    let server = TestServer::start();
    for message in ["one", "two", "three"] {
        server.done(&["write", message], b"");
    }
    let path = server.partition("default");
    let bytes = std::fs::read_to_string(&path).unwrap();
    let two = bytes.find("two").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"TWO", u64::try_from(two).unwrap()).unwrap();
    let finished = server.cli(&["read"], b"");
    assert_eq!(finished.code, i32::from(Exit::Damaged.code()), "{}", finished.stderr);
    assert_eq!(finished.stdout, b"one\nthree\n");
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert!(lines[0].starts_with("log-cli: warning: "), "{lines:?}");
    assert_eq!(lines[1..], ["log-cli: some batches are missing or damaged, and were left out"]);
}

#[test]
fn closed_pipe_is_success() {
    let server = TestServer::start();
    let input = vec![b'\n'; 2_000_000];
    server.done(&["write"], &input);
    for arguments in [&["read"][..], &["read", "-n"], &["topics"], &["help"]] {
        let mut child = command(&server.host(), arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let status = wait_for("log-cli notices that nobody reads", || child.try_wait().unwrap());
        let mut stderr = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn messages_are_delivered_although_nobody_reads_the_offsets() {
    let server = TestServer::start();
    let mut child = command(&server.host(), &["write", "--batch-size", "512"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &five_lines()).unwrap();
    drop(stdin);
    let status = wait_for("log-cli ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert_eq!(server.done(&["read"], b""), five_lines());
}
