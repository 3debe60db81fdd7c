//! Signing in, staying signed in, being signed out.
#![allow(clippy::unwrap_used, clippy::panic)]

mod several_hosts;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::people::*;
use crate::support::*;
use serde_json::{Value, json};

const ALICE: &str = "alice@example.com";

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

// --- browsers

#[test]
fn a_browser_is_sent_to_sign_in_comes_back_and_is_known_to_the_app() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    let id = setup.add_account(ALICE, &["user", "ops"]);
    let gateway = setup.start();

    let away = gateway.send(&navigate("/reports?year=2026&q=a%20b")).expect(302);
    assert_eq!(
        away.header("location"),
        Some("/auth/login?return_to=/reports%3Fyear%3D2026%26q%3Da%2520b")
    );
    assert_eq!(away.header("cache-control"), Some("no-store"));
    let page = gateway
        .send(&navigate(away.header("location").unwrap()))
        .expect(200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(
        page.text().contains("reports?year=2026&amp;q=a%20b\""),
        "{}",
        page.text()
    );
    assert_eq!(app.count(), 0);

    let fields = [
        ("email", "Alice@Example.COM"),
        ("password", PASSWORD),
        ("return_to", "/reports?year=2026&q=a%20b"),
    ];
    let signed_in = gateway.send(&post_form("/auth/login", &fields)).expect(303);
    assert_eq!(signed_in.header("location"), Some("/reports?year=2026&q=a%20b"));
    assert_eq!(signed_in.header("cache-control"), Some("no-store"));
    let cookie = session_cookie(&signed_in).unwrap();
    let attributes = signed_in.header("set-cookie").unwrap();
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Max-Age=604800"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    assert!(
        !attributes.contains("Secure") && !attributes.contains("Domain"),
        "{attributes}"
    );
    assert_eq!(
        gateway.log_line(|line| line["status"] == 303)["subject"],
        id.as_str()
    );

    let request = navigate("/reports?year=2026").header("Cookie", &format!("theme=dark; {cookie}; lang=en"));
    gateway.send(&request).expect(200);
    let seen = app.only();
    assert_eq!(seen.header("x-auth-user"), Some(id.as_str()));
    assert_eq!(seen.header("x-auth-email"), Some(ALICE));
    assert_eq!(seen.header("x-auth-roles"), Some("ops,user"));
    assert_eq!(seen.header("x-auth-issuer"), Some("session"));
    assert_eq!(seen.header("cookie"), Some("theme=dark; lang=en"));
    assert!(
        !seen.text().contains(&cookie["passgate-session=".len()..]),
        "the app has the session"
    );
}

#[test]
fn only_a_navigation_is_sent_to_sign_in() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, "");
    let get = || Request::get("/x").host("localhost");
    for (name, request) in [
        ("a program", get()),
        ("a program that takes anything", get().header("Accept", "*/*")),
        (
            "fetch",
            get()
                .header("Accept", "text/html")
                .header("Sec-Fetch-Dest", "empty")
                .header("Sec-Fetch-Mode", "cors"),
        ),
        (
            "XMLHttpRequest",
            get()
                .header("Accept", "text/html")
                .header("X-Requested-With", "XMLHttpRequest"),
        ),
        ("a form", post_form("/x", &[])),
        (
            "a WebSocket",
            get()
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-Fetch-Dest", "websocket"),
        ),
    ] {
        let answer = gateway.send(&request);
        assert_eq!(answer.status, 401, "{name}");
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer realm="),
            "{name}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
    }
    let bad = gateway
        .send(&navigate("/x").header("Authorization", "Bearer nonsense"))
        .expect(401);
    assert!(bad.header("www-authenticate").unwrap().contains("invalid_token"));
    let socket = navigate("/x")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    assert_eq!(
        gateway.send(&socket).status,
        401,
        "a WebSocket, whatever else it says"
    );
    gateway.send(&navigate("/nowhere/../x")).expect(400);
    gateway.send(&navigate("/public/x")).expect(200);
}

#[test]
fn after_signing_out_the_old_cookie_is_nobodys_at_once_and_is_cleared() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let (here, elsewhere) = (gateway.sign_in(ALICE), gateway.sign_in(ALICE));
    for _ in 0..3 {
        gateway.get_with(&here, "/x").expect(200);
    }
    let out = gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &here))
        .expect(303);
    assert_eq!(session_cookie(&out).as_deref(), Some("passgate-session="));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"), "{out:?}");
    let before = app.count();
    for _ in 0..3 {
        let refused = gateway.get_with(&here, "/x").expect(401);
        assert_eq!(
            session_cookie(&refused).as_deref(),
            Some("passgate-session="),
            "a cookie that is no good is cleared"
        );
        assert_eq!(gateway.log_of(&refused)["reason"], "credential-missing");
    }
    gateway.send(&navigate("/x").header("Cookie", &here)).expect(302);
    // Where nobody is needed, nobody asks.
    gateway.get_with(&here, "/maybe/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), None);
    assert_eq!(app.count(), before + 1);
    gateway.get_with(&elsewhere, "/x").expect(200);
    // Signing out twice is no error for a browser.
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &here))
        .expect(303);
}

#[test]
fn signing_out_everywhere_ends_every_session_and_token_of_the_account_and_of_no_other() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    setup.add_account("bob@example.com", &[]);
    let gateway = setup.start();
    let cookies = [gateway.sign_in(ALICE), gateway.sign_in(ALICE)];
    let client = gateway.sign_in_client(ALICE);
    let bob = gateway.sign_in("bob@example.com");
    gateway.get_as(&text(&client["accessToken"]), "/x").expect(200);
    gateway
        .send(&post_form("/auth/logout?all=true", &[]).header("Cookie", &cookies[0]))
        .expect(303);
    for cookie in &cookies {
        gateway.get_with(cookie, "/x").expect(401);
    }
    gateway.get_as(&text(&client["accessToken"]), "/x").expect(401);
    let refresh = json!({ "refreshToken": client["refreshToken"] });
    gateway.send(&post_json("/auth/refresh", &refresh)).expect(401);
    gateway.get_with(&bob, "/x").expect(200);
}

#[test]
fn every_sign_in_is_a_new_session_and_ends_the_browsers_old_one() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let first = gateway.sign_in(ALICE);
    let again =
        post_form("/auth/login", &[("email", ALICE), ("password", PASSWORD)]).header("Cookie", &first);
    let second = session_cookie(&gateway.send(&again).expect(303)).unwrap();
    let sid = |cookie: &str| text(&claims(&cookie["passgate-session=".len()..])["sid"]);
    assert_ne!(sid(&first), sid(&second));
    gateway.get_with(&second, "/x").expect(200);
    gateway.get_with(&first, "/x").expect(401);
}

#[test]
fn the_cookie_is_renewed_without_a_word_when_its_token_has_expired() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[session]\ntoken_lifetime = \"1s\"\n");
    let id = setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let expiry = claims(&cookie["passgate-session=".len()..])["exp"]
        .as_i64()
        .unwrap();
    setup_of(&gateway)
        .command(["user", "roles", ALICE, "--add", "admin"])
        .expect(0);
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    eventually("the token has expired", || {
        i64::try_from(now()).unwrap() >= expiry
    });

    // Many at once, on many connections: each is answered as if nothing were.
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| gateway.get_with(&cookie, "/admin/x")))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut sids = BTreeSet::new();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        let renewed = session_cookie(answer).expect("a new cookie comes with the answer");
        sids.insert(text(&claims(&renewed["passgate-session=".len()..])["sid"]));
        let caching = answer.header("cache-control").unwrap_or_default();
        assert!(
            caching.contains("private"),
            "a shared cache could keep somebody's cookie: {caching}"
        );
    }
    assert_eq!(sids.len(), 1, "it is the same session");
    assert_eq!(app.last().header("x-auth-user"), Some(id.as_str()));
    assert_eq!(
        app.last().header("x-auth-roles"),
        Some("admin,user"),
        "roles are read afresh"
    );
    // The old cookie still works, as other requests may be on their way with it, and so does the new one.
    let renewed = session_cookie(&answers[0]).unwrap();
    gateway.get_with(&renewed, "/x").expect(200);
    gateway.get_with(&cookie, "/x").expect(200);
}

