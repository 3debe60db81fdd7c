//! Pages of other origins at the gateway's own endpoints: CORS, `same_site = "none"`, the cookie with a refresh token.

use serde_json::{Value, json};

use crate::support::gateway::before;
use crate::support::people::*;
use crate::support::*;

const ALICE: &str = "alice@example.com";
const SPA: &str = "http://localhost:5173";
const LISTED: &str = "[session]\norigins = [\"http://localhost:5173\"]\n";
/// Every field that lets a page of another origin do more.
const FIELDS: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-max-age",
    "access-control-expose-headers",
];

#[track_caller]
fn assert_readable(answer: &Response, origin: &str, name: &str) {
    assert_eq!(answer.header(FIELDS[0]), Some(origin), "{name}: {answer:?}");
    assert_eq!(answer.header(FIELDS[1]), Some("true"), "{name}");
    assert_eq!(
        answer.header(FIELDS[5]),
        Some("X-Request-Id, Retry-After"),
        "{name}"
    );
    let vary = answer.header("vary").unwrap_or_default();
    assert!(
        vary.split(", ").any(|part| part.eq_ignore_ascii_case("origin")),
        "{name}: {vary}"
    );
}

#[track_caller]
fn assert_closed(answer: &Response, name: &str) {
    for field in FIELDS {
        assert_eq!(answer.header(field), None, "{name}: {field}");
    }
}

fn preflight(path: &str, origin: &str) -> Request {
    Request::new("OPTIONS", path)
        .host("localhost")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type")
}

/// Origins that are not listed, however they look.
const OTHERS: [&str; 9] = [
    "null",
    "http://localhost:5173.evil.example",
    "http://localhost:5174",
    "https://localhost:5173",
    "http://127.0.0.1:5173",
    "http://LOCALHOST:5173",
    "http://localhost:5173/",
    "http://evil.example",
    "",
];

#[test]
fn preflight_of_a_listed_origin_is_answered_for_its_endpoints() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, LISTED);
    for (path, methods) in [
        ("/auth/login", "GET, HEAD, POST"),
        ("/auth/register", "GET, HEAD, POST"),
        ("/auth/refresh", "POST"),
        ("/auth/logout", "GET, HEAD, POST"),
        ("/auth/me", "GET, HEAD"),
    ] {
        let answer = gateway.send(&preflight(path, SPA)).expect(204);
        assert_eq!(answer.header(FIELDS[0]), Some(SPA), "{path}");
        assert_eq!(answer.header(FIELDS[1]), Some("true"), "{path}");
        assert_eq!(answer.header(FIELDS[2]), Some(methods), "{path}");
        assert_eq!(
            answer.header(FIELDS[3]),
            Some("content-type, authorization"),
            "{path}"
        );
        assert_eq!(answer.header(FIELDS[4]), Some("600"), "{path}");
        assert_eq!(answer.header(FIELDS[5]), None, "{path}");
        assert_eq!(answer.header("vary"), Some("origin"), "{path}");
        // Bad credentials play no part.
        let with_token = preflight(path, SPA).header("Authorization", "Bearer nonsense");
        gateway.send(&with_token).expect(204);
        for origin in OTHERS {
            let refused = gateway.send(&preflight(path, origin)).expect(405);
            assert_closed(&refused, &format!("{path} {origin}"));
        }
        let twice = preflight(path, SPA).header("Origin", SPA);
        assert_closed(&gateway.send(&twice).expect(405), path);
        let plain = Request::new("OPTIONS", path)
            .host("localhost")
            .header("Origin", SPA);
        assert_readable(&gateway.send(&plain).expect(405), SPA, path);
    }
    for (path, status) in [
        ("/auth/password", 405),
        ("/auth/sessions", 405),
        ("/auth/sessions/x", 405),
        ("/auth/sessions/x/end", 405),
        ("/auth/continue", 405),
        ("/auth", 405),
        ("/auth/logo", 405),
        ("/auth/api-keys", 404),
        ("/auth/factors", 404),
        ("/auth/admin/users", 404),
        ("/auth/LOGIN", 404),
        ("/.well-known/jwks.json", 405),
        ("/x", 401),
    ] {
        let refused = gateway.send(&preflight(path, SPA)).expect(status);
        assert_closed(&refused, path);
    }
    // A route without credentials leaves it to the app.
    assert_closed(&gateway.send(&preflight("/public/x", SPA)).expect(200), "the app");
    assert_eq!(app.count(), 1);
}

