//! Sessions: opened by who may, seen, ended.

use super::{
    END, Opened, account, add_all, add_two, at_once, client, exchange, left, revoked, seen, session,
};
use crate::revocation::Target;
use crate::state::{
    AccountChange, Authentication, EndSessions, RefreshRow, Rotation, SessionRow, SessionSelector,
    TOKEN_MARGIN,
};

pub(in crate::state) fn a_session_is_opened_only_by_who_may_sign_in_now(state: &Opened) {
    add_two(state);
    let browser = session("s1", "a");
    let previous = Some([9; 32]);
    let api = SessionRow {
        refresh: Some(RefreshRow {
            current: [1; 32],
            previous,
            rotated_at: 5,
        }),
        ..client("s2", "a", 1)
    };
    for new in [&browser, &api] {
        assert!(state.one.add_session(new, 1).unwrap());
        assert_eq!(
            state.other.session(&new.id).unwrap(),
            Some((new.clone(), account("a")))
        );
    }
    let refused = |id: &str, account_id: &str, version| {
        assert!(
            !state
                .other
                .add_session(&session(id, account_id), version)
                .unwrap(),
            "{id} {account_id} {version}"
        );
    };
    refused("s3", "nobody", 1);
    refused("s3", "a", 0);
    refused("s3", "a", 2);
    // An id that is taken, whoever has it.
    refused("s1", "a", 1);
    refused("s1", "b", 1);
    let disabled = |disabled| AccountChange {
        disabled: Some(disabled),
        ..AccountChange::default()
    };
    state.one.change_account("a", &disabled(true), &END).unwrap();
    refused("s3", "a", 1);
    assert!(
        state.other.session("s1").unwrap().unwrap().1.disabled,
        "what is open says so at the next look"
    );
    state.one.change_account("a", &disabled(false), &END).unwrap();
    assert!(state.other.add_session(&session("s3", "a"), 1).unwrap());
    assert_eq!(left(state), ["s1", "s2", "s3"]);
    assert_eq!(state.one.session("s4").unwrap(), None);
}

