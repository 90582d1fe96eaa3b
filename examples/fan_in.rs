//! Many tasks write through one writer: their messages share batches and a connection, and each task's keep their order.
//!
//!     cargo run --release -p logd-examples --example fan_in -- 100 10000     # 100 tasks, 10,000 messages each
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use logd_client::{ClientConfig, Receipt, Scanner, Writer};
use logd_server::{Config, Server};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u32>());
    let tasks = arguments.next().transpose()?.unwrap_or(10);
    let messages = arguments.next().transpose()?.unwrap_or(1000);
    let workdir = tempfile::tempdir()?;
    let config = Config { host: "127.0.0.1:0".into(), workdir: workdir.path().into(), ..Config::default() };
    let server = Server::bind(config).await?;
    let host = server.local_addr().to_string();
    tokio::spawn(server.run(std::future::pending()));

    let (count, batches) = std::sync::mpsc::channel();
    let writer = Writer::builder(ClientConfig::new(&host))
        .state_pusher(move |receipt: &Receipt| {
            let _ = count.send(receipt.messages);
        })
        .open()?;
    let start = Instant::now();
    let writing: Vec<_> = (0..tasks)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in 0..messages {
                    writer.write(format!("{task} {number}").as_bytes()).await?;
                }
                Ok::<(), logd_client::WriteError>(())
            })
        })
        .collect();
    for task in writing {
        task.await??;
    }
    writer.close().await?;
    let seconds = start.elapsed().as_secs_f64();
    let total = writer.stats().delivered;
    println!(
        "{total} messages in {} batches, {:.0} a second",
        batches.iter().count(),
        total as f64 / seconds
    );

    let mut next: HashMap<u32, u32> = HashMap::new();
    let mut scanner = Scanner::builder(ClientConfig::new(&host)).open()?;
    while let Some(message) = scanner.next().await {
        let text = String::from_utf8(message?.bytes.to_vec())?;
        let (task, number) = text.split_once(' ').ok_or("a message of another form")?;
        let expected = next.entry(task.parse()?).or_default();
        if number.parse::<u32>()? != *expected {
            return Err(format!("task {task}: message {number} where {expected} should be").into());
        }
        *expected += 1;
    }
    println!("{} tasks, each with its messages in order", next.len());
    Ok(())
}
