//! `passgate diff`: who would gain or lose access with another file, by the decisions that a running gateway remembers.

use serde_json::{Value, json};

use super::support::gateway::{Output, before};
use super::support::people::{sign_in_gateway, sign_in_setup};
use super::support::tokens::{corp_claims, corp_token_of};
use super::support::{App, Gateway, Request, corp_token};

const ROUTES: &str = r#"
[[routes]]
path = "/reports/*"
roles = ["user", "admin"]
upstream = "app"
[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"
[[routes]]
path = "/open/*"
auth = "none"
upstream = "app"
[[routes]]
path = "/tenant/*"
claims = { tenant = "acme" }
upstream = "app"
[[routes]]
path = "/office/*"
from = ["10.0.0.0/8"]
upstream = "app"
"#;

/// A gateway that has answered some requests.
fn gateway(app: &App) -> Gateway {
    let gateway = Gateway::before(app, ROUTES);
    let (alice, root) = (corp_token("alice", &["user"]), corp_token("root", &["admin"]));
    for _ in 0..3 {
        gateway.get_as(&alice, "/reports/q3").expect(200);
    }
    gateway.get_as(&root, "/reports/q3").expect(200);
    gateway.get_as(&alice, "/admin/users").expect(403);
    gateway.get_as(&root, "/admin/users").expect(200);
    gateway.get("/open/a").expect(200);
    gateway.get("/admin/users").expect(401);
    gateway.get_as("rubbish", "/admin/bad").expect(401);
    gateway.get_as(&alice, "/office/a").expect(403);
    let mut claims = corp_claims("bob");
    claims["tenant"] = json!("acme");
    gateway.get_as(&corp_token_of(&claims), "/tenant/a").expect(200);
    gateway.get("/a/%2e%2e/b").expect(400);
    gateway.log_line(|line| line["reason"] == "path-dot-segment");
    gateway
}

#[track_caller]
fn diff(gateway: &Gateway, app: &App, change: impl Fn(&str) -> String) -> Output {
    gateway
        .setup
        .write("new.toml", complete(&before(app, &change(ROUTES))));
    let new = gateway.setup.path("new.toml").display().to_string();
    gateway.command(["diff", &new, "--format", "json"])
}

fn complete(toml: &str) -> String {
    format!("{toml}\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://app.test\"\n")
}

fn find<'a>(list: &'a Value, subject: &Value, route: &str) -> &'a Value {
    let found = list
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["subject"] == *subject && entry["route"] == route);
    found.unwrap_or_else(|| panic!("{route} for {subject} in {list}"))
}

#[test]
fn same_file_changes_nothing_and_exits_with_0() {
    let app = App::start();
    let gateway = gateway(&app);
    let answered = app.count();
    let told = diff(&gateway, &app, str::to_owned).expect(0).json();
    assert_eq!((&told["lose"], &told["gain"]), (&json!([]), &json!([])));
    assert_eq!(told["unchanged"], 11);
    assert_eq!(
        told["not_compared"],
        json!({ "refused before a route was looked for": 1 })
    );
    assert_eq!(app.count(), answered, "no request is sent again");
}

