//! Threads that hash passwords, with the lowest priority.
//!
//! Input: work of tens of milliseconds, from a worker or the control runtime. Output: its result, or an error at once where
//! too much waits already. Invariants: a flood of sign-ins takes no core from requests of sessions; the queue has an end;
//! work is not done when its requester has gone; no client waits behind all requests of another one.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::identity_headers::client_network;

/// Why work on a password was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HasherError {
    /// Too much waits already, or it waited for too long.
    #[error("too many passwords wait to be hashed")]
    Overloaded,
    /// The work panicked.
    #[error("hashing a password failed")]
    Panicked,
}

/// How much may wait for each thread. At some 25 ms each that is 13 seconds on an idle machine, less than the longest wait; it
/// is for many clients that sign in at once, since each of them takes its turn.
const WAITING_PER_THREAD: usize = 512;
/// The longest wait. On a machine whose cores are all busy a hash can take seconds.
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
        let hasher = Self {
            queue: Arc::default(),
            most,
            patience,
        };
        for _ in 0..threads {
            let queue = Arc::clone(&hasher.queue);
            std::thread::Builder::new()
                .name("password".to_owned())
                .spawn(move || {
                    step_back();
                    while let Some(job) = queue.next() {
                        job.run();
                    }
                })?;
        }
        Ok(hasher)
    }

    /// Runs `work` for a client at `client` and waits for it without blocking. The clients that wait take turns; where the
    /// queue is full, the last request of the client with the most gives way to one of a client with fewer. Work whose
    /// requester goes away before it has begun is not done.
    ///
    /// # Errors
    /// [`HasherError::Overloaded`] where too many wait already, or after 20 seconds; [`HasherError::Panicked`] where the work
    /// panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        client: IpAddr,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HasherError> {
        let (answer, done) = oneshot::channel();
        self.queue
            .add(client_network(client), Box::new(Task { work, answer }), self.most)?;
        match tokio::time::timeout(self.patience, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(HasherError::Panicked),
            Err(_) => Err(HasherError::Overloaded),
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
        f.debug_struct("Hasher")
            .field("most", &self.most)
            .finish_non_exhaustive()
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
    /// Tells its requester that it is not done.
    fn refuse(self: Box<Self>);
}

struct Task<T, W> {
    work: W,
    answer: oneshot::Sender<Result<T, HasherError>>,
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
            Ok(result) => drop(answer.send(Ok(result))),
            Err(_) => tracing::error!("work on a password did not end as it should"),
        }
    }

    fn refuse(self: Box<Self>) {
        drop(self.answer.send(Err(HasherError::Overloaded)));
    }
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The clients that wait, in the order of their turns, each with its work in the order in which it came.
#[derive(Default)]
struct Waiting {
    clients: VecDeque<(IpAddr, VecDeque<Box<dyn Job>>)>,
    /// All of their work together.
    jobs: usize,
    is_closed: bool,
}

impl Waiting {
    fn add(&mut self, client: IpAddr, job: Box<dyn Job>) {
        self.jobs += 1;
        match self.clients.iter_mut().find(|(known, _)| *known == client) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.clients.push_back((client, VecDeque::from([job]))),
        }
    }

    /// The next work of the client whose turn it is. That client's next turn comes after all others'.
    fn next(&mut self) -> Option<Box<dyn Job>> {
        let (client, mut jobs) = self.clients.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.clients.push_back((client, jobs));
        }
        self.jobs -= 1;
        job
    }

    fn forget_abandoned(&mut self) {
        for (_, jobs) in &mut self.clients {
            jobs.retain(|job| !job.is_abandoned());
        }
        self.clients.retain(|(_, jobs)| !jobs.is_empty());
        self.jobs = self.clients.iter().map(|(_, jobs)| jobs.len()).sum();
    }

    /// Takes out the last work of the client that has the most, if `client` has less also with one more.
    fn make_room_for(&mut self, client: IpAddr) -> Option<Box<dyn Job>> {
        let own = self
            .clients
            .iter()
            .find(|(known, _)| *known == client)
            .map_or(0, |(_, jobs)| jobs.len());
        let (_, jobs) = self.clients.iter_mut().max_by_key(|(_, jobs)| jobs.len())?;
        if jobs.len() <= own + 1 {
            return None;
        }
        self.jobs -= 1;
        jobs.pop_back()
    }
}

