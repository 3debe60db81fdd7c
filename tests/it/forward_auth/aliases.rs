//! Proxies and apps that were set up with oauth2-proxy or Authelia.

use serde_json::json;

use super::super::support::openid::OpenId;
use super::super::support::tokens::{corp_claims, corp_token_of};
use super::super::support::{Gateway, Request, Setup, corp_token};
use super::{Browsing, setup};

const BOTH: &str = "[forward_auth]\naliases = [\"oauth2-proxy\", \"authelia\"]\n";

fn asked(target: &str, fields: &[(&str, &str)]) -> Request {
    fields.iter().fold(
        Request::get(target).host("localhost"),
        |request, (name, value)| request.header(name, value),
    )
}

/// What ingress-nginx asks oauth2-proxy.
fn oauth2(query: &str, method: &str, uri: &str) -> Request {
    let url = format!("http://localhost{uri}");
    asked(
        &format!("/oauth2/auth{query}"),
        &[("X-Original-URL", &url), ("X-Original-Method", method)],
    )
}

fn token() -> String {
    let mut claims = corp_claims("ann");
    claims["roles"] = json!(["admin", "dev"]);
    claims["email"] = "Ann@Example.com".into();
    claims["preferred_username"] = "annie".into();
    claims["name"] = "Ann".into();
    corp_token_of(&claims)
}

#[test]
fn without_aliases_the_addresses_belong_to_routes() {
    let gateway = setup("").start();
    for target in [
        "/oauth2/auth",
        "/oauth2/start",
        "/api/authz/auth-request",
        "/api/authz/ext-authz/x",
    ] {
        let question = asked(
            target,
            &[
                ("X-Original-URL", "http://localhost/public/x"),
                ("X-Original-Method", "GET"),
            ],
        );
        gateway.send(&question.bearer(&token())).expect(404);
        let line = gateway.log_line(|line| line["path"] == target);
        assert_eq!(line["route"], "/*", "{target}");
    }
}

