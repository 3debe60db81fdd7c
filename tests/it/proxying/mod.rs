//! What an app receives and what a client gets back: heads, bodies, streams, upgrades, connections, time limits,
//! listeners and TLS.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod answers;
mod bodies;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::gateway::{CORP_ISSUER, before};
use crate::support::http2::{self, Frames, Http2, RawFrame};
use crate::support::tls::Certificate;
use crate::support::tokens::{is_signed_by, payload};
use crate::support::*;
use http::HeaderMap;
use serde_json::json;

const OPEN: &str = "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
const PRIVATE: &str = "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One worker, so that there is one pool of connections.
const ONE_WORKER: &str = "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n";

/// The same text, long and without a period that a buffer size divides.
fn long_text(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| b'a' + u8::try_from((index * 7 + index / 1021) % 26).unwrap())
        .collect()
}

fn chunked(text: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in text.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

// --- heads

#[test]
fn app_gets_the_request_line_the_host_and_the_caller() {
    let app = App::start();
    let gateway = Gateway::before(&app, PRIVATE);
    let mut claims = corp_claims("alice");
    claims["email"] = json!("alice@example.com");
    claims["name"] = json!("Alice Liddell");
    claims["roles"] = json!(["admin", "user"]);
    let request = Request::get("/some/path?and=query")
        .host("shop.test:8080")
        .bearer(&corp_token_of(&claims));
    gateway
        .send(&request.header("Accept", "text/plain").header("X-Custom", "a  b"))
        .expect(200);
    let seen = app.only();
    assert_eq!(seen.request_line, "GET /some/path?and=query HTTP/1.1");
    assert_eq!(seen.header("host"), Some("shop.test:8080"));
    assert_eq!(seen.header("accept"), Some("text/plain"));
    assert_eq!(seen.header("x-custom"), Some("a  b"));
    assert_eq!(seen.header("x-auth-user"), Some("alice"));
    assert_eq!(seen.header("x-auth-email"), Some("alice@example.com"));
    assert_eq!(seen.header("x-auth-name"), Some("Alice Liddell"));
    assert_eq!(seen.header("x-auth-roles"), Some("admin,user"));
    assert_eq!(seen.header("x-auth-issuer"), Some("corp"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.test:8080"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-auth-assertion"), None);
    let id = seen.header("x-request-id").unwrap().to_owned();
    let line = gateway.log_line(|line| line["request_id"] == id.as_str());
    assert_eq!(line["path"], "/some/path");
}

#[test]
fn claim_missing_in_the_token_is_not_sent() {
    let app = App::start();
    let gateway = Gateway::before(&app, PRIVATE);
    let mut claims = corp_claims("alice");
    claims["email"] = json!(7);
    gateway.get_as(&corp_token_of(&claims), "/x").expect(200);
    let seen = app.only();
    assert_eq!(seen.header("x-auth-email"), None);
    assert_eq!(seen.header("x-auth-name"), None);
    assert_eq!(seen.header("x-auth-roles").unwrap_or_default(), "");
}

#[test]
fn request_ids_are_the_gateways_and_each_is_new() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    for _ in 0..5 {
        gateway
            .send(&Request::get("/x").header("X-Request-Id", "mine"))
            .expect(200);
    }
    let mut ids: Vec<_> = app
        .requests()
        .iter()
        .map(|seen| seen.header("x-request-id").unwrap().to_owned())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert!(!ids.contains(&"mine".to_owned()));
}

#[test]
fn hop_by_hop_fields_end_at_the_gateway() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-App-Hop\r\nKeep-Alive: timeout=5\r\nX-App-Hop: secret\r\n\
         Proxy-Authenticate: Basic\r\nX-App: kept\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::before(&app, OPEN);
    let request = Request::get("/x")
        .header("Connection", "keep-alive, X-Hop, Keep-Alive")
        .header("Keep-Alive", "timeout=99")
        .header("Proxy-Connection", "keep-alive")
        .header("Proxy-Authorization", "Basic YTpi")
        .header("X-Hop", "hop-value")
        .header("TE", "gzip")
        .header("X-Kept", "kept");
    let response = gateway.send(&request).expect(200);
    let seen = app.only();
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "x-hop",
        "upgrade",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_ne!(seen.header("te"), Some("gzip"));
    assert!(!seen.text().contains("hop-value"));
    assert_eq!(seen.header("x-kept"), Some("kept"));
    assert_eq!(response.header("x-app"), Some("kept"));
    assert_eq!(response.header("x-app-hop"), None);
    assert_eq!(response.header("keep-alive"), None);
}

#[test]
fn fields_that_come_several_times_stay_several_and_in_order() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-Many: 1\r\nX-Many: 2\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = Gateway::before(&app, OPEN);
    let response = gateway
        .send(&Request::get("/x").header("X-Many", "a").header("X-Many", "b"))
        .expect(200);
    assert_eq!(values(&app.only().fields, "x-many"), ["a", "b"]);
    assert_eq!(values(&response.fields, "set-cookie"), ["a=1; Path=/", "b=2"]);
    assert_eq!(values(&response.fields, "x-many"), ["1", "2"]);
}

#[test]
fn bytes_beyond_ascii_in_a_field_pass_as_they_are() {
    let app = App::answering(b"HTTP/1.1 200 OK\r\nX-App: \xe9\xff\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let gateway = Gateway::before(&app, OPEN);
    let response = gateway
        .send_bytes(b"GET /x HTTP/1.1\r\nHost: app.test\r\nX-Client: J\xc3\xb6rg \xe9\r\n\r\n")
        .expect(200);
    assert!(
        app.only()
            .raw_head
            .windows(7)
            .any(|window| window == b"J\xc3\xb6rg \xe9")
    );
    assert_eq!(response.header("x-app"), Some("\u{e9}\u{ff}"));
}

#[test]
fn the_query_is_forwarded_byte_for_byte() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    for query in [
        "?",
        "?a",
        "?a=1&b=2",
        "?a=%41%2f%2F%zz",
        "?a=b=c&&",
        "?a;b",
        "?a+b%20c",
        "??",
        "?/../..//x",
        "?a[]=1&a[]=2",
        "?'()*",
        "?%00",
        "?\\",
        "?{}|^`",
    ] {
        let response = gateway.get(&format!("/x{query}"));
        assert_eq!(response.status, 200, "{query}");
        assert_eq!(app.last().target(), format!("/x{query}"));
    }
}

