//! Signals, followers, and inputs that stay open.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use logd_cli::Exit;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{TestServer, command, wait_for};

#[test]
fn follower_prints_a_message_as_soon_as_it_is_there() {
    let server = TestServer::start();
    let mut follower = server.spawn(&["read", "-F"]);
    for message in ["one", "two", "three"] {
        server.done(&["write", message], b"");
        assert_eq!(follower.line(), format!("{message}\n"));
    }
}

#[test]
fn follower_waits_for_a_topic_that_is_not_there_yet() {
    let server = TestServer::start();
    let mut follower = server.spawn(&["read", "-F", "--topic", "later", "--limit", "1"]);
    server.done(&["write", "--topic", "later", "hello"], b"");
    assert_eq!(follower.line(), "hello\n");
    assert_eq!(follower.finish().code, 0);
}

#[test]
fn follower_goes_on_where_it_was_after_a_restart_of_the_server() {
    let mut server = TestServer::start();
    let mut follower = server.spawn(&["read", "-F", "--retry-max-interval", "50ms"]);
    server.done(&["write", "one"], b"");
    assert_eq!(follower.line(), "one\n");
    server.stop();
    server.start_again();
    server.done(&["write", "two"], b"");
    assert_eq!(follower.line(), "two\n");
}

#[test]
fn interrupted_follower_ends_at_once() {
    let server = TestServer::start();
    server.done(&["write", "one"], b"");
    for (signal, exit) in [(Signal::INT, Exit::Interrupted), (Signal::TERM, Exit::Terminated)] {
        let mut follower = server.spawn(&["read", "-F"]);
        assert_eq!(follower.line(), "one\n");
        let start = Instant::now();
        follower.signal(signal);
        let finished = follower.finish();
        assert_eq!((finished.code, finished.stderr.as_str()), (i32::from(exit.code()), ""));
        assert!(start.elapsed() < Duration::from_secs(1), "it took {:?}", start.elapsed());
    }
}

#[test]
fn follower_of_a_server_that_is_gone_can_be_interrupted() {
    let mut server = TestServer::start();
    server.done(&["write", "one"], b"");
    let mut follower = server.spawn(&["read", "-F"]);
    assert_eq!(follower.line(), "one\n");
    server.stop();
    follower.signal(Signal::INT);
    assert_eq!(follower.finish().code, i32::from(Exit::Interrupted.code()));
}

#[test]
fn read_that_nobody_takes_can_be_interrupted() {
    let server = TestServer::start();
    // The first is read to its end, and waits for the output only; the second is not.
    for (topic, lines) in [("default", 50_000), ("long", 1_000_000)] {
        server.done(&["write", "--topic", topic], &b"0123456789\n".repeat(lines));
        let mut child = command(&server.host(), &["read", "--topic", topic])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line is there; then the pipe fills up.
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 11]).unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let status = wait_for("log-cli ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(i32::from(Exit::Interrupted.code())));
    }
}

#[test]
fn lines_are_sent_while_the_input_stays_open() {
    let server = TestServer::start();
    let mut writer = server.spawn(&["write"]);
    writer.write(b"one\ntw");
    assert_eq!(writer.line(), "0\n");
    assert_eq!(server.done(&["read"], b""), b"one\n");
    writer.write(b"o\n");
    writer.line();
    assert_eq!(server.done(&["read"], b""), b"one\ntwo\n");
    drop(writer.stdin.take());
    assert_eq!(writer.finish().code, 0);
}

#[test]
fn line_is_not_sent_before_the_wait_interval_is_over() {
    let server = TestServer::start();
    let mut writer = server.spawn(&["write", "--wait-interval", "1h"]);
    writer.write(b"one\n");
    writer.write(b"two\n");
    drop(writer.stdin.take());
    let finished = writer.finish();
    assert_eq!(finished.stdout, b"0\n", "both lines are in one batch");
    assert_eq!(server.done(&["read"], b""), b"one\ntwo\n");
}

#[test]
fn interrupted_write_delivers_what_was_read() {
    for (signal, exit) in [(Signal::INT, Exit::Interrupted), (Signal::TERM, Exit::Terminated)] {
        let server = TestServer::start();
        let mut writer = server.spawn(&["write", "--wait-interval", "1h", "--batch-size", "512"]);
        // The second line does not fit the first's batch, so that an offset shows when it was read.
        writer.write(format!("{0}\n{0}\nhalf a li", "x".repeat(400)).as_bytes());
        assert_eq!(writer.line(), "0\n");
        writer.signal(signal);
        let finished = writer.finish();
        assert_eq!(
            finished.failed_with(exit),
            "log-cli: interrupted: `2` messages were delivered, `9` bytes of line `3` were left out, since its end \
             was not read"
        );
        assert_eq!(server.done(&["read"], b""), format!("{0}\n{0}\n", "x".repeat(400)).as_bytes());
    }
}

#[test]
fn connection_that_the_server_closes_as_idle_costs_no_message() {
    let server = TestServer::start_with(|config| config.idle_timeout = Duration::from_millis(100));
    let mut writer = server.spawn(&["write"]);
    for number in 0..3 {
        writer.write(format!("{number}\n").as_bytes());
        writer.line();
        let connections = || {
            let stats = String::from_utf8(server.done(&["stats"], b"")).unwrap();
            // The one that asks is there.
            stats.lines().any(|line| line == "conns.active: 1").then_some(())
        };
        wait_for("the server has closed the idle connection", connections);
    }
    drop(writer.stdin.take());
    assert_eq!(writer.finish().code, 0);
    assert_eq!(server.done(&["read"], b""), b"0\n1\n2\n");
}
