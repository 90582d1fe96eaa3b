//! Follows a topic: prints what is there, then what comes, until it is stopped. It outlasts restarts of the server.
//!
//!     cargo run --release                                        # in one terminal: the server
//!     cargo run -p logd-examples --example tail -- default       # in another
//!     cargo run -p logd-cli -- write "look at the other terminal"
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::error::Error;

use logd_client::{ClientConfig, RetryPolicy, Scanner, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let topic: TopicName = match std::env::args().nth(1) {
        Some(name) => name.parse()?,
        None => TopicName::default(),
    };
    // As often as it takes: a follower is there for longer than any server.
    let config = ClientConfig::default().retry(RetryPolicy::default().attempts(None));
    let mut scanner = Scanner::builder(config).topic(topic).follow(true).open()?;
    while let Some(message) = scanner.next().await {
        match message {
            Ok(message) => println!("{}  {}", message.position, String::from_utf8_lossy(&message.bytes)),
            // Something was lost on the server's disk. It says what; the next message comes from behind it.
            Err(error) if error.is_skippable() => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