#[test]
fn every_answer_of_its_endpoints_is_readable_for_a_listed_origin() {
    let app = App::start();
    let setup = sign_in_setup(&app, LISTED);
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    let client = gateway.sign_in_client(ALICE);
    let token = client["accessToken"].as_str().unwrap();
    let wrong = json!({"email": ALICE, "password": "wrong"});
    let malformed = || post_json("/auth/login", &json!([]));
    let good = || post_json("/auth/login", &json!({"email": ALICE, "password": PASSWORD}));
    let refresh = || post_json("/auth/refresh", &json!({"refreshToken": "made up"}));
    let me = || Request::get("/auth/me").host("localhost");
    let elsewhere = || {
        Request::post("/auth/login", "email=a&password=b")
            .host("other.test")
            .header("Content-Type", "application/x-www-form-urlencoded")
    };
    // The name, the request, and the status for a listed origin, for an unlisted one, and whether the listed one reads it.
    let table: Vec<(&str, Request, u16, u16, bool)> = vec![
        ("sign in", good(), 200, 403, true),
        ("wrong password", post_json("/auth/login", &wrong), 401, 403, true),
        ("malformed", malformed(), 400, 403, true),
        ("another host", elsewhere(), 403, 403, true),
        (
            "registration is off",
            post_json("/auth/register", &wrong),
            404,
            403,
            true,
        ),
        ("made-up refresh token", refresh(), 401, 403, true),
        (
            "nothing to sign out",
            post_json("/auth/logout", &json!({})),
            401,
            403,
            true,
        ),
        ("me without credentials", me(), 401, 401, true),
        ("me by token", me().bearer(token), 200, 200, true),
        ("me by cookie", me().header("Cookie", &cookie), 200, 200, true),
        ("me by a bad token", me().bearer("nonsense"), 401, 401, true),
        (
            "another method",
            Request::new("PUT", "/auth/me").host("localhost"),
            405,
            405,
            true,
        ),
        (
            "odd path",
            Request::get("/auth/me;x").host("localhost"),
            400,
            400,
            true,
        ),
        (
            "password page",
            Request::get("/auth/password")
                .host("localhost")
                .header("Cookie", &cookie),
            200,
            200,
            false,
        ),
        (
            "change of the password",
            post_json("/auth/password", &json!({})).header("Cookie", &cookie),
            403,
            403,
            false,
        ),
        (
            "change of the password by token",
            post_json("/auth/password", &json!({})).bearer(token),
            403,
            403,
            false,
        ),
        (
            "sessions",
            Request::get("/auth/sessions")
                .host("localhost")
                .header("Cookie", &cookie),
            200,
            200,
            false,
        ),
        (
            "end of a session",
            Request::new("DELETE", "/auth/sessions/x")
                .host("localhost")
                .header("Cookie", &cookie),
            403,
            403,
            false,
        ),
        (
            "a route",
            Request::post("/x", "")
                .host("localhost")
                .header("Cookie", &cookie),
            403,
            403,
            false,
        ),
        (
            "an app",
            Request::get("/public/x").host("localhost"),
            200,
            200,
            false,
        ),
    ];
    for (name, request, listed, unlisted, is_read) in &table {
        for site in ["same-site", "cross-site", ""] {
            let from = |origin: &str| {
                let request = request.clone().header("Origin", origin);
                gateway.send(&if site.is_empty() {
                    request
                } else {
                    request.header("Sec-Fetch-Site", site)
                })
            };
            let answer = from(SPA);
            assert_eq!(answer.status, *listed, "{name} {site:?}");
            if *is_read {
                assert_readable(&answer, SPA, name);
            } else {
                assert_closed(&answer, name);
            }
            for origin in OTHERS.iter().filter(|origin| !origin.is_empty()) {
                let answer = from(origin);
                assert_eq!(answer.status, *unlisted, "{name} {site:?} {origin}");
                assert_closed(&answer, name);
            }
        }
        assert_closed(&gateway.send(request), name);
    }
}

#[test]
fn listed_origin_reads_when_to_try_again() {
    let app = App::start();
    let setup = sign_in_setup(&app, LISTED);
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let attempt =
        post_json("/auth/login", &json!({"email": ALICE, "password": "wrong"})).header("Origin", SPA);
    let throttled = (0..100)
        .map(|_| gateway.send(&attempt))
        .find(|answer| answer.status == 429)
        .expect("attempts are limited");
    assert_readable(&throttled, SPA, "429");
    assert!(throttled.header("retry-after").is_some());
    assert!(throttled.header("x-request-id").is_some());
}

