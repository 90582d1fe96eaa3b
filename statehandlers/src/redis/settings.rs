//! How a store is reached: the URL, and what can be set beside it. Opening reads the file of the CA, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use ::redis::{
    Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates, parse_redis_url,
};

use super::connection::Connection;
use super::errors::{Server, Task};
use super::{RedisState, warn_of_eviction};
use crate::error::{StateError, StateErrorKind};
use crate::url::redact;

/// How long connecting, and an answer, may take if nothing else is set.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than this, a busy server or a distant one is taken for one that hangs.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longer than this, a lease is more likely over than the call.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Sets up a [`RedisState`] before it is opened. What is set here takes the place of what the URL says.
#[derive(Clone)]
pub struct RedisStateBuilder {
    url: String,
    ca: Option<Ca>,
    connect_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
}

#[derive(Clone)]
enum Ca {
    File(PathBuf),
    Pem(Vec<u8>),
}

impl std::fmt::Debug for RedisStateBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RedisStateBuilder").field("url", &redact(&self.url)).finish_non_exhaustive()
    }
}

impl RedisStateBuilder {
    pub(super) fn new(url: String) -> Self {
        Self { url, ca: None, connect_timeout: None, response_timeout: None }
    }

    /// The file with the certificates, in PEM, of which one must have signed the server's. By default the system's are
    /// trusted. Only for `rediss://`.
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca: Some(Ca::File(path.into())), ..self }
    }

    /// The same, with the certificates themselves.
    #[must_use]
    pub fn ca_pem(self, pem: impl Into<Vec<u8>>) -> Self {
        Self { ca: Some(Ca::Pem(pem.into())), ..self }
    }

    /// How long a call waits for a connection; by default 3 seconds, at least 100 milliseconds, at most a minute.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        Self { connect_timeout: Some(timeout), ..self }
    }

    /// How long a call waits for the answer once it is connected; by default 3 seconds, at least 100 milliseconds, at most
    /// a minute. A lease should last several times as long.
    #[must_use]
    pub fn response_timeout(self, timeout: Duration) -> Self {
        Self { response_timeout: Some(timeout), ..self }
    }

    /// Connects to the server.
    ///
    /// # Errors
    /// - [`StateErrorKind::Invalid`] when the URL, the certificates or a timeout make no sense
    /// - [`StateErrorKind::Unavailable`] when the server cannot be reached
    /// - [`StateErrorKind::Failed`] when it refuses, or its certificate is not trusted
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn open(self) -> Result<RedisState, StateError> {
        let (info, queried) = parse(&self.url)?;
        let ca = match self.ca.or(queried.ca) {
            None => None,
            Some(Ca::Pem(pem)) => Some(pem),
            Some(Ca::File(path)) => Some(read(path).await?),
        };
        let connect_timeout = checked(self.connect_timeout.or(queried.connect_timeout))?;
        let response_timeout = checked(self.response_timeout.or(queried.response_timeout))?;
        let password = info.redis_settings().password().map(str::to_owned);
        let server = Server { url: redact(&self.url), password };
        let connection = Connection::new(client(info, ca)?, server, connect_timeout, response_timeout);
        connection.open().await?;
        warn_of_eviction(&connection).await;
        Ok(RedisState { connection })
    }
}

/// What a URL says behind its `?`.
#[derive(Default)]
struct Queried {
    ca: Option<Ca>,
    connect_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
}

/// No error of this tells anything of the URL, which may have its password anywhere.
fn parse(text: &str) -> Result<(ConnectionInfo, Queried), StateError> {
    let mut url = parse_redis_url(text)
        .filter(|url| matches!(url.scheme(), "redis" | "rediss"))
        .ok_or_else(|| invalid("it is no url like `redis://user:password@host:6379/0`"))?;
    if url.fragment().is_some() {
        return Err(invalid("there is no `#` in the url of a store: write `%23`"));
    }
    let mut queried = Queried::default();
    for (name, value) in url.query_pairs() {
        match name.as_ref() {
            "ca" => queried.ca = Some(Ca::File(value.as_ref().into())),
            "connect_timeout" => queried.connect_timeout = Some(duration(&value)?),
            "response_timeout" => queried.response_timeout = Some(duration(&value)?),
            _ => {
                return Err(invalid(
                    "the url of a store has only `ca`, `connect_timeout` and `response_timeout` behind `?`",
                ));
            }
        }
    }
    url.set_query(None);
    let info = url
        .into_connection_info()
        .map_err(|_| invalid("its url has no host, or no valid user or database"))?;
    // With version 3 of its protocol, the end of an idle connection is noticed before the next call.
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if settings.username().is_some() && settings.password().is_none() {
        // Without any password, the user would be left out as well, and the server's default user be meant.
        settings = settings.set_password("");
    }
    Ok((info.set_redis_settings(settings), queried))
}

fn duration(text: &str) -> Result<Duration, StateError> {
    let parsed = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => number.parse().map(Duration::from_millis),
        (None, Some(number)) => number.parse().map(Duration::from_secs),
        (None, None) => return Err(invalid("a time is written like `500ms` or `5s`")),
    };
    parsed.map_err(|_| invalid("a time is written like `500ms` or `5s`"))
}

fn checked(timeout: Option<Duration>) -> Result<Duration, StateError> {
    let timeout = timeout.unwrap_or(TIMEOUT);
    if (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
        return Ok(timeout);
    }
    Err(invalid(format!("the timeout `{timeout:?}` is not within {TIMEOUT_MIN:?} and {TIMEOUT_MAX:?}")))
}

async fn read(path: PathBuf) -> Result<Vec<u8>, StateError> {
    let reading = tokio::task::spawn_blocking(move || {
        std::fs::read(&path).map_err(|error| {
            let what = format!("{}: the certificates in `{}` were not read", Task::Open, path.display());
            StateError::caused(StateErrorKind::Invalid, what, error)
        })
    });
    reading.await.map_err(|error| StateError::caused(StateErrorKind::Failed, Task::Open, error))?
}

fn client(info: ConnectionInfo, ca: Option<Vec<u8>>) -> Result<Client, StateError> {
    let is_tls = matches!(info.addr(), ::redis::ConnectionAddr::TcpTls { .. });
    match ca {
        Some(_) if !is_tls => Err(invalid("certificates are for `rediss://` only")),
        ca if is_tls => {
            if let Some(pem) = &ca
                && !pem.windows(BEGIN.len()).any(|part| part == BEGIN)
            {
                return Err(invalid("the certificates are not PEM"));
            }
            install_crypto();
            let certificates = TlsCertificates { client_tls: None, root_cert: ca };
            Client::build_with_tls(info, certificates)
                .map_err(|error| StateError::caused(StateErrorKind::Invalid, Task::Open, error))
        }
        _ => Client::open(info).map_err(|_| invalid("its url is not understood")),
    }
}

/// What a certificate in PEM begins with. Without any, nothing would be trusted, and nobody told why.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The process has one provider of cryptography; an application that wants another than ring installs it before.
fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may be quicker, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

fn invalid(why: impl std::fmt::Display) -> StateError {
    Task::Open.failed(StateErrorKind::Invalid, why)
}
