//! How a store is opened: settings, and what a connection must be like.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use std::sync::Arc;

use rusqlite::{Connection, OpenFlags};

use super::SqliteState;
use super::failure::{busy, invalid, refused};
use super::place::Place;
use super::sql::{Statements, TABLE};
use super::store::{Shared, Store};
use super::worker::Worker;
use crate::error::{StateError, StateErrorKind};

/// Between two attempts at what SQLite does not wait for itself.
const PAUSE: Duration = Duration::from_millis(5);
/// The beginning of the errors of opening.
const WHAT: &str = "the database was not opened";

/// How a store in SQLite is opened.
///
/// ```
/// use std::time::Duration;
///
/// use logd_statehandlers::SqliteState;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("shop.db");
/// # runtime.block_on(async {
/// let state = SqliteState::builder().busy_timeout(Duration::from_secs(2)).table("readers").open(path).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteBuilder {
    busy_timeout: Duration,
    table: String,
    create: bool,
}

impl SqliteBuilder {
    /// How long a request waits for others that write to the database, when none is set.
    pub const BUSY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// The longest time that can be set for that.
    pub const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

    pub(super) fn new() -> Self {
        Self { busy_timeout: Self::BUSY_TIMEOUT_DEFAULT, table: TABLE.into(), create: true }
    }

    /// How long a request waits for others that write to the database, after which it fails with
    /// [`StateErrorKind::Unavailable`]. In whole milliseconds, from zero to [`SqliteBuilder::BUSY_TIMEOUT_MAX`]; by default
    /// [`SqliteBuilder::BUSY_TIMEOUT_DEFAULT`].
    #[must_use]
    pub fn busy_timeout(self, busy_timeout: Duration) -> Self {
        Self { busy_timeout, ..self }
    }

    /// The table that has the checkpoints; by default [`TABLE`]. A name of 1 to 63 of `a-z A-Z 0-9 _`, not starting with a
    /// digit nor with `sqlite_`.
    #[must_use]
    pub fn table(self, table: impl Into<String>) -> Self {
        Self { table: table.into(), ..self }
    }

    /// Whether the database and its table are made where they are not there; by default they are. Without, an absent or
    /// empty file is an error: for a file on a file system that may not be mounted.
    #[must_use]
    pub fn create(self, create: bool) -> Self {
        Self { create, ..self }
    }

