use super::*;
use crate::config::raw::RawTenants;
use crate::config::raw::{Named, RawIssuer, RawSecret};
use crate::config::{Problems, Spanned};
use crate::net::egress::Egress;
use crate::values::MissingClaim;
use std::time::Duration;

fn path(text: &str) -> crate::identity::ClaimPath {
    crate::identity::ClaimPath::parse(text).unwrap()
}

fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: 0..1 }
}

fn texts(values: &[&str]) -> Vec<Spanned<String>> {
    values.iter().map(|value| at((*value).to_owned())).collect()
}

fn paths(values: &[&str]) -> Vec<Spanned<crate::identity::ClaimPath>> {
    values.iter().map(|value| at(path(value))).collect()
}

fn missing(values: &[&str]) -> Vec<Spanned<MissingClaim>> {
    let claim = |value: &&str| {
        at(if *value == "iss" {
            MissingClaim::Iss
        } else {
            MissingClaim::Aud
        })
    };
    values.iter().map(claim).collect()
}

/// A table that is good, in a directory with `key.pem`, `keys.json`, `secret` and `empty.json`.
struct Table {
    directory: tempfile::TempDir,
    raw: RawIssuer,
}

impl Table {
    fn new(change: impl FnOnce(&mut RawIssuer)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let der = base64::engine::general_purpose::STANDARD.encode(Signer::p256().spki());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
        let keys = json!({"keys": [Signer::p384().jwk("1"), {"kty": "EC", "kid": "2", "use": "enc"}]});
        let weak = json!({"keys": [{"kty": "RSA", "kid": "w", "n": encode([0xff; 128]), "e": "AQAB"}]});
        for (name, text) in [
            ("key.pem", pem.as_str()),
            ("keys.json", &keys.to_string()),
            ("weak.json", &weak.to_string()),
            (
                "private.pem",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            ),
            ("empty.json", r#"{"keys":[]}"#),
            ("secret", "0123456789abcdef0123456789abcdef\n"),
            ("short", "0123456789abcdef0123456789abcde\n"),
        ] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let mut raw = RawIssuer {
            issuer: Some(at(ISS.to_owned())),
            audiences: texts(&["api"]),
            algorithms: texts(&["ES256"]),
            ..RawIssuer::default()
        };
        change(&mut raw);
        Self { directory, raw }
    }

    fn compile(self) -> (Issuers, Problems) {
        let mut problems = Problems::new(&self.directory.path().join("gateway.toml"), "\n");
        let named: Vec<Named<RawIssuer>> = vec![(at("corp".to_owned()), self.raw)];
        (
            Issuers::compile(&named, &Egress::default(), &mut problems),
            problems,
        )
    }
}

fn errors(change: impl FnOnce(&mut RawIssuer)) -> Vec<String> {
    let (issuers, problems) = Table::new(change).compile();
    assert_eq!(issuers.is_empty(), !problems.errors().is_empty());
    problems
        .errors()
        .iter()
        .map(|problem| problem.message.clone())
        .collect()
}

/// What is wrong with a file whose table `[issuers.NAME]` has these lines.
fn messages(name: &str, lines: &str) -> Vec<String> {
    let table = Table::new(|_| {});
    let text = format!("[issuers.{name}]\n{lines}\n");
    let mut problems = Problems::new(&table.directory.path().join("gateway.toml"), &text);
    let raw = crate::config::read(&mut problems);
    Issuers::compile(&raw.issuers, &Egress::default(), &mut problems);
    assert!(problems.errors().iter().all(|problem| problem.hint.is_some()));
    problems
        .errors()
        .iter()
        .map(|problem| problem.message.clone())
        .collect()
}

/// A table that is right but for its last lines.
const RIGHT: &str = "issuer = \"https://id.example.com\"\naudiences = [\"api\"]\n";
const WITH_KEY: &str = "algorithms = [\"ES256\"]\npublic_key_file = \"key.pem\"\n";

fn from_pem(raw: &mut RawIssuer) {
    raw.public_key_file = Some(at("key.pem".into()));
}

fn from_url(raw: &mut RawIssuer) {
    raw.jwks_url = Some(at("https://id.example.com/keys".to_owned()));
}

#[test]
fn each_source_of_keys_compiles_with_the_defaults_of_the_contract() {
    assert_eq!(errors(from_pem), [""; 0]);
    assert_eq!(errors(from_url), [""; 0]);
    assert_eq!(errors(|raw| raw.discovery = Some(at(true))), [""; 0]);
    let (issuers, problems) = Table::new(|raw| {
        raw.jwks_file = Some(at("keys.json".into()));
        raw.algorithms = texts(&["ES384", "RS256"]);
    })
    .compile();
    assert_eq!(problems.errors().len(), 0);
    assert_eq!(problems.warnings().len(), 1, "a key is left out");
    let issuer = issuers.by_name("corp").unwrap();
    assert_eq!(issuer.leeway, 30);
    assert_eq!(issuer.max_age, None);
    assert_eq!(issuer.audience_claim.as_str(), "aud");
    assert_eq!(
        issuer
            .roles_claims
            .iter()
            .map(crate::identity::ClaimPath::as_str)
            .collect::<Vec<_>>(),
        ["roles", "role"]
    );
    assert_eq!(issuer.keys.generation(), 1);
    assert!(issuers.by_iss(ISS).is_some());
    let secret = |file: &'static str| {
        errors(move |raw| {
            raw.secret = Some(at(RawSecret::File(file.into())));
            raw.algorithms = texts(&["HS256"]);
        })
    };
    assert_eq!(secret("secret"), [""; 0]);
    assert_eq!(
        secret("short"),
        ["this is a secret of 31 bytes, and `HS256` needs at least 32"]
    );
    assert!(secret("missing")[0].starts_with("this is a secret that cannot be used: cannot read"));
}

