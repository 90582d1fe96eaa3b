//! The client through a proxy that spoils its connections: each fault once, and all of them at random.
//!
//! A client's connection begins with CONFIG, so what a test asks for first is request 1 of the connection.

use std::collections::HashSet;
use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use logd_client::{
    AppendError, Batch, BatchBuilder, Client, ClientConfig, ErrorKind, Offset, Outcome, RetryPolicy,
    TopicName,
};
use logd_server::Config;
use logd_tests::{Fault, FaultPlan, FaultProxy, Place, RawPeer, Side, seed};

use crate::support::{TestServer, within};

/// The longest that dropping a proxy takes on a busy machine.
const DROP_BOUND: Duration = Duration::from_secs(2);

fn batch(text: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::default(), text.len() + 512);
    builder.push(text).unwrap();
    builder.finish().unwrap()
}

fn proxy_of(server: &TestServer, plan: FaultPlan) -> FaultProxy {
    FaultProxy::start(server.client_config().host().parse().unwrap(), plan)
}

/// A client that tries nothing again.
fn client_of(proxy: &FaultProxy) -> Client {
    Client::new(ClientConfig::new(proxy.addr().to_string()).retry(RetryPolicy::none()))
}

/// What comes of an append that meets `fault`, after an append that does not. The same client must then be able to
/// append again. Returns what the topic had of the second and third batch.
async fn append_with(fault: Fault) -> (Result<Offset, AppendError>, Vec<String>) {
    let mut server = TestServer::start().await;
    let proxy = proxy_of(&server, FaultPlan::once(fault, 2));
    let mut client = client_of(&proxy);
    let first = batch(b"first");
    assert_eq!(client.append(&first).await.unwrap(), Offset::ZERO);
    let result = within("the append", client.append(&batch(b"hit"))).await;
    if !matches!(fault, Fault::Cut(Side::Request, Place::Before | Place::Middle)) {
        is_stored(&server, &["first", "hit"]).await;
    }
    // Where the connection is ending, the client may not have seen the end of it yet.
    within("a connection", async { while client.ping().await.is_err() {} }).await;
    within("the last append", client.append(&batch(b"last"))).await.unwrap();
    assert_eq!(proxy.stats().faults.into_iter().collect::<Vec<_>>(), [(fault, 1)]);
    drop((client, proxy));
    // A server that ends carries out what has come in whole: nothing is on its way any more.
    server.stop().await;
    server.start_again().await;
    let messages = server.messages().await;
    assert_eq!(messages[0], "first");
    (result, messages[1..].to_vec())
}

