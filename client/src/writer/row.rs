//! Several batches under way at once, on one connection.
//!
//! Their order is kept when some fail, because a server that knows `dedup` refuses what follows a batch that it has
//! refused: docs/protocol.md, "Dedup".

use std::collections::VecDeque;

use logd_protocol::Batch;
use tokio::time::{Instant, sleep_until};

use super::supply::Next;
use super::task::Task;
use crate::error::{AppendError, Error, ErrorKind};
use crate::session::Appended;

/// What became of a batch of a row.
#[derive(Debug)]
pub(super) enum Sent {
    /// It was not tried.
    Nothing,
    Failed(AppendError),
    Acknowledged(Appended),
}

impl Task {
    /// Sends a batch and those that become ready meanwhile, as many at a time as may be in flight, for as long as
    /// everything goes well and there is always one in flight. What was acknowledged is settled at once.
    ///
    /// Returns what is yet to be settled: nothing, or what was under way when something failed. Where the server cannot
    /// keep the order of a row when it refuses one of it, nothing is sent.
    pub(super) async fn send_row(&mut self, batch: Batch, is_hopeless: bool) -> Vec<(Batch, Sent)> {
        let mut unsent = Some(batch);
        let mut row: VecDeque<(Batch, u64)> = VecDeque::new();
        loop {
            if let Some(batch) = unsent.take() {
                if is_hopeless || !self.shared.limits.dedup || !self.server_dedup {
                    // The first of all is delivered by itself, so that it is known who the server is.
                    return vec![(batch, Sent::Nothing)];
                }
                match self.send(&batch, row.is_empty()).await {
                    Ok(bytes) => row.push_back((batch, bytes)),
                    Err(failure) => return self.wind_up(row, Some((batch, failure))).await,
                }
            }
            let mut due = None;
            // A server that does not know `dedup` after all has what was sent, and gets no more beside it.
            let in_flight_max = if self.server_dedup { self.in_flight_max } else { 1 };
            let is_room = row.len() < in_flight_max;
            if is_room {
                match self.shared.next(Instant::now()) {
                    Next::Send(batch) => {
                        unsent = Some(batch);
                        continue;
                    }
                    Next::Wait(at) => due = Some(at),
                    Next::Drain | Next::Idle | Next::End => {}
                }
            }
            let Some(bytes) = row.front().map(|(_, bytes)| *bytes) else { return Vec::new() };
            let Some(session) = self.link.session() else { return self.wind_up(row, None).await };
            let reply = tokio::select! {
                biased;
                reply = session.batch_reply(bytes) => reply,
                () = self.shared.news(), if is_room => continue,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if is_room && due.is_some() => continue,
            };
            match (reply, row.front()) {
                (Ok(appended), Some((batch, _))) => {
                    let batch = batch.clone();
                    self.acknowledge(&batch, appended).await;
                    row.pop_front();
                }
                (Err(failure), Some((batch, _))) => {
                    let first = (batch.clone(), Sent::Failed(failure));
                    row.pop_front();
                    let mut left = vec![first];
                    left.extend(self.wind_up(row, None).await);
                    return left;
                }
                (_, None) => return Vec::new(),
            }
        }
    }

    /// Hands a batch to the system; the first of a row after making sure that the server is there.
    async fn send(&mut self, batch: &Batch, is_first: bool) -> Result<u64, AppendError> {
        let session = if is_first {
            self.link.ready_to_append().await.map_err(AppendError::not_written)?
        } else {
            let gone = || Error::new(ErrorKind::Disconnected, "the connection has ended");
            self.link.session().ok_or_else(gone).map_err(AppendError::not_written)?
        };
        self.server_dedup = session.has_dedup();
        self.knows_server = true;
        session.send_batch(batch).await
    }

    /// Sends these batches, as a row where the server keeps its order, and takes their answers. Returns what became of
    /// each; those that are missing were not tried.
    pub(super) async fn send_all(&mut self, batches: &[Batch]) -> Vec<Sent> {
        let mut row = VecDeque::new();
        let mut unsent = None;
        let writer_of = |batch: &Batch| batch.id().map(|id| id.writer);
        let first = batches.first().and_then(writer_of);
        for batch in batches {
            if writer_of(batch) != first {
                // A server refuses what follows a refused batch only where both are of one writer.
                break;
            }
            match self.send(batch, row.is_empty()).await {
                Ok(bytes) => row.push_back((batch.clone(), bytes)),
                Err(failure) => {
                    unsent = Some((batch.clone(), failure));
                    break;
                }
            }
            if !self.server_dedup || batch.id().is_none() {
                break;
            }
        }
        self.wind_up(row, unsent).await.into_iter().map(|(_, sent)| sent).collect()
    }

    /// Takes the answers that still come. `unsent` is a batch that was not sent.
    async fn wind_up(
        &mut self,
        row: VecDeque<(Batch, u64)>,
        unsent: Option<(Batch, AppendError)>,
    ) -> Vec<(Batch, Sent)> {
        let mut left = Vec::with_capacity(row.len() + 1);
        for (batch, bytes) in row {
            let result = match self.link.session() {
                Some(session) if session.has_ended() => {
                    let text = "the server ended the connection before the batch was done";
                    Err(AppendError::not_written(Error::new(ErrorKind::Disconnected, text)))
                }
                Some(session) => session.batch_reply(bytes).await,
                None => {
                    let text = "the connection ended before the answer";
                    Err(AppendError::unknown(Error::new(ErrorKind::Disconnected, text)))
                }
            };
            left.push(match result {
                Ok(appended) => (batch, Sent::Acknowledged(appended)),
                Err(failure) => (batch, Sent::Failed(failure)),
            });
        }
        left.extend(unsent.map(|(batch, failure)| (batch, Sent::Failed(failure))));
        left
    }
}
