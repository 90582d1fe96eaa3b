//! `env_logger` with a topic as its target.
//!
//!     cargo run --release                                                    # in one terminal: the server
//!     RUST_LOG=info cargo run -p logd-examples --example env_logger          # in another
//!     cargo run -p logd-cli -- read

use std::error::Error;

use env_logger::{Env, Target};
use logd_client::ClientConfig;
use logd_client::blocking::Writer;

fn main() -> Result<(), Box<dyn Error>> {
    let writer = Writer::open(logd_client::Writer::builder(ClientConfig::default()))?;
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .target(Target::Pipe(Box::new(writer.io())))
        .init();

    log::info!("the shop is open");
    log::warn!("{} apples are left", 3);

    // The logger lives for ever: only this tells that everything has arrived.
    writer.close()?;
    Ok(())
}