#[test]
fn a_session_goes_on_when_its_tokens_expire_faster_than_answers_are_shared() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[session]\ntoken_lifetime = \"1s\"\n");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let mut cookie = gateway.sign_in(ALICE);
    let mut renewals = 0;
    eventually("it was renewed twice", || {
        let answer = gateway.get_with(&cookie, "/x").expect(200);
        if let Some(renewed) = session_cookie(&answer).filter(|renewed| *renewed != cookie) {
            (cookie, renewals) = (renewed, renewals + 1);
        }
        renewals == 2
    });
}

#[test]
fn explain_knows_a_session_that_would_be_renewed_and_what_is_only_for_who_is_signed_in() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[session]\ntoken_lifetime = \"1s\"\n");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let field = format!("Cookie: {cookie}");
    let explain = |url: &str, field: &str| gateway.command(["explain", "GET", url, "-H", field]);
    setup_of(&gateway)
        .command(["user", "roles", ALICE, "--add", "admin"])
        .expect(0);
    let mut said = String::new();
    eventually("the token has expired", || {
        said = explain("/admin/x", &field).stdout;
        said.contains("its session goes on")
    });
    assert!(said.ends_with("allowed: forwarded to upstream `app`\n"), "{said}");
    explain("/auth/me", &field).expect(0);
    explain("/auth/login", "Accept: */*").expect(0);
    assert!(
        explain("/auth/me", "Accept: */*")
            .expect(3)
            .stdout
            .contains("401")
    );
    assert!(
        explain("/x", "Accept: text/html")
            .expect(3)
            .stdout
            .contains("302 to sign in at /auth/login")
    );
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    assert!(explain("/admin/x", &field).expect(3).stdout.contains("401"));
}

#[test]
fn a_page_that_says_no_has_the_challenge_and_the_id_and_keeps_the_connection() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, "");
    let wrong = post_form("/auth/login", &[("email", ALICE), ("password", "not this one")]);
    let answer = gateway.send(&wrong).expect(401);
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm="),
        "RFC 9110 section 15.5.2"
    );
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(
        gateway.log_line(|line| line["request_id"] == id)["reason"],
        "login-refused"
    );
    assert_eq!(answer.header("connection"), None, "the whole body was read");
}

#[test]
fn who_posts_to_the_address_of_the_page_is_led_back_as_well() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let fields = [("email", ALICE), ("password", PASSWORD)];
    let there = |query: &str| {
        gateway
            .send(&post_form(&format!("/auth/login{query}"), &fields))
            .expect(303)
    };
    assert_eq!(there("?return_to=/reports").header("location"), Some("/reports"));
    assert_eq!(there("?return_to=//evil.example").header("location"), Some("/"));
    let both = [("email", ALICE), ("password", PASSWORD), ("return_to", "/form")];
    let answer = gateway
        .send(&post_form("/auth/login?return_to=/query", &both))
        .expect(303);
    assert_eq!(answer.header("location"), Some("/form"));
}

#[test]
fn a_program_that_signs_out_is_answered_as_one() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let bearer = format!("Bearer {}", text(&gateway.sign_in_client(ALICE)["accessToken"]));
    // Some clients call the body that is not there a form.
    let leave = Request::post("/auth/logout", "")
        .host("localhost")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Authorization", &bearer);
    assert_eq!(gateway.send(&leave).expect(200).json()["message"], "Signed out");
    let again = gateway.send(&leave).expect(401);
    assert_eq!(again.json()["message"], "Invalid token");
    assert!(
        again
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token"),
        "one was sent"
    );
}

/// The directory of a running gateway.
fn setup_of(gateway: &Gateway) -> &Setup {
    &gateway.setup
}

#[test]
fn an_ended_session_is_not_renewed_and_neither_is_one_past_its_limits() {
    let app = App::start();
    let limits = "[session]\ntoken_lifetime = \"1s\"\nidle_timeout = \"4s\"\nlifetime = \"3s\"\n";
    let setup = sign_in_setup(&app, limits);
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let ended = gateway.sign_in(ALICE);
    let cookie = gateway.sign_in(ALICE);
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &ended))
        .expect(303);
    let mut answer = gateway.get_with(&cookie, "/x").expect(200);
    // It is used all the time, and is over all the same.
    let mut newest = cookie;
    eventually("the session is over", || {
        assert_eq!(gateway.get_with(&ended, "/x").status, 401);
        answer = gateway.get_with(&newest, "/x");
        if let (200, Some(renewed)) = (answer.status, session_cookie(&answer)) {
            newest = renewed;
        }
        answer.status == 401
    });
    assert_eq!(session_cookie(&answer).as_deref(), Some("passgate-session="));
}

#[test]
fn another_site_can_neither_sign_in_nor_out_nor_act() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[password]\nregistration = true\n");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let hostile: [&[(&str, &str)]; 4] = [
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "https://evil.example"),
        ],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "https://evil.example")],
        &[("Origin", "null")],
    ];
    let credentials = form(&[("email", ALICE), ("password", PASSWORD)]);
    for fields in hostile {
        let targets = [
            "/auth/login",
            "/auth/register",
            "/auth/logout",
            "/auth/refresh",
            "/auth/password",
            "/x",
        ];
        for target in targets {
            let mut request = Request::post(target, credentials.clone())
                .host("localhost")
                .header("Content-Type", "application/x-www-form-urlencoded")
                .header("Cookie", &cookie);
            for (name, value) in fields {
                request = request.header(name, value);
            }
            let answer = gateway.send(&request);
            assert_eq!(answer.status, 403, "{target} {fields:?}");
            assert_eq!(session_cookie(&answer), None, "{target}");
        }
    }
    gateway.get_with(&cookie, "/x").expect(200);
    assert_eq!(app.count(), 1);
}

/// A page of `http://` is another origin than one of `https://` with the same name (RFC 6454 section 5).
#[test]
fn the_scheme_of_an_origin_is_that_of_the_site() {
    let app = App::start();
    for (public_url, good, bad) in [
        (Some("https://localhost"), "https://localhost", "http://localhost"),
        (Some("http://localhost"), "http://localhost", "https://localhost"),
        (None, "https://localhost", "null"),
    ] {
        let cookies = "[credentials]\nsources = [{ cookie = \"token\" }]\n[password]\n";
        let url = public_url.map_or_else(String::new, |url| format!("public_url = \"{url}\"\n"));
        let toml = crate::support::gateway::before(
            &app,
            &format!(
                "[server]\nlisten = \"127.0.0.1:0\"\n{url}{cookies}{}",
                people::ROUTES
            ),
        );
        let setup = Setup::new(&toml);
        setup.add_account(ALICE, &[]);
        let gateway = setup.start();
        let cookie = format!("token={}", corp_token("ann", &[]));
        let credentials = form(&[("email", ALICE), ("password", PASSWORD)]);
        for (origin, is_good) in [(good, true), (bad, false)] {
            let act = Request::post("/x", "")
                .host("localhost")
                .header("Cookie", &cookie)
                .header("Origin", origin);
            assert_eq!(
                gateway.send(&act).status,
                if is_good { 200 } else { 403 },
                "{public_url:?} {origin}"
            );
            if public_url.is_none() {
                // Sign-in lives at the address of the gateway then, and not at this host.
                continue;
            }
            let sign_in = Request::post("/auth/login", credentials.clone())
                .host("localhost")
                .header("Content-Type", "application/x-www-form-urlencoded")
                .header("Origin", origin);
            assert_eq!(
                gateway.send(&sign_in).status == 403,
                !is_good,
                "{public_url:?} {origin}"
            );
        }
    }
}

#[test]
fn a_cookie_of_another_issuer_does_not_outlive_signing_in_or_out() {
    let app = App::start();
    let sources = "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { cookie = \"old\" }]\n";
    let setup = sign_in_setup(&app, sources);
    let id = setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let old = format!("old={}", corp_token("bob", &[]));
    gateway.get_with(&old, "/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("bob"));
    let cleared =
        |answer: &Response| values(&answer.fields, "set-cookie").contains(&"old=; Path=/; Max-Age=0");
    let fields = [("email", ALICE), ("password", PASSWORD)];
    let signed_in = gateway
        .send(&post_form("/auth/login", &fields).header("Cookie", &old))
        .expect(303);
    assert!(cleared(&signed_in), "she would go on as bob: {signed_in:?}");
    let cookie = session_cookie(&signed_in).unwrap();
    gateway.get_with(&cookie, "/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some(id.as_str()));
    let out = gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &format!("{old}; {cookie}")))
        .expect(303);
    assert!(cleared(&out), "bob would still be signed in: {out:?}");
    gateway.get_with(&cookie, "/x").expect(401);
    let without = gateway.send(&post_form("/auth/login", &fields)).expect(303);
    assert!(!cleared(&without), "there is none to clear");
}

