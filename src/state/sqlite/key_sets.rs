//! Statements on the table `key_sets`: the last good JWKS of each issuer.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::clock::UnixSeconds;

pub(super) fn load(
    connection: &Connection,
    issuer: &str,
    url: &str,
) -> rusqlite::Result<Option<(Vec<u8>, UnixSeconds)>> {
    connection
        .prepare_cached("SELECT content, fetched_at FROM key_sets WHERE issuer = ?1 AND url = ?2")?
        .query_row([issuer, url], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

pub(super) fn save(
    transaction: &Transaction<'_>,
    issuer: &str,
    url: &str,
    jwks: &[u8],
    now: UnixSeconds,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO key_sets (issuer, url, content, fetched_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET url = excluded.url, content = excluded.content, fetched_at = excluded.fetched_at",
        params![issuer, url, jwks, now],
    )?;
    Ok(())
}
