//! Each promise of the state as one reading or one transaction.

use zeroize::Zeroizing;

use super::{
    Sqlite, accounts, client_codes, codes, grants, identities, key_sets, revocations, secrets, sessions,
    signing_keys,
};
use crate::clock::UnixSeconds;
use crate::revocation::Revocation;
use crate::state::{
    AccountChange, AccountRow, AccountStore, Added, ClientCodeRow, CodeRow, CodeStore, EndSessions, GrantRow,
    GrantStore, IdentityRow, IdentityStore, Lease, Linked, Reading, RefreshExchange, RevocationStore,
    Rotation, SessionRow, SessionSelector, SessionStore, Sighting, SigningKeyRow, SigningKeyStore,
    StateError, TokenHash, Unlinked, Version, Ways,
};

impl RevocationStore for Sqlite {
    fn version(&self) -> Result<Version, StateError> {
        self.read("look for changes", revocations::version)
    }

    fn revoke(&self, revocation: &Revocation) -> Result<(), StateError> {
        self.write("revoke", |transaction| {
            revocations::insert(transaction, revocation)
        })
    }

    fn revocations_after(&self, seen: Option<Version>, over: UnixSeconds) -> Result<Reading, StateError> {
        self.read("read revocations", |connection| {
            revocations::after(connection, seen, over)
        })
    }

    fn try_write(&self) -> Result<(), StateError> {
        Self::try_write(self)
    }

    fn purge_revocations(&self, over: UnixSeconds) -> Result<bool, StateError> {
        // Where nothing has expired, no writer has to wait.
        if !self.read("look for old revocations", |connection| {
            revocations::has_expired(connection, over)
        })? {
            return Ok(false);
        }
        self.write("delete old revocations", |transaction| {
            revocations::purge(transaction, over)
        })
    }
}

impl SigningKeyStore for Sqlite {
    fn signing_keys(&self) -> Result<Vec<SigningKeyRow>, StateError> {
        self.read("read signing keys", signing_keys::all)
    }

    fn ensure_signing_key(&self, candidate: &SigningKeyRow) -> Result<Vec<SigningKeyRow>, StateError> {
        self.write("add a signing key", |transaction| {
            signing_keys::ensure(transaction, candidate)
        })
    }

    fn rotate_signing_key(
        &self,
        next: &SigningKeyRow,
        now: UnixSeconds,
        verify_until: UnixSeconds,
    ) -> Result<Vec<SigningKeyRow>, StateError> {
        self.erase(
            "rotate the signing key",
            |it| signing_keys::rotate(it, next, now, verify_until),
            |_| true,
        )
    }

    fn note_token(&self, key_id: &str, expires_at: UnixSeconds) -> Result<(), StateError> {
        self.write("note a token", |transaction| {
            signing_keys::note_token(transaction, key_id, expires_at)
        })
    }

    fn ensure_secret(&self, name: &str, candidate: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, StateError> {
        if let Some(known) = self.read("read a secret", |connection| secrets::load(connection, name))? {
            return Ok(known);
        }
        self.write("add a secret", |transaction| {
            secrets::ensure(transaction, name, candidate)
        })
    }

    fn load_jwks(&self, issuer: &str, url: &str) -> Result<Option<(Vec<u8>, UnixSeconds)>, StateError> {
        self.read("read a key set", |connection| {
            key_sets::load(connection, issuer, url)
        })
    }

    fn save_jwks(&self, issuer: &str, url: &str, jwks: &[u8], now: UnixSeconds) -> Result<(), StateError> {
        self.write("save a key set", |transaction| {
            key_sets::save(transaction, issuer, url, jwks, now)
        })
    }
}

impl AccountStore for Sqlite {
    fn add_account(&self, account: &AccountRow, first: Option<&str>) -> Result<Added, StateError> {
        self.write("add an account", |transaction| {
            accounts::add(transaction, account, first)
        })
    }

    fn account(&self, id: &str) -> Result<Option<AccountRow>, StateError> {
        self.read("read an account", |connection| accounts::by_id(connection, id))
    }

    fn account_by_email(&self, email_key: &str) -> Result<Option<AccountRow>, StateError> {
        self.read("read an account", |connection| {
            accounts::by_email(connection, email_key)
        })
    }

