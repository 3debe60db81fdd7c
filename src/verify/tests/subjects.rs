//! Whom a token is about: kinds of subjects, tenants, and roles in odd places.

use super::super::tenant::IssuerName;
use super::*;
use crate::identity::ClaimPath;
use crate::revocation::{Revocation, Target};

const TEMPLATE: &str = "https://login.example.com/{tid}/v2.0";
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

fn paths(texts: &[&str]) -> Vec<ClaimPath> {
    texts.iter().map(|text| ClaimPath::parse(text).unwrap()).collect()
}

fn subject(claims: &[&str], changes: &Value) -> Result<String, Refusal> {
    let corp = Corp::with(|issuer| issuer.subject_claims = paths(claims));
    corp.verify(&corp.token(changes))
        .map(|verified| verified.caller.identity.subject.clone())
}

#[test]
fn the_first_claim_that_is_there_counts_and_its_kind_is_kept_apart() {
    let both = &["sub", "client_id"][..];
    let three = &["sub", "client_id", "azp"][..];
    let malformed = || Err(Refusal::SubjectMalformed);
    let cases: [(&[&str], Value, Result<&str, Refusal>); 22] = [
        (both, json!({}), Ok("ann")),
        (both, json!({"client_id": "worker"}), Ok("ann")),
        (
            both,
            json!({"sub": null, "client_id": "worker"}),
            Ok("client_id:worker"),
        ),
        (
            both,
            json!({"sub": "", "client_id": "worker"}),
            Ok("client_id:worker"),
        ),
        (
            three,
            json!({"sub": "", "client_id": "", "azp": "w"}),
            Ok("azp:w"),
        ),
        (
            three,
            json!({"sub": null, "client_id": "c", "azp": "w"}),
            Ok("client_id:c"),
        ),
        // A number where it is allowed.
        (both, json!({"sub": null, "client_id": 7}), Ok("client_id:7")),
        (&["id", "sub"], json!({"id": 7}), Ok("7")),
        (&["id", "sub"], json!({}), Ok("sub:ann")),
        // Another type is refused, not skipped.
        (both, json!({"sub": 7, "client_id": "worker"}), malformed()),
        (both, json!({"sub": ["x"], "client_id": "worker"}), malformed()),
        (both, json!({"sub": {"x": 1}, "client_id": "worker"}), malformed()),
        (both, json!({"sub": false, "client_id": "worker"}), malformed()),
        (both, json!({"sub": null, "client_id": ["worker"]}), malformed()),
        (both, json!({"sub": null, "client_id": -7}), malformed()),
        (both, json!({"sub": null}), malformed()),
        (both, json!({"sub": "", "client_id": ""}), malformed()),
        // A person who is called like a machine, and one kind that is called like another.
        (both, json!({"sub": "client_id:worker"}), malformed()),
        (three, json!({"sub": "azp:w"}), malformed()),
        (both, json!({"sub": "client_id"}), Ok("client_id")),
        (both, json!({"sub": "client_ids:worker"}), Ok("client_ids:worker")),
        (
            &["sub", "a", "a:b"],
            json!({"sub": null, "a": "b:x"}),
            malformed(),
        ),
    ];
    for (claims, changes, expected) in cases {
        // `claims_with` takes a null for "leave it out", which counts the same here.
        assert_eq!(
            subject(claims, &changes).as_deref(),
            expected.as_ref().copied(),
            "{claims:?} {changes}"
        );
    }
    // A null that is really there.
    let corp = Corp::with(|issuer| issuer.subject_claims = paths(both));
    let mut claims = claims_with(&json!({"client_id": "worker"}));
    claims["sub"] = Value::Null;
    let verified = corp
        .verify(&corp.signer.sign(&json!({"alg": "ES256", "kid": "k"}), &claims))
        .unwrap();
    assert_eq!(verified.caller.identity.subject, "client_id:worker");
    // Without a list everything is as it was.
    assert_eq!(
        subject(&["sub"], &json!({"sub": "client_id:worker"})).unwrap(),
        "client_id:worker"
    );
}

