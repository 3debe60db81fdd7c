#![allow(clippy::unwrap_used)]

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

use super::*;
use crate::identity::{Caller, Identity};
use crate::state::SigningKeyStore as _;
use crate::state::sqlite::Sqlite;

const NOW: UnixSeconds = 1_800_000_000;
const ES256: SigningAlgorithm = SigningAlgorithm::ES256;

/// Header and claims of a token whose signature is by one of `keys` that counts at `now`.
fn verify(token: &str, keys: &SigningKeys, now: UnixSeconds) -> Option<(Value, Value)> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (head, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let head: Value = serde_json::from_slice(&decode(head)).unwrap();
    let key = keys
        .verifying_keys()
        .iter()
        .find(|key| head["kid"] == *key.key_id && key.verifies_at(now))?;
    let member = |name: &str| decode(key.jwk()[name].as_str().unwrap());
    let (message, signature) = (signed.as_bytes(), decode(signature));
    let verified = match key.algorithm {
        SigningAlgorithm::EdDSA => UnparsedPublicKey::new(&ED25519, member("x")).verify(message, &signature),
        SigningAlgorithm::ES256 => {
            let point = [&[4][..], &member("x"), &member("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature)
        }
        SigningAlgorithm::RS256 => RsaPublicKeyComponents {
            n: member("n"),
            e: member("e"),
        }
        .verify(&RSA_PKCS1_2048_8192_SHA256, message, &signature),
    };
    verified.ok()?;
    Some((head, serde_json::from_slice(&decode(claims)).unwrap()))
}

fn caller(expires_at: UnixSeconds) -> Caller {
    Caller::new(Identity {
        issuer: "corp".into(),
        subject: "u-1".to_owned(),
        email: Some("ä@example.com".to_owned()),
        name: None,
        roles: vec!["admin".to_owned(), "a,b".to_owned()],
        scopes: Vec::new(),
        token_id: None,
        session_id: None,
        issued_at: None,
        expires_at,
        claims: Map::new(),
    })
}

fn claims_of(value: &http::HeaderValue, keys: &SigningKeys) -> Value {
    verify(value.to_str().unwrap(), keys, NOW).unwrap().1
}

#[test]
fn the_key_id_is_the_thumbprint_of_rfc_8037_appendix_a_3() {
    let x = URL_SAFE_NO_PAD
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    assert_eq!(
        public_jwk(SigningAlgorithm::EdDSA, &x).unwrap().0,
        "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    );
}

#[test]
fn the_same_key_is_loaded_again_and_verifies_what_it_signed() {
    for algorithm in SigningAlgorithm::ALL {
        let state = Sqlite::in_memory().unwrap();
        let first = SigningKeys::load_or_create(&state, algorithm, NOW).unwrap();
        // The key stays, whatever is configured later.
        let again = SigningKeys::load_or_create(&state, SigningAlgorithm::EdDSA, NOW + 5).unwrap();
        assert_eq!(first.verifying_keys(), again.verifying_keys());
        assert_eq!(again.algorithm(), algorithm);
        assert_eq!(first.verifying_keys()[0].created_at, NOW);
        let claims = Map::from_iter([("sub".to_owned(), Value::from("ü"))]);
        for kind in Kind::ALL {
            let token = first.sign(kind, &claims).unwrap();
            let (head, body) = verify(&token, &again, NOW).unwrap();
            assert_eq!(
                head,
                json!({"typ": kind.typ(), "alg": algorithm.as_str(), "kid": &**first.key_id()})
            );
            assert_eq!(body, json!({"sub": "ü"}));
        }
    }
}

#[test]
fn keys_of_several_algorithms_verify_side_by_side() {
    let state = Sqlite::in_memory().unwrap();
    let mut signed = Vec::new();
    let mut keys = SigningKeys::load_or_create(&state, SigningAlgorithm::EdDSA, NOW).unwrap();
    for (step, algorithm) in [SigningAlgorithm::RS256, ES256].into_iter().enumerate() {
        signed.push(keys.sign(Kind::Access, &Map::new()).unwrap());
        keys = SigningKeys::rotate(&state, algorithm, NOW + step as i64, 900).unwrap();
    }
    assert!(
        signed
            .iter()
            .all(|token| verify(token, &keys, NOW + 800).is_some())
    );
    let all = [ES256, SigningAlgorithm::RS256, SigningAlgorithm::EdDSA];
    assert_eq!(keys.algorithms(NOW + 899), all);
    assert_eq!(keys.algorithms(NOW + 900), [ES256, SigningAlgorithm::RS256]);
    let modulus = keys.jwks(NOW)["keys"][1]["n"].as_str().unwrap().to_owned();
    assert_eq!(URL_SAFE_NO_PAD.decode(modulus).unwrap().len(), 256);
}

#[test]
fn key_of_another_algorithm_than_its_row_says_is_damaged() {
    let damaged = |algorithm, of| {
        let state = Sqlite::in_memory().unwrap();
        let row = SigningKeyRow {
            algorithm,
            ..generate(of, NOW).unwrap()
        };
        state.ensure_signing_key(&row).unwrap();
        matches!(
            SigningKeys::load_or_create(&state, ES256, NOW),
            Err(SigningError::Damaged { .. })
        )
    };
    for algorithm in SigningAlgorithm::ALL {
        for of in [ES256, SigningAlgorithm::EdDSA] {
            assert_eq!(damaged(algorithm, of), algorithm != of, "{algorithm} {of}");
        }
    }
}

#[test]
fn a_retired_key_verifies_until_its_time_and_is_published_until_then() {
    let state = Sqlite::in_memory().unwrap();
    let old = SigningKeys::load_or_create(&state, ES256, NOW).unwrap();
    let token = old.sign(Kind::Access, &Map::new()).unwrap();
    let new = SigningKeys::rotate(&state, ES256, NOW, 900).unwrap();
    assert_ne!(new.key_id(), old.key_id());
    assert!(verify(&token, &new, NOW + 899).is_some());
    assert!(verify(&token, &new, NOW + 900).is_none());
    let listed = new.verifying_keys();
    assert_eq!((listed[0].retired_at, listed[0].verify_until), (None, None));
    assert_eq!(
        (listed[1].retired_at, listed[1].verify_until),
        (Some(NOW), Some(NOW + 900))
    );
    let key_ids = |now| -> Vec<String> {
        let set = new.jwks(now);
        set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        key_ids(NOW + 899),
        [new.key_id().to_string(), old.key_id().to_string()]
    );
    assert_eq!(key_ids(NOW + 900), [new.key_id().to_string()]);
}

#[test]
fn the_published_set_has_public_members_only() {
    for (algorithm, expected) in [
        (ES256, &["alg", "crv", "kid", "kty", "use", "x", "y"][..]),
        (SigningAlgorithm::RS256, &["alg", "e", "kid", "kty", "n", "use"]),
        (SigningAlgorithm::EdDSA, &["alg", "crv", "kid", "kty", "use", "x"]),
    ] {
        let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), algorithm, NOW).unwrap();
        let set = keys.jwks(NOW);
        let mut members: Vec<_> = set["keys"][0]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        members.sort_unstable();
        assert_eq!(members, expected);
    }
}

#[test]
fn a_damaged_key_is_an_error_that_rotation_repairs() {
    let state = Sqlite::in_memory().unwrap();
    let mut row = generate(ES256, NOW).unwrap();
    row.private_key = generate(ES256, NOW).unwrap().private_key;
    state.ensure_signing_key(&row).unwrap();
    let error = SigningKeys::load_or_create(&state, ES256, NOW)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("do not belong together") && error.contains("passgate key rotate"),
        "{error}"
    );
    SigningKeys::rotate(&state, ES256, NOW, 900).unwrap();

    let state = Sqlite::in_memory().unwrap();
    state
        .ensure_signing_key(&SigningKeyRow {
            key_id: "forged".to_owned(),
            ..generate(ES256, NOW).unwrap()
        })
        .unwrap();
    assert!(matches!(
        SigningKeys::load_or_create(&state, ES256, NOW),
        Err(SigningError::Damaged { .. })
    ));
    assert_eq!(
        SigningKeys::rotate(&state, ES256, NOW, 900)
            .unwrap()
            .verifying_keys()
            .len(),
        1
    );
}

