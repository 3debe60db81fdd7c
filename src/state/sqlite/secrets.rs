//! Statements on the table `secrets`: what tokens of ours are made with.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use zeroize::Zeroizing;

type Secret = Zeroizing<[u8; 32]>;

pub(super) fn load(connection: &Connection, name: &str) -> rusqlite::Result<Option<Secret>> {
    connection
        .prepare_cached("SELECT value FROM secrets WHERE name = ?1")?
        .query_row([name], |row| row.get(0).map(Zeroizing::new))
        .optional()
}

pub(super) fn ensure(
    transaction: &Transaction<'_>,
    name: &str,
    candidate: &[u8; 32],
) -> rusqlite::Result<Secret> {
    if let Some(known) = load(transaction, name)? {
        return Ok(known);
    }
    transaction.execute(
        "INSERT INTO secrets (name, value) VALUES (?1, ?2)",
        params![name, candidate.as_slice()],
    )?;
    Ok(Zeroizing::new(*candidate))
}
