//! Which route a request is, and what its rules ask of the caller.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support::gateway::before;
use crate::support::*;
use serde_json::{Value, json};

/// A route to `app` that says its name in `X-Route`.
fn route(name: &str, lines: &str) -> String {
    format!("[[routes]]\n{lines}\nupstream = \"app\"\nheaders = {{ \"X-Route\" = \"{name}\" }}\n\n")
}

fn open_route(name: &str, lines: &str) -> String {
    route(name, &format!("{lines}\nauth = \"none\""))
}

fn token_with(claims: Value) -> String {
    let mut all = corp_claims("alice");
    all.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    corp_token_of(&all)
}

/// The line of the configuration, from 1, that holds `text` for the first time.
#[track_caller]
fn line_of(toml: &str, text: &str) -> usize {
    toml.lines().position(|line| line.contains(text)).unwrap() + 1
}

/// The name of the route that answered.
#[track_caller]
fn routed(gateway: &Gateway, app: &App, request: &Request) -> String {
    let response = gateway.send(request);
    if response.status != 200 {
        return response.status.to_string();
    }
    app.last().header("x-route").unwrap().to_owned()
}

// --- rules

#[test]
fn roles_any_all_and_none_decide_together() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route("list", "path = \"/list\"\nroles = [\"admin\", \"ops\"]"),
            route("any", "path = \"/any\"\nroles = { any = [\"admin\", \"ops\"] }"),
            route("all", "path = \"/all\"\nroles = { all = [\"admin\", \"ops\"] }"),
            route("none", "path = \"/none\"\nroles = { none = [\"banned\"] }"),
            route(
                "both",
                "path = \"/both\"\nroles = { any = [\"admin\"], none = [\"banned\"] }",
            ),
        ]
        .concat(),
    );
    for (roles, allowed) in [
        (vec![], vec!["/none"]),
        (vec!["admin"], vec!["/list", "/any", "/none", "/both"]),
        (vec!["ops"], vec!["/list", "/any", "/none"]),
        (
            vec!["admin", "ops"],
            vec!["/list", "/any", "/all", "/none", "/both"],
        ),
        (vec!["user"], vec!["/none"]),
        (vec!["admin", "banned"], vec!["/list", "/any"]),
        (vec!["Admin"], vec!["/none"]),
        (vec!["admin,ops"], vec!["/none"]),
        (vec![" admin"], vec!["/none"]),
        (vec!["administrator"], vec!["/none"]),
    ] {
        let token = corp_token("alice", &roles);
        for target in ["/list", "/any", "/all", "/none", "/both"] {
            let expected = if allowed.contains(&target) { 200 } else { 403 };
            assert_eq!(
                gateway.get_as(&token, target).status,
                expected,
                "{roles:?} at {target}"
            );
        }
    }
}

#[test]
fn a_caller_without_the_role_is_told_so_and_the_log_names_the_rule() {
    let app = App::start();
    let toml = before(&app, &route("admin", "path = \"/admin/*\"\nroles = [\"admin\"]"));
    let gateway = Gateway::start(&toml);
    let refused = gateway
        .get_as(&corp_token("alice", &["user"]), "/admin/users")
        .expect(403);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\""), "{challenge}");
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    let body = refused.json();
    assert_eq!(
        (&body["status"], &body["message"]),
        (&json!(403), &json!("Forbidden"))
    );
    assert!(
        !refused.text().contains("admin"),
        "the answer says which role is asked for: {}",
        refused.text()
    );
    let line = gateway.log_of(&refused);
    assert_eq!(line["reason"], "role-refused");
    assert_eq!(line["subject"], "alice");
    assert_eq!(line["issuer"], "corp");
    assert_eq!(line["path"], "/admin/users");
    let (first, last) = (
        line_of(&toml, "[[routes]]"),
        line_of(&toml, "roles = [\"admin\"]"),
    );
    let rule = line["rule"].as_str().unwrap();
    assert!(
        (first..=last).any(|number| rule.contains(&format!(":{number}"))),
        "{rule} names no line of {first}-{last}"
    );
    assert_eq!(app.count(), 0);
}

