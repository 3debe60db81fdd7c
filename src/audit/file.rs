//! The file of the audit log, and the one thread that writes it.
//!
//! Input: whole lines, from several threads; commands of other processes append to the same file. Output: the lines are on the
//! disk. Several that wait are written together. Invariants: lines are only appended, each batch by one write; what another
//! process or a full disk left of a line never becomes the beginning of another one.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};

use rustix::fs::{Access, access};

/// The most bytes that are written together.
const BATCH: usize = 256 * 1024;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Message {
    /// To write these lines, and to say when they are on the disk.
    Lines {
        lines: Vec<u8>,
        reply: SyncSender<io::Result<()>>,
    },
    /// To go on in this file.
    Reopen(File),
}

/// Whether lines can be appended to `path` later; makes nothing.
///
/// # Errors
/// Why not, without the path.
pub(crate) fn check_place(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err("it is not a file".to_owned()),
        Ok(_) => access(path, Access::WRITE_OK).map_err(|error| io::Error::from(error).to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let directory = directory(path);
            match std::fs::metadata(directory) {
                Ok(found) if !found.is_dir() => Err(format!("`{}` is not a directory", directory.display())),
                Ok(_) => access(directory, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|error| format!("`{}`: {}", directory.display(), io::Error::from(error))),
                Err(error) => Err(format!("`{}`: {error}", directory.display())),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Opens `path` to append to it. A file that does not exist is made with mode 0600; by root, for the owner of the directory,
/// so that the gateway can write what a command of root has made.
///
/// # Errors
/// What the system said, naming the file; also where there is something else than a file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let explain = |error: io::Error| {
        let text = format!("cannot write the audit log `{}`: {error}", path.display());
        io::Error::new(error.kind(), text)
    };
    open_or_make(path).map_err(explain)
}

fn open_or_make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Read as well: the last byte tells whether the last line is whole.
    options.read(true).append(true).mode(0o600);
    match std::fs::metadata(path) {
        // A pipe would block the thread that opens it until it has a reader.
        Ok(found) if !found.is_file() => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a file"));
        }
        Ok(_) => return options.open(path),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = match options.create_new(true).open(path) {
        Ok(file) => file,
        // Another process made it in between.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return options.create_new(false).open(path);
        }
        Err(error) => return Err(error),
    };
    let directory = File::open(directory(path))?;
    if rustix::process::geteuid().is_root() {
        let owner = directory.metadata()?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    // The name of the file is on the disk before a line is promised.
    directory.sync_all()?;
    Ok(file)
}

/// Writes until all senders have gone.
pub(super) fn write_for_ever(mut file: File, messages: &Receiver<Message>) {
    let mut is_failing = false;
    while let Ok(first) = messages.recv() {
        let (mut lines, mut waiting) = match first {
            Message::Reopen(next) => {
                file = next;
                continue;
            }
            Message::Lines { lines, reply } => (lines, vec![reply]),
        };
        let mut next_file = None;
        while lines.len() < BATCH && next_file.is_none() {
            match messages.try_recv() {
                Ok(Message::Lines { lines: more, reply }) => {
                    lines.extend_from_slice(&more);
                    waiting.push(reply);
                }
                Ok(Message::Reopen(next)) => next_file = Some(next),
                Err(_) => break,
            }
        }
        let written = append(&file, &lines);
        match &written {
            Err(error) if !is_failing => {
                tracing::error!(%error, "the audit log cannot be written; sign-ins and changes are refused");
            }
            Ok(()) if is_failing => tracing::info!("the audit log is written again"),
            Err(_) | Ok(()) => {}
        }
        is_failing = written.is_err();
        for reply in waiting {
            let copied = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            // The thread that asked may have ended.
            let _ = reply.send(copied);
        }
        file = next_file.unwrap_or(file);
    }
}

/// Appends `lines` in one write and syncs them.
fn append(mut file: &File, lines: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        // Shorter meanwhile: it was truncated, and the line begins a new file.
        file.read_at(&mut last, length - 1)?;
    }
    let separated = [b"\n", lines].concat();
    let whole = if last == *b"\n" { lines } else { &separated };
    let written = loop {
        match file.write(whole) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => break written?,
        }
    };
    if written < whole.len() {
        return Err(io::Error::new(
            ErrorKind::StorageFull,
            format!("only {written} of {} bytes were written", whole.len()),
        ));
    }
    file.sync_data()
}
