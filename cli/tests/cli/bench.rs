//! `log-cli bench`: what it counts is what the server has, and what it cannot do is told.

use std::process::Stdio;

use logd_cli::Exit;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Finished, Script, TestServer, command, run, scripted, wait_for};

/// Long enough that every connection has an answer, on a machine that is not overwhelmed.
const SHORT: &str = "200ms";

fn bench(server: &TestServer, arguments: &[&str]) -> Value {
    let arguments = [&["bench", "--json"], arguments].concat();
    let duration = ["--duration", SHORT];
    let is_given = arguments.contains(&"--duration");
    let arguments = if is_given { arguments } else { [&arguments[..], &duration].concat() };
    serde_json::from_slice(&server.done(&arguments, b"")).unwrap()
}

fn json(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap()
}

fn count(phase: &Value, name: &str) -> u64 {
    phase[name].as_u64().expect("the field is a number")
}

/// Next offset and batches of a topic.
fn head(server: &TestServer, topic: &str) -> (u64, u64) {
    let text = String::from_utf8(server.done(&["head", "--topic", topic], b"")).unwrap();
    let mut numbers = text.lines().map(|line| line.split_once(": ").unwrap().1.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Checks that a phase has every field, each plausible beside the others.
fn check_phase(phase: &Value) {
    let fields = [
        "abandoned",
        "batches",
        "batches_per_second",
        "bytes",
        "bytes_per_second",
        "failed",
        "latency_nanos",
        "messages",
        "messages_per_second",
        "seconds",
    ];
    let mut found = keys(phase);
    found.sort_unstable();
    assert_eq!(found, fields);
    let seconds = phase["seconds"].as_f64().unwrap();
    assert!(seconds > 0.0);
    for (amount, rate) in [
        ("bytes", "bytes_per_second"),
        ("batches", "batches_per_second"),
        ("messages", "messages_per_second"),
    ] {
        let amount = phase[amount].as_f64().unwrap();
        assert!(amount > 0.0, "{phase}");
        assert!((phase[rate].as_f64().unwrap() * seconds / amount - 1.0).abs() < 1e-6, "{phase}");
    }
    let latency = ["min", "p50", "p90", "p95", "p99", "max"].map(|name| count(&phase["latency_nanos"], name));
    assert!(latency.is_sorted(), "{latency:?}");
    assert_eq!((count(phase, "failed"), count(phase, "abandoned")), (0, 0));
}

#[test]
fn counts_are_those_of_the_topics() {
    let server = TestServer::start();
    let report = bench(&server, &["--conns", "3", "--topics", "2", "--size", "4KiB"]);
    check_phase(&report["write"]);
    check_phase(&report["read"]);
    let heads = ["bench-0", "bench-1"].map(|topic| head(&server, topic));
    assert!(heads.iter().all(|(_, batches)| *batches > 0), "{heads:?}");
    let bytes: u64 = heads.iter().map(|(next, _)| next).sum();
    let batches: u64 = heads.iter().map(|(_, batches)| batches).sum();
    assert_eq!((count(&report["write"], "bytes"), count(&report["write"], "batches")), (bytes, batches));
    assert!(bytes <= batches * 4096 && bytes > batches * 3900, "{bytes} bytes in {batches} batches");
    // Each batch has as many messages as the others.
    assert_eq!(count(&report["write"], "messages") % batches, 0);
    assert_eq!(report["topics"], serde_json::json!(["bench-0", "bench-1"]));
    assert_eq!((count(&report, "connections"), count(&report, "batch_bytes_max")), (3, 4096));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["host"], server.host());
    assert_eq!((&report["failure"], &report["interrupted"]), (&Value::Null, &Value::Bool(false)));
    assert_eq!(report["message_bytes"], Value::Null);
}

#[test]
fn phases_can_be_measured_alone() {
    let server = TestServer::start();
    let options = ["--conns", "2", "--size", "1KiB", "--topic-prefix", "load."];
    let written = bench(&server, &[&options[..], &["--only-write"]].concat());
    check_phase(&written["write"]);
    assert_eq!(written["read"], Value::Null);
    let before = head(&server, "load.0");
    assert_eq!(before.1, count(&written["write"], "batches"));
    let read = bench(&server, &[&options[..], &["--only-read"]].concat());
    check_phase(&read["read"]);
    assert_eq!(read["write"], Value::Null);
    assert_eq!(head(&server, "load.0"), before, "reading changed the topic");
}

#[test]
fn reader_begins_again_at_the_end() {
    let server = TestServer::start();
    server.done(&["write", "--topic", "bench-0", "hello"], b"");
    let report = bench(&server, &["--conns", "1", "--only-read"]);
    // The topic has one batch of one message.
    let batches = count(&report["read"], "batches");
    assert!(batches > 1, "{report}");
    assert_eq!(count(&report["read"], "messages"), batches);
    assert_eq!(count(&report["read"], "bytes"), batches * head(&server, "bench-0").0);
}

#[test]
fn small_messages_are_written_and_each_scanner_reads_them_all() {
    let server = TestServer::start();
    let report = bench(&server, &["--conns", "2", "--messages", "20", "--duration", "100ms", "--only-write"]);
    check_phase(&report["write"]);
    assert_eq!(count(&report, "message_bytes"), 20);
    let (messages, batches) = (count(&report["write"], "messages"), count(&report["write"], "batches"));
    assert_eq!(count(&report["write"], "bytes"), messages * 20);
    assert_eq!(head(&server, "bench-0").1, batches);
    let lines = server.done(&["read", "--topic", "bench-0"], b"");
    assert_eq!(lines.len() as u64, messages * 21);
    // So long that the end of the topic comes first.
    let read = bench(&server, &["--conns", "2", "--messages", "20", "--only-read", "--duration", "10m"]);
    check_phase(&read["read"]);
    assert_eq!(count(&read["read"], "messages"), 2 * messages);
    assert_eq!(count(&read["read"], "batches"), 2 * batches);
    assert_eq!(count(&read["read"], "bytes"), 2 * 20 * messages);
}

#[test]
fn people_get_tables() {
    let server = TestServer::start();
    let text = server.done(&["bench", "--conns", "2", "--size", "2KiB", "--duration", SHORT], b"");
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("2 connections, topic `bench-0`, batches of at most 2048 bytes"), "{text}");
    let words = |line: usize| lines[line].split_whitespace().collect::<Vec<_>>();
    assert_eq!(words(2)[..4], ["TIME", "BYTES", "BATCHES", "MESSAGES"]);
    assert_eq!((words(3)[0], words(4)[0]), ("write", "read"));
    assert_eq!(words(6), ["LATENCY", "MIN", "P50", "P90", "P95", "P99", "MAX"]);
    assert_eq!((words(7)[0], words(8)[0]), ("write", "read"));
    let widths: Vec<usize> = lines[2..5].iter().map(|line| line.chars().count()).collect();
    assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
}

