//! Tokens of an app that signed its own: no `iss`, no `aud`, and the user's id under a name of its own.

use super::*;
use crate::identity::ClaimPath;
use crate::revocation::{Revocation, Target};
use proptest::prelude::*;

/// What `jsonwebtoken` makes of `jwt.sign({ id, role }, JWT_SECRET, { expiresIn: "15m" })`.
fn payload(changes: &Value) -> Value {
    let mut claims = json!({"id": "5f3c", "role": "admin", "iat": NOW - 60, "exp": NOW + 840});
    claims
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    claims
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": "JWT"})
}

/// The issuer `express`, whose tokens may lack `iss` and `aud` and have their subject in `id`.
fn express(secret: &Signer) -> Issuer {
    let mut issuer = Issuer::new("express", "legacy".to_owned(), Some(secret_keys(secret)));
    issuer.algorithms = vec![Algorithm::HS256];
    issuer.may_lack_iss = true;
    issuer.may_lack_aud = true;
    issuer.subject_claims = vec![ClaimPath::parse("id").unwrap()];
    issuer
}

fn secret_keys(secret: &Signer) -> KeySet {
    let Signer::Secret(bytes) = secret else {
        panic!("not a secret")
    };
    KeySet::from_secret(bytes, &[Algorithm::HS256]).unwrap()
}

fn verify(verifier: &Verifier, token: &str) -> Result<(String, String), Refusal> {
    let verified = verifier.verify(&mut LocalCache::new(), token, NOW)?;
    let identity = &verified.caller.identity;
    Ok((identity.issuer.to_string(), identity.subject.clone()))
}

/// The subject, or the refusal, of a token with these claims besides those of [`payload`].
fn judge_with(change: impl FnOnce(&mut Issuer), changes: &Value) -> Result<String, Refusal> {
    let secret = Signer::secret();
    let mut issuer = express(&secret);
    change(&mut issuer);
    verify(
        &verifier(vec![issuer]),
        &secret.sign(&header(), &payload(changes)),
    )
    .map(|(_, subject)| subject)
}

fn judge(changes: &Value) -> Result<String, Refusal> {
    judge_with(|_| {}, changes)
}

#[test]
fn a_token_without_iss_and_aud_names_its_caller_where_both_may_be_missing() {
    let secret = Signer::secret();
    let verifier = verifier(vec![express(&secret)]);
    let token = secret.sign(&header(), &payload(&json!({"email": "ann@example.com"})));
    let verified = verifier.verify(&mut LocalCache::new(), &token, NOW).unwrap();
    let identity = &verified.caller.identity;
    assert_eq!(
        (&*identity.issuer, identity.subject.as_str()),
        ("express", "5f3c")
    );
    assert_eq!(identity.roles, ["admin"]);
    assert_eq!(identity.email.as_deref(), Some("ann@example.com"));
    assert_eq!(identity.session_id, None);
}

#[test]
fn only_what_the_issuer_lists_may_be_missing() {
    assert_eq!(
        judge_with(|issuer| issuer.may_lack_iss = false, &json!({})),
        Err(Refusal::IssuerMalformed)
    );
    assert_eq!(
        judge_with(|issuer| issuer.may_lack_aud = false, &json!({})),
        Err(Refusal::AudienceMalformed)
    );
    let without = |name: &str| {
        let secret = Signer::secret();
        let mut claims = payload(&json!({}));
        claims.as_object_mut().unwrap().remove(name);
        verify(
            &verifier(vec![express(&secret)]),
            &secret.sign(&header(), &claims),
        )
        .map(|_| ())
    };
    assert_eq!(without("exp"), Err(Refusal::TimeMalformed));
    assert_eq!(without("id"), Err(Refusal::SubjectMalformed));
    assert_eq!(without("role"), Ok(()));
    assert_eq!(judge(&json!({"exp": NOW - 30})), Err(Refusal::Expired));
}