#[test]
fn a_revocation_of_a_subject_is_of_its_kind() {
    let corp = Corp::with(|issuer| issuer.subject_claims = paths(&["sub", "client_id"]));
    let machine = corp.token(&json!({"sub": null, "client_id": "ann"}));
    let person = corp.token(&json!({}));
    let row = |subject: &str| Revocation {
        issuer: ISS.to_owned(),
        target: Target::Subject(subject.to_owned()),
        revoked_at: NOW,
        expires_at: None,
    };
    corp.verifier.revocations().replace([row("client_id:ann")]);
    assert_eq!(corp.verify(&machine).map(|_| ()), Err(Refusal::Revoked));
    assert!(corp.verify(&person).is_ok());
    corp.verifier.revocations().replace([row("ann")]);
    assert!(corp.verify(&machine).is_ok());
    assert_eq!(corp.verify(&person).map(|_| ()), Err(Refusal::Revoked));
}

#[test]
fn roles_are_found_under_quoted_names_and_in_the_names_of_an_object() {
    let roles = |path: &str, changes: Value| {
        let corp = Corp::with(|issuer| issuer.roles_claims = paths(&[path]));
        corp.verify(&corp.token(&changes))
            .unwrap()
            .caller
            .identity
            .roles
            .clone()
    };
    let keycloak = json!({"resource_access": {"my.client": {"roles": ["admin", "ops"]}}});
    assert_eq!(
        roles(r#"resource_access."my.client".roles"#, keycloak.clone()),
        ["admin", "ops"]
    );
    assert_eq!(
        roles("resource_access.'my.client'.roles", keycloak.clone()),
        ["admin", "ops"]
    );
    assert!(roles("resource_access.my.client.roles", keycloak).is_empty());
    let zitadel =
        json!({"urn:zitadel:iam:org:project:roles": {"admin": {"1": "a.example"}, "user": {}, "": {}}});
    assert_eq!(
        roles("urn:zitadel:iam:org:project:roles", zitadel),
        ["admin", "user"]
    );
    for odd in [
        json!({"roles": 1}),
        json!({"roles": ["a", 1]}),
        json!({"roles": {}}),
    ] {
        assert!(roles("roles", odd).is_empty());
    }
}

fn entra(tenants: Tenants, change: impl FnOnce(&mut Issuer)) -> Corp {
    Corp::with(|issuer| {
        issuer.issuer = TEMPLATE.to_owned();
        issuer.iss = IssuerName::parse(TEMPLATE).unwrap();
        issuer.tenants = Some(tenants);
        change(issuer);
    })
}

fn iss(tenant: &str) -> String {
    TEMPLATE.replace("{tid}", tenant)
}

#[test]
fn the_tenant_in_iss_is_that_of_the_token_and_one_that_is_taken() {
    let listed = || Tenants::Listed(vec![TENANT.to_owned()]);
    let upper = TENANT.to_ascii_uppercase();
    let cases = [
        (listed(), iss(TENANT), json!(TENANT), Ok(())),
        (Tenants::Any, iss(TENANT), json!(TENANT), Ok(())),
        (Tenants::Any, iss(OTHER), json!(OTHER), Ok(())),
        (listed(), iss(OTHER), json!(OTHER), Err(Refusal::IssuerUnknown)),
        (listed(), iss(TENANT), json!(OTHER), Err(Refusal::IssuerUnknown)),
        (
            Tenants::Any,
            iss(OTHER),
            json!(TENANT),
            Err(Refusal::IssuerUnknown),
        ),
        (
            Tenants::Any,
            iss(TENANT),
            json!(upper),
            Err(Refusal::IssuerUnknown),
        ),
        (
            Tenants::Any,
            iss(&upper),
            json!(upper),
            Err(Refusal::IssuerUnknown),
        ),
        (
            Tenants::Any,
            iss(TENANT),
            json!(null),
            Err(Refusal::IssuerMalformed),
        ),
        (
            Tenants::Any,
            iss(TENANT),
            json!([TENANT]),
            Err(Refusal::IssuerMalformed),
        ),
        (
            Tenants::Any,
            TEMPLATE.to_owned(),
            json!("{tid}"),
            Err(Refusal::IssuerUnknown),
        ),
        (
            Tenants::Any,
            iss("common"),
            json!("common"),
            Err(Refusal::IssuerUnknown),
        ),
        (Tenants::Any, iss(""), json!(""), Err(Refusal::IssuerUnknown)),
        (
            Tenants::Any,
            format!("{}/", iss(TENANT)),
            json!(TENANT),
            Err(Refusal::IssuerUnknown),
        ),
    ];
    for (tenants, iss, tid, expected) in cases {
        let corp = entra(tenants.clone(), |_| {});
        assert_eq!(
            corp.judge(&json!({"iss": iss, "tid": tid})),
            expected,
            "{tenants:?} {iss} {tid}"
        );
    }
}

#[test]
fn of_several_tenants_an_oid_has_its_tenant_before_it_and_an_address_needs_its_owner_verified() {
    let many = || Tenants::Listed(vec![TENANT.to_owned(), OTHER.to_owned()]);
    let one = || Tenants::Listed(vec![TENANT.to_owned()]);
    let identity = |tenants: Tenants, claims: &[&str], changes: Value| {
        let corp = entra(tenants, |issuer| issuer.subject_claims = paths(claims));
        let mut changes = changes;
        changes["iss"] = json!(iss(TENANT));
        changes["tid"] = json!(TENANT);
        corp.verify(&corp.token(&changes))
            .unwrap()
            .caller
            .identity
            .clone()
    };
    let oid = || json!({"oid": "o1"});
    assert_eq!(identity(many(), &["oid"], oid()).subject, format!("{TENANT}:o1"));
    assert_eq!(
        identity(Tenants::Any, &["oid"], oid()).subject,
        format!("{TENANT}:o1")
    );
    assert_eq!(identity(one(), &["oid"], oid()).subject, "o1");
    assert_eq!(identity(many(), &["sub"], oid()).subject, "ann");
    assert_eq!(
        identity(many(), &["sub", "oid"], json!({"sub": null, "oid": "o1"})).subject,
        format!("oid:{TENANT}:o1")
    );
    for (edov, expected) in [
        (json!(true), true),
        (json!(null), false),
        (json!(false), false),
        (json!("true"), false),
        (json!(1), false),
        (json!("1"), false),
    ] {
        // The word of the tenant does not count.
        let said = identity(
            many(),
            &["sub"],
            json!({"xms_edov": edov, "email_verified": true}),
        );
        assert_eq!(said.is_email_verified(), expected, "{edov}");
        assert_eq!(
            identity(many(), &["sub"], json!({"xms_edov": edov})).is_email_verified(),
            expected,
            "{edov}"
        );
        assert!(
            identity(one(), &["sub"], json!({"xms_edov": edov})).is_email_verified(),
            "one's own tenant: {edov}"
        );
    }
}

#[test]
fn a_key_that_names_an_issuer_serves_its_tokens_alone() {
    let signer = Signer::p256();
    let with = |issuer: Value| {
        let mut jwk = signer.jwk("k");
        jwk["issuer"] = issuer;
        jwk
    };
    let judge = |jwks: &[Value], template: bool, tenant: &str| {
        let mut issuer = corp(key_set(jwks));
        if template {
            issuer.issuer = TEMPLATE.to_owned();
            issuer.iss = IssuerName::parse(TEMPLATE).unwrap();
            issuer.tenants = Some(Tenants::Any);
        } else {
            issuer.issuer = iss(TENANT);
            issuer.iss = IssuerName::parse(&issuer.issuer).unwrap();
        }
        let claims = claims_with(&json!({"iss": iss(tenant), "tid": tenant}));
        let token = signer.sign(&json!({"alg": "ES256", "kid": "k"}), &claims);
        verifier(vec![issuer])
            .verify(&mut LocalCache::new(), &token, NOW)
            .map(|_| ())
    };
    let published = json!(TEMPLATE.replace("{tid}", "{tenantid}"));
    for template in [true, false] {
        assert_eq!(judge(&[with(published.clone())], template, TENANT), Ok(()));
        assert_eq!(judge(&[with(json!(TEMPLATE))], template, TENANT), Ok(()));
        assert_eq!(judge(&[with(json!(iss(TENANT)))], template, TENANT), Ok(()));
        assert_eq!(
            judge(&[with(json!(iss(OTHER)))], template, TENANT),
            Err(Refusal::KeyUnknown)
        );
        assert_eq!(
            judge(
                &[with(json!("https://sts.example.net/{tenantid}/"))],
                template,
                TENANT
            ),
            Err(Refusal::KeyUnknown)
        );
        // One of several with the same material.
        assert_eq!(
            judge(
                &[with(json!(iss(OTHER))), with(published.clone())],
                template,
                TENANT
            ),
            Ok(())
        );
    }
    // Keys of one tenant must not verify for another.
    assert_eq!(
        judge(&[with(json!(iss(TENANT)))], true, OTHER),
        Err(Refusal::KeyUnknown)
    );
    let text = json!({"keys": [with(json!(7)), with(json!("https://{tid}.example.com/"))]}).to_string();
    let (set, skipped) = KeySet::from_jwks(text.as_bytes(), Origin::Fetched).unwrap();
    assert!(set.is_empty());
    assert_eq!(skipped.len(), 2, "{skipped:?}");
}

#[test]
fn two_issuers_whose_tokens_could_have_one_iss_are_not_taken_together() {
    let issuer = |text: &str| {
        let mut issuer = corp(key_set(&[]));
        issuer.name = text.into();
        issuer.issuer = text.to_owned();
        issuer.iss = IssuerName::parse(text).unwrap();
        issuer
    };
    for (one, other, expected) in [
        (TEMPLATE, TEMPLATE, false),
        (TEMPLATE, &*iss(TENANT), false),
        (&*iss(TENANT), TEMPLATE, false),
        (&*iss(TENANT), &*iss(OTHER), true),
        (TEMPLATE, "https://login.example.com/{tid}/v1.0", true),
        (TEMPLATE, "https://sts.example.net/{tid}/", true),
    ] {
        let mut issuers = Issuers::default();
        issuers.add(issuer(one)).unwrap();
        assert_eq!(issuers.add(issuer(other)).is_ok(), expected, "{one} {other}");
    }
}

#[test]
fn es512_and_both_names_of_ed25519_are_verified() {
    for (signer, keys, algs) in [
        (
            Signer::p521(),
            vec![None, Some("ES512"), Some("ES521")],
            &["ES512"][..],
        ),
        (
            Signer::ed25519(),
            vec![None, Some("EdDSA"), Some("Ed25519")],
            &["EdDSA", "Ed25519"][..],
        ),
    ] {
        for key in keys {
            let mut jwk = signer.jwk("k");
            if let Some(alg) = key {
                jwk["alg"] = json!(alg);
            }
            for listed in algs {
                let mut issuer = corp(key_set(&[jwk.clone()]));
                issuer.algorithms = vec![Algorithm::parse(listed).unwrap()];
                let verifier = verifier(vec![issuer]);
                for alg in algs {
                    let token = signer.sign(&json!({"alg": alg, "kid": "k"}), &good_claims());
                    let judged = verifier.verify(&mut LocalCache::new(), &token, NOW);
                    assert!(judged.is_ok(), "{key:?} {listed} {alg}: {judged:?}");
                    let mut tampered = token.clone();
                    let place = tampered.len() - 2;
                    let another = if tampered[place..].starts_with('A') {
                        "B"
                    } else {
                        "A"
                    };
                    tampered.replace_range(place..=place, another);
                    assert!(verifier.verify(&mut LocalCache::new(), &tampered, NOW).is_err());
                }
            }
        }
        // A key that is bound to another algorithm is left out, as is one that is too short.
        let mut bound = signer.jwk("k");
        bound["alg"] = json!("ES384");
        let short =
            json!({"kty": "EC", "crv": "P-521", "kid": "s", "x": encode([1; 65]), "y": encode([1; 66])});
        let text = json!({"keys": [bound, short]}).to_string();
        let (set, skipped) = KeySet::from_jwks(text.as_bytes(), Origin::Fetched).unwrap();
        assert_eq!((set.len(), skipped.len()), (0, 2));
    }
    assert_eq!(Algorithm::parse("Ed448"), None);
    assert_eq!(Algorithm::parse("ed25519"), None);
}

#[test]
fn one_broken_entry_of_a_set_is_left_out_and_the_rest_is_used() {
    let signer = Signer::p256();
    let good = signer.jwk("k").to_string();
    let token = signer.sign(&json!({"alg": "ES256", "kid": "k"}), &good_claims());
    for broken in [
        "7",
        "null",
        "\"x\"",
        "[]",
        r#"{"kty":"EC","kty":"EC"}"#,
        r#"{"kty":"EC","x5c":{"a":1,"a":2}}"#,
    ] {
        for text in [
            format!(r#"{{"keys":[{broken},{good}]}}"#),
            format!(r#"{{"keys":[{good},{broken}]}}"#),
        ] {
            for origin in [Origin::Fetched, Origin::File] {
                let (set, skipped) = KeySet::from_jwks(text.as_bytes(), origin).unwrap();
                assert_eq!((set.len(), skipped.len()), (1, 1), "{text}");
                assert!(skipped[0].starts_with("entry "), "{skipped:?}");
                assert!(
                    verifier(vec![corp(set)])
                        .verify(&mut LocalCache::new(), &token, NOW)
                        .is_ok()
                );
            }
        }
    }
    for text in [
        "",
        "[]",
        r#"{"key": []}"#,
        r#"{"keys": {}}"#,
        r#"{"keys": [], "keys": []}"#,
        r#"{"keys": [null]}"#,
        r#"{"keys": [{"a":1,"a":1}, 7]}"#,
    ] {
        assert!(
            KeySet::from_jwks(text.as_bytes(), Origin::Fetched).is_err(),
            "{text}"
        );
    }
    assert!(KeySet::from_jwks(br#"{"keys": []}"#, Origin::Fetched).is_ok());
}

#[test]
fn the_longest_token_is_what_the_configuration_says() {
    let corp = Corp::new();
    let long = corp.token(&json!({"groups": ["x".repeat(20_000)]}));
    assert_eq!(corp.verify(&long).map(|_| ()), Err(Refusal::TokenTooLarge));
    let mut detail = String::new();
    let verdict = corp
        .verifier
        .examine(&long, NOW, &mut |step| detail = step.detail);
    assert_eq!(verdict.map(|_| ()), Err(Refusal::TokenTooLarge));
    assert!(detail.contains("`max_token_bytes` is 16384"), "{detail}");
    let Corp { signer, verifier } = corp;
    let verifier = verifier.with_max_token_bytes(long.len());
    assert!(verifier.verify(&mut LocalCache::new(), &long, NOW).is_ok());
    assert!(verifier.examine(&long, NOW, &mut |_| {}).is_ok());
    let longer = signer.sign(
        &json!({"alg": "ES256", "kid": "k"}),
        &claims_with(&json!({"groups": ["x".repeat(20_001)]})),
    );
    assert!(longer.len() > long.len());
    assert_eq!(
        verifier.verify(&mut LocalCache::new(), &longer, NOW).map(|_| ()),
        Err(Refusal::TokenTooLarge)
    );
}
