//! Sessions: opened after a proven sign-in, renewed, refreshed, ended.
//!
//! Input: an account whose password was proven; later a session's id from a cookie that we signed, or a refresh token.
//! Output: cookies and tokens with the claims that the state has now. This process's [`Revocations`] refuse an ended session
//! before [`Sessions::end`] returns. Invariants: no cookie or token for a session that is over or an account that is
//! disabled; no session id outlives a sign-in; no log has a token.

mod client_code;
mod code;
mod cookie;
mod device;
mod error;
mod openings;
mod provider_logout;
mod refresh;
#[cfg(test)]
mod tests;
mod token;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use subtle::ConstantTimeEq as _;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::clock::{Clock, UnixSeconds};
use crate::identity::SESSION_ISSUER;
use crate::revocation::{Revocation, Target};
use crate::signing::{SigningError, SigningKeys};
use crate::state::{
    AccountRow, Authentication, Authorities, EndCause, EndSessions, RefreshExchange, RefreshRow, Rotation,
    SessionRow, SessionSelector, Sighting, State, StateError, TOKEN_MARGIN,
};
use crate::verify::{Change, Revocations};
use code::CodeKey;
use device::{address_text, shorten};
use refresh::RefreshKeys;

pub(crate) use client_code::ClientAttempt;
pub(crate) use code::{Arrival, Destination};
pub(crate) use cookie::{RefreshCookie, deletion, refresh_cookie_name, wire_name};
pub use device::Device;
pub(crate) use error::SessionError;
pub(crate) use openings::{Openings, PER_MINUTE};
pub(crate) use provider_logout::ProviderLogout;
pub(crate) use token::HOST_CLAIM;

/// For how many seconds after its exchange a refresh token is taken for a client's retry.
pub(crate) const GRACE: UnixSeconds = 10;
/// How many sessions of one account live at a time.
pub(crate) const MOST_SESSIONS: usize = 100;
/// The longest `token_lifetime` that the configuration takes, in seconds.
const LONGEST_TOKEN: UnixSeconds = 24 * 60 * 60;
/// By how many seconds a token may outlive what was noted of its session; less than [`TOKEN_MARGIN`], for which the end of
/// a session is remembered longer.
const UNNOTED: UnixSeconds = TOKEN_MARGIN / 2;

/// The settings of sessions. Times are in seconds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name as it is on the wire, see [`wire_name`]; a token (RFC 6265 section 4.1.1).
    pub cookie: String,
    /// Whether the cookie is `Secure`.
    pub secure: bool,
    /// Whether the cookie is `SameSite=None` instead of `Lax`.
    pub same_site_none: bool,
    /// Of the JWT in the cookie and of access tokens, at most.
    pub token_lifetime: UnixSeconds,
    /// How long a browser's session may go unused. An API client's refresh token is good for all of `lifetime`.
    pub idle_timeout: UnixSeconds,
    /// From signing in to signing in again.
    pub lifetime: UnixSeconds,
    /// `iss` and `aud`.
    pub public_url: String,
    /// Whether tokens do not mark an unconfirmed address: apps then get it as any other.
    pub trust_unconfirmed_email: bool,
    /// The providers that are authoritative for a domain.
    pub authorities: Arc<Authorities>,
}

impl Settings {
    /// Until when the end of a session must be remembered that ends at `now` and does not say itself until when its tokens
    /// live ([`SessionRow::tokens_until`]): those that were signed carry an `exp` of at most the `token_lifetime` of then,
    /// which may have been the longest that can be configured.
    #[must_use]
    pub fn revoked_until(&self, now: UnixSeconds) -> UnixSeconds {
        now.saturating_add(self.token_lifetime.max(LONGEST_TOKEN))
            .saturating_add(TOKEN_MARGIN)
    }

    /// Whether the address of an account counts as verified.
    #[must_use]
    pub fn is_verified(&self, account: &AccountRow) -> bool {
        let provider = account.made_by().map(|(provider, _)| provider);
        match (provider, self.authorities.of(&account.email)) {
            (Some(provider), Some(authority)) => account.confirmed && provider == authority,
            (Some(_), None) | (None, Some(_)) => account.confirmed,
            (None, None) => account.confirmed || self.trust_unconfirmed_email,
        }
    }