#[test]
fn an_iss_that_is_there_is_not_missing_whatever_it_is() {
    assert_eq!(
        judge(&json!({"iss": "legacy"})),
        Ok("5f3c".to_owned()),
        "the one that it should have"
    );
    for (iss, expected) in [
        (json!(null), Refusal::IssuerMalformed),
        (json!(1), Refusal::IssuerMalformed),
        (json!(false), Refusal::IssuerMalformed),
        (json!([]), Refusal::IssuerMalformed),
        (json!(["legacy"]), Refusal::IssuerMalformed),
        (json!({}), Refusal::IssuerMalformed),
        (json!(""), Refusal::IssuerUnknown),
        (json!("Legacy"), Refusal::IssuerUnknown),
        (json!("express"), Refusal::IssuerUnknown),
        (json!("https://other.example/"), Refusal::IssuerUnknown),
    ] {
        assert_eq!(judge(&json!({"iss": iss})), Err(expected), "{iss}");
    }
}

#[test]
fn an_aud_that_is_there_is_compared() {
    for (aud, expected) in [
        (json!("api"), Refusal::AudienceRefused),
        (json!(""), Refusal::AudienceRefused),
        (json!([]), Refusal::AudienceRefused),
        (json!(null), Refusal::AudienceMalformed),
        (json!(1), Refusal::AudienceMalformed),
        (json!(["api", 1]), Refusal::AudienceMalformed),
    ] {
        assert_eq!(
            judge(&json!({"aud": aud})),
            Err(expected),
            "without `audiences` nobody is meant: {aud}"
        );
    }
    let api = |issuer: &mut Issuer| issuer.audiences = vec!["api".to_owned()];
    for (changes, expected) in [
        (json!({}), Ok("5f3c".to_owned())),
        (json!({"aud": "api"}), Ok("5f3c".to_owned())),
        (json!({"aud": ["web", "api"]}), Ok("5f3c".to_owned())),
        (json!({"aud": "web"}), Err(Refusal::AudienceRefused)),
        (json!({"aud": []}), Err(Refusal::AudienceRefused)),
        (json!({"aud": null}), Err(Refusal::AudienceMalformed)),
    ] {
        assert_eq!(judge_with(api, &changes), expected, "{changes}");
    }
    let other = |issuer: &mut Issuer| issuer.audience_claim = ClaimPath::parse("azp").unwrap();
    assert_eq!(
        judge_with(other, &json!({"aud": "web"})),
        Err(Refusal::AudienceMalformed),
        "it is for somebody"
    );
}

#[test]
fn the_subject_is_text_or_a_whole_number_under_its_own_name() {
    for (id, expected) in [
        (json!("5f3c"), Ok("5f3c")),
        (json!("42"), Ok("42")),
        (json!(42), Ok("42")),
        (json!(0), Ok("0")),
        (json!(9_007_199_254_740_991_u64), Ok("9007199254740991")),
        (json!(9_007_199_254_740_992_u64), Err(Refusal::SubjectMalformed)),
        (json!(u64::MAX), Err(Refusal::SubjectMalformed)),
        (json!(1e30), Err(Refusal::SubjectMalformed)),
        (json!(42.5), Err(Refusal::SubjectMalformed)),
        (json!(42.0), Err(Refusal::SubjectMalformed)),
        (json!(-1), Err(Refusal::SubjectMalformed)),
        (json!(i64::MIN), Err(Refusal::SubjectMalformed)),
        (json!(""), Err(Refusal::SubjectMalformed)),
        (json!(null), Err(Refusal::SubjectMalformed)),
        (json!(true), Err(Refusal::SubjectMalformed)),
        (json!(["5f3c"]), Err(Refusal::SubjectMalformed)),
        (json!({"$oid": "5f3c"}), Err(Refusal::SubjectMalformed)),
    ] {
        assert_eq!(
            judge(&json!({"id": id})).as_deref(),
            expected.as_ref().copied(),
            "{id}"
        );
    }
    // As other writers of JSON spell numbers.
    let secret = Signer::secret();
    let verifier = verifier(vec![express(&secret)]);
    for literal in [
        "-0",
        "4.2e1",
        "42e0",
        "42.0",
        "18446744073709551616",
        "1e400",
        "042",
        "+42",
        "0x2a",
    ] {
        let text = payload(&json!({})).to_string().replace("\"5f3c\"", literal);
        let token = secret.sign_text("HS256", &header().to_string(), &text);
        assert!(verify(&verifier, &token).is_err(), "{literal}");
    }
    let twice = payload(&json!({})).to_string().replacen('{', "{\"id\":1,", 1);
    let token = secret.sign_text("HS256", &header().to_string(), &twice);
    assert_eq!(verify(&verifier, &token), Err(Refusal::TokenDuplicateName));
}