#[test]
fn the_example_shows_the_defaults() {
    use crate::verify::issuer::LEEWAY;
    let example = include_str!("../../../gateway.example.toml");
    for line in [
        format!(
            "# refresh_interval = \"{}m\"",
            key_source::REFRESH_INTERVAL.as_secs() / 60
        ),
        format!(
            "# refresh_cooldown = \"{}s\"",
            key_source::REFRESH_COOLDOWN.as_secs()
        ),
        format!("# leeway = \"{LEEWAY}s\""),
        "default: [\"roles\", \"role\"]".to_owned(),
    ] {
        assert!(example.contains(&line), "{line}");
    }
}

#[test]
fn what_is_missing_is_said_all_at_once() {
    assert_eq!(
        messages("corp", ""),
        [
            "`issuer` is missing in `[issuers.corp]`",
            "`audiences` is missing in `[issuers.corp]`",
            "`algorithms` is missing in `[issuers.corp]`",
            "`[issuers.corp]` names no source of keys",
        ]
    );
}

#[test]
fn a_table_that_would_not_work_or_not_protect_is_an_error() {
    for (lines, expected) in [
        (
            "issuer = \"\"\naudiences = [\"api\"]\n".to_owned() + WITH_KEY,
            "`issuer` is empty",
        ),
        (
            "issuer = \"a\"\naudiences = [\"api\", \"\"]\n".to_owned() + WITH_KEY,
            "`audiences` is empty",
        ),
        (
            RIGHT.to_owned() + "public_key_file = \"key.pem\"\nalgorithms = [\"ES256\", \"none\"]",
            "algorithm `none` accepts unsigned tokens",
        ),
        (
            RIGHT.to_owned() + "public_key_file = \"key.pem\"\nalgorithms = [\"ES526\"]",
            "unknown algorithm `ES526`",
        ),
        (
            RIGHT.to_owned() + "public_key_file = \"key.pem\"\nalgorithms = [\"ES256\", \"HS256\"]",
            "`HS256` needs a `secret`",
        ),
        (
            RIGHT.to_owned() + "jwks_url = \"https://a/keys\"\nalgorithms = [\"HS256\"]",
            "`HS256` needs a `secret`",
        ),
        (
            RIGHT.to_owned() + "secret = { file = \"secret\" }\nalgorithms = [\"ES256\"]",
            "`ES256` needs public keys",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "jwks_url = \"https://a/keys\"",
            "has several sources of keys: `jwks_url`, `public_key_file`",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "discovery = true",
            "has several sources of keys: `public_key_file`, `discovery`",
        ),
        (
            RIGHT.to_owned() + "algorithms = [\"ES256\"]\ndiscovery = false",
            "names no source of keys",
        ),
        (
            RIGHT.to_owned() + "algorithms = [\"ES256\"]\njwks_url = \"http://id.example.com/keys\"",
            "`jwks_url` must be `https://`",
        ),
        (
            RIGHT.to_owned() + "algorithms = [\"ES256\"]\njwks_url = \"keys.json\"",
            "`jwks_url` must be an `https://` URL",
        ),
        (
            "issuer = \"corp\"\naudiences = \"api\"\nalgorithms = [\"ES256\"]\ndiscovery = true".to_owned(),
            "with `discovery`, `issuer` must be an `https://` URL",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "roles_claims = \"a..b\"",
            "`roles_claims` must be the path of a claim, found `a..b`",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "subject_claim = \"a..b\"",
            "`subject_claim` must be the path of a claim, found `a..b`",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "max_age = \"0s\"",
            "`max_age` must be longer than zero",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "refresh_cooldown = \"0s\"",
            "`refresh_cooldown` must be longer than zero",
        ),
        (
            RIGHT.to_owned() + WITH_KEY + "missing_claims = [\"aud\", \"exp\"]\nmax_age = \"1h\"",
            "`missing_claims` must be `iss` or `aud`, found `exp`",
        ),
        (
            "audiences = \"api\"\nmissing_claims = \"iss\"\n".to_owned() + WITH_KEY,
            "`issuer` is missing in `[issuers.corp]`",
        ),
        (
            "issuer = \"a\"\nmissing_claims = \"iss\"\n".to_owned() + WITH_KEY,
            "`audiences` is missing in `[issuers.corp]`",
        ),
    ] {
        let found = messages("corp", &lines);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
    }
    for name in ["session", "\"\"", "\"a b\"", "\"a,b\"", "\"ü\"", "\"a\\nb\""] {
        let found = messages(name, &(RIGHT.to_owned() + WITH_KEY));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
    }
}

