//! Whether the topic is still the one that was read: asked once a connection, and only where that is wanted.

use logd_protocol::{Batch, Offset};
use logd_statehandlers::{Anchor, Position};

use super::{answer, at, builder, error, head, next, refuse, text};
use crate::error::{Error, ErrorKind};
use crate::scanner::{Scanner, Start};
use crate::testing::{CONFIG, GO_CONFIG, Peer, Wire, batch};

/// Checks that the reading has ended with this finding.
fn is_lost(error: &Error, from: u64, end: u64, why: &str) {
    let (from, end) = (Offset::new(from), Offset::new(end));
    assert_eq!(error.kind(), ErrorKind::Beyond { from, end }, "{error}");
    assert_eq!(
        error.to_string(),
        format!("topic `default` is not the one that was read up to `{from}`: {why}")
    );
}

fn len(batch: &Batch) -> u64 {
    batch.bytes().len() as u64
}

fn request(offset: u64, config: &[u8]) -> String {
    let wait = if config == GO_CONFIG { "" } else { " wait=10000" };
    format!("READ default {offset} 10000{wait}")
}

/// A scanner that has read `one` at the topic's beginning and then lost its connection, and the next one.
async fn reconnected(peer: &Peer, one: &Batch, config: &[u8]) -> (Scanner, Wire) {
    let start = Start::At(Position::ZERO);
    let mut scanner = builder(peer).start(start).follow(true).watched(None).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(config).await;
        let end = answer(&mut wire, &request(0, config), 0, &[one]).await;
        // Nothing more is asked where nobody has reconnected.
        wire.expect(format!("{}\r\n", request(end, config)).as_bytes()).await;
        wire.send(b"ERR shutting down\r\n").await;
        drop(wire);
        peer.accept_with(config).await
    };
    let (first, wire) = tokio::join!(text(&mut scanner), serve);
    assert_eq!(first, "one");
    (scanner, wire)
}

#[tokio::test]
async fn the_same_topic_is_read_on() {
    for config in [CONFIG, GO_CONFIG] {
        let peer = Peer::bind().await;
        let (one, two) = (batch(&["one"]), batch(&["two"]));
        let (mut scanner, mut wire) = reconnected(&peer, &one, config).await;
        let serve = async {
            answer(&mut wire, "READ default 0 1", 0, &[&one]).await;
            answer(&mut wire, &request(len(&one), config), len(&one), &[&two]).await
        };
        assert_eq!(tokio::join!(text(&mut scanner), serve).0, "two");
    }
}

#[tokio::test]
async fn another_batch_in_its_place_is_another_topic() {
    for config in [CONFIG, GO_CONFIG] {
        let peer = Peer::bind().await;
        let (one, other) = (batch(&["one"]), batch(&["ONE"]));
        let (mut scanner, mut wire) = reconnected(&peer, &one, config).await;
        let serve = async { answer(&mut wire, "READ default 0 1", 0, &[&other]).await };
        let (lost, _) = tokio::join!(error(&mut scanner), serve);
        let (found, crc) = (other.crc(), one.crc());
        let why = format!("its batch at `0` has the checksum `{found}`, not `{crc}`; was it made anew?");
        is_lost(&lost, len(&one), 0, &why);
    }
}

#[tokio::test]
async fn no_batch_in_its_place_is_another_topic_unless_retention_has_dropped_it() {
    for oldest in [0, 7] {
        let peer = Peer::bind().await;
        let (one, two) = (batch(&["one"]), batch(&["two"]));
        let (mut scanner, mut wire) = reconnected(&peer, &one, CONFIG).await;
        let serve = async {
            refuse(&mut wire, "READ default 0 1").await;
            answer(&mut wire, "TAIL default 1", oldest, &[&two]).await;
            if oldest > 0 {
                answer(&mut wire, &request(len(&one), CONFIG), len(&one), &[&two]).await;
            }
        };
        let (found, ()) = tokio::join!(next(&mut scanner), serve);
        match found.unwrap() {
            Ok(message) => assert_eq!((oldest, &*message.bytes), (7, &b"two"[..])),
            Err(lost) => {
                assert_eq!(oldest, 0);
                let why = "no batch begins at `0`, where the last one was consumed; was it made anew?";
                is_lost(&lost, len(&one), 0, why);
            }
        }
    }
}

#[tokio::test]
async fn everything_can_have_been_dropped() {
    let peer = Peer::bind().await;
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let (mut scanner, mut wire) = reconnected(&peer, &one, CONFIG).await;
    let serve = async {
        refuse(&mut wire, "READ default 0 1").await;
        refuse(&mut wire, "TAIL default 1").await;
        head(&mut wire, len(&one)).await;
        answer(&mut wire, &request(len(&one), CONFIG), len(&one), &[&two]).await
    };
    assert_eq!(tokio::join!(text(&mut scanner), serve).0, "two");
}

