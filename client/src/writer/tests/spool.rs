//! The writer and its spool, against a peer that says what a test has it say.

use std::path::Path;

use logd_protocol::Offset;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::spool::{Aside, Spool, SpoolListing};
use crate::testing::DEDUP_CONFIG;
use crate::writer::{Receipt, WriterStats};
use crate::{ClientConfig, WhenAway};

/// Settings of a writer that nobody answers, and that sees that at once.
fn away() -> ClientConfig {
    let retry =
        RetryPolicy::default().interval(Duration::from_millis(1)).max_interval(Duration::from_millis(1));
    ClientConfig::new("127.0.0.1:1").retry(retry)
}

fn spooled(folder: &TempDir) -> SpoolListing {
    Spool::list(folder.path()).unwrap()
}

fn spooled_messages(dir: &Path) -> Vec<String> {
    let (spool, findings) = Spool::open(dir, u64::MAX).unwrap();
    assert!(findings.damaged.is_empty());
    spool.oldest(usize::MAX, u64::MAX).unwrap().iter().flat_map(|spooled| messages(&spooled.batch)).collect()
}

fn assert_complete(stats: WriterStats) {
    assert!(stats.is_complete(), "{stats:?}");
}

async fn write_all(writer: &Writer, texts: &[String]) {
    for text in texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string().repeat(200)).collect()
}

#[tokio::test]
async fn what_cannot_be_delivered_is_spooled_and_sent_first_by_the_next_writer() {
    let folder = TempDir::new().unwrap();
    let written = texts(10);
    {
        let writer = Writer::builder(away())
            .batch_bytes(512)
            .wait_interval(NEVER)
            .spool(folder.path(), u64::MAX)
            .open()
            .unwrap();
        write_all(&writer, &written[..9]).await;
        let delivery = writer.send(written[9].as_bytes()).await.unwrap();
        let error = within("the flush", writer.flush()).await.unwrap_err();
        assert!(error.is_spooled());
        assert_eq!((error.spooled, error.first.kind()), (10, ErrorKind::Connect));
        assert_eq!(within("the news", delivery).await.unwrap_err().error.kind(), ErrorKind::Spooled);
        let stats = writer.stats();
        assert_eq!((stats.written, stats.spooled, stats.buffered), (10, 10, 0));
        assert_complete(stats);
        assert_eq!(within("the end", writer.close()).await.unwrap_err().spooled, 10);
    }
    assert_eq!(spooled_messages(folder.path()), written);

    let peer = Peer::bind().await;
    let (sink, mut receipts) = mpsc::unbounded_channel();
    let writer = builder(&peer)
        .batch_bytes(512)
        .spool(folder.path(), u64::MAX)
        .state_pusher(move |receipt: &Receipt| sink.send(receipt.clone()).unwrap())
        .open()
        .unwrap();
    assert_eq!(writer.stats().recovered, 10);
    writer.write(b"later").await.unwrap();
    let (closed, batches) = tokio::join!(writer.close(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        serve(&mut wire, spooled(&folder).batches.len() + 1).await
    });
    closed.unwrap();
    let told: Vec<String> = batches.iter().flat_map(messages).collect();
    assert_eq!(told[..10], written);
    assert_eq!(told[10], "later");
    assert!(batches.windows(2).all(|pair| pair[0].id() != pair[1].id()));
    let stats = writer.stats();
    assert_eq!((stats.delivered, stats.spooled), (11, 0));
    assert_complete(stats);
    assert!(spooled(&folder).batches.is_empty());
    let mut next = Offset::ZERO;
    for batch in &batches {
        let receipt = receipts.recv().await.unwrap();
        assert_eq!((receipt.offset, receipt.crc), (next, batch.crc()));
        next = receipt.next;
    }
}

#[tokio::test]
async fn what_was_in_flight_goes_before_what_waited() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).in_flight(2).spool(folder.path(), u64::MAX).open().unwrap();
    let written = texts(6);
    write_all(&writer, &written).await;
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        serve(&mut wire, 1).await;
        wire.batch().await;
        wire.batch().await;
        // Two are under way, others wait, and the server is gone for good.
        drop(wire);
        drop(peer);
    });
    assert!(flushed.unwrap_err().is_spooled());
    let stats = writer.stats();
    assert_complete(stats);
    drop(writer);
    let kept = async {
        while Spool::open(folder.path(), u64::MAX).is_err() {
            tokio::task::yield_now().await;
        }
        spooled_messages(folder.path())
    };
    let kept = within("the spool", kept).await;
    let delivered = usize::try_from(stats.delivered).unwrap();
    assert!(delivered > 0);
    assert_eq!(kept, written[delivered..]);
}

