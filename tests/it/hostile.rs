//! What an attacker sends: paths in odd spellings, requests whose end is disputed, identity headers of their own.
//! Raw bytes through the real binary, after RFC 9112.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use crate::support::gateway::before;
use crate::support::http2::{self, Frames, Http2, RawFrame};
use crate::support::*;
use http::HeaderMap;
use serde_json::json;

/// A public tree, an optional one, one that needs a caller and one that needs a role.
const ROUTES: &str = r#"
[[routes]]
path = "/*"
auth = "none"
upstream = "app"

[[routes]]
path = "/optional/*"
auth = "optional"
upstream = "app"

[[routes]]
path = "/private/*"
upstream = "app"

[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"

[[routes]]
path = "/odd/*"
auth = "none"
accept = ["encoded-slash", "empty-segment", "path-parameter"]
upstream = "app"
"#;

fn open() -> (App, Gateway) {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    (app, gateway)
}

/// The gateway answers with `status` or hangs up, closes the connection, and nothing reaches the app.
#[track_caller]
fn refuses(gateway: &Gateway, app: &App, bytes: &[u8], status: u16) {
    let before = app.count();
    let shown: String = bytes
        .iter()
        .take(200)
        .map(|byte| std::ascii::escape_default(*byte).to_string())
        .collect();
    let mut client = gateway.connect();
    let response = client.send(bytes).try_response_to("GET");
    match response {
        Ok(Some(response)) => assert_eq!(response.status, status, "{shown}\n{}", response.text()),
        other => panic!("no answer to {shown}: {other:?}"),
    }
    assert_eq!(app.count(), before, "this reached the app: {shown}");
}

/// As [`refuses`], and the connection is closed: whatever follows is not taken for a request.
#[track_caller]
fn refuses_and_closes(gateway: &Gateway, app: &App, bytes: &[u8], status: u16) {
    let before = app.count();
    let shown: String = bytes
        .iter()
        .take(200)
        .map(|byte| std::ascii::escape_default(*byte).to_string())
        .collect();
    let mut client = gateway.connect();
    client.send(bytes);
    match client.try_response_to("GET") {
        Ok(Some(response)) => assert_eq!(response.status, status, "{shown}\n{}", response.text()),
        other => panic!("no answer to {shown}: {other:?}"),
    }
    let rest = client.rest();
    let rest = String::from_utf8_lossy(&rest).into_owned();
    assert!(!rest.contains("HTTP/1.1 "), "a second answer to {shown}: {rest}");
    assert!(client.is_closed(), "still open after {shown}");
    assert_eq!(app.count(), before, "this reached the app: {shown}");
}

// --- paths

#[test]
fn paths_that_apps_would_read_differently_are_refused() {
    let (app, gateway) = open();
    let paths: &[&[u8]] = &[
        b"/a/..",
        b"/a/../b",
        b"/..",
        b"/../",
        b"/../../etc/passwd",
        b"/public/../admin",
        b"/a/.",
        b"/./a",
        b"/.",
        b"/a/./b",
        b"/%2e",
        b"/%2e%2e",
        b"/%2E%2e/admin",
        b"/a/.%2e/b",
        b"/a/%2e./b",
        b"/a/%2E/b",
        b"/a/..;/b",
        b"/..;/admin",
        b"/a/.;/b",
        b"/a/%2e%2e;/b",
        b"/a/..;x=1/b",
        b"/a/..\\b",
        b"/a\\..\\b",
        b"/a/..%5cb",
        b"/a%5c..%5cb",
        b"/a/..%2fb",
        b"/a%2f..%2fadmin",
        b"/a%2fb",
        b"/a%2Fb",
        b"/%2f",
        b"/%2fadmin",
        b"/a%5cb",
        b"/a%5Cb",
        b"/a\\b",
        b"/\\admin",
        b"/a%00",
        b"/a%00.html",
        b"/%00/admin",
        b"/a%0a",
        b"/a%0d%0aX-Auth-User:%20admin",
        b"/a%09",
        b"/a%1f",
        b"/a%7f",
        b"/a%",
        b"/a%4",
        b"/a%4/b",
        b"/a%zz",
        b"/a%0",
        b"/a%u0041",
        b"/%%61",
        b"//",
        b"//a",
        b"//admin",
        b"//admin/x",
        b"/a//b",
        b"/a//",
        b"/a;x",
        b"/a;x/b",
        b"/a;",
        b"/;/admin",
        b"/admin;x/y",
        b"/a;jsessionid=1",
        b"/caf\xc3\xa9",
        b"/caf\xe9",
        b"/a\xff",
        b"/a\x01b",
        b"/a\x7fb",
        b"/a\x00b",
        b"/a#b",
        b"/#/admin",
        b"/a?b#c",
        b"/a%2e%2e%2fb",
        b"/a/%2e%2e%2fb",
        b"/a/..%00/b",
        b"/adm%FFin/secret",
        b"/adm%ffin",
        b"/caf%e9",
        b"/%80",
        b"/a%c3",
        b"/a%c3/%a9",
        b"/a%ed%a0%80",
        b"/a%f4%90%80%80",
        b"/%2561dmin/secret",
        b"/%252561dmin",
        b"/%25%36%31dmin",
        b"/a/%252e%252e/admin",
    ];
    for path in paths {
        let bytes = [b"GET ", *path, b" HTTP/1.1\r\nHost: app.test\r\n\r\n"].concat();
        refuses(&gateway, &app, &bytes, 400);
    }
}

#[test]
fn odd_paths_are_refused_over_http_2_as_well() {
    let (app, gateway) = open();
    let client = Http2::connect(gateway.address);
    for path in [
        "/a/../b",
        "/%2e%2e/b",
        "/..;/b",
        "/a%2fb",
        "/a%5cb",
        "/a%00",
        "/a%zz",
        "//a",
        "/a//b",
        "/a;x",
    ] {
        let response = client.get(&format!("http://app.test{path}"), None);
        assert_eq!(response.status, 400, "{path}");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn an_odd_path_is_refused_before_the_credential_is_asked_for() {
    let (app, gateway) = open();
    let token = corp_token("alice", &["admin"]);
    for path in [
        "/private/../admin/x",
        "/admin/..;/x",
        "//admin/x",
        "/admin%2fx",
        "/private/%2e%2e/admin",
    ] {
        gateway.get_as(&token, path).expect(400);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn ordinary_paths_with_odd_looks_pass_as_they_are() {
    let (app, gateway) = open();
    for path in [
        "/a..b",
        "/..a",
        "/a..",
        "/...",
        "/.well-known-not/x",
        "/.hidden",
        "/a.b/c.d",
        "/a%20b",
        "/a%25b",
        "/%252f%252fa",
        "/a+b",
        "/a:b@c",
        "/a,b",
        "/a=b&c",
        "/(a)",
        "/a'b",
        "/a!b",
        "/$a",
        "/~a",
        "/a-b_c",
        "/%E2%82%AC",
        "/a%3fb",
        "/a%23b",
        "/a/b/",
        "/*",
        "/a%3db",
    ] {
        gateway.get(path).expect(200);
        let target = app.last().target().to_owned();
        assert!(target.eq_ignore_ascii_case(path), "{path} arrived as {target}");
    }
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let (app, gateway) = open();
    gateway.get("/%61dmin/x").expect(401);
    gateway.get("/%50rivate").expect(200);
    assert_eq!(app.last().target(), "/Private");
    gateway.get("/x%2Dy%5Fz%7E%2Ea").expect(200);
    assert_eq!(app.last().target(), "/x-y_z~.a");
}

#[test]
fn a_route_may_accept_some_odd_paths_and_only_those() {
    let (app, gateway) = open();
    for path in [
        "/odd/a%2fb",
        "/odd//b",
        "/odd/a;x=1/b",
        "/odd/a;x",
        "/odd/a%2Fb;v=1//c",
    ] {
        gateway.get(path).expect(200);
        let target = app.last().target().to_owned();
        assert!(target.eq_ignore_ascii_case(path), "{path} arrived as {target}");
    }
    let before = app.count();
    for path in [
        "/odd/../admin",
        "/odd/..;/admin",
        "/odd/%2e%2e/admin",
        "/odd/..%2fadmin",
        "/odd/a%2f..%2f..%2fadmin",
        "/odd/a%5cb",
        "/odd/%00",
        "/odd/%",
        "/odd/.;x/a",
        "/odd/..;a=b/..;/admin",
        "/odd/a%2f.%2fb",
    ] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
    // The opt-in is that route's; it does not open a way into another.
    for path in ["//admin/x", "/admin;x/y", "/private;x", "/admin%2fx", "/x//odd"] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
    assert_eq!(app.count(), before);
}

/// PHP's `parse_url` and CherryPy read `//public/admin/x` as a host and `/admin/x`.
#[test]
fn a_path_that_begins_with_an_empty_segment_is_refused_whatever_a_route_accepts() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        r#"
[[routes]]
path = "/*"
auth = "none"
accept = ["encoded-slash", "path-parameter", "empty-segment", "not-utf8", "double-encoding"]
upstream = "app"

[[routes]]
path = "/cut/*"
auth = "none"
strip_prefix = "/cut"
accept = ["encoded-slash", "path-parameter", "empty-segment"]
upstream = "app"
"#,
    );
    for path in [
        "//",
        "//public/admin/x",
        "///a",
        "/%2f",
        "/%2Fpublic/admin/x",
        "/%2f%2fa",
        "/;/admin/x",
        "/;x=1/admin/x",
        "/cut/%2Fpublic/admin/x",
        "/cut/;x/admin",
    ] {
        gateway.get(path).expect(400);
        gateway.log_line(|line| line["reason"] == "path-empty-segment" && line["status"] == 400);
    }
    assert_eq!(app.count(), 0);
    for (path, forwarded) in [
        ("/a//b", "/a//b"),
        ("/;x", "/;x"),
        ("/cut//a", "/a"),
        ("/cut/", "/"),
    ] {
        gateway.get(path).expect(200);
        assert_eq!(app.last().target(), forwarded);
    }
}

/// Bottle drops bytes that are not UTF-8; an nginx with `proxy_pass http://app$uri` decodes a path before it passes it on.
#[test]
fn what_is_no_text_and_what_was_escaped_twice_passes_where_a_route_accepts_it_and_leads_around_no_other() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        r#"
[[routes]]
path = "/*"
auth = "none"
upstream = "app"

[[routes]]
path = "/latin/*"
auth = "none"
accept = ["not-utf8"]
upstream = "app"

[[routes]]
path = "/twice/*"
auth = "none"
accept = ["double-encoding"]
upstream = "app"

[[routes]]
host = "old.test"
path = "/*"
auth = "none"
accept = ["not-utf8", "double-encoding", "encoded-slash"]
upstream = "app"

[[routes]]
host = "old.test"
path = "/admin/*"
roles = ["admin"]
upstream = "app"
"#,
    );
    for (path, reason) in [
        ("/caf%E9", "path-not-utf8"),
        ("/twice/caf%E9", "path-not-utf8"),
        ("/%2561", "path-double-encoding"),
        ("/latin/%2561", "path-double-encoding"),
    ] {
        gateway.get(path).expect(400);
        gateway.log_line(|line| line["path"] == path && line["reason"] == reason);
    }
    let old = |path: &str| gateway.send(&Request::get(path).host("old.test"));
    for path in [
        "/adm%FFin/x",
        "/%FFadmin",
        "/%2561dmin/x",
        "/%252561dmin/x",
        "/adm%FFin%2Fx",
        "/%2561dmin%252Fx",
        "/adm%FF%2569n/x",
        "/a/%252e%252e/admin/x",
        "/a/.%FF./admin/x",
    ] {
        old(path).expect(400);
    }
    assert_eq!(app.count(), 0);
    for path in ["/latin/caf%E9/%FF", "/twice/%2561/%252561"] {
        gateway.get(path).expect(200);
        assert_eq!(app.last().target(), path);
    }
    old("/%FFother/%2561").expect(200);
    assert_eq!(app.last().target(), "/%FFother/%2561");
    gateway.send(&Request::get("/x?q=%FF&r=%2561")).expect(200);
    assert_eq!(app.last().target(), "/x?q=%FF&r=%2561", "the query takes no part");
}

/// An app that decodes before it matches (CGI, WSGI) reads `/admin%2fx` as `/admin/x`.
#[test]
fn an_accepted_encoded_slash_does_not_lead_around_the_rules_of_another_route() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        r#"
[[routes]]
path = "/*"
auth = "none"
accept = ["encoded-slash", "path-parameter", "empty-segment"]
upstream = "app"

[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"

[[routes]]
path = "/posts/{id}/{part}"
methods = ["GET"]
auth = "none"
upstream = "app"

[[routes]]
path = "/projects/{id}"
roles = ["user"]
accept = ["encoded-slash"]
upstream = "app"
"#,
    );
    for path in [
        "/admin%2fx",
        "/admin%2Fx",
        "/admin%2f",
        "/%61dmin%2fx",
        "/%2fadmin",
        "/x%2f%2fy/..;",
    ] {
        assert_eq!(gateway.get(path).status, 400, "{path}");
    }
    // Nor to a method that the other route does not have.
    gateway.send(&Request::post("/posts%2f1/x", "")).expect(400);
    assert_eq!(app.count(), 0);
    gateway.log_line(|line| line["path"] == "/admin%2Fx" && line["reason"] == "path-encoded-slash");

    // Where both readings ask for the same, or the other one for less, it passes as it came.
    let user = corp_token("ann", &["user"]);
    for (path, token) in [
        ("/a%2Fb", None),
        ("/projects/group%2Fname", Some(&user)),
        ("/posts%2F1/x", None),
    ] {
        let request = Request::get(path);
        gateway
            .send(&token.map_or(request.clone(), |token| request.bearer(token)))
            .expect(200);
        assert_eq!(app.last().target(), path);
    }
    gateway.get("/projects/group%2Fname").expect(401);
}