#[test]
fn what_would_not_work_or_not_protect_is_an_error() {
    type Change = fn(&mut RawIssuer);
    let cases: &[(Change, &str)] = &[
        (
            |raw| {
                from_pem(raw);
                raw.algorithms = texts(&["RS256"]);
            },
            "`key.pem` has no key for the `algorithms`",
        ),
        (
            |raw| raw.public_key_file = Some(at("nobody.pem".into())),
            "`nobody.pem` cannot be used: No such file",
        ),
        (
            |raw| raw.public_key_file = Some(at("private.pem".into())),
            "it holds a private key",
        ),
        (
            |raw| raw.public_key_file = Some(at("keys.json".into())),
            "it holds no `PUBLIC KEY`",
        ),
        (
            |raw| raw.jwks_file = Some(at("empty.json".into())),
            "`empty.json` has no key for the `algorithms`",
        ),
        (
            |raw| raw.jwks_file = Some(at("weak.json".into())),
            "an RSA key of 1024 bits",
        ),
        (
            |raw| raw.jwks_url = Some(at("http://id.example.com/keys".to_owned())),
            "`jwks_url` is an `http://` URL to another machine",
        ),
        (
            |raw| raw.jwks_url = Some(at("keys.json".to_owned())),
            "`jwks_url` is neither",
        ),
        (
            |raw| {
                raw.discovery = Some(at(true));
                raw.issuer = Some(at("corp".to_owned()));
            },
            "`issuer` is where the keys are found",
        ),
        (
            |raw| {
                from_url(raw);
                raw.ca_file = Some(at("nobody.pem".into()));
            },
            "`nobody.pem` cannot be read",
        ),
        (
            |raw| {
                from_url(raw);
                raw.ca_file = Some(at("keys.json".into()));
            },
            "`keys.json` holds no `CERTIFICATE`",
        ),
    ];
    for (change, expected) in cases {
        let found = errors(change);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
    }
}

fn homemade(raw: &mut RawIssuer) {
    raw.secret = Some(at(RawSecret::File("secret".into())));
    raw.algorithms = texts(&["HS256"]);
    raw.missing_claims = missing(&["iss", "aud"]);
    raw.audiences = Vec::new();
    raw.max_age = Some(at(Duration::from_secs(900)));
}

#[test]
fn tokens_of_an_app_that_signed_its_own_are_a_table_without_audiences() {
    let (issuers, problems) = Table::new(|raw| {
        homemade(raw);
        raw.subject_claims = paths(&["user.id"]);
    })
    .compile();
    // The secret of the test has the mode of any other file.
    let shown: Vec<_> = problems.errors().iter().map(|problem| &problem.message).collect();
    assert_eq!(shown, [""; 0]);
    let issuer = issuers.without_iss().unwrap();
    assert!(issuer.may_lack_iss && issuer.may_lack_aud && issuer.audiences.is_empty());
    assert_eq!(issuer.subject_claims, [path("user.id")]);
    assert_eq!(issuer.revocation_key(), ISS, "`issuer` stays its name");
    assert!(issuers.by_iss(ISS).is_some());

    let (issuers, _) = Table::new(from_pem).compile();
    let issuer = issuers.by_name("corp").unwrap();
    assert!(issuers.without_iss().is_none() && !issuer.may_lack_iss && !issuer.may_lack_aud);
    assert_eq!(issuer.subject_claims, [path("sub")]);
    let (issuers, _) = Table::new(|raw| {
        from_pem(raw);
        raw.subject_claims = paths(&["sub"]);
    })
    .compile();
    assert_eq!(issuers.by_name("corp").unwrap().subject_claims, [path("sub")]);
}