impl Queue {
    /// Nothing that can panic runs under this lock.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, client: IpAddr, job: Box<dyn Job>, most: usize) -> Result<(), HasherError> {
        let mut waiting = self.lock();
        if waiting.jobs >= most {
            waiting.forget_abandoned();
        }
        let mut gives_way = None;
        if waiting.jobs >= most {
            gives_way = Some(waiting.make_room_for(client).ok_or(HasherError::Overloaded)?);
        }
        waiting.add(client, job);
        drop(waiting);
        self.changed.notify_one();
        if let Some(job) = gives_way {
            job.refuse();
        }
        Ok(())
    }

    /// The next job whose requester still waits; blocks until there is one. `None`: the hasher has ended.
    fn next(&self) -> Option<Box<dyn Job>> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_closed {
                return None;
            }
            match waiting.next() {
                Some(job) if job.is_abandoned() => {}
                Some(job) => return Some(job),
                None => waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        // No requester waits for these: one that does borrows the hasher.
        waiting.clients.clear();
        waiting.jobs = 0;
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

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

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
        let mut busy = Box::pin(hasher.run(ONE, work));
        assert_eq!(ask(busy.as_mut()).await, None);
        has_begun.recv().unwrap();
        let mut first = Box::pin(hasher.run(ONE, || 1));
        let mut second = Box::pin(hasher.run(ONE, || 2));
        assert_eq!(ask(first.as_mut()).await, None);
        assert_eq!(ask(second.as_mut()).await, None);
        assert_eq!(hasher.run(ONE, || 3).await, Err(HasherError::Overloaded));
        drop(release);
        assert_eq!(busy.await, Ok(()));
        assert_eq!((first.await, second.await), (Ok(1), Ok(2)));
        assert_eq!(hasher.run(ONE, || 4).await, Ok(4));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done_and_takes_no_place() {
        let hasher = hasher(1);
        let (work, has_begun, release) = gate();
        let mut busy = Box::pin(hasher.run(ONE, work));
        assert_eq!(ask(busy.as_mut()).await, None);
        has_begun.recv().unwrap();
        let was_done = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&was_done);
        let mut abandoned = Box::pin(hasher.run(ONE, move || done.store(true, Ordering::SeqCst)));
        assert_eq!(ask(abandoned.as_mut()).await, None);
        drop(abandoned);
        let mut next = Box::pin(hasher.run(ONE, || 7));
        assert_eq!(
            ask(next.as_mut()).await,
            None,
            "it has the place of the one before"
        );
        assert_eq!(
            Arc::strong_count(&was_done),
            1,
            "and what that held, a password, is gone"
        );
        drop(next);
        drop(release);
        assert_eq!(busy.await, Ok(()));
        assert_eq!(
            hasher.run(ONE, || 8).await,
            Ok(8),
            "behind the one abandoned in the queue"
        );
        assert!(!was_done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn work_that_panics_leaves_the_thread_alive() {
        let hasher = hasher(1);
        let thread = hasher.run(ONE, || std::thread::current().id()).await.unwrap();
        assert_eq!(
            hasher.run(ONE, || assert!(Duration::ZERO > Duration::ZERO)).await,
            Err(HasherError::Panicked)
        );
        assert_eq!(hasher.run(ONE, || std::thread::current().id()).await, Ok(thread));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let hasher = Hasher::with_limits(1, 1, Duration::from_millis(20)).unwrap();
        let (work, _has_begun, _release) = gate();
        assert_eq!(hasher.run(ONE, work).await, Err(HasherError::Overloaded));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_its_own_threads_step_back() {
        let before = rustix::process::getpriority_process(None).unwrap();
        let hasher = hasher(1);
        let inside = hasher.run(ONE, || {
            let name = std::thread::current().name().map(str::to_owned);
            (name, rustix::process::getpriority_process(None).unwrap())
        });
        assert_eq!(inside.await, Ok((Some("password".to_owned()), NICENESS)));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }

    #[tokio::test]
    async fn the_threads_end_when_it_is_dropped() {
        let hasher = Hasher::start(3).unwrap();
        assert_eq!(hasher.run(ONE, || 7).await, Ok(7));
        let queue = Arc::downgrade(&hasher.queue);
        drop(hasher);
        while queue.strong_count() > 0 {
            std::thread::yield_now();
        }
    }

    /// Requests of clients by their letters while the only thread is busy; `most` may wait.
    async fn order_of(asked: &str, most: usize) -> (String, String) {
        let hasher = hasher(most);
        let (work, has_begun, release) = gate();
        let mut busy = Box::pin(hasher.run(ONE, work));
        assert_eq!(ask(busy.as_mut()).await, None);
        has_begun.recv().unwrap();
        let done = Arc::new(Mutex::new(String::new()));
        let mut waiting = Vec::new();
        let mut refused = String::new();
        for (at, letter) in asked.chars().enumerate() {
            let done = Arc::clone(&done);
            let work = move || done.lock().unwrap().push(letter);
            // Each client has addresses of its own, in a network of its own.
            let bits = (u128::from(u32::from(letter)) << 64) + at as u128;
            let mut asked = Box::pin(hasher.run(IpAddr::from(bits.to_be_bytes()), work));
            match ask(asked.as_mut()).await {
                None => waiting.push((letter, asked)),
                Some(Err(HasherError::Overloaded)) => refused.push(letter),
                Some(other) => assert_eq!(other, Err(HasherError::Overloaded)),
            }
        }
        drop(release);
        assert_eq!(busy.await, Ok(()));
        for (letter, asked) in waiting {
            match asked.await {
                Ok(()) => {}
                Err(refusal) => {
                    assert_eq!(refusal, HasherError::Overloaded);
                    refused.push(letter);
                }
            }
        }
        let done = done.lock().unwrap().clone();
        (done, refused)
    }

    #[tokio::test]
    async fn the_queue_is_fair_by_client_address() {
        for (asked, most, done, refused) in [
            ("abc", 9, "abc", ""),
            // One that floods waits behind its own requests.
            ("aaaaab", 9, "abaaaa", ""),
            ("aaaabbc", 9, "abcabaa", ""),
            // Where the queue is full, the last of whose are most give way, and only to who has less.
            ("aaaaaa", 4, "aaaa", "aa"),
            ("aaaab", 4, "abaa", "a"),
            ("aaaabc", 4, "abca", "aa"),
            ("aaaabcd", 4, "abcd", "aaa"),
            ("aaaabcde", 4, "abcd", "eaaa"),
            ("aaaabb", 4, "abab", "aa"),
            ("aaaabbb", 4, "abab", "baa"),
            ("aabbab", 4, "abab", "ab"),
            ("abcdabcd", 4, "abcd", "abcd"),
            ("a", 1, "a", ""),
            ("ab", 1, "a", "b"),
        ] {
            let (was_done, was_refused) = order_of(asked, most).await;
            assert_eq!(
                (was_done.as_str(), was_refused.as_str()),
                (done, refused),
                "{asked}"
            );
        }
    }

    #[tokio::test]
    async fn a_flood_of_one_address_keeps_nobody_else_from_a_place() {
        let flood = "a".repeat(300);
        let (done, refused) = order_of(&format!("{flood}bcdefghij"), 64).await;
        assert_eq!(&done[..10], "abcdefghij");
        assert_eq!((done.len(), refused.len()), (64, 245));
        assert!(refused.chars().all(|letter| letter == 'a'));
    }
}
