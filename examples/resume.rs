//! Reads three messages and ends; the next start goes on where this one has stopped, also after a kill.
//!
//!     cargo run --release                                   # in one terminal: the server
//!     seq 10 | cargo run -p logd-cli -- write               # in another: ten messages
//!     cargo run -p logd-examples --example resume           # 1, 2, 3
//!     cargo run -p logd-examples --example resume           # 4, 5, 6
//!
//! How far it is stands in `resume-state/`, in a form that people can read.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use logd_client::{ClientConfig, Consumer, ConsumerKey, FileState, TopicName};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "resume-state".into());
    let host = arguments.next().unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());

    let state = Arc::new(FileState::open(dir).await?);
    let key = ConsumerKey::new(TopicName::default(), "resume")?;
    let mut consumer =
        Consumer::builder(ClientConfig::new(host), state, key).follow(false).limit(3).open().await?;
    while let Some(delivery) = consumer.next().await {
        match delivery {
            Ok(delivery) => {
                println!("{}  {}", delivery.position(), String::from_utf8_lossy(delivery.bytes()));
                // From here on it is done. Without this, it would come again, now and at the next start.
                delivery.ack();
            }
            // Something was lost on the server's disk. It says what; the next message comes from behind it.
            Err(error) if error.is_skippable() => eprintln!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    let end = consumer.shutdown(Duration::from_secs(5)).await?;
    match end.committed {
        Some(position) => println!("the next start goes on at {position}"),
        None => println!("there was nothing to read"),
    }
    Ok(())
}