#[test]
fn no_other_claim_stands_in_for_the_subject() {
    for (path, changes, expected) in [
        ("user.id", json!({"user": {"id": 7}}), Ok("7")),
        (
            "user.id",
            json!({"user": {"_id": "x"}, "user_id": "y"}),
            Err(Refusal::SubjectMalformed),
        ),
        ("userId", json!({"sub": "ann"}), Err(Refusal::SubjectMalformed)),
        (
            "id",
            json!({"id": "", "sub": "ann"}),
            Err(Refusal::SubjectMalformed),
        ),
        ("id", json!({"sub": "root"}), Ok("5f3c")),
        ("id", json!({"sub": {"not": "read"}}), Ok("5f3c")),
    ] {
        let judged = judge_with(
            |issuer| issuer.subject_claims = vec![ClaimPath::parse(path).unwrap()],
            &changes,
        );
        assert_eq!(judged.as_deref(), expected.as_ref().copied(), "{path} {changes}");
    }
    let default = |issuer: &mut Issuer| issuer.subject_claims = vec![ClaimPath::parse("sub").unwrap()];
    assert_eq!(judge_with(default, &json!({"sub": "ann"})), Ok("ann".to_owned()));
    assert_eq!(
        judge_with(default, &json!({"sub": 42})),
        Err(Refusal::SubjectMalformed),
        "`sub` is text"
    );
    assert_eq!(
        judge_with(default, &json!({})),
        Err(Refusal::SubjectMalformed),
        "`id` is not asked for"
    );
}

#[test]
fn a_token_without_iss_is_judged_by_the_keys_of_the_one_issuer_alone() {
    let (secret, corp_signer, own) = (Signer::secret(), Signer::p256(), Signer::ed25519());
    let other_secret = Signer::Secret((64..128).collect());
    let mut other = Issuer::new("other", "other".to_owned(), Some(secret_keys(&other_secret)));
    other.algorithms = vec![Algorithm::HS256];
    other.may_lack_aud = true;
    let mut issuers = Issuers::default();
    issuers.add(corp(key_set(&[corp_signer.jwk("k")]))).unwrap();
    issuers.add(express(&secret)).unwrap();
    issuers.add(other).unwrap();
    let site = "https://app.example.com";
    issuers
        .add_own("session", site, site, key_set(&[own.jwk("1")]))
        .unwrap();
    let verifier = Verifier::new(issuers, Arc::new(Revocations::new()));

    let good = secret.sign(&header(), &payload(&json!({})));
    assert_eq!(
        verify(&verifier, &good),
        Ok(("express".to_owned(), "5f3c".to_owned()))
    );

    // What another issuer signed, with `iss` left out: by its own keys it would be good.
    let nameless = |claims: Value| {
        let mut claims = claims;
        claims.as_object_mut().unwrap().remove("iss");
        claims
            .as_object_mut()
            .unwrap()
            .insert("id".to_owned(), json!("5f3c"));
        claims
    };
    let of_corp = json!({"alg": "ES256", "kid": "k"});
    assert!(verify(&verifier, &corp_signer.sign(&of_corp, &good_claims())).is_ok());
    assert_eq!(
        verify(&verifier, &corp_signer.sign(&of_corp, &nameless(good_claims()))),
        Err(Refusal::AlgorithmRefused)
    );
    assert_eq!(
        verify(
            &verifier,
            &other_secret.sign(&header(), &nameless(payload(&json!({}))))
        ),
        Err(Refusal::SignatureInvalid)
    );
    let of_ours = json!({"alg": "EdDSA", "kid": "1", "typ": "at+jwt"});
    let ours = claims_with(&json!({"iss": site, "aud": site}));
    assert!(verify(&verifier, &own.sign(&of_ours, &ours)).is_ok());
    assert_eq!(
        verify(&verifier, &own.sign(&of_ours, &nameless(ours))),
        Err(Refusal::AlgorithmRefused)
    );

    // What the old secret signs is no other issuer's, and not ours, whatever it says.
    for iss in [ISS, "other", site] {
        let token = secret.sign(
            &header(),
            &payload(&json!({"iss": iss, "aud": ["api", site], "sub": "root"})),
        );
        let refusal = verify(&verifier, &token).unwrap_err();
        assert!(
            matches!(
                refusal,
                Refusal::AlgorithmRefused | Refusal::SignatureInvalid | Refusal::KeyUnknown
            ),
            "{iss}: {refusal}"
        );
    }
    // A token with the right name and another's key.
    let token = other_secret.sign(&header(), &payload(&json!({"iss": "legacy"})));
    assert_eq!(verify(&verifier, &token), Err(Refusal::SignatureInvalid));
}

