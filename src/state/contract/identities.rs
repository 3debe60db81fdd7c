//! Identities at providers: one account for each, apart from local accounts; attempts are completed once.

use super::{END, Opened, account, add_all, add_two, at_once, session};
use crate::state::{AccountChange, Added, IdentityRow, Linked, MOST_IDENTITIES, Unlinked, Ways};

fn identity(subject: &str, account_id: &str) -> IdentityRow {
    IdentityRow {
        provider: "corp".to_owned(),
        subject: subject.to_owned(),
        account_id: account_id.to_owned(),
        email: Some("a@example.com".to_owned()),
        email_verified: true,
        name: Some("Ann".to_owned()),
        roles: vec!["ops".to_owned()],
        updated_at: 50,
    }
}

pub(in crate::state) fn an_identity_makes_one_account_beside_the_local_one_of_its_address(state: &Opened) {
    assert_eq!(state.one.add_account(&account("a"), None).unwrap(), Added::Done);
    let first = state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    assert_eq!(
        (first.id.as_str(), first.email.as_str(), first.confirmed),
        ("x1", "a@example.com", true)
    );
    assert_eq!(
        (first.roles.len(), &*first.all_roles()),
        (0, &["ops".to_owned()][..])
    );
    assert!(first.password_hash.is_none());
    let again = state.other.sign_in_identity(&identity("s1", "x2"), &END).unwrap();
    assert_eq!((again.id.as_str(), again.revision), ("x1", 0));
    let other = IdentityRow {
        provider: "partner".to_owned(),
        ..identity("s1", "x3")
    };
    assert_eq!(state.one.sign_in_identity(&other, &END).unwrap().id, "x3");
    let local = state.one.account_by_email("a@example.com").unwrap().unwrap();
    assert_eq!(local.id, "a");
}

pub(in crate::state) fn other_roles_of_an_identity_make_tokens_stale_and_own_roles_stay(state: &Opened) {
    state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    let own = AccountChange {
        roles: Some(vec!["admin".to_owned()]),
        ..AccountChange::default()
    };
    let changed = state.one.change_account("x1", &own, &END).unwrap().unwrap();
    assert_eq!(changed.all_roles(), ["admin", "ops"]);
    let less = IdentityRow {
        roles: Vec::new(),
        ..identity("s1", "x1")
    };
    let after = state.other.sign_in_identity(&less, &END).unwrap();
    assert_eq!(after.all_roles(), ["admin"]);
    assert_eq!(after.revision, changed.revision + 1);
    assert_eq!(state.one.account("x1").unwrap(), Some(after));
}

pub(in crate::state) fn a_disabled_account_of_an_identity_stays_as_it_is(state: &Opened) {
    state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    let off = AccountChange {
        disabled: Some(true),
        ..AccountChange::default()
    };
    state.one.change_account("x1", &off, &END).unwrap();
    let renamed = IdentityRow {
        name: Some("Other".to_owned()),
        ..identity("s1", "x1")
    };
    let after = state.one.sign_in_identity(&renamed, &END).unwrap();
    assert_eq!((after.disabled, after.name.as_deref()), (true, Some("Ann")));
}

pub(in crate::state) fn a_deleted_account_takes_its_identity_along(state: &Opened) {
    state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    assert!(state.one.delete_account("x1", &END).unwrap());
    assert_eq!(
        state
            .one
            .sign_in_identity(&identity("s1", "x2"), &END)
            .unwrap()
            .id,
        "x2"
    );
}

pub(in crate::state) fn an_update_is_for_an_identity_of_the_account_alone(state: &Opened) {
    let update = |subject, account| {
        state
            .other
            .update_identity(&identity(subject, account), &END)
            .unwrap()
    };
    assert_eq!(update("s1", "x1"), None);
    assert!(state.one.accounts().unwrap().is_empty());
    let first = state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    state.one.sign_in_identity(&identity("s2", "x2"), &END).unwrap();
    assert_eq!(update("s1", "x2"), None);
    assert_eq!(update("s1", "x1"), Some(first.clone()));
    let less = IdentityRow {
        roles: Vec::new(),
        ..identity("s1", "x1")
    };
    let after = state.other.update_identity(&less, &END).unwrap().unwrap();
    assert_eq!((after.all_roles().len(), after.revision), (0, first.revision + 1));
}

fn ways() -> Ways {
    Ways {
        password: true,
        providers: vec!["corp".to_owned()],
    }
}

