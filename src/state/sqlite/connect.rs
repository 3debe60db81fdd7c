//! The settings of a connection: durable, patient with locks, and safe from a hostile file.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// The longest wait for another process's write.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a file that is there.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

/// The settings of the connection that writes a file.
pub(super) fn configure_file(connection: &Connection) -> rusqlite::Result<()> {
    configure(connection)?;
    switch_to_wal(connection)?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// The settings of every connection.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // The file could come from elsewhere: nothing in its schema may run code of its choosing.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Nothing of ours goes to files of its own elsewhere.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    // What is deleted (private keys, hashes) is overwritten.
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))
}

/// The settings of the connection that reads.
pub(super) fn configure_reader(connection: &Connection) -> rusqlite::Result<()> {
    configure_file(connection)?;
    connection.pragma_update(None, "query_only", true)
}

/// SQLite does not wait for locks when the journal mode changes, so two processes that meet a new file at once have to
/// be patient here.
#[expect(
    clippy::disallowed_methods,
    reason = "opening the state blocks anyway, and never happens on a worker"
)]
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
                    Some("this file system does not carry SQLite's write-ahead log".to_owned()),
                ));
            }
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && start.elapsed() < LOCK_TIMEOUT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error),
        }
    }
}
