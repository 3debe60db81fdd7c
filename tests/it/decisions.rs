//! One decision: `explain`, the `[[tests]]` of a file and the running gateway say the same of a request.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::gateway::before;
use crate::support::http2::Http2;
use crate::support::tls::{Certificate, client_config};
use crate::support::*;

/// One of `rare`, or `times` as often as one of them, `usual`.
fn often<T: Clone + std::fmt::Debug + 'static>(
    times: usize,
    usual: T,
    rare: &[T],
) -> impl Strategy<Value = T> + use<T> {
    select([vec![usual; times], rare.to_vec()].concat())
}

#[test]
fn explain_refuses_a_repeated_field_behind_a_good_token() {
    let app = App::start();
    let gateway = Gateway::before(
        &app,
        "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { header = \"x-token\" }]\n\
         [[routes]]\npath = \"/*\"\nupstream = \"app\"\n",
    );
    let token = corp_token("alice", &[]);
    let request = Request::get("/x")
        .bearer(&token)
        .header("X-Token", "a")
        .header("X-Token", "b");
    let refused = gateway.send(&request).expect(400);
    assert_eq!(gateway.log_of(&refused)["reason"], "credential-repeated");
    let bearer = format!("Authorization: Bearer {token}");
    let said = gateway
        .command([
            "explain",
            "--format",
            "json",
            "GET",
            "/x",
            "-H",
            &bearer,
            "-H",
            "X-Token: a",
            "-H",
            "X-Token: b",
        ])
        .expect(3)
        .json();
    assert_eq!(
        (said["status"].as_u64(), said["reason"].as_str()),
        (Some(400), Some("credential-repeated"))
    );
}

#[test]
fn explain_sees_a_host_that_the_tls_connection_is_not_for() {
    let app = App::start();
    let certificate = Certificate::for_names(&["app.test"]);
    let setup = Setup::new(&before(
        &app,
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://app.test\"\n\
         [server.tls]\ncertificate = \"cert.pem\"\nprivate_key = \"key.pem\"\n\
         [[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n",
    ));
    setup
        .write("cert.pem", &certificate.chain_pem)
        .write("key.pem", &certificate.key_pem);
    let gateway = setup.start();
    let config = client_config(&[&certificate], &["h2"]);
    let client = Http2::connect_tls(&config, gateway.address, "app.test");
    for (host, status) in [("app.test", 200), ("other.test", 421)] {
        let answer = client.get(&format!("https://{host}/x"), None);
        assert_eq!(answer.status.as_u16(), status, "{host}");
        let fields = [("Host".to_owned(), host.to_owned())];
        let said = gateway.explain("GET", "https://app.test/x", &fields);
        let expected = if status == 200 { Value::Null } else { json!(421) };
        assert_eq!(said["status"], expected, "{host}: {said}");
    }
}

/// One route of a random configuration.
fn route() -> impl Strategy<Value = (String, String)> {
    let path = select(vec![
        "/*",
        "/a",
        "/a/*",
        "/a/{id}",
        "/a/b/*",
        "/odd/*",
        "/caf%C3%A9/*",
    ]);
    let host = often(5, "", &["other.test", "*.wild.test"]);
    let rules = select(vec![
        "auth = \"none\"",
        "auth = \"optional\"\nstrip_prefix = \"/odd\"",
        "auth = \"optional\"",
        "",
        "forward_credential = true",
        "roles = [\"admin\"]",
        "roles = { none = [\"banned\"] }",
        "claims = { tenant = \"acme\" }",
        "scopes = [\"read\"]",
    ]);
    let methods = select(vec![
        "",
        "",
        "methods = [\"GET\"]",
        "methods = [\"POST\", \"DELETE\"]",
    ]);
    let accept = select(vec![
        "",
        "accept = [\"encoded-slash\", \"empty-segment\", \"path-parameter\"]",
        "accept = [\"not-utf8\", \"double-encoding\"]",
    ]);
    (path, host, rules, methods, accept).prop_map(|(path, host, rules, methods, accept)| {
        let rules = if path.starts_with("/odd") {
            rules
        } else {
            rules.split("\nstrip_prefix").next().unwrap()
        };
        let host_line = if host.is_empty() {
            String::new()
        } else {
            format!("host = \"{host}\"\n")
        };
        let text = format!(
            "[[routes]]\n{host_line}path = \"{path}\"\n{rules}\n{methods}\n{accept}\nupstream = \"app\"\n"
        );
        (format!("{host}{path}"), text)
    })
}

