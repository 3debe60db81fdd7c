//! Browsers' sessions: the cookie, its renewal, the limits.

use std::sync::atomic::Ordering;

use serde_json::json;
use uuid::Uuid;

use super::hooked::Hooked;
use super::*;
use crate::revocation::{Revocation, Target};

#[test]
fn a_cookie_says_who_it_is_for_and_lives_no_longer_than_it_may() {
    let house = House::new();
    let cookie = house.browser();
    let mut claims = house.cookie_claims(&cookie);
    let token_id = Uuid::parse_str(claims["jti"].take().as_str().unwrap()).unwrap();
    let session_id = Uuid::parse_str(&cookie.session_id).unwrap();
    assert_eq!((token_id.get_version_num(), session_id.get_version_num()), (7, 7));
    assert_ne!(token_id, session_id);
    let expected = json!({"iss": URL, "aud": URL, "sub": "ann", "email": "ann@example.com", "name": "Ann",
        "roles": ["user"], "sid": cookie.session_id, "host": HOST, "jti": null, "iat": NOW, "exp": NOW + 900});
    assert_eq!(claims, expected);
    let set_cookie = format!(
        "__Host-session={}; Path=/; HttpOnly; SameSite=Lax; Max-Age=604800; Secure",
        cookie.token
    );
    assert_eq!(cookie.set_cookie, set_cookie);
    assert_eq!(house.check(&cookie), Ok(()));
}

#[test]
fn on_plain_http_the_cookie_has_no_prefix_and_is_not_secure() {
    let cookie = wire_name("__Host-session", false).to_owned();
    let settings = Settings {
        cookie,
        secure: false,
        public_url: "http://localhost:8080".to_owned(),
        ..settings()
    };
    let house = House::with(settings, Arc::new(Sqlite::in_memory().unwrap()));
    let text = house.browser().set_cookie.to_str().unwrap().to_owned();
    assert!(
        text.starts_with("passgate-session=ey") && !text.contains("Secure"),
        "{text}"
    );
    assert_eq!(
        house.sessions.clear_cookie(),
        "passgate-session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
    );
}

#[test]
fn an_account_without_a_name_has_none_in_its_tokens() {
    let house = House::new();
    house.change(&AccountChange {
        name: Some(None),
        ..AccountChange::default()
    });
    let account = house.state.account("ann").unwrap().unwrap();
    let cookie = house
        .sessions
        .open_browser(&account, Authentication::default(), &device(), HOST)
        .unwrap();
    assert_eq!(house.cookie_claims(&cookie).get("name"), None);
}

#[test]
fn each_sign_in_has_a_session_of_its_own() {
    let house = House::new();
    let ids = [
        house.browser().session_id,
        house.browser().session_id,
        house.client().session_id,
    ];
    let mut listed: Vec<_> = house
        .sessions
        .list("ann")
        .unwrap()
        .into_iter()
        .map(|session| session.id)
        .collect();
    listed.sort_unstable();
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((listed, 3), (sorted.clone(), sorted.len()));
}

#[test]
fn who_was_disabled_deleted_or_given_another_password_meanwhile_is_not_signed_in() {
    let house = House::new();
    house.change(&disabled(true));
    let refused = |account: &AccountRow| {
        assert_eq!(
            house
                .sessions
                .open_browser(account, Authentication::default(), &device(), HOST)
                .unwrap_err(),
            SessionError::AccountChanged
        );
        assert_eq!(
            house
                .sessions
                .open_client(account, Authentication::default(), &device())
                .unwrap_err(),
            SessionError::AccountChanged
        );
    };
    refused(&house.ann);
    house.change(&disabled(false));
    house.browser();
    let after = house.change(&password());
    refused(&house.ann);
    house
        .sessions
        .open_browser(&after, Authentication::default(), &device(), HOST)
        .unwrap();
    house
        .state
        .delete_account(
            "ann",
            &EndSessions {
                cause: crate::state::EndCause::Command,
                now: NOW,
                revoked_until: NOW,
                keep: None,
            },
        )
        .unwrap();
    refused(&after);
    assert!(house.state.sessions(None).unwrap().is_empty());
}

#[test]
fn a_cookie_is_renewed_for_the_same_session_with_what_the_account_is_now() {
    let house = House::new();
    let cookie = house.browser();
    house.change(&roles(&["admin", "ops"]));
    house.clock.advance(900);
    let renewed = house.renew(&cookie).unwrap();
    assert_eq!(renewed.session_id, cookie.session_id);
    let (before, claims) = (house.cookie_claims(&cookie), house.cookie_claims(&renewed));
    assert_eq!(claims["roles"], json!(["admin", "ops"]));
    assert_eq!(
        (&claims["sid"], &claims["iat"], &claims["exp"]),
        (&before["sid"], &json!(NOW + 900), &json!(NOW + 1800))
    );
    assert_ne!(claims["jti"], before["jti"]);
    assert!(
        renewed.set_cookie.to_str().unwrap().contains("; Max-Age=603900;"),
        "up to the end of the session"
    );
    let row = house.row(&cookie.session_id).unwrap();
    assert_eq!((row.seen_at, row.address.as_str()), (NOW + 900, "198.51.100.2"));
}

