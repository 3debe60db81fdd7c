//! Who is let in with what: tokens of every algorithm, every way a token can be wrong, where a token may be, the keys of
//! issuers, and revocation. Through the real binary.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support::gateway::{CORP_ISSUER, before};
use crate::support::tokens::{
    ASYMMETRIC, CORP, CORP_SECRET, SYMMETRIC, base64url, header, jwks, now, payload, unbase64url,
};
use crate::support::*;
use serde_json::{Value, json};

/// One route that needs a caller, one that takes one, one that asks for none.
const ROUTES: &str = r#"
[[routes]]
path = "/private/*"
upstream = "app"

[[routes]]
path = "/optional/*"
auth = "optional"
upstream = "app"

[[routes]]
path = "/public/*"
auth = "none"
upstream = "app"
"#;

fn corp() -> (App, Gateway) {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    (app, gateway)
}

/// `corp_claims` with some members set, or removed where the value is null.
fn claims_with(changes: Value) -> Value {
    let mut claims = corp_claims("alice");
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// A gateway whose issuer `corp` has keys that `keys` describes.
fn issuer(keys: &str) -> String {
    format!(
        "[issuers.corp]\nissuer = \"{CORP}\"\naudiences = [\"api\"]\nroles_claims = [\"roles\"]\n{keys}\n{}",
        "refresh_cooldown = \"1s\"\n"
    )
}

fn upstream(app: &App) -> String {
    format!("[upstreams.app]\nservers = [{}]\n", app.url())
}

/// The same for an issuer whose keys come by HTTP.
fn fetching(provider: &Provider, app: &App) -> String {
    let keys = format!("algorithms = [\"ES256\"]\njwks_url = \"{}\"", provider.jwks_url());
    format!("{}\n{}\n{ROUTES}", issuer(&keys), upstream(app))
}

#[track_caller]
fn wait_until_accepted(gateway: &Gateway, token: &str) {
    eventually("the token is accepted", || {
        gateway.get_as(token, "/private/x").status == 200
    });
}

// --- what is accepted

#[test]
fn a_token_of_every_asymmetric_algorithm_is_accepted() {
    let app = App::start();
    let keys: Vec<Key> = ASYMMETRIC
        .iter()
        .map(|algorithm| Key::new(algorithm, &format!("key-{algorithm}")))
        .collect();
    let list = ASYMMETRIC.map(|algorithm| format!("{algorithm:?}")).join(", ");
    let toml = issuer(&format!("algorithms = [{list}]\njwks_file = \"keys.json\""))
        .replace("refresh_cooldown = \"1s\"", "");
    let setup = Setup::new(&format!("{toml}\n{}\n{ROUTES}", upstream(&app)));
    setup.write("keys.json", jwks(&keys));
    let gateway = setup.start();
    for key in &keys {
        let response = gateway.get_as(&key.token(&corp_claims(key.algorithm)), "/private/x");
        assert_eq!(response.status, 200, "{}", key.algorithm);
        assert_eq!(app.last().header("x-auth-user"), Some(key.algorithm));
        assert_eq!(app.last().header("x-auth-issuer"), Some("corp"));
    }
}

#[test]
fn a_token_of_every_symmetric_algorithm_is_accepted() {
    let app = App::start();
    let gateway = Gateway::start(&format!(
        "{}\n{}\n{ROUTES}",
        CORP_ISSUER.replace("[\"HS256\"]", "[\"HS256\", \"HS384\", \"HS512\"]"),
        upstream(&app)
    ));
    for algorithm in SYMMETRIC {
        let token = Key::secret(algorithm, CORP_SECRET).token(&corp_claims(algorithm));
        assert_eq!(gateway.get_as(&token, "/private/x").status, 200, "{algorithm}");
        assert_eq!(app.last().header("x-auth-user"), Some(algorithm));
    }
}

#[test]
fn a_token_is_verified_with_a_public_key_file_whatever_its_kid() {
    let app = App::start();
    for algorithm in ["RS256", "ES256", "EdDSA"] {
        let key = Key::new(algorithm, "any-name");
        let keys = format!("algorithms = [{algorithm:?}]\npublic_key_file = \"key.pem\"");
        let toml = issuer(&keys).replace("refresh_cooldown = \"1s\"", "");
        let setup = Setup::new(&format!("{toml}\n{}\n{ROUTES}", upstream(&app)));
        setup.write("key.pem", key.public_pem());
        let gateway = setup.start();
        gateway
            .get_as(&key.token(&corp_claims("alice")), "/private/x")
            .expect(200);
    }
}

#[test]
fn audiences_may_be_a_string_or_an_array_and_one_match_is_enough() {
    let (_app, gateway) = corp();
    for audience in [json!("api"), json!(["api"]), json!(["other", "api"])] {
        let token = corp_token_of(&claims_with(json!({ "aud": audience })));
        gateway.get_as(&token, "/private/x").expect(200);
    }
}

#[test]
fn the_audience_may_be_in_another_claim() {
    let app = App::start();
    let toml = before(&app, ROUTES).replace("audiences =", "audience_claim = \"client_id\"\naudiences =");
    let gateway = Gateway::start(&toml);
    let named = corp_token_of(&claims_with(json!({ "aud": null, "client_id": "api" })));
    gateway.get_as(&named, "/private/x").expect(200);
    let other = corp_token_of(&claims_with(json!({ "aud": "api", "client_id": "other" })));
    gateway.get_as(&other, "/private/x").expect(401);
    let absent = corp_token_of(&claims_with(json!({ "aud": "api" })));
    gateway.get_as(&absent, "/private/x").expect(401);
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let (_app, gateway) = corp();
    for (changes, status) in [
        (json!({ "exp": now() - 5 }), 200),
        (json!({ "exp": now() - 300 }), 401),
        (json!({ "nbf": now() + 5 }), 200),
        (json!({ "nbf": now() + 300 }), 401),
        (json!({ "iat": now() + 300 }), 401),
    ] {
        let token = corp_token_of(&claims_with(changes.clone()));
        assert_eq!(gateway.get_as(&token, "/private/x").status, status, "{changes}");
    }
}

#[test]
fn a_token_older_than_max_age_is_refused_even_if_it_has_not_expired() {
    let app = App::start();
    let toml = before(&app, ROUTES).replace("audiences =", "max_age = \"1h\"\naudiences =");
    let gateway = Gateway::start(&toml);
    let fresh = claims_with(json!({ "iat": now() - 60 }));
    gateway.get_as(&corp_token_of(&fresh), "/private/x").expect(200);
    let old = claims_with(json!({ "iat": now() - 7200 }));
    let refused = gateway.get_as(&corp_token_of(&old), "/private/x").expect(401);
    assert_eq!(gateway.log_of(&refused)["reason"], "too-old");
    let undated = claims_with(json!({ "iat": null }));
    gateway.get_as(&corp_token_of(&undated), "/private/x").expect(401);
}

#[test]
fn the_scheme_is_case_insensitive_and_other_schemes_are_no_credential_of_ours() {
    let (app, gateway) = corp();
    let token = corp_token("alice", &[]);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        gateway
            .send(&Request::get("/private/x").header("authorization", &format!("{scheme} {token}")))
            .expect(200);
    }
    let basic = Request::get("/private/x").header("Authorization", "Basic YWxpY2U6c2VjcmV0");
    let refused = gateway.send(&basic).expect(401);
    assert!(
        !refused
            .header("www-authenticate")
            .unwrap()
            .contains("invalid_token")
    );
    assert_eq!(app.count(), 3);
}

// --- what is refused

