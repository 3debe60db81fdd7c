//! A host sends a browser to sign in, and recognizes it when it comes back: by a nonce in a cookie on that host, of which
//! only the hash goes along.
//!
//! Input: the host and the page that was asked for, and the cookies of the browser. Output: the redirect to the sign-in page
//! of `public_url`, with the cookies to set. The gateway keeps nothing. Invariants: no address and no log has a nonce, and a
//! browser keeps only a few of them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};

use super::return_to;
use super::sites::{Place, Sites};
use crate::clock::UnixSeconds;
use crate::http::cookie;
use crate::http::headers::Host;
use crate::refusal::Refusal;
use crate::state::TokenHash;

/// The parameter with the hash of the nonce.
pub(super) const PARAMETER: &str = "attempt";

/// The most nonces that a browser keeps for a host, the new one included.
const MOST: usize = 5;
/// The most that are looked at: a page could set more.
const MOST_SEEN: usize = 16;
/// Seconds that a nonce is kept for: as long as the sign-in page may stay open.
const LIFETIME: UnixSeconds = 24 * 60 * 60;

const HTTPS_PREFIX: &str = "__Host-passgate-nonce-";
const HTTP_PREFIX: &str = "passgate-nonce-";
/// Of seconds since 1970, so that names in order are in the order of time until the year 2286.
const DIGITS: usize = 10;
/// What makes the names of two nonces of the same second differ.
const RANDOM: usize = 8;

/// A nonce in a cookie of a browser.
#[derive(Clone, Debug)]
pub(super) struct Nonce {
    /// The name of the cookie.
    pub(super) name: String,
    /// BLAKE3 of its value.
    pub(super) hash: TokenHash,
}

/// The way to the sign-in page.
#[derive(Debug)]
pub struct Attempt {
    /// An absolute URL at `public_url`.
    pub location: HeaderValue,
    /// The new nonce, and the deletion of the oldest ones where there are too many.
    pub set_cookies: Vec<HeaderValue>,
}