#[test]
fn without_origins_every_other_origin_is_refused() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, "");
    assert_closed(
        &gateway.send(&preflight("/auth/login", SPA)).expect(405),
        "preflight",
    );
    let login = post_json("/auth/login", &json!({})).header("Origin", SPA);
    assert_closed(&gateway.send(&login).expect(403), "login");
}

// --- same_site = "none"

const HTTPS_SPA: &str = "https://spa.other.example";

/// A gateway at `https://app.example.com`, behind a proxy on this machine that ends TLS.
fn https_setup(app: &App, session: &str) -> Setup {
    Setup::new(&before(
        app,
        &format!(
            "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.example.com\"\n[password]\n[session]\n\
             {session}{ROUTES}"
        ),
    ))
}

fn at_home(request: Request) -> Request {
    request.host("app.example.com")
}

/// Signs a browser in; the session cookie as `name=value`, and the whole `Set-Cookie`.
#[track_caller]
fn sign_in_over_https(gateway: &Gateway) -> (String, String) {
    let body = form(&[("email", ALICE), ("password", PASSWORD)]);
    let request = at_home(Request::post("/auth/login", body))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Accept", "text/html")
        .header("Origin", "https://app.example.com")
        .header("Sec-Fetch-Site", "same-origin")
        .header("Sec-Fetch-Dest", "document");
    let set = gateway
        .send(&request)
        .expect(303)
        .header("set-cookie")
        .unwrap()
        .to_owned();
    (set.split(';').next().unwrap().to_owned(), set)
}

#[test]
fn cookie_for_all_sites_counts_no_further_than_lax() {
    let app = App::start();
    let none = "same_site = \"none\"\norigins = [\"https://spa.other.example\"]\n";
    let setup = https_setup(&app, none);
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let (cookie, set) = sign_in_over_https(&gateway);
    assert!(
        set.ends_with("; Path=/; HttpOnly; SameSite=None; Max-Age=604800; Secure"),
        "{set}"
    );
    const EVIL: &str = "https://evil.example";
    // The name, method, fields, and the status on a route, and at `/auth/me`.
    type Attack = (
        &'static str,
        &'static str,
        &'static [(&'static str, &'static str)],
        u16,
    );
    let table: [Attack; 20] = [
        ("a program", "GET", &[], 200),
        ("typed address", "GET", &[("Sec-Fetch-Site", "none")], 200),
        ("own page", "GET", &[("Sec-Fetch-Site", "same-origin")], 200),
        ("page of the site", "GET", &[("Sec-Fetch-Site", "same-site")], 200),
        (
            "own page, old browser",
            "GET",
            &[("Origin", "https://app.example.com")],
            200,
        ),
        (
            "listed",
            "GET",
            &[("Sec-Fetch-Site", "cross-site"), ("Origin", HTTPS_SPA)],
            200,
        ),
        ("listed, old browser", "GET", &[("Origin", HTTPS_SPA)], 200),
        (
            "link on another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ],
            200,
        ),
        (
            "frame on another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "iframe"),
            ],
            302,
        ),
        (
            "image on another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "no-cors"),
                ("Sec-Fetch-Dest", "image"),
            ],
            401,
        ),
        (
            "script on another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "no-cors"),
                ("Sec-Fetch-Dest", "script"),
            ],
            401,
        ),
        (
            "fetch of another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "cors"),
                ("Origin", EVIL),
            ],
            401,
        ),
        (
            "look-alike of the listed one",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Origin", "https://spa.other.example.evil.example"),
            ],
            401,
        ),
        (
            "a second origin",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Origin", HTTPS_SPA),
                ("Origin", EVIL),
            ],
            401,
        ),
        ("old browser, another site", "GET", &[("Origin", EVIL)], 401),
        ("old browser, sandboxed page", "GET", &[("Origin", "null")], 401),
        ("unknown word", "GET", &[("Sec-Fetch-Site", "sideways")], 401),
        (
            "two words",
            "GET",
            &[
                ("Sec-Fetch-Site", "same-origin"),
                ("Sec-Fetch-Site", "cross-site"),
            ],
            401,
        ),
        (
            "HEAD that calls itself a navigation",
            "HEAD",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ],
            302,
        ),
        (
            "WebSocket of another site",
            "GET",
            &[
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "websocket"),
                ("Sec-Fetch-Dest", "websocket"),
                ("Origin", EVIL),
            ],
            401,
        ),
    ];
    for (name, method, fields, status) in table {
        for path in ["/x", "/auth/me"] {
            let mut request = at_home(Request::new(method, path)).header("Cookie", &cookie);
            let mut told = vec![("Host", "app.example.com"), ("Cookie", cookie.as_str())];
            for (field, value) in fields {
                request = request.header(field, value);
                told.push((field, value));
            }
            let answer = gateway.send(&request);
            assert_eq!(answer.status, status, "{name} {path}");
            assert_eq!(
                answer.header("set-cookie"),
                None,
                "{name} {path}: ignored, not cleared"
            );
            let said = gateway.explain(method, path, &told);
            let expected = if status == 200 { Value::Null } else { json!(status) };
            assert_eq!(said["status"], expected, "{name} {path}: {said}");
        }
    }
    // On a route that needs no caller it is anonymous, and a form of another site is told to sign in.
    let image = at_home(Request::get("/maybe/x"))
        .header("Cookie", &cookie)
        .header("Sec-Fetch-Site", "cross-site");
    gateway.send(&image).expect(200);
    assert_eq!(app.last().header("x-auth-user"), None);
    assert_eq!(app.last().header("cookie"), None);
    let attack = |path: &str| {
        at_home(Request::post(path, ""))
            .header("Cookie", &cookie)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Origin", EVIL)
            .header("Sec-Fetch-Site", "cross-site")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document")
    };
    gateway.send(&attack("/x")).expect(401);
    gateway.send(&attack("/auth/logout")).expect(403);
    // A listed origin changes nothing in an app, and may sign out.
    let listed = |path: &str| {
        at_home(post_json(path, &json!({})))
            .header("Cookie", &cookie)
            .header("Origin", HTTPS_SPA)
            .header("Sec-Fetch-Site", "cross-site")
    };
    gateway.send(&listed("/x")).expect(403);
    let out = gateway.send(&listed("/auth/logout")).expect(200);
    let cleared = values(&out.fields, "set-cookie");
    assert!(
        cleared.iter().any(|set| set.contains("SameSite=None")),
        "{cleared:?}"
    );
    gateway
        .send(&at_home(Request::get("/x")).header("Cookie", &cookie))
        .expect(401);
}

