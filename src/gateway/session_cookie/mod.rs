//! The session cookie of a request: its caller, and a new token where the one in it has expired or is stale and its session
//! goes on.
//!
//! Input: the headers of a request. Output: the caller, with a `Set-Cookie` where the token was renewed; or that the cookie
//! does not count. Invariant: the state is read only for a cookie that the gateway's own key has signed, and once for all
//! requests that arrive with the same one.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use moka::sync::Cache;
use tokio::sync::OnceCell;

use super::set_cookie;
use super::tokens::{SignatureGuard, Tokens};
use super::trace::{Silent, Trace};
use crate::blocking::Blocking;
use crate::clock::{Clock, UnixSeconds};
use crate::http::cookie;
use crate::identity::Caller;
use crate::login::{Bounces, Sites};
use crate::refusal::Refusal;
use crate::session::{Cookie, HOST_CLAIM, Sessions, refresh_cookie_name};
use crate::verify::{Verified, Verifier};

/// How long the answer about a session is given to further requests with the old cookie, which were on their way.
const SHARED_FOR: Duration = Duration::from_secs(5);
/// The most sessions that such an answer is kept for.
const SHARED: u64 = 10_000;
/// How often a token is made where the last one is over already: lives of a few seconds can be configured, and an account
/// can change while it is read.
const ATTEMPTS: usize = 3;

/// The session cookie of a gateway with a way to sign in.
#[derive(Debug)]
pub struct SignIn {
    /// The name of the session cookie on the wire.
    pub cookie: String,
    /// Whether the cookie is `SameSite=None`, so that the gateway itself ignores it where `Lax` would keep it back.
    pub same_site_none: bool,
    /// On which hosts people are signed in.
    pub sites: Arc<Sites>,
    /// Takes what such a cookie holds, and no other kind of token.
    pub verifier: Verifier,
    /// `None` where a request is only explained.
    pub renewal: Option<Renewal>,
    /// Whether the sessions that are opened count.
    pub bounces: Arc<Bounces>,
}

/// The way to new tokens.
#[derive(Debug)]
pub struct Renewal {
    sessions: Arc<Sessions>,
    blocking: Arc<Blocking>,
    /// `Set-Cookie` that deletes the cookie.
    clear: HeaderValue,
    /// By session and host: what its first request there is finding out for all.
    shared: Cache<String, Shared>,
}

type Shared = Arc<OnceCell<Option<Cookie>>>;

/// The session cookie of a request.
#[derive(Debug)]
pub(crate) enum SessionCredential {
    /// None.
    Nothing,
    /// One that is no good, or several.
    Bad(Refusal),
    /// A good one; with what to set, where it was renewed.
    Good(Arc<Verified>, Option<HeaderValue>),
}

impl Renewal {
    /// Renewal by `sessions`, on the threads of `blocking`.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, blocking: Arc<Blocking>) -> Self {
        let shared = Cache::builder()
            .max_capacity(SHARED)
            .time_to_live(SHARED_FOR)
            .build();
        Self {
            clear: sessions.clear_cookie(),
            sessions,
            blocking,
            shared,
        }
    }

    /// What is being found out about the session on a host, or was a moment ago.
    fn shared(&self, key: &str) -> Shared {
        match self.shared.get(key) {
            Some(cell) => cell,
            None => self.shared.get_with(key.to_owned(), Arc::default),
        }
    }

    /// Finds it out anew, unless another request has begun to.
    fn forget(&self, key: &str, cell: &Shared) {
        if self
            .shared
            .get(key)
            .is_some_and(|known| Arc::ptr_eq(&known, cell))
        {
            self.shared.invalidate(key);
        }
    }

    /// The cookie of the session on `host`, as it is now; `None` where it is over.
    async fn renew(
        &self,
        cell: &Shared,
        session: &str,
        account: &str,
        host: &str,
        client: IpAddr,
    ) -> Result<Option<(String, HeaderValue)>, Refusal> {
        // Where a request goes away, or its attempt fails, the next one that waits tries.
        let asked = cell.get_or_try_init(|| async {
            let (sessions, session, account) =
                (Arc::clone(&self.sessions), session.to_owned(), account.to_owned());
            let host = host.to_owned();
            let renewed = self
                .blocking
                .run(move || sessions.renew(&session, &account, &host, client));
            Ok::<_, Refusal>(renewed.await??)
        });
        // A request does not wait for the failures of all requests before it.
        let cookie = tokio::time::timeout(self.blocking.patience(), asked).await;
        let cookie = cookie.map_err(|_| Refusal::StateUnavailable)??;
        Ok(cookie
            .as_ref()
            .map(|cookie| (cookie.token.clone(), cookie.set_cookie.clone())))
    }
}

