//! The store stands still, ends and comes back, forgets everything, or hangs up in the midst of a request: the consumer goes
//! on, or says what has happened. It never begins from the start by itself.
//!
//! `LOGD_TEST_OUTAGE_SECONDS` sets how long a store is away.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use logd_client::{
    Consumer, ConsumerBuilder, ConsumerKey, Error, ErrorKind, Position, Shutdown, StateErrorKind,
    StateHandler, open_state,
};
use logd_statehandlers::conformance::Cut;
use logd_tests::{App, Random, TestServer, seed, wait_until};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cut::Proxy;
use crate::exactly_once::{counted_in_postgres, counts_of};
use crate::postgres_server;
use crate::redis_server::RedisServer;
use crate::stores::{Store, Supply, config, log_server, setting, write_lines};

const APP: &str = env!("CARGO_BIN_EXE_state-app");
const TOPIC: &str = "orders";
const OUTAGE_DEFAULT: usize = 3;
const TTL: Duration = Duration::from_secs(2);
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);
/// For so long the store may fail before the stream says so.
const COMMIT_LAG_MAX: Duration = Duration::from_millis(500);
/// The longest that a consumer may take to notice that its store is back.
const BACK_BOUND: Duration = Duration::from_secs(60);
const LINES: usize = 100_000;

fn key() -> ConsumerKey {
    ConsumerKey::new(TOPIC.parse().unwrap(), "billing").unwrap()
}

/// What a consumer has yielded.
#[derive(Debug, Default)]
struct Seen {
    positions: Vec<Position>,
    errors: Vec<Error>,
    has_ended: bool,
}

/// A consumer that acknowledges everything, in a task of its own.
struct Reader {
    seen: Arc<Mutex<Seen>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Shutdown, Error>>,
}