#[test]
fn two_different_session_cookies_are_nobodys() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let (one, other) = (gateway.sign_in(ALICE), gateway.sign_in(ALICE));
    gateway.get_with(&format!("{one}; {other}"), "/x").expect(401);
    gateway
        .get_with(&format!("{one}; passgate-session=x"), "/x")
        .expect(401);
    gateway.get_with(&format!("{one}; {one}"), "/x").expect(200);
}

#[test]
fn a_cookies_token_is_no_access_token_and_an_access_token_no_cookie_cached_or_not() {
    let app = App::start();
    let setup = sign_in_setup(
        &app,
        "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { cookie = \"other\" }]\n",
    );
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let access = text(&gateway.sign_in_client(ALICE)["accessToken"]);
    let in_cookie = &cookie["passgate-session=".len()..];
    for _ in 0..3 {
        gateway.get_with(&cookie, "/x").expect(200);
        gateway.get_as(&access, "/x").expect(200);
        gateway.get_as(in_cookie, "/x").expect(401);
        gateway
            .get_with(&format!("passgate-session={access}"), "/x")
            .expect(401);
        gateway.get_with(&format!("other={in_cookie}"), "/x").expect(401);
    }
}

#[test]
fn an_app_cannot_set_the_session_cookie() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: passgate-session=planted; Path=/\r\n\
         Set-Cookie: session=of the app\r\nSet-Cookie:  passgate-session = planted\r\nSet-Cookie: theme=dark\r\n\
         Set-Cookie: passgate-nonce-1800000000-abcdefgh=planted\r\nSet-Cookie: =passgate-nonce-x=planted\r\n\r\n",
    );
    let gateway = sign_in_gateway(&app, "");
    for _ in 0..2 {
        let answer = gateway.get("/public/x").expect(200);
        assert_eq!(
            values(&answer.fields, "set-cookie"),
            ["session=of the app", "theme=dark"]
        );
    }
    // Said once, and counted.
    gateway.diagnostic("the app sets a cookie of the gateway's own");
    let said = gateway
        .diagnostics()
        .iter()
        .filter(|line| line.contains("sets a cookie"))
        .count();
    assert_eq!(said, 1, "{:?}", gateway.diagnostics());
    let metrics = gateway.admin_get("/metrics").text();
    assert!(
        metrics.contains("passgate_set_cookies_dropped_total{upstream=\"app\"} 8"),
        "{metrics}"
    );
    // Neither does it get one.
    let cookies = "a=b; passgate-nonce-1800000000-abcdefgh=secret; passgate-session=x; session=of the app";
    gateway.get_with(cookies, "/public/x").expect(200);
    assert_eq!(app.last().header("cookie"), Some("a=b; session=of the app"));
}

// --- API clients

#[test]
fn an_api_client_registers_signs_in_refreshes_and_signs_out() {
    let app = App::start();
    let gateway = sign_in_gateway(
        &app,
        "[password]\nregistration = true\ndefault_roles = [\"user\"]\n",
    );
    let account = json!({ "email": ALICE, "password": PASSWORD, "name": "Alice" });
    let made = gateway
        .send(&post_json("/auth/register", &account))
        .expect(201)
        .json();
    let id = text(&made["id"]);
    assert_eq!(made["email"], ALICE);
    let taken = json!({ "email": "ALICE@example.com", "password": PASSWORD, "name": "Mallory" });
    gateway.send(&post_json("/auth/register", &taken)).expect(409);

    let tokens = gateway.sign_in_client(ALICE);
    let keys: BTreeSet<&str> = tokens.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        BTreeSet::from(["accessToken", "refreshToken", "tokenType", "expiresIn"])
    );
    assert_eq!(
        (&tokens["tokenType"], &tokens["expiresIn"]),
        (&json!("Bearer"), &json!(900))
    );
    let access = text(&tokens["accessToken"]);
    let said = claims(&access);
    assert_eq!(
        (&said["sub"], &said["email"], &said["name"]),
        (&json!(id), &json!(ALICE), &json!("Alice"))
    );
    assert_eq!(
        (&said["iss"], &said["aud"], &said["roles"]),
        (
            &json!("http://localhost"),
            &json!("http://localhost"),
            &json!(["user"])
        )
    );
    gateway.get_as(&access, "/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some(id.as_str()));
    let me = gateway.get_as(&access, "/auth/me").expect(200).json();
    assert_eq!(
        me,
        json!({ "id": id, "email": ALICE, "name": "Alice", "roles": ["user"] })
    );
    gateway.get_as(&access, "/admin/x").expect(403);

    let renewed = gateway
        .send(&post_json(
            "/auth/refresh",
            &json!({ "refreshToken": tokens["refreshToken"] }),
        ))
        .expect(200)
        .json();
    assert_ne!(renewed["refreshToken"], tokens["refreshToken"]);
    gateway.get_as(&text(&renewed["accessToken"]), "/x").expect(200);
    let sessions = gateway.get_as(&access, "/auth/sessions").expect(200).json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");

    let out = post_json("/auth/logout", &json!({})).bearer(&text(&renewed["accessToken"]));
    gateway.send(&out).expect(200);
    gateway.get_as(&access, "/x").expect(401);
    gateway
        .send(&post_json(
            "/auth/refresh",
            &json!({ "refreshToken": renewed["refreshToken"] }),
        ))
        .expect(401);
    gateway.get("/auth/me").expect(401);
}

#[test]
fn a_wrong_password_an_unknown_account_and_a_disabled_one_get_the_same_answer() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    setup.add_account("disabled@example.com", &[]);
    setup
        .command(["user", "disable", "disabled@example.com"])
        .expect(0);
    let gateway = setup.start();
    let mut answers = Vec::new();
    for (email, password) in [
        (ALICE, "wrong password"),
        ("nobody@example.com", PASSWORD),
        ("disabled@example.com", PASSWORD),
    ] {
        let refused = gateway
            .send(&post_json(
                "/auth/login",
                &json!({ "email": email, "password": password }),
            ))
            .expect(401);
        assert_eq!(refused.json()["message"], "Invalid credentials");
        assert_eq!(gateway.log_of(&refused)["reason"], "login-refused");
        let mut body = refused.json();
        body["request_id"] = json!("");
        let fields: Vec<_> = refused
            .fields
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.to_lowercase().as_str()))
            .cloned()
            .collect();
        answers.push((body, fields));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
    let page = gateway
        .send(&post_form(
            "/auth/login",
            &[("email", ALICE), ("password", "wrong password")],
        ))
        .expect(401);
    assert!(
        page.text().contains(&format!("value=\"{ALICE}\"")),
        "the address is kept: {}",
        page.text()
    );
    assert!(!page.text().contains("wrong password"), "{}", page.text());
}

#[test]
fn guessing_is_slowed_down_for_an_account_that_is_there_and_for_one_that_is_not() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    for email in [ALICE, "nobody@example.com"] {
        let guess = || {
            gateway.send(&post_json(
                "/auth/login",
                &json!({ "email": email, "password": "guess" }),
            ))
        };
        let statuses: Vec<u16> = (0..14).map(|_| guess().status).collect();
        assert_eq!(&statuses[..10], [401; 10], "{email}");
        assert!(statuses[10..].contains(&429), "{email}: {statuses:?}");
        let answer = guess();
        if answer.status == 429 {
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
            assert_eq!(answer.json()["message"], "Too many requests");
        }
    }
}