    fn accounts(&self) -> Result<Vec<AccountRow>, StateError> {
        self.read("read accounts", accounts::all)
    }

    fn lookalike(&self, email_key: &str) -> Result<Option<AccountRow>, StateError> {
        self.read("look for an account", |connection| {
            accounts::lookalike(connection, email_key)
        })
    }

    fn has_enabled_account(&self, role: &str) -> Result<bool, StateError> {
        self.read("look for an account", |connection| {
            accounts::has_enabled(connection, role)
        })
    }

    fn change_account(
        &self,
        id: &str,
        change: &AccountChange,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError> {
        let has_erased = |changed: &Option<AccountRow>| changed.is_some() && change.password_hash.is_some();
        self.erase(
            "change an account",
            |transaction| accounts::change(transaction, id, change, end),
            has_erased,
        )
    }

    fn rehash_account(&self, id: &str, from: &str, to: &str) -> Result<bool, StateError> {
        // The old hash is of the present password, and the weaker one.
        self.erase(
            "change a hash",
            |transaction| accounts::rehash(transaction, id, from, to),
            |is_done| *is_done,
        )
    }

    fn delete_account(&self, id: &str, end: &EndSessions<'_>) -> Result<bool, StateError> {
        self.erase(
            "delete an account",
            |transaction| accounts::delete(transaction, id, end),
            |is_done| *is_done,
        )
    }

    fn imported_hash(&self, like: &str) -> Result<Option<String>, StateError> {
        self.read("look for a kind of hash", |connection| {
            accounts::imported_hash(connection, like)
        })
    }
}

impl IdentityStore for Sqlite {
    fn spend_attempt(
        &self,
        hash: &TokenHash,
        expires_at: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<bool, StateError> {
        self.write("note a sign-in", |transaction| {
            identities::spend(transaction, hash, expires_at, now)
        })
    }

    fn is_spent(&self, hash: &TokenHash, now: UnixSeconds) -> Result<bool, StateError> {
        self.read("look for a sign-in", |connection| {
            identities::is_spent(connection, hash, now)
        })
    }

    fn identities(&self, account_id: Option<&str>) -> Result<Vec<IdentityRow>, StateError> {
        self.read("list identities", |connection| {
            identities::list(connection, account_id)
        })
    }

    fn account_of_identity(&self, provider: &str, subject: &str) -> Result<Option<AccountRow>, StateError> {
        self.read(
            "read the account of an identity",
            |connection| match identities::account_of(connection, (provider, subject))? {
                Some(id) => accounts::by_id(connection, &id),
                None => Ok(None),
            },
        )
    }

    fn link_identity(
        &self,
        identity: &IdentityRow,
        session_id: &str,
        end: &EndSessions<'_>,
    ) -> Result<Linked, StateError> {
        self.write("link an identity", |transaction| {
            identities::link(transaction, identity, session_id, end)
        })
    }

    fn join_identity(
        &self,
        identity: &IdentityRow,
        email_key: &str,
        end: &EndSessions<'_>,
    ) -> Result<bool, StateError> {
        self.write("link an identity by its address", |transaction| {
            identities::join(transaction, identity, email_key, end)
        })
    }

    fn unlink_identity(
        &self,
        account_id: &str,
        identity: (&str, &str),
        ways: &Ways,
        end: &EndSessions<'_>,
    ) -> Result<Unlinked, StateError> {
        self.write("remove an identity", |transaction| {
            identities::unlink(transaction, account_id, identity, ways, end)
        })
    }

    fn sign_in_identity(
        &self,
        identity: &IdentityRow,
        end: &EndSessions<'_>,
    ) -> Result<AccountRow, StateError> {
        self.write("sign an identity in", |transaction| {
            identities::sign_in(transaction, identity, end)
        })
    }

    fn update_identity(
        &self,
        identity: &IdentityRow,
        end: &EndSessions<'_>,
    ) -> Result<Option<AccountRow>, StateError> {
        self.write("update an identity", |transaction| {
            if identities::account_of(transaction, identity.named())?.as_ref() != Some(&identity.account_id) {
                return Ok(None);
            }
            identities::sign_in(transaction, identity, end).map(Some)
        })
    }
}

impl SessionStore for Sqlite {
    fn add_session(&self, session: &SessionRow, password_version: i64) -> Result<bool, StateError> {
        self.write("add a session", |transaction| {
            sessions::add(transaction, session, password_version)
        })
    }

