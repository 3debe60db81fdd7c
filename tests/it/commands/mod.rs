//! The command line: exit codes, what is said about a wrong file, tokens, keys.
#![allow(clippy::unwrap_used, clippy::panic)]

mod provider_rows;
mod troubleshooting;

use crate::support::gateway::{CORP_ISSUER, Output, before, run};
use crate::support::tokens::{CORP_SECRET, header, payload};
use crate::support::*;
use serde_json::{Value, json};

const GOOD: &str = r#"
[upstreams.app]
servers = ["http://127.0.0.1:3000"]

[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"

[[routes]]
path = "/admin/*"
roles = ["admin"]
upstream = "app"
"#;

fn good() -> String {
    format!("{CORP_ISSUER}{GOOD}")
}

fn check(toml: &str) -> Output {
    Setup::new(toml).command(["check"])
}

/// The line of the configuration, from 1, that holds `text` for the first time.
#[track_caller]
fn line_of(toml: &str, text: &str) -> usize {
    toml.lines()
        .position(|line| line.contains(text))
        .unwrap_or_else(|| panic!("no {text:?}"))
        + 1
}

/// `toml` is refused with `needles` in what is said, and with the place of `text` as `gateway.toml:LINE:COLUMN`.
#[track_caller]
fn is_refused_at(toml: &str, text: &str, needles: &[&str]) {
    let said = check(toml).expect(2).all();
    let line = line_of(toml, text);
    assert!(
        said.contains(&format!("gateway.toml:{line}:")),
        "line {line} is not named in\n{said}"
    );
    let after = said.split(&format!("gateway.toml:{line}:")).nth(1).unwrap();
    assert!(
        after.starts_with(|letter: char| letter.is_ascii_digit()),
        "no column in\n{said}"
    );
    for needle in needles {
        assert!(said.contains(needle), "{needle:?} is not in\n{said}");
    }
}

// --- check

#[test]
fn check_takes_a_good_file_and_prints_the_routes() {
    let said = check(&good()).expect(0);
    assert!(
        said.stdout.contains("/public/*") && said.stdout.contains("/admin/*"),
        "{}",
        said.stdout
    );
}

/// Express, Django and others answer `/reports` and `/reports/` alike; a rule on one of them is then no rule.
#[test]
fn check_warns_of_a_trailing_slash_that_bypasses_a_rule() {
    let with = |route: &str| {
        let said = check(&format!("{}{route}", good().replace("/public/*", "/*")))
            .expect(0)
            .all();
        said.contains("asks for less").then_some(said)
    };
    let route =
        |path: &str, more: &str| format!("\n[[routes]]\npath = \"{path}\"\nupstream = \"app\"\n{more}");
    for (path, other) in [
        ("/reports", "/reports/"),
        ("/reports/", "/reports"),
        ("/of/{user}", "/of/x/"),
    ] {
        let said = with(&route(path, "")).unwrap_or_else(|| panic!("no warning of {path}"));
        assert!(
            said.contains(&format!("`{other}` is not this path")) && said.contains("/*`"),
            "{said}"
        );
    }
    assert!(with(&route("/reports", "methods = [\"POST\"]\n")).is_some());
    assert!(with(&route("/reports", "host = \"a.example\"\n")).is_some());
    // A subtree, a route that asks for nothing, and one whose twin asks for as much.
    assert!(with(&route("/reports/*", "")).is_none());
    assert!(with(&route("/reports", "auth = \"none\"\n")).is_none());
    assert!(with(&route("/admin/reports", "roles = [\"admin\"]\n")).is_none());
    assert!(with(&format!("{}{}", route("/reports", ""), route("/reports/", ""))).is_none());
}

#[test]
fn check_warns_of_weaker_rules_for_post_or_head() {
    let with = |routes: &[(&str, &str)]| {
        let routes: String = routes
            .iter()
            .map(|(methods, rules)| {
                let methods = if methods.is_empty() {
                    String::new()
                } else {
                    format!("methods = [{methods}]\n")
                };
                format!("\n[[routes]]\npath = \"/items/{{id}}\"\nupstream = \"app\"\n{methods}{rules}\n")
            })
            .collect();
        check(&format!("{}{routes}", good())).expect(0).all()
    };
    let (anyone, admin) = ("auth = \"none\"", "roles = [\"admin\"]");
    let post = "POST asks for less here than ";
    for (routes, wanted) in [
        (vec![("\"POST\"", ""), ("\"DELETE\"", admin)], Some("DELETE")),
        (vec![("\"PUT\"", admin), ("\"GET\", \"POST\"", "")], Some("PUT")),
        (vec![("\"PATCH\"", admin), ("", "")], Some("PATCH")),
        (vec![("\"GET\", \"HEAD\"", ""), ("\"POST\"", anyone)], Some("GET")),
        (
            vec![
                ("\"DELETE\"", "roles = [\"admin\", \"ops\"]"),
                ("\"POST\"", admin),
            ],
            Some("DELETE"),
        ),
        (vec![("\"POST\"", admin), ("\"DELETE\"", admin)], None),
        (vec![("\"POST\"", admin), ("\"DELETE\"", "")], None),
        (vec![("\"GET\", \"HEAD\"", anyone), ("", admin)], None),
        (vec![("\"DELETE\"", admin), ("\"GET\", \"HEAD\"", "")], None),
        (vec![("", admin)], None),
    ] {
        let said = with(&routes);
        let told = said
            .split_once(post)
            .map(|(_, rest)| rest.split(' ').next().unwrap());
        assert_eq!(told, wanted, "{routes:?}\n{said}");
        assert_eq!(said.contains("_method"), wanted.is_some(), "{said}");
    }
    let said = with(&[("\"GET\"", admin), ("", "")]);
    assert!(
        said.contains("HEAD asks for less here than GET on the same path"),
        "{said}"
    );
    let said = with(&[("\"GET\", \"HEAD\", \"POST\"", admin), ("", "")]);
    assert!(!said.contains("asks for less here"), "{said}");
}

#[test]
fn check_needs_no_network() {
    // Nobody is at these addresses; what is wrong with that is for `/ready` to say.
    let toml = "[issuers.corp]\nissuer = \"http://127.0.0.1:1\"\naudiences = [\"api\"]\nalgorithms = [\"RS256\"]\n\
                discovery = true\n[upstreams.app]\nservers = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
    check(toml).expect(0);
}

#[test]
fn a_mistyped_key_is_underlined_with_the_nearest_right_one() {
    for (right, wrong) in [
        ("upstream = \"app\"", "upsteam = \"app\""),
        ("roles = [\"admin\"]", "role = [\"admin\"]"),
        ("audiences = [\"api\"]", "audience = [\"api\"]"),
        ("[[routes]]", "[[route]]"),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "server = [\"http://127.0.0.1:3000\"]",
        ),
    ] {
        let toml = good().replacen(right, wrong, 1);
        let name = |text: &str| {
            text.trim_matches(['[', ']'])
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        is_refused_at(
            &toml,
            wrong,
            &["did you mean", &format!("`{}`", name(right)), wrong],
        );
    }
}

#[test]
fn unknown_name_suggests_the_nearest_one() {
    let toml = good().replacen("upstream = \"app\"", "upstream = \"ap\"", 1);
    is_refused_at(&toml, "upstream = \"ap\"", &["did you mean", "app"]);
    let toml = good().replace("auth = \"none\"", "auth = \"non\"");
    is_refused_at(&toml, "auth = \"non\"", &["none"]);
    let toml = good().replace("[\"HS256\"]", "[\"HS255\"]");
    is_refused_at(&toml, "HS255", &["HS256"]);
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    let replacements: &[(&str, &str)] = &[
        ("path = \"/public/*\"", "path = \"public\""),
        ("path = \"/public/*\"", "path = \"/a/*/b\""),
        ("path = \"/public/*\"", "path = \"/a//b\""),
        ("path = \"/public/*\"", "path = \"/a/../b\""),
        ("path = \"/public/*\"", "path = \"/{x\""),
        ("path = \"/public/*\"", "path = 7"),
        ("auth = \"none\"", "auth = true"),
        ("auth = \"none\"", "auth = \"none\"\nroles = [\"x\"]"),
        ("auth = \"none\"", "methods = [\"CONNECT\"]"),
        ("auth = \"none\"", "methods = [\"GE T\"]"),
        ("auth = \"none\"", "host = \"a/b\""),
        ("auth = \"none\"", "host = \"a.*.test\""),
        ("auth = \"none\"", "headers = { \"X Y\" = \"z\" }"),
        ("auth = \"none\"", "headers = { \"X-Y\" = \"a\\nb\" }"),
        ("auth = \"none\"", "accept = [\"everything\"]"),
        ("auth = \"none\"", "strip_prefix = \"/other\""),
        ("roles = [\"admin\"]", "roles = \"admin\""),
        ("roles = [\"admin\"]", "roles = { some = [\"admin\"] }"),
        ("servers = [\"http://127.0.0.1:3000\"]", "servers = []"),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"127.0.0.1:3000\"]",
        ),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"ftp://127.0.0.1\"]",
        ),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"http://a\"]\nconnect_timeout = 2",
        ),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"http://a\"]\nconnect_timeout = \"2\"",
        ),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"http://a\"]\nconnect_timeout = \"2 parsecs\"",
        ),
        (
            "servers = [\"http://127.0.0.1:3000\"]",
            "servers = [\"http://a\"]\nbuiltin = \"whoami\"",
        ),
        ("servers = [\"http://127.0.0.1:3000\"]", "builtin = \"whoarewe\""),
        ("audiences = [\"api\"]", "audiences = []"),
        ("algorithms = [\"HS256\"]", "algorithms = []"),
        ("algorithms = [\"HS256\"]", "algorithms = [\"none\"]"),
        ("algorithms = [\"HS256\"]", "algorithms = [\"RS256\"]"),
        (
            "secret = { file = \"corp.secret\" }",
            "secret = \"inline-secret-that-must-not-be-here-0123456789\"",
        ),
        (
            "secret = { file = \"corp.secret\" }",
            "secret = { file = \"missing.secret\" }",
        ),
        (
            "secret = { file = \"corp.secret\" }",
            "secret = { env = \"PASSGATE_TEST_UNSET\" }",
        ),
        (
            "secret = { file = \"corp.secret\" }",
            "jwks_file = \"missing.json\"",
        ),
        (
            "secret = { file = \"corp.secret\" }",
            "jwks_url = \"http://id.example.com/jwks\"",
        ),
        ("secret = { file = \"corp.secret\" }", "jwks_url = \"not a url\""),
    ];
    for (right, wrong) in replacements {
        let toml = good().replacen(right, wrong, 1);
        assert_ne!(toml, good(), "{right}");
        let said = check(&toml).expect(2).all();
        let (first, lines) = (
            line_of(&toml, wrong.lines().next().unwrap()),
            wrong.lines().count(),
        );
        // A rule that misses something is named by its table as well as by its line.
        let named = (first.saturating_sub(5)..=first + lines + 2)
            .any(|line| said.contains(&format!("gateway.toml:{line}:")));
        assert!(named, "{wrong}: no place near line {first} in\n{said}");
    }
}

