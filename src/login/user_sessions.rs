//! The account and the sessions of the caller.
//!
//! Input: a caller. Output: what is kept about this caller alone. Invariants: a session of another account is neither shown
//! nor ended, and cannot be told from one that does not exist.

use http::StatusCode;
use serde_json::{Value, json};

use super::context::EndpointContext;
use super::form::Fields;
use super::provider::logout;
use super::response::{EndpointError, EndpointResponse};
use crate::clock::UnixSeconds;
use crate::pages::SessionItem;
use crate::refusal::Refusal;
use crate::state::{EndCause, SessionRow, SessionSelector};

/// GET of the prefix itself: it leads to the list of sessions, which is the account page.
pub(super) async fn start(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    Ok(EndpointResponse::see_other(visit.to("/sessions")))
}

/// GET: who the caller is. An account of ours is read afresh; of other issuers the token has all that is known.
pub(super) async fn me(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let caller = visit.asked.caller.as_ref().ok_or(Refusal::CredentialMissing)?;
    let answer = match visit.own_session() {
        Some(own) => {
            let account = visit
                .state(move |accounts, _| Ok(accounts.by_id(&own.account_id)?))
                .await?;
            // The sessions of a deleted or disabled account have ended, also where this process has not read it yet.
            let account = account
                .filter(|account| !account.disabled)
                .ok_or(Refusal::Revoked)?;
            json!({"id": account.id, "email": account.known_email(), "name": account.name, "roles": account.all_roles()})
        }
        None => {
            let who = &caller.identity;
            json!({"id": who.subject, "email": who.email, "name": who.name, "roles": who.roles})
        }
    };
    Ok(EndpointResponse::json(StatusCode::OK, &answer))
}

/// GET: the sessions of the caller's account.
pub(super) async fn list(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let own = visit.require_session()?;
    let current = own.id.clone();
    let mut rows = visit
        .state(move |_, sessions| Ok(sessions.list(&own.account_id)?))
        .await?;
    // The session of this request goes first; the others stay in their order.
    rows.sort_by_key(|row| row.id != current);
    if !visit.asked.browser {
        let sessions: Vec<Value> = rows.iter().map(|row| to_json(row, &current)).collect();
        return Ok(EndpointResponse::json(
            StatusCode::OK,
            &json!({"sessions": sessions}),
        ));
    }
    let items: Vec<SessionItem> = rows.into_iter().map(|row| to_item(row, &current)).collect();
    let page = visit
        .login
        .pages
        .sessions(&visit.person(), &items, visit.now, notice(visit));
    Ok(logout::let_form_lead_on(visit, page).await.into())
}

/// What has just been done, where our own redirect says so.
fn notice(visit: &EndpointContext<'_>) -> Option<&'static str> {
    match visit.done()?.as_str() {
        "password" => Some("Password changed. All other sessions were signed out."),
        "ended" => Some("The session was signed out."),
        _ => None,
    }
}

fn to_json(row: &SessionRow, current: &str) -> Value {
    json!({
        "id": row.id,
        "current": row.id == current,
        "kind": if row.refresh.is_some() { "client" } else { "browser" },
        "userAgent": row.user_agent,
        "address": row.address,
        "createdAt": rfc3339(row.created_at),
        "lastSeenAt": rfc3339(row.seen_at),
        "expiresAt": rfc3339(row.expires_at),
    })
}

/// `2026-01-01T00:00:00Z`; `null` for a time that no calendar has.
pub(super) fn rfc3339(time: UnixSeconds) -> Option<String> {
    jiff::Timestamp::from_second(time)
        .ok()
        .map(|time| time.to_string())
}

fn to_item(row: SessionRow, current: &str) -> SessionItem {
    SessionItem {
        is_current: row.id == current,
        is_client: row.refresh.is_some(),
        id: row.id,
        user_agent: row.user_agent,
        address: row.address,
        created_at: row.created_at,
        seen_at: row.seen_at,
        expires_at: row.expires_at,
    }
}

/// DELETE of one session.
pub(super) async fn end(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    end_session(visit, false).await
}

/// The POST that a form sends for it.
pub(super) async fn end_by_form(
    visit: &EndpointContext<'_>,
    fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    end_session(visit, !visit.speaks_json(&fields)).await
}

/// Another account's session is as missing as none.
async fn end_session(
    visit: &EndpointContext<'_>,
    in_browser: bool,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let own = visit.require_session()?;
    let is_current = own.id == visit.id;
    let wanted = visit.id.to_owned();
    let ended = visit
        .state(move |_, sessions| {
            Ok(sessions.end(
                SessionSelector::Own {
                    id: &wanted,
                    account_id: &own.account_id,
                },
                EndCause::SignedOut,
            )?)
        })
        .await?;
    // A missing session may have been ended in another window; the list shows that.
    if ended.is_empty() && !in_browser {
        return Err(Refusal::RouteMissing.into());
    }
    Ok(match (in_browser, is_current && visit.asked.by_cookie) {
        (true, true) => visit.signed_out(),
        (true, false) if ended.is_empty() => EndpointResponse::see_other(visit.to("/sessions")),
        (true, false) => EndpointResponse::see_other(visit.to("/sessions?done=ended")),
        (false, true) => visit.without_cookie(EndpointResponse::empty()),
        (false, false) => EndpointResponse::empty(),
    })
}
