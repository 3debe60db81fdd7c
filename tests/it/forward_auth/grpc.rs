//! Envoy asks by gRPC. The messages are written and read here byte by byte, with the field numbers of Envoy's `.proto` files.

use http::Request as HttpRequest;

use super::super::support::eventually;
use super::super::support::http2::{Http2, Http2Response};
use super::*;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// A field of a message, or a text.
fn field(tag: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [
        varint(tag << 3 | 2),
        varint(content.len() as u64),
        content.to_vec(),
    ]
    .concat()
}

/// The fields of a message: numbers as their value, the others as bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    fn number(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let value = number(&mut bytes);
        let mut content: &[u8] = &[];
        if key & 7 == 2 {
            let length = usize::try_from(value).unwrap();
            (content, bytes) = bytes.split_at(length);
        } else {
            assert_eq!(key & 7, 0, "a number or bytes");
        }
        all.push((key >> 3, value, content));
    }
    all
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn under(message: &[u8], tag: u64) -> Vec<&[u8]> {
    let all = fields(message).into_iter();
    all.filter(|(found, ..)| *found == tag)
        .map(|(.., content)| content)
        .collect()
}

/// A `CheckRequest`.
fn question(method: &str, host: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut http = [field(2, method), field(4, path), field(5, host)].concat();
    for (name, value) in headers {
        http.extend(field(3, [field(1, name), field(2, value)].concat()));
    }
    of_http(&http, "203.0.113.9")
}

