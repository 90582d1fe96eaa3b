//! Stores by URL: for settings and command lines.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::{StateError, StateErrorKind};
use crate::handler::StateHandler;
use crate::memory::MemoryState;

/// What is written in place of a secret.
const REDACTED: &str = "***";

/// Opens the store that a URL names.
///
/// | URL | store | feature |
/// |---|---|---|
/// | `memory:` | a new [`MemoryState`] | |
/// | `file:state/`, `file:/var/lib/state`, `file:///var/lib/state` | `FileState` | `file` |
/// | `sqlite:state.db`, `sqlite:state.db?busy_timeout=5s&table=readers&create=false` | `SqliteState` | `sqlite` |
/// | `redis://user:password@host:6379/0`, `rediss://…?ca=ca.pem` | `RedisState`, with TLS | `redis` |
/// | `postgres://host/database`, `postgresql://…` | PostgreSQL | `postgres` |
///
/// A path is taken as it is: nothing in it is percent-encoded. That of `sqlite:` ends at the first `?`.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let state = logd_statehandlers::open("memory:").await?;
/// assert!(state.leases().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// - [`StateErrorKind::Invalid`] when it is no URL of a store
/// - [`StateErrorKind::Unsupported`] when the store is not compiled in: the text names the feature
/// - what opening the store has failed with
///
/// No text has a password.
///
/// # Cancel safety
/// When the future is dropped, what the store needs may be made all the same.
pub async fn open(url: &str) -> Result<Arc<dyn StateHandler>, StateError> {
    // Whatever is not understood may have a password anywhere, and is not told.
    let (scheme, rest) =
        url.split_once(':').ok_or_else(|| invalid("a store's url starts with a scheme and `:`"))?;
    match scheme {
        "memory" if rest.is_empty() => Ok(Arc::new(MemoryState::new())),
        "memory" => Err(invalid("`memory:` has nothing behind it")),
        #[cfg(feature = "file")]
        "file" => Ok(Arc::new(crate::FileState::open(path(rest)?).await?)),
        #[cfg(not(feature = "file"))]
        "file" => path(rest).and_then(|_| Err(missing("file"))),
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
            let builder = crate::sqlite::SqliteBuilder::from_parameters(parameters)?;
            Ok(Arc::new(builder.open(path(place)?).await?))
        }
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => path(rest).and_then(|_| Err(missing("sqlite"))),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Arc::new(crate::RedisState::open(url).await?)),
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" => Err(missing("redis")),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Arc::new(crate::PostgresState::open(url).await?)),
        #[cfg(not(feature = "postgres"))]
        "postgres" | "postgresql" => Err(missing("postgres")),
        _ => Err(invalid(
            "a store's url starts with `memory:`, `file:`, `sqlite:`, `redis://`, `rediss://` or `postgres://`",
        )),
    }
}

/// The URL for logs and errors: without what may be a password, which is everything between the first `:` and the last
/// `@`, and the values of parameters whose names have `pass`, `secret`, `token` or `key`. Rather too much is left out than
/// too little.
///
/// ```
/// use logd_statehandlers::redact;
///
/// assert_eq!(redact("redis://anna:secret@host:6379/0"), "redis://anna:***@host:6379/0");
/// ```
pub fn redact(url: &str) -> String {
    // What is no scheme may be a part of a password.
    let split = |end: &str| url.split_once(end).filter(|(scheme, _)| is_scheme(scheme));
    let (scheme, rest) = match (split("://"), split(":")) {
        (Some((scheme, rest)), _) => (format!("{scheme}://"), rest),
        (None, Some((scheme, rest))) => (format!("{scheme}:"), rest),
        (None, None) => (String::new(), url),
    };
    let (user, rest) = match rest.rsplit_once('@') {
        None => (String::new(), rest),
        // What belongs to which cannot be told: a password can have a `?`, and a parameter an `@`.
        Some((user, _)) if user.contains('?') => return format!("{scheme}{REDACTED}"),
        Some((user, rest)) => match user.split_once(':') {
            Some((name, _)) if !name.contains('@') => (format!("{name}:{REDACTED}@"), rest),
            None if scheme.ends_with("://") && !user.contains('@') => (format!("{user}@"), rest),
            _ => (format!("{REDACTED}@"), rest),
        },
    };
    let Some((place, parameters)) = rest.split_once('?') else { return format!("{scheme}{user}{rest}") };
    let parameters: Vec<String> = parameters.split(['&', '#']).map(redact_parameter).collect();
    format!("{scheme}{user}{place}?{}", parameters.join("&"))
}

