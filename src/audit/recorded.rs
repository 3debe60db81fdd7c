//! A state whose changes are in the audit log.
//!
//! Input: calls of the state. Output: the same results, and an event for each act, noted after it was committed. A method
//! that the state gets later does not compile before it is decided here what it is for the audit log.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::event::{Event, Origin, Whom, text};
use super::{Audit, scope};
use crate::clock::UnixSeconds;
use crate::revocation::{Revocation, Target};
use crate::state::{
    AccountChange, AccountRow, AccountStore, Added, ClientCodeRow, CodeRow, CodeStore, EndCause, EndSessions,
    GrantRow, GrantStore, IdentityRow, IdentityStore, Lease, Linked, Reading, RefreshExchange,
    RevocationStore, Rotation, SessionRow, SessionSelector, SessionStore, Sighting, SigningKeyRow,
    SigningKeyStore, State, StateError, StateErrorKind, TokenHash, Unlinked, Version, Ways,
};

/// What happens where no work of a request is under way.
#[derive(Debug)]
pub(crate) enum Outside {
    /// A command: the file is opened before the first change, and a line that cannot be written is an error.
    Command(Origin),
    /// The gateway itself, which answers no one: the diagnostics say it.
    Gateway,
}

/// See the file.
#[derive(Debug)]
pub(crate) struct RecordedState {
    state: Arc<dyn State>,
    audit: Audit,
    outside: Outside,
}

/// What the state answers.
type Done<T> = Result<T, StateError>;

impl RecordedState {
    pub(crate) fn new(state: Arc<dyn State>, audit: Audit, outside: Outside) -> Self {
        Self {
            state,
            audit,
            outside,
        }
    }

    /// Before a change.
    fn begin(&self) -> Done<()> {
        match self.outside {
            Outside::Gateway => Ok(()),
            Outside::Command(_) => self
                .audit
                .make_ready()
                .map_err(|error| StateError::new(StateErrorKind::Failed, error)),
        }
    }

    /// After it.
    fn note(&self, events: Vec<Event>) -> Done<()> {
        let Some(events) = scope::note(events) else {
            return Ok(());
        };
        let (origin, is_command) = match &self.outside {
            Outside::Command(origin) => (origin.clone(), true),
            Outside::Gateway => (Origin::gateway(), false),
        };
        match self.audit.record(&origin, &events) {
            Ok(()) => Ok(()),
            Err(error) if is_command => Err(StateError::new(
                StateErrorKind::Failed,
                format!(
                    "the change was made, and cannot be written to the audit log `{}`: {error}",
                    self.audit.path().display()
                ),
            )),
            Err(_) => Ok(()),
        }
    }

    /// What is called so; its id alone where that cannot be read.
    fn whom(&self, id: &str) -> Whom {
        let account = self.state.account(id).ok().flatten();
        account.map_or_else(|| Whom::new(id, None), |account| Whom::from(&account))
    }

    /// The account as it is after a change; as it was, where that cannot be read.
    fn after(&self, before: &AccountRow) -> AccountRow {
        let after = self.state.account(&before.id).ok().flatten();
        after.unwrap_or_else(|| before.clone())
    }

    /// The end of all sessions of an account, which end with its change.
    fn ended_with(
        &self,
        sessions: &[SessionRow],
        whom: &Whom,
        keep: Option<&str>,
        cause: EndCause,
    ) -> Vec<Event> {
        let ended = sessions.iter().filter(|session| Some(&*session.id) != keep);
        ended
            .map(|session| Event::SessionEnded {
                account: Some(whom.clone()),
                session: session.id.clone(),
                cause,
            })
            .collect()
    }
}

/// What differs of an account after a change.
fn differences(before: &AccountRow, after: &AccountRow, has_password: bool) -> Vec<Event> {
    let account = Whom::from(after);
    let mut events = Vec::new();
    match (before.disabled, after.disabled) {
        (false, true) => events.push(Event::AccountDisabled {
            account: account.clone(),
        }),
        (true, false) => events.push(Event::AccountEnabled {
            account: account.clone(),
        }),
        _ => {}
    }
    if after.confirmed && !before.confirmed {
        events.push(Event::AccountConfirmed {
            account: account.clone(),
        });
    }
    if has_password {
        events.push(Event::PasswordChanged {
            account: account.clone(),
        });
    }
    if before.name != after.name {
        events.push(Event::NameChanged {
            account: account.clone(),
        });
    }
    let (before, after) = (before.all_roles(), after.all_roles());
    if before != after {
        events.push(Event::RolesChanged {
            account,
            before,
            after,
        });
    }
    events
}

