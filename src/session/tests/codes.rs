//! One-time codes, with the clock in our hands.

use serde_json::json;

use super::*;
use crate::state::TokenHash;

const NONCE: TokenHash = [7; 32];
const REPORTS: &str = "reports.example.com";

fn destination() -> Destination {
    Destination {
        host: format!("{REPORTS}:8443"),
        nonce: NONCE,
        return_to: "/q1?a=b".to_owned(),
    }
}

fn arrival() -> Arrival {
    Arrival {
        host: format!("{REPORTS}:8443"),
        host_name: REPORTS.to_owned(),
        nonces: vec![[6; 32], NONCE],
        session_id: None,
        address: THERE,
    }
}

impl House {
    fn code(&self, cookie: &Cookie) -> Zeroizing<String> {
        self.sessions
            .issue_code(&cookie.session_id, "ann", &destination())
            .unwrap()
            .unwrap()
    }
}

#[test]
fn a_code_gives_a_cookie_of_the_same_session_for_its_host_once() {
    let house = House::new();
    let home = house.browser();
    let code = house.code(&home);
    assert!(house.sessions.is_code(&code));
    house.clock.advance(59);
    let landing = house.sessions.redeem_code(&code, &arrival()).unwrap();
    assert_eq!(landing.return_to, "/q1?a=b");
    let landing = landing.arrived.unwrap();
    assert_eq!((landing.nonce, landing.account.id.as_str()), (NONCE, "ann"));
    let claims = house.cookie_claims(&landing.cookie);
    assert_eq!(
        (&claims["sid"], &claims["host"]),
        (&house.cookie_claims(&home)["sid"], &REPORTS.into())
    );
    assert_eq!(house.check(&landing.cookie), Ok(()));
    let set_cookie = landing.cookie.set_cookie.to_str().unwrap();
    assert!(
        set_cookie.contains("; Max-Age=604741;"),
        "as long as the session lives: {set_cookie}"
    );
    let [row] = &house.sessions.list("ann").unwrap()[..] else {
        panic!("another session")
    };
    assert_eq!(row.address, THERE.to_string(), "it was seen");
    assert_eq!(
        house.sessions.redeem_code(&code, &arrival()).unwrap_err(),
        SessionError::CodeRefused
    );
}

#[test]
fn a_code_that_does_not_fit_is_refused_and_spent() {
    let at = |change: fn(&mut Arrival)| {
        let mut arrival = arrival();
        change(&mut arrival);
        arrival
    };
    for (what, arrival) in [
        (
            "another host",
            at(|arrival| arrival.host = "app.example.com:8443".to_owned()),
        ),
        ("another port", at(|arrival| arrival.host = REPORTS.to_owned())),
        ("no nonce", at(|arrival| arrival.nonces.clear())),
        ("another nonce", at(|arrival| arrival.nonces = vec![[8; 32]])),
        (
            "no nonce, and another session",
            at(|arrival| {
                arrival.nonces.clear();
                arrival.session_id = Some("another".to_owned());
            }),
        ),
    ] {
        let house = House::new();
        let code = house.code(&house.browser());
        assert_eq!(
            house.sessions.redeem_code(&code, &arrival).unwrap_err(),
            SessionError::CodeRefused,
            "{what}"
        );
        assert_eq!(
            house.sessions.redeem_code(&code, &self::arrival()).unwrap_err(),
            SessionError::CodeRefused,
            "{what}"
        );
    }
}

#[test]
fn who_has_the_session_here_already_is_led_on_and_given_nothing() {
    let house = House::new();
    let cookie = house.browser();
    let arrival = Arrival {
        nonces: Vec::new(),
        session_id: Some(cookie.session_id.clone()),
        ..arrival()
    };
    let landing = house
        .sessions
        .redeem_code(&house.code(&cookie), &arrival)
        .unwrap();
    assert!(landing.arrived.is_none());
    assert_eq!(landing.return_to, "/q1?a=b");
    let elsewhere = Arrival {
        host: "app.example.com".to_owned(),
        ..arrival.clone()
    };
    assert_eq!(
        house
            .sessions
            .redeem_code(&house.code(&cookie), &elsewhere)
            .unwrap_err(),
        SessionError::CodeRefused
    );
    let code = house.code(&cookie);
    house.clock.advance(60);
    assert_eq!(
        house.sessions.redeem_code(&code, &arrival).unwrap_err(),
        SessionError::CodeRefused
    );
}