    /// Whether `session` is past one of its limits.
    #[must_use]
    pub fn is_over(&self, session: &SessionRow, now: UnixSeconds) -> bool {
        let is_idle = session.refresh.is_none() && now >= session.seen_at.saturating_add(self.idle_timeout);
        now >= session.expires_at || is_idle
    }
}

/// The tokens of an API client.
pub struct Tokens {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// For one [`Sessions::refresh`].
    pub refresh_token: Zeroizing<String>,
    /// Seconds that the access token lives.
    pub expires_in: UnixSeconds,
    /// Seconds until the session ends, and with it the refresh token.
    pub session_ends_in: UnixSeconds,
    /// The session's name.
    pub session_id: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens")
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// A browser's session, opened or renewed.
pub struct Cookie {
    /// The JWT alone, as it would come back.
    pub token: String,
    /// `Set-Cookie`, marked sensitive.
    pub set_cookie: HeaderValue,
    /// The session's name.
    pub session_id: String,
}

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookie")
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// All sessions. All methods block, on the state, but for those that say otherwise: none is for a worker.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    state: Arc<dyn State>,
    signing: Arc<ArcSwap<SigningKeys>>,
    revocations: Arc<Revocations>,
    clock: Clock,
    openings: Arc<Openings>,
    keys: RefreshKeys,
    codes: CodeKey,
    clear_cookie: HeaderValue,
    renewed: Notify,
}

impl Sessions {
    /// The sessions in `state`; each end is put into `revocations`.
    ///
    /// # Errors
    /// The state cannot be used, or the system has no random numbers.
    pub fn new(
        settings: Settings,
        state: Arc<dyn State>,
        signing: Arc<ArcSwap<SigningKeys>>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, SigningError> {
        let (keys, codes) = (
            RefreshKeys::load_or_create(&*state)?,
            CodeKey::load_or_create(&*state)?,
        );
        let clear_cookie =
            cookie::clear(&settings).expect("a cookie's name is a token, and a token is a header value");
        let openings = Arc::default();
        Ok(Self {
            settings,
            state,
            signing,
            revocations,
            clock,
            openings,
            keys,
            codes,
            clear_cookie,
            renewed: Notify::new(),
        })
    }

    /// The same, counted together with what was opened under an earlier configuration.
    #[must_use]
    pub fn counted_by(mut self, openings: Arc<Openings>) -> Self {
        self.openings = openings;
        self
    }

    /// [`Settings::revoked_until`], for a session that ends now. Does not block.
    #[must_use]
    pub fn revoked_until(&self) -> UnixSeconds {
        self.settings.revoked_until(self.clock.now())
    }

    /// Ready when a session was renewed here since the last time. Does not block.
    pub(crate) async fn renewed(&self) {
        self.renewed.notified().await;
    }

    /// Seconds that a token lives. Does not block.
    pub(crate) fn token_lifetime(&self) -> UnixSeconds {
        self.settings.token_lifetime
    }

    /// Signs a browser in, authenticated as `how` says, on `host`, the name without a port, which is the only one that its cookie counts on.
    ///
    /// # Errors
    /// [`SessionError::AccountChanged`] where the account was disabled, deleted or got another password since it was read;
    /// [`SessionError::Throttled`] where it has opened too many within a minute.
    pub fn open_browser(
        &self,
        account: &AccountRow,
        how: Authentication,
        device: &Device,
        host: &str,
    ) -> Result<Cookie, SessionError> {
        let now = self.clock.now();
        let id = token::new_id(now)?.to_string();
        let session = self.new_session(id, account, how, device, None, now)?;
        // Signed before it is added, so that nothing is left behind where that fails.
        let cookie = self.cookie(&session, account, host, now, UnixSeconds::MAX)?;
        self.add(&session, account, now)?;
        Ok(cookie)
    }

    /// Signs an API client in.
    ///
    /// # Errors
    /// As [`Sessions::open_browser`].
    pub fn open_client(
        &self,
        account: &AccountRow,
        how: Authentication,
        device: &Device,
    ) -> Result<Tokens, SessionError> {
        let now = self.clock.now();
        let id = token::new_id(now)?;
        let made = self.keys.make(id)?;
        let refresh = RefreshRow {
            current: made.hash,
            previous: None,
            rotated_at: now,
        };
        let session = self.new_session(id.to_string(), account, how, device, Some(refresh), now)?;
        let tokens = self.tokens(&session, account, made.text, now, UnixSeconds::MAX)?;
        self.add(&session, account, now)?;
        Ok(tokens)
    }

    /// A new cookie for `host`, for one whose JWT was good there, revocation included, and has expired. `Ok(None)`: the
    /// session is over, or is not this account's, or the account is disabled.
    ///
    /// # Errors
    /// The state cannot be read, or signing fails.
    pub fn renew(
        &self,
        session_id: &str,
        account_id: &str,
        host: &str,
        address: IpAddr,
    ) -> Result<Option<Cookie>, SessionError> {
        Ok(self
            .renew_for(session_id, account_id, host, address)?
            .map(|(cookie, _)| cookie))
    }

    /// The same, with the account.
    fn renew_for(
        &self,
        session_id: &str,
        account_id: &str,
        host: &str,
        address: IpAddr,
    ) -> Result<Option<(Cookie, AccountRow)>, SessionError> {
        let now = self.clock.now();
        let Some((session, account)) = self.browser_of(session_id, account_id)? else {
            return Ok(None);
        };
        if self.is_over(&session, now) {
            self.end(SessionSelector::One(session_id), EndCause::Expired)?;
            return Ok(None);
        }
        let until = token::expires_at(&self.settings, &session, now);
        let mut latest = until.saturating_add(UNNOTED);
        // Of many requests at once the first one writes.
        if session.seen_at < now || session.tokens_until.is_some_and(|known| known < until) {
            let seen = Sighting {
                at: now,
                address: &address_text(address),
                tokens_until: until,
            };
            match self.state.touch_session(session_id, &seen) {
                Ok(true) => self.renewed.notify_one(),
                // It has ended since it was read.
                Ok(false) => return Ok(None),
                Err(error) => {
                    // The session then ends too early, never too late: a full disk does not end it at once. The token
                    // expires before the end of its session is forgotten.
                    tracing::error!(%error, "failed to update the session's last-seen time");
                    latest = now.saturating_add(UNNOTED);
                }
            }
        }
        // Read the clock again: after a wait for another process a short-lived token would have expired already.
        let cookie = self.cookie(&session, &account, host, self.clock.now(), latest)?;
        Ok(Some((cookie, account)))
    }

    /// The account that [`Sessions::renew`] would renew the cookie of; changes nothing.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn would_renew(
        &self,
        session_id: &str,
        account_id: &str,
    ) -> Result<Option<AccountRow>, SessionError> {
        let now = self.clock.now();
        let found = self.browser_of(session_id, account_id)?;
        Ok(found
            .filter(|(session, _)| !self.is_over(session, now))
            .map(|(_, account)| account))
    }

