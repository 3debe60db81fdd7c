//! Several servers of one app: which one gets a request, what a server that fails costs, and what waits for a connection.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;

use crate::support::*;

/// An address without a listener.
fn dead() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// An upstream `app` for all paths.
fn toml(servers: &str, further: &str) -> String {
    named("app", servers, further)
}

fn named(upstream: &str, servers: &str, further: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[upstreams.{upstream}]\nservers = [{servers}]\n{further}\n\
         [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"{upstream}\"\n"
    )
}

fn weighted(one: &App, weight: u32, two: &App, other: u32) -> String {
    let server = |app: &App, weight| format!("{{ url = {}, weight = {weight} }}", app.url());
    toml(&format!("{}, {}", server(one, weight), server(two, other)), "")
}

fn metric(gateway: &Gateway, name: &str, server: &str) -> Option<u64> {
    let start = format!("passgate_upstream_{name}{{upstream=\"app\",server=\"{server}\"}} ");
    let text = gateway.admin_get("/metrics").expect(200).text();
    text.lines()
        .find_map(|line| line.strip_prefix(&start))
        .map(|value| value.parse().unwrap())
}

#[test]
fn requests_are_shared_by_weight_and_a_changed_weight_takes_effect() {
    let (one, two) = (App::start(), App::start());
    let gateway = Gateway::start(&weighted(&one, 1, &two, 9));
    for _ in 0..200 {
        gateway.get("/x").expect(200);
    }
    let (light, heavy) = (one.count(), two.count());
    assert!(light > 0 && heavy > 4 * light, "{light} {heavy}");
    gateway.setup.rewrite(&weighted(&one, 100, &two, 1));
    eventually("the new weights are taken", || {
        let before = (one.count(), two.count());
        for _ in 0..50 {
            gateway.get("/x").expect(200);
        }
        one.count() - before.0 > 4 * (two.count() - before.1)
    });
}

#[test]
fn reload_that_does_not_touch_the_servers_keeps_their_connections() {
    let app = App::start();
    let toml = toml(&format!("{{ url = {}, weight = 3 }}", app.url()), "");
    let gateway = Gateway::start(&toml);
    gateway.get("/x").expect(200);
    gateway.setup.rewrite(&format!(
        "{toml}[[routes]]\npath = \"/more\"\nauth = \"none\"\nupstream = \"app\"\n"
    ));
    gateway.diagnostic("configuration read again");
    gateway.get("/more").expect(200);
    assert_eq!(app.connections(), 1);
}

#[test]
fn dead_server_is_ejected_and_costs_no_request() {
    let (app, dead) = (App::start(), dead());
    let gateway = Gateway::start(&toml(&format!("\"http://{dead}\", {}", app.url()), ""));
    for _ in 0..50 {
        let post = Request::post("/x", "abc");
        gateway.send(&post).expect(200);
    }
    assert_eq!(app.count(), 50);
    gateway.diagnostic("the server is ejected");
    let said = gateway.diagnostics();
    let lines = said.iter().filter(|line| line.contains("is ejected"));
    assert_eq!(lines.count(), 1, "{said:#?}");
    let dead = dead.to_string();
    assert_eq!(metric(&gateway, "server_up", &dead), Some(0));
    assert_eq!(metric(&gateway, "ejections_total", &dead), Some(1));
    let alive = app.address.to_string();
    assert_eq!(metric(&gateway, "server_up", &alive), Some(1));
}

#[test]
fn idempotent_request_is_repeated_once_after_a_reset_and_a_form_is_not() {
    let closes = App::with(|exchange| {
        let _ = exchange.read_body();
        app::Answer::Close
    });
    let app = App::start();
    let gateway = Gateway::start(&toml(&format!("{}, {}", closes.url(), app.url()), ""));
    for number in 0..10 {
        gateway.get(&format!("/get/{number}")).expect(200);
    }
    let mut failed = 0;
    for number in 0..10 {
        let answer = gateway.send(&Request::post(&format!("/post/{number}"), "abc"));
        assert!([200, 502].contains(&answer.status));
        failed += usize::from(answer.status == 502);
    }
    let of = |app: &App, start: &str| {
        let requests = app.requests();
        requests
            .iter()
            .filter(|request| request.target().starts_with(start))
            .count()
    };
    assert_eq!(of(&app, "/get/"), 10);
    assert_eq!(
        of(&closes, "/post/"),
        failed,
        "each form that failed was sent once"
    );
    assert_eq!(of(&app, "/post/"), 10 - failed);
}

