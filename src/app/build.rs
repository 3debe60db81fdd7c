//! From ready parts to a gateway: the plan joined with what the state keeps.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;

use super::config::{Plan, SignInPlan};
use super::login_services::Services;
use super::settings::Settings;
use super::state_sync::StateSnapshot;
use super::{Failure, failed};
use crate::account::Accounts;
use crate::clock::{Clock, UnixSeconds};
use crate::config::schema::Written;
use crate::credential::Sources;
use crate::forward::{BodyRules, Upstream};
use crate::gateway::{ForwardAuth, Gateway, Label, LoopMark, Renewal, SignIn};
use crate::http::client::Share;
use crate::http::location;
use crate::http::pace::PaceRules;
use crate::identity::SESSION_ISSUER;
use crate::login::provider::ProviderPlan;
use crate::login::provider::grants::{GrantServices, Grants};
use crate::login::provider::registry::Providers;
use crate::login::{Endpoints, IssuerAddress, JWKS_PATH, Login, Sites};
use crate::observe::{Metrics, RouteOrigin};
use crate::pages::Pages;
use crate::rate_limit::RateLimits;
use crate::session::{self, Sessions};
use crate::signing::{Assertions, SigningKeys};
use crate::values::SigningAlgorithm;
use crate::verify::{Issuer, Issuers, KeySet, Origin, Revocations, Verifier};

/// How requests that the gateway answers itself are named in log and metrics.
const OWN_LABEL: &str = "(own)";

/// What one version of the configuration runs with.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) settings: Arc<Settings>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    /// The sessions, where people can sign in.
    pub(super) sessions: Option<Arc<Sessions>>,
    /// What one client may hold of an app's connections, where all are taken.
    pub(super) share: Share,
    /// The gateway itself as an issuer: of access tokens, and of what session cookies hold.
    own: Vec<Arc<Issuer>>,
    /// The tables of its file that a reload compares.
    written: Written,
}

impl Current {
    /// Whether `plan` has the same issuers. Files are the caller's to compare.
    fn has_issuers_of(&self, plan: &Plan) -> bool {
        self.written.get("issuers") == plan.written.get("issuers")
    }

    /// Gives the routes of `plan` the upstreams of this configuration where they are the same, with their connections and
    /// what is known of their servers. Files are the caller's to compare.
    fn lend_upstreams(&self, plan: &mut Plan) {
        for upstream in &mut plan.upstreams {
            let table = format!("upstreams.{}", upstream.name);
            let known = self.upstreams.iter().find(|known| known.name == upstream.name);
            let Some(known) = known.filter(|_| self.written.get(&table) == plan.written.get(&table)) else {
                continue;
            };
            for route in plan.routes.iter_mut() {
                if Arc::ptr_eq(&route.upstream, upstream) {
                    route.upstream = Arc::clone(known);
                }
            }
            *upstream = Arc::clone(known);
        }
    }

    /// Takes over our own keys where they have changed: a rotation, or the end of a retired key.
    pub(super) fn take_own_keys(&self, signing: &SigningKeys, now: UnixSeconds) {
        match own_keys(signing, now) {
            Ok(keys) => {
                let keys = Arc::new(keys);
                for own in &self.own {
                    own.keys.replace(Arc::clone(&keys));
                }
            }
            Err(error) => tracing::error!(%error, "cannot use our own signing keys; those in use stay"),
        }
    }
}

