//! Statements on the table `codes`. A code goes with its session by the reference to it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use crate::clock::UnixSeconds;
use crate::state::{CodeRow, MOST_CODES, TokenHash};

fn from_row(row: &Row<'_>) -> rusqlite::Result<CodeRow> {
    Ok(CodeRow {
        hash: row.get(0)?,
        session_id: row.get(1)?,
        host: row.get(2)?,
        nonce: row.get(3)?,
        return_to: row.get(4)?,
        expires_at: row.get(5)?,
    })
}

pub(super) fn add(transaction: &Transaction<'_>, code: &CodeRow, now: UnixSeconds) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("DELETE FROM codes WHERE session_id = ?1 AND expires_at <= ?2")?
        .execute(params![code.session_id, now])?;
    let kept = i64::try_from(MOST_CODES - 1).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "DELETE FROM codes WHERE session_id = ?1 AND rowid NOT IN
                 (SELECT rowid FROM codes WHERE session_id = ?1 ORDER BY rowid DESC LIMIT ?2)",
        )?
        .execute(params![code.session_id, kept])?;
    let added = transaction
        .prepare_cached(
            "INSERT INTO codes (hash, session_id, host, nonce, return_to, expires_at)
             SELECT :hash, sessions.id, :host, :nonce, :return_to, :expires_at FROM sessions WHERE sessions.id = :session",
        )?
        .execute(named_params! {
            ":hash": code.hash,
            ":session": code.session_id,
            ":host": code.host,
            ":nonce": code.nonce,
            ":return_to": code.return_to,
            ":expires_at": code.expires_at,
        })?;
    Ok(added > 0)
}

/// By a reading alone: a made-up code must not wait for the writers' lock.
pub(super) fn is_there(connection: &Connection, hash: &TokenHash) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached("SELECT 1 FROM codes WHERE hash = ?1")?
        .query_row([hash], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

pub(super) fn take(transaction: &Transaction<'_>, hash: &TokenHash) -> rusqlite::Result<Option<CodeRow>> {
    transaction
        .prepare_cached(
            "DELETE FROM codes WHERE hash = ?1 RETURNING hash, session_id, host, nonce, return_to, expires_at",
        )?
        .query_row([hash], from_row)
        .optional()
}