pub(in crate::state) fn an_identity_is_linked_in_a_session_of_its_account_alone(state: &Opened) {
    add_two(state);
    add_all(state, &[session("of-a", "a"), session("of-b", "b")]);
    let of_a = identity("s1", "a");
    let link = |session: &str| state.one.link_identity(&of_a, session, &END).unwrap();
    for session in ["of-b", "none", ""] {
        assert_eq!(link(session), Linked::NoSession, "{session}");
    }
    assert_eq!(state.other.identities(None).unwrap(), []);
    let Linked::Done(account) = link("of-a") else {
        panic!("not linked")
    };
    assert_eq!(account.id, "a");
    assert_eq!(state.other.identities(Some("a")).unwrap().len(), 1);
    assert_eq!(
        state.one.sign_in_identity(&identity("s1", "x"), &END).unwrap().id,
        "a"
    );
    let off = AccountChange {
        disabled: Some(true),
        ..AccountChange::default()
    };
    state.one.change_account("a", &off, &END).unwrap();
    assert_eq!(link("of-a"), Linked::NoSession);
}

pub(in crate::state) fn an_identity_of_another_account_stays_there(state: &Opened) {
    add_two(state);
    add_all(state, &[session("of-a", "a")]);
    state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    let linked = state.other.link_identity(&identity("s1", "a"), "of-a", &END);
    assert_eq!(linked.unwrap(), Linked::OtherAccount);
    let rows = state.one.identities(None).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].account_id, "x1");
    // Nor can another account remove it.
    let removed = state.one.unlink_identity("a", ("corp", "s1"), &ways(), &END);
    assert_eq!(removed.unwrap(), Unlinked::Missing);
    assert_eq!(state.other.identities(None).unwrap(), rows);
}

pub(in crate::state) fn a_linked_identity_leaves_address_and_name_and_gives_its_roles(state: &Opened) {
    add_two(state);
    add_all(state, &[session("of-b", "b")]);
    let before = state.one.account("b").unwrap().unwrap();
    let of_b = IdentityRow {
        roles: vec!["sre".to_owned()],
        ..identity("s1", "b")
    };
    let Linked::Done(after) = state.one.link_identity(&of_b, "of-b", &END).unwrap() else {
        panic!("not linked")
    };
    assert_eq!(after.granted_roles, ["sre"]);
    assert_eq!(after.revision, before.revision + 1);
    let unverified = IdentityRow {
        email_verified: false,
        roles: Vec::new(),
        ..of_b
    };
    let after = state.other.sign_in_identity(&unverified, &END).unwrap();
    assert_eq!(
        (&after.email, &after.name, after.confirmed),
        (&before.email, &before.name, before.confirmed)
    );
    assert_eq!(after.revision, before.revision + 2, "the role is gone");
    assert_eq!(state.one.account("b").unwrap(), Some(after.clone()));
    // Removed at once, with its roles.
    let with_role = IdentityRow {
        roles: vec!["sre".to_owned()],
        ..unverified
    };
    state.one.sign_in_identity(&with_role, &END).unwrap();
    let removed = state.one.unlink_identity("b", ("corp", "s1"), &ways(), &END);
    assert_eq!(removed.unwrap(), Unlinked::Done);
    let last = state.other.account("b").unwrap().unwrap();
    assert_eq!((last.granted_roles.len(), last.revision), (0, after.revision + 2));
}

pub(in crate::state) fn an_account_has_a_few_identities(state: &Opened) {
    add_two(state);
    add_all(state, &[session("of-a", "a")]);
    for number in 0..MOST_IDENTITIES {
        let of_a = identity(&format!("s{number}"), "a");
        let linked = state.one.link_identity(&of_a, "of-a", &END).unwrap();
        assert!(matches!(linked, Linked::Done(_)), "{number}");
    }
    let link = |subject| {
        state
            .other
            .link_identity(&identity(subject, "a"), "of-a", &END)
            .unwrap()
    };
    assert_eq!(link("one more"), Linked::TooMany);
    assert!(matches!(link("s0"), Linked::Done(_)));
}

pub(in crate::state) fn an_identity_joins_the_confirmed_local_account_of_its_address(state: &Opened) {
    add_two(state);
    let join = |subject: &str, key: &str| {
        state
            .one
            .join_identity(&identity(subject, "x"), key, &END)
            .unwrap()
    };
    assert!(!join("s1", "none@example.com"));
    let other_mailbox = IdentityRow {
        email: Some("\u{e4}@example.com".to_owned()),
        ..identity("s1", "x")
    };
    let joined = state.one.join_identity(&other_mailbox, "a@example.com", &END);
    assert!(!joined.unwrap(), "the key is that of another mailbox");
    let unconfirmed = AccountChange {
        confirmed: Some(false),
        ..AccountChange::default()
    };
    state.one.change_account("b", &unconfirmed, &END).unwrap();
    assert!(!join("s1", "b@example.com"), "anyone can register an address");
    assert_eq!(state.other.identities(None).unwrap(), []);
    assert!(join("s1", "a@example.com"));
    let account = state.other.account("a").unwrap().unwrap();
    assert_eq!(
        (&*account.granted_roles, account.revision),
        (&["ops".to_owned()][..], 1)
    );
    assert_eq!(state.other.identities(Some("a")).unwrap().len(), 1);
    assert!(!join("s1", "a@example.com"), "it has an account");
    assert!(!join("s2", "a@example.com"), "the account has an identity there");
    let made = state.one.sign_in_identity(&identity("s3", "x3"), &END).unwrap();
    assert!(!join("s4", &made.email_key), "it is no local account");
    assert_eq!(state.one.identities(None).unwrap().len(), 2);
}

