//! What only a store in Redis can get wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use logd_protocol::Offset;
use logd_statehandlers::{
    Capabilities, Checkpoint, Claim, Claimant, Committed, ConsumerKey, Fence, Fencing, LeaseHandler,
    Position, RedisState, StateAdmin, StateErrorKind, StateHandler,
};

use super::server::{RedisServer, Reply};

pub(crate) const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn key(consumer: &str) -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), consumer).unwrap()
}

pub(crate) fn at(offset: u64) -> Checkpoint {
    Checkpoint::at(Position::at(Offset::new(offset)))
}

pub(crate) async fn grant(state: &RedisState, key: &ConsumerKey, name: &str) -> Fence {
    match state.start(key, &Claimant::new(name), LONG).await.unwrap() {
        Claim::Granted(grant) => grant.fence,
        claim @ Claim::Processing { .. } => panic!("{claim:?}"),
    }
}

/// The record of `billing`, in the order of its fields.
pub(crate) fn fields(server: &RedisServer) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Reply::List(words) = server.command(&["HGETALL", RECORD]).unwrap() else { panic!("no hash") };
    let words: Vec<_> =
        words.into_iter().map(|word| if let Reply::Text(text) = word { text } else { panic!() }).collect();
    words.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

const RECORD: &str = "logd:{default/orders/billing}";
const LEASE: &str = "logd:{default/orders/billing}:lease";

#[tokio::test]
async fn lease_has_a_time_to_live_and_record_has_none() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    let ttl = |key: &str| server.command(&["PTTL", key]).unwrap();
    for ttl_asked in [LONG, Duration::MAX, Duration::ZERO] {
        let Claim::Granted(grant) = state.start(&key, &Claimant::new("one"), ttl_asked).await.unwrap() else {
            panic!("the lease was not granted");
        };
        state.complete(&key, &at(5), grant.fence).await.unwrap();
        state.renew(&key, grant.fence, LONG).await.unwrap();
        assert_eq!(ttl(RECORD), Reply::Number(-1));
        let Reply::Number(left @ 3_590_000..=3_600_000) = ttl(LEASE) else { panic!("{:?}", ttl(LEASE)) };
        assert!(left > 0);
        state.release(&key, grant.fence, Some(&at(6))).await.unwrap();
        assert_eq!(ttl(LEASE), Reply::Number(-2));
        assert_eq!(ttl(RECORD), Reply::Number(-1));
        state.reset(&key, &at(1)).await.unwrap();
        assert_eq!(ttl(RECORD), Reply::Number(-1));
    }
}

/// The handler's clock may be anything, as long as nothing of it is sent.
#[tokio::test]
async fn leases_are_measured_by_the_clock_of_the_server_alone() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    let mut monitor = server.connect().unwrap();
    monitor.command(&["MONITOR"]).unwrap();
    for offset in 1..3 {
        let fence = grant(&state, &key, "one").await;
        state.complete(&key, &at(offset), fence).await.unwrap();
        state.renew(&key, fence, LONG).await.unwrap();
        state.release(&key, fence, None).await.unwrap();
    }
    server.command(&["ECHO", "end"]).unwrap();
    let mut leases = 0;
    loop {
        let Reply::Text(line) = monitor.reply().unwrap() else { panic!("no line of a monitor") };
        // Behind the time, and the address of who sends it.
        let line = String::from_utf8(line).unwrap();
        let (sender, command) = line.split_once("] ").unwrap();
        if command.starts_with("\"ECHO\"") {
            break;
        }
        let times =
            command.split('"').filter_map(|word| word.parse().ok()).filter(|word: &u64| *word > 1 << 30);
        assert_eq!(times.count(), 0, "{command}");
        if sender.ends_with(" lua") && command.starts_with("\"SET\"") {
            assert!(command.ends_with("\"PX\" \"3600000\""), "{command}");
            leases += 1;
        }
    }
    assert_eq!(leases, 4);
}

#[tokio::test]
async fn nothing_of_a_lease_is_left_behind() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    let is_there = |key: &str| server.command(&["EXISTS", key]).unwrap() == Reply::Number(1);
    let names =
        || fields(&server).into_keys().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>();

    let fence = grant(&state, &key, "one").await;
    assert!(is_there(LEASE));
    assert_eq!(names(), ["epoch", "nonce", "owner", "owner_name"]);
    state.release(&key, fence, Some(&at(5))).await.unwrap();
    assert!(!is_there(LEASE));
    assert_eq!(names(), ["checkpoint", "epoch", "nonce"]);

    let fence = grant(&state, &key, "two").await;
    state.reset(&key, &at(1)).await.unwrap();
    assert!(!is_there(LEASE));
    assert_eq!(names(), ["checkpoint", "epoch", "nonce"]);
    // Nobody has the fence of a reset, or can tell it from another.
    let Reply::Text(nonce) = server.command(&["HGET", RECORD, "nonce"]).unwrap() else { panic!("no nonce") };
    assert_ne!(nonce, format!("{:032x}", fence.nonce).into_bytes());

    grant(&state, &key, "three").await;
    assert!(state.delete(&key).await.unwrap());
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), Reply::Number(0));
}

