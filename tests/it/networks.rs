//! Access by network: `from`, `none_from` and `any` of routes, for clients behind a trusted proxy and without one, with and
//! without credentials; `[[tests]]`, `explain` and `check` say the same.

use serde_json::json;

use super::support::gateway::before;
use super::support::people::{PASSWORD, navigate, post_form, session_cookie};
use super::support::{App, Client, Gateway, Request, Response, Setup, corp_token, eventually};

const BEHIND_A_PROXY: &str = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\ntrusted_proxies = [\"127.0.0.1\"]\n";

const ROUTES: &str = r#"
[[routes]]
path = "/office/*"
from = ["10.0.0.0/8", "2001:db8::/32"]
none_from = ["10.9.0.0/16"]
upstream = "app"
[[routes]]
path = "/open/*"
auth = "none"
from = ["10.0.0.0/8"]
upstream = "app"
[[routes]]
path = "/blocked/*"
auth = "none"
none_from = ["192.0.2.0/24"]
upstream = "app"
[[routes]]
path = "/either/*"
any = [{ role = "staff" }, { from = "10.0.0.0/8" }, { role = "guest", from = ["192.0.2.7"] }]
upstream = "app"
[[routes]]
path = "/both/*"
any = [{ role = "staff" }, { from = "10.0.0.0/8" }]
scopes = ["reports:read"]
upstream = "app"
[[routes]]
path = "/maybe/*"
auth = "optional"
from = ["10.0.0.0/8"]
upstream = "app"
"#;

fn gateway(app: &App) -> Gateway {
    Gateway::before(app, &format!("{BEHIND_A_PROXY}{ROUTES}"))
}

/// A request that the proxy says is of this client.
fn of(client: &str, target: &str) -> Request {
    Request::get(target).header("X-Forwarded-For", client)
}

#[track_caller]
fn refused(gateway: &Gateway, response: &Response, reason: &str) -> String {
    let line = gateway.log_of(response);
    assert_eq!(line["reason"], json!(reason), "{line}");
    line["rule"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn client_of_another_network_is_403_whatever_its_credential() {
    let app = App::start();
    let gateway = gateway(&app);
    let alice = corp_token("alice", &[]);
    for (client, status) in [
        ("10.1.2.3", 200),
        ("::ffff:10.1.2.3", 200),
        ("2001:db8::7", 200),
        ("[2001:db8::7]:4711", 200),
        ("10.9.0.1", 403),
        ("::ffff:10.9.0.1", 403),
        ("11.0.0.1", 403),
        ("2001:db9::7", 403),
        ("0.0.0.0", 403),
        // Of what the client writes itself, nothing counts.
        ("10.1.2.3, 203.0.113.9", 403),
        ("10.1.2.3, unknown", 403),
        ("unknown", 403),
        ("", 403),
        ("203.0.113.9, 10.1.2.3", 200),
    ] {
        let response = gateway.send(&of(client, "/office/x").bearer(&alice));
        assert_eq!(response.status, status, "{client}");
    }
    let answer = gateway
        .send(&of("11.0.0.1", "/office/x").bearer(&alice))
        .expect(403);
    // No token would change it, and the answer does not say what would.
    assert_eq!(answer.header("www-authenticate"), None);
    assert!(
        !answer.text().contains("10.") && !answer.text().contains("network"),
        "{}",
        answer.text()
    );
    let rule = refused(&gateway, &answer, "network-refused");
    assert!(
        rule.starts_with("a client address in `10.0.0.0/8`, `2001:db8::/32` (")
            && rule.contains("gateway.toml:"),
        "{rule}"
    );
    let answer = gateway.send(&of("10.9.0.1", "/office/x").bearer(&alice));
    let rule = refused(&gateway, &answer, "network-refused");
    assert!(
        rule.starts_with("a client address outside `10.9.0.0/16` ("),
        "{rule}"
    );
    // The network comes before the credential, and takes the place of none.
    for request in [
        of("11.0.0.1", "/office/x"),
        of("11.0.0.1", "/office/x").bearer("bad"),
    ] {
        gateway.send(&request).expect(403);
    }
    gateway.send(&of("10.1.2.3", "/office/x")).expect(401);
    gateway
        .send(&of("10.1.2.3", "/office/x").bearer("bad"))
        .expect(401);
}

#[test]
fn networks_hold_without_a_credential_too() {
    let app = App::start();
    let gateway = gateway(&app);
    for (client, target, status) in [
        ("10.1.2.3", "/open/x", 200),
        ("11.1.2.3", "/open/x", 403),
        ("11.1.2.3", "/blocked/x", 200),
        ("192.0.2.200", "/blocked/x", 403),
        // Who is not known may be one of those who are refused.
        ("unknown", "/blocked/x", 403),
        ("10.1.2.3", "/maybe/x", 200),
        ("11.1.2.3", "/maybe/x", 403),
    ] {
        let response = gateway.send(&of(client, target));
        assert_eq!(response.status, status, "{client} {target}");
    }
    // A cache between must not hand it on to another network.
    let answer = gateway.send(&of("10.1.2.3", "/open/x")).expect(200);
    assert_eq!(answer.header("cache-control"), Some("private"));
}

#[test]
fn any_admits_by_network_without_a_caller_or_by_a_rule_on_one() {
    let app = App::start();
    let gateway = gateway(&app);
    let (staff, guest, other) = (
        corp_token("sue", &["staff"]),
        corp_token("gus", &["guest"]),
        corp_token("olaf", &["other"]),
    );
    // Inside: no credential is needed, and the app is told of no caller.
    let spoofed = of("10.1.2.3", "/either/x")
        .header("X-Auth-User", "root")
        .header("X-Auth-Roles", "staff");
    let answer = gateway.send(&spoofed).expect(200);
    let seen = app.last();
    assert_eq!(
        (seen.header("x-auth-user"), seen.header("x-auth-roles")),
        (None, None)
    );
    assert_eq!(answer.header("cache-control"), Some("private"));
    assert!(
        answer
            .header("vary")
            .is_some_and(|vary| vary.to_ascii_lowercase().contains("authorization"))
    );
    let line = gateway.log_line(|line| line["path"] == "/either/x");
    assert_eq!(
        (&line["decision"], &line["subject"]),
        (&json!("allow"), &json!(null))
    );
    // A credential that is there counts, and a bad one is refused.
    gateway
        .send(&of("10.1.2.3", "/either/x").bearer(&other))
        .expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("olaf"));
    let answer = gateway
        .send(&of("10.1.2.3", "/either/x").bearer("bad"))
        .expect(401);
    refused(&gateway, &answer, "token-malformed");
    // Outside: as any route that needs a caller.
    let answer = gateway.send(&of("11.1.2.3", "/either/x")).expect(401);
    refused(&gateway, &answer, "credential-missing");
    gateway
        .send(&of("11.1.2.3", "/either/x").bearer(&staff))
        .expect(200);
    let answer = gateway
        .send(&of("11.1.2.3", "/either/x").bearer(&other))
        .expect(403);
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .contains("insufficient_scope")
    );
    let rule = refused(&gateway, &answer, "any-refused");
    assert!(
        rule.starts_with(
            "any of: the role `staff`; a client address in `10.0.0.0/8`; the role `guest` and a client address in `192.0.2.7` ("
        ),
        "{rule}"
    );
    // All of one entry.
    gateway
        .send(&of("192.0.2.7", "/either/x").bearer(&guest))
        .expect(200);
    gateway
        .send(&of("192.0.2.8", "/either/x").bearer(&guest))
        .expect(403);
    gateway.send(&of("192.0.2.7", "/either/x")).expect(401);
    // The other rules of the route are needed as well.
    gateway.send(&of("10.1.2.3", "/both/x")).expect(401);
    gateway
        .send(&of("10.1.2.3", "/both/x").bearer(&staff))
        .expect(403);
}

#[test]
fn browser_is_sent_to_sign_in_from_outside_only() {
    let app = App::start();
    let setup = Setup::new(&before(&app, &format!("{BEHIND_A_PROXY}[password]\n{ROUTES}")));
    setup.add_account("ann@example.com", &["staff"]);
    setup.add_account("ole@example.com", &[]);
    let gateway = setup.start();
    let visit = |client: &str, cookie: &str| {
        let mut request = navigate("/either/x").header("X-Forwarded-For", client);
        if !cookie.is_empty() {
            request = request.header("Cookie", cookie);
        }
        gateway.send(&request)
    };
    let sign_in = |email: &str| {
        let form = post_form("/auth/login", &[("email", email), ("password", PASSWORD)]);
        session_cookie(&gateway.send(&form).expect(303)).unwrap()
    };
    let (ann, ole) = (sign_in("ann@example.com"), sign_in("ole@example.com"));
    visit("10.1.2.3", "").expect(200);
    assert_eq!(app.last().header("x-auth-user"), None);
    let answer = visit("11.1.2.3", "").expect(302);
    assert_eq!(answer.header("location"), Some("/auth/login?return_to=/either/x"));
    visit("10.1.2.3", &ole).expect(200);
    assert_eq!(app.last().header("x-auth-email"), Some("ole@example.com"));
    visit("11.1.2.3", &ole).expect(403);
    visit("11.1.2.3", &ann).expect(200);
    // A bad cookie is as good as none.
    visit("10.1.2.3", "passgate-session=bad").expect(200);
    visit("11.1.2.3", "passgate-session=bad").expect(302);
    // Signing in does not change the network.
    let page = navigate("/open/x").header("X-Forwarded-For", "11.1.2.3");
    let answer = gateway.send(&page).expect(403);
    assert!(
        answer.text().contains("You are not allowed to do this."),
        "{}",
        answer.text()
    );
}

#[test]
fn address_that_a_stranger_claims_does_not_count() {
    let app = App::start();
    // No proxy is trusted: the client is 127.0.0.1, whatever it says.
    let gateway = Gateway::before(
        &app,
        &format!(
            "[server]\nlisten = [\"127.0.0.1:0\", \"unix:gateway.sock\"]\n{ROUTES}\n[[routes]]\npath = \"/local/*\"\nauth = \"none\"\nfrom = [\"127.0.0.0/8\", \"::1\"]\nupstream = \"app\"\n"
        ),
    );
    for name in [
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "True-Client-IP",
        "X-Client-IP",
    ] {
        let value = if name == "Forwarded" {
            "for=10.1.2.3"
        } else {
            "10.1.2.3"
        };
        let answer = gateway.send(&Request::get("/open/x").header(name, value));
        assert_eq!(answer.status, 403, "{name}");
    }
    gateway.get("/local/x").expect(200);
    // A peer on a unix socket has no address: it may be any client of a proxy.
    let path = gateway.setup.path("gateway.sock");
    eventually("the unix socket is there", || path.exists());
    Request::get("/local/x")
        .over(&mut Client::connect_unix(&path))
        .expect(403);
}

#[test]
fn trusted_proxy_that_names_no_client_is_no_client() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &format!(
            "{BEHIND_A_PROXY}[[routes]]\npath = \"/*\"\nauth = \"none\"\nfrom = [\"127.0.0.0/8\"]\nupstream = \"app\"\n"
        ),
    );
    gateway.get("/x").expect(403);
    gateway.send(&of("127.0.0.2", "/x")).expect(200);
}

