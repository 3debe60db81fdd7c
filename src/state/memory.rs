//! State in memory, for tests and benches: keeps the contract, and forgets everything with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{PURGE_AFTER, Revocation, RevocationTarget, SigningKeyRow, State, StateError, Version};
use crate::clock::UnixSeconds;

/// An empty state at first.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    writes: u64,
    revocations: BTreeMap<(String, RevocationTarget), Revocation>,
    signing_keys: Vec<SigningKeyRow>,
    /// By issuer: URL, content, time.
    key_sets: BTreeMap<String, (String, Vec<u8>, UnixSeconds)>,
}

impl Memory {
    fn read(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> MutexGuard<'_, Content> {
        let mut content = self.read();
        content.writes += 1;
        content
    }
}

impl State for Memory {
    fn version(&self) -> Result<Version, StateError> {
        Ok(Version { others: 0, own: self.read().writes })
    }

    fn revoke(&self, revocation: &Revocation) -> Result<(), StateError> {
        self.write()
            .revocations
            .entry((revocation.issuer.clone(), revocation.target.clone()))
            .and_modify(|known| {
                known.revoked_at = known.revoked_at.max(revocation.revoked_at);
                known.expires_at = known.expires_at.zip(revocation.expires_at).map(|(one, other)| one.max(other));
            })
            .or_insert_with(|| revocation.clone());
        Ok(())
    }

    fn revocations(&self, now: UnixSeconds) -> Result<Vec<Revocation>, StateError> {
        let mut content = self.read();
        content.revocations.retain(|_, known| known.expires_at.is_none_or(|end| end > now - PURGE_AFTER));
        Ok(content.revocations.values().filter(|known| known.expires_at.is_none_or(|end| end > now)).cloned().collect())
    }

    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        Ok(self.read().signing_keys.clone())
    }

    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError> {
        let mut content = self.write();
        if !content.signing_keys.iter().any(|key| key.retired_at.is_none()) {
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
        let mut content = self.write();
        for key in content.signing_keys.iter_mut().filter(|key| key.retired_at.is_none()) {
            key.private_key = None;
            key.retired_at = Some(now);
            key.verify_until = Some(verify_until);
        }
        content.signing_keys.retain(|key| key.verify_until.is_none_or(|end| end > now));
        content.signing_keys.insert(0, next.clone());
        Ok(content.signing_keys.clone())
    }

    fn note_token(&self, _key_id: &str, _expires_at: UnixSeconds) -> Result<(), StateError> {
        todo!()
    }
    fn ensure_secret(&self, _name: &str, _candidate: &[u8; 32]) -> Result<zeroize::Zeroizing<[u8; 32]>, StateError> {
        todo!()
    }
    fn add_account(&self, _account: &super::AccountRow, _first: bool) -> Result<super::Added, StateError> {
        todo!()
    }
    fn account(&self, _id: &str) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn account_by_email(&self, _email_key: &str) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn accounts(&self) -> Result<Vec<super::AccountRow>, StateError> {
        todo!()
    }
    fn has_accounts(&self) -> Result<bool, StateError> {
        todo!()
    }
    fn change_account(
        &self,
        _id: &str,
        _change: &super::AccountChange,
        _end: Option<&super::EndSessions<'_>>,
    ) -> Result<Option<super::AccountRow>, StateError> {
        todo!()
    }
    fn rehash_account(&self, _id: &str, _from: &str, _to: &str) -> Result<bool, StateError> {
        todo!()
    }
    fn delete_account(&self, _id: &str, _end: &super::EndSessions<'_>) -> Result<bool, StateError> {
        todo!()
    }
    fn foreign_hash(&self, _like: &str) -> Result<Option<String>, StateError> {
        todo!()
    }
    fn add_session(&self, _session: &super::SessionRow, _password_version: i64) -> Result<bool, StateError> {
        todo!()
    }
    fn session(&self, _id: &str) -> Result<Option<(super::SessionRow, super::AccountRow)>, StateError> {
        todo!()
    }
    fn sessions(&self, _account_id: Option<&str>) -> Result<Vec<super::SessionRow>, StateError> {
        todo!()
    }
    fn touch_session(&self, _id: &str, _seen_at: UnixSeconds, _address: &str) -> Result<(), StateError> {
        todo!()
    }
    fn rotate_refresh(
        &self,
        _id: &str,
        _presented: &super::TokenHash,
        _successor: &super::TokenHash,
        _now: UnixSeconds,
        _grace: UnixSeconds,
        _address: &str,
    ) -> Result<super::Rotation, StateError> {
        todo!()
    }
    fn end_sessions(&self, _which: super::Which<'_>, _end: &super::EndSessions<'_>) -> Result<Vec<String>, StateError> {
        todo!()
    }

    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError> {
        let content = self.read();
        let saved = content.key_sets.get(issuer).filter(|(from, ..)| from == url);
        Ok(saved.map(|(_, jwks, fetched_at)| (jwks.clone(), *fetched_at)))
    }

    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError> {
        self.write().key_sets.insert(issuer.to_owned(), (url.to_owned(), jwks.to_owned(), now));
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
        Opened { one: state.clone(), other: state, _directory: None }
    }

    contract::suite!(open);
}
