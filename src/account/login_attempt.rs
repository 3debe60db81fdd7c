//! An attempt to sign in, until its password is verified.
//!
//! Input: an account, or none, and a password. Output: proof that the password is the account's, or nothing. Invariants: the
//! time of an attempt does not depend on whether the account exists, is disabled or was imported.

use std::hint::black_box;

use super::error::AccountError;
use super::hash::{self, Stored};
use super::limits::MAX_PASSWORD_BYTES;
use crate::state::AccountRow;

/// An attempt to sign in before the password is verified; the account may not exist.
///
/// Each attempt costs one argon2id of our parameters. As long as some accounts have hashes that were imported, it costs
/// one of those on top: the account's own where it has one, else one of the kind that most of them have, for nothing.
pub struct LoginAttempt {
    account: Option<AccountRow>,
    /// An imported hash, whose account does not matter.
    imported_hash: Option<Stored>,
}

impl LoginAttempt {
    pub(super) fn new(account: Option<AccountRow>, imported_hash: Option<&str>) -> Self {
        // A hash that cannot be verified costs nothing, whichever account has it.
        Self {
            account,
            imported_hash: imported_hash.and_then(|imported_hash| Stored::parse(imported_hash).ok()),
        }
    }

    /// Looks at the password. Computes for tens of milliseconds: on the [`Hasher`](super::Hasher). `None` for unknown,
    /// wrong and disabled alike, after the same work; at once where the password is empty or longer than any may be.
    #[must_use]
    pub fn verify(self, password: &str) -> Option<PasswordProof> {
        self.verify_with(password, &mut Thorough)
    }

    fn verify_with(self, password: &str, work: &mut impl Work) -> Option<PasswordProof> {
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return None;
        }
        let text = self
            .account
            .as_ref()
            .and_then(|account| account.password_hash.clone());
        let stored = text.as_deref().and_then(|text| Stored::parse(text).ok());
        let (is_right, fresh) = match &stored {
            Some(imported) if !imported.is_own() => {
                let is_right = work.verify(imported, password);
                // The replacement costs what the dummy does.
                let fresh = if is_right {
                    work.hash(password).ok()
                } else {
                    work.dummy(password)
                };
                (is_right, fresh)
            }
            own_or_none => {
                let is_right = match own_or_none {
                    Some(own) => work.verify(own, password),
                    None => work.dummy(password).is_some(),
                };
                if let Some(imported_hash) = &self.imported_hash {
                    black_box(work.verify(imported_hash, password));
                }
                (is_right, None)
            }
        };
        let account = self.account.filter(|account| is_right && !account.disabled)?;
        Some(PasswordProof {
            account,
            rehash: text.zip(fresh),
        })
    }
}

/// Neither the hash of the account nor another's stands in any log.
impl std::fmt::Debug for LoginAttempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginAttempt")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// Proof that the right password of an account that is not disabled was given.
pub struct PasswordProof {
    /// The account as it was before the password was looked at.
    pub account: AccountRow,
    /// The hash to be replaced and its replacement, where it is an imported or outdated one.
    pub rehash: Option<(String, String)>,
}

impl std::fmt::Debug for PasswordProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordProof")
            .field("account", &self.account)
            .finish_non_exhaustive()
    }
}

/// What takes the time: a port, so that a test can count it.
trait Work {
    fn verify(&mut self, stored: &Stored, password: &str) -> bool;
    fn hash(&mut self, password: &str) -> Result<String, AccountError>;

    /// Verifies a hash that no password has. Always `None`.
    fn dummy(&mut self, password: &str) -> Option<String> {
        if let Ok(of_no_password) = Stored::of_no_password() {
            black_box(self.verify(&of_no_password, password));
        }
        None
    }
}

struct Thorough;

impl Work for Thorough {
    fn verify(&mut self, stored: &Stored, password: &str) -> bool {
        stored.verify(password)
    }