#[test]
fn a_prefix_is_stripped_by_whole_segments() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/api/*\"\nauth = \"none\"\nupstream = \"app\"\nstrip_prefix = \"/api\"\n",
    );
    for (sent, forwarded) in [
        ("/api/x/y?q", "/x/y?q"),
        ("/api", "/"),
        ("/api/", "/"),
        ("/api?q", "/?q"),
        ("/%61pi/x", "/x"),
    ] {
        gateway.get(sent).expect(200);
        assert_eq!(app.last().target(), forwarded, "{sent}");
    }
    // However the file spells it.
    let odd = "[[routes]]\npath = \"/caf%c3%a9/%7eann/*\"\nauth = \"none\"\nupstream = \"app\"\n\
               strip_prefix = \"/caf%c3%a9/%7eann/\"\n";
    let gateway = Gateway::before(&app, odd);
    for sent in ["/caf%c3%a9/~ann/x", "/caf%C3%A9/%7Eann/x"] {
        gateway.get(sent).expect(200);
        assert_eq!(app.last().target(), "/x", "{sent}");
    }
}

#[test]
fn stripping_a_prefix_never_yields_a_path_that_was_refused() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/api/*\"\nauth = \"none\"\nupstream = \"app\"\nstrip_prefix = \"/api\"\naccept = [\"empty-segment\"]\n",
    );
    let response = gateway.get("/api//evil.example/x");
    // `//evil.example/x` in the place of a target would be read as a host by some apps.
    if response.status == 200 {
        assert!(app.last().target().starts_with('/'));
    }
    gateway.get("/api/../x").expect(400);
}

#[test]
fn fields_of_the_route_are_set_over_those_of_the_client() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\nheaders = { \"X-Env\" = \"prod\", \"X-Two\" = \"2\" }\n",
    );
    gateway
        .send(
            &Request::get("/x")
                .header("X-Env", "client")
                .header("x-env", "client"),
        )
        .expect(200);
    assert_eq!(app.only().header("x-env"), Some("prod"));
    assert_eq!(app.only().header("x-two"), Some("2"));
}

#[test]
fn the_host_of_the_upstream_replaces_that_of_the_client() {
    let app = App::start();
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nhost = \"inner.test\"\n{OPEN}",
        app.url()
    );
    let gateway = Gateway::start(&toml);
    gateway.send(&Request::get("/x").host("outer.test")).expect(200);
    assert_eq!(app.only().header("host"), Some("inner.test"));
    assert_eq!(app.only().header("x-forwarded-host"), Some("outer.test"));
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let app = App::start();
    let forwarded = Request::get("/x")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Host", "shop.example")
        .header("X-Forwarded-Port", "443")
        .header("X-Real-IP", "203.0.113.9")
        .header("Forwarded", "for=203.0.113.9");
    let gateway = Gateway::before(&app, OPEN);
    gateway.send(&forwarded).expect(200);
    let seen = app.last();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("app.test"));
    assert!(!seen.text().contains("203.0.113.9"), "{}", seen.text());
    assert_eq!(
        seen.header("x-forwarded-port").filter(|port| *port == "443"),
        None
    );
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/x")["client"],
        "127.0.0.1"
    );

    let trusting = "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let gateway = Gateway::before(&app, &format!("{trusting}{OPEN}"));
    gateway.send(&forwarded).expect(200);
    let seen = app.last();
    let addresses = seen.header("x-forwarded-for").unwrap();
    assert!(addresses.starts_with("203.0.113.9"), "{addresses}");
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/x")["client"],
        "203.0.113.9"
    );

    let others = "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
    let gateway = Gateway::before(&app, &format!("{others}{OPEN}"));
    gateway.send(&forwarded).expect(200);
    assert_eq!(app.last().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn unlisted_local_proxy_gets_the_scheme_of_public_url() {
    let app = App::start();
    let x = || Request::get("/x");
    let says = |proto: &str| {
        Request::get("/x")
            .header("X-Forwarded-Proto", proto)
            .header("X-Forwarded-For", "192.0.2.7")
    };
    // `public_url` and `trusted_proxies`; by unix socket; the request; what the app is told of scheme and client.
    for (site, proxies, unix, request, expected) in [
        ("https", "[]", false, x(), ("https", "127.0.0.1")),
        ("https", "[]", false, says("http"), ("https", "127.0.0.1")),
        ("https", "[]", true, says("http"), ("https", "127.0.0.1")),
        ("http", "[]", false, says("https"), ("http", "127.0.0.1")),
        ("http", "[]", true, says("https"), ("http", "127.0.0.1")),
        (
            "https",
            r#"["127.0.0.1"]"#,
            false,
            says("http"),
            ("http", "192.0.2.7, 127.0.0.1"),
        ),
        ("https", r#"["127.0.0.1"]"#, false, x(), ("http", "127.0.0.1")),
        (
            "https",
            r#"["unix"]"#,
            true,
            says("http"),
            ("http", "192.0.2.7, 127.0.0.1"),
        ),
        (
            "http",
            r#"["10.0.0.0/8", "unix"]"#,
            true,
            says("https"),
            ("https", "192.0.2.7, 127.0.0.1"),
        ),
        ("http", r#"["unix"]"#, false, says("https"), ("http", "127.0.0.1")),
        // `unix` is about unix sockets alone; a listed `127.0.0.1` holds for both.
        (
            "http",
            r#"["127.0.0.1"]"#,
            true,
            says("https"),
            ("https", "192.0.2.7, 127.0.0.1"),
        ),
    ] {
        let server = format!(
            "[server]\nlisten = [\"127.0.0.1:0\", \"unix:gateway.sock\"]\npublic_url = \"{site}://app.test\"\n\
             trusted_proxies = {proxies}\n"
        );
        let gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
        let path = gateway.setup.path("gateway.sock");
        if unix {
            eventually("the unix socket is there", || path.exists());
            request.over(&mut Client::connect_unix(&path)).expect(200);
        } else {
            gateway.send(&request).expect(200);
        }
        let seen = app.last();
        let seen = (
            seen.header("x-forwarded-proto").unwrap(),
            seen.header("x-forwarded-for").unwrap(),
        );
        assert_eq!(seen, expected, "{site} {proxies} {unix}");
    }
}

#[test]
fn unlisted_proxy_is_warned_of_once() {
    const WARNING: &str = "is not in `trusted_proxies`";
    let app = App::start();
    let count = |gateway: &Gateway| {
        gateway
            .diagnostics()
            .iter()
            .filter(|line| line.contains(WARNING))
            .count()
    };
    let server = "[server]\nlisten = \"127.0.0.1:0\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
    gateway.get("/x").expect(200);
    for _ in 0..3 {
        gateway
            .send(&Request::get("/x").header("X-Forwarded-For", "192.0.2.7"))
            .expect(200);
    }
    gateway.diagnostic(WARNING);
    let line = gateway
        .diagnostics()
        .into_iter()
        .find(|line| line.contains(WARNING))
        .unwrap();
    assert!(
        line.contains("WARN") && line.contains("127.0.0.1") && !line.contains("192.0.2.7"),
        "{line}"
    );
    assert_eq!(count(&gateway), 1);

    // A listed one, and a client that says nothing, are not.
    let gateway = Gateway::before(
        &app,
        &format!("{server}trusted_proxies = [\"127.0.0.1\"]\n{OPEN}"),
    );
    gateway
        .send(&Request::get("/x").header("X-Forwarded-For", "192.0.2.7"))
        .expect(200);
    gateway.get("/x").expect(200);
    assert_eq!(count(&gateway), 0);
}

#[test]
fn client_behind_a_trusted_proxy_cannot_choose_its_address() {
    let app = App::start();
    let trusting = "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let gateway = Gateway::before(&app, &format!("{trusting}{OPEN}"));
    // The proxy appended the address it saw; what stands before it is the client's own tale.
    gateway
        .send(&Request::get("/x").header("X-Forwarded-For", "1.1.1.1, 203.0.113.9"))
        .expect(200);
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/x")["client"],
        "203.0.113.9"
    );
}

/// What a trusted proxy says: For, Proto, Host, Port and the request id are read, others pass where the file names them.
#[test]
fn trusted_proxy_sets_five_fields_and_others_by_name() {
    let app = App::start();
    let said = Request::get("/x")
        .header(
            "X-Forwarded-For",
            "203.0.113.9, unknown, 198.51.100.7:4711, 127.0.0.2",
        )
        .header("X-Forwarded-Proto", "https, http")
        .header("X-Forwarded-Host", "shop.example, inner.example")
        .header("X-Forwarded-Port", "8443, 80")
        .header("X-Forwarded-Prefix", "/said")
        .header("X-Forwarded-Uri", "/said")
        .header("X-Forwarded-Client-Cert", "Subject=said")
        .header("X-Forwarded-Access-Token", "said")
        .header("X_Forwarded_Proto", "said")
        .header("Forwarded", "for=203.0.113.9;by=said")
        .header("X-Real-IP", "203.0.113.10")
        .header("X-SSL-Client-Verify", "said")
        .header("X_SSL_Client_Verify", "said-otherwise")
        .header("CF-Connecting-IP", "203.0.113.11")
        .header("X-Auth-User", "said");
    let trusting = |proxies: &str, headers: &str| {
        let server = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [{proxies}]\ntrusted_headers = [{headers}]\n"
        );
        Gateway::before(&app, &format!("{server}{OPEN}"))
    };
    let gateway = trusting("\"127.0.0.0/8\"", "");
    gateway.send(&said).expect(200);
    let seen = app.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("198.51.100.7:4711, 127.0.0.2, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.header("x-forwarded-port"), Some("8443"));
    assert!(
        !seen.text().contains("said") && !seen.text().contains("203.0.113."),
        "{}",
        seen.text()
    );
    assert_eq!(
        gateway.log_line(|line| line["path"] == "/x")["client"],
        "198.51.100.7"
    );

    let named = "\"X-Real-IP\", \"Forwarded\", \"x-ssl-client-verify\", \"X-Forwarded-Client-Cert\"";
    let gateway = trusting("\"127.0.0.0/8\"", named);
    gateway.send(&said).expect(200);
    let seen = app.last();
    for (name, value) in [
        ("forwarded", Some("for=203.0.113.9;by=said")),
        ("x-real-ip", Some("203.0.113.10")),
        ("x-ssl-client-verify", Some("said")),
        ("x-forwarded-client-cert", Some("Subject=said")),
        ("x-forwarded-uri", None),
        ("x-forwarded-prefix", None),
        ("cf-connecting-ip", None),
        ("x-auth-user", None),
    ] {
        assert_eq!(seen.header(name), value, "{}", seen.text());
    }
    assert!(!seen.text().contains("said-otherwise"), "{}", seen.text());

    // The names are believed from nobody else.
    let gateway = trusting("\"10.0.0.0/8\"", named);
    gateway.send(&said).expect(200);
    let seen = app.last();
    assert!(
        !seen.text().contains("said") && !seen.text().contains("203.0.113."),
        "{}",
        seen.text()
    );
    assert_eq!(
        (seen.header("x-forwarded-port"), seen.header("x-forwarded-proto")),
        (Some("80"), Some("http"))
    );
}

/// HAProxy passes the client's `Connection` on, and with it the names of the fields that it sets itself.
#[test]
fn connection_header_cannot_delete_fields_of_a_trusted_proxy() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"127.0.0.1/32\"]\ntrusted_headers = [\"Forwarded\", \"X-Real-IP\", \"X-SSL-Client-Verify\"]\n";
    let gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
    let fields = [
        ("x-forwarded-for", "203.0.113.9", "203.0.113.9, 127.0.0.1"),
        ("x-forwarded-proto", "https", "https"),
        ("x-forwarded-host", "shop.example", "shop.example"),
        ("x-forwarded-port", "8443", "8443"),
        ("forwarded", "for=203.0.113.9", "for=203.0.113.9"),
        ("x-real-ip", "203.0.113.9", "203.0.113.9"),
        ("x-request-id", "edge-1", "edge-1"),
        ("x-ssl-client-verify", "SUCCESS", "SUCCESS"),
        ("authorization", "Basic YTpi", "Basic YTpi"),
        ("cookie", "a=b", "a=b"),
        ("host", "app.test", "app.test"),
    ];
    let mut request = Request::get("/x").header("X-Other", "1");
    let listed: Vec<&str> = fields.iter().map(|(name, ..)| *name).chain(["x-other"]).collect();
    request = request.header("Connection", &listed.join(", "));
    for (name, value, _) in fields.iter().filter(|(name, ..)| *name != "host") {
        request = request.header(name, value);
    }
    gateway.send(&request).expect(200);
    let seen = app.last();
    for (name, _, value) in fields {
        assert_eq!(seen.header(name), Some(value), "{name} in {}", seen.text());
    }
    assert_eq!(seen.header("x-other"), None);
}

#[test]
fn a_request_keeps_the_id_that_a_trusted_proxy_gave_it() {
    let app = App::start();
    let gateway_trusting = |network: &str| {
        let server = format!("[server]\nlisten = \"127.0.0.1:0\"\ntrusted_proxies = [\"{network}\"]\n");
        Gateway::before(
            &app,
            &format!("{server}{OPEN}{}", PRIVATE.replace("/*", "/private/*")),
        )
    };
    let gateway = gateway_trusting("127.0.0.0/8");
    let ask = |target: &str, id: &str| Request::get(target).header("X-Request-Id", id);
    gateway.send(&ask("/x", "edge-1")).expect(200);
    assert_eq!(app.last().header("x-request-id"), Some("edge-1"));
    gateway.log_line(|line| line["request_id"] == "edge-1" && line["status"] == 200);
    let refused = gateway.send(&ask("/private/x", "edge-2")).expect(401);
    assert_eq!(
        (refused.header("x-request-id"), &refused.json()["request_id"]),
        (Some("edge-2"), &json!("edge-2"))
    );
    gateway.log_line(|line| line["request_id"] == "edge-2" && line["status"] == 401);
    // What could break a log line or a page is no id.
    gateway.send(&ask("/x", "<b>\"")).expect(200);
    assert_eq!(app.last().header("x-request-id").map(str::len), Some(36));

    let gateway = gateway_trusting("10.0.0.0/8");
    gateway.send(&ask("/x", "edge-3")).expect(200);
    assert_ne!(app.last().header("x-request-id"), Some("edge-3"));
}

// --- identity in other forms

#[test]
fn presets_send_the_header_names_of_other_products() {
    let mut claims = corp_claims("alice");
    claims["email"] = json!("alice@example.com");
    claims["name"] = json!("Alice");
    claims["roles"] = json!(["admin", "user"]);
    let token = corp_token_of(&claims);
    for (preset, user, groups, email) in [
        (
            "oauth2-proxy",
            "X-Forwarded-User",
            "X-Forwarded-Groups",
            "X-Forwarded-Email",
        ),
        ("authelia", "Remote-User", "Remote-Groups", "Remote-Email"),
    ] {
        let app = App::start();
        let gateway = Gateway::before(
            &app,
            &format!(
                "[identity]\npreset = \"{preset}\"\n{PRIVATE}\n{}",
                OPEN.replace("/*", "/open/*")
            ),
        );
        let forged = |request: Request| {
            request
                .header(user, "forged")
                .header(&user.replace('-', "_"), "forged")
                .header(groups, "forged")
                .header(email, "forged")
        };
        gateway
            .send(&forged(Request::get("/x").bearer(&token)))
            .expect(200);
        let seen = app.last();
        assert_eq!(seen.header(user), Some("alice"), "{preset}: {}", seen.text());
        assert_eq!(seen.header(groups), Some("admin,user"), "{preset}");
        assert_eq!(seen.header(email), Some("alice@example.com"), "{preset}");
        assert!(!seen.text().contains("forged"), "{}", seen.text());
        gateway.send(&forged(Request::get("/open/x"))).expect(200);
        assert!(!app.last().text().contains("forged"), "{}", app.last().text());
    }
}

/// Bytes outside ASCII, as the products send them after which the presets are named.
#[test]
fn non_ascii_names_follow_the_encoding_of_preset_or_file() {
    let mut claims = corp_claims("josé");
    claims["email"] = json!("josé@example.com");
    claims["name"] = json!("José Łódź\r\nX-Auth-User: root");
    claims["preferred_username"] = json!("josé");
    claims["roles"] = json!(["équipe", "a,b", "100%", "a%2Cb"]);
    let token = corp_token_of(&claims);
    for (identity, name, groups, user) in [
        (
            "preset = \"passgate\"",
            "X-Auth-Name",
            "X-Auth-Roles",
            "X-Auth-User",
        ),
        (
            "encoding = \"utf-8\"",
            "X-Auth-Name",
            "X-Auth-Roles",
            "X-Auth-User",
        ),
        (
            "preset = \"authelia\"",
            "Remote-Name",
            "Remote-Groups",
            "Remote-User",
        ),
        (
            "preset = \"authelia\"\nencoding = \"percent\"",
            "Remote-Name",
            "Remote-Groups",
            "Remote-User",
        ),
        (
            "preset = \"oauth2-proxy\"",
            "",
            "X-Forwarded-Groups",
            "X-Forwarded-User",
        ),
    ] {
        let app = App::start();
        let gateway = Gateway::before(&app, &format!("[identity]\n{identity}\n{PRIVATE}"));
        gateway.get_as(&token, "/x").expect(200);
        let seen = app.last();
        let is_utf8 =
            identity.contains("utf-8") || !identity.contains("percent") && !identity.contains("passgate");
        let (roles, who, full) = if is_utf8 {
            (
                "équipe,a%2Cb,100%,a%252Cb",
                "josé",
                "José Łódź%0D%0AX-Auth-User: root",
            )
        } else {
            (
                "%C3%A9quipe,a%2Cb,100%25,a%252Cb",
                "jos%C3%A9",
                "Jos%C3%A9 %C5%81%C3%B3d%C5%BA%0D%0AX-Auth-User: root",
            )
        };
        // The app of these tests reads each byte as a character.
        let sent = |text: &str| text.bytes().map(char::from).collect::<String>();
        assert_eq!(seen.header(groups), Some(&*sent(roles)), "{identity}");
        assert_eq!(seen.header(user), Some(&*sent(who)), "{identity}");
        if !name.is_empty() {
            assert_eq!(seen.header(name), Some(&*sent(full)), "{identity}");
        }
    }
}

/// What is there of an address that the token calls unverified, or does not call verified.
#[test]
fn unverified_email_reaches_no_app_and_matches_no_rule() {
    let email = "ann@example.com";
    let routes = r#"
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/rule"
claims = { email = "ann@example.com" }
upstream = "app"
[[routes]]
path = "/role"
roles = ["ann@example.com"]
upstream = "app"
"#;
    let token = |verified: Option<&serde_json::Value>| {
        let mut claims = corp_claims("u-1");
        claims["email"] = json!(email);
        if let Some(verified) = verified {
            claims["email_verified"] = verified.clone();
        }
        corp_token_of(&claims)
    };
    let identity = |lines: &str| {
        format!("[identity]\nassertion = true\nheaders = {{ \"X-Mail\" = \"email\" }}\n{lines}")
    };
    for (lines, is_told) in [
        ("", false),
        ("unverified_email = false\n", false),
        ("unverified_email = true\n", true),
    ] {
        let app = App::start();
        let toml = before(&app, &format!("{}{routes}", identity(lines)));
        let gateway =
            Gateway::start(&toml.replace("roles_claims = [\"roles\"]", "roles_claims = [\"email\"]"));
        for (verified, is_good) in [
            (None, true),
            (Some(json!(true)), true),
            (Some(json!(false)), false),
            (Some(json!("true")), false),
            (Some(json!(null)), false),
        ] {
            let token = token(verified.as_ref());
            gateway.get_as(&token, "/x").expect(200);
            let seen = app.last();
            let told = (is_good || is_told).then_some(email);
            assert_eq!(seen.header("x-auth-email"), told, "{lines}{verified:?}");
            assert_eq!(seen.header("x-mail"), told, "{lines}{verified:?}");
            let assertion = payload(seen.header("x-auth-assertion").unwrap());
            assert_eq!(assertion["email"].as_str(), told, "{lines}{verified:?}");
            let said = (!is_good && is_told).then_some(false);
            assert_eq!(assertion["email_verified"].as_bool(), said, "{lines}{verified:?}");
            for (path, reason) in [("/rule", "claim-refused"), ("/role", "role-refused")] {
                let answer = gateway.get_as(&token, path);
                assert_eq!(
                    answer.status,
                    if is_good { 200 } else { 403 },
                    "{path} {lines}{verified:?}"
                );
                if !is_good {
                    assert_eq!(gateway.log_of(&answer)["reason"], reason);
                }
            }
        }
    }
    // An address as the subject would be told as who is calling.
    let app = App::start();
    let toml = before(&app, PRIVATE).replace("roles_claims", "subject_claim = \"email\"\nroles_claims");
    let gateway = Gateway::start(&toml);
    gateway.get_as(&token(Some(&json!(true))), "/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some(email));
    let answer = gateway.get_as(&token(Some(&json!(false))), "/x").expect(401);
    assert_eq!(gateway.log_of(&answer)["reason"], "subject-malformed");
}

#[test]
fn role_with_a_comma_is_encoded_as_one_role() {
    let app = App::start();
    let gateway = Gateway::before(&app, PRIVATE);
    let roles = [
        "a,b", "50%", " lead", "trail ", "in side", "\u{e9}", "tab\t", "plain",
    ];
    gateway.get_as(&corp_token("alice", &roles), "/x").expect(200);
    let seen = app.only().header("x-auth-roles").unwrap().to_owned();
    let expected = "a%2Cb,50%25,%20lead,trail%20,in side,%C3%A9,tab%09,plain";
    assert!(seen.eq_ignore_ascii_case(expected), "{seen}");
}

#[test]
fn further_claims_become_headers() {
    let app = App::start();
    let identity = "[identity]\nheaders = { \"X-Tenant\" = \"org.tenant\", \"X-Plan\" = \"plan\" }\n";
    let gateway = Gateway::before(&app, &format!("{identity}{PRIVATE}"));
    let mut claims = corp_claims("alice");
    claims["org"] = json!({ "tenant": "acme" });
    gateway.get_as(&corp_token_of(&claims), "/x").expect(200);
    assert_eq!(app.only().header("x-tenant"), Some("acme"));
    assert_eq!(app.only().header("x-plan"), None);
}

#[test]
fn assertion_verifies_with_published_keys_and_is_reused() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.example.com\"\n";
    let gateway = Gateway::before(&app, &format!("{server}[identity]\nassertion = true\n{PRIVATE}"));
    let token = corp_token("alice", &["admin"]);
    for _ in 0..5 {
        gateway.get_as(&token, "/x").expect(200);
    }
    let assertions: Vec<String> = app
        .requests()
        .iter()
        .map(|seen| seen.header("x-auth-assertion").unwrap().to_owned())
        .collect();
    let different: std::collections::HashSet<_> = assertions.iter().collect();
    assert!(
        different.len() <= 2,
        "signed {} times for 5 requests",
        different.len()
    );
    let assertion = &assertions[0];
    let published = gateway.get("/.well-known/jwks.json").expect(200).json();
    assert!(
        is_signed_by(assertion, &published),
        "{assertion} is by none of {published}"
    );
    for key in published["keys"].as_array().unwrap() {
        for private in ["d", "p", "q", "k", "dp", "dq", "qi"] {
            assert!(key.get(private).is_none(), "`{private}` is published");
        }
    }
    let claims = payload(assertion);
    assert_eq!(claims["iss"], "https://app.example.com");
    assert!(
        claims["aud"] == "app" || claims["aud"] == json!(["app"]),
        "{claims}"
    );
    assert_eq!(claims["sub"], "alice");
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!(life <= 60, "{life}");
    // It says who calls an app; it lets nobody in through the front door.
    gateway.get_as(assertion, "/x").expect(401);
    gateway.get_as(&corp_token("bob", &[]), "/x").expect(200);
    assert_eq!(
        payload(app.last().header("x-auth-assertion").unwrap())["sub"],
        "bob"
    );
}

// --- bodies

#[test]
fn a_body_of_known_length_passes_both_ways() {
    let text = long_text(1 << 20);
    let answer = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len()).as_bytes(),
        &text,
    ]
    .concat();
    let app = App::answering(answer);
    let gateway = Gateway::before(&app, OPEN);
    let response = gateway.send(&Request::post("/x", text.clone())).expect(200);
    assert!(response.body == text);
    assert_eq!(response.header("content-length"), Some("1048576"));
    assert!(app.only().body == text);
    assert_eq!(app.only().header("content-length"), Some("1048576"));
    assert_eq!(app.only().header("transfer-encoding"), None);
}

#[test]
fn a_chunked_body_passes_both_ways() {
    let text = long_text(1 << 20);
    let answer = [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
        &chunked(&text, 3001),
    ]
    .concat();
    let app = App::answering(answer);
    let gateway = Gateway::before(&app, OPEN);
    let head = "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = gateway
        .send_bytes([head.as_bytes(), &chunked(&text, 4099)].concat())
        .expect(200);
    assert!(response.body == text);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"));
    assert_eq!(response.header("content-length"), None);
    assert!(app.only().body == text);
    assert_eq!(app.only().header("transfer-encoding"), Some("chunked"));
    assert_eq!(app.only().header("content-length"), None);
}

#[test]
fn chunk_extensions_end_at_the_gateway() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let head = "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let response = gateway.send_bytes(format!("{head}5;name=value\r\nhello\r\n0\r\n\r\n"));
    if response.status == 200 {
        assert_eq!(app.only().body, b"hello");
        assert!(!app.only().text().contains("name=value"));
    } else {
        assert_eq!(response.status, 400);
    }
}

#[test]
fn a_body_that_ends_with_the_connection_passes_whole() {
    let text = long_text(100_000);
    let answer = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &text].concat();
    let app = App::with(move |exchange| {
        exchange.read_body();
        exchange.send(&answer);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    assert!(gateway.get("/x").expect(200).body == text);
}

#[test]
fn truncated_answer_of_the_app_is_truncated_for_the_client() {
    let app = App::with(|exchange| {
        exchange.read_body();
        let head = if exchange.request().target() == "/chunked" {
            "Transfer-Encoding: chunked"
        } else {
            "Content-Length: 100"
        };
        exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n"));
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    for target in ["/length", "/chunked"] {
        let mut client = gateway.connect();
        client.send(Request::get(target).bytes());
        let answer = client.try_response_to("GET");
        assert!(answer.is_err(), "{target}: {answer:?}");
    }
    let client = Http2::connect(gateway.address);
    let request = http::Request::get("http://app.test/chunked").body(()).unwrap();
    assert!(client.try_send(request, &[], None).is_err());
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let app = App::with(|exchange| {
        exchange.read_body();
        let sent = match exchange.request().target() {
            "/204" => exchange.send("HTTP/1.1 204 No Content\r\nX-Answer: 204\r\n\r\n"),
            "/304" => {
                exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5000\r\n\r\n")
            }
            "/head" => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
            _ => exchange.send(OK),
        };
        if sent { Answer::Keep } else { Answer::Close }
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    for _ in 0..3 {
        let response = Request::get("/204").over(&mut client).expect(204);
        assert_eq!(response.header("x-answer"), Some("204"));
        assert_eq!(response.header("transfer-encoding"), None);
        let response = Request::get("/304").over(&mut client).expect(304);
        assert_eq!(response.header("etag"), Some("\"x\""));
        let response = Request::new("HEAD", "/head").over(&mut client).expect(200);
        assert_eq!(response.header("content-length"), Some("5000"));
        assert_eq!(Request::get("/x").over(&mut client).expect(200).text(), "ok");
    }
    assert!(app.requests().iter().any(|seen| seen.method() == "HEAD"));
}

#[test]
fn a_refusal_of_head_has_no_body() {
    let app = App::start();
    let gateway = Gateway::before(&app, PRIVATE);
    let mut client = gateway.connect();
    client.send(Request::new("HEAD", "/x").bytes());
    client.response_to("HEAD").expect(401);
    let response = Request::get("/x")
        .bearer(&corp_token("alice", &[]))
        .over(&mut client);
    assert_eq!(response.expect(200).text(), "ok");
}

/// Every kind of answer of the gateway's own: pages, endpoints, keys, redirects, refusals, the upstream that is built in.
#[test]
fn own_answer_to_head_is_that_to_get_without_its_body() {
    let app = App::start();
    let nobody = nobody();
    let toml = format!(
        r#"
[server]
listen = "127.0.0.1:0"
public_url = "http://localhost"
[password]
registration = true
[upstreams.me]
builtin = "whoami"
[upstreams.down]
servers = [{nobody}]
[[routes]]
path = "/*"
upstream = "app"
[[routes]]
path = "/me"
auth = "none"
upstream = "me"
[[routes]]
path = "/down"
auth = "none"
upstream = "down"
[[routes]]
path = "/posted"
methods = ["POST"]
auth = "none"
upstream = "app"
[[routes]]
path = "/admin"
roles = ["admin"]
upstream = "app"
"#
    );
    let gateway = Gateway::before(&app, &toml);
    let user = format!("Bearer {}", corp_token("ann", &[]));
    let http2 = Http2::connect(gateway.address);
    let mut frames = Frames::connect(gateway.address);
    let mut kept = gateway.connect();
    let (html, json) = (("accept", "text/html"), ("accept", "application/json"));
    let known = ("authorization", user.as_str());
    let mut stream = 1;
    for (target, field, status) in [
        ("/auth/login", html, 200),
        ("/auth/register", html, 200),
        ("/auth/me", json, 401),
        ("/auth/me", known, 200),
        ("/auth/sessions", html, 302),
        ("/auth/nothing", json, 404),
        ("/auth/refresh", json, 405),
        ("/.well-known/jwks.json", json, 200),
        ("/x", html, 302),
        ("/x", json, 401),
        ("/x", ("authorization", "Bearer x"), 401),
        ("/admin", known, 403),
        ("/a%2fb", json, 400),
        ("/a%2fb", html, 400),
        ("/posted", json, 405),
        ("/down", html, 502),
        ("/down", json, 502),
        ("/me", json, 200),
        ("/me", ("accept", "*/*"), 200),
    ] {
        let ask = |method: &str| {
            Request::new(method, target)
                .host("localhost")
                .header(field.0, field.1)
        };
        let got = ask("GET").over(&mut kept);
        // What it says of the request itself is longer by the name of the method.
        let longer = usize::from(target == "/me");
        let length = (got.body.len() + longer).to_string();
        let head = ask("HEAD").over(&mut kept);
        assert_eq!((got.status, head.status), (status, status), "{target} {field:?}");
        assert_eq!(
            head.header("content-length"),
            Some(length.as_str()),
            "{target} {field:?}"
        );
        assert_eq!(got.header("content-type"), head.header("content-type"));

        let uri = format!("http://localhost{target}");
        let ask = |method: &str| {
            http::Request::builder()
                .method(method)
                .uri(&uri)
                .header(field.0, field.1)
                .body(())
                .unwrap()
        };
        let got = http2.send(ask("GET"));
        assert_eq!(
            got.headers["content-length"],
            got.body.len().to_string(),
            "{target} {field:?}"
        );
        let head = http2.send_all(vec![ask("HEAD")]).remove(0);
        assert_eq!(
            (got.status.as_u16(), head.status().as_u16()),
            (status, status),
            "{target} {field:?}"
        );
        // The version stands in what `whoami` says, and is as long in both.
        assert_eq!(
            head.headers()["content-length"],
            (got.body.len() + longer).to_string(),
            "{target} {field:?}"
        );
        assert!(
            head.body().is_end_stream(),
            "{target} {field:?}: more follows than the head"
        );

        if field.1.len() < 100 {
            frames.request(stream, "HEAD", target, &[field]);
            let answer = frames.answer(stream);
            let kinds: Vec<_> = answer.iter().map(|frame| (frame.kind, frame.ends())).collect();
            assert_eq!(kinds, [(RawFrame::HEADERS, true)], "{target} {field:?}");
            stream += 2;
        }
    }
    frames.request(stream, "GET", "/me", &[]);
    assert_eq!(
        frames.answer(stream).last().unwrap().kind,
        RawFrame::DATA,
        "the connection goes on"
    );
}

