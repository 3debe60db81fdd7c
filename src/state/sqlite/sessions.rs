//! Statements on the table `sessions`.

use rusqlite::{Connection, OptionalExtension, Params, Transaction, named_params, params};

use super::revocations;
use super::rows::{self, SESSION_COLUMNS, account_columns, session_columns};
use crate::clock::UnixSeconds;
use crate::state::{
    AccountRow, EndSessions, RefreshExchange, Rotation, SessionRow, SessionSelector, Sighting,
};

/// The most that one transaction ends because they are over: others want to write too.
pub(super) const OVER_AT_ONCE: usize = 500;

pub(super) fn add(
    transaction: &Transaction<'_>,
    session: &SessionRow,
    version: i64,
) -> rusqlite::Result<bool> {
    let (refresh, how) = (session.refresh.as_ref(), &session.authentication);
    let added = transaction
        .prepare_cached(
            "INSERT INTO sessions (id, account_id, created_at, seen_at, expires_at, user_agent, address,
                                   refresh_current, refresh_previous, refresh_rotated_at, tokens_until,
                                   auth_time, acr, provider, provider_subject, provider_sid)
             SELECT :id, accounts.id, :created_at, :seen_at, :expires_at, :user_agent, :address,
                    :current, :previous, :rotated_at, :tokens_until,
                    :auth_time, :acr, :provider, :provider_subject, :provider_sid
             FROM accounts WHERE accounts.id = :account_id AND NOT disabled AND password_version = :version
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(named_params! {
            ":id": session.id,
            ":account_id": session.account_id,
            ":created_at": session.created_at,
            ":seen_at": session.seen_at,
            ":expires_at": session.expires_at,
            ":user_agent": session.user_agent,
            ":address": session.address,
            ":current": refresh.map(|refresh| refresh.current),
            ":previous": refresh.and_then(|refresh| refresh.previous),
            ":rotated_at": refresh.map(|refresh| refresh.rotated_at),
            ":tokens_until": session.tokens_until,
            ":auth_time": how.auth_time,
            ":acr": how.acr,
            ":provider": how.provider,
            ":provider_subject": how.provider_subject,
            ":provider_sid": how.provider_sid,
            ":version": version,
        })?;
    Ok(added > 0)
}

pub(super) const WITH_ACCOUNT: &str = concat!(
    "SELECT ",
    session_columns!(),
    ", ",
    account_columns!(),
    " FROM sessions JOIN accounts ON accounts.id = sessions.account_id WHERE sessions.id = ?1"
);

pub(super) fn with_account(
    connection: &Connection,
    id: &str,
) -> rusqlite::Result<Option<(SessionRow, AccountRow)>> {
    connection
        .prepare_cached(WITH_ACCOUNT)?
        .query_row([id], |row| {
            Ok((rows::session(row)?, rows::account(row, SESSION_COLUMNS)?))
        })
        .optional()
}

pub(super) fn of(connection: &Connection, account_id: Option<&str>) -> rusqlite::Result<Vec<SessionRow>> {
    let read = |statement: &str, values: &[&str]| {
        let mut statement = connection.prepare_cached(statement)?;
        let rows = statement.query_map(rusqlite::params_from_iter(values), rows::session)?;
        rows.collect()
    };
    match account_id {
        Some(id) => read(
            concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions WHERE account_id = ?1 ORDER BY seen_at DESC, id DESC"
            ),
            &[id],
        ),
        None => read(
            concat!(
                "SELECT ",
                session_columns!(),
                " FROM sessions ORDER BY seen_at DESC, id DESC"
            ),
            &[],
        ),
    }
}

pub(super) fn touch(transaction: &Transaction<'_>, id: &str, seen: &Sighting<'_>) -> rusqlite::Result<bool> {
    // What is not known stays so: NULL is the maximum of NULL and anything.
    let touched = transaction
        .prepare_cached(
            "UPDATE sessions
             SET seen_at = max(seen_at, ?2), address = CASE WHEN seen_at <= ?2 THEN ?3 ELSE address END,
                 tokens_until = max(tokens_until, ?4)
             WHERE id = ?1",
        )?
        .execute(params![id, seen.at, seen.address, seen.tokens_until])?;
    Ok(touched > 0)
}