// --- where a request ends

#[test]
fn a_request_whose_end_is_disputed_is_refused_and_nothing_behind_it_is_a_request() {
    let (app, gateway) = open();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\ncontent-length: 0",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\ncontent-length: 5",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: 5,",
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5a",
        "Content-Length: 5.0",
        "Content-Length:",
        "Content-Length: \"5\"",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\r\nContent-Length: 5",
        "Transfer-Encoding:",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "X: y\r\n\tContent-Length: 5",
        "Content-Length: 5\r\n 6",
        "Transfer-Encoding: chun\r\n ked",
        "Transfer-Encoding: chunked\nContent-Length: 5",
        "Content-Length: 5\nX: y",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\0z",
        "Content-Length\0: 5",
        "Content Length: 5",
        ": 5",
        "no colon at all",
    ] {
        let bytes = format!("POST /x HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n0\r\n\r\n{smuggled}");
        refuses_and_closes(&gateway, &app, bytes.as_bytes(), 400);
    }
}

#[test]
fn bare_line_feeds_in_a_head_are_refused() {
    let (app, gateway) = open();
    for head in [
        "GET /x HTTP/1.1\nHost: app.test\r\n\r\n",
        "GET /x HTTP/1.1\r\nHost: app.test\n\r\n",
        "GET /x HTTP/1.1\nHost: app.test\n\n",
        "GET /x HTTP/1.1\r\nHost: app.test\r\n\n",
        "GET /x HTTP/1.1\r\nHost: app.test\r\nX: a\n\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n",
    ] {
        let padded = format!("{head}\r\n\r\n");
        refuses_and_closes(&gateway, &app, padded.as_bytes(), 400);
    }
}

