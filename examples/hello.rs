//! The shortest way to see it all: a server in this process, a Writer that writes to it, a Scanner that reads it back.
//!
//!     cargo run -p logd-examples --example hello
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use logd_client::{ClientConfig, Scanner, Writer};
use logd_server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let workdir = tempfile::tempdir()?;
    let config = Config { host: "127.0.0.1:0".into(), workdir: workdir.path().into(), ..Config::default() };
    let server = Server::bind(config).await?;
    let host = server.local_addr().to_string();
    tokio::spawn(server.run(std::future::pending()));

    let writer = Writer::builder(ClientConfig::new(&host)).open()?;
    for name in ["world", "logd", "reader"] {
        writer.write(format!("hello, {name}!").as_bytes()).await?;
    }
    // Only now is it certain that the server has all three.
    writer.close().await?;

    let mut scanner = Scanner::builder(ClientConfig::new(&host)).open()?;
    while let Some(message) = scanner.next().await {
        let message = message?;
        println!("{}  {}", message.position, String::from_utf8_lossy(&message.bytes));
    }
    Ok(())
}
