//! `[issuers.*]` and `[credentials]`: whose tokens are taken, and where a token may be.

use http::HeaderName;
use toml::de::DeValue;

use super::Reader;
use super::fields::{Empty, word};
use super::section::{Item, Section};
use crate::config::raw::{RawIssuer, RawSecret, RawSource, RawTenants, Spanned};
use crate::config::values::{did_you_mean, echo};
use crate::config::{schema, secret};
use crate::http::url::Url;
use crate::values::{FieldName, MissingClaim, ParameterName, Token};

/// Where keys come from; each issuer has exactly one.
const KEY_SOURCES: [&str; 5] = ["jwks_url", "jwks_file", "public_key_file", "secret", "discovery"];

const SECRET_FORM: &str =
    "write a reference: `{ file = \"…\" }`, `{ env = \"…\" }` or `{ credential = \"…\" }` (systemd)";

impl Reader<'_> {
    pub(super) fn issuer(&mut self, section: &mut Section<'_>) -> Option<RawIssuer> {
        let missing_claims = self.all(
            section,
            "missing_claims",
            Empty::Refused("leave it out where every token has `iss` and `aud`"),
            |reader, item| reader.parse(item, "`iss` or `aud`", missing_claim),
        );
        let may_lack = |claim| missing_claims.iter().any(|missing| missing.value == claim);
        let iss = if may_lack(MissingClaim::Iss) {
            "a name for it, which revocations are kept under; a token that has an `iss` must have this one"
        } else {
            "the exact `iss` of its tokens"
        };
        self.require(section, &[("issuer", iss)]);
        if !may_lack(MissingClaim::Aud) {
            let hint = "the `aud` values that mean this gateway, like `audiences = [\"api\"]`";
            self.require(section, &[("audiences", hint)]);
        }
        let hint = "the algorithms that it signs with, like `algorithms = [\"RS256\"]`";
        self.require(section, &[("algorithms", hint)]);
        let written: Vec<&str> = KEY_SOURCES.into_iter().filter(|key| section.has(key)).collect();
        let only_secret = written == ["secret"];
        let no_secret = !written.is_empty() && !written.contains(&"secret");
        let allow_http = self.flag(section, "allow_http");
        let may_be_plain = allow_http.as_ref().is_some_and(|allowed| allowed.value);
        let discovery = self.flag(section, "discovery");
        let discovers = discovery.as_ref().is_some_and(|discovery| discovery.value);
        self.one_key_source(section, &written, discovery.as_ref());

        let issuer = section.take("issuer").and_then(|item| {
            let text = self.text(&item)?;
            if discovers {
                self.secure_url(&item, may_be_plain, "with `discovery`, ")
            } else {
                Some(text)
            }
        });
        let tenants = self.tenants(section);
        let jwks_url = section
            .take("jwks_url")
            .and_then(|item| self.secure_url(&item, may_be_plain, ""));
        let algorithms = self.all(
            section,
            "algorithms",
            Empty::Refused("an empty list accepts no token: name the algorithms that the issuer uses"),
            |reader, item| reader.algorithm(item, only_secret, no_secret),
        );
        let raw = RawIssuer {
            issuer,
            tenants,
            audiences: self.all(
                section,
                "audiences",
                Empty::Refused("an empty list accepts no token: name the audience of this gateway"),
                Self::text,
            ),
            audience_claim: section
                .take("audience_claim")
                .and_then(|item| self.claim_path(&item)),
            algorithms,
            jwks_url,
            jwks_file: self.path(section, "jwks_file"),
            public_key_file: self.path(section, "public_key_file"),
            secret: section.take("secret").and_then(|item| self.secret(item)),
            discovery,
            jwks_token: section.take("jwks_token").and_then(|item| self.secret(item)),
            ca_file: self.path(section, "ca_file"),
            allow_http,
            refresh_interval: self.duration(section, "refresh_interval"),
            refresh_cooldown: self.duration(section, "refresh_cooldown"),
            roles_claims: self.all(
                section,
                "roles_claims",
                Empty::Refused("name the claims that hold roles, or leave it out for the usual ones"),
                Self::claim_path,
            ),
            leeway: self.duration_or_zero(section, "leeway"),
            max_age: self.duration(section, "max_age"),
            subject_claims: self.all(
                section,
                "subject_claim",
                Empty::Refused("leave it out for `sub`"),
                Self::claim_path,
            ),
            missing_claims,
        };
        if let Some(leeway) = raw.leeway.as_ref().filter(|leeway| leeway.as_secs() > 300) {
            self.warning(
                &leeway.span,
                format!(
                    "a token is accepted for {} s after it has expired",
                    leeway.as_secs()
                ),
            )
            .hint("leeway covers clocks that differ; `\"30s\"` is usual");
        }
        Some(raw)
    }

    /// `"any"`, or a list of UUIDs.
    fn tenants(&mut self, section: &mut Section<'_>) -> Option<Spanned<RawTenants>> {
        let item = section.take("tenants")?;
        let span = item.span.clone();
        if item.value.as_str() == Some("any") {
            return Some(Spanned::new(RawTenants::Any, span));
        }
        let tenants = self.tenant_ids(item, "`\"any\"`")?;
        Some(Spanned::new(RawTenants::Listed(tenants), span))
    }

    /// A list of UUIDs; `words` is what may stand in its place.
    pub(super) fn tenant_ids(&mut self, item: Item<'_>, words: &str) -> Option<Vec<String>> {
        const HINT: &str =
            "write `[\"72f988bf-86f1-41af-91ab-2d7cd011db47\"]`, or `\"any\"` for every tenant there is";
        let span = item.span.clone();
        let Ok(items) = item.into_elements() else {
            self.error(
                &span,
                format!("`tenants` must be an array of tenant ids or {words}"),
            )
            .hint(HINT);
            return None;
        };
        if items.is_empty() {
            self.error(&span, "`tenants` is empty").hint(HINT);
            return None;
        }
        let tenant = |text: &str| match uuid::Uuid::try_parse(text) {
            Ok(_) if text.len() == 36 => Ok(text.to_ascii_lowercase()),
            _ => Err(HINT.to_owned()),
        };
        let mut tenants: Vec<String> = Vec::new();
        for item in &items {
            if let Some(tenant) = self.parse(item, "a tenant id, which is a UUID", tenant)
                && !tenants.contains(&tenant.value)
            {
                tenants.push(tenant.value);
            }
        }
        (!tenants.is_empty()).then_some(tenants)
    }

    fn one_key_source(&mut self, section: &Section<'_>, written: &[&str], discovery: Option<&Spanned<bool>>) {
        let is_off = discovery.is_some_and(|discovery| !discovery.value);
        let sources: Vec<&str> = written
            .iter()
            .copied()
            .filter(|key| *key != "discovery" || !is_off)
            .collect();
        match sources.as_slice() {
            [_] => {}
            [] if !self.broken.is_empty() => {}
            [] if KEY_SOURCES.iter().any(|key| self.is_misspelt(section, key)) => {}
            [] => {
                self.error(
                    &section.span,
                    format!("`{}` names no source of keys", section.title),
                )
                .hint(
                    "add one of `jwks_url`, `jwks_file`, `public_key_file`, `secret` or `discovery = true`",
                );
            }
            several => {
                let several = several.join("`, `");
                self.error(
                    &section.span,
                    format!("`{}` has several sources of keys: `{several}`", section.title),
                )
                .hint("keep one of them; two key sources are two issuers");
            }
        }
    }

    /// A URL that keys are fetched from, so that it needs TLS or loopback.
    fn secure_url(&mut self, item: &Item<'_>, may_be_plain: bool, when: &str) -> Option<Spanned<String>> {
        let text = self.text(item)?;
        let key = &item.key;
        // With a place for the tenant it is asked under another name, see `verify`.
        let asked = text.replace("{tid}", "organizations");
        let url = match asked.parse::<Url>() {
            Ok(url) => url,
            Err(reason) => {
                self.error(&item.span, format!("{when}`{key}` must be an `https://` URL"))
                    .hint(reason);
                return None;
            }
        };
        if url.userinfo().is_some() {
            self.error(&item.span, format!("`{key}` holds a user or a password"))
                .hint("key sets are public: leave out what stands in front of `@`");
            return None;
        }
        match url.scheme() {
            "https" => Some(text),
            "http" if may_be_plain || url.is_loopback() => Some(text),
            "http" => {
                self.error(&item.span, format!("{when}`{key}` must be `https://`"))
                    .hint("an attacker on the network path could replace the keys; `allow_http = true` accepts that");
                None
            }
            _ => {
                self.error(&item.span, format!("{when}`{key}` must be an `https://` URL"))
                    .hint("write it as `https://host/path`");
                None
            }
        }
    }

    fn algorithm(&mut self, item: &Item<'_>, only_secret: bool, no_secret: bool) -> Option<Spanned<String>> {
        let name = self.text(item)?;
        if name.eq_ignore_ascii_case("none") {
            self.error(&name.span, "algorithm `none` accepts unsigned tokens")
                .hint("remove it: a token without a signature proves nothing");
            return None;
        }
        let known = schema::words("issuers.*", "algorithms");
        if !known.contains(&name.as_str()) {
            // Of the ES family a near name is another curve, not a slip.
            let hint = did_you_mean(&name, known.iter().copied())
                .filter(|_| !name.starts_with("ES"))
                .unwrap_or_else(|| format!("the algorithms are `{}`", known.join("`, `")));
            self.error(&name.span, format!("unknown algorithm `{}`", echo(&name)))
                .hint(hint);
            return None;
        }
        let is_hmac = name.starts_with("HS");
        if is_hmac && no_secret {
            self.error(
                &name.span,
                format!(
                    "`{}` needs a `secret`, and this issuer has public keys",
                    name.value
                ),
            )
            .hint("a public key is no secret, so anyone could sign with it: remove this algorithm");
        } else if !is_hmac && only_secret {
            self.error(
                &name.span,
                format!(
                    "`{}` needs public keys, and this issuer has a `secret`",
                    name.value
                ),
            )
            .hint("a `secret` goes with `HS256`, `HS384` and `HS512` only");
        }
        Some(name)
    }

    /// A secret, whose value never stands here: what does is hidden from all output.
    pub(super) fn secret(&mut self, item: Item<'_>) -> Option<Spanned<RawSecret>> {
        if !item.is_table() {
            self.problems.hide(&item.span);
            self.error(&item.span, format!("`{}` holds the secret itself", item.key))
                .hint(SECRET_FORM);
            return None;
        }
        let key = item.key.to_string();
        self.section(item, "secret", &key, |reader, section| {
            let written = ["file", "env", "credential"]
                .iter()
                .filter(|key| section.has(key))
                .count();
            let file = reader
                .path(section, "file")
                .map(|file| RawSecret::File(file.value));
            let env = section.take("env").and_then(|item| {
                reader.place_name(&item, "the name of an environment variable", is_variable)
            });
            let credential = section
                .take("credential")
                .and_then(|item| reader.place_name(&item, "the name of a credential", is_file_name));
            if let Some(path) = credential.as_deref().and_then(secret::credential_path) {
                reader.problems.depends_on(&path);
            }
            // What was likely meant is a problem by itself.
            if written == 0 && section.unknown().next().is_some() {
                return None;
            }
            if written != 1 {
                reader
                    .error(
                        &section.span,
                        format!("`{key}` must name one place, found {written}"),
                    )
                    .hint(SECRET_FORM);
                return None;
            }
            file.or(env.map(RawSecret::Env))
                .or(credential.map(RawSecret::Credential))
        })
    }

    /// The name of the place of a secret. What is no such name may be the secret itself, and is not shown.
    fn place_name(&mut self, item: &Item<'_>, what: &str, is_name: fn(&str) -> bool) -> Option<String> {
        let DeValue::String(text) = &item.value else {
            self.problems.hide(&item.span);
            self.expected(item, what);
            return None;
        };
        if !is_name(text) {
            self.problems.hide(&item.span);
            self.error(&item.span, format!("`{}` must be {what}", item.key))
                .hint("the name, not the secret");
            return None;
        }
        Some(text.clone().into_owned())
    }

    pub(super) fn credentials(&mut self, section: &mut Section<'_>) -> Option<Vec<Spanned<RawSource>>> {
        self.tables(
            section,
            "sources",
            "sources = [{ header = \"authorization\", scheme = \"Bearer\" }]",
            Empty::Refused("an empty list finds no credential: remove the key for `Authorization: Bearer`"),
            Self::source,
        )
    }

    fn source(&mut self, section: &mut Section<'_>) -> Option<RawSource> {
        let written: Vec<&str> = ["header", "cookie", "query", "websocket_protocol"]
            .into_iter()
            .filter(|key| section.has(key))
            .collect();
        let has_scheme = section.has("scheme");
        let header = self.parsed(section, "header", "the name of a header", |text| {
            if text.eq_ignore_ascii_case("cookie") {
                return Err("write `{ cookie = \"name\" }`".to_owned());
            }
            FieldName::settable(text)
        });
        let token = |form: &'static str| move |text: &str| Token::parse(text).ok_or(form.to_owned());
        let scheme = self.parsed(
            section,
            "scheme",
            "one word",
            token("a scheme is one word, like `Bearer` (RFC 9110 section 11.1)"),
        );
        let cookie = self.parsed(
            section,
            "cookie",
            "the name of a cookie",
            token("a cookie name is letters, digits and most signs, without spaces or `=` (RFC 6265 section 4.1.1)"),
        );
        let query = self.parsed(
            section,
            "query",
            "the name of a query parameter",
            str::parse::<ParameterName>,
        );
        let protocol = self.parsed(
            section,
            "websocket_protocol",
            "the name of a protocol",
            token("one word without spaces, like `bearer` (RFC 6455 section 11.3.4)"),
        );
        if written.len() != 1 {
            self.error(&section.span, format!("a source is one place to look at, found {}", written.len()))
                .hint("write `{ header = \"…\" }`, `{ cookie = \"…\" }`, `{ query = \"…\" }` or `{ websocket_protocol = \"…\" }`, one entry for each");
            return None;
        }
        if has_scheme && !written.contains(&"header") {
            self.error(&section.span, "`scheme` goes with `header` only")
                .hint("remove it");
            return None;
        }
        header
            .map(|name| RawSource::Header {
                name: HeaderName::clone(&name),
                scheme: scheme.map(|scheme| scheme.value),
            })
            .or(cookie.map(|name| RawSource::Cookie(name.value)))
            .or(query.map(|name| RawSource::Query(name.value)))
            .or(protocol.map(|name| RawSource::WebSocketProtocol(name.value)))
    }
}

/// A claim that tokens may lack.
fn missing_claim(text: &str) -> Result<MissingClaim, String> {
    match text {
        "exp" => Err("a token without `exp` never expires: `exp` is always required".to_owned()),
        "sub" => Err("`subject_claim` names the claim that its tokens have instead".to_owned()),
        _ => word(text, schema::words("issuers.*", "missing_claims")),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|char: char| char.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
}