#[test]
fn issuer_without_a_required_key_is_refused() {
    for missing in [
        "issuer = \"https://id.example.com\"\n",
        "audiences = [\"api\"]\n",
        "algorithms = [\"HS256\"]\n",
    ] {
        let said = check(&good().replacen(missing, "", 1)).expect(2).all();
        let name = missing.split(' ').next().unwrap();
        assert!(said.contains(&format!("`{name}`")), "{said}");
    }
    let said = check(&good().replacen("secret = { file = \"corp.secret\" }\n", "", 1))
        .expect(2)
        .all();
    assert!(said.contains("jwks_url") || said.contains("keys"), "{said}");
    let two = good().replacen("secret = ", "jwks_file = \"keys.json\"\nsecret = ", 1);
    check(&two).expect(2);
    let twice = format!(
        "{}{}",
        good(),
        CORP_ISSUER
            .replace("corp", "again")
            .replace("again.secret", "corp.secret")
    );
    let said = check(&twice).expect(2).all();
    assert!(
        said.contains("https://id.example.com"),
        "two issuers with one `iss`:\n{said}"
    );
}

#[test]
fn tables_that_lack_a_part_are_not_accepted() {
    is_refused_at(
        &format!("{}\n[providers.google]\npreset = \"google\"\n", good()),
        "[providers.google]",
        &[],
    );
    for line in [
        "cors = { credentials = true }",
        "rate_limit = { requests = 1, by = \"ip\" }",
        "maintenance = {}",
        "any = []",
    ] {
        let toml = good().replacen("auth = \"none\"", line, 1);
        is_refused_at(&toml, line.split(' ').next().unwrap(), &[]);
    }
}

#[test]
fn route_cannot_name_an_endpoint_of_the_gateway() {
    for path in ["/auth/login", "/auth/*", "/auth", "/auth/.well-known/jwks.json"] {
        let toml = good().replacen("/public/*", path, 1);
        is_refused_at(&toml, &format!("path = \"{path}\""), &[]);
    }
    let moved = format!(
        "{}[server]\nlisten = \"127.0.0.1:0\"\nown_prefix = \"/_gate\"\n",
        good().replacen("/public/*", "/auth/*", 1)
    );
    check(&moved).expect(0);
}

#[test]
fn a_route_cannot_set_a_header_of_the_identity() {
    for name in [
        "X-Auth-User",
        "x_auth_user",
        "X-Auth-Roles",
        "Host",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
    ] {
        let toml = good().replacen(
            "auth = \"none\"",
            &format!("headers = {{ \"{name}\" = \"x\" }}"),
            1,
        );
        is_refused_at(&toml, name, &[]);
    }
}

#[test]
fn gateways_own_fields_can_be_neither_kept_nor_trusted() {
    let route = |kept: &str| format!("{}keep_headers = [\n\"{kept}\"]\n", good());
    let server = |trusted: &str| {
        format!(
            "{}[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\ntrusted_headers = [\n\"{trusted}\"]\n",
            good()
        )
    };
    for name in [
        "X-Auth-User",
        "x-auth-x",
        "Remote-Groups",
        "X-Forwarded-Email",
        "X-Forwarded-For",
        "Authorization",
        "Cookie",
        "Host",
    ] {
        is_refused_at(
            &route(name),
            &format!("\"{name}\""),
            &["`keep_headers` cannot name"],
        );
        is_refused_at(
            &server(name),
            &format!("\"{name}\""),
            &["`trusted_headers` cannot name"],
        );
    }
    is_refused_at(
        &route("X_HTTP_Method"),
        "\"X_HTTP_Method\"",
        &["write `X-HTTP-Method`"],
    );
    is_refused_at(
        &route("X-Real-IP"),
        "\"X-Real-IP\"",
        &["`[server] trusted_headers`"],
    );
    check(&route("X-HTTP-Method-Override")).expect(0);
    check(&server("X-Real-IP")).expect(0);
    let said = check(&server("X-Real-IP").replace("trusted_proxies = [\"10.0.0.0/8\"]", ""))
        .expect(0)
        .stderr;
    assert!(
        said.contains("`trusted_headers` has no effect without `trusted_proxies`"),
        "{said}"
    );
    let said = check(&route("X-Gitlab-Token")).expect(0).stderr;
    assert!(said.contains("`X-Gitlab-Token` is not removed"), "{said}");
}

