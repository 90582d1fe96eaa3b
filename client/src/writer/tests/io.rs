//! A writer as the sink of a logger.

use std::io::{self, Write};

use super::*;
use crate::writer::mark::Identity;

/// A writer whose buffer has room for one message of 400 bytes, and has it.
async fn full(peer: &Peer, budget: Duration, runtime: TaskRuntime) -> Writer {
    let writer =
        builder(peer).batch_bytes(512).buffer_bytes(512).budget(budget).runtime(runtime).open().unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    writer
}

fn refusal(error: &io::Error) -> &WriteError {
    error.get_ref().and_then(|error| error.downcast_ref()).unwrap()
}

#[tokio::test]
async fn each_line_is_a_message_and_each_clone_keeps_its_own_beginning() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    let mut first = writer.io();
    write!(first, "one\n\nbegin").unwrap();
    let mut second = first.clone();
    second.write_all(b"two\r\nnever ended").unwrap();
    first.flush().unwrap();
    writeln!(first, "ning").unwrap();
    drop(second);
    drop(first);
    let (flushed, batches) =
        tokio::join!(writer.flush(), async { serve(&mut peer.accept_with(CONFIG).await, 1).await });
    flushed.unwrap();
    assert_eq!(messages(&batches[0]), ["one", "", "two\r", "beginning", "never ended"]);
}

#[tokio::test]
async fn a_line_longer_than_a_message_is_several() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).open().unwrap();
    let line = "y".repeat(1000);
    writeln!(writer.io(), "{line}").unwrap();
    let (closed, batches) =
        tokio::join!(writer.close(), async { serve(&mut peer.accept_with(CONFIG).await, 3).await });
    closed.unwrap();
    let pieces: Vec<String> = batches.iter().flat_map(messages).collect();
    assert_eq!((pieces.len(), pieces.concat()), (3, line));
}

#[tokio::test]
async fn lines_without_room_in_the_budget_are_dropped_and_every_one_is_counted() {
    let peer = Peer::bind().await;
    let budget = Duration::from_millis(500);
    let writer = full(&peer, budget, TaskRuntime::Current).await;
    let mut lines = writer.io();
    let text = format!("{}\n{}\n{}\n", "a".repeat(400), "b".repeat(400), "c".repeat(400));
    let start = std::time::Instant::now();
    let error = lines.write(text.as_bytes()).unwrap_err();
    let waited = start.elapsed();
    assert!(budget <= waited && waited < budget * 2, "{waited:?}");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(matches!(refusal(&error), WriteError::Dropped { .. }));
    assert_eq!((writer.dropped(), writer.stats().dropped_bytes), (3, 1200));
    assert!(writer.stats().is_complete());
}

#[tokio::test]
async fn what_is_refused_for_another_reason_is_counted_too() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    let mut lines = writer.io();
    let mut partial = writer.io();
    partial.write_all(b"partial").unwrap();
    let (closed, ()) = tokio::join!(writer.close(), async {});
    closed.unwrap();
    let error = lines.write(b"late\n").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(refusal(&error), WriteError::Closed));
    drop(partial);
    assert_eq!(writer.dropped(), 2);
    assert!(writer.stats().is_complete());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_of_a_runtime_waits_and_its_tasks_go_on() {
    let peer = Peer::bind().await;
    let writer = full(&peer, Duration::from_secs(9), TaskRuntime::Auto).await;
    assert!(writer.handle.thread.is_none(), "a runtime of several threads is used");
    let mut lines = writer.io();
    let served = tokio::spawn(async move { serve(&mut peer.accept_with(CONFIG).await, 2).await });
    let closed = tokio::spawn(async move {
        writeln!(lines, "{}", "y".repeat(400)).unwrap();
        writer.close().await
    });
    within("the end", closed).await.unwrap().unwrap();
    let texts: Vec<String> = served.await.unwrap().iter().flat_map(messages).collect();
    assert_eq!(texts, ["x".repeat(400), "y".repeat(400)]);
}

#[tokio::test]
async fn a_writer_does_not_take_lines_of_its_own_doing() {
    let peer = Peer::bind().await;
    let (writer, other) = (builder(&peer).open().unwrap(), builder(&peer).open().unwrap());
    {
        let _mark = Identity::of(&writer.handle.shared).mark();
        let _inner = Identity::of(&other.handle.shared).mark();
        writer.io().write_all(b"one\ntwo\nthree").unwrap();
    }
    assert_eq!((writer.stats().suppressed, writer.stats().written), (3, 0));
    {
        let _mark = Identity::of(&writer.handle.shared).mark();
        other.io().write_all(b"of the other\n").unwrap();
    }
    writer.io().write_all(b"of nobody\n").unwrap();
    assert_eq!((other.stats().suppressed, other.stats().written), (0, 1));
    assert_eq!((writer.stats().suppressed, writer.stats().written), (3, 1));
}

#[tokio::test]
async fn handlers_log_without_a_loop_and_can_write() {
    let peer = Peer::bind().await;
    let slot: Arc<Mutex<Option<Writer>>> = Arc::default();
    let handlers = Arc::clone(&slot);
    let writer = builder(&peer)
        .error_handler(move |event: WriterEvent| {
            if let Some(writer) = &*handlers.lock().unwrap() {
                writeln!(writer.io(), "{event:?}").unwrap();
                writer
                    .handle
                    .shared
                    .put_now(b"written", crate::writer::waiting::Promised::No)
                    .unwrap()
                    .unwrap();
            }
        })
        .open()
        .unwrap();
    *slot.lock().unwrap() = Some(writer.clone());
    writer.write(b"one").await.unwrap();
    let (flushed, ()) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR topic not allowed\r\n").await;
    });
    flushed.unwrap_err();
    // The handler is told by its own task.
    within("the handler", async {
        while writer.stats().suppressed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((writer.stats().suppressed, writer.stats().written), (1, 2));
    slot.lock().unwrap().take();
}
