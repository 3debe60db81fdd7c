//! Signing out at the provider too, and sessions that a provider ends.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::support::openid::{
    Browser, CLIENT_ID, CLIENT_SECRET, OpenId, Trouble, back_with, base64url_sha256, parse,
};
use super::support::people::{ROUTES, form, post_form, post_json};
use super::support::tokens::{Key, base64url, now};
use super::support::{Answer, App, Client, Gateway, Request, Response, Setup, eventually, gateway::before};

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: x\r\n\r\n";

#[track_caller]
fn setup(app: &App, provider: &OpenId, more: &str) -> Setup {
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
    let setup = Setup::new(&before(app, &format!("{server}{}{ROUTES}", provider.table(more))));
    setup.write("sso.secret", CLIENT_SECRET);
    setup
}

/// A browser that signed in by the session `sid` at the provider.
#[track_caller]
fn signed_in(gateway: &Gateway, provider: &OpenId, sid: &str) -> Browser {
    let sid = sid.to_owned();
    provider.claims(move |claims| claims["sid"] = json!(sid));
    let mut browser = Browser::default();
    browser.sign_in(gateway, provider).expect(303);
    browser.visit(gateway, "/hello").expect(200);
    browser
}

fn send(gateway: &Gateway, token: &str) -> Response {
    let body = form(&[("logout_token", token)]);
    let request = Request::post("/auth/backchannel-logout", body)
        .host("localhost")
        .header("Content-Type", "application/x-www-form-urlencoded");
    gateway.send(&request)
}

#[track_caller]
fn refused(gateway: &Gateway, token: &str, what: &str) {
    let answer = send(gateway, token);
    assert_eq!(answer.status, 400, "{what}: {answer:?}");
    assert_eq!(answer.json()["error"], "invalid_request", "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    let id = answer.header("x-request-id").unwrap().to_owned();
    let line = gateway.log_line(|line| line["request_id"] == *id);
    assert_eq!(line["reason"], "logout-token-refused", "{what}");
}

fn of_sid(sid: &str) -> impl FnOnce(&mut Value, &mut Value) {
    let sid = sid.to_owned();
    move |_, claims| claims["sid"] = json!(sid)
}

#[test]
fn logout_token_ends_the_sessions_of_its_sid_and_open_streams() {
    let app = App::with(|exchange| {
        if exchange.request().header("upgrade").is_none() {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            return Answer::Keep;
        }
        exchange.send(format!("{SWITCHING}\x01\x02hi"));
        exchange.wait_until_closed();
        Answer::Close
    });
    let provider = OpenId::start();
    let gateway = setup(&app, &provider, "").start();
    let mut ended = signed_in(&gateway, &provider, "s1");
    let mut kept = signed_in(&gateway, &provider, "s2");
    let cookie = format!("passgate-session={}", ended.cookies["passgate-session"]);
    let handshake = Request::get("/chat")
        .host("localhost")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Cookie", &cookie);
    let mut socket = Client::connect(gateway.address);
    socket.send(handshake.bytes());
    assert_eq!(socket.head().status, 101);
    assert_eq!(socket.read_exact(4), b"\x01\x02hi");

    let token = provider.logout_token(of_sid("s1"));
    let answer = send(&gateway, &token).expect(200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    ended.visit(&gateway, "/hello").expect(302);
    assert_eq!(&socket.rest()[..4], b"\x88\x0f\x03\xf0");
    kept.visit(&gateway, "/hello").expect(200);
    refused(&gateway, &token, "a replay");
    // By the user where there is no session: what is open goes, and a replay ends nothing that was opened since.
    let token = provider.logout_token(|_, claims| claims["sub"] = json!("ann-1"));
    send(&gateway, &token).expect(200);
    kept.visit(&gateway, "/hello").expect(302);
    let mut next = signed_in(&gateway, &provider, "s3");
    refused(&gateway, &token, "a replay");
    let of_another = provider.logout_token(|_, claims| claims["sub"] = json!("bob-1"));
    send(&gateway, &of_another).expect(200);
    next.visit(&gateway, "/hello").expect(200);
}

#[test]
fn wrong_logout_token_ends_nothing() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = signed_in(&gateway, &provider, "s1");
    type Change = Box<dyn FnOnce(&mut Value, &mut Value)>;
    let claim =
        |name: &'static str, value: Value| -> Change { Box::new(move |_, claims| claims[name] = value) };
    let without = |name: &'static str| -> Change {
        Box::new(move |_, claims| drop(claims.as_object_mut().unwrap().remove(name)))
    };
    let typ = |typ: &'static str| -> Change { Box::new(move |header, _| header["typ"] = json!(typ)) };
    let event = "http://schemas.openid.net/event/backchannel-logout";
    for (what, change) in [
        ("iss", claim("iss", json!("https://evil.example"))),
        ("aud", claim("aud", json!("other"))),
        ("old", claim("iat", json!(now() - 400))),
        ("future", claim("iat", json!(now() + 120))),
        ("expired", claim("exp", json!(now() - 120))),
        ("no exp", without("exp")),
        ("no iat", without("iat")),
        ("no jti", without("jti")),
        ("no events", without("events")),
        ("other event", claim("events", json!({ "http://x": {} }))),
        ("event", claim("events", json!({ event: "" }))),
        ("nonce", claim("nonce", json!("n"))),
        ("access token", typ("at+jwt")),
        ("own kind", typ("session+jwt")),
        (
            "kid",
            Box::new(|header: &mut Value, _: &mut Value| header["kid"] = json!("k9")),
        ),
        (
            "crit",
            Box::new(|header: &mut Value, _: &mut Value| header["crit"] = json!(["x"])),
        ),
    ] {
        let token = provider.logout_token(|header, claims| {
            of_sid("s1")(header, claims);
            change(header, claims);
        });
        refused(&gateway, &token, what);
    }
    let without_subject = provider.logout_token(|_, _| {});
    refused(&gateway, &without_subject, "neither sid nor sub");
    browser.visit(&gateway, "/hello").expect(200);
}

