//! The userinfo endpoint of a provider (OpenID Connect Core 1.0 section 5.3).
//!
//! Input: an access token. Output: claims, or a refusal with a line in the log. Invariants: claims of another subject are
//! no claims; a verdict about one address never counts for another; no log has a token.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde_json::{Map, Value};

use super::config::{Protocol, ProviderPlan};
use super::token_endpoint::send;
use crate::http::url::Url;
use crate::net::client;
use crate::refusal::Refusal;
use crate::verify::parse_object;

/// A refusal of an answer, with the reason in the log.
pub(super) fn refuse(plan: &ProviderPlan, reason: &str) -> Refusal {
    tracing::warn!(
        provider = plan.name,
        reason,
        "userinfo of a provider cannot be used"
    );
    Refusal::ProviderRefused
}

/// The answer of `url`, a document of JSON.
///
/// # Errors
/// `ProviderUnavailable`, `ProviderRefused`.
pub(super) async fn ask(plan: &ProviderPlan, url: &Url, access_token: &str) -> Result<Bytes, Refusal> {
    let bearer = client::bearer(access_token.as_bytes()).map_err(|_| {
        refuse(
            plan,
            "the access token has other characters than visible ASCII ones",
        )
    })?;
    let mut request = Request::get("/")
        .header(header::AUTHORIZATION, bearer)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|_| Refusal::Internal)?;
    if let Protocol::OAuth2(oauth2) = &plan.protocol {
        for (name, value) in &oauth2.headers {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = send(plan, url, request).await?;
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status if status.is_server_error() => {
            tracing::warn!(provider = plan.name, %url, %status, "a provider does not answer");
            Err(Refusal::ProviderUnavailable)
        }
        status => {
            tracing::warn!(provider = plan.name, %url, %status, "a provider refused a request for claims");
            Err(Refusal::ProviderRefused)
        }
    }
}

/// The claims at `url`.
///
/// # Errors
/// `ProviderUnavailable`, `ProviderRefused`.
pub(super) async fn fetch(
    plan: &ProviderPlan,
    url: &Url,
    access_token: &str,
) -> Result<Map<String, Value>, Refusal> {
    let answer = ask(plan, url, access_token).await?;
    parse_object(&answer).map_err(|_| refuse(plan, "it is not a JSON object"))
}

/// The claims at `url`, which are those of `subject`.
///
/// # Errors
/// `ProviderUnavailable`, `ProviderRefused`.
pub(super) async fn fetch_of(
    plan: &ProviderPlan,
    url: &Url,
    access_token: &str,
    subject: &str,
) -> Result<Map<String, Value>, Refusal> {
    let found = fetch(plan, url, access_token).await?;
    if found.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(refuse(plan, "`sub` is another subject than that of the ID token"));
    }
    Ok(found)
}

/// Adds the claims of userinfo that an ID token lacks. Whether an address is verified is said about that address alone.
pub(super) fn merge(claims: &mut Map<String, Value>, mut found: Map<String, Value>) {
    let is_same_address = !claims.contains_key("email") || claims.get("email") == found.get("email");
    if !is_same_address {
        found.remove("email_verified");
    }
    // A verdict about an address that the ID token does not name is about none.
    if !claims.contains_key("email") {
        claims.remove("email_verified");
    }
    for (name, value) in found {
        claims.entry(name).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whether_an_address_is_verified_stays_with_the_address() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let merged = |own: Value, found: Value| {
            let mut claims = object(own);
            merge(&mut claims, object(found));
            Value::Object(claims)
        };
        assert_eq!(
            merged(
                json!({"email": "a@b"}),
                json!({"email": "c@d", "email_verified": true})
            ),
            json!({"email": "a@b"})
        );
        assert_eq!(
            merged(
                json!({"email": "a@b"}),
                json!({"email": "a@b", "email_verified": true})
            ),
            json!({"email": "a@b", "email_verified": true})
        );
        assert_eq!(
            merged(json!({"email_verified": true}), json!({"email": "c@d"})),
            json!({"email": "c@d"})
        );
        assert_eq!(
            merged(
                json!({"iss": "i", "name": "n"}),
                json!({"iss": "j", "name": "m", "x": 1})
            ),
            json!({"iss": "i", "name": "n", "x": 1})
        );
    }
}
