//! Eight messages in work at a time, done in any order, some of which fail at first: the checkpoint stays behind the
//! first that is not done.
//!
//!     cargo run --release                                             # in one terminal: the server
//!     seq 100 | cargo run -p logd-cli -- write                        # in another
//!     cargo run -p logd-examples --example workers & read; kill -9 $!     # Enter, while it works
//!     cargo run -p logd-examples --example workers                    # what was not done comes again, and the rest
//!
//! The lines with `stored` say what a crash would leave: everything before the position is done, and so are the ranges
//! behind it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashSet;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logd_client::{
    ClientConfig, Consumer, ConsumerKey, FileState, Message, Position, StateHandler, TopicName,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "workers-state".into());
    let host = arguments.next().unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());

    let state = Arc::new(FileState::open(dir).await?);
    let key = ConsumerKey::new(TopicName::default(), "workers")?;
    tokio::spawn(watch(Arc::clone(&state), key.clone()));
    let consumer = Consumer::builder(ClientConfig::new(host), state, key)
        .follow(false)
        .commit_interval(Duration::from_millis(500))
        .deliveries_max(5)
        .open()
        .await?;
    let failed = Mutex::new(HashSet::new());
    // With Ctrl-C, what is in work is finished. With `for_each_concurrent` it is dropped, and comes again.
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let end = consumer.for_each_until(stop, 8, async |message| work(&message, &failed).await).await?;
    println!("stored at the end: {:?}", end.committed.map(|position| position.to_string()));
    Ok(())
}

/// Takes its time, and fails for each tenth message when it comes first.
async fn work(message: &Message, failed: &Mutex<HashSet<Position>>) -> Result<(), &'static str> {
    let text = String::from_utf8_lossy(&message.bytes);
    let number: u64 = text.trim().parse().unwrap_or_default();
    tokio::time::sleep(Duration::from_millis(50 + number * 37 % 400)).await;
    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
    if number.is_multiple_of(10) && failed.insert(message.position) {
        println!("{text} failed, and comes again");
        return Err("not this time");
    }
    println!("{text} is done");
    Ok(())
}

/// Tells what is stored, when it has changed.
async fn watch(state: Arc<FileState>, key: ConsumerKey) {
    let mut last = None;
    loop {
        let stored = state.get(&key).await.ok().flatten();
        if let Some(stored) = stored.filter(|stored| last.as_ref() != Some(&(stored.next, stored.done.len())))
        {
            println!("                 stored: {}, and {} ranges behind it", stored.next, stored.done.len());
            last = Some((stored.next, stored.done.len()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
