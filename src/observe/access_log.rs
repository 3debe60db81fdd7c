//! The access log: one JSON object a line for each request, to standard output, off the request path.
//!
//! A worker writes its line into a buffer of its own. A thread of the log takes the buffers of all workers a moment
//! later and writes them out. Where standard output does not keep up, lines are dropped and counted: a request never
//! waits for the log. Never here: a query string, a token, a cookie.

mod line;

use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use line::TimeText;

/// Bytes of lines that a worker may have waiting.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// What a buffer has room for at the start, in bytes.
const FIRST_CAPACITY: usize = 64 * 1024;
/// Room that a buffer keeps once it has grown to it, in bytes: what a worker writes in a batch at full load.
const KEPT_CAPACITY: usize = 1024 * 1024;
/// How long lines gather before they are written.
const BATCH: Duration = Duration::from_millis(20);
/// The pause before a full pipe that does not block is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// What a line says about a request. Texts may be anything: they are cut to a sane length and escaped.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When the request came, in milliseconds since 1970.
    pub time: u64,
    /// As in the answer and for the app.
    pub request_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The Host.
    pub host: &'a str,
    /// The path; a query that still hangs on it is cut off.
    pub path: &'a str,
    /// The route's pattern.
    pub route: Option<&'a str>,
    /// `sub` of the caller.
    pub subject: Option<&'a str>,
    /// The issuer's name in the TOML.
    pub issuer: Option<&'a str>,
    /// Whether the request was let through to an app (or to an endpoint of ours).
    pub decision: Decision,
    /// Why not: [`crate::refusal::Refusal::reason`].
    pub reason: Option<&'a str>,
    /// The rule that decided, `gateway.toml:12`.
    pub rule: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// The upstream's name, or the server's address.
    pub upstream: Option<&'a str>,
    /// From the request's head to the last byte of the answer, in microseconds.
    pub duration_us: u64,
    /// From sending to the app to the head of its answer, in microseconds.
    pub upstream_us: Option<u64>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let through.
    Allow,
    /// Answered by the gateway with a refusal.
    Refuse,
}

impl Decision {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
        }
    }
}

/// The log of one worker.
#[derive(Debug)]
pub struct WorkerLog {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
    writer: Thread,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    time: TimeText,
}

impl WorkerLog {
    /// Adds a line. Allocates only while the buffer grows to what this worker needs.
    pub fn write(&self, entry: &Entry<'_>) {
        let mut waiting = lock(&self.waiting);
        let Waiting { lines, time } = &mut *waiting;
        let before = lines.len();
        line::append(lines, time, entry);
        if lines.len() > MAX_WAITING {
            lines.truncate(before);
            drop(waiting);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if before == 0 {
            drop(waiting);
            self.writer.unpark();
        }
    }

    /// Exchanges what is waiting for an empty buffer.
    fn take(&self, empty: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut lock(&self.waiting).lines, empty)
    }
}

/// All workers' logs and the thread that writes them out.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    workers: Vec<Arc<WorkerLog>>,
    writer: Thread,
    /// Says when the thread has written the last line.
    done: Mutex<Receiver<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Lines that were taken from a worker and could not be written.
    lost: AtomicU64,
}

