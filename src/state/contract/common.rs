//! What is promised of everything that is kept.

use super::{END, Opened, account, argon2, client, exchange, key, seen, session, token};
use crate::revocation::Target;
use crate::state::{
    AccountChange, AccountRow, Added, Authentication, Rotation, SessionRow, SessionSelector, State,
};

pub(in crate::state) fn any_text_survives(state: &Opened) {
    let odd = [
        "",
        "'; DROP TABLE revocations; --",
        "a\0b",
        "é\u{2028}\u{10ffff}",
        " x ",
        "[\"admin\"]",
        "\"\\u0000,",
    ];
    for id in odd {
        state.one.revoke(&token(id, i64::MAX, Some(i64::MAX))).unwrap();
    }
    let known = state.other.revocations(0).unwrap();
    assert_eq!(known.len(), odd.len());
    for id in odd {
        assert!(
            known
                .iter()
                .any(|known| known.target == Target::Token(id.to_owned())),
            "{id:?}"
        );
    }
    state.one.save_jwks(odd[1], odd[3], b"\0\xff", -1).unwrap();
    assert_eq!(
        state.other.load_jwks(odd[1], odd[3]).unwrap(),
        Some((b"\0\xff".to_vec(), -1))
    );
    for (number, text) in odd.into_iter().enumerate() {
        let kept = AccountRow {
            id: text.to_owned(),
            email: text.to_owned(),
            email_key: text.to_owned(),
            name: Some(text.to_owned()),
            granted_roles: Vec::new(),
            roles: odd[number..].iter().map(|&role| role.to_owned()).collect(),
            password_hash: Some(text.to_owned()),
            disabled: false,
            confirmed: true,
            created_at: i64::MIN,
            password_version: i64::MAX,
            revision: i64::MAX,
        };
        state.one.add_account(&kept, None).unwrap();
        let open = SessionRow {
            id: text.to_owned(),
            account_id: text.to_owned(),
            created_at: i64::MIN,
            seen_at: i64::MIN,
            expires_at: i64::MAX,
            tokens_until: Some(i64::MIN),
            user_agent: text.to_owned(),
            address: text.to_owned(),
            refresh: None,
            authentication: Authentication {
                auth_time: Some(i64::MIN),
                acr: Some(text.to_owned()),
                provider: Some(text.to_owned()),
                provider_subject: Some(text.to_owned()),
                provider_sid: Some(text.to_owned()),
            },
        };
        assert!(state.one.add_session(&open, i64::MAX).unwrap());
        assert_eq!(
            state.other.account_by_email(text).unwrap().as_ref(),
            Some(&kept),
            "{text:?}"
        );
        assert_eq!(state.other.session(text).unwrap(), Some((open, kept)), "{text:?}");
        assert_eq!(*state.one.ensure_secret(text, &[7; 32]).unwrap(), [7; 32]);
        assert_eq!(*state.other.ensure_secret(text, &[8; 32]).unwrap(), [7; 32]);
    }
}

type Write = &'static dyn Fn(&dyn State);

