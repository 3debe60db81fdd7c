use super::*;

fn read(jwks: &[Value], origin: Origin) -> Result<(usize, Vec<String>), String> {
    KeySet::from_jwks(json!({"keys": jwks}).to_string().as_bytes(), origin)
        .map(|(set, skipped)| (set.len(), skipped))
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

/// What one JWK is left out for.
fn reason(jwk: &Value) -> String {
    match read(std::slice::from_ref(jwk), Origin::Fetched).unwrap() {
        (1, _) => "nothing".to_owned(),
        (_, skipped) => skipped.concat(),
    }
}

fn rsa_of(modulus: &[u8], exponent: &[u8]) -> Value {
    json!({"kty": "RSA", "kid": "k", "n": encode(modulus), "e": encode(exponent)})
}

/// An odd number of that many bits.
fn modulus(bits: usize) -> Vec<u8> {
    let mut number = vec![0xb5; bits.div_ceil(8)];
    number[0] = 0xff >> ((8 - bits % 8) % 8);
    number
}

/// A number of 2048 bits that is 1, a power of 65537, modulo every odd prime up to 167.
fn roca_modulus() -> Vec<u8> {
    let is_prime = |n: &u32| (2..*n).all(|divisor| !n.is_multiple_of(divisor));
    let mut product = vec![1_u8];
    for prime in (3..=167).filter(is_prime) {
        let mut carry = 0;
        for byte in product.iter_mut().rev() {
            carry += u32::from(*byte) * prime;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        if carry > 0 {
            product.insert(0, u8::try_from(carry).unwrap());
        }
    }
    product.resize(255, 0);
    // Times 256, plus 1; the first byte is that of the product, which fills its highest bits or not.
    product.push(1);
    while product[0] < 0x80 {
        let last = product.len() - 1;
        product[last] = 0;
        let mut carry = 0;
        for byte in product.iter_mut().rev() {
            let doubled = u16::from(*byte) * 2 + carry;
            *byte = (doubled & 0xff) as u8;
            carry = doubled >> 8;
        }
        product[last] = 1;
    }
    product
}

#[test]
fn what_a_jwk_says_about_its_use_is_enforced() {
    let (ec, rsa) = (Signer::p256().jwk("k"), Signer::rsa().jwk("k"));
    for (jwk, expected) in [
        (ec.clone(), "nothing"),
        (with(ec.clone(), "use", json!("sig")), "nothing"),
        (with(ec.clone(), "key_ops", json!(["verify"])), "nothing"),
        (with(ec.clone(), "alg", json!("ES256")), "nothing"),
        (with(ec.clone(), "x5c", json!(["ignored"])), "nothing"),
        (with(ec.clone(), "use", json!("enc")), "`use` is not `sig`"),
        (with(ec.clone(), "use", json!(null)), "`use` is not `sig`"),
        (
            with(ec.clone(), "key_ops", json!(["encrypt"])),
            "`key_ops` does not have `verify`",
        ),
        (
            with(ec.clone(), "key_ops", json!("verify")),
            "`key_ops` does not have `verify`",
        ),
        (
            with(ec.clone(), "key_ops", json!([])),
            "`key_ops` does not have `verify`",
        ),
        (
            with(ec.clone(), "alg", json!("RS256")),
            "`alg` is `RS256`, and the key is P-256",
        ),
        (
            with(ec.clone(), "alg", json!("ES384")),
            "`alg` is `ES384`, and the key is P-256",
        ),
        (
            with(ec.clone(), "alg", json!("HS256")),
            "`alg` is `HS256`, and the key is P-256",
        ),
        (
            with(ec.clone(), "alg", json!("none")),
            "`alg` is not a signature algorithm",
        ),
        (
            with(ec.clone(), "alg", json!(1)),
            "`alg` is not a signature algorithm",
        ),
        (
            with(rsa.clone(), "alg", json!("RSA-OAEP")),
            "`alg` is not a signature algorithm",
        ),
        (
            with(ec.clone(), "crv", json!("P-384")),
            "`x` is not 48 bytes long",
        ),
        (
            with(ec.clone(), "crv", json!("secp256k1")),
            "`crv` is not `P-256`",
        ),
        (with(ec.clone(), "kty", json!("RSA")), "no `n`"),
        (with(ec.clone(), "kty", json!("ec")), "`kty` is not one"),
        (with(ec.clone(), "kty", json!(null)), "no `kty`"),
        (with(ec.clone(), "kid", json!(1)), "`kid` is not a string"),
        (
            with(ec.clone(), "x", json!(format!("{}=", ec["x"].as_str().unwrap()))),
            "`x` is not base64url",
        ),
        (
            with(ec.clone(), "x", json!(encode([0; 31]))),
            "`x` is not 32 bytes long",
        ),
        (with(ec.clone(), "y", ec["x"].clone()), "not a valid P-256 key"),
        (with(ec.clone(), "d", json!(encode([1; 32]))), "a private key"),
        (with(rsa, "d", json!(encode([1; 32]))), "a private key"),
        (
            with(Signer::ed25519().jwk("k"), "crv", json!("X25519")),
            "`crv` is not `Ed25519`",
        ),
        (
            with(Signer::ed25519().jwk("k"), "x", json!(encode([1; 33]))),
            "`x` is not 32 bytes long",
        ),
    ] {
        assert!(reason(&jwk).contains(expected), "{jwk}: {}", reason(&jwk));
    }
}

#[test]
fn a_shared_secret_is_never_taken_from_the_network() {
    let secret = Signer::secret().jwk("s");
    let (keys, skipped) = read(&[secret.clone(), Signer::p256().jwk("k")], Origin::Fetched).unwrap();
    assert_eq!(keys, 1);
    assert_eq!(
        skipped,
        ["key `s`: a shared secret (`oct`), which is not taken from the network"]
    );
    assert_eq!(read(std::slice::from_ref(&secret), Origin::File), Ok((1, vec![])));
    let loose = with(
        secret.clone(),
        "k",
        json!(format!("{}=", secret["k"].as_str().unwrap())),
    );
    assert!(
        read(&[loose], Origin::File)
            .unwrap_err()
            .contains("`k` is not base64url")
    );
    assert!(
        read(&[secret, Signer::p256().jwk("k")], Origin::File)
            .unwrap_err()
            .contains("cannot stand in one set")
    );
}

#[test]
fn a_weak_key_is_an_error_in_a_file_and_left_out_of_a_fetched_set() {
    for (jwk, expected) in [
        (rsa_of(&modulus(1024), &[1, 0, 1]), "1024 bits"),
        (rsa_of(&modulus(2047), &[1, 0, 1]), "2047 bits"),
        (
            rsa_of(&[&[0; 200][..], &modulus(1024)].concat(), &[1, 0, 1]),
            "1024 bits",
        ),
        (rsa_of(&modulus(2048), &[1]), "exponent that is 1 or even"),
        (rsa_of(&modulus(2048), &[0, 0, 1]), "exponent that is 1 or even"),
        (rsa_of(&modulus(2048), &[2]), "exponent that is 1 or even"),
        (rsa_of(&modulus(2048), &[]), "exponent that is 1 or even"),
        (
            rsa_of(&[&modulus(2048)[..255], &[2]].concat(), &[1, 0, 1]),
            "modulus that is even",
        ),
        (rsa_of(&[], &[1, 0, 1]), "0 bits"),
        (rsa_of(&roca_modulus(), &[1, 0, 1]), "ROCA"),
    ] {
        assert!(reason(&jwk).contains(expected), "{}", reason(&jwk));
        assert!(read(&[jwk], Origin::File).unwrap_err().contains(expected));
    }
    for jwk in [
        rsa_of(&modulus(8200), &[1, 0, 1]),
        rsa_of(&modulus(2048), &[1, 0, 0, 0, 1]),
    ] {
        assert_eq!(read(&[jwk], Origin::File).unwrap().0, 0);
    }
    for (length, alg, expected) in [
        (31, "HS256", "31 bytes"),
        (47, "HS384", "47 bytes"),
        (63, "HS512", "63 bytes"),
        (0, "HS256", "0 bytes"),
    ] {
        let jwk = json!({"kty": "oct", "kid": "k", "alg": alg, "k": encode(vec![7; length])});
        assert!(
            read(std::slice::from_ref(&jwk), Origin::File)
                .unwrap_err()
                .contains(expected)
        );
        assert!(
            KeySet::from_secret(&vec![7; length], &[Algorithm::parse(alg).unwrap()])
                .unwrap_err()
                .contains(expected)
        );
    }
    assert!(
        KeySet::from_secret(&[7; 32], &[Algorithm::HS256, Algorithm::HS512])
            .unwrap_err()
            .contains("`HS512` needs at least 64")
    );
    assert!(KeySet::from_secret(&[7; 64], &[Algorithm::RS256]).is_err());
    assert!(KeySet::from_secret(&[7; 64], &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512]).is_ok());
    let without_alg = key_set(&[json!({"kty": "oct", "k": encode([7; 48])})]);
    assert_eq!(
        without_alg.keys()[0].algorithms().collect::<Vec<_>>(),
        [Algorithm::HS256, Algorithm::HS384]
    );
}

#[test]
fn a_set_is_an_object_with_at_most_a_hundred_keys() {
    let many: Vec<_> = (0..101).map(|n| Signer::ed25519().jwk(&n.to_string())).collect();
    assert_eq!(read(&many[..100], Origin::Fetched).unwrap().0, 100);
    assert!(read(&many, Origin::Fetched).unwrap_err().contains("101 keys"));
    assert_eq!(read(&[], Origin::Fetched), Ok((0, vec![])));
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[]}x"#,
        r#"{"keys":[],"keys":[]}"#,
    ] {
        assert!(
            KeySet::from_jwks(text.as_bytes(), Origin::Fetched).is_err(),
            "{text}"
        );
    }
    let twice = r#"{"keys":[{"kty":"EC","kty":"oct"}]}"#;
    assert!(
        KeySet::from_jwks(twice.as_bytes(), Origin::Fetched)
            .unwrap_err()
            .contains("no entry of `keys` is a JWK")
    );
}

