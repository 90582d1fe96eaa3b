//! A server in the test's own process, which can be stopped and started again on the same port and directory.

use std::net::SocketAddr;
use std::time::Duration;

use logd_client::{Client, ClientConfig, RetryPolicy, Scanner, Start, TaskRuntime, TopicName, Writer};
use logd_server::{Config, Server};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The longest that any step of a test takes; a test that needs it has failed.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct TestServer {
    config: Config,
    address: SocketAddr,
    running: Option<Running>,
    _workdir: TempDir,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl TestServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(|config| config).await
    }

    pub(crate) async fn start_with(settings: impl FnOnce(Config) -> Config) -> Self {
        let workdir = tempfile::tempdir().unwrap();
        let config = settings(Config {
            host: "127.0.0.1:0".into(),
            workdir: workdir.path().into(),
            ..Config::default()
        });
        let (address, running) = run(config.clone()).await;
        // After a restart the port must be the same.
        let config = Config { host: address.to_string(), ..config };
        Self { config, address, running: Some(running), _workdir: workdir }
    }

    pub(crate) fn workdir(&self) -> &std::path::Path {
        &self.config.workdir
    }

    /// Ends the server, as a signal would.
    pub(crate) async fn stop(&mut self) {
        if let Some(Running { stop, task }) = self.running.take() {
            let _ = stop.send(());
            within("the server's end", task).await.unwrap();
        }
    }

    /// Starts the stopped server again.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.running.is_none());
        self.running = Some(run(self.config.clone()).await.1);
    }

    /// Settings for this server that retry often and soon.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let retry = RetryPolicy::default()
            .attempts(Some(500))
            .interval(Duration::from_millis(1))
            .max_interval(Duration::from_millis(20));
        ClientConfig::new(self.address.to_string()).retry(retry)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.client_config())
    }

    /// A writer on the server's runtime: one that is dropped does not hold that up.
    pub(crate) fn writer(&self) -> Writer {
        Writer::builder(self.client_config()).runtime(TaskRuntime::Current).open().unwrap()
    }

    /// A scanner that follows the topic `default` from its beginning.
    pub(crate) fn follower(&self) -> Scanner {
        Scanner::builder(self.client_config()).follow(true).open().unwrap()
    }

    /// Everything that the topic `default` has.
    pub(crate) async fn messages(&self) -> Vec<String> {
        self.messages_from(Start::Earliest).await
    }

    pub(crate) async fn messages_from(&self, start: Start) -> Vec<String> {
        let scanner =
            Scanner::builder(self.client_config()).topic(TopicName::default()).start(start).open().unwrap();
        take_all(scanner).await
    }
}

async fn run(config: Config) -> (SocketAddr, Running) {
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        server
            .run(async {
                // A dropped test ends the server too.
                let _ = stopped.await;
            })
            .await
            .unwrap();
    });
    (address, Running { stop, task })
}

/// The texts of all messages of a scanner that ends.
pub(crate) async fn take_all(mut scanner: Scanner) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(message) = within("a message", scanner.next()).await {
        texts.push(String::from_utf8(message.unwrap().bytes.to_vec()).unwrap());
    }
    texts
}

/// The texts of the next `count` messages.
pub(crate) async fn take(scanner: &mut Scanner, count: usize) -> Vec<String> {
    let mut texts = Vec::with_capacity(count);
    while texts.len() < count {
        let message = within("a message", scanner.next()).await.unwrap().unwrap();
        texts.push(String::from_utf8(message.bytes.to_vec()).unwrap());
    }
    texts
}

/// Waits for `future` for as long as a step can take.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIMEOUT, future)
        .await
        .unwrap_or_else(|_| panic!("nothing came for {STEP_TIMEOUT:?} while waiting for {what}"))
}
