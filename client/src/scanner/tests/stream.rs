//! Messages in order, over damage and disconnects.

use std::time::Duration;

use futures::{StreamExt, poll};
use logd_protocol::{Batch, Offset};
use logd_statehandlers::Position;

use super::{answer, at, builder, error, head, next, refuse, text};
use crate::error::ErrorKind;
use crate::retry::RetryPolicy;
use crate::scanner::{Scanner, Start};
use crate::testing::{CONFIG, Peer, batch};

#[tokio::test]
async fn messages_come_in_order_with_their_positions_to_the_end() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).open().unwrap();
    assert_eq!(scanner.position(), None);
    let (one, two) = (batch(&["hello", ""]), batch(&["world"]));
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        let end = answer(&mut wire, "TAIL default 10000", 100, &[&one, &two]).await;
        refuse(&mut wire, &format!("READ default {end} 10000")).await;
        head(&mut wire, end).await;
        wire.closed().await;
        end
    };
    let scan = async {
        let mut messages = Vec::new();
        while let Some(message) = next(&mut scanner).await {
            messages.push(message.unwrap());
        }
        messages
    };
    let (end, messages) = tokio::join!(serve, scan);
    let positions: Vec<Position> = messages.iter().map(|message| message.position).collect();
    let second = 100 + one.bytes().len() as u64;
    assert_eq!(positions, [at(100, 0), at(100, 14), at(second, 0)]);
    assert_eq!(messages[2].bytes, "world");
    assert_eq!(scanner.position(), Some(at(end, 0)));
}

#[tokio::test]
async fn a_lost_connection_repeats_and_loses_nothing_wherever_it_is_lost() {
    let batches = [batch(&["a", "b"]), batch(&["c"]), batch(&["d", "e", "f"])];
    let mut bytes = b"OK 0 3\r\n".to_vec();
    for batch in &batches {
        bytes.extend_from_slice(batch.bytes());
    }
    let start = "OK 0 3\r\n".len();
    for cut in 0..bytes.len() {
        let peer = Peer::bind().await;
        let mut scanner = builder(&peer).limit(6).start(Start::At(Position::ZERO)).open().unwrap();
        let serve = async {
            let mut wire = peer.accept_with(CONFIG).await;
            wire.expect(b"READ default 0 6\r\n").await;
            wire.send(&bytes[..cut]).await;
            drop(wire);
            let mut wire = peer.accept_with(CONFIG).await;
            let mut offset = 0;
            let mut rest = &batches[..];
            let mut wanted = 6;
            while let Some((first, others)) = rest.split_first() {
                if offset + first.bytes().len() + start > cut {
                    break;
                }
                offset += first.bytes().len();
                wanted -= first.messages();
                rest = others;
            }
            let rest: Vec<&Batch> = rest.iter().collect();
            answer(&mut wire, &format!("READ default {offset} {wanted}"), offset as u64, &rest).await;
        };
        let scan = async {
            let mut texts = String::new();
            while let Some(message) = next(&mut scanner).await {
                texts.push_str(std::str::from_utf8(&message.unwrap().bytes).unwrap());
            }
            texts
        };
        let ((), texts) = tokio::join!(serve, scan);
        assert_eq!(texts, "abcdef", "cut after {cut} bytes");
    }
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).limit(2).open().unwrap();
    let batch = batch(&["hello", "world"]);
    let mut wire = peer.accept_with(CONFIG).await;
    wire.expect(b"TAIL default 2\r\n").await;
    wire.send(b"OK 0 1\r\n").await;
    for byte in batch.bytes() {
        assert!(poll!(std::pin::pin!(scanner.next())).is_pending());
        wire.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(text(&mut scanner).await, "hello");
    assert_eq!(text(&mut scanner).await, "world");
    assert!(next(&mut scanner).await.is_none());
}