#[tokio::test]
async fn what_found_no_room_in_the_spool_does_not_pass_what_did() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    // Room for one of the two batches.
    let writer = builder(&peer).batch_bytes(512).in_flight(2).spool(folder.path(), 600).open().unwrap();
    writer.write(b"first").await.unwrap();
    let (flushed, mut wire) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        serve(&mut wire, 1).await;
        wire
    });
    flushed.unwrap();
    let written = texts(8)[6..].iter().map(|text| text.repeat(2)).collect::<Vec<_>>();
    write_all(&writer, &written).await;
    let (closed, batches) = tokio::join!(writer.close(), async {
        wire.batch().await;
        wire.batch().await;
        drop(wire);
        serve(&mut peer.accept_with(DEDUP_CONFIG).await, 2).await
    });
    closed.unwrap();
    assert_eq!(batches.iter().flat_map(messages).collect::<Vec<_>>(), written);
    assert_eq!(writer.stats().delivered, 3);
}

#[tokio::test]
async fn the_spool_tells_what_was_dropped() {
    let folder = TempDir::new().unwrap();
    {
        let writer = Writer::builder(away())
            .batch_bytes(512)
            .buffer_bytes(512)
            .wait_interval(NEVER)
            .budget(Duration::ZERO)
            .spool(folder.path(), 900)
            .open()
            .unwrap();
        let mut dropped = 0;
        while dropped < 3 {
            dropped += u64::from(writer.write(&[b'x'; 300]).await.is_err());
            tokio::task::yield_now().await;
        }
        let _ = within("the end", writer.close()).await;
        let stats = writer.stats();
        assert_eq!((stats.dropped, stats.notices), (dropped, 1));
        assert_complete(stats);
    }
    let kept = spooled_messages(folder.path());
    assert!(kept.last().unwrap().starts_with("logd-writer: 3 messages with 900 bytes"), "{kept:?}");
}

#[tokio::test]
async fn the_spool_makes_room_before_anything_is_dropped() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    // It accepts, and never answers.
    let writer = builder(&peer)
        .batch_bytes(512)
        .buffer_bytes(2048)
        .in_flight(1)
        // Longer than a busy disk needs to take a batch.
        .budget(Duration::from_secs(1))
        .spool(folder.path(), 8192)
        .open()
        .unwrap();
    let written = texts(40);
    let mut dropped = 0;
    for text in &written {
        match within("the budget", writer.write(text.as_bytes())).await {
            Ok(()) => assert_eq!(dropped, 0, "there is room again that nobody has made"),
            Err(WriteError::Dropped { .. }) => dropped += 1,
            Err(other) => panic!("{other}"),
        }
        if dropped == 2 {
            break;
        }
    }
    assert_eq!(dropped, 2, "what is bounded has an end");
    let stats = writer.stats();
    assert_complete(stats);
    assert!(stats.spooled > 8192 / 512, "{stats:?}");
    assert_eq!(stats.dropped, 2);
}

#[tokio::test]
async fn a_dropped_task_leaves_what_it_has_in_the_spool() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().to_owned();
    // A thread of its own: a runtime cannot be dropped within another one.
    let (written, delivery, backlog) = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let parts = runtime.block_on(async {
            let peer = Peer::bind().await;
            let writer = builder(&peer).batch_bytes(512).spool(dir, u64::MAX).open().unwrap();
            let written = texts(7);
            write_all(&writer, &written).await;
            let delivery = writer.send(b"last").await.unwrap();
            let _wire = peer.accept_with(DEDUP_CONFIG).await;
            (written, delivery, writer.backlog())
        });
        drop(runtime);
        parts
    })
    .join()
    .unwrap();
    assert_eq!(delivery.await.unwrap_err().error.kind(), ErrorKind::Spooled);
    assert!(backlog.is_empty());
    assert_complete(backlog.stats());
    let kept = spooled_messages(folder.path());
    assert_eq!(kept[..7], written);
    assert_eq!(kept[7], "last");
}

#[tokio::test]
async fn what_may_be_written_and_cannot_be_told_apart_is_set_aside_at_the_end() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).dedup(false).spool(folder.path(), u64::MAX).open().unwrap();
    let delivery = writer.send(b"doubtful").await.unwrap();
    let (backlog, _wire) = (writer.backlog(), {
        let (_, wire) = tokio::join!(async { poll!(std::pin::pin!(writer.flush())).is_pending() }, async {
            let mut wire = peer.accept_with(DEDUP_CONFIG).await;
            wire.batch().await;
            wire
        });
        wire
    });
    tokio::time::pause();
    drop(writer);
    // Nobody answers, and the time of an abandoned writer passes.
    let failure = delivery.await.unwrap_err();
    assert_eq!((failure.error.kind(), failure.outcome), (ErrorKind::Closed, Outcome::Unknown));
    tokio::time::resume();
    assert!(backlog.is_empty());
    assert_eq!(backlog.stats().aside, 1);
    assert_complete(backlog.stats());
    let listing = spooled(&folder);
    assert!(listing.batches.is_empty());
    assert_eq!(listing.aside[0].1, Aside::Unknown);
}