/// Tokens that are wrong, each with the reason the log gives; an empty one where several would be right.
fn wrong_tokens() -> Vec<(&'static str, String, &'static str)> {
    let key = Key::corp();
    let good = corp_token("alice", &[]);
    let parts: Vec<&str> = good.split('.').collect();
    let of = |changes: Value| corp_token_of(&claims_with(changes));
    let with_header = |changes: Value| {
        let mut header = key.header();
        header
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        key.sign(&header.to_string(), &corp_claims("alice").to_string())
    };
    let text = |payload: String| key.sign(&key.header().to_string(), &payload);
    let members = |extra: &str| {
        let (iat, exp) = (now(), now() + 600);
        format!(
            "{{\"iss\":\"{CORP}\",\"aud\":\"api\",\"sub\":\"alice\",\"iat\":{iat},\"exp\":{exp},{extra}}}"
        )
    };
    let stranger = Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256");
    let mut flipped = unbase64url(parts[2]);
    flipped[0] ^= 1;
    let last = parts[2].chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let index = alphabet.find(last).unwrap();
    // A 32-byte signature ends with a character of which two bits are unused: setting one keeps its lenient meaning.
    let sloppy = alphabet.chars().nth(index + 1).unwrap();
    let sloppy = format!("{}{sloppy}", &good[..good.len() - 1]);
    vec![
        ("expired", of(json!({ "exp": now() - 3600 })), "expired"),
        (
            "expired in the age of the dinosaurs",
            of(json!({ "exp": -1 })),
            "",
        ),
        ("no exp", of(json!({ "exp": null })), "time-malformed"),
        (
            "exp as text",
            of(json!({ "exp": "9999999999" })),
            "time-malformed",
        ),
        ("exp as true", of(json!({ "exp": true })), "time-malformed"),
        (
            "exp as an array",
            of(json!({ "exp": [now() + 600] })),
            "time-malformed",
        ),
        (
            "exp null",
            text(format!(
                "{{\"iss\":\"{CORP}\",\"aud\":\"api\",\"sub\":\"alice\",\"exp\":null}}"
            )),
            "",
        ),
        (
            "exp not finite",
            text(format!(
                "{{\"iss\":\"{CORP}\",\"aud\":\"api\",\"sub\":\"alice\",\"exp\":1e999}}"
            )),
            "",
        ),
        (
            "not yet valid",
            of(json!({ "nbf": now() + 3600 })),
            "not-yet-valid",
        ),
        ("nbf as text", of(json!({ "nbf": "0" })), "time-malformed"),
        ("nbf as an object", of(json!({ "nbf": {} })), "time-malformed"),
        ("iat as text", of(json!({ "iat": "0" })), "time-malformed"),
        ("no iss", of(json!({ "iss": null })), "issuer-malformed"),
        (
            "iss of nobody",
            of(json!({ "iss": "https://evil.example" })),
            "issuer-unknown",
        ),
        (
            "iss with a slash more",
            of(json!({ "iss": format!("{CORP}/") })),
            "issuer-unknown",
        ),
        (
            "iss in another case",
            of(json!({ "iss": CORP.to_uppercase() })),
            "issuer-unknown",
        ),
        (
            "iss as an array",
            of(json!({ "iss": [CORP] })),
            "issuer-malformed",
        ),
        (
            "iss as two",
            of(json!({ "iss": [CORP, "https://evil.example"] })),
            "issuer-malformed",
        ),
        ("iss as a number", of(json!({ "iss": 1 })), "issuer-malformed"),
        ("no aud", of(json!({ "aud": null })), "audience-malformed"),
        (
            "aud of another",
            of(json!({ "aud": "other" })),
            "audience-refused",
        ),
        (
            "aud longer than ours",
            of(json!({ "aud": "api2" })),
            "audience-refused",
        ),
        ("aud empty", of(json!({ "aud": [] })), ""),
        ("aud as a number", of(json!({ "aud": 1 })), "audience-malformed"),
        (
            "aud as an object",
            of(json!({ "aud": { "api": true } })),
            "audience-malformed",
        ),
        (
            "aud with a number among the names",
            of(json!({ "aud": ["api", 1] })),
            "audience-malformed",
        ),
        (
            "aud nested",
            of(json!({ "aud": [["api"]] })),
            "audience-malformed",
        ),
        ("no sub", of(json!({ "sub": null })), "subject-malformed"),
        ("sub empty", of(json!({ "sub": "" })), "subject-malformed"),
        ("sub as a number", of(json!({ "sub": 1 })), "subject-malformed"),
        (
            "sub as an array",
            of(json!({ "sub": ["alice"] })),
            "subject-malformed",
        ),
        (
            "sub twice",
            text(members("\"sub\":\"admin\"")),
            "token-duplicate-name",
        ),
        (
            "aud twice",
            text(members("\"aud\":\"other\"")),
            "token-duplicate-name",
        ),
        (
            "roles twice",
            text(members("\"roles\":[],\"roles\":[\"admin\"]")),
            "token-duplicate-name",
        ),
        (
            "sub twice, once escaped",
            text(members("\"s\\u0075b\":\"admin\"")),
            "token-duplicate-name",
        ),
        (
            "alg twice",
            key.sign(
                "{\"alg\":\"HS256\",\"alg\":\"HS256\",\"typ\":\"JWT\"}",
                &corp_claims("alice").to_string(),
            ),
            "token-duplicate-name",
        ),
        ("crit", with_header(json!({ "crit": ["exp"] })), "token-critical"),
        ("crit empty", with_header(json!({ "crit": [] })), "token-critical"),
        (
            "crit null",
            with_header(json!({ "crit": null })),
            "token-critical",
        ),
        (
            "crit b64",
            with_header(json!({ "crit": ["b64"], "b64": false })),
            "token-critical",
        ),
        ("alg none", none_token("none"), ""),
        ("alg None", none_token("None"), ""),
        ("alg nOnE", none_token("nOnE"), ""),
        ("alg in lower case", with_header(json!({ "alg": "hs256" })), ""),
        (
            "alg not on the list",
            Key::secret("HS512", CORP_SECRET).token(&corp_claims("alice")),
            "algorithm-refused",
        ),
        ("alg as a number", with_header(json!({ "alg": 1 })), ""),
        (
            "alg missing",
            key.sign("{\"typ\":\"JWT\"}", &corp_claims("alice").to_string()),
            "",
        ),
        (
            "signed by a stranger",
            stranger.token(&corp_claims("alice")),
            "signature-invalid",
        ),
        (
            "signed with an empty secret",
            Key::secret("HS256", "").token(&corp_claims("alice")),
            "signature-invalid",
        ),
        (
            "a bit of the signature flipped",
            format!("{}.{}.{}", parts[0], parts[1], base64url(flipped)),
            "signature-invalid",
        ),
        ("half a signature", good[..good.len() - 20].to_owned(), ""),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), ""),
        ("claims exchanged", exchanged(&good), "signature-invalid"),
        (
            "five parts",
            format!("{good}.{}.{}", parts[1], parts[2]),
            "token-encrypted",
        ),
        ("four parts", format!("{good}.{}", parts[1]), "token-malformed"),
        (
            "two parts",
            format!("{}.{}", parts[0], parts[1]),
            "token-malformed",
        ),
        ("one part", parts[0].to_owned(), "token-malformed"),
        ("only dots", "..".to_owned(), "token-malformed"),
        ("not base64", "a*b.c*d.e*f".to_owned(), "token-malformed"),
        ("padding", format!("{good}="), "token-malformed"),
        (
            "padding inside",
            format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
            "token-malformed",
        ),
        ("unused bits set", sloppy, "token-malformed"),
        (
            "header is an array",
            key.sign("[]", &corp_claims("alice").to_string()),
            "token-malformed",
        ),
        ("payload is an array", text("[]".to_owned()), "token-malformed"),
        ("payload is text", text("\"alice\"".to_owned()), "token-malformed"),
        ("payload is not JSON", text("{".to_owned()), "token-malformed"),
        (
            "payload with something behind it",
            text(format!("{} x", members("\"x\":1"))),
            "token-malformed",
        ),
        ("payload in Latin-1", latin1(&key), "token-malformed"),
    ]
}

fn none_token(name: &str) -> String {
    let header = format!("{{\"alg\":\"{name}\",\"typ\":\"JWT\"}}");
    format!(
        "{}.{}.",
        base64url(header),
        base64url(corp_claims("alice").to_string())
    )
}

fn exchanged(good: &str) -> String {
    let parts: Vec<&str> = good.split('.').collect();
    let mut claims = payload(good);
    claims["sub"] = json!("admin");
    format!("{}.{}.{}", parts[0], base64url(claims.to_string()), parts[2])
}

fn latin1(key: &Key) -> String {
    let mut payload = corp_claims("alice").to_string().into_bytes();
    payload.truncate(payload.len() - 1);
    payload.extend_from_slice(b",\"name\":\"Jos\xe9\"}");
    let input = format!("{}.{}", base64url(key.header().to_string()), base64url(payload));
    let signature = base64url(key.signature(input.as_bytes()));
    format!("{input}.{signature}")
}

