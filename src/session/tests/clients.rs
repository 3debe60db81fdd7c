//! API clients' sessions: access tokens, rotation, reuse.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::thread;

use serde_json::json;

use super::hooked::Hooked;
use super::*;
use crate::revocation::Target;

#[test]
fn an_api_client_gets_an_access_token_of_its_session() {
    let house = House::new();
    let tokens = house.client();
    let mut local = LocalCache::new();
    let verified = house
        .verifier
        .verify(&mut local, &tokens.access_token, NOW)
        .unwrap();
    let identity = &verified.caller.identity;
    assert_eq!(identity.session_id.as_ref(), Some(&tokens.session_id));
    assert_eq!(
        (identity.subject.as_str(), &*identity.issuer),
        ("ann", SESSION_ISSUER)
    );
    assert_eq!(
        (identity.email.as_deref(), identity.name.as_deref()),
        (Some("ann@example.com"), Some("Ann"))
    );
    assert_eq!(
        (&identity.roles[..], identity.issued_at),
        (&["user".to_owned()][..], Some(NOW))
    );
    assert_eq!((tokens.expires_in, identity.expires_at), (900, NOW + 900));
}

#[test]
fn a_refresh_exchanges_both_tokens_and_reads_the_account_afresh() {
    let house = House::new();
    let first = house.client();
    house.change(&roles(&["admin"]));
    house.clock.advance(900);
    assert_eq!(house.verify(&first.access_token), Err(Refusal::Expired));
    let second = house.refresh(&first).unwrap();
    assert_eq!(second.session_id, first.session_id);
    assert_ne!(*second.refresh_token, *first.refresh_token);
    let claims = read_unverified(&second.access_token).unwrap().claims;
    assert_eq!(
        (&claims["roles"], &claims["iat"]),
        (&json!(["admin"]), &json!(NOW + 900))
    );
    assert_eq!(house.verify(&second.access_token), Ok(()));
    let row = house.row(&first.session_id).unwrap();
    assert_eq!((row.seen_at, row.address.as_str()), (NOW + 900, "198.51.100.2"));
    assert!(house.refresh(&second).is_ok());
}

#[test]
fn a_client_may_idle_and_ends_at_the_end_of_the_lifetime_to_the_second() {
    let house = House::new();
    let tokens = house.client();
    house.clock.advance(6 * 86_400);
    let tokens = house.refresh(&tokens).unwrap();
    house.clock.advance(86_399);
    let tokens = house.refresh(&tokens).unwrap();
    assert_eq!(tokens.expires_in, 1, "no token outlives its session");
    house.clock.advance(1);
    assert!(house.sessions.list("ann").unwrap().is_empty());
    assert!(
        house
            .sessions
            .of_refresh_token(&tokens.refresh_token)
            .unwrap()
            .is_none()
    );
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
    assert!(house.row(&tokens.session_id).is_none(), "ended, not just refused");
}

#[test]
fn a_retry_within_the_grace_gets_the_same_successor() {
    let house = House::new();
    let first = house.client();
    let second = house.refresh(&first).unwrap();
    house.clock.advance(GRACE);
    let again = house.refresh(&first).unwrap();
    assert_eq!(*again.refresh_token, *second.refresh_token);
    assert_ne!(again.access_token, second.access_token);
    assert_eq!(house.verify(&again.access_token), Ok(()));
    assert!(house.refresh(&second).is_ok());
}

#[test]
fn reuse_after_the_grace_ends_the_session() {
    let house = House::new();
    let first = house.client();
    let second = house.refresh(&first).unwrap();
    let other = house.client();
    house.clock.advance(GRACE + 1);
    assert_eq!(house.refresh(&first).unwrap_err(), SessionError::RefreshReused);
    assert_eq!(house.verify(&second.access_token), Err(Refusal::Revoked));
    assert_eq!(house.refresh(&second).unwrap_err(), SessionError::RefreshRefused);
    assert_eq!(house.refresh(&first).unwrap_err(), SessionError::RefreshRefused);
    assert!(house.refresh(&other).is_ok(), "the account's other sessions stay");
}