#[test]
fn twenty_refreshes_at_once_leave_one_branch_and_sign_nobody_out() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let tokens = gateway.sign_in_client(ALICE);
    let refresh =
        |token: &Value| gateway.send(&post_json("/auth/refresh", &json!({ "refreshToken": token })));
    let answers: Vec<Response> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..20)
            .map(|_| scope.spawn(|| refresh(&tokens["refreshToken"])))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let successors: BTreeSet<String> = answers
        .into_iter()
        .map(|answer| text(&answer.expect(200).json()["refreshToken"]))
        .collect();
    assert_eq!(successors.len(), 1, "all get the same successor");
    let second = refresh(&json!(successors.first().unwrap())).expect(200).json();
    // The first token is spent now beyond any retry: whoever has it stole it, or was stolen from.
    refresh(&tokens["refreshToken"]).expect(401);
    refresh(&second["refreshToken"]).expect(401);
    gateway.get_as(&text(&second["accessToken"]), "/x").expect(401);
    // A token that somebody makes up ends nothing.
    let other = gateway.sign_in_client(ALICE);
    let mut forged = text(&other["refreshToken"]);
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'B' } else { 'A' });
    refresh(&json!(forged)).expect(401);
    refresh(&other["refreshToken"]).expect(200);
}

// --- what the command line changes

#[test]
fn what_the_command_line_ends_is_over_in_the_running_gateway() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    setup.add_account("bob@example.com", &[]);
    let gateway = setup.start();
    let (cookie, client) = (gateway.sign_in(ALICE), gateway.sign_in_client(ALICE));
    let (bob, kept) = (
        gateway.sign_in("bob@example.com"),
        gateway.sign_in("bob@example.com"),
    );
    gateway.get_with(&cookie, "/x").expect(200);
    gateway.command(["user", "disable", ALICE]).expect(0);
    eventually("her cookie is refused", || {
        gateway.get_with(&cookie, "/x").status == 401
    });
    gateway.get_as(&text(&client["accessToken"]), "/x").expect(401);
    gateway
        .send(&post_json(
            "/auth/refresh",
            &json!({ "refreshToken": client["refreshToken"] }),
        ))
        .expect(401);
    gateway
        .send(&post_json(
            "/auth/login",
            &json!({ "email": ALICE, "password": PASSWORD }),
        ))
        .expect(401);

    let sid = text(&claims(&bob["passgate-session=".len()..])["sid"]);
    let listed = gateway
        .command(["session", "list", "bob@example.com", "--format", "json"])
        .expect(0)
        .json();
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|session| session["id"] == sid.as_str()),
        "{listed}"
    );
    gateway.command(["session", "revoke", &sid]).expect(0);
    eventually("his session is over", || {
        gateway.get_with(&bob, "/x").status == 401
    });
    gateway.get_with(&kept, "/x").expect(200);

    gateway.command(["user", "enable", ALICE]).expect(0);
    gateway.get_with(&cookie, "/x").expect(401);
    gateway.sign_in(ALICE);
}

/// Adds the role `admin` to `email` and takes `user` away, in the running gateway.
#[track_caller]
fn promote(gateway: &Gateway, email: &str) {
    gateway
        .command(["user", "roles", email, "--add", "admin", "--remove", "user"])
        .expect(0);
}

#[test]
fn other_roles_hold_for_a_cookie_long_before_it_expires_and_end_nothing() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &["user"]);
    setup.add_account("bob@example.com", &["user"]);
    let gateway = setup.start();
    let (cookie, bob) = (gateway.sign_in(ALICE), gateway.sign_in("bob@example.com"));
    let token = |cookie: &str| claims(&cookie["passgate-session=".len()..]);
    gateway.get_with(&cookie, "/admin/x").expect(403);
    promote(&gateway, ALICE);
    let mut answer = gateway.get_with(&cookie, "/admin/x");
    eventually("she has the new roles", || {
        answer = gateway.get_with(&cookie, "/admin/x");
        assert!(
            matches!(answer.status, 200 | 403),
            "she stays signed in: {answer:?}"
        );
        answer.status == 200
    });
    assert_eq!(app.last().header("x-auth-roles"), Some("admin"));
    let renewed = session_cookie(&answer).expect("a new cookie comes with the answer");
    assert_eq!(
        token(&renewed)["sid"],
        token(&cookie)["sid"],
        "it is the same session"
    );
    assert_eq!(token(&renewed)["roles"], json!(["admin"]));

    // The new cookie needs no other one; the old one gets one each time, as requests may be on their way with it.
    for _ in 0..3 {
        assert_eq!(
            session_cookie(&gateway.get_with(&renewed, "/admin/x").expect(200)),
            None
        );
        assert!(session_cookie(&gateway.get_with(&cookie, "/admin/x").expect(200)).is_some());
    }
    assert_eq!(
        session_cookie(&gateway.get_with(&bob, "/x").expect(200)),
        None,
        "nobody else's is renewed"
    );
    gateway.get_with(&bob, "/admin/x").expect(403);

    // The answer that was shared a moment ago is not that of the next change, be it within the same second.
    gateway
        .command(["user", "roles", ALICE, "--remove", "admin"])
        .expect(0);
    for cookie in [&renewed, &cookie] {
        eventually("she is no admin any more", || {
            match gateway.get_with(cookie, "/admin/x").status {
                403 => true,
                200 => false,
                other => panic!("{other}"),
            }
        });
    }
    // And who may not come any more is out, stale or not.
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    gateway.get_with(&renewed, "/x").expect(401);
    gateway.get_with(&cookie, "/x").expect(401);
}

#[test]
fn other_roles_make_a_program_refresh_which_gives_them_at_once() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let (tokens, other) = (gateway.sign_in_client(ALICE), gateway.sign_in_client(ALICE));
    let access = text(&tokens["accessToken"]);
    gateway.get_as(&access, "/x").expect(200);
    promote(&gateway, ALICE);
    let mut refused = gateway.get_as(&access, "/x");
    eventually("the access token is refused", || {
        refused = gateway.get_as(&access, "/x");
        refused.status == 401
    });
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("error=\"invalid_token\"")
    );
    assert_eq!(gateway.log_of(&refused)["reason"], "stale");
    let refreshed = post_json(
        "/auth/refresh",
        &json!({ "refreshToken": tokens["refreshToken"] }),
    );
    let refreshed = gateway.send(&refreshed).expect(200).json();
    let renewed = text(&refreshed["accessToken"]);
    assert_eq!(
        claims(&renewed)["sid"],
        claims(&access)["sid"],
        "it is the same session"
    );
    gateway.get_as(&renewed, "/admin/x").expect(200);
    gateway.get_as(&access, "/admin/x").expect(401);
    // Whoever leaves with such a token has left.
    gateway
        .send(&post_json("/auth/logout", &json!({})).bearer(&text(&other["accessToken"])))
        .expect(200);
    let gone = post_json("/auth/refresh", &json!({ "refreshToken": other["refreshToken"] }));
    gateway.send(&gone).expect(401);
    gateway.get_as(&renewed, "/x").expect(200);
}

#[test]
fn other_roles_cut_no_open_stream() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = gate.clone();
    let app = App::with(move |exchange| {
        if exchange.request().target() != "/events" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            return Answer::Keep;
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        exchange.send(format!("{head}5\r\ndata\n\r\n"));
        held.pass();
        exchange.send("5\r\nmore\n\r\n");
        exchange.wait_until_closed();
        Answer::Close
    });
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let access = text(&gateway.sign_in_client(ALICE)["accessToken"]);
    let mut events = Client::connect(gateway.address);
    events.send(Request::get("/events").host("localhost").bearer(&access).bytes());
    events.read_through(b"data\n\r\n");
    promote(&gateway, ALICE);
    eventually("the access token is refused", || {
        gateway.get_as(&access, "/x").status == 401
    });
    gate.open();
    events.read_through(b"more\n\r\n");
    // The end of the session is another matter, also now.
    gateway.command(["user", "disable", ALICE]).expect(0);
    assert_eq!(events.read_through(b"0\r\n\r\n"), b"0\r\n\r\n");
}

#[test]
fn a_rotated_key_signs_nobody_out() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[session]\ntoken_lifetime = \"1s\"\n");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let kid = |cookie: &str| {
        use base64::Engine as _;
        let head = cookie["passgate-session=".len()..].split('.').next().unwrap();
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(head)
            .unwrap();
        text(&serde_json::from_slice::<Value>(&head).unwrap()["kid"])
    };
    gateway.command(["key", "rotate"]).expect(0);
    let mut renewed = None;
    eventually("the cookie is renewed by the new key", || {
        renewed = session_cookie(&gateway.get_with(&cookie, "/x").expect(200))
            .filter(|new| kid(new) != kid(&cookie));
        renewed.is_some()
    });
    gateway.get_with(&renewed.unwrap(), "/x").expect(200);
}

// --- what is open when a session ends

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: x\r\n\r\n";

