//! State in memory, for tests and benches: keeps the contract, and forgets everything with the process.

mod accounts;
mod codes;
mod sessions;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::{
    AccountChange, AccountRow, Added, CodeRow, EndSessions, PURGED_AT_ONCE, Reading, Rotation, SessionRow, SessionSelector, Sighting, SigningKeyRow, State, StateError,
    TokenHash, Version, parts,
};
use crate::revocation::{Revocation, Target};
use crate::clock::UnixSeconds;

/// An empty state at first.
#[derive(Default)]
pub struct Memory(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// Revocations that were written.
    written: i64,
    /// Changes of the signing keys.
    key_changes: i64,
    /// By issuer, and the kind and name of the target, with the number of the write.
    revocations: BTreeMap<(String, &'static str, String), (i64, Revocation)>,
    signing_keys: Vec<SigningKeyRow>,
    /// By key id: the end of its longest token.
    longest_tokens: BTreeMap<String, UnixSeconds>,
    /// By issuer: URL, content, time.
    key_sets: BTreeMap<String, (String, Vec<u8>, UnixSeconds)>,
    /// By name.
    secrets: BTreeMap<String, Zeroizing<[u8; 32]>>,
    /// By id.
    accounts: BTreeMap<String, AccountRow>,
    /// By id.
    sessions: BTreeMap<String, SessionRow>,
    /// In the order in which they were added.
    codes: Vec<CodeRow>,
}

/// Secrets, hashes and keys stand in no log.
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn revoke(&mut self, revocation: Revocation) {
        self.written += 1;
        let sequence = self.written;
        let (kind, name, _) = parts(&revocation.target);
        self.revocations
            .entry((revocation.issuer.clone(), kind, name.to_owned()))
            .and_modify(|(written, known)| {
                *written = sequence;
                known.revoked_at = known.revoked_at.max(revocation.revoked_at);
                known.expires_at = known
                    .expires_at
                    .zip(revocation.expires_at)
                    .map(|(one, other)| one.max(other));
                // Of two with the same kind and name, the revision is all that can differ.
                if known.target < revocation.target {
                    known.target.clone_from(&revocation.target);
                }
            })
            .or_insert((sequence, revocation));
    }

    fn version(&self) -> Version {
        Version {
            revocations: self.written,
            lost: 0,
            signing_keys: self.key_changes,
        }
    }
}

impl State for Memory {
    fn version(&self) -> Result<Version, StateError> {
        Ok(self.content().version())
    }

    fn revoke(&self, revocation: &Revocation) -> Result<(), StateError> {
        self.content().revoke(revocation.clone());
        Ok(())
    }

    fn revocations_after(&self, seen: Option<Version>, over: UnixSeconds) -> Result<Reading, StateError> {
        let content = self.content();
        let version = content.version();
        let seen = seen.filter(|seen| seen.continues_to(&version));
        let takes_back =
            |known: &Revocation| matches!(known.target, Target::Stale { revision: 0, .. });
        let mut found: Vec<_> = content
            .revocations
            .values()
            .filter(|(_, known)| known.expires_at.is_none_or(|end| end > over))
            .filter(|(written, known)| seen.map_or(!takes_back(known), |seen| *written > seen.revocations))
            .collect();
        found.sort_by_key(|(written, _)| *written);
        let rows = found.into_iter().map(|(_, known)| known.clone()).collect();
        Ok(Reading {
            rows,
            is_whole: seen.is_none(),
            version,
        })
    }