    fn session(&self, id: &str) -> Result<Option<(SessionRow, AccountRow)>, StateError> {
        self.read("read a session", |connection| {
            sessions::with_account(connection, id)
        })
    }

    fn sessions(&self, account_id: Option<&str>) -> Result<Vec<SessionRow>, StateError> {
        self.read("read sessions", |connection| sessions::of(connection, account_id))
    }

    fn touch_session(&self, id: &str, seen: &Sighting<'_>) -> Result<bool, StateError> {
        self.write("note a session", |transaction| {
            sessions::touch(transaction, id, seen)
        })
    }

    fn rotate_refresh(&self, exchange: &RefreshExchange<'_>) -> Result<Rotation, StateError> {
        self.write("exchange a refresh token", |transaction| {
            sessions::rotate_refresh(transaction, exchange)
        })
    }

    fn end_sessions(
        &self,
        which: SessionSelector<'_>,
        end: &EndSessions<'_>,
    ) -> Result<Vec<String>, StateError> {
        let mut ended = Vec::new();
        loop {
            let some = self.write("end sessions", |transaction| {
                sessions::end(transaction, which, end)
            })?;
            let may_be_more =
                matches!(which, SessionSelector::Over { .. }) && some.len() >= sessions::OVER_AT_ONCE;
            ended.extend(some);
            if !may_be_more {
                return Ok(ended);
            }
        }
    }
}

impl GrantStore for Sqlite {
    fn add_grant(&self, grant: &GrantRow) -> Result<bool, StateError> {
        self.write("add a grant", |transaction| grants::add(transaction, grant))
    }

    fn grant(&self, session_id: &str) -> Result<Option<GrantRow>, StateError> {
        self.read("read a grant", |connection| grants::of(connection, session_id))
    }

    fn lease_due_grants(
        &self,
        read_before: UnixSeconds,
        lease: Lease,
        most: usize,
    ) -> Result<Vec<GrantRow>, StateError> {
        let due = self.read("look for grants", |connection| {
            grants::due(connection, read_before, lease.now, most)
        })?;
        if due.is_empty() {
            return Ok(due);
        }
        self.write("lease grants", |transaction| {
            grants::lease(transaction, due.iter().map(|grant| &*grant.session_id), lease)
        })
    }

    fn lease_grant(&self, session_id: &str, lease: Lease) -> Result<Option<GrantRow>, StateError> {
        let leased = self.write("lease a grant", |transaction| {
            grants::lease(transaction, [session_id], lease)
        })?;
        Ok(leased.into_iter().next())
    }

    fn save_grant(&self, grant: &GrantRow, leased_until: UnixSeconds) -> Result<bool, StateError> {
        self.write("save a grant", |transaction| {
            grants::save(transaction, grant, leased_until)
        })
    }
}

impl CodeStore for Sqlite {
    fn add_code(&self, code: &CodeRow, now: UnixSeconds) -> Result<bool, StateError> {
        self.write("add a code", |transaction| codes::add(transaction, code, now))
    }

    fn take_code(&self, hash: &TokenHash) -> Result<Option<CodeRow>, StateError> {
        if !self.read("look for a code", |connection| codes::is_there(connection, hash))? {
            return Ok(None);
        }
        self.write("take a code", |transaction| codes::take(transaction, hash))
    }

    fn add_client_code(&self, code: &ClientCodeRow, now: UnixSeconds) -> Result<bool, StateError> {
        self.write("add the code of a client", |transaction| {
            client_codes::add(transaction, code, now)
        })
    }

    fn take_client_code(&self, hash: &TokenHash) -> Result<Option<ClientCodeRow>, StateError> {
        let is_there = |connection: &rusqlite::Connection| client_codes::is_there(connection, hash);
        if !self.read("look for the code of a client", is_there)? {
            return Ok(None);
        }
        self.write("take the code of a client", |transaction| {
            client_codes::take(transaction, hash)
        })
    }
}
