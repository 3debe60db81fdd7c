//! The tables, as the steps that made them. A step that was released is never changed; a new one goes to the end.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::state::StateError;

/// `PRAGMA application_id` of our files, "pgat" in ASCII.
const APPLICATION_ID: i64 = 0x7067_6174;

/// `user_version` is the number of steps that a file has seen.
const STEPS: &[&str] = &[
    // 1: revocations, our signing keys, the issuers' last good key sets.
    "
    CREATE TABLE revocations (
        issuer TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('token', 'subject')),
        value TEXT NOT NULL,
        revoked_at INTEGER NOT NULL,
        expires_at INTEGER,
        PRIMARY KEY (issuer, kind, value)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE signing_keys (
        key_id TEXT NOT NULL PRIMARY KEY,
        public_key BLOB NOT NULL,
        private_key BLOB,
        created_at INTEGER NOT NULL,
        retired_at INTEGER,
        verify_until INTEGER,
        CHECK ((retired_at IS NULL) = (private_key IS NOT NULL)),
        CHECK ((retired_at IS NULL) = (verify_until IS NULL))
    ) STRICT;
    -- At most one is active.
    CREATE UNIQUE INDEX signing_keys_active ON signing_keys ((retired_at IS NULL)) WHERE retired_at IS NULL;

    CREATE TABLE key_sets (
        issuer TEXT NOT NULL PRIMARY KEY,
        url TEXT NOT NULL,
        content BLOB NOT NULL,
        fetched_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
];

/// Takes the steps that the file has not seen, all in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StateError> {
    let failed = |error| StateError::from_sqlite(path, "prepare the tables", error);
    let known = i64::try_from(STEPS.len()).expect("a handful of steps");
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let (application, version, tables) = describe(&transaction).map_err(failed)?;
    let is_new = application == 0 && version == 0 && tables == 0;
    if application != APPLICATION_ID && !is_new {
        return Err(StateError::Foreign { path: path.to_owned() });
    }
    if version > known {
        return Err(StateError::Newer { path: path.to_owned(), found: version, known });
    }
    if version == known {
        return Ok(());
    }
    let seen = usize::try_from(version).map_err(|_| StateError::Foreign { path: path.to_owned() })?;
    (|| {
        for step in &STEPS[seen..] {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()
    })()
    .map_err(failed)
}

/// Application id, schema version, number of tables.
fn describe(transaction: &Transaction<'_>) -> rusqlite::Result<(i64, i64, i64)> {
    Ok((
        transaction.pragma_query_value(None, "application_id", |row| row.get(0))?,
        transaction.pragma_query_value(None, "user_version", |row| row.get(0))?,
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    ))
}