    fn hash(&mut self, password: &str) -> Result<String, AccountError> {
        hash::hash(password)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::account::hash::OWN;

    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    const ARGON2: &str =
        "$argon2id$v=19$m=64,t=2,p=2$MDEyMzQ1Njc4OWFiY2RlZg$ehqGRlXhNY90u1mXokuaGpor9OaG4WSZVb4jCfev4ys";
    const ARGON2I: &str =
        "$argon2i$v=19$m=64,p=2,t=2$MDEyMzQ1Njc4OWFiY2RlZg$JJ/ZDykYOnhMabOK2tGFjoWMyIA2jiyUS51az8rbHG4";
    const RIGHT: &str = "correct horse";

    /// Counts, and computes only what is cheap.
    #[derive(Debug, Default, PartialEq)]
    struct Counted {
        own: usize,
        bcrypt: usize,
        other_argon2: usize,
    }

    impl Work for Counted {
        fn verify(&mut self, stored: &Stored, password: &str) -> bool {
            if stored.is_own() {
                self.own += 1;
                return stored.tag() == [1; 32] && password == RIGHT;
            }
            *(if stored.is_bcrypt() {
                &mut self.bcrypt
            } else {
                &mut self.other_argon2
            }) += 1;
            stored.verify(password)
        }

        fn hash(&mut self, _password: &str) -> Result<String, AccountError> {
            self.own += 1;
            Ok("fresh".to_owned())
        }
    }

    /// For [`Counted`]: the hash of [`RIGHT`] with our parameters.
    fn own() -> String {
        format!("{OWN}AAAAAAAAAAAAAAAAAAAAAA${}AQE", "AQEB".repeat(10))
    }

    fn account(hash: Option<&str>, disabled: bool) -> Option<AccountRow> {
        Some(AccountRow {
            id: "1".to_owned(),
            email: "ann@example.com".to_owned(),
            email_key: "ann@example.com".to_owned(),
            name: None,
            roles: Vec::new(),
            password_hash: hash.map(str::to_owned),
            disabled,
            confirmed: true,
            created_at: 1,
            granted_roles: Vec::new(),
            password_version: 1,
            revision: 0,
        })
    }

    fn attempt(
        account: Option<AccountRow>,
        imported_hash: Option<&str>,
        password: &str,
    ) -> (Option<PasswordProof>, Counted) {
        let mut work = Counted::default();
        (
            LoginAttempt::new(account, imported_hash).verify_with(password, &mut work),
            work,
        )
    }

    #[test]
    fn every_attempt_costs_the_same_whoever_it_names() {
        let own = own();
        for imported_hash in [None, Some(BCRYPT), Some(ARGON2)] {
            let expected = Counted {
                own: 1,
                bcrypt: usize::from(imported_hash == Some(BCRYPT)),
                other_argon2: usize::from(imported_hash == Some(ARGON2)),
            };
            let hashes = [
                Some(own.as_str()),
                None,
                Some("damaged"),
                Some("$2b$31$too.dear"),
                imported_hash,
            ];
            for hash in hashes {
                for disabled in [false, true] {
                    for password in [RIGHT, "wrong horse"] {
                        let (proven, work) = attempt(account(hash, disabled), imported_hash, password);
                        let is_good = !disabled
                            && password == RIGHT
                            && (hash == Some(&own) || hash == imported_hash && hash.is_some());
                        assert_eq!(proven.is_some(), is_good, "{hash:?} {disabled} {password}");
                        assert_eq!(work, expected, "{hash:?} {disabled} {password}");
                    }
                }
            }
            let (proven, work) = attempt(None, imported_hash, RIGHT);
            assert!(
                proven.is_none(),
                "nobody has the password of whoever has the imported_hash hash"
            );
            assert_eq!(work, expected);
        }
    }

    #[test]
    fn a_rarer_imported_hash_is_verified_in_place_of_the_common_kind() {
        let (proven, work) = attempt(account(Some(ARGON2I), false), Some(BCRYPT), RIGHT);
        assert!(proven.is_some());
        assert_eq!(
            work,
            Counted {
                own: 1,
                bcrypt: 0,
                other_argon2: 1
            }
        );
    }

    #[test]
    fn an_imported_hash_gets_a_replacement_and_our_own_does_not() {
        for imported in [BCRYPT, ARGON2, ARGON2I] {
            let (proven, _) = attempt(account(Some(imported), false), Some(BCRYPT), RIGHT);
            assert_eq!(
                proven.unwrap().rehash,
                Some((imported.to_owned(), "fresh".to_owned()))
            );
        }
        let (proven, _) = attempt(account(Some(&own()), false), Some(BCRYPT), RIGHT);
        assert_eq!(proven.unwrap().rehash, None);
    }

    #[test]
    fn an_empty_and_an_endless_password_are_refused_before_any_work() {
        let of_nothing = "$2b$04$abcdefghijklmnopqrstuubyCG3zY1GIXMyxfivm.ClDiInHzxjiq";
        assert!(
            Stored::parse(of_nothing).unwrap().verify(""),
            "the hash of the empty password"
        );
        for password in ["", &"x".repeat(MAX_PASSWORD_BYTES + 1)] {
            let (proven, work) = attempt(account(Some(of_nothing), false), Some(BCRYPT), password);
            assert!(proven.is_none());
            assert_eq!(work, Counted::default());
        }
        assert_eq!(attempt(None, None, &"x".repeat(MAX_PASSWORD_BYTES)).1.own, 1);
    }

    #[test]
    fn the_real_thing_lets_in_who_has_the_password_and_replaces_what_was_imported() {
        let proven = LoginAttempt::new(account(Some(BCRYPT), false), Some(BCRYPT))
            .verify(RIGHT)
            .unwrap();
        let (from, to) = proven.rehash.unwrap();
        assert_eq!(from, BCRYPT);
        assert!(
            LoginAttempt::new(account(Some(&to), false), None)
                .verify("wrong horse")
                .is_none()
        );
        let proven = LoginAttempt::new(account(Some(&to), false), None)
            .verify(RIGHT)
            .unwrap();
        assert_eq!((proven.account.id.as_str(), proven.rehash), ("1", None));
    }

    #[test]
    fn debug_output_holds_no_hash() {
        let attempt = LoginAttempt::new(account(Some(BCRYPT), false), Some(ARGON2));
        let proven = PasswordProof {
            account: account(Some(BCRYPT), false).unwrap(),
            rehash: Some((BCRYPT.into(), ARGON2.into())),
        };
        let text = format!("{attempt:?} {proven:?}");
        assert!(text.contains("ann@example.com") && !text.contains('$'), "{text}");
    }
}