#[test]
fn all_problems_are_reported_together() {
    let toml = good()
        .replacen("upstream = \"app\"", "upsteam = \"app\"", 1)
        .replace("roles = [\"admin\"]", "roels = [\"admin\"]")
        .replace("audiences", "audiences_")
        .replace("servers = [\"http", "servers = [\"gopher");
    let said = check(&toml).expect(2).all();
    for text in ["upsteam", "roels", "audiences_", "gopher"] {
        let line = line_of(&toml, text);
        assert!(
            said.contains(&format!("gateway.toml:{line}:")),
            "line {line} ({text}) is not named in\n{said}"
        );
    }
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_place() {
    let toml = format!("{}\n[broken\n", good());
    is_refused_at(&toml, "[broken", &[]);
    let twice = good().replacen("auth = \"none\"", "auth = \"none\"\nauth = \"required\"", 1);
    is_refused_at(&twice, "auth = \"required\"", &[]);
    check("\u{0}").expect(2);
}

#[test]
fn a_missing_file_is_named() {
    for command in ["check", "run"] {
        let said = run(&[command, "-c", "/nowhere/gateway.toml"], "").expect(2);
        assert!(said.stderr.contains("/nowhere/gateway.toml"), "{}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
}

#[test]
fn run_refuses_what_check_refuses() {
    let setup = Setup::new(&good().replacen("upstream = \"app\"", "upsteam = \"app\"", 1));
    let said = setup.command(["run"]).expect(2);
    assert!(said.stderr.contains("upsteam"), "{}", said.stderr);
}

#[test]
fn each_file_of_a_certificate_that_cannot_be_used_is_underlined() {
    let toml = format!(
        "{}\n[server.tls]\ncertificate = \"none.pem\"\nprivate_key = \"none.key\"\n\
         more = [{{ certificate = \"a.pem\", private_key = \"b.key\" }}]\n",
        good()
    );
    let setup = Setup::new(&toml);
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.test")]).unwrap();
        setup
            .write(&format!("{name}.pem"), made.cert.pem())
            .write(&format!("{name}.key"), made.signing_key.serialize_pem());
    }
    let said = setup.command(["check"]).expect(2).stderr;
    for (text, column) in [
        ("certificate = \"none", 15),
        ("private_key = \"none", 15),
        ("more =", 48),
    ] {
        let place = format!("gateway.toml:{}:{column}\n", line_of(&toml, text));
        assert!(said.contains(&place), "no {place}in\n{said}");
    }
    assert!(said.contains("does not go with"), "{said}");
    assert_eq!(said.matches("= hint: ").count(), 3, "{said}");
}

#[test]
fn pattern_of_a_route_is_explained_in_a_sentence() {
    is_refused_at(
        &good().replace("/public/*", "public"),
        "public",
        &["`path`: a path starts with `/`"],
    );
    let toml = good().replace("auth = \"none\"", "host = \"http://a\"");
    is_refused_at(&toml, "host = ", &["`host`: this is no host"]);
}

#[test]
fn foreign_issuer_cannot_have_the_gateways_own_name() {
    let toml = good().replace("https://id.example.com", "http://app.test");
    is_refused_at(
        &toml,
        "issuer = \"http://app.test\"",
        &["`http://app.test`", "own tokens", "public_url"],
    );
}

#[test]
fn surprising_but_valid_values_are_warned_about() {
    let address = "[server]\nlisten = \"127.0.0.1:8080\"\n";
    let said = check(&format!("{}{address}[identity]\nassertion = true\n", good()))
        .expect(0)
        .stderr;
    assert!(
        said.contains("warning: without `public_url`") && said.contains("`http://127.0.0.1:8080`"),
        "{said}"
    );
    let named = "[server]\npublic_url = \"https://app.example.com\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let said = check(&format!("{}{named}[identity]\nassertion = true\n", good()))
        .expect(0)
        .stderr;
    assert_eq!(said, "");
}

#[test]
fn truncated_file_is_refused() {
    let said = Setup::exactly("").command(["check"]).expect(2).stderr;
    assert!(
        said.contains("error: the file is empty") && said.contains("`passgate example`"),
        "{said}"
    );
    let said = check("").expect(2).stderr;
    assert!(said.contains("error: the file has no `[[routes]]`"), "{said}");
    // One mistake is one problem.
    for toml in [
        "[routes]\npath = \"/*\"\n",
        "[[route]]\npath = \"/*\"\n",
        "routes = 1\n",
        "{}\n",
        "[[routes]\n",
    ] {
        let said = Setup::exactly(toml).command(["check"]).expect(2).stderr;
        assert!(
            said.ends_with("1 error in ".to_owned().as_str()) || said.contains("\n1 error in "),
            "{toml}:\n{said}"
        );
    }
}

#[test]
fn running_gateway_refuses_a_truncated_file() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n",
    );
    for (at, cut) in ["", "[server]\n", "[upstreams.app]\nbuiltin = \"whoami\"\n"]
        .into_iter()
        .enumerate()
    {
        gateway.setup.write("gateway.toml", cut);
        gateway.signal("HUP");
        eventually("the file is refused", || {
            gateway
                .diagnostics()
                .iter()
                .filter(|line| line.contains("was not applied"))
                .count()
                == at + 1
        });
        gateway.get("/x").expect(200);
    }
}

#[test]
fn file_without_any_sign_in_method_is_warned_about() {
    let route = "[upstreams.app]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/*\"\nupstream = \"app\"\n";
    let warned = |toml: &str| check(toml).expect(0).stderr.contains("this route needs a caller");
    assert!(warned(route));
    assert!(warned(&format!("{route}auth = \"required\"\n")));
    assert!(!warned(&format!("{route}auth = \"none\"\n")));
    assert!(!warned(&format!("{route}auth = \"optional\"\n")));
    assert!(!warned(&format!("{CORP_ISSUER}{route}")));
    assert!(!warned(&format!(
        "{route}[password]\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://a.test\"\n"
    )));
}

#[test]
fn a_path_that_no_request_can_have_is_an_error() {
    let with = |path: &str, more: &str| {
        good().replacen("path = \"/public/*\"", &format!("path = \"{path}\"{more}"), 1)
    };
    for (path, needle) in [
        ("/a b", "`/a%20b`"),
        ("/%61uth/*", "`/auth/*`"),
        ("/a%2Db/c d/*", "`/a%2Db/c%20d/*`"),
        ("/%2Ewell-known/jwks.json", "is where the gateway itself answers"),
        ("/a%2fb", "`accept = [\\\"encoded-slash\\\"]`"),
        ("/a/b%2Fc/*", "encoded-slash"),
        ("^/api", "no regular expression"),
        ("/*.css", "no endings"),
        ("/search?q=*", "leave `?q=*` out"),
    ] {
        let needle = needle.replace("\\\"", "\"");
        is_refused_at(&with(path, ""), &format!("path = \"{path}\""), &[&needle]);
    }
    check(&with("/a%2Fb", "\naccept = [\"encoded-slash\"]")).expect(0);
    for path in ["/caf\u{e9}/*", "/caf%c3%a9", "/%3Ax", "/%2A", "/a@b", "/100%25"] {
        check(&with(path, "")).expect(0);
    }
}

#[test]
fn port_0_is_not_part_of_the_sites_name() {
    let toml = format!(
        "{}\n[server]\nlisten = \"127.0.0.1:0\"\n[[tests]]\nrequest = \"GET /public/x\"\nexpect = \"allow\"\n",
        good()
    );
    let setup = Setup::exactly(&toml);
    setup.command(["check"]).expect(0);
    let said = setup.command(["explain", "GET", "/public/x"]).expect(0).stdout;
    assert!(said.contains("on host 127.0.0.1\n"), "{said}");
}

