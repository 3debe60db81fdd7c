//! `[providers.*]`: where people sign in, who of them may, and which roles they get.

use toml::de::DeValue;

use super::Reader;
use super::fields::Empty;
use super::section::{Item, Section};
use crate::config::preset::Preset;
use crate::config::raw::{
    RawAllow, RawGrant, RawProvider, RawProviderClaims, RawProviderTenants, RawWho, Spanned,
};
use crate::config::values::{self, did_you_mean, echo};
use crate::net::client;

const WHO_FORM: &str = "write `{ domain = \"example.com\" }`, `{ email = \"…\" }` or `{ group = \"…\" }`";

const OAUTH2_URLS: [&str; 3] = ["authorize_url", "token_url", "userinfo_url"];

/// The most `authorize_parameters`.
const MOST_PARAMETERS: usize = 16;

/// In lower case.
fn domain(text: &str) -> Result<String, String> {
    let is_domain = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if is_domain {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("what stands behind the `@`, like `example.com`".to_owned())
    }
}

impl Reader<'_> {
    pub(super) fn provider(&mut self, section: &mut Section<'_>) -> Option<RawProvider> {
        let is_preset_unknown = section.has("preset");
        let preset = section.take("preset").and_then(|item| self.preset(&item));
        let is_preset_unknown = is_preset_unknown && preset.is_none();
        let is_oauth2 = self.protocol(section, preset.as_ref(), is_preset_unknown);
        let scopes = self.list(
            section,
            "scopes",
            Empty::Refused("leave it out for the usual ones"),
            Self::scope,
        );
        if let Some(scopes) = scopes.as_ref().filter(|_| !is_oauth2)
            && scopes.iter().all(|scope| scope.as_str() != "openid")
        {
            self.error(&scopes.span, "`scopes` does not have `openid`")
                .hint("without it the provider sends no ID token");
        }
        let mut raw = RawProvider {
            issuer: section
                .take("issuer")
                .and_then(|item| self.provider_issuer(&item)),
            tenants: self.provider_tenants(section),
            authorize_url: self.provider_url(section, "authorize_url"),
            token_url: self.provider_url(section, "token_url"),
            userinfo_url: self.provider_url(section, "userinfo_url"),
            claims: self
                .table(
                    section,
                    "claims",
                    "claims = { subject = \"id\" }",
                    Self::provider_claims,
                )
                .map(|claims| claims.value)
                .unwrap_or_default(),
            client_id: self.parsed(section, "client_id", "the id of a client", visible),
            client_secret: section.take("client_secret").and_then(|item| self.secret(item)),
            private_key: section.take("private_key").and_then(|item| self.secret(item)),
            key_id: self.parsed(section, "key_id", "the id of a key", visible),
            team_id: self.parsed(section, "team_id", "the id of a team", visible),
            client_authentication: self.choice(section, "client_authentication"),
            scopes: scopes.map(|scopes| scopes.value),
            authorize_parameters: self
                .table(
                    section,
                    "authorize_parameters",
                    "authorize_parameters = { prompt = \"select_account\" }",
                    |reader, table| Some(reader.authorize_parameters(table)),
                )
                .map(|parameters| parameters.value)
                .unwrap_or_default(),
            response_mode: self.choice(section, "response_mode"),
            name: self.parsed(section, "name", "the text of a button", |text| {
                let is_fine = !text.trim().is_empty()
                    && text.chars().count() <= 64
                    && !text.chars().any(char::is_control);
                if is_fine {
                    Ok(text.trim().to_owned())
                } else {
                    Err("one line of 1 to 64 characters".to_owned())
                }
            }),
            roles_claims: self.all(
                section,
                "roles_claims",
                Empty::Refused("leave it out where the provider names no roles"),
                Self::claim_path,
            ),
            roles: self
                .tables(
                    section,
                    "roles",
                    "roles = [{ role = \"…\", domain = \"…\" }]",
                    Empty::Taken,
                    Self::grant,
                )
                .unwrap_or_default()
                .into_iter()
                .map(|grant| grant.value)
                .collect(),
            allow: self.allow(section),
            authoritative_domains: self.all(
                section,
                "authoritative_domains",
                Empty::Refused("leave it out where the provider is authoritative for no domain"),
                |reader, item| reader.parse(item, "a domain", domain),
            ),
            refresh: self.flag(section, "refresh"),
            ca_file: self.path(section, "ca_file"),
            preset: None,
        };
        raw.preset = preset;
        self.tenants_fit(section, &raw);
        self.authentication_fits(section, &raw);
        if let Some(subject) = raw.claims.subject.as_ref().filter(|_| !is_oauth2) {
            self.error(&subject.span, "with OpenID Connect, the subject is always `sub`")
                .hint("remove `subject`");
        }
        Some(raw)
    }

    fn preset(&mut self, item: &Item<'_>) -> Option<Spanned<&'static Preset>> {
        let name = self.text(item)?;
        if let Some(preset) = Preset::find(&name) {
            return Some(Spanned::new(preset, name.span));
        }
        let names = || Preset::all().map(|(name, _)| name);
        let hint = did_you_mean(&name, names())
            .unwrap_or_else(|| format!("the presets are `{}`", names().collect::<Vec<_>>().join("`, `")));
        self.error(&name.span, format!("unknown preset `{}`", echo(&name)))
            .hint(hint);
        None
    }

    /// Which protocol the table is about, whether it is OAuth2; reports what is missing for it and what does not belong to it.
    fn protocol(
        &mut self,
        section: &Section<'_>,
        preset: Option<&Spanned<&'static Preset>>,
        is_preset_unknown: bool,
    ) -> bool {
        self.require(
            section,
            &[(
                "client_id",
                "the id under which the gateway is registered at the provider",
            )],
        );
        let written: Vec<&str> = OAUTH2_URLS.into_iter().filter(|key| section.has(key)).collect();
        let first_url = written.first().map(|key| (*key, section.span_of(key)));
        let is_oauth2 = match preset {
            Some(preset) => preset.is_oauth2(),
            None => !written.is_empty(),
        };
        match (preset, first_url) {
            (Some(preset), Some((key, span))) if !is_oauth2 => {
                self.error(
                    &span,
                    format!("the preset is for OpenID Connect, which has no `{key}`"),
                )
                .also(preset.span.clone(), "the preset")
                .hint("remove it: the discovery document has the URLs");
            }
            (Some(preset), _) if is_oauth2 && section.has("issuer") => {
                self.error(
                    &section.span_of("issuer"),
                    "the preset is for OAuth2, which has no `issuer`",
                )
                .also(preset.span.clone(), "the preset")
                .hint("for a server of your own, write `authorize_url`, `token_url` and `userinfo_url`");
            }
            (None, Some((key, span))) if section.has("issuer") => {
                self.error(&span, format!("`issuer` and `{key}` exclude each other"))
                    .also(section.span_of("issuer"), "the issuer")
                    .hint("keep `issuer` for OpenID Connect, or the three URLs for OAuth2");
            }
            _ => {}
        }
        if is_preset_unknown {
            return is_oauth2;
        }
        if is_oauth2 {
            // One server's token never goes to another one's userinfo.
            if preset.is_none() || !written.is_empty() {
                self.require(
                    section,
                    &[
                        ("authorize_url", "where the browser is sent to"),
                        ("token_url", "where the code is exchanged"),
                        ("userinfo_url", "where the gateway reads who the user is"),
                    ],
                );
            }
        } else if let Some(example) = preset.and_then(|preset| preset.issuer_example.as_deref()) {
            let hint = format!("the issuer of your own, like `issuer = \"{example}\"`");
            self.require(section, &[("issuer", &hint)]);
        } else if preset.is_none() {
            self.require(
                section,
                &[(
                    "issuer",
                    "the provider's `issuer`, as its discovery document has it; or a `preset`",
                )],
            );
        }
        is_oauth2
    }

    fn provider_issuer(&mut self, item: &Item<'_>) -> Option<Spanned<String>> {
        let text = self.text(item)?;
        let fault = match client::url(&text.replacen("{tid}", "organizations", 1), false) {
            Ok(_) if text.contains(['?', '{', '}']) && !text.contains("/{tid}/") => {
                "a URL with a query or a placeholder, which an issuer cannot have".to_owned()
            }
            Ok(_) => return Some(text),
            Err(fault) => fault,
        };
        self.error(&item.span, format!("`issuer` is {fault}")).hint(
            "the `issuer` of the provider's discovery document, like `https://id.example.com/realms/main`",
        );
        None
    }

    fn provider_url(&mut self, section: &mut Section<'_>, key: &str) -> Option<Spanned<String>> {
        let item = section.take(key)?;
        let text = self.text(&item)?;
        match client::url(&text, false) {
            Ok(_) => Some(text),
            Err(fault) => {
                self.error(&item.span, format!("`{key}` is {fault}"))
                    .hint("the URL that the documentation of the provider has");
                None
            }
        }
    }

    fn provider_tenants(&mut self, section: &mut Section<'_>) -> Option<Spanned<RawProviderTenants>> {
        let item = section.take("tenants")?;
        let span = item.span.clone();
        let tenants = match item.value.as_str() {
            Some("any") => RawProviderTenants::Any,
            Some("organizations") => RawProviderTenants::Organizations,
            _ => RawProviderTenants::Listed(self.tenant_ids(item, "`\"any\"` or `\"organizations\"`")?),
        };
        Some(Spanned::new(tenants, span))
    }

    /// `tenants` is there where the issuer has a place for one, and only there.
    fn tenants_fit(&mut self, section: &Section<'_>, raw: &RawProvider) {
        const HINT: &str = "`tenants = [\"…\"]` with their ids, `\"organizations\"`, or `\"any\"`, which accepts personal accounts too";
        if self.failed_or_taken(section, "tenants", raw.tenants.is_some()) {
            return;
        }
        let of_preset = raw.preset.as_ref().and_then(|preset| {
            let issuer = preset.issuer.as_deref()?;
            Some((issuer, &preset.span))
        });
        let own = raw.issuer.as_ref().map(|issuer| (issuer.as_str(), &issuer.span));
        let Some((issuer, span)) = own.or(of_preset) else {
            if let Some(tenants) = raw.tenants.as_ref().filter(|_| !section.took("issuer")) {
                self.error(&tenants.span, "`tenants` is for an `issuer` with `{tid}` in it")
                    .hint("remove it");
            }
            return;
        };
        match (issuer.contains("{tid}"), &raw.tenants) {
            (true, None) => {
                self.error(
                    span,
                    "`issuer` has a place for a tenant, and no `tenants` are named",
                )
                .hint(HINT);
            }
            (false, Some(tenants)) => {
                self.error(&tenants.span, "`issuer` has no place for a tenant")
                    .also(span.clone(), "here")
                    .hint("remove `tenants`, or write `{tid}` where the tenant stands");
            }
            _ => {}
        }
    }

    /// Whether `key` was written and could not be read.
    fn failed_or_taken(&self, section: &Section<'_>, key: &str, is_read: bool) -> bool {
        section.took(key) && !is_read
    }

    /// Secret, key and the way of authentication belong together.
    fn authentication_fits(&mut self, section: &Section<'_>, raw: &RawProvider) {
        let is_unread = [
            ("client_secret", raw.client_secret.is_some()),
            ("private_key", raw.private_key.is_some()),
            ("client_authentication", raw.client_authentication.is_some()),
            ("key_id", raw.key_id.is_some()),
            ("team_id", raw.team_id.is_some()),
        ]
        .into_iter()
        .any(|(key, is_read)| self.failed_or_taken(section, key, is_read));
        if is_unread || !self.broken.is_empty() {
            return;
        }
        let signed = raw
            .preset
            .as_ref()
            .filter(|preset| preset.client_secret_audience.is_some());
        if let Some(preset) = signed {
            for (key, is_there) in [
                ("private_key", raw.private_key.is_some()),
                ("key_id", raw.key_id.is_some()),
                ("team_id", raw.team_id.is_some()),
            ] {
                if !is_there {
                    self.error(&section.span, format!("`{key}` is missing in `{}`", section.title))
                        .also(preset.span.clone(), "the preset")
                        .hint("the client secret is a JWT that the gateway makes of `team_id`, `key_id` and `private_key`");
                }
            }
            let written = [
                raw.client_secret.as_ref().map(|secret| &secret.span),
                raw.client_authentication.as_ref().map(|how| &how.span),
            ];
            for span in written.into_iter().flatten() {
                self.error(
                    span,
                    "with this preset, the gateway makes the client secret itself",
                )
                .hint("remove it; `team_id`, `key_id` and `private_key` are enough");
            }
            return;
        }
        if let Some(team) = &raw.team_id {
            self.error(&team.span, "`team_id` is for the preset `apple` only")
                .hint("remove it");
        }
        if let (Some(id), None) = (&raw.key_id, &raw.private_key) {
            self.error(
                &id.span,
                "`key_id` is the id of a `private_key`, and there is none",
            )
            .hint("add the key, or remove the id");
        }
        let (secret, key) = (&raw.client_secret, &raw.private_key);
        if let (Some(secret), Some(key)) = (secret, key) {
            self.error(
                &key.span,
                "`client_secret` and `private_key` are two ways to authenticate",
            )
            .also(secret.span.clone(), "the other one")
            .hint("keep one of them");
            return;
        }
        let Some(how) = &raw.client_authentication else {
            return;
        };
        match (how.as_str(), secret.is_some(), key.is_some()) {
            ("basic" | "post", false, _) => {
                self.error(
                    &how.span,
                    format!("`{}` needs a `client_secret`", echo(&how.value)),
                )
                .hint("add the secret, or write `\"none\"` for a public client");
            }
            ("private_key_jwt", _, false) => {
                self.error(&how.span, "`private_key_jwt` needs a `private_key`")
                    .hint("a file with the key in PEM: `private_key = { file = \"provider.key\" }`");
            }
            ("none", true, _) => {
                self.error(&how.span, "with `\"none\"`, the `client_secret` is never sent")
                    .hint("remove one of them");
            }
            ("none", _, true) => {
                self.error(&how.span, "with `\"none\"`, the `private_key` is never used")
                    .hint("remove one of them");
            }
            _ => {}
        }
    }

    fn provider_claims(&mut self, section: &mut Section<'_>) -> Option<RawProviderClaims> {
        let mut path = |key| section.take(key).and_then(|item| self.claim_path(&item));
        Some(RawProviderClaims {
            subject: path("subject"),
            email: path("email"),
            email_verified: path("email_verified"),
            name: path("name"),
        })
    }

    fn authorize_parameters(&mut self, table: &mut Section<'_>) -> Vec<(Spanned<String>, Spanned<String>)> {
        let mut found: Vec<(Spanned<String>, Spanned<String>)> = Vec::new();
        for item in table.items() {
            let name = match values::authorize_parameter(&item.key) {
                Ok(name) => Spanned::new(name, item.key_span.clone()),
                Err(reason) => {
                    self.error(
                        &item.key_span,
                        format!("`{}` is no parameter to add", echo(&item.key)),
                    )
                    .hint(reason);
                    continue;
                }
            };
            found.extend(self.text(&item).map(|value| (name, value)));
        }
        if found.len() > MOST_PARAMETERS {
            self.error(
                &table.span,
                format!("`authorize_parameters` has more than {MOST_PARAMETERS} entries"),
            )
            .hint("the browser carries them in an address");
        }
        found
    }

    fn allow(&mut self, section: &mut Section<'_>) -> Option<Spanned<RawAllow>> {
        let item = section.take("allow")?;
        let span = item.span.clone();
        if matches!(&item.value, DeValue::String(text) if text == "anyone") {
            return Some(Spanned::new(RawAllow::Anyone, span));
        }
        let Ok(items) = item.into_elements() else {
            self.error(&span, "`allow` must be an array of tables, or `\"anyone\"`")
                .hint(WHO_FORM);
            return None;
        };
        if items.is_empty() {
            self.error(&span, "`allow` is empty: no account may sign in")
                .hint(WHO_FORM);
            return None;
        }
        let mut listed = Vec::new();
        for item in items {
            let who = self.section(item, "providers.*.allow", "allow", Self::who);
            listed.extend(who.map(|who| who.value));
        }
        Some(Spanned::new(RawAllow::Listed(listed), span))
    }

    fn grant(&mut self, section: &mut Section<'_>) -> Option<RawGrant> {
        self.require(section, &[("role", "the role that is given")]);
        let role = self.parsed(section, "role", "the name of a role", values::role);
        let who = self.who(section);
        Some(RawGrant {
            role: role?,
            who: who?,
        })
    }

    fn who(&mut self, section: &mut Section<'_>) -> Option<RawWho> {
        let written = ["email", "domain", "group"]
            .iter()
            .filter(|key| section.has(key))
            .count();
        if written != 1 {
            let message = if written == 0 {
                "no account is named"
            } else {
                "more than one rule is in this table"
            };
            self.error(&section.span, message).hint(WHO_FORM);
        }
        let email = self.parsed(section, "email", "an email address", |text| {
            let is_address = text.split_once('@').is_some_and(|(name, domain)| {
                !name.is_empty() && !domain.is_empty() && !text.contains(char::is_whitespace)
            });
            if is_address {
                Ok(text.to_owned())
            } else {
                Err("an address like `alice@example.com`".to_owned())
            }
        });
        let domain = self.parsed(section, "domain", "a domain", domain);
        let group = self.string(section, "group");
        if written != 1 {
            return None;
        }
        None.or(email.map(|email| RawWho::Email(email.value)))
            .or(domain.map(|domain| RawWho::Domain(domain.value)))
            .or(group.map(|group| RawWho::Group(group.value)))
    }
}

fn visible(text: &str) -> Result<String, String> {
    let is_visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if text.is_empty() || !is_visible || text.len() > 1024 {
        return Err("visible ASCII characters, at least one".to_owned());
    }
    Ok(text.to_owned())
}
