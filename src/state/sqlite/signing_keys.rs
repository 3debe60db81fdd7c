//! Statements on the table `signing_keys`.

use rusqlite::{Connection, Transaction, params};
use zeroize::Zeroizing;

use crate::clock::UnixSeconds;
use crate::state::SigningKeyRow;

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<SigningKeyRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT key_id, public_key, private_key, created_at, retired_at, verify_until FROM signing_keys
         ORDER BY retired_at IS NOT NULL, retired_at DESC, rowid DESC",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(SigningKeyRow {
            key_id: row.get(0)?,
            public_key: row.get(1)?,
            private_key: row.get::<_, Option<Vec<u8>>>(2)?.map(Zeroizing::new),
            created_at: row.get(3)?,
            retired_at: row.get(4)?,
            verify_until: row.get(5)?,
        })
    })?;
    rows.collect()
}

pub(super) fn ensure(transaction: &Transaction<'_>, candidate: &SigningKeyRow) -> rusqlite::Result<Vec<SigningKeyRow>> {
    let is_there: bool =
        transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM signing_keys WHERE retired_at IS NULL)", [], |row| row.get(0))?;
    if !is_there {
        insert(transaction, candidate)?;
    }
    all(transaction)
}

pub(super) fn rotate(
    transaction: &Transaction<'_>,
    next: &SigningKeyRow,
    now: UnixSeconds,
    verify_until: UnixSeconds,
) -> rusqlite::Result<Vec<SigningKeyRow>> {
    transaction.execute(
        "UPDATE signing_keys SET private_key = NULL, retired_at = ?1, verify_until = ?2 WHERE retired_at IS NULL",
        [now, verify_until],
    )?;
    transaction.execute("DELETE FROM signing_keys WHERE verify_until <= ?1", [now])?;
    insert(transaction, next)?;
    all(transaction)
}

fn insert(transaction: &Transaction<'_>, key: &SigningKeyRow) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO signing_keys (key_id, public_key, private_key, created_at) VALUES (?1, ?2, ?3, ?4)",
        params![key.key_id, key.public_key, key.private_key.as_ref().map(|bytes| bytes.as_slice()), key.created_at],
    )?;
    Ok(())
}
