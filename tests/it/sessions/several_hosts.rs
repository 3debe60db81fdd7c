//! One sign-in for several hosts: what visitors see, and what attackers try. See docs/several-hosts.md.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::people::*;
use crate::support::*;

const ALICE: &str = "alice@example.com";
const MALLORY: &str = "mallory@example.com";

/// Sign-in at `login.test`; `reports.test`, an unrelated `shop.example` and all below `wild.test` are named.
const HOSTS: &str = r#"
[[routes]]
host = "reports.test"
path = "/*"
upstream = "app"
[[routes]]
host = "shop.example"
path = "/*"
upstream = "app"
[[routes]]
host = "*.wild.test"
path = "/*"
upstream = "app"
"#;

fn setup(app: &App, more: &str) -> Setup {
    let server = if more.contains("[server]") {
        String::new()
    } else {
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://login.test\"\n".to_owned()
    };
    let setup = Setup::new(&gateway::before(
        app,
        &format!("{server}[password]\n{more}{HOSTS}{ROUTES}"),
    ));
    setup.add_account(ALICE, &["user"]);
    setup.add_account(MALLORY, &["user"]);
    setup
}

/// A browser: cookies by host and not by port, as RFC 6265 has it, and redirects are followed.
struct Browser<'g> {
    gateway: &'g Gateway,
    jar: BTreeMap<String, BTreeMap<String, String>>,
    /// `host/path` of each request.
    trail: Vec<String>,
}

/// Where a browser has come to.
#[derive(Debug)]
struct Arrived {
    host: String,
    answer: Response,
}

impl<'g> Browser<'g> {
    fn new(gateway: &'g Gateway) -> Self {
        Self {
            gateway,
            jar: BTreeMap::new(),
            trail: Vec::new(),
        }
    }

    fn name(host: &str) -> String {
        host.split(':').next().unwrap().to_owned()
    }

    fn cookies(&self, host: &str) -> String {
        let jar = self.jar.get(&Self::name(host)).into_iter().flatten();
        jar.map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("; ")
    }

    /// The session cookie on a host, as `name=value`.
    fn session(&self, host: &str) -> Option<String> {
        let value = self.jar.get(host)?.get("__Host-session")?;
        Some(format!("__Host-session={value}"))
    }

    fn nonces(&self, host: &str) -> Vec<String> {
        let names = self.jar.get(host).into_iter().flat_map(BTreeMap::keys);
        names.filter(|name| name.contains("nonce")).cloned().collect()
    }

