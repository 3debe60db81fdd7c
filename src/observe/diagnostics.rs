//! Diagnostics: the messages of the program to standard error, written off the threads that log them.
//!
//! Input: a line of `tracing`, or a text. Output: the same, written by a thread of its own from a bounded buffer. A reader
//! that has stopped costs lines and no worker: lines that do not fit are dropped, counted, and reported when there is room
//! again. Invariant: a thread that logs never waits for the reader.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::panic::{Location, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::{Output, count_lines};

/// Bytes that may wait to be written.
const MAX_WAITING: usize = 1024 * 1024;
/// The environment variable that takes the place of `[log] level`, in the notation of `tracing_subscriber`'s `EnvFilter`.
const FILTER_VARIABLE: &str = "PASSGATE_LOG";
/// How long the end of the main thread by a panic waits for the reader.
const PANIC_PATIENCE: Duration = Duration::from_secs(1);

/// The way to standard error for every thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Diagnostics {
    shared: Arc<Shared>,
    /// Whether the reader is the journal, which takes the level from a prefix (sd-daemon(3)).
    is_journal: bool,
}

#[derive(Debug, Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    /// There is something to write.
    more: Condvar,
    /// Something was written.
    progress: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    waiting: Vec<u8>,
    /// Bytes that were ever put into the buffer, and those of them that were written or lost.
    taken: u64,
    done: u64,
}

impl Diagnostics {
    /// Starts the thread that writes to standard error.
    ///
    /// # Errors
    /// The system has no thread or file descriptor left.
    pub(crate) fn start() -> io::Result<Self> {
        // A handle of its own: `std::io::Stderr` holds a lock during the write, and a panic would wait for it.
        let stderr = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let stream = stderr
            .metadata()
            .map(|of| format!("{}:{}", of.dev(), of.ino()))
            .ok();
        let journal = std::env::var("JOURNAL_STREAM").ok();
        let is_journal = journal.is_some() && stream == journal;
        Ok(Self {
            is_journal,
            ..Self::writing_to(Box::new(stderr))?
        })
    }

    fn writing_to(output: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        std::thread::Builder::new()
            .name("diagnostics".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_for_ever(&shared, Output::new(output))
            })?;
        Ok(Self {
            shared,
            is_journal: false,
        })
    }

    /// Makes this the destination of `tracing` and of what panics say, for the whole process. Returns the switch for the
    /// level.
    #[must_use]
    pub(crate) fn install(&self, is_coloured: bool) -> LevelSwitch {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter(Level::INFO))
            .with_writer(self.clone())
            .with_ansi(is_coloured)
            .with_target(false)
            .with_filter_reloading();
        let handle = builder.reload_handle();
        // Fails where another destination is installed already, in tests.
        let _ = builder.try_init();
        let hook = self.clone();
        std::panic::set_hook(Box::new(move |panic| hook.note_panic(panic)));
        LevelSwitch(Box::new(move |level| {
            let _ = handle.reload(filter(level));
        }))
    }

    /// Writes `text`, whole lines, unchanged; or drops and counts it.
    pub(crate) fn say(&self, text: &str) {
        self.push(&[text.as_bytes()]);
    }

    /// Lines that were dropped since the start, because standard error was not read or could not be written.
    #[must_use]
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything that was said so far is written, for `patience` at most; returns whether it is.
    pub(crate) fn flush(&self, patience: Duration) -> bool {
        let buffer = lock(&self.shared.buffer);
        let taken = buffer.taken;
        let waited = self
            .shared
            .progress
            .wait_timeout_while(buffer, patience, |buffer| buffer.done < taken);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn push(&self, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut buffer = lock(&self.shared.buffer);
        if buffer.waiting.len() + length > MAX_WAITING {
            drop(buffer);
            let lines: u64 = parts.iter().map(|part| count_lines(part)).sum();
            self.shared.dropped.fetch_add(lines.max(1), Ordering::Relaxed);
            return;
        }
        parts
            .iter()
            .for_each(|part| buffer.waiting.extend_from_slice(part));
        buffer.taken += length as u64;
        drop(buffer);
        self.shared.more.notify_one();
    }

    /// In place of the default hook, which writes to standard error itself.
    fn note_panic(&self, panic: &PanicHookInfo<'_>) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        self.say(&panic_text(
            name,
            panic.location(),
            panic.payload(),
            &Backtrace::capture(),
        ));
        // The main thread takes the process with it; a request's panic must not hold up its worker.
        if name == "main" {
            self.flush(PANIC_PATIENCE);
        }
    }
}

/// What is said of a panic; with `$RUST_BACKTRACE`, also where it came from.
fn panic_text(
    thread: &str,
    place: Option<&Location<'_>>,
    payload: &(dyn Any + Send),
    backtrace: &Backtrace,
) -> String {
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or(payload.downcast_ref::<String>().map(String::as_str));
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => format!("{backtrace}\n"),
        _ => String::new(),
    };
    format!(
        "thread `{thread}` panicked{place}: {}\n{backtrace}",
        text.unwrap_or("no text")
    )
}

/// Sets the level of diagnostics, at the start and after a reload.
pub(crate) struct LevelSwitch(Box<dyn Fn(Level) + Send + Sync>);

impl LevelSwitch {
    /// Says from now on what has `level` or a more severe one. `$PASSGATE_LOG` wins.
    pub(crate) fn set(&self, level: Level) {
        (self.0)(level);
    }
}

impl std::fmt::Debug for LevelSwitch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LevelSwitch")
    }
}

