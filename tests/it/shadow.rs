//! Rules that are only logged (`enforce = "log"`): what they refuse is logged and counted, and passes; everything else is
//! enforced. `check --public` lists such routes, and every other way in without signing in.

use serde_json::{Value, json};

use super::support::gateway::before;
use super::support::people::navigate;
use super::support::tokens::{corp_claims, corp_token_of, now};
use super::support::{App, Gateway, Request, Setup, corp_token};

const ROUTES: &str = r#"
[server]
listen = "127.0.0.1:0"
public_url = "http://localhost"
trusted_proxies = ["127.0.0.1"]
[admin]
listen = "127.0.0.1:0"
[password]
[[routes]]
path = "/shadow/*"
roles = ["admin"]
scopes = ["x"]
enforce = "log"
upstream = "app"
[[routes]]
path = "/any/*"
any = [{ role = "staff" }, { from = "10.0.0.0/8" }]
enforce = "log"
upstream = "app"
[[routes]]
path = "/strict/*"
roles = ["admin"]
max_age = "10m"
from = ["10.0.0.0/8"]
enforce = "log"
upstream = "app"
[[routes]]
path = "/open/*"
auth = "none"
methods = ["GET"]
upstream = "app"
[[routes]]
host = "a.example"
path = "/maybe/*"
auth = "optional"
from = ["10.0.0.0/8"]
upstream = "app"
[[routes]]
path = "/either/*"
any = [{ role = "staff" }, { from = "10.0.0.0/8" }]
upstream = "app"
[[routes]]
path = "/closed/*"
roles = ["admin"]
upstream = "app"
"#;

#[test]
fn refusal_that_is_only_logged_passes_with_the_rule_in_the_log() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let (alice, admin) = (corp_token("alice", &["user"]), corp_token("root", &["admin"]));
    gateway.get_as(&alice, "/shadow/a").expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("alice"));
    let line = gateway.log_line(|line| line["path"] == "/shadow/a");
    assert_eq!(
        (&line["decision"], &line["reason"], &line["shadow"]),
        (&json!("allow"), &Value::Null, &json!("refuse"))
    );
    // The first rule that says no, with its line.
    let rule = line["rule"].as_str().unwrap();
    assert!(
        rule.starts_with("any of the roles `admin` (") && rule.contains("gateway.toml:"),
        "{rule}"
    );
    let scoped = {
        let mut claims = corp_claims("root");
        claims["roles"] = json!(["admin"]);
        claims["scope"] = json!("x");
        corp_token_of(&claims)
    };
    gateway.get_as(&admin, "/shadow/b").expect(200);
    let line = gateway.log_line(|line| line["path"] == "/shadow/b");
    assert!(
        line["rule"].as_str().unwrap().starts_with("the scope `x` ("),
        "{line}"
    );
    gateway.get_as(&scoped, "/shadow/c").expect(200);
    let line = gateway.log_line(|line| line["path"] == "/shadow/c");
    assert_eq!((line.get("shadow"), &line["rule"]), (None, &Value::Null));
    let metrics = gateway.admin_get("/metrics").expect(200).text();
    assert!(
        metrics.contains("passgate_shadow_refusals_total{route=\"/shadow/*\"} 2"),
        "{metrics}"
    );
}

#[test]
fn signing_in_networks_and_the_age_of_a_sign_in_are_enforced_all_the_same() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let of = |client: &str, target: &str| Request::get(target).header("X-Forwarded-For", client);
    let alice = corp_token("alice", &[]);
    let recent = {
        let mut claims = corp_claims("alice");
        claims["auth_time"] = json!(now());
        corp_token_of(&claims)
    };
    gateway.get("/shadow/x").expect(401);
    gateway.get_as("bad", "/shadow/x").expect(401);
    gateway.send(&navigate("/shadow/x")).expect(302);
    gateway
        .send(&of("11.1.2.3", "/strict/x").bearer(&recent))
        .expect(403);
    gateway
        .send(&of("10.1.2.3", "/strict/x").bearer(&alice))
        .expect(401);
    gateway
        .send(&of("10.1.2.3", "/strict/x").bearer(&recent))
        .expect(200);
    let line = gateway.log_line(|line| line["path"] == "/strict/x" && line["status"] == 200);
    assert_eq!(line["shadow"], json!("refuse"));
    // `any` still says which clients need no credential.
    gateway.send(&of("10.1.2.3", "/any/x")).expect(200);
    gateway.send(&of("11.1.2.3", "/any/x")).expect(401);
    gateway.send(&of("11.1.2.3", "/any/x").bearer(&alice)).expect(200);
    let line = gateway.log_line(|line| line["path"] == "/any/x" && line["subject"] == "alice");
    assert!(
        line["rule"]
            .as_str()
            .unwrap()
            .starts_with("any of: the role `staff`"),
        "{line}"
    );
    // A route elsewhere is as strict as before.
    gateway.get_as(&alice, "/closed/x").expect(403);
}

