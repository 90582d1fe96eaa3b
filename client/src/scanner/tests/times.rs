//! Where a time begins and ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_protocol::{Batch, Reason};

use super::{answer, at, builder, error, head, next, refuse, text};
use crate::error::ErrorKind;
use crate::scanner::Start;
use crate::testing::{CONFIG, Peer, TIME_CONFIG, Wire, batch};

const START: SystemTime = UNIX_EPOCH;

fn after(time_ms: u64) -> SystemTime {
    START + Duration::from_millis(time_ms)
}

/// Expects an AT, and answers it.
async fn found(wire: &mut Wire, request: &str, offset: u64, batches: u64) {
    wire.expect(format!("{request}\r\n").as_bytes()).await;
    wire.send(format!("OK {offset} {batches}\r\n").as_bytes()).await;
}

/// Three batches of one message, all of the same length, which is returned too.
fn three() -> ([Batch; 3], u64) {
    let batches = ["one", "two", "six"].map(|message| batch(&[message]));
    let bytes = batches[0].bytes().len() as u64;
    (batches, bytes)
}

#[tokio::test]
async fn a_scanner_begins_where_its_time_does() {
    let peer = Peer::bind().await;
    let one = batch(&["one"]);
    // Parts of a millisecond are cut off.
    let mut scanner =
        builder(&peer).start(Start::Time(after(1500) + Duration::from_micros(999))).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(TIME_CONFIG).await;
        found(&mut wire, "AT default 1500", 100, 1).await;
        let end = answer(&mut wire, "READ default 100 10000", 100, &[&one]).await;
        refuse(&mut wire, &format!("READ default {end} 10000")).await;
        head(&mut wire, end).await;
    };
    let scan = async {
        assert_eq!(text(&mut scanner).await, "one");
        assert!(next(&mut scanner).await.is_none());
    };
    tokio::join!(serve, scan);
}

#[tokio::test]
async fn a_server_that_knows_no_times_is_an_error_and_not_another_start() {
    let time = after(1500);
    for follow in [false, true] {
        for is_start in [false, true] {
            let peer = Peer::bind().await;
            let scanner = builder(&peer).follow(follow);
            let scanner = if is_start { scanner.start(Start::Time(time)) } else { scanner.until(time) };
            let mut scanner = scanner.open().unwrap();
            let (error, wire) = tokio::join!(error(&mut scanner), peer.accept_with(CONFIG));
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("does not know `AT`"), "{error}");
            wire.closed().await;
        }
    }
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_waited_for_only_when_it_is_followed() {
    let peer = Peer::bind().await;
    let one = batch(&["one"]);
    let mut scanner = builder(&peer).start(Start::Time(after(7))).follow(true).open().unwrap();
    let serve = async {
        let mut wire = peer.accept_with(TIME_CONFIG).await;
        refuse(&mut wire, "AT default 7").await;
        refuse(&mut wire, "TAIL default 10000").await;
        refuse(&mut wire, "HEAD default").await;
        answer(&mut wire, "TAIL default 10000", 50, &[&one]).await;
        wire
    };
    let (first, _wire) = tokio::join!(text(&mut scanner), serve);
    assert_eq!(first, "one");

    for is_start in [false, true] {
        let peer = Peer::bind().await;
        let scanner = builder(&peer);
        let scanner = if is_start { scanner.start(Start::Time(after(7))) } else { scanner.until(after(7)) };
        let mut scanner = scanner.open().unwrap();
        let (error, ()) = tokio::join!(error(&mut scanner), async {
            let mut wire = peer.accept_with(TIME_CONFIG).await;
            refuse(&mut wire, if is_start { "AT default 7" } else { "AT default 7 bound=upper" }).await;
        });
        assert_eq!(error.reason(), Some(Reason::NotFound));
    }
}

#[tokio::test]
async fn a_start_that_retention_drops_is_found_anew_a_few_times() {
    for rounds in [2, 3] {
        let peer = Peer::bind().await;
        let one = batch(&["one"]);
        let mut scanner = builder(&peer).start(Start::Time(after(7))).limit(1).open().unwrap();
        let serve = async {
            let mut wire = peer.accept_with(TIME_CONFIG).await;
            for round in 0..rounds {
                found(&mut wire, "AT default 7", 100 + round, 1).await;
                refuse(&mut wire, &format!("READ default {} 1", 100 + round)).await;
                head(&mut wire, 999).await;
            }
            if rounds < 3 {
                found(&mut wire, "AT default 7", 300, 1).await;
                answer(&mut wire, "READ default 300 1", 300, &[&one]).await;
            }
        };
        let (first, ()) = tokio::join!(next(&mut scanner), serve);
        match first.unwrap() {
            Ok(message) => assert_eq!((rounds, message.position), (2, at(300, 0))),
            Err(error) => assert_eq!((rounds, error.reason()), (3, Some(Reason::NotFound))),
        }
    }
}