/// Joins `plan` with the state. Without `services` the gateway decides requests, and has no sign-in. `before` is the
/// configuration in use, where the files that both name have the same contents: what is the same stays warm.
///
/// # Errors
/// [`Failure::Config`] where an issuer claims to be the gateway itself, [`Failure::Runtime`] where the state fails.
pub(super) fn assemble(
    mut plan: Plan,
    mirror: &StateSnapshot,
    metrics: &Metrics,
    services: Option<&Services>,
    before: Option<&Current>,
) -> Result<Current, Failure> {
    if let Some(before) = before {
        before.lend_upstreams(&mut plan);
    }
    if services.is_some() {
        name_servers(&plan, mirror)?;
    }
    let warm = before.filter(|before| before.has_issuers_of(&plan));
    let settings = Arc::clone(&plan.settings);
    if services.is_some() {
        tell_of_another_algorithm(&mirror.signing.load(), settings.signing_algorithm);
    }
    let keys = own_keys(&mirror.signing.load(), mirror.clock.now()).map_err(unusable)?;
    let own = plan
        .issuers
        .add_own(SESSION_ISSUER, settings.public_url.as_str(), settings.public_url.as_str(), keys)
        .map_err(|error| {
            Failure::Config(format!(
                "error: {error}\nhint: `{}` (`public_url`) is the issuer of the gateway's own tokens; another issuer has another `issuer`\n",
                settings.public_url
            ))
        })?;
    let mut own = vec![own];
    if let Some(before) = warm {
        plan.verifier = Some(before.gateway.verifier.clone());
        own.clone_from(&before.own);
        own.truncate(1);
    }
    let (mut sign_in, mut login, mut sessions) = (None, None, None);
    let named_hosts = std::mem::take(&mut plan.named_hosts);
    let sites = Arc::new(Sites::new(&settings.public_url, named_hosts));
    let (sources, pages) = (&plan.sources, Arc::clone(&plan.pages));
    if let Some(plan) = &plan.sign_in {
        let keys = own_keys(&mirror.signing.load(), mirror.clock.now()).map_err(unusable)?;
        let url = settings.public_url.as_str();
        let known = warm.and_then(|before| Some((before.gateway.sign_in.as_ref()?, before.own.get(1)?)));
        let verifier = match known {
            Some((sign_in, of_sessions)) => {
                own.push(Arc::clone(of_sessions));
                sign_in.verifier.clone()
            }
            None => {
                let (issuers, of_sessions) = Issuers::of_own_sessions(SESSION_ISSUER, url, url, keys);
                own.push(of_sessions);
                Verifier::new(issuers, Arc::clone(&mirror.revocations))
            }
        };
        let open = open_sessions(plan, mirror, services)?;
        let joined = services.map(|services| join(plan, &pages, sources, mirror, services, &open, &sites));
        let joined = joined.transpose()?;
        let (renewal, opened) = joined.unzip();
        (login, sessions) = (opened, Some(open));
        sign_in = Some(SignIn {
            cookie: plan.session.cookie.clone(),
            same_site_none: plan.session.same_site_none,
            sites,
            verifier,
            renewal,
            bounces: services.map_or_else(Arc::default, |services| Arc::clone(&services.bounces)),
        });
    }
    let (upstreams, written) = (
        std::mem::take(&mut plan.upstreams),
        std::mem::take(&mut plan.written),
    );
    let share = settings.max_connections_per_client;
    let joined = Joined {
        revocations: Arc::clone(&mirror.revocations),
        signing: Arc::clone(&mirror.signing),
        clock: mirror.clock.clone(),
        login,
        sign_in,
        rate_limits: services
            .map(|services| Arc::clone(&services.rate_limits))
            .unwrap_or_default(),
    };
    let gateway = gateway(plan, joined, metrics)?;
    Ok(Current {
        settings,
        gateway: Arc::new(gateway),
        upstreams,
        sessions,
        share,
        own,
        written,
    })
}

/// Gives the servers that clients are kept to by a cookie their names in it, which no client can tell from others.
fn name_servers(plan: &Plan, mirror: &StateSnapshot) -> Result<(), Failure> {
    let mut sticky = plan
        .upstreams
        .iter()
        .filter(|upstream| upstream.has_sticky_cookie())
        .peekable();
    if sticky.peek().is_none() {
        return Ok(());
    }
    let mut candidate = [0; 32];
    getrandom::fill(&mut candidate).map_err(|error| failed(anyhow::anyhow!("no randomness: {error}")))?;
    let secret = mirror.state.ensure_secret("sticky", &candidate).map_err(failed)?;
    for upstream in sticky {
        upstream.name_servers(&secret);
    }
    Ok(())
}

