//! Statements on the table `client_codes`. A code goes with its account by the reference to it.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use crate::clock::UnixSeconds;
use crate::state::{Authentication, ClientCodeRow, MOST_CODES, TokenHash};

fn from_row(row: &Row<'_>) -> rusqlite::Result<ClientCodeRow> {
    Ok(ClientCodeRow {
        hash: row.get(0)?,
        account_id: row.get(1)?,
        redirect_uri: row.get(2)?,
        challenge: row.get(3)?,
        authentication: Authentication {
            auth_time: row.get(4)?,
            acr: row.get(5)?,
            provider: row.get(6)?,
            provider_subject: row.get(7)?,
            provider_sid: row.get(8)?,
        },
        expires_at: row.get(9)?,
    })
}

pub(super) fn add(
    transaction: &Transaction<'_>,
    code: &ClientCodeRow,
    now: UnixSeconds,
) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("DELETE FROM client_codes WHERE expires_at <= ?1")?
        .execute([now])?;
    let kept = i64::try_from(MOST_CODES - 1).unwrap_or(i64::MAX);
    transaction
        .prepare_cached(
            "DELETE FROM client_codes WHERE account_id = ?1 AND rowid NOT IN
                 (SELECT rowid FROM client_codes WHERE account_id = ?1 ORDER BY rowid DESC LIMIT ?2)",
        )?
        .execute(params![code.account_id, kept])?;
    let how = &code.authentication;
    let added = transaction
        .prepare_cached(
            "INSERT INTO client_codes (hash, account_id, redirect_uri, challenge, auth_time, acr, provider,
                                       provider_subject, provider_sid, expires_at)
             SELECT :hash, accounts.id, :redirect_uri, :challenge, :auth_time, :acr, :provider,
                    :provider_subject, :provider_sid, :expires_at
             FROM accounts WHERE accounts.id = :account AND NOT accounts.disabled",
        )?
        .execute(named_params! {
            ":hash": code.hash,
            ":account": code.account_id,
            ":redirect_uri": code.redirect_uri,
            ":challenge": code.challenge,
            ":auth_time": how.auth_time,
            ":acr": how.acr,
            ":provider": how.provider,
            ":provider_subject": how.provider_subject,
            ":provider_sid": how.provider_sid,
            ":expires_at": code.expires_at,
        })?;
    Ok(added > 0)
}

/// By a reading alone: a made-up code must not wait for the writers' lock.
pub(super) fn is_there(connection: &Connection, hash: &TokenHash) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached("SELECT 1 FROM client_codes WHERE hash = ?1")?
        .query_row([hash], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

pub(super) fn take(
    transaction: &Transaction<'_>,
    hash: &TokenHash,
) -> rusqlite::Result<Option<ClientCodeRow>> {
    transaction
        .prepare_cached(
            "DELETE FROM client_codes WHERE hash = ?1
             RETURNING hash, account_id, redirect_uri, challenge, auth_time, acr, provider, provider_subject,
                       provider_sid, expires_at",
        )?
        .query_row([hash], from_row)
        .optional()
}
