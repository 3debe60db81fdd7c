//! What a request costs in allocations where its token is known: nothing for the verification, the route, the rules and
//! the target.
//!
//! A test binary of its own, because it counts what its thread allocates (`allocation-counter`).
#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code, unreachable_pub)]
#[path = "it/support/tokens.rs"]
mod tokens;

use std::borrow::Cow;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use allocation_counter::measure;
use arc_swap::ArcSwap;
use http::{HeaderMap, Method, Uri};
use passgate::internals::app::{self, Joined};
use passgate::internals::authorize::{RequestFacts, Rules};
use passgate::internals::clock::Clock;
use passgate::internals::config::{Problems, RawConfig, read};
use passgate::internals::credential::Sources;
use passgate::internals::forward::Pool;
use passgate::internals::gateway::{
    Decision, RequestHead, Sender, SignIn, Silent, WorkerContext, decide_at_once,
};
use passgate::internals::http::client::Share;
use passgate::internals::http::headers::request_host;
use passgate::internals::http::target::Target;
use passgate::internals::identity::{Caller, SESSION_ISSUER};
use passgate::internals::login::Sites;
use passgate::internals::net::egress::Egress;
use passgate::internals::observe::{AccessLog, Decisions, Metrics, WorkerTelemetry};
use passgate::internals::refusal::Refusal;
use passgate::internals::revocation::{self, Revocation};
use passgate::internals::route::{Builder, HostPattern, Lookup, NamedHosts, Pattern, Table};
use passgate::internals::signing::{Kind, SigningAlgorithm, SigningKeys};
use passgate::internals::state::sqlite::Sqlite;
use passgate::internals::verify::{Issuers, KeySet, LocalCache, Origin, Revocations, Verifier};
use serde_json::json;
use tokens::{ASYMMETRIC, CORP_SECRET, Key, SYMMETRIC, jwks};

const NOW: i64 = 1_800_000_000;

/// Allocations and reallocations of `operation` on this thread, in ten runs of it. Whatever it returns is dropped inside.
fn allocations<T>(mut operation: impl FnMut() -> T) -> u64 {
    measure(|| (0..10).for_each(|_| drop(black_box(operation())))).count_total
}

#[test]
fn what_is_allocated_is_counted() {
    assert_eq!(allocations(|| Box::new(1)), 10);
    assert_eq!(allocations(|| 1), 0);
    let grown = allocations(|| {
        let mut list = Vec::with_capacity(1);
        list.extend(black_box([1, 2]));
        list
    });
    assert_eq!(grown, 20, "a reallocation counts");
}

#[test]
fn a_token_that_the_worker_knows_is_verified_without_an_allocation() {
    for algorithm in SYMMETRIC.into_iter().chain(ASYMMETRIC) {
        let (verifier, token) = verifier(algorithm);
        let mut local = LocalCache::new();
        let first = measure(|| drop(verifier.verify(&mut local, &token, NOW).unwrap()));
        assert!(first.count_total > 0, "{algorithm}: the first time it is parsed");
        assert_eq!(
            allocations(|| verifier.verify(&mut local, &token, NOW).unwrap()),
            0,
            "{algorithm}"
        );
        assert_eq!(local.counters().local_hits(), 10, "{algorithm}");
    }
}

#[test]
fn a_known_token_is_refused_without_an_allocation_once_it_is_revoked() {
    let (verifier, token) = verifier("ES256");
    let mut local = LocalCache::new();
    verifier.verify(&mut local, &token, NOW).unwrap();
    verifier
        .revocations()
        .replace([revoked(revocation::Target::Subject("ann".to_owned()))]);
    assert_eq!(
        verifier.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::Revoked
    );
    assert_eq!(
        allocations(|| verifier.verify(&mut local, &token, NOW).unwrap_err()),
        0
    );
}

#[test]
fn a_credential_is_found_without_an_allocation() {
    let (raw, mut problems) = config("");
    let sources = Sources::compile(raw.sources.as_deref(), &mut problems);
    let mut headers = HeaderMap::new();
    headers.insert("accept", "*/*".parse().unwrap());
    headers.insert("cookie", "theme=dark".parse().unwrap());
    headers.insert("authorization", "Bearer a.b.c".parse().unwrap());
    assert_eq!(
        sources.find(&headers, Some("page=3")).unwrap().unwrap().token,
        "a.b.c"
    );
    assert_eq!(
        allocations(|| sources.find(&headers, Some("page=3")).unwrap().is_some()),
        0
    );
}

