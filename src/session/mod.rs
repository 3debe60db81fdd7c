//! Sessions: opened by who has proven to be somebody, renewed, refreshed, ended.
#![allow(clippy::todo, unused_variables, dead_code, missing_docs)]

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::{Clock, UnixSeconds};
use crate::refusal::Refusal;
use crate::signing::SigningKeys;
use crate::state::{AccountRow, SessionRow, State, StateError, Which};
use crate::verify::Revocations;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The name as it is on the wire: without `__Host-` or `__Secure-` on plain http.
    pub cookie: String,
    /// Whether the cookie is `Secure`.
    pub secure: bool,
    /// Seconds, all three.
    pub token_lifetime: UnixSeconds,
    pub idle_timeout: UnixSeconds,
    pub lifetime: UnixSeconds,
    /// `iss` and `aud`.
    pub public_url: String,
}

/// Where somebody signs in from.
#[derive(Clone, Debug)]
pub struct Device {
    /// As sent, or empty.
    pub user_agent: String,
    pub address: IpAddr,
}

/// What an API client gets.
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: Zeroizing<String>,
    /// Seconds.
    pub expires_in: UnixSeconds,
    pub session_id: String,
}

/// A browser's session, opened or renewed.
pub struct Cookie {
    /// The JWT alone, as it would come back.
    pub token: String,
    /// `Set-Cookie`, marked sensitive.
    pub set_cookie: HeaderValue,
    pub session_id: String,
}

/// All methods block, on the state, but for those that say otherwise.
#[derive(Debug)]
pub struct Sessions {
    settings: Settings,
    state: Arc<dyn State>,
    signing: Arc<ArcSwap<SigningKeys>>,
    revocations: Arc<Revocations>,
    clock: Clock,
}

impl Sessions {
    pub fn new(
        settings: Settings,
        state: Arc<dyn State>,
        signing: Arc<ArcSwap<SigningKeys>>,
        revocations: Arc<Revocations>,
        clock: Clock,
    ) -> Result<Self, StateError> {
        todo!()
    }
    /// Does not block.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
    /// Does not block.
    pub fn revoked_until(&self) -> UnixSeconds {
        todo!()
    }
    /// `LoginRefused` where the account was disabled, deleted or got another password meanwhile.
    pub fn open_browser(&self, account: &AccountRow, device: &Device) -> Result<Cookie, Refusal> {
        todo!()
    }
    pub fn open_client(&self, account: &AccountRow, device: &Device) -> Result<Tokens, Refusal> {
        todo!()
    }
    /// For a cookie whose JWT was good and has expired. `Ok(None)`: the session is over.
    pub fn renew(&self, session_id: &str, account_id: &str, address: IpAddr) -> Result<Option<Cookie>, Refusal> {
        todo!()
    }
    /// `RefreshRefused`, `RefreshReused`.
    pub fn refresh(&self, token: &str, address: IpAddr) -> Result<Tokens, Refusal> {
        todo!()
    }
    /// The session that a refresh token belongs to, if it is the good one.
    pub fn of_refresh_token(&self, token: &str) -> Result<Option<SessionRow>, Refusal> {
        todo!()
    }
    /// Holds in this process when it returns. The ids of those that were there.
    pub fn end(&self, which: Which<'_>) -> Result<Vec<String>, Refusal> {
        todo!()
    }
    /// Of an account, without those that are over.
    pub fn list(&self, account_id: &str) -> Result<Vec<SessionRow>, Refusal> {
        todo!()
    }
    /// `Set-Cookie` that deletes the cookie. Does not block.
    pub fn clear_cookie(&self) -> HeaderValue {
        todo!()
    }
    /// Ends what is over by its limits. To be called every now and then.
    pub fn sweep(&self) -> Result<usize, StateError> {
        todo!()
    }
}
