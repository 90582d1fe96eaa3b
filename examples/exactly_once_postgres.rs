//! Counts messages by their first word, exactly once, in a transaction of one's own: with a connection, a library and
//! statements that have nothing to do with logd, but for the last, which stores the checkpoint.
//!
//!     cargo run --release                                                        # in one terminal: the server
//!     seq 1000000 | awk '{ print "key" $1 % 3, $1 }' | cargo run -p logd-cli -- write > /dev/null     # in another
//!     export SHOP=postgres://postgres:secret@127.0.0.1/postgres
//!     cargo run -p logd-examples --example exactly_once_postgres & read; kill -9 $!     # Enter, while it works
//!     cargo run -p logd-examples --example exactly_once_postgres
//!     1000000 messages: key0 333333, key1 333334, key2 333333
//!
//! The second start waits up to five seconds for the lease of the first, which the kill has left behind.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use logd_client::postgres::tokio_postgres::{self, Client, NoTls};
use logd_client::{
    ClientConfig, Consumer, ConsumerKey, PostgresState, Received, RetryPolicy, StateErrorKind, TopicName,
};
use tokio::time::{Instant, timeout_at};

/// How many messages are counted in one transaction.
const BATCH_MESSAGES_MAX: usize = 10_000;
/// How long a transaction waits for more messages.
const BATCH_WAIT: Duration = Duration::from_millis(100);
/// How long after a kill the next start can have to wait.
const LEASE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url =
        std::env::var("SHOP").map_err(|_| "the environment variable SHOP must have the database's url")?;
    let host = std::env::args().nth(1).unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());
    let (mut shop, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    shop.batch_execute("CREATE TABLE IF NOT EXISTS counts (key text PRIMARY KEY, count bigint NOT NULL)")
        .await?;
    println!("found: {}", report(&shop).await?);

    let state = Arc::new(PostgresState::open(&url).await?);
    let key = ConsumerKey::new(TopicName::default(), "counter")?;
    let config = ClientConfig::new(host).retry(RetryPolicy::default().attempts(None));
    let builder = Consumer::builder(config, Arc::clone(&state) as _, key);
    let mut consumer = builder.transactional().exclusive(LEASE).wait_for_lease().open().await?;
    // One for all turns: a signal that comes while nobody listens would be lost.
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        let batch = tokio::select! {
            batch = next_batch(&mut consumer) => batch?,
            _ = &mut stop => break,
        };
        let Some(last) = batch.last() else { break };

        let tx = shop.transaction().await?;
        add(&tx, &batch).await?;
        // Last of all, so that it fails if anything before has.
        let next = match state.complete_in(&tx, &consumer.token(), &last.checkpoint()).await {
            Ok(next) => next,
            // It was reset, or somebody else has taken over: then the stream ends.
            Err(error) if matches!(error.kind(), StateErrorKind::Fenced | StateErrorKind::Stale { .. }) => {
                eprintln!("{error}");
                tx.rollback().await?;
                consumer.resync().await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match tx.commit().await {
            Ok(()) => consumer.committed(&next),
            // It may be committed: what is stored says, and what is not stored comes again.
            Err(error) => {
                eprintln!("{error}");
                consumer.resync().await?;
            }
        }
        println!("{}", report(&shop).await?);
    }
    consumer.shutdown(Duration::ZERO).await?;
    Ok(())
}

/// Some messages, as many as come within a short time; none at the end. They are in hand until they are counted.
async fn next_batch(consumer: &mut Consumer) -> Result<Vec<Received>, logd_client::Error> {
    let mut batch = Vec::new();
    let mut end: Option<Instant> = None;
    while batch.len() < BATCH_MESSAGES_MAX {
        let next = match end {
            None => consumer.next().await,
            Some(end) => match timeout_at(end, consumer.next()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(Ok(delivery)) => batch.push(delivery),
            Some(Err(error)) if error.is_skippable() => eprintln!("{error}"),
            // The checkpoint was reset: what is in hand is not to be counted.
            Some(Err(error)) if !error.ends_stream() => {
                eprintln!("{error}");
                batch.clear();
                end = None;
                continue;
            }
            Some(Err(error)) => return Err(error),
            None => break,
        }
        end.get_or_insert_with(|| Instant::now() + BATCH_WAIT);
    }
    Ok(batch)
}

async fn add(tx: &tokio_postgres::Transaction<'_>, batch: &[Received]) -> Result<(), tokio_postgres::Error> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for delivery in batch {
        let word = delivery.bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        *counts.entry(String::from_utf8_lossy(word).into_owned()).or_default() += 1;
    }
    let statement =
        "INSERT INTO counts AS c VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET count = c.count + $2";
    for (key, count) in &counts {
        tx.execute(statement, &[key, count]).await?;
    }
    Ok(())
}

async fn report(shop: &Client) -> Result<String, tokio_postgres::Error> {
    let rows = shop.query("SELECT key, count FROM counts ORDER BY key", &[]).await?;
    let counts: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let total: i64 = counts.iter().map(|(_, count)| count).sum();
    let counts: Vec<String> = counts.iter().map(|(key, count)| format!("{key} {count}")).collect();
    Ok(format!("{total} messages: {}", counts.join(", ")))
}