#[test]
fn a_token_without_iss_cannot_choose_its_algorithm() {
    let secret = Signer::secret();
    let judge = |header: Value| {
        let verifier = verifier(vec![express(&secret)]);
        verify(&verifier, &secret.sign(&header, &payload(&json!({})))).map(|_| ())
    };
    assert_eq!(judge(json!({"alg": "HS256"})), Ok(()));
    assert_eq!(
        judge(json!({"alg": "HS256", "kid": "any"})),
        Ok(()),
        "a secret has no name"
    );
    for alg in ["HS384", "HS512", "hs256", "none", "RS256", "ES256", ""] {
        let token = format!(
            "{}.{}.{}",
            encode(json!({"alg": alg}).to_string()),
            encode(payload(&json!({})).to_string()),
            encode(secret.signature("HS256", b"x"))
        );
        assert_eq!(
            verify(&verifier(vec![express(&secret)]), &token),
            Err(Refusal::AlgorithmRefused),
            "{alg}"
        );
    }
    let unsigned = format!(
        "{}.{}.",
        encode(json!({"alg": "HS256"}).to_string()),
        encode(payload(&json!({})).to_string())
    );
    assert!(verify(&verifier(vec![express(&secret)]), &unsigned).is_err());

    // An app that signed with RS256: its public key, which everybody has, is no secret.
    let rsa = Signer::rsa();
    let spki = rsa.spki();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&spki)
    );
    let issuer = || {
        let mut issuer = express(&secret);
        issuer.algorithms = vec![Algorithm::RS256];
        issuer.keys.replace(KeySet::from_pem(pem.as_bytes()).unwrap());
        issuer
    };
    let token = rsa.sign(&json!({"alg": "RS256"}), &payload(&json!({})));
    assert!(verify(&verifier(vec![issuer()]), &token).is_ok());
    for forged in [
        spki.clone(),
        pem.clone().into_bytes(),
        pem.trim().as_bytes().to_vec(),
    ] {
        let token = Signer::Secret(forged).sign(&header(), &payload(&json!({})));
        assert_eq!(
            verify(&verifier(vec![issuer()]), &token),
            Err(Refusal::AlgorithmRefused)
        );
        let mut careless = issuer();
        careless.algorithms.push(Algorithm::HS256);
        assert!(
            verify(&verifier(vec![careless]), &token).is_err(),
            "not even where the list has both"
        );
    }
}