    /// Sends a request, and keeps the cookies of the answer.
    fn send(&mut self, host: &str, request: Request) -> Response {
        let cookies = self.cookies(host);
        let request = if cookies.is_empty() {
            request
        } else {
            request.header("Cookie", &cookies)
        };
        let answer = self.gateway.send(&request.host(host));
        for field in values(&answer.fields, "set-cookie") {
            let (pair, attributes) = field.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(
                name.starts_with("__Host-") && attributes.contains("Path=/;"),
                "{field}"
            );
            assert!(
                attributes.contains("; Secure") && attributes.contains("HttpOnly"),
                "{field}"
            );
            assert!(!attributes.contains("Domain"), "{field}");
            let jar = self.jar.entry(Self::name(host)).or_default();
            if attributes.contains("Max-Age=0") {
                jar.remove(name);
            } else {
                jar.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// One navigation, redirects not followed.
    fn step(&mut self, url: &str) -> Response {
        let (host, target) = parts(url);
        self.trail
            .push(format!("{host}{}", target.split('?').next().unwrap()));
        self.send(&host, navigate(&target))
    }

    /// A navigation with all its redirects.
    fn open(&mut self, url: &str) -> Arrived {
        let answer = self.step(url);
        self.follow(&parts(url).0, answer)
    }

    fn follow(&mut self, host: &str, mut answer: Response) -> Arrived {
        let mut host = host.to_owned();
        for _ in 0..10 {
            if !matches!(answer.status, 302 | 303) {
                return Arrived { host, answer };
            }
            let url = absolute(&host, answer.header("location").unwrap());
            host = parts(&url).0;
            answer = self.step(&url);
        }
        panic!("in a circle: {:?}", self.trail);
    }

    /// Fills in the form that is there.
    fn submit(&mut self, page: &Arrived, email: &str) -> Response {
        let html = page.answer.text();
        let mut fields = vec![
            ("email".to_owned(), email.to_owned()),
            ("password".to_owned(), PASSWORD.to_owned()),
        ];
        for name in ["return_to", "attempt"] {
            if let Some((_, rest)) = html.split_once(&format!("name=\"{name}\" value=\"")) {
                fields.push((
                    name.to_owned(),
                    rest.split('"').next().unwrap().replace("&amp;", "&"),
                ));
            }
        }
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        self.send(&page.host, form_request("/auth/login", &page.host, &fields))
    }

    /// Signs in on the way to a page.
    fn sign_in(&mut self, url: &str, email: &str) -> Arrived {
        let page = self.open(url);
        assert!(page.answer.text().contains("<form"), "{page:?}");
        let answer = self.submit(&page, email);
        self.follow(&page.host, answer.expect(303))
    }

    /// Goes as far as the answer that holds the code: the URL with it, and the code.
    fn code(&mut self, url: &str) -> (String, String) {
        let mut host = parts(url).0;
        let mut answer = self.step(url);
        loop {
            assert!(matches!(answer.status, 302 | 303), "{answer:?}");
            let next = absolute(&host, answer.header("location").unwrap());
            if let Some((_, code)) = next.split_once("/auth/continue?code=") {
                return (next.clone(), code.to_owned());
            }
            host = parts(&next).0;
            answer = self.step(&next);
        }
    }
}

/// Host with port, and target.
fn parts(url: &str) -> (String, String) {
    let rest = url
        .strip_prefix("https://")
        .unwrap_or_else(|| panic!("{url} is not https"));
    let end = rest.find('/').unwrap_or(rest.len());
    let target = &rest[end..];
    (
        rest[..end].to_owned(),
        if target.is_empty() {
            "/".to_owned()
        } else {
            target.to_owned()
        },
    )
}

fn absolute(host: &str, location: &str) -> String {
    if location.starts_with('/') {
        format!("https://{host}{location}")
    } else {
        location.to_owned()
    }
}

fn form_request(target: &str, host: &str, fields: &[(&str, &str)]) -> Request {
    Request::post(target, form(fields))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Accept", "text/html,application/xhtml+xml")
        .header("Origin", &format!("https://{host}"))
        .header("Sec-Fetch-Site", "same-origin")
        .header("Sec-Fetch-Dest", "document")
        .header("Sec-Fetch-Mode", "navigate")
}

fn token_of(cookie: &str) -> serde_json::Value {
    claims(cookie.split_once('=').unwrap().1)
}

// --- visitors

#[test]
fn who_signs_in_once_is_known_on_every_host_and_signed_out_on_all() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut browser = Browser::new(&gateway);

    let away = browser
        .step("https://reports.test/q1?year=2026&q=a%20b")
        .expect(302);
    assert_eq!(away.header("cache-control"), Some("no-store"));
    let location = away.header("location").unwrap();
    let back = "https%3A//reports.test/q1%3Fyear%3D2026%26q%3Da%2520b";
    assert!(
        location.starts_with(&format!(
            "https://login.test/auth/login?return_to={back}&attempt="
        )),
        "{location}"
    );
    let page = browser.follow("reports.test", away);
    assert_eq!((page.host.as_str(), page.answer.status), ("login.test", 200));
    assert_eq!(app.count(), 0);

    let signed_in = browser.submit(&page, ALICE).expect(303);
    assert_eq!(signed_in.header("cache-control"), Some("no-store"));
    let there = signed_in.header("location").unwrap().to_owned();
    assert!(
        there.starts_with("https://reports.test/auth/continue?code="),
        "nothing else goes along: {there}"
    );
    assert!(!there.contains('&'), "{there}");
    let landed = browser.step(&there).expect(303);
    assert_eq!(
        landed.header("location"),
        Some("/q1?year=2026&q=a%20b"),
        "a path alone"
    );
    assert_eq!(landed.header("cache-control"), Some("no-store"));
    assert_eq!(landed.header("referrer-policy"), Some("no-referrer"));
    let arrived = browser.follow("reports.test", landed);
    arrived.answer.expect(200);
    let seen = app.last();
    assert_eq!(
        (seen.header("host"), seen.header("x-auth-email")),
        (Some("reports.test"), Some(ALICE))
    );
    assert_eq!(seen.header("cookie"), None, "neither the session nor a nonce");
    assert_eq!(browser.nonces("reports.test"), [""; 0], "its nonce is gone");

    // On the others there is no page, be the domain another one and the port.
    for url in [
        "https://shop.example:8443/cart",
        "https://a.b.wild.test/",
        "https://login.test/x",
    ] {
        browser.trail.clear();
        let arrived = browser.open(url);
        assert_eq!(arrived.host, parts(url).0);
        arrived.answer.expect(200);
        assert_eq!(app.last().header("x-auth-email"), Some(ALICE), "{url}");
        let steps = if url.contains("login") { 1 } else { 4 };
        assert_eq!(browser.trail.len(), steps, "{:?}", browser.trail);
    }
    let hosts = ["login.test", "reports.test", "shop.example", "a.b.wild.test"];
    let tokens = hosts.map(|host| token_of(&browser.session(host).unwrap()));
    for (token, host) in tokens.iter().zip(hosts) {
        assert_eq!((&token["sid"], &token["host"]), (&tokens[0]["sid"], &json!(host)));
        let me = Request::get("/auth/me")
            .host(host)
            .header("Cookie", &browser.session(host).unwrap());
        assert_eq!(gateway.send(&me).expect(200).json()["email"], ALICE);
        let sessions = Request::get("/auth/sessions")
            .host(host)
            .header("Cookie", &browser.session(host).unwrap());
        assert_eq!(
            gateway.send(&sessions).expect(200).json()["sessions"]
                .as_array()
                .unwrap()
                .len(),
            1,
            "one session"
        );
        gateway
            .send(&Request::get("/.well-known/jwks.json").host(host))
            .expect(200);
    }

    let kept = browser.jar.clone();
    let out = browser
        .send(
            "shop.example:8443",
            form_request("/auth/logout", "shop.example:8443", &[]),
        )
        .expect(303);
    assert_eq!(
        out.header("location"),
        Some("https://login.test/auth/login?return_to=https%3A//shop.example%3A8443/")
    );
    assert_eq!(browser.session("shop.example"), None);
    let page = browser.follow("shop.example:8443", out);
    assert!(
        page.answer.text().contains("<form"),
        "not signed in again at once"
    );
    let before = app.count();
    for host in hosts {
        // With the cookies of before, as a thief would.
        let mut browser = Browser {
            gateway: &gateway,
            jar: kept.clone(),
            trail: Vec::new(),
        };
        let page = browser.open(&format!("https://{host}/x"));
        assert_eq!(
            (page.host.as_str(), page.answer.status),
            ("login.test", 200),
            "{host}"
        );
        assert_eq!(browser.session(host), None, "and it is cleared");
        let me = Request::get("/auth/me")
            .host(host)
            .header("Cookie", kept[host].iter().next().unwrap().1);
        gateway.send(&me).expect(401);
    }
    assert_eq!(app.count(), before);
    // And in again, from where the visitor was.
    let answer = browser.submit(&page, ALICE).expect(303);
    let arrived = browser.follow("login.test", answer);
    assert_eq!(arrived.host, "shop.example:8443");
    arrived.answer.expect(200);
}

#[test]
fn what_is_asked_by_no_visitor_of_pages_begins_no_attempt() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let get = || Request::get("/x").host("reports.test");
    for (name, request, status) in [
        ("a program", get(), 401),
        (
            "fetch",
            get()
                .header("Accept", "text/html")
                .header("Sec-Fetch-Mode", "cors")
                .header("Sec-Fetch-Dest", "empty"),
            401,
        ),
        (
            "an image",
            get()
                .header("Accept", "image/*")
                .header("Sec-Fetch-Dest", "image"),
            401,
        ),
        (
            "a form",
            form_request("/x", "reports.test", &[]).host("reports.test"),
            401,
        ),
        (
            "a page of our own",
            navigate("/auth/sessions").host("reports.test"),
            302,
        ),
        (
            "the sign-in page",
            navigate("/auth/login?return_to=/y").host("reports.test"),
            303,
        ),
    ] {
        let answer = gateway.send(&request);
        assert_eq!(answer.status, status, "{name}");
        let is_attempt = answer
            .header("location")
            .is_some_and(|location| location.contains("&attempt="));
        assert_eq!(
            (is_attempt, values(&answer.fields, "set-cookie").len()),
            match status {
                401 => (false, 0),
                _ => (true, 1),
            },
            "{name}"
        );
    }
    // On the host of `public_url`, and where no route names the host, nothing is as it was not.
    for host in ["login.test", "other.test"] {
        let away = gateway.send(&navigate("/x?y").host(host)).expect(302);
        assert_eq!(
            away.header("location"),
            Some("/auth/login?return_to=/x%3Fy"),
            "{host}"
        );
        assert_eq!(values(&away.fields, "set-cookie"), [""; 0], "{host}");
    }
}

#[test]
fn two_tabs_and_five_attempts_are_fine_in_any_order_and_more_push_out_the_oldest() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut browser = Browser::new(&gateway);
    let pages: Vec<_> = (0..7)
        .map(|tab| {
            // Names of nonces are in the order of seconds; within one second, of chance.
            let page = browser.open(&format!("https://reports.test/tab/{tab}"));
            assert!(browser.nonces("reports.test").len() <= 5, "{:?}", browser.jar);
            page
        })
        .collect();
    assert_eq!(browser.nonces("reports.test").len(), 5);
    let mut landed = Vec::new();
    for (tab, page) in pages.iter().enumerate().rev() {
        let answer = browser.submit(page, ALICE).expect(303);
        let arrived = browser.follow("login.test", answer);
        if arrived.answer.status == 200 {
            assert_eq!(arrived.host, "reports.test");
            assert_eq!(app.last().target(), format!("/tab/{tab}"));
            landed.push(tab);
        } else {
            assert_eq!(arrived.answer.status, 400);
        }
    }
    assert_eq!(landed.len(), 5, "{landed:?}");
    assert_eq!(landed[0], 6, "the last one is there in any case");
    assert_eq!(browser.nonces("reports.test"), [""; 0]);
}

