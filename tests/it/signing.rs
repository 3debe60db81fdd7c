//! The gateway's own tokens: the algorithms that they are signed with, and how an app finds out how to verify them.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::support::people::*;
use crate::support::tokens::{self, base64url, header, is_signed_by, unbase64url};
use crate::support::*;
use serde_json::{Value, json};

const ALICE: &str = "alice@example.com";
const JWKS: &str = "/.well-known/jwks.json";
const DISCOVERY: &str = "/.well-known/openid-configuration";

fn with(algorithm: &str) -> String {
    format!("[signing]\nalgorithm = \"{algorithm}\"\n[identity]\nassertion = true\n")
}

fn jwks(gateway: &Gateway) -> Value {
    gateway.get(JWKS).expect(200).json()
}

fn members(jwks: &Value, name: &str) -> Vec<String> {
    let member = |key: &Value| key[name].as_str().unwrap_or_default().to_owned();
    jwks["keys"].as_array().unwrap().iter().map(member).collect()
}

/// A session cookie, an access token and an assertion of one user.
fn three(gateway: &Gateway, app: &App) -> [String; 3] {
    let cookie = gateway.sign_in(ALICE);
    let access = gateway.sign_in_client(ALICE)["accessToken"]
        .as_str()
        .unwrap()
        .to_owned();
    gateway.get_with(&cookie, "/x").expect(200);
    let assertion = app.last().header("x-auth-assertion").unwrap().to_owned();
    [cookie.split_once('=').unwrap().1.to_owned(), access, assertion]
}

#[test]
fn each_algorithm_signs_session_access_token_and_assertion() {
    for (algorithm, kty, crv) in [
        ("ES256", "EC", "P-256"),
        ("RS256", "RSA", ""),
        ("EdDSA", "OKP", "Ed25519"),
    ] {
        let app = App::start();
        let setup = sign_in_setup(&app, &with(algorithm));
        setup.add_account(ALICE, &["user"]);
        let gateway = setup.start();
        let published = jwks(&gateway);
        let expected = [("alg", algorithm), ("kty", kty), ("crv", crv), ("use", "sig")];
        for (name, expected) in expected {
            assert_eq!(members(&published, name), [expected], "{published}");
        }
        for token in three(&gateway, &app) {
            assert_eq!(header(&token)["alg"], algorithm);
            assert!(is_signed_by(&token, &published), "{token} by none of {published}");
        }
        let access = gateway.sign_in_client(ALICE)["accessToken"]
            .as_str()
            .unwrap()
            .to_owned();
        let known = Request::get("/x").host("localhost").bearer(&access);
        gateway.send(&known).expect(200);
    }
}

#[test]
fn new_state_without_the_table_signs_by_es256() {
    let setup = Setup::new("");
    let token = setup.succeed(["token", "mint", "--subject", "u"]);
    assert_eq!(header(token.trim())["alg"], "ES256");
    let listed = setup.command(["key", "list"]).expect(0).stdout;
    assert!(listed.contains("ES256"), "{listed}");
}

#[test]
fn existing_key_stays_until_it_is_rotated_and_sessions_survive() {
    let app = App::start();
    let setup = sign_in_setup(&app, &with("EdDSA"));
    setup.add_account(ALICE, &["user"]);
    let mut gateway = setup.start();
    let cookie = gateway.sign_in(ALICE);
    // As after an upgrade: the file has no `[signing]`, so that the default is another algorithm.
    gateway.setup.rewrite(
        &std::fs::read_to_string(gateway.setup.path("gateway.toml"))
            .unwrap()
            .replacen("[signing]\nalgorithm = \"EdDSA\"\n", "", 1),
    );
    gateway = gateway.restart();
    gateway.diagnostic("`passgate key rotate` makes a key for ES256");
    assert_eq!(members(&jwks(&gateway), "alg"), ["EdDSA"]);
    gateway.get_with(&cookie, "/x").expect(200);
    assert_eq!(header(&three(&gateway, &app)[1])["alg"], "EdDSA");

    gateway.command(["key", "rotate"]).expect(0);
    eventually("the new key signs", || {
        header(&three(&gateway, &app)[1])["alg"] == "ES256"
    });
    let published = jwks(&gateway);
    assert_eq!(members(&published, "alg"), ["ES256", "EdDSA"]);
    assert_eq!(members(&published, "crv"), ["P-256", "Ed25519"]);
    gateway.get_with(&cookie, "/x").expect(200);

    let rotated = ["key", "rotate", "--algorithm", "RS256", "--format", "json"];
    let keys = gateway.command(rotated).expect(0).json();
    let algorithms: Vec<_> = keys
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["algorithm"])
        .collect();
    assert_eq!(algorithms, ["RS256", "ES256", "EdDSA"]);
    eventually("the third key signs", || {
        header(&three(&gateway, &app)[0])["alg"] == "RS256"
    });
    let [session, ..] = three(&gateway, &app);
    assert!(is_signed_by(&session, &jwks(&gateway)));
    gateway.get_with(&cookie, "/x").expect(200);
    gateway = gateway.restart();
    gateway.get_with(&cookie, "/x").expect(200);
    assert_eq!(members(&jwks(&gateway), "alg"), ["RS256", "ES256", "EdDSA"]);
}

