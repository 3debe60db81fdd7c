use super::*;
use proptest::prelude::*;

#[test]
fn a_good_token_names_its_caller() {
    let corp = Corp::new();
    let verified = corp
        .verify(&corp.token(&json!({"realm": {"tenant": "acme"}})))
        .unwrap();
    let identity = &verified.caller.identity;
    assert_eq!(&*identity.issuer, "corp");
    assert_eq!(identity.subject, "ann");
    assert_eq!(identity.email.as_deref(), Some("ann@example.com"));
    assert_eq!(identity.name.as_deref(), Some("Ann"));
    assert_eq!(identity.roles, ["user", "admin"]);
    assert_eq!(identity.scopes, ["a:read", "b:write"]);
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(
        (identity.issued_at, identity.expires_at),
        (Some(NOW - 60), NOW + 600)
    );
    assert_eq!(identity.claims["realm"]["tenant"], "acme");
    assert_eq!(verified.good_until, NOW + 600);
}

#[test]
fn every_algorithm_verifies_with_a_key_of_its_kind_and_with_no_other() {
    let signers = [Signer::p256(), Signer::p384(), Signer::ed25519(), Signer::p521()];
    let (rsa, secret) = (Signer::rsa(), Signer::secret());
    for algorithm in Algorithm::ALL {
        let signer = match algorithm.family() {
            Family::Rsa => rsa,
            Family::P256 => &signers[0],
            Family::P384 => &signers[1],
            Family::P521 => &signers[3],
            Family::Ed25519 => &signers[2],
            Family::Hmac => &secret,
        };
        let token = signer.sign(&json!({"alg": algorithm.as_str(), "kid": "k"}), &good_claims());
        let judge = |keys: KeySet| verify_signature(&token, &keys, Algorithm::ALL).map(|_| ());
        assert_eq!(judge(key_set(&[signer.jwk("k")])), Ok(()), "{algorithm}");
        assert!(judge(key_set(&[Signer::p384().jwk("k")])).is_err(), "{algorithm}");
        assert!(
            judge(key_set(&[Signer::ed25519().jwk("k")])).is_err(),
            "{algorithm}"
        );
        let others: Vec<_> = Algorithm::ALL
            .iter()
            .copied()
            .filter(|other| other != algorithm)
            .collect();
        let keys = key_set(&[signer.jwk("k")]);
        assert_eq!(
            verify_signature(&token, &keys, &others),
            Err(Refusal::AlgorithmRefused),
            "{algorithm}"
        );
        let mut bound = signer.jwk("k");
        bound["alg"] = others
            .iter()
            .find(|other| other.family() == algorithm.family())
            .map_or(json!("none"), |other| json!(other.as_str()));
        let (keys, _) =
            KeySet::from_jwks(json!({"keys": [bound]}).to_string().as_bytes(), Origin::File).unwrap();
        assert_eq!(
            judge(keys),
            Err(Refusal::KeyUnknown),
            "{algorithm} with a key that is bound to another"
        );
    }
}

#[test]
fn a_public_key_is_never_a_shared_secret() {
    // The attack of RFC 8725 section 2.1: HMAC with the text of the public key, which everybody knows.
    let rsa = Signer::rsa();
    let spki = rsa.spki();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&spki)
    );
    for secret in [
        spki,
        pem.clone().into_bytes(),
        pem.trim().as_bytes().to_vec(),
        rsa.jwk("k").to_string().into_bytes(),
    ] {
        let token = Signer::Secret(secret).sign(&json!({"alg": "HS256", "kid": "k"}), &good_claims());
        for keys in [
            key_set(&[rsa.jwk("k")]),
            KeySet::from_pem(pem.as_bytes()).unwrap(),
        ] {
            let corp = verifier(vec![corp(keys)]);
            assert_eq!(
                corp.verify(&mut LocalCache::new(), &token, NOW).unwrap_err(),
                Refusal::KeyUnknown
            );
        }
    }
}

