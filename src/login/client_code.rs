//! The sign-in of a client without cookies: what it asks for, and the exchange of its code for tokens.
//!
//! Input: the query of a native client or a single-page app; later the code with the verifier. Output: what was asked for,
//! checked; tokens. Invariants: no browser is led to an address that `session.redirect_uris` does not list; no session cookie
//! is set.

use zeroize::Zeroizing;

use super::context::{EndpointContext, Presented, caller};
use super::form::{Field, Fields, Kind, parameters};
use super::response::{EndpointError, EndpointResponse};
use super::tokens;
use crate::refusal::Refusal;

/// The longest `state` of a client, in bytes: it travels in a cookie.
const MAX_STATE: usize = 512;
/// Characters of a challenge: base64url of 32 bytes.
const CHALLENGE: usize = 43;
/// The longest verifier, in characters (RFC 7636 section 4.1).
const MAX_VERIFIER: usize = 128;

/// What a client asks for.
pub(super) struct ClientRequest {
    pub(super) redirect_uri: String,
    pub(super) state: String,
    pub(super) challenge: String,
}

/// What the query of `/login/{provider}` asks for a client; `None`: it is a browser that wants a session.
///
/// # Errors
/// `ClientRequestInvalid`: a parameter is missing, wrong or there twice, or the redirect URI is not listed.
pub(super) fn requested(visit: &EndpointContext<'_>) -> Result<Option<ClientRequest>, Refusal> {
    let names = [
        "mode",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
    ];
    let Some([mode, redirect_uri, state, challenge, method]) = parameters(visit.asked.query, names) else {
        return Err(Refusal::ClientRequestInvalid);
    };
    let Some(mode) = mode else {
        return Ok(None);
    };
    let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let is_base64url = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let asked = (|| {
        let redirect_uri = redirect_uri.filter(|asked| {
            let mut listed = visit.login.redirect_uris.iter();
            listed.any(|listed| listed.covers(asked))
        })?;
        let state = state.filter(|text| !text.is_empty() && text.len() <= MAX_STATE && is_visible(text))?;
        let challenge = challenge.filter(|text| text.len() == CHALLENGE && is_base64url(text))?;
        (*mode == "token" && method.is_some_and(|method| *method == "S256")).then(|| ClientRequest {
            redirect_uri: redirect_uri.to_string(),
            state: state.to_string(),
            challenge: challenge.to_string(),
        })
    })();
    asked.map(Some).ok_or(Refusal::ClientRequestInvalid)
}

/// POST of a code: the tokens of a new session, as of a sign-in by JSON.
pub(super) async fn exchange(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let grant = fields.take(Field::GrantType);
    let is_grant = match &grant {
        Some(grant) => **grant == "authorization_code",
        // RFC 6749 section 4.1.3 requires it of a form.
        None => fields.kind() != Kind::Form,
    };
    if !is_grant {
        return Err(Refusal::FormMalformed.into());
    }
    fields.require_all(&[Field::Code, Field::CodeVerifier, Field::RedirectUri])?;
    let code = fields.require(Field::Code)?;
    let verifier = fields.require(Field::CodeVerifier)?;
    let redirect_uri = fields.require(Field::RedirectUri)?;
    let key = blake3::hash(code.as_bytes()).to_hex();
    let counted = visit
        .login
        .throttle
        .attempt(&key, visit.client_address())
        .map_err(EndpointError::throttled)?;
    let _ = visit.presented.set(Presented::default());
    // A made-up code takes no place in the queue for the state.
    if !visit.login.sessions.is_code(&code) {
        return Err(Refusal::CodeRefused.into());
    }
    let verifier: Zeroizing<String> = match verifier.len() {
        CHALLENGE..=MAX_VERIFIER => verifier,
        // It spends the code as any other wrong one.
        _ => Zeroizing::default(),
    };
    let (device, now) = (visit.device(), visit.now);
    let redeemed = visit
        .state(move |_, sessions| {
            Ok(sessions.redeem_client_code(&code, &redirect_uri, &verifier, &device)?)
        })
        .await;
    if redeemed
        .as_ref()
        .map_or_else(|refusal| refusal.is_failure(), |_| true)
    {
        counted.forgotten();
    }
    let (opened, account) = redeemed?;
    let answered = tokens::answer(&opened, visit.login.refresh_cookie.as_ref())?;
    Ok(answered.by_caller(caller(account, opened.session_id, now)))
}