/// Whether the text can be shown before the `:` that ends it: an option can stand before the scheme, as `--url=redis`.
fn is_scheme(text: &str) -> bool {
    !text.is_empty() && !text.contains([':', '@'])
}

fn redact_parameter(parameter: &str) -> String {
    let Some((name, _)) = parameter.split_once('=') else { return parameter.to_owned() };
    let lower = name.to_ascii_lowercase();
    let is_secret = ["pass", "secret", "token", "key"].iter().any(|word| lower.contains(word));
    if is_secret { format!("{name}={REDACTED}") } else { parameter.to_owned() }
}

/// The path of a URL that has no host.
fn path(rest: &str) -> Result<PathBuf, StateError> {
    let path = match rest.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err(invalid("the url of a file has no host: write `file:path` or `file:///path`")),
        None => rest,
    };
    if path.is_empty() {
        return Err(invalid("the url of a file names its path"));
    }
    Ok(path.into())
}

fn invalid(text: &str) -> StateError {
    StateError::new(StateErrorKind::Invalid, text)
}

#[cfg(not(all(feature = "file", feature = "sqlite", feature = "redis", feature = "postgres")))]
fn missing(feature: &str) -> StateError {
    let text = format!("the store is not compiled in: it needs the feature `{feature}` of `logd-client`");
    StateError::new(StateErrorKind::Unsupported, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(url: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(open(url))
    }

    #[test]
    fn secrets_are_left_out() {
        for (url, redacted) in [
            ("memory:", "memory:"),
            ("file:state/", "file:state/"),
            ("redis://host/0", "redis://host/0"),
            ("redis://:hunter2@host", "redis://:***@host"),
            ("rediss://a:hunter2@host:1/0", "rediss://a:***@host:1/0"),
            ("postgres://a:hun@ter2@host/db", "postgres://a:***@host/db"),
            ("postgres://a:hunter2/?#@host/db", "postgres://***"),
            ("postgres://host/db?password=hunter@2", "postgres://***"),
            ("postgres://a:hunter2%40@[::1]:5432/db?x=1", "postgres://a:***@[::1]:5432/db?x=1"),
            ("postgres://anna@host/db", "postgres://anna@host/db"),
            ("postgres://host/db?user=a&password=hunter2&x=1", "postgres://host/db?user=a&password=***&x=1"),
            ("postgres://host/db?sslPassword=hunter2", "postgres://host/db?sslPassword=***"),
            ("postgres:a:hunter2@host", "postgres:a:***@host"),
            ("a:hunter2@host", "a:***@host"),
            ("a@b:hunter2@c$redis://d:hunter2@host", "***@host"),
            ("a:hunter2@c$redis://d:hunter2@host", "a:***@host"),
            (":hunter2@c$redis://d:hunter2@host", ":***@host"),
        ] {
            assert_eq!(redact(url), redacted);
        }
    }

    #[test]
    fn what_names_no_store_is_refused_without_echo() {
        for url in [
            "",
            "hunter2",
            "a:hunter2@host",
            "mysql://a:hunter2@host",
            "memory:hunter2",
            "file:",
            "file://hunter2/x",
            "file://",
            "FILE:x",
        ] {
            let error = opened(url).unwrap_err();
            assert_eq!(error.kind(), StateErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_missing_feature_is_named() {
        for (url, feature, is_compiled) in [
            ("sqlite:state.db", "sqlite", cfg!(feature = "sqlite")),
            ("redis://:hunter2@host", "redis", cfg!(feature = "redis")),
            ("rediss://:hunter2@host", "redis", cfg!(feature = "redis")),
            ("postgres://a:hunter2@host/db", "postgres", cfg!(feature = "postgres")),
        ] {
            if !is_compiled {
                let error = opened(url).unwrap_err();
                assert_eq!(error.kind(), StateErrorKind::Unsupported);
                assert!(error.to_string().contains(&format!("`{feature}`")), "{error}");
                assert!(!format!("{error:?}").contains("hunter2"));
            }
        }
    }

    #[cfg(feature = "file")]
    #[test]
    fn paths_are_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        for (url, made) in [(format!("file:{path}/a%20b/"), "a%20b"), (format!("file://{path}/c"), "c")] {
            let state = opened(&url).unwrap();
            assert!(state.capabilities().durable);
            assert!(folder.path().join(made).is_dir(), "{url}");
        }
        assert!(opened("memory:").unwrap().admin().is_some());
    }
}
