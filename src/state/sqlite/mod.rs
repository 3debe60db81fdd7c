//! State in one SQLite file: `sqlite:PATH`.
//!
//! WAL with `synchronous = FULL`, so that a commit is on the disk before the method returns and a kill at any point leaves
//! the last commit. Two connections, each behind a mutex: a write may have to wait for another process's, and a reading waits
//! for neither; it sees the last commit. Each method checks first whether the file at the path is still the one that is open,
//! and each write checks again after its commit. A database in memory has one connection and no file.

mod accounts;
mod client_codes;
mod codes;
mod connect;
mod engine;
mod error;
mod file;
mod grants;
mod identities;
mod key_sets;
mod revocations;
mod rows;
mod schema;
mod secrets;
mod sessions;
mod signing_keys;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Kind, StateError};
pub(crate) use error::SqliteError;
use file::OpenFile;

/// `sqlite:PATH`
pub(super) const KIND: Kind = Kind {
    scheme: "sqlite",
    example: "sqlite:passgate.db",
    file: |path, base| Some(base.join(path)),
    open: |path, base| Ok(Arc::new(Sqlite::open(&base.join(path))?)),
};

/// An open state file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// `None` for a database in memory, which has only the one connection.
    file: Option<File>,
    /// Whether the log may still have something that was to be gone.
    has_remains: AtomicBool,
}

/// What a database in a file has beside the connection that writes.
#[derive(Debug)]
struct File {
    open: OpenFile,
    /// Locked after the writer where both are.
    reader: Mutex<Connection>,
}

impl Sqlite {
    /// Opens the file at `path`, makes it (readable by its owner only) where there is none, and brings it to the
    /// present schema.
    ///
    /// # Errors
    /// Permissions, a newer schema, another program's file, damage.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        // While a file is made, no other thread may open it: closing the handle that made it would take away the POSIX
        // locks of a connection to the same file.
        static OPENING: Mutex<()> = Mutex::new(());
        let opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = file::prepare(path)?;
        let failed = |error| SqliteError::new(path, "open the database", error);
        let mut writer = connect::open(prepared.real_path()).map_err(failed)?;
        let reader = connect::open(prepared.real_path()).map_err(failed)?;
        drop(opening);
        connect::configure_file(&writer).map_err(failed)?;
        schema::migrate(&mut writer, path)?;
        connect::configure_reader(&reader).map_err(failed)?;
        let open = prepared.opened()?;
        let reader = Mutex::new(reader);
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            file: Some(File { open, reader }),
            // A process that was killed may have left some.
            has_remains: AtomicBool::new(true),
        })
    }

    /// An empty database in memory, for this process alone: for commands that must make no file, and for tests.
    ///
    /// # Errors
    /// SQLite cannot make one.
    pub fn in_memory() -> Result<Self, SqliteError> {
        let path = Path::new(":memory:");
        let failed = |error| SqliteError::new(path, "open the database", error);
        let mut writer = Connection::open_in_memory().map_err(failed)?;
        connect::configure(&writer).map_err(failed)?;
        schema::migrate(&mut writer, path)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            file: None,
            has_remains: AtomicBool::new(false),
        })
    }

    /// Whether another process that opens the path now gets the same files.
    fn check_file(&self) -> Result<(), SqliteError> {
        self.file
            .as_ref()
            .map_or(Ok(()), |file| file.open.is_still_there())
    }

    fn read<T>(
        &self,
        action: &'static str,
        statements: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        self.check_file()?;
        let reader = self.file.as_ref().map_or(&self.writer, |file| &file.reader);
        statements(&lock(reader)).map_err(|error| SqliteError::new(&self.path, action, error).into())
    }

    fn write<T>(
        &self,
        action: &'static str,
        statements: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        self.check_file()?;
        let mut connection = lock(&self.writer);
        let written = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = statements(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })();
        let written = written.map_err(|error| SqliteError::new(&self.path, action, error))?;
        if let Some(file) = &self.file
            && self.has_remains.load(Ordering::Relaxed)
        {
            self.empty_log(&connection, file);
        }
        // A write into a file that was deleted meanwhile is lost.
        self.check_file()?;
        Ok(written)
    }

    /// Writes a table of its own, and takes it back.
    fn try_write(&self) -> Result<(), StateError> {
        self.check_file()?;
        let mut connection = lock(&self.writer);
        let tried = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .execute_batch("CREATE TABLE tried (x INTEGER) STRICT; INSERT INTO tried VALUES (1)")?;
            transaction.rollback()
        })();
        tried.map_err(|error| SqliteError::new(&self.path, "write", error).into())
    }

    /// A write of which `has_erased` says whether what it replaced or deleted must be nowhere in the files. The pages of
    /// the database are overwritten by SQLite itself, and the log is emptied here.
    fn erase<T>(
        &self,
        action: &'static str,
        statements: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
        has_erased: impl FnOnce(&T) -> bool,
    ) -> Result<T, StateError> {
        self.write(action, |transaction| {
            let done = statements(transaction)?;
            // Before the commit: too often does no harm.
            if has_erased(&done) {
                self.has_remains.store(true, Ordering::Relaxed);
            }
            Ok(done)
        })
    }

    /// Does not wait for a reader of another process: the next write tries again.
    fn empty_log(&self, writer: &Connection, file: &File) {
        let _no_reader_here = lock(&file.reader);
        let emptied = (|| {
            writer.busy_timeout(Duration::ZERO)?;
            let is_busy =
                writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
            writer.busy_timeout(connect::LOCK_TIMEOUT)?;
            is_busy
        })();
        match emptied {
            Ok(is_busy) => self.has_remains.store(is_busy, Ordering::Relaxed),
            Err(error) => tracing::debug!(%error, "the log was not emptied"),
        }
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A transaction rolls back when it is dropped, so a panic leaves nothing half done behind the lock.
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