#[test]
fn every_wrong_token_is_refused_also_where_none_is_needed_and_the_app_sees_nothing() {
    let (app, gateway) = corp();
    for (what, token, reason) in wrong_tokens() {
        for target in ["/private/x", "/optional/x"] {
            let refused = gateway.get_as(&token, target);
            assert_eq!(refused.status, 401, "{what} on {target}");
            let challenge = refused.header("www-authenticate").unwrap_or_default();
            assert!(challenge.starts_with("Bearer realm=\""), "{what}: {challenge}");
            assert!(
                challenge.contains("error=\"invalid_token\""),
                "{what}: {challenge}"
            );
            let line = gateway.log_of(&refused);
            assert!(
                line["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
                "{what}: {line}"
            );
            if !reason.is_empty() {
                assert_eq!(line["reason"], reason, "{what}");
            }
        }
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn a_refused_token_is_refused_again_and_does_not_harm_the_right_one() {
    let (app, gateway) = corp();
    let good = corp_token("alice", &[]);
    for _ in 0..3 {
        gateway.get_as(&good, "/private/x").expect(200);
        gateway.get_as(&exchanged(&good), "/private/x").expect(401);
        gateway.get_as(&format!("{good}="), "/private/x").expect(401);
    }
    assert_eq!(app.count(), 3);
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    let app = App::start();
    let key = Key::new("RS256", "k");
    let toml = issuer("algorithms = [\"RS256\"]\npublic_key_file = \"key.pem\"")
        .replace("refresh_cooldown = \"1s\"", "");
    let setup = Setup::new(&format!("{toml}\n{}\n{ROUTES}", upstream(&app)));
    setup.write("key.pem", key.public_pem());
    let gateway = setup.start();
    gateway
        .get_as(&key.token(&corp_claims("alice")), "/private/x")
        .expect(200);
    for secret in [key.public_pem(), key.public_pem().trim_end().to_owned()] {
        for algorithm in SYMMETRIC {
            let confused = Key::secret(algorithm, secret.clone()).token(&corp_claims("admin"));
            let refused = gateway.get_as(&confused, "/private/x").expect(401);
            assert_eq!(gateway.log_of(&refused)["reason"], "algorithm-refused");
        }
    }
    // Of the same key, but not on the list.
    let other = Key::new("PS256", "k").token(&corp_claims("alice"));
    gateway.get_as(&other, "/private/x").expect(401);
    assert_eq!(app.count(), 1);
}

#[test]
fn a_key_that_travels_in_the_token_is_not_used() {
    let app = App::start();
    let key = Key::new("ES256", "k");
    let evil = Key::new("ES256", "k");
    let toml = issuer("algorithms = [\"ES256\"]\njwks_file = \"keys.json\"")
        .replace("refresh_cooldown = \"1s\"", "");
    let setup = Setup::new(&format!("{toml}\n{}\n{ROUTES}", upstream(&app)));
    setup.write("keys.json", jwks([&key]));
    let gateway = setup.start();
    let spy = Provider::start([&evil]);
    for extra in [
        json!({ "jwk": evil.jwk() }),
        json!({ "jku": spy.jwks_url() }),
        json!({ "x5u": spy.jwks_url() }),
    ] {
        let mut header = evil.header();
        header
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let token = evil.sign(&header.to_string(), &corp_claims("admin").to_string());
        gateway.get_as(&token, "/private/x").expect(401);
    }
    assert_eq!(spy.fetches(), 0);
    assert_eq!(app.count(), 0);
}

#[test]
fn a_key_is_only_used_for_what_it_is_published_for() {
    let app = App::start();
    let for_encryption = Key::new("ES256", "encryption");
    let for_another = Key::new("RS256", "another-algorithm");
    let not_to_verify = Key::new("ES256", "operations");
    let good = Key::new("ES256", "good");
    let secret = Key::secret("HS256", CORP_SECRET);
    let mut set = json!({ "keys": [for_encryption.jwk(), for_another.jwk(), not_to_verify.jwk(), good.jwk(), secret.jwk()] });
    set["keys"][0]["use"] = json!("enc");
    set["keys"][1]["alg"] = json!("RS512");
    set["keys"][2]["key_ops"] = json!(["deriveKey"]);
    set["keys"][2].as_object_mut().unwrap().remove("use");
    set["keys"][4]["kid"] = json!("oct");
    let provider = Provider::start([&good]);
    provider.publish_text(&set.to_string());
    let keys = format!(
        "algorithms = [\"ES256\", \"RS256\"]\njwks_url = \"{}\"",
        provider.jwks_url()
    );
    let gateway = Gateway::start(&format!("{}\n{}\n{ROUTES}", issuer(&keys), upstream(&app)));
    wait_until_accepted(&gateway, &good.token(&corp_claims("alice")));
    for key in [&for_encryption, &for_another, &not_to_verify] {
        let refused = gateway.get_as(&key.token(&corp_claims("admin")), "/private/x");
        assert_eq!(refused.status, 401, "{}", key.kid);
    }
    let header = json!({ "alg": "HS256", "kid": "oct" }).to_string();
    let by_secret = secret.sign(&header, &corp_claims("admin").to_string());
    gateway.get_as(&by_secret, "/private/x").expect(401);
    // The right key by a wrong name.
    let misnamed = good.sign(
        "{\"alg\":\"ES256\",\"kid\":\"encryption\"}",
        &corp_claims("admin").to_string(),
    );
    gateway.get_as(&misnamed, "/private/x").expect(401);
}

#[test]
fn weak_keys_are_refused_when_they_are_loaded() {
    let app = App::start();
    let setup = Setup::new(&before(&app, ROUTES));
    setup.write("corp.secret", "too-short");
    let said = setup.command(["check"]).expect(2).all();
    assert!(!said.contains("too-short"), "the secret was printed:\n{said}");
    assert!(said.contains("gateway.toml:"), "{said}");
}

#[test]
fn a_token_is_as_long_as_the_configuration_allows_and_no_longer() {
    let (app, gateway) = corp();
    let long = corp_token_of(&claims_with(json!({ "groups": ["x".repeat(15_000)] })));
    assert!((20_000..24_000).contains(&long.len()));
    let refused = gateway.get_as(&long, "/private/x").expect(401);
    assert_eq!(gateway.log_of(&refused)["reason"], "token-too-large");
    let bearer = format!("Authorization: Bearer {long}");
    let said = gateway
        .command(["explain", "GET", "/private/x", "-H", bearer.as_str()])
        .expect(3)
        .all();
    assert!(said.contains("`max_token_bytes` is 16384"), "{said}");
    assert_eq!(app.count(), 0);

    let server = "[server]\nlisten = \"127.0.0.1:0\"\nmax_token_bytes = \"24KiB\"\n";
    let gateway = Gateway::before(&app, &format!("{server}{ROUTES}"));
    gateway.get_as(&long, "/private/x").expect(200);
    gateway.get_as(&long, "/private/x").expect(200);
    let longer = corp_token_of(&claims_with(json!({ "groups": ["x".repeat(19_000)] })));
    gateway.get_as(&longer, "/private/x").expect(401);
}

#[test]
fn nesting_without_end_is_refused_and_harms_nobody() {
    let (_app, gateway) = corp();
    let key = Key::corp();
    let deep = format!("{{\"sub\":{}1{}}}", "[".repeat(3000), "]".repeat(3000));
    gateway
        .get_as(&key.sign(&key.header().to_string(), &deep), "/private/x")
        .expect(401);
    gateway
        .get_as(&corp_token("alice", &[]), "/private/x")
        .expect(200);
}

#[test]
fn an_empty_or_odd_authorization_is_refused_rather_than_ignored() {
    let (app, gateway) = corp();
    for value in ["Bearer", "Bearer ", "Bearer  ", "Bearer a b", "Bearer \u{fc}"] {
        for target in ["/private/x", "/optional/x"] {
            let refused = gateway.send(&Request::get(target).header("Authorization", value));
            assert!(
                matches!(refused.status, 400 | 401),
                "{value:?} on {target}: {}",
                refused.status_line
            );
        }
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn two_authorization_headers_are_a_bad_request() {
    let (app, gateway) = corp();
    let token = corp_token("alice", &[]);
    for target in ["/private/x", "/optional/x"] {
        let twice = Request::get(target).bearer(&token).bearer(&token);
        gateway.send(&twice).expect(400);
        let mixed = Request::get(target)
            .bearer(&token)
            .header("AUTHORIZATION", "Basic YTpi");
        let refused = gateway.send(&mixed).expect(400);
        assert_eq!(gateway.log_of(&refused)["reason"], "credential-repeated");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn a_public_route_reads_no_credential_and_names_no_caller() {
    let (app, gateway) = corp();
    gateway.get_as("rubbish", "/public/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), None);
    gateway
        .get_as(&corp_token("alice", &["admin"]), "/public/x")
        .expect(200);
    let request = app.last();
    assert_eq!(request.header("x-auth-user"), None);
    assert_eq!(request.header("x-auth-roles"), None);
    assert!(
        request.header("authorization").is_some(),
        "what was not consumed is the app's"
    );
}

#[test]
fn an_optional_route_is_open_to_nobody_and_names_somebody() {
    let (app, gateway) = corp();
    gateway.get("/optional/x").expect(200);
    assert_eq!(app.last().header("x-auth-user"), None);
    gateway
        .get_as(&corp_token("alice", &["user"]), "/optional/x")
        .expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("alice"));
    assert_eq!(app.last().header("x-auth-roles"), Some("user"));
}

#[test]
fn a_consumed_token_stays_in_the_gateway_unless_the_route_forwards_it() {
    let app = App::start();
    let routes =
        format!("{ROUTES}\n[[routes]]\npath = \"/with/*\"\nforward_credential = true\nupstream = \"app\"\n");
    let gateway = Gateway::before(&app, &routes);
    let token = corp_token("alice", &[]);
    gateway.get_as(&token, "/private/x").expect(200);
    assert!(!app.last().text().contains(&token));
    gateway.get_as(&token, "/with/x").expect(200);
    assert_eq!(
        app.last().header("authorization"),
        Some(format!("Bearer {token}").as_str())
    );
}

// --- what a refused client is told

#[test]
fn without_a_credential_the_answer_says_so_and_nothing_else() {
    let (app, gateway) = corp();
    let refused = gateway.get("/private/x").expect(401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\""), "{challenge}");
    assert!(!challenge.contains("error="), "{challenge}");
    assert!(
        refused
            .header("content-type")
            .unwrap()
            .starts_with("application/problem+json")
    );
    let body = refused.json();
    assert_eq!(body["status"], 401);
    assert_eq!(body["message"], "Unauthorized");
    let mut names: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["detail", "message", "request_id", "status", "title"]);
    let line = gateway.log_of(&refused);
    assert_eq!(line["reason"], "credential-missing");
    assert_eq!(line["status"], 401);
    assert_eq!(app.count(), 0);
}

#[test]
fn clients_are_told_the_same_whatever_is_wrong_with_a_token() {
    let (_app, gateway) = corp();
    let answer = |token: &str| {
        let response = gateway.get_as(token, "/private/x").expect(401);
        let mut body = response.json();
        body["request_id"] = Value::Null;
        (body, response.header("www-authenticate").unwrap().to_owned())
    };
    let expired = answer(&corp_token_of(&claims_with(json!({ "exp": now() - 3600 }))));
    assert_eq!(expired.0["message"], "Invalid token");
    let stranger = Key::secret("HS256", "another-secret-that-is-long-enough-for-hs256");
    assert_eq!(expired, answer(&stranger.token(&corp_claims("alice"))));
    assert_eq!(expired, answer("rubbish"));
}

// --- where a token may be

/// The routes with these sources.
fn with_sources(app: &App, sources: &str) -> Gateway {
    Gateway::before(app, &format!("[credentials]\nsources = [{sources}]\n{ROUTES}"))
}

#[test]
fn a_token_in_a_plain_header_is_taken_and_removed() {
    let app = App::start();
    let gateway = with_sources(&app, "{ header = \"x-token\" }");
    let token = corp_token("alice", &[]);
    gateway
        .send(&Request::get("/private/x").header("X-Token", &token))
        .expect(200);
    let request = app.last();
    assert_eq!(request.header("x-auth-user"), Some("alice"));
    assert!(!request.text().contains(&token));
    gateway
        .send(&Request::get("/private/x").header("X-Token", "rubbish"))
        .expect(401);
    gateway
        .send(&Request::get("/optional/x").header("X-Token", "rubbish"))
        .expect(401);
    gateway
        .send(&Request::get("/private/x").bearer(&token))
        .expect(401);
    let twice = Request::get("/private/x")
        .header("X-Token", &token)
        .header("x-token", &token);
    gateway.send(&twice).expect(400);
}

/// As above: a client's good token must not carry a made-up one of another user to such an app.
#[test]
fn only_the_credential_that_was_verified_is_forwarded() {
    let app = App::start();
    let kept = ["kept", "maybe"].map(|tree| {
        let auth = if tree == "kept" { "required" } else { "optional" };
        format!("[[routes]]\npath = \"/{tree}/*\"\nauth = \"{auth}\"\nforward_credential = true\nupstream = \"app\"\n")
    });
    let sources = "[credentials]\nsources = [{ header = \"authorization\", scheme = \"Bearer\" }, { cookie = \"session\" }, \
                   { query = \"access_token\" }, { header = \"x-token\" }]\n";
    let gateway = Gateway::before(&app, &format!("{sources}{}", kept.concat()));
    let good = corp_token("ann", &[]);
    let forged = corp_token_of(&corp_claims("root")).replace('.', ".e30");
    let ask = |target: &str, cookie: &str| {
        Request::get(target).header("Cookie", &format!("a=1; session={cookie}; b=2"))
    };

    let query = format!("/kept/x?p=1&access_token={forged}&q=2");
    gateway
        .send(&ask(&query, &forged).header("X-Token", &forged).bearer(&good))
        .expect(200);
    let seen = app.last();
    assert!(!seen.text().contains(&forged), "{}", seen.text());
    assert_eq!(seen.target(), "/kept/x?p=1&q=2");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {good}")));

    gateway.send(&ask(&query, &good)).expect(200);
    let seen = app.last();
    assert!(!seen.text().contains(&forged), "{}", seen.text());
    assert!(seen.header("cookie").is_some_and(|cookie| cookie.contains(&good)));

    // Nobody was verified: the cookie is nobody's.
    gateway.send(&ask("/maybe/x", &forged)).expect(200);
    assert_eq!(app.last().header("cookie"), Some("a=1; b=2"));
}

/// An app that is handed the token, and does not verify it once more because the gateway has, must not find another one.
#[test]
fn another_spelling_of_the_credentials_header_reaches_no_app_that_relies_on_it() {
    let app = App::start();
    let kept = "[[routes]]\npath = \"/kept/*\"\nforward_credential = true\nupstream = \"app\"\n";
    let sources = "[credentials]\nsources = [{ header = \"x-token\" }]\n";
    let gateway = Gateway::before(&app, &format!("{sources}{ROUTES}\n{kept}"));
    let good = corp_token("ann", &["user"]);
    for path in ["/private/x", "/optional/x", "/kept/x"] {
        gateway
            .send(
                &Request::get(path)
                    .header("X_Token", "forged")
                    .header("X-Token", &good),
            )
            .expect(200);
        let seen = app.last();
        assert!(
            !String::from_utf8_lossy(&seen.raw_head).contains("forged"),
            "{path}"
        );
        assert_eq!(
            seen.header("x-token"),
            path.starts_with("/kept").then_some(&*good),
            "{path}"
        );
    }
    gateway
        .send(&Request::get("/optional/x").header("x.token", "forged"))
        .expect(200);
    assert!(!String::from_utf8_lossy(&app.last().raw_head).contains("forged"));
}

#[test]
fn a_token_in_the_query_is_removed_before_the_app_and_the_log_see_it() {
    let app = App::start();
    let gateway = with_sources(&app, "{ query = \"access_token\" }");
    let token = corp_token("alice", &[]);
    for (sent, forwarded) in [
        (format!("/private/x?access_token={token}"), "/private/x"),
        (
            format!("/private/x?a=1&access_token={token}&b=%2F&&c"),
            "/private/x?a=1&b=%2F&&c",
        ),
        (format!("/private/x?access_token={token}&b=2"), "/private/x?b=2"),
        (format!("/private/x?a=1&access_token={token}"), "/private/x?a=1"),
        (
            format!("/private/x?xaccess_token=1&access_token={token}"),
            "/private/x?xaccess_token=1",
        ),
    ] {
        gateway.get(&sent).expect(200);
        assert_eq!(app.last().target().trim_end_matches('?'), forwarded, "{sent}");
        assert_eq!(app.last().header("x-auth-user"), Some("alice"));
        assert!(!app.last().text().contains(&token));
    }
    gateway
        .get("/private/x?access_token=rubbish-in-the-query")
        .expect(401);
    let twice = format!("/private/x?access_token={token}&access_token={token}");
    gateway.get(&twice).expect(400);
    gateway.log_line(|line| line["status"] == 400);
    let log = gateway.log_text().join("\n");
    assert!(
        !log.contains(&token) && !log.contains("rubbish-in-the-query"),
        "{log}"
    );
}

#[test]
fn a_token_in_a_cookie_is_taken_and_the_other_cookies_stay() {
    let app = App::start();
    let gateway = with_sources(&app, "{ cookie = \"__session\" }");
    let token = corp_token("alice", &[]);
    let request =
        Request::get("/private/x").header("Cookie", &format!("theme=dark; __session={token}; lang=de"));
    gateway.send(&request).expect(200);
    let seen = app.last();
    assert_eq!(seen.header("x-auth-user"), Some("alice"));
    assert!(!seen.text().contains(&token), "{}", seen.text());
    assert_eq!(seen.header("cookie"), Some("theme=dark; lang=de"));
}

#[test]
fn a_bad_cookie_is_as_none() {
    let app = App::start();
    let gateway = with_sources(&app, "{ cookie = \"__session\" }");
    let expired = corp_token_of(&claims_with(json!({ "exp": now() - 3600 })));
    for value in ["rubbish", "", expired.as_str()] {
        let cookie = format!("__session={value}");
        gateway
            .send(&Request::get("/optional/x").header("Cookie", &cookie))
            .expect(200);
        assert_eq!(app.last().header("x-auth-user"), None);
        gateway
            .send(&Request::get("/private/x").header("Cookie", &cookie))
            .expect(401);
    }
    assert_eq!(app.count(), 3);
}

#[test]
fn two_different_cookies_of_the_credentials_name_are_nobodys() {
    let app = App::start();
    let gateway = with_sources(&app, "{ cookie = \"__session\" }");
    let (alice, bob) = (corp_token("alice", &[]), corp_token("bob", &[]));
    let request = Request::get("/private/x").header("Cookie", &format!("__session={alice}; __session={bob}"));
    let status = gateway.send(&request).status;
    assert!(matches!(status, 400 | 401), "{status}");
    let split = Request::get("/private/x")
        .header("Cookie", &format!("__session={alice}"))
        .header("Cookie", &format!("__session={bob}"));
    let status = gateway.send(&split).status;
    assert!(matches!(status, 400 | 401), "{status}");
    assert_eq!(app.count(), 0);
}

#[test]
fn the_first_source_that_has_a_credential_decides() {
    let app = App::start();
    let gateway = with_sources(
        &app,
        "{ header = \"x-token\" }, { header = \"authorization\", scheme = \"Bearer\" }, { cookie = \"__session\" }",
    );
    let (alice, bob, carol) = (
        corp_token("alice", &[]),
        corp_token("bob", &[]),
        corp_token("carol", &[]),
    );
    let cookie = format!("__session={carol}");
    gateway
        .send(&Request::get("/private/x").bearer(&bob).header("Cookie", &cookie))
        .expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("bob"));
    let all = Request::get("/private/x")
        .header("Cookie", &cookie)
        .bearer(&bob)
        .header("X-Token", &alice);
    gateway.send(&all).expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("alice"));
    // A bad one in front does not fall through to a good one behind.
    let bad = Request::get("/private/x")
        .header("X-Token", "rubbish")
        .bearer(&bob)
        .header("Cookie", &cookie);
    gateway.send(&bad).expect(401);
    gateway
        .send(&Request::get("/private/x").header("Cookie", &cookie))
        .expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("carol"));
}

#[test]
fn a_bad_cookie_does_not_shadow_a_good_source_behind_it() {
    let app = App::start();
    let gateway = with_sources(
        &app,
        "{ cookie = \"__session\" }, { header = \"authorization\", scheme = \"Bearer\" }",
    );
    let request = Request::get("/private/x")
        .header("Cookie", "__session=rubbish")
        .bearer(&corp_token("bob", &[]));
    gateway.send(&request).expect(200);
    assert_eq!(app.last().header("x-auth-user"), Some("bob"));
}

// --- a cookie is sent by the browser whoever asked

#[test]
fn another_site_cannot_use_the_cookie_for_more_than_looking() {
    let app = App::start();
    let gateway = with_sources(&app, "{ cookie = \"__session\" }");
    let cookie = format!("__session={}", corp_token("alice", &[]));
    for (method, fields, status) in [
        ("POST", vec![("Sec-Fetch-Site", "cross-site")], 403),
        ("POST", vec![("Sec-Fetch-Site", "same-site")], 403),
        ("POST", vec![("Sec-Fetch-Site", "same-origin")], 200),
        ("PUT", vec![("Sec-Fetch-Site", "cross-site")], 403),
        ("DELETE", vec![("Sec-Fetch-Site", "cross-site")], 403),
        ("PATCH", vec![("Origin", "https://evil.example")], 403),
        ("POST", vec![("Origin", "https://evil.example")], 403),
        ("POST", vec![("Origin", "null")], 403),
        ("POST", vec![("Origin", "http://app.test.evil.example")], 403),
        ("POST", vec![("Origin", "http://app.test")], 200),
        (
            "POST",
            vec![("Sec-Fetch-Site", "cross-site"), ("Origin", "http://app.test")],
            403,
        ),
        (
            "POST",
            vec![("Sec-Fetch-Site", "rubbish"), ("Origin", "https://evil.example")],
            403,
        ),
        ("GET", vec![("Sec-Fetch-Site", "cross-site")], 200),
        ("HEAD", vec![("Sec-Fetch-Site", "cross-site")], 200),
        ("GET", vec![("Origin", "https://evil.example")], 200),
    ] {
        let mut request = Request::new(method, "/private/x").header("Cookie", &cookie);
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        if method != "GET" && method != "HEAD" {
            request = request.header("Content-Length", "0");
        }
        let before = app.count();
        let response = gateway.send(&request);
        assert_eq!(response.status, status, "{method} {fields:?}");
        assert_eq!(
            app.count() - before,
            usize::from(status == 200),
            "{method} {fields:?}"
        );
        if status == 403 {
            assert_eq!(gateway.log_of(&response)["reason"], "cross-site");
        }
    }
}

#[test]
fn another_site_cannot_open_a_websocket_with_the_cookie() {
    let app = App::start();
    let gateway = with_sources(&app, "{ cookie = \"__session\" }");
    let handshake = Request::get("/private/x")
        .header("Cookie", &format!("__session={}", corp_token("alice", &[])))
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    gateway
        .send(&handshake.clone().header("Origin", "https://evil.example"))
        .expect(403);
    gateway
        .send(&handshake.clone().header("Sec-Fetch-Site", "cross-site"))
        .expect(403);
    assert_eq!(app.count(), 0);
    gateway
        .send(&handshake.header("Origin", "http://app.test"))
        .expect(200);
}

#[test]
fn a_token_that_no_browser_sends_by_itself_may_come_from_anywhere() {
    let (_app, gateway) = corp();
    let request = Request::post("/private/x", "x")
        .bearer(&corp_token("alice", &[]))
        .header("Origin", "https://elsewhere.example")
        .header("Sec-Fetch-Site", "cross-site");
    gateway.send(&request).expect(200);
}

// --- several issuers

#[test]
fn a_key_of_one_issuer_signs_nothing_for_another_though_the_kids_are_equal() {
    let app = App::start();
    let (ours, theirs) = (Key::new("ES256", "1"), Key::new("ES256", "1"));
    let table = |name: &str| {
        format!(
            "[issuers.{name}]\nissuer = \"https://{name}.example\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\n\
             jwks_file = \"{name}.json\"\n"
        )
    };
    let setup = Setup::new(&format!(
        "{}{}{}{ROUTES}",
        table("ours"),
        table("theirs"),
        upstream(&app)
    ));
    setup
        .write("ours.json", jwks([&ours]))
        .write("theirs.json", jwks([&theirs]));
    let gateway = setup.start();
    let claims = |issuer: &str| claims_with(json!({ "iss": format!("https://{issuer}.example") }));
    for (key, issuer, status) in [
        (&ours, "ours", 200),
        (&theirs, "theirs", 200),
        (&theirs, "ours", 401),
        (&ours, "theirs", 401),
    ] {
        assert_eq!(
            gateway.get_as(&key.token(&claims(issuer)), "/private/x").status,
            status,
            "{issuer}"
        );
        if status == 200 {
            assert_eq!(app.last().header("x-auth-issuer"), Some(issuer));
        }
    }
}

#[test]
fn a_rule_of_one_issuer_does_not_widen_another() {
    let app = App::start();
    let key = Key::new("ES256", "k");
    let second = "[issuers.second]\nissuer = \"https://second.example\"\naudiences = [\"second\"]\n\
                  algorithms = [\"ES256\"]\njwks_file = \"second.json\"\n";
    let setup = Setup::new(&format!("{second}{}", before(&app, ROUTES)));
    setup.write("second.json", jwks([&key]));
    let gateway = setup.start();
    let of = |audience: &str| claims_with(json!({ "iss": "https://second.example", "aud": audience }));
    gateway
        .get_as(&key.token(&of("second")), "/private/x")
        .expect(200);
    gateway.get_as(&key.token(&of("api")), "/private/x").expect(401);
    // The other issuer's algorithm and secret with this issuer's name.
    gateway
        .get_as(&Key::corp().token(&of("second")), "/private/x")
        .expect(401);
    gateway
        .get_as(&corp_token("alice", &[]), "/private/x")
        .expect(200);
}

// --- whom a token is about

/// The gateway of most tests with another line in the table of its issuer.
fn corp_with(app: &App, line: &str) -> Gateway {
    let toml = before(app, ROUTES);
    let toml = match line.split_once(" = ") {
        Some((key, _)) if toml.contains(&format!("\n{key} = ")) => {
            let lines = toml.lines().map(|old| {
                if old.starts_with(&format!("{key} = ")) {
                    line
                } else {
                    old
                }
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        _ => toml.replacen("audiences =", &format!("{line}\naudiences ="), 1),
    };
    Gateway::start(&toml)
}

#[test]
fn a_machine_without_a_subject_is_named_by_its_kind_also_where_it_is_revoked() {
    let app = App::start();
    let gateway = corp_with(&app, "subject_claim = [\"sub\", \"client_id\"]");
    let machine = corp_token_of(&claims_with(json!({ "sub": null, "client_id": "worker" })));
    let person = corp_token_of(&claims_with(json!({ "client_id": "worker" })));
    for (token, expected) in [(&machine, "client_id:worker"), (&person, "alice")] {
        gateway.get_as(token, "/private/x").expect(200);
        assert_eq!(app.last().header("x-auth-user"), Some(expected));
        assert_eq!(
            gateway.log_line(|line| line["subject"] == expected)["status"],
            200
        );
    }
    let liar = corp_token_of(&claims_with(json!({ "sub": "client_id:worker" })));
    let refused = gateway.get_as(&liar, "/private/x").expect(401);
    assert_eq!(gateway.log_of(&refused)["reason"], "subject-malformed");
    let said = gateway
        .command_with_input(["token", "inspect", "-"], &machine)
        .expect(0)
        .all();
    assert!(said.contains("`client_id:worker`"), "{said}");
    let bearer = format!("Authorization: Bearer {machine}");
    let said = gateway
        .command(["explain", "GET", "/private/x", "-H", bearer.as_str()])
        .expect(0)
        .all();
    assert!(said.contains("client_id:worker"), "{said}");
    gateway
        .command(["revoke", "--issuer", "corp", "--subject", "worker"])
        .expect(0);
    gateway
        .command(["revoke", "--issuer", "corp", "--subject", "client_id:worker"])
        .expect(0);
    eventually("the machine is refused", || {
        gateway.get_as(&machine, "/private/x").status == 401
    });
    gateway.get_as(&person, "/private/x").expect(200);
}

#[test]
fn roles_of_a_client_whose_name_has_a_dot_and_roles_in_the_names_of_an_object_reach_the_app() {
    let app = App::start();
    let line =
        "roles_claims = ['resource_access.\"my.client\".roles', \"urn:zitadel:iam:org:project:roles\"]";
    let gateway = corp_with(&app, line);
    let claims = claims_with(json!({
        "resource_access": { "my.client": { "roles": ["a"] }, "my": { "client": { "roles": ["wrong"] } } },
        "urn:zitadel:iam:org:project:roles": { "b": { "1": "x.example" } },
    }));
    gateway.get_as(&corp_token_of(&claims), "/private/x").expect(200);
    assert_eq!(app.last().header("x-auth-roles"), Some("a,b"));
}

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER_TENANT: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

#[test]
fn an_issuer_of_many_tenants_is_bound_to_the_tenant_of_each_token() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    let mut jwk = key.jwk();
    jwk["issuer"] = json!(format!("{}/{{tenantid}}/v2.0", provider.issuer()));
    provider.publish_text(&json!({ "keys": [jwk] }).to_string());
    let toml = format!(
        "[issuers.entra]\nissuer = \"{}/{{tid}}/v2.0\"\ntenants = [\"{TENANT}\", \"{OTHER_TENANT}\"]\naudiences = [\"api\"]\n\
         algorithms = [\"ES256\"]\ndiscovery = true\nsubject_claim = \"oid\"\n{}{ROUTES}",
        provider.issuer(),
        upstream(&app)
    );
    let gateway = Gateway::start(&toml);
    let token = |tenant: &str, changes: Value| {
        let mut claims = claims_with(
            json!({ "iss": format!("{}/{tenant}/v2.0", provider.issuer()), "tid": tenant,
            "oid": "o1", "email": "alice@example.com" }),
        );
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        key.token(&claims)
    };
    wait_until_accepted(&gateway, &token(TENANT, json!({})));
    assert_eq!(
        provider.fetches_of("/organizations/v2.0/.well-known/openid-configuration"),
        1
    );
    for tenant in [TENANT, OTHER_TENANT] {
        gateway
            .get_as(&token(tenant, json!({})), "/private/x")
            .expect(200);
        assert_eq!(
            app.last().header("x-auth-user"),
            Some(format!("{tenant}:o1").as_str())
        );
        assert_eq!(
            app.last().header("x-auth-email"),
            None,
            "the tenant says what it likes"
        );
        gateway
            .get_as(&token(tenant, json!({ "xms_edov": true })), "/private/x")
            .expect(200);
        assert_eq!(app.last().header("x-auth-email"), Some("alice@example.com"));
    }
    let stranger = "11111111-1111-1111-1111-111111111111";
    for bad in [
        token(stranger, json!({})),
        token(TENANT, json!({ "tid": OTHER_TENANT })),
        token(TENANT, json!({ "tid": null })),
        token("organizations", json!({ "tid": TENANT })),
        token("{tid}", json!({ "tid": "{tid}" })),
    ] {
        gateway.get_as(&bad, "/private/x").expect(401);
    }
}

// --- keys behind a token or a proxy

#[test]
fn a_token_goes_to_the_server_of_the_keys_and_to_no_other_and_is_read_again() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let (provider, elsewhere) = (Provider::start([&key]), Provider::start([&key]));
    provider.require_token("first.token");
    let toml = format!(
        "[issuers.corp]\nissuer = \"{}\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\ndiscovery = true\n\
         jwks_token = {{ file = \"token\" }}\nrefresh_cooldown = \"1s\"\n{}{ROUTES}",
        provider.issuer(),
        upstream(&app)
    );
    let setup = Setup::new(&toml);
    setup.write("token", "first.token\n");
    let token_file = setup.path("token");
    let gateway = setup.start();
    let claims = claims_with(json!({ "iss": provider.issuer() }));
    wait_until_accepted(&gateway, &key.token(&claims));
    assert!(
        provider
            .requests()
            .iter()
            .all(|request| request.header("authorization") == Some("Bearer first.token"))
    );

    // Another token, and keys that discovery says are elsewhere.
    let next = Key::new("ES256", "2");
    elsewhere.publish([&next]);
    provider.require_token("second.token");
    provider.move_keys(&elsewhere.jwks_url());
    std::fs::write(token_file, "second.token\r\n").unwrap();
    wait_until_accepted(&gateway, &next.token(&claims));
    assert!(elsewhere.fetches() >= 1);
    assert!(
        elsewhere
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    let told = [gateway.diagnostics().join("\n"), gateway.log_text().join("\n")].concat();
    assert!(
        !told.contains("first.token") && !told.contains("second.token"),
        "{told}"
    );
}

/// An issuer whose keys are at `id.example.test`, which no resolver knows.
fn far_away(app: &App, server: &str) -> String {
    format!(
        "[issuers.corp]\nissuer = \"{CORP}\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\n\
         jwks_url = \"https://id.example.test:8443/jwks\"\nca_file = \"ca.pem\"\nrefresh_cooldown = \"1s\"\n\
         [server]\nlisten = \"127.0.0.1:0\"\n{server}\n{}{ROUTES}",
        upstream(app)
    )
}

#[test]
fn keys_are_fetched_through_a_proxy_that_sees_a_name_and_nothing_else() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let certificate = tls::Certificate::for_names(&["id.example.test"]);
    let provider = Provider::start_tls(&certificate, [&key]);
    let proxy = EgressProxy::to(provider.address());
    let url = proxy.url().replace("://", "://ann@");
    let server = format!("egress_proxy = {{ url = \"{url}\", password = {{ file = \"password\" }} }}");
    let setup = Setup::new(&far_away(&app, &server));
    setup.write("ca.pem", &certificate.chain_pem);
    setup.write("password", "s3cret\n");
    let gateway = setup.start();
    wait_until_accepted(&gateway, &key.token(&corp_claims("alice")));
    let heads = proxy.heads();
    let expected = format!(
        "Proxy-Authorization: Basic {}\r\n",
        base64url("ann:s3cret").replace('-', "+")
    );
    assert!(
        heads[0].starts_with("CONNECT id.example.test:8443 HTTP/1.1\r\nHost: id.example.test:8443\r\n"),
        "{heads:?}"
    );
    assert!(heads[0].contains(expected.trim_end_matches("\r\n")), "{heads:?}");
    assert!(
        provider
            .requests()
            .iter()
            .all(|request| !request.text().contains("Proxy-Authorization"))
    );
    // Requests to apps never go there.
    assert!(
        proxy
            .heads()
            .iter()
            .all(|head| head.starts_with("CONNECT id.example.test"))
    );
}

#[test]
fn a_proxy_that_answers_oddly_or_as_the_server_itself_gives_no_keys() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let trusted = tls::Certificate::for_names(&["id.example.test"]);
    let imposter = Provider::start_tls(&tls::Certificate::for_names(&["id.example.test"]), [&key]);
    let body = jwks([&key]);
    let cases: [(EgressProxy, &str); 6] = [
        (EgressProxy::to(imposter.address()), "no TLS with"),
        (
            EgressProxy::answering(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )),
            "sent more than an answer",
        ),
        (
            EgressProxy::answering("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
            "407",
        ),
        (
            EgressProxy::answering("HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"),
            "answered 302",
        ),
        (
            EgressProxy::answering("SSH-2.0-x\r\n\r\n"),
            "does not answer in HTTP",
        ),
        (
            EgressProxy::answering(format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(10_000))),
            "more than 16384 bytes",
        ),
    ];
    for (proxy, expected) in cases {
        let setup = Setup::new(&far_away(&app, &format!("egress_proxy = \"{}\"", proxy.url())));
        setup.write("ca.pem", &trusted.chain_pem);
        let gateway = setup.start();
        gateway.diagnostic(expected);
        gateway
            .get_as(&key.token(&corp_claims("alice")), "/private/x")
            .expect(503);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn one_broken_entry_of_a_key_set_is_said_and_harms_no_other() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    provider.publish_text(&format!(
        r#"{{"keys": [7, {{"kty":"EC","kty":"EC"}}, {}]}}"#,
        key.jwk()
    ));
    let gateway = Gateway::start(&fetching(&provider, &app));
    wait_until_accepted(&gateway, &key.token(&corp_claims("alice")));
    let ready = gateway.admin_get("/ready").expect(200).text();
    assert!(
        ready.starts_with("ready\n") && ready.contains("keys of `corp` are left out: entry 1 of `keys`"),
        "{ready}"
    );
    gateway.diagnostic("entry 2 of `keys`: a name stands twice in it");
}

// --- keys that come by HTTP

#[test]
fn keys_are_found_by_discovery() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    let toml = format!(
        "[issuers.corp]\nissuer = \"{}\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\ndiscovery = true\n{}{ROUTES}",
        provider.issuer(),
        upstream(&app)
    );
    let gateway = Gateway::start(&toml);
    let claims = claims_with(json!({ "iss": provider.issuer() }));
    wait_until_accepted(&gateway, &key.token(&claims));
    assert!(provider.fetches_of("/.well-known/openid-configuration") >= 1);
}

#[test]
fn discovery_that_names_another_issuer_gives_no_keys() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    provider.fail(Fault::WrongIssuer);
    let toml = format!(
        "[issuers.corp]\nissuer = \"{}\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\ndiscovery = true\n{}{ROUTES}",
        provider.issuer(),
        upstream(&app)
    );
    let gateway = Gateway::start(&toml);
    eventually("discovery is tried", || {
        provider.fetches_of("/.well-known/openid-configuration") >= 1
    });
    let claims = claims_with(json!({ "iss": provider.issuer() }));
    gateway.get_as(&key.token(&claims), "/private/x").expect(503);
    assert_eq!(app.count(), 0);
}