#[test]
fn odd_path_does_not_lead_around_a_network() {
    let app = App::start();
    let odd = r#"
[[routes]]
path = "/files/*"
auth = "none"
accept = ["encoded-slash"]
upstream = "app"
[[routes]]
path = "/files/private/*"
auth = "none"
from = ["10.0.0.0/8"]
upstream = "app"
[[routes]]
path = "/mixed/*"
any = [{ role = "staff" }, { from = "0.0.0.0/1" }]
accept = ["encoded-slash"]
upstream = "app"
[[routes]]
path = "/mixed/private/*"
roles = ["staff"]
upstream = "app"
"#;
    let gateway = Gateway::before(&app, &format!("{BEHIND_A_PROXY}{odd}"));
    gateway.send(&of("11.1.2.3", "/files/a%2Fb")).expect(200);
    gateway.send(&of("11.1.2.3", "/files/private%2Fb")).expect(400);
    gateway.send(&of("11.1.2.3", "/mixed/a%2Fb")).expect(200);
    gateway.send(&of("11.1.2.3", "/mixed/private%2Fb")).expect(400);
}

const TESTS: &str = r#"
[[tests]]
request = "GET /office/x"
as = { subject = "alice", from = "10.1.2.3" }
expect = "allow"
[[tests]]
request = "GET /office/x"
as = { subject = "alice" }
expect = 403
[[tests]]
request = "GET /either/x"
as = { from = "::ffff:10.1.2.3" }
expect = "allow"
[[tests]]
request = "GET /either/x"
as = { from = "11.1.2.3" }
expect = 401
[[tests]]
request = "GET /either/x"
as = { from = "11.1.2.3", roles = ["staff"] }
expect = "allow"
[[tests]]
request = "GET /open/x"
expect = 403
"#;

