//! A running gateway whose files change: no signal is needed, nothing that works is replaced by something that does not,
//! and what the change does not touch stays warm.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::support::gateway::before;
use crate::support::tokens::CORP_SECRET;
use crate::support::*;

const ROUTES: &str = r#"
[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"

[[routes]]
path = "/private/*"
upstream = "app"
"#;

/// Another file takes the place of one, as editors, package managers and certbot do it.
fn replace(gateway: &Gateway, name: &str, content: &str) {
    let setup = &gateway.setup;
    setup.write("new.secret", content);
    fs::rename(setup.path("new.secret"), setup.path(name)).unwrap();
}

fn notes(gateway: &Gateway) -> String {
    gateway.admin_get("/ready").expect(200).text()
}

#[test]
fn changed_file_is_taken_without_a_signal() {
    let app = App::start();
    let toml = before(&app, ROUTES);
    let gateway = Setup::new(&toml).start();
    gateway.get("/open/x").expect(404);
    gateway.setup.rewrite(&toml.replace("/public/*", "/open/*"));
    eventually("a write is seen", || gateway.get("/open/x").status == 200);
    let file = fs::read_to_string(gateway.setup.path("gateway.toml")).unwrap();
    replace(&gateway, "gateway.toml", &file.replace("/open/*", "/other/*"));
    eventually("another file in its place is seen", || {
        gateway.get("/other/x").status == 200
    });
    // As Kubernetes mounts it: a link to a file in a directory that a link leads to.
    for (directory, path) in [("one", "/first/*"), ("two", "/second/*")] {
        fs::create_dir(gateway.setup.path(directory)).unwrap();
        let file = file.replace("/open/*", path);
        gateway.setup.write(&format!("{directory}/gateway.toml"), file);
    }
    let link = |target: &str, name: &str| {
        symlink(target, gateway.setup.path("link")).unwrap();
        fs::rename(gateway.setup.path("link"), gateway.setup.path(name)).unwrap();
    };
    link("one", "data");
    link("data/gateway.toml", "gateway.toml");
    eventually("a link in its place is seen", || {
        gateway.get("/first/x").status == 200
    });
    link("two", "data");
    eventually("a link on the way is seen", || {
        gateway.get("/second/x").status == 200
    });
    gateway.diagnostic("or a file that it names has changed");
}

#[test]
fn changed_secret_is_taken_without_a_signal_and_the_old_one_no_longer_verifies() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let other = CORP_SECRET.chars().rev().collect::<String>();
    let [old, new] =
        [CORP_SECRET, &other].map(|secret| Key::secret("HS256", secret).token(&corp_claims("alice")));
    gateway.get_as(&old, "/private/x").expect(200);
    replace(&gateway, "corp.secret", &other);
    eventually("the new secret is taken", || {
        gateway.get_as(&new, "/private/x").status == 200
    });
    gateway.get_as(&old, "/private/x").expect(401);
    // An edit that is wrong beside one that is right: the tables of the issuer are those of before, and its file is not.
    let toml = fs::read_to_string(gateway.setup.path("gateway.toml")).unwrap();
    replace(&gateway, "gateway.toml", "[[[");
    eventually("the wrong file is told", || {
        notes(&gateway).contains("gateway.toml")
    });
    replace(&gateway, "corp.secret", CORP_SECRET);
    replace(&gateway, "gateway.toml", &toml);
    eventually("the old secret is taken again", || {
        gateway.get_as(&old, "/private/x").status == 200
    });
    gateway.get_as(&new, "/private/x").expect(401);
}

#[test]
fn wrong_file_is_not_taken_and_ready_says_why_until_it_is_right() {
    let app = App::start();
    let toml = before(&app, ROUTES);
    let gateway = Setup::new(&toml).start();
    assert!(!notes(&gateway).contains("reload"));
    for (wrong, said) in [
        (String::new(), "no"),
        (toml.replace("auth = \"none\"", "auth = \"never\""), "never"),
        (
            toml.replace(
                "[[routes]]\npath = \"/private/*\"",
                "[[routes]]\npath = \"/private/\u{1}\"",
            ),
            "gateway.toml:",
        ),
    ] {
        gateway.setup.write("gateway.toml", &wrong);
        eventually("ready says why", || {
            let notes = notes(&gateway);
            notes.contains("the last reload failed") && notes.contains(said)
        });
        gateway.get("/public/x").expect(200);
        gateway.get("/private/x").expect(401);
        gateway.setup.rewrite(&toml);
        eventually("it is right again", || !notes(&gateway).contains("reload"));
    }
}