#[test]
fn a_rotated_key_is_followed_and_the_withdrawn_one_ends() {
    let app = App::start();
    let (old, new) = (Key::new("ES256", "old"), Key::new("ES256", "new"));
    let provider = Provider::start([&old]);
    let gateway = Gateway::start(&fetching(&provider, &app));
    let (by_old, by_new) = (old.token(&corp_claims("alice")), new.token(&corp_claims("bob")));
    wait_until_accepted(&gateway, &by_old);
    gateway.get_as(&by_new, "/private/x").expect(401);
    provider.publish([&old, &new]);
    wait_until_accepted(&gateway, &by_new);
    gateway.get_as(&by_old, "/private/x").expect(200);
    provider.publish([&new]);
    let unknown = Key::new("ES256", "unknown").token(&corp_claims("alice"));
    eventually("the withdrawn key is refused", || {
        // Somebody's unknown `kid` is what makes the gateway look again.
        gateway.get_as(&unknown, "/private/x");
        gateway.get_as(&by_old, "/private/x").status == 401
    });
    gateway.get_as(&by_new, "/private/x").expect(200);
}

#[test]
fn fifty_unknown_keys_at_once_cause_one_fetch_at_most() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    let toml = fetching(&provider, &app).replace("refresh_cooldown = \"1s\"", "refresh_cooldown = \"10m\"");
    let gateway = Gateway::start(&toml);
    wait_until_accepted(&gateway, &key.token(&corp_claims("alice")));
    let before = provider.fetches();
    std::thread::scope(|scope| {
        for number in 0..50 {
            let gateway = &gateway;
            scope.spawn(move || {
                let token = Key::new("ES256", &format!("unknown-{number}")).token(&corp_claims("mallory"));
                gateway.get_as(&token, "/private/x").expect(401);
            });
        }
    });
    gateway
        .get_as(&key.token(&corp_claims("alice")), "/private/x")
        .expect(200);
    let fetches = provider.fetches() - before;
    assert!(fetches <= 1, "{fetches} fetches");
    assert!(
        app.requests()
            .iter()
            .all(|request| request.header("x-auth-user") == Some("alice"))
    );
}

