#![allow(clippy::unwrap_used)]
use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Version};

use super::*;

struct Told;

impl Report for Told {
    fn health(&self) -> Result<(), Vec<String>> {
        Err(vec!["worker 1 has not turned for 5 seconds".to_owned()])
    }

    fn is_named(&self, name: &str) -> bool {
        name == "gate.example.com"
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn metrics(&self) -> (&'static str, String) {
        ("text/plain", String::new())
    }

    fn has_token(&self) -> bool {
        true
    }

    fn try_token(&self, client: IpAddr, token: &[u8]) -> Tried {
        match token {
            _ if client.to_string() == "192.0.2.9" => Tried::TooMany,
            b"0123456789abcdef" => Tried::Right,
            _ => Tried::Wrong,
        }
    }

    fn overview(&self, sees_decisions: bool, is_live: bool) -> Response<Bytes> {
        plain(StatusCode::OK, format!("{sees_decisions} {is_live}"))
    }

    fn decision(&self, request_id: &str) -> Option<String> {
        Some(request_id.to_owned())
    }

    fn decision_page(&self, request_id: &str) -> Response<Bytes> {
        plain(StatusCode::OK, format!("page {request_id}"))
    }

    fn decisions(&self) -> String {
        "all".to_owned()
    }
}

#[test]
fn a_port_answers_to_addresses_and_to_its_own_names_and_to_no_other() {
    let asked = |version, target: &str, hosts: &[&str]| {
        let mut request = Request::get(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        let client = Client::Network([192, 0, 2, 1].into());
        refuse_host(&Told, client, &request).map_or(0, |answer| answer.status().as_u16())
    };
    let taken = [
        "127.0.0.1",
        "127.0.0.1:8081",
        "[::1]",
        "[::1]:8081",
        "10.1.2.3:1",
        "localhost",
        "LOCALHOST:8081",
        "localhost.",
        "gate.example.com",
        "Gate.Example.com.:9",
    ];
    for host in taken {
        assert_eq!(asked(Version::HTTP_11, "/health", &[host]), 0, "{host}");
    }
    let refused = [
        "evil.example",
        "localhost.evil.example",
        "xlocalhost",
        "gate.example.com.evil.example",
        "127.0.0.1.evil.example",
        "a@127.0.0.1",
        "127.0.0.1:x",
        "0x7f.1",
        "",
        "[::1",
        "x.localhost",
        "::1",
    ];
    for host in refused {
        assert_eq!(asked(Version::HTTP_11, "/health", &[host]), 421, "{host}");
        assert_eq!(asked(Version::HTTP_10, "/health", &[host]), 421, "{host}");
    }
    assert_eq!(
        asked(Version::HTTP_11, "http://evil.example/health", &["localhost"]),
        421,
        "the target counts too"
    );
    assert_eq!(
        asked(Version::HTTP_11, "http://localhost/health", &["evil.example"]),
        421
    );
    assert_eq!(
        asked(Version::HTTP_11, "http://localhost/health", &["localhost"]),
        0
    );
    assert_eq!(asked(Version::HTTP_11, "/health", &[]), 400);
    assert_eq!(
        asked(Version::HTTP_10, "/health", &[]),
        0,
        "a probe of the oldest kind"
    );
    assert_eq!(
        asked(Version::HTTP_11, "/health", &["localhost", "evil.example"]),
        400
    );
    let odd = Request::get("/health")
        .header(HOST, "evil.example")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    assert!(
        refuse_host(&Told, Client::File, &odd).is_none(),
        "no browser opens a unix socket"
    );
}

#[test]
fn health_is_503_with_its_reasons() {
    let answer = answer(&Told, "/health");
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        &answer.body()[..],
        b"not healthy\nworker 1 has not turned for 5 seconds\n"
    );
}

fn asked(client: Client, path: &str, fields: &[(&'static str, &str)]) -> (u16, String) {
    let mut request = Request::get(path).header(HOST, "localhost");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let answer = respond(&Told, client, &parts);
    let body = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), body)
}

#[test]
fn decisions_are_for_this_machine_without_a_proxy_and_for_the_token() {
    let here = [
        Client::File,
        network("127.0.0.1"),
        network("::1"),
        network("::ffff:127.0.0.2"),
    ];
    for client in here {
        assert_eq!(
            asked(client, "/decisions", &[]),
            (200, "all".to_owned()),
            "{client:?}"
        );
        assert_eq!(asked(client, "/", &[]).1, "true true");
        assert_eq!(asked(client, "/?refresh=off", &[]).1, "true false");
        for field in [
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "via",
            "x-real-ip",
            "x-original-url",
        ] {
            assert_eq!(
                asked(client, "/decisions", &[(field, "192.0.2.1")]).0,
                401,
                "{client:?} {field}"
            );
            assert_eq!(asked(client, "/", &[(field, "192.0.2.1")]).1, "false true");
        }
        // Sent, and wrong: it does not count as none.
        assert_eq!(
            asked(client, "/decisions", &[("authorization", "Bearer x")]).0,
            401
        );
    }
    let right = ("authorization", "Bearer 0123456789abcdef");
    for client in [network("192.0.2.1"), network("2001:db8::1"), network("10.0.0.1")] {
        assert_eq!(asked(client, "/decisions", &[]).0, 401, "{client:?}");
        assert_eq!(asked(client, "/decisions/a", &[]).0, 401, "{client:?}");
        assert_eq!(asked(client, "/", &[]), (200, "false true".to_owned()));
        assert_eq!(asked(client, "/decisions", &[right]).0, 200);
        assert_eq!(
            asked(client, "/decisions", &[right, right]).0,
            401,
            "two are none"
        );
        assert_eq!(
            asked(client, "/decisions", &[right, ("x-forwarded-for", "192.0.2.7")]).0,
            200
        );
    }
    assert_eq!(asked(network("192.0.2.9"), "/decisions", &[right]).0, 429);
}

#[test]
fn decisions_are_not_for_pages_of_other_sites() {
    for client in [Client::File, network("127.0.0.1")] {
        for (field, value, status) in [
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-origin", 200),
            (ORIGIN.as_str(), "http://localhost", 403),
        ] {
            assert_eq!(
                asked(client, "/decisions/a", &[(field, value)]).0,
                status,
                "{field}: {value}"
            );
        }
        assert_eq!(
            asked(client, "/", &[("sec-fetch-site", "cross-site")]).1,
            "false true"
        );
    }
}

#[test]
fn an_id_is_decoded_and_a_browser_gets_a_page() {
    let client = Client::File;
    assert_eq!(asked(client, "/decisions/a%2Fb", &[]), (200, "a/b".to_owned()));
    assert_eq!(asked(client, "/decisions/a%2", &[]).0, 400);
    assert_eq!(asked(client, "/decisions/", &[]).1, "all");
    assert_eq!(asked(client, "/decisionsx", &[]).0, 404);
    let page = asked(client, "/decisions/a", &[("accept", "text/html")]);
    assert_eq!(page, (200, "page a".to_owned()));
}

#[test]
fn only_reading_is_answered() {
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let request = Request::builder()
            .method(&method)
            .uri("/decisions")
            .header(HOST, "localhost");
        let (parts, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(
            respond(&Told, Client::File, &parts).status().as_u16(),
            405,
            "{method}"
        );
    }
}

fn network(address: &str) -> Client {
    Client::Network(address.parse().unwrap())
}

#[test]
fn a_token_is_long_and_visible() {
    assert!(AdminToken::new(b"0123456789abcde").is_err());
    assert!(AdminToken::new(b"0123456789 abcdef").is_err());
    let token = AdminToken::new(b"0123456789abcdef").unwrap();
    assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeg") && !token.is(b""));
    assert!(!format!("{token:?}").contains("0123"));
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, "Basic eA==".parse().unwrap());
    assert!(access::may_see_decisions(&Told, network("127.0.0.1"), &headers).is_ok());
}
