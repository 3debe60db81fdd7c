//! The gateway as a service: the admin port, the log, signals, start and stop, and many callers at once.
//!
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::gateway::{CORP_ISSUER, before};
use crate::support::tokens::{CORP_SECRET, now};
use crate::support::*;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;

const ROUTES: &str = r#"
[[routes]]
path = "/private/*"
upstream = "app"

[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"

[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"
"#;

// --- the admin port

#[test]
fn health_and_readiness_are_on_the_admin_port() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    gateway.admin_get("/health").expect(200);
    eventually("the gateway is ready", || {
        gateway.admin_get("/ready").status == 200
    });
    gateway.admin_get("/nothing").expect(404);
    let page = gateway.admin_get("/").expect(200);
    assert_eq!(page.header("refresh"), Some("10"));
    assert!(page.text().contains("in use"), "{}", page.text());
    for path in ["/health", "/ready", "/metrics"] {
        gateway.get(path).expect(404);
    }
    assert_eq!(app.count(), 0);
}

/// The lines of `/metrics` that hold all of these.
fn metric_lines(gateway: &Gateway, parts: &[&str]) -> Vec<String> {
    let text = gateway.admin_get("/metrics").expect(200).text();
    text.lines()
        .filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)))
        .map(str::to_owned)
        .collect()
}

/// The sum of the values of these lines.
fn sum(lines: &[String]) -> f64 {
    lines
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

#[test]
fn metrics_count_requests_by_route_status_reason_and_cache() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let token = corp_token("alice", &["user"]);
    for _ in 0..7 {
        gateway.get_as(&token, "/private/x").expect(200);
    }
    for _ in 0..3 {
        gateway.get_as(&token, "/admin/x").expect(403);
    }
    gateway.get("/private/x").expect(401);
    gateway.get("/nowhere").expect(404);
    for (parts, count) in [
        (&["requests", "route=", "/private/*", "status=\"200\""][..], 7.0),
        (
            &[
                "requests",
                "route=",
                "/admin/*",
                "status=\"403\"",
                "reason=\"role-refused\"",
            ],
            3.0,
        ),
        (
            &["requests", "reason=\"credential-missing\"", "status=\"401\""],
            1.0,
        ),
        (&["requests", "reason=\"route-missing\"", "status=\"404\""], 1.0),
    ] {
        // A counter is read from all workers; the last request of a test may still be on its way there.
        eventually(&format!("{parts:?} is {count}"), || {
            (sum(&metric_lines(&gateway, parts)) - count).abs() < 0.5
        });
    }
    let text = gateway.admin_get("/metrics").expect(200).text();
    let counted = |word: &str| {
        let lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains("cache") && line.contains(word))
            .map(str::to_owned)
            .collect();
        sum(&lines)
    };
    let connections = metric_lines(&gateway, &["connections_accepted"]);
    assert!(sum(&connections) >= 12.0, "{connections:?}");
    let _open = gateway.connect();
    eventually("a connection is open", || {
        sum(&metric_lines(&gateway, &["connections_open"])) >= 1.0
    });
    eventually("a token is known", || {
        sum(&metric_lines(&gateway, &["cache_entries"])) >= 1.0
    });
    assert!(counted("hit") >= 1.0, "{text}");
    assert!(counted("miss") >= 1.0, "{text}");
    for line in text.lines() {
        assert!(!line.contains("nowhere"), "a path of a client is a label: {line}");
    }
}

#[test]
fn metrics_have_histograms_of_app_and_gateway_time() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    gateway.get("/public/x").expect(200);
    eventually("the times are counted", || {
        sum(&metric_lines(&gateway, &["upstream", "_count"])) >= 1.0
    });
    let text = gateway.admin_get("/metrics").expect(200).text();
    assert!(
        text.lines()
            .any(|line| line.contains("_bucket{") && line.contains("le=\"")),
        "{text}"
    );
    assert!(text.contains("# TYPE") && text.contains("# HELP"), "{text}");
}

#[test]
fn issuer_without_keys_is_seen_in_the_metrics() {
    let app = App::start();
    let provider = Provider::start([]);
    provider.fail(Fault::Error);
    let toml = format!(
        "[issuers.distant]\nissuer = \"https://distant.example\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"{}\"\n{}",
        provider.jwks_url(),
        before(&app, ROUTES)
    );
    let gateway = Gateway::start(&toml);
    eventually("the keys are asked for", || provider.fetches() >= 1);
    eventually("the issuer is in the metrics", || {
        !metric_lines(&gateway, &["jwks", "distant"]).is_empty()
    });
    // The other issuer works.
    gateway
        .get_as(&corp_token("alice", &[]), "/private/x")
        .expect(200);
}

#[test]
fn admin_port_refuses_names_that_are_not_configured() {
    let app = App::start();
    let toml = |hosts: &str| {
        let tables = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://app.test:8080\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
        before(&app, &format!("{tables}hosts = {hosts}\n{ROUTES}"))
    };
    let gateway = Gateway::start(&toml("[\"gate.internal\", \"Other.Internal\"]"));
    let asked = |path: &str, host: &str| Request::get(path).host(host).send_to(gateway.admin).status;
    for path in ["/health", "/ready", "/metrics", "/nowhere"] {
        let answered = if path == "/nowhere" { 404 } else { 200 };
        let admin = gateway.admin.to_string();
        for host in [
            &*admin,
            "192.0.2.1",
            "[::1]:9",
            "localhost:1",
            "app.test",
            "app.test:8080",
            "GATE.internal:5",
            "other.internal",
        ] {
            eventually(&format!("{path} for {host}"), || asked(path, host) == answered);
        }
        for host in [
            "rebound.example",
            "xgate.internal",
            "app.test.rebound.example",
            "localhost.rebound.example",
        ] {
            assert_eq!(asked(path, host), 421, "{path} for {host}");
        }
    }
    gateway.setup.rewrite(&toml("[]"));
    gateway.signal("HUP");
    eventually("a name that was taken away is refused", || {
        asked("/health", "gate.internal") == 421
    });
}