#[test]
fn malformed_head_request_gets_an_answer_without_body() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let long = "a".repeat(9000);
    for (bytes, status) in [
        ("HEAD /a#b HTTP/1.1\r\nHost: app.test\r\n\r\n".to_owned(), "400"),
        (
            "HEAD /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip\r\n\r\n".to_owned(),
            "400",
        ),
        (format!("HEAD /{long} HTTP/1.1\r\nHost: app.test\r\n\r\n"), "414"),
        (
            format!(
                "HEAD /x HTTP/1.1\r\nHost: app.test\r\nX-Long: {}\r\n\r\n",
                long.repeat(5)
            ),
            "431",
        ),
    ] {
        let mut client = gateway.connect();
        client.send(&bytes).finish_sending();
        let answer = String::from_utf8(client.rest()).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\n") && !answer.contains("content-length: 0"),
            "{answer}"
        );
    }
}

#[test]
fn expect_100_continue_gets_100_continue() {
    let app = App::start();
    let gateway = Gateway::before(&app, PRIVATE);
    let token = corp_token("alice", &[]);
    let head = |token: &str| {
        format!(
            "POST /x HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\n\
             Content-Length: 5\r\n\r\n"
        )
    };
    let mut client = gateway.connect();
    client.send(head(&token));
    assert_eq!(client.head().status, 100);
    client.send("hello");
    client.response().expect(200);
    assert_eq!(app.only().body, b"hello");

    let mut refused = gateway.connect();
    refused.send(head("rubbish"));
    assert_eq!(
        refused.head().status,
        401,
        "a refused client must not be asked for its body"
    );
    assert_eq!(app.count(), 1);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let app = App::with(|exchange| {
        if exchange.read_body() && exchange.send(OK) {
            Answer::Keep
        } else {
            Answer::Close
        }
    });
    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_body_bytes = \"1KiB\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
    gateway.send(&Request::post("/x", long_text(1024))).expect(200);
    let refused = gateway.send(&Request::post("/x", long_text(1025))).expect(413);
    assert_eq!(gateway.log_of(&refused)["reason"], "body-too-large");
    assert_eq!(
        app.count(),
        1,
        "a length that is too great is known before the app is asked"
    );
    let head = "POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = gateway.connect();
    client.send([head.as_bytes(), &chunked(&long_text(5000), 500)].concat());
    client.response().expect(413);
    assert!(client.is_closed());
    assert!(
        app.requests().iter().all(|seen| seen.body.len() <= 1024),
        "the app took the body for a whole one"
    );
}