#[test]
fn a_known_session_cookie_is_found_and_verified_without_an_allocation() {
    let signing =
        SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), SigningAlgorithm::default(), NOW).unwrap();
    let (keys, _) = KeySet::from_jwks(signing.jwks(NOW).to_string().as_bytes(), Origin::File).unwrap();
    let url = "https://app.example.com";
    let (issuers, _) = Issuers::of_own_sessions(SESSION_ISSUER, url, url, keys);
    let revocations = Revocations::new();
    revocations.touch(Instant::now() + Duration::from_secs(3600));
    let other = revocation::Target::Session("another".to_owned());
    revocations.replace([Revocation {
        issuer: SESSION_ISSUER.to_owned(),
        ..revoked(other)
    }]);
    let verifier = Verifier::new(issuers, Arc::new(revocations));
    let sites = Arc::new(Sites::new(&url.parse().unwrap(), NamedHosts::default()));
    let sign_in = SignIn {
        bounces: Arc::default(),
        cookie: "__Host-session".to_owned(),
        same_site_none: false,
        sites,
        verifier,
        renewal: None,
    };
    let claims = json!({
        "iss": url, "aud": url, "sub": "ann", "sid": "s1", "jti": "7", "iat": NOW, "exp": NOW + 600,
        "email": "ann@example.com", "roles": ["user", "admin"], "host": "app.example.com",
    });
    let token = signing.sign(Kind::Session, claims.as_object().unwrap()).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("accept", "*/*".parse().unwrap());
    headers.append("cookie", "theme=dark".parse().unwrap());
    headers.append(
        "cookie",
        format!("a=b; __Host-session={token}; lang=en").parse().unwrap(),
    );
    let mut local = LocalCache::new();
    let mut present = || {
        let token = sign_in.find(&headers).unwrap().unwrap();
        let verified = sign_in.verifier.verify(&mut local, token, NOW)?;
        assert!(sign_in.counts_on(&verified, "app.example.com"));
        Ok::<_, Refusal>(verified)
    };
    assert_eq!(present().unwrap().caller.identity.subject, "ann");
    assert_eq!(allocations(|| present().unwrap()), 0);
    sign_in.verifier.revocations().replace([Revocation {
        issuer: SESSION_ISSUER.to_owned(),
        ..revoked(revocation::Target::Session("s1".to_owned()))
    }]);
    assert_eq!(present().unwrap_err(), Refusal::Revoked);
    assert_eq!(allocations(|| present().unwrap_err()), 0);
}

/// The decision about a request by a worker that knows its token: host, route, credential and rules together.
#[test]
fn request_with_a_known_token_is_decided_without_an_allocation() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gateway.toml");
    std::fs::write(directory.path().join("corp.secret"), CORP_SECRET).unwrap();
    std::fs::write(
        &file,
        "[server]\nlisten = \"127.0.0.1:0\"\n[issuers.corp]\nissuer = \"https://id.example.com\"\naudiences = [\"api\"]\n\
         algorithms = [\"HS256\"]\nsecret = { file = \"corp.secret\" }\n[upstreams.app]\nbuiltin = \"whoami\"\n\
         [[routes]]\npath = \"/api/{id}/*\"\nroles = [\"admin\"]\nupstream = \"app\"\n\
         rate_limit = { requests = 100, per = \"1s\" }\n",
    )
    .unwrap();
    let metrics = Metrics::new();
    let (plan, _) = app::load(&file).unwrap();
    let revocations = Arc::new(Revocations::new());
    revocations.touch(Instant::now() + Duration::from_secs(3600));
    revocations.replace([revoked(revocation::Target::Subject("bob".to_owned()))]);
    let signing =
        SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), SigningAlgorithm::default(), NOW).unwrap();
    let joined = Joined {
        revocations,
        signing: Arc::new(ArcSwap::from_pointee(signing)),
        clock: Clock::fixed(NOW),
        login: None,
        sign_in: None,
        rate_limits: Arc::default(),
    };
    let log = AccessLog::start(1, Box::new(std::io::sink())).unwrap();
    let worker = WorkerContext {
        gateway: Arc::new(app::gateway(plan, joined, &metrics).unwrap()),
        pool: Pool::new(Share::Percent(25)),
        cache: Arc::new(Mutex::new(LocalCache::new())),
        session_cache: Arc::new(Mutex::new(LocalCache::new())),
        desk: Arc::new(
            WorkerTelemetry::new(log.worker(0), metrics.worker(), Decisions::new(1).worker(0)).unwrap(),
        ),
    };
    let token = Key::secret("HS256", CORP_SECRET).token(&json!({
        "iss": "https://id.example.com", "aud": ["api"], "sub": "ann", "iat": NOW, "exp": NOW + 600, "roles": ["admin"],
    }));
    let request = http::Request::get("/api/7/items?page=3")
        .header("host", "app.example.com")
        .header("authorization", format!("Bearer {token}"));
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let sender = Sender {
        peer: Cow::Owned(worker.gateway.peer(address, false)),
        client_ip: address,
        server_name: None,
    };
    let host = request_host(&parts);
    let head = RequestHead::parse(parts, host, sender, &mut Silent).unwrap();
    let decide = || {
        let mut policy = worker.gateway.policy();
        policy.rate_limits = Some(&worker.gateway.rate_limits);
        let decision = decide_at_once(policy, &head, &worker.credentials(), &mut Silent).unwrap();
        assert!(matches!(&decision, Decision::Forward(allowed) if allowed.permit.caller().is_some()));
        decision
    };
    assert!(
        measure(|| drop(decide())).count_total > 0,
        "the first time the token is parsed"
    );
    assert_eq!(allocations(decide), 0);
}

