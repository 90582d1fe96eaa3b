//! The table: who makes it, and who may use it; and pools of the user's.

use std::time::Duration;

use logd_statehandlers::postgres::deadpool_postgres::{Manager, Pool, Runtime};
use logd_statehandlers::postgres::tokio_postgres::NoTls;
use logd_statehandlers::{
    Checkpoint, Claim, Claimant, ConsumerKey, Fence, LeaseHandler, PostgresState, StateAdmin, StateErrorKind,
    StateHandler,
};

use crate::{PostgresFixture, server};

const LONG: Duration = Duration::from_secs(3600);

fn key() -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint::at("60.12".parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_at_once_make_one_table() {
    for _ in 0..5 {
        let fixture = PostgresFixture::make().await.unwrap();
        let migrations: Vec<_> = (0..8)
            .map(|_| {
                let url = fixture.url();
                tokio::spawn(async move { PostgresState::open(&url).await })
            })
            .collect();
        for migration in migrations {
            migration.await.unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn table_is_made_once_and_then_needs_no_right_to_make_it() {
    let fixture = PostgresFixture::make().await.unwrap();
    let owner = PostgresState::builder(fixture.url()).without_migration().open().await.unwrap();
    let missing = owner.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap_err();
    assert_eq!(missing.kind(), StateErrorKind::Failed, "{missing}");
    assert!(missing.to_string().contains("42P01"), "{missing}");
    owner.migrate().await.unwrap();
    owner.migrate().await.unwrap();

    let admin = fixture.client().await.unwrap();
    let schema = &fixture.schema;
    let password = server::PASSWORD;
    let user = format!("reader_{schema}");
    let rights = format!(
        "CREATE ROLE {user} LOGIN PASSWORD '{password}'; GRANT USAGE ON SCHEMA {schema} TO {user}; \
         GRANT SELECT, INSERT ON logd_checkpoints TO {user}"
    );
    admin.batch_execute(&rights).await.unwrap();
    let url =
        crate::url_of(&fixture.server.url(), schema).replace("postgres:correct", &format!("{user}:correct"));
    let reader = PostgresState::open(&url).await.unwrap();
    assert_eq!(reader.get(&key()).await.unwrap(), None);
    let refused = reader.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Failed, "{refused}");
    let rights = format!("GRANT UPDATE, DELETE ON logd_checkpoints TO {user}");
    admin.batch_execute(&rights).await.unwrap();
    reader.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap();
    reader.delete(&key()).await.unwrap();

    let standby = format!("{url}%20-c%20default_transaction_read_only%3Don");
    let standby = PostgresState::open(&standby).await.unwrap();
    let refused = standby.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Failed, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_table_of_the_same_name_is_left_alone() {
    let fixture = PostgresFixture::make().await.unwrap();
    let admin = fixture.client().await.unwrap();
    admin.batch_execute("CREATE TABLE logd_checkpoints (namespace text, mine text)").await.unwrap();
    let refused = PostgresState::open(&fixture.url()).await.unwrap_err();
    assert_eq!(refused.kind(), StateErrorKind::Failed, "{refused}");
    admin.query_one("SELECT count(mine) FROM logd_checkpoints", &[]).await.unwrap();
}

/// Damage that leaves a sound body in a known form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_record_that_looks_sound_is_not_written_over() {
    let fixture = PostgresFixture::make().await.unwrap();
    let state = PostgresState::open(&fixture.url()).await.unwrap();
    let admin = fixture.client().await.unwrap();
    for damage in [
        "body = convert_to(replace(convert_from(body, 'UTF8'), '60.12', '61.12'), 'UTF8')",
        "next_offset = 61",
        "next_delta = 11",
        "digest = NULL",
        "next_offset = NULL",
    ] {
        state.delete(&key()).await.unwrap();
        state.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap();
        let one = Claimant::new("one");
        let claim = state.start(&key(), &one, LONG).await.unwrap();
        let Claim::Granted(grant) = claim else { panic!("{claim:?}") };
        admin.batch_execute(&format!("UPDATE logd_checkpoints SET {damage}")).await.unwrap();
        let next = Checkpoint::at("70".parse().unwrap());
        let errors = [
            state.get(&key()).await.map(|_| ()),
            state.complete(&key(), &next, grant.fence).await.map(|_| ()),
            state.release(&key(), grant.fence, Some(&next)).await,
            state.start(&key(), &one, LONG).await.map(|_| ()),
        ];
        for error in errors {
            assert_eq!(error.unwrap_err().kind(), StateErrorKind::Corrupt, "{damage}");
        }
        state.reset(&key(), &next).await.unwrap();
        assert_eq!(state.get(&key()).await.unwrap(), Some(next));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_of_the_users_is_used_and_left_open() {
    let fixture = PostgresFixture::make().await.unwrap();
    let manager = Manager::new(fixture.url().parse().unwrap(), NoTls);
    let pool = Pool::builder(manager).max_size(1).runtime(Runtime::Tokio1).build().unwrap();
    let state = PostgresState::with_pool(pool.clone(), Duration::from_secs(1)).unwrap();
    state.migrate().await.unwrap();
    state.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap();
    let kept = pool.get().await.unwrap();
    let waiting = state.get(&key()).await.unwrap_err();
    assert_eq!(waiting.kind(), StateErrorKind::Unavailable, "{waiting}");
    let prepared = kept.query_one("SELECT count(*) FROM pg_prepared_statements", &[]).await.unwrap();
    assert_eq!(prepared.get::<_, i64>(0), 1, "only this statement itself is prepared by name");
    drop(kept);
    state.close().await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap_err().kind(), StateErrorKind::Invalid);
    drop(pool.get().await.unwrap());
    assert!(PostgresState::with_pool(pool, Duration::ZERO).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn url_opens_it() {
    let fixture = PostgresFixture::make().await.unwrap();
    let url = format!("{}&sslmode=verify-full", fixture.url()).replace("postgres://", "postgresql://");
    let state = logd_statehandlers::open(&url).await.unwrap();
    state.complete(&key(), &checkpoint(), Fence::NONE).await.unwrap();
    let over_tcp = crate::url_of(&fixture.server.url(), &fixture.schema);
    let state = logd_statehandlers::open(&over_tcp).await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(checkpoint()));
}
