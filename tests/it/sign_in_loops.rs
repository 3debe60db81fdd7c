//! A browser that is signed in and comes back without a session that counts: the third time in a row it gets a page that names
//! the cause. What looks like it and is none: tabs, sessions that end, signing out, other users.

use serde_json::json;

use super::support::openid::{Browser, CLIENT_SECRET, OpenId, back_with};
use super::support::people::{PASSWORD, ROUTES, navigate, post_form, sign_in_setup};
use super::support::{App, Gateway, Response, Setup, gateway::before, tokens::now};

const SESSION: &str = "passgate-session";
const ALICE: &str = "alice@example.com";

#[track_caller]
fn setup(app: &App, provider: &OpenId, public_url: &str, more: &str) -> Setup {
    let server = format!("[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{public_url}\"\n");
    let table = provider.table("allow = \"anyone\"");
    let setup = Setup::new(&before(app, &format!("{server}{table}{more}{ROUTES}")));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

fn gateway(app: &App, provider: &OpenId) -> Gateway {
    setup(app, provider, "http://localhost", "").start()
}

/// Follows the redirects of a navigation, through the provider, until there is a page. `on_return` changes the browser before
/// it comes back from the provider, `keep` after each answer.
#[track_caller]
fn walk(
    browser: &mut Browser,
    gateway: &Gateway,
    provider: &OpenId,
    target: &str,
    mut keep: impl FnMut(&mut Browser, &str),
) -> (String, Response) {
    let mut target = target.to_owned();
    for _ in 0..40 {
        let answer = browser.visit(gateway, &target);
        keep(browser, &target);
        if !matches!(answer.status, 302 | 303) {
            return (target, answer);
        }
        target = answer.header("location").unwrap().to_owned();
        if target.starts_with(&provider.issuer()) {
            target = back_with(&provider.agree(&target));
        }
    }
    panic!("in a circle: {target}")
}

#[track_caller]
fn expect_stop(answer: &Response, gateway: &Gateway, cause: &str, words: &str) {
    assert_eq!(answer.status, 400, "{}", answer.text());
    let page = answer.text();
    assert!(page.contains("Not signed in") && page.contains(words), "{page}");
    assert!(
        page.contains(">Try again</a>") && page.contains(">Go to the sign-in page</a>"),
        "{page}"
    );
    let id = answer.header("x-request-id").unwrap();
    assert!(page.contains(id), "{page}");
    let line = gateway.log_line(|line| line["request_id"] == id && line.get("reason").is_some());
    assert_eq!(line["reason"], "sign-in-loop", "{line}");
    gateway.diagnostic(&format!("cause=\"{cause}\""));
}

#[test]
fn session_cookie_that_is_not_kept_stops_at_a_page() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let mut browser = Browser::default();
    let blocked = |browser: &mut Browser, _: &str| {
        browser.cookies.remove(SESSION);
    };
    for round in 1..=2 {
        let (target, answer) = walk(&mut browser, &gateway, &provider, "/hello?a=b", blocked);
        assert_eq!(target, "/auth/login?return_to=/hello%3Fa%3Db");
        expect_stop(
            &answer,
            &gateway,
            "cookie-blocked",
            "blocks the cookies of localhost",
        );
        let page = answer.text();
        assert!(page.contains("href=\"/hello?a=b\""), "{page}");
        assert!(
            page.contains("href=\"/auth/login?return_to=/hello%3Fa%3Db\""),
            "{page}"
        );
        // Three sign-ins, and the next attempt begins a new row.
        assert_eq!(provider.count("/token"), 3 * round);
    }
    let answer = walk(&mut browser, &gateway, &provider, "/hello?a=b", |_, _| {}).1;
    assert_eq!(answer.status, 200);
    assert_eq!(app.count(), 1);
}

