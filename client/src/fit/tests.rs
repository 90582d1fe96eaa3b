//! The judgement on a checkpoint, by a scripted peer: what changes between two answers.

use super::*;
use crate::testing::{CONFIG, Peer, Wire, batch, within};

async fn answer(wire: &mut Wire, request: &str, offset: u64, batch: &Batch) {
    wire.expect(format!("{request}\r\n").as_bytes()).await;
    wire.send(format!("OK {offset} 1\r\n").as_bytes()).await;
    wire.send(batch.bytes()).await;
}

async fn refuse(wire: &mut Wire, request: &str) {
    wire.expect(format!("{request}\r\n").as_bytes()).await;
    wire.send(b"ERR not found\r\n").await;
}

async fn head(wire: &mut Wire, next: u64) {
    wire.expect(b"HEAD default\r\n").await;
    wire.send(format!("OK {next} 1\r\n").as_bytes()).await;
}

/// A checkpoint at 150, behind a batch at 100.
fn checkpoint(crc: u32) -> Checkpoint {
    let mut checkpoint = Checkpoint::at(Position::at(Offset::new(150)));
    checkpoint.anchor = Some(Anchor { offset: Offset::new(100), crc });
    checkpoint
}

async fn judged(peer: &Peer, crc: u32) -> Fit {
    let mut client = Client::new(peer.config());
    within("the judgement", judge(&mut client, &TopicName::default(), &checkpoint(crc))).await.unwrap()
}

#[tokio::test]
async fn what_retention_drops_between_two_answers_is_not_missed() {
    let batch = batch(&["hello"]);
    // Only the batch that was consumed last, or what comes next as well.
    for oldest in [150, 180] {
        let peer = Peer::bind().await;
        let serve = async {
            let mut wire = peer.accept_with(CONFIG).await;
            head(&mut wire, 200).await;
            answer(&mut wire, "TAIL default 1", 0, &batch).await;
            refuse(&mut wire, "READ default 100 1").await;
            answer(&mut wire, "TAIL default 1", oldest, &batch).await;
            if oldest == 150 {
                answer(&mut wire, "READ default 150 1", 150, &batch).await;
            } else {
                refuse(&mut wire, "READ default 150 1").await;
                answer(&mut wire, "TAIL default 1", oldest, &batch).await;
            }
        };
        let (fit, ()) = tokio::join!(judged(&peer, batch.crc()), serve);
        let oldest = Offset::new(oldest);
        let (finding, found) = match oldest.as_u64() {
            150 => (None, Offset::ZERO),
            _ => (Some(Finding::Dropped { oldest }), oldest),
        };
        assert_eq!(fit, Fit { extent: Some(Extent { oldest: found, head: Offset::new(200) }), finding });
    }
}

#[tokio::test]
async fn damage_of_the_last_batch_is_told_and_does_not_hide_another_topic() {
    let next = batch(&["hello"]);
    for is_there in [true, false] {
        let peer = Peer::bind().await;
        let serve = async {
            let mut wire = peer.accept_with(CONFIG).await;
            head(&mut wire, 200).await;
            answer(&mut wire, "TAIL default 1", 0, &next).await;
            // The server leads past it.
            answer(&mut wire, "READ default 100 1", 150, &next).await;
            if is_there {
                answer(&mut wire, "READ default 150 1", 150, &next).await;
            } else {
                refuse(&mut wire, "READ default 150 1").await;
                answer(&mut wire, "TAIL default 1", 0, &next).await;
            }
        };
        let (fit, ()) = tokio::join!(judged(&peer, 7), serve);
        let finding = if is_there {
            Finding::Damaged("its batch at `100` cannot be read any more".into())
        } else {
            Finding::Misplaced("no message starts at `150.0`".into())
        };
        assert_eq!(fit.finding, Some(finding));
    }
}

#[tokio::test]
async fn damage_of_the_oldest_batch_says_nothing_about_the_checkpoint() {
    let batch = batch(&["hello"]);
    let peer = Peer::bind().await;
    let serve = async {
        let mut wire = peer.accept_with(CONFIG).await;
        head(&mut wire, 150).await;
        wire.expect(b"TAIL default 1\r\n").await;
        wire.send(b"OK 0 1\r\nBATCH 14 default 7 1\r\nMSG 5\r\nhello\r\n").await;
        answer(&mut wire, "READ default 100 1", 100, &batch).await;
    };
    let (fit, ()) = tokio::join!(judged(&peer, batch.crc()), serve);
    assert_eq!(fit.finding, None);
}
