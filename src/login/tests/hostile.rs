//! What other sites and odd clients make of us.

use serde_json::json;

use super::*;

/// One of every request that changes something.
fn changes(house: &House, caller: &Arc<Caller>) -> Vec<Ask> {
    let id = caller.identity.session_id.as_ref().unwrap();
    let login = json!({"email": "ann@example.com", "password": PASSWORD});
    let mut new = login.clone();
    new["email"] = json!("bob@example.com");
    let (_, refresh_token) = house.client(&house.ann);
    vec![
        Ask::post("/auth/login").json(&login),
        Ask::post("/auth/login").form(&[("email", "ann@example.com"), ("password", PASSWORD)]),
        Ask::post("/auth/register").json(&new),
        Ask::post("/auth/refresh").json(&json!({"refreshToken": refresh_token})),
        Ask::post("/auth/logout").form(&[]),
        Ask::post("/auth/logout?all=true"),
        Ask::post("/auth/password")
            .json(&json!({"currentPassword": PASSWORD, "newPassword": "a quiet field"})),
        Ask::post(&format!("/auth/sessions/{id}/end")).form(&[]),
        Ask::delete(&format!("/auth/sessions/{id}")),
    ]
}

#[tokio::test]
async fn another_site_changes_nothing_whatever_the_credential() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    let sessions = house.ids().len() + 1;
    for ask in changes(&house, &caller) {
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", "https://app.example.com.evil.example"),
        ] {
            for by_cookie in [true, false] {
                let mut ask = Ask {
                    caller: Some(Arc::clone(&caller)),
                    by_cookie,
                    ..ask.clone()
                };
                ask.headers.remove("sec-fetch-site");
                let seen = house.ask(ask.clone().header(name, value)).await;
                assert_eq!(
                    seen.refusal,
                    Some(Refusal::CrossSite),
                    "{} {name}: {value}",
                    ask.path
                );
                assert!(seen.cookie().is_none() && seen.text.is_empty());
            }
        }
    }
    assert_eq!(
        (house.ids().len(), house.state.accounts().unwrap().len()),
        (sessions, 1)
    );
    assert!(house.state.account(&house.ann.id).unwrap() == Some(house.ann.clone()));
    // Nor is it counted: another site cannot make its visitors lock somebody out.
    for _ in 0..10 {
        house
            .login
            .throttle
            .attempt("ann@example.com", HERE.into())
            .unwrap();
    }
}

#[tokio::test]
async fn a_form_cannot_send_json_under_another_name() {
    let house = House::new();
    let body = json!({"email": "ann@example.com", "password": PASSWORD});
    for kind in [
        "text/plain",
        "multipart/form-data; boundary=x",
        "text/plain;charset=UTF-8, application/json",
    ] {
        let seen = house
            .ask(Ask::post("/auth/login").json(&body).header("content-type", kind))
            .await;
        assert_eq!(seen.refusal, Some(Refusal::FormTypeRefused), "{kind}");
    }
}

#[tokio::test]
async fn nothing_of_ours_is_kept_sniffed_or_told_to_other_sites() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    let id = house.client(&house.ann).0.identity.session_id.clone().unwrap();
    for ask in [
        Ask::get("/auth/login").browser(),
        Ask::get("/auth/register").browser(),
        Ask::get("/auth/me"),
        Ask::get("/auth/password").browser(),
        Ask::get("/auth/sessions").browser(),
        Ask::get("/auth/sessions"),
        Ask::post("/auth/login").form(&[]),
        Ask::post("/auth/register").form(&[]),
        Ask::post("/auth/password").form(&[]),
        Ask::post("/auth/login").form(&[("email", "ann@example.com"), ("password", "wrong")]),
        Ask::delete(&format!("/auth/sessions/{id}")),
        Ask::post("/auth/logout").form(&[]),
    ] {
        let seen = house.ask(ask.clone().cookie(&caller)).await;
        assert_eq!(seen.headers["cache-control"], "no-store", "{}", ask.path);
        assert_eq!(seen.headers["x-content-type-options"], "nosniff", "{}", ask.path);
        // Not `no-referrer`, under which browsers would send our own forms with `Origin: null`.
        assert_eq!(seen.headers["referrer-policy"], "strict-origin", "{}", ask.path);
    }
}

#[tokio::test]
async fn the_keys_are_for_everybody_with_and_without_sign_in() {
    let mut house = House::new();
    for _ in 0..2 {
        let seen = house
            .ask(Ask::get("/.well-known/jwks.json").header("sec-fetch-site", "cross-site"))
            .await;
        assert_eq!(seen.headers[CONTENT_TYPE], "application/jwk-set+json");
        assert_eq!(seen.headers[CACHE_CONTROL], "public, max-age=30");
        assert!(
            seen.text.contains("\"keys\"") && !seen.text.contains("\"d\""),
            "{}",
            seen.text
        );
        house.endpoints.login = None;
    }
    let seen = house.ask(Ask::get("/auth/login")).await;
    assert_eq!(seen.refusal, Some(Refusal::RouteMissing));
}

#[tokio::test]
async fn without_a_logo_there_is_none() {
    assert_eq!(
        House::new().ask(Ask::get("/auth/logo")).await.refusal,
        Some(Refusal::RouteMissing)
    );
}

#[tokio::test]
async fn no_secret_is_in_debug_output() {
    let house = House::new();
    let text = format!("{:?} {:?}", house.endpoints, house.login);
    assert!(!text.contains("argon2") && !text.contains("BEGIN"), "{text}");
    let seen = house
        .ask(Ask::post("/auth/login").form(&[("email", "ann@example.com"), ("password", PASSWORD)]))
        .await;
    assert!(seen.headers[SET_COOKIE].is_sensitive());
    assert!(!format!("{:?}", seen.headers).contains("eyJ"));
}