#[tokio::test]
async fn a_damaged_batch_tells_nothing() {
    // Damage that the server does not know, and damage that it leads past.
    for offset in [0, 3] {
        let peer = Peer::bind().await;
        let (one, two) = (batch(&["one"]), batch(&["two"]));
        let (mut scanner, mut wire) = reconnected(&peer, &one, CONFIG).await;
        let serve = async {
            wire.expect(b"READ default 0 1\r\n").await;
            wire.send(format!("OK {offset} 1\r\nBATCH 14 default 7 1\r\nMSG 5\r\nhello\r\n").as_bytes())
                .await;
            answer(&mut wire, &request(len(&one), CONFIG), len(&one), &[&two]).await
        };
        assert_eq!(tokio::join!(text(&mut scanner), serve).0, "two");
    }
}

#[tokio::test]
async fn a_check_that_is_cut_off_is_made_again() {
    let peer = Peer::bind().await;
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let (mut scanner, mut wire) = reconnected(&peer, &one, CONFIG).await;
    let serve = async {
        wire.expect(b"READ default 0 1\r\n").await;
        wire.send(b"OK 0 1\r\nBATCH").await;
        drop(wire);
        let mut wire = peer.accept_with(CONFIG).await;
        answer(&mut wire, "READ default 0 1", 0, &[&one]).await;
        answer(&mut wire, &request(len(&one), CONFIG), len(&one), &[&two]).await
    };
    assert_eq!(tokio::join!(text(&mut scanner), serve).0, "two");
}

#[tokio::test]
async fn a_topic_that_is_not_there_any_more_is_an_error() {
    // A server that does not know HEAD says so by the batch that was read.
    for config in [CONFIG, GO_CONFIG] {
        let peer = Peer::bind().await;
        let one = batch(&["one"]);
        let (mut scanner, mut wire) = reconnected(&peer, &one, config).await;
        let serve = async {
            refuse(&mut wire, "READ default 0 1").await;
            refuse(&mut wire, "TAIL default 1").await;
            if config == CONFIG {
                refuse(&mut wire, "HEAD default").await;
            }
        };
        let (lost, ()) = tokio::join!(error(&mut scanner), serve);
        is_lost(&lost, len(&one), 0, "it is not there; was it deleted?");
    }
    // Without such a batch, HEAD does.
    let peer = Peer::bind().await;
    let start = Start::At(at(100, 0));
    let mut scanner = builder(&peer).start(start).follow(true).watched(None).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        refuse(&mut wire, &request(100, CONFIG)).await;
        refuse(&mut wire, "HEAD default").await;
    };
    let (lost, ()) = tokio::join!(error(&mut scanner), serve);
    is_lost(&lost, 100, 0, "it is not there any more; was it deleted?");
}

#[tokio::test]
async fn what_was_read_before_is_looked_for_first() {
    let peer = Peer::bind().await;
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let last = Some(Anchor { offset: Offset::ZERO, crc: one.crc() });
    let start = Start::At(at(len(&one), 0));
    let mut scanner = builder(&peer).start(start).follow(true).watched(last).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        answer(&mut wire, "READ default 0 1", 0, &[&one]).await;
        answer(&mut wire, &request(len(&one), CONFIG), len(&one), &[&two]).await
    };
    assert_eq!(tokio::join!(text(&mut scanner), serve).0, "two");
}

#[tokio::test]
async fn nothing_is_asked_where_the_topic_is_not_watched() {
    let peer = Peer::bind().await;
    let (one, two) = (batch(&["one"]), batch(&["two"]));
    let mut scanner = builder(&peer).start(Start::At(Position::ZERO)).follow(true).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        let end = answer(&mut wire, &request(0, CONFIG), 0, &[&one]).await;
        wire.expect(format!("{}\r\n", request(end, CONFIG)).as_bytes()).await;
        drop(wire);
        let mut wire = peer.accept_with(CONFIG).await;
        // It can be deleted, too: it is waited for.
        refuse(&mut wire, &request(end, CONFIG)).await;
        refuse(&mut wire, "HEAD default").await;
        answer(&mut wire, &request(end, CONFIG), end, &[&two]).await
    };
    let scan = async {
        assert_eq!(text(&mut scanner).await, "one");
        assert_eq!(text(&mut scanner).await, "two");
    };
    tokio::join!(serve, scan);
}