#[test]
fn while_the_keys_were_never_had_nobody_is_let_in_whatever_the_issuer_answers() {
    let gate = std::sync::Arc::new(Gate::default());
    for fault in [
        Fault::Error,
        Fault::Redirect,
        Fault::Garbage,
        Fault::WrongDocument,
        Fault::Oversized,
        Fault::Closed,
        Fault::Hang(gate.clone()),
    ] {
        let app = App::start();
        let key = Key::new("ES256", "1");
        let provider = Provider::start([&key]);
        provider.fail(fault);
        let gateway = Gateway::start(&fetching(&provider, &app));
        eventually("the keys are asked for", || provider.fetches() >= 1);
        let token = key.token(&corp_claims("alice"));
        let refused = gateway.get_as(&token, "/private/x").expect(503);
        assert_eq!(gateway.log_of(&refused)["reason"], "keys-unavailable");
        gateway.get_as(&token, "/optional/x").expect(503);
        gateway.get("/public/x").expect(200);
        gateway.get("/private/x").expect(401);
        assert_eq!(provider.fetches_of("/moved"), 0, "redirects are not followed");
        assert_eq!(app.count(), 1);
    }
    gate.open();
}

#[test]
fn an_issuer_that_comes_back_is_used_without_a_restart() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    provider.fail(Fault::Error);
    let gateway = Gateway::start(&fetching(&provider, &app));
    eventually("the keys are asked for", || provider.fetches() >= 1);
    let token = key.token(&corp_claims("alice"));
    gateway.get_as(&token, "/private/x").expect(503);
    provider.fail(Fault::None);
    wait_until_accepted(&gateway, &token);
}

