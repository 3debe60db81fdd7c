//! `passgate doctor`: each check when all is well, and when it is not.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::support::openid::{CLIENT_SECRET, OpenId, Trouble};
use super::support::tls::Certificate;
use super::support::{Answer, App, Gate, Key, Provider, Setup};

const ROUTE: &str = "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
const SERVER: &str = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n";
const RETURN: &str = "http://localhost/auth/login/sso/return";

/// A file with one app and no way to sign in.
fn simple(url: &str, more: &str) -> String {
    format!("{SERVER}{}{more}{ROUTE}", app_table(url))
}

fn app_table(url: &str) -> String {
    format!("[upstreams.app]\nservers = [{url}]\n")
}

/// The findings of a run that ends with this exit code.
#[track_caller]
fn findings(setup: &Setup, code: i32, words: &[&str]) -> Vec<Value> {
    let all: Vec<&str> = ["doctor", "--format", "json"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    let report = setup.command(all).expect(code).json();
    assert_eq!(report["ok"], code == 0, "{report}");
    report["findings"].as_array().unwrap().clone()
}

/// There is a finding of this check and level that says this.
#[track_caller]
fn says(findings: &[Value], check: &str, level: &str, text: &str) {
    let found = findings.iter().any(|finding| {
        finding["check"] == check
            && finding["level"] == level
            && finding["message"].as_str().unwrap().contains(text)
            && (level == "ok" || !finding["hint"].as_str().unwrap().is_empty())
    });
    assert!(found, "no {level} of {check} says {text:?} in {findings:#?}");
}

fn to_return(query: &str) -> Trouble {
    Trouble::answer("303 See Other", &format!("Location: {RETURN}{query}\r\n"), "")
}

/// A gateway with a provider, an issuer and an app, all of them well.
fn whole(app: &App, provider: &OpenId, issuer: &Provider) -> Setup {
    provider.trouble("/authorize", Some(to_return("?error=login_required&state=s")));
    let issuer = format!(
        "[issuers.keys]\nissuer = \"{}\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\njwks_url = \"{}\"\n",
        issuer.issuer(),
        issuer.jwks_url()
    );
    let app = app_table(&app.url()) + "health_check = { path = \"/healthz\", interval = \"5s\" }\n";
    let setup = Setup::new(&format!(
        "{SERVER}{app}{issuer}{}{ROUTE}",
        provider.table("allow = \"anyone\"")
    ));
    setup.write("sso.secret", CLIENT_SECRET);
    private(&setup, "sso.secret");
    setup
}

fn private(setup: &Setup, name: &str) {
    set_mode(setup, name, 0o600);
}

fn set_mode(setup: &Setup, name: &str, mode: u32) {
    std::fs::set_permissions(setup.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn gateway_whose_surroundings_are_well_has_no_problem() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    let found = findings(&setup, 0, &[]);
    for (check, text) in [
        ("state", "is not there yet"),
        ("disk", "MiB free"),
        ("public_url", "`localhost` is"),
        ("provider", "is of its issuer"),
        ("provider", "keys: 1"),
        ("provider", &format!("the redirect URI `{RETURN}` is registered")),
        ("issuer", "issuer `keys`"),
        ("upstream", "answers"),
    ] {
        says(&found, check, "ok", text);
    }
    assert_eq!(provider.count("/token"), 0, "nothing was redeemed");
    assert!(
        app.requests()
            .iter()
            .all(|request| request.target() == "/healthz")
    );
    assert!(!setup.path("passgate.db").exists(), "nothing was made");

    // The state that there is, is written and left as it was.
    setup.succeed(["user", "list"]);
    let found = findings(&setup, 0, &[]);
    says(&found, "state", "ok", "can be written");
    setup.write("passgate.db.key", "k");
    let key_file = setup.path("passgate.db.key");
    for (mode, level) in [(0o640, "warning"), (0o604, "warning"), (0o600, "ok")] {
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = findings(&setup, 0, &[]);
        let said = Value::from(found).to_string();
        let is_named = |text: &str| said.contains(text);
        assert_eq!(is_named("the key file"), level == "warning", "{mode:o}");
        assert_eq!(
            is_named(&format!("mode {mode:04o}")),
            level == "warning",
            "{mode:o}"
        );
    }
    let text = setup.command(["doctor"]).expect(0).stdout;
    assert!(text.contains("  provider `sso`: keys: 1\n"), "{text}");
    assert!(text.contains("gateway.toml: 0 problems, "), "{text}");
}

#[test]
fn fault_of_a_provider_is_named_and_no_secret() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    let discovery = "/.well-known/openid-configuration";
    let answer = |status, fields: &str, body| Some(Trouble::answer(status, fields, body));
    let to = |query| Some(to_return(query));
    for (path, trouble, level, text) in [
        (discovery, Some(Trouble::Closed), "problem", "`sso`"),
        (discovery, answer("404 Not Found", "", "{}"), "problem", "404"),
        (
            discovery,
            answer("302 Found", "Location: /x\r\n", ""),
            "problem",
            "redirects are not followed",
        ),
        (
            discovery,
            answer("200 OK", "", "<html>"),
            "problem",
            "not a JSON object",
        ),
        (
            discovery,
            answer("200 OK", "", r#"{"issuer": "https://evil.example"}"#),
            "problem",
            "of the issuer `https://evil.example`",
        ),
        (
            "/jwks",
            answer("500 Internal Server Error", "", ""),
            "problem",
            "its keys cannot be used",
        ),
        (
            "/jwks",
            answer("200 OK", "", "[]"),
            "problem",
            "its keys cannot be used",
        ),
        (
            "/authorize",
            answer("400 Bad Request", "", "redirect_uri"),
            "problem",
            "is not registered",
        ),
        (
            "/authorize",
            answer("503 Service Unavailable", "", ""),
            "problem",
            "503",
        ),
        (
            "/authorize",
            to("?error=invalid_scope"),
            "problem",
            "`invalid_scope`",
        ),
        (
            "/authorize",
            answer("200 OK", "", "<form>"),
            "unknown",
            "cannot be told",
        ),
        (
            "/authorize",
            to("/../elsewhere?error=login_required"),
            "unknown",
            "cannot be told",
        ),
        (
            "/authorize",
            answer("302 Found", "Location: https://id.example/login\r\n", ""),
            "unknown",
            "cannot be told",
        ),
    ] {
        provider.trouble(path, trouble);
        let code = i32::from(level == "problem");
        let found = findings(&setup, code, &[]);
        says(&found, "provider", level, text);
        let said = serde_json::to_string(&found).unwrap();
        assert!(!said.contains(CLIENT_SECRET), "{said}");
        let well = (path == "/authorize").then(|| to_return("?error=login_required"));
        provider.trouble(path, well);
    }
    findings(&setup, 0, &[]);
}

#[test]
fn provider_that_does_not_answer_holds_up_no_other_check() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    let gate = Arc::new(Gate::default());
    let silent = Trouble::Silent(Arc::clone(&gate));
    provider.trouble("/.well-known/openid-configuration", Some(silent));
    let found = findings(&setup, 1, &[]);
    gate.open();
    says(&found, "provider", "problem", "did not answer within 5 seconds");
    says(&found, "issuer", "ok", "issuer `keys`");
    says(&found, "upstream", "ok", "answers");
}

#[test]
fn clock_that_differs_by_more_than_half_a_minute_is_a_problem() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    let document = format!(
        r#"{{"issuer": "{0}", "authorization_endpoint": "{0}/authorize", "token_endpoint": "{0}/token", "jwks_uri": "{0}/jwks"}}"#,
        provider.issuer()
    );
    for (ahead, code, level, text) in [
        (3600, 1, "problem", "s behind that of provider `sso`"),
        (-3600, 1, "problem", "s ahead of that of provider `sso`"),
        (10, 0, "ok", "s behind"),
    ] {
        let date =
            (Timestamp::now() + SignedDuration::from_secs(ahead)).strftime("%a, %d %b %Y %H:%M:%S GMT");
        let answer = Trouble::answer("200 OK", &format!("Date: {date}\r\n"), &document);
        provider.trouble("/.well-known/openid-configuration", Some(answer));
        says(&findings(&setup, code, &[]), "clock", level, text);
    }
    provider.trouble("/.well-known/openid-configuration", None);
    says(&findings(&setup, 0, &[]), "clock", "unknown", "no time");
}

