//! `passgate why` and the decisions on the admin port: what the gateway remembers of requests, and who sees it.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::support::gateway::before;
use super::support::people::sign_in_gateway;
use super::support::tokens::{corp_claims, corp_token_of};
use super::support::{App, Client, Gateway, Request, Setup, corp_token, eventually};

const SOCKET: &str = "passgate-admin.sock";

const ROUTES: &str = r#"
[credentials]
sources = [{ cookie = "token" }, { header = "authorization", scheme = "Bearer" }, { query = "access_token" }]
[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"
[[routes]]
path = "/tenant/*"
claims = { tenant = "acme" }
scopes = ["read"]
upstream = "app"
[[routes]]
path = "/open/*"
auth = "none"
upstream = "app"
"#;

/// The decision about the request of this answer.
#[track_caller]
fn why(gateway: &Gateway, id: &str, code: i32) -> Value {
    gateway
        .command(["why", id, "--format", "json"])
        .expect(code)
        .json()
}

/// Asks, and returns the id of the request once its decision is remembered.
#[track_caller]
fn ask(gateway: &Gateway, request: &Request, status: u16) -> String {
    let answer = gateway.send(request).expect(status);
    match answer.header("x-request-id") {
        Some(id) => {
            let id = id.to_owned();
            gateway.log_line(|line| line["request_id"] == id.as_str());
            id
        }
        // The app answered.
        None => last_of(gateway, &request.target),
    }
}

#[track_caller]
fn last_of(gateway: &Gateway, target: &str) -> String {
    let path = target.split('?').next().unwrap();
    let line = gateway.log_line(|line| line["path"] == path);
    line["request_id"].as_str().unwrap().to_owned()
}

/// `✗ …` steps of a decision.
fn failed(told: &Value) -> Vec<String> {
    let steps = told["steps"].as_array().unwrap().iter();
    steps
        .filter(|step| step["passed"] == false)
        .map(|step| {
            format!(
                "{}: {}",
                step["step"].as_str().unwrap(),
                step["detail"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn refused_request_is_told_with_its_sources_checks_rule_and_line() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let token = corp_token("alice", &["user"]);
    let request = Request::get("/admin/users?q=private")
        .header("Cookie", "token=rubbish.rubbish.rubbish")
        .bearer(&token);
    let id = ask(&gateway, &request, 403);
    let text = gateway.command(["why", &id]).expect(3).stdout;
    for line in [
        "GET /admin/users on host app.test\n",
        "from 127.0.0.1, request id ",
        "\ntarget\n  ✓ canonical path /admin/users\nroute\n  ✓ /admin/* (",
        "✓ cookie `token`: a bad cookie is as good as none (token-malformed)\n",
        ": of the issuer `corp`, for `alice`\n",
        "✗ any of the roles `admin` (",
        "): the caller has the roles `user`\nrefused: 403 Forbidden (role-refused)\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert!(
        !text.contains("query parameter"),
        "what was not looked at: {text}"
    );
    assert!(!text.contains("private") && !text.contains(&token[..40]) && !text.contains("rubbish"));

    let told = why(&gateway, &id, 3);
    let route_line = told["route_place"].as_str().unwrap();
    assert!(route_line.contains("gateway.toml:"), "{told}");
    assert_eq!(
        (
            &told["subject"],
            &told["roles"],
            &told["status"],
            &told["decision"]
        ),
        (&json!("alice"), &json!(["user"]), &json!(403), &json!("refuse"))
    );
    let all = told.to_string();
    assert!(!all.contains("private") && !all.contains(&token) && !all.contains("rubbish"));
}

#[test]
fn allowed_request_and_a_request_of_no_caller_are_told() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let token = corp_token("root", &["admin"]);
    let id = ask(&gateway, &Request::get("/admin/a").bearer(&token), 200);
    let text = gateway.command(["why", &id]).expect(0).stdout;
    assert!(text.ends_with("allowed: the answer was 200 OK\n"), "{text}");
    assert!(text.contains("cookie `token`: there is none\n"), "{text}");

    let id = ask(&gateway, &Request::get("/open/a"), 200);
    let told = why(&gateway, &id, 0);
    assert_eq!(
        (&told["subject"], &told["credentials_read"]),
        (&Value::Null, &json!(false))
    );
    let id = ask(&gateway, &Request::get("/admin/b"), 401);
    let told = why(&gateway, &id, 3);
    let failed = failed(&told);
    assert!(
        failed.len() == 1 && failed[0].starts_with("rules: auth = \"required\""),
        "{failed:?}"
    );
    let id = ask(&gateway, &Request::get("/nothing").host("app.test"), 404);
    assert_eq!(
        self::failed(&why(&gateway, &id, 3)),
        ["route: no route covers this path on this host"]
    );
}

#[test]
fn each_check_is_told_as_it_was_and_claims_that_rules_read() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let mut claims = corp_claims("bob");
    claims["tenant"] = json!("other");
    claims["scope"] = json!("read");
    let id = ask(
        &gateway,
        &Request::get("/tenant/a").bearer(&corp_token_of(&claims)),
        403,
    );
    let told = why(&gateway, &id, 3);
    let failed = failed(&told);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].contains("the claim `tenant` is or contains `\"acme\"`")
            && failed[0].contains("the caller has `\"other\"`")
    );
    let expired = {
        claims["exp"] = json!(1_000_000_000);
        corp_token_of(&claims)
    };
    let id = ask(&gateway, &Request::get("/tenant/a").bearer(&expired), 401);
    let told = why(&gateway, &id, 3);
    assert_eq!(told["credential_refused"], "expired");
    let failed = self::failed(&told);
    assert!(
        failed.len() == 1 && failed[0].starts_with("credential: ") && failed[0].ends_with(": expired"),
        "{failed:?}"
    );
}

#[test]
fn rule_and_line_are_those_of_then_after_a_reload() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let id = ask(
        &gateway,
        &Request::get("/admin/x").bearer(&corp_token("alice", &["user"])),
        403,
    );
    let before_reload = why(&gateway, &id, 3);
    gateway.setup.rewrite(&before(
        &app,
        "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n",
    ));
    gateway.signal("HUP");
    gateway.diagnostic("configuration read again");
    assert_eq!(why(&gateway, &id, 3), before_reload);
}

