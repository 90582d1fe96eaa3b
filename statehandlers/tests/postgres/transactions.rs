//! Checkpoints within transactions of the user's: with a closure, with another library, and when the answer is lost.

use logd_statehandlers::conformance::{Cut, Fixture};
use logd_statehandlers::postgres::sql::{self, Parameters};
use logd_statehandlers::{
    Checkpoint, Claim, Claimant, ConsumerKey, Grant, LeaseHandler, Position, PostgresState, StateAdmin,
    StateError, StateErrorKind, StateHandler, Token,
};
use sqlx::{Connection, Executor};
use std::time::Duration;

use crate::PostgresFixture;
use crate::outages::Faulty;

const LONG: Duration = Duration::from_secs(3600);

fn key() -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap()
}

fn at(offset: u64) -> Checkpoint {
    Checkpoint::at(offset.to_string().parse::<Position>().unwrap())
}

async fn grant(state: &PostgresState, name: &str) -> Grant {
    match state.start(&key(), &Claimant::new(name), LONG).await.unwrap() {
        Claim::Granted(grant) => grant,
        claim @ Claim::Processing { .. } => panic!("{claim:?}"),
    }
}

/// An error of the closure's own.
#[derive(Debug)]
enum Failure {
    State(StateError),
    Own,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closure_is_committed_with_its_checkpoint_or_not_at_all() {
    let fixture = PostgresFixture::make().await.unwrap();
    let state = PostgresState::open(&fixture.url()).await.unwrap();
    let mine = grant(&state, "one").await;
    let token = Token::new(key(), &mine);
    // A task can run it: it is `Send`.
    let (state, next) = tokio::spawn(async move {
        let new = at(60);
        let done = state.with_tx(&token, &new, async |tx| {
            tx.execute("INSERT INTO results VALUES ('first')", &[]).await.map_err(|_| Failure::Own)
        });
        let (rows, next) = done.await.unwrap();
        assert_eq!(rows, 1);
        (state, next)
    })
    .await
    .unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(60)));

    let new = at(70);
    let failing = state.with_tx(&next, &new, async |tx| {
        tx.execute("INSERT INTO results VALUES ('second')", &[]).await.unwrap();
        Err::<(), _>(Failure::Own)
    });
    assert!(matches!(failing.await, Err(Failure::Own)));
    // The driver would report a commit of this as done.
    let ignored = state.with_tx(&next, &new, async |tx| {
        tx.execute("INSERT INTO results VALUES ('third')", &[]).await.unwrap();
        tx.execute("SELECT 1 / 0", &[]).await.unwrap_err();
        Ok::<_, Failure>(())
    });
    match ignored.await {
        Err(Failure::State(error)) => assert_eq!(error.kind(), StateErrorKind::Failed, "{error}"),
        other => panic!("{other:?}"),
    }
    let stolen = Token { fence: logd_statehandlers::Fence { nonce: 1, ..next.fence }, ..next.clone() };
    let fenced = state.with_tx(&stolen, &at(70), async |_| Ok::<_, StateError>(())).await.unwrap_err();
    assert_eq!(fenced.kind(), StateErrorKind::Fenced);
    let back = state.with_tx(&next, &at(50), async |_| Ok::<_, StateError>(())).await.unwrap_err();
    assert!(matches!(back.kind(), StateErrorKind::Stale { .. }));

    assert_eq!(state.get(&key()).await.unwrap(), Some(at(60)));
    let rows = fixture.client().await.unwrap().query("SELECT result FROM results", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["first"]);
    state.with_tx(&next, &at(70), async |_| Ok::<_, StateError>(())).await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(70)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_whose_answer_was_lost_is_found_out() {
    let faulty = Faulty::new().await.unwrap();
    let state = faulty.state().await.unwrap();
    let mut token = Token::new(key(), &grant(&state, "one").await);
    for (at_what, is_done) in [(Cut::After, true), (Cut::Before, false), (Cut::During, false)] {
        let new = at(token.expected.map_or(0, |position| position.offset.as_u64()) + 10);
        // Behind `BEGIN` and the checkpoint comes the commit.
        let begun = state.with_tx(&token, &new, async |_| {
            faulty.proxy.cut(at_what, 1);
            Ok::<_, StateError>(())
        });
        let lost = begun.await.unwrap_err();
        assert_eq!(lost.kind(), StateErrorKind::Ambiguous, "{at_what:?}: {lost}");
        let stored = loop {
            match state.resync(&key(), token.fence).await {
                Ok(stored) => break stored.map(|stored| stored.next),
                Err(error) => assert_eq!(error.kind(), StateErrorKind::Unavailable, "{error}"),
            }
        };
        let next = token.advanced(new.next);
        assert_eq!(stored, if is_done { next.expected } else { token.expected }, "{at_what:?}");
        token = if is_done { next } else { token };
    }
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(10)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resync_waits_for_the_open_transaction_and_knows_the_fence() {
    let fixture = PostgresFixture::make().await.unwrap();
    let state =
        PostgresState::builder(fixture.url()).timeout(Duration::from_millis(600)).open().await.unwrap();
    let mine = grant(&state, "one").await;
    let token = Token::new(key(), &mine);
    assert_eq!(state.resync(&key(), mine.fence).await.unwrap(), None);
    let mut shop = fixture.client().await.unwrap();
    let tx = shop.transaction().await.unwrap();
    state.complete_in(&tx, &token, &at(7)).await.unwrap();
    let open = state.resync(&key(), mine.fence).await.unwrap_err();
    assert_eq!(open.kind(), StateErrorKind::Unavailable, "{open}");
    assert_eq!(state.get(&key()).await.unwrap(), None, "a read does not wait");
    tx.commit().await.unwrap();
    assert_eq!(state.resync(&key(), mine.fence).await.unwrap(), Some(at(7)));
    state.release(&key(), mine.fence, None).await.unwrap();
    grant(&state, "two").await;
    assert_eq!(state.resync(&key(), mine.fence).await.unwrap_err().kind(), StateErrorKind::Fenced);
    state.delete(&key()).await.unwrap();
    assert_eq!(state.resync(&key(), mine.fence).await.unwrap_err().kind(), StateErrorKind::Lost);
}

/// Runs the published statement with another library.
async fn with_sqlx(tx: &mut sqlx::PgConnection, token: &Token, checkpoint: &Checkpoint) -> u64 {
    let Parameters {
        namespace,
        topic,
        consumer,
        offset,
        delta,
        body,
        epoch,
        nonce,
        expected_offset,
        expected_delta,
    } = Parameters::new(token, checkpoint).unwrap();
    let statement = sqlx::query(sql::COMPLETE_IN)
        .bind(namespace)
        .bind(topic)
        .bind(consumer)
        .bind(offset)
        .bind(delta)
        .bind(body)
        .bind(epoch)
        .bind(nonce)
        .bind(expected_offset)
        .bind(expected_delta);
    statement.execute(tx).await.unwrap().rows_affected()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_does_the_same_with_sqlx() {
    let fixture = PostgresFixture::make().await.unwrap();
    let state = PostgresState::open(&fixture.url()).await.unwrap();
    let mine = grant(&state, "one").await;
    let token = Token::new(key(), &mine);
    let mut shop = sqlx::PgConnection::connect(&fixture.server.url()).await.unwrap();
    let path = format!("SET search_path = {}", fixture.schema);
    shop.execute(sqlx::AssertSqlSafe(path)).await.unwrap();

    let mut most = at(u64::MAX);
    most.user = vec![0, 255];
    let wrong = Token { expected: Some(at(3).next), ..token.clone() };
    let mut tx = shop.begin().await.unwrap();
    assert_eq!(with_sqlx(&mut tx, &wrong, &most).await, 0);
    tx.rollback().await.unwrap();
    let mut tx = shop.begin().await.unwrap();
    assert_eq!(with_sqlx(&mut tx, &token, &most).await, 1);
    tx.rollback().await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), None);
    let mut tx = shop.begin().await.unwrap();
    assert_eq!(with_sqlx(&mut tx, &token, &most).await, 1);
    tx.commit().await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(most.clone()));
    // The token was for what is not there any more.
    let mut tx = shop.begin().await.unwrap();
    assert_eq!(with_sqlx(&mut tx, &token, &most).await, 0);
    drop(tx);
    let row = shop.fetch_one("SELECT next_offset::text FROM logd_checkpoints").await.unwrap();
    assert_eq!(sqlx::Row::get::<String, _>(&row, 0), u64::MAX.to_string());
}
