//! What comes next is not there: dropped before it was read, or the topic is another one than it was.

use logd_statehandlers::{Checkpoint, Position};

use super::Consumer;
use super::begin::dropped;
use super::policy::WhenGone;
use super::verify::{Verdict, verify};
use crate::client::Client;
use crate::error::{Error, ErrorKind};

impl Consumer {
    /// Finds out why the scanner has not found what comes next, and goes on where that is wanted.
    ///
    /// It can be dropped at any point, and done again.
    pub(super) async fn find_out(&mut self) {
        let Some(lost) = self.lost.clone() else { return };
        let (read, is_new, generation) = {
            let state = self.shared.lock();
            let mut read = Checkpoint::at(state.tracker.taken());
            read.anchor = state.tracker.last_batch();
            (read, state.committed.is_none() && state.tracker.delivered().is_none(), state.generation)
        };
        let mut client = Client::new(self.config.clone());
        let verdict = verify(&mut client, self.shared.key.topic(), &read).await;
        self.lost = None;
        let goes_on = self.when_gone == WhenGone::Jump;
        let mut state = self.shared.lock();
        if state.generation != generation {
            // Reading begins anew: what was not found is not looked for any more.
            return;
        }
        match verdict {
            Err(error) => self.shared.fail_locked(&mut state, error),
            Ok(Verdict::Fits { .. }) => self.shared.fail_locked(&mut state, lost),
            Ok(Verdict::Dropped { oldest }) => {
                let gap = dropped(&self.shared.key, read.next.offset, oldest);
                if is_new {
                    // Nothing was promised yet about the oldest there was.
                } else if goes_on {
                    self.shared.complain_locked(&mut state, gap);
                } else {
                    return self.shared.fail_locked(&mut state, gap);
                }
                drop(state);
                let oldest = Position::at(oldest);
                // It is passed once it was told.
                self.passing = Some(oldest);
                self.scan_from(oldest);
            }
            Ok(Verdict::Other { oldest, why }) => {
                let gap = Error::new(ErrorKind::Gap { from: read.next.offset, to: oldest }, why);
                if !goes_on {
                    return self.shared.fail_locked(&mut state, gap);
                }
                self.shared.complain_locked(&mut state, gap);
                self.is_jumping = true;
                state.jump = Some(Position::at(oldest));
                self.shared.work.notify_one();
            }
        }
    }
}
