//! What is done to the accounts in memory, each method under the one lock.

use std::collections::BTreeMap;

use super::Content;
use crate::identity::SESSION_ISSUER;
use crate::revocation::Target;
use crate::state::account::hash_kind;
use crate::state::email::are_lookalikes;
use crate::state::{
    AccountChange, AccountRow, Added, EndSessions, STALE, SessionSelector,
};

impl Content {
    pub(super) fn has_enabled_account(&self, role: &str) -> bool {
        self.accounts
            .values()
            .any(|known| !known.disabled && known.roles.iter().any(|known| known == role))
    }

    pub(super) fn lookalike(&self, email_key: &str) -> Option<AccountRow> {
        self.accounts
            .values()
            .find(|known| are_lookalikes(&known.email_key, email_key))
            .cloned()
    }

    pub(super) fn add_account(&mut self, account: &AccountRow, first: Option<&str>) -> Added {
        if first.is_some_and(|role| self.has_enabled_account(role)) {
            return Added::NotFirst;
        }
        if self
            .accounts
            .values()
            .any(|known| known.email_key == account.email_key)
        {
            return Added::EmailTaken;
        }
        if self.lookalike(&account.email_key).is_some() {
            return Added::Lookalike;
        }
        if self.accounts.contains_key(&account.id) {
            return Added::IdTaken;
        }
        self.accounts.insert(account.id.clone(), account.clone());
        Added::Done
    }

    pub(super) fn change_account(
        &mut self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Option<AccountRow> {
        let account = self.accounts.get_mut(id)?;
        let revision = account.revision;
        change.apply(account);
        let changed = account.clone();
        if changed.revision != revision {
            self.revoke(end.staleness(&changed));
        }
        if change.ends_sessions {
            self.end_sessions(SessionSelector::Account(id), end);
        }
        Some(changed)
    }

    pub(super) fn rehash_account(&mut self, id: &str, from: &str, to: &str) -> bool {
        let account = self
            .accounts
            .get_mut(id)
            .filter(|known| known.password_hash.as_deref() == Some(from));
        account
            .map(|account| account.password_hash = Some(to.to_owned()))
            .is_some()
    }

    pub(super) fn delete_account(&mut self, id: &str, end: &EndSessions<'_>) -> bool {
        self.end_sessions(SessionSelector::Account(id), &EndSessions { keep: None, ..*end });
        let taken_back = Target::Stale {
            subject: id.to_owned(),
            revision: 0,
        };
        if let Some((written, known)) =
            self.revocations
                .get_mut(&(SESSION_ISSUER.to_owned(), STALE, id.to_owned()))
            && known.target != taken_back
        {
            self.written += 1;
            *written = self.written;
            known.target = taken_back;
        }
        self.accounts.remove(id).is_some()
    }

    pub(super) fn foreign_hash(&self, like: &str) -> Option<String> {
        let like = like.trim_end_matches('$');
        let mut kinds: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for hash in self
            .accounts
            .values()
            .filter_map(|account| account.password_hash.as_deref())
        {
            let kind = hash_kind(hash);
            if kind != like {
                kinds.entry(kind).or_insert((0, hash)).0 += 1;
            }
        }
        // Of equals the last, as in SQL.
        kinds
            .into_iter()
            .max_by_key(|(kind, (accounts, _))| (*accounts, *kind))
            .map(|(_, (_, hash))| hash.to_owned())
    }
}
