//! The scanner against a scripted peer.

mod ends;
mod stream;
mod times;
mod watched;

use std::time::Duration;

use logd_protocol::{Batch, Offset};
use logd_statehandlers::Position;

use super::{Message, Scanner, ScannerBuilder};
use crate::error::Error;
use crate::testing::{Peer, Wire, within};

fn builder(peer: &Peer) -> ScannerBuilder {
    Scanner::builder(peer.config()).poll_interval(Duration::from_millis(1))
}

fn at(offset: u64, delta: u64) -> Position {
    Position { offset: Offset::new(offset), delta }
}

async fn next(scanner: &mut Scanner) -> Option<Result<Message, Error>> {
    within("a message", scanner.next()).await
}

async fn text(scanner: &mut Scanner) -> String {
    let message = next(scanner).await.unwrap().unwrap();
    String::from_utf8(message.bytes.to_vec()).unwrap()
}

async fn error(scanner: &mut Scanner) -> Error {
    let error = next(scanner).await.unwrap().unwrap_err();
    if !error.is_skippable() {
        assert!(next(scanner).await.is_none(), "the stream goes on after `{error}`");
    }
    error
}

/// Expects this request, and answers it with these batches.
async fn answer(wire: &mut Wire, request: &str, offset: u64, batches: &[&Batch]) -> u64 {
    wire.expect(format!("{request}\r\n").as_bytes()).await;
    wire.send(format!("OK {offset} {}\r\n", batches.len()).as_bytes()).await;
    for batch in batches {
        wire.send(batch.bytes()).await;
    }
    offset + batches.iter().map(|batch| batch.bytes().len() as u64).sum::<u64>()
}

async fn refuse(wire: &mut Wire, request: &str) {
    wire.expect(format!("{request}\r\n").as_bytes()).await;
    wire.send(b"ERR not found\r\n").await;
}

/// Expects a HEAD, and answers it.
async fn head(wire: &mut Wire, next: u64) {
    wire.expect(b"HEAD default\r\n").await;
    wire.send(format!("OK {next} 1\r\n").as_bytes()).await;
}
