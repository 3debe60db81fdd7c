//! Sign-in with an OpenID Connect provider: the good way through the real listener, and each way in which a provider, a
//! network or another browser goes wrong.

use std::sync::Arc;

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId, Trouble, back_with, parse};
use super::support::people::{ROUTES, claims};
use super::support::{App, Gate, Gateway, Key, Response, Setup, eventually, gateway::before};

/// A gateway in front of `app` where people sign in with `provider` alone.
#[track_caller]
fn gateway(app: &App, provider: &OpenId, more: &str) -> Gateway {
    setup(app, provider, more).start()
}

#[track_caller]
fn setup(app: &App, provider: &OpenId, more: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let setup = Setup::new(&before(app, &format!("{server}{}{ROUTES}", provider.table(more))));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

const RULES: &str = r#"
allow = [{ domain = "example.com" }, { group = "guests" }]
roles_claims = ["groups"]
roles = [{ role = "admin", email = "ANN@example.com" }, { role = "ops", group = "sre" }]
"#;

#[test]
fn user_of_a_provider_signs_in_and_gets_back() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let answer = browser.sign_in(&gateway, &provider).expect(303);
    assert_eq!(answer.header("location"), Some("/hello?a=b"));
    assert!(browser.attempts().is_empty(), "{:?}", browser.cookies);
    browser.visit(&gateway, "/admin/x").expect(200);
    let seen = app.last();
    assert_eq!(seen.header("x-auth-email"), Some("ann@example.com"));
    assert_eq!(seen.header("x-auth-name"), Some("Ann"));
    assert_eq!(seen.header("x-auth-roles"), Some("admin,ops,sre"));
    assert_eq!(seen.header("x-auth-issuer"), Some("session"));
    assert!(!seen.text().contains("nonce"), "{}", seen.text());
    let id = seen.header("x-auth-user").unwrap().to_owned();
    let token = claims(&browser.cookies["passgate-session"]);
    assert_eq!((&token["sub"], token.get("email_verified")), (&json!(id), None));

    // The same subject is the same account, with what the provider says now.
    provider.user(json!({
        "sub": "ann-1", "email": "ann.b@example.com", "email_verified": true, "name": "Ann B.", "groups": [],
    }));
    let mut second = Browser::default();
    second.sign_in(&gateway, &provider).expect(303);
    second.visit(&gateway, "/x").expect(200);
    let seen = app.last();
    assert_eq!(seen.header("x-auth-user"), Some(&*id));
    assert_eq!(seen.header("x-auth-name"), Some("Ann B."));
    assert_eq!(seen.header("x-auth-roles"), None);
    // The first session learns of it as well.
    eventually("the first session has lost its role", || {
        browser.visit(&gateway, "/admin/x").status == 403
    });
    second.visit(&gateway, "/auth/sessions").expect(200);
}

#[test]
fn sign_in_by_provider_without_password_has_no_form() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let form = super::support::people::post_form("/auth/login", &[("email", "a@b"), ("password", "x")]);
    gateway.send(&form).expect(404);
    gateway.get("/auth/login/other").expect(404);
    // One provider is no choice: the page leads there, and the return address goes along.
    let mut browser = Browser::default();
    let answer = browser.visit(&gateway, "/hello?a=b").expect(302);
    assert_eq!(
        answer.header("location"),
        Some("/auth/login?return_to=/hello%3Fa%3Db")
    );
    let answer = browser
        .visit(&gateway, "/auth/login?return_to=/hello%3Fa%3Db")
        .expect(302);
    assert_eq!(
        answer.header("location"),
        Some("/auth/login/sso?return_to=/hello%3Fa%3Db")
    );
}

#[test]
fn sign_in_page_has_a_button_for_each_provider_and_a_form() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(
        &app,
        &provider,
        "name = \"<Corp> & Co\"\nallow = \"anyone\"\n[password]\n",
    );
    let page = Browser::default()
        .visit(&gateway, "/auth/login?return_to=/a%3Fb")
        .expect(200)
        .text();
    assert!(page.contains("Sign in with &lt;Corp&gt; &amp; Co</a>"), "{page}");
    assert!(
        page.contains("href=\"/auth/login/sso?return_to=/a%3Fb\""),
        "{page}"
    );
    assert!(page.contains("type=\"password\""), "{page}");
}