#[test]
fn a_disabled_account_is_not_renewed_and_its_session_stays_for_when_it_is_enabled() {
    let house = House::new();
    let cookie = house.browser();
    house.change(&disabled(true));
    assert!(house.renew(&cookie).is_none());
    house.change(&disabled(false));
    assert!(house.renew(&cookie).is_some());
}

#[test]
fn a_session_is_renewed_for_its_own_account_and_kind_only() {
    let house = House::new();
    house.add(&account("bob"));
    let (cookie, tokens) = (house.browser(), house.client());
    assert!(
        house
            .sessions
            .renew(&cookie.session_id, "bob", HOST, HERE)
            .unwrap()
            .is_none()
    );
    assert!(
        house
            .sessions
            .renew(&tokens.session_id, "ann", HOST, HERE)
            .unwrap()
            .is_none()
    );
    assert!(
        house
            .sessions
            .renew("no-such-session", "ann", HOST, HERE)
            .unwrap()
            .is_none()
    );
    assert!(house.renew(&cookie).is_some());
    assert!(house.refresh(&tokens).is_ok(), "nothing was ended by that");
}

#[test]
fn a_browser_is_signed_out_after_the_idle_time_to_the_second() {
    let house = House::new();
    let cookie = house.browser();
    house.clock.advance(86_399);
    assert_eq!(house.sessions.list("ann").unwrap().len(), 1);
    let cookie = house.renew(&cookie).unwrap();
    house.clock.advance(86_400);
    assert!(house.sessions.list("ann").unwrap().is_empty());
    assert!(house.row(&cookie.session_id).is_some());
    assert!(house.renew(&cookie).is_none());
    assert!(house.row(&cookie.session_id).is_none(), "ended, not just refused");
    assert_eq!(house.check(&cookie), Err(Refusal::Revoked));
}

#[test]
fn a_browser_that_keeps_coming_is_signed_out_at_the_end_of_the_lifetime_to_the_second() {
    let house = House::new();
    let mut cookie = house.browser();
    for _ in 0..13 {
        house.clock.advance(43_200);
        cookie = house.renew(&cookie).unwrap();
    }
    house.clock.advance(43_199);
    cookie = house.renew(&cookie).unwrap();
    assert_eq!(
        house.cookie_claims(&cookie)["exp"],
        NOW + 604_800,
        "no token outlives its session"
    );
    assert!(cookie.set_cookie.to_str().unwrap().contains("; Max-Age=1;"));
    house.clock.advance(1);
    assert!(house.renew(&cookie).is_none());
    assert!(house.row(&cookie.session_id).is_none());
}

#[test]
fn a_token_in_a_cookie_lives_for_half_the_idle_time_at_most() {
    for (idle_timeout, lives) in [(600, 300), (3, 1), (1, 1), (1800, 900), (10_000, 900)] {
        let house = House::with(
            Settings {
                idle_timeout,
                ..settings()
            },
            Arc::new(Sqlite::in_memory().unwrap()),
        );
        assert_eq!(
            house.cookie_claims(&house.browser())["exp"],
            NOW + lives,
            "{idle_timeout}"
        );
        assert_eq!(
            house.client().expires_in,
            900,
            "{idle_timeout}: a client may idle"
        );
    }
}

#[test]
fn renewals_at_the_same_second_write_once() {
    let state = Arc::new(Hooked::default());
    let house = House::with(settings(), Arc::clone(&state) as Arc<dyn State>);
    let cookie = house.browser();
    let renewed = |expected: bool| {
        let before = state.touches.load(Ordering::Relaxed);
        assert!(house.renew(&cookie).is_some());
        assert_eq!(state.touches.load(Ordering::Relaxed) != before, expected);
    };
    renewed(false);
    house.clock.advance(1);
    renewed(true);
    renewed(false);
    renewed(false);
    house.clock.advance(-1);
    renewed(false);
}

#[test]
fn a_renewal_that_cannot_be_noted_signs_nobody_out() {
    let state = Arc::new(Hooked::default());
    let house = House::with(settings(), Arc::clone(&state) as Arc<dyn State>);
    let cookie = house.browser();
    state.touch_fails.store(true, Ordering::Relaxed);
    house.clock.advance(900);
    assert!(house.renew(&cookie).is_some());
    assert_eq!(house.row(&cookie.session_id).unwrap().seen_at, NOW);
    house.clock.advance(85_500);
    assert!(house.renew(&cookie).is_none(), "too early rather than too late");
}

