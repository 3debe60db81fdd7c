//! The account, sessions and password of the signed-in user.

use serde_json::json;

use super::*;

const NEW: &str = "a quiet field of rye";

#[tokio::test]
async fn who_one_is_is_read_afresh_for_an_account_of_ours() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    let roles = AccountChange {
        roles: Some(vec!["ops".to_owned()]),
        name: Some(None),
        ..AccountChange::default()
    };
    house.change(&house.ann, roles);
    let seen = house.ask(Ask::get("/auth/me").cookie(&caller)).await;
    let expected = json!({"id": house.ann.id, "email": "ann@example.com", "name": null, "roles": ["ops"]});
    assert_eq!(seen.json(), expected);
    house.change(
        &house.ann,
        AccountChange {
            disabled: Some(true),
            ..AccountChange::default()
        },
    );
    assert_eq!(
        house.ask(Ask::get("/auth/me").cookie(&caller)).await.refusal,
        Some(Refusal::Revoked)
    );
}

#[tokio::test]
async fn of_anybody_else_the_token_says_who_they_are() {
    let house = House::new();
    for issuer in ["corp", SESSION_ISSUER] {
        let seen = house
            .ask(Ask::get("/auth/me").bearer(&stranger(issuer, &house.ann.id)))
            .await;
        assert_eq!(
            seen.json(),
            json!({"id": house.ann.id, "email": null, "name": null, "roles": ["ops"]})
        );
    }
    assert_eq!(
        house.ask(Ask::get("/auth/me")).await.refusal,
        Some(Refusal::CredentialMissing)
    );
}