#[test]
fn a_token_that_is_not_three_strict_parts_is_refused() {
    let corp = Corp::new();
    let good = corp.token(&json!({}));
    assert!(corp.verify(&good).is_ok());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    for (token, expected) in [
        (String::new(), Refusal::TokenMalformed),
        ("x".to_owned(), Refusal::TokenMalformed),
        ("..".to_owned(), Refusal::TokenMalformed),
        (format!("{header}.{payload}"), Refusal::TokenMalformed),
        (format!("{good}."), Refusal::TokenMalformed),
        (format!("{good}.."), Refusal::TokenEncrypted),
        (format!("{good}.a.b"), Refusal::TokenEncrypted),
        (format!("{good}.a.b.c"), Refusal::TokenMalformed),
        (format!("{good}="), Refusal::TokenMalformed),
        (format!("{good}\n"), Refusal::TokenMalformed),
        (format!(" {good}"), Refusal::TokenMalformed),
        (
            format!("{header}.{payload} .{signature}"),
            Refusal::TokenMalformed,
        ),
        (format!("{header}..{signature}"), Refusal::TokenMalformed),
        (format!(".{payload}.{signature}"), Refusal::TokenMalformed),
        (format!("{header}.{payload}."), Refusal::SignatureInvalid),
        (
            format!("{}.{payload}.{signature}", encode("[]")),
            Refusal::TokenMalformed,
        ),
        (
            format!("{}.{payload}.{signature}", encode("{\"alg\":\"ES256\"")),
            Refusal::TokenMalformed,
        ),
        (
            format!("{header}.{}.{signature}", encode("\"ann\"")),
            Refusal::TokenMalformed,
        ),
        ("a".repeat(MAX_TOKEN_BYTES + 1), Refusal::TokenTooLarge),
        (
            format!("{header}.{}.{signature}", "A".repeat(MAX_TOKEN_BYTES)),
            Refusal::TokenTooLarge,
        ),
    ] {
        assert_eq!(corp.verify(&token).unwrap_err(), expected, "{token:.200}");
    }
}

#[test]
fn one_signature_has_one_spelling() {
    let corp = Corp::new();
    let good = corp.token(&json!({}));
    // 64 bytes leave four unused bits in the last of 86 characters.
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = ALPHABET
        .iter()
        .position(|byte| *byte == *good.as_bytes().last().unwrap())
        .unwrap();
    for other in 1..16 {
        let spelled = format!(
            "{}{}",
            &good[..good.len() - 1],
            char::from(ALPHABET[last ^ other])
        );
        assert_eq!(corp.verify(&spelled).unwrap_err(), Refusal::TokenMalformed);
    }
}

