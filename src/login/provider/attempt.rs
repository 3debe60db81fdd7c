//! An attempt to sign in with a provider, kept in a cookie of the browser that began it.
//!
//! Input: the provider and the return address; later the `state` that comes back. Output: a cookie, and the attempt in it.
//! Invariants: an attempt counts only in the browser that has its cookie, for its provider, and for ten minutes; nonce and
//! code verifier never leave the gateway but to the provider: they are derived from `state` with a key; a browser keeps a
//! few attempts, so that several tabs can sign in and abandoned ones do not pile up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::clock::UnixSeconds;
use crate::http::cookie;
use crate::refusal::Refusal;
use crate::signing::SigningError;
use crate::state::{State, TokenHash};

/// Seconds that an attempt is good for.
pub(super) const LIFETIME: UnixSeconds = 10 * 60;
/// The most attempts that a browser keeps, the new one included.
const MOST: usize = 5;
/// The most that are looked at.
const MOST_SEEN: usize = 16;
/// The longest return address that is kept, in bytes: a longer one leads to the start page.
const MAX_RETURN_TO: usize = 2048;
/// Characters of `state`: base64url of 32 bytes.
const STATE_LENGTH: usize = 43;
/// Of seconds since 1970.
const DIGITS: usize = 10;
/// What tells the names of two attempts of one second apart.
const MARK: usize = 8;

/// What the state knows our secret by.
const SECRET_NAME: &str = "provider-attempts";

/// What a completed attempt leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// A session of this browser.
    SignIn,
    /// The identity is linked to this account, in this session of it.
    Link { account_id: String, session_id: String },
    /// A code for a client without cookies, at its redirect URI.
    Client {
        redirect_uri: String,
        state: String,
        challenge: String,
    },
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) provider: String,
    /// A return address that was fine at the beginning.
    pub(super) return_to: Option<String>,
    /// The hash of the nonce of another host, which sent the browser here.
    pub(super) of_host: Option<String>,
    pub(super) purpose: Purpose,
    /// When it began.
    pub(super) begun: UnixSeconds,
}

/// How the provider leads the browser back, and so which requests the cookie comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// By a GET of the browser.
    ByAddress,
    /// By a form of a page of the provider, which takes `SameSite=None` and so HTTPS.
    ByForm,
}

/// What an attempt is sent to the provider with.
pub(super) struct Secrets {
    /// 256 random bits.
    pub(super) state: String,
    pub(super) nonce: String,
    /// The PKCE code verifier (RFC 7636 section 4.1).
    pub(super) verifier: Zeroizing<String>,
}

/// The keys by which attempts are made and recognized; every process that shares the state has the same.
pub(super) struct AttemptKeys {
    tag: Zeroizing<[u8; 32]>,
    nonce: Zeroizing<[u8; 32]>,
    verifier: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for AttemptKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttemptKeys")
    }
}

