//! The store in Redis passes the suite, with a real server behind a proxy, and as a user with the least rights.
//!
//! The server syncs every write before it acknowledges it: that is what the group `durable` holds for.
#![cfg(all(feature = "redis", feature = "conformance"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "support/cut.rs"]
mod cut;
#[path = "redis/outages.rs"]
mod outages;
#[path = "redis/rules.rs"]
mod rules;
#[path = "support/redis.rs"]
mod server;
#[path = "redis/settings.rs"]
mod settings;
#[path = "redis/tls.rs"]
mod tls;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use logd_statehandlers::conformance::{Cut, Disk, Faults, Fixture, FixtureError, RawAccess};
use logd_statehandlers::{
    Checkpoint, Claimant, ConsumerKey, Fence, Position, RedisState, StateError, StateHandler, async_trait,
};

use self::cut::Proxy;
use self::server::{RedisServer, Reply};

const PASSWORD: &str = "correct-horse+battery";
/// For a handler in tests of servers that hang.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The rights that the documentation names as the least.
const RIGHTS: &str = "~logd:* resetchannels -@all +eval +evalsha +hmget +hget +hset +hincrby +hdel +get +set +del \
    +pttl +scan +select";

struct RedisFixture {
    server: Mutex<RedisServer>,
    proxy: Proxy,
}

impl RedisFixture {
    fn server(&self) -> MutexGuard<'_, RedisServer> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self, user: &str, password: &str, rest: &str) -> String {
        let password = password.replace('+', "%2B");
        format!("redis://{user}:{password}@127.0.0.1:{}{rest}", self.proxy.port)
    }
}

/// The suite's names with access to what is stored are plain ones.
fn record(key: &ConsumerKey) -> String {
    format!("logd:{{{key}}}")
}

#[async_trait]
impl Fixture for RedisFixture {
    async fn new() -> Result<Self, FixtureError> {
        let user = format!("logd on >{PASSWORD} {RIGHTS}");
        let user: Vec<_> = ["--user"].into_iter().chain(user.split_whitespace()).collect();
        let server = RedisServer::start_with(&user)?;
        let proxy = Proxy::start(server.port())?;
        Ok(Self { server: Mutex::new(server), proxy })
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        let state = RedisState::builder(self.url("logd", PASSWORD, "/3"))
            .connect_timeout(TIMEOUT)
            .response_timeout(TIMEOUT);
        Ok(Arc::new(state.open().await?))
    }

    fn name() -> String {
        "RedisState".into()
    }

    fn location(&self) -> Option<String> {
        Some(self.url("logd", PASSWORD, "/3"))
    }

    async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(RedisState::open(location).await?))
    }

    fn raw(&self) -> Option<&dyn RawAccess> {
        Some(self)
    }

    fn disk(&self) -> Option<&dyn Disk> {
        Some(self)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into(), PASSWORD.replace('+', "%2B"), "wrong-horse".into()]
    }
}

impl RedisFixture {
    fn raw_command<A: AsRef<[u8]>>(&self, words: &[A]) -> Result<Reply, FixtureError> {
        let mut connection = self.server().connect()?;
        connection.command(&["SELECT", "3"])?;
        connection.command(words)
    }
}

#[async_trait]
impl RawAccess for RedisFixture {
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
        let record = record(key);
        match self.raw_command(&["HGET", &record, "checkpoint"])? {
            Reply::Text(bytes) => Ok(bytes),
            reply => Err(format!("there is no record: {reply:?}").into()),
        }
    }

    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
        self.read(key).await?;
        let record = record(key);
        self.raw_command(&[&b"HSET"[..], record.as_bytes(), b"checkpoint", bytes]).map(|_| ())
    }

    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        // Who writes a body of a later version knows its position; here, it is anywhere.
        let next =
            Checkpoint::decode(body).map_or_else(|_| Position::default(), |checkpoint| checkpoint.next);
        let place = format!("{:020}{:020} ", next.offset.as_u64(), next.delta);
        let rest = [place.as_bytes(), body].concat();
        match self.raw_command(&[&b"EVAL"[..], b"return redis.sha1hex(ARGV[1])", b"0", &rest])? {
            Reply::Text(sum) => self.write(key, &[&sum[..], b" ", &rest].concat()).await,
            reply => Err(format!("no checksum was made: {reply:?}").into()),
        }
    }

    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
        let record = record(key);
        self.raw_command(&["DEL", &record, &format!("{record}:lease")]).map(|_| ())
    }

    fn has_checksum(&self) -> bool {
        true
    }
}

/// Its memory is full rather than its disk: with a full disk, a server that syncs every write ends.
#[async_trait]
impl Disk for RedisFixture {
    async fn fill(&self) -> Result<(), FixtureError> {
        self.raw_command(&["CONFIG", "SET", "maxmemory", "1"]).map(|_| ())
    }

    async fn free(&self) -> Result<(), FixtureError> {
        self.raw_command(&["CONFIG", "SET", "maxmemory", "0"]).map(|_| ())
    }
}

#[async_trait]
impl Faults for RedisFixture {
    async fn cut(&self, at: Cut) -> Result<bool, FixtureError> {
        self.proxy.cut(at, 0);
        Ok(true)
    }

    async fn restart(&self) -> Result<bool, FixtureError> {
        let mut server = self.server();
        server.kill()?;
        server.start_again()?;
        Ok(true)
    }

    async fn pause(&self) -> Result<bool, FixtureError> {
        self.server().pause()?;
        Ok(true)
    }

    async fn resume(&self) -> Result<(), FixtureError> {
        self.server().resume()
    }

    fn call_time_max(&self) -> Duration {
        TIMEOUT * 2
    }

    async fn refusals(&self) -> Vec<StateError> {
        let nobody =
            format!("redis://logd:correct-horse%2Bbattery@127.0.0.1:{}", server::free_port().unwrap());
        let mut errors = Vec::new();
        for url in [
            self.url("logd", "wrong-horse", ""),
            self.url("nobody", PASSWORD, ""),
            self.url("logd", PASSWORD, "/99999"),
            self.url("logd", PASSWORD, "/x"),
            self.url("logd", PASSWORD, "?secret=wrong-horse"),
            self.url("logd", PASSWORD, "#wrong-horse"),
            self.url("logd", PASSWORD, "?response_timeout=wrong-horse"),
            nobody,
            "redis://logd:wrong-horse".into(),
            "redis:wrong-horse".into(),
        ] {
            errors.push(RedisState::open(&url).await.expect_err(&url));
        }
        let state = RedisState::open(self.url("logd", PASSWORD, "")).await.unwrap();
        self.server().command(&["ACL", "SETUSER", "logd", "-hset", "-hget"]).unwrap();
        let key = ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap();
        errors.push(state.get(&key).await.unwrap_err());
        errors.push(state.complete(&key, &Checkpoint::default(), Fence::NONE).await.unwrap_err());
        let claimant = Claimant::new("one");
        errors.push(state.leases().unwrap().start(&key, &claimant, TIMEOUT).await.unwrap_err());
        self.server().command(&["ACL", "SETUSER", "logd", "+hset", "+hget"]).unwrap();
        errors
    }
}

logd_statehandlers::conformance!(RedisFixture);