pub(in crate::state) fn the_version_moves_with_revocations_and_signing_keys_of_either_side_and_with_nothing_else(
    state: &Opened,
) {
    let mut last = state.one.version().unwrap();
    let still = |last, at: usize| {
        for side in [&state.one, &state.other] {
            side.revocations(0).unwrap();
            side.signing_keys().unwrap();
            side.accounts().unwrap();
            side.sessions(None).unwrap();
            side.account_by_email("a@example.com").unwrap();
            side.session("s1").unwrap();
            side.imported_hash("$").unwrap();
        }
        assert_eq!(state.one.version().unwrap(), last, "reading after write {at}");
    };
    // With each, whether it moves.
    let writes: [(bool, Write); 24] = [
        (true, &|side| side.revoke(&token("t", 1, None)).unwrap()),
        (true, &|side| {
            drop(side.ensure_signing_key(&key("k1", 1)).unwrap())
        }),
        (true, &|side| {
            drop(side.rotate_signing_key(&key("k2", 2), 2, 10).unwrap())
        }),
        (false, &|side| {
            drop(side.ensure_signing_key(&key("k3", 1)).unwrap())
        }),
        // Of the active key it is nobody's to hold; of a retired one it is when it ends.
        (false, &|side| side.note_token("k2", 100).unwrap()),
        (true, &|side| side.note_token("k1", 100).unwrap()),
        (false, &|side| side.note_token("k1", 90).unwrap()),
        (false, &|side| {
            drop(side.ensure_secret("refresh", &[1; 32]).unwrap())
        }),
        (false, &|side| {
            side.save_jwks("corp", "https://id.example/keys", b"{}", 1)
                .unwrap()
        }),
        (true, &|side| side.revoke(&token("t", 2, None)).unwrap()),
        // What is done at every sign-in and all the time.
        (false, &|side| {
            assert_eq!(side.add_account(&account("a"), Some("ops")).unwrap(), Added::Done)
        }),
        (false, &|side| {
            assert!(side.add_session(&session("s1", "a"), 1).unwrap())
        }),
        (false, &|side| {
            assert!(side.add_session(&client("s2", "a", 1), 1).unwrap())
        }),
        (false, &|side| {
            assert!(side.touch_session("s1", &seen(150, "192.0.2.2", 1050)).unwrap())
        }),
        (false, &|side| {
            let rotation = side
                .rotate_refresh(&exchange(
                    "s2",
                    &[1; 32],
                    &[2; 32],
                    10,
                    seen(150, "192.0.2.2", 1050),
                ))
                .unwrap();
            assert_eq!(rotation, Rotation::Rotated);
        }),
        (false, &|side| {
            assert!(side.rehash_account("a", &argon2(0), &argon2(1)).unwrap())
        }),
        (false, &|side| {
            drop(
                side.change_account("a", &AccountChange::default(), &END)
                    .unwrap()
                    .unwrap(),
            )
        }),
        // What others have to hear of.
        (true, &|side| {
            let change = AccountChange {
                roles: Some(vec![]),
                ..AccountChange::default()
            };
            side.change_account("a", &change, &END).unwrap().unwrap();
        }),
        (true, &|side| {
            assert_eq!(
                side.end_sessions(SessionSelector::One("s1"), &END).unwrap(),
                ["s1"]
            )
        }),
        (false, &|side| {
            assert!(
                side.end_sessions(SessionSelector::One("s1"), &END)
                    .unwrap()
                    .is_empty()
            )
        }),
        (true, &|side| {
            let change = AccountChange {
                ends_sessions: true,
                disabled: Some(true),
                ..AccountChange::default()
            };
            side.change_account("a", &change, &END).unwrap().unwrap();
        }),
        (true, &|side| assert!(side.delete_account("a", &END).unwrap())),
        (false, &|side| assert!(!side.delete_account("a", &END).unwrap())),
        // Those of sessions and accounts have expired for long then: nobody misses them.
        (false, &|side| {
            assert!(!side.purge_revocations(1_000_000).unwrap())
        }),
    ];
    // Each write is done by the other side or by this one; then, where it can be repeated, the other way round.
    for (round, first) in [(0, 0), (1, 9)] {
        for (number, (moves, write)) in writes.iter().enumerate().skip(first) {
            still(last, number);
            write(&**state.side(number + 1 + round));
            for side in [&state.one, &state.other] {
                let now = side.version().unwrap();
                assert_eq!(now != last, *moves, "write {number} of round {round}");
            }
            last = state.one.version().unwrap();
        }
    }
}

pub(in crate::state) fn a_trial_write_changes_nothing(opened: &Opened) {
    let before = opened.other.version().unwrap();
    for _ in 0..2 {
        opened.one.try_write().unwrap();
    }
    assert_eq!(opened.other.version().unwrap(), before);
    opened.other.try_write().unwrap();
}