#[test]
fn issuer_whose_keys_cannot_be_had_is_a_problem() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    issuer.publish_text("{}");
    says(&findings(&setup, 1, &[]), "issuer", "problem", "issuer `keys`");
}

#[test]
fn upstream_that_does_not_answer_is_a_problem() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = Setup::new(&simple(&format!("\"http://{closed}\""), ""));
    let found = findings(&setup, 1, &[]);
    says(
        &found,
        "upstream",
        "problem",
        &format!("`{closed}` cannot be reached"),
    );

    let sick = App::with(|exchange| {
        exchange.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        Answer::Close
    });
    let check = "health_check = { path = \"/up\", interval = \"5s\" }\n";
    let found = findings(&Setup::new(&simple(&sick.url(), check)), 1, &[]);
    says(
        &found,
        "upstream",
        "problem",
        "the health check of `/up`: answered 500",
    );
}

/// A certificate and its key in `setup`, good from and to these days from now.
fn write_certificate(setup: &Setup, name: &str, from: i64, to: i64) {
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let now = Timestamp::now();
    let day = |days: i64| {
        let date = (now + SignedDuration::from_hours(24 * days)).to_zoned(jiff::tz::TimeZone::UTC);
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(date.year()), month, day)
    };
    (params.not_before, params.not_after) = (day(from), day(to));
    let key = rcgen::KeyPair::generate().unwrap();
    setup.write("site.pem", params.self_signed(&key).unwrap().pem());
    setup.write("site.key", key.serialize_pem());
    private(setup, "site.key");
}

