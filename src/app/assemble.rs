//! From ready parts to a gateway: the plan joined with what the state keeps.

use std::sync::Arc;

use super::Failure;
use super::control::Mirror;
use super::plan::Plan;
use crate::forward::{BodyRules, Upstream};
use crate::gateway::{Gateway, Label};
use crate::login::Endpoints;
use crate::observe::Metrics;
use crate::signing::{Assertions, SigningKeys};
use crate::verify::{Algorithm, Issuer, KeySet, OWN_NAME, Origin, Verifier};

/// How requests that the gateway answers itself are named in log and metrics.
const OWN_LABEL: &str = "(own)";

/// What one version of the configuration runs with.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) gateway: Arc<Gateway>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    own: Arc<Issuer>,
}

impl Current {
    /// Takes over our own keys where they have changed: a rotation, or the end of a retired key.
    pub(super) fn refresh_own_keys(&self, mirror: &Mirror) {
        match own_keys(&mirror.signing.load(), mirror.clock.now()) {
            Ok(keys) => {
                self.own.replace_keys(keys);
            }
            Err(error) => tracing::error!(%error, "cannot use our own signing keys; those in use stay"),
        }
    }
}

/// Joins `plan` with the state.
///
/// # Errors
/// [`Failure::Config`] where an issuer claims to be the gateway itself.
pub(super) fn assemble(plan: Plan, mirror: &Mirror, metrics: &Metrics) -> Result<Current, Failure> {
    let settings = &plan.settings;
    let keys = own_keys(&mirror.signing.load(), mirror.clock.now())
        .map_err(|error| Failure::Runtime(anyhow::anyhow!(error)))?;
    let mut issuers = plan.issuers;
    let own = issuers
        .add_own(OWN_NAME, &settings.public_url, &settings.public_url, &[Algorithm::EdDSA], keys)
        .map_err(|error| {
            Failure::Config(format!(
                "error: {error}\nhint: `{}` (`public_url`) is the issuer of the gateway's own tokens; another issuer has another `issuer`\n",
                settings.public_url
            ))
        })?;
    let protected = plan.naming.clone();
    let gateway = Gateway {
        routes: plan.routes,
        sources: plan.sources,
        verifier: Verifier::new(issuers, Arc::clone(&mirror.revocations)),
        assertions: plan.assertion.then(|| Assertions::new(settings.public_url.as_str())),
        signing: Arc::clone(&mirror.signing),
        endpoints: Endpoints::new(&settings.own_prefix, Arc::clone(&mirror.signing)),
        own_label: Label { text: OWN_LABEL.into(), series: metrics.route(OWN_LABEL) },
        realm: settings.realm(),
        bodies: Arc::new(BodyRules {
            max_bytes: settings.max_body_bytes,
            idle_timeout: settings.limits.idle_timeout,
            protected: Box::new(move |name| protected.is_protected(name)),
        }),
        naming: plan.naming,
        trusted_proxies: settings.trusted_proxies.clone(),
        clock: mirror.clock.clone(),
    };
    Ok(Current { gateway: Arc::new(gateway), upstreams: plan.upstreams, own })
}

fn own_keys(signing: &SigningKeys, now: i64) -> Result<KeySet, String> {
    let text = signing.jwks(now).to_string();
    KeySet::from_jwks(text.as_bytes(), Origin::File).map(|(keys, _)| keys)
}