#[test]
fn a_websocket_is_closed_with_1008_when_its_session_ends() {
    let app = App::with(|exchange| {
        exchange.send(format!("{SWITCHING}\x01\x02hi"));
        exchange.wait_until_closed();
        Answer::Close
    });
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let (cookie, other) = (gateway.sign_in(ALICE), gateway.sign_in(ALICE));
    let open = |cookie: &str| {
        let request = Request::get("/chat")
            .host("localhost")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Cookie", cookie);
        let mut client = Client::connect(gateway.address);
        client.send(request.bytes());
        assert_eq!(client.head().status, 101);
        assert_eq!(client.read_exact(4), b"\x01\x02hi");
        client
    };
    let (mut ended, mut kept) = (open(&cookie), open(&other));
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    let close = ended.rest();
    assert_eq!(&close[..4], b"\x88\x0f\x03\xf0", "{close:?}");
    assert_eq!(
        gateway.log_line(|line| line["status"] == 101)["reason"],
        "revoked"
    );
    kept.set_timeout(Duration::from_millis(50));
    assert!(kept.rest().is_empty(), "nothing comes, and it stays open");
    gateway.command(["user", "disable", ALICE]).expect(0);
    kept.set_timeout(DEADLINE);
    assert_eq!(&kept.rest()[..4], b"\x88\x0f\x03\xf0");
}

#[test]
fn an_event_stream_ends_and_a_download_breaks_off_when_the_session_ends() {
    let app = App::with(|exchange| {
        let kind = if exchange.request().target() == "/events" {
            "text/event-stream"
        } else {
            "application/zip"
        };
        exchange.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata\n\r\n"
        ));
        exchange.wait_until_closed();
        Answer::Close
    });
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let access = text(&gateway.sign_in_client(ALICE)["accessToken"]);
    let open = |target: &str| {
        let mut client = Client::connect(gateway.address);
        client.send(Request::get(target).host("localhost").bearer(&access).bytes());
        client.read_through(b"data\n\r\n");
        client
    };
    let (mut events, mut download) = (open("/events"), open("/download"));
    gateway
        .send(&post_json("/auth/logout", &json!({})).bearer(&access))
        .expect(200);
    assert_eq!(
        events.read_through(b"0\r\n\r\n"),
        b"0\r\n\r\n",
        "an event stream has a proper end"
    );
    assert_eq!(download.rest(), b"", "half a file must not look like a whole one");
}

#[test]
fn a_renewed_cookie_of_a_session_that_ended_meanwhile_does_not_replace_the_next_one() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = gate.clone();
    let app = App::with(move |exchange| {
        held.pass();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
        Answer::Keep
    });
    let setup = sign_in_setup(&app, "[session]\ntoken_lifetime = \"1s\"\n");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let expiry = claims(&cookie["passgate-session=".len()..])["exp"]
        .as_u64()
        .unwrap();
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    eventually("the token has expired", || now() >= expiry);
    let mut client = Client::connect(gateway.address);
    client.send(
        Request::get("/slow")
            .host("localhost")
            .header("Cookie", &cookie)
            .bytes(),
    );
    app.wait_for(1);
    let again =
        post_form("/auth/login", &[("email", ALICE), ("password", PASSWORD)]).header("Cookie", &cookie);
    gateway.send(&again).expect(303);
    let answer = client.response().expect(401);
    gate.open();
    assert_eq!(
        session_cookie(&answer),
        None,
        "the browser would lose the session that it has now"
    );
}

#[test]
fn an_answer_that_is_on_its_way_when_the_session_ends_may_still_arrive() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = gate.clone();
    let app = App::with(move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhal");
        held.pass();
        exchange.send("ved");
        Answer::Keep
    });
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let mut client = Client::connect(gateway.address);
    client.send(
        Request::get("/x")
            .host("localhost")
            .header("Cookie", &cookie)
            .bytes(),
    );
    assert_eq!(client.head().status, 200);
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    gate.open();
    assert_eq!(client.read_exact(6), b"halved");
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/x")["reason"],
        Value::Null
    );
}

#[test]
fn an_app_that_answers_after_the_session_has_ended_is_not_heard() {
    let gate = std::sync::Arc::new(Gate::default());
    let held = gate.clone();
    let app = App::with(move |exchange| {
        if exchange.request().target() == "/slow" {
            held.pass();
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
        Answer::Keep
    });
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let mut client = Client::connect(gateway.address);
    client.send(
        Request::get("/slow")
            .host("localhost")
            .header("Cookie", &cookie)
            .bytes(),
    );
    app.wait_for(1);
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    gate.open();
    let answer = client.response().expect(401);
    assert!(!answer.text().contains("secret"));
}

// --- many at once, and a state that others hold

/// Expired cookies of so many sessions, each good for a renewal, made behind the gateway's back and before its start:
/// signing in takes a password's time for each.
fn expired_cookies(setup: &Setup, count: usize) -> Vec<String> {
    use std::sync::Arc;

    use passgate::internals::session::{Device, Sessions, Settings};
    use passgate::internals::signing::{SigningAlgorithm, SigningKeys};
    use passgate::internals::state::Authentication;
    use passgate::internals::verify::Revocations;

    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let now = i64::try_from(now).unwrap() - 3600;
    let state =
        passgate::internals::state::open("sqlite:passgate.db", setup.path("gateway.toml").parent().unwrap())
            .unwrap();
    let signing = Arc::new(arc_swap::ArcSwap::from_pointee(
        SigningKeys::load_or_create(&*state, SigningAlgorithm::default(), now).unwrap(),
    ));
    let settings = Settings {
        cookie: "session".to_owned(),
        secure: false,
        token_lifetime: 900,
        idle_timeout: 86_400,
        lifetime: 7 * 86_400,
        public_url: "http://localhost".to_owned(),
        trust_unconfirmed_email: false,
        authorities: Default::default(),
        same_site_none: false,
    };
    let clock = passgate::internals::clock::Clock::fixed(now);
    let sessions = Sessions::new(
        settings,
        Arc::clone(&state),
        signing,
        Revocations::new().into(),
        clock,
    )
    .unwrap();
    let device = Device {
        user_agent: "a test".to_owned(),
        address: [127, 0, 0, 1].into(),
    };
    let accounts = state.accounts().unwrap();
    let cookie = |index: usize| {
        let opened = sessions
            .open_browser(
                &accounts[index % accounts.len()],
                Authentication::default(),
                &device,
                "localhost",
            )
            .unwrap();
        format!("passgate-session={}", opened.token)
    };
    (0..count).map(cookie).collect()
}

/// The answers to one request each for these cookies, all under way at once.
fn all_at_once(gateway: &Gateway, cookies: &[String]) -> Vec<Response> {
    let open = |cookie: &String| {
        let mut client = gateway.connect();
        client.send(
            Request::get("/x")
                .host("localhost")
                .header("Cookie", cookie)
                .bytes(),
        );
        client
    };
    let mut clients: Vec<Client> = cookies.iter().map(open).collect();
    clients.iter_mut().map(Client::response).collect()
}

#[test]
fn hundreds_of_sessions_are_renewed_at_once() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    for number in 0..5 {
        setup.add_account(&format!("{number}@example.com"), &[]);
    }
    let cookies = expired_cookies(&setup, 400);
    let gateway = setup.start();
    let answers = all_at_once(&gateway, &cookies);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 400]);
    assert!(answers.iter().all(|answer| session_cookie(answer).is_some()));
}

#[test]
fn hundreds_of_requests_with_one_expired_cookie_get_one_new_session_cookie() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let cookie = expired_cookies(&setup, 1).remove(0);
    let gateway = setup.start();
    let mut renewed: BTreeSet<String> = BTreeSet::new();
    for answer in all_at_once(&gateway, &vec![cookie.clone(); 300]) {
        assert_eq!(answer.status, 200, "{answer:?}");
        renewed.insert(session_cookie(&answer).unwrap());
    }
    let http2 = http2::Http2::connect(gateway.address);
    let request = || {
        http::Request::get("http://localhost/x")
            .header("cookie", &cookie)
            .body(())
            .unwrap()
    };
    for answer in http2.send_all((0..100).map(|_| request()).collect()) {
        assert_eq!(answer.status(), 200);
        let set = answer.headers()["set-cookie"].to_str().unwrap();
        renewed.insert(set.split(';').next().unwrap().to_owned());
    }
    assert_eq!(renewed.len(), 1, "the state was asked once");
}

