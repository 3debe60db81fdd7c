//! Limits on requests: rate limits of routes, and tokens with a bad signature.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use crate::support::gateway::before;
use crate::support::*;

const SERVER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\ntrusted_proxies = [\"127.0.0.1\"]\n";

/// A route with a limit of three requests an hour.
fn limited(path: &str, by: &str, more: &str) -> String {
    format!(
        "[[routes]]\npath = \"{path}\"\nupstream = \"app\"\nrate_limit = {{ requests = 3, per = \"1h\", by = \"{by}\" }}\n{more}\n"
    )
}

fn gateway(app: &App, routes: &str) -> Gateway {
    Setup::new(&before(app, &format!("{SERVER}{routes}"))).start()
}

fn get_from(client: &str, path: &str) -> Request {
    Request::get(path).header("X-Forwarded-For", client)
}

/// The statuses of `count` requests, each on its own connection, so that every worker gets some.
fn statuses(gateway: &Gateway, count: usize, request: &Request) -> Vec<u16> {
    (0..count).map(|_| gateway.send(request).status).collect()
}

#[test]
fn limit_by_subject_holds_for_all_workers_and_each_caller() {
    let app = App::start();
    let gateway = gateway(&app, &limited("/*", "subject", "roles = [\"user\"]"));
    let [alice, bob] = ["alice", "bob"].map(|name| corp_token(name, &["user"]));
    // What the rules refuse uses nothing up.
    let stranger = corp_token("alice", &["guest"]);
    assert_eq!(
        statuses(&gateway, 5, &Request::get("/").bearer(&stranger)),
        [403; 5]
    );
    assert_eq!(statuses(&gateway, 5, &Request::get("/")), [401; 5]);

    let first = gateway.get_as(&alice, "/").expect(200);
    assert_eq!(first.header("ratelimit-policy"), Some(r#""subject";q=3;w=3600"#));
    assert_eq!(first.header("ratelimit"), Some(r#""subject";r=2;t=1200"#));
    let by_alice = get_from("192.0.2.1", "/").bearer(&alice);
    assert_eq!(statuses(&gateway, 4, &by_alice), [200, 200, 429, 429]);
    let refused = gateway.get_as(&alice, "/").expect(429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1190..=1200).contains(&wait), "{wait}");
    assert_eq!(refused.header("ratelimit"), Some(r#""subject";r=0;t=3600"#));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some(r#""subject";q=3;w=3600"#)
    );
    assert_eq!(refused.json()["message"], "Too many requests");
    let line = gateway.log_of(&refused);
    assert_eq!(
        (&line["reason"], &line["subject"]),
        (&json!("rate-limited"), &json!("alice"))
    );
    assert!(
        line["rule"]
            .as_str()
            .unwrap()
            .contains("rate_limit: 3 requests per 3600s by subject"),
        "{line}"
    );
    assert_eq!(
        statuses(&gateway, 4, &Request::get("/").bearer(&bob)),
        [200, 200, 200, 429]
    );
    assert_eq!(app.count(), 6);
    let metrics = gateway.admin_get("/metrics").text();
    assert!(metrics.contains("rate-limited"), "{metrics}");
}

#[test]
fn request_without_subject_counts_by_its_address() {
    let app = App::start();
    let routes =
        limited("/open", "subject", "auth = \"none\"") + &limited("/both", "subject", "auth = \"optional\"");
    let gateway = gateway(&app, &routes);
    for path in ["/open", "/both"] {
        for (client, expected) in [
            ("192.0.2.1", [200, 200, 200, 429]),
            ("192.0.2.2", [200, 200, 200, 429]),
            ("2001:db8::1", [200, 200, 200, 429]),
            ("2001:db8::2:1", [429; 4]),
            ("2001:db8:0:1::1", [200, 200, 200, 429]),
        ] {
            assert_eq!(
                statuses(&gateway, 4, &get_from(client, path)),
                expected,
                "{path} {client}"
            );
        }
    }
    let alice = get_from("192.0.2.1", "/both").bearer(&corp_token("alice", &[]));
    assert_eq!(statuses(&gateway, 4, &alice), [200, 200, 200, 429]);
}

#[test]
fn limit_by_address_counts_before_the_credential_is_verified() {
    let app = App::start();
    let gateway = gateway(&app, &limited("/*", "ip", ""));
    let bad = get_from("192.0.2.1", "/").bearer("nonsense");
    assert_eq!(statuses(&gateway, 2, &bad), [401; 2]);
    let alice = get_from("192.0.2.1", "/").bearer(&corp_token("alice", &[]));
    assert_eq!(statuses(&gateway, 2, &alice), [200, 429]);
    assert_eq!(statuses(&gateway, 1, &bad), [429]);
    let elsewhere = get_from("192.0.2.2", "/").bearer(&corp_token("alice", &[]));
    assert_eq!(statuses(&gateway, 1, &elsewhere), [200]);
}

#[test]
fn limit_by_route_is_used_up_by_its_callers_alone() {
    let app = App::start();
    let gateway = gateway(&app, &(limited("/a", "route", "") + &limited("/b", "route", "")));
    assert_eq!(statuses(&gateway, 5, &Request::get("/a")), [401; 5]);
    for (name, expected) in [("alice", [200, 200]), ("bob", [200, 429])] {
        let request = Request::get("/a").bearer(&corp_token(name, &[]));
        assert_eq!(statuses(&gateway, 2, &request), expected, "{name}");
    }
    let request = Request::get("/b").bearer(&corp_token("bob", &[]));
    assert_eq!(statuses(&gateway, 4, &request), [200, 200, 200, 429]);
}

#[test]
fn fields_of_the_app_are_not_doubled() {
    let app = App::answering("HTTP/1.1 200 OK\r\nRateLimit: \"app\";r=7\r\nContent-Length: 0\r\n\r\n");
    let gateway = gateway(&app, &limited("/*", "ip", "auth = \"none\""));
    let answer = gateway.get("/").expect(200);
    assert_eq!(answer.header("ratelimit"), Some(r#""app";r=7"#));
    assert_eq!(answer.header("ratelimit-policy"), None);
}

#[test]
fn limit_outlives_a_reload_that_does_not_change_it() {
    let app = App::start();
    let routes = |requests: u32| {
        format!(
            "[[routes]]\npath = \"/kept\"\nauth = \"none\"\nupstream = \"app\"\nrate_limit = {{ requests = 2, per = \"1h\" }}\n\
             [[routes]]\npath = \"/changed\"\nauth = \"none\"\nupstream = \"app\"\nrate_limit = {{ requests = {requests}, per = \"1h\" }}\n"
        )
    };
    let gateway = gateway(&app, &routes(2));
    for path in ["/kept", "/changed"] {
        assert_eq!(
            statuses(&gateway, 3, &Request::get(path)),
            [200, 200, 429],
            "{path}"
        );
    }
    gateway
        .setup
        .rewrite(&before(&app, &format!("{SERVER}{}", routes(4))));
    gateway.signal("HUP");
    gateway.diagnostic("configuration read again");
    assert_eq!(statuses(&gateway, 1, &Request::get("/kept")), [429]);
    assert_eq!(
        statuses(&gateway, 5, &Request::get("/changed")),
        [200, 200, 200, 200, 429]
    );
}

#[test]
fn explain_and_tests_count_nothing_and_check_shows_the_limit() {
    let app = App::start();
    let tests = "[[tests]]\nrequest = \"GET /\"\nas = { subject = \"alice\" }\nexpect = \"allow\"\n";
    let gateway = gateway(
        &app,
        &format!("{}{}", limited("/*", "subject", ""), tests.repeat(5)),
    );
    for _ in 0..5 {
        let explained = gateway
            .command(["explain", "GET", "/", "--as", "alice"])
            .expect(0);
        let text = explained.all();
        assert!(
            text.contains("rate_limit: 3 requests per 3600s by subject"),
            "{text}"
        );
        assert!(text.contains("counts for the subject `alice`"), "{text}");
    }
    let checked = gateway.command(["check", "--format", "json"]).expect(0).json();
    assert_eq!(
        checked["routes"][0]["rate_limit"],
        json!({ "requests": 3, "per_seconds": 3600, "by": "subject" })
    );
    let text = gateway.command(["check"]).expect(0).all();
    assert!(text.contains("; 3 requests per 3600s by subject"), "{text}");
    let alice = Request::get("/").bearer(&corp_token("alice", &[]));
    assert_eq!(statuses(&gateway, 4, &alice), [200, 200, 200, 429]);
}

#[test]
fn streams_of_a_client_are_counted_over_its_connections() {
    use crate::support::http2::{Frames, RawFrame};
    use std::sync::Arc;

    let gate = Arc::new(Gate::default());
    let app = App::with({
        let gate = Arc::clone(&gate);
        move |exchange| {
            gate.pass();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            Answer::Keep
        }
    });
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_connections_per_client = \"1%\"\nworkers = 2\n";
    let route = "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
    let gateway = Setup::new(&before(&app, &format!("{server}{route}"))).start();
    let mut first = Frames::connect(gateway.address);
    for number in 0..128 {
        first.request(2 * number + 1, "GET", "/", &[]);
    }
    app.wait_for(128);
    let mut second = Frames::connect(gateway.address);
    second.request(1, "GET", "/", &[]);
    let refused = second.answer(1);
    assert_eq!(
        (refused[0].kind, &refused[0].payload[..]),
        (RawFrame::RST_STREAM, &[0, 0, 0, 7][..])
    );
    assert_eq!(app.count(), 128);
    gate.open();
    let mut ended = 0;
    while ended < 128 {
        let frame = first.try_next().unwrap();
        ended += usize::from(frame.stream != 0 && frame.ends() && frame.kind <= RawFrame::HEADERS);
    }
    // The client has its answers a moment before the gateway has put them away.
    let mut stream = 3;
    eventually("a stream is served again", || {
        second.request(stream, "GET", "/", &[]);
        stream += 2;
        second.answer(stream - 2)[0].kind == RawFrame::HEADERS
    });
}

#[test]
fn bad_signatures_stop_being_verified_and_known_tokens_go_on() {
    let app = App::start();
    let gateway = gateway(&app, "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n");
    let good = corp_token("alice", &[]);
    let from = |client: &str, token: &str| get_from(client, "/").bearer(token);
    gateway.send(&from("192.0.2.1", &good)).expect(200);
    let head = good.rsplit_once('.').unwrap().0;
    let mut client = gateway.connect();
    // The quota of 200 and what comes back of it meanwhile; each signature is another one.
    let throttled = (0..5_000)
        .find(|number| {
            let answer = from("192.0.2.1", &format!("{head}.{number:042}A")).over(&mut client);
            match answer.status {
                401 => false,
                429 => {
                    assert!(answer.header("retry-after").is_some());
                    assert_eq!(gateway.log_of(&answer)["reason"], "signatures-throttled");
                    true
                }
                other => panic!("{other}"),
            }
        })
        .unwrap();
    assert!(throttled >= 200, "{throttled}");
    // Expired tokens are told so from anywhere else, and the known token goes on here.
    gateway.send(&from("192.0.2.1", &good)).expect(200);
    gateway
        .send(&from("192.0.2.2", &corp_token("bob", &[])))
        .expect(200);
    let expired = corp_token_of(&json!({
        "iss": "https://id.example.com", "aud": "api", "sub": "carol", "exp": 1_000_000_000,
    }));
    for _ in 0..250 {
        from("192.0.2.3", &expired).over(&mut client).expect(401);
    }
}