impl AttemptKeys {
    /// The keys of `state`; made where there are none.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub(super) fn load_or_create(state: &dyn State) -> Result<Self, SigningError> {
        let mut candidate = Zeroizing::new([0; 32]);
        getrandom::fill(&mut candidate[..]).map_err(|_| SigningError::Cryptography {
            action: "make a secret for sign-ins with providers",
        })?;
        Ok(Self::derive(&*state.ensure_secret(SECRET_NAME, &candidate)?))
    }

    fn derive(secret: &[u8; 32]) -> Self {
        let key = |context| Zeroizing::new(blake3::derive_key(context, secret));
        Self {
            tag: key("passgate 2026-11 provider attempt: tag"),
            nonce: key("passgate 2026-11 provider attempt: nonce"),
            verifier: key("passgate 2026-11 provider attempt: code verifier"),
        }
    }

    /// # Errors
    /// The system has no random numbers.
    pub(super) fn make(&self) -> Result<Secrets, Refusal> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| {
            tracing::error!("a sign-in was not begun: the system has no random numbers");
            Refusal::Internal
        })?;
        Ok(self.secrets(URL_SAFE_NO_PAD.encode(random)))
    }

    pub(super) fn secrets(&self, state: String) -> Secrets {
        let derived =
            |key: &[u8; 32]| URL_SAFE_NO_PAD.encode(blake3::keyed_hash(key, state.as_bytes()).as_bytes());
        Secrets {
            nonce: derived(&self.nonce),
            verifier: Zeroizing::new(derived(&self.verifier)),
            state,
        }
    }

    /// The cookie of an attempt, after the deletions of those that are too many.
    pub(super) fn set_cookies(
        &self,
        jar: &Jar,
        headers: &HeaderMap,
        state: &str,
        attempt: &Attempt,
        way_back: Return,
    ) -> Vec<HeaderValue> {
        let return_to = attempt.return_to.as_ref().filter(|to| to.len() <= MAX_RETURN_TO);
        let content = json!([
            attempt.begun,
            state,
            attempt.provider,
            return_to,
            attempt.of_host,
            attempt.purpose
        ]);
        let content = content.to_string();
        let tag = blake3::keyed_hash(&self.tag, content.as_bytes());
        let value = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(content),
            URL_SAFE_NO_PAD.encode(tag.as_bytes())
        );
        let name = format!("{}{:010}-{}", jar.prefix, attempt.begun.max(0), mark(state));
        let mut present: Vec<String> = jar.all(headers).map(|(name, _)| name.to_owned()).collect();
        present.sort_unstable();
        present.dedup();
        present.truncate((present.len() + 1).saturating_sub(MOST));
        let mut cookies: Vec<_> = present.iter().filter_map(|name| jar.delete(name)).collect();
        cookies.extend(jar.write(&name, &value, LIFETIME, way_back));
        cookies
    }

    /// The attempt that this browser has for `state`, with the name of its cookie.
    pub(super) fn find(
        &self,
        jar: &Jar,
        headers: &HeaderMap,
        state: &str,
        now: UnixSeconds,
    ) -> Option<(Attempt, String)> {
        if state.len() != STATE_LENGTH {
            return None;
        }
        let wanted = mark(state);
        jar.all(headers)
            .filter(|(name, _)| name.ends_with(&wanted))
            .find_map(|(name, value)| Some((self.open(value, state, now)?, name.to_owned())))
    }

    fn open(&self, value: &[u8], state: &str, now: UnixSeconds) -> Option<Attempt> {
        let (content, tag) = std::str::from_utf8(value).ok()?.split_once('.')?;
        let content = URL_SAFE_NO_PAD.decode(content).ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        let expected = blake3::keyed_hash(&self.tag, &content);
        if !bool::from(expected.as_bytes()[..].ct_eq(&tag)) {
            return None;
        }
        type Content = (
            UnixSeconds,
            String,
            String,
            Option<String>,
            Option<String>,
            Purpose,
        );
        let (begun, own, provider, return_to, of_host, purpose): Content =
            serde_json::from_slice(&content).ok()?;
        // An attempt of the future was made before the clock was set back: its age is not known.
        let is_now = (0..LIFETIME).contains(&now.saturating_sub(begun));
        let is_this = bool::from(own.as_bytes().ct_eq(state.as_bytes()));
        (is_now && is_this).then_some(Attempt {
            provider,
            return_to,
            of_host,
            purpose,
            begun,
        })
    }
}

/// By which a completed attempt is remembered.
pub(super) fn hash(state: &str) -> TokenHash {
    *blake3::hash(state.as_bytes()).as_bytes()
}

/// A part of the hash, so that neither the name nor a log of it has the `state`.
fn mark(state: &str) -> String {
    URL_SAFE_NO_PAD.encode(&hash(state)[..MARK / 4 * 3])
}

/// The names and attributes of the cookies.
#[derive(Debug)]
pub(super) struct Jar {
    prefix: String,
    is_https: bool,
}

impl Jar {
    /// `nonce_prefix` is what the gateway's own short-lived cookies begin with; no app sees or sets one of them.
    pub(super) fn new(nonce_prefix: &str, is_https: bool) -> Self {
        Self {
            prefix: format!("{nonce_prefix}provider-"),
            is_https,
        }
    }

