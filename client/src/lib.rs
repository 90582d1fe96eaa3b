//! The async client of logd (skeleton).
mod answers;
mod config;
mod error;
mod connection;
mod session;
mod retry;
mod client;
mod writer;
mod scanner;
pub use answers::{Batches, Head, ServerSettings, TopicSummary};
pub use client::Client;
pub use config::ClientConfig;
pub use error::{AppendError, Error, ErrorKind, Outcome};
pub use logd_protocol::{Batch, BatchBuilder, Offset, PushError, Reason, TopicName, TopicNameError, limits};
pub use logd_statehandlers::{Position, PositionError};
pub use retry::RetryPolicy;
pub use scanner::{Message, Scanner, ScannerBuilder, Start};
pub use writer::{FailedBatch, FlushError, Receipt, UnknownOutcome, WriteError, Writer, WriterBuilder};