#[test]
fn problems_are_printed_on_standard_error() {
    let said = check(&good().replacen("upstream = \"app\"", "upsteam = \"app\"", 1)).expect(2);
    assert!(
        said.stderr.contains("upsteam") && !said.stdout.contains("upsteam"),
        "{said:?}"
    );
}

// --- the tests of a file

#[test]
fn tests_of_the_file_that_hold_pass() {
    let tests = r#"
[[tests]]
request = "GET /admin/users"
as = { roles = ["user"] }
expect = 403

[[tests]]
request = "GET /admin/users"
as = { roles = ["admin"], subject = "alice" }
expect = "allow"

[[tests]]
request = "GET /admin/users"
expect = 401

[[tests]]
request = "GET /public/x"
expect = "allow"

[[tests]]
request = "GET http://any.example/nowhere"
expect = 404

[[tests]]
request = "GET /admin/../public/x"
expect = 400
"#;
    check(&format!("{}{tests}", good())).expect(0);
}

#[test]
fn tests_of_the_file_cover_endpoints_of_the_gateway() {
    let tests = [
        ("GET /auth/login", "404"),
        ("GET /.well-known/jwks.json", "\"allow\""),
        ("POST /.well-known/jwks.json", "405"),
        ("GET /.well-known/openid-configuration", "\"allow\""),
        ("POST /auth/.well-known/openid-configuration", "405"),
    ]
    .map(|(request, expect)| format!("[[tests]]\nrequest = \"{request}\"\nexpect = {expect}\n"))
    .concat();
    let toml = good().replace("/public/*", "/*");
    check(&format!("{toml}{tests}")).expect(0);
    let moved = format!(
        "{toml}[[tests]]\nrequest = \"GET /auth/login\"\nexpect = \"allow\"\n[server]\nown_prefix = \"/gate\"\n"
    );
    check(&moved).expect(0);
}

#[test]
fn a_test_of_the_file_that_fails_is_named_with_its_line() {
    let tests = "\n[[tests]]\nrequest = \"GET /public/x\"\nexpect = \"allow\"\n\n\
                 [[tests]]\nrequest = \"GET /admin/failing\"\nas = { roles = [\"admin\"] }\nexpect = 403\n";
    let toml = format!("{}{tests}", good());
    let said = check(&toml).expect(2).all();
    let line = line_of(&toml, "/admin/failing");
    let named = (line - 1..=line + 2).any(|line| said.contains(&format!("gateway.toml:{line}")));
    assert!(named, "no line from {} to {} in\n{said}", line - 1, line + 2);
    assert!(said.contains("/admin/failing") && said.contains("403"), "{said}");
    // A gateway whose own tests fail does not start.
    Setup::new(&toml).command(["run"]).expect(2);
}

#[test]
fn the_roles_of_a_test_are_checked_for_typing_errors() {
    let toml = format!(
        "{}\n[[tests]]\nrequest = \"GET /admin/x\"\nas = {{ roels = [\"admin\"] }}\nexpect = \"allow\"\n",
        good()
    );
    is_refused_at(&toml, "roels", &["roles"]);
}

// --- explain

#[test]
fn explain_says_allowed_and_names_the_line_of_the_route() {
    let toml = good();
    let setup = Setup::new(&toml);
    let said = setup
        .command([
            "explain",
            "GET",
            "/admin/users",
            "--as",
            "alice",
            "--role",
            "admin",
        ])
        .expect(0)
        .all();
    let path = line_of(&toml, "/admin/*");
    assert!(
        (path - 1..=path).any(|line| said.contains(&format!("gateway.toml:{line}"))),
        "{said}"
    );
    assert!(said.contains("alice") && said.contains("admin"), "{said}");
    setup.command(["explain", "GET", "/public/x"]).expect(0);
    setup
        .command(["explain", "GET", "http://any.example/public/x?q=1"])
        .expect(0);
}

#[test]
fn explain_says_refused_and_names_the_line_of_the_rule() {
    let toml = good();
    let setup = Setup::new(&toml);
    let said = setup
        .command([
            "explain",
            "GET",
            "/admin/users",
            "--as",
            "alice",
            "--role",
            "user",
        ])
        .expect(3)
        .all();
    let rule = line_of(&toml, "roles = [\"admin\"]");
    assert!(
        said.contains(&format!("gateway.toml:{rule}")),
        "line {rule} is not named in\n{said}"
    );
    assert!(said.contains("403"), "{said}");
    let said = setup.command(["explain", "GET", "/admin/users"]).expect(3).all();
    assert!(said.contains("401"), "{said}");
    let said = setup.command(["explain", "GET", "/nowhere"]).expect(3).all();
    assert!(said.contains("404"), "{said}");
    let said = setup
        .command(["explain", "GET", "/admin/..%2f/x"])
        .expect(3)
        .all();
    assert!(said.contains("400"), "{said}");
}

#[test]
fn explain_follows_a_token_and_does_not_print_it() {
    let setup = Setup::new(&good());
    let header = |token: &str| format!("Authorization: Bearer {token}");
    let token = corp_token("alice", &["admin"]);
    let said = setup
        .command(["explain", "GET", "/admin/x", "-H", &header(&token)])
        .expect(0)
        .all();
    assert!(said.contains("alice") && said.contains("corp"), "{said}");
    assert!(!said.contains(&token) && !said.contains(CORP_SECRET), "{said}");
    let mut claims = corp_claims("alice");
    claims["aud"] = json!("other");
    let said = setup
        .command([
            "explain",
            "GET",
            "/admin/x",
            "-H",
            &header(&corp_token_of(&claims)),
        ])
        .expect(3)
        .all();
    assert!(said.contains("audience"), "{said}");
    let stranger =
        Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256").token(&corp_claims("alice"));
    let said = setup
        .command(["explain", "GET", "/admin/x", "-H", &header(&stranger)])
        .expect(3)
        .all();
    assert!(said.contains("signature"), "{said}");
}

#[test]
fn explain_and_the_running_gateway_agree() {
    let app = App::start();
    let routes = GOOD.split_once("[[routes]]").unwrap().1;
    let gateway = Gateway::before(&app, &format!("[[routes]]{routes}"));
    for (method, target, roles) in [
        ("GET", "/admin/x", vec!["admin"]),
        ("GET", "/admin/x", vec!["user"]),
        ("POST", "/admin", vec!["admin"]),
        ("GET", "/public/x", vec![]),
        ("GET", "/public//x", vec![]),
        ("GET", "/administrator", vec!["admin"]),
        ("TRACE", "/public/x", vec![]),
    ] {
        let token = corp_token("alice", &roles);
        let field = format!("Authorization: Bearer {token}");
        let code = gateway
            .command(["explain", method, target, "-H", &field])
            .code
            .unwrap();
        let status = gateway.send(&Request::new(method, target).bearer(&token)).status;
        assert_eq!(
            code,
            if status == 200 { 0 } else { 3 },
            "{method} {target} {roles:?}: {status}"
        );
    }
}

#[test]
fn explain_does_not_print_the_query() {
    let toml = good().replacen(
        "[[routes]]",
        "[credentials]\nsources = [{ query = \"access_token\" }]\n\n[[routes]]",
        1,
    );
    let token = corp_token("alice", &["admin"]);
    let said = Setup::new(&toml)
        .command(["explain", "GET", &format!("/admin/x?access_token={token}")])
        .expect(0)
        .all();
    assert!(
        said.starts_with("GET /admin/x?… on host") && !said.contains(&token),
        "{said}"
    );
}