    fn purge_revocations(&self, over: UnixSeconds) -> Result<bool, StateError> {
        let mut left = PURGED_AT_ONCE;
        self.content().revocations.retain(|_, (_, known)| {
            let stays = left == 0 || known.expires_at.is_none_or(|end| end > over);
            left -= usize::from(!stays);
            stays
        });
        Ok(left == 0)
    }

    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        Ok(self.content().signing_keys.clone())
    }

    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError> {
        let mut content = self.content();
        if !content.signing_keys.iter().any(|key| key.retired_at.is_none()) {
            content.key_changes += 1;
            content.signing_keys.insert(0, candidate.clone());
        }
        Ok(content.signing_keys.clone())
    }

    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Result<Vec<SigningKeyRow>, StateError> {
        let mut content = self.content();
        content.key_changes += 1;
        let Content {
            signing_keys,
            longest_tokens,
            ..
        } = &mut *content;
        for key in signing_keys.iter_mut().filter(|key| key.retired_at.is_none()) {
            key.private_key = None;
            key.retired_at = Some(now);
            key.verify_until = longest_tokens.get(&key.key_id).copied().max(Some(verify_until));
        }
        signing_keys.retain(|key| key.verify_until.is_none_or(|end| end > now));
        signing_keys.insert(0, next.clone());
        Ok(signing_keys.clone())
    }

    fn note_token(&self, key_id: &str, expires_at: UnixSeconds) -> Result<(), StateError> {
        let mut content = self.content();
        let Content {
            key_changes,
            signing_keys,
            longest_tokens,
            ..
        } = &mut *content;
        if let Some(key) = signing_keys.iter_mut().find(|key| key.key_id == key_id) {
            if key.verify_until.is_some_and(|until| until < expires_at) {
                key.verify_until = Some(expires_at);
                *key_changes += 1;
            }
            let longest = longest_tokens.entry(key_id.to_owned()).or_insert(expires_at);
            *longest = expires_at.max(*longest);
        }
        Ok(())
    }

    fn ensure_secret(&self, name: &str, candidate: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, StateError> {
        Ok(self
            .content()
            .secrets
            .entry(name.to_owned())
            .or_insert_with(|| Zeroizing::new(*candidate))
            .clone())
    }

    fn add_account(&self, account: &AccountRow, first: Option<&str>) -> Result<Added, StateError> {
        Ok(self.content().add_account(account, first))
    }

    fn account(&self, id: &str) -> Result<Option<AccountRow>, StateError> {
        Ok(self.content().accounts.get(id).cloned())
    }

    fn account_by_email(&self, email_key: &str) -> Result<Option<AccountRow>, StateError> {
        Ok(self
            .content()
            .accounts
            .values()
            .find(|known| known.email_key == email_key)
            .cloned())
    }

    fn accounts(&self) -> Result<Vec<AccountRow>, StateError> {
        let mut all: Vec<_> = self.content().accounts.values().cloned().collect();
        all.sort_by(|one, other| one.email_key.cmp(&other.email_key));
        Ok(all)
    }

    fn lookalike(&self, email_key: &str) -> Result<Option<AccountRow>, StateError> {
        Ok(self.content().lookalike(email_key))
    }

    fn has_enabled_account(&self, role: &str) -> Result<bool, StateError> {
        Ok(self.content().has_enabled_account(role))
    }

    fn change_account(
        &self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError> {
        Ok(self.content().change_account(id, change, end))
    }

    fn rehash_account(&self, id: &str, from: &str, to: &str) -> Result<bool, StateError> {
        Ok(self.content().rehash_account(id, from, to))
    }

    fn delete_account(&self, id: &str, end: &EndSessions<'_>) -> Result<bool, StateError> {
        Ok(self.content().delete_account(id, end))
    }

    fn foreign_hash(&self, like: &str) -> Result<Option<String>, StateError> {
        Ok(self.content().foreign_hash(like))
    }

    fn add_session(&self, session: &SessionRow, password_version: i64) -> Result<bool, StateError> {
        Ok(self.content().add_session(session, password_version))
    }

    fn session(&self, id: &str) -> Result<Option<(SessionRow, AccountRow)>, StateError> {
        let content = self.content();
        let found = content
            .sessions
            .get(id)
            .and_then(|session| Some((session, content.accounts.get(&session.account_id)?)));
        Ok(found.map(|(session, account)| (session.clone(), account.clone())))
    }

    fn sessions(&self, account_id: Option<&str>) -> Result<Vec<SessionRow>, StateError> {
        Ok(self.content().sessions_of(account_id))
    }

    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Result<bool, StateError> {
        Ok(self.content().touch_session(id, seen))
    }

    fn rotate_refresh(
        &self,
        id: &str,
        presented: &TokenHash,
        successor: &TokenHash,
        grace: UnixSeconds,
        seen: &Sighting<'_>,
    ) -> Result<Rotation, StateError> {
        Ok(self
            .content()
            .rotate_refresh(id, presented, successor, grace, seen))
    }

    fn end_sessions(
        &self,
        which: SessionSelector<'_>,
        end: &EndSessions<'_>,
    ) -> Result<Vec<String>, StateError> {
        Ok(self.content().end_sessions(which, end))
    }

    fn add_code(&self, code: &CodeRow, now: UnixSeconds) -> Result<bool, StateError> {
        Ok(self.content().add_code(code, now))
    }

    fn take_code(&self, hash: &TokenHash) -> Result<Option<CodeRow>, StateError> {
        Ok(self.content().take_code(hash))
    }

    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError> {
        let content = self.content();
        let saved = content.key_sets.get(issuer).filter(|(from, ..)| from == url);
        Ok(saved.map(|(_, jwks, fetched_at)| (jwks.clone(), *fetched_at)))
    }

    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError> {
        self.content()
            .key_sets
            .insert(issuer.to_owned(), (url.to_owned(), jwks.to_owned(), now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::state::contract::{self, Opened};

    fn open() -> Opened {
        let state: Arc<dyn State> = Arc::new(Memory::default());
        Opened {
            one: state.clone(),
            other: state,
            _directory: None,
        }
    }

    contract::suite!(open);
}
