//! A writer's task on a thread of its own, and synchronous code that waits for it.

use std::thread::JoinHandle;

use super::*;
use crate::config::ClientConfig;

/// A peer on a thread of its own, which takes so many batches.
fn peer_thread(count: usize) -> (ClientConfig, JoinHandle<Vec<Batch>>) {
    let (sender, config) = std::sync::mpsc::channel();
    let served = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let peer = Peer::bind().await;
            sender.send(peer.config()).unwrap();
            serve(&mut peer.accept_with(CONFIG).await, count).await
        })
    });
    (config.recv().unwrap(), served)
}

#[test]
fn the_last_handle_waits_until_everything_is_sent() {
    let (config, served) = peer_thread(1);
    let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
    assert!(writer.handle.thread.is_some(), "there is no runtime to use");
    writer.write_blocking(b"hello").unwrap();
    let backlog = writer.backlog();
    let clone = writer.clone();
    drop(writer);
    assert_eq!(backlog.stats().delivered, 0, "a handle is left");
    drop(clone);
    assert_eq!(backlog.stats().delivered, 1);
    assert_eq!(messages(&served.join().unwrap()[0]), ["hello"]);
}

#[test]
fn the_current_runtime_must_be_there_where_it_is_asked_for() {
    let error = Writer::builder(ClientConfig::default()).runtime(TaskRuntime::Current).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "a writer with `TaskRuntime::Current` must be opened within a tokio runtime"
    );
}

#[tokio::test]
async fn a_runtime_of_one_thread_is_not_used_unasked() {
    let (config, served) = peer_thread(2);
    let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
    assert!(writer.handle.thread.is_some());
    writer.write(b"one").await.unwrap();
    // This holds up the runtime's only thread.
    writer.flush_blocking(Duration::from_secs(10)).unwrap();
    writer.write(b"two").await.unwrap();
    within("the end", writer.close()).await.unwrap();
    assert_eq!(served.join().unwrap().iter().flat_map(messages).collect::<Vec<_>>(), ["one", "two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_only_worker_can_close_a_writer_of_its_runtime() {
    let (config, served) = peer_thread(1);
    let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
    assert!(writer.handle.thread.is_none());
    let closing = tokio::spawn(async move {
        writer.write(b"hello").await.unwrap();
        writer.close_blocking(Duration::from_secs(10))
    });
    closing.await.unwrap().unwrap();
    assert_eq!(messages(&served.join().unwrap()[0]), ["hello"]);
}

#[tokio::test]
async fn a_wait_ends_in_time_and_says_what_is_left() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).runtime(TaskRuntime::Own).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let mut wire = {
        let flush = writer.flush_blocking(Duration::from_millis(20)).unwrap_err();
        assert_eq!((flush.batches, flush.messages, flush.first.kind()), (1, 1, ErrorKind::TimedOut));
        let closed = writer.close_blocking(Duration::ZERO).unwrap_err();
        assert_eq!(closed.first.kind(), ErrorKind::TimedOut);
        peer.accept_with(CONFIG).await
    };
    let (closed, batches) = tokio::join!(writer.close(), serve(&mut wire, 1));
    closed.unwrap();
    assert_eq!(messages(&batches[0]), ["hello"]);
    writer.close_blocking(Duration::ZERO).unwrap();
}

#[tokio::test]
async fn the_writers_own_thread_waits_for_nothing() {
    let peer = Peer::bind().await;
    let slot: Arc<Mutex<Option<Writer>>> = Arc::default();
    let (heard, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handlers = Arc::clone(&slot);
    let writer = builder(&peer)
        .runtime(TaskRuntime::Own)
        .error_handler(move |_| {
            if let Some(last) = handlers.lock().unwrap().take() {
                let error = last.close_blocking(Duration::MAX).unwrap_err();
                drop(last);
                heard.send(error.first.kind()).unwrap();
            }
        })
        .open()
        .unwrap();
    let backlog = writer.backlog();
    writer.write(b"hello").await.unwrap();
    let shared = Arc::clone(&writer.handle.shared);
    // No other handle is left when the answer comes.
    *slot.lock().unwrap() = Some(writer);
    let (flushed, ()) = tokio::join!(shared.flush(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR topic not allowed\r\n").await;
    });
    flushed.unwrap_err();
    assert_eq!(within("the handler", told.recv()).await, Some(ErrorKind::Invalid));
    assert_eq!(messages(&within("the batch", backlog.next()).await.unwrap().batch), ["hello"]);
    assert!(within("the end", backlog.next()).await.is_none());
}

#[test]
fn the_end_of_main_waits_for_what_is_unsent() {
    let (config, served) = peer_thread(1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let backlog = runtime.block_on(async {
        let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
        assert!(writer.handle.thread.is_none());
        writer.write(b"hello").await.unwrap();
        writer.backlog()
    });
    assert_eq!(backlog.stats().delivered, 1);
    drop(runtime);
    assert_eq!(messages(&served.join().unwrap()[0]), ["hello"]);
}

#[test]
fn a_handle_that_goes_with_its_runtime_does_not_wait_for_it() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ClientConfig::new("127.0.0.1:1");
    let backlog = runtime.block_on(async {
        let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
        writer.write(b"hello").await.unwrap();
        let backlog = writer.backlog();
        tokio::spawn(async move {
            let _writer = writer;
            std::future::pending::<()>().await;
        });
        backlog
    });
    let start = std::time::Instant::now();
    drop(runtime);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(backlog.messages(), 1);
}

#[test]
fn a_close_that_has_had_its_time_is_not_followed_by_another_wait() {
    let retry = RetryPolicy::default().attempts(None);
    let writer = Writer::builder(ClientConfig::new("127.0.0.1:1").retry(retry)).open().unwrap();
    writer.write_blocking(b"hello").unwrap();
    let error = writer.close_blocking(Duration::from_millis(20)).unwrap_err();
    assert!(error.to_string().contains("was not done in time"), "{error}");
    let backlog = writer.backlog();
    let start = std::time::Instant::now();
    drop(writer);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(backlog.messages(), 1);
}
