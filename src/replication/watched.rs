//! A value that others wait for changes of. As tokio's `watch`, but whoever waits longest is woken first: `watch` wakes in
//! a random order, and a simulated pair must do the same every time.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The value; clones share it.
#[derive(Debug)]
pub(super) struct Watched<T>(Arc<Shared<T>>);

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Shared<T> {
    /// The value, and how often it was set.
    value: Mutex<(T, u64)>,
    changed: Notify,
}

/// Somebody who waits for changes. It has seen the value as it was when the watch began.
#[derive(Debug)]
pub(super) struct Watch<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T: Copy> Watched<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() }))
    }

    /// Sets the value; everybody who waits is woken, also when it is the same as before.
    pub(super) fn set(&self, value: T) {
        let mut now = self.0.value.lock();
        *now = (value, now.1 + 1);
        drop(now);
        self.0.changed.notify_waiters();
    }

    /// The present value.
    pub(super) fn get(&self) -> T {
        self.0.value.lock().0
    }

    /// Waits for changes from now on.
    pub(super) fn watch(&self) -> Watch<T> {
        Watch { seen: self.0.value.lock().1, shared: self.0.clone() }
    }
}

impl<T: Copy> Watch<T> {
    /// The present value, which counts as seen from now on.
    pub(super) fn look(&mut self) -> T {
        let now = *self.shared.value.lock();
        self.seen = now.1;
        now.0
    }

    /// The present value; whether it was seen stays as it is.
    pub(super) fn peek(&self) -> T {
        self.shared.value.lock().0
    }

    /// Waits until the value was set since it was seen, and counts it as seen. May be dropped and called again.
    pub(super) async fn changed(&mut self) {
        loop {
            let notified = self.shared.changed.notified();
            // Before the look: a change between the two must wake.
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            let now = self.shared.value.lock().1;
            if now != self.seen {
                self.seen = now;
                return;
            }
            notified.await;
        }
    }

    /// Waits until the value is as wanted.
    pub(super) async fn wait_for(&mut self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            let now = self.look();
            if wanted(&now) {
                return now;
            }
            self.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::Watched;

    #[tokio::test]
    async fn a_change_is_seen_once_and_none_is_missed() {
        let value = Watched::new(1);
        let mut watch = value.watch();
        value.set(2);
        watch.changed().await;
        assert_eq!((watch.peek(), watch.look()), (2, 2));
        let waiting = tokio::spawn(async move { watch.wait_for(|now| *now == 4).await });
        tokio::task::yield_now().await;
        value.set(3);
        tokio::task::yield_now().await;
        value.set(4);
        assert_eq!(waiting.await.unwrap(), 4);
        assert_eq!(value.get(), 4);
    }

    #[tokio::test]
    async fn who_waits_longest_is_woken_first() {
        let (value, order) = (Watched::new(0), Arc::new(Mutex::new(Vec::new())));
        let mut waiting = Vec::new();
        for number in 0..32 {
            let (mut watch, order) = (value.watch(), order.clone());
            waiting.push(tokio::spawn(async move {
                watch.changed().await;
                order.lock().push(number);
            }));
            tokio::task::yield_now().await;
        }
        value.set(1);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(*order.lock(), (0..32).collect::<Vec<_>>());
    }
}
