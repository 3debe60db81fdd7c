//! Routes for browsers: pages of other origins (CORS), security headers, maintenance.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::json;

use crate::support::gateway::before;
use crate::support::people::*;
use crate::support::*;

const SPA: &str = "https://spa.example.com";
const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-expose-headers",
];
const EXPOSED: &str = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy";

fn api(more: &str) -> String {
    format!("[[routes]]\npath = \"/api/*\"\nupstream = \"app\"\n{more}\n")
}

fn with_credentials(more: &str) -> String {
    api(&format!(
        "cors = {{ origins = [\"{SPA}\"], credentials = true }}\n{more}"
    ))
}

fn preflight(path: &str, origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", path)
        .host("localhost")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", method)
}

#[track_caller]
fn fields(answer: &Response) -> [Option<&str>; 6] {
    FIELDS.map(|name| answer.header(name))
}

#[track_caller]
fn assert_readable(answer: &Response) {
    let expected = [Some(SPA), Some("true"), None, None, None, Some(EXPOSED)];
    assert_eq!(fields(answer), expected);
    assert_varies(answer);
}

#[track_caller]
fn assert_varies(answer: &Response) {
    let vary = answer.header("vary").unwrap_or_default();
    let mut names = vary.split(", ");
    assert!(names.any(|name| name.eq_ignore_ascii_case("origin")), "{vary}");
}

/// The app has an opinion of its own.
fn app() -> App {
    App::answering(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: false\r\n\
         Access-Control-Expose-Headers: X-App\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok",
    )
}

// --- CORS

#[test]
fn preflight_is_answered_without_credentials_and_reaches_no_app() {
    let app = app();
    let routes = with_credentials("methods = [\"GET\", \"PUT\"]\nroles = [\"user\"]")
        + "[[routes]]\npath = \"/plain/*\"\nupstream = \"app\"\nauth = \"none\"\n\
           [[routes]]\npath = \"/named/*\"\nupstream = \"app\"\n\
           cors = { origins = [\"*\"], methods = [\"GET\"], headers = [\"X-One\", \"X-Two\"], max_age = \"1h\" }\n";
    let gateway = Gateway::before(&app, &routes);
    let asks =
        preflight("/api/x", SPA, "PUT").header("Access-Control-Request-Headers", "authorization,x-csrf");
    for request in [
        asks.clone(),
        asks.clone().header("Authorization", "Bearer nonsense"),
    ] {
        let answer = gateway.send(&request).expect(204);
        let expected = [
            Some(SPA),
            Some("true"),
            Some("GET, PUT"),
            Some("authorization,x-csrf"),
            Some("600"),
            None,
        ];
        assert_eq!(fields(&answer), expected);
        assert_eq!(
            answer.header("vary"),
            Some("origin, access-control-request-headers")
        );
        let id = answer.header("x-request-id").unwrap();
        let line = gateway.log_line(|line| line["request_id"] == id);
        assert_eq!(
            (&line["decision"], &line["route"]),
            (&json!("allow"), &json!("GET,PUT /api/*"))
        );
    }
    for origin in [
        "https://evil.example",
        "null",
        "https://spa.example.com.evil.example",
        "http://spa.example.com",
        "",
    ] {
        let refused = gateway.send(&preflight("/api/x", origin, "PUT")).expect(403);
        assert_eq!(fields(&refused), [None; 6], "{origin}");
        assert_varies(&refused);
    }
    let twice = asks.header("Origin", SPA);
    assert_eq!(fields(&gateway.send(&twice).expect(403)), [None; 6]);
    // No route has the method; the page learns no more than a client without it.
    gateway.send(&preflight("/api/x", SPA, "DELETE")).expect(405);
    let any = gateway
        .send(&preflight("/named/x", "https://any.example", "GET"))
        .expect(204);
    let expected = [
        Some("*"),
        None,
        Some("GET"),
        Some("X-One, X-Two"),
        Some("3600"),
        None,
    ];
    assert_eq!(fields(&any), expected);
    assert_eq!(app.count(), 0);
    // A route without `cors` leaves its preflights to the app.
    gateway.send(&preflight("/plain/x", SPA, "GET")).expect(200);
    assert_eq!(app.count(), 1);
}

