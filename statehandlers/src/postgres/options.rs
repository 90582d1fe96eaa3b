//! URLs of databases, with an `sslmode` that means what it says.
//!
//! The driver knows three ways of `sslmode`, and none that looks at the server's certificate. So that parameter and
//! `sslrootcert` are read here, and what the driver is told is set from them alone. Whatever could be read in two ways is
//! refused, and nothing of a URL is ever told in an error, but the names of known parameters.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, SslNegotiation};

use crate::error::{StateError, StateErrorKind};

/// What the server runs under in our sessions; the URL's own `options` come behind it, and count.
///
/// Without `synchronous_commit`, what was acknowledged could be lost. A server that has lost its client, or whose
/// client hangs in a transaction, must not keep the record from others for long.
const SESSION: &str = "-c default_transaction_isolation=read\\ committed -c synchronous_commit=on \
    -c idle_in_transaction_session_timeout=60000 \
    -c tcp_keepalives_idle=15 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3";

/// How long a connection is silent before it is looked whether the server is there, unless the URL says.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
/// What the driver has where nothing is said.
const KEEPALIVE_IDLE_OF_DRIVER: Duration = Duration::from_secs(2 * 60 * 60);

/// The parameters that can be told in an error: those of the standard client, which people know.
const KNOWN: [&str; 14] = [
    "passfile",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcertmode",
    "sslcompression",
    "gssencmode",
    "krbsrvname",
    "requiressl",
    "client_encoding",
];

/// Whom the server's certificate must be from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verify {
    Nothing,
    Authority(Roots),
    Full(Roots),
}

/// Whose word is taken for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    System,
    File(PathBuf),
}

/// What a URL says.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) config: Config,
    /// `None` where nothing is encrypted.
    pub(super) verify: Option<Verify>,
}

impl fmt::Debug for Options {
    /// Without the user's options, which can be anything.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { config, verify } = self;
        let (hosts, database) = (config.get_hosts(), config.get_dbname());
        formatter
            .debug_struct("Options")
            .field("hosts", &hosts)
            .field("database", &database)
            .field("verify", verify)
            .finish_non_exhaustive()
    }
}

fn invalid(text: impl Into<String>) -> StateError {
    StateError::new(StateErrorKind::Invalid, text.into())
}

impl Options {
    pub(super) fn parse(url: &str) -> Result<Self, StateError> {
        let (base, parameters) = split(url)?;
        let (mut mode, mut roots, mut kept) = (None, None, Vec::new());
        let mut names: Vec<&str> = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter
                .split_once('=')
                .ok_or_else(|| invalid("a parameter of a database's url is `name=value`"))?;
            // The driver would read `ssl%6Dode` as well.
            if names.contains(&name) || name.contains('%') {
                return Err(invalid("a parameter of a database's url is written plainly, and given once"));
            }
            names.push(name);
            match name {
                "sslmode" => mode = Some(value),
                "sslrootcert" => roots = Some(decode(value)?),
                _ => kept.push(parameter),
            }
        }
        let known = names.iter().find(|name| KNOWN.contains(name));
        let mut config: Config = format!("{base}?{}", kept.join("&")).parse().map_err(|_| match known {
            Some(name) => invalid(format!("the parameter `{name}` of a database's url is not supported")),
            None => invalid("the url of the database cannot be understood"),
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(invalid("the url of a database names its host"));
        }
        let verify = verify(&mut config, mode, roots)?;
        Ok(Self { config, verify })
    }

    /// Sets every time limit that the URL has not set, and what the server runs under.
    pub(super) fn limit(&mut self, time_max: Duration) {
        let config = &mut self.config;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(time_max);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(time_max);
        }
        if config.get_keepalives_idle() == KEEPALIVE_IDLE_OF_DRIVER {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        if config.get_application_name().is_none() {
            config.application_name("logd");
        }
        // The server gives up first, so that its error is heard, and a lock before a statement.
        let statement = (time_max.as_millis() * 9 / 10).max(1);
        let lock = (time_max.as_millis() * 8 / 10).max(1);
        let own = config.get_options().unwrap_or_default();
        let all = format!("{SESSION} -c statement_timeout={statement} -c lock_timeout={lock} {own}");
        config.options(all);
    }
}

/// The URL up to its parameters, and its parameters.
fn split(url: &str) -> Result<(&str, &str), StateError> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| invalid("the url of a database starts with `postgres://`"))?;
    // An `@` elsewhere would make a part of a password the host, or a host a password.
    let (user, place) = rest.split_once('@').unwrap_or(("", rest));
    if place.contains('@') || user.contains(['/', '?']) {
        return Err(invalid("in a database's url, `@`, `/` and `?` are written `%40`, `%2F` and `%3F`"));
    }
    if rest.contains('#') {
        return Err(invalid("in a database's url, `#` is written `%23`"));
    }
    Ok(url.split_once('?').unwrap_or((url, "")))
}

