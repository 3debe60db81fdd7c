//! One request to the token endpoint of a provider (RFC 6749 sections 4.1.3 and 6).
//!
//! Input: a provider, and the parameters of a grant. Output: [`Tokens`], or a [`TokenFault`] with a line in the log.
//! Invariants: the gateway authenticates as its table says; a redirect is not followed; no log has a code, a token or a
//! secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::config::{ClientAuthentication, Protocol, ProviderPlan};
use super::metadata::shown;
use crate::clock::UnixSeconds;
use crate::http::url::Url;
use crate::refusal::Refusal;
use crate::signing::ClientKey;
use crate::verify::parse_object;

/// The longest answer of an endpoint of a provider, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 256 * 1024;

/// Seconds that a JWT of the gateway is good for at a token endpoint.
const JWT_LIFETIME: UnixSeconds = 60;
/// RFC 7523 section 2.2
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// All but the unreserved characters (RFC 3986 section 2.3).
const IN_FORM: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` as a value of `application/x-www-form-urlencoded`.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, &IN_FORM).to_string()
}

/// What a token endpoint gives (RFC 6749 section 5.1).
pub(super) struct Tokens {
    pub(super) id_token: Option<Zeroizing<String>>,
    pub(super) access_token: Option<Zeroizing<String>>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    /// The lifetime of the access token, in seconds.
    pub(super) expires_in: Option<u64>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

/// Why a token endpoint gave no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenFault {
    /// It does not answer, or it answers with a server error.
    Unavailable,
    /// The grant is not valid, or not any more (`invalid_grant`, RFC 6749 section 5.2).
    InvalidGrant,
    /// Another error, or an answer that cannot be used.
    Refused,
    /// An error of the gateway itself.
    Internal,
}

impl From<TokenFault> for Refusal {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Unavailable => Self::ProviderUnavailable,
            TokenFault::InvalidGrant | TokenFault::Refused => Self::ProviderRefused,
            TokenFault::Internal => Self::Internal,
        }
    }
}

/// Sends `request` to an endpoint of a provider.
///
/// # Errors
/// `ProviderUnavailable`
pub(super) async fn send(
    plan: &ProviderPlan,
    url: &Url,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, Refusal> {
    let answer = plan.client.send(url, request, MAX_BODY_BYTES).await;
    answer.map_err(|error| {
        tracing::warn!(provider = plan.name, %error, "a provider does not answer");
        Refusal::ProviderUnavailable
    })
}

/// Asks the token endpoint at `url`. `grant` are the parameters of the grant; those of client authentication are added.
///
/// # Errors
/// See [`TokenFault`].
pub(super) async fn request_tokens(
    plan: &ProviderPlan,
    url: &Url,
    grant: &[(&str, &str)],
    now: UnixSeconds,
) -> Result<Tokens, TokenFault> {
    let request = authenticated(plan, url, grant, now)?;
    let answer = send(plan, url, request)
        .await
        .map_err(|_| TokenFault::Unavailable)?;
    let status = answer.status();
    let document = parse_object(answer.body()).ok();
    // Some providers answer an error with 200.
    let error = document
        .as_ref()
        .and_then(|document| document.get("error"))
        .and_then(Value::as_str);
    if status != StatusCode::OK || error.is_some() {
        let description = document
            .as_ref()
            .and_then(|document| document.get("error_description")?.as_str());
        tracing::warn!(
            provider = plan.name, %status, error = error.map(shown), description = description.map(shown),
            "the token endpoint of a provider refused a grant"
        );
        return Err(match error {
            _ if status.is_server_error() => TokenFault::Unavailable,
            Some("invalid_grant") => TokenFault::InvalidGrant,
            _ => TokenFault::Refused,
        });
    }
    let refused = |reason: &str| {
        tracing::warn!(
            provider = plan.name,
            reason,
            "the answer of a token endpoint cannot be used"
        );
        TokenFault::Refused
    };
    let document = document.ok_or_else(|| refused("it is not a JSON object"))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let is_bearer = match document.get("token_type") {
        Some(kind) => kind
            .as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")),
        // Some OAuth2 servers leave it out.
        None => matches!(plan.protocol, Protocol::OAuth2(_)),
    };
    if !is_bearer {
        return Err(refused("`token_type` is not `Bearer`"));
    }
    let token = |name: &str| text(name).map(|token| Zeroizing::new(token.to_owned()));
    Ok(Tokens {
        id_token: token("id_token"),
        access_token: token("access_token"),
        refresh_token: token("refresh_token"),
        expires_in: document.get("expires_in").and_then(Value::as_u64),
    })
}

fn authenticated(
    plan: &ProviderPlan,
    url: &Url,
    grant: &[(&str, &str)],
    now: UnixSeconds,
) -> Result<Request<Bytes>, TokenFault> {
    let mut form = Zeroizing::new(String::new());
    let mut add = |name: &str, value: &str| {
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(name);
        form.push('=');
        form.push_str(&Zeroizing::new(encode(value)));
    };
    for (name, value) in grant {
        add(name, value);
    }
    let mut request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json");
    match &plan.authentication {
        ClientAuthentication::Basic(secret) => {
            let value = basic(&plan.client_id, secret).ok_or(TokenFault::Internal)?;
            request = request.header(header::AUTHORIZATION, value);
        }
        ClientAuthentication::Post(secret) => {
            add("client_id", &plan.client_id);
            add("client_secret", secret);
        }
        ClientAuthentication::PrivateKeyJwt(key) => {
            add("client_id", &plan.client_id);
            add("client_assertion_type", ASSERTION_TYPE);
            add("client_assertion", &assertion(plan, key, url, now)?);
        }
        ClientAuthentication::SignedSecret {
            key,
            team_id,
            audience,
        } => {
            let claims = json!({
                "iss": team_id, "iat": now, "exp": now.saturating_add(JWT_LIFETIME),
                "aud": audience, "sub": plan.client_id,
            });
            let secret = key
                .sign(&claims)
                .map(Zeroizing::new)
                .ok_or(TokenFault::Internal)?;
            add("client_id", &plan.client_id);
            add("client_secret", &secret);
        }
        ClientAuthentication::None => add("client_id", &plan.client_id),
    }
    let body = Bytes::from(form.as_bytes().to_vec());
    request.body(body).map_err(|_| TokenFault::Internal)
}

/// The JWT of `private_key_jwt` (RFC 7523 section 3, OpenID Connect Core 1.0 section 9). It is good for one request.
fn assertion(
    plan: &ProviderPlan,
    key: &ClientKey,
    url: &Url,
    now: UnixSeconds,
) -> Result<Zeroizing<String>, TokenFault> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|_| TokenFault::Internal)?;
    let claims = json!({
        "iss": plan.client_id, "sub": plan.client_id, "aud": url.as_str(),
        "jti": URL_SAFE_NO_PAD.encode(id), "iat": now, "exp": now.saturating_add(JWT_LIFETIME),
    });
    key.sign(&claims).map(Zeroizing::new).ok_or(TokenFault::Internal)
}

/// `Basic` with both parts form-encoded first (RFC 6749 section 2.3.1).
fn basic(client_id: &str, secret: &str) -> Option<HeaderValue> {
    let pair = Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret)));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    let mut value = HeaderValue::try_from(text.as_str()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_is_form_encoded_first() {
        let value = basic("a:b", "p ss%/ä").expect("a header value");
        assert!(value.is_sensitive());
        let text = value
            .to_str()
            .expect("ASCII")
            .strip_prefix("Basic ")
            .expect("Basic");
        let pair = STANDARD.decode(text).expect("base64");
        assert_eq!(String::from_utf8_lossy(&pair), "a%3Ab:p%20ss%25%2F%C3%A4");
    }
}
