//! A drain of `slog` that writes JSON, one object a message of a topic.
//!
//!     cargo run --release                                # in one terminal: the server
//!     cargo run -p logd-examples --example slog          # in another
//!     cargo run -p logd-cli -- read

use std::error::Error;
use std::sync::Mutex;

use logd_client::ClientConfig;
use logd_client::blocking::Writer;
use slog::{Drain, Logger, info, o, warn};

fn main() -> Result<(), Box<dyn Error>> {
    let writer = Writer::open(logd_client::Writer::builder(ClientConfig::default()))?;
    // A record comes in many small writes, which the lock keeps together.
    let drain = Mutex::new(slog_json::Json::default(writer.io())).map(slog::Fuse);
    let logger = Logger::root(drain, o!("service" => "shop"));

    info!(logger, "the shop is open");
    warn!(logger, "few apples are left"; "apples" => 3);

    writer.close()?;
    Ok(())
}
