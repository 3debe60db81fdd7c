//! A provider without a network, for the fuzz targets: what the rest of this room makes of documents and tokens.
//!
//! Input: the bytes of a provider. Output: what would count of them. The provider is at an address where nothing listens.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::config::{Protocol, ProviderPlan};
use super::metadata::Metadata;
use super::profile::{Profile, SignInFacts, standard};
use super::registry::{Provider, Providers};
use super::token_endpoint::Tokens;
use super::userinfo::merge;
use crate::clock::UnixSeconds;
use crate::config::{Problems, read};
use crate::login::sites::Sites;
use crate::net::egress::Egress;
use crate::refusal::Refusal;
use crate::state::sqlite::Sqlite;
use crate::verify::{KeySet, Origin, Revocations, parse_object};

/// Its tables.
const FILE: &str = r#"
[server]
public_url = "http://localhost"
[providers.trial]
issuer = "http://127.0.0.1:1"
client_id = "gateway"
roles_claims = ["groups", "realm.roles"]
allow = "anyone"
"#;

/// A document without userinfo, so that nothing is asked for.
const DOCUMENT: &[u8] =
    br#"{"issuer": "http://127.0.0.1:1", "authorization_endpoint": "http://127.0.0.1:1/a",
"token_endpoint": "http://127.0.0.1:1/t", "jwks_uri": "http://127.0.0.1:1/k"}"#;

/// What a user would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialUser {
    /// `sub`
    pub subject: String,
    /// The address.
    pub email: Option<String>,
    /// Whether it counts for rules.
    pub email_verified: bool,
    /// The name.
    pub name: Option<String>,
    /// The values of `roles_claims`.
    pub groups: Vec<String>,
}

impl From<Profile> for TrialUser {
    fn from(profile: Profile) -> Self {
        Self {
            subject: profile.subject,
            email: profile.email,
            email_verified: profile.email_verified,
            name: profile.name,
            groups: profile.groups,
        }
    }
}

/// A provider with these keys.
#[derive(Debug)]
pub struct Trial {
    provider: Arc<Provider>,
    metadata: Metadata,
}

impl Trial {
    /// `iss` of its ID tokens.
    pub const ISSUER: &str = "http://127.0.0.1:1";
    /// `aud` of its ID tokens.
    pub const CLIENT_ID: &str = "gateway";
    /// The nonce of the sign-in.
    pub const NONCE: &str = "nonce";
    /// The access token that comes with an ID token.
    pub const ACCESS_TOKEN: &str = "access";

    /// `jwks`: its keys. `None` where they cannot be used. `control`: a runtime with I/O and time.
    #[must_use]
    pub fn new(jwks: &[u8], control: Handle) -> Option<Self> {
        let mut problems = Problems::new(Path::new("gateway.toml"), FILE);
        let raw = read(&mut problems);
        let plans = ProviderPlan::compile(&raw.providers, &Arc::default(), &Egress::default(), &mut problems);
        let public_url = raw.server.public_url.as_ref()?.value.clone();
        let sites = Sites::new(&public_url, crate::route::NamedHosts::default());
        let (state, revocations) = (Sqlite::in_memory().ok()?, Arc::new(Revocations::default()));
        let providers = Providers::new(&plans, &state, &revocations, &sites, control).ok()?;
        let provider = Arc::clone(providers.find("trial")?);
        provider.use_keys(KeySet::from_jwks(jwks, Origin::Fetched).ok()?.0);
        Some(Self {
            metadata: metadata(&provider, DOCUMENT)?,
            provider,
        })
    }

    /// The endpoints of a discovery document, where it can be used.
    #[must_use]
    pub fn endpoints(&self, document: &[u8]) -> Option<Vec<String>> {
        let metadata = metadata(&self.provider, document)?;
        let all = [&metadata.authorization, &metadata.token];
        let all = all.into_iter().chain(&metadata.keys).chain(&metadata.userinfo);
        Some(all.map(ToString::to_string).collect())
    }

    /// The user of an ID token that came for [`Trial::NONCE`] with [`Trial::ACCESS_TOKEN`].
    ///
    /// # Errors
    /// As a sign-in.
    pub async fn sign_in(&self, id_token: &str, now: UnixSeconds) -> Result<TrialUser, Refusal> {
        let exchange = self.provider.exchange(&self.metadata, now);
        let profile = exchange
            .profile_of(tokens(Some(id_token)), Some(Self::NONCE))
            .await?;
        Ok(profile.into())
    }

    /// The user of these claims of an ID token and of userinfo. `None` where one of the two is no object.
    #[must_use]
    pub fn user(&self, claims: &[u8], userinfo: &[u8]) -> Option<TrialUser> {
        let object = |bytes: &[u8]| -> Option<Map<String, Value>> { parse_object(bytes).ok() };
        let (mut claims, userinfo) = (object(claims)?, object(userinfo)?);
        let plan = &self.provider.plan;
        claims = standard(&plan.claims, claims);
        merge(&mut claims, standard(&plan.claims, userinfo));
        let (subject, facts) = ("subject".to_owned(), SignInFacts::of_id_token(&claims));
        let profile = Profile::of_claims(plan, subject, claims, facts, tokens(None));
        Some(profile.into())
    }
}

fn metadata(provider: &Provider, document: &[u8]) -> Option<Metadata> {
    match &provider.plan.protocol {
        Protocol::OpenId(open_id) => Metadata::parse(document, open_id).ok(),
        Protocol::OAuth2(_) => None,
    }
}

fn tokens(id_token: Option<&str>) -> Tokens {
    Tokens {
        id_token: id_token.map(|token| Zeroizing::new(token.to_owned())),
        access_token: Some(Zeroizing::new(Trial::ACCESS_TOKEN.to_owned())),
        refresh_token: None,
        expires_in: None,
    }
}
