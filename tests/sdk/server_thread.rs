//! A server for tests that have no runtime.

use logd_client::blocking::Scanner;
use logd_client::{ClientConfig, Scanner as Async};
use tokio::runtime::{Builder, Runtime};

use crate::support::TestServer;

/// A server that runs on threads of its own.
pub(crate) struct ServerThread {
    server: TestServer,
    runtime: Runtime,
}

impl ServerThread {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(TestServer::start());
        Self { server, runtime }
    }

    /// Ends the server, as a signal would.
    pub(crate) fn stop(&mut self) {
        self.runtime.block_on(self.server.stop());
    }

    pub(crate) fn client_config(&self) -> ClientConfig {
        self.server.client_config()
    }

    /// A scanner of everything that the topic `default` has.
    pub(crate) fn scanner(&self) -> Scanner {
        Scanner::open(Async::builder(self.client_config())).unwrap()
    }
}
