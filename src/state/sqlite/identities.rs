//! Statements on the tables `identities` and `spent_attempts`.

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{accounts, revocations, sessions};
use crate::clock::UnixSeconds;
use crate::state::identity::email_key_of;
use crate::state::{
    AccountRow, EndSessions, IdentityRow, Linked, MOST_IDENTITIES, TokenHash, Unlinked, Ways,
};

fn from_row(row: &Row<'_>) -> rusqlite::Result<IdentityRow> {
    // An error of the parser would quote what it found.
    let roles = serde_json::from_str(row.get_ref(6)?.as_str()?).map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(6, Type::Text, Box::new(FromSqlError::InvalidType))
    })?;
    Ok(IdentityRow {
        provider: row.get(0)?,
        subject: row.get(1)?,
        account_id: row.get(2)?,
        email: row.get(3)?,
        email_verified: row.get(4)?,
        name: row.get(5)?,
        roles,
        updated_at: row.get(7)?,
    })
}

/// What [`from_row`] reads.
macro_rules! columns {
    () => {
        "provider, subject, account_id, email, email_verified, name, roles, updated_at"
    };
}

pub(super) fn list(connection: &Connection, account_id: Option<&str>) -> rusqlite::Result<Vec<IdentityRow>> {
    match account_id {
        Some(id) => connection
            .prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM identities WHERE account_id = ?1 ORDER BY provider, subject"
            ))?
            .query_map([id], from_row)?
            .collect(),
        None => connection
            .prepare_cached(concat!(
                "SELECT ",
                columns!(),
                " FROM identities ORDER BY provider, subject"
            ))?
            .query_map([], from_row)?
            .collect(),
    }
}