#[test]
fn an_issuer_that_fails_later_shuts_nobody_out_whose_key_is_known() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    let gateway = Gateway::start(&fetching(&provider, &app));
    wait_until_accepted(&gateway, &key.token(&corp_claims("alice")));
    for fault in [Fault::Error, Fault::Garbage, Fault::WrongDocument, Fault::Closed] {
        provider.fail(fault);
        let before = provider.fetches();
        let unknown = Key::new("ES256", "unknown").token(&corp_claims("mallory"));
        eventually("the gateway looks for the unknown key", || {
            assert_ne!(gateway.get_as(&unknown, "/private/x").status, 200);
            provider.fetches() > before
        });
        gateway
            .get_as(&key.token(&corp_claims("bob")), "/private/x")
            .expect(200);
    }
}

#[test]
fn the_last_good_keys_outlive_a_restart_while_the_issuer_is_down() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([&key]);
    let gateway = Gateway::start(&fetching(&provider, &app));
    wait_until_accepted(&gateway, &key.token(&corp_claims("alice")));
    provider.fail(Fault::Error);
    let gateway = gateway.restart();
    wait_until_accepted(&gateway, &key.token(&corp_claims("bob")));
    let stranger = Key::new("ES256", "1").token(&corp_claims("mallory"));
    gateway.get_as(&stranger, "/private/x").expect(401);
}