#[test]
fn roles_are_found_at_claim_paths_as_text_or_a_list() {
    let app = App::start();
    let toml = before(&app, &route("admin", "path = \"/*\"\nroles = [\"admin\"]")).replace(
        "roles_claims = [\"roles\"]",
        "roles_claims = [\"realm_access.roles\", \"role\", \"https://example.com/roles\"]",
    );
    let gateway = Gateway::start(&toml);
    for (claims, status) in [
        (json!({ "realm_access": { "roles": ["admin"] } }), 200),
        (json!({ "role": "admin" }), 200),
        (json!({ "role": ["user", "admin"] }), 200),
        (json!({ "https://example.com/roles": ["admin"] }), 200),
        (
            json!({ "realm_access": { "roles": ["user"] }, "role": "admin" }),
            200,
        ),
        (json!({ "roles": ["admin"] }), 403),
        (json!({ "realm_access": ["admin"] }), 403),
        (json!({ "role": { "admin": true } }), 200),
        (json!({ "role": { "user": { "admin": true } } }), 403),
        (json!({ "role": [["admin"]] }), 403),
        (json!({ "role": "user admin" }), 403),
        (json!({ "role": "user,admin" }), 403),
        (json!({}), 403),
    ] {
        let found = gateway.get_as(&token_with(claims.clone()), "/x").status;
        // A claim of an unexpected type gives no role; refusing the token for it is as good.
        assert!(
            found == status || (status == 403 && found == 401),
            "{claims}: {found}"
        );
    }
}

#[test]
fn each_claim_must_equal_or_contain() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route("one", "path = \"/tenant\"\nclaims = { tenant = \"acme\" }"),
            route(
                "two",
                "path = \"/two\"\nclaims = { tenant = \"acme\", level = 3, staff = true }",
            ),
            route("deep", "path = \"/deep\"\nclaims = { \"org.name\" = \"acme\" }"),
        ]
        .concat(),
    );
    for (target, claims, status) in [
        ("/tenant", json!({ "tenant": "acme" }), 200),
        ("/tenant", json!({ "tenant": ["other", "acme"] }), 200),
        ("/tenant", json!({ "tenant": "acme2" }), 403),
        ("/tenant", json!({ "tenant": "Acme" }), 403),
        ("/tenant", json!({ "tenant": ["other"] }), 403),
        ("/tenant", json!({ "tenant": null }), 403),
        ("/tenant", json!({ "tenant": { "acme": true } }), 403),
        ("/tenant", json!({}), 403),
        (
            "/two",
            json!({ "tenant": "acme", "level": 3, "staff": true }),
            200,
        ),
        (
            "/two",
            json!({ "tenant": "acme", "level": 3, "staff": false }),
            403,
        ),
        (
            "/two",
            json!({ "tenant": "acme", "level": 4, "staff": true }),
            403,
        ),
        (
            "/two",
            json!({ "tenant": "acme", "level": "3", "staff": true }),
            403,
        ),
        (
            "/two",
            json!({ "tenant": "acme", "level": 3, "staff": "true" }),
            403,
        ),
        ("/two", json!({ "tenant": "acme", "level": 3 }), 403),
        ("/deep", json!({ "org": { "name": "acme" } }), 200),
        ("/deep", json!({ "org": "acme" }), 403),
    ] {
        let response = gateway.get_as(&token_with(claims.clone()), target);
        assert_eq!(response.status, status, "{target} {claims}");
        if status == 403 {
            assert_eq!(gateway.log_of(&response)["reason"], "claim-refused");
        }
    }
}

#[test]
fn all_scopes_are_needed_from_either_claim() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &route(
            "r",
            "path = \"/*\"\nscopes = [\"reports:read\", \"reports:write\"]",
        ),
    );
    for (claims, status) in [
        (json!({ "scope": "reports:read reports:write" }), 200),
        (json!({ "scope": "openid reports:write reports:read" }), 200),
        (json!({ "scp": ["reports:read", "reports:write"] }), 200),
        (json!({ "scp": "reports:read reports:write" }), 200),
        (json!({ "scope": "reports:read" }), 403),
        (json!({ "scope": "reports:read reports:writer" }), 403),
        (json!({ "scope": "" }), 403),
        (json!({}), 403),
    ] {
        let response = gateway.get_as(&token_with(claims.clone()), "/x");
        assert_eq!(response.status, status, "{claims}");
        if status == 403 {
            assert_eq!(gateway.log_of(&response)["reason"], "scope-refused");
            assert!(
                response
                    .header("www-authenticate")
                    .unwrap()
                    .contains("error=\"insufficient_scope\"")
            );
        }
    }
}

