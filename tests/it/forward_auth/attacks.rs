//! Questions that a client has had a hand in: what a proxy passes on of the client's fields must not change the decision.

use super::super::support::{App, Gateway, Request, corp_token, gateway::before, values};
use super::{Browsing, below, forwarded, identity, original, setup};

/// A question with nothing but these fields.
fn with(fields: &[(&str, &str)]) -> Request {
    fields.iter().fold(
        Request::get("/auth/verify").host("localhost"),
        |request, (name, value)| request.header(name, value),
    )
}

#[test]
fn peer_that_is_not_trusted_is_403_and_the_log_names_the_key() {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\ntrusted_proxies = [\"192.0.2.1\"]\n";
    let gateway = Gateway::start(&before(&App::start(), &format!("{server}{}", super::ROUTES)));
    let token = corp_token("ann", &["admin"]);
    for question in [
        original("GET", "http://localhost/public/x"),
        forwarded("GET", "localhost", "/public/x"),
        below("GET", "localhost", "/public/x"),
        Request::get("/auth/verify").host("localhost"),
    ] {
        let answer = gateway.send(&question.bearer(&token)).expect(403);
        assert_eq!(answer.header("x-auth-user"), None);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    gateway.diagnostic("trusted_proxies");
    let warned = || {
        gateway
            .diagnostics()
            .iter()
            .filter(|line| line.contains("forward-auth"))
            .count()
    };
    assert_eq!(warned(), 1);
    let line = gateway.log_line(|line| line["path"] == "/auth/verify");
    assert_eq!(line["reason"], "peer-untrusted");
}

#[test]
fn description_that_is_not_complete_is_400() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["admin"]);
    let (url, uri) = ("http://localhost/public/x", "/public/x");
    for (fields, reason) in [
        (&[][..], "original-missing"),
        (&[("X-Original-URL", url)], "original-missing"),
        (&[("X-Original-Method", "GET")], "original-missing"),
        (&[("X-Forwarded-Uri", uri)], "original-missing"),
        (
            &[("X-Forwarded-Uri", uri), ("X-Forwarded-Method", "GET")],
            "original-missing",
        ),
        (
            &[("X-Forwarded-Uri", uri), ("X-Forwarded-Host", "localhost")],
            "original-missing",
        ),
        (
            &[("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "localhost")],
            "original-missing",
        ),
        // Never one from each family.
        (
            &[("X-Original-URL", url), ("X-Forwarded-Method", "GET")],
            "original-missing",
        ),
        (
            &[
                ("X-Forwarded-Uri", uri),
                ("X-Original-Method", "GET"),
                ("X-Forwarded-Host", "localhost"),
            ],
            "original-missing",
        ),
        (
            &[("X-Original-URL", uri), ("X-Original-Method", "GET")],
            "original-invalid",
        ),
        (
            &[("X-Original-URI", uri), ("X-Original-Method", "GET")],
            "original-missing",
        ),
    ] {
        let answer = gateway.send(&with(fields).bearer(&token)).expect(400);
        let id = answer.header("x-request-id").unwrap().to_owned();
        let line = gateway.log_line(|line| line["request_id"] == *id);
        assert_eq!(line["reason"], reason, "{fields:?}");
    }
}

#[test]
fn field_that_comes_twice_is_400() {
    let gateway = setup("").start();
    let url = "http://localhost/public/x";
    for question in [
        original("GET", url).header("X-Original-URL", url),
        original("GET", url).header("X-Original-URL", "http://localhost/admin/x"),
        original("GET", url).header("X-Original-Method", "GET"),
        original("GET", url).header("x-original-method", "POST"),
        forwarded("GET", "localhost", "/public/x").header("X-Forwarded-Uri", "/public/x"),
        forwarded("GET", "localhost", "/public/x").header("X-Forwarded-Method", "GET"),
        forwarded("GET", "localhost", "/public/x").header("X-Forwarded-Host", "localhost"),
        original("GET", "http://localhost/public/x, http://localhost/admin/x"),
        forwarded("GET", "localhost, localhost", "/public/x"),
        forwarded("GET, POST", "localhost", "/public/x"),
    ] {
        gateway.send(&question).expect(400);
    }
}

#[test]
fn families_that_differ_are_400_and_those_that_agree_pass() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["user"]);
    let url = "http://localhost/a?b=%20";
    for (name, value, status) in [
        ("X-Forwarded-Uri", "/a?b=%20", 200),
        ("X-Forwarded-Uri", "/%61?b=%20", 200),
        ("X-Forwarded-Uri", "/a?b=%2520", 400),
        ("X-Forwarded-Uri", "/public/x", 400),
        ("X-Forwarded-Uri", "/a", 400),
        ("X-Forwarded-Uri", "/x/../a?b=%20", 400),
        ("X-Forwarded-Method", "GET", 200),
        ("X-Forwarded-Method", "get", 400),
        ("X-Forwarded-Method", "POST", 400),
        ("X-Forwarded-Host", "LOCALHOST:80", 200),
        ("X-Forwarded-Host", "localhost:8080", 400),
        ("X-Forwarded-Host", "named.test", 400),
        ("X-Forwarded-Host", "", 400),
    ] {
        let question = original("GET", url).header(name, value).bearer(&token);
        assert_eq!(gateway.send(&question).status, status, "{name}: {value}");
    }
    for (name, value, status) in [
        ("X-Original-URL", "http://localhost/public/x", 400),
        ("X-Original-URL", "http://localhost/a?b=%20", 200),
        ("X-Original-Method", "POST", 400),
        ("X-Original-Method", "GET", 200),
    ] {
        let question = forwarded("GET", "localhost", "/a?b=%20");
        let question = match name {
            // Without its method the other family is not whole.
            "X-Original-URL" => question.header("X-Original-Method", "GET"),
            _ => question,
        };
        let question = question.header(name, value).bearer(&token);
        assert_eq!(gateway.send(&question).status, status, "{name}: {value}");
    }
    for (name, value) in [
        ("X-Original-URL", "http://localhost/public/x"),
        ("X-Forwarded-Uri", "/public/x"),
        ("X-Forwarded-Method", "HEAD"),
        ("X-Original-Method", "HEAD"),
        ("X-Forwarded-Host", "named.test"),
    ] {
        let question = below("GET", "localhost", "/a").header(name, value).bearer(&token);
        gateway.send(&question).expect(400);
    }
}

