//! Changes the password of an account.
//!
//! Input: the present and the new password, from a session. Output: no other session of the account, and for a browser a new
//! one. Invariants: no password is changed without the present one, which a stolen session does not know; no session that was
//! opened with the old password outlives it; guesses are counted as strictly as at sign-in.

use http::StatusCode;
use serde_json::json;

use super::context::{EndpointContext, OwnSession};
use super::form::{Field, Fields, Kind};
use super::response::{EndpointError, EndpointResponse};
use crate::account::{self, Accounts};
use crate::clock::UnixSeconds;
use crate::pages::FormError;
use crate::refusal::Refusal;
use crate::session::Sessions;
use crate::state::{AccountChange, AccountRow, EndCause, EndSessions, SessionSelector};

/// GET.
pub(super) async fn page(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let own = visit.require_session()?;
    if !visit.has_forms() {
        return Ok(visit
            .elsewhere(StatusCode::OK, &visit.at_home("/password"))
            .into());
    }
    let account = visit
        .state(move |accounts, _| Ok(accounts.by_id(&own.account_id)?))
        .await?;
    if account.is_some_and(|account| account.password_hash.is_none()) {
        return Ok(visit.login.pages.no_password(&visit.person()).into());
    }
    Ok(visit
        .login
        .pages
        .password(StatusCode::OK, &visit.person(), None)
        .into())
}

/// POST. A browser gets a new session as well, so that a copy of its cookie is worth nothing any more; an API client
/// keeps its tokens.
pub(super) async fn submit(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let own = visit.require_session()?;
    let speaks_json = visit.speaks_json(&fields);
    if !speaks_json && !visit.has_forms() {
        return Err(visit.refuse_form(&visit.at_home("/password")));
    }
    let account = match change(visit, &mut fields, &own).await {
        Ok(account) => account,
        Err(failure) if speaks_json => return Err(failure),
        Err(failure) => {
            let is_wrong = failure.refusal == Refusal::LoginRefused;
            let field = match failure.refusal {
                Refusal::LoginRefused => Some(Field::CurrentPassword.name(Kind::Form)),
                Refusal::PasswordTooShort | Refusal::PasswordTooLong | Refusal::PasswordCommon => {
                    Some(Field::NewPassword.name(Kind::Form))
                }
                _ => failure.field,
            };
            return Err(visit.show_form(failure.of_field(field), |pages, status, error| {
                let message = if is_wrong {
                    "The current password is wrong."
                } else {
                    error.message
                };
                pages.password(status, &visit.person(), Some(FormError { message, ..error }))
            }));
        }
    };
    let answered = match speaks_json {
        true => EndpointResponse::json(StatusCode::OK, &json!({"message": "Password changed"})),
        false => EndpointResponse::see_other(visit.to("/sessions?done=password")),
    };
    if !visit.asked.by_cookie {
        return Ok(answered);
    }
    let (device, how, host) = (visit.device(), visit.by_password(), visit.site.name.clone());
    let renewed = visit.state(move |_, sessions| {
        sessions.end(
            SessionSelector::Own {
                id: &own.id,
                account_id: &own.account_id,
            },
            EndCause::Replaced,
        )?;
        Ok(sessions.open_browser(&account, how, &device, &host)?)
    });
    Ok(match renewed.await {
        Ok(cookie) => answered.with_cookie(cookie.set_cookie),
        // The password is changed, whatever comes now: the worst is to sign in again.
        Err(refusal) => {
            tracing::warn!(%refusal, "cannot replace the session in which a password was changed");
            if speaks_json {
                visit.without_cookie(answered)
            } else {
                visit.signed_out()
            }
        }
    })
}

async fn change(
    visit: &EndpointContext<'_>,
    fields: &mut Fields,
    own: &OwnSession,
) -> Result<AccountRow, Box<EndpointError>> {
    fields.require_all(&[Field::CurrentPassword, Field::NewPassword])?;
    let current = fields.require(Field::CurrentPassword)?;
    let new = fields.require(Field::NewPassword)?;
    let email = visit.person().email;
    visit.login.accounts.policy().check_password(&email, &new)?;
    // The same account to the throttle as at sign-in: there are not ten guesses here and ten there.
    let counted = if email.is_empty() { &own.account_id } else { &email };
    let id = own.account_id.clone();
    let proven = visit
        .prove(counted, current, move |accounts| accounts.attempt_by_id(&id))
        .await?;
    let hash = visit
        .login
        .hasher
        .run(visit.asked.client, move || account::hash(&new))
        .await??;
    let (own, now) = (own.clone(), visit.now);
    Ok(visit
        .state(move |accounts, sessions| replace(accounts, sessions, &proven, &own, hash, now))
        .await?)
}

/// Puts the new hash in place. Hashing takes a while: a session that has ended meanwhile, or was not the first to
/// change the password, changes nothing. Of two sessions that try at once each ends the other before it looks
/// whether it is still there itself, so that never both are.
fn replace(
    accounts: &Accounts,
    sessions: &Sessions,
    proven: &AccountRow,
    own: &OwnSession,
    hash: String,
    now: UnixSeconds,
) -> Result<AccountRow, Refusal> {
    let require_alive = || match sessions
        .list(&own.account_id)?
        .iter()
        .any(|session| session.id == own.id)
    {
        true => Ok(()),
        false => Err(Refusal::Revoked),
    };
    require_alive()?;
    // First so that it holds in this process at once, then, in one step with the change, whatever was opened in between.
    sessions.end(
        SessionSelector::Others {
            account_id: &own.account_id,
            keep: &own.id,
        },
        EndCause::PasswordChanged,
    )?;
    require_alive()?;
    let present = accounts.by_id(&own.account_id)?;
    if present.is_none_or(|present| present.password_version != proven.password_version) {
        return Err(Refusal::LoginRefused);
    }
    let end = EndSessions {
        cause: EndCause::PasswordChanged,
        now,
        revoked_until: sessions.revoked_until(),
        keep: Some(&own.id),
    };
    let change = AccountChange {
        password_hash: Some(hash),
        ..AccountChange::default()
    };
    accounts
        .change(&own.account_id, change, &end)?
        .ok_or(Refusal::LoginRefused)
}
