//! Signing in with email address and password.

use serde_json::json;

use super::*;

/// `correct horse`, at the lowest cost there is.
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";

fn login(email: &str, password: &str) -> Ask {
    Ask::post("/auth/login").json(&json!({"email": email, "password": password}))
}

fn form(email: &str, password: &str) -> Ask {
    Ask::post("/auth/login").form(&[("email", email), ("password", password)])
}

#[tokio::test]
async fn a_program_gets_two_tokens_and_no_cookie() {
    let house = House::new();
    let seen = house.ask(login(" ANN@example.com", PASSWORD)).await;
    assert_eq!(seen.status, StatusCode::OK);
    let answer = seen.json();
    assert_eq!(
        (&answer["tokenType"], &answer["expiresIn"]),
        (&json!("Bearer"), &json!(900))
    );
    assert_eq!(answer["accessToken"].as_str().unwrap().split('.').count(), 3);
    assert_eq!(seen.cookie(), None);
    let who = &seen.caller.as_ref().unwrap().identity;
    assert_eq!(
        (&*who.issuer, who.subject.as_str()),
        (SESSION_ISSUER, house.ann.id.as_str())
    );
    assert_eq!(house.ids(), [who.session_id.clone().unwrap()]);

    let refresh = Ask::post("/auth/refresh").json(&json!({"refreshToken": answer["refreshToken"]}));
    assert_eq!(house.ask(refresh).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_browser_gets_a_cookie_and_is_led_to_where_it_wanted_to_go() {
    let house = House::new();
    let seen = house.ask(form("ann@example.com", PASSWORD)).await;
    assert_eq!(seen.location(), "/");
    let cookie = seen.cookie().unwrap();
    assert!(
        cookie.starts_with("__Host-session=ey") && cookie.contains("; HttpOnly; SameSite=Lax;"),
        "{cookie}"
    );
    assert_eq!(
        house.ids(),
        [seen.caller.unwrap().identity.session_id.clone().unwrap()]
    );

    for (wanted, led) in [
        ("/reports?year=2026", "/reports?year=2026"),
        ("//evil.example", "/"),
        ("/a\r\nb: c", "/"),
    ] {
        let fields = [
            ("email", "ann@example.com"),
            ("password", PASSWORD),
            ("return_to", wanted),
        ];
        assert_eq!(
            house.ask(Ask::post("/auth/login").form(&fields)).await.location(),
            led
        );
    }
}

#[tokio::test]
async fn unknown_wrong_disabled_and_without_a_password_look_the_same() {
    let house = House::new();
    let disabled = house.add("bob@example.com", Some(&HASH));
    house.change(
        &disabled,
        AccountChange {
            disabled: Some(true),
            ..AccountChange::default()
        },
    );
    house.add("carol@example.com", None);
    let mut seen = Vec::new();
    for (email, password) in [
        ("ann@example.com", "wrong"),
        ("bob@example.com", PASSWORD),
        ("carol@example.com", PASSWORD),
        ("dave@example.com", PASSWORD),
    ] {
        let program = house.ask(login(email, password)).await;
        let person = house.ask(form(email, password)).await;
        assert_eq!(
            (program.refusal, person.refusal),
            (Some(Refusal::LoginRefused), Some(Refusal::LoginRefused))
        );
        assert_eq!(person.status, StatusCode::UNAUTHORIZED);
        assert!(program.text.is_empty() && program.caller.is_none() && person.cookie().is_none());
        seen.push((person.text.replace(email, ""), format!("{:?}", person.headers)));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(house.ids().is_empty());
}

#[tokio::test]
async fn a_form_that_was_filled_in_wrongly_is_shown_again_without_the_password() {
    let house = House::new();
    let fields = [
        ("email", "ann@ex\"><b>"),
        ("password", "hunter2 <i>"),
        ("return_to", "/reports"),
    ];
    let seen = house.ask(Ask::post("/auth/login").form(&fields)).await;
    assert_eq!(seen.status, StatusCode::UNAUTHORIZED);
    assert!(seen.text.contains("The email address or the password is wrong."));
    assert!(seen.text.contains("value=\"/reports\""), "{}", seen.text);
    assert!(seen.text.contains("ann@ex&quot;"), "{}", seen.text);
    assert!(
        !seen.text.contains("hunter2") && !seen.text.contains("\"><b>"),
        "{}",
        seen.text
    );

    for fields in [
        &[("email", "ann@example.com")][..],
        &[("password", "x")],
        &[("email", ""), ("password", "x")],
        &[],
    ] {
        let seen = house.ask(Ask::post("/auth/login").form(fields)).await;
        assert_eq!(seen.refusal, Some(Refusal::FormMalformed));
        assert!(
            seen.text.contains("A required field is missing."),
            "{}",
            seen.text
        );
    }
    let seen = house
        .ask(Ask::post("/auth/login").json(&json!({"email": "ann@example.com"})))
        .await;
    assert_eq!(
        (seen.refusal, seen.text.as_str()),
        (Some(Refusal::FormMalformed), "")
    );
}

#[tokio::test]
async fn too_many_attempts_are_refused_before_anything_is_looked_up_and_for_everybody_alike() {
    let house = House::new();
    for email in ["ann@example.com", "nobody@example.com"] {
        for number in 0..10 {
            house
                .login
                .throttle
                .attempt(email, IpAddr::from([10, 0, 0, number]).into())
                .unwrap();
        }
    }
    // Whatever came to the state or to the hasher would be turned away with another refusal.
    let house =
        house.with(|login| login.blocking = Arc::new(Blocking::new(Handle::current(), 0, Duration::ZERO)));
    for email in ["ann@example.com", "ANN@example.com ", "nobody@example.com"] {
        let seen = house.ask(login(email, PASSWORD)).await;
        assert_eq!(
            (seen.refusal, seen.retry_after),
            (Some(Refusal::Throttled), Some(10)),
            "{email}"
        );
        let seen = house.ask(form(email, PASSWORD)).await;
        assert_eq!(
            (seen.status, &seen.headers["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"10".parse().unwrap())
        );
        assert!(seen.text.contains("Please wait 10 seconds"), "{}", seen.text);
    }
    assert_eq!(
        house.ask(login("other@example.com", PASSWORD)).await.refusal,
        Some(Refusal::Overloaded)
    );
}

#[tokio::test]
async fn an_attempt_counts_when_it_starts_and_not_at_all_when_it_succeeds() {
    let house = House::new();
    for _ in 0..9 {
        house
            .login
            .throttle
            .attempt("ann@example.com", HERE.into())
            .unwrap();
    }
    for _ in 0..2 {
        assert_eq!(
            house.ask(login("ann@example.com", PASSWORD)).await.status,
            StatusCode::OK
        );
    }
    let (one, other) = tokio::join!(
        house.ask(login("ann@example.com", "wrong")),
        house.ask(login("ann@example.com", PASSWORD))
    );
    assert_eq!(one.refusal, Some(Refusal::LoginRefused));
    assert_eq!(
        other.refusal,
        Some(Refusal::Throttled),
        "at the same time as the tenth"
    );
    house.login.throttle.advance(10_000);
    assert_eq!(
        house.ask(login("ann@example.com", PASSWORD)).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_was_turned_away_is_not_held_against_the_account() {
    let house = House::new().with(|login| {
        login.blocking = Arc::new(Blocking::new(Handle::current(), 0, Duration::ZERO));
    });
    for _ in 0..20 {
        let seen = house.ask(form("ann@example.com", PASSWORD)).await;
        assert_eq!(
            (seen.refusal, seen.retry_after),
            (Some(Refusal::Overloaded), Some(5))
        );
        assert!(seen.text.contains("try again shortly"), "{}", seen.text);
    }
    for _ in 0..10 {
        house
            .login
            .throttle
            .attempt("ann@example.com", IpAddr::from([10, 0, 0, 1]).into())
            .unwrap();
    }
}

#[tokio::test]
async fn an_imported_hash_is_replaced_at_the_first_sign_in() {
    let house = House::new();
    let bob = house.add("bob@example.com", Some(BCRYPT));
    assert_eq!(
        house.ask(login("bob@example.com", "correct horse")).await.status,
        StatusCode::OK
    );
    let after = house.state.account(&bob.id).unwrap().unwrap();
    assert!(after.password_hash.unwrap().starts_with("$argon2id$"));
    assert_eq!(
        house.ids().len(),
        1,
        "and the session that was opened by the old one is there"
    );
}

#[tokio::test]
async fn a_browser_gets_a_new_session_at_every_sign_in_and_loses_the_one_it_had() {
    let house = House::new();
    let before = house.browser(&house.ann);
    let seen = house.ask(form("ann@example.com", PASSWORD).cookie(&before)).await;
    let after = seen.caller.unwrap();
    assert_ne!(after.identity.session_id, before.identity.session_id);
    assert_eq!(house.ids(), [after.identity.session_id.clone().unwrap()]);
    assert!(house.is_revoked(&before) && !house.is_revoked(&after));

    // Who planted a cookie of their own account finds it gone as well, and nothing of it in the new session.
    let mallory = house.add("mallory@example.com", None);
    let planted = house.browser(&mallory);
    let seen = house
        .ask(form("ann@example.com", PASSWORD).cookie(&planted))
        .await;
    assert_eq!(seen.caller.unwrap().identity.subject, house.ann.id);
    assert!(house.is_revoked(&planted));
}

#[tokio::test]
async fn signing_in_as_a_program_leaves_the_browser_signed_in() {
    let house = House::new();
    let before = house.browser(&house.ann);
    house
        .ask(login("ann@example.com", PASSWORD).cookie(&before))
        .await;
    assert_eq!((house.ids().len(), house.is_revoked(&before)), (2, false));
}

#[tokio::test]
async fn a_failed_sign_in_leaves_the_browser_signed_in() {
    let house = House::new();
    let before = house.browser(&house.ann);
    let seen = house.ask(form("ann@example.com", "wrong").cookie(&before)).await;
    assert_eq!((seen.cookie(), house.is_revoked(&before)), (None, false));
}

#[tokio::test]
async fn the_page_remembers_where_to_go_if_it_is_on_this_site() {
    let house = House::new();
    let page = async |query: &str| {
        house
            .ask(Ask::get(&format!("/auth/login{query}")).browser())
            .await
            .text
    };
    let hidden = "name=\"return_to\"";
    assert!(page("?return_to=/reports%3Fyear=2026").await.contains(hidden));
    assert!(page("?rd=/reports%3Fyear=2026").await.contains(hidden));
    assert!(
        page("?return_to=/reports%3Fyear=2026&rd=/x")
            .await
            .contains(hidden)
    );
    for query in [
        "",
        "?return_to=//evil.example",
        "?rd=//evil.example",
        "?rd=https://evil.example",
        "?return_to=%2F%5Cevil.example",
        "?return_to=/%250d%250a&return_to=/x",
        "?return_to=https://evil.example",
        "?return_to=/auth/logout",
        "?return_to=/%0d%0ax",
    ] {
        let text = page(query).await;
        assert!(!text.contains(hidden) && !text.contains("evil"), "{query}");
    }
    assert_eq!(
        house.ask(Ask::new(Method::HEAD, "/auth/login")).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn who_signs_in_too_often_waits_a_minute() {
    let house = House::new();
    for _ in 0..crate::session::PER_MINUTE {
        house.client(&house.ann);
    }
    let sessions = house.ids().len();
    let program = house.ask(login("ann@example.com", PASSWORD)).await;
    assert_eq!(
        (program.refusal, program.status),
        (Some(Refusal::SessionsThrottled), StatusCode::TOO_MANY_REQUESTS)
    );
    assert_eq!(program.retry_after, Some(60));
    let person = house.ask(form("ann@example.com", PASSWORD)).await;
    assert_eq!(
        (person.status, person.cookie()),
        (StatusCode::TOO_MANY_REQUESTS, None)
    );
    assert_eq!(person.headers[http::header::RETRY_AFTER], "60");
    assert!(person.text.contains("wait a minute"), "{}", person.text);
    assert_eq!(house.ids().len(), sessions);
    house.clock.advance(60);
    assert_eq!(
        house.ask(login("ann@example.com", PASSWORD)).await.status,
        StatusCode::OK
    );
}