/// What a plan is joined with to be a gateway.
#[derive(Debug)]
pub struct Joined {
    /// The revocations of the process.
    pub revocations: Arc<Revocations>,
    /// The gateway's own keys.
    pub signing: Arc<ArcSwap<SigningKeys>>,
    /// The time.
    pub clock: Clock,
    /// What the endpoints for signing in need, where there is a way to sign in.
    pub login: Option<Login>,
    /// The session cookie, where there is a way to sign in.
    pub sign_in: Option<SignIn>,
    /// The counters of rate limits of the process.
    pub rate_limits: Arc<RateLimits>,
}

/// The gateway of a plan.
///
/// # Errors
/// [`Failure::Runtime`] where the system has no randomness.
pub fn gateway(mut plan: Plan, joined: Joined, metrics: &Metrics) -> Result<Gateway, Failure> {
    let cookie = joined.sign_in.as_ref();
    let cookie = cookie.map(|sign_in| format!("session cookie `{}`", sign_in.cookie));
    let sources = plan.sources.as_slice().iter().map(ToString::to_string);
    let sources: Arc<[String]> = sources.chain(cookie).collect();
    for route in plan.routes.iter_mut() {
        route.label.series = metrics.route(&route.label.origin.text);
        route.label.origin = Arc::new(RouteOrigin {
            text: Arc::clone(&route.label.origin.text),
            place: Some(route.place.clone()),
            rules: Some(Arc::clone(&route.rules)),
            sources: Arc::clone(&sources),
        });
    }
    let settings = &plan.settings;
    let (limits, protected) = (&settings.limits, plan.naming.clone());
    let assertions = || {
        Assertions::new(settings.public_url.as_str())
            .with_unverified_email(plan.naming.tells_unverified_email())
    };
    // An app may publish its own keys at the usual path.
    let is_taken = plan.routes.in_order().any(|route| route.pattern.1 == JWKS_PATH);
    let prefix = if is_taken { &*settings.own_prefix } else { "" };
    let issuer = IssuerAddress {
        issuer: settings.public_url.to_string(),
        jwks_uri: format!("{}{prefix}{JWKS_PATH}", settings.public_url),
    };
    if plan.routes.in_order().any(|route| route.rate_limit.is_some()) {
        joined.rate_limits.prepare();
    }
    let has_cors = plan.routes.in_order().any(|route| route.cors.is_some());
    let has_sticky_cookies = plan
        .routes
        .in_order()
        .any(|route| route.upstream.has_sticky_cookie());
    let grants = joined.login.as_ref().and_then(|login| login.grants.clone());
    let verifier = plan.verifier.take().unwrap_or_else(|| {
        Verifier::new(plan.issuers, joined.revocations).with_max_token_bytes(settings.max_token_bytes)
    });
    Ok(Gateway {
        verifier,
        assertions: plan.assertion.then(assertions),
        endpoints: Endpoints::new(
            &settings.own_prefix,
            issuer,
            Arc::clone(&joined.signing),
            Arc::clone(&plan.pages),
            joined.clock.clone(),
            joined.login,
        ),
        signing: joined.signing,
        sign_in: joined.sign_in,
        pages: plan.pages,
        own_label: Label {
            series: metrics.route(OWN_LABEL),
            origin: Arc::new(RouteOrigin {
                text: OWN_LABEL.into(),
                place: None,
                rules: None,
                sources,
            }),
        },
        realm: settings.realm(),
        public_https: settings.public_https,
        origins: settings.origins.clone(),
        https_only_host: settings.https_only_host(),
        bodies: Arc::new(BodyRules {
            max_bytes: settings.max_body_bytes,
            pace: PaceRules {
                idle_timeout: limits.idle_timeout,
                min_rate: limits.min_rate,
                step: 0,
            },
            protected: Box::new(move |name| protected.is_protected(name)),
        }),
        public_origin: location::Origin::public(settings.public_url.authority()),
        vary: plan.sources.vary(),
        loop_mark: LoopMark::new()
            .map_err(|error| Failure::Runtime(anyhow::anyhow!("no randomness: {error}")))?,
        trusted_proxies: settings.trusted_proxies.clone(),
        warned_of_proxy: AtomicBool::new(false),
        forward_auth: ForwardAuth::new(settings.forward_auth_cache, settings.aliases),
        has_cors,
        has_sticky_cookies,
        rate_limits: joined.rate_limits,
        grants,
        clock: joined.clock,
        routes: plan.routes,
        sources: plan.sources,
        naming: plan.naming,
    })
}

