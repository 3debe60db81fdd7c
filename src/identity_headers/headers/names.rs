//! The names under which an app is told about the caller, and what is said under each.
//!
//! Input: a preset, or the names that another product answers a proxy with. Output: header fields of one identity.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue};

use super::super::presets::{self, Preset};
use super::super::value::Encoding;
use crate::identity::{ClaimPath, Identity};
use crate::refusal::Refusal;
use crate::values::Alias;

/// The most that one identity header may hold, in bytes: nginx reads lines up to 8 KiB.
pub(super) const MAX_VALUE: usize = 8 * 1024;
/// The most that all of them together may hold, in bytes: Node.js reads 16 KiB of headers.
const MAX_TOTAL: usize = 16 * 1024;

/// Names of headers, each for one part of an identity.
#[derive(Clone, Debug)]
pub(super) struct Names {
    user: HeaderName,
    email: Option<HeaderName>,
    name: Option<HeaderName>,
    roles: Option<HeaderName>,
    issuer: Option<HeaderName>,
    claims: Vec<(HeaderName, ClaimPath)>,
    encoding: Encoding,
}

/// What `/oauth2/auth` of oauth2-proxy answers with `set_xauthrequest`.
static OAUTH2_PROXY: LazyLock<Names> = LazyLock::new(|| Names {
    user: HeaderName::from_static("x-auth-request-user"),
    email: Some(HeaderName::from_static("x-auth-request-email")),
    name: None,
    roles: Some(HeaderName::from_static("x-auth-request-groups")),
    issuer: None,
    claims: ClaimPath::parse("preferred_username")
        .map(|path| (HeaderName::from_static("x-auth-request-preferred-username"), path))
        .into_iter()
        .collect(),
    encoding: Encoding::named("utf-8").unwrap_or_default(),
});

/// What Authelia answers.
static AUTHELIA: LazyLock<Names> = LazyLock::new(|| Names::of(&presets::all()["authelia"], None));

impl Names {
    /// The names of a preset; `encoding` in place of its own.
    pub(super) fn of(preset: &Preset, encoding: Option<&str>) -> Self {
        let name = |text: &String| HeaderName::try_from(text).expect("a test reads the embedded presets");
        let path = |text: &String| ClaimPath::parse(text).expect("a test reads the embedded presets");
        let claims = preset.claims.iter();
        Self {
            user: name(&preset.user),
            email: preset.email.as_ref().map(name),
            name: preset.name.as_ref().map(name),
            roles: preset.roles.as_ref().map(name),
            issuer: preset.issuer.as_ref().map(name),
            claims: claims
                .map(|(header, claim)| (name(header), path(claim)))
                .collect(),
            // The reader takes no other name.
            encoding: encoding
                .or(preset.encoding.as_deref())
                .and_then(Encoding::named)
                .unwrap_or_default(),
        }
    }

    /// The names of another product's answer to a proxy.
    pub(super) fn of_alias(alias: Alias) -> &'static Self {
        match alias {
            Alias::OAuth2Proxy => &OAUTH2_PROXY,
            Alias::Authelia => &AUTHELIA,
        }
    }

    /// The same with these names for further claims.
    pub(super) fn with_claims(mut self, claims: Vec<(HeaderName, ClaimPath)>) -> Self {
        self.claims.extend(claims);
        self
    }

    /// Every name.
    pub(super) fn all(&self) -> impl Iterator<Item = &HeaderName> {
        let names = [&self.email, &self.name, &self.roles, &self.issuer];
        let claims = self.claims.iter().map(|(name, _)| name);
        [&self.user]
            .into_iter()
            .chain(names.into_iter().flatten())
            .chain(claims)
    }

    /// What is said about `identity`; an unverified address only `with_unverified_email`.
    ///
    /// # Errors
    /// [`Refusal::HeadersTooLarge`].
    pub(super) fn render(
        &self,
        identity: &Identity,
        with_unverified_email: bool,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let encoding = self.encoding;
        let text = |text: Option<&str>| text.and_then(|text| encoding.text(text));
        let fields = [
            (Some(&self.user), text(Some(&identity.subject))),
            (
                self.email.as_ref(),
                text(identity.told_email(with_unverified_email)),
            ),
            (self.name.as_ref(), text(identity.name.as_deref())),
            (
                self.roles.as_ref(),
                encoding.list(identity.roles.iter().map(String::as_str)),
            ),
            (self.issuer.as_ref(), text(Some(&identity.issuer))),
        ];
        let claims = self.claims.iter().map(|(name, path)| {
            let claim = identity.told_claim(path, with_unverified_email);
            (Some(name), claim.and_then(|claim| encoding.claim(claim)))
        });
        let mut rendered = Vec::with_capacity(fields.len() + self.claims.len());
        let mut total = 0;
        for (name, value) in fields.into_iter().chain(claims) {
            let (Some(name), Some(value)) = (name, value) else {
                continue;
            };
            total += name.as_str().len() + value.len();
            if value.len() > MAX_VALUE || total > MAX_TOTAL {
                return Err(Refusal::HeadersTooLarge);
            }
            let value = HeaderValue::try_from(value).expect("control characters are encoded");
            rendered.push((name.clone(), value));
        }
        Ok(rendered)
    }
}