#[test]
fn explain_names_the_issuers_line_and_the_age_of_expiry() {
    let toml = good();
    let mut claims = corp_claims("alice");
    claims["exp"] = json!(claims["iat"].as_i64().unwrap() - 7200);
    let field = format!("Authorization: Bearer {}", corp_token_of(&claims));
    let said = Setup::new(&toml)
        .command(["explain", "GET", "/admin/x", "-H", &field])
        .expect(3)
        .all();
    let line = line_of(&toml, "[issuers.corp]");
    assert!(
        said.contains(&format!("gateway.toml:{line})")),
        "line {line} is not named in\n{said}"
    );
    assert!(
        said.contains("✗ expires") && said.contains("(2 h 0 min ago)"),
        "{said}"
    );
}

#[test]
fn explain_covers_endpoints_of_the_gateway() {
    let setup = Setup::new(&good());
    let said = setup
        .command(["explain", "GET", "/.well-known/jwks.json"])
        .expect(0)
        .stdout;
    assert!(
        said.ends_with("allowed: answered by the gateway itself\n"),
        "{said}"
    );
    assert!(
        setup
            .command(["explain", "POST", "/.well-known/jwks.json"])
            .expect(3)
            .stdout
            .contains("405")
    );
    assert!(
        setup
            .command(["explain", "GET", "/auth/nothing"])
            .expect(3)
            .stdout
            .contains("404")
    );
}

#[test]
fn explain_can_ask_as_a_subject_with_claims() {
    let toml = good().replace(
        "roles = [\"admin\"]",
        "claims = { \"address.country\" = \"IS\", level = 3 }",
    );
    let setup = Setup::new(&toml);
    let ask = ["explain", "GET", "/admin/x", "--as", "alice"];
    setup.command(ask).expect(3);
    setup
        .command([&ask[..], &["--claim", "address.country=IS", "--claim", "level=3"]].concat())
        .expect(0);
}

// --- tokens

#[test]
fn a_minted_token_is_taken_by_the_running_gateway() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[[routes]]\npath = \"/*\"\nroles = [\"admin\"]\nupstream = \"app\"\n",
    );
    let mint = [
        "token",
        "mint",
        "--subject",
        "u-1",
        "--role",
        "admin",
        "--role",
        "ops",
        "--email",
        "a@example.com",
        "--name",
        "Alice",
    ];
    let token = gateway.setup.succeed(mint).trim().to_owned();
    assert_eq!(token.split('.').count(), 3, "{token}");
    eventually("the token is accepted", || {
        gateway.get_as(&token, "/x").status == 200
    });
    let seen = app.last();
    assert_eq!(seen.header("x-auth-user"), Some("u-1"));
    assert_eq!(seen.header("x-auth-roles"), Some("admin,ops"));
    assert_eq!(seen.header("x-auth-email"), Some("a@example.com"));
    assert_eq!(seen.header("x-auth-name"), Some("Alice"));
    assert_eq!(seen.header("x-auth-issuer"), Some("session"));
    let claims = payload(&token);
    assert_eq!(claims["iss"], "http://app.test");
    for name in ["aud", "jti", "iat", "exp"] {
        assert!(!claims[name].is_null(), "no `{name}` in {claims}");
    }
    let published = gateway.get("/.well-known/jwks.json").expect(200).json();
    assert!(
        tokens::is_signed_by(&token, &published),
        "{} not by {published}",
        header(&token)
    );
    let unprivileged = gateway
        .setup
        .succeed(["token", "mint", "--subject", "u-2"])
        .trim()
        .to_owned();
    gateway.get_as(&unprivileged, "/x").expect(403);
}

#[test]
fn a_minted_token_lives_as_long_as_asked_for() {
    let setup = Setup::new(&good());
    let token = setup.succeed(["token", "mint", "--subject", "u", "--lifetime", "15m"]);
    let claims = payload(token.trim());
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        900
    );
    setup
        .command(["token", "mint", "--subject", "u", "--lifetime", "soon"])
        .expect(2);
    setup.command(["token", "mint", "--subject", ""]).expect(2);
    setup.command(["token", "mint"]).expect(2);
}

