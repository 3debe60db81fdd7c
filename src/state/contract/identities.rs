//! Identities at providers: one account for each, apart from local accounts; attempts are completed once.

use super::{END, Opened, account, at_once};
use crate::state::{AccountChange, Added, IdentityRow};

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
    assert!(!state.other.spend_attempt(&[1; 32], 700, 699).unwrap());
    assert!(state.other.spend_attempt(&[3; 32], 900, 700).unwrap());
    assert!(
        state.one.spend_attempt(&[1; 32], 900, 700).unwrap(),
        "forgotten once it has expired"
    );
}
