//! At most one of several processes moves a checkpoint: when the holder of the lease is killed, another goes on; when it was
//! only stopped for a while, it changes nothing any more, and says why.

use std::time::{Duration, Instant};

use logd_client::sqlite::rusqlite::Connection;
use logd_tests::{App, TestServer, wait_until};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::stores::{Store, Supply, log_server};

const APP: &str = env!("CARGO_BIN_EXE_state-app");
const TOPIC: &str = "orders";
const TTL: Duration = Duration::from_secs(2);
/// What a busy machine may take to start, to ask and to be answered, beside the lease's time.
const SLACK: Duration = Duration::from_secs(8);
/// For files, where the lease's time does not matter: so long that it cannot have run out.
const TTL_LONG: Duration = Duration::from_secs(3600);

/// What a process has said of a request: `before` it was sent, `after` it was answered, in microseconds since 1970.
#[derive(Debug, Clone)]
struct Request {
    what: String,
    before: u128,
    after: u128,
    epoch: u64,
    position: (u64, u64),
}

fn requests(said: &[String]) -> Vec<Request> {
    let mut requests = Vec::new();
    for line in said {
        let words: Vec<&str> = line.split(' ').collect();
        let [what @ ("granted" | "stored"), before, after, epoch, position] = words.as_slice() else {
            continue;
        };
        let (offset, delta) = position.split_once('.').unwrap_or((position, "0"));
        requests.push(Request {
            what: (*what).to_owned(),
            before: before.parse().unwrap(),
            after: after.parse().unwrap(),
            epoch: epoch.parse().unwrap(),
            position: (offset.parse().unwrap(), delta.parse().unwrap()),
        });
    }
    requests
}

/// Holds what all processes have said against the rule that only the last one that was granted the lease stores.
fn check(all: &[Vec<String>]) {
    let mut requests: Vec<Request> = all.iter().flat_map(|said| requests(said)).collect();
    let grants: Vec<Request> = requests.iter().filter(|request| request.what == "granted").cloned().collect();
    let mut epochs: Vec<u64> = grants.iter().map(|grant| grant.epoch).collect();
    epochs.dedup();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), all.len(), "each process was granted the lease once: {grants:?}");
    for stored in requests.iter().filter(|request| request.what == "stored") {
        let later = grants.iter().find(|grant| grant.epoch > stored.epoch && grant.after < stored.before);
        assert!(later.is_none(), "{stored:?} was stored, though the lease was another's: {later:?}");
    }
    // Within a grant they come one after the other; between two, the later epoch is the later one.
    requests.sort_by_key(|request| (request.epoch, request.before));
    for pair in requests.windows(2) {
        let [one, other] = pair else { continue };
        assert!(one.position <= other.position, "the checkpoint went back: {one:?}, then {other:?}");
    }
}

struct Stage {
    server: TestServer,
    store: Store,
    ttl: Duration,
    _supply: Supply,
    _runtime: Runtime,
}

impl Stage {
    fn set(store: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = log_server();
        let supply = Supply::start(&runtime, &server, TOPIC);
        let ttl = if store == "file" { TTL_LONG } else { TTL };
        Self { server, store: Store::start(store), ttl, _supply: supply, _runtime: runtime }
    }

    fn start(&self, owner: &str) -> App {
        let (host, url, ttl) = (self.server.host(), self.store.url(), self.ttl.as_millis().to_string());
        App::start(APP, &["exclusive", &host, TOPIC, &url, "billing", owner, &ttl])
    }

    /// One that waits for the lease that another has.
    fn start_waiting(&self, owner: &str) -> App {
        let app = self.start(owner);
        app.wait_for("waiting");
        app
    }

    /// Stops it, but not within a transaction, which would hold up everybody else: see the documentation of the store.
    fn stop(&self, app: &App) {
        loop {
            app.signal(Signal::STOP);
            let Store::Sqlite(_) = &self.store else { return };
            let url = self.store.url();
            let database = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
            database.busy_timeout(Duration::from_millis(500)).unwrap();
            if database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                return;
            }
            app.signal(Signal::CONT);
            wait_for_more(app);
        }
    }

    const fn is_file(&self) -> bool {
        matches!(self.store, Store::File(_))
    }
}

