//! `[providers.*]` into providers that are ready.
//!
//! Input: the tables as they were read, with their presets. Output: [`ProviderPlan`]s, and every problem with its place.
//! Files are read here; nothing is fetched. Invariants: a key of the table comes before that of its preset.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::rules::Rules;
use crate::config::preset::{Preset, PresetEmails};
use crate::config::raw::{Named, RawProvider, RawProviderTenants, RawSecret};
use crate::config::schema::or_default;
use crate::config::{Problems, Spanned, load_secret};
use crate::http::url::Url;
use crate::identity::ClaimPath;
use crate::net::client::{self, Client};
use crate::net::egress::Egress;
use crate::signing::ClientKey;
use crate::state::Authorities;

/// The tenant of Microsoft's personal accounts.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// What stands for a tenant in `issuer`, and in the issuer of a discovery document.
const TENANT: &str = "{tid}";
const PUBLISHED_TENANT: &str = "{tenantid}";

/// How the gateway proves to a provider who it is (OpenID Connect Core 1.0 section 9).
#[derive(Clone)]
pub(super) enum ClientAuthentication {
    /// `client_secret_basic`
    Basic(Arc<Zeroizing<String>>),
    /// `client_secret_post`
    Post(Arc<Zeroizing<String>>),
    /// `private_key_jwt`
    PrivateKeyJwt(Arc<ClientKey>),
    /// `client_secret_post` with a secret that is a JWT of a team (Sign in with Apple).
    SignedSecret {
        key: Arc<ClientKey>,
        team_id: String,
        audience: String,
    },
    /// A public client.
    None,
}

impl std::fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic(_) => "Basic",
            Self::Post(_) => "Post",
            Self::PrivateKeyJwt(_) => "PrivateKeyJwt",
            Self::SignedSecret { .. } => "SignedSecret",
            Self::None => "None",
        })
    }
}

/// By which protocol users sign in.
#[derive(Clone, Debug)]
pub(super) enum Protocol {
    /// OpenID Connect.
    OpenId(OpenId),
    /// OAuth2 without it.
    OAuth2(Box<OAuth2>),
}

/// What is known of an OpenID provider before it is asked.
#[derive(Clone, Debug)]
pub(super) struct OpenId {
    /// `iss` of its ID tokens; with `{tid}` where they are of several tenants.
    pub(super) issuer: String,
    pub(super) discovery: Url,
    /// Whose users can sign in, where `issuer` has a place for a tenant.
    pub(super) tenants: Option<RawProviderTenants>,
}

/// The endpoints of an OAuth2 server.
#[derive(Clone, Debug)]
pub(super) struct OAuth2 {
    pub(super) authorize: Url,
    pub(super) token: Url,
    pub(super) userinfo: Url,
    /// What stands for the subject; `None`: `id`, else `sub`.
    pub(super) subject: Option<ClaimPath>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The list of addresses, where userinfo does not say which one is verified.
    pub(super) emails: Option<(Url, PresetEmails)>,
    /// Lists of groups, each with the claim paths of a name.
    pub(super) groups: Vec<(Url, Vec<ClaimPath>)>,
}

impl OpenId {
    /// Whether the issuer of a discovery document is this one.
    pub(super) fn is_published_as(&self, issuer: &str) -> bool {
        issuer == self.issuer || issuer.replace(PUBLISHED_TENANT, TENANT) == self.issuer
    }

    /// Whether users of `tenant` can sign in.
    pub(super) fn takes(&self, tenant: Option<&str>) -> bool {
        match (&self.tenants, tenant) {
            (None | Some(RawProviderTenants::Any), _) => true,
            (Some(RawProviderTenants::Organizations), Some(tenant)) => tenant != PERSONAL_ACCOUNTS,
            (Some(RawProviderTenants::Listed(listed)), Some(tenant)) => {
                listed.iter().any(|listed| listed == tenant)
            }
            (Some(_), None) => false,
        }
    }
}

