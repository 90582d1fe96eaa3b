//! The end of a phase, as the connections hear of it.
//!
//! First no request is begun any more; those under way are waited for. When that is too long, they are abandoned. A
//! phase never goes back.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Ending,
    Over,
}

/// Ends a phase. Dropping it abandons what is under way.
#[derive(Debug)]
pub(super) struct Stopper(watch::Sender<Stage>);

/// Tells of the end of a phase.
#[derive(Debug, Clone)]
pub(super) struct Stop(watch::Receiver<Stage>);

pub(super) fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// No request is begun any more.
    pub(super) fn end(&self) {
        self.reach(Stage::Ending);
    }

    /// What is under way is not waited for any more.
    pub(super) fn abandon(&self) {
        self.reach(Stage::Over);
    }

    fn reach(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let is_later = stage > *now;
            *now = stage.max(*now);
            is_later
        });
    }
}

impl Stop {
    pub(super) fn is_running(&self) -> bool {
        *self.0.borrow() == Stage::Running
    }

    /// Completes when no request shall be begun any more.
    pub(super) async fn ending(&self) {
        self.reached(Stage::Ending).await;
    }

    /// Completes when what is under way shall be abandoned.
    pub(super) async fn over(&self) {
        self.reached(Stage::Over).await;
    }

    async fn reached(&self, stage: Stage) {
        // Without a sender the phase is over.
        let _ = self.0.clone().wait_for(|now| *now >= stage).await;
    }
}