#[test]
fn reuse_of_the_token_before_the_last_ends_the_session_also_within_the_grace() {
    let house = House::new();
    let first = house.client();
    let second = house.refresh(&first).unwrap();
    let third = house.refresh(&second).unwrap();
    assert_eq!(house.refresh(&first).unwrap_err(), SessionError::RefreshReused);
    assert_eq!(house.refresh(&third).unwrap_err(), SessionError::RefreshRefused);
    assert_eq!(house.verify(&third.access_token), Err(Refusal::Revoked));
}

#[test]
fn a_token_that_we_did_not_make_ends_nothing() {
    let house = House::new();
    let elsewhere = House::new();
    elsewhere
        .state
        .end_sessions(
            SessionSelector::Account("ann"),
            &EndSessions {
                cause: crate::state::EndCause::Command,
                now: NOW,
                revoked_until: NOW,
                keep: None,
            },
        )
        .unwrap();
    let tokens = house.client();
    let spent = house.refresh(&tokens).unwrap();
    let current = house.refresh(&spent).unwrap();
    // By another gateway's keys, but with the id of our session.
    let id = uuid::Uuid::parse_str(&tokens.session_id).unwrap();
    let foreign = elsewhere.sessions.keys.make(id).unwrap().text;
    let mut forged: Vec<String> = vec![foreign.to_string(), String::new(), tokens.session_id.clone()];
    for position in 0..tokens.refresh_token.len() {
        let mut text = tokens.refresh_token.to_string();
        let letter = if &text[position..=position] == "A" {
            "B"
        } else {
            "A"
        };
        text.replace_range(position..=position, letter);
        forged.push(text);
    }
    for token in forged {
        assert_eq!(
            house.sessions.refresh(&token, HERE).unwrap_err(),
            SessionError::RefreshRefused,
            "{token}"
        );
        assert!(
            house.sessions.of_refresh_token(&token).unwrap().is_none(),
            "{token}"
        );
    }
    assert!(house.refresh(&current).is_ok());
}