/// Where the values are in the claims.
#[derive(Clone, Debug)]
pub(super) struct ClaimNames {
    pub(super) email: ClaimPath,
    pub(super) email_verified: ClaimPath,
    pub(super) name: ClaimPath,
    /// Whether an address is verified without a claim that says so.
    pub(super) emails_are_verified: bool,
}

/// A provider, as its table says.
#[derive(Clone)]
pub(crate) struct ProviderPlan {
    pub(super) name: String,
    /// The text of its button.
    pub(super) label: String,
    pub(super) protocol: Protocol,
    pub(super) client_id: String,
    pub(super) authentication: ClientAuthentication,
    /// With spaces between.
    pub(super) scope: String,
    /// Further parameters of the authorization request.
    pub(super) parameters: Vec<(String, String)>,
    /// Whether a code challenge is sent (RFC 7636).
    pub(super) pkce: bool,
    /// Whether its answers come as a form (OAuth 2.0 Form Post Response Mode).
    pub(super) is_form_post: bool,
    pub(super) claims: ClaimNames,
    pub(super) roles_claims: Vec<ClaimPath>,
    /// Groups for `rules` that are no roles.
    pub(super) groups_claims: Vec<ClaimPath>,
    /// Whether `rules` or `roles_claims` need groups.
    pub(super) needs_groups: bool,
    pub(super) rules: Rules,
    pub(super) authorities: Arc<Authorities>,
    /// Whether claims are read afresh while a session lives.
    pub(super) refresh: bool,
    /// Whether a browser that signs out does so at the provider as well.
    pub(super) logout: bool,
    /// Whether a frame of the provider's page ends sessions.
    pub(super) frontchannel_logout: bool,
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
            .field("protocol", &self.protocol)
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
    let preset = raw.preset.as_ref().map(|preset| preset.value);
    let authentication = authentication(raw, preset, problems);
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
    let rules = Rules::new(&raw.roles, raw.allow.as_ref().map(|allow| &allow.value));
    let own = |written: &[Spanned<ClaimPath>]| -> Vec<ClaimPath> {
        written.iter().map(|claim| claim.value.clone()).collect()
    };
    let roles_claims = match preset {
        Some(preset) if raw.roles_claims.is_empty() => paths(&preset.roles_claims),
        _ => own(&raw.roles_claims),
    };
    let needs_groups = rules.name_groups() || !roles_claims.is_empty();
    let refresh = or_default(raw.refresh.as_ref(), "providers.*", "refresh");
    Some(ProviderPlan {
        refresh,
        frontchannel_logout: or_default(
            raw.frontchannel_logout.as_ref(),
            "providers.*",
            "frontchannel_logout",
        ),
        logout: or_default(raw.logout.as_ref(), "providers.*", "logout"),
        asks_for_offline_access: refresh && raw.scopes.is_none(),
        name: name.value.clone(),
        label: match (&raw.name, preset) {
            (Some(label), _) => label.value.clone(),
            (None, Some(preset)) => preset.name.clone(),
            (None, None) => name.value.clone(),
        },
        protocol: protocol(raw, preset)?,
        client_id: raw.client_id.as_ref()?.value.clone(),
        authentication: authentication?,
        scope: scope(raw, preset, needs_groups, refresh),
        parameters: parameters(raw, preset, refresh),
        pkce: preset.is_none_or(|preset| preset.pkce),
        is_form_post: raw.form_post().is_some(),
        claims: claim_names(raw, preset),
        roles_claims,
        groups_claims: preset.map_or_else(Vec::new, |preset| paths(&preset.groups_claims)),
        needs_groups,
        authorities: Arc::default(),
        rules,
        client,
    })
}

/// The paths of a preset, which a test has read.
fn paths(texts: &[String]) -> Vec<ClaimPath> {
    texts.iter().filter_map(|text| ClaimPath::parse(text)).collect()
}

/// The reader has judged all URLs by the same function.
fn url(text: &str) -> Option<Url> {
    client::url(text, false).ok()
}

