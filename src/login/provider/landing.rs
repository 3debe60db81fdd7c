//! The way back from a provider: a browser brings its answer, and the attempt is completed.
//!
//! Input: a code or an error, with the cookie of the attempt. Output: a session, a link, or a code for a client. Invariants:
//! nothing that comes back counts before its attempt is found in the browser, and an attempt is completed once.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use zeroize::Zeroizing;

use super::admission::admitted;
use super::attempt::{self, LIFETIME, Purpose};
use super::config::ProviderPlan;
use super::flow::{named, redirect_uri, with_sign_in};
use super::metadata::shown;
use super::registry::Provider;
use super::token_endpoint::encode;
use crate::account::parse_name;
use crate::authorize::{SignInClaims, StepUp};
use crate::clock::UnixSeconds;
use crate::login::cause::Cause;
use crate::login::context::{EndpointContext, Presented};
use crate::login::form::{Field, Fields, Kind, parameters};
use crate::login::response::{EndpointError, EndpointResponse};
use crate::login::sign_in::Way;
use crate::refusal::Refusal;
use crate::session::ClientAttempt;
use crate::state::{AccountRow, IdentityRow, Linked, TokenHash};

/// The longest code that is taken, in bytes.
const LONGEST_CODE: usize = 4096;

/// What a browser comes back with.
struct Returned {
    state: Option<Zeroizing<String>>,
    code: Option<Zeroizing<String>>,
    iss: Option<Zeroizing<String>>,
    error: Option<Zeroizing<String>>,
    description: Option<Zeroizing<String>>,
    /// The name of the user, where the provider says it here alone.
    name: Option<String>,
}

/// GET of `/login/{provider}/return`: a session, and 303 to the page that was asked for at first.
pub(in crate::login) async fn land(
    visit: &EndpointContext<'_>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (_, provider) = named(visit)?;
    let names = ["state", "code", "iss", "error", "error_description"];
    let returned = parameters(visit.asked.query, names)
        .map(|[state, code, iss, error, description]| Returned {
            state,
            code,
            iss,
            error,
            description,
            name: None,
        })
        .ok_or_else(|| refuse_answer(provider, "a parameter appears twice or is not UTF-8"));
    complete(visit, returned).await
}

/// POST of the same by a page of the provider (OAuth 2.0 Form Post Response Mode), for a provider that answers like this.
pub(in crate::login) async fn land_by_form(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (_, provider) = named(visit)?;
    if !provider.plan.is_form_post || fields.kind() != Kind::Form {
        let reason = "it came as a form, and `response_mode` is not `form_post`";
        return complete(visit, Err(refuse_answer(provider, reason))).await;
    }
    let returned = Returned {
        state: fields.take(Field::State),
        code: fields.take(Field::Code),
        iss: fields.take(Field::Issuer),
        error: fields.take(Field::Error),
        description: fields.take(Field::ErrorDescription),
        name: fields.take(Field::User).and_then(|user| name_in_form(&user)),
    };
    if let Some(location) = as_address(visit, &returned) {
        return Ok(EndpointResponse::see_other(location));
    }
    complete(visit, Ok(returned)).await
}

/// The same answer as an address of ours, where its attempt links an account: that takes the session of this browser, whose
/// cookie does not come with a form of another site.
fn as_address(visit: &EndpointContext<'_>, returned: &Returned) -> Option<HeaderValue> {
    let (providers, _) = named(visit).ok()?;
    let (state, code) = (returned.state.as_ref()?, returned.code.as_ref()?);
    let headers = visit.asked.headers;
    let (attempt, _) = providers.keys.find(&providers.jar, headers, state, visit.now)?;
    if !matches!(attempt.purpose, Purpose::Link { .. }) {
        return None;
    }
    let mut address = format!(
        "{}?code={}&state={}",
        redirect_uri(visit),
        encode(code),
        encode(state)
    );
    if let Some(iss) = &returned.iss {
        address.push_str("&iss=");
        address.push_str(&encode(iss));
    }
    let mut location = HeaderValue::try_from(address).ok()?;
    location.set_sensitive(true);
    Some(location)
}

/// The name in `user`, which Apple sends at the first sign-in alone: `{"name": {"firstName": "…", "lastName": "…"}, "email": "…"}`.
/// It came by the browser, so that the address in it counts for nothing.
fn name_in_form(user: &str) -> Option<String> {
    let user: serde_json::Value = serde_json::from_str(user).ok()?;
    let part = |name: &str| user.get("name")?.get(name)?.as_str();
    let parts: Vec<&str> = ["firstName", "lastName"].into_iter().filter_map(part).collect();
    parse_name(&parts.join(" ")).ok().flatten()
}

fn refuse_answer(provider: &Provider, reason: &str) -> Refusal {
    tracing::warn!(
        provider = provider.plan.name,
        reason,
        "the answer of a provider cannot be used"
    );
    Refusal::ProviderAnswerInvalid
}

