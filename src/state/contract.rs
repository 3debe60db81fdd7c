//! What every engine promises, as tests that each one runs: `contract::suite!(open)` where `open` makes an [`Opened`].
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use zeroize::Zeroizing;

use super::{PURGE_AFTER, Revocation, RevocationTarget, SigningKeyRow, State};

/// One empty state, opened twice as two processes would (an engine that cannot gives the same one twice).
pub(super) struct Opened {
    pub(super) one: Arc<dyn State>,
    pub(super) other: Arc<dyn State>,
    pub(super) _directory: Option<tempfile::TempDir>,
}

macro_rules! suite {
    ($open:path) => {
        $crate::state::contract::suite!($open:
            a_revocation_is_seen_by_the_other_side_once_it_has_expired_no_more
            revoking_again_widens_and_never_narrows
            tokens_and_subjects_and_issuers_are_kept_apart
            expired_revocations_are_deleted_after_a_day
            any_text_survives
            the_version_moves_with_writes_of_either_side_and_only_with_them
            of_many_that_start_at_once_one_key_is_made
            rotation_retires_the_key_before_and_forgets_its_private_part
            a_retired_key_is_deleted_once_its_time_is_over
            a_key_set_is_kept_per_issuer_and_belongs_to_its_url
        );
    };
    ($open:path: $($name:ident)*) => {
        $(#[test] fn $name() { $crate::state::contract::$name(&$open()); })*
    };
}
pub(super) use suite;

pub(super) fn token(id: &str, revoked_at: i64, expires_at: Option<i64>) -> Revocation {
    Revocation { issuer: "corp".to_owned(), target: RevocationTarget::Token(id.to_owned()), revoked_at, expires_at }
}

pub(super) fn key(id: &str, created_at: i64) -> SigningKeyRow {
    SigningKeyRow {
        key_id: id.to_owned(),
        public_key: id.as_bytes().to_vec(),
        private_key: Some(Zeroizing::new(format!("private part of {id}").into_bytes())),
        created_at,
        retired_at: None,
        verify_until: None,
    }
}

fn targets(revocations: &[Revocation]) -> BTreeSet<(String, RevocationTarget)> {
    revocations.iter().map(|known| (known.issuer.clone(), known.target.clone())).collect()
}

pub(super) fn a_revocation_is_seen_by_the_other_side_once_it_has_expired_no_more(state: &Opened) {
    let revocation = token("t1", 100, Some(200));
    state.one.revoke(&revocation).unwrap();
    for now in [0, 100, 199] {
        assert_eq!(state.other.revocations(now).unwrap(), std::slice::from_ref(&revocation));
    }
    assert_eq!(state.other.revocations(200).unwrap(), []);
}

pub(super) fn revoking_again_widens_and_never_narrows(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(300))).unwrap();
    state.other.revoke(&token("t1", 90, Some(200))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 100, Some(300))]);
    state.other.revoke(&token("t1", 120, None)).unwrap();
    state.one.revoke(&token("t1", 110, Some(400))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 120, None)]);
}

pub(super) fn tokens_and_subjects_and_issuers_are_kept_apart(state: &Opened) {
    let subject = Revocation { target: RevocationTarget::Subject("x".to_owned()), ..token("", 1, None) };
    let elsewhere = Revocation { issuer: "partner".to_owned(), ..token("x", 1, None) };
    let all = [token("x", 1, None), token("X", 1, None), subject, elsewhere];
    for revocation in &all {
        state.one.revoke(revocation).unwrap();
    }
    assert_eq!(targets(&state.other.revocations(0).unwrap()), targets(&all));
}

pub(super) fn expired_revocations_are_deleted_after_a_day(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(200))).unwrap();
    state.one.revoke(&token("t2", 100, None)).unwrap();
    // A clock that ran ahead and came back finds it again within the day,
    assert_eq!(state.one.revocations(200 + PURGE_AFTER - 1).unwrap().len(), 1);
    assert_eq!(state.one.revocations(150).unwrap().len(), 2);
    // and not after it.
    assert_eq!(state.one.revocations(200 + PURGE_AFTER).unwrap().len(), 1);
    assert_eq!(state.other.revocations(150).unwrap(), [token("t2", 100, None)]);
}

pub(super) fn any_text_survives(state: &Opened) {
    let odd = ["", "'; DROP TABLE revocations; --", "a\0b", "é\u{2028}\u{10ffff}", " x "];
    let all: Vec<_> = odd.iter().map(|id| token(id, i64::MAX, Some(i64::MAX))).collect();
    for revocation in &all {
        state.one.revoke(revocation).unwrap();
    }
    assert_eq!(targets(&state.other.revocations(0).unwrap()), targets(&all));
    state.one.save_jwks(odd[1], odd[3], b"\0\xff", -1).unwrap();
    assert_eq!(state.other.load_jwks(odd[1], odd[3]).unwrap(), Some((b"\0\xff".to_vec(), -1)));
}