#[test]
fn certificate_is_judged_by_its_time_its_name_and_its_chain() {
    let app = App::start();
    let server = "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://localhost\"\n\
                  [server.tls]\ncertificate = \"site.pem\"\nprivate_key = \"site.key\"\n";
    let setup = Setup::new(&format!("{server}{}{ROUTE}", app_table(&app.url())));
    for (name, from, to, code, level, text) in [
        ("localhost", -10, 300, 0, "ok", "days"),
        ("localhost", -10, 300, 0, "ok", "made out to `localhost`"),
        (
            "localhost",
            -10,
            300,
            0,
            "warning",
            "no authority of this system signed it",
        ),
        ("localhost", -300, 5, 0, "warning", "expires"),
        ("localhost", -300, -5, 1, "problem", "expired"),
        ("localhost", 5, 300, 1, "problem", "is not valid before"),
        (
            "other.example",
            -10,
            300,
            1,
            "problem",
            "no certificate is made out to `localhost`",
        ),
    ] {
        write_certificate(&setup, name, from, to);
        says(&findings(&setup, code, &[]), "certificate", level, text);
    }
    write_certificate(&setup, "localhost", -10, 300);
    set_mode(&setup, "site.key", 0o644);
    says(
        &findings(&setup, 0, &[]),
        "certificate",
        "warning",
        "can be read by others (mode 0644)",
    );
}

#[test]
fn certificate_of_an_upstream_is_looked_at() {
    let setup = Setup::new("");
    for (name, from, to, code, level, text) in [
        ("localhost", -10, 300, 0, "ok", "its certificate expires"),
        (
            "localhost",
            -300,
            5,
            0,
            "warning",
            "the certificate of `localhost",
        ),
        ("localhost", -300, -5, 1, "problem", "cannot be reached: TLS"),
        ("other.example", -10, 300, 1, "problem", "cannot be reached: TLS"),
    ] {
        write_certificate(&setup, name, from, to);
        let read = |name| std::fs::read_to_string(setup.path(name)).unwrap();
        let certificate = Certificate {
            chain_pem: read("site.pem"),
            key_pem: read("site.key"),
        };
        let app = App::with_tls(&certificate, |_| Answer::Close);
        let url = format!("\"https://localhost:{}\"", app.address.port());
        setup.rewrite(&simple(&url, "ca_file = \"site.pem\"\n"));
        says(&findings(&setup, code, &[]), "upstream", level, text);
    }
}

