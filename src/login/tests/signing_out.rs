//! Refreshing and signing out.

use serde_json::json;

use super::*;

fn logout() -> Ask {
    Ask::post("/auth/logout")
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_once_and_a_second_use_ends_the_session() {
    let house = House::new();
    let (caller, token) = house.client(&house.ann);
    let refresh = |token: &str| Ask::post("/auth/refresh").json(&json!({"refreshToken": token}));
    let first = house.ask(refresh(&token)).await;
    assert_eq!(first.status, StatusCode::OK);
    let next = first.json()["refreshToken"].as_str().unwrap().to_owned();
    assert_ne!(next, token);
    house.clock.advance(60);
    assert_eq!(
        house.ask(refresh(&token)).await.refusal,
        Some(Refusal::RefreshReused)
    );
    assert!(house.is_revoked(&caller));
    assert_eq!(
        house.ask(refresh(&next)).await.refusal,
        Some(Refusal::RefreshRefused)
    );
    assert_eq!(
        house.ask(refresh("x")).await.refusal,
        Some(Refusal::RefreshRefused)
    );
    assert_eq!(
        house
            .ask(Ask::post("/auth/refresh").json(&json!({})))
            .await
            .refusal,
        Some(Refusal::FormMalformed)
    );
}

#[tokio::test]
async fn a_browser_that_signs_out_has_no_session_no_cookie_and_no_copies_of_pages() {
    let house = House::new();
    let (caller, other) = (house.browser(&house.ann), house.browser(&house.ann));
    let seen = house.ask(logout().form(&[]).cookie(&caller)).await;
    assert_eq!(seen.location(), "/auth/login?done=signed-out");
    assert!(seen.is_cookie_cleared());
    assert_eq!(seen.headers["clear-site-data"], "\"cache\"");
    assert!(house.is_revoked(&caller) && !house.is_revoked(&other));
    assert_eq!(house.ids(), [other.identity.session_id.clone().unwrap()]);
}

#[tokio::test]
async fn a_browser_without_a_session_gets_to_the_sign_in_page_all_the_same() {
    let house = House::new();
    for ask in [
        logout().form(&[]),
        logout().browser(),
        logout().form(&[]).cookie(&stranger("corp", "ann")),
    ] {
        let seen = house.ask(ask).await;
        assert_eq!(seen.location(), "/auth/login?done=signed-out");
        assert!(seen.is_cookie_cleared());
    }
}

#[tokio::test]
async fn a_made_up_refresh_token_takes_no_place_in_the_queue_for_the_state() {
    let full = Arc::new(Blocking::new(Handle::current(), 0, Duration::from_secs(60)));
    let house = House::new();
    let (_, good) = house.client(&house.ann);
    let house = house.with(|login| login.blocking = full);
    for path in ["/auth/refresh", "/auth/logout"] {
        let refusal = async |token: &str| {
            house
                .ask(Ask::post(path).json(&json!({"refreshToken": token})))
                .await
                .refusal
        };
        assert_eq!(refusal(&good).await, Some(Refusal::Overloaded));
        for made_up in ["x", &"A".repeat(86), &good.to_lowercase()] {
            assert_eq!(
                refusal(made_up).await,
                Some(Refusal::RefreshRefused),
                "{path} {made_up}"
            );
        }
    }
}

#[tokio::test]
async fn a_program_signs_out_by_access_token_refresh_token_or_cookie() {
    let house = House::new();
    let signed_out = json!({"message": "Signed out"});
    let (caller, _) = house.client(&house.ann);
    let seen = house.ask(logout().bearer(&caller)).await;
    assert_eq!((seen.json(), seen.cookie()), (signed_out.clone(), None));
    assert!(house.is_revoked(&caller));

    let (caller, token) = house.client(&house.ann);
    let seen = house.ask(logout().json(&json!({"refreshToken": token}))).await;
    assert_eq!(seen.json(), signed_out);
    assert!(house.is_revoked(&caller));

    let caller = house.browser(&house.ann);
    let seen = house.ask(logout().cookie(&caller)).await;
    assert_eq!(seen.json(), signed_out);
    assert!(seen.is_cookie_cleared() && house.is_revoked(&caller));

    let ((caller, _), (other, token)) = (house.client(&house.ann), house.client(&house.ann));
    let seen = house
        .ask(logout().bearer(&caller).json(&json!({"refreshToken": token})))
        .await;
    assert_eq!(seen.json(), signed_out);
    assert!(house.is_revoked(&caller) && house.is_revoked(&other) && house.ids().is_empty());
}

#[tokio::test]
async fn to_sign_out_without_a_session_of_ours_is_not_said_to_be_done() {
    let house = House::new();
    house.browser(&house.ann);
    for (ask, refusal) in [
        (logout(), Refusal::CredentialMissing),
        (logout().json(&json!({})), Refusal::CredentialMissing),
        (
            logout().bearer(&stranger("corp", &house.ann.id)),
            Refusal::CredentialMissing,
        ),
        (
            logout().bearer(&stranger(SESSION_ISSUER, &house.ann.id)),
            Refusal::CredentialMissing,
        ),
        (
            logout().json(&json!({"refreshToken": "x"})),
            Refusal::RefreshRefused,
        ),
    ] {
        let all = Ask {
            path: "/auth/logout?all=true".to_owned(),
            ..ask.clone()
        };
        assert_eq!(house.ask(ask).await.refusal, Some(refusal));
        assert_eq!(house.ask(all).await.refusal, Some(refusal));
    }
    assert_eq!(house.ids().len(), 1);
}

#[tokio::test]
async fn all_sessions_of_the_account_end_together_and_nobody_elses() {
    let house = House::new();
    let bob = house.browser(&house.add("bob@example.com", None));
    let all = || Ask::post("/auth/logout?all=true");
    for is_form in [true, false] {
        let (caller, other, (client, _)) = (
            house.browser(&house.ann),
            house.browser(&house.ann),
            house.client(&house.ann),
        );
        let ask = if is_form { all().form(&[]) } else { all() };
        let seen = house.ask(ask.cookie(&caller)).await;
        assert!(seen.is_cookie_cleared());
        assert!(
            [&caller, &other, &client]
                .into_iter()
                .all(|caller| house.is_revoked(caller))
        );
    }
    let (client, token) = house.client(&house.ann);
    let browser = house.browser(&house.ann);
    assert_eq!(
        house
            .ask(all().json(&json!({"refreshToken": token})))
            .await
            .status,
        StatusCode::OK
    );
    assert!(house.is_revoked(&client) && house.is_revoked(&browser) && !house.is_revoked(&bob));
}

#[tokio::test]
async fn a_cookie_whose_session_is_over_signs_out_nobody_else() {
    let house = House::new();
    let (old, present) = (house.browser(&house.ann), house.browser(&house.ann));
    house.ask(logout().form(&[]).cookie(&old)).await;
    let all = || Ask::post("/auth/logout?all=true").cookie(&old);
    assert_eq!(house.ask(all()).await.refusal, Some(Refusal::CredentialMissing));
    let seen = house.ask(all().form(&[])).await;
    assert_eq!(seen.location(), "/auth/login?return_to=/auth/sessions");
    assert!(seen.is_cookie_cleared() && !house.is_revoked(&present));
}

#[tokio::test]
async fn signed_out_is_not_said_where_the_state_failed() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    let house =
        house.with(|login| login.blocking = Arc::new(Blocking::new(Handle::current(), 0, Duration::ZERO)));
    let seen = house.ask(logout().form(&[]).cookie(&caller)).await;
    assert_eq!((seen.refusal, seen.cookie()), (Some(Refusal::Overloaded), None));
}

