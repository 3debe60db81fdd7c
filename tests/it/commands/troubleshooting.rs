//! `docs/troubleshooting.md` is compared with the program: a test produces the situation of each row and compares the quoted text
//! with the program's output.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use passgate::internals::refusal::Refusal;

use super::{GOOD, good, json};
use crate::support::gateway::before;
use crate::support::*;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/troubleshooting.md")).unwrap()
}

/// The cells of the rows of the table below this heading, without those of its header.
pub(super) fn rows(heading: &str) -> Vec<Vec<String>> {
    let page = page();
    let section = page
        .split(&format!("## {heading}\n"))
        .nth(1)
        .unwrap_or_else(|| panic!("no section {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// The text of a code span, also of one with backticks in it.
pub(super) fn code(cell: &str) -> String {
    let text = cell.trim_matches('`');
    let padded = cell.starts_with("``");
    if padded {
        text.trim_start_matches(' ')
            .trim_end_matches(' ')
            .trim_matches('`')
            .to_owned()
    } else {
        text.to_owned()
    }
}

/// What `check` says about this file.
fn check(toml: &str) -> String {
    Setup::new(toml).command(["check"]).all()
}

fn check_exactly(toml: &str) -> String {
    Setup::exactly(toml).command(["check"]).all()
}

/// What is said when the configuration, with a state in this directory of this mode, is put to use.
fn state_in(directory: &str, mode: u32) -> String {
    let setup = Setup::exactly(&format!(
        "{}\n[state]\nurl = \"sqlite:{directory}/passgate.db\"\n",
        good()
    ));
    if directory == "open" {
        std::fs::create_dir(setup.path(directory)).unwrap();
        std::fs::set_permissions(setup.path(directory), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    setup.command(["key", "list"]).all()
}

/// What a running gateway says when it reads this file.
fn reload(change: impl Fn(&str) -> String, until: &str) -> String {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n",
    );
    let toml = std::fs::read_to_string(gateway.setup.path("gateway.toml")).unwrap();
    gateway.setup.write("gateway.toml", change(&toml));
    gateway.signal("HUP");
    gateway.diagnostic(until);
    gateway.diagnostics().join("\n")
}

fn templates(name: &str, text: &str) -> String {
    let setup = Setup::new(&format!("{}[pages]\ntemplates = \"mine\"\n[password]\n", good()));
    std::fs::create_dir(setup.path("mine")).unwrap();
    std::fs::write(setup.path("mine").join(name), text).unwrap();
    setup.command(["check"]).all()
}

/// What the program says in the situation of a row of the first table.
fn said(row: &str) -> String {
    let path = |path: &str| good().replacen("/public/*", path, 1);
    match row {
        "cannot read the configuration" => super::run(&["check", "-c", "/nowhere/gateway.toml"], "").all(),
        "the file is empty" => check_exactly(""),
        "this is YAML, and the configuration is TOML" => check_exactly("server:\n  listen: 127.0.0.1:8080\n"),
        "is no quote of TOML" => check_exactly("[server]\nlisten = \u{201c}127.0.0.1:8080\u{201d}\n"),
        "did you mean" => check(&good().replacen("upstream = ", "upsteam = ", 1)),
        "two routes tie" => check(&path("/admin/*")),
        "no request can match" => check(&path("/a%2fb")),
        "holds the secret itself" => {
            check(&good().replacen("{ file = \"corp.secret\" }", "\"0123456789\"", 1))
        }
        "can be read by others" => {
            let setup = Setup::new(&good());
            std::fs::set_permissions(setup.path("corp.secret"), std::fs::Permissions::from_mode(0o644))
                .unwrap();
            setup.command(["check"]).all()
        }
        "is not set; add" => {
            check(&good().replacen("{ file = \"corp.secret\" }", "{ credential = \"corp\" }", 1))
        }
        "the test" => check(&format!(
            "{}[[tests]]\nrequest = \"GET /admin/x\"\nexpect = \"allow\"\n",
            good()
        )),
        "this route needs a caller, and no way to sign in is configured" => check(GOOD),
        "with `[password]`, `public_url` must be" => check(&format!(
            "{}[password]\n[server]\nlisten = \"0.0.0.0:0\"\n",
            good()
        )),
        "cannot listen on" => {
            let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let listen = taken.local_addr().unwrap();
            Setup::new(&format!("{}[server]\nlisten = \"{listen}\"\n", good()))
                .command(["run"])
                .all()
        }
        "cannot create the state file" => state_in("missing", 0),
        "can be written by other users" => state_in("open", 0o777),
        "was not applied; the previous configuration stays in use" => {
            reload(|_| String::new(), "was not applied")
        }
        "changed but requires a restart" => reload(
            |toml| toml.replace("[server]\n", "[server]\nworkers = 7\n"),
            "requires a restart",
        ),
        "is no template" => templates("signin.html", ""),
        "is undefined" => templates("error.html", "{{ titel }}"),
        _ => panic!("no test brings about the row {row:?}"),
    }
}

#[test]
fn messages_quoted_on_the_page_are_the_programs() {
    let rows = rows("It does not start, or does not take a changed file");
    assert!(rows.len() >= 20, "{}", rows.len());
    for row in rows {
        assert_eq!(row.len(), 2, "{row:?}");
        let quoted = code(&row[0]);
        let said = said(quoted.trim());
        assert!(said.contains(quoted.trim()), "{quoted:?} is not in\n{said}");
    }
}

/// A gateway in front of apps that fail in each way, and what makes it answer with each reason.
#[test]
fn answers_on_the_page_have_their_status_text_and_reason() {
    let app = App::start();
    let rubbish = App::answering("rubbish\r\n\r\n");
    let closes = App::with(|exchange| {
        let _ = exchange.read_body();
        app::Answer::Close
    });
    let slow = App::with(|exchange| {
        exchange.wait_until_closed();
        app::Answer::Close
    });
    let ill = App::answering("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let toml = format!(
        r#"
[upstreams.gone]
servers = ["http://127.0.0.1:1"]
[upstreams.rubbish]
servers = [{}]
[upstreams.closes]
servers = [{}]
[upstreams.slow]
servers = [{}]
response_timeout = "100ms"
[upstreams.ill]
servers = [{}]
health_check = {{ path = "/healthz", interval = "1s" }}
[issuers.far]
issuer = "https://far.example.com"
audiences = ["api"]
algorithms = ["RS256"]
jwks_url = "http://127.0.0.1:1/jwks"
[server]
listen = "127.0.0.1:0"
public_url = "https://app.test"
max_body_bytes = "1KiB"
[password]
{}"#,
        rubbish.url(),
        closes.url(),
        slow.url(),
        ill.url(),
        [
            ("/*", "", "app"),
            ("/roles", "roles = [\"admin\"]\n", "app"),
            ("/claims", "claims = { tenant = \"acme\" }\n", "app"),
            ("/scopes", "scopes = [\"x\"]\n", "app"),
            ("/office", "from = [\"192.0.2.0/24\"]\n", "app"),
            ("/any", "any = [{ role = \"x\" }]\n", "app"),
            ("/when", "when = \"subject == 'x'\"\n", "app"),
            ("/closed", "maintenance = \"back at noon\"\n", "app"),
            ("/once", "rate_limit = { requests = 1, per = \"1h\" }\n", "app"),
            ("/recent", "max_age = \"10m\"\n", "app"),
            ("/get", "methods = [\"GET\"]\n", "app"),
            ("/only/x", "auth = \"none\"\n", "app"),
            ("/gone", "auth = \"none\"\n", "gone"),
            ("/rubbish", "auth = \"none\"\n", "rubbish"),
            ("/closes", "auth = \"none\"\n", "closes"),
            ("/slow", "auth = \"none\"\n", "slow"),
            ("/ill", "auth = \"none\"\n", "ill"),
        ]
        .map(|(path, rules, upstream)| {
            format!("[[routes]]\nhost = \"app.test\"\npath = \"{path}\"\n{rules}upstream = \"{upstream}\"\n")
        })
        .concat()
    );
    let gateway = Gateway::before(&app, &toml);
    let get = |target: &str| Request::get(target);
    let token = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut claims = corp_claims("alice");
        change(&mut claims);
        corp_token_of(&claims)
    };
    let with = |change: &dyn Fn(&mut serde_json::Value)| get("/x").bearer(&token(change));
    let remove = |name: &'static str| {
        move |claims: &mut serde_json::Value| drop(claims.as_object_mut().unwrap().remove(name))
    };
    let alice = corp_token("alice", &["user"]);
    let as_alice = |target: &str| get(target).bearer(&alice);
    let login = |password: &str| {
        let body = format!("{{\"email\": \"ann@example.com\", \"password\": \"{password}\"}}");
        Request::post("/auth/login", body).header("Content-Type", "application/json")
    };
    for email in ["ann@example.com", "bob@example.com"] {
        gateway
            .setup
            .command_with_input(["user", "add", email], "correct horse battery staple\n")
            .expect(0);
    }
    // Of an account whose sessions end before the rows on cookies and attempts.
    let body = "{\"email\": \"bob@example.com\", \"password\": \"correct horse battery staple\"}";
    let session = Request::post("/auth/login", body).header("Content-Type", "application/json");
    let session = session.send_to(gateway.address).expect(200).json();
    let access = session["accessToken"].as_str().unwrap().to_owned();
    let form = Request::post(
        "/auth/login",
        "email=ann%40example.com&password=correct+horse+battery+staple",
    )
    .header("Content-Type", "application/x-www-form-urlencoded");
    let cookie = form
        .send_to(gateway.address)
        .expect(303)
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let other_issuer = |claims: &mut serde_json::Value| claims["iss"] = json!("https://id.example.com/");
    let rs256 = Key::new("RS256", "k1").token(&corp_claims("alice"));
    let far = {
        let mut claims = corp_claims("alice");
        claims["iss"] = json!("https://far.example.com");
        Key::new("RS256", "k1").token(&claims)
    };
    let stranger =
        Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256").token(&corp_claims("alice"));

    let mut asked: BTreeMap<&str, Vec<Request>> = BTreeMap::new();
    let mut ask = |reason: &'static str, request: Request| asked.entry(reason).or_default().push(request);
    ask("path-dot-segment", as_alice("/a/%2e%2e/b"));
    ask("path-encoded-slash", as_alice("/a%2Fb"));
    ask("path-empty-segment", as_alice("/a//b"));
    ask("path-not-utf8", as_alice("/caf%E9"));
    ask("path-double-encoding", as_alice("/%2561"));
    ask("path-parameter", as_alice("/a;b"));
    ask("credential-repeated", as_alice("/x").bearer(&alice));
    ask("host-invalid", as_alice("/x").host("a b"));
    ask("code-refused", get("/auth/continue?code=x"));
    ask("credential-missing", get("/x"));
    ask(
        "credential-malformed",
        get("/x").header("Authorization", "Bearer "),
    );
    ask("token-malformed", get("/x").bearer("opaque"));
    ask("issuer-unknown", with(&other_issuer));
    ask("algorithm-refused", get("/x").bearer(&rs256));
    ask("signature-invalid", get("/x").bearer(&stranger));
    ask("audience-refused", with(&|claims| claims["aud"] = json!("other")));
    ask("audience-malformed", with(&remove("aud")));
    ask("subject-malformed", with(&remove("sub")));
    ask("expired", with(&|claims| claims["exp"] = json!(1_000_000_000)));
    ask(
        "not-yet-valid",
        with(&|claims| claims["nbf"] = json!(claims["exp"].as_i64().unwrap() - 1)),
    );
    ask("login-refused", login("wrong horse battery"));
    ask("role-refused", as_alice("/roles"));
    ask("claim-refused", as_alice("/claims"));
    ask("scope-refused", as_alice("/scopes"));
    ask("network-refused", as_alice("/office"));
    ask("any-refused", as_alice("/any"));
    ask("when-refused", as_alice("/when"));
    ask("peer-untrusted", get("/auth/verify"));
    ask("maintenance", get("/closed"));
    ask("rate-limited", as_alice("/once"));
    ask("authentication-insufficient", as_alice("/recent"));
    ask(
        "cross-site",
        Request::post("/x", "a")
            .header("Cookie", &cookie)
            .header("Origin", "https://evil.example"),
    );
    ask(
        "sign-in-elsewhere",
        Request::post("/auth/login", "email=ann%40example.com&password=x")
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Origin", "https://other.test")
            .host("other.test"),
    );
    ask("route-missing", as_alice("/none").host("other.test"));
    ask("method-refused", Request::post("/get", "").bearer(&alice));
    ask(
        "body-too-large",
        Request::post("/x", "x".repeat(2048)).bearer(&alice),
    );
    ask("target-too-long", as_alice(&format!("/{}", "x".repeat(9000))));
    ask(
        "headers-too-large",
        as_alice("/x").header("Cookie", &"x".repeat(40_000)),
    );
    ask("upstream-unreachable", get("/gone"));
    ask("upstream-protocol", get("/rubbish"));
    ask("upstream-closed", get("/closes"));
    ask("upstream-timeout", get("/slow"));
    ask("upstream-down", get("/ill"));
    ask("keys-unavailable", get("/x").bearer(&far));
    ask("revoked", get("/x").bearer(&access));
    ask("throttled", login("wrong horse battery"));

    for row in rows("An unexpected answer") {
        assert_eq!(row.len(), 4, "{row:?}");
        let (status, text, reason) = (row[0].parse::<u16>().unwrap(), row[1].as_str(), code(&row[2]));
        let refusal = Refusal::ALL.iter().find(|refusal| refusal.reason() == reason);
        let refusal = refusal.unwrap_or_else(|| panic!("there is no reason `{reason}`"));
        assert_eq!(
            (refusal.status().as_u16(), refusal.message()),
            (status, text),
            "{reason}"
        );
        if reason == "key-unknown" {
            // Needs an issuer whose keys have been fetched: `tests/it/bearer.rs`.
            continue;
        }
        let is_of_a_proxy = ["original-", "condition-", "loop-"];
        if is_of_a_proxy.iter().any(|start| reason.starts_with(start)) {
            // Need a proxy: `tests/it/forward_auth`, `tests/it/proxying`.
            continue;
        }
        if reason == "signatures-throttled" {
            // Needs hundreds of requests: `tests/it/limits.rs`.
            continue;
        }
        if ["upstream-busy", "upstream-full"].contains(&reason.as_str()) {
            // Need a request that holds the only connection: `tests/it/balancing.rs`.
            continue;
        }
        if ["logout-token-refused", "sign-in-insufficient"].contains(&reason.as_str()) {
            // Need a provider: `tests/it/provider_logout.rs`, `tests/it/step_up.rs`.
            continue;
        }
        if reason == "revoked" {
            gateway
                .command(["session", "revoke", "--all", "bob@example.com"])
                .expect(0);
            eventually("the session has ended", || {
                gateway.get_as(&access, "/x").status == 401
            });
        }
        if reason == "upstream-down" {
            eventually("the health check has failed", || {
                gateway.get("/ill").status == 502
            });
        }
        let requests = asked
            .remove(reason.as_str())
            .unwrap_or_else(|| panic!("no request brings `{reason}` about"));
        for request in requests {
            let mut answer = gateway.send(&request);
            if ["throttled", "rate-limited"].contains(&reason.as_str()) {
                eventually("the attempts are used up", || {
                    answer = gateway.send(&request);
                    answer.status == 429
                });
                assert!(answer.header("retry-after").is_some());
            }
            assert_eq!(answer.status, status, "{reason}: {}", answer.text());
            let id = answer.header("x-request-id").unwrap_or_default();
            if reason == "sign-in-elsewhere" {
                // A form is answered with a page that links to the form of `public_url`.
                let page = answer.text();
                assert!(page.contains("href=\"https://app.test/auth/login\""), "{page}");
            } else {
                let said = answer.json();
                assert_eq!(said["message"], text, "{reason}: {said}");
                assert_eq!(said["request_id"], id, "{reason}: {said}");
            }
            let line = gateway.log_line(|line| line["request_id"] == id);
            assert_eq!(line["reason"], reason.as_str(), "{line}");
            // The gateway remembers each of them, with the step that ended it.
            let told = gateway.command(["why", id, "--format", "json"]).expect(3).json();
            assert_eq!(
                (&told["reason"], &told["rule"].is_null()),
                (&line["reason"], &line["rule"].is_null())
            );
            let steps = told["steps"].as_array().unwrap();
            assert_eq!(steps.last().unwrap()["passed"], false, "{reason}: {told}");
        }
    }
    assert_eq!(
        asked.keys().collect::<Vec<_>>(),
        Vec::<&&str>::new(),
        "the page lacks rows of these"
    );
}

#[test]
fn reported_symptoms_occur_and_their_remedies_work() {
    let app = App::start();
    let route = "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
    let server = |more: &str| {
        format!(
            "{route}[password]\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.test\"\n{more}"
        )
    };
    let token = corp_token("alice", &["user"]);
    let forwarded = |target: &str| {
        Request::get(target)
            .bearer(&token)
            .header("X-Forwarded-For", "203.0.113.7")
            .header("X-Forwarded-Proto", "https")
            .header("X-Auth-User", "mallory")
    };
    let client_of = |gateway: &Gateway, target: &str| {
        gateway.send(&forwarded(target)).expect(200);
        gateway.log_line(|line| line["path"] == target)["client"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let rows = rows("Symptoms");
    let symptom = |words: &str| {
        assert!(
            rows.iter().any(|row| row[0].contains(words)),
            "no row about {words:?}"
        )
    };

    let gateway = Gateway::start(&before(&app, &server("")));
    symptom("gets 401 in place of the sign-in page");
    let fetch = Request::get("/x")
        .header("Sec-Fetch-Mode", "cors")
        .header("Sec-Fetch-Dest", "empty");
    gateway.send(&fetch).expect(401);
    let navigation = Request::get("/x")
        .header("Sec-Fetch-Mode", "navigate")
        .header("Accept", "text/html");
    gateway.send(&navigation).expect(302);

    symptom("There is no sign-in form");
    let page = |host: &str| {
        Request::get("/auth/login")
            .header("Accept", "text/html")
            .host(host)
    };
    let link = gateway.send(&page("other.test")).expect(200).text();
    assert!(
        !link.contains("<form") && link.contains("href=\"https://app.test/auth/login\""),
        "{link}"
    );
    assert!(
        gateway
            .send(&page("app.test"))
            .expect(200)
            .text()
            .contains("<form")
    );

    symptom("All clients have the same address");
    assert_eq!(client_of(&gateway, "/direct"), "127.0.0.1");
    symptom("own `X-Auth-User` does not arrive");
    assert_eq!(app.last().header("x-auth-user"), Some("alice"));

    let gateway = Gateway::start(&before(&app, &server("trusted_proxies = [\"127.0.0.1\"]\n")));
    assert_eq!(client_of(&gateway, "/proxied"), "203.0.113.7");
    symptom("builds `http://` links");
    assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));

    symptom("The app shows no user");
    let gateway = Gateway::start(&before(&app, &server("[identity]\npreset = \"authelia\"\n")));
    gateway.send(&forwarded("/preset")).expect(200);
    assert_eq!(app.last().header("remote-user"), Some("alice"));
    assert_eq!(app.last().header("x-auth-user"), None);
}