#[test]
fn two_different_keys_of_one_name_are_nobodys() {
    let (one, two) = (Signer::p256().jwk("k"), Signer::p256().jwk("k"));
    let (keys, skipped) = read(&[one.clone(), two, Signer::p256().jwk("other")], Origin::Fetched).unwrap();
    assert_eq!((keys, skipped.len()), (1, 2), "{skipped:?}");
    assert_eq!(
        read(&[one.clone(), one.clone()], Origin::Fetched),
        Ok((1, vec![])),
        "the same key twice is one"
    );
    let (keys, skipped) = read(
        &[one, Signer::rsa().jwk("k"), Signer::p384().jwk("k")],
        Origin::Fetched,
    )
    .unwrap();
    assert_eq!(
        (keys, skipped.len()),
        (3, 0),
        "no token can mean both: {skipped:?}"
    );
    let bound = |alg: &str| with(Signer::rsa().jwk("k"), "alg", json!(alg));
    assert_eq!(
        read(&[bound("RS256"), bound("PS256")], Origin::Fetched),
        Ok((2, vec![]))
    );
}

#[test]
fn a_set_is_the_same_in_any_order_and_another_with_any_change() {
    let (one, two) = (Signer::p256().jwk("1"), Signer::rsa().jwk("2"));
    let set = key_set(&[one.clone(), two.clone()]);
    assert!(set.is_same(&key_set(&[two.clone(), one.clone()])));
    for other in [
        vec![one.clone()],
        vec![],
        vec![with(one.clone(), "kid", json!("3")), two.clone()],
        vec![
            with(one.clone(), "alg", json!("ES256")),
            with(two.clone(), "alg", json!("PS256")),
        ],
        vec![Signer::p256().jwk("1"), two.clone()],
    ] {
        assert!(!set.is_same(&key_set(&other)));
    }
}