#[test]
fn back_to_the_sign_in_page_leads_on_again_and_gives_nothing() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let (mut alice, mut mallory) = (Browser::new(&gateway), Browser::new(&gateway));
    let attempt = alice
        .step("https://reports.test/x?y")
        .expect(302)
        .header("location")
        .unwrap()
        .to_owned();
    let page = alice.open(&attempt);
    let answer = alice.submit(&page, ALICE).expect(303);
    alice.follow("login.test", answer).answer.expect(200);
    // The attempt is over, and its nonce gone.
    let again = alice
        .step(&attempt)
        .expect(303)
        .header("location")
        .unwrap()
        .to_owned();
    let landed = alice.step(&again).expect(303);
    assert_eq!(landed.header("location"), Some("/x?y"));
    assert_eq!(values(&landed.fields, "set-cookie"), [""; 0]);
    assert_eq!(landed.header("referrer-policy"), Some("no-referrer"));
    // Of another session it is still nothing.
    mallory
        .sign_in("https://login.test/x", MALLORY)
        .answer
        .expect(200);
    let foreign = mallory
        .step(&attempt)
        .expect(303)
        .header("location")
        .unwrap()
        .to_owned();
    assert_refused(&gateway, &alice.step(&foreign), "another session's");
}

#[test]
fn a_renewed_cookie_is_still_for_its_host() {
    let app = App::start();
    let gateway = setup(&app, "[session]\ntoken_lifetime = \"1s\"\n").start();
    let mut browser = Browser::new(&gateway);
    browser
        .sign_in("https://reports.test/x", ALICE)
        .answer
        .expect(200);
    browser.open("https://shop.example/x").answer.expect(200);
    let first = |browser: &Browser<'_>| {
        ["login.test", "reports.test", "shop.example"].map(|host| browser.session(host))
    };
    let before = first(&browser);
    eventually("all were renewed", || {
        for host in ["login.test", "reports.test", "shop.example"] {
            browser.step(&format!("https://{host}/x")).expect(200);
            assert_eq!(token_of(&browser.session(host).unwrap())["host"], host);
        }
        first(&browser).iter().zip(&before).all(|(now, then)| now != then)
    });
}

