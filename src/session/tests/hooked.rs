//! A state in which something happens between two of our calls.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::revocation::Revocation;
use crate::state::{
    AccountStore, ClientCodeRow, CodeRow, CodeStore, GrantRow, GrantStore, IdentityRow, IdentityStore, Lease,
    Linked, Reading, RefreshExchange, RevocationStore, SessionStore, Sighting, SigningKeyRow,
    SigningKeyStore, StateErrorKind, TokenHash, Unlinked, Version, Ways,
};

type Deed = Box<dyn FnOnce(&dyn State) + Send>;

pub(super) struct Hooked {
    memory: Sqlite,
    /// Done once, after the next exchange of a refresh token.
    pub(super) after_rotation: Mutex<Option<Deed>>,
    /// Whether noting that a session was seen fails.
    pub(super) touch_fails: AtomicBool,
    /// How often that was noted.
    pub(super) touches: AtomicUsize,
    /// A clock, and how many seconds go by on it while a session is noted as seen.
    pub(super) touch_takes: Mutex<Option<(Clock, i64)>>,
}

impl Default for Hooked {
    fn default() -> Self {
        Self {
            memory: Sqlite::in_memory().unwrap(),
            after_rotation: Mutex::default(),
            touch_fails: AtomicBool::default(),
            touches: AtomicUsize::default(),
            touch_takes: Mutex::default(),
        }
    }
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

pub(super) fn failure() -> StateError {
    StateError::new(StateErrorKind::Failed, "the test says so")
}

macro_rules! pass_on {
    ($store:ident: $($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl $store for Hooked {
            $(fn $name(&self, $($argument: $type),*) -> Result<$result, StateError> { self.memory.$name($($argument),*) })*
        }
    };
}

impl SessionStore for Hooked {
    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Result<bool, StateError> {
        if self.touch_fails.load(Ordering::Relaxed) {
            return Err(failure());
        }
        self.touches.fetch_add(1, Ordering::Relaxed);
        if let Some((clock, seconds)) = &*self.touch_takes.lock().unwrap_or_else(PoisonError::into_inner) {
            clock.advance(*seconds);
        }
        self.memory.touch_session(id, seen)
    }

    fn rotate_refresh(&self, exchange: &RefreshExchange<'_>) -> Result<Rotation, StateError> {
        let rotation = self.memory.rotate_refresh(exchange);
        if let Some(deed) = self
            .after_rotation
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            deed(&self.memory);
        }
        rotation
    }

    fn add_session(&self, session: &SessionRow, password_version: i64) -> Result<bool, StateError> {
        self.memory.add_session(session, password_version)
    }

    fn session(&self, id: &str) -> Result<Option<(SessionRow, AccountRow)>, StateError> {
        self.memory.session(id)
    }

    fn sessions(&self, account_id: Option<&str>) -> Result<Vec<SessionRow>, StateError> {
        self.memory.sessions(account_id)
    }

    fn end_sessions(
        &self,
        which: SessionSelector<'_>,
        end: &EndSessions<'_>,
    ) -> Result<Vec<String>, StateError> {
        self.memory.end_sessions(which, end)
    }
}

pass_on! { RevocationStore:
    version() -> Version;
    revoke(revocation: &Revocation) -> ();
    revocations_after(seen: Option<Version>, over: UnixSeconds) -> Reading;
    purge_revocations(over: UnixSeconds) -> bool;
    try_write() -> ();
}

pass_on! { SigningKeyStore:
    signing_keys() -> Vec<SigningKeyRow>;
    ensure_signing_key(candidate: &SigningKeyRow) -> Vec<SigningKeyRow>;
    rotate_signing_key(next: &SigningKeyRow, now: UnixSeconds, until: UnixSeconds) -> Vec<SigningKeyRow>;
    note_token(key_id: &str, expires_at: UnixSeconds) -> ();
    ensure_secret(name: &str, candidate: &[u8; 32]) -> Zeroizing<[u8; 32]>;
    load_jwks(issuer: &str, url: &str) -> Option<(Vec<u8>, UnixSeconds)>;
    save_jwks(issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> ();
}

pass_on! { AccountStore:
    add_account(account: &AccountRow, first: Option<&str>) -> Added;
    account(id: &str) -> Option<AccountRow>;
    account_by_email(email_key: &str) -> Option<AccountRow>;
    accounts() -> Vec<AccountRow>;
    lookalike(email_key: &str) -> Option<AccountRow>;
    has_enabled_account(role: &str) -> bool;
    change_account(id: &str, change: &AccountChange, end: &EndSessions<'_>) -> Option<AccountRow>;
    rehash_account(id: &str, from: &str, to: &str) -> bool;
    delete_account(id: &str, end: &EndSessions<'_>) -> bool;
    imported_hash(like: &str) -> Option<String>;
}

pass_on! { IdentityStore:
    spend_attempt(hash: &TokenHash, expires_at: UnixSeconds, now: UnixSeconds) -> bool;
    is_spent(hash: &TokenHash, now: UnixSeconds) -> bool;
    identities(account_id: Option<&str>) -> Vec<IdentityRow>;
    account_of_identity(provider: &str, subject: &str) -> Option<AccountRow>;
    link_identity(identity: &IdentityRow, session_id: &str, end: &EndSessions<'_>) -> Linked;
    join_identity(identity: &IdentityRow, email_key: &str, end: &EndSessions<'_>) -> bool;
    unlink_identity(account_id: &str, identity: (&str, &str), ways: &Ways, end: &EndSessions<'_>) -> Unlinked;
    sign_in_identity(identity: &IdentityRow, end: &EndSessions<'_>) -> AccountRow;
    update_identity(identity: &IdentityRow, end: &EndSessions<'_>) -> Option<AccountRow>;
}

pass_on! { GrantStore:
    add_grant(grant: &GrantRow) -> bool;
    grant(session_id: &str) -> Option<GrantRow>;
    lease_due_grants(read_before: UnixSeconds, lease: Lease, most: usize) -> Vec<GrantRow>;
    lease_grant(session_id: &str, lease: Lease) -> Option<GrantRow>;
    save_grant(grant: &GrantRow, leased_until: UnixSeconds) -> bool;
}

pass_on! { CodeStore:
    add_code(code: &CodeRow, now: UnixSeconds) -> bool;
    take_code(hash: &TokenHash) -> Option<CodeRow>;
    add_client_code(code: &ClientCodeRow, now: UnixSeconds) -> bool;
    take_client_code(hash: &TokenHash) -> Option<ClientCodeRow>;
}