#[test]
fn a_transfer_encoding_in_http_1_0_is_refused() {
    let (app, gateway) = open();
    let bytes = b"POST /x HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n";
    refuses_and_closes(&gateway, &app, bytes, 400);
}

#[test]
fn request_lines_that_are_not_http_1_are_refused() {
    let (app, gateway) = open();
    for line in [
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        " GET /x HTTP/1.1",
        "GET /x HTTP/1.1 ",
        "GET\t/x HTTP/1.1",
        "GET /x y HTTP/1.1",
        "GET /x HTTP/1.2",
        "GET /x HTTP/11",
        "GET /x http/1.1",
        "GET /x",
        "G\u{0}T /x HTTP/1.1",
        "GE(T /x HTTP/1.1",
        "/x HTTP/1.1",
    ] {
        let bytes = format!("{line}\r\nHost: app.test\r\n\r\n");
        let mut client = gateway.connect();
        match client.send(bytes).try_response_to("GET") {
            Ok(Some(response)) => assert!(
                matches!(response.status, 400 | 505),
                "{line:?}: {}",
                response.status_line
            ),
            Ok(None) => {}
            Err(error) => panic!("{line:?}: {error}"),
        }
        assert!(client.is_closed(), "{line:?}");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn chunk_sizes_with_junk_end_the_connection_and_never_begin_another_request() {
    let app = App::with(|exchange| {
        if exchange.read_body() && exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") {
            Answer::Keep
        } else {
            Answer::Close
        }
    });
    let gateway = Gateway::before(&app, ROUTES);
    for size in [
        "5x",
        "0x5",
        "+5",
        "-5",
        "5 5",
        "5\t5",
        "",
        " ",
        "g",
        "5,5",
        "fffffffffffffffff",
        "10000000000000005",
        "\u{0}5",
    ] {
        let bytes = format!(
            "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
        );
        is_cut_off(&gateway, &app, &bytes);
    }
    for chunk in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
    ] {
        let bytes = format!(
            "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}\
             GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
        );
        is_cut_off(&gateway, &app, &bytes);
    }
}

/// No success, no second answer, no second request at the app, and the end of the connection.
#[track_caller]
fn is_cut_off(gateway: &Gateway, app: &App, bytes: &str) {
    let mut client = gateway.connect();
    client.send(bytes);
    let said = client.rest();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(client.is_closed(), "{bytes:?}");
    assert!(!said.contains("HTTP/1.1 200"), "{bytes:?}: {said}");
    assert!(said.matches("HTTP/1.1 ").count() <= 1, "{bytes:?}: {said}");
    assert!(
        app.requests()
            .iter()
            .all(|request| request.target() != "/smuggled"),
        "{bytes:?}"
    );
}

#[test]
fn a_body_that_breaks_off_is_not_a_whole_body_for_the_app() {
    let app = App::with(|exchange| {
        let whole = exchange.read_body();
        assert!(!whole, "the app took a broken body for a whole one");
        Answer::Close
    });
    let gateway = Gateway::before(&app, ROUTES);
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let before = app.count();
        let mut client = gateway.connect();
        client.send(format!(
            "POST /x HTTP/1.1\r\nHost: app.test\r\n{head}\r\n\r\n5\r\nhello\r\n"
        ));
        app.wait_for(before + 1);
        client.finish_sending();
        drop(client);
        eventually("the app's connections are closed", || app.open_connections() == 0);
    }
    assert!(app.requests().iter().all(|request| request.raw_body.is_empty()));
}

