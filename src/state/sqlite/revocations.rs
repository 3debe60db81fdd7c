//! Statements on the table `revocations`.

use rusqlite::{Connection, Transaction, params};

use crate::clock::UnixSeconds;
use crate::state::{Revocation, RevocationTarget, SESSION, SESSION_ISSUER, STALE, SUBJECT};

pub(super) fn insert(transaction: &Transaction<'_>, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value, revision) = revocation.target.parts();
    // SQLite's max of several values is NULL when one is: never forgotten stays never forgotten.
    transaction
        .prepare_cached(
            "INSERT INTO revocations (issuer, kind, value, revoked_at, expires_at, revision)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET
                revoked_at = max(revoked_at, excluded.revoked_at),
                expires_at = max(expires_at, excluded.expires_at),
                revision = max(revision, excluded.revision)",
        )?
        .execute(params![revocation.issuer, kind, value, revocation.revoked_at, revocation.expires_at, revision])?;
    Ok(())
}

pub(super) const LIVE: &str = "SELECT issuer, kind, value, revoked_at, expires_at, revision FROM revocations
    WHERE expires_at > ?1 OR expires_at IS NULL";

/// Those that have not expired at `now`.
pub(super) fn live(connection: &Connection, now: UnixSeconds) -> rusqlite::Result<Vec<Revocation>> {
    let mut statement = connection.prepare_cached(LIVE)?;
    let rows = statement.query_map([now], |row| {
        let value = row.get(2)?;
        let target = match row.get_ref(1)?.as_str()? {
            SUBJECT => RevocationTarget::Subject(value),
            SESSION => RevocationTarget::Session(value),
            STALE => RevocationTarget::Stale { subject: value, revision: row.get(5)? },
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

/// Where things stand: raised by triggers, see `schema.rs`.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT number FROM version")?.query_row([], |row| row.get(0))
}

/// For an account that is deleted: none of its tokens is good any more, stale or not.
pub(super) fn forget_staleness(transaction: &Transaction<'_>, account_id: &str) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM revocations WHERE issuer = ?1 AND kind = ?2 AND value = ?3")?.execute([
        SESSION_ISSUER,
        STALE,
        account_id,
    ])?;
    Ok(())
}