/// As it is seen where the lease is granted to another between two looks.
#[tokio::test]
async fn list_takes_nobody_for_the_holder_of_another_lease() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    grant(&state, &key("billing"), "one").await;
    assert_eq!(state.list().await.unwrap()[0].owner.as_deref(), Some("one"));
    server.command(&["SET", LEASE, "another's"]).unwrap();
    // What is no record of a reader any more, or never was one, is none.
    server.command(&["HSET", "logd:{default/orders/gone}", "colour", "blue"]).unwrap();
    let listed = state.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].owner.as_deref()), (1, None));
}

#[tokio::test]
async fn fences_are_declared_as_best_effort() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let declared = Capabilities::NONE.with_durable().with_fencing(Fencing::BestEffort).with_admin();
    assert_eq!(state.capabilities(), declared);
}

#[tokio::test]
async fn epochs_are_exact_up_to_the_last() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    grant(&state, &key, "one").await;
    for epoch in [(1_u64 << 53) + 1, i64::MAX as u64 - 1] {
        server.command(&["HSET", RECORD, "epoch", &epoch.to_string()]).unwrap();
        server.command(&["DEL", LEASE]).unwrap();
        let fence = grant(&state, &key, "two").await;
        assert_eq!(fence.epoch, epoch + 1);
        state.complete(&key, &at(epoch), fence).await.unwrap();
        let neighbour = Fence { epoch: epoch + 2, ..fence };
        let refused = state.complete(&key, &at(epoch), neighbour).await.unwrap_err();
        assert_eq!(refused.kind(), StateErrorKind::Fenced);
        state.release(&key, fence, None).await.unwrap();
    }
    let before = fields(&server);
    let error = state.start(&key, &Claimant::new("three"), LONG).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
    assert_eq!(fields(&server), before);
    assert_eq!(server.command(&["EXISTS", LEASE]).unwrap(), Reply::Number(0));
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    for offset in 0..3 {
        server.command(&["SCRIPT", "FLUSH"]).unwrap();
        assert_eq!(state.complete(&key, &at(offset), Fence::NONE).await.unwrap(), Committed::Stored);
        // By its name, this time.
        assert_eq!(state.complete(&key, &at(offset), Fence::NONE).await.unwrap(), Committed::Unchanged);
    }
    let Reply::Text(calls) = server.command(&["INFO", "commandstats"]).unwrap() else { panic!() };
    let calls = String::from_utf8(calls).unwrap();
    assert!(calls.contains("cmdstat_eval:calls=3,") && calls.contains("cmdstat_evalsha:calls=6,"), "{calls}");
}

#[tokio::test]
async fn other_types_are_corrupt_and_kept() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    server.command(&["SET", RECORD, "somebody's"]).unwrap();
    let mut errors = vec![
        state.get(&key).await.unwrap_err(),
        state.complete(&key, &at(5), Fence::NONE).await.unwrap_err(),
        state.start(&key, &Claimant::new("one"), LONG).await.unwrap_err(),
        state.reset(&key, &at(5)).await.unwrap_err(),
    ];
    let listed = state.list().await.unwrap().remove(0);
    assert_eq!(listed.key, key);
    errors.push(listed.checkpoint.unwrap_err());
    for error in errors {
        assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}");
    }
    assert_eq!(server.command(&["GET", RECORD]).unwrap(), Reply::Text(b"somebody's".into()));

    server.command(&["DEL", RECORD]).unwrap();
    server.command(&["HSET", RECORD, "epoch", "many", "nonce", "0"]).unwrap();
    let error = state.start(&key, &Claimant::new("one"), LONG).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}");
    assert!(state.delete(&key).await.unwrap());
}