#[test]
fn oauth2_auth_is_202_with_its_own_headers() {
    let gateway = setup(BOTH).start();
    let answer = gateway
        .send(&oauth2("", "GET", "/admin/x").bearer(&token()))
        .expect(202);
    for (name, value) in [
        ("x-auth-request-user", "ann"),
        ("x-auth-request-email", "Ann@Example.com"),
        ("x-auth-request-groups", "admin,dev"),
        ("x-auth-request-preferred-username", "annie"),
        ("x-auth-user", "ann"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let anonymous = gateway.send(&oauth2("", "GET", "/public/x")).expect(202);
    assert_eq!(anonymous.header("x-auth-request-user"), Some(""));
    let traefik = [
        ("X-Forwarded-Uri", "/a"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Host", "localhost"),
    ];
    gateway
        .send(&asked("/oauth2/auth", &traefik).bearer(&token()))
        .expect(202);
    // It knows 401 and 403 alone.
    gateway
        .send(&asked("/oauth2/auth", &traefik).by_browser())
        .expect(401);
    let missing = [("X-Forwarded-Uri", "/a%2fb"), traefik[1], traefik[2]];
    let refused = gateway
        .send(&asked("/oauth2/auth", &missing).bearer(&token()))
        .expect(403);
    assert_eq!(refused.header("x-auth-status"), Some("400"));
    gateway
        .send(&oauth2("", "GET", "/admin/x").bearer(&corp_token("bob", &[])))
        .expect(403);
}

#[test]
fn conditions_of_oauth2_auth_have_to_hold_as_well() {
    let gateway = setup(BOTH).start();
    let status = |query: &str, token: &str| gateway.send(&oauth2(query, "GET", "/a").bearer(token)).status;
    for (query, expected) in [
        ("?allowed_groups=dev", 202),
        ("?allowed_groups=ops,dev", 202),
        ("?allowed_groups=ops&allowed_groups=dev", 202),
        ("?allowed_groups=ops%2Cdev", 202),
        ("?allowed_groups=ops", 403),
        ("?allowed_groups=DEV", 403),
        ("?allowed_groups=", 403),
        ("?allowed_groups", 403),
        ("?allowed_emails=ann@example.com", 202),
        ("?allowed_emails=ann%40example.com,b@c", 202),
        ("?allowed_emails=bob@example.com", 403),
        ("?allowed_email_domains=example.com", 202),
        ("?allowed_email_domains=EXAMPLE.com", 202),
        ("?allowed_email_domains=.com", 202),
        ("?allowed_email_domains=*.com", 202),
        ("?allowed_email_domains=.example.com", 403),
        ("?allowed_email_domains=ample.com", 403),
        ("?allowed_email_domains=com", 403),
        ("?allowed_groups=dev&allowed_emails=bob@example.com", 403),
        ("?allowed_groups=dev&allowed_email_domains=example.com", 202),
        ("?allowed_roles=dev", 403),
        ("?Allowed_groups=dev", 403),
        ("?allowed%5Fgroups=ops", 403),
        ("?redirect", 403),
        ("?%zz=x", 403),
    ] {
        assert_eq!(status(query, &token()), expected, "{query}");
    }
    let mut claims = corp_claims("ann");
    (claims["email"], claims["email_verified"]) = ("ann@example.com".into(), false.into());
    assert_eq!(
        status("?allowed_emails=ann@example.com", &corp_token_of(&claims)),
        403
    );
    assert_eq!(
        status("?allowed_email_domains=example.com", &corp_token_of(&claims)),
        403
    );
    // Without a caller no condition holds.
    gateway
        .send(&oauth2("?allowed_groups=dev", "GET", "/public/x").bearer(&token()))
        .expect(403);
    gateway
        .send(&oauth2("?allowed_groups=dev", "GET", "/maybe/x"))
        .expect(401);
    let line = gateway.log_line(|line| line["reason"] == "condition-refused");
    assert_eq!(line["forward_auth"], true);
    gateway.log_line(|line| line["reason"] == "condition-unknown");
    gateway.diagnostic("allowed_roles");
}

#[test]
fn other_addresses_of_oauth2_proxy_lead_to_endpoints_of_the_gateway() {
    let setup = setup(BOTH);
    setup.add_account("ann@example.com", &["dev"]);
    let gateway = setup.start();
    let location = |target: &str| {
        let answer = gateway
            .send(&Request::get(target).host("localhost").by_browser())
            .expect(302);
        answer.header("location").unwrap().to_owned()
    };
    assert_eq!(
        location("/oauth2/start?rd=/a%3Fb%26c"),
        "/auth/login?return_to=/a%3Fb%26c"
    );
    assert_eq!(
        location("/oauth2/sign_in?rd=https%3A%2F%2Fevil.example%2F"),
        "/auth/login?return_to=https%3A//evil.example/",
        "the sign-in page does not accept it"
    );
    assert_eq!(location("/oauth2/start"), "/auth/login");
    assert_eq!(location("/oauth2/sign_out?rd=/x"), "/auth/logout");
    let cookie = gateway.sign_in("ann@example.com");
    let userinfo = Request::get("/oauth2/userinfo").host("localhost");
    gateway.send(&userinfo.clone()).expect(401);
    let answer = gateway
        .send(&userinfo.header("Cookie", &cookie))
        .expect(200)
        .json();
    assert_eq!(
        (&answer["email"], &answer["groups"]),
        (&json!("ann@example.com"), &json!(["dev"]))
    );
    for target in [
        "/oauth2/callback?code=x",
        "/oauth2/",
        "/oauth2",
        "/oauth2/other",
        "/api/authz",
        "/api/authz/legacy",
    ] {
        gateway
            .send(&Request::get(target).host("localhost").header("Cookie", &cookie))
            .expect(404);
    }
}

#[test]
fn callback_of_oauth2_proxy_leads_to_the_return_of_the_only_provider() {
    let provider = OpenId::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let toml = format!(
        "{server}{BOTH}{}[upstreams.w]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"w\"\n",
        provider.table("allow = \"anyone\"")
    );
    let setup = Setup::new(&toml);
    setup.write("sso.secret", super::super::support::openid::CLIENT_SECRET);
    let gateway: Gateway = setup.start();
    let answer = gateway.send(&Request::get("/oauth2/callback?code=a%20b&state=c").host("localhost"));
    assert_eq!(
        answer.expect(302).header("location"),
        Some("/auth/login/sso/return?code=a%20b&state=c")
    );
}

#[test]
fn endpoints_of_authelia_take_their_own_family() {
    let gateway = setup(BOTH).start();
    let original = [
        ("X-Original-URL", "http://localhost/admin/x"),
        ("X-Original-Method", "GET"),
    ];
    let forwarded = [
        ("X-Forwarded-Uri", "/admin/x"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Host", "localhost"),
    ];
    let sent = |target: &str, fields: &[(&str, &str)]| gateway.send(&asked(target, fields).bearer(&token()));
    for (target, fields) in [
        ("/api/authz/auth-request", &original[..]),
        ("/api/authz/forward-auth", &forwarded),
        (
            "/api/authz/forward-auth?authelia_url=https%3A%2F%2Fauth.example.com",
            &forwarded,
        ),
        ("/api/authz/ext-authz/admin/x", &[]),
        ("/api/authz/ext-authz//admin/x", &[]),
    ] {
        let answer = sent(target, fields).expect(200);
        for (name, value) in [
            ("remote-user", "ann"),
            ("remote-groups", "admin,dev"),
            ("remote-email", "Ann@Example.com"),
            ("remote-name", "Ann"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target} {name}");
        }
    }
    sent("/api/authz/auth-request", &forwarded).expect(400);
    sent("/api/authz/forward-auth", &original).expect(400);
    sent("/api/authz/forward-auth?policy=two_factor", &forwarded).expect(403);
    sent("/api/authz/ext-authz///admin/x", &[]).expect(400);
    sent("/api/authz/ext-authz", &[]).expect(404);
    sent("/api/authz/ext%2Dauthz/public/x", &[]).expect(404);
    // Traefik and Envoy hand a redirect on, nginx does not.
    let browsing = |target: &str, fields: &[(&str, &str)]| gateway.send(&asked(target, fields).by_browser());
    let location = Some("http://localhost/auth/login?return_to=http%3A//localhost/admin/x");
    for (status, target, fields) in [
        (401, "/api/authz/auth-request", &original[..]),
        (302, "/api/authz/forward-auth", &forwarded),
        (302, "/api/authz/ext-authz/admin/x", &[]),
    ] {
        assert_eq!(
            browsing(target, fields).expect(status).header("location"),
            location,
            "{target}"
        );
    }
}

#[test]
fn peer_that_is_not_trusted_may_not_ask_at_other_addresses_either() {
    let toml = setup(BOTH);
    let text = std::fs::read_to_string(toml.path("gateway.toml")).unwrap();
    toml.rewrite(&text.replace(
        "trusted_proxies = [\"127.0.0.1\"]",
        "trusted_proxies = [\"192.0.2.1\"]",
    ));
    let gateway = toml.start();
    for target in [
        "/oauth2/auth",
        "/api/authz/auth-request",
        "/api/authz/forward-auth",
        "/api/authz/ext-authz/public/x",
    ] {
        let fields = [
            ("X-Original-URL", "http://localhost/public/x"),
            ("X-Original-Method", "GET"),
        ];
        gateway.send(&asked(target, &fields).bearer(&token())).expect(403);
    }
}

#[test]
fn route_at_an_address_of_an_alias_is_an_error() {
    let more = "[[routes]]\npath = \"/oauth2/*\"\nupstream = \"app\"\n[[routes]]\npath = \"/api/authz/x\"\nupstream = \"app\"\n";
    let output = setup(&format!("{BOTH}{more}")).command(["check"]).expect(2);
    assert_eq!(
        output
            .all()
            .matches("is where the gateway itself answers")
            .count(),
        2,
        "{}",
        output.all()
    );
    assert!(
        output.all().contains("`aliases` in `[forward_auth]`"),
        "{}",
        output.all()
    );
    setup(more).command(["check"]).expect(0);
}