    /// A browser's session, and its account, which may use it.
    fn browser_of(
        &self,
        session_id: &str,
        account_id: &str,
    ) -> Result<Option<(SessionRow, AccountRow)>, SessionError> {
        let found = self.state.session(session_id)?;
        Ok(found.filter(|(session, account)| {
            session.refresh.is_none() && session.account_id == account_id && !account.disabled
        }))
    }

    /// Exchanges a refresh token for the next one (RFC 6749 section 6, RFC 9700 section 4.14.2).
    ///
    /// # Errors
    /// [`SessionError::RefreshRefused`]; [`SessionError::RefreshReused`] where it was spent before, which has ended its session.
    pub fn refresh(&self, token: &str, address: IpAddr) -> Result<Tokens, SessionError> {
        let now = self.clock.now();
        let presented = self.keys.parse(token).ok_or(SessionError::RefreshRefused)?;
        let id = presented.session_id.as_str();
        let (session, account) = self.state.session(id)?.ok_or(SessionError::RefreshRefused)?;
        if session.refresh.is_none() || account.disabled {
            return Err(SessionError::RefreshRefused);
        }
        if self.is_over(&session, now) {
            self.end(SessionSelector::One(id), EndCause::Expired)?;
            return Err(SessionError::RefreshRefused);
        }
        let next = self.keys.successor(&presented);
        let address = address_text(address);
        let until = token::expires_at(&self.settings, &session, now);
        let seen = Sighting {
            at: now,
            address: &address,
            tokens_until: until,
        };
        let exchange = RefreshExchange {
            id,
            presented: &presented.hash,
            successor: &next.hash,
            grace: GRACE,
            seen,
        };
        match self.state.rotate_refresh(&exchange)? {
            Rotation::Rotated | Rotation::Repeated => {
                // Read again: what has changed since must count, an end above all.
                let (session, account) = self.state.session(id)?.ok_or(SessionError::RefreshRefused)?;
                if account.disabled {
                    return Err(SessionError::RefreshRefused);
                }
                self.renewed.notify_one();
                // A retry notes nothing, and comes at most the grace after what was noted.
                self.tokens(&session, &account, next.text, now, until)
            }
            Rotation::Spent => {
                tracing::warn!(
                    account = ?account.id,
                    session = id,
                    address,
                    "a refresh token was used twice, so it may be stolen; its session is ended"
                );
                self.end(SessionSelector::One(id), EndCause::RefreshTokenReused)?;
                Err(SessionError::RefreshReused)
            }
            Rotation::Missing => Err(SessionError::RefreshRefused),
        }
    }

