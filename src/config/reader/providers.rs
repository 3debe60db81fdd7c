//! `[providers.*]`: where people sign in, who of them may, and which roles they get.

use toml::de::DeValue;

use super::Reader;
use super::fields::Empty;
use super::section::{Item, Section};
use crate::config::raw::{RawAllow, RawGrant, RawProvider, RawWho, Spanned};
use crate::config::values::{self, echo};
use crate::net::client;

const WHO_FORM: &str = "write `{ domain = \"example.com\" }`, `{ email = \"…\" }` or `{ group = \"…\" }`";

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
        self.require(
            section,
            &[
                (
                    "issuer",
                    "the provider's `issuer`, as its discovery document has it",
                ),
                (
                    "client_id",
                    "the id under which the gateway is registered at the provider",
                ),
            ],
        );
        let scopes = self.list(
            section,
            "scopes",
            Empty::Refused("leave it out for `openid`, `email` and `profile`"),
            Self::scope,
        );
        if let Some(scopes) = &scopes
            && scopes.iter().all(|scope| scope.as_str() != "openid")
        {
            self.error(&scopes.span, "`scopes` does not have `openid`")
                .hint("without it the provider sends no ID token");
        }
        let client_secret = section.take("client_secret").and_then(|item| self.secret(item));
        let client_authentication: Option<Spanned<String>> = self.choice(section, "client_authentication");
        if let Some(how) = client_authentication.as_ref().filter(|how| how.value != "none")
            && client_secret.is_none()
            && !self.failed.has("providers.*", "client_secret")
        {
            self.error(
                &how.span,
                format!("`{}` needs a `client_secret`", echo(&how.value)),
            )
            .hint("add the secret, or write `\"none\"` for a public client");
        }
        if let Some(how) = client_authentication.as_ref().filter(|how| how.value == "none")
            && client_secret.is_some()
        {
            self.error(&how.span, "with `\"none\"`, the `client_secret` is never sent")
                .hint("remove one of them");
        }
        Some(RawProvider {
            issuer: section
                .take("issuer")
                .and_then(|item| self.provider_issuer(&item)),
            client_id: self.parsed(section, "client_id", "the id of a client", |text| {
                let is_visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
                if text.is_empty() || !is_visible || text.len() > 1024 {
                    return Err("visible ASCII characters, at least one".to_owned());
                }
                Ok(text.to_owned())
            }),
            client_secret,
            client_authentication,
            scopes: scopes.map(|scopes| scopes.value),
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
        })
    }

    fn provider_issuer(&mut self, item: &Item<'_>) -> Option<Spanned<String>> {
        let text = self.text(item)?;
        let fault = match client::url(&text, false) {
            Ok(_) if text.contains(['?', '{', '}']) => {
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
