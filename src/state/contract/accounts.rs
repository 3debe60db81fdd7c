//! Accounts: who is who, and what hangs on them.

use super::{END, Opened, account, add_all, add_two, argon2, at_once, client, left, revoked, session};
use crate::identity::SESSION_ISSUER;
use crate::revocation::{Revocation, Target};
use crate::state::{AccountChange, AccountRow, Added, EndSessions};

const BCRYPT: &str = "$2b$12$abcdefghijklmnopqrstuuQhyBhl8ZdqfGpMGhDHnQR9l9nqo4z9W";
const OURS: &str = "$argon2id$v=19$m=19456,t=2,p=1$";

pub(in crate::state) fn an_account_is_found_until_it_is_deleted(state: &Opened) {
    assert_eq!(state.one.accounts().unwrap(), []);
    let a = account("a");
    let b = AccountRow {
        email_key: "0@example.com".to_owned(),
        name: None,
        roles: vec![],
        password_hash: None,
        disabled: true,
        ..account("b")
    };
    for new in [&a, &b] {
        assert_eq!(state.one.add_account(new, None).unwrap(), Added::Done);
    }
    for side in [&state.one, &state.other] {
        assert_eq!(side.account("a").unwrap().as_ref(), Some(&a));
        assert_eq!(side.account_by_email("0@example.com").unwrap().as_ref(), Some(&b));
        // As it is compared, and in no other spelling.
        assert_eq!(side.account_by_email("a@Example.com").unwrap(), None);
        assert_eq!(side.account("A").unwrap(), None);
        assert_eq!(
            side.accounts().unwrap(),
            [b.clone(), a.clone()],
            "in the order of email_key"
        );
    }
    assert!(state.other.delete_account("a", &END).unwrap());
    assert!(!state.one.delete_account("a", &END).unwrap());
    assert_eq!(state.one.account("a").unwrap(), None);
    assert_eq!(state.one.account_by_email("a@example.com").unwrap(), None);
    assert_eq!(state.one.accounts().unwrap(), [b]);
}

pub(in crate::state) fn no_two_accounts_have_one_email_or_one_id(state: &Opened) {
    add_two(state);
    let same_id = AccountRow {
        email_key: "c@example.com".to_owned(),
        ..account("a")
    };
    let same_email = AccountRow {
        id: "c".to_owned(),
        ..account("a")
    };
    for first in [None, Some("ops")] {
        let instead = |reason| if first.is_some() { Added::NotFirst } else { reason };
        assert_eq!(
            state.other.add_account(&same_email, first).unwrap(),
            instead(Added::EmailTaken)
        );
        assert_eq!(
            state.other.add_account(&same_id, first).unwrap(),
            instead(Added::IdTaken)
        );
        assert_eq!(
            state.other.add_account(&account("b"), first).unwrap(),
            instead(Added::EmailTaken)
        );
        assert_eq!(
            state.other.add_account(&account("c"), Some("ops")).unwrap(),
            Added::NotFirst
        );
    }
    assert_eq!(
        state.one.accounts().unwrap(),
        [account("a"), account("b")],
        "nothing was changed"
    );
    state.one.delete_account("a", &END).unwrap();
    assert_eq!(state.other.add_account(&same_email, None).unwrap(), Added::Done);
}

pub(in crate::state) fn the_first_account_with_a_role_is_made_while_no_enabled_one_has_it(state: &Opened) {
    let with = |id: &str, roles: &[&str], disabled| AccountRow {
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        disabled,
        ..account(id)
    };
    let has = |role: &str| state.other.has_enabled_account(role).unwrap();
    assert!(!has("admin"));
    for (id, roles, disabled) in [
        ("a", &["user"][..], false),
        ("b", &["admin"], true),
        ("c", &["admins", "ADMIN", " admin"], false),
        ("d", &[], false),
    ] {
        assert_eq!(
            state.one.add_account(&with(id, roles, disabled), None).unwrap(),
            Added::Done
        );
        assert!(!has("admin"), "{id}");
    }
    assert!(has("user") && has("ADMIN") && !has("") && !has("[\"user\"]"));
    assert_eq!(
        state
            .one
            .add_account(&with("e", &["user", "admin"], false), Some("admin"))
            .unwrap(),
        Added::Done
    );
    assert!(has("admin"));
    assert_eq!(
        state
            .other
            .add_account(&with("f", &["admin"], false), Some("admin"))
            .unwrap(),
        Added::NotFirst
    );
    state
        .one
        .change_account(
            "e",
            &AccountChange {
                disabled: Some(true),
                ..AccountChange::default()
            },
            &END,
        )
        .unwrap();
    assert!(!has("admin"));
    assert_eq!(
        state
            .other
            .add_account(&with("f", &["admin"], false), Some("admin"))
            .unwrap(),
        Added::Done
    );
    state
        .one
        .change_account(
            "f",
            &AccountChange {
                roles: Some(vec![]),
                ..AccountChange::default()
            },
            &END,
        )
        .unwrap();
    assert!(!has("admin"));
}