#[test]
fn refresh_tokens_that_say_so_in_their_type_or_are_too_old_are_no_access_tokens() {
    let secret = Signer::secret();
    let judge = |typ: &str, changes: Value| {
        let mut issuer = express(&secret);
        issuer.max_age = Some(900);
        let token = secret.sign(&json!({"alg": "HS256", "typ": typ}), &payload(&changes));
        verify(&verifier(vec![issuer]), &token).map(|_| ())
    };
    let week = NOW + 7 * 86_400;
    assert_eq!(
        judge("refresh+jwt", json!({"exp": week})),
        Err(Refusal::TokenType)
    );
    assert_eq!(
        judge("JWT", json!({"exp": week, "iat": NOW - 3600})),
        Err(Refusal::TooOld)
    );
    assert_eq!(
        judge("JWT", json!({"exp": week, "iat": null})),
        Err(Refusal::TimeMalformed)
    );
    assert_eq!(
        judge("JWT", json!({"exp": week, "iat": NOW - 60})),
        Ok(()),
        "nothing tells a young one apart"
    );
}

#[test]
fn tokens_without_iss_are_revoked_by_the_name_of_their_issuer() {
    let secret = Signer::secret();
    let revocations = Arc::new(Revocations::new());
    let mut issuers = Issuers::default();
    issuers.add(express(&secret)).unwrap();
    let verifier = Verifier::new(issuers, revocations.clone());
    let token = |changes: Value| secret.sign(&header(), &payload(&changes));
    let mut local = LocalCache::new();
    let mut judge = |token: &str| verifier.verify(&mut local, token, NOW).map(|_| ());
    let (by_id, by_subject) = (token(json!({"jti": "t1"})), token(json!({"id": 42})));
    assert_eq!((judge(&by_id), judge(&by_subject)), (Ok(()), Ok(())));
    let row = |target| Revocation {
        issuer: "legacy".to_owned(),
        target,
        revoked_at: NOW,
        expires_at: None,
    };
    revocations.replace([
        row(Target::Token("t1".to_owned())),
        row(Target::Subject("42".to_owned())),
    ]);
    assert_eq!(
        (judge(&by_id), judge(&by_subject)),
        (Err(Refusal::Revoked), Err(Refusal::Revoked)),
        "cached or not"
    );
    assert_eq!(judge(&token(json!({}))), Ok(()));
}

#[test]
fn there_is_one_issuer_of_tokens_without_iss_at_most() {
    let secret = Signer::secret();
    let mut issuers = Issuers::default();
    issuers.add(express(&secret)).unwrap();
    let mut second = express(&secret);
    (second.name, second.issuer) = ("second".into(), "second".to_owned());
    let refused = issuers.add(second).unwrap_err();
    assert!(refused.contains("`express` and `second`"), "{refused}");
    assert_eq!(issuers.len(), 1);
    assert!(issuers.by_iss("second").is_none());
}

#[test]
fn an_examination_says_why_a_token_without_iss_is_whose() {
    let secret = Signer::secret();
    let verifier = verifier(vec![express(&secret)]);
    let mut steps = Vec::new();
    let token = secret.sign(&header(), &payload(&json!({"id": 4.5})));
    let refused = verifier
        .examine(&token, NOW, &mut |step| steps.push(step))
        .unwrap_err();
    assert_eq!(refused, Refusal::SubjectMalformed);
    let detail = |name: &str| {
        steps
            .iter()
            .find(|step| step.name == name)
            .unwrap()
            .detail
            .clone()
    };
    assert_eq!(detail("issuer"), "`iss` is missing");
    assert!(detail("issuer-known").contains("`express`"));
    assert!(detail("audience").contains("`aud` is missing"));
    assert_eq!(detail("subject"), "`id` is 4.5");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn whatever_iss_is_only_its_absence_and_its_exact_text_are_taken(text in ".{0,12}", number in any::<f64>(), whole in any::<i64>()) {
        for iss in [json!(text), json!(number), json!(whole), json!([text]), json!({ "iss": text })] {
            let judged = judge(&json!({"iss": iss}));
            prop_assert!(judged.is_err(), "{}", iss);
        }
    }

    #[test]
    fn a_number_is_a_subject_only_in_its_one_spelling(whole in any::<i64>(), number in any::<f64>()) {
        if let Ok(subject) = judge(&json!({"id": whole})) {
            prop_assert_eq!(subject, whole.to_string());
        }
        let judged = judge(&json!({"id": number}));
        prop_assert!(judged.is_err(), "{}", number);
    }
}
