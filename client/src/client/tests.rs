use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_protocol::{Bound, Offset, Reason, TopicName};

use super::Client;
use crate::answers::Head;
use crate::error::{ErrorKind, Outcome};
use crate::retry::RetryPolicy;
use crate::testing::{CONFIG, GO_CONFIG, Peer, TIME_CONFIG, batch, within};

fn default() -> TopicName {
    TopicName::default()
}

#[test]
fn every_future_can_be_spawned() {
    fn assert_send<T: Send>(_: T) {}
    let mut client = Client::new(crate::ClientConfig::default());
    let batch = batch(&["hello"]);
    assert_send(Client::connect(crate::ClientConfig::default()));
    assert_send(client.ping());
    assert_send(client.append(&batch));
    assert_send(client.read(&default(), Offset::ZERO, 1));
    assert_send(client.read_wait(&default(), Offset::ZERO, 1, Duration::ZERO));
    assert_send(client.tail(&default(), 1));
    assert_send(client.head(&default()));
    assert_send(client.offset_at(&default(), UNIX_EPOCH, Bound::Lower));
    assert_send(client.topics());
    assert_send(client.stats());
    assert_send(client.server_config());
    assert_send(client.close());
}

#[tokio::test]
async fn a_go_server_is_asked_only_what_it_knows() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let (one, two) = (batch(&["hello"]), batch(&["world", "!"]));
    let ((), ()) = tokio::join!(
        async {
            let settings = client.server_config().await.unwrap();
            assert_eq!((settings.version.clone(), settings.features.len()), (None, 0));
            assert_eq!((&*settings.idle_timeout, settings.batch_bytes_max), ("30s", 65536));
            assert_eq!(settings.lines.len(), 4);
            client.ping().await.unwrap();
            let topics = client.topics().await.unwrap_err();
            assert_eq!(topics.kind(), ErrorKind::Invalid);
            assert!(topics.to_string().ends_with("does not know `TOPICS`"), "{topics}");
            let bytes = (one.bytes().len() + two.bytes().len()) as u64;
            let head = client.head(&default()).await.unwrap();
            assert_eq!(head, Head { next: Offset::new(100 + bytes), batches: 2 });
            // Polled: not there, not there, there.
            let answer = client.read_wait(&default(), head.next, 1, Duration::from_secs(10)).await.unwrap();
            assert_eq!((answer.offset, answer.batches), (head.next, vec![one.clone()]));
            client.close().await.unwrap();
        },
        async {
            let mut wire = peer.accept_with(GO_CONFIG).await;
            wire.expect(b"CONFIG\r\n").await;
            wire.send(b"MOK 0\r\n\r\n").await;
            wire.expect(b"TAIL default 1000\r\n").await;
            wire.send(b"OK 100 1\r\n").await;
            wire.send(one.bytes()).await;
            let next = 100 + one.bytes().len();
            wire.expect(format!("READ default {next} 1000\r\n").as_bytes()).await;
            wire.send(format!("OK {next} 1\r\n").as_bytes()).await;
            wire.send(two.bytes()).await;
            let next = next + two.bytes().len();
            wire.expect(format!("READ default {next} 1000\r\n").as_bytes()).await;
            wire.send(b"ERR not found\r\n").await;
            let read = format!("READ default {next} 1\r\n");
            for _ in 0..2 {
                wire.expect(read.as_bytes()).await;
                wire.send(b"ERR not found\r\n").await;
            }
            wire.expect(read.as_bytes()).await;
            wire.send(format!("OK {next} 1\r\n").as_bytes()).await;
            wire.send(one.bytes()).await;
            wire.expect(b"CLOSE\r\n").await;
            wire.send(b"OK\r\n").await;
            wire.closed().await;
        }
    );
}

#[tokio::test]
async fn extensions_are_used_where_they_are_named() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let ((), ()) = tokio::join!(
        async {
            client.ping().await.unwrap();
            assert_eq!(client.head(&default()).await.unwrap(), Head { next: Offset::new(7), batches: 1 });
            let topics = client.topics().await.unwrap();
            assert_eq!((topics[0].name.as_str(), topics[0].next), ("default", Offset::new(7)));
            let waited = client.read_wait(&default(), Offset::new(7), 1, Duration::from_secs(3600)).await;
            assert!(waited.unwrap_err().is_not_found());
            assert_eq!(client.stats().await.unwrap(), [("a".to_owned(), "1".to_owned())]);
        },
        async {
            let mut wire = peer.accept_with(CONFIG).await;
            wire.expect(b"PING\r\n").await;
            wire.send(b"OK\r\n").await;
            wire.expect(b"HEAD default\r\n").await;
            wire.send(b"OK 7 1\r\n").await;
            wire.expect(b"TOPICS\r\n").await;
            wire.send(b"MOK 17\r\ndefault 0 7 7 1\r\n\r\n").await;
            wire.expect(b"READ default 7 1 wait=60000\r\n").await;
            wire.send(b"ERR not found\r\n").await;
            wire.expect(b"STATS\r\n").await;
            wire.send(b"MOK 6\r\na: 1\r\n\r\n").await;
        }
    );
}