#[test]
fn an_empty_key_set_lets_nobody_in() {
    let app = App::start();
    let key = Key::new("ES256", "1");
    let provider = Provider::start([]);
    let gateway = Gateway::start(&fetching(&provider, &app));
    eventually("the keys are asked for", || provider.fetches() >= 1);
    let status = gateway
        .get_as(&key.token(&corp_claims("alice")), "/private/x")
        .status;
    assert!(matches!(status, 401 | 503), "{status}");
    assert_eq!(app.count(), 0);
}

// --- revocation

fn identified(subject: &str, token_id: &str) -> Value {
    let mut claims = corp_claims(subject);
    claims["jti"] = json!(token_id);
    claims
}

#[test]
fn a_revoked_token_ends_at_once_though_it_was_cached_and_stays_ended_after_a_restart() {
    let (_app, gateway) = corp();
    let revoked = corp_token_of(&identified("alice", "one"));
    let other = corp_token_of(&identified("alice", "two"));
    for _ in 0..3 {
        gateway.get_as(&revoked, "/private/x").expect(200);
    }
    gateway
        .command(["revoke", "--issuer", "corp", "--token-id", "one"])
        .expect(0);
    eventually("the token is refused", || {
        gateway.get_as(&revoked, "/private/x").status == 401
    });
    let refused = gateway.get_as(&revoked, "/optional/x").expect(401);
    assert_eq!(gateway.log_of(&refused)["reason"], "revoked");
    gateway.get_as(&other, "/private/x").expect(200);
    // Another token with the same id is as good as the same token.
    let mut again = identified("alice", "one");
    again["exp"] = json!(now() + 900);
    gateway.get_as(&corp_token_of(&again), "/private/x").expect(401);
    let gateway = gateway.restart();
    gateway.get_as(&revoked, "/private/x").expect(401);
    gateway.get_as(&other, "/private/x").expect(200);
}