#[tokio::test]
async fn it_is_a_stream() {
    let peer = Peer::bind().await;
    let scanner = builder(&peer).limit(2).open().unwrap();
    let batch = batch(&["a", "b", "c"]);
    let (texts, _) = tokio::join!(scanner.map(|message| message.unwrap().bytes).collect::<Vec<_>>(), async {
        answer(&mut peer.accept_with(CONFIG).await, "TAIL default 2", 0, &[&batch]).await
    });
    assert_eq!(texts, ["a", "b"]);
}

#[tokio::test]
async fn a_position_within_a_batch_is_entered_there() {
    let peer = Peer::bind().await;
    let batch = batch(&["hello", "world"]);
    let mut scanner = builder(&peer).start(Start::At(at(7, 14))).limit(1).open().unwrap();
    let (first, _) = tokio::join!(text(&mut scanner), async {
        answer(&mut peer.accept_with(CONFIG).await, "READ default 7 1", 7, &[&batch]).await
    });
    assert_eq!(first, "world");

    let mut scanner = builder(&peer).start(Start::At(at(7, 13))).open().unwrap();
    let (error, _) = tokio::join!(error(&mut scanner), async {
        answer(&mut peer.accept_with(CONFIG).await, "READ default 7 10000", 7, &[&batch]).await
    });
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "no message of topic `default` starts at position `7.13`");
}

#[tokio::test]
async fn a_damaged_batch_is_reported_once_and_passed_over() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).limit(2).open().unwrap();
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let damaged = b"BATCH 14 default 7 1\r\nMSG 5\r\nhello\r\n";
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.expect(b"TAIL default 2\r\n").await;
        wire.send(b"OK 0 4\r\n").await;
        wire.send(one.bytes()).await;
        wire.send(damaged).await;
        // Go logd stores batches without messages: they are none of the reader's business.
        wire.send(b"BATCH 0 default 0 0\r\n").await;
        wire.send(two.bytes()).await;
    };
    let scan = async {
        assert_eq!(text(&mut scanner).await, "one");
        let damage = error(&mut scanner).await;
        assert_eq!(damage.kind(), ErrorKind::Corrupt);
        let (start, end) = (one.bytes().len(), (one.bytes().len() + damaged.len()) as u64);
        let expected = format!("the batch at offset `{start}` of topic `default` is damaged");
        assert!(damage.to_string().starts_with(&expected), "{damage}");
        assert_eq!(scanner.position(), Some(at(end, 0)));
        assert_eq!(text(&mut scanner).await, "two");
        assert!(next(&mut scanner).await.is_none());
    };
    tokio::join!(serve, scan);
}

#[tokio::test]
async fn a_gap_is_reported_once_and_passed_over() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).limit(1).start(Start::At(at(10, 5))).open().unwrap();
    let one = batch(&["one"]);
    let scan = async {
        let gap = error(&mut scanner).await;
        assert_eq!(gap.kind(), ErrorKind::Gap { from: Offset::new(10), to: Offset::new(99) });
        assert_eq!(gap.to_string(), "the batches from `10` to `99` of topic `default` are lost");
        assert_eq!(scanner.position(), Some(at(99, 0)));
        assert_eq!(text(&mut scanner).await, "one");
        assert!(next(&mut scanner).await.is_none());
    };
    tokio::join!(scan, async {
        answer(&mut peer.accept_with(CONFIG).await, "READ default 10 1", 99, &[&one]).await
    });
}

#[tokio::test]
async fn an_answer_from_before_the_question_ends_the_stream() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).start(Start::At(at(10, 0))).open().unwrap();
    let (error, _) = tokio::join!(error(&mut scanner), async {
        answer(&mut peer.accept_with(CONFIG).await, "READ default 10 10000", 9, &[]).await
    });
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn fewer_messages_are_asked_for_where_the_server_allows_fewer() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).read_messages(8).limit(100).open().unwrap();
    let one = batch(&["one"]);
    let (first, _) = tokio::join!(text(&mut scanner), async {
        let mut wire = peer.accept_with(CONFIG).await;
        for messages in [8, 4] {
            wire.expect(format!("TAIL default {messages}\r\n").as_bytes()).await;
            wire.send(b"ERR invalid request\r\n").await;
        }
        answer(&mut wire, "TAIL default 2", 0, &[&one]).await;
        wire
    });
    assert_eq!(first, "one");
}

