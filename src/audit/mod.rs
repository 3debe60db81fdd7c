//! The audit log: who did what to whom, from where and when; one JSON line for each act.
//!
//! Input: an [`Event`] and its [`Origin`]. Output: a line in the file of `[audit]`, which is on the disk when the act is
//! answered. Acts are noted where the state commits them ([`RecordedState`]), so that no endpoint and no command can forget
//! one; refused sign-ins, which change nothing, are noted by the endpoints. Invariants: no line has a secret; text of a
//! client is cut and cannot break a line; an act whose line cannot be written is answered with an error.

mod event;
mod file;
mod recorded;
mod scope;

pub(crate) use event::{Actor, Event, Origin, Whom, rfc3339, text};
pub(crate) use file::check_place;
pub(crate) use recorded::{Outside, RecordedState};

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use file::{Message, open, write_for_ever};

/// Batches of lines that wait for the writer. Each has a thread that waits for it, of which there are fewer.
const WAITING: usize = 64;

/// The way to the file, for every thread. Cheap to clone. Without `[audit]` it takes events and writes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    writer: Mutex<Option<SyncSender<Message>>>,
}

impl Audit {
    /// The log in the file `path`, which is opened with the first line, or by [`Audit::make_ready`].
    #[must_use]
    pub(crate) fn at(path: Option<PathBuf>) -> Self {
        Self(path.map(|path| {
            Arc::new(Shared {
                path,
                writer: Mutex::new(None),
            })
        }))
    }

    /// Whether there is a file.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The file; empty where there is none.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        self.0
            .as_ref()
            .map_or(Path::new(""), |shared| shared.path.as_path())
    }

    /// Opens the file and starts the thread that writes, where that was not done yet.
    ///
    /// # Errors
    /// What the system said, naming the file.
    pub(crate) fn make_ready(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |shared| shared.writer().map(drop))
    }

    /// Opens the file again, after it was rotated. What fails leaves the old one in use.
    ///
    /// # Errors
    /// What the system said, naming the file.
    pub(crate) fn reopen(&self) -> io::Result<()> {
        let Some(shared) = &self.0 else { return Ok(()) };
        let file = open(&shared.path)?;
        let sent = shared.writer()?.send(Message::Reopen(file));
        sent.map_err(|_| io::Error::other("the thread of the audit log has ended"))
    }

    /// Writes a line for each of `events`, and returns when they are on the disk. Blocks: not for a worker.
    ///
    /// # Errors
    /// What the system said. Some of the lines may be there nevertheless.
    pub(crate) fn record(&self, origin: &Origin, events: &[Event]) -> io::Result<()> {
        let Some(shared) = self.0.as_ref().filter(|_| !events.is_empty()) else {
            return Ok(());
        };
        let now = jiff::Timestamp::now();
        let mut lines = Vec::with_capacity(512 * events.len());
        for event in events {
            event::append(&mut lines, now, origin, event)?;
        }
        let (reply, done) = sync_channel(1);
        let gone = || io::Error::other("the thread of the audit log has ended");
        shared
            .writer()?
            .send(Message::Lines { lines, reply })
            .map_err(|_| gone())?;
        done.recv().map_err(|_| gone())?
    }
}

impl Shared {
    fn writer(&self) -> io::Result<SyncSender<Message>> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*writer {
            return Ok(known.clone());
        }
        let started = start(open(&self.path)?)?;
        *writer = Some(started.clone());
        Ok(started)
    }
}

fn start(file: File) -> io::Result<SyncSender<Message>> {
    let (sender, messages) = sync_channel(WAITING);
    std::thread::Builder::new()
        .name("audit log".to_owned())
        .spawn(move || write_for_ever(file, &messages))?;
    Ok(sender)
}

#[cfg(test)]
mod tests;