#[test]
fn a_plain_target_is_read_without_an_allocation() {
    for plain in [
        "/",
        "/api/v1/orders/42/lines?page=3&q=a%2Fb",
        "/a-b_c~d.e/",
        "/caf%C3%A9?x=%C3",
    ] {
        let uri: Uri = plain.parse().unwrap();
        let target = Target::parse(&uri).unwrap();
        assert_eq!(target.path_and_query().as_str(), plain);
        let count = allocations(|| {
            let target = Target::parse(&uri).unwrap();
            assert!(!black_box(target.matching()).is_empty());
            target.path_and_query()
        });
        assert_eq!(count, 0, "{plain}");
    }
    let escaped: Uri = "/%61".parse().unwrap();
    assert!(
        allocations(|| Target::parse(&escaped).unwrap()) > 0,
        "what is not canonical is written anew"
    );
}

#[test]
fn a_route_is_looked_up_without_an_allocation() {
    let table = routes();
    for (host, path, method, expected) in [
        ("app.example.com", "/service-777/items", Method::GET, Ok(1554)),
        (
            "app.example.com",
            "/service-777/items/7/a/b/c",
            Method::POST,
            Ok(1555),
        ),
        ("admin.example.com", "/anything", Method::GET, Ok(10_000)),
        ("a.b.example.org", "/anything", Method::GET, Ok(10_001)),
        ("app.example.com", "/service-777/items", Method::DELETE, Err(405)),
        ("app.example.com", "/service-777/item", Method::GET, Err(404)),
    ] {
        let find = || match table.find(host, path, &method) {
            Lookup::Found(index) => Ok(*index),
            Lookup::MethodRefused { .. } => Err(405),
            Lookup::Missing => Err(404),
        };
        assert_eq!(find(), expected, "{host} {path}");
        assert_eq!(allocations(find), 0, "{host} {path}");
    }
}