#[test]
fn a_code_lives_for_a_minute_and_not_longer_than_its_session() {
    let refused = |house: &House, code: &str| {
        assert_eq!(
            house.sessions.redeem_code(code, &arrival()).unwrap_err(),
            SessionError::CodeRefused
        );
    };
    let house = House::new();
    let late = house.code(&house.browser());
    house.clock.advance(60);
    refused(&house, &late);
    let before = house.code(&house.browser());
    house.clock.advance(-1);
    refused(&house, &before);

    let ended = house.browser();
    let code = house.code(&ended);
    house
        .sessions
        .end(
            SessionSelector::One(&ended.session_id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    refused(&house, &code);
    assert_eq!(
        house
            .sessions
            .issue_code(&ended.session_id, "ann", &destination())
            .unwrap(),
        None
    );

    let cookie = house.browser();
    let code = house.code(&cookie);
    house.change(&AccountChange {
        disabled: Some(true),
        ..AccountChange::default()
    });
    refused(&house, &code);
}

#[test]
fn only_the_accounts_own_browser_session_gets_a_code() {
    let house = House::new();
    let (cookie, client) = (house.browser(), house.client());
    let issue = |session: &str, account| {
        house
            .sessions
            .issue_code(session, account, &destination())
            .unwrap()
    };
    assert_eq!(issue(&cookie.session_id, "bob"), None);
    assert_eq!(issue(&client.session_id, "ann"), None);
    assert_eq!(issue("gone", "ann"), None);
    house.clock.advance(86_400);
    assert_eq!(issue(&cookie.session_id, "ann"), None, "unused for too long");
}

#[test]
fn what_was_not_made_here_is_no_code() {
    let house = House::new();
    let code = house.code(&house.browser());
    for wrong in [
        "",
        "x",
        &"A".repeat(64),
        &code[1..],
        &format!("{}A", *code),
        &code.to_lowercase(),
    ] {
        assert!(!house.sessions.is_code(wrong));
        assert_eq!(
            house.sessions.redeem_code(wrong, &arrival()).unwrap_err(),
            SessionError::CodeRefused
        );
    }
    house.sessions.redeem_code(&code, &arrival()).unwrap();
}

#[test]
fn a_cookie_counts_where_it_was_made_also_after_a_renewal() {
    let house = House::new();
    let home = house.browser();
    let landing = house
        .sessions
        .redeem_code(&house.code(&home), &arrival())
        .unwrap()
        .arrived
        .unwrap();
    let renewed = house
        .sessions
        .renew(&landing.cookie.session_id, "ann", REPORTS, HERE)
        .unwrap()
        .unwrap();
    assert_eq!(house.cookie_claims(&renewed)["host"], REPORTS);
    assert_eq!(house.cookie_claims(&house.renew(&home).unwrap())["host"], HOST);
}

#[test]
fn how_the_user_was_authenticated_is_in_each_token_of_the_session() {
    let house = House::new();
    let how = Authentication {
        auth_time: Some(NOW - 5),
        acr: Some("urn:mfa".to_owned()),
        provider: Some("corp".to_owned()),
        provider_subject: Some("ann-1".to_owned()),
        provider_sid: Some("sid-1".to_owned()),
    };
    let expected = json!([NOW - 5, "urn:mfa", "corp"]);
    let said = |claims: &Value| json!([claims["auth_time"], claims["acr"], claims["idp"]]);
    let opened = house
        .sessions
        .open_browser(&house.ann, how.clone(), &device(), HOST)
        .unwrap();
    let landing = house
        .sessions
        .redeem_code(&house.code(&opened), &arrival())
        .unwrap();
    house.clock.advance(600);
    let renewed = house.renew(&opened).unwrap();
    for cookie in [&opened, &landing.arrived.unwrap().cookie, &renewed] {
        let claims = house.cookie_claims(cookie);
        assert_eq!(said(&claims), expected);
        assert!(!claims.to_string().contains("sid-1") && !claims.to_string().contains("ann-1"));
    }
    let client = house.sessions.open_client(&house.ann, how, &device()).unwrap();
    let refreshed = house.refresh(&client).unwrap();
    for tokens in [client, refreshed] {
        let claims = verify_signature(&tokens.access_token, &house.keys, &[Algorithm::ES256]).unwrap();
        assert_eq!(said(&serde_json::from_slice(&claims).unwrap()), expected);
    }
    let unknown = house.cookie_claims(&house.browser());
    assert_eq!(said(&unknown), json!([null, null, null]));
}
