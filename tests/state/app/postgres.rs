//! Counts in a table of the PostgreSQL database that has the checkpoints.

use std::sync::Arc;
use std::time::Duration;

use logd_client::postgres::tokio_postgres::{self, Client, NoTls};
use logd_client::{Checkpoint, PostgresState, StateError, StateErrorKind, Token};
use tokio::time::sleep;

use crate::count::{Counts, Results, Undone, run};
use crate::{Place, say};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS counts (consumer text, key text, count bigint NOT NULL, \
                      PRIMARY KEY (consumer, key))";
const ADD: &str = "INSERT INTO counts SELECT $1::text, * FROM unnest($2::text[], $3::bigint[]) \
                   ON CONFLICT (consumer, key) DO UPDATE SET count = counts.count + excluded.count";
const PAUSE: Duration = Duration::from_millis(20);

struct Postgres {
    state: Arc<PostgresState>,
    url: String,
    client: Client,
}

pub(crate) async fn count(place: &Place<'_>) -> i32 {
    let state = PostgresState::open(place.url).await.expect("the store can be opened");
    let state = Arc::new(state);
    let client = connect(place.url).await.expect("the database is there");
    client.batch_execute(CREATE).await.expect("the table can be made");
    run(place, state.clone(), Postgres { state, url: place.url.to_owned(), client }).await
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Its end is seen by the client.
    tokio::spawn(connection);
    Ok(client)
}

fn open(error: &tokio_postgres::Error) -> Undone {
    Undone::Open(error.to_string())
}

impl Results for Postgres {
    async fn store(&mut self, token: &Token, counts: &Counts, new: &Checkpoint) -> Result<Token, Undone> {
        let transaction = self.client.transaction().await.map_err(|error| open(&error))?;
        let keys: Vec<&str> = counts.keys().map(String::as_str).collect();
        let numbers: Vec<i64> = counts.values().copied().collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&token.key.consumer(), &keys, &numbers];
        transaction.execute(ADD, &parameters).await.map_err(|error| open(&error))?;
        let next = match self.state.complete_in(&transaction, token, new).await {
            Err(error) if error.kind() == StateErrorKind::Fenced => {
                return Err(Undone::Stale(error.to_string()));
            }
            next => next.map_err(|error| Undone::Open(error.to_string()))?,
        };
        transaction.commit().await.map_err(|error| open(&error))?;
        Ok(next)
    }

    async fn settle(&mut self, token: &Token) -> Result<(), StateError> {
        while self.client.is_closed() {
            match connect(&self.url).await {
                Ok(client) => self.client = client,
                Err(error) => {
                    say(&format!("away {error}"));
                    sleep(PAUSE).await;
                }
            }
        }
        self.state.resync(&token.key, token.fence).await.map(|_| ())
    }
}
