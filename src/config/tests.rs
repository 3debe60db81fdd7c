//! Whole files, right and wrong: what is printed about each, and that nothing in a file can make this room panic.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::raw::{RawExpect, RawSecret, RawSource};
use super::schema::TABLES;
use super::{Problems, RawConfig, read};
use crate::values::{Listen, Token, TrustedProxy};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_text(text: &str) -> (RawConfig, Problems) {
    let mut problems = Problems::new(Path::new("gateway.toml"), text);
    let raw = read(&mut problems);
    (raw, problems)
}

fn rendered(text: &str) -> String {
    read_text(text).1.render(false)
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root().join("tests/config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    cases
}

/// `tests/config/*.toml` beside `*.expected`; a file without one is right. `UPDATE_EXPECTED=1` writes them anew.
#[test]
fn each_wrong_file_is_answered_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let cases = cases();
    assert!(cases.len() >= 25, "only {} cases", cases.len());
    for case in cases {
        let name = case.file_name().unwrap().to_owned();
        let mut problems = Problems::new(Path::new(&name), &std::fs::read_to_string(&case).unwrap());
        read(&mut problems);
        let answer = problems.render(false);
        let beside = case.with_extension("expected");
        if update && !answer.is_empty() {
            std::fs::write(&beside, &answer).unwrap();
        }
        let expected = std::fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(
            answer,
            expected,
            "{}: run with UPDATE_EXPECTED=1 and read the difference",
            name.display()
        );
    }
}

#[test]
fn every_problem_says_what_to_do() {
    for case in cases() {
        let mut problems = Problems::new(&case, &std::fs::read_to_string(&case).unwrap());
        read(&mut problems);
        for problem in problems.errors().iter().chain(problems.warnings()) {
            assert!(problem.hint.is_some(), "{}: {}", case.display(), problem.message);
        }
    }
}

#[test]
fn no_answer_shows_a_secret() {
    for case in cases() {
        let text = std::fs::read_to_string(&case).unwrap();
        for color in [false, true] {
            let mut problems = Problems::new(&case, &text);
            read(&mut problems);
            assert!(!problems.render(color).contains("S3KRIT"), "{}", case.display());
            assert!(
                !format!("{:?}", problems.errors()).contains("S3KRIT"),
                "{}",
                case.display()
            );
        }
    }
}

#[test]
fn the_example_is_right() {
    let text = std::fs::read_to_string(root().join("gateway.example.toml")).unwrap();
    let (_, problems) = read_text(&text);
    assert_eq!(problems.errors().len(), 0, "{}", problems.render(false));
    // It runs on `http://127.0.0.1`, and says what that means.
    let warnings: Vec<&str> = problems
        .warnings()
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert_eq!(
        warnings,
        ["the session cookie is called `passgate-session` instead of `__Host-session`, and is not `Secure`"]
    );
}

#[test]
fn the_example_is_right_with_everything_in_it_switched_on() {
    let text = std::fs::read_to_string(root().join("gateway.example.toml")).unwrap();
    // A comment that is an assignment or a header is an example to be switched on.
    let switched_on: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code) if is_code(code) => format!("{code}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let (raw, problems) = read_text(&switched_on);
    assert_eq!(problems.errors().len(), 0, "{}", problems.render(false));
    // Plain HTTP on this machine, and a listed origin of another site for a route and for the own endpoints.
    assert_eq!(problems.warnings().len(), 3, "{}", problems.render(false));
    assert!(raw.issuers.len() > 2 && raw.upstreams.len() > 1 && raw.server.tls.is_some());
}

fn is_code(line: &str) -> bool {
    let key = line.split_once(" = ").map_or(line, |(key, _)| key);
    line.starts_with('[')
        || line.starts_with("    {")
        || (line.contains(" = ")
            && key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.\"".contains(&byte)))
}