#[test]
fn explain_tests_and_check_say_that_rules_are_only_logged() {
    let app = App::start();
    let tests = "[[tests]]\nrequest = \"GET /shadow/x\"\nas = { roles = [\"user\"] }\nexpect = \"allow\"\n";
    let setup = Setup::new(&before(&app, &format!("{ROUTES}{tests}")));
    let all = setup.command(["check"]).expect(0).all();
    assert!(
        all.contains("any of the roles `admin`, and the scope `x`; rules on callers are only logged"),
        "{all}"
    );
    let said = setup
        .command(["explain", "GET", "/shadow/x", "--as", "alice"])
        .expect(0)
        .all();
    assert!(
        said.contains("the caller has no roles; only logged: it would refuse"),
        "{said}"
    );
    let wrong = |lines: &str, status: i32| {
        let route = format!("[[routes]]\npath = \"/x\"\nupstream = \"app\"\nenforce = \"log\"\n{lines}\n");
        Setup::new(&before(&app, &route))
            .command(["check"])
            .expect(status)
            .all()
    };
    let all = wrong("auth = \"none\"", 2);
    assert!(
        all.contains("`enforce` is about callers, and this route has none"),
        "{all}"
    );
    let all = wrong("max_age = \"10m\"", 0);
    assert!(
        all.contains("`enforce` applies to no rule of this route"),
        "{all}"
    );
}

#[test]
fn public_paths_are_listed_with_the_reason() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    let said = setup
        .command(["check", "--public", "--format", "json"])
        .expect(0)
        .json();
    let listed: Vec<[&str; 3]> = said["public"]
        .as_array()
        .unwrap()
        .iter()
        .map(|path| ["host", "path", "why"].map(|name| path[name].as_str().unwrap()))
        .collect();
    let routes: Vec<_> = listed
        .iter()
        .filter(|[_, _, why]| *why != "an endpoint of the gateway")
        .collect();
    let any = "any of: the role `staff`; a client address in `10.0.0.0/8`";
    let by_network = format!("no credential is needed with {any}");
    for expected in [
        [
            "a.example",
            "/maybe/*",
            "a credential is optional, for a client address in `10.0.0.0/8`",
        ],
        ["*", "/open/*", "no credential is read"],
        ["*", "/either/*", by_network.as_str()],
        ["*", "/any/*", by_network.as_str()],
        ["*", "/shadow/*", "any caller: the rules are only logged"],
        [
            "*",
            "/strict/*",
            "any caller: the rules are only logged, for a client address in `10.0.0.0/8`",
        ],
    ] {
        assert!(routes.contains(&&expected), "{expected:?} in {routes:?}");
    }
    assert_eq!(routes.len(), 6);
    let own: Vec<&str> = listed.iter().map(|[_, path, _]| *path).collect();
    assert!(own.contains(&"/auth/login") && own.contains(&"/.well-known/jwks.json"));
    assert!(!own.contains(&"/auth/me") && !own.contains(&"/auth/sessions"));
    let text = setup.command(["check", "--public"]).expect(0).stdout;
    assert!(
        text.contains("WHY") && text.contains("/open/*") && !text.contains("/closed/*"),
        "{text}"
    );
    // The methods of the route.
    let open = said["public"]
        .as_array()
        .unwrap()
        .iter()
        .find(|path| path["path"] == "/open/*");
    assert_eq!(open.unwrap()["methods"], json!(["GET"]));
}
