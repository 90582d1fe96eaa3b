//! How a store in PostgreSQL is opened.

use std::fmt;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::{Config, NoTls};

use super::PostgresState;
use super::connections::Connections;
use super::options::Options;
use super::tls::Tls;
use crate::error::{StateError, StateErrorKind};

/// How many connections a pool of ours has: one that writes, and one beside it for a lease or a read.
const CONNECTIONS_MAX: usize = 2;

/// Settings to open a store with.
///
/// ```no_run
/// use std::time::Duration;
///
/// use logd_statehandlers::PostgresState;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://billing@db.example/shop?sslmode=verify-full";
/// let state = PostgresState::builder(url)
///     .password(std::fs::read_to_string("/run/secrets/shop")?.trim())
///     .timeout(Duration::from_secs(3))
///     .open()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresBuilder {
    url: String,
    password: Option<String>,
    timeout: Duration,
    migrates: bool,
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PostgresBuilder")
            .field("url", &crate::redact(&self.url))
            .field("timeout", &self.timeout)
            .field("migrates", &self.migrates)
            .finish_non_exhaustive()
    }
}

impl PostgresBuilder {
    /// How long a call takes at most, when nothing is set.
    pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// The least that can be set for that.
    pub const TIMEOUT_MIN: Duration = Duration::from_millis(100);
    /// The most that can be set for that.
    pub const TIMEOUT_MAX: Duration = Duration::from_secs(10 * 60);

    pub(super) fn new(url: String) -> Self {
        Self { url, password: None, timeout: Self::TIMEOUT_DEFAULT, migrates: true }
    }

    /// The password, in place of one in the URL.
    #[must_use]
    pub fn password(self, password: impl Into<String>) -> Self {
        Self { password: Some(password.into()), ..self }
    }

    /// How long a call takes at most, with all that it waits for: a free connection, a new one, a lock, the answer. The
    /// server is told to give up a little earlier. From [`PostgresBuilder::TIMEOUT_MIN`] to
    /// [`PostgresBuilder::TIMEOUT_MAX`]; by default [`PostgresBuilder::TIMEOUT_DEFAULT`].
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Neither makes the table nor looks for it: for a user of the database that is not allowed to, or a migration of
    /// one's own. Then [`PostgresBuilder::open`] does not even connect.
    #[must_use]
    pub fn without_migration(self) -> Self {
        Self { migrates: false, ..self }
    }

    /// Opens the store: connects, and makes the table if it is not there.
    ///
    /// # Errors
    /// - [`StateErrorKind::Invalid`] when the URL cannot be understood, or the timeout is out of bounds
    /// - [`StateErrorKind::Unavailable`] when there is no connection in time
    /// - [`StateErrorKind::Failed`] when the server refuses the user, or its certificate is refused, or an authority's
    ///   cannot be read, or the table cannot be made
    ///
    /// # Cancel safety
    /// When the future is dropped, the table may be made all the same.
    pub async fn open(self) -> Result<PostgresState, StateError> {
        let timeout = checked(self.timeout)?;
        let mut options = Options::parse(&self.url)?;
        options.limit(timeout);
        if let Some(password) = &self.password {
            options.config.password(password);
        }
        let Options { config, verify } = options;
        let name = format!("{:?} of {:?}", config.get_dbname().unwrap_or_default(), config.get_hosts());
        let pool = match verify {
            None => pool(Manager::from_config(config, NoTls, recycling()), timeout)?,
            Some(verify) => {
                let tls =
                    tokio::task::spawn_blocking(move || Tls::new(&verify)).await.map_err(|error| {
                        StateError::caused(StateErrorKind::Unavailable, "no certificates were read", error)
                    })??;
                pool(manager(config, tls), timeout)?
            }
        };
        let state = PostgresState::new(Connections::new(pool, true, timeout), name);
        if self.migrates {
            state.migrate().await?;
        }
        Ok(state)
    }
}

pub(super) fn checked(timeout: Duration) -> Result<Duration, StateError> {
    let bounds = PostgresBuilder::TIMEOUT_MIN..=PostgresBuilder::TIMEOUT_MAX;
    if bounds.contains(&timeout) {
        return Ok(timeout);
    }
    let text =
        format!("a timeout is from `{:?}` to `{:?}`, and not `{timeout:?}`", bounds.start(), bounds.end());
    Err(StateError::new(StateErrorKind::Invalid, text))
}

fn manager(config: Config, tls: Tls) -> Manager {
    Manager::from_config(config, tls, recycling())
}

fn recycling() -> ManagerConfig {
    // A connection that is asked whether it lives can still die before the question that matters.
    ManagerConfig { recycling_method: RecyclingMethod::Fast }
}

fn pool(manager: Manager, timeout: Duration) -> Result<Pool, StateError> {
    Pool::builder(manager)
        .max_size(CONNECTIONS_MAX)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .recycle_timeout(Some(timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StateError::caused(StateErrorKind::Failed, "there is no pool of connections", error))
}
