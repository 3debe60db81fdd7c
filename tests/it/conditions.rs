//! Conditions (`when` of a route) through the listener: what they read, what has no answer, spellings of a path, and what
//! `[[tests]]`, `explain` and `check` say.

use serde_json::{Value, json};

use super::support::gateway::before;
use super::support::tokens::{corp_claims, corp_token_of};
use super::support::{App, Gateway, Response, Setup, corp_token};

const ROUTES: &str = r#"
[[routes]]
path = "/tenants/{tenant}/*"
when = 'claims.tenant == path.tenant || "operator" in roles'
upstream = "app"
[[routes]]
path = "/a/{first}/b/{second}"
methods = ["GET", "PUT"]
roles = ["user"]
when = 'path.first == subject && (method == "GET" || path.second in claims.writes)'
upstream = "app"
[[routes]]
path = "/mail/*"
when = 'claims.email.endsWith("@example.com")'
upstream = "app"
[[routes]]
path = "/loose/{name}"
accept = ["encoded-slash", "path-parameter", "not-utf8"]
when = 'path.name == claims.name'
upstream = "app"
[[routes]]
path = "/shadow/*"
when = 'claims.tenant == "acme"'
enforce = "log"
upstream = "app"
[[routes]]
host = "*.example.com"
path = "/host/*"
when = 'host == claims.tenant + ".example.com" && issuer == "corp" && "read" in scopes'
upstream = "app"
"#;

fn token(more: &Value) -> String {
    let mut claims = corp_claims("alice");
    claims
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    corp_token_of(&claims)
}

#[track_caller]
fn expect_rule(gateway: &Gateway, response: &Response, rule: &str) {
    let line = gateway.log_of(response);
    assert_eq!(
        (&line["reason"], response.status),
        (&json!("when-refused"), 403),
        "{line}"
    );
    let said = line["rule"].as_str().unwrap();
    assert!(said.contains(rule) && said.contains("gateway.toml:"), "{said}");
}

#[test]
fn tenant_of_the_token_has_to_be_that_of_the_path() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let acme = token(&json!({ "tenant": "acme" }));
    for (path, status) in [
        ("/tenants/acme/x", 200),
        ("/tenants/acme", 200),
        ("/tenants/%61cme/x", 200),
        ("/tenants/other/x", 403),
        ("/tenants/ACME/x", 403),
        ("/tenants/acme%20/x", 403),
        ("/tenants/acme%00/x", 400),
        ("/tenants/acme/../other/x", 400),
        ("/tenants/other%2F..%2Facme/x", 400),
        ("/tenants/other;acme/x", 400),
    ] {
        let answer = gateway.get_as(&acme, path);
        assert_eq!(answer.status, status, "{path}");
    }
    let answer = gateway.get_as(&acme, "/tenants/other/x");
    expect_rule(
        &gateway,
        &answer,
        "the condition `claims.tenant == path.tenant || \"operator\" in roles`",
    );
    assert!(!answer.text().contains("tenant"), "{}", answer.text());
    // No answer is no yes: the claim is missing, or is a list.
    gateway
        .get_as(&corp_token("alice", &[]), "/tenants/acme/x")
        .expect(403);
    gateway
        .get_as(&token(&json!({ "tenant": ["acme"] })), "/tenants/acme/x")
        .expect(403);
    // A part that does not matter may have none.
    gateway
        .get_as(&corp_token("root", &["operator"]), "/tenants/acme/x")
        .expect(200);
    // The request has no caller, or a bad one.
    gateway.get("/tenants/acme/x").expect(401);
    gateway.get_as("bad", "/tenants/acme/x").expect(401);
    let spaced = token(&json!({ "tenant": "a b/c" }));
    gateway.get_as(&spaced, "/tenants/a%20b/x").expect(403);
    gateway
        .get_as(&token(&json!({ "tenant": "a b" })), "/tenants/a%20b/x")
        .expect(200);
}

#[test]
fn condition_holds_beside_the_other_rules() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let user = |more: Value| {
        let mut claims = json!({ "roles": ["user"] });
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        token(&claims)
    };
    let writer = user(json!({ "writes": ["x", 7] }));
    let put = |token: &str, path: &str| {
        gateway
            .send(&super::support::Request::new("PUT", path).bearer(token))
            .status
    };
    gateway
        .get_as(&user(json!({})), "/a/alice/b/anything")
        .expect(200);
    gateway.get_as(&user(json!({})), "/a/bob/b/anything").expect(403);
    assert_eq!(put(&writer, "/a/alice/b/x"), 200);
    assert_eq!(put(&writer, "/a/alice/b/7"), 403, "text is no number");
    assert_eq!(put(&user(json!({})), "/a/alice/b/x"), 403);
    assert_eq!(put(&user(json!({ "writes": "x" })), "/a/alice/b/x"), 403);
    let answer = gateway.get_as(&token(&json!({ "roles": ["guest"] })), "/a/alice/b/x");
    assert_eq!(gateway.log_of(&answer)["reason"], "role-refused");
}