pub(super) fn rotate_refresh(
    transaction: &Transaction<'_>,
    exchange: &RefreshExchange<'_>,
) -> rusqlite::Result<Rotation> {
    let RefreshExchange {
        id,
        presented,
        successor,
        grace,
        seen,
    } = exchange;
    let Some((session, account)) = with_account(transaction, id)? else {
        return Ok(Rotation::Missing);
    };
    let Some(refresh) = session.refresh.filter(|_| !account.disabled) else {
        return Ok(Rotation::Missing);
    };
    let judged = refresh.judge(presented, seen.at, *grace);
    if judged == Rotation::Rotated {
        transaction
            .prepare_cached(
                "UPDATE sessions SET refresh_current = ?2, refresh_previous = ?3, refresh_rotated_at = ?4 WHERE id = ?1",
            )?
            .execute(params![id, successor, presented, seen.at])?;
        touch(transaction, id, seen)?;
    }
    Ok(judged)
}

/// The condition of [`SessionSelector::Over`].
pub(super) const OVER: &str = "id IN (SELECT id FROM sessions
    WHERE (expires_at <= ?2 OR (refresh_current IS NULL AND seen_at <= ?3)) AND id IS NOT ?1 LIMIT ?4)";

/// The condition of [`SessionSelector::ProviderSession`].
pub(super) const OF_PROVIDER_SESSION: &str = "provider = ?2 AND provider_sid = ?3";
/// The condition of [`SessionSelector::ProviderSubject`].
pub(super) const OF_PROVIDER_SUBJECT: &str = "provider = ?2 AND provider_subject = ?3";

/// Of [`SessionSelector::Over`] at most [`OVER_AT_ONCE`].
pub(super) fn end(
    transaction: &Transaction<'_>,
    which: SessionSelector<'_>,
    end: &EndSessions<'_>,
) -> rusqlite::Result<Vec<String>> {
    // Nothing is kept where ?1 is NULL.
    let keep = end.keep;
    let ended = match which {
        SessionSelector::One(id) => delete(transaction, "id = ?2", params![keep, id]),
        SessionSelector::Own { id, account_id } => delete(
            transaction,
            "id = ?2 AND account_id = ?3",
            params![keep, id, account_id],
        ),
        SessionSelector::Account(account_id) => {
            delete(transaction, "account_id = ?2", params![keep, account_id])
        }
        SessionSelector::Others {
            account_id,
            keep: other,
        } => delete(
            transaction,
            "account_id = ?2 AND id <> ?3",
            params![keep, account_id, other],
        ),
        SessionSelector::ProviderSession { provider, sid } => {
            delete(transaction, OF_PROVIDER_SESSION, params![keep, provider, sid])
        }
        SessionSelector::ProviderSubject { provider, subject } => {
            delete(transaction, OF_PROVIDER_SUBJECT, params![keep, provider, subject])
        }
        SessionSelector::Over { now, idle } => {
            let most = i64::try_from(OVER_AT_ONCE).unwrap_or(i64::MAX);
            delete(
                transaction,
                OVER,
                params![keep, now, now.saturating_sub(idle), most],
            )
        }
    }?;
    for (id, tokens_until) in &ended {
        revocations::insert(transaction, &end.revocation(id, *tokens_until))?;
    }
    Ok(ended.into_iter().map(|(id, _)| id).collect())
}

/// The ids of those that were there, and [`SessionRow::tokens_until`].
fn delete(
    transaction: &Transaction<'_>,
    condition: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<(String, Option<UnixSeconds>)>> {
    let mut statement = transaction.prepare_cached(&format!(
        "DELETE FROM sessions WHERE {condition} AND id IS NOT ?1 RETURNING id, tokens_until"
    ))?;
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