// --- a reader that stops

/// Two workers, and an app that cannot be reached.
const UNREAD: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2
drain_timeout = "3s"
[upstreams.app]
builtin = "whoami"
[upstreams.dead]
servers = ["unix:gone.sock"]
[[routes]]
path = "/*"
auth = "none"
upstream = "app"
[[routes]]
path = "/dead"
auth = "none"
upstream = "dead"
"#;

#[test]
fn stopped_log_reader_blocks_no_request_and_no_shutdown() {
    for is_closed in [false, true] {
        let (mut gateway, reader) = Setup::new(UNREAD).start_unread();
        let mut reader = Some(reader).filter(|_| !is_closed);
        let mut clients: Vec<Client> = (0..8).map(|_| gateway.connect()).collect();
        // Some 300 KiB of lines, where a pipe holds 64.
        for client in &mut clients {
            for _ in 0..100 {
                Request::get("/x").over(client).expect(200);
            }
        }
        // Each worker has something to warn of.
        for client in &mut clients {
            Request::get("/dead").over(client).expect(502);
        }
        // And so has the main thread.
        gateway.setup.write("gateway.toml", "[[[");
        for _ in 0..20 {
            gateway.signal("HUP");
        }
        eventually("the reload is refused", || {
            sum(&metric_lines(&gateway, &["config_reload_failed"])) > 0.5
        });
        for client in &mut clients {
            Request::get("/x").over(client).expect(200);
        }
        gateway.admin_get("/health").expect(200);
        drop(clients);
        let asked = Instant::now();
        assert_eq!(gateway.stop(), Some(0));
        // `drain_timeout` and two seconds.
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        if let Some(reader) = &mut reader {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            assert!(rest.len() > 40_000, "the pipe was full: {}", rest.len());
        }
    }
}

#[test]
fn log_lines_are_kept_for_a_late_reader() {
    let (gateway, mut reader) = Setup::new(UNREAD).start_unread();
    let mut client = gateway.connect();
    for _ in 0..400 {
        Request::get("/x").over(&mut client).expect(200);
    }
    Request::get("/dead").over(&mut client).expect(502);
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&said).contains("cannot connect to the app") {
        let length = reader.read(&mut buffer).unwrap();
        assert_ne!(length, 0);
        said.extend_from_slice(&buffer[..length]);
    }
}

#[test]
fn failed_start_reports_its_reason_before_exit() {
    for (toml, code, text) in [
        (
            "[[routes]]\npath = \"/*\"\nupstream = \"gone\"\n",
            2,
            "unknown upstream `gone`",
        ),
        (
            "[state]\nurl = \"sqlite:gone/passgate.db\"\n[upstreams.a]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"a\"\n",
            1,
            "gone/passgate.db",
        ),
    ] {
        let said = Setup::new(toml).command(["run"]).expect(code);
        assert!(said.stderr.contains(text), "{}", said.stderr);
    }
}

// --- the log

#[test]
fn failures_log_as_error_and_refusals_as_refuse() {
    let app = App::with(|exchange| {
        exchange.read_body();
        exchange.wait_until_closed();
        Answer::Close
    });
    let half = App::with(|exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        Answer::Close
    });
    let well = App::start();
    let provider = Provider::start([]);
    provider.fail(Fault::Error);
    let tables = format!(
        r#"
[issuers.distant]
issuer = "https://distant.example"
audiences = ["api"]
algorithms = ["ES256"]
jwks_url = "{jwks}"
[upstreams.well]
servers = [{well}]
[upstreams.half]
servers = [{half}]
[upstreams.dead]
servers = ["unix:gone.sock"]
[upstreams.silent]
servers = [{silent}]
response_timeout = "50ms"
[[routes]]
path = "/well"
auth = "none"
upstream = "well"
[[routes]]
path = "/half"
auth = "none"
upstream = "half"
[[routes]]
path = "/dead"
auth = "none"
upstream = "dead"
[[routes]]
path = "/silent"
auth = "none"
upstream = "silent"
[[routes]]
path = "/private"
upstream = "well"
[[routes]]
path = "/admin"
roles = ["admin"]
upstream = "well"
"#,
        jwks = provider.jwks_url(),
        well = well.url(),
        half = half.url(),
        silent = app.url(),
    );
    let gateway = Gateway::start(&format!("{CORP_ISSUER}{tables}"));
    let mut distant = corp_claims("alice");
    distant["iss"] = json!("https://distant.example");
    let distant = Key::new("ES256", "k").token(&distant);
    let alice = corp_token("alice", &["user"]);
    let table = [
        ("/well", None, 200, "allow", None),
        ("/dead", None, 502, "error", Some("upstream-unreachable")),
        ("/silent", None, 504, "error", Some("upstream-timeout")),
        ("/private", Some(&distant), 503, "error", Some("keys-unavailable")),
        ("/private", Some(&alice), 200, "allow", None),
        ("/private", None, 401, "refuse", Some("credential-missing")),
        ("/admin", Some(&alice), 403, "refuse", Some("role-refused")),
        ("/nowhere", None, 404, "refuse", Some("route-missing")),
        ("/well//x", None, 400, "refuse", Some("path-empty-segment")),
    ];
    for (number, (path, token, status, decision, reason)) in table.into_iter().enumerate() {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.bearer(token);
        }
        gateway.send(&request).expect(status);
        eventually("there is a line", || gateway.log().len() > number);
        let line = &gateway.log()[number];
        assert_eq!(
            (&line["decision"], &line["reason"]),
            (&json!(decision), &json!(reason)),
            "{path} {line}"
        );
        assert_eq!(line["status"], status, "{line}");
    }
    let mut client = gateway.connect();
    client.send(Request::get("/half").bytes());
    client.read_through(b"half");
    let line = gateway.log_line(|line| line["path"] == "/half");
    assert_eq!(
        (&line["decision"], &line["reason"]),
        (&json!("error"), &json!("upstream-broke-off")),
        "{line}"
    );
}

