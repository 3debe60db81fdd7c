//! Revocations: seen by everybody, widened, and forgotten in time.

use std::collections::BTreeSet;

use super::{END, Opened, account, at_once, key, token};
use crate::revocation::{Revocation, Target};
use crate::state::{AccountChange, PURGED_AT_ONCE};

fn targets(revocations: &[Revocation]) -> BTreeSet<(String, Target)> {
    revocations
        .iter()
        .map(|known| (known.issuer.clone(), known.target.clone()))
        .collect()
}

pub(in crate::state) fn a_revocation_is_seen_by_the_other_side_once_it_has_expired_no_more(state: &Opened) {
    let revocation = token("t1", 100, Some(200));
    state.one.revoke(&revocation).unwrap();
    for now in [0, 100, 199] {
        assert_eq!(
            state.other.revocations(now).unwrap(),
            std::slice::from_ref(&revocation)
        );
    }
    assert_eq!(state.other.revocations(200).unwrap(), []);
}

pub(in crate::state) fn revoking_again_widens_and_never_narrows(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(300))).unwrap();
    state.other.revoke(&token("t1", 90, Some(200))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 100, Some(300))]);
    state.other.revoke(&token("t1", 120, None)).unwrap();
    state.one.revoke(&token("t1", 110, Some(400))).unwrap();
    assert_eq!(state.one.revocations(0).unwrap(), [token("t1", 120, None)]);
}

pub(in crate::state) fn tokens_and_subjects_and_sessions_and_issuers_are_kept_apart(state: &Opened) {
    let subject = Revocation {
        target: Target::Subject("x".to_owned()),
        ..token("", 1, None)
    };
    let session = Revocation {
        target: Target::Session("x".to_owned()),
        ..token("", 1, None)
    };
    let elsewhere = Revocation {
        issuer: "partner".to_owned(),
        ..token("x", 1, None)
    };
    let stale = Target::Stale {
        subject: "x".to_owned(),
        revision: 1,
    };
    let stale = Revocation {
        target: stale,
        ..token("", 1, None)
    };
    let all = [
        token("x", 1, None),
        token("X", 1, None),
        subject,
        session,
        stale,
        elsewhere,
    ];
    for revocation in &all {
        state.one.revoke(revocation).unwrap();
    }
    assert_eq!(targets(&state.other.revocations(0).unwrap()), targets(&all));
}

pub(in crate::state) fn expired_revocations_are_deleted_when_they_are_purged(state: &Opened) {
    state.one.revoke(&token("t1", 100, Some(200))).unwrap();
    state.one.revoke(&token("t2", 100, None)).unwrap();
    // Reading deletes nothing, and nothing is deleted before its time.
    assert_eq!(state.one.revocations(i64::MAX).unwrap().len(), 1);
    assert!(!state.one.purge_revocations(199).unwrap());
    assert_eq!(state.other.revocations(150).unwrap().len(), 2);
    let seen = state.other.version().unwrap();
    assert!(!state.one.purge_revocations(200).unwrap());
    assert_eq!(state.other.revocations(150).unwrap(), [token("t2", 100, None)]);
    let reading = state.other.revocations_after(Some(seen), 0).unwrap();
    assert_eq!((reading.rows, reading.is_whole), (vec![], false));
    let many: Vec<_> = (0..PURGED_AT_ONCE + 1)
        .map(|number| token(&number.to_string(), 1, Some(1)))
        .collect();
    for revocation in &many {
        state.other.revoke(revocation).unwrap();
    }
    assert!(state.one.purge_revocations(1).unwrap());
    assert!(!state.one.purge_revocations(1).unwrap());
    assert_eq!(state.other.revocations(0).unwrap(), [token("t2", 100, None)]);
}

pub(in crate::state) fn only_what_was_written_since_is_read(state: &Opened) {
    let mut seen = None;
    let mut new = || {
        let reading = state.other.revocations_after(seen, 150).unwrap();
        assert_eq!(reading.is_whole, seen.is_none());
        assert_eq!(state.one.version().unwrap(), reading.version);
        seen = Some(reading.version);
        reading.rows
    };
    assert_eq!(new(), []);
    state.one.revoke(&token("t1", 100, None)).unwrap();
    state.other.revoke(&token("t2", 101, Some(151))).unwrap();
    state.one.revoke(&token("t3", 102, Some(150))).unwrap();
    assert_eq!(new(), [token("t1", 100, None), token("t2", 101, Some(151))]);
    assert_eq!(new(), []);
    // One that is widened is new again, as wide as it is; also where nothing changes.
    state.one.revoke(&token("t2", 90, Some(900))).unwrap();
    state.one.revoke(&token("t1", 100, None)).unwrap();
    assert_eq!(new(), [token("t2", 101, Some(900)), token("t1", 100, None)]);
    // What else is written is no revocation.
    state.one.ensure_signing_key(&key("k1", 1)).unwrap();
    state.one.add_account(&account("a"), Some("admin")).unwrap();
    assert_eq!(new(), []);
}

pub(in crate::state) fn what_is_taken_back_is_read_as_such(state: &Opened) {
    state.one.add_account(&account("a"), Some("admin")).unwrap();
    let roles = AccountChange {
        roles: Some(vec![]),
        ..AccountChange::default()
    };
    let changed = state.one.change_account("a", &roles, &END).unwrap().unwrap();
    let reading = state.other.revocations_after(None, 200).unwrap();
    let stale = |revision| Target::Stale {
        subject: "a".to_owned(),
        revision,
    };
    assert_eq!(
        reading
            .rows
            .iter()
            .map(|row| row.target.clone())
            .collect::<Vec<_>>(),
        [stale(changed.revision)]
    );
    state.one.delete_account("a", &END).unwrap();
    let later = state.other.revocations_after(Some(reading.version), 200).unwrap();
    assert_eq!(
        later
            .rows
            .iter()
            .map(|row| row.target.clone())
            .collect::<Vec<_>>(),
        [stale(0)]
    );
    assert!(!later.is_whole);
    assert_eq!(
        state.other.revocations(200).unwrap(),
        [],
        "and there is nothing of it for who reads all"
    );
    // Another account of the same id begins anew.
    state.one.add_account(&account("a"), Some("admin")).unwrap();
    let changed = state.one.change_account("a", &roles, &END).unwrap().unwrap();
    assert_eq!(
        state.other.revocations(200).unwrap()[0].target,
        stale(changed.revision)
    );
}

pub(in crate::state) fn of_many_that_write_at_once_a_reader_misses_none(state: &Opened) {
    const WRITERS: usize = 4;
    const EACH: usize = 50;
    let found = at_once(state, WRITERS + 1, |side, number| {
        if number < WRITERS {
            for row in 0..EACH {
                side.revoke(&token(&format!("{number}-{row}"), 1, None)).unwrap();
            }
            return 0;
        }
        let (mut seen, mut found) = (None, BTreeSet::new());
        while found.len() < WRITERS * EACH {
            let reading = side.revocations_after(seen, 0).unwrap();
            assert_eq!(reading.is_whole, seen.is_none());
            for row in reading.rows {
                assert!(found.insert(row.target), "what was read once is not read again");
            }
            seen = Some(reading.version);
        }
        found.len()
    });
    assert_eq!(found.into_iter().max(), Some(WRITERS * EACH));
}