/// Completes the attempt that this browser has for `state`. Its cookie goes, whatever becomes of it; the page of a failure
/// leads to the same destination.
async fn complete(
    visit: &EndpointContext<'_>,
    returned: Result<Returned, Refusal>,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let lost = |refusal: Refusal| with_sign_in(refusal.into(), Way::new(visit, None, None).again(visit));
    let (providers, provider) = named(visit)?;
    let returned = returned.map_err(lost)?;
    let state = returned.state.as_ref().ok_or(Refusal::AttemptRefused);
    let found = providers.keys.find(
        &providers.jar,
        visit.asked.headers,
        state.map_err(lost)?,
        visit.now,
    );
    let (attempt, cookie_name) = found
        .filter(|(attempt, _)| attempt.provider == provider.plan.name)
        .ok_or_else(|| {
            let mut failure = lost(Refusal::AttemptRefused);
            if !providers.jar.has_some(visit.asked.headers) {
                let (cause, host) = (Cause::of_no_cookie(visit), visit.asked.host.as_sent());
                cause.log(
                    visit,
                    host,
                    "a browser came back from a provider without the cookie of a sign-in",
                );
                failure.detail = Some(cause.words_of_attempt(visit.login.sites.public_url(), host));
            }
            failure
        })?;
    let way = Way::new(
        visit,
        attempt.return_to.map(Into::into),
        attempt.of_host.map(Into::into),
    );
    let deletion = providers.jar.delete(&cookie_name);
    let purpose = attempt.purpose.clone();
    let mut failure = match redeem(visit, &way, (attempt.purpose, attempt.begun), returned).await {
        Ok(answered) => return Ok(deletion.into_iter().fold(answered, EndpointResponse::with_cookie)),
        Err(failure) => failure,
    };
    match purpose {
        // One that was answered before is not answered again.
        Purpose::Client {
            redirect_uri, state, ..
        } if failure.refusal != Refusal::AttemptRefused => {
            let (refusal, provider) = (failure.refusal, &provider.plan.name);
            tracing::warn!(provider, %refusal, "the sign-in of a client failed");
            visit.note_refused(refusal).await?;
            let error = match refusal {
                Refusal::SignInDenied | Refusal::SignInNotAllowed | Refusal::AccountDisabled => {
                    "access_denied"
                }
                refusal if refusal.status() == StatusCode::SERVICE_UNAVAILABLE => "temporarily_unavailable",
                _ => "server_error",
            };
            let answered = to_client(visit, &redirect_uri, ("error", error), &state)?;
            Ok(deletion.into_iter().fold(answered, EndpointResponse::with_cookie))
        }
        purpose => {
            failure.set_cookie = failure.set_cookie.or(deletion);
            Err(match purpose {
                Purpose::SignIn => with_sign_in(failure, way.again(visit)),
                // For a link, the account is signed in.
                Purpose::Link { .. } | Purpose::Client { .. } => failure,
            })
        }
    }
}

/// Back to a client, as RFC 6749 section 4.1.2 and RFC 9207 have it.
fn to_client(
    visit: &EndpointContext<'_>,
    redirect_uri: &str,
    (name, value): (&str, &str),
    state: &str,
) -> Result<EndpointResponse, Refusal> {
    let separator = if redirect_uri.contains('?') { '&' } else { '?' };
    let location = format!(
        "{redirect_uri}{separator}{name}={}&state={}&iss={}",
        encode(value),
        encode(state),
        encode(visit.login.sites.public_url())
    );
    let mut location = HeaderValue::try_from(location).map_err(|_| Refusal::Internal)?;
    location.set_sensitive(true);
    Ok(EndpointResponse::found(location))
}

