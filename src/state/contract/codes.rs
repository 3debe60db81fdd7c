//! One-time codes: taken once, gone with their session, few.

use super::{END, Opened, add_all, add_two, at_once, session};
use crate::state::{CodeRow, MOST_CODES, SessionSelector};

fn code(number: u8, session_id: &str) -> CodeRow {
    CodeRow {
        hash: [number; 32],
        session_id: session_id.to_owned(),
        host: "reports.example.com:8443".to_owned(),
        nonce: [!number; 32],
        return_to: "/q1?year=2026&q=a%20b".to_owned(),
        expires_at: 160,
    }
}

fn with_sessions(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[session("s1", "a"), session("s2", "a"), session("s3", "b")],
    );
}

pub(in crate::state) fn a_code_is_taken_once_by_either_side(state: &Opened) {
    with_sessions(state);
    let before = state.one.version().unwrap();
    assert!(state.one.add_code(&code(1, "s1"), 100).unwrap());
    assert!(state.other.add_code(&code(2, "s1"), 100).unwrap());
    assert_eq!(state.other.take_code(&[3; 32]).unwrap(), None);
    assert_eq!(state.other.take_code(&[1; 32]).unwrap(), Some(code(1, "s1")));
    for side in [&state.one, &state.other] {
        assert_eq!(side.take_code(&[1; 32]).unwrap(), None);
    }
    assert_eq!(
        state.one.take_code(&[2; 32]).unwrap(),
        Some(code(2, "s1")),
        "another one of the session stays"
    );
    assert_eq!(
        state.one.version().unwrap(),
        before,
        "nothing that a process holds in memory"
    );
}

pub(in crate::state) fn of_many_that_take_one_code_one_gets_it(state: &Opened) {
    with_sessions(state);
    assert!(state.one.add_code(&code(1, "s1"), 100).unwrap());
    let taken = at_once(state, 8, |side, _| side.take_code(&[1; 32]).unwrap());
    assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), [&code(1, "s1")]);
}

pub(in crate::state) fn a_code_needs_its_session_and_goes_with_it(state: &Opened) {
    with_sessions(state);
    assert!(!state.one.add_code(&code(1, "gone"), 100).unwrap());
    assert_eq!(state.one.take_code(&[1; 32]).unwrap(), None);
    for (number, which, session_id) in [
        (2, SessionSelector::One("s1"), "s1"),
        (3, SessionSelector::Account("a"), "s2"),
        (4, SessionSelector::Over { now: 1000, idle: 10 }, "s3"),
    ] {
        assert!(state.one.add_code(&code(number, session_id), 100).unwrap());
        state.other.end_sessions(which, &END).unwrap();
        assert_eq!(state.one.take_code(&[number; 32]).unwrap(), None, "{which:?}");
        assert!(!state.one.add_code(&code(number, session_id), 100).unwrap());
    }
    add_all(state, &[session("s4", "b")]);
    assert!(state.one.add_code(&code(5, "s4"), 100).unwrap());
    assert!(state.other.delete_account("b", &END).unwrap());
    assert_eq!(state.one.take_code(&[5; 32]).unwrap(), None);
}

pub(in crate::state) fn of_one_session_a_few_codes_are_kept_and_none_that_has_expired(state: &Opened) {
    with_sessions(state);
    assert!(state.one.add_code(&code(200, "s2"), 100).unwrap());
    let most = u8::try_from(MOST_CODES).unwrap();
    for number in 0..most + 2 {
        assert!(state.one.add_code(&code(number, "s1"), 100).unwrap());
    }
    let is_there = |number: u8| state.other.take_code(&[number; 32]).unwrap().is_some();
    assert_eq!(
        [0, 1, 2, most + 1].map(is_there),
        [false, false, true, true],
        "the oldest go"
    );
    assert!(is_there(200), "another session's stay");
    assert!(
        state
            .one
            .add_code(
                &CodeRow {
                    expires_at: 300,
                    ..code(100, "s1")
                },
                160
            )
            .unwrap()
    );
    assert_eq!(
        [3, most, 100].map(is_there),
        [false, false, true],
        "what has expired goes on the way"
    );
}
