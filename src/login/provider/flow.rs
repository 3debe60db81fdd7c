//! The two endpoints of a sign-in with a provider.
//!
//! Input: a browser that wants to sign in, or comes back with a code. Output: a redirect to the provider, or a session.
//! Invariants: nothing that comes back counts before its attempt is found in the browser, and an attempt is completed once.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode};

use super::attempt::{self, Attempt, LIFETIME};
use super::config::Protocol;
use super::metadata::shown;
use super::profile::Profile;
use super::registry::{Provider, Providers};
use super::token_endpoint::encode;
use crate::login::context::EndpointContext;
use crate::login::form::parameters;
use crate::login::response::{EndpointError, EndpointResponse};
use crate::login::sign_in::Way;
use crate::refusal::Refusal;
use crate::state::{AccountRow, IdentityRow, TokenHash};

/// The longest code that is taken, in bytes.
const LONGEST_CODE: usize = 4096;

/// The providers, and the one that the path names.
fn named<'a>(visit: &'a EndpointContext<'_>) -> Result<(&'a Providers, &'a Arc<Provider>), Refusal> {
    let providers = &*visit.login.providers;
    let provider = providers.find(visit.id).ok_or(Refusal::RouteMissing)?;
    Ok((providers, provider))
}

fn redirect_uri(visit: &EndpointContext<'_>) -> String {
    visit.at_home(&format!("/login/{}/return", visit.id))
}

/// GET of `/login/{provider}`: 302 to the provider.
pub(in crate::login) async fn begin(
    visit: &EndpointContext<'_>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    if !visit.has_forms() {
        // The attempt's cookie would be one of another host than the provider leads back to.
        return Ok(visit.elsewhere(StatusCode::OK, &visit.at_home("/login")).into());
    }
    let asked = Arc::clone(provider);
    let metadata = providers.ask(async move { asked.metadata().await }).await?;
    let way = Way::of(visit, None, None);
    let secrets = providers.keys.make()?;
    let plan = &provider.plan;
    let attempt = Attempt {
        provider: plan.name.clone(),
        return_to: way.return_to.as_ref().map(|text| text.to_string()),
        of_host: way.attempt.as_ref().map(|text| text.to_string()),
    };
    let challenge = challenge(&secrets.verifier);
    let redirect_uri = redirect_uri(visit);
    let mut query = vec![
        ("response_type", "code"),
        ("client_id", &plan.client_id),
        ("redirect_uri", &redirect_uri),
        ("state", &secrets.state),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    if !plan.scope.is_empty() {
        query.push(("scope", &plan.scope));
    }
    if matches!(plan.protocol, Protocol::OpenId(_)) {
        query.push(("nonce", &secrets.nonce));
    }
    let configured = plan.parameters.iter().map(|(name, value)| (&**name, &**value));
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
        .set_cookies(&providers.jar, headers, &secrets.state, &attempt, visit.now);
    Ok(cookies
        .into_iter()
        .fold(EndpointResponse::found(location), EndpointResponse::with_cookie))
}

/// The S256 code challenge (RFC 7636 section 4.2).
fn challenge(verifier: &str) -> String {
    let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// GET of `/login/{provider}/return`: a session, and 303 to the page that was asked for at first.
pub(in crate::login) async fn land(
    visit: &EndpointContext<'_>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    let plan = &provider.plan;
    let names = ["state", "code", "iss", "error", "error_description"];
    let [state, code, iss, error, description] = parameters(visit.asked.query, names).ok_or_else(|| {
        let reason = "a parameter stands twice or is not UTF-8";
        tracing::warn!(
            provider = plan.name,
            reason,
            "the answer of a provider cannot be used"
        );
        Refusal::ProviderAnswerInvalid
    })?;
    let state = state.ok_or(Refusal::AttemptRefused)?;
    let found = providers
        .keys
        .find(&providers.jar, visit.asked.headers, &state, visit.now);
    let (attempt, cookie_name) = found
        .filter(|(attempt, _)| attempt.provider == plan.name)
        .ok_or(Refusal::AttemptRefused)?;

    let asked = Arc::clone(provider);
    let metadata = providers.ask(async move { asked.metadata().await }).await?;
    // Before anything that the answer says counts: it may be that of another provider.
    let is_named = match &iss {
        Some(iss) => provider.is_issuer(iss),
        None => !metadata.names_itself,
    };
    if !is_named {
        let iss = iss.map(|iss| shown(&iss));
        tracing::warn!(
            provider = plan.name,
            iss,
            "the answer is of another issuer than the provider"
        );
        return Err(Refusal::ProviderAnswerInvalid.into());
    }
    let hash: TokenHash = attempt::hash(&state);
    let is_first = visit
        .state(move |accounts, _| Ok(accounts.spend_attempt(&hash, LIFETIME)?))
        .await?;
    if !is_first {
        return Err(Refusal::AttemptRefused.into());
    }
    if let Some(error) = error {
        let description = description.map(|text| shown(&text));
        tracing::warn!(
            provider = plan.name,
            error = shown(&error),
            description,
            "a provider did not sign a user in"
        );
        return Err(match error.as_str() {
            "access_denied" => Refusal::SignInDenied,
            "temporarily_unavailable" | "server_error" => Refusal::ProviderUnavailable,
            _ => Refusal::ProviderRefused,
        }
        .into());
    }
    let code = code.filter(|code| !code.is_empty() && code.len() <= LONGEST_CODE);
    let code = code.ok_or(Refusal::ProviderAnswerInvalid)?;
    let secrets = providers.keys.secrets(state.to_string());
    let (asked, redirect_uri, now) = (Arc::clone(provider), redirect_uri(visit), visit.now);
    let profile = providers
        .ask(async move {
            asked
                .exchange(&metadata, now)
                .run(&code, &secrets, &redirect_uri)
                .await
        })
        .await?;
    let account = sign_in(visit, provider, profile).await?;
    let way = Way::new(
        visit,
        attempt.return_to.map(Into::into),
        attempt.of_host.map(Into::into),
    );
    let answered = visit.open_browser(account, way.then).await?;
    Ok(match providers.jar.delete(&cookie_name) {
        Some(deletion) => answered.with_cookie(deletion),
        None => answered,
    })
}

/// The account of who signs in, where the rules and the account allow for it.
async fn sign_in(
    visit: &EndpointContext<'_>,
    provider: &Provider,
    profile: Profile,
) -> Result<AccountRow, Refusal> {
    let plan = &provider.plan;
    let subject = profile.rule_subject();
    if !plan.rules.is_allowed(subject) {
        tracing::warn!(
            provider = plan.name,
            subject = ?profile.subject,
            email_verified = profile.email_verified,
            "`allow` of the provider names other users"
        );
        return Err(Refusal::SignInNotAllowed);
    }
    let identity = IdentityRow {
        provider: plan.name.clone(),
        roles: plan.rules.roles(subject),
        subject: profile.subject,
        account_id: String::new(),
        email: profile.email,
        email_verified: profile.email_verified,
        name: profile.name,
        updated_at: 0,
    };
    let account = visit
        .state(move |accounts, sessions| Ok(accounts.sign_in_identity(identity, sessions.revoked_until())?))
        .await?;
    if account.disabled {
        return Err(Refusal::AccountDisabled);
    }
    Ok(account)
}
