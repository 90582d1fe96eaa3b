use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{BatchBuilder, Offset, Reason, TopicName};

use super::Link;
use crate::answers::ServerSettings;
use crate::error::{AppendError, ErrorKind, Outcome};
use crate::retry::RetryPolicy;
use crate::testing::{CONFIG, DEDUP_CONFIG, GO_CONFIG, Peer, Wire, batch, within};

async fn link(config: &[u8]) -> (Peer, Link, Wire) {
    let peer = Peer::bind().await;
    let mut link = Link::new(peer.config().retry(RetryPolicy::none()));
    let (session, wire) = tokio::join!(link.ready(), peer.accept_with(config));
    session.unwrap();
    (peer, link, wire)
}

/// Appends a batch that is answered with these bytes, after which the peer closes unless `stays`.
async fn append_answered(answer: &[u8]) -> (AppendError, Peer, Link) {
    let (peer, mut link, mut wire) = link(CONFIG).await;
    let batch = batch(&["hello"]);
    let session = link.ready().await.unwrap();
    let (appended, ()) = tokio::join!(session.append(&batch), async {
        wire.expect(batch.bytes()).await;
        wire.send(answer).await;
        drop(wire);
    });
    (appended.unwrap_err(), peer, link)
}

#[tokio::test]
async fn a_refused_batch_is_not_written_and_the_connection_stays() {
    let (_peer, mut link, mut wire) = link(CONFIG).await;
    let batch = batch(&["hello"]);
    let session = link.ready().await.unwrap();
    let (appended, ()) = tokio::join!(session.append(&batch), async {
        wire.expect(batch.bytes()).await;
        wire.send(b"ERR disk full\r\n").await;
    });
    let AppendError { error, outcome } = appended.unwrap_err();
    assert_eq!((error.reason(), outcome), (Some(Reason::DiskFull), Outcome::NotWritten));
    assert!(error.to_string().ends_with("answered `disk full`"), "{error}");

    let session = link.ready().await.unwrap();
    let (appended, ()) = tokio::join!(session.append(&batch), async {
        wire.expect(batch.bytes()).await;
        wire.send(b"OK 60 1\r\n").await;
    });
    assert_eq!(appended.unwrap().offset, Offset::new(60));
}

#[tokio::test]
async fn what_no_answer_settles_is_unknown() {
    for (answer, kind) in [
        (&b""[..], ErrorKind::Disconnected),
        (b"OK 6", ErrorKind::Disconnected),
        (b"OK\r\n", ErrorKind::Protocol),
        (b"MOK 0\r\n\r\n", ErrorKind::Protocol),
        (b"what?\r\n", ErrorKind::Protocol),
        (b"ERR\r\n", ErrorKind::Server(Reason::Unknown)),
        (b"ERR storage failed\r\n", ErrorKind::Server(Reason::StorageFailed)),
    ] {
        let (AppendError { error, outcome }, _peer, _link) = append_answered(answer).await;
        assert_eq!((error.kind(), outcome), (kind, Outcome::Unknown), "{}", answer.escape_ascii());
    }
}

#[tokio::test]
async fn after_a_farewell_the_next_request_has_a_new_connection() {
    let (AppendError { error, outcome }, peer, mut link) = append_answered(b"ERR shutting down\r\n").await;
    assert_eq!((error.reason(), outcome), (Some(Reason::ShuttingDown), Outcome::NotWritten));
    assert!(error.is_retryable());
    let (session, _wire) = tokio::join!(link.ready(), peer.accept_with(CONFIG));
    session.unwrap();
}

#[tokio::test]
async fn a_batch_that_was_not_sent_whole_is_not_written() {
    let config = b"MaxBatchSize: 67108864\r\n";
    let (_peer, mut link, wire) = link(config).await;
    // More than the buffers of both ends hold.
    let mut builder = BatchBuilder::new(&TopicName::default(), 64 << 20);
    builder.push(&vec![b'x'; 60 << 20]).unwrap();
    let batch = builder.finish().unwrap();
    let session = link.ready().await.unwrap();
    let (appended, ()) = tokio::join!(session.append(&batch), async { drop(wire) });
    let AppendError { error, outcome } = appended.unwrap_err();
    assert_eq!((error.kind(), outcome), (ErrorKind::Disconnected, Outcome::NotWritten));
}

