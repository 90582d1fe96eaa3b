//! Where a topic begins and ends, and what `not found` means.

use std::time::Duration;

use logd_protocol::Reason;
use logd_statehandlers::Position;

use super::{answer, at, builder, error, head, next, refuse, text};
use crate::scanner::Start;
use crate::testing::{CONFIG, GO_CONFIG, Peer, batch};

#[tokio::test]
async fn following_waits_at_the_end_and_survives_a_restart_there() {
    let peer = Peer::bind().await;
    let mut scanner =
        builder(&peer).start(Start::Latest).follow(true).wait(Duration::from_secs(5)).open().unwrap();
    let one = batch(&["one"]);
    let (two, bytes) = (batch(&["two"]), one.bytes().len() as u64);
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        head(&mut wire, 100).await;
        refuse(&mut wire, "READ default 100 10000 wait=5000").await;
        head(&mut wire, 100).await;
        answer(&mut wire, "READ default 100 10000 wait=5000", 100, &[&one]).await;
        wire.expect(format!("READ default {} 10000 wait=5000\r\n", 100 + bytes).as_bytes()).await;
        wire.send(b"ERR shutting down\r\n").await;
        drop(wire);
        let mut wire = peer.accept_with(CONFIG).await;
        let read = format!("READ default {} 10000 wait=5000", 100 + bytes);
        answer(&mut wire, &read, 100 + bytes, &[&two]).await;
        wire
    };
    let scan = async {
        assert_eq!(text(&mut scanner).await, "one");
        assert_eq!(text(&mut scanner).await, "two");
    };
    let (wire, ()) = tokio::join!(serve, scan);
    assert_eq!(scanner.position(), Some(at(100 + 2 * bytes, 0)));
    drop(scanner);
    let mut wire = wire;
    wire.expect(format!("READ default {} 10000 wait=5000\r\n", 100 + 2 * bytes).as_bytes()).await;
    wire.closed().await;
}

#[tokio::test]
async fn following_an_unknown_topic_waits_for_it() {
    for start in [Start::Earliest, Start::Latest] {
        let peer = Peer::bind().await;
        let mut scanner = builder(&peer).start(start).follow(true).open().unwrap();
        let one = batch(&["one"]);
        let serve = async {
            let mut wire = peer.accept_with(CONFIG).await;
            if start == Start::Latest {
                refuse(&mut wire, "HEAD default").await;
                refuse(&mut wire, "READ default 0 10000 wait=10000").await;
                refuse(&mut wire, "HEAD default").await;
                answer(&mut wire, "READ default 0 10000 wait=10000", 0, &[&one]).await;
            } else {
                refuse(&mut wire, "TAIL default 10000").await;
                refuse(&mut wire, "HEAD default").await;
                // Now it is there, but empty.
                refuse(&mut wire, "TAIL default 10000").await;
                head(&mut wire, 0).await;
                answer(&mut wire, "READ default 0 10000 wait=10000", 0, &[&one]).await;
            }
            wire
        };
        let (first, _wire) = tokio::join!(text(&mut scanner), serve);
        assert_eq!(first, "one");
    }
}

#[tokio::test]
async fn an_unknown_topic_is_an_error_and_an_empty_one_is_empty() {
    for start in [Start::Earliest, Start::Latest, Start::At(Position::ZERO)] {
        for known in [false, true] {
            let peer = Peer::bind().await;
            let mut scanner = builder(&peer).start(start).open().unwrap();
            let serve = async {
                let mut wire = peer.accept_with(CONFIG).await;
                match start {
                    Start::Earliest => refuse(&mut wire, "TAIL default 10000").await,
                    Start::Latest if known => {
                        head(&mut wire, 0).await;
                        refuse(&mut wire, "READ default 0 10000").await;
                    }
                    Start::Latest => {}
                    Start::Time(_) => unreachable!("times have tests of their own"),
                    Start::At(_) => refuse(&mut wire, "READ default 0 10000").await,
                }
                if known {
                    head(&mut wire, 0).await;
                } else {
                    refuse(&mut wire, "HEAD default").await;
                }
                wire
            };
            let (first, _wire) = tokio::join!(next(&mut scanner), serve);
            match first {
                None => assert!(known, "{start:?} of an unknown topic is taken for empty"),
                Some(result) => {
                    assert!(!known);
                    assert_eq!(result.unwrap_err().reason(), Some(Reason::NotFound));
                }
            }
            assert!(next(&mut scanner).await.is_none());
        }
    }
}

