//! What every engine promises, as tests that each one runs: `contract::suite!(open)` where `open` makes an [`Opened`].
#![allow(clippy::unwrap_used)]

pub(super) mod accounts;
pub(super) mod client_codes;
pub(super) mod codes;
pub(super) mod common;
pub(super) mod grants;
pub(super) mod identities;
pub(super) mod keys;
pub(super) mod refresh;
pub(super) mod revocations;
pub(super) mod sessions;

use std::sync::{Arc, Barrier};

use zeroize::Zeroizing;

use super::{
    AccountRow, Added, Authentication, EndSessions, RefreshExchange, RefreshRow, SessionRow, Sighting,
    SigningKeyRow, State, TokenHash,
};
use crate::revocation::{Revocation, Target};

/// One empty state, opened twice as two processes would (an engine that cannot gives the same one twice).
pub(super) struct Opened {
    pub(super) one: Arc<dyn State>,
    pub(super) other: Arc<dyn State>,
    pub(super) _directory: Option<tempfile::TempDir>,
}

macro_rules! suite {
    ($open:path) => {
        $crate::state::contract::suite!($open, common:
            any_text_survives
            a_trial_write_changes_nothing
            the_version_moves_with_revocations_and_signing_keys_of_either_side_and_with_nothing_else
        );
        $crate::state::contract::suite!($open, revocations:
            a_revocation_is_seen_by_the_other_side_once_it_has_expired_no_more
            revoking_again_widens_and_never_narrows
            tokens_and_subjects_and_sessions_and_issuers_are_kept_apart
            expired_revocations_are_deleted_when_they_are_purged
            only_what_was_written_since_is_read
            what_is_taken_back_is_read_as_such
            of_many_that_write_at_once_a_reader_misses_none
        );
        $crate::state::contract::suite!($open, keys:
            of_many_that_start_at_once_one_key_is_made
            rotation_retires_the_key_before_and_forgets_its_private_part
            a_retired_key_is_deleted_once_its_time_is_over
            a_key_verifies_as_long_as_its_longest_token_lives
            of_many_that_start_at_once_one_secret_is_made
            a_key_set_is_kept_per_issuer_and_belongs_to_its_url
        );
        $crate::state::contract::suite!($open, accounts:
            an_account_is_found_until_it_is_deleted
            no_two_accounts_have_one_email_or_one_id
            the_first_account_with_a_role_is_made_while_no_enabled_one_has_it
            an_address_that_looks_like_another_is_refused_where_one_is_not_ascii
            of_many_first_accounts_one_is_made
            of_many_with_one_email_one_is_made
            a_change_changes_what_it_names
            another_name_or_other_roles_make_tokens_stale_and_end_nothing
            a_new_password_ends_the_sessions_but_the_one_it_was_changed_in
            a_hash_is_replaced_only_if_it_is_the_one_that_was_verified
            deleting_an_account_ends_its_sessions
            the_imported_hash_is_of_the_kind_of_most
            the_imported_hash_follows_every_change
        );
        $crate::state::contract::suite!($open, sessions:
            a_session_is_opened_only_by_who_may_sign_in_now
            sessions_are_listed_last_seen_first
            being_seen_never_goes_back
            an_end_is_remembered_as_long_as_tokens_live
            each_way_to_end_sessions_ends_those_and_no_others
            sessions_are_over_by_their_limits
            what_ended_is_revoked_and_ends_once
            the_kept_session_never_ends
            a_password_that_changes_while_somebody_signs_in_leaves_no_session_of_the_old_one
        );
        $crate::state::contract::suite!($open, refresh:
            a_token_is_exchanged_once_and_a_retry_is_told_so
            a_token_is_spent_once_its_successor_was_used
            a_token_is_spent_after_the_grace
            a_token_of_nobody_changes_nothing
            nothing_is_exchanged_for_who_may_not_sign_in
            of_many_that_present_one_token_one_exchanges_it
            of_many_that_go_on_from_one_token_one_branch_is_left
        );
        $crate::state::contract::suite!($open, identities:
            an_identity_makes_one_account_beside_the_local_one_of_its_address
            other_roles_of_an_identity_make_tokens_stale_and_own_roles_stay
            a_disabled_account_of_an_identity_stays_as_it_is
            a_deleted_account_takes_its_identity_along
            an_update_is_for_an_identity_of_the_account_alone
            an_identity_is_linked_in_a_session_of_its_account_alone
            an_identity_of_another_account_stays_there
            a_linked_identity_leaves_address_and_name_and_gives_its_roles
            an_account_has_a_few_identities
            an_identity_joins_the_confirmed_local_account_of_its_address
            the_last_way_to_sign_in_stays
            an_account_whose_identity_is_removed_has_the_address_of_another_one
            of_many_that_remove_the_last_two_ways_one_is_left
            of_many_first_sign_ins_of_an_identity_one_makes_the_account
            of_many_that_complete_an_attempt_one_does
        );
        $crate::state::contract::suite!($open, grants:
            a_grant_needs_its_session_and_goes_with_it
            grants_are_due_once_their_session_was_seen_again
            of_many_that_lease_a_grant_one_gets_it
        );
        $crate::state::contract::suite!($open, client_codes:
            a_client_code_is_taken_once_by_either_side
            of_many_that_take_one_client_code_one_gets_it
            a_client_code_needs_its_account_and_goes_with_it
            of_one_account_a_few_client_codes_are_kept_and_none_that_has_expired
        );
        $crate::state::contract::suite!($open, codes:
            a_code_is_taken_once_by_either_side
            of_many_that_take_one_code_one_gets_it
            a_code_needs_its_session_and_goes_with_it
            of_one_session_a_few_codes_are_kept_and_none_that_has_expired
        );
    };
    ($open:path, $room:ident: $($name:ident)*) => {
        $(#[test] fn $name() { $crate::state::contract::$room::$name(&$open()); })*
    };
}
pub(super) use suite;

impl Opened {
    /// One side for the even, the other for the odd.
    fn side(&self, number: usize) -> &Arc<dyn State> {
        if number.is_multiple_of(2) {
            &self.one
        } else {
            &self.other
        }
    }
}

/// Does `work` in several threads at the same moment, on both sides.
fn at_once<T: Send>(state: &Opened, threads: usize, work: impl Fn(&dyn State, usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = |number| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                start.wait();
                work(&**state.side(number), number)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub(super) fn token(id: &str, revoked_at: i64, expires_at: Option<i64>) -> Revocation {
    Revocation {
        issuer: "corp".to_owned(),
        target: Target::Token(id.to_owned()),
        revoked_at,
        expires_at,
    }
}

pub(super) fn key(id: &str, created_at: i64) -> SigningKeyRow {
    SigningKeyRow {
        key_id: id.to_owned(),
        algorithm: crate::values::SigningAlgorithm::EdDSA,
        public_key: id.as_bytes().to_vec(),
        private_key: Some(Zeroizing::new(format!("private part of {id}").into_bytes())),
        created_at,
        retired_at: None,
        verify_until: None,
    }
}

pub(super) fn seen(at: i64, address: &str, tokens_until: i64) -> Sighting<'_> {
    Sighting {
        at,
        address,
        tokens_until,
    }
}

pub(super) fn exchange<'a>(
    id: &'a str,
    presented: &'a TokenHash,
    successor: &'a TokenHash,
    grace: i64,
    seen: Sighting<'a>,
) -> RefreshExchange<'a> {
    RefreshExchange {
        id,
        presented,
        successor,
        grace,
        seen,
    }
}