fn linked(account: &AccountRow, identity: &IdentityRow) -> Event {
    Event::LinkAdded {
        account: account.into(),
        provider: text(&identity.provider),
        subject: text(&identity.subject),
    }
}

impl AccountStore for RecordedState {
    fn add_account(&self, account: &AccountRow, first: Option<&str>) -> Done<Added> {
        self.begin()?;
        let added = self.state.add_account(account, first)?;
        if added == Added::Done {
            self.note(vec![Event::AccountCreated {
                account: account.into(),
                roles: account.all_roles(),
                provider: None,
            }])?;
        }
        Ok(added)
    }

    fn account(&self, id: &str) -> Done<Option<AccountRow>> {
        self.state.account(id)
    }

    fn account_by_email(&self, email_key: &str) -> Done<Option<AccountRow>> {
        self.state.account_by_email(email_key)
    }

    fn accounts(&self) -> Done<Vec<AccountRow>> {
        self.state.accounts()
    }

    fn lookalike(&self, email_key: &str) -> Done<Option<AccountRow>> {
        self.state.lookalike(email_key)
    }

    fn has_enabled_account(&self, role: &str) -> Done<bool> {
        self.state.has_enabled_account(role)
    }

    fn change_account(
        &self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Done<Option<AccountRow>> {
        self.begin()?;
        let before = self.state.account(id)?;
        let sessions = match change.ends_sessions {
            true => self.state.sessions(Some(id))?,
            false => Vec::new(),
        };
        let after = self.state.change_account(id, change, end)?;
        if let (Some(before), Some(after)) = (before, &after) {
            let mut events = differences(&before, after, change.password_hash.is_some());
            let cause = match change.password_hash {
                Some(_) => EndCause::PasswordChanged,
                None => EndCause::AccountDisabled,
            };
            events.extend(self.ended_with(&sessions, &after.into(), end.keep, cause));
            self.note(events)?;
        }
        Ok(after)
    }

    /// The same password in another form is no act.
    fn rehash_account(&self, id: &str, from: &str, to: &str) -> Done<bool> {
        self.state.rehash_account(id, from, to)
    }

    fn delete_account(&self, id: &str, end: &EndSessions<'_>) -> Done<bool> {
        self.begin()?;
        let before = self.state.account(id)?;
        let sessions = self.state.sessions(Some(id))?;
        let is_deleted = self.state.delete_account(id, end)?;
        if let Some(before) = before.filter(|_| is_deleted) {
            let account = Whom::from(&before);
            let mut events = self.ended_with(&sessions, &account, None, EndCause::AccountDeleted);
            events.push(Event::AccountDeleted {
                account,
                roles: before.all_roles(),
            });
            self.note(events)?;
        }
        Ok(is_deleted)
    }

    fn imported_hash(&self, like: &str) -> Done<Option<String>> {
        self.state.imported_hash(like)
    }
}

impl IdentityStore for RecordedState {
    fn spend_attempt(&self, hash: &TokenHash, expires_at: UnixSeconds, now: UnixSeconds) -> Done<bool> {
        self.state.spend_attempt(hash, expires_at, now)
    }

    fn is_spent(&self, hash: &TokenHash, now: UnixSeconds) -> Done<bool> {
        self.state.is_spent(hash, now)
    }

    fn identities(&self, account_id: Option<&str>) -> Done<Vec<IdentityRow>> {
        self.state.identities(account_id)
    }

    fn account_of_identity(&self, provider: &str, subject: &str) -> Done<Option<AccountRow>> {
        self.state.account_of_identity(provider, subject)
    }

    fn link_identity(&self, identity: &IdentityRow, session_id: &str, end: &EndSessions<'_>) -> Done<Linked> {
        let (provider, subject) = identity.named();
        let known = self.state.account_of_identity(provider, subject)?;
        let before = self.state.account(&identity.account_id)?;
        let done = self.state.link_identity(identity, session_id, end)?;
        if let Linked::Done(after) = &done {
            let mut events = Vec::new();
            if known.is_none() {
                events.push(linked(after, identity));
            }
            if let Some(before) = before {
                events.extend(differences(&before, after, false));
            }
            self.note(events)?;
        }
        Ok(done)
    }

