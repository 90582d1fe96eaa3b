//! Where a batch could be lost, doubled, or hold up the end.

use logd_protocol::{BatchBuilder, BatchId, TopicName, WriterId};
use tempfile::TempDir;

use super::*;
use crate::spool::{Aside, Spool};
use crate::testing::{DEDUP_CONFIG, batch};
use crate::{ClientConfig, FailedBatch};

fn away() -> ClientConfig {
    let retry =
        RetryPolicy::default().interval(Duration::from_millis(1)).max_interval(Duration::from_millis(1));
    ClientConfig::new("127.0.0.1:1").retry(retry)
}

fn with_id(writer: u64, seq: u64, text: &str) -> Batch {
    let mut builder = BatchBuilder::with_ids(&TopicName::default(), 65536);
    builder.push(text.as_bytes()).unwrap();
    builder.finish_as(BatchId { writer: WriterId::new(writer), seq }).unwrap()
}

#[tokio::test]
async fn a_dropped_writer_leaves_no_doubtful_batch_to_be_sent_twice() {
    let folder = TempDir::new().unwrap();
    Spool::open(folder.path(), u64::MAX).unwrap().0.put(1, &batch(&["doubtful"])).unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    let mut wire = peer.accept_with(CONFIG).await;
    wire.batch().await;
    let ended = {
        let backlog = writer.backlog();
        async move { while backlog.next().await.is_some() {} }
    };
    tokio::time::pause();
    drop(writer);
    ended.await;
    tokio::time::resume();
    let listing = Spool::list(folder.path()).unwrap();
    assert!(listing.batches.is_empty(), "the next writer sends it again: {:?}", listing.batches);
}

#[tokio::test]
async fn what_may_be_stored_is_not_set_aside_as_refused() {
    let folder = TempDir::new().unwrap();
    Spool::open(folder.path(), u64::MAX).unwrap().0.put(1, &with_id(1, 1, "x")).unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    let mut wire = peer.accept_with(DEDUP_CONFIG).await;
    wire.batch().await;
    wire.send(b"ERR storage failed\r\n").await;
    let _ = within("close", writer.close()).await;
    let listing = Spool::list(folder.path()).unwrap();
    assert_eq!(listing.aside[0].1, Aside::Unknown);
}

#[tokio::test]
async fn a_spooled_batch_of_unknown_outcome_is_not_sent_to_a_server_without_dedup() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    writer.write(b"once").await.unwrap();
    let (_, second) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        wire.batch().await;
        drop(wire);
        let mut wire = peer.accept_with(CONFIG).await;
        tokio::time::timeout(Duration::from_millis(500), wire.batch()).await.ok()
    });
    assert!(second.is_none(), "it may be stored twice: {:?}", second.map(|batch| messages(&batch)));
}

#[tokio::test]
async fn a_large_batch_handed_in_again_does_not_hold_up_the_end() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::builder(away())
        .runtime(TaskRuntime::Current)
        .wait_interval(NEVER)
        .spool(folder.path(), u64::MAX)
        .open()
        .unwrap();
    let mut large = BatchBuilder::new(&TopicName::default(), 4 << 20);
    large.push(&vec![b'x'; 2 << 20]).unwrap();
    let failed = FailedBatch {
        batch: large.finish().unwrap(),
        error: crate::Error::invalid("x"),
        outcome: Outcome::NotWritten,
        attempts: 1,
    };
    writer.retry(failed.clone()).unwrap();
    writer.retry(failed).unwrap();
    let _ = within("the end", writer.close()).await;
}

#[tokio::test]
async fn a_writer_whose_spool_takes_nothing_can_be_closed() {
    let folder = TempDir::new().unwrap();
    let config = away();
    let retry = RetryPolicy::default()
        .attempts(None)
        .interval(Duration::from_millis(1))
        .max_interval(Duration::from_millis(1));
    let writer = Writer::builder(config.retry(retry))
        .runtime(TaskRuntime::Current)
        .wait_interval(NEVER)
        .spool(folder.path(), 10)
        .open()
        .unwrap();
    writer.write(b"hello").await.unwrap();
    let _ = within("the end", writer.close()).await;
}

#[tokio::test]
async fn writes_do_not_put_off_the_notice_of_a_silent_server() {
    let peer = Peer::bind().await;
    let writer = Writer::builder(peer.config().read_timeout(Duration::from_millis(300)))
        .runtime(TaskRuntime::Current)
        .batch_bytes(512)
        .buffer_bytes(512)
        .wait_interval(Duration::ZERO)
        .budget(Duration::from_millis(20))
        .open()
        .unwrap();
    writer.write(b"first").await.unwrap();
    let mut wire = peer.accept_with(DEDUP_CONFIG).await;
    serve(&mut wire, 1).await;
    writer.flush().await.unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    wire.batch().await;
    let start = std::time::Instant::now();
    let writes = async {
        loop {
            let _ = writer.write(&[b'x'; 400]).await;
        }
    };
    let noticed = tokio::select! {
        _ = writes => unreachable!(),
        wire = tokio::time::timeout(Duration::from_secs(4), peer.accept()) => wire.is_ok(),
    };
    assert!(noticed, "silent for {:?} with a read timeout of 300 ms", start.elapsed());
}