#[tokio::test]
async fn the_list_has_the_sessions_of_ones_own_account() {
    let house = House::new();
    house.browser(&house.add("bob@example.com", None));
    let caller = house.browser(&house.ann);
    house.clock.advance(60);
    let (client, _) = house.client(&house.ann);
    let seen = house.ask(Ask::get("/auth/sessions").cookie(&caller)).await;
    let at = |minute: u8| format!("2027-01-15T08:0{minute}:00Z");
    let expected = json!({"sessions": [
        {"id": caller.identity.session_id, "current": true, "kind": "browser", "userAgent": "Firefox",
         "address": "192.0.2.1", "createdAt": at(0), "lastSeenAt": at(0), "expiresAt": "2027-01-22T08:00:00Z"},
        {"id": client.identity.session_id, "current": false, "kind": "client", "userAgent": "curl/8",
         "address": "192.0.2.1", "createdAt": at(1), "lastSeenAt": at(1), "expiresAt": "2027-01-22T08:01:00Z"},
    ]});
    assert_eq!(seen.json(), expected);
    let page = house
        .ask(Ask::get("/auth/sessions").browser().cookie(&caller))
        .await;
    assert!(page.text.contains(&format!(
        "/auth/sessions/{}/end",
        client.identity.session_id.as_ref().unwrap()
    )));
    assert!(
        page.text.contains("Ann &lt;b&gt;") && !page.text.contains("bob@"),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn a_link_on_another_site_does_not_make_us_say_that_something_was_done() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    for (site, is_said) in [("same-origin", true), ("cross-site", false), ("same-site", false)] {
        let ask = Ask::get("/auth/sessions?done=password")
            .browser()
            .cookie(&caller)
            .header("sec-fetch-site", site);
        assert_eq!(
            house.ask(ask).await.text.contains("Password changed."),
            is_said,
            "{site}"
        );
    }
    let ask = Ask::get("/auth/sessions?done=%3Cb%3EPay%20here")
        .browser()
        .cookie(&caller);
    assert!(!house.ask(ask).await.text.contains("Pay"));
}

#[tokio::test]
async fn without_a_session_of_ours_there_is_nothing_to_see_or_to_end() {
    let house = House::new();
    let target = house.browser(&house.ann);
    let id = target.identity.session_id.clone().unwrap();
    let body = json!({"currentPassword": PASSWORD, "newPassword": NEW});
    for ask in [
        Ask::get("/auth/sessions"),
        Ask::get("/auth/password"),
        Ask::post("/auth/password").json(&body),
        Ask::delete(&format!("/auth/sessions/{id}")),
        Ask::post(&format!("/auth/sessions/{id}/end")),
    ] {
        for caller in [
            None,
            Some(stranger("corp", &house.ann.id)),
            Some(stranger(SESSION_ISSUER, &house.ann.id)),
        ] {
            let seen = house
                .ask(Ask {
                    caller,
                    ..ask.clone()
                })
                .await;
            assert_eq!(seen.refusal, Some(Refusal::CredentialMissing), "{}", ask.path);
        }
    }
    assert!(!house.is_revoked(&target));
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let house = House::new();
    let bob = house.browser(&house.add("bob@example.com", None));
    let (caller, other) = (house.browser(&house.ann), house.browser(&house.ann));
    let path = |caller: &Caller| format!("/auth/sessions/{}", caller.identity.session_id.as_ref().unwrap());

    for missing in [path(&bob), "/auth/sessions/no-such-session".to_owned()] {
        assert_eq!(
            house.ask(Ask::delete(&missing).cookie(&caller)).await.refusal,
            Some(Refusal::RouteMissing)
        );
        let seen = house
            .ask(Ask::post(&format!("{missing}/end")).form(&[]).cookie(&caller))
            .await;
        assert_eq!(seen.location(), "/auth/sessions");
    }
    assert!(!house.is_revoked(&bob));

    let seen = house.ask(Ask::delete(&path(&other)).cookie(&caller)).await;
    assert_eq!(
        (seen.status, seen.cookie(), seen.text.as_str()),
        (StatusCode::NO_CONTENT, None, "")
    );
    assert!(house.is_revoked(&other));
    assert_eq!(
        house
            .ask(Ask::delete(&path(&other)).cookie(&caller))
            .await
            .refusal,
        Some(Refusal::RouteMissing)
    );

    let other = house.browser(&house.ann);
    let seen = house
        .ask(
            Ask::post(&format!("{}/end", path(&other)))
                .form(&[])
                .cookie(&caller),
        )
        .await;
    assert_eq!(
        (seen.location(), seen.cookie()),
        ("/auth/sessions?done=ended", None)
    );
    assert!(house.is_revoked(&other));

    let seen = house.ask(Ask::delete(&path(&caller)).cookie(&caller)).await;
    assert!(seen.status == StatusCode::NO_CONTENT && seen.is_cookie_cleared() && house.is_revoked(&caller));
    let caller = house.browser(&house.ann);
    let seen = house
        .ask(
            Ask::post(&format!("{}/end", path(&caller)))
                .form(&[])
                .cookie(&caller),
        )
        .await;
    assert!(seen.location() == "/auth/login?done=signed-out" && seen.is_cookie_cleared());
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_and_gives_a_browser_a_new_one() {
    let house = House::new();
    let (caller, other, (client, _)) = (
        house.browser(&house.ann),
        house.browser(&house.ann),
        house.client(&house.ann),
    );
    let fields = [("current_password", PASSWORD), ("new_password", NEW)];
    let seen = house
        .ask(Ask::post("/auth/password").form(&fields).cookie(&caller))
        .await;
    assert_eq!(seen.location(), "/auth/sessions?done=password");
    assert!(seen.cookie().unwrap().starts_with("__Host-session=ey"));
    assert!(
        [&caller, &other, &client]
            .into_iter()
            .all(|caller| house.is_revoked(caller)),
        "at once, in this process"
    );
    assert_eq!(house.ids().len(), 1);
    let login = |password: &str| {
        house.ask(Ask::post("/auth/login").json(&json!({"email": "ann@example.com", "password": password})))
    };
    assert_eq!(login(PASSWORD).await.refusal, Some(Refusal::LoginRefused));
    assert_eq!(login(NEW).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_api_client_keeps_its_tokens_after_a_new_password() {
    let house = House::new();
    let (browser, (client, _)) = (house.browser(&house.ann), house.client(&house.ann));
    let body = json!({"currentPassword": PASSWORD, "newPassword": NEW});
    let seen = house
        .ask(Ask::post("/auth/password").json(&body).bearer(&client))
        .await;
    assert_eq!(
        (seen.json(), seen.cookie()),
        (json!({"message": "Password changed"}), None)
    );
    assert!(house.is_revoked(&browser) && !house.is_revoked(&client));
    assert_eq!(house.ids(), [client.identity.session_id.clone().unwrap()]);
}

#[tokio::test]
async fn a_script_in_a_browser_gets_a_new_cookie_with_its_new_password() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    let body = json!({"currentPassword": PASSWORD, "newPassword": NEW});
    let seen = house
        .ask(Ask::post("/auth/password").json(&body).cookie(&caller))
        .await;
    assert_eq!(seen.json(), json!({"message": "Password changed"}));
    assert!(seen.cookie().unwrap().starts_with("__Host-session=ey") && house.is_revoked(&caller));
}

#[tokio::test]
async fn a_wrong_present_password_changes_nothing_and_counts_as_a_guess_at_the_account() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    for _ in 0..9 {
        house
            .login
            .throttle
            .attempt("ann@example.com", IpAddr::from([10, 0, 0, 1]).into())
            .unwrap();
    }
    let change = |current: &str, new: &str| {
        Ask::post("/auth/password")
            .form(&[("current_password", current), ("new_password", new)])
            .cookie(&caller)
    };
    for (new, refusal) in [
        ("short", Refusal::PasswordTooShort),
        ("1234567890", Refusal::PasswordCommon),
        ("Ann@example.com", Refusal::PasswordCommon),
        ("", Refusal::FormMalformed),
    ] {
        assert_eq!(
            house.ask(change(PASSWORD, new)).await.refusal,
            Some(refusal),
            "{new}"
        );
    }
    let seen = house.ask(change("wrong one", NEW)).await;
    assert_eq!(seen.refusal, Some(Refusal::LoginRefused));
    assert!(seen.text.contains("The current password is wrong.") && seen.text.contains("ann@example.com"));
    assert!(!seen.text.contains("wrong one") && !seen.text.contains(NEW));
    assert_eq!(
        house.ask(change(PASSWORD, NEW)).await.refusal,
        Some(Refusal::Throttled)
    );
    let login = Ask::post("/auth/login").json(&json!({"email": "ann@example.com", "password": PASSWORD}));
    assert_eq!(house.ask(login).await.refusal, Some(Refusal::Throttled));
    assert!(!house.is_revoked(&caller));
    assert!(house.state.account(&house.ann.id).unwrap() == Some(house.ann.clone()));
}

#[tokio::test]
async fn of_two_changes_at_once_with_the_same_password_one_counts() {
    let house = House::new();
    let (owner, (thief, _)) = (house.browser(&house.ann), house.client(&house.ann));
    let change = |new: &str| {
        Ask::post("/auth/password").json(&json!({"currentPassword": PASSWORD, "newPassword": new}))
    };
    let (one, other) = tokio::join!(
        house.ask(change("what the owner wants").cookie(&owner)),
        house.ask(change("what the thief wants").bearer(&thief)),
    );
    let mut done = [one.status.is_success(), other.status.is_success()];
    done.sort_unstable();
    assert_eq!(done, [false, true]);
    assert_eq!(
        house
            .state
            .account(&house.ann.id)
            .unwrap()
            .unwrap()
            .password_version,
        house.ann.password_version + 1
    );
}

#[tokio::test]
async fn who_was_signed_out_while_the_password_was_hashed_changes_nothing() {
    let house = House::new();
    let caller = house.browser(&house.ann);
    // The token still looks good to the gateway of this request; the session is gone.
    house
        .login
        .sessions
        .end(
            crate::state::SessionSelector::Account(&house.ann.id),
            crate::state::EndCause::SignedOut,
        )
        .unwrap();
    let body = json!({"currentPassword": PASSWORD, "newPassword": NEW});
    let seen = house
        .ask(Ask::post("/auth/password").json(&body).cookie(&caller))
        .await;
    assert_eq!(seen.refusal, Some(Refusal::Revoked));
    assert!(house.state.account(&house.ann.id).unwrap() == Some(house.ann.clone()));
}
