//! skeleton
use std::time::Duration;
use std::pin::Pin;
use std::task::{Context, Poll};
use crate::*;
/// x
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message { /// x
 pub position: Position, /// x
 pub bytes: bytes::Bytes }
/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start { /// x
 #[default] Earliest, /// x
 Latest, /// x
 At(Position) }
/// x
#[derive(Debug)] pub struct ScannerBuilder { _c: ClientConfig }
#[expect(clippy::todo, missing_docs, clippy::unused_async, unused_variables, clippy::missing_const_for_fn, reason = "skeleton")]
impl ScannerBuilder {
    #[must_use] pub fn topic(self, topic: TopicName) -> Self { todo!() }
    #[must_use] pub fn start(self, start: Start) -> Self { todo!() }
    #[must_use] pub fn limit(self, messages: u64) -> Self { todo!() }
    #[must_use] pub fn follow(self, follow: bool) -> Self { todo!() }
    #[must_use] pub fn read_messages(self, messages: u64) -> Self { todo!() }
    #[must_use] pub fn wait(self, wait: Duration) -> Self { todo!() }
    #[must_use] pub fn poll_interval(self, interval: Duration) -> Self { todo!() }
    #[must_use] pub fn batch_bytes_max(self, bytes: usize) -> Self { todo!() }
    pub fn open(self) -> Result<Scanner, Error> { todo!() }
}
/// x
#[derive(Debug)] pub struct Scanner { _c: ClientConfig }
#[expect(clippy::todo, missing_docs, clippy::unused_async, unused_variables, clippy::missing_const_for_fn, reason = "skeleton")]
impl Scanner {
    pub fn builder(config: ClientConfig) -> ScannerBuilder { todo!() }
    pub async fn next(&mut self) -> Option<Result<Message, Error>> { todo!() }
    pub fn position(&self) -> Option<Position> { todo!() }
}
#[expect(clippy::todo, unused_variables, reason = "skeleton")]
impl futures::Stream for Scanner {
    type Item = Result<Message, Error>;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> { todo!() }
}