#[test]
fn an_early_answer_with_an_unread_body_closes_the_connection() {
    let (app, gateway) = open();
    // What stands in the body must never be taken for a request.
    let inner = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";
    for (target, status) in [("/private/x", 401), ("/a//b", 400)] {
        for body in [
            format!("Content-Length: {}\r\n\r\n{inner}", inner.len() + 50_000),
            format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n",
                inner.len()
            ),
        ] {
            let mut client = gateway.connect();
            client.send(format!("POST {target} HTTP/1.1\r\nHost: app.test\r\n{body}"));
            client.response().expect(status);
            let rest = client.rest();
            assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1"), "{target}");
            assert!(client.is_closed(), "{target} {body}");
        }
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let app = App::saying(|request| request.target().to_owned());
    let gateway = Gateway::before(&app, ROUTES);
    let mut client = gateway.connect();
    let mut bytes = Vec::new();
    for number in 0..10 {
        bytes.extend(Request::get(&format!("/{number}")).bytes());
        bytes.extend(Request::post(&format!("/post/{number}"), "body").bytes());
    }
    client.send(bytes);
    for number in 0..10 {
        assert_eq!(client.response().expect(200).text(), format!("/{number}"));
        assert_eq!(client.response().expect(200).text(), format!("/post/{number}"));
    }
}