/// Waits until the topic has these messages.
async fn is_stored(server: &TestServer, messages: &[&str]) {
    within("the batch", async {
        while server.messages().await != messages {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn is_lost_and_unknown(fault: Fault, stored: &[&str]) {
    let (result, messages) = append_with(fault).await;
    let error = result.unwrap_err();
    assert_eq!((error.error.kind(), error.outcome), (ErrorKind::Disconnected, Outcome::Unknown), "{error}");
    assert_eq!(messages, stored);
}

async fn is_not_noticed(fault: Fault) {
    let (result, messages) = append_with(fault).await;
    assert_eq!(result.unwrap().as_u64(), batch(b"first").bytes().len() as u64);
    assert_eq!(messages, ["hit", "last"]);
}

#[tokio::test]
async fn nothing_changes_without_a_fault() {
    let server = TestServer::start().await;
    let proxy = proxy_of(&server, FaultPlan::none());
    let mut client = client_of(&proxy);
    for number in 0..20 {
        client.append(&batch(number.to_string().as_bytes())).await.unwrap();
    }
    assert_eq!(client.tail(&TopicName::default(), 20).await.unwrap().messages(), 20);
    client.topics().await.unwrap();
    client.close().await.unwrap();
    let stats = proxy.stats();
    assert_eq!((stats.connections, stats.faults.len()), (1, 0));
}

#[tokio::test]
async fn cut_before_the_request() {
    is_lost_and_unknown(Fault::Cut(Side::Request, Place::Before), &["last"]).await;
}

/// All of a small batch is in the system's hands when the connection is cut: the client cannot know how far it got.
#[tokio::test]
async fn cut_in_the_middle_of_a_small_request() {
    is_lost_and_unknown(Fault::Cut(Side::Request, Place::Middle), &["last"]).await;
}

/// Of a batch that is larger than all buffers on the way, the client still has some when the connection is cut.
#[tokio::test]
async fn cut_in_the_middle_of_a_large_request() {
    const BYTES: usize = 48 * 1024 * 1024;
    let mut server = TestServer::start_with(|config| Config { batch_bytes: BYTES + 512, ..config }).await;
    let proxy = proxy_of(&server, FaultPlan::once(Fault::Cut(Side::Request, Place::Middle), 1));
    let mut client = client_of(&proxy);
    let error = within("the append", client.append(&batch(&vec![b'x'; BYTES]))).await.unwrap_err();
    assert_eq!(
        (error.error.kind(), error.outcome),
        (ErrorKind::Disconnected, Outcome::NotWritten),
        "{error}"
    );
    client.append(&batch(b"last")).await.unwrap();
    drop((client, proxy));
    server.stop().await;
    server.start_again().await;
    assert_eq!(server.messages().await, ["last"]);
}

#[tokio::test]
async fn cut_after_the_request() {
    is_lost_and_unknown(Fault::Cut(Side::Request, Place::After), &["hit", "last"]).await;
}

#[tokio::test]
async fn cut_before_the_answer() {
    is_lost_and_unknown(Fault::Cut(Side::Answer, Place::Before), &["hit", "last"]).await;
}

#[tokio::test]
async fn cut_in_the_middle_of_the_answer() {
    is_lost_and_unknown(Fault::Cut(Side::Answer, Place::Middle), &["hit", "last"]).await;
}

#[tokio::test]
async fn cut_after_the_answer() {
    is_not_noticed(Fault::Cut(Side::Answer, Place::After)).await;
}

#[tokio::test]
async fn half_closed_after_the_request() {
    is_not_noticed(Fault::HalfClose(Side::Request)).await;
}

#[tokio::test]
async fn half_closed_before_the_answer() {
    is_lost_and_unknown(Fault::HalfClose(Side::Answer), &["hit", "last"]).await;
}

#[tokio::test]
async fn dripping() {
    is_not_noticed(Fault::Drip(Side::Request)).await;
    is_not_noticed(Fault::Drip(Side::Answer)).await;

    let server = TestServer::start().await;
    let proxy = proxy_of(&server, FaultPlan::once(Fault::Drip(Side::Request), 1));
    let long = batch(&[b'x'; 2 * Fault::DRIP_BYTES]);
    let start = Instant::now();
    client_of(&proxy).append(&long).await.unwrap();
    let time_min = Fault::DRIP_PAUSE * u32::try_from(Fault::DRIP_BYTES).unwrap();
    assert!(start.elapsed() >= time_min, "all came within {:?}", start.elapsed());
}

#[tokio::test]
async fn a_short_delay_is_waited_for() {
    is_not_noticed(Fault::Delay(Side::Request)).await;
    is_not_noticed(Fault::Delay(Side::Answer)).await;
}

#[tokio::test]
async fn a_delay_beyond_the_time_out() {
    for side in [Side::Request, Side::Answer] {
        let server = TestServer::start().await;
        let plan = FaultPlan::once(Fault::Delay(side), 1).delay(Duration::from_secs(600));
        let proxy = proxy_of(&server, plan);
        // On a busy machine CONFIG can meet the time-out too, and is tried again; an append never is.
        let config = ClientConfig::new(proxy.addr().to_string()).read_timeout(Duration::from_millis(100));
        let error = within("the append", Client::new(config).append(&batch(b"hit"))).await.unwrap_err();
        assert_eq!((error.error.kind(), error.outcome), (ErrorKind::TimedOut, Outcome::Unknown), "{error}");
        if side == Side::Answer {
            is_stored(&server, &["hit"]).await;
        }
        let start = Instant::now();
        drop(proxy);
        assert!(start.elapsed() < DROP_BOUND, "the proxy took {:?} to end", start.elapsed());
        assert_eq!(server.messages().await.len(), usize::from(side == Side::Answer));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peer_gets_half_of_the_last_batch() {
    let server = TestServer::start().await;
    let batches = [batch(b"one"), batch(b"two")];
    for batch in &batches {
        server.client().append(batch).await.unwrap();
    }
    let proxy = proxy_of(&server, FaultPlan::once(Fault::Cut(Side::Answer, Place::Middle), 1));
    tokio::task::spawn_blocking(move || {
        let mut peer = RawPeer::connect(proxy.addr());
        peer.send(b"PING\r\nTAIL default 2\r\n");
        let [one, two] = batches.each_ref().map(|batch| &batch.bytes()[..]);
        let expected = [b"OK\r\nOK 0 2\r\n", one, &two[..two.len() / 2]].concat();
        assert_eq!(peer.read_to_end().escape_ascii().to_string(), expected.escape_ascii().to_string());
        // The next connection has no fault, and what is not of the protocol is passed as it is.
        let mut peer = RawPeer::connect(proxy.addr());
        peer.send(b"TAIL default 2\r\n");
        peer.expect(&[b"OK 0 2\r\n", one, two].concat());
        peer.send(b"hello?\r\n");
        peer.expect(b"ERR invalid protocol\r\n");
        peer.expect_orderly_end();
        assert_eq!(proxy.stats().connections, 2);
    })
    .await
    .unwrap();
}

/// What arrives of a request, where the server takes every byte and says nothing.
#[test]
fn the_server_gets_what_is_before_the_cut() {
    let request = batch(b"hello");
    let bytes = &request.bytes()[..];
    for (place, expected) in
        [(Place::Before, &[][..]), (Place::Middle, &bytes[..bytes.len() / 2]), (Place::After, bytes)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = FaultPlan::once(Fault::Cut(Side::Request, place), 1);
        let proxy = FaultProxy::start(listener.local_addr().unwrap(), plan);
        let mut peer = RawPeer::connect(proxy.addr());
        // In three pieces, and more behind it.
        peer.send(b"PING\r\nBA");
        peer.send(&bytes[2..30]);
        peer.send(&bytes[30..]);
        peer.send(b"PING\r\n");
        let (mut server, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        assert_eq!(received, [b"PING\r\n", expected].concat(), "{place:?}");
        drop(server);
        assert!(peer.read_to_end().is_empty());
    }
}

#[tokio::test]
async fn dropping_the_proxy_ends_its_connections() {
    let server = TestServer::start().await;
    let proxy = proxy_of(&server, FaultPlan::none());
    let mut clients: Vec<_> = (0..10).map(|_| client_of(&proxy)).collect();
    for client in &mut clients {
        client.ping().await.unwrap();
    }
    let start = Instant::now();
    drop(proxy);
    assert!(start.elapsed() < DROP_BOUND, "the proxy took {:?} to end", start.elapsed());
    for client in &mut clients {
        client.ping().await.unwrap_err();
    }
}

/// Whatever the faults, what is acknowledged is there, and what is not written is not.
#[tokio::test]
async fn no_outcome_is_wrong_under_random_faults() {
    const BATCHES: usize = 400;
    // A connection has one fault, which need not end it.
    const BATCHES_OF_CLIENT: usize = 2 * FaultPlan::REQUESTS_MAX;
    let mut server = TestServer::start().await;
    let proxy = proxy_of(&server, FaultPlan::seeded(seed()).percent(90).delay(Duration::from_millis(1)));
    let mut client = client_of(&proxy);
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    for number in 0..BATCHES {
        if number % BATCHES_OF_CLIENT == 0 {
            client = client_of(&proxy);
        }
        let text = number.to_string();
        match within("an append", client.append(&batch(text.as_bytes()))).await {
            Ok(_) => written.push(text),
            Err(error) if error.outcome == Outcome::NotWritten => refused.push(text),
            Err(_) => {}
        }
    }
    let stats = proxy.stats();
    assert!(stats.faults.len() > 3, "{stats:?}");
    drop((client, proxy));
    server.stop().await;
    server.start_again().await;
    let messages = server.messages().await;
    let stored: HashSet<&String> = messages.iter().collect();
    assert_eq!(stored.len(), messages.len(), "a batch is there twice");
    assert!(written.iter().all(|text| stored.contains(text)), "an acknowledged batch is missing");
    assert!(!refused.iter().any(|text| stored.contains(text)), "a batch that was not written is there");
}