#[tokio::test]
async fn a_link_to_sign_out_asks_and_ends_nothing() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    for ask in [
        Ask::get("/auth/logout").browser(),
        Ask::get("/auth/logout"),
        Ask::new(Method::HEAD, "/auth/logout"),
    ] {
        let seen = house.ask(ask.cookie(&caller)).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert!(
            seen.text.contains("<h1>Sign out?</h1>") && seen.text.contains("ann@example.com"),
            "{}",
            seen.text
        );
        assert!(seen.cookie().is_none() && !house.is_revoked(&caller));
    }
    let seen = house.ask(Ask::get("/auth/logout").browser()).await;
    assert!(
        seen.text.contains("You are signed out") && !seen.text.contains("<form"),
        "{}",
        seen.text
    );
    for path in ["/auth", "/auth/"] {
        assert_eq!(
            house
                .ask(Ask::get(path).browser().cookie(&caller))
                .await
                .location(),
            "/auth/sessions"
        );
    }
}

#[tokio::test]
async fn that_one_is_signed_out_is_said_where_our_own_redirect_says_so() {
    let house = House::new();
    let page = |site: &'static str, path: &str| Ask::get(path).browser().header("sec-fetch-site", site);
    for (site, path, is_said) in [
        ("same-origin", "/auth/login?done=signed-out", true),
        ("none", "/auth/login?done=signed-out", true),
        ("cross-site", "/auth/login?done=signed-out", false),
        ("same-site", "/auth/login?done=signed-out", false),
        ("same-origin", "/auth/login?done=password", false),
        ("same-origin", "/auth/login", false),
    ] {
        let seen = house.ask(page(site, path)).await;
        assert_eq!(
            seen.text.contains("<p>You are signed out.</p>"),
            is_said,
            "{site} {path}"
        );
    }
    let caller = house.browser(&house.ann);
    let seen = house
        .ask(Ask::get("/auth/login?return_to=/x").browser().cookie(&caller))
        .await;
    assert!(
        seen.text
            .contains("You are signed in as <bdi>ann@example.com</bdi>")
            && seen.text.contains("<a href=\"/x\">Continue")
    );
}