#[tokio::test]
async fn what_is_too_old_goes_when_a_batch_is_added() {
    let config = away().retry(RetryPolicy::none());
    let writer = Writer::builder(config)
        .runtime(TaskRuntime::Current)
        .backlog_age(Duration::from_millis(1))
        .wait_interval(Duration::ZERO)
        .open()
        .unwrap();
    for _ in 0..2 {
        let delivery = writer.send(b"x").await.unwrap();
        assert!(delivery.await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(writer.stats().dropped, 1);
}

#[tokio::test]
async fn an_unknown_outcome_stays_unknown_when_it_is_handed_in_again() {
    let peer = Peer::bind().await;
    let writer = Writer::builder(peer.config().retry(RetryPolicy::none()))
        .wait_interval(NEVER)
        .runtime(TaskRuntime::Current)
        .open()
        .unwrap();
    writer.write(b"once").await.unwrap();
    let (_, first) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        wire.batch().await
    });
    let failed = writer.failed().unwrap();
    assert_eq!(failed.outcome, Outcome::Unknown);
    writer.retry(failed).unwrap();
    // The server is away for a moment.
    let (_, ()) = tokio::join!(writer.flush(), async { drop(peer.accept().await) });
    let failed = writer.failed().unwrap();
    let outcome = failed.outcome;
    writer.retry(failed).unwrap();
    let (_, second) = tokio::join!(writer.flush(), async {
        serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await.remove(0)
    });
    assert_eq!((second.id(), outcome), (first.id(), Outcome::Unknown), "a new identity: it is stored twice");
}

#[tokio::test]
async fn what_cannot_be_removed_is_not_sent_again_and_again() {
    let folder = TempDir::new().unwrap();
    let key = {
        let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
        spool.put(1, &batch(&["once"])).unwrap();
        spool.key(1)
    };
    let peer = Peer::bind().await;
    let (heard, mut events) = tokio::sync::mpsc::unbounded_channel();
    let writer = builder(&peer)
        .spool(folder.path(), u64::MAX)
        .error_handler(move |event| drop(heard.send(event)))
        .open()
        .unwrap();
    let mut wire = peer.accept_with(CONFIG).await;
    wire.batch().await;
    // A file can be removed as one, a folder cannot.
    let path = folder.path().join(format!("{key}.batch"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    wire.send(b"OK 0 1\r\n").await;
    for _ in 0..3 {
        let event = within("the failure", events.recv()).await.unwrap();
        assert!(matches!(event, WriterEvent::SpoolFailed { .. }), "{event:?}");
    }
    assert!(wire.is_silent().await, "it was sent again");
    std::fs::remove_dir(&path).unwrap();
    writer.close().await.unwrap();
    assert_eq!(writer.stats().delivered, 1);
}

#[tokio::test]
async fn a_peer_that_is_no_server_does_not_empty_the_spool() {
    let folder = TempDir::new().unwrap();
    {
        let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
        for number in 1..=3 {
            spool.put(number, &with_id(1, number, "x")).unwrap();
        }
    }
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    for _ in 0..3 {
        peer.accept().await.send(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
    }
    drop(peer);
    let _ = within("the end", writer.close()).await;
    let listing = Spool::list(folder.path()).unwrap();
    assert_eq!((listing.batches.len(), listing.aside.len()), (3, 0));
}

#[tokio::test]
async fn the_spool_keeps_the_order_of_its_runs() {
    let folder = TempDir::new().unwrap();
    {
        let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
        for (number, writer) in [(1, 1), (2, 1), (3, 2)] {
            spool.put(number, &with_id(writer, number, &number.to_string())).unwrap();
        }
    }
    let peer = Peer::bind().await;
    let _writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    let mut wire = peer.accept_with(DEDUP_CONFIG).await;
    serve(&mut wire, 1).await;
    assert_eq!(messages(&wire.batch().await), ["2"]);
    wire.send(b"ERR disk full\r\n").await;
    // Of another writer: a server does not refuse it.
    wire.closed().await;
    let mut wire = peer.accept_with(DEDUP_CONFIG).await;
    assert_eq!(messages(&wire.batch().await), ["2"], "nothing passes it");
}