#[test]
fn browser_without_any_cookie_stops_at_the_first_return() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let none = |browser: &mut Browser, _: &str| browser.cookies.clear();
    let answer = walk(&mut Browser::default(), &gateway, &provider, "/hello", none)
        .1
        .expect(400);
    let page = answer.text();
    assert!(
        page.contains("the browser blocks the cookies of localhost"),
        "{page}"
    );
    gateway.diagnostic("cause=\"cookie-blocked\"");
    // Another attempt of the browser shows that cookies are kept: this one is of another browser, or old.
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/");
    let mut other = Browser::default();
    other.go(&gateway, &provider, "/");
    let page = other.visit(&gateway, &back).expect(400).text();
    assert!(
        !page.contains("blocks") && page.contains("began in another browser"),
        "{page}"
    );
}

#[test]
fn password_that_signs_in_without_cookies_stops_at_a_page() {
    let app = App::start();
    let setup = sign_in_setup(&app, "");
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    let form = [("email", ALICE), ("password", PASSWORD), ("return_to", "/x")];
    for _ in 0..3 {
        gateway.send(&navigate("/x")).expect(302);
        gateway.send(&navigate("/auth/login?return_to=/x")).expect(200);
        // The page may be read twice.
        gateway.send(&navigate("/auth/login?return_to=/x")).expect(200);
        gateway.send(&post_form("/auth/login", &form)).expect(303);
    }
    gateway.send(&navigate("/x")).expect(302);
    let answer = gateway.send(&navigate("/auth/login?return_to=/x"));
    expect_stop(&answer, &gateway, "cookie-blocked", "Allow cookies for localhost");
    gateway.send(&navigate("/auth/login?return_to=/x")).expect(200);
}

#[test]
fn second_session_cookie_is_named_as_the_cause() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let mut browser = Browser::default();
    // An app's script has set one of this name for a path below.
    let mut target = "/hello".to_owned();
    let answer = loop {
        let mut request = browser.request(&target);
        if browser.has_session() {
            request = request.header("Cookie", &format!("{SESSION}=other"));
        }
        let answer = gateway.send(&request);
        let kept = browser.cookies.clone();
        browser.take(&answer);
        // A cookie of another path is not deleted, and neither is the gateway's own by the deletion of that one.
        if let Some(session) = kept.get(SESSION) {
            browser
                .cookies
                .entry(SESSION.to_owned())
                .or_insert(session.clone());
        }
        if !matches!(answer.status, 302 | 303) {
            break answer;
        }
        target = answer.header("location").unwrap().to_owned();
        if target.starts_with(&provider.issuer()) {
            target = back_with(&provider.agree(&target));
        }
    };
    expect_stop(
        &answer,
        &gateway,
        "cookie-repeated",
        "two different session cookies",
    );
}

#[test]
fn sign_in_that_is_too_old_as_soon_as_it_is_made_stops_at_a_page() {
    let (app, provider) = (App::start(), OpenId::start());
    let more = "[[routes]]\npath = \"/pay/*\"\nupstream = \"app\"\nmax_age = \"10m\"\n";
    let gateway = setup(&app, &provider, "http://localhost", more).start();
    let says = |age: i64| provider.claims(move |claims| claims["auth_time"] = json!(now() - age));
    let mut browser = Browser::default();
    says(1200);
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/hello").expect(200);
    let old = browser.cookies[SESSION].clone();
    says(5);
    // As where the route is served by a gateway whose clock is ahead: the new session is not enough for it. The page itself is
    // asked for with the session that is not enough, and so is another one that it is enough for.
    let mut target = "/pay/1".to_owned();
    let mut answer;
    loop {
        if target.contains("/return?") {
            browser.cookies.remove(SESSION);
        } else {
            browser.cookies.insert(SESSION.to_owned(), old.clone());
            browser.visit(&gateway, "/hello").expect(200);
        }
        answer = browser.visit(&gateway, &target);
        if !matches!(answer.status, 302 | 303) {
            break;
        }
        target = answer.header("location").unwrap().to_owned();
        if target.starts_with(&provider.issuer()) {
            target = back_with(&provider.agree(&target));
        }
    }
    expect_stop(&answer, &gateway, "clock", "the clocks of the servers differ");
    assert_eq!(provider.count("/token"), 4);
}