#[test]
fn session_cookie_and_own_endpoints_are_told() {
    let app = App::start();
    let gateway = sign_in_gateway(
        &app,
        "[[routes]]\npath = \"/team/*\"\nroles = [\"lead\"]\nupstream = \"app\"\n",
    );
    gateway.setup.add_account("ann@example.com", &["user"]);
    let cookie = gateway.sign_in("ann@example.com");
    let request = Request::get("/team/x").header("Cookie", &cookie);
    let id = ask(&gateway, &request, 403);
    let text = gateway.command(["why", &id]).expect(3).stdout;
    assert!(text.contains(": there is none\n  ✓ session cookie `"), "{text}");
    assert!(text.contains("of the issuer `session`"), "{text}");
    assert!(!text.contains(cookie.split_once('=').unwrap().1));
    let id = ask(&gateway, &Request::get("/auth/me"), 401);
    let told = why(&gateway, &id, 3);
    assert_eq!(told["route"], "(own)");
    assert_eq!(failed(&told), ["endpoint: credential-missing"]);
}

#[test]
fn unknown_id_bad_id_and_no_gateway_are_told_apart() {
    let app = App::start();
    let mut gateway = Gateway::before(&app, ROUTES);
    let said = gateway.command(["why", "0192"]).expect(1).stderr;
    assert!(
        said.contains("does not remember the request `0192`") && said.contains("hint: "),
        "{said}"
    );
    for id in ["a b", "../metrics?", "", "a\u{e9}", &"x".repeat(129)] {
        let said = gateway.command(["why", id]).expect(2).stderr;
        assert!(said.contains("this is no request id"), "{id}: {said}");
    }
    assert_eq!(gateway.stop(), Some(0));
    let said = gateway.command(["why", "0192"]).expect(1).stderr;
    assert!(
        said.contains("no running gateway answers for") && said.contains(SOCKET),
        "{said}"
    );
    assert!(
        !gateway.setup.path(SOCKET).exists(),
        "the socket is removed at the end"
    );
}

#[test]
fn socket_beside_the_state_is_for_its_owner_and_a_second_gateway_takes_it_over() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(setup.path(SOCKET)).unwrap());
    let gateway = setup.start();
    let path = gateway.setup.path(SOCKET);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let id = ask(&gateway, &Request::get("/admin/x"), 401);
    why(&gateway, &id, 3);

    // Another process with the same state, and a file of its own.
    let other = Setup::new(&before(&app, ROUTES));
    let state = gateway.setup.path("passgate.db");
    let toml = std::fs::read_to_string(other.path("gateway.toml")).unwrap();
    other.write(
        "gateway.toml",
        toml.replace("sqlite:passgate.db", &format!("sqlite:{}", state.display())),
    );
    let mut second = other.start();
    second.diagnostic("another gateway has the same state");
    assert_eq!(mode(&path), 0o600);
    gateway.command(["why", &id]).expect(1);
    let id = ask(&second, &Request::get("/admin/x"), 401);
    why(&gateway, &id, 3);
    assert_eq!(second.stop(), Some(0));
    assert!(!path.exists());
}