const FULL: &str = r##"
[server]
listen = ["127.0.0.1:8080", "unix:/run/passgate.sock", "systemd"]
public_url = "https://app.example.com"
workers = 2
trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "unix"]
max_header_bytes = "32KiB"
max_body_bytes = "unlimited"
max_connections = 10_000
header_timeout = "10s"
idle_timeout = "1m"
drain_timeout = "1h30m"
own_prefix = "/auth"
tls = { certificate = "c.pem", private_key = "k.pem", more = [{ certificate = "d.pem", private_key = "e.pem" }] }
[admin]
listen = "127.0.0.1:8081"
[state]
url = "sqlite:passgate.db"
[issuers.corp]
issuer = "https://id.example.com"
audiences = "api"
audience_claim = "client_id"
algorithms = ["RS256", "EdDSA"]
discovery = true
roles_claims = ["realm_access.roles", "https://example.com/roles"]
leeway = "0s"
max_age = "24h"
[issuers.old]
issuer = "legacy"
audiences = ["api", "web"]
algorithms = ["HS256"]
secret = { env = "OLD_SECRET" }
[credentials]
sources = [{ header = "Authorization", scheme = "Bearer" }, { header = "X-Token" }, { cookie = "__session" }, { query = "access_token" }]
[upstreams.app]
servers = ["http://127.0.0.1:3000", "https://app.internal", "h2c://[::1]:50051", "unix:/run/app.sock"]
host = "app.internal:8443"
health_check = { path = "/healthz", interval = "5s" }
[[routes]]
path = "/*"
auth = "optional"
upstream = "app"
[[routes]]
path = "/admin/*"
methods = ["GET", "PROPFIND"]
roles = { any = ["admin", "ops"], none = ["banned"] }
claims = { tenant = "acme", level = 3, "address.verified" = true }
scopes = ["reports:read"]
upstream = "app"
strip_prefix = "/admin"
headers = { "X-Env" = "prod", X-Empty = "" }
forward_credential = true
accept = ["encoded-slash"]
[identity]
preset = "authelia"
headers = { X-Tenant = "tenant" }
assertion = true
[session]
cookie = "__Host-app"
token_lifetime = "5m"
idle_timeout = "1h"
lifetime = "1d"
[password]
registration = true
default_roles = ["ops"]
min_length = 12
admin_role = "ops"
trust_unconfirmed_email = false
[pages]
name = "Ärzte & Co"
logo = "logo.svg"
colors = { accent = "#2f6f4f", accent_dark = "#FFF", background = "#000000", background_dark = "#abc" }
templates = "pages"
help = "Call the help desk, extension 4711."
[[tests]]
request = "GET /admin/users"
as = { roles = ["admin", "ops", "banned"], claims = { tenant = "acme" } }
expect = 403
[[tests]]
request = "GET http://app.example.com/"
expect = "allow"
"##;

#[test]
fn a_right_file_is_read_as_it_is_written() {
    let (raw, problems) = read_text(FULL);
    assert_eq!(problems.render(false), "");
    assert_eq!(raw.server.listen.len(), 3);
    assert_eq!(raw.server.listen[2].value, Listen::Systemd(None));
    assert_eq!(raw.server.max_body_bytes.unwrap().value, None);
    let scalars = &raw.server.scalars;
    assert_eq!(scalars.get::<u64>("server", "max_connections"), 10_000);
    assert_eq!(
        scalars.get::<Duration>("server", "drain_timeout"),
        Duration::from_secs(5400)
    );
    assert_eq!(raw.server.tls.unwrap().value.more.len(), 1);
    let names: Vec<&str> = raw.issuers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["corp", "old"]);
    assert_eq!(raw.issuers[0].1.audiences[0].value, "api");
    assert!(
        matches!(&raw.issuers[1].1.secret.as_ref().unwrap().value, RawSecret::Env(name) if name == "OLD_SECRET")
    );
    let sources = raw.sources.unwrap();
    assert_eq!(
        sources[0].value,
        RawSource::Header {
            name: http::header::AUTHORIZATION,
            scheme: Token::parse("Bearer")
        }
    );
    let route = &raw.routes[1];
    assert_eq!(&FULL[route.span.clone()], "[[routes]]");
    assert_eq!(&FULL[route.path.as_ref().unwrap().span.clone()], "\"/admin/*\"");
    assert_eq!(route.roles.as_ref().unwrap().any.as_ref().unwrap().len(), 2);
    assert!(route.roles.as_ref().unwrap().all.is_none());
    assert_eq!(route.claims.len(), 3);
    assert_eq!(route.headers.len(), 2);
    assert_eq!(raw.session.cookie.unwrap().value, "__Host-app");
    assert_eq!(
        raw.session.token_lifetime.unwrap().value,
        Duration::from_secs(300)
    );
    assert_eq!(raw.session.idle_timeout.unwrap().value, Duration::from_secs(3600));
    assert_eq!(raw.session.lifetime.unwrap().value, Duration::from_secs(86_400));
    let password = raw.password.unwrap();
    assert_eq!(&FULL[password.span.clone()], "[password]");
    assert!(password.registration.as_ref().unwrap().value);
    assert_eq!(password.default_roles[0].value, "ops");
    assert_eq!(password.min_length.as_ref().unwrap().value, 12);
    assert_eq!(password.admin_role.as_ref().unwrap().value, "ops");
    assert!(!password.trust_unconfirmed_email.as_ref().unwrap().value);
    assert_eq!(
        raw.pages.help.as_ref().unwrap().value,
        "Call the help desk, extension 4711."
    );
    assert_eq!(raw.server.trusted_proxies[2].value, TrustedProxy::Unix);
    assert_eq!(raw.pages.name.unwrap().value, "Ärzte & Co");
    assert_eq!(raw.pages.logo.unwrap().value, Path::new("logo.svg"));
    assert_eq!(raw.pages.colors.accent_dark.unwrap().value.to_string(), "#ffffff");
    assert_eq!(
        raw.pages.colors.background_dark.unwrap().value.to_string(),
        "#aabbcc"
    );
    assert_eq!(raw.pages.templates.unwrap().value, Path::new("pages"));
    assert_eq!(raw.tests[0].expect.value, RawExpect::Status(403));
    assert_eq!(problems.place(&raw.tests[1].span).to_string(), "gateway.toml:79");
}

