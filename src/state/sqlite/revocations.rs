//! Statements on the table `revocations`.

use rusqlite::{Connection, Transaction, params};

use crate::clock::UnixSeconds;
use crate::state::{Revocation, RevocationTarget};

const TOKEN: &str = "token";
const SUBJECT: &str = "subject";

pub(super) fn insert(transaction: &Transaction<'_>, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value) = match &revocation.target {
        RevocationTarget::Token(id) => (TOKEN, id),
        RevocationTarget::Subject(subject) => (SUBJECT, subject),
        RevocationTarget::Session(_) => todo!(),
    };
    // SQLite's max of several values is NULL when one is: never forgotten stays never forgotten.
    transaction.execute(
        "INSERT INTO revocations (issuer, kind, value, revoked_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET
            revoked_at = max(revoked_at, excluded.revoked_at),
            expires_at = max(expires_at, excluded.expires_at)",
        params![revocation.issuer, kind, value, revocation.revoked_at, revocation.expires_at],
    )?;
    Ok(())
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Revocation>> {
    let mut statement =
        connection.prepare_cached("SELECT issuer, kind = 'token', value, revoked_at, expires_at FROM revocations")?;
    let rows = statement.query_map([], |row| {
        let value = row.get(2)?;
        Ok(Revocation {
            issuer: row.get(0)?,
            target: if row.get(1)? { RevocationTarget::Token(value) } else { RevocationTarget::Subject(value) },
            revoked_at: row.get(3)?,
            expires_at: row.get(4)?,
        })
    })?;
    rows.collect()
}

pub(super) fn purge(transaction: &Transaction<'_>, until: UnixSeconds) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM revocations WHERE expires_at <= ?1", [until])?;
    Ok(())
}
