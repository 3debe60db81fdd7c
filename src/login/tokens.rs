//! Refreshing tokens, and signing out.
//!
//! Input: a refresh token, or another credential that names a session. Output: two new tokens, or the end of the session.
//! Invariants: "signed out" is never said while the session lives on.

use http::{HeaderValue, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::context::{EndpointContext, OwnSession};
use super::form::{Field, Fields, parameter};
use super::provider::logout;
use super::response::{EndpointError, EndpointResponse};
use super::return_to;
use crate::http::cookie;
use crate::refusal::Refusal;
use crate::session::{RefreshCookie, Sessions, Tokens};
use crate::state::{EndCause, SessionSelector};

/// The tokens, as RFC 6749 section 5.1 has them, spelled as JavaScript does; the refresh token in `cookie`, where there is one.
///
/// # Errors
/// `Internal` for a token that no cookie holds.
pub(super) fn answer(tokens: &Tokens, cookie: Option<&RefreshCookie>) -> Result<EndpointResponse, Refusal> {
    let mut body = json!({
        "accessToken": tokens.access_token,
        "tokenType": "Bearer",
        "expiresIn": tokens.expires_in,
    });
    let Some(cookie) = cookie else {
        body["refreshToken"] = json!(tokens.refresh_token.as_str());
        return Ok(EndpointResponse::json(StatusCode::OK, &body));
    };
    let set_cookie = cookie
        .set(&tokens.refresh_token, tokens.session_ends_in)
        .ok_or(Refusal::Internal)?;
    Ok(EndpointResponse::json(StatusCode::OK, &body).with_cookie(set_cookie))
}

/// POST of a refresh token, in the body or in its cookie: both tokens anew, the refresh token where the old one was.
///
/// A browser attaches the cookie by itself, so the request must name its origin; `SameSite=Strict` is the other half.
pub(super) async fn refresh(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let Some(cookie) = &visit.login.refresh_cookie else {
        let token = fields.require(Field::RefreshToken)?;
        return Ok(exchange(visit, token, None).await?);
    };
    let mut values = cookie::values(visit.asked.headers, cookie.name());
    let kept = values.next();
    if values.next().is_some() {
        return Err(Refusal::CredentialRepeated.into());
    }
    let Some(kept) = kept else {
        if fields.is_nothing() {
            return Err(Refusal::CredentialMissing.into());
        }
        let token = fields.require(Field::RefreshToken)?;
        return Ok(exchange(visit, token, None).await?);
    };
    if fields.take(Field::RefreshToken).is_some() {
        return Err(Refusal::CredentialRepeated.into());
    }
    if !visit.asked.is_of_known_origin {
        return Err(Refusal::CrossSite.into());
    }
    let token = Zeroizing::new(String::from_utf8_lossy(kept).into_owned());
    exchange(visit, token, Some(cookie)).await.map_err(|refusal| {
        let mut failure: Box<EndpointError> = refusal.into();
        if refusal.status() == StatusCode::UNAUTHORIZED {
            failure.set_cookie = visit.clear_refresh_cookie();
        }
        failure
    })
}

async fn exchange(
    visit: &EndpointContext<'_>,
    token: Zeroizing<String>,
    cookie: Option<&RefreshCookie>,
) -> Result<EndpointResponse, Refusal> {
    if !visit.login.sessions.is_refresh_token(&token) {
        return Err(Refusal::RefreshRefused);
    }
    let address = visit.asked.client;
    let tokens = visit
        .state(move |_, sessions| Ok(sessions.refresh(&token, address)?))
        .await?;
    answer(&tokens, cookie)
}

/// GET: the page that asks whether to sign out.
pub(super) async fn logout_page(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let page = visit.login.pages.sign_out(visit.known_person().as_ref());
    Ok(logout::let_form_lead_on(visit, page).await.into())
}

/// POST: ends the caller's session, the one of a refresh token in the body, or both where they are two; with `?all=true`
/// all sessions of the account.
///
/// A browser always gets to the sign-in page without a cookie, also where there was nothing to end any more. To a program
/// 401 says that what it sent was no session of ours: a token of another issuer, or one that was minted by hand, is not
/// ended by this, and it would be wrong to say so.
///
/// A cookie that has expired still ends its own session, which may be alive. It ends the others only if its session is alive:
/// an old cookie must not sign its owner out everywhere. The owner, in a window that was left open for too long, gets by
/// way of the sign-in page to the list of sessions.
///
/// The cookie with a refresh token, which this endpoint does not get, goes with a 401 too: an app that takes it for "signed out
/// already" must not find its user signed in again.
pub(super) async fn logout(
    visit: &EndpointContext<'_>,
    fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let clear = visit.clear_refresh_cookie();
    match sign_out(visit, fields).await {
        Ok(answered) => Ok(clear.into_iter().fold(answered, EndpointResponse::with_cookie)),
        Err(mut failure) => {
            failure.set_cookie = clear.filter(|_| failure.refusal.status() == StatusCode::UNAUTHORIZED);
            Err(failure)
        }
    }
}

async fn sign_out(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let speaks_json = visit.speaks_json(&fields);
    let is_all = parameter(visit.asked.query, "all").is_some_and(|all| *all == "true");
    let (own, token) = (visit.own_session(), fields.take(Field::RefreshToken));
    let nothing = if token.is_some() {
        Refusal::RefreshRefused
    } else {
        Refusal::CredentialMissing
    };
    let token = token.filter(|token| visit.login.sessions.is_refresh_token(token));
    let is_named = own.is_some() || token.is_some();
    let ended = is_named
        && visit
            .state(move |_, sessions| end(sessions, own, token, is_all))
            .await?;
    if !speaks_json && is_all && !ended {
        let sessions = format!("{}/sessions", visit.prefix);
        return Ok(
            visit.without_cookie(EndpointResponse::see_other(return_to::login_then(
                visit.prefix,
                &sessions,
            ))),
        );
    }
    let at_provider = match ended {
        true => logout::at_provider(visit).await,
        false => None,
    };
    if !speaks_json {
        let location = at_provider.and_then(|url| HeaderValue::try_from(url).ok());
        return Ok(match location {
            Some(location) => visit.without_cookie(EndpointResponse::see_other(location)),
            None => visit.signed_out(),
        });
    }
    if !ended {
        return Err(nothing.into());
    }
    let mut body = json!({"message": "Signed out"});
    if let Some(url) = at_provider {
        // A script is not redirected to another origin: it decides itself.
        body["providerLogout"] = url.into();
    }
    let answered = EndpointResponse::json(StatusCode::OK, &body);
    Ok(if visit.asked.by_cookie {
        visit.without_cookie(answered)
    } else {
        answered
    })
}

/// Returns whether all that was asked for has ended; also where it had before.
fn end(
    sessions: &Sessions,
    own: Option<OwnSession>,
    token: Option<Zeroizing<String>>,
    is_all: bool,
) -> Result<bool, Refusal> {
    let of_token = token
        .map(|token| sessions.of_refresh_token(&token))
        .transpose()?
        .flatten();
    let of_token = of_token.map(|row| OwnSession {
        id: row.id,
        account_id: row.account_id,
    });
    let mut is_any = false;
    for OwnSession { id, account_id } in own.into_iter().chain(of_token) {
        if is_all && sessions.list(&account_id)?.iter().any(|session| session.id == id) {
            sessions.end(SessionSelector::Account(&account_id), EndCause::SignedOut)?;
            is_any = true;
        } else {
            sessions.end(
                SessionSelector::Own {
                    id: &id,
                    account_id: &account_id,
                },
                EndCause::SignedOut,
            )?;
            is_any |= !is_all;
        }
    }
    Ok(is_any)
}
