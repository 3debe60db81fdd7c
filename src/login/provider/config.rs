//! `[providers.*]` into providers that are ready.
//!
//! Input: the tables as they were read. Output: [`ProviderPlan`]s, and every problem with its place. Files are read here;
//! nothing is fetched.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::rules::Rules;
use crate::config::raw::{Named, RawProvider};
use crate::config::schema::or_default;
use crate::config::{Problems, Spanned, load_secret};
use crate::http::url::Url;
use crate::identity::ClaimPath;
use crate::net::client::{self, Client};
use crate::net::egress::Egress;
use crate::state::Authorities;

/// How the gateway proves to a provider who it is (OpenID Connect Core 1.0 section 9).
#[derive(Clone)]
pub(super) enum ClientAuthentication {
    /// `client_secret_basic`
    Basic(Arc<Zeroizing<String>>),
    /// `client_secret_post`
    Post(Arc<Zeroizing<String>>),
    /// A public client.
    None,
}

impl std::fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic(_) => "Basic",
            Self::Post(_) => "Post",
            Self::None => "None",
        })
    }
}

/// A provider, as its table says.
#[derive(Clone)]
pub(crate) struct ProviderPlan {
    pub(super) name: String,
    /// The text of its button.
    pub(super) label: String,
    pub(super) issuer: String,
    pub(super) discovery: Url,
    pub(super) client_id: String,
    pub(super) authentication: ClientAuthentication,
    /// With spaces between.
    pub(super) scope: String,
    pub(super) roles_claims: Vec<ClaimPath>,
    pub(super) rules: Rules,
    pub(super) authorities: Arc<Authorities>,
    /// Whether claims are read afresh while a session lives.
    pub(super) refresh: bool,
    /// Whether the scope `offline_access` is asked for where the provider knows it.
    pub(super) asks_for_offline_access: bool,
    pub(super) client: Client,
}

impl ProviderPlan {
    /// Whether an address that this provider has verified is verified.
    pub(super) fn accepts(&self, email: &str) -> bool {
        self.authorities.accept(&self.name, email)
    }

    /// Whether this provider is authoritative for the domain of an address.
    pub(super) fn is_authoritative(&self, email: &str) -> bool {
        self.authorities.of(email) == Some(&self.name)
    }
}

impl std::fmt::Debug for ProviderPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderPlan")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl ProviderPlan {
    /// Whether claims are read afresh while a session lives.
    pub(crate) fn refreshes(&self) -> bool {
        self.refresh
    }

    /// Makes the providers of a file ready. One with an error is left out; the configuration is not used then.
    pub(crate) fn compile(
        raw: &[Named<RawProvider>],
        authorities: &Arc<Authorities>,
        egress: &Egress,
        problems: &mut Problems,
    ) -> Vec<Self> {
        raw.iter()
            .filter_map(|(name, raw)| {
                let plan = compile(name, raw, egress, problems)?;
                Some(Self {
                    authorities: Arc::clone(authorities),
                    ..plan
                })
            })
            .collect()
    }
}

fn compile(
    name: &Spanned<String>,
    raw: &RawProvider,
    egress: &Egress,
    problems: &mut Problems,
) -> Option<ProviderPlan> {
    let secret = match &raw.client_secret {
        None => None,
        Some(secret) => {
            let loaded = load_secret(secret, problems).and_then(|loaded| {
                std::str::from_utf8(loaded.expose())
                    .map(|text| Arc::new(Zeroizing::new(text.to_owned())))
                    .map_err(|_| "it is not UTF-8 text".to_owned())
            });
            match loaded {
                Ok(loaded) => Some(loaded),
                Err(fault) => {
                    problems
                        .error(&secret.span, format!("`client_secret` cannot be used: {fault}"))
                        .hint("a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`");
                    return None;
                }
            }
        }
    };
    let ca_file = raw.ca_file.as_ref().map(|file| problems.resolve(file));
    let client = match (Client::new(ca_file.as_deref(), false), &raw.ca_file) {
        (Ok(client), _) => client.through(egress.clone()),
        (Err(fault), file) => {
            let span = file.as_ref().map_or(&name.span, |file| &file.span);
            problems
                .error(span, format!("`ca_file` {fault}"))
                .hint("a PEM file of certificate authorities");
            return None;
        }
    };
    let issuer = raw.issuer.as_ref()?.value.clone();
    let base = issuer.strip_suffix('/').unwrap_or(&issuer);
    // The reader has judged `issuer` by the same function.
    let discovery = client::url(&format!("{base}/.well-known/openid-configuration"), false).ok()?;
    let how = raw.client_authentication.as_ref().map(|how| how.value.as_str());
    let authentication = match (secret, how) {
        (Some(secret), Some("post")) => ClientAuthentication::Post(secret),
        (Some(secret), _) => ClientAuthentication::Basic(secret),
        (None, _) => ClientAuthentication::None,
    };
    let scope = match &raw.scopes {
        Some(scopes) => scopes
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect::<Vec<_>>(),
        None => or_default(None, "providers.*", "scopes"),
    };
    let refresh = or_default(raw.refresh.as_ref(), "providers.*", "refresh");
    Some(ProviderPlan {
        refresh,
        asks_for_offline_access: refresh && raw.scopes.is_none(),
        name: name.value.clone(),
        label: raw
            .name
            .as_ref()
            .map_or(&name.value, |label| &label.value)
            .clone(),
        issuer,
        discovery,
        client_id: raw.client_id.as_ref()?.value.clone(),
        authentication,
        scope: scope.join(" "),
        roles_claims: raw.roles_claims.iter().map(|claim| claim.value.clone()).collect(),
        authorities: Arc::default(),
        rules: Rules::new(&raw.roles, raw.allow.as_ref().map(|allow| &allow.value)),
        client,
    })
}