#[test]
fn plain_http_beside_an_https_public_url_is_named_as_the_cause() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "https://app.test", "").start();
    // A proxy on this machine that is not listed; over http a browser sends no `Sec-Fetch-*`, and keeps no `Secure` cookie.
    let ask = |target: &str| {
        let request = super::support::Request::get(target).host("app.test");
        gateway.send(&request.header("Accept", "text/html,application/xhtml+xml"))
    };
    let answer = ask("/auth/login/sso?return_to=/x").expect(302);
    let page = ask(&back_with(&provider.agree(answer.header("location").unwrap())))
        .expect(400)
        .text();
    assert!(
        page.contains("over http") && page.contains("Open https://app.test"),
        "{page}"
    );
    gateway.diagnostic("cause=\"http\"");
}

#[test]
fn tabs_are_no_loop() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let mut browser = Browser::default();
    // All tabs are at the provider before the first one comes back; each comes back as a page that was sent before.
    let backs: Vec<String> = (0..5).map(|_| browser.go(&gateway, &provider, "/x")).collect();
    let before = browser.clone();
    for back in &backs {
        let mut tab = before.clone();
        tab.visit(&gateway, "/auth/login?return_to=/x").expect(302);
        tab.visit(&gateway, back).expect(303);
        tab.visit(&gateway, "/x").expect(200);
    }
    // None of them uses its session, and none of them is sent to sign in twice.
    let backs: Vec<String> = (0..5)
        .map(|_| {
            let mut tab = Browser::default();
            walk(&mut tab, &gateway, &provider, "/y", |_, _| {}).1.expect(200);
            browser.cookies.clear();
            browser.go(&gateway, &provider, "/y")
        })
        .collect();
    assert_eq!(backs.len(), 5);
}

#[test]
fn session_that_is_ended_again_and_again_is_no_loop() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let sid = |browser: &Browser| {
        super::support::people::claims(&browser.cookies[SESSION])["sid"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for is_used in [true, false] {
        let mut browser = Browser::default();
        for _ in 0..5 {
            let target = format!("/auth/login?return_to=/ended-{is_used}");
            let answer = browser.visit(&gateway, &target).expect(302);
            let answer = browser
                .visit(&gateway, answer.header("location").unwrap())
                .expect(302);
            let back = back_with(&provider.agree(answer.header("location").unwrap()));
            let page = browser.visit(&gateway, &back).expect(303);
            let page = page.header("location").unwrap().to_owned();
            if is_used {
                browser.visit(&gateway, &page).expect(200);
            }
            gateway.command(["session", "revoke", &sid(&browser)]).expect(0);
            super::support::eventually("the session has ended", || {
                let mut asked = browser.clone();
                asked.visit(&gateway, &page).status == 302
            });
            browser.visit(&gateway, &page).expect(302);
        }
    }
}

#[test]
fn signing_out_and_in_is_no_loop() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    for is_used in [true, false] {
        let mut browser = Browser::default();
        for _ in 0..5 {
            let answer = browser.visit(&gateway, "/auth/login").expect(302);
            let answer = browser
                .visit(&gateway, answer.header("location").unwrap())
                .expect(302);
            let back = back_with(&provider.agree(answer.header("location").unwrap()));
            browser.visit(&gateway, &back).expect(303);
            if is_used {
                browser.visit(&gateway, "/elsewhere").expect(200);
            }
            let answer = browser.post(&gateway, "/auth/logout", &[]).expect(303);
            browser
                .visit(&gateway, answer.header("location").unwrap())
                .expect(200);
        }
    }
}

#[test]
fn account_that_has_no_access_is_no_loop() {
    let (app, provider) = (App::start(), OpenId::start());
    let more = "[[routes]]\npath = \"/ops/*\"\nupstream = \"app\"\nroles = [\"ops\"]\n";
    let gateway = setup(&app, &provider, "http://localhost", more).start();
    for _ in 0..5 {
        // A new window, in which the user signs in with the same account.
        let mut browser = Browser::default();
        let page = walk(&mut browser, &gateway, &provider, "/ops/1", |_, _| {});
        assert_eq!((&*page.0, page.1.status), ("/ops/1", 403), "{}", page.1.text());
    }
}