    fn all<'h>(&'h self, headers: &'h HeaderMap) -> impl Iterator<Item = (&'h str, &'h [u8])> {
        let is_attempt = |name: &str| {
            let rest = name
                .strip_prefix(&*self.prefix)
                .and_then(|rest| rest.split_once('-'));
            rest.is_some_and(|(time, mark)| {
                time.len() == DIGITS
                    && time.bytes().all(|byte| byte.is_ascii_digit())
                    && mark.len() == MARK
                    && mark
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            })
        };
        cookie::all(headers)
            .filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
            .filter(move |(name, _)| is_attempt(name))
            .take(MOST_SEEN)
    }

    /// Whether the browser has an attempt, of whichever sign-in.
    pub(super) fn has_some(&self, headers: &HeaderMap) -> bool {
        self.all(headers).next().is_some()
    }

    pub(super) fn delete(&self, name: &str) -> Option<HeaderValue> {
        self.write(name, "", 0, Return::ByAddress)
    }

    /// `Lax`, or `None` for a form, so that it comes along when the provider leads the browser back.
    fn write(&self, name: &str, value: &str, max_age: UnixSeconds, way_back: Return) -> Option<HeaderValue> {
        let secure = if self.is_https { "; Secure" } else { "" };
        let same_site = match way_back {
            Return::ByAddress => "Lax",
            Return::ByForm => "None",
        };
        let text =
            format!("{name}={value}; Path=/; HttpOnly; SameSite={same_site}; Max-Age={max_age}{secure}");
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::header::COOKIE;

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;

    fn attempt() -> Attempt {
        Attempt {
            provider: "corp".to_owned(),
            return_to: Some("/a?b=c".to_owned()),
            of_host: None,
            purpose: Purpose::SignIn,
            begun: NOW,
        }
    }

    fn headers(cookies: &[String]) -> HeaderMap {
        HeaderMap::from_iter([(COOKIE, cookies.join("; ").parse().unwrap())])
    }

    fn pair(cookie: &HeaderValue) -> String {
        cookie.to_str().unwrap().split("; ").next().unwrap().to_owned()
    }

    #[test]
    fn an_attempt_counts_in_its_browser_with_its_state_for_ten_minutes() {
        let (keys, jar) = (
            AttemptKeys::derive(&[1; 32]),
            Jar::new("__Host-passgate-nonce-", true),
        );
        let made = keys.make().unwrap();
        assert_eq!((made.state.len(), made.verifier.len()), (43, 43));
        let set = keys.set_cookies(
            &jar,
            &HeaderMap::new(),
            &made.state,
            &attempt(),
            Return::ByAddress,
        );
        let [cookie] = &set[..] else { panic!("{set:?}") };
        let text = cookie.to_str().unwrap();
        assert!(
            text.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure"),
            "{text}"
        );
        assert!(!text.contains(&*made.verifier) && !text.contains(&made.nonce));
        let by_form = keys.set_cookies(&jar, &HeaderMap::new(), &made.state, &attempt(), Return::ByForm);
        let by_form = by_form[0].to_str().unwrap();
        assert!(
            by_form.ends_with("; Path=/; HttpOnly; SameSite=None; Max-Age=600; Secure"),
            "{by_form}"
        );
        let sent = headers(&[pair(cookie)]);
        let found = |keys: &AttemptKeys, headers: &HeaderMap, state: &str, now| {
            keys.find(&jar, headers, state, now).map(|(attempt, _)| attempt)
        };
        assert_eq!(found(&keys, &sent, &made.state, NOW + 599), Some(attempt()));
        for late in [NOW + 600, NOW - 1] {
            assert_eq!(found(&keys, &sent, &made.state, late), None, "{late}");
        }
        let other = keys.make().unwrap();
        assert_eq!(found(&keys, &sent, &other.state, NOW), None);
        assert_eq!(found(&keys, &HeaderMap::new(), &made.state, NOW), None);
        assert_eq!(
            found(&AttemptKeys::derive(&[2; 32]), &sent, &made.state, NOW),
            None
        );
        // Another state under the name of this one, and a byte that was changed.
        let (name, value) = pair(cookie)
            .split_once('=')
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .unwrap();
        let renamed = format!("{}{}={value}", &name[..name.len() - MARK], mark(&other.state));
        assert_eq!(found(&keys, &headers(&[renamed]), &other.state, NOW), None);
        let forged = format!("{name}=A{}", &value[1..]);
        assert_eq!(found(&keys, &headers(&[forged]), &made.state, NOW), None);
    }

    #[test]
    fn nonce_and_verifier_are_of_one_state_and_differ() {
        let keys = AttemptKeys::derive(&[1; 32]);
        let made = keys.make().unwrap();
        let again = keys.secrets(made.state.clone());
        assert_eq!((&again.nonce, &*again.verifier), (&made.nonce, &*made.verifier));
        assert_ne!(made.nonce, *made.verifier);
        assert_ne!(keys.make().unwrap().nonce, made.nonce);
    }

    #[test]
    fn a_browser_keeps_five_attempts_and_loses_the_oldest() {
        let (keys, jar) = (AttemptKeys::derive(&[1; 32]), Jar::new("passgate-nonce-", false));
        let mut cookies: Vec<String> = Vec::new();
        let mut states = Vec::new();
        for number in 0..7 {
            let state = keys.make().unwrap().state;
            let sent = headers(&cookies);
            let begun = Attempt {
                begun: NOW + number,
                ..attempt()
            };
            let set = keys.set_cookies(&jar, &sent, &state, &begun, Return::ByAddress);
            for cookie in &set {
                let (name, value) = pair(cookie)
                    .split_once('=')
                    .map(|(n, v)| (n.to_owned(), v.to_owned()))
                    .unwrap();
                cookies.retain(|known| !known.starts_with(&name));
                if !value.is_empty() {
                    cookies.push(format!("{name}={value}"));
                }
            }
            states.push(state);
        }
        assert_eq!(cookies.len(), MOST);
        let sent = headers(&cookies);
        let is_there: Vec<bool> = states
            .iter()
            .map(|state| keys.find(&jar, &sent, state, NOW + 7).is_some())
            .collect();
        assert_eq!(is_there, [false, false, true, true, true, true, true]);
    }
}