/// The tables of a random configuration with sign-in, on whose routes no two tie.
fn configuration() -> impl Strategy<Value = String> {
    let sources = vec![
        "{ header = \"authorization\", scheme = \"Bearer\" }",
        "{ header = \"x-token\" }",
        "{ cookie = \"__session\" }",
        "{ query = \"access_token\" }",
    ];
    (vec(route(), 4..10), subsequence(sources, 2..=4)).prop_map(|(mut routes, sources)| {
        routes.sort();
        routes.dedup_by(|one, other| one.0 == other.0);
        let routes: String = routes.into_iter().map(|(_, text)| text).collect();
        format!(
            "[credentials]\nsources = [{}]\n[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n\
             max_header_bytes = \"24KiB\"\n[password]\n{routes}",
            sources.join(", ")
        )
    })
}

/// The credentials that requests are made of.
struct Wallet {
    tokens: Vec<String>,
    session: String,
}

impl Wallet {
    fn new(gateway: &Gateway) -> Self {
        gateway.setup.add_account("ann@example.com", &["admin"]);
        let token = |claims: Value| {
            let mut all = corp_claims("alice");
            all.as_object_mut()
                .unwrap()
                .extend(claims.as_object().unwrap().clone());
            corp_token_of(&all)
        };
        let session = gateway.sign_in("ann@example.com");
        gateway.log_line(|line| line["path"] == "/auth/login");
        // More than the identity headers hold.
        let many: Vec<_> = (0..700).map(|number| format!("role-{number:05}")).collect();
        Self {
            tokens: vec![
                token(json!({ "roles": ["admin"], "tenant": "acme", "scope": "read" })),
                token(json!({ "roles": ["banned"], "tenant": "other" })),
                token(json!({ "roles": many })),
                token(json!({ "exp": 1_000_000_000 })),
                token(json!({ "aud": "other" })),
                "opaque".to_owned(),
            ],
            session,
        }
    }

    /// Fields with one of the credentials, or none.
    fn field(&self) -> impl Strategy<Value = Vec<(&'static str, String)>> + use<> {
        let tokens = self.tokens.clone();
        let session = self.session.clone();
        let place = select(vec![
            "none", "bearer", "bearer", "bearer", "bearer", "basic", "twice", "x-token", "cookie", "cookies",
            "session", "session",
        ]);
        (often(6, tokens[0].clone(), &tokens), place).prop_map(move |(token, place)| match place {
            "bearer" => vec![("Authorization", format!("Bearer {token}"))],
            "basic" => vec![("Authorization", format!("Basic {token}"))],
            "twice" => vec![("X-Token", token.clone()), ("X-Token", token)],
            "x-token" => vec![("X-Token", token)],
            "cookie" => vec![("Cookie", format!("__session={token}"))],
            "cookies" => vec![("Cookie", format!("__session={token}; __session=other"))],
            "session" => vec![("Cookie", session.clone())],
            _ => Vec::new(),
        })
    }