#[test]
fn tests_of_a_file_explain_and_check_know_networks() {
    let app = App::start();
    let setup = Setup::new(&before(&app, &format!("{BEHIND_A_PROXY}{ROUTES}{TESTS}")));
    let checked = setup.command(["check", "--format", "json"]).expect(0).json();
    let routes = checked["routes"].as_array().unwrap();
    let who = |path: &str| {
        let route = routes.iter().find(|route| route["path"] == path).unwrap();
        route["who"].clone()
    };
    assert_eq!(
        who("/office/*"),
        json!({ "auth": "required", "from": ["10.0.0.0/8", "2001:db8::/32"], "none_from": ["10.9.0.0/16"] })
    );
    assert_eq!(
        who("/either/*"),
        json!({ "auth": "required", "any": [
            { "role": "staff" }, { "from": ["10.0.0.0/8"] }, { "role": "guest", "from": ["192.0.2.7"] },
        ] })
    );
    let table = setup.command(["check"]).expect(0).stdout;
    assert!(
        table.contains("everyone (no credential is read), and a client address in `10.0.0.0/8`"),
        "{table}"
    );
    let explain = |words: &[&str]| {
        let words = [&["explain", "--format", "json", "GET"], words].concat();
        let said = setup.command(words).json();
        (said["decision"].clone(), said["reason"].clone(), said.to_string())
    };
    let (decision, reason, text) = explain(&["/open/x"]);
    assert_eq!((decision, reason), (json!("refuse"), json!("network-refused")));
    assert!(text.contains("the client's address is not known"), "{text}");
    let (decision, _, text) = explain(&["/open/x", "--from", "10.1.2.3"]);
    assert_eq!(decision, json!("allow"));
    assert!(text.contains("\"x-forwarded-for\":\"10.1.2.3\""), "{text}");
    let (_, reason, _) = explain(&["/either/x", "--from", "11.1.2.3"]);
    assert_eq!(reason, json!("credential-missing"));
    let (_, reason, text) = explain(&["/either/x", "--from", "11.1.2.3", "--as", "olaf"]);
    assert_eq!(reason, json!("any-refused"));
    assert!(
        text.contains("the caller has no roles; the client's address is `11.1.2.3`"),
        "{text}"
    );
    assert_eq!(explain(&["/either/x", "--from", "10.1.2.3"]).0, json!("allow"));
    // A header does not name the client here either.
    let (_, reason, _) = explain(&["/open/x", "-H", "X-Forwarded-For: 10.1.2.3"]);
    assert_eq!(reason, json!("network-refused"));
}