pub(in crate::state) fn sessions_are_listed_last_seen_first(state: &Opened) {
    add_two(state);
    let last = |id, account_id, seen_at| SessionRow {
        seen_at,
        ..session(id, account_id)
    };
    add_all(
        state,
        &[
            last("s1", "a", 20),
            last("s2", "b", 30),
            client("s3", "a", 1),
            last("s4", "a", 20),
        ],
    );
    let ids = |account_id: Option<&str>| {
        state
            .other
            .sessions(account_id)
            .unwrap()
            .into_iter()
            .map(|session| session.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(None), ["s3", "s2", "s4", "s1"]);
    assert_eq!(ids(Some("a")), ["s3", "s4", "s1"]);
    assert_eq!(ids(Some("nobody")), [""; 0]);
    assert!(state.one.touch_session("s1", &seen(500, "192.0.2.1", 0)).unwrap());
    assert_eq!(ids(Some("a")), ["s1", "s3", "s4"]);
    assert_eq!(state.other.sessions(Some("b")).unwrap(), [last("s2", "b", 30)]);
}

pub(in crate::state) fn being_seen_never_goes_back(state: &Opened) {
    add_two(state);
    add_all(state, &[session("s1", "a"), session("s2", "a")]);
    let at = |id: &str| {
        let (session, _) = state.other.session(id).unwrap().unwrap();
        (session.seen_at, session.address, session.tokens_until)
    };
    assert!(
        state
            .one
            .touch_session("s1", &seen(150, "2001:db8::1", 1050))
            .unwrap()
    );
    assert_eq!(at("s1"), (150, "2001:db8::1".to_owned(), Some(1050)));
    assert!(
        state
            .other
            .touch_session("s1", &seen(149, "192.0.2.9", 1049))
            .unwrap()
    );
    assert_eq!(at("s1"), (150, "2001:db8::1".to_owned(), Some(1050)));
    // A token for which the clock was set back lives no shorter.
    assert!(
        state
            .other
            .touch_session("s1", &seen(149, "192.0.2.9", 1051))
            .unwrap()
    );
    assert_eq!(at("s1"), (150, "2001:db8::1".to_owned(), Some(1051)));
    let times: Vec<i64> = at_once(state, 10, |side, number| {
        let time = 200 + (7 * number as i64) % 10;
        assert!(
            side.touch_session("s1", &seen(time, &format!("192.0.2.{time}"), time + 2000))
                .unwrap()
        );
        time
    });
    let last = *times.iter().max().unwrap();
    assert_eq!(at("s1"), (last, format!("192.0.2.{last}"), Some(last + 2000)));
    assert_eq!(at("s2"), (100, "192.0.2.1".to_owned(), Some(240)));
    assert!(!state.one.touch_session("gone", &seen(1, "192.0.2.1", 1)).unwrap());
    assert_eq!(left(state), ["s1", "s2"]);
}

pub(in crate::state) fn an_end_is_remembered_as_long_as_tokens_live(state: &Opened) {
    add_two(state);
    let with = |id: &str, tokens_until| SessionRow {
        tokens_until,
        ..session(id, "a")
    };
    add_all(
        state,
        &[
            with("live", Some(500)),
            with("over", Some(150)),
            with("unknown", None),
            client("api", "a", 1),
        ],
    );
    assert!(
        state
            .one
            .touch_session("unknown", &seen(150, "192.0.2.1", 250))
            .unwrap()
    );
    let rotation = state
        .other
        .rotate_refresh(&exchange(
            "api",
            &[1; 32],
            &[2; 32],
            10,
            seen(150, "192.0.2.1", 700),
        ))
        .unwrap();
    assert_eq!(rotation, Rotation::Rotated);
    state
        .one
        .end_sessions(SessionSelector::Account("a"), &END)
        .unwrap();
    let until = |id: &str| {
        let target = Target::Session(id.to_owned());
        state
            .other
            .revocations(0)
            .unwrap()
            .into_iter()
            .find(|row| row.target == target)
            .unwrap()
            .expires_at
            .unwrap()
    };
    let found = ["live", "over", "api", "unknown"].map(until);
    assert_eq!(
        found,
        [
            500 + TOKEN_MARGIN,
            END.now + TOKEN_MARGIN,
            700 + TOKEN_MARGIN,
            END.revoked_until
        ]
    );
}

fn by(provider: &str, subject: &str, sid: Option<&str>, session: SessionRow) -> SessionRow {
    let authentication = Authentication {
        provider: Some(provider.to_owned()),
        provider_subject: Some(subject.to_owned()),
        provider_sid: sid.map(str::to_owned),
        ..Authentication::default()
    };
    SessionRow {
        authentication,
        ..session
    }
}

pub(in crate::state) fn each_way_to_end_sessions_ends_those_and_no_others(state: &Opened) {
    add_two(state);
    let all = [
        session("a1", "a"),
        by("corp", "ann", Some("x"), session("a2", "a")),
        by("corp", "ann", None, client("a3", "a", 1)),
        by("corp", "bob", Some("x"), session("b1", "b")),
        by("other", "ann", None, client("b2", "b", 2)),
    ];
    let mut gone = Vec::new();
    let mut check = |which, expected: &[&str]| {
        // Those of before are put back under the same ids; what was revoked stays so.
        for new in &all {
            state.one.add_session(new, 1).unwrap();
        }
        let mut ended = state.other.end_sessions(which, &END).unwrap();
        ended.sort();
        assert_eq!(ended, expected, "{which:?}");
        let rest: Vec<_> = all
            .iter()
            .map(|it| it.id.as_str())
            .filter(|id| !expected.contains(id))
            .collect();
        assert_eq!(left(state), rest, "{which:?}");
        gone.extend(ended);
        gone.sort();
        gone.dedup();
        assert_eq!(revoked(state), gone, "{which:?}");
    };
    check(SessionSelector::One("nobody's"), &[]);
    check(SessionSelector::One("a1"), &["a1"]);
    check(
        SessionSelector::Own {
            id: "b1",
            account_id: "a",
        },
        &[],
    );
    check(
        SessionSelector::Own {
            id: "b2",
            account_id: "b",
        },
        &["b2"],
    );
    check(SessionSelector::Account("nobody"), &[]);
    check(
        SessionSelector::Others {
            account_id: "a",
            keep: "a2",
        },
        &["a1", "a3"],
    );
    // To keep one of somebody else keeps none.
    check(
        SessionSelector::Others {
            account_id: "a",
            keep: "b1",
        },
        &["a1", "a2", "a3"],
    );
    check(SessionSelector::Account("b"), &["b1", "b2"]);
    let at = |provider, sid| SessionSelector::ProviderSession { provider, sid };
    let of = |provider, subject| SessionSelector::ProviderSubject { provider, subject };
    check(at("corp", "x"), &["a2", "b1"]);
    check(of("corp", "ann"), &["a2", "a3"]);
    check(of("other", "ann"), &["b2"]);
    for none in [
        at("other", "x"),
        at("corp", ""),
        at("", "x"),
        of("corp", "x"),
        of("", ""),
    ] {
        check(none, &[]);
    }
    assert_eq!(state.one.accounts().unwrap().len(), 2);
}

pub(in crate::state) fn sessions_are_over_by_their_limits(state: &Opened) {
    add_two(state);
    let timed = |session: SessionRow, seen_at, expires_at| SessionRow {
        seen_at,
        expires_at,
        ..session
    };
    add_all(
        state,
        &[
            timed(session("idle", "a"), 150, 1000),
            timed(session("busy", "a"), 151, 1000),
            timed(session("expired", "a"), 200, 200),
            timed(session("expiring", "b"), 200, 201),
            timed(client("client idle", "b", 1), 1, 1000),
            timed(client("client expired", "b", 2), 200, 199),
        ],
    );
    // The row of a session that is over is still a row.
    assert!(state.one.session("expired").unwrap().is_some());
    let over = |now, idle| {
        let mut ended = state
            .one
            .end_sessions(SessionSelector::Over { now, idle }, &END)
            .unwrap();
        ended.sort();
        ended
    };
    assert_eq!(over(i64::MIN, i64::MAX), [""; 0]);
    assert_eq!(over(199, 50), ["client expired"]);
    assert_eq!(over(200, 50), ["expired", "idle"]);
    assert_eq!(over(200, 50), [""; 0]);
    assert_eq!(left(state), ["busy", "client idle", "expiring"]);
    assert_eq!(revoked(state), ["client expired", "expired", "idle"]);
    assert_eq!(over(i64::MAX, i64::MAX), ["busy", "client idle", "expiring"]);
}

pub(in crate::state) fn what_ended_is_revoked_and_ends_once(state: &Opened) {
    add_two(state);
    let ids: Vec<_> = (0..5).map(|number| format!("s{number}")).collect();
    add_all(state, &ids.iter().map(|id| session(id, "a")).collect::<Vec<_>>());
    let ended = at_once(state, 6, |side, _| {
        side.end_sessions(SessionSelector::Account("a"), &END).unwrap()
    });
    let mut once: Vec<_> = ended.into_iter().flatten().collect();
    once.sort();
    assert_eq!(once, ids);
    assert_eq!(revoked(state), ids);
    assert_eq!(
        state.one.revocations(300).unwrap(),
        [],
        "no token of theirs would be taken any more"
    );
    for id in &ids {
        assert_eq!(state.one.session(id).unwrap(), None);
    }
}

pub(in crate::state) fn the_kept_session_never_ends(state: &Opened) {
    add_two(state);
    add_all(
        state,
        &[session("s1", "a"), session("s2", "a"), session("s3", "a")],
    );
    let keep = EndSessions {
        cause: crate::state::EndCause::Command,
        keep: Some("s1"),
        ..END
    };
    assert_eq!(
        state.one.end_sessions(SessionSelector::One("s1"), &keep).unwrap(),
        [""; 0]
    );
    assert_eq!(
        state
            .one
            .end_sessions(
                SessionSelector::Own {
                    id: "s1",
                    account_id: "a"
                },
                &keep
            )
            .unwrap(),
        [""; 0]
    );
    assert_eq!(
        state
            .one
            .end_sessions(
                SessionSelector::Others {
                    account_id: "a",
                    keep: "s2"
                },
                &keep
            )
            .unwrap(),
        ["s3"]
    );
    assert_eq!(
        state
            .one
            .end_sessions(SessionSelector::Account("a"), &keep)
            .unwrap(),
        ["s2"]
    );
    assert_eq!(
        state
            .one
            .end_sessions(
                SessionSelector::Over {
                    now: i64::MAX,
                    idle: 0
                },
                &keep
            )
            .unwrap(),
        [""; 0]
    );
    assert_eq!(left(state), ["s1"]);
    assert_eq!(revoked(state), ["s2", "s3"]);
}

/// Whichever comes first: either the session is refused, or it is there to be ended.
pub(in crate::state) fn a_password_that_changes_while_somebody_signs_in_leaves_no_session_of_the_old_one(
    state: &Opened,
) {
    add_two(state);
    let opened = at_once(state, 8, |side, number| {
        if number == 3 {
            let hash = Some("$2b$12$x".to_owned());
            let change = AccountChange {
                password_hash: hash,
                ends_sessions: true,
                ..AccountChange::default()
            };
            side.change_account("a", &change, &END).unwrap();
            return None;
        }
        let id = format!("s{number}");
        side.add_session(&session(&id, "a"), 1).unwrap().then_some(id)
    });
    assert_eq!(left(state), [""; 0]);
    let opened: Vec<_> = opened.into_iter().flatten().collect();
    assert_eq!(revoked(state), opened);
}