#[test]
fn fifty_returns_with_one_address_make_one_session() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/hello");
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let send = || gateway.send(&browser.request(&back)).status;
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(
        answers.iter().filter(|status| **status == 303).count(),
        1,
        "{answers:?}"
    );
    assert!(
        answers.iter().all(|status| [303, 400].contains(status)),
        "{answers:?}"
    );
    assert_eq!(provider.count("/token"), 1);
    let listed = gateway
        .command(["session", "list", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(
        listed
            .as_array()
            .map(Vec::len)
            .or(listed["sessions"].as_array().map(Vec::len)),
        Some(1),
        "{listed}"
    );
}

#[test]
fn parallel_tabs_sign_in_and_abandoned_ones_do_not_pile_up() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let backs: Vec<String> = (0..3)
        .map(|tab| browser.go(&gateway, &provider, &format!("/tab{tab}")))
        .collect();
    for (tab, back) in backs.iter().enumerate().rev() {
        let answer = browser.visit(&gateway, back).expect(303);
        assert_eq!(answer.header("location"), Some(&*format!("/tab{tab}")));
    }
    for _ in 0..8 {
        browser.go(&gateway, &provider, "/");
    }
    assert_eq!(browser.attempts().len(), 5);
}

#[test]
fn return_address_of_another_site_leads_to_the_start_page() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    for to in [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "/auth/login",
        "/a\nb",
    ] {
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, to);
        // Nor does one that is added to the way back.
        let back = format!("{back}&return_to=%2Fadded");
        let answer = browser.visit(&gateway, &back).expect(303);
        assert_eq!(answer.header("location"), Some("/"), "{to:?}");
    }
}

#[test]
fn local_account_of_the_same_address_is_another_account() {
    let (app, provider) = (App::start(), OpenId::start());
    let setup = setup(&app, &provider, &format!("{RULES}\n[password]\n"));
    let local = setup.add_account("ann@example.com", &["boss"]);
    let gateway = setup.start();
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/x").expect(200);
    let seen = app.last();
    assert_ne!(seen.header("x-auth-user"), Some(&*local));
    assert!(!seen.header("x-auth-roles").unwrap().contains("boss"));
    let cookie = gateway.sign_in("ann@example.com");
    assert_eq!(
        gateway.get_with(&cookie, "/auth/me").expect(200).json()["id"],
        json!(local)
    );
}

/// The reason in the access log line of a page.
#[track_caller]
fn reason_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").unwrap();
    gateway.log_line(|line| line["request_id"] == id)["reason"].clone()
}

/// The refusal of a sign-in: a page that helps, a reason in the log, and no session.
#[track_caller]
fn refused(gateway: &Gateway, browser: &mut Browser, back: &str, status: u16, reason: &str) {
    let answer = browser.visit(gateway, back);
    assert_eq!(answer.status, status, "{reason}: {}", answer.text());
    let page = answer.text();
    assert!(page.contains("<h1>") && !page.contains("<b>no</b>"), "{page}");
    assert_eq!(reason_of(gateway, &answer), json!(reason));
    assert!(!browser.has_session(), "{reason}");
}

type Claims = fn(&mut Value);
type Forge = fn(&Key, &Value) -> String;

#[test]
fn wrong_id_token_is_refused_whatever_is_wrong_with_it() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let wrong: [(&str, Claims); 21] = [
        ("iss", |claims| claims["iss"] = json!("https://evil.example")),
        ("iss with a slash", |claims| {
            claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap()))
        }),
        ("no iss", |claims| {
            drop(claims.as_object_mut().unwrap().remove("iss"))
        }),
        ("aud", |claims| claims["aud"] = json!("other")),
        ("no aud", |claims| {
            drop(claims.as_object_mut().unwrap().remove("aud"))
        }),
        ("aud of two without azp", |claims| {
            claims["aud"] = json!(["pass:gate", "other"])
        }),
        ("azp", |claims| claims["azp"] = json!("other")),
        ("azp of another type", |claims| {
            claims["azp"] = json!(["pass:gate"])
        }),
        ("exp", |claims| {
            claims["exp"] = json!(claims["iat"].as_i64().unwrap() - 3600)
        }),
        ("no exp", |claims| {
            drop(claims.as_object_mut().unwrap().remove("exp"))
        }),
        ("iat of the future", |claims| {
            claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 3600)
        }),
        ("no iat", |claims| {
            drop(claims.as_object_mut().unwrap().remove("iat"))
        }),
        ("nbf of the future", |claims| {
            claims["nbf"] = json!(claims["iat"].as_i64().unwrap() + 3600)
        }),
        ("nonce", |claims| claims["nonce"] = json!("x".repeat(43))),
        ("no nonce", |claims| {
            drop(claims.as_object_mut().unwrap().remove("nonce"))
        }),
        ("nonce of another type", |claims| {
            claims["nonce"] = json!([claims["nonce"]])
        }),
        ("at_hash", |claims| claims["at_hash"] = json!("x".repeat(22))),
        ("at_hash of another type", |claims| claims["at_hash"] = json!(1)),
        ("no sub", |claims| {
            drop(claims.as_object_mut().unwrap().remove("sub"))
        }),
        ("empty sub", |claims| claims["sub"] = json!("")),
        ("long sub", |claims| claims["sub"] = json!("s".repeat(256))),
    ];
    for (what, change) in wrong {
        provider.claims(change);
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        println!("{what}");
        refused(&gateway, &mut browser, &back, 502, "id-token-refused");
    }
    provider.claims(|claims| {
        claims["aud"] = json!(["pass:gate", "other"]);
        claims["azp"] = json!("pass:gate");
    });
    Browser::default().sign_in(&gateway, &provider).expect(303);
    gateway.diagnostic("the ID token of a provider is refused");
}

