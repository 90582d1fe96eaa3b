use std::time::Duration;

use logd_protocol::{BatchError, Offset, Reason};

use super::{Connection, Reply, Taken};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind};
use crate::retry::RetryPolicy;
use crate::testing::{Peer, Wire, batch, within};

async fn pair(config: impl FnOnce(ClientConfig) -> ClientConfig) -> (Connection, Wire) {
    let peer = Peer::bind().await;
    let config = config(peer.config().retry(RetryPolicy::none()));
    let (connection, wire) = tokio::join!(Connection::connect(&config), peer.accept());
    (connection.unwrap(), wire)
}

async fn next_batch(connection: &mut Connection) -> Result<Taken, Error> {
    loop {
        match connection.take_batch(65536)? {
            Ok(taken) => return Ok(taken),
            Err(missing) => connection.receive_batch(missing).await?,
        }
    }
}

#[tokio::test]
async fn an_answer_is_the_same_however_it_is_split() {
    let batch = batch(&["hello", "", "world!"]);
    let mut bytes = b"OK 60 2\r\n".to_vec();
    bytes.extend_from_slice(batch.bytes());
    bytes.extend_from_slice(b"BATCH 0 default 0 0\r\n");
    bytes.extend_from_slice(b"MOK 6\r\na: b\r\n\r\nERR disk full\r\nOK\r\n");
    for split in 1..bytes.len() {
        let (mut connection, mut wire) = pair(|config| config).await;
        wire.send(&bytes[..split]).await;
        // The first part is in before the second is sent: the decoder sees the split.
        let (first, ()) = tokio::join!(connection.reply(Duration::ZERO), async {
            tokio::task::yield_now().await;
            wire.send(&bytes[split..]).await;
        });
        assert_eq!(first.unwrap(), Reply::Found { offset: Offset::new(60), batches: 2 }, "split at {split}");
        let taken = next_batch(&mut connection).await.unwrap();
        assert_eq!(taken.bytes, batch.bytes().len() as u64);
        assert_eq!(taken.batch.unwrap().unwrap(), batch);
        let empty = next_batch(&mut connection).await.unwrap();
        assert!(empty.batch.is_none());
        assert_eq!(empty.bytes, 21);
        assert_eq!(connection.reply(Duration::ZERO).await.unwrap(), Reply::Lines(b"a: b\r\n".to_vec()));
        assert_eq!(connection.reply(Duration::ZERO).await.unwrap(), Reply::Error(Reason::DiskFull));
        assert_eq!(connection.reply(Duration::ZERO).await.unwrap(), Reply::Ok);
        assert!(connection.is_quiet());
    }
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    let (mut connection, mut wire) = pair(|config| config).await;
    for byte in b"OK 7 1\r" {
        wire.send(&[*byte]).await;
        // Whether the byte is in already or not, giving up on the rest must not lose it.
        let _ = tokio::time::timeout(Duration::from_millis(1), connection.reply(Duration::ZERO)).await;
    }
    wire.send(b"\n").await;
    let reply = within("the answer", connection.reply(Duration::ZERO)).await;
    assert_eq!(reply.unwrap(), Reply::Found { offset: Offset::new(7), batches: 1 });
}

#[tokio::test]
async fn a_peer_that_ends_says_where() {
    for (sent, text) in [(&b""[..], "before its answer"), (b"OK 1", "in the middle of its answer")] {
        let (mut connection, mut wire) = pair(|config| config).await;
        wire.send(sent).await;
        drop(wire);
        let error = connection.reply(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().ends_with(text), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_protocol_error() {
    for bytes in
        [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"OK 1\r\n", b"OK -1 1\r\n", b"OK\n", b"MOK 99999999999\r\n"]
    {
        let (mut connection, mut wire) = pair(|config| config).await;
        wire.send(bytes).await;
        let error = connection.reply(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{}", bytes.escape_ascii());
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_before_it_is_there() {
    let (mut connection, mut wire) = pair(|config| config).await;
    wire.send(b"BATCH 65536 default 1 1\r\n").await;
    assert_eq!(next_batch(&mut connection).await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_damaged_batch_is_taken_whole() {
    let (mut connection, mut wire) = pair(|config| config).await;
    wire.send(b"BATCH 14 default 7 1\r\nMSG 5\r\nhello\r\nOK\r\n").await;
    let taken = next_batch(&mut connection).await.unwrap();
    assert!(matches!(taken.batch, Some(Err(BatchError::Checksum { expected: 7, .. }))));
    assert_eq!(connection.reply(Duration::ZERO).await.unwrap(), Reply::Ok);
}

#[tokio::test]
async fn time_outs_measure_progress() {
    let (mut connection, mut wire) = pair(|config| config.timeout(Duration::from_millis(400))).await;
    // The whole answer takes longer than the time-out, no byte of it does.
    let slow = async {
        for byte in b"OK 123456 1\r\n" {
            tokio::time::sleep(Duration::from_millis(50)).await;
            wire.send(&[*byte]).await;
        }
        wire
    };
    let (reply, _wire) = tokio::join!(connection.reply(Duration::ZERO), slow);
    assert_eq!(reply.unwrap(), Reply::Found { offset: Offset::new(123_456), batches: 1 });
    let error = connection.reply(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("sent nothing for `400ms`"), "{error}");
}

#[tokio::test]
async fn a_peer_that_takes_in_nothing_times_out() {
    let (mut connection, _wire) = pair(|config| config.timeout(Duration::from_millis(100))).await;
    let error = connection.send(&vec![0; 64 << 20]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("took in nothing for `100ms`"), "{error}");
}

#[tokio::test]
async fn a_connection_is_quiet_until_the_peer_closes_or_speaks() {
    let (mut connection, mut wire) = pair(|config| config).await;
    wire.send(b"OK\r\n").await;
    assert_eq!(connection.reply(Duration::ZERO).await.unwrap(), Reply::Ok);
    assert!(connection.is_quiet());
    wire.send(b"ERR shutting down\r\n").await;
    within("news", connection.disturbed()).await;

    let (connection, wire) = pair(|config| config).await;
    assert!(connection.is_quiet());
    drop(wire);
    within("the end", connection.disturbed()).await;
    assert!(!connection.is_quiet());
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_named() {
    let address = Peer::bind().await.config().host().to_owned();
    let error = Connection::connect(&ClientConfig::new(&*address)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.to_string(), format!("cannot connect to `{address}`: connection refused"));
    for host in ["", "127.0.0.1", "no such host:1"] {
        let error = Connection::connect(&ClientConfig::new(host)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    }
}
