//! Key sets, which come from an issuer's server: no secret becomes a key, and no input is too odd to be refused calmly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use passgate::internals::verify::{Algorithm, Family, KeySet, MAX_KEYS, Origin, verify_signature};

/// Signed by nobody here, for each kind of key.
const TOKENS: [&str; 3] = [
    "eyJhbGciOiJIUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "eyJhbGciOiJFUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "eyJhbGciOiJFZERTQSJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
];

fuzz_target!(|input: &[u8]| {
    if let Ok((set, skipped)) = KeySet::from_jwks(input, Origin::Fetched) {
        assert!(set.len() <= MAX_KEYS);
        assert!(set.len() + skipped.len() <= 2 * MAX_KEYS);
        for key in set.keys() {
            assert_ne!(key.family(), Family::Hmac, "a secret that came over the network");
            assert!(key.algorithms().count() > 0, "a key for nothing");
        }
        for token in TOKENS {
            assert!(verify_signature(token, &set, Algorithm::ALL).is_err(), "{token}");
        }
        // The same bytes are the same keys.
        let (again, _) = KeySet::from_jwks(input, Origin::Fetched).expect("once more");
        assert!(set.is_same(&again));
    }
    if let Ok((set, _)) = KeySet::from_jwks(input, Origin::File) {
        let secrets = set
            .keys()
            .iter()
            .filter(|key| key.family() == Family::Hmac)
            .count();
        assert!(
            secrets == 0 || secrets == set.len(),
            "secrets and public keys in one set"
        );
    }
    if let Ok(set) = KeySet::from_pem(input) {
        assert!(!set.is_empty() && set.keys().iter().all(|key| key.family() != Family::Hmac));
    }
});