#[test]
fn page_of_a_listed_origin_reads_answers_of_the_app_and_refusals() {
    let app = app();
    let more = "roles = [\"user\"]\nrate_limit = { requests = 2, per = \"1h\" }\n";
    let routes = with_credentials(more)
        + "[upstreams.dead]\nservers = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/dead\"\nauth = \"none\"\nupstream = \"dead\"\n\
           cors = { origins = [\"https://spa.example.com\"], credentials = true }\n";
    let gateway = Gateway::before(&app, &routes);
    let (user, guest) = (corp_token("alice", &["user"]), corp_token("bob", &["guest"]));
    let get = |path: &str, origin: &str| Request::get(path).header("Origin", origin);
    let answer = gateway.send(&get("/api/x", SPA).bearer(&user)).expect(200);
    assert_readable(&answer);
    assert_eq!(answer.header("vary"), Some("Accept, origin"));
    let stranger = gateway
        .send(&get("/api/x", "https://evil.example").bearer(&user))
        .expect(200);
    assert_eq!(fields(&stranger), [None; 6]);
    assert_varies(&stranger);
    assert_readable(&gateway.send(&get("/api/x", SPA)).expect(401));
    assert_readable(&gateway.send(&get("/api/x", SPA).bearer("nonsense")).expect(401));
    assert_readable(&gateway.send(&get("/api/x", SPA).bearer(&guest)).expect(403));
    let limited = gateway.send(&get("/api/x", SPA).bearer(&user)).expect(429);
    assert_readable(&limited);
    assert!(limited.header("retry-after").is_some());
    assert_readable(&gateway.send(&get("/dead", SPA)).expect(502));
    let refused = gateway.send(&get("/api/x", "https://evil.example")).expect(401);
    assert_eq!(fields(&refused), [None; 6]);
    assert_varies(&refused);
}

#[test]
fn session_cookie_of_a_listed_origin_may_change_things() {
    let app = App::start();
    let routes = |credentials: bool| {
        format!(
            "[[routes]]\npath = \"/api/*\"\nupstream = \"app\"\ncors = {{ origins = [\"{SPA}\"], credentials = {credentials} }}\n\
             [[routes]]\npath = \"/closed/*\"\nupstream = \"app\"\n"
        )
    };
    for (credentials, status) in [(true, 200), (false, 403)] {
        let gateway = sign_in_gateway(&app, &routes(credentials));
        gateway.setup.add_account("alice@example.com", &["user"]);
        let cookie = gateway.sign_in("alice@example.com");
        let post = |path: &str, origin: &str, site: &str| {
            gateway.send(
                &Request::post(path, "x")
                    .host("localhost")
                    .header("Cookie", &cookie)
                    .header("Origin", origin)
                    .header("Sec-Fetch-Site", site),
            )
        };
        for site in ["cross-site", "same-site"] {
            post("/api/x", SPA, site).expect(status);
            post("/api/x", "https://evil.example", site).expect(403);
            post("/api/x", "null", site).expect(403);
            post("/closed/x", SPA, site).expect(403);
        }
        let handshake = |origin: &str| {
            Request::get("/api/socket")
                .host("localhost")
                .header("Cookie", &cookie)
                .header("Origin", origin)
                .header("Connection", "Upgrade")
                .header("Upgrade", "websocket")
                .header("Sec-WebSocket-Version", "13")
                .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        };
        let before = app.count();
        gateway.send(&handshake("https://evil.example")).expect(403);
        assert_eq!(app.count(), before);
        assert_eq!(
            gateway.send(&handshake(SPA)).status,
            status,
            "the app answers 200, it has no sockets"
        );
    }
}

