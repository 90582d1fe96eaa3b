//! What goes wrong with files and locks.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use logd_statehandlers::conformance::Fixture;
use logd_statehandlers::sqlite::rusqlite::Connection;
use logd_statehandlers::{
    Claim, Claimant, Fence, LeaseHandler, SqliteState, StateAdmin, StateErrorKind, StateHandler,
};

use super::process::Worker;
use super::{SqliteFixture, at, key};

#[tokio::test]
async fn lock_of_another_process_is_waited_for() {
    let fixture = SqliteFixture::new().await.unwrap();
    let timeout = Duration::from_millis(300);
    let state = SqliteState::builder().busy_timeout(timeout).open(fixture.path()).await.unwrap();
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    let mut other = Worker::start("lock", &fixture.path());
    assert_eq!(other.next(), "locked");
    let begin = Instant::now();
    let error = state.complete(&key(), &at("6"), Fence::NONE).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Unavailable, "{error}");
    assert!((timeout..timeout * 10).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    // Readers do not wait.
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
    let patient = SqliteState::open(fixture.path()).await.unwrap();
    let waiting = tokio::spawn(async move { patient.complete(&key(), &at("7"), Fence::NONE).await });
    other.go_on();
    assert_eq!(other.next(), "free");
    waiting.await.unwrap().unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("7")));
}

#[tokio::test]
async fn failed_write_at_commit_is_ambiguous_and_can_be_repeated() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        return eprintln!("NOT TESTED: there is no `prlimit` here");
    }
    let fixture = SqliteFixture::new().await.unwrap();
    let mut limited = Worker::start_limited("limited", &fixture.path(), 200);
    let position = limited.next();
    let id = limited.id().to_string();
    let lifted = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status().unwrap();
    assert!(lifted.success());
    limited.go_on();
    assert_eq!(limited.next(), "stored");
    limited.kill(String::new());
    let state = fixture.open().await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(&position)));
}

/// Fails unless every call is refused for good.
async fn is_refused(state: &SqliteState) {
    let kinds = [
        state.get(&key()).await.unwrap_err().kind(),
        state.complete(&key(), &at("9"), Fence::NONE).await.unwrap_err().kind(),
        state.start(&key(), &Claimant::new("one"), Duration::from_secs(9)).await.unwrap_err().kind(),
        state.list().await.unwrap_err().kind(),
        state.delete(&key()).await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [StateErrorKind::Failed; 5]);
}