#[test]
fn inspect_decodes_a_token_and_gives_a_verdict() {
    let setup = Setup::new(&good());
    let inspect = |token: &str| setup.command_with_input(["token", "inspect"], &format!("{token}\n"));
    let said = inspect(&corp_token("alice", &["admin"])).all();
    for part in ["alice", "https://id.example.com", "HS256", "admin"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    assert!(!said.contains(CORP_SECRET), "{said}");
    let mut claims = corp_claims("alice");
    claims["exp"] = json!(1_000_000_000);
    let said = inspect(&corp_token_of(&claims)).all();
    assert!(said.contains("expired"), "{said}");
    let stranger =
        Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256").token(&corp_claims("alice"));
    assert!(inspect(&stranger).all().contains("signature"));
    let said = inspect("rubbish");
    assert_ne!(said.code, Some(0));
    assert!(!said.all().contains("panicked"), "{said:?}");
}

// --- keys

fn keys(output: &Output) -> Vec<Value> {
    let json = output.json();
    json.as_array()
        .or_else(|| json["keys"].as_array())
        .unwrap_or_else(|| panic!("no list of keys in {json}"))
        .clone()
}

#[test]
fn keys_are_listed_without_their_secrets() {
    let setup = Setup::new(&good());
    setup.succeed(["token", "mint", "--subject", "u"]);
    let listed = setup.command(["key", "list", "--format", "json"]).expect(0);
    assert_eq!(keys(&listed).len(), 1, "{}", listed.stdout);
    for key in keys(&listed) {
        for private in ["d", "private", "pkcs8", "private_key"] {
            assert!(key.get(private).is_none(), "{key}");
        }
    }
    setup.command(["key", "rotate"]).expect(0);
    let after = setup.command(["key", "list", "--format", "json"]).expect(0);
    assert_eq!(keys(&after).len(), 2, "{}", after.stdout);
    setup.command(["key", "list"]).expect(0);
}

#[test]
fn rotated_key_signs_at_once_and_old_tokens_stay_valid() {
    let app = App::start();
    let gateway = Gateway::before(&app, "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n");
    let mint = || {
        gateway
            .setup
            .succeed(["token", "mint", "--subject", "u"])
            .trim()
            .to_owned()
    };
    let old = mint();
    eventually("the token is accepted", || {
        gateway.get_as(&old, "/x").status == 200
    });
    let published = || {
        gateway.get("/.well-known/jwks.json").expect(200).json()["keys"]
            .as_array()
            .unwrap()
            .len()
    };
    let before = published();
    gateway.command(["key", "rotate"]).expect(0);
    let new = mint();
    assert_ne!(header(&old)["kid"], header(&new)["kid"]);
    eventually("a token by the new key is accepted", || {
        gateway.get_as(&new, "/x").status == 200
    });
    assert_eq!(published(), before + 1);
    gateway.get_as(&old, "/x").expect(200);
    let gateway = gateway.restart();
    gateway.get_as(&old, "/x").expect(200);
    gateway.get_as(&new, "/x").expect(200);
}

#[test]
fn the_state_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new(&good());
    setup.succeed(["token", "mint", "--subject", "u"]);
    let mode = setup.path("passgate.db").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

// --- revoke

#[test]
fn revoke_needs_an_issuer_and_a_target() {
    let setup = Setup::new(&good());
    setup.command(["revoke"]).expect(2);
    setup.command(["revoke", "--issuer", "corp"]).expect(2);
    setup.command(["revoke", "--subject", "alice"]).expect(2);
    setup
        .command([
            "revoke",
            "--issuer",
            "corp",
            "--subject",
            "alice",
            "--token-id",
            "1",
        ])
        .expect(2);
    setup
        .command(["revoke", "--issuer", "corp", "--subject", ""])
        .expect(2);
    setup
        .command(["revoke", "--issuer", "corp", "--subject", "alice"])
        .expect(0);
}

#[test]
fn state_commands_need_no_secret_of_the_file() {
    // As in the shell of an operator, where systemd passes no credentials.
    let toml = good().replace("{ file = \"corp.secret\" }", "{ credential = \"corp\" }");
    let setup = Setup::new(&format!(
        "{toml}\n[server.tls]\ncertificate = \"none.pem\"\nprivate_key = \"none.key\"\n"
    ));
    setup
        .command(["revoke", "--issuer", "corp", "--subject", "alice"])
        .expect(0);
    setup
        .command(["revoke", "--issuer", "https://id.example.com", "--token-id", "1"])
        .expect(0);
    setup.command(["key", "list"]).expect(0);
    setup.command(["key", "rotate"]).expect(0);
    setup.command(["token", "mint", "--subject", "alice"]).expect(0);
    let said = setup.command(["check"]).expect(2).stderr;
    assert!(said.contains("CREDENTIALS_DIRECTORY=/run/credentials/"), "{said}");
}

#[test]
fn failure_message_repeats_nothing() {
    let setup = Setup::exactly(&format!(
        "{}\n[state]\nurl = \"sqlite:/nonexistent/x.db\"\n",
        good()
    ));
    let said = setup.command(["key", "list"]).expect(1).stderr;
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    let said = setup
        .command(["token", "inspect", "eyJh.eyJz.c2ln"])
        .expect(1)
        .stderr;
    assert!(
        said.contains("standard input") && !said.contains("eyJh"),
        "{said}"
    );
}

#[test]
fn a_minted_token_can_be_revoked() {
    let app = App::start();
    let gateway = Gateway::before(&app, "[[routes]]\npath = \"/*\"\nupstream = \"app\"\n");
    let token = gateway
        .setup
        .succeed(["token", "mint", "--subject", "u"])
        .trim()
        .to_owned();
    eventually("the token is accepted", || {
        gateway.get_as(&token, "/x").status == 200
    });
    let id = payload(&token)["jti"].as_str().unwrap().to_owned();
    gateway
        .command(["revoke", "--issuer", "session", "--token-id", &id])
        .expect(0);
    eventually("the token is refused", || {
        gateway.get_as(&token, "/x").status == 401
    });
}

// --- the rest

#[test]
fn check_prints_routes_and_problems_for_programs() {
    let toml = format!(
        "{}[[routes]]\nhost = \"*.example.com\"\npath = \"/r\"\nmethods = [\"GET\", \"POST\"]\n\
         roles = {{ any = [\"a\", \"b,c\"], none = [\"x\"] }}\nclaims = {{ tenant = \"acme\", level = 3 }}\n\
         scopes = [\"r:read\"]\nupstream = \"app\"\n",
        good()
    );
    let setup = Setup::new(&toml);
    let report = setup.command(["check", "--format", "json"]).expect(0);
    assert_eq!(report.stderr, "");
    let report = report.json();
    let routes = report["routes"].as_array().unwrap();
    let route = |path: &str| routes.iter().find(|route| route["path"] == path).unwrap();
    assert_eq!(route("/public/*")["who"], json!({ "auth": "none" }));
    assert_eq!(
        (&route("/public/*")["host"], &route("/public/*")["methods"]),
        (&json!("*"), &json!(["*"]))
    );
    assert_eq!(
        route("/admin/*")["who"],
        json!({ "auth": "required", "roles": { "any": ["admin"] } })
    );
    assert_eq!(route("/r")["host"], "*.example.com");
    assert_eq!(route("/r")["methods"], json!(["GET", "POST"]));
    assert_eq!(
        route("/r")["who"],
        json!({
            "auth": "required",
            "roles": { "any": ["a", "b,c"], "none": ["x"] },
            "claims": { "level": 3, "tenant": "acme" },
            "scopes": ["r:read"],
        })
    );
    let problems = report["problems"].as_array().unwrap();
    let comma = problems
        .iter()
        .find(|problem| problem["message"].as_str().unwrap().contains("comma"))
        .unwrap();
    let line = line_of(&toml, "b,c");
    assert_eq!(comma["level"], "warning");
    assert_eq!((&comma["line"], &comma["column"]), (&json!(line), &json!(23)));
    assert!(comma["file"].as_str().unwrap().ends_with("gateway.toml"));
    assert!(
        comma["hint"].as_str().unwrap().contains("[\"b\", \"c\"]"),
        "{comma}"
    );

    // A wrong file, one that is none, and none at all.
    let wrong = Setup::new(&good().replacen("upstream = \"app\"", "upsteam = \"app\"", 1));
    let report = wrong.command(["check", "--format", "json"]).expect(2);
    assert_eq!(report.stderr, "");
    let report = report.json();
    assert_eq!(report["routes"], json!([]));
    assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!(report["problems"][0]["level"], "error");
    assert_eq!(report["problems"][0]["hint"], "did you mean `upstream`?");
    let report = run(&["check", "--format", "json", "-c", "/nowhere/gateway.toml"], "")
        .expect(2)
        .json();
    assert_eq!(report["problems"][0]["line"], Value::Null);
    assert!(
        report["problems"][0]["message"]
            .as_str()
            .unwrap()
            .contains("/nowhere/gateway.toml"),
        "{report}"
    );
    setup.write("gateway.toml", b"[server]\nlisten = \"\xff\"\n");
    let report = setup.command(["check", "--format", "json"]).expect(2).json();
    assert_eq!(report["problems"][0]["line"], 2);
}

#[test]
fn the_configuration_is_named_before_the_command_or_behind_it() {
    let setup = Setup::new(&good());
    let file = setup.path("gateway.toml").display().to_string();
    for words in [
        &["-c", &file, "check"][..],
        &["check", "-c", &file],
        &["--config", &file, "token", "mint", "--subject", "u"],
        &["token", "-c", &file, "mint", "--subject", "u"],
        &["token", "mint", "--subject", "u", "-c", &file],
        // Of two, the one behind the command.
        &["-c", "/nowhere", "check", "-c", &file],
    ] {
        run(words, "").expect(0);
    }
    let said = run(&["check", &file], "").expect(2).stderr;
    assert!(
        said.contains(&format!(
            "tip: the configuration is named by an option: `-c {file}`"
        )),
        "{said}"
    );
    let said = run(&["run", "x"], "").expect(2).stderr;
    assert!(said.contains("`-c x`"), "{said}");
}

#[test]
fn unknown_command_suggests_the_right_one() {
    for (words, tip) in [
        (&["serve"][..], "tip: `passgate run` serves"),
        (&["version"], "tip: `passgate --version`"),
        (&["validate"], "tip: `passgate check`"),
        (&["gateway.toml"], "tip: `passgate run -c gateway.toml`"),
        (&["reload"], "SIGHUP"),
        (
            &["user", "rm", "a@example.com"],
            "tip: `passgate user delete EMAIL`",
        ),
        (
            &["user", "create", "a@example.com"],
            "tip: `passgate user add EMAIL`",
        ),
        (&["user", "ls"], "tip: `passgate user list`"),
        (&["session", "ls"], "tip: `passgate session list`"),
        (&["session", "kill", "1"], "tip: `passgate session revoke ID`"),
        (&["token", "create"], "tip: `passgate token mint"),
        (&["key", "new"], "tip: `passgate key rotate`"),
        (&["check", "--json"], "tip: `--format json`"),
        (
            &["user", "add", "a@example.com", "--password", "x"],
            "tip: a password is no argument",
        ),
        (&["chek"], "'check'"),
        (&["check", "--frmat", "json"], "--format"),
    ] {
        let said = run(words, "").expect(2).stderr;
        assert!(said.contains(tip), "{words:?}: {tip:?} is not in\n{said}");
        assert!(said.matches("tip:").count() == 1, "{words:?}:\n{said}");
    }
}

#[test]
fn color_follows_flag_environment_and_terminal() {
    let setup = Setup::new("[servr]\n");
    let file = setup.path("gateway.toml").display().to_string();
    let has_color = |environment: &[(&str, &str)], words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_passgate"));
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "PASSGATE_CONFIG"] {
            command.env_remove(name);
        }
        let output = command
            .args(["check", "-c", &file])
            .args(words)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap().contains('\u{1b}')
    };
    // Standard error is a pipe here.
    assert!(!has_color(&[], &[]));
    assert!(has_color(&[("CLICOLOR_FORCE", "1")], &[]));
    assert!(!has_color(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], &[]));
    assert!(has_color(&[("NO_COLOR", "1")], &["--color", "always"]));
    assert!(has_color(&[("TERM", "dumb")], &["--color=always"]));
    assert!(!has_color(&[("CLICOLOR_FORCE", "1")], &["--color", "never"]));
    assert!(!has_color(&[], &["--color", "auto"]));
    // The usage as well.
    assert!(has_color(&[], &["--color", "always", "--nonsense"]));
    assert!(!has_color(
        &[("CLICOLOR_FORCE", "1")],
        &["--color", "never", "--nonsense"]
    ));
}