#[test]
fn a_token_is_good_for_its_own_session_only() {
    let house = House::new();
    let (one, other, browser) = (house.client(), house.client(), house.browser());
    let id = |tokens: &Tokens| {
        house
            .sessions
            .of_refresh_token(&tokens.refresh_token)
            .unwrap()
            .map(|row| row.id)
    };
    assert_eq!(
        (id(&one), id(&other)),
        (Some(one.session_id.clone()), Some(other.session_id.clone()))
    );
    house
        .sessions
        .end(
            SessionSelector::One(&one.session_id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    assert_eq!((id(&one), id(&other)), (None, Some(other.session_id.clone())));
    assert_eq!(house.refresh(&one).unwrap_err(), SessionError::RefreshRefused);
    assert_eq!(
        house.sessions.refresh(&other.access_token, HERE).unwrap_err(),
        SessionError::RefreshRefused
    );
    // Made by us for a session that has no refresh tokens.
    let made = house
        .sessions
        .keys
        .make(uuid::Uuid::parse_str(&browser.session_id).unwrap())
        .unwrap();
    assert_eq!(
        house.sessions.refresh(&made.text, HERE).unwrap_err(),
        SessionError::RefreshRefused
    );
    assert!(house.sessions.of_refresh_token(&made.text).unwrap().is_none());
    assert!(house.renew(&browser).is_some());
    assert!(house.refresh(&other).is_ok());
}

#[test]
fn a_session_is_found_by_the_token_that_would_be_exchanged_or_answered_as_a_retry() {
    let house = House::new();
    let first = house.client();
    let is_found = |tokens: &Tokens| {
        house
            .sessions
            .of_refresh_token(&tokens.refresh_token)
            .unwrap()
            .is_some()
    };
    assert!(is_found(&first));
    let second = house.refresh(&first).unwrap();
    house.clock.advance(GRACE);
    assert!(is_found(&first) && is_found(&second));
    house.clock.advance(1);
    assert!(!is_found(&first) && is_found(&second));
    assert!(house.refresh(&second).is_ok(), "to look ends nothing");
}

#[test]
fn a_disabled_account_gets_no_tokens_also_if_that_came_in_between() {
    let state = Arc::new(Hooked::default());
    let house = House::with(settings(), Arc::clone(&state) as Arc<dyn State>);
    let tokens = house.client();
    house.change(&disabled(true));
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
    house.change(&disabled(false));
    let after = |deed: fn(&dyn State)| {
        *state
            .after_rotation
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Box::new(deed));
    };
    after(|memory| drop(memory.change_account("ann", &disabled(true), &END).unwrap()));
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
    house.change(&disabled(false));
    after(|memory| drop(memory.change_account("ann", &roles(&["demoted"]), &END).unwrap()));
    let tokens = house.refresh(&tokens).unwrap();
    assert_eq!(
        read_unverified(&tokens.access_token).unwrap().claims["roles"],
        json!(["demoted"])
    );
    after(|memory| {
        let end = EndSessions {
            cause: crate::state::EndCause::Command,
            now: NOW,
            revoked_until: NOW + 1,
            keep: None,
        };
        drop(
            memory
                .end_sessions(SessionSelector::Account("ann"), &end)
                .unwrap(),
        );
    });
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
}

#[test]
fn a_token_made_of_an_account_as_it_was_is_stale_also_if_it_was_made_after_the_change() {
    let house = House::new();
    let before = house.client();
    let changed = house.change(&roles(&["demoted"]));
    // Whoever proved to be Ann before the change signs in after it, all in one second.
    let late = house.client();
    assert_eq!(
        read_unverified(&late.access_token).unwrap().claims["roles"],
        json!(["user"])
    );
    assert_eq!(
        house.verify(&late.access_token),
        Ok(()),
        "nobody has heard of it yet"
    );
    let rows = house.state.revocations(NOW).unwrap();
    let stale = Target::Stale {
        subject: "ann".to_owned(),
        revision: changed.revision,
    };
    assert!(rows.iter().all(|row| row.target == stale), "{rows:?}");
    house.revocations.replace(rows);
    for tokens in [before, late] {
        assert_eq!(house.verify(&tokens.access_token), Err(Refusal::Stale));
        let then = house.verifier.verify_expired(&tokens.access_token, NOW).unwrap();
        assert_eq!(
            then.caller.identity.roles,
            ["user"],
            "what it said then can be known"
        );
        let next = house.refresh(&tokens).unwrap();
        assert_eq!(house.verify(&next.access_token), Ok(()));
        assert_eq!(
            read_unverified(&next.access_token).unwrap().claims["roles"],
            json!(["demoted"])
        );
    }
}

#[test]
fn twenty_refreshes_at_once_leave_one_branch_and_sign_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = crate::state::open("sqlite:passgate.db", directory.path()).unwrap();
    for state in [Arc::new(Sqlite::in_memory().unwrap()) as Arc<dyn State>, file] {
        let house = House::with(settings(), state);
        let mut tokens = house.client();
        for round in 0..3 {
            house.clock.advance(900);
            let answers: Vec<Tokens> = thread::scope(|scope| {
                let running: Vec<_> = (0..20)
                    .map(|_| scope.spawn(|| house.refresh(&tokens).unwrap()))
                    .collect();
                running.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let branches: BTreeSet<&str> = answers
                .iter()
                .map(|answer| answer.refresh_token.as_str())
                .collect();
            assert_eq!(branches.len(), 1, "round {round}");
            for answer in &answers {
                assert_eq!(house.verify(&answer.access_token), Ok(()), "round {round}");
            }
            tokens = answers.into_iter().next().unwrap();
        }
        assert_eq!(house.sessions.list("ann").unwrap().len(), 1);
    }
}

#[test]
fn a_gateway_that_starts_again_takes_the_tokens_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let open = || crate::state::open("sqlite:passgate.db", directory.path()).unwrap();
    let house = House::with(settings(), open());
    let tokens = house.client();
    let signing = Arc::new(ArcSwap::from_pointee(
        SigningKeys::load_or_create(&*open(), crate::values::SigningAlgorithm::default(), NOW).unwrap(),
    ));
    let revocations = Arc::new(Revocations::new());
    let again = Sessions::new(settings(), open(), signing, revocations, house.clock.clone()).unwrap();
    let next = again.refresh(&tokens.refresh_token, HERE).unwrap();
    assert_eq!(house.verify(&next.access_token), Ok(()));
    // A retry that reaches the other one of two processes.
    assert_eq!(
        *house.refresh(&tokens).unwrap().refresh_token,
        *next.refresh_token
    );
}