#[test]
fn a_name_that_stands_twice_is_refused_in_the_header_and_at_every_depth_of_the_claims() {
    let corp = Corp::new();
    let claims = good_claims().to_string();
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    assert!(
        corp.verify(&corp.signer.sign_text("ES256", header, &claims))
            .is_ok()
    );
    for (header, payload) in [
        (r#"{"alg":"ES256","kid":"k","alg":"ES256"}"#, claims.clone()),
        (r#"{"alg":"ES256","kid":"k","x":{"a":1,"a":2}}"#, claims.clone()),
        (header, claims.replacen('{', r#"{"sub":"root","#, 1)),
        (header, claims.replacen('{', r#"{"\u0073ub":"root","#, 1)),
        (
            header,
            claims.replacen('{', r#"{"iss":"https://other.example/","#, 1),
        ),
        (
            header,
            claims.replacen('{', r#"{"realm":[{"roles":["a"],"roles":["admin"]}],"#, 1),
        ),
    ] {
        let token = corp.signer.sign_text("ES256", header, &payload);
        assert_eq!(
            corp.verify(&token).unwrap_err(),
            Refusal::TokenDuplicateName,
            "{header} {payload}"
        );
    }
}

#[test]
fn a_header_cannot_change_what_a_token_means_or_bring_its_own_key() {
    let corp = Corp::new();
    for extension in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"b64": false}),
        json!({"b64": true}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        header
            .as_object_mut()
            .unwrap()
            .extend(extension.as_object().unwrap().clone());
        assert_eq!(
            corp.judge_header(&header),
            Err(Refusal::TokenCritical),
            "{header}"
        );
    }
    let thief = Signer::p256();
    for member in ["jwk", "jku", "x5u", "x5c"] {
        let value = if member == "jwk" {
            thief.jwk("k")
        } else {
            json!("https://thief.example/keys")
        };
        let header = json!({"alg": "ES256", "kid": "k", member: value});
        assert_eq!(corp.judge_header(&header), Ok(()), "it is not looked at");
        let token = thief.sign(&header, &good_claims());
        assert_eq!(
            corp.verify(&token).unwrap_err(),
            Refusal::SignatureInvalid,
            "{member}"
        );
    }
    for kid in [json!(1), json!(null), json!(["k"]), json!({})] {
        assert_eq!(
            corp.judge_header(&json!({"alg": "ES256", "kid": kid})),
            Err(Refusal::TokenMalformed),
            "{kid}"
        );
    }
}

#[test]
fn an_algorithm_that_is_not_on_the_issuers_list_is_refused() {
    let corp = Corp::with(|issuer| issuer.algorithms = vec![Algorithm::RS256]);
    assert_eq!(corp.judge(&json!({})), Err(Refusal::AlgorithmRefused));
    let corp = Corp::new();
    for alg in [
        json!("none"),
        json!("None"),
        json!("nOnE"),
        json!(""),
        json!("es256"),
        json!("ES256K"),
        json!(null),
        json!(["ES256"]),
        json!(1),
    ] {
        assert_eq!(
            corp.judge_header(&json!({"alg": alg, "kid": "k"})),
            Err(Refusal::AlgorithmRefused),
            "{alg}"
        );
    }
    assert_eq!(
        corp.judge_header(&json!({"kid": "k"})),
        Err(Refusal::AlgorithmRefused)
    );
    let unsigned = format!(
        "{}.{}.",
        encode(r#"{"alg":"none"}"#),
        encode(good_claims().to_string())
    );
    assert_eq!(corp.verify(&unsigned).unwrap_err(), Refusal::AlgorithmRefused);
}

#[test]
fn a_token_of_another_kind_does_not_name_a_caller() {
    let corp = Corp::new();
    for (typ, expected) in [
        (json!("JWT"), Ok(())),
        (json!("at+jwt"), Ok(())),
        (json!("application/at+jwt"), Ok(())),
        (json!("session+jwt"), Err(Refusal::TokenType)),
        (json!("application/Assertion+JWT"), Err(Refusal::TokenType)),
        (json!("logout+jwt"), Err(Refusal::TokenType)),
        (json!(7), Err(Refusal::TokenType)),
    ] {
        assert_eq!(
            corp.judge_header(&json!({"alg": "ES256", "kid": "k", "typ": typ})),
            expected,
            "{typ}"
        );
    }
}

#[test]
fn our_own_access_tokens_are_taken_and_our_sessions_and_assertions_are_not() {
    let signer = Signer::ed25519();
    let mut issuers = Issuers::default();
    let own = issuers.add_own(
        "session",
        "https://app.example.com",
        "app",
        key_set(&[signer.jwk("1")]),
    );
    assert_eq!(own.unwrap().leeway, 0);
    let verifier = Verifier::new(issuers, Arc::new(Revocations::new()));
    let judge = |typ: &str, changes: Value| {
        let mut claims = claims_with(&json!({"iss": "https://app.example.com", "aud": "app"}));
        claims
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let token = signer.sign(&json!({"alg": "EdDSA", "kid": "1", "typ": typ}), &claims);
        verifier
            .verify(&mut LocalCache::new(), &token, NOW)
            .map(|verified| verified.caller.identity.issuer.to_string())
    };
    assert_eq!(judge("at+jwt", json!({})), Ok("session".to_owned()));
    for typ in ["session+jwt", "assertion+jwt", "JWT"] {
        assert_eq!(judge(typ, json!({})), Err(Refusal::TokenType), "{typ}");
    }
    assert_eq!(
        judge("at+jwt", json!({"exp": NOW})),
        Err(Refusal::Expired),
        "no leeway"
    );
    assert_eq!(
        judge("at+jwt", json!({"iat": NOW + 1})),
        Err(Refusal::NotYetValid),
        "no leeway"
    );
    assert_eq!(
        judge("at+jwt", json!({"aud": "other-app"})),
        Err(Refusal::AudienceRefused)
    );
}

#[test]
fn the_issuer_is_one_exact_string() {
    let corp = Corp::new();
    for (iss, expected) in [
        (json!(ISS), Ok(())),
        (json!(null), Err(Refusal::IssuerMalformed)),
        (json!([ISS]), Err(Refusal::IssuerMalformed)),
        (json!({"iss": ISS}), Err(Refusal::IssuerMalformed)),
        (json!(1), Err(Refusal::IssuerMalformed)),
        (json!(""), Err(Refusal::IssuerUnknown)),
        (json!(ISS.trim_end_matches('/')), Err(Refusal::IssuerUnknown)),
        (json!(ISS.to_uppercase()), Err(Refusal::IssuerUnknown)),
        (json!("https://other.example/"), Err(Refusal::IssuerUnknown)),
    ] {
        assert_eq!(corp.judge(&json!({"iss": iss})), expected, "{iss}");
    }
    let token = corp.signer.sign_text(
        "ES256",
        r#"{"alg":"ES256"}"#,
        &good_claims()
            .to_string()
            .replace("\"https://id.example.com/\"", "null"),
    );
    assert_eq!(corp.verify(&token).unwrap_err(), Refusal::IssuerMalformed);
}

#[test]
fn a_key_speaks_for_its_own_issuer_only_also_under_an_equal_kid() {
    let (one, two) = (Signer::p256(), Signer::p256());
    let mut other = Issuer::new(
        "other",
        "https://other.example/".to_owned(),
        Some(key_set(&[two.jwk("k")])),
    );
    other.audiences = vec!["api".to_owned()];
    other.algorithms = Algorithm::ALL.to_vec();
    let verifier = verifier(vec![corp(key_set(&[one.jwk("k")])), other]);
    let judge = |signer: &Signer, iss: &str| {
        let token = signer.sign(
            &json!({"alg": "ES256", "kid": "k"}),
            &claims_with(&json!({"iss": iss})),
        );
        verifier
            .verify(&mut LocalCache::new(), &token, NOW)
            .map(|verified| verified.caller.identity.issuer.to_string())
    };
    assert_eq!(judge(&one, ISS), Ok("corp".to_owned()));
    assert_eq!(judge(&two, "https://other.example/"), Ok("other".to_owned()));
    assert_eq!(judge(&two, ISS), Err(Refusal::SignatureInvalid));
    assert_eq!(
        judge(&one, "https://other.example/"),
        Err(Refusal::SignatureInvalid)
    );
}

#[test]
fn the_times_of_a_token_are_numbers_and_hold() {
    let corp = Corp::new();
    let leeway = 30;
    for (changes, expected) in [
        (json!({"exp": null}), Err(Refusal::TimeMalformed)),
        (json!({"exp": "1900000000"}), Err(Refusal::TimeMalformed)),
        (json!({"exp": true}), Err(Refusal::TimeMalformed)),
        (json!({"exp": [NOW + 9]}), Err(Refusal::TimeMalformed)),
        (json!({"exp": NOW + 1}), Ok(())),
        (json!({"exp": NOW as f64 + 1.5}), Ok(())),
        (json!({"exp": NOW - leeway + 1}), Ok(())),
        (json!({"exp": NOW - leeway}), Err(Refusal::Expired)),
        (json!({"exp": 0}), Err(Refusal::Expired)),
        (json!({"exp": -1e300}), Err(Refusal::Expired)),
        (json!({"exp": i64::MIN}), Err(Refusal::Expired)),
        (json!({"exp": 253_402_300_799_i64}), Ok(())),
        (json!({"exp": (NOW + 600) * 1000}), Err(Refusal::TimeMalformed)),
        (json!({"exp": 1e300}), Err(Refusal::TimeMalformed)),
        (json!({"exp": u64::MAX}), Err(Refusal::TimeMalformed)),
        (json!({"exp": i64::MAX}), Err(Refusal::TimeMalformed)),
        (json!({"nbf": NOW + leeway}), Ok(())),
        (json!({"nbf": NOW + leeway + 1}), Err(Refusal::NotYetValid)),
        (json!({"nbf": NOW as f64 - 0.5}), Ok(())),
        (json!({"nbf": "0"}), Err(Refusal::TimeMalformed)),
        (json!({"nbf": 1e300}), Err(Refusal::NotYetValid)),
        (json!({"nbf": u64::MAX}), Err(Refusal::NotYetValid)),
        (json!({"iat": null}), Ok(())),
        (json!({"iat": NOW + leeway}), Ok(())),
        (json!({"iat": NOW + leeway + 1}), Err(Refusal::NotYetValid)),
        (json!({"iat": 1e300}), Err(Refusal::NotYetValid)),
        (json!({"iat": false}), Err(Refusal::TimeMalformed)),
        (json!({"iat": -1e300}), Ok(())),
    ] {
        assert_eq!(corp.judge(&changes), expected, "{changes}");
    }
    for name in ["exp", "nbf", "iat"] {
        let text = good_claims()
            .to_string()
            .replacen('{', &format!("{{\"{name}\":null,"), 1);
        let text = if name == "nbf" {
            text
        } else {
            claims_with(&json!({name: null}))
                .to_string()
                .replacen('{', &format!("{{\"{name}\":null,"), 1)
        };
        let token = corp.signer.sign_text("ES256", r#"{"alg":"ES256"}"#, &text);
        assert_eq!(corp.verify(&token).unwrap_err(), Refusal::TimeMalformed, "{name}");
    }
    for literal in ["1e400", "NaN", "Infinity"] {
        let text =
            claims_with(&json!({"exp": null}))
                .to_string()
                .replacen('{', &format!("{{\"exp\":{literal},"), 1);
        let token = corp.signer.sign_text("ES256", r#"{"alg":"ES256"}"#, &text);
        assert_eq!(
            corp.verify(&token).unwrap_err(),
            Refusal::TokenMalformed,
            "{literal}"
        );
    }
    let strict = Corp::with(|issuer| issuer.leeway = 0);
    assert_eq!(strict.judge(&json!({"exp": NOW})), Err(Refusal::Expired));
    assert_eq!(strict.judge(&json!({"exp": NOW + 1})), Ok(()));
}

#[test]
fn a_greatest_age_counts_from_iat_and_needs_it() {
    let corp = Corp::with(|issuer| issuer.max_age = Some(3600));
    for (changes, expected) in [
        (json!({"iat": NOW - 3600}), Ok(())),
        (json!({"iat": NOW - 3630}), Ok(())),
        (json!({"iat": NOW - 3631}), Err(Refusal::TooOld)),
        (json!({"iat": i64::MIN}), Err(Refusal::TooOld)),
        (json!({"iat": null}), Err(Refusal::TimeMalformed)),
    ] {
        assert_eq!(corp.judge(&changes), expected, "{changes}");
    }
    let verified = corp.verify(&corp.token(&json!({"iat": NOW - 3590}))).unwrap();
    assert_eq!(verified.good_until, NOW + 10, "a cache may not keep it longer");
}

#[test]
fn the_audience_is_ours_and_of_the_right_type() {
    let corp = Corp::with(|issuer| issuer.audiences = vec!["api".into(), "web".into()]);
    for (aud, expected) in [
        (json!("api"), Ok(())),
        (json!(["x", "web"]), Ok(())),
        (json!(null), Err(Refusal::AudienceMalformed)),
        (json!(1), Err(Refusal::AudienceMalformed)),
        (json!({"api": true}), Err(Refusal::AudienceMalformed)),
        (json!(["api", 1]), Err(Refusal::AudienceMalformed)),
        (json!([["api"]]), Err(Refusal::AudienceMalformed)),
        (json!([]), Err(Refusal::AudienceRefused)),
        (json!(""), Err(Refusal::AudienceRefused)),
        (json!("API"), Err(Refusal::AudienceRefused)),
        (json!("api web"), Err(Refusal::AudienceRefused)),
        (json!(["other"]), Err(Refusal::AudienceRefused)),
    ] {
        assert_eq!(corp.judge(&json!({"aud": aud})), expected, "{aud}");
    }
    let cognito =
        Corp::with(|issuer| issuer.audience_claim = crate::identity::ClaimPath::parse("client_id").unwrap());
    for (changes, expected) in [
        (json!({"aud": null, "client_id": "api"}), Ok(())),
        (json!({"aud": "other", "client_id": "api"}), Ok(())),
        (
            json!({"aud": 1, "client_id": "api"}),
            Err(Refusal::AudienceMalformed),
        ),
        (json!({"aud": "api"}), Err(Refusal::AudienceMalformed)),
        (json!({"client_id": "other"}), Err(Refusal::AudienceRefused)),
    ] {
        assert_eq!(cognito.judge(&changes), expected, "{changes}");
    }
}

#[test]
fn the_subject_is_a_string_that_is_not_empty() {
    let corp = Corp::new();
    for sub in [
        json!(null),
        json!(""),
        json!(1),
        json!(["ann"]),
        json!({"id": "ann"}),
        json!(true),
    ] {
        assert_eq!(
            corp.judge(&json!({"sub": sub})),
            Err(Refusal::SubjectMalformed),
            "{sub}"
        );
    }
    assert_eq!(
        corp.judge(&json!({"jti": 7})),
        Err(Refusal::TokenMalformed),
        "it could not be revoked"
    );
    assert_eq!(corp.judge(&json!({"jti": null})), Ok(()));
    let verified = corp
        .verify(&corp.token(&json!({"email": 1, "name": ["x"]})))
        .unwrap();
    assert_eq!(
        (&verified.caller.identity.email, &verified.caller.identity.name),
        (&None, &None)
    );
}

#[test]
fn roles_and_scopes_come_from_strings_only() {
    let paths = ["realm_access.roles", "role"].map(|text| crate::identity::ClaimPath::parse(text).unwrap());
    let corp = Corp::with(|issuer| issuer.roles_claims = paths.to_vec());
    let roles = |changes: Value| {
        corp.verify(&corp.token(&changes))
            .unwrap()
            .caller
            .identity
            .roles
            .clone()
    };
    assert_eq!(
        roles(json!({"realm_access": {"roles": ["a", "b", "a", ""]}, "role": "c"})),
        ["a", "b", "c"]
    );
    assert_eq!(
        roles(json!({"realm_access": {"roles": ["a", 1]}, "role": "c"})),
        ["c"],
        "one wrong entry spoils a claim"
    );
    assert_eq!(
        roles(json!({"realm_access": ["a"], "role": {"admin": true}})),
        ["admin"],
        "the names of an object"
    );
    assert_eq!(roles(json!({"realm_access": ["a"], "role": true})), [""; 0]);
    assert_eq!(roles(json!({})), [""; 0], "`roles` is not asked for here");
    let scopes = |changes: Value| {
        corp.verify(&corp.token(&changes))
            .unwrap()
            .caller
            .identity
            .scopes
            .clone()
    };
    assert_eq!(scopes(json!({"scope": null, "scp": "x y"})), ["x", "y"]);
    assert_eq!(scopes(json!({"scope": null, "scp": ["x", "y z"]})), ["x", "y z"]);
    assert_eq!(scopes(json!({"scope": null, "scp": ["x", 1]})), [""; 0]);
    assert_eq!(scopes(json!({"scope": 1, "scp": "x"})), [""; 0]);
}

#[test]
fn without_a_kid_every_key_of_the_kind_is_tried() {
    let signers: Vec<_> = (0..16).map(|_| Signer::p256()).collect();
    let mut jwks: Vec<_> = signers
        .iter()
        .enumerate()
        .map(|(n, signer)| signer.jwk(&n.to_string()))
        .collect();
    jwks.push(Signer::p384().jwk("p384"));
    let seventeenth = Signer::p256();
    jwks.push(seventeenth.jwk("17"));
    let keys = key_set(&jwks);
    let judge = |signer: &Signer, header: Value| {
        verify_signature(&signer.sign(&header, &good_claims()), &keys, Algorithm::ALL).map(|_| ())
    };
    assert_eq!(judge(&signers[15], json!({"alg": "ES256"})), Ok(()));
    assert_eq!(
        judge(&seventeenth, json!({"alg": "ES256"})),
        Err(Refusal::SignatureInvalid),
        "sixteen, and no more"
    );
    assert_eq!(judge(&seventeenth, json!({"alg": "ES256", "kid": "17"})), Ok(()));
    assert_eq!(
        judge(&signers[0], json!({"alg": "ES256", "kid": "1"})),
        Err(Refusal::SignatureInvalid)
    );
    assert_eq!(
        judge(&signers[0], json!({"alg": "ES256", "kid": "nobody"})),
        Err(Refusal::KeyUnknown)
    );
    assert_eq!(
        judge(Signer::rsa(), json!({"alg": "RS256"})),
        Err(Refusal::KeyUnknown)
    );
    let mut nameless = signers[0].jwk("");
    nameless.as_object_mut().unwrap().remove("kid");
    let keys = key_set(&[nameless, signers[1].jwk("1")]);
    let judge = |signer: &Signer| {
        verify_signature(
            &signer.sign(&json!({"alg": "ES256", "kid": "new"}), &good_claims()),
            &keys,
            Algorithm::ALL,
        )
    };
    assert!(judge(&signers[0]).is_ok(), "a key without a name may be any");
    assert_eq!(
        judge(&signers[1]),
        Err(Refusal::KeyUnknown),
        "a key with a name is only that one"
    );
}

#[test]
fn an_examination_tells_every_step_and_goes_on_after_a_claim_that_failed() {
    let corp = Corp::new();
    let examine = |token: &str| {
        let mut steps = Vec::new();
        let outcome = corp.verifier.examine(token, NOW, &mut |step| steps.push(step));
        (outcome.map(|_| ()), steps)
    };
    let (outcome, steps) = examine(&corp.token(&json!({})));
    assert_eq!(outcome, Ok(()));
    assert!(steps.iter().all(|step| step.outcome.is_ok()));
    let names: Vec<_> = steps.iter().map(|step| step.name).collect();
    assert_eq!(
        names,
        [
            "form",
            "header",
            "algorithm",
            "key-id",
            "payload",
            "issuer",
            "issuer-known",
            "algorithm-listed",
            "type",
            "keys",
            "signature",
            "expires",
            "not-before",
            "issued-at",
            "audience",
            "subject",
            "token-id",
            "revocation"
        ]
    );
    let (outcome, steps) = examine(&corp.token(&json!({"exp": NOW - 100, "aud": "other"})));
    assert_eq!(
        outcome,
        Err(Refusal::Expired),
        "the first one counts, as for a request"
    );
    let failed: Vec<_> = steps
        .iter()
        .filter(|step| step.outcome.is_err())
        .map(|step| step.name)
        .collect();
    assert_eq!(failed, ["expires", "audience"]);
    assert!(
        steps
            .iter()
            .any(|step| step.detail.contains(r#"`aud` is "other", accepted are ["api"]"#))
    );
    let (outcome, steps) = examine("nonsense");
    assert_eq!((outcome, steps.len()), (Err(Refusal::TokenMalformed), 1));
    let (outcome, steps) =
        examine(&Signer::p256().sign(&json!({"alg": "ES256", "kid": "k"}), &good_claims()));
    assert_eq!(
        (outcome, steps.last().unwrap().name),
        (Err(Refusal::SignatureInvalid), "signature")
    );
}

#[test]
fn any_change_of_a_single_byte_is_refused() {
    let corp = Corp::new();
    let good = corp.token(&json!({"email": null, "name": null, "roles": null, "scope": null}));
    let mut local = LocalCache::new();
    assert!(corp.verifier.verify(&mut local, &good, NOW).is_ok());
    for index in 0..good.len() {
        for replacement in [
            b'A',
            b'B',
            b'.',
            b'_',
            b'=',
            b' ',
            good.as_bytes()[index] ^ 1,
            good.as_bytes()[index] ^ 0x20,
        ] {
            let mut bytes = good.clone().into_bytes();
            if bytes[index] == replacement {
                continue;
            }
            bytes[index] = replacement;
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                corp.verifier.verify(&mut local, &changed, NOW).is_err(),
                "byte {index} as {replacement}"
            );
        }
    }
}

fn a_signed_secret() -> &'static (Verifier, String) {
    static SIGNED: OnceLock<(Verifier, String)> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let signer = Signer::secret();
        let token = signer.sign(&json!({"alg": "HS256", "kid": "k"}), &good_claims());
        (verifier(vec![corp(key_set(&[signer.jwk("k")]))]), token)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics_and_never_passes(token in ".{0,300}") {
        let (verifier, _) = a_signed_secret();
        prop_assert!(verifier.verify(&mut LocalCache::new(), &token, NOW).is_err());
        let _ = read_unverified(&token);
    }

    #[test]
    fn arbitrary_parts_never_panic_and_never_pass(header in ".{0,80}", payload in ".{0,200}", signature in proptest::collection::vec(any::<u8>(), 0..80)) {
        let (verifier, _) = a_signed_secret();
        let token = format!("{}.{}.{}", encode(header), encode(payload), encode(signature));
        prop_assert!(verifier.verify(&mut LocalCache::new(), &token, NOW).is_err());
    }

    #[test]
    fn signed_claims_of_any_type_never_panic(name in prop::sample::select(vec!["exp", "nbf", "iat", "aud", "sub", "iss", "jti", "roles", "scope", "scp"]), number in any::<f64>(), whole in any::<i64>(), text in ".{0,20}") {
        let (verifier, _) = a_signed_secret();
        for value in [json!(number), json!(whole), json!(text), json!([text, whole]), json!({ "a": number }), json!([[number]])] {
            let token = Signer::secret().sign(&json!({"alg": "HS256", "kid": "k"}), &claims_with(&json!({name: value})));
            let _ = verifier.examine(&token, NOW, &mut |_| {});
        }
    }

    #[test]
    fn any_edit_of_a_good_token_is_refused(index in any::<prop::sample::Index>(), byte in 0_u8..128, edit in 0..3) {
        let (verifier, good) = a_signed_secret();
        let mut bytes = good.clone().into_bytes();
        let at = index.index(bytes.len());
        match edit {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => { bytes.remove(at); }
        }
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert_eq!(verifier.verify(&mut LocalCache::new(), &changed, NOW).is_ok(), changed == *good);
    }

    #[test]
    fn a_jwk_set_of_any_text_never_panics(text in ".{0,300}", member in prop::sample::select(vec!["kty", "n", "e", "x", "y", "crv", "k", "alg", "use", "key_ops", "kid"])) {
        let _ = KeySet::from_jwks(text.as_bytes(), Origin::Fetched);
        let _ = KeySet::from_pem(text.as_bytes());
        let mut jwk = Signer::secret().jwk("k");
        jwk[member] = json!(text);
        let _ = KeySet::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes(), Origin::File);
    }
}

#[test]
fn only_the_one_spelling_of_a_value_is_read() {
    use jws::decode_base64url as decode;
    assert_eq!(decode("Zm9v").as_deref(), Some(&b"foo"[..]));
    assert_eq!(decode("").as_deref(), Some(&b""[..]));
    assert_eq!(decode("_-8").as_deref(), Some(&[0xff, 0xef][..]));
    for wrong in [
        "Zg==", "Zg=", "Zh", "Zm9v\n", " Zm9v", "Zm 9v", "+_8", "/_8", "A", "Zm9vA", "Zm9ü",
    ] {
        assert_eq!(decode(wrong), None, "{wrong:?}");
    }
}