#[test]
fn a_pem_file_gives_its_public_keys_and_a_private_one_is_refused() {
    let pem = |label: &str, der: &[u8]| {
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            base64::engine::general_purpose::STANDARD.encode(der)
        )
    };
    let (p256, p384, ed) = (Signer::p256(), Signer::p384(), Signer::ed25519());
    for (signer, alg) in [
        (Signer::rsa(), "RS256"),
        (Signer::rsa(), "PS512"),
        (&p256, "ES256"),
        (&p384, "ES384"),
        (&ed, "EdDSA"),
    ] {
        let keys = KeySet::from_pem(pem("PUBLIC KEY", &signer.spki()).as_bytes()).unwrap();
        for header in [json!({"alg": alg}), json!({"alg": alg, "kid": "any"})] {
            assert!(
                verify_signature(&signer.sign(&header, &good_claims()), &keys, Algorithm::ALL).is_ok(),
                "{alg}"
            );
        }
        let forged =
            Signer::secret().sign_text("HS256", &json!({"alg": alg, "kid": "any"}).to_string(), "{}");
        assert_eq!(
            verify_signature(&forged, &keys, Algorithm::ALL),
            Err(Refusal::SignatureInvalid)
        );
    }
    let two = [pem("PUBLIC KEY", &p256.spki()), pem("PUBLIC KEY", &p384.spki())].concat();
    assert_eq!(KeySet::from_pem(two.as_bytes()).unwrap().len(), 2);

    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["id.example.com".to_owned()])
        .unwrap()
        .self_signed(&pair)
        .unwrap()
        .pem();
    let keys = KeySet::from_pem(certificate.as_bytes()).unwrap();
    assert_eq!(keys.keys()[0].family(), Family::P256);

    let weak = signature::RsaPublicKeyComponents {
        n: modulus(1024),
        e: vec![1, 0, 1],
    };
    let weak = weak
        .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
        .unwrap();
    let weak_spki = weak.as_der().unwrap().as_ref().to_vec();
    for (text, expected) in [
        (pair.serialize_pem(), "private key"),
        (
            [certificate.clone(), pair.serialize_pem()].concat(),
            "private key",
        ),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(),
            "private key",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_owned(),
            "private key",
        ),
        (certificate.repeat(2), "a certificate and more"),
        (String::new(), "no `PUBLIC KEY`"),
        ("ssh-ed25519 AAAA".to_owned(), "no `PUBLIC KEY`"),
        (pem("PUBLIC KEY", b"nonsense"), "not a valid"),
        (pem("CERTIFICATE", b"nonsense"), "not a valid X.509"),
        (
            "-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----\n".to_owned(),
            "not valid PEM",
        ),
        (pem("PUBLIC KEY", &weak_spki), "1024 bits"),
    ] {
        assert!(
            KeySet::from_pem(text.as_bytes()).unwrap_err().contains(expected),
            "{expected}"
        );
    }
}

