//! An application that is started while there is no server, is stopped, and is started again: nothing is lost.
//!
//!     cargo run -p logd-examples --example spool             # no server: it ends, and its messages are in `spool/`
//!     cargo run -p logd-cli -- spool ls spool                # there they are
//!     cargo run --release                                    # in another terminal: the server
//!     cargo run -p logd-examples --example spool             # it sends the old ones first, then the new ones
//!     cargo run -p logd-cli -- read
//!
//! Without a next start, `log-cli spool send spool` does the same.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::process;

use logd_client::{ClientConfig, Writer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "spool".into());
    let host = std::env::args().nth(2).unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());
    let writer = Writer::builder(ClientConfig::new(host)).spool(dir, 64 * 1024 * 1024).open()?;
    println!("found in the spool: {} messages", writer.stats().recovered);
    for number in 0..5 {
        writer.write(format!("message {number} of process {}", process::id()).as_bytes()).await?;
    }
    match writer.close().await {
        Ok(()) => println!("everything was delivered"),
        Err(error) if error.is_spooled() => println!("{error}"),
        Err(error) => return Err(error.into()),
    }
    let stats = writer.stats();
    println!("delivered: {}, in the spool: {}", stats.delivered, stats.spooled);
    Ok(())
}
