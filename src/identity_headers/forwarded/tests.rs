#![allow(clippy::unwrap_used)]

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn proxies() -> TrustedProxies {
    trusting(&["10.0.0.0/8", "fd00::/8"])
}

fn trusting(networks: &[&str]) -> TrustedProxies {
    TrustedProxies::new(
        networks.iter().map(|network| network.parse().unwrap()).collect(),
        false,
    )
}

fn peer(address: &str) -> Peer {
    Peer::new(ip(address), false, &proxies())
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

/// For, Proto, Host, Port and X-Request-Id.
fn forwarded_to(peer: &Peer, host: &str, fields: &[(&'static str, &str)]) -> [String; 5] {
    let mut headers = headers(fields);
    set_forwarded(
        &mut headers,
        peer,
        &HeaderValue::from_str(host).unwrap(),
        &HeaderValue::from_static("id-1"),
    );
    [
        &X_FORWARDED_FOR,
        &X_FORWARDED_PROTO,
        &X_FORWARDED_HOST,
        &X_FORWARDED_PORT,
        &X_REQUEST_ID,
    ]
    .map(|name| single(&headers, name).unwrap().to_str().unwrap().to_owned())
}

fn forwarded(peer: &Peer, fields: &[(&'static str, &str)]) -> [String; 5] {
    forwarded_to(peer, "app.example.com", fields)
}

#[test]
fn an_untrusted_peer_is_all_that_is_known() {
    assert_eq!(
        forwarded(&peer("192.0.2.1"), &[]),
        ["192.0.2.1", "http", "app.example.com", "80", "id-1"]
    );
    let by_tls = Peer::new(ip("2001:db8::1"), true, &proxies());
    assert_eq!(
        forwarded(&by_tls, &[]),
        ["2001:db8::1", "https", "app.example.com", "443", "id-1"]
    );
    // Also where the earlier step did not remove it.
    let forged = [
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "1"),
        ("x-request-id", "theirs"),
    ];
    assert_eq!(
        forwarded(&peer("192.0.2.1"), &forged),
        ["192.0.2.1", "http", "app.example.com", "80", "id-1"]
    );
}

#[test]
fn a_trusted_proxys_word_is_kept_and_its_address_added() {
    let said = [
        ("x-forwarded-for", "192.0.2.7, 10.1.1.1"),
        ("x-forwarded-for", "10.1.1.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "www.example.com:8443"),
        ("x-forwarded-port", "9443"),
    ];
    let path = "192.0.2.7, 10.1.1.1, 10.1.1.2, 10.0.0.1";
    let expected = [path, "https", "www.example.com:8443", "9443", "id-1"];
    assert_eq!(forwarded(&peer("10.0.0.1"), &said), expected);
    assert_eq!(
        forwarded(&peer("10.0.0.1"), &[]),
        ["10.0.0.1", "http", "app.example.com", "80", "id-1"]
    );
}

#[test]
fn of_a_list_the_first_element_counts_and_what_is_said_badly_is_replaced() {
    for (proto, wanted) in [
        ("https, http", "https"),
        ("https,http,http", "https"),
        (" HTTPS , http", "https"),
        ("http, https", "http"),
        ("wss", "https"),
        ("ws, http", "http"),
        ("ftp, https", "http"),
        (", https", "http"),
        ("", "http"),
        ("https://x", "http"),
    ] {
        assert_eq!(
            forwarded(&peer("10.0.0.1"), &[("x-forwarded-proto", proto)])[1],
            wanted,
            "{proto}"
        );
    }
    let several = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-host", "b.example"),
    ];
    assert_eq!(
        forwarded(&peer("10.0.0.1"), &several)[1..4],
        ["https", "a.example", "443"]
    );
    for (host, wanted) in [
        ("a.example, b.example", "a.example"),
        ("a b", "app.example.com"),
        ("a@b, c", "app.example.com"),
    ] {
        assert_eq!(
            forwarded(&peer("10.0.0.1"), &[("x-forwarded-host", host)])[2],
            wanted,
            "{host}"
        );
    }
}

#[test]
fn a_chain_of_addresses_ends_at_what_is_none() {
    for (lines, path) in [
        (&["198.51.100.1, unknown, 10.0.0.2"][..], "10.0.0.2, 10.0.0.1"),
        (&["<script>, 198.51.100.1"], "198.51.100.1, 10.0.0.1"),
        (&["198.51.100.1, _hidden"], "10.0.0.1"),
        (&["198.51.100.1,, 10.0.0.2"], "10.0.0.2, 10.0.0.1"),
        (&["198.51.100.1", "", "10.0.0.2"], "10.0.0.2, 10.0.0.1"),
        (
            &["198.51.100.1", "x", "203.0.113.1 ,10.0.0.2"],
            "203.0.113.1, 10.0.0.2, 10.0.0.1",
        ),
        (
            &["198.51.100.1:4711, [2001:db8::7]:1, [::1], ::1"],
            "198.51.100.1:4711, [2001:db8::7]:1, [::1], ::1, 10.0.0.1",
        ),
        (&["198.51.100.1.example.com"], "10.0.0.1"),
        (&["127.1, 0x7f000001"], "10.0.0.1"),
        (&[""], "10.0.0.1"),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(forwarded(&peer("10.0.0.1"), &fields)[0], path, "{lines:?}");
    }
}

#[test]
fn the_port_is_the_proxys_or_that_of_the_host_or_of_the_scheme() {
    for (host, fields, port) in [
        ("a", &[][..], "80"),
        ("a:8080", &[], "8080"),
        ("[::1]", &[], "80"),
        ("[::1]:8443", &[], "8443"),
        ("a", &[("x-forwarded-proto", "https")], "443"),
        ("a:8080", &[("x-forwarded-port", "8443")], "8443"),
        ("a:8080", &[("x-forwarded-port", "443, 80")], "443"),
        ("a:8080", &[("x-forwarded-host", "b")], "80"),
        (
            "a",
            &[("x-forwarded-host", "b:81"), ("x-forwarded-proto", "https")],
            "81",
        ),
        ("a:82", &[("x-forwarded-port", "0")], "82"),
        ("a:82", &[("x-forwarded-port", "65536")], "82"),
        ("a:82", &[("x-forwarded-port", "+1")], "82"),
        ("a:82", &[("x-forwarded-port", "x")], "82"),
        ("a:82", &[("x-forwarded-port", "")], "82"),
    ] {
        assert_eq!(
            forwarded_to(&peer("10.0.0.1"), host, fields)[3],
            port,
            "{host} {fields:?}"
        );
    }
    // One connection may name several.
    let peer = peer("192.0.2.1");
    for port in ["8080", "8081", "8080", "80"] {
        assert_eq!(forwarded_to(&peer, &format!("a:{port}"), &[])[3], port);
    }
}

#[test]
fn a_forwarded_host_is_a_host() {
    for good in [
        "a",
        "a.example",
        "A-b_c.example:1",
        "192.0.2.1:65535",
        "[::1]",
        "[2001:db8::1]:443",
    ] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    let long = "a".repeat(MAX_HOST + 1);
    for bad in [
        "", ":80", "a:", "a:x", "a:0", "a:65536", "a:123456", "a b", "a/b", "a@b", "[::1", "[x]", "[::1]x",
        "a,b", "\"a\"", "é", &long,
    ] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn a_request_id_is_taken_from_a_trusted_proxy_where_it_is_plain() {
    let id = |address: &str, value: &str| {
        incoming_request_id(&headers(&[("x-request-id", value)]), &peer(address))
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(
        id("10.0.0.1", "1-67891233:abc/@=+~._").as_deref(),
        Some("1-67891233:abc/@=+~._")
    );
    assert_eq!(id("192.0.2.1", "abc"), None);
    let (longest, longer) = ("a".repeat(128), "a".repeat(129));
    assert!(id("10.0.0.1", &longest).is_some());
    for bad in ["", "a b", "a\"b", "a{", &longer] {
        assert_eq!(id("10.0.0.1", bad), None, "{bad}");
    }
    let twice = headers(&[("x-request-id", "a"), ("x-request-id", "b")]);
    assert_eq!(incoming_request_id(&twice, &peer("10.0.0.1")), None);
}

#[test]
fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
    let client = |address: &str, lines: &[&str]| {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        client_ip(&headers(&fields), &peer(address), &proxies())
    };
    assert_eq!(client("192.0.2.1", &["198.51.100.1"]), ip("192.0.2.1"));
    assert_eq!(client("10.0.0.1", &[]), ip("10.0.0.1"));
    assert_eq!(client("10.0.0.1", &["198.51.100.1"]), ip("198.51.100.1"));
    // The client wrote what stands to the left.
    assert_eq!(
        client("10.0.0.1", &["10.9.9.9, 203.0.113.5, 198.51.100.1 , 10.0.0.2"]),
        ip("198.51.100.1")
    );
    assert_eq!(
        client("10.0.0.1", &["203.0.113.5", "198.51.100.1, fd00::2"]),
        ip("198.51.100.1")
    );
    assert_eq!(client("10.0.0.1", &["10.0.0.3,10.0.0.2"]), ip("10.0.0.3"));
    for odd in [
        "198.51.100.1:4711",
        "[2001:db8::7]:4711",
        "[2001:db8::7]",
        "2001:db8::7",
    ] {
        let expected = if odd.starts_with("198") {
            ip("198.51.100.1")
        } else {
            ip("2001:db8::7")
        };
        assert_eq!(client("10.0.0.1", &[odd]), expected);
    }
    // Past what cannot be read nothing is known.
    assert_eq!(
        client("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"]),
        ip("10.0.0.2")
    );
    assert_eq!(client("10.0.0.1", &[""]), ip("10.0.0.1"));
}

#[test]
fn an_ipv4_address_on_an_ipv6_socket_is_an_ipv4_address() {
    let peer = peer("::ffff:10.0.0.1");
    assert!(peer.trusted);
    assert_eq!(
        (peer.ip, peer.ip_value.to_str().unwrap()),
        (ip("10.0.0.1"), "10.0.0.1")
    );
    let headers = headers(&[("x-forwarded-for", "198.51.100.1, ::ffff:10.0.0.2")]);
    assert_eq!(client_ip(&headers, &peer, &proxies()), ip("198.51.100.1"));
}