#[test]
fn a_revocation_holds_whatever_the_file_calls_the_issuer_later() {
    let app = App::start();
    let gateway = Gateway::before(&app, ROUTES);
    let (one, two) = (
        corp_token_of(&identified("alice", "one")),
        corp_token_of(&identified("bob", "two")),
    );
    gateway
        .command(["revoke", "--issuer", "corp", "--token-id", "one"])
        .expect(0);
    gateway
        .command(["revoke", "--issuer", "corp", "--subject", "bob"])
        .expect(0);
    eventually("both are refused", || {
        [&one, &two]
            .iter()
            .all(|token| gateway.get_as(token, "/private/x").status == 401)
    });
    gateway
        .setup
        .rewrite(&gateway::before(&app, ROUTES).replace("[issuers.corp]", "[issuers.renamed]"));
    gateway.signal("HUP");
    gateway.diagnostic("configuration read again");
    let other = corp_token_of(&identified("carol", "three"));
    eventually("the new name holds", || {
        gateway.get_as(&other, "/private/x").expect(200);
        app.last().header("x-auth-issuer") == Some("renamed")
    });
    for token in [&one, &two] {
        gateway.get_as(token, "/private/x").expect(401);
    }
}

#[test]
fn revoking_a_subject_ends_everything_issued_before_and_nothing_after() {
    let (_app, gateway) = corp();
    let old = corp_token_of(&claims_with(json!({ "iat": now() - 60 })));
    let undated = corp_token_of(&claims_with(json!({ "iat": null })));
    let other = corp_token("bob", &[]);
    gateway.get_as(&old, "/private/x").expect(200);
    gateway.get_as(&other, "/private/x").expect(200);
    gateway
        .command(["revoke", "--issuer", "corp", "--subject", "alice"])
        .expect(0);
    eventually("the token is refused", || {
        gateway.get_as(&old, "/private/x").status == 401
    });
    gateway.get_as(&undated, "/private/x").expect(401);
    gateway.get_as(&other, "/private/x").expect(200);
    let new = corp_token_of(&claims_with(json!({ "iat": now() + 10 })));
    gateway.get_as(&new, "/private/x").expect(200);
    let gateway = gateway.restart();
    gateway.get_as(&old, "/private/x").expect(401);
    gateway.get_as(&new, "/private/x").expect(200);
}

#[test]
fn a_revocation_is_of_one_issuer() {
    let app = App::start();
    let key = Key::new("ES256", "k");
    let second = "[issuers.second]\nissuer = \"https://second.example\"\naudiences = [\"api\"]\n\
                  algorithms = [\"ES256\"]\njwks_file = \"second.json\"\n";
    let setup = Setup::new(&format!("{second}{}", before(&app, ROUTES)));
    setup.write("second.json", jwks([&key]));
    let gateway = setup.start();
    let ours = corp_token_of(&identified("alice", "one"));
    let mut claims = identified("alice", "one");
    claims["iss"] = json!("https://second.example");
    let theirs = key.token(&claims);
    gateway
        .command(["revoke", "--issuer", "corp", "--token-id", "one"])
        .expect(0);
    eventually("the token is refused", || {
        gateway.get_as(&ours, "/private/x").status == 401
    });
    gateway.get_as(&theirs, "/private/x").expect(200);
}

#[test]
fn a_revocation_for_an_issuer_that_is_not_configured_is_a_usage_error() {
    let (_app, gateway) = corp();
    let said = gateway
        .command(["revoke", "--issuer", "cropp", "--subject", "alice"])
        .expect(2)
        .all();
    assert!(said.contains("cropp"), "{said}");
}

// --- the cache

#[test]
fn a_cached_token_is_refused_when_it_expires() {
    let app = App::start();
    let gateway =
        Gateway::start(&before(&app, ROUTES).replace("audiences =", "leeway = \"0s\"\naudiences ="));
    let token = corp_token_of(&claims_with(json!({ "exp": now() + 3 })));
    gateway.get_as(&token, "/private/x").expect(200);
    eventually("the token has expired", || {
        gateway.get_as(&token, "/private/x").status == 401
    });
    assert!(now() >= payload(&token)["exp"].as_i64().unwrap());
    assert_eq!(header(&token)["alg"], "HS256");
}

#[test]
fn one_connection_may_carry_many_callers() {
    let app = App::saying(|request| request.header("x-auth-user").unwrap_or("nobody").to_owned());
    let gateway = Gateway::before(&app, ROUTES);
    let mut client = gateway.connect();
    for round in 0..3 {
        for name in ["alice", "bob", "carol"] {
            let response = Request::get("/optional/x")
                .bearer(&corp_token(name, &[]))
                .over(&mut client);
            assert_eq!(response.expect(200).text(), name, "round {round}");
            assert_eq!(
                Request::get("/optional/x").over(&mut client).expect(200).text(),
                "nobody"
            );
        }
    }
}

#[test]
fn a_gateway_for_tokens_alone_has_error_pages_in_the_one_design_with_an_icon() {
    let app = App::start();
    let gateway = Gateway::before(&app, &format!("[pages]\nname = \"Reports & Co\"\n{ROUTES}"));
    let browse = |target: &str| {
        let request = Request::get(target)
            .header("Accept", "text/html,application/xhtml+xml")
            .header("Sec-Fetch-Mode", "navigate")
            .header("Sec-Fetch-Dest", "document");
        gateway.send(&request)
    };
    // Whoever has no token is refused: there is no page to sign in.
    let refused = browse("/private/x").expect(401);
    let html = refused.text();
    assert!(
        html.contains("Reports &amp; Co") && html.contains("<main class=\"card\">"),
        "{html}"
    );
    assert!(
        refused
            .header("content-security-policy")
            .unwrap()
            .contains("img-src 'self'")
    );
    assert!(!html.contains("/auth/login"), "{html}");
    let icon = html
        .split_once("<link rel=\"icon\" href=\"")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let icon = gateway.get(icon).expect(200);
    assert_eq!(icon.header("content-type"), Some("image/svg+xml"));
    assert!(icon.text().starts_with("<svg "));
    // A program gets the problem document, and there is nothing else below the prefix.
    assert_eq!(
        gateway.get("/private/x").expect(401).json()["message"],
        "Unauthorized"
    );
    for nothing in ["/auth", "/auth/", "/auth/login", "/auth/logout", "/auth/logo"] {
        gateway.get(nothing).expect(404);
    }
}