pub(in crate::state) fn an_address_that_looks_like_another_is_refused_where_one_is_not_ascii(state: &Opened) {
    let named = |id: &str, key: &str| AccountRow {
        email_key: key.to_owned(),
        ..account(id)
    };
    let add = |id: &str, key: &str| state.one.add_account(&named(id, key), None).unwrap();
    let like = |key: &str| state.other.lookalike(key).unwrap().map(|row| row.id);
    assert_eq!(add("1", "ann@example.com"), Added::Done);
    let cyrillic = "\u{430}nn@example.com";
    assert_eq!(
        (like(cyrillic).as_deref(), like("ann@example.com")),
        (Some("1"), None)
    );
    assert_eq!(add("2", cyrillic), Added::Lookalike);
    // The other way round, and of two that are both not ASCII.
    assert_eq!(add("3", "\u{441}\u{430}r@example.com"), Added::Done);
    assert_eq!(add("4", "car@example.com"), Added::Lookalike);
    assert_eq!(add("5", "c\u{430}r@example.com"), Added::Lookalike);
    assert_eq!(like("car@example.com").as_deref(), Some("3"));
    // In ASCII alone these are different people.
    for (id, key) in [
        ("6", "burn@example.com"),
        ("7", "bum@example.com"),
        ("8", "a1@b"),
        ("9", "al@b"),
        ("10", "aI@b"),
    ] {
        assert_eq!(add(id, key), Added::Done, "{key}");
    }
    assert!(like("b\u{443}rn@example.com").is_none());
    assert!(matches!(like("a\u{4cf}@b").as_deref(), Some("8" | "9" | "10")));
    // The same address is taken, and not only alike.
    assert_eq!(add("11", "\u{441}\u{430}r@example.com"), Added::EmailTaken);
    assert!(state.one.delete_account("1", &END).unwrap());
    assert_eq!(add("2", cyrillic), Added::Done);
}

pub(in crate::state) fn of_many_first_accounts_one_is_made(state: &Opened) {
    let added = at_once(state, 8, |side, number| {
        side.add_account(&account(&format!("a{number}")), Some("ops"))
            .unwrap()
    });
    assert_eq!(
        added.iter().filter(|added| **added == Added::Done).count(),
        1,
        "{added:?}"
    );
    assert!(
        added
            .iter()
            .all(|added| matches!(added, Added::Done | Added::NotFirst)),
        "{added:?}"
    );
    let there = state.one.accounts().unwrap();
    let winner = added.iter().position(|added| *added == Added::Done).unwrap();
    assert_eq!(there, [account(&format!("a{winner}"))]);
}

pub(in crate::state) fn of_many_with_one_email_one_is_made(state: &Opened) {
    let added = at_once(state, 8, |side, number| {
        side.add_account(
            &AccountRow {
                id: number.to_string(),
                ..account("a")
            },
            None,
        )
        .unwrap()
    });
    assert_eq!(
        added.iter().filter(|added| **added == Added::Done).count(),
        1,
        "{added:?}"
    );
    assert_eq!(
        added.iter().filter(|added| **added == Added::EmailTaken).count(),
        7,
        "{added:?}"
    );
    assert_eq!(state.one.accounts().unwrap().len(), 1);
}