/// A hash of no password.
pub(super) fn argon2(number: usize) -> String {
    format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ{number}$aGFzaA{number}")
}

pub(super) fn account(id: &str) -> AccountRow {
    AccountRow {
        id: id.to_owned(),
        email: format!("{id}@Example.com"),
        email_key: format!("{id}@example.com"),
        name: Some(format!("Name of {id}")),
        roles: vec!["user".to_owned(), "ops".to_owned()],
        password_hash: Some(argon2(0)),
        disabled: false,
        confirmed: true,
        created_at: 1,
        granted_roles: Vec::new(),
        password_version: 1,
        revision: 0,
    }
}

/// A browser's session.
pub(super) fn session(id: &str, account_id: &str) -> SessionRow {
    SessionRow {
        id: id.to_owned(),
        account_id: account_id.to_owned(),
        created_at: 100,
        seen_at: 100,
        expires_at: 1000,
        tokens_until: Some(240),
        user_agent: "Browser/1.0".to_owned(),
        address: "192.0.2.1".to_owned(),
        refresh: None,
        authentication: Authentication::default(),
    }
}

/// An API client's session, of which the token `first` is good.
pub(super) fn client(id: &str, account_id: &str, first: u8) -> SessionRow {
    let refresh = RefreshRow {
        current: [first; 32],
        previous: None,
        rotated_at: 100,
    };
    SessionRow {
        refresh: Some(refresh),
        ..session(id, account_id)
    }
}

pub(super) const END: EndSessions<'_> = EndSessions {
    cause: crate::state::EndCause::Command,
    now: 200,
    revoked_until: 300,
    keep: None,
};

/// Adds the accounts `a` and `b`.
fn add_two(state: &Opened) {
    for id in ["a", "b"] {
        assert_eq!(state.one.add_account(&account(id), None).unwrap(), Added::Done);
    }
}

fn add_all(state: &Opened, sessions: &[SessionRow]) {
    for (number, session) in sessions.iter().enumerate() {
        assert!(state.side(number).add_session(session, 1).unwrap());
    }
}

/// The ids of all sessions that are left, in their own order.
fn left(state: &Opened) -> Vec<String> {
    let mut ids: Vec<_> = state
        .other
        .sessions(None)
        .unwrap()
        .into_iter()
        .map(|session| session.id)
        .collect();
    ids.sort();
    ids
}

/// The ids of all sessions that were revoked, in their own order.
fn revoked(state: &Opened) -> Vec<String> {
    let id = |known: Revocation| match known {
        Revocation {
            issuer,
            target: Target::Session(id),
            revoked_at: 200,
            expires_at: Some(300),
        } if issuer == "session" => id,
        other => panic!("{other:?}"),
    };
    let mut ids: Vec<_> = state
        .other
        .revocations(200)
        .unwrap()
        .into_iter()
        .map(id)
        .collect();
    ids.sort();
    ids
}