#[test]
fn forged_logout_token_ends_nothing_and_a_flood_is_slowed_down() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = signed_in(&gateway, &provider, "s1");
    let good = provider.logout_token(of_sid("s1"));
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = base64url(json!({ "alg": "none", "typ": "logout+jwt" }).to_string());
    refused(&gateway, &format!("{unsigned}.{}.", parts[1]), "alg none");
    let by_secret = Key::secret("HS256", CLIENT_SECRET);
    let payload = super::support::tokens::payload(&good).to_string();
    let forged = by_secret.sign(&by_secret.header().to_string(), &payload);
    refused(&gateway, &forged, "by the client secret");
    let other = Key::new("ES256", "k1");
    refused(
        &gateway,
        &other.sign(&other.header().to_string(), &payload),
        "another key",
    );
    refused(&gateway, "x", "no token");
    refused(&gateway, &"x".repeat(9000), "a long one");
    // An ID token of the provider is not one, and a logout token signs no user in.
    let id_token = provider.logout_token(|header, claims| {
        header["typ"] = json!("JWT");
        claims["sid"] = json!("s1");
        claims["sub"] = json!("ann-1");
        claims["nonce"] = json!("n");
        claims.as_object_mut().unwrap().remove("events");
    });
    refused(&gateway, &id_token, "an ID token");
    provider.sign(|key, claims| {
        let mut header = key.header();
        header["typ"] = json!("logout+jwt");
        key.sign(&header.to_string(), &claims.to_string())
    });
    let mut second = Browser::default();
    second.sign_in(&gateway, &provider).expect(502);
    // JSON is not the form that the specification has.
    let json = post_json("/auth/backchannel-logout", &json!({ "logout_token": good }));
    gateway.send(&json).expect(400);
    browser.visit(&gateway, "/hello").expect(200);
    let answers: Vec<u16> = (0..40)
        .map(|number| send(&gateway, &format!("x{number}")).status)
        .collect();
    assert!(answers.contains(&429), "{answers:?}");
    assert!(
        answers.iter().all(|status| [400, 429].contains(status)),
        "{answers:?}"
    );
}

#[test]
fn sign_in_by_a_session_that_has_just_ended_opens_none() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    provider.claims(|claims| claims["sid"] = json!("s7"));
    let mut browser = Browser::default();
    let back = browser.go(&gateway, &provider, "/hello");
    send(&gateway, &provider.logout_token(of_sid("s7"))).expect(200);
    browser.visit(&gateway, &back).expect(400);
    assert!(!browser.has_session());
    let listed = gateway.command(["session", "list", "--format", "json"]).expect(0);
    assert!(!listed.all().contains("\"id\""), "{}", listed.all());
    signed_in(&gateway, &provider, "s8");
}