impl AccessLog {
    /// Starts the log for a number of workers. Lines go to `output`, which is standard output but in tests.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(workers: usize, output: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (hand_over, taken_over) = sync_channel::<Vec<Arc<WorkerLog>>>(1);
        let (finished, done) = sync_channel(1);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn({
            let shared = shared.clone();
            move || {
                if let Ok(workers) = taken_over.recv() {
                    write_until_stopped(
                        &workers,
                        &shared,
                        Output { to: output, is_mid_line: false, is_failing: false },
                    );
                }
                // Nobody may be waiting any more.
                let _ = finished.send(());
            }
        })?;
        let writer = thread.thread().clone();
        let new = || {
            let waiting = Waiting { lines: Vec::with_capacity(FIRST_CAPACITY), time: TimeText::default() };
            Arc::new(WorkerLog { waiting: Mutex::new(waiting), dropped: AtomicU64::new(0), writer: writer.clone() })
        };
        let workers: Vec<_> = std::iter::repeat_with(new).take(workers).collect();
        hand_over.send(workers.clone()).map_err(|_| std::io::Error::other("the thread of the access log ended"))?;
        Ok(Self { shared, workers, writer, done: Mutex::new(done) })
    }

    /// The log of the worker with this number.
    #[must_use]
    pub fn worker(&self, number: usize) -> Arc<WorkerLog> {
        self.workers[number].clone()
    }

    /// Lines that were dropped since the start, because nobody read the log or it could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let by_workers: u64 = self.workers.iter().map(|worker| worker.dropped.load(Ordering::Relaxed)).sum();
        by_workers + self.shared.lost.load(Ordering::Relaxed)
    }

    /// Writes what is left, at the end when no worker writes any more. Gives up after `patience`, for a reader that has
    /// stopped must not keep the gateway from ending; returns whether everything was taken care of.
    pub fn flush_and_stop(&self, patience: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
        !matches!(lock(&self.done).recv_timeout(patience), Err(RecvTimeoutError::Timeout))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

#[expect(clippy::disallowed_methods, reason = "the log's own thread: it serves no requests")]
fn write_until_stopped(workers: &[Arc<WorkerLog>], shared: &Shared, mut output: Output) {
    let mut spare = Vec::with_capacity(FIRST_CAPACITY);
    loop {
        // Before the lines: what came before the stop is written.
        let is_last = shared.stop.load(Ordering::Acquire);
        let mut was_idle = true;
        for worker in workers {
            spare.clear();
            spare.shrink_to(KEPT_CAPACITY);
            let lines = worker.take(spare);
            if !lines.is_empty() {
                was_idle = false;
                shared.lost.fetch_add(output.write(&lines, &shared.stop), Ordering::Relaxed);
            }
            spare = lines;
        }
        if is_last {
            return;
        }
        if was_idle {
            thread::park();
        }
        let start = Instant::now();
        while let Some(left) = BATCH.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
            if shared.stop.load(Ordering::Acquire) {
                break;
            }
            thread::park_timeout(left);
        }
    }
}

/// Where the lines go, which may fail and come back.
struct Output {
    to: Box<dyn Write + Send>,
    /// A failure left half a line, so the next one starts on a new line.
    is_mid_line: bool,
    is_failing: bool,
}

impl Output {
    /// Writes whole lines; returns how many of them were not written. A reader that went away must not end the gateway,
    /// and may come back (a named pipe), so each batch is tried.
    fn write(&mut self, lines: &[u8], stop: &AtomicBool) -> u64 {
        let result = if self.is_mid_line { self.write_all(b"\n", stop).map(|_| ()) } else { Ok(()) };
        let (written, result) = match result.map(|()| self.write_all(lines, stop)) {
            Ok(Ok(written)) => (written, self.to.flush()),
            Ok(Err((written, error))) => (written, Err(error)),
            Err((_, error)) => (0, Err(error)),
        };
        match result {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::error!(%error, "the access log cannot be written, lines are dropped");
            }
            Err(_) => {}
        }
        count_lines(&lines[written..])
    }

    /// As `Write::write_all`, and says how far it came.
    #[expect(clippy::disallowed_methods, reason = "as above")]
    fn write_all(&mut self, bytes: &[u8], stop: &AtomicBool) -> Result<usize, (usize, std::io::Error)> {
        let mut written = 0;
        while written < bytes.len() {
            match self.to.write(&bytes[written..]) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(length) => {
                    written += length;
                    self.is_mid_line = bytes[written - 1] != b'\n';
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody made the pipe we share with them non-blocking, and it is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Acquire) => {
                    thread::sleep(RETRY);
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(written)
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
