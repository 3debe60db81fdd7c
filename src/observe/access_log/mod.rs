//! The access log: one line for each request, to standard output or a file, off the request path.
//!
//! A worker writes its line into a buffer of its own. A thread of the log takes the buffers of all workers a moment later and
//! writes them out. If the reader does not keep up, lines are dropped and counted. Invariants: a request never waits for the
//! log; no line holds a query string, a token or a cookie.

mod line;

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::output::Output;
use line::TimeText;

/// Bytes of lines that a worker may have waiting.
const MAX_WAITING: usize = 4 * 1024 * 1024;
/// What a buffer has room for at the start, in bytes.
const FIRST_CAPACITY: usize = 64 * 1024;
/// Room that a buffer keeps once it has grown to it, in bytes: what a worker writes in a batch at full load.
const KEPT_CAPACITY: usize = 1024 * 1024;
/// How long lines gather before they are written.
const BATCH: Duration = Duration::from_millis(20);

/// What lines are like, as `[log]` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whether there are any.
    pub access: bool,
    /// JSON, or text for people.
    pub json: bool,
    /// Whether a line has the email address of the caller.
    pub email: bool,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            access: true,
            json: true,
            email: true,
        }
    }
}

impl Form {
    const fn to_bits(self) -> u8 {
        self.access as u8 | (self.json as u8) << 1 | (self.email as u8) << 2
    }

    const fn of_bits(bits: u8) -> Self {
        Self {
            access: bits & 1 != 0,
            json: bits & 2 != 0,
            email: bits & 4 != 0,
        }
    }
}
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
    /// Whether another proxy asked about the request and serves it.
    pub forward_auth: bool,
    /// The route's pattern.
    pub route: Option<&'a str>,
    /// `sub` of the caller.
    pub subject: Option<&'a str>,
    /// The email address of the caller.
    pub email: Option<&'a str>,
    /// The issuer's name in the TOML.
    pub issuer: Option<&'a str>,
    /// Whether the request was let through to an app (or to an endpoint of ours).
    pub decision: Decision,
    /// Why not, or what failed: [`crate::refusal::Refusal::reason`].
    pub reason: Option<&'a str>,
    /// The rule that decided, `gateway.toml:12`.
    pub rule: Option<&'a str>,
    /// Whether this rule would refuse the request, and is only logged (`enforce = "log"`).
    pub is_only_logged: bool,
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
    /// Not refused, and yet not answered as it should be: the app, the state or the gateway failed, or the client went
    /// away before there was a decision.
    Error,
}

impl Decision {
    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Refuse => "refuse",
            Self::Error => "error",
        }
    }
}

/// The log of one worker.
#[derive(Debug)]
pub struct WorkerLog {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
    shared: Arc<Shared>,
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
        let form = Form::of_bits(self.shared.form.load(Ordering::Relaxed));
        if !form.access {
            return;
        }
        let mut waiting = lock(&self.waiting);
        let Waiting { lines, time } = &mut *waiting;
        let before = lines.len();
        line::append(lines, time, entry, form);
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

struct Shared {
    form: AtomicU8,
    stop: AtomicBool,
    /// Lines that were taken from a worker and could not be written.
    lost: AtomicU64,
    /// Where lines go from the next batch on.
    next_output: Mutex<Option<Box<dyn Write + Send>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("form", &self.form)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}

impl AccessLog {
    /// Starts the log for a number of workers. Lines go to `output`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(workers: usize, output: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            form: AtomicU8::new(Form::default().to_bits()),
            stop: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            next_output: Mutex::new(None),
        });
        let (hand_over, taken_over) = sync_channel::<Vec<Arc<WorkerLog>>>(1);
        let (finished, done) = sync_channel(1);
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn({
            let shared = shared.clone();
            move || {
                if let Ok(workers) = taken_over.recv() {
                    write_until_stopped(&workers, &shared, Output::new(output));
                }
                // The receiver may be gone.
                let _ = finished.send(());
            }
        })?;
        let writer = thread.thread().clone();
        let new = || {
            let waiting = Waiting {
                lines: Vec::with_capacity(FIRST_CAPACITY),
                time: TimeText::default(),
            };
            Arc::new(WorkerLog {
                waiting: Mutex::new(waiting),
                dropped: AtomicU64::new(0),
                shared: Arc::clone(&shared),
                writer: writer.clone(),
            })
        };
        let workers: Vec<_> = std::iter::repeat_with(new).take(workers).collect();
        hand_over
            .send(workers.clone())
            .map_err(|_| std::io::Error::other("the thread of the access log ended"))?;
        Ok(Self {
            shared,
            workers,
            writer,
            done: Mutex::new(done),
        })
    }

    /// The log of the worker with this number.
    #[must_use]
    pub fn worker(&self, number: usize) -> Arc<WorkerLog> {
        self.workers[number].clone()
    }

    /// What the lines of requests that end from now on are like.
    pub fn set_form(&self, form: Form) {
        self.shared.form.store(form.to_bits(), Ordering::Relaxed);
    }

    /// Lines that wait, and all after them, go to `output`.
    pub fn redirect(&self, output: Box<dyn Write + Send>) {
        *lock(&self.shared.next_output) = Some(output);
        // Also where nothing waits: the file that was written to until now is closed.
        self.writer.unpark();
    }

    /// Lines that were dropped since the start, because the log was not read or could not be written.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed) + dropped_by(&self.workers)
    }

    /// Writes what is left, at the end when no worker writes any more. Gives up after `patience`, for a reader that has
    /// stopped must not keep the gateway from ending; returns whether everything was taken care of.
    pub fn flush_and_stop(&self, patience: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
        !matches!(
            lock(&self.done).recv_timeout(patience),
            Err(RecvTimeoutError::Timeout)
        )
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
    }
}

fn dropped_by(workers: &[Arc<WorkerLog>]) -> u64 {
    workers
        .iter()
        .map(|worker| worker.dropped.load(Ordering::Relaxed))
        .sum()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the log's own thread: it serves no requests"
)]
fn write_until_stopped(workers: &[Arc<WorkerLog>], shared: &Shared, mut output: Output) {
    let mut spare = Vec::with_capacity(FIRST_CAPACITY);
    let mut said = 0;
    loop {
        // Before the lines: what came before the stop is written.
        let is_last = shared.stop.load(Ordering::Acquire);
        let mut was_idle = true;
        for worker in workers {
            spare.clear();
            spare.shrink_to(KEPT_CAPACITY);
            let lines = worker.take(spare);
            // After the lines are taken: one that was written after a change of the output goes to the new one.
            if let Some(next) = lock(&shared.next_output).take() {
                output = Output::new(next);
            }
            if !lines.is_empty() {
                was_idle = false;
                let written = output.write(&lines, &shared.stop);
                shared.lost.fetch_add(written.lost, Ordering::Relaxed);
                if let Some(error) = written.error {
                    tracing::error!(%error, "the access log cannot be written, lines are dropped");
                } else if written.lost == 0 {
                    note_dropped(workers, shared, &mut said);
                }
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

/// Says how many lines are missing, now that lines are written again.
fn note_dropped(workers: &[Arc<WorkerLog>], shared: &Shared, said: &mut u64) {
    let dropped = dropped_by(workers) + shared.lost.load(Ordering::Relaxed);
    if dropped > *said {
        tracing::warn!(
            lines = dropped - *said,
            "lines of the access log were dropped, because it was not read"
        );
        *said = dropped;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