#[test]
fn file_that_opens_a_route_lists_who_would_get_in() {
    let app = App::start();
    let gateway = gateway(&app);
    let open = |routes: &str| routes.replacen("roles = [\"admin\"]", "roles = [\"admin\", \"user\"]", 1);
    let told = diff(&gateway, &app, open).expect(3).json();
    assert_eq!(told["lose"], json!([]));
    assert_eq!(told["gain"].as_array().unwrap().len(), 1, "{told}");
    let gain = find(&told["gain"], &json!("alice"), "/admin/*");
    assert_eq!((&gain["requests"], &gain["roles"]), (&json!(1), &json!(["user"])));
    assert_eq!(
        (&gain["before"]["status"], &gain["before"]["reason"]),
        (&json!(403), &json!("role-refused"))
    );
    assert!(
        gain["before"]["place"]
            .as_str()
            .unwrap()
            .contains("gateway.toml:"),
        "{gain}"
    );
    assert_eq!(gain["after"]["decision"], "allow");
    let place = gain["after"]["route_place"].as_str().unwrap();
    assert!(place.contains("new.toml:"), "{gain}");
    let new = gateway.setup.path("new.toml").display().to_string();
    let text = gateway.command(["diff", &new]).expect(3).stdout;
    assert!(text.contains("0 requests would lose access, 1 request would gain it, and 10 requests would be decided as before"), "{text}");
    assert!(text.contains("GET /admin/*, `alice` (`user`): 1 request, such as app.test/admin/users\n    now:  403 role-refused by any of the roles `admin` ("), "{text}");

    // A route without a credential: also who sent none, and who sent a bad one.
    let public = |routes: &str| routes.replacen("roles = [\"admin\"]", "auth = \"none\"", 1);
    let told = diff(&gateway, &app, public).expect(3).json();
    let requests: u64 = told["gain"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gain| gain["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(requests, 3, "{told}");
}

#[test]
fn file_that_closes_a_route_for_a_role_lists_who_would_lose_access() {
    let app = App::start();
    let gateway = gateway(&app);
    let close = |routes: &str| routes.replacen("roles = [\"user\", \"admin\"]", "roles = [\"admin\"]", 1);
    let told = diff(&gateway, &app, close).expect(3).json();
    assert_eq!(told["gain"], json!([]));
    assert_eq!(told["lose"].as_array().unwrap().len(), 1, "{told}");
    let lose = find(&told["lose"], &json!("alice"), "/reports/*");
    assert_eq!(
        (&lose["requests"], &lose["example"]),
        (&json!(3), &json!("app.test/reports/q3"))
    );
    assert_eq!(
        (&lose["after"]["status"], &lose["after"]["reason"]),
        (&json!(403), &json!("role-refused"))
    );
    assert!(lose["after"]["place"].as_str().unwrap().contains("new.toml:"));

    // Facts of then: a claim that only the new file reads, an address, and a credential that was not looked for.
    let claims = |routes: &str| routes.replacen("\"acme\"", "\"other\"", 1);
    let told = diff(&gateway, &app, claims).expect(3).json();
    assert_eq!(
        find(&told["lose"], &json!("bob"), "/tenant/*")["after"]["reason"],
        "claim-refused"
    );
    let office = |routes: &str| routes.replacen("\"10.0.0.0/8\"", "\"127.0.0.0/8\"", 1);
    let told = diff(&gateway, &app, office).expect(0).json();
    assert_eq!(
        told["unchanged"], 11,
        "the credential of that request was not looked for"
    );
    let required = |routes: &str| routes.replacen("auth = \"none\"", "auth = \"required\"", 1);
    let told = diff(&gateway, &app, required).expect(3).json();
    let lose = find(&told["lose"], &Value::Null, "/open/*");
    assert_eq!(
        (&lose["after"]["reason"], &lose["credentials_read"]),
        (&json!("credential-missing"), &json!(false))
    );
    let gone = |routes: &str| routes.replacen("/reports/*", "/other/*", 1);
    let told = diff(&gateway, &app, gone).expect(3).json();
    assert_eq!(
        find(&told["lose"], &json!("root"), "/reports/*")["after"]["reason"],
        "route-missing"
    );
}

#[test]
fn issuer_and_source_that_are_gone_count() {
    let app = App::start();
    let gateway = gateway(&app);
    let elsewhere = |routes: &str| format!("[credentials]\nsources = [{{ header = \"x-token\" }}]\n{routes}");
    let told = diff(&gateway, &app, elsewhere).expect(3).json();
    assert_eq!(
        find(&told["lose"], &json!("root"), "/admin/*")["after"]["reason"],
        "credential-missing"
    );
    let toml = complete(&before(&app, ROUTES)).replace("issuers.corp", "issuers.other");
    gateway.setup.write("new.toml", toml);
    let new = gateway.setup.path("new.toml").display().to_string();
    let told = gateway
        .command(["diff", &new, "--format", "json"])
        .expect(3)
        .json();
    assert_eq!(
        find(&told["lose"], &json!("root"), "/admin/*")["after"]["reason"],
        "issuer-unknown"
    );
}

#[test]
fn sessions_are_compared_by_the_roles_of_then() {
    let app = App::start();
    let routes = "[[routes]]\npath = \"/team/*\"\nroles = [\"lead\"]\nupstream = \"app\"\n";
    let gateway = sign_in_gateway(&app, routes);
    gateway.setup.add_account("ann@example.com", &["user"]);
    let cookie = gateway.sign_in("ann@example.com");
    gateway
        .send(&Request::get("/team/x").header("Cookie", &cookie))
        .expect(403);
    let line = gateway.log_line(|line| line["path"] == "/team/x");
    let other = sign_in_setup(&app, &routes.replace("[\"lead\"]", "[\"user\"]"));
    let new = other.path("gateway.toml").display().to_string();
    let told = gateway
        .command(["diff", &new, "--format", "json"])
        .expect(3)
        .json();
    assert_eq!(
        find(&told["gain"], &line["subject"], "/team/*")["requests"],
        1,
        "{told}"
    );
}

#[test]
fn file_with_an_error_is_2_and_no_gateway_is_1() {
    let app = App::start();
    let mut gateway = gateway(&app);
    let said = diff(&gateway, &app, |routes| routes.replacen("upstream", "upsteam", 1))
        .expect(2)
        .stderr;
    assert!(said.contains("did you mean"), "{said}");
    gateway.command(["diff", "/nowhere/new.toml"]).expect(2);
    assert_eq!(gateway.stop(), Some(0));
    let said = diff(&gateway, &app, str::to_owned).expect(1).stderr;
    assert!(said.contains("no running gateway"), "{said}");
}
