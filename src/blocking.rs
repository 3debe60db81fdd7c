//! Runs work that blocks (SQLite above all) on threads apart from the workers.
//!
//! Input: a closure, from a worker. Output: its result, or a refusal: at once where too much waits already, or after a while
//! where the work takes too long. Invariants: no worker waits for a lock or a disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::refusal::Refusal;

/// For each piece of work on a thread or in the threads' queue, so many wait for a place there. Each is a request that
/// holds its connection or stream anyway: what waits here costs less than what the client's retry would.
const WAITING_A_PLACE: usize = 16;

/// The way to the threads of the control runtime on which work may block.
#[derive(Debug)]
pub struct Blocking {
    control: Handle,
    /// One for each piece of work that has been given to the threads. They finish it, also when the requester has gone.
    places: Arc<Semaphore>,
    /// One for each request that waits, for a place or for its work.
    waiting: Semaphore,
    patience: Duration,
}

impl Blocking {
    /// The threads have at most `most` pieces of work at a time, a small multiple of that waits until they take it, and
    /// no requester waits for longer than `patience`, both waits together.
    #[must_use]
    pub fn new(control: Handle, most: usize, patience: Duration) -> Self {
        let waiting = Semaphore::new(most.saturating_mul(1 + WAITING_A_PLACE));
        Self {
            control,
            places: Arc::new(Semaphore::new(most)),
            waiting,
            patience,
        }
    }

    /// The longest that [`Blocking::run`] takes.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Runs `work` and waits for it without blocking. Work that has begun, or is about to, is finished also
    /// when the caller no longer waits for it.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] where too much waits already, [`Refusal::StateUnavailable`] where it takes too long, and
    /// [`Refusal::Internal`] where it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Refusal::Overloaded)?;
        let running = async {
            // In the order in which they came. Never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok();
            self.control
                .spawn_blocking(move || {
                    let _place = place;
                    work()
                })
                .await
        };
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
    async fn work_waits_for_a_place_and_nobody_for_longer_than_that_takes() {
        let blocking = Blocking::new(Handle::current(), 1, Duration::from_millis(20));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
        let (release, wait) = sync_channel::<()>(0);
        let late = blocking.run(move || {
            let _ = wait.recv();
        });
        assert_eq!(late.await, Err(Refusal::StateUnavailable));
        let next = blocking.run(|| 7).await;
        assert_eq!(
            next,
            Err(Refusal::StateUnavailable),
            "the place is taken until the work is done"
        );
        drop(release);
        while blocking.run(|| 7).await.is_err() {}
    }

    #[tokio::test]
    async fn more_work_than_there_are_places_is_done_and_far_more_is_refused_at_once() {
        let blocking = Blocking::new(Handle::current(), 2, Duration::from_secs(60));
        let (release, wait) = sync_channel::<()>(0);
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let room = 2 * (1 + WAITING_A_PLACE);
        let mut all: Vec<_> = (0..room + 3)
            .map(|_| {
                let wait = Arc::clone(&wait);
                Box::pin(blocking.run(move || {
                    let _ = wait.lock().unwrap().recv();
                }))
            })
            .collect();
        let mut done = Vec::new();
        for running in &mut all {
            tokio::select! {
                biased;
                result = running => done.push(result),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(done, [Err(Refusal::Overloaded); 3], "only what is too much");
        drop(release);
        for running in all.iter_mut().take(room) {
            assert_eq!(running.await, Ok(()));
        }
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_of_ours() {
        let blocking = Blocking::new(Handle::current(), 1, Duration::from_secs(60));
        let panicked = blocking.run(|| assert!(Duration::ZERO > Duration::ZERO)).await;
        assert_eq!(panicked, Err(Refusal::Internal));
        assert_eq!(blocking.run(|| 7).await, Ok(7));
    }
}