fn protocol(raw: &RawProvider, preset: Option<&Preset>) -> Option<Protocol> {
    fn either<'a>(own: Option<&'a Spanned<String>>, other: Option<&'a String>) -> Option<&'a str> {
        own.map(|own| own.value.as_str()).or(other.map(String::as_str))
    }
    let of_preset = |field: fn(&Preset) -> &Option<String>| preset.and_then(|preset| field(preset).as_ref());
    if let Some(issuer) = either(raw.issuer.as_ref(), of_preset(|preset| &preset.issuer)) {
        return open_id(issuer, raw).map(Protocol::OpenId);
    }
    let userinfo = url(either(
        raw.userinfo_url.as_ref(),
        of_preset(|preset| &preset.userinfo_url),
    )?)?;
    let below = |path: &str| {
        let base = userinfo.as_str().split('?').next()?;
        url(&format!("{}{path}", base.trim_end_matches('/')))
    };
    let emails = preset.and_then(|preset| preset.emails.clone());
    let groups = preset.map_or(&[][..], |preset| &preset.groups);
    let subject = preset.and_then(|preset| ClaimPath::parse(preset.claims.subject.as_deref()?));
    Some(Protocol::OAuth2(Box::new(OAuth2 {
        authorize: url(either(
            raw.authorize_url.as_ref(),
            of_preset(|preset| &preset.authorize_url),
        )?)?,
        token: url(either(
            raw.token_url.as_ref(),
            of_preset(|preset| &preset.token_url),
        )?)?,
        subject: raw
            .claims
            .subject
            .as_ref()
            .map(|path| path.value.clone())
            .or(subject),
        headers: preset.map_or_else(Vec::new, headers),
        emails: emails.and_then(|emails| Some((below(&emails.path)?, emails))),
        groups: groups
            .iter()
            .filter_map(|list| Some((below(&list.path)?, paths(&list.names))))
            .collect(),
        userinfo,
    })))
}

fn headers(preset: &Preset) -> Vec<(HeaderName, HeaderValue)> {
    let header = |(name, value): (&String, &String)| {
        Some((
            HeaderName::try_from(name).ok()?,
            HeaderValue::try_from(value).ok()?,
        ))
    };
    preset.headers.iter().filter_map(header).collect()
}

fn open_id(issuer: &str, raw: &RawProvider) -> Option<OpenId> {
    let tenants = raw.tenants.as_ref().map(|tenants| tenants.value.clone());
    // Of one tenant everything is known: its own discovery document is read, and its own keys count.
    let (issuer, tenants) = match tenants {
        Some(RawProviderTenants::Listed(listed)) if listed.len() == 1 => {
            (issuer.replace(TENANT, listed.first()?), None)
        }
        tenants => (issuer.to_owned(), tenants),
    };
    // The names under which Microsoft has the documents of several tenants.
    let with_personal_accounts = match &tenants {
        Some(RawProviderTenants::Listed(listed)) => listed.iter().any(|tenant| tenant == PERSONAL_ACCOUNTS),
        Some(RawProviderTenants::Any) => true,
        Some(RawProviderTenants::Organizations) | None => false,
    };
    let authority = if with_personal_accounts {
        "common"
    } else {
        "organizations"
    };
    let base = issuer.replace(TENANT, authority);
    let base = base.strip_suffix('/').unwrap_or(&base);
    Some(OpenId {
        discovery: url(&format!("{base}/.well-known/openid-configuration"))?,
        issuer,
        tenants,
    })
}

fn scope(raw: &RawProvider, preset: Option<&Preset>, needs_groups: bool, refresh: bool) -> String {
    let of_preset = |preset: &Preset| {
        let groups = preset.groups_scopes.iter().filter(|_| needs_groups);
        let offline = preset.refresh_scopes.iter().filter(|_| refresh);
        preset
            .scopes
            .iter()
            .chain(groups)
            .chain(offline)
            .cloned()
            .collect()
    };
    let scopes: Vec<String> = match (&raw.scopes, preset) {
        (Some(scopes), _) => scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        (None, Some(preset)) => of_preset(preset),
        (None, None) if raw.issuer.is_none() => Vec::new(),
        (None, None) => or_default(None, "providers.*", "scopes"),
    };
    scopes.join(" ")
}

