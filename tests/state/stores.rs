//! What the tests with real stores share: servers, stores, a topic with lines in it, and settings from the environment.

use std::path::Path;
use std::time::Duration;

use logd_client::{ClientConfig, RetryPolicy, Writer};
use logd_tests::{Random, TestServer, log_line};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::postgres_server::Server as PostgresServer;
use crate::redis_server::RedisServer;

/// Small partitions, so that they are changed in the midst of a test, and so many that none is dropped.
const OPTIONS: &[&str] = &["--partition-size", "20000000", "--partitions", "10000"];

/// A number from the environment.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// One of the four kinds of stores, running.
pub(crate) enum Store {
    File(TempDir),
    Sqlite(TempDir),
    Redis(RedisServer),
    Postgres(PostgresServer),
}

impl Store {
    pub(crate) fn start(name: &str) -> Self {
        match name {
            "file" => Self::File(tempfile::tempdir().unwrap()),
            "sqlite" => Self::Sqlite(tempfile::tempdir().unwrap()),
            "redis" => Self::Redis(RedisServer::start().unwrap()),
            "postgres" => Self::Postgres(PostgresServer::start(None).unwrap()),
            _ => panic!("there is no store `{name}`"),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::File(folder) => format!("file:{}", text(&folder.path().join("state"))),
            Self::Sqlite(folder) => format!("sqlite:{}", text(&folder.path().join("state.db"))),
            Self::Redis(server) => server.url(),
            Self::Postgres(server) => server.url(),
        }
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server of logs.
pub(crate) fn log_server() -> TestServer {
    TestServer::start(OPTIONS)
}

pub(crate) fn config(server: &TestServer) -> ClientConfig {
    let retry = RetryPolicy::default().attempts(Some(200)).interval(Duration::from_millis(5));
    ClientConfig::new(server.host()).retry(retry)
}

/// So many lines as logs have them; those of the files that `LOGD_TEST_LINES` names, with `:` between, again and again.
fn lines(count: usize, seed: u64) -> Vec<String> {
    let Some(paths) = std::env::var_os("LOGD_TEST_LINES") else {
        let mut random = Random::new(seed);
        return (0..count).map(|number| log_line(&mut random, number)).collect();
    };
    let texts: Vec<String> =
        std::env::split_paths(&paths).map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let lines: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
    lines.into_iter().cycle().take(count).map(str::to_owned).collect()
}

/// Writes so many lines to a topic; returns them.
pub(crate) fn write_lines(
    runtime: &Runtime,
    server: &TestServer,
    topic: &str,
    count: usize,
    seed: u64,
) -> Vec<String> {
    let lines = lines(count, seed);
    runtime.block_on(async {
        let topic = topic.parse().unwrap();
        let writer = Writer::builder(config(server)).topic(topic).batch_bytes(60_000).open().unwrap();
        for line in &lines {
            writer.write(line.as_bytes()).await.unwrap();
        }
        writer.close().await.unwrap();
    });
    lines
}

/// Writes messages until it is dropped.
pub(crate) struct Supply(JoinHandle<()>);

impl Supply {
    pub(crate) fn start(runtime: &Runtime, server: &TestServer, topic: &str) -> Self {
        let topic = topic.parse().unwrap();
        let config = config(server);
        Self(runtime.spawn(async move {
            let wait = Duration::from_millis(1);
            let writer = Writer::builder(config).topic(topic).wait_interval(wait).open().unwrap();
            for number in 0_u64.. {
                writer.write(format!("order {number}").as_bytes()).await.unwrap();
                sleep(wait).await;
            }
        }))
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.0.abort();
    }
}
