//! Counts messages by their first word, exactly once: counts and checkpoint are in one transaction of `SQLite`. However
//! often it is killed, the counts come out right.
//!
//!     cargo run --release                                                        # in one terminal: the server
//!     seq 1000000 | awk '{ print "key" $1 % 3, $1 }' | cargo run -p logd-cli -- write > /dev/null     # in another
//!     cargo run -p logd-examples --example stream_processor & read; kill -9 $!     # Enter, while it works
//!     cargo run -p logd-examples --example stream_processor
//!     1000000 messages: key0 333333, key1 333334, key2 333333
//!
//! The kill has left its lease behind, which runs out in five seconds: so long the second start waits. End it with
//! Ctrl-C; then the next start does not wait.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use logd_client::sqlite::rusqlite::{self, Connection, Transaction};
use logd_client::{
    ClientConfig, Consumer, ConsumerKey, Received, RetryPolicy, SqliteState, StateError, StateErrorKind,
    TopicName,
};
use tokio::time::{Instant, timeout_at};

/// How many messages are counted in one transaction.
const BATCH_MESSAGES_MAX: usize = 10_000;
/// How long a transaction waits for more messages.
const BATCH_WAIT: Duration = Duration::from_millis(100);
/// How long after a kill the next start can have to wait.
const LEASE: Duration = Duration::from_secs(5);

type Counts = BTreeMap<String, i64>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "counts.db".into());
    let host = arguments.next().unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());
    let db = Connection::open(&path)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.execute_batch("CREATE TABLE IF NOT EXISTS counts (key TEXT PRIMARY KEY, count INTEGER NOT NULL)")?;
    println!("found: {}", report(&db)?);

    let state = Arc::new(SqliteState::open(&path).await?);
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
        let (token, checkpoint) = (consumer.token(), last.checkpoint());
        let counts = count(&batch);
        match state.with_tx(&token, &checkpoint, move |tx| add(tx, &counts)).await {
            Ok(((), next)) => consumer.committed(&next),
            // It was not done, or it is not known: what is stored says, and what is not stored comes again.
            Err(error) if is_to_be_asked(&error) => {
                eprintln!("{error}");
                consumer.resync().await?;
            }
            Err(error) => return Err(error.into()),
        }
        println!("{}", report(&db)?);
    }
    consumer.shutdown(Duration::ZERO).await?;
    Ok(())
}

/// Whether what is stored says how to go on: it is not known what was done, or the checkpoint was reset; if somebody else
/// has taken over, the stream ends.
fn is_to_be_asked(error: &StateError) -> bool {
    error.is_retryable() || matches!(error.kind(), StateErrorKind::Fenced | StateErrorKind::Stale { .. })
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

fn count(batch: &[Received]) -> Counts {
    let mut counts = Counts::new();
    for delivery in batch {
        let word = delivery.bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        *counts.entry(String::from_utf8_lossy(word).into_owned()).or_default() += 1;
    }
    counts
}

/// Runs in the transaction that also has the checkpoint: both are committed, or neither is.
fn add(tx: &Transaction<'_>, counts: &Counts) -> Result<(), StateError> {
    let add = || {
        let mut statement = tx.prepare_cached(
            "INSERT INTO counts VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET count = count + excluded.count",
        )?;
        counts.iter().try_for_each(|(key, count)| statement.execute((key, count)).map(|_| ()))
    };
    add().map_err(|error: rusqlite::Error| {
        StateError::caused(StateErrorKind::Failed, "the counts were not stored", error)
    })
}

fn report(db: &Connection) -> rusqlite::Result<String> {
    let mut statement = db.prepare("SELECT key, count FROM counts ORDER BY key")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let counts: Vec<(String, i64)> = rows.collect::<Result<_, _>>()?;
    let total: i64 = counts.iter().map(|(_, count)| count).sum();
    let counts: Vec<String> = counts.iter().map(|(key, count)| format!("{key} {count}")).collect();
    Ok(format!("{total} messages: {}", counts.join(", ")))
}
