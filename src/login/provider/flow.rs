//! The way to a provider: a sign-in, or the link of an account, begins.
//!
//! Input: a browser that wants to sign in. Output: a redirect to the provider, and the cookie of the attempt. Invariants: what
//! the provider is asked comes from the configuration and the route alone, and every attempt has its own `state`.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode};

use super::attempt::{Attempt, Purpose, Return};
use super::config::Protocol;
use super::metadata::OFFLINE_ACCESS;
use super::registry::{Provider, Providers};
use super::token_endpoint::encode;
use crate::authorize::StepUp;
use crate::login::client_code;
use crate::login::context::{EndpointContext, OwnSession};
use crate::login::response::{EndpointError, EndpointResponse};
use crate::login::sign_in::Way;
use crate::login::sites::Place;
use crate::refusal::Refusal;

/// The providers, and the one that the path names.
pub(super) fn named<'a>(
    visit: &'a EndpointContext<'_>,
) -> Result<(&'a Providers, &'a Arc<Provider>), Refusal> {
    let providers = &*visit.login.providers;
    let provider = providers.find(visit.id).ok_or(Refusal::RouteMissing)?;
    Ok((providers, provider))
}

pub(super) fn redirect_uri(visit: &EndpointContext<'_>) -> String {
    visit.at_home(&format!("/login/{}/return", visit.id))
}

/// GET of `/login/{provider}`: 302 to the provider.
pub(in crate::login) async fn begin(
    visit: &EndpointContext<'_>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    // The attempt's cookie would be one of another host than the provider leads back to.
    let (site, sites) = (&visit.site, &visit.login.sites);
    if site.keeps_cookie && site.place != Place::Named && !sites.shares_cookies(&site.name) {
        let mut url = visit.at_home(&format!("/login/{}", visit.id));
        if let Some(query) = visit.asked.query {
            url.push('?');
            url.push_str(query);
        }
        return visit.move_home(&url);
    }
    if !visit.has_forms() {
        return Ok(visit.elsewhere(StatusCode::OK, &visit.at_home("/login")).into());
    }
    let (way, purpose) = match client_code::requested(visit)? {
        None => (Way::of(visit, None, None), Purpose::SignIn),
        Some(asked) => {
            let purpose = Purpose::Client {
                redirect_uri: asked.redirect_uri,
                state: asked.state,
                challenge: asked.challenge,
            };
            (Way::new(visit, None, None), purpose)
        }
    };
    let attempt = Attempt {
        provider: provider.plan.name.clone(),
        return_to: way.return_to.as_ref().map(|text| text.to_string()),
        of_host: way.attempt.as_ref().map(|text| text.to_string()),
        purpose,
        begun: visit.now,
    };
    let (location, cookies) = leave(visit, providers, provider, &attempt, way.step_up.as_ref())
        .await
        .map_err(|refusal| with_sign_in(refusal.into(), way.again(visit)))?;
    Ok(cookies
        .into_iter()
        .fold(EndpointResponse::found(location), EndpointResponse::with_cookie))
}

/// The way to the provider that the path names, where the browser's account is to be linked with it: the address, and the
/// cookies to set. The caller has made sure that the account itself asks.
pub(in crate::login) async fn begin_link(
    visit: &EndpointContext<'_>,
    own: OwnSession,
) -> Result<(HeaderValue, Vec<HeaderValue>), Refusal> {
    let (providers, provider) = named(visit)?;
    let attempt = Attempt {
        provider: provider.plan.name.clone(),
        return_to: None,
        of_host: None,
        purpose: Purpose::Link {
            account_id: own.account_id,
            session_id: own.id,
        },
        begun: visit.now,
    };
    leave(visit, providers, provider, &attempt, None).await
}

/// The address at the provider, and the cookies of an attempt that begins.
async fn leave(
    visit: &EndpointContext<'_>,
    providers: &Providers,
    provider: &Arc<Provider>,
    attempt: &Attempt,
    step_up: Option<&StepUp>,
) -> Result<(HeaderValue, Vec<HeaderValue>), Refusal> {
    let asked = Arc::clone(provider);
    let client = visit.client_address();
    let metadata = providers
        .ask(Some(client), async move { asked.metadata().await })
        .await?;
    let secrets = providers.keys.make()?;
    let plan = &provider.plan;
    let challenge = challenge(&secrets.verifier);
    let (acr, max_age) = asked_of(step_up);
    let redirect_uri = redirect_uri(visit);
    let mut scope = plan.scope.clone();
    if plan.asks_for_offline_access && metadata.knows_offline_access {
        scope.push(' ');
        scope.push_str(OFFLINE_ACCESS);
    }
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", &plan.client_id),
        ("redirect_uri", &redirect_uri),
        ("state", &secrets.state),
    ];
    if plan.pkce {
        query.push(("code_challenge", &challenge));
        query.push(("code_challenge_method", "S256"));
    }
    if !scope.is_empty() {
        query.push(("scope", &scope));
    }
    if matches!(plan.protocol, Protocol::OpenId(_)) {
        query.push(("nonce", &secrets.nonce));
    }
    let way_back = if plan.is_form_post {
        query.push(("response_mode", "form_post"));
        Return::ByForm
    } else {
        Return::ByAddress
    };
    let asked = [("acr_values", acr.as_str()), ("max_age", max_age.as_str())];
    let asked: Vec<_> = asked.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    // What the route asks for goes before what the table says.
    let configured = plan.parameters.iter().map(|(name, value)| (&**name, &**value));
    let configured: Vec<_> = configured
        .filter(|(name, _)| asked.iter().all(|(other, _)| other != name))
        .collect();
    query.extend(asked);
    query.extend(configured);
    let query: Vec<String> = query
        .into_iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let query = query.join("&");
    let url = metadata.authorization.as_str();
    let separator = if url.contains('?') { '&' } else { '?' };
    let mut location =
        HeaderValue::try_from(format!("{url}{separator}{query}")).map_err(|_| Refusal::Internal)?;
    location.set_sensitive(true);
    let headers = visit.asked.headers;
    let cookies = providers
        .keys
        .set_cookies(&providers.jar, headers, &secrets.state, attempt, way_back);
    Ok((location, cookies))
}

/// `acr_values` and `max_age` (OpenID Connect Core 1.0 section 3.1.2.1); empty: not asked for.
fn asked_of(step_up: Option<&StepUp>) -> (String, String) {
    let acr = step_up.and_then(StepUp::acr_values);
    let max_age = step_up.and_then(|step_up| step_up.max_age);
    (
        acr.unwrap_or_default(),
        max_age.map(|seconds| seconds.to_string()).unwrap_or_default(),
    )
}

/// The S256 code challenge (RFC 7636 section 4.2).
fn challenge(verifier: &str) -> String {
    let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// `failure` with a page that leads to `sign_in`.
pub(super) fn with_sign_in(mut failure: Box<EndpointError>, sign_in: String) -> Box<EndpointError> {
    failure.sign_in = Some(sign_in);
    failure
}
