//! Work that blocks (SQLite above all), carried to threads on which nobody's request waits.
//!
//! Enters: a closure, from a worker. Leaves: what it returned, or a refusal at once where too much waits already or the
//! work does not come back in time. What must never happen here: a worker that waits for a lock or a disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::refusal::Refusal;

/// The way to the threads of the control runtime on which work may block.
#[derive(Debug)]
pub struct Blocking {
    control: Handle,
    /// One for each piece of work that waits or runs.
    places: Arc<Semaphore>,
    patience: Duration,
}

impl Blocking {
    /// At most `most` pieces of work wait or run at a time, and nobody waits for one longer than `patience`.
    #[must_use]
    pub fn new(control: Handle, most: usize, patience: Duration) -> Self {
        Self { control, places: Arc::new(Semaphore::new(most)), patience }
    }

    /// Runs `work` and waits for it without blocking. Work that nobody waits for any more is still finished.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] where too much waits already, [`Refusal::StateUnavailable`] where it takes too long, and
    /// [`Refusal::Internal`] where it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
        let running = self.control.spawn_blocking(move || {
            let _place = place;
            work()
        });
        match tokio::time::timeout(self.patience, running).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                tracing::error!(%error, "work on the state did not end as it should");
                Err(Refusal::Internal)
            }
            Err(_) => Err(Refusal::StateUnavailable),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[tokio::test]
    async fn work_beyond_the_places_is_refused_at_once_and_late_work_after_a_while() {
        let blocking = Blocking::new(Handle::current(), 1, Duration::from_millis(20));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
        let (release, wait) = sync_channel::<()>(0);
        let late = blocking.run(move || {
            let _ = wait.recv();
        });
        assert_eq!(late.await, Err(Refusal::StateUnavailable));
        assert_eq!(blocking.run(|| 7).await, Err(Refusal::Overloaded), "the place is taken until the work is done");
        drop(release);
        while blocking.run(|| 7).await == Err(Refusal::Overloaded) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_of_ours() {
        let blocking = Blocking::new(Handle::current(), 1, Duration::from_secs(60));
        let panicked = blocking.run(|| assert!(Duration::ZERO > Duration::ZERO)).await;
        assert_eq!(panicked, Err(Refusal::Internal));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }
}