#[test]
fn check_warns_of_networks_where_no_proxy_is_listed() {
    let app = App::start();
    let warning = "`trusted_proxies` is empty";
    for (server, warns) in [
        (
            "listen = \"127.0.0.1:8080\"\npublic_url = \"http://a.example\"",
            true,
        ),
        ("listen = \"127.0.0.1:8080\"", false),
        (
            "listen = \"0.0.0.0:8080\"\npublic_url = \"https://a.example\"",
            true,
        ),
        ("listen = \"0.0.0.0:8080\"", false),
        (
            "listen = \"127.0.0.1:8080\"\npublic_url = \"http://a.example\"\ntrusted_proxies = [\"unix\"]",
            false,
        ),
    ] {
        let setup = Setup::new(&before(&app, &format!("[server]\n{server}\n{ROUTES}")));
        let said = setup.command(["check"]).expect(0).all();
        assert_eq!(said.contains(warning), warns, "{server}\n{said}");
    }
}

#[test]
fn rules_that_no_request_or_every_request_passes_are_errors() {
    let app = App::start();
    let said = |lines: &str| {
        let route = format!("[[routes]]\npath = \"/x\"\nupstream = \"app\"\n{lines}\n");
        Setup::new(&before(&app, &route))
            .command(["check"])
            .expect(2)
            .all()
    };
    let all = said("from = [\"10.1.0.0/16\", \"10.2.3.4\"]\nnone_from = [\"10.0.0.0/8\"]");
    assert!(
        all.contains("no client can pass: `none_from` refuses every network of `from`"),
        "{all}"
    );
    for auth in ["none", "optional"] {
        let all = said(&format!("auth = \"{auth}\"\nany = [{{ from = \"10.0.0.0/8\" }}]"));
        assert!(all.contains("the rules of this route"), "{all}");
    }
}
