//! The presets of providers: what a table `[providers.*]` need not say.
//!
//! Input: the embedded file `presets.toml`. Output: [`Preset`]s by name. Invariants: an explicit key of the configuration
//! comes before the preset; a value of a user makes no role under a preset whose users make groups of their own.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// One preset, as `presets.toml` writes it. Keys that `[providers.*]` has as well mean the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preset {
    /// The text of the button.
    pub name: String,
    /// Whether the public can have accounts there.
    #[serde(default)]
    pub public: bool,
    pub issuer: Option<String>,
    /// An `issuer`, for a product that each operator runs under an address of its own.
    pub issuer_example: Option<String>,
    pub authorize_url: Option<String>,
    pub token_url: Option<String>,
    pub userinfo_url: Option<String>,
    #[serde(default)]
    pub claims: PresetClaims,
    pub scopes: Vec<String>,
    /// Scopes that are asked for as well where groups are needed.
    #[serde(default)]
    pub groups_scopes: Vec<String>,
    /// Claims with groups and roles that an administrator gives.
    #[serde(default)]
    pub roles_claims: Vec<String>,
    /// Claims with groups for `roles` and `allow` that are no roles themselves: users may make them.
    #[serde(default)]
    pub groups_claims: Vec<String>,
    /// Scopes that are asked for as well with `refresh`.
    #[serde(default)]
    pub refresh_scopes: Vec<String>,
    /// Whether it takes PKCE (RFC 7636). Some refuse a client with a secret that sends a code verifier.
    #[serde(default = "yes")]
    pub pkce: bool,
    /// Whether an address that it gives is verified, without a claim that says so.
    #[serde(default)]
    pub emails_are_verified: bool,
    pub client_authentication: Option<String>,
    /// `aud` of the client secret, which is a JWT that `private_key` signs.
    pub client_secret_audience: Option<String>,
    pub response_mode: Option<String>,
    #[serde(default)]
    pub authorize_parameters: BTreeMap<String, String>,
    /// The same, with `refresh`.
    #[serde(default)]
    pub refresh_parameters: BTreeMap<String, String>,
    /// Request headers for userinfo and what is below it.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Where the verified address is, if userinfo does not have it.
    pub emails: Option<PresetEmails>,
    /// Lists of groups of the user.
    #[serde(default)]
    pub groups: Vec<PresetGroups>,
}

/// `claims`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PresetClaims {
    pub subject: Option<String>,
    pub email: Option<String>,
    pub email_verified: Option<String>,
    pub name: Option<String>,
}

/// A list of the user's addresses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PresetEmails {
    /// What is appended to `userinfo_url`.
    pub path: String,
    /// The member that is the list; without it, the answer itself is the list.
    pub list: Option<String>,
    /// The members of an entry: whether it is the primary one, and whether it is verified. The address is `email`.
    pub primary: String,
    pub verified: String,
}

/// A list of groups: an array of objects, in pages.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PresetGroups {
    /// What is appended to `userinfo_url`.
    pub path: String,
    /// Claim paths in an entry; the group is their values with `/` between.
    pub names: Vec<String>,
}

fn yes() -> bool {
    true
}

static PRESETS: LazyLock<BTreeMap<String, Preset>> =
    LazyLock::new(|| toml::from_str(include_str!("presets.toml")).expect("a test reads the embedded file"));

