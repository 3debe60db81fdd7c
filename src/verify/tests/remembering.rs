use super::*;
use crate::revocation::{Revocation, Target};
use std::time::Duration;

fn revoke(corp: &Corp, target: Target, at: UnixSeconds) {
    corp.verifier.revocations().replace([Revocation {
        issuer: ISS.into(),
        target,
        revoked_at: at,
        expires_at: None,
    }]);
}

/// Local hits, shared hits, misses.
fn counts(local: &LocalCache) -> (u64, u64, u64) {
    let counters = local.counters();
    (counters.local_hits(), counters.shared_hits(), counters.misses())
}

#[test]
fn a_token_is_verified_once_for_all_workers() {
    let corp = Corp::new();
    let token = corp.token(&json!({}));
    let (mut one, mut two) = (LocalCache::new(), LocalCache::new());
    let first = corp.verifier.verify(&mut one, &token, NOW).unwrap();
    let again = corp.verifier.verify(&mut one, &token, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let elsewhere = corp.verifier.verify(&mut two, &token, NOW).unwrap();
    assert!(
        Arc::ptr_eq(&first.caller, &elsewhere.caller),
        "what was written for the caller is shared"
    );
    assert!(
        !Arc::ptr_eq(&first, &elsewhere),
        "the count of references is the worker's own"
    );
    corp.verifier.verify(&mut two, &token, NOW).unwrap();
    assert_eq!(counts(&one), (1, 0, 1));
    assert_eq!(counts(&two), (1, 1, 0));
}

#[test]
fn nothing_is_remembered_past_its_expiry() {
    let corp = Corp::new();
    let token = corp.token(&json!({"exp": NOW + 10}));
    let mut local = LocalCache::new();
    let verify = |local: &mut LocalCache, now| corp.verifier.verify(local, &token, now).map(|_| ());
    assert_eq!(verify(&mut local, NOW), Ok(()));
    assert_eq!(verify(&mut local, NOW + 9), Ok(()));
    assert_eq!(counts(&local), (1, 0, 1));
    // Within the leeway it is still good, but verified each time.
    assert_eq!(verify(&mut local, NOW + 10), Ok(()));
    assert_eq!(verify(&mut local, NOW + 39), Ok(()));
    assert_eq!(counts(&local), (1, 0, 3));
    assert_eq!(verify(&mut local, NOW + 40), Err(Refusal::Expired));
    let aged = Corp::with(|issuer| issuer.max_age = Some(100));
    let token = aged.token(&json!({"iat": NOW, "exp": NOW + 10_000}));
    assert!(aged.verifier.verify(&mut local, &token, NOW + 99).is_ok());
    assert_eq!(
        aged.verifier.verify(&mut local, &token, NOW + 131).unwrap_err(),
        Refusal::TooOld
    );
}

#[test]
fn a_change_of_keys_is_felt_by_the_next_request() {
    let corp = Corp::new();
    let token = corp.token(&json!({}));
    let mut local = LocalCache::new();
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    let issuer = corp.verifier.issuers().by_name("corp").unwrap();
    assert!(
        !issuer.keys.replace(key_set(&[corp.signer.jwk("k")])),
        "the same keys are no change"
    );
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    assert_eq!(counts(&local), (1, 0, 1));
    assert!(
        issuer
            .keys
            .replace(key_set(&[Signer::p256().jwk("new"), corp.signer.jwk("k")]))
    );
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    assert_eq!(counts(&local), (1, 0, 2));
    assert!(issuer.keys.replace(key_set(&[Signer::p256().jwk("new")])));
    assert_eq!(
        corp.verifier.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::KeyUnknown
    );
    assert!(issuer.keys.replace(key_set(&[])));
    assert_eq!(
        corp.verifier.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::KeyUnknown
    );
}

#[test]
fn a_revocation_is_felt_by_the_next_request_also_for_a_remembered_token() {
    let corp = Corp::new();
    let token = corp.token(&json!({}));
    let (mut local, mut other) = (LocalCache::new(), LocalCache::new());
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    for target in [Target::Token("t1".into()), Target::Subject("ann".into())] {
        revoke(&corp, target, NOW);
        assert_eq!(
            corp.verifier.verify(&mut local, &token, NOW).unwrap_err(),
            Refusal::Revoked,
            "own table"
        );
        assert_eq!(
            corp.verifier.verify(&mut other, &token, NOW).unwrap_err(),
            Refusal::Revoked,
            "shared table"
        );
        assert_eq!(
            corp.verifier.examine(&token, NOW, &mut |_| {}).unwrap_err(),
            Refusal::Revoked,
            "no table"
        );
    }
    let later = corp.token(&json!({"iat": NOW + 1, "jti": "t2"}));
    assert!(
        corp.verifier.verify(&mut local, &later, NOW + 1).is_ok(),
        "issued after it"
    );
    corp.verifier.revocations().replace([]);
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    corp.verifier.revocations().attach();
    assert_eq!(
        corp.verifier.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::StateUnavailable
    );
    corp.verifier
        .revocations()
        .touch(Instant::now() + Duration::from_secs(1));
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
}

#[test]
fn a_refusal_is_not_remembered() {
    let corp = Corp::new();
    let token = corp.token(&json!({"nbf": NOW + 100}));
    let mut local = LocalCache::new();
    assert_eq!(
        corp.verifier.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::NotYetValid
    );
    assert!(corp.verifier.verify(&mut local, &token, NOW + 100).is_ok());
    assert_eq!(counts(&local), (0, 0, 2));
}

#[test]
fn a_table_does_not_answer_for_another_verifiers_issuers() {
    let corp = Corp::new();
    let token = corp.token(&json!({}));
    let mut local = LocalCache::new();
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    let reloaded = verifier(vec![super::corp(key_set(&[Signer::p256().jwk("k")]))]);
    assert_eq!(
        reloaded.verify(&mut local, &token, NOW).unwrap_err(),
        Refusal::SignatureInvalid
    );
    assert!(corp.verifier.verify(&mut local, &token, NOW).is_ok());
    assert_eq!(counts(&local), (0, 1, 2));
}

#[test]
fn a_workers_table_stays_small_and_keeps_what_is_used() {
    let corp = Corp::new();
    let mut local = LocalCache::new();
    let favourite = corp.token(&json!({}));
    let used = corp.verifier.verify(&mut local, &favourite, NOW).unwrap();
    for n in 0..20_000_u64 {
        local.keep(&format!("{n:040}"), used.clone());
        if n % 100 == 0 {
            corp.verifier.verify(&mut local, &favourite, NOW).unwrap();
        }
    }
    assert_eq!(Arc::strong_count(&used), 1024 + 1, "one for each place, and ours");
    assert!(counts(&local).0 > 150, "{:?}", counts(&local));
}

#[test]
fn a_workers_table_is_bounded_in_bytes_too() {
    let corp = Corp::new();
    let mut local = LocalCache::new();
    let heavy = json!({"pad": vec![json!({"a": 1}); 500]});
    let verified = corp
        .verifier
        .verify(&mut local, &corp.token(&heavy), NOW)
        .unwrap();
    assert!(verified.weight > 250_000, "{}", verified.weight);
    for n in 0..1000_u16 {
        local.keep(&format!("{n:040}"), verified.clone());
        assert!((Arc::strong_count(&verified) - 2) * verified.weight <= 16 * 1024 * 1024);
    }
}

#[test]
fn tokens_that_end_alike_are_told_apart_by_all_their_bytes() {
    let corp = Corp::new();
    let mut local = LocalCache::new();
    let token = corp.token(&json!({}));
    corp.verifier.verify(&mut local, &token, NOW).unwrap();
    assert!(local.find(&token).is_some());
    for at in [0, 10, token.len() / 2, token.len() - 40] {
        let mut other = token.clone().into_bytes();
        other[at] ^= 1;
        assert!(
            local.find(std::str::from_utf8(&other).unwrap()).is_none(),
            "byte {at}"
        );
    }
    assert!(local.find(&token[1..]).is_none());
    assert!(local.find("").is_none());
}
