//! Signing out with a provider: there as well as here (OpenID Connect RP-Initiated Logout 1.0), and here because the session
//! there has ended (OpenID Connect Back-Channel and Front-Channel Logout 1.0).
//!
//! Input: the session of a browser that signs out; a logout token, which a server sends without a cookie. Output: an address
//! at the provider; the sessions that the session there opened are over. Invariants: no claim counts before the signature; no other kind of token is taken for a logout token; each one
//! is heard once; no address that a token names is asked; a bounded number of tokens waits for keys.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::id_token::{MAX_SID, MAX_SUBJECT};
use super::metadata::Metadata;
use super::registry::Provider;
use super::token_endpoint::encode;
use crate::audit::Origin;
use crate::authorize::SignInClaims;
use crate::clock::UnixSeconds;
use crate::http::url::Url;
use crate::login::context::EndpointContext;
use crate::login::form::{Field, Fields, Kind, parameters};
use crate::login::response::{EndpointError, EndpointResponse};
use crate::refusal::Refusal;
use crate::session::ProviderLogout;
use crate::state::{EndCause, SessionSelector};
use crate::verify::{Issuer, parse_object, read_unverified, verify_signature};

/// The member of `events` that makes a token a logout token (section 2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// For how many seconds after its `iat` a token counts.
const LONGEST_AGE: UnixSeconds = 5 * 60;
/// By how many seconds the clock of a provider may differ.
const CLOCK_SKEW: UnixSeconds = 60;
/// For how many seconds a token is remembered: longer than it counts.
const REMEMBERED: UnixSeconds = LONGEST_AGE + 3 * CLOCK_SKEW;
/// The longest `jti`, in bytes.
const MAX_TOKEN_ID: usize = 512;
/// How long a sign-out waits for the discovery document.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest token, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// What a logout token says.
#[derive(Debug, PartialEq, Eq)]
struct LogoutToken {
    token_id: String,
    sid: Option<String>,
    subject: Option<String>,
}

/// POST: 200 once the sessions are over; 400 with an error in JSON (section 2.8).
pub(in crate::login) async fn back_channel(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let is_form = fields.kind() == Kind::Form;
    let token = fields.take(Field::LogoutToken).filter(|_| is_form);
    let token = token.ok_or_else(|| refused("there is no form with `logout_token`"))?;
    // Counted before anything is read of it; a token that is good counts for nothing.
    let key = blake3::hash(token.as_bytes()).to_hex();
    let counted = visit
        .login
        .throttle
        .attempt(&key, visit.client_address())
        .map_err(EndpointError::throttled)?;
    let heard = hear(visit, token).await;
    // A provider is not punished for what failed here or there.
    if heard
        .as_ref()
        .map_or_else(|failure| failure.refusal.is_failure(), |()| true)
    {
        counted.forgotten();
    }
    heard.map(|()| EndpointResponse::json(StatusCode::OK, &json!({})))
}

async fn hear(visit: &EndpointContext<'_>, token: Zeroizing<String>) -> Result<(), Box<EndpointError>> {
    let providers = &*visit.login.providers;
    let provider = provider_of(visit, &token).map_err(refused)?;
    let (asked, now) = (Arc::clone(provider), visit.now);
    let said = providers
        .hear(async move {
            let metadata = asked.metadata().await?;
            Ok(asked.read_logout_token(&token, &metadata, now).await)
        })
        .await?;
    let said = said.map_err(refused)?;
    let logout = ProviderLogout {
        provider: provider.plan.name.clone(),
        sid: said.sid,
        subject: said.subject,
    };
    let ended = visit
        .state_by(by_provider(visit, &provider.plan.name), move |_, sessions| {
            Ok(sessions.end_by_provider(&logout, &said.token_id, REMEMBERED)?)
        })
        .await?;
    let ended = ended.ok_or_else(|| refused("it was used before"))?;
    tracing::info!(provider = provider.plan.name, ended, "a provider ended sessions");
    Ok(())
}

/// Where the browser ends its session at the provider as well (OpenID Connect RP-Initiated Logout 1.0 section 2). `None`: the
/// session was not opened by a provider, or the provider has no such endpoint, or does not answer now.
///
/// There is no `id_token_hint`: an ID token says who the user is, and would stand in logs of proxies.
pub(in crate::login) async fn at_provider(visit: &EndpointContext<'_>) -> Option<String> {
    let url = end_session(visit).await?;
    let name = provider_of_session(visit)?;
    let client_id = &visit.login.providers.find(name)?.plan.client_id;
    let url = url.as_str();
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!(
        "{url}{separator}client_id={}&post_logout_redirect_uri={}",
        encode(client_id),
        encode(&visit.at_home("/logout"))
    ))
}