#[test]
fn under_lax_the_browser_alone_keeps_the_cookie_back() {
    let app = App::start();
    let setup = https_setup(&app, "");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let (cookie, set) = sign_in_over_https(&gateway);
    assert!(set.contains("; SameSite=Lax;"), "{set}");
    let request = at_home(Request::get("/x"))
        .header("Cookie", &cookie)
        .header("Sec-Fetch-Site", "cross-site");
    gateway.send(&request).expect(200);
}

// --- refresh_cookie = true

const REFRESH: &str = "passgate-refresh";

/// A gateway with the cookie, and Alice.
fn refresh_gateway(app: &App) -> Gateway {
    let setup = sign_in_setup(
        app,
        "[session]\norigins = [\"http://localhost:5173\"]\nrefresh_cookie = true\n",
    );
    setup.add_account(ALICE, &[]);
    setup.start()
}

/// The refresh cookie that an answer sets, as `name=value`, and the whole field.
#[track_caller]
fn refresh_cookie(answer: &Response) -> (String, String) {
    let set = values(&answer.fields, "set-cookie");
    let [set] = set[..] else {
        panic!("{} cookies: {answer:?}", set.len())
    };
    (set.split(';').next().unwrap().to_owned(), set.to_owned())
}

#[track_caller]
fn assert_cleared(answer: &Response) {
    let cleared = format!("{REFRESH}=; Path=/auth/refresh; HttpOnly; SameSite=Strict; Max-Age=0");
    assert!(
        values(&answer.fields, "set-cookie").contains(&cleared.as_str()),
        "{answer:?}"
    );
}

fn login(origin: &str) -> Request {
    post_json("/auth/login", &json!({"email": ALICE, "password": PASSWORD})).header("Origin", origin)
}

fn refresh(cookie: &str) -> Request {
    Request::new("POST", "/auth/refresh")
        .host("localhost")
        .header("Content-Length", "0")
        .header("Origin", SPA)
        .header("Sec-Fetch-Site", "same-site")
        .header("Cookie", cookie)
}

