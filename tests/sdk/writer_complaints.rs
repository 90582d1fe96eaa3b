//! What users complained of in writers of logs, each as a test of its own.
//!
//! The server's answers, or what is sent to it, are held at a gate, so that nothing here depends on how fast anything is.

use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use logd_client::{
    ClientConfig, ErrorKind, Outcome, Reason, RetryPolicy, Spool, TopicName, WriteError, Writer,
    WriterBuilder,
};
use logd_server::Config;
use logd_tests::{App, Gate, Side};
use tempfile::TempDir;

use crate::support::{TestServer, within};

const SPOOL_BYTES: u64 = 1024 * 1024;
const BOUND: Duration = Duration::from_secs(30);

fn gate_of(server: &TestServer) -> Gate {
    Gate::start(server.client_config().host().parse().unwrap())
}

fn retry(attempts: Option<u32>) -> RetryPolicy {
    let interval = Duration::from_millis(1);
    RetryPolicy::default().attempts(attempts).interval(interval).max_interval(interval * 20)
}

/// A writer through the gate that tries once.
fn builder(gate: &Gate) -> WriterBuilder {
    Writer::builder(ClientConfig::new(gate.host()).retry(RetryPolicy::none()))
}

/// A writer through the gate that tries again and again.
fn patient(gate: &Gate) -> WriterBuilder {
    Writer::builder(ClientConfig::new(gate.host()).retry(retry(None)))
}

fn held(gate: &Gate, side: Side) {
    tokio::task::block_in_place(|| gate.wait_until_held(side));
}

fn texts(writer: &Writer) -> Vec<String> {
    let batches = std::iter::from_fn(|| writer.failed());
    batches
        .flat_map(|failed| {
            failed.batch.messages_from(0).map(|message| message.bytes.to_vec()).collect::<Vec<_>>()
        })
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

async fn write_all(writer: &Writer, texts: &[String]) {
    for text in texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
}

/// The messages that the topic has; none where it is not there.
async fn topic_of(server: &TestServer) -> Vec<String> {
    let topics = server.client().topics().await.unwrap();
    if topics.is_empty() { Vec::new() } else { server.messages().await }
}

fn spooled_in(dir: &Path) -> u64 {
    Spool::list(dir).unwrap().batches.iter().map(|batch| batch.messages).sum()
}

/// Has another writer send what is in the spool.
async fn send_spool(server: &TestServer, dir: &Path) {
    let writer = Writer::builder(server.client_config()).spool(dir, SPOOL_BYTES).open().unwrap();
    within("the spool to be sent", writer.close()).await.unwrap();
    assert_eq!(writer.stats().spooled, 0);
}

/// The first complaint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_is_never_reported_before_it_is_true() {
    let server = TestServer::start().await;
    let gate = gate_of(&server);
    let writer = patient(&gate).open().unwrap();
    writer.send(b"first").await.unwrap().await.unwrap();
    for side in [Side::Request, Side::Answer] {
        gate.hold(side);
        let before = writer.stats().delivered;
        let mut delivery = writer.send(b"held").await.unwrap();
        let mut flush = std::pin::pin!(writer.flush());
        assert!(flush.as_mut().now_or_never().is_none(), "{side:?}: flushed before it was even sent");
        held(&gate, side);
        assert!((&mut delivery).now_or_never().is_none(), "{side:?}: delivered without an answer");
        assert!(flush.as_mut().now_or_never().is_none(), "{side:?}: flushed without an answer");
        assert_eq!(writer.stats().delivered, before, "{side:?}");
        gate.open();
        within("the flush", flush).await.unwrap();
        let position = within("the delivery", delivery).await.unwrap();
        assert!(position.offset.as_u64() > 0);
    }
    assert_eq!(server.messages().await, ["first", "held", "held"]);
    writer.close().await.unwrap();
}

/// The first complaint, where the answer is a refusal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn success_is_never_reported_for_what_the_server_refuses() {
    let server = TestServer::start_with(|config| Config { batch_bytes: 512, ..config }).await;
    let gate = gate_of(&server);
    let writer = patient(&gate).open().unwrap();
    let long = "x".repeat(1000);
    let delivery = writer.send(long.as_bytes()).await.unwrap();
    let flushed = within("the flush", writer.flush()).await.unwrap_err();
    let error = within("the delivery", delivery).await.unwrap_err();
    assert_eq!((flushed.batches, flushed.messages), (1, 1));
    assert_eq!(error.outcome, Outcome::NotWritten, "{error}");
    assert!(within("the close", writer.close()).await.is_err());
    assert_eq!(texts(&writer), [long]);
}

