//! The steps of the walk that think, one by one: verification of a token that the worker knows (`hit`), that only the
//! shared table knows (`shared`) and that is in neither (`miss`), and what stands beside it on the way of a request.
//!
//! `miss` is the whole of it: both tables asked, parsed, verified, checked, and kept in both tables.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use passgate::internals::config::{Problems, RawConfig, read};
use passgate::internals::credential::Sources;
use passgate::internals::http::headers::drop_hop_by_hop;
use passgate::internals::http::target::Target;
use passgate::internals::identity::Caller;
use passgate::internals::identity_headers::{IdentityHeaders, Passing};
use passgate::internals::net::egress::Egress;
use passgate::internals::revocation::{self, Revocation};
use passgate::internals::route::{Builder, Pattern, Table};
use passgate::internals::verify::{Algorithm, Issuers, KeySet, LocalCache, Origin, Revocations, Verifier};
use serde_json::json;
use support::tokens::{CORP_SECRET, Key, jwks};
use support::{Bench, main as measure};
use tikv_jemallocator::Jemalloc;

mod support;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const ALGORITHMS: [&str; 7] = ["HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"];
const NOW: i64 = 1_800_000_000;
/// Tokens of each algorithm.
const TOKENS: usize = 128;
/// As many of them as a worker's table surely holds, whichever of its sets they fall into.
const HOT: usize = 32;
const ROUTES: usize = 10_000;

fn main() {
    let mut benches = Vec::new();
    for algorithm in ALGORITHMS {
        benches.push(Bench::new(format!("hit {algorithm}"), move |directory| {
            hit(directory, algorithm)
        }));
    }
    for algorithm in ALGORITHMS {
        benches.push(Bench::new(format!("shared {algorithm}"), move |directory| {
            shared(directory, algorithm)
        }));
    }
    for algorithm in ALGORITHMS {
        benches.push(Bench::new(format!("miss {algorithm}"), move |directory| {
            miss(directory, algorithm)
        }));
    }
    benches.push(Bench::new("route, literal", |_| {
        find_route(|index| format!("/api/v1/service-{index}/items"))
    }));
    benches.push(Bench::new("route, parameter", |_| {
        find_route(|index| format!("/api/v1/service-{index}/items/7/x"))
    }));
    benches.push(Bench::new("route, missing", |_| {
        find_route(|index| format!("/api/v1/nothing-{index}"))
    }));
    benches.push(Bench::new("target, plain", |_| {
        parse_target("/api/v1/orders/42/lines?page=3")
    }));
    benches.push(Bench::new("target, escaped", |_| {
        parse_target("/api/v1/%6Frders/a%20b/lines?page=3")
    }));
    benches.push(Bench::new("credential, found", find_credential));
    benches.push(Bench::new("rules, role", decide));
    benches.push(Bench::new("headers, copied (floor)", |_| with_headers(|_| {})));
    benches.push(Bench::new("headers, stripped", |directory| {
        let (naming, sources) = (naming(directory), sources(directory));
        with_headers(move |headers| {
            drop_hop_by_hop(headers, &[]);
            naming.strip(headers, Passing::default());
            sources.strip(headers, None);
        })
    }));
    benches.push(Bench::new("headers, identity set", |directory| {
        let (naming, caller) = (naming(directory), caller(directory));
        with_headers(move |headers| naming.set(headers, Some(&caller)).expect("the identity fits"))
    }));
    measure(write_fixture, benches);
}

// What is measured.

fn hit(directory: &Path, algorithm: &str) -> impl FnMut(u64) + use<> {
    let (verifier, tokens) = (verifier(directory), tokens(directory, algorithm));
    let mut local = LocalCache::new();
    let mut next = 0;
    move |times| {
        for _ in 0..times {
            let verified = verifier.verify(&mut local, &tokens[next % HOT], NOW);
            drop(black_box(verified).expect("the token is good"));
            next += 1;
        }
        let others = local.counters().shared_hits() + local.counters().misses();
        assert!(others <= HOT as u64, "{others} of {next} were no hits");
    }
}

fn shared(directory: &Path, algorithm: &str) -> impl FnMut(u64) + use<> {
    let (verifier, tokens) = (verifier(directory), tokens(directory, algorithm));
    let mut local = LocalCache::new();
    for token in &tokens {
        verifier
            .verify(&mut local, token, NOW)
            .expect("the token is good");
    }
    let mut next = 0;
    move |times| {
        for _ in 0..times {
            if next % TOKENS == 0 {
                // A worker that has seen none of them; its making is spread over all of them.
                local = LocalCache::new();
            }
            let verified = verifier.verify(&mut local, &tokens[next % TOKENS], NOW);
            drop(black_box(verified).expect("the token is good"));
            next += 1;
        }
        assert_eq!(local.counters().misses() + local.counters().local_hits(), 0);
    }
}

