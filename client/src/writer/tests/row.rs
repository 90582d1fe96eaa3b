//! Batches with an identity: sent again as the same, and several in flight.

use logd_protocol::{Batch, Reason};

use super::{NEVER, builder, messages, serve};
use crate::error::Outcome;
use crate::retry::RetryPolicy;
use crate::testing::{CONFIG, DEDUP_CONFIG, Peer, Wire};
use crate::writer::{Writer, WriterBuilder};

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_sent_again_as_the_same_to_a_server_that_knows_dedup() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, ids) = tokio::join!(writer.flush(), async {
        let first = peer.accept_with(DEDUP_CONFIG).await.batch().await;
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        let again = serve(&mut wire, 1).await.remove(0);
        assert_eq!(again, first);
        writer.write(b"next").await.unwrap();
        let (flushed, next) = tokio::join!(writer.flush(), serve(&mut wire, 1));
        flushed.unwrap();
        [first.id().unwrap(), next[0].id().unwrap()]
    });
    flushed.unwrap();
    assert_eq!((ids[0].writer, ids[0].seq + 1), (ids[1].writer, ids[1].seq));
    // Another writer is another one.
    let other = builder(&peer).open().unwrap();
    other.write(b"hello").await.unwrap();
    let (flushed, batches) =
        tokio::join!(other.flush(), async { serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await });
    flushed.unwrap();
    assert_ne!(batches[0].id().unwrap().writer, ids[0].writer);
}

#[tokio::test]
async fn batches_have_no_identity_where_it_is_not_wanted() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).dedup(false).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, batches) =
        tokio::join!(writer.flush(), async { serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await });
    flushed.unwrap();
    assert_eq!(batches[0].id(), None);
}

/// A writer whose messages each make a batch, after its first one was acknowledged.
async fn rowing(peer: &Peer, builder: WriterBuilder) -> (Writer, Wire) {
    let writer = builder.batch_bytes(512).in_flight(3).open().unwrap();
    writer.write(b"first").await.unwrap();
    let (flushed, wire) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        serve(&mut wire, 1).await;
        wire
    });
    flushed.unwrap();
    (writer, wire)
}

/// Messages that do not fit a batch together.
fn long(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string().repeat(400)).collect()
}

async fn write_all(writer: &Writer, messages: &[String]) {
    for message in messages {
        writer.write(message.as_bytes()).await.unwrap();
    }
}

async fn batches(wire: &mut Wire, count: usize) -> Vec<Batch> {
    let mut batches = Vec::new();
    for _ in 0..count {
        batches.push(wire.batch().await);
    }
    batches
}

#[tokio::test]
async fn as_many_batches_are_in_flight_as_may_be() {
    let peer = Peer::bind().await;
    let (writer, mut wire) = rowing(&peer, builder(&peer)).await;
    let written = long(6);
    write_all(&writer, &written).await;
    let (flushed, got) = tokio::join!(writer.flush(), async {
        let mut got = batches(&mut wire, 3).await;
        assert!(wire.is_silent().await, "a fourth batch came before the first was answered");
        wire.send(b"OK 0 1\r\n").await;
        got.extend(batches(&mut wire, 1).await);
        assert!(wire.is_silent().await);
        wire.send(b"OK 1 1\r\nOK 2 1\r\nOK 3 1\r\n").await;
        got.extend(batches(&mut wire, 2).await);
        wire.send(b"OK 4 1\r\nOK 5 1\r\n").await;
        got
    });
    flushed.unwrap();
    assert_eq!(got.iter().flat_map(messages).collect::<Vec<_>>(), written);
}

#[tokio::test]
async fn one_batch_is_in_flight_to_a_server_that_cannot_keep_their_order() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).open().unwrap();
    write_all(&writer, &long(3)).await;
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        for _ in 0..3 {
            wire.batch().await;
            assert!(wire.is_silent().await);
            wire.send(b"OK 0 1\r\n").await;
        }
    });
    flushed.unwrap();
}

