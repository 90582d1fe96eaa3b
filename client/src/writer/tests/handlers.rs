//! The user's handlers, and what they are told.

use std::sync::OnceLock;

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::spool::Spool;
use crate::testing::DEDUP_CONFIG;
use crate::writer::StatePusher;
use crate::{ClientConfig, WhenAway};

fn away() -> ClientConfig {
    let retry =
        RetryPolicy::default().interval(Duration::from_millis(1)).max_interval(Duration::from_millis(1));
    ClientConfig::new("127.0.0.1:1").retry(retry)
}

#[tokio::test]
async fn when_away_fail_gives_up_what_the_spool_does_not_take() {
    let folder = TempDir::new().unwrap();
    let writer = Writer::builder(away())
        .runtime(TaskRuntime::Current)
        .batch_bytes(512)
        .wait_interval(NEVER)
        .when_away(WhenAway::Fail)
        .spool(folder.path(), 600)
        .open()
        .unwrap();
    for _ in 0..3 {
        writer.write(&[b'x'; 400]).await.unwrap();
    }
    assert!(within("the flush", writer.flush()).await.is_err());
}

#[tokio::test]
async fn the_handler_hears_what_is_given_up_at_the_end() {
    let folder = TempDir::new().unwrap();
    let heard: Arc<Mutex<Vec<WriterEvent>>> = Arc::default();
    let sink = Arc::clone(&heard);
    let writer = Writer::builder(away())
        .runtime(TaskRuntime::Current)
        .batch_bytes(512)
        .wait_interval(NEVER)
        .spool(folder.path(), 600)
        .error_handler(move |event| sink.lock().unwrap().push(event))
        .open()
        .unwrap();
    for _ in 0..3 {
        writer.write(&[b'x'; 400]).await.unwrap();
    }
    assert!(within("the end", writer.close()).await.unwrap_err().batches > 0);
    let failed: u64 = heard
        .lock()
        .unwrap()
        .iter()
        .map(|event| if let WriterEvent::Failed { messages, .. } = event { *messages } else { 0 })
        .sum();
    assert_eq!(failed, writer.stats().backlog, "{:?}", heard.lock().unwrap());
}

#[tokio::test]
async fn a_close_tells_what_was_set_aside() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, closed) = tokio::join!(
        async {
            let flushed = writer.flush().await;
            (flushed, writer.close().await)
        },
        async {
            let mut wire = peer.accept_with(DEDUP_CONFIG).await;
            wire.batch().await;
            drop(wire);
            let mut wire = peer.accept_with(DEDUP_CONFIG).await;
            wire.batch().await;
            wire.send(b"ERR topic not allowed\r\n").await;
        }
    )
    .0;
    assert!(flushed.unwrap_err().is_spooled());
    let stats = writer.stats();
    assert_eq!((stats.aside, stats.delivered), (1, 0));
    assert!(closed.is_err(), "nothing was delivered, and close says that all is well");
}

#[test]
fn a_handler_on_the_writers_own_thread_can_write() {
    let handle: Arc<OnceLock<crate::blocking::Writer>> = Arc::default();
    let own = Arc::clone(&handle);
    let (told, heard) = std::sync::mpsc::channel();
    let writer = crate::blocking::Writer::open(
        Writer::builder(away())
            .batch_bytes(512)
            .buffer_bytes(512)
            .wait_interval(Duration::ZERO)
            .budget(Duration::MAX)
            .error_handler(move |event| {
                if matches!(event, WriterEvent::Retrying { attempts: 3, .. })
                    && let Some(writer) = own.get()
                {
                    let _ = told.send(writer.write(&[b'y'; 400]).is_ok());
                }
            }),
    )
    .unwrap();
    handle.set(writer).map_err(drop).unwrap();
    handle.get().unwrap().write(&[b'x'; 400]).unwrap();
    assert!(heard.recv_timeout(Duration::from_secs(10)).is_ok(), "the writer's thread waits for itself");
}

/// Never done with its first receipt.
struct Stuck;

#[async_trait]
impl StatePusher for Stuck {
    async fn push(&mut self, _: &Receipt) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_dropped_writer_ends_also_when_its_pusher_does_not() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer).spool(folder.path(), u64::MAX).state_pusher(Stuck).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let (flushed, _) =
        tokio::join!(writer.flush(), async { serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await });
    flushed.unwrap();
    let backlog = writer.backlog();
    drop(writer);
    assert!(within("the end", backlog.next()).await.is_none());
    Spool::open(folder.path(), 0).unwrap();
}

#[tokio::test]
async fn a_notice_that_panics_does_not_abort() {
    let folder = TempDir::new().unwrap();
    let peer = Peer::bind().await;
    let writer = builder(&peer)
        .batch_bytes(512)
        .buffer_bytes(512)
        .budget(Duration::ZERO)
        .spool(folder.path(), 0)
        .drop_notice(|_| panic!("the user's"))
        .open()
        .unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    assert!(writer.write(&[b'x'; 400]).await.is_err());
    let _ = tokio::join!(tokio::time::timeout(Duration::from_secs(2), writer.flush()), async {
        serve(&mut peer.accept_with(DEDUP_CONFIG).await, 1).await
    });
}