fn miss(directory: &Path, algorithm: &'static str) -> impl FnMut(u64) + use<> {
    let (verifier, tokens) = (verifier(directory), tokens(directory, algorithm));
    let sets = key_sets(directory, algorithm);
    let mut local = LocalCache::new();
    let mut next = 0;
    move |times| {
        for _ in 0..times {
            if next % TOKENS == 0 {
                // A change of the keys makes every verdict so far worthless.
                let issuer = verifier
                    .issuers()
                    .by_name(algorithm)
                    .expect("there is one for each algorithm");
                issuer.keys.replace(Arc::clone(&sets[next / TOKENS % 2]));
            }
            let verified = verifier.verify(&mut local, &tokens[next % TOKENS], NOW);
            drop(black_box(verified).expect("the token is good"));
            next += 1;
        }
        assert_eq!(local.counters().shared_hits() + local.counters().local_hits(), 0);
    }
}

fn find_route(path: impl Fn(usize) -> String) -> impl FnMut(u64) {
    let table = routes();
    // Spread over the table, so that not one of its branches stays in the processor's cache.
    let paths: Vec<String> = (0..1024).map(|index| path(index * 7919 % (ROUTES / 2))).collect();
    let mut next = 0;
    move |times| {
        for _ in 0..times {
            black_box(table.find(
                "app.example.com",
                black_box(&paths[next % paths.len()]),
                &Method::GET,
            ));
            next += 1;
        }
    }
}

fn parse_target(uri: &str) -> impl FnMut(u64) + use<> {
    let uri: Uri = uri.parse().expect("a URI");
    move |times| {
        for _ in 0..times {
            drop(black_box(Target::parse(black_box(&uri))).expect("a good target"));
        }
    }
}

fn find_credential(directory: &Path) -> impl FnMut(u64) + use<> {
    let (sources, headers) = (sources(directory), headers(directory));
    move |times| {
        for _ in 0..times {
            black_box(
                sources
                    .find(black_box(&headers), Some("page=3"))
                    .expect("one credential")
                    .is_some(),
            );
        }
    }
}

fn decide(directory: &Path) -> impl FnMut(u64) + use<> {
    let (raw, mut problems) = config(directory);
    let rules = passgate::internals::authorize::Rules::compile(&raw.routes[0].value, &mut problems);
    let caller = caller(directory);
    let facts = passgate::internals::authorize::RequestFacts::default();
    move |times| {
        for _ in 0..times {
            let decision = rules.decide(Some(Arc::clone(black_box(&caller))), &facts);
            drop(black_box(
                decision
                    .map_err(|denial| denial.refusal)
                    .expect("the caller has the role"),
            ));
        }
    }
}

/// `change` on a fresh copy of a request's headers.
fn with_headers(mut change: impl FnMut(&mut HeaderMap)) -> impl FnMut(u64) {
    let original = plain_headers("a.b.c");
    move |times| {
        for _ in 0..times {
            let mut headers = original.clone();
            change(black_box(&mut headers));
            black_box(&headers);
        }
    }
}

// What it is measured on.

fn write_fixture(directory: &Path) {
    let mut toml = String::from(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://localhost\"\n[upstreams.app]\nbuiltin = \"whoami\"\n\
         [[routes]]\npath = \"/*\"\nroles = [\"ops\", \"admin\"]\nupstream = \"app\"\n",
    );
    for algorithm in ALGORITHMS {
        let key = if algorithm == "HS256" {
            Key::corp()
        } else {
            Key::new(algorithm, "2027-01")
        };
        let keys = if algorithm == "HS256" {
            write(directory, "HS256.secret", CORP_SECRET);
            "secret = { file = \"HS256.secret\" }".to_owned()
        } else {
            write(directory, &format!("{algorithm}.1"), &jwks([&key]));
            write(
                directory,
                &format!("{algorithm}.2"),
                &jwks([&key, &Key::new("EdDSA", "2027-02")]),
            );
            format!("jwks_file = \"{algorithm}.1\"")
        };
        let _ = write!(
            toml,
            "[issuers.{algorithm}]\nissuer = \"https://{algorithm}.example.com\"\naudiences = [\"api\"]\n\
             algorithms = [\"{algorithm}\"]\nroles_claims = [\"realm_access.roles\"]\n{keys}\n"
        );
        let tokens: Vec<String> = (0..TOKENS)
            .map(|number| key.token(&claims(algorithm, number)))
            .collect();
        write(directory, &format!("{algorithm}.tokens"), &tokens.join("\n"));
    }
    write(directory, "gateway.toml", &toml);
}