#[test]
fn the_sign_in_page_of_a_host_leads_to_public_url_with_what_it_was_asked_for() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let login = "https://login.test/auth/login?return_to=https%3A//";
    for (query, expected, is_attempt) in [
        ("", format!("{login}reports.test/&attempt="), true),
        (
            "?return_to=/y%3Fz",
            format!("{login}reports.test/y%3Fz&attempt="),
            true,
        ),
        (
            "?return_to=https://evil.example/",
            format!("{login}reports.test/&attempt="),
            true,
        ),
        (
            "?return_to=https://shop.example/y",
            format!("{login}shop.example/y"),
            false,
        ),
        (
            "?return_to=https://login.test/y",
            format!("{login}login.test/y"),
            false,
        ),
    ] {
        let answer = gateway
            .send(&navigate(&format!("/auth/login{query}")).host("reports.test"))
            .expect(303);
        let location = answer.header("location").unwrap();
        assert!(location.starts_with(&expected), "{query}: {location}");
        assert_eq!(location.contains("attempt="), is_attempt, "{query}");
        assert_eq!(
            values(&answer.fields, "set-cookie").len(),
            usize::from(is_attempt),
            "{query}"
        );
    }
}

#[test]
fn host_that_keeps_no_session_cookie_stops_at_a_page() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut browser = Browser::new(&gateway);
    browser.sign_in("https://login.test/", ALICE);
    let mut codes = 0;
    let mut url = "https://reports.test/2026?a=b".to_owned();
    let answer = loop {
        let answer = browser.step(&url);
        if let Some(jar) = browser.jar.get_mut("reports.test") {
            jar.remove("__Host-session");
        }
        if !matches!(answer.status, 302 | 303) {
            break answer.expect(400);
        }
        codes += usize::from(url.contains("/auth/continue?"));
        url = absolute(&parts(&url).0, answer.header("location").unwrap());
        assert!(codes <= 3, "{:?}", browser.trail);
    };
    assert_eq!((codes, parts(&url).0.as_str()), (3, "login.test"));
    let page = answer.text();
    assert!(page.contains("href=\"https://reports.test/2026?a=b\""), "{page}");
    assert!(page.contains("the cookies of reports.test"), "{page}");
    // A browser that keeps it passes.
    let arrived = browser.open("https://reports.test/2026?a=b");
    assert_eq!(
        (arrived.host.as_str(), arrived.answer.status),
        ("reports.test", 200)
    );
}

#[test]
fn tabs_of_another_host_that_sign_in_at_once_are_no_loop() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut browser = Browser::new(&gateway);
    browser.sign_in("https://login.test/", ALICE);
    // Each tab is asked for before any of them has its cookie, and none of them has opened its page.
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(browser.code("https://reports.test/x").0);
    }
    for url in waiting {
        assert_eq!(browser.step(&url).status, 303);
    }
    assert_eq!(browser.open("https://reports.test/x").answer.status, 200);
}

// --- where there is no form

