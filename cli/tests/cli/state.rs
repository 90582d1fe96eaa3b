//! `log-cli state`: over every store, with real servers.

mod copies;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../../../statehandlers/tests/support/postgres.rs"]
mod postgres;
mod readers;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../../../statehandlers/tests/support/redis.rs"]
mod redis;
mod wrong;

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use logd_cli::Exit;
use logd_client::{
    Anchor, Checkpoint, Claimant, ConsumerKey, Done, Fence, Position, StateEntry, StateHandler, open_state,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::redis::RedisServer;
use crate::support::{Finished, TestServer, run};

/// An address at which nothing listens.
const NOWHERE: &str = "127.0.0.1:1";

/// What must be there for as long as a store is used.
#[expect(dead_code, reason = "it is dropped, and nothing else")]
enum Keep {
    Folder(TempDir),
    Redis(RedisServer),
    Postgres(postgres::Server),
}

/// An empty store.
struct Store {
    url: String,
    _keep: Keep,
}

impl Store {
    fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().join("state").display());
        Self { url, _keep: Keep::Folder(folder) }
    }

    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("state.db").display());
        Self { url, _keep: Keep::Folder(folder) }
    }

    fn redis() -> Self {
        let server = RedisServer::start().unwrap();
        Self { url: server.url(), _keep: Keep::Redis(server) }
    }

    fn postgres() -> Self {
        let server = postgres::Server::start(None).unwrap();
        Self { url: format!("{}?sslmode=disable", server.url()), _keep: Keep::Postgres(server) }
    }

    fn every() -> [Self; 4] {
        [Self::file(), Self::sqlite(), Self::redis(), Self::postgres()]
    }

    /// The store as a program uses it. It is made if it is not there.
    fn open(&self, runtime: &Runtime) -> Arc<dyn StateHandler> {
        runtime.block_on(open_state(&self.url)).unwrap()
    }

    /// Does something with the store, and closes it.
    fn with<T, F: Future<Output = T>>(&self, work: impl FnOnce(Arc<dyn StateHandler>) -> F) -> T {
        let runtime = runtime();
        let handler = self.open(&runtime);
        let done = runtime.block_on(work(Arc::clone(&handler)));
        runtime.block_on(handler.close()).unwrap();
        done
    }

    fn put(&self, key: &ConsumerKey, checkpoint: &Checkpoint) {
        self.with(|handler| async move { handler.complete(key, checkpoint, Fence::NONE).await.unwrap() });
    }

    fn list(&self) -> Vec<StateEntry> {
        self.with(|handler| async move { handler.admin().unwrap().list().await.unwrap() })
    }

    fn stored(&self, key: &ConsumerKey) -> Option<Checkpoint> {
        self.with(|handler| async move { handler.get(key).await.unwrap() })
    }

    /// Runs a command on the store, for a server.
    fn cli(&self, host: &str, arguments: &[&str]) -> Finished {
        let mut all = vec!["state"];
        all.extend(arguments);
        all.extend(["--state", &self.url]);
        run(host, &all, b"")
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn done(&self, host: &str, arguments: &[&str]) -> String {
        let finished = self.cli(host, arguments);
        assert_eq!(finished.code, 0, "{arguments:?} with {}: {}", self.url, finished.stderr);
        String::from_utf8(finished.stdout).unwrap()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn key(namespace: &str, topic: &str, consumer: &str) -> ConsumerKey {
    ConsumerKey::new(topic.parse().unwrap(), consumer).unwrap().in_namespace(namespace).unwrap()
}

fn position(text: &str) -> Position {
    text.parse().unwrap()
}

/// Writes two batches to the topic `orders`, and returns where their four messages are, and the end.
fn orders(server: &TestServer) -> [String; 5] {
    server.done(&["write", "--topic", "orders", "one", "two"], b"");
    server.done(&["write", "--topic", "orders", "three", "four"], b"");
    let read = String::from_utf8(server.done(&["read", "--topic", "orders", "--numbers"], b"")).unwrap();
    let mut positions: Vec<String> =
        read.lines().map(|line| line.split_once(' ').unwrap().0.to_owned()).collect();
    let head = String::from_utf8(server.done(&["head", "--topic", "orders"], b"")).unwrap();
    positions.push(format!("{}.0", head.lines().next().unwrap().strip_prefix("next: ").unwrap()));
    positions.try_into().expect("there are four messages")
}

/// The checksum of the first batch of `orders`.
fn first_crc(server: &TestServer) -> u32 {
    runtime().block_on(async {
        let mut client = logd_client::Client::new(logd_client::ClientConfig::new(server.host()));
        client.tail(&"orders".parse().unwrap(), 1).await.unwrap().batches[0].crc()
    })
}

fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Every command once: the same over all stores.
fn tour(store: &Store) {
    let server = TestServer::start();
    let host = server.host();
    let positions = orders(&server);
    let billing = key("default", "orders", "billing");
    let mut full = Checkpoint::at(position(&positions[2]));
    full.anchor = Some(Anchor { offset: position("0").offset, crc: first_crc(&server) });
    full.done = vec![Done { from: position(&positions[3]), to: position(&positions[4]) }];
    full.head_attempts = 2;
    full.user = b"sum=7\n\xff".to_vec();
    let full = full.written_now();
    store.put(&billing, &full);
    store.with(|handler| async move {
        let leased = key("shop/eu", "orders", "a b");
        let claimant = Claimant::new("host\t7");
        handler
            .leases()
            .unwrap()
            .start(&leased, &claimant, std::time::Duration::from_secs(600))
            .await
            .unwrap();
        // A lock on a file ends with its handler; the others run on.
    });
    look(store, &host, &positions, &full);
    change(store, &host, &positions, &billing, &full);
}

fn look(store: &Store, host: &str, positions: &[String], full: &Checkpoint) {
    let next = positions[2].as_str();
    let listed = store.done(NOWHERE, &["ls"]);
    let lines: Vec<Vec<&str>> = listed.lines().map(cells).collect();
    assert_eq!(lines[0], ["KEY", "NEXT", "EPOCH", "AGE", "OWNER"]);
    assert_eq!(lines[1][..3], ["default/orders/billing", next, "0"]);
    assert_eq!(lines[2][..4], ["shop%2Feu/orders/a%20b", "-", "1", "-"]);
    assert_eq!(lines.len(), 3);
    if !store.url.starts_with("file:") {
        assert_eq!(lines[2][4], r"host\t7");
    }
    let objects = json(&store.done(NOWHERE, &["ls", "--json"]));
    assert_eq!(objects[0]["next"], next);
    assert_eq!(objects[0]["written_at"], full.written_at);
    assert_eq!(objects[1]["namespace"], "shop/eu");
    assert_eq!((&objects[1]["next"], &objects[1]["epoch"]), (&Value::Null, &1.into()));
    let one = store.done(NOWHERE, &["ls", "shop%2Feu/orders/a%20b"]);
    assert_eq!(one.lines().count(), 2, "{one}");

    let shown = store.done(NOWHERE, &["show", "orders/billing"]);
    let anchor = full.anchor.unwrap();
    for line in [
        "key: default/orders/billing".to_owned(),
        format!("next: {next}"),
        format!("anchor: 0 {}", anchor.crc),
        format!("done: {} {}", positions[3], positions[4]),
        "head_attempts: 2".into(),
        "user_bytes: 7".into(),
        r"user: sum=7\n\xff".into(),
        "epoch: 0".into(),
        "owner: -".into(),
    ] {
        assert!(shown.lines().any(|shown| shown == line), "`{line}` is not in\n{shown}");
    }
    let object = json(&store.done(NOWHERE, &["show", "orders/billing", "--json"])).remove(0);
    let body = serde_json::to_vec(&object["checkpoint"]).unwrap();
    assert_eq!(Checkpoint::decode(&body).unwrap(), *full);

    let (offset, end) = (position(next).offset.as_u64(), position(&positions[4]).offset.as_u64());
    let lag = store.done(host, &["lag"]);
    let lines: Vec<Vec<&str>> = lag.lines().map(cells).collect();
    let numbers = [end.to_string(), (end - offset).to_string()];
    assert_eq!(lines[1], ["default/orders/billing", next, &numbers[0], &numbers[1]]);
    assert_eq!(lines[2], ["shop%2Feu/orders/a%20b", "-", "-", "-"]);
    let object = json(&store.done(host, &["lag", "--json", "orders/billing"])).remove(0);
    assert_eq!((&object["bytes"], &object["finding"]), (&(end - offset).into(), &Value::Null));
    let verdicts = store.done(host, &["verify"]);
    assert_eq!(cells(verdicts.lines().nth(1).unwrap()), ["default/orders/billing", next, "ok"]);
}

fn change(store: &Store, host: &str, positions: &[String; 5], billing: &ConsumerKey, full: &Checkpoint) {
    let [start, second, third, fourth, end] = positions.each_ref().map(String::as_str);
    let back = store.cli(host, &["set", "orders/billing", second]);
    let line = back.failed_with(Exit::Failed);
    assert!(line.contains(&format!("is at `{third}` already")) && line.contains("`--force`"), "{line}");
    let nothing = store.cli(host, &["set", "orders/billing", "999.0"]);
    assert!(nothing.failed_with(Exit::Failed).contains("cannot be at `999.0`"), "{}", nothing.stderr);
    assert_eq!(store.stored(billing).as_ref(), Some(full), "a refusal changes nothing");

    let moved = store.done(host, &["set", "orders/billing", fourth]);
    assert_eq!(moved, format!("default/orders/billing: {third} -> {fourth}\n"));
    // What was done behind the old place would be passed over at the new one.
    let stored = store.stored(billing).unwrap();
    let mut expected = Checkpoint::at(position(fourth));
    expected.user.clone_from(&full.user);
    expected.written_at = stored.written_at;
    assert_eq!(stored, expected);
    let moved = store.done(NOWHERE, &["set", "orders/billing", second, "--force"]);
    assert_eq!(moved, format!("default/orders/billing: {fourth} -> {second}\n"));

    for (to, expected) in [("latest", end), (fourth, fourth), ("1h", start), ("earliest", start)] {
        store.done(host, &["reset", "orders/billing", "--to", to, "--yes"]);
        let stored = store.stored(billing).unwrap();
        assert_eq!((stored.next, stored.user.len()), (position(expected), 0), "{to}");
    }
    let made = json(&store.done(host, &["set", "eu/orders/new", second, "--json"])).remove(0);
    assert_eq!(
        (&made["key"], &made["from"], &made["to"]),
        (&"eu/orders/new".into(), &Value::Null, &second.into())
    );
    let entries = store.list();
    let epochs: Vec<u64> = entries.iter().map(|entry| entry.epoch).collect();
    assert_eq!(epochs, [6, 0, 1], "every move over a checkpoint fences, and a new one has no epoch");
}

#[test]
fn every_command_over_files() {
    tour(&Store::file());
}

#[test]
fn every_command_over_sqlite() {
    tour(&Store::sqlite());
}

#[test]
fn every_command_over_redis() {
    tour(&Store::redis());
}

#[test]
fn every_command_over_postgres() {
    tour(&Store::postgres());
}

/// The file of a checkpoint in a store of files.
fn file_of(store: &Store, path: &str) -> PathBuf {
    let file = PathBuf::from(store.url.strip_prefix("file:").unwrap()).join(path);
    assert!(fs::exists(&file).unwrap(), "{} is not there", file.display());
    file
}