/// The second complaint, with a close.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_batch_does_not_die_at_shutdown() {
    let server = TestServer::start().await;
    let gate = gate_of(&server);
    // A batch that is not due for long.
    let writer = patient(&gate).wait_interval(Duration::from_secs(3600)).open().unwrap();
    write_all(&writer, &numbers(50)).await;
    gate.hold(Side::Answer);
    let mut close = std::pin::pin!(writer.close());
    assert!(close.as_mut().now_or_never().is_none());
    held(&gate, Side::Answer);
    gate.open();
    within("the close", close).await.unwrap();
    assert_eq!(server.messages().await, numbers(50));
    let error = writer.write(b"late").await.unwrap_err();
    assert!(matches!(error, WriteError::Closed), "{error}");
}

/// The second complaint, with a writer that is dropped and not closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_batch_does_not_die_when_the_writer_is_dropped() {
    let server = TestServer::start().await;
    let writer =
        Writer::builder(server.client_config()).wait_interval(Duration::from_secs(3600)).open().unwrap();
    write_all(&writer, &numbers(50)).await;
    let backlog = writer.backlog();
    drop(writer);
    assert!(within("the end", backlog.next()).await.is_none());
    assert_eq!(backlog.stats().delivered, 50, "{:?}", backlog.stats());
    assert_eq!(server.messages().await, numbers(50));
}

/// The second complaint, with a runtime that ends under the writer.
#[test]
fn the_last_batch_does_not_die_with_the_runtime() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("spool");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(TestServer::start());
    let writer_runtime = tokio::runtime::Runtime::new().unwrap();
    let writer = writer_runtime.block_on(async {
        let config = server.client_config();
        let writer =
            Writer::builder(config).wait_interval(Duration::from_secs(3600)).spool(&dir, SPOOL_BYTES);
        let writer = writer.open().unwrap();
        write_all(&writer, &numbers(50)).await;
        writer
    });
    drop(writer_runtime);
    assert_eq!(writer.stats().spooled, 50, "{:?}", writer.stats());
    assert_eq!(spooled_in(&dir), 50);
    runtime.block_on(send_spool(&server, &dir));
    assert_eq!(runtime.block_on(server.messages()), numbers(50));
}

/// The second complaint, with a program that ends and has forgotten its writer; where there is a server, and where not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_batch_does_not_die_with_the_program() {
    for is_there in [true, false] {
        let server = TestServer::start().await;
        let folder = TempDir::new().unwrap();
        let dir = folder.path().join("spool");
        let server_host = server.client_config().host().to_owned();
        let host = if is_there { &server_host } else { "127.0.0.1:1" };
        let arguments = ["write", host, dir.to_str().unwrap(), "50"];
        let app = App::start(env!("CARGO_BIN_EXE_writer-app"), &arguments);
        let (status, lines) = tokio::task::block_in_place(|| app.finish(BOUND));
        assert!(status.success() && lines == ["written"], "{status}: {lines:?}");
        send_spool(&server, &dir).await;
        assert_eq!(server.messages().await, numbers(50), "with a server: {is_there}");
    }
}

