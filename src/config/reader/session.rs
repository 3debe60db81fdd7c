//! `[session]`, `[signing]`, `[password]`, `[pages]`: signing in, and how that looks.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Reader;
use super::fields::Empty;
use super::section::{Item, Section};
use crate::config::raw::{RawColors, RawPages, RawPassword, RawSession, RawSigning, Spanned};
use crate::config::values::{self, Color, MAX_DURATION, MOST_ROLE_BYTES, MOST_ROLES, echo};
use crate::http::url::Url;

/// Tokens count in whole seconds.
const SECOND: Duration = Duration::from_secs(1);
/// The longest life of a token: what has changed about its account shows when the next one is made.
const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 3600);

/// An origin whose pages may use the endpoints with the credentials of the browser.
fn other_origin(text: &str) -> Result<Url, String> {
    match text {
        "*" => Err(
            "list each origin: with `*` a page of any site could sign in and out and read who is signed in"
                .to_owned(),
        ),
        "null" => Err(values::NULL_ORIGIN.to_owned()),
        _ => values::origin(text),
    }
}

impl Reader<'_> {
    pub(super) fn session(&mut self, section: &mut Section<'_>) -> Option<RawSession> {
        Some(RawSession {
            cookie: self.parsed(section, "cookie", "the name of a cookie", values::cookie_name),
            token_lifetime: self.lifetime(
                section,
                "token_lifetime",
                SECOND..=LONGEST_TOKEN,
                "from 1s to 24h",
                "`\"15m\"` is usual: roles and names in a token are as old as the token",
            ),
            idle_timeout: self.lifetime(
                section,
                "idle_timeout",
                SECOND..=MAX_DURATION,
                "at least 1s",
                "`\"24h\"` is usual: a user who was away for longer signs in again",
            ),
            lifetime: self.lifetime(
                section,
                "lifetime",
                SECOND..=MAX_DURATION,
                "at least 1s",
                "`\"7d\"` is usual: every user signs in again after it",
            ),
            origins: self
                .list(section, "origins", Empty::Taken, |reader, item| {
                    reader.parse(item, "a list of origins", other_origin)
                })
                .map(|origins| origins.value)
                .unwrap_or_default(),
            redirect_uris: self
                .list(section, "redirect_uris", Empty::Taken, |reader, item| {
                    reader.parse(item, "a list of redirect URIs", str::parse)
                })
                .map(|listed| listed.value)
                .unwrap_or_default(),
            same_site: self.choice(section, "same_site"),
            refresh_cookie: self.flag(section, "refresh_cookie"),
        })
    }

    fn lifetime(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
        bounds: &str,
        hint: &str,
    ) -> Option<Spanned<Duration>> {
        let found = self.duration_or_zero(section, key)?;
        if !range.contains(&found.value) {
            self.error(&found.span, format!("`{key}` must be {bounds}"))
                .hint(hint);
            return None;
        }
        Some(found)
    }

    pub(super) fn signing(&mut self, section: &mut Section<'_>) -> Option<RawSigning> {
        Some(RawSigning {
            algorithm: self.parsed(
                section,
                "algorithm",
                "an algorithm that the gateway signs with",
                str::parse,
            ),
        })
    }

    pub(super) fn password(&mut self, section: &mut Section<'_>) -> Option<RawPassword> {
        let roles = self.list(section, "default_roles", Empty::Taken, Self::role);
        if let Some(roles) = &roles {
            self.all_roles(roles);
        }
        Some(RawPassword {
            registration: self.flag(section, "registration"),
            default_roles: roles.map(|roles| roles.value).unwrap_or_default(),
            min_length: self.number(section, "min_length"),
            admin_role: section.take("admin_role").and_then(|item| self.role(&item)),
            trust_unconfirmed_email: self.flag(section, "trust_unconfirmed_email"),
        })
    }

    fn role(&mut self, item: &Item<'_>) -> Option<Spanned<String>> {
        self.parse(item, "names of roles", values::role)
    }

    fn all_roles(&mut self, roles: &Spanned<Vec<Spanned<String>>>) {
        if !values::roles_fit(roles.iter().map(|role| role.as_str())) {
            self.error(&roles.span, "`default_roles` are too many")
                .hint(format!(
                    "at most {MOST_ROLES}, and {MOST_ROLE_BYTES} bytes together: they travel in a cookie"
                ));
        }
        for (at, role) in roles.iter().enumerate() {
            if let Some(first) = roles[..at].iter().find(|first| first.value == role.value) {
                self.error(&role.span, format!("role `{}` appears a second time", echo(role)))
                    .also(first.span.clone(), "first here")
                    .hint("keep one of them");
            }
        }
    }

    pub(super) fn pages(&mut self, section: &mut Section<'_>) -> Option<RawPages> {
        let pages = RawPages {
            name: self.parsed(section, "name", "what the site is called", |text| {
                match text.chars().count() {
                    _ if text.trim().is_empty() => Err("write a name, or leave the key out".to_owned()),
                    0..=64 => Ok(text.to_owned()),
                    _ => Err("at most 64 characters: it stands above every page".to_owned()),
                }
            }),
            logo: self.parsed(section, "logo", "the file of a picture", |text| {
                const KINDS: [&str; 5] = ["svg", "png", "jpg", "jpeg", "webp"];
                let kind = Path::new(text)
                    .extension()
                    .and_then(|kind| kind.to_str())
                    .unwrap_or_default();
                if KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
                    Ok(text.into())
                } else {
                    Err(format!("its name ends with `.{}`", KINDS.join("`, `.")))
                }
            }),
            colors: self
                .table(
                    section,
                    "colors",
                    "colors = { accent = \"#2f6f4f\" }",
                    Self::colors,
                )
                .map(|colors| colors.value)
                .unwrap_or_default(),
            templates: self.path(section, "templates"),
            help: self.parsed(
                section,
                "help",
                "a sentence for people who cannot sign in",
                |text| match text.chars().count() {
                    _ if text.trim().is_empty() => Err("write a sentence, or leave the key out".to_owned()),
                    _ if text.chars().any(char::is_control) => Err("one line of plain text".to_owned()),
                    0..=300 => Ok(text.trim().to_owned()),
                    _ => Err("at most 300 characters: it stands on the sign-in page".to_owned()),
                },
            ),
        };
        if let Some(logo) = &pages.logo {
            self.problems.depends_on(&logo.value);
        }
        Some(pages)
    }

    fn colors(&mut self, section: &mut Section<'_>) -> Option<RawColors> {
        let mut color = |key| self.parsed(section, key, "a colour", str::parse::<Color>);
        Some(RawColors {
            accent: color("accent"),
            accent_dark: color("accent_dark"),
            background: color("background"),
            background_dark: color("background_dark"),
        })
    }
}