/// As much as an identity provider usually says.
fn claims(algorithm: &str, number: usize) -> serde_json::Value {
    json!({
        "iss": format!("https://{algorithm}.example.com"), "aud": ["api"], "sub": format!("0b8f53e2-{number:012}"),
        "iat": NOW, "nbf": NOW, "exp": NOW + 86_400, "jti": format!("7c1be0a4-{number:012}"), "azp": "spa",
        "email": format!("user{number}@example.com"), "email_verified": true, "name": "Ann Example",
        "realm_access": { "roles": ["user", "admin"] }, "scope": "openid email profile",
    })
}

fn write(directory: &Path, name: &str, text: &str) {
    std::fs::write(directory.join(name), text).expect("the fixture can be written");
}

fn config(directory: &Path) -> (RawConfig, Problems) {
    let file = directory.join("gateway.toml");
    let source = std::fs::read_to_string(&file).expect("the fixture is there");
    let mut problems = Problems::new(&file, &source);
    let raw = read(&mut problems);
    assert!(problems.errors().is_empty(), "{}", problems.render(false));
    (raw, problems)
}

fn verifier(directory: &Path) -> Verifier {
    let (raw, mut problems) = config(directory);
    let issuers = Issuers::compile(&raw.issuers, &Egress::default(), &mut problems);
    assert!(problems.errors().is_empty(), "{}", problems.render(false));
    // Some are in force, or nothing would be looked up.
    let revocations = Revocations::new();
    revocations.touch(Instant::now() + std::time::Duration::from_secs(86_400));
    revocations.replace(ALGORITHMS.into_iter().flat_map(|algorithm| {
        (0..100).flat_map(move |number| {
            [
                revocation::Target::Token(format!("revoked-{number}")),
                revocation::Target::Subject(format!("revoked-{number}")),
            ]
            .map(|target| Revocation {
                issuer: algorithm.to_owned(),
                target,
                revoked_at: NOW,
                expires_at: None,
            })
        })
    }));
    Verifier::new(issuers, Arc::new(revocations))
}

fn tokens(directory: &Path, algorithm: &str) -> Vec<String> {
    let text =
        std::fs::read_to_string(directory.join(format!("{algorithm}.tokens"))).expect("the fixture is there");
    text.lines().map(str::to_owned).collect()
}

/// Two sets that differ and verify the same tokens.
fn key_sets(directory: &Path, algorithm: &str) -> [Arc<KeySet>; 2] {
    ["1", "2"].map(|number| {
        Arc::new(if algorithm == "HS256" {
            let algorithms: &[_] = if number == "1" {
                &[Algorithm::HS256]
            } else {
                &[Algorithm::HS256, Algorithm::HS384]
            };
            KeySet::from_secret(CORP_SECRET.as_bytes(), algorithms).expect("a good secret")
        } else {
            let text =
                std::fs::read(directory.join(format!("{algorithm}.{number}"))).expect("the fixture is there");
            KeySet::from_jwks(&text, Origin::File).expect("a good set").0
        })
    })
}

fn routes() -> Table<usize> {
    let mut builder = Builder::new();
    for index in 0..ROUTES / 2 {
        for path in [
            format!("/api/v1/service-{index}/items"),
            format!("/api/v1/service-{index}/items/{{id}}/*"),
        ] {
            builder.add(
                None,
                Pattern::parse(&path).expect("a pattern"),
                Some(vec![Method::GET, Method::POST]),
                index,
            );
        }
    }
    builder.build().expect("no two of them tie")
}

fn naming(directory: &Path) -> IdentityHeaders {
    let (raw, mut problems) = config(directory);
    IdentityHeaders::compile(&raw, &mut problems)
}

fn sources(directory: &Path) -> Sources {
    let (raw, mut problems) = config(directory);
    Sources::compile(raw.sources.as_deref(), &mut problems)
}

fn caller(directory: &Path) -> Arc<Caller> {
    let token = tokens(directory, "RS256").swap_remove(0);
    let verified = verifier(directory)
        .verify(&mut LocalCache::new(), &token, NOW)
        .expect("the token is good");
    Arc::clone(&verified.caller)
}

fn headers(directory: &Path) -> HeaderMap {
    plain_headers(&tokens(directory, "RS256")[0])
}

/// As a browser's fetch sends them.
fn plain_headers(token: &str) -> HeaderMap {
    let authorization = format!("Bearer {token}");
    [
        ("host", "app.example.com"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        ),
        ("accept", "application/json"),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", "https://app.example.com/"),
        ("authorization", &authorization),
        ("connection", "keep-alive"),
        ("cookie", "theme=dark; lang=en"),
        ("sec-fetch-dest", "empty"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-origin"),
    ]
    .into_iter()
    .map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::try_from(value).expect("a value"),
        )
    })
    .collect()
}
