//! What comes next is not there: dropped before it was read, or the topic is another one than it was.

use logd_statehandlers::{Checkpoint, Position};
use tokio::time::Instant;

use super::Consumer;
use super::begin::dropped;
use super::policy::WhenGone;
use super::verify::{Verdict, verify};
use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::scanner::Start;

impl Consumer {
    /// Finds out why the scanner has not found what comes next, and goes on where that is wanted.
    ///
    /// It can be dropped at any point, and done again.
    pub(super) async fn find_out(&mut self) {
        let Some(lost) = self.lost.clone() else { return };
        let (read, is_new) = {
            let state = self.shared.lock();
            let mut read = Checkpoint::at(state.tracker.taken());
            read.anchor = state.tracker.last_batch();
            (read, state.committed.is_none() && state.tracker.delivered().is_none())
        };
        let mut client = Client::new(self.config.clone());
        let verdict = verify(&mut client, self.shared.key.topic(), &read).await;
        self.lost = None;
        let goes_on = self.when_gone == WhenGone::Jump;
        match verdict {
            Err(error) => self.shared.fail(error),
            Ok(Verdict::Fits { .. }) => self.shared.fail(lost),
            Ok(Verdict::Dropped { oldest }) => {
                let gap = dropped(&self.shared.key, read.next.offset, oldest);
                if is_new {
                    // Nothing was promised yet about the oldest there was.
                } else if goes_on {
                    self.shared.complain(gap);
                } else {
                    return self.shared.fail(gap);
                }
                self.pass_to(read.next, Position::at(oldest));
            }
            Ok(Verdict::Other { oldest, why }) => {
                let gap = Error::new(ErrorKind::Gap { from: read.next.offset, to: oldest }, why);
                if !goes_on {
                    return self.shared.fail(gap);
                }
                self.shared.complain(gap);
                self.is_jumping = true;
                self.shared.lock().jump = Some(Position::at(oldest));
                self.shared.work.notify_one();
            }
        }
    }

    /// Goes on behind what was dropped.
    fn pass_to(&mut self, from: Position, to: Position) {
        match self.builder.clone().start(Start::At(to)).open() {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(error) => return self.shared.fail(error),
        }
        let mut state = self.shared.lock();
        state.tracker.pass(from, to, None, Instant::now());
        self.shared.is_unstored(&mut state);
    }
}