#[test]
fn inspect_reads_standard_input_by_its_usual_name() {
    let setup = Setup::new(&good());
    let token = corp_token("alice", &["admin"]);
    let said = setup
        .command_with_input(["token", "inspect", "-"], &format!("{token}\n"))
        .expect(0)
        .stdout;
    assert!(said.contains("accepted"), "{said}");
    setup.write("token.txt", format!("{token}\n"));
    setup
        .command(["token", "inspect", &setup.path("token.txt").display().to_string()])
        .expect(0);
}

#[test]
fn an_example_is_a_file_that_runs() {
    for words in [&["example"][..], &["example", "--minimal"]] {
        let text = run(words, "").expect(0).stdout;
        assert!(text.is_ascii() || text.contains('…'), "{text}");
        let setup = Setup::exactly(&text);
        setup.command(["check"]).expect(0);
        // On ports of the system's choice.
        let text = text.replace("listen = \"127.0.0.1:8080\"", "listen = \"127.0.0.1:0\"");
        let text = text.replace("listen = \"127.0.0.1:8081\"", "listen = \"127.0.0.1:0\"");
        let gateway = Gateway::start(&text);
        gateway.diagnostic("/auth/register?setup=");
        assert_eq!(gateway.get("/auth/login").status, 200);
    }
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_passgate"));
    let output = command
        .arg("run")
        .current_dir(nowhere.path())
        .env_remove("PASSGATE_CONFIG")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("`passgate example > gateway.toml`") && said.contains("--minimal"),
        "{said}"
    );
}

#[test]
fn the_built_in_pages_are_written_once_and_can_be_used() {
    let setup = Setup::new(&format!(
        "{}[pages]\ntemplates = \"mine\"\n[password]\n",
        good().replace("http://app.test", "")
    ));
    let directory = setup.path("mine").display().to_string();
    let said = run(&["pages", "export", &directory], "").expect(0).stdout;
    for file in [
        "layout.html",
        "sign_in.html",
        "sessions.html",
        "error.html",
        "style.css",
    ] {
        assert!(
            said.contains(file) && setup.path("mine").join(file).exists(),
            "{file}:\n{said}"
        );
    }
    assert!(said.contains("[pages]\n  templates = "), "{said}");
    let good = setup.path("mine").join("error.html");
    let before = std::fs::read_to_string(&good).unwrap();
    std::fs::write(&good, "mine").unwrap();
    std::fs::remove_file(setup.path("mine").join("style.css")).unwrap();
    let refused = run(&["pages", "export", &directory], "").expect(2).stderr;
    assert!(
        refused.contains("error.html") && refused.contains("--force"),
        "{refused}"
    );
    assert_eq!(std::fs::read_to_string(&good).unwrap(), "mine");
    assert!(
        !setup.path("mine").join("style.css").exists(),
        "nothing is written"
    );
    run(&["pages", "export", &directory, "--force"], "").expect(0);
    assert_eq!(std::fs::read_to_string(&good).unwrap(), before);
    // On plain HTTP there is no sign-in.
    let toml = std::fs::read_to_string(setup.path("gateway.toml"))
        .unwrap()
        .replace(
            "public_url = \"http://app.test\"",
            "public_url = \"https://app.test\"\ntrusted_proxies = [\"127.0.0.1\"]",
        );
    setup.write("gateway.toml", &toml);
    assert_eq!(setup.command(["check"]).expect(0).stderr, "");
    std::fs::write(&good, "<style>{{ style }}</style>\n{{ titel }}\n").unwrap();
    let said = setup.command(["check"]).expect(2).stderr;
    assert!(
        said.contains("`mine/error.html:2` is broken: `titel` is undefined"),
        "{said}"
    );
    assert!(said.contains("did you mean `title`?"), "{said}");
}

#[test]
fn there_is_a_manual_page_for_each_command_and_for_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("man");
    run(&["man", "--dir", &target.display().to_string()], "").expect(0);
    let mut names: Vec<String> = std::fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for name in [
        "passgate.1",
        "passgate-run.1",
        "passgate-check.1",
        "passgate-user-add.1",
        "passgate-user.1",
        "gateway.toml.5",
    ] {
        assert!(
            names.iter().any(|there| there == name),
            "{name} is not in {names:?}"
        );
    }
    let text = std::fs::read_to_string(target.join("gateway.toml.5")).unwrap();
    for part in [
        ".SH EXAMPLES",
        "max\\-body\\-bytes",
        "max_body_bytes",
        ".SH \"FILES\"",
        ".SH \"ENVIRONMENT\"",
    ] {
        assert!(text.contains(part) || part.contains("\\-"), "{part}");
    }
}

#[test]
fn usage_errors_exit_with_2_and_list_alternatives() {
    for words in [
        &["--nonsense"][..],
        &["nonsense"],
        &["check", "--nonsense"],
        &["token"],
        &["token", "nonsense"],
        &["explain"],
        &[],
    ] {
        let said = run(words, "").expect(2);
        assert!(
            said.stderr.to_lowercase().contains("usage"),
            "{words:?}: {}",
            said.stderr
        );
    }
}

#[test]
fn help_and_version_exit_with_0() {
    let said = run(&["--help"], "").expect(0);
    for command in [
        "run",
        "check",
        "explain",
        "token",
        "key",
        "revoke",
        "completions",
        "man",
    ] {
        assert!(
            said.stdout.contains(command),
            "{command} is not in {}",
            said.stdout
        );
    }
    assert!(
        run(&["--version"], "")
            .expect(0)
            .stdout
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn completions_and_the_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&["completions", shell], "")
                .expect(0)
                .stdout
                .contains("passgate"),
            "{shell}"
        );
    }
    assert!(run(&["man"], "").expect(0).stdout.contains(".TH"));
    run(&["completions", "cobol"], "").expect(2);
}

#[test]
fn default_file_is_gateway_toml_or_passgate_config() {
    let setup = Setup::new(&good());
    let run = |command: &mut std::process::Command| command.output().unwrap().status.code();
    let binary = env!("CARGO_BIN_EXE_passgate");
    let directory = setup.path("");
    let mut here = std::process::Command::new(binary);
    assert_eq!(
        run(here
            .arg("check")
            .current_dir(&directory)
            .env_remove("PASSGATE_CONFIG")),
        Some(0)
    );
    setup.write("other.toml", "nonsense");
    let mut named = std::process::Command::new(binary);
    assert_eq!(
        run(named
            .arg("check")
            .current_dir(&directory)
            .env("PASSGATE_CONFIG", "other.toml")),
        Some(2)
    );
    let mut nowhere = std::process::Command::new(binary);
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(
        run(nowhere
            .arg("check")
            .current_dir(empty.path())
            .env_remove("PASSGATE_CONFIG")),
        Some(2)
    );
}