#[tokio::test]
async fn a_time_has_a_lower_and_an_upper_offset() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let topic = default();
    let time = UNIX_EPOCH + Duration::from_micros(1_795_500_000_123_999);
    let ask = async {
        assert_eq!(client.offset_at(&topic, time, Bound::Lower).await.unwrap(), Offset::new(60));
        assert_eq!(client.offset_at(&topic, time, Bound::Upper).await.unwrap(), Offset::new(120));
        let ancient = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(client.offset_at(&topic, ancient, Bound::Lower).await.unwrap(), Offset::ZERO);
        let error = client.offset_at(&topic, SystemTime::UNIX_EPOCH, Bound::Lower).await.unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("topic `default`"), "{error}");
    };
    let ((), ()) = tokio::join!(ask, async {
        let mut wire = peer.accept_with(TIME_CONFIG).await;
        wire.expect(b"AT default 1795500000123\r\n").await;
        wire.send(b"OK 60 1\r\n").await;
        wire.expect(b"AT default 1795500000123 bound=upper\r\n").await;
        wire.send(b"OK 120 0\r\n").await;
        wire.expect(b"AT default 0\r\n").await;
        wire.send(b"OK 0 1\r\n").await;
        wire.expect(b"AT default 0\r\n").await;
        wire.send(b"ERR not found\r\n").await;
    });
}

#[tokio::test]
async fn a_server_that_knows_no_times_is_told() {
    for config in [CONFIG, GO_CONFIG] {
        let peer = Peer::bind().await;
        let mut client = Client::new(peer.config());
        let topic = default();
        let (error, wire) =
            tokio::join!(client.offset_at(&topic, UNIX_EPOCH, Bound::Lower), peer.accept_with(config));
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("does not know `AT`"), "{error}");
        drop(client);
        wire.closed().await;
    }
}

#[tokio::test]
async fn a_read_is_tried_again_after_a_disconnect_in_the_middle_of_its_answer() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let batch = batch(&["hello"]);
    let topic = default();
    let (answer, ()) = tokio::join!(client.read(&topic, Offset::ZERO, 5), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"READ default 0 5\r\n").await;
        wire.send(b"OK 0 1\r\n").await;
        wire.send(&batch.bytes()[..20]).await;
        drop(wire);
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"READ default 0 5\r\n").await;
        wire.send(b"OK 0 1\r\n").await;
        wire.send(batch.bytes()).await;
    });
    let answer = answer.unwrap();
    assert_eq!(answer.next_offset(), Offset::new(batch.bytes().len() as u64));
    assert_eq!(answer.batches, [batch]);
}

#[tokio::test]
async fn attempts_end() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let (error, ()) = tokio::join!(client.ping(), async {
        for _ in 0..3 {
            drop(peer.accept().await);
        }
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn an_append_is_never_repeated() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let batch = batch(&["hello"]);
    let (error, ()) = tokio::join!(client.append(&batch), async {
        // Making the connection is tried again.
        drop(peer.accept().await);
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(batch.bytes()).await;
    });
    let error = error.unwrap_err();
    assert_eq!((error.error.kind(), error.outcome), (ErrorKind::Disconnected, Outcome::Unknown));
}

#[tokio::test]
async fn a_damaged_batch_is_named() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let good = batch(&["hello"]);
    let topic = default();
    let (error, ()) = tokio::join!(client.read(&topic, Offset::new(100), 2), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"READ default 100 2\r\n").await;
        wire.send(b"OK 100 2\r\n").await;
        wire.send(good.bytes()).await;
        wire.send(b"BATCH 14 default 7 1\r\nMSG 5\r\nhello\r\n").await;
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let offset = 100 + good.bytes().len();
    assert!(error.to_string().starts_with(&format!("the batch at offset `{offset}` is damaged")), "{error}");
}

#[tokio::test]
async fn a_refusal_names_what_was_asked() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config());
    let topic = default();
    let (error, ()) = tokio::join!(client.read(&topic, Offset::new(3), 2), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"READ default 3 2\r\n").await;
        wire.send(b"ERR not found\r\n").await;
    });
    let error = error.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::NotFound));
    let host = peer.config();
    let host = host.host();
    assert_eq!(
        error.to_string(),
        format!("cannot read topic `default` at offset `3`: `{host}` answered `not found`")
    );
}

#[tokio::test]
async fn the_answer_to_a_dropped_request_is_not_taken_for_another() {
    let peer = Peer::bind().await;
    let mut client = Client::new(peer.config().retry(RetryPolicy::none()));
    let topic = default();
    // The answer is still to come when the next question is asked.
    let wire = {
        let read = client.read(&topic, Offset::ZERO, 1);
        let asked = async {
            let mut wire = peer.accept_with(CONFIG).await;
            wire.expect(b"READ default 0 1\r\n").await;
            wire
        };
        tokio::select! {
            biased;
            wire = asked => wire,
            _ = read => panic!("nothing was answered"),
        }
    };
    let (head, ()) = tokio::join!(client.head(&topic), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"HEAD default\r\n").await;
        wire.send(b"OK 9 1\r\n").await;
    });
    assert_eq!(head.unwrap().next, Offset::new(9));
    within("the end", wire.closed()).await;
}

/// Asked again and again, such a server would be read for ever.
#[tokio::test]
async fn a_server_that_does_not_get_on_is_an_error() {
    for (answer, text) in [(&b"OK 100 0\r\n"[..], "with no batches"), (b"OK 100 1\r\n", "which is before it")]
    {
        let peer = Peer::bind().await;
        let mut client = Client::new(peer.config().retry(RetryPolicy::none()));
        let one = batch(&["hello"]);
        let ((), ()) = tokio::join!(
            async {
                let error = within("an answer", client.head(&default())).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
                assert!(error.to_string().ends_with(text), "{error}");
            },
            async {
                let mut wire = peer.accept_with(GO_CONFIG).await;
                wire.expect(b"TAIL default 1000\r\n").await;
                wire.send(b"OK 100 1\r\n").await;
                wire.send(one.bytes()).await;
                let next = 100 + one.bytes().len();
                wire.expect(format!("READ default {next} 1000\r\n").as_bytes()).await;
                wire.send(answer).await;
            }
        );
    }
}