#[test]
fn users_of_one_address_are_no_loop() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let mut waiting = Vec::new();
    for number in 0..6 {
        let mut browser = Browser::default();
        browser.visit(&gateway, "/auth/login").expect(302);
        provider.user(json!({ "sub": format!("user-{number}"), "email": format!("u{number}@example.com"), "email_verified": true }));
        let back = browser.go(&gateway, &provider, "/");
        browser.visit(&gateway, &back).expect(303);
        waiting.push(browser);
    }
    for browser in &mut waiting {
        browser.visit(&gateway, "/").expect(200);
    }
}

#[test]
fn other_name_of_this_machine_leads_to_public_url() {
    let (app, provider) = (App::start(), OpenId::start());
    for (public_url, host) in [
        ("http://localhost:8080", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "localhost:8080"),
    ] {
        let gateway = setup(&app, &provider, public_url, "").start();
        let ask = |host: &str, target: &str| gateway.send(&navigate(target).host(host));
        let answer = ask(host, "/hello?a=b").expect(302);
        let answer = ask(host, answer.header("location").unwrap()).expect(302);
        let answer = ask(host, answer.header("location").unwrap()).expect(302);
        let location = answer.header("location").unwrap();
        assert_eq!(
            location,
            format!("{public_url}/auth/login/sso?return_to=/hello%3Fa%3Db&moved=1")
        );
        let target = location.strip_prefix(public_url).unwrap();
        let answer = ask(public_url.strip_prefix("http://").unwrap(), target).expect(302);
        assert!(
            answer.header("location").unwrap().starts_with(&provider.issuer()),
            "{answer:?}"
        );
        // A client's parameters go along; they are looked at there.
        let answer = ask(
            host,
            "/auth/login/sso?mode=token&redirect_uri=http://evil.example/",
        )
        .expect(302);
        let expected =
            format!("{public_url}/auth/login/sso?mode=token&redirect_uri=http://evil.example/&moved=1");
        assert_eq!(answer.header("location"), Some(&*expected));
        // The cookie of the way back would not be there: once more is a proxy that changes the host.
        let answer = ask(host, target).expect(403);
        let (page, name) = (answer.text(), host.split(':').next().unwrap());
        assert!(page.contains(&format!("The page was opened as {name}")), "{page}");
        gateway.diagnostic("cause=\"domain\"");
    }
}

#[test]
fn host_that_no_route_names_leads_to_public_url_alone() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "https://app.test", "").start();
    for host in ["other.test", "app.test.evil.example", "127.0.0.1"] {
        for (target, expected) in [
            (
                "/auth/login?return_to=/x%3Fy",
                "https://app.test/auth/login?return_to=/x%3Fy&moved=1",
            ),
            (
                "/auth/login?return_to=//evil.example",
                "https://app.test/auth/login?moved=1",
            ),
            (
                "/auth/login?return_to=https://other.test/",
                "https://app.test/auth/login?moved=1",
            ),
            ("/auth/login", "https://app.test/auth/login?moved=1"),
            (
                "/auth/login/sso?return_to=/x",
                "https://app.test/auth/login/sso?return_to=/x&moved=1",
            ),
            ("/auth/login/sso", "https://app.test/auth/login/sso?moved=1"),
        ] {
            let answer = gateway.send(&navigate(target).host(host)).expect(302);
            assert_eq!(answer.header("location"), Some(expected), "{host} {target}");
            let again = expected.strip_prefix("https://app.test").unwrap();
            let page = gateway.send(&navigate(again).host(host)).expect(403).text();
            assert!(page.contains("a proxy in front changes the host"), "{page}");
            assert!(!page.contains("evil.example/"), "{page}");
        }
    }
    // The way back is not taken there either.
    let answer = gateway.send(&navigate("/auth/login/sso/return?code=a&state=b").host("other.test"));
    assert!(
        answer
            .expect(400)
            .text()
            .contains("the sign-in is at https://app.test")
    );
}
