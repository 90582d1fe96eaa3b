//! What a writer gives up, what it drops, and who hears of it.

use tokio::sync::mpsc;

use super::*;
use crate::backlog::WhenFull;
use crate::testing::DEDUP_CONFIG;
use crate::writer::{Dropped, WhenFailed};

/// Answers every batch with this.
async fn refuse(wire: &mut Wire, count: usize, answer: &[u8]) {
    for _ in 0..count {
        wire.batch().await;
        wire.send(answer).await;
    }
}

#[tokio::test]
async fn a_backlog_can_be_awaited_looked_at_and_outlives_its_writer() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    let backlog = writer.backlog();
    let mut next = std::pin::pin!(backlog.next());
    assert!(poll!(&mut next).is_pending());
    writer.write(b"one").await.unwrap();
    let (_, wire) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        refuse(&mut wire, 1, b"ERR topic not allowed\r\n").await;
        wire
    });
    assert_eq!(messages(&within("the batch", next).await.unwrap().batch), ["one"]);
    assert!(backlog.is_empty());
    wire.closed().await;

    writer.write(b"two").await.unwrap();
    let (_, ()) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(DEDUP_CONFIG).await;
        refuse(&mut wire, 1, b"ERR topic not allowed\r\n").await;
    });
    drop(writer);
    assert_eq!(backlog.iter().map(|failed| failed.batch.messages()).collect::<Vec<_>>(), [1]);
    assert_eq!((backlog.len(), backlog.messages()), (1, 1));
    assert!(backlog.bytes() > 0);
    assert_eq!(messages(&within("the batch", backlog.next()).await.unwrap().batch), ["two"]);
    assert!(within("the end", backlog.next()).await.is_none());
    assert_eq!((backlog.stats().taken, backlog.stats().backlog), (2, 0));
    assert!(backlog.stats().is_complete());
}

#[tokio::test]
async fn what_a_full_backlog_drops_is_counted_told_and_announced() {
    let peer = Peer::bind().await;
    let (heard, mut events) = mpsc::unbounded_channel();
    let writer = builder(&peer)
        .batch_bytes(512)
        .backlog_bytes(600)
        .when_backlog_full(WhenFull::DropOldest)
        .drop_notice(|dropped| Some(format!("{{\"dropped\":{}}}", dropped.messages).into_bytes()))
        .error_handler(move |event| heard.send(event).unwrap())
        .open()
        .unwrap();
    for text in ["a", "b", "c"] {
        writer.write(text.repeat(400).as_bytes()).await.unwrap();
    }
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        for _ in 0..3 {
            refuse(&mut peer.accept_with(CONFIG).await, 1, b"ERR invalid protocol\r\n").await;
        }
    });
    assert_eq!(flushed.unwrap_err().messages, 3, "it is told what failed, whatever became of it");
    let stats = writer.stats();
    assert_eq!((stats.backlog, stats.dropped, stats.dropped_bytes), (1, 2, 800));
    assert!(stats.is_complete());
    writer.write(b"later").await.unwrap();
    let (_, batches) =
        tokio::join!(writer.close(), async { serve(&mut peer.accept_with(CONFIG).await, 2).await });
    assert_eq!(batches.iter().flat_map(messages).collect::<Vec<_>>(), ["later", "{\"dropped\":2}"]);
    let mut dropped = 0;
    let mut failed = 0;
    while let Some(event) = events.recv().await {
        match event {
            WriterEvent::Failed { messages, .. } => failed += messages,
            WriterEvent::Dropped { dropped: Dropped { messages, .. }, .. } => dropped += messages,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((failed, dropped), (3, 2));
    assert!(writer.stats().is_complete());
}

/// Hears nothing until it is let through.
struct Slow(Arc<tokio::sync::Semaphore>, mpsc::UnboundedSender<WriterEvent>);

#[async_trait::async_trait]
impl crate::ErrorHandler for Slow {
    async fn handle(&mut self, event: WriterEvent) {
        let _ = self.0.acquire().await;
        let _ = self.1.send(event);
    }
}

#[tokio::test]
async fn a_slow_handler_holds_nothing_up_and_hears_how_much_it_missed() {
    let peer = Peer::bind().await;
    let (heard, mut events) = mpsc::unbounded_channel();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = Slow(Arc::clone(&gate), heard);
    let writer =
        builder(&peer).batch_bytes(512).buffer_bytes(512).budget(Duration::ZERO).error_handler(handler);
    let writer = writer.open().unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    for _ in 0..400 {
        assert!(writer.write(&[b'y'; 400]).await.is_err());
    }
    // Closing it lets the handler through.
    gate.close();
    let (mut told, mut missed) = (0, 0);
    while told + missed < 400 {
        match within("an event", events.recv()).await.unwrap() {
            WriterEvent::Dropped { .. } => told += 1,
            WriterEvent::Missed { events } => missed += events,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(told + missed, 400);
    assert!(missed > 0);
}

#[tokio::test]
async fn a_writer_that_halts_leaves_no_gap() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).when_failed(WhenFailed::Halt).open().unwrap();
    for text in ["a", "b", "c", "d"] {
        writer.write(text.repeat(400).as_bytes()).await.unwrap();
    }
    let (flushed, batches) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        let mut batches = serve(&mut wire, 1).await;
        batches.push(wire.batch().await);
        wire.send(b"ERR maximum topics allowed\r\n").await;
        batches
    });
    assert_eq!(flushed.unwrap_err().messages, 3);
    assert_eq!(batches.len(), 2);
    within("the end", writer.close()).await.unwrap_err();
    assert!(matches!(writer.write(b"late").await, Err(WriteError::Closed)));
    let left: Vec<(String, u32)> = std::iter::from_fn(|| writer.failed())
        .flat_map(|failed| messages(&failed.batch).into_iter().map(move |text| (text, failed.attempts)))
        .collect();
    let expected = [("b", 1), ("c", 0), ("d", 0)].map(|(text, attempts)| (text.repeat(400), attempts));
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_writer_that_halts_has_no_spool() {
    let peer = Peer::bind().await;
    let folder = tempfile::TempDir::new().unwrap();
    let error = builder(&peer).when_failed(WhenFailed::Halt).spool(folder.path(), 1).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_silent_server_holds_the_application_up_once_and_not_with_every_message() {
    let peer = Peer::bind().await;
    let budget = Duration::from_millis(300);
    let writer = builder(&peer).batch_bytes(512).buffer_bytes(512).budget(budget).open().unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    let start = std::time::Instant::now();
    for _ in 0..40 {
        assert!(writer.write(&[b'y'; 400]).await.is_err());
    }
    assert!((budget..40 * budget).contains(&start.elapsed()), "{:?}", start.elapsed());
    let mut wire = peer.accept_with(DEDUP_CONFIG).await;
    wire.batch().await;
    wire.send(b"OK 0 1\r\n").await;
    let room = async {
        while writer.write(b"z").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("room", room).await;
}