#[test]
fn on_a_host_or_scheme_that_cannot_keep_the_cookie_there_is_a_page_with_a_link_and_no_form() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://login.test\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    for (more, fields) in [
        ("", &[][..]),
        (server, &[("X-Forwarded-Proto", "https")]),
        (server, &[("X-Forwarded-Proto", "http")]),
    ] {
        let gateway = setup(&app, more).start();
        let is_plain = fields.contains(&("X-Forwarded-Proto", "http"));
        let with = |mut request: Request| {
            for (name, value) in fields {
                request = request.header(name, value);
            }
            request
        };
        for (host, target, link) in [
            (
                "login.test",
                "/auth/login?return_to=/x%3Fy",
                is_plain.then_some("https://login.test/auth/login?return_to=/x%3Fy"),
            ),
            (
                "other.test",
                "/auth/login?return_to=/x%3Fy",
                Some("https://login.test/auth/login?return_to=/x%3Fy"),
            ),
            (
                "other.test",
                "/auth/login?return_to=//evil.example",
                Some("https://login.test/auth/login"),
            ),
            (
                "login.test.evil.example",
                "/auth/login",
                Some("https://login.test/auth/login"),
            ),
            (
                "reports.test",
                "/auth/login?return_to=/x",
                is_plain.then_some("https://reports.test/auth/login?return_to=/x"),
            ),
        ] {
            let answer = gateway.send(&with(navigate(target).host(host)));
            let what = format!("{host} {target} {fields:?}");
            match link {
                None if host == "login.test" => {
                    assert!(answer.expect(200).text().contains("<form"), "{what}")
                }
                None => assert_eq!(answer.status, 303, "{what}"),
                Some(link) => {
                    let html = answer.expect(200).text();
                    assert!(
                        !html.contains("<form") && !html.contains("<input"),
                        "{what}\n{html}"
                    );
                    assert!(html.contains(&format!("href=\"{link}\"")), "{what}\n{html}");
                    assert!(
                        html.contains("Sign in at <bdi>https://login.test</bdi>"),
                        "{html}"
                    );
                }
            }
            // A form that is posted there makes no session.
            let form = [("email", ALICE), ("password", PASSWORD)];
            let posted = gateway.send(&with(form_request("/auth/login", host, &form).host(host)));
            let is_home = host == "login.test" && !is_plain;
            assert_eq!(posted.status, if is_home { 303 } else { 403 }, "{what}");
            assert_eq!(
                values(&posted.fields, "set-cookie").len(),
                usize::from(is_home),
                "{what}"
            );
            if !is_home {
                assert!(posted.text().contains("href=\"https://"), "{what}");
                assert_eq!(
                    gateway.log_line(|line| line["status"] == 403)["reason"],
                    "sign-in-elsewhere"
                );
            }
            // JSON does not care.
            let json = post_json("/auth/login", &json!({ "email": ALICE, "password": PASSWORD })).host(host);
            let tokens = gateway.send(&with(json)).expect(200).json();
            let bearer = tokens["accessToken"].as_str().unwrap();
            gateway
                .send(&with(Request::get("/auth/me").host(host).bearer(bearer)))
                .expect(200);
        }
        let listed = gateway
            .command(["session", "list", ALICE, "--format", "json"])
            .expect(0)
            .json();
        let browsers = listed
            .as_array()
            .unwrap()
            .iter()
            .filter(|session| session["kind"] == "browser")
            .count();
        assert_eq!(browsers, usize::from(!is_plain), "{listed}");
    }
}

#[test]
fn a_peer_that_is_not_listed_and_forwards_does_not_hide_the_form() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    for (name, value) in [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "192.0.2.1")] {
        let page = gateway
            .send(&navigate("/auth/login").host("login.test").header(name, value))
            .expect(200);
        assert!(page.text().contains("<form"), "{name}");
        gateway
            .send(&navigate("/auth/login").host("reports.test").header(name, value))
            .expect(303);
        let other = gateway
            .send(&navigate("/auth/login").host("other.test").header(name, value))
            .expect(200);
        assert!(!other.text().contains("<form"), "{name}");
    }
}

#[test]
fn registering_and_changing_the_password_are_at_public_url_too() {
    let app = App::start();
    let gateway = setup(&app, "registration = true\n").start();
    let mut browser = Browser::new(&gateway);
    browser
        .sign_in("https://reports.test/x", ALICE)
        .answer
        .expect(200);
    for host in ["reports.test", "other.test"] {
        let page = browser
            .open(&format!("https://{host}/auth/register"))
            .answer
            .expect(200)
            .text();
        assert!(
            page.contains("href=\"https://login.test/auth/register\"") && !page.contains("<form"),
            "{page}"
        );
        let fields = [("email", "carol@example.com"), ("password", PASSWORD)];
        browser
            .send(host, form_request("/auth/register", host, &fields))
            .expect(403);
    }
    gateway.command(["user", "show", "carol@example.com"]).expect(2);
    let page = browser
        .open("https://reports.test/auth/password")
        .answer
        .expect(200)
        .text();
    assert!(
        page.contains("href=\"https://login.test/auth/password\"") && !page.contains("<form"),
        "{page}"
    );
    let fields = [
        ("current_password", PASSWORD),
        ("new_password", "another long password"),
    ];
    browser
        .send(
            "reports.test",
            form_request("/auth/password", "reports.test", &fields),
        )
        .expect(403);
    let page = browser
        .open("https://login.test/auth/password")
        .answer
        .expect(200)
        .text();
    assert!(page.contains("<form"), "{page}");
    browser
        .send(
            "login.test",
            form_request("/auth/password", "login.test", &fields),
        )
        .expect(303);
    // The session of before is over everywhere, and the new one leads to the other hosts.
    browser.trail.clear();
    assert_eq!(
        browser.open("https://reports.test/x").answer.expect(200).status,
        200
    );
    assert_eq!(browser.trail.len(), 4, "{:?}", browser.trail);
}

