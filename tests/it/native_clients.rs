//! Clients without cookies: a sign-in with a provider that ends in a one-time code, and its exchange for tokens.

use serde_json::{Value, json};

use super::support::openid::{Browser, CLIENT_SECRET, OpenId, back_with, base64url_sha256, parse};
use super::support::people::{ROUTES, claims, form, post_json};
use super::support::{App, Gateway, Request, Response, Setup, gateway::before, values};

const REDIRECT: &str = "com.example.app:/signed-in";
const VERIFIER: &str = "a-code-verifier-of-the-client-that-is-long-enough";

#[track_caller]
fn setup(app: &App, provider: &OpenId, of_session: &str, of_provider: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let session =
        format!("[session]\nredirect_uris = [\"{REDIRECT}\", \"http://127.0.0.1/cb?x=y\"]\n{of_session}\n");
    let tables = format!("{server}{session}{}{ROUTES}", provider.table(of_provider));
    let setup = Setup::new(&before(app, &tables));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

#[track_caller]
fn gateway(app: &App, provider: &OpenId) -> Gateway {
    setup(app, provider, "", "allow = \"anyone\"").start()
}

fn query(redirect_uri: &str) -> Vec<(&'static str, String)> {
    vec![
        ("mode", "token".to_owned()),
        ("redirect_uri", redirect_uri.to_owned()),
        ("state", "state of the client".to_owned()),
        ("code_challenge", base64url_sha256(VERIFIER)),
        ("code_challenge_method", "S256".to_owned()),
    ]
}

fn begin(fields: &[(&str, String)]) -> String {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
    format!("/auth/login/sso?{}", form(&fields))
}

/// The browser of the client at the provider, and where it goes back to.
#[track_caller]
fn go(gateway: &Gateway, provider: &OpenId, redirect_uri: &str) -> (Browser, String) {
    let mut browser = Browser::default();
    let answer = browser.visit(gateway, &begin(&query(redirect_uri))).expect(302);
    let back = back_with(&provider.agree(answer.header("location").unwrap()));
    (browser, back)
}

/// The parameters of the redirect to the client.
#[track_caller]
fn landed(answer: &Response, redirect_uri: &str) -> std::collections::HashMap<String, String> {
    let location = answer.header("location").unwrap();
    let rest = location
        .strip_prefix(redirect_uri)
        .unwrap_or_else(|| panic!("{location}"));
    parse(&rest[1..])
}

/// A code of a fresh sign-in.
#[track_caller]
fn code(gateway: &Gateway, provider: &OpenId) -> String {
    let (mut browser, back) = go(gateway, provider, REDIRECT);
    let answer = browser.visit(gateway, &back).expect(302);
    landed(&answer, REDIRECT)["code"].clone()
}

fn exchange(gateway: &Gateway, code: &str, verifier: &str, redirect_uri: &str) -> Response {
    let body = json!({ "code": code, "codeVerifier": verifier, "redirectUri": redirect_uri });
    gateway.send(&post_json("/auth/token", &body))
}

#[track_caller]
fn reason_of(gateway: &Gateway, answer: &Response) -> Value {
    let id = answer.header("x-request-id").unwrap();
    gateway.log_line(|line| line["request_id"] == id)["reason"].clone()
}

#[test]
fn native_client_signs_in_with_a_provider_and_gets_tokens() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    for redirect_uri in [REDIRECT, "http://127.0.0.1:43123/cb?x=y"] {
        let (mut browser, back) = go(&gateway, &provider, redirect_uri);
        let answer = browser.visit(&gateway, &back).expect(302);
        let said = landed(&answer, redirect_uri);
        assert_eq!(
            (&*said["state"], &*said["iss"]),
            ("state of the client", "http://localhost")
        );
        assert!(!browser.has_session() && browser.attempts().is_empty());
        let tokens = exchange(&gateway, &said["code"], VERIFIER, redirect_uri).expect(200);
        assert!(values(&tokens.fields, "set-cookie").is_empty());
        let tokens = tokens.json();
        let token = tokens["accessToken"].as_str().unwrap();
        assert_eq!(
            (claims(token)["idp"].clone(), claims(token)["email"].clone()),
            (json!("sso"), json!("ann@example.com"))
        );
        let answer = gateway.get_as(token, "/x").expect(200);
        drop(answer);
        let body = json!({ "refreshToken": tokens["refreshToken"] });
        gateway.send(&post_json("/auth/refresh", &body)).expect(200);
    }
    // By a form, as RFC 6749 has it.
    let code = code(&gateway, &provider);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", &*code),
        ("code_verifier", VERIFIER),
        ("redirect_uri", REDIRECT),
        ("client_id", "app"),
    ];
    let request = |fields: &[(&str, &str)]| {
        Request::post("/auth/token", form(fields))
            .host("localhost")
            .header("Content-Type", "application/x-www-form-urlencoded")
    };
    gateway.send(&request(&fields[1..])).expect(400);
    let tokens = gateway.send(&request(&fields)).expect(200).json();
    assert!(tokens["refreshToken"].is_string());
}