async fn with_files_changed(change: impl FnOnce(&Path, &Path)) {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = SqliteState::open(fixture.path()).await.unwrap();
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
    let log = fixture.0.path().join("state.db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    change(&fixture.path(), &log);
    is_refused(&state).await;
}

#[tokio::test]
async fn removed_database_is_an_error_and_not_new() {
    with_files_changed(|database, _| fs::remove_file(database).unwrap()).await;
}

#[tokio::test]
async fn removed_log_is_an_error() {
    with_files_changed(|_, log| fs::remove_file(log).unwrap()).await;
}

#[tokio::test]
async fn replaced_database_is_an_error() {
    with_files_changed(|database, _| {
        let copy = database.with_extension("copy");
        fs::copy(database, &copy).unwrap();
        fs::rename(copy, database).unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropped_table_is_an_error_and_not_new() {
    with_files_changed(|database, _| {
        Connection::open(database).unwrap().execute_batch("DROP TABLE logd_checkpoints").unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let text = "no database at all\n".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = SqliteState::open(&path).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn damaged_pages_are_never_new() {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = fixture.open().await.unwrap();
    for number in 0..200 {
        let key =
            logd_statehandlers::ConsumerKey::new("orders".parse().unwrap(), format!("{number}")).unwrap();
        state.complete(&key, &at("5"), Fence::NONE).await.unwrap();
    }
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    state.close().await.unwrap();
    let sound = fs::read(fixture.path()).unwrap();
    assert!(sound.len() >= 3 * 4096);
    for page in 1..sound.len() / 4096 {
        for damage in [0, 0xff] {
            let mut bytes = sound.clone();
            bytes[page * 4096..(page + 1) * 4096].fill(damage);
            fs::write(fixture.path(), bytes).unwrap();
            // Either the page was not needed, or it is an error.
            if let Ok(state) = fixture.open().await {
                match state.get(&key()).await {
                    Ok(read) => assert_eq!(read, Some(at("5")), "page {page}"),
                    Err(error) => assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}"),
                }
                state.close().await.unwrap();
            }
        }
    }
    for length in [0, 1, 100, 4096, 8192] {
        fs::write(fixture.path(), &sound[..length]).unwrap();
        let opened = SqliteState::builder().create(false).open(fixture.path()).await;
        if let Ok(state) = opened {
            let error = state.get(&key()).await.unwrap_err();
            assert_eq!(error.kind(), StateErrorKind::Corrupt, "cut at {length}: {error}");
        }
    }
}

#[tokio::test]
async fn closed_handler_refuses_and_frees_the_files() {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = std::sync::Arc::new(SqliteState::open(fixture.path()).await.unwrap());
    let writes: Vec<_> = (0..200_u32)
        .map(|offset| {
            let state = std::sync::Arc::clone(&state);
            tokio::spawn(async move { state.complete(&key(), &at(&offset.to_string()), Fence::NONE).await })
        })
        .collect();
    tokio::task::yield_now().await;
    state.close().await.unwrap();
    state.close().await.unwrap();
    let mut last = None;
    for (offset, write) in (0_u32..).zip(writes) {
        match write.await.unwrap() {
            Ok(_) => last = Some(at(&offset.to_string())),
            Err(error) => assert_eq!(error.kind(), StateErrorKind::Invalid, "{error}"),
        }
    }
    assert_eq!(state.get(&key()).await.unwrap_err().kind(), StateErrorKind::Invalid);
    // The last connection takes the log with it.
    assert!(!fixture.0.path().join("state.db-wal").exists());
    assert_eq!(fixture.open().await.unwrap().get(&key()).await.unwrap(), last);
}

#[tokio::test]
async fn damaged_columns_are_errors_and_can_be_reset() {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = SqliteState::open(fixture.path()).await.unwrap();
    for (damage, is_of_checkpoint, epoch) in [
        ("body = NULL", true, 1),
        ("body_crc = NULL", true, 1),
        ("body_crc = body_crc + 1", true, 1),
        ("next_offset = NULL", true, 1),
        ("next_offset = '6'", true, 1),
        ("next_offset = '05'", true, 1),
        ("next_delta = '-1'", true, 1),
        ("next_delta = '1'", true, 1),
        ("epoch = '1x'", false, 1_000_000_000),
        ("epoch = ''", false, 1_000_000_000),
        ("nonce = 'f'", false, 1_000_000_000),
        ("nonce = upper('abcdef') || substr(nonce, 7)", false, 1_000_000_000),
        ("owner = NULL", false, 1),
        ("owner_id = '+' || substr(owner_id, 2)", false, 1),
        ("lease_until = -1", false, 1),
        ("owner = CAST(x'ff' AS TEXT)", false, 1),
    ] {
        state.delete(&key()).await.unwrap();
        let claimant = Claimant::new("one");
        let long = Duration::from_secs(3600);
        let Claim::Granted(grant) = state.start(&key(), &claimant, long).await.unwrap() else {
            panic!("a new key has an owner")
        };
        state.complete(&key(), &at("5"), grant.fence).await.unwrap();
        let sql = format!("UPDATE logd_checkpoints SET {damage}");
        assert_eq!(fixture.connect().unwrap().execute(&sql, []).unwrap(), 1);
        match state.get(&key()).await {
            Ok(read) => assert!(!is_of_checkpoint && read == Some(at("5")), "{damage}: {read:?}"),
            Err(error) => assert_eq!(error.kind(), StateErrorKind::Corrupt, "{damage}: {error}"),
        }
        let kinds = [
            state.complete(&key(), &at("9"), grant.fence).await.unwrap_err().kind(),
            state.start(&key(), &claimant, long).await.unwrap_err().kind(),
            state.renew(&key(), grant.fence, long).await.unwrap_err().kind(),
            state.list().await.unwrap().remove(0).checkpoint.unwrap_err().kind(),
        ];
        assert_eq!(kinds, [StateErrorKind::Corrupt; 4], "{damage}");
        state.reset(&key(), &at("3")).await.unwrap();
        let entry = state.list().await.unwrap().remove(0);
        assert_eq!((entry.checkpoint.unwrap(), entry.owner), (Some(at("3")), None), "{damage}");
        assert!(entry.epoch > epoch, "{damage}: {}", entry.epoch);
        let late = state.complete(&key(), &at("9"), grant.fence).await.unwrap_err();
        assert_eq!(late.kind(), StateErrorKind::Fenced, "{damage}");
    }
}