#[test]
fn the_same_table_may_be_written_in_all_forms_of_toml() {
    for text in [
        "[upstreams.a]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"a\"\nroles = [\"r\"]\n",
        "upstreams.a.builtin = 'whoami'\nroutes = [{ path = '/*', upstream = 'a', roles = { any = ['r'] } }]\n",
        "upstreams = { a = { builtin = 'whoami' } }\r\n[[routes]]\r\npath = '/*'\r\nupstream = 'a'\r\nroles.any = ['r']\r\n",
        "\u{feff}[[routes]]\npath = '/*'\nupstream = 'a'\n[routes.roles]\nany = ['r']\n[upstreams]\n[upstreams.a]\nbuiltin = 'whoami'",
    ] {
        let (raw, problems) = read_text(text);
        assert_eq!(problems.render(false), "", "{text}");
        assert_eq!(raw.upstreams[0].0.value, "a");
        assert_eq!(
            raw.routes[0].roles.as_ref().unwrap().any.as_ref().unwrap()[0].value,
            "r"
        );
    }
}

#[test]
fn columns_count_characters_and_tables_that_end_the_file_have_a_place() {
    let text = "[upstreams.\"ä\"]\nbuiltin = \"whoami\"\n[upstreams.b] # ä\nserver = []";
    let answer = rendered(text);
    assert!(
        answer.contains("gateway.toml:1:12") && answer.contains("gateway.toml:4:1"),
        "{answer}"
    );
}

#[test]
fn long_lines_are_cut_around_the_place_and_odd_spans_do_no_harm() {
    let text = format!(
        "[server]\nlisten = [{} \"nowhere\", {}]\n",
        "\"127.0.0.1:1\",".repeat(4_000),
        "1,".repeat(4_000)
    );
    let (_, problems) = read_text(&text);
    // The same address thousands of times, and thousands of numbers: one problem each, none of them a long line.
    let answer = problems.render(false);
    assert!(answer.lines().all(|line| line.chars().count() < 250));
    assert!(answer.contains("\"nowhere\""));
    let answer = rendered(&format!(
        "[server]\nworkers = \"{}\"\nlisten = 1 # {}\n",
        "ä".repeat(500_000),
        "x".repeat(1_000_000)
    ));
    assert!(
        answer.len() < 2000 && answer.contains("gateway.toml:3:10"),
        "{answer}"
    );

    let mut problems = Problems::new(Path::new("x.toml"), "ä = \"ö\"\r\n\tb = 1");
    for (start, end) in [
        (0, 0),
        (1, 2),
        (3, 1),
        (6, 8),
        (8, 9),
        (9, 10),
        (10, 99),
        (99, 100),
        (usize::MAX, usize::MAX),
        (0, usize::MAX),
    ] {
        problems
            .error(&std::ops::Range { start, end }, format!("at {start}"))
            .also(end..start, "also")
            .hint("a\nb");
        problems.hide(&std::ops::Range {
            start: end,
            end: start,
        });
    }
    problems.warning(&(0..1), "");
    assert!(
        problems
            .render(false)
            .ends_with("10 errors, 1 warning in x.toml\n")
    );
    assert!(Problems::new(Path::new("x.toml"), "").render(true).is_empty());
}