#[test]
fn tests_and_explain_show_what_a_page_of_an_origin_may() {
    let app = App::start();
    let case = |origin: &str, expect: &str| {
        format!(
            "[[tests]]\nrequest = \"POST /api/x\"\norigin = \"{origin}\"\nas = {{ subject = \"alice\" }}\nexpect = {expect}\n"
        )
    };
    let toml = with_credentials("") + &case(SPA, "\"allow\"") + &case("https://evil.example", "403");
    let gateway = Gateway::before(&app, &toml);
    gateway.command(["check"]).expect(0);
    let explain = |origin: &str, code: i32| {
        let field = format!("Origin: {origin}");
        gateway
            .command(["explain", "POST", "/api/x", "--as", "alice", "-H", &field])
            .expect(code)
            .all()
    };
    assert!(explain(SPA, 0).contains(&format!("Access-Control-Allow-Origin: {SPA}, with credentials")));
    assert!(explain("https://evil.example", 3).contains("cross-site"));
    let preflight = [
        "explain",
        "OPTIONS",
        "/api/x",
        "-H",
        "Origin: https://spa.example.com",
        "-H",
        "Access-Control-Request-Method: POST",
    ];
    let text = gateway.command(preflight).expect(0).all();
    assert!(text.contains("a preflight"), "{text}");
}

// --- security headers

#[test]
fn security_headers_fill_in_what_the_app_leaves_out() {
    let app = App::with(|exchange| {
        let own = match exchange.request().target() {
            "/on/own" => {
                "X-Content-Type-Options: own\r\nReferrer-Policy: own\r\nContent-Security-Policy: own\r\nStrict-Transport-Security: own\r\n"
            }
            "/on/frame" => "X-Frame-Options: DENY\r\n",
            _ => "",
        };
        exchange.send(format!("HTTP/1.1 200 OK\r\n{own}Content-Length: 0\r\n\r\n"));
        Answer::Keep
    });
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.example.com\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let routes = "[[routes]]\npath = \"/on/*\"\nauth = \"none\"\nupstream = \"app\"\nsecurity_headers = true\n\
                  [[routes]]\npath = \"/off/*\"\nauth = \"none\"\nupstream = \"app\"\nsecurity_headers = false\n\
                  [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
    const NAMES: [&str; 5] = [
        "x-content-type-options",
        "referrer-policy",
        "content-security-policy",
        "x-frame-options",
        "strict-transport-security",
    ];
    let ask = |gateway: &Gateway, path: &str, host: &str, scheme: &str| {
        let request = Request::get(path).host(host).header("X-Forwarded-Proto", scheme);
        let answer = gateway.send(&request);
        NAMES.map(|name| answer.header(name).map(str::to_owned))
    };
    let texts =
        |values: [&str; 5]| values.map(|value| Some(value.to_owned()).filter(|value| !value.is_empty()));
    let all = [
        "nosniff",
        "strict-origin-when-cross-origin",
        "frame-ancestors 'self'",
        "SAMEORIGIN",
        "max-age=31536000",
    ];
    let without_hsts = [
        "nosniff",
        "strict-origin-when-cross-origin",
        "frame-ancestors 'self'",
        "SAMEORIGIN",
        "",
    ];
    let gateway = Setup::new(&before(&app, &format!("{server}{routes}"))).start();
    for (path, host, scheme, expected) in [
        ("/on/x", "app.example.com", "https", all),
        ("/on/x", "other.example.com", "https", all),
        ("/on/x", "other.example.com:443", "https", all),
        ("/on/x", "other.example.com:8443", "https", without_hsts),
        ("/on/x", "app.example.com", "http", without_hsts),
        (
            "/on/own",
            "app.example.com",
            "https",
            ["own", "own", "own", "", "own"],
        ),
        (
            "/on/frame",
            "app.example.com",
            "http",
            ["nosniff", "strict-origin-when-cross-origin", "", "DENY", ""],
        ),
        ("/off/x", "app.example.com", "http", [""; 5]),
        ("/x", "app.example.com", "http", [""; 5]),
    ] {
        assert_eq!(
            ask(&gateway, path, host, scheme),
            texts(expected),
            "{path} {host} {scheme}"
        );
    }
    let gateway = Setup::new(&before(
        &app,
        &format!("{server}security_headers = true\n{routes}"),
    ))
    .start();
    assert_eq!(
        ask(&gateway, "/x", "app.example.com", "http"),
        texts(without_hsts)
    );
    assert_eq!(ask(&gateway, "/off/x", "app.example.com", "http"), texts([""; 5]));
}