#[test]
fn claims_may_be_missing_where_only_the_keys_of_this_machine_count() {
    type Change = fn(&mut RawIssuer);
    let cases: &[(Change, &str)] = &[
        (
            |raw| {
                from_url(raw);
                raw.missing_claims = missing(&["aud"]);
                raw.max_age = Some(at(Duration::from_secs(900)));
            },
            "`missing_claims` needs keys that are kept here",
        ),
        (
            |raw| {
                raw.discovery = Some(at(true));
                raw.missing_claims = missing(&["iss"]);
            },
            "`missing_claims` needs keys that are kept here",
        ),
        (
            |raw| {
                homemade(raw);
                raw.audience_claim = Some(at(path("azp")));
            },
            "`aud` may be missing, and `azp` is compared instead",
        ),
    ];
    for (change, expected) in cases {
        let found = errors(change);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{expected}: {found:?}"
        );
    }
    for (change, warned) in [
        (homemade as Change, false),
        (
            |raw| {
                homemade(raw);
                raw.max_age = None;
            },
            true,
        ),
        (
            |raw| {
                homemade(raw);
                raw.missing_claims = missing(&["iss"]);
                raw.audiences = texts(&["api"]);
                raw.max_age = None;
            },
            false,
        ),
        (
            |raw| {
                from_pem(raw);
                raw.missing_claims = missing(&["aud", "iss"]);
                raw.audience_claim = Some(at(path("aud")));
                raw.max_age = None;
            },
            true,
        ),
    ] {
        let (issuers, problems) = Table::new(change).compile();
        let warning = "whatever else is signed with these keys is taken as well";
        assert_eq!(
            problems
                .warnings()
                .iter()
                .any(|problem| problem.message == warning),
            warned
        );
        assert_eq!(issuers.len(), 1);
    }
}

#[test]
fn two_tables_that_take_tokens_without_iss_are_an_error_that_names_both() {
    let table = Table::new(homemade);
    let mut problems = Problems::new(&table.directory.path().join("gateway.toml"), "\n");
    let mut second = table.raw.clone();
    second.issuer = Some(at("other".to_owned()));
    second.missing_claims = vec![Spanned {
        value: MissingClaim::Iss,
        span: 7..8,
    }];
    second.audiences = texts(&["api"]);
    let mut third = second.clone();
    third.issuer = Some(at("third".to_owned()));
    third.missing_claims = missing(&["aud"]);
    let tables =
        [("a", table.raw), ("b", second), ("c", third)].map(|(name, raw)| (at(name.to_owned()), raw));
    let issuers = Issuers::compile(&tables, &Egress::default(), &mut problems);
    assert_eq!(problems.errors().len(), 1);
    let problem = &problems.errors()[0];
    assert_eq!(problem.message, "`a` and `b` both take tokens without `iss`");
    assert_eq!(
        (problem.span.clone(), problem.also.as_ref().unwrap().0.clone()),
        (7..8, 0..1)
    );
    assert_eq!(
        issuers.iter().map(|issuer| &*issuer.name).collect::<Vec<_>>(),
        ["a", "c"]
    );
    assert_eq!(&*issuers.without_iss().unwrap().name, "a");
}

#[test]
fn what_changes_nothing_and_what_is_unwise_is_a_warning() {
    let (_, problems) = Table::new(|raw| {
        from_pem(raw);
        raw.refresh_interval = Some(at(Duration::from_secs(1)));
    })
    .compile();
    let messages: Vec<_> = problems
        .warnings()
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(messages, ["`refresh_interval` changes nothing here"]);
}

#[test]
fn our_own_issuer_cannot_be_taken_for_another() {
    let (mut issuers, _) = Table::new(from_pem).compile();
    let keys = || key_set(&[Signer::p256().jwk("1")]);
    assert!(
        issuers.add_own("session", ISS, "app", keys()).is_err(),
        "the same `iss`"
    );
    assert!(
        issuers
            .add_own("corp", "https://app.example.com", "app", keys())
            .is_err()
    );
    assert!(
        issuers
            .add_own("session", "https://app.example.com", "app", keys())
            .is_ok()
    );
    assert_eq!(
        issuers
            .iter()
            .map(|issuer| issuer.name.to_string())
            .collect::<Vec<_>>(),
        ["corp", "session"]
    );
}

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