#[tokio::test]
async fn a_batch_that_the_server_would_not_take_is_not_sent() {
    let (_peer, mut link, mut wire) = link(b"MaxBatchSize: 512\r\n").await;
    let large = batch(&[&"x".repeat(600)]);
    let AppendError { error, outcome } = link.ready().await.unwrap().append(&large).await.unwrap_err();
    assert_eq!((error.kind(), outcome), (ErrorKind::Invalid, Outcome::NotWritten));
    assert!(error.to_string().contains("at most `512`"), "{error}");
    let small = batch(&["x"]);
    let session = link.ready().await.unwrap();
    let (appended, ()) = tokio::join!(session.append(&small), async {
        wire.expect(small.bytes()).await;
        wire.send(b"OK 0 1\r\n").await;
    });
    appended.unwrap();
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_noticed_before_anything_is_asked() {
    let peer = Peer::bind().await;
    let mut link = Link::new(peer.config());
    let (session, ()) = tokio::join!(link.ready(), async {
        let mut wire = peer.accept().await;
        wire.send(b"ERR too many connections\r\n").await;
        wire.expect(b"CONFIG\r\n").await;
    });
    let error = session.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::TooManyConnections));
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_not_used() {
    let (peer, mut link, mut wire) = link(CONFIG).await;
    wire.send(b"ERR timed out\r\n").await;
    drop(wire);
    let batch = batch(&["hello"]);
    let (appended, ()) =
        tokio::join!(async { link.ready_to_append().await.unwrap().append(&batch).await }, async {
            let mut wire = peer.accept_with(CONFIG).await;
            wire.expect(batch.bytes()).await;
            wire.send(b"OK 0 1\r\n").await;
        });
    assert_eq!(appended.unwrap().offset, Offset::ZERO);
}

#[tokio::test]
async fn after_a_while_the_server_is_asked_before_a_batch_is_sent() {
    for (config, question, answer) in
        [(CONFIG, &b"PING\r\n"[..], &b"OK\r\n"[..]), (GO_CONFIG, b"CONFIG\r\n", b"MOK 0\r\n\r\n")]
    {
        let (peer, mut link, mut wire) = link(config).await;
        tokio::time::pause();
        tokio::time::advance(super::IDLE_UNASKED * 2).await;
        tokio::time::resume();
        let batch = batch(&["hello"]);
        let ((), ()) = tokio::join!(
            async {
                link.ready_to_append().await.unwrap().append(&batch).await.unwrap();
            },
            async {
                wire.expect(question).await;
                wire.send(answer).await;
                wire.expect(batch.bytes()).await;
                wire.send(b"OK 0 1\r\n").await;
            }
        );

        // No answer: the batch goes over a new connection.
        tokio::time::pause();
        tokio::time::advance(super::IDLE_UNASKED * 2).await;
        tokio::time::resume();
        let (appended, ()) =
            tokio::join!(async { link.ready_to_append().await.unwrap().append(&batch).await }, async {
                wire.expect(question).await;
                drop(wire);
                let mut wire = peer.accept_with(config).await;
                wire.expect(batch.bytes()).await;
                wire.send(b"OK 60 1\r\n").await;
            });
        assert_eq!(appended.unwrap().offset, Offset::new(60));
    }
}

#[tokio::test]
async fn the_end_of_an_idle_session_is_noticed() {
    let (_peer, mut link, wire) = link(CONFIG).await;
    drop(wire);
    within("the end", link.closed_by_server()).await;
    assert!(link.session.is_none());
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_that_to_another_batch() {
    let peer = Peer::bind().await;
    let mut link = Link::new(peer.config().read_timeout(Duration::from_millis(20)));
    let (ready, mut wire) = tokio::join!(link.ready(), peer.accept_with(DEDUP_CONFIG));
    let session = ready.unwrap();
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let bytes = session.send_batch(&one).await.unwrap();
    session.send_batch(&two).await.unwrap();
    assert_eq!(session.batch_reply(bytes).await.unwrap_err().error.kind(), ErrorKind::TimedOut);
    wire.send(b"OK 7 1\r\n").await;
    let late = session.batch_reply(bytes).await.unwrap_err();
    assert_eq!((late.error.kind(), late.outcome), (ErrorKind::TimedOut, Outcome::Unknown));
    let (_, again) = tokio::join!(link.ready(), peer.accept_with(DEDUP_CONFIG));
    drop(again);
}

#[tokio::test]
async fn nothing_is_sent_behind_a_batch_that_was_sent_in_part() {
    let peer = Peer::bind().await;
    let mut link = Link::new(peer.config().write_timeout(Duration::from_millis(20)));
    let (ready, mut wire) = tokio::join!(link.ready(), peer.accept_with(DEDUP_CONFIG));
    let session = ready.unwrap();
    let bytes = session.send_batch(&batch(&["one"])).await.unwrap();
    // More than the buffers of a connection hold that nobody reads from.
    let long = "x".repeat(1 << 16);
    let mut builder = BatchBuilder::new(&TopicName::default(), 1 << 26);
    while builder.push(long.as_bytes()).is_ok() {}
    session.settings = Arc::new(ServerSettings { batch_bytes_max: u64::MAX, ..ServerSettings::default() });
    let failure = session.send_batch(&builder.finish().unwrap()).await.unwrap_err();
    assert_eq!((failure.error.kind(), failure.outcome), (ErrorKind::TimedOut, Outcome::NotWritten));
    // What was sent before it is still answered.
    wire.send(b"OK 7 1\r\n").await;
    assert_eq!(session.batch_reply(bytes).await.unwrap().offset, Offset::new(7));
    let (again, _wire) = tokio::join!(link.ready(), peer.accept_with(DEDUP_CONFIG));
    again.unwrap();
}