#[test]
fn refresh_token_is_in_a_cookie_and_rotates_there() {
    let app = App::start();
    let gateway = refresh_gateway(&app);
    let signed_in = gateway.send(&login(SPA)).expect(200);
    let body = signed_in.json();
    assert_eq!(body["refreshToken"], Value::Null);
    assert_eq!(body["tokenType"], "Bearer");
    let (first, set) = refresh_cookie(&signed_in);
    assert!(first.starts_with("passgate-refresh="), "{first}");
    assert!(
        set.ends_with("; Path=/auth/refresh; HttpOnly; SameSite=Strict; Max-Age=604800"),
        "{set}"
    );
    let mut cookie = first.clone();
    for origin in [SPA, "http://localhost"] {
        let request = Request::post("/auth/refresh", "")
            .host("localhost")
            .header("Origin", origin)
            .header("Cookie", &format!("theme=dark; {cookie}"));
        let answer = gateway.send(&request).expect(200);
        assert_eq!(answer.json()["refreshToken"], Value::Null);
        let token = answer.json()["accessToken"].as_str().unwrap().to_owned();
        gateway.get_as(&token, "/x").expect(200);
        let next = refresh_cookie(&answer).0;
        assert_ne!(next, cookie);
        cookie = next;
    }
    // The first one was spent twice over: its use ends the family, and its cookie goes.
    let stolen = gateway.send(&refresh(&first)).expect(401);
    assert_cleared(&stolen);
    assert_readable(&stolen, SPA, "theft");
    assert_eq!(gateway.log_of(&stolen)["reason"], "refresh-reused");
    assert_cleared(&gateway.send(&refresh(&cookie)).expect(401));
    let token = body["accessToken"].as_str().unwrap();
    gateway.get_as(token, "/x").expect(401);
}

#[test]
fn refresh_cookie_has_one_value_one_place_and_a_known_origin() {
    let app = App::start();
    let gateway = refresh_gateway(&app);
    let cookie = refresh_cookie(&gateway.send(&login(SPA)).expect(200)).0;
    let other = refresh_cookie(&gateway.send(&login(SPA)).expect(200)).0;
    let value = cookie.split_once('=').unwrap().1.to_owned();
    let bare = || {
        Request::post("/auth/refresh", "")
            .host("localhost")
            .header("Cookie", &cookie)
    };
    let both = post_json("/auth/refresh", &json!({"refreshToken": value}))
        .header("Origin", SPA)
        .header("Cookie", &cookie);
    let in_lines = refresh(&cookie).header("Cookie", &other);
    let nothing = Request::post("/auth/refresh", "")
        .host("localhost")
        .header("Origin", SPA);
    for (name, request, status, reason) in [
        (
            "two cookies",
            refresh(&format!("{cookie}; {other}")),
            400,
            "credential-repeated",
        ),
        (
            "the same twice",
            refresh(&format!("{cookie}; {cookie}")),
            400,
            "credential-repeated",
        ),
        ("two lines", in_lines, 400, "credential-repeated"),
        ("cookie and body", both, 400, "credential-repeated"),
        ("no origin", bare(), 403, "cross-site"),
        (
            "no origin, own page",
            bare().header("Sec-Fetch-Site", "same-origin"),
            403,
            "cross-site",
        ),
        ("null", bare().header("Origin", "null"), 403, "cross-site"),
        (
            "an origin that its browser calls our own",
            bare()
                .header("Origin", "http://evil.example")
                .header("Sec-Fetch-Site", "same-origin"),
            403,
            "cross-site",
        ),
        (
            "look-alike",
            bare().header("Origin", "http://localhost:5173.evil.example"),
            403,
            "cross-site",
        ),
        (
            "other port",
            bare().header("Origin", "http://localhost:5174"),
            403,
            "cross-site",
        ),
        (
            "other scheme",
            bare().header("Origin", "https://localhost"),
            403,
            "cross-site",
        ),
        (
            "two origins",
            bare().header("Origin", SPA).header("Origin", SPA),
            403,
            "cross-site",
        ),
        ("nothing", nothing, 401, "credential-missing"),
        (
            "an empty one",
            refresh("passgate-refresh="),
            401,
            "refresh-refused",
        ),
        (
            "a made-up one",
            refresh("passgate-refresh=made-up"),
            401,
            "refresh-refused",
        ),
        (
            "a name on https",
            refresh(&format!("__Secure-{cookie}")),
            401,
            "credential-missing",
        ),
    ] {
        let answer = gateway.send(&request);
        assert_eq!(answer.status, status, "{name}");
        assert_eq!(gateway.log_of(&answer)["reason"], reason, "{name}");
        if reason == "refresh-refused" {
            assert_cleared(&answer);
        } else {
            assert_eq!(answer.header("set-cookie"), None, "{name}");
        }
    }
    // None of that has spent it. A token in the body is answered in the body.
    let answer = gateway.send(&refresh(&cookie)).expect(200);
    let next = refresh_cookie(&answer).0;
    let next = next.split_once('=').unwrap().1;
    let by_body = gateway
        .send(&post_json("/auth/refresh", &json!({"refreshToken": next})))
        .expect(200);
    assert!(by_body.json()["refreshToken"].is_string());
    assert_eq!(by_body.header("set-cookie"), None);
}