#[tokio::test]
async fn damage_that_is_still_json_is_not_written_over() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    state.complete(&key, &at(5), Fence::NONE).await.unwrap();
    let mut damaged = fields(&server).remove(&b"checkpoint"[..]).unwrap();
    let place = damaged.windows(3).position(|part| part == b"5.0").unwrap();
    damaged[place] = b'7';
    server.command(&[&b"HSET"[..], RECORD.as_bytes(), b"checkpoint", &damaged]).unwrap();
    let before = fields(&server);
    for error in [
        state.get(&key).await.unwrap_err(),
        state.complete(&key, &at(9), Fence::NONE).await.unwrap_err(),
        state.start(&key, &Claimant::new("one"), LONG).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}");
    }
    assert_eq!(fields(&server), before);
}

/// The checksum is right, so that the server's scripts see nothing wrong: it is for the handler to see.
#[tokio::test]
async fn record_with_two_positions_is_no_start_from_zero() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    state.complete(&key, &at(5), Fence::NONE).await.unwrap();
    let stored = String::from_utf8(fields(&server).remove(&b"checkpoint"[..]).unwrap()).unwrap();
    let rest = stored[41..].replace("5.0", "7.0");
    let sum = server.command(&["EVAL", "return redis.sha1hex(ARGV[1])", "0", &rest]).unwrap();
    let Reply::Text(sum) = sum else { panic!("no checksum") };
    let changed = [&sum[..], b" ", rest.as_bytes()].concat();
    server.command(&[&b"HSET"[..], RECORD.as_bytes(), b"checkpoint", &changed]).unwrap();
    for error in [
        state.get(&key).await.unwrap_err(),
        state.start(&key, &Claimant::new("one"), LONG).await.unwrap_err(),
        state.list().await.unwrap().remove(0).checkpoint.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StateErrorKind::Corrupt, "{error}");
    }
    assert_eq!(fields(&server).remove(&b"checkpoint"[..]).unwrap(), changed);
}

#[tokio::test]
async fn fields_of_later_versions_are_kept() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    let fence = grant(&state, &key, "one").await;
    server.command(&["HSET", RECORD, "colour", "blue"]).unwrap();
    state.complete(&key, &at(5), fence).await.unwrap();
    state.release(&key, fence, Some(&at(6))).await.unwrap();
    state.reset(&key, &at(1)).await.unwrap();
    grant(&state, &key, "two").await;
    assert_eq!(server.command(&["HGET", RECORD, "colour"]).unwrap(), Reply::Text(b"blue".into()));
}

#[tokio::test]
async fn list_misses_nothing_among_many_other_keys() {
    let server = RedisServer::start_with(&["--appendfsync", "no"]).unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let fill =
        "for n = 1, 20000 do redis.call('SET', 'other:' .. n, n) end redis.call('SET', 'logd:{x', 'y')";
    server.command(&["EVAL", fill, "0"]).unwrap();
    let readers: Vec<_> = (0..1500).map(|number| key(&format!("reader {number:04}"))).collect();
    for reader in &readers {
        state.complete(reader, &at(7), Fence::NONE).await.unwrap();
    }
    // Others come and go meanwhile.
    let churn = async {
        for number in 0..3000 {
            let other = key(&format!("churn {number}"));
            state.complete(&other, &at(1), Fence::NONE).await.unwrap();
            state.delete(&other).await.unwrap();
        }
    };
    let lists = async {
        for _ in 0..5 {
            let listed = state.list().await.unwrap();
            assert!(listed.is_sorted_by(|one, other| one.key < other.key));
            let listed: Vec<_> = listed.into_iter().map(|entry| entry.key).collect();
            let steady = listed.iter().filter(|key| key.consumer().starts_with("reader"));
            assert!(steady.eq(&readers));
        }
    };
    tokio::join!(churn, lists);
}

#[tokio::test]
async fn closed_handler_refuses() {
    let server = RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    let key = key("billing");
    state.complete(&key, &at(5), Fence::NONE).await.unwrap();
    state.close().await.unwrap();
    state.close().await.unwrap();
    for error in [
        state.get(&key).await.unwrap_err(),
        state.complete(&key, &at(6), Fence::NONE).await.unwrap_err(),
        state.list().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("closed"), "{error}");
    }
}

#[test]
fn handler_outlives_the_runtime_it_was_opened_in() {
    let server = RedisServer::start().unwrap();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = runtime().block_on(RedisState::open(server.url())).unwrap();
    let stored = runtime().block_on(async {
        let key = key("billing");
        // The connection of the first runtime is gone; that it was is noticed at the latest by the first call.
        if let Err(error) = state.complete(&key, &at(5), Fence::NONE).await {
            assert!(error.is_retryable(), "{error}");
            state.complete(&key, &at(5), Fence::NONE).await?;
        }
        state.get(&key).await
    });
    assert_eq!(stored.unwrap(), Some(at(5)));
}