#[test]
fn everything_that_was_issued_to_an_account_being_revoked_ends_the_sessions_opened_until_then() {
    let house = House::new();
    let (cookie, tokens) = (house.browser(), house.client());
    house.clock.advance(10);
    let target = Target::Subject("ann".to_owned());
    house.revocations.replace([Revocation {
        issuer: SESSION_ISSUER.to_owned(),
        target,
        revoked_at: NOW + 9,
        expires_at: None,
    }]);
    let later = house.browser();
    assert_eq!(house.sessions.list("ann").unwrap().len(), 1);
    assert!(
        house
            .sessions
            .of_refresh_token(&tokens.refresh_token)
            .unwrap()
            .is_none()
    );
    assert!(house.renew(&cookie).is_none());
    assert_eq!(house.refresh(&tokens).unwrap_err(), SessionError::RefreshRefused);
    assert!(house.renew(&later).is_some());
    assert_eq!(house.state.sessions(None).unwrap().len(), 1);
}

#[test]
fn the_largest_account_has_a_cookie_well_under_what_browsers_keep() {
    let house = House::new();
    let email = format!("{}@{}.example.com", "a".repeat(64), "b".repeat(254 - 64 - 13));
    assert_eq!(email.len(), 254);
    let account = AccountRow {
        id: Uuid::from_u128(u128::MAX).to_string(),
        email_key: email.clone(),
        email,
        name: Some("\u{1f600}".repeat(128)),
        roles: (0..64)
            .map(|index| format!("{index:02}{}", "r".repeat(14)))
            .collect(),
        ..account("largest")
    };
    assert_eq!(account.roles.concat().len(), 1024);
    house.add(&account);
    let cookie = house
        .sessions
        .open_browser(&account, Authentication::default(), &device(), HOST)
        .unwrap();
    assert!(cookie.set_cookie.len() < 3500, "{}", cookie.set_cookie.len());
}

#[test]
fn an_account_whose_cookie_no_browser_would_keep_is_told_apart_from_one_that_is_signed_in() {
    let house = House::new();
    let large = AccountRow {
        roles: vec!["r".repeat(3000)],
        ..account("large")
    };
    house.add(&large);
    assert!(matches!(
        house
            .sessions
            .open_browser(&large, Authentication::default(), &device(), HOST),
        Err(SessionError::CookieTooLong { .. })
    ));
    assert!(
        house.state.sessions(None).unwrap().is_empty(),
        "nothing is left behind"
    );
    assert!(
        house
            .sessions
            .open_client(&large, Authentication::default(), &device())
            .is_ok(),
        "a header may be longer"
    );
}

#[test]
fn what_is_kept_of_a_device_is_short_and_harmless() {
    let house = House::new();
    let user_agent = format!(" Fire\u{1b}[31mfox\r\n\u{202e}{}", "é".repeat(200));
    let address = "::ffff:203.0.113.9".parse().unwrap();
    let cookie = house
        .sessions
        .open_browser(
            &house.ann,
            Authentication::default(),
            &Device { user_agent, address },
            HOST,
        )
        .unwrap();
    let row = house.row(&cookie.session_id).unwrap();
    assert_eq!(row.user_agent, format!("Fire[31mfox{}", "é".repeat(122)));
    assert_eq!((row.user_agent.len(), row.address.as_str()), (255, "203.0.113.9"));
}

#[test]
fn debug_output_holds_no_token() {
    let house = House::new();
    let (cookie, tokens) = (house.browser(), house.client());
    let text = format!("{cookie:?} {tokens:?} {:?}", house.sessions);
    assert!(text.contains(&cookie.session_id) && text.contains(&tokens.session_id));
    for secret in [&*cookie.token, &*tokens.access_token, &*tokens.refresh_token] {
        assert!(
            !text.contains(secret) && !text.contains(&secret[secret.len() - 20..]),
            "{text}"
        );
    }
}

#[test]
fn a_renewal_that_takes_long_gives_a_token_that_still_lives() {
    let state = Arc::new(Hooked::default());
    let house = House::with(
        Settings {
            token_lifetime: 2,
            ..settings()
        },
        Arc::clone(&state) as Arc<dyn State>,
    );
    let cookie = house.browser();
    house.clock.advance(10);
    *state.touch_takes.lock().unwrap() = Some((house.clock.clone(), 3));
    let claims = house.cookie_claims(&house.renew(&cookie).unwrap());
    assert_eq!(
        (&claims["iat"], &claims["exp"]),
        (&(NOW + 13).into(), &(NOW + 15).into())
    );
}

#[test]
fn the_token_of_an_account_that_is_not_confirmed_says_so_of_its_address() {
    // Whether the account is confirmed, whether that is trusted, and what the token says.
    for (confirmed, trust_unconfirmed_email, expected) in [
        (true, false, None),
        (true, true, None),
        (false, false, Some(false)),
        (false, true, None),
    ] {
        let state = Arc::new(Sqlite::in_memory().unwrap());
        let house = House::with(
            Settings {
                trust_unconfirmed_email,
                ..settings()
            },
            state,
        );
        let account = house.change(&AccountChange {
            confirmed: Some(confirmed),
            ..AccountChange::default()
        });
        let cookie = house
            .sessions
            .open_browser(&account, Authentication::default(), &device(), HOST)
            .unwrap();
        let claims = house.cookie_claims(&cookie);
        assert_eq!(claims["email"], "ann@example.com");
        assert_eq!(
            claims.get("email_verified").map(|verified| verified.as_bool()),
            expected.map(Some)
        );
    }
}