impl SignIn {
    /// The one value of the cookie. Two different values count as none.
    ///
    /// # Errors
    /// [`Refusal::CredentialMalformed`] where there is one and it is no text, or there are several.
    pub fn find<'a>(&'a self, headers: &'a HeaderMap) -> Result<Option<&'a str>, Refusal> {
        let mut values = cookie::values(headers, &self.cookie);
        let Some(first) = values.next() else {
            return Ok(None);
        };
        if values.any(|other| other != first) {
            return Err(Refusal::CredentialMalformed);
        }
        match std::str::from_utf8(first) {
            Ok(token) if !token.is_empty() => Ok(Some(token)),
            _ => Err(Refusal::CredentialMalformed),
        }
    }

    /// Whether a token in the session cookie counts on `host`: it names its host. One that names none was made before there
    /// were several, on the host of `public_url`.
    #[must_use]
    pub fn counts_on(&self, verified: &Verified, host: &str) -> bool {
        match verified.caller.identity.claims.get(HOST_CLAIM) {
            Some(named) => named.as_str() == Some(host),
            None => self.sites.is_home(host),
        }
    }

    /// The caller whom the session cookie in `headers` names, after a renewal where its token has expired or is stale. A
    /// cookie of another host is none.
    ///
    /// # Errors
    /// 503, where that cannot be found out now.
    pub(super) async fn present<T: Trace>(
        &self,
        tokens: Tokens<'_>,
        headers: &HeaderMap,
        host: &str,
        clock: &Clock,
        guard: SignatureGuard<'_>,
        trace: &mut T,
    ) -> Result<SessionCredential, Refusal> {
        let token = match self.find(headers) {
            Ok(None) => {
                trace.step("credential", true, || {
                    format!("session cookie `{}`: there is no such cookie", self.cookie)
                });
                return Ok(SessionCredential::Nothing);
            }
            Ok(Some(token)) => token,
            Err(refusal) => {
                trace.step("credential", true, || {
                    format!(
                        "session cookie `{}`: several, or no text; as good as none",
                        self.cookie
                    )
                });
                return Ok(SessionCredential::Bad(refusal));
            }
        };
        trace.step("credential", true, || {
            format!("session cookie `{}`: a token", self.cookie)
        });
        let verified = tokens.verify(&self.verifier, token, clock.now(), Some(guard), trace);
        match verified.map_err(Refusal::from) {
            Ok(verified) => Ok(self.only_on(host, verified, None, trace)),
            Err(Refusal::Expired | Refusal::Stale) => {
                let old = match self.verifier.verify_expired(token, clock.now()) {
                    Err(refusal) if refusal.is_invalid_token() => {
                        trace.step("credential", true, || {
                            format!("it cannot be renewed, and is as good as none ({refusal})")
                        });
                        return Ok(SessionCredential::Bad(refusal));
                    }
                    old => old?,
                };
                if let SessionCredential::Nothing = self.only_on(host, Arc::clone(&old), None, trace) {
                    return Ok(SessionCredential::Nothing);
                }
                match tokens {
                    Tokens::Cached(_) => self.renew(tokens, &old, host, clock, guard.client).await,
                    Tokens::Examined(sessions) => look_up(sessions, &old, trace),
                }
            }
            Err(refusal) if refusal.is_invalid_token() => {
                trace.step("credential", true, || {
                    format!("a bad cookie is as good as none ({refusal})")
                });
                Ok(SessionCredential::Bad(refusal))
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn only_on<T: Trace>(
        &self,
        host: &str,
        verified: Arc<Verified>,
        set_cookie: Option<HeaderValue>,
        trace: &mut T,
    ) -> SessionCredential {
        if self.counts_on(&verified, host) {
            return SessionCredential::Good(verified, set_cookie);
        }
        trace.step("credential", true, || {
            "it is for another host, and is as good as none".to_owned()
        });
        SessionCredential::Nothing
    }

    /// The caller of the cookie, also of an expired one, without a renewal: for signing out.
    pub(super) fn recognize(
        &self,
        headers: &HeaderMap,
        host: &str,
        now: UnixSeconds,
    ) -> Option<Arc<Verified>> {
        let token = self.find(headers).ok()??;
        self.verifier
            .verify_expired(token, now)
            .ok()
            .filter(|verified| self.counts_on(verified, host))
    }

    async fn renew(
        &self,
        tokens: Tokens<'_>,
        old: &Verified,
        host: &str,
        clock: &Clock,
        client: IpAddr,
    ) -> Result<SessionCredential, Refusal> {
        let identity = &old.caller.identity;
        let (Some(session), Some(renewal)) = (&identity.session_id, &self.renewal) else {
            return Ok(SessionCredential::Bad(Refusal::Expired));
        };
        // A cookie made for one host is never given to another.
        let key = format!("{session} {host}");
        for _ in 0..ATTEMPTS {
            let cell = renewal.shared(&key);
            let renewed = renewal
                .renew(&cell, session, &identity.subject, host, client)
                .await?;
            let Some((token, set_cookie)) = renewed else {
                return Ok(SessionCredential::Bad(Refusal::Expired));
            };
            // By the time of now: the token is younger than the question that it answers.
            let verified = tokens.verify(&self.verifier, &token, clock.now(), None, &mut Silent);
            match verified.map_err(Refusal::from) {
                Ok(verified) => return Ok(SessionCredential::Good(verified, Some(set_cookie))),
                Err(Refusal::Expired | Refusal::Stale) => renewal.forget(&key, &cell),
                // Ended since.
                Err(refusal) if refusal.is_invalid_token() => return Ok(SessionCredential::Bad(refusal)),
                Err(refusal) => return Err(refusal),
            }
        }
        // The session lives, and its tokens do not live for as long as it takes to make one.
        Err(Refusal::StateUnavailable)
    }

    /// `Set-Cookie` that deletes the cookie, where it is no good because of `refusal`. One that is good a little later
    /// stays: a clock that was put back ends no session.
    pub(super) fn clear(&self, refusal: Refusal) -> Option<HeaderValue> {
        self.renewal
            .as_ref()
            .filter(|_| refusal != Refusal::NotYetValid)
            .map(|renewal| renewal.clear.clone())
    }

    /// Whether a cookie of this name is ours: the session's, that of a refresh token, or a nonce.
    pub(super) fn is_our_name(&self, name: &[u8]) -> bool {
        name == self.cookie.as_bytes()
            || name == refresh_cookie_name(self.sites.is_https()).as_bytes()
            || name.starts_with(self.sites.nonce_prefix().as_bytes())
    }

    /// Removes from an app's answer each `Set-Cookie` of a cookie of the gateway, so that no app signs a browser in or out.
    /// Returns how many there were.
    pub(super) fn strip_set_cookie(&self, headers: &mut HeaderMap) -> usize {
        set_cookie::strip(headers, |name| self.is_our_name(name))
    }

    /// Adds `set_cookie` to an answer that does not set the cookie itself. No cache may keep such an answer for others.
    pub(super) fn set_cookie(&self, headers: &mut HeaderMap, set_cookie: HeaderValue) {
        let is_set = headers
            .get_all(SET_COOKIE)
            .iter()
            .any(|field| set_cookie::name_of(field) == self.cookie.as_bytes());
        if !is_set {
            set_cookie::add(headers, set_cookie);
        }
    }
}

/// The caller for whom a cookie would be renewed whose token has expired, with the roles of now.
fn look_up<T: Trace>(
    sessions: Option<&Sessions>,
    old: &Verified,
    trace: &mut T,
) -> Result<SessionCredential, Refusal> {
    let mut identity = old.caller.identity.clone();
    let session = identity.session_id.clone().unwrap_or_default();
    let account = match sessions {
        Some(sessions) => sessions.would_renew(&session, &identity.subject)?,
        None => None,
    };
    let Some(account) = account else {
        trace.step("credential", true, || {
            "its session is over, so that it is as good as none".to_owned()
        });
        return Ok(SessionCredential::Bad(Refusal::Expired));
    };
    trace.step("credential", true, || {
        "its session goes on: the gateway renews it here, with the roles as they are now".to_owned()
    });
    identity.roles = account.all_roles();
    identity.email = account.known_email().map(str::to_owned);
    identity.name = account.name;
    let mut renewed = old.clone();
    renewed.caller = Arc::new(Caller::new(identity));
    Ok(SessionCredential::Good(Arc::new(renewed), None))
}

#[cfg(test)]
mod tests;