#[test]
fn id_token_that_the_provider_did_not_sign_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let forged: [(&str, Forge); 5] = [
        ("another key of the same name", |_, claims| {
            Key::new("ES256", "k1").token(claims)
        }),
        ("none", |_, claims| {
            let key = Key::secret("HS256", "");
            let token = key.sign(r#"{"alg":"none"}"#, &claims.to_string());
            format!("{}.", token.rsplit_once('.').unwrap().0)
        }),
        ("the client secret", |_, claims| {
            Key::secret("HS256", CLIENT_SECRET).token(claims)
        }),
        ("an access token", |key, claims| {
            key.sign(
                r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#,
                &claims.to_string(),
            )
        }),
        ("no token", |_, _| "x".to_owned()),
    ];
    for (what, sign) in forged {
        provider.sign(sign);
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        println!("{what}");
        refused(&gateway, &mut browser, &back, 502, "id-token-refused");
    }
}

#[test]
fn rotated_key_of_a_provider_is_fetched() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    Browser::default().sign_in(&gateway, &provider).expect(303);
    provider.rotate(Key::new("ES256", "k2"));
    // Keys are not asked for twice within two seconds.
    eventually("the new key is fetched", || {
        Browser::default().sign_in(&gateway, &provider).status == 303
    });
}

#[test]
fn return_that_is_not_of_this_attempt_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut victim = Browser::default();
    let mut attacker = Browser::default();
    let of_attacker = attacker.go(&gateway, &provider, "/");
    // In a browser that began nothing, and in one that began another attempt.
    refused(&gateway, &mut victim, &of_attacker, 400, "attempt-refused");
    let of_victim = victim.go(&gateway, &provider, "/");
    refused(&gateway, &mut victim, &of_attacker, 400, "attempt-refused");
    for query in ["", "state=&code=x", "code=x", "state=x", "state=%FF"] {
        let back = format!("/auth/login/sso/return?{query}");
        let status = victim.visit(&gateway, &back).status;
        assert_eq!(status, 400, "{query}");
    }
    assert_eq!(provider.count("/token"), 0);
    // A code of the attacker with the victim's state is redeemed with the victim's verifier.
    let state = parse(of_victim.split_once('?').unwrap().1)["state"].clone();
    let code = parse(of_attacker.split_once('?').unwrap().1)["code"].clone();
    let mixed = back_with(&[("code".to_owned(), code), ("state".to_owned(), state)]);
    refused(&gateway, &mut victim, &mixed, 502, "provider-refused");
    // Which has spent the attempt.
    refused(&gateway, &mut victim, &of_victim, 400, "attempt-refused");
}

#[test]
fn parameter_that_stands_twice_is_refused_and_spends_nothing() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    for twice in ["code=x", "state=x", "c%6fde=x", "iss=a&iss=a", "error=a&error=b"] {
        refused(
            &gateway,
            &mut browser,
            &format!("{back}&{twice}"),
            400,
            "provider-answer-invalid",
        );
    }
    browser.visit(&gateway, &back).expect(303);
}

#[test]
fn answer_of_another_issuer_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let own = provider.issuer();
    provider.discovery(|document| document["authorization_response_iss_parameter_supported"] = json!(true));
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    refused(&gateway, &mut browser, &back, 400, "provider-answer-invalid");
    let back = browser.go(&gateway, &provider, "/");
    let mixed = format!("{back}&iss=https%3A%2F%2Fevil.example");
    refused(&gateway, &mut browser, &mixed, 400, "provider-answer-invalid");
    assert_eq!(provider.count("/token"), 0, "the code was not sent");
    let back = browser.go(&gateway, &provider, "/");
    browser.visit(&gateway, &format!("{back}&iss={own}")).expect(303);
}