#[test]
fn token_that_names_another_algorithm_than_its_key_is_refused() {
    let app = App::start();
    let setup = sign_in_setup(&app, &with("ES256"));
    setup.add_account(ALICE, &["user"]);
    let gateway = setup.start();
    gateway
        .command(["key", "rotate", "--algorithm", "RS256"])
        .expect(0);
    eventually("both keys are published", || {
        members(&jwks(&gateway), "alg") == ["RS256", "ES256"]
    });
    let token = gateway.sign_in_client(ALICE)["accessToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let ask = |token: &str| gateway.send(&Request::get("/x").host("localhost").bearer(token));
    ask(&token).expect(200);
    let kids = members(&jwks(&gateway), "kid");
    let (_, rest) = token.split_once('.').unwrap();
    for algorithm in ["ES256", "EdDSA", "RS384", "PS256", "HS256", "none"] {
        for kid in &kids {
            let head = json!({"alg": algorithm, "typ": "at+jwt", "kid": kid}).to_string();
            ask(&format!("{}.{rest}", base64url(head))).expect(401);
        }
    }
    // The public key of RS256 as the secret of HS256.
    let modulus = members(&jwks(&gateway), "n").remove(0);
    let mut confused = tokens::Key::secret("HS256", unbase64url(&modulus));
    confused.kid = kids[0].clone();
    ask(&confused.token(&claims(&token))).expect(401);
}

#[test]
fn unknown_algorithm_is_an_error_that_lists_those_there_are() {
    let setup = Setup::new("[signing]\nalgorithm = \"ES512\"\n");
    let said = setup.command(["check"]).expect(2).all();
    for part in ["`ES512`", "`ES256`, `RS256`, `EdDSA`", "gateway.toml:2"] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    let setup = Setup::new("");
    let said = setup
        .command(["key", "rotate", "--algorithm", "es256"])
        .expect(2)
        .all();
    assert!(
        said.contains("'es256'") && said.contains("ES256, RS256, EdDSA"),
        "{said}"
    );
}

// --- discovery

#[test]
fn stock_middleware_finds_the_keys_from_public_url() {
    let app = App::start();
    let gateway = sign_in_gateway(&app, &with("RS256"));
    gateway
        .command(["key", "rotate", "--algorithm", "ES256"])
        .expect(0);
    eventually("both keys are in use", || {
        members(&jwks(&gateway), "alg") == ["ES256", "RS256"]
    });
    for path in [DISCOVERY, "/auth/.well-known/openid-configuration"] {
        let answer = gateway.get(path).expect(200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=30"));
        assert_eq!(
            answer.json(),
            json!({
                "issuer": "http://localhost",
                "jwks_uri": "http://localhost/.well-known/jwks.json",
                "id_token_signing_alg_values_supported": ["ES256", "RS256"],
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
            })
        );
    }
    assert_eq!(
        gateway.get("/auth/.well-known/jwks.json").expect(200).json(),
        jwks(&gateway)
    );
    let refused = gateway.send(&Request::new("POST", DISCOVERY)).expect(405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    assert_eq!(app.count(), 0, "`/*` yields");
    let said = gateway.command(["explain", "GET", DISCOVERY]).expect(0).stdout;
    assert!(
        said.ends_with("allowed: answered by the gateway itself\n"),
        "{said}"
    );
}

#[test]
fn route_that_names_a_well_known_path_takes_it_on_its_host() {
    let app = App::start();
    let routes = "[[routes]]\nhost = \"app.test\"\npath = \"/.well-known/jwks.json\"\nauth = \"none\"\nmethods = [\"GET\"]\n\
                  upstream = \"app\"\n[[routes]]\npath = \"/.well-known/openid-configuration\"\nauth = \"none\"\n\
                  upstream = \"app\"\n[[routes]]\npath = \"/.well-known/{file}\"\nauth = \"none\"\nupstream = \"app\"\n\
                  [[tests]]\nrequest = \"POST http://app.test/.well-known/jwks.json\"\nexpect = 405\n";
    let gateway = Gateway::before(&app, routes);
    let get = |host: &str, path: &str| gateway.send(&Request::get(path).host(host)).expect(200);
    get("app.test", JWKS);
    get("app.test", DISCOVERY);
    get("other.test", DISCOVERY);
    assert_eq!(app.count(), 3);
    // A wider pattern takes nothing.
    assert!(get("other.test", JWKS).json()["keys"].is_array());
    let described = get("app.test", "/auth/.well-known/openid-configuration").json();
    assert_eq!(
        described["jwks_uri"],
        "http://app.test/auth/.well-known/jwks.json"
    );
    assert!(get("app.test", "/auth/.well-known/jwks.json").json()["keys"].is_array());
    assert_eq!(app.count(), 3);
}
