//! A store that a URL names.
//!
//! Looking at a store makes none: a mistyped path is a failure, not an empty store.

use std::sync::Arc;

use logd_client::{
    ConsumerKey, FileState, PostgresState, StateAdmin, StateEntry, StateError, StateErrorKind, StateHandler,
    open_state,
};

use super::key::Word;
use crate::args::state::{Keys, StoreUrl};
use crate::exit::{Exit, Failure};
use crate::output::complain;

/// What to do where there is no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make it.
    Make,
    /// It is a failure.
    Refuse,
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    handler: Arc<dyn StateHandler>,
    url: StoreUrl,
}

impl Store {
    pub(super) async fn open(url: &StoreUrl, missing: Missing) -> Result<Self, Failure> {
        match opened(url.secret(), missing).await {
            Ok(handler) => Ok(Self { handler, url: url.clone() }),
            Err(error) => {
                let failure = Failure::from(error.clone());
                Err(if error.kind() == StateErrorKind::Invalid {
                    // What is not understood at all is not told either: a password could be anywhere in it.
                    Failure::new(Exit::Usage, format!("the store cannot be opened: {failure}"))
                } else {
                    Failure::new(failure.exit, format!("the store `{url}` cannot be opened: {failure}"))
                })
            }
        }
    }

    /// The store and the checkpoints that were asked for, in the order of the keys.
    pub(super) async fn open_for(keys: &Keys) -> Result<(Self, Vec<StateEntry>), Failure> {
        let store = Self::open(&keys.store.state, Missing::Refuse).await?;
        let mut entries = store.list().await?;
        if !keys.keys.is_empty() {
            if let Some(absent) = keys.keys.iter().find(|key| entries.iter().all(|entry| entry.key != **key))
            {
                return Err(store.absent(absent));
            }
            entries.retain(|entry| keys.keys.contains(&entry.key));
        }
        Ok((store, entries))
    }

    pub(super) fn admin(&self) -> Result<&dyn StateAdmin, Failure> {
        self.handler.admin().ok_or_else(|| Failure::failed("the store cannot list and reset checkpoints"))
    }

    pub(super) fn handler(&self) -> &dyn StateHandler {
        &*self.handler
    }

    pub(super) const fn url(&self) -> &StoreUrl {
        &self.url
    }

    pub(super) async fn list(&self) -> Result<Vec<StateEntry>, Failure> {
        self.admin()?.list().await.map_err(|error| {
            let failure = Failure::from(error);
            Failure::new(failure.exit, format!("`{}`: {failure}", self.url))
        })
    }

    /// What the store has of a key.
    pub(super) async fn find(&self, key: &ConsumerKey) -> Result<Option<StateEntry>, Failure> {
        Ok(self.list().await?.into_iter().find(|entry| entry.key == *key))
    }

    pub(super) fn absent(&self, key: &ConsumerKey) -> Failure {
        let text = format!(
            "`{}` has no checkpoint of `{}`; `state ls` lists those that it has",
            self.url,
            Word(key)
        );
        Failure::failed(text)
    }

    /// Gives back what the store holds. Everything is done by then: a failure is only told.
    pub(super) async fn close(self) {
        if let Err(error) = self.handler.close().await {
            complain(&format_args!("the store was not closed: {error}"));
        }
    }
}

async fn opened(url: &str, missing: Missing) -> Result<Arc<dyn StateHandler>, StateError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    match (missing, scheme) {
        (_, "memory") => {
            let text = "`memory:` ends with its process, and no other can look at it";
            Err(StateError::new(StateErrorKind::Invalid, text))
        }
        (Missing::Refuse, "file") if path(url).is_some() => {
            Ok(Arc::new(FileState::open_existing(path(url).unwrap_or_default()).await?))
        }
        (Missing::Refuse, "sqlite") if !url.contains("create=") => {
            let separator = if url.contains('?') { '&' } else { '?' };
            open_state(&format!("{url}{separator}create=false")).await
        }
        (Missing::Refuse, "postgres" | "postgresql") => {
            Ok(Arc::new(PostgresState::builder(url).without_migration().open().await?))
        }
        _ => open_state(url).await,
    }
}

/// The path of the URL of a file, in the two forms that `open_state` knows.
fn path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("file:")?;
    let path = match rest.strip_prefix("//") {
        Some(path) => path.starts_with('/').then_some(path)?,
        None => rest,
    };
    (!path.is_empty()).then_some(path)
}