    /// Method, target and fields of a random request.
    fn request(&self) -> impl Strategy<Value = (String, String, Vec<(String, String)>)> + use<> {
        let method = often(
            8,
            "GET",
            &["POST", "POST", "HEAD", "DELETE", "OPTIONS", "TRACE", "PURGE"],
        );
        let mut targets = vec![
            "/",
            "/a",
            "/a/1",
            "/a/b/c",
            "/x",
            "/%61",
            "/odd",
            "/odd/x",
            "/caf%C3%A9/x",
            "/a//b",
            "/odd//x",
            "/odd/x;y",
            "/odd/a%2Fb",
            "/a/%2e%2e/b",
            "/a%5cb",
            "/a/%",
            "/a/%00",
            "/caf%E9",
            "/%2561",
            "/a/x?y=%2F",
            "/auth",
            "/auth/me",
            "/auth/login",
            "/auth/sessions",
            "/auth/nothing",
            "/auth//login",
            "/.well-known/jwks.json",
        ]
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>();
        // Most requests get as far as the credentials.
        for plain in ["/a", "/a/1", "/a/b/c", "/x", "/odd/x"] {
            targets.extend(std::iter::repeat_n(plain.to_owned(), 8));
        }
        targets.push(format!("/a/1?access_token={}", self.tokens[0]));
        targets.push(format!("/x?access_token={}&access_token=y", self.tokens[0]));
        targets.push(format!("/{}", "x".repeat(9000)));
        let host = often(
            9,
            "localhost",
            &[
                "app.test",
                "other.test",
                "other.test",
                "a.wild.test",
                "a b",
                "LOCALHOST.",
            ],
        );
        let more = vec![
            ("Accept", "text/html".to_owned()),
            ("Accept", "application/json".to_owned()),
            ("Sec-Fetch-Site", "cross-site".to_owned()),
            ("Origin", "http://evil.example".to_owned()),
            ("X-Requested-With", "XMLHttpRequest".to_owned()),
            ("X-Auth-User", "forged".to_owned()),
        ];
        let rare = often(20, None, &[Some("upgrade"), Some("long")]);
        let credentials = vec(self.field(), 0..=2);
        (
            method,
            select(targets),
            host,
            credentials,
            subsequence(more, 0..4),
            rare,
        )
            .prop_map(|(method, target, host, credentials, more, rare)| {
                let mut fields = vec![("Host", host.to_owned())];
                fields.extend(credentials.into_iter().flatten());
                fields.extend(more);
                match rare {
                    Some("upgrade") => {
                        fields.push(("Connection", "upgrade".to_owned()));
                        fields.push(("Upgrade", "websocket".to_owned()));
                    }
                    Some("long") => fields.push(("X-Long", "x".repeat(25_000))),
                    _ => {}
                }
                let owned = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
                (method.to_owned(), target, owned.collect())
            })
    }
}

/// Statuses that the random requests are known to bring about, so that a change of the generator is noticed.
const SEEN: [u16; 9] = [200, 302, 400, 401, 403, 404, 405, 414, 431];

#[test]
fn explain_and_the_gateway_agree_on_random_requests() {
    let mut runner = TestRunner::deterministic();
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for _ in 0..5 {
        let app = App::start();
        let toml = configuration().new_tree(&mut runner).unwrap().current();
        let gateway = Gateway::before(&app, &toml);
        let request = Wallet::new(&gateway).request();
        let before = gateway.log().len();
        for number in before..before + 70 {
            let (method, target, fields) = request.new_tree(&mut runner).unwrap().current();
            let mut bytes = format!("{method} {target} HTTP/1.1\r\n");
            for (name, value) in &fields {
                bytes.push_str(&format!("{name}: {value}\r\n"));
            }
            bytes.push_str("\r\n");
            let status = gateway.connect().send(bytes).response_to(&method).status;
            eventually("the request is in the log", || gateway.log().len() > number);
            let line = gateway.log().swap_remove(number);
            seen.insert(status);

            let said = gateway.explain(&method, &target, &fields);
            let is_own = line["route"] == "(own)";
            let route = if is_own { &Value::Null } else { &line["route"] };
            let agree = if said["decision"] == "allow" {
                // An endpoint of the gateway's own may still refuse the body.
                status == 200 || is_own
            } else {
                said["status"] == status && said["reason"] == line["reason"]
            };
            if !agree || said["route"] != *route {
                let cut = |text: &str| text.chars().take(60).collect::<String>();
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name, cut(value))).collect();
                wrong.push(format!(
                    "{method} {} {fields:?}\n{line}\n{said}\n{toml}",
                    cut(&target)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} disagree:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(5)].join("\n")
    );
    for status in SEEN {
        assert!(
            seen.contains(&status),
            "no request was answered with {status}: {seen:?}"
        );
    }
}
