//! A program that brings its own logd: other programs can write to it and read from it while this one runs.
//!
//!     cargo run -p logd-examples --example embedded_server
//!     cargo run -p logd-cli -- write --host 127.0.0.1:1775 "hello"
//!     cargo run -p logd-cli -- read --host 127.0.0.1:1775
//!
//! Ctrl-C ends it in order: what is in work is finished, and everything is synced.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use logd_server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config {
        host: "127.0.0.1:1775".into(),
        workdir: "target/embedded-logs".into(),
        // Every acknowledged batch survives a power cut.
        flush_batches: 1,
        ..Config::default()
    };
    let server = Server::bind(config).await?;
    println!("listening on {}, stop with Ctrl-C", server.local_addr());
    server
        .run(async {
            // Where Ctrl-C cannot be waited for, the server ends at once instead of never.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    println!("everything is synced");
    Ok(())
}