#[test]
fn a_state_that_another_process_holds_holds_up_nobody_whose_session_is_known() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    let toml = std::fs::read_to_string(setup.path("gateway.toml")).unwrap();
    setup.write(
        "gateway.toml",
        toml.replacen("[server]", "[server]\nworkers = 1", 1),
    );
    setup.add_account(ALICE, &[]);
    let expired = expired_cookies(&setup, 20);
    let gateway = setup.start();
    let (cookie, client) = (gateway.sign_in(ALICE), gateway.sign_in_client(ALICE));
    gateway.get_with(&cookie, "/x").expect(200);

    let other = rusqlite::Connection::open(gateway.setup.path("passgate.db")).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let send = |request: &Request| {
        let mut client = gateway.connect();
        client.send(request.bytes());
        client
    };
    let mut renewals: Vec<Client> = expired
        .iter()
        .map(|cookie| send(&Request::get("/x").host("localhost").header("Cookie", cookie)))
        .collect();
    let mut sign_in = send(&post_form(
        "/auth/login",
        &[("email", ALICE), ("password", PASSWORD)],
    ));
    let mut refresh = send(&post_json(
        "/auth/refresh",
        &json!({ "refreshToken": client["refreshToken"] }),
    ));
    // There is one worker: it does all of this while the others wait.
    for _ in 0..20 {
        gateway.get_with(&cookie, "/x").expect(200);
        gateway.get_as(&text(&client["accessToken"]), "/x").expect(200);
    }
    let waiting = |client: &mut Client| {
        client.set_timeout(Duration::from_millis(1));
        let nothing = client.try_response_to("GET").is_err();
        client.set_timeout(DEADLINE);
        nothing
    };
    assert!(
        waiting(&mut sign_in) && waiting(&mut refresh),
        "the state is held, or nothing was shown"
    );
    other.execute_batch("ROLLBACK").unwrap();
    for client in &mut renewals {
        assert!(session_cookie(&client.response().expect(200)).is_some());
    }
    assert!(session_cookie(&sign_in.response_to("POST").expect(303)).is_some());
    refresh.response_to("POST").expect(200);
}

// --- the first administrator

#[test]
fn the_first_link_makes_one_administrator_and_is_void_then() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, "");
    let mut link = None;
    eventually("the link is said", || {
        link = gateway.diagnostics().iter().find_map(|line| {
            line.trim()
                .strip_prefix("http://localhost/auth/register?setup=")
                .map(str::to_owned)
        });
        link.is_some()
    });
    let token = link.unwrap();
    let page = gateway
        .send(&navigate(&format!("/auth/register?setup={token}")))
        .expect(200);
    assert!(
        page.text().contains(&format!("value=\"{token}\"")),
        "{}",
        page.text()
    );
    assert!(
        !gateway.log_text().join("\n").contains(&token),
        "the log has the token"
    );
    gateway.send(&navigate("/auth/register")).expect(404);
    gateway.send(&navigate("/auth/register?setup=wrong")).expect(404);
    let account = |setup: &str| {
        [
            ("email", ALICE),
            ("password", PASSWORD),
            ("name", "Alice"),
            ("setup", setup),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let post = |setup: &str| {
        let fields = account(setup);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        gateway.send(&post_form("/auth/register", &fields))
    };
    assert_eq!(post("wrong").status, 404);
    // A POST to the link itself has the same effect as the form.
    let short = json!({"email": ALICE, "password": "short"});
    let answer = gateway
        .send(&post_json(&format!("/auth/register?setup={token}"), &short))
        .expect(400);
    assert_eq!(answer.json()["message"], "Password too short");
    let made = post(&token).expect(303);
    let cookie = session_cookie(&made).expect("whoever made the account is signed in");
    gateway.get_with(&cookie, "/admin/x").expect(200);
    assert_eq!(post(&token).status, 404);
    gateway
        .send(&navigate(&format!("/auth/register?setup={token}")))
        .expect(404);
    let again = gateway.restart();
    assert!(
        !again.diagnostics().iter().any(|line| line.contains("setup=")),
        "there is an account"
    );
}

/// The token of the setup link that a gateway has said.
#[track_caller]
fn setup_token(gateway: &Gateway) -> String {
    let mut link = None;
    eventually("the link is said", || {
        link = gateway.diagnostics().iter().find_map(|line| {
            line.trim()
                .strip_prefix("http://localhost/auth/register?setup=")
                .map(str::to_owned)
        });
        link.is_some()
    });
    link.unwrap()
}

#[test]
fn the_setup_link_is_said_at_each_start_as_long_as_no_enabled_account_is_an_administrator() {
    let app = App::start();
    let password = "[password]\nregistration = true\ndefault_roles = [\"user\"]\nadmin_role = \"boss\"\n";
    let gateway = sign_in_gateway(&app, password);
    let first = setup_token(&gateway);
    // Somebody registers before it is used.
    let bob = [("email", "bob@example.com"), ("password", PASSWORD)];
    gateway.send(&post_form("/auth/register", &bob)).expect(303);
    gateway
        .send(&navigate(&format!("/auth/register?setup={first}")))
        .expect(200);

    let gateway = gateway.restart();
    let second = setup_token(&gateway);
    let old = gateway
        .send(&navigate(&format!("/auth/register?setup={first}")))
        .expect(404);
    assert!(
        old.text().contains("This link is not valid any more")
            && old.text().contains("href=\"/auth/login\">Sign in")
    );
    let post = |token: &str, email: &str, password: &str| {
        let target = format!("/auth/register?setup={token}");
        gateway.send(&post_form(
            &target,
            &[("email", email), ("password", password), ("setup", token)],
        ))
    };
    // After an error the address of the page is good.
    let wrong = post(&second, ALICE, "short").expect(400);
    assert!(
        wrong
            .text()
            .contains(&format!("action=\"/auth/register?setup={second}\"")),
        "{}",
        wrong.text()
    );
    gateway
        .send(&navigate(&format!("/auth/register?setup={second}")))
        .expect(200);
    post(&second, ALICE, PASSWORD).expect(303);
    let account = |email: &str| {
        gateway
            .command(["user", "show", email, "--format", "json"])
            .expect(0)
            .json()
    };
    assert_eq!(
        (&account(ALICE)["roles"], &account(ALICE)["confirmed"]),
        (&json!(["boss"]), &json!(true))
    );
    assert_eq!(account("bob@example.com")["confirmed"], json!(false));
    let used = post(&second, "eve@example.com", PASSWORD).expect(404);
    assert!(used.text().contains("This link is not valid any more"));

    let gateway = gateway.restart();
    assert!(
        !gateway.diagnostics().iter().any(|line| line.contains("setup=")),
        "there is an administrator"
    );
    gateway.command(["user", "disable", ALICE]).expect(0);
    setup_token(&gateway.restart());
}

// --- what a person sees who cannot go on

#[test]
fn who_has_no_access_sees_the_account_and_a_way_on_and_a_program_sees_neither() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account("bob@example.com", &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in("bob@example.com");
    let page = gateway
        .send(&navigate("/admin/x?page=2").header("Cookie", &cookie))
        .expect(403);
    let html = page.text();
    assert!(
        html.contains("<bdi>bob@example.com</bdi></strong>. This account does not have access."),
        "{html}"
    );
    assert!(
        html.contains("href=\"/auth/login?return_to=/admin/x%3Fpage%3D2\">Use another account</a>"),
        "{html}"
    );
    let main = html
        .split_once("<main")
        .unwrap()
        .1
        .split_once("</main>")
        .unwrap()
        .0;
    assert!(
        main.contains(">Back</a>") && !main.contains("admin\"") && !main.contains("role"),
        "{main}"
    );
    let id = page.header("x-request-id").unwrap().to_owned();
    let line = gateway.log_line(|line| line["request_id"] == id.as_str());
    assert!(
        line["rule"].as_str().unwrap().contains("admin"),
        "the role stands in the log: {line}"
    );
    let answer = gateway
        .send(
            &Request::get("/admin/x")
                .host("localhost")
                .header("Cookie", &cookie),
        )
        .expect(403);
    assert!(
        answer.json()["title"] == "Forbidden" && !answer.text().contains("bob"),
        "{}",
        answer.text()
    );
    // After a form, back to the page that it stood on.
    let form = |referer: &str| {
        let answer = gateway.send(
            &post_form("/admin/x", &[])
                .header("Cookie", &cookie)
                .header("Referer", referer),
        );
        answer.expect(403).text()
    };
    assert!(
        form("http://localhost/notes").contains("href=\"/auth/login?return_to=/notes\">Use another account")
    );
    assert!(form("http://evil.example/notes").contains("href=\"/auth/login\">Use another account"));
}

#[test]
fn a_form_that_comes_after_the_session_has_ended_leads_back_to_its_page() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account("bob@example.com", &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in("bob@example.com");
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    let ended = |request: Request| gateway.send(&request).expect(401);
    for (target, cookie, referer, way) in [
        (
            "/notes/save",
            cookie.as_str(),
            "http://localhost/notes/7?edit=1",
            "/auth/login?return_to=/notes/7%3Fedit%3D1",
        ),
        (
            "/notes/save",
            "a=b",
            "http://localhost/notes/7",
            "/auth/login?return_to=/notes/7",
        ),
        ("/notes/save", &cookie, "http://localhost/", "/auth/login"),
        (
            "/notes/save",
            &cookie,
            "https://evil.example/notes/7",
            "/auth/login",
        ),
        (
            "/notes/save",
            &cookie,
            "http://localhost//evil.example/",
            "/auth/login",
        ),
        (
            "/notes/save",
            &cookie,
            "http://localhost.evil.example/x",
            "/auth/login",
        ),
        (
            "/notes/save",
            &cookie,
            "http://localhost/auth/logout",
            "/auth/login",
        ),
        ("/notes/save", &cookie, "", "/auth/login"),
        // Our own pages send no path.
        (
            "/auth/password",
            &cookie,
            "http://localhost/",
            "/auth/login?return_to=/auth/sessions",
        ),
        (
            "/auth/sessions/0197/end",
            &cookie,
            "http://localhost/",
            "/auth/login?return_to=/auth/sessions",
        ),
    ] {
        let html = ended(
            post_form(target, &[("text", "Dear all")])
                .header("Cookie", cookie)
                .header("Referer", referer),
        )
        .text();
        assert!(
            html.contains("<h1>Your session has ended</h1>") && html.contains("copy your text"),
            "{html}"
        );
        assert!(
            html.contains(&format!("href=\"{way}\">Sign in</a>")),
            "{target} {referer}\n{html}"
        );
    }
    // A program gets the problem document.
    let fetch = Request::post("/notes/save", "x")
        .host("localhost")
        .header("Cookie", &cookie)
        .header("Accept", "application/json");
    assert_eq!(ended(fetch).json()["message"], "Unauthorized");
    assert_eq!(app.count(), 0);
}

#[test]
fn an_app_links_to_sign_out_and_to_the_account_page() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let page = |target: &str| gateway.send(&navigate(target).header("Cookie", &cookie));
    let asked = page("/auth/logout").expect(200).text();
    assert!(
        asked.contains("<h1>Sign out?</h1>")
            && asked.contains("You are signed in as")
            && asked.contains(ALICE),
        "{asked}"
    );
    assert!(asked.contains("<form method=\"post\" action=\"/auth/logout\">"));
    gateway.get_with(&cookie, "/x").expect(200);
    for target in ["/auth", "/auth/"] {
        assert_eq!(
            page(target).expect(303).header("location"),
            Some("/auth/sessions")
        );
    }
    gateway
        .send(
            &Request::new("HEAD", "/auth/logout")
                .host("localhost")
                .header("Cookie", &cookie),
        )
        .expect(200);
    assert!(
        page("/auth/login")
            .expect(200)
            .text()
            .contains("You are signed in as")
    );
    let out = gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    let to = out.header("location").unwrap();
    let seen = gateway.send(&navigate(to)).text();
    assert!(seen.contains("<p>You are signed out.</p>"), "{to}\n{seen}");
    // An old cookie does not make the page say that somebody is signed in.
    assert!(!page("/auth/login").expect(200).text().contains("signed in as"));
    assert!(
        page("/auth/logout")
            .expect(200)
            .text()
            .contains("You are signed out")
    );
}