#[test]
fn debug_shows_no_material() {
    let secret = KeySet::from_secret(
        b"this secret must not be in any log, not even in part of one.....",
        &[Algorithm::HS256],
    )
    .unwrap();
    let shown = format!("{secret:?}");
    assert!(
        !shown.contains("this secret") && !shown.contains("Context") && shown.contains("HS256"),
        "{shown}"
    );
}

#[test]
fn the_provider_verifies_as_the_gateway_does() {
    use jsonwebtoken::{Algorithm, DecodingKey};
    let verify = |algorithm: Algorithm, key: &DecodingKey, token: &str| {
        let verifier = (PROVIDER.verifier_factory)(&algorithm, key).map_err(|error| error.to_string())?;
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = jws::decode_base64url(signature).unwrap();
        assert_eq!(verifier.algorithm(), algorithm);
        Ok::<_, String>(verifier.verify(message.as_bytes(), &signature).is_ok())
    };
    let key_of = |signer: &Signer| {
        let jwk = serde_json::from_value(signer.jwk("k")).unwrap();
        DecodingKey::from_jwk(&jwk).unwrap()
    };
    let (rsa, p256, secret) = (Signer::rsa(), Signer::p256(), Signer::secret());
    for (signer, name, algorithm) in [
        (rsa, "RS256", Algorithm::RS256),
        (rsa, "PS512", Algorithm::PS512),
        (&p256, "ES256", Algorithm::ES256),
        (&secret, "HS256", Algorithm::HS256),
    ] {
        let token = signer.sign(&json!({"alg": name}), &good_claims());
        assert_eq!(verify(algorithm, &key_of(signer), &token), Ok(true), "{name}");
        let other = signer.sign(&json!({"alg": name, "kid": "other"}), &good_claims());
        let (input, signature) = (
            other.rsplit_once('.').unwrap().0,
            token.rsplit_once('.').unwrap().1,
        );
        let forged = format!("{input}.{signature}");
        assert_eq!(verify(algorithm, &key_of(signer), &forged), Ok(false), "{name}");
    }
    for (key, algorithm) in [
        (key_of(rsa), Algorithm::HS256),
        (key_of(&p256), Algorithm::HS256),
        (key_of(&p256), Algorithm::ES384),
        (key_of(&secret), Algorithm::RS256),
        (DecodingKey::from_secret(b"short"), Algorithm::HS256),
        (
            DecodingKey::from_rsa_raw_components(&modulus(1024), &[1, 0, 1]),
            Algorithm::RS256,
        ),
    ] {
        assert!(verify(algorithm, &key, "a.b.").is_err(), "{algorithm:?}");
    }
}
