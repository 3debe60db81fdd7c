//! The columns of the tables `accounts` and `sessions`, and how a row becomes a value.

use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};

use crate::state::{AccountRow, Authentication, RefreshRow, SessionRow};

/// The account in a row of which [`account_columns`] begin at `first`.
pub(super) fn account(row: &Row<'_>, first: usize) -> rusqlite::Result<AccountRow> {
    // An error of the parser would quote what it found.
    let roles = serde_json::from_str(row.get_ref(first + 4)?.as_str()?).map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(first + 4, Type::Text, Box::new(FromSqlError::InvalidType))
    })?;
    let granted: Vec<Vec<String>> =
        serde_json::from_str(row.get_ref(first + 11)?.as_str()?).map_err(|_| {
            rusqlite::Error::FromSqlConversionFailure(
                first + 11,
                Type::Text,
                Box::new(FromSqlError::InvalidType),
            )
        })?;
    let mut granted_roles = granted.concat();
    granted_roles.sort_unstable();
    granted_roles.dedup();
    Ok(AccountRow {
        id: row.get(first)?,
        email: row.get(first + 1)?,
        email_key: row.get(first + 2)?,
        name: row.get(first + 3)?,
        roles,
        granted_roles,
        password_hash: row.get(first + 5)?,
        disabled: row.get(first + 6)?,
        confirmed: row.get(first + 7)?,
        created_at: row.get(first + 8)?,
        password_version: row.get(first + 9)?,
        revision: row.get(first + 10)?,
    })
}

/// What [`account`] reads.
macro_rules! account_columns {
    () => {
        "accounts.id, accounts.email, accounts.email_key, accounts.name, accounts.roles, accounts.password_hash,
         accounts.disabled, accounts.confirmed, accounts.created_at, accounts.password_version, accounts.revision,
         (SELECT json_group_array(json(identities.roles)) FROM identities WHERE identities.account_id = accounts.id)"
    };
}
pub(super) use account_columns;

/// What [`session`] reads.
macro_rules! session_columns {
    () => {
        "sessions.id, sessions.account_id, sessions.created_at, sessions.seen_at, sessions.expires_at,
         sessions.user_agent, sessions.address, sessions.refresh_current, sessions.refresh_previous,
         sessions.refresh_rotated_at, sessions.tokens_until, sessions.auth_time, sessions.acr,
         sessions.provider, sessions.provider_subject, sessions.provider_sid"
    };
}
pub(super) use session_columns;
/// How many columns [`session`] reads.
pub(super) const SESSION_COLUMNS: usize = 16;

pub(super) fn session(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    let refresh = match row.get(7)? {
        Some(current) => Some(RefreshRow {
            current,
            previous: row.get(8)?,
            rotated_at: row.get(9)?,
        }),
        None => None,
    };
    Ok(SessionRow {
        id: row.get(0)?,
        account_id: row.get(1)?,
        created_at: row.get(2)?,
        seen_at: row.get(3)?,
        expires_at: row.get(4)?,
        user_agent: row.get(5)?,
        address: row.get(6)?,
        refresh,
        tokens_until: row.get(10)?,
        authentication: Authentication {
            auth_time: row.get(11)?,
            acr: row.get(12)?,
            provider: row.get(13)?,
            provider_subject: row.get(14)?,
            provider_sid: row.get(15)?,
        },
    })
}