#[test]
fn gateway_serves_where_the_socket_beside_the_state_cannot_be_made() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    setup.write(SOCKET, "no socket");
    let gateway = setup.start();
    gateway.diagnostic("there is a file, and it is no socket");
    gateway.get("/open/a").expect(200);
    assert_eq!(std::fs::read(gateway.setup.path(SOCKET)).unwrap(), b"no socket");
}

#[test]
fn decisions_on_the_admin_port_are_for_this_machine_alone() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let id = ask(
        &gateway,
        &Request::get("/admin/x").bearer(&corp_token("alice", &["user"])),
        403,
    );
    let one = format!("/decisions/{id}");
    assert_eq!(gateway.admin_get(&one).expect(200).json()["subject"], "alice");
    let all = gateway.admin_get("/decisions").expect(200).json();
    assert!(
        all["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|told| told["request_id"] == id.as_str())
    );
    gateway.admin_get("/decisions/none").expect(404);
    let with = |name: &str, value: &str| {
        let request = Request::get(&one)
            .host(&gateway.admin.to_string())
            .header(name, value);
        let answer = request.send_to(gateway.admin);
        assert!(!answer.text().contains("alice") || answer.status == 200);
        answer.status
    };
    assert_eq!(with("X-Forwarded-For", "192.0.2.1"), 403);
    assert_eq!(with("Origin", "http://evil.example"), 403);
    assert_eq!(with("Sec-Fetch-Site", "cross-site"), 403);
    let rebound = Request::get(&one).host("evil.example").send_to(gateway.admin);
    assert_eq!(rebound.status, 421);
    let post = Request::post(&one, "")
        .host(&gateway.admin.to_string())
        .send_to(gateway.admin);
    assert_eq!(post.status, 405);
}

#[test]
fn token_lets_clients_behind_a_proxy_see_decisions_and_wrong_ones_are_limited() {
    let app = App::start();
    let setup = Setup::new(&before(
        &app,
        &format!("{ROUTES}[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"admin.secret\" }}\n"),
    ));
    setup.write("admin.secret", "0123456789abcdef\n");
    let gateway = setup.start();
    let asked = |token: Option<&str>, proxy: bool| {
        let mut request = Request::get("/decisions").host(&gateway.admin.to_string());
        if let Some(token) = token {
            request = request.bearer(token);
        }
        if proxy {
            request = request.header("X-Forwarded-For", "192.0.2.1");
        }
        request.send_to(gateway.admin).status
    };
    assert_eq!(asked(None, false), 200, "this machine needs none");
    assert_eq!(asked(None, true), 401);
    assert_eq!(asked(Some("0123456789abcdef"), true), 200);
    assert_eq!(asked(Some("0123456789abcdeg"), false), 401, "sent and wrong");
    // It is read again with the file.
    gateway.setup.write("admin.secret", "fedcba9876543210");
    eventually("the new token counts", || {
        asked(Some("fedcba9876543210"), true) == 200
    });
    assert_eq!(asked(Some("0123456789abcdef"), true), 401);
    eventually("wrong tokens are limited", || asked(Some("x"), true) == 429);
    assert_eq!(
        asked(Some("fedcba9876543210"), true),
        429,
        "nor is a right one looked at"
    );
    assert_eq!(asked(None, false), 200);
}

#[test]
fn admin_port_on_a_unix_socket_is_for_its_owner() {
    let app = App::start();
    let setup = Setup::new(&before(
        &app,
        &format!("{ROUTES}[admin]\nlisten = \"unix:admin.sock\"\n"),
    ));
    let mut gateway = setup.start();
    let path = gateway.setup.path("admin.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let request = Request::get("/decisions").host("anything.example");
    let answer = request.over(&mut Client::connect_unix(&path));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(gateway.stop(), Some(0));
    assert!(!path.exists());
}

#[test]
fn flood_of_allowed_requests_and_of_one_client_does_not_push_a_refusal_out() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let id = ask(
        &gateway,
        &Request::get("/admin/x").bearer(&corp_token("alice", &["user"])),
        403,
    );
    let mut client = gateway.connect();
    let request = Request::get("/open/a");
    for _ in 0..3000 {
        assert_eq!(request.over(&mut client).status, 200);
    }
    why(&gateway, &id, 3);
}

#[test]
fn token_that_is_short_or_missing_is_an_error_of_the_file() {
    let app = App::start();
    let setup = Setup::new(&before(
        &app,
        &format!("{ROUTES}[admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"admin.secret\" }}\n"),
    ));
    let said = setup.command(["check"]).expect(2).stderr;
    assert!(said.contains("`token` cannot be used: "), "{said}");
    setup.write("admin.secret", "short\n");
    let said = setup.command(["check"]).expect(2).stderr;
    assert!(said.contains("it has 5 bytes, and needs at least 16"), "{said}");
    assert!(!said.contains("short"), "{said}");
    setup.write("admin.secret", "0123456789abcdef\n");
    setup.command(["check"]).expect(0);
}
