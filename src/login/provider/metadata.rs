//! The discovery document of a provider and its keys (OpenID Connect Discovery 1.0 section 4).
//!
//! Input: what the provider answers. Output: [`Metadata`], and keys in the provider's issuer. Invariants: the document is of
//! this very issuer, no endpoint is plain HTTP on another machine, a failed fetch changes nothing, and a provider that does
//! not answer is asked a bounded number of times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::config::{OAuth2, OpenId, Protocol, ProviderPlan};
use crate::http::url::Url;
use crate::net::client;
use crate::verify::{Issuer, KeySet, Origin, parse_object};

/// The longest document, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 512 * 1024;
/// For how long a document and keys are used without asking again.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// The shortest time between a failure and the next attempt, and between two fetches of the keys.
const COOLDOWN: Duration = Duration::from_secs(2);

/// The scope of refresh tokens.
pub(super) const OFFLINE_ACCESS: &str = "offline_access";

/// The longest text of a provider in the log, in characters.
const LONGEST_SHOWN: usize = 200;

/// The start of text of a provider, for a log. What breaks a line is escaped.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(LONGEST_SHOWN)
        .flat_map(char::escape_debug)
        .collect()
}

/// What a provider publishes about itself.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization: Url,
    pub(super) token: Url,
    pub(super) userinfo: Option<Url>,
    /// OAuth2 has none.
    pub(super) keys: Option<Url>,
    /// Whether its answers name it (RFC 9207 section 3).
    pub(super) names_itself: bool,
    /// Whether it knows the scope of refresh tokens (OpenID Connect Core 1.0 section 11).
    pub(super) knows_offline_access: bool,
}

impl Metadata {
    /// # Errors
    /// What is wrong with the document.
    pub(super) fn parse(document: &[u8], plan: &OpenId) -> Result<Self, String> {
        let document =
            parse_object(document).map_err(|_| "the discovery document is not a JSON object".to_owned())?;
        match document.get("issuer").and_then(Value::as_str) {
            Some(issuer) if plan.is_published_as(issuer) => {}
            Some(issuer) => {
                return Err(format!(
                    "the discovery document is of the issuer `{}`, and `issuer` in the file is `{}`",
                    shown(issuer),
                    plan.issuer
                ));
            }
            None => return Err("the discovery document has no `issuer`".to_owned()),
        }
        let required = |name: &str| {
            endpoint(&document, name, &plan.discovery)?
                .ok_or_else(|| format!("the discovery document has no `{name}`"))
        };
        let scopes = document.get("scopes_supported").and_then(Value::as_array);
        Ok(Self {
            knows_offline_access: scopes
                .is_some_and(|scopes| scopes.iter().any(|scope| scope == OFFLINE_ACCESS)),
            authorization: required("authorization_endpoint")?,
            token: required("token_endpoint")?,
            keys: Some(required("jwks_uri")?),
            userinfo: endpoint(&document, "userinfo_endpoint", &plan.discovery)?,
            names_itself: document.get("authorization_response_iss_parameter_supported")
                == Some(&Value::Bool(true)),
        })
    }
}

impl From<&OAuth2> for Metadata {
    fn from(plan: &OAuth2) -> Self {
        Self {
            authorization: plan.authorize.clone(),
            token: plan.token.clone(),
            userinfo: Some(plan.userinfo.clone()),
            keys: None,
            names_itself: false,
            knows_offline_access: false,
        }
    }
}

/// A document that came by TLS cannot lead to an endpoint that does not have it.
fn endpoint(document: &Map<String, Value>, name: &str, from: &Url) -> Result<Option<Url>, String> {
    let Some(text) = document.get(name) else {
        return Ok(None);
    };
    let text = text
        .as_str()
        .ok_or_else(|| format!("`{name}` of the discovery document is no string"))?;
    let url =
        client::url(text, false).map_err(|fault| format!("`{name}` of the discovery document is {fault}"))?;
    if from.is_tls() && !url.is_tls() {
        return Err(format!("`{name}` of the discovery document is an `http://` URL"));
    }
    Ok(Some(url))
}

/// What is known of a provider, and since when.
#[derive(Debug, Default)]
pub(super) struct Source {
    document: Mutex<Known>,
    keys: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Known {
    metadata: Option<(Arc<Metadata>, Instant)>,
    failed: Option<Instant>,
}

impl Source {
    /// The discovery document: the one that is known where it is fresh, or where no other one can be had. Of many at once
    /// one asks. `None`: the provider does not answer, or not properly; the log says how.
    pub(super) async fn metadata(&self, plan: &ProviderPlan) -> Option<Arc<Metadata>> {
        let open_id = match &plan.protocol {
            Protocol::OpenId(open_id) => open_id,
            Protocol::OAuth2(oauth2) => return Some(Arc::new((&**oauth2).into())),
        };
        let mut known = self.document.lock().await;
        let last = known.metadata.as_ref();
        if let Some((metadata, since)) = last
            && since.elapsed() < FRESH
        {
            return Some(Arc::clone(metadata));
        }
        let last = last.map(|(metadata, _)| Arc::clone(metadata));
        if known.failed.is_some_and(|at| at.elapsed() < COOLDOWN) {
            return last;
        }
        let document = plan.client.get(&open_id.discovery, MAX_BODY_BYTES).await;
        let metadata = document
            .map_err(|error| error.to_string())
            .and_then(|document| Metadata::parse(&document, open_id));
        match metadata {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known {
                    metadata: Some((Arc::clone(&metadata), Instant::now())),
                    failed: None,
                };
                Some(metadata)
            }
            Err(error) => {
                tracing::warn!(provider = plan.name, %error, "cannot read the discovery document of a provider");
                known.failed = Some(Instant::now());
                last
            }
        }
    }

    /// Fetches the keys, unless that was done less than `age` ago. Of many at once one asks.
    async fn fetch_keys(&self, plan: &ProviderPlan, metadata: &Metadata, issuer: &Issuer, age: Duration) {
        let Some(keys) = &metadata.keys else { return };
        let mut since = self.keys.lock().await;
        if since.is_some_and(|since| since.elapsed() < age) {
            return;
        }
        let text = plan.client.get(keys, MAX_BODY_BYTES).await;
        let set = text
            .map_err(|error| error.to_string())
            .and_then(|text| KeySet::from_jwks(&text, Origin::Fetched));
        match set {
            Ok((set, _)) => {
                issuer.keys.replace(set);
            }
            Err(error) => {
                tracing::warn!(provider = plan.name, %error, "cannot fetch the keys of a provider");
            }
        }
        *since = Some(Instant::now());
    }

    /// Sees to it that the keys of `issuer` are fresh, where the provider answers.
    pub(super) async fn freshen_keys(&self, plan: &ProviderPlan, metadata: &Metadata, issuer: &Issuer) {
        let age = if issuer.keys.generation() == 0 {
            COOLDOWN
        } else {
            FRESH
        };
        self.fetch_keys(plan, metadata, issuer, age).await;
    }

    /// The same for a token whose key is not among them: the provider may have a new one.
    pub(super) async fn find_key(&self, plan: &ProviderPlan, metadata: &Metadata, issuer: &Issuer) {
        self.fetch_keys(plan, metadata, issuer, COOLDOWN).await;
    }
}