/// Sets what the driver is told of TLS, and says what is to be checked.
fn verify(
    config: &mut Config,
    mode: Option<&str>,
    roots: Option<String>,
) -> Result<Option<Verify>, StateError> {
    let has_roots = roots.is_some();
    let roots = match roots {
        Some(path) if path == "system" => Roots::System,
        Some(path) if path.is_empty() => return Err(invalid("`sslrootcert` names no file")),
        Some(path) => Roots::File(path.into()),
        None => Roots::System,
    };
    let (told, verify) = match mode {
        // As with the standard client, whoever names authorities wants them to be asked.
        Some("require") if has_roots => (SslMode::Require, Some(Verify::Authority(roots))),
        Some("require") => (SslMode::Require, Some(Verify::Nothing)),
        Some("verify-ca") => (SslMode::Require, Some(Verify::Authority(roots))),
        Some("verify-full") => (SslMode::Require, Some(Verify::Full(roots))),
        None | Some("disable" | "prefer") if has_roots => {
            return Err(invalid(
                "`sslrootcert` checks nothing without `sslmode=verify-full` or `sslmode=verify-ca`",
            ));
        }
        None | Some("prefer") => (SslMode::Prefer, Some(Verify::Nothing)),
        Some("disable") => (SslMode::Disable, None),
        Some(_) => {
            return Err(invalid("`sslmode` is `disable`, `prefer`, `require`, `verify-ca` or `verify-full`"));
        }
    };
    if config.get_ssl_negotiation() == SslNegotiation::Direct && told != SslMode::Require {
        return Err(invalid("`sslnegotiation=direct` needs `sslmode=require` or stricter"));
    }
    let is_file = |host: &&Host| !matches!(host, Host::Tcp(_));
    match config.get_hosts().iter().filter(is_file).count() {
        0 => {
            config.ssl_mode(told);
            Ok(verify)
        }
        // The system says who is at the other end of a socket's file, and nobody is between.
        files if files == config.get_hosts().len() => {
            config.ssl_mode(SslMode::Disable);
            Ok(None)
        }
        _ => Err(invalid("the hosts of a database's url are either all folders of sockets, or none")),
    }
}

/// A value without its `%` escapes.
fn decode(value: &str) -> Result<String, StateError> {
    let wrong = || invalid("in a database's url, `%` is followed by two hex digits, and the text is utf-8");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &str) -> Result<Options, StateError> {
        Options::parse(&format!("postgres://anna:hunter2@db.example:1/state{parameters}"))
    }

    #[test]
    fn sslmode_is_never_weakened() {
        let file = || Roots::File("/etc/ca 1.pem".into());
        for (parameters, told, expected) in [
            ("", SslMode::Prefer, Some(Verify::Nothing)),
            ("?sslmode=prefer", SslMode::Prefer, Some(Verify::Nothing)),
            ("?sslmode=disable", SslMode::Disable, None),
            ("?sslmode=require", SslMode::Require, Some(Verify::Nothing)),
            (
                "?sslmode=require&sslrootcert=/etc/ca%201.pem",
                SslMode::Require,
                Some(Verify::Authority(file())),
            ),
            ("?sslmode=verify-ca", SslMode::Require, Some(Verify::Authority(Roots::System))),
            (
                "?sslrootcert=system&sslmode=verify-ca",
                SslMode::Require,
                Some(Verify::Authority(Roots::System)),
            ),
            ("?sslmode=verify-full", SslMode::Require, Some(Verify::Full(Roots::System))),
            (
                "?sslrootcert=/etc/ca%201.pem&sslmode=verify-full",
                SslMode::Require,
                Some(Verify::Full(file())),
            ),
        ] {
            let options = parse(parameters).unwrap();
            assert_eq!((options.config.get_ssl_mode(), options.verify), (told, expected), "{parameters}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_without_echo() {
        for parameters in [
            "?sslmode=allow",
            "?sslmode=Require",
            "?sslmode=",
            "?sslmode",
            "?sslmode=verify%2Dfull",
            "?ssl%6Dode=disable",
            "?SSLMODE=disable",
            "?sslmode=verify-full&sslmode=disable",
            "?sslrootcert=/ca.pem",
            "?sslmode=prefer&sslrootcert=/ca.pem",
            "?sslmode=verify-full&sslrootcert=",
            "?sslmode=verify-full&sslrootcert=%4",
            "?sslmode=verify-full&sslrootcert=%FF",
            "?sslnegotiation=direct",
            "?sslmode=verify-full&sslcert=/hunter2",
            "?hunter2=1",
            "?sslmode=verify-full&host=/run/postgresql",
            "?sslmode=verify-full#hunter2",
            "?application_name=a@b",
        ] {
            let error = parse(parameters).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), StateErrorKind::Invalid, "{parameters}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        for url in [
            "postgres://",
            "postgres:///state",
            "postgres:hunter2",
            "host=a password=hunter2",
            "postgres://a:hun@ter2@host/db",
            "postgres://a:hunter2/@host/db",
            "postgres://a:hunter2?@host/db",
            "postgres://host:hunter2/db",
            "postgres://host/db?password=hunter2@x",
        ] {
            let error = Options::parse(url).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), StateErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let error = parse("?sslcert=/x").unwrap_err();
        assert!(error.to_string().contains("`sslcert`"), "{error}");
    }

    #[test]
    fn every_limit_is_set_unless_the_url_has_set_it() {
        let mut options = parse("").unwrap();
        options.limit(Duration::from_secs(5));
        let config = &options.config;
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(5)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(5)));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert!(config.get_options().unwrap().contains("statement_timeout=4500 -c lock_timeout=4000"));
        let mut options =
            parse("?connect_timeout=2&keepalives_idle=3&options=-c%20statement_timeout%3D7").unwrap();
        options.limit(Duration::from_secs(5));
        assert_eq!(options.config.get_connect_timeout(), Some(&Duration::from_secs(2)));
        assert_eq!(options.config.get_keepalives_idle(), Duration::from_secs(3));
        assert!(options.config.get_options().unwrap().ends_with(" -c statement_timeout=7"));
    }

    #[test]
    fn socket_needs_no_tls() {
        let options = Options::parse("postgres:///state?host=/run/postgresql&sslmode=verify-full").unwrap();
        assert_eq!((options.config.get_ssl_mode(), options.verify), (SslMode::Disable, None));
    }

    #[test]
    fn debug_has_no_secrets() {
        let mut options = parse("?options=-c%20a.b%3Dhunter2").unwrap();
        options.limit(Duration::from_secs(5));
        assert!(!format!("{options:?} {options:#?}").contains("hunter2"));
    }
}
