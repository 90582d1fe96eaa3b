//! Messages from end to end, beside Redis Streams: `XADD` in pipelines of a thousand, `XRANGE` of a thousand, one
//! connection. Left out where there is no `redis-server`.
//!
//! Redis keeps its data in memory and has an append-only file beside it; what is compared is what a user of either gets.

use std::io::{self, BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ::redis::{Client, Connection, Value, cmd, pipe};

use super::LOGD;
use super::messages::{RATES, Rates, through_client};
use crate::args::Options;
use crate::figures::Spread;
use crate::load::MESSAGE_BYTES;
use crate::process::Started;
use crate::report::{Cell, Report};

/// How many commands are sent at a time, and messages asked for at a time.
const TOGETHER: usize = 1000;
/// Redis holds all of them in memory.
const MESSAGES_MAX: usize = 4_000_000;
const STREAM: &str = "bench";

const COLUMNS: &[&str] =
    &["100-byte messages", "appendfsync", "logd a second", "Redis a second", "times Redis", "least to most"];

/// What is promised: how Redis is told, and logd.
const GUARANTEES: [(&str, &[&str]); 2] = [("no", &[]), ("everysec", &["--flush-interval", "1s"])];

/// Prints the table.
pub(super) fn run(options: &Options, report: Report) -> io::Result<()> {
    match Command::new("redis-server").arg("--version").stdout(Stdio::null()).status() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return report.note("Redis: left out, there is no `redis-server`");
        }
        Err(error) => return Err(error),
    }
    let table = report.table("Redis", COLUMNS)?;
    for (append_sync, logd_options) in GUARANTEES {
        let logd_options = [&LOGD[..], logd_options].concat();
        let mut rounds = Vec::new();
        for _ in 0..options.rounds {
            rounds.push((
                through_client(&logd_options, options.time)?,
                through_redis(append_sync, options.time)?,
            ));
        }
        for (name, of) in RATES {
            let ratios = Spread::of(&rounds, |(logd, redis)| of(logd) / of(redis));
            table.row(&[
                Cell::text_of(name),
                Cell::text_of(append_sync),
                Cell::Number(Spread::of(&rounds, |(logd, _)| of(logd)).median, 0),
                Cell::Number(Spread::of(&rounds, |(_, redis)| of(redis)).median, 0),
                Cell::Ratio(ratios.median),
                Cell::ends(ratios),
            ])?;
        }
    }
    Ok(())
}

/// Writes messages for so long, and reads all of them.
fn through_redis(append_sync: &str, time: Duration) -> io::Result<Rates> {
    let dir = tempfile::tempdir()?;
    // The port is free again when the listener is dropped; Redis cannot choose one itself.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", append_sync, "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .map(Started)?;
    let output = child.0.stdout.take().ok_or_else(|| io::Error::other("no standard output"))?;
    let mut lines = BufReader::new(output).lines();
    loop {
        let line = lines.next().ok_or_else(|| io::Error::other("`redis-server` has not started"))??;
        if line.contains("Ready to accept connections") {
            break;
        }
    }
    // So that it can go on telling.
    std::thread::spawn(move || lines.for_each(drop));
    let client = Client::open(format!("redis://127.0.0.1:{port}/")).map_err(io::Error::other)?;
    let mut connection = client.get_connection().map_err(io::Error::other)?;
    let (count, written) = add(&mut connection, time)?;
    Ok(Rates { written, scanned: range(&mut connection, count)? })
}

/// How many were added, and how many in a second.
fn add(connection: &mut Connection, time: Duration) -> io::Result<(usize, f64)> {
    let begin = Instant::now();
    let mut written = 0;
    while begin.elapsed() < time && written < MESSAGES_MAX {
        let mut pipeline = pipe();
        for _ in 0..TOGETHER {
            pipeline.cmd("XADD").arg(STREAM).arg("*").arg("m").arg(&[b'm'; MESSAGE_BYTES][..]).ignore();
        }
        pipeline.query::<()>(connection).map_err(io::Error::other)?;
        written += TOGETHER;
    }
    Ok((written, written as f64 / begin.elapsed().as_secs_f64()))
}

/// Reads the stream through; entries in a second.
fn range(connection: &mut Connection, count: usize) -> io::Result<f64> {
    let begin = Instant::now();
    let mut start = "-".to_owned();
    let mut found = 0;
    loop {
        let answer: Vec<(String, Value)> = cmd("XRANGE")
            .arg(STREAM)
            .arg(&start)
            .arg("+")
            .arg("COUNT")
            .arg(TOGETHER)
            .query(connection)
            .map_err(io::Error::other)?;
        let Some((last, _)) = answer.last() else { break };
        found += answer.len();
        // Behind this one.
        start = format!("({last}");
    }
    if found != count {
        return Err(io::Error::other(format!("`{count}` messages were added to Redis, `{found}` read")));
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}