pub(super) fn the_version_moves_with_writes_of_either_side_and_only_with_them(state: &Opened) {
    let mut last = state.one.version().unwrap();
    let still = |last| {
        state.one.revocations(0).unwrap();
        state.one.signing_keys().unwrap();
        state.other.revocations(0).unwrap();
        assert_eq!(state.one.version().unwrap(), last);
    };
    let writes: [fn(&dyn State); 4] = [
        |side| side.revoke(&token("t", 1, None)).unwrap(),
        |side| drop(side.ensure_signing_key(&key("k1", 1)).unwrap()),
        |side| drop(side.rotate_signing_key(&key("k2", 2), 2, 10).unwrap()),
        |side| side.save_jwks("corp", "https://id.example/keys", b"{}", 1).unwrap(),
    ];
    for (number, write) in writes.into_iter().enumerate() {
        still(last);
        write(if number % 2 == 0 { &*state.other } else { &*state.one });
        let now = state.one.version().unwrap();
        assert_ne!(now, last, "write {number}");
        last = now;
    }
    state.one.revoke(&token("t", 2, None)).unwrap();
    assert_ne!(state.one.version().unwrap(), last);
}

pub(super) fn of_many_that_start_at_once_one_key_is_made(state: &Opened) {
    let start = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let side = if number % 2 == 0 { state.one.clone() } else { state.other.clone() };
            let start = start.clone();
            std::thread::spawn(move || {
                start.wait();
                side.ensure_signing_key(&key(&format!("k{number}"), 1)).unwrap()
            })
        })
        .collect();
    let seen: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(seen.iter().all(|keys| keys.len() == 1 && *keys == seen[0]), "{seen:?}");
    assert_eq!(state.one.signing_keys().unwrap(), seen[0]);
}

pub(super) fn rotation_retires_the_key_before_and_forgets_its_private_part(state: &Opened) {
    state.one.ensure_signing_key(&key("k1", 10)).unwrap();
    state.other.rotate_signing_key(&key("k2", 20), 20, 120).unwrap();
    let left = state.one.rotate_signing_key(&key("k3", 30), 30, 130).unwrap();
    let retired = |id, created_at, retired_at, verify_until| SigningKeyRow {
        private_key: None,
        retired_at: Some(retired_at),
        verify_until: Some(verify_until),
        ..key(id, created_at)
    };
    assert_eq!(left, [key("k3", 30), retired("k2", 20, 30, 130), retired("k1", 10, 20, 120)]);
    assert_eq!(state.other.signing_keys().unwrap(), left);
    // An active key is there, so nothing is added.
    assert_eq!(state.other.ensure_signing_key(&key("k4", 40)).unwrap(), left);
}

pub(super) fn a_retired_key_is_deleted_once_its_time_is_over(state: &Opened) {
    state.one.ensure_signing_key(&key("k1", 10)).unwrap();
    state.one.rotate_signing_key(&key("k2", 20), 20, 120).unwrap();
    let left = state.one.rotate_signing_key(&key("k3", 120), 120, 220).unwrap();
    assert_eq!(left.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(), ["k3", "k2"]);
    assert_eq!(state.other.signing_keys().unwrap(), left);
}

pub(super) fn a_key_set_is_kept_per_issuer_and_belongs_to_its_url(state: &Opened) {
    let (url, moved) = ("https://id.example/keys", "https://id.example/v2/keys");
    assert_eq!(state.one.load_jwks("corp", url).unwrap(), None);
    state.one.save_jwks("corp", url, b"first", 1).unwrap();
    state.other.save_jwks("partner", url, b"theirs", 2).unwrap();
    state.other.save_jwks("corp", url, b"second", 3).unwrap();
    assert_eq!(state.one.load_jwks("corp", url).unwrap(), Some((b"second".to_vec(), 3)));
    assert_eq!(state.one.load_jwks("partner", url).unwrap(), Some((b"theirs".to_vec(), 2)));
    assert_eq!(state.one.load_jwks("corp", moved).unwrap(), None);
    state.one.save_jwks("corp", moved, b"third", 4).unwrap();
    assert_eq!(state.one.load_jwks("corp", url).unwrap(), None);
    assert_eq!(state.other.load_jwks("corp", moved).unwrap(), Some((b"third".to_vec(), 4)));
}