#[test]
fn error_of_a_provider_becomes_a_page_without_its_text() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    for (error, status, reason) in [
        ("access_denied", 403, "sign-in-denied"),
        ("temporarily_unavailable", 503, "provider-unavailable"),
        ("<script>alert(1)</script>", 502, "provider-refused"),
    ] {
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        let state = parse(back.split_once('?').unwrap().1)["state"].clone();
        let back = back_with(&[
            ("error".to_owned(), error.to_owned()),
            ("error_description".to_owned(), "<script>line\nbreak".to_owned()),
            ("state".to_owned(), state),
        ]);
        refused(&gateway, &mut browser, &back, status, reason);
    }
    gateway.diagnostic("a provider did not sign a user in");
}

#[test]
fn page_of_a_failed_sign_in_leads_to_the_same_destination() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/hello?a=b");
    let state = parse(back.split_once('?').unwrap().1)["state"].clone();
    let denied = back_with(&[
        ("error".to_owned(), "access_denied".to_owned()),
        ("state".to_owned(), state),
    ]);
    let page = browser.visit(&gateway, &denied).expect(403).text();
    let again = "href=\"/auth/login?return_to=/hello%3Fa%3Db\"";
    assert!(page.contains(again), "{page}");
    // The attempt is spent, and its cookie is gone.
    assert!(browser.attempts().is_empty());
    browser.visit(&gateway, &denied).expect(400);
    // Without the attempt the destination is not known.
    let page = Browser::default().visit(&gateway, &denied).expect(400).text();
    assert!(page.contains("href=\"/auth/login\""), "{page}");
    gateway.get("/auth/login/other/return?code=a&state=b").expect(404);
}

#[test]
fn provider_that_is_down_gets_a_page_with_the_other_ways_to_sign_in() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    provider.trouble("/.well-known/openid-configuration", Some(Trouble::Closed));
    let page = Browser::default()
        .visit(&gateway, "/auth/login/sso?return_to=/hello%3Fa%3Db")
        .expect(503)
        .text();
    assert!(
        page.contains("href=\"/auth/login?return_to=/hello%3Fa%3Db\""),
        "{page}"
    );
}

#[test]
fn broken_token_endpoint_is_refused_within_its_limits() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let gate = Arc::new(Gate::default());
    for (trouble, status, reason) in [
        (Trouble::Closed, 503, "provider-unavailable"),
        (Trouble::Endless, 503, "provider-unavailable"),
        (Trouble::Silent(gate.clone()), 503, "provider-unavailable"),
        (
            Trouble::answer("500 Internal Server Error", "", "{}"),
            503,
            "provider-unavailable",
        ),
        (
            Trouble::answer("302 Found", "Location: /token2\r\n", ""),
            502,
            "provider-refused",
        ),
        (Trouble::answer("200 OK", "", "<html>"), 502, "provider-refused"),
        (
            Trouble::answer("200 OK", "", r#"{"token_type":"Bearer"}"#),
            502,
            "provider-refused",
        ),
        (
            Trouble::answer("200 OK", "", r#"{"token_type":"mac","id_token":"x"}"#),
            502,
            "provider-refused",
        ),
        (
            Trouble::answer("200 OK", "", r#"{"id_token":"a","id_token":"b"}"#),
            502,
            "provider-refused",
        ),
    ] {
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        provider.trouble("/token", Some(trouble));
        refused(&gateway, &mut browser, &back, status, reason);
        provider.trouble("/token", None);
    }
    gate.open();
    assert_eq!(provider.count("/token2"), 0, "a redirect is not followed");
    Browser::default().sign_in(&gateway, &provider).expect(303);
}

#[test]
fn gateway_serves_while_a_provider_is_down_and_signs_in_when_it_is_back() {
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    let (app, provider) = (App::start(), OpenId::start());
    provider.trouble(DISCOVERY, Some(Trouble::Closed));
    let gateway = gateway(&app, &provider, RULES);
    gateway.get("/public/x").expect(200);
    let mut browser = Browser::default();
    let answer = browser.visit(&gateway, "/auth/login/sso").expect(503);
    assert_eq!(reason_of(&gateway, &answer), json!("provider-unavailable"));
    provider.trouble(DISCOVERY, None);
    eventually("the provider is asked again", || {
        browser.visit(&gateway, "/auth/login/sso").status == 302
    });
    browser.sign_in(&gateway, &provider).expect(303);
}

#[test]
fn wrong_discovery_document_is_not_used() {
    let wrong: [fn(&mut Value); 5] = [
        |document| document["issuer"] = json!("https://evil.example"),
        |document| document["authorization_endpoint"] = json!("http://192.0.2.1/authorize"),
        |document| document["token_endpoint"] = json!("javascript:alert(1)"),
        |document| drop(document.as_object_mut().unwrap().remove("jwks_uri")),
        |document| document["userinfo_endpoint"] = json!(1),
    ];
    for change in wrong {
        let (app, provider) = (App::start(), OpenId::start());
        provider.discovery(change);
        let gateway = gateway(&app, &provider, RULES);
        Browser::default().visit(&gateway, "/auth/login/sso").expect(503);
        gateway.diagnostic("cannot read the discovery document of a provider");
    }
}

#[test]
fn user_whom_allow_does_not_name_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    for user in [
        json!({ "sub": "1", "email": "a@example.com", "email_verified": false, "name": "A" }),
        json!({ "sub": "2", "email": "a@example.com", "name": "A" }),
        json!({ "sub": "3", "email": "a@evil.example", "email_verified": true, "name": "A" }),
        json!({ "sub": "4", "email": "a@sub.example.com", "email_verified": true, "name": "A" }),
        json!({ "sub": "5", "name": "A", "groups": ["guest"] }),
    ] {
        provider.user(user);
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        refused(&gateway, &mut browser, &back, 403, "sign-in-not-allowed");
    }
    provider.user(json!({ "sub": "6", "name": "A", "groups": "guests" }));
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/x").expect(200);
    assert_eq!(app.last().header("x-auth-email"), None);
}

#[test]
fn userinfo_fills_in_what_the_id_token_lacks_and_must_be_of_the_same_subject() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    provider.user(json!({ "sub": "ann-1" }));
    let full = json!({ "sub": "ann-1", "email": "ann@example.com", "email_verified": true, "name": "Ann" });
    provider.userinfo(full.clone());
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/x").expect(200);
    assert_eq!(app.last().header("x-auth-roles"), Some("admin"));
    for other in [json!("bob-1"), json!(null), json!(["ann-1"])] {
        let mut userinfo = full.clone();
        userinfo["sub"] = other;
        provider.userinfo(userinfo);
        let mut browser = Browser::default();
        let back = browser.go(&gateway, &provider, "/");
        refused(&gateway, &mut browser, &back, 502, "provider-refused");
    }
}

