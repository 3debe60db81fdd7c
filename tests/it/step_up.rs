//! Routes that ask for a recent sign-in, a strong one, or one with a provider (RFC 9470): browsers, API clients, WebSocket
//! handshakes, and what is not enough.

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId, back_with, parse};
use super::support::people::{PASSWORD, form, post_form, session_cookie};
use super::support::tokens::{corp_claims, corp_token_of, now};
use super::support::{App, Gateway, Request, Setup, gateway::before};

const STEP_UP: &str = r#"
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/pay/*"
upstream = "app"
max_age = "10m"
[[routes]]
path = "/vault/*"
upstream = "app"
acr = ["urn:mfa", "urn:hwk"]
max_age = "1h"
[[routes]]
path = "/corp/*"
upstream = "app"
provider = "sso"
"#;

fn setup(app: &App, provider: &OpenId, more: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let provider = provider.table("allow = \"anyone\"");
    let setup = Setup::new(&before(app, &format!("{server}{provider}{more}{STEP_UP}")));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

/// The provider says these facts about the sign-in.
fn says(provider: &OpenId, facts: Value) {
    provider.claims(move |claims| {
        for (name, value) in facts.as_object().unwrap() {
            claims[name] = value.clone();
        }
    });
}

/// Follows the redirects of a navigation through the gateway up to the provider; where the browser is led.
#[track_caller]
fn to_provider(browser: &mut Browser, gateway: &Gateway, target: &str) -> String {
    let mut target = target.to_owned();
    for _ in 0..4 {
        let answer = browser.visit(gateway, &target).expect(302);
        target = answer.header("location").unwrap().to_owned();
        if target.starts_with("http://127.0.0.1") {
            return target;
        }
    }
    panic!("no way to the provider: {target}")
}

fn challenge(parameters: &str) -> String {
    format!(
        "Bearer realm=\"localhost\", error=\"insufficient_user_authentication\", \
         error_description=\"A more recent or a stronger sign-in is required\"{parameters}"
    )
}

#[test]
fn old_sign_in_is_repeated_and_leads_back_with_the_query() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = Browser::default();
    says(&provider, json!({ "auth_time": now() - 1200 }));
    browser.sign_in(&gateway, &provider).expect(303);
    browser.visit(&gateway, "/hello").expect(200);
    let former = browser.cookies["passgate-session"].clone();

    let location = to_provider(&mut browser, &gateway, "/pay/1?a=b&c=%20d");
    let asked = parse(location.split_once('?').unwrap().1);
    assert_eq!(asked["max_age"], "600");
    assert_eq!(asked.get("acr_values"), None);
    says(&provider, json!({ "auth_time": now() - 5 }));
    let back = back_with(&provider.agree(&location));
    let answer = browser.visit(&gateway, &back).expect(303);
    assert_eq!(answer.header("location"), Some("/pay/1?a=b&c=%20d"));
    browser.visit(&gateway, "/pay/1?a=b&c=%20d").expect(200);
    assert_eq!(app.last().target(), "/pay/1?a=b&c=%20d");
    assert_ne!(browser.cookies["passgate-session"], former);
    gateway
        .get_with(&format!("passgate-session={former}"), "/hello")
        .expect(401);
    // The log has the rule with its line.
    let line = gateway.log_line(|line| line["reason"] == "authentication-insufficient");
    let rule = line["rule"].as_str().unwrap();
    assert!(
        rule.starts_with("a sign-in at most 600 s ago (") && rule.contains("gateway.toml:"),
        "{line}"
    );
}

#[test]
fn provider_that_ignores_what_is_asked_ends_at_a_page() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    for facts in [
        json!({}),
        json!({ "acr": "urn:mfa" }),
        json!({ "auth_time": now() }),
        json!({ "acr": "urn:pwd", "auth_time": now() }),
        json!({ "acr": ["urn:mfa"], "auth_time": now() }),
        json!({ "acr": "urn:mfa", "auth_time": now() - 3601 }),
        json!({ "acr": "urn:mfa", "auth_time": now() + 3600 }),
        json!({ "acr": "urn:mfa", "auth_time": (now()).to_string() }),
        json!({ "acr": "urn:mfa", "auth_time": now() * 1000 }),
    ] {
        let mut browser = Browser::default();
        says(&provider, facts.clone());
        let location = to_provider(&mut browser, &gateway, "/vault/1");
        let asked = parse(location.split_once('?').unwrap().1);
        assert_eq!(
            (&*asked["acr_values"], &*asked["max_age"]),
            ("urn:mfa urn:hwk", "3600")
        );
        let back = back_with(&provider.agree(&location));
        let answer = browser.visit(&gateway, &back);
        assert_eq!((answer.status, browser.has_session()), (403, false), "{facts}");
        assert!(
            answer.text().contains("This sign-in is not enough"),
            "{}",
            answer.text()
        );
        let id = answer.header("x-request-id").unwrap().to_owned();
        let line = gateway.log_line(|line| line["request_id"] == *id);
        assert_eq!(line["reason"], "sign-in-insufficient");
    }
    let mut browser = Browser::default();
    says(&provider, json!({ "acr": "urn:hwk", "auth_time": now() - 3000 }));
    let location = to_provider(&mut browser, &gateway, "/vault/1");
    let back = back_with(&provider.agree(&location));
    browser.visit(&gateway, &back).expect(303);
    browser.visit(&gateway, "/vault/1").expect(200);
    // 50 minutes ago is not 10.
    browser.visit(&gateway, "/pay/1").expect(302);
    // Nor does the provider's own refusal lead in a circle.
    let location = to_provider(&mut browser, &gateway, "/pay/1");
    let state = parse(location.split_once('?').unwrap().1)["state"].clone();
    let refused = [
        ("error".to_owned(), "unmet_authentication_requirements".to_owned()),
        ("state".to_owned(), state),
    ];
    browser.visit(&gateway, &back_with(&refused)).expect(403);
}

#[test]
fn parameters_of_the_browser_change_nothing() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = Browser::default();
    let forged = "&acr=x&acr_values=x&max_age=99999999&provider=y&step_up=done";
    let begin = format!("/auth/login/sso?return_to=/vault/1{forged}");
    let location = browser.visit(&gateway, &begin).expect(302);
    let asked = parse(location.header("location").unwrap().split_once('?').unwrap().1);
    assert_eq!(
        (&*asked["acr_values"], &*asked["max_age"]),
        ("urn:mfa urn:hwk", "3600")
    );
    let plain = browser
        .visit(&gateway, &format!("/auth/login/sso?return_to=/hello{forged}"))
        .expect(302);
    let asked = parse(plain.header("location").unwrap().split_once('?').unwrap().1);
    assert_eq!((asked.get("acr_values"), asked.get("max_age")), (None, None));
    // A sign-in for another page does not open this one, whatever its address says.
    let back = browser.go(&gateway, &provider, "/hello?acr=urn:mfa");
    browser.visit(&gateway, &back).expect(303);
    browser.visit(&gateway, "/vault/1?acr=urn:mfa").expect(302);
}

#[test]
fn password_is_a_recent_sign_in_and_neither_acr_nor_provider() {
    let (app, provider) = (App::start(), OpenId::start());
    let setup = setup(&app, &provider, "[password]\n");
    setup.add_account("ann@example.com", &[]);
    let gateway = setup.start();
    let mut browser = Browser::default();
    says(&provider, json!({ "auth_time": now() - 1200 }));
    browser.sign_in(&gateway, &provider).expect(303);
    // Signed in, and asked again.
    let answer = browser.visit(&gateway, "/pay/1?x=y").expect(302);
    let login = answer.header("location").unwrap().to_owned();
    let page = browser.visit(&gateway, &login).expect(200).text();
    assert!(page.contains("Sign in again to open this page."), "{page}");
    assert!(
        page.contains("type=\"password\"") && !page.contains("Continue"),
        "{page}"
    );
    let fields = [
        ("email", "ann@example.com"),
        ("password", PASSWORD),
        ("return_to", "/pay/1?x=y"),
    ];
    let answer = gateway.send(&post_form("/auth/login", &fields)).expect(303);
    assert_eq!(answer.header("location"), Some("/pay/1?x=y"));
    let cookie = session_cookie(&answer).unwrap();
    gateway.get_with(&cookie, "/pay/1").expect(200);
    for path in ["/vault/1", "/corp/1"] {
        gateway.get_with(&cookie, path).expect(401);
    }
    // No password is asked for where it is not enough.
    let mut other = Browser::default();
    other.take(&answer);
    for path in ["/vault/1", "/corp/1"] {
        let login = other.visit(&gateway, path).expect(302);
        let answer = other
            .visit(&gateway, login.header("location").unwrap())
            .expect(302);
        let begin = format!("/auth/login/sso?return_to={path}");
        assert_eq!(answer.header("location"), Some(&*begin));
    }
    // A tokens' pair of a password says as much.
    let tokens = gateway.sign_in_client("ann@example.com");
    let token = tokens["accessToken"].as_str().unwrap();
    gateway.get_as(token, "/pay/1").expect(200);
    gateway.get_as(token, "/corp/1").expect(401);
}

#[test]
fn without_a_way_to_sign_in_that_is_enough_a_page_says_so() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let routes = STEP_UP.replace("provider = \"sso\"", "");
    let setup = Setup::new(&before(&app, &format!("{server}[password]\n{routes}")));
    setup.add_account("ann@example.com", &[]);
    let gateway = setup.start();
    let mut browser = Browser::default();
    let cookie = gateway.sign_in("ann@example.com");
    let (name, value) = cookie.split_once('=').unwrap();
    browser.cookies.insert(name.to_owned(), value.to_owned());
    let login = browser.visit(&gateway, "/vault/1").expect(302);
    let page = browser
        .visit(&gateway, login.header("location").unwrap())
        .expect(403);
    assert!(page.text().contains("This sign-in is not enough"));
}

#[test]
fn api_client_is_told_what_is_asked_for() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let token = |facts: Value| {
        let mut claims = corp_claims("ann");
        for (name, value) in facts.as_object().unwrap() {
            claims[name] = value.clone();
        }
        corp_token_of(&claims)
    };
    for (path, parameters) in [
        ("/pay/1", ", max_age=\"600\""),
        ("/vault/1", ", acr_values=\"urn:mfa urn:hwk\", max_age=\"3600\""),
        ("/corp/1", ""),
    ] {
        let answer = gateway.get_as(&token(json!({})), path).expect(401);
        assert_eq!(
            answer.header("www-authenticate"),
            Some(&*challenge(parameters)),
            "{path}"
        );
        assert_eq!(answer.json()["message"], "Unauthorized");
    }
    for (facts, path, status) in [
        (json!({ "auth_time": now() - 60 }), "/pay/1", 200),
        (json!({ "auth_time": now() - 660 }), "/pay/1", 401),
        (json!({ "auth_time": now() + 3600 }), "/pay/1", 401),
        (
            json!({ "auth_time": now() - 60, "acr": "urn:hwk" }),
            "/vault/1",
            200,
        ),
        (json!({ "auth_time": now() - 60, "acr": "urn" }), "/vault/1", 401),
        (json!({ "acr": "urn:hwk" }), "/vault/1", 401),
        // The provider is a fact of the gateway's own sessions.
        (json!({ "idp": "sso", "auth_time": now() }), "/corp/1", 401),
    ] {
        let answer = gateway.get_as(&token(facts.clone()), path);
        assert_eq!(answer.status, status, "{facts} {path}");
    }
    // No credential at all is another answer.
    let answer = gateway.get("/pay/1").expect(401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer realm=\"localhost\"")
    );
}

#[test]
fn websocket_and_form_of_an_old_sign_in_are_not_redirected() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = Browser::default();
    says(&provider, json!({ "auth_time": now() - 1200 }));
    browser.sign_in(&gateway, &provider).expect(303);
    let cookie = format!("passgate-session={}", browser.cookies["passgate-session"]);
    let handshake = Request::get("/pay/socket")
        .host("localhost")
        .header("Origin", "http://localhost")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Cookie", &cookie);
    let answer = gateway.send(&handshake).expect(401);
    assert_eq!(
        answer.header("www-authenticate"),
        Some(&*challenge(", max_age=\"600\""))
    );
    let form = post_form("/pay/1", &[("amount", "5")])
        .header("Referer", "http://localhost/pay/form")
        .header("Cookie", &cookie);
    let page = gateway.send(&form).expect(401).text();
    assert!(
        page.contains("href=\"/auth/login?return_to=/pay/form\""),
        "{page}"
    );
    assert_eq!(app.count(), 0);
}

#[test]
fn token_in_the_query_is_not_sent_in_a_circle() {
    let (app, provider) = (App::start(), OpenId::start());
    let sources = "[credentials]\nsources = [{ query = \"t\" }]\n";
    let gateway = setup(&app, &provider, sources).start();
    let token = corp_token_of(&corp_claims("ann"));
    let mut browser = Browser::default();
    let target = format!("/pay/1?{}", form(&[("t", &token)]));
    browser.visit(&gateway, &target).expect(401);
}

#[test]
fn check_and_explain_know_what_is_asked_for() {
    let (app, provider) = (App::start(), OpenId::start());
    let tests = r#"
[[tests]]
request = "GET /vault/1"
as = { acr = "urn:mfa", signed_in = "5m" }
expect = "allow"
[[tests]]
request = "GET /vault/1"
as = { acr = "urn:mfa", signed_in = "2h" }
expect = 401
[[tests]]
request = "GET /vault/1"
as = { acr = "urn:pwd", signed_in = "5m" }
expect = "login"
[[tests]]
request = "GET /pay/1"
as = { signed_in = "10m" }
expect = "allow"
[[tests]]
request = "GET /corp/1"
as = { provider = "sso" }
expect = "allow"
[[tests]]
request = "GET /corp/1"
as = { roles = ["user"] }
expect = "login"
"#;
    let setup = setup(&app, &provider, tests);
    let said = setup.succeed(["check"]);
    assert!(
        said.contains("a sign-in with the `acr` `urn:mfa`, `urn:hwk`, and a sign-in at most 3600 s ago"),
        "{said}"
    );
    let listed = setup.command(["check", "--format", "json"]).expect(0).json();
    let who = |path: &str| {
        let routes = listed["routes"].as_array().unwrap();
        routes.iter().find(|route| route["path"] == path).unwrap()["who"].clone()
    };
    assert_eq!(
        who("/vault/*"),
        json!({ "auth": "required", "acr": ["urn:mfa", "urn:hwk"], "max_age": 3600 })
    );
    assert_eq!(who("/corp/*"), json!({ "auth": "required", "provider": "sso" }));
    let explained = setup
        .command(["explain", "GET", "/pay/1", "--as", "ann", "--format", "json"])
        .expect(3)
        .json();
    assert_eq!(explained["reason"], "authentication-insufficient");
    assert!(
        explained.to_string().contains("`auth_time` is missing"),
        "{explained}"
    );
    let wrong = std::fs::read_to_string(setup.path("gateway.toml")).unwrap();
    setup.write(
        "gateway.toml",
        wrong.replace("provider = \"sso\"\n", "provider = \"ssso\"\n"),
    );
    let said = setup.command(["check"]).expect(2).all();
    assert!(
        said.contains("unknown provider `ssso`") && said.contains("did you mean `sso`?"),
        "{said}"
    );
}