fn of_http(http: &[u8], source: &str) -> Vec<u8> {
    let source = field(1, field(1, field(1, field(2, source))));
    field(1, [source, field(4, field(2, http))].concat())
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

fn send(gateway: &Gateway, body: &[u8]) -> Http2Response {
    let request = HttpRequest::post(format!("http://passgate.internal{CHECK}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    Http2::connect(gateway.address)
        .try_send(request, body, None)
        .unwrap()
}

#[derive(Debug)]
struct Checked {
    code: u64,
    status: u64,
    set: Vec<(String, String)>,
    removed: Vec<String>,
    to_client: Vec<(String, String)>,
    parameters: Vec<String>,
    body: String,
}

impl Checked {
    fn value(&self, name: &str) -> Option<&str> {
        let mut found = self.set.iter().filter(|(set, _)| set == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

fn options(message: &[u8], tag: u64) -> Vec<(String, String)> {
    under(message, tag)
        .into_iter()
        .map(|option| {
            let header = under(option, 1)[0];
            let part = |tag| {
                under(header, tag)
                    .first()
                    .map(|bytes| text(bytes))
                    .unwrap_or_default()
            };
            let action = fields(option)
                .iter()
                .find(|(tag, ..)| *tag == 3)
                .map_or(0, |(_, value, _)| *value);
            assert_eq!(
                action,
                if part(1) == "set-cookie" { 0 } else { 2 },
                "append or overwrite"
            );
            (part(1), part(2))
        })
        .collect()
}

/// The answer to a call that could be read.
#[track_caller]
fn check(gateway: &Gateway, message: &[u8]) -> Checked {
    let answer = send(gateway, &frame(message));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/grpc");
    assert_eq!(
        answer.trailers.as_ref().unwrap()["grpc-status"],
        "0",
        "{answer:?}"
    );
    let (prefix, message) = answer.body.split_at(5);
    assert_eq!(
        prefix,
        [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..]].concat()
    );
    let number = |message: &[u8], tag| {
        fields(message)
            .iter()
            .find(|(found, ..)| *found == tag)
            .map_or(0, |found| found.1)
    };
    let code = number(under(message, 1)[0], 1);
    if let Some(ok) = under(message, 3).first() {
        return Checked {
            code,
            status: 200,
            set: options(ok, 2),
            removed: under(ok, 5).into_iter().map(text).collect(),
            to_client: options(ok, 6),
            parameters: under(ok, 8).into_iter().map(text).collect(),
            body: String::new(),
        };
    }
    let denied = under(message, 2)[0];
    Checked {
        code,
        status: number(under(denied, 1)[0], 1),
        set: options(denied, 2),
        removed: Vec::new(),
        to_client: Vec::new(),
        parameters: Vec::new(),
        body: under(denied, 3)
            .first()
            .map(|bytes| text(bytes))
            .unwrap_or_default(),
    }
}

fn gateway() -> Gateway {
    setup("[forward_auth]\ngrpc = true\n[identity]\nassertion = true\n").start()
}

#[test]
fn request_with_token_passes_with_identity_and_without_what_the_client_forged() {
    let gateway = gateway();
    let bearer = format!("Bearer {}", corp_token("alice", &["admin"]));
    let headers = [
        (":authority", "evil.example"),
        (":path", "/public/x"),
        ("authorization", &*bearer),
        ("x-auth-user", "mallory"),
        ("x_auth_roles", "admin"),
        ("x-auth-email", "mallory@example.com"),
        ("remote-user", "mallory"),
        ("x-forwarded-for", "198.51.100.7"),
        ("x-other", "kept"),
    ];
    let checked = check(
        &gateway,
        &question("GET", "localhost", "/admin/a?b=%20c", &headers),
    );
    assert_eq!((checked.code, checked.status), (0, 200), "{checked:?}");
    assert_eq!(checked.value("x-auth-user"), Some("alice"));
    assert_eq!(checked.value("x-auth-roles"), Some("admin"));
    assert!(checked.value("x-auth-assertion").unwrap().split('.').count() == 3);
    for name in ["authorization", "x_auth_roles", "x-auth-email", "remote-user"] {
        assert!(checked.removed.contains(&name.to_owned()), "{name}: {checked:?}");
    }
    // What is removed after it was set would be gone.
    assert!(
        checked
            .set
            .iter()
            .all(|(name, _)| !checked.removed.contains(name))
    );
    for name in ["x-other", "x-forwarded-for", "cache-control", "x-request-id"] {
        assert!(
            !checked.removed.contains(&name.to_owned()) && checked.value(name).is_none(),
            "{name}"
        );
    }
    let line = gateway.log_line(|line| line["path"] == "/admin/a");
    assert_eq!(
        (&line["method"], &line["host"]),
        (&"GET".into(), &"localhost".into())
    );
    assert_eq!(
        (&line["subject"], &line["forward_auth"]),
        (&"alice".into(), &true.into())
    );
    assert_eq!(
        (&line["status"], &line["client"]),
        (&200.into(), &"203.0.113.9".into())
    );
}

#[test]
fn anonymous_request_on_an_optional_route_loses_every_identity_header() {
    let gateway = gateway();
    let headers = [
        ("x-auth-user", "mallory"),
        ("X_Auth_User", "mallory"),
        ("cookie", "a=1"),
    ];
    let checked = check(&gateway, &question("GET", "localhost", "/maybe/a", &headers));
    assert_eq!((checked.code, checked.set.len()), (0, 0), "{checked:?}");
    for name in [
        "x-auth-user",
        "x_auth_user",
        "x-auth-roles",
        "x-auth-assertion",
        "x-auth-access-token",
    ] {
        assert!(checked.removed.contains(&name.to_owned()), "{name}: {checked:?}");
    }
    // The same fields as raw lines, which Envoy sends with `encode_raw_headers`.
    let line = |name: &str, value: &str| field(1, [field(1, name), field(3, value)].concat());
    let lines = [line("x-auth-user", "mallory"), line("x.auth.user", "mallory")].concat();
    let http = [
        field(2, "GET"),
        field(4, "/maybe/a"),
        field(5, "localhost"),
        field(13, lines),
    ]
    .concat();
    let checked = check(&gateway, &of_http(&http, "203.0.113.9"));
    assert!(checked.removed.contains(&"x.auth.user".to_owned()), "{checked:?}");
}

#[test]
fn refusals_are_those_of_http_in_a_message() {
    let gateway = gateway();
    let user = format!("Bearer {}", corp_token("alice", &["user"]));
    let two = format!("{user},{user}");
    for (method, path, headers, status, code) in [
        ("GET", "/a", vec![], 401, 16),
        ("GET", "/admin/a", vec![("authorization", &*user)], 403, 7),
        ("GET", "/a", vec![("authorization", "Bearer bad")], 401, 16),
        // Two lines, as Envoy joins them.
        ("GET", "/a", vec![("authorization", &*two)], 401, 16),
        (
            "GET",
            "/a",
            vec![("authorization", &*user), ("Authorization", &*user)],
            400,
            7,
        ),
        ("POST", "/read/a", vec![("authorization", &*user)], 405, 7),
        (
            "GET",
            "/public/../admin/a",
            vec![("authorization", &*user)],
            400,
            7,
        ),
        ("GET", "/public/%2e%2e/admin/a", vec![], 400, 7),
        ("GET", "//admin/a", vec![], 400, 7),
        ("GET", "/auth/verify", vec![], 508, 7),
        ("GET", CHECK, vec![], 405, 7),
        ("POST", CHECK, vec![], 508, 7),
        ("GET", "", vec![], 400, 7),
        ("", "/public/a", vec![], 400, 7),
        ("GET", "/public/a#b", vec![], 400, 7),
        ("GET", "http://evil.example/public/a", vec![], 400, 7),
        ("G T", "/public/a", vec![], 400, 7),
        ("GET", "/public/a", vec![("bad name", "x")], 400, 7),
        ("GET", "/public/a", vec![("x", "a\r\nb: c")], 400, 7),
    ] {
        let checked = check(&gateway, &question(method, "localhost", path, &headers));
        assert_eq!(
            (checked.status, checked.code),
            (status, code),
            "{method} {path} {headers:?} {checked:?}"
        );
        if status == 401 {
            assert!(checked.value("www-authenticate").is_some(), "{checked:?}");
        }
        assert!(checked.value("x-auth-user").is_none() && !checked.body.is_empty());
    }
    let checked = check(&gateway, &question("GET", "", "/public/a", &[]));
    assert_eq!(checked.status, 400, "no host");
    let checked = check(&gateway, &[]);
    assert_eq!(checked.status, 400, "no attributes");
    let fragment = [
        field(2, "GET"),
        field(4, "/public/a"),
        field(5, "localhost"),
        field(8, "x"),
    ]
    .concat();
    assert_eq!(check(&gateway, &of_http(&fragment, "203.0.113.9")).status, 400);
    let source = [field(2, "GET"), field(4, "/public/a"), field(5, "localhost")].concat();
    assert_eq!(check(&gateway, &of_http(&source, "not an address")).status, 400);
}

#[test]
fn browser_is_sent_to_sign_in_and_its_session_is_not_for_the_app() {
    let gateway = gateway();
    gateway.setup.add_account("ann@example.com", &["user"]);
    let browser = [
        ("accept", "text/html"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    let checked = check(&gateway, &question("GET", "localhost", "/x?y=1", &browser));
    assert_eq!(checked.status, 302);
    assert_eq!(
        checked.value("location"),
        Some("http://localhost/auth/login?return_to=http%3A//localhost/x%3Fy%3D1")
    );
    let cookie = gateway.sign_in("ann@example.com");
    let cookies = format!("a=1; {cookie}; b=2");
    let mut headers = browser.to_vec();
    headers.push(("cookie", &cookies));
    let checked = check(&gateway, &question("GET", "localhost", "/x?y=1", &headers));
    assert_eq!(checked.status, 200, "{checked:?}");
    assert_eq!(checked.value("cookie"), Some("a=1; b=2"));
    assert_eq!(checked.value("x-auth-email"), Some("ann@example.com"));
    let checked = check(
        &gateway,
        &question("GET", "localhost", "/x", &[("cookie", &cookie)]),
    );
    assert!(checked.removed.contains(&"cookie".to_owned()), "{checked:?}");
    // Of another site.
    let forged = [("cookie", &*cookie), ("origin", "https://evil.example")];
    assert_eq!(
        check(&gateway, &question("POST", "localhost", "/x", &forged)).status,
        403
    );
}

#[test]
fn renewed_session_is_for_the_client() {
    let gateway = setup("[forward_auth]\ngrpc = true\n[session]\ntoken_lifetime = \"1s\"\n").start();
    gateway.setup.add_account("ann@example.com", &["user"]);
    let cookie = gateway.sign_in("ann@example.com");
    let message = question("GET", "localhost", "/x", &[("cookie", &cookie)]);
    eventually("the token has expired, and the session is renewed", || {
        let checked = check(&gateway, &message);
        assert_eq!(checked.status, 200, "{checked:?}");
        checked
            .to_client
            .iter()
            .any(|(name, value)| name == "set-cookie" && value.starts_with("passgate-session="))
    });
}

#[test]
fn token_in_the_query_is_taken_away() {
    let gateway =
        setup("[forward_auth]\ngrpc = true\n[credentials]\nsources = [{ query = \"access_token\" }]\n")
            .start();
    let path = format!("/a?x=1&access_token={}&y=2", corp_token("alice", &[]));
    let checked = check(&gateway, &question("GET", "localhost", &path, &[]));
    assert_eq!(
        (checked.status, checked.parameters),
        (200, vec!["access_token".to_owned()])
    );
}

#[test]
fn client_is_the_last_hop_that_is_no_proxy() {
    let gateway = gateway();
    for (source, forwarded, client) in [
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("127.0.0.1", "192.0.2.1, 198.51.100.7", "198.51.100.7"),
    ] {
        let path = format!("/public/{}", client.replace('.', "-"));
        let http = [
            field(2, "GET"),
            field(4, &path),
            field(5, "localhost"),
            field(3, [field(1, "x-forwarded-for"), field(2, forwarded)].concat()),
        ];
        assert_eq!(check(&gateway, &of_http(&http.concat(), source)).status, 200);
        gateway.log_line(|line| line["path"] == path.as_str() && line["client"] == client);
    }
}

#[test]
fn call_that_cannot_be_read_leads_to_no_decision() {
    let gateway = gateway();
    let good = question("GET", "localhost", "/public/a", &[]);
    let compressed = [&[1], &frame(&good)[1..]].concat();
    let cut = frame(&good)[..20].to_vec();
    let two = [frame(&good), frame(&good)].concat();
    let long = frame(&question(
        "GET",
        "localhost",
        "/public/a",
        &[("x", &"y".repeat(70_000))],
    ));
    for (body, status) in [
        (compressed, "12"),
        (cut, "3"),
        (two, "3"),
        (long, "3"),
        (vec![0], "3"),
        (frame(b"\x0a\xff\xff\xff\xff\x0f"), "3"),
        (frame(b"not a message"), "3"),
    ] {
        let answer = send(&gateway, &body);
        assert_eq!(
            (answer.status.as_u16(), answer.body.len()),
            (200, 0),
            "{answer:?}"
        );
        assert_eq!(answer.trailers.unwrap()["grpc-status"], status);
    }
}

#[test]
fn other_peers_and_other_protocols_get_no_answer() {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n[forward_auth]\ngrpc = true\n";
    let stranger = Setup::new(&before(&App::start(), &format!("{server}{ROUTES}"))).start();
    let message = frame(&question("GET", "localhost", "/public/a", &[]));
    assert_eq!(send(&stranger, &message).status, 403);
    stranger.diagnostic("a peer that is not in `trusted_proxies` asked");
    let gateway = gateway();
    Request::post(CHECK, message.clone())
        .host("localhost")
        .header("Content-Type", "application/grpc")
        .send_to(gateway.address)
        .expect(415);
    let json = HttpRequest::post(format!("http://localhost{CHECK}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap();
    let answer = Http2::connect(gateway.address)
        .try_send(json, b"{}", None)
        .unwrap();
    assert_eq!(answer.status, 415);
}

#[test]
fn without_the_key_the_path_is_as_any_other() {
    let gateway = setup("").start();
    let message = frame(&question("GET", "localhost", "/public/a", &[]));
    let answer = send(&gateway, &message);
    // `/*` is served by another proxy.
    assert_eq!((answer.status.as_u16(), answer.trailers), (404, None));
}

#[test]
fn route_for_the_path_of_the_service_is_an_error_while_it_is_on() {
    let route = format!("\n[[routes]]\npath = \"{CHECK}\"\nupstream = \"elsewhere\"\n");
    let on = setup(&format!("[forward_auth]\ngrpc = true\n{route}"));
    let said = on.command(["check"]).expect(2).stderr;
    assert!(
        said.contains("is where the gateway itself answers") && said.contains("`grpc = false`"),
        "{said}"
    );
    setup(&route).command(["check"]).expect(0);
}