#[tokio::test]
async fn what_was_refused_in_a_row_is_sent_again_in_order() {
    let peer = Peer::bind().await;
    let (writer, mut wire) = rowing(&peer, builder(&peer)).await;
    let written = long(4);
    write_all(&writer, &written).await;
    let (flushed, (row, again)) = tokio::join!(writer.flush(), async {
        let row = batches(&mut wire, 3).await;
        wire.send(b"OK 0 1\r\nERR disk full\r\n").await;
        let _ = wire.is_silent().await;
        wire.send(b"ERR disk full\r\n").await;
        // The fourth may have been sent when there was room for it; it is refused as the server does.
        let mut next = wire.batch().await;
        if messages(&next)[0] == written[3] {
            wire.send(b"ERR disk full\r\n").await;
            next = wire.batch().await;
        }
        wire.send(b"OK 1 1\r\n").await;
        let mut again = vec![next];
        again.extend(serve(&mut wire, 2).await);
        (row, again)
    });
    flushed.unwrap();
    assert_eq!(again[..2], row[1..]);
    assert_eq!(again.iter().flat_map(messages).collect::<Vec<_>>(), written[1..]);
}

#[tokio::test]
async fn what_was_in_flight_when_the_connection_broke_is_sent_again_in_order() {
    let peer = Peer::bind().await;
    let (writer, mut wire) = rowing(&peer, builder(&peer)).await;
    let written = long(5);
    write_all(&writer, &written).await;
    let (flushed, (row, again)) = tokio::join!(writer.flush(), async {
        let row = batches(&mut wire, 3).await;
        drop(wire);
        (row, serve(&mut peer.accept_with(DEDUP_CONFIG).await, 5).await)
    });
    flushed.unwrap();
    assert_eq!(again[..3], row);
    assert_eq!(again.iter().flat_map(messages).collect::<Vec<_>>(), written);
}

#[tokio::test]
async fn each_batch_in_flight_is_handed_back_with_what_is_known_of_it() {
    for (answers, outcomes) in [
        (&b"OK 0 1\r\n"[..], [Outcome::Unknown, Outcome::Unknown]),
        (b"OK 0 1\r\nERR shutting down\r\n", [Outcome::NotWritten, Outcome::NotWritten]),
        (b"OK 0 1\r\nERR invalid protocol\r\n", [Outcome::NotWritten, Outcome::Unknown]),
        (b"OK 0 1\r\nERR storage failed\r\nERR shutting down\r\n", [Outcome::Unknown, Outcome::NotWritten]),
    ] {
        let peer = Peer::bind().await;
        let (writer, mut wire) =
            rowing(&peer, Writer::builder(peer.config().retry(RetryPolicy::none())).wait_interval(NEVER))
                .await;
        write_all(&writer, &long(3)).await;
        let (flushed, ()) = tokio::join!(writer.flush(), async {
            batches(&mut wire, 3).await;
            wire.send(answers).await;
            drop(wire);
        });
        assert_eq!(flushed.unwrap_err().messages, 2);
        let found = [writer.failed().unwrap().outcome, writer.failed().unwrap().outcome];
        assert_eq!(found, outcomes, "{}", answers.escape_ascii());
    }
}

#[tokio::test]
async fn an_outcome_that_was_unknown_once_stays_so() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, (first, _refused_on)) = tokio::join!(writer.flush(), async {
        let first = peer.accept_with(DEDUP_CONFIG).await.batch().await;
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR topic not allowed\r\n").await;
        (first, wire)
    });
    assert_eq!(flushed.unwrap_err().first.reason(), Some(Reason::TopicNotAllowed));
    let failed = writer.failed().unwrap();
    assert_eq!((failed.outcome, failed.attempts), (Outcome::Unknown, 2));
    // Handed in again it is the same batch; on another connection, for what follows a refused one would be refused.
    writer.retry(failed).unwrap();
    let (flushed, batches) =
        tokio::join!(writer.flush(), async { serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await });
    flushed.unwrap();
    assert_eq!(batches[0], first);
}

#[tokio::test]
async fn a_batch_that_may_be_stored_is_not_sent_to_a_server_that_cannot_tell() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        peer.accept_with(DEDUP_CONFIG).await.batch().await;
        // Nothing follows: the flush is over as soon as the writer knows whom it speaks to.
        let _wire = peer.accept_with(CONFIG).await;
    });
    let error = flushed.unwrap_err();
    assert!(error.first.to_string().contains("does not know `dedup`"), "{error}");
    assert_eq!(writer.failed().unwrap().outcome, Outcome::Unknown);
}