impl Preset {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        PRESETS.get(name)
    }

    /// All presets, by name.
    pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static Self)> {
        PRESETS.iter().map(|(name, preset)| (&**name, preset))
    }

    /// Whether it is OAuth2 without OpenID Connect.
    pub(crate) fn is_oauth2(&self) -> bool {
        self.authorize_url.is_some()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::schema;
    use crate::identity::ClaimPath;
    use crate::net::client;

    const DOCS: &str = include_str!("../../docs/providers.md");

    fn is_public_https(text: &str) -> bool {
        client::url(&text.replace("{tid}", "organizations"), false)
            .is_ok_and(|url| url.is_tls() && !url.is_loopback())
    }

    #[test]
    fn every_preset_meets_the_requirements() {
        assert!(Preset::all().count() >= 20);
        for (name, preset) in Preset::all() {
            let fits = |is_fine: bool, what: &str| assert!(is_fine, "{name}: {what}");
            fits(!preset.name.trim().is_empty(), "a name for the button");
            fits(!preset.scopes.is_empty(), "scopes");
            let urls = [&preset.authorize_url, &preset.token_url, &preset.userinfo_url];
            if preset.is_oauth2() {
                fits(urls.iter().all(|url| url.is_some()), "all three URLs");
                fits(
                    preset.issuer.is_none() && preset.issuer_example.is_none(),
                    "no issuer beside URLs",
                );
                fits(preset.claims.subject.is_some(), "the claim of the subject");
            } else {
                fits(urls.iter().all(|url| url.is_none()), "no URLs beside an issuer");
                fits(
                    preset.issuer.is_some() != preset.issuer_example.is_some(),
                    "an issuer, or an example of one",
                );
                fits(
                    preset.scopes.iter().any(|scope| scope == "openid"),
                    "the scope `openid`",
                );
                fits(preset.claims.subject.is_none(), "the subject is `sub`");
                fits(
                    preset.groups.is_empty() && preset.emails.is_none(),
                    "calls are for OAuth2",
                );
            }
            let issuers = [&preset.issuer, &preset.issuer_example];
            for url in urls.into_iter().chain(issuers).flatten() {
                fits(is_public_https(url), url);
            }
            fits(
                !preset.public || preset.roles_claims.is_empty(),
                "no roles by groups that users make",
            );
            fits(
                !(preset.public && preset.issuer_example.is_some()),
                "a product under many addresses is not public",
            );
            let subject = preset.claims.subject.as_deref();
            fits(
                !["login", "username", "email", "name", "nickname"].contains(&subject.unwrap_or("sub")),
                "a subject that does not change hands",
            );
            let claims = [
                subject,
                preset.claims.email.as_deref(),
                preset.claims.email_verified.as_deref(),
                preset.claims.name.as_deref(),
            ];
            let lists = preset.roles_claims.iter().chain(&preset.groups_claims);
            let names = preset.groups.iter().flat_map(|groups| &groups.names);
            for path in claims
                .into_iter()
                .flatten()
                .chain(lists.chain(names).map(|path| &**path))
            {
                fits(ClaimPath::parse(path).is_some(), path);
            }
            if let Some(how) = &preset.client_authentication {
                fits(
                    schema::words("providers.*", "client_authentication").contains(&&**how),
                    how,
                );
            }
            if let Some(mode) = &preset.response_mode {
                fits(
                    schema::words("providers.*", "response_mode").contains(&&**mode),
                    mode,
                );
            }
            fits(
                preset.groups.is_empty() || !preset.groups_scopes.is_empty(),
                "a scope for the lists of groups",
            );
            fits(
                preset.pkce || preset.client_authentication.is_some() || !preset.is_oauth2(),
                "without PKCE, a client that authenticates",
            );
            fits(
                !preset.emails_are_verified || preset.claims.email_verified.is_none(),
                "one word on whether addresses are verified",
            );
            let parameters = preset.authorize_parameters.keys();
            for name in parameters.chain(preset.refresh_parameters.keys()) {
                fits(super::super::values::authorize_parameter(name).is_ok(), name);
            }
            for (name, value) in &preset.headers {
                fits(http::HeaderName::try_from(name.as_str()).is_ok(), name);
                fits(http::HeaderValue::try_from(value.as_str()).is_ok(), value);
            }
        }
    }

    #[test]
    fn docs_have_a_section_for_every_preset() {
        let section = DOCS.split("\n## Presets\n").nth(1).unwrap();
        let table = section.split("\n### ").next().unwrap();
        for (name, preset) in Preset::all() {
            let line = format!("preset = \"{name}\"");
            assert!(DOCS.contains(&line), "{line} is not in docs/providers.md");
            let row = table
                .lines()
                .find(|row| row.starts_with(&format!("| `{name}` |")))
                .unwrap_or_else(|| panic!("`{name}` has no row in docs/providers.md"));
            let is_called_public = row.contains("| yes |");
            assert_eq!(is_called_public, preset.public, "{row}");
            let needs_issuer = row.contains("`issuer`");
            assert_eq!(needs_issuer, preset.issuer_example.is_some(), "{row}");
        }
        let rows = table.lines().filter(|row| row.starts_with("| `")).count();
        assert_eq!(rows, Preset::all().count(), "the table has rows of other presets");
    }
}
