//! The task that buries dead letters, beside everything else: a grave that takes its time holds no checkpoint up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::warn;

use super::policy::Grave;
use super::received::DeliveryId;
use super::shared::Shared;

/// How long after a dead letter could not be buried it is tried again.
const GRAVE_PAUSE: Duration = Duration::from_secs(1);

/// Buries what is dead until it is told to stop. What is not buried then comes again.
pub(super) async fn bury_all(shared: Arc<Shared>, mut grave: Grave, mut stop: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = shared.burials.notified() => {}
        }
        tokio::select! {
            biased;
            _ = &mut stop => return,
            () = bury_waiting(&shared, &mut grave) => {}
        }
    }
}

async fn bury_waiting(shared: &Shared, grave: &mut Grave) {
    let Some(grave) = &mut grave.0 else { return };
    loop {
        let Some(dead) = shared.lock().dead.front().cloned() else { return };
        let message = dead.lot.message(dead.span);
        let id = DeliveryId { topic: shared.key.topic().clone(), position: message.position };
        match grave.bury(&id, &message, dead.returned).await {
            Ok(()) => {
                let mut state = shared.lock();
                if state.generation == dead.lot.generation {
                    state.dead.pop_front();
                }
                drop(state);
                shared.ack(&dead);
            }
            Err(error) => {
                warn!(%id, %error, "a dead letter could not be buried; it is tried again");
                sleep(GRAVE_PAUSE).await;
            }
        }
    }
}
