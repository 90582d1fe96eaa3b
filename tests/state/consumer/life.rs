//! What the tests of the consumer share: messages, and lives of a consumer that can end as a killed process does.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use logd_client::{
    Consumer, ConsumerBuilder, ConsumerKey, Position, Received, Scanner, StateHandler, TopicName, Writer,
};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::in_process::{TestServer, within};

/// The longest that any condition takes; a test that needs it has failed.
const BOUND: Duration = Duration::from_secs(20);

/// A runtime of its own: when it ends, everything in it stops where it is, as with a killed process.
pub(super) struct Life(Option<Runtime>);

impl Life {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self(Some(runtime.unwrap()))
    }

    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.0.as_ref().unwrap().spawn(future)
    }

    /// Opens a consumer that is never dropped, and takes so many messages into its hand.
    pub(super) async fn hold(&self, builder: ConsumerBuilder, count: usize) {
        let held = self.spawn(async move {
            let mut consumer = builder.open().await.unwrap();
            for _ in 0..count {
                std::mem::forget(next(&mut consumer).await);
            }
            std::mem::forget(consumer);
        });
        within("the messages", held).await.unwrap();
    }

    /// Ends it: nothing of it does anything any more when this returns.
    pub(super) fn crash(mut self) {
        let runtime = self.0.take().unwrap();
        std::thread::spawn(move || runtime.shutdown_timeout(BOUND)).join().unwrap();
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn key() -> ConsumerKey {
    ConsumerKey::new(TopicName::default(), "reader").unwrap()
}

pub(super) fn builder<H: StateHandler>(server: &TestServer, states: &Arc<H>) -> ConsumerBuilder {
    let states: Arc<dyn StateHandler> = Arc::clone(states) as _;
    Consumer::builder(server.client_config(), states, key())
}

/// Writes numbered messages, a few to a batch.
pub(super) async fn fill(server: &TestServer, numbers: Range<usize>) -> Vec<String> {
    write(server, numbers.map(|number| format!("message {number}")).collect()).await
}

pub(super) async fn write(server: &TestServer, texts: Vec<String>) -> Vec<String> {
    let writer = Writer::builder(server.client_config()).batch_bytes(512).open().unwrap();
    for text in &texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
    writer.close().await.unwrap();
    texts
}

/// The positions of all messages.
pub(super) async fn positions(server: &TestServer) -> Vec<Position> {
    let mut scanner = Scanner::builder(server.client_config()).open().unwrap();
    let mut positions = Vec::new();
    while let Some(message) = within("a message", scanner.next()).await {
        positions.push(message.unwrap().position);
    }
    positions
}

pub(super) fn text(delivery: &Received) -> String {
    String::from_utf8(delivery.bytes().to_vec()).unwrap()
}

pub(super) async fn next(consumer: &mut Consumer) -> Received {
    within("a message", consumer.next()).await.unwrap().unwrap()
}

/// The texts of the next messages, which are acknowledged.
pub(super) async fn some(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let delivery = next(consumer).await;
        texts.push(text(&delivery));
        delivery.ack();
    }
    texts
}

/// The texts of all messages to the end, which are acknowledged.
pub(super) async fn all(consumer: &mut Consumer) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(delivery) = within("a message", consumer.next()).await {
        let delivery = delivery.unwrap();
        texts.push(text(&delivery));
        delivery.ack();
    }
    texts
}

/// Waits for a condition.
pub(super) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < BOUND, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
