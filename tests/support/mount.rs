//! A file system of a few megabytes, to run it full.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A mounted tmpfs that is unmounted with the value.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one with `options`, as `mount -o` takes them. On failure says why not: it takes root, and a machine that
    /// allows mounts.
    ///
    /// # Errors
    /// What `mount` said.
    pub fn mount(options: &str) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(folder.path())
            .output()
            .map_err(|error| format!("`mount` cannot be started: {error}"))?;
        if output.status.success() {
            Ok(Self { folder })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// The folder that it is mounted on.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Mounts it anew with other options, such as `ro` or another size.
    ///
    /// # Panics
    /// When `mount` fails.
    pub fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.path())
            .status()
            .expect("`mount` can be started");
        assert!(status.success(), "remounting with `{options}` failed");
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily, as a server that is about to end can still have files open. A failure leaves a mount behind that
        // hurts nobody.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
