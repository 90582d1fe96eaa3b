//! Writing and scanning for programs without a runtime: each writer and scanner has a thread of its own, and the calls
//! hold up the caller's.
//!
//! They work on any thread, also on one of a runtime, whose tasks stand still meanwhile.
//!
//! ```no_run
//! use logd_client::ClientConfig;
//! use logd_client::blocking::{Scanner, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ClientConfig::new("127.0.0.1:1774");
//! let writer = Writer::open(logd_client::Writer::builder(config.clone()))?;
//! writer.write(b"hello")?;
//! writer.close()?;
//!
//! for message in Scanner::open(logd_client::Scanner::builder(config))? {
//!     let message = message?;
//!     println!("{}: {}", message.position, message.bytes.escape_ascii());
//! }
//! # Ok(())
//! # }
//! ```

mod scanner;
mod writer;

pub use self::scanner::Scanner;
pub use self::writer::{Delivery, Writer};
