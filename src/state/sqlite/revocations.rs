//! Statements on the table `revocations`.

use rusqlite::{Connection, Row, Transaction, params};

use crate::clock::UnixSeconds;
use crate::identity::SESSION_ISSUER;
use crate::revocation::{Revocation, Target};
use crate::state::revocation::{SESSION, STALE, SUBJECT, parts};
use crate::state::{PURGED_AT_ONCE, Reading, Version};

pub(super) fn insert(transaction: &Transaction<'_>, revocation: &Revocation) -> rusqlite::Result<()> {
    let (kind, value, revision) = parts(&revocation.target);
    let sequence = next(transaction)?;
    // SQLite's max of several values is NULL when one is: never forgotten stays never forgotten.
    transaction
        .prepare_cached(
            "INSERT INTO revocations (issuer, kind, value, revoked_at, expires_at, revision, sequence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET
                revoked_at = max(revoked_at, excluded.revoked_at),
                expires_at = max(expires_at, excluded.expires_at),
                revision = max(revision, excluded.revision),
                sequence = excluded.sequence",
        )?
        .execute(params![
            revocation.issuer,
            kind,
            value,
            revocation.revoked_at,
            revocation.expires_at,
            revision,
            sequence
        ])?;
    Ok(())
}

/// The place of a write in the order of all: SQLite has one writer at a time, so that the later one commits later.
fn next(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached("UPDATE version SET revocations = revocations + 1 RETURNING revocations")?
        .query_row([], |row| row.get(0))
}

/// All that are in force. What takes something back is not.
pub(super) const LIVE: &str = "SELECT issuer, kind, value, revoked_at, expires_at, revision FROM revocations
    WHERE (expires_at > ?1 OR expires_at IS NULL) AND revision IS NOT 0";

/// Those written after ?2.
pub(super) const LATER: &str = "SELECT issuer, kind, value, revoked_at, expires_at, revision FROM revocations
    WHERE sequence > ?2 AND (expires_at > ?1 OR expires_at IS NULL) ORDER BY sequence";

/// Those that have not expired at `over`, and were written after `seen` was read.
pub(super) fn after(
    connection: &Connection,
    seen: Option<Version>,
    over: UnixSeconds,
) -> rusqlite::Result<Reading> {
    // One transaction: the rows are those of the version.
    let transaction = connection.unchecked_transaction()?;
    let version = version(&transaction)?;
    let seen = seen.filter(|seen| seen.continues_to(&version));
    let rows = match seen {
        Some(seen) => {
            let mut statement = transaction.prepare_cached(LATER)?;
            statement
                .query_map([over, seen.revocations], from_row)?
                .collect::<rusqlite::Result<_>>()
        }
        None => transaction
            .prepare_cached(LIVE)?
            .query_map([over], from_row)?
            .collect(),
    }?;
    Ok(Reading {
        rows,
        is_whole: seen.is_none(),
        version,
    })
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Revocation> {
    let value = row.get(2)?;
    let target = match row.get_ref(1)?.as_str()? {
        SUBJECT => Target::Subject(value),
        SESSION => Target::Session(value),
        STALE => Target::Stale {
            subject: value,
            revision: row.get(5)?,
        },
        // The table admits no other.
        _ => Target::Token(value),
    };
    Ok(Revocation {
        issuer: row.get(0)?,
        target,
        revoked_at: row.get(3)?,
        expires_at: row.get(4)?,
    })
}

/// Whether one has expired at `over`.
pub(super) fn has_expired(connection: &Connection, over: UnixSeconds) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM revocations WHERE expires_at <= ?1)")?
        .query_row([over], |row| row.get(0))
}

/// Returns whether there may be more. Readers do not miss what has expired, so it does not count as lost.
pub(super) fn purge(transaction: &Transaction<'_>, over: UnixSeconds) -> rusqlite::Result<bool> {
    let lost = version(transaction)?.lost;
    let most = i64::try_from(PURGED_AT_ONCE).unwrap_or(i64::MAX);
    let deleted = transaction
        .prepare_cached(
            "DELETE FROM revocations WHERE (issuer, kind, value) IN
                (SELECT issuer, kind, value FROM revocations WHERE expires_at <= ?1 LIMIT ?2)",
        )?
        .execute([over, most])?;
    transaction
        .prepare_cached("UPDATE version SET lost = ?1")?
        .execute([lost])?;
    Ok(deleted >= PURGED_AT_ONCE)
}

/// Where things stand; see `schema.rs`.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<Version> {
    connection
        .prepare_cached("SELECT revocations, lost, signing_keys FROM version")?
        .query_row([], |row| {
            Ok(Version {
                revocations: row.get(0)?,
                lost: row.get(1)?,
                signing_keys: row.get(2)?,
            })
        })
}

/// For an account that is deleted: none of its tokens is good any more, stale or not. A row that takes it back, because
/// others find only what is written.
pub(super) fn forget_staleness(transaction: &Transaction<'_>, account_id: &str) -> rusqlite::Result<()> {
    let is_there: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM revocations WHERE issuer = ?1 AND kind = ?2 AND value = ?3 AND revision > 0)",
        )?
        .query_row([SESSION_ISSUER, STALE, account_id], |row| row.get(0))?;
    if is_there {
        let sequence = next(transaction)?;
        transaction
            .prepare_cached(
                "UPDATE revocations SET revision = 0, sequence = ?4 WHERE issuer = ?1 AND kind = ?2 AND value = ?3",
            )?
            .execute(params![SESSION_ISSUER, STALE, account_id, sequence])?;
    }
    Ok(())
}