#[test]
fn roles_claims_and_scopes_must_all_be_satisfied() {
    let app = App::start();
    let lines = "path = \"/*\"\nroles = [\"admin\"]\nclaims = { tenant = \"acme\" }\nscopes = [\"s\"]";
    let gateway = Gateway::before(&app, &route("r", lines));
    let all = json!({ "roles": ["admin"], "tenant": "acme", "scope": "s" });
    gateway.get_as(&token_with(all.clone()), "/x").expect(200);
    for name in ["roles", "tenant", "scope"] {
        let mut claims = all.clone();
        claims.as_object_mut().unwrap().remove(name);
        gateway.get_as(&token_with(claims), "/x").expect(403);
    }
}

#[test]
fn rules_are_decided_on_every_request_of_a_cached_token() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route("user", "path = \"/user\"\nroles = [\"user\"]"),
            route("admin", "path = \"/admin\"\nroles = [\"admin\"]"),
        ]
        .concat(),
    );
    let token = corp_token("alice", &["user"]);
    for _ in 0..5 {
        gateway.get_as(&token, "/user").expect(200);
        gateway.get_as(&token, "/admin").expect(403);
    }
    assert_eq!(app.count(), 5);
}

#[test]
fn a_rule_makes_a_route_refuse_the_anonymous() {
    let app = App::start();
    let gateway = Gateway::before(&app, &route("admin", "path = \"/*\"\nroles = [\"admin\"]"));
    gateway.get("/x").expect(401);
    assert_eq!(app.count(), 0);
}

// --- paths, methods, hosts

#[test]
fn what_no_route_covers_is_not_found_and_the_app_sees_nothing() {
    let app = App::start();
    let gateway = Gateway::before(&app, &open_route("a", "path = \"/a/*\""));
    let refused = gateway.get("/b").expect(404);
    assert!(
        refused
            .header("content-type")
            .unwrap()
            .starts_with("application/problem+json")
    );
    assert_eq!(refused.json()["status"], 404);
    assert_eq!(gateway.log_of(&refused)["reason"], "route-missing");
    gateway.get("/").expect(404);
    gateway.get_as(&corp_token("alice", &["admin"]), "/b").expect(404);
    assert_eq!(app.count(), 0);
}

#[test]
fn a_pattern_covers_whole_segments() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            open_route("tree", "path = \"/admin/*\""),
            open_route("exact", "path = \"/exact\""),
            open_route("one", "path = \"/users/{id}\""),
            open_route("inner", "path = \"/teams/{id}/members\""),
        ]
        .concat(),
    );
    for (target, expected) in [
        ("/admin", "tree"),
        ("/admin/", "tree"),
        ("/admin/x", "tree"),
        ("/admin/x/y/z", "tree"),
        ("/administrator", "404"),
        ("/admi", "404"),
        ("/Admin", "404"),
        ("/x/admin", "404"),
        ("/exact", "exact"),
        ("/exact?x", "exact"),
        ("/exact/x", "404"),
        ("/exactly", "404"),
        ("/users/1", "one"),
        ("/users", "404"),
        ("/users/1/x", "404"),
        ("/teams/1/members", "inner"),
        ("/teams/members", "404"),
        ("/teams/1/members/x", "404"),
        ("/", "404"),
    ] {
        assert_eq!(
            routed(&gateway, &app, &Request::get(target)),
            expected,
            "{target}"
        );
    }
}

