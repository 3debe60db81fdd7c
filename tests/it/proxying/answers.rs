//! Where an app lives below a path: what it is told, and what of its answers becomes public; what caches are told; loops.

use super::*;

const CUT: &str =
    "[[routes]]\npath = \"/api/*\"\nauth = \"none\"\nupstream = \"app\"\nstrip_prefix = \"/api\"\n";

/// An app that answers with the fields that the test puts into `X-Say`, divided by `|`.
fn saying() -> App {
    App::with(|exchange| {
        exchange.read_body();
        if exchange.request().target() == "/trailers" {
            let head =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\n";
            let trailers = "X-Sum: 1\r\nProxy-Authenticate: Basic\r\nSet-Cookie: a=b\r\nLocation: /x\r\n\r\n";
            exchange.send([head, trailers].concat());
            return Answer::Keep;
        }
        let said = exchange
            .request()
            .header("x-say")
            .unwrap_or_default()
            .replace('|', "\r\n");
        let sent = exchange.send(format!(
            "HTTP/1.1 200 OK\r\n{said}\r\nContent-Length: 2\r\n\r\nok"
        ));
        if sent { Answer::Keep } else { Answer::Close }
    })
}

/// The values of a field in the answer to a GET that makes the app say `fields`.
fn said(gateway: &Gateway, target: &str, fields: &str, name: &str) -> Vec<String> {
    let response = gateway
        .send(&Request::get(target).host("gw.test").header("X-Say", fields))
        .expect(200);
    assert_eq!(response.text(), "ok");
    values(&response.fields, name)
        .into_iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn app_learns_the_stripped_prefix_from_the_gateway_alone() {
    let app = App::start();
    let gateway = Gateway::before(&app, &format!("{CUT}{OPEN}"));
    for (target, expected) in [
        ("/api/x", Some("/api")),
        ("/api", Some("/api")),
        ("/%61pi/x", Some("/api")),
        ("/x", None),
    ] {
        gateway
            .send(&Request::get(target).header("X-Forwarded-Prefix", "/evil"))
            .expect(200);
        assert_eq!(app.last().header("x-forwarded-prefix"), expected, "{target}");
    }
}

#[test]
fn stripped_prefix_makes_addresses_in_answers_public() {
    let app = saying();
    let gateway = Gateway::before(&app, CUT);
    let server = app.address;
    for (field, expected) in [
        ("Location: /items/".to_owned(), "/api/items/"),
        ("Location: /api/items/".to_owned(), "/api/items/"),
        (
            "Location: http://gw.test/items/?a#b".to_owned(),
            "/api/items/?a#b",
        ),
        ("Location: https://gw.test/items/".to_owned(), "/api/items/"),
        (format!("Location: http://{server}/sub/"), "/api/sub/"),
        (format!("Location: http://{server}"), "/api/"),
        (
            "Location: https://other.test/x".to_owned(),
            "https://other.test/x",
        ),
        ("Location: //other.test/x".to_owned(), "//other.test/x"),
        ("Location: x/y".to_owned(), "x/y"),
        ("Content-Location: /items/7".to_owned(), "/api/items/7"),
        ("Refresh: 3; url=/next".to_owned(), "3; url=/api/next"),
        (
            "Set-Cookie: a=b; Path=/; HttpOnly".to_owned(),
            "a=b; Path=/api; HttpOnly",
        ),
        (
            "Set-Cookie: __Host-a=b; Path=/; Secure".to_owned(),
            "__Host-a=b; Path=/; Secure",
        ),
        (
            "Link: </style.css>; rel=preload".to_owned(),
            "</style.css>; rel=preload",
        ),
    ] {
        let name = field.split(':').next().unwrap();
        assert_eq!(said(&gateway, "/api/x", &field, name), [expected], "{field}");
    }
    let cookies = said(
        &gateway,
        "/api/x",
        "Set-Cookie: a=1; Path=/|Set-Cookie: b=2; path=/b",
        "set-cookie",
    );
    assert_eq!(cookies, ["a=1; Path=/api", "b=2; path=/api/b"]);
}

#[test]
fn the_name_in_public_url_is_the_apps_own_as_well() {
    let app = saying();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://public.test:8443\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{CUT}"));
    for (location, expected) in [
        ("https://public.test:8443/x", "/api/x"),
        ("https://public.test/x", "https://public.test/x"),
        ("https://public.test:84430/x", "https://public.test:84430/x"),
    ] {
        assert_eq!(
            said(&gateway, "/api/x", &format!("Location: {location}"), "location"),
            [expected],
            "{location}"
        );
    }
}

#[test]
fn answer_without_a_prefix_hides_only_the_servers_address() {
    let app = saying();
    let gateway = Gateway::before(&app, OPEN);
    for (location, expected) in [
        (format!("http://{}/sub/", app.address), "/sub/".to_owned()),
        ("/sub/".to_owned(), "/sub/".to_owned()),
        ("http://gw.test/sub/".to_owned(), "http://gw.test/sub/".to_owned()),
        (
            format!("http://{}//other.test/", app.address),
            format!("http://{}//other.test/", app.address),
        ),
        (
            format!("http://{}@other.test/", app.address),
            format!("http://{}@other.test/", app.address),
        ),
        (
            format!("http://{}0/", app.address),
            format!("http://{}0/", app.address),
        ),
    ] {
        assert_eq!(
            said(&gateway, "/x", &format!("Location: {location}"), "location"),
            [expected],
            "{location}"
        );
    }
}

#[test]
fn a_route_can_leave_answers_as_they_are() {
    let app = saying();
    let gateway = Gateway::before(&app, &format!("{CUT}rewrite_responses = false\n"));
    for field in [
        "Location: /items/".to_owned(),
        format!("Location: http://{}/x", app.address),
        "Content-Location: /x".to_owned(),
        "Refresh: 0; url=/x".to_owned(),
        "Set-Cookie: a=b; Path=/".to_owned(),
    ] {
        let (name, value) = field.split_once(": ").unwrap();
        assert_eq!(said(&gateway, "/api/x", &field, name), [value], "{field}");
    }
    assert_eq!(
        app.last().header("x-forwarded-prefix"),
        Some("/api"),
        "this is told all the same"
    );
}

#[test]
fn base_path_of_a_server_is_added_and_removed_in_answers() {
    let app = saying();
    let base = app.url().replace("\"http://", "").replace('"', "");
    let toml = format!("[upstreams.app]\nservers = [\"http://{base}/base/\"]\n{OPEN}{CUT}");
    let gateway = Gateway::start(&toml);
    for (target, seen, location) in [
        ("/x?q=1", "/base/x?q=1", "/x"),
        ("/", "/base/", "/x"),
        ("/api/y", "/base/y", "/api/x"),
        ("/api", "/base/", "/api/x"),
    ] {
        assert_eq!(
            said(&gateway, target, "Location: /base/x", "location"),
            [location],
            "{target}"
        );
        assert_eq!(app.last().target(), seen);
    }
    let absolute = format!("Location: http://{}/base", app.address);
    assert_eq!(said(&gateway, "/x", &absolute, "location"), ["/"]);
    assert_eq!(
        said(&gateway, "/x", "Set-Cookie: a=b; Path=/base", "set-cookie"),
        ["a=b; Path=/"]
    );
    assert_eq!(
        said(&gateway, "/x", "Location: /basement", "location"),
        ["/basement"]
    );
}

#[test]
fn answer_to_a_caller_is_private_to_caches() {
    let app = saying();
    let routes = "[[routes]]\npath = \"/open/*\"\nauth = \"none\"\nupstream = \"app\"\n\
                  [[routes]]\npath = \"/both/*\"\nauth = \"optional\"\nupstream = \"app\"\n";
    let gateway = Gateway::before(&app, &format!("{PRIVATE}{routes}"));
    let token = corp_token("alice", &[]);
    let both = "Cookie, Authorization";
    for (path, known, said, cache_control, vary) in [
        ("/x", true, "X-A: 1", Some("private"), None),
        (
            "/x",
            true,
            "Cache-Control: public, max-age=60",
            Some("public, max-age=60"),
            None,
        ),
        ("/x", true, "Expires: Thu, 01 Dec 2033 16:00:00 GMT", None, None),
        ("/x", true, "Pragma: no-cache", None, None),
        ("/x", true, "Vary: Accept", Some("private"), Some("Accept")),
        ("/open/x", true, "X-A: 1", None, None),
        ("/both/x", true, "X-A: 1", Some("private"), Some(both)),
        ("/both/x", false, "X-A: 1", None, Some(both)),
        (
            "/both/x",
            false,
            "Cache-Control: max-age=60",
            Some("max-age=60"),
            Some(both),
        ),
        (
            "/both/x",
            false,
            "Vary: Accept-Encoding",
            None,
            Some("Accept-Encoding, Cookie, Authorization"),
        ),
        (
            "/both/x",
            false,
            "Vary: cookie|Vary: Accept",
            None,
            Some("cookie, Accept, Authorization"),
        ),
        ("/both/x", false, "Vary: *", None, Some("*")),
    ] {
        let mut request = Request::get(path).header("X-Say", said);
        if known {
            request = request.bearer(&token);
        }
        let response = gateway.send(&request).expect(200);
        assert_eq!(
            response.header("cache-control"),
            cache_control,
            "{path} {known} {said}"
        );
        assert_eq!(response.header("vary"), vary, "{path} {known} {said}");
    }
}

#[test]
fn proxy_instructions_of_an_app_end_at_the_gateway() {
    let app = saying();
    let gateway = Gateway::before(&app, OPEN);
    let fields = "Proxy-Authenticate: Basic realm=\"x\"|Proxy-Authentication-Info: x=\"y\"|WWW-Authenticate: Basic|X-A: 1";
    let response = gateway
        .send(&Request::get("/x").header("X-Say", fields))
        .expect(200);
    assert_eq!(response.header("proxy-authenticate"), None);
    assert_eq!(response.header("proxy-authentication-info"), None);
    assert_eq!(response.header("www-authenticate"), Some("Basic"));
    let client = Http2::connect(gateway.address);
    let request = http::Request::get("http://gw.test/trailers")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let trailers = client
        .try_send(request, b"", None)
        .unwrap()
        .trailers
        .expect("trailers");
    assert_eq!(
        trailers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        ["x-sum"]
    );
    let request = http::Request::get("http://gw.test/x")
        .header("x-say", fields)
        .body(())
        .unwrap();
    let response = client.try_send(request, b"", None).unwrap();
    assert!(
        !response.headers.contains_key("proxy-authenticate"),
        "{response:?}"
    );
    assert_eq!(response.headers["x-a"], "1");
}

#[test]
fn a_request_that_comes_back_is_refused() {
    // The app sends what it gets to the gateway again, as a proxy does whose upstream is the wrong one.
    let back = Arc::new(std::sync::OnceLock::<SocketAddr>::new());
    let gateway_address = back.clone();
    let app = App::with(move |exchange| {
        let seen = exchange.request();
        let mut request = Request::get(seen.target());
        if let Some(passed) = seen.header("cdn-loop") {
            request = request.header("CDN-Loop", passed);
        }
        let response = request.send_to(*gateway_address.get().unwrap());
        exchange.send(format!(
            "HTTP/1.1 {} x\r\nContent-Length: 0\r\n\r\n",
            response.status
        ));
        Answer::Close
    });
    let gateway = Gateway::before(&app, OPEN);
    back.set(gateway.address).unwrap();
    assert_eq!(gateway.get("/x").status, 508);
    assert_eq!(app.count(), 1);
    let refused = gateway.log_line(|line| line["status"] == 508 && line["reason"] == "loop-detected");
    assert_eq!(refused["path"], "/x");
}

#[test]
fn cdn_loop_of_others_passes_and_forged_ones_do_nothing() {
    let app = App::with(|exchange| {
        // Shows what it was sent.
        let passed = exchange
            .request()
            .header("cdn-loop")
            .unwrap_or_default()
            .to_owned();
        let sent = exchange.send(format!(
            "HTTP/1.1 200 OK\r\nCDN-Loop: {passed}\r\nContent-Length: 2\r\n\r\nok"
        ));
        if sent { Answer::Keep } else { Answer::Close }
    });
    let gateway = Gateway::before(&app, OPEN);
    for (sent, status) in [
        (None, 200),
        (Some("cdn.example; a=b"), 200),
        (Some("a, b, c, d, e, f, g, h"), 200),
        (Some("a, b, c, d, e, f, g, h, i"), 508),
        (Some("passgate"), 200),
        (Some("passgate;k=00000000000000000000000000000000"), 200),
    ] {
        let mut request = Request::get("/x");
        if let Some(sent) = sent {
            request = request.header("CDN-Loop", sent);
        }
        let response = gateway.send(&request).expect(status);
        if status == 200 {
            let passed = app.last().header("cdn-loop").unwrap().to_owned();
            let (others, ours) = passed
                .rsplit_once(", ")
                .map_or((None, &*passed), |(others, ours)| (Some(others), ours));
            assert_eq!(others, sent);
            assert!(ours.starts_with("passgate;k=") && ours.len() == 11 + 32, "{ours}");
            assert_eq!(
                response.header("cdn-loop"),
                sent,
                "the gateway's own is taken out of the answer"
            );
        }
    }
}

#[test]
fn unexpected_body_over_http_2_ends_the_apps_connection() {
    let app = App::start();
    let gateway = Gateway::before(&app, &format!("{ONE_WORKER}{OPEN}"));
    let client = Http2::connect(gateway.address);
    for (number, (method, body, closes)) in [
        ("GET", "x", true),
        ("DELETE", "x", true),
        ("OPTIONS", "x", true),
        ("POST", "x", false),
        ("GET", "", false),
    ]
    .into_iter()
    .enumerate()
    {
        let request = http::Request::builder()
            .method(method)
            .uri("http://gw.test/x")
            .body(())
            .unwrap();
        client.try_send(request, body.as_bytes(), None).unwrap();
        let seen = app.last();
        assert_eq!(
            seen.header("connection")
                .is_some_and(|options| options == "close"),
            closes,
            "{method} {body:?}"
        );
        assert_eq!(seen.connection, (number + 1).min(4), "{method} {body:?}");
    }
}

#[test]
fn unrequested_bytes_are_logged_once_and_end_reuse_twice() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale",
    );
    let gateway = Gateway::before(&app, &format!("{ONE_WORKER}{OPEN}"));
    for count in 1..=5 {
        assert_eq!(gateway.get("/x").expect(200).text(), "ok");
        assert_eq!(app.connections(), count);
    }
    gateway.diagnostic("outside of a response");
    let said: Vec<_> = gateway
        .diagnostics()
        .into_iter()
        .filter(|line| line.contains("outside of a response"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains(&app.address.to_string()) && said[0].contains("app"),
        "{said:?}"
    );
}