#[tokio::test]
async fn attempts_are_counted_from_one_success_to_the_next() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).open().unwrap();
    let one = batch(&["one"]);
    let serve = async {
        // Three attempts are allowed: every second one brings a batch, and in the end three in a row do not.
        let mut offset = 0;
        for round in 0..5 {
            drop(peer.accept().await);
            let mut wire = peer.accept_with(CONFIG).await;
            let request =
                if round == 0 { "TAIL default 10000".into() } else { format!("READ default {offset} 10000") };
            offset = answer(&mut wire, &request, offset, &[&one]).await;
            wire.expect(format!("READ default {offset} 10000\r\n").as_bytes()).await;
        }
        // The disconnect after the last batch is the first of the three.
        for _ in 0..2 {
            drop(peer.accept().await);
        }
    };
    let scan = async {
        for _ in 0..5 {
            assert_eq!(text(&mut scanner).await, "one");
        }
        error(&mut scanner).await
    };
    let ((), error) = tokio::join!(serve, scan);
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}

#[tokio::test]
async fn what_waits_for_a_slow_reader_is_bounded() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).open().unwrap();
    let large = batch(&[&"x".repeat(60_000)]);
    let mut wire = peer.accept_with(CONFIG).await;
    wire.expect(b"TAIL default 10000\r\n").await;
    let count = 4000;
    wire.send(format!("OK 0 {count}\r\n").as_bytes()).await;
    let sent = std::cell::Cell::new(0);
    let sending = async {
        for _ in 0..count {
            wire.send(large.bytes()).await;
            sent.set(sent.get() + 1);
        }
        drop(wire);
    };
    let mut sending = std::pin::pin!(sending);
    // Nobody reads: at some point nothing more is taken in.
    let mut before = None;
    while before != Some(sent.get()) {
        before = Some(sent.get());
        let done = tokio::time::timeout(Duration::from_millis(300), &mut sending).await;
        assert!(done.is_err(), "all of the 240 MB were taken in");
    }
    assert!(sent.get() < 600, "{} batches of 60 kB were taken in", sent.get());
    let scan = async {
        for _ in 0..count {
            assert_eq!(next(&mut scanner).await.unwrap().unwrap().bytes.len(), 60_000);
        }
    };
    tokio::join!(sending, scan);
}

#[tokio::test]
async fn a_limit_of_nothing_asks_nothing() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).limit(0).open().unwrap();
    assert!(next(&mut scanner).await.is_none());
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused() {
    let peer = Peer::bind().await;
    for (builder, name) in [
        (builder(&peer).batch_bytes_max(511), "batch_bytes_max"),
        (builder(&peer).read_messages(0), "read_messages"),
        (builder(&peer).read_messages(50_001), "read_messages"),
        (builder(&peer).wait(Duration::from_secs(61)), "wait"),
    ] {
        let error = builder.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[test]
fn opening_outside_a_runtime_is_an_error() {
    let error = Scanner::builder(crate::ClientConfig::default()).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn an_ended_runtime_is_an_error_and_not_the_end_of_the_topic() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut scanner = runtime.block_on(async {
        let config = Peer::bind().await.config().retry(RetryPolicy::default().attempts(None));
        Scanner::builder(config).open().unwrap()
    });
    drop(runtime);
    let other = tokio::runtime::Runtime::new().unwrap();
    let error = other.block_on(scanner.next()).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(other.block_on(scanner.next()).is_none());
}