// --- attackers

/// What comes of an attack with a code.
fn assert_refused(gateway: &Gateway, answer: &Response, what: &str) {
    assert_eq!(answer.status, 400, "{what}: {answer:?}");
    assert_eq!(values(&answer.fields, "set-cookie"), [""; 0], "{what}");
    assert_eq!(answer.header("location"), None, "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(
        gateway.log_line(|line| line["request_id"] == id)["reason"],
        "code-refused",
        "{what}"
    );
}

#[test]
fn a_code_is_good_once_in_its_browser_on_its_host_and_never_elsewhere() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut alice = Browser::new(&gateway);
    alice.sign_in("https://login.test/x", ALICE).answer.expect(200);
    type Attack = fn(&Gateway, &mut Browser<'_>, &str, &str) -> Response;
    let attacks: [(&str, Attack); 12] = [
        ("replay", |_, alice, url, _| {
            alice.step(url).expect(303);
            alice.step(url)
        }),
        ("another browser", |gateway, _, url, _| {
            Browser::new(gateway).step(url)
        }),
        (
            "another browser with an attempt of its own",
            |gateway, _, url, _| {
                let mut mallory = Browser::new(gateway);
                mallory.step("https://reports.test/x").expect(302);
                mallory.step(url)
            },
        ),
        (
            "a thief who copied the session of another host",
            |gateway, alice, url, _| {
                let mut mallory = Browser::new(gateway);
                mallory
                    .jar
                    .insert("reports.test".to_owned(), alice.jar["login.test"].clone());
                mallory.step(url)
            },
        ),
        ("another host", |_, alice, _, code| {
            alice.step("https://shop.example/x").expect(302);
            alice.step(&format!("https://shop.example/auth/continue?code={code}"))
        }),
        ("the nonce planted on another host", |_, alice, _, code| {
            let nonces = alice.jar["reports.test"].clone();
            alice.jar.insert("shop.example".to_owned(), nonces);
            alice.step(&format!("https://shop.example/auth/continue?code={code}"))
        }),
        ("another port", |_, alice, _, code| {
            alice.step(&format!("https://reports.test:8443/auth/continue?code={code}"))
        }),
        ("the host of public_url", |_, alice, _, code| {
            alice.step(&format!("https://login.test/auth/continue?code={code}"))
        }),
        ("a host below a wildcard", |_, alice, _, code| {
            alice.step(&format!("https://evil.wild.test/auth/continue?code={code}"))
        }),
        ("a host without a route", |_, alice, _, code| {
            alice.step(&format!("https://other.test/auth/continue?code={code}"))
        }),
        ("after signing out", |_, alice, url, _| {
            alice
                .send("login.test", form_request("/auth/logout", "login.test", &[]))
                .expect(303);
            alice.step(url)
        }),
        ("twice in one address", |_, alice, url, code| {
            alice.step(&format!("{url}&code={code}"))
        }),
    ];
    for (what, attack) in attacks {
        let mut browser = Browser {
            gateway: &gateway,
            jar: alice.jar.clone(),
            trail: Vec::new(),
        };
        if what == "after signing out" {
            browser.jar.clear();
            browser.sign_in("https://login.test/x", ALICE).answer.expect(200);
        }
        let (url, code) = browser.code("https://reports.test/secret-page");
        let answer = attack(&gateway, &mut browser, &url, &code);
        assert_refused(&gateway, &answer, what);
        assert!(
            !answer.text().contains("secret-page"),
            "{what}: where she was going is hers to know"
        );
        if !matches!(what, "replay" | "twice in one address") {
            // It is spent, also for her.
            browser
                .jar
                .entry("reports.test".to_owned())
                .or_default()
                .extend(alice.jar.get("reports.test").cloned().unwrap_or_default());
            assert_refused(&gateway, &browser.step(&url), what);
        }
    }
    assert_eq!(
        gateway
            .send(&navigate("/auth/continue").host("reports.test"))
            .status,
        400,
        "no code at all"
    );
    let (url, _) = alice.code("https://reports.test/x");
    let target = parts(&url).1;
    for method in ["HEAD", "POST", "PUT", "OPTIONS"] {
        let request = Request::new(method, &target)
            .host("reports.test")
            .header("Cookie", &alice.cookies("reports.test"));
        let answer = gateway.send(&request).expect(405);
        assert_eq!(answer.header("allow"), Some("GET"), "{method}");
    }
    // None of these parameters means anything.
    let more = "&host=shop.example&return_to=https://evil.example&nonce=x&session=y&attempt=z";
    let landed = alice.step(&format!("{url}{more}")).expect(303);
    assert_eq!(landed.header("location"), Some("/x"));
    // A stale address changes nothing for who is signed in.
    assert_refused(&gateway, &alice.step(&url), "stale");
    alice.step("https://reports.test/x").expect(200);
}