#[test]
fn request_beyond_max_pending_is_503_at_once() {
    let app = App::with(|exchange| {
        exchange.wait_until_closed();
        app::Answer::Close
    });
    let limits = "max_connections = 1\nmax_pending = 1\nconnect_timeout = \"60s\"";
    let gateway = Gateway::start(&toml(&app.url(), limits));
    let mut held = gateway.connect();
    held.send(Request::get("/x").bytes());
    app.wait_for(1);
    let mut waits = gateway.connect();
    waits.send(Request::get("/x").bytes());
    let server = app.address.to_string();
    eventually("a request waits", || {
        metric(&gateway, "requests_pending", &server) == Some(1)
    });
    let answer = gateway.get("/x").expect(503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let line = gateway.log_of(&answer);
    assert_eq!(
        (&line["decision"], &line["reason"]),
        (&json!("error"), &json!("upstream-full"))
    );
    drop(waits);
    eventually("none waits any more", || {
        metric(&gateway, "requests_pending", &server) == Some(0)
    });
}

#[test]
fn all_servers_down_is_an_error_until_one_is_back() {
    let check = "health_check = { path = \"/healthz\", interval = \"200ms\" }";
    for further in ["", check] {
        let addresses = [dead(), dead()];
        let servers = addresses
            .map(|address| format!("\"http://{address}\""))
            .join(", ");
        let gateway = Gateway::start(&toml(&servers, further));
        eventually("all servers are seen to be down", || {
            gateway.get("/x").status == 502
        });
        let _app = App::on(TcpListener::bind(addresses[1]).unwrap(), |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            app::Answer::Keep
        });
        eventually("the server is back", || gateway.get("/x").status == 200);
    }
}

/// Three servers that say their numbers, kept to by `how`.
fn sticky(how: &str) -> ([App; 3], Gateway) {
    let apps = ["0", "1", "2"].map(|name| App::saying(move |_| name.to_owned()));
    let servers = apps.each_ref().map(App::url).join(", ");
    let gateway = Gateway::before(
        &apps[0],
        &format!(
            "{}\n[[routes]]\npath = \"/known/*\"\nauth = \"optional\"\nupstream = \"sticky\"\n\
             [[routes]]\npath = \"/other/*\"\nauth = \"none\"\nupstream = \"app\"\n",
            named("sticky", &servers, &format!("sticky = \"{how}\""))
        ),
    );
    (apps, gateway)
}