// --- streams

#[test]
fn an_event_arrives_before_the_app_has_ended() {
    let gate = Arc::new(Gate::default());
    let shared = gate.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        exchange
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.send("d\r\ndata: first\n\n\r\n");
        shared.pass();
        exchange.send("e\r\ndata: second\n\n\r\n0\r\n\r\n");
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send(Request::get("/events").bytes());
    let head = client.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    client.read_through(b"data: first\n\n");
    gate.open();
    client.read_through(b"data: second\n\n");
    client.read_through(b"0\r\n\r\n");
}

#[test]
fn a_request_body_arrives_piece_by_piece() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let app = App::with(move |exchange| {
        let first = exchange.read_exact("5\r\nfirst\r\n".len()).unwrap();
        sender.lock().unwrap().send(first).unwrap();
        exchange.read_body();
        exchange.send(OK);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let first = receiver
        .recv_timeout(DEADLINE)
        .expect("the app got the first piece before the client sent the second");
    assert_eq!(first, b"5\r\nfirst\r\n");
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    client.response().expect(200);
    assert_eq!(app.only().body, b"second");
}

#[test]
fn trailers_of_the_app_reach_an_http_2_client() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nTrailer: grpc-status\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\ngrpc-status: 0\r\n\r\n",
    );
    let gateway = Gateway::before(&app, OPEN);
    let client = Http2::connect(gateway.address);
    let request = http::Request::get("http://app.test/x")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let response = client.send(request);
    assert_eq!(response.text(), "hello");
    assert_eq!(response.trailers.expect("trailers")["grpc-status"], "0");
}

