//! skeleton
use std::time::Duration;
use crate::*;
/// One connection.
#[derive(Debug)] pub struct Client { _config: ClientConfig }
#[expect(clippy::todo, missing_docs, clippy::unused_async, unused_variables, clippy::missing_const_for_fn, reason = "skeleton")]
impl Client {
    pub fn new(config: ClientConfig) -> Self { todo!() }
    pub async fn connect(config: ClientConfig) -> Result<Self, Error> { todo!() }
    pub async fn ping(&mut self) -> Result<(), Error> { todo!() }
    pub async fn append(&mut self, batch: &Batch) -> Result<Offset, AppendError> { todo!() }
    pub async fn read(&mut self, topic: &TopicName, offset: Offset, messages: u64) -> Result<Batches, Error> { todo!() }
    pub async fn read_wait(&mut self, topic: &TopicName, offset: Offset, messages: u64, wait: Duration) -> Result<Batches, Error> { todo!() }
    pub async fn tail(&mut self, topic: &TopicName, messages: u64) -> Result<Batches, Error> { todo!() }
    pub async fn head(&mut self, topic: &TopicName) -> Result<Head, Error> { todo!() }
    pub async fn topics(&mut self) -> Result<Vec<TopicSummary>, Error> { todo!() }
    pub async fn stats(&mut self) -> Result<Vec<(String, String)>, Error> { todo!() }
    pub async fn server_config(&mut self) -> Result<ServerSettings, Error> { todo!() }
    pub async fn close(self) -> Result<(), Error> { todo!() }
}