#[test]
fn no_command_prints_a_secret() {
    let app = App::start();
    let setup = Setup::new(&before(
        &app,
        "[[routes]]\npath = \"/*\"\nroles = [\"admin\"]\nupstream = \"app\"\n",
    ));
    let token = corp_token("alice", &["user"]);
    let field = format!("Authorization: Bearer {token}");
    for words in [
        vec!["check"],
        vec!["explain", "GET", "/x", "-H", &field],
        vec!["explain", "GET", "/x"],
        vec!["key", "list"],
        vec!["key", "list", "--format", "json"],
        vec!["key", "rotate"],
        vec!["revoke", "--issuer", "corp", "--subject", "alice"],
    ] {
        let said = setup.command(&words).all();
        assert!(!said.contains(CORP_SECRET), "{words:?}:\n{said}");
        assert!(!said.contains(&token), "{words:?}:\n{said}");
        assert!(!said.contains("PRIVATE KEY"), "{words:?}:\n{said}");
    }
}

#[test]
fn the_example_file_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.example.toml");
    // Of a copy, so that the state it names is not made beside the sources.
    let setup = Setup::exactly(&std::fs::read_to_string(file).unwrap());
    setup.command(["check"]).expect(0);
}

#[test]
fn check_reports_the_effect_of_unconfirmed_addresses() {
    let with = |password: &str| {
        let server =
            "[server]\npublic_url = \"https://app.example.com\"\ntrusted_proxies = [\"127.0.0.1\"]\n";
        check(&format!("{}{server}[password]\n{password}", good()))
            .expect(0)
            .stderr
    };
    let registration = "registration = true\n";
    assert!(
        with(registration).contains("until it is confirmed")
            && with(registration).contains("`passgate user confirm EMAIL`")
    );
    let trusting = with(&format!("{registration}trust_unconfirmed_email = true\n"));
    assert!(
        trusting.contains("warning: apps get unverified email addresses"),
        "{trusting}"
    );
    for quiet in [
        "",
        "registration = false\n",
        "registration = true\ntrust_unconfirmed_email = false\n",
        "trust_unconfirmed_email = true\n",
    ] {
        assert_eq!(with(quiet), "", "{quiet}");
    }
}

// --- loops, paths of servers

#[test]
fn check_refuses_an_upstream_that_is_the_gateway_itself() {
    for (listen, server, is_loop) in [
        ("127.0.0.1:8080", "http://127.0.0.1:8080", true),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/base", true),
        ("127.0.0.1:8080", "h2c://127.0.0.1:8080", true),
        ("127.0.0.1:8080", "http://localhost:8080", true),
        ("127.0.0.1:8080", "http://0.0.0.0:8080", true),
        ("127.0.0.1:80", "http://127.0.0.1", true),
        ("0.0.0.0:8080", "http://127.0.0.1:8080", true),
        ("0.0.0.0:8080", "http://127.1.2.3:8080", true),
        ("0.0.0.0:8080", "http://localhost:8080", true),
        ("[::1]:8080", "http://[::1]:8080", true),
        ("[::]:8080", "http://[::1]:8080", true),
        ("unix:gate.sock", "unix:gate.sock", true),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", false),
        ("127.0.0.1:8080", "http://127.0.0.2:8080", false),
        ("127.0.0.1:8080", "http://127.0.0.1", false),
        ("0.0.0.0:8080", "http://192.0.2.7:8080", false),
        ("0.0.0.0:8080", "http://app.internal:8080", false),
        // A listener of one family does not take connections of the other.
        ("[::]:8080", "http://127.0.0.1:8080", false),
        ("unix:gate.sock", "unix:app.sock", false),
    ] {
        let toml = format!(
            "[server]\nlisten = [\"127.0.0.1:1\", \"{listen}\"]\n[upstreams.app]\nservers = [\"{server}\"]\n\
             [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n"
        );
        let said = Setup::new(&toml)
            .command(["check"])
            .expect(if is_loop { 2 } else { 0 })
            .all();
        let is_said = said.contains("upstream `app` is the gateway itself: requests would loop");
        assert_eq!(is_said, is_loop, "{listen} {server}\n{said}");
    }
}

// --- explain as JSON

#[test]
fn explain_json_has_the_apps_fields_and_rewrites() {
    let toml = good().replace(
        "[[routes]]\npath = \"/admin/*\"",
        "[[routes]]\npath = \"/both/*\"\nauth = \"optional\"\nupstream = \"app\"\nstrip_prefix = \"/both\"\n\n\
         [[routes]]\npath = \"/admin/*\"",
    );
    assert!(toml.contains("/both/*"), "{toml}");
    let setup = Setup::new(&toml);
    let ask = [
        "explain",
        "--format",
        "json",
        "GET",
        "/admin/users",
        "--as",
        "alice",
        "--role",
    ];
    let allowed = setup.command(ask.into_iter().chain(["admin"])).expect(0).json();
    assert_eq!(allowed["decision"], "allow");
    assert_eq!(
        (&allowed["status"], &allowed["reason"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(allowed["route"], "/admin/*");
    assert!(
        allowed["place"].as_str().unwrap().contains("gateway.toml:"),
        "{allowed}"
    );
    assert_eq!(allowed["request"]["path"], "/admin/users");
    assert_eq!(allowed["request"]["headers"]["x-auth-user"], "alice");
    assert_eq!(allowed["answer"]["cache_control"], "private");
    let steps = allowed["steps"].as_array().unwrap();
    assert!(
        steps
            .iter()
            .all(|step| step["passed"] == true && step["detail"].is_string()),
        "{allowed}"
    );
    let parts: Vec<_> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    assert!(
        ["target", "route", "credential", "rules"]
            .iter()
            .all(|part| parts.contains(part)),
        "{allowed}"
    );

    let refused = setup.command(ask.into_iter().chain(["user"])).expect(3).json();
    assert_eq!(refused["decision"], "refuse");
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&json!(403), &json!("role-refused"))
    );
    assert_eq!(refused["route"], "/admin/*");
    assert_eq!(refused["request"], Value::Null);
    assert!(
        refused["steps"]
            .as_array()
            .unwrap()
            .iter()
            .any(|step| step["passed"] == false),
        "{refused}"
    );
    let missing = setup
        .command(["explain", "--format", "json", "GET", "/nowhere"])
        .expect(3)
        .json();
    assert_eq!(
        (&missing["status"], &missing["route"]),
        (&json!(404), &Value::Null)
    );

    let token = corp_token("alice", &["admin"]);
    let field = format!("Authorization: Bearer {token}");
    let said = setup
        .command(["explain", "--format", "json", "GET", "/both/x?a=b", "-H", &field])
        .expect(0);
    assert!(!said.all().contains(&token), "{said:?}");
    let cut = said.json();
    assert_eq!(cut["request"]["path"], "/x");
    assert_eq!(cut["request"]["headers"]["x-forwarded-prefix"], "/both");
    assert_eq!(
        cut["answer"]["rewritten"],
        json!(["Location", "Content-Location", "Refresh", "Set-Cookie"])
    );
    assert_eq!(cut["answer"]["vary"], "Cookie, Authorization");
    let text = setup
        .command(["explain", "GET", "/both/x", "-H", &field])
        .expect(0)
        .stdout;
    assert!(
        text.contains("  x-forwarded-prefix: /both\n") && text.contains("becomes `/both/…`"),
        "{text}"
    );
}