#[test]
fn topic_without_batches_cannot_be_read() {
    let server = TestServer::start();
    for more in [&[][..], &["--messages", "10"]] {
        let arguments = [&["bench", "--only-read", "--duration", SHORT], more].concat();
        let finished = server.cli(&arguments, b"");
        assert_eq!(
            finished.failed_with(Exit::Failed),
            "log-cli: there is nothing to read: topic `bench-0` has no batches, so write some first, with `--only-write`"
        );
        assert_eq!(finished.stdout, b"");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    for arguments in [
        &["--conns", "0"][..],
        &["--conns", "1001"],
        &["--topics", "0"],
        &["--topics", "3", "--conns", "2"],
        &["--duration", "0s"],
        &["--duration", "5"],
        &["--size", "511"],
        &["--size", "64kb"],
        &["--messages", "0"],
        &["--messages", "65536"],
        &["--only-read", "--only-write"],
        &["--topic-prefix", "../x"],
        &["--conns", "1000", "--size", "64MiB"],
    ] {
        let finished = run("127.0.0.1:1", &[&["bench"], arguments].concat(), b"");
        assert_eq!(finished.code, i32::from(Exit::Usage.code()), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.starts_with("log-cli: "), "{}", finished.stderr);
    }
}

#[test]
fn batch_that_the_server_does_not_take_is_refused_with_its_limit() {
    let server = TestServer::start();
    for more in [&[][..], &["--messages", "10"]] {
        let arguments = [&["bench", "--size", "128KiB", "--duration", SHORT], more].concat();
        let finished = server.cli(&arguments, b"");
        let line = finished.failed_with(Exit::Refused);
        assert!(line.contains("`131072`") && line.contains("`65536` bytes"), "{line}");
    }
}

#[test]
fn sync_is_measured_only_where_the_server_syncs_before_each_answer() {
    let arguments = ["bench", "--sync", "--only-write", "--conns", "2", "--duration", SHORT];
    for (flush_batches, said) in
        [(0, "does not sync before it answers"), (3, "syncs a topic after `3` batches")]
    {
        let server = TestServer::start_with(|config| config.flush_batches = flush_batches);
        let finished = server.cli(&arguments, b"");
        let line = finished.failed_with(Exit::Refused);
        assert!(line.contains(said) && line.contains("`--flush-batches 1`"), "{line}");
        let topics = String::from_utf8(server.done(&["topics"], b"")).unwrap();
        assert!(!topics.contains("bench-"), "something was written: {topics}");
    }
    // It speaks as Go logd does.
    let finished = run(&scripted(&[]).0, &arguments, b"");
    let line = finished.failed_with(Exit::Refused);
    assert!(line.contains("does not tell whether it syncs"), "{line}");
    let server = TestServer::start_with(|config| config.flush_batches = 1);
    let text = String::from_utf8(server.done(&arguments, b"")).unwrap();
    assert!(text.lines().next().is_some_and(|line| line.ends_with(", synced before the answer")), "{text}");
    let report = bench(&server, &["--sync", "--conns", "2"]);
    assert_eq!(report["flush_batches"], 1);
    check_phase(&report["write"]);
}

#[test]
fn server_that_is_away_is_told() {
    for more in [&[][..], &["--messages", "10"], &["--only-read"]] {
        let finished = run("127.0.0.1:1", &[&["bench", "--duration", SHORT], more].concat(), b"");
        let line = finished.failed_with(Exit::Unreachable);
        assert!(line.contains("is logd running?"), "{line}");
    }
}

#[test]
fn lost_connection_ends_the_measurement_and_is_counted() {
    for more in [&[][..], &["--messages", "1000"]] {
        let (host, _) =
            scripted(&[Script::Answer("OK 0 1\r\n"), Script::Answer("OK 0 1\r\n"), Script::Close]);
        let arguments =
            [&["bench", "--json", "--conns", "1", "--size", "1100", "--duration", "10m"], more].concat();
        let finished = run(&host, &arguments, b"");
        finished.failed_with(Exit::Unreachable);
        let report = json(&finished);
        assert_eq!(count(&report["write"], "batches"), 2, "{report}");
        assert!(count(&report["write"], "failed") > 0, "{report}");
        assert_eq!(report["read"], Value::Null);
        assert!(finished.stderr.contains(report["failure"].as_str().unwrap()), "{}", finished.stderr);
        // The server speaks as Go logd does.
        assert_eq!(report["version"], Value::Null);
    }
}

#[test]
fn refused_topic_ends_the_measurement_on_every_connection() {
    let server = TestServer::start_with(|config| config.topics = 2);
    let arguments = ["bench", "--json", "--conns", "4", "--topics", "2", "--duration", "10m"];
    let finished = server.cli(&arguments, b"");
    let line = finished.failed_with(Exit::Refused);
    assert!(line.contains("maximum topics allowed"), "{line}");
    assert!(count(&json(&finished)["write"], "failed") > 0);
}

#[test]
fn interrupted_measurement_is_reported() {
    for (signal, exit) in [(Signal::INT, Exit::Interrupted), (Signal::TERM, Exit::Terminated)] {
        let server = TestServer::start();
        let running = server.spawn(&["bench", "--json", "--conns", "2", "--duration", "10m"]);
        wait_for("batches are written", || {
            let head = server.cli(&["head", "--topic", "bench-0"], b"");
            (head.code == 0).then_some(())
        });
        running.signal(signal);
        let finished = running.finish();
        assert_eq!((finished.code, finished.stderr.as_str()), (i32::from(exit.code()), ""));
        let report = json(&finished);
        assert_eq!(report["interrupted"], true);
        assert_eq!(report["read"], Value::Null);
        assert_eq!(count(&report["write"], "batches"), head(&server, "bench-0").1);
    }
}

#[test]
fn request_that_is_not_answered_is_abandoned_after_a_signal() {
    let (host, noted) = scripted(&[Script::Silence]);
    let running =
        crate::support::Running::start(&host, &["bench", "--json", "--conns", "1", "--duration", "10m"]);
    wait_for("a batch is sent", || (!noted.lock().unwrap().is_empty()).then_some(()));
    running.signal(Signal::INT);
    let finished = running.finish();
    assert_eq!(finished.code, i32::from(Exit::Interrupted.code()), "{}", finished.stderr);
    let write = &json(&finished)["write"];
    assert_eq!((count(write, "batches"), count(write, "abandoned")), (0, 1));
    assert_eq!(write["latency_nanos"], Value::Null);
}

#[test]
fn too_few_descriptors_are_told() {
    let server = TestServer::start();
    let binary = command(&server.host(), &[]);
    let script = format!(
        "ulimit -n 40; exec {} bench --conns 100 --duration {SHORT}",
        binary.get_program().to_str().unwrap()
    );
    let output = std::process::Command::new("bash")
        .args(["-c", &script])
        .env("LOGD_HOST", server.host())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(i32::from(Exit::Unreachable.code())));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("choose fewer `--conns`, or raise the limit with `ulimit -n`"), "{stderr}");
}