pub(in crate::state) fn the_last_way_to_sign_in_stays(state: &Opened) {
    add_two(state);
    add_all(state, &[session("of-a", "a")]);
    state
        .one
        .link_identity(&identity("s1", "a"), "of-a", &END)
        .unwrap();
    let no_password = Ways {
        password: false,
        ..ways()
    };
    let remove = |account, subject, ways: &Ways| {
        state
            .one
            .unlink_identity(account, ("corp", subject), ways, &END)
            .unwrap()
    };
    assert_eq!(remove("a", "s1", &no_password), Unlinked::Last);
    assert_eq!(remove("a", "s1", &ways()), Unlinked::Done);
    assert_eq!(remove("a", "s1", &ways()), Unlinked::Missing);
    state.one.sign_in_identity(&identity("s2", "x1"), &END).unwrap();
    assert_eq!(remove("x1", "s2", &ways()), Unlinked::Last);
    assert_eq!(remove("none", "s2", &ways()), Unlinked::Missing);
    // One of a provider that the configuration has no more is no way.
    let gone = IdentityRow {
        provider: "gone".to_owned(),
        ..identity("s3", "x1")
    };
    assert!(state.one.add_session(&session("of-x", "x1"), 0).unwrap());
    state.one.link_identity(&gone, "of-x", &END).unwrap();
    assert_eq!(remove("x1", "s2", &ways()), Unlinked::Last);
}

pub(in crate::state) fn an_account_whose_identity_is_removed_has_the_address_of_another_one(state: &Opened) {
    state.one.sign_in_identity(&identity("s1", "x1"), &END).unwrap();
    assert!(state.one.add_session(&session("of-x", "x1"), 0).unwrap());
    let second = IdentityRow {
        email: Some("second@example.com".to_owned()),
        email_verified: false,
        name: None,
        ..identity("s2", "x1")
    };
    state.one.link_identity(&second, "of-x", &END).unwrap();
    let removed = state.one.unlink_identity("x1", ("corp", "s1"), &ways(), &END);
    assert_eq!(removed.unwrap(), Unlinked::Done);
    let account = state.other.account("x1").unwrap().unwrap();
    assert_eq!(
        (account.email.as_str(), account.confirmed, account.revision),
        ("second@example.com", false, 1)
    );
    assert_eq!(account.made_by(), Some(("corp", "s2")));
    // What was removed is another account from now on.
    assert_eq!(
        state
            .one
            .sign_in_identity(&identity("s1", "x2"), &END)
            .unwrap()
            .id,
        "x2"
    );
}

pub(in crate::state) fn of_many_that_remove_the_last_two_ways_one_is_left(state: &Opened) {
    state.one.sign_in_identity(&identity("s0", "x1"), &END).unwrap();
    assert!(state.one.add_session(&session("of-x", "x1"), 0).unwrap());
    state
        .one
        .link_identity(&identity("s1", "x1"), "of-x", &END)
        .unwrap();
    let done = at_once(state, 8, |side, number| {
        let subject = format!("s{}", number % 2);
        side.unlink_identity("x1", ("corp", &subject), &ways(), &END)
            .unwrap()
    });
    assert_eq!(done.iter().filter(|done| **done == Unlinked::Done).count(), 1);
    assert_eq!(state.one.identities(Some("x1")).unwrap().len(), 1);
}

pub(in crate::state) fn of_many_first_sign_ins_of_an_identity_one_makes_the_account(state: &Opened) {
    let ids = at_once(state, 8, |side, number| {
        side.sign_in_identity(&identity("s1", &format!("x{number}")), &END)
            .unwrap()
            .id
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(state.one.accounts().unwrap().len(), 1);
}

pub(in crate::state) fn of_many_that_complete_an_attempt_one_does(state: &Opened) {
    let done = at_once(state, 8, |side, _| {
        side.spend_attempt(&[1; 32], 700, 100).unwrap()
    });
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert!(state.one.spend_attempt(&[2; 32], 700, 100).unwrap());
    assert!(state.other.is_spent(&[2; 32], 699).unwrap());
    assert!(!state.other.is_spent(&[2; 32], 700).unwrap());
    assert!(!state.other.is_spent(&[4; 32], 100).unwrap());
    assert!(!state.other.spend_attempt(&[1; 32], 700, 699).unwrap());
    assert!(state.other.spend_attempt(&[3; 32], 900, 700).unwrap());
    assert!(
        state.one.spend_attempt(&[1; 32], 900, 700).unwrap(),
        "forgotten once it has expired"
    );
}