/// `page`, whose form may lead on to the provider of the session: browsers apply `form-action` to redirects too.
pub(in crate::login) async fn let_form_lead_on(
    visit: &EndpointContext<'_>,
    mut page: Response<Bytes>,
) -> Response<Bytes> {
    const FORMS: &str = "form-action 'self'";
    let Some(url) = end_session(visit).await else {
        return page;
    };
    let policy = page.headers().get(CONTENT_SECURITY_POLICY);
    let Some(policy) = policy.and_then(|policy| policy.to_str().ok()) else {
        return page;
    };
    let policy = policy.replacen(FORMS, &format!("{FORMS} {}", origin_of(&url)), 1);
    if let Ok(policy) = HeaderValue::try_from(policy) {
        page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    page
}

/// The provider that opened the session of the cookie.
fn provider_of_session<'v>(visit: &'v EndpointContext<'_>) -> Option<&'v str> {
    let caller = visit.asked.caller.as_ref().filter(|_| visit.asked.by_cookie)?;
    SignInClaims::of(&caller.identity).provider
}

async fn end_session(visit: &EndpointContext<'_>) -> Option<Url> {
    let providers = &*visit.login.providers;
    let provider = providers.find(provider_of_session(visit)?)?;
    if !provider.plan.logout {
        return None;
    }
    let asked = Arc::clone(provider);
    let metadata = providers.ask(
        Some(visit.client_address()),
        async move { asked.metadata().await },
    );
    let metadata = tokio::time::timeout(PATIENCE, metadata).await.ok()?.ok()?;
    metadata.end_session.clone()
}

/// GET, in a frame of the provider's page (OpenID Connect Front-Channel Logout 1.0 section 3): ends the sessions that the
/// session `sid` there opened. The answer is the same whether there were any.
///
/// No cookie comes along in a frame of another site, so that `sid` alone says which session it is: a table has to allow it.
pub(in crate::login) async fn front_channel(
    visit: &EndpointContext<'_>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let [iss, sid] = parameters(visit.asked.query, ["iss", "sid"]).ok_or(Refusal::FormMalformed)?;
    let mut all = visit.login.providers.all();
    let provider = iss
        .and_then(|iss| all.find(|provider| provider.plan.frontchannel_logout && has_issuer(provider, &iss)));
    let sid = sid.filter(|sid| !sid.is_empty() && sid.len() <= MAX_SID);
    let mut ancestors = "'none'".to_owned();
    if let (Some(provider), Some(sid)) = (provider, sid) {
        ancestors = provider
            .open_id()
            .map_or(ancestors, |(open_id, _)| origin_of(&open_id.discovery));
        let key = blake3::hash(sid.as_bytes()).to_hex();
        let counted = visit
            .login
            .throttle
            .attempt(&key, visit.client_address())
            .map_err(EndpointError::throttled)?;
        let name = provider.plan.name.clone();
        let ended = visit
            .state_by(by_provider(visit, &name), move |_, sessions| {
                let (provider, sid) = (&*name, sid.as_str());
                Ok(sessions
                    .end(
                        SessionSelector::ProviderSession { provider, sid },
                        EndCause::Provider,
                    )?
                    .len())
            })
            .await?;
        if ended > 0 {
            counted.forgotten();
            tracing::info!(provider = provider.plan.name, ended, "a provider ended sessions");
        }
    }
    let mut page = Response::new(Bytes::from_static(b"<!doctype html><title>Signed out</title>"));
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = format!("default-src 'none'; frame-ancestors {ancestors}");
    let policy = HeaderValue::try_from(policy).map_err(|_| Refusal::Internal)?;
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    Ok(page.into())
}

/// A provider, by a request of its own or of its page.
fn by_provider(visit: &EndpointContext<'_>, name: &str) -> Origin {
    Origin {
        actor: Origin::provider(name).actor,
        ..visit.origin()
    }
}

/// As a source of a policy (CSP Level 3).
fn origin_of(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.authority())
}

/// The refusal, with its reason in the log.
fn refused(reason: &str) -> Box<EndpointError> {
    tracing::warn!(reason, "a logout token of a provider is refused");
    let refusal = Refusal::LogoutTokenRefused;
    let body = json!({
        "error": "invalid_request",
        "error_description": "The logout token is not valid",
    });
    let mut page = Response::new(Bytes::from(body.to_string()));
    *page.status_mut() = refusal.status();
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut failure: Box<EndpointError> = refusal.into();
    failure.page = Some(page);
    failure
}