impl Sites {
    /// What the names of nonce cookies begin with. No app may read or set such a cookie.
    #[must_use]
    pub fn nonce_prefix(&self) -> &'static str {
        if self.is_https() {
            HTTPS_PREFIX
        } else {
            HTTP_PREFIX
        }
    }

    /// Begins an attempt on `host`, for the page at `path` on it. `present` are the names of the nonces that the browser has
    /// there.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn begin(
        &self,
        prefix: &str,
        host: &Host,
        path: &str,
        present: Vec<String>,
        now: UnixSeconds,
    ) -> Result<Attempt, Refusal> {
        let mut random = [0; 32 + RANDOM / 4 * 3];
        getrandom::fill(&mut random).map_err(|_| {
            tracing::error!("a nonce was not made: the system has no random numbers");
            Refusal::Internal
        })?;
        let (nonce, name) = random.split_at(32);
        let nonce = URL_SAFE_NO_PAD.encode(nonce);
        let name = format!(
            "{}{:010}-{}",
            self.nonce_prefix(),
            now.max(0),
            URL_SAFE_NO_PAD.encode(name)
        );
        let path = return_to::accept(path, prefix).unwrap_or("/");
        let location = self.sign_in_url(
            prefix,
            Some((&self.authority(host), path)),
            Some(&hash(nonce.as_bytes())),
        );
        let mut set_cookies: Vec<_> = surplus(present)
            .iter()
            .filter_map(|name| self.delete_nonce(name))
            .collect();
        set_cookies.extend(self.write_nonce(&name, &nonce, LIFETIME));
        Ok(Attempt {
            location,
            set_cookies,
        })
    }

    /// The sign-in page of `public_url`, which leads on to a host and a path there.
    pub(super) fn sign_in_url(
        &self,
        prefix: &str,
        then: Option<(&str, &str)>,
        attempt: Option<&TokenHash>,
    ) -> HeaderValue {
        let mut url = format!("{}{prefix}/login", self.public_url());
        if let Some((authority, path)) = then {
            url.push('?');
            url.push_str(return_to::PARAMETER);
            url.push('=');
            return_to::encode(&self.url(authority, path), &mut url);
        }
        if let Some(attempt) = attempt {
            url.push('&');
            url.push_str(PARAMETER);
            url.push('=');
            URL_SAFE_NO_PAD.encode_string(attempt, &mut url);
        }
        // All parts are visible ASCII.
        HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"))
    }

    /// The absolute address of the sign-in page for a page at `path` on `host`, with that page as its return address. On a
    /// host that a route names it is the page of that host, which begins an attempt; from any other host it leads to
    /// `public_url`, and not back.
    #[must_use]
    pub(crate) fn sign_in_page(&self, prefix: &str, host: &Host, path: &str) -> HeaderValue {
        let path = return_to::accept(path, prefix).unwrap_or("/");
        match self.place(host.name()) {
            Place::Home => self.sign_in_url(prefix, Some((self.home_authority(), path)), None),
            Place::Named => {
                let authority = self.authority(host);
                let mut url = self.url(&authority, prefix);
                url.push_str("/login?");
                url.push_str(return_to::PARAMETER);
                url.push('=');
                return_to::encode(&self.url(&authority, path), &mut url);
                // All parts are visible ASCII.
                HeaderValue::try_from(url).unwrap_or(HeaderValue::from_static("/"))
            }
            Place::Other => self.sign_in_url(prefix, None, None),
        }
    }

    /// The names of the nonces in `headers`. Allocates where there are some.
    #[must_use]
    pub fn nonce_names(&self, headers: &HeaderMap) -> Vec<String> {
        self.nonce_cookies(headers)
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// The nonces in `headers`.
    pub(super) fn nonces(&self, headers: &HeaderMap) -> Vec<Nonce> {
        self.nonce_cookies(headers)
            .map(|(name, value)| Nonce {
                name: name.to_owned(),
                hash: hash(value),
            })
            .collect()
    }

    fn nonce_cookies<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> impl Iterator<Item = (&'h str, &'h [u8])> + use<'h> {
        let prefix = self.nonce_prefix();
        let is_nonce = move |name: &str| {
            let rest = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
            rest.is_some_and(|(time, random)| {
                time.len() == DIGITS
                    && time.bytes().all(|byte| byte.is_ascii_digit())
                    && random.len() == RANDOM
                    && random
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            })
        };
        cookie::all(headers)
            .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
            .filter(move |(name, _)| is_nonce(name))
            .take(MOST_SEEN)
    }

    /// `Set-Cookie` that deletes a nonce.
    pub(super) fn delete_nonce(&self, name: &str) -> Option<HeaderValue> {
        self.write_nonce(name, "", 0)
    }

    /// `Lax`, so that it comes along when the browser is led back from another site.
    fn write_nonce(&self, name: &str, value: &str, max_age: UnixSeconds) -> Option<HeaderValue> {
        let secure = if self.is_https() { "; Secure" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age}{secure}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Those that go when one more comes, the oldest.
fn surplus(mut present: Vec<String>) -> Vec<String> {
    present.sort_unstable();
    present.dedup();
    present.truncate((present.len() + 1).saturating_sub(MOST));
    present
}

/// What a parameter says; `None` where it is no hash in its one spelling.
pub(super) fn parse(text: &str) -> Option<TokenHash> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn hash(nonce: &[u8]) -> TokenHash {
    *blake3::hash(nonce).as_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::header::COOKIE;

    use super::*;
    use crate::login::form::parameter;
    use crate::route::NamedHosts;

    const NOW: UnixSeconds = 1_800_000_000;

    fn sites(public_url: &str) -> Sites {
        Sites::new(&public_url.parse().unwrap(), NamedHosts::default())
    }

    fn begin(sites: &Sites, path: &str, present: Vec<String>) -> (String, Vec<String>) {
        let attempt = sites
            .begin(
                "/auth",
                &Host::parse("App.example.com:8443").unwrap(),
                path,
                present,
                NOW,
            )
            .unwrap();
        let cookies = attempt
            .set_cookies
            .iter()
            .map(|cookie| cookie.to_str().unwrap().to_owned())
            .collect();
        assert!(attempt.set_cookies.iter().all(HeaderValue::is_sensitive));
        (attempt.location.to_str().unwrap().to_owned(), cookies)
    }

    #[test]
    fn the_hash_of_the_nonce_goes_along_and_the_nonce_stays() {
        let sites = sites("https://login.example.com");
        let (location, cookies) = begin(&sites, "/a?b=c&d=%20", Vec::new());
        let query = location
            .strip_prefix("https://login.example.com/auth/login?")
            .unwrap();
        let value = |name: &str| parameter(Some(query), name).unwrap().to_string();
        assert_eq!(value("return_to"), "https://app.example.com:8443/a?b=c&d=%20");
        let [set] = &cookies[..] else {
            panic!("{cookies:?}")
        };
        let (pair, attributes) = set.split_once("; ").unwrap();
        assert_eq!(
            attributes,
            "Path=/; HttpOnly; SameSite=Lax; Max-Age=86400; Secure"
        );
        let (name, nonce) = pair.split_once('=').unwrap();
        assert!(name.starts_with("__Host-passgate-nonce-1800000000-"), "{name}");
        assert_eq!(nonce.len(), 43);
        assert!(!location.contains(nonce));
        let headers = HeaderMap::from_iter([(COOKIE, format!("a=b; {pair}").parse().unwrap())]);
        let [known] = &sites.nonces(&headers)[..] else {
            panic!()
        };
        assert_eq!(
            (known.name.as_str(), Some(known.hash)),
            (name, parse(&value("attempt")))
        );
        assert_ne!(begin(&sites, "/a", Vec::new()).1, cookies);
    }

    #[test]
    fn on_plain_http_there_is_no_prefix_and_a_page_that_one_may_not_return_to_is_the_start_page() {
        let (location, cookies) = begin(&sites("http://localhost:8080"), "/auth/login", Vec::new());
        assert!(
            location
                .starts_with("http://localhost:8080/auth/login?return_to=http%3A//app.example.com%3A8443/&")
        );
        assert!(
            cookies[0].starts_with("passgate-nonce-1800000000-") && !cookies[0].contains("Secure"),
            "{cookies:?}"
        );
    }

    #[test]
    fn the_oldest_of_too_many_go() {
        let sites = sites("https://login.example.com");
        let name = |number: usize| format!("__Host-passgate-nonce-179999999{number}-abcdefgh");
        for (present, gone) in [(0, 0), (4, 0), (5, 1), (7, 3)] {
            let cookies = begin(&sites, "/", (0..present).rev().map(name).collect()).1;
            let deleted: Vec<_> = (0..gone)
                .map(|number| {
                    format!(
                        "{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure",
                        name(number)
                    )
                })
                .collect();
            assert_eq!(cookies[..gone], deleted, "{present}");
            assert_eq!(cookies.len(), gone + 1, "{present}");
        }
    }

    #[test]
    fn what_is_not_spelled_as_we_do_is_no_nonce() {
        let sites = sites("https://login.example.com");
        let names =
            |line: String| sites.nonce_names(&HeaderMap::from_iter([(COOKIE, line.parse().unwrap())]));
        for odd in [
            "__Host-passgate-nonce-1=x",
            "__Host-passgate-nonce-180000000x-abcdefgh=x",
            "__Host-passgate-nonce-1800000000-abc defg=x",
            "__host-passgate-nonce-1800000000-abcdefgh=x",
            "passgate-nonce-1800000000-abcdefgh=x",
            "__Host-passgate-nonce-1800000000-abcdefgh",
        ] {
            assert_eq!(names(odd.to_owned()), [""; 0], "{odd}");
        }
        let many: Vec<_> = (0..40)
            .map(|number| format!("__Host-passgate-nonce-18000000{number:02}-abcdefgh=x"))
            .collect();
        assert_eq!(names(many.join("; ")).len(), MOST_SEEN);
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let text = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(parse(&text), Some([7; 32]));
        for wrong in [
            "",
            "x",
            &text[1..],
            &format!("{text}="),
            &format!("{text}A"),
            &format!("{}-", &text[..42]),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