#[test]
fn disabled_account_of_a_provider_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider, RULES);
    let mut browser = Browser::default();
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/x").expect(200);
    let id = app.last().header("x-auth-user").unwrap().to_owned();
    gateway.command(["user", "disable", &id]).expect(0);
    let mut again = Browser::default();
    let back = again.go(&gateway, &provider, "/");
    refused(&gateway, &mut again, &back, 403, "account-disabled");
}

#[test]
fn ninth_request_of_one_client_that_waits_for_a_provider_is_turned_away() {
    let (app, provider) = (App::start(), OpenId::start());
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let table = provider.table("allow = \"anyone\"");
    let setup = Setup::new(&before(&app, &format!("{server}{table}{ROUTES}")));
    setup.write("sso.secret", CLIENT_SECRET);
    let gateway = setup.start();
    let gate = Arc::new(Gate::default());
    provider.trouble(
        "/.well-known/openid-configuration",
        Some(Trouble::Silent(gate.clone())),
    );
    let ask = |client: &str| {
        let request = Browser::default().request("/auth/login/sso");
        gateway.send(&request.header("X-Forwarded-For", client))
    };
    std::thread::scope(|scope| {
        let (told, answers) = std::sync::mpsc::sync_channel(9);
        // One network: its addresses are those of one client.
        let clients = (1..=9).map(|number| format!("2001:db8::{number}"));
        for client in clients {
            let told = told.clone();
            scope.spawn(move || told.send(ask(&client)).unwrap());
        }
        // Eight wait, and so only the other one is answered.
        let reason = |answer: &Response| reason_of(&gateway, answer).as_str().unwrap().to_owned();
        let first = answers.recv().unwrap().expect(503);
        assert!(first.header("retry-after").is_some());
        assert_eq!(reason(&first), "overloaded");
        assert_eq!(reason(&ask("2001:db8::10")), "overloaded");
        // Another client waits with them. The provider then closes all connections.
        let other = scope.spawn(|| ask("2001:db8:0:1::1"));
        gate.open();
        assert_eq!(reason(&other.join().unwrap()), "provider-unavailable");
        for _ in 0..8 {
            assert_eq!(reason(&answers.recv().unwrap()), "provider-unavailable");
        }
    });
    // Their places are free again.
    provider.trouble("/.well-known/openid-configuration", None);
    eventually("the provider is asked again", || ask("2001:db8::1").status == 302);
}