/// Libraries say at most what `info` lets through: at `trace` they would show bytes of requests.
fn filter(level: Level) -> EnvFilter {
    EnvFilter::try_from_env(FILTER_VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new(format!("{},passgate={level}", level.min(Level::INFO))))
}

/// One line of `tracing`.
#[derive(Debug)]
pub(crate) struct LineWriter {
    to: Diagnostics,
    prefix: &'static [u8],
}

impl<'a> MakeWriter<'a> for Diagnostics {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            to: self.clone(),
            prefix: b"",
        }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> LineWriter {
        let prefix: &[u8] = match *line.level() {
            _ if !self.is_journal => b"",
            Level::ERROR => b"<3>",
            Level::WARN => b"<4>",
            Level::INFO => b"<6>",
            _ => b"<7>",
        };
        LineWriter {
            to: self.clone(),
            prefix,
        }
    }
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.to.push(&[self.prefix, line]);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread lives as long as the process: at the end, [`Diagnostics::flush`] says how long it is waited for.
fn write_for_ever(shared: &Shared, mut output: Output) {
    let never = AtomicBool::new(false);
    let mut batch = Vec::new();
    let mut said = 0;
    loop {
        batch.clear();
        let buffer = lock(&shared.buffer);
        let waited = shared.more.wait_while(buffer, |buffer| buffer.waiting.is_empty());
        let mut buffer = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut buffer.waiting, &mut batch);
        drop(buffer);
        let lost = output.write(&batch, &never).lost;
        shared.dropped.fetch_add(lost, Ordering::Relaxed);
        lock(&shared.buffer).done += batch.len() as u64;
        shared.progress.notify_all();
        batch.shrink_to(64 * 1024);
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if lost == 0 && dropped > said {
            let time = jiff::Timestamp::now();
            let note = format!(
                "{time:.6} WARN lines of diagnostics were dropped, because standard error was not read lines={}\n",
                dropped - said
            );
            if output.write(note.as_bytes(), &never).lost == 0 {
                said = dropped;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Hands each write to the test, and goes on when the test says so.
    struct Steered {
        writes: Sender<String>,
        go_on: Receiver<()>,
    }

    impl Write for Steered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.writes.send(String::from_utf8(bytes.to_vec()).unwrap());
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn steered() -> (Diagnostics, Receiver<String>, Sender<()>) {
        let (writes, written) = channel();
        let (go, go_on) = channel();
        (
            Diagnostics::writing_to(Box::new(Steered { writes, go_on })).unwrap(),
            written,
            go,
        )
    }

    #[test]
    fn what_is_said_arrives_in_order_and_flushing_waits_for_it() {
        let (diagnostics, written, go) = steered();
        diagnostics.say("first\n");
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "first\n");
        assert!(
            !diagnostics.flush(Duration::from_millis(1)),
            "it is being written"
        );
        diagnostics.say("second\n");
        diagnostics.say("third\n");
        drop(go);
        assert!(diagnostics.flush(PATIENCE));
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), "second\nthird\n");
        assert!(diagnostics.flush(Duration::ZERO), "nothing is left");
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_that_are_counted_and_said() {
        let (diagnostics, written, go) = steered();
        diagnostics.say("stuck\n");
        written.recv_timeout(PATIENCE).unwrap();
        let text = format!("{}\n", "x".repeat(1023));
        for _ in 0..MAX_WAITING / text.len() + 5 {
            diagnostics.say(&text);
        }
        diagnostics.say("two lines\nthat do not fit\n");
        assert_eq!(diagnostics.dropped(), 7);
        assert_eq!(lock(&diagnostics.shared.buffer).waiting.len(), MAX_WAITING);
        drop(go);
        assert!(diagnostics.flush(PATIENCE));
        // The note comes behind the batch that was being written when lines were dropped.
        let note = written.recv_timeout(PATIENCE).unwrap();
        assert!(
            note.contains(" WARN ") && note.contains("dropped") && note.ends_with(" lines=7\n"),
            "{note}"
        );
        assert_eq!(written.recv_timeout(PATIENCE).unwrap().len(), MAX_WAITING);
        diagnostics.say("after\n");
        assert_eq!(
            written.recv_timeout(PATIENCE).unwrap(),
            "after\n",
            "what was dropped is said once"
        );
    }

    #[test]
    fn a_panic_is_said_with_its_thread_and_place() {
        let text = |payload: &(dyn Any + Send)| {
            panic_text(
                "worker-1",
                Some(Location::caller()),
                payload,
                &Backtrace::disabled(),
            )
        };
        for payload in [
            Box::new("broken") as Box<dyn Any + Send>,
            Box::new("broken".to_owned()),
        ] {
            let said = text(&*payload);
            assert!(
                said.starts_with("thread `worker-1` panicked at src/observe/diagnostics.rs:"),
                "{said}"
            );
            assert!(said.ends_with(": broken\n"), "{said}");
        }
        assert!(text(&7).ends_with(": no text\n"));
    }

    #[test]
    fn the_journal_gets_the_level_as_a_prefix() {
        let (mut diagnostics, written, go) = steered();
        diagnostics.is_journal = true;
        drop(go);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(diagnostics.clone())
            .with_ansi(false)
            .with_max_level(Level::TRACE)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!("a");
            assert!(written.recv_timeout(PATIENCE).unwrap().starts_with("<3>"));
            tracing::warn!("a");
            assert!(written.recv_timeout(PATIENCE).unwrap().starts_with("<4>"));
            tracing::info!("a");
            assert!(written.recv_timeout(PATIENCE).unwrap().starts_with("<6>"));
            tracing::debug!("a");
            assert!(written.recv_timeout(PATIENCE).unwrap().starts_with("<7>"));
        });
    }
}
