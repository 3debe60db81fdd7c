//! The claims of a session's signed tokens, and their lifetime.
//!
//! Input: a session and its account as the state has them. Output: a JWT of the session's kind. Invariants: no token outlives
//! its session or `token_lifetime`, by which revocations are kept.

use serde_json::Map;
use uuid::Uuid;

use super::Settings;
use crate::clock::UnixSeconds;
use crate::identity;
use crate::signing::{Kind, SigningError, SigningKeys};
use crate::state::{AccountRow, SessionRow};
use crate::verify::REVISION_CLAIM;

/// The claim of the token in a cookie that names the host, without a port, on which alone it counts.
pub(crate) const HOST_CLAIM: &str = "host";

/// The claim with the name of the provider that the user signed in with.
pub(crate) const PROVIDER_CLAIM: &str = "idp";

/// A token and its `exp`.
pub(super) struct Signed {
    pub(super) text: String,
    pub(super) expires_at: UnixSeconds,
}

/// Signs a token: a browser's for its cookie on `host`, an API client's for its `Authorization` header. It expires no later
/// than `latest`: up to then the end of the session is remembered.
///
/// # Errors
/// Signing fails, or the system has no random numbers.
pub(super) fn sign(
    settings: &Settings,
    keys: &SigningKeys,
    session: &SessionRow,
    account: &AccountRow,
    host: Option<&str>,
    now: UnixSeconds,
    latest: UnixSeconds,
) -> Result<Signed, SigningError> {
    let kind = if session.refresh.is_some() {
        Kind::Access
    } else {
        Kind::Session
    };
    let expires_at = expires_at(settings, session, now).min(latest);
    let mut claims = Map::new();
    claims.insert("iss".to_owned(), settings.public_url.as_str().into());
    claims.insert("aud".to_owned(), settings.public_url.as_str().into());
    claims.insert("sub".to_owned(), account.id.as_str().into());
    if let Some(email) = account.known_email() {
        claims.insert("email".to_owned(), email.into());
    }
    // What is left out counts as verified (OpenID Connect Core section 5.1 has the claim).
    if !settings.is_verified(account) {
        claims.insert("email_verified".to_owned(), false.into());
    }
    if let Some(name) = &account.name {
        claims.insert("name".to_owned(), name.as_str().into());
    }
    claims.insert("roles".to_owned(), account.all_roles().into());
    claims.insert("sid".to_owned(), session.id.as_str().into());
    let how = &session.authentication;
    if let Some(time) = how.auth_time {
        claims.insert("auth_time".to_owned(), time.into());
    }
    if let Some(acr) = &how.acr {
        claims.insert("acr".to_owned(), acr.as_str().into());
    }
    if let Some(provider) = &how.provider {
        claims.insert(PROVIDER_CLAIM.to_owned(), provider.as_str().into());
    }
    if let Some(host) = host {
        claims.insert(HOST_CLAIM.to_owned(), host.into());
    }
    if account.revision != 0 {
        claims.insert(REVISION_CLAIM.to_owned(), account.revision.into());
    }
    claims.insert("jti".to_owned(), new_id(now)?.to_string().into());
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), expires_at.into());
    Ok(Signed {
        text: keys.sign(kind, &claims)?,
        expires_at,
    })
}

/// When a token expires that is signed at `now`.
///
/// A browser's session is seen when its cookie is renewed. With half the idle limit as the longest time between two
/// renewals, a session in use never ends as an idle one.
pub(super) fn expires_at(settings: &Settings, session: &SessionRow, now: UnixSeconds) -> UnixSeconds {
    let end = now
        .saturating_add(settings.token_lifetime)
        .min(session.expires_at);
    if session.refresh.is_some() {
        end
    } else {
        end.min(now.saturating_add((settings.idle_timeout / 2).max(1)))
    }
}

/// [`identity::new_id`], with the error of this room.
pub(super) fn new_id(now: UnixSeconds) -> Result<Uuid, SigningError> {
    identity::new_id(now).map_err(|_| SigningError::Cryptography { action: "make an id" })
}
