//! Sign-in with an OpenID Connect provider: the way there, and the way back (OpenID Connect Core 1.0 section 3.1, with PKCE
//! of RFC 7636 and the issuer of RFC 9207).
//!
//! Input: a browser that wants to sign in; later the same browser with a code. Output: a redirect to the provider; later a
//! session. Invariants: only the browser that began an attempt completes it, once; no worker waits for a provider on its own
//! thread; a provider that is down keeps nothing but its own sign-in from working; no page shows text of a provider.
//!
//! `attempt` is what the browser keeps, `metadata` what the provider publishes, `exchange` what becomes of the code, and
//! `rules` who may sign in.

mod attempt;
mod config;
mod exchange;
mod metadata;
mod rules;

use std::sync::Arc;

use http::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::attempt::{Attempt, AttemptKeys, Jar, LIFETIME};
use self::exchange::{Exchange, Profile, encode};
use self::metadata::{Metadata, Source};
use self::rules::Subject;
use super::context::EndpointContext;
use super::form::parameters;
use super::response::{EndpointError, EndpointResponse};
use super::sign_in::Way;
use super::sites::Sites;
use crate::refusal::Refusal;
use crate::signing::SigningError;
use crate::state::{IdentityRow, State, TokenHash};
use crate::verify::{Issuer, Issuers, Revocations, Verifier};

pub(crate) use config::ProviderPlan;

/// How many requests wait for providers at a time, over all of them.
const MOST_AT_ONCE: usize = 64;
/// The longest text of a provider in the log, in characters.
const LONGEST_SHOWN: usize = 200;
/// The longest code that is taken, in bytes.
const LONGEST_CODE: usize = 4096;

/// The start of text of a provider, for a log. What breaks a line is escaped.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).flat_map(char::escape_debug).collect()
}

/// A provider, and what is known of it.
#[derive(Debug)]
struct Provider {
    plan: ProviderPlan,
    source: Source,
    issuer: Arc<Issuer>,
    verifier: Verifier,
}

/// The providers of a configuration.
#[derive(Debug)]
pub(crate) struct Providers {
    list: Vec<Arc<Provider>>,
    keys: AttemptKeys,
    jar: Jar,
    /// The runtime on which providers are asked.
    control: Handle,
    places: Arc<Semaphore>,
}

/// A way to sign in, for the sign-in page.
#[derive(Clone, Debug)]
pub(super) struct Choice<'a> {
    pub(super) name: &'a str,
    pub(super) label: &'a str,
}

impl Providers {
    /// Blocks, on the state.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub(crate) fn new(
        plans: &[ProviderPlan],
        state: &dyn State,
        revocations: &Arc<Revocations>,
        sites: &Sites,
        control: Handle,
    ) -> Result<Self, SigningError> {
        let open = |plan: &ProviderPlan| {
            let (name, iss) = (&plan.name, &plan.issuer);
            let made = Issuers::of_id_tokens(name, iss, &plan.client_id, plan.roles_claims.clone());
            let (issuers, issuer) = made.expect("one issuer has nothing to conflict with");
            Arc::new(Provider {
                plan: plan.clone(),
                source: Source::default(),
                issuer,
                verifier: Verifier::new(issuers, Arc::clone(revocations)),
            })
        };
        Ok(Self {
            list: plans.iter().map(open).collect(),
            keys: AttemptKeys::load_or_create(state)?,
            jar: Jar::new(sites.nonce_prefix(), sites.is_https()),
            control,
            places: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        })
    }

    /// In the order of the file.
    pub(super) fn choices(&self) -> impl ExactSizeIterator<Item = Choice<'_>> {
        self.list.iter().map(|provider| Choice {
            name: &provider.plan.name,
            label: &provider.plan.label,
        })
    }

    fn find(&self, name: &str) -> Option<&Arc<Provider>> {
        self.list.iter().find(|provider| provider.plan.name == name)
    }

    /// Runs `work` on the control runtime. It goes on, for a bounded time, where the client does not wait any more.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| Refusal::Overloaded)?;
        let running = self.control.spawn(async move {
            let _place = place;
            work.await
        });
        running.await.map_err(|error| {
            tracing::error!(%error, "asking a provider did not end as it should");
            Refusal::Internal
        })?
    }
}

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
pub(super) async fn begin(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    if !visit.has_forms() {
        // The attempt's cookie would be one of another host than the provider leads back to.
        return Ok(visit
            .elsewhere(http::StatusCode::OK, &visit.at_home("/login"))
            .into());
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
    let query = [
        ("response_type", "code"),
        ("client_id", &plan.client_id),
        ("redirect_uri", &redirect_uri(visit)),
        ("scope", &plan.scope),
        ("state", &secrets.state),
        ("nonce", &secrets.nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]
    .map(|(name, value)| format!("{name}={}", encode(value)))
    .join("&");
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
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    URL_SAFE_NO_PAD.encode(hash)
}

/// GET of `/login/{provider}/return`: a session, and 303 to the page that was asked for at first.
pub(super) async fn land(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let (providers, provider) = named(visit)?;
    let plan = &provider.plan;
    let names = ["state", "code", "iss", "error", "error_description"];
    let [state, code, iss, error, description] = parameters(visit.asked.query, names).ok_or_else(|| {
        let reason = "a parameter stands twice or is not UTF-8";
        tracing::warn!(provider = plan.name, reason, "the answer of a provider cannot be used");
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
        Some(iss) => **iss == plan.issuer,
        None => !metadata.names_itself,
    };
    if !is_named {
        let iss = iss.map(|iss| shown(&iss));
        tracing::warn!(provider = plan.name, iss, "the answer is of another issuer than the provider");
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
) -> Result<crate::state::AccountRow, Refusal> {
    let plan = &provider.plan;
    let subject = Subject {
        verified_email: profile.email.as_deref().filter(|_| profile.email_verified),
        groups: &profile.groups,
    };
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
        .state(move |accounts, sessions| {
            Ok(accounts.sign_in_identity(identity, sessions.revoked_until())?)
        })
        .await?;
    if account.disabled {
        return Err(Refusal::AccountDisabled);
    }
    Ok(account)
}

impl Provider {
    async fn metadata(&self) -> Result<Arc<Metadata>, Refusal> {
        let metadata = self.source.metadata(&self.plan).await;
        metadata.ok_or(Refusal::ProviderUnavailable)
    }

    fn exchange<'a>(&'a self, metadata: &'a Metadata, now: crate::clock::UnixSeconds) -> Exchange<'a> {
        Exchange {
            plan: &self.plan,
            source: &self.source,
            issuer: &self.issuer,
            verifier: &self.verifier,
            metadata,
            now,
        }
    }
}