/// An h2c app that answers with the request's `x-auth-user` and body, and a trailer.
fn http2_app() -> SocketAddr {
    http2::app(|head, body, _| {
        let header = |name: &str| {
            let value = head.headers.get(name);
            value.map_or("", |value| value.to_str().unwrap_or("?"))
        };
        let start = format!("{} {} {} ", header("x-auth-user"), head.uri, header("te"));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        ([start.as_bytes(), body].concat(), trailers)
    })
}

#[test]
fn h2c_app_gets_requests_and_returns_trailers() {
    let address = http2_app();
    let toml = format!("{CORP_ISSUER}[upstreams.app]\nservers = [\"h2c://{address}\"]\n{PRIVATE}");
    let gateway = Gateway::start(&toml);
    let token = corp_token("alice", &[]);
    let client = Http2::connect(gateway.address);
    let request = http::Request::post("http://app.test/x?q")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let response = client.try_send(request, b"hello", None).unwrap();
    assert_eq!(response.status, 200);
    assert!(response.text().starts_with("alice "), "{}", response.text());
    assert!(response.text().contains("/x?q"), "{}", response.text());
    assert!(response.text().ends_with("hello"), "{}", response.text());
    assert_eq!(response.trailers.expect("trailers")["grpc-status"], "0");
    // The same app for a client that speaks HTTP/1.1.
    let response = gateway
        .send(&Request::post("/x", "hello").bearer(&token))
        .expect(200);
    assert!(
        response.text().starts_with("alice ") && response.text().ends_with("hello"),
        "{}",
        response.text()
    );
}