pub(in crate::state) fn a_change_changes_what_it_names(state: &Opened) {
    add_two(state);
    let mut expected = account("a");
    let mut check = |number, change: &AccountChange, adjust: &dyn Fn(&mut AccountRow)| {
        adjust(&mut expected);
        assert_eq!(
            state
                .side(number)
                .change_account("a", change, &END)
                .unwrap()
                .as_ref(),
            Some(&expected)
        );
        assert_eq!(
            state.side(number + 1).account("a").unwrap().as_ref(),
            Some(&expected)
        );
    };
    let none = AccountChange::default;
    check(0, &none(), &|_| {});
    check(
        1,
        &AccountChange {
            name: Some(None),
            ..none()
        },
        &|it| {
            it.name = None;
            it.revision = 1;
        },
    );
    check(
        2,
        &AccountChange {
            name: Some(Some("N".to_owned())),
            ..none()
        },
        &|it| {
            it.name = Some("N".to_owned());
            it.revision = 2;
        },
    );
    check(
        3,
        &AccountChange {
            roles: Some(vec![]),
            ..none()
        },
        &|it| {
            it.roles = vec![];
            it.revision = 3;
        },
    );
    let roles = vec!["b".to_owned(), "a,b".to_owned()];
    check(
        4,
        &AccountChange {
            roles: Some(roles.clone()),
            ..none()
        },
        &|it| {
            it.roles.clone_from(&roles);
            it.revision = 4;
        },
    );
    // What is the same again makes nothing stale.
    check(
        5,
        &AccountChange {
            name: Some(Some("N".to_owned())),
            roles: Some(roles.clone()),
            ..none()
        },
        &|_| {},
    );
    check(
        5,
        &AccountChange {
            disabled: Some(true),
            ..none()
        },
        &|it| it.disabled = true,
    );
    check(
        6,
        &AccountChange {
            disabled: Some(false),
            ..none()
        },
        &|it| it.disabled = false,
    );
    check(
        6,
        &AccountChange {
            confirmed: Some(true),
            ..none()
        },
        &|_| {},
    );
    check(
        7,
        &AccountChange {
            confirmed: Some(false),
            ..none()
        },
        &|it| {
            it.confirmed = false;
            it.revision = 5;
        },
    );
    check(
        8,
        &AccountChange {
            confirmed: Some(true),
            ..none()
        },
        &|it| {
            it.confirmed = true;
            it.revision = 6;
        },
    );
    for version in 2..4 {
        // The same password again is a new one all the same.
        check(
            7,
            &AccountChange {
                password_hash: Some(argon2(7)),
                ..none()
            },
            &|it| {
                it.password_hash = Some(argon2(7));
                it.password_version = version;
            },
        );
    }
    assert_eq!(
        state
            .one
            .change_account("nobody", &AccountChange::default(), &END)
            .unwrap(),
        None
    );
    assert_eq!(
        state.one.account("b").unwrap(),
        Some(account("b")),
        "the other one is as it was"
    );
}

pub(in crate::state) fn a_new_password_ends_the_sessions_but_the_one_it_was_changed_in(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[
            session("s1", "a"),
            session("s2", "a"),
            client("s3", "a", 1),
            session("s4", "b"),
        ],
    );
    let change = AccountChange {
        password_hash: Some(argon2(2)),
        ends_sessions: true,
        ..AccountChange::default()
    };
    state
        .one
        .change_account(
            "a",
            &change,
            &EndSessions {
                cause: crate::state::EndCause::Command,
                keep: Some("s2"),
                ..END
            },
        )
        .unwrap();
    assert_eq!(left(state), ["s2", "s4"]);
    assert_eq!(revoked(state), ["s1", "s3"]);
    // Who proved to know the one before comes too late.
    assert!(!state.other.add_session(&session("s5", "a"), 1).unwrap());
    assert!(state.other.add_session(&session("s5", "a"), 2).unwrap());
    state
        .one
        .change_account(
            "a",
            &AccountChange {
                disabled: Some(true),
                ..AccountChange::default()
            },
            &END,
        )
        .unwrap();
    assert_eq!(left(state), ["s2", "s4", "s5"], "without being told, none ends");
}