#[tokio::test]
async fn a_scanner_ends_where_its_time_does() {
    let ([one, two, six], bytes) = three();
    // With an end that is the topic's as it was, and with one that is before it; followed or not.
    for (batches, follow) in [(0, false), (1, false), (1, true)] {
        let peer = Peer::bind().await;
        let mut scanner = builder(&peer).until(after(7)).follow(follow).open().unwrap();
        let serve = async {
            let mut wire = peer.accept_with(TIME_CONFIG).await;
            found(&mut wire, "AT default 7 bound=upper", 100 + 2 * bytes, batches).await;
            answer(&mut wire, "TAIL default 10000", 100, &[&one, &two, &six]).await;
            wire
        };
        let scan = async {
            assert_eq!(text(&mut scanner).await, "one");
            assert_eq!(text(&mut scanner).await, "two");
            assert!(next(&mut scanner).await.is_none());
        };
        let (wire, ()) = tokio::join!(serve, scan);
        assert_eq!(scanner.position(), Some(at(100 + 2 * bytes, 0)));
        wire.closed().await;
    }
}

#[tokio::test]
async fn nothing_comes_where_the_end_is_not_behind_the_start() {
    let ([one, ..], _) = three();
    for (start, end) in [(Start::Earliest, 0), (Start::Earliest, 100), (Start::At(at(100, 0)), 100)] {
        let peer = Peer::bind().await;
        let mut scanner = builder(&peer).start(start).until(after(7)).open().unwrap();
        let serve = async {
            let mut wire = peer.accept_with(TIME_CONFIG).await;
            found(&mut wire, "AT default 7 bound=upper", end, 1).await;
            if start == Start::Earliest {
                answer(&mut wire, "TAIL default 10000", 100, &[&one]).await;
            }
            wire
        };
        let (first, wire) = tokio::join!(next(&mut scanner), serve);
        assert!(first.is_none(), "{start:?} until {end}: {first:?}");
        wire.closed().await;
    }
}

#[tokio::test]
async fn a_time_to_come_ends_a_followed_topic_once_something_arrived_later() {
    let ([one, two, six], bytes) = three();
    let peer = Peer::bind().await;
    // Far enough away that no machine gets there, and a whole number of milliseconds.
    let time_ms = 32_503_680_000_000;
    let mut scanner = builder(&peer).until(after(time_ms)).follow(true).open().unwrap();
    let until = format!("AT default {time_ms} bound=upper");
    let serve = async {
        let mut wire = peer.accept_with(TIME_CONFIG).await;
        found(&mut wire, &until, bytes, 0).await;
        // One comes between the two answers, and is asked for again.
        answer(&mut wire, "TAIL default 10000", 0, &[&one, &two]).await;
        found(&mut wire, &until, 2 * bytes, 0).await;
        let read = format!("READ default {bytes} 10000 wait=10000");
        answer(&mut wire, &read, bytes, &[&two]).await;
        // Nothing new: the next batch is waited for, alone.
        found(&mut wire, &until, 2 * bytes, 0).await;
        answer(&mut wire, &format!("READ default {} 1 wait=10000", 2 * bytes), 2 * bytes, &[&six]).await;
        found(&mut wire, &until, 3 * bytes, 1).await;
        wire
    };
    let scan = async {
        for expected in ["one", "two", "six"] {
            assert_eq!(text(&mut scanner).await, expected);
        }
        assert!(next(&mut scanner).await.is_none());
    };
    let (wire, ()) = tokio::join!(serve, scan);
    wire.closed().await;
}

#[tokio::test]
async fn a_followed_topic_ends_soon_after_the_time_though_nothing_came() {
    let peer = Peer::bind().await;
    let mut scanner = builder(&peer)
        // A second after the time, which is in a moment.
        .until(SystemTime::now() - Duration::from_millis(900))
        .start(Start::At(at(100, 0)))
        .follow(true)
        .wait(Duration::ZERO)
        .open()
        .unwrap();
    let serve = async {
        let mut wire = peer.accept_with(TIME_CONFIG).await;
        let mut asked = 0;
        // Until the scanner has had enough and closes.
        while let Some(line) = wire.line().await {
            let answer: &[u8] = match line.split(' ').next().unwrap() {
                "AT" => b"OK 100 0\r\n",
                "HEAD" => b"OK 100 1\r\n",
                "READ" => b"ERR not found\r\n",
                _ => unreachable!("`{line}` is not asked for"),
            };
            asked += usize::from(line.starts_with("READ default 100 1 wait=0"));
            wire.send(answer).await;
        }
        asked
    };
    let started = SystemTime::now();
    let (first, asked) = tokio::join!(next(&mut scanner), serve);
    assert!(first.is_none(), "{first:?}");
    assert!(asked > 0, "the scanner did not wait");
    assert!(started.elapsed().unwrap() >= Duration::from_millis(80), "it ended too early");
}
