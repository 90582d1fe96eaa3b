//! READ and TAIL: finding the batches, waiting for them at the head, having the kernel send them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{Command, Offset, Reason, Response, TopicName};
use tokio::time::Instant;

use super::Connection;
use super::scratch::with_scratch;
use crate::input::Received;
use crate::log::{ReadError, Selection};
use crate::send::SendError;
use crate::topic::Topic;
use crate::watch;

/// A READ or TAIL, with a topic that is there or may come.
pub(super) struct Read {
    pub(super) command: Command,
    pub(super) topic: Result<Arc<Topic>, TopicName>,
    /// `None` reads from the oldest batch.
    pub(super) offset: Option<Offset>,
    pub(super) messages: u64,
    pub(super) wait: Option<Duration>,
}

impl Read {
    /// Whether there is nothing to answer it with now, and something is waited for.
    pub(super) fn has_to_wait(&self) -> bool {
        let is_there =
            |topic: &Arc<Topic>| self.offset.is_none_or(|offset| offset != topic.log().view().extent().next);
        self.wait.is_some() && !self.topic.as_ref().is_ok_and(is_there)
    }

    fn select(&self) -> Result<(&Arc<Topic>, Selection), Reason> {
        let topic = self.topic.as_ref().map_err(|_| Reason::NotFound)?;
        let view = topic.log().view();
        let selected = with_scratch(|scratch| match self.offset {
            Some(offset) => view.select(offset, self.messages, scratch),
            None => view.select_oldest(self.messages, scratch),
        });
        selected.map(|selection| (topic, selection)).map_err(|error| match error {
            ReadError::NotFound => Reason::NotFound,
            ReadError::Io(error) => {
                if let Some(held_back) = topic.unreadable().pass() {
                    tracing::error!(topic = %topic.name(), %error, held_back, "a read failed");
                }
                Reason::StorageFailed
            }
        })
    }
}

/// Why a connection is closed in the middle of an answer: its peer sees no more than that, and the log says it.
fn broken_off(topic: &Topic, error: SendError) -> io::Error {
    if let SendError::Partition { .. } = &error
        && let Some(held_back) = topic.unreadable().pass()
    {
        tracing::error!(topic = %topic.name(), %error, held_back, "an answer broke off, and its connection is closed");
    }
    match error {
        SendError::Peer(source) | SendError::Partition { source, .. } => source,
    }
}

impl Connection<'_> {
    /// Answers a READ or TAIL.
    pub(super) async fn read(&mut self, mut read: Read) -> io::Result<()> {
        if let Some(wait) = read.wait {
            self.output.flush().await?;
            self.wait(&mut read, Instant::now() + wait).await?;
        }
        match read.select() {
            Ok((topic, selection)) => {
                self.work = self.work.saturating_add(selection.bytes());
                self.output.put(&Response::Found { offset: selection.offset, batches: selection.batches });
                let sent = self.output.flush_and_send(&selection).await;
                sent.map_err(|error| broken_off(topic, error))
            }
            Err(reason) => {
                self.shared.stats.error(Some(read.command));
                self.output.put(&Response::Error(reason));
                Ok(())
            }
        }
    }

    /// Waits for a batch while the offset is that of the next one, or while the topic is not there, until there is
    /// something to read or the time is up.
    async fn wait(&mut self, read: &mut Read, deadline: Instant) -> io::Result<()> {
        let mut created = self.shared.topics.created();
        while let Err(name) = &read.topic {
            if let Some(found) = self.shared.topics.get(name.as_topic()) {
                read.topic = Ok(found);
            } else if !self.wait_for_change(&mut created, deadline).await? {
                return Ok(());
            }
        }
        let Ok(topic) = &read.topic else { return Ok(()) };
        let mut grown = topic.grown();
        while read.offset.is_some_and(|offset| offset == topic.log().view().extent().next) {
            if !self.wait_for_change(&mut grown, deadline).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Waits for a change; `false` when the time is up or the server ends. An error when the peer is gone.
    async fn wait_for_change(
        &mut self,
        changed: &mut watch::Receiver<()>,
        deadline: Instant,
    ) -> io::Result<bool> {
        self.input.release();
        loop {
            tokio::select! {
                biased;
                () = changed.changed() => return Ok(true),
                () = tokio::time::sleep_until(deadline) => return Ok(false),
                () = self.shutdown.wait_for(|is_down| *is_down) => return Ok(false),
                ready = self.socket.readable(), if self.input.has_room() => {
                    ready?;
                    match self.input.read(self.socket, 1)? {
                        Received::Bytes(bytes) => self.shared.stats.received(bytes),
                        // A peer that sends no more is answered at once: it may be gone, and would be waited for.
                        Received::End => return Ok(false),
                        // Who waits has no buffer.
                        Received::Nothing => self.input.release(),
                    }
                }
            }
        }
    }
}
