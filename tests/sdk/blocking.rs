//! The client for programs without a runtime.

use std::task::Poll;
use std::time::Duration;

use logd_client::blocking::{Scanner, Writer};
use logd_client::{ErrorKind, RetryPolicy, Start, WriteError};

use crate::server_thread::ServerThread;

fn open(server: &ServerThread) -> Writer {
    Writer::open(logd_client::Writer::builder(server.client_config())).unwrap()
}

#[test]
fn messages_are_written_and_read_back() {
    let server = ServerThread::start();
    let writer = open(&server);
    writer.write(b"one").unwrap();
    let position = writer.send(b"two").unwrap().wait().unwrap();
    writer.write(b"").unwrap();
    writer.flush().unwrap();
    assert_eq!(writer.stats().delivered, 3);
    writer.close().unwrap();
    assert!(matches!(writer.write(b"late"), Err(WriteError::Closed)));

    let mut scanner = server.scanner();
    let first = scanner.next().unwrap().unwrap();
    assert_eq!(first.bytes, b"one".as_slice());
    assert_eq!(scanner.position(), Some(position));
    let texts: Vec<_> = scanner.map(|message| message.unwrap().bytes).collect();
    assert_eq!(texts, [b"two".as_slice(), b""]);
    let builder = logd_client::Scanner::builder(server.client_config()).start(Start::At(position));
    assert_eq!(Scanner::open(builder).unwrap().count(), 2);
}

#[test]
fn a_follower_waits_as_long_as_it_is_told_to() {
    let server = ServerThread::start();
    let builder = logd_client::Scanner::builder(server.client_config()).follow(true);
    let mut scanner = Scanner::open(builder).unwrap();
    assert!(scanner.next_timeout(Duration::from_millis(20)).is_pending());
    assert!(scanner.next_timeout(Duration::ZERO).is_pending());
    open(&server).write(b"hello").unwrap();
    let Poll::Ready(Some(Ok(message))) = scanner.next_timeout(Duration::from_secs(20)) else { panic!() };
    assert_eq!(message.bytes, b"hello".as_slice());
}

#[test]
fn what_fails_is_handed_back() {
    let mut server = ServerThread::start();
    let config = server.client_config().retry(RetryPolicy::none());
    server.stop();
    let writer = Writer::open(logd_client::Writer::builder(config.clone())).unwrap();
    let mut delivery = writer.send(b"hello").unwrap();
    assert!(delivery.wait_timeout(Duration::ZERO).is_pending());
    assert_eq!(writer.close().unwrap_err().messages, 1);
    let Poll::Ready(Err(error)) = delivery.wait_timeout(Duration::from_secs(20)) else { panic!() };
    assert_eq!(error.error.kind(), ErrorKind::Connect);
    let Poll::Ready(Err(error)) = delivery.wait_timeout(Duration::ZERO) else { panic!() };
    assert_eq!(error.error.kind(), ErrorKind::Invalid);
    assert!(matches!(writer.retry(writer.failed().unwrap()), Err(WriteError::Closed)));
    assert_eq!(writer.backlog().len(), 1);

    let mut scanner = Scanner::open(logd_client::Scanner::builder(config)).unwrap();
    assert_eq!(scanner.next().unwrap().unwrap_err().kind(), ErrorKind::Connect);
    assert!(scanner.next().is_none());
}

#[test]
fn settings_out_of_bounds_are_errors() {
    let config = logd_client::ClientConfig::default();
    let writer = logd_client::Writer::builder(config.clone()).in_flight(0);
    assert_eq!(Writer::open(writer).unwrap_err().kind(), ErrorKind::Invalid);
    let scanner = logd_client::Scanner::builder(config).read_messages(0);
    assert_eq!(Scanner::open(scanner).unwrap_err().kind(), ErrorKind::Invalid);
}

/// Uses everything, and drops it in the middle of things.
fn use_and_drop(server: &ServerThread) {
    let writer = open(server);
    writer.write(b"one").unwrap();
    writer.send(b"two").unwrap().wait().unwrap();
    let mut scanner = server.scanner();
    scanner.next().unwrap().unwrap();
    assert!(Scanner::open(logd_client::Scanner::builder(server.client_config()).read_messages(0)).is_err());
}

#[test]
fn all_of_it_works_within_any_runtime() {
    let server = ServerThread::start();
    let several = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let one = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for runtime in [several, one] {
        runtime.block_on(async {
            use_and_drop(&server);
            let local = tokio::task::LocalSet::new();
            local.run_until(async { use_and_drop(&server) }).await;
        });
    }
}
