//! Sessions that end: at once for all readers of the state, and no more of them than are kept.

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::revocation::{Revocation, Target};

fn rows(state: &dyn State) -> Vec<Revocation> {
    state.revocations(NOW).unwrap()
}

#[test]
fn the_end_of_a_session_is_remembered_as_long_as_its_last_token_lives() {
    let house = House::new();
    let until = |id: &str| {
        house
            .sessions
            .end(SessionSelector::One(id), crate::state::EndCause::SignedOut)
            .unwrap();
        let row = rows(&*house.state)
            .into_iter()
            .find(|row| row.target == Target::Session(id.to_owned()));
        row.unwrap().expires_at.unwrap() - NOW
    };
    let [renewed, idle] = [house.browser(), house.browser()];
    let [refreshed, retried] = [house.client(), house.client()];
    house.clock.advance(1000);
    house.renew(&renewed).unwrap();
    house.refresh(&refreshed).unwrap();
    house.refresh(&retried).unwrap();
    house.clock.advance(GRACE);
    // The client did not hear the answer: another token with a later end, of which nothing is noted.
    let again = house.refresh(&retried).unwrap();
    let exp = verify_signature(&again.access_token, &house.keys, &[Algorithm::ES256]).unwrap();
    let exp = serde_json::from_slice::<Value>(&exp).unwrap()["exp"]
        .as_i64()
        .unwrap()
        - NOW;
    assert!(exp < until(&retried.session_id), "{exp}");
    assert_eq!(until(&renewed.session_id), 1900 + 60);
    assert_eq!(until(&refreshed.session_id), 1900 + 60);
    assert_eq!(until(&idle.session_id), 1010 + 60);
}

#[test]
fn a_session_of_a_version_that_noted_nothing_is_remembered_for_a_day() {
    let house = House::new();
    let cookie = house.browser();
    let row = SessionRow {
        id: "old".to_owned(),
        tokens_until: None,
        ..house.row(&cookie.session_id).unwrap()
    };
    assert!(house.state.add_session(&row, 1).unwrap());
    house.clock.advance(5);
    assert!(house.sessions.renew("old", "ann", HOST, THERE).unwrap().is_some());
    house
        .sessions
        .end(SessionSelector::One("old"), crate::state::EndCause::SignedOut)
        .unwrap();
    // The longest that a token can live by any configuration.
    assert_eq!(rows(&*house.state)[0].expires_at, Some(NOW + 5 + 86_400 + 60));
}

#[test]
fn an_account_opens_120_sessions_a_minute_of_whatever_kind() {
    let house = House::new();
    let bob = account("bob");
    house.add(&bob);
    for number in 0..PER_MINUTE {
        if number % 2 == 0 {
            drop(house.browser())
        } else {
            drop(house.client())
        }
    }
    let refused = [
        house
            .sessions
            .open_browser(&house.ann, Authentication::default(), &device(), HOST)
            .unwrap_err(),
        house
            .sessions
            .open_client(&house.ann, Authentication::default(), &device())
            .unwrap_err(),
    ];
    assert_eq!(refused, [SessionError::Throttled, SessionError::Throttled]);
    assert!(
        house
            .sessions
            .open_browser(&bob, Authentication::default(), &device(), HOST)
            .is_ok()
    );
    house.clock.advance(60);
    house.browser();
}

