//! Statements on the table `revocations`.

use rusqlite::{Connection, Transaction, params};

use crate::clock::UnixSeconds;
use crate::state::{Revocation, RevocationTarget};

const TOKEN: &str = "token";
const SUBJECT: &str = "subject";
const SESSION: &str = "session";

pub(super) fn insert(transaction: &Transaction<'_>, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value) = match &revocation.target {
        RevocationTarget::Token(id) => (TOKEN, id),
        RevocationTarget::Subject(subject) => (SUBJECT, subject),
        RevocationTarget::Session(id) => (SESSION, id),
    };
    // SQLite's max of several values is NULL when one is: never forgotten stays never forgotten.
    transaction
        .prepare_cached(
            "INSERT INTO revocations (issuer, kind, value, revoked_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET
                revoked_at = max(revoked_at, excluded.revoked_at),
                expires_at = max(expires_at, excluded.expires_at)",
        )?
        .execute(params![revocation.issuer, kind, value, revocation.revoked_at, revocation.expires_at])?;
    Ok(())
}

pub(super) const LIVE: &str = "SELECT issuer, kind, value, revoked_at, expires_at FROM revocations
    WHERE expires_at > ?1 OR expires_at IS NULL";

/// Those that have not expired at `now`.
pub(super) fn live(connection: &Connection, now: UnixSeconds) -> rusqlite::Result<Vec<Revocation>> {
    let mut statement = connection.prepare_cached(LIVE)?;
    let rows = statement.query_map([now], |row| {
        let value = row.get(2)?;
        let target = match row.get_ref(1)?.as_str()? {
            SUBJECT => RevocationTarget::Subject(value),
            SESSION => RevocationTarget::Session(value),
            // The table admits no other.
            _ => RevocationTarget::Token(value),
        };
        Ok(Revocation { issuer: row.get(0)?, target, revoked_at: row.get(3)?, expires_at: row.get(4)? })
    })?;
    rows.collect()
}

/// Whether one has expired at `until`.
pub(super) fn has_expired(connection: &Connection, until: UnixSeconds) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM revocations WHERE expires_at <= ?1)")?
        .query_row([until], |row| row.get(0))
}

pub(super) fn purge(transaction: &Transaction<'_>, until: UnixSeconds) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM revocations WHERE expires_at <= ?1", [until])?;
    Ok(())
}
