//! What goes wrong between a handler and its server: cut connections, a server that hangs, stops, or is killed.

use std::sync::Arc;
use std::time::Duration;

use logd_statehandlers::conformance::{Cut, Faults, Fixture, FixtureError};
use logd_statehandlers::{
    Checkpoint, ConsumerKey, Fence, Position, PostgresState, StateError, StateErrorKind, StateHandler,
    async_trait,
};

use crate::cut::Proxy;
use crate::server::{PASSWORD, Server, url};

const TIMEOUT: Duration = Duration::from_millis(1500);

/// A server of its own, behind a proxy.
pub(crate) struct Faulty {
    pub(crate) server: Server,
    pub(crate) proxy: Proxy,
}

impl Faulty {
    pub(crate) fn make() -> Result<Self, FixtureError> {
        let server = Server::start(None)?;
        let proxy = Proxy::start(server.port)?;
        Ok(Self { server, proxy })
    }

    pub(crate) async fn state(&self) -> Result<PostgresState, StateError> {
        PostgresState::builder(url(self.proxy.port)).timeout(TIMEOUT).open().await
    }
}

#[async_trait]
impl Fixture for Faulty {
    async fn new() -> Result<Self, FixtureError> {
        tokio::task::spawn_blocking(Self::make).await?
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(self.state().await?))
    }

    fn name() -> String {
        "PostgresState".into()
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn secrets(&self) -> Vec<String> {
        vec![PASSWORD.into(), "wrong-horse".into()]
    }
}

#[async_trait]
impl Faults for Faulty {
    async fn cut(&self, at: Cut) -> Result<bool, FixtureError> {
        self.proxy.cut(at, 0);
        Ok(true)
    }

    async fn restart(&self) -> Result<bool, FixtureError> {
        self.server.stop()?;
        self.server.start_again()?;
        Ok(true)
    }

    async fn pause(&self) -> Result<bool, FixtureError> {
        self.server.pause()?;
        Ok(true)
    }

    async fn resume(&self) -> Result<(), FixtureError> {
        self.server.resume()
    }

    fn call_time_max(&self) -> Duration {
        TIMEOUT * 2
    }

    async fn refusals(&self) -> Vec<StateError> {
        let right = self.server.url();
        let urls = [
            right.replace(PASSWORD, "wrong-horse"),
            right.replace("/postgres", "/nothing"),
            right.replace("postgres:correct", "nobody:correct"),
            url(1),
            format!("{right}?sslmode=require"),
            format!("{right}?sslmode={PASSWORD}"),
            format!("{right}?{PASSWORD}=1"),
            right.replace('@', "@@"),
            right.replace("postgres://", "postgres:"),
            format!("{right}?sslmode=verify-full&sslrootcert=/nowhere.pem"),
        ];
        let mut errors = Vec::new();
        for url in urls {
            match PostgresState::builder(url).timeout(TIMEOUT).open().await {
                Ok(state) => panic!("a wrong url has opened {state:?}"),
                Err(error) => errors.push(error),
            }
        }
        errors
    }
}

macro_rules! properties {
    ($($property:ident)+) => {
        $(#[test]
        fn $property() {
            logd_statehandlers::conformance::run::<Faulty>(concat!("faults::", stringify!($property)), module_path!());
        })+
    };
}

properties!(cut_connection_tells_the_truth restarted_server_is_found_again hung_server_hits_the_timeout errors_tell_no_secrets);

fn key() -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap()
}

fn at(offset: u64) -> Checkpoint {
    Checkpoint::at(offset.to_string().parse::<Position>().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_to_do() {
    use StateErrorKind::{Failed, Invalid, Unavailable};

    let faulty = Faulty::new().await.unwrap();
    let kinds: Vec<_> = faulty.refusals().await.iter().map(StateError::kind).collect();
    assert_eq!(
        kinds,
        [Failed, Failed, Failed, Unavailable, Failed, Invalid, Invalid, Invalid, Invalid, Failed],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_killed_amid_writes_has_what_it_acknowledged() {
    let faulty = Arc::new(Faulty::new().await.unwrap());
    let state = Arc::new(faulty.state().await.unwrap());
    let mut stored = 0;
    for _ in 0..3 {
        let (writer, first) = (Arc::clone(&state), stored + 1);
        let writing = tokio::spawn(async move {
            let mut acked = first - 1;
            loop {
                match writer.complete(&key(), &at(acked + 1), Fence::NONE).await {
                    Ok(_) => acked += 1,
                    Err(error) => return (acked, error),
                }
            }
        });
        // Some writes are done before the kill, and one is under way.
        // On a machine that is too busy, a write can time out before.
        while !writing.is_finished()
            && state.get(&key()).await.unwrap().is_none_or(|seen| seen.next < at(first + 20).next)
        {
            tokio::task::yield_now().await;
        }
        let killed = Arc::clone(&faulty);
        tokio::task::spawn_blocking(move || killed.server.kill()).await.unwrap().unwrap();
        let (acked, error) = writing.await.unwrap();
        assert!(error.is_retryable(), "{error}");
        let refused = state.get(&key()).await.unwrap_err();
        assert_eq!(refused.kind(), StateErrorKind::Unavailable, "{refused}");
        let started = Arc::clone(&faulty);
        tokio::task::spawn_blocking(move || started.server.start_again()).await.unwrap().unwrap();
        let seen = loop {
            match state.get(&key()).await {
                Ok(seen) => break seen.unwrap().next.offset.as_u64(),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        assert!((acked..=acked + 1).contains(&seen), "`{acked}` was acknowledged, and `{seen}` is stored");
        stored = seen;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_that_was_given_up_holds_nobody_up() {
    let faulty = Faulty::new().await.unwrap();
    let state = faulty.state().await.unwrap();
    state.complete(&key(), &at(1), Fence::NONE).await.unwrap();
    let mut other = crate::connect(&faulty.server.url()).await.unwrap();
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM logd_checkpoints FOR UPDATE", &[]).await.unwrap();
    // More than there are connections; each waits for the lock, and is dropped.
    for _ in 0..5 {
        let given_up = tokio::time::timeout(TIMEOUT / 10, state.complete(&key(), &at(2), Fence::NONE)).await;
        assert!(given_up.is_err());
    }
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(1)));
    // Who waits to the end is told that nothing was done.
    let late = state.complete(&key(), &at(3), Fence::NONE).await.unwrap_err();
    assert_eq!(late.kind(), StateErrorKind::Unavailable, "{late}");
    lock.rollback().await.unwrap();
    while state.complete(&key(), &at(4), Fence::NONE).await.is_err() {}
    assert_eq!(state.get(&key()).await.unwrap(), Some(at(4)));
}