#[tokio::test]
async fn an_offset_that_is_no_batchs_is_an_error_once_the_server_insists() {
    // Before the end, also when following; beyond it, only when not.
    for (offset, end, follow) in [(10, 99, false), (10, 99, true), (100, 99, false)] {
        let peer = Peer::bind().await;
        let mut scanner = builder(&peer)
            .start(Start::At(at(offset, 0)))
            .follow(follow)
            .wait(Duration::ZERO)
            .open()
            .unwrap();
        let serve = async {
            let mut wire = peer.accept_with(CONFIG).await;
            let wait = if follow { " wait=0" } else { "" };
            for _ in 0..if offset < end { 3 } else { 1 } {
                refuse(&mut wire, &format!("READ default {offset} 10000{wait}")).await;
                head(&mut wire, end).await;
            }
        };
        let (error, ()) = tokio::join!(error(&mut scanner), serve);
        assert_eq!(error.reason(), Some(Reason::NotFound));
        assert!(error.to_string().contains(&format!("topic `default` at offset `{offset}`")), "{error}");
    }
}

#[tokio::test]
async fn a_batch_that_comes_between_two_answers_is_no_error() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).start(Start::At(at(10, 0))).limit(1).open().unwrap();
    let one = batch(&["one"]);
    let (first, _) = tokio::join!(text(&mut scanner), async {
        let mut wire = peer.accept_with(CONFIG).await;
        refuse(&mut wire, "READ default 10 1").await;
        head(&mut wire, 10 + one.bytes().len() as u64).await;
        answer(&mut wire, "READ default 10 1", 10, &[&one]).await
    });
    assert_eq!(first, "one");
}

#[tokio::test]
async fn a_go_server_is_polled() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer).follow(true).open().unwrap();
    let one = batch(&["one"]);
    let serve = async {
        let mut wire = peer.accept_with(GO_CONFIG).await;
        refuse(&mut wire, "TAIL default 10000").await;
        let end = answer(&mut wire, "TAIL default 10000", 0, &[&one]).await;
        refuse(&mut wire, &format!("READ default {end} 10000")).await;
        answer(&mut wire, &format!("READ default {end} 10000"), end, &[&one]).await;
        wire
    };
    let scan = async {
        assert_eq!(text(&mut scanner).await, "one");
        assert_eq!(text(&mut scanner).await, "one");
    };
    tokio::join!(serve, scan);
}

#[tokio::test]
async fn the_end_of_a_go_servers_topic_is_found_by_reading_it() {
    let peer = Peer::bind().await;
    let one = batch(&["one"]);
    let end = one.bytes().len() as u64;
    let mut scanner = builder(&peer).start(Start::At(at(end, 0))).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(GO_CONFIG).await;
        refuse(&mut wire, &format!("READ default {end} 10000")).await;
        let mut walk = peer.accept_with(GO_CONFIG).await;
        answer(&mut walk, "TAIL default 1000", 0, &[&one]).await;
        refuse(&mut walk, &format!("READ default {end} 1000")).await;
        (wire, walk)
    };
    let (first, _wires) = tokio::join!(next(&mut scanner), serve);
    assert!(first.is_none());
}

#[tokio::test]
async fn contradictions_are_counted_from_one_success_to_the_next() {
    let peer = Peer::bind().await;
    let one = batch(&["one"]);
    let bytes = one.bytes().len() as u64;
    let mut scanner = builder(&peer).start(Start::At(at(0, 0))).limit(3).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        for round in 0..3 {
            let read = format!("READ default {} {}", round * bytes, 3 - round);
            for _ in 0..2 {
                refuse(&mut wire, &read).await;
                head(&mut wire, (round + 1) * bytes).await;
            }
            answer(&mut wire, &read, round * bytes, &[&one]).await;
        }
    };
    let scan = async {
        for _ in 0..3 {
            assert_eq!(text(&mut scanner).await, "one");
        }
    };
    tokio::join!(serve, scan);
}