#[tokio::test]
async fn a_batch_of_the_spool_that_is_refused_for_good_does_not_hold_up_the_others() {
    let folder = TempDir::new().unwrap();
    {
        let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
        for (number, text) in [(1, "refused"), (2, "damaged"), (3, "good")] {
            spool.put(number, &crate::testing::batch(&[text])).unwrap();
        }
    }
    let peer = Peer::bind().await;
    let (heard, mut events) = mpsc::unbounded_channel();
    let writer = builder(&peer)
        .spool(folder.path(), u64::MAX)
        .error_handler(move |event| heard.send(event).unwrap())
        .open()
        .unwrap();
    let damaged = spooled(&folder).batches[1].key;
    std::fs::write(folder.path().join(format!("{damaged}.batch")), b"x").unwrap();
    let (closed, ()) = tokio::join!(writer.close(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        assert_eq!(messages(&wire.batch().await), ["refused"]);
        wire.send(b"ERR topic not allowed\r\n").await;
        assert_eq!(messages(&serve(&mut wire, 1).await[0]), ["good"]);
    });
    let error = closed.unwrap_err();
    assert_eq!((error.batches, error.messages, error.spooled), (2, 2, 0));
    writer.flush().await.unwrap();
    let whys: Vec<Aside> = spooled(&folder).aside.iter().map(|(_, why)| *why).collect();
    assert_eq!(whys, [Aside::Refused, Aside::Damaged]);
    for text in ["topic not allowed", "damaged"] {
        let WriterEvent::SetAside { path, error } = events.recv().await.unwrap() else { panic!() };
        assert!(error.to_string().contains(text), "{error}");
        assert!(path.is_file());
    }
    let stats = writer.stats();
    assert_eq!((stats.recovered, stats.delivered, stats.aside), (3, 1, 2));
    assert_complete(stats);
}

#[tokio::test]
async fn what_the_server_refuses_for_good_goes_to_the_backlog_and_not_to_the_spool() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR topic not allowed\r\n").await;
    });
    assert_eq!(flushed.unwrap_err().batches, 1);
    assert!(spooled(&folder).batches.is_empty());
    assert_eq!(writer.backlog().len(), 1);
}

#[tokio::test]
async fn a_spool_in_use_or_unreadable_is_an_error() {
    let folder = TempDir::new().unwrap();
    let _held = Spool::open(folder.path(), 0).unwrap();
    let open = |dir: &Path| Writer::builder(away()).spool(dir, 1).open().unwrap_err();
    let error = open(folder.path());
    assert_eq!(error.kind(), ErrorKind::Spool);
    assert!(error.to_string().contains("is in use by another"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert_eq!(open(&file).kind(), ErrorKind::Spool);
}

#[tokio::test]
async fn a_full_spool_leaves_the_rest_to_the_backlog() {
    let folder = TempDir::new().unwrap();
    let config = away().retry(RetryPolicy::default().attempts(Some(2)).interval(Duration::from_millis(1)));
    let writer = Writer::builder(config)
        .batch_bytes(512)
        .wait_interval(NEVER)
        .spool(folder.path(), 600)
        .open()
        .unwrap();
    let written = texts(6);
    write_all(&writer, &written).await;
    let error = within("the end", writer.close()).await.unwrap_err();
    let stats = writer.stats();
    assert_complete(stats);
    assert!(stats.spooled > 0 && error.messages > 0, "{stats:?}");
    assert_eq!(stats.spooled + error.messages, 6);
    drop(writer.clone());
    let mut kept = spooled_messages(folder.path());
    kept.extend(std::iter::from_fn(|| writer.failed()).flat_map(|failed| messages(&failed.batch)));
    kept.sort();
    assert_eq!(kept, written);
}

#[tokio::test]
async fn a_writer_that_fails_while_the_server_is_away_refuses_until_it_is_back() {
    let peer = Peer::bind().await;
    let config = peer.config();
    drop(peer);
    let writer =
        Writer::builder(config.clone()).wait_interval(NEVER).when_away(WhenAway::Fail).open().unwrap();
    writer.write(b"one").await.unwrap();
    let error = within("the failure", writer.flush()).await.unwrap_err();
    assert_eq!((error.messages, error.first.kind()), (1, ErrorKind::Connect));
    let refused = writer.write(b"two").await.unwrap_err();
    assert!(matches!(&refused, WriteError::Away { .. }), "{refused}");
    assert_eq!(writer.failed().unwrap().attempts, 1);
    assert_eq!(writer.stats().written, 1);

    let listener = tokio::net::TcpListener::bind(config.host()).await.unwrap();
    let serving = tokio::spawn(async move {
        let mut wire = Peer::of(listener).accept_with(DEDUP_CONFIG).await;
        serve(&mut wire, 1).await
    });
    let write = async {
        while writer.write(b"three").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("the server", write).await;
    writer.close().await.unwrap();
    assert_eq!(messages(&serving.await.unwrap()[0]), ["three"]);
}