#[test]
fn request_of_a_client_that_is_not_valid_leads_nowhere() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let refused = |target: &str| {
        let mut browser = Browser::default();
        let answer = browser.visit(&gateway, target).expect(400);
        assert_eq!(answer.header("location"), None, "{target}");
        assert_eq!(
            reason_of(&gateway, &answer),
            json!("client-request-invalid"),
            "{target}"
        );
        assert!(browser.cookies.is_empty(), "{target}");
    };
    for uri in [
        "https://evil.example/",
        "com.example.app:/signed-in/",
        "com.example.app:/signed-in?x",
        "com.example.app.evil:/signed-in",
        "COM.example.app:/signed-in",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:80@evil.example/cb?x=y",
        "http://localhost:8080/cb?x=y",
        "javascript:alert(1)",
        "/cb",
        "",
    ] {
        refused(&begin(&query(uri)));
    }
    let whole = query(REDIRECT);
    for missing in 1..whole.len() {
        let mut fields = whole.clone();
        fields.remove(missing);
        refused(&begin(&fields));
    }
    for (at, value) in [
        (0, "cookie"),
        (2, ""),
        (2, &"s".repeat(513)),
        (2, "a\r\nb"),
        (3, "short"),
        (3, &"=".repeat(43)),
        (4, "plain"),
    ] {
        let mut fields = whole.clone();
        fields[at].1 = value.to_owned();
        refused(&begin(&fields));
    }
    for (name, value) in &whole {
        refused(&format!("{}&{}", begin(&whole), form(&[(name, value)])));
    }
    assert_eq!(provider.count("/token"), 0);
}

#[test]
fn code_of_a_client_is_good_once_with_its_verifier_and_redirect_uri() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let refused = |answer: Response| {
        let answer = answer.expect(400);
        assert_eq!(reason_of(&gateway, &answer), json!("code-refused"));
        assert!(!answer.text().contains("accessToken"));
    };
    let other = "another-code-verifier-of-the-client-that-is-long";
    for (verifier, redirect_uri) in [
        (other, REDIRECT),
        ("short", REDIRECT),
        (&*base64url_sha256(VERIFIER), REDIRECT),
        (&*"v".repeat(129), REDIRECT),
        (VERIFIER, "com.example.app:/signed-in2"),
        (VERIFIER, "http://127.0.0.1/cb?x=y"),
    ] {
        let code = code(&gateway, &provider);
        refused(exchange(&gateway, &code, verifier, redirect_uri));
        // Which has spent it.
        refused(exchange(&gateway, &code, VERIFIER, REDIRECT));
    }
    let code = code(&gateway, &provider);
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let send = || exchange(&gateway, &code, VERIFIER, REDIRECT).status;
        let threads: Vec<_> = (0..10).map(|_| scope.spawn(send)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        1,
        "{answers:?}"
    );
    for made_up in ["", "x", &"A".repeat(64), &code[1..]] {
        exchange(&gateway, made_up, VERIFIER, REDIRECT).expect(400);
    }
    // A page of another site cannot bring its own session into a browser.
    let code = self::code(&gateway, &provider);
    let body = json!({ "code": code, "codeVerifier": VERIFIER, "redirectUri": REDIRECT });
    let request = post_json("/auth/token", &body).header("Origin", "https://evil.example");
    gateway.send(&request).expect(403);
}

