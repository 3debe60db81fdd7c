//! Refresh tokens: each is exchanged once, and a retry is told from a theft.

use super::{END, Opened, add_all, add_two, at_once, client, exchange, seen, session};
use crate::state::{AccountChange, RefreshRow, Rotation, SessionRow, State};

const GRACE: i64 = 10;

fn present(side: &dyn State, token: u8, successor: u8, now: i64) -> Rotation {
    side.rotate_refresh(&exchange(
        "s1",
        &[token; 32],
        &[successor; 32],
        GRACE,
        seen(now, "192.0.2.7", 0),
    ))
    .unwrap()
}

fn stored(state: &Opened) -> SessionRow {
    let (session, _) = state.other.session("s1").unwrap().unwrap();
    session
}

fn begin(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[
            client("s1", "a", 1),
            client("s2", "a", 1),
            session("browser", "a"),
        ],
    );
}

pub(in crate::state) fn a_token_is_exchanged_once_and_a_retry_is_told_so(state: &Opened) {
    begin(state);
    assert_eq!(present(&*state.one, 1, 2, 500), Rotation::Rotated);
    let refresh = Some(RefreshRow {
        current: [2; 32],
        previous: Some([1; 32]),
        rotated_at: 500,
    });
    let after = SessionRow {
        seen_at: 500,
        address: "192.0.2.7".to_owned(),
        refresh,
        ..client("s1", "a", 1)
    };
    assert_eq!(stored(state), after);
    for (number, now) in [500, 505, 510, 499, 490].into_iter().enumerate() {
        assert_eq!(
            present(&**state.side(number), 1, 2, now),
            Rotation::Repeated,
            "{now}"
        );
        assert_eq!(stored(state), after, "a retry changes nothing");
    }
    assert_eq!(state.one.session("s2").unwrap().unwrap().0, client("s2", "a", 1));
    // A clock that was set back exchanges, and does not forget when it was seen.
    assert_eq!(present(&*state.other, 2, 3, 400), Rotation::Rotated);
    assert_eq!(
        (stored(state).seen_at, stored(state).refresh.unwrap().rotated_at),
        (500, 400)
    );
}

pub(in crate::state) fn a_token_is_spent_once_its_successor_was_used(state: &Opened) {
    begin(state);
    assert_eq!(present(&*state.one, 1, 2, 500), Rotation::Rotated);
    assert_eq!(present(&*state.other, 2, 3, 500), Rotation::Rotated);
    let after = stored(state);
    assert_eq!(present(&*state.one, 1, 2, 500), Rotation::Spent);
    assert_eq!(present(&*state.other, 2, 3, 501), Rotation::Repeated);
    assert_eq!(stored(state), after);
}

pub(in crate::state) fn a_token_is_spent_after_the_grace(state: &Opened) {
    begin(state);
    assert_eq!(present(&*state.one, 1, 2, 500), Rotation::Rotated);
    let after = stored(state);
    for now in [511, i64::MAX, 489, i64::MIN] {
        assert_eq!(present(&*state.other, 1, 2, now), Rotation::Spent, "{now}");
    }
    assert_eq!(stored(state), after);
    assert_eq!(
        present(&*state.other, 2, 3, 511),
        Rotation::Rotated,
        "the good one is not hurt by it"
    );
}

pub(in crate::state) fn a_token_of_nobody_changes_nothing(state: &Opened) {
    begin(state);
    let before = stored(state);
    assert_eq!(present(&*state.one, 8, 9, 500), Rotation::Spent);
    // Not even one that is all zeros, where there was none before.
    assert_eq!(present(&*state.one, 0, 9, 100), Rotation::Spent);
    assert_eq!(stored(state), before);
}

pub(in crate::state) fn nothing_is_exchanged_for_who_may_not_sign_in(state: &Opened) {
    begin(state);
    let rotate = |id: &str| {
        state
            .other
            .rotate_refresh(&exchange(
                id,
                &[1; 32],
                &[2; 32],
                GRACE,
                seen(500, "192.0.2.7", 0),
            ))
            .unwrap()
    };
    assert_eq!(rotate("nobody's"), Rotation::Missing);
    assert_eq!(rotate("browser"), Rotation::Missing);
    let disabled = |disabled| AccountChange {
        disabled: Some(disabled),
        ..AccountChange::default()
    };
    state.one.change_account("a", &disabled(true), &END).unwrap();
    assert_eq!(rotate("s1"), Rotation::Missing);
    assert_eq!(stored(state), client("s1", "a", 1));
    state.one.change_account("a", &disabled(false), &END).unwrap();
    assert_eq!(rotate("s1"), Rotation::Rotated);
    state.one.change_account("a", &disabled(true), &END).unwrap();
    assert_eq!(rotate("s1"), Rotation::Missing, "a retry neither");
}

pub(in crate::state) fn of_many_that_present_one_token_one_exchanges_it(state: &Opened) {
    begin(state);
    let came_to = at_once(state, 20, |side, _| present(side, 1, 2, 500));
    assert_eq!(
        came_to.iter().filter(|it| **it == Rotation::Rotated).count(),
        1,
        "{came_to:?}"
    );
    assert_eq!(
        came_to.iter().filter(|it| **it == Rotation::Repeated).count(),
        19,
        "{came_to:?}"
    );
    assert_eq!(stored(state).refresh.unwrap().current, [2; 32]);
}

pub(in crate::state) fn of_many_that_go_on_from_one_token_one_branch_is_left(state: &Opened) {
    begin(state);
    let came_to = at_once(state, 20, |side, _| {
        let first = present(side, 1, 2, 500);
        // A client that got the successor uses it.
        let second = (first != Rotation::Spent).then(|| present(side, 2, 3, 500));
        (first, second)
    });
    let firsts = came_to
        .iter()
        .filter(|(first, _)| *first == Rotation::Rotated)
        .count();
    let seconds = came_to
        .iter()
        .filter(|(_, second)| *second == Some(Rotation::Rotated))
        .count();
    assert_eq!((firsts, seconds), (1, 1), "{came_to:?}");
    for (first, second) in came_to {
        assert_ne!(first, Rotation::Missing);
        assert_ne!(second, Some(Rotation::Missing));
        // Whoever had the successor, from the exchange or from a retry, may go on with it.
        assert_ne!(second, Some(Rotation::Spent));
    }
    let refresh = stored(state).refresh.unwrap();
    assert_eq!((refresh.current, refresh.previous), ([3; 32], Some([2; 32])));
}