#[test]
fn unverified_email_is_no_claim_of_a_condition() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    for (more, status) in [
        (
            json!({ "email": "alice@example.com", "email_verified": true }),
            200,
        ),
        (
            json!({ "email": "alice@example.com", "email_verified": false }),
            403,
        ),
        (
            json!({ "email": "alice@example.com", "email_verified": "true" }),
            403,
        ),
        (
            json!({ "email": "alice@evil.example", "email_verified": true }),
            403,
        ),
        (json!({}), 403),
    ] {
        let answer = gateway.get_as(&token(&more), "/mail/x");
        assert_eq!(answer.status, status, "{more}");
    }
}

#[test]
fn parameter_is_what_the_app_reads_of_its_segment() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    for (name, path, status) in [
        ("a/b", "/loose/a%2Fb", 200),
        ("a", "/loose/a%2Fb", 403),
        ("a", "/loose/a;v=1", 200),
        ("a;v=1", "/loose/a;v=1", 403),
        ("é", "/loose/%C3%A9", 200),
        ("\u{fffd}", "/loose/%FF", 403),
        ("%FF", "/loose/%FF", 403),
    ] {
        let answer = gateway.get_as(&token(&json!({ "name": name })), path);
        assert_eq!(answer.status, status, "{name} {path}");
    }
}

#[test]
fn condition_reads_host_issuer_and_scopes() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let of = |host: &str, more: &Value| {
        let request = super::support::Request::get("/host/x").host(host);
        gateway.send(&request.bearer(&token(more))).status
    };
    let acme = json!({ "tenant": "acme", "scope": "read write" });
    assert_eq!(of("acme.example.com", &acme), 200);
    assert_eq!(of("ACME.example.com:8080", &acme), 200);
    assert_eq!(of("other.example.com", &acme), 403);
    assert_eq!(
        of("acme.example.com", &json!({ "tenant": "acme", "scope": "write" })),
        403
    );
}

#[test]
fn condition_that_is_only_logged_passes() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let logged = |tenant: &str, path: &str| {
        gateway
            .get_as(&token(&json!({ "tenant": tenant })), path)
            .expect(200);
        gateway.log_line(|line| line["path"] == path)
    };
    let line = logged("other", "/shadow/x");
    assert_eq!(line["shadow"], "refuse", "{line}");
    assert!(
        line["rule"]
            .as_str()
            .unwrap()
            .starts_with("the condition `claims.tenant"),
        "{line}"
    );
    assert_eq!(logged("acme", "/shadow/y").get("shadow"), None);
}

const TESTS: &str = r#"
[[tests]]
request = "GET /tenants/acme/x"
as = { claims = { tenant = "acme" } }
expect = "allow"
[[tests]]
request = "GET /tenants/other/x"
as = { claims = { tenant = "acme" } }
expect = 403
[[tests]]
request = "GET /tenants/other/x"
as = { roles = ["operator"] }
expect = "allow"
"#;

#[test]
fn tests_of_a_file_explain_and_check_know_conditions() {
    let app = App::start();
    let setup = Setup::new(&before(&app, &format!("{ROUTES}{TESTS}")));
    let checked = setup.command(["check", "--format", "json"]).expect(0).json();
    let routes = checked["routes"].as_array().unwrap();
    let route = routes.iter().find(|route| route["path"] == "/mail/*").unwrap();
    assert_eq!(
        route["who"],
        json!({ "auth": "required", "when": "claims.email.endsWith(\"@example.com\")" })
    );
    let explain = |words: &[&str]| {
        let words = [&["explain", "GET"], words].concat();
        let said = setup.command(words).expect(3);
        said.stdout
    };
    let text = explain(&["/tenants/other/x", "--as", "alice"]);
    assert!(text.contains("it has no answer: No such key: tenant"), "{text}");
    assert!(
        text.contains("the condition `claims.tenant == path.tenant"),
        "{text}"
    );
    let bearer = format!("Authorization: Bearer {}", token(&json!({ "tenant": "acme" })));
    let text = explain(&["/tenants/other/x", "-H", &bearer]);
    assert!(text.contains("it does not hold"), "{text}");
}

#[test]
fn condition_that_cannot_be_compiled_is_an_error_of_the_file() {
    let app = App::start();
    for (when, message, hint) in [
        (
            "claims.tenant = path.tenant",
            "`when`: the condition is not valid CEL",
            "in quotes",
        ),
        (
            "claims.tenant == path.name",
            "the path of the route has no parameter `name`",
            "it has `tenant`",
        ),
        (
            "user.tenant == path.tenant",
            "a condition cannot read `user`",
            "it reads `claims`",
        ),
        (
            "claims.tenant.matches(path.tenant)",
            "a condition has no function `matches`",
            "startsWith",
        ),
        ("true", "the condition reads nothing of the request", "remove it"),
    ] {
        let routes = format!("[[routes]]\npath = \"/t/{{tenant}}/*\"\nupstream = \"app\"\nwhen = '{when}'\n");
        let setup = Setup::new(&before(&app, &routes));
        let said = setup.command(["check"]).expect(2).stderr;
        assert!(said.contains(message) && said.contains(hint), "{when}: {said}");
        assert!(said.contains("gateway.toml:"), "{said}");
    }
    let open =
        "[[routes]]\npath = \"/t/*\"\nupstream = \"app\"\nauth = \"optional\"\nwhen = 'subject == \"a\"'\n";
    let said = Setup::new(&before(&app, open))
        .command(["check"])
        .expect(2)
        .stderr;
    assert!(
        said.contains("lets every request around the rules of this route"),
        "{said}"
    );
}