#[test]
fn a_table_with_an_error_is_not_handed_on_and_is_no_missing_table() {
    let text = "[upstreams.app]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\nauth = \"non\"\n\
                [issuers.a]\nissuer = \"a\"\n[issuers.b]\nissuer = \"b\"\naudiences = \"b\"\nalgorithms = [\"RS256\"]\n\
                jwks_file = \"b.json\"\n";
    let (raw, problems) = read_text(text);
    assert_eq!(problems.errors().len(), 4, "{}", problems.render(false));
    assert!(problems.warnings().is_empty(), "{}", problems.render(false));
    assert!(raw.routes.is_empty() && raw.failed.has("", "routes"));
    let names: Vec<&str> = raw.issuers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["b"]);
    assert!(read_text("[server]\nlisten = \n").0.failed.is_everything());
}

/// The warnings and errors about where the session cookie goes, of a file with `server` and `[password]`.
fn transport(server: &str) -> String {
    let (_, problems) = read_text(&format!("[server]\n{server}\n[password]\n"));
    let said =
        |kind: &'static str, problem: &super::problems::Problem| format!("{kind}: {}", problem.message);
    let errors = problems.errors().iter().map(|problem| said("error", problem));
    errors
        .chain(problems.warnings().iter().map(|problem| said("warning", problem)))
        .collect::<Vec<_>>()
        .join("; ")
}

#[test]
fn people_sign_in_over_https_or_on_this_machine() {
    for server in [
        "public_url = 'https://app.example.com'\ntrusted_proxies = ['127.0.0.1']",
        "public_url = 'https://app.example.com'\nlisten = '0.0.0.0:80'\ntrusted_proxies = ['10.0.0.0/8']",
        "tls = { certificate = 'c.pem', private_key = 'k.pem' }\nlisten = '0.0.0.0:443'",
    ] {
        assert_eq!(transport(server), "", "{server}");
    }
    for server in [
        "",
        "listen = '127.0.0.1:0'",
        "listen = ['[::1]:8080', '127.9.9.9:80']",
        "public_url = 'http://localhost:3000'\nlisten = '0.0.0.0:8080'",
        "public_url = 'http://app.localhost'",
        "public_url = 'http://127.0.0.1'",
        "public_url = 'http://127.255.0.1:1'",
        "public_url = 'http://[::1]:8080'\nlisten = 'systemd'",
    ] {
        assert!(
            transport(server).starts_with("warning: the session cookie is called `passgate-session`"),
            "{server}"
        );
    }
    for server in [
        "public_url = 'http://app.example.com'",
        "public_url = 'http://10.0.0.1:8080'",
        "public_url = 'http://0.0.0.0:8080'",
        "public_url = 'http://notlocalhost'",
        "public_url = 'http://localhost.example.com'",
        "public_url = 'http://127.0.0.1.example.com'",
        "public_url = 'http://[::ffff:127.0.0.1]'",
        "public_url = 'http://[fe80::1]'",
    ] {
        assert_eq!(
            transport(server),
            "error: with `[password]`, `public_url` must be `https://`",
            "{server}"
        );
    }
    for listen in [
        "'0.0.0.0:8080'",
        "'[::]:8080'",
        "'10.0.0.1:80'",
        "'unix:/run/x'",
        "'systemd'",
        "['127.0.0.1:1', '[::]:2']",
    ] {
        assert_eq!(
            transport(&format!("listen = {listen}")),
            "error: with `[password]`, `public_url` must be written",
            "{listen}"
        );
    }
}