#[test]
fn an_ended_session_is_refused_at_once() {
    let house = House::new();
    let (cookie, tokens, other) = (house.browser(), house.client(), house.browser());
    let mut bell = house.revocations.subscribe();
    assert_eq!(
        (house.check(&cookie), house.verify(&tokens.access_token)),
        (Ok(()), Ok(()))
    );
    let ended = house
        .sessions
        .end(
            SessionSelector::One(&cookie.session_id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    assert_eq!(ended, std::slice::from_ref(&cookie.session_id));
    assert_eq!(house.check(&cookie), Err(Refusal::Revoked));
    assert!(bell.has_changed().unwrap(), "open streams hear of it");
    assert!(house.renew(&cookie).is_none());
    assert_eq!(house.verify(&tokens.access_token), Ok(()));
    house
        .sessions
        .end(
            SessionSelector::One(&tokens.session_id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    assert_eq!(
        house.verify(&tokens.access_token),
        Err(Refusal::Revoked),
        "also one that was verified before"
    );
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
    bell.mark_unchanged();
    assert!(
        house
            .sessions
            .end(
                SessionSelector::One(&cookie.session_id),
                crate::state::EndCause::SignedOut
            )
            .unwrap()
            .is_empty()
    );
    assert!(!bell.has_changed().unwrap(), "nothing ended");
    assert_eq!(house.check(&other), Ok(()));
}

#[test]
fn the_store_and_the_process_remember_the_same_until_no_token_can_live() {
    let house = House::new();
    let cookie = house.browser();
    house.clock.advance(5);
    house
        .sessions
        .end(
            SessionSelector::One(&cookie.session_id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    let kept = rows(&*house.state);
    assert_eq!(kept.len(), 1);
    // Its only token expires 900 s after it was signed.
    assert_eq!(
        (kept[0].revoked_at, kept[0].expires_at),
        (NOW + 5, Some(NOW + 900 + 60))
    );
    let generation = house.revocations.generation();
    house.revocations.replace(kept);
    assert_eq!(
        house.revocations.generation(),
        generation,
        "what the watcher reads is in force already"
    );
    assert_eq!(house.check(&cookie), Err(Refusal::Revoked));
}

#[test]
fn one_all_or_all_others_of_an_account_end() {
    let house = House::new();
    let bob = account("bob");
    house.add(&bob);
    let [one, two, three] = [house.browser(), house.browser(), house.browser()];
    let bobs = house
        .sessions
        .open_browser(&bob, Authentication::default(), &device(), HOST)
        .unwrap();
    let end = |which: SessionSelector<'_>| {
        house
            .sessions
            .end(which, crate::state::EndCause::SignedOut)
            .unwrap()
            .len()
    };
    assert_eq!(
        end(SessionSelector::Own {
            id: &bobs.session_id,
            account_id: "ann"
        }),
        0
    );
    assert_eq!(
        end(SessionSelector::Own {
            id: &one.session_id,
            account_id: "ann"
        }),
        1
    );
    assert_eq!(
        end(SessionSelector::Others {
            account_id: "ann",
            keep: &two.session_id
        }),
        1
    );
    assert_eq!(
        [&one, &two, &three].map(|it| house.check(it).is_ok()),
        [false, true, false]
    );
    assert_eq!(end(SessionSelector::Account("ann")), 1);
    assert_eq!(house.check(&two), Err(Refusal::Revoked));
    assert_eq!(house.check(&bobs), Ok(()));
}

#[test]
fn a_sweep_ends_what_is_over_to_the_second_and_nothing_else() {
    let house = House::new();
    let (cookie, tokens) = (house.browser(), house.client());
    house.clock.advance(86_399);
    assert_eq!(house.sessions.sweep().unwrap(), 0);
    house.clock.advance(1);
    assert_eq!(house.sessions.sweep().unwrap(), 1);
    assert_eq!(house.check(&cookie), Err(Refusal::Revoked));
    assert_eq!(
        rows(&*house.state)[0].expires_at,
        Some(NOW + 86_400 + 60),
        "its tokens have expired long ago"
    );
    house.clock.advance(6 * 86_400 - 1);
    assert_eq!(house.sessions.sweep().unwrap(), 0);
    house.clock.advance(1);
    assert_eq!(house.sessions.sweep().unwrap(), 1);
    assert!(house.row(&tokens.session_id).is_none());
    assert!(house.state.sessions(None).unwrap().is_empty());
}

#[test]
fn whoever_reads_the_store_meanwhile_does_not_bring_an_ended_session_back() {
    let house = House::new();
    // One reading beside each end: a reader that never rests would keep the others from the lock.
    let (begin, begun) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        let house = &house;
        scope.spawn(move || {
            for () in begun {
                house
                    .revocations
                    .reconcile(|| {
                        let read = rows(&*house.state);
                        thread::yield_now();
                        Ok::<_, StateError>(((), Change::Replace(read)))
                    })
                    .unwrap();
            }
        });
        let verdicts: Vec<_> = (0..200)
            .map(|_| {
                house.clock.advance(1);
                let cookie = house.browser();
                let before = house.check(&cookie);
                begin.send(()).unwrap();
                house
                    .sessions
                    .end(
                        SessionSelector::One(&cookie.session_id),
                        crate::state::EndCause::SignedOut,
                    )
                    .unwrap();
                (0..20)
                    .map(|_| house.check(&cookie))
                    .chain([before])
                    .collect::<Vec<_>>()
            })
            .collect();
        drop(begin);
        for verdict in verdicts {
            let (before, after) = verdict.split_last().unwrap();
            assert_eq!(*before, Ok(()));
            assert!(
                after.iter().all(|verdict| *verdict == Err(Refusal::Revoked)),
                "{after:?}"
            );
        }
    });
}

#[test]
fn beyond_a_hundred_sessions_the_one_unseen_for_longest_ends() {
    let house = House::new();
    let cookies: Vec<_> = (0..MOST_SESSIONS)
        .map(|_| {
            house.clock.advance(1);
            house.browser()
        })
        .collect();
    house.clock.advance(1);
    assert!(house.renew(&cookies[0]).is_some());
    let last = house.client();
    let is_there = |index: usize| house.row(&cookies[index].session_id).is_some();
    assert_eq!([is_there(0), is_there(1), is_there(2)], [true, false, true]);
    assert_eq!(house.check(&cookies[1]), Err(Refusal::Revoked));
    assert!(house.row(&last.session_id).is_some());
    assert_eq!(house.state.sessions(Some("ann")).unwrap().len(), MOST_SESSIONS);
}

#[test]
fn the_session_just_opened_is_not_the_one_to_go_and_others_accounts_lose_none() {
    let house = House::new();
    let bob = account("bob");
    house.add(&bob);
    let bobs = house
        .sessions
        .open_browser(&bob, Authentication::default(), &device(), HOST)
        .unwrap();
    for _ in 0..=MOST_SESSIONS {
        let cookie = house.browser();
        assert!(house.row(&cookie.session_id).is_some(), "all within one second");
    }
    house.clock.advance(-10);
    let cookie = house.browser();
    assert!(
        house.row(&cookie.session_id).is_some(),
        "the clock was set back, so that it looks older than all others"
    );
    assert_eq!(house.state.sessions(Some("ann")).unwrap().len(), MOST_SESSIONS);
    assert!(house.row(&bobs.session_id).is_some());
}

#[test]
fn of_too_many_sessions_those_that_are_over_go_first() {
    let settings = Settings {
        lifetime: 1000,
        ..settings()
    };
    let house = House::with(settings, Arc::new(Sqlite::in_memory().unwrap()));
    let mut over = house.client();
    house.clock.advance(500);
    let oldest = house.browser();
    for _ in 2..MOST_SESSIONS {
        house.browser();
    }
    house.clock.advance(499);
    over = house.refresh(&over).unwrap();
    house.clock.advance(1);
    house.browser();
    assert!(house.row(&over.session_id).is_none(), "seen last, and over");
    assert!(house.row(&oldest.session_id).is_some());
}

#[test]
fn a_state_that_fails_is_said_to_and_lets_nobody_in() {
    let directory = tempfile::tempdir().unwrap();
    let house = House::with(
        settings(),
        crate::state::open("sqlite:passgate.db", directory.path()).unwrap(),
    );
    let (cookie, tokens) = (house.browser(), house.client());
    let generation = house.revocations.generation();
    std::fs::remove_file(directory.path().join("passgate.db")).unwrap();
    let refusals = [
        house
            .sessions
            .open_browser(&house.ann, Authentication::default(), &device(), HOST)
            .unwrap_err(),
        house
            .sessions
            .open_client(&house.ann, Authentication::default(), &device())
            .unwrap_err(),
        house
            .sessions
            .renew(&cookie.session_id, "ann", HOST, HERE)
            .unwrap_err(),
        house.refresh(&tokens).unwrap_err(),
        house
            .sessions
            .of_refresh_token(&tokens.refresh_token)
            .unwrap_err(),
        house
            .sessions
            .end(SessionSelector::Account("ann"), crate::state::EndCause::SignedOut)
            .unwrap_err(),
        house.sessions.list("ann").unwrap_err(),
    ];
    assert!(
        refusals
            .iter()
            .all(|error| matches!(error, SessionError::State(_))),
        "{refusals:?}"
    );
    assert!(house.sessions.sweep().is_err());
    assert_eq!(house.revocations.generation(), generation);
}