/// Waits until it has stored another checkpoint.
fn wait_for_more(app: &App) {
    let count = |app: &App| app.said().iter().filter(|line| line.starts_with("stored")).count();
    let before = count(app);
    wait_until("it stores another checkpoint", SLACK, || count(app) > before);
}

fn kill_the_holder(store: &str) {
    let stage = Stage::set(store);
    let mut all = Vec::new();
    let mut holder = stage.start("first");
    holder.wait_for("stored");
    let mut times = Vec::new();
    for owner in ["second", "third"] {
        let next = stage.start_waiting(owner);
        wait_for_more(&holder);
        assert!(!next.has_said("granted"), "two have the lease: {:?}", next.said());
        all.push(holder.kill9());
        let killed = Instant::now();
        let bound = if stage.is_file() { SLACK } else { stage.ttl + SLACK };
        wait_until("the other goes on", bound, || next.has_said("granted"));
        times.push(killed.elapsed());
        wait_for_more(&next);
        holder = next;
    }
    all.push(holder.kill9());
    check(&all);
    println!("{store}, lease of {:?}: taken over {times:?} after the kill", stage.ttl);
}

fn stop_the_holder(store: &str) {
    let stage = Stage::set(store);
    let holder = stage.start("first");
    holder.wait_for("stored");
    let next = stage.start_waiting("second");
    wait_for_more(&holder);
    stage.stop(&holder);
    let stopped = Instant::now();
    if stage.is_file() {
        // The kernel holds the lock for as long as the process is there, also when it stands still.
        std::thread::sleep(2 * TTL);
        assert!(!next.has_said("granted"), "two have the lease: {:?}", next.said());
        holder.signal(Signal::CONT);
        wait_for_more(&holder);
        let all = [holder.kill9(), {
            next.wait_for("stored");
            next.kill9()
        }];
        return check(&all);
    }
    wait_until("the other goes on", stage.ttl + SLACK, || next.has_said("granted"));
    let taken_over = stopped.elapsed();
    wait_until("twice the lease's time has passed", 2 * stage.ttl + SLACK, || {
        stopped.elapsed() > 2 * stage.ttl
    });
    wait_for_more(&next);
    let stored = holder.said().iter().filter(|line| line.starts_with("stored")).count();
    holder.signal(Signal::CONT);
    let (status, said) = holder.finish(SLACK);
    let why = said.last().cloned().unwrap_or_default();
    assert!(why.starts_with("error State(Fenced)") && why.contains("`second`"), "{why}");
    assert_eq!(status.code(), Some(3), "{why}");
    let stored_after = said.iter().filter(|line| line.starts_with("stored")).count();
    // The answer to a request that was under way when it was stopped may have come in after that.
    assert!(stored_after <= stored + 1, "{said:?}");
    wait_for_more(&next);
    check(&[said, next.kill9()]);
    println!("{store}: taken over {taken_over:?} after the stop, with a lease of {:?}; `{why}`", stage.ttl);
}

#[test]
fn a_killed_holder_is_followed_at_once_with_files() {
    kill_the_holder("file");
}

#[test]
fn a_killed_holder_is_followed_within_the_lease_with_sqlite() {
    kill_the_holder("sqlite");
}

#[test]
fn a_killed_holder_is_followed_within_the_lease_with_redis() {
    kill_the_holder("redis");
}

#[test]
fn a_killed_holder_is_followed_within_the_lease_with_postgres() {
    kill_the_holder("postgres");
}

#[test]
fn a_stopped_holder_keeps_the_lease_of_a_file() {
    stop_the_holder("file");
}

#[test]
fn a_stopped_holder_changes_nothing_any_more_with_sqlite() {
    stop_the_holder("sqlite");
}

#[test]
fn a_stopped_holder_changes_nothing_any_more_with_redis() {
    stop_the_holder("redis");
}

#[test]
fn a_stopped_holder_changes_nothing_any_more_with_postgres() {
    stop_the_holder("postgres");
}