#[test]
fn a_json_sign_in_names_the_fields_that_are_missing() {
    let app = App::start();
    let gateway = sign_in_gateway(
        &app,
        "[password]\nregistration = true\ntrust_unconfirmed_email = false\n",
    );
    for (target, body, detail) in [
        (
            "/auth/login",
            json!({"username": "a", "password": "b"}),
            "The field `email` is missing.",
        ),
        (
            "/auth/login",
            json!({"email": "a@b"}),
            "The field `password` is missing.",
        ),
        (
            "/auth/login",
            json!({"user": "a"}),
            "The fields `email` and `password` are missing.",
        ),
        (
            "/auth/register",
            json!({"username": "a"}),
            "The fields `email` and `password` are missing.",
        ),
        (
            "/auth/refresh",
            json!({"token": "a"}),
            "The field `refreshToken` is missing.",
        ),
    ] {
        let answer = gateway.send(&post_json(target, &body)).expect(400).json();
        assert_eq!(
            (&answer["detail"], &answer["message"]),
            (&json!(detail), &json!("Bad request")),
            "{target}"
        );
    }
}

#[test]
fn a_registered_address_is_confirmed_by_an_operator_and_that_holds_within_two_seconds() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, "[password]\nregistration = true\n");
    let bob = [("email", "bob@example.com"), ("password", PASSWORD)];
    let made = gateway.send(&post_form("/auth/register", &bob)).expect(303);
    let cookie = session_cookie(&made).unwrap();
    let token = |cookie: &str| claims(cookie.split_once('=').unwrap().1);
    assert_eq!(
        (&token(&cookie)["email"], &token(&cookie)["email_verified"]),
        (&json!("bob@example.com"), &json!(false))
    );
    let access = gateway.sign_in_client("bob@example.com");
    assert_eq!(
        claims(&text(&access["accessToken"]))["email_verified"],
        json!(false)
    );
    let said = gateway
        .command(["user", "confirm", "BOB@example.com"])
        .expect(0)
        .stdout;
    assert_eq!(said, "confirmed `bob@example.com`\n");
    let mut renewed = None;
    eventually("the cookie is renewed without the claim", || {
        renewed = session_cookie(&gateway.get_with(&cookie, "/x"));
        renewed.is_some()
    });
    let renewed = token(&renewed.unwrap());
    assert_eq!(
        (&renewed["email"], renewed.get("email_verified")),
        (&json!("bob@example.com"), None)
    );
    assert_eq!(renewed["sid"], token(&cookie)["sid"], "the session goes on");
}

#[test]
fn unconfirmed_address_is_told_to_no_app() {
    const BOB: &str = "bob@example.com";
    let tables = |password: &str, identity: &str| {
        format!("[password]\nregistration = true\n{password}[identity]\nassertion = true\n{identity}")
    };
    for (name, more, is_told, claim) in [
        ("as it is", tables("", ""), false, None),
        (
            "unverified_email",
            tables("", "unverified_email = true\n"),
            true,
            Some(false),
        ),
        (
            "trust_unconfirmed_email",
            tables("trust_unconfirmed_email = true\n", ""),
            true,
            None,
        ),
    ] {
        let app = App::start();
        let setup = sign_in_setup(&app, &more);
        let alice = setup.add_account(ALICE, &[]);
        let gateway = setup.start();
        let form = [("email", BOB), ("password", PASSWORD)];
        let bob = session_cookie(&gateway.send(&post_form("/auth/register", &form)).expect(303)).unwrap();
        let token = text(&gateway.sign_in_client(BOB)["accessToken"]);
        let told = is_told.then_some(BOB);
        let by_cookie = || gateway.get_with(&bob, "/x").expect(200);
        let by_token = || gateway.get_as(&token, "/x").expect(200);
        for (credential, request) in [
            ("cookie", &by_cookie as &dyn Fn() -> Response),
            ("token", &by_token),
        ] {
            request();
            let seen = app.last();
            assert_ne!(seen.header("x-auth-user"), None, "{name} {credential}");
            assert_eq!(seen.header("x-auth-email"), told, "{name} {credential}");
            let assertion = claims(seen.header("x-auth-assertion").unwrap());
            assert_eq!(
                assertion["sub"].as_str(),
                seen.header("x-auth-user"),
                "{name} {credential}"
            );
            assert_eq!(assertion["email"].as_str(), told, "{name} {credential}");
            assert_eq!(
                assertion["email_verified"].as_bool(),
                claim,
                "{name} {credential}"
            );
            assert!(is_told || !seen.text().contains(BOB), "{name} {credential}");
        }
        // An operator made this account, so its address is confirmed.
        gateway.get_with(&gateway.sign_in(ALICE), "/x").expect(200);
        let seen = app.last();
        assert_eq!(seen.header("x-auth-user"), Some(alice.as_str()), "{name}");
        assert_eq!(seen.header("x-auth-email"), Some(ALICE), "{name}");
        let assertion = claims(seen.header("x-auth-assertion").unwrap());
        assert_eq!(assertion["email"], ALICE, "{name}");
    }
}