#[test]
fn a_refusal_in_a_pipeline_does_not_shift_the_answers() {
    let app = App::saying(|request| request.target().to_owned());
    let gateway = Gateway::before(&app, ROUTES);
    let mut client = gateway.connect();
    let bytes = [
        Request::get("/a").bytes(),
        Request::get("/private/b").bytes(),
        Request::get("/c").bytes(),
    ]
    .concat();
    client.send(bytes);
    assert_eq!(client.response().expect(200).text(), "/a");
    client.response().expect(401);
    // Either the third is answered, or the connection was closed behind the refusal.
    if let Ok(Some(third)) = client.try_response_to("GET") {
        assert_eq!(third.expect(200).text(), "/c");
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let (app, gateway) = open();
    let mut client = gateway.connect();
    for byte in Request::post("/x", "hello").bytes() {
        client.send([byte]);
    }
    client.response().expect(200);
    assert_eq!(app.only().body, b"hello");
}

// --- targets, hosts, methods

#[test]
fn targets_in_another_form_are_refused() {
    let (app, gateway) = open();
    for target in [
        "http://app.test/x",
        "https://app.test/x",
        "HTTP://evil.example/x",
        "*",
        "app.test:80",
        "x",
        "?x",
        "app.test/x",
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n");
        refuses(&gateway, &app, bytes.as_bytes(), 400);
    }
    refuses(
        &gateway,
        &app,
        b"OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n",
        400,
    );
}

#[test]
fn a_host_that_is_missing_doubled_or_odd_is_refused() {
    let (app, gateway) = open();
    for hosts in [
        "X: y",
        "Host: app.test\r\nHost: app.test",
        "Host: app.test\r\nhost: evil.example",
        "Host: a b",
        "Host: app.test/x",
        "Host: app.test?x",
        "Host: app.test#x",
        "Host: user@app.test",
        "Host: app.test:x",
        "Host: app.test:-1",
        "Host: app.test:80:80",
        "Host: app.test, evil.example",
        "Host: app\\test",
        "Host: <script>",
        "Host: [::1",
        "Host: ::1",
        "Host: app.test%00",
        "Host: app.t\u{e9}st",
        "Host:",
    ] {
        let bytes = format!("GET /x HTTP/1.1\r\n{hosts}\r\n\r\n");
        refuses(&gateway, &app, bytes.as_bytes(), 400);
    }
}

#[test]
fn ordinary_hosts_pass() {
    let (app, gateway) = open();
    for host in [
        "app.test",
        "APP.test:8080",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8080",
        "localhost",
        "a_b.test",
    ] {
        gateway.send(&Request::get("/x").host(host)).expect(200);
        assert_eq!(app.last().header("host"), Some(host));
    }
}

#[test]
fn an_authority_that_differs_from_host_is_refused() {
    let (app, gateway) = open();
    let client = Http2::connect(gateway.address);
    let request = |host: &str| {
        http::Request::get("http://app.test/x")
            .header("host", host)
            .body(())
            .unwrap()
    };
    for host in ["evil.example", "app.test:8080", "app.test.evil.example", ""] {
        assert_eq!(client.send(request(host)).status, 400, "{host}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(client.send(request("app.test")).status, 200);
}

#[test]
fn connect_and_trace_are_refused() {
    let (app, gateway) = open();
    refuses(
        &gateway,
        &app,
        b"CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n",
        405,
    );
    refuses(
        &gateway,
        &app,
        b"TRACE /x HTTP/1.1\r\nHost: app.test\r\n\r\n",
        405,
    );
    refuses(
        &gateway,
        &app,
        b"CONNECT /x HTTP/1.1\r\nHost: app.test\r\n\r\n",
        405,
    );
}

#[test]
fn the_method_is_not_taken_from_a_header() {
    let (app, gateway) = open();
    gateway
        .send(&Request::get("/x").header("X-HTTP-Method-Override", "DELETE"))
        .expect(200);
    assert_eq!(app.last().method(), "GET");
}

#[test]
fn the_path_is_not_taken_from_a_header() {
    let (app, gateway) = open();
    for name in [
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Uri",
        "X-Forwarded-Prefix",
        "X-Forwarded-Path",
    ] {
        gateway
            .send(&Request::get("/private/x").header(name, "/public"))
            .expect(401);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn a_target_without_end_is_refused() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_header_bytes = \"256KiB\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    let bytes = format!("GET /{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "x".repeat(100_000));
    refuses(&gateway, &app, bytes.as_bytes(), 414);
}

#[test]
fn a_head_without_end_is_refused() {
    let (app, gateway) = open();
    let one = format!(
        "GET /x HTTP/1.1\r\nHost: app.test\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    refuses(&gateway, &app, one.as_bytes(), 431);
    let many: String = (0..2_000)
        .map(|number| format!("X-Field-{number}: some value\r\n"))
        .collect();
    let many = format!("GET /x HTTP/1.1\r\nHost: app.test\r\n{many}\r\n");
    refuses(&gateway, &app, many.as_bytes(), 431);
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nheader_timeout = \"200ms\"\nidle_timeout = \"300ms\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    let mut client = gateway.connect();
    client.send("GET /x HTTP/1.1\r\nHost: app");
    assert!(client.is_closed());
    let mut silent = gateway.connect();
    assert!(silent.is_closed());
    gateway.get("/x").expect(200);
    assert_eq!(app.count(), 1);
}

#[test]
fn bytes_that_are_not_http_end_the_connection_and_nothing_else() {
    let (app, gateway) = open();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        client.send(bytes).finish_sending();
        assert!(client.is_closed());
    }
    gateway.get("/x").expect(200);
    assert_eq!(app.count(), 1);
}

// --- identity of one's own making

/// Spellings of a header that some server or framework folds to `X-Auth-User`.
const SPELLINGS: [&str; 12] = [
    "X-Auth-User",
    "x-auth-user",
    "X-AUTH-USER",
    "X_Auth_User",
    "x.auth.user",
    "X-Auth_User",
    "x~auth~user",
    "X!Auth!User",
    "X_AUTH-USER",
    "X+Auth+User",
    "x|auth|user",
    "X^Auth`User",
];

/// What CGI, WSGI, PHP and the like make of a header name.
fn folded(name: &str) -> String {
    name.chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

/// No field of the request says what only the client said.
#[track_caller]
fn knows_nothing_of_the_forgery(request: &app::Recorded) {
    assert!(!request.text().contains("forged"), "{}", request.text());
}

#[test]
fn identity_headers_of_a_client_reach_no_app_in_any_spelling_on_any_route() {
    let (app, gateway) = open();
    let token = corp_token("alice", &["admin"]);
    for (target, token) in [
        ("/x", None),
        ("/x", Some(&token)),
        ("/optional/x", None),
        ("/optional/x", Some(&token)),
        ("/private/x", Some(&token)),
        ("/admin/x", Some(&token)),
        ("/odd/x", None),
    ] {
        let mut request = Request::get(target);
        if let Some(token) = token {
            request = request.bearer(token);
        }
        for spelling in SPELLINGS {
            request = request.header(spelling, "forged");
        }
        for name in [
            "X-Auth-Email",
            "X_Auth_Email",
            "X-Auth-Name",
            "x.auth.name",
            "X-Auth-Roles",
            "X_AUTH_ROLES",
        ] {
            request = request.header(name, "forged");
        }
        for name in [
            "X-Auth-Issuer",
            "x_auth_issuer",
            "X-Auth-Assertion",
            "X_Auth_Assertion",
        ] {
            request = request.header(name, "forged");
        }
        for name in [
            "X-Forwarded-For",
            "X_Forwarded_For",
            "X-Real-IP",
            "X_Real_IP",
            "Forwarded",
            "X-Request-Id",
            "X_Request_Id",
        ] {
            request = request.header(name, "forged");
        }
        for name in [
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Server",
            "X-Forwarded-User",
        ] {
            request = request.header(name, "forged");
        }
        gateway.send(&request).expect(200);
        let seen = app.last();
        knows_nothing_of_the_forgery(&seen);
        let users: Vec<_> = seen
            .fields
            .iter()
            .filter(|(name, _)| folded(name) == "x-auth-user")
            .collect();
        let named = token.is_some() && target != "/x";
        assert_eq!(users.len(), usize::from(named), "{target}: {users:?}");
        assert_eq!(seen.header("x-auth-user"), named.then_some("alice"));
    }
}

/// What other products tell an app, one name at least of each kind; the unit tests have all of them.
const FOREIGN: [&str; 26] = [
    "X-Auth-Request-User",
    "X-Auth-Username",
    "X-WEBAUTH-USER",
    "X-Authentik-Username",
    "X-Pomerium-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Amzn-Oidc-Data",
    "X-MS-CLIENT-PRINCIPAL",
    "Remote-User-Id",
    "OIDC_CLAIM_email",
    "X-Userinfo",
    "X-Consumer-Username",
    "Tailscale-User-Login",
    "X-Forwarded-Client-Cert",
    "Ssl-Client-Verify",
    "Client-Cert",
    "X-Original-URL",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-Host",
    "Proxy",
    "True-Client-IP",
    "WL-Proxy-Client-IP",
    "Front-End-Https",
];

#[test]
fn what_other_products_tell_apps_comes_from_no_client_on_any_route() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &format!(
            "{ROUTES}\n[[routes]]\npath = \"/kept/*\"\nauth = \"none\"\nupstream = \"app\"\n\
             keep_headers = [\"X-HTTP-Method-Override\", \"cf-access-authenticated-user-email\"]\n"
        ),
    );
    let token = corp_token("alice", &["admin"]);
    let every = |mut request: Request| {
        for name in FOREIGN {
            request = request
                .header(name, "forged")
                .header(&name.replace('-', "_"), "forged");
            request = request.header(&name.to_lowercase().replace('-', "."), "forged");
        }
        request
    };
    for target in ["/x", "/optional/x", "/private/x", "/admin/x", "/odd/x"] {
        gateway
            .send(&every(Request::get(target).bearer(&token)))
            .expect(200);
        knows_nothing_of_the_forgery(&app.last());
    }
    gateway.send(&every(Request::get("/kept/x"))).expect(200);
    let seen = app.last();
    for name in ["x-http-method-override", "cf-access-authenticated-user-email"] {
        assert_eq!(seen.header(name), Some("forged"));
    }
    assert_eq!(seen.text().matches("forged").count(), 2, "{}", seen.text());

    // As trailers they are dropped also where the route keeps the header.
    let mut bytes = "POST /kept/x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n".to_owned();
    bytes.push_str(&format!(
        "Trailer: {}, X-Sum\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n",
        FOREIGN.join(", ")
    ));
    for name in FOREIGN {
        bytes.push_str(&format!(
            "{name}: forged\r\n{}: forged\r\n",
            name.replace('-', "_")
        ));
    }
    bytes.push_str("\r\n");
    gateway.send_bytes(&bytes).expect(200);
    knows_nothing_of_the_forgery(&app.last());
}

/// A token in a header of another product is verified, and the app may have that field; in no other spelling.
#[test]
fn a_credential_in_a_field_of_another_product_may_go_on_to_the_app() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        r#"
[credentials]
sources = [{ header = "Cf-Access-Jwt-Assertion" }]
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/app/*"
forward_credential = true
upstream = "app"
[[routes]]
path = "/open/*"
auth = "none"
forward_credential = true
upstream = "app"
"#,
    );
    let token = corp_token("alice", &[]);
    let ask = |path: &str| {
        Request::get(path)
            .header("Cf-Access-Jwt-Assertion", &token)
            .header("Cf_Access_Jwt_Assertion", "forged")
    };
    for (path, passed) in [("/x", None), ("/app/x", Some(token.as_str())), ("/open/x", None)] {
        gateway.send(&ask(path)).expect(200);
        assert_eq!(app.last().header("cf-access-jwt-assertion"), passed, "{path}");
        knows_nothing_of_the_forgery(&app.last());
    }
}

/// RFC 9113 section 8.2.1: a value neither begins nor ends with a space or a tab.
#[test]
fn a_padded_field_value_over_http_2_resets_its_stream_and_no_other() {
    let (app, gateway) = open();
    let mut frames = Frames::connect(gateway.address);
    let mut stream = 1;
    for (name, value) in [
        ("x-a", " b"),
        ("x-a", "b "),
        ("x-a", "\tb"),
        ("x-a", "b\t"),
        ("x-a", " "),
        ("cookie", "a=b "),
        ("content-length", " 0"),
    ] {
        frames.request(stream, "GET", "/x", &[(name, value)]);
        let answer = frames.answer(stream);
        assert_eq!(answer.len(), 1, "{name}: {value:?} {answer:?}");
        assert_eq!(
            (answer[0].kind, &answer[0].payload[..]),
            (RawFrame::RST_STREAM, &[0, 0, 0, 1][..]),
            "{name}: {value:?}"
        );
        stream += 2;
    }
    assert_eq!(app.count(), 0);
    gateway.log_line(|line| line["reason"] == "malformed-head" && line["status"] == 400);
    frames.request(stream, "GET", "/x", &[("x-a", "b c\td"), ("x-empty", "")]);
    assert_eq!(frames.answer(stream)[0].kind, RawFrame::HEADERS);
    assert_eq!(app.only().header("x-a"), Some("b c\td"));
}

/// The HTTP library cuts `#` and what follows off a `:path` before the gateway sees it: what is decided is what is
/// forwarded, without it.
#[test]
fn a_fragment_over_http_2_takes_part_in_nothing_and_reaches_no_app() {
    let (app, gateway) = open();
    let mut frames = Frames::connect(gateway.address);
    for (stream, path, target) in [
        (1, "/x#/../admin", Some("/x")),
        (3, "/admin#/x", None),
        (5, "/a?b#c", Some("/a?b")),
        (7, "#/x", None),
    ] {
        let before = app.count();
        frames.request(stream, "GET", path, &[]);
        frames.answer(stream);
        let seen = (app.count() > before).then(|| app.last().target().to_owned());
        assert_eq!(seen.as_deref(), target, "{path}");
    }
}

#[test]
fn identity_headers_of_a_client_reach_no_app_over_http_2() {
    let (app, gateway) = open();
    let client = Http2::connect(gateway.address);
    let mut request = http::Request::get("http://app.test/optional/x");
    for name in [
        "x-auth-user",
        "x_auth_user",
        "x.auth.user",
        "x-auth-roles",
        "x_auth_roles",
        "x-forwarded-for",
    ] {
        request = request.header(name, "forged");
    }
    assert_eq!(client.send(request.body(()).unwrap()).status, 200);
    knows_nothing_of_the_forgery(&app.last());
}

/// Werkzeug's and other servers' `CONTENT_LENGTH` is that of whichever spelling came last.
#[test]
fn other_spellings_of_what_ends_a_request_reach_no_app() {
    let (app, gateway) = open();
    for name in [
        "Content_Length",
        "content.length",
        "Transfer_Encoding",
        "TRANSFER~ENCODING",
    ] {
        let value = if name.to_ascii_lowercase().starts_with("content") {
            "0"
        } else {
            "chunked"
        };
        gateway
            .send(&Request::post("/x", "hello").header(name, value))
            .expect(200);
        let seen = app.last();
        let framing: Vec<_> = seen
            .fields
            .iter()
            .filter(|(name, _)| matches!(&*folded(name), "content-length" | "transfer-encoding"))
            .collect();
        assert_eq!(framing.len(), 1, "{name}: {framing:?}");
        assert_eq!(seen.header("content-length"), Some("5"));
        assert_eq!(seen.body, b"hello");
    }
}

#[test]
fn names_that_the_configuration_adds_are_guarded_too() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        &format!("[identity]\nheaders = {{ \"X-Tenant\" = \"tenant\" }}\n{ROUTES}"),
    );
    let mut claims = corp_claims("alice");
    claims["tenant"] = json!("acme");
    for target in ["/x", "/optional/x"] {
        gateway
            .send(
                &Request::get(target)
                    .header("X-Tenant", "forged")
                    .header("x_tenant", "forged"),
            )
            .expect(200);
        knows_nothing_of_the_forgery(&app.last());
    }
    let request = Request::get("/private/x")
        .bearer(&corp_token_of(&claims))
        .header("X_Tenant", "forged");
    gateway.send(&request).expect(200);
    knows_nothing_of_the_forgery(&app.last());
    assert_eq!(app.last().header("x-tenant"), Some("acme"));
    // A token without the claim leaves the header away; the client's does not fill the gap.
    let request = Request::get("/private/x")
        .bearer(&corp_token("bob", &[]))
        .header("X-Tenant", "forged");
    gateway.send(&request).expect(200);
    assert_eq!(app.last().header("x-tenant"), None);
}

#[test]
fn a_connection_header_cannot_delete_what_the_gateway_says() {
    let (app, gateway) = open();
    let token = corp_token("alice", &["admin"]);
    let request = Request::get("/private/x").bearer(&token).header(
        "Connection",
        "X-Auth-User, x-auth-roles, X-Auth-Issuer, X-Forwarded-For, X-Request-Id, Host, close",
    );
    gateway.send(&request).expect(200);
    let seen = app.last();
    assert_eq!(seen.header("x-auth-user"), Some("alice"));
    assert_eq!(seen.header("x-auth-roles"), Some("admin"));
    assert_eq!(seen.header("x-auth-issuer"), Some("corp"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("host"), Some("app.test"));
    assert!(seen.header("x-request-id").is_some());
}

#[test]
fn a_connection_header_cannot_hide_a_credential_or_a_forgery() {
    let (app, gateway) = open();
    let stripped = Request::get("/private/x")
        .bearer("rubbish")
        .header("Connection", "Authorization");
    let status = gateway.send(&stripped).status;
    assert!(matches!(status, 400 | 401), "{status}");
    let forged = Request::get("/x")
        .header("Connection", "X-Auth-User")
        .header("X-Auth-User", "forged");
    gateway.send(&forged).expect(200);
    knows_nothing_of_the_forgery(&app.only());
}

#[test]
fn identity_headers_as_trailers_reach_no_app() {
    let (app, gateway) = open();
    let token = corp_token("alice", &[]);
    for target in ["/x", "/private/x"] {
        let trailers = "X-Auth-User: forged\r\nx_auth_roles: forged\r\nX-Auth-Assertion: forged\r\nAuthorization: forged\r\n";
        let bytes = format!(
            "POST {target} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\
             Trailer: X-Auth-User, x_auth_roles\r\n\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        );
        let status = gateway.send_bytes(bytes).status;
        assert!(matches!(status, 200 | 400), "{status}");
        for request in app.requests() {
            knows_nothing_of_the_forgery(&request);
        }
    }
}

#[test]
fn identity_headers_as_trailers_reach_no_app_over_http_2() {
    let (app, gateway) = open();
    let client = Http2::connect(gateway.address);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-auth-user", "forged".parse().unwrap());
    trailers.insert("x_auth_roles", "forged".parse().unwrap());
    let request = http::Request::post("http://app.test/x")
        .header("trailer", "x-auth-user")
        .body(())
        .unwrap();
    let answer = client.try_send(request, b"hello", Some(trailers));
    assert!(answer.is_err() || matches!(answer.unwrap().status.as_u16(), 200 | 400));
    for request in app.requests() {
        knows_nothing_of_the_forgery(&request);
    }
}

/// Fields that say how to read a message or who sent it, and so come too late behind its body.
const LATE: [&str; 15] = [
    "access-control-allow-origin",
    "allow",
    "authentication-info",
    "authorization",
    "cdn-loop",
    "content-disposition",
    "content-language",
    "referer",
    "sec-fetch-site",
    "sec-x",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "via",
    "x-forwarded-x",
];

fn late_trailers() -> HeaderMap {
    let names = LATE.into_iter().chain(["x-sum"]);
    names.fold(HeaderMap::new(), |mut trailers, name| {
        trailers.insert(name, http::HeaderValue::from_static("late"));
        trailers
    })
}

#[test]
fn trailers_that_come_too_late_pass_in_neither_direction() {
    let names = |trailers: &HeaderMap| {
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        names.join(" ")
    };
    let address =
        http2::app(move |_, _, trailers| (trailers.map(names).unwrap_or_default().into(), late_trailers()));
    let one = LATE.map(|name| format!("{name}: late\r\n")).concat();
    let http1 = App::answering(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: {}, x-sum\r\n\r\n2\r\nok\r\n0\r\n{one}X-Sum: late\r\n\r\n",
        LATE.join(", ")
    ));
    let route = |path: &str, upstream: &str| {
        format!("[[routes]]\npath = \"{path}\"\nauth = \"none\"\nupstream = \"{upstream}\"\n")
    };
    let gateway = Gateway::before(
        &http1,
        &format!(
            "[upstreams.two]\nservers = [\"h2c://{address}\"]\n{}{}",
            route("/two", "two"),
            route("/one", "app")
        ),
    );

    let client = Http2::connect(gateway.address);
    for path in ["/one", "/two"] {
        let request = http::Request::post(format!("http://app.test{path}"))
            .header("te", "trailers")
            .body(())
            .unwrap();
        let answer = client.try_send(request, b"hello", Some(late_trailers())).unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.trailers.as_ref().map(names).as_deref(),
            Some("x-sum"),
            "{path}: to the client"
        );
        if path == "/two" {
            assert_eq!(answer.text(), "x-sum", "to the app");
        }
        let bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n\
             Trailer: {}, x-sum\r\n\r\n5\r\nhello\r\n0\r\n{one}X-Sum: late\r\n\r\n",
            LATE.join(", ")
        );
        let answer = gateway.send_bytes(bytes).expect(200);
        let trailers = answer.trailers.iter().map(|(name, _)| name.to_lowercase());
        assert!(
            trailers.eq((path == "/one").then(|| "x-sum".to_owned())),
            "{answer:?}"
        );
        if path == "/two" {
            assert_eq!(answer.text(), "x-sum", "to the app");
        }
    }
}

#[test]
fn a_claim_cannot_break_out_of_its_header() {
    let (app, gateway) = open();
    for evil in [
        "a\r\nX-Evil: forged",
        "a\nX-Evil: forged",
        "a\0b",
        "a\u{7f}b",
        "\u{e9}\u{20ac}",
        " a ",
        "a,b",
    ] {
        let mut claims = corp_claims(evil);
        claims["email"] = json!(evil);
        claims["name"] = json!(evil);
        claims["roles"] = json!([evil]);
        let token = corp_token_of(&claims);
        let before = app.count();
        let status = gateway.get_as(&token, "/private/x").status;
        // Such a subject may be refused or written in a form that cannot harm; it may not get through as it is.
        assert!(matches!(status, 200 | 400 | 401 | 403), "{evil:?}: {status}");
        if app.count() > before {
            let seen = app.last();
            assert!(
                seen.fields
                    .iter()
                    .all(|(name, _)| !name.eq_ignore_ascii_case("x-evil")),
                "{}",
                seen.text()
            );
            assert!(
                seen.raw_head
                    .iter()
                    .all(|byte| *byte == b'\r' || *byte == b'\n' || (32..127).contains(byte)),
                "{evil:?}"
            );
            assert_ne!(seen.header("x-auth-roles"), Some("a,b"));
        }
    }
}

#[test]
fn two_subjects_never_look_the_same_to_an_app() {
    let (app, gateway) = open();
    let mut seen = std::collections::HashMap::new();
    for subject in [
        "a", "a ", " a", "a%20", "a\r", "a\n", "\u{e9}", "%C3%A9", "a,b", "a%2Cb", "A",
    ] {
        let before = app.count();
        gateway.get_as(&corp_token(subject, &[]), "/private/x");
        if app.count() > before {
            let user = app.last().header("x-auth-user").unwrap().to_owned();
            if let Some(other) = seen.insert(user.clone(), subject) {
                panic!("{subject:?} and {other:?} are both {user:?}");
            }
        }
    }
}

// --- upgrades

#[test]
fn an_upgrade_to_http_2_is_not_forwarded() {
    let (app, gateway) = open();
    for (connection, upgrade) in [
        ("Upgrade, HTTP2-Settings", "h2c"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "h2c"),
        ("Upgrade, HTTP2-Settings", "websocket, h2c"),
        ("Upgrade", "H2C"),
    ] {
        let request = Request::get("/x")
            .header("Connection", connection)
            .header("Upgrade", upgrade)
            .header("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA");
        let status = gateway.send(&request).status;
        assert!(matches!(status, 200 | 400), "{upgrade}: {status}");
        for request in app.requests() {
            assert!(
                !request.text().to_ascii_lowercase().contains("h2c"),
                "{}",
                request.text()
            );
            assert_eq!(request.header("http2-settings"), None);
        }
    }
}

#[test]
fn an_upgrade_with_a_body_or_another_method_is_refused() {
    let (app, gateway) = open();
    let fields = "Host: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let with_body = format!("GET /x HTTP/1.1\r\n{fields}Content-Length: 5\r\n\r\nhello");
    refuses(&gateway, &app, with_body.as_bytes(), 400);
    let post = format!("POST /x HTTP/1.1\r\n{fields}Content-Length: 0\r\n\r\n");
    refuses(&gateway, &app, post.as_bytes(), 400);
}

#[test]
fn what_a_client_sends_before_an_upgrade_is_agreed_to_is_not_a_request_to_the_app() {
    // The app does not agree, and its connection goes back to the pool: the client's early bytes must not be in it.
    let app = App::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    let handshake = Request::get("/socket")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut client = gateway.connect();
    // Without Host, so that the gateway itself would refuse it if it took it for a request.
    client.send(
        [
            handshake.bytes(),
            b"GET /smuggled HTTP/1.1\r\nX-Auth-User: forged\r\n\r\n".to_vec(),
        ]
        .concat(),
    );
    client.response().expect(200);
    client.set_timeout(Duration::from_secs(5));
    let _ = client.try_response_to("GET");
    gateway.get("/after").expect(200);
    let targets: Vec<String> = app
        .requests()
        .iter()
        .map(|request| request.target().to_owned())
        .collect();
    assert_eq!(targets, ["/socket", "/after"]);
    for request in app.requests() {
        knows_nothing_of_the_forgery(&request);
    }
}

// --- the gateway's own places

#[test]
fn the_own_prefix_belongs_to_the_gateway_and_reaches_no_app() {
    let (app, gateway) = open();
    for path in ["/auth/verify", "/auth/login", "/auth/x", "/.well-known/jwks.json"] {
        gateway.get(path);
    }
    assert_eq!(app.count(), 0);
    gateway.get("/authentic").expect(200);
}

#[test]
fn admin_endpoints_are_not_on_the_public_port() {
    let app = App::saying(|_| "the app".to_owned());
    let gateway = Gateway::start(&before(&app, ROUTES));
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(gateway.get(path).expect(200).text(), "the app");
    }
    gateway.admin_get("/x").expect(404);
}

#[test]
fn a_redirect_of_the_app_is_the_clients_business() {
    let app = App::answering(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n",
    );
    let gateway = Gateway::before(&app, ROUTES);
    let response = gateway.get("/x").expect(302);
    assert_eq!(response.header("location"), Some("http://127.0.0.1:1/elsewhere"));
}

#[test]
fn an_app_whose_answer_is_ambiguous_is_not_believed() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok",
        "rubbish\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
    ] {
        let app = App::with(move |exchange| {
            exchange.read_body();
            exchange.send(answer);
            Answer::Close
        });
        let gateway = Gateway::before(&app, ROUTES);
        let response = gateway.get("/x");
        // RFC 9112 section 6.3 lets chunked override the length; then only one of the two may be passed on.
        if response.status == 200 {
            assert!(answer.contains("chunked"), "{answer:?}");
            assert_eq!(response.text(), "ok");
            let both =
                response.header("content-length").is_some() && response.header("transfer-encoding").is_some();
            assert!(!both);
        } else {
            assert_eq!(response.status, 502, "{answer:?}");
        }
    }
}

// --- what one client can make the gateway hold

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn answers_that_a_client_does_not_read_are_not_gathered_for_it() {
    const STREAMS: u32 = 100;
    const LENGTH: usize = 600 * 1024;
    let app = App::with(|exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        exchange.send(vec![b'x'; LENGTH]);
        Answer::Keep
    });
    let gateway = Gateway::before(&app, ROUTES);
    let before = gateway.resident_bytes();

    // Windows as wide as they can be, many streams, and not a byte of an answer is read.
    let widest = 0x7fff_ffff_u32;
    let mut client = gateway.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(frame(4, 0, 0, &[&[0, 4][..], &widest.to_be_bytes()].concat()));
    client.send(frame(8, 0, 0, &(widest - 0xffff).to_be_bytes()));
    for stream in 0..STREAMS {
        // GET, http, `/x`, `app.test`: entries of the static table (RFC 7541 appendix A).
        client.send(frame(1, 5, 2 * stream + 1, b"\x82\x86\x04\x02/x\x01\x08app.test"));
    }
    app.wait_for(STREAMS as usize);
    let (mut held, mut since) = (0, std::time::Instant::now());
    eventually("the memory stays as it is", || {
        let now = gateway.resident_bytes();
        if now.abs_diff(held) > 256 * 1024 {
            (held, since) = (now, std::time::Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    let each = held.saturating_sub(before) / STREAMS as usize;
    assert!(each < 256 * 1024, "{each} bytes for each stream");
}
