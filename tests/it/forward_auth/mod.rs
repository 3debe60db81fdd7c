//! Forward-auth: another proxy asks at `/auth/verify` about the requests that it serves.

mod aliases;
mod attacks;
mod grpc;

use super::support::people::{PASSWORD, post_form, session_cookie};
use super::support::tokens::{corp_claims, corp_token_of, now};
use super::support::{App, Gateway, Request, Response, Setup, corp_token, gateway::before, values};

const ROUTES: &str = r#"
[upstreams.elsewhere]
builtin = "forward-auth"

[[routes]]
path = "/*"
upstream = "elsewhere"
[[routes]]
path = "/public/*"
auth = "none"
upstream = "elsewhere"
[[routes]]
path = "/maybe/*"
auth = "optional"
upstream = "elsewhere"
[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "elsewhere"
[[routes]]
path = "/read/*"
methods = ["GET"]
upstream = "elsewhere"
[[routes]]
path = "/recent/*"
max_age = "1h"
upstream = "elsewhere"
[[routes]]
path = "/limited/*"
auth = "none"
rate_limit = { requests = 1, per = "1h", by = "ip" }
upstream = "elsewhere"
[[routes]]
host = "named.test"
path = "/*"
upstream = "elsewhere"
"#;

fn setup(more: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n\
                  trusted_proxies = [\"127.0.0.1\"]\n[password]\n";
    Setup::new(&before(&App::start(), &format!("{server}{more}{ROUTES}")))
}

/// What nginx, HAProxy and ingress-nginx ask.
fn original(method: &str, url: &str) -> Request {
    Request::get("/auth/verify")
        .host("localhost")
        .header("X-Original-URL", url)
        .header("X-Original-Method", method)
}

/// What Traefik and Caddy ask.
fn forwarded(method: &str, host: &str, uri: &str) -> Request {
    Request::get("/auth/verify?redirect")
        .host("gate.internal")
        .header("X-Forwarded-Uri", uri)
        .header("X-Forwarded-Method", method)
        .header("X-Forwarded-Host", host)
}

/// What Envoy asks, with `path_prefix`.
fn below(method: &str, host: &str, uri: &str) -> Request {
    Request::new(method, &format!("/auth/verify{uri}")).host(host)
}

/// Each family's question about the same request.
fn families(method: &str, uri: &str) -> [Request; 3] {
    [
        original(method, &format!("http://localhost{uri}")),
        forwarded(method, "localhost", uri),
        below(method, "localhost", uri),
    ]
}

trait Browsing {
    fn by_browser(self) -> Self;
}

impl Browsing for Request {
    fn by_browser(self) -> Self {
        self.header("Accept", "text/html,application/xhtml+xml")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document")
    }
}

const IDENTITY: [&str; 5] = [
    "x-auth-user",
    "x-auth-email",
    "x-auth-name",
    "x-auth-roles",
    "x-auth-issuer",
];

fn identity(response: &Response) -> [&str; 5] {
    IDENTITY.map(|name| response.header(name).unwrap_or("(absent)"))
}

#[test]
fn request_that_may_pass_is_200_with_identity_in_every_family() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["admin", "user"]);
    for (method, uri) in [
        ("GET", "/admin/x?y=1"),
        ("POST", "/admin"),
        ("DELETE", "/%61dmin/x"),
    ] {
        for question in families(method, uri) {
            let answer = gateway.send(&question.bearer(&token)).expect(200);
            assert_eq!(identity(&answer), ["ann", "", "", "admin,user", "corp"]);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-auth-access-token"), Some(""));
            assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()));
            assert_eq!(answer.body, b"");
        }
    }
}

#[test]
fn request_without_identity_has_empty_identity_fields() {
    let gateway = setup("").start();
    for uri in ["/public/x", "/maybe/x"] {
        for question in families("GET", uri) {
            let question = question
                .header("X-Auth-User", "mallory")
                .header("X-Auth-Roles", "admin");
            let answer = gateway.send(&question).expect(200);
            assert_eq!(identity(&answer), [""; 5], "{uri}");
        }
    }
}

