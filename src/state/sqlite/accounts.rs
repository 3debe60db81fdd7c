//! Statements on the tables `accounts` and `hash_kinds`.

use rusqlite::{Connection, OptionalExtension, Params, Transaction, params};

use super::rows::{self, account_columns};
use super::{revocations, sessions};
use crate::state::account::hash_kind;
use crate::state::email;
use crate::state::{AccountChange, AccountRow, Added, EndSessions, SessionSelector};

pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<AccountRow>> {
    one(
        connection,
        concat!("SELECT ", account_columns!(), " FROM accounts WHERE id = ?1"),
        [id],
    )
}

pub(super) fn by_email(connection: &Connection, email_key: &str) -> rusqlite::Result<Option<AccountRow>> {
    one(
        connection,
        concat!(
            "SELECT ",
            account_columns!(),
            " FROM accounts WHERE email_key = ?1"
        ),
        [email_key],
    )
}

fn one(
    connection: &Connection,
    statement: &str,
    values: impl Params,
) -> rusqlite::Result<Option<AccountRow>> {
    connection
        .prepare_cached(statement)?
        .query_row(values, |row| rows::account(row, 0))
        .optional()
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<AccountRow>> {
    let mut statement = connection.prepare(concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts ORDER BY email_key"
    ))?;
    let rows = statement.query_map([], |row| rows::account(row, 0))?;
    rows.collect()
}

pub(super) fn has_enabled(connection: &Connection, role: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM accounts, json_each(accounts.roles) AS role
                            WHERE NOT accounts.disabled AND role.value = ?1)",
        )?
        .query_row([role], |row| row.get(0))
}

/// One search in the index, whether or not the address is ASCII.
pub(super) const LOOKALIKE: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM accounts WHERE look = ?1 AND is_ascii IN (0, ?2) AND email_key <> ?3 LIMIT 1"
);

pub(super) fn lookalike(connection: &Connection, email_key: &str) -> rusqlite::Result<Option<AccountRow>> {
    // Beside one that is ASCII only the others count.
    let also_ascii = i64::from(!email_key.is_ascii());
    one(
        connection,
        LOOKALIKE,
        params![email::look(email_key), also_ascii, email_key],
    )
}

pub(super) fn add(
    transaction: &Transaction<'_>,
    account: &AccountRow,
    first: Option<&str>,
) -> rusqlite::Result<Added> {
    if let Some(role) = first
        && has_enabled(transaction, role)?
    {
        return Ok(Added::NotFirst);
    }
    if by_email(transaction, &account.email_key)?.is_some() {
        return Ok(Added::EmailTaken);
    }
    if lookalike(transaction, &account.email_key)?.is_some() {
        return Ok(Added::Lookalike);
    }
    if by_id(transaction, &account.id)?.is_some() {
        return Ok(Added::IdTaken);
    }
    insert(transaction, account, &email::look(&account.email_key))?;
    Ok(Added::Done)
}

/// Adds a row; `look` is what its address looks like, empty where it has no address of its own.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    account: &AccountRow,
    look: &str,
) -> rusqlite::Result<()> {
    let hash = account.password_hash.as_deref();
    transaction
        .prepare_cached(
            "INSERT INTO accounts (id, email, email_key, name, roles, password_hash, hash_kind, disabled, created_at,
                                   password_version, revision, confirmed, look, is_ascii)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            account.id,
            account.email,
            account.email_key,
            account.name,
            roles_text(account)?,
            hash,
            hash.map(hash_kind),
            account.disabled,
            account.created_at,
            account.password_version,
            account.revision,
            account.confirmed,
            look,
            account.email_key.is_ascii(),
        ])?;
    Ok(())
}

/// Brings the addresses of a file to how they are compared now: their keys, the oldest account first, and what they look
/// like. An account whose key another one has keeps its own, and is found by its id.
pub(super) fn compare_anew(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare("SELECT id, email FROM accounts ORDER BY created_at, id")?;
    let addresses: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (id, address) in addresses {
        let key = email::key(&address);
        let changed = transaction
            .prepare_cached("UPDATE OR IGNORE accounts SET email_key = ?2 WHERE id = ?1")?
            .execute([&id, &key])?;
        if changed == 0 {
            tracing::warn!(
                account = id,
                "another account has the same address in other letters; this one cannot sign in"
            );
        }
        transaction
            .prepare_cached("UPDATE accounts SET look = ?2, is_ascii = ?3 WHERE id = ?1")?
            .execute(params![id, email::look(&key), key.is_ascii()])?;
    }
    Ok(())
}

pub(super) fn change(
    transaction: &Transaction<'_>,
    id: &str,
    change: &AccountChange,
    end: &EndSessions<'_>,
) -> rusqlite::Result<Option<AccountRow>> {
    let Some(mut account) = by_id(transaction, id)? else {
        return Ok(None);
    };
    let revision = account.revision;
    change.apply(&mut account);
    let hash = account.password_hash.as_deref();
    transaction
        .prepare_cached(
            "UPDATE accounts
             SET name = ?2, roles = ?3, password_hash = ?4, hash_kind = ?5, disabled = ?6, password_version = ?7,
                 revision = ?8, confirmed = ?9
             WHERE id = ?1",
        )?
        .execute(params![
            id,
            account.name,
            roles_text(&account)?,
            hash,
            hash.map(hash_kind),
            account.disabled,
            account.password_version,
            account.revision,
            account.confirmed,
        ])?;
    if account.revision != revision {
        revocations::insert(transaction, &end.staleness(id, account.revision))?;
    }
    if change.ends_sessions {
        sessions::end(transaction, SessionSelector::Account(id), end)?;
    }
    Ok(Some(account))
}

fn roles_text(account: &AccountRow) -> rusqlite::Result<String> {
    serde_json::to_string(&account.roles)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn rehash(
    transaction: &Transaction<'_>,
    id: &str,
    from: &str,
    to: &str,
) -> rusqlite::Result<bool> {
    let changed = transaction
        .prepare_cached(
            "UPDATE accounts SET password_hash = ?3, hash_kind = ?4 WHERE id = ?1 AND password_hash = ?2",
        )?
        .execute([id, from, to, hash_kind(to)])?;
    Ok(changed > 0)
}

pub(super) fn delete(
    transaction: &Transaction<'_>,
    id: &str,
    end: &EndSessions<'_>,
) -> rusqlite::Result<bool> {
    // A session refers to its account, so none may stay.
    sessions::end(
        transaction,
        SessionSelector::Account(id),
        &EndSessions { keep: None, ..*end },
    )?;
    revocations::forget_staleness(transaction, id)?;
    Ok(transaction
        .prepare_cached("DELETE FROM accounts WHERE id = ?1")?
        .execute([id])?
        > 0)
}

/// Two searches, however many accounts there are: triggers count the kinds.
pub(super) const IMPORTED_HASH: &str = "SELECT password_hash FROM accounts WHERE hash_kind =
        (SELECT kind FROM hash_kinds WHERE kind <> ?1 ORDER BY accounts DESC, kind DESC LIMIT 1)
    LIMIT 1";

pub(super) fn imported_hash(connection: &Connection, like: &str) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached(IMPORTED_HASH)?
        .query_row([like.trim_end_matches('$')], |row| row.get(0))
        .optional()
}