#[test]
fn a_minted_token_says_what_was_asked_and_no_more() {
    let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), ES256, NOW).unwrap();
    let mut request = MintRequest::new("https://app.example.com", "alice");
    let (head, mut claims) = verify(&keys.mint(&request, NOW).unwrap(), &keys, NOW).unwrap();
    assert_eq!(head["typ"], "at+jwt");
    let id = uuid::Uuid::parse_str(claims["jti"].take().as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    let url = "https://app.example.com";
    let all = json!({"iss": url, "aud": url, "sub": "alice", "roles": [], "jti": null, "iat": NOW, "exp": NOW + 900});
    assert_eq!(claims, all);

    request.roles = vec!["admin".to_owned()];
    request.email = Some("a@example.com".to_owned());
    request.name = Some("Alice".to_owned());
    request.scopes = vec!["reports:read".to_owned(), "x".to_owned()];
    request.lifetime = 60;
    request.claims.insert("tenant".to_owned(), "acme".into());
    let (_, claims) = verify(&keys.mint(&request, NOW).unwrap(), &keys, NOW).unwrap();
    assert_eq!(claims["roles"], json!(["admin"]));
    assert_eq!(claims["scope"], "reports:read x");
    assert_eq!(
        (&claims["email"], &claims["name"]),
        (&json!("a@example.com"), &json!("Alice"))
    );
    assert_eq!(
        (&claims["tenant"], &claims["exp"]),
        (&json!("acme"), &json!(NOW + 60))
    );
}

