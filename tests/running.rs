//! The gateway as a service: the admin port, the log, signals, start and stop, and many callers at once.
//! DESIGN.md sections 2.1, 2.6 and 3.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use support::gateway::{CORP_ISSUER, before};
use support::tokens::{CORP_SECRET, now};
use support::*;

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
    eventually("the gateway is ready", || gateway.admin_get("/ready").status == 200);
    gateway.admin_get("/").expect(404);
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
    lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn metrics_count_requests_by_route_status_and_reason_and_the_cache() {
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
        (&["requests", "route=", "/admin/*", "status=\"403\"", "reason=\"role-refused\""], 3.0),
        (&["requests", "reason=\"credential-missing\"", "status=\"401\""], 1.0),
        (&["requests", "reason=\"route-missing\"", "status=\"404\""], 1.0),
    ] {
        // A counter is read from all workers; the last request of a test may still be on its way there.
        eventually(&format!("{parts:?} is {count}"), || (sum(&metric_lines(&gateway, parts)) - count).abs() < 0.5);
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
    eventually("a connection is open", || sum(&metric_lines(&gateway, &["connections_open"])) >= 1.0);
    eventually("a token is known", || sum(&metric_lines(&gateway, &["cache_entries"])) >= 1.0);
    assert!(counted("hit") >= 1.0, "{text}");
    assert!(counted("miss") >= 1.0, "{text}");
    for line in text.lines() {
        assert!(!line.contains("nowhere"), "a path of a client is a label: {line}");
    }
}

#[test]
fn metrics_have_histograms_of_the_time_of_the_app_and_of_the_gateway() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    gateway.get("/public/x").expect(200);
    eventually("the times are counted", || sum(&metric_lines(&gateway, &["upstream", "_count"])) >= 1.0);
    let text = gateway.admin_get("/metrics").expect(200).text();
    assert!(text.lines().any(|line| line.contains("_bucket{") && line.contains("le=\"")), "{text}");
    assert!(text.contains("# TYPE") && text.contains("# HELP"), "{text}");
}

#[test]
fn an_issuer_whose_keys_were_never_had_is_seen_in_the_metrics() {
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
    eventually("the issuer is in the metrics", || !metric_lines(&gateway, &["jwks", "distant"]).is_empty());
    // The other issuer works.
    gateway.get_as(&corp_token("alice", &[]), "/private/x").expect(200);
}

// --- the log

#[test]
fn a_log_line_says_who_what_and_why() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    gateway.get_as(&corp_token("alice", &[]), "/private/x?a=1").expect(200);
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
    assert!(line["route"].as_str().is_some_and(|route| route.contains("/private/*")), "{line}");
    assert!(
        line["upstream"].as_str().is_some_and(|upstream| upstream.contains("app") || upstream.contains("127.0.0.1"))
    );
    assert!(line["duration_us"].as_u64() >= line["upstream_us"].as_u64(), "{line}");
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
    assert!(line["decision"].as_str().is_some_and(|decision| !decision.is_empty()));
    assert_eq!(line["reason"], "credential-missing");
    assert!(line["subject"].as_str().is_none_or(str::is_empty), "{line}");
}

#[test]
fn a_token_that_is_refused_is_logged_with_the_line_that_asked_for_one() {
    let app = App::start();
    let toml = gateway::before(&app, ROUTES);
    let gateway = Gateway::start(&toml);
    let refused = gateway.get_as("no-token", "/private/x").expect(401);
    let line = gateway.log_of(&refused);
    assert_eq!(line["reason"], "token-malformed");
    let route = toml.lines().position(|line| line.contains("/private/*")).unwrap() + 1;
    let rule = line["rule"].as_str().unwrap();
    assert!(rule.starts_with("auth = \"required\"") && rule.ends_with(&format!("gateway.toml:{route})")), "{rule}");
}