    /// Opens the database at a path, whose folder must be there, and has it use a write-ahead log.
    ///
    /// # Errors
    /// - [`StateErrorKind::Invalid`] when a setting is out of bounds, or the path is that of no file
    /// - [`StateErrorKind::Unavailable`] when another program has the database locked for too long
    /// - [`StateErrorKind::Failed`] when it cannot be opened or made, or its table is another than ours
    /// - [`StateErrorKind::Corrupt`] when it is no database
    ///
    /// # Cancel safety
    /// When the future is dropped, the database may be made all the same.
    pub async fn open(self, path: impl Into<PathBuf>) -> Result<SqliteState, StateError> {
        let path: PathBuf = path.into();
        // What SQLite takes for a database in memory, or for one that is removed when it is closed.
        if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
            return Err(invalid(format!("`{}` is the path of no file", path.display())));
        }
        self.start(move |builder| {
            let flags = if builder.create {
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
            } else {
                OpenFlags::SQLITE_OPEN_READ_WRITE
            };
            let connection = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
            let what = format!("{WHAT}: `{}`", path.display());
            let connection = connection.map_err(|error| refused(what, error))?;
            builder.timed(&connection)?;
            let mode =
                patient(builder.busy_timeout, || journal_mode(&connection, "PRAGMA journal_mode = WAL"))?;
            if mode != "wal" {
                let text = format!("{WHAT}: its journal mode is `{mode}`, and cannot be `wal`");
                return Err(StateError::new(StateErrorKind::Failed, text));
            }
            builder.store(connection, &mode)
        })
        .await
    }

    /// Takes a connection that is there already. Its database must be a file with a journal, whose mode stays as it is;
    /// the connection's `busy_timeout` and `synchronous` are set.
    ///
    /// # Errors
    /// As [`SqliteBuilder::open`], and [`StateErrorKind::Invalid`] when the connection is in a transaction, its database is
    /// in memory, or its journal mode is `off` or `memory`, with which a kill can destroy the database.
    pub async fn adopt(self, connection: Connection) -> Result<SqliteState, StateError> {
        self.start(move |builder| {
            if !connection.is_autocommit() {
                return Err(invalid(format!("{WHAT}: the connection is in a transaction")));
            }
            builder.timed(&connection)?;
            let mode =
                journal_mode(&connection, "PRAGMA journal_mode").map_err(|error| refused(WHAT, error))?;
            if ["off", "memory"].contains(&mode.as_str()) {
                return Err(invalid(format!(
                    "{WHAT}: its journal mode is `{mode}`, and a kill would destroy it"
                )));
            }
            builder.store(connection, &mode)
        })
        .await
    }

    /// From what stands behind `sqlite:` in a URL: the path, and the parameters `busy_timeout`, `table` and `create`.
    pub(crate) fn from_parameters(parameters: &str) -> Result<Self, StateError> {
        let mut builder = Self::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            builder = match parameter.split_once('=') {
                Some(("busy_timeout", value)) => builder.busy_timeout(duration(value)?),
                Some(("table", value)) => builder.table(value),
                Some(("create", "true")) => builder.create(true),
                Some(("create", "false")) => builder.create(false),
                _ => {
                    return Err(invalid(
                        "the url of a database in sqlite has the parameters `busy_timeout=5s`, `table=name` and `create=false`, and no others",
                    ));
                }
            };
        }
        Ok(builder)
    }

    async fn start(
        self,
        open: impl FnOnce(&Self) -> Result<(Store, Arc<Shared>), StateError> + Send + 'static,
    ) -> Result<SqliteState, StateError> {
        if self.busy_timeout > Self::BUSY_TIMEOUT_MAX {
            let text = format!(
                "the busy timeout `{:?}` is longer than `{:?}`",
                self.busy_timeout,
                Self::BUSY_TIMEOUT_MAX
            );
            return Err(invalid(text));
        }
        Statements::new(&self.table)?;
        let (worker, shared) = Worker::start(move || open(&self)).await?;
        Ok(SqliteState { worker, shared })
    }

    fn timed(&self, connection: &Connection) -> Result<(), StateError> {
        connection.busy_timeout(self.busy_timeout).map_err(|error| refused(WHAT, error))
    }

    fn store(&self, connection: Connection, journal_mode: &str) -> Result<(Store, Arc<Shared>), StateError> {
        let has_log = journal_mode == "wal";
        // A log is synced by each commit. Without one, only `EXTRA` also syncs that the journal is gone, which is the commit.
        let synchronous = if has_log { "FULL" } else { "EXTRA" };
        let statements = Statements::new(&self.table)?;
        let prepared = patient(self.busy_timeout, || {
            connection.pragma_update(None, "synchronous", synchronous)?;
            if self.create {
                connection.execute_batch(&statements.create_table)?;
            }
            // Opens the log, and fails if the table is another.
            connection.prepare(&statements.read)?.exists(["", "", ""])
        });
        prepared?;
        let path = connection.path().filter(|path| !path.is_empty());
        let path = path.ok_or_else(|| invalid(format!("{WHAT}: the database is in no file")))?;
        let shared = Arc::new(Shared { place: Place::new(Path::new(path), has_log)?, statements });
        Ok((Store::new(connection, Arc::clone(&shared)), shared))
    }
}

fn journal_mode(connection: &Connection, pragma: &str) -> rusqlite::Result<String> {
    connection.query_row(pragma, [], |row| row.get::<_, String>(0)).map(|mode| mode.to_ascii_lowercase())
}

/// Repeats what fails at once for a lock, such as the change of the journal mode, for as long as a request would wait.
fn patient<T>(busy_timeout: Duration, work: impl Fn() -> rusqlite::Result<T>) -> Result<T, StateError> {
    let begin = Instant::now();
    loop {
        match work() {
            Err(error) if busy(&error) && begin.elapsed() < busy_timeout => thread::sleep(PAUSE),
            done => return done.map_err(|error| refused(WHAT, error)),
        }
    }
}

/// A whole number and a unit: `250ms`, `5s`, `1m`.
fn duration(text: &str) -> Result<Duration, StateError> {
    let unit_at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let duration = number.parse::<u64>().ok().and_then(|number| number.checked_mul(millis));
    match duration {
        Some(duration) if millis > 0 => Ok(Duration::from_millis(duration)),
        _ => Err(invalid("a time in a url is a whole number with `ms`, `s` or `m` behind it")),
    }
}
