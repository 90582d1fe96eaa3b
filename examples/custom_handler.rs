//! A store of checkpoints by hand: `get` and `complete`, over a folder with a file in JSON for each reader.
//!
//!     cargo run --release                                                 # in one terminal: the server
//!     seq 10 | cargo run -p logd-cli -- write                             # in another: ten messages
//!     cargo run -p logd-examples --example custom_handler                 # all ten
//!     cargo run -p logd-examples --example custom_handler                 # none
//!     cat custom-state/default/default/custom.json
//!     cargo test -p logd-examples --example custom_handler                # the suite that every store passes
//!
//! What it stored survives a kill; a power cut can bring back the checkpoint before. It has no leases, and so there is no
//! `exclusive` with it: see to it that one process at a time uses the folder.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use logd_client::{
    Capabilities, Checkpoint, ClientConfig, Committed, Consumer, ConsumerKey, Fence, StateError,
    StateErrorKind, StateHandler, TopicName, async_trait,
};

/// A folder with a file for each reader. The lock is held from reading a file until it is replaced.
#[derive(Debug)]
struct JsonState(Arc<Mutex<PathBuf>>);

#[async_trait]
impl StateHandler for JsonState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        self.with(key, read).await
    }

    async fn complete(&self, key: &ConsumerKey, new: &Checkpoint, _: Fence) -> Result<Committed, StateError> {
        let body = new.encode().map_err(|error| StateError::body("it was not stored", error))?;
        let new = new.clone();
        self.with(key, move |path| match read(path)? {
            Some(old) if old.next > new.next => Err(StateError::stale("it was not stored", old.next)),
            Some(old) if old == new => Ok(Committed::Unchanged),
            _ => replace(path, &body).map(|()| Committed::Stored).map_err(|error| failed(path, error)),
        })
        .await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_durable()
    }
}

/// Only a file that is not there is a reader that never was. An empty or damaged one is an error.
fn read(path: &Path) -> Result<Option<Checkpoint>, StateError> {
    match fs::read(path) {
        Ok(body) => {
            Checkpoint::decode(&body).map(Some).map_err(|error| StateError::body(path.display(), error))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// Whoever is killed in here leaves the old file or the new one, never a part.
fn replace(path: &Path, body: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    fs::create_dir_all(path.parent().unwrap_or(path))?;
    let mut file = File::create(&next)?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::rename(&next, path)
}

fn failed(path: &Path, error: io::Error) -> StateError {
    StateError::caused(StateErrorKind::Failed, path.display(), error)
}

impl JsonState {
    fn open(dir: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Mutex::new(dir.into())))
    }

    /// Works on the file of a key, where it may block, and to the end, whoever still waits for it.
    async fn with<T: Send + 'static>(
        &self,
        key: &ConsumerKey,
        work: impl FnOnce(&Path) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let (dir, place) = (Arc::clone(&self.0), place(key));
        let working = tokio::task::spawn_blocking(move || {
            let dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
            work(&dir.join(place))
        });
        working.await.unwrap_or_else(|error| {
            Err(StateError::caused(StateErrorKind::Ambiguous, "it was not done to its end", error))
        })
    }
}

/// A file of its own for each key: names can have anything in them, a topic's is that of a folder as it is.
fn place(key: &ConsumerKey) -> PathBuf {
    let plain = |name: &str| {
        name.bytes().fold(String::new(), |mut plain, byte| {
            // Upper case is written as numbers, too, for file systems that take it for lower case.
            let _ = match byte {
                b'a'..=b'z' | b'0'..=b'9' | b'-' => write!(plain, "{}", char::from(byte)),
                _ => write!(plain, "%{byte:02x}"),
            };
            plain
        })
    };
    Path::new(&plain(key.namespace())).join(key.topic().as_str()).join(plain(key.consumer()) + ".json")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "custom-state".into());
    let host = arguments.next().unwrap_or_else(|| ClientConfig::HOST_DEFAULT.into());

    let state = Arc::new(JsonState::open(dir));
    let key = ConsumerKey::new(TopicName::default(), "custom")?;
    let mut consumer = Consumer::builder(ClientConfig::new(host), state, key).follow(false).open().await?;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        println!("{}  {}", delivery.position(), String::from_utf8_lossy(delivery.bytes()));
        delivery.ack();
    }
    consumer.shutdown(Duration::from_secs(5)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use logd_client::conformance::{Fixture, FixtureError, RawAccess};
    use tempfile::TempDir;

    use super::*;

    struct JsonFixture(TempDir);

    #[async_trait]
    impl Fixture for JsonFixture {
        async fn new() -> Result<Self, FixtureError> {
            Ok(Self(tempfile::tempdir()?))
        }

        async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
            Ok(Arc::new(JsonState::open(self.0.path())))
        }

        fn name() -> String {
            "JsonState".into()
        }

        fn is_shared(&self) -> bool {
            false
        }

        fn location(&self) -> Option<String> {
            self.0.path().to_str().map(str::to_owned)
        }

        async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
            Ok(Arc::new(JsonState::open(location)))
        }

        fn raw(&self) -> Option<&dyn RawAccess> {
            Some(self)
        }
    }

    #[async_trait]
    impl RawAccess for JsonFixture {
        async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
            Ok(fs::read(self.0.path().join(place(key)))?)
        }

        async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
            Ok(fs::write(self.0.path().join(place(key)), bytes)?)
        }

        async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
            Ok(fs::remove_file(self.0.path().join(place(key)))?)
        }
    }

    logd_client::conformance!(JsonFixture);
}