/// The rooms that sign people in, joined with the state.
fn join(
    plan: &SignInPlan,
    pages: &Arc<Pages>,
    sources: &Sources,
    mirror: &StateSnapshot,
    services: &Services,
    sessions: &Arc<Sessions>,
    sites: &Arc<Sites>,
) -> Result<(Renewal, Login), Failure> {
    let with_deletion = |name: &str| Some((name.to_owned(), session::deletion(name, plan.session.secure)?));
    let providers = Providers::new(
        &plan.providers,
        &*mirror.state,
        &mirror.revocations,
        sites,
        services.control.clone(),
    );
    let providers = Arc::new(providers.map_err(failed)?);
    let accounts = Arc::new(Accounts::new(
        Arc::clone(&mirror.state),
        mirror.clock.clone(),
        plan.policy.clone(),
    ));
    let needs_grants = plan.forwards_tokens || plan.providers.iter().any(ProviderPlan::refreshes);
    let grants = needs_grants.then(|| {
        let key = plan.sealing.open().map_err(unusable)?;
        let services = GrantServices {
            providers: Arc::clone(&providers),
            state: Arc::clone(&mirror.state),
            accounts: Arc::clone(&accounts),
            sessions: Arc::clone(sessions),
            blocking: Arc::clone(&services.blocking),
            clock: mirror.clock.clone(),
        };
        Ok::<_, Failure>(Arc::new(Grants::new(services, key, plan.forwards_tokens)))
    });
    let grants = grants.transpose()?;
    let login = Login {
        providers,
        grants,
        password: plan.password,
        accounts,
        sessions: Arc::clone(sessions),
        hasher: Arc::clone(&services.hasher),
        blocking: Arc::clone(&services.blocking),
        audit: services.audit.clone(),
        sites: Arc::clone(sites),
        pages: Arc::clone(pages),
        throttle: Arc::clone(&services.throttle),
        bounces: Arc::clone(&services.bounces),
        setup: Arc::clone(&services.setup),
        other_cookies: sources.cookie_names().filter_map(with_deletion).collect(),
        redirect_uris: Arc::clone(&plan.redirect_uris),
        refresh_cookie: plan.refresh_cookie.clone(),
        registration: plan.registration,
        admin_role: plan.admin_role.clone(),
    };
    Ok((
        Renewal::new(Arc::clone(sessions), Arc::clone(&services.blocking)),
        login,
    ))
}

fn open_sessions(
    plan: &SignInPlan,
    mirror: &StateSnapshot,
    services: Option<&Services>,
) -> Result<Arc<Sessions>, Failure> {
    let sessions = Sessions::new(
        plan.session.clone(),
        Arc::clone(&mirror.state),
        Arc::clone(&mirror.signing),
        Arc::clone(&mirror.revocations),
        mirror.clock.clone(),
    );
    let sessions = sessions.map_err(failed)?;
    Ok(Arc::new(match services {
        Some(services) => sessions.counted_by(Arc::clone(&services.openings)),
        None => sessions,
    }))
}

/// A key stays in use whatever the file says, so that the operator chooses when apps meet another algorithm.
fn tell_of_another_algorithm(signing: &SigningKeys, configured: SigningAlgorithm) {
    let active = signing.algorithm();
    if active != configured {
        tracing::info!(
            "the active signing key is for {active}, and `[signing] algorithm` is {configured}: `passgate key rotate` makes a \
             key for {configured}; tokens by the old key stay valid"
        );
    }
}

fn unusable(error: String) -> Failure {
    Failure::Runtime(anyhow::anyhow!(error))
}

fn own_keys(signing: &SigningKeys, now: i64) -> Result<KeySet, String> {
    let text = signing.jwks(now).to_string();
    KeySet::from_jwks(text.as_bytes(), Origin::File).map(|(keys, _)| keys)
}