#[test]
fn code_that_is_old_or_of_a_disabled_account_is_refused() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let state = rusqlite::Connection::open(gateway.setup.path("passgate.db")).unwrap();
    let kept: String = {
        let old = code(&gateway, &provider);
        state
            .execute("UPDATE client_codes SET expires_at = expires_at - 61", [])
            .unwrap();
        exchange(&gateway, &old, VERIFIER, REDIRECT).expect(400);
        code(&gateway, &provider)
    };
    gateway.command(["user", "disable", "ann@example.com"]).expect(0);
    exchange(&gateway, &kept, VERIFIER, REDIRECT).expect(400);
}

#[test]
fn wrong_codes_of_one_address_are_slowed_down() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    let mut statuses = Vec::new();
    for number in 0..40 {
        let wrong = format!("{number:064}");
        statuses.push(exchange(&gateway, &wrong, VERIFIER, REDIRECT).status);
    }
    assert!(statuses.starts_with(&[400; 30]), "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn codes_that_are_good_are_not_slowed_down() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = gateway(&app, &provider);
    for _ in 0..12 {
        let code = code(&gateway, &provider);
        exchange(&gateway, &code, VERIFIER, REDIRECT).expect(200);
    }
}

#[test]
fn client_is_told_that_a_sign_in_failed() {
    let (app, provider) = (App::start(), OpenId::start());
    let allow = "allow = [{ domain = \"example.org\" }]";
    let gateway = setup(&app, &provider, "", allow).start();
    let (mut browser, back) = go(&gateway, &provider, REDIRECT);
    let answer = browser.visit(&gateway, &back).expect(302);
    let said = landed(&answer, REDIRECT);
    assert_eq!(
        (&*said["error"], &*said["state"], &*said["iss"]),
        ("access_denied", "state of the client", "http://localhost")
    );
    assert!(!said.contains_key("code") && !browser.has_session());
    // The user did not agree; the text of the provider does not get on.
    let (mut browser, back) = go(&gateway, &provider, REDIRECT);
    let state = parse(back.split_once('?').unwrap().1)["state"].clone();
    let denied = back_with(&[
        ("state".to_owned(), state),
        ("error".to_owned(), "access_denied".to_owned()),
        ("error_description".to_owned(), "<b>no</b>".to_owned()),
    ]);
    let answer = browser.visit(&gateway, &denied).expect(302);
    assert_eq!(landed(&answer, REDIRECT)["error"], "access_denied");
    assert!(!answer.header("location").unwrap().contains("no%3C"));
    // The same once more, and the way back in a browser that did not begin it.
    let again = browser.visit(&gateway, &denied).expect(400);
    assert_eq!(reason_of(&gateway, &again), json!("attempt-refused"));
    let (_, back) = go(&gateway, &provider, REDIRECT);
    Browser::default().visit(&gateway, &back).expect(400);
}

#[test]
fn single_page_app_gets_its_refresh_token_in_a_cookie() {
    let (app, provider) = (App::start(), OpenId::start());
    let of_session = "refresh_cookie = true\norigins = [\"http://localhost:5173\"]";
    let gateway = setup(&app, &provider, of_session, "allow = \"anyone\"").start();
    let code = code(&gateway, &provider);
    let body = json!({ "code": code, "codeVerifier": VERIFIER, "redirectUri": REDIRECT });
    let request = post_json("/auth/token", &body).header("Origin", "http://localhost:5173");
    let answer = gateway.send(&request).expect(200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:5173")
    );
    assert!(answer.json().get("refreshToken").is_none());
    let cookie = values(&answer.fields, "set-cookie").concat();
    assert!(
        cookie.starts_with("passgate-refresh=") && cookie.contains("HttpOnly"),
        "{cookie}"
    );
}