#[test]
fn a_proxy_that_ends_tls_and_is_not_listed_is_warned_of() {
    let warnings = |server: &str| {
        let (_, problems) = read_text(&format!("[server]\n{server}\n"));
        let text = problems.render(false);
        text.matches("without `[server.tls]` and without `trusted_proxies`")
            .count()
    };
    for server in [
        "public_url = 'https://app.example.com'",
        "public_url = 'https://app.example.com'\ntrusted_proxies = []",
        "public_url = 'https://app.example.com'\nlisten = 'unix:/run/x'",
    ] {
        assert_eq!(warnings(server), 1, "{server}");
    }
    for server in [
        "",
        "public_url = 'http://app.example.com'",
        "public_url = 'https://app.example.com'\ntls = { certificate = 'c.pem', private_key = 'k.pem' }",
        "public_url = 'https://app.example.com'\ntrusted_proxies = ['127.0.0.1']",
        "public_url = 'https://app.example.com'\ntrusted_proxies = ['unix']",
    ] {
        assert_eq!(warnings(server), 0, "{server}");
    }
}

#[test]
fn the_session_cookie_is_no_source_of_tokens_by_the_name_that_browsers_send() {
    let judge = |session: &str, source: &str, scheme: &str| {
        let (_, problems) = read_text(&format!(
            "[server]\npublic_url = '{scheme}://localhost'\n[credentials]\nsources = [{{ cookie = '{source}' }}]\n[session]\n{session}\n[password]\n"
        ));
        problems.errors().len()
    };
    assert_eq!(judge("", "__Host-session", "https"), 1);
    assert_eq!(
        judge("", "__Host-session", "http"),
        1,
        "it would be one with the next `public_url`"
    );
    assert_eq!(
        judge("", "passgate-session", "http"),
        1,
        "on plain HTTP this is its name"
    );
    assert_eq!(judge("", "passgate-session", "https"), 0);
    assert_eq!(
        judge("", "Passgate-session", "http"),
        0,
        "names of cookies have a case"
    );
    assert_eq!(judge("", "session", "http"), 0, "many apps call theirs so");
    assert_eq!(judge("cookie = '__Secure-a'", "a", "http"), 1);
    assert_eq!(judge("cookie = 'a'", "a", "https"), 1);
    assert_eq!(judge("cookie = 'a'", "__Host-session", "https"), 0);
}

#[test]
fn what_is_not_written_about_sessions_yields_to_what_is() {
    let judge = |session: &str| {
        let (_, problems) = read_text(&format!(
            "[server]\npublic_url = 'https://a.example'\ntrusted_proxies = ['unix']\n[session]\n{session}\n[password]\n"
        ));
        (problems.errors().len(), problems.warnings().len())
    };
    assert_eq!(judge("lifetime = '10m'"), (0, 0), "a token ends with its session");
    assert_eq!(
        judge("token_lifetime = '1h'\nlifetime = '1h'\nidle_timeout = '1h'"),
        (0, 0)
    );
    assert_eq!(judge("token_lifetime = '1h'\nlifetime = '59m'"), (0, 1));
    assert_eq!(judge("idle_timeout = '1h'\nlifetime = '59m'"), (0, 1));
    assert_eq!(
        judge("token_lifetime = '1s'\nlifetime = '1s'\nidle_timeout = '1s'"),
        (0, 0)
    );
    assert_eq!(
        judge("token_lifetime = '999ms'\nlifetime = '999ms'\nidle_timeout = '0s'"),
        (3, 0)
    );
    assert_eq!(judge("token_lifetime = '24h'"), (0, 0));
    assert_eq!(judge("token_lifetime = '24h1s'"), (1, 0));
}

#[test]
fn roles_that_are_meant_to_differ_are_not_questioned() {
    let routes = |roles: &str| {
        rendered(&format!(
            "[upstreams.a]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"a\"\nroles = [{roles}]\n"
        ))
    };
    assert_eq!(
        routes("'a', 'b', 'team-1', 'team-2', 'ops', 'dev', 'reader', 'writer'"),
        ""
    );
    assert!(routes("'admin', 'admn'").contains("role `admn` is named only here"));
    assert_eq!(routes("'admin', 'admn'").matches("warning:").count(), 1);
}