#[test]
fn of_many_that_present_one_code_at_once_one_gets_the_cookie() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut alice = Browser::new(&gateway);
    alice.sign_in("https://login.test/x", ALICE).answer.expect(200);
    for round in 0..5 {
        let (url, _) = alice.code(&format!("https://reports.test/x{round}"));
        let request = navigate(&parts(&url).1)
            .host("reports.test")
            .header("Cookie", &alice.cookies("reports.test"));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| gateway.send(&request).status))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(
            statuses.iter().filter(|status| **status == 303).count(),
            1,
            "{statuses:?}"
        );
        assert_eq!(
            statuses.iter().filter(|status| **status == 400).count(),
            7,
            "{statuses:?}"
        );
    }
}

#[test]
fn nobody_can_sign_a_visitor_in_as_somebody_else_or_have_their_code_sent() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let (mut alice, mut mallory) = (Browser::new(&gateway), Browser::new(&gateway));
    alice.sign_in("https://login.test/x", ALICE).answer.expect(200);
    mallory
        .sign_in("https://login.test/x", MALLORY)
        .answer
        .expect(200);

    // Mallory's code in Alice's browser, which has begun an attempt as well.
    let (url, _) = mallory.code("https://reports.test/x");
    alice.step("https://reports.test/x").expect(302);
    assert_refused(&gateway, &alice.step(&url), "login CSRF");
    assert_eq!(alice.session("reports.test"), None);

    // Mallory's attempt, opened by Alice: the code comes to Alice's browser, where it is good for nothing.
    let attempt = mallory
        .step("https://reports.test/y")
        .expect(302)
        .header("location")
        .unwrap()
        .to_owned();
    let before = alice.nonces("reports.test");
    let given = alice
        .step(&attempt)
        .expect(303)
        .header("location")
        .unwrap()
        .to_owned();
    assert!(
        given.starts_with("https://reports.test/auth/continue?code="),
        "{given}"
    );
    assert_refused(&gateway, &alice.step(&given), "a foreign attempt");
    assert_refused(&gateway, &mallory.step(&given), "and then it is spent");
    assert_eq!(alice.nonces("reports.test"), before, "her own attempt goes on");
    alice.open("https://reports.test/x").answer.expect(200);
    assert_eq!(app.last().header("x-auth-email"), Some(ALICE));
}

#[test]
fn a_return_address_that_no_route_names_gets_no_code_and_no_redirect() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut alice = Browser::new(&gateway);
    alice.sign_in("https://login.test/x", ALICE).answer.expect(200);
    let attempt = alice
        .step("https://reports.test/x")
        .expect(302)
        .header("location")
        .unwrap()
        .to_owned();
    let attempt = attempt.split_once("attempt=").unwrap().1.to_owned();
    for hostile in [
        "https://evil.example/",
        "https://other.test/",
        "https://wild.test/",
        "https://reports.test.evil.example/",
        "https://reports.test@evil.example/",
        "https://evil.example\\@reports.test/",
        "https://evil.example%23@reports.test/",
        "https://login.test:8443/x",
        "http://reports.test/x",
        "HTTPS://reports.test/x",
        "https:reports.test/x",
        "//reports.test/x",
        "\\\\reports.test/x",
        "https://reports.test//evil.example/",
        "https://reports.test/\\evil.example/",
        "https://reports.test/auth/login",
        "https://reports.test/auth/continue?code=x",
        "https://reports.test/x\r\nSet-Cookie: a=b",
        "javascript://reports.test/%0aalert(1)",
        "data:text/html,x",
        "",
    ] {
        let query = form(&[("return_to", hostile), ("attempt", &attempt)]);
        let page = alice
            .step(&format!("https://login.test/auth/login?{query}"))
            .expect(200);
        assert!(
            !page.text().contains("name=\"return_to\"") && !page.text().contains("name=\"attempt\""),
            "{hostile}"
        );
        let fields = [
            ("email", ALICE),
            ("password", PASSWORD),
            ("return_to", hostile),
            ("attempt", attempt.as_str()),
        ];
        let answer = alice
            .send("login.test", form_request("/auth/login", "login.test", &fields))
            .expect(303);
        assert_eq!(answer.header("location"), Some("/"), "{hostile}");
    }
    // An attempt that is none is left out: the host begins its own.
    for odd in [
        "",
        "x",
        "A".repeat(42).as_str(),
        "A".repeat(44).as_str(),
        "*".repeat(43).as_str(),
    ] {
        let query = form(&[("return_to", "https://reports.test/x"), ("attempt", odd)]);
        let page = alice
            .step(&format!("https://login.test/auth/login?{query}"))
            .expect(200);
        assert!(
            page.text().contains("<form") && !page.text().contains("name=\"attempt\""),
            "{odd}"
        );
        let fields = [
            ("email", ALICE),
            ("password", PASSWORD),
            ("return_to", "https://reports.test/x"),
            ("attempt", odd),
        ];
        let answer = alice
            .send("login.test", form_request("/auth/login", "login.test", &fields))
            .expect(303);
        assert_eq!(answer.header("location"), Some("https://reports.test/x"), "{odd}");
    }
}