#[test]
fn first_commands_are_shown_only_where_they_work() {
    let demo = "[upstreams.whoami]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"whoami\"\n";
    let shows = |toml: &str| {
        let mut gateway = Gateway::start(toml);
        assert_eq!(gateway.stop(), Some(0));
        gateway.diagnostics().iter().any(|line| line.contains("try it"))
    };
    assert!(!shows(demo), "nobody is refused at /admin/users");
    let mut gateway =
        Gateway::start(&format!("{demo}[[routes]]\npath = \"/admin/*\"\nroles = [\"admin\"]\nupstream = \"whoami\"\n"));
    gateway.diagnostic("try it");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn every_request_has_one_log_line_also_those_that_are_not_http() {
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
    eventually("all requests are logged", || gateway.log().iter().filter(|line| line["status"] == 200).count() == 20);
    assert_eq!(gateway.log().len(), 21);

    // What the HTTP library refuses by itself is not hidden from the log.
    for line in ["A@b: c", "A: \x01", "A: b\rc"] {
        gateway.send_bytes(format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n")).expect(400);
    }
    gateway.send_bytes("G@T /public/x HTTP/1.1\r\nHost: a\r\n\r\n").expect(400);
    let malformed = |line: &serde_json::Value| line["reason"] == "malformed-head" && line["decision"] == "refuse";
    eventually("they are logged", || gateway.log().iter().filter(|line| malformed(line)).count() == 4);
    let many = "A: b\r\n".repeat(200);
    gateway.send_bytes(format!("GET /public/x HTTP/1.1\r\nHost: a\r\n{many}\r\n")).expect(431);
    gateway.log_line(|line| line["status"] == 431 && line["reason"] == "headers-too-large");
    assert_eq!(gateway.log().len(), 26);
}

#[test]
fn what_a_client_writes_cannot_break_a_log_line() {
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
fn no_secret_is_in_the_log_in_what_is_said_or_in_the_metrics() {
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
            gateway.send(&Request::get(target).header("Cookie", &format!("__session={token}; other=cookie-value-two")));
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
        assert!(!everything.contains(token.as_str()) && !everything.contains(signature), "{token}");
    }
    for secret in [CORP_SECRET, "cookie-value-two", "query-value-three", "PRIVATE KEY"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    for assertion in app.requests().iter().filter_map(|seen| seen.header("x-auth-assertion").map(str::to_owned)) {
        assert!(!everything.contains(&assertion));
    }
}

// --- start, stop, reload

#[test]
fn a_request_under_way_is_finished_before_the_gateway_ends() {
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
    eventually("nobody is let in any more", || TcpStream::connect(gateway.address).is_err());
    assert!(!gateway.has_ended(), "{:?}", gateway.diagnostics());
    gate.open();
    assert_eq!(client.read_exact(6), b"-later");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(client.is_closed());
    // The line of the request that ended last is not lost.
    gateway.log_line(|line| line["path"] == "/public/x" && line["status"] == 200);
}

#[test]
fn an_idle_connection_does_not_hold_the_gateway_up() {
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
fn a_request_without_end_is_cut_when_the_time_to_drain_is_over() {
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
    for (server, admin) in
        [(address.to_string(), "127.0.0.1:0".to_owned()), ("127.0.0.1:0".to_owned(), address.to_string())]
    {
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
fn a_state_file_that_is_no_database_lets_nobody_in() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    setup.write("passgate.db", "this is no database, and it is long enough to be read as a header of one ".repeat(50));
    let said = setup.command(["run"]);
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    assert!(said.stderr.contains("passgate.db"), "{}", said.stderr);
}

#[test]
fn a_wrong_file_never_replaces_the_right_one() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let token = corp_token("alice", &["user"]);
    let wrong = before(&app, &ROUTES.replace("roles = [\"admin\"]", "rolls = [\"admin\"]"));
    let failing = before(&app, &format!("{ROUTES}\n[[tests]]\nrequest = \"GET /public/x\"\nexpect = 401\n"));
    for (toml, said) in [(wrong, "rolls"), (failing, "/public/x"), ("[[[".to_owned(), "[[[")] {
        gateway.setup.rewrite(&toml);
        let before = gateway.diagnostics().len();
        gateway.signal("HUP");
        eventually("the problem is told", || gateway.diagnostics()[before..].iter().any(|line| line.contains(said)));
        gateway.get_as(&token, "/private/x").expect(200);
        gateway.get_as(&token, "/admin/x").expect(403);
        gateway.get("/private/x").expect(401);
    }
}

#[test]
fn a_right_file_replaces_the_other_without_a_connection_lost() {
    let (first, second) = (App::saying(|_| "first".to_owned()), App::saying(|_| "second".to_owned()));
    let gateway = Gateway::before(&first, ROUTES);
    let token = corp_token("alice", &["user"]);
    let mut client = gateway.connect();
    assert_eq!(Request::get("/private/x").bearer(&token).over(&mut client).expect(200).text(), "first");
    let stricter = ROUTES.replace("path = \"/private/*\"", "path = \"/private/*\"\nroles = [\"admin\"]");
    // The listeners stay as they are: the new file names the same ones.
    gateway.setup.rewrite(&before(&second, &stricter));
    gateway.signal("HUP");
    eventually("the new rule holds", || Request::get("/private/x").bearer(&token).over(&mut client).status == 403);
    let admin = corp_token("alice", &["admin"]);
    assert_eq!(Request::get("/private/x").bearer(&admin).over(&mut client).expect(200).text(), "second");
    assert_eq!(gateway.get("/public/x").expect(200).text(), "second");
}

#[test]
fn a_proxy_that_is_trusted_no_more_is_not_believed_on_the_connections_it_has() {
    let app = App::start();
    let trusting = |networks: &str| {
        let server = format!("[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = {networks}\n");
        before(&app, &format!("{server}{ROUTES}"))
    };
    let gateway = Gateway::start(&trusting("[\"127.0.0.0/8\"]"));
    let mut client = gateway.connect();
    let request = Request::get("/public/x").header("X-Forwarded-For", "203.0.113.9").header("X-Request-Id", "given");
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
    let written = std::env::var("PASSGATE_TEST_REQUESTS").ok().and_then(|number| number.parse().ok());
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
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let header = |name: &str| {
                    let values: Vec<_> = request
                        .headers()
                        .get_all(name)
                        .iter()
                        .map(|value| String::from_utf8_lossy(value.as_bytes()))
                        .collect();
                    values.join("+")
                };
                let said = format!("{}|{}|{}", header("x-auth-user"), header("x-auth-roles"), request.uri());
                Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(said))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn request(number: usize, round: usize, token: &str, absolute: bool) -> (http::Request<Empty<Bytes>>, String) {
    let target = format!("/x/{number}/{round}");
    let uri = if absolute { format!("http://app.test{target}") } else { target.clone() };
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
    assert_eq!((status.as_u16(), String::from_utf8_lossy(&body).as_ref()), (200, expected));
}

async fn call_by_http_1(address: SocketAddr, number: usize, token: String) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
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
fn no_answer_ever_carries_the_identity_of_another_caller() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
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
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            shared.push(sender);
        }
        for number in 0..CALLERS {
            callers.spawn(call_by_http_2(shared[number % shared.len()].clone(), number, token(number)));
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}