#[test]
fn logout_token_of_a_user_stops_the_sign_in_that_is_under_way_and_no_later_one() {
    let (app, provider) = (App::start(), OpenId::start());
    let session = "[session]\nredirect_uris = [\"com.example.app:/signed-in\"]\n";
    let gateway = setup(&app, &provider, session).start();
    let of_subject = |subject: &str| {
        let subject = subject.to_owned();
        provider.logout_token(move |_, claims| {
            claims.as_object_mut().unwrap().remove("sid");
            claims["sub"] = json!(subject);
        })
    };
    let mut browser = Browser::default();
    let mut backs: Vec<String> = (0..2)
        .map(|_| browser.go(&gateway, &provider, "/hello"))
        .collect();
    let challenge = base64url_sha256("a-code-verifier-of-the-client-that-is-long-enough");
    let client = format!(
        "/auth/login/sso?mode=token&redirect_uri=com.example.app:/signed-in&state=s&code_challenge_method=S256&code_challenge={challenge}"
    );
    let answer = browser.visit(&gateway, &client).expect(302);
    let of_client = back_with(&provider.agree(answer.header("location").unwrap()));
    // Another user's is another's.
    send(&gateway, &of_subject("bob-1")).expect(200);
    browser.visit(&gateway, &backs.pop().unwrap()).expect(303);
    browser.cookies.retain(|name, _| name.contains("-nonce-"));
    // A sign-in counts as begun before what is heard in a later second.
    let begun = now();
    eventually("a second has passed", || now() > begun);
    send(&gateway, &of_subject("ann-1")).expect(200);
    browser.visit(&gateway, &backs.pop().unwrap()).expect(400);
    assert!(!browser.has_session());
    let answer = browser.visit(&gateway, &of_client);
    let location = answer.header("location").unwrap_or_default();
    assert!(!location.contains("code="), "{answer:?}");
    let listed = gateway.command(["session", "list", "--format", "json"]).expect(0);
    assert!(!listed.all().contains("\"id\""), "{}", listed.all());
    // The user can sign in again at once.
    let heard = now();
    eventually("the next second", || now() > heard);
    Browser::default().sign_in(&gateway, &provider).expect(303);
    let listed = gateway
        .command(["session", "list", "--format", "json"])
        .expect(0)
        .json();
    assert_eq!(listed[0]["provider"], "sso", "{listed}");
    assert!(
        gateway
            .command(["session", "list"])
            .expect(0)
            .stdout
            .contains("PROVIDER")
    );
}

#[test]
fn logout_token_while_the_provider_is_down_is_not_lost_without_a_word() {
    let (app, provider) = (App::start(), OpenId::start());
    let gateway = setup(&app, &provider, "").start();
    let mut browser = signed_in(&gateway, &provider, "s1");
    let gateway = {
        provider.trouble("/.well-known/openid-configuration", Some(Trouble::Closed));
        gateway.restart()
    };
    let token = provider.logout_token(of_sid("s1"));
    send(&gateway, &token).expect(503);
    browser.visit(&gateway, "/hello").expect(200);
    provider.trouble("/.well-known/openid-configuration", None);
    super::support::eventually("the provider is asked again", || {
        send(&gateway, &token).status == 200
    });
    browser.visit(&gateway, "/hello").expect(302);
}

#[test]
fn form_goes_on_to_the_provider_and_a_script_is_told_where_that_is() {
    let (app, provider) = (App::start(), OpenId::start());
    let end = format!("{}/end?x=y", provider.issuer());
    let published = end.clone();
    provider.discovery(move |document| document["end_session_endpoint"] = json!(published));
    let setup = setup(&app, &provider, "[password]\n");
    setup.add_account("ann@example.com", &[]);
    let gateway = setup.start();
    let sign_out = |browser: &mut Browser| {
        let cookie = format!("passgate-session={}", browser.cookies["passgate-session"]);
        let answer = gateway.send(&post_form("/auth/logout", &[]).header("Cookie", &cookie));
        browser.take(&answer);
        answer
    };
    let is_right = |location: &str| {
        assert!(location.starts_with(&format!("{end}&")), "{location}");
        let said = parse(location.split_once("x=y&").unwrap().1);
        let expected = [
            ("client_id", CLIENT_ID),
            ("post_logout_redirect_uri", "http://localhost/auth/logout"),
        ];
        let expected: HashMap<_, _> = expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        assert_eq!(said, expected);
    };
    let mut browser = signed_in(&gateway, &provider, "s1");
    let cookie = browser.cookies["passgate-session"].clone();
    // Chromium applies `form-action` to where the form is redirected to.
    for path in ["/auth/logout", "/auth/sessions"] {
        let page = browser.visit(&gateway, path).expect(200);
        let policy = page.header("content-security-policy").unwrap();
        let forms = format!("form-action 'self' {};", provider.issuer());
        assert!(policy.contains(&forms), "{policy}");
    }
    is_right(sign_out(&mut browser).expect(303).header("location").unwrap());
    assert!(!browser.has_session());
    gateway
        .get_with(&format!("passgate-session={cookie}"), "/hello")
        .expect(401);
    // The way back.
    let page = browser.visit(&gateway, "/auth/logout").expect(200).text();
    assert!(page.contains("You are signed out"), "{page}");

    let browser = signed_in(&gateway, &provider, "s2");
    let cookie = format!("passgate-session={}", browser.cookies["passgate-session"]);
    let script = post_json("/auth/logout", &json!({}))
        .header("Origin", "http://localhost")
        .header("Cookie", &cookie);
    let answer = gateway.send(&script).expect(200).json();
    assert_eq!(answer["message"], "Signed out");
    is_right(answer["providerLogout"].as_str().unwrap());

    // A session by a password is no session at the provider.
    let cookie = gateway.sign_in("ann@example.com");
    let page = gateway.send(&super::support::people::navigate("/auth/logout").header("Cookie", &cookie));
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(policy.contains("form-action 'self';"), "{policy}");
    let answer = gateway.send(&post_form("/auth/logout", &[]).header("Cookie", &cookie));
    assert_eq!(answer.header("location"), Some("/auth/login?done=signed-out"));
}