#[test]
fn own_answers_are_taken_for_what_they_are_and_keep_to_https() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://localhost\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let gateway = Setup::new(&before(
        &app,
        &format!("{server}[password]\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n"),
    ))
    .start();
    for (path, accept, status) in [
        ("/x", "application/json", 401),
        ("/x", "text/html", 302),
        ("/auth/login", "text/html", 200),
        ("/auth/login", "application/json", 200),
        ("/auth/nothing", "application/json", 404),
        ("/.well-known/jwks.json", "*/*", 200),
        ("/.well-known/openid-configuration", "*/*", 200),
        ("/a%2fb", "application/json", 400),
    ] {
        let request = Request::get(path).host("localhost").header("Accept", accept);
        let answer = gateway
            .send(&request.header("X-Forwarded-Proto", "https"))
            .expect(status);
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path} {accept}"
        );
        assert_eq!(
            answer.header("strict-transport-security"),
            Some("max-age=31536000"),
            "{path} {accept}"
        );
    }
}

// --- maintenance

#[test]
fn route_under_maintenance_answers_503_before_anything_else() {
    let app = App::start();
    let toml = "[password]\n[[routes]]\npath = \"/shop/*\"\nupstream = \"app\"\nmaintenance = 'back \"soon\" <b>'\n\
                [[routes]]\npath = \"/page/*\"\nupstream = \"app\"\nmaintenance = { file = \"down.html\", retry_after = \"2h\" }\n\
                cors = { origins = [\"https://spa.example.com\"] }\n\
                [[tests]]\nrequest = \"GET /shop/x\"\nas = {}\nexpect = \"allow\"\n\
                [[tests]]\nrequest = \"GET /shop/x\"\nexpect = \"login\"\n\
                [[tests]]\nrequest = \"GET /shop/x\"\nexpect = 503\n";
    let setup = sign_in_setup(&app, toml);
    setup.write("down.html", "<!doctype html><title>Down</title>");
    setup.command(["check"]).expect(0);
    let gateway = setup.start();
    let token = corp_token("alice", &[]);
    let program = gateway.get_as(&token, "/shop/x").expect(503);
    assert_eq!(program.header("retry-after"), Some("300"));
    assert_eq!(program.json()["detail"], "back \"soon\" <b>");
    let line = gateway.log_of(&program);
    assert_eq!(
        (&line["decision"], &line["reason"]),
        (&json!("refuse"), &json!("maintenance"))
    );
    assert!(
        line["rule"].as_str().unwrap().starts_with("maintenance ("),
        "{line}"
    );
    let browse = |path: &str| {
        gateway
            .send(&Request::get(path).header("Accept", "text/html"))
            .expect(503)
    };
    let page = browse("/shop/x").text();
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
    let own = browse("/page/x");
    assert_eq!(own.text(), "<!doctype html><title>Down</title>");
    assert_eq!(own.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(own.header("retry-after"), Some("7200"));
    let readable = gateway
        .send(&Request::get("/page/x").header("Origin", SPA))
        .expect(503);
    assert_eq!(readable.header(FIELDS[0]), Some(SPA));
    assert_eq!(readable.header("content-type"), Some("application/problem+json"));
    gateway.send(&preflight("/page/x", SPA, "GET")).expect(204);
    assert_eq!(app.count(), 0);
    gateway.get_as(&token, "/x").expect(200);
    gateway
        .send(&Request::get("/auth/login").header("Accept", "text/html"))
        .expect(200);
    let explained = gateway.command(["explain", "GET", "/shop/x"]).expect(3).all();
    assert!(explained.contains("under maintenance"), "{explained}");
}