#[test]
fn path_with_two_readings_is_never_let_through() {
    let gateway = setup("").start();
    for uri in [
        "/public/../admin/x",
        "/public/%2e%2e/admin/x",
        "/public/..;/admin/x",
        "/public/.%2e/x",
        "/public//x",
        "//public/x",
        "/public;x/y",
        "/public/%2f..%2fadmin",
        "/public/%5c..%5cadmin",
        "/public/\\..\\admin",
        "/public/%00",
        "/public/%zz",
    ] {
        let strict = gateway.send(&original("GET", &format!("http://localhost{uri}")));
        assert!([400, 403].contains(&strict.status), "{uri}: {}", strict.status);
        assert_eq!(
            gateway.send(&forwarded("GET", "localhost", uri)).status,
            400,
            "{uri}"
        );
        assert_eq!(gateway.send(&below("GET", "localhost", uri)).status, 400, "{uri}");
    }
    // A fragment, another form of target, other bytes.
    for uri in [
        "/public/x#/../admin",
        "/public/x\u{e9}",
        "public/x",
        "*",
        "",
        "http://localhost/public/x",
        "/public/ x",
    ] {
        gateway.send(&forwarded("GET", "localhost", uri)).expect(400);
    }
    for url in [
        "http://localhost/public/x#y",
        "http://localhost#/public/x",
        "http://localhost",
        "http://user@localhost/public/x",
        "http://localhost\\@evil.example/public/x",
        "ftp://localhost/public/x",
        "//localhost/public/x",
        "http:/localhost/public/x",
        "http:///public/x",
        "http://local host/public/x",
    ] {
        gateway.send(&original("GET", url)).expect(400);
    }
}

