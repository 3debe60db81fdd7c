//! Statements on the table `signing_keys`.

use rusqlite::types::Type;
use rusqlite::{Connection, Error, Row, Transaction, params};
use zeroize::Zeroizing;

use crate::clock::UnixSeconds;
use crate::state::SigningKeyRow;
use crate::values::SigningAlgorithm;

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<SigningKeyRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT key_id, algorithm, public_key, private_key, created_at, retired_at, verify_until FROM signing_keys
         ORDER BY retired_at IS NOT NULL, retired_at DESC, rowid DESC",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(SigningKeyRow {
            key_id: row.get(0)?,
            algorithm: algorithm(row)?,
            public_key: row.get(2)?,
            private_key: row.get::<_, Option<Vec<u8>>>(3)?.map(Zeroizing::new),
            created_at: row.get(4)?,
            retired_at: row.get(5)?,
            verify_until: row.get(6)?,
        })
    })?;
    rows.collect()
}

fn algorithm(row: &Row<'_>) -> rusqlite::Result<SigningAlgorithm> {
    row.get_ref(1)?
        .as_str()?
        .parse()
        .map_err(|reason: String| Error::FromSqlConversionFailure(1, Type::Text, reason.into()))
}

pub(super) fn ensure(
    transaction: &Transaction<'_>,
    candidate: &SigningKeyRow,
) -> rusqlite::Result<Vec<SigningKeyRow>> {
    let is_there: bool = transaction.query_row(
        "SELECT EXISTS (SELECT 1 FROM signing_keys WHERE retired_at IS NULL)",
        [],
        |row| row.get(0),
    )?;
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
        "UPDATE signing_keys
         SET private_key = NULL, retired_at = ?1, verify_until = max(?2, coalesce(tokens_until, ?2))
         WHERE retired_at IS NULL",
        [now, verify_until],
    )?;
    transaction.execute("DELETE FROM signing_keys WHERE verify_until <= ?1", [now])?;
    insert(transaction, next)?;
    all(transaction)
}

/// SQLite's max of several values is NULL when one is, so the active key still has no end.
pub(super) fn note_token(
    transaction: &Transaction<'_>,
    key_id: &str,
    expires_at: UnixSeconds,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE signing_keys
             SET tokens_until = max(?2, coalesce(tokens_until, ?2)), verify_until = max(?2, verify_until)
             WHERE key_id = ?1 AND (tokens_until IS NULL OR tokens_until < ?2)",
        )?
        .execute(params![key_id, expires_at])?;
    Ok(())
}

fn insert(transaction: &Transaction<'_>, key: &SigningKeyRow) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO signing_keys (key_id, algorithm, public_key, private_key, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            key.key_id,
            key.algorithm.as_str(),
            key.public_key,
            key.private_key.as_ref().map(|bytes| bytes.as_slice()),
            key.created_at
        ],
    )?;
    Ok(())
}
