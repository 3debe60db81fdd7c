//! What can be wrong with a state file, and what the operator has to do about it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::state::{StateError, StateErrorKind};

/// Why a state file cannot be opened, read or written. No text of it holds anything that was stored.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// The operating system refused.
    #[error("cannot {action} the state file `{}`: {source}; {}", path.display(), advice(source))]
    File {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a regular file.
    #[error("the state file `{}` is not a regular file; point `state.url` at another path", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// Other users could forge revocations, sessions and keys.
    #[error(
        "`{}` can be written by other users (mode {mode:04o}), who could sign in as any account; \
         find out whether one of them has written to it, then run `chmod go-w {}`",
        path.display(), path.display()
    )]
    WritableByOthers {
        /// The file or its directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user, who can write it.
    #[error(
        "the state file `{}` belongs to user id {owner}, which is neither root, nor the owner of its directory, nor the \
         user passgate runs as; move it away or run `chown` on it",
        path.display()
    )]
    OwnedByStranger {
        /// The file.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
    },
    /// An SQLite file, but not ours.
    #[error("`{}` is the database of another program; point `state.url` at a path of its own", path.display())]
    OtherProgram {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer passgate.
    #[error(
        "the state file `{}` was written by a newer passgate (schema {found}, this one knows up to {known}); \
         run that version, or restore the copy made before the upgrade",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file at the path is not the one that is open.
    #[error(
        "the state file `{}` was deleted or replaced while it was in use, so what other processes write no longer \
         arrives; put the right file in place and restart passgate",
        path.display()
    )]
    Replaced {
        /// The file, its `-wal` or its `-shm`.
        path: PathBuf,
    },
    /// Another process holds the lock.
    #[error(
        "cannot {action}: the state file `{}` was locked by another process for more than 5 seconds; \
         `fuser {}` names it",
        path.display(), path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
    },
    /// The content is not what SQLite wrote.
    #[error(
        "the state file `{}` is damaged ({source}); stop passgate, keep a copy, and restore a backup or try \
         `sqlite3 {} .recover`",
        path.display(), path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Anything else that SQLite reports.
    #[error("cannot {action} in the state file `{}`: {source}; {}", path.display(), sqlite_advice(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl SqliteError {
    /// Sorts an error of SQLite by what the operator has to do about it.
    pub(super) fn new(path: &Path, action: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path, action },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { path, source },
            _ => Self::Sqlite { path, action, source },
        }
    }
}

impl From<SqliteError> for StateError {
    fn from(error: SqliteError) -> Self {
        let kind = match &error {
            SqliteError::NotAFile { .. }
            | SqliteError::WritableByOthers { .. }
            | SqliteError::OwnedByStranger { .. }
            | SqliteError::OtherProgram { .. }
            | SqliteError::Newer { .. } => StateErrorKind::Unusable,
            SqliteError::Replaced { .. } => StateErrorKind::Replaced,
            SqliteError::Locked { .. } => StateErrorKind::Locked,
            SqliteError::File { .. } | SqliteError::Damaged { .. } | SqliteError::Sqlite { .. } => {
                StateErrorKind::Failed
            }
        };
        Self::new(kind, error)
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => "create its directory, or correct `state.url`",
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "its directory is read-only; under systemd leave `url` out of `[state]`, and the file is in the state directory"
        }
        std::io::ErrorKind::PermissionDenied => {
            "the user passgate runs as needs to read and write the file and to write its directory"
        }
        _ => "check whether the file system is mounted and sound",
    }
}

fn sqlite_advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full: make room, nothing written so far is lost",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "the user passgate runs as needs to write the file, its `-wal` and `-shm`, and its directory"
        }
        _ => {
            "check whether the file system is mounted, sound and local: SQLite's locks do not hold on network file systems"
        }
    }
}
