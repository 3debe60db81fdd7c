//! Threads that hash passwords, below everything else in priority.
//!
//! Enters: work of tens of milliseconds, from a worker or the control runtime. Leaves: its result, or a refusal at once
//! where too much waits already. Never here: a core that a flood of sign-ins takes from those who are signed in, a queue
//! without an end, work that nobody waits for any more.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::refusal::Refusal;

/// How much may wait for each thread. At some 25 ms each that is less than a second on an idle machine.
const WAITING_PER_THREAD: usize = 32;
/// How long anybody waits. On a machine whose cores are all busy a hash can take seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// The lowest priority (setpriority(2)): a worker that wants the core has it.
const NICENESS: i32 = 19;

/// Runs password hashing on few threads of its own, of the lowest priority. They end when this is dropped.
pub struct Hasher {
    queue: Arc<Queue>,
    most: usize,
    patience: Duration,
}

impl Hasher {
    /// Starts `threads` threads, and at least one. Each needs 19 MiB while it hashes.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        Self::with_limits(threads, threads.saturating_mul(WAITING_PER_THREAD), PATIENCE)
    }

    fn with_limits(threads: usize, most: usize, patience: Duration) -> std::io::Result<Self> {
        // Dropped where a thread cannot be started, which ends those that were.
        let hasher = Self { queue: Arc::default(), most, patience };
        for _ in 0..threads {
            let queue = Arc::clone(&hasher.queue);
            std::thread::Builder::new().name("password".to_owned()).spawn(move || {
                step_back();
                while let Some(job) = queue.next() {
                    job.run();
                }
            })?;
        }
        Ok(hasher)
    }

    /// Runs `work` and waits for it without blocking. Work whose requester goes away before it has begun is not done.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`] where too many wait already, or after 20 seconds; [`Refusal::Internal`] where the work
    /// panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let (answer, done) = oneshot::channel();
        self.queue.add(Box::new(Task { work, answer }), self.most)?;
        match tokio::time::timeout(self.patience, done).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(_)) => Err(Refusal::Internal),
            Err(_) => Err(Refusal::Overloaded),
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").field("most", &self.most).finish_non_exhaustive()
    }
}

/// Puts the thread that calls it behind all others.
fn step_back() {
    // Of a thread alone it is on Linux only (setpriority(2), "C library/kernel differences").
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "the threads that hash passwords keep their priority; many sign-ins at once slow down the rest");
    }
}

/// Work that waits.
trait Job: Send {
    /// Whether its requester has gone away.
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Task<T, W> {
    work: W,
    answer: oneshot::Sender<T>,
}

impl<T: Send, W: FnOnce() -> T + Send> Job for Task<T, W> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { work, answer } = *self;
        // The next job finds nothing that this one left behind: it shares nothing with it.
        match catch_unwind(AssertUnwindSafe(work)) {
            // A requester that went away meanwhile wants no answer.
            Ok(result) => drop(answer.send(result)),
            Err(_) => tracing::error!("work on a password did not end as it should"),
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Box<dyn Job>>,
    is_closed: bool,
}

impl Queue {
    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: Box<dyn Job>, most: usize) -> Result<(), Refusal> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= most {
            waiting.jobs.retain(|job| !job.is_abandoned());
        }
        if waiting.jobs.len() >= most {
            return Err(Refusal::Overloaded);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job that somebody waits for; waits for one. `None`: there will be none.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_closed {
                return None;
            }
            match waiting.jobs.pop_front() {
                Some(job) if job.is_abandoned() => {}
                Some(job) => return Some(job),
                None => waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        // Nobody waits for these: who does borrows the hasher.
        waiting.jobs.clear();
        drop(waiting);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::task::Poll;

    use super::*;

    fn hasher(most: usize) -> Hasher {
        Hasher::with_limits(1, most, Duration::from_secs(60)).unwrap()
    }

    /// Work that says when it has begun and ends when its other half is dropped.
    fn gate() -> (impl FnOnce() + Send + 'static, Receiver<()>, SyncSender<()>) {
        let (begun, has_begun) = sync_channel(1);
        let (release, released) = sync_channel::<()>(0);
        let work = move || {
            begun.send(()).unwrap();
            let _ = released.recv();
        };
        (work, has_begun, release)
    }

    /// Polls once: what is asked for waits in the queue from then on.
    async fn ask<F: Future>(asked: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut asked = Some(asked);
        std::future::poll_fn(|context| {
            Poll::Ready(match asked.take().unwrap().poll(context) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn work_beyond_the_queue_is_refused_at_once() {
        let hasher = hasher(2);
        let (work, has_begun, release) = gate();
        let mut busy = Box::pin(hasher.run(work));
        assert_eq!(ask(busy.as_mut()).await, None);
        has_begun.recv().unwrap();
        let mut first = Box::pin(hasher.run(|| 1));
        let mut second = Box::pin(hasher.run(|| 2));
        assert_eq!(ask(first.as_mut()).await, None);
        assert_eq!(ask(second.as_mut()).await, None);
        assert_eq!(hasher.run(|| 3).await, Err(Refusal::Overloaded));
        drop(release);
        assert_eq!(busy.await, Ok(()));
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
        assert_eq!(hasher.run(|| 4).await, Ok(4));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done_and_takes_no_place() {
        let hasher = hasher(1);
        let (work, has_begun, release) = gate();
        let mut busy = Box::pin(hasher.run(work));
        assert_eq!(ask(busy.as_mut()).await, None);
        has_begun.recv().unwrap();
        let was_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&was_done);
        let mut abandoned = Box::pin(hasher.run(move || done.store(true, Ordering::SeqCst)));
        assert_eq!(ask(abandoned.as_mut()).await, None);
        drop(abandoned);
        let mut next = Box::pin(hasher.run(|| 7));
        assert_eq!(ask(next.as_mut()).await, None, "it has the place of the one before");
        assert_eq!(Arc::strong_count(&was_done), 1, "and what that held, a password, is gone");
        drop(next);
        drop(release);
        assert_eq!(busy.await, Ok(()));
        assert_eq!(hasher.run(|| 8).await, Ok(8), "behind the one abandoned in the queue");
        assert!(!was_done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn work_that_panics_leaves_the_thread_alive() {
        let hasher = hasher(1);
        let thread = hasher.run(|| std::thread::current().id()).await.unwrap();
        assert_eq!(hasher.run(|| assert!(Duration::ZERO > Duration::ZERO)).await, Err(Refusal::Internal));
        assert_eq!(hasher.run(|| std::thread::current().id()).await, Ok(thread));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let hasher = Hasher::with_limits(1, 1, Duration::from_millis(20)).unwrap();
        let (work, _has_begun, _release) = gate();
        assert_eq!(hasher.run(work).await, Err(Refusal::Overloaded));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_its_own_threads_step_back() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let hasher = hasher(1);
        let inside = hasher.run(|| {
            let name = std::thread::current().name().map(str::to_owned);
            (name, rustix::process::getpriority_process(None).unwrap())
        });
        assert_eq!(inside.await, Ok((Some("password".to_owned()), NICENESS)));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[tokio::test]
    async fn the_threads_end_when_it_is_dropped() {
        let hasher = Hasher::start(3).unwrap();
        assert_eq!(hasher.run(|| 7).await, Ok(7));
        let queue = Arc::downgrade(&hasher.queue);
        drop(hasher);
        while queue.strong_count() > 0 {
            std::thread::yield_now();
        }
    }
}