/// The value of the gateway's cookie in an answer.
fn server_cookie(answer: &Response) -> Option<String> {
    let mut values = values(&answer.fields, "set-cookie").into_iter();
    let set = values.find_map(|field| field.strip_prefix("passgate-server-sticky="))?;
    let (value, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    Some(value.to_owned())
}

fn with_cookie(value: &str) -> Request {
    Request::get("/x").header("Cookie", &format!("a=1; passgate-server-sticky={value}; b=2"))
}

#[test]
fn cookie_keeps_a_client_at_its_server_and_the_app_does_not_see_it() {
    let (apps, gateway) = sticky("cookie");
    let first = gateway.get("/x").expect(200);
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    let value = server_cookie(&first).unwrap();
    assert_eq!(value.len(), 32);
    let own = first.text();
    for _ in 0..20 {
        let answer = gateway.send(&with_cookie(&value)).expect(200);
        assert_eq!((answer.text(), server_cookie(&answer)), (own.clone(), None));
        assert_eq!(answer.header("cache-control"), None);
    }
    let app = &apps[own.parse::<usize>().unwrap()];
    assert_eq!(app.last().header("cookie"), Some("a=1; b=2"));
    // Nor does an app of another upstream.
    let foreign = Request::get("/other/x").header("Cookie", &format!("passgate-server-sticky={value}"));
    gateway.send(&foreign).expect(200);
    assert_eq!(apps[0].last().header("cookie"), None);
    // A restart, and another gateway with this state, call the servers the same.
    let gateway = gateway.restart();
    assert_eq!(gateway.send(&with_cookie(&value)).expect(200).text(), own);
}

#[test]
fn forged_cookie_is_none_and_is_replaced() {
    let (apps, gateway) = sticky("cookie");
    let address = apps[0].address.to_string();
    for forged in ["", "0", "127.0.0.1:22", &address, &"0".repeat(32), "../x"] {
        let answer = gateway.send(&with_cookie(forged)).expect(200);
        assert!(
            server_cookie(&answer).is_some_and(|value| value != forged),
            "{forged}"
        );
    }
    let set = "HTTP/1.1 200 OK\r\nSet-Cookie: passgate-server-sticky=mine\r\nSet-Cookie: own=1\r\nContent-Length: 0\r\n\r\n";
    let app = App::answering(set);
    let gateway = Gateway::start(&named("sticky", &app.url(), "sticky = \"cookie\""));
    let answer = gateway.get("/x").expect(200);
    let cookies = values(&answer.fields, "set-cookie");
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert_eq!(cookies[0], "own=1");
    assert_ne!(server_cookie(&answer).as_deref(), Some("mine"));
}

#[test]
fn cookie_of_a_dead_server_leads_to_another_one_and_is_renewed() {
    let (dead, app) = (dead(), App::start());
    let servers = |first: &str| named("sticky", &format!("{first}{}", app.url()), "sticky = \"cookie\"");
    let listener = TcpListener::bind(dead).unwrap();
    let other = std::thread::spawn(move || {
        // One answer, and then it is gone.
        use std::io::{Read, Write};
        let mut stream = listener.accept().unwrap().0;
        drop(listener);
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndead")
            .unwrap();
    });
    let gateway = Gateway::start(&servers(&format!(
        "{{ url = \"http://{dead}\", weight = 100 }}, "
    )));
    let mut value = None;
    eventually("the server that dies has answered", || {
        let answer = gateway.get("/x").expect(200);
        value = server_cookie(&answer).filter(|_| answer.text() == "dead");
        value.is_some()
    });
    other.join().unwrap();
    let value = value.unwrap();
    let answer = gateway.send(&with_cookie(&value)).expect(200);
    assert_eq!(answer.text(), "ok");
    let renewed = server_cookie(&answer).unwrap();
    assert_ne!(renewed, value);
    let answer = gateway.send(&with_cookie(&renewed)).expect(200);
    assert_eq!(server_cookie(&answer), None);
    // One that is no longer in the list.
    gateway.setup.rewrite(&servers(""));
    gateway.diagnostic("configuration read again");
    assert!(server_cookie(&gateway.send(&with_cookie(&value)).expect(200)).is_some());
}

#[test]
fn cookie_over_https_is_secure() {
    let app = App::start();
    let toml = toml(&app.url(), "sticky = \"cookie\"");
    let toml = toml.replace("workers = 1", "workers = 1\npublic_url = \"https://app.test\"");
    let answer = Gateway::start(&toml).get("/x").expect(200);
    let cookies = values(&answer.fields, "set-cookie");
    assert!(
        cookies[0].ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"),
        "{cookies:?}"
    );
}

#[test]
fn subject_keeps_to_a_server_and_subjects_are_spread() {
    let (_apps, gateway) = sticky("subject");
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20 {
        let token = corp_token(&format!("user-{number}"), &[]);
        let first = gateway.get_as(&token, "/known/x").expect(200);
        assert_eq!(first.header("set-cookie"), None);
        let server = first.text();
        for _ in 0..3 {
            assert_eq!(gateway.get_as(&token, "/known/x").expect(200).text(), server);
        }
        seen.insert(server);
    }
    assert_eq!(seen.len(), 3);
    // Without a caller it is the client address.
    let server = gateway.get("/known/x").expect(200).text();
    for _ in 0..5 {
        assert_eq!(gateway.get("/x").expect(200).text(), server);
    }
}