fn of_tenants(tenants: RawTenants) -> impl Fn(&mut RawIssuer) {
    move |raw| {
        raw.issuer = Some(at("https://login.example.com/{tid}/v2.0".to_owned()));
        raw.tenants = Some(at(tenants.clone()));
        raw.discovery = Some(at(true));
    }
}

#[test]
fn an_issuer_of_many_tenants_names_them_and_finds_its_keys_under_organizations() {
    let one = RawTenants::Listed(vec![TENANT.to_owned()]);
    for tenants in [one.clone(), RawTenants::Any] {
        let (issuers, problems) = Table::new(of_tenants(tenants)).compile();
        assert!(problems.errors().is_empty(), "{}", problems.render(false));
        let issuer = issuers
            .by_iss(&format!("https://login.example.com/{TENANT}/v2.0"))
            .unwrap();
        assert_eq!(
            issuer.source.as_ref().unwrap().location().url().as_str(),
            "https://login.example.com/organizations/v2.0/.well-known/openid-configuration"
        );
        for iss in [
            "https://login.example.com/{tid}/v2.0",
            "https://login.example.com/organizations/v2.0",
        ] {
            assert!(issuers.by_iss(iss).is_none(), "{iss}");
        }
    }
    type Change = &'static dyn Fn(&mut RawIssuer);
    let cases: [(Change, &str); 7] = [
        (
            &|raw| raw.tenants = None,
            "`issuer` has a place for a tenant, and no `tenants` are named",
        ),
        (
            &|raw| raw.issuer = Some(at("https://login.example.com/x".to_owned())),
            "`issuer` has no place for a tenant",
        ),
        (
            &|raw| raw.issuer = Some(at("https://{tid}.example.com/".to_owned())),
            "`{tid}` must be one whole segment of the path of `issuer`, once",
        ),
        (
            &|raw| raw.issuer = Some(at("https://login.example.com/{tid}/{tid}/v2.0".to_owned())),
            "`{tid}` must be one whole segment of the path of `issuer`, once",
        ),
        (
            &|raw| raw.subject_claims = paths(&["sub", "email"]),
            "`email` may be the same for people of two tenants",
        ),
        (&|raw| raw.subject_claims = paths(&["oid", "sub"]), ""),
        (
            &|raw| raw.subject_claims = paths(&["oid", "oid"]),
            "`oid` appears twice",
        ),
    ];
    for (change, expected) in cases {
        let any = of_tenants(RawTenants::Any);
        let found = errors(|raw| {
            any(raw);
            change(raw);
        });
        assert!(
            if expected.is_empty() {
                found.is_empty()
            } else {
                found[0] == expected
            },
            "{expected}: {found:?}"
        );
    }
    // Of one tenant a claim is as unique as of any other issuer.
    let single = of_tenants(one);
    let found = errors(|raw| {
        single(raw);
        raw.subject_claims = paths(&["email"]);
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn a_token_for_the_server_of_the_keys_is_read_and_goes_in_plain_text_to_this_machine_only() {
    let with = |url: &str, file: &'static str| {
        let url = url.to_owned();
        errors(move |raw| {
            raw.jwks_url = Some(at(url));
            raw.allow_http = Some(at(true));
            raw.jwks_token = Some(at(RawSecret::File(file.into())));
        })
    };
    assert_eq!(
        with("https://kubernetes.default.svc/openid/v1/jwks", "secret"),
        [""; 0]
    );
    assert_eq!(with("http://127.0.0.1:8001/openid/v1/jwks", "secret"), [""; 0]);
    assert_eq!(
        with("http://10.0.0.1/jwks", "secret"),
        ["`jwks_token` would go to `http://10.0.0.1/jwks` in plain HTTP"]
    );
    assert!(
        with("https://k.example.com/", "missing")[0].starts_with("`jwks_token` cannot be used: cannot read")
    );
    let (_, problems) = Table::new(|raw| {
        from_pem(raw);
        raw.jwks_token = Some(at(RawSecret::File("secret".into())));
    })
    .compile();
    assert_eq!(
        problems.warnings()[0].message,
        "`jwks_token` changes nothing here"
    );
}