#[test]
fn identity_and_method_override_of_the_client_change_nothing() {
    let gateway = setup("").start();
    let token = corp_token("bob", &["user"]);
    let forged = |question: Request| {
        question
            .header("X-Auth-User", "mallory")
            .header("X-Auth-Roles", "admin")
            .header("X_Auth_Roles", "admin")
            .header("X-HTTP-Method-Override", "GET")
            .header("X-Forwarded-User", "mallory")
            .bearer(&token)
    };
    gateway
        .send(&forged(original("GET", "http://localhost/admin/x")))
        .expect(403);
    gateway
        .send(&forged(forwarded("POST", "localhost", "/read/x")))
        .expect(405);
    let answer = gateway
        .send(&forged(original("GET", "http://localhost/a")))
        .expect(200);
    assert_eq!(identity(&answer), ["bob", "", "", "user", "corp"]);
    assert_eq!(values(&answer.fields, "x_auth_roles"), [""; 0]);
}

#[test]
fn cookie_that_another_site_made_the_browser_send_is_refused() {
    let setup = setup("");
    setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in("ann@example.com");
    let by = |question: Request, origin: &str| {
        gateway
            .send(&question.header("Cookie", &cookie).header("Origin", origin))
            .status
    };
    let (own, evil) = ("http://localhost", "https://evil.example");
    let url = "http://localhost/a";
    assert_eq!(by(original("POST", url), own), 200);
    assert_eq!(by(original("POST", url), evil), 403);
    assert_eq!(by(forwarded("POST", "localhost", "/a"), evil), 403);
    assert_eq!(by(original("GET", url), evil), 200);
    // A handshake: proxies leave `Upgrade` out of the question.
    let handshake = |question: Request| {
        question
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Sec-WebSocket-Version", "13")
    };
    assert_eq!(by(handshake(original("GET", url)), own), 200);
    assert_eq!(by(handshake(original("GET", url)), evil), 403);
    assert_eq!(
        by(original("GET", url).header("Sec-WebSocket-Version", "13"), evil),
        403
    );
}

#[test]
fn condition_that_is_not_known_is_403() {
    let gateway = setup("").start();
    for query in [
        "allowed_groups=admin",
        "redirect&allowed_groups=x",
        "Redirect",
        "redirect=&x",
    ] {
        let question = Request::get(&format!("/auth/verify?{query}"))
            .host("localhost")
            .header("X-Original-URL", "http://localhost/public/x")
            .header("X-Original-Method", "GET");
        gateway.send(&question).expect(403);
    }
}

#[test]
fn sign_in_never_leads_back_to_a_host_that_no_route_names() {
    let gateway = setup("").start();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "named.test.evil.example",
        "xnamed.test",
    ] {
        let answer = gateway
            .send(&forwarded("GET", host, "/a").by_browser())
            .expect(302);
        assert_eq!(answer.header("location"), Some("http://localhost/auth/login"));
    }
    let answer = gateway.send(&forwarded("GET", "localhost", "/auth/logout?x").by_browser());
    assert_eq!(answer.status, 404);
}

#[test]
fn question_in_another_spelling_of_the_path_is_404() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["admin"]);
    for target in [
        "/auth/%76erify",
        "/%61uth/verify",
        "/auth/verif%79/public/x",
        "/auth/%76erify?redirect",
    ] {
        let question = Request::get(target)
            .host("localhost")
            .header("X-Original-URL", "http://localhost/public/x")
            .header("X-Original-Method", "GET");
        let answer = gateway.send(&question.bearer(&token)).expect(404);
        assert_eq!(answer.header("x-auth-user"), None);
    }
    for target in [
        "/auth/verify;x",
        "/auth//verify",
        "/auth/verify%2fx",
        "/auth/verify%3fredirect",
    ] {
        let answer = gateway.send(&Request::get(target).host("localhost").bearer(&token));
        assert!([400, 404].contains(&answer.status), "{target}");
    }
}

#[test]
fn client_of_a_gateway_that_forwards_learns_no_assertion_by_asking_itself() {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
                  [identity]\nassertion = true\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
    let app = App::start();
    let gateway = Gateway::start(&before(&app, server));
    let token = corp_token("ann", &["user"]);
    gateway.get_as(&token, "/a").expect(200);
    assert!(app.last().header("x-auth-assertion").is_some());
    let answer = gateway
        .send(&original("GET", "http://localhost/a").bearer(&token))
        .expect(200);
    assert_eq!(identity(&answer)[0], "ann");
    assert_eq!(answer.header("x-auth-assertion"), Some(""));
    assert_eq!(app.count(), 1);
}