fn parameters(raw: &RawProvider, preset: Option<&Preset>, refresh: bool) -> Vec<(String, String)> {
    let mut all = preset.map_or_else(Default::default, |preset| preset.authorize_parameters.clone());
    if let Some(preset) = preset.filter(|_| refresh) {
        all.extend(preset.refresh_parameters.clone());
    }
    for (name, value) in &raw.authorize_parameters {
        all.insert(name.value.clone(), value.value.clone());
    }
    all.into_iter().collect()
}

fn claim_names(raw: &RawProvider, preset: Option<&Preset>) -> ClaimNames {
    let path = |own: Option<&Spanned<ClaimPath>>, of_preset: Option<&String>, standard: &str| {
        own.map(|own| own.value.clone())
            .or_else(|| ClaimPath::parse(of_preset?))
            .or_else(|| ClaimPath::parse(standard))
            .expect("a standard name is a claim path")
    };
    let (own, of_preset) = (&raw.claims, preset.map(|preset| &preset.claims));
    ClaimNames {
        email: path(
            own.email.as_ref(),
            of_preset.and_then(|claims| claims.email.as_ref()),
            "email",
        ),
        email_verified: path(
            own.email_verified.as_ref(),
            of_preset.and_then(|claims| claims.email_verified.as_ref()),
            "email_verified",
        ),
        name: path(
            own.name.as_ref(),
            of_preset.and_then(|claims| claims.name.as_ref()),
            "name",
        ),
        // It is the word of the preset about the claim of the preset.
        emails_are_verified: preset.is_some_and(|preset| preset.emails_are_verified)
            && own.email.is_none()
            && own.email_verified.is_none(),
    }
}

/// `None`: a secret or a key cannot be used, which is reported.
fn authentication(
    raw: &RawProvider,
    preset: Option<&Preset>,
    problems: &mut Problems,
) -> Option<ClientAuthentication> {
    let mut load = |secret: &Spanned<RawSecret>, key: &str| {
        let loaded = load_secret(secret, problems).and_then(|loaded| {
            std::str::from_utf8(loaded.expose())
                .map(|text| Zeroizing::new(text.to_owned()))
                .map_err(|_| "it is not UTF-8 text".to_owned())
        });
        match loaded {
            Ok(loaded) => Some(loaded),
            Err(fault) => {
                problems
                    .error(&secret.span, format!("`{key}` cannot be used: {fault}"))
                    .hint("a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`");
                None
            }
        }
    };
    let how = raw.client_authentication.as_ref().map(|how| how.value.as_str());
    if let Some(secret) = &raw.client_secret {
        let loaded = Arc::new(load(secret, "client_secret")?);
        let how = how.or(preset.and_then(|preset| preset.client_authentication.as_deref()));
        return Some(match how {
            Some("post") => ClientAuthentication::Post(loaded),
            _ => ClientAuthentication::Basic(loaded),
        });
    }
    let Some(private_key) = &raw.private_key else {
        return Some(ClientAuthentication::None);
    };
    let text = load(private_key, "private_key")?;
    let key_id = raw.key_id.as_ref().map(|id| id.value.clone());
    let key = match ClientKey::from_pem(text.as_bytes(), key_id) {
        Ok(key) => Arc::new(key),
        Err(fault) => {
            problems
                .error(
                    &private_key.span,
                    format!("`private_key` cannot be used: {fault}"),
                )
                .hint("a PEM file with a private key: P-256, RSA or Ed25519");
            return None;
        }
    };
    let Some(audience) = preset.and_then(|preset| preset.client_secret_audience.clone()) else {
        return Some(ClientAuthentication::PrivateKeyJwt(key));
    };
    if key.algorithm() != crate::values::SigningAlgorithm::ES256 {
        problems
            .error(&private_key.span, "`private_key` is not a key on P-256")
            .hint("the `.p8` file that was downloaded when the key was made");
        return None;
    }
    Some(ClientAuthentication::SignedSecret {
        key,
        team_id: raw.team_id.as_ref()?.value.clone(),
        audience,
    })
}
