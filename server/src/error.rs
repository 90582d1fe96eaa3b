//! Why the server cannot start, or ends.

use std::io;
use std::path::PathBuf;

use logd_protocol::TopicName;
use thiserror::Error;

use crate::config::ConfigError;
use crate::log::{OpenError, SyncError};

/// Why the server did not start. Nothing has been changed, but for directories and files that were missing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is impossible.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("cannot listen on `{host}`: {source}{hint}")]
    Listen {
        /// The address of the setting `host`.
        host: String,
        /// What the system said.
        source: io::Error,
        /// What to try.
        hint: &'static str,
    },
    /// The working directory cannot be used.
    #[error("cannot use the work directory `{dir}`: {source}", dir = dir.display())]
    Workdir {
        /// The directory of the setting `workdir`.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another server has the working directory.
    #[error(
        "the work directory `{dir}` is in use by another logd{holder}; stop it, or choose another directory with --workdir",
        dir = dir.display()
    )]
    WorkdirInUse {
        /// The directory of the setting `workdir`.
        dir: PathBuf,
        /// ` (process 1234)`, where it is known.
        holder: String,
    },
    /// A topic cannot be opened.
    #[error("cannot open topic `{topic}`: {source}")]
    Topic {
        /// The topic.
        topic: TopicName,
        /// Why not.
        source: OpenError,
    },
}

/// What went wrong while the server ended. Everything acknowledged under a guarantee is where the guarantee says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The last sync of a topic failed.
    #[error("topic `{topic}` could not be synced at the end: {source}")]
    Sync {
        /// The topic.
        topic: TopicName,
        /// What the file system said.
        source: SyncError,
    },
    /// The task that closes the topics ended early.
    #[error("the topics were not closed: {0}")]
    Close(io::Error),
}