impl Reader {
    fn start(stage: &Stage, url: &str, is_exclusive: bool) -> Self {
        let state = stage.runtime.block_on(open_state(url)).unwrap();
        let builder = Consumer::builder(config(&stage.server), state, key())
            .commit_interval(COMMIT_INTERVAL)
            .commit_lag_max(COMMIT_LAG_MAX);
        let builder = if is_exclusive { builder.exclusive(TTL).wait_for_lease() } else { builder };
        let seen = Arc::<Mutex<Seen>>::default();
        let (stop, stopped) = oneshot::channel();
        let task = stage.runtime.spawn(read(builder, Arc::clone(&seen), stopped));
        Self { seen, stop, task }
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it; returns what it has yielded.
    fn end(self, stage: &Stage) -> (Result<Shutdown, Error>, Seen) {
        let _ = self.stop.send(());
        let shutdown = stage.runtime.block_on(self.task).unwrap();
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        (shutdown, seen)
    }
}

async fn read(
    builder: ConsumerBuilder,
    seen: Arc<Mutex<Seen>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Shutdown, Error> {
    let mut consumer = builder.open().await?;
    loop {
        let next = tokio::select! {
            _ = &mut stopped => break,
            next = consumer.next() => next,
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match next {
            Some(Ok(message)) => {
                seen.positions.push(message.position());
                message.ack();
            }
            Some(Err(error)) => seen.errors.push(error),
            None => {
                seen.has_ended = true;
                break;
            }
        }
    }
    consumer.shutdown(Duration::from_secs(5)).await
}

/// A server of logs with a topic that grows, and a store.
struct Stage {
    server: TestServer,
    store: Store,
    _supply: Supply,
    runtime: Runtime,
}

impl Stage {
    fn set(store: Store) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = log_server();
        let supply = Supply::start(&runtime, &server, TOPIC);
        Self { server, store, _supply: supply, runtime }
    }

    fn stored(&self, state: &dyn StateHandler) -> Option<Position> {
        self.runtime.block_on(state.get(&key())).unwrap().map(|checkpoint| checkpoint.next)
    }

    /// Waits until the checkpoint has come past what was delivered by now.
    fn wait_for_checkpoint(&self, state: &dyn StateHandler, reader: &Reader) {
        let delivered = reader.seen().positions.last().copied();
        wait_until("the checkpoint moves on", BACK_BOUND, || {
            let ended = reader.seen().has_ended;
            assert!(!ended, "{:?}", reader.seen().errors);
            self.stored(state).is_some_and(|stored| Some(stored) > delivered)
        });
    }
}

fn outage() -> Duration {
    Duration::from_secs(setting("LOGD_TEST_OUTAGE_SECONDS", OUTAGE_DEFAULT) as u64)
}

/// A URL whose calls end soon, so that a short outage is noticed.
fn hasty(store: &Store) -> String {
    match store {
        Store::Redis(server) => format!("{}?connect_timeout=300ms&response_timeout=300ms", server.url()),
        _ => store.url(),
    }
}

/// Takes the store away for a while.
fn survive(name: &str, is_exclusive: bool, away: impl FnOnce(&mut Store), back: impl FnOnce(&mut Store)) {
    let mut stage = Stage::set(Store::start(name));
    let url = hasty(&stage.store);
    let reader = Reader::start(&stage, &url, is_exclusive);
    let state = stage.runtime.block_on(open_state(&url)).unwrap();
    stage.wait_for_checkpoint(&*state, &reader);
    away(&mut stage.store);
    let begin = Instant::now();
    let before = reader.seen().positions.len();
    wait_until("the store was away for its time", outage() * 2, || begin.elapsed() >= outage());
    let meanwhile = reader.seen().positions.len() - before;
    back(&mut stage.store);
    let begin = Instant::now();
    stage.wait_for_checkpoint(&*state, &reader);
    let noticed = begin.elapsed();
    let (shutdown, seen) = reader.end(&stage);
    let committed = shutdown.unwrap().committed.unwrap();
    assert!(meanwhile > 0, "nothing was delivered while the store was away");
    let repeated = seen.positions.windows(2).find(|pair| pair[0] >= pair[1]);
    assert_eq!(repeated, None, "reading went back");
    for error in &seen.errors {
        let passes = [StateErrorKind::Unavailable, StateErrorKind::Ambiguous, StateErrorKind::Failed];
        assert!(passes.iter().any(|kind| error.kind() == ErrorKind::State(*kind)), "{error}");
    }
    assert_eq!(stage.stored(&*state), Some(committed));
    let next = Reader::start(&stage, &url, is_exclusive);
    wait_until("the next reader reads", BACK_BOUND, || !next.seen().positions.is_empty());
    assert_eq!(next.seen().positions.first(), Some(&committed), "the next reader goes on elsewhere");
    println!(
        "{name}, exclusive: {is_exclusive}, away for {:?}: {meanwhile} messages meanwhile, {} errors told (first: {}); \
         the checkpoint moved on {noticed:?} after it was back",
        outage(),
        seen.errors.len(),
        seen.errors.first().map_or_else(String::new, ToString::to_string),
    );
    next.end(&stage).0.unwrap();
}

fn stop(store: &mut Store) {
    match store {
        Store::Redis(server) => server.stop().unwrap(),
        Store::Postgres(server) => server.stop().unwrap(),
        _ => panic!("no server"),
    }
}

fn start_again(store: &mut Store) {
    match store {
        Store::Redis(server) => server.start_again().unwrap(),
        Store::Postgres(server) => server.start_again().unwrap(),
        _ => panic!("no server"),
    }
}

fn pause(store: &mut Store) {
    match store {
        Store::Redis(server) => server.pause().unwrap(),
        Store::Postgres(server) => server.pause().unwrap(),
        _ => panic!("no server"),
    }
}

fn resume(store: &mut Store) {
    match store {
        Store::Redis(server) => server.resume().unwrap(),
        Store::Postgres(server) => server.resume().unwrap(),
        _ => panic!("no server"),
    }
}

#[test]
fn a_consumer_survives_that_redis_stands_still() {
    survive("redis", false, pause, resume);
}

#[test]
fn a_consumer_survives_that_redis_ends_and_comes_back() {
    survive("redis", false, stop, start_again);
}

#[test]
fn an_exclusive_consumer_survives_that_redis_stands_still() {
    survive("redis", true, pause, resume);
}

#[test]
fn an_exclusive_consumer_survives_that_redis_ends_and_comes_back() {
    survive("redis", true, stop, start_again);
}

#[test]
fn a_consumer_survives_that_postgres_stands_still() {
    survive("postgres", false, pause, resume);
}

#[test]
fn an_exclusive_consumer_survives_that_postgres_stands_still() {
    survive("postgres", true, pause, resume);
}

#[test]
fn an_exclusive_consumer_survives_that_postgres_ends_and_comes_back() {
    survive("postgres", true, stop, start_again);
}

fn flush_all(stage: &Stage) {
    let Store::Redis(server) = &stage.store else { panic!("not redis") };
    server.command(&["FLUSHALL"]).unwrap();
}

#[test]
fn an_exclusive_consumer_says_that_redis_has_forgotten_everything() {
    let stage = Stage::set(Store::start("redis"));
    let url = stage.store.url();
    let reader = Reader::start(&stage, &url, true);
    let state = stage.runtime.block_on(open_state(&url)).unwrap();
    stage.wait_for_checkpoint(&*state, &reader);
    flush_all(&stage);
    wait_until("the consumer ends", BACK_BOUND, || reader.seen().has_ended);
    assert_eq!(stage.stored(&*state), None, "something was made in place of what is gone");
    let (_, seen) = reader.end(&stage);
    let errors: Vec<String> = seen.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        seen.errors.first().map(Error::kind),
        Some(ErrorKind::State(StateErrorKind::Lost)),
        "{errors:?}"
    );
    assert_eq!(seen.positions.windows(2).find(|pair| pair[0] >= pair[1]), None, "reading went back");
    println!("{errors:?}");
}

#[test]
fn a_consumer_without_a_lease_stores_anew_what_redis_has_forgotten() {
    let stage = Stage::set(Store::start("redis"));
    let url = stage.store.url();
    let reader = Reader::start(&stage, &url, false);
    let state = stage.runtime.block_on(open_state(&url)).unwrap();
    stage.wait_for_checkpoint(&*state, &reader);
    flush_all(&stage);
    let delivered = reader.seen().positions.last().copied();
    stage.wait_for_checkpoint(&*state, &reader);
    assert!(stage.stored(&*state) > delivered);
    let (shutdown, seen) = reader.end(&stage);
    shutdown.unwrap();
    assert_eq!(seen.positions.windows(2).find(|pair| pair[0] >= pair[1]), None, "reading went back");
}

const CUTS: [Cut; 3] = [Cut::Before, Cut::During, Cut::After];

fn random_cut(random: &mut Random) -> Cut {
    CUTS[random.below(CUTS.len())]
}

#[test]
fn a_consumer_goes_on_over_cut_connections_to_redis() {
    let mut random = Random::new(seed());
    let server = RedisServer::start().unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let stage = Stage::set(Store::Redis(server));
    let reader = Reader::start(&stage, &format!("redis://127.0.0.1:{}", proxy.port), true);
    let state = stage.runtime.block_on(open_state(&stage.store.url())).unwrap();
    for _ in 0..30 {
        stage.wait_for_checkpoint(&*state, &reader);
        proxy.cut(random_cut(&mut random), 0);
    }
    stage.wait_for_checkpoint(&*state, &reader);
    let (shutdown, seen) = reader.end(&stage);
    assert_eq!(stage.stored(&*state), shutdown.unwrap().committed);
    assert_eq!(seen.positions.windows(2).find(|pair| pair[0] >= pair[1]), None, "reading went back");
}

#[test]
fn lines_are_counted_exactly_once_over_cut_connections_to_postgres() {
    let mut random = Random::new(seed());
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    let store = Store::start("postgres");
    let Store::Postgres(database) = &store else { panic!("not postgres") };
    let proxy = Proxy::start(database.port).unwrap();
    let url = postgres_server::url(proxy.port);
    let lines = write_lines(&runtime, &server, TOPIC, LINES, random.any());
    let mut app = App::start(APP, &["count-postgres", &server.host(), TOPIC, &url, "cut"]);
    app.wait_for("committed");
    let mut cuts = 0;
    while app.is_running() {
        let is_over = |app: &mut App, said: usize| !app.is_running() || app.said().len() > said + 3;
        let said = app.said().len();
        proxy.cut(random_cut(&mut random), u32::try_from(random.below(12)).unwrap());
        cuts += 1;
        wait_until("it goes on", BACK_BOUND, || is_over(&mut app, said));
    }
    let (status, said) = app.finish(BACK_BOUND);
    assert!(status.success(), "{status}: {:?}", said.last());
    let times = |start: &str| said.iter().filter(|line| line.starts_with(start)).count();
    println!(
        "{cuts} cuts: {} times in doubt, of which it was committed {} times",
        times("doubt"),
        times("resync it was committed")
    );
    assert_eq!(counted_in_postgres(&runtime, &store.url(), "cut"), counts_of(&lines));
    assert!(times("doubt") > 0 && times("resync it was committed") > 0, "no cut has hit a commit");
}
