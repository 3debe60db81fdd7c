//! The session cookie as it is set and deleted (RFC 6265 section 4.1).
//!
//! Input: a token and how long its session lives. Output: a `Set-Cookie` value. Invariants: no script can read the cookie;
//! requests of another site carry it only for a navigation, unless the configuration says otherwise; it is never sent without
//! TLS where the site has TLS. The same for the cookie with a refresh token, which other sites cannot send at all.

use http::HeaderValue;

use super::Settings;
use crate::clock::UnixSeconds;
use crate::config::cookie_on_http;
use crate::values;

/// Browsers keep a cookie of 4,096 bytes, attributes included, and may drop a longer one without a word (RFC 6265
/// section 6.1).
pub(crate) const MAX_BYTES: usize = 4096;

/// The name of the cookie as it is on the wire: on plain http without the prefixes that would have a browser refuse it.
#[must_use]
pub(crate) fn wire_name(configured: &str, https: bool) -> &str {
    if https {
        configured
    } else {
        cookie_on_http(configured)
    }
}

/// `Set-Cookie` for `token`, to be kept for `max_age` seconds; `None` where browsers would not keep it.
pub(super) fn set(settings: &Settings, token: &str, max_age: UnixSeconds) -> Option<HeaderValue> {
    let text = write(settings, token, max_age);
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Set-Cookie` that deletes the cookie; `None` where its name is none.
pub(super) fn clear(settings: &Settings) -> Option<HeaderValue> {
    HeaderValue::try_from(write(settings, "", 0)).ok()
}

/// `Set-Cookie` that deletes another cookie of the site that is a credential too; `None` where its name is none.
#[must_use]
pub(crate) fn deletion(name: &str, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{name}=; Path=/; Max-Age=0{secure}")).ok()
}

/// No `Domain`: the cookie is this host's alone, and another host below cannot be given it.
fn write(settings: &Settings, token: &str, max_age: UnixSeconds) -> String {
    let name = &settings.cookie;
    let secure = if settings.secure { "; Secure" } else { "" };
    let same_site = if settings.same_site_none { "None" } else { "Lax" };
    format!(
        "{name}={token}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={}{secure}",
        max_age.max(0)
    )
}

/// The name of the cookie with a refresh token.
#[must_use]
pub(crate) const fn refresh_cookie_name(https: bool) -> &'static str {
    if https {
        values::REFRESH_COOKIE
    } else {
        values::REFRESH_COOKIE_ON_HTTP
    }
}

/// The cookie with a refresh token, which browsers send to the refresh endpoint alone.
#[derive(Clone, Debug)]
pub struct RefreshCookie {
    path: String,
    https: bool,
}

impl RefreshCookie {
    /// The cookie for the endpoint below `own_prefix`. `https`: whether `public_url` is `https://`.
    #[must_use]
    pub fn new(own_prefix: &str, https: bool) -> Self {
        let path = format!("{own_prefix}/refresh");
        Self { path, https }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        refresh_cookie_name(self.https)
    }

    /// `Set-Cookie` for `token`, to be kept for `max_age` seconds, marked sensitive; `None` where it is no header value.
    #[must_use]
    pub fn set(&self, token: &str, max_age: UnixSeconds) -> Option<HeaderValue> {
        let (name, path) = (self.name(), &self.path);
        let secure = if self.https { "; Secure" } else { "" };
        let text = format!(
            "{name}={token}; Path={path}; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
            max_age.max(0)
        );
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// `Set-Cookie` that deletes it.
    #[must_use]
    pub fn clear(&self) -> Option<HeaderValue> {
        self.set("", 0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(cookie: &str, secure: bool) -> Settings {
        Settings {
            cookie: cookie.to_owned(),
            secure,
            token_lifetime: 900,
            idle_timeout: 86_400,
            lifetime: 604_800,
            public_url: "https://app.example.com".to_owned(),
            trust_unconfirmed_email: false,
            authorities: Default::default(),
            same_site_none: false,
        }
    }

    #[test]
    fn prefixes_stay_on_https_and_go_on_http() {
        for (configured, on_http) in [
            ("__Host-session", "passgate-session"),
            ("__Secure-session", "session"),
            ("__Host-app", "app"),
            ("__host-Session", "Session"),
            ("__SECURE-__Host-x", "x"),
            ("__Host-", "passgate-session"),
            ("session", "session"),
            ("_Host-session", "_Host-session"),
            ("x__Host-session", "x__Host-session"),
            ("é", "é"),
        ] {
            assert_eq!(wire_name(configured, true), configured);
            assert_eq!(wire_name(configured, false), on_http, "{configured}");
        }
    }

    #[test]
    fn the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_secure_on_https() {
        let https = set(&settings("__Host-session", true), "a.b.c", 60).unwrap();
        assert_eq!(
            https,
            "__Host-session=a.b.c; Path=/; HttpOnly; SameSite=Lax; Max-Age=60; Secure"
        );
        let http = set(&settings("session", false), "a.b.c", 60).unwrap();
        assert_eq!(http, "session=a.b.c; Path=/; HttpOnly; SameSite=Lax; Max-Age=60");
        assert!(https.is_sensitive() && http.is_sensitive());
        assert_eq!(
            set(&settings("s", false), "t", -1).unwrap(),
            "s=t; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        );
    }

    #[test]
    fn deleting_it_names_the_same_cookie() {
        let https = clear(&settings("__Host-session", true)).unwrap();
        assert_eq!(
            https,
            "__Host-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure"
        );
        let http = clear(&settings("session", false)).unwrap();
        assert_eq!(http, "session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
    }

    #[test]
    fn what_a_browser_would_drop_is_not_set() {
        let settings = settings("__Host-session", true);
        let around = set(&settings, "", 60).unwrap().len();
        assert!(set(&settings, &"a".repeat(MAX_BYTES - around), 60).is_some());
        assert!(set(&settings, &"a".repeat(MAX_BYTES - around + 1), 60).is_none());
    }
}
