//! A value that changes, and those who wait for it: woken in the order in which they began to wait.
//!
//! tokio's own `watch` spreads those who wait over several queues by chance, so that the order differs from run to run,
//! and takes the lock of each of them for every change. Here there is one queue.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

/// Changes the value. The value starts unchanged for every [`Receiver`].
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Sees the value, and waits for changes of it.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The change that was seen last.
    seen: u64,
}

#[derive(Debug)]
struct Shared<T> {
    value: RwLock<T>,
    /// How many changes there were; counted behind the change.
    changes: AtomicU64,
    changed: Notify,
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        let (value, changes) = (RwLock::new(value), AtomicU64::new(0));
        Self(Arc::new(Shared { value, changes, changed: Notify::new() }))
    }

    /// A receiver for which nothing has changed yet.
    pub(crate) fn subscribe(&self) -> Receiver<T> {
        Receiver { seen: self.0.changes.load(Ordering::Acquire), shared: Arc::clone(&self.0) }
    }

    /// Changes the value and wakes those who wait.
    pub(crate) fn modify(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.0.value.write().unwrap_or_else(PoisonError::into_inner));
        self.0.changes.fetch_add(1, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl Sender<()> {
    /// Says that there is something new.
    pub(crate) fn announce(&self) {
        self.0.changes.fetch_add(1, Ordering::Release);
        self.0.changed.notify_waiters();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Receiver<T> {
    /// Waits for a change since the receiver was made, or since the last change that this has told of; for ever, when the
    /// sender is gone.
    ///
    /// # Cancel safety
    /// No change is lost when the future is dropped.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Made before looking: a change behind the look wakes it.
            let changed = self.shared.changed.notified();
            let changes = self.shared.changes.load(Ordering::Acquire);
            if changes != self.seen {
                self.seen = changes;
                return;
            }
            changed.await;
        }
    }

    /// Waits until the value is as wanted, which may be so at once; for ever, when the sender is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn wait_for(&self, is_wanted: impl Fn(&T) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if self.look(&is_wanted) {
                return;
            }
            changed.await;
        }
    }

    /// Looks at the value.
    pub(crate) fn look<F>(&self, look: impl FnOnce(&T) -> F) -> F {
        look(&self.shared.value.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_are_woken_in_the_order_in_which_they_began_to() {
        let sender = Sender::new(());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = JoinSet::new();
        for number in 0..40 {
            let (mut receiver, order) = (sender.subscribe(), Arc::clone(&order));
            waiting.spawn(async move {
                receiver.changed().await;
                order.lock().unwrap().push(number);
            });
        }
        tokio::task::yield_now().await;
        sender.announce();
        while waiting.join_next().await.is_some() {}
        assert_eq!(*order.lock().unwrap(), (0..40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_change_before_the_wait_is_not_missed_and_is_told_once() {
        let sender = Sender::new(1);
        let mut receiver = sender.subscribe();
        sender.modify(|value| *value = 2);
        sender.modify(|value| *value += 1);
        receiver.changed().await;
        assert_eq!(receiver.look(|value| *value), 3);
        assert_eq!(now(receiver.changed()).await, None, "there was no other change");
        assert_eq!(now(sender.subscribe().wait_for(|value| *value == 3)).await, Some(()));
        assert_eq!(now(receiver.wait_for(|value| *value == 4)).await, None);
    }

    #[tokio::test]
    async fn a_change_wakes_who_waits_for_a_value() {
        let sender = Sender::new(1);
        let receiver = sender.subscribe();
        let waiting = tokio::spawn(async move { receiver.wait_for(|value| *value == 3).await });
        for value in [2, 3] {
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished(), "{value} is yet to come");
            sender.modify(|old| *old = value);
        }
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    }

    /// What the future gives when it is polled once.
    async fn now<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