#[test]
fn the_warning_of_a_dead_app_names_the_request_and_the_route() {
    let gateway = Gateway::start(UNREAD);
    let answer = gateway.get("/dead").expect(502);
    let id = answer.json()["request_id"].as_str().unwrap().to_owned();
    gateway.diagnostic("cannot connect to the app");
    let said = gateway
        .diagnostics()
        .into_iter()
        .find(|line| line.contains("cannot connect to the app"))
        .unwrap();
    for part in [
        "WARN",
        "upstream=dead",
        "route=/dead",
        &format!("request_id={id}"),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_log_can_be_had_in_other_forms_and_at_a_reload() {
    let app = App::start();
    let toml = |log: &str| before(&app, &format!("[log]\n{log}\n{ROUTES}"));
    let mut gateway = Gateway::start(&toml(""));
    let mut claims = corp_claims("u-17");
    claims["email"] = json!("alice@example.com");
    let token = corp_token_of(&claims);
    let mut lines = 0;
    let mut next = |path: &str| {
        gateway.get_as(&token, path).expect(200);
        lines += 1;
        eventually("there is a line", || gateway.log_text().len() >= lines);
        assert_eq!(gateway.log_text().len(), lines);
        gateway.log_text()[lines - 1].clone()
    };
    let reload = |log: &str| {
        let known = gateway.diagnostics().len();
        gateway.setup.rewrite(&toml(log));
        gateway.signal("HUP");
        eventually("it is read again", || {
            gateway.diagnostics()[known..]
                .iter()
                .any(|line| line.contains("configuration read again"))
        });
    };
    let line: serde_json::Value = serde_json::from_str(&next("/private/1")).unwrap();
    assert_eq!(
        (&line["subject"], &line["email"]),
        (&json!("u-17"), &json!("alice@example.com"))
    );

    reload("email = false");
    let line: serde_json::Value = serde_json::from_str(&next("/private/2")).unwrap();
    assert_eq!((&line["subject"], line.get("email")), (&json!("u-17"), None));

    reload("format = \"text\"");
    let line = next("/private/3");
    assert!(
        line.contains(" 127.0.0.1 GET app.test /private/3 200 allow "),
        "{line}"
    );
    assert!(
        line.contains(" subject=u-17 email=alice@example.com issuer=corp route=/private/* "),
        "{line}"
    );

    reload("access = false");
    gateway.get_as(&token, "/private/unseen").expect(200);
    reload("");
    let line = next("/private/4");
    assert!(line.contains("/private/4"), "{line}");

    // The end is said at the level `info`, and so not here.
    let known = gateway.diagnostics().len();
    gateway
        .setup
        .rewrite(&toml("level = \"error\"\nformat = \"text\""));
    gateway.signal("HUP");
    eventually("it is read again", || {
        gateway.get_as(&token, "/private/5");
        gateway
            .log_text()
            .last()
            .is_some_and(|line| line.contains(" 127.0.0.1 GET app.test /private/5 200 "))
    });
    gateway.setup.rewrite("[[[");
    gateway.signal("HUP");
    eventually("errors are said", || {
        gateway.diagnostics()[known..]
            .iter()
            .any(|line| line.contains("ERROR") && line.contains("was not applied"))
    });
    assert_eq!(gateway.stop(), Some(0));
    assert!(
        !gateway
            .diagnostics()
            .iter()
            .any(|line| line.contains("shutting down: ")),
        "{:?}",
        gateway.diagnostics()
    );
}

#[test]
fn the_log_is_written_to_a_file_that_can_be_rotated() {
    let app = App::start();
    let gateway = Gateway::start(&before(&app, &format!("[log]\nfile = \"gate.log\"\n{ROUTES}")));
    let (file, rotated) = (gateway.setup.path("gate.log"), gateway.setup.path("gate.log.1"));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    gateway.get("/public/1").expect(200);
    eventually("it is in the file", || lines(&file) == 1);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::rename(&file, &rotated).unwrap();
    gateway.get("/public/2").expect(200);
    eventually("it goes on where it was", || lines(&rotated) == 2);
    gateway.signal("USR1");
    // The file is there a moment before lines go to it.
    gateway.diagnostic("the access log was opened again");
    gateway.get("/public/3").expect(200);
    eventually("it is in the new file", || lines(&file) == 1);
    assert_eq!(lines(&rotated), 2);
    assert_eq!(gateway.log_text(), [""; 0]);
    // A place that cannot be had leaves everything as it is.
    gateway.setup.rewrite(&before(
        &app,
        &format!("[log]\nfile = \"gone/gate.log\"\n{ROUTES}"),
    ));
    gateway.signal("HUP");
    gateway.diagnostic("was not applied");
    gateway.get("/public/4").expect(200);
    eventually("it is in the file", || lines(&file) == 2);
    let setup = Setup::new(&before(
        &app,
        &format!("[log]\nfile = \"gone/gate.log\"\n{ROUTES}"),
    ));
    let said = setup.command(["run"]).expect(1);
    assert!(said.stderr.contains("gone/gate.log"), "{}", said.stderr);
}

#[test]
fn rotation_signal_without_a_log_file_does_nothing() {
    let app = App::start();
    let mut gateway = Gateway::before(&app, ROUTES);
    gateway.signal("USR1");
    gateway.get("/public/1").expect(200);
    gateway.log_line(|line| line["path"] == "/public/1");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn answer_of_an_app_has_the_request_id_unless_the_app_has_one() {
    for (field, own) in [("", None), ("X-Request-Id: of-the-app\r\n", Some("of-the-app"))] {
        let app = App::answering(format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok"));
        let gateway = Gateway::before(&app, ROUTES);
        let answer = gateway.get("/public/x").expect(200);
        let line = gateway.log_line(|line| line["path"] == "/public/x");
        assert_eq!(answer.header("x-request-id"), own.or(line["request_id"].as_str()));
    }
}

#[test]
fn log_line_has_caller_request_and_reason() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    gateway
        .get_as(&corp_token("alice", &[]), "/private/x?a=1")
        .expect(200);
    let line = gateway.log_line(|line| line["path"] == "/private/x");
    for name in [
        "time",
        "request_id",
        "client",
        "method",
        "host",
        "path",
        "route",
        "subject",
        "issuer",
        "decision",
        "reason",
        "rule",
        "status",
        "bytes",
        "upstream",
        "duration_us",
        "upstream_us",
    ] {
        assert!(line.get(name).is_some(), "no `{name}` in {line}");
    }
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["host"], "app.test");
    assert_eq!(line["subject"], "alice");
    assert_eq!(line["issuer"], "corp");
    assert_eq!(line["status"], 200);
    assert!(
        line["route"]
            .as_str()
            .is_some_and(|route| route.contains("/private/*")),
        "{line}"
    );
    assert!(
        line["upstream"]
            .as_str()
            .is_some_and(|upstream| upstream.contains("app") || upstream.contains("127.0.0.1"))
    );
    assert!(
        line["duration_us"].as_u64() >= line["upstream_us"].as_u64(),
        "{line}"
    );
    assert!(line["bytes"].as_u64().is_some(), "{line}");
    assert_eq!(app.only().header("x-request-id"), line["request_id"].as_str());
    assert_eq!(gateway.log().len(), 1);
}

#[test]
fn a_refusal_is_logged_with_its_reason_and_without_an_app() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let refused = gateway.get("/private/x").expect(401);
    let line = gateway.log_of(&refused);
    let allowed = {
        gateway.get("/public/x").expect(200);
        gateway.log_line(|line| line["path"] == "/public/x")
    };
    assert_ne!(line["decision"], allowed["decision"]);
    assert!(
        line["decision"]
            .as_str()
            .is_some_and(|decision| !decision.is_empty())
    );
    assert_eq!(line["reason"], "credential-missing");
    assert!(line["subject"].as_str().is_none_or(str::is_empty), "{line}");
}

#[test]
fn refused_token_is_logged_with_the_line_of_the_rule() {
    let app = App::start();
    let toml = gateway::before(&app, ROUTES);
    let gateway = Gateway::start(&toml);
    let refused = gateway.get_as("no-token", "/private/x").expect(401);
    let line = gateway.log_of(&refused);
    assert_eq!(line["reason"], "token-malformed");
    let route = toml.lines().position(|line| line.contains("/private/*")).unwrap() + 1;
    let rule = line["rule"].as_str().unwrap();
    assert!(
        rule.starts_with("auth = \"required\"") && rule.ends_with(&format!("gateway.toml:{route})")),
        "{rule}"
    );
}

#[test]
fn first_commands_are_printed_only_where_they_work() {
    let demo = "[upstreams.whoami]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"whoami\"\n";
    let shows = |toml: &str| {
        let mut gateway = Gateway::start(toml);
        assert_eq!(gateway.stop(), Some(0));
        gateway.diagnostics().iter().any(|line| line.contains("try it"))
    };
    assert!(!shows(demo), "nobody is refused at /admin/users");
    let mut gateway = Gateway::start(&format!(
        "{demo}[[routes]]\npath = \"/admin/*\"\nroles = [\"admin\"]\nupstream = \"whoami\"\n"
    ));
    gateway.diagnostic("try it");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn every_request_has_one_log_line_even_when_malformed() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let mut client = gateway.connect();
    for _ in 0..20 {
        Request::get("/public/x").over(&mut client).expect(200);
    }
    gateway
        .send_bytes("POST /public/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        .expect(400);
    gateway.log_line(|line| line["status"] == 400);
    eventually("all requests are logged", || {
        gateway.log().iter().filter(|line| line["status"] == 200).count() == 20
    });
    assert_eq!(gateway.log().len(), 21);

    // What the HTTP library refuses by itself is not hidden from the log.
    for line in ["A@b: c", "A: \x01", "A: b\rc"] {
        gateway
            .send_bytes(format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"))
            .expect(400);
    }
    gateway
        .send_bytes("G@T /public/x HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect(400);
    let malformed =
        |line: &serde_json::Value| line["reason"] == "malformed-head" && line["decision"] == "refuse";
    eventually("they are logged", || {
        gateway.log().iter().filter(|line| malformed(line)).count() == 4
    });
    let many = "A: b\r\n".repeat(200);
    gateway
        .send_bytes(format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{many}\r\n"))
        .expect(431);
    gateway.log_line(|line| line["status"] == 431 && line["reason"] == "headers-too-large");
    assert_eq!(gateway.log().len(), 26);
}

#[test]
fn client_input_cannot_break_a_log_line() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let mut claims = corp_claims("al\"ice\\ \u{1f600} {\"a\":1}");
    claims["roles"] = json!(["\n"]);
    gateway.get_as(&corp_token_of(&claims), "/private/%22%5B%7D'\"x");
    gateway.send(&Request::get("/private/quote").bearer(&corp_token_of(&claims)));
    gateway.send_bytes("G\"ET /public/x HTTP/1.1\r\nHost: app.test\r\n\r\n");
    gateway.send(&Request::get("/public/\"},{\"status\":1}"));
    let last = gateway.send(&Request::get("/private/last")).expect(401);
    // Reading the log parses every line.
    gateway.log_of(&last);
    assert!(gateway.log().len() >= 3);
}

#[test]
fn secrets_are_in_no_log_output_or_metric() {
    let app = App::start();
    let sources = "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { header = \"x-token\" }, \
                   { cookie = \"__session\" }, { query = \"access_token\" }]\n";
    let gateway = Gateway::before(&app, &format!("[identity]\nassertion = true\n{sources}{ROUTES}"));
    let mut expired = corp_claims("alice");
    expired["exp"] = json!(now() - 3600);
    let tokens = [
        corp_token("alice", &["admin"]),
        corp_token_of(&expired),
        Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256").token(&corp_claims("bob")),
        "rubbish-token-number-one".to_owned(),
    ];
    for token in &tokens {
        for target in ["/private/x", "/admin/x", "/public/x", "/nowhere", "/private//x"] {
            gateway.get_as(token, target);
            gateway.send(&Request::get(target).header("X-Token", token));
            gateway.send(
                &Request::get(target).header("Cookie", &format!("__session={token}; other=cookie-value-two")),
            );
            gateway.get(&format!("{target}?access_token={token}&secret=query-value-three"));
            gateway.send(&Request::get(target).header("Authorization", &format!("Basic {token}")));
            gateway.send(&Request::get(target).bearer(token).bearer(token));
        }
    }
    let last = gateway.get("/private/last-of-all").expect(401);
    gateway.log_of(&last);
    let everything = [
        gateway.log_text().join("\n"),
        gateway.diagnostics().join("\n"),
        gateway.admin_get("/metrics").text(),
        gateway.admin_get("/health").text(),
        gateway.admin_get("/ready").text(),
    ]
    .join("\n");
    for token in &tokens {
        let signature = token.rsplit('.').next().unwrap();
        assert!(
            !everything.contains(token.as_str()) && !everything.contains(signature),
            "{token}"
        );
    }
    for secret in [
        CORP_SECRET,
        "cookie-value-two",
        "query-value-three",
        "PRIVATE KEY",
    ] {
        assert!(!everything.contains(secret), "{secret}");
    }
    for assertion in app
        .requests()
        .iter()
        .filter_map(|seen| seen.header("x-auth-assertion").map(str::to_owned))
    {
        assert!(!everything.contains(&assertion));
    }
}

// --- start, stop, reload

#[test]
fn in_flight_request_finishes_before_shutdown() {
    let gate = Arc::new(Gate::default());
    let shared = gate.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirst");
        shared.pass();
        exchange.send("-later");
        Answer::Close
    });
    let mut gateway = Gateway::before(&app, ROUTES);
    let mut client = gateway.connect();
    client.send(Request::get("/public/x").bytes());
    client.read_through(b"first");
    gateway.signal("TERM");
    eventually("nobody is let in any more", || {
        TcpStream::connect(gateway.address).is_err()
    });
    assert!(!gateway.has_ended(), "{:?}", gateway.diagnostics());
    gate.open();
    assert_eq!(client.read_exact(6), b"-later");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(client.is_closed());
    // The line of the request that ended last is not lost.
    gateway.log_line(|line| line["path"] == "/public/x" && line["status"] == 200);
}

#[test]
fn idle_connection_does_not_delay_shutdown() {
    let app = App::start();
    let mut gateway = Gateway::before(&app, ROUTES);
    let mut idle = gateway.connect();
    Request::get("/public/x").over(&mut idle).expect(200);
    let mut silent = gateway.connect();
    let http2 = http2::Http2::connect(gateway.address);
    assert_eq!(http2.get("http://app.test/public/x", None).status, 200);
    assert_eq!(gateway.stop(), Some(0));
    assert!(idle.is_closed() && silent.is_closed());
}

#[test]
fn first_request_of_an_accepted_connection_is_answered_while_the_gateway_drains() {
    let app = App::start();
    let certificate = tls::Certificate::for_names(&["app.test"]);
    for is_tls in [false, true] {
        let table = match is_tls {
            true => "[server.tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n",
            false => "",
        };
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{table}{}",
            before(&app, ROUTES)
        );
        let setup = Setup::new(&toml);
        setup.write("a.pem", &certificate.chain_pem);
        setup.write("a.key", &certificate.key_pem);
        let mut gateway = setup.start();
        let config = tls::client_config(&[&certificate], &[]);
        let connect = || match is_tls {
            true => tls::client(&config, gateway.address, "app.test"),
            false => gateway.connect(),
        };
        let mut client = connect();
        // It is accepted, because one that came later is.
        Request::get("/public/x").over(&mut connect()).expect(200);
        gateway.signal("TERM");
        gateway.diagnostic("shutting down");
        Request::get("/public/x").over(&mut client).expect(200);
        assert_eq!(gateway.wait().code(), Some(0));
    }
}

#[test]
fn endless_request_is_cut_after_drain_timeout() {
    let app = App::with(|exchange| {
        exchange.read_body();
        exchange.wait_until_closed();
        Answer::Close
    });
    let server = "[server]\nlisten = \"127.0.0.1:0\"\ndrain_timeout = \"200ms\"\n";
    let mut gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    let mut client = gateway.connect();
    client.send(Request::get("/public/x").bytes());
    app.wait_for(1);
    gateway.signal("TERM");
    gateway.wait();
    assert!(client.is_closed());
}

#[test]
fn a_port_in_use_is_a_clear_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (server, admin) in [
        (address.to_string(), "127.0.0.1:0".to_owned()),
        ("127.0.0.1:0".to_owned(), address.to_string()),
    ] {
        let toml = format!(
            "[server]\nlisten = \"{server}\"\n[admin]\nlisten = \"{admin}\"\n[upstreams.app]\nbuiltin = \"whoami\"\n\
             [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n"
        );
        let said = Setup::new(&toml).command(["run"]).expect(1);
        assert!(said.stderr.contains(&address.to_string()), "{}", said.stderr);
        assert!(said.stderr.to_lowercase().contains("in use"), "{}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
}

#[test]
fn a_state_that_cannot_be_opened_is_a_clear_failure() {
    let toml = "[state]\nurl = \"sqlite:missing/directory/passgate.db\"\n[upstreams.app]\nbuiltin = \"whoami\"\n\
                [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
    let said = Setup::new(toml).command(["run"]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    assert!(said.stderr.contains("passgate.db"), "{}", said.stderr);
}

#[test]
fn invalid_state_file_stops_the_start() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    setup.write(
        "passgate.db",
        "this is no database, and it is long enough to be read as a header of one ".repeat(50),
    );
    let said = setup.command(["run"]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    assert!(said.stderr.contains("passgate.db"), "{}", said.stderr);
}

#[test]
fn a_wrong_file_never_replaces_the_right_one() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let token = corp_token("alice", &["user"]);
    let wrong = before(
        &app,
        &ROUTES.replace("roles = [\"admin\"]", "rolls = [\"admin\"]"),
    );
    let failing = before(
        &app,
        &format!("{ROUTES}\n[[tests]]\nrequest = \"GET /public/x\"\nexpect = 401\n"),
    );
    for (toml, said) in [
        (wrong, "rolls"),
        (failing, "/public/x"),
        ("[[[".to_owned(), "[[["),
    ] {
        gateway.setup.rewrite(&toml);
        let before = gateway.diagnostics().len();
        gateway.signal("HUP");
        eventually("the problem is told", || {
            gateway.diagnostics()[before..]
                .iter()
                .any(|line| line.contains(said))
        });
        gateway.get_as(&token, "/private/x").expect(200);
        gateway.get_as(&token, "/admin/x").expect(403);
        gateway.get("/private/x").expect(401);
    }
}

#[test]
fn valid_file_replaces_the_other_and_keeps_connections() {
    let (first, second) = (
        App::saying(|_| "first".to_owned()),
        App::saying(|_| "second".to_owned()),
    );
    let gateway = Gateway::before(&first, ROUTES);
    let token = corp_token("alice", &["user"]);
    let mut client = gateway.connect();
    assert_eq!(
        Request::get("/private/x")
            .bearer(&token)
            .over(&mut client)
            .expect(200)
            .text(),
        "first"
    );
    let stricter = ROUTES.replace(
        "path = \"/private/*\"",
        "path = \"/private/*\"\nroles = [\"admin\"]",
    );
    // The listeners stay as they are: the new file names the same ones.
    gateway.setup.rewrite(&before(&second, &stricter));
    gateway.signal("HUP");
    eventually("the new rule holds", || {
        Request::get("/private/x").bearer(&token).over(&mut client).status == 403
    });
    let admin = corp_token("alice", &["admin"]);
    assert_eq!(
        Request::get("/private/x")
            .bearer(&admin)
            .over(&mut client)
            .expect(200)
            .text(),
        "second"
    );
    assert_eq!(gateway.get("/public/x").expect(200).text(), "second");
}

#[test]
fn reload_compares_files_by_content() {
    let app = App::start();
    let (one, two) = (Key::new("ES256", "a"), Key::new("ES256", "a"));
    let toml = format!(
        "{CORP_ISSUER}[issuers.disk]\nissuer = \"https://disk.example\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\n\
         jwks_file = \"disk.json\"\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.test\"\n[password]\n[pages]\ntemplates = \"templates\"\n[upstreams.app]\nservers = [{}]\n{ROUTES}",
        app.url()
    );
    let setup = Setup::new(&toml);
    setup.write("disk.json", tokens::jwks([&one]));
    std::fs::create_dir(setup.path("templates")).unwrap();
    let template = |word: &str| format!("<style>{{{{ style }}}}</style><p>{word}</p>");
    setup.write("templates/error.html", template("first!"));
    let gateway = setup.start();
    let other = CORP_SECRET.chars().rev().collect::<String>();
    let claims = |issuer: &str| {
        let mut claims = corp_claims("alice");
        claims["iss"] = json!(issuer);
        claims
    };
    let of_corp = |secret: &str| Key::secret("HS256", secret).token(&corp_claims("alice"));
    let of_disk = |key: &Key| key.token(&claims("https://disk.example"));
    let page = || {
        let browser = Request::get("/nowhere")
            .header("Accept", "text/html")
            .header("Sec-Fetch-Dest", "document");
        gateway
            .send(&browser.header("Sec-Fetch-Mode", "navigate"))
            .expect(404)
            .text()
    };
    // Tokens of both are known to the caches.
    for token in [of_corp(CORP_SECRET), of_disk(&one)] {
        gateway.get_as(&token, "/private/x").expect(200);
    }
    assert!(page().contains("first!"));
    for (name, content) in [
        ("corp.secret", other.clone()),
        ("disk.json", tokens::jwks([&two])),
        ("templates/error.html", template("second")),
    ] {
        let path = gateway.setup.path(name);
        let before = path.metadata().unwrap();
        gateway.setup.write(name, content);
        std::fs::File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        let after = path.metadata().unwrap();
        assert_eq!(
            (before.len(), before.modified().unwrap()),
            (after.len(), after.modified().unwrap()),
            "{name}"
        );
    }
    gateway.signal("HUP");
    eventually("the new secret is taken", || {
        gateway.get_as(&of_corp(&other), "/private/x").status == 200
    });
    gateway.get_as(&of_disk(&two), "/private/x").expect(200);
    for token in [of_corp(CORP_SECRET), of_disk(&one)] {
        gateway.get_as(&token, "/private/x").expect(401);
    }
    assert!(page().contains("second"));
}

#[test]
fn world_writable_file_is_refused_at_start_and_reload() {
    let app = App::start();
    let toml = before(&app, ROUTES);
    let setup = Setup::new(&toml);
    let set_mode = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (file, directory) = (setup.path("gateway.toml"), setup.path(""));
    let table = [
        (&file, 0o666, 0o644, "(mode 0666)"),
        (&directory, 0o757, 0o700, "(mode 0757)"),
    ];
    for (path, loose, _, text) in table {
        let before = path.metadata().unwrap().permissions().mode();
        set_mode(path, loose);
        for words in [["run"], ["check"]] {
            let said = setup.command(words).expect(2);
            assert!(
                said.stderr.contains("every user can write") && said.stderr.contains(text),
                "{}",
                said.stderr
            );
            assert!(said.stderr.contains("hint: "), "{}", said.stderr);
        }
        set_mode(path, before);
    }
    let gateway = setup.start();
    for (path, loose, tight, text) in table {
        gateway
            .setup
            .rewrite(&toml.replace("path = \"/public/*\"", "path = \"/open/*\""));
        set_mode(path, loose);
        gateway.signal("HUP");
        gateway.diagnostic(text);
        eventually("it is not taken", || {
            sum(&metric_lines(&gateway, &["config_reload_failed"])) > 0.5
        });
        gateway.get("/public/x").expect(200);
        set_mode(path, tight);
        gateway.setup.rewrite(&toml);
        gateway.signal("HUP");
        eventually("it is taken", || {
            sum(&metric_lines(&gateway, &["config_reload_failed"])) < 0.5
        });
    }
    // As in /tmp: others can add files there, and not replace this one.
    set_mode(&gateway.setup.path(""), 0o1777);
    gateway.setup.succeed(["check"]);
    set_mode(&gateway.setup.path(""), 0o700);
}

#[test]
fn state_directory_holds_the_state_file_where_set() {
    let app = App::start();
    let tables = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[password]\n";
    let toml = before(&app, &format!("{tables}{ROUTES}"));
    let elsewhere = tempfile::tempdir().unwrap();
    let directories = format!("{}:/nowhere", elsewhere.path().display());
    let setup = Setup::exactly(&toml).environment("STATE_DIRECTORY", directories);
    let mut gateway = setup.start();
    assert!(elsewhere.path().join("passgate.db").exists());
    assert!(!gateway.setup.path("passgate.db").exists());
    assert_eq!(gateway.stop(), Some(0));
    // What is written holds, and a relative path starts from the file that it is written in.
    let setup = Setup::exactly(&format!("{toml}\n[state]\nurl = \"sqlite:own.db\"\n"));
    let mut gateway = setup.environment("STATE_DIRECTORY", elsewhere.path()).start();
    assert!(gateway.setup.path("own.db").exists());
    assert_eq!(gateway.stop(), Some(0));
    // One beside the file that is not used any more is not passed over in silence.
    let setup = Setup::exactly(&toml).environment("STATE_DIRECTORY", elsewhere.path());
    setup.write("passgate.db", "");
    let said = setup.command(["check"]).expect(0);
    assert!(
        said.stderr.contains("is not used") && said.stderr.contains("passgate.db"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_certificate_and_its_key_can_be_credentials() {
    let app = App::start();
    let credentials = tempfile::tempdir().unwrap();
    let write = |certificate: &tls::Certificate| {
        std::fs::write(credentials.path().join("chain"), &certificate.chain_pem).unwrap();
        std::fs::write(credentials.path().join("key"), &certificate.key_pem).unwrap();
    };
    let (first, second) = (
        tls::Certificate::for_names(&["a.test"]),
        tls::Certificate::for_names(&["a.test"]),
    );
    write(&first);
    let table = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://a.test\"\n[server.tls]\n\
                 certificate = { credential = \"chain\" }\nprivate_key = { credential = \"key\" }\n";
    let setup = Setup::new(&before(&app, &format!("{table}{ROUTES}")));
    // Beside the service, one thing is wrong, and one error says so.
    let said = setup.command(["check"]).expect(2);
    assert_eq!(
        said.stderr.matches("error: ").count(),
        2,
        "one for each half: {}",
        said.stderr
    );
    assert!(said.stderr.contains("CREDENTIALS_DIRECTORY"), "{}", said.stderr);
    let gateway = setup
        .environment("CREDENTIALS_DIRECTORY", credentials.path())
        .start();
    let ask = |trusted: &tls::Certificate| {
        tls::connect(&tls::client_config(&[trusted], &[]), gateway.address, "a.test").is_ok()
    };
    assert!(ask(&first) && !ask(&second));
    // As systemd 260 does at a reload; earlier ones leave credentials as they are.
    write(&second);
    eventually("the renewed pair is in use", || ask(&second));
    // Half a renewal: the pair in use stays, and is said to end.
    std::fs::write(credentials.path().join("chain"), &first.chain_pem).unwrap();
    gateway.diagnostic("does not go with the certificate");
    gateway.diagnostic("which expires 4096-01-01T00:00:00Z");
    assert!(ask(&second));
}

#[test]
fn proxy_removed_from_trust_is_not_believed_when_connected() {
    let app = App::start();
    let trusting = |networks: &str| {
        let server = format!("[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = {networks}\n");
        before(&app, &format!("{server}{ROUTES}"))
    };
    let gateway = Gateway::start(&trusting("[\"127.0.0.0/8\"]"));
    let mut client = gateway.connect();
    let request = Request::get("/public/x")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Request-Id", "given");
    let mut seen = || {
        request.over(&mut client).expect(200);
        app.last().header("x-forwarded-for").unwrap().to_owned()
    };
    assert_eq!(seen(), "203.0.113.9, 127.0.0.1");
    assert_eq!(app.last().header("x-request-id"), Some("given"));
    gateway.setup.rewrite(&trusting("[]"));
    gateway.signal("HUP");
    eventually("the new file holds", || seen() == "127.0.0.1");
    assert_ne!(app.last().header("x-request-id"), Some("given"));
}

#[test]
fn two_signals_to_stop_do_no_harm() {
    let app = App::start();
    let mut gateway = Gateway::before(&app, ROUTES);
    gateway.get("/public/x").expect(200);
    gateway.signal("HUP");
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

// --- many callers

/// How many requests each of the callers makes: the full number where the code is optimised.
fn requests_each() -> usize {
    let written = std::env::var("PASSGATE_TEST_REQUESTS")
        .ok()
        .and_then(|number| number.parse().ok());
    written.unwrap_or(if cfg!(debug_assertions) { 200 } else { 2_000 })
}

const CALLERS: usize = 64;

/// An app that answers with the identity it was told, quickly.
async fn echo_identity() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            let service =
                hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                    let header = |name: &str| {
                        let values: Vec<_> = request
                            .headers()
                            .get_all(name)
                            .iter()
                            .map(|value| String::from_utf8_lossy(value.as_bytes()))
                            .collect();
                        values.join("+")
                    };
                    let said = format!(
                        "{}|{}|{}",
                        header("x-auth-user"),
                        header("x-auth-roles"),
                        request.uri()
                    );
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(said))))
                });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

fn request(
    number: usize,
    round: usize,
    token: &str,
    absolute: bool,
) -> (http::Request<Empty<Bytes>>, String) {
    let target = format!("/x/{number}/{round}");
    let uri = if absolute {
        format!("http://app.test{target}")
    } else {
        target.clone()
    };
    let request = http::Request::get(uri)
        .header("host", "app.test")
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::new())
        .unwrap();
    (request, format!("user-{number}|role-{number}|{target}"))
}

async fn check(response: http::Response<hyper::body::Incoming>, expected: &str) {
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        (status.as_u16(), String::from_utf8_lossy(&body).as_ref()),
        (200, expected)
    );
}