pub(super) fn is_spent(
    connection: &Connection,
    hash: &TokenHash,
    now: UnixSeconds,
) -> rusqlite::Result<bool> {
    let found = connection
        .prepare_cached("SELECT 1 FROM spent_attempts WHERE hash = ?1 AND expires_at > ?2")?
        .query_row(params![hash, now], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

pub(super) fn spend(
    transaction: &Transaction<'_>,
    hash: &TokenHash,
    expires_at: UnixSeconds,
    now: UnixSeconds,
) -> rusqlite::Result<bool> {
    transaction
        .prepare_cached("DELETE FROM spent_attempts WHERE expires_at <= ?1")?
        .execute([now])?;
    let added = transaction
        .prepare_cached(
            "INSERT INTO spent_attempts (hash, expires_at) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING",
        )?
        .execute(params![hash, expires_at])?;
    Ok(added > 0)
}

pub(super) fn account_of(
    connection: &Connection,
    (provider, subject): (&str, &str),
) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT account_id FROM identities WHERE provider = ?1 AND subject = ?2")?
        .query_row([provider, subject], |row| row.get(0))
        .optional()
}

pub(super) fn sign_in(
    transaction: &Transaction<'_>,
    identity: &IdentityRow,
    end: &EndSessions<'_>,
) -> rusqlite::Result<AccountRow> {
    let identity = &with_known_name(transaction, identity)?;
    let known = account_of(transaction, identity.named())?;
    let id = known.unwrap_or_else(|| identity.account_id.clone());
    let before = accounts::by_id(transaction, &id)?;
    match &before {
        Some(account) if account.disabled => return Ok(account.clone()),
        None => accounts::insert(transaction, &new_account(identity), "")?,
        Some(account) if account.email_key == email_key_of(&identity.provider, &identity.subject) => {
            take_over(transaction, &id, identity)?;
        }
        // The address of a local account, or of another identity.
        Some(_) => {}
    }
    write(transaction, identity, &id)?;
    settle(transaction, &id, before, end)
}

/// A name that was said once stays: some providers say it at the first sign-in alone.
fn with_known_name(transaction: &Transaction<'_>, identity: &IdentityRow) -> rusqlite::Result<IdentityRow> {
    let mut identity = identity.clone();
    if identity.name.is_none() {
        let known = transaction
            .prepare_cached("SELECT name FROM identities WHERE provider = ?1 AND subject = ?2")?
            .query_row([&identity.provider, &identity.subject], |row| row.get(0))
            .optional()?;
        identity.name = known.flatten();
    }
    Ok(identity)
}

pub(super) fn link(
    transaction: &Transaction<'_>,
    identity: &IdentityRow,
    session_id: &str,
    end: &EndSessions<'_>,
) -> rusqlite::Result<Linked> {
    let id = &identity.account_id;
    let session = sessions::with_account(transaction, session_id)?;
    let Some((_, before)) =
        session.filter(|(session, account)| session.account_id == *id && !account.disabled)
    else {
        return Ok(Linked::NoSession);
    };
    match account_of(transaction, identity.named())? {
        Some(other) if other != *id => return Ok(Linked::OtherAccount),
        None if list(transaction, Some(id))?.len() >= MOST_IDENTITIES => return Ok(Linked::TooMany),
        Some(_) | None => {}
    }
    write(transaction, identity, id)?;
    settle(transaction, id, Some(before), end).map(Linked::Done)
}

pub(super) fn join(
    transaction: &Transaction<'_>,
    identity: &IdentityRow,
    email_key: &str,
    end: &EndSessions<'_>,
) -> rusqlite::Result<bool> {
    if account_of(transaction, identity.named())?.is_some() {
        return Ok(false);
    }
    let found = accounts::by_email(transaction, email_key)?;
    // The key takes different mailboxes for one (`ß` and `ss`): good enough to refuse a second account, not to join one.
    let has_address = |account: &AccountRow| {
        let email = identity.email.as_deref();
        email.is_some_and(|email| email.eq_ignore_ascii_case(&account.email))
    };
    let Some(account) =
        found.filter(|account| account.confirmed && account.made_by().is_none() && has_address(account))
    else {
        return Ok(false);
    };
    // A second subject of the provider with the same address may be another person, who got the address later.
    let all = list(transaction, Some(&account.id))?;
    if all.len() >= MOST_IDENTITIES || all.iter().any(|of| of.provider == identity.provider) {
        return Ok(false);
    }
    let id = account.id.clone();
    write(transaction, identity, &id)?;
    settle(transaction, &id, Some(account), end)?;
    Ok(true)
}

pub(super) fn unlink(
    transaction: &Transaction<'_>,
    account_id: &str,
    (provider, subject): (&str, &str),
    ways: &Ways,
    end: &EndSessions<'_>,
) -> rusqlite::Result<Unlinked> {
    let Some(before) = accounts::by_id(transaction, account_id)? else {
        return Ok(Unlinked::Missing);
    };
    let all = list(transaction, Some(account_id))?;
    let (removed, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|of| of.provider == provider && of.subject == subject);
    if removed.is_empty() {
        return Ok(Unlinked::Missing);
    }
    let has_password = ways.password && before.password_hash.is_some();
    if !has_password && !rest.iter().any(|of| ways.providers.contains(&of.provider)) {
        return Ok(Unlinked::Last);
    }
    transaction
        .prepare_cached("DELETE FROM identities WHERE provider = ?1 AND subject = ?2")?
        .execute([provider, subject])?;
    if before.made_by() == Some((provider, subject)) {
        let heir = rest.iter().max_by_key(|of| of.updated_at);
        let key = match heir {
            Some(heir) => email_key_of(&heir.provider, &heir.subject),
            // No identity has an empty provider and this subject.
            None => email_key_of("", account_id),
        };
        transaction
            .prepare_cached("UPDATE accounts SET email_key = ?2 WHERE id = ?1")?
            .execute([account_id, &key])?;
        if let Some(heir) = heir {
            take_over(transaction, account_id, heir)?;
        }
    }
    settle(transaction, account_id, Some(before), end)?;
    Ok(Unlinked::Done)
}

/// Gives an account the address and the name of an identity.
fn take_over(transaction: &Transaction<'_>, id: &str, identity: &IdentityRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE accounts SET email = ?2, name = ?3, confirmed = ?4 WHERE id = ?1")?
        .execute(params![
            id,
            identity.email.as_deref().unwrap_or_default(),
            identity.name,
            identity.email_verified,
        ])?;
    Ok(())
}

fn write(transaction: &Transaction<'_>, identity: &IdentityRow, id: &str) -> rusqlite::Result<()> {
    let roles = serde_json::to_string(&identity.roles)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    transaction
        .prepare_cached(
            "INSERT INTO identities (provider, subject, account_id, email, email_verified, name, roles, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (provider, subject) DO UPDATE SET
                 email = excluded.email, email_verified = excluded.email_verified, name = excluded.name,
                 roles = excluded.roles, updated_at = excluded.updated_at",
        )?
        .execute(params![
            identity.provider,
            identity.subject,
            id,
            identity.email,
            identity.email_verified,
            identity.name,
            roles,
            identity.updated_at,
        ])?;
    Ok(())
}

/// The account as it is now. Where its tokens would say something else than before, they are stale.
fn settle(
    transaction: &Transaction<'_>,
    id: &str,
    before: Option<AccountRow>,
    end: &EndSessions<'_>,
) -> rusqlite::Result<AccountRow> {
    let missing = || rusqlite::Error::QueryReturnedNoRows;
    let mut after = accounts::by_id(transaction, id)?.ok_or_else(missing)?;
    let is_other = before.is_some_and(|before| {
        (
            &before.email,
            &before.name,
            before.confirmed,
            &before.granted_roles,
        ) != (&after.email, &after.name, after.confirmed, &after.granted_roles)
    });
    if is_other {
        after.revision = after.revision.saturating_add(1);
        transaction
            .prepare_cached("UPDATE accounts SET revision = ?2 WHERE id = ?1")?
            .execute(params![id, after.revision])?;
        revocations::insert(transaction, &end.staleness(id, after.revision))?;
    }
    Ok(after)
}

fn new_account(identity: &IdentityRow) -> AccountRow {
    AccountRow {
        id: identity.account_id.clone(),
        email: identity.email.clone().unwrap_or_default(),
        email_key: email_key_of(&identity.provider, &identity.subject),
        name: identity.name.clone(),
        roles: Vec::new(),
        granted_roles: Vec::new(),
        password_hash: None,
        disabled: false,
        confirmed: identity.email_verified,
        created_at: identity.updated_at,
        password_version: 0,
        revision: 0,
    }
}