    /// Whether `token` was made here, used or not. Does not block: a made-up token is refused before it
    /// takes a place in the queue for the state.
    #[must_use]
    pub fn is_refresh_token(&self, token: &str) -> bool {
        self.keys.parse(token).is_some()
    }

    /// The session that a refresh token belongs to, if the token would be exchanged now, or answered as a retry.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn of_refresh_token(&self, token: &str) -> Result<Option<SessionRow>, SessionError> {
        let now = self.clock.now();
        let Some(presented) = self.keys.parse(token) else {
            return Ok(None);
        };
        let Some((session, _)) = self.state.session(&presented.session_id)? else {
            return Ok(None);
        };
        let is_good = session.refresh.is_some_and(|known| {
            let is_retry = known
                .previous
                .is_some_and(|previous| bool::from(previous.ct_eq(&presented.hash)))
                && now.abs_diff(known.rotated_at) <= GRACE.unsigned_abs();
            bool::from(known.current.ct_eq(&presented.hash)) || is_retry
        });
        Ok((is_good && !self.is_over(&session, now)).then_some(session))
    }

    /// Ends sessions: their tokens are refused in this process when it returns, and in others when they next look. The
    /// ids of those that were there.
    ///
    /// # Errors
    /// The state cannot be written; then nothing has ended.
    pub fn end(&self, which: SessionSelector<'_>, cause: EndCause) -> Result<Vec<String>, SessionError> {
        Ok(self.end_rows(which, cause)?)
    }

    /// Of an account, without those that are over, the one last seen first.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn list(&self, account_id: &str) -> Result<Vec<SessionRow>, SessionError> {
        let now = self.clock.now();
        let mut sessions = self.state.sessions(Some(account_id))?;
        sessions.retain(|session| !self.is_over(session, now));
        Ok(sessions)
    }

    /// `Set-Cookie` that deletes the cookie. Does not block.
    #[must_use]
    pub fn clear_cookie(&self) -> HeaderValue {
        self.clear_cookie.clone()
    }

    /// Ends what is over by its limits, and says how many that were. To be called every now and then.
    ///
    /// # Errors
    /// The state cannot be written; some may have ended then, and the rest waits for the next time.
    pub fn sweep(&self) -> Result<usize, StateError> {
        let over = SessionSelector::Over {
            now: self.clock.now(),
            idle: self.settings.idle_timeout,
        };
        self.end_rows(over, EndCause::Expired).map(|ended| ended.len())
    }

    /// Inside [`Revocations::reconcile`]: a reading of all revocations meanwhile would not have these yet, and must not be
    /// put in force after them.
    fn end_rows(&self, which: SessionSelector<'_>, cause: EndCause) -> Result<Vec<String>, StateError> {
        self.revocations.reconcile(|| {
            let now = self.clock.now();
            // The latest for any of them; a reader of the rows learns the time of each.
            let revoked_until = self.settings.revoked_until(now);
            let ended = self.state.end_sessions(
                which,
                &EndSessions {
                    now,
                    revoked_until,
                    keep: None,
                    cause,
                },
            )?;
            let row = |id: &String| Revocation {
                issuer: SESSION_ISSUER.to_owned(),
                target: Target::Session(id.clone()),
                revoked_at: now,
                expires_at: Some(revoked_until),
            };
            let rows = ended.iter().map(row).collect();
            Ok((ended, Change::Add(rows)))
        })
    }

    /// Past one of its limits, or opened before everything that its account had been issued was revoked.
    fn is_over(&self, session: &SessionRow, now: UnixSeconds) -> bool {
        self.settings.is_over(session, now)
            || self.revocations.covers_session(
                SESSION_ISSUER,
                &session.id,
                &session.account_id,
                session.created_at,
            )
    }

    fn new_session(
        &self,
        id: String,
        account: &AccountRow,
        how: Authentication,
        device: &Device,
        refresh: Option<RefreshRow>,
        now: UnixSeconds,
    ) -> Result<SessionRow, SessionError> {
        if !self.openings.admit(&account.id, now) {
            tracing::warn!(account = ?account.id, "an account opened {PER_MINUTE} sessions within a minute; further ones are refused until the minute is over");
            return Err(SessionError::Throttled);
        }
        let mut session = SessionRow {
            id,
            account_id: account.id.clone(),
            created_at: now,
            seen_at: now,
            expires_at: now.saturating_add(self.settings.lifetime),
            tokens_until: None,
            user_agent: shorten(&device.user_agent),
            address: address_text(device.address),
            refresh,
            authentication: how,
        };
        session.tokens_until = Some(token::expires_at(&self.settings, &session, now));
        Ok(session)
    }

    /// Adds a session, and ends those that are too many then.
    fn add(&self, session: &SessionRow, account: &AccountRow, now: UnixSeconds) -> Result<(), SessionError> {
        if !self.state.add_session(session, account.password_version)? {
            return Err(SessionError::AccountChanged);
        }
        if provider_logout::is_over_at_provider(&*self.state, session, now)? {
            self.end(SessionSelector::One(&session.id), EndCause::Provider)?;
            return Err(SessionError::OverAtProvider);
        }
        // Afterwards, so that of several that sign in at once the last one sees them all. The session is open by now: a
        // failure here goes to the log, and the next sign-in tries again.
        let mut others = match self.state.sessions(Some(&account.id)) {
            Ok(others) => others,
            Err(error) => {
                tracing::error!(%error, "cannot count the sessions of an account");
                return Ok(());
            }
        };
        let too_many = others.len().saturating_sub(MOST_SESSIONS);
        if too_many == 0 {
            return Ok(());
        }
        others.retain(|other| other.id != session.id);
        // What is over by its limits goes first, then what was not seen for longest; of two the older one.
        others.sort_by_cached_key(|other| {
            (
                !self.is_over(other, now),
                other.seen_at,
                other.created_at,
                other.id.clone(),
            )
        });
        for other in others.iter().take(too_many) {
            if let Err(error) = self.end(SessionSelector::One(&other.id), EndCause::TooMany) {
                tracing::error!(%error, "cannot end the oldest session of an account");
                break;
            }
        }
        Ok(())
    }

    fn cookie(
        &self,
        session: &SessionRow,
        account: &AccountRow,
        host: &str,
        now: UnixSeconds,
        latest: UnixSeconds,
    ) -> Result<Cookie, SessionError> {
        let signed = token::sign(
            &self.settings,
            &self.signing.load(),
            session,
            account,
            Some(host),
            now,
            latest,
        )?;
        let max_age = session.expires_at.saturating_sub(now);
        let set_cookie = cookie::set(&self.settings, &signed.text, max_age).ok_or_else(|| {
            SessionError::CookieTooLong {
                account: account.id.clone(),
                bytes: signed.text.len(),
            }
        })?;
        Ok(Cookie {
            token: signed.text,
            set_cookie,
            session_id: session.id.clone(),
        })
    }

    fn tokens(
        &self,
        session: &SessionRow,
        account: &AccountRow,
        refresh_token: Zeroizing<String>,
        now: UnixSeconds,
        latest: UnixSeconds,
    ) -> Result<Tokens, SessionError> {
        let signed = token::sign(
            &self.settings,
            &self.signing.load(),
            session,
            account,
            None,
            now,
            latest,
        )?;
        Ok(Tokens {
            access_token: signed.text,
            refresh_token,
            expires_in: signed.expires_at.saturating_sub(now),
            session_ends_in: session.expires_at.saturating_sub(now),
            session_id: session.id.clone(),
        })
    }
}
