//! `[session]`, `[password]`, `[pages]`: signing in, and how that looks.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::Reader;
use super::fields::{Empty, One};
use super::section::{Item, Section};
use crate::config::raw::{At, RawColors, RawPages, RawPassword, RawSession};
use crate::config::values::{self, Color, MAX_DURATION, echo};

/// Tokens count in whole seconds.
const SECOND: Duration = Duration::from_secs(1);
/// The longest life of a token: what has changed about its account shows when the next one is made.
const LONGEST_TOKEN: Duration = Duration::from_secs(24 * 3600);
/// The most roles of one account, and the most bytes of all of them: they travel in a cookie.
const MOST_ROLES: usize = 64;
const MOST_ROLE_BYTES: usize = 1024;

impl Reader<'_> {
    pub(super) fn session(&mut self, mut section: Section<'_>) -> RawSession {
        let session = RawSession {
            cookie: self.parsed(
                &mut section,
                "cookie",
                "the name of a cookie",
                values::cookie_name,
            ),
            token_lifetime: self.lifetime(
                &mut section,
                "token_lifetime",
                SECOND..=LONGEST_TOKEN,
                "from 1s to 24h",
                "`\"15m\"` is usual: roles and names in a token are as old as the token",
            ),
            idle_timeout: self.lifetime(
                &mut section,
                "idle_timeout",
                SECOND..=MAX_DURATION,
                "at least 1s",
                "`\"24h\"` is usual: a user who was away for longer signs in again",
            ),
            lifetime: self.lifetime(
                &mut section,
                "lifetime",
                SECOND..=MAX_DURATION,
                "at least 1s",
                "`\"7d\"` is usual: every user signs in again after it",
            ),
        };
        self.finish(section);
        session
    }

    fn lifetime(
        &mut self,
        section: &mut Section<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
        bounds: &str,
        hint: &str,
    ) -> Option<At<Duration>> {
        let found = self.duration_or_zero(section, key)?;
        if !range.contains(&found.value) {
            self.error(&found.span, format!("`{key}` must be {bounds}"))
                .hint(hint);
            return None;
        }
        Some(found)
    }

    pub(super) fn password(&mut self, mut section: Section<'_>) -> At<RawPassword> {
        let roles = self.list(
            &mut section,
            "default_roles",
            One::Refused,
            Empty::Taken,
            Self::role,
        );
        if let Some(roles) = &roles {
            self.all_roles(roles);
        }
        let password = RawPassword {
            registration: self.flag(&mut section, "registration"),
            default_roles: roles.map(|roles| roles.value).unwrap_or_default(),
            min_length: self.number(&mut section, "min_length"),
            admin_role: section.take("admin_role").and_then(|item| self.role(&item)),
            trust_unconfirmed_email: self.flag(&mut section, "trust_unconfirmed_email"),
        };
        let span = section.span.clone();
        self.finish(section);
        At::new(password, span)
    }

    fn role(&mut self, item: &Item<'_>) -> Option<At<String>> {
        self.parse(item, "names of roles", |text| {
            if text.is_empty() || text.len() > 64 {
                Err("a role is a word of at most 64 bytes".to_owned())
            } else if text.trim() == text {
                Ok(text.to_owned())
            } else {
                Err("spaces at either end are part of the name: leave them out".to_owned())
            }
        })
    }

    fn all_roles(&mut self, roles: &At<Vec<At<String>>>) {
        // In a token they are JSON, where these two are written with a `\` before them.
        let escaped = |role: &str| role.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        let bytes: usize = roles.iter().map(|role| role.len() + escaped(role) + 1).sum();
        if roles.len() > MOST_ROLES || bytes > MOST_ROLE_BYTES {
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

    pub(super) fn pages(&mut self, mut section: Section<'_>) -> RawPages {
        let pages = RawPages {
            name: self.parsed(&mut section, "name", "what the site is called", |text| match text
                .chars()
                .count()
            {
                _ if text.trim().is_empty() => Err("write a name, or leave the key out".to_owned()),
                0..=64 => Ok(text.to_owned()),
                _ => Err("at most 64 characters: it stands above every page".to_owned()),
            }),
            logo: self.parsed(&mut section, "logo", "the file of a picture", |text| {
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
            colors: self.colors(&mut section),
            templates: self.path(&mut section, "templates"),
            help: self.parsed(
                &mut section,
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
        self.finish(section);
        pages
    }

    fn colors(&mut self, pages: &mut Section<'_>) -> RawColors {
        let Some(mut section) = self.table(
            pages,
            "colors",
            "pages.colors",
            "colors = { accent = \"#2f6f4f\" }",
        ) else {
            return RawColors::default();
        };
        let mut color = |key| self.parsed(&mut section, key, "a colour", str::parse::<Color>);
        let colors = RawColors {
            accent: color("accent"),
            accent_dark: color("accent_dark"),
            background: color("background"),
            background_dark: color("background_dark"),
        };
        self.finish(section);
        colors
    }
}
