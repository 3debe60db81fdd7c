//! Statements on the table `grants`. A grant goes with its session by the reference to it.

use rusqlite::{Connection, OptionalExtension, Params, Row, Transaction, named_params, params};

use crate::clock::UnixSeconds;
use crate::state::{GrantRow, Lease};

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT grants.session_id, sessions.account_id, grants.provider, grants.subject, sealed, refreshes, read_at
             FROM grants JOIN sessions ON sessions.id = grants.session_id WHERE ",
            $condition
        )
    };
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<GrantRow> {
    Ok(GrantRow {
        session_id: row.get(0)?,
        account_id: row.get(1)?,
        provider: row.get(2)?,
        subject: row.get(3)?,
        sealed: row.get(4)?,
        refreshes: row.get(5)?,
        read_at: row.get(6)?,
    })
}

pub(super) fn add(transaction: &Transaction<'_>, grant: &GrantRow) -> rusqlite::Result<bool> {
    let added = transaction
        .prepare_cached(
            "INSERT INTO grants (session_id, provider, subject, sealed, refreshes, read_at, leased_until)
             SELECT sessions.id, :provider, :subject, :sealed, :refreshes, :read_at, 0
             FROM sessions WHERE sessions.id = :session AND sessions.account_id = :account
             ON CONFLICT (session_id) DO NOTHING",
        )?
        .execute(named_params! {
            ":session": grant.session_id,
            ":account": grant.account_id,
            ":provider": grant.provider,
            ":subject": grant.subject,
            ":sealed": grant.sealed,
            ":refreshes": grant.refreshes,
            ":read_at": grant.read_at,
        })?;
    Ok(added > 0)
}

pub(super) fn of(connection: &Connection, session_id: &str) -> rusqlite::Result<Option<GrantRow>> {
    connection
        .prepare_cached(select!("grants.session_id = ?1"))?
        .query_row([session_id], from_row)
        .optional()
}

/// By a reading alone, so that no writer waits where there is nothing to do.
pub(super) fn due(
    connection: &Connection,
    read_before: UnixSeconds,
    now: UnixSeconds,
    most: usize,
) -> rusqlite::Result<Vec<GrantRow>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    all(
        connection,
        select!(
            "refreshes AND read_at <= ?1 AND leased_until <= ?2 AND sessions.seen_at > read_at ORDER BY read_at LIMIT ?3"
        ),
        params![read_before, now, most],
    )
}

fn all(connection: &Connection, statement: &str, values: impl Params) -> rusqlite::Result<Vec<GrantRow>> {
    let mut statement = connection.prepare_cached(statement)?;
    statement.query_map(values, from_row)?.collect()
}

/// Leases those of `sessions` that can be.
pub(super) fn lease<'a>(
    transaction: &Transaction<'_>,
    sessions: impl IntoIterator<Item = &'a str>,
    lease: Lease,
) -> rusqlite::Result<Vec<GrantRow>> {
    let mut leased = Vec::new();
    for session in sessions {
        let taken = transaction
            .prepare_cached(
                "UPDATE grants SET leased_until = ?3 WHERE session_id = ?1 AND refreshes AND leased_until <= ?2",
            )?
            .execute(params![session, lease.now, lease.until])?;
        if taken > 0 {
            leased.extend(of(transaction, session)?);
        }
    }
    Ok(leased)
}

pub(super) fn save(
    transaction: &Transaction<'_>,
    grant: &GrantRow,
    leased_until: UnixSeconds,
) -> rusqlite::Result<bool> {
    let saved = transaction
        .prepare_cached(
            "UPDATE grants SET sealed = ?2, refreshes = ?3, read_at = ?4, leased_until = ?5 WHERE session_id = ?1",
        )?
        .execute(params![
            grant.session_id,
            grant.sealed,
            grant.refreshes,
            grant.read_at,
            leased_until
        ])?;
    Ok(saved > 0)
}