#[test]
fn a_cookie_of_one_host_is_absent_on_every_other() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut alice = Browser::new(&gateway);
    alice.sign_in("https://reports.test/x", ALICE).answer.expect(200);
    alice.open("https://evil.wild.test/x").answer.expect(200);
    let before = app.count();
    for (of, on) in [
        ("login.test", "reports.test"),
        ("reports.test", "login.test"),
        ("evil.wild.test", "reports.test"),
        ("evil.wild.test", "good.wild.test"),
        ("evil.wild.test", "login.test"),
        ("reports.test", "other.test"),
        ("reports.test", "reports.test.evil.wild.test"),
    ] {
        let cookie = alice.session(of).unwrap();
        for target in ["/x", "/auth/me", "/auth/sessions", "/admin/x"] {
            let answer = gateway
                .send(&Request::get(target).host(on).header("Cookie", &cookie))
                .expect(401);
            assert_eq!(
                gateway.log_of(&answer)["reason"],
                "credential-missing",
                "{of} on {on}"
            );
            assert_eq!(
                values(&answer.fields, "set-cookie"),
                [""; 0],
                "as none, and not as a bad one"
            );
        }
        let optional = Request::get("/maybe/x").host(on).header("Cookie", &cookie);
        if on == "login.test" {
            gateway.send(&optional).expect(200);
            assert_eq!(app.last().header("x-auth-user"), None);
        }
        // It passes nowhere through, and ends nothing.
        let attempt = gateway.send(&navigate("/y").host("shop.example")).expect(302);
        if on == "login.test" {
            let target = parts(attempt.header("location").unwrap()).1;
            let page = gateway
                .send(&navigate(&target).host("login.test").header("Cookie", &cookie))
                .expect(200);
            assert!(page.text().contains("<form"), "{of} on {on}");
        }
        gateway
            .send(
                &form_request("/auth/logout?all=true", on, &[])
                    .host(on)
                    .header("Cookie", &cookie),
            )
            .expect(303);
        let explained = gateway.command([
            "explain",
            "GET",
            &format!("https://{on}/x"),
            "-H",
            &format!("Cookie: {cookie}"),
        ]);
        assert!(
            explained.expect(3).stdout.contains("it is for another host"),
            "{of} on {on}"
        );
    }
    assert!(app.count() <= before + 2);
    alice.step("https://reports.test/x").expect(200);
    let shown = gateway.command([
        "explain",
        "GET",
        "https://reports.test/x",
        "-H",
        &format!("Cookie: {}", alice.cookies("reports.test")),
    ]);
    shown.expect(0);
    let visitor = gateway
        .command([
            "explain",
            "GET",
            "https://reports.test/x",
            "-H",
            "Accept: text/html",
        ])
        .expect(3);
    assert!(
        visitor
            .stdout
            .contains("302 to sign in at https://login.test/auth/login"),
        "{}",
        visitor.stdout
    );
}

#[test]
fn neither_code_nor_nonce_nor_token_is_in_any_log_or_in_the_state() {
    let app = App::start();
    let gateway = setup(&app, "").start();
    let mut alice = Browser::new(&gateway);
    alice.sign_in("https://login.test/x", ALICE).answer.expect(200);
    let mut secrets = Vec::new();
    for (host, presented) in [("reports.test", true), ("shop.example", false)] {
        let (url, code) = alice.code(&format!("https://{host}/x"));
        secrets.push(code);
        let nonces = alice.jar[host].iter().filter(|(name, _)| name.contains("nonce"));
        secrets.extend(nonces.map(|(_, value)| value.clone()));
        if presented {
            alice.step(&url).expect(303);
            alice.step(&url).expect(400);
        }
    }
    secrets.extend(["login.test", "reports.test"].map(|host| alice.jar[host]["__Host-session"].clone()));
    gateway.log_line(|line| line["path"] == "/auth/continue" && line["status"] == 400);
    let log = gateway.log_text().join("\n") + &gateway.diagnostics().join("\n");
    assert!(log.contains("/auth/continue"));
    for name in ["passgate.db", "passgate.db-wal"] {
        let file = std::fs::read(gateway.setup.path(name)).unwrap_or_default();
        for secret in &secrets {
            assert!(
                !file
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes()),
                "{name}"
            );
        }
    }
    for secret in &secrets {
        assert!(secret.len() > 40 && !log.contains(secret.as_str()));
    }
    assert!(!log.contains("code="));
}