/// Not a measurement: what is quadratic takes minutes here, what is linear a second in a build without optimisation.
#[test]
fn ten_thousand_routes_are_read_in_linear_time() {
    use std::fmt::Write;
    let mut text = "[upstreams.app]\nbuiltin = \"whoami\"\n".to_owned();
    for n in 0..10_000 {
        writeln!(
            text,
            "[[routes]]\npath = \"/tenant-{n}/*\"\nroles = [\"role-{n}\"]\nupstream = \"app\""
        )
        .unwrap();
    }
    let start = Instant::now();
    let (raw, problems) = read_text(&text);
    assert_eq!(raw.routes.len(), 10_000);
    let last = &raw.routes[9_999];
    assert_eq!(problems.place(&last.span).line, 3 + 4 * 9_999);
    assert_eq!(problems.render(false), "");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");

    // And when each of them is wrong.
    let (_, problems) = read_text(&text.replace("roles", "rolls").replace("\"app\"", "\"ap\""));
    assert!(problems.render(false).ends_with("10001 errors in gateway.toml\n"));
}

/// Texts that are nearly a right file: pieces of one cut, doubled, swapped, and signs put in.
fn nearly_right() -> impl Strategy<Value = String> {
    let sign = prop_oneof![
        Just("\""),
        Just("'"),
        Just("\"\"\""),
        Just("["),
        Just("]"),
        Just("[["),
        Just("{"),
        Just("}"),
        Just("="),
        Just(","),
        Just("."),
        Just("#"),
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\0"),
        Just("ä"),
        Just("secret"),
        Just("\\u0000"),
        Just("-1"),
        Just("1e999"),
        Just("0xffffffffffffffffffff"),
        Just("1979-05-27"),
        Just("true"),
        Just("\u{feff}"),
    ];
    let edit = (
        any::<prop::sample::Index>(),
        0..40_usize,
        sign,
        any::<prop::sample::Index>(),
    );
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = FULL.chars().collect();
        for (at, cut, sign, from) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            let copied: Vec<char> = text[from.index(text.len() + 1).min(end)..end]
                .iter()
                .take(200)
                .copied()
                .collect();
            text.splice(at..end, sign.chars());
            text.extend(copied);
        }
        text.into_iter().collect()
    })
}

/// Tables, keys and values put together without regard for which belong together.
fn mixed_up() -> impl Strategy<Value = String> {
    let keys: Vec<String> = TABLES
        .iter()
        .flat_map(|table| {
            let name = |key: &str| {
                format!("{}.{key}", table.path)
                    .trim_start_matches('.')
                    .replace('*', "x")
            };
            table.keys.iter().map(move |key| name(key.name))
        })
        .chain(
            [
                "session",
                "providers.x",
                "routes.cors",
                "routes.headers",
                "routes.claims",
                "x",
            ]
            .map(str::to_owned),
        )
        .collect();
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "1.5",
        "true",
        "\"\"",
        "\"x\"",
        "\"1s\"",
        "\"1B\"",
        "[]",
        "[[]]",
        "{}",
        "[1, \"x\", {}]",
        "{ x = 1 }",
        "{ file = 1, env = 2 }",
        "1979-05-27",
        "\"\\u001b\\n\"",
        "[\"ä\"]",
        "99999999999999999999999",
        "\"https://a:b@c\"",
        "[{ header = \"x\" }]",
        "{ Connection = \"x\", x = \"\\n\" }",
        "nan",
    ]);
    let line = (prop::sample::select(keys), 0..4_u8, value).prop_map(|(key, form, value)| match form {
        0 => format!("[{key}]\n"),
        1 => format!("[[{key}]]\n"),
        2 => format!("{key} = {value}\n"),
        _ => format!("{} = {value}\n", key.rsplit('.').next().unwrap_or_default()),
    });
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

fn survives(text: &str) {
    let (_, problems) = read_text(text);
    let answer = problems.render(false);
    assert_eq!(
        answer.is_empty(),
        problems.errors().is_empty() && problems.warnings().is_empty()
    );
    assert!(answer.lines().all(|line| line.chars().count() < 2000), "{answer}");
    assert!(!answer.contains('\u{1b}'));
    assert_eq!(problems.render(true).is_empty(), answer.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn arbitrary_text_is_survived(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn text_of_toml_signs_is_survived(text in "[\\[\\]{}=.,'\"#a-c0-9 \n\r\\\\-]{0,200}") {
        survives(&text);
    }

    #[test]
    fn a_nearly_right_file_is_survived(text in nearly_right()) {
        survives(&text);
    }

    #[test]
    fn a_mixed_up_file_is_survived(text in mixed_up()) {
        survives(&text);
    }
}
