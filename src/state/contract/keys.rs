//! Our own keys and secrets, and the key sets of issuers.

use super::{Opened, at_once, key};
use crate::state::SigningKeyRow;

pub(in crate::state) fn of_many_that_start_at_once_one_key_is_made(state: &Opened) {
    let seen = at_once(state, 8, |side, number| {
        side.ensure_signing_key(&key(&format!("k{number}"), 1)).unwrap()
    });
    assert!(
        seen.iter().all(|keys| keys.len() == 1 && *keys == seen[0]),
        "{seen:?}"
    );
    assert_eq!(state.one.signing_keys().unwrap(), seen[0]);
}

pub(in crate::state) fn rotation_retires_the_key_before_and_forgets_its_private_part(state: &Opened) {
    state.one.ensure_signing_key(&key("k1", 10)).unwrap();
    state.other.rotate_signing_key(&key("k2", 20), 20, 120).unwrap();
    let left = state.one.rotate_signing_key(&key("k3", 30), 30, 130).unwrap();
    let retired = |id, created_at, retired_at, verify_until| SigningKeyRow {
        private_key: None,
        retired_at: Some(retired_at),
        verify_until: Some(verify_until),
        ..key(id, created_at)
    };
    assert_eq!(
        left,
        [
            key("k3", 30),
            retired("k2", 20, 30, 130),
            retired("k1", 10, 20, 120)
        ]
    );
    assert_eq!(state.other.signing_keys().unwrap(), left);
    // An active key is there, so nothing is added.
    assert_eq!(state.other.ensure_signing_key(&key("k4", 40)).unwrap(), left);
}

pub(in crate::state) fn a_retired_key_is_deleted_once_its_time_is_over(state: &Opened) {
    state.one.ensure_signing_key(&key("k1", 10)).unwrap();
    state.one.rotate_signing_key(&key("k2", 20), 20, 120).unwrap();
    let left = state.one.rotate_signing_key(&key("k3", 120), 120, 220).unwrap();
    assert_eq!(
        left.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(),
        ["k3", "k2"]
    );
    assert_eq!(state.other.signing_keys().unwrap(), left);
}

pub(in crate::state) fn a_key_verifies_as_long_as_its_longest_token_lives(state: &Opened) {
    let until =
        |keys: &[SigningKeyRow], id: &str| keys.iter().find(|key| key.key_id == id).unwrap().verify_until;
    state.one.ensure_signing_key(&key("k1", 10)).unwrap();
    for expires_at in [400, 500, 300] {
        state.other.note_token("k1", expires_at).unwrap();
    }
    state.one.note_token("nobody's", 9000).unwrap();
    assert_eq!(
        until(&state.one.signing_keys().unwrap(), "k1"),
        None,
        "the active one has no end"
    );
    let left = state.one.rotate_signing_key(&key("k2", 20), 20, 120).unwrap();
    assert_eq!(until(&left, "k1"), Some(500));
    // One that was signed just before the rotation and noted just after it.
    state.other.note_token("k1", 600).unwrap();
    state.other.note_token("k1", 550).unwrap();
    state.other.note_token("k2", 130).unwrap();
    let left = state.one.rotate_signing_key(&key("k3", 30), 30, 140).unwrap();
    assert_eq!((until(&left, "k1"), until(&left, "k2")), (Some(600), Some(140)));
    let left = state.other.rotate_signing_key(&key("k4", 600), 600, 700).unwrap();
    assert_eq!(
        left.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>(),
        ["k4", "k3"]
    );
    assert_eq!(until(&left, "k3"), Some(700));
}

pub(in crate::state) fn of_many_that_start_at_once_one_secret_is_made(state: &Opened) {
    let seen = at_once(state, 8, |side, number| {
        *side
            .ensure_secret("refresh", &[u8::try_from(number).unwrap() + 1; 32])
            .unwrap()
    });
    assert!(
        seen.iter().all(|secret| *secret == seen[0] && *secret != [0; 32]),
        "{seen:?}"
    );
    assert_eq!(*state.other.ensure_secret("refresh", &[0; 32]).unwrap(), seen[0]);
    assert_eq!(
        *state.other.ensure_secret("Refresh", &[0; 32]).unwrap(),
        [0; 32],
        "another name, another secret"
    );
}

pub(in crate::state) fn a_key_set_is_kept_per_issuer_and_belongs_to_its_url(state: &Opened) {
    let (url, moved) = ("https://id.example/keys", "https://id.example/v2/keys");
    assert_eq!(state.one.load_jwks("corp", url).unwrap(), None);
    state.one.save_jwks("corp", url, b"first", 1).unwrap();
    state.other.save_jwks("partner", url, b"theirs", 2).unwrap();
    state.other.save_jwks("corp", url, b"second", 3).unwrap();
    assert_eq!(
        state.one.load_jwks("corp", url).unwrap(),
        Some((b"second".to_vec(), 3))
    );
    assert_eq!(
        state.one.load_jwks("partner", url).unwrap(),
        Some((b"theirs".to_vec(), 2))
    );
    assert_eq!(state.one.load_jwks("corp", moved).unwrap(), None);
    state.one.save_jwks("corp", moved, b"third", 4).unwrap();
    assert_eq!(state.one.load_jwks("corp", url).unwrap(), None);
    assert_eq!(
        state.other.load_jwks("corp", moved).unwrap(),
        Some((b"third".to_vec(), 4))
    );
}