#[test]
fn a_token_that_nobody_would_take_is_not_minted() {
    let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), ES256, NOW).unwrap();
    let good = MintRequest::new("https://app.example.com", "alice");
    let bad = [
        MintRequest {
            subject: String::new(),
            ..good.clone()
        },
        MintRequest {
            lifetime: 0,
            ..good.clone()
        },
        MintRequest {
            scopes: vec!["two words".to_owned()],
            ..good.clone()
        },
        MintRequest {
            scopes: vec![String::new()],
            ..good.clone()
        },
        MintRequest {
            claims: Map::from_iter([("exp".to_owned(), json!(1))]),
            ..good.clone()
        },
    ];
    for request in bad {
        assert!(keys.mint(&request, NOW).is_err(), "{request:?}");
    }
}

#[test]
fn an_assertion_names_the_caller_to_one_app_for_a_minute() {
    let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), ES256, NOW).unwrap();
    let assertions = Assertions::new("https://app.example.com");
    let value = assertions
        .assertion(&caller(NOW + 900), &"app".into(), &keys, NOW)
        .unwrap();
    let (head, claims) = verify(value.to_str().unwrap(), &keys, NOW).unwrap();
    assert_eq!(head["typ"], "assertion+jwt");
    let all = json!({
        "iss": "https://app.example.com", "aud": "app", "sub": "u-1", "email": "ä@example.com",
        "roles": ["admin", "a,b"], "idp": "corp", "iat": NOW, "exp": NOW + 60,
    });
    assert_eq!(claims, all);
}

#[test]
fn an_assertion_is_reused_until_near_its_end_and_not_for_another_app_or_key() {
    let state = Sqlite::in_memory().unwrap();
    let keys = SigningKeys::load_or_create(&state, ES256, NOW).unwrap();
    let assertions = Assertions::new("https://app.example.com");
    let caller = caller(NOW + 900);
    let at = |upstream: &str, keys: &SigningKeys, now| {
        assertions
            .assertion(&caller, &upstream.into(), keys, now)
            .unwrap()
    };
    let first = at("app", &keys, NOW);
    assert_eq!(at("app", &keys, NOW + 44), first);
    let second = at("app", &keys, NOW + 45);
    assert_eq!(claims_of(&second, &keys)["iat"], NOW + 45);
    assert_eq!(claims_of(&at("other", &keys, NOW + 45), &keys)["aud"], "other");
    assert_eq!(at("app", &keys, NOW + 46), second);
    // The clock went back: one from the future is not sent.
    assert_eq!(claims_of(&at("app", &keys, NOW), &keys)["iat"], NOW);
    let rotated = SigningKeys::rotate(&state, ES256, NOW + 46, 900).unwrap();
    let third = at("app", &rotated, NOW + 46);
    assert_eq!(
        verify(third.to_str().unwrap(), &rotated, NOW).unwrap().0["kid"],
        **rotated.key_id()
    );
}

#[test]
fn an_assertion_ends_with_the_token_and_even_then_is_not_signed_for_each_request() {
    let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), ES256, NOW).unwrap();
    let assertions = Assertions::new("https://app.example.com");
    let short = caller(NOW + 10);
    let at = |now| assertions.assertion(&short, &"app".into(), &keys, now).unwrap();
    let first = at(NOW);
    assert_eq!(claims_of(&first, &keys)["exp"], NOW + 10);
    assert_eq!(at(NOW + 9), first);
    // Taken within the issuer's leeway: good for the few seconds of the request.
    let late = at(NOW + 12);
    assert_eq!(claims_of(&late, &keys)["exp"], NOW + 17);
    assert_eq!(at(NOW + 16), late);
}

#[test]
fn what_is_kept_for_a_caller_is_bounded() {
    let keys = SigningKeys::load_or_create(&Sqlite::in_memory().unwrap(), ES256, NOW).unwrap();
    let assertions = Assertions::new("https://app.example.com");
    let caller = caller(NOW + 900);
    for number in 0..100 {
        assertions
            .assertion(&caller, &format!("app{number}").into(), &keys, NOW + number / 50)
            .unwrap();
    }
    assert_eq!(caller.assertions.lock().unwrap().len(), 32);
}

#[test]
fn debug_output_holds_no_private_key() {
    let state = Sqlite::in_memory().unwrap();
    let keys = SigningKeys::load_or_create(&state, ES256, NOW).unwrap();
    let private = state.signing_keys().unwrap()[0].private_key.clone().unwrap();
    let listed = format!("{:?}", &private[16..24]);
    assert!(!format!("{keys:?}").contains(listed.trim_matches(['[', ']'])));
}