    fn join_identity(&self, identity: &IdentityRow, email_key: &str, end: &EndSessions<'_>) -> Done<bool> {
        let before = self.state.account_by_email(email_key)?;
        let is_joined = self.state.join_identity(identity, email_key, end)?;
        if let Some(before) = before.filter(|_| is_joined) {
            let after = self.after(&before);
            let mut events = vec![linked(&after, identity)];
            events.extend(differences(&before, &after, false));
            self.note(events)?;
        }
        Ok(is_joined)
    }

    fn unlink_identity(
        &self,
        account_id: &str,
        identity: (&str, &str),
        ways: &Ways,
        end: &EndSessions<'_>,
    ) -> Done<Unlinked> {
        let before = self.state.account(account_id)?;
        let done = self.state.unlink_identity(account_id, identity, ways, end)?;
        if let (Unlinked::Done, Some(before)) = (done, before) {
            let after = self.after(&before);
            let mut events = vec![Event::LinkRemoved {
                account: Whom::from(&after),
                provider: text(identity.0),
                subject: text(identity.1),
            }];
            events.extend(differences(&before, &after, false));
            self.note(events)?;
        }
        Ok(done)
    }

    fn sign_in_identity(&self, identity: &IdentityRow, end: &EndSessions<'_>) -> Done<AccountRow> {
        let (provider, subject) = identity.named();
        let before = self.state.account_of_identity(provider, subject)?;
        let after = self.state.sign_in_identity(identity, end)?;
        self.note(match before {
            Some(before) => differences(&before, &after, false),
            None => vec![Event::AccountCreated {
                account: Whom::from(&after),
                roles: after.all_roles(),
                provider: Some(text(provider)),
            }],
        })?;
        Ok(after)
    }

    fn update_identity(&self, identity: &IdentityRow, end: &EndSessions<'_>) -> Done<Option<AccountRow>> {
        let before = self.state.account(&identity.account_id)?;
        let after = self.state.update_identity(identity, end)?;
        if let (Some(before), Some(after)) = (before, &after) {
            self.note(differences(&before, after, false))?;
        }
        Ok(after)
    }
}

impl SessionStore for RecordedState {
    fn add_session(&self, session: &SessionRow, password_version: i64) -> Done<bool> {
        let is_added = self.state.add_session(session, password_version)?;
        if is_added {
            let kind = match session.refresh {
                Some(_) => "client",
                None => "browser",
            };
            self.note(vec![Event::SignedIn {
                account: self.whom(&session.account_id),
                session: session.id.clone(),
                kind,
                provider: session.authentication.provider.as_deref().map(text),
            }])?;
        }
        Ok(is_added)
    }

    fn session(&self, id: &str) -> Done<Option<(SessionRow, AccountRow)>> {
        self.state.session(id)
    }

    fn sessions(&self, account_id: Option<&str>) -> Done<Vec<SessionRow>> {
        self.state.sessions(account_id)
    }

    /// A session goes on: no act.
    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Done<bool> {
        self.state.touch_session(id, seen)
    }

    /// The same.
    fn rotate_refresh(&self, exchange: &RefreshExchange<'_>) -> Done<Rotation> {
        self.state.rotate_refresh(exchange)
    }

    fn end_sessions(&self, which: SessionSelector<'_>, end: &EndSessions<'_>) -> Done<Vec<String>> {
        // Limits are no act.
        if end.cause == EndCause::Expired {
            return self.state.end_sessions(which, end);
        }
        self.begin()?;
        let account = match which {
            SessionSelector::One(id) => {
                let found = self.state.session(id)?;
                found.map(|(_, account)| Whom::from(&account))
            }
            SessionSelector::Own { account_id, .. }
            | SessionSelector::Account(account_id)
            | SessionSelector::Others { account_id, .. } => Some(self.whom(account_id)),
            SessionSelector::ProviderSession { .. }
            | SessionSelector::ProviderSubject { .. }
            | SessionSelector::Over { .. } => None,
        };
        let ended = self.state.end_sessions(which, end)?;
        let event = |id: &String| Event::SessionEnded {
            account: account.clone(),
            session: text(id),
            cause: end.cause,
        };
        self.note(ended.iter().map(event).collect())?;
        Ok(ended)
    }
}

/// Part of a sign-in, which is noted itself.
impl GrantStore for RecordedState {
    fn add_grant(&self, grant: &GrantRow) -> Done<bool> {
        self.state.add_grant(grant)
    }

