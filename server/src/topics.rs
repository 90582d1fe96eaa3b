//! The topics of a server: which there are, and which may come.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use logd_protocol::{Reason, TopicName, TopicRef};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::Config;
use crate::disk::Disk;
use crate::error::{ServeError, StartError};
use crate::host::Host;
use crate::log::{Finding, Log, LogConfig, OpenError};
use crate::throttle::Throttle;
use crate::topic::Topic;
use crate::watch;

#[derive(Debug)]
pub(crate) struct Topics {
    disk: Arc<dyn Disk>,
    host: Host,
    workdir: PathBuf,
    log_config: LogConfig,
    /// 0 stands for any number.
    topics_max: usize,
    whitelist: Vec<TopicName>,
    by_name: RwLock<HashMap<TopicName, Arc<Topic>>>,
    /// Held while a topic is created. Those who wait for it take no thread.
    creating: Arc<Mutex<()>>,
    /// For topics that were not created.
    failures: Throttle,
    /// Changes when a topic has come into being.
    created: watch::Sender<()>,
}

/// What becomes of a topic that a batch is for.
pub(crate) enum Begun {
    There(Arc<Topic>),
    /// Whoever has this creates it.
    New(OwnedMutexGuard<()>),
}

impl Topics {
    /// Opens every topic that has a directory, and `default`.
    pub(crate) fn open(disk: Arc<dyn Disk>, host: Host, config: &Config) -> Result<Self, StartError> {
        let topics = Self {
            disk,
            host,
            workdir: config.workdir.clone(),
            log_config: LogConfig {
                partition_bytes: config.partition_bytes,
                partitions: config.partitions,
                flush_batches: config.flush_batches,
            },
            topics_max: config.topics,
            whitelist: config.topics_whitelist.clone(),
            by_name: RwLock::default(),
            creating: Arc::default(),
            failures: Throttle::default(),
            created: watch::Sender::new(()),
        };
        let entries = topics
            .disk
            .list(&topics.workdir)
            .map_err(|source| StartError::Workdir { dir: topics.workdir.clone(), source })?;
        let names = entries.into_iter().filter(|entry| entry.is_dir && !entry.name.starts_with('.'));
        for entry in names {
            match TopicName::new(&entry.name) {
                Ok(name) => topics.add(name)?,
                Err(error) => tracing::warn!(directory = entry.name, %error, "a directory is not served"),
            }
        }
        if topics.get(TopicName::default().as_topic()).is_none() {
            topics.add(TopicName::default())?;
        }
        Ok(topics)
    }

    fn add(&self, name: TopicName) -> Result<(), StartError> {
        self.open_topic(name.clone()).map_err(|source| StartError::Topic { topic: name, source })
    }

    fn open_topic(&self, name: TopicName) -> Result<(), OpenError> {
        let dir = self.workdir.join(name.as_str());
        let (log, findings) = Log::open(Arc::clone(&self.disk), dir, self.log_config.clone())?;
        for finding in findings {
            report(&name, &finding);
        }
        let extent = log.view().extent();
        tracing::info!(
            topic = %name,
            oldest = %extent.oldest,
            next = %extent.next,
            batches = extent.batches,
            bytes = extent.bytes,
            partitions = extent.partitions,
            "topic opened"
        );
        let topic = Arc::new(Topic::new(name.clone(), log, self.host.clone()));
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name, topic);
        self.created.announce();
        Ok(())
    }

    pub(crate) fn get(&self, name: TopicRef<'_>) -> Option<Arc<Topic>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name.as_str()).cloned()
    }

    /// Every topic, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let mut topics: Vec<Arc<Topic>> = by_name.values().cloned().collect();
        topics.sort_by(|one, other| one.name().cmp(other.name()));
        topics
    }

    pub(crate) fn count(&self) -> usize {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A receiver that changes when a topic has come into being.
    pub(crate) fn created(&self) -> watch::Receiver<()> {
        self.created.subscribe()
    }

    /// Whether batches for the topic are taken: `default` always, others if the list is empty or names them.
    pub(crate) fn is_allowed(&self, name: TopicRef<'_>) -> bool {
        self.whitelist.is_empty()
            || name == TopicName::default().as_topic()
            || self.whitelist.iter().any(|allowed| allowed.as_topic() == name)
    }

    /// The topic, if it is there; otherwise the right to [create](Topics::create) it, when others have had theirs.
    pub(crate) async fn get_or_begin(&self, name: TopicRef<'_>) -> Result<Begun, Reason> {
        // No topic ever goes, so that those that are too many do not wait.
        if let Some(topic) = self.get_or_refuse(name)? {
            return Ok(Begun::There(topic));
        }
        let right = Arc::clone(&self.creating).lock_owned().await;
        Ok(self.get_or_refuse(name)?.map_or(Begun::New(right), Begun::There))
    }

    /// The topic; `None` where it can be created, and refused where there are too many for that.
    fn get_or_refuse(&self, name: TopicRef<'_>) -> Result<Option<Arc<Topic>>, Reason> {
        // Looked at first: the topic may be the last one that others have just created.
        let is_full = self.topics_max > 0 && self.count() >= self.topics_max;
        match self.get(name) {
            None if is_full => Err(Reason::MaximumTopics),
            found => Ok(found),
        }
    }

    /// Creates a topic that is not there, with the right to do so, which is given back with the result. Blocks.
    pub(crate) fn create(&self, name: &TopicName, right: OwnedMutexGuard<()>) -> Result<Arc<Topic>, Reason> {
        let _one_at_a_time = right;
        self.open_topic(name.clone()).map_err(|error| {
            if let Some(held_back) = self.failures.pass() {
                tracing::error!(topic = %name, %error, held_back, "a topic was not created");
            }
            match error {
                OpenError::Io { source, .. } if crate::disk::is_disk_full(&source) => Reason::DiskFull,
                _ => Reason::StorageFailed,
            }
        })?;
        self.get(name.as_topic()).ok_or(Reason::StorageFailed)
    }

    /// Syncs and closes every topic. Blocks. The first error is returned, after all have been tried.
    pub(crate) fn close(&self) -> Result<(), ServeError> {
        let mut result = Ok(());
        for topic in self.all() {
            if let Err(source) = topic.log().close() {
                tracing::error!(topic = %topic.name(), error = %source, "the topic was not synced");
                result = result.and(Err(ServeError::Sync { topic: topic.name().clone(), source }));
            }
        }
        result
    }
}

fn report(topic: &TopicName, finding: &Finding) {
    match finding {
        Finding::TornTail { offset, bytes, kept_in } => tracing::warn!(
            %topic, offset, bytes, kept_in = %kept_in.display(),
            "the topic ended in bytes that are no batch; they were cut off and are kept"
        ),
        Finding::Damage { from, to } => {
            tracing::error!(%topic, from, to, "batches are damaged and lost; readers are led past them");
        }
        Finding::IndexRebuilt { partition } => tracing::info!(%topic, partition, "an index was made anew"),
        Finding::EmptyFileRemoved { path } => {
            tracing::info!(%topic, path = %path.display(), "an empty partition file was removed");
        }
    }
}