#[test]
fn app_that_is_reached_around_the_gateway_is_a_problem() {
    let app = App::start();
    let setup = Setup::new(&simple(&app.url(), ""));
    let elsewhere = TcpListener::bind("127.0.0.2:0").unwrap();
    let open = elsewhere.local_addr().unwrap().to_string();
    let found = findings(&setup, 1, &["--around", &open]);
    says(
        &found,
        "around",
        "problem",
        &format!("`{open}` accepts connections"),
    );
    let found = findings(&setup, 1, &["--around", &open, "--from", "127.0.0.3"]);
    says(&found, "around", "problem", "(from `127.0.0.3`)");
    drop(elsewhere);
    let found = findings(&setup, 0, &["--around", &open]);
    says(&found, "around", "ok", "accepts no connection");
    // An address that is not one of this machine.
    let found = findings(&setup, 0, &["--around", &open, "--from", "192.0.2.77"]);
    says(&found, "around", "unknown", "cannot be told");
    says(
        &findings(&setup, 1, &["--around", "127.0.0.2"]),
        "around",
        "problem",
        "cannot be tried",
    );
}

#[test]
fn state_that_cannot_be_written_is_a_problem() {
    let app = App::start();
    let at = |url: &str| Setup::new(&simple(&app.url(), &format!("[state]\nurl = \"{url}\"\n")));
    let setup = at("sqlite:missing/gate.db");
    says(&findings(&setup, 1, &[]), "state", "problem", "does not exist");

    let setup = at("sqlite:gate.db");
    setup.write(
        "gate.db",
        "no database, but text that is as long as a page of one".repeat(100),
    );
    private(&setup, "gate.db");
    says(&findings(&setup, 1, &[]), "state", "problem", "gate.db");

    std::fs::remove_file(setup.path("gate.db")).unwrap();
    setup.succeed(["user", "list"]);
    set_mode(&setup, "gate.db", 0o640);
    says(
        &findings(&setup, 0, &[]),
        "state",
        "warning",
        "can be read by others (mode 0640)",
    );
}

#[test]
fn name_of_public_url_that_has_no_address_is_a_problem() {
    let app = App::start();
    let server = SERVER.replace("http://localhost", "https://gate.invalid");
    let setup = Setup::new(&format!("{server}[password]\n{}{ROUTE}", app_table(&app.url())));
    let found = findings(&setup, 1, &[]);
    says(
        &found,
        "public_url",
        "problem",
        "`gate.invalid` cannot be resolved",
    );
    says(&found, "cookie", "ok", "`__Host-session`");
    setup.rewrite(&format!(
        "{server}[session]\ncookie = \"own\"\n[password]\n{}{ROUTE}",
        app_table(&app.url())
    ));
    says(&findings(&setup, 1, &[]), "cookie", "warning", "`own`");
}

#[test]
fn secret_that_others_can_read_is_a_warning() {
    let (app, provider) = (App::start(), OpenId::start());
    let issuer = Provider::start([&Key::new("ES256", "k")]);
    let setup = whole(&app, &provider, &issuer);
    set_mode(&setup, "sso.secret", 0o644);
    says(
        &findings(&setup, 0, &[]),
        "configuration",
        "warning",
        "can be read by others",
    );
}

#[test]
fn file_that_cannot_be_used_is_exit_code_2() {
    let setup = Setup::new("[server]\nnonsense = 1\n");
    let said = setup.command(["doctor"]).expect(2);
    assert!(
        said.stderr.contains("nonsense") && said.stdout.is_empty(),
        "{said:?}"
    );
    setup.command(["doctor", "--from", "nowhere"]).expect(2);
}