/// The configured provider that the token claims to be of, which is not verified yet.
fn provider_of<'v>(visit: &'v EndpointContext<'_>, token: &str) -> Result<&'v Arc<Provider>, &'static str> {
    if token.len() > MAX_TOKEN {
        return Err("it is longer than 8 KiB");
    }
    let claims = read_unverified(token)
        .map_err(|_| "it is not a signed token")?
        .claims;
    let iss = claims.get("iss").and_then(Value::as_str);
    let mut all = visit.login.providers.all();
    all.find(|provider| {
        iss.is_some_and(|iss| has_issuer(provider, iss)) && is_for(&claims, &provider.plan.client_id)
    })
    .ok_or("no provider has its `iss` and `aud`")
}

/// Whether `iss` is that of the ID tokens of an OpenID provider.
fn has_issuer(provider: &Provider, iss: &str) -> bool {
    provider.open_id().is_some_and(|(_, issuer)| issuer.is_iss(iss))
}

fn is_for(claims: &Map<String, Value>, client_id: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(aud)) => aud == client_id,
        Some(Value::Array(all)) => all.iter().any(|aud| aud == client_id),
        _ => false,
    }
}

impl Provider {
    /// Every check of a logout token but the one for a replay (section 2.6).
    async fn read_logout_token(
        &self,
        token: &str,
        metadata: &Metadata,
        now: UnixSeconds,
    ) -> Result<LogoutToken, &'static str> {
        let header = read_unverified(token)
            .map_err(|_| "it is not a signed token")?
            .header;
        is_logout_type(header.get("typ"))?;
        let (_, issuer) = self.open_id().ok_or("the provider has no ID tokens")?;
        self.source.freshen_keys(&self.plan, metadata, issuer).await;
        let outcome = match verify(issuer, token) {
            Err(Refusal::KeyUnknown | Refusal::KeysUnavailable) => {
                self.source.find_key(&self.plan, metadata, issuer).await;
                verify(issuer, token)
            }
            outcome => outcome,
        };
        let payload = outcome.map_err(Refusal::reason)?;
        let claims = parse_object(&payload).map_err(|_| "its claims are not a JSON object")?;
        judge(&claims, |iss| issuer.is_iss(iss), &self.plan.client_id, now)
    }
}

fn verify(issuer: &Issuer, token: &str) -> Result<Vec<u8>, Refusal> {
    let keys = issuer.keys.now();
    let set = keys.set.as_ref().ok_or(Refusal::KeysUnavailable)?;
    verify_signature(token, set, &issuer.algorithms)
}

/// `typ`: none, `JWT`, or the one of logout tokens; that of an access token or of another kind is refused.
fn is_logout_type(typ: Option<&Value>) -> Result<(), &'static str> {
    let typ = match typ {
        None => return Ok(()),
        Some(Value::String(typ)) => typ.to_ascii_lowercase(),
        Some(_) => return Err("`typ` is not a string"),
    };
    match typ.strip_prefix("application/").unwrap_or(&typ) {
        "jwt" | "logout+jwt" => Ok(()),
        _ => Err("`typ` is that of another kind of token"),
    }
}