#[test]
fn an_encoded_letter_is_the_letter() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route("admin", "path = \"/admin/*\"\nroles = [\"admin\"]"),
            open_route("rest", "path = \"/*\""),
        ]
        .concat(),
    );
    for target in [
        "/admin/x",
        "/%61dmin/x",
        "/%61%64%6d%69%6e/x",
        "/%61%64%6D%69%6E",
        "/a%64min",
    ] {
        gateway.get(target).expect(401);
    }
    assert_eq!(app.count(), 0);
    gateway.get("/%70ublic/%7Etilde/%C3%A9/%20").expect(200);
    let target = app.last().target().to_owned();
    assert!(
        target.eq_ignore_ascii_case("/public/~tilde/%C3%A9/%20"),
        "{target}"
    );
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let app = App::start();
    let routes = [
        open_route("root", "path = \"/*\""),
        open_route("tree", "path = \"/a/*\""),
        open_route("name", "path = \"/a/{x}\""),
        open_route("exact", "path = \"/a/b\""),
        open_route("deep", "path = \"/a/b/*\"\nmethods = [\"POST\"]"),
        open_route("name-then-exact", "path = \"/a/{x}/c\""),
    ];
    let mut backwards = routes.clone();
    backwards.reverse();
    for routes in [routes.concat(), backwards.concat()] {
        let gateway = Gateway::before(&app, &routes);
        for (target, expected) in [
            ("/z", "root"),
            ("/", "root"),
            ("/a", "tree"),
            ("/a/x", "name"),
            ("/a/b", "exact"),
            ("/a/x/y", "tree"),
            ("/a/x/c", "name-then-exact"),
        ] {
            assert_eq!(
                routed(&gateway, &app, &Request::get(target)),
                expected,
                "{target}"
            );
        }
    }
}

#[test]
fn another_method_is_refused_with_the_list_and_falls_through_to_no_weaker_route() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route(
                "admin",
                "path = \"/admin/*\"\nmethods = [\"GET\", \"PUT\"]\nroles = [\"admin\"]",
            ),
            open_route("rest", "path = \"/*\""),
        ]
        .concat(),
    );
    for method in ["POST", "DELETE", "PATCH", "OPTIONS", "get", "PROPFIND"] {
        let refused = gateway.send(&Request::new(method, "/admin/x")).expect(405);
        let allow = refused.header("allow").unwrap().to_owned();
        let methods: Vec<&str> = allow.split(',').map(str::trim).collect();
        assert!(methods.contains(&"GET") && methods.contains(&"PUT"), "{allow}");
        assert!(!methods.contains(&method), "{allow}");
        assert_eq!(gateway.log_of(&refused)["reason"], "method-refused");
    }
    assert_eq!(app.count(), 0);
    gateway.get("/admin/x").expect(401);
    assert_eq!(routed(&gateway, &app, &Request::new("DELETE", "/other")), "rest");
}

#[test]
fn one_path_may_have_a_route_a_method() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            open_route("read", "path = \"/a/*\"\nmethods = [\"GET\"]"),
            route(
                "write",
                "path = \"/a/*\"\nmethods = [\"POST\", \"PUT\"]\nroles = [\"admin\"]",
            ),
        ]
        .concat(),
    );
    assert_eq!(routed(&gateway, &app, &Request::get("/a/x")), "read");
    gateway.send(&Request::post("/a/x", "x")).expect(401);
    let admin = Request::post("/a/x", "x").bearer(&corp_token("alice", &["admin"]));
    assert_eq!(routed(&gateway, &app, &admin), "write");
    let refused = gateway.send(&Request::new("DELETE", "/a/x")).expect(405);
    let allow = refused.header("allow").unwrap();
    assert!(
        ["GET", "POST", "PUT"].iter().all(|method| allow.contains(method)),
        "{allow}"
    );
}

#[test]
fn a_route_for_all_methods_takes_those_that_no_other_route_of_its_path_names() {
    let app = App::start();
    let preflight = open_route("preflight", "path = \"/cors/*\"\nmethods = [\"OPTIONS\"]");
    let rest = route("rest", "path = \"/cors/*\"\nroles = [\"user\"]");
    for routes in [[preflight.as_str(), &rest], [&rest, &preflight]] {
        let gateway = Gateway::before(&app, &routes.concat());
        assert_eq!(
            routed(&gateway, &app, &Request::new("OPTIONS", "/cors/x")),
            "preflight"
        );
        let user = corp_token("ann", &["user"]);
        for method in ["GET", "POST", "DELETE", "PROPFIND"] {
            gateway.send(&Request::new(method, "/cors/x")).expect(401);
            assert_eq!(
                routed(&gateway, &app, &Request::new(method, "/cors/x").bearer(&user)),
                "rest"
            );
        }
    }
}

