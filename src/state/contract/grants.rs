//! Grants of providers: kept with their session, read by one process at a time.

use super::{END, Opened, add_all, add_two, at_once, seen, session};
use crate::state::{GrantRow, Lease, SessionSelector};

fn grant(session_id: &str, account_id: &str) -> GrantRow {
    GrantRow {
        session_id: session_id.to_owned(),
        account_id: account_id.to_owned(),
        provider: "corp".to_owned(),
        subject: "ann-1".to_owned(),
        sealed: b"\0sealed\xff".to_vec(),
        refreshes: true,
        read_at: 100,
    }
}

fn with_sessions(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[session("s1", "a"), session("s2", "a"), session("s3", "b")],
    );
}

fn lease(now: i64) -> Lease {
    Lease { now, until: now + 60 }
}

pub(in crate::state) fn a_grant_needs_its_session_and_goes_with_it(state: &Opened) {
    with_sessions(state);
    for (session, account) in [("gone", "a"), ("s3", "a")] {
        assert!(!state.one.add_grant(&grant(session, account)).unwrap());
        assert_eq!(state.other.grant(session).unwrap(), None);
    }
    let kept = grant("s1", "a");
    assert!(state.one.add_grant(&kept).unwrap());
    assert!(!state.other.add_grant(&kept).unwrap(), "a session has one");
    assert_eq!(state.other.grant("s1").unwrap(), Some(kept.clone()));
    let next = GrantRow {
        sealed: vec![1],
        refreshes: false,
        read_at: 200,
        ..kept
    };
    assert!(state.other.save_grant(&next, 0).unwrap());
    assert_eq!(state.one.grant("s1").unwrap(), Some(next.clone()));
    state
        .other
        .end_sessions(SessionSelector::One("s1"), &END)
        .unwrap();
    assert_eq!(state.one.grant("s1").unwrap(), None);
    assert!(!state.one.save_grant(&next, 0).unwrap());
    assert!(state.one.add_grant(&grant("s3", "b")).unwrap());
    assert!(state.one.delete_account("b", &END).unwrap());
    assert_eq!(state.other.grant("s3").unwrap(), None);
}

pub(in crate::state) fn grants_are_due_once_their_session_was_seen_again(state: &Opened) {
    with_sessions(state);
    let without = GrantRow {
        refreshes: false,
        ..grant("s2", "a")
    };
    for grant in [&grant("s1", "a"), &without, &grant("s3", "b")] {
        assert!(state.one.add_grant(grant).unwrap());
    }
    let due = |read_before, now, most| {
        let due = state
            .other
            .lease_due_grants(read_before, lease(now), most)
            .unwrap();
        due.into_iter().map(|grant| grant.session_id).collect::<Vec<_>>()
    };
    assert!(due(1000, 200, 9).is_empty(), "no session was seen since");
    for session in ["s1", "s2", "s3"] {
        state
            .one
            .touch_session(session, &seen(150, "192.0.2.1", 300))
            .unwrap();
    }
    assert!(due(99, 200, 9).is_empty(), "all were read later");
    let first = due(100, 200, 1);
    assert_eq!(first.len(), 1);
    let second = due(100, 200, 9);
    let mut both = [first, second].concat();
    both.sort();
    assert_eq!(both, ["s1", "s3"], "a refresh token is needed");
    assert!(due(100, 259, 9).is_empty(), "leased");
    assert_eq!(due(100, 260, 9).len(), 2, "the lease is over");
    let read = GrantRow {
        read_at: 270,
        ..grant("s1", "a")
    };
    assert!(state.one.save_grant(&read, 350).unwrap());
    assert_eq!(due(1000, 349, 9), ["s3"], "the lease of the other one goes on");
    state
        .one
        .touch_session("s1", &seen(280, "192.0.2.1", 400))
        .unwrap();
    assert_eq!(due(1000, 350, 9), ["s1"]);
}

pub(in crate::state) fn of_many_that_lease_a_grant_one_gets_it(state: &Opened) {
    with_sessions(state);
    assert!(state.one.add_grant(&grant("s1", "a")).unwrap());
    let leased = at_once(state, 8, |side, _| side.lease_grant("s1", lease(200)).unwrap());
    assert_eq!(leased.iter().flatten().collect::<Vec<_>>(), [&grant("s1", "a")]);
    let again = state.one.lease_grant("s1", lease(260)).unwrap();
    assert!(again.is_some(), "the lease is over");
    assert_eq!(state.other.lease_grant("s2", lease(300)).unwrap(), None);
}
