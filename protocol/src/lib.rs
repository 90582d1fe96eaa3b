//! The logd wire protocol: bytes to types and back.
//!
//! What a server and its clients say to each other is lines of text ended by `\r\n`, and batches of messages that
//! travel, and lie on disk, as exactly the same bytes. This crate knows those bytes and nothing else: it does no I/O,
//! knows no clock, and allocates nothing when it reads. `docs/protocol.md` describes the protocol in full.
//!
//! - [`BatchBuilder`] frames messages straight into the bytes of a batch; [`Batch`] is a finished one.
//! - [`decode_request`] is the server's side, [`decode_response`] and [`decode_batch`] the client's: each looks at a
//!   growing buffer and says [`Decoded::More`], [`Decoded::Whole`] or [`Decoded::Broken`].
//! - [`TopicName`] and [`Offset`] are parsed once and are right from then on.
//!
//! ```
//! use logd_protocol::{BatchBuilder, TopicName};
//!
//! let mut builder = BatchBuilder::new(&TopicName::default(), 65536);
//! builder.push(b"hello")?;
//! builder.push(b"world!")?;
//! let batch = builder.finish().expect("two messages were pushed");
//! assert_eq!(
//!     &batch.bytes()[..],
//!     b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n"
//! );
//! # Ok::<(), logd_protocol::PushError>(())
//! ```
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod batch;
mod builder;
mod crc;
mod decode;
mod envelope;
mod error;
mod id;
pub mod limits;
mod line;
mod message;
mod number;
mod offset;
mod request;
mod response;
mod topic;

pub use batch::{Batch, BatchMessage, BatchMessages, CheckedBatch, RawBatch};
pub use builder::{BatchBuilder, PushError};
pub use crc::checksum;
pub use decode::{Decoded, decode_batch, decode_envelope, decode_request, decode_response};
pub use envelope::Envelope;
pub use error::{BatchError, Broken, Reason};
pub use id::{BatchId, WriterId};
pub use message::{FrameError, Message, Messages, framed_bytes};
pub use number::{NumberError, parse_u64};
pub use offset::Offset;
pub use request::{Bound, Command, Rejection, Request};
pub use response::{Response, ServerConfig, TopicInfo, key_values};
pub use topic::{TopicName, TopicNameError, TopicRef};