#[test]
fn fields_of_the_preset_and_of_claims_and_the_assertion_are_answered() {
    let more =
        "[identity]\npreset = \"authelia\"\nassertion = true\nheaders = { \"X-Tenant\" = \"tenant\" }\n";
    let gateway = setup(more).start();
    let mut claims = corp_claims("ann");
    (claims["tenant"], claims["roles"]) = ("acme".into(), ["a"].as_slice().into());
    let question = original("GET", "http://localhost/").bearer(&corp_token_of(&claims));
    let answer = gateway.send(&question).expect(200);
    for (name, value) in [
        ("remote-user", "ann"),
        ("remote-groups", "a"),
        ("remote-email", ""),
        ("x-tenant", "acme"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let assertion = super::support::tokens::payload(answer.header("x-auth-assertion").unwrap());
    assert_eq!(
        (&assertion["aud"], &assertion["sub"]),
        (&"elsewhere".into(), &"ann".into())
    );
    let anonymous = gateway
        .send(&original("GET", "http://localhost/public/"))
        .expect(200);
    assert_eq!(anonymous.header("x-auth-assertion"), Some(""));
    let without = setup("")
        .start()
        .send(&original("GET", "http://localhost/public/"))
        .expect(200);
    assert_eq!(without.header("x-auth-assertion"), Some(""));
}

#[test]
fn browser_without_session_is_led_to_sign_in_and_back() {
    let gateway = setup("").start();
    let home = "http://localhost/auth/login?return_to=http%3A//localhost/a%3Fb%3D1%26c";
    let named = "http://named.test:8443/auth/login?return_to=http%3A//named.test%3A8443/a%3Fb%3D1%26c";
    let other = "http://localhost/auth/login";
    for (host, location) in [
        ("localhost", home),
        ("named.test:8443", named),
        ("evil.example", other),
    ] {
        let url = format!("http://{host}/a?b=1&c");
        let answer = gateway.send(&original("GET", &url).by_browser()).expect(401);
        assert_eq!(answer.header("location"), Some(location));
        assert_eq!(answer.header("x-auth-status"), Some("302"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = gateway
            .send(&forwarded("GET", host, "/a?b=1&c").by_browser())
            .expect(302);
        assert_eq!(answer.header("location"), Some(location));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = gateway
            .send(&below("GET", host, "/a?b=1&c").by_browser())
            .expect(401);
        assert_eq!(answer.header("location"), Some(location));
        assert!(answer.text().contains("/auth/login"), "{}", answer.text());
    }
}

#[test]
fn program_without_credential_gets_401_and_never_a_redirect() {
    let gateway = setup("").start();
    for question in families("GET", "/a").into_iter().chain(families("POST", "/a")) {
        let answer = gateway.send(&question).expect(401);
        assert_eq!(answer.header("x-auth-status"), Some("401"));
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // A form cannot be sent again after a sign-in.
    for question in families("POST", "/a") {
        let answer = gateway.send(&question.by_browser()).expect(401);
        assert_eq!(answer.header("location"), None);
    }
    let bad = gateway
        .send(&original("GET", "http://localhost/public/../a").bearer("x"))
        .expect(403);
    assert_eq!(bad.header("x-auth-status"), Some("400"));
    for question in families("GET", "/maybe/x") {
        gateway.send(&question.bearer("bad")).expect(401);
    }
}

#[test]
fn refusals_are_401_and_403_for_one_family_and_as_they_are_for_others() {
    let gateway = setup("").start();
    let token = corp_token("bob", &["user"]);
    for (method, uri, status) in [
        ("GET", "/admin/x", 403),
        ("POST", "/read/x", 405),
        ("GET", "/a%2fb", 400),
        ("GET", "/a//b", 400),
        ("GET", "/auth/login", 404),
        ("GET", "/auth/logo", 404),
        ("GET", "/.well-known/jwks.json", 404),
        ("GET", "/auth/verify", 508),
        ("GET", "/auth/verify/x", 508),
        ("TRACE", "/a", 405),
    ] {
        let strict = original(method, &format!("http://localhost{uri}")).bearer(&token);
        let answer = gateway.send(&strict).expect(403);
        assert_eq!(
            answer.header("x-auth-status"),
            Some(&*status.to_string()),
            "{method} {uri}"
        );
        let answer = gateway
            .send(&forwarded(method, "localhost", uri).bearer(&token))
            .expect(status);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("set-cookie"), None);
    }
    gateway
        .send(&below("GET", "localhost", "/auth/verify/a").bearer(&token))
        .expect(508);
}

#[test]
fn route_that_another_proxy_serves_is_404_to_clients() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["admin"]);
    for target in ["/", "/admin/x", "/public/x"] {
        gateway.get(target).expect(404);
        gateway.get_as(&token, target).expect(404);
    }
    let explained = gateway.explain("GET", "/public/x", &[] as &[(&str, &str)]);
    assert_eq!(explained["decision"], "allow");
}

#[test]
fn session_counts_and_its_renewed_cookie_is_in_the_answer() {
    let setup = setup("[session]\ntoken_lifetime = \"1s\"\n");
    let id = setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in("ann@example.com");
    let mut renewed = None;
    super::support::eventually("the cookie is renewed", || {
        let answer = gateway.send(&original("GET", "http://localhost/a").header("Cookie", &cookie));
        assert_eq!(answer.status, 200);
        assert_eq!(identity(&answer)[0], id);
        renewed = session_cookie(&answer);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        renewed.is_some()
    });
    assert_ne!(renewed, Some(cookie));
}

#[test]
fn sign_in_from_a_named_host_returns_to_the_page_that_was_asked_for() {
    let setup = setup("");
    setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let asked = gateway
        .send(&original("GET", "http://named.test/a?b=1").by_browser())
        .expect(401);
    let location = asked.header("location").unwrap();
    let there = location.strip_prefix("http://named.test").unwrap();
    let begun = gateway
        .send(&Request::get(there).host("named.test").by_browser())
        .expect(303);
    let nonce = begun
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let home = begun
        .header("location")
        .unwrap()
        .strip_prefix("http://localhost")
        .unwrap();
    let signed = gateway
        .send(&post_form(
            home,
            &[("email", "ann@example.com"), ("password", PASSWORD)],
        ))
        .expect(303);
    let back = signed.header("location").unwrap();
    let back = back
        .strip_prefix("http://named.test")
        .unwrap_or_else(|| panic!("{back}"));
    let landed = gateway
        .send(
            &Request::get(back)
                .host("named.test")
                .by_browser()
                .header("Cookie", &nonce),
        )
        .expect(303);
    assert_eq!(landed.header("location"), Some("/a?b=1"));
    let cookie = session_cookie(&landed).unwrap();
    let question = original("GET", "http://named.test/a?b=1").header("Cookie", &cookie);
    gateway.send(&question).expect(200);
    // A cookie counts on its own host alone.
    let question = original("GET", "http://localhost/a").header("Cookie", &cookie);
    gateway.send(&question).expect(401);
}

#[test]
fn answer_may_be_kept_only_where_nothing_else_can_change_it() {
    let gateway = setup("[forward_auth]\ncache = \"5s\"\n").start();
    let token = corp_token("ann", &["admin"]);
    for question in families("GET", "/admin/x") {
        let answer = gateway.send(&question.bearer(&token)).expect(200);
        assert_eq!(answer.header("cache-control"), Some("private, max-age=5"));
        assert_eq!(
            values(&answer.fields, "vary"),
            [
                "Cookie, Authorization",
                "Origin, Sec-Fetch-Site, Sec-WebSocket-Version"
            ]
        );
        assert_eq!(answer.header("x-accel-expires"), Some("5"));
    }
    let anonymous = gateway
        .send(&original("GET", "http://localhost/public/x"))
        .expect(200);
    assert_eq!(anonymous.header("cache-control"), Some("private, max-age=5"));
    let mut claims = corp_claims("ann");
    claims["exp"] = (now() + 3).into();
    let answer = gateway.send(&original("GET", "http://localhost/a").bearer(&corp_token_of(&claims)));
    let kept = answer.expect(200).header("cache-control").unwrap().to_owned();
    let seconds: i64 = kept.strip_prefix("private, max-age=").unwrap().parse().unwrap();
    assert!((1..=3).contains(&seconds), "{kept}");
    for uri in ["/admin/x", "/a//b"] {
        let refused = gateway.send(&original("GET", &format!("http://localhost{uri}")));
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        assert_eq!(refused.header("vary"), None);
        assert_eq!(refused.header("x-accel-expires"), None);
    }
}

#[test]
fn answer_by_time_or_origin_of_a_session_is_never_kept() {
    let setup = setup("[forward_auth]\ncache = \"60s\"\n");
    setup.add_account("ann@example.com", &["user"]);
    let gateway = setup.start();
    let cookie = gateway.sign_in("ann@example.com");
    for (method, uri, kept) in [
        ("GET", "/recent/x", "no-store"),
        ("GET", "/a", "private, max-age=60"),
        ("HEAD", "/a", "private, max-age=60"),
        ("POST", "/a", "no-store"),
    ] {
        let question = original(method, &format!("http://localhost{uri}")).header("Cookie", &cookie);
        let answer = gateway.send(&question).expect(200);
        assert_eq!(answer.header("cache-control"), Some(kept), "{method} {uri}");
    }
    let handshake = original("GET", "http://localhost/a").header("Sec-WebSocket-Version", "13");
    let answer = gateway.send(&handshake.header("Cookie", &cookie)).expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn rate_limit_counts_questions_and_its_answers_are_never_kept() {
    let gateway = setup("[forward_auth]\ncache = \"60s\"\n").start();
    let url = "http://localhost/limited/x";
    let first = gateway
        .send(&original("GET", url).header("X-Forwarded-For", "192.0.2.1"))
        .expect(200);
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let second = gateway
        .send(&original("GET", url).header("X-Forwarded-For", "192.0.2.1"))
        .expect(403);
    assert_eq!(second.header("x-auth-status"), Some("429"));
    assert!(second.header("retry-after").is_some());
    let third = forwarded("GET", "localhost", "/limited/x").header("X-Forwarded-For", "192.0.2.1");
    gateway.send(&third).expect(429);
    gateway
        .send(&original("GET", url).header("X-Forwarded-For", "192.0.2.2"))
        .expect(200);
}

#[test]
fn log_line_is_about_the_request_that_was_asked_about() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["user"]);
    gateway
        .send(&original("DELETE", "http://localhost/admin/7?secret").bearer(&token))
        .expect(403);
    let line = gateway.log_line(|line| line["path"] == "/admin/7");
    assert_eq!(line["forward_auth"], true);
    assert_eq!(
        (&line["method"], &line["host"]),
        (&"DELETE".into(), &"localhost".into())
    );
    assert_eq!(
        (&line["route"], &line["subject"]),
        (&"/admin/*".into(), &"ann".into())
    );
    assert_eq!(
        (&line["decision"], &line["reason"]),
        (&"refuse".into(), &"role-refused".into())
    );
    assert!(line["rule"].as_str().unwrap().contains("admin"), "{line}");
    gateway.get("/other").expect(404);
    let line = gateway.log_line(|line| line["path"] == "/other");
    assert_eq!(line.get("forward_auth"), None);
}

#[test]
fn question_by_any_method_and_its_body_does_not_matter() {
    let gateway = setup("").start();
    let token = corp_token("ann", &["user"]);
    let mut client = gateway.connect();
    for (asked, method) in [
        ("HEAD", "GET"),
        ("GET", "HEAD"),
        ("POST", "GET"),
        ("OPTIONS", "PUT"),
        ("PUT", "HEAD"),
    ] {
        let question = Request::new(asked, "/auth/verify")
            .host("localhost")
            .header("X-Original-URL", "http://localhost/a")
            .header("X-Original-Method", method);
        client.send(question.bearer(&token).bytes());
        client.response_to(asked).expect(200);
    }
    // Refusals of requests with HEAD have a body where the question is a GET.
    let refused = original("HEAD", "http://localhost/admin/x").bearer(&token);
    client.send(refused.bytes());
    let answer = client.response().expect(403);
    assert!(!answer.body.is_empty());
    let upload = Request::post("/auth/verify", vec![b'x'; 200_000])
        .host("localhost")
        .header("X-Original-URL", "http://localhost/a")
        .header("X-Original-Method", "POST");
    gateway.send(&upload.bearer(&token)).expect(200);
}

#[test]
fn gateway_without_sign_in_answers_too() {
    let toml = format!(
        "{}\n[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [upstreams.elsewhere]\nbuiltin = \"forward-auth\"\n[[routes]]\npath = \"/*\"\nupstream = \"elsewhere\"\n",
        super::support::gateway::CORP_ISSUER
    );
    let gateway = Gateway::start(&toml);
    let question = || original("GET", "http://app.test/a");
    gateway
        .send(&question().bearer(&corp_token("ann", &[])))
        .expect(200);
    let refused = gateway.send(&question().by_browser()).expect(401);
    assert_eq!(refused.header("location"), None);
}
