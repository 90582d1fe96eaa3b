//! Two processes with one name, of which one reads at a time. Kill it, and the other goes on.
//!
//!     cargo run --release                                             # in one terminal: the server
//!     seq 1000 | cargo run -p logd-cli -- write                       # in another
//!     cargo run -p logd-examples --example takeover                   # in a third: it reads
//!     cargo run -p logd-examples --example takeover                   # in a fourth: it waits
//!     kill -9 the first, or end it with Ctrl-C                        # the second goes on
//!
//! A lease in files ends with its process. With `-- sqlite:takeover.db` it runs out instead, five seconds after a kill;
//! a process that is stopped for longer (`kill -STOP`), and then goes on (`kill -CONT`), says who has taken over, and ends.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::error::Error;
use std::pin::pin;
use std::process;
use std::time::Duration;

use logd_client::{ClientConfig, Consumer, ConsumerKey, RetryPolicy, TopicName, open_state};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "file:takeover-state".into());
    let host = arguments.next().unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());
    let me = process::id();

    let key = ConsumerKey::new(TopicName::default(), "takeover")?;
    let config = ClientConfig::new(host).retry(RetryPolicy::default().attempts(None));
    println!("process {me} asks for the lease");
    let mut consumer = Consumer::builder(config, open_state(&url).await?, key)
        .exclusive(Duration::from_secs(5))
        .wait_for_lease()
        .open()
        .await?;
    println!("process {me} has the lease");
    // One for all turns: a signal that comes while nobody listens would be lost.
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let next = tokio::select! {
            next = consumer.next() => next,
            _ = &mut stop => break,
        };
        match next {
            Some(Ok(delivery)) => {
                println!("process {me}: {}", String::from_utf8_lossy(delivery.bytes()));
                tokio::time::sleep(Duration::from_millis(200)).await;
                delivery.ack();
            }
            Some(Err(error)) if error.is_skippable() => eprintln!("{error}"),
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    consumer.shutdown(Duration::from_secs(1)).await?;
    println!("process {me} has given the lease back");
    Ok(())
}