// --- what survives, and what is nowhere

#[test]
fn what_was_answered_survives_a_kill_at_any_point() {
    let app = App::start();
    let setup = sign_in_setup(&app, "[password]\nregistration = true\n");
    setup.add_account(ALICE, &[]);
    let mut gateway = setup.start();
    let ended = gateway.sign_in(ALICE);
    gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &ended))
        .expect(303);
    let mut live: Vec<String> = Vec::new();
    let mut refresh = text(&gateway.sign_in_client(ALICE)["refreshToken"]);
    for round in 0..3_usize {
        let answered = AtomicUsize::new(0);
        let (signed_in, last) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let (mut signed_in, mut last) = (Vec::new(), refresh.clone());
                let attempt = |request: &Request| {
                    Client::connect(gateway.address)
                        .send(request.bytes())
                        .try_response_to("POST")
                        .ok()
                        .flatten()
                };
                let form = post_form("/auth/login", &[("email", ALICE), ("password", PASSWORD)]);
                for _ in 0..4 {
                    let Some(answer) = attempt(&form) else { break };
                    signed_in.push(session_cookie(&answer).unwrap());
                    answered.fetch_add(1, Ordering::SeqCst);
                    let Some(answer) = attempt(&post_json("/auth/refresh", &json!({ "refreshToken": last })))
                    else {
                        break;
                    };
                    last = text(&answer.expect(200).json()["refreshToken"]);
                }
                (signed_in, last)
            });
            if round > 0 {
                // In the middle of it: after the first answer, and after the third.
                eventually("some were answered", || {
                    answered.load(Ordering::SeqCst) >= round * 2 - 1
                });
                gateway.signal("KILL");
            }
            writer.join().unwrap()
        });
        live.extend(signed_in);
        refresh = last;
        if round == 0 {
            gateway.signal("KILL");
        }
        gateway.wait();
        gateway = gateway.revive();
        for cookie in &live {
            gateway.get_with(cookie, "/x").expect(200);
        }
        gateway.get_with(&ended, "/x").expect(401);
        // The last exchange may have been made and not answered: then its retry gets the same answer.
        let answer = gateway
            .send(&post_json("/auth/refresh", &json!({ "refreshToken": refresh })))
            .expect(200);
        refresh = text(&answer.json()["refreshToken"]);
    }
}

#[test]
fn no_secret_of_a_run_is_in_the_state_the_logs_or_the_metrics() {
    let app = App::start();
    let setup = sign_in_setup(
        &app,
        "[password]\nregistration = true\n[identity]\nassertion = true\n",
    );
    setup.add_account(ALICE, &["admin"]);
    let gateway = setup.start();
    let mut secrets = vec![PASSWORD.to_owned()];
    let cookie = gateway.sign_in(ALICE);
    secrets.push(cookie["passgate-session=".len()..].to_owned());
    let mut tokens = gateway.sign_in_client(ALICE);
    for _ in 0..3 {
        secrets.push(text(&tokens["accessToken"]));
        secrets.push(text(&tokens["refreshToken"]));
        gateway.get_as(&text(&tokens["accessToken"]), "/x").expect(200);
        tokens = gateway
            .send(&post_json(
                "/auth/refresh",
                &json!({ "refreshToken": tokens["refreshToken"] }),
            ))
            .expect(200)
            .json();
    }
    secrets.push(text(&tokens["refreshToken"]));
    for wrong in ["hunter2 hunter2", "another wrong one"] {
        gateway
            .send(&post_json(
                "/auth/login",
                &json!({ "email": ALICE, "password": wrong }),
            ))
            .expect(401);
        gateway
            .send(&post_form(
                "/auth/login",
                &[("email", ALICE), ("password", wrong)],
            ))
            .expect(401);
        secrets.push(wrong.to_owned());
    }
    let new = "a new and secret password";
    let change = [("current_password", PASSWORD), ("new_password", new)];
    let changed = gateway
        .send(&post_form("/auth/password", &change).header("Cookie", &cookie))
        .expect(303);
    secrets.extend([
        new.to_owned(),
        session_cookie(&changed).unwrap()["passgate-session=".len()..].to_owned(),
    ]);
    let broken = "a broken request's password";
    gateway
        .send(
            &Request::post(
                "/auth/login",
                format!("{{\"email\":\"x\",\"password\":\"{broken}\""),
            )
            .host("localhost")
            .header("Content-Type", "application/json"),
        )
        .expect(400);
    gateway
        .send(&Request::get(&format!("/auth/login?password={broken}").replace(' ', "%20")).host("localhost"));
    secrets.extend([broken.to_owned(), broken.replace(' ', "%20")]);
    gateway.get_with(&cookie, "/x").expect(401);
    secrets.push(app.last().header("x-auth-assertion").unwrap().to_owned());

    let metrics = gateway.admin_get("/metrics").expect(200).text();
    let mut places: Vec<(String, Vec<u8>)> = vec![
        (
            "the access log".to_owned(),
            gateway.log_text().join("\n").into_bytes(),
        ),
        (
            "standard error".to_owned(),
            gateway.diagnostics().join("\n").into_bytes(),
        ),
        ("the metrics".to_owned(), metrics.into_bytes()),
        (
            "user list".to_owned(),
            gateway
                .command(["user", "list", "--format", "json"])
                .all()
                .into_bytes(),
        ),
        (
            "session list".to_owned(),
            gateway
                .command(["session", "list", "--format", "json"])
                .all()
                .into_bytes(),
        ),
    ];
    for name in ["passgate.db", "passgate.db-wal"] {
        places.push((name.to_owned(), std::fs::read(gateway.setup.path(name)).unwrap()));
    }
    for (place, content) in &places {
        assert!(
            !content.is_empty(),
            "{place} is empty, so that nothing was searched"
        );
        for secret in &secrets {
            assert!(secret.len() > 12, "{secret:?} is too short to be searched for");
            let found = content
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds a secret: {}…", &secret[..8]);
        }
    }
    assert!(String::from_utf8_lossy(&places[0].1).contains("/auth/login"));
}

#[test]
fn behind_a_proxy_that_is_not_listed_wrong_passwords_of_one_client_do_not_lock_out_all_others() {
    let app = App::start();
    let wrong = |gateway: &Gateway, number: usize| {
        let email = format!("stranger{number}@example.com");
        gateway
            .send(&post_json(
                "/auth/login",
                &json!({ "email": email, "password": "wrong horse" }),
            ))
            .status
    };
    let setup = sign_in_setup(&app, "");
    let emails: Vec<String> = (0..10).map(|number| format!("{number}@example.com")).collect();
    let hash = passgate::internals::account::hash(PASSWORD).unwrap();
    let line = |email: &String| json!({ "email": email, "passwordHash": hash }).to_string();
    let lines: Vec<String> = emails.iter().map(line).collect();
    setup
        .command_with_input(["user", "import"], &lines.join("\n"))
        .expect(0);
    let gateway = setup.start();
    let sign_in = |email: &str| post_json("/auth/login", &json!({ "email": email, "password": PASSWORD }));
    for email in &emails {
        gateway.send(&sign_in(email)).expect(200);
    }
    gateway.diagnostic("many accounts sign in from one local address");
    let statuses: Vec<u16> = (0..32).map(|number| wrong(&gateway, number)).collect();
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    gateway.send(&sign_in(&emails[0])).expect(200);
    let warnings = gateway
        .diagnostics()
        .iter()
        .filter(|line| line.contains("many accounts sign in"))
        .count();
    assert_eq!(warnings, 1);
}