#[test]
fn tls_connections_are_reused_until_unrequested_bytes_arrive() {
    let certificate = Certificate::for_names(&["localhost"]);
    let app = App::with_tls(&certificate, |exchange| {
        exchange.read_body();
        let sent = match exchange.request().target() {
            "/twice" => exchange.send([OK, OK].concat()),
            _ => exchange.send(OK),
        };
        if sent { Answer::Keep } else { Answer::Close }
    });
    let port = app.address.port();
    let upstream =
        format!("[upstreams.app]\nservers = [\"https://localhost:{port}\"]\nca_file = \"ca.pem\"\n");
    let setup = Setup::new(&format!("{ONE_WORKER}{upstream}{OPEN}"));
    setup.write("ca.pem", &certificate.chain_pem);
    let gateway = setup.start();
    for _ in 0..3 {
        assert_eq!(gateway.get("/x").expect(200).text(), "ok");
        assert_eq!(
            gateway.send(&Request::post("/x", "some text")).expect(200).text(),
            "ok"
        );
    }
    assert_eq!(app.connections(), 1);
    gateway.get("/twice").expect(200);
    for connections in 2..4 {
        assert_eq!(gateway.get("/x").expect(200).text(), "ok");
        assert_eq!(app.connections(), connections);
    }
    gateway.diagnostic("outside of a response");
}
