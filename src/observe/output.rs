//! Where log lines are written: a stream or a file that may fail, block and come back.
//!
//! Input: whole lines. Output: the number of lines that could not be written. Only the threads of the logs write here.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// The pause before a full pipe that does not block is tried again.
const RETRY: Duration = Duration::from_millis(5);

/// Where the lines of one log go.
pub(super) struct Output {
    to: Box<dyn Write + Send>,
    /// A failure left half a line, so the next one starts on a new line.
    is_mid_line: bool,
    is_failing: bool,
}

/// What became of some lines.
#[derive(Debug)]
pub(super) struct Written {
    /// Lines that were not written.
    pub(super) lost: u64,
    /// The reason, for the first of several failures in a row.
    pub(super) error: Option<std::io::Error>,
}

impl Output {
    pub(super) fn new(to: Box<dyn Write + Send>) -> Self {
        Self {
            to,
            is_mid_line: false,
            is_failing: false,
        }
    }

    /// Writes whole lines. A reader that went away must not end the gateway, and may come back (a named pipe), so each
    /// batch is tried. A full pipe that does not block is waited for until `stop` is set.
    pub(super) fn write(&mut self, lines: &[u8], stop: &AtomicBool) -> Written {
        let result = if self.is_mid_line {
            self.write_all(b"\n", stop).map(|_| ())
        } else {
            Ok(())
        };
        let (written, result) = match result.map(|()| self.write_all(lines, stop)) {
            Ok(Ok(written)) => (written, self.to.flush()),
            Ok(Err((written, error))) => (written, Err(error)),
            Err((_, error)) => (0, Err(error)),
        };
        let failed_before = std::mem::replace(&mut self.is_failing, result.is_err());
        Written {
            lost: count_lines(&lines[written..]),
            error: result.err().filter(|_| !failed_before),
        }
    }

    /// As `Write::write_all`, and says how far it came.
    #[expect(
        clippy::disallowed_methods,
        reason = "a log's own thread: it serves no requests"
    )]
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
                // Another process made the shared pipe non-blocking, and it is full.
                Err(error) if error.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Acquire) => {
                    thread::sleep(RETRY);
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(written)
    }
}

pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