#[test]
fn retry_of_a_refresh_by_cookie_gets_the_same_cookie() {
    let app = App::start();
    let gateway = refresh_gateway(&app);
    let cookie = refresh_cookie(&gateway.send(&login(SPA)).expect(200)).0;
    let [one, other] = [(); 2].map(|()| refresh_cookie(&gateway.send(&refresh(&cookie)).expect(200)).0);
    assert_eq!(one, other);
}

#[test]
fn logout_clears_the_refresh_cookie() {
    let app = App::start();
    let gateway = refresh_gateway(&app);
    let signed_in = gateway.send(&login(SPA)).expect(200);
    let cookie = refresh_cookie(&signed_in).0;
    let body = signed_in.json();
    let token = body["accessToken"].as_str().unwrap();
    let logout = || {
        Request::post("/auth/logout", "")
            .host("localhost")
            .header("Origin", SPA)
            .header("Sec-Fetch-Site", "same-site")
    };
    let out = gateway.send(&logout().bearer(token)).expect(200);
    assert_cleared(&out);
    assert_readable(&out, SPA, "logout");
    gateway.send(&refresh(&cookie)).expect(401);
    gateway.get_as(token, "/x").expect(401);
    // Where there is nothing to end, the cookie goes all the same; but not for a page of another site.
    assert_cleared(&gateway.send(&logout()).expect(401));
    let evil = Request::post("/auth/logout", "")
        .host("localhost")
        .header("Origin", "http://evil.example");
    assert_eq!(gateway.send(&evil).expect(403).header("set-cookie"), None);
    assert_cleared(&gateway.send(&post_form("/auth/logout", &[])).expect(303));
}

#[test]
fn apps_neither_see_nor_set_the_refresh_cookie() {
    let app = App::answering(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: passgate-refresh=planted; Path=/auth/refresh\r\n\
         Set-Cookie: theme=dark\r\n\r\n",
    );
    let gateway = refresh_gateway(&app);
    let cookie = refresh_cookie(&gateway.send(&login(SPA)).expect(200)).0;
    let answer = gateway
        .get_with(&format!("a=1; {cookie}; b=2"), "/public/x")
        .expect(200);
    assert_eq!(values(&answer.fields, "set-cookie"), ["theme=dark"]);
    assert_eq!(app.only().header("cookie"), Some("a=1; b=2"));
}

#[test]
fn over_https_the_refresh_cookie_is_secure() {
    let app = App::start();
    let setup = https_setup(&app, "refresh_cookie = true\n");
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let request = at_home(post_json(
        "/auth/login",
        &json!({"email": ALICE, "password": PASSWORD}),
    ));
    let (cookie, set) = refresh_cookie(&gateway.send(&request).expect(200));
    assert!(cookie.starts_with("__Secure-passgate-refresh="), "{cookie}");
    assert!(
        set.ends_with("; Path=/auth/refresh; HttpOnly; SameSite=Strict; Max-Age=604800; Secure"),
        "{set}"
    );
    let own = at_home(Request::post("/auth/refresh", ""))
        .header("Origin", "https://app.example.com")
        .header("Cookie", &cookie);
    gateway.send(&own).expect(200);
    let seen = at_home(Request::get("/public/x")).header("Cookie", &cookie);
    gateway.send(&seen).expect(200);
    assert_eq!(app.only().header("cookie"), None);
}

#[test]
fn without_the_key_a_refresh_cookie_is_not_read() {
    let app = App::start();
    let setup = sign_in_setup(&app, LISTED);
    setup.add_account(ALICE, &[]);
    let gateway = setup.start();
    let client = gateway.sign_in_client(ALICE);
    let token = client["refreshToken"].as_str().unwrap();
    gateway.send(&refresh(&format!("{REFRESH}={token}"))).expect(400);
}