#[test]
fn rules_decide_without_an_allocation() {
    let facts = RequestFacts {
        client: Some(IpAddr::from([10, 1, 2, 3])),
        ..RequestFacts::default()
    };
    for (lines, expected) in [
        (r#"roles = ["ops", "admin"]"#, None),
        (r#"roles = { all = ["user", "admin"], none = ["banned"] }"#, None),
        (r#"claims = { "realm.tenant" = "acme" }"#, None),
        (r#"scopes = ["reports:read"]"#, None),
        (r#"auth = "none""#, None),
        (r#"from = ["10.0.0.0/8"]"#, None),
        (r#"any = [{ role = "root" }, { from = "10.0.0.0/8" }]"#, None),
        (r#"none_from = ["10.0.0.0/8"]"#, Some(Refusal::NetworkRefused)),
        (
            r#"any = [{ role = "root" }, { from = "11.0.0.0/8" }]"#,
            Some(Refusal::AnyRefused),
        ),
        (r#"roles = ["root"]"#, Some(Refusal::RoleRefused)),
        (r#"claims = { tenant = "acme" }"#, Some(Refusal::ClaimRefused)),
        (r#"scopes = ["reports:write"]"#, Some(Refusal::ScopeRefused)),
    ] {
        let (raw, mut problems) = config(lines);
        let rules = Rules::compile(&raw.routes[0].value, &mut problems);
        assert!(problems.errors().is_empty(), "{}", problems.render(false));
        let caller = caller();
        let decide = || {
            rules
                .decide(Some(Arc::clone(&caller)), &facts)
                .err()
                .map(|denial| denial.refusal)
        };
        assert_eq!(decide(), expected, "{lines}");
        assert_eq!(allocations(decide), 0, "{lines}");
    }
    let (raw, mut problems) = config("");
    let rules = Rules::compile(&raw.routes[0].value, &mut problems);
    assert_eq!(
        allocations(|| rules.decide(None, &facts).unwrap_err()),
        0,
        "no caller"
    );
}

/// A gateway with an issuer for each algorithm and a route with these lines.
fn config(route: &str) -> (RawConfig, Problems) {
    compile(Path::new("gateway.toml"), route, &[])
}

fn compile(file: &Path, route: &str, issuers: &[&str]) -> (RawConfig, Problems) {
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[upstreams.app]\nbuiltin = \"whoami\"\n{}\n\
         [[routes]]\npath = \"/*\"\nupstream = \"app\"\n{route}\n",
        issuers.concat()
    );
    let mut problems = Problems::new(file, &toml);
    let raw = read(&mut problems);
    assert!(problems.errors().is_empty(), "{}", problems.render(false));
    (raw, problems)
}

/// A verifier of one issuer of this algorithm, with revocations of other tokens, and a good token.
fn verifier(algorithm: &'static str) -> (Verifier, String) {
    let directory = tempfile::tempdir().unwrap();
    let is_secret = SYMMETRIC.contains(&algorithm);
    let key = if is_secret {
        Key::secret(algorithm, CORP_SECRET)
    } else {
        Key::new(algorithm, "1")
    };
    let keys = if is_secret {
        "secret = { file = \"keys\" }"
    } else {
        "jwks_file = \"keys\""
    };
    std::fs::write(
        directory.path().join("keys"),
        if is_secret {
            CORP_SECRET.to_owned()
        } else {
            jwks([&key])
        },
    )
    .unwrap();
    let issuer = format!(
        "[issuers.corp]\nissuer = \"https://id.example.com\"\naudiences = [\"api\"]\nalgorithms = [\"{algorithm}\"]\n{keys}\n"
    );
    let (raw, mut problems) = compile(&directory.path().join("gateway.toml"), "", &[&issuer]);
    let issuers = Issuers::compile(&raw.issuers, &Egress::default(), &mut problems);
    assert!(problems.errors().is_empty(), "{}", problems.render(false));
    let revocations = Revocations::new();
    // The test may take as long as it wants.
    revocations.touch(Instant::now() + Duration::from_secs(3600));
    revocations.replace([
        revoked(revocation::Target::Token("8".to_owned())),
        revoked(revocation::Target::Subject("bob".to_owned())),
    ]);
    let token = key.token(&json!({
        "iss": "https://id.example.com", "aud": ["api"], "sub": "ann", "jti": "7", "iat": NOW, "exp": NOW + 600,
        "roles": ["user", "admin"], "realm": { "tenant": "acme" }, "scope": "openid reports:read",
    }));
    (Verifier::new(issuers, Arc::new(revocations)), token)
}

fn revoked(target: revocation::Target) -> Revocation {
    Revocation {
        issuer: "https://id.example.com".to_owned(),
        target,
        revoked_at: NOW,
        expires_at: None,
    }
}

fn caller() -> Arc<Caller> {
    let (verifier, token) = verifier("HS256");
    let verified = verifier.verify(&mut LocalCache::new(), &token, NOW).unwrap();
    Arc::clone(&verified.caller)
}

/// 10,000 routes for every host, one for one host, one for all below another.
fn routes() -> Table<usize> {
    let mut builder = Builder::new();
    for index in 0..5_000 {
        for path in [
            format!("/service-{index}/items"),
            format!("/service-{index}/items/{{id}}/*"),
        ] {
            let methods = Some(vec![Method::GET, Method::POST]);
            let number = index * 2 + usize::from(path.ends_with('*'));
            builder.add(None, Pattern::parse(&path).unwrap(), methods, number);
        }
    }
    for (number, host) in ["admin.example.com", "*.example.org"].into_iter().enumerate() {
        let host = HostPattern::parse(host).unwrap();
        builder.add(Some(host), Pattern::parse("/*").unwrap(), None, 10_000 + number);
    }
    builder.build().unwrap()
}