async fn call_by_http_1(address: SocketAddr, number: usize, token: String) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    for round in 0..requests_each() {
        let (request, expected) = request(number, round, &token, false);
        sender.ready().await.unwrap();
        check(sender.send_request(request).await.unwrap(), &expected).await;
    }
}

/// All callers of HTTP/2 share a few connections, so that their streams are interleaved on the same ones.
async fn call_by_http_2(
    mut sender: hyper::client::conn::http2::SendRequest<Empty<Bytes>>,
    number: usize,
    token: String,
) {
    for round in 0..requests_each() {
        let (request, expected) = request(number, round, &token, true);
        sender.ready().await.unwrap();
        check(sender.send_request(request).await.unwrap(), &expected).await;
    }
}

#[test]
fn answers_never_carry_the_identity_of_another_caller() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let app = runtime.block_on(echo_identity());
    let toml = format!(
        "{CORP_ISSUER}[upstreams.app]\nservers = [\"http://{app}\"]\n[[routes]]\npath = \"/x/*\"\nupstream = \"app\"\n"
    );
    let gateway = Gateway::start(&toml);
    let address = gateway.address;
    let token = |number: usize| corp_token(&format!("user-{number}"), &[&format!("role-{number}")]);
    runtime.block_on(async {
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..CALLERS {
            callers.spawn(call_by_http_1(address, number, token(number)));
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        let mut shared = Vec::new();
        for _ in 0..4 {
            let stream = TokioIo::new(tokio::net::TcpStream::connect(address).await.unwrap());
            let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                .await
                .unwrap();
            tokio::spawn(connection);
            shared.push(sender);
        }
        for number in 0..CALLERS {
            callers.spawn(call_by_http_2(
                shared[number % shared.len()].clone(),
                number,
                token(number),
            ));
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}