    fn grant(&self, session_id: &str) -> Done<Option<GrantRow>> {
        self.state.grant(session_id)
    }

    fn lease_due_grants(&self, read_before: UnixSeconds, lease: Lease, most: usize) -> Done<Vec<GrantRow>> {
        self.state.lease_due_grants(read_before, lease, most)
    }

    fn lease_grant(&self, session_id: &str, lease: Lease) -> Done<Option<GrantRow>> {
        self.state.lease_grant(session_id, lease)
    }

    fn save_grant(&self, grant: &GrantRow, leased_until: UnixSeconds) -> Done<bool> {
        self.state.save_grant(grant, leased_until)
    }
}

/// The same.
impl CodeStore for RecordedState {
    fn add_code(&self, code: &CodeRow, now: UnixSeconds) -> Done<bool> {
        self.state.add_code(code, now)
    }

    fn take_code(&self, hash: &TokenHash) -> Done<Option<CodeRow>> {
        self.state.take_code(hash)
    }

    fn add_client_code(&self, code: &ClientCodeRow, now: UnixSeconds) -> Done<bool> {
        self.state.add_client_code(code, now)
    }

    fn take_client_code(&self, hash: &TokenHash) -> Done<Option<ClientCodeRow>> {
        self.state.take_client_code(hash)
    }
}

impl RevocationStore for RecordedState {
    fn version(&self) -> Done<Version> {
        self.state.version()
    }

    fn wait_for_change(&self, seen: Version, timeout: Duration) -> Done<Version> {
        self.state.wait_for_change(seen, timeout)
    }

    fn revoke(&self, revocation: &Revocation) -> Done<()> {
        self.begin()?;
        self.state.revoke(revocation)?;
        let (kind, name) = match &revocation.target {
            Target::Token(id) => ("token", id),
            Target::Subject(subject) => ("subject", subject),
            Target::Session(id) => ("session", id),
            // A change of the account, which is noted itself.
            Target::Stale { .. } => return Ok(()),
        };
        self.note(vec![Event::Revoked {
            issuer: text(&revocation.issuer),
            kind,
            name: text(name),
        }])
    }

    fn revocations_after(&self, seen: Option<Version>, over: UnixSeconds) -> Done<Reading> {
        self.state.revocations_after(seen, over)
    }

    fn revocations(&self, now: UnixSeconds) -> Done<Vec<Revocation>> {
        self.state.revocations(now)
    }

    fn purge_revocations(&self, over: UnixSeconds) -> Done<bool> {
        self.state.purge_revocations(over)
    }

    fn try_write(&self) -> Done<()> {
        self.state.try_write()
    }
}

impl SigningKeyStore for RecordedState {
    fn signing_keys(&self) -> Done<Vec<SigningKeyRow>> {
        self.state.signing_keys()
    }

    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Done<Vec<SigningKeyRow>> {
        self.begin()?;
        let keys = self.state.ensure_signing_key(candidate)?;
        if keys.iter().any(|key| key.key_id == candidate.key_id) {
            self.note(vec![Event::SigningKeyCreated {
                key: candidate.key_id.clone(),
                algorithm: candidate.algorithm.as_str(),
            }])?;
        }
        Ok(keys)
    }

    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Done<Vec<SigningKeyRow>> {
        self.begin()?;
        let keys = self.state.rotate_signing_key(next, now, verify_until)?;
        self.note(vec![Event::SigningKeyRotated {
            key: next.key_id.clone(),
            algorithm: next.algorithm.as_str(),
        }])?;
        Ok(keys)
    }

    /// The command that mints a token notes it.
    fn note_token(&self, key_id: &str, expires_at: UnixSeconds) -> Done<()> {
        self.begin()?;
        self.state.note_token(key_id, expires_at)
    }

    /// Made by the gateway for itself.
    fn ensure_secret(&self, name: &str, candidate: &[u8; 32]) -> Done<Zeroizing<[u8; 32]>> {
        self.state.ensure_secret(name, candidate)
    }

    fn load_jwks(&self, issuer: &str, url: &str) -> Done<Option<(Vec<u8>, UnixSeconds)>> {
        self.state.load_jwks(issuer, url)
    }

    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Done<()> {
        self.state.save_jwks(issuer, url, jwks, now)
    }
}