/// The third complaint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_neither_blocks_for_ever_nor_vanishes_quietly() {
    const BUDGET: Duration = Duration::from_millis(30);
    let server = TestServer::start().await;
    let gate = gate_of(&server);
    let writer = patient(&gate).batch_bytes(512).buffer_bytes(512).budget(BUDGET).open().unwrap();
    gate.hold(Side::Answer);
    let (mut taken, mut dropped) = (Vec::new(), 0);
    for number in 0..40 {
        let text = format!("{number:>50}");
        match within("a write", writer.write(text.as_bytes())).await {
            Ok(()) => taken.push(text),
            Err(WriteError::Dropped { budget }) => {
                assert_eq!(budget, BUDGET);
                dropped += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(dropped > 0 && !taken.is_empty());
    assert_eq!((writer.dropped(), writer.stats().dropped_bytes), (dropped, dropped * 50));
    gate.open();
    within("the close", writer.close()).await.unwrap();
    let notice = format!(
        "logd-writer: {dropped} messages with {} bytes were dropped: there was no room",
        dropped * 50
    );
    let messages = server.messages().await;
    assert_eq!(messages.iter().filter(|text| **text == notice).count(), 1, "{messages:?}");
    assert_eq!(messages.into_iter().filter(|text| *text != notice).collect::<Vec<_>>(), taken);
    assert!(writer.stats().is_complete());
}

/// What is told of a message that is held on its way when the connection is cut. It has no identity.
async fn outcome_of_a_cut(server: &TestServer, side: Side) -> (Outcome, ErrorKind) {
    let gate = gate_of(server);
    let writer = builder(&gate).dedup(false).open().unwrap();
    writer.send(b"first").await.unwrap().await.unwrap();
    gate.hold(side);
    let delivery = writer.send(b"hit").await.unwrap();
    held(&gate, side);
    gate.cut();
    let error = within("the delivery", delivery).await.unwrap_err();
    let failed = writer.failed().unwrap();
    assert_eq!((failed.outcome, failed.error.kind()), (error.outcome, error.error.kind()));
    (error.outcome, error.error.kind())
}

/// The fourth complaint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn surely_not_written_and_unknown_are_told_apart() {
    let server = TestServer::start().await;
    // The way is gone before the batch is sent.
    let gate = gate_of(&server);
    gate.close();
    let writer = builder(&gate).dedup(false).open().unwrap();
    let delivery = writer.send(b"unsent").await.unwrap();
    let error = within("the delivery", delivery).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotWritten, "{error}");
    assert_eq!(writer.failed().unwrap().outcome, Outcome::NotWritten);
    assert_eq!(topic_of(&server).await, [""; 0]);
    // It is in the system's hands when the connection is cut, whether the server has it or not: that cannot be known.
    let lost = outcome_of_a_cut(&server, Side::Request).await;
    assert_eq!(lost, (Outcome::Unknown, ErrorKind::Disconnected));
    assert_eq!(server.messages().await, ["first"]);
    let stored = outcome_of_a_cut(&server, Side::Answer).await;
    assert_eq!(stored, (Outcome::Unknown, ErrorKind::Disconnected));
    assert_eq!(server.messages().await, ["first", "first", "hit"]);
}

/// The fourth complaint, where the server refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_surely_not_written() {
    let server = TestServer::start_with(|config| Config { batch_bytes: 512, ..config }).await;
    let gate = gate_of(&server);
    let writer = builder(&gate).dedup(false).open().unwrap();
    let delivery = writer.send(&[b'x'; 1000]).await.unwrap();
    let error = within("the delivery", delivery).await.unwrap_err();
    assert_eq!(error.outcome, Outcome::NotWritten, "{error}");
    assert!(
        matches!(error.error.kind(), ErrorKind::Server(Reason::TooLarge) | ErrorKind::Invalid),
        "{error:?}"
    );
    assert_eq!(topic_of(&server).await, [""; 0]);
}

/// The fifth complaint, of a process that goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_messages_can_be_had_back() {
    let server = TestServer::start().await;
    let gate = gate_of(&server);
    let writer = builder(&gate).batch_bytes(512).topic(TopicName::default()).open().unwrap();
    gate.close();
    write_all(&writer, &numbers(200)).await;
    assert!(within("the flush", writer.flush()).await.is_err());
    let backlog = writer.backlog();
    assert_eq!((backlog.messages(), backlog.iter().count()), (200, backlog.len()));
    gate.open();
    while let Some(failed) = backlog.take() {
        assert_eq!(failed.outcome, Outcome::NotWritten, "{}", failed.error);
        writer.retry(failed).unwrap();
    }
    within("the flush", writer.flush()).await.unwrap();
    assert_eq!(server.messages().await, numbers(200));
    writer.close().await.unwrap();
    assert!(writer.stats().is_complete(), "{:?}", writer.stats());
}

/// The fifth complaint, of a process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_messages_can_be_had_back_and_survive_a_crash() {
    let server = TestServer::start().await;
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("spool");
    let arguments = ["run", "127.0.0.1:1", dir.to_str().unwrap(), "7"];
    let app = App::start(env!("CARGO_BIN_EXE_writer-app"), &arguments);
    let lines = tokio::task::block_in_place(|| {
        app.wait_for("S 300");
        app.kill9()
    });
    let told: Vec<String> = lines
        .iter()
        .map(|line| line.strip_prefix("S ").unwrap_or_else(|| panic!("it said `{line}`")))
        .map(|number| format!("7 {number}"))
        .collect();
    assert!(spooled_in(&dir) >= told.len() as u64);
    send_spool(&server, &dir).await;
    let messages = server.messages().await;
    assert_eq!(messages[..told.len()], told, "told to be in the spool before the kill");
    let all: Vec<String> = (0..messages.len()).map(|number| format!("7 {number}")).collect();
    assert_eq!(messages, all);
}
