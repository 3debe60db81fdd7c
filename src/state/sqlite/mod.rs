//! State in one SQLite file: `sqlite:PATH`.
//!
//! WAL with `synchronous = FULL`, so that a commit is on the disk before the method returns and a kill at any point
//! leaves the last commit. One connection behind a mutex: callers are few and block anyway. Each method looks first
//! whether the file at the path is still the one that is open, and each write looks again after its commit.

mod file;
mod key_sets;
mod revocations;
mod schema;
mod signing_keys;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::{Kind, PURGE_AFTER, Revocation, SigningKeyRow, State, StateError, Version};
use crate::clock::UnixSeconds;
use file::OpenFile;

/// `sqlite:PATH`
pub(super) const KIND: Kind = Kind {
    scheme: "sqlite",
    example: "sqlite:passgate.db",
    open: |path, base| Ok(Arc::new(Sqlite::open(&base.join(path))?)),
};

/// The longest wait for another process's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// An open state file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    file: OpenFile,
    connection: Mutex<Connection>,
}

impl Sqlite {
    /// Opens the file at `path`, makes it (readable by its owner only) where there is none, and brings it to the
    /// present schema.
    ///
    /// # Errors
    /// Whatever keeps it from being used: permissions, a newer schema, another program's file, damage.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        // While a file is made, nobody else in this process may open it: closing the handle that made it would take
        // away the POSIX locks of a connection to the same file.
        static OPENING: Mutex<()> = Mutex::new(());
        let opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let prepared = file::prepare(path)?;
        let failed = |error| StateError::from_sqlite(path, "open the database", error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(prepared.real_path(), flags).map_err(failed)?;
        drop(opening);
        configure(&connection).map_err(failed)?;
        schema::migrate(&mut connection, path)?;
        let file = prepared.opened()?;
        Ok(Self { path: path.to_owned(), file, connection: Mutex::new(connection) })
    }

    fn connection(&self) -> Result<MutexGuard<'_, Connection>, StateError> {
        self.file.is_still_there()?;
        // A transaction rolls back when it is dropped, so a panic leaves nothing half done behind the lock.
        Ok(self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(
        &self,
        action: &'static str,
        statements: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        statements(&*self.connection()?).map_err(|error| StateError::from_sqlite(&self.path, action, error))
    }

    fn write<T>(
        &self,
        action: &'static str,
        statements: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StateError> {
        let mut connection = self.connection()?;
        let written = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = statements(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })();
        let written = written.map_err(|error| StateError::from_sqlite(&self.path, action, error))?;
        // Into a file that was deleted meanwhile: written, and of no use to anybody.
        self.file.is_still_there()?;
        Ok(written)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // The file could come from elsewhere: nothing in its schema may run code of its choosing.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    switch_to_wal(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is deleted (private keys, later hashes) is overwritten.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))
}

/// SQLite does not wait for locks when the journal mode changes, so two processes that meet a new file at once have to
/// be patient here.
#[expect(clippy::disallowed_methods, reason = "opening the state blocks anyway, and never happens on a worker")]
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
                    Some("this file system does not carry SQLite's write-ahead log".to_owned()),
                ));
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && start.elapsed() < LOCK_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}

impl State for Sqlite {
    fn version(&self) -> Result<Version, StateError> {
        self.read("look for changes", |connection| {
            let others = connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))?;
            Ok(Version { others: others.cast_unsigned(), own: connection.total_changes() })
        })
    }

    fn revoke(&self, revocation: &Revocation) -> Result<(), StateError> {
        self.write("revoke", |transaction| revocations::insert(transaction, revocation))
    }

    fn revocations(&self, now: UnixSeconds) -> Result<Vec<Revocation>, StateError> {
        let mut known = self.read("read revocations", revocations::all)?;
        let too_old = |known: &Revocation| known.expires_at.is_some_and(|end| end <= now.saturating_sub(PURGE_AFTER));
        if known.iter().any(too_old)
            && let Err(error) =
                self.write("delete old revocations", |it| revocations::purge(it, now.saturating_sub(PURGE_AFTER)))
        {
            // What was read is right without it, and the next reading tries again.
            tracing::warn!(%error, "old revocations were not deleted");
        }
        known.retain(|known| known.expires_at.is_none_or(|end| end > now));
        Ok(known)
    }

    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        self.read("read signing keys", signing_keys::all)
    }

    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError> {
        self.write("add a signing key", |transaction| signing_keys::ensure(transaction, candidate))
    }

    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Result<Vec<SigningKeyRow>, StateError> {
        let left = self.write("rotate the signing key", |it| signing_keys::rotate(it, next, now, verify_until))?;
        // The log still has the page with the private part. Where a reader is in the way it goes at a later checkpoint.
        let emptied = self.read("empty the log", |connection| {
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
        if let Err(error) = emptied {
            tracing::debug!(%error, "the log was not emptied");
        }
        Ok(left)
    }

    fn note_token(&self, _key_id: &str, _expires_at: UnixSeconds) -> Result<(), StateError> {
        todo!()
    }
    fn ensure_secret(&self, _name: &str, _candidate: &[u8; 32]) -> Result<zeroize::Zeroizing<[u8; 32]>, StateError> {
        todo!()
    }
    fn add_account(&self, _account: &super::AccountRow, _first: bool) -> Result<super::Added, StateError> {
        todo!()
    }
    fn account(&self, _id: &str) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn account_by_email(&self, _email_key: &str) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn accounts(&self) -> Result<Vec<super::AccountRow>, StateError> {
        todo!()
    }
    fn has_accounts(&self) -> Result<bool, StateError> {
        todo!()
    }
    fn change_account(
        &self,
        _id: &str,
        _change: &super::AccountChange,
        _end: Option<&super::EndSessions<'_>>,
    ) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn rehash_account(&self, _id: &str, _from: &str, _to: &str) -> Result<bool, StateError> {
        todo!()
    }
    fn delete_account(&self, _id: &str, _end: &super::EndSessions<'_>) -> Result<bool, StateError> {
        todo!()
    }
    fn foreign_hash(&self, _like: &str) -> Result<Option<String>, StateError> {
        todo!()
    }
    fn add_session(&self, _session: &super::SessionRow, _password_version: i64) -> Result<bool, StateError> {
        todo!()
    }
    fn session(&self, _id: &str) -> Result<Option<(super::SessionRow, super::AccountRow)>, StateError> {
        todo!()
    }
    fn sessions(&self, _account_id: Option<&str>) -> Result<Vec<super::SessionRow>, StateError> {
        todo!()
    }
    fn touch_session(&self, _id: &str, _seen_at: UnixSeconds, _address: &str) -> Result<(), StateError> {
        todo!()
    }
    fn rotate_refresh(
        &self,
        _id: &str,
        _presented: &super::TokenHash,
        _successor: &super::TokenHash,
        _now: UnixSeconds,
        _grace: UnixSeconds,
        _address: &str,
    ) -> Result<super::Rotation, StateError> {
        todo!()
    }
    fn end_sessions(&self, _which: super::Which<'_>, _end: &super::EndSessions<'_>) -> Result<Vec<String>, StateError> {
        todo!()
    }

    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError> {
        self.read("read a key set", |connection| key_sets::load(connection, issuer, url))
    }

    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError> {
        self.write("save a key set", |transaction| key_sets::save(transaction, issuer, url, jwks, now))
    }
}

#[cfg(test)]
mod tests;
