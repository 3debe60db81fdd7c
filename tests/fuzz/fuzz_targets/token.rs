//! Tokens: nothing passes that was not signed, and what passes is what was signed.
//!
//! Input: as it is, a token; and, cut at its first line's end, a header and a payload that are signed here.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use libfuzzer_sys::fuzz_target;
use passgate::internals::verify::{Algorithm, KeySet, MAX_TOKEN_BYTES, read_unverified, verify_signature};
use serde_json::{Map, Value};

const SECRET: &[u8] = b"a secret that the fuzzer does not know how to use, of 64 bytes..";

static SHARED: LazyLock<KeySet> = LazyLock::new(|| {
    let algorithms = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    KeySet::from_secret(SECRET, &algorithms).expect("long enough")
});

static PUBLIC: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::from_pem(include_bytes!("../keys.pem")).expect("RSA, P-256, P-384 and Ed25519"));

fuzz_target!(|input: &[u8]| {
    if let Ok(token) = std::str::from_utf8(input) {
        // Nobody has the private halves of these keys, so nothing can be signed by them.
        assert!(verify_signature(token, &PUBLIC, Algorithm::ALL).is_err());
        if let Ok(read) = read_unverified(token) {
            assert_eq!(token.split('.').count(), 3);
            assert!(token.len() <= MAX_TOKEN_BYTES);
            let first = token.split('.').next().unwrap_or_default();
            assert!(
                BASE64URL.decode(first).is_ok(),
                "a header that others cannot read: {:?}",
                read.header
            );
        }
    }

    let cut = input
        .iter()
        .position(|&byte| byte == b'\n')
        .unwrap_or(input.len());
    let (header, payload) = (&input[..cut], input.get(cut + 1..).unwrap_or_default());
    let signing_input = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = hmac::sign(&key, signing_input.as_bytes());
    let token = format!("{signing_input}.{}", BASE64URL.encode(signature.as_ref()));

    let verdict = verify_signature(&token, &SHARED, &[Algorithm::HS256]);
    if let Ok(signed) = &verdict {
        assert_eq!(signed, payload, "the payload is not the one that was signed");
        let header: Map<String, Value> =
            serde_json::from_slice(header).expect("a header that others read as an object");
        assert_eq!(
            header.get("alg").and_then(Value::as_str),
            Some("HS256"),
            "another algorithm than it says"
        );
        assert!(!header.contains_key("crit") && !header.contains_key("b64"));
        assert!(token.len() <= MAX_TOKEN_BYTES);

        // The same token under other rules, or with one character changed, is no token.
        assert!(verify_signature(&token, &SHARED, &[]).is_err());
        assert!(verify_signature(&token, &SHARED, &[Algorithm::HS384, Algorithm::RS256]).is_err());
        assert!(verify_signature(&token, &PUBLIC, Algorithm::ALL).is_err());
        let at = usize::from(input.first().copied().unwrap_or_default()) * 7 + payload.len();
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(bytes).expect("ASCII");
        assert!(
            verify_signature(&other, &SHARED, &[Algorithm::HS256]).is_err(),
            "{token} and {other}"
        );
        for other in [
            format!("{token}="),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{token}."),
        ] {
            assert!(
                verify_signature(&other, &SHARED, &[Algorithm::HS256]).is_err(),
                "{other:?}"
            );
        }
    } else if is_plain(header) && token.len() <= MAX_TOKEN_BYTES {
        panic!("a good token was refused: {verdict:?}");
    }
});

/// A header about which there can be no doubt.
fn is_plain(header: &[u8]) -> bool {
    matches!(header, br#"{"alg":"HS256"}"# | br#"{"alg":"HS256","typ":"JWT"}"#)
}