#[test]
fn cookies_in_several_fields_over_http_2_arrive_as_one() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let client = Http2::connect(gateway.address);
    let request = http::Request::get("http://app.test/x")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    assert_eq!(client.send(request).status, 200);
    assert_eq!(values(&app.only().fields, "cookie").join("; "), "a=1; b=2");
    assert_eq!(app.only().header("host"), Some("app.test"));
}

#[test]
fn bodies_pass_over_http_2() {
    let text = long_text(1 << 20);
    let answer = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len()).as_bytes(),
        &text,
    ]
    .concat();
    let app = App::answering(answer);
    let gateway = Gateway::before(&app, OPEN);
    let client = Http2::connect(gateway.address);
    let request = http::Request::post("http://app.test/x").body(()).unwrap();
    let response = client.try_send(request, &text, None).unwrap();
    assert!(response.body == text);
    assert!(app.only().body == text);
}

// --- upgrades

fn handshake(target: &str) -> Request {
    Request::get(target)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

#[test]
fn a_websocket_is_opened_and_bytes_pass_both_ways_as_they_are() {
    let closed = Arc::new(AtomicBool::new(false));
    let shared = closed.clone();
    let app = App::with(move |exchange| {
        exchange.send(SWITCHING);
        while let Ok(bytes) = exchange.read_exact(5) {
            exchange.send(bytes);
        }
        shared.store(true, Ordering::SeqCst);
        Answer::Close
    });
    let gateway = Gateway::before(&app, PRIVATE);
    let mut client = gateway.connect();
    client.send(handshake("/socket").bearer(&corp_token("alice", &[])).bytes());
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(
        head.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    let seen = app.only();
    assert_eq!(seen.header("upgrade"), Some("websocket"));
    assert!(seen.header("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(seen.header("x-auth-user"), Some("alice"));
    for message in [b"hello", b"\0\xff\r\n\x81", b"world"] {
        client.send(message);
        assert_eq!(client.read_exact(5), message);
    }
    drop(client);
    eventually("the app's side is closed too", || closed.load(Ordering::SeqCst));
    let line = gateway.log_line(|line| line["path"] == "/socket");
    assert_eq!(line["status"], 101);
}

/// A page can set no other field of a handshake than the list of protocols.
#[test]
fn websocket_protocol_token_is_taken_and_its_name_returned() {
    let app = App::with(|exchange| {
        // It speaks `chat`, where that is offered.
        let speaks = exchange
            .request()
            .header("sec-websocket-protocol")
            .is_some_and(|list| list.contains("chat"));
        let chosen = if speaks {
            "Upgrade: websocket\r\nSec-WebSocket-Protocol: chat"
        } else {
            "Upgrade: websocket"
        };
        exchange.send(SWITCHING.replace("Upgrade: websocket", chosen));
        while let Ok(bytes) = exchange.read_exact(5) {
            exchange.send(bytes);
        }
        Answer::Close
    });
    let sources = "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { websocket_protocol = \"bearer\" }]\n";
    let gateway = Gateway::before(&app, &format!("{sources}{PRIVATE}"));
    let token = corp_token("alice", &[]);
    let cases: [(&[&str], Option<&str>, Option<&str>); 6] = [
        (&["bearer, TOKEN"], None, Some("bearer")),
        (&["Bearer,TOKEN"], None, Some("Bearer")),
        (&["bearer", "TOKEN"], None, Some("bearer")),
        (&["chat, bearer, TOKEN, v2"], Some("chat, v2"), Some("chat")),
        (&["v2, BEARER", "TOKEN"], Some("v2"), Some("BEARER")),
        (&["bearer", "TOKEN, chat"], Some("chat"), Some("chat")),
    ];
    for (lines, seen, chosen) in cases {
        let request = lines.iter().fold(handshake("/socket"), |request, line| {
            request.header("Sec-WebSocket-Protocol", &line.replace("TOKEN", &token))
        });
        let mut client = gateway.connect();
        client.send(request.header("Origin", "https://spa.example.com").bytes());
        let head = client.head();
        assert_eq!(
            (head.status, head.header("sec-websocket-protocol")),
            (101, chosen),
            "{lines:?}"
        );
        client.send(b"hello");
        assert_eq!(client.read_exact(5), b"hello");
        let last = app.last();
        assert_eq!(last.header("sec-websocket-protocol"), seen, "{lines:?}");
        assert_eq!(last.header("x-auth-user"), Some("alice"));
        assert!(!last.text().contains(&token), "{lines:?}");
    }
    let count = app.count();
    for (line, status) in [
        ("bearer", 401),
        ("bearer, rubbish", 401),
        ("chat", 401),
        ("bearer, a.b.c, bearer, d", 400),
    ] {
        gateway
            .send(&handshake("/socket").header("Sec-WebSocket-Protocol", line))
            .expect(status);
    }
    assert_eq!(app.count(), count);
    // A handshake that an app declines has no protocol, and one by another credential gets none.
    let mut client = gateway.connect();
    client.send(handshake("/socket").bearer(&token).bytes());
    assert_eq!(client.head().header("sec-websocket-protocol"), None);
    let told = [gateway.diagnostics().join("\n"), gateway.log_text().join("\n")].concat();
    assert!(!told.contains(&token));
}

#[test]
fn no_byte_of_the_client_reaches_the_app_before_it_has_agreed() {
    let early = Arc::new(AtomicUsize::new(usize::MAX));
    let shared = early.clone();
    let gate = Arc::new(Gate::default());
    let passing = gate.clone();
    let app = App::with(move |exchange| {
        passing.pass();
        shared.store(
            exchange.unread_after(Duration::from_millis(100)),
            Ordering::SeqCst,
        );
        exchange.send(SWITCHING);
        let bytes = exchange.read_exact(5).unwrap();
        exchange.send(bytes);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send([handshake("/socket").bytes(), b"early".to_vec()].concat());
    app.wait_for(1);
    gate.open();
    assert_eq!(client.head().status, 101);
    assert_eq!(early.load(Ordering::SeqCst), 0);
    assert_eq!(client.read_exact(5), b"early");
}

#[test]
fn an_app_may_decline_an_upgrade() {
    let app = App::answering("HTTP/1.1 403 Forbidden\r\nX-App: no\r\nContent-Length: 2\r\n\r\nno");
    let gateway = Gateway::before(&app, OPEN);
    let response = gateway.send(&handshake("/socket")).expect(403);
    assert_eq!(response.header("x-app"), Some("no"));
    assert_eq!(response.text(), "no");
}

#[test]
fn an_upgrade_without_a_credential_never_reaches_the_app() {
    let app = App::answering(SWITCHING);
    let gateway = Gateway::before(&app, PRIVATE);
    gateway.send(&handshake("/socket")).expect(401);
    assert_eq!(app.count(), 0);
}

#[test]
fn an_app_cannot_switch_protocols_unasked() {
    let app = App::with(|exchange| {
        exchange.send(SWITCHING);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    gateway.get("/x").expect(502);
}

#[test]
fn an_open_websocket_is_not_cut_by_the_response_timeout() {
    let gate = Arc::new(Gate::default());
    let shared = gate.clone();
    let app = App::with(move |exchange| {
        if exchange.request().target() == "/slow" {
            // Longer than the time limit of the upstream: the client has waited for its 504 by then.
            shared.pass();
            return Answer::Close;
        }
        exchange.send(SWITCHING);
        let bytes = exchange.read_exact(5).unwrap();
        exchange.send(bytes);
        Answer::Close
    });
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nresponse_timeout = \"200ms\"\n{OPEN}",
        app.url()
    );
    let gateway = Gateway::start(&toml);
    let mut socket = gateway.connect();
    socket.send(handshake("/socket").bytes());
    assert_eq!(socket.head().status, 101);
    gateway.get("/slow").expect(504);
    gate.open();
    socket.send("hello");
    assert_eq!(socket.read_exact(5), b"hello");
}

// --- connections

#[test]
fn connections_to_the_app_are_used_again() {
    let app = App::start();
    let gateway = Gateway::before(&app, &format!("{ONE_WORKER}{OPEN}"));
    let mut client = gateway.connect();
    for _ in 0..10 {
        Request::get("/x").over(&mut client).expect(200);
        Request::post("/x", "body").over(&mut client).expect(200);
    }
    assert_eq!(app.count(), 20);
    assert_eq!(app.connections(), 1);
    // Another client's requests travel over the same one.
    gateway.get("/x").expect(200);
    assert_eq!(app.connections(), 1);
}

#[test]
fn connections_to_clients_are_kept_and_http_1_0_is_not() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send("GET /x HTTP/1.0\r\nHost: app.test\r\n\r\n");
    assert_eq!(client.response().expect(200).text(), "ok");
    assert!(client.is_closed());
    let mut client = gateway.connect();
    Request::get("/x")
        .header("Connection", "close")
        .over(&mut client)
        .expect(200);
    assert!(client.is_closed());
}

#[test]
fn a_pooled_connection_that_the_app_has_closed_is_noticed() {
    let app = App::with(|exchange| {
        exchange.read_body();
        exchange.send(OK);
        Answer::Close
    });
    let gateway = Gateway::before(&app, &format!("{ONE_WORKER}{OPEN}"));
    let mut client = gateway.connect();
    for number in 1..=20 {
        let request = if number % 2 == 0 {
            Request::post("/x", "body")
        } else {
            Request::get("/x")
        };
        assert_eq!(request.over(&mut client).expect(200).text(), "ok");
        // The next one comes when the app has closed for certain.
        eventually("the app has closed its side", || app.open_connections() == 0);
    }
    assert_eq!(app.count(), 20, "each request reached the app once");
}

#[test]
fn a_request_that_the_app_may_have_taken_is_never_sent_twice() {
    // The first request is answered; the second is read and then the connection ends without an answer.
    let app = App::with(|exchange| {
        exchange.read_body();
        if exchange.request().target() == "/first" && exchange.send(OK) {
            Answer::Keep
        } else {
            Answer::Close
        }
    });
    let gateway = Gateway::before(&app, &format!("{ONE_WORKER}{OPEN}"));
    gateway.get("/first").expect(200);
    let refused = gateway.send(&Request::post("/second", "body")).expect(502);
    assert_eq!(gateway.log_of(&refused)["reason"], "upstream-closed");
    let posts = app
        .requests()
        .iter()
        .filter(|seen| seen.target() == "/second")
        .count();
    assert_eq!(posts, 1);
}

#[test]
fn disconnected_client_ends_its_request() {
    let gone = Arc::new(AtomicBool::new(false));
    let shared = gone.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        shared.store(exchange.wait_until_closed(), Ordering::SeqCst);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send(Request::get("/x").bytes());
    app.wait_for(1);
    drop(client);
    eventually("the app's connection is closed", || gone.load(Ordering::SeqCst));
}

#[test]
fn disconnected_client_ends_the_stream_of_the_app() {
    let gone = Arc::new(AtomicBool::new(false));
    let shared = gone.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        shared.store(exchange.wait_until_closed(), Ordering::SeqCst);
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    let mut client = gateway.connect();
    client.send(Request::get("/x").bytes());
    client.read_through(b"hello");
    drop(client);
    eventually("the app's connection is closed", || gone.load(Ordering::SeqCst));
}

#[test]
fn requests_are_balanced_and_skip_a_server_that_is_down() {
    let (first, second) = (App::start(), App::start());
    let servers = format!("servers = [{}, {}]", first.url(), second.url());
    let gateway = Gateway::start(&format!("[upstreams.app]\n{servers}\n{OPEN}"));
    for _ in 0..40 {
        gateway.get("/x").expect(200);
    }
    assert_eq!(first.count() + second.count(), 40);
    assert!(
        first.count() > 0 && second.count() > 0,
        "{} and {}",
        first.count(),
        second.count()
    );

    let alive = App::start();
    let servers = format!("servers = [{}, {}]", alive.url(), nobody());
    let gateway = Gateway::start(&format!("[upstreams.app]\n{servers}\n{OPEN}"));
    for _ in 0..10 {
        gateway.get("/x").expect(200);
    }
    assert_eq!(alive.count(), 10);
}

/// A `servers` entry without a listener.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("\"http://{}\"", listener.local_addr().unwrap())
}

#[test]
fn a_server_whose_health_check_fails_gets_no_requests() {
    let sick = App::with(|exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        Answer::Keep
    });
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nhealth_check = {{ path = \"/healthz\", interval = \"100ms\" }}\n{OPEN}",
        sick.url()
    );
    let gateway = Gateway::start(&toml);
    eventually("the server is seen to be sick", || {
        gateway.get("/x").status == 502
    });
    let refused = gateway.get("/x").expect(502);
    assert_eq!(gateway.log_of(&refused)["reason"], "upstream-down");
    assert!(sick.requests().iter().any(|seen| seen.target() == "/healthz"));
}

// --- time limits and failures

#[test]
fn an_app_that_is_down_is_a_bad_gateway() {
    let gateway = Gateway::start(&format!("[upstreams.app]\nservers = [{}]\n{OPEN}", nobody()));
    let refused = gateway.get("/x").expect(502);
    assert!(
        refused
            .header("content-type")
            .unwrap()
            .starts_with("application/problem+json")
    );
    assert_eq!(refused.json()["message"], "Bad gateway");
    assert!(!refused.text().contains("127.0.0.1"), "{}", refused.text());
    assert_eq!(gateway.log_of(&refused)["reason"], "upstream-unreachable");
}

#[test]
fn an_app_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let gate = Arc::new(Gate::default());
    let shared = gate.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        shared.pass();
        Answer::Close
    });
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nresponse_timeout = \"200ms\"\n{OPEN}",
        app.url()
    );
    let gateway = Gateway::start(&toml);
    let refused = gateway.get("/x").expect(504);
    assert_eq!(gateway.log_of(&refused)["reason"], "upstream-timeout");
    gateway.send(&Request::post("/x", "body")).expect(504);
    assert_eq!(app.count(), 2, "a request that timed out is not sent again");
    gate.open();
}

#[test]
fn the_response_timeout_ends_with_the_head() {
    let gate = Arc::new(Gate::default());
    let shared = gate.clone();
    let app = App::with(move |exchange| {
        exchange.read_body();
        if exchange.request().target() == "/slow" {
            exchange.wait_until_closed();
            return Answer::Close;
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        shared.pass();
        exchange.send("-half");
        Answer::Close
    });
    let toml = format!(
        "[upstreams.app]\nservers = [{}]\nresponse_timeout = \"200ms\"\n{OPEN}",
        app.url()
    );
    let gateway = Gateway::start(&toml);
    let mut client = gateway.connect();
    client.send(Request::get("/stream").bytes());
    client.read_through(b"first");
    // By the time this one is answered, the limit has passed for the first one as well.
    gateway.get("/slow").expect(504);
    gate.open();
    assert_eq!(client.read_exact(5), b"-half");
}

#[test]
fn an_app_that_does_not_accept_in_time_is_a_gateway_timeout() {
    // A listener whose queue is full does not answer a further connection.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let toml =
        format!("[upstreams.app]\nservers = [\"http://{address}\"]\nconnect_timeout = \"200ms\"\n{OPEN}");
    let gateway = Gateway::start(&toml);
    let refused = gateway.get("/x").expect(504);
    assert_eq!(gateway.log_of(&refused)["reason"], "upstream-connect-timeout");
}

// --- unix sockets and TLS

#[test]
fn an_app_on_a_unix_socket_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let app = App::with_unix(&path, |exchange| {
        if exchange.read_body() && exchange.send(OK) {
            Answer::Keep
        } else {
            Answer::Close
        }
    });
    let toml = format!("[upstreams.app]\nservers = [\"unix:{}\"]\n{OPEN}", path.display());
    let gateway = Gateway::start(&toml);
    gateway.get("/x").expect(200);
    assert_eq!(app.only().header("host"), Some("app.test"));
}

#[test]
fn the_gateway_listens_on_a_unix_socket() {
    let app = App::start();
    let server = "[server]\nlisten = [\"127.0.0.1:0\", \"unix:gateway.sock\"]\n";
    let mut gateway = Gateway::before(&app, &format!("{server}{OPEN}"));
    eventually("both places are announced", || gateway.listening().len() == 2);
    let path = gateway.setup.path("gateway.sock");
    assert!(
        gateway
            .listening()
            .iter()
            .any(|place| place.starts_with("unix:") && place.ends_with("gateway.sock"))
    );
    let response = Request::get("/x").over(&mut Client::connect_unix(&path));
    response.expect(200);
    assert_eq!(app.only().header("host"), Some("app.test"));
    gateway.get("/x").expect(200);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn unix_socket_of_a_killed_gateway_is_taken_over() {
    let app = App::start();
    let server = "[server]\nlisten = [\"127.0.0.1:0\", \"unix:gateway.sock\"]\n";
    let setup = Setup::new(&before(&app, &format!("{server}{OPEN}")));
    drop(std::os::unix::net::UnixListener::bind(setup.path("gateway.sock")).unwrap());
    let gateway = setup.start();
    Request::get("/x")
        .over(&mut Client::connect_unix(&gateway.setup.path("gateway.sock")))
        .expect(200);
}

/// A gateway with TLS for `a.test` and, as a further certificate, `b.test`.
fn with_tls(app: &App, first: &Certificate, second: &Certificate) -> Gateway {
    let tls = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://a.test\"\n\
               [server.tls]\ncertificate = \"a.pem\"\nprivate_key = \"a.key\"\n\
               more = [{ certificate = \"b.pem\", private_key = \"b.key\" }]\n";
    let setup = Setup::new(&before(app, &format!("{tls}{PRIVATE}")));
    setup
        .write("a.pem", &first.chain_pem)
        .write("a.key", &first.key_pem);
    setup
        .write("b.pem", &second.chain_pem)
        .write("b.key", &second.key_pem);
    setup.start()
}

#[test]
fn tls_offers_both_protocols_and_a_certificate_by_name() {
    let app = App::start();
    let (first, second) = (
        Certificate::for_names(&["a.test"]),
        Certificate::for_names(&["b.test"]),
    );
    let gateway = with_tls(&app, &first, &second);
    assert!(
        gateway.listening()[0].starts_with("https://"),
        "{:?}",
        gateway.listening()
    );
    let token = corp_token("alice", &[]);
    for (certificate, name) in [(&first, "a.test"), (&second, "b.test")] {
        // Each client trusts one certificate, so that the handshake shows which one was chosen.
        let plain = tls::client_config(&[certificate], &[]);
        let mut client = tls::client(&plain, gateway.address, name);
        Request::get("/x")
            .host(name)
            .bearer(&token)
            .over(&mut client)
            .expect(200);
        assert_eq!(app.last().header("x-forwarded-proto"), Some("https"));
        assert_eq!(app.last().header("x-forwarded-host"), Some(name));
        let http1 = tls::client_config(&[certificate], &["http/1.1"]);
        let stream = tls::connect(&http1, gateway.address, name).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        Request::get("/x")
            .host(name)
            .bearer(&token)
            .over(&mut Client::over(Box::new(stream)))
            .expect(200);
        let http2 = tls::client_config(&[certificate], &["h2", "http/1.1"]);
        let client = Http2::connect_tls(&http2, gateway.address, name);
        assert_eq!(client.get(&format!("https://{name}/x"), Some(&token)).status, 200);
        assert_eq!(client.get(&format!("https://{name}/x"), None).status, 401);
    }
}

#[test]
fn a_connection_made_for_one_host_serves_no_other() {
    let app = App::start();
    let (first, second) = (
        Certificate::for_names(&["a.test"]),
        Certificate::for_names(&["b.test"]),
    );
    let gateway = with_tls(&app, &first, &second);
    let token = corp_token("alice", &[]);
    let config = tls::client_config(&[&first], &[]);
    let mut client = tls::client(&config, gateway.address, "a.test");
    Request::get("/x")
        .host("b.test")
        .bearer(&token)
        .over(&mut client)
        .expect(421);
    let mut client = tls::client(&config, gateway.address, "a.test");
    Request::get("/x")
        .host("A.TEST:443")
        .bearer(&token)
        .over(&mut client)
        .expect(200);
    let http2 = tls::client_config(&[&first], &["h2"]);
    let client = Http2::connect_tls(&http2, gateway.address, "a.test");
    assert_eq!(client.get("https://b.test/x", Some(&token)).status, 421);
    assert_eq!(client.get("https://a.test/x", Some(&token)).status, 200);
    assert_eq!(app.count(), 2);
}

#[test]
fn cleartext_on_a_tls_port_is_no_request() {
    let app = App::start();
    let (first, second) = (
        Certificate::for_names(&["a.test"]),
        Certificate::for_names(&["b.test"]),
    );
    let gateway = with_tls(&app, &first, &second);
    let mut client = gateway.connect();
    client.send(Request::get("/x").bearer(&corp_token("alice", &[])).bytes());
    assert!(client.is_closed());
    assert_eq!(app.count(), 0);
}

#[test]
fn an_app_behind_tls_is_verified() {
    let certificate = Certificate::for_names(&["localhost"]);
    let stranger = Certificate::for_names(&["localhost"]);
    let elsewhere = Certificate::for_names(&["elsewhere.test"]);
    for (served, trusted, status) in [
        (&certificate, &certificate, 200),
        (&certificate, &stranger, 502),
        (&elsewhere, &elsewhere, 502),
    ] {
        let app = App::with_tls(served, |exchange| {
            if exchange.read_body() && exchange.send(OK) {
                Answer::Keep
            } else {
                Answer::Close
            }
        });
        let port = app.address.port();
        let toml = format!(
            "[upstreams.app]\nservers = [\"https://localhost:{port}\"]\nca_file = \"ca.pem\"\n{OPEN}"
        );
        let setup = Setup::new(&toml);
        setup.write("ca.pem", &trusted.chain_pem);
        let gateway = setup.start();
        let response = gateway.get("/x");
        assert_eq!(response.status, status);
        assert_eq!(app.count(), usize::from(status == 200));
        if status == 502 {
            assert_eq!(gateway.log_of(&response)["reason"], "upstream-tls");
        }
    }
}

#[test]
fn a_certificate_that_is_replaced_is_served_without_a_restart() {
    let app = App::start();
    let (first, second) = (
        Certificate::for_names(&["a.test"]),
        Certificate::for_names(&["b.test"]),
    );
    let gateway = with_tls(&app, &first, &second);
    let renewed = Certificate::for_names(&["a.test"]);
    gateway
        .setup
        .write("a.key", &renewed.key_pem)
        .write("a.pem", &renewed.chain_pem);
    let config = tls::client_config(&[&renewed], &[]);
    eventually("the new certificate is served", || {
        tls::connect(&config, gateway.address, "a.test").is_ok()
    });
}

// --- whoami

#[test]
fn whoami_shows_the_request_as_it_arrived() {
    let toml = format!("{CORP_ISSUER}[upstreams.app]\nbuiltin = \"whoami\"\n{PRIVATE}");
    let gateway = Gateway::start(&toml);
    let token = corp_token("alice", &["admin"]);
    let response = gateway
        .send(&Request::get("/some/path?q=1").bearer(&token))
        .expect(200);
    let text = response.text().to_ascii_lowercase();
    for part in [
        "/some/path?q=1",
        "x-auth-user",
        "alice",
        "x-auth-roles",
        "admin",
        "x-auth-issuer",
        "corp",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!response.text().contains(&token));
    gateway.get("/x").expect(401);
}

#[test]
fn write_to_a_closed_connection_affects_no_other_request() {
    let app = App::start();
    let gateway = Gateway::before(&app, OPEN);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(&Request::get("/x").bytes()).unwrap();
        drop(stream);
    }
    gateway.get("/x").expect(200);
}