async fn redeem(
    visit: &EndpointContext<'_>,
    way: &Way,
    (purpose, begun): (Purpose, UnixSeconds),
    returned: Returned,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    let plan = &provider.plan;
    let state = returned.state.ok_or(Refusal::AttemptRefused)?;
    let asked = Arc::clone(provider);
    let client = visit.client_address();
    let metadata = providers
        .ask(Some(client), async move { asked.metadata().await })
        .await?;
    // Before anything that the answer says counts: it may be that of another provider.
    let is_named = match &returned.iss {
        Some(iss) => provider.is_issuer(iss),
        None => !metadata.names_itself,
    };
    if !is_named {
        let iss = returned.iss.map(|iss| shown(&iss));
        tracing::warn!(
            provider = plan.name,
            iss,
            "the answer names another issuer than the provider, or none"
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
    let presented = |email: Option<String>| Presented {
        email,
        provider: Some(plan.name.clone()),
    };
    if let Some(error) = returned.error {
        let _ = visit.presented.set(presented(None));
        let description = returned.description.map(|text| shown(&text));
        tracing::warn!(
            provider = plan.name,
            error = shown(&error),
            description,
            "a provider did not sign a user in"
        );
        return Err(match error.as_str() {
            // Apple has a name of its own for it.
            "access_denied" | "user_cancelled_authorize" => Refusal::SignInDenied,
            "unmet_authentication_requirements" => Refusal::SignInInsufficient,
            "temporarily_unavailable" | "server_error" => Refusal::ProviderUnavailable,
            _ => Refusal::ProviderRefused,
        }
        .into());
    }
    let code = returned
        .code
        .filter(|code| !code.is_empty() && code.len() <= LONGEST_CODE)
        .ok_or_else(|| refuse_answer(provider, "`code` is missing, empty or longer than 4096 bytes"))?;
    let secrets = providers.keys.secrets(state.to_string());
    let (asked, redirect_uri, now) = (Arc::clone(provider), redirect_uri(visit), visit.now);
    let asked_for = providers
        .ask(Some(client), async move {
            asked
                .exchange(&metadata, now)
                .run(&code, &secrets, &redirect_uri)
                .await
        })
        .await;
    let mut profile = asked_for.inspect_err(|_| {
        let _ = visit.presented.set(presented(None));
    })?;
    let _ = visit.presented.set(presented(profile.email.clone()));
    profile.name = profile.name.or(returned.name);
    let grants = visit.login.grants.as_ref();
    let grant = grants.and_then(|grants| grants.of_sign_in(provider, &profile.subject, &profile.tokens));
    let how = profile.authentication(&plan.name, now);
    let is_enough = |step_up: &StepUp| {
        let by = SignInClaims {
            acr: how.acr.as_deref(),
            auth_time: how.auth_time,
            provider: how.provider.as_deref(),
        };
        step_up.is_met(by, now)
    };
    // Here, so that the page does not send the browser to sign in once more.
    if !way.step_up.as_ref().is_none_or(is_enough) {
        let (acr, auth_time) = (how.acr.as_deref().map(shown), how.auth_time);
        tracing::warn!(
            provider = plan.name,
            acr,
            auth_time,
            "a sign-in with a provider is not enough for the page that it was made for"
        );
        return Err(Refusal::SignInInsufficient.into());
    }
    let identity = admitted(plan, profile).ok_or(Refusal::SignInNotAllowed)?;
    Ok(match purpose {
        Purpose::SignIn => {
            let account = sign_in(visit, plan, identity).await?;
            let opened = visit
                .open_browser(account, how.clone(), way.then.clone(), grant)
                .await?;
            let session_id = opened
                .caller
                .as_ref()
                .and_then(|caller| caller.identity.session_id.clone());
            visit
                .state(move |_, sessions| {
                    Ok(sessions.end_if_over(&session_id.unwrap_or_default(), &how, begun)?)
                })
                .await?;
            opened
        }
        Purpose::Link {
            account_id,
            session_id,
        } => link(visit, identity, (&account_id, &session_id)).await?,
        Purpose::Client {
            redirect_uri,
            state,
            challenge,
        } => {
            let account = sign_in(visit, plan, identity).await?;
            let attempt = ClientAttempt {
                redirect_uri: redirect_uri.clone(),
                challenge,
            };
            let code = visit
                .state(move |_, sessions| Ok(sessions.issue_client_code(&account.id, how, begun, attempt)?))
                .await?;
            let code = code.ok_or(Refusal::AccountDisabled)?;
            to_client(visit, &redirect_uri, ("code", &code), &state)?
        }
    })
}

/// Links an identity to the account that asked for it. Its session must be the one of this browser, and alive: the account of
/// one user is never linked in the browser of another.
async fn link(
    visit: &EndpointContext<'_>,
    identity: IdentityRow,
    (account_id, session_id): (&str, &str),
) -> Result<EndpointResponse, Refusal> {
    let own = visit
        .browser_session()
        .filter(|own| own.account_id == account_id && own.id == session_id)
        .ok_or(Refusal::AttemptRefused)?;
    let identity = IdentityRow {
        account_id: account_id.to_owned(),
        ..identity
    };
    let linked = visit
        .state(move |accounts, sessions| {
            if sessions.would_renew(&own.id, &own.account_id)?.is_none() {
                return Ok(Linked::NoSession);
            }
            Ok(accounts.link_identity(identity, &own.id, sessions.revoked_until())?)
        })
        .await?;
    match linked {
        Linked::Done(_) => Ok(EndpointResponse::see_other(visit.to("/links?done=linked"))),
        Linked::OtherAccount => Err(Refusal::IdentityTaken),
        Linked::TooMany => Err(Refusal::IdentitiesTooMany),
        Linked::NoSession => Err(Refusal::AttemptRefused),
    }
}

/// The account of who signs in, where it may be used.
async fn sign_in(
    visit: &EndpointContext<'_>,
    plan: &ProviderPlan,
    identity: IdentityRow,
) -> Result<AccountRow, Refusal> {
    let is_authoritative = |email: &String| identity.email_verified && plan.is_authoritative(email);
    let joins = identity.email.as_ref().is_some_and(is_authoritative);
    let account = visit
        .state(move |accounts, sessions| {
            Ok(accounts.sign_in_identity(identity, joins, sessions.revoked_until())?)
        })
        .await?;
    if account.disabled {
        return Err(Refusal::AccountDisabled);
    }
    Ok(account)
}
