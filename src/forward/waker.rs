//! The waker of a pooled connection: one for its whole life, which wakes the task that uses the connection at the moment.
//!
//! A connection is polled by whichever request has it, so each hand-over would register another task's waker with the socket
//! and with hyper's channels, and hyper's two halves would wake each other across a hand-over although one task polls both.
//! Here the connection keeps one waker. A wake-up for which no task waits, or which comes from the half that the same task is
//! polling at that moment, is not passed on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

#[derive(Debug, Default)]
pub(super) struct ConnectionWaker(Mutex<WakerState>);

#[derive(Debug, Default)]
struct WakerState {
    /// The task to wake; taken by the wake-up.
    task: Option<Waker>,
    /// While set, rings are only remembered.
    muted: bool,
    rung: bool,
}

impl ConnectionWaker {
    fn state(&self) -> MutexGuard<'_, WakerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on rings are only remembered, until [`ConnectionWaker::unmute`]; later ones go to `task`.
    pub(super) fn mute(&self, task: &Waker) {
        let mut state = self.state();
        state.muted = true;
        state.rung = false;
        if !state.task.as_ref().is_some_and(|known| known.will_wake(task)) {
            let before = state.task.replace(task.clone());
            drop(state);
            // Outside the lock: it may be the last handle to a task, and that task may own a connection_waker.
            drop(before);
        }
    }

    /// Ends [`ConnectionWaker::mute`]. `waits`: the task waits for a ring now, and has a remembered one at once. Otherwise it will
    /// poll the connection again without one, and no task is woken until then.
    pub(super) fn unmute(&self, waits: bool) {
        let mut state = self.state();
        state.muted = false;
        if waits && !state.rung {
            return;
        }
        let task = state.task.take();
        drop(state);
        if let Some(task) = task.filter(|_| waits) {
            task.wake();
        }
    }

    /// The connection is idle.
    pub(super) fn disarm(&self) {
        let mut state = self.state();
        state.muted = false;
        let task = state.task.take();
        drop(state);
        drop(task);
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        if state.muted {
            state.rung = true;
            return;
        }
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ring_reaches_the_task_once_and_only_while_it_waits() {
        let connection_waker = Arc::new(ConnectionWaker::default());
        let waker = Waker::from(connection_waker.clone());
        let count = Arc::new(Count::default());
        let rings = || count.0.load(Ordering::Relaxed);
        waker.wake_by_ref();
        connection_waker.mute(&count.clone().into());
        connection_waker.unmute(true);
        assert_eq!(rings(), 0);
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(rings(), 1, "once is enough until it polls again");
        connection_waker.mute(&count.clone().into());
        connection_waker.unmute(true);
        connection_waker.disarm();
        waker.wake_by_ref();
        assert_eq!(rings(), 1);
    }

    #[test]
    fn a_ring_while_muted_is_kept_for_a_task_that_waits_and_dropped_for_one_that_does_not() {
        let connection_waker = Arc::new(ConnectionWaker::default());
        let waker = Waker::from(connection_waker.clone());
        let count = Arc::new(Count::default());
        let rings = || count.0.load(Ordering::Relaxed);
        connection_waker.mute(&count.clone().into());
        waker.wake_by_ref();
        assert_eq!(rings(), 0);
        connection_waker.unmute(true);
        assert_eq!(rings(), 1);
        connection_waker.mute(&count.clone().into());
        waker.wake_by_ref();
        connection_waker.unmute(false);
        waker.wake_by_ref();
        assert_eq!(rings(), 1);
    }
}
