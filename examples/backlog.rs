//! What could not be delivered is handed back, looked at, and written again when that makes sense.
//!
//!     cargo run -p logd-examples --example backlog
//!
//! The server of this example takes only the topic `default`, until it is started anew.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use logd_client::{ClientConfig, Outcome, TopicName, Writer};
use logd_server::{Config, Server};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let workdir = tempfile::tempdir()?;
    let mut config =
        Config { host: "127.0.0.1:0".into(), workdir: workdir.path().into(), ..Config::default() };
    config.topics_whitelist = vec![TopicName::default()];
    let (host, stop, running) = start(&config).await?;

    let topic: TopicName = "orders".parse()?;
    let writer = Writer::builder(ClientConfig::new(&host)).topic(topic.clone()).open()?;
    let backlog = writer.backlog();
    for number in 0..3 {
        writer.write(format!("order {number}").as_bytes()).await?;
    }
    if let Err(error) = writer.flush().await {
        println!("{error}");
    }
    for failed in &backlog {
        println!("in the backlog: {} messages, {}", failed.batch.messages(), failed.outcome);
    }

    // Somebody allows the topic.
    let _ = stop.send(());
    running.await?;
    config.topics_whitelist.clear();
    config.host = host;
    let (_, _stop, _) = start(&config).await?;

    while let Some(failed) = backlog.take() {
        // What is unknown keeps its identity, so that a server that knows `dedup` stores it once, whatever has happened.
        // To another server it could be written twice: then it is for the application to say.
        if failed.outcome == Outcome::Unknown {
            println!("{} messages may be there already", failed.batch.messages());
        }
        writer.retry(failed)?;
    }
    writer.close().await?;
    let stats = writer.stats();
    println!("delivered: {}, given up and taken: {}", stats.delivered, stats.taken);
    Ok(())
}

async fn start(config: &Config) -> Result<(String, oneshot::Sender<()>, JoinHandle<()>), Box<dyn Error>> {
    let server = Server::bind(config.clone()).await?;
    let host = server.local_addr().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(async {
        let stopped = async {
            let _ = stopped.await;
        };
        let _ = server.run(stopped).await;
    });
    Ok((host, stop, running))
}