/// The claims of a token whose signature is good (sections 2.4 and 2.6).
fn judge(
    claims: &Map<String, Value>,
    is_issuer: impl Fn(&str) -> bool,
    client_id: &str,
    now: UnixSeconds,
) -> Result<LogoutToken, &'static str> {
    let text = |name: &str, longest: usize, fault: &'static str| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= longest => Ok(Some(text.clone())),
        Some(_) => Err(fault),
    };
    let time = |name: &str| claims.get(name).and_then(Value::as_i64);
    if !claims.get("iss").and_then(Value::as_str).is_some_and(is_issuer) {
        return Err("`iss` is another issuer");
    }
    if !is_for(claims, client_id) {
        return Err("`aud` is another client");
    }
    let iat = time("iat").ok_or("`iat` is missing or not a number")?;
    if iat > now.saturating_add(CLOCK_SKEW) || now.saturating_sub(iat) > LONGEST_AGE + CLOCK_SKEW {
        return Err("`iat` is in the future or more than 5 minutes ago");
    }
    let exp = time("exp").ok_or("`exp` is missing or not a number")?;
    if now >= exp.saturating_add(CLOCK_SKEW) {
        return Err("it has expired");
    }
    if claims.contains_key("nbf") && time("nbf").is_none_or(|nbf| nbf > now.saturating_add(CLOCK_SKEW)) {
        return Err("`nbf` is in the future or not a number");
    }
    // An ID token has one: it must never end a session.
    if claims.contains_key("nonce") {
        return Err("it has a `nonce`");
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err("`events` does not have the event of a logout token");
    }
    let token_id = text("jti", MAX_TOKEN_ID, "`jti` is not a short string")?.ok_or("`jti` is missing")?;
    let sid = text("sid", MAX_SID, "`sid` is not a short string")?;
    let subject = text("sub", MAX_SUBJECT, "`sub` is not a short string")?;
    if sid.is_none() && subject.is_none() {
        return Err("it has neither `sid` nor `sub`");
    }
    Ok(LogoutToken {
        token_id,
        sid,
        subject,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    fn judged(change: impl FnOnce(&mut Value)) -> Result<LogoutToken, &'static str> {
        let mut claims = json!({
            "iss": "https://id.example", "aud": "gate", "iat": NOW, "exp": NOW + 120, "jti": "t1",
            "sid": "s1", "sub": "ann", "events": { EVENT: {} },
        });
        change(&mut claims);
        judge(
            claims.as_object().unwrap(),
            |iss| iss == "https://id.example",
            "gate",
            NOW,
        )
    }

    #[test]
    fn each_claim_of_a_logout_token_is_checked() {
        let good = judged(|_| {}).unwrap();
        assert_eq!(
            (good.sid.as_deref(), good.subject.as_deref()),
            (Some("s1"), Some("ann"))
        );
        for (name, values) in [
            ("aud", vec![json!(["x", "gate"])]),
            ("iat", vec![json!(NOW - 360), json!(NOW + 60)]),
            ("exp", vec![json!(NOW - 59)]),
            ("nbf", vec![json!(NOW)]),
            ("sid", vec![Value::Null]),
            ("sub", vec![Value::Null]),
            ("events", vec![json!({ EVENT: { "x": 1 }, "y": {} })]),
        ] {
            for value in values {
                let changed = judged(|claims| {
                    if value.is_null() {
                        claims.as_object_mut().unwrap().remove(name);
                    } else {
                        claims[name] = value.clone();
                    }
                });
                assert!(changed.is_ok(), "{name} {value}: {changed:?}");
            }
        }
        for (name, values) in [
            (
                "iss",
                vec![json!("https://id.example/"), json!(["https://id.example"])],
            ),
            (
                "aud",
                vec![json!("other"), json!([]), json!({ "gate": 1 }), json!(["Gate"])],
            ),
            (
                "iat",
                vec![
                    json!(NOW - 361),
                    json!(NOW + 61),
                    json!(NOW.to_string()),
                    json!(NOW * 1000),
                ],
            ),
            ("exp", vec![json!(NOW - 60), json!("x")]),
            ("nbf", vec![json!(NOW + 61), json!("x")]),
            ("nonce", vec![json!("n"), json!(""), json!(null)]),
            (
                "events",
                vec![
                    json!({}),
                    json!({ EVENT: true }),
                    json!({ EVENT: [] }),
                    json!([EVENT]),
                    json!(EVENT),
                ],
            ),
            ("jti", vec![json!(""), json!(1), json!("j".repeat(513))]),
            ("sid", vec![json!(""), json!(1), json!("s".repeat(513))]),
            ("sub", vec![json!(""), json!(["ann"]), json!("s".repeat(256))]),
        ] {
            for value in values {
                assert!(
                    judged(|claims| claims[name] = value.clone()).is_err(),
                    "{name} {value}"
                );
            }
        }
        for missing in ["iss", "aud", "iat", "exp", "events", "jti"] {
            let changed = judged(|claims| drop(claims.as_object_mut().unwrap().remove(missing)));
            assert!(changed.is_err(), "{missing}");
        }
        let neither = judged(|claims| {
            for name in ["sid", "sub"] {
                claims.as_object_mut().unwrap().remove(name);
            }
        });
        assert_eq!(neither, Err("it has neither `sid` nor `sub`"));
    }

    #[test]
    fn another_kind_of_token_is_no_logout_token() {
        for typ in ["JWT", "jwt", "logout+jwt", "application/logout+jwt", "Logout+JWT"] {
            assert_eq!(is_logout_type(Some(&json!(typ))), Ok(()), "{typ}");
        }
        assert_eq!(is_logout_type(None), Ok(()));
        for typ in [
            json!("at+jwt"),
            json!("dpop+jwt"),
            json!("secevent+jwt"),
            json!(""),
            json!(null),
            json!(1),
        ] {
            assert!(is_logout_type(Some(&typ)).is_err(), "{typ}");
        }
    }
}