/// What tokens of the account `id` are stale by, if by anything.
fn staleness(state: &Opened, id: &str) -> Option<i64> {
    let mut found = state
        .other
        .revocations(200)
        .unwrap()
        .into_iter()
        .filter_map(|known| match known.target {
            Target::Stale { subject, revision } if subject == id => {
                assert_eq!(
                    (known.issuer.as_str(), known.expires_at),
                    (SESSION_ISSUER, Some(300))
                );
                Some(revision)
            }
            _ => None,
        });
    let first = found.next();
    assert_eq!(found.next(), None, "one row an account");
    first
}

pub(in crate::state) fn another_name_or_other_roles_make_tokens_stale_and_end_nothing(state: &Opened) {
    add_two(state);
    add_all(state, &[session("s1", "a"), client("s2", "a", 1)]);
    let none = AccountChange::default;
    let roles = |roles: &[&str]| AccountChange {
        roles: Some(roles.iter().map(|&role| role.to_owned()).collect()),
        ..none()
    };
    let unchanged = [
        none(),
        roles(&["user", "ops"]),
        AccountChange {
            name: Some(Some("Name of a".to_owned())),
            ..none()
        },
        AccountChange {
            disabled: Some(true),
            ..none()
        },
        AccountChange {
            disabled: Some(false),
            password_hash: Some(argon2(3)),
            ..none()
        },
    ];
    for change in &unchanged {
        state.one.change_account("a", change, &END).unwrap();
        assert_eq!(state.other.revocations(0).unwrap(), [], "{change:?}");
    }
    for (number, change) in [
        roles(&["user"]),
        AccountChange {
            name: Some(None),
            ..none()
        },
        roles(&[]),
    ]
    .iter()
    .enumerate()
    {
        let changed = state
            .side(number)
            .change_account("a", change, &END)
            .unwrap()
            .unwrap();
        assert_eq!(Some(changed.revision), staleness(state, "a"), "{change:?}");
        assert_eq!(changed.revision, i64::try_from(number).unwrap() + 1);
    }
    assert_eq!(staleness(state, "b"), None);
    assert_eq!(left(state), ["s1", "s2"]);
    assert_eq!(state.one.session("s1").unwrap().unwrap().1.revision, 3);
    // An earlier one comes too late, whoever says so.
    let earlier = Target::Stale {
        subject: "a".to_owned(),
        revision: 2,
    };
    let late = Revocation {
        issuer: SESSION_ISSUER.to_owned(),
        target: earlier,
        revoked_at: 1,
        expires_at: Some(1),
    };
    state.one.revoke(&late).unwrap();
    assert_eq!(staleness(state, "a"), Some(3));
    // With an end of the sessions both are there.
    let both = AccountChange {
        ends_sessions: true,
        ..roles(&["x"])
    };
    state
        .one
        .change_account(
            "a",
            &both,
            &EndSessions {
                cause: crate::state::EndCause::Command,
                keep: Some("s1"),
                ..END
            },
        )
        .unwrap();
    assert_eq!(
        (staleness(state, "a"), left(state)),
        (Some(4), vec!["s1".to_owned()])
    );
    // Another account of the same id starts anew, and its tokens are not stale.
    assert!(state.one.delete_account("a", &END).unwrap());
    assert_eq!(staleness(state, "a"), None);
    state.one.change_account("b", &roles(&[]), &END).unwrap();
    assert_eq!(staleness(state, "b"), Some(1));
}

pub(in crate::state) fn a_hash_is_replaced_only_if_it_is_the_one_that_was_verified(state: &Opened) {
    add_two(state);
    add_all(state, &[session("s1", "a")]);
    assert!(state.one.rehash_account("a", &argon2(0), &argon2(1)).unwrap());
    let expected = AccountRow {
        password_hash: Some(argon2(1)),
        ..account("a")
    };
    assert_eq!(
        state.other.account("a").unwrap().as_ref(),
        Some(&expected),
        "the password is the same one"
    );
    assert!(!state.other.rehash_account("a", &argon2(0), &argon2(2)).unwrap());
    assert!(
        !state
            .other
            .rehash_account("nobody", &argon2(0), &argon2(2))
            .unwrap()
    );
    assert_eq!(state.one.account("a").unwrap().as_ref(), Some(&expected));
    assert_eq!(state.one.account("b").unwrap(), Some(account("b")));
    assert_eq!(left(state), ["s1"]);
    // Of many good sign-ins at once one replaces it.
    let done = at_once(state, 6, |side, number| {
        side.rehash_account("a", &argon2(1), &argon2(number + 10))
            .unwrap()
    });
    assert_eq!(done.iter().filter(|is_done| **is_done).count(), 1);
}