#[test]
fn file_that_is_missing_is_read_once_it_is_there() {
    let app = App::start();
    let toml = before(&app, ROUTES);
    let gateway = Setup::new(&toml).start();
    let with_keys = format!(
        "{toml}\n[issuers.disk]\nissuer = \"https://disk.example\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\njwks_file = \"disk.json\"\n"
    );
    gateway.setup.rewrite(&with_keys);
    eventually("ready names the file", || notes(&gateway).contains("disk.json"));
    let key = Key::new("ES256", "a");
    gateway.setup.write("disk.json", tokens::jwks([&key]));
    let mut claims = corp_claims("alice");
    claims["iss"] = Value::from("https://disk.example");
    let token = key.token(&claims);
    eventually("its tokens are accepted", || {
        gateway.get_as(&token, "/private/x").status == 200
    });
}

/// The value of a metric without labels.
fn metric(gateway: &Gateway, name: &str) -> f64 {
    let text = gateway.admin_get("/metrics").expect(200).text();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap()
}

#[test]
fn connections_to_the_app_and_verified_tokens_outlive_a_change_of_routes() {
    let app = App::start();
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n{}",
        before(&app, ROUTES)
    );
    let gateway = Setup::new(&toml).start();
    let token = corp_token("alice", &["user"]);
    let mut client = gateway.connect();
    let mut get = |path: &str| Request::get(path).bearer(&token).over(&mut client).expect(200);
    get("/private/x");
    let misses = metric(&gateway, "passgate_token_cache_misses_total");
    assert!(misses > 0.0 && app.connections() == 1);
    gateway.setup.rewrite(&toml.replace("/public/*", "/open/*"));
    eventually("the change is taken", || gateway.get("/open/x").status == 200);
    for _ in 0..3 {
        get("/private/x");
    }
    assert!(metric(&gateway, "passgate_token_cache_misses_total") <= misses);
    assert_eq!(app.connections(), 1);
    // A change of the app is one of its connections, and not of tokens.
    let slower = toml.replace(
        "[upstreams.app]\n",
        "[upstreams.app]\nresponse_timeout = \"29s\"\n",
    );
    gateway.setup.rewrite(&slower.replace("/public/*", "/other/*"));
    eventually("the change is taken", || gateway.get("/other/x").status == 200);
    get("/private/x");
    assert_eq!(app.connections(), 2);
    assert!(metric(&gateway, "passgate_token_cache_misses_total") <= misses);
}

#[test]
fn listeners_are_added_and_removed_and_those_that_stay_keep_their_connections() {
    let app = App::start();
    let toml = |listen: &str| format!("[server]\nlisten = {listen}\n{}", before(&app, ROUTES));
    let setup = Setup::new(&toml("\"127.0.0.1:0\""));
    let socket = setup.path("extra.sock");
    let gateway = setup.start();
    let mut client = gateway.connect();
    Request::get("/public/x").over(&mut client).expect(200);
    let both = format!("[\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    gateway.setup.rewrite(&toml(&both));
    eventually("the socket is there", || socket.exists());
    gateway.diagnostic(&format!("listening on unix:{}", socket.display()));
    let mut local = Client::connect_unix(&socket);
    let mut get = || Request::get("/public/x").over(&mut local).expect(200);
    get();
    // An address that another process has: nothing changes.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let wrong = format!("[\"127.0.0.1:0\", \"{}\"]", taken.local_addr().unwrap());
    gateway.setup.rewrite(&toml(&wrong));
    eventually("ready says why", || notes(&gateway).contains("cannot listen on"));
    Client::connect_unix(&socket);
    gateway.setup.rewrite(&toml("\"127.0.0.1:0\""));
    eventually("the socket is gone", || !socket.exists());
    get();
    Request::get("/public/x").over(&mut client).expect(200);
    gateway.get("/public/x").expect(200);
}
