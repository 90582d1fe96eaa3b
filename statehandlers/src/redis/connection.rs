//! The connection to the server: one for all calls, made when it is needed.
//!
//! The calls of a handler share one connection, on which requests follow one another without waiting. It is made by the
//! call that finds none; the others wait for it, at most for the time that connecting may take. A connection that failed,
//! or whose server has closed it, is not used again. A call whose future is dropped leaves the connection sound, and
//! connecting to the next call.
//!
//! It is not `redis::aio::ConnectionManager`: that one does not tell a command that was never sent from one whose answer was
//! lost, fails the first call after an outage with an error from before, and never connects again once the server has refused it
//! with anything but an I/O error, a full house or a password that is being changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Pipeline, PushInfo, PushKind, RedisError};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::errors::{Server, Task, ends_connection};
use super::scripts::Script;
use crate::error::{StateError, StateErrorKind};

pub(super) struct Connection {
    client: Client,
    server: Server,
    connect_timeout: Duration,
    response_timeout: Duration,
    live: Mutex<Option<Live>>,
    is_closed: AtomicBool,
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    is_gone: Arc<AtomicBool>,
}

impl Connection {
    pub(super) fn new(
        client: Client,
        server: Server,
        connect_timeout: Duration,
        response_timeout: Duration,
    ) -> Self {
        let (live, is_closed) = (Mutex::default(), AtomicBool::default());
        Self { client, server, connect_timeout, response_timeout, live, is_closed }
    }

    pub(super) fn url(&self) -> &str {
        &self.server.url
    }

    /// Runs a script, by its name first, which is shorter.
    pub(super) async fn run(
        &self,
        task: Task<'_>,
        script: &Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Vec<Vec<u8>>, StateError> {
        let mut live = self.live(task).await?;
        match live.send(&script.by_name(keys, arguments)).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {}
            answer => return answer.map_err(|error| self.server.failed(task, error)),
        }
        let answer = live.send(&script.by_text(keys, arguments)).await;
        answer.map_err(|error| self.server.failed(task, error))
    }

    pub(super) async fn send<T: FromRedisValue>(
        &self,
        task: Task<'_>,
        command: &Cmd,
    ) -> Result<T, StateError> {
        let answer = self.live(task).await?.send(command).await;
        answer.map_err(|error| self.server.failed(task, error))
    }

    /// Sends commands one behind the other. What the server says to each is in the answer.
    pub(super) async fn send_all<T: FromRedisValue>(
        &self,
        task: Task<'_>,
        commands: &Pipeline,
    ) -> Result<T, StateError> {
        let mut live = self.live(task).await?;
        let answer = commands.query_async(&mut live.connection).await;
        live.checked(answer).map_err(|error| self.server.failed(task, error))
    }

    /// What the server has said to one of several commands.
    pub(super) fn failed(&self, task: Task<'_>, error: RedisError) -> StateError {
        self.server.failed(task, error)
    }

    /// Connects, so that what can be wrong with the settings shows.
    pub(super) async fn open(&self) -> Result<(), StateError> {
        self.live(Task::Open).await.map(|_| ())
    }

    /// Whether there is no connection that the next call can use.
    #[cfg(test)]
    pub(super) async fn is_gone(&self) -> bool {
        self.live.lock().await.as_ref().is_none_or(|live| live.is_gone.load(Ordering::SeqCst))
    }

    pub(super) async fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        *self.live.lock().await = None;
    }

    async fn live(&self, task: Task<'_>) -> Result<Live, StateError> {
        let deadline = Instant::now() + self.connect_timeout;
        let late = |_| {
            let why = format!("`{}` was not reached within {:?}", self.server.url, self.connect_timeout);
            task.failed(StateErrorKind::Unavailable, why)
        };
        let mut live = timeout_at(deadline, self.live.lock()).await.map_err(late)?;
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(task.failed(StateErrorKind::Invalid, "the handler is closed"));
        }
        if let Some(live) = live.as_ref().filter(|live| !live.is_gone.load(Ordering::SeqCst)) {
            return Ok(live.clone());
        }
        *live = None;
        let made = timeout_at(deadline, self.connect()).await.map_err(late)?;
        let made = made.map_err(|error| self.server.unreachable(task, error))?;
        Ok(live.insert(made).clone())
    }

    async fn connect(&self) -> Result<Live, RedisError> {
        let is_gone = Arc::new(AtomicBool::new(false));
        let notice = Arc::clone(&is_gone);
        let watch = move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                notice.store(true, Ordering::SeqCst);
            }
            Ok::<(), ()>(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(Some(self.response_timeout))
            .set_push_sender(watch);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Live { connection, is_gone })
    }
}

impl Live {
    async fn send<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, RedisError> {
        let answer = command.query_async(&mut self.connection).await;
        self.checked(answer)
    }

    /// Takes the connection out of use if it has come to its end.
    fn checked<T>(&self, answer: Result<T, RedisError>) -> Result<T, RedisError> {
        if answer.as_ref().is_err_and(ends_connection) {
            self.is_gone.store(true, Ordering::SeqCst);
        }
        answer
    }
}