#[test]
fn hosts_are_matched_exactly_or_by_wildcard_without_case_and_port() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            open_route("exact", "host = \"admin.example.com\"\npath = \"/*\""),
            open_route("wildcard", "host = \"*.example.com\"\npath = \"/*\""),
            open_route("other", "host = \"other.example\"\npath = \"/x\""),
        ]
        .concat(),
    );
    for (host, expected) in [
        ("admin.example.com", "exact"),
        ("ADMIN.Example.COM", "exact"),
        ("admin.example.com:8443", "exact"),
        ("shop.example.com", "wildcard"),
        ("SHOP.example.com:80", "wildcard"),
        ("example.com", "404"),
        ("evilexample.com", "404"),
        ("admin.example.com.evil.example", "404"),
        ("other.example", "other"),
        ("elsewhere.example", "404"),
    ] {
        assert_eq!(
            routed(&gateway, &app, &Request::get("/x").host(host)),
            expected,
            "{host}"
        );
    }
}

#[test]
fn the_most_specific_host_comes_before_the_most_specific_path() {
    let app = App::start();
    let routes = [
        open_route("anywhere", "path = \"/x/y\""),
        open_route("wildcard", "host = \"*.example.com\"\npath = \"/x/{a}\""),
        open_route("exact", "host = \"a.example.com\"\npath = \"/x/*\""),
    ];
    let mut backwards = routes.clone();
    backwards.reverse();
    for routes in [routes.concat(), backwards.concat()] {
        let gateway = Gateway::before(&app, &routes);
        for (host, expected) in [
            ("a.example.com", "exact"),
            ("b.example.com", "wildcard"),
            ("c.test", "anywhere"),
        ] {
            assert_eq!(
                routed(&gateway, &app, &Request::get("/x/y").host(host)),
                expected,
                "{host}"
            );
        }
    }
}

#[test]
fn the_query_takes_no_part_in_matching() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &[
            route("admin", "path = \"/admin/*\"\nroles = [\"admin\"]"),
            open_route("rest", "path = \"/public/*\""),
        ]
        .concat(),
    );
    for target in [
        "/admin?x=/public/",
        "/admin/?/../public/",
        "/admin/x?..%2f..%2fpublic",
    ] {
        gateway.get(target).expect(401);
    }
    assert_eq!(
        routed(&gateway, &app, &Request::get("/public/?/../admin")),
        "rest"
    );
    assert_eq!(app.last().target(), "/public/?/../admin");
}

// --- routes that cannot be told apart

/// Whether `number` stands in `text` as a number of its own.
fn names_line(text: &str, number: usize) -> bool {
    text.split(|byte: char| !byte.is_ascii_digit())
        .any(|digits| digits == number.to_string())
}

#[test]
fn routes_that_could_tie_are_an_error_that_names_both_lines() {
    let app = App::start();
    for (first, second) in [
        ("path = \"/a\"", "path = \"/a\""),
        ("path = \"/a/*\"", "path = \"/a/*\""),
        ("path = \"/a/{x}\"", "path = \"/a/{y}\""),
        (
            "path = \"/a\"\nmethods = [\"GET\", \"POST\"]",
            "path = \"/a\"\nmethods = [\"POST\"]",
        ),
        (
            "host = \"a.test\"\npath = \"/a\"",
            "host = \"A.test\"\npath = \"/a\"",
        ),
    ] {
        let padding = "# one line of comment\n".repeat(40);
        let toml = before(
            &app,
            &[padding, route("first", first), route("second", second)].concat(),
        );
        let lines: Vec<usize> = toml
            .lines()
            .enumerate()
            .filter(|(_, line)| line.starts_with("path = "))
            .map(|(index, _)| index + 1)
            .collect();
        let said = Setup::new(&toml).command(["check"]).expect(2).all();
        for line in lines {
            // The route may be named by its own line or by that of its path.
            let named = (line - 2..=line + 3).any(|line| names_line(&said, line));
            assert!(named, "{first} and {second}: line {line} is not named in\n{said}");
        }
    }
}

#[test]
fn routes_that_cannot_meet_are_no_tie() {
    let app = App::start();
    let toml = before(
        &app,
        &[
            open_route("1", "path = \"/a\"\nmethods = [\"GET\"]"),
            open_route("2", "path = \"/a\"\nmethods = [\"POST\"]"),
            open_route("7", "path = \"/a\""),
            open_route("3", "host = \"a.test\"\npath = \"/a\""),
            open_route("4", "host = \"*.test\"\npath = \"/a\""),
            open_route("5", "path = \"/{x}/b\""),
            open_route("6", "path = \"/c/*\""),
        ]
        .concat(),
    );
    Setup::new(&toml).command(["check"]).expect(0);
}