#[test]
fn sign_out_stays_here_where_the_provider_has_no_such_address() {
    for (more, endpoint) in [
        ("", Value::Null),
        ("", json!("javascript:alert(1)")),
        ("logout = false", json!("end")),
    ] {
        let (app, provider) = (App::start(), OpenId::start());
        let end = format!("{}/end", provider.issuer());
        provider.discovery(move |document| {
            document["end_session_endpoint"] = if endpoint == "end" {
                json!(end)
            } else {
                endpoint.clone()
            };
        });
        let gateway = setup(&app, &provider, more).start();
        let browser = signed_in(&gateway, &provider, "s1");
        let cookie = format!("passgate-session={}", browser.cookies["passgate-session"]);
        let answer = gateway
            .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
            .expect(303);
        assert_eq!(
            answer.header("location"),
            Some("/auth/login?done=signed-out"),
            "{more}"
        );
        gateway.get_with(&cookie, "/hello").expect(401);
    }
}

#[test]
fn sign_out_works_while_the_provider_is_down() {
    let (app, provider) = (App::start(), OpenId::start());
    let end = format!("{}/end", provider.issuer());
    provider.discovery(move |document| document["end_session_endpoint"] = json!(end));
    let gateway = setup(&app, &provider, "").start();
    let browser = signed_in(&gateway, &provider, "s1");
    provider.trouble("/.well-known/openid-configuration", Some(Trouble::Closed));
    let gateway = gateway.restart();
    let cookie = format!("passgate-session={}", browser.cookies["passgate-session"]);
    let answer = gateway
        .send(&post_form("/auth/logout", &[]).header("Cookie", &cookie))
        .expect(303);
    assert_eq!(answer.header("location"), Some("/auth/login?done=signed-out"));
    gateway.get_with(&cookie, "/hello").expect(401);
}

#[test]
fn frame_of_the_provider_ends_the_sessions_of_its_sid_where_the_table_allows_it() {
    let (app, provider) = (App::start(), OpenId::start());
    let frame = |gateway: &Gateway, iss: &str, sid: &str| {
        let query = form(&[("iss", iss), ("sid", sid)]);
        let request = Request::get(&format!("/auth/frontchannel-logout?{query}"))
            .host("localhost")
            .header("Sec-Fetch-Site", "cross-site")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "iframe");
        let answer = gateway.send(&request).expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-frame-options"), None);
        (
            answer.header("content-security-policy").unwrap().to_owned(),
            answer.text(),
        )
    };
    let gateway = setup(&app, &provider, "frontchannel_logout = true").start();
    let (mut ended, mut kept) = (
        signed_in(&gateway, &provider, "s1"),
        signed_in(&gateway, &provider, "s2"),
    );
    for (iss, sid) in [
        ("https://other.example", "s1"),
        (&*provider.issuer(), ""),
        (&*provider.issuer(), "s9"),
    ] {
        frame(&gateway, iss, sid);
        ended.visit(&gateway, "/hello").expect(200);
    }
    gateway
        .get("/auth/frontchannel-logout?iss=a&iss=b&sid=s1")
        .expect(400);
    let (policy, page) = frame(&gateway, &provider.issuer(), "s1");
    assert_eq!(
        policy,
        format!("default-src 'none'; frame-ancestors {}", provider.issuer())
    );
    assert_eq!(frame(&gateway, "https://other.example", "s1").1, page);
    ended.visit(&gateway, "/hello").expect(302);
    kept.visit(&gateway, "/hello").expect(200);

    let closed = setup(&app, &provider, "").start();
    let mut browser = signed_in(&closed, &provider, "s1");
    let (policy, _) = frame(&closed, &provider.issuer(), "s1");
    assert_eq!(policy, "default-src 'none'; frame-ancestors 'none'");
    browser.visit(&closed, "/hello").expect(200);
}
