//! The file store passes the suite.
#![cfg(all(feature = "file", feature = "conformance"))]

#[cfg(target_os = "linux")]
#[path = "file/calls.rs"]
mod calls;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use logd_protocol::checksum;
use logd_statehandlers::conformance::{Disk, Fixture, FixtureError, LeaseEnd, RawAccess};
use logd_statehandlers::{ConsumerKey, FileState, StateError, StateHandler, async_trait};
use tempfile::TempDir;

struct FileFixture(TempDir);

#[async_trait]
impl Fixture for FileFixture {
    async fn new() -> Result<Self, FixtureError> {
        Ok(Self(tempfile::tempdir()?))
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(FileState::open(self.0.path()).await?))
    }

    fn name() -> String {
        "FileState".into()
    }

    fn lease_end(&self) -> LeaseEnd {
        LeaseEnd::Holder
    }

    fn location(&self) -> Option<String> {
        self.0.path().to_str().map(str::to_owned)
    }

    async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(FileState::open_existing(location).await?))
    }

    fn raw(&self) -> Option<&dyn RawAccess> {
        Some(self)
    }
}

impl FileFixture {
    /// The suite's names with access to what is stored are plain ones.
    fn path(&self, key: &ConsumerKey) -> PathBuf {
        let topic = self.0.path().join(key.namespace()).join(key.topic().as_str());
        topic.join(format!("{}.ckpt", key.consumer()))
    }
}

#[async_trait]
impl RawAccess for FileFixture {
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
        Ok(fs::read(self.path(key))?)
    }

    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
        let path = self.path(key);
        fs::metadata(&path)?;
        Ok(fs::write(path, bytes)?)
    }

    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        let file = fs::read(self.path(key))?;
        let fields = file.split(|byte| *byte == b'\n').nth(1).ok_or("the record has no second line")?;
        let content = [fields, b"\n", body, b"\n"].concat();
        let crc = checksum(&[&b"logd-state 1\n"[..], &content].concat());
        let first = format!("logd-state 1 {crc:08x} {}\n", content.len());
        self.write(key, &[first.as_bytes(), &content].concat()).await
    }

    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn has_checksum(&self) -> bool {
        true
    }
}

logd_statehandlers::conformance!(FileFixture);

/// The same on a file system that can be full.
struct SmallFixture(FileFixture);

#[async_trait]
impl Fixture for SmallFixture {
    async fn new() -> Result<Self, FixtureError> {
        let folder = tempfile::tempdir()?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(folder.path())
            .output()?;
        if mount.status.success() {
            return Ok(Self(FileFixture(folder)));
        }
        Err(String::from_utf8_lossy(&mount.stderr).into())
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        self.0.open().await
    }

    fn disk(&self) -> Option<&dyn Disk> {
        Some(self)
    }
}

impl Drop for SmallFixture {
    fn drop(&mut self) {
        // Lazily, as a handler may still have files open. A failure leaves a mount behind that hurts nobody.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.0.path()).status();
    }
}

#[async_trait]
impl Disk for SmallFixture {
    async fn fill(&self) -> Result<(), FixtureError> {
        let ballast = self.0.0.path().join("ballast");
        let mut bytes = vec![0; 64 * 1024];
        // As much as there is room for.
        while fs::write(&ballast, &bytes).is_err() {
            let less = bytes.len().checked_sub(1024).ok_or("there is no room for a ballast")?;
            bytes.truncate(less);
        }
        Ok(())
    }

    async fn free(&self) -> Result<(), FixtureError> {
        Ok(fs::remove_file(self.0.0.path().join("ballast"))?)
    }
}

#[test]
fn full_disk_keeps_the_previous() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    if let Err(error) = runtime.block_on(SmallFixture::new()) {
        return eprintln!("NOT TESTED: no file system to run full can be mounted here: {error}");
    }
    logd_statehandlers::conformance::run::<SmallFixture>(
        "durable::full_disk_keeps_the_previous",
        module_path!(),
    );
}
