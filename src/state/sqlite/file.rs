//! The file under the database: made for its owner alone, inspected before SQLite opens it, and watched while it is open.
//!
//! A user who can write it can sign as the gateway, so a file, log or directory that others can write is refused. This file
//! never opens one that exists: closing a second handle would drop the POSIX locks of SQLite's own (which recent versions of
//! it notice for the log, and only for that).

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::error::SqliteError;

/// Beside the file itself, what SQLite would read of it.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];
/// What exists for as long as the database is open in WAL mode. Were one of these deleted, other processes would make
/// a new one and this one would never see what they write.
const COMPANIONS_IN_USE: [&str; 2] = ["-wal", "-shm"];

/// A file that can be opened.
#[derive(Debug)]
pub(super) struct Prepared {
    configured: PathBuf,
    real: PathBuf,
    identity: Identity,
}

/// The files as they were when they were opened.
#[derive(Debug)]
pub(super) struct OpenFile(Vec<(PathBuf, Identity)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        fs::metadata(path).map(|data| Self {
            device: data.dev(),
            inode: data.ino(),
        })
    }
}

/// Makes the file where there is none, and refuses one that is not safe to use.
pub(super) fn prepare(path: &Path) -> Result<Prepared, SqliteError> {
    let failed = |action| {
        move |source| SqliteError::File {
            path: path.to_owned(),
            action,
            source,
        }
    };
    create(path).map_err(failed("create"))?;
    let real = fs::canonicalize(path).map_err(failed("find"))?;
    let directory = real.parent().expect("a canonical path of a file has a parent");
    let around = fs::metadata(directory).map_err(failed("look at the directory of"))?;
    // In a sticky directory (/tmp) others can add files and not replace ours.
    if around.mode() & 0o1002 == 0o0002 {
        return Err(SqliteError::WritableByOthers {
            path: directory.to_owned(),
            mode: around.mode() & 0o7777,
        });
    }
    let data = fs::symlink_metadata(&real).map_err(failed("look at"))?;
    inspect(&real, &data, &around)?;
    for name in COMPANIONS {
        let companion = companion(&real, name);
        match fs::symlink_metadata(&companion) {
            Ok(data) => inspect(&companion, &data, &around)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => {
                return Err(SqliteError::File {
                    path: companion,
                    action: "look at",
                    source,
                });
            }
        }
    }
    if data.mode() & 0o044 != 0 {
        tracing::warn!(
            "the state file `{}` can be read by other users (mode {:04o}) and holds private keys; run `chmod 600 {}`",
            path.display(),
            data.mode() & 0o7777,
            path.display(),
        );
    }
    let identity = Identity {
        device: data.dev(),
        inode: data.ino(),
    };
    Ok(Prepared {
        configured: path.to_owned(),
        real,
        identity,
    })
}

fn create(path: &Path) -> std::io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        // Closed again before SQLite opens it; SQLite gives `-wal` and `-shm` the same mode.
        Ok(file) => file.set_permissions(fs::Permissions::from_mode(0o600)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn inspect(path: &Path, data: &Metadata, directory: &Metadata) -> Result<(), SqliteError> {
    if !data.is_file() {
        return Err(SqliteError::NotAFile {
            path: path.to_owned(),
        });
    }
    if data.mode() & 0o022 != 0 {
        return Err(SqliteError::WritableByOthers {
            path: path.to_owned(),
            mode: data.mode() & 0o7777,
        });
    }
    // The owner of /proc/self is the user of this process; where there is no /proc the question is left open.
    let stranger = fs::metadata("/proc/self")
        .is_ok_and(|process| ![0, directory.uid(), process.uid()].contains(&data.uid()));
    if stranger {
        return Err(SqliteError::OwnedByStranger {
            path: path.to_owned(),
            owner: data.uid(),
        });
    }
    Ok(())
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

impl Prepared {
    /// The path without symbolic links, absolute.
    pub(super) fn real_path(&self) -> &Path {
        &self.real
    }

    /// To be called when the database is open and has been read: notes which files these are.
    pub(super) fn opened(self) -> Result<OpenFile, SqliteError> {
        // By the path as configured, so that a link that is turned elsewhere is noticed too.
        let mut files = vec![(self.configured, self.identity)];
        for name in COMPANIONS_IN_USE {
            let path = companion(&self.real, name);
            match Identity::of(&path) {
                Ok(identity) => files.push((path, identity)),
                Err(source) => {
                    return Err(SqliteError::File {
                        path,
                        action: "look at",
                        source,
                    });
                }
            }
        }
        let open = OpenFile(files);
        open.is_still_there()?;
        Ok(open)
    }
}

impl OpenFile {
    /// Whether another process that opens the path now gets the same files.
    pub(super) fn is_still_there(&self) -> Result<(), SqliteError> {
        for (path, identity) in &self.0 {
            match Identity::of(path) {
                Ok(now) if now == *identity => {}
                Ok(_) => return Err(SqliteError::Replaced { path: path.clone() }),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(SqliteError::Replaced { path: path.clone() });
                }
                Err(source) => {
                    return Err(SqliteError::File {
                        path: path.clone(),
                        action: "look at",
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}