pub(in crate::state) fn deleting_an_account_ends_its_sessions(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[session("s1", "a"), client("s2", "a", 1), session("s3", "b")],
    );
    assert!(
        state
            .one
            .delete_account(
                "a",
                &EndSessions {
                    cause: crate::state::EndCause::Command,
                    keep: Some("s1"),
                    ..END
                }
            )
            .unwrap()
    );
    assert_eq!(left(state), ["s3"], "there is none to keep");
    assert_eq!(revoked(state), ["s1", "s2"]);
    assert_eq!(state.other.session("s1").unwrap(), None);
    assert!(!state.other.add_session(&session("s4", "a"), 1).unwrap());
    // Another one under the same id, by an import, inherits nothing.
    assert_eq!(state.other.add_account(&account("a"), None).unwrap(), Added::Done);
    assert_eq!(state.one.sessions(Some("a")).unwrap(), []);
}

pub(in crate::state) fn the_imported_hash_is_of_the_kind_of_most(state: &Opened) {
    let add = |id: &str, hash: Option<&str>| {
        let new = AccountRow {
            password_hash: hash.map(str::to_owned),
            ..account(id)
        };
        assert_eq!(state.one.add_account(&new, None).unwrap(), Added::Done);
    };
    let imported = |like| state.other.imported_hash(like).unwrap();
    assert_eq!(imported(OURS), None, "without an account");
    add("none", None);
    add("ours", Some(&argon2(0)));
    add("ours too", Some(&argon2(1)));
    assert_eq!(imported(OURS), None);
    let older = "$argon2id$v=19$m=4096,t=3,p=1$c2FsdHNhbHQ$aGFzaA";
    add("older", Some(older));
    assert_eq!(
        imported(OURS).as_deref(),
        Some(older),
        "the algorithm is the same, the parameters are not"
    );
    assert_eq!(imported(OURS.trim_end_matches('$')).as_deref(), Some(older));
    add("b1", Some(BCRYPT));
    add("b2", Some(&BCRYPT.replace("abc", "xyz")));
    assert!(imported(OURS).unwrap().starts_with("$2b$12$"));
    // One that is cheaper is of another kind.
    add("b3", Some(&BCRYPT.replace("$12$", "$10$")));
    assert!(imported(OURS).unwrap().starts_with("$2b$12$"));
    assert_eq!(
        imported("$2b$12$").unwrap().split('$').nth(3),
        Some("m=19456,t=2,p=1"),
        "ours, seen from there"
    );
}

pub(in crate::state) fn the_imported_hash_follows_every_change(state: &Opened) {
    let imported = |id: &str| AccountRow {
        password_hash: Some(BCRYPT.to_owned()),
        ..account(id)
    };
    for id in ["a", "b", "c"] {
        state.one.add_account(&imported(id), None).unwrap();
    }
    let common = || state.other.imported_hash(OURS).unwrap();
    state.one.rehash_account("a", BCRYPT, &argon2(1)).unwrap();
    assert_eq!(common().as_deref(), Some(BCRYPT));
    let change = AccountChange {
        password_hash: Some(argon2(2)),
        ..AccountChange::default()
    };
    state.one.change_account("b", &change, &END).unwrap();
    assert_eq!(common().as_deref(), Some(BCRYPT));
    state.one.delete_account("c", &END).unwrap();
    assert_eq!(common(), None);
    state.one.add_account(&imported("d"), None).unwrap();
    assert_eq!(common().as_deref(), Some(BCRYPT));
    // A change of something else leaves the count as it is.
    state
        .one
        .change_account(
            "d",
            &AccountChange {
                name: Some(None),
                ..AccountChange::default()
            },
            &END,
        )
        .unwrap();
    state.one.change_account("d", &change, &END).unwrap();
    assert_eq!(common(), None);
}
